"""Fits of the candidates of a search, and their scores."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.base import clone
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params, has_fit_parameter

from skae._data.pca import fitted_pca
from skae._data.statistics import explained_share
from skae._estimators.base import BaseAutoencoder
from skae._estimators.table import TableAutoencoder
from skae._estimators.table_coordinates import coordinates_of
from skae._training.trainer import Trained, train_networks
from skae.metrics import reconstruction_score

PLS_CLASSES = CCA, PLSCanonical, PLSRegression, PLSSVD  # their tags do not say that they need y


def last_step(estimator: Any) -> Any:
    """The estimator itself, or the last step of a Pipeline."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def uses_target(estimator: Any) -> bool:
    """Whether its fit, or that of the last step of a Pipeline, depends on y."""
    last = last_step(estimator)
    weight = getattr(last, "target_weight", 0)
    if isinstance(last, PLS_CLASSES) or (isinstance(weight, Real) and float(weight) > 0):
        return True
    return hasattr(last, "__sklearn_tags__") and get_tags(last).target_tags.required


def folds_of(stratifies: bool, groups: Any) -> Any:
    """Class of the splitter that makes folds, stratified or not, of rows or of groups."""
    if groups is None:
        return StratifiedKFold if stratifies else KFold
    return StratifiedGroupKFold if stratifies else GroupKFold


def groups_for(estimator: Any, groups: np.ndarray | None, index: Any) -> dict[str, np.ndarray]:
    """Parameter of `fit` for the groups of some rows; none if the estimator takes no groups."""
    last = last_step(estimator)
    if groups is None or not has_fit_parameter(last, "groups"):
        return {}
    if last is estimator:
        return {"groups": groups[index]}
    if not get_config()["enable_metadata_routing"]:
        return {f"{estimator.steps[-1][0]}__groups": groups[index]}
    requests = get_routing_for_object(last).fit.requests
    return {"groups": groups[index]} if requests.get("groups") is True else {}


@dataclass
class CandidateFit:
    """One fit of a candidate: an unfitted estimator, and indices of its size and split."""

    estimator: Any
    size: int
    split: int


@dataclass
class CandidateScorer:
    """Score of a fitted candidate.

    Parameters
    ----------
    scorer : callable or None
        None is the explained variance ratio.
    downstream : estimator or None
        Not fitted; the scorer is given it, fitted to codes.
    on_training_rows : bool
        Whether training rows are scored too.
    """

    scorer: Callable[..., float] | None
    downstream: Any
    on_training_rows: bool

    def score(self, estimator: Any, downstream: Any, X: Any, y: Any) -> float:
        """Score of a fitted candidate; `downstream` is fitted to its codes."""
        if self.scorer is None:
            rows = X if estimator is last_step(estimator) else estimator[:-1].transform(X)
            return reconstruction_score(last_step(estimator), rows)
        if downstream is None:
            return self.scorer(estimator, X, y)
        return self.scorer(downstream, estimator.transform(X), y)


def fit_and_score(
    tasks: list[CandidateFit],
    scorer: CandidateScorer,
    X: Any,
    y: Any,
    splits: list[tuple[np.ndarray, np.ndarray]],
    params: dict[str, Any],
    groups: np.ndarray | None,
    together: bool,
    error_score: float | str,
) -> list[dict[str, Any]]:
    """Fit candidates and score them; return what scikit-learn's searches record of each fit.

    `params` are those of `fit`, besides `groups`. With `together`, networks of one shape are
    trained in one batch.
    """
    # Only a scorer of the estimator itself may use more than codes and reconstructions.
    needs_density = scorer.scorer is not None and scorer.downstream is None
    parts = [
        _Part(task.estimator, *splits[task.split], X, y, params, groups, needs_density)
        for task in tasks
    ]
    started = time.perf_counter()
    if together:
        _try_in_batch([part for part in parts if part.can_be_batched()])
    share = (time.perf_counter() - started) / len(tasks)
    return [_outcome(part, scorer, share, error_score) for part in parts]


