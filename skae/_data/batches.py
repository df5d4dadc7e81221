"""Training rows batch by batch: from one tensor, or from outside of memory."""

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

Batch = tuple[Tensor, Tensor | None]  # rows and their weights, whose mean over all rows is one


class Source(Protocol):
    """Where training rows come from.

    Attributes
    ----------
    sample : Tensor of shape (n_sample, n_features)
        All rows, or some that stand for all.
    weights : Tensor of shape (n_sample,), or None
        Of the sample.
    """

    sample: Tensor
    weights: Tensor | None

    def __len__(self) -> int: ...

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all rows once, in a new order, in batches of some sizes."""

    def to(self, device: str) -> Source:
        """Return the same rows, which come to a device."""


class InMemorySource:
    """Rows in one tensor.

    Parameters
    ----------
    sample : Tensor of shape (n_rows, n_features)
    weights : Tensor of shape (n_rows,), default=None
    """

    def __init__(self, sample: Tensor, weights: Tensor | None = None):
        self.sample, self.weights = sample, weights

    def __len__(self) -> int:
        return len(self.sample)

    def to(self, device: str) -> InMemorySource:
        """Move the rows.

        Parameters
        ----------
        device : str

        Returns
        -------
        InMemory
        """
        weights = None if self.weights is None else self.weights.to(device)
        return InMemorySource(self.sample.to(device), weights)

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """All rows once, in a new order.

        Parameters
        ----------
        sizes : list of int
            Rows of each batch.
        generator : torch.Generator

        Yields
        ------
        rows, weights
        """
        order = torch.randperm(len(self), generator=generator).to(self.sample.device)
        # Rows are put in order some batches at a time, which bounds the memory.
        n_together = max(1, ORDERED_BYTES // (sizes[0] * self.sample[:1].nbytes))
        end = 0
        for i in range(0, len(sizes), n_together):
            together = sizes[i : i + n_together]
            start, end = end, end + sum(together)
            index = order[start:end]
            rows = self.sample.index_select(0, index).split(together)
            if self.weights is None:
                yield from ((batch, None) for batch in rows)
            else:
                weights = self.weights.index_select(0, index).split(together)
                yield from zip(rows, weights, strict=True)


class OutOfCoreSource:
    """Rows that are read, or made dense, when their turn comes.

    Rows that lie side by side are read together, in pieces that come in a new order each
    time; the rows of as many pieces as fit into 16 MiB are mixed with each other. A batch is
    valid until the next one is asked for.

    Parameters
    ----------
    rows : Dataset
    left_out : ndarray of int
        Indices of rows that are not trained on, sorted.
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
        """Return the same rows for another device.

        Parameters
        ----------
        device : str

        Returns
        -------
        Outside
        """
        other = copy.copy(self)
        other.device, other.sample = device, self.sample.to(device)
        other.weights = None if self.weights is None else self.weights.to(device)
        return other

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """All rows once, in a new order.

        Parameters
        ----------
        sizes : list of int
            Rows of each batch.
        generator : torch.Generator

        Yields
        ------
        rows, weights
        """
        pieces = self._of_sizes(sizes, self._buffers(generator))
        for size in sizes:
            rows, weights = next(pieces)
            while len(rows) < size:  # the pool ends; the next one takes its memory
                before, their = rows.clone(), weights
                rows, weights = next(pieces)
                rows = torch.cat([before, rows])
                if weights is not None and their is not None:
                    weights = torch.cat([their, weights])
            yield rows, weights

    @staticmethod
    def _of_sizes(sizes: list[int], pools: Iterator[Batch]) -> Iterator[Batch]:
        """Cut pools where batches end, and where pools do."""
        wanted = iter(sizes)
        size = next(wanted)
        for rows, weights in pools:
            start = 0
            while start < len(rows):
                stop = min(start + size, len(rows))
                yield rows[start:stop], None if weights is None else weights[start:stop]
                size -= stop - start
                start = stop
                if size == 0:
                    size = next(wanted, 0)

    def _buffers(self, generator: torch.Generator) -> Iterator[Batch]:
        """All rows, mixed within each pool, which is overwritten by the next."""
        pool = torch.empty((CHUNKS_PER_BUFFER * self.n_chunk, self.rows.n_inputs), dtype=self.dtype)
        pieces = list(gen_batches(len(self.rows), self.n_chunk))
        order = torch.randperm(len(pieces), generator=generator).tolist()
        for start in range(0, len(order), CHUNKS_PER_BUFFER):
            index = np.concatenate(
                [self._kept(pieces[i]) for i in order[start : start + CHUNKS_PER_BUFFER]]
            )
            if len(index) == 0:
                continue
            index = index[torch.randperm(len(index), generator=generator).numpy()]
            weights = None
            if self.rows.weights is not None:
                weights = torch.from_numpy(self.rows.weights[index] / self.mean_weight)
                weights = weights.to(self.device, self.dtype)
            # Pools of their own would leave holes in the memory of the process.
            yield self.rows.fill(pool[: len(index)], index).to(self.device), weights

    def _kept(self, piece: slice) -> np.ndarray:
        """Indices of the rows of a piece that are trained on."""
        start, stop = np.searchsorted(self.left_out, [piece.start, piece.stop])
        return np.setdiff1d(np.arange(piece.start, piece.stop), self.left_out[start:stop])


class BatchIterator:
    """All rows of a source once a pass, in batches.

    A short last batch is kept; a last batch of one row joins the batch before it.

    Parameters
    ----------
    source : InMemory or Outside
    batch_size : int
    generator : torch.Generator
        Draws a new order of the rows for each pass.
    """

    def __init__(self, source: Source, batch_size: int, generator: torch.Generator):
        self.source, self.generator = source, generator
        batches = gen_batches(len(source), batch_size, min_batch_size=2)
        self.sizes = [batch.stop - batch.start for batch in batches]

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.source.take(self.sizes, self.generator)
