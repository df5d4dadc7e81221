"""Scores that compare any dimension reducer with any other."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _check_sample_weight, check_array

from skae._data.dtypes_and_batch_sizes import FLOAT_DTYPES
from skae._data.frames import frame_like
from skae._data.input_checks import as_dense
from skae._data.sample_weight import weighted_average
from skae._data.scores import explained_share

AFFINE = 1e-6  # departure from an affine map, as a share of what it spans
ROUNDING = 1e-12


def reconstruction_score(estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """Fraction of variance that codes keep: 1 - SSE / SST around the training mean.

    A scorer, to be passed as ``scoring=reconstruction_score``. The error is measured in
    the units of X, whatever steps a Pipeline has: what is lost in any of them counts. For
    an estimator of skae it is what its `score` returns.

    Parameters
    ----------
    estimator : estimator with `transform` and `inverse_transform`
        A fitted reducer, such as `PCA`, ``KernelPCA(fit_inverse_transform=True)``, any
        estimator of skae, or a Pipeline of steps that can all be inverted.
    X : array-like or sparse matrix or array of shape (n_samples, n_features)
        Rows to encode and decode.
    y : None
        Ignored.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    score : float
        1 is a perfect reconstruction, 0 is what the mean reaches. The mean is that of the
        training rows where the estimator keeps one as ``mean_`` (in a Pipeline: its first
        step that does, taken back through the steps before it), else that of X.

    Raises
    ------
    TypeError
        If the estimator cannot transform and go back.
    ValueError
        If X holds NaN or infinity or has the wrong width.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skae.metrics import reconstruction_score
    >>> X, _ = load_wine(return_X_y=True)
    >>> scores = cross_val_score(PCA(2), X, scoring=reconstruction_score)
    >>> scores.round(4)
    array([1.    , 0.9998, 0.9998, 0.9998, 0.9988])
    >>> pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    >>> bool(0.6 < reconstruction_score(pipeline, X) < 0.8)
    True
    """
    for method in ("transform", "inverse_transform"):
        if not hasattr(estimator, method):
            raise TypeError(
                f"reconstruction_score needs an estimator with `{method}`, which "
                f"{estimator!r} lacks; KernelPCA has it with fit_inverse_transform=True, a "
                "Pipeline if all of its steps do."
            )
    restored = np.asarray(estimator.inverse_transform(estimator.transform(X)))
    rows = as_dense(check_array(X, dtype=FLOAT_DTYPES, accept_sparse="csr"))
    weights = None if sample_weight is None else _check_sample_weight(sample_weight, rows)
    mean = _training_mean(estimator)
    if mean is None:
        mean = np.average(rows, axis=0, weights=weights)
    lost = np.square(rows - restored).sum(axis=1, dtype=np.float64)
    total = np.square(rows - mean).sum(axis=1, dtype=np.float64)
    return explained_share(weighted_average(lost, weights), weighted_average(total, weights))


def _training_mean(estimator: Any) -> np.ndarray | None:
    """Mean of the training rows in the units of the estimator's input, where it is kept."""
    if not isinstance(estimator, Pipeline):
        return getattr(estimator, "mean_", None)
    for i, (_, step) in enumerate(estimator.steps):
        mean = None if step in (None, "passthrough") else _training_mean(step)
        if mean is not None:
            before = estimator[:i]
            if i == 0:
                return mean
            return np.asarray(before.inverse_transform(mean[None]))[0]
    return None


