"""The type of each column of a table, and how it is prepared for an estimator."""

from __future__ import annotations

import difflib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, check_consistent_length

from skae._data.optional_imports import import_optional
from skae._model_selection.table_errors import TableError
from skae._model_selection.table_preprocessor import MAX_CATEGORIES, MISSING, TablePreprocessor
from skae._model_selection.written_values import dates_of, is_gap, may_be_values, numbers_of

ISO_DATE = r"\d{4}-\d{2}-\d{2}"
MAX_NAMES = 40  # listed in an error or a note
MAX_SIZE = 1e150  # of a number, so that its square is finite
ROWS_DROPPED = "rows dropped"
INDEX_NAME = r"Unnamed: \d+(_level_\d+)?"  # pandas' name for a column without one
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
    "index": "row numbers without a name",
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
    target: str | None = None  # its name

    def preprocessor(self) -> TablePreprocessor:
        """The preprocessor of these columns, not fitted."""
        return TablePreprocessor(self.numeric, self.categorical)

    def share_of_gaps(self) -> float:
        """Share of cells that are missing."""
        return float((self.X.isna() | (self.X == MISSING)).to_numpy().mean())


def table_of(X: Any, y: Any = None, groups: Any = None) -> Table | None:
    """Table of a frame and its target; None if X is no frame."""
    frame = _to_pandas(X)
    if frame is None:
        return None
    if not len(frame.columns):
        raise TableError("X has no column: pass two or more.")
    known = np.ones(len(frame), dtype=bool)
    if y is not None:
        check_consistent_length(frame, y)
        y = _target_of(y)
        known = y.notna().all(axis=1).to_numpy()
    notes: list[tuple[str, str]] = []
    target = None
    if y is not None and y.shape[1] == 1:
        target = str(y.columns[0])
        known, y = _known_target(y.iloc[:, 0], target, notes)
    elif y is not None:
        _note_unknown(known, "a target", notes)
        y = y[known].to_numpy()
    frame = frame[known].reset_index(drop=True)
    if groups is not None and not known.all():
        check_consistent_length(known, groups)
        groups = _safe_indexing(groups, np.flatnonzero(known))
    return replace(_convert_columns(frame, y, notes), groups=groups, target=target)


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
    notes = [("dropped as requested", join_names(drop))] if drop else []
    y = None
    if target is not None:
        known, y = _known_target(frame[target], target, notes)
        frame = frame[known]
    if groups is not None:
        if frame[groups].isna().any():
            raise TableError(f"the groups {groups!r} have missing values; each row needs a group.")
        notes.append(("held out together", f"rows with the same {groups!r}"))
    table = _convert_columns(frame.drop(columns=[*drop, *separate]), y, notes)
    labels = None if groups is None else frame[groups].astype(str)
    return replace(table, groups=labels, target=target)


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
        hint = f"its columns are {join_names(names, at_most=8)}."
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
        raise TableError(f"the target {name!r} has no value: name another one, or none.")
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
    categorical = names_by_kind.get("category", [])
    numeric = [name for name in converted if name not in categorical]
    pandas = import_optional("pandas", extra="compare")
    X = pandas.DataFrame(converted, index=frame.index)
    notes += [(TERMS[k], join_names(names_by_kind[k])) for k in TERMS if k in names_by_kind]
    table = Table(X, y, numeric, categorical, notes)
    _check_left(table, names_by_kind)
    _note_missing_values(table)
    _note_row_numbers(table, names_by_kind.get("numeric", []))
    _note_texts(table, frame[names_by_kind.get("distinct", []) + categorical])
    return table


def _check_left(table: Table, names_by_kind: dict[str, list[str]]) -> None:
    """Refuse a table without two columns to compress: two numbers, or one category or more."""
    if len(table.numeric) > 1 or table.categorical:
        return
    left = f"no column but {table.numeric[0]!r}" if table.numeric else "no column"
    dropped = [
        f"{join_names(names)} ({DROPPED[kind]})"
        for kind, names in names_by_kind.items()
        if kind in DROPPED
    ]
    reasons = f" Dropped: {'; '.join(dropped)}." if dropped else ""
    raise TableError(
        f"{left} is left to compress: two are needed that hold numbers, dates, or texts that "
        f"repeat.{reasons}"
    )


# -- frames of other libraries -----------------------------------------------------


def _to_pandas(X: Any) -> Any:
    """Frame of any library with text as names, rows counted from 0; None if X is no frame."""
    pandas, polars, pyarrow = map(sys.modules.get, ("pandas", "polars", "pyarrow"))
    if polars is not None and isinstance(X, polars.DataFrame):
        pandas = import_optional("pandas", extra="compare")
        frame = pandas.DataFrame({column.name: _values_of(column) for column in X})
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


def _values_of(column: Any) -> np.ndarray:
    """Values of a polars column; of one that holds lists or structures, objects."""
    values = column.to_numpy()
    if values.ndim == 1:
        return values
    nested = np.empty(len(column), dtype=object)
    nested[:] = column.to_list()
    return nested


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


# -- types of columns --------------------------------------------------------------


