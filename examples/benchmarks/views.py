"""How well is one view of a row predicted from another, and what does a missing view cost?

Run from the root of the repository::

    python examples/benchmarks/views.py
    python examples/benchmarks/views.py --csv-dir DIR --seeds 3 --output views.json

Protocol. Four tables of two views each. *halves*: the upper and the lower half of scikit-learn's
digits, pixels in [0, 1]. *fourier*: the pixels, and the magnitudes of the 40 Fourier coefficients
of an image of 8 × 8 pixels that are not conjugate to others of them; so do the multi-feature
digits of UCI describe images. *breast_cancer*, *wine* and the tables of ``--csv-dir`` (CSV files of
numbers, the last column is the target): the first half of the columns and the second, standardised
on the training rows. A quarter of the rows is held out, stratified by classes, with the seeds 0 to
``--seeds`` - 1, which also seed the fits. Test values are clipped to ±10 standard deviations. Codes
have 8 and 16 components for digits, half as many as columns and all but one for the other tables.

Measures, of held-out rows. *R²*: one minus the squared error of all columns of the predicted view
over that of their training means, for both directions. Peers are fitted for each direction, to
complete training rows: ridge regression (`RidgeCV`), `PLSRegression` and `CCA`, their penalty or
number of components chosen by 5-fold cross-validation of the training rows.

*10-NN*: accuracy of the 10 nearest training rows in codes of all views, where codes of held-out
rows are from all views, from the first, and from the second; *columns* are the columns themselves
instead of codes, of training rows, too. *error*: squared error of restored complete rows of
scaled views, over that of the joint PCA, at which training starts. *missing*: the same error after
a fit in which each view of a training row is missing with a probability of 30 %, over that after
complete training; a row that would lose both keeps one. Seconds are of processor time.

With ``experts="product"`` and ``"mixture"``, the same is measured except *missing*. *likelihood* is
the mean of `score_samples` for complete rows, which for experts is a lower bound, and *std* is the
mean posterior standard deviation, in units of the prior's, of all views, the first, and the second.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from quality_vs_pca import csv_tables, describe_machine
from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skae import MultiViewAutoencoder

LARGEST, MISSING_SHARE = 10.0, 0.3
SIZES = 1, 2, 3, 4, 6, 8, 12, 16, 24, 32  # of PLS and CCA
PENALTIES = np.logspace(-3, 5, 25)  # of ridge regression
Record = dict[str, Any]


class Parts(NamedTuple):
    """Training rows, held-out rows, their classes, and the columns of both views."""

    train: np.ndarray
    test: np.ndarray
    of_train: np.ndarray
    of_test: np.ndarray
    views: tuple[slice, slice]


def tables(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray, int, bool]]:
    """Names, rows, targets, columns of the first view, and whether columns are standardised."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    yield "halves", X, y, 32, False
    magnitudes = np.abs(np.fft.rfft2(X.reshape(-1, 8, 8))).reshape(len(X), -1) / 8
    yield "fourier", np.hstack([X, magnitudes]), y, 64, False
    for name, load in (("breast_cancer", load_breast_cancer), ("wine", load_wine)):
        X, y = load(return_X_y=True)
        yield name, X, y, X.shape[1] // 2, True
    if args.csv_dir:
        for table in csv_tables(args.csv_dir):
            X = table.X[:, np.ptp(table.X, axis=0) > 0]
            yield table.name, X, table.y, X.shape[1] // 2, True


def split(X: np.ndarray, y: np.ndarray, n_first: int, scaled: bool, seed: int) -> Parts:
    """Hold out a quarter of the rows."""
    classes, counts = np.unique(y, return_counts=True)
    stratify = y if counts.min() > 1 and len(classes) < len(y) / 10 else None
    train, test, *targets = train_test_split(
        X, y, test_size=0.25, random_state=seed, stratify=stratify
    )
    if scaled:
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test).clip(-LARGEST, LARGEST)
    return Parts(train, test, *targets, (slice(0, n_first), slice(n_first, None)))


def r2(predicted: np.ndarray, parts: Parts, view: slice) -> float:
    """Share of the variance around the training means that is predicted, of all columns."""
    rows, mean = parts.test[:, view], parts.train[:, view].mean(axis=0)
    return 1 - float(np.square(predicted - rows).sum() / np.square(rows - mean).sum())


def make_peers(n_given: int, n_asked: int) -> dict[str, Any]:
    """Peers, whose penalty or size is chosen by cross-validation."""
    grid = {"n_components": [n for n in SIZES if n <= min(n_given, n_asked)]}
    return {
        "ridge": RidgeCV(PENALTIES, cv=5),
        "PLSRegression": GridSearchCV(PLSRegression(), grid, cv=5),
        "CCA": GridSearchCV(CCA(), grid, cv=5),
    }


def hide(rows: np.ndarray, view: slice) -> np.ndarray:
    """Rows without a view."""
    hidden = rows.copy()
    hidden[:, view] = np.nan
    return hidden


def hide_at_random(parts: Parts, seed: int) -> np.ndarray:
    """Training rows whose views are missing at random; each row keeps one."""
    random, X = np.random.default_rng(seed), parts.train.copy()
    missing = random.random((len(X), 2)) < MISSING_SHARE
    both = np.flatnonzero(missing.all(axis=1))
    missing[both, random.integers(0, 2, len(both))] = False
    for i, view in enumerate(parts.views):
        X[missing[:, i], view] = np.nan
    return X


