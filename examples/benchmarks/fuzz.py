"""Does any input end in an error that is not documented, or in NaN?

Run from the root of the repository::

    pip install hypothesis
    python examples/benchmarks/fuzz.py
    python examples/benchmarks/fuzz.py --examples 500 --seed 1

Hypothesis [1]_ draws an estimator, its parameters, a table and a container of the table. The
estimator is fitted for one or two epochs, and every method is called. An example passes if all
outputs are finite, the table is as before and nothing is raised; or if a ValueError or TypeError
says what is wrong, in one of the ways that `ERRORS` lists. Anything else is printed, with the
example that repeats it.

References
----------
.. [1] MacIver, D. R., Hatfield-Dodds, Z. et al. "Hypothesis: a new approach to property-based
   testing." Journal of Open Source Software 4 (43), 1891, 2019.
   https://doi.org/10.21105/joss.01891
"""

from __future__ import annotations

import argparse
import copy
import inspect
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning

import skae

# -- examples ----------------------------------------------------------------------


@dataclass
class Example:
    """An estimator and a table, as plain values: its print repeats it."""

    kind: str
    params: dict[str, Any] = field(default_factory=dict)
    n_rows: int = 12
    n_columns: int = 4
    values: str = "normal"
    dtype: str = "float64"
    container: str = "C order"
    random_state: int = 0
    later: str = "the same"  # values of the rows for the methods
    fit_params: tuple[str, ...] = ()

    def allows_minus_infinity(self, method: str) -> bool:
        """Whether a density may be zero, or its logarithm below the smallest number."""
        may_be = self.params.get("prior") == "uniform" or self.later == "scale 1e150"
        return method == "score_samples" and may_be


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.normal(size=shape)


def _with(rng: np.random.Generator, shape: tuple[int, int], value: float) -> np.ndarray:
    """Normal values, one of which is replaced."""
    X = rng.normal(size=shape)
    if X.size:
        X[tuple(rng.integers(shape))] = value
    return X


def _columns(rng: np.random.Generator, shape: tuple[int, int], value: float) -> np.ndarray:
    """Normal values, except for the first column."""
    X = rng.normal(size=shape)
    X[:, :1] = value
    return X


VALUES = {
    "normal": _normal,
    "zeros": lambda rng, shape: np.zeros(shape),
    "ones": lambda rng, shape: np.ones(shape),
    "a constant column": lambda rng, shape: _columns(rng, shape, 3.7),
    "a column of NaN": lambda rng, shape: _columns(rng, shape, np.nan),
    "equal rows": lambda rng, shape: np.tile(rng.normal(size=(1, shape[1])), (shape[0], 1)),
    "two rows, repeated": lambda rng, shape: rng.normal(size=(2, shape[1]))[
        rng.integers(2, size=shape[0])
    ],
    "equal columns": lambda rng, shape: np.tile(rng.normal(size=(shape[0], 1)), (1, shape[1])),
    "one row differs": lambda rng, shape: np.eye(*shape) * (np.arange(shape[1]) == 0),
    "small integers": lambda rng, shape: rng.integers(0, 3, size=shape).astype(float),
    "bytes": lambda rng, shape: rng.integers(0, 127, size=shape).astype(float),
    "unit interval": lambda rng, shape: rng.uniform(size=shape),
    "zeros and ones": lambda rng, shape: rng.integers(0, 2, size=shape).astype(float),
    "heavy tails": lambda rng, shape: rng.standard_cauchy(size=shape) ** 3,
    "mixed units": lambda rng, shape: (
        rng.normal(size=shape) * 10.0 ** rng.integers(-8, 9, size=shape[1])
    ),
    "offset 1e6": lambda rng, shape: 1e6 + rng.normal(size=shape),
    "offset 1e14": lambda rng, shape: 1e14 + rng.normal(size=shape),
    "scale 1e-320": lambda rng, shape: 1e-320 * rng.normal(size=shape),
    "scale 1e-200": lambda rng, shape: 1e-200 * rng.normal(size=shape),
    "scale 1e-30": lambda rng, shape: 1e-30 * rng.normal(size=shape),
    "scale 1e30": lambda rng, shape: 1e30 * rng.normal(size=shape),
    "scale 1e150": lambda rng, shape: 1e150 * rng.normal(size=shape),
    "scale 1e300": lambda rng, shape: 1e300 * rng.normal(size=shape),
    "an outlier of 1e12": lambda rng, shape: _with(rng, shape, 1e12),
    "an outlier of 1e200": lambda rng, shape: _with(rng, shape, 1e200),
    "NaN": lambda rng, shape: _with(rng, shape, np.nan),
    "infinity": lambda rng, shape: _with(rng, shape, np.inf),
    "nothing but NaN": lambda rng, shape: np.full(shape, np.nan),
    "many gaps": lambda rng, shape: np.where(
        rng.uniform(size=shape) < 0.4, np.nan, rng.normal(size=shape)
    ),
}
DTYPES = ["float64", "float32", "float16", ">f8", "int64", "int8", "uint8", "bool", "object"]
DTYPES += ["complex128", "str"]


