"""Cross-validated search for the number of components, with candidates trained as one batch."""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures
from sklearn.utils import Tags, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils._set_output import _safe_set_output
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    _check_method_params,
    _num_features,
    _num_samples,
    check_is_fitted,
)

from skae._data.estimator_rollback import all_or_nothing
from skae._data.input_checks import check_rows
from skae._data.parameter_checks import Interval, integers_in
from skae._data.seeds_and_devices import derive_seeds
from skae._data.units import check_groups
from skae._estimators.base import BaseAutoencoder
from skae._estimators.table_coordinates import reference_of
from skae._model_selection.candidate_fits import (
    CandidateFit,
    CandidateScorer,
    fit_and_score,
    folds_of,
    groups_for,
    last_step,
    mean_over_seeds,
    pca_scores,
    uses_target,
)
from skae._model_selection.progress import progress_of_fits
from skae._model_selection.selection_rules import RULES
from skae._model_selection.significance import ALPHA, BOUNDS, paired_difference
from skae._model_selection.verdict import verdict_of
from skae._training.pickling import PicklingMixin

AUTO_SIZES = np.array([2, 4, 8, 16, 32, 64])
FITS_PER_JOB = 16
TINY = 1e-12  # differences of scores of an unknown scale matter if they are no rounding error


def _if_refitted(method: str) -> Callable[[Any], bool]:
    """Check for `available_if`: whether the best estimator has a method, or will have it."""

    def check(self: LatentDimensionSearch) -> bool:
        if not self.refit:
            raise AttributeError(
                f"refit=False: `{method}` needs the best estimator, fitted to all rows; set "
                "refit=True and fit again."
            )
        getattr(getattr(self, "best_estimator_", self.estimator), method)
        return True

    return check


def _delegated(method: str) -> Any:
    """Make a method that calls the same method of the best estimator."""

    def call(self: LatentDimensionSearch, *args: Any, **kwargs: Any) -> Any:
        check_is_fitted(self)
        return getattr(self.best_estimator_, method)(*args, **kwargs)

    call.__name__ = method
    call.__doc__ = f"""Call `{method}` of the best estimator.

        Parameters
        ----------
        *args, **kwargs
            Passed on.

        Returns
        -------
        object
            Its result.
        """
    return available_if(_if_refitted(method))(call)


