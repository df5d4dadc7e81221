"""Arrays of other namespaces: torch's tensors in, torch's tensors out.

scikit-learn follows them only in a process that was started with SCIPY_ARRAY_API=1, so that the
first test starts one, in which the others run.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from contextlib import suppress
from unittest import SkipTest

import numpy as np
import pytest
import torch
from conftest import ESTIMATORS, OwnModule, assert_close, fast, is_dense, make_fast, name_of, suited
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch.overrides import TorchFunctionMode

from skae import AutoencoderTransformer, DenoisingAutoencoder, VAETransformer
from skae._data.array_api import place_of
from skae._data.dataset import Dataset, constant_columns
from skae._data.sample_weight import weighted_mean

FOLLOWED = os.environ.get("SCIPY_ARRAY_API") == "1"
only_there = pytest.mark.skipif(not FOLLOWED, reason="runs in a process of its own")
ALL_ROWS = {"early_stopping": False}
CHECKED = [
    make_fast(),  # with folds, in which rows are those of a Dataset as they are without
    *(fast(estimator, **ALL_ROWS) for estimator in ESTIMATORS),
    *(
        fast(estimator, anchor=None, whiten=True, **ALL_ROWS)
        for estimator in ESTIMATORS
        if is_dense(estimator) and {"anchor", "whiten"} <= estimator.get_params().keys()
    ),
    *(fast(estimator, hidden_layer_sizes=(), **ALL_ROWS) for estimator in ESTIMATORS),
    make_fast(network=OwnModule, **ALL_ROWS),
    fast(VAETransformer(observation_variance="per_feature", random_state=0), **ALL_ROWS),
]
HOST = {"numpy", "cpu", "tolist", "item", "__array__"}


@pytest.mark.slow
@pytest.mark.skipif(FOLLOWED, reason="this is that process")
def test_in_a_process_where_scipy_dispatches_arrays():
    pytest.importorskip("array_api_compat")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", __file__],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    (passed,) = re.findall(r"(\d+) passed", result.stdout)
    assert int(passed) > 50


@pytest.fixture
def followed():
    with config_context(array_api_dispatch=True):
        yield


@pytest.fixture
def tensor(wine):
    return torch.from_numpy(wine)


# -- scikit-learn's checks ---------------------------------------------------------


@only_there
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", CHECKED, ids=lambda e: repr(e)[:60])
def test_scikit_learns_array_api_checks_pass(estimator):
    passed = 0
    for fresh, check in estimator_checks_generator(estimator):
        if "array_api" in check.func.__name__:  # the others run in test_common.py
            with suppress(SkipTest):  # of a namespace that is not installed
                check(fresh)
                passed += 1
    assert passed >= 5


# -- in and out --------------------------------------------------------------------


@only_there
@pytest.mark.usefixtures("followed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tensors_in_tensors_out_with_numpys_values(quick, wine, tensor, dtype):
    X = tensor.to(dtype)
    expected = clone(quick).fit(X.numpy())
    quick.fit(X)
    methods = "transform", "reconstruct", "reconstruction_error", "score_samples"
    for method in (m for m in methods if hasattr(quick, m)):
        result = getattr(quick, method)(X)
        assert isinstance(result, torch.Tensor)
        exact = method == "score_samples"  # in float64, whatever comes in
        assert result.dtype == (torch.float64 if exact else dtype)
        assert_close(result.numpy(), getattr(expected, method)(X.numpy()), 1e-4)
    Z = quick.transform(X)
    assert_close(quick.inverse_transform(Z).numpy(), quick.reconstruct(X).numpy(), 1e-6)
    assert quick.reconstruction_error(X, per_feature=True).shape == X.shape
    assert quick.score(X) == pytest.approx(expected.score(X.numpy()), abs=1e-5)
    for name in ("mean_", "components_", "explained_variance_", "singular_values_"):
        assert isinstance(getattr(quick, name), torch.Tensor)
        np.testing.assert_allclose(getattr(quick, name), getattr(expected, name), atol=1e-3)
    for result in (quick.sample(3, 0), quick.get_covariance(), quick.interpolate(X[:2], X[2:4])):
        assert isinstance(result, torch.Tensor)
    if isinstance(quick, VAETransformer):
        assert all(isinstance(part, torch.Tensor) for part in quick.posterior(X))
        assert isinstance(quick.sample_around(X[:2]), torch.Tensor)
    if isinstance(quick, DenoisingAutoencoder):
        assert isinstance(quick.denoise(X), torch.Tensor)


class Calls(TorchFunctionMode):
    """Records which functions are called on tensors."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@only_there
