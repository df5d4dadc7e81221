"""Cells of the columns of a table: categories, distinct values, or intervals of a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import norm

from skae._data.table_columns import UNMODELLED, Column
from skae.networks.columns import CellLayout

MANY_VALUES = 30  # a number of more distinct values has intervals as entries
N_INTERVALS = 8  # of equal frequency; a value of at least PILE of their share is one of its own
PILE = 0.75
MOST_CELLS = 1000  # of a column of numbers
EDGE = 1e3  # score beyond the outermost cells
EXTREME = 1e-4  # smallest distance of a rank from 0 and 1, whose score is finite
MOST_DECIMALS = 8
# Contrasts: correlations of scores, numbers of rows and of pairs.
CLOSE, EQUAL = 0.8, 1 - 1e-9
FEWEST_PAIRS, MOST_CONTRASTS = 20, 24


@dataclass(frozen=True)
class ColumnCells:
    """The cells of one column, in order.

    A cell is a value, or the values between `low` and `high` if the column has too many. Cells
    are grouped in entries: of numbers of many values intervals of similar frequency, of other
    columns each cell.

    Attributes
    ----------
    kind : {"category", "value", "number"}
    low, high, mean : ndarray of shape (n_cells,)
        Smallest, largest and mean training value of each cell.
    count : ndarray of shape (n_cells,)
    score : ndarray of shape (n_cells,)
        Normal score: the rank of the cell on the scale of a standard normal distribution,
        standardized. Zero for categories.
    entry : ndarray of int, of shape (n_cells,)
    decimals : int or None
        Decimal places to which values drawn inside a cell are rounded.
    moments : tuple of two float
        Mean and standard deviation of the training values.
    """

    kind: str
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    count: np.ndarray
    score: np.ndarray
    entry: np.ndarray
    decimals: int | None
    moments: tuple[float, float]

    @classmethod
    def of_categories(cls, codes: np.ndarray, n_categories: int, *, ordered: bool) -> ColumnCells:
        """Cells of observed codes 0 to ``n_categories - 1``, each category one cell."""
        count = np.bincount(codes.astype(int), minlength=n_categories).astype(float)
        low = np.arange(n_categories, dtype=float)
        score = _normal_scores(count) if ordered else np.zeros(n_categories)
        moments = _moments(low, count)
        return cls("category", low, low, low, count, score, np.arange(n_categories), 0, moments)

    @classmethod
    def of_numbers(cls, values: np.ndarray) -> ColumnCells:
        """Cells of the observed values of a number."""
        distinct, count = np.unique(values, return_counts=True)
        count = count.astype(float)
        scores = _normal_scores(count)
        decimals, moments = _decimals(distinct), _moments(distinct, count)
        if len(distinct) <= MANY_VALUES:
            entry = np.arange(len(distinct))
            own = distinct, distinct, distinct, count, scores, entry
            return cls("value", *own, decimals, moments)
        group = np.arange(len(distinct))
        if len(distinct) > MOST_CELLS:
            group = _intervals(count, MOST_CELLS)
        first = np.flatnonzero(np.r_[True, np.diff(group) > 0])
        last = np.r_[first[1:], len(distinct)] - 1
        cell_count = np.add.reduceat(count, first)
        return cls(
            "number",
            distinct[first],
            distinct[last],
            np.add.reduceat(count * distinct, first) / cell_count,
            cell_count,
            np.add.reduceat(count * scores, first) / cell_count,
            _intervals(cell_count, N_INTERVALS),
            decimals,
            moments,
        )

    @classmethod
    def of_column(cls, column: Column, values: np.ndarray) -> ColumnCells:
        """Cells of a column, of its values (n_samples,), NaN in gaps."""
        known = values[~np.isnan(values)]
        if column.is_category:
            ordered = column.kind == "ordered"
            return cls.of_categories(known, column.n_categories, ordered=ordered)
        if column.kind in UNMODELLED:
            return cls.of_categories(np.zeros(1), 1, ordered=False)
        return cls.of_numbers(known)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.low)

    @property
    def n_entries(self) -> int:
        """Number of entries."""
        return int(self.entry[-1]) + 1

    @property
    def is_scored(self) -> bool:
        """Whether the cells have an order, and so scores."""
        return self.kind != "category" or bool(self.score.any())

    @property
    def frequencies(self) -> np.ndarray:
        """Frequency of each entry, (n_entries,); of a category without rows as of half a row."""
        count = np.maximum(np.bincount(self.entry, self.count), 0.5)
        return count / count.sum()

    # Of what follows, drawing rows needs the same for every few rows.

    @cached_property
    def shares(self) -> np.ndarray:
        """Frequency of each cell in its entry, (n_cells,)."""
        if self.kind != "number":
            return np.ones(self.n_cells)
        return self.count / np.bincount(self.entry, self.count)[self.entry]

    @cached_property
    def rows_up_to_cells(self) -> np.ndarray:
        """Number of rows up to the end of each cell, (n_cells,)."""
        return np.cumsum(self.count)

    @cached_property
    def rows_up_to_entries(self) -> np.ndarray:
        """Number of rows up to the end of each entry, (n_entries,)."""
        return np.cumsum(np.bincount(self.entry, self.count))

    @cached_property
    def bounds(self) -> np.ndarray:
        """Values halfway between neighbouring cells, (n_cells - 1,)."""
        return (self.high[:-1] + self.low[1:]) / 2

    @cached_property
    def edges(self) -> np.ndarray:
        """Scores between the cells, and beyond the outermost, (n_cells + 1,)."""
        return np.r_[-EDGE, (self.score[1:] + self.score[:-1]) / 2, EDGE]

    @property
    def means_of_entries(self) -> np.ndarray:
        """Mean training value of each entry, (n_entries,)."""
        total = np.bincount(self.entry, np.maximum(self.count, 1e-9))
        return np.bincount(self.entry, np.maximum(self.count, 1e-9) * self.mean) / total

    def cells_of(self, values: np.ndarray) -> np.ndarray:
        """Number of the cell of each value that is not missing; outside, of the outermost ones.

        A value between two cells belongs to the nearer one.
        """
        return np.searchsorted(self.bounds, values, side="right")

    def scores_of(self, values: np.ndarray) -> np.ndarray:
        """Score of each value that is not missing."""
        return np.interp(values, self.mean, self.score)

    def values_at(self, scores: np.ndarray) -> np.ndarray:
        """Values of scores: the inverse of `scores_of`."""
        return np.interp(scores, self.score, self.mean)

    def draw(self, cells: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
        """Draw a value from each of the cells, uniformly between its bounds."""
        low, high = self.low[cells], self.high[cells]
        if self.kind != "number" or (low == high).all():
            return low
        values = low + random_state.random_sample(len(cells)) * (high - low)
        if self.decimals is not None:
            values = np.clip(np.round(values, self.decimals), low, high)
        return np.where(low == high, low, values)

    def to_state(self) -> dict[str, Any]:
        """Values and arrays from which the cells can be made again."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def _moments(values: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, also of numbers whose squares over- or underflow."""
    with np.errstate(over="ignore"):
        mean = np.average(values, weights=count)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=count))
    if (np.isfinite(mean) and 0 < deviation < np.inf) or (values == values[0]).all():
        return float(mean), float(deviation)
    size, share = np.abs(values).max(), count / count.sum()
    center = share @ (values / size)
    deviation = np.sqrt(share @ (values / size - center) ** 2) * size
    return float(center * size), float(max(deviation, np.finfo(float).smallest_subnormal))


