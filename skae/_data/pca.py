"""Second moments and principal components of a dataset, in bounded memory.

Three solvers: eigenvectors of the scatter matrix if there are many rows, Lanczos iterations
(ARPACK) for a dataset out of core, and otherwise a singular value decomposition.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds
from sklearn.decomposition import PCA
from sklearn.utils.extmath import svd_flip

from skae._data.threads import algebra_threads

SMALLEST_SQUARE = 1e-280  # sums of squares below it are not precise
MANY_ROWS_PER_FEATURE = 10  # above it, squaring the condition number does no harm
MANY_ENTRIES = 100_000  # below it, a singular value decomposition is fast enough


def scatter_matrix(dataset: Any) -> np.ndarray:
    """Sum over rows of the products of every two features, (n_features, n_features)."""
    total = np.zeros((dataset.shape[1], dataset.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"), algebra_threads(dataset.shape):
        for block in dataset.blocks(weighted=True):
            total += block.T @ block
    return total


def is_precise(scatter: np.ndarray) -> bool:
    """Whether the squares in a scatter matrix neither overflow nor vanish."""
    return bool(SMALLEST_SQUARE < np.trace(scatter) < math.inf)


def squares_along(dataset: Any, components: np.ndarray) -> tuple[np.ndarray, float]:
    """Sum of squares along each orthonormal component, and the residual sum of squares."""
    if dataset.is_tall:
        along = np.einsum("ij,ij->i", components @ dataset.scatter, components)
        return along, max(0.0, float(np.trace(dataset.scatter) - along.sum()))
    along, residual = np.zeros(len(components)), 0.0
    with algebra_threads(dataset.shape):
        for block in dataset.blocks(weighted=True):
            codes = block @ components.T
            along += np.square(codes).sum(axis=0)
            residual += float(np.square(block - codes @ components).sum())
    return along, residual


def principal_components(dataset: Any, n_components: int) -> np.ndarray:
    """Principal components (n_components, n_features) of a centred dataset.

    Components beyond the number of rows or features are zero. A ValueError says if Lanczos
    iterations cannot find so many components.
    """
    components = np.zeros((n_components, dataset.shape[1]))
    solve = _by_eigenvectors if dataset.is_tall else _by_singular_vectors
    solve = _by_lanczos if dataset.is_out_of_core and not dataset.is_tall else solve
    with algebra_threads(dataset.shape):
        found, is_constant = solve(dataset, min(n_components, *dataset.shape))
    components[: len(found)] = found
    components[:, is_constant] = 0.0  # rounding
    return components


def _by_eigenvectors(dataset: Any, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Components from the scatter matrix, and which columns are constant."""
    vectors = np.linalg.eigh(dataset.scatter)[1][:, ::-1].T
    return _with_signs(vectors)[:n_components], np.diag(dataset.scatter) == 0


def _by_singular_vectors(dataset: Any, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Components from all rows in memory, and which columns are constant."""
    rows = dataset[:]
    is_constant: Any = ~rows.any(axis=0)
    if dataset.count < 2 or is_constant.all():
        return np.zeros((0, dataset.shape[1])), is_constant
    if dataset.weights is None:
        return PCA(n_components, svd_solver="full").fit(rows).components_, is_constant
    rows *= np.sqrt(dataset.weights)[:, None]
    vectors = np.linalg.svd(rows, full_matrices=False)[2]
    return _with_signs(vectors)[:n_components], is_constant


def _by_lanczos(dataset: Any, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Components from products with the rows, and which columns are constant."""
    if n_components >= min(dataset.shape):
        raise ValueError(
            f"n_components={n_components} of {dataset.shape[0]} rows of {dataset.shape[1]} "
            "features, sparse or on disk and too large for memory: the solver of the anchor "
            "(ARPACK) needs fewer components than rows and features; lower n_components or "
            "set anchor=None."
        )
    start = np.random.default_rng(0).normal(size=min(dataset.shape))
    vectors = svds(_operator(dataset), n_components, v0=start)[2][::-1]
    return _with_signs(np.ascontiguousarray(vectors)), _zero_columns(dataset)


def _with_signs(vectors: np.ndarray) -> np.ndarray:
    return svd_flip(None, vectors, u_based_decision=False)[1]


def _operator(dataset: Any) -> LinearOperator:
    """Products of vectors and the rows, each times the root of its weight."""
    X, center, scale = dataset.X, dataset.center, dataset.scale
    roots = np.ones(len(dataset)) if dataset.weights is None else np.sqrt(dataset.weights)

    def times(v: np.ndarray) -> np.ndarray:
        v = np.ravel(v)
        if sparse.issparse(X):
            return roots * (X @ v - center @ v) / scale
        return roots * np.concatenate([block @ v for block in dataset.blocks()])

    def transposed_times(v: np.ndarray) -> np.ndarray:
        v = roots * np.ravel(v)
        if sparse.issparse(X):
            return (X.T @ v - center * v.sum()) / scale
        return sum(dataset[part].T @ v[part] for part in dataset.parts())

    return LinearOperator(dataset.shape, matvec=times, rmatvec=transposed_times, dtype=float)


def _zero_columns(dataset: Any) -> np.ndarray:
    """Columns in which every standardized entry is zero."""
    zero = np.ones(dataset.shape[1], dtype=bool)
    for block in dataset.blocks():
        zero &= ~block.any(axis=0)
        if not zero.any():
            break
    return zero
