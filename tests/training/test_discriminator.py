"""The discriminator's gradients equal those of autograd, and it finds ratios of densities."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from skae._training import adversarial
from skae._training.adversarial import PENALTY, AdversarialGradient, CodePrior, Discriminator
from skae._training.gradients import AutogradGradient
from skae._training.optimizers import FlatParameters
from skae.losses import Objective, huber, squared_error
from skae.networks import MLP, AnchoredAutoencoder, Autoencoder

WEIGHTS = torch.tensor([0.0, 2.0, 1.0, 0.5] * 5, dtype=torch.float64).unsqueeze(1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def discriminator(n_components=3, dtype=torch.float64):
    return Discriminator(n_components, torch.empty(0, dtype=dtype), generator())


def pairs(n=20, n_components=3):
    draws, codes = torch.randn(2, n, n_components, generator=generator(1), dtype=torch.float64)
    return draws, 0.5 * codes + 1


def as_module(found):
    """The discriminator as a module, for autograd."""
    module = MLP([found.layers[0][0].shape[1], 64, 64, 1]).to(found.flat.values)
    with torch.no_grad():
        for parameter, values in zip(module.parameters(), found.flat.views, strict=True):
            parameter.copy_(values)
    return module


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_gradient_of_cross_entropy_and_penalty(weights):
    found, (draws, codes) = discriminator(), pairs()
    loss = found.compute_gradient(draws, codes, weights)
    module = as_module(found)
    both = torch.cat([draws, codes]).requires_grad_()
    logits = module(both)
    (slopes,) = torch.autograd.grad(logits.sum(), both, create_graph=True)
    of_codes = F.softplus(logits[20:])
    expected = (
        F.softplus(-logits[:20]).mean()
        + (of_codes if weights is None else weights * of_codes).mean()
    )
    penalty = PENALTY / 2 * slopes.square().sum(1).mean()
    gradients = torch.autograd.grad(expected + penalty, list(module.parameters()))
    torch.testing.assert_close(loss, expected.detach())
    for (weight, bias), (of_weight, of_bias) in zip(
        found.gradients, zip(gradients[::2], gradients[1::2], strict=True), strict=True
    ):
        torch.testing.assert_close(weight, of_weight)
        torch.testing.assert_close(bias, of_bias)
    torch.testing.assert_close(found.slopes(codes), slopes[20:].detach())
    torch.testing.assert_close(found.log_ratios(codes), logits[20:].detach())


def trained_on_two_normal_distributions():
    found, random = discriminator(1, torch.float32), generator(2)
    for _ in range(1500):
        draws, codes = torch.randn(2, 256, 1, generator=random)
        found.step(draws, codes + 1)
    return found


def test_without_the_penalty_it_learns_the_log_ratio_of_two_normal_distributions(monkeypatch):
    monkeypatch.setattr(adversarial, "PENALTY", 0.0)
    found, z = trained_on_two_normal_distributions(), torch.linspace(-1, 2, 7).unsqueeze(1)
    torch.testing.assert_close(found.log_ratios(z), 0.5 - z, atol=0.25, rtol=0)  # log p(z)/q(z)


def test_the_penalty_makes_slopes_smaller_and_keeps_their_sign():
    slopes = trained_on_two_normal_distributions().slopes(torch.linspace(-1, 2, 7).unsqueeze(1))
    assert (slopes < 0).all()  # towards the prior
    assert (slopes > -0.7).all()  # without the penalty -1


def make_prior(weight=5.0):
    draws = torch.randn(500, 2, generator=generator(3), dtype=torch.float64)
    unit = torch.tensor([2.0, 0.5], dtype=torch.float64)
    return CodePrior(draws, unit, weight, 0.1, None, np.zeros(2), np.ones(2))


def make_network():
    parts = generator(4)
    pair = Autoencoder(MLP([6, 8, 2], generator=parts), MLP([2, 8, 6], generator=parts))
    network = AnchoredAutoencoder(pair, torch.eye(6, dtype=torch.float64)[:2]).double()
    network.code_prior = make_prior()
    return network


def make_gradient(network, *, by_autograd, objective=None):
    flat = FlatParameters(network)
    objective = objective or Objective({"reconstruction": squared_error})
    made = AdversarialGradient(network, objective, flat.gradient, seed=0, by_autograd=by_autograd)
    return made, flat


@pytest.mark.parametrize("term", [squared_error, huber])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_closed_form_takes_the_steps_of_autograd(term, weighted):
    network = make_network()
    x = torch.randn(20, 6, generator=generator(5), dtype=torch.float64)
    weights = WEIGHTS[:, 0] if weighted else None
    results = []
    for by_autograd in (False, True):
        objective = Objective({"reconstruction": term})
        made, flat = make_gradient(
            copy.deepcopy(network), by_autograd=by_autograd, objective=objective
        )
        assert isinstance(made.inner, AutogradGradient) == by_autograd
        for _ in range(3):
            step = made(x, weights=weights)
        results.append((flat.gradient.clone(), float(step["loss"]), step["discriminator_loss"]))
    torch.testing.assert_close(*(gradient for gradient, *_ in results))
    assert results[0][1] == pytest.approx(results[1][1])
    torch.testing.assert_close(*(loss for *_, loss in results))


def test_codes_are_pushed_by_the_gradient_of_the_divergence():
    network = make_network()
    made, _ = make_gradient(network, by_autograd=False)
    codes = torch.randn(20, 2, generator=generator(6), dtype=torch.float64).requires_grad_()
    pushed = made.push(codes.detach())
    divergence = -as_module(made.discriminator)(codes / network.code_prior.unit).mean()
    (expected,) = torch.autograd.grad(5.0 * 0.1 * divergence, codes)
    torch.testing.assert_close(pushed, expected)


def test_a_state_continues_to_the_bit():
    network = make_network()
    x = torch.randn(20, 6, generator=generator(5), dtype=torch.float64)
    made, _ = make_gradient(copy.deepcopy(network), by_autograd=False)
    made(x)
    other, _ = make_gradient(copy.deepcopy(network), by_autograd=False)
    other.resume(made.state())
    other.generator.set_state(made.generator.get_state())
    made(x)
    other(x)
    assert torch.equal(made.discriminator.flat.values, other.discriminator.flat.values)
