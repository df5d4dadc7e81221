"""Samples, log-likelihoods and interpolation of any autoencoder, by a density of its codes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn import config_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae._data.array_api import array_api_by_numpy
from skae._data.dataset import Dataset
from skae._data.frames import wrap_in_frame
from skae._data.input_checks import as_dense
from skae._data.parameter_checks import check_integer
from skae._data.partitions import by_partition
from skae._data.threads import limited_threads
from skae._latent.ordering import OrderedTransformer
from skae.densities import (
    Estimated,
    Gaussian,
    Mixture,
    OffSurface,
    Residual,
    SpikeAndSlab,
    varying,
)

DENSITY_ROWS = 5000  # largest number of codes that a density is fitted to
RESIDUAL_ROWS = 1000  # largest number of residuals that their distribution is fitted to
RESIDUAL_BYTES = 16 * 2**20  # largest memory for these residuals
MIN_RESIDUAL_ROWS = 100  # smallest number of residuals, whatever their memory
SMALLEST_VOLUME = 1e-6  # lower bound of squared singular values of the Jacobian, over the largest
MAX_HALVINGS = 4  # of a Gauss-Newton step towards the decoder's surface
LARGEST_RATIO = 1e300  # of squared residuals to the noise variance, in a likelihood
SMALLEST_NOISE = 1e-12  # lower bound of the noise variance, in units of the mean feature variance
_FITTING = threading.RLock()  # one for all estimators, because one with a lock cannot be pickled


class DensitySample(NamedTuple):
    """What densities are fitted to when they are first used: some codes and residuals.

    Codes are None if the density is known without them, residuals if they have no distribution.
    """

    density: Any
    codes: np.ndarray | None
    residuals: np.ndarray | None
    seed: int


class FittedAtFirstUse:
    """An attribute of the densities, which are fitted when one of them is first used."""

    def __init__(self, default: tuple[Any, ...] = ()):
        self.default = default  # value of estimators that never fit it; empty: there is none

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, estimator: Any, owner: type | None = None) -> Any:
        if estimator is None:
            return self
        attributes = vars(estimator)
        estimator._fit_densities_to_sample()
        if self.name in attributes:
            return attributes[self.name]
        if self.default:
            return self.default[0]
        raise AttributeError(
            f"{type(estimator).__name__!r} object has no attribute {self.name!r}; call fit first."
        )


def mean_and_covariance(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n_components,) and covariance of codes (n_codes, n_components); of one code it is 0."""
    covariance = np.cov(codes.T, ddof=min(1, len(codes) - 1))
    return codes.mean(axis=0), np.atleast_2d(covariance)


