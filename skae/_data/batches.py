"""Batches of training rows, from memory or from out of core."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import _sparsetools
from sklearn.utils import gen_batches
from torch import Tensor

from skae._data.dataset import Dataset
from skae._data.dtypes_and_batch_sizes import (
    CHUNKS_PER_BUFFER,
    ORDERED_BYTES,
    SAMPLE_ROWS,
    SHUFFLE_BUFFER_BYTES,
    rows_per_batch,
)

# Of rows that stay sparse: largest share of entries that are not zero, least number of features.
LIMITS_IN_MEMORY = 0.02, 1000
LIMITS_OUT_OF_CORE = 0.1, 256  # the other way is to make the rows dense in each epoch
LARGEST_CENTER = 10.0  # of their features, in units of the scale: rounding errors grow with it

Batch = tuple[Tensor, Tensor | None]  # rows, and weights whose mean over all rows is one


def n_ordered_together(batch_size: int, row_bytes: int) -> int:
    """Number of batches whose rows are put in order at once, which bounds the memory."""
    return max(1, ORDERED_BYTES // (batch_size * row_bytes))


def training_index(n_rows: int, train: np.ndarray | None, left_out: np.ndarray | None) -> Any:
    """Indices of training rows: those of `train`, or all that are not left out."""
    if train is not None:
        return train
    index = np.arange(n_rows)
    return index if left_out is None else np.setdiff1d(index, left_out)


class Source(Protocol):
    """Training rows that batches are taken from.

    Attributes
    ----------
    sample : Tensor of shape (n_sample, n_features)
        All rows, or some that represent all.
    weights : Tensor of shape (n_sample,), or None
        Weights of the sample.
    """

    sample: Tensor
    weights: Tensor | None

    def __len__(self) -> int: ...

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all rows once, in a new order, in batches of the given sizes."""

    def to(self, device: str) -> Source:
        """Return the same rows for another device."""


