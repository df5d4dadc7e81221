"""Rows of one fit that several processes hold: each has some partitions.

Whoever reads rows gets those of the whole table, which are gathered. So every computation is
right; those over all rows are sums over the processes, and gather nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._data import pca
from skae._data.batches import Batch, n_ordered_together, training_index
from skae._data.dataset import Dataset
from skae._data.dtypes_and_batch_sizes import MEMORY_BYTES, SAMPLE_ROWS
from skae._data.worker_group import WorkerGroup


class SharedRows:
    """Rows in the order of their partitions; indexing gathers them in all processes.

    Parameters
    ----------
    own : ndarray of shape (n_own, n_features)
        Rows of the partitions of this process, in order.
    lengths : ndarray of shape (n_partitions,)
        Number of rows of all partitions.
    partitions : ndarray of int
        Sorted indices of the partitions of this process.
    group : WorkerGroup
    """

    def __init__(
        self, own: np.ndarray, lengths: np.ndarray, partitions: np.ndarray, group: WorkerGroup
    ):
        self.own, self.group, self.dtype = own, group, own.dtype
        self.shape = int(lengths.sum()), own.shape[1]
        self.starts = np.cumsum(lengths) - lengths
        self.own_starts = np.full(len(lengths), -1)
        self.own_starts[partitions] = np.cumsum(lengths[partitions]) - lengths[partitions]

    def places(self, index: np.ndarray) -> np.ndarray:
        """Places of rows among the own rows, -1 for those of other processes."""
        partition = np.searchsorted(self.starts, index, side="right") - 1
        own = self.own_starts[partition]
        return np.where(own < 0, -1, own + index - self.starts[partition])

    def project(self, direction: np.ndarray) -> np.ndarray:
        """Projections (n_rows,) of all rows on a direction (n_features,)."""
        places = self.places(np.arange(self.shape[0]))
        projections = np.zeros(self.shape[0])
        projections[places >= 0] = self.own @ direction
        return self.group.sum(projections)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(*index.indices(self.shape[0]))
        places = self.places(index)
        rows = np.zeros((len(index), self.shape[1]), self.dtype)
        rows[places >= 0] = self.own[places[places >= 0]]
        return self.group.sum(rows)


class SharedDataset(Dataset):
    """Dataset of `SharedRows`.

    Attributes
    ----------
    own : Dataset
        The rows of this process.
    """

    X: SharedRows

    def __init__(
        self, X: SharedRows, center: np.ndarray, scale: float = 1.0, *others: Any, **_: Any
    ):
        super().__init__(X, center, scale)
        self.group, self.own = X.group, Dataset(X.own, center, scale)

    @classmethod
    def around_mean(cls, X: SharedRows) -> tuple[SharedDataset, np.ndarray]:
        """Rows around the mean of each column, and which columns are constant."""
        low, high = X.group.lowest(X.own.min(axis=0)), X.group.highest(X.own.max(axis=0))
        mean = X.group.sum(X.own.sum(axis=0, dtype=np.float64)) / X.shape[0]
        return cls(X, np.where(low == high, low, mean)), low == high

    @property
    def is_out_of_core(self) -> bool:
        """Whether rows are too many for a copy in each process."""
        return 4 * self.shape[0] * self.shape[1] > MEMORY_BYTES

    def any(self) -> bool:
        """Whether any standardized entry is not zero."""
        return bool(self.group.highest(int(self.own.any())))

    def feature_statistics(self) -> dict[str, np.ndarray]:
        """Mean "mean", standard deviation "std", minimum "low", maximum "high" of each feature."""
        own = self.own.feature_statistics()
        sums = np.array([own["mean"], np.square(own["std"]) + np.square(own["mean"])])
        mean, squares = self.group.sum(len(self.own) * sums) / self.count
        std = np.sqrt(np.maximum(squares - mean**2, 0))
        low, high = self.group.lowest(own["low"]), self.group.highest(own["high"])
        return {"mean": mean, "std": std, "low": low, "high": high}

    def bounds(self) -> np.ndarray:
        """Lowest and highest standardized value of each feature, (2, n_features)."""
        low, high = self.own.bounds()
        return np.array([self.group.lowest(low), self.group.highest(high)])

    @property
    def squares(self) -> float:
        """Sum of the squares of all standardized entries."""
        return float(np.trace(self.scatter) if self.is_tall else self.group.sum(self.own.squares))

    @property
    def scatter(self) -> np.ndarray:
        """Scatter matrix of the standardized rows, (n_features, n_features)."""
        # Until Python 3.12, a cached property has one lock for all objects of its class.
        if "scatter" not in vars(self):
            vars(self)["scatter"] = self.group.sum(pca.scatter_matrix(self.own))
        return vars(self)["scatter"]

    def squares_along(self, components: np.ndarray) -> tuple[np.ndarray, float]:
        """Sum of squares along each orthonormal component, and the residual sum of squares."""
        if self.is_tall:
            return super().squares_along(components)
        along, residual = self.own.squares_along(components)
        return self.group.sum(along), float(self.group.sum(residual))


class PartOfBatch(NamedTuple):
    """Which rows of a batch this process has."""

    n_rows: int  # of the whole batch
    positions: np.ndarray  # of the own rows in the batch


class SharedSource:
    """Training rows of which each process holds some. Each yields its own rows of each batch.

    Batches are those of one process that holds all rows: every process draws the same order.

    Parameters
    ----------
    rows : SharedDataset
    train : ndarray of int, or None
        Indices of the training rows; None means all that are not left out.
    left_out : ndarray of int, or None
    dtype : torch.dtype

    Attributes
    ----------
    part : PartOfBatch
        Of the batch that was yielded last.
    """

    weights: Tensor | None = None
    part: PartOfBatch

    def __init__(
        self,
        rows: SharedDataset,
        train: np.ndarray | None,
        left_out: np.ndarray | None,
        dtype: torch.dtype,
    ):
        train = training_index(len(rows), train, left_out)
        self.group, places = rows.group, rows.X.places(train)
        is_own = places >= 0
        self.own = rows.own.tensor(places[is_own], dtype)
        self.places = np.where(is_own, np.cumsum(is_own) - 1, -1)
        self.sample = rows.tensor(train[:SAMPLE_ROWS], dtype)

    def __len__(self) -> int:
        return len(self.places)

    def to(self, device: str) -> SharedSource:
        """Return the same rows: they are on the CPU."""
        return self

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield the own rows of each batch of the given sizes; all rows in a new order."""
        order = torch.randperm(len(self), generator=generator).numpy()
        n_together = n_ordered_together(sizes[0], self.sample[:1].nbytes)
        end = 0
        for i in range(0, len(sizes), n_together):
            edges = np.cumsum([0, *sizes[i : i + n_together]])
            start, end = end, end + edges[-1]
            places = self.places[order[start:end]]
            positions = np.flatnonzero(places >= 0)
            rows = self.own.index_select(0, torch.from_numpy(places[positions]))
            cuts = np.searchsorted(positions, edges)
            for j, size in enumerate(sizes[i : i + n_together]):
                part = slice(cuts[j], cuts[j + 1])
                self.part = PartOfBatch(size, positions[part] - edges[j])
                yield rows[part], None