def _convert_column(column: Any) -> tuple[str, Any]:
    """Kind of a column, a key of TERMS, and its converted values; None if it is dropped."""
    column = _objects_to_numbers(column)
    known = column.dropna()
    if known.empty:
        return "missing", None
    if _is_number(column):
        return _convert_numbers(column)
    try:
        n_values = known.nunique()
    except TypeError:  # lists, dicts
        return "unusable", None
    return _convert_objects(column, known) if n_values > 1 else ("constant", None)


def _convert_numbers(column: Any) -> tuple[str, Any]:
    """The same for numbers."""
    values = _to_float(column)
    known = values.dropna()
    if known.empty:
        return "missing", None
    if known.nunique() < 2 or not known.std() > 0:
        return "constant", None
    if re.fullmatch(INDEX_NAME, str(column.name)) and _counts_rows(values):
        return "index", None
    return "numeric", values


def _counts_rows(values: Any) -> bool:
    """Whether a column of floats counts rows, some of which may be gone."""
    return bool((values.diff().iloc[1:] >= 1).all() and (values % 1 == 0).all())


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
    """Numbers that are stored as objects or written as text, as floats; others as they are."""
    known = column.dropna()
    pandas = import_optional("pandas", extra="compare")
    if known.empty or column.dtype.kind != "O" or isinstance(column.dtype, pandas.CategoricalDtype):
        return column
    is_text = known.map(lambda value: isinstance(value, str)).astype(bool)
    others, texts = known[~is_text], known[is_text].astype(str)
    if not all(issubclass(t, Real | Decimal) and t is not bool for t in set(others.map(type))):
        return column
    numbers = others.astype(float)
    if not texts.empty:
        written = numbers_of(texts, takes_digits=not others.empty)
        if written is None and (others.empty or not is_gap(texts).all()):
            return column
        numbers = numbers if written is None else pandas.concat([numbers, written])
    return numbers.reindex(column.index)


def _is_number(column: Any) -> bool:  # or dtype
    pandas = import_optional("pandas", extra="compare")
    return pandas.api.types.is_any_real_numeric_dtype(column)


def _to_float(column: Any) -> Any:
    """Numbers as float64, with NaN for infinities."""
    values = column.astype("Float64").astype(float)
    values = values.where(np.isfinite(values))
    if (largest := values.abs().max()) > MAX_SIZE:
        raise TableError(
            f"column {column.name!r} holds {largest:.3g}, whose square is infinite: divide the "
            "column by a constant, or leave it out."
        )
    return values


def _to_days(column: Any) -> Any:
    """Days since 1970, or of a duration; None if the column holds neither."""
    pandas = import_optional("pandas", extra="compare")
    if pandas.api.types.is_timedelta64_dtype(column):
        return column.dt.total_seconds() / 86400
    known = column.dropna()
    is_text = known.map(lambda value: isinstance(value, str)).all()
    if is_text and not known.empty and not known.astype(str).str.match(ISO_DATE).all():
        return _days_since_1970(dates_of(column.astype(str).where(column.notna())))
    is_date = known.map(lambda value: isinstance(value, date)).all()  # datetimes are dates
    if known.empty or not (is_text or is_date):
        return None
    try:
        times = pandas.to_datetime(known, utc=True, format="ISO8601" if is_text else None)
    except (ValueError, OverflowError):
        return None
    return _days_since_1970(times.reindex(column.index))


def _days_since_1970(times: Any) -> Any:
    if times is None:
        return None
    pandas = import_optional("pandas", extra="compare")
    start = pandas.Timestamp(0, tz="UTC").as_unit("s")  # finer units end in the year 2262
    return (times - start).dt.total_seconds() / 86400


# -- notes -------------------------------------------------------------------------


def _note_missing_values(table: Table) -> None:
    counts = table.X[table.numeric].isna().sum()
    imputed = [f"{name} ({count})" for name, count in counts.items() if count]
    if imputed:
        text = "replaced by medians of the training part of each fold: "
        table.notes.append(("missing numbers", text + join_names(imputed)))
    names = [name for name in table.categorical if (table.X[name] == MISSING).any()]
    if names:
        table.notes.append(("missing categories", f"a separate category: {join_names(names)}"))


def _note_row_numbers(table: Table, names: Sequence[str]) -> None:
    """Point out numeric columns that count the rows."""
    X = table.X
    counts = [name for name in names if np.ptp(X[name].to_numpy() - X.index) == 0]
    if counts and len(X) > 2:
        text = f"{join_names(counts)}; if so, leave it out"
        table.notes.append(("looks like a row number", text))


def _note_texts(table: Table, texts: Any) -> None:
    """Point out texts that may be numbers or dates, but can be read in two ways."""
    names = [
        name
        for name in texts.columns
        if texts[name].dropna().map(lambda value: isinstance(value, str)).all()
        and may_be_values(texts[name].dropna().astype(str))
    ]
    if names:
        remedy = "write them as 1234.5 or 2024-05-31 if they are"
        table.notes.append(("may be numbers or dates", f"{join_names(names)}; {remedy}"))


def join_names(names: Sequence[Any], at_most: int = MAX_NAMES) -> str:
    """Names in one text, the first of them if there are many."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(str, names[:at_most])) + more
