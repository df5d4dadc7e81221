"""Fits on the device that `--device` names do what fits on the CPU do.

``pytest --device cuda -m device`` runs these tests on a GPU. On the CPU they compare equal fits,
so that only the device is new on a machine that has one.
"""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest
import torch
from conftest import (
    ESTIMATORS,
    FAST,
    assert_close,
    fast,
    is_dense,
    make_fast,
    name_of,
)
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine

from skae import (
    AutoencoderClassifier,
    AutoencoderRegressor,
    AutoencoderTransformer,
    LatentDimensionSearch,
    SparseAutoencoder,
    StackedAutoencoder,
    TableAutoencoder,
    VAETransformer,
)

pytestmark = pytest.mark.device

# Of some epochs in float32, whose sums have another order on another device. Relative to the
# largest value.
FITS = 1e-3
SPARSE_SCORES = 1e-2  # which units are active changes by steps
# Of one network with the same weights, for rows of each type. In float64, a network's weights are
# those of float32, so that all products are exact to float64.
SAME_WEIGHTS = {np.float32: 1e-4, np.float64: 1e-9}
FIXED = {"n_components": 4, "early_stopping": False}  # no choice among epochs: it could flip
HEADS = {**FAST, "early_stopping": False, "random_state": 0}

# Without noise, whose random numbers are those of the device.
WITHOUT_NOISE = [
    AutoencoderTransformer(random_state=0),
    AutoencoderTransformer(anchor=None, activation="tanh", loss="huber", random_state=0),
    AutoencoderTransformer(activation="gelu", random_state=0),  # no closed form
    StackedAutoencoder(hidden_layer_sizes=(16, 8), random_state=0),
]
each_without_noise = pytest.mark.parametrize("estimator", WITHOUT_NOISE, ids=repr)


def fit_both(estimator, device, X, y=None, **fit_params):
    """The same fit on the CPU and on the device."""
    return [
        fast(estimator, **FIXED, device=place).fit(X, y, **fit_params) for place in ("cpu", device)
    ]


def on_cpu(fitted):
    """Copy of a fitted estimator whose weights are on the CPU."""
    other = copy.deepcopy(fitted).set_params(device="cpu")
    net = other.net_
    vars(net)["device"] = "cpu"
    net.module_.to("cpu")
    vars(net).pop("_copies", None)
    return other


def as_array(result):
    return result.toarray() if sparse.issparse(result) else result


# -- fits ----------------------------------------------------------------------------


def test_the_network_is_on_the_device(quick, wine, device):
    fitted = quick.set_params(device=device).fit(wine)
    tensors = [*fitted.net_.module_.parameters(), *fitted.net_.module_.buffers()]
    assert {tensor.device.type for tensor in tensors} == {torch.device(device).type}


@each_without_noise
def test_a_fit_agrees_with_the_cpu(estimator, digits, device):
    here, there = fit_both(estimator, device, digits[:400])
    assert_close(there.transform(digits), here.transform(digits), FITS)
    assert_close(there.reconstruct(digits), here.reconstruct(digits), FITS)
    assert_close(there.loss_curve_, here.loss_curve_, FITS)


@pytest.mark.parametrize("sparsity", ["topk", "l1", "kl"])
def test_a_sparse_fit_agrees_with_the_cpu(sparsity, digits, device):
    estimator = SparseAutoencoder(32, n_active=4, sparsity=sparsity, random_state=0)
    params = {"n_components": 32, "early_stopping": False, "max_epochs": 12}
    here, there = (
        clone(estimator).set_params(**params, device=place).fit(digits[:400])
        for place in ("cpu", device)
    )
    assert there.score(digits) == pytest.approx(here.score(digits), abs=SPARSE_SCORES)


@each_without_noise
def test_a_fit_with_sample_weights_agrees_with_the_cpu(estimator, digits, device):
    weights = np.random.default_rng(0).uniform(0.5, 2, 400)
    here, there = fit_both(estimator, device, digits[:400], sample_weight=weights)
    assert_close(there.reconstruct(digits), here.reconstruct(digits), FITS)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_fit_with_a_target_agrees_with_the_cpu(activation, wine, device):
    estimator = AutoencoderTransformer(target_weight=1.0, activation=activation, random_state=0)
    here, there = fit_both(estimator, device, wine, load_wine().target)
    assert_close(there.transform(wine), here.transform(wine), FITS)


