"""Can a classifier distinguish samples of skae, and of its peers, from test rows?

Run from the root of the repository::

    python examples/benchmarks/sampling.py
    python examples/benchmarks/sampling.py --integers --seeds 5 --output sampling.json
    python examples/benchmarks/sampling.py --methods skae ppca --only wine --draws 10

Protocol. Seed s is the ``random_state`` of ``train_test_split``, which holds out 30 % of the
rows, and of every model. Columns are standardised on the training rows. A method fits the
training rows and draws as many rows as are held out, ``--draws`` times. Gradient boosting
(histograms from 1,000 rows on) learns to tell the drawn rows from those held out; its
probabilities come from five-fold cross-validation.

Measure. The area under the ROC curve, *AUC*, with which the classifier tells them
apart, folded at one half: ``|AUC - 0.5| + 0.5``, the mean over draws and seeds. 0.5 is
best. Chance alone keeps it above: *rows*, which draws training rows themselves, shows by
how much.

Tables. Two real ones, two curved sheets, and two that are mixtures of tanh of a few normal
numbers, plus noise. ``--integers`` adds digits and diabetes, whose columns take few distinct
values: samples from a continuous distribution are easily recognised there.

A peer is one function that fits rows and returns a function that draws: add it to
``METHODS``.
"""

from __future__ import annotations

import argparse
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
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import skae
from skae import AutoencoderTransformer, DenoisingAutoencoder, VAETransformer

MANY_ROWS = 1000  # from which on the classifier uses histograms
NUMBERS_OF_COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of the mixture of rows
REFERENCE = "rows"
RIVALS = ("ppca", "standard_normal", "whitened_normal", "mixture")
Record = dict[str, Any]
Draw = Callable[[int, int], np.ndarray]  # (number of rows, seed) -> rows


# -- methods -----------------------------------------------------------------------------


def fit_skae(X: np.ndarray, k: int, seed: int) -> Draw:
    """skae at its defaults."""
    return (
        AutoencoderTransformer(n_components=k, stochastic_depth=0, random_state=seed).fit(X).sample
    )


def fit_noiseless(X: np.ndarray, k: int, seed: int) -> Draw:
    """skae without residual noise: samples on the decoder's surface."""
    model = AutoencoderTransformer(n_components=k, stochastic_depth=0, random_state=seed).fit(X)
    return lambda n_rows, draw: model.sample(n_rows, draw, observation_noise=False)


def fit_standard_normal(X: np.ndarray, k: int, seed: int) -> Draw:
    """skae with codes taken for standard normal, whatever their scale."""
    return (
        AutoencoderTransformer(
            k, stochastic_depth=0, latent_density="standard_normal", random_state=seed
        )
        .fit(X)
        .sample
    )


def fit_whitened_normal(X: np.ndarray, k: int, seed: int) -> Draw:
    """The same with codes of unit variance: a normal distribution of their own moments."""
    return (
        AutoencoderTransformer(
            k, stochastic_depth=0, whiten=True, latent_density="standard_normal", random_state=seed
        )
        .fit(X)
        .sample
    )


def fit_denoising(X: np.ndarray, k: int, seed: int) -> Draw:
    """skae's denoising autoencoder at its defaults."""
    return DenoisingAutoencoder(n_components=k, random_state=seed).fit(X).sample


def fit_vae(X: np.ndarray, k: int, seed: int) -> Draw:
    """skae's variational autoencoder at its defaults: the prior's codes, the model's noise."""
    return VAETransformer(n_components=k, random_state=seed).fit(X).sample


def fit_ppca(X: np.ndarray, k: int, seed: int) -> Draw:
    """Probabilistic PCA: the normal distribution of scikit-learn's PCA."""
    pca = PCA(n_components=k, svd_solver="full").fit(X)
    covariance = pca.get_covariance()
    return lambda n_rows, draw: np.random.default_rng(draw).multivariate_normal(
        pca.mean_, covariance, size=n_rows
    )


