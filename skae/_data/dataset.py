"""The rows of one fit: shifted, scaled and made dense block by block."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import min_max_axis
from torch import Tensor

from skae._data import pca
from skae._data.array_api import like
from skae._data.dtypes_and_batch_sizes import MEMORY_BYTES, rows_per_batch
from skae._data.input_checks import is_memory_mapped, read_rows, take_rows
from skae._data.units import find_copies, find_units

ROWS_COMPARED = 256  # rows whose bounds are kept one by one: numpy is slow along columns


class Dataset:
    """Rows that are standardized with one center and one scale when they are read.

    They are never all in memory in float64 at once.

    Parameters
    ----------
    X : ndarray, Tensor or CSR matrix or array of shape (n_rows, n_features)
        Memory maps are read, and sparse rows made dense, block by block.
    center : ndarray of shape (n_features,)
    scale : float, default=1.0
        A standardized row is ``(x - center) / scale``.
    weights : ndarray of shape (n_rows,), float64, default=None
        Number of rows that each stands for, as `check_weights` returns it; None is one.
    extra : ndarray of shape (n_rows, n_extra), default=None
        Columns that network and objective are given behind the features, as they are: targets,
        conditions, masks. They are not standardized, and PCA does not see them.

    Attributes
    ----------
    count : int
        Number of rows that all stand for together.
    widest : int
        Columns that are in memory for each row while it is computed.
    known_statistics : dict of str to ndarray, or None
        Feature statistics of more rows than these, if they are known.
    groups : ndarray of shape (n_rows,), int, or None
        The user's groups of rows.
    """

    def __init__(
        self,
        X: Any,
        center: np.ndarray,
        scale: float = 1.0,
        weights: np.ndarray | None = None,
        extra: np.ndarray | None = None,
    ):
        self.X, self.center, self.scale, self.weights = X, center, scale, weights
        self.extra = extra
        self.shape = X.shape
        self.widest = X.shape[1]
        self.known_statistics: dict[str, np.ndarray] | None = None
        self.groups: np.ndarray | None = None
        self.count = len(self) if weights is None else max(1, round(weights.sum()))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """Standardized rows, float64."""
        rows = read_rows(self.X, part) - self.center
        if self.scale != 1:
            rows /= self.scale
        return rows

    def in_own_precision(self, part: slice | np.ndarray) -> np.ndarray:
        """Standardized rows in the precision of X."""
        if self.precision is not np.float32:
            return self[part]
        # The rounded center, and what is left of it: differences have the precision of float32.
        rounded, rest = self._center_in_parts
        rows = read_rows(self.X, part) - rounded
        if rest is not None:
            rows -= rest
        if self.scale != 1:
            rows /= np.float32(self.scale)
        return rows

    @cached_property
    def _center_in_parts(self) -> tuple[np.ndarray, np.ndarray | None]:
        rounded = self.center.astype(np.float32)
        rest = (self.center - rounded).astype(np.float32)
        return rounded, rest if rest.any() else None

    @property
    def precision(self) -> type[np.floating[Any]]:
        """float32 if X is, else float64."""
        return np.float32 if self.X.dtype in (np.float32, torch.float32) else np.float64

    @property
    def is_out_of_core(self) -> bool:
        """Whether rows are sparse or memory-mapped, and too many for a dense copy."""
        outside = sparse.issparse(self.X) or is_memory_mapped(self.X)
        return outside and 4 * self.shape[0] * self.shape[1] > MEMORY_BYTES

    def weights_of(self, part: slice | np.ndarray) -> np.ndarray | None:
        """Weights of some rows."""
        return None if self.weights is None else self.weights[part]

    @property
    def n_inputs(self) -> int:
        """Columns that the network is given: features, and extra columns behind them."""
        return self.shape[1] + (0 if self.extra is None else self.extra.shape[1])

    # -- blocks of bounded memory --------------------------------------------------

    def parts(self, at_least: int = 1) -> Iterator[slice]:
        """Slices of all rows."""
        yield from gen_batches(len(self), max(at_least, rows_per_batch(self.widest)))

    def blocks(
        self, dtype: Any = np.float64, *, weighted: bool = False, at_least: int = 1
    ) -> Iterator[np.ndarray]:
        """Standardized rows of each slice; times the roots of their weights if asked.

        `dtype` is float64 or the precision of X. Blocks have `at_least` so many rows.
        """
        read = self.__getitem__ if dtype is np.float64 else self.in_own_precision
        for part in self.parts(at_least):
            block = read(part)
            if weighted and self.weights is not None:
                block *= np.sqrt(self.weights[part])[:, None].astype(block.dtype, copy=False)
            yield block

    def any(self) -> bool:
        """Whether any standardized entry is not zero."""
        return any(block.any() for block in self.blocks())

    # -- some rows -----------------------------------------------------------------

    def tensor(self, index: np.ndarray, dtype: torch.dtype) -> Tensor:
        """Some standardized rows, extra columns included, on the device of X if X is a tensor."""
        device = self.X.device if isinstance(self.X, Tensor) else "cpu"
        return self.fill(
            torch.empty((len(index), self.n_inputs), dtype=dtype, device=device), index
        )

    def fill(self, result: Tensor, index: np.ndarray) -> Tensor:
        """Write some standardized rows to a tensor (n_rows, n_inputs), and return it."""
        n_features = self.shape[1]
        for part in gen_batches(len(index), rows_per_batch(self.widest)):
            result[part, :n_features] = self._standardized_tensor(index[part])
        if self.extra is not None:
            result[:, n_features:] = torch.from_numpy(self.extra[index])
        return result

    def _standardized_tensor(self, index: np.ndarray) -> Tensor:
        if not isinstance(self.X, Tensor):
            return torch.from_numpy(self[index])
        rows = take_rows(self.X, index)
        return (rows - like(self.center, rows)) / self.scale

    def tensor_of_weights(
        self, index: np.ndarray, dtype: torch.dtype, *, scaled: bool = True
    ) -> Tensor | None:
        """Weights of some rows, (n_rows,), scaled to a mean of one unless `scaled` is False."""
        if self.weights is None:
            return None
        weights = self.weights[index]
        return torch.from_numpy(weights / (weights.mean() if scaled else 1.0)).to(dtype)

    def subset(self, index: np.ndarray) -> Dataset:
        """Dataset of some rows, which are copied."""
        extra = None if self.extra is None else self.extra[index]
        X, weights = take_rows(self.X, index), self.weights_of(index)
        some = Dataset(X, self.center, self.scale, weights, extra)
        some.groups = None if self.groups is None else self.groups[index]
        for name in ("copies", "units"):  # where they are known
            if name in vars(self):
                labels = getattr(self, name)
                vars(some)[name] = None if labels is None else labels[index]
        return some

    def evenly_spaced(self, n_rows: int) -> np.ndarray:
        """Indices of at most `n_rows` rows, evenly spaced; rows may repeat by their weights."""
        n_rows = min(n_rows, self.count)
        if self.weights is not None:
            ends = np.cumsum(self.weights)
            middles = (np.arange(n_rows) + 0.5) * ends[-1] / n_rows
            return np.searchsorted(ends, middles)
        if n_rows == len(self):
            return np.arange(n_rows)
        return np.linspace(0, len(self) - 1, n_rows).astype(int)

    def unweighted_subset(self, n_rows: int) -> Dataset:
        """Dataset of evenly spaced rows without weights: heavier rows are taken more often."""
        rows = self.subset(self.evenly_spaced(n_rows))
        return Dataset(rows.X, rows.center, rows.scale, extra=rows.extra)

    def first_varying_rows(self, index: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Rows to add to those at `index` so that fewer features are constant there.

        For each feature that is constant at `index`, this is the first of `others` that differs.
        """
        constant = np.flatnonzero(constant_columns(self.X, index))
        if len(constant) == 0:
            return others[:0]
        first = read_rows(self.X, index[:1])[0, constant]
        differs = read_rows(self.X, others)[:, constant] != first
        return others[np.unique(differs.argmax(axis=0)[differs.any(axis=0)])]

    # -- rows that belong together -------------------------------------------------

    @cached_property
    def copies(self) -> np.ndarray | None:
        """Labels (n_rows,) that copies and near copies share; None if there are none."""
        return find_copies(self)

    @cached_property
    def units(self) -> np.ndarray | None:
        """Labels (n_rows,) of rows that are held out together; None if no rows are."""
        return find_units(self.groups, self.copies)

    def units_of(self, index: np.ndarray) -> np.ndarray | None:
        """Labels of some rows."""
        return None if self.units is None else self.units[index]

    @cached_property
    def n_units(self) -> int:
        """Number of rows, or of groups of rows that are held out together."""
        return len(self) if self.units is None else len(np.unique(self.units))

    @cached_property
    def n_copies(self) -> int:
        """Mean number of copies of a row, rounded down."""
        return 1 if self.copies is None else len(self) // len(np.unique(self.copies))

    # -- statistics ----------------------------------------------------------------

    def with_extra(self, extra: np.ndarray | None) -> Dataset:
        """Same rows with other extra columns."""
        other = copy.copy(self)
        other.extra = extra
        return other

    def with_center(self, center: np.ndarray) -> Dataset:
        """Same rows with another center, not scaled and without extra columns."""
        return type(self)(self.X, center, weights=self.weights)

    def with_scale(self, scale: float) -> Dataset:
        """Same rows and center with another scale."""
        other = type(self)(self.X, self.center, scale, self.weights, self.extra)
        other.groups = self.groups
        for name in ("scatter", "squares"):
            if name in vars(self) and pca.is_precise(getattr(self, name)):
                vars(other)[name] = getattr(self, name) * (self.scale / scale) ** 2
        return other

    def feature_statistics(self) -> dict[str, np.ndarray]:
        """Mean "mean", standard deviation "std", minimum "low", maximum "high" of each feature."""
        if self.known_statistics is not None:
            return self.known_statistics
        n_features = self.shape[1]
        total, squares = np.zeros((2, n_features))
        low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        for part in self.parts():
            block, weights = self[part], self.weights_of(part)
            low, high = np.fmin(low, block.min(axis=0)), np.fmax(high, block.max(axis=0))
            weighted = block if weights is None else block * weights[:, None]
            total += weighted.sum(axis=0)
            squares += (weighted * block).sum(axis=0)
        mean = total / self.count
        # The rows are nearly centred, so that the difference is precise.
        std = np.sqrt(np.maximum(squares / self.count - mean**2, 0))
        return {"mean": mean, "std": std, "low": low, "high": high}

    def bounds(self) -> np.ndarray:
        """Lowest and highest standardized value of each feature, (2, n_features)."""
        if sparse.issparse(self.X):
            low, high = min_max_axis(self.X, axis=0)
        else:
            low, high = self._lowest_and_highest()
        return (np.array([low, high], dtype=float) - self.center) / self.scale

    def _lowest_and_highest(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest value of each feature of X, at the speed of a pass over memory."""
        n_together = min(len(self), ROWS_COMPARED)
        low = read_rows(self.X, slice(n_together)).copy()
        high = low.copy()
        for part in self.parts():
            block = read_rows(self.X, part)
            for rows in (block[i : i + n_together] for i in range(0, len(block), n_together)):
                for bound, choose in ((low, np.minimum), (high, np.maximum)):
                    some = bound[: len(rows)]
                    choose(some, rows, out=some)
        return low.min(axis=0), high.max(axis=0)

    def root_mean_square(self) -> float:
        """Root of the mean square of all standardized entries; 1 if it has no finite inverse."""
        n_entries = self.count * self.shape[1]
        if pca.is_precise(self.squares):
            return math.sqrt(self.squares / n_entries)
        largest = max(float(np.abs(block).max()) for block in self.blocks())
        if largest == 0:
            return 1.0
        squares = sum(
            float(np.square(block / largest).sum()) for block in self.blocks(weighted=True)
        )
        root = largest * math.sqrt(squares / n_entries)
        return root if root >= np.finfo(float).tiny else 1.0

    @cached_property
    def squares(self) -> float:
        """Sum of the squares of all standardized entries, infinite or zero out of range."""
        if self.is_tall:
            return float(np.trace(self.scatter))
        total = self._sum_of_squares(self.precision)
        low, high = pca.SINGLE_RANGE
        if self.precision is np.float32 and not low < total / self.count / self.shape[1] < high:
            return self._sum_of_squares(np.float64)
        return total

    def _sum_of_squares(self, dtype: Any) -> float:
        with np.errstate(over="ignore", under="ignore"):
            blocks = self.blocks(dtype, weighted=True)
            return float(sum(np.einsum("ij,ij->i", b, b).astype(float).sum() for b in blocks))

    @property
    def is_tall(self) -> bool:
        """Whether the scatter matrix is precise enough for PCA, and fits into memory."""
        n_rows, n_features = self.shape
        if self.is_out_of_core:
            fits = 8 * n_features**2 <= MEMORY_BYTES
        else:
            fits = n_features <= pca.FEW_FEATURES
        is_large = n_rows * n_features > pca.MANY_ENTRIES
        return fits and n_rows > pca.MANY_ROWS_PER_FEATURE * n_features and is_large

    @cached_property
    def scatter(self) -> np.ndarray:
        """Scatter matrix of the standardized rows, (n_features, n_features)."""
        return pca.scatter_matrix(self)

    def squares_along(self, components: np.ndarray) -> tuple[np.ndarray, float]:
        """Sum of squares along each orthonormal component, and the residual sum of squares."""
        return pca.squares_along(self, components)

    def principal_components(self, n_components: int) -> np.ndarray:
        """Principal components (n_components, n_features); zero where there are no more."""
        return pca.principal_components(self, n_components)


def constant_columns(X: Any, index: np.ndarray | None = None) -> Any:
    """Which columns are constant, in all rows or in those at `index`."""
    if sparse.issparse(X):
        low, high = min_max_axis(X if index is None else X[index], axis=0)
        return low == high

    order = np.arange(X.shape[0]) if index is None else index
    first = read_rows(X, order[:1])[0]
    constant = (read_rows(X, order[:100]) == first).all(axis=0)
    for part in gen_batches(len(order), rows_per_batch(X.shape[1])):
        suspects = np.flatnonzero(constant)
        if len(suspects) == 0:
            break
        rows = read_rows(X, part if index is None else index[part])
        constant[suspects] = (rows[:, suspects] == first[suspects]).all(axis=0)
    return constant
