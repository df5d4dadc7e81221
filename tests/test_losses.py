"""Terms have their textbook formulas; the objective weighs and averages them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skae.losses import (
    LOSSES,
    Objective,
    absolute_error,
    huber,
    kl_by_component,
    kl_of_moments,
    kl_with_gradient,
    squared_error,
)
from skae.networks import Output

RNG = np.random.default_rng(0)
DECODED = RNG.normal(scale=2, size=(20, 5))
X = RNG.uniform(size=(20, 5))
FORMULAS = {
    "squared_error": lambda r, x: (r - x) ** 2,
    "absolute_error": lambda r, x: abs(r - x),
    "huber": lambda r, x: np.where(abs(r - x) < 1, 0.5 * (r - x) ** 2, abs(r - x) - 0.5),
    "binary_cross_entropy": lambda r, x: np.log1p(np.exp(r)) - x * r,
}


def output_of(decoded):
    return Output(torch.as_tensor(decoded), torch.zeros(len(decoded), 2))


def test_every_loss_has_its_formula():
    assert FORMULAS.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_a_term_is_its_formula_summed_over_features(name):
    term = LOSSES[name](output_of(DECODED), torch.as_tensor(X))
    np.testing.assert_allclose(term, FORMULAS[name](DECODED, X).sum(axis=1), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"binary_cross_entropy"}))
def test_a_perfect_reconstruction_costs_nothing(name):
    assert not LOSSES[name](output_of(X), torch.as_tensor(X)).any()


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_cross_entropy_is_least_at_the_target_and_is_its_entropy_there(x):
    target = torch.full((1, 1), x, dtype=torch.float64)
    logits = torch.linspace(-30, 30, 6001, dtype=torch.float64)[:, None]
    losses = LOSSES["binary_cross_entropy"](output_of(logits), target.expand_as(logits))
    entropy = -sum(p * np.log(p) for p in (x, 1 - x) if p > 0)
    assert losses.min().item() == pytest.approx(entropy, abs=1e-5)
    assert logits[losses.argmin()].sigmoid().item() == pytest.approx(x, abs=3e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay_finite_far_away(name):
    far = torch.full((3, 5), 1e4)
    assert LOSSES[name](output_of(far), torch.zeros(3, 5)).isfinite().all()


def test_objective_is_the_mean_over_rows_of_the_weighted_sum():
    terms = {"squared": squared_error, "absolute": absolute_error, "huber": huber}
    objective = Objective(terms, {"absolute": 0.5, "huber": 3.0})
    x = torch.as_tensor(X)
    squared, absolute, hubers = (term(output_of(DECODED), x) for term in terms.values())
    rows = squared + 0.5 * absolute + 3 * hubers
    torch.testing.assert_close(objective.row_losses(output_of(DECODED), x), rows)
    torch.testing.assert_close(objective(output_of(DECODED), x), rows.mean())
    assert objective.per_row(output_of(DECODED), x).keys() == terms.keys()


def test_objective_does_not_change_with_the_order_of_rows():
    objective = Objective({"reconstruction": squared_error})
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).numpy()
    torch.testing.assert_close(
        objective(output_of(DECODED), torch.as_tensor(X)),
        objective(output_of(DECODED[order]), torch.as_tensor(X[order])),
    )


def test_objective_keeps_no_reference_to_the_callers_mappings():
    terms, weights = {"a": squared_error}, {"a": 2.0}
    objective = Objective(terms, weights)
    terms.clear(), weights.clear()
    assert (list(objective.terms), objective.weights) == (["a"], {"a": 2.0})


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_divergences_agree_and_have_their_derivatives(make):
    mean, log_var = RNG.normal(size=(2, 7, 3))
    expected = 0.5 * (np.exp(log_var) + mean**2 - log_var - 1)
    exp = np.exp if make is np.asarray else torch.exp
    divergence, twice = kl_with_gradient(make(mean), make(log_var), exp)
    np.testing.assert_allclose(divergence, expected, rtol=1e-12)
    of_moments = kl_of_moments(make(np.exp(log_var) + mean**2), make(log_var))
    np.testing.assert_allclose(of_moments, expected, rtol=1e-12)
    leaves = [torch.tensor(a, requires_grad=True) for a in (mean, log_var)]
    term = kl_by_component(*leaves)
    np.testing.assert_allclose(term.detach(), expected, rtol=1e-12)
    by_mean, by_log_var = torch.autograd.grad(term.sum(), leaves)
    np.testing.assert_allclose(by_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(2 * by_log_var, twice, rtol=1e-9)
