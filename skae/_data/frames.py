"""Data frames: methods return them as `set_output` says, and column names are checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config
from sklearn.utils.validation import (
    _check_feature_names,
    _check_feature_names_in,
    _get_feature_names,
)

from skae._data.partitions import by_partition

Method = TypeVar("Method", bound=Callable[..., Any])


class FramesOut(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Lets `transform` follow `set_output`, and names its columns after the class."""

    n_components_: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "transform" in vars(cls):  # scikit-learn has just wrapped it, for `set_output`
            cls.transform = by_partition(cls.transform)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _in_form_of_training_rows(self, rows: Any) -> Any:
        """Rows (..., n_features) as methods return them. A kind may return images."""
        return rows


def wrap_in_frame(method: Method) -> Method:
    """Let a method that returns rows return a frame, if `set_output` asks for frames.

    scikit-learn does so for `transform` alone. The columns have the names of the features; the
    index is that of the input, if it is a frame. Calls on ``self`` inside are wrapped too.
    """

    @wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        rows = method(self, *args, **kwargs)
        container = _get_output_config("transform", self)["dense"]
        if container == "default":
            return self._in_form_of_training_rows(rows)
        came_in = args[0] if args else kwargs.get("X")
        names = _check_feature_names_in(self)
        return ADAPTERS_MANAGER.adapters[container].create_container(rows, came_in, columns=names)

    return cast(Method, wrapped)


def check_code_names(estimator: Any, Z: Any) -> None:
    """Raise an error if codes in a frame have the columns that `transform` names in another order.

    Other names are not checked.
    """
    names = _get_feature_names(Z)
    if names is None:
        return
    expected = SimpleNamespace(feature_names_in_=estimator.get_feature_names_out())
    if set(names) & set(expected.feature_names_in_):
        _check_feature_names(expected, Z, reset=False)


def frame_like(rows: np.ndarray, X: Any) -> Any:
    """Rows in a frame of the same library and columns as X; as they are if X is no frame."""
    adapter = ADAPTERS_MANAGER.adapters.get(type(X).__module__.split(".")[0])
    if adapter is None or not hasattr(X, "columns"):
        return rows
    return adapter.create_container(rows, rows, columns=list(X.columns))
