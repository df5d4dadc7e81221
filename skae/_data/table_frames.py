"""Tables of numpy, pandas, polars and pyarrow: their columns, read and written."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from skae._data.input_errors import refuse_lazy
from skae._data.table_cells import (
    CATEGORICAL,
    DATES,
    DURATIONS,
    REMEDY,
    TIMES,
    ZONED,
    Cells,
    Form,
    boolean_cells,
    category_cells,
    date_cells,
    fit_to_decimals,
    fit_to_dtype,
    number_cells,
    read_array,
    read_objects,
    write_array,
    write_objects,
)

MAX_PRECISION = 38  # of decimals in polars


@dataclass
class Table:
    """Columns of a table, as its library has them; `names` are None for arrays."""

    library: str  # "array", "pandas", "polars", "pyarrow"
    data: Any
    columns: list[Any]
    names: list[Any] | None
    n_rows: int

    @property
    def header(self) -> Any:
        """What names the columns of such a table."""
        return self.data.columns if self.library == "pandas" else self.names

    def label(self, i: int) -> str:
        """How messages name a column."""
        return f"column {i if self.names is None else repr(self.names[i])}"

    def read(self, i: int, as_category: bool = False) -> Cells:
        """Cells of a column."""
        readers = {"pandas": _read_pandas, "polars": _read_polars, "pyarrow": _read_pyarrow}
        reader = readers.get(self.library, read_array)
        return reader(self.columns[i], self.label(i), as_category)


def open_table(X: Any) -> Table:
    """Columns of a frame, an array or an array-like; an error if it is no table."""
    if isinstance(X, Table):
        return X
    refuse_lazy(X)
    if hasattr(X, "compute"):
        raise TypeError(f"X is a {type(X).__name__}, which holds no rows yet; pass X.compute().")
    table = _open_frame(X)
    if table is None:
        return _open_array(X)
    if not table.n_rows or not table.columns:
        check_array(np.empty((table.n_rows, len(table.columns))))
    repeated = [name for name, count in Counter(table.names).items() if count > 1]
    if repeated:
        raise ValueError(f"X has several columns named {repeated[0]!r}: rename or drop them.")
    return table


def write_column(library: str, cells: Cells, form: Form) -> Any:
    """A column of a library, of the dtype of `form`."""
    writers = {"pandas": _write_pandas, "polars": _write_polars, "pyarrow": _write_pyarrow}
    return writers.get(library, write_array)(cells, form)


def write_table(library: str, columns: list[Any], header: Any, index: Any = None) -> Any:
    """A table of a library; `index` is that of pandas' rows."""
    if library == "pandas":
        pandas = sys.modules["pandas"]
        frame = pandas.concat(columns, axis=1) if columns else pandas.DataFrame()
        frame.columns = header
        return frame if index is None else frame.set_axis(index, axis=0)
    if library == "polars":
        polars = sys.modules["polars"]
        return polars.DataFrame([c.alias(n) for c, n in zip(columns, header, strict=True)])
    if library == "pyarrow":
        return sys.modules["pyarrow"].table(columns, names=header)
    kinds = {column.dtype.kind for column in columns}
    dtype = np.result_type(*columns) if len(kinds) == 1 or kinds <= set("iuf") else object
    return np.stack([column.astype(dtype, copy=False) for column in columns], axis=1)


def append_columns(X: Any, names: list[Any], values: np.ndarray) -> Any:
    """A table with numbers (n_rows, n_names) appended as columns; `names` are those of all columns.

    Names are left out for an array, whose dtype is kept if it is one of floats or objects.
    """
    table = open_table(X)
    if table.library == "array":
        dtype = table.data.dtype if table.data.dtype.kind in "fO" else values.dtype
        return np.concatenate([table.data, values.astype(dtype)], axis=1)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(
            f"The result would have several columns named {repeated[0]!r}: rename that of X."
        )
    library = sys.modules[table.library]
    make = library.array if table.library == "pyarrow" else library.Series
    columns = [make(np.ascontiguousarray(column)) for column in values.T]
    index = table.data.index if table.library == "pandas" else None
    if index is not None:
        columns = [column.set_axis(index) for column in columns]
    return write_table(table.library, [*table.columns, *columns], names, index)


