"""What would a leading axis of length one cost a training step of one model?

Run from the root of the repository::

    python examples/benchmarks/leading_axis.py

Models of one shape are trained as one network with an axis of models in front. This compares the
step of one model without such an axis, as fits of one model have it, with the same step on an axis
of length one: gradient, clipping and update, on one thread, in processor time. The two take turns;
figures are medians over the repeats.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from skae._data.threads import limited_threads
from skae._training.gradients import BATCHED_NUMPY, NUMPY, ClosedFormGradient
from skae._training.optimizers import BatchedFlatParameters, FlatParameters, FusedAdamW
from skae.losses import Objective, squared_error
from skae.networks import MLP, AnchoredAutoencoder, Autoencoder

SIZES = (13, 3, 32), (20, 4, 32), (30, 5, 64)  # columns, components, rows of a batch
WIDTH, N_STEPS, N_REPEATS = 128, 300, 15


def make_network(d, k):
    generator = torch.Generator().manual_seed(0)
    pair = Autoencoder(
        MLP([d, WIDTH, k], generator=generator), MLP([k, WIDTH, d], generator=generator)
    )
    components = torch.linalg.qr(torch.randn(d, k, generator=generator).double())[0].T
    return AnchoredAutoencoder(pair, components)


def stepper(flat, network, backend, batch):
    """One training step."""
    optimizer = FusedAdamW([flat.values], lr=1e-3)
    gradient = ClosedFormGradient(network, Objective({"error": squared_error}), backend)

    def step():
        gradient(batch)
        flat.clip(0.2)
        optimizer.step()

    return step


def microseconds(step):
    started = time.process_time()
    for _ in range(N_STEPS):
        step()
    return (time.process_time() - started) / N_STEPS * 1e6


def compare(d, k, n_rows):
    """Median microseconds of a step of one model, and of the same with an axis of length one."""
    batch = torch.randn(n_rows, d, generator=torch.Generator().manual_seed(1))
    network = make_network(d, k)
    one, many = FlatParameters(network), BatchedFlatParameters([make_network(d, k)])
    joined = many.joined(many.detached)
    steps = (
        stepper(one, network, NUMPY, batch),
        stepper(many, joined, BATCHED_NUMPY, batch[None]),
    )
    times = [[microseconds(step) for step in steps] for _ in range(N_REPEATS)]
    return np.median(times, axis=0)


def main():
    print("columns  components  batch  one model, µs  axis of one, µs  ratio")
    for d, k, n_rows in SIZES:
        with limited_threads(1):
            one, axis = compare(d, k, n_rows)
        print(f"{d:7}  {k:10}  {n_rows:5}  {one:13.1f}  {axis:15.1f}  {axis / one:5.2f}")


if __name__ == "__main__":
    main()