def _spread(X: np.ndarray) -> np.ndarray:
    """Every second row and column of a larger array."""
    larger = np.zeros((2 * X.shape[0], 2 * X.shape[1]), X.dtype)
    larger[::2, ::2] = X
    return larger[::2, ::2]


def _read_only(X: np.ndarray) -> np.ndarray:
    X.setflags(write=False)
    return X


def _memory_map(X: np.ndarray) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, X)
        return np.load(file.name, mmap_mode="r")


def _named(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"column {j}" for j in range(X.shape[1])])


def _mixed(X: np.ndarray) -> pd.DataFrame:
    """Numbers, words, categories, dates and booleans, in turn."""
    frame = _named(X)
    makers = [
        lambda column: column,
        lambda column: column.map(lambda value: "low" if value < 0 else f"high {value > 1}"),
        lambda column: (column > 0).astype("category"),
        lambda column: pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(column)), "D"),
        lambda column: column > 0,
    ]
    for j, name in enumerate(list(frame)):
        if X.dtype.kind in "biuf":
            frame[name] = makers[j % len(makers)](frame[name])
    return frame


CONTAINERS = {
    "C order": lambda X: X,
    "Fortran order": np.asfortranarray,
    "reversed": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "every second": _spread,
    "read-only": _read_only,
    "memory map": _memory_map,
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "pandas": _named,
    "nullable pandas": lambda X: _named(X).convert_dtypes(),
    "pandas of many types": _mixed,
    "unnamed pandas": pd.DataFrame,
    "pandas with equal names": lambda X: pd.DataFrame(X, columns=["x"] * X.shape[1]),
    "polars": lambda X: pl.DataFrame(X.astype(float), schema=[f"c{j}" for j in range(X.shape[1])]),
    "lazy polars": lambda X: pl.DataFrame(_named(X).to_dict("list")).lazy(),
    "CSR": sparse.csr_matrix,
    "CSR array": sparse.csr_array,
    "CSC": sparse.csc_matrix,
    "COO": sparse.coo_matrix,
    "tensor": lambda X: torch.from_numpy(np.array(X)),
    "masked array": np.ma.masked_invalid,
    "one dimension": lambda X: X.ravel(),
    "three dimensions": lambda X: X[:, :, None],
    "None": lambda X: None,
    "number": lambda X: 3.0,
    "word": lambda X: "rows",
}


def table_of(example: Example, of_methods: bool = False) -> Any:
    """Table of an example, for `fit` or for the methods, in its container."""
    rng = np.random.default_rng(example.random_state)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = later if (later := example.later) in VALUES and of_methods else example.values
        X = VALUES[values](rng, (example.n_rows, example.n_columns))
        return CONTAINERS[example.container](X.astype(example.dtype))


def can_be_made(example: Example) -> bool:
    """Whether the libraries can make this table at all, and take rows of it."""
    try:
        for of_methods in (False, True):
            X = table_of(example, of_methods)
            if isinstance(X, pd.DataFrame):
                X.take([0] * min(1, len(X)))  # big-endian columns are not supported
    except Exception:
        return False
    return True


# -- estimators --------------------------------------------------------------------

