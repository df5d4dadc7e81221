"""Autoencoders as scikit-learn estimators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from skae._data.version import __version__ as __version__

if TYPE_CHECKING:
    from skae import dask as dask
    from skae import densities, displays, export, losses, metrics, networks, noise
    from skae._estimators.adversarial import AdversarialAutoencoder
    from skae._estimators.autoencoder import AutoencoderTransformer
    from skae._estimators.conditional import ConditionalVAE
    from skae._estimators.convolutional import ConvolutionalAutoencoder
    from skae._estimators.denoising import DenoisingAutoencoder
    from skae._estimators.imputer import AutoencoderImputer
    from skae._estimators.mesh import MeshAutoencoder
    from skae._estimators.multiview import MultiViewAutoencoder
    from skae._estimators.neighbor import NeighborAutoencoder
    from skae._estimators.sparse import SparseAutoencoder
    from skae._estimators.stacked import StackedAutoencoder
    from skae._estimators.supervised.estimators import AutoencoderClassifier, AutoencoderRegressor
    from skae._estimators.table import TableAutoencoder
    from skae._estimators.vae import VAETransformer
    from skae._model_selection.compare import compare
    from skae._model_selection.comparison_result import Comparison, ComparisonDisplay
    from skae._model_selection.latent_dimension_search import LatentDimensionSearch

__all__ = [
    "AdversarialAutoencoder",
    "AutoencoderClassifier",
    "AutoencoderImputer",
    "AutoencoderRegressor",
    "AutoencoderTransformer",
    "Comparison",
    "ComparisonDisplay",
    "ConditionalVAE",
    "ConvolutionalAutoencoder",
    "DenoisingAutoencoder",
    "LatentDimensionSearch",
    "MeshAutoencoder",
    "MultiViewAutoencoder",
    "NeighborAutoencoder",
    "SparseAutoencoder",
    "StackedAutoencoder",
    "TableAutoencoder",
    "VAETransformer",
    "compare",
    "densities",
    "displays",
    "export",
    "losses",
    "metrics",
    "networks",
    "noise",
]

# Modules, and modules of names, that are loaded when they are first used, as in the block above.
_SUBMODULES = "dask", "densities", "displays", "export", "losses", "metrics", "networks", "noise"
_MODULES = {
    "AdversarialAutoencoder": "_estimators.adversarial",
    "AutoencoderClassifier": "_estimators.supervised.estimators",
    "AutoencoderImputer": "_estimators.imputer",
    "AutoencoderRegressor": "_estimators.supervised.estimators",
    "AutoencoderTransformer": "_estimators.autoencoder",
    "Comparison": "_model_selection.comparison_result",
    "ComparisonDisplay": "_model_selection.comparison_result",
    "ConditionalVAE": "_estimators.conditional",
    "ConvolutionalAutoencoder": "_estimators.convolutional",
    "DenoisingAutoencoder": "_estimators.denoising",
    "LatentDimensionSearch": "_model_selection.latent_dimension_search",
    "MeshAutoencoder": "_estimators.mesh",
    "MultiViewAutoencoder": "_estimators.multiview",
    "NeighborAutoencoder": "_estimators.neighbor",
    "SparseAutoencoder": "_estimators.sparse",
    "StackedAutoencoder": "_estimators.stacked",
    "TableAutoencoder": "_estimators.table",
    "VAETransformer": "_estimators.vae",
    "compare": "_model_selection.compare",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used [1]_.

    References
    ----------
    .. [1] PEP 562. https://peps.python.org/pep-0562/
    """
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, *_MODULES})