class InMemorySource:
    """All rows in one tensor (n_rows, n_features), with weights (n_rows,) or None."""

    def __init__(self, sample: Tensor, weights: Tensor | None = None):
        self.sample, self.weights = sample, weights

    def __len__(self) -> int:
        return len(self.sample)

    def to(self, device: str) -> InMemorySource:
        """Return the same rows on another device."""
        weights = None if self.weights is None else self.weights.to(device)
        return InMemorySource(self.sample.to(device), weights)

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all rows once, in a new order, in batches of the given sizes.

        A batch is valid until the next one.
        """
        order = torch.randperm(len(self), generator=generator).to(self.sample.device)
        # Rows are put in order in one buffer: new ones would take memory and time.
        n_together = n_ordered_together(sizes[0], self.sample[:1].nbytes)
        n_rows = max(sum(sizes[i : i + n_together]) for i in range(0, len(sizes), n_together))
        buffer = self.sample.new_empty((n_rows, self.sample.shape[1]))
        end = 0
        for i in range(0, len(sizes), n_together):
            together = sizes[i : i + n_together]
            start, end = end, end + sum(together)
            index = order[start:end]
            some = torch.index_select(self.sample, 0, index, out=buffer[: len(index)])
            rows = some.split(together)
            if self.weights is None:
                yield from ((batch, None) for batch in rows)
            else:
                weights = self.weights.index_select(0, index).split(together)
                yield from zip(rows, weights, strict=True)


class OutOfCoreSource:
    """Rows that are read, or made dense, batch by batch.

    Neighbouring rows are read together, as chunks in a new order in each epoch. The rows of as
    many chunks as fit into the shuffle buffer are mixed. A batch is valid until the next one.

    Parameters
    ----------
    rows : Dataset
    left_out : ndarray of int
        Sorted indices of rows that are not trained on.
    dtype : torch.dtype
    scaled : bool, default=True
        Whether weights are scaled to a mean of one.
    """

    def __init__(
        self, rows: Dataset, left_out: np.ndarray, dtype: torch.dtype, *, scaled: bool = True
    ):
        self.rows, self.left_out, self.dtype, self.device = rows, left_out, dtype, "cpu"
        n_features = rows.shape[1]
        row_bytes = n_features * dtype.itemsize
        self.n_buffer = max(1, SHUFFLE_BUFFER_BYTES // row_bytes)
        self.n_chunk = min(rows_per_batch(n_features), max(1, self.n_buffer // CHUNKS_PER_BUFFER))
        self.mean_weight = 1.0
        if rows.weights is not None and scaled:
            rest = rows.weights.sum() - rows.weights[left_out].sum()
            self.mean_weight = rest / len(self)
        index = np.setdiff1d(rows.evenly_spaced(min(SAMPLE_ROWS, self.n_buffer)), left_out)
        self.sample = rows.tensor(index, dtype)
        self.weights = rows.tensor_of_weights(index, dtype)

    def __len__(self) -> int:
        return len(self.rows) - len(self.left_out)

    def to(self, device: str) -> OutOfCoreSource:
        """Return the same rows for another device."""
        other = copy.copy(self)
        other.device, other.sample = device, self.sample.to(device)
        other.weights = None if self.weights is None else self.weights.to(device)
        return other

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all rows once, in a new order, in batches of the given sizes."""
        parts = self._of_sizes(sizes, self._buffers(generator))
        for size in sizes:
            rows, weights = next(parts)
            while len(rows) < size:  # the buffer ends; the next one takes its memory
                first, first_weights = rows.clone(), weights
                rows, weights = next(parts)
                rows = torch.cat([first, rows])
                if weights is not None and first_weights is not None:
                    weights = torch.cat([first_weights, weights])
            yield rows, weights

    @staticmethod
    def _of_sizes(sizes: list[int], buffers: Iterator[Batch]) -> Iterator[Batch]:
        """Cut buffers where batches end; a batch may be in two parts."""
        wanted = iter(sizes)
        size = next(wanted)
        for rows, weights in buffers:
            start = 0
            while start < len(rows):
                stop = min(start + size, len(rows))
                yield rows[start:stop], None if weights is None else weights[start:stop]
                size -= stop - start
                start = stop
                if size == 0:
                    size = next(wanted, 0)

    def _buffers(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield all rows, mixed within each buffer; the next one overwrites it."""
        n_rows = CHUNKS_PER_BUFFER * self.n_chunk
        buffer = torch.empty((n_rows, self.rows.n_inputs), dtype=self.dtype)
        chunks = list(gen_batches(len(self.rows), self.n_chunk))
        order = torch.randperm(len(chunks), generator=generator).tolist()
        for start in range(0, len(order), CHUNKS_PER_BUFFER):
            some = order[start : start + CHUNKS_PER_BUFFER]
            index = np.concatenate([self._kept(chunks[i]) for i in some])
            if len(index) == 0:
                continue
            index = index[torch.randperm(len(index), generator=generator).numpy()]
            # One buffer for all: new ones would fragment the memory of the process.
            rows = self.rows.fill(buffer[: len(index)], index)
            yield rows.to(self.device), self._weights_of(index)

    def _weights_of(self, index: np.ndarray) -> Tensor | None:
        if self.rows.weights is None:
            return None
        weights = torch.from_numpy(self.rows.weights[index] / self.mean_weight)
        return weights.to(self.device, self.dtype)

    def _kept(self, chunk: slice) -> np.ndarray:
        """Indices of the rows of a chunk that are trained on."""
        start, stop = np.searchsorted(self.left_out, [chunk.start, chunk.stop])
        return np.setdiff1d(np.arange(chunk.start, chunk.stop), self.left_out[start:stop])


class SparseRows:
    """A batch of standardized rows that are kept sparse: ``matrix - center``.

    Products call scipy's routines directly, which needs neither a copy of the rows nor checks.

    Parameters
    ----------
    rows : tuple of ndarray
        Where each row starts and the last one ends, columns, and values, as in a CSR matrix. The
        values are divided by the scale.
    center : ndarray of shape (n_features,)
        The centre divided by the scale.
    squares : ndarray of shape (n_rows,)
        Sum of the squared values of each row.
    """

    def __init__(
        self,
        rows: tuple[np.ndarray, np.ndarray, np.ndarray],
        center: np.ndarray,
        squares: np.ndarray,
    ):
        self.rows, self.center, self.squares = rows, center, squares
        self.shape = len(squares), len(center)

    def __len__(self) -> int:
        return len(self.squares)

    def without_first(self, n_rows: int) -> SparseRows:
        """Return the rows after the first ones."""
        starts, columns, values = self.rows
        return SparseRows((starts[n_rows:], columns, values), self.center, self.squares[n_rows:])

    def times(self, dense: np.ndarray) -> np.ndarray:
        """Product of the matrix and a dense one, (n_features, n_columns)."""
        n_columns = dense.shape[1]
        result = np.zeros((len(self), n_columns), dense.dtype)
        _sparsetools.csr_matvecs(*self.shape, n_columns, *self.rows, dense.ravel(), result.ravel())
        return result

    def add_transposed_times(self, dense: np.ndarray, result: np.ndarray) -> None:
        """Add the product of the transposed matrix and a dense one to a contiguous result."""
        flat = torch.from_numpy(result).view(-1).numpy()  # never a copy
        _sparsetools.csc_matvecs(*self.shape[::-1], dense.shape[1], *self.rows, dense.ravel(), flat)


class SparseSource:
    """Rows of a CSR matrix, in batches that stay sparse, on the CPU.

    Parameters
    ----------
    rows : Dataset
        Its rows are CSR, without extra columns.
    index : ndarray of int
        Indices of the rows that are trained on.
    dtype : torch.dtype
    """

    def __init__(self, rows: Dataset, index: np.ndarray, dtype: torch.dtype):
        numbers = np.float64 if dtype == torch.float64 else np.float32
        data = np.divide(rows.X.data, rows.scale, dtype=np.float64).astype(numbers, copy=False)
        self.index = index
        self.matrix = sparse.csr_array((data, rows.X.indices, rows.X.indptr), shape=rows.shape)
        squares = np.asarray(self.matrix.power(2).sum(axis=1)).ravel()
        self.squares = squares.astype(numbers, copy=False)
        self.center = (rows.center / rows.scale).astype(numbers)
        self.weights_of_all = rows.tensor_of_weights(index, dtype)
        n_sample = max(1, SHUFFLE_BUFFER_BYTES // (rows.shape[1] * dtype.itemsize))
        n_sample = min(SAMPLE_ROWS, n_sample, len(index))
        chosen = np.linspace(0, len(index) - 1, n_sample).astype(int)
        self.sample = rows.tensor(index[chosen], dtype)
        self.weights = None if self.weights_of_all is None else self.weights_of_all[chosen]

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: str) -> SparseSource:
        """Return the rows themselves: products with sparse rows are for the CPU."""
        return self

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Any]:
        """Yield all rows once, as `SparseRows`, in the order of `InMemorySource`."""
        order = torch.randperm(len(self), generator=generator)
        batches = order.split(sizes)
        row_bytes = 1 + 8 * self.matrix.nnz // self.matrix.shape[0]
        n_together = n_ordered_together(sizes[0], row_bytes)
        for i in range(0, len(sizes), n_together):
            some = batches[i : i + n_together]
            index = self.index[torch.cat(some).numpy()]
            matrix, squares, start = self.matrix[index], self.squares[index], 0
            for batch in some:
                stop = start + len(batch)
                starts = matrix.indptr[start : stop + 1]
                rows = starts, matrix.indices, matrix.data
                weights = None if self.weights_of_all is None else self.weights_of_all[batch]
                yield SparseRows(rows, self.center, squares[start:stop]), weights
                start = stop


def stays_sparse(rows: Dataset) -> bool:
    """Whether training steps on sparse rows are faster than on dense ones, and as precise."""
    if not sparse.issparse(rows.X) or rows.extra is not None:
        return False
    filled, least = LIMITS_OUT_OF_CORE if rows.is_out_of_core else LIMITS_IN_MEMORY
    n_rows, n_features = rows.shape
    is_thin = rows.X.nnz <= filled * n_rows * n_features
    is_centred = np.abs(rows.center).max() <= LARGEST_CENTER * rows.scale
    return bool(n_features >= least and is_thin and is_centred)


class BatchIterator:
    """Batches of all rows of a source, in a new order in each epoch.

    A short last batch is kept; a last batch of one row joins the batch before it.
    """

    def __init__(self, source: Source, batch_size: int, generator: torch.Generator):
        self.source, self.generator = source, generator
        batches = gen_batches(len(source), batch_size, min_batch_size=2)
        self.sizes = [batch.stop - batch.start for batch in batches]

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.source.take(self.sizes, self.generator)