def to_library(X: Any, library: str, names: list[Any]) -> Any:
    """A table in a frame of pandas or polars; an array of numbers stays an array.

    `names` are those of the columns of an array.
    """
    table = open_table(X)
    if table.library == library or (table.library == "array" and table.data.dtype.kind != "O"):
        return table.data
    frames = import_module(library)
    if table.library == "array":
        columns = [column.tolist() for column in table.columns]
        if library == "pandas":
            return frames.DataFrame(dict(zip(names, columns, strict=True)))
        pairs = zip(names, columns, strict=True)
        return frames.DataFrame([frames.Series(*pair, strict=False) for pair in pairs])
    if library == "pandas":
        return table.data.to_pandas()
    return (frames.from_pandas if table.library == "pandas" else frames.from_arrow)(table.data)


def fill_column(library: str, column: Any, missing: np.ndarray, filled: Any) -> Any:
    """A column with its missing cells taken from another; the others are its own."""
    if library == "pandas":
        filled = filled.set_axis(column.index)
        if missing.all():
            return filled
        if isinstance(column.dtype, sys.modules["pandas"].CategoricalDtype):
            used = filled[missing].cat.remove_unused_categories().cat.categories
            column = column.cat.add_categories(used.difference(column.cat.categories, sort=False))
            filled = filled.cat.set_categories(column.cat.categories, ordered=column.cat.ordered)
        if column.dtype.kind == "O" and isinstance(column.dtype, np.dtype):
            values = column.to_numpy(copy=True)
            values[missing] = filled.to_numpy(dtype=object)[missing]
            return type(column)(values, index=column.index, dtype=object)
        return column.where(~missing, filled)
    if library == "polars":
        polars = sys.modules["polars"]
        column = column if column.dtype == filled.dtype else column.cast(filled.dtype)
        return column.zip_with(polars.Series(~missing), filled)
    if library == "array":
        return filled if missing.all() else np.where(missing, filled, column)
    if missing.all():
        return filled
    compute, pyarrow = import_module("pyarrow.compute"), sys.modules["pyarrow"]
    if str(dtype := filled.type) == "string_view":  # which `if_else` does not take
        column, filled = column.cast(pyarrow.string()), filled.cast(pyarrow.string())
    return compute.if_else(pyarrow.array(missing), filled, column).cast(dtype)


# -- opening -----------------------------------------------------------------------


def _open_frame(X: Any) -> Table | None:
    """Columns of a frame; None if X is none."""
    pandas, polars, pyarrow = map(sys.modules.get, ("pandas", "polars", "pyarrow"))
    if pandas is not None and isinstance(X, pandas.DataFrame):
        columns = [X.iloc[:, i] for i in range(X.shape[1])]
        return Table("pandas", X, columns, list(X.columns), len(X))
    if polars is not None and isinstance(X, polars.DataFrame):
        return Table("polars", X, X.get_columns(), X.columns, X.height)
    if pyarrow is not None and isinstance(X, pyarrow.RecordBatch):
        X = pyarrow.Table.from_batches([X])
    if pyarrow is not None and isinstance(X, pyarrow.Table):
        return Table("pyarrow", X, X.columns, X.column_names, X.num_rows)
    return None


def _open_array(X: Any) -> Table:
    """Columns of an array or an array-like, which scikit-learn checks."""
    if isinstance(X, dict) and not issparse(X):
        raise TypeError("X is a dict; pass a frame, for example pandas.DataFrame(X).")
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError("X is a masked array; pass X.filled(np.nan) or such, with NaN in gaps.")
    if isinstance(X, list | tuple):
        X = _array_of_rows(X)
    array = check_array(X, dtype=None, ensure_all_finite=False)
    return Table("array", array, list(array.T), None, len(array))


def _array_of_rows(rows: Any) -> np.ndarray:
    """Array of a list of rows: of numbers if all cells are numbers, else of objects."""
    try:
        array = np.asarray(rows)
        if array.ndim != 2 or array.dtype.kind not in "iufb":
            return np.asarray(rows, dtype=object)
        is_mixed = array.dtype != bool and {bool, np.bool_} & set(map(type, chain(*rows)))
        return np.asarray(rows, dtype=object) if is_mixed else array
    except ValueError as error:
        raise ValueError(f"X is a list of rows of different lengths: {error}") from error


