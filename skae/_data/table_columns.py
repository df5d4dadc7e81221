"""Tables as people have them, encoded as numbers and decoded to tables of the same kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.preprocessing import OrdinalEncoder

from skae._data.table_cells import (
    CATEGORICAL,
    DATES,
    DURATIONS,
    LARGEST_TICK,
    PER_DAY,
    TIMES,
    ZONED,
    Cells,
    Form,
    has_several_number_types,
    read_objects,
)
from skae._data.table_frames import Table, fill_column, open_table, write_column, write_table
from skae._data.table_state import describe, put_off, restore

MAX_VALUES = 5  # of a column in a message
UNMODELLED = "constant", "empty"  # kinds of columns that have nothing to model
LAZY = ("dtype", "declared")  # parts of a form that only tables of its library need
STEPS_PER_DAY = (1, 24, 1440, 86_400, 86_400 * 10**3, 86_400 * 10**6, 86_400 * 10**9)


@dataclass
class Column:
    """What was learnt of a column.

    `kind` is "number", "category", "ordered", "boolean", "date" (dates, durations and times),
    "constant" (one code or value) or "empty" (gaps only). `categories` are the observed raw
    values in order; `codes` are theirs. Those of `infrequent` share the last code. Dates are
    encoded as steps of `step` ticks since the tick `offset`, the earliest observed.
    """

    name: Any  # position in an array
    kind: str
    sort: str  # kind of its cells, also if they are constant
    form: Form
    categories: list[Any] | None = None
    infrequent: list[Any] = field(default_factory=list)
    codes: np.ndarray | None = None
    representatives: list[Any] = field(default_factory=list)  # raw values that codes stand for
    is_whole: bool = False
    offset: float | int = 0
    step: int = 1

    @property
    def dtype(self) -> Any:
        """Dtype of the column in its library."""
        return restore(self.form.dtype)

    @property
    def ticks(self) -> tuple[Any, Any]:
        """Offset and step of dates as values of numpy; integers for periods."""
        unit: Any = self.form.unit
        offset, step = int(self.offset), self.step
        if unit not in PER_DAY:
            return offset, step
        kind: Any = np.datetime64 if self.form.span in (DATES, ZONED) else np.timedelta64
        return kind(offset, unit), np.timedelta64(step, unit)

    @property
    def is_category(self) -> bool:
        """Whether cells are encoded as codes of categories."""
        return self.kind in CATEGORICAL

    @property
    def n_categories(self) -> int:
        """Number of codes; 0 if the column has no categories."""
        return len(self.representatives) if self.is_category else 0


@dataclass
class TableColumns:
    """Columns of a table; encodes and decodes tables with the same columns.

    Numbers are encoded as they are in float64, which rounds integers beyond 2**53. Categories
    are encoded as codes; those of the infrequent group are decoded as its most frequent member.
    """

    columns: list[Column]
    library: str
    header: Any
    handle_unknown: str = "ignore"

    @classmethod
    def learn(
        cls,
        X: Any,
        *,
        categorical_features: Any = "auto",
        handle_unknown: str = "ignore",
        min_frequency: float | None = None,
        max_categories: int | None = None,
        declared: bool = False,
    ) -> TableColumns:
        """Learn the columns of a table.

        If `declared`, categories that a dtype declares have codes even if they are not observed:
        those of pandas' ``category``, of an ``Enum`` of polars, of a dictionary of pyarrow, and
        both booleans.
        """
        table = open_table(X)
        listed = listed_columns("categorical_features", categorical_features, table)
        columns = []
        for i in range(len(table.columns)):
            cells = table.read(i, as_category=i in listed)
            name = i if table.names is None else table.names[i]
            columns.append(_learn_column(name, cells, min_frequency, max_categories, declared))
        return cls(columns, table.library, table.header, handle_unknown)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return len(self.columns)

    def encode(self, X: Any) -> np.ndarray:
        """Numbers, codes and dates in float64, NaN in gaps."""
        table = self._open(X)
        if table.library == "array" and table.data.dtype.kind in "iuf" and self._all_numbers():
            encoded = np.array(table.data, dtype=np.float64, order="C")
            for i in np.flatnonzero(np.isinf(encoded).any(axis=0))[:1]:
                table.read(i)  # raises the error
            return encoded
        encoded = np.empty((table.n_rows, self.n_features))
        for i, column in enumerate(self.columns):
            cells = table.read(i, as_category=column.sort in CATEGORICAL)
            encoded[:, i] = self._encode_column(column, cells, table.label(i))
        return encoded

    def encode_value(self, i: int, value: Any, *, exact: bool = True) -> float:
        """Number, code or date of one value in column i; an error if it is unknown there.

        In a constant column it is zero if the value is that of the column. If `exact`, it is an
        error, too, if decoding gives another value: that of an infrequent category, or one
        between those that the dtype or the dates of the column can have.
        """
        self._restore_dtypes()
        column = self.columns[i]
        label = f"condition on column {column.name!r}"
        cells = read_objects([value], column.form, label, column.sort in CATEGORICAL)
        if column.kind == "constant" and column.sort not in CATEGORICAL:
            column = replace(column, kind=column.sort)
        encoded = self._encode_column(column, cells, label)
        if np.isnan(encoded[0]):
            known = f": {_shown(column.categories)}" if column.categories else ""
            raise ValueError(
                f"{label}: {value!r} is not among the values seen in fit{known}. Ask for one of "
                "them."
            )
        if exact:
            self._check_decodes(column, cells, encoded, label)
        is_offset = self.columns[i].kind == "constant" and column.sort == "number"
        return float(encoded[0] - column.offset if is_offset else encoded[0])

    def _check_decodes(self, column: Column, cells: Cells, encoded: np.ndarray, label: str) -> None:
        """Raise an error if a value, encoded as (1,), cannot be written in a column."""
        if column.sort not in CATEGORICAL:
            written = write_column(self.library, _decode_column(column, encoded), column.form)
            back = Table(self.library, None, [written], None, 1).read(0)
            again = self._encode_column(column, back, label)
            if not np.allclose(again, encoded, rtol=1e-6, atol=1e-6 * (column.sort == "date")):
                raise ValueError(
                    f"{label}: the column cannot hold the value exactly; the nearest is "
                    f"{written[0]!r}. Ask for that, or for a range."
                )
        elif column.infrequent and encoded[0] == len(column.representatives) - 1:
            representative = column.representatives[-1]
            if _key(cells.uniques[0], False) != _key(representative, False):
                raise ValueError(
                    f"{label}: {cells.uniques[0]!r} is an infrequent category, whose code stands "
                    f"for {representative!r}. Ask for that, or lower min_frequency or raise "
                    "max_categories."
                )

    def encode_condition(self, of_condition: np.ndarray, condition: Any, n_rows: int) -> np.ndarray:
        """Values (n_rows, n_condition_columns) that columns shall have, at these positions.

        The condition is a dict, with one value for all rows or one for each, or a table that has
        these columns; None is a condition without columns.
        """
        positions = of_condition.tolist()
        names = [self.columns[j].name for j in positions]
        given = _columns_by_name(condition, names, self.n_features)
        if missing := [name for name in names if name not in given]:
            raise ValueError(
                f"condition lacks {missing[0]!r}; it must have all columns of the condition: "
                f"{', '.join(map(repr, names))}."
            )
        values = np.empty((n_rows, len(names)))
        for i, (name, j) in enumerate(zip(names, positions, strict=True)):
            wanted = given[name]
            is_one = isinstance(wanted, str) or np.ndim(wanted) == 0
            wanted = [wanted] * n_rows if is_one else list(wanted)
            if len(wanted) != n_rows:
                raise ValueError(
                    f"condition has {len(wanted)} values of {name!r}, but there are {n_rows} "
                    "rows; pass one value, or one for each row."
                )
            codes = {value: self.encode_value(j, value) for value in set(wanted)}
            values[:, i] = [codes[value] for value in wanted]
        return values

    def decode(self, values: np.ndarray, *, index: Any = None, template: Any = None) -> Any:
        """A table like that of `learn`; NaN becomes a gap.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_features)
            As `encode` returns them.
        index : pandas.Index, optional
            Index of the rows of a pandas frame; by default, that of `template`.
        template : table, optional
            Its index is used, if it has one.
        """
        values = self._check_values(values)
        self._restore_dtypes()
        if index is None and self.library == "pandas" and hasattr(template, "iloc"):
            index = template.index
        written = [
            write_column(self.library, _decode_column(column, values[:, i]), column.form)
            for i, column in enumerate(self.columns)
        ]
        return write_table(self.library, written, self.header, index)

    def with_gaps_filled(self, X: Any, values: np.ndarray) -> Any:
        """X with its gaps decoded from values; all other cells are those of X."""
        table = self._open(X)
        values = self._check_values(values)
        if table.library == self.library:
            self._restore_dtypes()
        filled = []
        for i, column in enumerate(self.columns):
            native = table.columns[i]
            cells = table.read(i, as_category=column.sort in CATEGORICAL)
            if cells.missing.any():
                decoded = _decode_column(column, values[:, i])
                is_same = table.library == self.library and (
                    cells.sort == "empty" or cells.form.dtype == column.form.dtype
                )
                form = column.form if is_same else cells.form
                written = write_column(table.library, decoded, form)
                native = fill_column(table.library, native, cells.missing, written)
            filled.append(native)
        index = table.data.index if table.library == "pandas" else None
        return write_table(table.library, filled, table.header, index)

    def observed(self, X: Any) -> np.ndarray:
        """Mask of the cells that are no gaps, of shape (n_samples, n_features)."""
        table = self._open(X)
        mask = np.empty((table.n_rows, self.n_features), dtype=bool)
        for i, column in enumerate(self.columns):
            mask[:, i] = ~table.read(i, as_category=column.sort in CATEGORICAL).missing
        return mask

    def __getstate__(self) -> dict[str, Any]:
        columns = [
            {name: describe(part) for name, part in vars(column).items()}
            | {"form": {name: describe(part) for name, part in vars(column.form).items()}}
            for column in self.columns
        ]
        return {**vars(self), "columns": columns, "header": describe(self.header)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        columns = []
        for plain in state["columns"]:
            form = {
                name: put_off(part) if name in LAZY else restore(part)
                for name, part in plain["form"].items()
            }
            parts = {name: restore(part) for name, part in plain.items() if name != "form"}
            columns.append(Column(**parts, form=Form(**form)))
        vars(self).update({**state, "columns": columns, "header": put_off(state["header"])})

    def _restore_dtypes(self) -> None:
        """Make the dtypes and the header, of which a loaded model has descriptions only."""
        for column in self.columns:
            made = {name: restore(getattr(column.form, name)) for name in LAZY}
            column.form = replace(column.form, **made)
        self.header = restore(self.header)

    def _open(self, X: Any) -> Table:
        table = open_table(X)
        if len(table.columns) != self.n_features:
            raise ValueError(
                f"X has {len(table.columns)} features, but {self.n_features} were learnt: pass "
                "the same columns as in fit."
            )
        return table

    def _all_numbers(self) -> bool:
        return all(column.kind == "number" for column in self.columns)

    def _check_values(self, values: Any) -> np.ndarray:
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.n_features:
            raise ValueError(
                f"values has the shape {values.shape}; it must be (n_samples, {self.n_features})."
            )
        return values

    def _encode_column(self, column: Column, cells: Cells, label: str) -> np.ndarray:
        if column.kind == "empty" or cells.sort == "empty":
            return np.full(len(cells.values), np.nan)
        if column.sort in CATEGORICAL:
            return self._encode_categories(column, cells, label)
        if column.sort == "number" and cells.sort == "boolean":
            cells = Cells("number", cells.values, cells.missing, cells.form)
        if cells.sort != column.sort:
            raise ValueError(_changed_message(column, cells, label))
        values = cells.values if column.sort == "number" else _encode_dates(column, cells, label)
        if column.kind == "constant":
            values = np.zeros(len(values))
        return np.where(cells.missing, np.nan, values)

    def _encode_categories(self, column: Column, cells: Cells, label: str) -> np.ndarray:
        categories, codes = column.categories or [], column.codes
        assert codes is not None
        typed = has_several_number_types(set(map(type, categories)))
        known = dict(zip((_key(v, typed) for v in categories), codes.tolist(), strict=True))
        new = [known.get(_key(value, typed), -1) for value in cells.uniques]
        lookup = np.array([*new, np.nan], dtype=np.float64)
        if -1 in new:
            used = np.unique(cells.values)
            unknown = [cells.uniques[i] for i in used if i >= 0 and new[i] < 0]
            if unknown and self.handle_unknown == "error":
                raise ValueError(_unknown_message(unknown, label))
            grouped = self.handle_unknown == "infrequent_if_exist" and column.infrequent
            lookup[lookup < 0] = codes.max() if grouped else np.nan
        return lookup[cells.values]


# -- learning ----------------------------------------------------------------------


def listed_columns(name: str, features: Any, table: Table) -> set[int]:
    """Positions of the columns that a parameter lists: by names, positions or a mask."""
    n_features = len(table.columns)
    if features is None:
        return set()
    if isinstance(features, str):
        if features == "auto":
            return set()
        raise ValueError(
            f"{name}={features!r} must be 'auto', None or an array-like of column names, "
            "positions or booleans: put a single name into a list."
        )
    listed = np.asarray(features, dtype=object)
    if listed.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got an array of shape {listed.shape}.")
    types = set(map(type, listed.tolist()))
    if all(issubclass(t, bool | np.bool_) for t in types):
        if len(listed) not in (0, n_features):
            raise ValueError(
                f"{name} is a mask of {len(listed)} booleans, but X has {n_features} features: "
                "give one boolean for each."
            )
        return set(np.flatnonzero(listed.astype(bool)).tolist())
    if all(issubclass(t, int | np.integer) and not issubclass(t, bool) for t in types):
        outside = [i for i in listed.tolist() if not 0 <= i < n_features]
        if outside:
            raise ValueError(
                f"{name} has the position {outside[0]}; positions are at least 0 and below "
                f"{n_features}, the number of features."
            )
        return set(map(int, listed))
    if not all(issubclass(t, str) for t in types):
        raise ValueError(f"{name} must hold column names, positions or booleans, of one type.")
    if table.names is None:
        raise ValueError(f"{name} has names, but X has none: give positions, or X as a frame.")
    unknown = [each for each in listed if each not in table.names]
    if unknown:
        raise ValueError(
            f"{name} has the name {unknown[0]!r}, which no column of X has; the columns are "
            f"{_shown(table.names)}."
        )
    return {table.names.index(each) for each in listed}


def _learn_column(
    name: Any,
    cells: Cells,
    min_frequency: float | None,
    max_categories: int | None,
    declared: bool,
) -> Column:
    column = Column(name, cells.sort, cells.sort, cells.form)
    observed = cells.values[~cells.missing]
    if cells.sort in CATEGORICAL:
        _learn_categories(column, cells, min_frequency, max_categories, declared)
    elif cells.sort != "empty":
        lowest, highest = observed.min(), observed.max()
        if lowest == highest:
            column.kind = "constant"
        if cells.sort == "date":
            column.offset = int(lowest)
            column.step = _step(observed, cells.form.unit)
        else:
            column.offset = float(lowest)
            column.is_whole = bool((observed == np.rint(observed)).all())
    return column


def _learn_categories(
    column: Column,
    cells: Cells,
    min_frequency: float | None,
    max_categories: int | None,
    declared: bool,
) -> None:
    """Order the observed categories, and group the infrequent ones as scikit-learn does."""
    counts = np.bincount(cells.values[~cells.missing], minlength=len(cells.uniques))
    order = list(range(len(counts))) if declared else np.flatnonzero(counts).tolist()
    if cells.sort == "category":
        order = [order[i] for i in _text_order([cells.uniques[i] for i in order])]
    column.categories = [cells.uniques[i] for i in order]
    counts = counts[order]
    infrequent = np.zeros(len(order), dtype=bool)
    if cells.sort != "boolean" and (min_frequency, max_categories) != (None, None):
        places = np.full(len(cells.uniques) + 1, np.nan)
        places[order] = np.arange(len(order))
        every = [*range(len(order)), *[np.nan] * bool(cells.missing.any())]
        encoder = OrdinalEncoder(
            categories=[every], min_frequency=min_frequency, max_categories=max_categories
        )
        grouped = encoder.fit(places[cells.values][:, None]).infrequent_categories_[0]
        if grouped is not None:
            infrequent[np.asarray(grouped, dtype=int)] = True
    column.codes = np.where(infrequent, (~infrequent).sum(), np.cumsum(~infrequent) - 1)
    frequent = zip(column.categories, infrequent, strict=True)
    column.representatives = [value for value, is_rare in frequent if not is_rare]
    if infrequent.any():
        members = np.flatnonzero(infrequent)
        column.infrequent = [column.categories[i] for i in members]
        column.representatives.append(column.categories[members[np.argmax(counts[members])]])
    if len(column.representatives) == 1:
        column.kind = "constant"


def _text_order(values: Sequence[Any]) -> list[int]:
    """Order of numbers by size, of other values as text."""
    is_number = all(isinstance(value, int | float | np.number) for value in values)
    if is_number and not has_several_number_types(set(map(type, values))):
        return sorted(range(len(values)), key=values.__getitem__)
    return sorted(range(len(values)), key=lambda i: (str(values[i]), type(values[i]).__name__))


def _step(ticks: np.ndarray, unit: str) -> int:
    """Ticks of the longest of day, hour, minute, ... of which all differences are multiples."""
    if unit not in PER_DAY:
        return 1
    since = (ticks - ticks.min()).view(np.uint64)  # right even if the difference overflows int64
    for per_day in STEPS_PER_DAY:
        step = PER_DAY[unit] // per_day
        if step <= 1 or not (since % np.uint64(step)).any():
            return max(step, 1)
    return 1


# -- encoding and decoding ---------------------------------------------------------


def _key(value: Any, typed: bool) -> Any:
    """Key of a category: its value, and its type if equal values of several types differ."""
    if isinstance(value, np.number | np.bool_ | np.str_):
        value = value.item()
    return (type(value), value) if typed else value


def _columns_by_name(condition: Any, names: list[Any], n_features: int) -> Mapping[Any, Any]:
    """Columns of a condition by name."""
    if condition is None:
        return {}
    if isinstance(condition, Mapping):
        if unknown := [name for name in condition if name not in names]:
            raise ValueError(
                f"condition names {unknown[0]!r}, which is no column of the condition; these are "
                f"{', '.join(map(repr, names)) or 'none'}."
            )
        return condition
    table = open_table(condition)
    found: Any = table.names
    if found is None:
        width = len(table.columns)
        if width not in (len(names), n_features):
            raise ValueError(
                f"condition has {width} columns; pass the {len(names)} columns of the condition, "
                f"or all {n_features} of X."
            )
        found = names if width == len(names) else range(width)
    return dict(zip(found, map(list, table.columns), strict=True))


def _encode_dates(column: Column, cells: Cells, label: str) -> np.ndarray:
    """Steps since the offset, in float64."""
    if cells.form.span != column.form.span:
        raise ValueError(_changed_message(column, cells, label))
    ticks, unit = cells.values, cells.form.unit
    scale, offset, step = 1, int(column.offset), column.step
    if unit != column.form.unit:
        per_day, own_per_day = PER_DAY[unit], PER_DAY[column.form.unit]
        scale, finer = max(1, own_per_day // per_day), max(1, per_day // own_per_day)
        offset, step = offset * finer, step * finer
    observed = ticks[~cells.missing]
    ends = [int(observed.min()) * scale, int(observed.max()) * scale]
    if max(map(abs, [offset, *ends, *(end - offset for end in ends)])) < 2**63:
        return (ticks * scale - offset) / step
    exact = ticks.astype(object)  # integers of any size
    return ((exact * scale - offset) / step).astype(np.float64)


def _decode_column(column: Column, values: np.ndarray) -> Cells:
    """Cells of encoded values."""
    missing = np.isnan(values)
    if column.kind == "empty":
        return Cells("empty", np.full(len(values), np.nan), np.ones(len(values), bool), column.form)
    if column.sort in CATEGORICAL:
        codes = np.clip(np.rint(values), 0, len(column.representatives) - 1)
        codes = np.where(missing, -1, codes).astype(np.int64)
        return Cells(column.sort, codes, missing, column.form, column.representatives)
    if column.kind == "constant" and column.sort == "number":
        values = np.where(missing, np.nan, column.offset)
    if column.sort == "number":
        return Cells("number", values, missing, column.form)
    steps = np.where(missing, 0, np.rint(values))
    lowest, highest = _tick_range(column)
    offset, step = int(column.offset), column.step
    least, most = -(-(lowest - offset) // step), (highest - offset) // step
    if column.kind == "constant":
        least = most = 0
    steps = np.clip(steps, float(max(least, -LARGEST_TICK)), float(min(most, LARGEST_TICK)))
    return Cells("date", steps.astype(np.int64) * step + offset, missing, column.form)


def _tick_range(column: Column) -> tuple[int, int]:
    """Ticks that the column's dtype can hold; for dates, at most years 1 to 9999."""
    unit, span = column.form.unit, column.form.span
    if unit not in PER_DAY:
        return -LARGEST_TICK, LARGEST_TICK
    if span == TIMES:
        return 0, PER_DAY[unit] - 1
    first, last = (-(10**8), 10**8) if span == DURATIONS else (-719_161, 2_932_895)
    lowest, highest = first * PER_DAY[unit], last * PER_DAY[unit]
    if not lowest <= column.offset <= highest:
        return -LARGEST_TICK, LARGEST_TICK
    return max(lowest, -LARGEST_TICK), min(highest, LARGEST_TICK)


# -- messages ----------------------------------------------------------------------


def _told(column: Column | Cells) -> str:
    if column.sort == "date":
        return column.form.span
    return {"number": "numbers", "boolean": "booleans"}.get(column.sort, "text or categories")


def _changed_message(column: Column, cells: Cells, label: str) -> str:
    return (
        f"{label} held {_told(column)} in fit and now holds {_told(cells)}: convert it to what it "
        "was in fit."
    )


def _shown(values: Sequence[Any]) -> str:
    more = f" and {len(values) - MAX_VALUES} more" if len(values) > MAX_VALUES else ""
    return ", ".join(map(repr, values[:MAX_VALUES])) + more


def _unknown_message(unknown: list[Any], label: str) -> str:
    ordered = [unknown[i] for i in _text_order(unknown)]
    return (
        f"Found unknown categories in {label}, not seen in fit: {_shown(ordered)}. Set "
        "handle_unknown='ignore' to take them as gaps, or fit on rows that have them."
    )
