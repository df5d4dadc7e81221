"""Constraints of parameters; unlike scikit-learn's, they take no boolean for a number."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_scalar
from sklearn.utils._param_validation import Interval as NumberInterval

from skae._data.warnings import warn


class Interval(NumberInterval):
    """scikit-learn's constraint of a number in an interval, which no boolean satisfies."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether a value is a number in the interval."""
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)


def check_integer(value: Any, name: str, *, at_least: int) -> None:
    """Raise an error if a parameter is no integer, or too small."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value} must be an instance of int, not bool.")
    check_scalar(value, name, Integral, min_val=at_least)


def integers_in(values: Any) -> list[int] | None:
    """Integers of a number or a 1-D array-like; None if it holds anything else."""
    each = np.atleast_1d(np.asarray(values, dtype=object)).tolist()
    if not all(isinstance(n, Integral) and not isinstance(n, bool) for n in each):
        return None
    return [int(n) for n in each]


def warn_if_overcomplete(n_components: int, n_features: int) -> None:
    """Warn if a code has more components than the rows have features."""
    if n_components > n_features:
        warn(
            f"n_components={n_components} exceeds the {n_features} features of X: the code is "
            f"overcomplete, and does not compress X. Set n_components to at most {n_features}, or "
            "use SparseAutoencoder, whose codes may be wider than X.",
            UserWarning,
        )
