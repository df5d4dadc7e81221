"""What a density of the codes makes of any autoencoder: samples, likelihoods, paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae._data.array_api import array_api_by_numpy
from skae._data.dataset import Dataset
from skae._data.frames import wrap_in_frame
from skae._data.input_checks import as_dense
from skae._data.parameter_checks import check_integer
from skae._latent.ordering import OrderedTransformer
from skae.densities import Density, Estimated, Gaussian, Mixture, Residual, varying

DENSITY_ROWS = 5000  # at most, whose codes a density is fitted to
RESIDUAL_ROWS = 1000  # at most, of which what is left over is described
RESIDUAL_BYTES = 16 * 2**20  # at most, of these rows
MIN_RESIDUAL_ROWS = 100
SMALLEST_VOLUME = 1e-6  # square of the least of a decoder's stretchings, over the greatest
MAX_HALVINGS = 4  # of a step towards the decoder's surface
SMALLEST_NOISE = 1e-12  # variance left over, in units of the mean feature variance


class GenerativeTransformer(OrderedTransformer):
    """Samples, log-likelihoods and interpolation, by a density of the codes."""

    latent_density: Any
    latent_density_: Density
    _residual: Residual

    # -- fit -----------------------------------------------------------------------

    def _auto_density(self) -> str:
        """Choose the density that ``latent_density="auto"`` stands for."""
        return "gaussian_mixture"

    def _fit_density(self, rows: Dataset, seed: int, kind: Any = None) -> None:
        """Describe how codes, and what the decoder leaves over, are distributed."""
        kind = self.latent_density if kind is None else kind
        if kind == "auto":
            kind = self._auto_density()
        if kind == "standard_normal":
            self.latent_density_ = Gaussian(np.zeros(self.n_components_), self._prior_covariance())
        elif kind == "gaussian":
            self.latent_density_ = Gaussian(*self._code_moments(rows))
        else:
            density = Mixture(seed) if kind == "gaussian_mixture" else Estimated(kind, seed)
            self.latent_density_ = density.fit(self._codes_for_density(rows))
        self._fit_residual(rows, seed)

    def _prior_covariance(self) -> np.ndarray:
        """Covariance of the codes that "standard_normal" stands for."""
        return np.eye(self.n_components_)

    def _fit_residual(self, rows: Dataset, seed: int) -> None:
        """Describe what the decoder leaves over."""
        some = rows[rows.evenly_spaced(self._n_residual_rows())]
        self._residual = Residual(seed).fit(self._residuals(some) * self._scale)

    def _set_residual(self, rows: Dataset, smooth: Callable[[Any], Any]) -> None:
        """Describe what the decoder leaves over by moments averaged over more rows."""
        closer = self._residuals(rows[rows.evenly_spaced(self._n_residual_rows())]) * self._scale
        mean, squares = smooth(np.array([closer.mean(axis=0), np.square(closer).mean(axis=0)]))
        self._residual = Residual().of_moments(mean, np.maximum(squares - mean**2, 0))

    def _n_residual_rows(self) -> int:
        fitting = RESIDUAL_BYTES // (8 * self.n_features_in_)
        return min(RESIDUAL_ROWS, max(MIN_RESIDUAL_ROWS, fitting))

    def _residuals(self, rows: np.ndarray) -> np.ndarray:
        """Standardized rows minus their reconstructions."""
        if self._is_at_pca():
            return rows - rows @ self.components_.T @ self.components_
        return rows - self._reconstruct(rows)

    def _codes_for_density(self, rows: Dataset) -> np.ndarray:
        """Codes of the rows that a density is fitted to."""
        index = rows.evenly_spaced(DENSITY_ROWS)
        return np.concatenate(
            [self._codes(rows[index[part]]) for part in self._batch_slices(len(index))]
        )

    def _code_moments(self, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the codes of the training rows: they are uncorrelated."""
        variances = self.explained_variance_ * np.square(self._code_scale / self._scale)
        return np.zeros(self.n_components_), np.diag(variances)

    # -- samples -------------------------------------------------------------------

    @wrap_in_frame
    @array_api_by_numpy
    def sample(
        self, n_samples: int = 1, random_state: Any = None, *, observation_noise: bool = True
    ) -> np.ndarray:
        """Draw new rows: codes from `latent_density_`, decoded.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None
            An int gives the same rows each time, None others.
        observation_noise : bool, default=True
            Add what the decoder leaves over on the training rows, drawn from a normal
            distribution of eight factors and a variance a feature. Without it, rows lie
            on the surface that the decoder can reach.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features_in_), float64
            Rows in input units. A frame with the names of the features if `set_output` asks
            for frames.

        Raises
        ------
        ValueError
            If `n_samples` is below 1.
        """
        check_is_fitted(self)
        check_integer(n_samples, "n_samples", at_least=1)
        random = check_random_state(random_state)
        codes = self.latent_density_.sample(n_samples, random)
        X = self._decoded(codes)
        return self._add_noise(X, random) if observation_noise else X

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        """Rows of codes, in input units, float64."""
        return self._map_batches(
            lambda part: self._unstandardize(self._decode(part)), codes, self.n_features_in_
        )

    def _add_noise(self, X: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """Decoded rows as they would have been observed."""
        X = X + self._residual.sample(len(X), random)
        return X.clip(0, 1) if self._decodes_logits() else X

    # -- likelihood ----------------------------------------------------------------

    @array_api_by_numpy
    def score_samples(self, X: Any) -> np.ndarray:
        """Log-likelihood of each row.

        The density of the code, times the volume that the decoder makes of the code's, times
        a normal density of variance `noise_variance_` of what lies off the decoder's surface:
        exact for the linear autoencoder, which is probabilistic PCA, and an approximation
        where the surface bends.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), float64
            In nats, comparable with `PCA.score_samples`.

        Raises
        ------
        ValueError
            If there are more components than features: such a code has no density in the
            space of the rows.
        """
        X = self._check_rows(X)
        if self.n_components_ > self.n_features_in_:
            raise ValueError(
                f"score_samples needs at most as many components as features, but "
                f"n_components_={self.n_components_} and n_features_in_={self.n_features_in_}; "
                "fit with a smaller n_components."
            )
        n_columns = self.n_features_in_ * self.n_components_
        return self._map_batches(
            lambda part: self._log_likelihood(part)[:, None], X, 1, np.float64, n_columns
        )[:, 0]

    def _log_likelihood(self, X: np.ndarray) -> np.ndarray:
        """Log-likelihood of rows in input units."""
        varies = varying(self.explained_variance_)
        rows = self._standardize(X.astype(np.float64))
        codes = self._codes(rows)
        codes[:, ~varies] = 0.0  # constant components are no dimension of the surface
        residuals = self._project_on_surface(rows, codes, varies)
        step, jacobian, squares = self._gauss_newton_step(codes, residuals, varies)
        codes[:, varies] += step
        residuals -= np.einsum("nid,ni->nd", jacobian, step / self._code_scale[varies])
        n_off = self.n_features_in_ - varies.sum()
        noise = max(self.noise_variance_ / self._scale**2, SMALLEST_NOISE)
        return (
            self.latent_density_.score_samples(codes)
            + np.log(self._code_scale[varies]).sum()
            - 0.5 * np.log(squares).sum(axis=1)
            - 0.5 * np.square(residuals).sum(axis=1) / noise
            - 0.5 * n_off * math.log(2 * math.pi * noise)
            - self.n_features_in_ * math.log(self._scale)
        )

    def _project_on_surface(
        self, rows: np.ndarray, codes: np.ndarray, varies: np.ndarray
    ) -> np.ndarray:
        """Move codes, in place, towards the points of the decoder's surface nearest to rows.

        One Gauss-Newton step, halved until it brings a row nearer; returns what is left.
        """
        residuals = rows - self._decode(codes)
        step = np.zeros_like(codes)
        step[:, varies] = self._gauss_newton_step(codes, residuals, varies)[0]
        before, far = np.square(residuals).sum(axis=1), np.arange(len(rows))
        for _ in range(MAX_HALVINGS):
            closer = rows[far] - self._decode(codes[far] + step[far])
            nearer = np.square(closer).sum(axis=1) < before[far]
            codes[far[nearer]] += step[far[nearer]]
            residuals[far[nearer]] = closer[nearer]
            far = far[~nearer]
            if len(far) == 0:
                break
            step[far] /= 2
        return residuals

    def _gauss_newton_step(
        self, codes: np.ndarray, residuals: np.ndarray, varies: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gauss-Newton step of the codes that vary, slopes, and squared principal stretchings.

        Slopes are derivatives in network units of decoded rows, by codes before whitening.
        """
        raw = codes / self._code_scale @ self._rotation.T + self._code_mean
        jacobian = (self._rotation.T @ self.net_.jacobian(raw, self._output_activation))[:, varies]
        squares, axes = np.linalg.eigh(jacobian @ jacobian.transpose(0, 2, 1))
        largest = squares.max(axis=1, initial=np.finfo(float).tiny)
        squares = np.maximum(squares, SMALLEST_VOLUME * largest[:, None])
        along = np.einsum("nji,njd,nd->ni", axes, jacobian, residuals, optimize=True)
        step = np.einsum("nji,ni->nj", axes, along / squares)
        return step * self._code_scale[varies], jacobian, squares

    # -- paths ---------------------------------------------------------------------

    @array_api_by_numpy
    def interpolate(self, X_start: Any, X_end: Any, n_steps: int = 10) -> np.ndarray:
        """Rows on the way from some rows to others: straight in the code, then decoded.

        Parameters
        ----------
        X_start, X_end : array-like of shape (n_samples, n_features)
            Row i of the one is joined with row i of the other.
        n_steps : int, default=10
            Number of rows on each path, both ends included.

        Returns
        -------
        X : ndarray of shape (n_samples, n_steps, n_features), dtype of X_start
            In input units, an array also where `set_output` asks for frames. The ends are
            reconstructions, not the rows themselves.

        Raises
        ------
        ValueError
            If the numbers of rows differ or `n_steps` is below 2.
        """
        check_is_fitted(self)
        check_integer(n_steps, "n_steps", at_least=2)
        start, end = (as_dense(self._check_rows(X)) for X in (X_start, X_end))
        if len(start) != len(end):
            raise ValueError(
                f"X_start has {len(start)} rows and X_end {len(end)}; interpolate joins row by "
                "row and needs as many of the one as of the other."
            )
        first, last = (
            self._codes(self._standardize(X.astype(start.dtype, copy=False))) for X in (start, end)
        )
        shares = np.linspace(0, 1, n_steps, dtype=first.dtype)[:, None]
        codes = first[:, None] * (1 - shares) + last[:, None] * shares
        return self._decoded(codes.reshape(-1, self.n_components_)).reshape(
            len(start), n_steps, self.n_features_in_
        )
