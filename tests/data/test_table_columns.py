"""Tables of any library are encoded as numbers, and decoded to tables of the same kind."""

from __future__ import annotations

import copy
import datetime as dt
import os
import pickle
import subprocess
import sys
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal as assert_polars_equal
from scipy import sparse
from sklearn.preprocessing import OrdinalEncoder

from skae._data.table_columns import TableColumns

BERLIN = ZoneInfo("Europe/Berlin")
DAYS = [dt.date(2020, 1, day) for day in (1, 2, 5, 7, 8, 9)]
TIMES = [dt.datetime(2020, 1, 1, 3, minute, 7) for minute in range(6)]
PLAIN = {
    "whole": [1, 2, 3, 4, 5, 6],
    "real": [0.5, None, 2.0, 3.0, 4.0, 5.25],
    "text": ["b", "a", None, "b", "c", ""],
    "truth": [True, False, True, True, False, False],
    "truth or gap": [True, None, False, True, True, True],
    "day": DAYS,
    "day or gap": [*DAYS[:5], None],
    "moment": TIMES,
    "duration": [dt.timedelta(hours=hours) for hours in range(6)],
    "time": [*(dt.time(3, minute, 5) for minute in range(5)), None],
    "price": [Decimal("1.25"), Decimal("2.50"), None, *map(Decimal, ("3.10", "4.00", "0.01"))],
    "same": [7] * 6,
    "same text": ["x", None, "x", "x", "x", "x"],
}
KINDS = {
    "whole": "number",
    "real": "number",
    "text": "category",
    "truth": "boolean",
    "truth or gap": "boolean",
    "day": "date",
    "day or gap": "date",
    "moment": "date",
    "duration": "date",
    "time": "date",
    "price": "number",
    "same": "constant",
    "same text": "constant",
}
NUMBERS_OR_GAP = [1, 2, None, 4, 5, 6]
LEVELS = ["low", "high", None, "low", "middle", "high"]
ORDER = ["low", "middle", "high", "never"]


def pandas_frame():
    frame = pd.DataFrame(PLAIN, index=list("uvwxyz"))
    frame["category"] = pd.Categorical(PLAIN["text"], categories=["c", "b", "a", "", "never"])
    frame["number category"] = pd.Categorical([10, 2, None, 2, 10, 2])
    frame["ordered"] = pd.Categorical(LEVELS, categories=ORDER, ordered=True)
    frame["binned"] = pd.cut(range(6), 3)
    for dtype in ("Int8", "UInt16", "Int64", "Float32", "Float64"):
        frame[dtype] = pd.array(NUMBERS_OR_GAP, dtype=dtype)
    frame["boolean"] = pd.array(PLAIN["truth or gap"], dtype="boolean")
    for dtype in (np.int8, np.uint64, np.float16, np.float32):
        frame[np.dtype(dtype).name] = np.arange(6).astype(dtype)
    frame["string"] = pd.array(PLAIN["text"], dtype="string")
    frame["objects"] = pd.Series(PLAIN["text"], dtype=object, index=frame.index)
    frame["mixed"] = ["a", 1, 2.5, None, True, "1"]
    frame["whole objects"] = pd.Series(NUMBERS_OR_GAP, dtype=object, index=frame.index)
    frame["uuid"] = [UUID(int=i) for i in (1, 2, 1, 3, 4, 5)]
    frame["zoned"] = pd.to_datetime(frame["moment"]).dt.tz_localize("Europe/Berlin")
    frame["zoned objects"] = pd.Series(
        [time.replace(tzinfo=BERLIN) for time in TIMES], dtype=object, index=frame.index
    )
    frame["stamps"] = pd.Series([pd.Timestamp(t) for t in TIMES], dtype=object, index=frame.index)
    for unit in ("s", "ms", "ns"):
        frame[unit] = np.array([*DAYS[:5], "NaT"], dtype=f"M8[{unit}]")
    frame["period"] = pd.period_range("2020-01", periods=6, freq="M")
    frame["interval"] = pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3, 4, 5, 6])
    frame["arrow number"] = pd.array(NUMBERS_OR_GAP, dtype=pd.ArrowDtype(pa.int16()))
    frame["arrow text"] = pd.array(PLAIN["text"], dtype=pd.ArrowDtype(pa.string()))
    frame["arrow dictionary"] = pd.array(
        PLAIN["text"], dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))
    )
    frame["arrow day"] = pd.array(DAYS, dtype=pd.ArrowDtype(pa.date32()))
    frame["sparse"] = pd.arrays.SparseArray([0.0, 0, 1, 0, 2, 0])
    frame["only gaps"] = np.nan
    frame["only None"] = pd.Series([None] * 6, dtype=object, index=frame.index)
    return frame


def polars_frame():
    return pl.DataFrame(PLAIN).with_columns(
        pl.Series("category", PLAIN["text"], dtype=pl.Categorical),
        pl.Series("ordered", LEVELS, dtype=pl.Enum(ORDER)),
        pl.Series("zoned", TIMES).dt.replace_time_zone("Europe/Berlin"),
        pl.Series("ns", TIMES, dtype=pl.Datetime("ns")),
        pl.Series("ms", TIMES, dtype=pl.Datetime("ms")),
        pl.Series("u8", NUMBERS_OR_GAP, dtype=pl.UInt8),
        pl.Series("u64", NUMBERS_OR_GAP, dtype=pl.UInt64),
        pl.Series("i128", NUMBERS_OR_GAP, dtype=pl.Int128),
        pl.Series("f32", NUMBERS_OR_GAP, dtype=pl.Float32),
        pl.Series("only gaps", [None] * 6),
        pl.Series("no number", [None] * 6, dtype=pl.Float64),
    )


