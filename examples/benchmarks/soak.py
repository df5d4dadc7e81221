"""Does a fitted model stay the same under load, and does memory stay bounded over many fits?

Run from the root of the repository::

    python examples/benchmarks/soak.py
    python examples/benchmarks/soak.py --calls 1000 --fits 100

Calls. Threads share one fitted estimator and transform the same rows, as the requests of a
service do. Every result must have the bits of the first one; the number of those that differ is
printed.

Fits. One process fits an estimator again and again. Resident memory is read after a warm-up, in
which libraries fill their caches, and after the last fit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, TableAutoencoder, VAETransformer

N_THREADS = 8
KINDS = {
    "AutoencoderTransformer": AutoencoderTransformer(2, max_epochs=2, random_state=0),
    "VAETransformer": VAETransformer(2, max_epochs=2, random_state=0),
    "TableAutoencoder": TableAutoencoder(
        2, max_epochs=2, column_layer_sizes=4, n_networks=1, random_state=0
    ),
}


def resident_megabytes() -> float:
    """Resident memory of this process, as the operating system sees it."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


def soak_calls(estimator: Any, X: np.ndarray, n_calls: int) -> dict[str, Any]:
    """Transform rows from several threads; count the results with other bits."""
    expected = estimator.transform(X)
    start_together = threading.Barrier(N_THREADS)

    def n_different(n: int) -> int:
        start_together.wait()
        return sum(not np.array_equal(estimator.transform(X), expected) for _ in range(n))

    shares = [n_calls // N_THREADS + (i < n_calls % N_THREADS) for i in range(N_THREADS)]
    start = time.perf_counter()
    with ThreadPoolExecutor(N_THREADS) as threads:
        different = sum(threads.map(n_different, shares))
    seconds = time.perf_counter() - start
    return {"calls": sum(shares), "different": different, "seconds": round(seconds, 1)}


def soak_fits(estimator: Any, X: np.ndarray, n_fits: int, n_warm: int) -> dict[str, Any]:
    """Fit again and again; measure by how much the process grows."""
    for _ in range(n_warm):
        estimator.fit(X).transform(X)
    before, start = resident_megabytes(), time.perf_counter()
    for _ in range(n_fits):
        estimator.fit(X).transform(X)
    seconds = time.perf_counter() - start
    growth = resident_megabytes() - before
    return {
        "fits": n_fits,
        "MB after the warm-up": round(before, 1),
        "MB more": round(growth, 1),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--fits", type=int, default=1_000)
    parser.add_argument("--warm-up", type=int, default=100, help="fits before memory is read")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    records = {}
    for name in args.kinds:
        fits = soak_fits(KINDS[name], X[:100, :8], args.fits, args.warm_up)
        calls = soak_calls(KINDS[name].fit(X[:, :8]), X[:100, :8], args.calls)
        records[name] = {"calls": calls, "fits": fits}
        print(name, json.dumps(records[name]), flush=True)
    if args.output:
        args.output.write_text(json.dumps(records, indent=1))
    return int(any(record["calls"]["different"] for record in records.values()))


if __name__ == "__main__":
    sys.exit(main())
