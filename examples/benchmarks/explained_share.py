"""How many components explain a fraction of the variance of test rows?

Run from the root of the repository::

    python examples/benchmarks/explained_share.py
    python examples/benchmarks/explained_share.py --only digits wine --fractions 0.9

``AutoencoderTransformer(n_components=fraction)`` and ``PCA(n_components=fraction)`` are fitted to
the same 70 % of the rows, standardised there; *held out* is the explained variance ratio of the
other 30 %. Fashion-MNIST: 10,000 training images drawn by ``default_rng(0)``. *Cap bound*: how
often PCA's number was used, because it explained less than the fraction of the validation rows.
*Wide* is the network and training of ``WIDE``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from denoising import FASHION_DIR, read_images
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import skae
from skae import AutoencoderTransformer
from skae.metrics import reconstruction_score

WIDE: dict[str, Any] = {"hidden_layer_sizes": 512, "activation": "gelu"}
WIDE |= {"lr": 2e-3, "weight_decay": 1.0, "max_epochs": 50}
CASES: dict[str, dict[str, Any]] = {
    "digits": {},
    "breast_cancer": {},
    "wine": {},
    "fashion": {},
    "fashion, wide": WIDE,
}
Record = dict[str, Any]


def load(name: str, directory: Path) -> np.ndarray:
    """All rows of a table."""
    if not name.startswith("fashion"):
        return getattr(datasets, f"load_{name}")().data
    X = read_images(directory / "train-images-idx3-ubyte.gz")
    return X[np.random.default_rng(0).permutation(len(X))[:10_000]]


def measure(X: np.ndarray, fraction: float, seed: int, params: dict[str, Any]) -> Record:
    """Fit both to one split."""
    X_train, X_test = train_test_split(X, test_size=0.3, random_state=seed)
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    pca = PCA(fraction, svd_solver="full").fit(X_train)
    estimator = AutoencoderTransformer(fraction, stochastic_depth=0, random_state=seed, **params)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X_train)
    seconds = time.perf_counter() - start
    bound = any(
        issubclass(w.category, ConvergenceWarning) and "n_components" in str(w.message)
        for w in caught
    )
    return {
        "fraction": fraction,
        "seed": seed,
        "explained": estimator.score(X_test),
        "bound": bound,
        "components": estimator.n_components_,
        "pca_components": int(pca.n_components_),
        "pca_explained": reconstruction_score(pca, X_test),
        "seconds": seconds,
        "curve": {name: values.tolist() for name, values in estimator.dimension_curve_.items()},
    }


def show(label: str, records: list[Record]) -> None:
    """Print one row of the table."""
    columns = {name: np.array([r[name] for r in records]) for name in records[0] if name != "curve"}
    ratio = (columns["components"] / columns["pca_components"]).mean()
    free = columns["explained"][~columns["bound"]]
    print(
        f"| {label} | {columns['fraction'][0]:g} | {columns['explained'].mean():.3f} "
        f"± {columns['explained'].std():.3f} | {free.mean() if len(free) else np.nan:.3f} "
        f"| {columns['bound'].sum()} of {len(records)} | {columns['components'].mean():.1f} "
        f"| {columns['pca_components'].mean():.1f} | {ratio:.2f} "
        f"| {columns['pca_explained'].mean():.3f} | {columns['seconds'].mean():.1f} |",
        flush=True,
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.8, 0.9, 0.95])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    packages = ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "torch"))
    versions = f"python {platform.python_version()}, skae {skae.__version__}, {packages}"
    print(f"versions: {versions}; threads={args.threads}")
    print("| table | fraction | held out | cap not bound | cap bound | components ", end="")
    print("| PCA's | ratio | PCA held out | s |")
    print("|---" * 10 + "|")
    torch.set_num_threads(args.threads)
    results: dict[str, list[Record]] = {}
    with threadpool_limits(args.threads):
        for label in args.only:
            if label.startswith("fashion") and not args.fashion_dir.is_dir():
                print(f"{label} skipped: no folder {args.fashion_dir}; see --fashion-dir")
                continue
            X, results[label] = load(label, args.fashion_dir), []
            for fraction in args.fractions:
                records = [measure(X, fraction, seed, CASES[label]) for seed in range(args.splits)]
                show(label, records)
                results[label] += records
    if args.output:
        args.output.write_text(json.dumps({"versions": versions, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