def pyarrow_table():
    more = {
        "category": pa.array(PLAIN["text"]).dictionary_encode(),
        "ordered": pa.DictionaryArray.from_arrays(
            pa.array([0, 2, None, 0, 1, 2], pa.int8()), pa.array(ORDER), ordered=True
        ),
        "zoned": pa.array(TIMES, pa.timestamp("ms", "Europe/Berlin")),
        "date64": pa.array(DAYS, pa.date64()),
        "time32": pa.array(PLAIN["time"], pa.time32("s")),
        "large": pa.array(PLAIN["text"], pa.large_string()),
        "view": pa.array(PLAIN["text"], pa.string_view()),
        "u8": pa.array(NUMBERS_OR_GAP, pa.uint8()),
        "f32": pa.array(NUMBERS_OR_GAP, pa.float32()),
        "only gaps": pa.nulls(6),
        "no number": pa.nulls(6, pa.int32()),
    }
    table = pa.table(PLAIN)
    for name, column in more.items():
        table = table.append_column(name, column)
    return table


def object_array():
    return pandas_frame()[["whole", "text", "mixed", "uuid", "day"]].to_numpy(dtype=object)


TABLES = {
    "pandas": pandas_frame,
    "polars": polars_frame,
    "pyarrow": pyarrow_table,
    "objects": object_array,
    "floats": lambda: np.array([[0.5, np.nan, 3], [2, 5, 7]]),
    "float32": lambda: np.array([[0.1, np.nan, 3], [2, 5, 7]], dtype=np.float32),
    "int8": lambda: np.array([[1, 2], [3, -4]], dtype=np.int8),
    "booleans": lambda: np.array([[True, False], [False, False]]),
    "text": lambda: np.array([["a", "b"], ["c", ""]]),
    "dates": lambda: np.array([["2020-01-01", "NaT"], ["2021-01-01", "1500-01-01"]], "M8[D]"),
    "months": lambda: np.array([["2020-01", "2020-03"], ["2021-01", "1500-01"]], "M8[M]"),
    "durations": lambda: np.array([[1, 2], [3, 4]], "m8[ms]"),
}
each_table = pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)


def assert_same(got, expected):
    """Values, dtypes, names, index and library are the same."""
    assert type(got) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(got, expected)
    elif isinstance(expected, pl.DataFrame):
        assert_polars_equal(got, expected, categorical_as_str=True)
    elif isinstance(expected, pa.Table):
        assert got.equals(expected)
    else:
        assert got.dtype == expected.dtype
        assert repr(got.tolist()) == repr(expected.tolist())


def column(values, dtype=None):
    """A frame with one column "c"."""
    return pd.DataFrame({"c": pd.Series(values, dtype=dtype)})


def decoded(X, values, **params):
    """Table decoded with the columns of X, one value after the other in its only column."""
    columns = TableColumns.learn(X, **params)
    return columns.decode(np.reshape(np.asarray(values, dtype=float), (-1, columns.n_features)))


# -- round trips -------------------------------------------------------------------


@each_table
def test_a_round_trip_gives_the_table_back(make):
    X = make()
    columns = TableColumns.learn(X)
    encoded = columns.encode(X)
    assert encoded.dtype == np.float64
    assert_same(columns.decode(encoded, template=X), X)
    assert np.array_equal(columns.observed(X), ~np.isnan(encoded))


@each_table
def test_columns_can_be_pickled(make):
    X = make()
    columns = TableColumns.learn(X)
    restored = pickle.loads(pickle.dumps(columns))
    np.testing.assert_array_equal(restored.encode(X), columns.encode(X))
    assert_same(restored.decode(columns.encode(X), template=X), X)


def is_plain(part):
    """Whether it consists of what any library reads."""
    if isinstance(part, dict):
        return all(type(key) is str for key in part) and all(map(is_plain, part.values()))
    if type(part) is list:
        return all(map(is_plain, part))
    is_array = type(part) is np.ndarray and not part.dtype.hasobject
    return is_array or part is None or type(part) in (str, int, float, bool)


@each_table
def test_the_state_is_plain_and_gives_the_same_table(make):
    X = make()
    columns = TableColumns.learn(X)
    state = columns.__getstate__()
    assert is_plain(state)
    loaded = TableColumns.__new__(TableColumns)
    loaded.__setstate__(state)
    assert repr(loaded.__getstate__()) == repr(state)  # also of dtypes that are not made yet
    encoded = columns.encode(X)
    np.testing.assert_array_equal(loaded.encode(X), encoded)
    assert_same(loaded.decode(encoded, template=X), X)
    assert repr(loaded.__getstate__()) == repr(state)
    filled = columns.with_gaps_filled(X, np.nan_to_num(encoded))
    loaded.__setstate__(state)
    assert_same(loaded.with_gaps_filled(X, np.nan_to_num(encoded)), filled)
    assert [column.dtype for column in loaded.columns] == [c.dtype for c in columns.columns]


@each_table
def test_the_table_is_left_alone(make):
    X = make()
    before = copy.deepcopy(X)
    columns = TableColumns.learn(X)
    values = np.nan_to_num(columns.encode(X))
    columns.decode(values, template=X)
    columns.with_gaps_filled(X, values)
    assert_same(X, before)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("make", [pandas_frame, polars_frame, pyarrow_table])