def test_a_variational_fit_with_a_target_learns_on_the_device(wine, device):
    fitted = VAETransformer(4, target_weight=1.0, max_epochs=20, device=device, random_state=0)
    fitted.fit(wine, load_wine().target)
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    assert np.isfinite(fitted.transform(wine)).all()


@each_without_noise
def test_csr_rows_give_the_fit_of_dense_rows(estimator, digits, device):
    params = {**FIXED, "device": device}
    of_dense = fast(estimator, **params).fit(digits[:400])
    of_csr = fast(estimator, **params).fit(sparse.csr_matrix(digits[:400]))
    assert_close(of_csr.transform(digits), of_dense.transform(digits), FITS)


def test_cross_validated_fits_choose_as_on_the_cpu(wine, device):
    here, there = (make_fast(n_components=4, device=each).fit(wine) for each in ("cpu", device))
    assert len(there.validation_loss_curve_) == len(here.validation_loss_curve_) == 3
    assert_close(there.validation_loss_curve_, here.validation_loss_curve_, FITS)


def test_a_search_in_batches_agrees_with_the_cpu(wine, device):
    def search(place):
        estimator = make_fast(**FIXED, device=place)
        return LatentDimensionSearch(estimator, [2, 5], cv=3, random_state=0).fit(wine)

    here, there = search("cpu"), search(device)
    scores = "mean_test_score"
    np.testing.assert_allclose(there.cv_results_[scores], here.cv_results_[scores], atol=FITS)


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if is_dense(e)], ids=name_of)
def test_partial_fit_continues_on_the_device(estimator, digits, device):
    if not hasattr(estimator, "partial_fit"):
        pytest.skip("has no partial_fit")
    model = clone(estimator).set_params(n_components=4, device=device)
    for part in np.array_split(digits[:1200], 4):
        model.partial_fit(part)
    assert model.n_samples_seen_ == 1200
    assert model.score(digits[1200:]) > 0.2
    assert next(model.net_.module_.parameters()).device.type == torch.device(device).type


def test_partial_fit_agrees_with_the_cpu(digits, device):
    def streamed(place):
        model = make_fast(n_components=4, device=place)
        for part in np.array_split(digits[:600], 2):
            model.partial_fit(part)
        return model

    here, there = streamed("cpu"), streamed(device)
    assert_close(there.reconstruct(digits), here.reconstruct(digits), FITS)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_classifier_agrees_with_the_cpu(freeze, wine, device):
    here, there = (
        AutoencoderClassifier(make_fast(**FIXED, device=place), freeze=freeze, **HEADS).fit(
            wine, load_wine().target
        )
        for place in ("cpu", device)
    )
    assert_close(there.predict_proba(wine), here.predict_proba(wine), 10 * FITS)
    assert there.score(wine, load_wine().target) > 0.8


def test_a_regressor_agrees_with_the_cpu(device):
    X, y = load_diabetes(return_X_y=True)
    here, there = (
        AutoencoderRegressor(make_fast(**FIXED, device=place), **HEADS).fit(X, y)
        for place in ("cpu", device)
    )
    assert_close(there.predict(X), here.predict(X), 10 * FITS)


# -- tables --------------------------------------------------------------------------


@pytest.fixture
def mixed():
    """178 rows of numbers and a category, a tenth of the cells gaps."""
    X, y = load_wine(return_X_y=True)
    cells = np.column_stack([X[:, :4], y])
    return np.where(np.random.default_rng(0).random(cells.shape) < 0.1, np.nan, cells)


def make_table(device, **params):
    return TableAutoencoder(
        **{"categorical_features": [4], "max_epochs": 3, "random_state": 0, **params}, device=device
    )


def test_a_table_is_trained_on_the_device(mixed, device):
    table = make_table(device, max_epochs=60).fit(mixed)
    assert np.mean(table.loss_curve_[-10:]) < np.mean(table.loss_curve_[:10])
    weight = next(table.autoencoder_.net_.module_.parameters())
    assert weight.device.type == torch.device(device).type
    assert not np.isnan(table.impute(mixed)).any()
    assert np.isfinite(table.transform(mixed)).all()
    assert np.isfinite(table.score_samples(mixed)).all()
    assert not np.isnan(table.sample(50, random_state=0)).any()


def test_fits_of_a_table_repeat(mixed, device):
    once, again = (make_table(device).fit(mixed) for _ in range(2))
    np.testing.assert_array_equal(once.transform(mixed), again.transform(mixed))
    np.testing.assert_array_equal(once.sample(20, random_state=0), again.sample(20, random_state=0))


