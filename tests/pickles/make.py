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

from conftest import ESTIMATORS, name_of  # noqa: E402

import skae  # noqa: E402

PARAMS = {"hidden_layer_sizes": (4,), "max_epochs": 20, "early_stopping": False}
METHODS = ("transform", "reconstruct", "score_samples")


def main():
    folder = HERE / skae.__version__
    folder.mkdir(exist_ok=True)
    X = StandardScaler().fit_transform(load_wine().data)
    for estimator in ESTIMATORS:
        fitted = clone(estimator).set_params(**PARAMS).fit(X)
        path = folder / f"{name_of(fitted)}.pkl"
        path.write_bytes(pickle.dumps(fitted))
        methods = [method for method in METHODS if hasattr(fitted, method)]
        answers = {method: getattr(fitted, method)(X[::20]) for method in methods}
        np.savez(path.with_suffix(".npz"), X=X[::20], **answers)
        print(path.relative_to(HERE), path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
