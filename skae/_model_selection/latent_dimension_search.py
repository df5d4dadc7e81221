"""A search for the number of components that trains all candidates together."""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures
from sklearn.utils import Tags, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._set_output import _safe_set_output
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    _check_method_params,
    _num_features,
    _num_samples,
    check_is_fitted,
)
from tqdm.auto import tqdm

from skae._data.validation import all_or_nothing, check_rows, derive_seeds
from skae._estimators.base import BaseAutoencoder
from skae._model_selection.candidate_fits import (
    CandidateFit,
    CandidateScorer,
    fit_and_score,
    last_step,
    mean_over_seeds,
    pca_explained_ratios,
)
from skae._model_selection.selection_rules import RULES

LARGEST_AUTO = 64  # of the candidates that "auto" stands for
FITS_OF_A_JOB = 16


def _if_refitted(method: str) -> Callable[[Any], bool]:
    """Make a check that the best estimator, or the one to be fitted, has a method."""

    def check(self: LatentDimensionSearch) -> bool:
        if not self.refit:
            raise AttributeError(
                f"This LatentDimensionSearch was made with refit=False: `{method}` needs the "
                "best estimator, fitted to all rows; set refit=True."
            )
        getattr(getattr(self, "best_estimator_", self.estimator), method)
        return True

    return check


def _delegated(method: str) -> Any:
    """Make a method that is the best estimator's own."""

    def call(self: LatentDimensionSearch, *args: Any, **kwargs: Any) -> Any:
        check_is_fitted(self)
        return getattr(self.best_estimator_, method)(*args, **kwargs)

    call.__name__ = method
    call.__doc__ = f"""Call `{method}` of the best estimator.

        Parameters
        ----------
        *args, **kwargs
            As its own.

        Returns
        -------
        object
            What it returns.
        """
    return available_if(_if_refitted(method))(call)


