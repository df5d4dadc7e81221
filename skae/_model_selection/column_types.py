"""The type of each column of a table, and how it is prepared for an estimator."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae._data.optional_imports import import_optional
from skae._model_selection.table_file import TableError

ISO_DATE = r"\d{4}-\d{2}-\d{2}"
MAX_CATEGORIES, MIN_FREQUENCY = 20, 0.01
MAX_NAMES = 40  # listed in an error or a note
MISSING = "(missing)"  # category of missing values
KEPT = {
    "numeric": "numbers, standardised",
    "boolean": "booleans, as 0 and 1, standardised",
    "date": "dates, as days, standardised",
    "category": f"categories, one-hot (at most {MAX_CATEGORIES} each, rare ones as one)",
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

    def preprocessor(self) -> ColumnTransformer:
        """Impute medians and standardise numbers; encode categories one-hot."""
        numbers = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
        )
        categories = OneHotEncoder(
            max_categories=MAX_CATEGORIES,
            min_frequency=MIN_FREQUENCY,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
        return make_column_transformer((numbers, self.numeric), (categories, self.categorical))


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
        frame, y = _split_target(frame, target, notes)
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


def _split_target(frame: Any, target: str, notes: list[tuple[str, str]]) -> tuple[Any, Any]:
    """Rows that have a target, and the target: numbers, days or text."""
    column = _objects_to_numbers(frame[target])
    if _is_number(column):
        y = _to_float(column)
    else:
        days = _to_days(column)
        y = column if days is None else days
    known = y.notna().to_numpy()
    if not known.any():
        raise TableError(f"the target {target!r} has no value.")
    if not known.all():
        n_dropped = int((~known).sum())
        notes.append(("rows dropped", f"{n_dropped} of {len(y)}, because {target!r} is missing"))
    y = y[known]
    return frame[known], y if _is_number(y) else y.astype(str)


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


def _is_number(column: Any) -> bool:
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
        text = f"{_join_names(counts)}; if so, leave it out with --drop"
        table.notes.append(("looks like a row number", text))


def _join_names(names: Sequence[Any], at_most: int = MAX_NAMES) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(str, names[:at_most])) + more
