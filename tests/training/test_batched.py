"""Batched training: networks get the same results as if each was trained alone."""

from __future__ import annotations

import copy
import pickle
import warnings
from itertools import product

import numpy as np
import pytest
import torch
from conftest import OwnModule, assert_close, fast, make_fast, name_of
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from skorch.callbacks import EpochTimer

from skae import AutoencoderTransformer, DenoisingAutoencoder, VAETransformer
from skae._training.batched import models_per_batch, run_batched
from skae._training.gradients import BATCHED_NUMPY, BATCHED_TORCH, AutogradGradient, closed_form_for
from skae._training.optimizers import BatchedFlatParameters, FlatParameters
from skae._training.trainer import train_networks

VARIANTS = [
    AutoencoderTransformer(random_state=0),
    AutoencoderTransformer(anchor=None, activation="tanh", loss="huber", random_state=0),
    AutoencoderTransformer(loss="absolute_error", hidden_layer_sizes=(16, 8), random_state=0),
    AutoencoderTransformer(early_stopping=False, optimizer="sgd", random_state=0),
    DenoisingAutoencoder(random_state=0),
    DenoisingAutoencoder(noise="gaussian", activation="logistic", random_state=0),
    VAETransformer(random_state=0),
    VAETransformer(observation_variance="per_feature", kl_warmup=2, free_bits=0.1, random_state=0),
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=repr)
SIZES = 2, 5


def folds_of(X, n_folds=3):
    return [X[train] for train, _ in KFold(n_folds).split(X)]


def weights_of(X):
    """Weights of the rows of a table."""
    return np.random.default_rng(len(X)).uniform(0.2, 2, len(X))


def fit_in_batch(estimators, tables, *, weighted=False):
    """Fit copies of estimators, each to its own table, with their networks in one batch."""
    fitted = [clone(estimator) for estimator in estimators]
    started = [
        each._start_fit(X, weights_of(X) if weighted else None)
        for each, X in zip(fitted, tables, strict=True)
    ]
    jobs = [each._build(data) for each, data in zip(fitted, started, strict=True)]
    for each, data, trained in zip(fitted, started, train_networks(jobs), strict=True):
        each._finish_fit(data, trained)
    return fitted


def fit_alone(estimators, tables, *, weighted=False):
    return [
        clone(estimator).fit(X, sample_weight=weights_of(X) if weighted else None)
        for estimator, X in zip(estimators, tables, strict=True)
    ]


def curves_of(estimator):
    return np.concatenate([estimator.loss_curve_, estimator.validation_loss_curve_])


# -- whole fits --------------------------------------------------------------------


@each_variant
@pytest.mark.filterwarnings("ignore:The observation variance is at its lower bound")
@pytest.mark.parametrize("table", ["wine", "digits"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_a_fit_in_a_batch_equals_a_fit_alone(variant, table, weighted, request):
    tables = folds_of(request.getfixturevalue(table)[:900, :20])
    jobs = list(product((fast(variant, n_components=k) for k in SIZES), tables))
    ours = fit_in_batch(*zip(*jobs, strict=True), weighted=weighted)
    theirs = fit_alone(*zip(*jobs, strict=True), weighted=weighted)
    for one, other, (_, X) in zip(ours, theirs, jobs, strict=True):
        assert_close(one.reconstruct(X), other.reconstruct(X), 1e-4)
        assert_close(curves_of(one), curves_of(other), 1e-4)
        assert one.net_.best_epoch_ == other.net_.best_epoch_
        assert one.net_.validation_ratio_ == pytest.approx(other.net_.validation_ratio_, rel=1e-4)
        assert one.n_iter_ == other.n_iter_
        assert_close(one.explained_variance_, other.explained_variance_, 1e-4)


def test_histories_are_those_of_one_net(digits):
    tables = folds_of(digits[:900])
    ours = fit_in_batch([make_fast()] * 3, tables)[1].net_.history
    theirs = fit_alone([make_fast()], tables[1:2])[0].net_.history
    assert [set(epoch) for epoch in ours] == [set(epoch) for epoch in theirs]
    assert ours[:, "epoch"] == theirs[:, "epoch"]
    assert ours[:, "valid_loss_best"] == theirs[:, "valid_loss_best"]


def test_fits_of_other_seeds_are_their_own(digits):
    estimators = [make_fast(random_state=seed) for seed in (0, 1, 2)]
    ours = fit_in_batch(estimators, [digits[:600]] * 3)
    theirs = fit_alone(estimators, [digits[:600]] * 3)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one.reconstruct(digits), other.reconstruct(digits), 1e-4)
    assert np.abs(ours[0].reconstruct(digits) - ours[1].reconstruct(digits)).max() > 1e-3


def test_the_same_batch_gives_the_same_bits(digits):
    once, again = (fit_in_batch([make_fast()] * 3, folds_of(digits[:900])) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.transform(digits), other.transform(digits))


def test_a_fit_keeps_nothing_of_the_others(digits):
    (one, _) = fit_in_batch([make_fast()] * 2, folds_of(digits[:600], 2))
    (alone,) = fit_alone([make_fast()], folds_of(digits[:600], 2)[:1])
    assert vars(one.net_).keys() <= vars(alone.net_).keys()
    assert len(pickle.dumps(one)) < 1.01 * len(pickle.dumps(alone))
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again.transform(digits), one.transform(digits))


