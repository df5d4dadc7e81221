"""Autoencoders as scikit-learn estimators."""

from skae import densities, displays, export, metrics, noise
from skae._autoencoder import AutoencoderTransformer
from skae._compare import compare
from skae._comparison import Comparison, ComparisonDisplay
from skae._denoising import DenoisingAutoencoder
from skae._dimension_search import LatentDimensionSearch
from skae._sparse import SparseAutoencoder
from skae._stacked import StackedAutoencoder
from skae._supervised import AutoencoderClassifier, AutoencoderRegressor
from skae._vae import VAETransformer
from skae._version import __version__ as __version__

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
