"""Distributions of columns: they are normalised, and their gradients are right."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import softmax

from skae._latent.column_cells import ColumnCells, layout_of, to_cells
from skae._latent.column_model import ColumnModel, ColumnTraining, _Conditioning
from skae._training.column_gradients import ColumnGradient
from skae.losses import Objective
from skae.networks.columns import LOG_SCALES, ColumnLikelihood, ColumnNetwork, RandomColumns
from skae.networks.dense import Output

RANDOM = np.random.default_rng(0)


def table(n_rows=200):
    """A category, a number of few values, an ordered category, and a number; some gaps."""
    random = np.random.default_rng(0)
    hidden = random.normal(size=n_rows)
    values = np.column_stack(
        [
            random.random(n_rows) < 1 / (1 + np.exp(-3 * hidden)),
            random.poisson(np.exp(hidden / 2)),
            np.digitize(hidden, [-0.5, 0.5]),
            (hidden + 0.3 * random.normal(size=n_rows)).round(2),
        ]
    ).astype(float)
    values[random.random(values.shape) < 0.1] = np.nan
    return values


def cells_of(values):
    own = [column[~np.isnan(column)] for column in values.T]
    return [
        ColumnCells.of_categories(own[0], 2, ordered=False),
        ColumnCells.of_numbers(own[1]),
        ColumnCells.of_categories(own[2], 3, ordered=True),
        ColumnCells.of_numbers(own[3]),
    ]


def training(max_epochs=8, seeds=(0, 1, 2)):
    device = torch.device("cpu")
    return ColumnTraining((16, 8), 2, 5e-3, 0.05, 32, max_epochs, device, seeds)


@pytest.fixture(scope="module")
def values():
    return table()


@pytest.fixture(scope="module")
def model(values):
    """Fitted once: no test changes it."""
    return ColumnModel.fit(cells_of(values), values, training(), np.arange(0, 200, 10))


def random_model(columns, seed=0):
    """A model of random weights, so that no probability is near its start."""
    generator = torch.Generator().manual_seed(seed)
    layout = layout_of(columns, 3)
    frequencies = np.concatenate([column.frequencies for column in columns])
    network = ColumnNetwork(layout, torch.from_numpy(frequencies).float(), (8,), 2)
    for parameter in network.parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return ColumnModel(columns, network.eval().requires_grad_(False))


# -- likelihoods -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_sums_to_one_in_every_order(seed):
    numbers = RANDOM.normal(size=60)
    columns = [
        ColumnCells.of_categories(RANDOM.integers(0, 3, 60), 3, ordered=False),
        ColumnCells.of_categories(RANDOM.integers(0, 2, 60), 2, ordered=True),
        ColumnCells.of_numbers(numbers),
    ]
    model = random_model(columns, seed)
    each = [range(3), range(2), np.unique(numbers)]
    every = np.array(list(product(*each)), dtype=float)
    for order, network in product(([0, 1, 2], [2, 1, 0], [1, 0, 2]), range(2)):
        total = np.exp(model._log_likelihood_in_order(every, np.array(order), network)).sum()
        assert total == pytest.approx(1, abs=1e-6)
    mixture = model.log_likelihood(every, np.random.RandomState(0))
    assert np.exp(mixture).sum() == pytest.approx(1, abs=1e-6)


def test_more_values_than_cells_are_normalised_too():
    columns = [ColumnCells.of_numbers(RANDOM.normal(size=3000)) for _ in range(2)]
    model = random_model(columns)
    assert columns[0].n_cells <= 1000
    given = columns[1].mean[[10]]
    every = np.column_stack([columns[0].mean, np.full(columns[0].n_cells, given)])
    joint = model._log_likelihood_in_order(every, np.array([1, 0]), 0)
    alone = np.column_stack([np.full(1, np.nan), given])
    margin = model._log_likelihood_in_order(alone, np.array([1, 0]), 0)
    assert np.exp(joint).sum() == pytest.approx(np.exp(margin).item(), rel=1e-6)


def test_the_loss_is_the_likelihood(model, values):
    cells = torch.from_numpy(to_cells(model.columns, model.layout, values))
    hidden = torch.ones(2, len(values), 4)
    outputs = model.network(model.network.inputs(cells, hidden))
    logs = ColumnLikelihood(model.layout).log_likelihoods(outputs, cells)
    known = ~np.isnan(values)
    for j, network in product(range(4), range(2)):
        alone = np.full_like(values, np.nan)
        alone[:, j] = values[:, j]
        expected = model._log_likelihood_in_order(alone, np.arange(4), network)
        got = logs[network, :, j].numpy()
        np.testing.assert_allclose(got[known[:, j]], expected[known[:, j]], atol=1e-4)


# -- gradients ---------------------------------------------------------------------


@pytest.fixture
def term_and_inputs(values):
    columns = cells_of(values)
    layout = layout_of(columns, 3)
    cells = torch.from_numpy(to_cells(columns, layout, values[:12])).double()
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 12, layout.n_outputs, generator=generator, dtype=torch.float64)
    hidden = (torch.rand(2, 12, 4, generator=generator) < 0.6).double()
    hidden[..., 0] = 1
    return ColumnLikelihood(layout), outputs, cells, hidden


def test_gradients_in_closed_form_are_those_of_finite_differences(term_and_inputs):
    term, outputs, cells, hidden = term_and_inputs
    outputs.requires_grad_(True)

    def loss(outputs):
        return term(Output(outputs, hidden), cells)

    assert torch.autograd.gradcheck(loss, (outputs,), eps=1e-6, atol=1e-7)


def test_what_is_seen_or_missing_has_no_gradient(term_and_inputs):
    term, outputs, cells, hidden = term_and_inputs
    outputs.requires_grad_(True)
    hidden[..., 1] = 0
    term.layout.split_cells(cells)[2][:, 3] = 0  # the number of many values is missing
    term(Output(outputs, hidden), cells).sum().backward()
    for where in (term.layout.entries_of(1), *term.layout.distributions_of(3)):
        assert not outputs.grad[..., where].any()
    assert outputs.grad[..., term.layout.entries_of(0)].any()


def test_steps_in_closed_form_are_those_of_autograd(values):
    columns = cells_of(values)
    network = random_model(columns).network.double().requires_grad_(True)
    cells = torch.from_numpy(to_cells(columns, network.layout, values)).double()
    masks = RandomColumns(4, 2, torch.Generator().manual_seed(0))(cells)
    objective = Objective({"likelihood": ColumnLikelihood(network.layout)})
    loss = objective(network.run(cells, masks), cells)
    loss.backward()
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    step = ColumnGradient(network, objective, expected[0])(cells, masks)
    assert step["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-14, rtol=1e-10)


# -- conditional distributions -----------------------------------------------------


def test_conditioning_gives_what_the_whole_network_gives(model, values):
    rows, layout = np.arange(len(values)), model.layout
    for network, expected in enumerate(model._outputs(values)):
        early = _Conditioning(model, values, network)
        late = _Conditioning(model, np.full_like(values, np.nan), network)
        for j in (2, 1, 0, 3):
            known = np.flatnonzero(~np.isnan(values[:, j]))
            own = values[known, j]
            late.condition(j, known, model.columns[j].cells_of(own), own)
        for j, state in product(range(4), (early, late)):
            got = state.outputs(j, rows)
            logits = expected[:, layout.entries_of(j)]
            np.testing.assert_allclose(got.logits[:, : logits.shape[1]], logits, atol=1e-4)
            if layout.is_number(j):
                locations, logits, log_scales = layout.distributions_of(j)
                n = layout.n_entries[j]
                np.testing.assert_allclose(got.logits[:, n:], expected[:, logits], atol=1e-4)
                np.testing.assert_allclose(got.locations, expected[:, locations], atol=1e-4)
                scales = np.exp(np.clip(expected[:, log_scales], *LOG_SCALES))
                np.testing.assert_allclose(got.scales, scales, rtol=1e-4)


def test_expectations_are_those_of_draws(model, values):
    row = values[[3]].copy()
    row[:, [0, 3]] = np.nan
    row[:, [1, 2]] = 1, 2
    expected = {j: e for j, _, e in model.expectations(row)}
    random = np.random.RandomState(0)
    drawn = {
        j: model.draw(np.repeat(row, 20_000, axis=0), random, only=[j])[0][:, j] for j in (0, 3)
    }
    assert np.mean(drawn[0]) == pytest.approx(expected[0][0, 1], abs=0.02)
    assert np.mean(drawn[3]) == pytest.approx(expected[3][0], abs=0.1)


def test_frequencies_of_draws_are_the_probabilities(model):
    rows = np.full((20_000, 4), np.nan)
    drawn = model.draw(rows, np.random.RandomState(0), only=[2])[0][:, 2]
    outputs = model._outputs(rows[:1])[:, 0]
    shares = softmax(outputs[:, model.layout.entries_of(2)], axis=-1).mean(axis=0)
    np.testing.assert_allclose(np.bincount(drawn.astype(int)) / len(drawn), shares, atol=0.015)


def test_without_held_out_rows_columns_are_independent_and_have_their_frequencies(values):
    columns = cells_of(values)
    model = ColumnModel.fit(columns, values, training(), np.zeros(0, int))
    drawn = model.draw(np.full((20_000, 4), np.nan), np.random.RandomState(0))[0]
    for j in (0, 1, 2):
        count = columns[j].count
        share = np.bincount(columns[j].cells_of(drawn[:, j]), minlength=len(count)) / len(drawn)
        np.testing.assert_allclose(share, count / count.sum(), atol=0.015)
    assert drawn[:, 3].mean() == pytest.approx(np.nanmean(values[:, 3]), abs=0.1)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.04


def test_training_learns_how_columns_depend(model, values):
    rows = np.full((2, 4), np.nan)
    rows[:, 2] = 0, 2
    expected = {j: e for j, _, e in model.expectations(rows)}
    assert expected[0][0, 1] < 0.5 < expected[0][1, 1]
    assert expected[3][0] < expected[3][1]
    assert model.validation_curve[-1] < model.validation_curve[0]


def test_admitted_cells_only(model):
    columns = model.columns
    allowed = {3: columns[3].low > 0.5, 1: np.arange(columns[1].n_cells) == 1}
    drawn, weights = model.draw(np.full((300, 4), np.nan), np.random.RandomState(0), allowed)
    assert (drawn[:, 3] > 0.5).all()
    assert (drawn[:, 1] == columns[1].low[1]).all()
    assert (weights <= 0).all()


def test_what_is_known_is_not_drawn(model, values):
    drawn = model.draw(values, np.random.RandomState(0))[0]
    known = ~np.isnan(values)
    assert np.array_equal(drawn[known], values[known])
    assert not np.isnan(drawn).any()
    assert model.draw(values[:0], np.random.RandomState(0))[0].shape == (0, 4)


# -- hidden columns, state ---------------------------------------------------------


def test_each_number_of_columns_is_hidden_about_as_often():
    """One is hidden twice as often: where a draw hides none, one is hidden instead."""
    masks = RandomColumns(5, 2, torch.Generator().manual_seed(0))(torch.zeros(6000, 1))
    hidden = masks.reshape(-1, 5).sum(1).int()
    assert hidden.min() == 1
    share = torch.bincount(hidden, minlength=6)[1:] / len(hidden)
    expected = torch.tensor([2.0, 1, 1, 1, 1]) / 6
    assert (share - expected).abs().max() < 0.02


def test_fits_repeat(values, model):
    again = ColumnModel.fit(cells_of(values), values, training(), np.arange(0, 200, 10))
    for one, other in zip(model.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert again.loss_curve == model.loss_curve


def test_copies_have_the_same_bits(model, values):
    copied = pickle.loads(pickle.dumps(model))
    random = [np.random.RandomState(0) for _ in range(2)]
    assert np.array_equal(
        *(m.draw(values, r)[0] for m, r in zip((model, copied), random, strict=True))
    )
    assert b"torch" not in pickle.dumps(model.__getstate__())


def test_rows_in_parts_continue_from_the_state(values):
    untrained = ColumnModel.fit(cells_of(values), values, training(), np.zeros(0, int))
    one, other = untrained, pickle.loads(pickle.dumps(untrained))
    before = one.log_likelihood(values, np.random.RandomState(0)).mean()
    for i in range(5):
        own = training(seeds=(i, i + 1, i + 2))
        one.partial_fit(values, own)
        other.partial_fit(values, own)
        other = pickle.loads(pickle.dumps(other))
    scores = [m.log_likelihood(values, np.random.RandomState(0)) for m in (one, other)]
    assert np.array_equal(*scores)
    assert scores[0].mean() > before
    assert len(one.loss_curve) == 5
    single = ColumnModel.fit(cells_of(values)[:1], values[:, :1], training(), np.zeros(0, int))
    single.partial_fit(values[:, :1], training())
    assert np.isfinite(single.log_likelihood(values[:, :1], np.random.RandomState(0))).all()
