"""Covariance, precision and singular values of an autoencoder, as PCA has them."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from sklearn.utils.validation import check_is_fitted

from skae._data.array_api import array_api_by_numpy
from skae._latent.sampling import GenerativeTransformer
from skae.densities import varying

MOMENT_CODES = 4096  # at least so many codes are decoded for get_covariance
CODES_PER_COMPONENT = 4
NEGLIGIBLE = 1e-10  # singular value of components_, over the largest, that counts as zero


class CovarianceTransformer(GenerativeTransformer):
    """Adds covariance, precision and singular values to the latent space."""

    @property
    @array_api_by_numpy
    def singular_values_(self) -> np.ndarray:
        """Norm of each component's codes of the training rows, before whitening, as in PCA."""
        return np.sqrt((self.n_samples_ - 1) * self.explained_variance_)

    @array_api_by_numpy
    def get_covariance(self) -> np.ndarray:
        """Covariance of the model's distribution of rows.

        It is the covariance of decoded codes plus that of the residuals. The codes are 4,096 or
        more samples of `latent_density_`, the same in every call, mapped linearly so that they
        have exactly the moments of the training codes. The residuals have variance
        `noise_variance_` in each direction that `components_` do not span. For the linear
        autoencoder this is `PCA.get_covariance`, whatever the samples. For a nonlinear decoder
        it is an estimate. It does not depend on `whiten`.

        Returns
        -------
        covariance : ndarray of shape (n_features_in_, n_features_in_), float64
            In squared input units.
        """
        check_is_fitted(self)
        mean, products = self._decoded_moments(self._moment_codes())
        covariance = (products - np.outer(mean, mean)) * self._scale**2
        return covariance + self._noise_covariance(mean, np.diag(products))

    @array_api_by_numpy
    def get_precision(self) -> np.ndarray:
        """Inverse of the covariance that `get_covariance` returns.

        Returns
        -------
        precision : ndarray of shape (n_features_in_, n_features_in_), float64

        Raises
        ------
        ValueError
            If the covariance is singular, for example because `noise_variance_` is zero and
            some features are constant or depend on others.
        """
        values, vectors = eigh(self.get_covariance())
        if values[0] <= self.n_features_in_ * np.finfo(float).eps * values[-1]:
            raise ValueError(
                f"get_precision needs an invertible covariance, but its eigenvalues range from "
                f"{values[0]:.3g} to {values[-1]:.3g} (n_components_={self.n_components_}, "
                f"n_features_in_={self.n_features_in_}, noise_variance_={self.noise_variance_}); "
                "fit with a smaller n_components, which makes noise_variance_ positive, or drop "
                "features that are constant or depend on others."
            )
        return (vectors / values) @ vectors.T

    def _moment_codes(self) -> np.ndarray:
        """Codes, in units of `transform`, that have the moments of the training codes."""
        variances = self.explained_variance_ * np.square(self._code_scale / self._code_unit())
        n_codes = max(MOMENT_CODES, CODES_PER_COMPONENT * self.n_components_)
        return with_variances(self.latent_density_.sample(n_codes, 0), variances)

    def _decoded_moments(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means of decoded rows, and of products of their features, in standardized units."""
        total = np.zeros(self.n_features_in_)
        products = np.zeros((self.n_features_in_, self.n_features_in_))
        for part in self._batch_slices(len(codes), self.n_features_in_):
            rows = self._generate(codes[part])
            total += rows.sum(axis=0)
            products += rows.T @ rows
        return total / len(codes), products / len(codes)

    def _noise_covariance(self, mean: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Covariance of rows given their codes, in input units.

        A kind may use the means of decoded rows and of their squares.
        """
        components = self.components_[varying(self.explained_variance_)]
        _, lengths, axes = np.linalg.svd(components, full_matrices=False)
        along = axes[lengths > NEGLIGIBLE * lengths.max(initial=0.0)]
        return self.noise_variance_ * (np.eye(self.n_features_in_) - along.T @ along)


def with_variances(codes: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Map codes affinely so that they are centred, uncorrelated, and have given variances.

    It needs more codes than components. Components of negligible variance become zero.
    """
    varies, result = varying(variances), np.zeros(codes.shape)
    axes, lengths = np.linalg.qr(codes[:, varies] - codes[:, varies].mean(axis=0))
    units = np.sign(np.diag(lengths)) * np.sqrt(len(codes) * variances[varies])
    result[:, varies] = axes * units
    return result
