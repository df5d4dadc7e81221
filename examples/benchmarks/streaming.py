"""What does it cost to have the rows in chunks, on disk or sparse, instead of in memory?

Run from the root of the repository::

    python examples/benchmarks/streaming.py --tables DIR
    python examples/benchmarks/streaming.py --parts chunks maps sparse

Quality. Ten passes of `partial_fit` over twenty chunks of the training rows, compared with `fit`
at its defaults and `fit` of ten epochs on the same rows; every estimator, each with its own
defaults. 80 % of the rows are for training. Tables are standardised on them (columns constant
there are dropped) and the other rows clipped to ±10; of Fashion-MNIST 10,000 training images drawn
by ``default_rng(0)``. *Error* is squared error on the other 20 %. IncrementalPCA sees the same
chunks once, which is all it needs. Seconds are of processor time, on one thread unless
``--threads`` says otherwise.

Memory. Each figure is the growth of a process of its own, in MB: *peak* of what is resident beyond
what was before (the rows of a sparse matrix are there before), and for memory maps of *private*
memory, since pages of the file are the system's to take back; they count in the peak.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from denoising import FASHION_DIR, read_images
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import skae
from skae import AutoencoderTransformer, DenoisingAutoencoder, VAETransformer

KINDS = (AutoencoderTransformer, DenoisingAutoencoder, VAETransformer)
N_CHUNKS, N_PASSES = 20, 10
Record = dict[str, Any]


# -- quality -----------------------------------------------------------------------------


def gather(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, int, bool]]:
    """Name, rows, number of components, and whether columns are to be standardised."""
    yield "digits", load_digits().data / 16, 8, False
    if args.tables:
        for name in args.names:
            rows = read_table(args.tables / f"{name}.csv")
            yield name, rows, max(2, rows.shape[1] // 4), True
    if args.fashion_dir.is_dir():
        X = read_images(args.fashion_dir / "train-images-idx3-ubyte.gz")
        yield "Fashion-MNIST", X[np.random.default_rng(0).permutation(len(X))[:10_000]], 16, False
    else:
        print(f"Fashion-MNIST skipped: no folder {args.fashion_dir}; see --fashion-dir")


def read_table(path: Path) -> np.ndarray:
    """All columns of a CSV file but `target`, constant ones left out."""
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    columns = [i for i, name in enumerate(head) if name != "target"]
    X = np.array(rows)[:, columns].astype(float)
    return X[:, X.std(axis=0) > 0]


def split(X: np.ndarray, seed: int, standardise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to test with."""
    train, test = train_test_split(X, test_size=0.2, random_state=seed)
    if not standardise:
        return train, test
    varying = train.std(axis=0) > 0
    scaler = StandardScaler().fit(train[:, varying])
    return scaler.transform(train[:, varying]), scaler.transform(test[:, varying]).clip(-10, 10)


def stream(model: Any, X: np.ndarray, n_passes: int = N_PASSES) -> Any:
    """Follow the rows chunk by chunk, several times."""
    for _ in range(n_passes):
        for chunk in np.array_split(X, N_CHUNKS):
            model.partial_fit(chunk)
    return model


def lost(model: Any, X: np.ndarray) -> float:
    """Squared error of the reconstruction."""
    return float(np.square(X - model.inverse_transform(model.transform(X))).sum())


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Result and seconds of a call, of processor time."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = function()
    return result, time.process_time() - start


def measure_quality(kind: type, train: np.ndarray, test: np.ndarray, k: int, seed: int) -> Record:
    """Errors and seconds of one kind on one split."""
    model = kind(k, random_state=seed)
    models = {
        "stream": timed(lambda: stream(clone(model), train)),
        "fit": timed(lambda: clone(model).fit(train)),
        "short": timed(lambda: clone(model).set_params(max_epochs=N_PASSES).fit(train)),
        "incremental": timed(lambda: stream(IncrementalPCA(k), train, 1)),
        "pca": timed(lambda: PCA(k, svd_solver="full").fit(train)),
    }
    record: Record = {"kind": kind.__name__, "seed": seed, "k": k}
    for name, (fitted, seconds) in models.items():
        record[name] = {
            "test": lost(fitted, test),
            "train": lost(fitted, train),
            "seconds": seconds,
        }
    return record


