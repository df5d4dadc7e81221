"""Warnings that name the user's line of code."""

from __future__ import annotations

import sys
import warnings

# Packages whose frames lie between a user's call and a warning of skae.
INNER = {"skae", "sklearn", "functools", "contextlib", "torch", "joblib"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn as of the first frame outside skae and the libraries that call it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _package_of(frame.f_globals) in INNER:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _package_of(namespace: dict[str, object]) -> str:
    return str(namespace.get("__name__", "")).split(".")[0]
