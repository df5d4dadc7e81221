"""Cells of one column of a table: read from arrays or Python objects, and written back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Integral, Number, Real
from types import NoneType
from typing import Any, NoReturn
from uuid import UUID

import numpy as np

CATEGORICAL = ("category", "ordered", "boolean")
DATES, ZONED, DURATIONS, TIMES = (
    "dates without a time zone",
    "dates with a time zone",
    "durations",
    "times of day",
)
PER_DAY = {  # ticks of a unit
    "D": 1,
    "s": 86_400,
    "ms": 86_400 * 10**3,
    "us": 86_400 * 10**6,
    "ns": 86_400 * 10**9,
}
NUMPY_UNITS = {"Y": "D", "M": "D", "W": "D", "D": "D", "h": "s", "m": "s", "generic": "s"}
LARGEST_TICK = 2**63 - 1024  # in int64 and, exactly, in float64
SCALARS = (str, bool, np.bool_, Real, Decimal, date, time, timedelta, UUID, Enum)
NUMPY_TIMES = (np.datetime64, np.timedelta64)
PANDAS_SCALARS = ("Period", "Interval")
TOO_LARGE = "holds numbers too large for float64: scale it, or turn it into text."
REMEDY = "convert it to numbers, text, booleans or dates, or drop the column"


@dataclass(frozen=True)
class Form:
    """What it takes to write cells as they were read.

    `unit` is that of ticks, `span` says what they measure. `value_type`, `decimals`, `zone` and
    `gap` belong to Python objects; `declared` is the dictionary of a pyarrow column.
    """

    dtype: Any
    unit: str = ""
    span: str = ""
    value_type: Any = None
    decimals: int = 0
    zone: Any = None
    gap: Any = None
    declared: Any = None


@dataclass
class Cells:
    """Values of a column.

    `values` are numbers in float64 (NaN in gaps), ticks in int64 if `sort` is "date", or codes
    of `uniques`, raw values without gaps, in int64 (-1 in gaps). Nothing is observed in "empty".
    """

    sort: str  # "number", "date", "category", "ordered", "boolean", "empty"
    values: np.ndarray
    missing: np.ndarray
    form: Form
    uniques: list[Any] = field(default_factory=list)


# -- reading -----------------------------------------------------------------------


def number_cells(values: np.ndarray, form: Form, label: str) -> Cells:
    """Cells of numbers in float64, NaN in gaps."""
    if np.isinf(values).any():
        raise ValueError(
            f"Input X contains infinity in {label}: replace such values, for example with NaN, "
            "or drop these rows or the column."
        )
    missing = np.isnan(values)
    return Cells("empty" if missing.all() else "number", values, missing, form)


def date_cells(ticks: np.ndarray, missing: np.ndarray, form: Form) -> Cells:
    """Cells of dates, durations or times, as ticks of a unit."""
    return Cells("empty" if missing.all() else "date", ticks, missing, form)


def category_cells(
    codes: np.ndarray, uniques: Iterable[Any], form: Form, label: str, *, ordered: bool = False
) -> Cells:
    """Cells of categories, from codes of unique values, which may hold gaps."""
    uniques = list(uniques)
    gaps = np.fromiter(map(is_gap, uniques), bool, len(uniques))
    if gaps.any():
        form = replace(form, gap=uniques[int(gaps.argmax())])
    kept = [value for value, gap in zip(uniques, gaps, strict=True) if not gap]
    _check_types(set(map(type, kept)), label)
    codes = np.append(np.where(gaps, -1, np.cumsum(~gaps) - 1), -1)[codes]
    missing = codes < 0
    sort = "empty" if missing.all() else "ordered" if ordered else "category"
    return Cells(sort, codes, missing, form, kept)


def boolean_cells(codes: np.ndarray, form: Form) -> Cells:
    """Cells of booleans: 0, 1 and, in gaps, -1."""
    missing = codes < 0
    return Cells("empty" if missing.all() else "boolean", codes, missing, form, [False, True])


def read_array(values: np.ndarray, label: str, as_category: bool = False) -> Cells:
    """Cells of a 1-D array of any dtype."""
    kind, form = values.dtype.kind, Form(values.dtype)
    if kind in "OUT":
        return read_objects(values.tolist(), form, label, as_category)
    if kind == "b":
        return boolean_cells(values.astype(np.int64), form)
    if kind in "mM":
        form = Form(values.dtype, *_unit_and_span(values.dtype))
    if kind not in "iufmM":
        refuse_type(values.dtype.type, label)
    if as_category:
        uniques, codes = np.unique(values, return_inverse=True)
        return category_cells(codes, uniques if kind in "mM" else uniques.tolist(), form, label)
    if kind in "mM":
        ticks = values.astype(f"{kind}8[{form.unit}]").astype(np.int64)
        return date_cells(ticks, np.isnat(values), form)
    return number_cells(values.astype(np.float64), form, label)


def read_objects(values: list[Any], form: Form, label: str, as_category: bool = False) -> Cells:
    """Cells of Python objects, whose types decide what they are."""
    each = list(map(type, values))
    if not as_category and set(each) <= {int, float, NoneType}:
        return _plain_numbers(values, each, form, label)
    cells = category_cells(*_factorise(values, label), form, label)
    types = set(map(type, cells.uniques))
    if not types:
        return cells
    if all(issubclass(t, bool | np.bool_) for t in types):
        truth = np.array([*map(int, cells.uniques), -1])
        return boolean_cells(truth[cells.values], form)
    if as_category or any(issubclass(t, str | bool | np.bool_) for t in types):
        return cells
    if all(issubclass(t, Real | Decimal) for t in types):
        return _object_numbers(cells, types, label)
    return _object_dates(cells, types) or cells


def is_gap(value: Any) -> bool:
    """Whether a cell is None, NaN, NaT or pandas' NA."""
    if isinstance(value, str):
        return False
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def refuse_type(kind: type, label: str) -> NoReturn:
    """Raise an error about a column with cells of a type that no estimator takes."""
    if issubclass(kind, complex | np.complexfloating):
        raise ValueError(f"Complex data not supported, as in {label}: {REMEDY}.")
    raise TypeError(f"{label} holds values of type {kind.__name__!r}: {REMEDY}.")


