"""Rows that belong together: groups of the user, exact copies, and near copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import radius_neighbors_graph
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_consistent_length

from skae._data.dtypes_and_batch_sizes import rows_per_batch
from skae._data.input_checks import read_rows
from skae._data.warnings import warn

ROUNDING = 1e-11  # of projections of equal rows, over the largest projection
CHANCE_ROWS = 2000  # distinct rows from which the chance that two rows agree is estimated
EXPECTED_TWINS = 0.05  # rows that equal a row by chance, from which equal rows are no copies
MIN_GROUPS = 5  # if merging the copies of several groups leaves fewer, groups are not merged
# Detection of near copies: numbers of rows whose neighbours are looked at, products spent on it,
# and neighbours of each.
QUERIES, PRODUCTS, NEIGHBORS = (32, 96), 2e8, 30
MIN_NEIGHBORS = 5  # below, near copies are not looked for
GAP = 8.0  # ratio of two successive distances to neighbours that separates copies from others
SHARE = 0.25  # of the rows that have such a gap, from which copies are assumed
MANY_ROWS = 20_000  # above, near copies are reported, and not looked for one by one
PARALLEL = 1e-12  # distance of the cosine from one at which directions count as parallel
LARGEST_DENOMINATOR = 12  # of ratios of lengths that rows on a grid have


def check_groups(groups: Any, X: Any) -> np.ndarray | None:
    """Validate groups; return labels 0, 1, … of shape (n_rows,), or None."""
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        raise ValueError(
            f"groups of shape {labels.shape} must have shape (n_samples,); pass one label a row."
        )
    labels = labels.reshape(-1)
    check_consistent_length(X, labels)
    missing = labels != labels  # NaN
    if np.any(missing) or (labels.dtype == object and any(label is None for label in labels)):
        raise ValueError(
            "groups has missing values; give each row a group, a row that belongs to no other "
            "one of its own."
        )
    return np.unique(labels, return_inverse=True)[1]


def merged(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels of the finest groups that contain those of both labellings whole."""
    graph = sparse.coo_array((np.ones(len(first), bool), (first, second)))
    both = sparse.block_array([[None, graph], [graph.T, None]]).tocsr()
    labels = connected_components(both, directed=False)[1]
    return np.unique(labels[first], return_inverse=True)[1]


def exact_copies(X: Any) -> np.ndarray | None:
    """Labels (n_rows,) that are equal for equal rows; None if all rows differ."""
    direction = np.random.default_rng(0).normal(size=X.shape[1])
    if sparse.issparse(X):
        projections = np.ravel(X @ direction)
    elif hasattr(X, "project"):
        projections = X.project(direction)
    else:
        parts = gen_batches(X.shape[0], rows_per_batch(X.shape[1]))
        projections = np.concatenate([read_rows(X, part) @ direction for part in parts])
    candidates = _candidates(projections)
    del projections
    if len(candidates) == 0:
        return None
    keys = np.empty(len(candidates), np.int64)
    for part in gen_batches(len(candidates), rows_per_batch(X.shape[1])):
        rows = read_rows(X, candidates[part]) + 0.0  # zero may have a sign
        keys[part] = [hash(row.tobytes()) for row in rows]
    _, first, twin = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == len(candidates):
        return None
    # Keys differ from process to process; labels are the numbers of the first of equal rows.
    labels = np.arange(X.shape[0], dtype=np.int32)
    labels[candidates] = candidates[first[twin]]
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)


def _candidates(projections: np.ndarray) -> np.ndarray:
    """Indices of rows whose projections on a line are equal up to rounding, or missing."""
    missing = np.isnan(projections)
    smallest = ROUNDING * np.abs(projections[~missing]).max(initial=0)
    order = np.argsort(projections)
    close = np.diff(projections[order]) <= smallest
    close = np.append(close, False) | np.insert(close, 0, False)
    return np.sort(order[close | missing[order]])


def agree_by_chance(X: Any, copies: np.ndarray) -> bool:
    """Whether columns have so few values that rows would agree if columns were independent.

    Then equal rows are no copies, and new rows will equal old ones too.
    """
    first = np.unique(copies, return_index=True)[1]
    some = first[np.linspace(0, len(first) - 1, min(len(first), CHANCE_ROWS)).astype(int)]
    rows, chance = read_rows(X, some), 1.0
    n_pairs = max(1, len(rows) * (len(rows) - 1))
    for column in rows.T:
        counts = np.unique(column, return_counts=True)[1]
        chance *= float((counts * (counts - 1)).sum()) / n_pairs
    return X.shape[0] * chance > EXPECTED_TWINS


def find_copies(rows: Any) -> np.ndarray | None:
    """Labels (n_rows,) that are equal for copies and near copies in a dataset; None if none."""
    copies = exact_copies(rows.X)
    if copies is not None and agree_by_chance(rows.X, copies):
        return None
    near = None if rows.is_out_of_core else near_copies(rows, copies)
    return copies if near is None else near