def test_the_kind_of_a_column_and_its_codes_do_not_depend_on_the_library(make, name):
    columns, reference = TableColumns.learn(make()), TableColumns.learn(pandas_frame())
    i = [column.name for column in columns.columns].index(name)
    assert columns.columns[i].kind == KINDS[name]
    np.testing.assert_array_equal(
        columns.encode(make())[:, i], reference.encode(pandas_frame())[:, i]
    )


@pytest.mark.parametrize("make", [polars_frame, pyarrow_table])
def test_another_library_than_in_fit(make):
    plain = pd.DataFrame(PLAIN)
    columns = TableColumns.learn(plain)
    other = make().select(list(PLAIN))
    encoded = columns.encode(plain)
    np.testing.assert_array_equal(columns.encode(other), encoded)
    filled = columns.with_gaps_filled(other, np.nan_to_num(encoded, nan=0.0))
    assert type(filled) is type(other)
    assert columns.observed(filled).all()
    back = TableColumns.learn(other)
    np.testing.assert_array_equal(back.encode(plain), encoded)
    assert back.observed(back.with_gaps_filled(plain, np.nan_to_num(encoded))).all()


def test_kinds_of_pandas_columns():
    columns = {column.name: column for column in TableColumns.learn(pandas_frame()).columns}
    kinds = {name: column.kind for name, column in columns.items()}
    assert {n for n, kind in kinds.items() if kind == "ordered"} == {"ordered", "binned"}
    assert {n for n, kind in kinds.items() if kind == "empty"} == {"only gaps", "only None"}
    assert kinds["mixed"] == kinds["number category"] == kinds["interval"] == "category"
    assert kinds["period"] == kinds["zoned objects"] == kinds["stamps"] == "date"
    assert columns["ordered"].categories == ["low", "middle", "high"]
    assert columns["number category"].categories == [2, 10]
    assert columns["text"].categories == ["", "a", "b", "c"]
    assert columns["text"].n_categories == 4
    assert columns["text"].is_category
    assert not columns["real"].is_category
    assert columns["whole"].is_whole
    assert not columns["real"].is_whole
    assert columns["Int8"].dtype == pd.Int8Dtype()


@pytest.mark.slow
def test_categories_and_codes_do_not_depend_on_hashes():
    code = (
        "import numpy as np\nfrom skae._data.table_columns import TableColumns\n"
        "X = np.array([[v] for v in ('b', 'a', 1, 1.0, True, 'ü', '1', None)], dtype=object)\n"
        "c = TableColumns.learn(X, max_categories=4)\nprint(c.columns[0].categories, c.encode(X))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert "[1, '1', 1.0, True, 'a', 'b', 'ü']" in printed.pop()


class AbsentFrames:
    """Finder that behaves as if no library of frames were installed."""

    def find_spec(self, name, path=None, target=None):
        if name in ("pandas", "polars", "pyarrow"):
            raise ModuleNotFoundError(name=name)


def test_no_frame_library_is_needed(monkeypatch):
    X = object_array()
    names = [n for n in sys.modules if n.partition(".")[0] in ("pandas", "polars", "pyarrow")]
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [AbsentFrames(), *sys.meta_path])
    columns = TableColumns.learn(X)
    assert_same(columns.decode(columns.encode(X)), X)


# -- decoding ----------------------------------------------------------------------

GAP_DTYPES = {
    "int64": (column([1, 2]), "Int64"),
    "uint8": (column([1, 2], np.uint8), "UInt8"),
    "bool": (column([True, False]), "boolean"),
    "float32": (column([1, 2.5], np.float32), "float32"),
    "Int8": (column([1, 2], "Int8"), "Int8"),
    "datetime": (column(TIMES), str(column(TIMES)["c"].dtype)),
    "category": (column(["a", "b"], "category"), "category"),
    "sparse": (pd.DataFrame({"c": pd.arrays.SparseArray([1, 0])}), "Int64"),
    "sparse floats": (pd.DataFrame({"c": pd.arrays.SparseArray([1.5, 0])}), "Sparse[float64, nan]"),
    "constant int": (column([3, 3]), "Int64"),
}


@pytest.mark.parametrize(("X", "dtype"), GAP_DTYPES.values(), ids=GAP_DTYPES)
def test_a_gap_in_pandas_needs_a_dtype_that_holds_it(X, dtype):
    columns = TableColumns.learn(X)
    got = columns.decode(np.array([[0.0], [np.nan]]))["c"]
    assert str(got.dtype) == dtype
    assert got.isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("X", "dtype", "gap"),
    [
        (np.array([[1], [2]]), np.float64, np.nan),
        (np.array([[True], [False]]), object, None),
        (np.array([["a"], ["b"]]), object, None),
        (np.array([["2020"], ["2021"]], "M8[Y]"), "M8[Y]", None),
        (np.array([["a"], [np.nan]], dtype=object), object, np.nan),
    ],
    ids=["integers", "booleans", "text", "dates", "objects"],
)
def test_a_gap_in_an_array(X, dtype, gap):
    got = TableColumns.learn(X).decode(np.array([[np.nan], [0.0]]))
    assert got.dtype == dtype
    assert got[0, 0] is gap or str(got[0, 0]) in ("nan", "NaT")
    assert got[1, 0] in (0.0, *X[:, 0])


