"""The order of the code, and what a fit reports of its components and residuals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from skae._data.dataset import Dataset
from skae._data.moments import Moments
from skae._data.threads import algebra_threads
from skae._latent.transform import LatentTransformer, weighted_sum

NEGLIGIBLE = 1e-12  # share of variance below which nothing is left to learn or to divide by
JACOBIAN_ROWS = 256  # rows over which components_ averages the decoder's Jacobian
INCREMENT_PRODUCTS = 10**9  # multiplications spent on explained_variance_ratio_

Smooth = Callable[[Any], Any]  # averages a quantity over more rows than those it is of


def identity(value: Any) -> Any:
    """Average over these rows alone: the value itself."""
    return value


class OrderedTransformer(LatentTransformer):
    """A code whose components are ordered, with PCA's attributes.

    A kind says by `_order` which maps its code admits: a deterministic code may be rotated, a
    posterior with independent components only permuted and mirrored, a sparse code permuted.
    """

    whiten: bool
    components_: np.ndarray
    explained_variance_: np.ndarray
    explained_variance_ratio_: np.ndarray
    noise_variance_: Any
    _needs_joint_moments = True  # of components, two by two: what a rotation needs

    def _is_at_pca(self) -> bool:
        """Whether the network is PCA: its own code is ordered and signed as PCA's."""
        return False

    def _describe_network(self, rows: Dataset, *, full: bool = True) -> None:
        """Order the code and, if in full, describe what the network makes of all rows."""
        with algebra_threads(rows.shape):
            if self._is_at_pca():
                self._describe_as_pca(rows)
                return
            self._order(self._mean_jacobian(rows), self._code_moments_of(rows))
            if full:
                self._describe(rows)

    def _describe_as_pca(self, rows: Dataset) -> None:
        """Describe a network that is PCA, without running it."""
        self.components_ = self.net_.module_.components.cpu().numpy().copy()
        self._code_mean = np.zeros(self.n_components_)
        self._rotation = np.eye(self.n_components_)
        squares, left = rows.squares_along(self.components_)
        total = left + squares.sum()
        self._set_variances(squares * self._scale**2 / max(1, rows.count - 1))
        self._set_noise(rows, left)
        self.explained_variance_ratio_ = squares / total if total > 0 else squares

    def _code_moments_of(self, rows: Dataset, past: Moments | None = None) -> Moments:
        """Moments of the network's codes of rows, on top of past ones."""
        moments = past
        for part in self._batch_slices(len(rows)):
            codes = self._encoded_for_moments(rows[part])
            if moments is None:
                moments = Moments(codes.shape[1], joint=self._needs_joint_moments)
            moments.add(codes, rows.weights_of(part))
        assert moments is not None
        return moments

    def _encoded_for_moments(self, rows: np.ndarray) -> np.ndarray:
        """What the network returns for rows, whose moments `_order` needs."""
        return self._encode(rows)

    def _order(self, jacobian: np.ndarray, moments: Moments) -> None:
        """Make the code centred, uncorrelated, sorted by variance, and fix its signs.

        Fits the affine map ``(z - mean) @ rotation``, given the decoder's mean Jacobian and the
        moments of `_encoded_for_moments`.
        """
        self._code_mean = moments.mean
        self._rotation = np.ascontiguousarray(np.linalg.eigh(moments.scatter)[1][:, ::-1])
        self._rotation *= signs_of_largest(self._rotation.T @ jacobian)
        self.components_ = self._rotation.T @ jacobian
        covariance = self._rotation.T @ moments.covariance() @ self._rotation
        self._set_variances(np.diag(covariance) * self._scale**2)

    def _mean_jacobian(self, rows: Dataset) -> np.ndarray:
        """Mean Jacobian of the decoder over some rows, of shape (n_components, n_features)."""
        index = rows.evenly_spaced(JACOBIAN_ROWS)
        jacobian = np.zeros((self.n_components_, self.n_features_in_))
        for part in self._batch_slices(len(index), jacobian.size):
            codes = self._encode(rows[index[part]])
            jacobian += self.net_.jacobian(codes, self._output_activation).sum(axis=0) / len(index)
        return jacobian

    def _set_variances(self, variances: np.ndarray) -> None:
        """Take the variances of the code in input units; whiten it if asked to."""
        self.explained_variance_ = variances
        self._code_scale = np.full(self.n_components_, self._code_unit())
        if self.whiten:
            divisible = variances > NEGLIGIBLE * variances.max()
            self._code_scale[divisible] /= np.sqrt(variances[divisible])

    def _code_unit(self) -> Any:
        """Factor between the network's code and what `transform` returns, before whitening."""
        return self._scale

    def _describe(self, rows: Dataset) -> None:
        """Compute the variance explained by each component, and the residual variance."""
        (left,), total = self._sse(rows, [self.n_components_]), self._sst(rows)
        self._set_noise(rows, left * self.net_.validation_ratio_)
        explained = 1 - left / total if total > 0 else 0.0
        self.explained_variance_ratio_ = self._explained_ratios(rows, explained)

    def _set_noise(self, rows: Dataset, left: float, smooth: Smooth = identity) -> None:
        """Spread the residual evenly over the remaining dimensions, as probabilistic PCA does."""
        n_left = min(self.n_samples_, self.n_features_in_) - self.n_components_
        self.noise_variance_ = 0.0
        if n_left > 0 and self.n_samples_ > 1:
            self.noise_variance_ = left * self._scale**2 / (n_left * (self.n_samples_ - 1))

    def _previous_moments(self) -> Moments:
        """Moments of the network's codes of the training rows."""
        moments = Moments(self.n_components_)
        moments.count, moments.mean = self.n_samples_, self._code_mean
        variances = self.explained_variance_ / self._scale**2
        covariance = self._rotation * variances @ self._rotation.T
        moments.scatter = covariance * max(1, self.n_samples_ - 1)
        return moments

    def _explained_ratios(self, rows: Dataset, explained: float) -> np.ndarray:
        """What each component adds to the explained share of variance.

        Measured on rows spread evenly, as many as INCREMENT_PRODUCTS allows, and scaled so
        that the sum is exact on all rows.
        """
        k = self.n_components_
        n_rows = max(JACOBIAN_ROWS, INCREMENT_PRODUCTS // (k * self.net_.n_parameters()))
        if n_rows < rows.count or rows.weights is not None:
            rows = rows.subset(rows.evenly_spaced(n_rows))
            rows = Dataset(rows.X, rows.center, rows.scale)  # chosen as often as they weigh
        total = self._sst(rows)
        if total == 0:
            return np.zeros(k)
        shares = 1 - self._sse(rows, range(1, k + 1)) / total
        scale = explained / shares[-1] if shares[-1] > 0 else 1.0
        return np.diff(shares, prepend=0.0) * scale

    def _sse(self, rows: Dataset, n_kept: Sequence[int]) -> np.ndarray:
        """Sums of squared errors of standardized rows, one for each number of components kept.

        The later components are held at their mean.
        """
        sse = np.zeros(len(n_kept))
        for part in self._batch_slices(len(rows)):
            block, weights = rows[part], rows.weights_of(part)
            codes = self._codes(block)
            for i, n in enumerate(n_kept):
                kept = codes if n == self.n_components_ else codes * (np.arange(codes.shape[1]) < n)
                errors = self._differences(block, self._decode(kept, block))
                sse[i] += weighted_sum(np.square(errors), weights)
        return sse

    def _sst(self, rows: Dataset) -> float:
        """Sum of squared differences between standardized rows and the training mean."""
        centre = (self.mean_ - self._center) / self._scale
        return sum(
            weighted_sum(np.square(self._differences(rows[part], centre)), rows.weights_of(part))
            for part in self._batch_slices(len(rows))
        )


def signs_of_largest(rows: np.ndarray) -> np.ndarray:
    """Sign of the largest entry of each row, 1 where all entries are zero."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(largest < 0, -1.0, 1.0)
