"""The type of each column of a table, and how it is prepared for an estimator."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, check_consistent_length

from skae._data.optional_imports import import_optional
from skae._model_selection.table_file import TableError
from skae._model_selection.table_preprocessor import MAX_CATEGORIES, MISSING, TablePreprocessor

ISO_DATE = r"\d{4}-\d{2}-\d{2}"
MAX_NAMES = 40  # listed in an error or a note
ROWS_DROPPED = "rows dropped"
KEPT = {
    "numeric": "numbers, standardised",
    "boolean": "booleans, as 0 and 1, standardised",
    "date": "dates, as days, standardised",
    "category": "categories, one-hot over the root of their frequency (at most "
    f"{MAX_CATEGORIES} each, rare ones as one)",
}
DROPPED = {
    "missing": "no values",
    "constant": "constant",
    "distinct": "a different text in every row",
    "unusable": "neither numbers nor text",
}
TERMS = KEPT | {kind: f"dropped: {reason}" for kind, reason in DROPPED.items()}


@dataclass
class Table:
    """Columns that `preprocessor` takes, the target without missing values, and notes.

    `X` holds the columns of `numeric` in float64 and those of `categorical` as text. `notes`
    are terms and explanations: what was done to columns and rows.
    """

    X: Any
    y: Any
    numeric: list[str]
    categorical: list[str]
    notes: list[tuple[str, str]] = field(default_factory=list)
    groups: Any = None  # of the rows

    def preprocessor(self) -> TablePreprocessor:
        """The preprocessor of these columns, not fitted."""
        return TablePreprocessor(self.numeric, self.categorical)


def table_of(X: Any, y: Any = None, groups: Any = None) -> Table | None:
    """Table of a frame and its target; None if X is no frame, or needs no preparation.

    It needs none if all columns are finite numbers or booleans, and the target has no gaps.
    """
    frame = _to_pandas(X)
    if frame is None:
        return None
    known = np.ones(len(frame), dtype=bool)
    if y is not None:
        check_consistent_length(frame, y)
        y = _target_of(y)
        known = y.notna().all(axis=1).to_numpy()
    if known.all() and _is_finite(frame):
        return None
    notes: list[tuple[str, str]] = []
    if y is not None and y.shape[1] == 1:
        name = y.columns[0]
        known, y = _known_target(y[name], str(name), notes)
    elif y is not None:
        _note_unknown(known, "a target", notes)
        y = y[known].to_numpy()
    frame = frame[known].reset_index(drop=True)
    if groups is not None and not known.all():
        check_consistent_length(known, groups)
        groups = _safe_indexing(groups, np.flatnonzero(known))
    return replace(_convert_columns(frame, y, notes), groups=groups)


def prepare_table(
    frame: Any, target: str | None = None, drop: Sequence[str] = (), groups: str | None = None
) -> Table:
    """Convert the columns of a frame to numbers or categories; separate target and groups."""
    separate = [name for name in (target, groups) if name is not None]
    for name in [*drop, *separate]:
        _check_column(frame, name)
    if target in drop:
        raise TableError(f"column {target!r} is both the target and dropped.")
    if groups is not None and groups in (target, *drop):
        raise TableError(f"column {groups!r} has the groups; it cannot be target or dropped too.")
    notes = [("dropped as requested", _join_names(drop))] if drop else []
    y = None
    if target is not None:
        known, y = _known_target(frame[target], target, notes)
        frame = frame[known]
    if groups is not None:
        if frame[groups].isna().any():
            raise TableError(f"the groups {groups!r} have missing values; each row needs a group.")
        notes.append(("held out together", f"rows with the same {groups!r}"))
    table = _convert_columns(frame.drop(columns=[*drop, *separate]), y, notes)
    return table if groups is None else replace(table, groups=frame[groups].astype(str))


def _check_column(frame: Any, name: str) -> None:
    """Refuse a column that is not there, and suggest similar names."""
    if name in frame.columns:
        return
    names = [str(column) for column in frame.columns]
    lower = {column.lower(): column for column in names}
    close = difflib.get_close_matches(name.lower(), list(lower), n=3, cutoff=0.5)
    if close:
        hint = f"did you mean {' or '.join(lower[match] for match in close)}?"
    else:
        hint = f"its columns are {_join_names(names, at_most=8)}."
    raise TableError(f"the table has no column {name!r}: {hint}")


def _known_target(column: Any, name: str, notes: list[tuple[str, str]]) -> tuple[np.ndarray, Any]:
    """Mask of the rows that have a target, and their target: numbers, days or text."""
    column = _objects_to_numbers(column)
    if _is_number(column):
        y = _to_float(column)
    else:
        days = _to_days(column)
        y = column if days is None else days
    known = y.notna().to_numpy()
    if not known.any():
        raise TableError(f"the target {name!r} has no value.")
    _note_unknown(known, repr(name), notes)
    y = y[known]
    return known, y if _is_number(y) else y.astype(str)


def _note_unknown(known: np.ndarray, name: str, notes: list[tuple[str, str]]) -> None:
    if not known.all():
        n_dropped = int((~known).sum())
        notes.append((ROWS_DROPPED, f"{n_dropped} of {len(known)}, because {name} is missing"))


def _convert_columns(frame: Any, y: Any, notes: list[tuple[str, str]]) -> Table:
    """Convert each column by its type, and note what was done."""
    names_by_kind: dict[str, list[str]] = {}
    converted: dict[str, Any] = {}
    for name in frame.columns:
        kind, values = _convert_column(frame[name])
        names_by_kind.setdefault(kind, []).append(name)
        if values is not None:
            converted[name] = values
    if not converted:
        raise TableError(_no_column_left(names_by_kind))
    categorical = names_by_kind.get("category", [])
    numeric = [name for name in converted if name not in categorical]
    pandas = import_optional("pandas", extra="compare")
    X = pandas.DataFrame(converted, index=frame.index)
    notes += [(TERMS[k], _join_names(names_by_kind[k])) for k in TERMS if k in names_by_kind]
    table = Table(X, y, numeric, categorical, notes)
    _note_missing_values(table)
    _note_row_numbers(table, names_by_kind.get("numeric", []))
    return table


def _no_column_left(names_by_kind: dict[str, list[str]]) -> str:
    message = "the table has no column that can be compressed."
    reasons = [f"{_join_names(names)} ({DROPPED[k]})" for k, names in names_by_kind.items()]
    return f"{message} Dropped: {'; '.join(reasons)}." if reasons else message


# -- frames of other libraries -----------------------------------------------------


def _to_pandas(X: Any) -> Any:
    """Frame of any library with text as names, rows counted from 0; None if X is no frame."""
    pandas, polars, pyarrow = map(sys.modules.get, ("pandas", "polars", "pyarrow"))
    if polars is not None and isinstance(X, polars.DataFrame):
        pandas = import_optional("pandas", extra="compare")
        frame = pandas.DataFrame({column.name: column.to_numpy() for column in X})
    elif pyarrow is not None and isinstance(X, pyarrow.Table | pyarrow.RecordBatch):
        frame = X.to_pandas()
    elif pandas is not None and isinstance(X, pandas.DataFrame):
        frame = X
    else:
        return None
    names = list(map(str, frame.columns))
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise TableError(f"X has several columns named {repeated[0]!r}: rename or drop them.")
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def _target_of(y: Any) -> Any:
    """Target as a pandas frame of one or several columns."""
    frame = _to_pandas(y)
    if frame is not None:
        return frame
    pandas = import_optional("pandas", extra="compare")
    name = getattr(y, "name", None)
    if not isinstance(y, pandas.Series):
        values = np.asarray(y, dtype=None if hasattr(y, "dtype") else object)
        if values.ndim == 2:
            return pandas.DataFrame(values).infer_objects()
        y = pandas.Series(values).infer_objects()
    return y.reset_index(drop=True).to_frame(str("y" if name is None else name))


def _is_finite(frame: Any) -> bool:
    """Whether all columns are numbers or booleans without gaps."""
    is_boolean = import_optional("pandas", extra="compare").api.types.is_bool_dtype
    if not all(_is_number(dtype) or is_boolean(dtype) for dtype in frame.dtypes):
        return False
    return bool(np.isfinite(frame.to_numpy(dtype=float, na_value=np.nan)).all())


# -- types of columns --------------------------------------------------------------


def _convert_column(column: Any) -> tuple[str, Any]:
    """Kind of a column, a key of TERMS, and its converted values; None if it is dropped."""
    column = _objects_to_numbers(column)
    known = column.dropna()
    if known.empty:
        return "missing", None
    try:
        n_values = known.nunique()
    except TypeError:  # lists, dicts
        return "unusable", None
    if _is_number(column):
        values = _to_float(column)
        return ("numeric", values) if values.nunique() > 1 else ("constant", None)
    return _convert_objects(column, known) if n_values > 1 else ("constant", None)


def _convert_objects(column: Any, known: Any) -> tuple[str, Any]:
    """The same for columns that are not numeric; `known` are the values that are not missing."""
    if known.map(lambda value: isinstance(value, (bool, np.bool_))).all():
        return "boolean", column.astype("boolean").astype("Float64").astype(float)
    if (days := _to_days(column)) is not None:
        return "date", days
    if column.dtype.kind == "c":
        return "unusable", None
    if known.is_unique:
        return "distinct", None
    text = known.astype(str).reindex(column.index)
    return "category", text.astype(object).where(text.notna(), MISSING)


def _objects_to_numbers(column: Any) -> Any:
    """Numbers that are stored as objects, such as decimals, as floats; others as they are."""
    known = column.dropna()
    if known.empty or column.dtype.kind != "O":
        return column
    types = set(known.map(type))
    return column.astype(float) if types <= {int, float, Decimal} else column


def _is_number(column: Any) -> bool:  # or dtype
    pandas = import_optional("pandas", extra="compare")
    return pandas.api.types.is_any_real_numeric_dtype(column)


def _to_float(column: Any) -> Any:
    """Numbers as float64, with NaN for infinities."""
    values = column.astype("Float64").astype(float)
    return values.where(np.isfinite(values))


def _to_days(column: Any) -> Any:
    """Days since 1970, or of a duration; None if the column holds neither."""
    pandas = import_optional("pandas", extra="compare")
    if pandas.api.types.is_timedelta64_dtype(column):
        return column.dt.total_seconds() / 86400
    known = column.dropna()
    is_text = known.map(lambda value: isinstance(value, str)).all()
    if is_text and not known.str.match(ISO_DATE).all():
        return None
    is_date = known.map(lambda value: isinstance(value, date)).all()  # datetimes are dates
    if known.empty or not (is_text or is_date):
        return None
    try:
        times = pandas.to_datetime(known, utc=True, format="ISO8601" if is_text else None)
    except (ValueError, OverflowError):
        return None
    since = times - pandas.Timestamp(0, tz="UTC")
    return (since.dt.total_seconds() / 86400).reindex(column.index)


# -- notes -------------------------------------------------------------------------


def _note_missing_values(table: Table) -> None:
    counts = table.X[table.numeric].isna().sum()
    imputed = [f"{name} ({count})" for name, count in counts.items() if count]
    if imputed:
        text = "replaced by medians of the training part of each fold: "
        table.notes.append(("missing numbers", text + _join_names(imputed)))
    names = [name for name in table.categorical if (table.X[name] == MISSING).any()]
    if names:
        table.notes.append(("missing categories", f"a separate category: {_join_names(names)}"))


def _note_row_numbers(table: Table, names: Sequence[str]) -> None:
    """Point out numeric columns that count the rows."""
    X = table.X
    counts = [name for name in names if np.ptp(X[name].to_numpy() - X.index) == 0]
    if counts and len(X) > 2:
        text = f"{_join_names(counts)}; if so, leave it out"
        table.notes.append(("looks like a row number", text))


def _join_names(names: Sequence[Any], at_most: int = MAX_NAMES) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(str, names[:at_most])) + more
