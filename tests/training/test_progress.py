"""The progress bar of a fit: one, which names what is trained and ends at 100 %."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_fast
from sklearn.datasets import load_wine
from skorch.callbacks import Callback

from skae import (
    AutoencoderClassifier,
    AutoencoderImputer,
    ConditionalVAE,
    LatentDimensionSearch,
    StackedAutoencoder,
    TableAutoencoder,
)


def shown_by(capsys, estimator, *data):
    """What a fit shows: the states of the bar, one after the other."""
    estimator.set_params(verbose=1).fit(*data)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1  # the bar is the same line until its end
    return [state for state in captured.err.replace("\r", "\n").split("\n") if state.strip()]


def ends_whole(states):
    """Whether the last state is 100 % of the epochs."""
    done, total = states[-1].split("|")[2].split()[0].split("/")
    return "100%" in states[-1] and done == total != "0"


class StopsAfterTwo(Callback):
    """Stops training after its second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise StopIteration


def test_a_fit_shows_one_bar_with_its_losses(cancer, capsys):
    states = shown_by(capsys, make_fast(), cancer)
    assert ends_whole(states)
    assert states[-1].startswith("AutoencoderTransformer: 100%")
    assert "3/3" in states[-1]
    assert "train_loss=" in states[-1]
    assert "valid_loss=" in states[-1]


@pytest.mark.parametrize(
    "params",
    [
        {"lr_schedule": "constant", "n_iter_no_change": 1, "tol": 0.9, "max_epochs": 50},
        {"callbacks": [StopsAfterTwo()], "max_epochs": 50},
    ],
    ids=["patience", "callback"],
)
def test_a_bar_ends_whole_if_training_stops_early(params, cancer, capsys):
    estimator = make_fast(**params)
    states = shown_by(capsys, estimator, cancer)
    assert ends_whole(states)
    assert estimator.n_iter_ < 50
    assert f"{estimator.n_iter_}/{estimator.n_iter_}" in states[-1]


def test_a_bar_of_a_failed_fit_is_not_whole(cancer, capsys):
    class Fails(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError

    estimator = make_fast(callbacks=[Fails()], max_epochs=5, verbose=1)
    with pytest.raises(RuntimeError):
        estimator.fit(cancer)
    assert "100%" not in capsys.readouterr().err
    assert not estimator._progress.is_shown


@pytest.mark.parametrize(
    ("activation", "names"), [("relu", "folds 1 to "), ("gelu", "fold 5 of 5")]
)
def test_folds_are_named(activation, names, wine, capsys):
    """Networks that are trained in one batch are one step per epoch."""
    states = shown_by(capsys, make_fast(activation=activation), wine)
    assert ends_whole(states)
    assert any(f"AutoencoderTransformer: {names}" in state for state in states)


def test_layers_are_named(cancer, capsys):
    states = shown_by(
        capsys, StackedAutoencoder(2, hidden_layer_sizes=(8, 4), max_epochs=2), cancer
    )
    assert ends_whole(states)
    assert any("layer 2 of 2" in state for state in states)
    assert "layer" not in states[-1]


def test_numbers_of_components_are_named(wine, capsys):
    estimator = make_fast(n_components=0.9)
    states = shown_by(capsys, estimator, wine)
    assert ends_whole(states)
    for size in estimator.dimension_curve_["n_components"]:
        assert any(f"n_components={size}" in state for state in states)


@pytest.mark.parametrize(
    ("estimator", "stages"),
    [
        (AutoencoderClassifier(make_fast(), max_epochs=2), ["autoencoder", "fine-tuning"]),
        (TableAutoencoder(2, max_epochs=2), ["columns", "codes"]),
        (AutoencoderImputer(max_epochs=2), ["columns"]),
        (ConditionalVAE(2, condition_features=[0], max_epochs=2), ["fold 1 of 5"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_estimators_of_several_parts_show_one_bar(estimator, stages, capsys):
    states = shown_by(capsys, estimator, *load_wine(return_X_y=True))
    assert ends_whole(states)
    assert all(any(stage in state for state in states) for stage in stages)
    assert not estimator._progress.is_shown


def test_nothing_is_shown_if_nothing_is_trained(wine, capsys):
    make_fast(hidden_layer_sizes=(), verbose=1).fit(wine)
    assert capsys.readouterr() == ("", "")


def test_candidates_of_a_search_show_no_bars_of_their_own(wine, capsys):
    search = LatentDimensionSearch(make_fast(verbose=1), [1, 2], cv=2, refit=False, verbose=1)
    search.fit(wine)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_bar_does_not_change_the_model(wine):
    quiet, shown = (make_fast(verbose=verbose).fit(wine) for verbose in (0, 1))
    np.testing.assert_array_equal(quiet.transform(wine), shown.transform(wine))


def test_a_bar_is_not_kept(cancer):
    estimator = make_fast(verbose=1).fit(cancer)
    assert "_progress" not in vars(estimator)
    assert not estimator.net_.progress.is_shown