@pytest.mark.parametrize("frame", [pl.DataFrame, pa.table])
@pytest.mark.parametrize("name", ["whole", "truth", "text", "day", "same"])
def test_gaps_in_polars_and_pyarrow_are_nulls(frame, name):
    X = frame({name: PLAIN[name]})
    got = TableColumns.learn(X).decode(np.array([[np.nan], [0.0]]))
    assert got.schema == X.schema
    values = got[name].to_list() if frame is pl.DataFrame else got[name].to_pylist()
    assert values[0] is None
    assert values[1] is not None


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "Int8", "UInt64"])
def test_numbers_are_rounded_and_clipped_to_the_dtype(dtype):
    got = decoded(column([0, 1, 7], dtype), [-1e30, 2.6, 1e30])["c"]
    info = np.iinfo(dtype.lower())
    assert got.dtype == dtype
    assert got[0] == info.min
    assert got[1] == 3
    assert got[2] == pytest.approx(info.max, rel=1e-15)
    assert got[2] <= info.max


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Int128, pl.Float32, pl.Decimal(10, 2)])
def test_numbers_fit_into_polars_dtypes(dtype):
    X = pl.DataFrame({"c": pl.Series([0, 1, 7], dtype=dtype)})
    got = decoded(X, [-0.4, 2.6, 100.0])
    assert got.schema == X.schema
    rounded = [0, 3, 100] if dtype.is_integer() else [-0.4, 2.6, 100]
    np.testing.assert_allclose(got["c"].cast(float), rounded, rtol=1e-6)


def test_large_float_in_float32_stays_finite():
    got = decoded(np.array([[0.5], [1]], np.float32), [1e300, -1e300])
    assert got.dtype == np.float32
    assert np.isfinite(got).all()


@pytest.mark.parametrize(
    ("values", "steps", "expected"),
    [
        (DAYS, [0.4, 1.6], [DAYS[0], dt.date(2020, 1, 3)]),
        ([dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 3)], [1.4], [dt.datetime(2020, 1, 2)]),
        (TIMES[:2], [2.3], [TIMES[2]]),
        ([dt.timedelta(seconds=1), dt.timedelta(seconds=3)], [0.9], [dt.timedelta(seconds=2)]),
        ([dt.time(1), dt.time(5)], [100.0, -9.0], [dt.time(23), dt.time(0)]),
    ],
    ids=["days", "midnights", "minutes", "seconds", "times"],
)
def test_dates_are_decoded_to_the_steps_observed(values, steps, expected):
    assert decoded(pl.DataFrame({"c": values}), steps)["c"].to_list() == expected
    objects = np.array(values, dtype=object)[:, None]
    assert decoded(objects, steps)[:, 0].tolist() == expected


@pytest.mark.parametrize("make", [pandas_frame, polars_frame, pyarrow_table])
@pytest.mark.parametrize("value", [1e300, -1e300])
def test_no_value_is_too_large_to_decode(make, value):
    columns = TableColumns.learn(make())
    got = columns.decode(np.full((2, columns.n_features), value))
    assert_same(columns.decode(columns.encode(got)), got)


def test_dates_beyond_microseconds_of_seconds():
    """Nanoseconds far apart are exact as whole steps of what is observed."""
    X = np.array([["1700-01-01"], ["2200-12-31"], ["1999-01-01T00:00:01"]], "M8[ns]")
    columns = TableColumns.learn(X)
    assert_same(columns.decode(columns.encode(X)), X)


def test_dates_of_a_finer_unit_than_in_fit():
    columns = TableColumns.learn(pl.DataFrame({"c": DAYS}))
    X = pl.DataFrame({"c": pl.Series([dt.datetime(2020, 1, 2, 12)], dtype=pl.Datetime("ns"))})
    assert columns.encode(X).tolist() == [[1.5]]
    assert columns.decode([[1.6]])["c"].to_list() == [dt.date(2020, 1, 3)]
    finer = TableColumns.learn(pl.DataFrame({"c": pl.Series(DAYS, dtype=pl.Datetime("ns"))}))
    assert finer.encode(pl.DataFrame({"c": [dt.date(2020, 1, 3)]})).tolist() == [[2.0]]
    far = finer.encode(pl.DataFrame({"c": [dt.date(9999, 1, 3)]}))
    assert far[0, 0] == (dt.date(9999, 1, 3) - DAYS[0]).days


# -- gaps --------------------------------------------------------------------------


@each_table
def test_only_gaps_are_filled(make):
    X = make()
    columns = TableColumns.learn(X)
    observed = columns.observed(X)
    filled = columns.with_gaps_filled(X, np.nan_to_num(columns.encode(X), nan=1.0))
    assert type(filled) is type(X)
    empty = [column.kind == "empty" for column in columns.columns]
    np.testing.assert_array_equal(columns.observed(filled), observed | ~np.array(empty))
    again = columns.with_gaps_filled(filled, np.zeros(observed.shape))
    assert_same(again, filled)
    for name in getattr(X, "columns", []) if isinstance(X, pd.DataFrame) else []:
        known = X[name].notna()
        pd.testing.assert_series_equal(filled[name][known], X[name][known])


def test_observed_cells_are_the_very_objects():
    unseen = object_array()
    columns = TableColumns.learn(unseen)
    unseen[0, 1], unseen[1, 1], unseen[2, 2] = "unseen", None, 10**30
    filled = columns.with_gaps_filled(unseen, np.zeros(unseen.shape))
    known = columns.observed(unseen)
    assert all(a is b for a, b in zip(filled[known], unseen[known], strict=True))
    assert filled[1, 1] == ""
    assert np.isnan(columns.encode(unseen)[[0, 1, 2], [1, 1, 2]]).all()


