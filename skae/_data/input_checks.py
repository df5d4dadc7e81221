"""Checks of rows and codes that come in, and conversions to dense arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor

from skae._data.array_api import place_of, to_numpy, widest
from skae._data.dtypes_and_batch_sizes import FLOAT_DTYPES
from skae._data.input_errors import (
    check_squares,
    raise_explained,
    refuse_lazy,
    squares_are_finite,
)

ROUNDING = 1e-6  # by which scaled rows may leave the unit interval


def check_rows(
    estimator: Any, X: Any, *, reset: bool, keep_type: bool = False, allow_nan: bool = False
) -> Any:
    """Check rows against an estimator; learn its features if `reset`, as `fit` does.

    The result is an array, a tensor or a CSR matrix, float64 or float32, and never written to.
    A memory map of numbers keeps its type, and so does any array of numbers if `keep_type`:
    `as_dense` converts parts of it. NaN is an error unless `allow_nan`.
    """
    is_array = isinstance(X, np.ndarray)
    kept = is_array and (keep_type or is_memory_mapped(X)) and X.dtype.kind in "iuf"
    dtype = None if kept else float_dtypes(X)
    refuse_lazy(X)
    # Finite squares say at once that entries are finite, and that their squares do not overflow.
    is_fine = is_array and X.dtype in FLOAT_DTYPES and squares_are_finite(X)
    try:
        rows = validate_data(
            estimator,
            X,
            dtype=dtype,
            accept_sparse="csr",
            ensure_all_finite=not is_fine and ("allow-nan" if allow_nan else True),
            reset=reset,
        )
    except (TypeError, ValueError) as error:
        raise_explained(error, X, type(estimator).__name__)
    if not is_fine:
        check_squares(rows, X)
    if sparse.issparse(rows) and not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def float_dtypes(X: Any) -> tuple[Any, ...]:
    """Float types that X may keep; others are converted to the first of them."""
    if not (isinstance(X, Tensor) and place_of(X)):
        return FLOAT_DTYPES
    if widest(torch.float64, X.device) == torch.float32:
        return (torch.float32,)
    return torch.float64, torch.float32


@contextmanager
def errors_about_validation_rows() -> Iterator[None]:
    """Say in errors of the block that it is `X_val` that is wrong."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"X_val does not suit X: {error}") from error


def check_codes(Z: Any, n_components: int, *, accept_sparse: str | bool = False) -> Any:
    """Check codes, float64 or float32, that are to be decoded."""
    refuse_lazy(Z)
    try:
        Z = check_array(Z, dtype=float_dtypes(Z), input_name="X", accept_sparse=accept_sparse)
    except (TypeError, ValueError) as error:
        raise_explained(error, Z, "inverse_transform")
    if Z.shape[1] != n_components:
        raise ValueError(
            f"X has {Z.shape[1]} columns, but inverse_transform expects codes of "
            f"n_components_={n_components} columns, as transform returns them."
        )
    return Z


def check_unit_interval(X: np.ndarray, parameter: str, instead: str) -> None:
    """Raise an error if X leaves [0, 1]: `parameter` needs such rows, `instead` does not."""
    low, high = float(X.min()), float(X.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(
            f"{parameter} needs X within [0, 1], but it spans [{low:.6g}, {high:.6g}]; scale "
            f"it, as with MinMaxScaler(clip=True), or use {instead}."
        )


class ReadInFloat32:
    """Rows of small numbers, such as bytes, that become float32 when some of them are read.

    Parameters
    ----------
    array : ndarray of shape (n_rows, n_columns)
        Of a type whose numbers are all float32 numbers, too.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.ndim = array, array.shape, array.ndim

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.array[index].astype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array.astype(dtype or np.float32)

    def copy(self) -> np.ndarray:
        """All rows in float32."""
        return self[:]

    def min(self) -> Any:
        """Smallest number."""
        return self.array.min()

    def max(self) -> Any:
        """Largest number."""
        return self.array.max()


def is_memory_mapped(X: Any) -> bool:
    """Whether X is a memory map, or a view of one."""
    X = X.array if isinstance(X, ReadInFloat32) else X
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


def as_dense(X: Any) -> Any:
    """Rows as a dense array or tensor, float64 or float32; X itself if it is one already."""
    if isinstance(X, Tensor):
        return X
    X = X.toarray() if sparse.issparse(X) else X
    if isinstance(X, ReadInFloat32):
        return X[:]
    return X if X.dtype in FLOAT_DTYPES else X.astype(np.float64)


def as_numpy(X: Any) -> np.ndarray:
    """Rows as a dense numpy array, float64 or float32."""
    return to_numpy(as_dense(X))


def read_rows(X: Any, index: Any) -> np.ndarray:
    """Some rows as a dense numpy array, float64 or float32."""
    if isinstance(X, np.ndarray) and X.dtype in FLOAT_DTYPES:
        return X[index]
    return as_numpy(take_rows(X, index))


def take_rows(X: Any, index: Any) -> Any:
    """Rows of an array, a tensor or a CSR matrix, by a slice or an array of indices."""
    if isinstance(X, Tensor) and isinstance(index, np.ndarray):
        index = torch.from_numpy(index).to(X.device)
    return X[index]