# -- pandas ------------------------------------------------------------------------


def _read_pandas(column: Any, label: str, as_category: bool) -> Cells:
    pandas, dtype = sys.modules["pandas"], column.dtype
    form = Form(dtype)
    if isinstance(dtype, np.dtype):
        return read_array(column.to_numpy(), label, as_category)
    if isinstance(dtype, pandas.CategoricalDtype):
        codes, categories = column.cat.codes.to_numpy(np.int64), dtype.categories.tolist()
        return category_cells(codes, categories, form, label, ordered=dtype.ordered)
    if isinstance(dtype, pandas.ArrowDtype):
        cells = _read_pyarrow(column.array.__arrow_array__(), label, as_category)
        cells.form = replace(cells.form, declared=(cells.form.dtype, cells.form.declared))
        cells.form = replace(cells.form, dtype=dtype)
        return cells
    if isinstance(dtype, pandas.SparseDtype):
        cells = read_array(np.asarray(column), label, as_category)
        cells.form = replace(cells.form, dtype=dtype)
        return cells
    is_boolean = pandas.api.types.is_bool_dtype(dtype)
    if isinstance(dtype, pandas.StringDtype) or (as_category and not is_boolean):
        codes, uniques = pandas.factorize(column)
        return category_cells(codes, list(uniques), form, label)
    missing = column.isna().to_numpy()
    if is_boolean:
        return boolean_cells(column.to_numpy(dtype=np.int64, na_value=-1), form)
    if pandas.api.types.is_numeric_dtype(dtype):
        return number_cells(column.to_numpy(dtype=np.float64, na_value=np.nan), form, label)
    if isinstance(dtype, pandas.DatetimeTZDtype):
        times = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        form = Form(dtype, dtype.unit, ZONED)
        return date_cells(times.astype(np.int64), missing, form)
    if isinstance(dtype, pandas.PeriodDtype):
        form = Form(dtype, "period", str(dtype))
        return date_cells(np.asarray(pandas.PeriodIndex(column).asi8), missing, form)
    cells = read_objects(column.astype(object).tolist(), form, label, as_category)
    cells.form = replace(cells.form, dtype=dtype)
    return cells


def _write_pandas(cells: Cells, form: Form) -> Any:
    pandas, dtype = sys.modules["pandas"], form.dtype
    if isinstance(dtype, np.dtype):
        if dtype.kind in "iub" and cells.missing.any():
            nullable = str(dtype).replace("bool", "boolean").replace("uint", "UInt")
            nullable = nullable.replace("int", "Int")
            return _write_pandas(cells, Form(pandas.api.types.pandas_dtype(nullable)))
        values = write_array(cells, form)
        return pandas.Series(values, dtype=values.dtype)
    if isinstance(dtype, pandas.ArrowDtype):
        arrow, declared = form.declared
        array = _write_pyarrow(cells, replace(form, dtype=arrow, declared=declared))
        return pandas.Series(pandas.arrays.ArrowExtensionArray(array))
    if isinstance(dtype, pandas.SparseDtype):
        dense = _write_pandas(cells, Form(dtype.subtype))
        return dense if dense.dtype != dtype.subtype else dense.astype(dtype)
    if cells.sort in CATEGORICAL:
        if isinstance(dtype, pandas.CategoricalDtype):
            new = [value for value in cells.uniques if value not in dtype.categories]
            if new:
                dtype = pandas.CategoricalDtype([*dtype.categories, *new], dtype.ordered)
        uniques = pandas.array(cells.uniques, dtype=dtype)
        return pandas.Series(uniques.take(cells.values, allow_fill=True))
    if cells.sort == "empty":
        return pandas.Series([None] * len(cells.values), dtype=dtype)
    if isinstance(dtype, pandas.DatetimeTZDtype):
        times = write_array(cells, Form(np.dtype(f"M8[{dtype.unit}]")))
        return pandas.Series(times).dt.tz_localize("UTC").dt.tz_convert(dtype.tz)
    if isinstance(dtype, pandas.PeriodDtype):
        periods = pandas.PeriodIndex.from_ordinals(cells.values, freq=dtype.freq)
        return pandas.Series(periods).where(~cells.missing)
    numbers = fit_to_dtype(np.where(cells.missing, 0, cells.values), dtype.numpy_dtype)
    array = pandas.array(numbers.astype(dtype.numpy_dtype), dtype=dtype)
    array[cells.missing] = pandas.NA
    return pandas.Series(array)