def find_units(groups: np.ndarray | None, copies: np.ndarray | None) -> np.ndarray | None:
    """Labels (n_rows,) of rows that must be held out together; None if none.

    They are the user's groups, merged where copies of a row are in several groups.
    """
    if groups is None or copies is None:
        return copies if groups is None else groups
    both = merged(groups, copies)
    return both if both.max() + 1 >= min(MIN_GROUPS, groups.max() + 1) else groups


def near_copies(rows: Any, copies: np.ndarray | None) -> np.ndarray | None:
    """Labels (n_rows,) of near copies, exact ones included; None if there are none.

    Between a row and the copies of it, distances are much smaller than to the next row. If this
    is so for many rows of a sample, rows within a distance between the two are near copies. Rows
    that lie on lines between others, as SMOTE adds them, are reported.
    """
    n_rows, n_features = rows.shape
    labels = np.arange(n_rows) if copies is None else copies
    n_neighbors = min(NEIGHBORS, int(labels.max()))
    if n_neighbors < MIN_NEIGHBORS:
        return None
    n_queries = int(np.clip(PRODUCTS / (n_rows * n_features), *QUERIES))
    index = np.unique(np.linspace(0, n_rows - 1, n_queries).astype(int))
    queries = np.nan_to_num(rows[index])
    distances, nearest = _neighbors(rows, queries, labels, labels[index], n_neighbors)
    low, high = _gaps(distances)
    if len(low) > SHARE * len(index):
        if n_rows > MANY_ROWS:
            _warn(rows, "near copies of each other")
            return None
        radius = float(np.sqrt(np.median(low) * np.median(high)))
        graph = radius_neighbors_graph(np.nan_to_num(rows[:]), radius, include_self=True)
        near = connected_components(graph, directed=False)[1]
        return near if copies is None else merged(near, copies)
    vectors = np.nan_to_num(rows[nearest.ravel()]).reshape(*nearest.shape, -1)
    if _on_lines(vectors - queries[:, None]).mean() > SHARE:
        _warn(rows, "on straight lines between others, as oversampling by SMOTE adds them")
    return None


def _warn(rows: Any, where: str) -> None:
    if rows.groups is not None:
        return
    warn(
        f"Many rows of X lie {where}, so that rows held out of training resemble training rows "
        "more than new rows will, and training may seem better than it is. Pass groups= (rows "
        "that belong together), or X_val= (rows of other origin).",
        UserWarning,
    )


def _neighbors(
    rows: Any, queries: np.ndarray, labels: np.ndarray, own: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (n_queries, n_neighbors) of the nearest rows of other labels."""
    best = np.full((len(queries), n_neighbors), np.inf)
    index = np.zeros(best.shape, dtype=int)
    for part in rows.parts():
        squares = euclidean_distances(queries, np.nan_to_num(rows[part]), squared=True)
        squares[own[:, None] == labels[part]] = np.inf
        every = np.hstack([best, squares])
        places = np.broadcast_to(np.arange(part.start, part.stop), squares.shape)
        places = np.hstack([index, places])
        chosen = np.argpartition(every, n_neighbors - 1, axis=1)[:, :n_neighbors]
        best, index = (np.take_along_axis(a, chosen, axis=1) for a in (every, places))
    order = np.argsort(best, axis=1)
    best, index = (np.take_along_axis(a, order, axis=1) for a in (best, index))
    return np.sqrt(best), index


def _gaps(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances below and above the largest gap of each query that has a large one."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = np.nan_to_num(distances[:, 1:] / distances[:, :-1], posinf=0.0)
    place = ratios.argmax(axis=1)
    has_gap = ratios.max(axis=1) > GAP
    at = np.arange(len(distances))
    return distances[at, place][has_gap], distances[at, place + 1][has_gap]


def _on_lines(vectors: np.ndarray) -> np.ndarray:
    """Whether two neighbours of each query lie on one line through it, and not as on a grid.

    `vectors` (n_queries, NEIGHBORS, n_features) point from queries to neighbours.
    """
    lengths = np.maximum(np.linalg.norm(vectors, axis=2), np.finfo(float).tiny)
    varied = (np.abs(vectors) > 1e-9 * lengths[:, :, None]).sum(axis=2)
    directions = vectors / lengths[:, :, None]
    cosines = np.abs(directions @ directions.swapaxes(1, 2))
    with np.errstate(over="ignore"):
        ratios = np.minimum(lengths[:, :, None] / lengths[:, None, :], 1.0)
    on_grid = np.zeros(ratios.shape, dtype=bool)
    for denominator in range(1, LARGEST_DENOMINATOR + 1):
        multiple = ratios * denominator
        on_grid |= np.abs(multiple - np.round(multiple)) < 1e-6 * denominator
    on_line = (cosines > 1 - PARALLEL) & (ratios < 1) & ~on_grid
    on_line &= (varied >= min(3, vectors.shape[2]))[:, :, None]
    return on_line.any(axis=(1, 2))