def fit_mixture(X: np.ndarray, k: int, seed: int) -> Draw:
    """Gaussian mixture of the rows themselves, full covariances, their number by BIC."""
    mixtures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for n_components in NUMBERS_OF_COMPONENTS:
            if n_components <= len(X) // 10:
                mixtures.append(GaussianMixture(n_components, random_state=seed).fit(X))
    best = min(mixtures, key=lambda mixture: mixture.bic(X))

    def draw(n_rows: int, seed: int) -> np.ndarray:
        return best.set_params(random_state=seed).sample(n_rows)[0]

    return draw


def fit_rows(X: np.ndarray, k: int, seed: int) -> Draw:
    """Training rows themselves, without repetition: what only chance tells apart."""
    return lambda n_rows, draw: np.random.default_rng(draw).permutation(X)[:n_rows]


METHODS: dict[str, Callable[[np.ndarray, int, int], Draw]] = {
    "skae": fit_skae,
    "noiseless": fit_noiseless,
    "standard_normal": fit_standard_normal,
    "whitened_normal": fit_whitened_normal,
    "denoising": fit_denoising,
    "vae": fit_vae,
    "ppca": fit_ppca,
    "mixture": fit_mixture,
    REFERENCE: fit_rows,
}


# -- tables ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows, and the size of the code.

    Parameters
    ----------
    name : str
    X : ndarray of shape (n_rows, n_columns)
    k : int
    """

    name: str
    X: np.ndarray
    k: int


def curved_rows(n_rows: int, n_latent: int, n_columns: int) -> np.ndarray:
    """Mixtures of tanh of linear maps of a few normal numbers, plus noise."""
    random = np.random.default_rng(0)
    latent = random.standard_normal((n_rows, n_latent))
    maps = random.standard_normal((n_latent, 2 * n_columns)) * 2 / np.sqrt(n_latent)
    features = np.tanh(latent @ maps + random.standard_normal(2 * n_columns))
    mixing = random.standard_normal((2 * n_columns, n_columns)) / np.sqrt(2 * n_columns)
    return features @ mixing + 0.1 * random.standard_normal((n_rows, n_columns))


def gather_tables(args: argparse.Namespace) -> Iterator[Table]:
    """Tables that the command line asks for."""
    tables = [
        Table("wine", datasets.load_wine().data, 6),
        Table("breast_cancer", datasets.load_breast_cancer().data, 10),
        Table("swiss_roll", datasets.make_swiss_roll(3000, noise=0.1, random_state=0)[0], 2),
        Table("s_curve", datasets.make_s_curve(3000, noise=0.05, random_state=0)[0], 2),
        Table("curved_12", curved_rows(3000, 3, 12), 3),
        Table("curved_30", curved_rows(3000, 6, 30), 6),
    ]
    if args.integers:
        tables.append(Table("digits", datasets.load_digits().data, 16))
        tables.append(Table("diabetes", datasets.load_diabetes().data, 5))
    return (table for table in tables if not args.only or table.name in args.only)


# -- measure -----------------------------------------------------------------------------


def folded_auc(real: np.ndarray, drawn: np.ndarray, seed: int) -> float:
    """How well boosted trees tell rows apart, rows that they have not seen; 0.5 is not."""
    X = np.concatenate([real, drawn])
    y = np.repeat([0, 1], [len(real), len(drawn)])
    many = len(X) >= MANY_ROWS
    classifier = (HistGradientBoostingClassifier if many else GradientBoostingClassifier)(
        random_state=seed
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    probabilities = cross_val_predict(classifier, X, y, cv=folds, method="predict_proba")[:, 1]
    return abs(float(roc_auc_score(y, probabilities)) - 0.5) + 0.5


def measure_run(table: Table, seed: int, methods: Sequence[str], n_draws: int) -> list[Record]:
    """Fit every method to the same rows and score its samples."""
    X_train, X_test = train_test_split(table.X, test_size=0.3, random_state=seed)
    kept = np.ptp(X_train, axis=0) > 0
    scaler = StandardScaler().fit(X_train[:, kept])
    X_train, X_test = scaler.transform(X_train[:, kept]), scaler.transform(X_test[:, kept])
    records = []
    for method in methods:
        start = time.perf_counter()
        draw = METHODS[method](X_train, table.k, seed)
        seconds = time.perf_counter() - start
        for i in range(n_draws):
            auc = folded_auc(X_test, draw(len(X_test), i), i)
            where = {"table": table.name, "k": table.k, "seed": seed, "draw": i}
            records.append(where | {"method": method, "auc": auc, "fit_seconds": seconds})
    return records


# -- report ------------------------------------------------------------------------------


def mean_auc(records: Sequence[Record], table: str, method: str) -> float:
    """Mean over draws and seeds."""
    return float(
        np.mean([r["auc"] for r in records if (r["table"], r["method"]) == (table, method)])
    )


def standard_error(records: Sequence[Record], table: str, method: str) -> float:
    """Of the mean over seeds; nan for a single one."""
    found = [r for r in records if (r["table"], r["method"]) == (table, method)]
    seeds = sorted({r["seed"] for r in found})
    means = [np.mean([r["auc"] for r in found if r["seed"] == seed]) for seed in seeds]
    return float(np.std(means, ddof=1) / np.sqrt(len(seeds))) if len(seeds) > 1 else float("nan")


def print_table(records: Sequence[Record], table: Table, methods: Sequence[str]) -> None:
    """Print one line for a table."""
    cells = ""
    for method in methods:
        auc = mean_auc(records, table.name, method)
        cells += f" | {auc:.3f} ± {standard_error(records, table.name, method):.3f}"
    print(f"| {table.name:13s} | {table.X.shape[1]:3d} | {table.k:2d}{cells} |", flush=True)


def print_header(methods: Sequence[str]) -> None:
    """Print the head of the tables' lines."""
    print("\nFolded AUC of real against drawn, mean ± standard error over seeds; 0.5 is best\n")
    print(
        f"| {'table':13s} | {'d':>3s} | {'k':>2s}" + "".join(f" | {m:15s}" for m in methods) + " |"
    )
    print("|---|--:|--:" + "|--:" * len(methods) + "|")


