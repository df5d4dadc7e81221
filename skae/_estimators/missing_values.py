"""Steps of a fit that differ if rows have missing values, for kinds whose networks take them."""

from __future__ import annotations

from typing import Any

import numpy as np

from skae._data.dataset import Dataset
from skae._data.views import has_gaps, observed_statistics, refuse_gaps
from skae._estimators.dense import DenseAutoencoder
from skae._estimators.partial_fit import Stream
from skae._latent.ordering import Smooth, identity


class PartlyObservedAutoencoder(DenseAutoencoder):
    """Base of kinds whose rows may have missing values, which are NaN.

    Statistics and errors are of observed values. Network and objective have to do the same.
    """

    def _takes_nan(self) -> bool:
        return True

    def _differences(self, rows: Any, others: Any) -> Any:
        differences = rows - others
        differences[rows != rows] = 0.0  # NaN is missing
        return differences

    def _fit_center_and_scale(
        self, X: Any, weights: np.ndarray | None, *, warns: bool = True
    ) -> Dataset:
        if not has_gaps(X):
            return super()._fit_center_and_scale(X, weights, warns=warns)
        rows = observed_rows(X, weights)
        self.mean_, self._center, self._scale = rows.center, rows.center, rows.scale
        n_components: Any = self.n_components or self._n_components_of_none(rows)
        self.n_components_ = n_components
        return rows

    def _row_bounds(self, rows: Dataset) -> np.ndarray:
        if not has_gaps(rows.X):
            return super()._row_bounds(rows)
        observed = observed_statistics(rows)
        return np.array([observed["low"], observed["high"]])

    def _set_noise(self, rows: Dataset, sse: float, smooth: Smooth = identity) -> None:
        if has_gaps(rows.X):
            sse = sse / observed_statistics(rows)["share"].mean()
        super()._set_noise(rows, sse, smooth)

    def _residuals(self, rows: Dataset) -> Any:
        residuals = super()._residuals(rows)
        if has_gaps(rows.X):  # where they are zero
            residuals /= np.sqrt(observed_statistics(rows)["share"])
        return residuals

    def _log_likelihood(self, X: np.ndarray) -> np.ndarray:
        refuse_gaps(X, "score_samples")
        return super()._log_likelihood(X)

    def _refit(self, stream: Stream, X: Any, *others: Any) -> None:
        refuse_gaps(X, "partial_fit")
        super()._refit(stream, X, *others)

    def _continue(self, stream: Stream, X: Any, *others: Any) -> None:
        refuse_gaps(X, "partial_fit")
        super()._continue(stream, X, *others)


def observed_rows(X: Any, weights: np.ndarray | None) -> Dataset:
    """Rows with missing values, standardized by mean and mean variance of what was observed."""
    around_zero = Dataset(X, np.zeros(X.shape[1]), weights=weights)
    rows = Dataset(X, observed_statistics(around_zero)["mean"], weights=weights)
    squares = observed_statistics(rows)["mean_square"]
    return rows.with_scale(float(np.sqrt(squares.mean())) or 1.0)