def has_several_number_types(types: set[type]) -> bool:
    """Whether values of the types may be equal and yet differ, as 1, 1.0 and True do."""
    return sum(issubclass(t, Number | np.bool_) for t in types) > 1


def _check_types(types: set[type], label: str) -> None:
    for kind in sorted(types, key=lambda t: t.__name__):
        known = issubclass(kind, SCALARS + NUMPY_TIMES) or kind.__name__ in PANDAS_SCALARS
        if not known or issubclass(kind, bytes):
            refuse_type(kind, label)


def _factorise(values: list[Any], label: str) -> tuple[np.ndarray, list[Any]]:
    """Codes of objects, and the unique ones by value and type, in order of appearance."""
    typed = has_several_number_types(set(map(type, values)))
    keys: list[Any] = list(zip(map(type, values), values, strict=True)) if typed else values
    try:
        index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    except TypeError:
        refuse_type(next(type(v) for v in values if _is_unhashable(v)), label)
    codes = np.fromiter(map(index.__getitem__, keys), np.int64, len(keys))
    return codes, [key[1] for key in index] if typed else list(index)


def _is_unhashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return True
    return False


def _plain_numbers(values: list[Any], types: list[type], form: Form, label: str) -> Cells:
    """Numbers of integers, floats and None."""
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise ValueError(f"{label} {TOO_LARGE}") from error
    n_gaps = types.count(NoneType)
    is_integer = types.count(float) == np.isnan(numbers).sum() - n_gaps
    gap = None if n_gaps else np.nan
    form = Form(form.dtype, value_type=int if is_integer else float, gap=gap)
    return number_cells(numbers, form, label)


def _object_numbers(cells: Cells, types: set[type], label: str) -> Cells:
    """Numbers of objects; written as integers, decimals or floats."""
    try:
        numbers = np.array([*map(float, cells.uniques), np.nan])
    except OverflowError as error:
        raise ValueError(f"{label} {TOO_LARGE}") from error
    value_type: type = float
    decimals = 0
    if all(issubclass(t, Integral) for t in types):
        value_type = int
    elif Decimal in types and all(issubclass(t, Integral | Decimal) for t in types):
        value_type = Decimal
        exponents = [v.as_tuple().exponent for v in cells.uniques if isinstance(v, Decimal)]
        decimals = max(0, *(-e for e in exponents if isinstance(e, int)), 0)
    form = replace(cells.form, value_type=value_type, decimals=decimals)
    return number_cells(numbers[cells.values], form, label)


def _object_dates(cells: Cells, types: set[type]) -> Cells | None:
    """Dates, durations or times of objects, all of one sort; None otherwise."""
    uniques, zone = cells.uniques, None
    value_type: Any
    if types == {date}:
        ticks, unit, span, value_type = np.array(uniques, "M8[D]"), "D", DATES, date
    elif all(issubclass(t, datetime) for t in types):
        zones = {value.tzinfo is None for value in uniques}
        if len(zones) > 1:
            return None
        span, zone = (DATES if zones == {True} else ZONED), uniques[0].tzinfo
        if zone is not None:
            uniques = [value.astimezone(UTC).replace(tzinfo=None) for value in uniques]
        ticks, unit, value_type = np.array(uniques, "M8[us]"), "us", type(cells.uniques[0])
    elif all(issubclass(t, timedelta) for t in types):
        ticks, unit, span, value_type = (
            np.array(uniques, "m8[us]"),
            "us",
            DURATIONS,
            type(uniques[0]),
        )
    elif types == {time} and all(value.tzinfo is None for value in uniques):
        since = [_since_midnight(value) for value in uniques]
        ticks, unit, span, value_type = np.array(since, "m8[us]"), "us", TIMES, time
    elif len(types) == 1 and issubclass(next(iter(types)), NUMPY_TIMES):
        ticks, value_type = np.array(uniques), type(uniques[0])
        unit, span = _unit_and_span(ticks.dtype)
        ticks = ticks.astype(f"{ticks.dtype.kind}8[{unit}]")
    else:
        return None
    form = replace(cells.form, unit=unit, span=span, value_type=value_type, zone=zone)
    codes = np.where(cells.missing, 0, cells.values)
    return date_cells(ticks.astype(np.int64)[codes], cells.missing, form)