def _normal_scores(count: np.ndarray) -> np.ndarray:
    """Standardized normal scores of values in order, each with a count."""
    share = count / count.sum()
    rank = np.cumsum(share) - share / 2
    scores = norm.ppf(np.clip(rank, EXTREME, 1 - EXTREME))
    scores -= share @ scores
    deviation = np.sqrt(share @ scores**2)
    return scores / deviation if deviation > 0 else scores


def _intervals(count: np.ndarray, n_intervals: int) -> np.ndarray:
    """Group values in order into intervals of similar counts; a pile of equal values is alone."""
    target, group = count.sum() / n_intervals, np.empty(len(count), int)
    current, filled = 0, 0.0
    for i, size in enumerate(count.tolist()):
        is_pile = size >= PILE * target
        if filled and (is_pile or filled + size / 2 > target):
            current, filled = current + 1, 0.0
        group[i] = current
        filled += size
        if is_pile:
            current, filled = current + 1, 0.0
    return group


def _decimals(values: np.ndarray) -> int | None:
    """Fewest decimal places that all values have; None if they have many."""
    for decimals in range(MOST_DECIMALS + 1):
        if np.array_equal(np.round(values, decimals), values):
            return decimals
    return None


def layout_of(
    columns: list[ColumnCells], n_logistic: int, contrasts: Sequence[tuple[int, int, float]] = ()
) -> CellLayout:
    """Layout of a network for columns, of which those of many values come last.

    `contrasts` are as of `find_contrasts`.
    """
    are_numbers = [column.kind == "number" for column in columns]
    if are_numbers != sorted(are_numbers):
        raise ValueError("columns of numbers must come after all others")
    return CellLayout(
        tuple(column.n_entries for column in columns),
        tuple(column.is_scored for column in columns),
        sum(are_numbers),
        n_logistic,
        tuple(contrasts),
    )


def find_contrasts(columns: list[ColumnCells], values: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs of scored columns whose scores are closely correlated, the closest ones."""
    scores = np.full(values.shape, np.nan)
    scored = [j for j, column in enumerate(columns) if column.is_scored]
    for j in scored:
        known = ~np.isnan(values[:, j])
        scores[known, j] = columns[j].scores_of(values[known, j])
    found = []
    for one, other in combinations(scored, 2):
        both = scores[:, [one, other]]
        both = both[~np.isnan(both).any(axis=1)]
        if len(both) < FEWEST_PAIRS or (both == both[0]).all(axis=0).any():
            continue
        correlation = float(np.corrcoef(both.T)[0, 1])
        if CLOSE <= abs(correlation) < EQUAL:
            found.append((one, other, correlation))
    return sorted(found, key=lambda pair: -abs(pair[2]))[:MOST_CONTRASTS]


def to_cells(columns: list[ColumnCells], layout: CellLayout, values: np.ndarray) -> np.ndarray:
    """Cells (n_rows, n_cell_columns) of values (n_rows, n_columns), float32, NaN is missing."""
    n_rows = len(values)
    cells = np.zeros((n_rows, layout.n_cell_columns), np.float32)
    entry, score, observed, share, lower, upper = layout.split_cells(cells)
    for j, column in enumerate(columns):
        known = ~np.isnan(values[:, j])
        observed[:, j] = known
        own = values[known, j]
        at = column.cells_of(own)
        entry[known, j], share[known, j] = column.entry[at], column.shares[at]
        if layout.is_scored[j]:
            score[known, j] = column.scores_of(own)
        if column.kind == "number":
            i, edges = j - layout.n_discrete, column.edges
            lower[known, i], upper[known, i] = edges[at], edges[at + 1]
    return cells
