"""Networks of one shape trained as one network with a leading axis.

On small tables a step of one network is mostly the overhead of its calls, which many networks
can share. What each of them is trained on, in which order, and which of its weights are kept
is as in a training of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from inspect import isfunction
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor, nn

from skae._data.batches import InMemorySource, Source
from skae._data.scores import is_better
from skae._data.threads import limited_threads
from skae._training.callbacks import Scale, StopTraining
from skae._training.gradients import (
    BATCHED_NUMPY,
    BATCHED_TORCH,
    ClosedFormGradient,
    Gradient,
    closed_form_for,
)
from skae._training.net import AutoencoderNet, validation_ratio
from skae._training.optimizers import BatchedFlatParameters
from skae.losses import Objective
from skae.networks.dense import Output, run
from skae.noise import joined

SHARED_SETTINGS = (  # settings that networks must have in common
    "optimizer",
    "lr",
    "lr_schedule",
    "weight_decay",
    "averaging",
    "batch_size",
    "max_epochs",
    "clipping",
    "keep_losses",
    "device",
)
HISTORY_PER_MODEL = (
    "train_loss",
    "valid_loss",
    "valid_loss_best",
)  # what the history has of each model
JUDGED_ROWS = 1024  # of each model at once
MAX_MODELS_PER_BATCH = 8  # more no longer save anything
PRODUCTS_OF_MANY = 2_500_000  # of a step of one model, above which its calls hardly matter
BYTES_OF_ROWS = 64 * 2**20  # of models trained at once


@dataclass(eq=False)
class TrainingRun:
    """One network to train, and on what.

    Parameters
    ----------
    net : AutoencoderNet
        Not trained yet.
    source : InMemory or Outside
    held_out, held_out_weights : Tensor, default=None
    n_epochs : int, default=None
        As `AutoencoderNet.fit` takes them.
    n_threads : int, default=1
        That a step can use.
    """

    net: AutoencoderNet
    source: Source
    held_out: Tensor | None = None
    held_out_weights: Tensor | None = None
    n_epochs: int | None = None
    n_threads: int = 1

    def run(self) -> AutoencoderNet:
        """Train the network alone.

        Returns
        -------
        AutoencoderNet
        """
        with limited_threads(self.n_threads):
            self.net.fit(
                self.source,
                held_out=self.held_out,
                held_out_weights=self.held_out_weights,
                n_epochs=self.n_epochs,
            )
        return self.net.release()

    def shape(self) -> Any:
        """What trainings that can be one have in common; None for one that must be alone."""
        net, weights = self.net, self.held_out_weights
        alone = (
            net.callbacks
            or net.verbose
            or net.schedule_free
            or net.patience is not None
            or not isinstance(net.optimizer, str)
            or not isinstance(self.source, InMemorySource)
            or self.source.weights is not None
            or weights is not None
            or self.n_threads > 1
            or closed_form_for(net.module, net.criterion) is None
        )
        if alone:
            return None
        return (
            self.n_epochs,
            self.source.sample.shape,
            self.source.sample.dtype,
            None if self.held_out is None else self.held_out.shape,
            *(getattr(net, name) for name in SHARED_SETTINGS),
            _architecture(net.module),
            _description_of(net.criterion),
        )


Plan = Generator[
    list[TrainingRun], list[AutoencoderNet], Any
]  # asks for trainings, returns a result


def carry_out(plan: Plan) -> Any:
    """Do the trainings that a plan asks for, such as those of folds, of one shape as one.

    Parameters
    ----------
    plan : generator
        Yields lists of trainings, is sent the trained nets.

    Returns
    -------
    object
        What the plan returns.
    """
    (result,) = carry_out_together([plan])
    return result


def carry_out_together(plans: list[Plan]) -> list[Any]:
    """Do the trainings that plans ask for, those of one shape as one.

    Parameters
    ----------
    plans : list of generators

    Returns
    -------
    list of object
        What each plan returns.
    """
    results: list[Any] = [None] * len(plans)
    answers: dict[int, Any] = dict.fromkeys(range(len(plans)))
    while answers:
        asked = {}
        for i, answer in answers.items():
            try:
                asked[i] = plans[i].send(answer)
            except StopIteration as stop:
                results[i] = stop.value
        trained = iter(run_batched([one for each in asked.values() for one in each]))
        answers = {i: [next(trained) for _ in each] for i, each in asked.items()}
    return results


def run_batched(trainings: list[TrainingRun]) -> list[AutoencoderNet]:
    """Train networks, those of one shape as one.

    Parameters
    ----------
    trainings : list of Training

    Returns
    -------
    list of AutoencoderNet
        In the same order.
    """
    nets: list[Any] = [None] * len(trainings)
    for group in _groups(trainings):
        some = [trainings[i] for i in group]
        trained = [some[0].run()] if len(some) == 1 else _train_as_one(some)
        for i, net in zip(group, trained, strict=True):
            nets[i] = net
    return nets


def _groups(trainings: list[TrainingRun]) -> Iterator[list[int]]:
    """Indices of trainings that are done at once."""
    by_shape: dict[Any, list[int]] = defaultdict(list)
    for i, training in enumerate(trainings):
        shape = training.shape()
        by_shape[(i,) if shape is None else shape].append(i)
    for group in by_shape.values():
        first = trainings[group[0]]
        n_parameters = sum(p.numel() for p in first.net.module.parameters())
        n_rows, n_features = first.source.sample.shape
        n_at_once = models_per_batch(n_parameters, first.net.batch_size, n_rows, n_features)
        for part in np.array_split(group, -(-len(group) // n_at_once)):
            yield part.tolist()


def models_per_batch(n_parameters: int, batch_size: int, n_rows: int, n_features: int) -> int:
    """Number of models of one shape that are worth training as one.

    Parameters
    ----------
    n_parameters : int
        Of each model.
    batch_size, n_rows, n_features : int
        Of each model.

    Returns
    -------
    int
        1 where a step of one model keeps the processor busy.
    """
    if n_parameters * batch_size > PRODUCTS_OF_MANY:
        return 1
    return max(1, min(MAX_MODELS_PER_BATCH, BYTES_OF_ROWS // max(1, 4 * n_rows * n_features)))


def _train_as_one(trainings: list[TrainingRun]) -> list[AutoencoderNet]:
    """Train networks of one shape; alone, those whose loss became non-finite."""
    with limited_threads(1):
        net = BatchedNet(trainings)
        net.fit(None)
        trained = net.separate()
    return [
        training.run() if one is None else one
        for training, one in zip(trainings, trained, strict=True)
    ]


class BatchedSource:
    """Rows of many trainings, which have a leading axis.

    Each of them is shuffled by a generator of its own, of the seed that its net has.

    Parameters
    ----------
    samples : list of Tensor of shape (n_rows, n_features)
    seeds : list of int
    """

    weights: Tensor | None = None

    def __init__(self, samples: list[Tensor], seeds: list[int]):
        self.sample = torch.stack(samples)
        self.generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
        self.seeds = seeds

    def __len__(self) -> int:
        return self.sample.shape[1]

    def to(self, device: str) -> BatchedSource:
        """Move the rows.

        Parameters
        ----------
        device : str

        Returns
        -------
        RowsOfMany
            This one.
        """
        self.sample = self.sample.to(device)
        return self

    def take(self, sizes: list[int], generator: torch.Generator) -> Iterator[tuple[Tensor, None]]:
        """All rows of each once, in new orders.

        Parameters
        ----------
        sizes : list of int
            Rows of each batch.
        generator : torch.Generator
            Not used.

        Yields
        ------
        rows : Tensor of shape (n_models, n_batch, n_features)
        weights : None
        """
        orders = {
            seed: torch.randperm(len(self), generator=its).to(self.sample.device)
            for seed, its in self.generators.items()
        }
        if len(orders) == 1:
            rows = self.sample.index_select(1, *orders.values())
        else:
            rows = torch.stack(
                [its[orders[seed]] for its, seed in zip(self.sample, self.seeds, strict=True)]
            )
        yield from ((batch, None) for batch in rows.split(sizes, dim=1))


class BatchedNet(AutoencoderNet):
    """Trains networks of one shape as one; the loop is that of one network.

    Parameters
    ----------
    trainings : list of Training
        Of one `shape`.
    """

    def __init__(self, trainings: list[TrainingRun]):
        first = trainings[0].net
        super().__init__(
            first.module,
            first.criterion,
            **{name: getattr(first, name) for name in SHARED_SETTINGS},
        )
        self.trainings = trainings
        self.nets = [training.net for training in trainings]

    flat_: Any
    kind_: Any
    noises_: list[Any]
    judge_: Any

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [("best_weights", BatchedBestWeights())]

    def fit(self, X: Any, y: None = None, **options: Any) -> BatchedNet:
        """Train.

        Parameters
        ----------
        X : None
        y : None
        **options : dict
            None.

        Returns
        -------
        self : NetOfMany
        """
        samples = [training.source.sample for training in self.trainings]
        held_out: Any = [training.held_out for training in self.trainings]
        judges = None if held_out[0] is None else torch.stack(held_out)
        self._take_rows(BatchedSource(samples, [net.seed for net in self.nets]), judges, None)
        self.initialize()
        self.held_out_noise_ = None if self.held_out_ is None else self._noise_of(self.held_out_)
        self.notify("on_train_begin", X=self.rows_, y=None)
        with suppress(StopTraining):
            self.fit_loop(self.source_, epochs=self.trainings[0].n_epochs)
        self.notify("on_train_end", X=self.rows_, y=None)
        return self

    # -- parts of one net, for many ------------------------------------------------

    def initialize_module(self) -> BatchedNet:
        """Join the networks."""
        self.flat_ = BatchedFlatParameters([net.module for net in self.nets])
        self.module_ = self.flat_.joined(self.flat_.detached)
        self.has_modes_ = True
        for net in self.nets:
            net.module.eval()  # they judge; what trains is written out
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
        self.kind_ = closed_form_for(self.nets[0].module, self.criterion_)
        self.judge_ = None
        if self.kind_ is ClosedFormGradient:
            averaged = self.flat_.joined(self.average_)
            self.judge_ = ClosedFormGradient(averaged, self.criterion_, self.backend_)
        return self

    def _make_gradient(self) -> Gradient:
        return self.kind_(self.module_, self.criterion_, self.backend_)

    def _set_training(self, training: bool = True) -> None:
        """Leave the mode alone: what is written out has none."""

    def _record(self, name: str, total: Any, n_rows: int) -> None:
        self.history.record(name, (np.asarray(total, dtype=float) / n_rows).tolist())

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
        """Objective of each row under the averaged weights.

        Parameters
        ----------
        rows : Tensor of shape (n_models, n_rows, n_features)
        noise : Tensor of shape (n_models, n_rows, n_columns), default=None

        Returns
        -------
        Tensor of shape (n_models, n_rows)
        """
        if self.judge_ is not None:
            if rows.shape[1] <= JUDGED_ROWS:
                return self._evaluate_at_once(rows, noise)
            parts = rows.split(JUDGED_ROWS, dim=1)
            given = [None] * len(parts) if noise is None else noise.split(JUDGED_ROWS, dim=1)
            return torch.cat(list(map(self._evaluate_at_once, parts, given)), dim=1)
        self.flat_.write(self.average_, self.flat_.buffers)
        given = [None] * len(rows) if noise is None else noise
        losses = [
            self.criterion_.row_losses(run(net.module, its, its_noise), its)
            for net, its, its_noise in zip(self.nets, rows, given, strict=True)
        ]
        return torch.stack(losses)

    def _evaluate_at_once(self, rows: Tensor, noise: Tensor | None) -> Tensor:
        """Objective of some rows of each model; the criterion knows no leading axis."""
        output = self.judge_.output(rows, noise)
        flat: Any = [each if each is None else each.flatten(0, 1) for each in output]
        return self.criterion_.row_losses(Output(*flat), rows.flatten(0, 1)).view(len(rows), -1)

    # -- and back to many ----------------------------------------------------------

    def separate(self) -> list[AutoencoderNet | None]:
        """Each net as if it had been trained alone; None if its loss became non-finite.

        Returns
        -------
        list of AutoencoderNet or None
        """
        (best,) = (cb for _, cb in self.callbacks_ if isinstance(cb, BatchedBestWeights))
        self.flat_.write(best.values_, best.buffers_)
        return [None if best.failed_[i] else self._one(i, best) for i in range(len(self.trainings))]

    def _one(self, i: int, best: BatchedBestWeights) -> AutoencoderNet:
        """One of the nets, trained."""
        net = self.nets[i]
        history = History()
        for epoch in self.history:
            of_one = {name: epoch[name][i] for name in HISTORY_PER_MODEL if name in epoch}
            history.append({"batches": [], "epoch": epoch["epoch"], **of_one})
        results: dict[str, Any] = {"best_epoch_": best.epochs_[i]}
        if net.keep_losses:
            results["held_out_losses_"] = torch.stack([each[i] for each in best.losses_]).numpy()
        net = net.adopt_results(history, results)
        held_out = None if self.held_out_ is None else self.held_out_[i]
        net.validation_ratio_ = validation_ratio(
            net.module_, (self.rows_[i], None), (held_out, None)
        )
        return net


class BatchedBestWeights(Callback):
    """Keeps the best weights of each of many models, as `BestWeights` does for one.

    A model whose loss becomes non-finite has failed and is not looked at any more.
    """

    def on_train_begin(self, net: BatchedNet, **kwargs: Any) -> None:
        judges = net.rows_ if net.held_out_ is None else net.held_out_
        losses = net.evaluate(judges, net.held_out_noise_).cpu()
        self.scale_ = Scale(losses, net.criterion_.positive)
        self.start_ = self.scale_.score(losses)
        self.scores_ = self.start_.clone()
        self.means_ = self.start_.mean(1)
        self.failed_ = ~self.start_.isfinite().all(1)
        self.epochs_: list[int] = [0] * len(losses)
        self.values_ = net.flat_.detached.clone()
        self.buffers_ = [buffer.clone() for buffer in net.flat_.buffers]
        self.start_values_ = self.values_.clone()
        self.start_buffers_ = [buffer.clone() for buffer in net.flat_.buffers]
        self.losses_ = [losses]

    def on_epoch_end(self, net: BatchedNet, **kwargs: Any) -> None:
        trained = torch.tensor(net.history[-1]["train_loss"]).isfinite()
        better = self._judge(net, trained) if net.held_out_ is not None else trained
        self.failed_ |= ~trained
        keeps = (better & ~self.failed_).tolist()
        net.history.record("valid_loss_best", keeps)
        for i in np.flatnonzero(keeps).tolist():
            self._keep(i, net.history[-1]["epoch"], net.average_, net.flat_.buffers)
        if self.failed_.all():
            raise StopTraining

    def _judge(self, net: BatchedNet, trained: Tensor) -> Tensor:
        """Whether each model is better than before, by its held-out rows."""
        held_out: Any = net.held_out_
        losses = net.evaluate(held_out, net.held_out_noise_).cpu()
        net.history.record("valid_loss", losses.mean(1).tolist())
        if net.keep_losses:
            self.losses_.append(losses)
        scores = self.scale_.score(losses)
        means = scores.mean(1)  # not finite, if any score is not
        self.failed_ |= ~means.isfinite()
        better = trained & (means < self.means_)
        self.means_ = torch.where(better, means, self.means_)
        self.scores_ = torch.where(better[:, None], scores, self.scores_)
        return better

    def _keep(self, i: int, epoch: int, values: Tensor, buffers: list[Tensor]) -> None:
        """Take the weights of one model."""
        self.epochs_[i] = epoch
        self.values_[i] = values[i]
        for kept, buffer in zip(self.buffers_, buffers, strict=True):
            kept[i] = buffer[i]

    def on_train_end(self, net: BatchedNet, **kwargs: Any) -> None:
        for i, one in enumerate(net.nets):
            back = bool(self.failed_[i])  # to where it can start alone
            if net.held_out_ is not None and one.require_gain:
                gained = is_better(
                    self.scores_[i], self.start_[i], n_standard_errors=one.n_standard_errors
                )
                back |= not gained
            if back:
                self._keep(i, 0, self.start_values_, self.start_buffers_)


def _architecture(module: nn.Module) -> tuple[Any, ...]:
    """What networks that can be one have in common."""
    kinds = tuple(type(part) for part in module.modules())
    shapes = tuple((name, p.shape) for name, p in module.named_parameters())
    return kinds, shapes, tuple((name, b.shape) for name, b in module.named_buffers())


def _description_of(objective: Objective) -> tuple[Any, ...]:
    """What objectives that are the same have in common."""
    terms = [
        (name, term if isfunction(term) else (type(term), *sorted(vars(term).items())))
        for name, term in objective.terms.items()
    ]
    settings = (sorted(each.items()) for each in (objective.weights, objective.warm_up))
    return tuple(terms), *map(tuple, settings), objective.positive
