"""Dtypes, indexes and values of tables come back from plain descriptions."""

from __future__ import annotations

import datetime as dt
import json
import sys
from decimal import Decimal
from enum import Enum
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skae._data.table_state import Described, describe, put_off, restore

BERLIN = ZoneInfo("Europe/Berlin")
MOMENT = dt.datetime(2020, 10, 25, 2, 30, 1, 5)
OBJECTS = [
    *[None, "text", 7, 2**70, 0.5, True, ["a", 1], ("x", ("y", 2))],
    *[Decimal("1.250"), UUID(int=7), BERLIN, dt.UTC, dt.timezone(dt.timedelta(hours=-3))],
    *[dt.date(2020, 1, 2), dt.time(3, 4, 5, 6), dt.timedelta(-1, 5, 7), MOMENT],
    *[MOMENT.replace(tzinfo=BERLIN, fold=1), MOMENT.replace(tzinfo=dt.UTC)],
    *[int, float, Decimal, dt.date, dt.datetime, dt.time, dt.timedelta],
    *[np.datetime64, np.timedelta64, pd.Timestamp, pd.Timedelta],
    *[np.float32(0.1), np.int8(3), np.str_("ü"), np.True_, np.datetime64("2020-01-02", "s")],
    *map(np.dtype, ("i1", "u8", "f2", "f4", ">f8", "O", "?", "U7", "M8[D]", "M8[ns]", "m8[ms]")),
    np.dtypes.StringDType(),
    *[pd.Int8Dtype(), pd.UInt64Dtype(), pd.Float32Dtype(), pd.BooleanDtype()],
    *[pd.StringDtype("python"), pd.StringDtype("pyarrow"), pd.Series(["a"]).dtype],
    *[pd.DatetimeTZDtype("s", "Europe/Berlin"), pd.DatetimeTZDtype("ns", "UTC")],
    *[pd.DatetimeTZDtype("us", dt.timezone(dt.timedelta(hours=2)))],
    *[pd.PeriodDtype("M"), pd.PeriodDtype("W-SUN"), pd.IntervalDtype("float64", "left")],
    *[pd.SparseDtype(float), pd.SparseDtype("int64", 0), pd.SparseDtype(float, 2.5)],
    *[pd.CategoricalDtype(["b", "a"]), pd.CategoricalDtype([3, 1], ordered=True)],
    *[pd.CategoricalDtype(), pd.CategoricalDtype(pd.to_datetime(["2020-01-02"]), ordered=True)],
    pd.CategoricalDtype(pd.interval_range(0, 3)),
    *[pd.ArrowDtype(pa.int16()), pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))],
    *[pd.ArrowDtype(pa.timestamp("us", "Europe/Berlin")), pd.ArrowDtype(pa.decimal128(5, 2))],
    *[pl.Int8(), pl.UInt64(), pl.Int128(), pl.Float32(), pl.Boolean(), pl.String(), pl.Null()],
    *[pl.Date(), pl.Time(), pl.Duration("ms"), pl.Datetime("ns"), pl.Object()],
    *[pl.Datetime("us", "Europe/Berlin"), pl.Decimal(10, 3), pl.Enum(["b", "a"]), pl.Categorical()],
    *[pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.null()],
    *[pa.string(), pa.large_string(), pa.string_view(), pa.date32(), pa.date64()],
    *[pa.time32("s"), pa.time64("ns"), pa.duration("ms"), pa.timestamp("s")],
    *[pa.timestamp("ns", "+02:00"), pa.decimal128(5, 2), pa.decimal256(40, 3)],
    *[pa.dictionary(pa.int8(), pa.string(), ordered=True), pa.dictionary(pa.int32(), pa.int64())],
    *[pa.array(["b", None, "a"]), pa.array([1, 2], pa.int8()), pa.array([dt.date(2020, 1, 2)])],
    *[pd.Timestamp("2020-01-02 03:04:05.678"), pd.Timedelta(5, "s"), pd.Period("2020-03", "M")],
    *[pd.Timestamp(MOMENT, tz=BERLIN), pd.Interval(0.5, 2, closed="both")],
]
INDEXES = [
    pd.Index(["a", "b"], name="names"),
    pd.Index(["a", 1, None], dtype=object),
    pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
    pd.RangeIndex(2, 12, 5),
    pd.Index([1.5, np.nan]),
    pd.Index([True, False]),
    pd.Index([1, 2], dtype="Int8"),
    pd.DatetimeIndex(["2020-01-01", "2021-01-01"], tz="Europe/Berlin", name=("a", 1)),
    pd.PeriodIndex(["2020-01", "2020-03"], freq="M"),
    pd.CategoricalIndex(["b", "a", "b"], categories=["b", "a"], ordered=True),
    pd.interval_range(0, 3),
    pd.MultiIndex.from_product([["x", "y"], [1, 2]], names=["letter", None]),
    pd.MultiIndex.from_tuples([("x", 1.5), ("y", np.nan)])[:1],
    pd.MultiIndex.from_arrays([pd.to_datetime(["2020", "2021"]), pd.Categorical(["b", "a"])]),
]


class Colour(Enum):
    RED = 1


class OwnDate(dt.date):
    pass


def through_text(plain):
    """A description that was written as JSON, where arrays are left aside."""
    if isinstance(plain, dict):
        return {key: through_text(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [through_text(each) for each in plain]
    return plain if isinstance(plain, np.ndarray) else json.loads(json.dumps(plain))


@pytest.mark.parametrize("part", OBJECTS, ids=lambda part: type(part).__name__)
def test_objects_come_back(part):
    back = restore(through_text(describe(part)))
    assert type(back) is type(part)
    if isinstance(part, pa.Array):
        assert back.equals(part)
    else:
        assert back == part
        assert repr(back) == repr(part)


@pytest.mark.parametrize("gap", [np.nan, None, pd.NA, pd.NaT, np.datetime64("NaT"), Decimal("NaN")])
def test_gaps_come_back(gap):
    back = restore(through_text(describe(gap)))
    assert back is gap or repr(back) == repr(gap)


@pytest.mark.parametrize("index", INDEXES, ids=repr)
def test_indexes_come_back(index):
    back = restore(through_text(describe(index)))
    pd.testing.assert_index_equal(back, index, exact=True)
    assert list(back.names) == list(index.names)


@pytest.mark.parametrize("part", [Colour.RED, OwnDate(2020, 1, 1), OwnDate, object(), pa.list_])
def test_what_has_no_description_is_kept(part):
    assert describe(part) is part
    assert restore(part) is part


def test_objects_are_made_when_they_are_asked_for(monkeypatch):
    plain = describe(pl.Datetime("us"))
    later = put_off(plain)
    assert isinstance(later, Described)
    assert describe(later) == plain
    assert put_off(["a"]) == ["a"]
    assert restore(later) == pl.Datetime("us")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"one of polars, which is not.*pip install polars"):
        restore(later)


@pytest.mark.parametrize("name", ["polars.read_csv", "polars.DataFrame", "pyarrow.decimal7"])
def test_descriptions_make_dtypes_only(name):
    with pytest.raises((KeyError, TypeError, ValueError)):
        restore({"kind": name, "source": "rows.csv"})
