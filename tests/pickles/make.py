"""Keep a pickle of every public estimator, and what it answers, for the tests of later releases.

Run from the root of the repository, with the package as it is about to be released::

    python tests/pickles/make.py

It writes one folder, named after the version; those of earlier releases stay.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from conftest import ESTIMATORS, TABLE_ESTIMATORS, name_of, table_of_wine  # noqa: E402

import skae  # noqa: E402

PARAMS = {"hidden_layer_sizes": (4,), "max_epochs": 20, "early_stopping": False}
METHODS = ("transform", "reconstruct", "score_samples")
TABLE_PARAMS = {"column_layer_sizes": (4,), "max_epochs": 20}


def keep(folder, fitted, rows, methods, **inputs):
    """Write a pickle, and what its methods answer to the rows."""
    path = folder / f"{name_of(fitted)}.pkl"
    path.write_bytes(pickle.dumps(fitted))
    answers = {name: getattr(fitted, name)(rows) for name in methods if hasattr(fitted, name)}
    np.savez(path.with_suffix(".npz"), **inputs, **answers)
    print(path.relative_to(HERE), path.stat().st_size, "bytes")


def main():
    folder = HERE / skae.__version__
    folder.mkdir(exist_ok=True)
    X = StandardScaler().fit_transform(load_wine().data)
    for estimator in ESTIMATORS:
        keep(folder, clone(estimator).set_params(**PARAMS).fit(X), X[::20], METHODS, X=X[::20])
    table = table_of_wine()
    for estimator in TABLE_ESTIMATORS:
        fitted = clone(estimator).set_params(**TABLE_PARAMS).fit(table)
        methods = ["score_samples", *["transform"] * hasattr(fitted, "inverse_transform")]
        keep(folder, fitted, table[::20], methods)  # the tests make the table themselves


if __name__ == "__main__":
    main()
