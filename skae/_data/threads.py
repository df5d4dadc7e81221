"""How many threads a piece of work gets.

Threads that share a sum round it differently from one. So little work has one thread, however
many there are: it is hardly slower, and its bits are the same on every worker.
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
    """Use at most `n_threads` of the caller's torch threads inside the block, one for BLAS.

    Parameters
    ----------
    n_threads : int
    """
    with _TORCH_THREADS.at_most(n_threads), _ONE_BLAS_THREAD:
        yield


def algebra_threads(shape: tuple[int, int]) -> AbstractContextManager[Any]:
    """Use one thread of BLAS inside the block if decompositions of a table are little work.

    Parameters
    ----------
    shape : tuple of two int
        Of the table.

    Returns
    -------
    context manager
    """
    n_products = shape[0] * shape[1] * min(shape)
    return _ONE_BLAS_THREAD if n_products < LITTLE_ALGEBRA else nullcontext()


def inference_threads(n_products: int) -> AbstractContextManager[Any]:
    """Use one thread of torch inside the block if a network has little to do.

    Parameters
    ----------
    n_products : int
        Number of rows times number of weights.

    Returns
    -------
    context manager
    """
    return _TORCH_THREADS.at_most(1) if n_products < LITTLE_INFERENCE else nullcontext()


class _TorchThreads:
    """Limits torch's threads, and undoes it.

    The limit is a thread's own, but a new thread begins with the one that was set last, in
    whichever thread. One that begins while another is limited would keep that limit for good
    and hand it on.
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


_TORCH_THREADS = _TorchThreads()
_ONE_BLAS_THREAD = _OneBlasThread()


@cache
def _thread_pools() -> ThreadpoolController:
    """Find the thread pools of this process, once: it takes some milliseconds."""
    return ThreadpoolController()
