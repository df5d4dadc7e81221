"""Batched training: networks of one architecture are trained as one, with a leading axis.

On small tables, a training step consists mostly of call overhead, which many networks can
share. Each network gets the same rows in the same order as if it were trained alone, so that
the results are equal up to rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import isfunction
from typing import Any

import numpy as np
import torch
from skorch.history import History
from torch import Tensor, nn

from skae._data.batches import Batch, InMemorySource, Source
from skae._data.threads import limited_threads
from skae._training.best_weights import StopTraining
from skae._training.gradients import (
    BATCHED_NUMPY,
    BATCHED_TORCH,
    ClosedFormGradient,
    Gradient,
    closed_form_for,
)
from skae._training.net import AutoencoderNet, features_of, validation_ratio
from skae._training.optimizers import BatchedFlatParameters
from skae._training.targets import SupervisedObjective
from skae.losses import Objective
from skae.networks.dense import Output, run
from skae.noise import joined

SHARED_SETTINGS = (  # settings that are equal for all nets of a batch
    "optimizer",
    "lr",
    "lr_schedule",
    "weight_decay",
    "averaging",
    "batch_size",
    "max_epochs",
    "clipping",
    "keep_losses",
    "require_gain",
    "n_standard_errors",
    "stochastic_depth",
    "device",
)
HISTORY_PER_MODEL = (  # entries of the history with one value per model
    "train_loss",
    "valid_loss",
    "valid_loss_best",
)
VALIDATION_ROWS = 1024  # rows of each model that are evaluated at once
MAX_MODELS_PER_BATCH = 8  # larger batches save no more time
MAX_PRODUCTS_PER_STEP = 2_500_000  # of one model; above, call overhead hardly matters
BYTES_OF_ROWS = 64 * 2**20  # largest memory for the rows of all models of a batch


@dataclass(eq=False)
class TrainingRun:
    """One net to train, its training rows and its validation rows."""

    net: AutoencoderNet  # not trained yet
    source: Source  # of the training rows
    held_out: Tensor | None = None  # (n_held_out, n_features)
    held_out_weights: Tensor | None = None  # (n_held_out,)
    held_out_units: np.ndarray | None = None  # (n_held_out,)
    n_epochs: int | None = None  # if fewer than in the learning-rate schedule
    n_threads: int = 1  # of each training step
    fold: tuple[int, int] | None = None  # its number, and how many there are

    def run(self) -> AutoencoderNet:
        """Train the net alone."""
        if self.planned_epochs() == 0 and not self.net.callbacks:
            return self.net.keep_initial()
        with limited_threads(self.n_threads):
            self.net.fit(
                self.source,
                held_out=self.held_out,
                held_out_weights=self.held_out_weights,
                held_out_units=self.held_out_units,
                n_epochs=self.n_epochs,
            )
        return self.net.drop_training_state()

    def planned_epochs(self) -> int:
        """Number of epochs if training does not stop early."""
        return self.net.max_epochs if self.n_epochs is None else self.n_epochs

    def batching_key(self) -> Any:
        """Key that is equal for runs of one batch; None if the run must be trained alone."""
        net = self.net
        alone = (
            net.callbacks
            or net.schedule_free
            or net.gradient is not None
            or net.patience is not None
            or not isinstance(net.optimizer, str)
            or not isinstance(self.source, InMemorySource)
            or self.held_out_units is not None
            or self.n_threads > 1
            or closed_form_for(net.module, net.criterion) is None
        )
        if alone:
            return None
        return (
            self.n_epochs,
            self.source.sample.shape,
            self.source.sample.dtype,
            self.source.weights is None,
            None if self.held_out is None else self.held_out.shape,
            self.held_out_weights is None,
            *(getattr(net, name) for name in SHARED_SETTINGS),
            _architecture(net.module),
            _settings_of(net.criterion),
        )


def run_batched(runs: list[TrainingRun]) -> list[AutoencoderNet]:
    """Train nets, in batches where their keys are equal; return them in the same order."""
    if not runs:
        return []
    batches = [[0]] if len(runs) == 1 else list(_batches_of(runs))
    runs[0].net.progress.plan(sum(runs[first].planned_epochs() for first, *_ in batches))
    nets: list[Any] = [None] * len(runs)
    for batch in batches:
        some = [runs[i] for i in batch]
        with some[0].net.progress.stage(_stage_of(some)):
            trained = [some[0].run()] if len(some) == 1 else _run_as_one(some)
        for i, net in zip(batch, trained, strict=True):
            nets[i] = net
    return nets


def _stage_of(runs: list[TrainingRun]) -> str:
    """Name of what is trained in one batch, for the progress bar; empty unless it is folds."""
    first, last = runs[0].fold, runs[-1].fold
    if first is None or last is None:
        return ""
    if len(runs) == 1:
        return f"fold {first[0]} of {first[1]}"
    return f"folds {first[0]} to {last[0]} of {last[1]}"


def _batches_of(runs: list[TrainingRun]) -> Iterator[list[int]]:
    """Indices of the runs of each batch."""
    by_key: dict[Any, list[int]] = defaultdict(list)
    for i, each in enumerate(runs):
        key = each.batching_key()
        by_key[(i,) if key is None else key].append(i)
    for group in by_key.values():
        first = runs[group[0]]
        n_parameters = sum(p.numel() for p in first.net.module.parameters())
        n_rows, n_features = first.source.sample.shape
        n_at_once = models_per_batch(n_parameters, first.net.batch_size, n_rows, n_features)
        for part in np.array_split(group, -(-len(group) // n_at_once)):
            yield part.tolist()


def models_per_batch(n_parameters: int, batch_size: int, n_rows: int, n_features: int) -> int:
    """Number of models to train in one batch: 1 if the steps of one model are large."""
    if n_parameters * batch_size > MAX_PRODUCTS_PER_STEP:
        return 1
    return max(1, min(MAX_MODELS_PER_BATCH, BYTES_OF_ROWS // max(1, 4 * n_rows * n_features)))


def _run_as_one(runs: list[TrainingRun]) -> list[AutoencoderNet]:
    """Train nets in one batch; then train those whose loss was not finite alone."""
    with limited_threads(1):
        batch = BatchedNet(runs)
        batch.fit(None)
        trained = batch.separate()
    return [alone.run() if net is None else net for alone, net in zip(runs, trained, strict=True)]


class BatchedSource:
    """Rows of several training runs, (n_models, n_rows, n_features).

    The rows of each run are shuffled by a generator with the seed of its net. Weights have shape
    (n_models, n_rows), or are None.
    """

    def __init__(self, sources: list[Source], seeds: list[int]):
        self.sample = torch.stack([source.sample for source in sources])
        self.weights = _stacked([source.weights for source in sources])
        self.generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
        self.seeds = seeds

    def __len__(self) -> int:
        return self.sample.shape[1]

    def to(self, device: str) -> BatchedSource:
        """Move the rows."""
        self.sample = self.sample.to(device)
        self.weights = None if self.weights is None else self.weights.to(device)
        return self

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield batches (n_models, n_batch, n_features) of shuffled rows, and their weights."""
        orders = {
            seed: torch.randperm(len(self), generator=its).to(self.sample.device)
            for seed, its in self.generators.items()
        }
        batches = self._in_order(self.sample, orders).split(sizes, dim=1)
        if self.weights is None:
            yield from ((batch, None) for batch in batches)
        else:
            weights = self._in_order(self.weights, orders).split(sizes, dim=1)
            yield from zip(batches, weights, strict=True)

    def _in_order(self, values: Tensor, orders: dict[int, Tensor]) -> Tensor:
        """Values (n_models, n_rows, ...) in the order of each model's seed."""
        if len(orders) == 1:
            return values.index_select(1, *orders.values())
        return torch.stack(
            [its[orders[seed]] for its, seed in zip(values, self.seeds, strict=True)]
        )


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """Tensors along a new first axis; None if there are none."""
    given = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(given) if given else None


