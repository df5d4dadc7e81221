"""Errors about an input that name its columns and a remedy, found once a check has failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import gen_batches
from torch import Tensor

from skae._data.array_api import to_numpy
from skae._data.dtypes_and_batch_sizes import rows_per_batch

Test = Callable[[np.ndarray], np.ndarray]  # of entries

# Of squares; a quarter of the largest number leaves room for squares of differences.
LARGEST_SUM = {
    dtype: float(np.finfo(name).max) / 4
    for name in ("float64", "float32")
    for dtype in (np.dtype(name), getattr(torch, name))
}
MAX_NAMES = 5  # of columns in a message
REMEDIES = {
    "NaN": "impute them, for example with SimpleImputer or KNNImputer as the step before in a "
    "Pipeline, or drop these rows or columns; or use TableAutoencoder(), which takes them",
    "infinity": "replace such values, or drop these rows or columns",
    "large": "scale these columns before, for example with MaxAbsScaler",
    "text": "encode strings and categories as numbers, for example with OneHotEncoder in a "
    "ColumnTransformer; turn dates and durations into numbers, for example days since the first "
    "date; or drop these columns; or use TableAutoencoder(), which takes them",
}


def refuse_lazy(X: Any) -> None:
    """Raise an error if X is a lazy frame."""
    if hasattr(X, "collect"):
        raise TypeError(f"X is a {_kind_of(X)}, which holds no rows yet; pass X.collect().")


def raise_explained(error: Exception, X: Any, consumer: str) -> NoReturn:
    """Raise an error that says what is wrong with X, which `consumer` cannot convert."""
    kind = ValueError if isinstance(error, ValueError) else TypeError
    message = _explanation(X, consumer, error)
    if message is None:
        raise error
    raise kind(message) from error


def check_squares(X: Any, original: Any, name: str = "X") -> None:
    """Raise an error if sums of squares of X overflow; `original` names its columns."""
    if X.dtype not in LARGEST_SUM or squares_are_finite(X):
        return
    largest = LARGEST_SUM[X.dtype]
    dtype = str(X.dtype).removeprefix("torch.")
    n_summed = X.shape[1] * (X.shape[0] if dtype == "float64" else 1)  # float32 rows sum in float64
    limit = np.sqrt(largest / n_summed)  # no Python float, which would be rounded to float16
    names = _columns_where(original, lambda values: np.abs(values) >= limit)
    other = " or convert X to float64" if dtype == "float32" else ""
    if names:
        raise ValueError(
            f"{name} holds values of {limit:.0e} or more{_listed(names)}, whose squares overflow "
            f"in {dtype}: {REMEDIES['large']}{other}."
        )


def check_standardized(rows: Any) -> None:
    """Raise an error if squares of standardized rows overflow: X is too far from rows of `fit`."""
    if rows.dtype not in LARGEST_SUM or squares_are_finite(rows):
        return
    n_summed = rows.shape[1] * (rows.shape[0] if "64" in str(rows.dtype) else 1)
    limit = math.sqrt(LARGEST_SUM[rows.dtype] / n_summed)
    names = _columns_where(rows, lambda values: np.abs(values) >= limit)
    if names:
        raise ValueError(
            f"X lies {limit:.0e} times the scale of the training rows away from them, or "
            f"more{_listed(names)}, and squares of this overflow: give X in the units of fit, or "
            "drop such rows."
        )


def squares_are_finite(X: Any) -> bool:
    """Whether X, float64 or float32, is finite, and the sum of its squares does not overflow."""
    return X.ndim > 1 and _sum_of_squares(X) < LARGEST_SUM[X.dtype]


def _sum_of_squares(X: Any) -> float:
    """Sum of all squares, infinite if it overflows, at the speed of one pass over memory."""
    if isinstance(X, Tensor):
        values = X.reshape(-1)
        return float(values @ values)
    values = X.data if sparse.issparse(X) else X
    if values.flags.forc:
        values = values.ravel(order="K")
        return float(np.vdot(values, values))
    parts = gen_batches(len(values), rows_per_batch(values.shape[1]))
    return sum(float(np.vdot(values[part], values[part])) for part in parts)


def _kind_of(X: Any) -> str:
    return f"{type(X).__module__.partition('.')[0]} {type(X).__name__}"


def _explanation(X: Any, consumer: str, error: Exception) -> str | None:
    """Message that is more useful than that of an error, if there is one."""
    if isinstance(X, list | tuple) and any(hasattr(part, "collect") for part in X):
        return "X is a list of lazy frames, which hold no rows yet; pass X[0].collect()."
    if hasattr(X, "compute"):
        return f"{error} X is a {_kind_of(X)}; pass X.compute()."
    if isinstance(X, str | bytes):
        return f"X is a {type(X).__name__}, {X[:40]!r}; pass an array or a frame of rows."
    shape: Any = getattr(X, "shape", ())
    if 0 in shape:  # of a frame; of arrays, scikit-learn says so
        what = "sample" if shape[0] == 0 else "feature"
        return (
            f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is required by "
            f"{consumer}."
        )
    reason = str(error).partition("\n")[0]
    if "contains NaN" in reason:
        where = _listed(_columns_where(X, np.isnan))
        return f"{reason}\n{consumer} takes no missing values{where}: {REMEDIES['NaN']}."
    if "contains infinity" in reason:
        where = _listed(_columns_where(X, np.isinf))
        return f"{reason}\n{consumer} takes no infinite values{where}: {REMEDIES['infinity']}."
    where = _listed(_columns_where(X, None))
    if not where:
        return None
    reason = "" if "promote" in reason else f"{reason.rstrip('.')}. "
    return f"{reason}X holds values that are no numbers{where}: {REMEDIES['text']}."


def _listed(names: list[str]) -> str:
    """Say where: " in columns 'a', 'b' and 3 more"; nothing without names."""
    if not names:
        return ""
    more = len(names) - MAX_NAMES
    end = f" and {more} more" if more > 0 else ""
    return f" in column{'s' if len(names) > 1 else ''} {', '.join(names[:MAX_NAMES])}{end}"


def _columns_where(X: Any, test: Test | None) -> list[str]:
    """Names of the columns with entries for which `test` is true; if None, without numbers."""
    if sparse.issparse(X):
        entries = X.tocoo()
        return [] if test is None else [str(i) for i in np.unique(entries.col[test(entries.data)])]
    if isinstance(numbers := to_numpy(X), np.ndarray) and numbers.dtype.kind in "biufc":
        return [] if test is None else _array_columns_where(numbers, test)
    names = []
    for name, column in _columns_of(X):
        values = _as_numbers(column)
        if test is None and values is None:
            names.append(f"{name}{_type_of(column)}")
        if test is not None and values is not None and test(values).any():
            names.append(name)
    return names


def _array_columns_where(X: np.ndarray, test: Test) -> list[str]:
    """The same for an array of numbers, which may be memory-mapped, in bounded memory."""
    found = np.zeros(X.shape[1:], dtype=bool)
    for part in gen_batches(len(X), rows_per_batch(max(1, X[:1].size))):
        found |= test(X[part]).any(axis=0)
    return [str(i) for i in np.flatnonzero(found)] if found.ndim == 1 else []


def _columns_of(X: Any) -> Iterator[tuple[str, Any]]:
    """Printed name and values of each column of a frame of any library, or of an array."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        yield from ((repr(name), X.iloc[:, i]) for i, name in enumerate(X.columns))
    elif hasattr(X, "get_columns"):
        yield from ((repr(column.name), column) for column in X.get_columns())
    elif hasattr(X, "itercolumns"):
        yield from zip(map(repr, X.column_names), X.itercolumns(), strict=True)
    elif (array := _as_objects(X)).ndim == 2:
        yield from ((str(i), column) for i, column in enumerate(array.T))


def _as_objects(X: Any) -> np.ndarray:
    try:
        return np.asarray(X, dtype=object)
    except ValueError:  # rows of several lengths
        return np.empty(0, dtype=object)


def _as_numbers(column: Any) -> np.ndarray | None:
    """Values of a column in float64, if they are numbers or can be read as numbers."""
    if hasattr(column, "array") and column.dtype.kind in "biuf":  # before pandas 3, NA is no NaN
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.asarray(column)
    if values.dtype.kind in "mM":
        return None
    if values.dtype.kind == "c":
        return values
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _type_of(column: Any) -> str:
    """Type of a column of a frame, in brackets."""
    dtype = getattr(column, "type", None) or column.dtype
    return "" if isinstance(column, np.ndarray) else f" ({dtype})"