class GenerativeTransformer(OrderedTransformer):
    """Samples, log-likelihoods and interpolation, by a density of the codes."""

    latent_density: Any
    latent_density_: Any = FittedAtFirstUse()  # a `Density`
    _residual: Any = FittedAtFirstUse()  # a `Residual`
    _off_surface: Any = FittedAtFirstUse((None,))  # None: the residuals' density is normal
    _density_sample: DensitySample

    # -- fit -----------------------------------------------------------------------

    def _auto_density(self) -> str:
        """The density that ``latent_density="auto"`` stands for."""
        return "gaussian_mixture"

    def _prepare_densities(self, rows: Dataset, seed: int, kind: Any = None) -> None:
        """Keep what the densities of codes and residuals will be fitted to.

        They are fitted when they are first used, because `transform` does not need them, and when
        the estimator is pickled. A density of the user's is fitted at once.
        """
        for name in ("latent_density_", "_residual", "_off_surface"):
            self.__dict__.pop(name, None)
        kind = self.latent_density if kind is None else kind
        if kind == "auto":
            kind = self._auto_density()
        codes = None
        if kind == "standard_normal":
            density: Any = Gaussian(np.zeros(self.n_components_), self._prior_covariance())
        elif kind == "prior":
            density = self._prior_density()
        elif kind == "gaussian":
            density = Gaussian(*self._code_moments(rows))
        else:
            is_mixture = kind == "gaussian_mixture"
            density = self._make_mixture(seed) if is_mixture else Estimated(kind, seed)
            codes = self._codes_for_density(rows)
        self._density_sample = DensitySample(density, codes, self._residuals(rows), seed)
        if isinstance(density, Estimated):
            self._fit_densities_to_sample()

    def _fit_densities_to_sample(self) -> None:
        """Fit the densities to the sample of codes and residuals, if there is one; drop it."""
        with _FITTING:
            if (sample := vars(self).get("_density_sample")) is None:
                return
            threads = limited_threads(torch.get_num_threads())
            with threads, config_context(array_api_dispatch=False):  # codes are in numpy
                density, codes = sample.density, sample.codes
                self.latent_density_ = density if codes is None else density.fit(codes)
                if sample.residuals is not None:
                    self._fit_residual(sample.residuals, sample.seed)
            del self._density_sample

    def __getstate__(self) -> dict[str, Any]:
        """State with the densities, and without codes of training rows."""
        self._fit_densities_to_sample()
        return super().__getstate__()

    def _prior_density(self) -> Any:
        """The density that codes are trained to have, in units of `transform`."""
        raise NotImplementedError

    def _prior_covariance(self) -> np.ndarray:
        """Covariance of ``latent_density="standard_normal"``, in units of `transform`."""
        return np.eye(self.n_components_)

    def _make_mixture(self, seed: int) -> Mixture:
        """Mixture of codes that have one unit, that of standardized rows, and rows' noise."""
        noise = self.noise_variance_ / self._scale / self._scale  # squares of tiny units vanish
        return Mixture(seed, scale=self._code_scale, noise_variance=noise)

    def _fit_residual(self, residuals: np.ndarray, seed: int) -> None:
        """Fit the distribution of the residuals."""
        self._residual = Residual(seed).fit(residuals)
        self._off_surface = None
        if not isinstance(self.latent_density_, (Gaussian, SpikeAndSlab)):
            self._fit_off_surface(residuals / self._scale, self._residual.factors_ / self._scale)

    def _fit_off_surface(self, residuals: np.ndarray, factors: np.ndarray) -> None:
        """Fit the density of standardized residuals, if any are left off the surface."""
        n_off = int(self.n_features_in_ - varying(self.explained_variance_).sum())
        noise = self.noise_variance_ / self._scale / self._scale  # squares of tiny units vanish
        if n_off > 0 and noise > SMALLEST_NOISE and residuals.any():
            self._off_surface = OffSurface().fit(residuals, factors, noise, n_off)

    def _set_residual(self, rows: Dataset, smooth: Callable[[Any], Any]) -> None:
        """Set the distribution of the residuals from moments that `smooth` averages over calls."""
        residuals = self._residuals(rows)
        moments = np.array([residuals.mean(axis=0), np.square(residuals).mean(axis=0)])
        mean, squares = smooth(moments)
        self._residual = Residual().of_moments(mean, np.maximum(squares - mean**2, 0))
        self._off_surface = None

    def _residuals(self, rows: Dataset) -> Any:
        """Evenly spaced rows minus their reconstructions, in input units."""
        affordable = max(MIN_RESIDUAL_ROWS, RESIDUAL_BYTES // (8 * self.n_features_in_))
        block = rows.in_own_precision(rows.evenly_spaced(min(RESIDUAL_ROWS, affordable)))
        if self._is_at_pca():
            components = self.components_.astype(block.dtype)
            residuals = block - block @ components.T @ components
        else:
            residuals = self._differences(block, self._reconstruct(block))
        return residuals.astype(float) * self._scale

    def _codes_for_density(self, rows: Dataset) -> np.ndarray:
        """Codes of evenly spaced rows, to fit a density to."""
        index = rows.evenly_spaced(DENSITY_ROWS)
        return np.concatenate(
            [
                self._codes(rows.in_own_precision(index[part])).astype(float)
                for part in self._batch_slices(len(index))
            ]
        )

    def _code_moments(self, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the codes of the training rows, which are uncorrelated."""
        variances = self.explained_variance_ * np.square(self._code_scale / self._scale)
        return np.zeros(self.n_components_), np.diag(variances)

    # -- samples -------------------------------------------------------------------

    @wrap_in_frame
    @array_api_by_numpy
    def sample(
        self, n_samples: int = 1, random_state: Any = None, *, observation_noise: bool = True
    ) -> np.ndarray:
        """Draw new rows: draw codes from `latent_density_` and decode them.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows to draw.
        random_state : int, RandomState instance or None, default=None
            An int gives the same rows in every call. None gives different rows.
        observation_noise : bool, default=True
            Add noise that is distributed like the residuals of the training rows. Its model is
            a normal distribution with eight factors and one noise variance per feature.
            Without noise, all rows lie on the decoder's surface.

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
        X = self._decoded(codes, self._generate)
        return self._add_noise(X, random) if observation_noise else X

    def _decoded(self, codes: np.ndarray, decode: Callable[[Any], Any]) -> np.ndarray:
        """Decode codes to rows in input units, float64."""
        return self._map_batches(
            lambda part: self._unstandardize(decode(part)), codes, self.n_features_in_
        )

    def _add_noise(self, X: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """Add observation noise to decoded rows in input units."""
        X = X + self._residual.sample(len(X), random)
        return X.clip(0, 1) if self._decodes_logits() else X

    # -- likelihood ----------------------------------------------------------------

    @by_partition
    @array_api_by_numpy
    def score_samples(self, X: Any) -> np.ndarray:
        """Log-likelihood of each row.

        It has three factors: the density of the code, the change of volume by the decoder, and
        a density of the residual off the decoder's surface, with mean variance
        `noise_variance_`. The last is Student's t distribution, or normal if the density of the
        code is one normal distribution. It is exact for the linear autoencoder, which is
        probabilistic PCA. Where the surface bends, it is an approximation.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), float64
            In nats per row, comparable with `PCA.score_samples`.

        Raises
        ------
        ValueError
            If there are more components than features. Such a code has no density in the
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

    @np.errstate(over="ignore")  # of squares, far from all training rows
    def _log_likelihood(self, X: np.ndarray) -> np.ndarray:
        """Log-likelihood of rows in input units, in nats."""
        varies = varying(self.explained_variance_)
        rows = self._standardize(X.astype(np.float64))
        codes = self._codes(rows)
        codes[:, ~varies] = 0.0  # the surface has no dimension for a constant component
        residuals = self._project_on_surface(rows, codes, varies)
        step, jacobian, squares, axes = self._gauss_newton_step(codes, residuals, varies)
        codes[:, varies] += step
        residuals -= np.einsum("nid,ni->nd", jacobian, step / self._code_scale[varies])
        return (
            self.latent_density_.score_samples(codes)
            + np.log(self._code_scale[varies]).sum()
            - 0.5 * np.log(squares).sum(axis=1)
            + self._log_density_off_surface(residuals, jacobian, squares, axes)
            - self.n_features_in_ * math.log(self._scale)
        )

    def _log_density_off_surface(
        self, residuals: np.ndarray, jacobian: np.ndarray, squares: np.ndarray, axes: np.ndarray
    ) -> np.ndarray:
        """Log-density of standardized residuals perpendicular to the decoder's surface."""
        if self._off_surface is not None:
            cosines = axes.transpose(0, 2, 1) @ (jacobian @ self._off_surface.axes_.T)
            cosines /= np.sqrt(squares)[:, :, None]
            return self._off_surface.score_samples(residuals, cosines)
        n_off = self.n_features_in_ - squares.shape[1]
        noise = max(self.noise_variance_ / self._scale / self._scale, SMALLEST_NOISE)
        ratio = np.minimum(np.square(residuals).sum(axis=1) / noise, LARGEST_RATIO)
        return -0.5 * ratio - 0.5 * n_off * math.log(2 * math.pi * noise)

    def _project_on_surface(
        self, rows: np.ndarray, codes: np.ndarray, varies: np.ndarray
    ) -> np.ndarray:
        """Move codes, in place, towards the nearest points on the decoder's surface.

        Each code takes one Gauss-Newton step, which is halved until the decoded row is closer.
        Returns rows minus decoded rows, standardized.
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
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Gauss-Newton step of the varying components, Jacobian, its singular values squared, axes.

        The Jacobian (n_rows, n_varying, n_features) is that of standardized rows with respect to
        ordered codes before whitening. Axes are the columns of (n_rows, n_varying, n_varying).
        """
        raw = codes / self._code_scale @ self._rotation.T + self._code_mean
        jacobian = (self._rotation.T @ self.net_.jacobian(raw, self._output_activation))[:, varies]
        squares, axes = np.linalg.eigh(jacobian @ jacobian.transpose(0, 2, 1))
        largest = squares.max(axis=1, initial=np.finfo(float).tiny)
        squares = np.maximum(squares, SMALLEST_VOLUME * largest[:, None])
        along = np.einsum("nji,njd,nd->ni", axes, jacobian, residuals, optimize=True)
        step = np.einsum("nji,ni->nj", axes, along / squares)
        return step * self._code_scale[varies], jacobian, squares, axes

    # -- interpolation -------------------------------------------------------------

    @array_api_by_numpy
    def interpolate(self, X_start: Any, X_end: Any, n_steps: int = 10) -> np.ndarray:
        """Interpolate between rows: on a straight line between their codes, then decoded.

        Parameters
        ----------
        X_start, X_end : array-like of shape (n_samples, n_features)
            Path i goes from row i of `X_start` to row i of `X_end`.
        n_steps : int, default=10
            Number of rows on each path, both ends included.

        Returns
        -------
        X : ndarray of shape (n_samples, n_steps, n_features), dtype of X_start
            In input units. An array even if `set_output` asks for frames. The ends are
            the reconstructions of `X_start` and `X_end`.

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
                f"X_start has {len(start)} rows and X_end {len(end)}; interpolate joins them row "
                "by row, so pass equal numbers of rows."
            )
        first, last = (
            self._codes(self._standardize(X.astype(start.dtype, copy=False))) for X in (start, end)
        )
        shares = np.linspace(0, 1, n_steps, dtype=first.dtype)[:, None]
        codes = first[:, None] * (1 - shares) + last[:, None] * shares
        rows = self._decoded(codes.reshape(-1, self.n_components_), self._decode)
        return rows.reshape(len(start), n_steps, self.n_features_in_)
