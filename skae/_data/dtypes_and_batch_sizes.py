"""Float types of rows, and how many bytes of them are in memory at once."""

from __future__ import annotations

import numpy as np

FLOAT_DTYPES = (np.float64, np.float32)
SMALLEST_BATCH = 64  # rows of an inference batch
BATCH_BYTES = 4 * 2**20  # of an inference batch in float64: it fits the processor's cache
MEMORY_BYTES = 64 * 2**20  # of sparse or memory-mapped rows, above which they stay out of core
ORDERED_BYTES = 2 * 2**20  # of rows in memory that are shuffled at once: they fit the cache
SHUFFLE_BUFFER_BYTES = 16 * 2**20  # of rows out of core that are shuffled at once
CHUNKS_PER_BUFFER = 64  # of neighbouring rows, read from as many places
SAMPLE_ROWS = 8192  # at most, of rows out of core that represent all


def rows_per_batch(n_columns: int) -> int:
    """Rows of one batch, so that a float64 array of `n_columns` columns stays small."""
    return max(SMALLEST_BATCH, BATCH_BYTES // (8 * n_columns))
