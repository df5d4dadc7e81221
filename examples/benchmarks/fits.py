"""Where does the time of a whole fit go? By phase, beside peers, on one core and two.

Run from the root of the repository::

    python examples/benchmarks/fits.py
    python examples/benchmarks/fits.py --tables whole --sizes S M L --cores 1
    python examples/benchmarks/fits.py --tables defaults --phases --output fits.json

All figures are medians over ``--repeats`` after a fit that is not timed. Within each repeat
methods take turns. Each number of cores in ``--cores`` is measured in a new process that may use
so many. Rows and peers are those of ``speed.py``: float32, curved functions of a few numbers.

*whole*: fits end to end beside a hand-written loop on one thread and two, and MLPRegressor. All
have the same network, rows, batch size and number of steps. skae also computes PCA, orders the code
and describes it. At its default, `stochastic_depth` of 0.6, it leaves out the encoder for a share
of the rows; depth 0 does the work of the peers. L is fitted with 2 epochs and 20.

*defaults*: fits with default parameters, float64.

*linear*: the linear autoencoder, ``hidden_layer_sizes=()``, beside PCA at its defaults; *above* is
the time above 1.2 times PCA's plus 2 ms.

*growth*: time per row and epoch from 10,000 to a million rows of 30 columns.

*memory*: how far a fit of size L raises resident memory, over the size of its rows.

*threads*: fits, `transform` and a search by the number of cores of the process.

*import*: `import skae`, and an estimator of it, over `import torch, sklearn.base, numpy`; medians
of ten processes each.

``--phases`` prints the time of each phase of skae's fits, without the phases inside it. The profile
wraps functions of skae from outside. *rest* is validate, order, describe, densities and finish,
over training; *with judge* also counts how the weights of each epoch are judged.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_vs_pca import describe_machine
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from speed import (
    METHODS,
    SIZES,
    Record,
    Size,
    fit_skae,
    in_new_process,
    make_rows,
    medians_in_turn,
    peak_of_fit,
    print_table,
    save_rows,
    seconds_of,
)

from skae import AutoencoderTransformer, LatentDimensionSearch
from skae.metrics import reconstruction_score

OURS, PLAIN = "skae", "skae, depth 0"
DEPTHS = {OURS: "auto", PLAIN: 0.0}
PEERS = {name: METHODS[name] for name in ("loop, 1 thread", "loop, 2 threads", "MLPRegressor")}
LARGE = Size("XL", 500_000, 100, 128, 8, 1024, (3, 3))
WHOLE = {  # sizes with their numbers of epochs
    "S": (SIZES["S"], 60),
    "M": (SIZES["M"], 20),
    "L": (SIZES["L"], 2),
    "L20": (SIZES["L"], 20),
    "XL": (LARGE, 3),
}
DEFAULTS = ((300, 10, 4), (1000, 20, 5), (10_000, 30, 8), (10_000, 200, 8), (100_000, 30, 8))
LINEAR = ((1000, 20, 5), (100_000, 100, 10), (5000, 2000, 20))
IMPORT_REPEATS = 10
GROWTH_ROWS = (10_000, 100_000, 1_000_000)
PHASES = (
    "validate",
    "scale",
    "anchor",
    "build",
    "train",
    "judge",
    "order",
    "describe",
    "densities",
    "finish",
)
REST = ("validate", "order", "describe", "densities", "finish")


# -- profile -----------------------------------------------------------------------------


class Profile:
    """Time of each phase of fits, by wrapping functions of skae; nested phases are subtracted."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.inner: list[float] = []

    def install(self) -> None:
        """Wrap the functions of the phases."""
        from skae._data.dataset import Dataset
        from skae._estimators.base import BaseAutoencoder
        from skae._latent.ordering import OrderedTransformer
        from skae._latent.region import BoundedTransformer
        from skae._latent.sampling import GenerativeTransformer
        from skae._latent.transform import LatentTransformer
        from skae._training import net, trainer
        from skae._training.batched import BatchedNet
        from skae._training.best_weights import BestWeights

        for owner, name, phase in (
            (LatentTransformer, "_check_rows", "validate"),
            (BaseAutoencoder, "_fit_center_and_scale", "scale"),
            (Dataset, "principal_components", "anchor"),
            (Dataset, "scatter", "anchor"),
            (BaseAutoencoder, "_build", "build"),
            (trainer.Trainer, "make_run", "build"),
            (trainer, "train_networks", "train"),
            (net.AutoencoderNet, "run_single_epoch", "train"),
            (BatchedNet, "fit", "train"),
            (BestWeights, "on_train_begin", "judge"),
            (BestWeights, "on_epoch_end", "judge"),
            (net, "validation_ratio", "judge"),
            (net.AutoencoderNet, "compare_restoring", "judge"),
            (trainer.Folds, "result", "judge"),
            (Dataset, "copies", "validate"),
            (BaseAutoencoder, "_finish_fit", "finish"),
            (BoundedTransformer, "_limit_network", "finish"),
            (OrderedTransformer, "_code_moments_of", "order"),
            (OrderedTransformer, "_mean_jacobian", "order"),
            (OrderedTransformer, "_sse_and_sst", "describe"),
            (OrderedTransformer, "_explained_ratios", "describe"),
            (OrderedTransformer, "_set_pca_attributes", "describe"),
            (GenerativeTransformer, "_prepare_densities", "densities"),
        ):
            self._wrap(owner, name, phase)

    def _wrap(self, owner: Any, name: str, phase: str) -> None:
        function = vars(owner)[name]
        is_property = isinstance(function, functools.cached_property)
        inner = function.func if is_property else function

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            self.inner.append(0.0)
            try:
                return inner(*args, **kwargs)
            finally:
                total = time.perf_counter() - start
                own = total - self.inner.pop()
                self.seconds[phase] = self.seconds.get(phase, 0.0) + own
                if self.inner:
                    self.inner[-1] += total

        if is_property:
            timed_property = functools.cached_property(timed)
            timed_property.__set_name__(owner, name)
            setattr(owner, name, timed_property)
        else:
            setattr(owner, name, timed)

    def of(self, fit: Callable[[], Any], n_repeats: int) -> dict[str, float]:
        """Median seconds of each phase over some fits."""
        runs = []
        for _ in range(n_repeats):
            self.seconds = {}
            seconds_of(fit)
            runs.append(self.seconds)
        medians = {phase: float(np.median([run.get(phase, 0) for run in runs])) for phase in PHASES}
        train = medians["train"]
        rest = sum(medians[phase] for phase in REST)
        return medians | {
            "rest": rest / train if train else float("nan"),
            "rest_and_judge": (rest + medians["judge"]) / train if train else float("nan"),
        }


