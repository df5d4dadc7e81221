"""Explained variance."""

from __future__ import annotations


def explained_share(sse: float, total: float) -> float:
    """Explained share ``1 - sse / total``; if `total` is 0, 1 without an error and else 0."""
    if total > 0:
        return 1 - sse / total
    return 1.0 if sse == 0 else 0.0
