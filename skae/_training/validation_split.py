"""Which rows are held out to validate training, and how much better trained weights must be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtrit
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, ShuffleSplit
from sklearn.utils.random import sample_without_replacement

from skae._data.dataset import Dataset

# Numbers of units: of rows, or of groups of rows that are held out together.
MIN_UNITS = 10  # below, nothing can be judged, and PCA is kept
FEW_UNITS = 100  # below, folds are made twice, and every epoch has a lower bound of its gain
MIN_UNITS_TO_CROSS_VALIDATE = 80
MIN_UNITS_TO_TRUST_ONE_SPLIT = 500
MIN_HELD_OUT_TO_TRUST = 500  # rows of one split that chooses the number of components
N_FOLDS = 5
HELD_OUT_BYTES = 16 * 2**20  # of validation rows in memory
MAX_STRATIFIED_ROWS = 1000  # rows that stratified folds are made of

Split = tuple[np.ndarray, np.ndarray]  # indices of training rows and of held-out rows


def hold_out(rows: Dataset, fraction: float, seed: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Indices of the training rows and of the held-out rows.

    If a feature would be constant without a held-out row, the row is moved to the training rows:
    PCA is computed from all rows, so the network must see this feature vary too. If more than
    half of the held-out rows are like this, all stay held out. Out of core, no more rows are held
    out than fit into memory, and the indices of the training rows are None: all others.
    """
    if rows.is_out_of_core:
        return None, _held_out_of_core(rows, fraction, seed)
    train, held_out = _one_split(rows, fraction, seed)
    needed = rows.first_varying_rows(train, held_out)
    if rows.units is not None:
        needed = held_out[np.isin(rows.units[held_out], rows.units[needed])]
    if 2 * len(needed) > len(held_out):
        return train, held_out
    return np.concatenate([train, needed]), held_out[~np.isin(held_out, needed)]


def _one_split(rows: Dataset, fraction: float, seed: int) -> Split:
    """One random split with a row to train on at least; rows of a unit stay together."""
    kind = ShuffleSplit if rows.units is None else GroupShuffleSplit
    n_held_out = min(math.ceil(fraction * rows.n_units), rows.n_units - 1)
    splitter = kind(1, test_size=n_held_out, random_state=seed)
    return next(splitter.split(np.empty(len(rows)), groups=rows.units))


def _held_out_of_core(rows: Dataset, fraction: float, seed: int) -> np.ndarray:
    """Indices of rows to hold out, no more than fit into memory."""
    n_held_out = min(math.ceil(fraction * len(rows)), _n_that_fit(rows))
    if rows.units is not None:
        held_out = _one_split(rows, n_held_out / len(rows), seed)[1]
        units = np.random.RandomState(seed).permutation(np.unique(rows.units[held_out]))
        sizes = np.bincount(rows.units)[units]
        kept = np.cumsum(sizes) <= max(_n_that_fit(rows), sizes[0])
        return held_out[np.isin(rows.units[held_out], units[kept])]
    chosen = sample_without_replacement(
        len(rows),
        n_held_out,
        method="tracking_selection",  # memory for the chosen rows, not for all
        random_state=seed,
    )
    return np.sort(chosen)


def hold_out_among(
    candidates: np.ndarray, n_rows: int, fraction: float, seed: int, units: Any = None
) -> Split:
    """Indices of the training rows and of the held-out rows, which are some of the candidates.

    Only candidates whose whole unit are candidates are held out.
    """
    if units is not None:
        others = np.setdiff1d(np.arange(n_rows), candidates)
        whole = np.setdiff1d(units, units[others])
        chosen = np.random.RandomState(seed).permutation(whole)[: int(fraction * len(whole))]
        held_out = np.flatnonzero(np.isin(units, chosen))
        return np.setdiff1d(np.arange(n_rows), held_out), held_out
    n_held_out = int(fraction * len(candidates))
    held_out = np.random.RandomState(seed).permutation(candidates)[:n_held_out]
    return np.setdiff1d(np.arange(n_rows), held_out), held_out


def rows_in_memory(held_out: Dataset) -> np.ndarray:
    """Indices of evenly spaced rows of the user's validation rows, as many as fit into memory."""
    return held_out.evenly_spaced(_n_that_fit(held_out))