class LatentDimensionSearch(MetaEstimatorMixin, BaseEstimator):
    """Cross-validated search for the number of components.

    What ``GridSearchCV(estimator, {"n_components": [...]})`` does, with two differences: on
    small tables the candidates of all folds and seeds are trained together, as one network
    with a leading axis, which takes a fraction of the time; and a stated rule chooses, since
    the share of variance explained grows with the size.

    Parameters
    ----------
    estimator : estimator or Pipeline
        An estimator of skae, or a Pipeline that ends with one. Any other estimator with
        `n_components`, such as `PCA`, is fitted candidate by candidate.
    n_components : sequence of int, int or "auto", default="auto"
        Candidates. "auto" is the powers of two from 2 up to 64 that are below the number of
        features.
    cv : int, splitter or iterable, default=5
        As of `GridSearchCV`: an int is that many folds, stratified if `downstream` is a
        classifier, not shuffled.
    downstream : estimator, default=None
        A classifier or regressor that is fitted to the codes of each training part; candidates
        are judged by its score on the codes of the part left out.
    scoring : str or callable, default=None
        ``scorer(estimator, X, y)``. It is given the fitted candidate and rows or, if there is a
        `downstream`, this estimator and codes. None is the score of `downstream` or,
        without one, the share of the variance explained of the rows left out, as
        `skae.metrics.reconstruction_score` has it; behind the steps of a Pipeline, of what its
        last step is given.
    rule : {"one_standard_error", "largest", "elbow"} or callable, default="one_standard_error"
        Which candidate is best: the smallest whose mean score is within one standard error
        of the largest mean; that of the largest mean; where the curve of means bends most.
        A callable maps `cv_results_` to an index, as GridSearchCV's `refit` does.
    n_seeds : int, default=1
        Fits of each candidate to each training part, from different random states; the score
        of a split is their mean.
    refit : bool, default=True
        Fit the best candidate to all rows, for `transform` and the rest.
    together : bool, default=True
        Train candidates together where that can be done: perceptrons with activation "relu",
        "tanh", "logistic" or "identity", without callbacks or weights, and small enough
        that their calls cost much. The others are trained one by one in any case.
    n_jobs : int, default=None
        Processes. Candidates of one size form a job.
    error_score : "raise" or float, default=np.nan
        Score of a candidate whose fit fails.
    return_train_score : bool, default=False
    random_state : int, RandomState instance or None, default=None
        Of the fits. None leaves the estimator's own, if `n_seeds` is 1.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        As of `GridSearchCV`. A fit's time is its share of the time of those trained with it.
        Where scores are shares of variance, and rows are dense, "mean_pca_score" and
        "std_pca_score" have PCA's of the same rows.
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
        If the estimator has no `n_components`, a candidate is no positive integer, y is absent
        where `downstream` needs it, or all fits failed.

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
    """

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
        "n_jobs": [numbers.Integral, None],
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
        """Judge all candidates and fit the best one.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            For `downstream`, `scoring` and the steps of a Pipeline.
        **params : dict
            ``groups`` for the splitter; what else is as long as X is split and given to
            `fit` of the candidates.

        Returns
        -------
        self : object
        """
        self._validate_params()
        with all_or_nothing(self):
            self._search(X, y, params)
        return self

    def _search(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        X, y = indexable(X, y)
        if isinstance(self.estimator, BaseAutoencoder):
            check_rows(clone(self.estimator), X, reset=True)  # now, not in every fit
        if self.downstream is not None and y is None:
            raise ValueError(
                f"downstream={self.downstream!r} requires y to be passed, but the target y is "
                "None; pass y, or set downstream=None."
            )
        names = dimension_names(self.estimator)
        sizes = self._candidates(X)
        groups = params.pop("groups", None)
        classifies = self.downstream is not None and is_classifier(self.downstream)
        cv = check_cv(self.cv, y, classifier=classifies)
        splits = list(cv.split(X, y, groups))
        params = _check_method_params(X, params)
        judge = CandidateScorer(self._scorer(), self.downstream, self.return_train_score)
        seeds = self._seeds()
        tasks = [
            CandidateFit(self._candidate(names, size, seed), i_size, i_split)
            for i_size, size in enumerate(sizes)
            for i_split in range(len(splits))
            for seed in seeds
        ]
        outcomes = self._evaluate(tasks, judge, X, y, splits, params)
        self._set_results(names, sizes, tasks, outcomes, len(splits))
        if judge.explains:
            self._add_pca(sizes, X, y, splits)
        self._choose(sizes)
        if self.refit:
            self._refit(names, seeds[0], judge, X, y, params)

    def _candidates(self, X: Any) -> np.ndarray:
        """Numbers of components to be judged, increasing."""
        if isinstance(self.n_components, str):
            powers = 2 ** np.arange(1, int(np.log2(LARGEST_AUTO)) + 1)
            below = powers[powers < width_of(X)]
            return below if len(below) else np.array([1])
        sizes = np.atleast_1d(self.n_components)
        whole = sizes.ndim == 1 and len(sizes) > 0 and sizes.dtype.kind in "iu"
        if not whole or sizes.min() < 1:
            raise ValueError(
                f"n_components={self.n_components!r} must hold integers >= 1, one for each "
                "candidate, or be 'auto'."
            )
        return np.unique(sizes)

    def _seeds(self) -> list[int | None]:
        """Random states of the fits; None leaves the estimator's own."""
        if self.random_state is None and self.n_seeds == 1:
            return [None]
        return list(derive_seeds(self.random_state, self.n_seeds))

    def _candidate(self, names: tuple[str, str], size: int, seed: int | None) -> Any:
        """Estimator of some size, not fitted."""
        dimension, state = names
        estimator = clone(self.estimator).set_params(**{dimension: int(size)})
        return estimator if seed is None else estimator.set_params(**{state: seed})

    def _scorer(self) -> Callable[..., float] | None:
        """What judges; None is the share of variance explained."""
        if self.downstream is not None:
            return check_scoring(self.downstream, self.scoring)
        return None if self.scoring is None else check_scoring(self.estimator, self.scoring)

    def _evaluate(
        self,
        tasks: list[CandidateFit],
        judge: CandidateScorer,
        X: Any,
        y: Any,
        splits: list[tuple[np.ndarray, np.ndarray]],
        params: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Scores and times of all tasks, in their order."""
        jobs = list(self._jobs(tasks, X))
        given = judge, X, y, splits, params, self.together, self.error_score
        done = Parallel(n_jobs=self.n_jobs, return_as="generator")(
            delayed(fit_and_score)([tasks[i] for i in job], *given) for job in jobs
        )
        outcomes: list[Any] = [None] * len(tasks)
        with tqdm(total=len(tasks), desc="search", unit="fit", disable=not self.verbose) as bar:
            for job, results in zip(jobs, done, strict=True):
                for i, result in zip(job, results, strict=True):
                    outcomes[i] = result
                bar.update(len(job))
        return outcomes

    def _jobs(self, tasks: list[CandidateFit], X: Any) -> Iterator[list[int]]:
        """Indices of tasks that are done in one process, the largest first.

        They do not depend on the number of processes, and neither does the result.
        """
        for size in sorted({task.size for task in tasks}, reverse=True):
            job = [i for i, task in enumerate(tasks) if task.size == size]
            n_fits = FITS_OF_A_JOB if self.together and self._is_small(tasks[job[0]], X) else 1
            for part in np.array_split(job, -(-len(job) // n_fits)):
                yield part.tolist()

    def _is_small(self, task: CandidateFit, X: Any) -> bool:
        """Whether fits of this size are trained together."""
        last = last_step(task.estimator)
        if not isinstance(last, BaseAutoencoder):
            return False
        return last._n_trained_together(_num_samples(X), width_of(X)) > 1

    def _set_results(
        self,
        names: tuple[str, str],
        sizes: np.ndarray,
        tasks: list[CandidateFit],
        outcomes: list[dict[str, Any]],
        n_splits: int,
    ) -> None:
        """Arrange scores and times as GridSearchCV does."""
        _warn_or_raise_about_fit_failures(outcomes, self.error_score)
        by_split = [
            mean_over_seeds(
                [
                    outcome
                    for task, outcome in zip(tasks, outcomes, strict=True)
                    if (task.size, task.split) == (i_size, i_split)
                ]
            )
            for i_size in range(len(sizes))
            for i_split in range(n_splits)
        ]
        candidates = [{names[0]: int(size)} for size in sizes]
        search = GridSearchCV(self.estimator, {}, return_train_score=self.return_train_score)
        self.cv_results_ = search._format_results(candidates, n_splits, by_split)
        self.n_splits_ = n_splits

    def _add_pca(self, sizes: np.ndarray, X: Any, y: Any, splits: list[Any]) -> None:
        """Add the shares of variance that PCA explains."""
        shares = pca_explained_ratios(self.estimator, sizes, X, y, splits)
        if shares is not None:
            self.cv_results_["mean_pca_score"] = shares.mean(axis=0)
            self.cv_results_["std_pca_score"] = shares.std(axis=0)

    def _choose(self, sizes: np.ndarray) -> None:
        """Choose by the rule."""
        results = self.cv_results_
        if callable(self.rule):
            self.best_index_ = int(self.rule(results))
            if not 0 <= self.best_index_ < len(sizes):
                raise IndexError(
                    f"rule={self.rule!r} returned {self.best_index_}, but there are {len(sizes)} "
                    "candidates; return an index of cv_results_."
                )
        else:
            means = results["mean_test_score"]
            if not np.isfinite(means).any():
                raise ValueError(f"No candidate of {sizes.tolist()} has a finite score.")
            errors = results["std_test_score"] / np.sqrt(self.n_splits_)
            self.best_index_ = RULES[self.rule](sizes, means, errors)
        self.best_params_ = results["params"][self.best_index_]
        self.best_score_ = float(results["mean_test_score"][self.best_index_])
        self.n_components_ = int(sizes[self.best_index_])

    def _refit(
        self,
        names: tuple[str, str],
        seed: int | None,
        judge: CandidateScorer,
        X: Any,
        y: Any,
        params: dict[str, Any],
    ) -> None:
        """Fit the best candidate, and what comes after it, to all rows."""
        started = time.perf_counter()
        self.best_estimator_ = self._candidate(names, self.n_components_, seed)
        self.best_estimator_.fit(X, y, **params)
        if self.downstream is not None:
            codes = self.best_estimator_.transform(X)
            self.downstream_ = clone(self.downstream).fit(codes, y)
        self.refit_time_ = time.perf_counter() - started
        self._judge = judge

    # -- what the best estimator does ----------------------------------------------

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
        """Score of the best estimator by what the search judged by.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        check_is_fitted(self)
        return self._judge.score(self.best_estimator_, getattr(self, "downstream_", None), X, y)

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
        """Number of features of the rows that the best estimator was fitted to."""
        return self._best("n_features_in_")

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of these features, if they have any."""
        return self._best("feature_names_in_")

    def _best(self, attribute: str) -> Any:
        """Attribute of the best estimator; absent as long as there is none."""
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


def width_of(X: Any) -> int:
    """Number of features of rows; 1 where they are nothing that has any.

    Parameters
    ----------
    X : array-like

    Returns
    -------
    int
    """
    try:
        return _num_features(X)
    except TypeError:
        return 1  # the estimator will say what is wrong


def dimension_names(estimator: Any) -> tuple[str, str]:
    """Names of the parameters for the number of components and for the random state.

    Parameters
    ----------
    estimator : estimator or Pipeline

    Returns
    -------
    tuple of two str

    Raises
    ------
    ValueError
        If there is no number of components.
    """
    last = last_step(estimator)
    if not (hasattr(last, "get_params") and "n_components" in last.get_params(deep=False)):
        raise ValueError(
            f"estimator={estimator!r} has no parameter n_components; give an estimator of skae, "
            "another that has it, or a Pipeline that ends with one."
        )
    prefix = "" if last is estimator else f"{estimator.steps[-1][0]}__"
    return f"{prefix}n_components", f"{prefix}random_state"