class LatentDimensionSearch(PicklingMixin, MetaEstimatorMixin, BaseEstimator):
    """Cross-validated search for the number of components.

    It works like ``GridSearchCV(estimator, {"n_components": [...]})``, with two differences.
    On small tables the fits of all candidates, folds and seeds are trained as one batch, in a
    fraction of the time. And an explicit rule chooses the candidate, because the explained
    share of variance grows with the number of components.

    Parameters
    ----------
    estimator : estimator or Pipeline
        An estimator of skae, or a Pipeline that ends with one. Any other estimator with
        `n_components`, such as `PCA`, is fitted candidate by candidate. So is
        `TableAutoencoder`, for frames with categories, dates and gaps.
    n_components : sequence of int, int or "auto", default="auto"
        Candidates. "auto" is the powers of two from 2 to 64 that are smaller than the number
        of features.
    cv : int, splitter or iterable, default=5
        As in `GridSearchCV`. An int is the number of folds; they are not shuffled, and
        stratified if `downstream` is a classifier.
    downstream : estimator, default=None
        A classifier or regressor that is fitted to the codes of each training part. Its score
        on the codes of the held-out part is the score of the candidate.
    scoring : str or callable, default=None
        ``scorer(estimator, X, y)``. It receives the fitted candidate and rows or, with a
        `downstream`, this estimator and codes. None is the score of `downstream`. Without
        `downstream` it is the share of the variance of the held-out rows that is explained, as
        in `skae.metrics.reconstruction_score`; in a Pipeline it is measured on the input of the
        last step.
    rule : {"one_standard_error", "largest", "elbow"} or callable, default="one_standard_error"
        Which candidate is best. "one_standard_error": the smallest one whose mean score is
        within one standard error of the largest mean. "largest": the one with the largest mean.
        "elbow": the one at which the curve of means bends most. A callable maps `cv_results_`
        to an index, as for `refit` of GridSearchCV.
    n_seeds : int, default=1
        Number of fits of each candidate to each training part, from different random states.
        The score of a split is their mean.
    refit : bool, default=True
        Fit the best candidate to all rows; `transform` and other methods need it.
    together : bool, default=True
        Train candidates as one batch where possible: multilayer perceptrons with activation
        "relu", "tanh", "logistic" or "identity", without callbacks, sample weights or
        `target_weight`, and so small that the overhead of calls dominates. Others are trained
        one by one.
    n_jobs : int, default=None
        Number of processes. Candidates of one size form a job.
    error_score : "raise" or float, default=np.nan
        Score of a candidate whose fit fails.
    return_train_score : bool, default=False
    random_state : int, RandomState instance or None, default=None
        Determines the seeds of the fits. None keeps the estimator's own if `n_seeds` is 1.
    verbose : int, default=0
        1 shows a progress bar: the fits and candidates that are done, and the time left.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        As in `GridSearchCV`. The fit time of a candidate is its share of the time of its batch.
        If scores are shares of variance or those of `downstream`, and rows are dense,
        "mean_pca_score" and "std_pca_score" have the scores of PCA on the same rows; of a
        `TableAutoencoder`, those of the factor analysis of mixed data (FAMD), which is its
        linear kind.
    verdict_ : str or None
        Whether the best candidate or the PCA (or FAMD) of its size is better, by the rule of
        `skae.compare`, with the interval of their difference. None without scores of PCA, with
        one split, or if a fit failed.
    best_index_, best_score_, best_params_ : int, float, dict
        Of the candidate that `rule` chose.
    n_components_ : int
        Its number of components.
    best_estimator_ : estimator
        Fitted to all rows, if `refit`.
    downstream_ : estimator
        Fitted to its codes, if there is a `downstream`.
    n_splits_ : int
    refit_time_ : float
        Seconds.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Of the best estimator.

    Raises
    ------
    ValueError
        If the estimator has no `n_components`, a candidate is not a positive integer,
        `downstream` is given without y, or all fits failed.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : Searches any parameters.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import scale
    >>> from skae import AutoencoderTransformer, LatentDimensionSearch
    >>> X = scale(load_wine().data)
    >>> autoencoder = AutoencoderTransformer(max_epochs=5, random_state=0)
    >>> search = LatentDimensionSearch(autoencoder, n_components=[1, 2, 4, 8], cv=3).fit(X)
    >>> search.n_components_
    8
    >>> search.transform(X).shape
    (178, 8)
    >>> search.verdict_.split(":")[0]
    'PCA suffices'
    """

    __module__ = "skae"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "get_params", "set_params"])],
        "n_components": [
            "array-like",
            Interval(numbers.Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "cv": ["cv_object"],
        "downstream": [HasMethods(["fit"]), None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "rule": [StrOptions(set(RULES)), callable],
        "n_seeds": [Interval(numbers.Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "together": ["boolean"],
        "n_jobs": [Interval(numbers.Integral, None, None, closed="neither"), None],
        "error_score": [StrOptions({"raise"}), numbers.Real],
        "return_train_score": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    cv_results_: dict[str, Any]

    def __init__(
        self,
        estimator: Any,
        n_components: Sequence[int] | int | Literal["auto"] = "auto",
        *,
        cv: Any = 5,
        downstream: Any = None,
        scoring: str | Callable[..., float] | None = None,
        rule: str | Callable[[dict[str, Any]], int] = "one_standard_error",
        n_seeds: int = 1,
        refit: bool = True,
        together: bool = True,
        n_jobs: int | None = None,
        error_score: float | Literal["raise"] = np.nan,
        return_train_score: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.n_components = n_components
        self.cv = cv
        self.downstream = downstream
        self.scoring = scoring
        self.rule = rule
        self.n_seeds = n_seeds
        self.refit = refit
        self.together = together
        self.n_jobs = n_jobs
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Score all candidates and fit the best one.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Or a frame, if the estimator takes its columns.
        y : array-like of shape (n_samples,), default=None
            For `downstream`, `scoring`, an estimator with a `target_weight` and the other steps
            of a Pipeline.
        **params : dict
            ``groups`` goes to the splitter and to `fit` of estimators of skae: rows of a group
            are held out together. If `cv` is an int, folds are then those of `GroupKFold` or
            `StratifiedGroupKFold`. The others go to `fit` of the candidates. Those that are as
            long as X are split.

        Returns
        -------
        self : object
        """
        self._validate_params()
        with all_or_nothing(self), torch.inference_mode(False):
            self._search(X, y, params)
        return self

    def _search(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        self._check_rows(X, y)
        X, y = indexable(X, y)
        sizes = self._candidate_sizes(X)
        groups = check_groups(params.get("groups"), X)
        params = {name: value for name, value in params.items() if name != "groups"}
        splits = self._make_splits(X, y, groups)
        params = _check_method_params(X, params)
        scorer = CandidateScorer(self._make_scorer(), self.downstream, self.return_train_score)
        seeds = self._make_seeds()
        tasks = [
            CandidateFit(self._candidate(size, seed), i_size, i_split)
            for i_size, size in enumerate(sizes)
            for i_split in range(len(splits))
            for seed in seeds
        ]
        common = scorer, X, y, splits, params, groups, self.together, self.error_score
        outcomes = self._evaluate(tasks, list(self._jobs(tasks, X)), common)
        self._set_results(sizes, outcomes, len(splits))
        pca = self._add_pca_scores(sizes, X, y, splits, scorer, seeds[0])
        self._choose(sizes)
        self.verdict_ = None if pca is None else self._compare_with_pca(pca, splits)
        if self.refit:
            self._scorer = scorer.scorer
            self._refit(seeds[0], X, y, params, groups)

    def _check_rows(self, X: Any, y: Any) -> None:
        """Refuse rows once, before any fit, and a missing y."""
        if isinstance(self.estimator, BaseAutoencoder):
            check_rows(clone(self.estimator), X, reset=True)
        if self.downstream is not None and y is None:
            raise ValueError(
                f"downstream={self.downstream!r} requires y to be passed, but the target y is "
                "None; pass y, or set downstream=None."
            )

    def _candidate_sizes(self, X: Any) -> np.ndarray:
        """Numbers of components to be scored, increasing."""
        _parameter_names(self.estimator)  # raises if there are no components to choose
        if isinstance(self.n_components, str):
            powers = AUTO_SIZES[_n_features(X) > AUTO_SIZES]
            return powers if len(powers) else np.array([1])
        sizes = integers_in(self.n_components)
        if not sizes or min(sizes) < 1:
            raise ValueError(
                f"n_components={self.n_components!r} must hold integers >= 1, one for each "
                "candidate, or be 'auto'."
            )
        return np.unique(sizes)

    def _make_splits(self, X: Any, y: Any, groups: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        stratifies = self.downstream is not None and is_classifier(self.downstream)
        cv = self.cv
        if groups is not None and isinstance(cv, numbers.Integral):
            cv = folds_of(stratifies, groups)(int(cv))
        return list(check_cv(cv, y, classifier=stratifies).split(X, y, groups))

    def _make_seeds(self) -> list[int | None]:
        """Random states of the fits; None keeps the estimator's own."""
        if self.random_state is None and self.n_seeds == 1:
            return [None]
        return list(derive_seeds(self.random_state, self.n_seeds))

    def _candidate(self, size: int, seed: int | None) -> Any:
        """Unfitted estimator with some number of components."""
        n_components, random_state = _parameter_names(self.estimator)
        estimator = clone(self.estimator).set_params(**{n_components: int(size)})
        return estimator if seed is None else estimator.set_params(**{random_state: seed})

    def _make_scorer(self) -> Callable[..., float] | None:
        """Scorer of fitted candidates; None is the share of variance explained."""
        if self.downstream is not None:
            return check_scoring(self.downstream, self.scoring)
        return None if self.scoring is None else check_scoring(self.estimator, self.scoring)

    def _evaluate(
        self, tasks: list[CandidateFit], jobs: list[list[int]], common: tuple[Any, ...]
    ) -> list[dict[str, Any]]:
        """Scores and times of all tasks, in their order."""
        done = Parallel(n_jobs=self.n_jobs, return_as="generator")(
            delayed(fit_and_score)([tasks[i] for i in job], *common) for job in jobs
        )
        outcomes: list[Any] = [None] * len(tasks)
        sizes = [task.size for task in tasks]
        with progress_of_fits("search", sizes, is_shown=bool(self.verbose)) as count:
            for job, results in zip(jobs, done, strict=True):
                for i, result in zip(job, results, strict=True):
                    outcomes[i] = result
                count(job)
        return outcomes

    def _jobs(self, tasks: list[CandidateFit], X: Any) -> Iterator[list[int]]:
        """Indices of the tasks of each job, the largest candidates first.

        Jobs do not depend on the number of processes, so that results do not either.
        """
        for size in sorted({task.size for task in tasks}, reverse=True):
            job = [i for i, task in enumerate(tasks) if task.size == size]
            n_fits = FITS_PER_JOB if self.together and self._is_batched(tasks[job[0]], X) else 1
            for part in np.array_split(job, -(-len(job) // n_fits)):
                yield part.tolist()

    def _is_batched(self, task: CandidateFit, X: Any) -> bool:
        """Whether fits of this size are trained as one batch."""
        last = last_step(task.estimator)
        n_rows, n_features = _num_samples(X), _n_features(X)
        if uses_target(last):
            return False
        return isinstance(last, BaseAutoencoder) and last._n_fits_per_batch(n_rows, n_features) > 1

    def _set_results(self, sizes: np.ndarray, outcomes: list[Any], n_splits: int) -> None:
        """Arrange scores and times as GridSearchCV does."""
        _warn_or_raise_about_fit_failures(outcomes, self.error_score)
        starts = range(0, len(outcomes), self.n_seeds)  # the seeds of one split come together
        means = [mean_over_seeds(outcomes[i : i + self.n_seeds]) for i in starts]
        candidates = [{_parameter_names(self.estimator)[0]: int(size)} for size in sizes]
        search = GridSearchCV(self.estimator, {}, return_train_score=self.return_train_score)
        self.cv_results_ = search._format_results(candidates, n_splits, means)
        self.n_splits_ = n_splits

    def _add_pca_scores(
        self,
        sizes: np.ndarray,
        X: Any,
        y: Any,
        splits: list[Any],
        scorer: CandidateScorer,
        seed: int | None,
    ) -> np.ndarray | None:
        """Add the scores of PCA and return them, of shape (n_splits, n_candidates).

        None if a scorer of the estimator itself may need more than PCA has.
        """
        if scorer.scorer is not None and scorer.downstream is None:
            return None
        scores = pca_scores(self.estimator, sizes, X, y, splits, scorer, seed)
        if scores is not None:
            self.cv_results_["mean_pca_score"] = scores.mean(axis=0)
            self.cv_results_["std_pca_score"] = scores.std(axis=0)
        return scores

    def _compare_with_pca(self, pca: np.ndarray, splits: list[Any]) -> str | None:
        """Compare the chosen candidate with PCA, by the rule of `skae.compare`."""
        names = [f"split{i}_test_score" for i in range(len(splits))]
        own = np.array([self.cv_results_[name][self.best_index_] for name in names])
        theirs = pca[:, self.best_index_]
        if len(splits) < 2 or not np.isfinite(own - theirs).all():
            return None
        ratio = float(np.mean([len(test) / len(train) for train, test in splits]))
        measure, label = "explained_variance", ""
        if self.downstream is not None:
            measure, label = "downstream_score", self._score_label()
        bounds = BOUNDS[measure] if self.scoring is None else (TINY, TINY)
        reference = reference_of(self.estimator)
        row = {
            "measure": measure,
            "estimator": type(last_step(self.estimator)).__name__,
            "n_components": self.n_components_,
            "reference": reference,
            "reference_n_components": self.n_components_,
            "uses_target": uses_target(self.estimator),
            **paired_difference(theirs, own, ratio, ALPHA / pca.shape[1], bounds),
        }
        return verdict_of([row], reference, {measure: label})[0]

    def _score_label(self) -> str:
        """Name of the score of `downstream`."""
        if self.scoring is None:
            return "accuracy" if is_classifier(self.downstream) else "R²"
        return self.scoring.replace("_", " ") if isinstance(self.scoring, str) else "score"

    def _choose(self, sizes: np.ndarray) -> None:
        """Apply the rule and set the attributes of the best candidate."""
        if callable(self.rule):
            self.best_index_ = int(self.rule(self.cv_results_))
            if not 0 <= self.best_index_ < len(sizes):
                raise IndexError(
                    f"rule={self.rule!r} returned {self.best_index_}, but there are {len(sizes)} "
                    "candidates; return an index of cv_results_."
                )
        else:
            self.best_index_ = RULES[self.rule](sizes, *self._finite_scores(sizes))
        self.best_params_ = self.cv_results_["params"][self.best_index_]
        self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])
        self.n_components_ = int(sizes[self.best_index_])

    def _finite_scores(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean scores, of which at least one is finite, and their standard errors."""
        means = self.cv_results_["mean_test_score"]
        if not np.isfinite(means).any():
            raise ValueError(
                f"No candidate of {sizes.tolist()} has a finite score; check `scoring` and X."
            )
        return means, self.cv_results_["std_test_score"] / np.sqrt(self.n_splits_)

    def _refit(
        self, seed: int | None, X: Any, y: Any, params: dict[str, Any], groups: np.ndarray | None
    ) -> None:
        """Fit the best candidate, and `downstream` to its codes, to all rows."""
        started = time.perf_counter()
        self.best_estimator_ = self._candidate(self.n_components_, seed)
        of_groups = groups_for(self.best_estimator_, groups, slice(None))
        self.best_estimator_.fit(X, y, **params, **of_groups)
        if self.downstream is not None:
            codes = self.best_estimator_.transform(X)
            self.downstream_ = clone(self.downstream).fit(codes, y)
        self.refit_time_ = time.perf_counter() - started

    # -- methods and attributes of the best estimator ------------------------------

    transform = _delegated("transform")
    inverse_transform = _delegated("inverse_transform")
    reconstruct = _delegated("reconstruct")
    reconstruction_error = _delegated("reconstruction_error")
    denoise = _delegated("denoise")
    posterior = _delegated("posterior")
    score_samples = _delegated("score_samples")
    sample = _delegated("sample")
    sample_around = _delegated("sample_around")
    interpolate = _delegated("interpolate")
    get_feature_names_out = _delegated("get_feature_names_out")

    @available_if(_if_refitted("transform"))
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit, then encode the same rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
        **params : dict
            As of `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_)
        """
        return self.fit(X, y, **params).transform(X)

    @available_if(_if_refitted("transform"))
    def score(self, X: Any, y: Any = None) -> float:
        """Score of the best estimator, measured as in the search.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        check_is_fitted(self)
        scorer = CandidateScorer(self._scorer, self.downstream, self.return_train_score)
        return scorer.score(self.best_estimator_, getattr(self, "downstream_", None), X, y)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose the container of what `transform` returns.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None

        Returns
        -------
        self : object
        """
        for estimator in (self.estimator, getattr(self, "best_estimator_", None)):
            if estimator is not None:
                _safe_set_output(estimator, transform=transform)
        return self

    @property
    def n_features_in_(self) -> int:
        """Number of features of the rows to which the best estimator was fitted."""
        return self._best("n_features_in_")

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of these features, if X had any."""
        return self._best("feature_names_in_")

    def _best(self, attribute: str) -> Any:
        """Attribute of the best estimator; an AttributeError before `fit`."""
        if "best_estimator_" not in vars(self):
            raise AttributeError(f"LatentDimensionSearch has no `{attribute}` before `fit`.")
        return getattr(self.best_estimator_, attribute)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "best_estimator_" if self.refit else "cv_results_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        theirs = get_tags(self.estimator)
        tags.estimator_type = theirs.estimator_type
        tags.transformer_tags = theirs.transformer_tags
        tags.input_tags = theirs.input_tags
        tags.target_tags.required = self.downstream is not None
        return tags


def _n_features(X: Any) -> int:
    """Number of features; 1 if X has none, which the estimator will report."""
    try:
        return _num_features(X)
    except TypeError:
        return 1


def _parameter_names(estimator: Any) -> tuple[str, str]:
    """Names of `n_components` and `random_state` of an estimator, or of a Pipeline's last step."""
    last = last_step(estimator)
    if not (hasattr(last, "get_params") and "n_components" in last.get_params(deep=False)):
        raise ValueError(
            f"estimator={estimator!r} has no parameter n_components; pass an estimator of skae, "
            "another one with this parameter, or a Pipeline that ends with one."
        )
    prefix = "" if last is estimator else f"{estimator.steps[-1][0]}__"
    return f"{prefix}n_components", f"{prefix}random_state"
