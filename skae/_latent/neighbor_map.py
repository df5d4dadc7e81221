"""A map of rows in few dimensions that keeps their neighbours: a fuzzy graph, and its layout [1]_.

References
----------
.. [1] McInnes, Healy and Melville (2018). UMAP: Uniform manifold approximation and projection for
   dimension reduction. https://arxiv.org/abs/1802.03426
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import curve_fit
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from skae._data.input_checks import is_memory_mapped

N_EPOCHS = 200  # passes over the edges; each takes part in a share that is its weight
N_NEGATIVES = 5  # random rows that an edge's first row is pushed from
EXTENT = 10.0  # largest coordinate at the start
JITTER = 1e-4  # standard deviation of the noise that separates equal rows at the start
LARGEST_STEP = 4.0  # of a coordinate, by one edge
NEAR = 1e-3  # squared distance that is added to that of rows which are pushed apart
N_BISECTIONS = 64
SPARE = 5  # neighbours that are sought beyond those needed, as some may be equally near
SAME_DISTANCE = 6  # decimals up to which distances are told apart, in units of their mean
N_DIGITS = 4  # of weights and of coordinates at the start
SMALLEST_CHUNK = 16  # edges that move rows at once
SEARCH_MEBIBYTES = 32  # of distances that are computed at once


def memberships(distances: np.ndarray) -> np.ndarray:
    """Weights (n_rows, n_neighbors) of neighbours, given sorted distances of the same shape.

    The nearest one at a positive distance has weight 1. The width of the kernel of each row makes
    its weights sum to the logarithm of their number to base 2.
    """
    n_rows, n_neighbors = distances.shape
    positive = np.where(distances > 0, distances, np.inf).min(axis=1)
    nearest = np.where(np.isfinite(positive), positive, 0.0)
    beyond = np.maximum(distances - nearest[:, None], 0.0)
    target = np.log2(n_neighbors)
    low, width = np.zeros(n_rows), beyond.max(axis=1)
    width[width == 0] = 1.0
    high = np.full(n_rows, np.inf)
    for _ in range(N_BISECTIONS):
        is_wide = np.exp(-beyond / width[:, None]).sum(axis=1) > target
        low, high = np.where(is_wide, low, width), np.where(is_wide, width, high)
        width = np.where(np.isinf(high), 2 * low, (low + high) / 2)
        width = np.clip(width, np.finfo(float).tiny, np.finfo(float).max / 4)
    return np.exp(-beyond / width[:, None])


def _nearest(X: Any, k: int, new: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n_rows, k) and indices of the nearest among the rows X.

    They are those of new rows, or, without any, those of each row of X among the others. Sparse
    rows and memory maps are searched without a copy.
    """
    is_in_memory = isinstance(X, np.ndarray) and not is_memory_mapped(X)
    search = NearestNeighbors(n_neighbors=k, algorithm="auto" if is_in_memory else "brute").fit(X)
    with config_context(working_memory=SEARCH_MEBIBYTES):
        distances, index = search.kneighbors(new)
    return np.asarray(distances, dtype=float), index


