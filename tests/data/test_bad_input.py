"""Every mistake gets an error that names value and remedy, and costs nothing fitted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from conftest import ESTIMATORS, is_dense, make_fast, name_of
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from skorch.callbacks import Callback
from torch import nn

from skae import (
    AutoencoderClassifier,
    AutoencoderRegressor,
    AutoencoderTransformer,
    LatentDimensionSearch,
)

METHODS = ["transform", "inverse_transform", "reconstruct", "reconstruction_error", "score"]
ON_ROWS = ["fit", "fit_transform", "transform", "reconstruct", "reconstruction_error", "score"]


def with_value(value):
    X = np.random.default_rng(0).normal(size=(40, 13))
    X[3, 5] = value
    return X


BAD_ROWS = {
    "NaN": (with_value(np.nan), ValueError, "contains NaN"),
    "infinity": (with_value(np.inf), ValueError, "contains infinity"),
    "1-D": (np.arange(13.0), ValueError, "Expected 2D array, got 1D array"),
    "3-D": (np.ones((4, 13, 2)), ValueError, "3"),
    "no rows": (np.empty((0, 13)), ValueError, r"0 sample\(s\)"),
    "no columns": (np.empty((4, 0)), ValueError, r"0 feature\(s\)"),
    "strings": (np.full((4, 13), "a"), ValueError, "could not convert string to float|dtype"),
    "objects": (pd.DataFrame({"x": ["a", "b"]}), ValueError, "could not convert string to float"),
    "complex": (np.ones((4, 13)) * 1j, ValueError, "Complex data not supported"),
    "sparse NaN": (sparse.csr_matrix(with_value(np.nan)), ValueError, "contains NaN"),
    "scalar": (3.0, ValueError, "Expected 2D array, got scalar"),
}
NO_CODES = {"no columns", "3-D", "objects", "sparse NaN"}
# Values that a parameter does not admit.
BAD_VALUES = {
    "n_components": [0, -1, 0.0, 1.0, 1.5, "two"],
    "hidden_layer_sizes": [0, -3, "wide", (8, 0), (8.5,), ("a",), None],
    "activation": ["swish", None, 3],
    "anchor": ["lda", True],
    "loss": ["mse", None],
    "whiten": ["yes", None],
    "latent_density": ["mixture", None, 3],
    "likelihood": ["normal", None],
    "observation_variance": ["one", None, 0.1],
    "beta": [-1, math.inf, "auto"],
    "sparsity": ["l0", None],
    "n_active": [0, -1, 1.5, 0.0, "all", None],
    "transform_n_active": [0, -1, 1.5, 0.0, "all"],
    "rho": [0, 1, -0.1, "auto"],
    "sparse_output": ["yes", None],
    "kl_warmup": [-1, 0.5, None],
    "free_bits": [-0.1, None],
    "network": ["mlp", 3],
    "optimizer": ["lbfgs", None],
    "lr": [0, -1, "auto", math.nan, math.inf],
    "lr_schedule": ["cosine", None],
    "weight_decay": [-1, "none", math.inf],
    "batch_size": [0, "all", 2.5],
    "max_epochs": [0, "many", 2.5],
    "early_stopping": ["yes", None],
    "validation_fraction": [0, 1, 1.2, "a"],
    "n_iter_no_change": [0, 2.5],
    "tol": [-1, "small"],
    "callbacks": [3, "early_stopping"],
    "device": [0, None],
    "random_state": ["a", -1, 0.5],
    "warm_start": ["yes", None],
    "verbose": ["loud", -1],
    "noise": ["pink", None, 0.3],
    "noise_level": [-0.1, 1.5, "some"],
    "emphasis": [0, -1, None],
    "pretraining": ["layers", True, 3],
    "fine_tune": ["yes", None],
}
# Parameters that take a number: no boolean is one.
NUMBERS = {"n_components", "hidden_layer_sizes", "batch_size", "max_epochs", "n_iter_no_change"}
NUMBERS |= {"n_active", "transform_n_active", "kl_warmup", "lr", "weight_decay", "tol"}
NUMBERS |= {"validation_fraction", "beta", "rho", "free_bits", "noise_level", "emphasis"}
ADMITTED = [  # by one kind, though not by others
    ("StackedAutoencoder", "noise", None),
    ("StackedAutoencoder", "noise_level", 1.5),  # of no noise
]


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(1).normal(size=(60, 13))


@pytest.fixture(scope="module", params=ESTIMATORS, ids=name_of)
def fitted(request, rows):
    return clone(request.param).set_params(max_epochs=3).fit(rows)


def text_of(call):
    """Message of the error that a call raises."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return str(caught.value)


