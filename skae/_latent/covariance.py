"""Second moments of the rows that an autoencoder stands for, as PCA has them."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from sklearn.utils.validation import check_is_fitted

from skae._data.array_api import array_api_by_numpy
from skae._latent.sampling import GenerativeTransformer
from skae.densities import varying

MOMENT_CODES = 4096  # at least, whose decoded rows are counted
CODES_PER_COMPONENT = 4
NEGLIGIBLE = 1e-10  # length beside the longest of a direction that components do not span


class CovarianceTransformer(GenerativeTransformer):
    """Covariance, precision and singular values, as PCA has them."""

    @property
    @array_api_by_numpy
    def singular_values_(self) -> np.ndarray:
        """Length of each component over the training rows, before whitening, as PCA's."""
        return np.sqrt((self.n_samples_ - 1) * self.explained_variance_)

    @array_api_by_numpy
    def get_covariance(self) -> np.ndarray:
        """Covariance of the rows that the model stands for.

        That of decoded codes plus that of what the decoder leaves over. The codes are 4,096
        or more draws from `latent_density_`, always the same, and linearly mapped to exactly
        the moments of the training codes. What is left over has variance `noise_variance_` in
        each direction but those of `components_`. For the linear autoencoder the draws do not
        matter and this is `PCA.get_covariance`; a nonlinear decoder makes it an estimate.
        `whiten` changes nothing.

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
        """Inverse of `get_covariance`.

        Returns
        -------
        precision : ndarray of shape (n_features_in_, n_features_in_), float64

        Raises
        ------
        ValueError
            If the covariance is singular, as where no noise is left and features are
            constant or depend on each other.
        """
        values, vectors = eigh(self.get_covariance())
        if values[0] <= self.n_features_in_ * np.finfo(float).eps * values[-1]:
            raise ValueError(
                f"get_precision needs an invertible covariance, but its eigenvalues reach from "
                f"{values[0]:.3g} to {values[-1]:.3g} (n_components_={self.n_components_}, "
                f"n_features_in_={self.n_features_in_}, noise_variance_={self.noise_variance_}); "
                "fit with a smaller n_components, which leaves noise, or leave out features that "
                "are constant or depend on others."
            )
        return (vectors / values) @ vectors.T

    def _moment_codes(self) -> np.ndarray:
        """Codes, as `transform` returns them, of the moments of the training codes."""
        variances = self.explained_variance_ * np.square(self._code_scale / self._code_unit())
        n_codes = max(MOMENT_CODES, CODES_PER_COMPONENT * self.n_components_)
        return with_variances(self.latent_density_.sample(n_codes, 0), variances)

    def _decoded_moments(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean of decoded rows and of the products of every two features, network units."""
        total = np.zeros(self.n_features_in_)
        products = np.zeros((self.n_features_in_, self.n_features_in_))
        for part in self._batch_slices(len(codes), self.n_features_in_):
            rows = self._decode(codes[part])
            total += rows.sum(axis=0)
            products += rows.T @ rows
        return total / len(codes), products / len(codes)

    def _noise_covariance(self, mean: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Covariance of rows around decoded ones, given moments of these, in input units."""
        components = self.components_[varying(self.explained_variance_)]
        _, lengths, axes = np.linalg.svd(components, full_matrices=False)
        along = axes[lengths > NEGLIGIBLE * lengths.max(initial=0.0)]
        return self.noise_variance_ * (np.eye(self.n_features_in_) - along.T @ along)


def with_variances(codes: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Map codes linearly so that they are centred and uncorrelated with given variances.

    Parameters
    ----------
    codes : ndarray of shape (n_codes, n_components)
        More codes than components.
    variances : ndarray of shape (n_components,)
        Mean squares that each component is to have; one that is negligible becomes constant.

    Returns
    -------
    ndarray of shape (n_codes, n_components)
    """
    varies, result = varying(variances), np.zeros(codes.shape)
    axes, lengths = np.linalg.qr(codes[:, varies] - codes[:, varies].mean(axis=0))
    units = np.sign(np.diag(lengths)) * np.sqrt(len(codes) * variances[varies])
    result[:, varies] = axes * units
    return result