def _neighbors(X: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n_rows, k) and indices of the nearest rows; of equally near ones, the first."""
    distances, index = _nearest(X, min(k + SPARE, X.shape[0] - 1))
    unit = distances.mean() or 1.0
    rounded = (distances / unit).round(SAME_DISTANCE)  # else rounding errors would choose
    order = np.lexsort((index, rounded))[:, :k]
    nearest = np.take_along_axis(rounded, order, axis=1) * unit
    return nearest, np.take_along_axis(index, order, axis=1)


def fuzzy_graph(X: Any, n_neighbors: int) -> sparse.csr_array:
    """Symmetric weights (n_rows, n_rows) of pairs of rows, by the probabilistic t-conorm.

    X holds two rows or more, dense or sparse. A row has at most ``n_rows - 1`` neighbours.
    """
    n_rows = X.shape[0]
    k = min(n_neighbors, n_rows - 1)
    distances, columns = _neighbors(X, k)
    starts = np.arange(0, n_rows * k + 1, k)
    weights = memberships(distances).ravel()
    one_way = sparse.csr_array((weights, columns.ravel(), starts), shape=(n_rows, n_rows))
    other_way = one_way.T.tocsr()
    return (one_way + other_way - one_way * other_way).tocsr()


def kernel_parameters(min_dist: float) -> tuple[float, float]:
    """Return a and b of the kernel ``1 / (1 + a d^(2b))`` of distances d.

    The kernel is near 1 up to `min_dist`, and falls exponentially from there.
    """
    distances = np.linspace(0, 3, 300)
    wanted = np.exp(-np.maximum(distances - min_dist, 0))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), distances, wanted)
    return float(a), float(b)


def spread_out(
    graph: sparse.csr_array, start: np.ndarray, min_dist: float, random: np.random.Generator
) -> np.ndarray:
    """Coordinates (n_rows, n_components) in which rows that share an edge are near each other.

    They minimise the cross-entropy of edges, from `start`, by steps along the gradients of some
    edges at a time.
    """
    a, b = kernel_parameters(min_dist)
    graph.sort_indices()
    edges = graph.tocoo()
    # Rounded, because rounding errors of the rows would grow with every step.
    shares = (edges.data / edges.data.max()).round(N_DIGITS)
    some = shares >= 1 / N_EPOCHS
    heads, tails, shares = edges.row[some], edges.col[some], shares[some]
    n_rows, n_components = start.shape
    y = (start / (np.abs(start).max() or 1.0) * EXTENT).round(N_DIGITS).astype(np.float32)
    y += random.normal(scale=JITTER, size=y.shape).astype(np.float32)
    for epoch in range(N_EPOCHS):
        rate = 1 - epoch / N_EPOCHS
        drawn = random.permutation(np.flatnonzero(random.random(len(shares)) < shares))
        # A row moves about once in each chunk, so that steps do not add up.
        n_chunks = max(1, len(drawn) // max(n_rows // 2, SMALLEST_CHUNK))
        for chunk in np.array_split(drawn, n_chunks):
            first, second = heads[chunk], tails[chunk]
            others = random.integers(n_rows, size=(len(chunk), N_NEGATIVES))
            pull = _pull(y[first] - y[second], a, b)
            step = pull + _push(y[first, None] - y[others], a, b).sum(axis=1)
            for j in range(n_components):
                moves = np.bincount(first, step[:, j], n_rows)
                moves -= np.bincount(second, pull[:, j], n_rows)
                y[:, j] += rate * moves
    return y.astype(float)


def _pull(difference: np.ndarray, a: float, b: float) -> np.ndarray:
    """Steps that bring rows together, whose differences have shape (n_edges, n_components)."""
    squares = np.einsum("...j,...j", difference, difference) + np.float32(1e-12)
    powers = squares**b
    slopes = -2 * a * b * powers / (squares * (1 + a * powers))
    return np.clip(slopes[..., None] * difference, -LARGEST_STEP, LARGEST_STEP)


def _push(difference: np.ndarray, a: float, b: float) -> np.ndarray:
    """Steps that push rows apart, of differences (n_edges, n_negatives, n_components)."""
    squares = np.einsum("...j,...j", difference, difference)
    slopes = 2 * b / ((NEAR + squares) * (1 + a * squares**b))
    return np.clip(slopes[..., None] * difference, -LARGEST_STEP, LARGEST_STEP)


def positions_of_new(X: Any, positions: np.ndarray, new: Any, n_neighbors: int) -> np.ndarray:
    """Positions of new rows: weighted means of those of their neighbours among the rows X."""
    distances, index = _nearest(X, min(n_neighbors, len(positions)), new)
    weights = memberships(distances)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("ij,ijk->ik", weights, positions[index])
