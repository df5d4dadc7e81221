"""Any input gives finite numbers or a documented error, and stays as it was."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[1] / "examples" / "benchmarks" / "fuzz.py"


def load(path):
    """A script as a module."""
    spec = spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = load(SCRIPT)
Example = fuzz.Example


@pytest.mark.parametrize("kind", fuzz.PARAMS)
@settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # finding the smallest example takes minutes
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_outputs_are_finite_or_errors_are_documented(kind, data):
    example = data.draw(fuzz.examples((kind,)).filter(fuzz.can_be_made))
    assert fuzz.check(example) <= fuzz.ERRORS.keys() | {"too few rows for a score"}


# Examples that once failed, and the errors that they shall raise.
FOUND = {
    "a frame without columns": (
        Example("AutoencoderTransformer", n_columns=0, container="pandas"),
        {"too few rows or columns"},
    ),
    "a word": (Example("VAETransformer", container="word"), {"a type of X"}),
    "units that are never active": (
        Example(
            "SparseAutoencoder",
            {"sparsity": "l1", "optimizer": "sgd", "tol": 0.0, "sparse_output": True},
            n_columns=3,
            values="unit interval",
            container="pandas",
            random_state=1,
        ),
        set(),
    ),
    "squares that vanish": (
        Example("AutoencoderRegressor", n_rows=40, n_columns=3, values="scale 1e-320"),
        set(),
    ),
    "a map of tiny numbers": (
        Example("NeighborAutoencoder", n_rows=40, values="scale 1e-320", container="CSR"),
        set(),
    ),
    "private components of constant rows": (
        Example("MultiViewAutoencoder", {"n_private": 1}, n_columns=6, values="zeros"),
        set(),
    ),
    "rows far from those of the fit": (
        Example("MeshAutoencoder", {}, values="scale 1e-30", dtype="float32", later="offset 1e6"),
        {"too far from the rows of fit"},
    ),
    "far from two rows": (
        Example(
            "LatentDimensionSearch",
            {},
            values="two rows, repeated",
            later="scale 1e150",
            n_columns=3,
        ),
        set(),
    ),
    "chunks of different units": (
        Example("TableAutoencoder", {}, values="normal", later="scale 1e150", container="pandas"),
        {"too far from the rows of fit"},
    ),
    "half precision and views": (
        Example(
            "MultiViewAutoencoder",
            {},
            values="unit interval",
            dtype="float16",
            later="a column of NaN",
        ),
        {"views"},
    ),
    "infinity as a class": (
        Example(
            "AutoencoderImputer",
            {"categorical_features": [0]},
            n_rows=8,
            n_columns=3,
            values="infinity",
            random_state=2,
        ),
        set(),
    ),
    "residuals that are equal": (
        Example(
            "MeshAutoencoder",
            n_rows=40,
            n_columns=3,
            values="scale 1e30",
            dtype="int64",
            container="pandas",
            random_state=3,
        ),
        set(),
    ),
    "a search on constant rows": (Example("LatentDimensionSearch", values="zeros"), set()),
    "a search on three rows": (Example("LatentDimensionSearch", n_rows=3), set()),
    "codes outside of the prior": (
        Example(
            "AdversarialAutoencoder",
            {"lr": 1.0, "prior": "uniform", "n_components": None, "activation": "tanh"},
            n_rows=40,
            values="mixed units",
            dtype="int8",
            container="CSR",
        ),
        set(),
    ),
    "a variance beyond the largest number": (
        Example("ConditionalVAE", n_rows=40, values="scale 1e300", container="polars"),
        {"too large for squares"},
    ),
    "more rows held out than there are": (
        Example(
            "AutoencoderImputer",
            {"validation_fraction": 0.9},
            n_rows=12,
            n_columns=2,
            values="mixed units",
            dtype="float32",
            container="pandas of many types",
            random_state=1,
        ),
        set(),
    ),
    "whitened codes of equal rows": (
        Example(
            "NeighborAutoencoder",
            {"whiten": True, "hidden_layer_sizes": (4, 3), "weight_decay": 0.5, "min_dist": 0.0},
            n_columns=6,
            values="scale 1e-200",
            dtype="uint8",
            container="memory map",
            random_state=1,
            later="the same",
        ),
        set(),
    ),
    "a likelihood below the smallest number": (
        Example(
            "VAETransformer",
            {"n_components": 3},
            n_rows=2,
            n_columns=3,
            values="a constant column",
            container="CSR",
            later="scale 1e150",
            random_state=1,
        ),
        {"too far from the rows of fit"},  # to restore them
    ),
    "a column of gaps": (
        Example("AutoencoderImputer", values="a column of NaN", container="polars"),
        set(),
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_examples_that_once_failed(case):
    example, errors = FOUND[case]
    assert fuzz.check(example) == errors


# -- the check itself --------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        np.array([1.0, np.nan]),
        np.float32(np.inf),
        fuzz.sparse.csr_array([[0.0, np.nan]]),
        pd.DataFrame({"a": [1.0], "b": [None]}),
        fuzz.pl.DataFrame({"a": [1.0, None]}),
    ],
    ids=lambda result: type(result).__name__,
)
def test_gaps_in_outputs_are_found(result):
    assert not fuzz.is_finite(result)


@pytest.mark.parametrize("container", ["C order", "CSR", "COO", "pandas", "polars", "tensor"])
def test_a_changed_table_is_found(container):
    table = fuzz.table_of(Example("VAETransformer", container=container))
    before = fuzz.snapshot(table)
    assert fuzz.snapshot(table) == before
    if container in ("CSR", "COO"):
        table.data[0] += 1
    elif container == "pandas":
        table.iloc[0, 0] += 1
    elif container == "polars":
        table[0, 0] = 1e3
    else:
        table[0, 0] += 1
    assert fuzz.snapshot(table) != before


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"),
        RuntimeError("X is a word"),
        ZeroDivisionError("division by zero"),
        ValueError("operands could not be broadcast together with shapes (2,) (3,)"),
        ValueError("math domain error"),
        TypeError("'NoneType' object is not subscriptable"),
    ],
    ids=repr,
)
def test_other_errors_are_undocumented(error):
    assert fuzz.documented(error) is None


def test_a_warning_about_numbers_is_found():
    with pytest.raises(fuzz.UndocumentedError, match="RuntimeWarning"):
        fuzz.attempt("fit", lambda: np.float64(1) / np.float64(0))