SIZES = [(), 4, (4, 3)]
TRAINING = {
    "max_epochs": [1, 2],
    "batch_size": ["auto", 1, 3, 1000],
    "validation_fraction": [0.1, 0.5, 0.9],
}
NETWORK = {
    **TRAINING,
    "n_components": [1, 2, 3, 9, 0.5, 0.99, None],
    "hidden_layer_sizes": SIZES,
    "activation": ["relu", "gelu", "silu", "elu", "tanh", "softplus", "logistic", "identity"],
    "optimizer": ["adamw", "adam", "sgd"],
    "lr": [1e-5, 5e-3, 1.0],
    "lr_schedule": ["one_cycle", "constant"],
    "weight_decay": [0.0, 0.5],
    "early_stopping": [True, False],
    "n_iter_no_change": [1, 10],
    "tol": [0.0, 1.0],
    "whiten": [False, True],
    "latent_density": ["auto", "gaussian"],
    "loss": ["squared_error", "absolute_error", "huber", "binary_cross_entropy"],
    "anchor": ["pca", None],
    "warm_start": [False, True],
}
NOISES = {"noise": ["gaussian", "masking", "salt_pepper", "swap"], "noise_level": [0.0, 0.5]}
OF_TABLES = {
    **TRAINING,
    "n_components": [1, 2, 9, 0.5, None],
    "categorical_features": ["auto", None, [0], ["column 0"], [77]],
    "handle_unknown": ["ignore", "error", "infrequent_if_exist"],
    "min_frequency": [None, 2, 0.3],
    "max_categories": [None, 2, 100],
    "column_layer_sizes": [(), 4],
    "hidden_layer_sizes": SIZES,
    "n_networks": [1, 2],
    "sample_posterior": [False, True],
    "add_indicator": [False, True],
    "whiten": [False, True],
}
# Parameters of all estimators that have them, and what differs for some.
PARAMS: dict[str, dict[str, list[Any]]] = {
    "AdversarialAutoencoder": {
        "prior": ["standard_normal", "uniform"],
        "latent_density": ["prior"],
    },
    "AutoencoderClassifier": {"freeze": [False, True], "spread_labels": [False, True]},
    "AutoencoderImputer": OF_TABLES,
    "AutoencoderRegressor": {"freeze": [False, True], "spread_labels": [False, True]},
    "AutoencoderTransformer": {},
    "ConditionalVAE": {
        "condition_features": [None, [0], ["column 0"], "column 0", [77]],
        "n_components": [1, 2, 9],
        "kl_warmup": [0, 1],
        "free_bits": [0.0, 0.5],
        "beta": [0.0, 1.0],
    },
    "ConvolutionalAutoencoder": {
        "image_shape": ["row", (2, 2), (2, 2, 1), None],
        "channels": [2],
        "n_blocks": [0, 1],
        "patch_size": [1, "auto"],
        "kernel_size": [1, "auto"],
        "mixed_precision": [False, "auto"],
        "noise": [None, "gaussian", "blocks", "blur"],
    },
    "DenoisingAutoencoder": NOISES,
    "MeshAutoencoder": {
        "edges": ["path", None, [[0, 1]]],
        "n_channels": [2],
        "order": [1, 3],
        "n_clusters": ["auto", 1],
        "align": [False, True],
    },
    "MultiViewAutoencoder": {
        "views": [[slice(0, 1), slice(1, None)], [[0], [1, 2]], None],
        "n_private": [0, 1],
        "scale_views": [True, False],
    },
    "NeighborAutoencoder": {**NOISES, "n_neighbors": [1, 2, 15], "min_dist": [0.0, 0.5]},
    "SparseAutoencoder": {
        "n_components": [1, 3, None],
        "sparsity": ["topk", "l1", "kl"],
        "n_active": [1, 3, 0.5],
        "transform_n_active": [None, 1],
        "sparse_output": [False, True],
    },
    "StackedAutoencoder": {
        "pretraining": ["greedy", None],
        "noise": [None, "masking"],
        "fine_tune": [True, False],
    },
    "TableAutoencoder": OF_TABLES,
    "VAETransformer": {
        "likelihood": ["gaussian", "bernoulli"],
        "observation_variance": ["shared", "per_feature"],
        "latent_density": ["standard_normal", "auto"],
        "kl_warmup": [0, 1],
        "free_bits": [0.0, 0.5],
        "beta": [0.0, 1.0],
    },
    "LatentDimensionSearch": {"n_components": [[1], [1, 2], [2, 9]], "cv": [2, 3]},
}
# Values that no estimator admits.
REFUSED = {
    "n_components": [0, -3, 1.5, True, "two", float("nan")],
    "hidden_layer_sizes": [(0,), "wide", None],
    "activation": ["swish"],
    "batch_size": [0],
    "max_epochs": [0, 2.5],
    "lr": [0.0, float("nan"), float("inf")],
    "validation_fraction": [0.0, 1.0],
    "latent_density": [3],
    "random_state": [-1, "a"],
    "device": ["cuda:99", "here"],
    "optimizer": ["lbfgs"],
}
FIT_PARAMS = {
    "sample_weight of ones": lambda X, n: {"sample_weight": np.ones(n)},
    "sample_weight with zeros": lambda X, n: {"sample_weight": np.arange(n) % 2.0},
    "sample_weight of zeros": lambda X, n: {"sample_weight": np.zeros(n)},
    "sample_weight below zero": lambda X, n: {"sample_weight": -np.ones(n)},
    "sample_weight of NaN": lambda X, n: {"sample_weight": np.full(n, np.nan)},
    "sample_weight of 1e-200": lambda X, n: {"sample_weight": np.full(n, 1e-200)},
    "sample_weight too short": lambda X, n: {"sample_weight": np.ones(n + 1)},
    "X_val": lambda X, n: {"X_val": X},
    "groups": lambda X, n: {"groups": np.arange(n) // 2},
    "one group": lambda X, n: {"groups": np.zeros(n)},
}
OF_ANY_TABLE = ["TableAutoencoder", "AutoencoderImputer", "ConditionalVAE"]
QUICK = {"max_epochs": 1, "hidden_layer_sizes": 4, "random_state": 0}


def choices_of(kind: str) -> dict[str, list[Any]]:
    """Values to choose from, of each parameter of an estimator."""
    known = getattr(skae, kind)._get_param_names()
    choices = {k: v for k, v in {**NETWORK, **PARAMS[kind]}.items() if k in known}
    choices["refused"] = [(k, v) for k, values in REFUSED.items() if k in known for v in values]
    return choices


@st.composite
def examples(draw: Any, kinds: tuple[str, ...] = tuple(PARAMS)) -> Example:
    """Strategy of examples; most differ from a plain table in few ways."""
    kind = draw(st.sampled_from(kinds))
    choices = choices_of(kind)
    names = draw(st.lists(st.sampled_from(sorted(choices)), max_size=5, unique=True))
    params = {name: draw(st.sampled_from(choices[name])) for name in names}

    name, value = params.pop("refused", (None, None))
    params |= {name: value} if name else {}

    def often(usual: list[Any], all_of: Any) -> Any:
        return draw(st.sampled_from(usual) | st.sampled_from(usual) | st.sampled_from(list(all_of)))

    numbers = ["normal", "unit interval", "mixed units"]
    dense = ["C order", "pandas", "pandas of many types" if kind in OF_ANY_TABLE else "CSR"]
    example = Example(
        kind=kind,
        params=params,
        n_rows=often([8, 12, 40], [0, 1, 2, 3, 5]),
        n_columns=often([3, 4, 6], [0, 1, 2, 9]),
        values=often(numbers, VALUES),
        dtype=often(["float64", "float32"], DTYPES),
        container=often(dense, CONTAINERS),
        random_state=draw(st.integers(0, 3)),
        later=often(["the same"], VALUES),
        fit_params=tuple(often([()], [(name,) for name in FIT_PARAMS])),
    )
    return example


def estimator_of(example: Example) -> BaseEstimator:
    """Unfitted estimator of an example, quick to train."""
    kind = getattr(skae, example.kind)
    inner = skae.AutoencoderTransformer(2, **QUICK)
    needed = {"estimator": inner, "autoencoder": inner, **QUICK, "column_layer_sizes": 4}
    usual = {"channels": 2, "n_blocks": 1, "image_shape": "row", "edges": "path", "n_channels": 2}
    views = {"views": [slice(0, 1), slice(1, None)], "n_components": [1, 2], "cv": 2}
    if example.kind != "LatentDimensionSearch":
        del views["n_components"]
    given = {**needed, **usual, **views, **copy.deepcopy(example.params)}
    if example.kind == "ConditionalVAE":
        given.setdefault("condition_features", [0])
    if "autoencoder" in kind._get_param_names():
        given.pop("hidden_layer_sizes")
    return kind(**{k: v for k, v in given.items() if k in kind._get_param_names()})


# -- documented errors -------------------------------------------------------------

# Each names the thing that is wrong. scikit-learn's words stand for X.
ERRORS = {
    "too few rows or columns": r"Found array with 0 (sample|feature)\(s\)",
    "not two dimensions": r"Expected 2D array|Expected a 2-dimensional|Found array with dim",
    "NaN": r"Input X contains NaN|has \d+ gaps",
    "infinity": r"Input X contains infinity",
    "complex numbers": r"Complex data not supported|X holds complex",
    "no numbers": r"X holds values that are no numbers in column",
    "too far from the rows of fit": r"X lies .* times the scale of the training rows away",
    "too large for squares": r"X holds values of .* whose squares overflow",
    "sparse X": r"X is a sparse \w+|Sparse data was passed",
    "lazy X": r"X is a .*, which holds no rows yet",
    "masked X": r"X is a masked array",
    "equal names": r"X has several columns named|Expected unique column names",
    "a type of X": r"^X is a ",
    "not within [0, 1]": r"needs X within \[0, 1\]",
    "anchor and loss": r"loss='binary_cross_entropy' needs .* set anchor=None",
    "an absent column": r"has the position 77; positions are|has the name 'column 0'",
    "names without a frame": r"has names, but X has none",
    "nothing left to model": r"condition_features=.* lists all n_features",
    "text to model": r"holds text, booleans or categories; list it in condition_features",
    "column_layer_sizes": r"column_layer_sizes=\(\) must hold at least one",
    "layers to pretrain": r"fine_tune=False keeps pretrained layers fixed",
    "align": r"align=True needs two or three coordinates",
    "image_shape": r"image_shape=",
    "components and likelihood": r"score_samples needs at most as many components as features",
    "one class": r"y has one class only",
    "views": r"[Vv]iew \d|of views |all views|needs n_private=0",
    "edges": r"[Nn]either faces nor edges|edges",
    "a parameter": r"The '\w+' parameter of \w+ must be|^\w+=\S+ (must|is)",
    "weights": r"sample_weight|Sample weights",
    "unknown categories": r"Found unknown categories in column",
    "training diverges": r"The training loss was never finite",
    "too few rows for folds": r"Cannot have number of splits n_splits=",
}


def documented(error: BaseException) -> str | None:
    """Name of the documented error that this is, if it is one."""
    if isinstance(error, ValueError | TypeError):
        for name, pattern in ERRORS.items():
            if re.search(pattern, str(error), re.DOTALL):
                return name
    return None


# -- the check ---------------------------------------------------------------------


class UndocumentedError(AssertionError):
    """An example found a bug."""


def snapshot(X: Any) -> Any:
    """What must stay as it was."""
    if isinstance(X, np.ndarray | torch.Tensor):
        return np.asarray(X).tobytes(), str(X.dtype), tuple(X.shape)
    if sparse.issparse(X):
        parts = (getattr(X, n).tobytes() for n in ("data", "indices", "indptr") if hasattr(X, n))
        return type(X), X.shape, *parts
    if isinstance(X, pd.DataFrame):
        return repr(X.dtypes), X.to_csv()
    if isinstance(X, pl.DataFrame):
        return X.schema, repr(X.to_dict(as_series=False))
    return repr(X)


def targets_of(example: Example) -> np.ndarray | None:
    """Labels or numbers for estimators that need them."""
    n = example.n_rows
    if example.kind == "AutoencoderClassifier":
        return np.arange(n) % 2
    return np.arange(n) / 2 if example.kind == "AutoencoderRegressor" else None


def calls_of(estimator: Any, X: Any, y: Any) -> dict[str, Any]:
    """Calls of the methods that a fitted estimator has, and of its attributes, by name."""
    on_rows = ["transform", "reconstruct", "denoise", "reconstruction_error", "impute"]
    on_rows += ["score_samples", "predict", "predict_proba"]
    calls = {name: lambda name=name: getattr(estimator, name)(X) for name in on_rows}
    condition = {"condition": X} if isinstance(estimator, skae.ConditionalVAE) else {}
    calls["score"] = lambda: estimator.score(X, y)
    calls["inverse_transform"] = lambda: estimator.inverse_transform(
        estimator.transform(X), **condition
    )
    calls["sample"] = lambda: estimator.sample(3, random_state=0)
    calls["posterior"] = lambda: np.array(estimator.posterior(X))
    calls["get_covariance"] = lambda: estimator.get_covariance()
    calls["interpolate"] = lambda: estimator.interpolate(X, X, n_steps=2)
    for name in ("explained_variance_", "explained_variance_ratio_", "noise_variance_"):
        calls[name] = lambda name=name: getattr(estimator, name)
    calls["partial_fit"] = lambda: estimator.partial_fit(X).transform(X)  # the last one
    return {name: call for name, call in calls.items() if hasattr(estimator, name)}


def without_free_columns(result: Any, X: Any, example: Example) -> Any:
    """Rows without columns that were nothing but gaps in `fit`, or of which infinity is a class."""
    is_empty = pd.DataFrame(X.to_pandas() if isinstance(X, pl.DataFrame) else X).isna().all()
    n_classes = int(example.params.get("categorical_features") in ([0], ["column 0"]))
    kept = [j for j, empty in enumerate(is_empty) if not empty and j >= n_classes]
    if np.ndim(result) != 2 or result.shape[1] < len(is_empty):
        return result
    return result.iloc[:, kept] if isinstance(result, pd.DataFrame) else result[:, kept]


def is_finite(result: Any, or_minus_infinity: bool = False) -> bool:
    """Whether all numbers of a result are finite."""
    if isinstance(result, pd.DataFrame | pl.DataFrame):
        frame = result if isinstance(result, pd.DataFrame) else result.to_pandas()
        return all(is_finite(column.to_numpy()) for _, column in frame.items())
    result = result.toarray() if sparse.issparse(result) else np.asarray(result)
    if result.dtype == object:
        return not pd.isna(result).any()
    if result.dtype.kind not in "fc":
        return True
    fine = np.isfinite(result) | (or_minus_infinity & np.isneginf(result))
    return bool(fine.all())


def fitted(example: Example, X: Any, y: Any) -> Any:
    """Fitted estimator of an example."""
    estimator = estimator_of(example)
    further = {}
    for name in example.fit_params:
        further |= FIT_PARAMS[name](X, example.n_rows)
    known = inspect.signature(estimator.fit).parameters
    return estimator.fit(X, y, **{k: v for k, v in further.items() if k in known})


def attempt(stage: str, call: Any) -> tuple[Any, str | None]:
    """Result of a call, or the name of the documented error that it raised."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = call()
        for warning in caught:
            if issubclass(warning.category, RuntimeWarning):
                raise RuntimeWarning(f"{warning.message} ({warning.filename}:{warning.lineno})")
            if issubclass(warning.category, UndefinedMetricWarning):
                return None, "too few rows for a score"
        return result, None
    except Exception as error:
        if name := documented(error):
            return None, name
        frames = traceback.extract_tb(error.__traceback__)
        last = next(f for f in reversed(frames) if "skae" in f.filename or f is frames[0])
        place = f"{Path(last.filename).name}:{last.lineno}"
        message = f"{stage}: {type(error).__name__} at {place}: {error}"
        raise UndocumentedError(message) from error


def check(example: Example) -> set[str]:
    """Run an example; returns the names of the documented errors that were raised."""
    X, y = table_of(example), targets_of(example)
    before = snapshot(X)
    estimator, refused = attempt("fit", lambda: fitted(example, X, y))
    outcomes = {refused} - {None}
    if estimator is not None:
        later = table_of(example, of_methods=True)
        for name, call in calls_of(estimator, later, y).items():
            result, refused = attempt(name, call)
            outcomes |= {refused} - {None}
            if example.kind in OF_ANY_TABLE:
                result = without_free_columns(result, X, example)
            if refused is None and not is_finite(result, example.allows_minus_infinity(name)):
                raise UndocumentedError(f"NaN or infinity in {name}")
    if snapshot(X) != before:
        raise UndocumentedError("the table was changed")
    return outcomes


# -- the script --------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=list(PARAMS), choices=list(PARAMS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    bugs: dict[str, list[Example]] = {}
    start = time.perf_counter()

    @seed(args.seed)
    @settings(
        max_examples=args.examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(examples(tuple(args.kinds)).filter(can_be_made))
    def run(example: Example) -> None:
        kinds[example.kind] += 1
        try:
            counts.update(check(example) or {"no error"})
        except UndocumentedError as bug:
            bugs.setdefault(str(bug).partition("\n")[0][:300], []).append(example)

    run()
    seconds = time.perf_counter() - start
    print(f"{sum(kinds.values())} examples in {seconds:.0f} s")
    for name, count in kinds.most_common():
        print(f"  {count:5d}  {name}")
    print("Outcomes:")
    for name, count in counts.most_common():
        print(f"  {count:5d}  {name}")
    print(f"Undocumented: {sum(map(len, bugs.values()))}")
    for message, found in sorted(bugs.items(), key=lambda item: -len(item[1])):
        print(f"  {len(found):5d}  {message}\n         {found[0]}")
    return 1 if bugs else 0


if __name__ == "__main__":
    sys.exit(main())
