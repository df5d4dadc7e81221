"""Coordinates of mixed data, whose principal components are those of FAMD."""

from __future__ import annotations

from typing import Any

import numpy as np

from skae._latent.column_cells import ColumnCells


class FamdCoordinates:
    """Numbers as standard scores, categories as indicators over the root of their frequency.

    Principal components of these coordinates are the factor analysis of mixed data (FAMD) [1]_. A
    number has variance one; a column of K observed categories has total variance K - 1.

    References
    ----------
    .. [1] Pagès (2004). Analyse factorielle de données mixtes. Revue de statistique appliquée 52.
       http://www.numdam.org/item/RSA_2004__52_4_93_0/
    """

    def __init__(self, columns: list[ColumnCells], mean: np.ndarray, scale: np.ndarray):
        self.columns, self.mean, self.scale = columns, mean, scale
        sizes = [c.n_cells if c.kind == "category" else 1 for c in columns]
        ends = np.cumsum(sizes, dtype=int)
        self.slices = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        self.owners = np.repeat(np.arange(len(columns)), sizes)

    @classmethod
    def of_columns(cls, columns: list[ColumnCells]) -> FamdCoordinates:
        """Coordinates with the means and deviations of the training values.

        A category without rows, which `partial_fit` may know, has the scale of one of K equally
        frequent ones. That of the few rows it may have later would let it outweigh all others.
        """
        means, scales = [np.zeros(0)], [np.zeros(0)]
        for column in columns:
            share = column.count / column.count.sum()
            if column.kind == "category":
                means.append(share)
                scales.append(np.sqrt(np.where(share > 0, share, 1 / len(share))))
            else:
                mean, scale = column.moments
                means.append(np.array([mean]))
                scales.append(np.array([scale]))
        return cls(columns, np.concatenate(means), np.concatenate(scales))

    @property
    def n_coordinates(self) -> int:
        """Number of coordinates."""
        return len(self.mean)

    def from_values(self, values: np.ndarray) -> np.ndarray:
        """Coordinates (n_rows, n_coordinates) of values (n_rows, n_columns); zero in gaps."""
        coordinates = np.zeros((len(values), self.n_coordinates))
        for j, column in enumerate(self.columns):
            known = np.flatnonzero(~np.isnan(values[:, j]))
            own = values[known, j]
            if column.kind == "category":
                indicators = own[:, None] == np.arange(column.n_cells)
                coordinates[known, self.slices[j]] = self._scaled(j, indicators)
            else:
                coordinates[known, self.slices[j].start] = self._scaled(j, own[:, None])[:, 0]
        return coordinates

    def set_expected(
        self, coordinates: np.ndarray, j: int, rows: np.ndarray, expected: np.ndarray
    ) -> None:
        """Set a column of some rows to its mean, or to the probabilities of its categories."""
        expected = expected if expected.ndim == 2 else expected[:, None]
        coordinates[rows, self.slices[j]] = self._scaled(j, expected)

    def to_values(self, coordinates: np.ndarray) -> np.ndarray:
        """Values (n_rows, n_columns): numbers as in training, and likeliest categories.

        Numbers lie in the training range, and are whole if all training values are.
        """
        values = np.empty((len(coordinates), len(self.columns)))
        for j, column in enumerate(self.columns):
            where = self.slices[j]
            raw = coordinates[:, where] * self.scale[where] + self.mean[where]
            if column.kind == "category":
                values[:, j] = raw.argmax(axis=1)
            else:
                inside = np.clip(raw[:, 0], column.low[0], column.high[-1])
                values[:, j] = np.rint(inside) if column.decimals == 0 else inside
        return values

    def sum_by_column(self, squares: np.ndarray) -> np.ndarray:
        """Sums (n_rows, n_columns) over the coordinates of each column."""
        starts = [where.start for where in self.slices]
        return np.add.reduceat(squares, starts, axis=1)

    def _scaled(self, j: int, values: Any) -> np.ndarray:
        where = self.slices[j]
        return (values - self.mean[where]) / self.scale[where]

    def __getstate__(self) -> dict[str, Any]:
        columns = [column.to_state() for column in self.columns]
        return {"columns": columns, "mean": self.mean, "scale": self.scale}

    def __setstate__(self, state: dict[str, Any]) -> None:
        columns = [ColumnCells(**column) for column in state["columns"]]
        FamdCoordinates.__init__(self, columns, state["mean"], state["scale"])
