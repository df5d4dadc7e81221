"""How fast does skae train, encode, fit and search? Against peers, on one machine.

Run from the root of the repository::

    python examples/benchmarks/speed.py
    python examples/benchmarks/speed.py --sizes S M L XL --memory --output speed.json
    python examples/benchmarks/speed.py --tables search
    python examples/benchmarks/speed.py --tables train --sizes L --device cuda
    python examples/benchmarks/speed.py --tables sparse weighted

Protocol. All figures are medians over ``--repeats`` after a fit that is not timed; within
each repeat methods take turns, and each repeat starts with another one, so that they share
whatever the machine does. Threads are torch's and BLAS's own number unless a method names
its number. Rows are synthetic: curved functions of a few numbers, plus noise.

*train*: same architecture (d-64-4-64-d, say), rows in float32, batch size, epochs and rate
for all; AdamW, but Adam for MLPRegressor, which has no other. Each method fits with two
numbers of epochs, and the difference counts: what happens once a fit cancels, and is
printed as *set-up* (for PCA, the floor: the whole fit). *± %* is half the range of an
epoch's time over the repeats; where it is large, more repeats are needed. skae clips
gradients and averages weights as it always does, peers do not. *Best peer*: the fastest of
all but skae and PCA. On ``--device cuda`` MLPRegressor and PCA stay on the processor.
*GFLOP/s* counts the matrix products of the plain network; the three further ones of the PCA
skip connection are not counted. *% products* compares with the same products alone, written
to arrays made before, by numpy and torch, on one thread and two, whichever is fastest.
*Peak* (``--memory``) is how far resident memory rises above what it was before the fit, in
a process of its own for each method. Size XL is read from a memory map on disk by every
method; the pages that are read count as resident.

*inference*: one row of float64 at a time, and 100,000 rows of float32 at once beside the
network's own `encode` on the same rows, whole or in batches of 8,192, whichever is faster.

*growth*: how the time of whole fits grows at fixed epochs. Other figures of whole fits are those of
``fits.py``.

*search*: a grid search of 5 latent dimensions over 5 folds with two workers, twice (the
first one starts them), processor time over wall time, and memory over many fits.

*sparse*: the median epoch over CSR rows beside that over the same rows as a dense array; default
network, 16 components, no validation.

*weighted*: default fits end to end, with `sample_weight` and without.

A peer is one function that trains on rows for some epochs: add it to ``METHODS``.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from quality_vs_pca import describe_machine, in_turn
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from skorch.callbacks import EpochTimer
from threadpoolctl import threadpool_limits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skae import AutoencoderTransformer, VAETransformer
from skae.metrics import reconstruction_score

LR = 1e-3
BULK_ROWS = 100_000
BULK_BATCH = 8192
SINGLE_CALLS = 2000
HAS_CUDA = torch.cuda.is_available()
Record = dict[str, Any]


# -- sizes and rows ----------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """A table and the autoencoder that is trained on it.

    Parameters
    ----------
    name : str
    n_rows, n_columns : int
    hidden, k : int
        The network is n_columns-hidden-k-hidden-n_columns.
    batch_size : int
    epochs : tuple of two int
        Of the two fits whose times are subtracted.
    on_disk : bool
        Whether methods read the rows from a memory map.
    """

    name: str
    n_rows: int
    n_columns: int
    hidden: int
    k: int
    batch_size: int
    epochs: tuple[int, int]
    on_disk: bool = False

    @property
    def widths(self) -> list[int]:
        """Columns of the input and of each layer's result."""
        return [self.n_columns, self.hidden, self.k, self.hidden, self.n_columns]

    @property
    def n_steps(self) -> int:
        """Steps of one epoch."""
        return -(-self.n_rows // self.batch_size)

    def flops(self, n_rows: int) -> int:
        """Operations of the matrix products of training on rows once.

        Two per weight for the result, the weights' gradient and the input's; the first
        layer's input needs none.
        """
        n_weights = sum(n_in * n_out for n_in, n_out in pairwise(self.widths))
        return n_rows * (6 * n_weights - 2 * self.n_columns * self.hidden)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.n_rows:,} x {self.n_columns}, network "
            f"{'-'.join(map(str, self.widths))}, batch {self.batch_size}"
        )


