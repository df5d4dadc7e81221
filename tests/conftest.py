"""Fixtures that several test modules share: devices, data, and every public estimator."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # tests side by side share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads leave the core to others

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from skorch.callbacks import Callback
from torch import nn

from skae import (
    AdversarialAutoencoder,
    AutoencoderImputer,
    AutoencoderTransformer,
    ConvolutionalAutoencoder,
    DenoisingAutoencoder,
    MeshAutoencoder,
    MultiViewAutoencoder,
    NeighborAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    TableAutoencoder,
    VAETransformer,
)
from skae._data.seeds_and_devices import resolve_device

# A small convolutional network, which is quick.
SMALL_NETWORK = {
    "channels": 8,
    "n_blocks": 1,
    "hidden_layer_sizes": (64,),
    "max_epochs": 10,
}
# The same of a mesh.
SMALL_MESH = {
    "n_channels": 8,
    "n_blocks": 1,
    "hidden_layer_sizes": (32,),
    "max_epochs": 10,
}
# The same of a map. Shared tests are of restoring rows, from PCA on; test_neighbor has maps.
SMALL_MAP = {
    "neighbor_weight": 1.0,
    "n_neighbors": 5,
    "anchor": "pca",
    "hidden_layer_sizes": 32,
    "max_epochs": 20,
}
# Two views of any table; not scaled, so that the start is PCA, to which shared tests compare.
TWO_VIEWS = {
    "views": [slice(0, -1), slice(-1, None)],
    "scale_views": False,
    "hidden_layer_sizes": 16,
    "max_epochs": 10,
}
# Every public estimator: a new kind is one line here.
ESTIMATORS = [
    AutoencoderTransformer(random_state=0),
    DenoisingAutoencoder(random_state=0),
    VAETransformer(random_state=0),
    SparseAutoencoder(random_state=0),
    StackedAutoencoder(random_state=0),
    NeighborAutoencoder(random_state=0, **SMALL_MAP),
    ConvolutionalAutoencoder(random_state=0, image_shape="row", **SMALL_NETWORK),
    MultiViewAutoencoder(random_state=0, **TWO_VIEWS),
    MeshAutoencoder(random_state=0, edges="path", **SMALL_MESH),
    AdversarialAutoencoder(random_state=0, max_epochs=20),
]
# Those with a start, a network or a training step of their own. Tests of every kind are slow for
# these, but for scikit-learn's checks.
SLOW_KINDS = (
    StackedAutoencoder,
    NeighborAutoencoder,
    ConvolutionalAutoencoder,
    MultiViewAutoencoder,
    MeshAutoencoder,
    AdversarialAutoencoder,
)
# Those that take tables with categories and gaps.
TABLE_ESTIMATORS = [TableAutoencoder(random_state=0), AutoencoderImputer(random_state=0)]
# For tests in which the quality of the fit does not matter.
FAST = {"max_epochs": 3}
# Their folds are trained one after another, so that they take most of a short fit.
FOLDS_IN_TURN = (
    StackedAutoencoder,
    ConvolutionalAutoencoder,
    MultiViewAutoencoder,
    MeshAutoencoder,
)


def fast(estimator, **params):
    """Copy of an estimator with a few epochs."""
    return clone(estimator).set_params(**{**FAST, **params})


def make_fast(**params):
    """Autoencoder with a few epochs."""
    return fast(AutoencoderTransformer(random_state=0), **params)


def name_of(estimator):
    return type(estimator).__name__


def table_of_wine():
    """178 rows of numbers, categories, booleans and dates, with gaps. Kept pickles rely on it."""
    X = load_wine().data
    days = np.datetime64("2020-01-01") + X[:, 12].astype(int)
    frame = pd.DataFrame(
        {
            "alcohol": X[:, 0],
            "ash": pd.array(X[:, 4].round().astype(int), dtype="Int64"),
            "colour": np.where(X[:, 9] > 5, "deep", np.where(X[:, 9] > 3, "medium", "pale")),
            "hue": pd.cut(X[:, 10], [0, 0.8, 1.1, 2], labels=["low", "middle", "high"]),
            "strong": pd.array(X[:, 0] > 13, dtype="boolean"),
            "day": pd.to_datetime(days).tz_localize("Europe/Berlin"),
        }
    )
    for j, name in enumerate(frame):
        frame.loc[j :: 7 + j, name] = None
    return frame


class Fail(Callback):
    """Ends training after one epoch with an error."""

    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("a callback failed")


class OwnModule(nn.Module):
    """Network as a user would write it, with dropout and without a seed."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(n_features, 16), nn.Tanh(), nn.Linear(16, n_components)
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_components, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, n_features)
        )

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z):
        return self.decoder(z)