def log_likelihood_score(estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """Mean log-likelihood of rows, in nats and in the units of X.

    A scorer, to be passed as ``scoring=log_likelihood_score``. Unlike `reconstruction_score`
    it does not rise with every component, so that it can choose their number. In a Pipeline,
    what the last step says of its own units is brought back to those of X: the logarithm of
    how much the steps before it stretch volumes is added, so that models behind different
    scalers compare.

    Parameters
    ----------
    estimator : estimator with `score_samples`
        A fitted density, such as `PCA`, `FactorAnalysis`, `GaussianMixture`, `KernelDensity` or
        any estimator of skae, or a Pipeline that ends in one and whose other steps are affine
        and can be inverted, such as scalers and PCA with all components. Of a fitted search
        it is that of its best estimator.
    X : array-like of shape (n_samples, n_features)
        Rows to score.
    y : None
        Ignored.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows in the mean.

    Returns
    -------
    score : float
        Mean over rows. The density of a row in other units is another number: rows that are
        multiplied by c lose ``n_features * log(c)``.

    Raises
    ------
    TypeError
        If the estimator, or the last step, gives no log-likelihoods of rows.
    ValueError
        If a step before the last changes the number of columns, is not affine or cannot
        be inverted.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import RobustScaler, StandardScaler
    >>> from skae.metrics import log_likelihood_score
    >>> X, _ = load_wine(return_X_y=True)
    >>> for scaler in ("passthrough", RobustScaler(), StandardScaler()):
    ...     pipeline = make_pipeline(scaler, PCA(4))
    ...     print(cross_val_score(pipeline, X, scoring=log_likelihood_score).mean().round(1))
    -27.6
    -23.3
    -23.1
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    if isinstance(estimator, Pipeline):
        return _log_likelihood_of_pipeline(estimator, X, sample_weight)
    if not hasattr(estimator, "score_samples") or isinstance(estimator, OutlierMixin):
        raise TypeError(
            "log_likelihood_score needs an estimator whose `score_samples` returns "
            f"log-likelihoods, which {estimator!r} lacks; a Pipeline must end in one."
        )
    log_likelihoods = np.asarray(estimator.score_samples(X), dtype=np.float64)
    if sample_weight is not None:
        sample_weight = _check_sample_weight(sample_weight, log_likelihoods)
    return weighted_average(log_likelihoods, sample_weight)


def _log_likelihood_of_pipeline(pipeline: Pipeline, X: Any, sample_weight: Any) -> float:
    """What the last step says, plus the logarithms of the volumes of those before it."""
    X, log_volume = frame_like(check_array(X, dtype=np.float64), X), 0.0
    for name, step in pipeline.steps[:-1]:
        if step not in (None, "passthrough"):
            log_volume += _log_volume(step, X, f"step {name!r} ({step!r})")
            X = step.transform(X)
    last = pipeline.steps[-1][1]
    return log_volume + log_likelihood_score(last, X, sample_weight=sample_weight)


def _log_volume(step: Any, X: Any, label: str) -> float:
    """Logarithm of how much an affine step stretches volumes."""
    rows, results = np.asarray(X), np.asarray(step.transform(X))
    if results.shape[1] != rows.shape[1]:
        raise ValueError(
            f"log_likelihood_score: {label} turns {rows.shape[1]} columns into "
            f"{results.shape[1]}, so that there is no density in the space of the rows; leave "
            "the reduction to the last step."
        )
    # Around the rows and as far as they spread, where rounding and clipping show.
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread[spread == 0] = 1.0
    along = np.diag(spread)
    probes = frame_like(np.vstack([centre, centre + along, centre - along]), X)
    origin, forth, back = np.split(np.asarray(step.transform(probes)), [1, 1 + len(along)])
    slopes = forth - origin
    predicted = np.vstack([origin + (rows - centre) / spread @ slopes, origin - slopes])
    _check_affine(np.vstack([results, back]), predicted, slopes, label)
    return float(np.linalg.slogdet(slopes / spread[:, None])[1])


def _check_affine(
    reached: np.ndarray, predicted: np.ndarray, slopes: np.ndarray, label: str
) -> None:
    """Refuse a step that leads elsewhere than its slopes say, or from which none leads back."""
    allowed = AFFINE * np.ptp(reached, axis=0) + ROUNDING * np.abs(reached).max(axis=0)
    if (np.abs(reached - predicted).max(axis=0) > allowed).any():
        raise ValueError(
            f"log_likelihood_score: {label} is not affine on these rows, so that it stretches "
            "volumes here more than there; use an affine scaler that does not clip, such as "
            "StandardScaler."
        )
    tiny = np.finfo(float).tiny
    balanced = slopes / np.maximum(np.abs(slopes).max(axis=0), tiny)
    balanced /= np.maximum(np.abs(balanced).max(axis=1, keepdims=True), tiny)
    if np.linalg.matrix_rank(balanced) < len(balanced):
        raise ValueError(
            f"log_likelihood_score: {label} cannot be undone; leave out what merges columns."
        )
