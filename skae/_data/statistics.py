"""Explained variance, and running moments of rows that come in blocks."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np


class Moments:
    """Number, mean and scatter matrix of the rows so far.

    Parameters
    ----------
    n_columns : int
    joint : bool, default=True
        False keeps only the diagonal of the scatter matrix.

    Attributes
    ----------
    count : float
        Sum of the weights of the rows.
    mean : ndarray of shape (n_columns,)
    scatter : ndarray of shape (n_columns, n_columns) or (n_columns,)

    References
    ----------
    Chan, Golub and LeVeque (1983). Algorithms for computing the sample variance.
    https://doi.org/10.1080/00031305.1983.10483115

    Examples
    --------
    >>> import numpy as np
    >>> from skae._data.statistics import Moments
    >>> moments = Moments(1)
    >>> moments.add(np.array([[0.0], [2.0]])).add(np.array([[4.0]])).covariance()
    array([[4.]])
    """

    def __init__(self, n_columns: int, *, joint: bool = True):
        self.count = 0.0
        self.mean = np.zeros(n_columns)
        self.joint = joint
        self.scatter = np.zeros((n_columns, n_columns) if joint else n_columns)

    @classmethod
    def of(cls, attributes: dict[str, Any]) -> Self:
        """Moments that have these attributes, copied."""
        moments = cls.__new__(cls)
        vars(moments).update(copy.deepcopy(attributes))
        return moments

    def add(self, rows: np.ndarray, weights: np.ndarray | None = None) -> Self:
        """Add rows (n_rows, n_columns), with weights (n_rows,) if there are any."""
        w = np.ones(len(rows)) if weights is None else weights
        count = float(w.sum())
        mean = w @ rows / count
        distances = (rows - mean) * np.sqrt(w)[:, None]
        step, total = mean - self.mean, self.count + count
        between = self.count * count / total
        if self.joint:
            self.scatter += distances.T @ distances + np.outer(step, step) * between
        else:
            self.scatter += np.square(distances).sum(axis=0) + np.square(step) * between
        self.mean = self.mean + step * (count / total)
        self.count = total
        return self

    def covariance(self) -> np.ndarray:
        """Sample covariance, in the shape of `scatter`; zero for a single row."""
        return self.scatter / max(1.0, self.count - 1)

    def limit(self, count: float) -> Self:
        """Let the rows so far count as at most `count` rows."""
        if self.count > count:
            self.scatter *= count / self.count
            self.count = count
        return self


def explained_share(sse: float, total: float) -> float:
    """Explained share ``1 - sse / total``; if `total` is 0, 1 without an error and else 0."""
    if total > 0:
        return 1 - sse / total
    return 1.0 if sse == 0 else 0.0