SIZES = {
    size.name: size
    for size in (
        Size("S", 1000, 20, 64, 4, 32, (10, 60)),
        Size("M", 10_000, 30, 64, 8, 200, (5, 35)),
        Size("L", 60_000, 784, 256, 32, 256, (1, 5)),
        Size("XL", 1_000_000, 50, 128, 8, 1024, (1, 5), on_disk=True),
    )
}


def make_rows(n_rows: int, n_columns: int, n_latent: int = 5) -> np.ndarray:
    """Rows of float32 near a curved surface of a few dimensions."""
    random = np.random.default_rng(0)
    first = random.standard_normal((n_latent, 32), dtype=np.float32)
    second = random.standard_normal((32, n_columns), dtype=np.float32) / np.float32(32**0.5)
    rows = np.tanh(random.standard_normal((n_rows, n_latent), dtype=np.float32) @ first) @ second
    rows += np.float32(0.1) * random.standard_normal(rows.shape, dtype=np.float32)
    return rows


def save_rows(size: Size, directory: Path) -> Path:
    """Write the rows of a size to a file."""
    path = directory / f"{size.name}.npy"
    np.save(path, make_rows(size.n_rows, size.n_columns))
    return path


def load_rows(path: Path, size: Size) -> np.ndarray:
    """Read the rows of a size, or map them."""
    return np.load(path, mmap_mode="r" if size.on_disk else None)


# -- methods -----------------------------------------------------------------------------


@contextmanager
def limited_threads(n_threads: int | None) -> Iterator[None]:
    """Let torch and BLAS use a number of threads; None leaves theirs."""
    if n_threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fit_skae(
    X: np.ndarray, size: Size, n_epochs: int, device: str, anchor: Any, depth: Any = "auto"
) -> None:
    """skae, training on all rows at a constant rate."""
    AutoencoderTransformer(
        n_components=size.k,
        hidden_layer_sizes=(size.hidden,),
        activation="relu",
        anchor=anchor,
        stochastic_depth=depth,
        batch_size=size.batch_size,
        max_epochs=n_epochs,
        lr=LR,
        lr_schedule="constant",
        early_stopping=False,
        device=device,
        random_state=0,
    ).fit(X)


def make_network(size: Size) -> nn.Sequential:
    """Build the same network out of torch's layers."""
    d, h, k = size.n_columns, size.hidden, size.k
    encoder = nn.Linear(d, h), nn.ReLU(), nn.Linear(h, k)
    return nn.Sequential(*encoder, nn.Linear(k, h), nn.ReLU(), nn.Linear(h, d))


def as_tensor(X: np.ndarray) -> torch.Tensor:
    """Rows in memory, copied only from a map that is read-only."""
    return torch.from_numpy(X) if X.flags.writeable else torch.from_numpy(np.array(X))


def fit_loop(X: np.ndarray, size: Size, n_epochs: int, device: str, n_threads: int) -> None:
    """A loop as an expert writes it: rows in one tensor, permuted once an epoch, fused AdamW."""
    with limited_threads(n_threads):
        rows = as_tensor(X).to(device)
        network = make_network(size).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=LR, fused=True)
        for _ in range(n_epochs):
            order = torch.randperm(len(rows), device=device)
            for batch in rows[order].split(size.batch_size):
                optimizer.zero_grad(set_to_none=True)
                nn.functional.mse_loss(network(batch), batch).backward()
                optimizer.step()


def fit_dataloader(X: np.ndarray, size: Size, n_epochs: int, device: str) -> None:
    """A loop as tutorials write it: TensorDataset and DataLoader."""
    loader = DataLoader(TensorDataset(as_tensor(X)), batch_size=size.batch_size, shuffle=True)
    network = make_network(size).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    criterion = nn.MSELoss()
    for _ in range(n_epochs):
        for (rows,) in loader:
            batch = rows.to(device)
            optimizer.zero_grad()
            criterion(network(batch), batch).backward()
            optimizer.step()


def fit_skorch(X: np.ndarray, size: Size, n_epochs: int, device: str) -> None:
    """skorch's regressor at its defaults, apart from AdamW, shuffling and no held-out rows."""
    NeuralNetRegressor(
        make_network(size),
        optimizer=torch.optim.AdamW,
        lr=LR,
        batch_size=size.batch_size,
        max_epochs=n_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        device=device,
        verbose=0,
    ).fit(X, X)