@pytest.mark.usefixtures("followed")
@pytest.mark.parametrize("method", ["transform", "inverse_transform", "reconstruct"])
def test_rows_do_not_pass_through_the_host(quick, tensor, method):
    quick.fit(tensor)
    rows = quick.transform(tensor) if method == "inverse_transform" else tensor
    with Calls() as calls:
        assert isinstance(getattr(quick, method)(rows), torch.Tensor)
    # What describes the model comes from the host; of the rows, only whether they are finite.
    allowed = {"item"} | ({"cpu", "numpy"} if calls.names & {"detach"} else set())
    assert not (calls.names & HOST) - allowed


@only_there
@pytest.mark.usefixtures("followed")
def test_training_rows_stay_where_they_are(tensor):
    rows = Dataset(tensor, tensor.mean(dim=0).numpy(), 2.0)
    index = np.array([3, 1, 4])
    with Calls() as calls:
        batch = rows.tensor(index, torch.float32)
    assert not calls.names & HOST
    np.testing.assert_allclose(batch, rows[index], rtol=1e-6)


def test_statistics_of_tensors_are_those_of_arrays(wine, tensor):
    X = tensor.clone()
    X[:, 3] = 7
    array, weights = X.numpy(), np.arange(178.0)
    assert np.array_equal(constant_columns(X), constant_columns(array))
    for w in (None, weights):
        np.testing.assert_allclose(weighted_mean(X, w), weighted_mean(array, w), atol=1e-12)
    ours, theirs = (Dataset(rows, wine.mean(axis=0), 2.0) for rows in (X, array))
    assert np.array_equal(ours[10:20], theirs[10:20])
    assert_close(ours.principal_components(3), theirs.principal_components(3), 1e-12)
    assert np.array_equal(ours.subset(np.arange(5))[:], theirs.subset(np.arange(5))[:])


# -- arguments ---------------------------------------------------------------------


@only_there
@pytest.mark.usefixtures("followed")
def test_weights_and_validation_rows_may_be_tensors_too(quick, wine, tensor):
    counts = np.arange(100) % 3
    expected = clone(quick).fit(wine[:100], sample_weight=counts, X_val=wine[100:])
    for weights, X_val in (
        (torch.from_numpy(counts), tensor[100:]),
        (counts, wine[100:]),
    ):
        given = clone(quick).fit(tensor[:100], sample_weight=weights, X_val=X_val)
        assert_close(given.transform(tensor).numpy(), expected.transform(wine), 1e-4)
        score = given.score(tensor, sample_weight=torch.ones(178))
        assert score == pytest.approx(expected.score(wine), abs=1e-5)


@only_there
@pytest.mark.usefixtures("followed")
@pytest.mark.parametrize("params", [{"anchor": None}, {"n_components": 0.5}], ids=str)
def test_other_ways_to_fit(quick, tensor, params):
    if "n_components" in params and not is_dense(quick):
        pytest.skip("no share of variance chooses the size of a sparse code")
    quick.set_params(**suited(quick, params)).fit(tensor)
    assert isinstance(quick.transform(tensor), torch.Tensor)


