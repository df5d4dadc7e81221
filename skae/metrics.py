"""Scores that compare any dimension reducer with any other."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils.validation import _check_sample_weight, check_array

from skae._data.dtypes_and_batch_sizes import FLOAT_DTYPES
from skae._data.frames import frame_like
from skae._data.input_checks import as_dense
from skae._data.sample_weight import weighted_average
from skae._data.statistics import explained_share

AFFINE_TOLERANCE = 1e-6  # largest deviation from an affine map, as a share of its results' range
ROUNDING_TOLERANCE = 1e-12  # additional deviation, as a share of their largest magnitude


def reconstruction_score(estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """Share of variance that the reconstruction explains: 1 - SSE / SST.

    SSE is the sum of squared errors of the reconstruction. SST is the sum of squared distances
    to the mean. Pass the function as ``scoring=reconstruction_score``. Errors are in the units
    of X; in a Pipeline they include the errors of all steps. For an estimator of skae the result
    is that of its `score`. So `TableAutoencoder` is scored on frames with categories and gaps.

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
        1 is a perfect reconstruction, 0 is the reconstruction by the mean. This is the mean of
        the training rows if the estimator has it as ``mean_``, else the mean of X. In a Pipeline
        it is the ``mean_`` of the first step that has one, in the units of X.

    Raises
    ------
    TypeError
        If the estimator lacks `transform` or `inverse_transform`.
    ValueError
        If X holds infinity, or NaN (`TableAutoencoder` takes NaN), or has another number of
        features than in `fit`; or if there are weights for a `TableAutoencoder`.

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
                "Pipeline has it if all of its steps have it."
            )
    if _takes_text(estimator) and hasattr(estimator, "score"):
        if sample_weight is not None:
            raise ValueError(f"sample_weight must be None, since {estimator!r} takes no weights.")
        return float(estimator.score(X))
    reconstructed = np.asarray(estimator.inverse_transform(estimator.transform(X)))
    rows = as_dense(check_array(X, dtype=FLOAT_DTYPES, accept_sparse="csr"))
    weights = None if sample_weight is None else _check_sample_weight(sample_weight, rows)
    mean = _training_mean(estimator)
    if mean is None:
        mean = np.average(rows, axis=0, weights=weights)
    errors = np.square(rows - reconstructed).sum(axis=1, dtype=np.float64)
    total = np.square(rows - mean).sum(axis=1, dtype=np.float64)
    return explained_share(weighted_average(errors, weights), weighted_average(total, weights))


def _takes_text(estimator: Any) -> bool:
    """Whether rows may hold text, so that their errors are those of the estimator's own scale."""
    return hasattr(estimator, "__sklearn_tags__") and get_tags(estimator).input_tags.string


def _training_mean(estimator: Any) -> np.ndarray | None:
    """Mean of the training rows in the units of the estimator's input; None if it has none."""
    if not isinstance(estimator, Pipeline):
        return getattr(estimator, "mean_", None)
    for i, (_, step) in enumerate(estimator.steps):
        mean = None if step in (None, "passthrough") else _training_mean(step)
        if mean is not None:
            return np.asarray(estimator[:i].inverse_transform(mean[None]))[0] if i else mean
    return None