# -- rows --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("method", ON_ROWS)
@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_get_scikit_learns_errors(fitted, method, case):
    X, error, message = BAD_ROWS[case]
    estimator = clone(fitted) if method.startswith("fit") else fitted
    with pytest.raises(error, match=message):
        getattr(estimator, method)(X)


@pytest.mark.parametrize("method", ["transform", "reconstruct", "reconstruction_error", "score"])
@pytest.mark.parametrize("n_columns", [1, 12, 14])
def test_a_wrong_width_says_both_widths(fitted, method, n_columns):
    with pytest.raises(ValueError, match=f"X has {n_columns} features.*expecting 13 features"):
        getattr(fitted, method)(np.ones((3, n_columns)))


BAD_CODES = {
    **{case: BAD_ROWS[case] for case in sorted(BAD_ROWS.keys() - NO_CODES)},
    "sparse": (sparse.csr_matrix(np.eye(13)), TypeError, "[Ss]parse data was passed"),
}


@pytest.mark.parametrize("case", BAD_CODES)
def test_bad_codes_get_scikit_learns_errors(fitted, case):
    Z, error, message = BAD_CODES[case]
    if case == "sparse" and not is_dense(fitted):  # such codes are its own: only their width is bad
        error, message = ValueError, "13 columns.*n_components_=26"
    with pytest.raises(error, match=message):
        fitted.inverse_transform(Z)


@pytest.mark.parametrize("n_columns", [1, 3, 13])
def test_codes_of_a_wrong_width_say_both_widths(fitted, n_columns):
    with pytest.raises(ValueError, match=rf"{n_columns} columns.*n_components_=2"):  # or 26
        fitted.inverse_transform(np.ones((3, n_columns)))


@pytest.mark.parametrize("method", METHODS)
def test_before_fit_every_method_says_so(kind, method, rows):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(kind, method)(rows)


def test_names_before_fit(kind):
    with pytest.raises(NotFittedError):
        kind.get_feature_names_out()


def test_a_failed_first_fit_leaves_an_unfitted_estimator(kind, rows):
    with pytest.raises(ValueError, match="NaN"):
        kind.fit(with_value(np.nan))
    with pytest.raises(NotFittedError):
        kind.transform(rows)


# -- parameters --------------------------------------------------------------------


def test_every_parameter_has_bad_values(kind):
    assert kind.get_params().keys() <= BAD_VALUES.keys()


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (k, name, value)
        for k in ESTIMATORS
        for name in k.get_params()
        for value in BAD_VALUES[name]
        if (name_of(k), name, value) not in ADMITTED
    ],
)
def test_an_unknown_value_is_refused_by_name(kind, name, value, rows):
    message = text_of(lambda: clone(kind).set_params(**{name: value}).fit(rows))
    assert name in message
    assert str(value) in message


@pytest.mark.parametrize("value", [True, False, np.True_])
@pytest.mark.parametrize(
    ("kind", "name"), [(k, name) for k in ESTIMATORS for name in k.get_params() if name in NUMBERS]
)
def test_a_boolean_is_no_number(kind, name, value, rows):
    estimator = clone(kind).set_params(**{name: value})
    message = rf"The '{name}' parameter of {name_of(kind)} must be an? .*Got {value!r} instead"
    with pytest.raises(InvalidParameterError, match=message):
        estimator.fit(rows)
    with pytest.raises(InvalidParameterError, match=message):
        estimator.partial_fit(rows)