# -- polars ------------------------------------------------------------------------


def _read_polars(column: Any, label: str, as_category: bool) -> Cells:
    polars, dtype = sys.modules["polars"], column.dtype
    form = Form(dtype)
    if dtype == polars.Boolean:
        codes = column.cast(polars.Int64).fill_null(-1).to_numpy()
        return boolean_cells(codes, form)
    if dtype in (polars.String, polars.Categorical, polars.Enum):
        is_ordered = dtype == polars.Enum
        if not is_ordered:
            column = column.cast(polars.String)
            column = column.cast(polars.Enum(column.drop_nulls().unique(maintain_order=True)))
        codes = column.to_physical().cast(polars.Int64).fill_null(-1).to_numpy()
        uniques = column.dtype.categories.to_list()
        return category_cells(codes, uniques, form, label, ordered=is_ordered)
    if as_category or dtype in (polars.Object, polars.Null):
        is_typed = dtype not in (polars.Object, polars.Null)
        return read_objects(column.to_list(), form, label, as_category or is_typed)
    if dtype.is_numeric():
        numbers = column.cast(polars.Float64).fill_null(np.nan).to_numpy()
        return number_cells(numbers, form, label)
    if dtype.is_temporal():
        ticks = column.to_physical().cast(polars.Int64).fill_null(0).to_numpy()
        form = Form(dtype, *_polars_unit_and_span(dtype))
        return date_cells(ticks, column.is_null().to_numpy(), form)
    raise TypeError(f"{label} holds values of type '{dtype}': {REMEDY}.")


def _polars_unit_and_span(dtype: Any) -> tuple[str, str]:
    polars = sys.modules["polars"]
    if dtype == polars.Date:
        return "D", DATES
    if dtype == polars.Time:
        return "ns", TIMES
    if dtype == polars.Duration:
        return dtype.time_unit, DURATIONS
    return dtype.time_unit, DATES if dtype.time_zone is None else ZONED


def _write_polars(cells: Cells, form: Form) -> Any:
    polars, dtype = sys.modules["polars"], form.dtype
    if dtype == polars.Object:
        return polars.Series(write_objects(cells, form).tolist(), dtype=dtype)
    if cells.sort == "empty":
        return polars.Series([None] * len(cells.values), dtype=dtype)
    gaps = polars.Series(cells.missing)
    if dtype == polars.Null:
        return polars.Series(write_objects(cells, form).tolist())
    if cells.sort in CATEGORICAL:
        if dtype == polars.Enum and (new := set(cells.uniques) - set(dtype.categories)):
            dtype = polars.Enum([*dtype.categories, *sorted(new)])
        codes = polars.Series(np.where(cells.missing, 0, cells.values))
        written = polars.Series(cells.uniques, dtype=dtype).gather(codes)
    elif cells.sort == "date":
        written = polars.Series(np.where(cells.missing, 0, cells.values)).cast(dtype)
    else:
        numbers = np.where(cells.missing, 0, cells.values)
        if hasattr(np, name := str(dtype).lower()):
            numbers = fit_to_dtype(numbers, np.dtype(name))
        elif dtype == polars.Decimal:
            numbers = fit_to_decimals(numbers, dtype.precision or MAX_PRECISION, dtype.scale)
        else:  # integers of 128 bits
            numbers = np.clip(np.rint(numbers), -1.7e38 if dtype.is_signed_integer() else 0, 1.7e38)
        written = polars.Series(numbers).cast(dtype)
    if not cells.missing.any():
        return written
    return written.zip_with(~gaps, polars.Series([None], dtype=dtype).new_from_index(0, len(gaps)))


# -- pyarrow -----------------------------------------------------------------------