def _n_that_fit(rows: Dataset) -> int:
    return max(1, HELD_OUT_BYTES // (4 * rows.shape[1]))


def five_folds(rows: Dataset, seed: Any) -> list[Split]:
    """Five folds; rows of a unit are in one fold."""
    kind: Any = KFold if rows.units is None else GroupKFold
    splitter = kind(min(N_FOLDS, rows.n_units), shuffle=True, random_state=seed)
    return list(splitter.split(np.empty(len(rows)), groups=rows.units))


def folds_for_components(rows: Dataset, fraction: float, seed: int) -> list[Split]:
    """Splits that choose the number of components: five folds, or one split of a large table.

    There must be two units or more.
    """
    if fraction * len(rows) >= MIN_HELD_OUT_TO_TRUST:
        return [_one_split(rows, fraction, seed)]
    return five_folds(rows, seed)


def _stratified_order(targets: np.ndarray, seed: int) -> np.ndarray:
    """Indices of rows, sorted by their targets; rows of equal targets in random order."""
    index = np.random.RandomState(seed).permutation(len(targets))
    return index[np.lexsort(targets[index].T)]


def stratified_hold_out(
    targets: np.ndarray, fraction: float, seed: int, units: Any = None
) -> Split:
    """Indices of training rows and held-out rows, stratified by targets (n_rows, n_columns)."""
    if units is not None:
        split = stratified_hold_out(_means_of_units(targets, units), fraction, seed)
        return _rows_of_units(units, *split)
    order = _stratified_order(targets, seed)
    n_held_out = int(np.ceil(fraction * len(order)))
    middles = ((np.arange(n_held_out) + 0.5) * len(order) / n_held_out).astype(int)
    return np.sort(np.delete(order, middles)), np.sort(order[middles])


def stratified_folds(targets: np.ndarray, seed: int, units: Any = None) -> Iterator[Split]:
    """Five folds of at most 1,000 rows or units, stratified by targets (n_rows, n_columns)."""
    if units is not None:
        for split in stratified_folds(_means_of_units(targets, units), seed):
            yield _rows_of_units(units, *split)
        return
    order = _stratified_order(targets, seed)
    if len(order) > MAX_STRATIFIED_ROWS:
        order = order[np.linspace(0, len(order) - 1, MAX_STRATIFIED_ROWS).astype(int)]
    fold = np.arange(len(order)) % N_FOLDS
    for i in range(N_FOLDS):
        yield np.sort(order[fold != i]), np.sort(order[fold == i])


def _means_of_units(targets: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Mean targets of each unit, (n_units, n_columns)."""
    labels = np.unique(units, return_inverse=True)[1]
    sums = np.zeros((labels.max() + 1, targets.shape[1]))
    np.add.at(sums, labels, targets)
    return sums / np.bincount(labels)[:, None]


def _rows_of_units(units: np.ndarray, *parts: np.ndarray) -> Any:
    """Indices of the rows of some units, which are given by their place in sorted order."""
    labels = np.unique(units, return_inverse=True)[1]
    return tuple(np.flatnonzero(np.isin(labels, part)) for part in parts)


# -- is the gain significant? ------------------------------------------------------


def standard_errors_needed(n_units: int) -> int:
    """Number of standard errors by which trained weights must be better in cross-validation.

    Below 200 rows, folds resemble each other more than they resemble new rows: gains of three
    standard errors were losses on new rows.
    """
    return 2 if n_units >= 200 else 4


def mean_and_error(
    values: np.ndarray, weights: np.ndarray | None = None, units: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean over rows of values (..., n_rows), its standard error, and the number of units.

    The error is robust to dependent rows of a unit [1]_, so that a row of weight two counts like
    two copies of it.

    References
    ----------
    .. [1] Liang and Zeger (1986). Longitudinal data analysis using generalized linear models.
       Biometrika 73. https://doi.org/10.1093/biomet/73.1.13
    """
    w = np.ones(values.shape[-1]) if weights is None else weights
    mean = np.average(values, axis=-1, weights=w)
    distances = (values - mean[..., None]) * w
    if units is not None:
        order = np.argsort(units, kind="stable")
        starts = np.flatnonzero(np.diff(units[order], prepend=-1))
        distances = np.add.reduceat(distances[..., order], starts, axis=-1)
    return mean, np.sqrt(np.square(distances).sum(axis=-1)) / w.sum(), distances.shape[-1]


def is_better(
    scores: Any,
    baseline: Any,
    *,
    n_standard_errors: float,
    weights: np.ndarray | None = None,
    units: np.ndarray | None = None,
) -> bool:
    """Whether paired scores are lower than a baseline by so many standard errors of the mean."""
    gains = np.asarray((baseline - scores).tolist())
    gain, error, _ = mean_and_error(gains, weights, units)
    return bool(gain > n_standard_errors * error)


def upper_bounds(
    values: np.ndarray,
    n_standard_errors: float,
    weights: np.ndarray | None = None,
    units: np.ndarray | None = None,
) -> np.ndarray:
    """Upper confidence bounds of means over rows, (n_epochs,), of values (n_epochs, n_rows).

    With few units, the number of standard errors is that of Student's t distribution.
    """
    mean, error, n_units = mean_and_error(values, weights, units)
    if n_units < 2:
        return np.full(len(mean), np.inf)
    quantile = stdtrit(n_units - 1, ndtr(n_standard_errors))
    return mean + quantile * error * math.sqrt(n_units / (n_units - 1))