@pytest.mark.parametrize("ordered", [False, True])
def test_categories_of_pandas_that_differ_from_those_of_fit(ordered):
    columns = TableColumns.learn(column(["b", "c"], pd.CategoricalDtype(["b", "c"], ordered)))
    other = column(["a", None], pd.CategoricalDtype(["a"], ordered))
    filled = columns.with_gaps_filled(other, np.array([[0.0], [1.0]]))["c"]
    assert filled.tolist() == ["a", "c"]
    assert filled.cat.ordered == ordered


def test_categories_of_polars_and_pyarrow_that_differ_from_those_of_fit():
    columns = TableColumns.learn(pl.DataFrame({"c": pl.Series(["b"], dtype=pl.Enum(["b"]))}))
    other = pl.DataFrame({"c": pl.Series(["a", None], dtype=pl.Enum(["a"]))})
    assert columns.with_gaps_filled(other, np.zeros((2, 1)))["c"].to_list() == ["a", "b"]
    columns = TableColumns.learn(pa.table({"c": pa.array(["b", "c"]).dictionary_encode()}))
    other = pa.table({"c": pa.array(["a", None]).dictionary_encode()})
    assert columns.with_gaps_filled(other, np.zeros((2, 1)))["c"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("learnt", "gaps", "expected"),
    [
        (column(["a", "b"]), column([np.nan, np.nan]), ["a", "b"]),
        (column([True, False]), column([None, True], object), [False, True]),
        (column([1, 2]), column([np.nan, 2.0]), [0.0, 2.0]),
        (column([1, 2]), pl.DataFrame({"c": [None, None]}), [0.0, 1.0]),
        (column(["a", "b"]), pa.table({"c": pa.nulls(2)}), ["a", "b"]),
        (np.array([["a"], ["b"]], dtype=object), np.array([[np.nan], [np.nan]]), ["a", "b"]),
    ],
)
def test_gaps_in_columns_of_another_dtype_than_in_fit(learnt, gaps, expected):
    filled = TableColumns.learn(learnt).with_gaps_filled(gaps, np.array([[0.0], [1.0]]))
    assert type(filled) is type(gaps)
    values = filled[:, 0] if isinstance(filled, np.ndarray) else filled["c"]
    read = {pa.Table: "to_pylist", pl.DataFrame: "to_list"}.get(type(filled), "tolist")
    assert getattr(values, read)() == expected


# -- categories --------------------------------------------------------------------


@pytest.mark.parametrize(
    "listed", [["whole"], [0], np.array([0]), [True, False], np.array([True, False])]
)
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_numbers_are_categories_where_listed(frame, listed):
    X = frame({"whole": [10, 2, 2**60 + 1, 10], "real": [0.5, 1.5, 2.5, 3.5]})
    columns = TableColumns.learn(X, categorical_features=listed)
    assert [column.kind for column in columns.columns] == ["category", "number"]
    assert columns.columns[0].categories == [2, 10, 2**60 + 1]
    assert columns.encode(X)[:, 0].tolist() == [1, 0, 2, 1]
    assert_same(columns.decode(columns.encode(X)), X)


def test_integers_that_gaps_made_floats_are_still_known():
    columns = TableColumns.learn(column([10, 20]), categorical_features=[0])
    assert columns.encode(column([20, np.nan])).tolist()[0] == [1.0]
    assert columns.encode(column([20, None], object)).tolist()[0] == [1.0]
    assert columns.decode([[1.0], [0.0]])["c"].tolist() == [20, 10]


@pytest.mark.parametrize("listed", [None, "auto", [], [False]])
def test_text_is_a_category_in_any_case(listed):
    columns = TableColumns.learn(column(["a", "b"]), categorical_features=listed)
    assert columns.columns[0].kind == "category"


@pytest.mark.parametrize("listed", ["moment", "day", "truth", "price", "time", "duration"])
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_of_any_dtype_can_be_listed(frame, listed):
    X = frame({listed: PLAIN[listed]})
    columns = TableColumns.learn(X, categorical_features=[listed])
    assert columns.columns[0].is_category
    assert_same(columns.decode(columns.encode(X)), X)


@pytest.mark.parametrize("params", [{"min_frequency": 3}, {"max_categories": 3}])
def test_infrequent_categories_share_the_last_code(params):
    values = ["a"] * 5 + ["b"] * 2 + ["c"] * 3 + ["d"]
    columns = TableColumns.learn(column(values), **params)
    (learnt,) = columns.columns
    assert learnt.infrequent == ["b", "d"]
    assert learnt.n_categories == 3
    encoded = columns.encode(column(values))
    reference = OrdinalEncoder(**params).fit_transform(column(values))
    np.testing.assert_array_equal(encoded, reference)
    assert columns.decode([[0.0], [1.0], [2.0]])["c"].tolist() == ["a", "c", "b"]


def test_min_frequency_as_a_share():
    values = ["a"] * 18 + ["b"] + ["c"]
    columns = TableColumns.learn(column(values), min_frequency=0.06)
    assert columns.columns[0].infrequent == ["b", "c"]
    assert columns.columns[0].kind == "category"


