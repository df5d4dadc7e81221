"""Threads of a computation.

Several threads round a sum differently than one. So a small computation gets one thread on
every machine: it is hardly slower, and its bits are the same everywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

LITTLE_INFERENCE = 20_000_000  # multiplications of rows and weights: some milliseconds
LITTLE_ALGEBRA = 200_000_000  # of a decomposition of all rows: some tenths of a second


@contextmanager
def limited_threads(n_threads: int) -> Iterator[None]:
    """Use at most `n_threads` of torch's threads inside the block, and one of BLAS."""
    with _TORCH_THREADS.at_most(n_threads), _ONE_BLAS_THREAD:
        yield


def algebra_threads(shape: tuple[int, int]) -> AbstractContextManager[Any]:
    """Use one thread of BLAS inside the block if decomposing a table of this shape is fast."""
    n_products = shape[0] * shape[1] * min(shape)
    return _ONE_BLAS_THREAD if n_products < LITTLE_ALGEBRA else nullcontext()


def inference_threads(n_products: int) -> AbstractContextManager[Any]:
    """Use one thread of torch inside the block if rows times weights are few."""
    return _TORCH_THREADS.at_most(1) if n_products < LITTLE_INFERENCE else nullcontext()


def threads_of_batches(n_batches: int) -> AbstractContextManager[Any]:
    """Use one thread of BLAS inside the block if torch has several, for more than one batch.

    Threads of numpy and of torch that take turns would wait for each other.
    """
    together = n_batches > 1 and torch.get_num_threads() > 1
    return _ONE_BLAS_THREAD if together else nullcontext()


class _TorchThreads:
    """Limits torch's threads, and lifts the limit after the block.

    The limit belongs to a thread. But a new thread starts with the limit that any thread has set
    last: it would keep the limit of a block that is running elsewhere.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.local = threading.local()
        self.n_inside = 0
        self.unlimited = 0

    @contextmanager
    def at_most(self, n_threads: int) -> Iterator[None]:
        """Use at most so many threads inside the block."""
        with self.lock:
            before = torch.get_num_threads()
            self.n_inside += 1
            if self.n_inside == 1:
                self.unlimited = before
            is_new = not hasattr(self.local, "is_known")
            self.local.is_known = True
            torch.set_num_threads(min(before, n_threads))
        try:
            yield
        finally:
            with self.lock:
                self.n_inside -= 1
                torch.set_num_threads(max(before, self.unlimited) if is_new else before)


class _OneBlasThread:
    """Limits numpy's BLAS to one thread while any block is running.

    The limit belongs to the process: the first block sets it, and the last one lifts it.
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


_TORCH_THREADS = _TorchThreads()
_ONE_BLAS_THREAD = _OneBlasThread()


@cache
def _thread_pools() -> ThreadpoolController:
    """Find the thread pools of this process, once: this takes some milliseconds."""
    return ThreadpoolController()
