"""Parameters in one vector, the fused optimizer, the learning-rate cycle."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skae._training.lr_schedule import one_cycle
from skae._training.optimizers import OPTIMIZERS, FlatParameters, FusedAdam, FusedAdamW
from skae.networks import MLP


def make_mlp():
    return MLP([4, 8, 3], "tanh", generator=torch.Generator().manual_seed(0))


def test_flat_parameters_and_their_gradients_are_views():
    mlp = make_mlp()
    before = [p.detach().clone() for p in mlp.parameters()]
    flat = FlatParameters(mlp)
    assert all(torch.equal(p, b) for p, b in zip(mlp.parameters(), before, strict=True))
    assert flat.values.numel() == sum(p.numel() for p in mlp.parameters())
    flat.values.detach().fill_(2.0)
    flat.gradient.fill_(3.0)
    assert all((p == 2).all() and (p.grad == 3).all() for p in mlp.parameters())


def test_a_backward_pass_fills_the_flat_gradient():
    mlp = make_mlp()
    flat = FlatParameters(mlp)
    mlp(torch.ones(2, 4)).sum().backward()
    torch.testing.assert_close(
        flat.gradient, torch.cat([p.grad.reshape(-1) for p in mlp.parameters()])
    )
    assert flat.gradient.any()


def test_frozen_parameters_stay_out_of_the_vector():
    mlp = make_mlp()
    mlp[0].weight.requires_grad_(False)
    assert FlatParameters(mlp).values.numel() == sum(
        p.numel() for p in mlp.parameters() if p.requires_grad
    )


def test_detached_parameters_own_their_memory():
    mlp = make_mlp()
    flat = FlatParameters(mlp)
    kept = flat.values.detach().clone()
    flat.detach()
    flat.values.detach().zero_()
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in mlp.parameters()]), kept)
    assert all(p.grad is None for p in mlp.parameters())
    assert all(p.untyped_storage().nbytes() == p.numel() * 4 for p in mlp.parameters())


def test_a_module_without_parameters_is_an_empty_vector():
    assert FlatParameters(nn.Identity()).values.numel() == 0


def steps_of(make, dtype, n_steps=200):
    """Path of a vector under an optimizer and a fixed sequence of gradients and learning rates."""
    generator = torch.Generator().manual_seed(0)
    values = nn.Parameter(torch.randn(50, generator=generator, dtype=dtype))
    values.grad = torch.zeros_like(values)
    optimizer = make([values], lr=0.1, weight_decay=0.05, eps=1e-6)
    for rate in one_cycle(n_steps).tolist():
        values.grad.copy_(torch.randn(50, generator=generator, dtype=dtype))
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * rate
        optimizer.step()
    return values.detach()


@pytest.mark.parametrize(
    ("fused", "original"), [(FusedAdam, torch.optim.Adam), (FusedAdamW, torch.optim.AdamW)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_a_fused_optimizer_is_torchs(fused, original, dtype, tolerance):
    ours, torchs = steps_of(fused, dtype), steps_of(original, dtype)
    torch.testing.assert_close(ours, torchs, rtol=0, atol=tolerance)


def test_fused_adamw_works_under_any_default_dtype(default_dtype):
    expected = steps_of(FusedAdamW, torch.float32)
    default_dtype(torch.float64)
    assert torch.equal(steps_of(FusedAdamW, torch.float32), expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name):
    values = nn.Parameter(torch.full((5,), 3.0))
    values.grad = torch.zeros_like(values)
    optimizer = OPTIMIZERS[name]([values], lr=0.1, weight_decay=0.0)
    for _ in range(200):
        values.grad.copy_(values.detach())
        optimizer.step()
    assert values.abs().max() < 0.5


@pytest.mark.parametrize("n_steps", [1, 2, 3, 10, 1000])
def test_one_cycle_rises_to_one_and_falls_towards_zero(n_steps):
    factors = one_cycle(n_steps)
    peak = int(factors.argmax())
    assert len(factors) == n_steps
    assert ((factors > 0) & (factors <= 1)).all()
    assert (factors[: peak + 1].diff() > 0).all()
    assert (factors[peak:].diff() < 0).all()


def test_one_cycle_has_its_start_peak_and_end():
    factors = one_cycle(1000, warm_up=0.3, start=0.04)
    assert factors[0].item() == pytest.approx(0.04)
    assert factors[300].item() == pytest.approx(1.0)
    assert factors[650].item() == pytest.approx(0.5, abs=1e-3)
    assert factors[-1] < 1e-4
