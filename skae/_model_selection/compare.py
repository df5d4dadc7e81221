"""PCA and autoencoders on one table: who restores held-out rows better, and is it worth it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.manifold import trustworthiness
from sklearn.model_selection import KFold, StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing, check_array, check_consistent_length, check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from skae._data.validation import derive_seeds, explained_share, import_optional
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.vae import VAETransformer
from skae._model_selection.comparison_result import Comparison

DEFAULT_SIZES = (2, 4, 8)
TRUSTED_ROWS = 1000  # trustworthiness takes memory and time that are quadratic in the rows
NEIGHBORS = 5
PENALTIES = tuple(np.logspace(-3, 3, 13))
MANY_VALUES, ROWS_PER_VALUE = 20, 10  # a whole-numbered target beyond both holds no classes

Pair = tuple[str, int]


@dataclass(frozen=True)
class Target:
    """What is predicted from codes, and by what.

    Parameters
    ----------
    values : ndarray of shape (n_samples,) or (n_samples, n_outputs), or None
    downstream : estimator or None
        Unfitted.
    label : str
        What its score is called.
    """

    values: np.ndarray | None = None
    downstream: Any = None
    label: str = ""


def compare(
    X: Any,
    y: Any = None,
    n_components: int | Sequence[int] | None = None,
    estimators: Sequence[Any] | Mapping[str, Any] | None = None,
    cv: Any = 5,
    *,
    downstream: Any = None,
    preprocessor: Any = "scale",
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> Comparison:
    """Compare PCA and autoencoders on one table by cross-validation, and give a verdict.

    Every estimator gets the same folds, the same seed and the same preprocessing, fitted on
    the training part of each fold; the held-out part judges.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows without missing values; anything that `preprocessor` takes.
    y : array-like of shape (n_samples,), default=None
        What to predict from the codes. Numbers with fractions are a regression, everything
        else classes; so are whole numbers, unless there are more than 20 of them with fewer
        than ten rows each on average.
    n_components : int or sequence of int, default=None
        Sizes of the code. None is 2, 4 and 8, as far as they are smaller than the number of
        features.
    estimators : sequence of estimators or dict of str to estimator, default=None
        Anything with `transform`, `inverse_transform` and a parameter `n_components`, which
        the last step of a Pipeline may have. The first PCA is what the others are compared
        with; one is added if there is none. None is PCA, `AutoencoderTransformer` and
        `VAETransformer`.
        Parameters `random_state` that are None are set.
    cv : int, splitter or iterable, default=5
        An int is as many shuffled folds, stratified for classes. Rows that follow each other
        in time or belong to groups need a splitter, such as
        `sklearn.model_selection.TimeSeriesSplit`. At least two folds.
    downstream : estimator, default=None
        Predicts y from codes. None is a `LogisticRegression` (accuracy) or a `RidgeCV` (R²)
        behind a `StandardScaler`.
    preprocessor : "scale", None or transformer, default="scale"
        Comes before every estimator: a `StandardScaler`, nothing, or a transformer such as
        a `ColumnTransformer`. Explained variance is measured in the units that it returns.
    n_jobs : int, default=None
        Fits at once, in processes of their own; -1 is one a core.
    random_state : int, RandomState instance or None, default=0
        Seeds folds, fits and what is drawn.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    comparison : Comparison
        `verdict`, `pca_suffices`, frames `results`, `summary` and `differences`, `plot` and
        `to_html`.

    Raises
    ------
    ValueError
        If sizes, folds or the target cannot be used.
    TypeError
        If an estimator cannot transform and go back.
    ImportError
        If pandas is absent: ``pip install 'skae[compare]'``.

    Examples
    --------
    >>> import skae
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> comparison = skae.compare(X, y, n_components=2, cv=3)
    >>> comparison.results.columns.tolist()[:4]
    ['estimator', 'n_components', 'fold', 'explained_variance']
    >>> len(comparison.results)  # three estimators, one size, three folds
    9
    """
    import_optional("pandas", extra="compare")
    X = _check_table(X, preprocessor)
    seed = _int_seed(random_state)
    target = _check_target(y, X, downstream)
    folds = _make_folds(X, target, cv, seed)
    before = _make_preprocessor(preprocessor)
    sizes = _check_sizes(n_components, _shape_inside(before, X, folds))
    named, reference = _check_estimators(estimators)
    candidates = {
        (name, size): _prepared(estimator, name, size, seed)
        for name, estimator in named.items()
        for size in sizes
    }
    results = _fit_all(candidates, X, target, folds, before, seed, n_jobs, verbose)
    return Comparison(
        results,
        reference=reference,
        score_label=target.label,
        test_ratio=float(np.mean([len(test) / len(train) for train, test in folds])),
        settings={
            "rows": X.shape[0],
            "columns": X.shape[1],
            "folds": len(folds),
            "n_components": sizes,
            "preprocessor": "none" if before is None else type(before).__name__,
            "downstream": _name_of(target.downstream) if target.downstream else "none",
            "random_state": seed,
        },
    )


# -- fits --------------------------------------------------------------------------


def _fit_all(
    candidates: dict[Pair, Any],
    X: Any,
    target: Target,
    folds: list[tuple[np.ndarray, np.ndarray]],
    preprocessor: Any,
    seed: int,
    n_jobs: int | None,
    verbose: int,
) -> list[dict[str, Any]]:
    """Judge every candidate in every fold: one row of results for each."""
    jobs = [
        delayed(_judge)(pair, candidate, X, target, fold, i, preprocessor, seed)
        for pair, candidate in candidates.items()
        for i, fold in enumerate(folds)
    ]
    done: Iterable[Any] = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    if verbose:
        done = tqdm(done, total=len(jobs), desc="comparing", unit="fit")
    return list(done)


def _judge(
    pair: Pair,
    candidate: Any,
    X: Any,
    target: Target,
    fold: tuple[np.ndarray, np.ndarray],
    number: int,
    preprocessor: Any,
    seed: int,
) -> dict[str, Any]:
    """Fit one candidate to the training part of a fold and score the other part."""
    rows, held_out = _preprocessed(preprocessor, X, fold)
    start = time.perf_counter()
    fitted = clone(candidate).fit(rows)
    fit_time = time.perf_counter() - start
    start = time.perf_counter()
    codes = np.asarray(fitted.transform(held_out))
    transform_time = time.perf_counter() - start
    restored = np.asarray(fitted.inverse_transform(codes))
    row = {
        "estimator": pair[0],
        "n_components": pair[1],
        "fold": number,
        "explained_variance": _explained(held_out, restored, rows.mean(axis=0)),
    }
    if target.downstream is not None:
        row["downstream_score"] = _predicted(fitted, rows, codes, target, fold)
    row["trustworthiness"] = _trust(held_out, codes, seed)
    return row | {"fit_time": fit_time, "transform_time": transform_time}


def _preprocessed(
    preprocessor: Any, X: Any, fold: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    train, test = (_safe_indexing(X, part) for part in fold)
    if preprocessor is not None:
        fitted = clone(preprocessor)
        train, test = fitted.fit_transform(train), fitted.transform(test)
    return tuple(check_array(part) for part in (train, test))


def _explained(rows: np.ndarray, restored: np.ndarray, mean: np.ndarray) -> float:
    """Share of variance around the training mean, for all estimators the same."""
    return explained_share(
        float(np.square(rows - restored).sum()), float(np.square(rows - mean).sum())
    )


def _predicted(
    fitted: Any,
    rows: np.ndarray,
    codes: np.ndarray,
    target: Target,
    fold: tuple[np.ndarray, np.ndarray],
) -> float:
    train, test = (_safe_indexing(target.values, part) for part in fold)
    model = clone(target.downstream).fit(np.asarray(fitted.transform(rows)), train)
    return float(model.score(codes, test))


def _trust(rows: np.ndarray, codes: np.ndarray, seed: int) -> float:
    """Share of neighbours of codes that are neighbours of rows too."""
    n_neighbors = min(NEIGHBORS, (len(rows) - 1) // 2)
    if n_neighbors < 1:
        return float("nan")
    if len(rows) > TRUSTED_ROWS:
        chosen = check_random_state(seed).choice(len(rows), TRUSTED_ROWS, replace=False)
        rows, codes = rows[chosen], codes[chosen]
    return float(trustworthiness(rows, codes, n_neighbors=n_neighbors))


# -- what is compared --------------------------------------------------------------


def _check_table(X: Any, preprocessor: Any) -> Any:
    if preprocessor is None or isinstance(preprocessor, str):
        return check_array(X, dtype=[np.float64, np.float32], ensure_min_samples=4)
    return X if hasattr(X, "shape") else np.asarray(X)


def _int_seed(random_state: Any) -> int:
    """Settle a seed: an int as it is, so that a fit can be repeated by hand."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return derive_seeds(random_state, 1)[0]


