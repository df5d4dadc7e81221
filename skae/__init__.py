"""Autoencoders as scikit-learn estimators."""

from skae import densities, displays, export, metrics, noise
from skae._data.version import __version__ as __version__
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.denoising import DenoisingAutoencoder
from skae._estimators.sparse import SparseAutoencoder
from skae._estimators.stacked import StackedAutoencoder
from skae._estimators.supervised.estimators import AutoencoderClassifier, AutoencoderRegressor
from skae._estimators.vae import VAETransformer
from skae._model_selection.compare import compare
from skae._model_selection.comparison_result import Comparison, ComparisonDisplay
from skae._model_selection.latent_dimension_search import LatentDimensionSearch

__all__ = [
    "AutoencoderClassifier",
    "AutoencoderRegressor",
    "AutoencoderTransformer",
    "Comparison",
    "ComparisonDisplay",
    "DenoisingAutoencoder",
    "LatentDimensionSearch",
    "SparseAutoencoder",
    "StackedAutoencoder",
    "VAETransformer",
    "compare",
    "densities",
    "displays",
    "export",
    "metrics",
    "noise",
]