def measure_peers(parts: Parts) -> dict[str, Record]:
    """Predictions of linear models, of both directions."""
    found: dict[str, Record] = {}
    for i, view in enumerate(parts.views):
        given = parts.train[:, parts.views[1 - i]], parts.test[:, parts.views[1 - i]]
        asked = parts.train[:, view]
        for name, model in make_peers(given[0].shape[1], asked.shape[1]).items():
            started = time.process_time()
            model.fit(given[0], asked)
            seconds = time.process_time() - started
            record = found.setdefault(name, {"seconds": 0.0})
            record[f"R2 of view {i}"] = r2(model.predict(given[1]), parts, view)
            record["seconds"] += seconds
    return found


def measure_own(parts: Parts, n_components: int, seed: int) -> Record:
    """Predictions, codes, and the price of missing views."""
    options = {
        "n_components": n_components,
        "views": list(parts.views),
        "random_state": seed,
    }
    started = time.process_time()
    model = MultiViewAutoencoder(**options).fit(parts.train)
    record: Record = {"seconds": time.process_time() - started}
    record |= measure_codes(model, parts)
    errors = [error_of(model, parts)]
    for name, view in zip(("all", "0", "1"), (slice(None), *parts.views), strict=True):
        columns = KNeighborsClassifier(10).fit(parts.train[:, view], parts.of_train)
        record[f"columns of {name}"] = columns.score(parts.test[:, view], parts.of_test)
    errors.append(joint_pca_error(parts, n_components))
    with_gaps = MultiViewAutoencoder(**options).fit(hide_at_random(parts, seed))
    errors.append(error_of(with_gaps, parts))
    return record | {"error": errors[0] / errors[1], "missing": errors[2] / errors[0]}


def measure_experts(parts: Parts, n_components: int, seed: int, experts: str) -> Record:
    """Predictions and codes of the variational setting."""
    model = MultiViewAutoencoder(
        n_components, views=list(parts.views), experts=experts, random_state=seed
    )
    started = time.process_time()
    model.fit(parts.train)
    record: Record = {"seconds": time.process_time() - started}
    record |= measure_codes(model, parts)
    unit = np.sqrt(np.diag(model.latent_density_.covariance))  # of the prior
    for name, rows in rows_seen(parts).items():
        record[f"std of {name}"] = float((model.posterior(rows)[1] / unit).mean())
    return record | {"error": error_of(model, parts) / joint_pca_error(parts, n_components)}


def measure_codes(model: MultiViewAutoencoder, parts: Parts) -> Record:
    """Predictions of views, classes from codes, and likelihood."""
    record: Record = {}
    for i, view in enumerate(parts.views):
        record[f"R2 of view {i}"] = r2(model.predict_view(parts.test, i), parts, view)
    neighbours = KNeighborsClassifier(10).fit(model.transform(parts.train), parts.of_train)
    for name, rows in rows_seen(parts).items():
        record[f"10-NN of {name}"] = neighbours.score(model.transform(rows), parts.of_test)
    return record | {"likelihood": float(model.score_samples(parts.test).mean())}


def rows_seen(parts: Parts) -> dict[str, np.ndarray]:
    """Held-out rows with all views, with the first only, and with the second only."""
    first, second = parts.views
    return {"all": parts.test, "0": hide(parts.test, second), "1": hide(parts.test, first)}


def joint_pca_error(parts: Parts, n_components: int) -> float:
    """Squared error of the joint PCA, at which training starts."""
    views = list(parts.views)
    linear = MultiViewAutoencoder(n_components, views=views, hidden_layer_sizes=())
    return error_of(linear.fit(parts.train), parts)


def error_of(model: MultiViewAutoencoder, parts: Parts) -> float:
    """Squared error of restored rows, of views of equal variance."""
    errors = model.reconstruction_error(parts.test, per_feature=True)
    return sum(
        float(errors[:, view].sum() / parts.train[:, view].var(axis=0).sum())
        for view in parts.views
    )


def print_means(name: str, runs: list[Record]) -> Record:
    """Print the means over the seeds, and return them."""
    means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    print(
        f"| {name} |", ", ".join(f"{key} {value:.3f}" for key, value in means.items()), flush=True
    )
    return means


def main() -> None:
    """Measure all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv-dir", type=Path, help="folder of CSV files, last column target")
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="of all tables, only these")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file of all means")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")  # CCA of more components than the rank
    machine = describe_machine(torch.get_num_threads())
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    results: dict[str, dict[str, Record]] = {}
    for table, X, y, n_first, scaled in tables(args):
        if args.tables and table not in args.tables:
            continue
        print(f"\n{table}: {len(X)} x {X.shape[1]}, {n_first} columns in the first view")
        runs: dict[str, list[Record]] = {}
        for seed in range(args.seeds):
            parts = split(X, y, n_first, scaled, seed)
            d = X.shape[1]
            for k in (d // 2, d - 1) if scaled else (8, 16):
                record = measure_own(parts, k, seed)
                runs.setdefault(f"MultiViewAutoencoder({k})", []).append(record)
                for experts in ("product", "mixture"):
                    record = measure_experts(parts, k, seed, experts)
                    runs.setdefault(f"{experts} of experts ({k})", []).append(record)
            for name, record in measure_peers(parts).items():
                runs.setdefault(name, []).append(record)
        results[table] = {name: print_means(name, its) for name, its in runs.items()}
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
