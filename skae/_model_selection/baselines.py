"""What a comparison with a target adds to the estimators: supervised reducers and baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import Pipeline

from skae._model_selection.candidate_fits import uses_target

CLASSES, QUANTITIES = "classes", "quantities"
RAW_COLUMNS = "raw columns"
MOST_FREQUENT, MEAN = "always the most frequent", "always the mean"
CONSTANTS = MOST_FREQUENT, MEAN
TARGET_WEIGHT = 1.0  # the recommended one


@dataclass(frozen=True)
class Baseline:
    """A predictor that reduces nothing.

    Parameters
    ----------
    name : str
    n_columns : int
        Number of columns that it uses.
    predictor : estimator or None
        Not fitted; None is the one that the codes are given to.
    """

    name: str
    n_columns: int
    predictor: Any = None


def baselines_of(kind: str | None, n_columns: int) -> list[Baseline]:
    """All columns without a reducer, and the constant that predicts a target of this kind best."""
    raw = Baseline(RAW_COLUMNS, n_columns)
    if kind == CLASSES:
        return [raw, Baseline(MOST_FREQUENT, 0, DummyClassifier(strategy="most_frequent"))]
    return [raw, Baseline(MEAN, 0, DummyRegressor())] if kind == QUANTITIES else [raw]


def with_target(estimators: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the first estimator that can use the target, so that it does; none if one does."""
    if any(uses_target(estimator) for estimator in estimators.values()):
        return {}
    for name, estimator in estimators.items():
        prefix = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
        if f"{prefix}target_weight" in estimator.get_params():
            weight = {f"{prefix}target_weight": TARGET_WEIGHT}
            return {f"{name} with target": clone(estimator).set_params(**weight)}
    return {}


def supervised_reducers(
    kind: str | None,
    values: Any,
    folds: list[tuple[np.ndarray, np.ndarray]],
    sizes: list[int],
    n_columns: int,
) -> Iterator[tuple[str, int, Any]]:
    """Names, sizes and estimators of scikit-learn's reducers for a target of this kind.

    LDA has at most one component fewer than there are classes in the training part of each fold,
    so that it may have smaller sizes, and fewer of them.
    """
    if kind == QUANTITIES:
        yield from (("PLS", size, PLSRegression(n_components=size)) for size in sizes)
    if kind != CLASSES:
        return
    n_classes = min(len(np.unique(values[train])) for train, _ in folds)
    n_rows = min(len(train) for train, _ in folds)
    if 1 < n_classes < n_rows:  # or LDA cannot be fitted
        for size in sorted({min(size, n_classes - 1, n_columns) for size in sizes}):
            yield "LDA", size, LinearDiscriminantAnalysis(n_components=size)