def fit_mlp(X: np.ndarray, size: Size, n_epochs: int, device: str) -> None:
    """scikit-learn's MLPRegressor from X to X, on the CPU; its code is rectified too."""
    MLPRegressor(
        hidden_layer_sizes=(size.hidden, size.k, size.hidden),
        batch_size=size.batch_size,
        learning_rate_init=LR,
        max_iter=n_epochs,
        tol=0.0,
        n_iter_no_change=n_epochs + 1,
        random_state=0,
    ).fit(X, X)


def fit_pca(X: np.ndarray, size: Size, n_epochs: int, device: str) -> None:
    """scikit-learn's PCA at its defaults, on the CPU."""
    PCA(n_components=size.k).fit(X)


METHODS: dict[str, Callable[[np.ndarray, Size, int, str], None]] = {
    "skae, anchor=None": partial(fit_skae, anchor=None),
    "skae, anchor='pca'": partial(fit_skae, anchor="pca"),
    "loop, 1 thread": partial(fit_loop, n_threads=1),
    "loop, 2 threads": partial(fit_loop, n_threads=2),
    "DataLoader": fit_dataloader,
    "skorch": fit_skorch,
    "MLPRegressor": fit_mlp,
    "PCA": fit_pca,
}
OURS = ("skae, anchor=None", "skae, anchor='pca'")
FLOOR = "PCA"  # has no epochs


def choose_methods(names: Sequence[str]) -> list[str]:
    """Drop two threads where there is one core, and say so."""
    if usable_cores() == 1 and "loop, 2 threads" in names:
        print("loop, 2 threads skipped: one core")
        return [name for name in names if name != "loop, 2 threads"]
    return list(names)


class Products:
    """The matrix products of one training step, alone.

    Parameters
    ----------
    size : Size
    library : {"numpy", "torch"}
    n_threads : int
    device : str
    """

    def __init__(self, size: Size, library: str, n_threads: int, device: str):
        self.name = f"{library}, {n_threads} thread{'s' * (n_threads > 1)}"
        self.n_threads = n_threads
        self.n_steps = int(np.clip(2e10 / size.flops(size.batch_size), 20, 5000))
        self.product: Callable[..., Any] = np.dot if library == "numpy" else torch.matmul
        self.operands: list[tuple[Any, Any, Any]] = []

        def array(*shape: int) -> Any:
            tensor = torch.randn(shape, device=device)
            return tensor.numpy() if library == "numpy" else tensor

        b = size.batch_size
        for i, (n_in, n_out) in enumerate(pairwise(size.widths)):
            x, weight, slope = array(b, n_in), array(n_out, n_in), array(b, n_out)
            self.operands.append((x, weight.T, array(b, n_out)))
            self.operands.append((slope.T, x, array(n_out, n_in)))
            if i:
                self.operands.append((slope, weight, array(b, n_in)))

    def seconds_per_step(self) -> float:
        """Time many steps."""

        def run() -> None:
            for _ in range(self.n_steps):
                for a, b, out in self.operands:
                    self.product(a, b, out=out)

        with limited_threads(self.n_threads):
            return seconds_of(run) / self.n_steps


# -- measures ----------------------------------------------------------------------------


