"""Frames: rows that come out are wrapped as `set_output` says, codes that go in are checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config
from sklearn.utils.validation import (
    _check_feature_names,
    _check_feature_names_in,
    _get_feature_names,
)

Method = TypeVar("Method", bound=Callable[..., Any])


def wrap_in_frame(method: Method) -> Method:
    """Let a method that returns rows in input units return them as `set_output` says.

    scikit-learn does so for `transform` alone. Columns have the names of the features, and the
    index is that of the frame that came in, where one did. What a method calls on ``self`` is
    wrapped too, so that what computes with arrays calls methods without this decorator.

    Parameters
    ----------
    method : callable
        Method of an estimator; returns an array of shape (n_rows, n_features_in_).

    Returns
    -------
    callable
    """

    @wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        rows = method(self, *args, **kwargs)
        container = _get_output_config("transform", self)["dense"]
        if container == "default":
            return rows
        came_in = args[0] if args else kwargs.get("X")
        names = _check_feature_names_in(self)
        return ADAPTERS_MANAGER.adapters[container].create_container(rows, came_in, columns=names)

    return cast(Method, wrapped)


def check_code_names(estimator: Any, Z: Any) -> None:
    """Refuse codes in a frame that has the columns `transform` names, but in disorder.

    Names of the caller's own are taken as they come.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    Z : array-like of shape (n_samples, n_components)

    Raises
    ------
    ValueError
        If some of the names are missing or in another order, as scikit-learn says it of rows.
    """
    names = _get_feature_names(Z)
    if names is None:
        return
    expected = SimpleNamespace(feature_names_in_=estimator.get_feature_names_out())
    if set(names) & set(expected.feature_names_in_):
        _check_feature_names(expected, Z, reset=False)


def frame_like(rows: np.ndarray, X: Any) -> Any:
    """Rows in a frame of the make and columns of another, or as they are if that is none.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
    X : array-like of shape (n_samples, n_columns)

    Returns
    -------
    frame or ndarray of shape (n_rows, n_columns)
    """
    adapter = ADAPTERS_MANAGER.adapters.get(type(X).__module__.split(".")[0])
    if adapter is None or not hasattr(X, "columns"):
        return rows
    return adapter.create_container(rows, rows, columns=list(X.columns))
