"""Cross-validated comparison of PCA and autoencoders on one table."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegressionCV
from sklearn.manifold import trustworthiness
from sklearn.metrics import check_scoring
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing, check_array, check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples

from skae._data.optional_imports import import_optional
from skae._data.parameter_checks import integers_in
from skae._data.seeds_and_devices import derive_seeds
from skae._data.statistics import explained_share
from skae._data.units import check_groups
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.table import TableAutoencoder
from skae._estimators.vae import VAETransformer
from skae._model_selection.baselines import (
    Baseline,
    baselines_of,
    supervised_reducers,
    with_target,
)
from skae._model_selection.candidate_fits import groups_for, uses_target
from skae._model_selection.column_types import Table, table_of
from skae._model_selection.comparison_result import Comparison
from skae._model_selection.downstream_target import Target, check_target, make_folds, rare_classes
from skae._model_selection.html_report import versions
from skae._model_selection.progress import progress_of_fits
from skae._model_selection.table_errors import ParameterError, TableError
from skae._model_selection.table_preprocessor import TablePreprocessor

DEFAULT_SIZES = (2, 4, 8)
TRUSTWORTHINESS_ROWS = 1000  # its time and memory are quadratic in the number of rows
N_NEIGHBORS = 5
MIN_ROWS = 4
MIN_GAPS = 0.01  # share of the cells
CLOSED_FORM = PCA, LinearDiscriminantAnalysis, PLSRegression  # fitted whatever the budget
MAX_SHOWN = 300  # characters of a parameter in the call that the report shows
# Parts of the messages of scikit-learn, numpy and pandas of tables that are not all numbers.
NOT_NUMBERS = "contains NaN", "could not convert", "Cannot cast"
REMEDY_WITHOUT_SCALE = "set preprocessor='scale' and pass X as a frame"


@dataclass(frozen=True)
class _Data:
    """What all estimators of a comparison share."""

    X: Any
    target: Target
    folds: list[tuple[np.ndarray, np.ndarray]]
    preprocessor: Any
    seed: int
    groups: np.ndarray | None = None

    def fold(self, i: int) -> _Fold:
        """Training and held-out rows of a fold."""
        train, test = (_safe_indexing(self.X, part) for part in self.folds[i])
        if self.preprocessor is None:
            return _Fold(check_array(train), check_array(test))
        fitted = clone(self.preprocessor)
        rows, held_out = fitted.fit_transform(train), fitted.transform(test)
        tables = (train, test) if isinstance(fitted, TablePreprocessor) else None
        return _Fold(check_array(rows), check_array(held_out), fitted, tables)

    def shape(self) -> tuple[int, int]:
        """Number of training rows in the smallest fold, and of columns behind the preprocessor."""
        return min(len(train) for train, _ in self.folds), self.fold(0).rows.shape[1]


@dataclass(frozen=True)
class _Fold:
    """Rows and held-out rows behind the fitted preprocessor; of a prepared frame, before it too."""

    rows: np.ndarray
    held_out: np.ndarray
    preprocessor: Any = None
    tables: tuple[Any, Any] | None = None

    def rows_for(self, estimator: Any) -> tuple[Any, Any]:
        """Rows and held-out rows that an estimator is given."""
        if self.tables is None or not isinstance(estimator, TableAutoencoder):
            return self.rows, self.held_out
        train, test = map(self.preprocessor.with_gaps, self.tables)
        return train, test

    def restored(self, estimator: Any, codes: np.ndarray) -> np.ndarray:
        """Held-out rows that a fitted estimator restores from their codes."""
        if self.tables is None or not isinstance(estimator, TableAutoencoder):
            return np.asarray(estimator.inverse_transform(codes))
        return self.preprocessor.restored(estimator, codes)

    def explained_share(self, restored: np.ndarray) -> float:
        """Share of the variance of held-out rows that is restored, over observed cells."""
        errors = np.square(self.held_out - restored)
        distances = np.square(self.held_out - self.rows.mean(axis=0))
        if self.tables is not None:
            observed = self.preprocessor.observed(self.tables[1])
            errors, distances = errors[observed], distances[observed]
        return explained_share(float(errors.sum()), float(distances.sum()))


@dataclass(frozen=True)
class _Candidate:
    """A reducer of one size, not fitted."""

    name: str
    size: int
    estimator: Any


_Task = _Candidate | Baseline


def compare(
    X: Any,
    y: Any = None,
    n_components: int | Sequence[int] | None = None,
    estimators: Sequence[Any] | Mapping[str, Any] | None = None,
    cv: Any = 5,
    *,
    downstream: Any = None,
    preprocessor: Any = "scale",
    groups: Any = None,
    baselines: bool = True,
    budget: float | None = None,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> Comparison:
    """Compare PCA and autoencoders on one table by cross-validation, and give a verdict.

    All estimators get the same folds, the same seed and the same preprocessing, which is fitted
    to the training part of each fold. All scores are measured on the held-out part.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows. With ``preprocessor="scale"``, a pandas, polars or pyarrow frame may hold text,
        categories, booleans, dates and missing values; see Notes.
    y : array-like of shape (n_samples,), default=None
        Target to predict from the codes. Numbers with fractions are a regression, everything
        else is a classification. So are integers, unless they have more than 20 distinct
        values with fewer than ten rows each on average. `fit` of the estimators gets it too,
        as in a Pipeline. If X is a frame, rows whose target is missing are dropped.
    n_components : int or sequence of int, default=None
        Numbers of components. None is those of 2, 4 and 8 that are smaller than the number of
        features.
    estimators : sequence of estimators or dict of str to estimator, default=None
        Estimators with `transform`, `inverse_transform` and a parameter `n_components`, or
        Pipelines whose last step has it. The others are compared with the first PCA; one is
        added if there is none. None is PCA, `AutoencoderTransformer` and `VAETransformer`, and
        `TableAutoencoder` if X is a frame in which 1 % of the cells or more are missing.
        Every `random_state` that is None is set. `TableAutoencoder` is given the columns of a
        prepared frame before they are scaled, with their missing values.
    cv : int, splitter or iterable, default=5
        An int is the number of shuffled folds, stratified for classes. Time series need a
        splitter, such as `sklearn.model_selection.TimeSeriesSplit`. At least two folds are
        needed.
    downstream : estimator, default=None
        Predicts y from codes. None is a `LogisticRegression` (accuracy) or a `RidgeCV` (R²)
        behind a `StandardScaler`.
    preprocessor : "scale", None or transformer, default="scale"
        Applied before every estimator: a `StandardScaler`, or the preparation of a frame (see
        Notes); nothing; or a transformer such as a `ColumnTransformer`. Explained variance is
        measured in the units of its output.
    groups : array-like of shape (n_samples,), default=None
        Label of the group of each row, such as a person. The rows of a group are in one fold,
        and estimators of skae hold them out together.
    baselines : bool, default=True
        With y, add what codes must be measured against, all fitted inside the folds: `downstream`
        on all columns ("raw columns"); "always the most frequent" class or "always the mean";
        the first estimator with a parameter `target_weight`, with 1 as its value; and
        scikit-learn's supervised reducer, `LinearDiscriminantAnalysis` ("LDA") for classes or
        `PLSRegression` ("PLS") for numbers.
    budget : float, default=None
        Seconds after which no fit begins. A fit that has begun is finished. PCA, LDA, PLS,
        baselines and one other estimator are always fitted; the rest in the order of their sizes.
        `left_out` of the result has those without all their folds.
    n_jobs : int, default=None
        Number of processes; -1 is one per core.
    random_state : int, RandomState instance or None, default=0
        Determines folds, fits and the rows that trustworthiness is measured on.
    verbose : int, default=0
        1 shows a progress bar: the fits and candidates that are done, and the time left.

    Returns
    -------
    comparison : Comparison
        `verdict`, `pca_suffices`, frames `results`, `summary` and `differences`,
        `preparation`, `plot`, `to_html` and `to_dict`.

    Raises
    ------
    ValueError
        If `n_components`, `cv`, `budget` or y are invalid, if X holds values that the
        preprocessor does not take, or if no column of a frame is left to compress: then with the
        columns that were dropped, and why.
    TypeError
        If an estimator lacks `transform` or `inverse_transform`.
    ImportError
        If pandas is absent: ``pip install 'skae[compare]'``.

    Notes
    -----
    Frames are prepared as on the command line: a column becomes a number or a category, or is
    dropped; `preparation` of the result says which. Behind the preparation, numbers are standard
    scores, with medians in gaps, and categories are indicators over the root of their frequency,
    so that PCA is the factor analysis of mixed data (FAMD) [1]_. Explained variance is that of
    observed cells: the restored values of gaps count nothing. Of `TableAutoencoder` the restored
    numbers and the restored shares of categories are measured on the same scale.

    References
    ----------
    .. [1] Pagès (2004). Analyse factorielle de données mixtes. Revue de statistique appliquée 52.
       http://www.numdam.org/item/RSA_2004__52_4_93_0/

    Examples
    --------
    >>> import skae
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> comparison = skae.compare(X, n_components=2, cv=2)
    >>> comparison.results.columns.tolist()[:4]
    ['estimator', 'n_components', 'fold', 'explained_variance']
    >>> len(comparison.results)  # three estimators, one size, two folds
    6
    >>> comparison = skae.compare(X, y, 2, cv=2)
    >>> comparison.baselines
    ['raw columns', 'always the most frequent']
    """
    import_optional("pandas", extra="compare")
    given = dict(locals())
    _check_budget(budget)
    table = table_of(X, y, groups) if _scales(preprocessor) else None
    name = _name_of(y, table)
    if table is not None:
        _check_splits(cv, table.X, X)
        X, y, groups, preprocessor = table.X, table.y, table.groups, table.preprocessor()
    X = _check_table(X, preprocessor)
    seed = _to_int_seed(random_state)
    target = replace(check_target(y, X, downstream), name=name)
    labels = check_groups(groups, X)
    folds = make_folds(X, target, cv, seed, labels)
    data = _Data(X, target, folds, _make_preprocessor(preprocessor), seed, labels)
    n_rows, n_columns = data.shape()
    sizes = _check_sizes(n_components, n_rows, n_columns)
    named, reference = _check_estimators(
        default_estimators(table) if estimators is None else estimators
    )
    supervised: list[_Candidate] = []
    others: list[Baseline] = []
    if target.values is not None and baselines:
        supervised = _supervised_candidates(named, data, sizes, n_columns)
        others = baselines_of(target.kind, n_columns)
    candidates = _candidates(named, sizes, seed) + supervised
    others = [each for each in others if each.name not in named]
    tasks: list[_Task] = [*candidates, *others]
    results = _fit_all(tasks, data, budget, n_jobs, verbose)
    left_out = _left_out(tasks, results)
    return Comparison(
        [row for rows in results if None not in rows for row in rows],
        reference=reference,
        score_label=target.score_label,
        test_ratio=float(np.mean([len(test) / len(train) for train, test in folds])),
        settings=_settings(data, sizes, budget)
        | {"call": _call_of(given | {"random_state": seed})},
        supervised=list(dict.fromkeys(c.name for c in candidates if uses_target(c.estimator))),
        baselines=[each.name for each in others],
        preparation=[*([] if table is None else table.notes), *rare_classes(target, folds)],
        left_out=left_out,
    )


compare.__module__ = "skae"


def default_estimators(table: Table | None) -> list[Any]:
    """Estimators to compare with PCA, with the slow one of tables where gaps make it better."""
    estimators = [AutoencoderTransformer(), VAETransformer()]
    if table is not None and table.share_of_gaps() >= MIN_GAPS:
        estimators.append(TableAutoencoder())
    return estimators


def _settings(data: _Data, sizes: list[int], budget: float | None) -> dict[str, Any]:
    """Settings of a comparison, for the report."""
    preprocessor, downstream = data.preprocessor, data.target.downstream
    return {
        "target": data.target.name,
        "task": data.target.task(),
        "rows": data.X.shape[0],
        "columns": data.X.shape[1],
        "folds": len(data.folds),
        "n_components": sizes,
        "preprocessor": "none" if preprocessor is None else type(preprocessor).__name__,
        "downstream": "none" if downstream is None else _class_names(downstream),
        "random_state": data.seed,
        "budget": "none" if budget is None else f"{budget:g} s",
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "versions": versions(),
    }


def _name_of(y: Any, table: Table | None) -> str:
    """Name of the target for the report."""
    if y is None:
        return "none"
    if table is not None and table.target is not None:
        return table.target
    name = getattr(y, "name", None)
    return "y" if name is None else str(name)


def _call_of(arguments: Mapping[str, Any]) -> str:
    """Call that repeats a comparison: parameters that are not the defaults."""
    parts = []
    for name, parameter in inspect.signature(compare).parameters.items():
        value = arguments[name]
        if name in ("n_jobs", "verbose") or value is parameter.default:
            continue
        if name in ("X", "y"):
            parts.append(name)
            continue
        text = name if name == "groups" else " ".join(repr(value).split())
        if text != repr(parameter.default):
            parts.append(f"{name}={text if len(text) <= MAX_SHOWN else name}")
    return f"skae.compare({', '.join(parts)})"


# -- fits and scores ---------------------------------------------------------------


def _candidates(named: Mapping[str, Any], sizes: list[int], seed: int) -> list[_Candidate]:
    """Every estimator in every size."""
    return [
        _Candidate(name, size, _configure(estimator, name, size, seed))
        for name, estimator in named.items()
        for size in sizes
    ]


def _supervised_candidates(
    named: Mapping[str, Any], data: _Data, sizes: list[int], n_columns: int
) -> list[_Candidate]:
    """Reducers that are fitted with the target, in every size, without names that are taken."""
    target = data.target
    own = with_target(named) if target.kind is not None else {}
    found = _candidates(own, sizes, data.seed)
    theirs = supervised_reducers(target.kind, target.values, data.folds, sizes, n_columns)
    found += [_Candidate(*each) for each in theirs]
    return [each for each in found if each.name not in named]


def _order(tasks: Sequence[_Task]) -> tuple[list[int], int]:
    """Positions of tasks, and how many of the first are fitted whatever the budget.

    What takes no time is first, then the others by size; the first of these is always fitted.
    """
    is_first = [isinstance(t, Baseline) or isinstance(t.estimator, CLOSED_FORM) for t in tasks]
    keys = [(not first, _size(task)) for first, task in zip(is_first, tasks, strict=True)]
    return sorted(range(len(tasks)), key=lambda t: keys[t]), sum(is_first) + 1


def _size(task: _Task) -> int:
    return task.size if isinstance(task, _Candidate) else 0


def _fit_all(
    tasks: Sequence[_Task],
    data: _Data,
    budget: float | None,
    n_jobs: int | None,
    verbose: int,
) -> list[list[dict[str, Any] | None]]:
    """Fit and score every task in every fold: rows of results, None of those left out."""
    order, n_always = _order(tasks)
    end = np.inf if budget is None else time.time() + budget
    jobs = [
        delayed(_score)(tasks[t], data, i, np.inf if place < n_always else end)
        for place, t in enumerate(order)
        for i in range(len(data.folds))
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The error of restored held-out rows")  # in the verdict
        done: Iterable[Any] = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
        rows = np.empty((len(order), len(data.folds)), dtype=object)
        owners = np.repeat(np.arange(len(order)), len(data.folds)).tolist()
        with progress_of_fits("comparing", owners, is_shown=bool(verbose)) as count:
            for i, row in enumerate(done):
                rows.flat[i] = row
                count([i])
    return rows[np.argsort(order)].tolist()


def _left_out(tasks: Sequence[_Task], results: list[list[Any]]) -> list[tuple[str, int]]:
    """Names and sizes of the tasks that the budget left no time for."""
    late = [task for task, rows in zip(tasks, results, strict=True) if None in rows]
    return [(task.name, _size(task)) for task in late]


def _score(task: _Task, data: _Data, i: int, end: float) -> dict[str, Any] | None:
    """Row of results of a task in fold i; None if time is over."""
    if time.time() > end:
        return None
    if isinstance(task, Baseline):
        return _score_baseline(task, data, i)
    return _score_reducer(task, data, i)


def _score_reducer(candidate: _Candidate, data: _Data, i: int) -> dict[str, Any]:
    """Fit one candidate to the training part of fold i and score the held-out part."""
    fold = data.fold(i)
    rows, held_out = fold.rows_for(candidate.estimator)
    index = data.folds[i][0]
    start = time.perf_counter()
    fitted = clone(candidate.estimator)
    y = data.target.for_fit_of(fitted, index)
    fitted.fit(rows, y, **groups_for(fitted, data.groups, index))
    fit_time = time.perf_counter() - start
    start = time.perf_counter()
    codes = np.asarray(fitted.transform(held_out))
    transform_time = time.perf_counter() - start
    explained = np.nan
    if hasattr(fitted, "inverse_transform"):
        explained = fold.explained_share(fold.restored(fitted, codes))
    return {
        "estimator": candidate.name,
        "n_components": candidate.size,
        "fold": i,
        "explained_variance": explained,
        **_downstream_score(data, i, lambda: np.asarray(fitted.transform(rows)), codes),
        "trustworthiness": _trustworthiness(fold.held_out, codes, data.seed),
        "fit_time": fit_time,
        "transform_time": transform_time,
    }


def _score_baseline(baseline: Baseline, data: _Data, i: int) -> dict[str, Any]:
    """Fit a predictor to the columns of fold i and score it; nothing is reduced or restored."""
    fold = data.fold(i)
    return {
        "estimator": baseline.name,
        "n_components": baseline.n_columns,
        "fold": i,
        "explained_variance": np.nan,
        **_downstream_score(data, i, lambda: fold.rows, fold.held_out, baseline.predictor),
        "trustworthiness": np.nan,
        "fit_time": np.nan,
        "transform_time": np.nan,
    }


def _downstream_score(
    data: _Data, i: int, codes_of_rows: Callable[[], Any], codes: Any, predictor: Any = None
) -> dict[str, float]:
    """Score of what predicts the target from codes, in fold i; nothing without a target."""
    if data.target.downstream is None:
        return {}
    train, test = (_safe_indexing(data.target.values, part) for part in data.folds[i])
    downstream = data.target.downstream
    if predictor is None:
        score = clone(downstream).fit(codes_of_rows(), train).score(codes, test)
    else:
        scores_by_name = isinstance(downstream, BaseSearchCV | LogisticRegressionCV)
        scorer = check_scoring(predictor, downstream.scoring if scores_by_name else None)
        score = scorer(clone(predictor).fit(codes_of_rows(), train), codes, test)
    return {"downstream_score": float(score)}


def _trustworthiness(rows: np.ndarray, codes: np.ndarray, seed: int) -> float:
    """scikit-learn's trustworthiness, of a sample if there are many rows; NaN of too few."""
    n_neighbors = min(N_NEIGHBORS, (len(rows) - 1) // 2)
    if n_neighbors < 1:
        return float("nan")
    if len(rows) > TRUSTWORTHINESS_ROWS:
        chosen = check_random_state(seed).choice(len(rows), TRUSTWORTHINESS_ROWS, replace=False)
        rows, codes = rows[chosen], codes[chosen]
    return float(trustworthiness(rows, codes, n_neighbors=n_neighbors))


# -- parameters --------------------------------------------------------------------


def _scales(preprocessor: Any) -> bool:
    """Whether the preprocessor is the default."""
    return isinstance(preprocessor, str) and preprocessor == "scale"


def _check_table(X: Any, preprocessor: Any) -> Any:
    if (n_rows := _num_samples(X)) < MIN_ROWS:
        raise TableError(f"the table has {n_rows} rows to compare, but {MIN_ROWS} are needed.")
    if preprocessor is not None and not isinstance(preprocessor, str):
        return X if hasattr(X, "shape") else np.asarray(X)
    try:
        X = check_array(X, dtype=[np.float64, np.float32])
    except ValueError as error:
        if not any(words in str(error) for words in NOT_NUMBERS):
            raise
        remedy = "pass X as a pandas, polars or pyarrow frame" * _scales(preprocessor)
        raise ValueError(
            f"{str(error).splitlines()[0].rstrip('.')}: {remedy or REMEDY_WITHOUT_SCALE}, so that "
            "gaps, text and dates are prepared."
        ) from error
    if not np.ptp(X, axis=0).any():
        raise TableError("all rows of X are equal, so that there is nothing to compress.")
    return X


def _check_budget(budget: Any) -> None:
    is_number = isinstance(budget, Real) and not isinstance(budget, bool)
    if budget is None or (is_number and float(budget) > 0):
        return
    raise ValueError(f"{budget=} must be a number of seconds above 0, or None for no limit.")


def _check_splits(cv: Any, kept: Any, X: Any) -> None:
    """Refuse splits of all rows if some are dropped."""
    if isinstance(cv, Integral) or hasattr(cv, "split") or len(kept) == _num_samples(X):
        return
    raise ValueError(
        f"cv holds indices of rows, but {_num_samples(X) - len(kept)} rows without a target are "
        "dropped: drop them from X and y before, or pass a splitter."
    )


def _to_int_seed(random_state: Any) -> int:
    """An int stays as it is, so that users can repeat a fit with it."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return derive_seeds(random_state, 1)[0]


def _make_preprocessor(preprocessor: Any) -> Any:
    if not isinstance(preprocessor, str):
        return preprocessor
    if preprocessor != "scale":
        raise ValueError(f"{preprocessor=} must be 'scale', None or a transformer.")
    return StandardScaler()


def _check_sizes(n_components: Any, n_rows: int, n_columns: int) -> list[int]:
    if n_columns < 2:
        raise ValueError(
            f"X has {n_columns} column behind the preprocessor, but at least two columns are "
            "needed to reduce their number."
        )
    if n_components is None:
        return [size for size in DEFAULT_SIZES if size < n_columns and size <= n_rows] or [1]
    sizes, most = integers_in(n_components), min(n_rows, n_columns)
    if not sizes or min(sizes) < 1 or max(sizes) > most:
        raise ParameterError(
            "{n_components} must hold integers from 1 to {most}: there are {n_columns} columns and "
            "{n_rows} training rows in the smallest fold.",
            {
                "n_components": n_components,
                "most": most,
                "n_columns": n_columns,
                "n_rows": n_rows,
            },
        )
    return sorted(set(sizes))


def _check_estimators(estimators: Any) -> tuple[dict[str, Any], str]:
    """Estimators by name, and the name of the PCA that the others are compared with."""
    named = dict(estimators) if isinstance(estimators, Mapping) else _name_estimators(estimators)
    methods = "fit", "transform", "inverse_transform"
    for name, estimator in named.items():
        if isinstance(estimator, type) or not all(hasattr(estimator, m) for m in methods):
            raise TypeError(
                f"estimators: {name!r} must be an estimator with `fit`, `transform` and "
                f"`inverse_transform`, which {estimator!r} is not."
            )
    reference = next((n for n, e in named.items() if isinstance(e, PCA)), None)
    if reference is None:
        reference = "PCA" if "PCA" not in named else "plain PCA"
        named = {reference: PCA(svd_solver="full"), **named}
    if len(named) < 2:
        raise ValueError("estimators holds nothing to compare with PCA; add an estimator.")
    return named, reference


def _name_estimators(estimators: Iterable[Any]) -> dict[str, Any]:
    """Name estimators by their classes, and number those of the same class."""
    estimators = list(estimators)
    names = [_class_names(estimator) for estimator in estimators]
    numbered = [
        f"{name}-{names[: i + 1].count(name)}" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]
    return dict(zip(numbered, estimators, strict=True))


def _class_names(estimator: Any) -> str:
    """Name of the class; of a Pipeline, those of its steps."""
    steps = estimator.named_steps.values() if isinstance(estimator, Pipeline) else [estimator]
    return "+".join(type(step).__name__ for step in steps)


def _configure(estimator: BaseEstimator, name: str, size: int, seed: int) -> Any:
    """Copy an estimator, and set its number of components and its seeds."""
    copy = clone(estimator)
    parameters = copy.get_params(deep=True)
    prefix = f"{copy.steps[-1][0]}__" if isinstance(copy, Pipeline) else ""
    if f"{prefix}n_components" not in parameters:
        raise ValueError(
            f"estimators: {name!r} has no parameter `{prefix}n_components`, which is needed to "
            "compare it with a PCA of the same size."
        )
    unseeded = [p for p, v in parameters.items() if p.endswith("random_state") and v is None]
    return copy.set_params(**{f"{prefix}n_components": size}, **dict.fromkeys(unseeded, seed))