def seconds_of(function: Callable[..., Any], *args: Any) -> float:
    """Wall time of a call, until all devices have done what it asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        function(*args)
        if HAS_CUDA:
            torch.cuda.synchronize()
        return time.perf_counter() - start


def medians_in_turn(functions: dict[str, Callable[[], Any]], n_repeats: int) -> dict[str, float]:
    """Median wall time of functions that take turns, each called once before."""
    for function in functions.values():
        seconds_of(function)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(n_repeats):
        for name in in_turn(list(functions), repeat):
            seconds[name].append(seconds_of(functions[name]))
    return {name: float(np.median(values)) for name, values in seconds.items()}


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    # Linux lets ru_maxrss begin at what the parent had; VmHWM is the process's own.
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (v for v in status.read_text().splitlines() if v.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Let the peak start from what is resident now, where the system can."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        with suppress(OSError):
            path.write_text("5")


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def peak_of_fit(method: str, path: Path, size: Size, device: str) -> int:
    """Bytes by which a fit raises resident memory; to be called in a new process."""
    X = load_rows(path, size)
    small = SIZES["S"]
    seconds_of(METHODS[method], make_rows(128, small.n_columns), small, 1, device)  # imports
    forget_peak()
    before = peak_bytes()
    seconds_of(METHODS[method], X, size, size.epochs[0], device)
    return peak_bytes() - before


def measure_training(
    size: Size, X: np.ndarray, methods: Sequence[str], args: argparse.Namespace
) -> list[Record]:
    """Time of an epoch and of everything else, for every method, and the products' time."""
    few, many = size.epochs
    threads = [1, 2][: usable_cores()]
    libraries = ("numpy", "torch") if args.device == "cpu" else ("torch",)
    products = [Products(size, name, n, args.device) for name in libraries for n in threads]
    epoch: dict[str, list[float]] = {method: [] for method in methods}
    setup: dict[str, list[float]] = {method: [] for method in methods}
    step: dict[str, list[float]] = {product.name: [] for product in products}
    for method in methods:
        seconds_of(METHODS[method], X[: 2 * size.batch_size], size, 1, args.device)
    for product in products:
        product.seconds_per_step()
    for repeat in range(args.repeats):
        for method in in_turn(methods, repeat):
            first = seconds_of(METHODS[method], X, size, few, args.device)
            if method == FLOOR:
                setup[method].append(first)
                continue
            second = seconds_of(METHODS[method], X, size, many, args.device)
            epoch[method].append((second - first) / (many - few))
            setup[method].append(first - few * epoch[method][-1])
        for product in products:
            step[product.name].append(product.seconds_per_step())
    records = [
        {"size": size.name, "method": method, "repeats": epoch[method]}
        | {"epoch_seconds": median(epoch[method]), "setup_seconds": median(setup[method])}
        for method in methods
    ]
    fastest = min(step, key=lambda name: float(np.median(step[name])))
    epochs = [seconds * size.n_rows / size.batch_size for seconds in step[fastest]]
    alone = {"size": size.name, "method": f"products ({fastest})", "repeats": epochs}
    alone |= {"epoch_seconds": median(epochs), "setup_seconds": None}
    return complete_training(size, [*records, alone])


def median(values: Sequence[float]) -> float | None:
    """Median; None of nothing."""
    return float(np.median(values)) if values else None


def complete_training(size: Size, records: list[Record]) -> list[Record]:
    """Add what follows from the time of an epoch; the last record is the products'."""
    *methods, alone = records
    peers = [r["epoch_seconds"] for r in methods if r["method"] not in (*OURS, FLOOR)]
    for record in records:
        seconds = record["epoch_seconds"]
        if seconds is None:
            continue
        record["half_range_percent"] = 50 * float(np.ptp(record["repeats"])) / seconds
        record["fastest_seconds"] = min(record["repeats"])
        record["step_us"] = 1e6 * seconds / size.n_steps
        record["to_best_peer"] = seconds / min(peers) if peers else None
        record["gflops"] = size.flops(size.n_rows) / seconds / 1e9
        record["percent_of_products"] = 100 * alone["epoch_seconds"] / seconds
    return records


def train_table(args: argparse.Namespace) -> list[Record]:
    """Measure and print training, size by size."""
    methods = choose_methods(args.methods)
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as directory:
        for size in (SIZES[name] for name in args.sizes):
            path = save_rows(size, Path(directory))
            some = measure_training(size, load_rows(path, size), methods, args)
            if args.memory:
                for record in some[:-1]:
                    record["peak_mb"] = 1e-6 * in_new_process(
                        peak_of_fit, record["method"], path, size, args.device
                    )
            print_training(size, some)
            records += some
    return records


