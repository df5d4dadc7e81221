"""What are the log-likelihoods of skae good for? Against peers, on one machine.

Run from the root of the repository::

    python examples/benchmarks/likelihood.py
    python examples/benchmarks/likelihood.py --parts detect --detection-dir DIR --seeds 3
    python examples/benchmarks/likelihood.py --parts vae --tables DIR
    python examples/benchmarks/likelihood.py --parts mnist --mnist-dir DIR --threads 2

*detect*: which rows are outliers? Each table has normal rows and
outliers. Half of the normal rows, drawn by ``default_rng(seed)``, are for training; columns
constant there are dropped, others standardised on them. Every method then scores the other
half and all outliers, without ever seeing one. k is the number of principal components that
hold 90 % of the training rows' variance, and one less than the columns at most. Measure:
the area under the ROC curve, *AUROC*, in percent; its mean over tables is what
counts, and the mean rank among methods. Tables are the ``.npz`` files of
``--detection-dir``, with arrays X and y (1 marks an outlier), or else those that
scikit-learn ships, one class of which is the outliers.

*vae*: the variational autoencoder at its defaults and probabilistic PCA. Columns constant
over a table are dropped; at most 4,000 rows are drawn by ``default_rng(0).permutation``; 30 %
are held out by ``train_test_split(random_state=seed)``, columns standardised on the others,
held-out rows clipped to ±10; k runs over {2, d // 4, d // 2}. *Error*: squared error of the
held-out rows over that of PCA; *linear*: that of ``hidden_layer_sizes=()``. *Gain*: mean
bound of the held-out rows over five sets of 64 draws, minus PCA's log-likelihood; *spread*:
standard deviation over the sets.

*mnist*: a Bernoulli model of binarised images, 50 components, two hidden layers of 200. Each
training image comes as several images drawn from its grey levels, each test image as one;
the bound has 5,000 draws on the first 1,000 test images, and one draw, the plain bound, on
all.

A peer is one function that fits rows and returns functions that score them, higher where
they are less usual: add it to ``DETECTORS``. A part is one function: add it to ``PARTS``.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from threadpoolctl import threadpool_limits

import skae
from skae import AutoencoderTransformer, VAETransformer

NUMBERS_OF_COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of the mixture of rows
N_NEIGHBORS = 5
MAX_ROWS = 4000
Record = dict[str, Any]
Scores = dict[str, Callable[[np.ndarray], np.ndarray]]  # by name of the method


# -- novelty detection: methods ----------------------------------------------------------


def fit_skae(X: np.ndarray, k: int, seed: int) -> Scores:
    """skae with default parameters: log-likelihood; the same with normal codes; residual."""
    model = AutoencoderTransformer(n_components=k, random_state=seed).fit(X)
    normal = clone(model).set_params(latent_density="gaussian").fit(X)  # the same network
    return {
        "skae": lambda rows: -model.score_samples(rows),
        "gaussian": lambda rows: -normal.score_samples(rows),
        "residual": model.reconstruction_error,
    }


def fit_pca(X: np.ndarray, k: int, seed: int) -> Scores:
    """Log-likelihood of probabilistic PCA."""
    pca = PCA(n_components=k, svd_solver="full").fit(X)
    return {"pca": lambda rows: -pca.score_samples(rows)}


def fit_neighbors(X: np.ndarray, k: int, seed: int) -> Scores:
    """Distance to the fifth neighbour."""
    neighbors = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(X)
    return {"neighbors": lambda rows: neighbors.kneighbors(rows)[0][:, -1]}


def fit_local_outlier_factor(X: np.ndarray, k: int, seed: int) -> Scores:
    """LocalOutlierFactor at its defaults."""
    model = LocalOutlierFactor(novelty=True).fit(X)
    return {"lof": lambda rows: -model.score_samples(rows)}


def fit_isolation_forest(X: np.ndarray, k: int, seed: int) -> Scores:
    """IsolationForest at its defaults."""
    model = IsolationForest(random_state=seed).fit(X)
    return {"forest": lambda rows: -model.score_samples(rows)}


def fit_one_class_svm(X: np.ndarray, k: int, seed: int) -> Scores:
    """OneClassSVM at its defaults."""
    model = OneClassSVM().fit(X)
    return {"svm": lambda rows: -model.score_samples(rows)}


def fit_mixture(X: np.ndarray, k: int, seed: int) -> Scores:
    """Gaussian mixture of the rows themselves, full covariances, their number by BIC."""
    mixtures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for n_components in NUMBERS_OF_COMPONENTS:
            if n_components <= len(X) // 10:
                mixtures.append(GaussianMixture(n_components, random_state=seed).fit(X))
    best = min(mixtures, key=lambda mixture: mixture.bic(X))
    return {"mixture": lambda rows: -best.score_samples(rows)}


DETECTORS: dict[str, Callable[[np.ndarray, int, int], Scores]] = {
    "skae": fit_skae,
    "pca": fit_pca,
    "neighbors": fit_neighbors,
    "lof": fit_local_outlier_factor,
    "forest": fit_isolation_forest,
    "svm": fit_one_class_svm,
    "mixture": fit_mixture,
}


# -- novelty detection: tables -----------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows, some of which are outliers.

    Parameters
    ----------
    name : str
    X : ndarray of shape (n_rows, n_columns)
    is_outlier : ndarray of shape (n_rows,), bool
    """

    name: str
    X: np.ndarray
    is_outlier: np.ndarray

    def split(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows for training, rows to score, and which of the latter are outliers."""
        normal = np.random.default_rng(seed).permutation(np.flatnonzero(~self.is_outlier))
        train, rest = np.split(normal, [len(normal) // 2])
        scored = np.concatenate([rest, np.flatnonzero(self.is_outlier)])
        kept = np.ptp(self.X[train], axis=0) > 0
        scaler = StandardScaler().fit(self.X[train][:, kept])
        X_train, X = (scaler.transform(self.X[rows][:, kept]) for rows in (train, scored))
        return X_train, X, self.is_outlier[scored]


def detection_tables(directory: Path | None) -> Iterator[Table]:
    """Tables of a folder of npz files, or those that scikit-learn ships."""
    if directory is not None:
        for path in sorted(directory.glob("*.npz")):
            with np.load(path) as file:
                yield Table(path.stem, file["X"].astype(np.float64), file["y"] == 1)
        return
    for name in ("breast_cancer", "wine"):
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        yield Table(name, X, y == 0)
    X, y = datasets.load_digits(return_X_y=True)
    for normal, other in ((4, 9), (3, 8), (7, 1)):
        some = np.isin(y, (normal, other))
        yield Table(f"digits_{normal}_{other}", X[some], y[some] == other)
    for digit in (1, 8):
        yield Table(f"digits_all_{digit}", X, y == digit)


# -- novelty detection: measure and report -----------------------------------------------


def measure_detection(table: Table, seed: int, detectors: Sequence[str]) -> list[Record]:
    """Fit every method to the same rows and score the same rows."""
    X_train, X, is_outlier = table.split(seed)
    k = PCA(0.9, svd_solver="full").fit(X_train).n_components_
    k = int(min(k, X_train.shape[1] - 1))
    common = {"table": table.name, "n_train": len(X_train), "d": X.shape[1], "k": k, "seed": seed}
    records = []
    for detector in detectors:
        start = time.perf_counter()
        scores = DETECTORS[detector](X_train, k, seed)
        seconds = time.perf_counter() - start
        for method, score in scores.items():
            start = time.perf_counter()
            auroc = 100 * float(roc_auc_score(is_outlier, score(X)))
            times = {"fit_seconds": seconds, "score_seconds": time.perf_counter() - start}
            records.append(common | {"method": method, "auroc": auroc} | times)
    return records


def aurocs(records: Sequence[Record], methods: Sequence[str], **where: Any) -> np.ndarray:
    """Mean AUROC of each method over the records that match."""
    some = [r for r in records if all(r[key] == value for key, value in where.items())]
    return np.array([np.mean([r["auroc"] for r in some if r["method"] == m]) for m in methods])


def print_line(label: str, cells: Sequence[str]) -> None:
    """Print one line of a table in markdown."""
    print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


def detect(args: argparse.Namespace) -> list[Record]:
    """Novelty detection: measure all tables, printing each as it is done."""
    print("\nNovelty detection: AUROC in %, mean over seeds\n")
    records: list[Record] = []
    for table in detection_tables(args.detection_dir):
        is_first = not records
        for seed in range(args.seeds):
            records += measure_detection(table, seed, args.detectors)
        methods = list(dict.fromkeys(r["method"] for r in records))
        if is_first:
            print_line("table | n | d | k", methods)
            print_line("--- | --: | --: | --:", ["--:"] * len(methods))
        of = records[-1]
        shown = [f"{auroc:.2f}" for auroc in aurocs(records, methods, table=table.name)]
        print_line(f"{table.name} | {of['n_train']} | {of['d']} | {of['k']}", shown)
    summarise_detection(records)
    return records


def summarise_detection(records: Sequence[Record]) -> None:
    """Print means over tables, for each seed and all, mean ranks and times."""
    methods = list(dict.fromkeys(r["method"] for r in records))
    for seed in sorted({r["seed"] for r in records}):
        shown = [f"{auroc:.2f}" for auroc in aurocs(records, methods, seed=seed)]
        print_line(f"mean, seed {seed} | | |", shown)
    names = dict.fromkeys(r["table"] for r in records)
    by_table = np.array([aurocs(records, methods, table=name) for name in names])
    print_line("mean | | |", [f"**{auroc:.2f}**" for auroc in by_table.mean(axis=0)])
    print_line("worst table | | |", [f"{auroc:.2f}" for auroc in by_table.min(axis=0)])
    ranks = rankdata(-by_table, axis=1).mean(axis=0)
    print_line("mean rank | | |", [f"{rank:.2f}" for rank in ranks])
    for measure in ("fit_seconds", "score_seconds"):
        means = [np.mean([r[measure] for r in records if r["method"] == m]) for m in methods]
        label = f"mean {measure.replace('_', ' ')} | | |"
        print_line(label, [f"{mean:.2f}" for mean in means])


# -- the variational autoencoder beside probabilistic PCA --------------------------------


def tables_of_rows(directory: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Bundled tables, and the CSV files of a folder without their last column."""
    for name in ("breast_cancer", "diabetes", "digits", "iris", "wine"):
        yield name, getattr(datasets, f"load_{name}")().data
    for path in sorted(directory.glob("*.csv")) if directory else ():
        content = np.genfromtxt(path, delimiter=",", dtype=str, skip_header=1)
        yield path.stem, content[:, :-1].astype(np.float64)


def measure_vae(X_train: np.ndarray, X: np.ndarray, k: int, seed: int) -> Record:
    """Errors and likelihoods of held-out rows."""
    pca = PCA(k, svd_solver="full").fit(X_train)
    error = np.square(X - pca.inverse_transform(pca.transform(X))).sum()
    linear = VAETransformer(k, hidden_layer_sizes=()).fit(X_train)
    start = time.perf_counter()
    vae = VAETransformer(k, random_state=seed).fit(X_train)
    seconds = time.perf_counter() - start
    bounds = [vae.score_samples(X, random_state=draws).mean() for draws in range(5)]
    return {
        "error": float(vae.reconstruction_error(X).sum() / error),
        "linear": float(linear.reconstruction_error(X).sum() / error),
        "gain": float(np.mean(bounds) - pca.score(X)),
        "spread": float(np.std(bounds)),
        "active": vae.n_active_components_,
        "fit_seconds": seconds,
    }


def compare_vae(args: argparse.Namespace) -> list[Record]:
    """Every table and number of components, each printed as it is done."""
    print("\nVariational autoencoder beside PCA\n")
    measures = ("error", "linear", "gain", "spread", "active", "fit_seconds")
    print_line("table | n | d | k", measures)
    print_line("--- | --: | --: | --:", ["--:"] * len(measures))
    records: list[Record] = []
    for name, X in tables_of_rows(args.tables):
        X = X[:, np.ptp(X, axis=0) > 0]
        X = X[np.random.default_rng(0).permutation(len(X))[:MAX_ROWS]]
        for seed in range(args.vae_seeds):
            train, rest = train_test_split(X, test_size=0.3, random_state=seed)
            scaler = StandardScaler().fit(train)
            train, rest = scaler.transform(train), scaler.transform(rest).clip(-10, 10)
            d = X.shape[1]
            for k in sorted({2, max(2, d // 4), max(2, d // 2)}):
                if k < d:
                    record = measure_vae(train, rest, k, seed)
                    shown = [f"{record[m]:.3f}" for m in measures]
                    print_line(f"{name} | {len(train)} | {d} | {k}", shown)
                    records.append({"table": name, "d": d, "k": k, "seed": seed} | record)
    summarise_vae(records)
    return records


def summarise_vae(records: Sequence[Record]) -> None:
    """Print what holds over all pairs of a table and a number of components."""
    errors = np.array([r["error"] for r in records])
    bound = np.array([max(1.1, (1 + 1e-6) * r["linear"]) for r in records])
    better = sum(r["gain"] > 2 * r["spread"] for r in records)
    dead = sum(r["active"] < r["k"] for r in records)
    print(f"\nruns: {len(records)}")
    print(f"error over PCA's, geometric mean: {np.exp(np.log(errors).mean()):.3f}")
    print(
        f"above 1: {(errors > 1).sum()}; above 1.1 and the linear model: {(errors > bound).sum()}"
    )
    print(f"bound above PCA's likelihood by two spreads: {better}")
    print(f"runs with a silent component: {dead}")
    print(f"mean fit: {np.mean([r['fit_seconds'] for r in records]):.2f} s")


# -- binarised MNIST ---------------------------------------------------------------------


def read_images(directory: Path, part: str) -> np.ndarray:
    """Grey levels in [0, 1], one image a row."""
    path = next(directory.glob(f"{part}-images*"))
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read()
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 784) / np.float32(255)


def binarise(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Images drawn from grey levels."""
    return (random.random(images.shape, dtype=np.float32) < images).astype(np.float32)


def measure_mnist(args: argparse.Namespace) -> list[Record]:
    """Fit the model once and report its bounds."""
    if args.mnist_dir is None:
        print("\nmnist skipped: no folder; see --mnist-dir")
        return []
    print("\nBinarised MNIST, 50 components, two hidden layers of 200\n")
    random = np.random.default_rng(0)
    train, test = (read_images(args.mnist_dir, part) for part in ("train", "t10k"))
    train = np.concatenate([binarise(train, random) for _ in range(args.mnist_copies)])
    test = binarise(test, random)
    vae = VAETransformer(
        50,
        likelihood="bernoulli",
        hidden_layer_sizes=(200, 200),
        lr=args.mnist_lr,
        weight_decay=args.mnist_weight_decay,
        batch_size=args.mnist_batch_size,
        max_epochs=args.mnist_epochs,
        validation_fraction=1 / 60,
        random_state=0,
        verbose=1,
    )
    start = time.perf_counter()
    vae.fit(train)
    seconds = time.perf_counter() - start
    record = {
        "minutes": seconds / 60,
        "epochs": vae.n_iter_,
        "held_out": vae.validation_loss_curve_[-1],
        "active": vae.n_active_components_,
        "bound": float(vae.score_samples(test, n_draws=1).mean()),
        "bound_64": float(vae.score_samples(test, n_draws=64).mean()),
        "bound_5000": float(vae.score_samples(test[:1000], n_draws=5000).mean()),
        "bound_64_same": float(vae.score_samples(test[:1000], n_draws=64).mean()),
    }
    for name, value in record.items():
        print(f"{name}: {value:.3f}")
    return [record]


# -- parts, command line -----------------------------------------------------------------

PARTS: dict[str, Callable[[argparse.Namespace], list[Record]]] = {
    "detect": detect,
    "vae": compare_vae,
    "mnist": measure_mnist,
}


def describe_machine(threads: int) -> dict[str, str]:
    """Versions of what matters and the kind of machine."""
    names = ["numpy", "scikit-learn", "scipy", "torch"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    python = f"python {platform.python_version()}"
    return {
        "versions": ", ".join([f"skae {skae.__version__}", python, *versions]),
        "machine": f"{platform.system()} {platform.machine()}, {threads=}",
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--detection-dir", type=Path, help="folder of npz files with X and y")
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tables", type=Path, help="folder of CSV files, last column target")
    parser.add_argument("--vae-seeds", type=int, default=1)
    parser.add_argument("--mnist-dir", type=Path, help="folder of MNIST's idx files")
    parser.add_argument("--mnist-epochs", type=int, default=80)
    parser.add_argument("--mnist-copies", type=int, default=5)
    parser.add_argument("--mnist-lr", type=float, default=3e-3)
    parser.add_argument("--mnist-weight-decay", type=float, default=0.05)
    parser.add_argument("--mnist-batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="results.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    machine = describe_machine(args.threads)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    torch.set_num_threads(args.threads)
    results: dict[str, list[Record]] = {}
    with threadpool_limits(args.threads):
        for part in args.parts:
            results[part] = PARTS[part](args)
    if args.output:
        args.output.write_text(json.dumps({**machine, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
