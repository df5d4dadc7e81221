"""Sizes of batches."""

from __future__ import annotations

import pytest

from skae._data.dtypes_and_batch_sizes import BATCH_BYTES, rows_per_batch


@pytest.mark.parametrize("n_columns", [1, 100, 10_000, 10**9])
def test_inference_batches_fit_their_budget_or_are_64_rows(n_columns):
    n_rows = rows_per_batch(n_columns)
    assert n_rows == 64 or n_rows * n_columns * 8 <= BATCH_BYTES
