"""Does training on corrupted rows help? skae's denoising autoencoder and its peers.

Run from the root of the repository::

    python examples/benchmarks/denoising.py
    python examples/benchmarks/denoising.py --parts restore --only digits
    python examples/benchmarks/denoising.py --parts codes --tables DIR --output results.json

*restore*: how close are reconstructions of corrupted rows to the clean rows? Digits (30 % held
out by ``train_test_split``) and Fashion-MNIST (10,000 training images drawn by
``default_rng(0)``, the first 2,000 of its test images), pixels in [0, 1]. Test rows get normal
noise of half a standard deviation of each pixel, or 30 % of their entries are replaced by the
pixel's mean, both over training rows; the denoising autoencoder is trained with the same noise.
*Error*: sum of squared errors against the clean test rows, divided by that of PCA with as many
components, and by that of the plain autoencoder with default parameters. *Wide* is the network
and training of ``WIDE`` for all data, for the plain autoencoder too. *As is* does not change the
rows. *Fit*: seconds of wall time.

*codes*: are codes better features? Columns that are constant over the table or over the training
rows are dropped; at most 1,500 rows are drawn by ``default_rng(0)``; 30 % of them are held out;
columns are standardised on the training rows and held-out rows clipped to ±10. *Accuracy*: a
logistic regression on standardised codes, on the held-out rows. Both autoencoders have the same
parameters (``CODES``, and ``--components`` of d columns), except ``noise="swap"`` at its default
level, and the same seed, which is also that of the split. They train on all rows to the end: with
early stopping, both stay at PCA on many a small table, and their codes are the same. Differences
are paired over the seeds, and so are their standard errors.

A peer is one function: add it to ``RESTORERS`` or ``ENCODERS``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from sklearn.decomposition import PCA, KernelPCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import skae
from skae import AutoencoderTransformer, DenoisingAutoencoder

FASHION_DIR = Path("/usr/share/datasets/fashion-mnist")  # Debian: dataset-fashion-mnist
CASES = [("digits", 10), ("digits", 30), ("fashion", 30)]
LEVELS = {"gaussian": 0.5, "masking": 0.3}
WIDE: dict[str, Any] = {"hidden_layer_sizes": (512, 512), "activation": "gelu"}
WIDE |= {"lr": 2e-3, "weight_decay": 1.0, "max_epochs": 100}
CODES: dict[str, Any] = {"early_stopping": False}
MAX_ROWS = 1500
MAX_CLASSES = 20
COMPONENTS: dict[str, Callable[[int], int]] = {
    "2": lambda d: 2,
    "d/4": lambda d: max(2, d // 4),
    "d/2": lambda d: max(2, d // 2),
}
Restore = Callable[[np.ndarray], np.ndarray]
Record = dict[str, Any]


# -- restore -----------------------------------------------------------------------------


def fit_pca(X: np.ndarray, k: int, noise: str, seed: int) -> Restore:
    """PCA, exact."""
    pca = PCA(k, svd_solver="full").fit(X)
    return lambda rows: pca.inverse_transform(pca.transform(rows))


def fit_kernel_pca(X: np.ndarray, k: int, noise: str, seed: int) -> Restore:
    """KernelPCA with a radial kernel.

    Its width, in median distances between rows, and its penalty are those that best reconstruct
    validation rows, which are corrupted like the test rows.
    """
    inner, outer = train_test_split(X, test_size=0.3, random_state=seed)
    corrupted = corrupt(outer, inner, noise, seed)
    squared = euclidean_distances(inner[:500], squared=True)
    median = np.median(squared[squared > 0])

    def fitted(rows: np.ndarray, width: float, alpha: float) -> Restore:
        gamma = 1 / (width**2 * median)
        pca = KernelPCA(k, kernel="rbf", gamma=gamma, alpha=alpha, fit_inverse_transform=True)
        pca.fit(rows)
        return lambda noisy: pca.inverse_transform(pca.transform(noisy))

    choices = [(width, alpha) for width in (0.5, 1, 3) for alpha in (1e-3, 1e-2, 1e-1)]
    errors = [squared_error(fitted(inner, *choice)(corrupted), outer) for choice in choices]
    return fitted(X, *choices[int(np.argmin(errors))])


def fit_plain(X: np.ndarray, k: int, noise: str, seed: int, **params: Any) -> Restore:
    """The plain autoencoder."""
    return (
        AutoencoderTransformer(k, stochastic_depth=0, random_state=seed, **params)
        .fit(X)
        .reconstruct
    )


def fit_denoising(X: np.ndarray, k: int, noise: str, seed: int, **params: Any) -> Restore:
    """The denoising autoencoder, on the noise that it will meet."""
    params |= {"noise": noise, "noise_level": LEVELS[noise], "random_state": seed}
    return DenoisingAutoencoder(k, **params).fit(X).denoise


RESTORERS: dict[str, Callable[[np.ndarray, int, str, int], Restore]] = {
    "PCA": fit_pca,
    "KernelPCA": fit_kernel_pca,
    "plain": fit_plain,
    "plain, wide": partial(fit_plain, **WIDE),
    "denoising": fit_denoising,
    "denoising, wide": partial(fit_denoising, **WIDE),
}
REFERENCES = ("PCA", "plain")
LEARNS_NOISE = ("KernelPCA", "denoising", "denoising, wide")  # others are fitted once
DIGITS_ONLY = ("KernelPCA",)  # its kernel has as many columns as there are rows


def read_images(path: Path) -> np.ndarray:
    """Read a compressed file of MNIST's images; pixels in [0, 1], one row an image."""
    with gzip.open(path, "rb") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)
    return pixels.reshape(-1, 28 * 28).astype(np.float32) / 255


