"""Estimators train inside torch.inference_mode and torch.no_grad, and do not change the mode."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from conftest import ESTIMATORS, OwnModule, fast, make_fast, name_of, suited
from sklearn.base import clone
from torch import nn

from skae import AutoencoderClassifier, AutoencoderRegressor, LatentDimensionSearch

MODES = [torch.inference_mode, torch.no_grad]
each_mode = pytest.mark.parametrize("mode", MODES, ids=["inference_mode", "no_grad"])


def modes():
    return torch.is_inference_mode_enabled(), torch.is_grad_enabled()


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(120, 6))


@pytest.fixture(params=ESTIMATORS, ids=name_of)
def smooth(request):
    """Every estimator, with an activation whose gradient is autograd's."""
    return fast(request.param, activation="gelu", hidden_layer_sizes=(8,))


@each_mode
def test_fit_is_the_same_inside(smooth, rows, mode):
    outside = clone(smooth).fit(rows)
    with mode():
        before = modes()
        inside = smooth.fit(rows)
        codes = inside.transform(rows)
        assert modes() == before
    assert modes() == (False, True)
    assert np.array_equal(codes, outside.transform(rows))
    assert inside.loss_curve_ == outside.loss_curve_
    assert not any(p.is_inference() for p in inside.net_.module_.parameters())


@each_mode
def test_partial_fit_is_the_same_inside(smooth, rows, mode):
    many, outside = np.tile(rows, (5, 1)), clone(smooth)
    with mode():
        inside = smooth.partial_fit(many).partial_fit(rows)
    outside.partial_fit(many).partial_fit(rows)
    assert np.array_equal(inside.transform(rows), outside.transform(rows))
    with mode():
        inside.partial_fit(rows)
    inside.partial_fit(rows)


@pytest.mark.slow
@each_mode
@pytest.mark.parametrize(
    "params", [{"network": OwnModule}, {"activation": nn.Mish}, {"optimizer": torch.optim.RMSprop}]
)
def test_modules_of_the_user_learn_inside(kind, rows, mode, params):
    estimator = fast(kind, **suited(kind, params))
    with mode():
        codes = estimator.fit(rows).transform(rows)
    assert np.array_equal(codes, clone(estimator).fit(rows).transform(rows))


@each_mode
def test_every_method_works_inside(smooth, rows, mode):
    outside = smooth.fit(rows)
    names = ["transform", "reconstruct", "reconstruction_error", "score", "score_samples"]
    expected = [getattr(outside, name)(rows) for name in names if hasattr(outside, name)]
    with mode():
        found = [getattr(outside, name)(rows) for name in names if hasattr(outside, name)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@each_mode
@pytest.mark.parametrize("model", [AutoencoderClassifier, AutoencoderRegressor])
def test_supervised_models_learn_inside(rows, mode, model):
    estimator, y = model(make_fast(activation="gelu"), max_epochs=2, random_state=0), rows[:, 0] > 0
    with mode():
        before = modes()
        predicted = estimator.fit(rows, y).predict(rows)
        assert modes() == before
    assert np.array_equal(predicted, clone(estimator).fit(rows, y).predict(rows))


@pytest.mark.slow
@each_mode
@pytest.mark.parametrize("together", [True, False])
def test_the_search_learns_inside(rows, mode, together):
    search = LatentDimensionSearch(
        make_fast(activation="gelu"), [1, 2], cv=2, together=together, error_score="raise"
    )
    with mode():
        scores = search.fit(rows).cv_results_["mean_test_score"]
    expected = clone(search).fit(rows).cv_results_["mean_test_score"]
    assert np.array_equal(scores, expected)


def test_what_was_loaded_inside_goes_on_outside_and_inside(smooth, rows):
    smooth.set_params(warm_start=True).fit(rows)
    with torch.inference_mode():
        loaded = pickle.loads(pickle.dumps(smooth))
        loaded.partial_fit(rows)
        again = pickle.loads(pickle.dumps(smooth)).fit(rows)
    assert np.array_equal(again.transform(rows), smooth.fit(rows).transform(rows))
    loaded.partial_fit(rows)


@each_mode
def test_an_error_leaves_the_mode_alone(rows, mode):
    with mode():
        before = modes()
        with pytest.raises(ValueError, match="NaN"):
            make_fast().fit(rows * np.nan)
        with pytest.raises(ValueError, match="NaN"):
            make_fast().partial_fit(rows * np.nan)
        assert modes() == before
