"""Seeds of private random generators, and devices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sklearn.utils import check_random_state
from torch import Tensor

from skae._data.array_api import place_of

_GLOBAL_SEED_LOCK = threading.RLock()


def resolve_device(device: str, X: Any = None) -> torch.device:
    """Turn the parameter ``device`` into a torch device that is present on this machine.

    "auto" is the first accelerator, else the CPU. Where scikit-learn dispatches on arrays, the
    device of a tensor X wins; a ValueError says if `device` is another one.
    """
    if isinstance(X, Tensor) and place_of(X) is not None:
        if device != "auto" and not _is_same_device(resolve_device(device), X.device):
            raise ValueError(
                f"{device=}, but X is a tensor on device '{X.device}'; set device='auto' or "
                f"device='{X.device}', or move X."
            )
        return X.device
    if device == "auto":
        present = torch.cuda.is_available(), torch.backends.mps.is_available()
        return torch.device("cuda" if present[0] else "mps" if present[1] else "cpu")
    return _named_device(device)


def _named_device(device: str) -> torch.device:
    """Device of a name, if there is such a device here."""
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            f"{device=} is not a device; use 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'."
        )
    if not _is_present(resolved):
        raise ValueError(
            f"{device=} is absent on this machine (CUDA devices found: "
            f"{torch.cuda.device_count()}); use device='cpu' or device='auto'."
        )
    return resolved


def _is_same_device(one: torch.device, other: torch.device) -> bool:
    return one.type == other.type and (one.index or 0) == (other.index or 0)


def _is_present(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or torch.backends.mps.is_available()


def derive_seeds(random_state: Any, n_seeds: int) -> list[int]:
    """Draw seeds for the private generators of one fit."""
    random = check_random_state(random_state)
    return [int(seed) for seed in random.randint(2**31 - 1, size=n_seeds)]


@contextmanager
def seeded_globally(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore them after it.

    Only a user's module needs this: its initial weights and its dropout come from the global
    generators. Threads share these, so that one block runs at a time.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with _GLOBAL_SEED_LOCK, torch.random.fork_rng(devices=devices):
        torch.random.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield
