"""Comparisons of errors: explained variance, significant gains."""

from __future__ import annotations

from typing import Any

import numpy as np


def explained_share(sse: float, total: float) -> float:
    """Explained share ``1 - sse / total``; if `total` is 0, 1 without an error and else 0."""
    if total > 0:
        return 1 - sse / total
    return 1.0 if sse == 0 else 0.0


def is_better(
    scores: Any, baseline: Any, *, n_standard_errors: float, weights: np.ndarray | None = None
) -> bool:
    """Whether paired scores (n_rows,) lie below a baseline by that many standard errors.

    With weights, the standard error is that of Kish's effective number of rows.
    """
    gains = np.asarray((baseline - scores).tolist())
    w = np.ones(len(gains)) if weights is None else weights
    n_effective = w.sum() ** 2 / np.square(w).sum()
    gain = np.average(gains, weights=w)
    deviation = np.sqrt(np.average(np.square(gains - gain), weights=w))
    return bool(gain > n_standard_errors * deviation / np.sqrt(n_effective))
