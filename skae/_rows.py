"""The training rows as a fit sees them: in network units, made block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches
from sklearn.utils.extmath import svd_flip
from torch import Tensor

from skae._validation import rows_per_batch

SMALLEST_SQUARE = 1e-280  # sums of squares below it, or infinite, need care


class Rows:
    """Rows of an array, shifted and scaled when asked for and never all at once in float64.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float64 or float32
        A memory map is read block by block.
    shift : ndarray of shape (n_features,)
    scale : float
        A row in network units is ``(x - shift) / scale``.
    """

    def __init__(self, X: np.ndarray, shift: np.ndarray, scale: float = 1.0):
        self.X, self.shift, self.scale = X, shift, scale
        self.shape = X.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """Rows in network units, float64."""
        rows = self.X[part] - self.shift
        rows /= self.scale
        return rows

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, in blocks of bounded memory.

        Yields
        ------
        ndarray of shape (n_rows_of_block, n_features), float64
        """
        for part in gen_batches(len(self), rows_per_batch(self.shape[1])):
            yield self[part]

    def any(self) -> bool:
        """Whether any entry is not zero: centred rows vary.

        Returns
        -------
        bool
        """
        return any(block.any() for block in self.blocks())

    def tensor(self, index: np.ndarray, dtype: torch.dtype) -> Tensor:
        """Some rows in one tensor.

        Parameters
        ----------
        index : ndarray of shape (n_rows,)
        dtype : torch.dtype

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        result = torch.empty((len(index), self.shape[1]), dtype=dtype)
        for part in gen_batches(len(index), rows_per_batch(self.shape[1])):
            result[part] = torch.from_numpy(self[index[part]])
        return result

    def subset(self, index: np.ndarray) -> Self:
        """Choose rows, which are copied.

        Parameters
        ----------
        index : ndarray of shape (n_rows,)

        Returns
        -------
        Rows
        """
        return type(self)(self.X[index], self.shift, self.scale)

    def spread(self, n_rows: int) -> np.ndarray:
        """Indices of at most `n_rows` rows, evenly spread.

        Parameters
        ----------
        n_rows : int

        Returns
        -------
        ndarray of shape (min(n_rows, len(self)),)
        """
        if len(self) <= n_rows:
            return np.arange(len(self))
        return np.linspace(0, len(self) - 1, n_rows).astype(int)

    def with_scale(self, scale: float) -> Self:
        """Same rows and shift in other units.

        Parameters
        ----------
        scale : float

        Returns
        -------
        Rows
        """
        other = type(self)(self.X, self.shift, scale)
        if "scatter" in vars(self) and self._is_scatter_precise():
            vars(other)["scatter"] = self.scatter * (self.scale / scale) ** 2
        return other

    def ranges(self) -> dict[str, np.ndarray]:
        """Mean, standard deviation, minimum and maximum of each feature.

        Returns
        -------
        dict of str to ndarray of shape (n_features,)
            Keys "mean", "std", "low" and "high".
        """
        n_rows, n_features = self.shape
        total, squares = np.zeros((2, n_features))
        low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        for block in self.blocks():
            total += block.sum(axis=0)
            squares += np.square(block).sum(axis=0)
            low, high = np.fmin(low, block.min(axis=0)), np.fmax(high, block.max(axis=0))
        mean = total / n_rows
        # Rows are as good as centred, so that nothing is lost in the difference.
        std = np.sqrt(np.maximum(squares / n_rows - mean**2, 0))
        return {"mean": mean, "std": std, "low": low, "high": high}

    # -- second moments ------------------------------------------------------------

    @property
    def are_many(self) -> bool:
        """Whether second moments say all of the rows that PCA needs, precisely enough.

        They square the condition number, which only many rows make worth it.
        """
        n_rows, n_features = self.shape
        return n_rows > 10 * n_features and n_rows * n_features > 100_000

    @cached_property
    def scatter(self) -> np.ndarray:
        """Sum over rows of the products of every two features.

        Returns
        -------
        ndarray of shape (n_features, n_features)
        """
        total = np.zeros((self.shape[1], self.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for block in self.blocks():
                total += block.T @ block
        return total

    def _is_scatter_precise(self) -> bool:
        """Whether squares neither overflow nor vanish in these units."""
        return bool(SMALLEST_SQUARE < np.trace(self.scatter) < math.inf)

    def squares_along(self, components: np.ndarray) -> tuple[np.ndarray, float]:
        """Sum of squares along each of some orthonormal directions, and off them.

        Parameters
        ----------
        components : ndarray of shape (n_components, n_features)

        Returns
        -------
        along : ndarray of shape (n_components,)
        left : float
        """
        if self.are_many:
            along = np.einsum("ij,ij->i", components @ self.scatter, components)
            return along, max(0.0, float(np.trace(self.scatter) - along.sum()))
        along, left = np.zeros(len(components)), 0.0
        for block in self.blocks():
            codes = block @ components.T
            along += np.square(codes).sum(axis=0)
            left += float(np.square(block - codes @ components).sum())
        return along, left

    def root_mean_square(self) -> float:
        """Root of the mean square of all entries; 1 where all are zero.

        Returns
        -------
        float
        """
        n_entries = self.shape[0] * self.shape[1]
        if self.are_many and self._is_scatter_precise():
            return math.sqrt(np.trace(self.scatter) / n_entries)
        largest = max(float(np.abs(block).max()) for block in self.blocks())
        if largest == 0:
            return 1.0
        squares = sum(float(np.square(block / largest).sum()) for block in self.blocks())
        return largest * math.sqrt(squares / n_entries)

    def principal_components(self, n_components: int) -> np.ndarray:
        """Principal components of rows that are centred.

        Parameters
        ----------
        n_components : int

        Returns
        -------
        ndarray of shape (n_components, n_features)
            Rows of zeros where the components outnumber rows or features.
        """
        n_rows, n_features = self.shape
        components = np.zeros((n_components, n_features))
        n_kept = min(n_components, n_rows, n_features)
        if self.are_many:
            vectors = np.linalg.eigh(self.scatter)[1][:, ::-1].T
            components[:n_kept] = svd_flip(None, vectors, u_based_decision=False)[1][:n_kept]
            constant = np.diag(self.scatter) == 0
        else:
            rows = self[:]
            constant = ~rows.any(axis=0)
            if n_rows > 1 and not constant.all():
                components[:n_kept] = PCA(n_kept, svd_solver="full").fit(rows).components_
        components[:, constant] = 0.0  # rounding
        return components


def constant_columns(X: np.ndarray) -> Any:
    """Columns of which all entries are equal.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of shape (n_columns,), bool
    """
    constant = (X[:100] == X[0]).all(axis=0)
    for part in gen_batches(len(X), rows_per_batch(X.shape[1])):
        suspects = np.flatnonzero(constant)
        if len(suspects) == 0:
            break
        constant[suspects] = (X[part][:, suspects] == X[0, suspects]).all(axis=0)
    return constant
