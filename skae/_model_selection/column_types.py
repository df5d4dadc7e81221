"""A table of a file as an estimator takes it, and what was done to its columns."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae._data.validation import import_optional

PARQUET = {".parquet", ".pq"}
ISO_DATE = r"\d{4}-\d{2}-\d{2}"
MAX_CATEGORIES, MIN_FREQUENCY = 20, 0.01
MOST_NAMES = 40
ABSENT = "(missing)"
WHAT = {
    "numbers": "standardised",
    "truth values": "truth values, as 0 and 1, standardised",
    "dates": "dates, as days, standardised",
    "categories": f"categories, one-hot (at most {MAX_CATEGORIES} each, the others together)",
    "missing": "dropped, without any value",
    "constant": "dropped, constant",
    "distinct": "dropped, text that differs in every row",
    "unusable": "dropped, neither numbers nor text",
}
CATEGORICAL = {"categories"}


class TableError(Exception):
    """What a user can mend about a file or a command line."""


@dataclass
class Table:
    """Columns ready for `Table.preprocessor`, and the story of how they came about.

    Parameters
    ----------
    X : DataFrame
        Numeric columns in float64, others as text.
    y : Series or None
        The target, without gaps.
    numeric, categorical : list of str
        Names of columns.
    notes : list of (str, str)
        What was done: terms and explanations.
    """

    X: Any
    y: Any
    numeric: list[str]
    categorical: list[str]
    notes: list[tuple[str, str]] = field(default_factory=list)

    def preprocessor(self) -> ColumnTransformer:
        """Make what each fold fits to its training part.

        Returns
        -------
        preprocessor : ColumnTransformer
            Medians in the place of gaps, then standardised; categories one-hot.
        """
        numbers = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
        )
        categories = OneHotEncoder(
            max_categories=MAX_CATEGORIES,
            min_frequency=MIN_FREQUENCY,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
        return ColumnTransformer(
            [("numbers", numbers, self.numeric), ("categories", categories, self.categorical)]
        )


# -- reading -----------------------------------------------------------------------


def read_frame(path: Path, separator: str = ",", decimal: str = ".") -> Any:
    """Read a CSV or Parquet file.

    Parameters
    ----------
    path : Path
        Parquet if its name ends in .parquet or .pq, else CSV, compressed or not.
    separator : str, default=","
        Between the columns of a CSV file.
    decimal : str, default="."
        In the numbers of a CSV file.

    Returns
    -------
    frame : DataFrame

    Raises
    ------
    TableError
        If there is no such file or it cannot be read as a table.
    """
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise TableError(f"{path} {what}.")
    try:
        if path.suffix.lower() in PARQUET:
            return _read_parquet(path)
        return _read_csv(path, separator, decimal)
    except (OSError, ValueError, EOFError) as error:  # pandas' and pyarrow's are among them
        raise TableError(f"{path} cannot be read: {_first_line(error)}") from error


def _read_csv(path: Path, separator: str, decimal: str) -> Any:
    pandas = import_optional("pandas", extra="compare")
    frame = pandas.read_csv(path, sep=separator, decimal=decimal, low_memory=False)
    if frame.shape[1] == 1:
        found = [mark for mark in (";", "\t", "|", ",") if mark in str(frame.columns[0])]
        if found:
            raise TableError(
                f"{path} has one column, {str(frame.columns[0])[:60]!r}: pass "
                f"--separator {found[0]!r}."
            )
    return frame


def _read_parquet(path: Path) -> Any:
    try:
        import_optional("pyarrow", extra="compare")
    except ImportError as error:
        raise TableError(f"{path} is read by pyarrow: pip install pyarrow") from error
    frame = import_optional("pandas", extra="compare").read_parquet(path)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    return frame.reset_index(drop=True)


def _first_line(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8."
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# -- preparing ---------------------------------------------------------------------


def prepare(frame: Any, target: str | None = None, drop: Sequence[str] = ()) -> Table:
    """Turn a frame into columns that can be compressed and a target to predict.

    Parameters
    ----------
    frame : DataFrame
    target : str, default=None
        Column to predict.
    drop : sequence of str, default=()
        Columns to leave out.

    Returns
    -------
    table : Table

    Raises
    ------
    TableError
        If a column is missing, or none can be used.
    """
    for name in [*drop, *([] if target is None else [target])]:
        _check_column(frame, name)
    if target in drop:
        raise TableError(f"column {target!r} is both the target and dropped.")
    notes: list[tuple[str, str]] = []
    if drop:
        notes.append(("left out as asked", _listed(drop)))
    y = None
    if target is not None:
        frame, y = _split_target(frame, target, notes)
    table = Table(frame, y, [], [], notes)
    _sort_columns(table, frame.drop(columns=[*drop, *([] if target is None else [target])]))
    return table


def _check_column(frame: Any, name: str) -> None:
    if name in frame.columns:
        return
    names = [str(column) for column in frame.columns]
    lower = {column.lower(): column for column in names}
    close = difflib.get_close_matches(name.lower(), list(lower), n=3, cutoff=0.5)
    guess = [lower[match] for match in close]
    hint = (
        f"did you mean {_listed(guess, ' or ')}?"
        if guess
        else f"it has {_listed(names[:8])}"
        + (f" and {len(names) - 8} more." if len(names) > 8 else ".")
    )
    raise TableError(f"the table has no column {name!r}: {hint}")


def _split_target(frame: Any, target: str, notes: list[tuple[str, str]]) -> tuple[Any, Any]:
    column = _plain(frame[target])
    if _is_number(column):
        y = column.astype("Float64").astype(float)
        y = y.where(np.isfinite(y))
    else:
        days = _as_days(column)
        y = column if days is None else days
    known = y.notna().to_numpy()
    if not known.any():
        raise TableError(f"the target {target!r} has no value.")
    if not known.all():
        n_lost = int((~known).sum())
        notes.append(("rows dropped", f"{n_lost} of {len(y)}, whose {target!r} is missing"))
    y = y[known]
    is_text = not _is_number(y)
    return frame[known], y.astype(str) if is_text else y


def _sort_columns(table: Table, columns: Any) -> None:
    """Settle for each column what it is, and say what becomes of it."""
    told: dict[str, list[str]] = {}
    kept: dict[str, Any] = {}
    for name in columns.columns:
        kind, values = _settle(columns[name])
        told.setdefault(kind, []).append(str(name))
        if values is None:
            continue
        kept[name] = values
        (table.categorical if kind in CATEGORICAL else table.numeric).append(name)
    pandas = import_optional("pandas", extra="compare")
    table.X = pandas.DataFrame(kept, index=columns.index)
    if not kept:
        reasons = "; ".join(f"{_listed(names)}: {WHAT[kind]}" for kind, names in told.items())
        raise TableError(f"no column is left to compress. {reasons}")
    table.notes += [(WHAT[kind], _listed(told[kind])) for kind in WHAT if kind in told]
    _tell_gaps(table)
    counts = [name for name in told.get("numbers", []) if _counts_rows(table.X[name])]
    if counts:
        table.notes.append(
            ("looks like a row number", f"{_listed(counts)}; leave it out with --drop if it is one")
        )


def _settle(column: Any) -> tuple[str, Any]:
    """Say what a column is, and give its values; None if it is of no use."""
    column = _plain(column)
    known = column.dropna()
    if known.empty:
        return "missing", None
    try:
        n_values = known.nunique()
    except TypeError:  # lists, dicts
        return "unusable", None
    if _is_number(column):
        values = column.astype("Float64").astype(float)
        values = values.where(np.isfinite(values))
        return ("numbers", values) if values.nunique() > 1 else ("constant", None)
    if n_values == 1:
        return "constant", None
    if known.map(lambda value: isinstance(value, (bool, np.bool_))).all():
        return "truth values", column.astype("boolean").astype("Float64").astype(float)
    days = _as_days(column)
    if days is not None:
        return "dates", days
    if column.dtype.kind == "c":
        return "unusable", None
    if n_values == len(known):
        return "distinct", None
    text = known.astype(str).reindex(column.index)
    return "categories", text.astype(object).where(text.notna(), ABSENT)


def _plain(column: Any) -> Any:
    """Numbers that are stored as objects, such as decimals, as numbers."""
    known = column.dropna()
    if known.empty or column.dtype.kind != "O":
        return column
    kinds = set(known.map(type))
    return column.astype(float) if kinds <= {int, float, Decimal} else column


def _is_number(column: Any) -> bool:
    types = import_optional("pandas", extra="compare").api.types
    return (
        types.is_numeric_dtype(column)
        and not types.is_bool_dtype(column)
        and not types.is_complex_dtype(column)
    )


def _as_days(column: Any) -> Any:
    """Days since 1970, or of a duration; None if the column holds neither."""
    pandas = import_optional("pandas", extra="compare")
    if pandas.api.types.is_timedelta64_dtype(column):
        return column.dt.total_seconds() / 86400
    known = column.dropna()
    is_text = known.map(lambda value: isinstance(value, str)).all()
    if is_text and not known.str.match(ISO_DATE).all():
        return None
    is_date = known.map(lambda value: isinstance(value, date)).all()  # moments are dates
    if known.empty or not (is_text or is_date):
        return None
    try:
        moments = pandas.to_datetime(known, utc=True, format="ISO8601" if is_text else None)
    except (ValueError, OverflowError):
        return None
    since = moments - pandas.Timestamp(0, tz="UTC")
    return (since.dt.total_seconds() / 86400).reindex(column.index)


def _tell_gaps(table: Table) -> None:
    gaps = table.X[table.numeric].isna().sum()
    holed = [f"{name} ({count})" for name, count in gaps.items() if count]
    if holed:
        table.notes.append(
            ("missing numbers", "medians of the training part of each fold: " + _listed(holed))
        )
    absent = [name for name in table.categorical if (table.X[name] == ABSENT).any()]
    if absent:
        table.notes.append(("missing categories", "a category of their own: " + _listed(absent)))


def _counts_rows(column: Any) -> bool:
    return len(column) > 2 and float(np.ptp(column.to_numpy() - column.index)) == 0


def _listed(names: Sequence[Any], joint: str = ", ") -> str:
    shown = [str(name) for name in names[:MOST_NAMES]]
    more = len(names) - len(shown)
    return joint.join(shown) + (f" and {more} more" if more else "")
