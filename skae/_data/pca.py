"""Second moments and principal components of a dataset, in bounded memory.

Four solvers: eigenvectors of the scatter matrix if there are many rows, Lanczos iterations
(ARPACK) for a dataset out of core, and otherwise a singular value decomposition, randomized where
``PCA(svd_solver="auto")`` takes the randomized one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds
from sklearn.decomposition import PCA
from sklearn.utils.extmath import randomized_svd, svd_flip

from skae._data.threads import algebra_threads

SMALLEST_SQUARE = 1e-280  # sums of squares below it are not precise
MANY_ROWS_PER_FEATURE = 10  # above it, squaring the condition number does no harm
MANY_ENTRIES = 100_000  # below it, a singular value decomposition is fast enough
# Where PCA's "auto" takes the randomized solver: some side is longer, components are a smaller
# share of the shorter one, and there are more features or not many rows per feature.
RANDOMIZED_SIDE, RANDOMIZED_SHARE, FEW_FEATURES = 500, 0.8, 1000
ROWS_PER_FEATURE, PRODUCT_BYTES = 4, 16 * 2**20  # of a block whose products are computed at once
FIRST_ROWS = 100  # in which a column that is not zero hardly ever is zero throughout
SINGLE_RANGE = 1e-30, 1e30  # of the squares of a feature that may be summed in float32
SMALL_SHARE = 1e-3  # of all squares; a smaller residual is not computed as a difference


def scatter_matrix(dataset: Any) -> np.ndarray:
    """Sum over rows of the products of every two features, (n_features, n_features).

    Products have the precision of X, if their range allows it; they are summed in float64.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        total = _sum_of_products(dataset, dataset.precision)
        if dataset.precision is np.float32:
            squares = total.diagonal()[total.diagonal() > 0]
            low, high = SINGLE_RANGE
            if not (len(squares) and low < squares.min() and squares.max() < high):
                total = _sum_of_products(dataset, np.float64)
    return total


def _sum_of_products(dataset: Any, dtype: Any) -> np.ndarray:
    n_features = dataset.shape[1]
    total = np.zeros((n_features, n_features))
    # Of blocks with few rows, adding the products would take longer than computing them.
    n_rows = min(ROWS_PER_FEATURE * n_features, PRODUCT_BYTES // (8 * n_features))
    with algebra_threads(dataset.shape):
        for block in dataset.blocks(dtype, weighted=True, at_least=n_rows):
            total += block.T @ block
    return total


def is_precise(squares: Any) -> bool:
    """Whether a sum of squares, or those in a scatter matrix, neither overflow nor vanish."""
    total = np.trace(squares) if np.ndim(squares) else squares
    return bool(SMALLEST_SQUARE < total < math.inf)


def fitted_pca(rows: np.ndarray, n_components: int | None = None, **params: Any) -> PCA:
    """scikit-learn's PCA of rows, without warnings if they are constant and have no ratios."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return PCA(n_components, **{"svd_solver": "full", **params}).fit(rows)


def squares_along(dataset: Any, components: np.ndarray) -> tuple[np.ndarray, float]:
    """Sum of squares along each orthonormal component, and the residual sum of squares."""
    precision = dataset.precision
    if dataset.is_tall:
        along = np.einsum("ij,ij->i", components @ dataset.scatter, components)
    else:
        along, axes = np.zeros(len(components)), components.T.astype(precision)
        with algebra_threads(dataset.shape):
            for block in dataset.blocks(precision, weighted=True):
                codes = block @ axes
                along += np.einsum("ij,ij->j", codes, codes)
    residual = dataset.squares - along.sum()
    if residual > SMALL_SHARE * dataset.squares:
        return along, float(residual)
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
    n_components = min(n_components, *dataset.shape)
    if dataset.is_tall:
        solve = _by_eigenvectors
    elif dataset.is_out_of_core:
        solve = _by_lanczos
    else:
        solve = _by_random_projection if _is_randomized(dataset, n_components) else _by_svd
    with algebra_threads(dataset.shape):
        found, is_constant = solve(dataset, n_components)
    components[: len(found)] = found
    components[:, is_constant] = 0.0  # rounding
    return components


def _is_randomized(dataset: Any, n_components: int) -> bool:
    """Whether ``PCA(svd_solver="auto")`` takes the randomized solver."""
    n_rows, n_features = dataset.shape
    is_exact = n_features <= FEW_FEATURES and n_rows >= MANY_ROWS_PER_FEATURE * n_features
    is_large = max(n_rows, n_features) > RANDOMIZED_SIDE
    return is_large and not is_exact and n_components < RANDOMIZED_SHARE * min(n_rows, n_features)


def _by_eigenvectors(dataset: Any, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Components from the scatter matrix, and which columns are constant."""
    vectors = np.linalg.eigh(dataset.scatter)[1][:, ::-1].T
    return _with_signs(vectors)[:n_components], np.diag(dataset.scatter) == 0


def _by_svd(dataset: Any, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Components from all rows in memory, and which columns are constant."""
    rows = dataset[:]
    is_constant: Any = ~rows.any(axis=0)
    if dataset.count < 2 or is_constant.all():
        return np.zeros((0, dataset.shape[1])), is_constant
    if dataset.weights is None:
        return fitted_pca(rows, n_components).components_, is_constant
    rows *= np.sqrt(dataset.weights)[:, None]
    vectors = np.linalg.svd(rows, full_matrices=False)[2]
    return _with_signs(vectors)[:n_components], is_constant


def _by_random_projection(dataset: Any, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Components by PCA's randomized solver, in the precision of X, and the constant columns."""
    rows = np.empty(dataset.shape, dtype=dataset.precision)
    blocks = dataset.blocks(dataset.precision, weighted=True)
    for part, block in zip(dataset.parts(), blocks, strict=True):
        rows[part] = block
    is_constant: Any = ~rows[:FIRST_ROWS].any(axis=0)
    suspects = np.flatnonzero(is_constant)
    is_constant[suspects] = ~rows[:, suspects].any(axis=0)
    if dataset.count < 2 or is_constant.all():
        return np.zeros((0, dataset.shape[1])), is_constant
    vectors = randomized_svd(rows, n_components, flip_sign=False, random_state=0)[2]
    return _with_signs(vectors.astype(float)), is_constant


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