def _make_preprocessor(preprocessor: Any) -> Any:
    if isinstance(preprocessor, str):
        if preprocessor != "scale":
            raise ValueError(
                f"preprocessor={preprocessor!r} must be 'scale', None or a transformer."
            )
        return StandardScaler()
    return preprocessor


def _shape_inside(
    preprocessor: Any, X: Any, folds: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[int, int]:
    """Fewest training rows of a fold, and columns behind the preprocessor in the first."""
    return min(len(train) for train, _ in folds), _preprocessed(preprocessor, X, folds[0])[0].shape[
        1
    ]


def _check_sizes(n_components: Any, shape: tuple[int, int]) -> list[int]:
    n_rows, n_columns = shape
    if n_columns < 2:
        raise ValueError(
            f"X has {n_columns} column to compress, and a code is smaller than its rows: at "
            "least two columns are needed."
        )
    if n_components is None:
        sizes = [size for size in DEFAULT_SIZES if size < n_columns and size <= n_rows]
        return sizes or [1]
    sizes = sorted(set(np.atleast_1d(n_components).tolist()))
    most = min(shape)
    wrong = [
        k for k in sizes if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most
    ]
    if wrong or not sizes:
        raise ValueError(
            f"n_components={n_components!r} must hold integers from 1 to {most}: there are "
            f"{n_columns} columns and {n_rows} training rows in the smallest fold."
        )
    return sizes


def _check_estimators(estimators: Any) -> tuple[dict[str, Any], str]:
    """Estimators by name, and the name of the PCA that the others are compared with."""
    if estimators is None:
        estimators = [AutoencoderTransformer(), VAETransformer()]
    named = dict(estimators) if isinstance(estimators, Mapping) else _named(estimators)
    for name, estimator in named.items():
        lacking = [
            m for m in ("fit", "transform", "inverse_transform") if not hasattr(estimator, m)
        ]
        if lacking or isinstance(estimator, type):
            raise TypeError(
                f"estimators: {name!r} must be an estimator with `fit`, `transform` and "
                f"`inverse_transform`, which {estimator!r} is not."
            )
    reference = next((n for n, e in named.items() if isinstance(e, PCA)), None)
    if reference is None:
        reference = "PCA" if "PCA" not in named else "plain PCA"
        named = {reference: PCA(svd_solver="full"), **named}
    if len(named) < 2:
        raise ValueError("estimators holds nothing to compare with PCA.")
    return named, reference


def _named(estimators: Iterable[Any]) -> dict[str, Any]:
    """Names from classes, numbered where several are of one class."""
    estimators = list(estimators)
    names = [_name_of(estimator) for estimator in estimators]
    numbered = [
        f"{name}-{names[: i + 1].count(name)}" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]
    return dict(zip(numbered, estimators, strict=True))


def _name_of(estimator: Any) -> str:
    steps = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    return "+".join(type(step).__name__ for step in steps)


def _prepared(estimator: BaseEstimator, name: str, size: int, seed: int) -> Any:
    """Copy of an estimator with a size and seeds."""
    prepared = clone(estimator)
    parameters = prepared.get_params(deep=True)
    prefix = f"{prepared.steps[-1][0]}__" if isinstance(prepared, Pipeline) else ""
    if f"{prefix}n_components" not in parameters:
        raise ValueError(
            f"estimators: {name!r} has no parameter `{prefix}n_components`, so that its codes "
            "cannot be made as large as PCA's."
        )
    unseeded = [p for p, v in parameters.items() if p.endswith("random_state") and v is None]
    return prepared.set_params(**{f"{prefix}n_components": size}, **dict.fromkeys(unseeded, seed))


# -- what is predicted, and where --------------------------------------------------


def _check_target(y: Any, X: Any, downstream: Any) -> Target:
    if y is None:
        if downstream is not None:
            raise ValueError(f"downstream={downstream!r} needs y, which is None.")
        return Target()
    check_consistent_length(X, y)
    values = _without_gaps(y)
    if downstream is not None:
        return Target(values, downstream, "accuracy" if is_classifier(downstream) else "R²")
    classes = _holds_classes(values)
    return Target(values, predictor(classes=classes), "accuracy" if classes else "R²")


def predictor(*, classes: bool) -> Pipeline:
    """Make what predicts targets from codes by default.

    Parameters
    ----------
    classes : bool
        Whether targets are classes, or numbers.

    Returns
    -------
    pipeline : Pipeline
    """
    linear = LogisticRegression(max_iter=1000) if classes else RidgeCV(alphas=PENALTIES)
    return make_pipeline(StandardScaler(), linear)


def _without_gaps(y: Any) -> np.ndarray:
    pandas = import_optional("pandas", extra="compare")
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if pandas.isna(values).any():
        raise ValueError("y holds missing values: drop those rows of X and y.")
    if values.dtype == object and values.ndim == 1:
        values = np.asarray(pandas.Series(values.tolist()))
    return values


def _holds_classes(values: np.ndarray) -> bool:
    numeric = values.dtype.kind in "iuf"
    n_values = len(np.unique(values)) if values.ndim == 1 else 0
    if numeric and n_values > MANY_VALUES and len(values) < ROWS_PER_VALUE * n_values:
        return False
    kind = type_of_target(values, input_name="y")
    if kind in ("continuous", "continuous-multioutput"):
        return False
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"y is a {kind} target, for which there is no default: pass `downstream`, an "
            "estimator that predicts it."
        )
    if n_values < 2:
        raise ValueError(f"y has one value only, {values[0]!r}: there is nothing to predict.")
    return True


def _make_folds(X: Any, target: Target, cv: Any, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    classes = target.downstream is not None and is_classifier(target.downstream)
    if isinstance(cv, Integral):
        _check_n_folds(int(cv), X.shape[0], target.values if classes else None)
        kind = StratifiedKFold if classes else KFold
        cv = kind(int(cv), shuffle=True, random_state=seed)
    folds = list(check_cv(cv, target.values, classifier=classes).split(X, target.values))
    if len(folds) < 2:
        raise ValueError(f"cv={cv!r} makes one fold; the verdict needs the spread of two or more.")
    return folds


def _check_n_folds(n_folds: int, n_rows: int, classes: np.ndarray | None) -> None:
    if not 2 <= n_folds <= n_rows:
        raise ValueError(f"cv={n_folds} must lie between 2 and the number of rows, {n_rows}.")
    if classes is not None and classes.ndim == 1:
        values, counts = np.unique(classes, return_counts=True)
        if counts.max() < n_folds:
            raise ValueError(
                f"y has {len(values)} classes, none with the {n_folds} rows that cv={n_folds} "
                "needs; pass fewer folds, or `downstream` if y is a number to be estimated."
            )
