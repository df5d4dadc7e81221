"""Do samples hold the condition that is asked, and are codes free of it?

Run from the root of the repository::

    python examples/benchmarks/conditions.py
    python examples/benchmarks/conditions.py --mnist-dir package/data --fashion-dir DIR
    python examples/benchmarks/conditions.py --components 2 8 --seeds 3 --output conditions.json

Protocol. Tables: scikit-learn's digits, a quarter held out, and the first 10,000 training images of
MNIST and Fashion-MNIST, where their files are found, with all their test images; pixels in [0, 1].
The class is the condition. Methods:

*ConditionalVAE* at its defaults. *VAE a class*: a `VAETransformer` for each class, fitted to its
rows alone. *PCA a class*: `PCA` with a normal distribution of its codes and of the residuals for
each class, which is probabilistic PCA. *VAETransformer* is fitted to all rows, without classes, and
draws none.

Measures. *Asked*: samples, as many as training rows and with the classes of these, in which a
support vector machine that was trained on the training rows reads the class that was asked, in
percent. *TSTR* (train on synthetic, test on real): accuracy of three classifiers that are trained
on samples, of test rows, over that of the same classifiers trained on the training rows: logistic
regression, a support vector machine, 10 nearest neighbours; the mean of the three. *Leak*: accuracy
of the class that logistic regression reads from codes, by five folds, minus the share of the most
frequent class, in points; of test rows, and of the training rows (*trained*). *Curved*: the same
for test rows, read by a support vector machine. *Bound*: mean
log-likelihood bound of test rows, in nats; given their class, where the method knows it. Samples
have no observation noise, except those of probabilistic PCA, whose noise is a part of its model.
*Seconds* are processor time of the fit.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_vs_pca import FASHION_DIR, describe_machine, load_images
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skae import ConditionalVAE, VAETransformer

Record = dict[str, Any]
ROWS, MOST_DRAWN = 10_000, 10_000
CLASSIFIERS = (
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
    SVC(C=10),
    KNeighborsClassifier(10),
)


class Conditional:
    """The conditional autoencoder, with the class as its last column."""

    def __init__(self, k: int, seed: int):
        self.k, self.seed = k, seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Conditional:
        """Fit to rows and classes."""
        last = [X.shape[1]]
        self.model = ConditionalVAE(
            self.k, condition_features=last, categorical_features=last, random_state=self.seed
        )
        self.model.fit(np.c_[X, y])
        return self

    def sample(self, y: np.ndarray) -> np.ndarray | None:
        """Draw rows of classes."""
        asked = {self.model.n_features_in_ - 1: y.astype(float)}
        return self.model.sample(len(y), self.seed, condition=asked, observation_noise=False)[
            :, :-1
        ]

    def codes(self, X: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Encode rows."""
        return self.model.transform(np.c_[X, y])

    def bound(self, X: np.ndarray, y: np.ndarray) -> float:
        """Mean bound of rows, in nats."""
        return float(self.model.score_samples(np.c_[X, y]).mean())