@pytest.mark.parametrize("sizes", [(8, True), [np.True_], np.array([True, True])], ids=str)
def test_a_boolean_is_no_layer_size(kind, sizes, rows):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=.*True.*must hold integers >= 1"):
        kind.set_params(hidden_layer_sizes=sizes).fit(rows)


@pytest.mark.parametrize("sizes", [(8, np.int64(3)), np.array([8, 3]), pd.Series([8, 3]), [8, 3]])
def test_integers_of_any_make_are_layer_sizes(sizes, rows):
    network = make_fast(hidden_layer_sizes=sizes, max_epochs=1).fit(rows).net_.module_.network
    assert [layer.out_features for layer in list(network.encoder)[::2]] == [8, 3, 2]


@pytest.mark.parametrize("name", ["n_neighbors", "batch_size", "max_epochs"])
@pytest.mark.parametrize("model", [AutoencoderClassifier, AutoencoderRegressor])
def test_a_boolean_is_no_number_for_supervised_models(model, name, rows):
    with pytest.raises(InvalidParameterError, match=rf"'{name}' parameter.*Got True instead"):
        model(**{name: True}).fit(rows, np.arange(60) % 2)


@pytest.mark.parametrize("name", ["n_components", "n_seeds", "n_jobs"])
def test_a_boolean_is_no_number_for_the_search(name, rows):
    search = LatentDimensionSearch(make_fast(), **{name: True})
    with pytest.raises(InvalidParameterError, match=rf"'{name}' parameter.*Got True instead"):
        search.fit(rows)
    if name == "n_components":
        with pytest.raises(ValueError, match=r"n_components=\[2, True\] must hold integers"):
            search.set_params(n_components=[2, True]).fit(rows)


def test_a_boolean_is_no_number_of_samples(rows):
    with pytest.raises(TypeError, match="n_samples=True must be an instance of int"):
        make_fast().fit(rows).sample(True)


def test_an_unknown_value_is_an_invalid_parameter_error(kind, rows):
    with pytest.raises(InvalidParameterError, match=r"'lr' parameter.*Got -1 instead"):
        kind.set_params(lr=-1).fit(rows)


def test_an_unknown_parameter_is_refused(kind):
    with pytest.raises(TypeError, match="n_component"):
        type(kind)(n_component=3)
    with pytest.raises(ValueError, match="Invalid parameter 'n_component'"):
        kind.set_params(n_component=3)


@pytest.mark.parametrize("low, high", [(-0.5, 1.0), (0.0, 255.0)])  # noqa: PT006
def test_cross_entropy_outside_the_unit_interval_names_the_range(rows, low, high):
    X = np.clip(rows, 0, 1)
    X[0, 0], X[1, 0] = low, high
    estimator = make_fast(loss="binary_cross_entropy", anchor=None)
    message = text_of(lambda: estimator.fit(X))
    assert f"[{low:g}, {high:g}]" in message
    assert "MinMaxScaler" in message
    assert "squared_error" in message


def test_rounding_beyond_the_unit_interval_is_admitted(rows):
    X = np.clip(rows, 0, 1)
    X[0, 0], X[1, 0] = -1e-16, 1 + 2e-16
    make_fast(loss="binary_cross_entropy", anchor=None).fit(X)


def test_cross_entropy_with_the_anchor_names_the_way_out(rows):
    message = text_of(lambda: make_fast(loss="binary_cross_entropy").fit(np.clip(rows, 0, 1)))
    assert "anchor='pca'" in message
    assert "anchor=None" in message


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cpuu", "cuda:x"])
def test_an_absent_device_names_itself_and_a_remedy(kind, device, rows):
    message = text_of(lambda: kind.set_params(device=device).fit(rows))
    assert f"device='{device}'" in message
    assert "'cpu'" in message
    assert "'auto'" in message


def one_way(d, k):
    network = nn.Module()
    network.encode = nn.Linear(d, k)
    return network


