"""Arrays in and out: checks, devices, private random numbers, thread limits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, validate_data
from threadpoolctl import ThreadpoolController

FLOAT_DTYPES = (np.float64, np.float32)
ROUNDING = 1e-6
BATCH_BYTES = 4 * 2**20  # of an intermediate array in float64: it stays in the cache
_GLOBAL_SEED_LOCK = threading.RLock()


def check_rows(estimator: Any, X: Any, *, reset: bool) -> np.ndarray:
    """Validate data rows against an estimator and set or check its features.

    Parameters
    ----------
    estimator : estimator
        Receives ``n_features_in_`` and ``feature_names_in_`` if `reset`.
    X : array-like of shape (n_samples, n_features)
    reset : bool
        Whether this is `fit` (features are learned) or later (features are checked).

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float64 or float32
        The user's own array where no conversion was needed; never written to.
    """
    return validate_data(estimator, X, dtype=FLOAT_DTYPES, reset=reset)


def check_codes(Z: Any, n_components: int) -> np.ndarray:
    """Validate codes that are to be decoded.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
    n_components : int

    Returns
    -------
    Z : ndarray of shape (n_samples, n_components), float64 or float32

    Raises
    ------
    ValueError
        If the number of columns is not `n_components`.
    """
    Z = check_array(Z, dtype=FLOAT_DTYPES, input_name="X")
    if Z.shape[1] != n_components:
        raise ValueError(
            f"X has {Z.shape[1]} columns, but inverse_transform expects codes of "
            f"n_components_={n_components} columns, as transform returns them."
        )
    return Z


def check_unit_interval(X: np.ndarray, parameter: str, instead: str) -> None:
    """Refuse rows outside [0, 1], save for the rounding of what scaled them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    parameter, instead : str
        What needs such rows, and what does not.

    Raises
    ------
    ValueError
    """
    low, high = X.min(), X.max()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(
            f"{parameter} needs X within [0, 1], but it spans [{low:.6g}, {high:.6g}]; scale "
            f"it, as with MinMaxScaler(clip=True), or use {instead}."
        )


def rows_per_batch(n_columns: int) -> int:
    """Rows of one inference batch, so that an array of this width stays small.

    Parameters
    ----------
    n_columns : int

    Returns
    -------
    int
    """
    return max(64, BATCH_BYTES // (8 * n_columns))


def explained_share(lost: float, total: float) -> float:
    """Share of a sum of squares that is not lost.

    Parameters
    ----------
    lost : float
    total : float

    Returns
    -------
    float
        Without anything to explain, 1 if nothing is lost, else 0, as scikit-learn's
        `r2_score`.
    """
    if total > 0:
        return 1 - lost / total
    return 1.0 if lost == 0 else 0.0


def is_better(scores: Any, baseline: Any, *, n_errors: float) -> bool:
    """Whether paired scores lie below a baseline's by so many standard errors of the mean.

    Parameters
    ----------
    scores, baseline : Tensor or ndarray of shape (n_rows,)
        Lower is better.
    n_errors : float

    Returns
    -------
    bool
    """
    gains = np.asarray((baseline - scores).tolist())
    return bool(gains.mean() > n_errors * gains.std() / np.sqrt(len(gains)))


def resolve_device(device: str) -> torch.device:
    """Turn the ``device`` parameter into a device that is present.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``: the first
        accelerator that is present, else the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the name is no device or the device is absent.
    """
    if device == "auto":
        present = torch.cuda.is_available(), torch.backends.mps.is_available()
        return torch.device("cuda" if present[0] else "mps" if present[1] else "cpu")
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


def _is_present(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return True


def derive_seeds(random_state: Any, n_seeds: int) -> list[int]:
    """Draw seeds for the private generators of one fit.

    Parameters
    ----------
    random_state : int, RandomState instance or None
    n_seeds : int

    Returns
    -------
    list of int
    """
    random = check_random_state(random_state)
    return [int(seed) for seed in random.randint(2**31 - 1, size=n_seeds)]


@contextmanager
def seeded_globally(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it.

    Only for code that is not ours (a user's module draws its weights and its dropout
    from the global generator). One block at a time: the generator is shared by threads.

    Parameters
    ----------
    seed : int
    device : torch.device
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with _GLOBAL_SEED_LOCK, torch.random.fork_rng(devices=devices):
        torch.random.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Leave an estimator as it was if the block fails or is interrupted.

    Parameters
    ----------
    estimator : estimator
    """
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


@contextmanager
def limited_threads(n_threads: int) -> Iterator[None]:
    """Use at most `n_threads` of the caller's torch threads inside the block, one for BLAS.

    Parameters
    ----------
    n_threads : int
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, n_threads))
    try:
        with _ONE_BLAS_THREAD:
            yield
    finally:
        torch.set_num_threads(before)


class _OneBlasThread:
    """Limits numpy's BLAS to one thread while any block is inside.

    The limit is the process's own: of blocks in several threads, the first sets it and the
    last lifts it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_inside = 0

    def __enter__(self) -> None:
        with self.lock:
            if self.n_inside == 0:
                self.limit = _thread_pools().limit(limits=1, user_api="blas")
            self.n_inside += 1

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.n_inside -= 1
            if self.n_inside == 0:
                self.limit.restore_original_limits()


_ONE_BLAS_THREAD = _OneBlasThread()


@cache
def _thread_pools() -> ThreadpoolController:
    """Find the thread pools of this process, once: it takes some milliseconds."""
    return ThreadpoolController()


def import_optional(module: str, *, extra: str) -> Any:
    """Import a module that one of skae's extras installs.

    Parameters
    ----------
    module : str
    extra : str

    Returns
    -------
    module

    Raises
    ------
    ImportError
        Naming the extra that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is needed here: pip install 'skae[{extra}]'") from error
