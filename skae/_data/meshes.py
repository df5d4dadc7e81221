"""Meshes: their graphs, of faces or edges, and rigid alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

MOST_ALIGNMENTS = 50  # of all meshes to their mean
SETTLED = 1e-7  # change of the mean shape, as a share of its size, that ends the search


# -- graphs ------------------------------------------------------------------------


def check_mesh(
    faces: Any, edges: Any, n_features: int, shape: tuple[int, ...] | None = None
) -> sparse.csr_array:
    """Adjacency (n_vertices, n_vertices) of faces or edges, after checks of them.

    They must suit rows of `n_features` columns, or arrays of a shape (n_vertices, n_values).
    """
    if (faces is None) == (edges is None):
        found = "Neither faces nor edges were given (both are None)"
        raise ValueError(
            f"{found if faces is None else 'Both faces and edges were given'}; pass the triangles "
            "as faces, or a sparse adjacency matrix as edges, or edges='path'."
        )
    found = f"{n_features} columns" if shape is None else f"meshes of shape {shape}"
    if faces is not None:
        if n_features % 3 or (shape is not None and shape[1] != 3):
            raise ValueError(
                f"faces are of meshes with three coordinates a vertex, but X has {found}; pass "
                "rows of 3 * n_vertices columns, or edges for other values."
            )
        return check_faces(faces, n_features // 3)
    if isinstance(edges, str):
        if shape is not None:
            raise ValueError(
                f"edges={edges!r} is for rows of shape (n_samples, n_vertices), but X has {found}; "
                "pass a sparse adjacency matrix."
            )
        return path_graph(n_features)
    graph = check_edges(edges)
    n_vertices = graph.shape[0]
    if n_features % n_vertices or (shape is not None and shape[0] != n_vertices):
        raise ValueError(
            f"edges has {n_vertices} vertices, but X has {found}; pass rows with as many values "
            "for each of these vertices."
        )
    return graph


def check_faces(faces: Any, n_vertices: int) -> sparse.csr_array:
    """Adjacency (n_vertices, n_vertices) of the vertices of triangles, after checks of these."""
    array = np.asarray(faces)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu" or not len(array):
        raise ValueError(
            f"faces of shape {array.shape} and type {array.dtype} must be integers of shape "
            "(n_faces, 3), the vertices of triangles; split other polygons into triangles, or pass "
            "edges."
        )
    if array.min() < 0 or array.max() >= n_vertices:
        raise ValueError(
            f"faces name vertices {array.min()} to {array.max()}, but X has {n_vertices} vertices, "
            f"numbered from 0 to {n_vertices - 1}; pass the faces of these meshes, and count from "
            "0."
        )
    pairs = np.concatenate([array[:, [0, 1]], array[:, [1, 2]], array[:, [2, 0]]])
    return _check_isolated(_graph_of(pairs, n_vertices), "faces")


def check_edges(edges: Any) -> sparse.csr_array:
    """Adjacency of a sparse or dense matrix, after checks of it."""
    matrix = sparse.csr_array(edges) if sparse.issparse(edges) else np.asarray(edges)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"edges of shape {matrix.shape} must be a square matrix, with an entry for each edge "
            "between two vertices; of a list of pairs, make a scipy.sparse.coo_array."
        )
    entries = sparse.coo_array(matrix != 0)
    graph = _graph_of(np.stack(entries.coords, axis=1), matrix.shape[0])
    is_there = sparse.csr_array(entries).astype(bool)
    is_there.setdiag(False)
    is_there.eliminate_zeros()
    if is_there.nnz != graph.nnz:
        raise ValueError(
            f"edges has {graph.nnz - is_there.nnz} entries less above or below its diagonal than a "
            "symmetric matrix; pass edges + edges.T."
        )
    return _check_isolated(graph, "edges")


def path_graph(n_vertices: int) -> sparse.csr_array:
    """Adjacency of vertices in a row."""
    first = np.arange(n_vertices - 1)
    return _graph_of(np.stack([first, first + 1], axis=1), n_vertices)


def _graph_of(pairs: np.ndarray, n_vertices: int) -> sparse.csr_array:
    """Symmetric adjacency of ones, without diagonal."""
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    both = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int32)  # as scipy 1.14 searches graphs
    shape = n_vertices, n_vertices
    graph = sparse.csr_array((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=shape)
    graph.data[:] = 1
    return graph


def _check_isolated(graph: sparse.csr_array, name: str) -> sparse.csr_array:
    isolated = np.flatnonzero(np.diff(graph.indptr) == 0)
    if len(isolated) and graph.shape[0] > 1:
        raise ValueError(
            f"{name} leave {len(isolated)} of {graph.shape[0]} vertices without a neighbour, the "
            f"first is vertex {isolated[0]}; remove these from X and {name}, or connect them."
        )
    return graph


def edge_lengths(graph: sparse.csr_array, points: np.ndarray) -> sparse.csr_array:
    """The graph with the lengths of its edges between points (n_vertices, n_axes)."""
    entries = graph.tocoo()
    lengths = np.linalg.norm(points[entries.row] - points[entries.col], axis=1)
    least = 1e-6 * (lengths.mean() if len(lengths) else 1.0) or 1.0  # zero would be no edge
    data = np.maximum(lengths, least)
    return sparse.csr_array((data, (entries.row, entries.col)), shape=graph.shape)


# -- rigid alignment ---------------------------------------------------------------


def find_poses(X: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and centroids of meshes, relative to a reference.

    The mesh nearest to the reference is ``(X - centroids) @ rotations``, plus the centroid of the
    reference (Kabsch, 1976, https://doi.org/10.1107/S0567739476001873).

    Parameters
    ----------
    X : ndarray of shape (n_meshes, n_vertices, n_axes)
    reference : ndarray of shape (n_vertices, n_axes)

    Returns
    -------
    rotations : ndarray of shape (n_meshes, n_axes, n_axes), float64
    centroids : ndarray of shape (n_meshes, 1, n_axes), float64
    """
    centroids = X.mean(axis=1, keepdims=True, dtype=np.float64)
    products = np.swapaxes(X - centroids, 1, 2) @ (reference - reference.mean(axis=0))
    left, _, right = np.linalg.svd(products)
    left[..., -1] *= np.linalg.det(left @ right)[:, None]  # no reflection
    return left @ right, centroids