def test_if_all_categories_are_infrequent_the_column_is_constant():
    columns = TableColumns.learn(column(["b", "b", "a"]), max_categories=1)
    assert columns.columns[0].kind == "constant"
    assert columns.decode([[0.0]])["c"].tolist() == ["b"]


def test_booleans_are_never_grouped():
    columns = TableColumns.learn(column([True] * 20 + [False]), min_frequency=5)
    assert columns.columns[0].n_categories == 2


UNKNOWN = column(["a", "zz", None])


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, np.nan),
        ({"handle_unknown": "infrequent_if_exist"}, np.nan),
        ({"handle_unknown": "infrequent_if_exist", "max_categories": 2}, 1.0),
        ({"handle_unknown": "ignore", "max_categories": 2}, np.nan),
    ],
)
def test_unknown_categories(params, code):
    columns = TableColumns.learn(column(["a", "a", "b", "c"]), **params)
    np.testing.assert_array_equal(columns.encode(UNKNOWN), [[0.0], [code], [np.nan]])


def test_unknown_categories_may_raise_an_error():
    columns = TableColumns.learn(column(["a", "b"]), handle_unknown="error")
    columns.encode(column(["b", None]))
    with pytest.raises(ValueError, match=r"column 'c'.*'zz'\. Set handle_unknown='ignore'"):
        columns.encode(UNKNOWN)
    with pytest.raises(ValueError, match=r"'h0', 'h1', 'h2', 'h3', 'h4' and 4 more"):
        columns.encode(column([f"h{i}" for i in range(9)]))


def test_declared_categories_get_a_code_only_if_observed():
    dtype = pd.CategoricalDtype(["z", "a", "b"])
    columns = TableColumns.learn(column(["b", "a"], dtype))
    assert columns.columns[0].categories == ["a", "b"]
    assert columns.decode([[0.0]])["c"].dtype == dtype
    assert np.isnan(columns.encode(column(["z"], dtype))).all()


def test_ten_thousand_categories():
    values = [f"v{i}" for i in range(10_000)] * 2
    columns = TableColumns.learn(column(values), max_categories=100)
    assert columns.columns[0].n_categories == 100
    assert set(columns.encode(column(values)).ravel()) == set(range(100))


# -- broken and odd tables ---------------------------------------------------------

ERRORS = {
    "a sparse matrix": (lambda: sparse.eye_array(3).tocsr(), TypeError, "Sparse data was passed"),
    "one dimension": (lambda: np.ones(3), ValueError, "Expected 2D array, got 1D array instead"),
    "a list of numbers": (lambda: [1, 2], ValueError, "Reshape your data"),
    "a list of text": (lambda: ["a", "b"], ValueError, "Expected 2D array, got 1D"),
    "a pandas series": (lambda: pd.Series([1]), ValueError, "2-dimensional container"),
    "a polars series": (lambda: pl.Series([1]), ValueError, "Expected 2D array"),
    "a scalar": (lambda: 3.0, ValueError, "Expected 2D array, got scalar"),
    "text": (lambda: "abc", ValueError, "Expected 2D array, got scalar"),
    "None": (lambda: None, ValueError, "Expected 2D array"),
    "three dimensions": (lambda: np.ones((2, 2, 2)), ValueError, "dim 3"),
    "complex numbers": (lambda: np.ones((2, 2)) * 1j, ValueError, "Complex data not supported"),
    "complex in pandas": (lambda: column([1j, 2]), ValueError, "Complex data.*column 'c'"),
    "complex objects": (lambda: [["a", 1j]], ValueError, "Complex data.*column 1"),
    "no rows": (lambda: np.ones((0, 3)), ValueError, r"0 sample\(s\) \(shape=\(0, 3\)\) while"),
    "no rows in pandas": (lambda: column([]), ValueError, r"0 sample\(s\) \(shape=\(0, 1\)\)"),
    "no rows in polars": (lambda: pl.DataFrame({"a": []}), ValueError, r"0 sample\(s\)"),
    "no rows in pyarrow": (lambda: pa.table({"a": []}), ValueError, r"0 sample\(s\)"),
    "no columns": (
        lambda: np.ones((3, 0)),
        ValueError,
        r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required",
    ),
    "no columns in pandas": (lambda: column([1])[[]], ValueError, r"0 feature\(s\)"),
    "infinity": (lambda: np.array([[1, np.inf]]), ValueError, "contains infinity in column 1"),
    "infinity in pandas": (lambda: column([1, -np.inf]), ValueError, "infinity in column 'c'"),
    "infinity in Float64": (lambda: column([np.inf], "Float64"), ValueError, "infinity"),
    "infinity in polars": (lambda: pl.DataFrame({"c": [np.inf]}), ValueError, "infinity.*'c'"),
    "infinity in pyarrow": (lambda: pa.table({"c": [np.inf]}), ValueError, "infinity.*'c'"),
    "an infinite object": (lambda: [[None, np.inf]], ValueError, "infinity in column 1"),
    "an infinite decimal": (lambda: [[Decimal("Infinity")]], ValueError, "infinity in column 0"),
    "a huge integer": (lambda: [[10**400]], ValueError, "column 0 holds numbers too large"),
    "a huge mix": (lambda: [[10**400], [Decimal(1)]], ValueError, "column 0 .* too large"),
    "a lazy frame": (lambda: pl.LazyFrame({"a": [1]}), TypeError, r"X\.collect\(\)"),
    "a dict": (lambda: {"a": [1]}, TypeError, r"pandas\.DataFrame\(X\)"),
    "a masked array": (lambda: np.ma.ones((2, 2)), TypeError, r"X\.filled\(np\.nan\)"),
    "rows of two lengths": (lambda: [[1, 2], [3]], ValueError, "different lengths"),
    "repeated names": (
        lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
        ValueError,
        "several columns named 'a': rename",
    ),
    "repeated names in pyarrow": (
        lambda: pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]),
        ValueError,
        "several columns named 'a'",
    ),
    "lists": (lambda: column([[1], [2]]), TypeError, "column 'c' holds values of type 'list'"),
    "dicts": (lambda: column([{"a": 1}, None]), TypeError, "'dict'.*or drop"),
    "sets": (lambda: column([{1}, "a"]), TypeError, "type 'set'"),
    "tuples": (lambda: column([(1, 2), (3, 4)]), TypeError, "type 'tuple'"),
    "arrays": (lambda: column([np.ones(2), np.ones(2)]), TypeError, "type 'ndarray'"),
    "bytes": (lambda: column([b"a", b"b"], object), TypeError, "type 'bytes'"),
    "an array of bytes": (lambda: np.array([[b"a"]]), TypeError, "type 'bytes_'"),
    "functions": (lambda: column([len, print]), TypeError, "type 'builtin_function_or_method'"),
    "objects of no type known": (lambda: column([object()]), TypeError, "type 'object'"),
    "lists in polars": (lambda: pl.DataFrame({"c": [[1]]}), TypeError, r"'c' .*List\(Int64\)"),
    "structs in polars": (lambda: pl.DataFrame({"c": [{"a": 1}]}), TypeError, "Struct"),
    "bytes in polars": (lambda: pl.DataFrame({"c": [b"a"]}), TypeError, "Binary"),
    "lists in pyarrow": (lambda: pa.table({"c": [[1]]}), TypeError, "list<"),
    "structs in pyarrow": (lambda: pa.table({"c": [{"a": 1}]}), TypeError, "struct<"),
    "bytes in pyarrow": (lambda: pa.table({"c": [b"a"]}), TypeError, "binary"),
    "a signalling NaN": (lambda: [[Decimal("sNaN")]], TypeError, "type 'Decimal'"),
}


