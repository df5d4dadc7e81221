"""Order the components of the code, and describe them as PCA does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from skae._data.dataset import Dataset
from skae._data.statistics import Moments
from skae._data.threads import algebra_threads, limited_threads
from skae._latent.region import BoundedTransformer, union
from skae._latent.transform import weighted_sum
from skae.densities import ROUNDING, varying

JACOBIAN_ROWS = 128, 256  # rows over which components_ averages the decoder's Jacobian
INCREMENT_PRODUCTS = 5 * 10**7  # multiplications spent on it, and on explained_variance_ratio_
# Rows that describe a network which was trained for fewer than so many epochs. After more epochs,
# describing all rows takes little of the time of a fit.
DESCRIBED_ROWS, EPOCHS_TO_DESCRIBE_ALL = 8192, 10

Smooth = Callable[[Any], Any]  # averages a mean over new rows with that of earlier rows


def identity(value: Any) -> Any:
    """Return the value; used if there are no earlier rows."""
    return value


class OrderedTransformer(BoundedTransformer):
    """Orders the code and computes PCA's attributes.

    A kind's `_order` uses the maps that its code allows: rotation of a deterministic code,
    permutation and change of signs of a posterior with independent components, permutation of a
    sparse code.
    """

    whiten: bool
    components_: np.ndarray
    explained_variance_: np.ndarray
    explained_variance_ratio_: np.ndarray
    noise_variance_: Any
    _needs_joint_moments = True  # whether `_order` needs covariances of components, to rotate them

    def _is_at_pca(self) -> bool:
        """Whether the network equals PCA, so that its attributes are PCA's."""
        return False

    def _describe_network(self, rows: Dataset, *, full: bool = True) -> None:
        """Order the code; if `full`, also compute explained ratios and noise variance."""
        if self._is_at_pca():
            with algebra_threads(rows.shape):
                self._set_pca_attributes(rows)
            return
        # Threads of numpy and of torch that take turns would wait for each other.
        with limited_threads(torch.get_num_threads()):
            some = self._rows_to_describe(rows)
            moments = self._code_moments_of(some)
            self._order(self._mean_jacobian(some), moments)
            if full:
                sse, sst = self._sse_and_sst(some)
                share = rows.count / some.count
                self._set_noise(some, share * sse * self.net_.validation_ratio_)
                self.explained_variance_ratio_ = self._explained_ratios(
                    some, 1 - sse / sst if sst > 0 else 0.0
                )

    def _rows_to_describe(self, rows: Dataset) -> Dataset:
        """All rows, or 8,192 evenly spaced ones if training was short."""
        was_short = 0 < self.n_iter_ < EPOCHS_TO_DESCRIBE_ALL
        if was_short and len(rows) > DESCRIBED_ROWS:
            return rows.unweighted_subset(DESCRIBED_ROWS)
        return rows

    def _set_pca_attributes(self, rows: Dataset) -> None:
        """Compute the attributes of a network that equals PCA, without running it."""
        self.components_ = self.net_.module_.components.cpu().numpy().copy()
        self._code_mean = np.zeros(self.n_components_)
        self._rotation = np.eye(self.n_components_)
        squares, sse = rows.squares_along(self.components_)
        sst = sse + squares.sum()
        self._set_variances(squares * self._scale**2 / max(1, rows.count - 1))
        self._set_noise(rows, sse)
        self.explained_variance_ratio_ = squares / sst if sst > 0 else squares

    def _code_moments_of(self, rows: Dataset, moments: Moments | None = None) -> Moments:
        """Moments of the network's codes of rows, added to `moments` if there are any.

        The codes widen the region of the network.
        """
        bounds: Any = None
        for part in self._batch_slices(len(rows)):
            codes = self._encoded_for_moments(rows.in_own_precision(part)).astype(float)
            if moments is None:
                moments = Moments(codes.shape[1], joint=self._needs_joint_moments)
            moments.add(codes, rows.weights_of(part))
            bounds = union(bounds, self._code_bounds(codes))
        assert moments is not None
        squares = moments.scatter.diagonal() if moments.joint else moments.scatter
        deviations = np.sqrt(squares[: self.n_components_] / moments.count)
        self._limit_codes(bounds, deviations)
        return moments

    def _order(self, jacobian: np.ndarray, moments: Moments) -> None:
        """Make the code centred, uncorrelated and sorted by variance, and fix its signs.

        Computes the affine map ``(z - mean) @ rotation`` from the decoder's mean Jacobian
        (n_components, n_features) and the moments of `_encoded_for_moments`.
        """
        self._code_mean = moments.mean
        self._rotation = self._principal_axes(moments.scatter)
        self._rotation *= signs_of_largest(self._rotation.T @ jacobian)
        self.components_ = self._rotation.T @ jacobian
        variances = np.diag(self._rotation.T @ moments.covariance() @ self._rotation).copy()
        variances[variances < ROUNDING**2] = 0
        self._set_variances(variances * self._scale**2)

    def _principal_axes(self, scatter: np.ndarray) -> np.ndarray:
        """Axes of codes, as columns, by decreasing variance. A kind may rotate parts of codes."""
        return np.ascontiguousarray(np.linalg.eigh(scatter)[1][:, ::-1])

    def _mean_jacobian(self, rows: Dataset) -> np.ndarray:
        """Mean Jacobian of the decoder over evenly spaced rows, (n_components, n_features)."""
        index = rows.evenly_spaced(int(np.clip(self._n_affordable(), *JACOBIAN_ROWS)))
        jacobian = np.zeros((self.n_components_, self.n_features_in_))
        for part in self._batch_slices(len(index), jacobian.size):
            codes = self._encode(rows.in_own_precision(index[part]))
            jacobian += self.net_.jacobian(codes, self._output_activation).sum(axis=0) / len(index)
        return jacobian

    def _n_affordable(self) -> int:
        """Number of rows whose codes may be decoded once for each component."""
        return INCREMENT_PRODUCTS // (self.n_components_ * self.net_.n_parameters())

    def _set_variances(self, variances: np.ndarray) -> None:
        """Set the components' variances, in input units, and the scale of the code."""
        self.explained_variance_ = variances
        self._code_scale = np.full(self.n_components_, self._code_unit())
        if self.whiten:
            divisible = varying(variances)
            self._code_scale[divisible] /= np.sqrt(variances[divisible])

    def _code_unit(self) -> Any:
        """Factor from the network's code to the code that `transform` returns, before whitening."""
        return self._scale

    def _set_noise(self, rows: Dataset, sse: float, smooth: Smooth = identity) -> None:
        """Set the noise variance from the residual sum of squares, as probabilistic PCA does."""
        n_dimensions = min(self.n_samples_, self.n_features_in_) - self.n_components_
        self.noise_variance_ = 0.0
        if n_dimensions > 0 and self.n_samples_ > 1:
            self.noise_variance_ = sse * self._scale**2 / (n_dimensions * (self.n_samples_ - 1))

    def _previous_moments(self) -> Moments:
        """Moments of the network's codes of the training rows, recovered from the attributes."""
        moments = Moments(self.n_components_)
        moments.count, moments.mean = self.n_samples_, self._code_mean
        variances = self.explained_variance_ / self._scale / self._scale
        covariance = self._rotation * variances @ self._rotation.T
        moments.scatter = covariance * max(1, self.n_samples_ - 1)
        return moments

    def _explained_ratios(self, rows: Dataset, explained: float) -> np.ndarray:
        """Share of variance that each component adds to the previous ones, (n_components,).

        It is computed on evenly spaced rows, as many as INCREMENT_PRODUCTS allows, and scaled so
        that the sum is `explained`, the share for all rows.
        """
        k, n_rows = self.n_components_, max(JACOBIAN_ROWS[0], self._n_affordable())
        if n_rows < rows.count or rows.weights is not None:
            rows = rows.unweighted_subset(n_rows)
        sst, sse = 0.0, np.zeros(k)
        for part in self._batch_slices(len(rows)):
            block = rows.in_own_precision(part)
            codes = self._codes(block)
            sst += self._squares(block, self._standardized_mean())
            for i in range(k):  # later components are at their mean
                kept = codes * (np.arange(k) <= i) if i < k - 1 else codes
                sse[i] += self._squares(block, self._decode(kept, block))
        return scaled_increments(sse, sst, explained)

    def _sse_and_sst(self, rows: Dataset) -> tuple[float, float]:
        """Sums of squared errors of standardized rows, and of squared distances to the mean."""
        sse = sst = 0.0
        mean = self._standardized_mean()
        for part in self._batch_slices(len(rows)):
            block, weights = rows.in_own_precision(part), rows.weights_of(part)
            sse += self._squares(block, self._reconstruct(block), weights)
            sst += self._squares(block, mean, weights)
        return sse, sst

    def _standardized_mean(self) -> np.ndarray:
        return (self.mean_ - self._center) / self._scale

    def _squares(self, rows: np.ndarray, others: Any, weights: Any = None) -> float:
        """Sum of squared differences, accumulated in float64; each row times its weight."""
        differences = self._differences(rows, others.astype(rows.dtype, copy=False))
        of_rows = np.einsum("ij,ij->i", differences, differences).astype(float)
        return weighted_sum(of_rows, weights)


def scaled_increments(sse: np.ndarray, sst: float, explained: float) -> np.ndarray:
    """Share that each component adds to the explained variance, scaled to the sum `explained`.

    `sse` are the sums of squared errors with one component, two components, and so on.
    """
    if sst == 0:
        return np.zeros(len(sse))
    shares = 1 - sse / sst
    scale = explained / shares[-1] if shares[-1] > 0 else 1.0
    return np.diff(shares, prepend=0.0) * scale


def signs_of_largest(rows: np.ndarray) -> np.ndarray:
    """Sign of the largest entry of each row, 1 where all entries are zero."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(largest < 0, -1.0, 1.0)