@dataclass
class _Part:
    """A candidate, and the split that it is fitted to and scored on."""

    estimator: Any
    train: np.ndarray
    test: np.ndarray
    X: Any
    y: Any
    params: dict[str, Any]
    groups: np.ndarray | None
    needs_density: bool
    is_fitted: bool = False

    def training_rows(self) -> tuple[Any, Any]:
        return _safe_split(self.estimator, self.X, self.y, self.train)

    def test_rows(self) -> tuple[Any, Any]:
        return _safe_split(self.estimator, self.X, self.y, self.test, self.train)

    def can_be_batched(self) -> bool:
        """Whether its network can be trained in one batch with those of others."""
        last = last_step(self.estimator)
        if not isinstance(last, BaseAutoencoder) or self.params or last._has_user_modules():
            return False
        if uses_target(last):  # rows are trained on together without y
            return False
        return last is self.estimator or self.estimator.memory is None

    def start_fit(self) -> tuple[Any, Any]:
        """Do the steps of `fit` that precede training; return its data and its training job."""
        rows, y = self.training_rows()
        last = last_step(self.estimator)
        if last is not self.estimator:
            rows = self.estimator[:-1].fit_transform(rows, y)
        last._validate_params()
        groups = None if self.groups is None else self.groups[self.train]
        data = last._start_fit(rows, None, None, groups)
        return data, last._build(data)

    def finish_fit(self, data: Any, trained: Trained) -> None:
        """Do the steps of `fit` that follow training."""
        last_step(self.estimator)._finish_fit(data, trained, full=self.needs_density)
        self.is_fitted = True

    def fit(self) -> None:
        """Fit alone."""
        if self.can_be_batched():
            _fit_in_batch([self])
            return
        params = _check_method_params(self.X, params=self.params, indices=self.train)
        rows, y = self.training_rows()
        self.estimator.fit(rows, y, **params, **groups_for(self.estimator, self.groups, self.train))


def _fit_in_batch(parts: list[_Part]) -> None:
    """Fit candidates; networks of one shape are trained in one batch."""
    started = [part.start_fit() for part in parts]
    trained = train_networks([job for _, job in started])
    for part, (data, _), its in zip(parts, started, trained, strict=True):
        part.finish_fit(data, its)


def _try_in_batch(parts: list[_Part]) -> None:
    """Fit candidates in one batch; if any of them fails, none is fitted."""
    fresh = [clone(part.estimator) for part in parts]
    try:
        _fit_in_batch(parts)
    except Exception:
        for part, estimator in zip(parts, fresh, strict=True):
            part.estimator, part.is_fitted = estimator, False  # each is fitted alone, or fails


def _outcome(
    part: _Part, scorer: CandidateScorer, fit_time: float, error_score: Any
) -> dict[str, Any]:
    """Fit unless fitted, and score, as scikit-learn's `_fit_and_score` reports it."""
    result: dict[str, Any] = {"fit_error": None, "n_test_samples": len(part.test)}
    scores = {"test_scores": error_score}
    if scorer.on_training_rows:
        scores["train_scores"] = error_score
    started = time.perf_counter()
    try:
        if not part.is_fitted:
            part.fit()
            fit_time = time.perf_counter() - started
        started = time.perf_counter()
        scores.update(_scores(part, scorer))
    except Exception as error:
        if error_score == "raise":
            raise
        result["fit_error"] = f"{type(error).__name__}: {error}"
    return result | scores | {"fit_time": fit_time, "score_time": time.perf_counter() - started}


def _scores(part: _Part, scorer: CandidateScorer) -> dict[str, float]:
    """Scores of a fitted candidate."""
    rows, y = part.training_rows()
    downstream = None
    if scorer.downstream is not None:
        downstream = clone(scorer.downstream).fit(part.estimator.transform(rows), y)
    scores = {"test_scores": scorer.score(part.estimator, downstream, *part.test_rows())}
    if scorer.on_training_rows:
        scores["train_scores"] = scorer.score(part.estimator, downstream, rows, y)
    return scores