@only_there
@pytest.mark.usefixtures("followed")
def test_streams_of_tensors(quick, wine, tensor):
    for chunk in tensor.split(60):
        quick.partial_fit(chunk)
    expected = clone(quick)
    for chunk in tensor.split(60):
        expected.partial_fit(chunk.numpy())
    assert_close(quick.transform(tensor).numpy(), expected.transform(wine), 1e-6)


@only_there
@pytest.mark.usefixtures("followed")
def test_in_a_pipeline(quick, tensor):
    Z = make_pipeline(MinMaxScaler(), quick).fit_transform(tensor)
    assert isinstance(Z, torch.Tensor)


@only_there
@pytest.mark.usefixtures("followed")
def test_the_device_is_that_of_the_rows_or_auto(quick, tensor):
    quick.set_params(device="auto").fit(tensor)
    assert quick.net_.device == "cpu"
    elsewhere = torch.empty((40, 13), device="meta")
    with pytest.raises(ValueError, match=r"device='cpu'.*'meta'.*device='auto'"):
        quick.set_params(device="cpu").fit(elsewhere)


@only_there
@pytest.mark.usefixtures("followed")
def test_rows_of_another_namespace_than_those_of_the_fit_are_refused(quick, wine, tensor):
    on_tensors, on_arrays = clone(quick).fit(tensor), clone(quick).fit(wine)
    with pytest.raises(ValueError, match=r"transform\(\) must use the same namespace.*torch"):
        on_tensors.transform(wine)
    with pytest.raises(ValueError, match=r"score\(\) must use the same namespace.*numpy"):
        on_arrays.score(tensor)


@only_there
@pytest.mark.usefixtures("followed")
def test_bad_tensors_get_clear_errors(quick, tensor):
    broken = tensor.clone()
    broken[2, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        quick.fit(broken)
    quick.fit(tensor)
    with pytest.raises(ValueError, match="12 features"):
        quick.transform(tensor[:, :12])
    with pytest.raises(ValueError, match="NaN"):
        quick.transform(broken)


# -- from one to the other ---------------------------------------------------------


@only_there
def test_a_pickle_of_a_model_fitted_to_tensors_holds_none(quick, wine, tensor):
    with config_context(array_api_dispatch=True):
        Z = quick.fit(tensor).transform(tensor)
    loaded = pickle.loads(pickle.dumps(quick))
    assert isinstance(loaded.mean_, np.ndarray)
    assert_close(loaded.transform(wine), Z.numpy(), 1e-12)


@only_there
def test_without_dispatch_results_are_numpy_arrays(quick, wine, tensor):
    with config_context(array_api_dispatch=True):
        Z = quick.fit(tensor).transform(tensor)
    for rows in (wine, tensor):
        result = quick.transform(rows)
        assert isinstance(result, np.ndarray)
        assert_close(result, Z.numpy(), 1e-12)
    quick.fit(wine)
    assert isinstance(quick.mean_, np.ndarray)
    assert place_of(tensor) is None


@only_there
@pytest.mark.usefixtures("followed")
def test_a_failed_fit_to_tensors_loses_nothing(quick, tensor):
    Z = quick.fit(tensor).transform(tensor)
    before = vars(quick).copy()
    with pytest.raises(ValueError, match="NaN"):
        quick.fit(tensor * torch.nan)
    assert all(vars(quick)[name] is value for name, value in before.items())
    assert torch.equal(quick.transform(tensor), Z)


@only_there
@pytest.mark.usefixtures("followed")
def test_a_warm_start_continues_from_tensors(tensor):
    model = AutoencoderTransformer(warm_start=True, max_epochs=2, random_state=0).fit(tensor)
    mean = model.mean_.clone()
    model.fit(tensor[:100])
    assert torch.equal(model.mean_, mean)


def test_name_of_every_checked_kind():
    assert {name_of(e) for e in CHECKED} == {name_of(e) for e in ESTIMATORS}
