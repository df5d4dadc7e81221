"""Training in several processes: each computes gradients on its rows, one sum per step."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from skae._data.dataset import Dataset
from skae._data.shared_rows import SharedDataset, SharedSource
from skae._training.batched import TrainingRun
from skae._training.gradients import Gradient, n_uncorrected
from skae._training.net import AutoencoderNet
from skae._training.trainer import Trainer
from skae.networks.dense import update_noise_variance
from skae.noise import SwapNoise


class ReusedMemory:
    """Allocates the arrays of a step in the memory of those of the step before.

    The numbers of own rows differ from batch to batch, and new memory is slow.
    """

    def __init__(self, dtype: torch.dtype):
        self.dtype, self.n_given = dtype, 0
        self.pieces: list[Tensor] = []

    def empty(self, *shape: int) -> Tensor:
        """Return a tensor of the next piece of memory, which grows if it is too small."""
        i, size = self.n_given, math.prod(shape)
        self.n_given += 1
        if i == len(self.pieces):
            self.pieces.append(torch.empty(0, dtype=self.dtype))
        if self.pieces[i].numel() < size:
            self.pieces[i] = torch.empty(size + size // 4, dtype=self.dtype)
        return self.pieces[i][:size].view(shape)


class DistributedNet(AutoencoderNet):
    """Net of which every process has a copy; they take the same steps.

    A step is that of one process: random numbers are drawn for the whole batch, and gradients of
    the own rows are added over the processes, weighted by their numbers of rows.
    """

    source_: SharedSource
    gradient_: Any

    def run_single_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train on all batches, from the weights of the first process."""
        group = self.source_.group
        group.raise_if_stopped()
        for vector in (self.flat_.detached, self.average_):  # processors may round differently
            if vector is not None:
                group.align(vector)
        super().run_single_epoch(*args, **kwargs)

    def train_step_single(
        self, batch: Tensor, weights: Tensor | None = None, **fit_params: Any
    ) -> dict[str, Any]:
        """Compute the loss of the own rows of a batch, and the gradient of the whole batch."""
        part, gradient = self.source_.part, self.flat_.gradient
        noise = self._noise_of_part(batch)
        step: dict[str, Any] = {"loss": 0.0}
        if len(batch):
            self._adapt_to_part()
            step = self.gradient_(batch, noise, None)
            gradient.mul_(len(batch) / part.n_rows)
        else:
            gradient.zero_()
            if (variance := self._noise_variance()) is not None:
                update_noise_variance(variance, self._over_batch(torch.zeros_like(variance)))
        self.source_.group.sum(gradient)
        return step

    def _make_gradient(self) -> Gradient:
        made: Any = super()._make_gradient()
        if hasattr(made, "workspaces") and self.source_.group.size > 1:
            made.memory = ReusedMemory(self.flat_.gradient.dtype)
            made.empty = made.memory.empty
        if self._noise_variance() is not None:
            made.over_batch = self._over_batch
        return made

    def _noise_variance(self) -> Tensor | None:
        """Noise variance that a variational network estimates from each batch."""
        return getattr(self.module_, "noise_variance", None)

    def _over_batch(self, mean: Any) -> Any:
        """Mean over a batch, given that over the own rows."""
        part = self.source_.part
        return self.source_.group.sum(mean * (len(part.positions) / part.n_rows))

    def _adapt_to_part(self) -> None:
        """Tell the gradient which own rows are among the first of the batch; reuse its memory."""
        part, made = self.source_.part, self.gradient_
        if self.stochastic_depth:
            n_first = n_uncorrected(part.n_rows, self.stochastic_depth)
            n_own = np.searchsorted(part.positions, n_first)
            # A share which `n_uncorrected` rounds down to this number.
            made.stochastic_depth = (n_own + 0.5) / len(part.positions)
        if hasattr(made, "memory"):
            made.workspaces.clear()
            made.memory.n_given = 0

    def _noise_of_part(self, batch: Tensor) -> Tensor | None:
        """Noise of the own rows, drawn with that of all rows of the batch."""
        if self.noise_ is None:
            return None
        part = self.source_.part
        whole = batch.new_zeros((part.n_rows, batch.shape[1]))
        whole[part.positions] = batch
        if isinstance(self.noise_, SwapNoise):  # which reads the other rows of the batch
            self.source_.group.sum(whole)
        noise: Any = self._noise_of(whole)
        return noise[part.positions]

    def losses_of_each(self, rows: Tensor, noise: Tensor | None) -> Tensor:
        """Loss of each row of the one model, (1, n_rows); each process computes some."""
        if self._noise_variance() is not None:  # losses depend on the mean error of all rows
            return super().losses_of_each(rows, noise)
        group, losses = self.source_.group, torch.zeros(len(rows), dtype=rows.dtype)
        edges = np.linspace(0, len(rows), group.size + 1).astype(int)
        part = slice(edges[group.rank], edges[group.rank + 1])
        losses[part] = self.evaluate(rows[part], None if noise is None else noise[part])
        return group.sum(losses)[None]

    def record(self, name: str, values: np.ndarray) -> None:
        """Record a value in the history; the training loss is a sum over the processes."""
        super().record(name, self.source_.group.sum(values) if name == "train_loss" else values)


@dataclass(frozen=True)
class DistributedTrainer(Trainer):
    """Trainer of networks on shared rows."""

    dtype: torch.dtype = torch.float32

    net_class: ClassVar[type[AutoencoderNet]] = DistributedNet

    def dtype_of(self, rows: Dataset) -> torch.dtype:
        """Type in which networks are trained, whatever the number of rows."""
        return self.dtype

    def source_of(self, rows: Any, train: Any, excluded: Any, *args: Any, **kwargs: Any) -> Any:
        """Source of the own training rows."""
        return SharedSource(rows, train, excluded, *args)

    def make_run(self, network: nn.Module, rows: Dataset, *args: Any, **kwargs: Any) -> TrainingRun:
        """Build a training run, without starting it; rows that are not shared have a usual one."""
        if isinstance(rows, SharedDataset):
            return super().make_run(network, rows, *args, **kwargs)
        usual = Trainer(**{field.name: getattr(self, field.name) for field in fields(Trainer)})
        return usual.make_run(network, rows, *args, **kwargs)