def ratio(records: list[Record], one: str, other: str, rows: str) -> float:
    """Geometric mean over splits of one model's error over another's."""
    return float(np.exp(np.mean([np.log(r[one][rows] / r[other][rows]) for r in records])))


def measure_all_quality(args: argparse.Namespace) -> list[Record]:
    """Measure every kind on every table, and print."""
    print("| table | k | estimator | stream / fit | stream / fit, training rows ", end="")
    print("| stream / fit of 10 epochs | fit / PCA | stream / IncrementalPCA ", end="")
    print("| stream, s | fit, s | fit of 10 epochs, s |")
    print("|---" * 11 + "|")
    results = []
    for name, X, k, standardise in gather(args):
        for kind in KINDS:
            records = [
                {"table": name, **measure_quality(kind, *split(X, s, standardise), k, s)}
                for s in range(args.seeds)
            ]
            figures = [
                ratio(records, "stream", "fit", "test"),
                ratio(records, "stream", "fit", "train"),
                ratio(records, "stream", "short", "test"),
                ratio(records, "fit", "pca", "test"),
                ratio(records, "stream", "incremental", "test"),
            ]
            seconds = [
                np.mean([r[name]["seconds"] for r in records])
                for name in ("stream", "fit", "short")
            ]
            cells = [f"{f:.2f}" for f in figures] + [f"{s:.1f}" for s in seconds]
            print(f"| {name} | {k} | {kind.__name__} | {' | '.join(cells)} |", flush=True)
            results += records
    return results


# -- memory ------------------------------------------------------------------------------

PROLOGUE = """
import json, sys, time
import numpy as np
import skae
from scipy import sparse
from sklearn.decomposition import IncrementalPCA, TruncatedSVD

def status(field):
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024  # MB

def forget_peak():
    open("/proc/self/clear_refs", "w").write("5")
    return status("VmRSS")

def make(name, k, **params):
    if name in ("IncrementalPCA", "TruncatedSVD"):
        return {"IncrementalPCA": IncrementalPCA, "TruncatedSVD": TruncatedSVD}[name](k)
    return getattr(skae, name)(k, random_state=0, **params)

given = json.loads(sys.argv[1])
small = np.random.default_rng(0).normal(size=(600, 20))
make("AutoencoderTransformer", 2).partial_fit(small)
make("AutoencoderTransformer", 2, max_epochs=1).fit(small).score(small)
"""
CHUNKS = """
random = np.random.default_rng(0)
model = make(given["kind"], 8)
axes = random.normal(size=(8, 50))
def chunk():
    codes = random.normal(size=(1000, 8))
    return np.tanh(codes) @ axes + 0.1 * random.normal(size=(1000, 50))
model.partial_fit(chunk())
before, start = forget_peak(), time.process_time()
for _ in range(given["n_chunks"]):
    model.partial_fit(chunk())
print(json.dumps({"peak": status("VmHWM") - before, "seconds": time.process_time() - start}))
"""
MAPS = """
import threading
class Watch(threading.Thread):  # of private memory, every 5 ms
    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.over = 0.0, threading.Event()
    def run(self):
        while not self.over.wait(0.005):
            self.most = max(self.most, status("RssAnon"))
X = np.load(given["path"], mmap_mode="r")
model = make(given["kind"], 8, max_epochs=given["max_epochs"], batch_size=1000)
before, private = forget_peak(), status("RssAnon")
watch = Watch()
watch.start()
start = time.process_time()
model.fit(X)
seconds = time.process_time() - start
watch.over.set()
print(json.dumps({
    "private": watch.most - private, "peak": status("VmHWM") - before, "seconds": seconds}))
"""
SPARSE = """
random = np.random.default_rng(0)
n_rows = given["n_rows"]
columns = random.integers(0, 10_000, 50 * n_rows)  # half a percent
ends = np.arange(0, len(columns) + 1, 50)
values = random.poisson(1, len(columns)) + 1.0
X = sparse.csr_array((values, columns, ends), shape=(n_rows, 10_000))
X.sum_duplicates()
before, start = forget_peak(), time.process_time()
params = {} if given["max_epochs"] is None else {"max_epochs": given["max_epochs"]}
make(given["kind"], 8, **params).fit(X)
seconds = time.process_time() - start
print(json.dumps({"peak": status("VmHWM") - before, "seconds": seconds}))
"""