def load(name: str, seed: int, directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows."""
    if name == "digits":
        X = datasets.load_digits().data / 16
        return tuple(train_test_split(X, test_size=0.3, random_state=seed))
    X = read_images(directory / "train-images-idx3-ubyte.gz")
    drawn = np.random.default_rng(0).permutation(len(X))[:10_000]
    return X[drawn], read_images(directory / "t10k-images-idx3-ubyte.gz")[:2000]


def corrupt(X: np.ndarray, X_train: np.ndarray, noise: str, seed: int) -> np.ndarray:
    """Corrupt rows in units of the training rows; the dtype stays."""
    random = np.random.default_rng(seed)
    if noise == "gaussian":
        spread = LEVELS[noise] * X_train.std(axis=0)
        return (X + spread * random.standard_normal(X.shape)).astype(X.dtype)
    return np.where(random.random(X.shape) < LEVELS[noise], X_train.mean(axis=0), X)


def squared_error(restored: np.ndarray, X: np.ndarray) -> float:
    """Sum of squared differences, in float64."""
    return float(np.square(restored - X, dtype=np.float64).sum())


def measure_restoring(
    X_train: np.ndarray, X_test: np.ndarray, k: int, seed: int, methods: Sequence[str]
) -> list[Record]:
    """Errors of all methods on all noises."""
    corrupted = {noise: corrupt(X_test, X_train, noise, seed) for noise in LEVELS}
    records: list[Record] = [
        {"noise": noise, "method": "as is", "error": squared_error(rows, X_test)}
        for noise, rows in corrupted.items()
    ]
    for method in methods:
        for i, (noise, rows) in enumerate(corrupted.items()):
            if i == 0 or method in LEARNS_NOISE:
                start = time.perf_counter()
                restore = RESTORERS[method](X_train, k, noise, seed)
                seconds = time.perf_counter() - start
            record = {"noise": noise, "method": method, "fit_seconds": seconds}
            records.append(record | {"error": squared_error(restore(rows), X_test)})
    errors = {(r["noise"], r["method"]): r["error"] for r in records}
    for r in records:
        r |= {f"over_{name}": r["error"] / errors[r["noise"], name] for name in REFERENCES}
    return records


def restore_part(args: argparse.Namespace) -> list[Record]:
    """Measure and print the errors of reconstructed rows."""
    records: list[Record] = []
    for name, k in CASES:
        if args.only and name not in args.only:
            continue
        if name == "fashion" and not args.fashion_dir.is_dir():
            print(f"fashion skipped: no folder {args.fashion_dir}; see --fashion-dir")
            continue
        methods = [m for m in RESTORERS if name == "digits" or m not in DIGITS_ONLY]
        case: list[Record] = []
        for seed in range(args.restore_seeds):
            rows = load(name, seed, args.fashion_dir)
            common = {"data": name, "k": k, "seed": seed}
            case += [common | r for r in measure_restoring(*rows, k, seed, methods)]
        print_restoring(case, f"{name}, {k} components, seeds: {args.restore_seeds}")
        records += case
    return records


def print_restoring(case: Sequence[Record], title: str) -> None:
    """Print one table: a line for each method, means over seeds."""
    print(f"\nSquared error of restored rows, {title}")
    print(f"{'':16s}" + "".join(f"{noise:>31s}" for noise in LEVELS))
    print(f"{'method':16s}" + f"{'over PCA':>11s}{'over plain':>12s}{'fit s':>8s}" * len(LEVELS))
    for method in dict.fromkeys(r["method"] for r in case):
        line = f"{method:16s}"
        for noise in LEVELS:
            some = [r for r in case if (r["noise"], r["method"]) == (noise, method)]
            over = [np.mean([r[f"over_{name}"] for r in some]) for name in REFERENCES]
            seconds = np.mean([r.get("fit_seconds", 0.0) for r in some])
            line += f"{over[0]:11.3f}{over[1]:12.3f}{seconds:8.1f}"
        print(line, flush=True)


# -- codes -------------------------------------------------------------------------------

ENCODERS: dict[str, Callable[[int, int], Any]] = {
    "plain": lambda k, seed: AutoencoderTransformer(
        k, stochastic_depth=0, random_state=seed, **CODES
    ),
    "swap": lambda k, seed: DenoisingAutoencoder(k, noise="swap", random_state=seed, **CODES),
    "PCA": lambda k, seed: PCA(k, svd_solver="full"),
}


def gather_tables(directory: Path | None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, rows and classes: tables that scikit-learn ships, and those of a folder."""
    for name in ("breast_cancer", "digits", "iris", "wine"):
        yield name, *getattr(datasets, f"load_{name}")(return_X_y=True)
    for path in sorted(directory.glob("*.csv")) if directory else ():
        content = np.genfromtxt(path, delimiter=",", dtype=str, skip_header=1)
        if len(np.unique(content[:, -1])) <= MAX_CLASSES:
            yield path.stem, content[:, :-1].astype(np.float64), content[:, -1]


def split(X: np.ndarray, y: np.ndarray, seed: int) -> list[np.ndarray]:
    """Training and test rows, standardised, and their classes."""
    X_train, X_test, *classes = train_test_split(X, y, test_size=0.3, random_state=seed)
    kept = np.ptp(X_train, axis=0) > 0
    scaler = StandardScaler().fit(X_train[:, kept])
    X_train, X_test = scaler.transform(X_train[:, kept]), scaler.transform(X_test[:, kept])
    return [X_train, X_test.clip(-10, 10), *classes]


def accuracy(encoder: Any, parts: Sequence[np.ndarray]) -> float:
    """Accuracy in % of a logistic regression on codes, on held-out rows."""
    X_train, X_test, y_train, y_test = parts
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(encoder.transform(X_train), y_train)
    return 100 * float(classifier.score(encoder.transform(X_test), y_test))


def measure_codes(X: np.ndarray, y: np.ndarray, components: str, seed: int) -> Record:
    """Accuracy on codes of all methods, and seconds of their fits."""
    parts = split(X, y, seed)
    record: Record = {"seed": seed, "d": X.shape[1], "k": COMPONENTS[components](X.shape[1])}
    for name, make in ENCODERS.items():
        start = time.perf_counter()
        encoder = make(record["k"], seed).fit(parts[0])
        record[f"{name}_fit_seconds"] = time.perf_counter() - start
        record[name] = accuracy(encoder, parts)
    return record


def codes_part(args: argparse.Namespace) -> list[Record]:
    """Measure and print the accuracy of classifiers on codes."""
    print(f"\nAccuracy in % on codes of {args.components} components, seeds: {args.seeds}")
    print(f"{'table':16s}{'d':>4s}{'k':>4s}" + "".join(f"{name:>8s}" for name in ENCODERS), end="")
    print(f"{'swap-plain':>12s}{'± s.e.':>8s}")
    tables: dict[str, list[Record]] = {}
    for name, X, y in gather_tables(args.tables):
        if args.only and name not in args.only:
            continue
        rows = np.random.default_rng(0).permutation(len(X))[:MAX_ROWS]
        X, y = X[:, np.ptp(X, axis=0) > 0][rows], y[rows]
        tables[name] = [
            {"table": name} | measure_codes(X, y, args.components, seed)
            for seed in range(args.first_seed, args.first_seed + args.seeds)
        ]
        first = tables[name][0]
        print_codes(f"{name:16s}{first['d']:4d}{first['k']:4d}", tables[name])
    if tables:
        by_seed = [
            {name: np.mean([r[name] for r in records]) for name in ENCODERS}
            for records in zip(*tables.values(), strict=True)
        ]
        print_codes(f"mean of {len(tables)} tables", by_seed)
    return [r for records in tables.values() for r in records]


def print_codes(label: str, records: Sequence[Record]) -> None:
    """Print means over seeds, and the standard error of the difference."""
    means = "".join(f"{np.mean([r[name] for r in records]):8.2f}" for name in ENCODERS)
    differences = np.array([r["swap"] - r["plain"] for r in records])
    error = differences.std(ddof=1) / len(records) ** 0.5 if len(records) > 1 else np.nan
    print(f"{label:24s}{means}{differences.mean():+12.2f}{error:8.2f}", flush=True)


# -- command line ------------------------------------------------------------------------

PARTS: dict[str, Callable[[argparse.Namespace], list[Record]]] = {
    "restore": restore_part,
    "codes": codes_part,
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of tables")
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--restore-seeds", type=int, default=1)
    parser.add_argument("--tables", type=Path, help="folder of CSV files, last column target")
    parser.add_argument("--components", choices=COMPONENTS, default="d/4")
    parser.add_argument("--seeds", type=int, default=10, help="of the codes")
    parser.add_argument("--first-seed", type=int, default=0, help="of the codes")
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
    with threadpool_limits(args.threads):
        results = {part: PARTS[part](args) for part in args.parts}
    if args.output:
        content = {"versions": versions, "wide": WIDE, "codes_parameters": CODES, **results}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