@pytest.mark.parametrize(("make", "error", "match"), ERRORS.values(), ids=ERRORS)
def test_broken_tables(make, error, match):
    with pytest.raises(error, match=match):
        TableColumns.learn(make())


def test_a_dask_frame_has_to_be_computed():
    dask = pytest.importorskip("dask.dataframe")
    with pytest.raises(TypeError, match=r"X\.compute\(\)"):
        TableColumns.learn(dask.from_pandas(column([1, 2]), npartitions=1))


ODD = {  # kinds of the columns
    "one row": (lambda: np.ones((1, 2)), ["constant", "constant"]),
    "only NaN": (lambda: np.full((3, 1), np.nan), ["empty"]),
    "only None": (lambda: [[None], [None]], ["empty"]),
    "only NaT": (lambda: column(["NaT", "NaT"], "M8[ns]"), ["empty"]),
    "only NA": (lambda: column([pd.NA, pd.NA], "Int64"), ["empty"]),
    "no category": (lambda: column([None, None], "category"), ["empty"]),
    "gaps of all sorts": (lambda: column(["a", None, np.nan, pd.NA, pd.NaT]), ["constant"]),
    "NaN and null in polars": (lambda: pl.DataFrame({"c": [1.0, np.nan, None]}), ["constant"]),
    "empty text": (lambda: column(["", "a", " "]), ["category"]),
    "a list of rows": (lambda: [["a", 1, 0.5, True], ["b", 2, 1.5, False]], None),
    "booleans and integers in rows": (lambda: [[True, 1], [False, 2]], ["boolean", "number"]),
    "numbers as text": (lambda: column(["1", "2", "10"]), ["category"]),
    "numbers and text": (lambda: column([1, "1", 1.0, True]), ["category"]),
    "numbers and booleans": (lambda: column([1, True, 2.5], object), ["category"]),
    "numpy scalars": (lambda: column([np.int8(1), np.float32(2.5), 3], object), ["number"]),
    "numpy booleans": (lambda: column([np.True_, False, None], object), ["boolean"]),
    "huge integers": (lambda: [[2**70], [2**71]], ["number"]),
    "decimals and integers": (lambda: [[Decimal("1.5")], [2]], ["number"]),
    "days and moments": (lambda: column([DAYS[0], TIMES[1]], object), ["category"]),
    "moments with and without zone": (
        lambda: column([TIMES[0], TIMES[1].replace(tzinfo=BERLIN)], object),
        ["category"],
    ),
    "numpy dates": (lambda: [[np.datetime64("2020")], [np.datetime64("2021-02")]], ["date"]),
    "several column levels": (
        lambda: pd.DataFrame(
            [[1, "a"], [2, "b"]], columns=pd.MultiIndex.from_product([["x"], ["a", "b"]])
        ),
        ["number", "category"],
    ),
    "names that are no text": (
        lambda: pd.DataFrame([[1, 2], [3, 4]], columns=[0, "a"]),
        ["number", "number"],
    ),
    "an index with repeated labels": (lambda: column([1, 2]).set_axis([0, 0]), ["number"]),
    "an index of several levels": (
        lambda: column([1, 2]).set_index(pd.MultiIndex.from_tuples([(0, "a"), (0, "b")])),
        ["number"],
    ),
    "chunks in pyarrow": (lambda: pa.concat_tables([pa.table({"c": ["b"]})] * 2), ["constant"]),
    "dictionaries of several chunks": (
        lambda: pa.table(
            {"c": pa.chunked_array([pa.array([v]).dictionary_encode() for v in "ba"])}
        ),
        ["category"],
    ),
    "a record batch": (lambda: pa.RecordBatch.from_pydict({"c": [1, 2]}), ["number"]),
    "surrogates": (lambda: column(["\ud800", "a"], object), ["category"]),
    "years of five digits": (lambda: np.array([["20000"], ["30000"]], "M8[Y]"), ["date"]),
    "polars objects": (
        lambda: pl.DataFrame({"c": pl.Series([UUID(int=1), UUID(int=2)], dtype=pl.Object)}),
        ["category"],
    ),
    "numpy strings": (
        lambda: np.array([["a"], ["b"]], dtype=np.dtypes.StringDType()),
        ["category"],
    ),
}