def print_comparison(records: Sequence[Record], methods: Sequence[str]) -> None:
    """Print on how many tables skae comes closer to one half than each other method."""
    if "skae" not in methods:
        return
    names = list(dict.fromkeys(r["table"] for r in records))
    print("\nTables on which skae comes closer to 0.5")
    for rival in (method for method in RIVALS if method in methods):
        lost = [n for n in names if mean_auc(records, n, "skae") >= mean_auc(records, n, rival)]
        but = f"; not on {', '.join(lost)}" if lost else ""
        print(f"  than {rival:16s}{len(names) - len(lost)} of {len(names)}{but}")


def describe_machine(threads: int) -> dict[str, str]:
    """Versions of what matters and the kind of machine."""
    names = ["numpy", "scikit-learn", "scipy", "torch"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return {
        "versions": ", ".join(
            [f"skae {skae.__version__}, python {platform.python_version()}", *versions]
        ),
        "machine": f"{platform.system()} {platform.machine()}, {threads=}",
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--integers", action="store_true", help="digits and diabetes too")
    parser.add_argument("--only", nargs="+", metavar="TABLE", help="names of tables")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="results.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    machine = describe_machine(args.threads)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    torch.set_num_threads(args.threads)
    records: list[Record] = []
    print_header(args.methods)
    with threadpool_limits(args.threads):
        for table in gather_tables(args):
            for seed in range(args.seeds):
                records += measure_run(table, seed, args.methods, args.draws)
            print_table(records, table, args.methods)
    print_comparison(records, args.methods)
    if args.output:
        args.output.write_text(json.dumps({**machine, "runs": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
