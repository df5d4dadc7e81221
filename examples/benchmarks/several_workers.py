"""How much faster is a fit by several workers, and what do they send to each other?

Run from the root of the repository::

    python examples/benchmarks/several_workers.py

Each worker is a process of one thread on this machine. A row of the table is a network and a
number of processes: the time of a step, which is that of the shortest epoch divided by its steps;
the same in processor time of the busiest process, without the time that it waits for others, and
how many times less that is than of one process without Dask ("fit"); the shortest fit; and what
each process sends in a step, 2 (p - 1) / p times the 4 bytes of each weight.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial, wraps

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dask.array as da
import torch
from dask.distributed import Client, LocalCluster

import skae.dask
from skae import AutoencoderTransformer
from skae._training.distributed import DistributedNet
from skae._training.net import AutoencoderNet

N_ROWS, N_FEATURES, N_EPOCHS = 60_000, 100, 6
NETWORKS = {"128, batches of 256": ((128,), 256), "1024, batches of 2048": ((1024,), 2048)}


def record_epochs():
    """Let the nets of this process record the seconds of each epoch, as `DistributedNet.times`."""
    for kind in (AutoencoderNet, DistributedNet):
        kind.times, kind.run_single_epoch = [], timed(kind.run_single_epoch, kind)


def timed(method, kind):
    @wraps(method)
    def wrapped(*args, **kwargs):
        started = time.perf_counter(), time.process_time()
        method(*args, **kwargs)
        kind.times.append((time.perf_counter() - started[0], time.process_time() - started[1]))

    return wrapped


def shortest_epoch(kind):
    """Seconds, and seconds of the processor, of the shortest epoch since the last call."""
    best = [min(each) for each in zip(*kind.times, strict=True)]
    kind.times.clear()
    return best


def show(name, label, n_processes, fit, shortest, n_repeats, alone=None):
    """Fit some times, and print a row of the table; return the processor time of a step."""
    (widths, batch_size), fits = NETWORKS[name], []
    for _ in range(n_repeats):
        model = AutoencoderTransformer(
            8,
            hidden_layer_sizes=widths,
            batch_size=batch_size,
            max_epochs=N_EPOCHS,
            latent_density="gaussian",
            random_state=0,
        )
        started = time.perf_counter()
        fit(model)
        fits.append(time.perf_counter() - started)
    n_steps = -(-int(0.9 * N_ROWS) // batch_size)
    step, processor = (1000 * seconds / n_steps for seconds in shortest())
    n_weights = sum(p.numel() for p in model.net_.module_.parameters())
    sent = 2 * (n_processes - 1) / n_processes * 4 * n_weights / 1e6
    less = 1.0 if alone is None else alone / processor
    print(
        f"| {name} | {label} | {step:.2f} | {processor:.2f} | {less:.2f} | {min(fits):.1f} "
        f"| {sent:.2f} |",
        flush=True,
    )
    return processor


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = da.random.default_rng(0).normal(size=(N_ROWS, N_FEATURES), chunks=(5_000, N_FEATURES))
    rows = rows @ da.random.default_rng(1).normal(size=(N_FEATURES, N_FEATURES))
    here = rows.compute(scheduler="sync")
    record_epochs()
    print(
        "| network | processes | ms a step | ms of the processor | times less | s a fit | MB sent |"
    )
    print("|---|---|---|---|---|---|---|")
    alone = {}
    for name in NETWORKS:
        fit, shortest = lambda model: model.fit(here), partial(shortest_epoch, AutoencoderNet)
        alone[name] = show(name, "fit", 1, fit, shortest, options.repeats)
    for n in options.workers:
        cluster = LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            client.run(record_epochs)
            fit = partial(skae.dask.fit, X=client.persist(rows), client=client)
            for name in NETWORKS:

                def shortest(client=client):
                    return max(client.run(shortest_epoch, DistributedNet).values())

                show(name, n, n, fit, shortest, options.repeats, alone[name])


if __name__ == "__main__":
    main()
