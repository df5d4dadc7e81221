"""Arrays in and out: checks, devices, private random numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data
from torch import Tensor

from skae._data.array_api import place_of, to_numpy, widest

FLOAT_DTYPES = (np.float64, np.float32)
ROUNDING = 1e-6
SMALLEST_BATCH = 64  # rows
BATCH_BYTES = 4 * 2**20  # of an intermediate array in float64: it stays in the cache
_GLOBAL_SEED_LOCK = threading.RLock()


def check_rows(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Validate data rows against an estimator and set or check its features.

    Parameters
    ----------
    estimator : estimator
        Receives ``n_features_in_`` and ``feature_names_in_`` if `reset`.
    X : array-like or sparse matrix or array of shape (n_samples, n_features)
    reset : bool
        Whether this is `fit` (features are learned) or later (features are checked).

    Returns
    -------
    X : ndarray or CSR matrix or array of shape (n_samples, n_features)
        float64 or float32, save that numbers on disk keep their type: `as_dense` converts
        parts of them. The user's own where no conversion was needed; never written to.
    """
    kept = is_memory_mapped(X) and X.dtype.kind in "iuf"
    dtype = None if kept else float_dtypes(X)
    X = validate_data(estimator, X, dtype=dtype, accept_sparse="csr", reset=reset)
    if sparse.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def float_dtypes(X: Any) -> tuple[Any, ...]:
    """Float types that rows may have: those of torch for tensors that are followed.

    Parameters
    ----------
    X : object

    Returns
    -------
    tuple
        The first is what others are converted to.
    """
    if not (isinstance(X, Tensor) and place_of(X)):
        return FLOAT_DTYPES
    if widest(torch.float64, X.device) == torch.float32:
        return (torch.float32,)
    return torch.float64, torch.float32


def is_memory_mapped(X: Any) -> bool:
    """Whether an array is a memory map, or a part of one.

    Parameters
    ----------
    X : object

    Returns
    -------
    bool
    """
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


def as_dense(X: Any) -> Any:
    """Rows that can be computed with.

    Parameters
    ----------
    X : ndarray, Tensor or sparse matrix or array of shape (n_rows, n_features)

    Returns
    -------
    ndarray or Tensor of shape (n_rows, n_features), float64 or float32
        X itself if it is dense and has one of these types.
    """
    if isinstance(X, Tensor):
        return X
    X = X.toarray() if sparse.issparse(X) else X
    return X if X.dtype in FLOAT_DTYPES else X.astype(np.float64)


def as_numpy(X: Any) -> np.ndarray:
    """Rows that numpy can compute with.

    Parameters
    ----------
    X : ndarray, Tensor or sparse matrix or array of shape (n_rows, n_features)

    Returns
    -------
    ndarray of shape (n_rows, n_features), float64 or float32
    """
    return to_numpy(as_dense(X))


def take_rows(X: Any, index: Any) -> Any:
    """Rows of an array, wherever it is.

    Parameters
    ----------
    X : ndarray, Tensor or CSR matrix or array of shape (n_rows, n_features)
    index : slice or ndarray

    Returns
    -------
    ndarray, Tensor or CSR matrix or array
    """
    if isinstance(X, Tensor) and isinstance(index, np.ndarray):
        index = torch.from_numpy(index).to(X.device)
    return X[index]


def check_weights(
    sample_weight: Any, X: Any, *, scaled: bool = True
) -> tuple[Any, np.ndarray | None]:
    """Validate weights of rows, drop rows of weight zero, and say what the weights count.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), number or None
    X : ndarray or CSR matrix or array of shape (n_samples, n_features)
    scaled : bool, default=True
        Whether weights other than integers are scaled to a mean of one.

    Returns
    -------
    X : ndarray or CSR matrix or array of shape (n_kept, n_features)
        Copied if any row was dropped.
    weights : ndarray of shape (n_kept,), float64, or None
        Integers are kept: each counts the rows that one row stands for. None if all are one.

    Raises
    ------
    ValueError
        If weights are negative, not finite, all zero, or not one a row.
    """
    if sample_weight is None:
        return X, None
    weights = _check_sample_weight(
        to_numpy(sample_weight),
        np.empty((X.shape[0], 0)),  # of which only the length counts
        dtype=np.float64,
        ensure_non_negative=True,
    )
    kept = weights > 0
    if not kept.any():
        raise ValueError(
            "sample_weight is zero for all rows, so that none is left; at least one must be "
            "positive."
        )
    if not kept.all():
        X, weights = take_rows(X, kept), weights[kept]
    if scaled and (weights % 1 != 0).any():
        weights = weights / weights.mean()
    return X, None if (weights == 1).all() else weights