def align(X: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Meshes (n_meshes, n_vertices, n_axes) rotated and shifted to a reference, in their type."""
    rotations, centroids = find_poses(X, reference)
    aligned = (X - centroids) @ rotations + reference.mean(axis=0)
    return aligned.astype(X.dtype, copy=False)


def undo_alignment(aligned: np.ndarray, X: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Bring meshes, such as reconstructions of aligned ones, to the poses of X."""
    rotations, centroids = find_poses(X, reference)
    back = (aligned - reference.mean(axis=0)) @ np.swapaxes(rotations, 1, 2) + centroids
    return back.astype(aligned.dtype, copy=False)


def mean_shape(X: np.ndarray) -> np.ndarray:
    """Mean of meshes after each was aligned to it: generalised Procrustes analysis, no scaling.

    It has the pose that is nearest to the plain mean (Gower, 1975,
    https://doi.org/10.1007/BF02291478).

    Parameters
    ----------
    X : ndarray of shape (n_meshes, n_vertices, n_axes)

    Returns
    -------
    ndarray of shape (n_vertices, n_axes), float64
    """
    plain: np.ndarray = X.mean(axis=0, dtype=np.float64)
    center = plain.mean(axis=0)
    mean = X[0] - X[0].mean(axis=0, dtype=np.float64)
    for _ in range(MOST_ALIGNMENTS):
        before, mean = mean, align(X, mean).mean(axis=0, dtype=np.float64)
        mean = mean - mean.mean(axis=0)
        if np.linalg.norm(mean - before) <= SETTLED * np.linalg.norm(mean):
            break
    return align(mean[None], plain)[0] - plain.mean(axis=0) + center
