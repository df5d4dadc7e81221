"""Supervision: how an autoencoder is trained so that its code predicts targets, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from skae._data.dataset import Dataset
from skae._training.targets import SupervisedObjective, Targets
from skae._training.trainer import Trainer
from skae.networks.dense import run
from skae.networks.supervised import PredictingNetwork, make_head

HEAD_ROWS = 5000  # largest number of rows that the initial head is fitted to
# Weight of the head's loss: in units of the variance of rows in training, and in units of PCA's
# error when the weights of different epochs are compared.
TRAINING_SHARE, VALIDATION_SHARE = 0.5, 2.0
# By which gains must exceed zero. Those of predictions are real more often than an autoencoder's.
STANDARD_ERRORS = 1.0
SMALLEST_DEVIATION = 1e-6  # of a code's component, over the largest, that its head divides by


@dataclass(frozen=True)
class Supervision:
    """Targets of the rows of one fit, whose dataset has them as extra columns.

    `residual` is the share of the variance that PCA leaves. `unit` is what a squared error, in
    units of the mean feature variance, counts in the objective of the rows.
    """

    targets: Targets
    weight: float
    n_features: int
    residual: float
    unit: float = 1.0

    def make_network(
        self, make: Callable[[Dataset], Any], rows: Dataset, **options: Any
    ) -> PredictingNetwork:
        """Make a network for rows with targets, and add a head."""
        return self.add_head(make(rows.with_extra(None), **options), rows)

    def add_head(self, network: Any, rows: Dataset) -> PredictingNetwork:
        """Add a linear head to a network, fitted to its codes of the rows."""
        index = rows.evenly_spaced(HEAD_ROWS)
        weight = next(network.parameters())
        x = torch.from_numpy(rows[index]).to(weight)
        was_training = network.training
        with torch.no_grad():
            output = run(network.eval(), x)
        network.train(was_training)
        codes = (output.code if output.mean is None else output.mean).double().cpu().numpy()
        center, scale = codes.mean(axis=0), codes.std(axis=0)
        scale[scale <= SMALLEST_DEVIATION * scale.max()] = scale.max() or 1.0
        columns: Any = rows.extra
        linear = self.targets.fit_linear((codes - center) / scale, columns[index])
        coefficients, intercepts = map(torch.from_numpy, linear)
        head = make_head(coefficients, intercepts, weight.dtype)
        both = torch.from_numpy(center), torch.from_numpy(scale)
        return PredictingNetwork(network, head, *both, self.n_features).to(weight.device)

    def supervise(self, trainer: Trainer, rows: Dataset) -> Trainer:
        """Return the trainer for networks with a head."""
        columns: Any = rows.extra
        variance = self.n_features * self.unit
        objective = SupervisedObjective(
            trainer.objective,
            self.targets,
            self.n_features,
            self.targets.shares(columns, rows.weights),
            weight=self.weight * TRAINING_SHARE * variance,
            validation_weight=self.weight * VALIDATION_SHARE * variance * self.residual,
        )
        make_noise, n_features = trainer.make_noise, self.n_features

        def make_noise_of_features() -> nn.Module | None:
            noise = make_noise()
            return None if noise is None else OfFeatures(noise, n_features)

        return replace(
            trainer,
            objective=objective,
            make_noise=make_noise_of_features,
            must_restore=False,
            standard_errors=STANDARD_ERRORS,
        )


class OfFeatures(nn.Module):
    """Noise of the features of rows, not of the targets behind them."""

    def __init__(self, noise: nn.Module, n_features: int):
        super().__init__()
        self.noise, self.n_features = noise, n_features

    def forward(self, x: Tensor) -> Tensor:
        """Noise of rows (n_rows, n_features or more)."""
        return self.noise(x[:, : self.n_features])
