"""Weights of rows: checks, averages, and rows repeated as often as they count."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

from skae._data.array_api import to_numpy
from skae._data.dtypes_and_batch_sizes import rows_per_batch
from skae._data.input_checks import as_numpy, take_rows

SINGLE_ROWS = 1024  # rows whose values are summed in float32; these sums are added in float64


def check_weights(sample_weight: Any, X: Any, *others: Any, scaled: bool = True) -> tuple[Any, ...]:
    """Check the weights of rows, and drop rows of weight zero.

    `others` are arrays (n_rows, ...) or None, of which the same rows are dropped. Returns rows,
    weights and the others.

    Integer weights are kept: each is the number of rows that one row stands for. Others are
    scaled to a mean of one, unless `scaled` is False. Weights that are all one become None.
    """
    if sample_weight is None:
        return X, None, *others
    rows = np.empty((X.shape[0], 0))  # of which only the number counts
    weights = _check_sample_weight(
        to_numpy(sample_weight), rows, dtype=np.float64, ensure_non_negative=True
    )
    kept = weights > 0
    if not kept.any():
        raise ValueError("sample_weight is zero for all rows; at least one must be positive.")
    if not kept.all():
        X, weights = take_rows(X, kept), weights[kept]
        others = tuple(None if other is None else other[kept] for other in others)
    if scaled and (weights % 1 != 0).any():
        weights = weights / weights.mean()
    return X, None if (weights == 1).all() else weights, *others


def sort_and_repeat(
    X: Any, weights: np.ndarray | None, *others: Any, below: int, ties: np.ndarray | None = None
) -> tuple[Any, ...]:
    """Sort the rows of a small table, and repeat each as often as it counts.

    A row of weight two is then the same table as that row twice, in any order, whatever is
    drawn at random. Tables of `below` rows or more, repeats included, are returned as they are.
    `others` are arrays (n_rows, ...) or None, which are sorted and repeated like the rows. Equal
    rows are sorted by `ties` (n_rows, n_columns).
    """
    if X.shape[0] >= below or (weights is not None and (weights % 1 != 0).any()):
        return X, weights, *others
    counts = np.ones(X.shape[0], dtype=int) if weights is None else weights
    if counts.sum() >= below:
        return X, weights, *others
    X = as_numpy(X)
    order = np.lexsort((X if ties is None else np.hstack([X, ties])).T[::-1])
    index = np.repeat(order, counts[order].astype(int))
    return X[index], None, *(None if other is None else other[index] for other in others)


def weighted_average(values: Any, weights: np.ndarray | None) -> float:
    """Mean of numbers (n_rows,), weighted if there are weights."""
    return float(np.average(values, weights=weights))


def weighted_mean(X: Any, weights: np.ndarray | None) -> np.ndarray:
    """Mean of each column, (n_columns,) in float64.

    Means of float32 rows are exact up to the rounding of float32.
    """
    if weights is None and isinstance(X, np.ndarray):
        if X.dtype == np.float32 and len(X) > SINGLE_ROWS:
            # Products with ones sum faster than numpy does along columns.
            parts = gen_batches(len(X), SINGLE_ROWS)
            ones = np.ones(SINGLE_ROWS, dtype=np.float32)
            return sum((ones[: p.stop - p.start] @ X[p]).astype(float) for p in parts) / len(X)
        return X.mean(axis=0, dtype=np.float64)
    if weights is None:
        weights = np.ones(X.shape[0])
    parts = gen_batches(X.shape[0], rows_per_batch(X.shape[1]))
    if isinstance(X, Tensor):
        return sum(weights[part] @ as_numpy(X[part]) for part in parts) / weights.sum()
    return sum(weights[part] @ X[part] for part in parts) / weights.sum()