class OwnVariational(OwnModule):
    """The same for a variational autoencoder: means and log-variances side by side."""

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.encoder[-1] = nn.Linear(16, 2 * n_components)


def suited(estimator, params):
    """Parameters, with a network that suits this estimator.

    The test is skipped if the estimator does not have all of the parameters.
    """
    if missing := params.keys() - estimator.get_params().keys():
        pytest.skip(f"{name_of(estimator)} has no {', '.join(sorted(missing))}")
    if isinstance(estimator, VAETransformer) and params.get("network") is OwnModule:
        return {**params, "network": OwnVariational}
    return params


def is_dense(estimator):
    """Whether the code is dense.

    Then training starts at PCA, codes are centred and have a density in the space of the rows,
    and a share of variance can choose their size. For a sparse code, none of this is true.
    """
    return not hasattr(estimator, "sparse_output")


def takes_tables(estimator):
    """Whether rows may be any table, also a sparse one; images are none."""
    return get_tags(estimator).input_tags.sparse


def assert_close(actual, desired, tolerance):
    """Compare arrays, with a tolerance relative to the largest desired value."""
    scale = np.abs(desired).max()
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * scale)


def slow_but_first(values):
    """Values of a parameter, of which tests with any but the first are slow."""
    first, *others = values
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by markers
def pytest_collection_modifyitems(items):
    """Mark what is slow of some kinds, see SLOW_KINDS."""
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(value, SLOW_KINDS) for value in values):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Spare the garbage collector what lives until the end: it took a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let `-n 2` give whole modules to a worker, where tests share fits, until one is idle."""
    if config.option.dist == "load":
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)
    return None


def pytest_addoption(parser):
    parser.addoption(
        "--device", default="cpu", help="device of the tests that `-m device` selects: cpu, cuda"
    )


def pytest_configure(config):
    try:
        resolve_device(config.getoption("--device"))
    except ValueError as error:
        raise pytest.UsageError(f"--device: {error}") from None


@pytest.fixture
def device(request):
    """Name of the device that the tests marked `device` train on."""
    return str(resolve_device(request.config.getoption("--device")))


@pytest.fixture(params=ESTIMATORS, ids=name_of)
def kind(request):
    """Every public estimator, as its defaults are."""
    return clone(request.param)


@pytest.fixture
def with_folds(kind):
    """Every public estimator, with a few epochs; not fitted. Folds decide whether PCA is kept."""
    return fast(kind)


@pytest.fixture
def quick(with_folds):
    """The same, without folds where they would take most of the time.

    So the networks of these kinds are trained ones, which PCA does not replace.
    """
    if isinstance(with_folds, FOLDS_IN_TURN):
        with_folds.set_params(early_stopping=False, batch_size=100)
    return with_folds


@pytest.fixture
def quick_for_tables(quick):
    """The same, of those that take any table, also a sparse one."""
    if not takes_tables(quick):
        pytest.skip(f"{name_of(quick)} takes no sparse rows")
    return quick


@pytest.fixture(params=filter(is_dense, ESTIMATORS), ids=name_of)
def dense(request):
    """Every public estimator whose code is dense."""
    return clone(request.param)


@pytest.fixture(scope="session")
def cancer():
    """569 rows, 30 features, standardised."""
    return StandardScaler().fit_transform(load_breast_cancer().data)


@pytest.fixture(scope="session")
def raw_cancer():
    """The same in its raw units, which span five orders of magnitude."""
    return load_breast_cancer().data


@pytest.fixture(scope="session")
def wine():
    """178 rows, 13 features, standardised."""
    return StandardScaler().fit_transform(load_wine().data)


@pytest.fixture(scope="session")
def digits():
    """1797 rows, 64 features in [0, 1], three of them constant."""
    return load_digits().data / 16


@pytest.fixture
def default_dtype():
    """Let a test set torch's default dtype, which is undone after it."""
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.fixture
def two_threads():
    """Two torch threads, also where the machine grants one, so that a limit leaves a trace."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def from_docs():
    """Import a script of docs/ by its name."""
    docs = str(Path(__file__).parents[1] / "docs")
    sys.path.insert(0, docs)
    yield import_module
    sys.path.remove(docs)
