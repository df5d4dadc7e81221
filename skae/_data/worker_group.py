"""Processes that hold parts of the rows of one fit: sums and extremes over all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed import AllreduceOptions, BroadcastOptions, ProcessGroupGloo, ReduceOp

MESSAGE_BYTES = 4096  # at most, of an error that one process tells the others
KINDS = {"TypeError": TypeError, "ValueError": ValueError}


class LostWorkerError(RuntimeError):
    """Another process ended, or did not answer in time."""


class StoppedError(RuntimeError):
    """The fit shall end, as nobody waits for its result."""


class WorkerGroup:
    """One process among several that take the same steps, each with its own rows.

    All of them must call the same methods in the same order. Each call waits for the others, for
    at most the time limit. There is no global state, so that a process may be in several groups.

    Parameters
    ----------
    store : torch.distributed.Store
        Where the processes find each other.
    rank : int
        Number of this process, from zero.
    size : int
        Number of processes.
    host : str
        Address of this process, at which the others reach it.
    timeout : float
        Time limit in seconds.
    """

    def __init__(self, store: Any, rank: int, size: int, host: str, timeout: float):
        self.store, self.rank, self.size = store, rank, size
        gloo: Any = ProcessGroupGloo
        options = gloo._Options()
        options._timeout = timedelta(seconds=timeout)
        options._devices = [gloo.create_device(hostname=host)]
        self.group = self._within_limit(lambda: gloo(store, rank, size, options))

    def _within_limit(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except RuntimeError as error:
            raise LostWorkerError(
                f"Process {self.rank} of {self.size} has lost another one: {error}"
            ) from error

    def _reduce(self, values: Any, operation: Any) -> Any:
        """Reduce a tensor in place; arrays and numbers are copied."""
        if isinstance(values, Tensor):
            tensor = values
        else:
            tensor = torch.from_numpy(np.array(values, ndmin=1))
        if self.size > 1 and tensor.numel():
            options = AllreduceOptions()
            options.reduceOp = operation
            self._within_limit(lambda: self.group.allreduce([tensor], options).wait())
        return tensor if isinstance(values, Tensor) else tensor.numpy().reshape(np.shape(values))

    def sum(self, values: Any) -> Any:
        """Sum over all processes: of a tensor in place, of arrays and numbers as an array."""
        return self._reduce(values, ReduceOp.SUM)

    def lowest(self, values: Any) -> Any:
        """Minimum over all processes."""
        return self._reduce(values, ReduceOp.MIN)

    def highest(self, values: Any) -> Any:
        """Maximum over all processes."""
        return self._reduce(values, ReduceOp.MAX)

    def align(self, tensor: Tensor) -> None:
        """Overwrite a tensor by that of the first process."""
        if self.size > 1:
            self._within_limit(lambda: self.group.broadcast([tensor], BroadcastOptions()).wait())

    def agree(self, function: Callable[[], Any]) -> Any:
        """Result of a check; if it fails in one process, all raise its error."""
        result, problem = None, ""
        try:
            result = function()
        except (TypeError, ValueError) as error:
            kind = "ValueError" if isinstance(error, ValueError) else "TypeError"
            problem = f"{kind}:{error}"
        slots = np.zeros((self.size, MESSAGE_BYTES), np.uint8)
        message = np.frombuffer(problem.encode()[:MESSAGE_BYTES], np.uint8)
        slots[self.rank, : len(message)] = message
        for slot in self.sum(slots):
            kind, _, text = slot.tobytes().rstrip(b"\0").decode(errors="ignore").partition(":")
            if kind:
                raise KINDS[kind](text)
        return result

    def raise_if_stopped(self) -> None:
        """End in all processes if somebody has set the key "stop" in the store."""
        stopped = self.rank == 0 and self.store.check(["stop"])
        if self.sum(int(stopped)):
            raise StoppedError("The fit was cancelled.")

    def leave(self) -> None:
        """Close the connections, so that processes that wait for this one fail at once."""
        del self.group