def test_a_pickled_table_keeps_the_device(mixed, device):
    table = make_table(device).fit(mixed)
    loaded = pickle.loads(pickle.dumps(table))
    np.testing.assert_array_equal(loaded.transform(mixed), table.transform(mixed))
    np.testing.assert_array_equal(loaded.impute(mixed), table.impute(mixed))


def test_a_table_is_trained_in_parts_on_the_device(mixed, device):
    table = make_table(device)
    for part in np.array_split(mixed, 2):
        table.partial_fit(part)
    assert table.n_samples_ == len(mixed)
    assert np.isfinite(table.transform(mixed)).all()


# -- methods of fitted estimators ------------------------------------------------------


@pytest.mark.parametrize("dtype", SAME_WEIGHTS, ids=lambda dtype: dtype.__name__)
def test_methods_agree_with_the_same_weights_on_the_cpu(quick, wine, device, dtype):
    there = quick.set_params(n_components=4, device=device).fit(wine)
    here, rows, tolerance = on_cpu(there), wine.astype(dtype), SAME_WEIGHTS[dtype]
    codes = as_array(here.transform(rows))
    assert_close(as_array(there.transform(rows)), codes, tolerance)
    for method, argument in (("inverse_transform", codes), ("reconstruct", rows)):
        expected = getattr(here, method)(argument)
        assert_close(getattr(there, method)(argument), expected, tolerance)
    score = "score_samples" if is_dense(there) else "reconstruction_error"
    assert_close(getattr(there, score)(rows[:20]), getattr(here, score)(rows[:20]), tolerance)
    assert_close(there.sample(20, random_state=0), here.sample(20, random_state=0), 1e-4)


def test_a_random_state_repeats_the_fit(quick, wine, device):
    once, again = (clone(quick).set_params(device=device).fit(wine) for _ in range(2))
    np.testing.assert_array_equal(once.reconstruct(wine), again.reconstruct(wine))
    np.testing.assert_array_equal(once.sample(9, random_state=1), again.sample(9, random_state=1))


def test_attributes_and_results_are_on_the_host(quick, wine, device):
    fitted = quick.set_params(device=device).fit(wine)
    public = {name: value for name, value in vars(fitted).items() if name.endswith("_")}
    assert {"explained_variance_", "mean_"} & public.keys()
    assert not [name for name, value in public.items() if isinstance(value, torch.Tensor)]
    codes = fitted.transform(wine)
    results = [codes, fitted.inverse_transform(codes), fitted.reconstruct(wine), fitted.sample(3)]
    if is_dense(fitted):
        results.append(fitted.score_samples(wine[:5]))
    assert {type(result) for result in results} == {np.ndarray}


def test_pickles_and_clones_keep_the_device(quick, wine, device):
    fitted = quick.set_params(device=device).fit(wine)
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.reconstruct(wine), fitted.reconstruct(wine))
    weight = next(loaded.net_.module_.parameters())
    assert weight.device.type == torch.device(device).type
    assert clone(fitted).get_params()["device"] == device
    assert not hasattr(clone(fitted), "net_")


# -- memory ----------------------------------------------------------------------------


def live_bytes(device):
    """Bytes of all tensors on a device."""
    gc.collect()
    if torch.device(device).type == "cuda":
        return torch.cuda.memory_allocated(device)
    # Other subclasses, such as those that torch's exporter traces with, have no memory.
    kinds = torch.Tensor, torch.nn.Parameter
    tensors = [each for each in gc.get_objects() if type(each) in kinds]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


@pytest.fixture
def new_objects_only():
    """Let the collector see only what the test makes, instead of all that was ever imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("new_objects_only")
def test_a_fitted_estimator_holds_its_network_only_and_frees_it(quick, digits, device):
    layers = {"hidden_layer_sizes": 128} if "hidden_layer_sizes" in quick.get_params() else {}
    quick.set_params(n_components=4, device=device, **layers)
    clone(quick).fit(digits[:200])  # libraries take their own memory once
    before = live_bytes(device)
    fitted = clone(quick).fit(digits)
    fitted.transform(digits)
    held = live_bytes(device) - before
    network = fitted.net_.module_
    tensors = [*network.parameters(), *network.buffers()]
    # The network and its copy in float64; a device allocates in blocks of 512 bytes.
    most = sum(3 * t.nbytes + 2 * 512 for t in tensors)
    assert 0 < held <= most < digits.nbytes
    del fitted, network, tensors
    assert live_bytes(device) == before
