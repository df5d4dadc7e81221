"""Callbacks of the user."""

from __future__ import annotations

from typing import Any

from skorch.callbacks import Callback

BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


def overrides(callback: Any, hook: str) -> bool:
    """Whether a callback, an object or its class, overrides a hook of skorch."""
    kind = callback if isinstance(callback, type) else type(callback)
    return getattr(kind, hook) is not getattr(Callback, hook)


def reads_batches(callbacks: Any) -> bool:
    """Whether any of the user's callbacks overrides a hook that is given batches."""
    items = [item[1] if isinstance(item, tuple) else item for item in callbacks or ()]
    return any(overrides(item, hook) for item in items for hook in BATCH_HOOKS)


def check_callbacks(callbacks: Any) -> None:
    """Refuse objects that are neither skorch callbacks nor (name, callback) pairs."""
    for item in callbacks or ():
        is_pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        callback = item[1] if is_pair else item
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"callbacks holds {item!r}, which is no skorch callback; pass instances of "
                "skorch.callbacks.Callback or (name, callback) pairs."
            )
