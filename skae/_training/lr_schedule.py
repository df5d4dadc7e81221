"""Schedules: for each step, the learning rate and the weight of the step in the average."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

WARM_UP_STEPS = 100  # over which the schedule-free learning rate rises
LATENESS = 2  # the schedule-free average gives step t a weight that grows as t to this power
BLOCK = 2**16  # number of steps that are converted to Python floats at once


def cycle_steps(
    lr: float, n_steps: int, lr_schedule: str, averaging: float
) -> Iterator[tuple[float, float]]:
    """Learning rates of one cycle, or a constant one, and the share of each step in the average."""
    factors = one_cycle(n_steps) if lr_schedule == "one_cycle" else torch.ones(n_steps)
    # At first, the average is over about a tenth of the steps so far, to forget the start.
    steps = torch.arange(11, n_steps + 11, dtype=torch.float32)  # not torch's default dtype
    return _pairs(lr * factors, torch.clamp(10 / steps, min=1 - averaging))


def schedule_free_steps(
    lr: float, n_steps_before: int, n_steps: int
) -> Iterator[tuple[float, float]]:
    """Learning rates that only warm up, and the share of each step in an average over all steps.

    References
    ----------
    Defazio et al. (2024). The road less scheduled. https://arxiv.org/abs/2405.15682
    """
    step = n_steps_before + torch.arange(1, n_steps + 1)
    rates = lr * torch.clamp(step / WARM_UP_STEPS, max=1.0)
    return _pairs(rates, (LATENESS + 1) / (step + LATENESS))


def one_cycle(n_steps: int, *, warm_up: float = 0.3, start: float = 0.04) -> Tensor:
    """Factors of the peak learning rate over one cycle: cosine up, cosine down to zero.

    `warm_up` is the share of the steps on the way up, `start` the factor of the first step.

    References
    ----------
    Smith and Topin (2018). Super-convergence. https://doi.org/10.1117/12.2520589
    """
    n_up = max(1, int(warm_up * n_steps))
    up = 0.5 - 0.5 * torch.cos(torch.linspace(0, math.pi, n_up + 1, dtype=torch.float64)[:-1])
    down = 0.5 + 0.5 * torch.cos(
        torch.linspace(0, math.pi, n_steps - n_up + 1, dtype=torch.float64)[:-1]
    )
    return torch.cat([start + (1 - start) * up, down])


def _pairs(first: Tensor, second: Tensor) -> Iterator[tuple[float, float]]:
    """Pairs of Python floats, converted block by block, as they need several times the memory."""
    for blocks in zip(first.split(BLOCK), second.split(BLOCK), strict=True):
        yield from zip(*(block.tolist() for block in blocks), strict=True)
