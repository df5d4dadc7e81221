"""Rows of a Dask collection for a fit: in memory if they are few, and otherwise in a file.

A fit passes over all rows many times. So each partition is computed once, and its rows are kept
in a temporary file of this machine, which is read as any memory map.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from skae._data.dtypes_and_batch_sizes import MEMORY_BYTES
from skae._data.input_checks import as_numpy, check_rows
from skae._data.input_errors import check_squares
from skae._data.partitions import blocks_in_order, sample_of

BLOCK_BYTES = 16 * 2**20  # of rows that are computed, or kept in memory, at once


def check_partitions(estimator: Any, X: Any, *, reset: bool, allow_nan: bool = False) -> np.ndarray:
    """Check the rows of a Dask collection against an estimator, as `check_rows` does.

    The result is an array, or a memory map of a temporary file if the rows need more than 64 MiB
    in float32. The file is in Dask's "temporary-directory", and is deleted when it is not needed.
    """
    check_rows(estimator, sample_of(X), reset=reset, allow_nan=allow_nan)
    n_rows = n_features = 0
    with _new_file() as file:
        for block in blocks_in_order(X, BLOCK_BYTES):
            if block.shape[0] > 0:
                rows = as_numpy(check_rows(estimator, block, reset=False, allow_nan=allow_nan))
                file.write(np.ascontiguousarray(rows).data)
                n_rows, n_features = n_rows + len(rows), rows.shape[1]
        if n_rows == 0:
            raise ValueError("X is a Dask collection with 0 sample(s); at least 1 is required.")
        file.seek(0)
        shape = n_rows, n_features
        if 4 * n_rows * n_features > MEMORY_BYTES:
            all_rows: Any = np.memmap(file, rows.dtype, mode="r", shape=shape)
        else:
            all_rows = np.empty(shape, rows.dtype)
            file.readinto(all_rows.data.cast("B"))
    check_squares(all_rows, all_rows)
    return all_rows


def _new_file() -> Any:
    """Temporary file that is in memory while it is small."""
    import dask

    directory = dask.config.get("temporary-directory", None)
    return tempfile.SpooledTemporaryFile(max_size=BLOCK_BYTES, dir=directory)
