"""Views: groups of columns, of which a row has all or none."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, gen_batches

from skae._data.array_api import to_numpy
from skae._data.dtypes_and_batch_sizes import rows_per_batch
from skae._data.input_checks import read_rows

Views = Mapping[Any, np.ndarray]  # columns of each view, by its name
MAX_COLUMNS = 5  # in a message


def resolve_views(views: Any, n_features: int, names: Any = None) -> dict[Hashable, np.ndarray]:
    """Columns of each view, by its name or its number.

    `views` are groups of columns, in a list or by name: indices, names, slices or masks. None is
    one view. `names` are those of the columns, if they have any. Each column belongs to one view.
    """
    if views is None:
        return {0: np.arange(n_features)}
    groups = dict(views) if isinstance(views, Mapping) else dict(enumerate(views))
    if not groups:
        raise ValueError("views is empty; give groups of columns, or None for a single view.")
    columns = {view: _columns_of(view, group, n_features, names) for view, group in groups.items()}
    labels = range(n_features) if names is None else list(names)
    owner: dict[int, Any] = {}
    for view, its in columns.items():
        for column in its.tolist():
            if column in owner:
                raise ValueError(
                    f"Column {labels[column]!r} is in view {owner[column]!r} and in view {view!r} "
                    "of views; each column must be in one view, once."
                )
            owner[column] = view
    others = [repr(labels[i]) for i in range(n_features) if i not in owner]
    if others:
        more = f" and {len(others) - MAX_COLUMNS} more" if len(others) > MAX_COLUMNS else ""
        raise ValueError(
            f"No view of views has the columns {', '.join(others[:MAX_COLUMNS])}{more} of X with "
            f"{n_features} feature(s); add them to a view, or drop them from X."
        )
    return columns


def _columns_of(view: Any, group: Any, n_features: int, names: Any) -> np.ndarray:
    """Indices of the columns of one view, sorted."""
    where = f"view {view!r} of views"
    try:
        is_slice = isinstance(group, slice)
        key = np.arange(n_features)[group] if is_slice else _without_names(group, names)
        found = np.ravel(_safe_indexing(np.arange(n_features)[None], key, axis=1))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} is {group!r}, which are no columns of X with {n_features} feature(s) "
            f"({error}); give indices, names, a slice or a mask."
        ) from error
    if len(found) == 0:
        raise ValueError(
            f"{where} is {group!r}, which has no columns of X with {n_features} feature(s); leave "
            "it out, or give columns."
        )
    return np.sort(found)


def _without_names(group: Any, names: Any) -> Any:
    """Group of columns with indices instead of names."""
    if isinstance(group, int | np.integer):
        return group
    keys = np.atleast_1d(np.asarray(group)).tolist()
    if not any(isinstance(key, str) for key in keys):
        return keys
    if names is None:
        raise ValueError("X has no column names")
    places = {name: i for i, name in enumerate(names)}
    if unknown := [key for key in keys if key not in places]:
        raise ValueError(f"X has no column {unknown[0]!r}")
    return [places[key] for key in keys]


def views_there(rows: Any, views: Views) -> np.ndarray:
    """Which views each row has, (n_rows, n_views)."""
    return np.stack([~np.isnan(rows[:, its[0]]) for its in views.values()], axis=1)


def has_gaps(X: Any) -> bool:
    """Whether any value is NaN."""
    return any(np.isnan(read_rows(X, part)).any() for part in _parts(X))


def check_gaps(X: Any, views: Views, *, every_view: bool = False) -> None:
    """Raise an error if a row lacks a part of a view, or all views.

    With `every_view`, raise one too if no row has some view.
    """
    found = np.zeros(len(views), dtype=bool)
    for part in _parts(X):
        missing = np.isnan(read_rows(X, part))
        counts = np.stack([missing[:, its].sum(axis=1) for its in views.values()], axis=1)
        sizes = np.array([len(its) for its in views.values()])
        partly, whole = (counts > 0) & (counts < sizes), counts == sizes
        if partly.any():
            i, j = np.argwhere(partly)[0]
            raise ValueError(
                f"Row {part.start + i} of X contains NaN in {counts[i, j]} of the {sizes[j]} "
                f"columns of view {list(views)[j]!r}; a row has a view as a whole or not at all. "
                "Impute these cells, for example with AutoencoderImputer, or set all columns of "
                "the view to NaN."
            )
        if whole.all(axis=1).any():
            i = whole.all(axis=1).argmax()
            raise ValueError(
                f"Row {part.start + i} of X contains NaN in all views; drop it, as nothing is "
                "known of it."
            )
        found |= ~whole.all(axis=0)
    if every_view and not found.all():
        raise ValueError(
            f"View {list(views)[found.argmin()]!r} of views is NaN in all rows of X; drop its "
            "columns, or add rows that have it."
        )


def refuse_gaps(X: Any, what: str) -> None:
    """Raise an error if any value is NaN, because `what` needs rows with all views."""
    if has_gaps(X):
        raise ValueError(
            f"X contains NaN: {what} needs rows with all views; drop the others, or fill them "
            "before, for example by `reconstruct`."
        )


def check_others(X: Any, views: Views, view: Any) -> None:
    """Raise an error if there is no such view, or if a row has no other view."""
    if view not in views or len(views) == 1:
        raise ValueError(
            f"view={view!r} cannot be predicted from others: the views are {list(views)}; give one "
            "of several."
        )
    there = views_there(to_numpy(X), {name: its for name, its in views.items() if name != view})
    if not there.any(axis=1).all():
        raise ValueError(
            f"Row {there.any(axis=1).argmin()} of X has no view other than {view!r}, from which it "
            "could be predicted; drop the row."
        )


def observed_statistics(rows: Any) -> dict[str, np.ndarray]:
    """Statistics of each column of a dataset, of its observed values.

    "mean", "mean_square", minimum "low", maximum "high", and "share" of the rows that have it.
    """
    n_features = rows.shape[1]
    sums, squares, counts = np.zeros((3, n_features))
    low, high, n_rows = np.full(n_features, np.inf), np.full(n_features, -np.inf), 0.0
    for part in rows.parts():
        block, weights = rows[part], rows.weights_of(part)
        w = np.ones(len(block)) if weights is None else weights
        known = np.nan_to_num(block)
        sums += w @ known
        squares += w @ known**2
        counts += w @ ~np.isnan(block)
        n_rows += w.sum()
        low, high = np.fmin(low, np.fmin.reduce(block)), np.fmax(high, np.fmax.reduce(block))
    mean = np.where(low == high, low, sums / counts)  # rounding errors would look like variance
    return {
        "mean": mean,
        "mean_square": squares / counts,
        "low": low,
        "high": high,
        "share": counts / n_rows,
    }


def _parts(X: Any) -> Iterator[slice]:
    return gen_batches(X.shape[0], rows_per_batch(X.shape[1]))
