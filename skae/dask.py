"""Fit an autoencoder on the workers of a Dask cluster, each on the rows that it holds.

Without this module, `fit` and all methods for rows take Dask arrays and frames, too. It needs
``pip install "skae[dask]"``.
"""

from __future__ import annotations

import time
import uuid
import warnings
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import timedelta
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from torch.distributed import TCPStore

from skae._data.input_checks import as_dense, check_rows
from skae._data.optional_imports import import_optional
from skae._data.partitions import is_frame, is_lazy, sample_of, whole_rows
from skae._data.warnings import warn
from skae._data.worker_group import LostWorkerError, WorkerGroup
from skae._estimators.distributed import check_n_rows, check_supported, fit_share

__all__ = ["fit"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}
POLL = 1.0  # seconds between two looks at the workers
GRACE = 2.0  # seconds in which the cause of a failure may arrive after its effects
CONNECTING = 10.0  # seconds in which the store must answer
_STORES: dict[str, TCPStore] = {}  # in workers: where the processes of a fit find each other


class Meeting(NamedTuple):
    """Where the processes of one fit find each other, and what they do together."""

    token: str
    workers: list[str]  # addresses; the first one has the store
    port: int
    timeout: float
    dtype: str


def fit(
    estimator: Any, X: Any, *, client: Any = None, dtype: str = "float32", timeout: float = 60.0
) -> Any:
    """Fit an autoencoder to rows that are distributed over the workers of a Dask cluster.

    The result does not depend on the number of workers, up to rounding, and up to 64 MiB of rows
    in float32 it is that of ``estimator.fit(X.compute())``. Each worker process passes over its
    own rows; in each step, the gradients are added over all of them.

    Parameters
    ----------
    estimator : AutoencoderTransformer, DenoisingAutoencoder or VAETransformer
        It is fitted in place. It must have an integer or None as `n_components`, the default
        `network`, no callbacks, no `target_weight`, no warm start, and the CPU as `device`.
    X : dask.array.Array or dask.dataframe.DataFrame of shape (n_samples, n_features)
        At least 500 rows. They are computed on the workers and kept there, in memory, until the
        fit ends.
    client : distributed.Client, default=None
        None is the client that was made last.
    dtype : {"float32", "float64"}, default="float32"
        Type in which the network is trained.
    timeout : float, default=60.0
        Seconds that a worker waits for the others in a step, before the fit fails. One pass over
        the rows of a worker must not take longer.

    Returns
    -------
    estimator : object
        The fitted estimator.

    Raises
    ------
    RuntimeError
        If a worker was lost, or did not answer in time. The estimator is unchanged; call `fit`
        again, on the workers that are left.
    ValueError
        If the estimator or the rows do not suit such a fit.

    Examples
    --------
    >>> import skae.dask
    >>> from skae import AutoencoderTransformer
    >>> import dask.array as da  # doctest: +SKIP
    >>> from dask.distributed import Client  # doctest: +SKIP
    >>> client = Client("tcp://scheduler:8786")  # doctest: +SKIP
    >>> X = da.random.normal(size=(10_000_000, 100), chunks=(100_000, 100))  # doctest: +SKIP
    >>> model = skae.dask.fit(AutoencoderTransformer(8), X)  # doctest: +SKIP
    >>> Z = model.transform(X)  # a Dask array of the same partitions  # doctest: +SKIP
    """
    distributed = import_optional("distributed", extra="dask")
    if not is_lazy(X):
        raise TypeError(
            f"X is a {type(X).__name__}, but skae.dask.fit needs a Dask array or frame; call "
            "estimator.fit for rows in memory."
        )
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(map(repr, DTYPES))}.")
    check_supported(estimator)
    check_rows(clone(estimator), sample_of(X), reset=True)
    client = distributed.get_client() if client is None else client
    parts, lengths = _computed_on_workers(client, X)
    shares = _shares(lengths, _holders(client, parts), list(client.nthreads()))
    meeting = _arrange(client, list(shares), timeout, dtype)
    seeded = clone(estimator).set_params(random_state=_seed_of(estimator))
    futures = [
        client.submit(
            _fit_on_worker,
            seeded,
            [parts[i] for i in partitions],
            lengths,
            np.array(partitions),
            meeting,
            rank,
            workers=[worker],
            allow_other_workers=False,
            key=f"skae-fit-{meeting.token}-{rank}",
            retries=0,
        )
        for rank, (worker, partitions) in enumerate(shares.items())
    ]
    try:
        attributes, caught = _watched(client, futures, meeting)
    finally:
        _stop(client, futures, meeting)
    for message, category in caught:
        warn(message, category)
    parameters = estimator.get_params(deep=False)
    kept = {name: value for name, value in vars(estimator).items() if name in parameters}
    vars(estimator).clear()
    vars(estimator).update(kept | attributes)
    return estimator


# -- in the client's process -------------------------------------------------------


def _computed_on_workers(client: Any, X: Any) -> tuple[list[Any], np.ndarray]:
    """Futures of all partitions that have rows, and their numbers of rows."""
    parts = client.compute(np.ravel(whole_rows(X).to_delayed()).tolist())
    lengths = np.array(client.gather(client.map(len, parts, pure=False)))
    check_n_rows(int(lengths.sum()))
    return [parts[i] for i in np.flatnonzero(lengths)], lengths[lengths > 0]


def _holders(client: Any, parts: list[Any]) -> list[str | None]:
    """Address of a worker that has each partition, or None."""
    who_has = client.who_has(parts)
    return [next(iter(who_has.get(part.key, ())), None) for part in parts]


