"""Autoencoders as scikit-learn estimators."""

from skae import densities, metrics, noise
from skae._autoencoder import AutoencoderTransformer
from skae._denoising import DenoisingAutoencoder
from skae._vae import VAETransformer

__version__ = "0.1.0.dev0"

__all__ = [
    "AutoencoderTransformer",
    "DenoisingAutoencoder",
    "VAETransformer",
    "densities",
    "metrics",
    "noise",
]