def _since_midnight(value: time) -> timedelta:
    return datetime.combine(date.min, value) - datetime.min


def _unit_and_span(dtype: np.dtype) -> tuple[str, str]:
    """Unit of ticks for an array of dates or durations, and what they measure."""
    unit = np.datetime_data(dtype)[0]
    unit = unit if unit in PER_DAY else NUMPY_UNITS.get(unit, "ns")
    return unit, DATES if dtype.kind == "M" else DURATIONS


# -- writing -----------------------------------------------------------------------


def write_array(cells: Cells, form: Form) -> np.ndarray:
    """Cells as a 1-D array of the dtype of `form`, of a wider dtype if that cannot hold gaps."""
    kind = form.dtype.kind
    if kind == "O":
        return write_objects(cells, form)
    has_gaps = cells.missing.any()
    if kind in "bUT" and has_gaps:
        return write_objects(cells, Form(np.dtype(object)))
    dtype = np.dtype(np.float64) if kind in "iu" and has_gaps else form.dtype
    if cells.sort == "empty":
        return np.full(len(cells.values), np.nan if kind in "iuf" else "NaT", dtype)
    if cells.sort == "number":
        return fit_to_dtype(cells.values, form.dtype).astype(dtype)
    if cells.sort == "date":
        written = cells.values.astype(f"{kind}8[{cells.form.unit}]").astype(dtype)
        written[cells.missing] = "NaT"
        return written
    gap = "NaT" if kind in "mM" else np.nan
    uniques = np.array([*cells.uniques, gap] if has_gaps else cells.uniques, dtype)
    return uniques[cells.values]


def write_objects(cells: Cells, form: Form) -> np.ndarray:
    """Cells as Python objects."""
    observed = ~cells.missing
    written = np.empty(len(observed), dtype=object)
    written[:] = form.gap
    values = cells.values[observed]
    if cells.sort == "number":
        written[observed] = _number_objects(values, form)
    elif cells.sort == "date":
        written[observed] = _date_objects(values, cells.form)
    elif cells.sort != "empty":
        uniques = np.empty(len(cells.uniques), dtype=object)
        uniques[:] = cells.uniques
        written[observed] = uniques[values]
    return written


def fit_to_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers in float64, within the range of a dtype and, if it is of integers, rounded."""
    if dtype.kind == "f":
        largest = float(np.finfo(dtype).max)
        return np.clip(values, -largest, largest)
    info = np.iinfo(dtype)
    largest = float(info.max)
    if int(largest) > info.max:  # rounded up
        largest = float(np.nextafter(largest, 0))
    return np.clip(np.rint(values), float(info.min), largest)


def fit_to_decimals(values: np.ndarray, precision: int, scale: int) -> np.ndarray:
    """Numbers in float64, within the range of decimals of a precision and rounded to a scale."""
    end = 10.0 ** (precision - scale)
    largest = min(end - 10.0**-scale, float(np.nextafter(end, 0)))
    return np.clip(np.round(values, scale), -largest, largest)


def _number_objects(values: np.ndarray, form: Form) -> list[Any]:
    if form.value_type is int:
        return [int(value) for value in np.rint(values).tolist()]
    if form.value_type is Decimal:
        return [Decimal(f"{value:.{form.decimals}f}") for value in values.tolist()]
    return values.tolist()


def _date_objects(ticks: np.ndarray, form: Form) -> np.ndarray | list[Any]:
    kind = "M" if form.span in (DATES, ZONED) else "m"
    times = ticks.astype(f"{kind}8[{form.unit}]")
    if form.value_type in NUMPY_TIMES:
        return list(times)
    objects = times.astype("M8[D]" if form.value_type is date else f"{kind}8[us]").tolist()
    if form.span == TIMES:
        return [(datetime.min + since).time() for since in objects]
    if form.zone is not None:
        objects = [value.replace(tzinfo=UTC).astimezone(form.zone) for value in objects]
    if form.value_type in (None, date, datetime, timedelta):
        return objects
    return [form.value_type(value) for value in objects]  # pandas' Timestamp or Timedelta