def test_a_model_whose_loss_is_not_finite_is_trained_again_alone(wine):
    estimators = [make_fast(lr=1e9)] * 2
    tables = folds_of(wine, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours, theirs = fit_in_batch(estimators, tables), fit_alone(estimators, tables)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.transform(wine), other.transform(wine))


# -- which runs share a batch ------------------------------------------------------


def run_of(estimator, X, sample_weight=None):
    """The final training run of a fit."""
    return estimator._build(estimator._start_fit(X, sample_weight)).final_run()


def runs_of(estimators, X):
    return [run_of(clone(estimator), X) for estimator in estimators]


@pytest.mark.parametrize(
    "params",
    [
        {"callbacks": [EpochTimer()]},
        {"network": OwnModule},
        {"activation": "gelu"},
        {"optimizer": torch.optim.RMSprop},
        {"lr_schedule": "constant"},
    ],
    ids=lambda params: next(iter(params)),
)
def test_some_are_trained_alone(params, digits):
    assert {run.batching_key() for run in runs_of([make_fast(**params)], digits)} == {None}


def test_weighted_rows_share_a_batch_with_weighted_rows_only(digits):
    weighted, other, plain = (
        run_of(make_fast(), digits, weights)
        for weights in (np.linspace(0.5, 1.5, len(digits)), weights_of(digits), None)
    )
    assert weighted.batching_key() == other.batching_key() != plain.batching_key()
    assert None not in (weighted.batching_key(), plain.batching_key())


@pytest.mark.parametrize(
    "params", [{"n_components": 3}, {"lr": 1e-3}, {"max_epochs": 2}, {"loss": "huber"}], ids=str
)
def test_only_equal_architectures_and_settings_share_a_batch(params, digits):
    one, other = runs_of([make_fast(), make_fast(**params)], digits)
    assert one.batching_key() != other.batching_key()
    assert one.batching_key() == runs_of([make_fast()], digits)[0].batching_key()


def test_objectives_with_other_settings_share_no_batch(digits):
    kinds = [fast(VAETransformer(random_state=0), beta=beta) for beta in (1.0, 0.5)]
    one, other = runs_of(kinds, digits)
    assert one.batching_key() != other.batching_key()


def test_nets_come_back_in_order(digits):
    estimators = [make_fast(n_components=k) for k in (2, 3, 2, 3, 2)]
    nets = run_batched(runs_of(estimators, digits))
    assert [net.sizes()[1] for net in nets] == [2, 3, 2, 3, 2]


def test_models_with_large_steps_are_trained_alone():
    assert models_per_batch(10_000, 32, 800, 20) > 1
    assert models_per_batch(1_000_000, 32, 800, 20) == 1
    assert models_per_batch(10_000, 32, 10_000_000, 20) == 1


def test_a_batch_of_one_is_a_fit(digits):
    (ours,), theirs = fit_in_batch([make_fast()], [digits]), make_fast().fit(digits)
    np.testing.assert_array_equal(ours.transform(digits), theirs.transform(digits))


# -- one step ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", [BATCHED_NUMPY, BATCHED_TORCH], ids=["numpy", "torch"])
@each_variant
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_gradients_of_a_batch_are_those_of_each_model(variant, backend, weighted, wine):
    trainings = runs_of([clone(variant).set_params(random_state=s) for s in (0, 1)], wine)[-2:]
    networks = [training.net.module.double() for training in trainings]
    with torch.no_grad():
        for p in (p for network in networks for p in network.parameters()):
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype))  # the last layers start at zero
    objective = trainings[0].net.criterion
    objective.begin_epoch(1)
    noises = [training.net.noise() for training in trainings]
    rows = torch.randn(2, 16, wine.shape[1], dtype=torch.float64)
    given = [
        None if noise is None else noise.double().train()(its)
        for noise, its in zip(noises, rows, strict=True)
    ]
    noise = None if given[0] is None else torch.stack(given)
    flat = BatchedFlatParameters(copy.deepcopy(networks))
    joined = flat.joined(flat.detached)
    kind = closed_form_for(networks[0], objective)
    weights = torch.rand(2, 16, dtype=torch.float64) + 0.1 if weighted else [None, None]
    given_weights = weights if weighted else None
    losses = kind(joined, objective, backend)(rows.clone(), noise, given_weights)["loss"]
    for i, network in enumerate(networks):
        alone = FlatParameters(network)
        network.train()
        expected = AutogradGradient(network, objective, alone.gradient)(
            rows[i], given[i], weights[i]
        )
        assert float(losses[i]) == pytest.approx(float(expected["loss"]), rel=1e-10)
        gradient = torch.cat([p.grad[i].flatten() for p in joined.parameters()])
        assert_close(gradient.numpy(), alone.gradient.numpy(), 1e-9)


def test_gradients_are_clipped_one_by_one():
    flat = BatchedFlatParameters([torch.nn.Linear(2, 2) for _ in range(3)])
    flat.gradient[:] = torch.tensor([0.001, 1.0, 100.0])[:, None]
    flat.clip(0.2)
    lengths = flat.gradient.norm(dim=1)
    np.testing.assert_allclose(lengths, [0.001 * 6**0.5, 0.2, 0.2], rtol=1e-5)


def test_variants_cover_every_kind():
    assert {name_of(variant) for variant in VARIANTS} >= {
        "AutoencoderTransformer",
        "DenoisingAutoencoder",
        "VAETransformer",
    }
