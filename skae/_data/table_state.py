"""Plain descriptions of dtypes, indexes and values of tables, from which they are made again.

A description consists of dicts, lists, text, numbers, booleans, None and arrays of numpy. It can be
read without the library that it is about, which is imported where the object is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from importlib import import_module
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np

TYPES = {
    f"{kind.__module__}.{kind.__name__}": kind
    for kind in (int, float, Decimal, date, datetime, time, timedelta)
} | {"numpy.datetime64": np.datetime64, "numpy.timedelta64": np.timedelta64}
PANDAS_TYPES = ("Timestamp", "Timedelta")
POLARS_SETTINGS = {
    "Datetime": ("time_unit", "time_zone"),
    "Duration": ("time_unit",),
    "Decimal": ("precision", "scale"),
}


@dataclass(frozen=True)
class Described:
    """An object that is not made yet."""

    plain: Any


def describe(part: Any) -> Any:
    """Description of an object; the object itself if there is none."""
    if isinstance(part, Described):
        return part.plain
    if part is None or type(part) in (str, int, float, bool):
        return part
    if type(part) is list:
        return [describe(each) for each in part]
    kind = part if isinstance(part, type) else type(part)
    describer = DESCRIBERS.get(kind.__module__.partition(".")[0], _describe_standard)
    plain = describer(part)
    return part if plain is None else plain


def restore(plain: Any) -> Any:
    """Object of a description; all else is returned as it is."""
    plain = plain.plain if isinstance(plain, Described) else plain
    if isinstance(plain, list):
        return [restore(each) for each in plain]
    if not isinstance(plain, dict):
        return plain
    library, _, name = plain["kind"].rpartition(".")
    return RESTORERS[library](name, {key: restore(plain[key]) for key in plain if key != "kind"})


def put_off(plain: Any) -> Any:
    """A description that `restore` makes an object of later; all else is returned as it is."""
    return Described(plain) if isinstance(plain, dict) else plain


def _is_exact(plain: dict[str, Any], part: Any) -> bool:
    """Whether an equal object can be made of a description."""
    try:
        restored = restore(plain)
        return type(restored) is type(part) and bool(restored == part)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _if_exact(plain: dict[str, Any], part: Any) -> dict[str, Any] | None:
    return plain if _is_exact(plain, part) else None


def _import(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise ImportError(
            f"The table of fit was one of {library}, which is not installed: pip install {library}."
        ) from error


# -- Python and numpy --------------------------------------------------------------


def _describe_standard(part: Any) -> dict[str, Any] | None:
    kind = type(part)
    if kind is tuple:
        return {"kind": "tuple", "parts": describe(list(part))}
    if isinstance(part, type):
        name = f"{part.__module__}.{part.__name__}"
        return {"kind": "type", "name": name} if TYPES.get(name) is part else None
    if kind in (Decimal, UUID, date):
        return {"kind": kind.__name__, "text": str(part)}
    if kind is ZoneInfo:
        return _if_exact({"kind": "ZoneInfo", "text": str(part)}, part)
    if kind is timedelta:
        return {"kind": "timedelta", "parts": [part.days, part.seconds, part.microseconds]}
    if kind is timezone:
        return {"kind": "timezone", "offset": describe(part.utcoffset(None))}
    if kind in (datetime, time):
        text = part.replace(tzinfo=None).isoformat()
        zone = describe(part.tzinfo)
        return {"kind": kind.__name__, "text": text, "zone": zone, "fold": part.fold}
    return None


def _restore_standard(name: str, given: dict[str, Any]) -> Any:
    if name == "tuple":
        return tuple(given["parts"])
    if name == "type":
        pandas_type = given["name"].removeprefix("pandas.")
        in_pandas = pandas_type in PANDAS_TYPES
        return getattr(_import("pandas"), pandas_type) if in_pandas else TYPES[given["name"]]
    if name in ("Decimal", "UUID", "ZoneInfo"):
        return {"Decimal": Decimal, "UUID": UUID, "ZoneInfo": ZoneInfo}[name](given["text"])
    if name == "date":
        return date.fromisoformat(given["text"])
    if name == "timedelta":
        return timedelta(*given["parts"])
    if name == "timezone":
        return timezone(given["offset"])
    kind: Any = {"datetime": datetime, "time": time}[name]
    moment = kind.fromisoformat(given["text"])
    return moment.replace(tzinfo=given["zone"], fold=given["fold"])


def _describe_numpy(part: Any) -> dict[str, Any] | None:
    if isinstance(part, np.dtype):
        name = "StringDType" if part.kind == "T" else part.str
        return _if_exact({"kind": "numpy.dtype", "name": name}, part)
    if isinstance(part, np.generic):
        return {"kind": "numpy.scalar", "value": np.asarray(part)}
    return _describe_standard(part)


def _restore_numpy(name: str, given: dict[str, Any]) -> Any:
    if name == "scalar":
        return given["value"][()]
    return np.dtypes.StringDType() if given["name"] == "StringDType" else np.dtype(given["name"])


# -- pandas ------------------------------------------------------------------------


def _describe_pandas(part: Any) -> dict[str, Any] | None:
    pandas = _import("pandas")
    name = type(part).__name__
    plain: dict[str, Any] = {"kind": f"pandas.{name}"}
    if isinstance(part, type):
        known = part.__name__ in PANDAS_TYPES
        return {"kind": "type", "name": f"pandas.{part.__name__}"} if known else None
    if part is pandas.NA or part is pandas.NaT:
        return plain
    if isinstance(part, pandas.api.extensions.ExtensionDtype):
        return _if_exact(plain | _dtype_of_pandas(part), part)
    if isinstance(part, pandas.Index):
        return plain | _index_of_pandas(part)
    if name == "Timestamp":
        zone = getattr(part.tzinfo, "zone", None) or describe(part.tzinfo)  # pytz has names
        return plain | {"value": int(part.asm8.view(np.int64)), "unit": part.unit, "zone": zone}
    if name == "Timedelta":
        return plain | {"value": int(part.asm8.view(np.int64)), "unit": part.unit}
    if name == "Period":
        return plain | {"ordinal": part.ordinal, "freq": part.freqstr}
    if name == "Interval":
        ends = describe([part.left, part.right])
        return plain | {"ends": ends, "closed": part.closed}
    return None


def _dtype_of_pandas(dtype: Any) -> dict[str, Any]:
    name = type(dtype).__name__
    if name == "CategoricalDtype":
        return {"categories": describe(dtype.categories), "ordered": dtype.ordered}
    if name == "ArrowDtype":
        return {"arrow": describe(dtype.pyarrow_dtype)}
    if name == "SparseDtype":
        return {"subtype": describe(dtype.subtype), "fill": describe(dtype.fill_value)}
    if name == "StringDtype":
        is_nan = isinstance(dtype.na_value, float)
        return {"storage": dtype.storage} | ({"na_value": np.nan} if is_nan else {})
    return {"text": str(dtype)}


def _index_of_pandas(index: Any) -> dict[str, Any]:
    names = describe(list(index.names))
    if type(index).__name__ == "MultiIndex":
        levels = [describe(level) for level in index.levels]
        codes = [np.asarray(code, np.int64) for code in index.codes]
        return {"levels": levels, "codes": codes, "names": names}
    if type(index).__name__ == "RangeIndex":
        return {"range": [index.start, index.stop, index.step], "names": names}
    return {"values": describe(index.tolist()), "dtype": describe(index.dtype), "names": names}


def _restore_pandas(name: str, given: dict[str, Any]) -> Any:
    pandas = _import("pandas")
    if name in ("NAType", "NaTType"):
        return pandas.NA if name == "NAType" else pandas.NaT
    if name == "Timestamp":
        moment = pandas.Timestamp(np.datetime64(given["value"], given["unit"]))
        zone = given["zone"]
        return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)
    if name == "Timedelta":
        return pandas.Timedelta(np.timedelta64(given["value"], given["unit"]))
    if name == "Interval":
        return pandas.Interval(*given["ends"], closed=given["closed"])
    if name in ("Period", "CategoricalDtype", "StringDtype"):
        return getattr(pandas, name)(**given)
    if name == "ArrowDtype":
        return pandas.ArrowDtype(given["arrow"])
    if name == "SparseDtype":
        return pandas.SparseDtype(given["subtype"], given["fill"])
    if "levels" in given:
        return pandas.MultiIndex(**given)
    if "range" in given:
        return pandas.RangeIndex(*given["range"], name=given["names"][0])
    if "values" in given:
        values, dtype, (label,) = given["values"], given["dtype"], given["names"]
        return pandas.Index(values, dtype=dtype, name=label, tupleize_cols=False)
    return pandas.api.types.pandas_dtype(given["text"])


# -- polars and pyarrow ------------------------------------------------------------


def _describe_polars(part: Any) -> dict[str, Any] | None:
    name = part.__name__ if isinstance(part, type) else type(part).__name__
    settings = {key: getattr(part, key) for key in POLARS_SETTINGS.get(name, ())}
    if name == "Enum":
        settings = {"categories": part.categories.to_list()}
    plain = {"kind": f"polars.{name}", **settings}
    # A dtype may be a class; that of its instances equals it.
    return plain if not isinstance(part, type) and _is_exact(plain, part) else None


def _restore_polars(name: str, given: dict[str, Any]) -> Any:
    polars = _import("polars")
    kind = getattr(polars, name)
    if not issubclass(kind, polars.DataType):
        raise ValueError(f"polars has no dtype {name}: the file is damaged. Load an intact copy.")
    return kind(**given)


def _describe_pyarrow(part: Any) -> dict[str, Any] | None:
    pyarrow = _import("pyarrow")
    if isinstance(part, pyarrow.Array):
        values, dtype = describe(part.to_pylist()), describe(part.type)
        return {"kind": "pyarrow.array", "values": values, "dtype": dtype}
    types = pyarrow.types
    plain = {"kind": "pyarrow.dtype", "text": str(part)}
    if types.is_dictionary(part):
        parts = {"indices": part.index_type, "values": part.value_type, "ordered": part.ordered}
        plain = {"kind": "pyarrow.dictionary", **{key: describe(parts[key]) for key in parts}}
    elif types.is_timestamp(part):
        plain = {"kind": "pyarrow.timestamp", "unit": part.unit, "zone": part.tz}
    elif types.is_decimal(part):
        name = f"decimal{part.bit_width}"
        plain = {"kind": f"pyarrow.{name}", "precision": part.precision, "scale": part.scale}
    return _if_exact(plain, part)


def _restore_pyarrow(name: str, given: dict[str, Any]) -> Any:
    pyarrow = _import("pyarrow")
    if name == "array":
        return pyarrow.array(given["values"], given["dtype"])
    if name == "dtype":
        return pyarrow.type_for_alias(given["text"])
    if name == "dictionary":
        return pyarrow.dictionary(given["indices"], given["values"], given["ordered"])
    if name == "timestamp":
        return pyarrow.timestamp(given["unit"], given["zone"])
    decimals = {f"decimal{bits}" for bits in (32, 64, 128, 256)}
    return getattr(pyarrow, (decimals & {name}).pop())(given["precision"], given["scale"])


DESCRIBERS: dict[str, Callable[[Any], dict[str, Any] | None]] = {
    "numpy": _describe_numpy,
    "pandas": _describe_pandas,
    "polars": _describe_polars,
    "pyarrow": _describe_pyarrow,
}
RESTORERS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "": _restore_standard,
    "numpy": _restore_numpy,
    "pandas": _restore_pandas,
    "polars": _restore_polars,
    "pyarrow": _restore_pyarrow,
}
