"""What a comparison predicts from codes, and the folds in which it does."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.multiclass import type_of_target

from skae._data.optional_imports import import_optional
from skae._model_selection.baselines import CLASSES, QUANTITIES
from skae._model_selection.candidate_fits import folds_of, last_step
from skae._model_selection.column_types import join_names
from skae._model_selection.table_errors import ParameterError
from skae._training.targets import is_quantity

PENALTIES = tuple(np.logspace(-3, 3, 13))


@dataclass(frozen=True)
class Target:
    """Values to predict from codes, of shape (n_samples,) or (n_samples, n_outputs), and how."""

    values: np.ndarray | None = None
    downstream: Any = None  # unfitted
    score_label: str = ""
    kind: str | None = None  # CLASSES, QUANTITIES or neither
    name: str = "none"

    def task(self) -> str:
        """What is predicted, in words."""
        if self.values is None:
            return "none"
        if self.kind == CLASSES:
            n_classes = len(np.unique(self.values))
            return f"classification, {n_classes} classes ({self.score_label})"
        return f"{'regression' if self.kind else 'own'} ({self.score_label})"

    def for_fit_of(self, estimator: Any, index: np.ndarray) -> Any:
        """Target of some rows for the fit of a reducer; None without a target.

        An estimator of skae chooses between classes and quantities by the values, and -1 marks
        rows without a class. So it is given text, or numbers that are not whole.
        """
        if self.values is None:
            return None
        values = _safe_indexing(self.values, index)
        if self.kind is None or not hasattr(last_step(estimator), "target_weight"):
            return values
        if self.kind == QUANTITIES:
            are_whole = (self.values % 1 == 0).all(axis=0)
            return values + np.where(are_whole, 0.5, 0.0)
        codes = np.unique(self.values, return_inverse=True)[1][index]
        return np.char.add("class ", codes.astype(str))


def check_target(y: Any, X: Any, downstream: Any) -> Target:
    """Check the target y of rows X, and choose a predictor of it if `downstream` is None."""
    if y is None:
        if downstream is not None:
            raise ValueError(f"{downstream=} needs y, which is None; pass y.")
        return Target()
    check_consistent_length(X, y)
    values = _check_values(y)
    classifies = _is_classification(values) if downstream is None else is_classifier(downstream)
    downstream = default_predictor(classifies) if downstream is None else downstream
    label = "accuracy" if classifies else "R²"
    return Target(values, downstream, label, _kind_of(values, classifies))


def _kind_of(values: np.ndarray, classifies: bool) -> str | None:
    """Kind of target; None if it is neither one column of classes nor numbers."""
    if classifies:
        return CLASSES if values.ndim == 1 else None
    return QUANTITIES if values.dtype.kind in "iuf" else None


def default_predictor(classifies: bool) -> Pipeline:
    """Make the default estimator that predicts classes or numbers from codes."""
    linear = LogisticRegression(max_iter=1000) if classifies else RidgeCV(alphas=PENALTIES)
    return make_pipeline(StandardScaler(), linear)


def _check_values(y: Any) -> np.ndarray:
    """Target without missing values; objects of one type get its dtype."""
    pandas = import_optional("pandas", extra="compare")
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if pandas.isna(values).any():
        raise ValueError("y holds missing values; drop those rows from X and y.")
    if values.dtype == object and values.ndim == 1:
        values = np.asarray(pandas.Series(values.tolist()))
    return values


def _is_classification(values: np.ndarray) -> bool:
    n_values = len(np.unique(values)) if values.ndim == 1 else 0
    if values.ndim == 1 and is_quantity(values):
        return False
    kind = type_of_target(values, input_name="y")
    if kind == "continuous-multioutput":
        return False
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"y is a {kind} target, for which there is no default predictor; pass `downstream`, "
            "an estimator that predicts it."
        )
    if n_values < 2:
        raise ParameterError(
            "{y} has one value only, {value!r}, so there is nothing to predict; {leave_y_out}.",
            {"value": values[0].item() if hasattr(values[0], "item") else values[0]},
        )
    return True


def make_folds(
    X: Any, target: Target, cv: Any, seed: int, groups: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices of training and test rows of each fold, stratified by classes if there are any."""
    stratifies = target.downstream is not None and is_classifier(target.downstream)
    classes = target.values if stratifies else None
    if isinstance(cv, Integral):
        n_units = X.shape[0] if groups is None else groups.max() + 1
        _check_n_folds(int(cv), n_units, classes, groups)
        cv = folds_of(stratifies, groups)(int(cv), shuffle=True, random_state=seed)
    splitter = check_cv(cv, target.values, classifier=stratifies)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # in the preparation
        folds = list(splitter.split(X, target.values, groups))
    if len(folds) < 2:
        raise ValueError(f"{cv=} makes one fold, but the verdict needs two or more.")
    if target.kind == CLASSES and target.values is not None:
        _check_classes(target.values, folds)
    return folds


def _check_n_folds(n_folds: int, n_units: int, classes: np.ndarray | None, groups: Any) -> None:
    if not 2 <= n_folds <= n_units:
        raise ParameterError(
            "{cv} must lie between 2 and the number of {units}, {n_units}.",
            {"cv": n_folds, "units": "rows" if groups is None else "groups", "n_units": n_units},
        )
    if classes is not None and classes.ndim == 1:
        values, counts = np.unique(classes, return_counts=True)
        if counts.max() < n_folds:
            raise ParameterError(
                "{y} has {n_classes} classes, none with the {n_folds} rows that {cv} needs; pass "
                "fewer folds, or {as_numbers}.",
                {"n_classes": len(values), "n_folds": n_folds, "cv": n_folds},
            )


def _check_classes(values: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Refuse folds whose training part has one class only."""
    for train, _ in folds:
        if len(np.unique(values[train])) < 2:
            counts = Counter(values.tolist())
            raise ParameterError(
                "{y} has one class only, {value!r}, in the training part of a fold: its classes "
                "have {counts} rows. Leave out or merge classes with one row or one group.",
                {
                    "value": values[train].tolist()[0],
                    "counts": ", ".join(f"{name!r} {n}" for name, n in counts.most_common(10)),
                },
            )


def rare_classes(
    target: Target, folds: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[str, str]]:
    """Note on classes that cannot be in each fold."""
    if target.kind != CLASSES or target.values is None:
        return []
    counts = Counter(target.values.tolist())
    rare = [f"{name} ({count})" for name, count in counts.items() if count < len(folds)]
    return [("classes with fewer rows than folds", join_names(rare))] if rare else []