def profiled(fits: dict[str, Callable[[], Any]], n_repeats: int) -> list[Record]:
    """Phases of some fits, in a process whose functions are wrapped from here on."""
    profile = Profile()
    profile.install()
    for fit in fits.values():
        seconds_of(fit)
    return [{"fit": name, **profile.of(fit, n_repeats)} for name, fit in fits.items()]


# -- tables ------------------------------------------------------------------------------


def whole_fit(name: str, size: Size, n_epochs: int, X: np.ndarray) -> Callable[[], Any]:
    """A fit of skae or of a peer."""
    if name in DEPTHS:
        return partial(fit_skae, X, size, n_epochs, "cpu", "pca", DEPTHS[name])
    return partial(PEERS[name], X, size, n_epochs, "cpu")


def measure_whole(args: argparse.Namespace) -> list[Record]:
    """Time whole fits of skae and peers."""
    records = []
    for name in args.sizes:
        size, n_epochs = WHOLE[name]
        X = make_rows(size.n_rows, size.n_columns)
        peers = [p for p in PEERS if args.n_cores > 1 or p != "loop, 2 threads"]
        fits = {p: whole_fit(p, size, n_epochs, X) for p in (*DEPTHS, *peers)}
        seconds = medians_in_turn(fits, args.repeats)
        best = min(seconds[p] for p in peers)
        records.append(
            {"size": name, "table": f"{size.n_rows:,} x {size.n_columns}", "n_epochs": n_epochs}
            | {"seconds": seconds, "to_best_peer": {p: seconds[p] / best for p in DEPTHS}}
        )
    methods = (*DEPTHS, *PEERS)
    rows = [
        [
            f"{r['size']}: {r['table']}, {r['n_epochs']} epochs",
            *(f"{r['seconds'][p]:.3f}" if p in r["seconds"] else "–" for p in methods),
            *(f"{ratio:.2f}" for ratio in r["to_best_peer"].values()),
        ]
        for r in records
    ]
    columns = ["fit", *methods, *(f"{name} / best peer" for name in DEPTHS)]
    print_table("Whole fits, seconds", columns, rows)
    return records