def wrong_code(d, k):
    network = one_way(d, k + 1)
    network.decode = nn.Linear(k + 1, d)
    return network


def wrong_rows(d, k):
    network = one_way(d, k)
    network.decode = nn.Linear(k, d + 2)
    return network


@pytest.mark.parametrize("anchor", ["pca", None])
@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (one_way, "lacks `encode` or `decode`"),
        (lambda d, k: None, "lacks `encode` or `decode`"),
        (wrong_code, "2, 3"),
        (wrong_rows, "2, 15"),
    ],
)
def test_an_own_network_of_a_wrong_shape_is_refused(network, complaint, anchor, rows):
    with pytest.raises(ValueError, match=f"network=.*{complaint}"):
        make_fast(network=network, anchor=anchor).fit(rows)


@pytest.mark.parametrize("callbacks", [[3], [print], ["early_stopping"], [(1, 2, 3)]], ids=str)
def test_what_is_no_callback_is_refused_by_name(callbacks, rows):
    estimator = make_fast(callbacks=callbacks, early_stopping=False)
    assert "callbacks" in text_of(lambda: estimator.fit(rows))


def test_a_warm_start_on_other_columns_says_so(rows):
    estimator = make_fast(warm_start=True).fit(rows)
    with pytest.raises(ValueError, match=r"13 features.*4.*warm_start=False"):
        estimator.fit(rows[:, :4])


def test_a_warm_start_with_another_size_of_code_says_so(rows):
    estimator = make_fast(warm_start=True).fit(rows)
    with pytest.raises(ValueError, match=r"n_components=5.*warm_start=False"):
        estimator.set_params(n_components=5).fit(rows)


# -- nothing is lost ---------------------------------------------------------------


class Fail(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("a callback failed")


FAILING = {
    "rows": ({}, with_value(np.nan)),
    "width": ({"n_components": -1}, np.ones((40, 3))),
    "value": ({"lr": -1}, with_value(0)),
    "device": ({"device": "cuda:99"}, with_value(0)),
    "loss": ({"loss": "binary_cross_entropy", "anchor": None}, with_value(0)),
    "sizes": ({"hidden_layer_sizes": (0,)}, with_value(0)[:, :7]),
    "network": ({"network": wrong_rows}, with_value(0)[:, :7]),
    "callback": ({"callbacks": [Fail()], "early_stopping": False}, with_value(0)[:, :7]),
    "names": ({"callbacks": [Fail()], "early_stopping": False}, pd.DataFrame(with_value(0))),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_failed_fit_loses_nothing(case, rows):
    params, X = FAILING[case]
    estimator = make_fast().fit(rows)
    Z, attributes = estimator.transform(rows), vars(estimator).keys() - set(params)
    before = {name: vars(estimator)[name] for name in attributes}
    with pytest.raises((ValueError, RuntimeError)):
        estimator.set_params(**params).fit(X)
    assert all(vars(estimator)[name] is value for name, value in before.items())
    assert np.array_equal(estimator.transform(rows), Z)


def test_a_failed_warm_start_loses_nothing(rows):
    estimator = make_fast(warm_start=True, early_stopping=False).fit(rows)
    Z = estimator.transform(rows)
    with pytest.raises(RuntimeError, match="a callback failed"):
        estimator.set_params(callbacks=[Fail()], lr=1.0).fit(rows)
    assert np.array_equal(estimator.transform(rows), Z)


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_failed_transform_loses_nothing(fitted, case, rows):
    Z = fitted.transform(rows)
    with pytest.raises((ValueError, TypeError)):
        fitted.transform(BAD_ROWS[case][0])
    assert np.array_equal(fitted.transform(rows), Z)


def test_extreme_units_are_no_bad_input():
    X = np.random.default_rng(0).normal(size=(40, 5))
    for factor in (1e-150, 1e150):
        estimator = AutoencoderTransformer(2, max_epochs=3, random_state=0).fit(X * factor)
        assert np.isfinite(estimator.transform(X * factor) / factor).all()
        assert 0 < estimator.explained_variance_ratio_.sum() < 1