def measure_inference(size: Size, args: argparse.Namespace) -> Record:
    """Time `transform` of one row and of many, of skae, PCA and the bare network."""
    rows = make_rows(BULK_ROWS, size.n_columns)
    model = AutoencoderTransformer(
        n_components=size.k,
        hidden_layer_sizes=(size.hidden,),
        max_epochs=1,
        early_stopping=False,
        device=args.device,
        random_state=0,
    ).fit(rows[:10_000])
    pca = PCA(n_components=size.k).fit(rows[:10_000])
    network = copy.deepcopy(model.net_.module_).float()

    @torch.inference_mode()
    def bare(batch_size: int) -> np.ndarray:
        batches = torch.from_numpy(rows).split(batch_size)
        codes = [network.encode(batch.to(args.device)) for batch in batches]
        return (torch.cat(codes) if len(codes) > 1 else codes[0]).cpu().numpy()

    bulk = medians_in_turn(
        {
            "skae": partial(model.transform, rows),
            "PCA": partial(pca.transform, rows),
            "whole": partial(bare, BULK_ROWS),
            "batches": partial(bare, BULK_BATCH),
        },
        3 * args.repeats,
    )
    row = rows[:1].astype(np.float64)
    one = medians_in_turn(
        {"skae": partial(model.transform, row), "PCA": partial(pca.transform, row)}, SINGLE_CALLS
    )
    network_seconds = min(bulk["whole"], bulk["batches"])
    return {
        "size": size.name,
        "row_us": 1e6 * one["skae"],
        "row_us_pca": 1e6 * one["PCA"],
        "row_to_pca": one["skae"] / one["PCA"],
        "rows_per_s": BULK_ROWS / bulk["skae"],
        "rows_per_s_pca": BULK_ROWS / bulk["PCA"],
        "rows_per_s_network": BULK_ROWS / network_seconds,
        "percent_of_network": 100 * network_seconds / bulk["skae"],
    }


def inference_table(args: argparse.Namespace) -> list[Record]:
    """Measure and print inference, size by size."""
    records = [measure_inference(SIZES[name], args) for name in args.sizes]
    print_inference(records)
    return records


def growth_table(args: argparse.Namespace) -> list[Record]:
    """Measure and print how the time of fits grows."""
    growth = [
        measure_growth("rows", [(n, 30, 8) for n in (2000, 4000, 8000, 16_000, 32_000)], args),
        measure_growth("columns", [(4000, d, 5) for d in (10, 20, 40, 80, 160)], args),
        measure_growth("components", [(4000, 64, k) for k in (2, 4, 8, 16, 32)], args),
    ]
    print_growth(growth)
    return growth


def measure_growth(
    what: str, shapes: Sequence[tuple[int, int, int]], args: argparse.Namespace
) -> Record:
    """Time fits of 20 epochs over growing tables or codes, and the log-log slope."""
    fits = {}
    for n_rows, n_columns, k in shapes:
        model = AutoencoderTransformer(
            n_components=k, max_epochs=20, batch_size=256, device=args.device
        )
        X = make_rows(n_rows, n_columns).astype(np.float64)
        fits[str((n_rows, n_columns, k))] = partial(model.fit, X)
    seconds = list(medians_in_turn(fits, args.repeats).values())
    varied = ("rows", "columns", "components").index(what)
    grown = [shape[varied] for shape in shapes]
    slope = float(np.polyfit(np.log(grown), np.log(seconds), 1)[0])
    return {"kind": "growth", "of": what, "values": grown, "seconds": seconds, "slope": slope}


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure_search(args: argparse.Namespace) -> Record:
    """Run the same grid search twice with two workers; processor time over wall time."""
    X = make_rows(1000, 20).astype(np.float64)
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderTransformer(device=args.device, random_state=0)
    )
    search = GridSearchCV(
        pipeline,
        {"autoencodertransformer__n_components": [2, 4, 6, 8, 10]},
        scoring=reconstruction_score,
        cv=5,
        n_jobs=2,
    )
    get_reusable_executor().shutdown(wait=True)  # new workers: their time must count
    start, cpu_start = time.perf_counter(), cpu_seconds()
    first, second = seconds_of(search.fit, X), seconds_of(search.fit, X)
    get_reusable_executor().shutdown(wait=True)  # only children that have ended are counted
    cpu, wall = cpu_seconds() - cpu_start, time.perf_counter() - start
    record = {"first_seconds": first, "second_seconds": second, "cpu_seconds": cpu}
    return record | {"wall_seconds": wall, "cores_used": cpu / wall}


def memory_growth(device: str) -> int:
    """Bytes by which the peak rises from the 5th to the 25th fit; for a new process."""
    X = make_rows(1000, 20).astype(np.float64)
    peaks = []
    for _ in range(25):
        AutoencoderTransformer(n_components=5, device=device, random_state=0).fit(X)
        peaks.append(peak_bytes())
    return peaks[24] - peaks[4]


def search_table(args: argparse.Namespace) -> list[Record]:
    """Measure and print the grid search and the memory of many fits."""
    record = measure_search(args)
    record["growth_mb"] = 1e-6 * in_new_process(memory_growth, args.device)
    print_search(record)
    return [record]