def _shares(
    lengths: np.ndarray, holders: list[str | None], workers: list[str]
) -> dict[str, list[int]]:
    """Partitions of each worker: those that it has, unless others would have fewer rows."""
    load, shares = dict.fromkeys(workers, 0), {worker: [] for worker in workers}  # type: ignore
    limit = lengths.sum() / len(workers) + lengths.max() / 2
    for i in np.argsort(-lengths, kind="stable").tolist():
        worker = holders[i]
        if worker not in load or load[worker] + lengths[i] > limit:
            worker = min(load, key=load.__getitem__)
        load[worker] += int(lengths[i])
        shares[worker].append(i)
    return {worker: sorted(its) for worker, its in shares.items() if its}


def _arrange(client: Any, workers: list[str], timeout: float, dtype: str) -> Meeting:
    """Open the store in which the processes find each other, on the first worker."""
    token = uuid.uuid4().hex
    ports = client.run(_open_store, token, workers[0], timeout, workers=workers[:1])
    return Meeting(token, workers, ports[workers[0]], timeout, dtype)


def _seed_of(estimator: Any) -> int:
    """A seed that is the same in all processes."""
    seed = estimator.random_state
    if isinstance(seed, int | np.integer):
        return int(seed)
    return int(check_random_state(seed).randint(2**31))


def _watched(client: Any, futures: list[Any], meeting: Meeting) -> Any:
    """Result of the first process; an error if any of them fails, or if a worker is lost."""
    while True:
        failed = [future for future in futures if future.status in ("error", "cancelled", "lost")]
        if failed:
            raise _cause(futures)
        if futures[0].status == "finished":
            return futures[0].result()
        if lost := set(meeting.workers) - set(client.nthreads()):
            raise _lost(f"{', '.join(sorted(lost))} left the cluster")
        with suppress(TimeoutError, CancelledError):
            futures[0].exception(timeout=POLL)


def _lost(reason: str) -> RuntimeError:
    return RuntimeError(
        f"A worker was lost, or did not answer in time ({reason}). The estimator is unchanged; "
        "call skae.dask.fit again, with a larger timeout if no worker has ended."
    )


def _cause(futures: list[Any]) -> BaseException:
    """Error that made a fit fail, rather than those of processes that have lost another one."""
    end = time.monotonic() + GRACE
    while True:
        errors = [future.exception() for future in futures if future.status == "error"]
        for error in errors:
            if not isinstance(error, LostWorkerError):
                return error
        if time.monotonic() > end or all(future.status != "pending" for future in futures):
            break
        time.sleep(POLL / 10)
    failure = _lost(str(errors[0]) if errors else "the fit was cancelled")
    failure.__cause__ = errors[0] if errors else None
    return failure


def _stop(client: Any, futures: list[Any], meeting: Meeting) -> None:
    """End all processes of a fit, if they are still running, without waiting for them."""
    if all(future.status == "finished" for future in futures):
        return

    def stop() -> None:
        with suppress(Exception):
            client.cancel(futures, force=True)
            client.run(_close_store, meeting.token, workers=meeting.workers[:1])

    thread = Thread(target=stop, daemon=True)  # a worker may not answer
    thread.start()
    thread.join(GRACE)


# -- in the workers' processes -----------------------------------------------------


def _host_of(worker: str) -> str:
    """Address of a worker's machine."""
    parts = urlsplit(worker)
    return "127.0.0.1" if parts.scheme == "inproc" else parts.hostname or "127.0.0.1"


def _open_store(token: str, worker: str, timeout: float) -> int:
    """Open a store at any free port, and return the port."""
    limit, host = timedelta(seconds=timeout), _host_of(worker)
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=limit)
    _STORES[token] = store
    return store.port


def _close_store(token: str) -> None:
    """Let the processes of a fit stop after the epoch."""
    store = _STORES.pop(token, None)
    if store is not None:
        store.set("stop", "")


def _fit_on_worker(
    estimator: Any,
    parts: list[Any],
    lengths: np.ndarray,
    partitions: np.ndarray,
    meeting: Meeting,
    rank: int,
) -> Any:
    """Fit to all rows, of which this process has some; the first one returns the result."""
    limit, worker = timedelta(seconds=meeting.timeout), meeting.workers[rank]
    host, n_workers = _host_of(meeting.workers[0]), len(meeting.workers)
    X = _joined(parts)
    group = None
    try:
        if rank == 0:
            store = _STORES[meeting.token]
        else:
            estimator.set_params(verbose=0)
            soon = min(limit, timedelta(seconds=CONNECTING))  # the store is open already
            store = TCPStore(
                host, meeting.port, is_master=False, wait_for_workers=False, timeout=soon
            )
            store.set_timeout(limit)
        group = WorkerGroup(store, rank, n_workers, _host_of(worker), meeting.timeout)
        share = estimator, X, lengths, partitions, group, DTYPES[meeting.dtype]
        if rank > 0:
            fit_share(*share)
            return None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit_share(*share)
    finally:
        if group is not None:
            group.leave()
        if rank == 0:
            _STORES.pop(meeting.token, None)
    parameters = estimator.get_params(deep=False)
    attributes = {name: value for name, value in vars(estimator).items() if name not in parameters}
    return attributes, [(str(each.message), each.category) for each in caught]


def _joined(parts: list[Any]) -> Any:
    """Rows of all partitions, which are arrays or frames."""
    if is_frame(parts[0]):
        return import_optional("pandas", extra="dask").concat(parts)
    return np.concatenate([as_dense(part) for part in parts])
