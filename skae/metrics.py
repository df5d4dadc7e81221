"""Scores that compare any dimension reducer with any other."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_array

from skae._validation import FLOAT_DTYPES, explained_share


def reconstruction_score(estimator: Any, X: Any, y: Any = None) -> float:
    """Fraction of variance that codes keep: 1 - SSE / SST around the training mean.

    A scorer, to be passed as ``scoring=reconstruction_score``. The error is measured in
    the units of X, whatever steps a Pipeline has: what is lost in any of them counts. For
    an estimator of skae it is what its `score` returns.

    Parameters
    ----------
    estimator : estimator with `transform` and `inverse_transform`
        A fitted reducer, such as `PCA`, ``KernelPCA(fit_inverse_transform=True)``, any
        estimator of skae, or a Pipeline of steps that can all be inverted.
    X : array-like of shape (n_samples, n_features)
        Rows to encode and decode.
    y : None
        Ignored.

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
    rows = check_array(X, dtype=FLOAT_DTYPES, accept_sparse=False)
    mean = _training_mean(estimator)
    if mean is None:
        mean = rows.mean(axis=0, dtype=np.float64)
    lost = np.square(rows - restored).sum(dtype=np.float64)
    return explained_share(float(lost), float(np.square(rows - mean).sum(dtype=np.float64)))


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
