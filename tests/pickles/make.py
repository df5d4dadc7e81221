"""Keep a model of every public estimator, and what it answers, for the tests of later releases.

Run from the root of the repository, with the package as it is about to be released::

    python tests/pickles/make.py

It writes one folder, named after the version; those of earlier releases stay. Of each estimator,
the folder has a pickle, a skops file, an ONNX model of each method that can be exported, and a
file of inputs and answers.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import skops.io
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from conftest import ESTIMATORS, TABLE_ESTIMATORS, name_of, table_of_wine  # noqa: E402

import skae  # noqa: E402
from skae.export import to_onnx  # noqa: E402

PARAMS = {"hidden_layer_sizes": (4,), "max_epochs": 20, "early_stopping": False}
TABLE_PARAMS = {"column_layer_sizes": (4,), "max_epochs": 20}
ANSWERS = ("transform", "reconstruct", "score_samples", "predict", "predict_proba")
EXPORTED = ("transform", "reconstruct")


def models():
    """Every public estimator, fitted to 178 rows of numbers, or to a table."""
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    for estimator in ESTIMATORS:
        yield clone(estimator).set_params(**PARAMS).fit(X), X
    few = {"max_epochs": 20, "random_state": 0}
    yield skae.ConditionalVAE(condition_features=[12], **PARAMS, random_state=0).fit(X), X
    autoencoder = skae.AutoencoderTransformer(**PARAMS, random_state=0)
    yield skae.AutoencoderClassifier(autoencoder, **few).fit(X, y), X
    yield skae.AutoencoderRegressor(autoencoder, **few).fit(X, X[:, 0]), X
    yield skae.LatentDimensionSearch(autoencoder, [1, 2], cv=3).fit(X), X
    table = table_of_wine()
    for estimator in TABLE_ESTIMATORS:
        yield clone(estimator).set_params(**TABLE_PARAMS).fit(table), table


def answers_of(fitted, rows):
    """Arrays that a model returns for rows, by the name of the method."""
    found = {name: getattr(fitted, name)(rows) for name in ANSWERS if hasattr(fitted, name)}
    return {name: answer for name, answer in found.items() if isinstance(answer, np.ndarray)}


def onnx_models_of(fitted):
    """The methods that an ONNX model can have, by their names."""
    for method in EXPORTED:
        try:
            yield method, to_onnx(fitted, method)
        except (TypeError, ValueError):  # as the page on files says
            print(f"no ONNX model of {name_of(fitted)}.{method}")


def keep(folder, fitted, rows):
    """Write the files of a model, and what it answers to the rows."""
    path = folder / name_of(fitted)
    path.with_suffix(".pkl").write_bytes(pickle.dumps(fitted))
    skops.io.dump(fitted, path.with_suffix(".skops"), compression=zipfile.ZIP_DEFLATED)
    for method, model in onnx_models_of(fitted):
        path.with_suffix(f".{method}.onnx").write_bytes(model.SerializeToString())
    inputs = {"X": rows} if isinstance(rows, np.ndarray) else {}  # the tests make the table
    if hasattr(fitted, "to_numbers"):
        inputs["numbers"] = fitted.to_numbers(rows)
    np.savez_compressed(path.with_suffix(".npz"), **inputs, **answers_of(fitted, rows))
    for file in sorted(folder.glob(f"{path.name}.*")):
        print(file.relative_to(HERE), file.stat().st_size, "bytes")


def main():
    folder = HERE / skae.__version__
    folder.mkdir(exist_ok=True)
    for fitted, rows in models():
        keep(folder, fitted, rows[::20])


if __name__ == "__main__":
    main()
