"""Training of one fit: number of epochs, validation rows, threads, and cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from skae._data.batches import InMemorySource, OutOfCoreSource, Source
from skae._data.dataset import Dataset
from skae._data.threads import limited_threads
from skae._training.batched import TrainingRun, run_batched
from skae._training.gradients import Gradient
from skae._training.net import AutoencoderNet
from skae._training.validation_split import (
    MIN_ROWS_TO_CROSS_VALIDATE,
    MIN_ROWS_TO_HOLD_OUT,
    MIN_ROWS_TO_TRUST_ONE_SPLIT,
    folds_for_epochs,
    hold_out,
    is_better,
    rows_in_memory,
    standard_errors_needed,
)
from skae.losses import Objective
from skae.networks.dense import in_precision

MAX_STEPS = 30_000
PARTIAL_FIT_BATCH, PARTIAL_FIT_RATE = 16, 2.0  # default batch size; factor of lr
FEW_ROWS = 64  # below, a fit has one batch and few epochs, so that checks are quick
AVERAGING = 0.99  # decay of the weights' exponential average, which is validated and kept


@dataclass(frozen=True)
class Trainer:
    """Settings of all training runs of one fit.

    If `require_gain`, networks start at PCA, and training keeps PCA unless other weights are
    better by some standard errors, of which `standard_errors_waived` are subtracted. `make_noise`
    builds the noise module of one run, or returns None. `make_gradient` builds a training step,
    ``(network, objective, gradient) -> Gradient``; None is backpropagation.
    """

    params: dict[str, Any]  # the estimator's parameters
    objective: Objective
    require_gain: bool
    device: torch.device
    split_seed: int  # of the choice of held-out rows
    order_seed: int  # of the order of the rows in each epoch
    make_noise: Callable[[], nn.Module | None] = lambda: None
    standard_errors_waived: float = 0.0
    make_gradient: Callable[..., Gradient] | None = None

    def shortened(self, share: float, n_rows: int) -> Trainer:
        """Return a trainer with a share of the epochs that this one takes for `n_rows` rows."""
        n_epochs = max(1, round(share * self._batch_size_and_epochs(n_rows)[1]))
        return replace(self, params={**self.params, "max_epochs": n_epochs})

    def make_run(
        self,
        network: nn.Module,
        rows: Dataset,
        train: np.ndarray | None = None,
        validation: tuple[Dataset, np.ndarray] | None = None,
        *,
        n_epochs: int | None = None,
        is_fold: bool = False,
    ) -> TrainingRun:
        """Build the training run of one network, without starting it.

        `train` are the indices of the training rows; None means all but the validation rows.
        `validation` is a dataset and the indices of its validation rows. Training stops after
        `n_epochs`, even if the learning-rate schedule is longer.
        """
        # Tables too small to hold rows out train in float64: rounding errors of float32 depend on
        # the order of the rows, and would change such a fit.
        n_rows = len(rows) if train is None else len(train)
        is_tiny = validation is None and n_rows < MIN_ROWS_TO_HOLD_OUT
        dtype = torch.float64 if is_tiny else torch.float32
        source = _source(rows, train, None if validation is None else validation[1], dtype)
        batch_size, max_epochs = self._batch_size_and_epochs(len(source))
        quiet = {"keep_losses": True, "callbacks": [], "verbose": 0} if is_fold else {}
        net = self._net(in_precision(network, dtype), batch_size, max_epochs, **quiet)
        held_out = held_out_weights = None
        if validation is not None:
            rows, index = validation
            held_out = rows.tensor(index, dtype)
            held_out_weights = rows.tensor_of_weights(index, torch.float64)
        n_threads = training_threads(network, batch_size, self.device)
        return TrainingRun(net, source, held_out, held_out_weights, n_epochs, n_threads)

    def _net(
        self, network: nn.Module, batch_size: int, max_epochs: int, **changes: Any
    ) -> AutoencoderNet:
        """Build the net from the estimator's parameters, with some options changed."""
        p = self.params
        stops = p["early_stopping"] and p["lr_schedule"] == "constant"
        options = {
            "optimizer": p["optimizer"],
            "lr": p["lr"],
            "lr_schedule": p["lr_schedule"],
            "weight_decay": p["weight_decay"],
            "averaging": AVERAGING,
            "batch_size": batch_size,
            "max_epochs": max_epochs,
            "patience": p["n_iter_no_change"] if stops else None,  # "one_cycle" never stops early
            "tol": p["tol"],
            "require_gain": self.require_gain,
            "n_standard_errors": max(0.0, 1 - self.standard_errors_waived),
            "seed": self.order_seed,
            "noise": self.make_noise,
            "gradient": self.make_gradient,
            "callbacks": [clone(c, safe=False) for c in p["callbacks"] or ()],
            "device": str(self.device),
            "verbose": int(p["verbose"]),
            **changes,
        }
        return AutoencoderNet(network.to(self.device), self.objective, **options)

    def _batch_size_and_epochs(self, n_rows: int) -> tuple[int, int]:
        """Batch size and largest number of epochs for a number of training rows."""
        batch_size, max_epochs = self.params["batch_size"], self.params["max_epochs"]
        if batch_size == "auto":
            batch_size = auto_batch_size(n_rows)
        if max_epochs == "auto":
            max_epochs = auto_max_epochs(n_rows, batch_size, from_pca=self.require_gain)
        return batch_size, max_epochs

    # -- partial_fit ---------------------------------------------------------------

    def partial_fit(
        self, network: nn.Module, rows: Dataset, state: dict[str, Any] | None, n_steps_before: int
    ) -> tuple[AutoencoderNet, dict[str, Any], int]:
        """Train for one epoch at a constant learning rate, from the state of the previous call.

        Returns the net, its state, and the number of steps of this epoch. Sample weights are
        not scaled.
        """
        batch_size, dtype = self.partial_fit_batch_size(), torch.float32
        source = _source(rows, None, None, dtype, scaled=False)
        net = self._net(
            in_precision(network, dtype),
            batch_size,
            1,
            lr=PARTIAL_FIT_RATE * self.params["lr"],
            schedule_free=True,
            patience=None,
            require_gain=False,
        )
        with limited_threads(training_threads(network, batch_size, self.device)):
            state = net.partial_fit_epoch(source, state, n_steps_before)
        return net.drop_training_state(), state, -(-len(source) // batch_size)

    def partial_fit_batch_size(self) -> int:
        """Batch size for `partial_fit`, where the total number of rows is not known."""
        batch_size = self.params["batch_size"]
        return PARTIAL_FIT_BATCH if batch_size == "auto" else batch_size


def _source(
    rows: Dataset,
    train: np.ndarray | None,
    excluded: np.ndarray | None,
    dtype: torch.dtype,
    *,
    scaled: bool = True,
) -> Source:
    """Source of training rows: in memory, unless the dataset is out of core."""
    if rows.is_out_of_core:
        excluded = np.zeros(0, int) if excluded is None else excluded
        return OutOfCoreSource(rows, excluded, dtype, scaled=scaled)
    index = np.arange(len(rows)) if train is None else train
    weights = rows.tensor_of_weights(index, dtype, scaled=scaled)
    return InMemorySource(rows.tensor(index, dtype), weights)


# -- jobs --------------------------------------------------------------------------


class Trained(NamedTuple):
    """A trained net, and its mean validation loss per row after each epoch."""

    net: AutoencoderNet
    validation_curve: list[float]


@dataclass(eq=False)
class TrainingJob:
    """One network to train, its rows, and how training is validated.

    `make_network` builds a new network for the training rows of a fold. It is None if `network`
    continues an earlier fit; then there are no folds. `held_out` are the user's validation rows,
    which replace a split of `rows`. `n_epochs` is a fixed number of epochs without validation; 0
    keeps the network as it is.
    """

    trainer: Trainer
    network: nn.Module
    rows: Dataset
    make_network: Callable[[Dataset], nn.Module] | None = None
    held_out: Dataset | None = None
    n_epochs: int | None = None

    def train(self) -> Trained:
        """Train the network, and keep its best weights."""
        (trained,) = train_networks([self])
        return trained

    def cross_validates(self) -> bool:
        """Whether cross-validation chooses the number of epochs, as one split has too few rows."""
        is_open = self.held_out is None and self.n_epochs is None
        return (
            is_open
            and self.make_network is not None
            and self.trainer.require_gain
            and self.trainer.params["early_stopping"]
            and self.trainer.params["lr_schedule"] == "one_cycle"
            and MIN_ROWS_TO_HOLD_OUT <= len(self.rows) < MIN_ROWS_TO_TRUST_ONE_SPLIT
        )

    def final_run(self, validation: CrossValidation | None = None) -> TrainingRun:
        """Build the run whose network the fit keeps, given the result of its folds, if it has any.

        Where neither they nor the job fix the number of epochs, validation rows choose the best
        weights.
        """
        trainer, rows = self.trainer, self.rows
        n_epochs = self.n_epochs if validation is None else validation.n_epochs
        if self.n_epochs == 0:
            rows = rows.subset(np.zeros(1, int))  # nothing is trained
        if n_epochs is not None:
            return trainer.make_run(self.network, rows, n_epochs=n_epochs)
        if self.held_out is not None:
            given = self.held_out, rows_in_memory(self.held_out)
            return trainer.make_run(self.network, rows, validation=given)
        # A network that starts at random weights would be stopped too early by few rows.
        enough = MIN_ROWS_TO_HOLD_OUT if trainer.require_gain else MIN_ROWS_TO_CROSS_VALIDATE
        if not trainer.params["early_stopping"] or len(rows) < enough:
            return trainer.make_run(self.network, rows)
        fraction = trainer.params["validation_fraction"]
        train, held_out = hold_out(rows, fraction, trainer.split_seed)
        return trainer.make_run(self.network, rows, train, (rows, held_out))


class CrossValidation(NamedTuple):
    """Result of the cross-validation of one job."""

    n_epochs: int  # the best number; 0 if no other is significantly better
    validation_curve: list[float]  # mean validation loss per row after each epoch
    validation_ratio: float  # squared error of validation rows over that of training rows


def train_networks(jobs: list[TrainingJob]) -> list[Trained]:
    """Train networks and keep their best weights.

    First, the folds of all jobs are trained, then the networks themselves. Both times, networks
    of the same architecture are trained in one batch.
    """
    validations = cross_validate(jobs)
    runs = [job.final_run(its) for job, its in zip(jobs, validations, strict=True)]
    results = []
    for net, validation in zip(run_batched(runs), validations, strict=True):
        if validation is None:
            curve = [epoch["valid_loss"] for epoch in net.history if "valid_loss" in epoch]
        else:
            net.validation_ratio_ = validation.validation_ratio
            curve = validation.validation_curve
        results.append(Trained(net, curve))
    return results


def cross_validate(jobs: list[TrainingJob]) -> list[CrossValidation | None]:
    """Find the best number of epochs of each job by its folds; None for a job without folds."""
    splits = []
    runs = []
    for job in jobs:
        folds = []
        if job.cross_validates():
            fraction = job.trainer.params["validation_fraction"]
            folds = folds_for_epochs(len(job.rows), fraction, job.trainer.split_seed)
        splits.append(folds)
        runs += [_fold_run(job, *fold) for fold in folds]
    nets = iter(run_batched(runs))
    return [
        _best_n_epochs(job, folds, [next(nets) for _ in folds]) if folds else None
        for job, folds in zip(jobs, splits, strict=True)
    ]


def _fold_run(job: TrainingJob, train: np.ndarray, held_out: np.ndarray) -> TrainingRun:
    make: Any = job.make_network
    network = make(job.rows.subset(train))
    return job.trainer.make_run(network, job.rows, train, (job.rows, held_out), is_fold=True)


def _best_n_epochs(
    job: TrainingJob, folds: list[Any], nets: list[AutoencoderNet]
) -> CrossValidation:
    """Find the number of epochs whose mean loss over the held-out rows of all folds is lowest."""
    held_out = np.concatenate([held_out for _, held_out in folds])
    n_common = min(len(net.held_out_losses_) for net in nets)  # a failed fold has fewer epochs
    losses = np.concatenate([net.held_out_losses_[:n_common] for net in nets], axis=1)
    weights = job.rows.weights_of(held_out)
    curve = np.average(losses, axis=1, weights=weights)
    best = int(np.nanargmin(curve))
    n_errors = max(0, standard_errors_needed(len(job.rows)) - job.trainer.standard_errors_waived)
    if not is_better(losses[best], losses[0], n_standard_errors=n_errors, weights=weights):
        best = 0
    ratio = float(np.mean([net.validation_ratio_ for net in nets]))
    return CrossValidation(best, curve[1:].tolist(), ratio)


# -- batch size, number of epochs, threads -----------------------------------------


def auto_batch_size(n_rows: int) -> int:
    """Batch size for "auto": all rows below 64, else about 1 % of them, from 32 to 256."""
    if n_rows < FEW_ROWS:
        return max(n_rows, 2)
    return int(np.clip(2 ** int(np.log2(n_rows / 100)), 32, 256))


def auto_max_epochs(n_rows: int, batch_size: int, *, from_pca: bool) -> int:
    """Number of epochs for "auto": at most MAX_STEPS steps if that is 20 to 300 epochs.

    Small tables have fixed numbers. If they start at PCA, few epochs suffice.
    """
    if not from_pca and n_rows < FEW_ROWS:
        return 600
    if n_rows < MIN_ROWS_TO_HOLD_OUT:
        return 7  # without validation rows, training must not go far from PCA
    if n_rows < FEW_ROWS:
        return 30  # a fit of 50 rows should take no longer than 50 ms
    if from_pca and n_rows < MIN_ROWS_TO_TRUST_ONE_SPLIT:
        return 150  # for each fold
    return int(np.clip(MAX_STEPS * batch_size / n_rows, 20, 300))


def training_threads(network: nn.Module, batch_size: int, device: torch.device) -> int:
    """Number of threads of a training step: one on the CPU, unless the step is large."""
    n_products = batch_size * sum(p.numel() for p in network.parameters())
    return 1 if device.type != "cpu" or n_products < 10_000_000 else torch.get_num_threads()
