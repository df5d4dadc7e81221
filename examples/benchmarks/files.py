"""How large are the files of a fitted model, how fast do they load, how fast is one row?

Run from the root of the repository::

    python examples/benchmarks/files.py
    python examples/benchmarks/files.py --repeats 50 --output files.json

Models. Every public estimator at its defaults on breast_cancer (standardised, two
components), and a deep one, 784-1000-500-250-30, on made-up rows. Weights are all numbers of
the network, those of its linear part included.

Measures. *Bytes a weight* of each file: pickle, skops as it is and deflated, and the ONNX models
of `transform` and of `reconstruct`. *Load* is the median time to read a file in a process that
has already imported everything, *cold* that of a whole new process which imports, reads and
transforms one row. *One row* is the median time of one call on one row, on one thread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

import numpy as np
import onnxruntime
import skops.io
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import skae
from skae import AutoencoderTransformer, DenoisingAutoencoder, VAETransformer
from skae.export import to_onnx

Record = dict[str, Any]

COLD_PICKLE = """
import pickle, sys, numpy as np
model = pickle.load(open(sys.argv[1], "rb"))
model.transform(np.zeros((1, model.n_features_in_)))
"""
COLD_ONNX = """
import sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
session.run(None, {"X": np.zeros((1, session.get_inputs()[0].shape[1]), np.float32)})
"""


# -- models ------------------------------------------------------------------------------


def gather_models() -> Iterator[tuple[str, Any, np.ndarray]]:
    """Fitted models and their rows."""
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    for kind in (AutoencoderTransformer, DenoisingAutoencoder, VAETransformer):
        yield kind.__name__, kind(random_state=0).fit(X), X
    X = np.random.default_rng(0).standard_normal((300, 784))
    deep = AutoencoderTransformer(
        30, hidden_layer_sizes=(1000, 500, 250), max_epochs=1, early_stopping=False, random_state=0
    )
    yield "784-1000-500-250-30", deep.fit(X), X


# -- measures ----------------------------------------------------------------------------


def median_seconds(function: Callable[[], Any], repeats: int) -> float:
    """Median time of a call, after one that does not count."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def write_files(model: Any, folder: Path) -> dict[str, Path]:
    """Write a model in every form."""
    contents = {
        "pickle": pickle.dumps(model),
        "skops": skops.io.dumps(model),
        "skops, deflated": skops.io.dumps(model, compression=ZIP_DEFLATED),
        "ONNX transform": to_onnx(model).SerializeToString(),
        "ONNX reconstruct": to_onnx(model, "reconstruct").SerializeToString(),
    }
    paths = {}
    for form, content in contents.items():
        paths[form] = folder / form.replace(" ", "_").replace(",", "")
        paths[form].write_bytes(content)
    return paths


def load_skops(path: Path) -> Any:
    """Read a skops file, trusting what it asks for."""
    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Read an ONNX file, for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def measure_loads(paths: dict[str, Path], repeats: int) -> dict[str, float]:
    """Seconds to read each file."""
    readers = {
        "pickle": lambda: pickle.loads(paths["pickle"].read_bytes()),
        "skops": lambda: load_skops(paths["skops"]),
        "ONNX transform": lambda: open_session(paths["ONNX transform"]),
    }
    return {form: median_seconds(reader, repeats) for form, reader in readers.items()}


def measure_cold(paths: dict[str, Path], repeats: int) -> dict[str, float]:
    """Seconds of a new process that reads a model and transforms a row."""
    scripts = {"pickle": COLD_PICKLE, "ONNX transform": COLD_ONNX}
    return {
        form: median_seconds(
            lambda form=form, script=script: subprocess.run(
                [sys.executable, "-c", script, str(paths[form])], check=True
            ),
            repeats,
        )
        for form, script in scripts.items()
    }


def measure_row(model: Any, paths: dict[str, Path], X: np.ndarray, repeats: int) -> Record:
    """Seconds of one row, in skae, in onnxruntime and in PCA."""
    row, narrow = X[:1], X[:1].astype(np.float32)
    session = open_session(paths["ONNX transform"])
    pca = PCA(model.n_components_).fit(X)
    return {
        "transform": median_seconds(lambda: model.transform(row), repeats),
        "transform, float32": median_seconds(lambda: model.transform(narrow), repeats),
        "ONNX transform": median_seconds(lambda: session.run(None, {"X": narrow}), repeats),
        "PCA.transform": median_seconds(lambda: pca.transform(row), repeats),
    }


def measure_model(name: str, model: Any, X: np.ndarray, args: argparse.Namespace) -> Record:
    """Everything about one model."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(model, Path(folder))
        return {
            "model": name,
            "n_weights": model.net_.n_parameters(),
            "bytes": {form: path.stat().st_size for form, path in paths.items()},
            "load": measure_loads(paths, args.repeats),
            "cold": measure_cold(paths, args.cold_repeats),
            "row": measure_row(model, paths, X, 20 * args.repeats),
        }


# -- report ------------------------------------------------------------------------------


def print_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print one table."""
    print(f"\n{title}\n\n| model | " + " | ".join(head) + " |")
    print("|---" + "|--:" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def report(records: list[Record]) -> None:
    """Print all tables."""
    forms = list(records[0]["bytes"])
    sizes = [
        [r["model"], f"{r['n_weights']:,}"]
        + [f"{r['bytes'][f]:,} ({r['bytes'][f] / r['n_weights']:.1f})" for f in forms]
        for r in records
    ]
    print_table("Bytes (bytes a weight)", ["weights", *forms], sizes)
    loads, cold, rows = (list(records[0][key]) for key in ("load", "cold", "row"))
    times = [
        [r["model"]]
        + [f"{1e3 * r['load'][form]:.1f}" for form in loads]
        + [f"{r['cold'][form]:.2f}" for form in cold]
        + [f"{1e6 * r['row'][form]:.0f}" for form in rows]
        for r in records
    ]
    head = [f"load {f}, ms" for f in loads] + [f"cold {f}, s" for f in cold]
    print_table("Times", head + [f"row {f}, µs" for f in rows], times)


def describe_machine() -> dict[str, str]:
    """Versions of what matters and the kind of machine."""
    names = ["numpy", "onnx", "onnxruntime", "scikit-learn", "skops", "torch"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return {
        "versions": ", ".join(
            [f"skae {skae.__version__}, python {platform.python_version()}", *versions]
        ),
        "machine": f"{platform.system()} {platform.machine()}, one thread",
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=20, help="of a load; a row has 20 times more"
    )
    parser.add_argument("--cold-repeats", type=int, default=5, help="of a new process")
    parser.add_argument("--output", type=Path, help="results.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    machine = describe_machine()
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        records = [measure_model(*model, args) for model in gather_models()]
    report(records)
    if args.output:
        args.output.write_text(json.dumps({**machine, "models": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