def default_fit(n_rows: int, n_columns: int, k: int) -> tuple[Any, np.ndarray]:
    """Estimator with default parameters, and rows."""
    model = AutoencoderTransformer(n_components=k, random_state=0)
    return model, make_rows(n_rows, n_columns).astype(np.float64)


def measure_defaults(args: argparse.Namespace) -> list[Record]:
    """Time fits with default parameters."""
    records = []
    for shape in DEFAULTS:
        model, X = default_fit(*shape)
        seconds = medians_in_turn({OURS: partial(model.fit, X)}, args.repeats)[OURS]
        ratio = model.pca_error_ratio_
        records.append({"shape": shape, "seconds": seconds, "n_epochs": model.n_iter_})
        records[-1]["error_over_pca"] = ratio
    rows = [
        [
            f"{r['shape'][0]:,} x {r['shape'][1]}, {r['shape'][2]} components",
            f"{r['n_epochs']}",
            f"{r['seconds']:.2f}",
            f"{r['error_over_pca']:.3f}",
        ]
        for r in records
    ]
    columns = ["table", "epochs", "seconds", "error / PCA's"]
    print_table("Fits with default parameters", columns, rows)
    return records


def measure_linear(args: argparse.Namespace) -> list[Record]:
    """Time the linear autoencoder and PCA."""
    records = []
    for n_rows, n_columns, k in LINEAR:
        for dtype in ("float32", "float64"):
            X = make_rows(n_rows, n_columns).astype(dtype)
            linear = AutoencoderTransformer(n_components=k, hidden_layer_sizes=(), random_state=0)
            fits = {OURS: partial(linear.fit, X), "PCA": partial(PCA(k).fit, X)}
            seconds = medians_in_turn(fits, 3 * args.repeats)
            above = seconds[OURS] - 1.2 * seconds["PCA"] - 0.002
            records.append({"shape": (n_rows, n_columns, k), "dtype": dtype, **seconds})
            records[-1]["above"] = above
    rows = [
        [
            f"{r['shape'][0]:,} x {r['shape'][1]}, {r['dtype']}",
            f"{1e3 * r[OURS]:.1f}",
            f"{1e3 * r['PCA']:.1f}",
            f"{1e3 * r['above']:+.1f}",
        ]
        for r in records
    ]
    columns = ["table", "skae, ms", "PCA, ms", "above 1.2 x PCA + 2 ms"]
    print_table("The linear autoencoder, which is PCA", columns, rows)
    return records