SPARSE_SHAPES = (  # rows, columns, share of entries that are not zero
    (20_000, 2000, 0.01),
    (20_000, 2000, 0.05),
    (60_000, 2000, 0.01),
    (10_000, 20_000, 0.001),
)
WEIGHTED = (  # kind, rows, columns, components
    (AutoencoderTransformer, 1000, 20, 5),
    (AutoencoderTransformer, 10_000, 30, 8),
    (AutoencoderTransformer, 300, 10, 3),
    (VAETransformer, 1000, 20, 5),
)


def sparse_table(args: argparse.Namespace) -> list[Record]:
    """Measure and print epochs over sparse rows and over the same rows made dense."""
    records = [
        measure_sparse(*shape, depth, args) for shape in SPARSE_SHAPES for depth in ("auto", 0.0)
    ]
    print_sparse(records)
    return records


def measure_sparse(
    n_rows: int, n_columns: int, share: float, depth: Any, args: argparse.Namespace
) -> Record:
    """Time of an epoch over CSR rows and over a dense array of them."""
    random = np.random.default_rng(0)
    thin = sparse.random_array(
        (n_rows, n_columns), density=share, format="csr", dtype=np.float32, rng=random
    )
    tables = {"sparse": thin, "dense": thin.toarray()}
    seconds: dict[str, list[float]] = {name: [] for name in tables}
    for repeat in range(args.repeats):
        for name in in_turn(list(tables), repeat):
            model = AutoencoderTransformer(
                16,
                max_epochs=5,
                early_stopping=False,
                stochastic_depth=depth,
                callbacks=[EpochTimer()],
                device=args.device,
                random_state=0,
            ).fit(tables[name])
            seconds[name] += [epoch["dur"] for epoch in model.net_.history]
    record = {"n_rows": n_rows, "n_columns": n_columns, "share": share, "depth": depth}
    record |= {f"{name}_seconds": median(values) for name, values in seconds.items()}
    return record | {"ratio": record["sparse_seconds"] / record["dense_seconds"]}


def weighted_table(args: argparse.Namespace) -> list[Record]:
    """Measure and print fits with sample weights and without."""
    records = [measure_weighted(*case, args) for case in WEIGHTED]
    print_weighted(records)
    return records


def measure_weighted(
    kind: type, n_rows: int, n_columns: int, k: int, args: argparse.Namespace
) -> Record:
    """Time a default fit with sample weights and without."""
    X = make_rows(n_rows, n_columns).astype(np.float64)
    weights = np.random.default_rng(0).uniform(0.5, 2, n_rows)
    model = kind(n_components=k, device=args.device, random_state=0)
    seconds = medians_in_turn(
        {"plain": partial(model.fit, X), "weighted": partial(model.fit, X, sample_weight=weights)},
        args.repeats,
    )
    return {
        "kind": kind.__name__,
        "n_rows": n_rows,
        "n_columns": n_columns,
        "k": k,
        "plain_seconds": seconds["plain"],
        "weighted_seconds": seconds["weighted"],
        "ratio": seconds["weighted"] / seconds["plain"],
    }


