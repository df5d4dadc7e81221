"""Batches of training rows, from memory or from out of core."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
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

Batch = tuple[Tensor, Tensor | None]  # rows, and weights whose mean over all rows is one


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
        # Rows are put in order some batches at a time, in one buffer: new ones would take memory
        # and time.
        n_together = max(1, ORDERED_BYTES // (sizes[0] * self.sample[:1].nbytes))
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