@pytest.mark.parametrize(("make", "kinds"), ODD.values(), ids=ODD)
def test_odd_tables(make, kinds):
    X = make()
    columns = TableColumns.learn(X)
    kinds = kinds or ["category", "number", "number", "boolean"]
    assert [column.kind for column in columns.columns] == kinds
    encoded = columns.encode(X)
    got = columns.decode(encoded, template=X)
    np.testing.assert_array_equal(columns.encode(got), encoded)
    if isinstance(X, pd.DataFrame):
        assert got.columns.equals(X.columns)
        assert got.index.equals(X.index)
        assert (got.dtypes == X.dtypes).all()
    np.testing.assert_array_equal(columns.encode(columns.with_gaps_filled(X, encoded)), encoded)
    assert is_plain(columns.__getstate__())
    np.testing.assert_array_equal(copy.deepcopy(columns).encode(got), encoded)
    again = copy.deepcopy(columns).decode(encoded, template=X)
    np.testing.assert_array_equal(columns.encode(again), encoded)
    if isinstance(X, pd.DataFrame):
        pd.testing.assert_frame_equal(again, got)


@pytest.mark.parametrize(
    ("listed", "match"),
    [
        (["a", "other"], r"categorical_features has the name 'other'.*'a', 'b'"),
        ([0, 2], r"categorical_features has the position 2; .* below 2"),
        ([-1], r"position -1"),
        ([True], r"mask of 1 booleans, but X has 2 features"),
        (["a", 1], r"one type"),
        ([0.5], r"one type"),
        ("a", r"categorical_features='a' must be 'auto'"),
        ([["a"]], r"must be 1-D"),
        (3, r"must be 1-D"),
    ],
    ids=str,
)
def test_wrong_categorical_features(listed, match):
    with pytest.raises(ValueError, match=match):
        TableColumns.learn(pd.DataFrame([[1, 2]], columns=list("ab")), categorical_features=listed)


def test_names_of_columns_need_a_frame():
    with pytest.raises(ValueError, match="X has none: give positions"):
        TableColumns.learn(np.ones((2, 2)), categorical_features=["a"])


@pytest.mark.parametrize(
    ("learnt", "other", "match"),
    [
        (column([1, 2]), column(["1", "2"]), "column 'c' held numbers in fit and now holds text"),
        (column([1, 2]), column(TIMES), "now holds dates without a time zone"),
        (column(TIMES), column([1.5, 2]), "held dates without a time zone .* holds numbers"),
        (
            column(TIMES),
            column([time.replace(tzinfo=BERLIN) for time in TIMES]),
            "now holds dates with a time zone",
        ),
        (column(TIMES), column(PLAIN["duration"]), "now holds durations"),
        (np.ones((2, 2)), np.ones((2, 3)), "X has 3 features, but 2 were learnt"),
        (column([1, 2]), column([1, np.inf]), "infinity in column 'c'"),
        (np.arange(4.0).reshape(2, 2), [[1.0, np.inf]], "infinity in column 1"),
    ],
)
def test_tables_that_do_not_fit_those_learnt(learnt, other, match):
    columns = TableColumns.learn(learnt)
    with pytest.raises(ValueError, match=match):
        columns.encode(other)


def test_wrong_shapes_of_values():
    with pytest.raises(ValueError, match=r"shape \(2, 3\); it must be \(n_samples, 1\)"):
        TableColumns.learn(column([1, 2])).decode(np.ones((2, 3)))


def test_what_columns_of_fit_take_later():
    """Booleans for numbers; anything for a column that was constant or empty."""
    assert TableColumns.learn(column([1, 2])).encode(column([True])).tolist() == [[1.0]]
    assert TableColumns.learn(column([3, 3])).encode(column([8, None])).tolist()[0] == [0.0]
    empty = TableColumns.learn(column([np.nan]))
    assert np.isnan(empty.encode(column(["text", None]))).all()
    assert TableColumns.learn(column([True, False])).encode(column([1, 0])).tolist() == [[1], [0]]
    assert np.isnan(TableColumns.learn(column(["a", "b"])).encode(column([None]))).all()


def test_an_index_of_ones_own():
    X = column([1, 2])
    columns = TableColumns.learn(X)
    got = columns.decode(columns.encode(X), index=pd.Index(["p", "q"]))
    assert got.index.tolist() == ["p", "q"]
    assert columns.decode(columns.encode(X), template=[[1], [2]]).index.equals(X.index)