# -- report ------------------------------------------------------------------------------


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, the first to the left."""
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
    print(f"\n{title}")
    for first, *others in (columns, *rows):
        cells = [f"{cell:>{width}s}" for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"{first:{widths[0]}s}", *cells]))
    sys.stdout.flush()


def shown(value: float | None, spec: str, factor: float = 1.0) -> str:
    """Format a number; a dash where there is none."""
    return "–" if value is None else format(factor * value, spec)


def print_training(size: Size, records: Sequence[Record]) -> None:
    """Print the training table of one size."""
    columns = ["method", "ms/epoch", "± %", "fastest", "µs/step", "x best peer", "GFLOP/s"]
    columns += ["% products", "set-up ms", "peak MB"]
    rows = [
        [
            r["method"],
            shown(r["epoch_seconds"], ",.2f", 1e3),
            shown(r.get("half_range_percent"), ".0f"),
            shown(r.get("fastest_seconds"), ",.2f", 1e3),
            shown(r.get("step_us"), ",.1f"),
            shown(r.get("to_best_peer"), ".2f"),
            shown(r.get("gflops"), ".2f"),
            shown(r.get("percent_of_products"), ".0f"),
            shown(r["setup_seconds"], ",.1f", 1e3),
            shown(r.get("peak_mb"), ",.0f"),
        ]
        for r in records
    ]
    if not any("peak_mb" in r for r in records):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    where = ", read from a memory map" if size.on_disk else ""
    print_table(f"Training, {size}, {size.n_steps} steps an epoch{where}", columns, rows)


def print_inference(records: Sequence[Record]) -> None:
    """Print the inference table."""
    columns = ["size", "1 row: skae µs", "PCA µs", "ratio", "many: skae rows/s", "PCA rows/s"]
    columns += ["network rows/s", "% network"]
    rows = [
        [
            r["size"],
            f"{r['row_us']:.1f}",
            f"{r['row_us_pca']:.1f}",
            f"{r['row_to_pca']:.2f}",
            f"{r['rows_per_s']:,.0f}",
            f"{r['rows_per_s_pca']:,.0f}",
            f"{r['rows_per_s_network']:,.0f}",
            f"{r['percent_of_network']:.0f}",
        ]
        for r in records
    ]
    print_table(f"Inference: transform of one row and of {BULK_ROWS:,}", columns, rows)


def print_growth(records: Sequence[Record]) -> None:
    """Print how the time of fits grows."""
    columns = ["growing", *(f"x{2**i}" for i in range(5)), "slope"]
    rows = [
        [
            f"{r['of']} from {r['values'][0]:,} to {r['values'][-1]:,}",
            *(f"{seconds:.3f}" for seconds in r["seconds"]),
            f"{r['slope']:.2f}",
        ]
        for r in records
    ]
    title = (
        "Growth: seconds of fits of 20 epochs and the slope of their logarithms\n"
        "(rows x 30, k = 8; 4,000 x columns, k = 5; 4,000 x 64, k = components)"
    )
    print_table(title, columns, rows)


def print_search(record: Record) -> None:
    """Print the grid search and the memory of many fits."""
    rows = [
        ["first search, which starts the workers, seconds", f"{record['first_seconds']:.1f}"],
        ["second search, seconds", f"{record['second_seconds']:.1f}"],
        ["processor seconds over wall seconds, both", f"{record['cores_used']:.2f}"],
        ["peak memory from the 5th to the 25th fit, MB", f"{record['growth_mb']:+.1f}"],
    ]
    title = "Search: 5 latent dimensions x 5 folds of 1,000 x 20, two workers"
    print_table(title, ["measure", "value"], rows)


def print_sparse(records: Sequence[Record]) -> None:
    """Print the epochs over sparse rows."""
    columns = ["table", "not zero", "stochastic_depth", "sparse ms", "dense ms", "ratio"]
    rows = [
        [
            f"{r['n_rows']:,} x {r['n_columns']:,}",
            f"{r['share']:.1%}",
            str(r["depth"]),
            f"{1e3 * r['sparse_seconds']:,.0f}",
            f"{1e3 * r['dense_seconds']:,.0f}",
            f"{r['ratio']:.2f}",
        ]
        for r in records
    ]
    print_table("Epochs over CSR rows and over the same rows as an array", columns, rows)


def print_weighted(records: Sequence[Record]) -> None:
    """Print the fits with sample weights."""
    columns = ["fit", "k", "without s", "with s", "ratio"]
    rows = [
        [
            f"{r['kind']}, {r['n_rows']:,} x {r['n_columns']}",
            f"{r['k']}",
            f"{r['plain_seconds']:.2f}",
            f"{r['weighted_seconds']:.2f}",
            f"{r['ratio']:.2f}",
        ]
        for r in records
    ]
    print_table("Fits without and with sample weights, end to end", columns, rows)


TABLES: dict[str, Callable[[argparse.Namespace], list[Record]]] = {
    "train": train_table,
    "inference": inference_table,
    "growth": growth_table,
    "search": search_table,
    "sparse": sparse_table,
    "weighted": weighted_table,
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables = ["train", "inference", "growth"]
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=tables)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["S", "M"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="peak memory of training too")
    parser.add_argument("--device", default="cpu", help="of skae and of loops in torch")
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    machine = describe_machine(torch.get_num_threads())
    machine["cores"] = str(usable_cores())
    if args.device.startswith("cuda"):
        machine["device"] = torch.cuda.get_device_name(args.device)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    results = {name: TABLES[name](args) for name in args.tables}
    if args.output:
        content = {**machine, "n_repeats": args.repeats, **results}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