class BatchedNet(AutoencoderNet):
    """Trains the nets of runs with equal `batching_key` as one net, by the loop of one net."""

    def __init__(self, runs: list[TrainingRun]):
        first = runs[0].net
        super().__init__(
            first.module,
            first.criterion,
            **{name: getattr(first, name) for name in SHARED_SETTINGS},
            progress=first.progress,
        )
        self.runs = runs
        self.nets = [each.net for each in runs]

    is_batched = True
    flat_: Any
    gradient_class_: Any
    noises_: list[Any]
    closed_form_: Any

    def fit(self, X: Any, y: None = None, **options: Any) -> BatchedNet:
        """Train on the rows of the runs; X is not used."""
        source = BatchedSource([each.source for each in self.runs], [net.seed for net in self.nets])
        held_out = _stacked([each.held_out for each in self.runs])
        weights = _stacked([each.held_out_weights for each in self.runs])
        self._take_rows(source, held_out, weights, None)
        self._train(self.runs[0].n_epochs)
        return self

    # -- parts of a net, with an axis of models ------------------------------------

    def initialize_module(self) -> BatchedNet:
        """Join the networks and their noise modules."""
        self.flat_ = BatchedFlatParameters([net.module for net in self.nets])
        self.module_ = self.flat_.joined(self.flat_.detached)
        self.has_modes_ = True
        for net in self.nets:
            net.module.eval()  # they are used in validation only; training is in closed form
        noises = [None if net.noise is None else net.noise() for net in self.nets]
        self.noises_ = [
            noise if noise is None else noise.to(self.device, self.rows_.dtype).train()
            for noise in noises
        ]
        self.noise_ = None if self.noises_[0] is None else joined(self.noises_)
        return self

    def _initialize_optimizer(self, reason: str | None = None) -> BatchedNet:
        with self._current_init_context("optimizer"):
            self.average_ = self.flat_.detached.clone()
            self.initialize_optimizer()
        on_cpu = self.flat_.gradient.is_cpu
        self.backend_ = BATCHED_NUMPY if on_cpu else BATCHED_TORCH
        self.gradient_class_ = closed_form_for(self.nets[0].module, self.criterion_)
        self.closed_form_ = None
        if self.gradient_class_ is ClosedFormGradient:
            averaged = self.flat_.joined(self.average_)
            self.closed_form_ = ClosedFormGradient(averaged, self.criterion_, self.backend_)
        return self

    def _make_gradient(self) -> Gradient:
        return self.gradient_class_(
            self.module_, self.criterion_, self.backend_, self.stochastic_depth
        )

    def _set_training(self, training: bool = True) -> None:
        """Do nothing: closed forms have no training mode."""

    def _noise_of(self, rows: Tensor) -> Tensor | None:
        if self.noises_[0] is None:
            return None
        with torch.no_grad():
            if self.noise_ is not None:
                return self.noise_(rows)
            each = [noise(its) for noise, its in zip(self.noises_, rows, strict=True)]
        return torch.stack(each)

    @torch.no_grad()
    def evaluate(self, rows: Tensor, noise: Tensor | None = None) -> Tensor:
        """Loss of each row at the averaged weights, (n_models, n_rows)."""
        if self.closed_form_ is not None:
            if rows.shape[1] <= VALIDATION_ROWS:
                return self._evaluate_at_once(rows, noise)
            parts = rows.split(VALIDATION_ROWS, dim=1)
            given = [None] * len(parts) if noise is None else noise.split(VALIDATION_ROWS, dim=1)
            return torch.cat(list(map(self._evaluate_at_once, parts, given)), dim=1)
        self.flat_.write(self.average_, self.flat_.buffers)
        given = [None] * len(rows) if noise is None else noise
        losses = [
            self.criterion_.row_losses(run(net.module, its, its_noise), its)
            for net, its, its_noise in zip(self.nets, rows, given, strict=True)
        ]
        return torch.stack(losses)

    def _evaluate_at_once(self, rows: Tensor, noise: Tensor | None) -> Tensor:
        """Loss of each row, (n_models, n_rows), by the closed form."""
        output = self.closed_form_.output(rows, noise)
        # The objective has no axis of models: (n_models * n_rows, n_columns).
        flat: Any = [each if each is None else each.flatten(0, 1) for each in output]
        return self.criterion_.row_losses(Output(*flat), rows.flatten(0, 1)).view(len(rows), -1)

    def losses_of_each(self, rows: Tensor, noise: Tensor | None) -> Tensor:
        return self.evaluate(rows, noise).cpu()

    # -- weights of each model -----------------------------------------------------

    def snapshot(self) -> tuple[Tensor, list[Tensor]]:
        return self.average_.clone(), [buffer.clone() for buffer in self.flat_.buffers]

    def restore(self, snapshot: tuple[Tensor, list[Tensor]]) -> None:
        self.flat_.write(*snapshot)

    def recover(self, failures: np.ndarray, best: tuple[Tensor, list[Tensor]]) -> None:
        """Go on with the other models; stop if all have failed."""
        if failures.all():
            raise StopTraining

    def record(self, name: str, values: np.ndarray) -> None:
        self.history.record(name, values.tolist())

    def take_results(
        self, epochs: list[int], losses: np.ndarray | None, failed: list[bool]
    ) -> None:
        self.best_epochs_, self.kept_losses_, self.failed_ = epochs, losses, failed

    def separate(self) -> list[AutoencoderNet | None]:
        """Nets as if they were trained alone; None for a net whose loss was not finite."""
        return [None if self.failed_[i] else self._one(i) for i in range(len(self.nets))]

    def _one(self, i: int) -> AutoencoderNet:
        """The trained net of model i."""
        net = self.nets[i]
        restoring = net.restoring
        rows, weights, held_out, held_out_weights = (
            None if of_all is None else of_all[i]
            for of_all in (
                self.rows_,
                self.source_.weights,
                self.held_out_,
                self.held_out_weights_,
            )
        )
        training, held_out = features_of(net.module, rows, held_out)
        history = History()
        for epoch in self.history:
            of_one = {name: epoch[name][i] for name in HISTORY_PER_MODEL if name in epoch}
            history.append({"batches": [], "epoch": epoch["epoch"], **of_one})
        net.adopt_results(history)
        losses = self.kept_losses_
        kept = None if losses is None else losses[:, [i]]
        net.take_results([self.best_epochs_[i]], kept, [False])
        net.validation_ratio_ = validation_ratio(
            net.module_, (training, weights), (held_out, held_out_weights)
        )
        if held_out is not None and restoring is not None:
            net.compare_restoring(restoring(net.module_, held_out), held_out_weights, None)
        return net


def _architecture(module: nn.Module) -> tuple[Any, ...]:
    """Types of modules and shapes of weights: equal for networks that can share a batch."""
    kinds = tuple(type(part) for part in module.modules())
    shapes = tuple((name, p.shape) for name, p in module.named_parameters())
    return kinds, shapes, tuple((name, b.shape) for name, b in module.named_buffers())


def _settings_of(objective: Objective) -> tuple[Any, ...]:
    """Settings of an objective: equal for equal objectives."""
    terms = [
        (name, term if isfunction(term) else (type(term), *sorted(vars(term).items())))
        for name, term in objective.terms.items()
    ]
    settings = (sorted(each.items()) for each in (objective.weights, objective.warm_up))
    # The heads of a supervised objective must be for the same targets.
    supervised = id(objective) if isinstance(objective, SupervisedObjective) else None
    return tuple(terms), *map(tuple, settings), objective.positive, supervised
