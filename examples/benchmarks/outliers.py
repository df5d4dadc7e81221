"""Outlier detection on scikit-learn's bundled tables: area under the curve, and false alarms.

A model gets half of the normal rows: four fifths of them for training and a fifth for the
threshold, the 95th percentile of their scores. It then scores the other half of the normal rows
and all outliers. Columns are standardised on the training rows.

    python examples/benchmarks/outliers.py --seeds 5

prints two tables in Markdown: the area under the ROC curve in percent, and at the threshold the
rates of false alarms and of outliers found.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer

Scores = Callable[[BaseEstimator, np.ndarray], np.ndarray]
LEVEL = 0.95  # share of normal rows below the threshold


def problems() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, normal rows and outliers of every problem."""
    X, y = load_breast_cancer(return_X_y=True)
    yield "breast cancer: malignant", X[y == 1], X[y == 0]
    X, y = load_wine(return_X_y=True)
    for grower in range(3):
        yield f"wine: grower {grower}", X[y != grower], X[y == grower]
    X, y = load_digits(return_X_y=True)
    for digit in range(10):
        yield f"digits: {digit}", X[y != digit], X[y == digit]


def lost_by_pca(pca: PCA, X: np.ndarray) -> np.ndarray:
    """Squared error of each row."""
    return np.square(X - pca.inverse_transform(pca.transform(X))).sum(axis=1)


def methods(seed: int, X: np.ndarray) -> dict[str, tuple[BaseEstimator, Scores]]:
    """Make each method and its score, which is high for novelties."""
    k = PCA(n_components=0.9).fit(X).n_components_
    autoencoder = AutoencoderTransformer(k, random_state=seed).fit(X)
    pca = PCA(k).fit(X)
    forest = IsolationForest(random_state=seed).fit(X)
    neighbours = LocalOutlierFactor(novelty=True).fit(X)
    return {
        "skae, likelihood": (autoencoder, lambda e, X: -e.score_samples(X)),
        "skae, error": (autoencoder, lambda e, X: e.reconstruction_error(X)),
        "PCA, likelihood": (pca, lambda e, X: -e.score_samples(X)),
        "PCA, error": (pca, lost_by_pca),
        "IsolationForest": (forest, lambda e, X: -e.score_samples(X)),
        "LocalOutlierFactor": (neighbours, lambda e, X: -e.score_samples(X)),
    }


def measure(normal: np.ndarray, outliers: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Area, false alarms and outliers found of each method, in percent."""
    known, new = train_test_split(normal, test_size=0.5, random_state=seed)
    known, aside = train_test_split(known, test_size=0.2, random_state=seed)
    scaler = StandardScaler().fit(known)
    known, aside, new, outliers = map(scaler.transform, (known, aside, new, outliers))
    truth = np.repeat([0, 1], [len(new), len(outliers)])
    results = {}
    for name, (model, score) in methods(seed, known).items():
        threshold = np.quantile(score(model, aside), LEVEL)
        scores = score(model, np.vstack([new, outliers]))
        found = scores > threshold
        area = roc_auc_score(truth, scores)
        results[name] = 100 * np.array([area, found[truth == 0].mean(), found[truth == 1].mean()])
    return results


def print_table(head: list[str], lines: list[list[str]]) -> None:
    """Print a table in Markdown."""
    for line in [head, ["---"] * len(head), *lines]:
        print(f"| {' | '.join(line)} |")
    print()


def main() -> None:
    """Measure all and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    table = {
        name: [measure(normal, outliers, seed) for seed in range(args.seeds)]
        for name, normal, outliers in problems()
    }
    names = list(next(iter(table.values()))[0])
    means = {
        problem: {name: np.mean([run[name] for run in runs], axis=0) for name in names}
        for problem, runs in table.items()
    }
    overall = {name: np.mean([m[name] for m in means.values()], axis=0) for name in names}
    rows = {**means, "**mean**": overall}
    print_table(
        ["outliers", *names],
        [[problem, *(f"{m[name][0]:.1f}" for name in names)] for problem, m in rows.items()],
    )
    print_table(
        ["method", "false alarms, %", "outliers found, %"],
        [[name, f"{overall[name][1]:.1f}", f"{overall[name][2]:.1f}"] for name in names],
    )


if __name__ == "__main__":
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        main()