def mean_over_seeds(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of the scores and times of the fits of one candidate with several seeds."""
    numbers_of = [key for key in outcomes[0] if key not in ("fit_error", "n_test_samples")]
    means = {key: float(np.mean([outcome[key] for outcome in outcomes])) for key in numbers_of}
    return {**outcomes[0], **means}


def pca_scores(
    estimator: Any,
    sizes: np.ndarray,
    X: Any,
    y: Any,
    splits: list[Any],
    scorer: CandidateScorer,
    seed: int | None,
) -> np.ndarray | None:
    """Scores of PCA on the held-out rows, of shape (n_splits, n_candidates).

    One PCA serves all sizes; the first steps of a Pipeline come before it too. If the last one
    is a `TableAutoencoder`, it is the PCA of its coordinates, which is FAMD. The scores are those
    of the downstream estimator on its codes or, without one, explained variance ratios. None if
    the rows are sparse, or nothing that PCA takes.
    """
    scores = []
    for train, test in splits:
        rows, y_train = _safe_split(estimator, X, y, train)
        others, y_test = _safe_split(estimator, X, y, test)
        if last_step(estimator) is not estimator:
            first = clone(estimator[:-1])
            rows, others = first.fit_transform(rows, y_train), first.transform(others)
        if sparse.issparse(rows):
            return None
        try:
            observed = None
            if isinstance(last_step(estimator), TableAutoencoder):
                famd = _famd_of(last_step(estimator), seed).fit(rows)
                rows = coordinates_of(famd, rows)[0]
                others, observed = coordinates_of(famd, others)
            pca = fitted_pca(rows, min(sizes.max(), *np.shape(rows)))
            if scorer.downstream is not None:
                parts = (pca.transform(rows), y_train), (pca.transform(others), y_test)
                scores.append([_downstream_score(scorer, int(size), *parts) for size in sizes])
            elif observed is not None:
                scores.append(_observed_ratios(pca, sizes, others, observed))
            else:
                scores.append(_explained_ratios(pca, sizes, np.asarray(others, dtype=float)))
        except (TypeError, ValueError):
            return None
    return np.array(scores)


def _famd_of(table: TableAutoencoder, seed: int | None) -> TableAutoencoder:
    """Linear estimator with the same columns and expectations of gaps as another one."""
    famd = clone(table).set_params(n_components=1, hidden_layer_sizes=(), target_weight=0.0)
    return famd if seed is None else famd.set_params(random_state=seed)


def _observed_ratios(
    pca: PCA, sizes: np.ndarray, coordinates: np.ndarray, observed: np.ndarray
) -> list[float]:
    """Explained shares of the first components, as `TableAutoencoder.score` measures them."""
    total = float(np.square(coordinates[observed]).sum())
    codes, ratios = pca.transform(coordinates), []
    for size in sizes:
        kept = np.where(np.arange(codes.shape[1]) < size, codes, 0.0)
        errors = np.square(coordinates - pca.inverse_transform(kept))
        ratios.append(explained_share(float(errors[observed].sum()), total))
    return ratios


def _explained_ratios(pca: PCA, sizes: np.ndarray, rows: np.ndarray) -> list[float]:
    """Explained variance ratio of the first components, for each size."""
    squares = np.square((rows - pca.mean_) @ pca.components_.T).sum(axis=0)
    total = np.square(rows - pca.mean_).sum()
    explained = np.cumsum(squares)[np.minimum(sizes, len(squares)) - 1]
    return [explained_share(max(0.0, total - each), total) for each in explained]


def _downstream_score(
    scorer: CandidateScorer, size: int, train: tuple[Any, Any], test: tuple[Any, Any]
) -> float:
    """Score of the downstream estimator on the first components of codes."""
    assert scorer.scorer is not None  # there is one for every downstream estimator
    fitted = clone(scorer.downstream).fit(train[0][:, :size], train[1])
    return scorer.scorer(fitted, test[0][:, :size], test[1])
