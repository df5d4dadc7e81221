"""Which rows are held out to validate training, and how much better trained weights must be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, ShuffleSplit, train_test_split
from sklearn.utils.random import sample_without_replacement

from skae._data.dataset import Dataset

MIN_ROWS_TO_HOLD_OUT = 30
MIN_ROWS_TO_CROSS_VALIDATE = 80
MIN_ROWS_TO_TRUST_ONE_SPLIT = 500
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
        n_held_out = min(math.ceil(fraction * len(rows)), _n_that_fit(rows))
        chosen = sample_without_replacement(
            len(rows),
            n_held_out,
            method="tracking_selection",  # memory for the chosen rows, not for all
            random_state=seed,
        )
        return None, np.sort(chosen)
    train, held_out = train_test_split(np.arange(len(rows)), test_size=fraction, random_state=seed)
    needed = rows.first_varying_rows(train, held_out)
    if 2 * len(needed) > len(held_out):
        return train, held_out
    return np.concatenate([train, needed]), held_out[~np.isin(held_out, needed)]


def hold_out_among(candidates: np.ndarray, n_rows: int, fraction: float, seed: int) -> Split:
    """Indices of the training rows and of the held-out rows, which are some of the candidates."""
    n_held_out = int(fraction * len(candidates))
    held_out = np.random.RandomState(seed).permutation(candidates)[:n_held_out]
    return np.setdiff1d(np.arange(n_rows), held_out), held_out


def rows_in_memory(held_out: Dataset) -> np.ndarray:
    """Indices of evenly spaced rows of the user's validation rows, as many as fit into memory."""
    return held_out.evenly_spaced(_n_that_fit(held_out))


def _n_that_fit(rows: Dataset) -> int:
    return max(1, HELD_OUT_BYTES // (4 * rows.shape[1]))


def folds_for_epochs(n_rows: int, fraction: float, seed: int) -> list[Split]:
    """Splits that choose the number of epochs: five folds, or one split of a small table."""
    folds: Any = KFold(N_FOLDS, shuffle=True, random_state=seed)
    if n_rows < MIN_ROWS_TO_CROSS_VALIDATE:
        folds = ShuffleSplit(1, test_size=fraction, random_state=seed)
    return list(folds.split(np.empty(n_rows)))


def folds_for_components(n_rows: int, fraction: float, seed: int) -> list[Split]:
    """Splits that choose the number of components: five folds, or one split of a large table."""
    folds: Any = KFold(min(N_FOLDS, n_rows), shuffle=True, random_state=seed)
    if fraction * n_rows >= MIN_ROWS_TO_TRUST_ONE_SPLIT:
        folds = ShuffleSplit(1, test_size=fraction, random_state=seed)
    return list(folds.split(np.empty(n_rows)))


def _stratified_order(targets: np.ndarray, seed: int) -> np.ndarray:
    """Indices of rows, sorted by their targets; rows of equal targets in random order."""
    index = np.random.RandomState(seed).permutation(len(targets))
    return index[np.lexsort(targets[index].T)]


def stratified_hold_out(targets: np.ndarray, fraction: float, seed: int) -> Split:
    """Indices of training rows and held-out rows, stratified by targets (n_rows, n_columns)."""
    order = _stratified_order(targets, seed)
    n_held_out = int(np.ceil(fraction * len(order)))
    middles = ((np.arange(n_held_out) + 0.5) * len(order) / n_held_out).astype(int)
    return np.sort(np.delete(order, middles)), np.sort(order[middles])


def stratified_folds(targets: np.ndarray, seed: int) -> Iterator[Split]:
    """Five folds of at most 1,000 rows, stratified by targets (n_rows, n_columns)."""
    order = _stratified_order(targets, seed)
    if len(order) > MAX_STRATIFIED_ROWS:
        order = order[np.linspace(0, len(order) - 1, MAX_STRATIFIED_ROWS).astype(int)]
    fold = np.arange(len(order)) % N_FOLDS
    for i in range(N_FOLDS):
        yield np.sort(order[fold != i]), np.sort(order[fold == i])


# -- is the gain significant? ------------------------------------------------------


def standard_errors_needed(n_rows: int) -> int:
    """Number of standard errors by which trained weights must be better in cross-validation.

    Below 200 rows, folds resemble each other more than they resemble new rows: gains of three
    standard errors were losses on new rows.
    """
    return 2 if n_rows >= 200 else 4


def is_better(
    scores: Any, baseline: Any, *, n_standard_errors: float, weights: np.ndarray | None = None
) -> bool:
    """Whether paired scores are lower than a baseline by so many standard errors of the mean.

    With weights, the standard error is that of Kish's effective number of rows.
    """
    gains = np.asarray((baseline - scores).tolist())
    w = np.ones(len(gains)) if weights is None else weights
    n_effective = w.sum() ** 2 / np.square(w).sum()
    gain = np.average(gains, weights=w)
    spread = np.sqrt(np.average(np.square(gains - gain), weights=w))
    return bool(gain > n_standard_errors * spread / np.sqrt(n_effective))