class OfEachClass:
    """A model of the rows of each class."""

    def __init__(self, make: Callable[[], Any], seed: int):
        self.make, self.seed = make, seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> OfEachClass:
        """Fit to rows and classes."""
        self.models = {label: self.make().fit(X[y == label]) for label in np.unique(y)}
        return self

    def sample(self, y: np.ndarray) -> np.ndarray | None:
        """Draw rows of classes."""
        random, drawn = np.random.default_rng(self.seed), None
        for label, model in self.models.items():
            where = np.flatnonzero(y == label)
            if isinstance(model, PCA):
                of_class = random.multivariate_normal(
                    model.mean_, model.get_covariance(), len(where), method="eigh"
                )
            else:
                of_class = model.sample(len(where), self.seed, observation_noise=False)
            drawn = np.empty((len(y), of_class.shape[1])) if drawn is None else drawn
            drawn[where] = of_class
        return drawn

    def codes(self, X: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Return None: codes of different models have nothing in common."""

    def bound(self, X: np.ndarray, y: np.ndarray) -> float:
        """Mean bound of rows, in nats."""
        total = sum(m.score_samples(X[y == label]).sum() for label, m in self.models.items())
        return float(total / len(X))


class Unconditional:
    """The variational autoencoder without classes."""

    def __init__(self, k: int, seed: int):
        self.model = VAETransformer(k, random_state=seed)

    def fit(self, X: np.ndarray, y: np.ndarray) -> Unconditional:
        """Fit to rows."""
        self.model.fit(X)
        return self

    def sample(self, y: np.ndarray) -> np.ndarray | None:
        """Return None: there are no samples of a class."""

    def codes(self, X: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Encode rows."""
        return self.model.transform(X)

    def bound(self, X: np.ndarray, y: np.ndarray) -> float:
        """Mean bound of rows, in nats."""
        return float(self.model.score_samples(X).mean())


METHODS: dict[str, Callable[[int, int], Any]] = {
    "ConditionalVAE": Conditional,
    "VAE a class": lambda k, seed: OfEachClass(lambda: VAETransformer(k, random_state=seed), seed),
    "PCA a class": lambda k, seed: OfEachClass(lambda: PCA(k, svd_solver="full"), seed),
    "VAETransformer": Unconditional,
}


def tables(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Names, and training rows, test rows, and their classes."""
    X, y = load_digits(return_X_y=True)
    yield "digits", train_test_split(X / 16, y, stratify=y, random_state=0)
    for name, directory in (("MNIST", args.mnist_dir), ("Fashion-MNIST", args.fashion_dir)):
        if directory is None or not Path(directory).is_dir():
            continue
        (X, y), (test, y_test) = (load_images(Path(directory), part) for part in ("train", "t10k"))
        yield name, (X[:ROWS], test, y[:ROWS], y_test)


def measure(model: Any, data: Any, real: list[float], judge: Any) -> Record:
    """Fit a model, and measure it; `real` are accuracies of classifiers of the training rows."""
    X, test, y, y_test = data
    start = time.process_time()
    model.fit(X, y)
    record: Record = {"seconds": time.process_time() - start}
    asked = y[:MOST_DRAWN]
    drawn = model.sample(asked)
    if drawn is not None:
        record["asked"] = 100 * judge.score(drawn, asked)
        scores = [clone(each).fit(drawn, asked).score(test, y_test) for each in CLASSIFIERS]
        record["tstr"] = float(np.mean(np.divide(scores, real)))
    linear, curved = LogisticRegression(max_iter=1000), SVC(C=10)
    for column, reader, rows, classes in (
        ("leak", linear, test, y_test),
        ("trained", linear, X, y),
        ("curved", curved, test, y_test),
    ):
        codes = model.codes(rows, classes)
        if codes is not None:
            reader = make_pipeline(StandardScaler(), clone(reader))
            read = cross_val_score(reader, codes, classes, cv=5).mean()
            record[column] = 100 * (read - np.bincount(classes).max() / len(classes))
    return record | {"bound": model.bound(test, y_test)}


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--components", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--only", nargs="+", help="names of data sets")
    parser.add_argument("--mnist-dir", help="folder of MNIST's files")
    parser.add_argument(
        "--fashion-dir", default=FASHION_DIR, help="folder of Fashion-MNIST's files"
    )
    parser.add_argument("--output", help="JSON file of all records")
    args = parser.parse_args()
    machine = describe_machine(torch.get_num_threads())
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    records = []
    for name, data in tables(args):
        if args.only and name not in args.only:
            continue
        X, test, y, y_test = data
        fitted = [clone(each).fit(X, y) for each in CLASSIFIERS]
        real = [each.score(test, y_test) for each in fitted]
        print(f"\n{name}: {len(X)} x {X.shape[1]}, accuracy on real rows {np.round(real, 3)}")
        columns = "asked", "tstr", "leak", "trained", "curved", "bound", "seconds"
        print(f"{'':18s}{'k':>4s}" + "".join(f"{column:>10s}" for column in columns))
        for k in args.components:
            for method in args.methods:
                for seed in range(args.seeds):
                    record = measure(METHODS[method](k, seed), data, real, fitted[1])
                    records.append({"data": name, "k": k, "method": method, "seed": seed, **record})
                own = records[-args.seeds :]
                values = [
                    f"{np.mean([r[column] for r in own]):10.3f}"
                    if column in own[0]
                    else f"{'–':>10s}"
                    for column in columns
                ]
                print(f"{method:18s}{k:4d}" + "".join(values), flush=True)
    if args.output:
        Path(args.output).write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
