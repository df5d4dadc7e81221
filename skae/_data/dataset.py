"""The training rows as a fit sees them: in network units, made block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches
from sklearn.utils.extmath import svd_flip
from sklearn.utils.sparsefuncs import min_max_axis
from torch import Tensor

from skae._data.array_api import like
from skae._data.threads import algebra_threads
from skae._data.validation import as_numpy, is_memory_mapped, rows_per_batch, take_rows

SMALLEST_SQUARE = 1e-280  # sums of squares below it, or infinite, need care
MEMORY_BYTES = 64 * 2**20  # of rows that are sparse or on disk, beyond which they stay there


class Dataset:
    """Rows of an array, shifted and scaled when asked for and never all at once in float64.

    Parameters
    ----------
    X : ndarray or CSR matrix or array of shape (n_rows, n_features)
        A memory map is read, and sparse rows are made dense, block by block.
    center : ndarray of shape (n_features,)
    scale : float, default=1.0
        A row in network units is ``(x - shift) / scale``.
    weights : ndarray of shape (n_rows,), float64, default=None
        How many rows each stands for, as `check_weights` returns it; None is one.

    Attributes
    ----------
    count : int
        Number of rows that all stand for together.
    """

    def __init__(
        self,
        X: Any,
        center: np.ndarray,
        scale: float = 1.0,
        weights: np.ndarray | None = None,
    ):
        self.X, self.center, self.scale, self.weights = X, center, scale, weights
        self.shape = X.shape
        self.widest = X.shape[1]  # of what is in memory for a row
        self.known_statistics: dict[str, np.ndarray] | None = None  # of more rows than these
        self.count = len(self) if weights is None else max(1, round(weights.sum()))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """Rows in network units, float64."""
        rows = as_numpy(take_rows(self.X, part)) - self.center
        rows /= self.scale
        return rows

    def parts(self) -> Iterator[slice]:
        """Slices of all rows, of bounded memory each.

        Yields
        ------
        slice
        """
        yield from gen_batches(len(self), rows_per_batch(self.widest))

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, in blocks of bounded memory.

        Yields
        ------
        ndarray of shape (n_rows_of_block, n_features), float64
        """
        for part in self.parts():
            yield self[part]

    def weights_of(self, part: slice | np.ndarray) -> np.ndarray | None:
        """Weights of some rows.

        Parameters
        ----------
        part : slice or ndarray of shape (n_rows,)

        Returns
        -------
        ndarray of shape (n_rows,), or None
        """
        return None if self.weights is None else self.weights[part]

    def _weighted_blocks(self) -> Iterator[np.ndarray]:
        """All rows, each times the root of its weight: their squares are weighted."""
        for part in self.parts():
            block = self[part]
            if self.weights is not None:
                block *= np.sqrt(self.weights[part])[:, None]
            yield block

    @property
    def is_out_of_core(self) -> bool:
        """Whether rows are sparse or on disk, and too many to be copied into memory."""
        outside = sparse.issparse(self.X) or is_memory_mapped(self.X)
        return outside and 4 * self.shape[0] * self.shape[1] > MEMORY_BYTES

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
        if isinstance(self.X, Tensor):
            return self._tensor_in_place(index, dtype)
        return self.fill(torch.empty((len(index), self.shape[1]), dtype=dtype), index)

    def fill(self, result: Tensor, index: np.ndarray) -> Tensor:
        """Some rows in a tensor that is there.

        Parameters
        ----------
        result : Tensor of shape (n_rows, n_features)
            Is overwritten.
        index : ndarray of shape (n_rows,)

        Returns
        -------
        Tensor
            The result.
        """
        for part in gen_batches(len(index), rows_per_batch(self.widest)):
            result[part] = torch.from_numpy(self[index[part]])
        return result

    def _tensor_in_place(self, index: np.ndarray, dtype: torch.dtype) -> Tensor:
        """Some rows of a tensor, on its device."""
        result = self.X.new_empty((len(index), self.shape[1]), dtype=dtype)
        for part in gen_batches(len(index), rows_per_batch(self.shape[1])):
            rows = take_rows(self.X, index[part])
            result[part] = (rows - like(self.center, rows)) / self.scale
        return result

    def tensor_of_weights(
        self, index: np.ndarray, dtype: torch.dtype, *, scaled: bool = True
    ) -> Tensor | None:
        """Weights of some rows, their mean one unless they are not to be scaled.

        Parameters
        ----------
        index : ndarray of shape (n_rows,)
        dtype : torch.dtype
        scaled : bool, default=True

        Returns
        -------
        Tensor of shape (n_rows,), or None
        """
        if self.weights is None:
            return None
        weights = self.weights[index]
        return torch.from_numpy(weights / (weights.mean() if scaled else 1.0)).to(dtype)

    def subset(self, index: np.ndarray) -> Self:
        """Choose rows, which are copied.

        Parameters
        ----------
        index : ndarray of shape (n_rows,)

        Returns
        -------
        Rows
        """
        return type(self)(take_rows(self.X, index), self.center, self.scale, self.weights_of(index))

    def first_varying_rows(self, index: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Rows without which features would be constant that are not.

        Parameters
        ----------
        index : ndarray of int
            Rows in which some features may be constant.
        others : ndarray of int

        Returns
        -------
        ndarray of int
            Of `others`, the first row that differs in each of these features.
        """
        constant = np.flatnonzero(constant_columns(self.X, index))
        if len(constant) == 0:
            return others[:0]
        first = as_numpy(take_rows(self.X, index[:1]))[0, constant]
        differs = as_numpy(take_rows(self.X, others)[:, constant]) != first
        return others[np.unique(differs.argmax(axis=0)[differs.any(axis=0)])]

    def evenly_spaced(self, n_rows: int) -> np.ndarray:
        """Indices of at most `n_rows` rows, evenly spread, each as often as its weight asks.

        Parameters
        ----------
        n_rows : int

        Returns
        -------
        ndarray of shape (min(n_rows, count),)
        """
        n_rows = min(n_rows, self.count)
        if self.weights is not None:
            ends = np.cumsum(self.weights)
            middles = (np.arange(n_rows) + 0.5) * ends[-1] / n_rows
            return np.searchsorted(ends, middles)
        if n_rows == len(self):
            return np.arange(n_rows)
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
        other = type(self)(self.X, self.center, scale, self.weights)
        if "scatter" in vars(self) and self._is_scatter_precise():
            vars(other)["scatter"] = self.scatter * (self.scale / scale) ** 2
        return other

    def feature_statistics(self) -> dict[str, np.ndarray]:
        """Mean, standard deviation, minimum and maximum of each feature.

        Returns
        -------
        dict of str to ndarray of shape (n_features,)
            Keys "mean", "std", "low" and "high".
        """
        if self.known_statistics is not None:
            return self.known_statistics
        n_features = self.shape[1]
        total, squares = np.zeros((2, n_features))
        low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        for part in self.parts():
            block, weights = self[part], self.weights_of(part)
            low, high = np.fmin(low, block.min(axis=0)), np.fmax(high, block.max(axis=0))
            weighed = block if weights is None else block * weights[:, None]
            total += weighed.sum(axis=0)
            squares += (weighed * block).sum(axis=0)
        mean = total / self.count
        # Rows are as good as centred, so that nothing is lost in the difference.
        std = np.sqrt(np.maximum(squares / self.count - mean**2, 0))
        return {"mean": mean, "std": std, "low": low, "high": high}

    # -- second moments ------------------------------------------------------------

    @property
    def are_summed_up(self) -> bool:
        """Whether second moments say all of the rows that PCA needs, precisely enough.

        They square the condition number, which only many rows make worth it.
        """
        n_rows, n_features = self.shape
        fit = not self.is_out_of_core or 8 * n_features**2 <= MEMORY_BYTES
        return fit and n_rows > 10 * n_features and n_rows * n_features > 100_000

    @cached_property
    def scatter(self) -> np.ndarray:
        """Sum over rows of the products of every two features.

        Returns
        -------
        ndarray of shape (n_features, n_features)
        """
        total = np.zeros((self.shape[1], self.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"), algebra_threads(self.shape):
            for block in self._weighted_blocks():
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
        if self.are_summed_up:
            along = np.einsum("ij,ij->i", components @ self.scatter, components)
            return along, max(0.0, float(np.trace(self.scatter) - along.sum()))
        along, left = np.zeros(len(components)), 0.0
        with algebra_threads(self.shape):
            for block in self._weighted_blocks():
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
        n_entries = self.count * self.shape[1]
        if self.are_summed_up and self._is_scatter_precise():
            return math.sqrt(np.trace(self.scatter) / n_entries)
        largest = max(float(np.abs(block).max()) for block in self.blocks())
        if largest == 0:
            return 1.0
        squares = sum(float(np.square(block / largest).sum()) for block in self._weighted_blocks())
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

        Raises
        ------
        ValueError
            If rows stay outside of memory, are about as many as features, and so many
            components are asked for that only a decomposition of all of them would do.
        """
        components = np.zeros((n_components, self.shape[1]))
        with algebra_threads(self.shape):
            found, constant = self._found_components(min(n_components, *self.shape))
        components[: len(found)] = found
        components[:, constant] = 0.0  # rounding
        return components

    def _found_components(self, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """As many components as there are, and the columns that are zero."""
        if self.are_summed_up:
            vectors = np.linalg.eigh(self.scatter)[1][:, ::-1].T
            found = svd_flip(None, vectors, u_based_decision=False)[1][:n_components]
            return found, np.diag(self.scatter) == 0
        if self.is_out_of_core:
            return self._leading_components(n_components), self._zero_columns()
        return self._components_at_once(n_components)

    def _components_at_once(self, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """Components of all rows together, and the columns that are zero."""
        rows = self[:]
        constant: Any = ~rows.any(axis=0)
        if self.count < 2 or constant.all():
            return np.zeros((0, self.shape[1])), constant
        if self.weights is None:
            return PCA(n_components, svd_solver="full").fit(rows).components_, constant
        rows *= np.sqrt(self.weights)[:, None]
        vectors = np.linalg.svd(rows, full_matrices=False)[2]
        return svd_flip(None, vectors, u_based_decision=False)[1][:n_components], constant

    def _leading_components(self, n_components: int) -> np.ndarray:
        """Components by Lanczos iterations, which only need products with the rows."""
        if n_components >= min(self.shape):
            raise ValueError(
                f"n_components={n_components} of {self.shape[0]} rows of {self.shape[1]} "
                "features, sparse or on disk and too large for memory: the solver of the anchor "
                "(ARPACK) needs fewer components than rows and features; lower n_components or "
                "set anchor=None."
            )
        start = np.random.default_rng(0).normal(size=min(self.shape))
        vectors = svds(self._operator(), n_components, v0=start)[2][::-1]
        return svd_flip(None, np.ascontiguousarray(vectors), u_based_decision=False)[1]

    def _operator(self) -> LinearOperator:
        """Products of the rows, each times the root of its weight, with vectors."""
        roots = np.ones(len(self)) if self.weights is None else np.sqrt(self.weights)

        def times(v: np.ndarray) -> np.ndarray:
            v = np.ravel(v)
            if sparse.issparse(self.X):
                return roots * (self.X @ v - self.center @ v) / self.scale
            return roots * np.concatenate([self[part] @ v for part in self.parts()])

        def transposed_times(v: np.ndarray) -> np.ndarray:
            v = roots * np.ravel(v)
            if sparse.issparse(self.X):
                return (self.X.T @ v - self.center * v.sum()) / self.scale
            return sum(self[part].T @ v[part] for part in self.parts())

        return LinearOperator(self.shape, matvec=times, rmatvec=transposed_times, dtype=float)

    def _zero_columns(self) -> np.ndarray:
        """Columns of which every entry is zero in network units."""
        zero = np.ones(self.shape[1], dtype=bool)
        for block in self.blocks():
            zero &= ~block.any(axis=0)
            if not zero.any():
                break
        return zero


def weighted_mean(X: Any, weights: np.ndarray | None) -> np.ndarray:
    """Mean of each column.

    Parameters
    ----------
    X : ndarray or CSR matrix or array of shape (n_rows, n_columns)
    weights : ndarray of shape (n_rows,), or None

    Returns
    -------
    ndarray of shape (n_columns,), float64
    """
    if weights is None and isinstance(X, np.ndarray):
        return X.mean(axis=0, dtype=np.float64)
    if weights is None:
        weights = np.ones(X.shape[0])
    parts = gen_batches(X.shape[0], rows_per_batch(X.shape[1]))
    if isinstance(X, Tensor):
        return sum(weights[part] @ as_numpy(X[part]) for part in parts) / weights.sum()
    return sum(weights[part] @ X[part] for part in parts) / weights.sum()


def constant_columns(X: Any, index: np.ndarray | None = None) -> Any:
    """Columns of which all entries are equal.

    Parameters
    ----------
    X : ndarray or CSR matrix or array of shape (n_rows, n_columns)
    index : ndarray of int, default=None
        Rows that count; all if not given.

    Returns
    -------
    ndarray of shape (n_columns,), bool
    """
    if sparse.issparse(X):
        low, high = min_max_axis(X if index is None else X[index], axis=0)
        return low == high

    def some(part: slice) -> np.ndarray:
        return as_numpy(take_rows(X, part if index is None else index[part]))

    first = some(slice(1))[0]
    constant = (some(slice(100)) == first).all(axis=0)
    for part in gen_batches(len(X if index is None else index), rows_per_batch(X.shape[1])):
        suspects = np.flatnonzero(constant)
        if len(suspects) == 0:
            break
        constant[suspects] = (some(part)[:, suspects] == first[suspects]).all(axis=0)
    return constant