def _read_pyarrow(column: Any, label: str, as_category: bool) -> Cells:
    pa = sys.modules["pyarrow"]
    types, dtype = pa.types, column.type
    form = Form(dtype)
    if isinstance(column, pa.ChunkedArray):
        if types.is_dictionary(dtype):
            column = column.unify_dictionaries()
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], dtype)
    missing = np.asarray(column.is_null())
    if types.is_boolean(dtype):
        return boolean_cells(_integers(column.cast(pa.int8()), -1), form)
    is_text = types.is_string(dtype) or types.is_large_string(dtype)
    if str(dtype) == "string_view":
        column, is_text = column.cast(pa.string()), True
    if types.is_dictionary(dtype):
        form = replace(form, declared=column.dictionary)
        codes, uniques = _integers(column.indices, -1), column.dictionary.to_pylist()
        return category_cells(codes, uniques, form, label, ordered=dtype.ordered)
    if is_text or as_category or types.is_null(dtype):
        encoded = column.dictionary_encode()
        if types.is_null(dtype):
            return category_cells(np.full(len(column), -1), [], form, label)
        codes, uniques = _integers(encoded.indices, -1), encoded.dictionary.to_pylist()
        return category_cells(codes, uniques, form, label)
    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return number_cells(numbers, form, label)
    if types.is_temporal(dtype) and not types.is_interval(dtype):
        form = Form(dtype, *_pyarrow_unit_and_span(dtype))
        narrow = types.is_date32(dtype) or types.is_time32(dtype)
        ticks = column.cast(pa.int32()) if narrow else column.cast(pa.int64())
        return date_cells(_integers(ticks, 0), missing, form)
    raise TypeError(f"{label} holds values of type '{dtype}': {REMEDY}.")


def _integers(array: Any, gap: int) -> np.ndarray:
    """Integers of a pyarrow array in int64."""
    pa = sys.modules["pyarrow"]
    return array.cast(pa.int64()).fill_null(gap).to_numpy(zero_copy_only=False)


def _pyarrow_unit_and_span(dtype: Any) -> tuple[str, str]:
    types = sys.modules["pyarrow"].types
    if types.is_date(dtype):
        return "D" if types.is_date32(dtype) else "ms", DATES
    if types.is_time(dtype):
        return dtype.unit, TIMES
    if types.is_duration(dtype):
        return dtype.unit, DURATIONS
    return dtype.unit, DATES if dtype.tz is None else ZONED


def _write_pyarrow(cells: Cells, form: Form) -> Any:
    pa, dtype = sys.modules["pyarrow"], form.dtype
    types = pa.types
    if cells.sort == "empty":
        return pa.nulls(len(cells.values), dtype)
    if types.is_null(dtype):
        return pa.array(write_objects(cells, form).tolist())
    if cells.sort in CATEGORICAL and form.declared is not None:
        declared = form.declared.to_pylist()
        places = {value: i for i, value in enumerate(declared)}
        declared += [value for value in cells.uniques if value not in places]
        places = {value: i for i, value in enumerate(declared)}
        codes = np.array([*(places[value] for value in cells.uniques), 0])[cells.values]
        indices = pa.array(codes, mask=cells.missing).cast(dtype.index_type)
        dictionary = pa.array(declared, dtype.value_type)
        return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=dtype.ordered)
    if cells.sort in CATEGORICAL:
        codes = pa.array(cells.values, mask=cells.missing)
        if str(dtype) == "string_view":  # which has no `take`
            return pa.array(cells.uniques, pa.string()).take(codes).cast(dtype)
        return pa.array(cells.uniques, dtype).take(codes)
    if cells.sort == "date":
        narrow = types.is_date32(dtype) or types.is_time32(dtype)
        ticks = pa.array(cells.values, mask=cells.missing)
        return (ticks.cast(pa.int32()) if narrow else ticks).cast(dtype)
    numbers = cells.values
    if types.is_decimal(dtype):
        numbers = fit_to_decimals(numbers, dtype.precision, dtype.scale)
    else:
        numbers = fit_to_dtype(numbers, np.dtype(dtype.to_pandas_dtype()))
    return pa.array(numbers, mask=cells.missing).cast(dtype, safe=False)