def measure_growth(args: argparse.Namespace) -> list[Record]:
    """Time of fits per row and epoch, for more and more rows."""
    size = replace(SIZES["M"], batch_size=1024)
    records = []
    for n_rows in GROWTH_ROWS:
        X, n_epochs = make_rows(n_rows, 30), max(3, 300_000 // n_rows)
        fit = partial(fit_skae, X, size, n_epochs, "cpu", "pca")
        seconds = medians_in_turn({OURS: fit}, args.repeats)[OURS]
        ns = 1e9 * seconds / n_rows / n_epochs
        records.append({"n_rows": n_rows, "n_epochs": n_epochs, "seconds": seconds, "ns": ns})
    rows = [
        [f"{r['n_rows']:,}", f"{r['n_epochs']}", f"{r['seconds']:.2f}", f"{r['ns']:.0f}"]
        for r in records
    ]
    columns = ["rows", "epochs", "seconds", "ns per row and epoch"]
    print_table("Growth with the number of rows, 30 columns, whole fits", columns, rows)
    return records


def measure_memory(args: argparse.Namespace) -> list[Record]:
    """Peak memory of a fit of size L over the size of its rows, in a new process."""
    size = replace(SIZES["L"], epochs=(2, 2))
    n_bytes = 4 * size.n_rows * size.n_columns
    with tempfile.TemporaryDirectory() as directory:
        path = save_rows(size, Path(directory))
        peak = in_new_process(peak_of_fit, "skae, anchor='pca'", path, size, "cpu")
    record = {"size": "L", "peak_mb": peak / 1e6, "total": (peak + n_bytes) / n_bytes}
    row = [f"{size.n_rows:,} x {size.n_columns}, float32"]
    row += [f"{n_bytes / 1e6:.0f}", f"{peak / 1e6:.0f}", f"{record['total']:.2f}"]
    columns = ["table", "rows, MB", "fit adds, MB", "rows and fit / rows"]
    print_table("Peak memory of a fit", columns, [row])
    return [record]


def measure_threads(args: argparse.Namespace) -> list[Record]:
    """Fits, inference and searches with the cores of this process."""
    medium, large = (make_rows(SIZES[name].n_rows, SIZES[name].n_columns) for name in "ML")
    fitted = AutoencoderTransformer(32, hidden_layer_sizes=(256,), max_epochs=1, random_state=0)
    fitted.fit(large[:5000])
    small = make_rows(1000, 20).astype(np.float64)
    model = AutoencoderTransformer(random_state=0)
    pipeline = make_pipeline(StandardScaler(), model)
    sizes = [2, 4, 6, 8]
    grid = GridSearchCV(
        pipeline,
        {"autoencodertransformer__n_components": sizes},
        scoring=reconstruction_score,
        cv=5,
        n_jobs=args.n_cores,
    )
    search = LatentDimensionSearch(pipeline, sizes, n_jobs=args.n_cores)
    tasks = {
        "fit M, 20 epochs": whole_fit(OURS, *WHOLE["M"], medium),
        "fit L, 2 epochs": whole_fit(OURS, *WHOLE["L"], large),
        "transform 60,000 x 784": partial(fitted.transform, large),
        "GridSearchCV": partial(grid.fit, small),
        "LatentDimensionSearch": partial(search.fit, small),
    }
    seconds = medians_in_turn(tasks, args.repeats)
    rows = [[name, f"{value:.3f}"] for name, value in seconds.items()]
    ratio = seconds["GridSearchCV"] / seconds["LatentDimensionSearch"]
    rows.append(["GridSearchCV / LatentDimensionSearch", f"{ratio:.2f}"])
    title = f"Tasks with {args.n_cores} core{'s' * (args.n_cores > 1)}"
    print_table(title, ["task", "seconds"], rows)
    return [{"n_cores": args.n_cores, "search_ratio": ratio, **seconds}]


IMPORTS = {
    "torch, sklearn.base, numpy": "import torch, sklearn.base, numpy",
    "skae": "import skae",
    "skae, AutoencoderTransformer": "from skae import AutoencoderTransformer",
}


def measure_import(args: argparse.Namespace) -> list[Record]:
    """Time imports in new processes, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for repeat in range(1 + IMPORT_REPEATS):
        for name, statement in IMPORTS.items():
            code = f"from time import perf_counter as now; t = now(); {statement}; print(now() - t)"
            printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            if repeat:  # the first one reads files that later ones find in memory
                seconds[name].append(float(printed.stdout))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    base = next(iter(medians.values()))
    rows = [[name, f"{value:.2f}", f"{value / base:.2f}"] for name, value in medians.items()]
    print_table("Imports", ["import", "seconds", "ratio"], rows)
    return [medians]


TABLES: dict[str, Callable[[argparse.Namespace], list[Record]]] = {
    "whole": measure_whole,
    "defaults": measure_defaults,
    "linear": measure_linear,
    "growth": measure_growth,
    "memory": measure_memory,
    "threads": measure_threads,
    "import": measure_import,
}


def measure_phases(args: argparse.Namespace) -> list[Record]:
    """Time the phases of whole fits and of fits with default parameters."""
    fits: dict[str, Callable[[], Any]] = {}
    if "whole" in args.tables:
        for name in args.sizes:
            size, n_epochs = WHOLE[name]
            X = make_rows(size.n_rows, size.n_columns)
            fits[f"{name}: {n_epochs} epochs"] = whole_fit(OURS, size, n_epochs, X)
    if "defaults" in args.tables:
        for shape in DEFAULTS:
            model, rows = default_fit(*shape)
            fits[f"default, {shape[0]:,} x {shape[1]}"] = partial(model.fit, rows)
    records = profiled(fits, args.repeats)
    table = [
        [
            r["fit"],
            *(f"{1e3 * r[phase]:.1f}" for phase in PHASES),
            *(f"{100 * r[share]:.0f} %" for share in ("rest", "rest_and_judge")),
        ]
        for r in records
    ]
    columns = ["fit", *PHASES, "rest", "with judge"]
    print_table("Phases of fits, ms", columns, table)
    return records


# -- processes ---------------------------------------------------------------------------


def measure_with_cores(args: argparse.Namespace, n_cores: int) -> dict[str, list[Record]]:
    """Make all tables; to be called in a process that may use `n_cores` cores."""
    args.n_cores = n_cores
    print(f"\n=== {n_cores} core{'s' * (n_cores > 1)} ===")
    results = {name: TABLES[name](args) for name in args.tables}
    if args.phases:
        results["phases"] = measure_phases(args)
    return results


def in_process_with_cores(args: argparse.Namespace, n_cores: int) -> dict[str, list[Record]]:
    """Start a process with so many cores and threads, and measure in it."""
    usable = sorted(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(n_cores)
    os.sched_setaffinity(0, usable[:n_cores])  # new processes inherit it
    try:
        # Not a daemon, because some tables start processes of their own.
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(sender, args, n_cores))
        process.start()
        sender.close()
        results: dict[str, list[Record]] = receiver.recv()
        process.join()
        return results
    finally:
        os.sched_setaffinity(0, usable)
        del os.environ["OMP_NUM_THREADS"]


def _send(sender: Any, args: argparse.Namespace, n_cores: int) -> None:
    torch.set_num_threads(n_cores)
    sender.send(measure_with_cores(args, n_cores))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--sizes", nargs="+", choices=WHOLE, default=list(WHOLE))
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--phases", action="store_true", help="profile skae's fits, too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    n_usable = len(os.sched_getaffinity(0))
    machine = describe_machine(torch.get_num_threads())
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n", flush=True)
    results: dict[str, Any] = {}
    for n_cores in args.cores:
        if n_cores > n_usable:
            print(f"{n_cores} cores skipped: this process may use {n_usable}")
            continue
        results[f"cores_{n_cores}"] = in_process_with_cores(args, n_cores)
    if args.output:
        content = {**machine, "n_repeats": args.repeats, **results}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