def in_own_process(code: str, **given: Any) -> Record:
    """Run a script that prints its figures."""
    command = [sys.executable, "-c", PROLOGUE + code, json.dumps(given)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return {**given, **json.loads(result.stdout)}


def measure_chunks(args: argparse.Namespace) -> list[Record]:
    """Peak memory against the number of chunks of 1,000 x 50."""
    print("| chunks of 1,000 × 50 | estimator | peak, MB | s |")
    print("|---" * 4 + "|")
    results = []
    names = [kind.__name__ for kind in KINDS]
    for n_chunks in args.chunks:
        for kind in [*names[: 1 if n_chunks >= 1000 else None], "IncrementalPCA"]:
            record = in_own_process(CHUNKS, kind=kind, n_chunks=n_chunks)
            print(
                f"| {n_chunks} | {kind} | {record['peak']:.0f} | {record['seconds']:.1f} |",
                flush=True,
            )
            results.append(record)
    return results


def measure_maps(args: argparse.Namespace) -> list[Record]:
    """Memory of a fit against the size of the file."""
    print("| file, GB | rows | estimator | private, MB | peak, MB | s |")
    print("|---" * 6 + "|")
    results = []
    for size in args.gigabytes:
        n_rows = int(size * 1e9 / (100 * 4))
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            path = Path(folder) / "rows.npy"
            write_map(path, n_rows)
            for kind in KINDS[: None if size == min(args.gigabytes) else 1]:
                record = in_own_process(
                    MAPS, kind=kind.__name__, path=str(path), max_epochs=args.map_epochs
                )
                print(
                    f"| {size:g} | {n_rows:,} | {kind.__name__} | {record['private']:.0f} "
                    f"| {record['peak']:.0f} | {record['seconds']:.1f} |",
                    flush=True,
                )
                results.append({**record, "gigabytes": size})
    return results


def write_map(path: Path, n_rows: int) -> None:
    """Write rows of 100 float32 columns on a curved surface, some at a time."""
    random = np.random.default_rng(0)
    axes = random.normal(size=(8, 100))
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, 100))
    for start in range(0, n_rows, 50_000):
        part = X[start : start + 50_000]
        codes = np.tanh(2 * random.normal(size=(len(part), 8)))
        part[:] = codes @ axes + 0.1 * random.normal(size=part.shape)
    X.flush()


def measure_sparse(args: argparse.Namespace) -> list[Record]:
    """Memory and time of fits of a sparse matrix, 0.5 % of 10,000 columns."""
    print("| rows | estimator | epochs | peak, MB | s |")
    print("|---" * 5 + "|")
    results = []
    n_rows = args.sparse_rows
    cases: list[tuple[str, int | None]] = [("TruncatedSVD", None)]
    cases += [(kind.__name__, args.sparse_epochs) for kind in KINDS]
    for kind, epochs in cases:
        params = {} if epochs is None else {"max_epochs": epochs}
        record = in_own_process(SPARSE, kind=kind, n_rows=n_rows, **{"max_epochs": None, **params})
        print(
            f"| {n_rows:,} | {kind} | {epochs or '–'} | {record['peak']:.0f} "
            f"| {record['seconds']:.1f} |",
            flush=True,
        )
        results.append(record)
    return results


PARTS: dict[str, Callable[[argparse.Namespace], list[Record]]] = {
    "quality": measure_all_quality,
    "chunks": measure_chunks,
    "maps": measure_maps,
    "sparse": measure_sparse,
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3, help="splits of the quality part")
    parser.add_argument("--tables", type=Path, help="folder of CSV files")
    parser.add_argument("--names", nargs="+", default=["page-blocks", "abalone", "kddcup"])
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--chunks", nargs="+", type=int, default=[20, 200, 1000])
    parser.add_argument("--gigabytes", nargs="+", type=float, default=[0.1, 0.5, 1, 2])
    parser.add_argument("--map-epochs", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where memory maps are written")
    parser.add_argument("--sparse-rows", type=int, default=20_000)
    parser.add_argument("--sparse-epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    packages = ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "torch"))
    versions = f"python {platform.python_version()}, skae {skae.__version__}, {packages}"
    print(f"versions: {versions}; threads={args.threads}")
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {"versions": versions}
    with threadpool_limits(args.threads):
        for part in args.parts:
            print()
            results[part] = PARTS[part](args)
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