def sort_and_repeat(
    X: Any, weights: np.ndarray | None, *, below: int
) -> tuple[Any, np.ndarray | None]:
    """Write few rows out in sorted order, each as often as it counts.

    Then rows that count several times are no other table than the same rows repeated, in
    any order, whatever is drawn at random.

    Parameters
    ----------
    X : ndarray or CSR matrix or array of shape (n_rows, n_features)
    weights : ndarray of shape (n_rows,), or None
        As `check_weights` returns them.
    below : int
        Number of rows, written out, from which on they are left alone.

    Returns
    -------
    X : ndarray or CSR matrix or array
    weights : ndarray, or None
    """
    if X.shape[0] >= below or (weights is not None and (weights % 1 != 0).any()):
        return X, weights
    counts = np.ones(X.shape[0], dtype=int) if weights is None else weights
    if counts.sum() >= below:
        return X, weights
    X = np.repeat(as_numpy(X), counts.astype(int), axis=0)
    return X[np.lexsort(X.T[::-1])], None


def check_validation_rows(estimator: Any, X_val: Any) -> Any:
    """Validate rows given to judge weights by.

    Parameters
    ----------
    estimator : estimator
        Its features are those of the training rows already.
    X_val : array-like or sparse matrix or array of shape (n_held_out, n_features)

    Returns
    -------
    X_val : ndarray or CSR matrix or array

    Raises
    ------
    ValueError
        Whatever is wrong, naming X_val.
    """
    try:
        return check_rows(estimator, X_val, reset=False)
    except ValueError as error:
        raise ValueError(f"X_val does not suit X: {error}") from error


def weighted_average(values: Any, weights: np.ndarray | None) -> float:
    """Mean of numbers, weighted where there are weights.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
    weights : ndarray of shape (n_rows,), or None

    Returns
    -------
    float
    """
    return float(np.average(values, weights=weights))


def check_codes(Z: Any, n_components: int, *, accept_sparse: str | bool = False) -> Any:
    """Validate codes that are to be decoded.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
    n_components : int
    accept_sparse : str or bool, default=False
        Format that codes may have, as in scikit-learn's `check_array`.

    Returns
    -------
    Z : ndarray of shape (n_samples, n_components), float64 or float32

    Raises
    ------
    ValueError
        If the number of columns is not `n_components`.
    """
    Z = check_array(Z, dtype=float_dtypes(Z), input_name="X", accept_sparse=accept_sparse)
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
    low, high = float(X.min()), float(X.max())
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
    return max(SMALLEST_BATCH, BATCH_BYTES // (8 * n_columns))


def explained_share(sse: float, total: float) -> float:
    """Share of a sum of squares that is not lost.

    Parameters
    ----------
    sse : float
    total : float

    Returns
    -------
    float
        Without anything to explain, 1 if nothing is lost, else 0, as scikit-learn's
        `r2_score`.
    """
    if total > 0:
        return 1 - sse / total
    return 1.0 if sse == 0 else 0.0


def is_better(
    scores: Any, baseline: Any, *, n_standard_errors: float, weights: np.ndarray | None = None
) -> bool:
    """Whether paired scores lie below a baseline's by so many standard errors of the mean.

    Parameters
    ----------
    scores, baseline : Tensor or ndarray of shape (n_rows,)
        Lower is better.
    n_standard_errors : float
    weights : ndarray of shape (n_rows,), default=None
        Of the rows. The standard error is that of Kish's effective number of rows.

    Returns
    -------
    bool
    """
    gains = np.asarray((baseline - scores).tolist())
    w = np.ones(len(gains)) if weights is None else weights
    n_effective = w.sum() ** 2 / np.square(w).sum()
    gain = np.average(gains, weights=w)
    spread = np.sqrt(np.average(np.square(gains - gain), weights=w))
    return bool(gain > n_standard_errors * spread / np.sqrt(n_effective))


def resolve_device(device: str, X: Any = None) -> torch.device:
    """Turn the ``device`` parameter into a device that is present.

    That of a tensor wins where scikit-learn follows arrays: nothing is moved silently.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``: the first
        accelerator that is present, else the CPU.
    X : object, default=None
        Training rows.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the name is no device, the device is absent, or it is not that of X.
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
