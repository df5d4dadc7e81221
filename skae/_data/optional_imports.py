"""Imports of packages that only an extra of skae installs."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def import_optional(module: str, *, extra: str) -> Any:
    """Import a module; if it is missing, the ImportError names the extra that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is needed here: pip install 'skae[{extra}]'") from error