def log_likelihood_score(estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """Mean log-likelihood of rows, in nats and in the units of X.

    Pass the function as ``scoring=log_likelihood_score``. Unlike `reconstruction_score`, it
    does not increase with every component, so it can choose their number. In a Pipeline, the
    log-likelihood of the last step is converted to the units of X, by the log determinants of
    the steps before it. So models behind different scalers can be compared.

    Parameters
    ----------
    estimator : estimator with `score_samples`
        A fitted density, such as `PCA`, `FactorAnalysis`, `GaussianMixture`, `KernelDensity` or
        any estimator of skae; or a Pipeline that ends in one and whose other steps are affine
        and invertible, such as scalers and PCA with all components; or a fitted search, whose
        best estimator is scored.
    X : array-like of shape (n_samples, n_features)
        Rows to score.
    y : None
        Ignored.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows in the mean.

    Returns
    -------
    score : float
        Mean over rows. It depends on the units of X: if X is multiplied by c, it decreases by
        ``n_features * log(c)``.

    Raises
    ------
    TypeError
        If `score_samples` of the estimator, or of the last step, returns no log-likelihoods.
    ValueError
        If a step before the last changes the number of columns, is not affine or is not
        invertible.

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
    """Log-likelihood of the last step plus the log determinants of the steps before it."""
    X, log_determinant = frame_like(check_array(X, dtype=np.float64), X), 0.0
    for name, step in pipeline.steps[:-1]:
        if step not in (None, "passthrough"):
            log_determinant += _log_determinant(step, X, f"step {name!r} ({step!r})")
            X = step.transform(X)
    last = pipeline.steps[-1][1]
    return log_determinant + log_likelihood_score(last, X, sample_weight=sample_weight)


def _log_determinant(step: Any, X: Any, label: str) -> float:
    """Logarithm of the absolute determinant of an affine step's Jacobian."""
    rows, results = np.asarray(X), np.asarray(step.transform(X))
    if results.shape[1] != rows.shape[1]:
        raise ValueError(
            f"log_likelihood_score: {label} turns {rows.shape[1]} columns into "
            f"{results.shape[1]}, so that rows have no density in the units of X; reduce the "
            "number of columns in the last step only."
        )
    # Finite differences over one standard deviation: smaller ones would miss clipping.
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std[std == 0] = 1.0
    shifts = np.diag(std)
    probes = frame_like(np.vstack([mean, mean + shifts, mean - shifts]), X)
    origin, forward, backward = np.split(np.asarray(step.transform(probes)), [1, 1 + len(shifts)])
    jacobian = forward - origin  # in standard deviations of its inputs
    predicted = np.vstack([origin + (rows - mean) / std @ jacobian, origin - jacobian])
    _check_affine(np.vstack([results, backward]), predicted, label)
    _check_invertible(jacobian, label)
    return float(np.linalg.slogdet(jacobian / std[:, None])[1])


def _check_affine(results: np.ndarray, predicted: np.ndarray, label: str) -> None:
    """Refuse a step whose results differ from those that its Jacobian predicts."""
    allowed = AFFINE_TOLERANCE * np.ptp(results, axis=0)
    allowed += ROUNDING_TOLERANCE * np.abs(results).max(axis=0)
    if (np.abs(results - predicted).max(axis=0) > allowed).any():
        raise ValueError(
            f"log_likelihood_score: {label} is not affine on these rows, so its determinant "
            "varies; use an affine scaler that does not clip, such as StandardScaler."
        )


def _check_invertible(jacobian: np.ndarray, label: str) -> None:
    """Refuse a step that loses information, whatever the units of its columns."""
    tiny = np.finfo(float).tiny
    balanced = jacobian / np.maximum(np.abs(jacobian).max(axis=0), tiny)
    balanced /= np.maximum(np.abs(balanced).max(axis=1, keepdims=True), tiny)
    if np.linalg.matrix_rank(balanced) < len(balanced):
        raise ValueError(
            f"log_likelihood_score: {label} is not invertible; remove it, or use a step that keeps "
            "all information, such as StandardScaler."
        )


def trustworthiness_of_rows(X: Any, codes: Any, *, n_neighbors: int = 15) -> np.ndarray:
    """Share in which the neighbours of each row among the codes are neighbours among the rows.

    A neighbour on the map that is not one of the `n_neighbors` nearest rows costs as much as its
    rank among the rows exceeds `n_neighbors` [1]_. The mean over the rows is
    `sklearn.manifold.trustworthiness`. Pass the result as `y` to `LatentSpaceDisplay` to see where
    a map lies.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows in the units in which their distances count.
    codes : array-like of shape (n_samples, n_components)
        Codes of the rows, as returned by `transform`.
    n_neighbors : int, default=15
        Number of neighbours, at least 1 and less than ``n_samples / 2``.

    Returns
    -------
    trustworthiness : ndarray of shape (n_samples,), float64
        1 for a row whose neighbours on the map are its neighbours. Random codes have about 0.5 on
        average; a single row may have less than 0.

    Raises
    ------
    ValueError
        If `n_neighbors` is out of bounds, or if X and codes differ in length or hold NaN.

    Notes
    -----
    It takes time in proportion to ``n_samples ** 2``: about two seconds for 5,000 rows. Of more
    rows, pass some.

    References
    ----------
    .. [1] Venna and Kaski (2001). Neighborhood preservation in nonlinear projection methods. ICANN.
       https://doi.org/10.1007/3-540-44668-0_68

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.manifold import trustworthiness
    >>> from skae.metrics import trustworthiness_of_rows
    >>> X = load_iris().data
    >>> codes = PCA(2).fit_transform(X)
    >>> each = trustworthiness_of_rows(X, codes, n_neighbors=5)
    >>> each.shape
    (150,)
    >>> bool(abs(each.mean() - trustworthiness(X, codes, n_neighbors=5)) < 1e-12)
    True
    """
    X = check_array(X, dtype=FLOAT_DTYPES, accept_sparse="csr")
    codes = check_array(codes, dtype=FLOAT_DTYPES)
    check_consistent_length(X, codes)
    n_rows = X.shape[0]
    if not 1 <= n_neighbors < n_rows / 2:
        raise ValueError(
            f"n_neighbors={n_neighbors} must be at least 1 and less than half of the number of "
            f"rows, which is {n_rows}; pass more rows, or a smaller n_neighbors."
        )
    on_map = NearestNeighbors(n_neighbors=n_neighbors).fit(codes).kneighbors(return_distance=False)
    costs, start = np.empty(n_rows), 0
    for distances in pairwise_distances_chunked(X):
        part = slice(start, start + len(distances))
        index = np.arange(len(distances))
        distances[index, index + start] = np.inf  # a row is not its own neighbour
        order = distances.argsort(axis=1)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(n_rows)[None], axis=1)
        beyond = np.take_along_axis(ranks, on_map[part], axis=1) + 1 - n_neighbors
        costs[part] = np.maximum(beyond, 0).sum(axis=1)
        start += len(distances)
    largest: float = n_neighbors * (2 * n_rows - 3 * n_neighbors - 1)
    return 1 - 2 * costs / largest
