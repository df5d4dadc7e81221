"""Training of one fit: number of epochs, validation rows, threads, and cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skae._data.batches import (
    InMemorySource,
    OutOfCoreSource,
    Source,
    SparseSource,
    stays_sparse,
    training_index,
)
from skae._data.dataset import Dataset
from skae._data.threads import limited_threads
from skae._data.warnings import warn
from skae._training.batched import TrainingRun, run_batched
from skae._training.best_weights import ScoreScale
from skae._training.callbacks import reads_batches
from skae._training.gradients import Gradient
from skae._training.net import AutoencoderNet, error_ratio, restores
from skae._training.progress import QUIET, Progress
from skae._training.sparse_gradients import SparseGradient
from skae._training.validation_split import (
    FEW_UNITS,
    MIN_UNITS,
    MIN_UNITS_TO_CROSS_VALIDATE,
    MIN_UNITS_TO_TRUST_ONE_SPLIT,
    five_folds,
    hold_out,
    is_better,
    rows_in_memory,
    standard_errors_needed,
    upper_bounds,
)
from skae.losses import Objective
from skae.networks.dense import in_precision

SMALLEST_BATCH, LARGEST_BATCH = 32, 512
DEPTH_BATCH = 64  # smallest with stochastic depth, which leaves the encoder a share of each batch
FEWEST_EPOCHS, MOST_EPOCHS = 20, 300  # of tables that are not small
EPOCHS, EPOCHS_AT = 125, 10_000  # number of epochs for a number of training rows
DECAY = 0.4  # ten times as many rows have 0.4 times as many epochs
PARTIAL_FIT_BATCH, PARTIAL_FIT_RATE = 16, 2.0  # default batch size; factor of lr
FEW_ROWS = 64  # below, a network that starts at random weights has one batch
TINY_ROWS = 30  # below, training is in float64, and does not depend on the order of the rows
FEW_ROWS_BATCH, FEW_ROWS_EPOCHS = 8, 60  # for fewer rows than FEW_UNITS, from PCA
# Standard errors of the gains of few rows: of scores, in the first folds and in all; of losses.
FIRST_ERRORS, SCORE_ERRORS, LOSS_ERRORS = 1.0, 3.0, 1.0
LOSS_ERRORS_OF_TINY = 2.5  # below TINY_ROWS
AVERAGING = 0.99  # decay of the weights' exponential average, which is validated and kept


@dataclass(frozen=True)
class Trainer:
    """Settings of all training runs of one fit.

    If `require_gain`, networks start at PCA, and training keeps PCA unless other weights are
    better by some standard errors, of which `standard_errors_waived` are subtracted. `make_noise`
    builds the noise module of one run, or returns None. `make_gradient` builds a training step,
    ``(network, objective, gradient) -> Gradient``; None is backpropagation. If `is_strict`, few
    rows are trained in small batches and judged by upper bounds of their losses. `restoring`
    compares the restoring of clean rows with PCA's, as of `AutoencoderNet`; if `must_restore`,
    few rows keep PCA unless it is better. If `keeps_latest`, the latest weights that are better
    than PCA are kept, not the best.
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
    is_strict: bool = True
    restoring: Callable[[Any, Any], Any] | None = None
    must_restore: bool = False
    keeps_latest: bool = False
    stochastic_depth: float = 0.0  # of anchored networks
    standard_errors: float | None = None  # of gains, whatever the number of rows; None: by rules
    largest_batch: int = LARGEST_BATCH  # for "auto"
    progress: Progress = QUIET  # bar of the fit

    net_class: ClassVar[type[AutoencoderNet]] = AutoencoderNet

    def dtype_of(self, rows: Dataset) -> torch.dtype:
        """Type in which networks are trained on rows."""
        # Rounding errors of float32 depend on the order of the rows.
        return torch.float64 if len(rows) < TINY_ROWS else torch.float32

    def source_of(
        self,
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
        index = training_index(len(rows), train, excluded)
        weights = rows.tensor_of_weights(index, dtype, scaled=scaled)
        return InMemorySource(rows.tensor(index, dtype), weights)

    @property
    def is_careful(self) -> bool:
        """Whether training must be better than PCA even if there are few rows."""
        return self.require_gain and self.is_strict

    def shortened(self, share: float, n_rows: int) -> Trainer:
        """Return a trainer with a share of the epochs that "auto" is for `n_rows` rows.

        It is the same trainer if the user gave their number.
        """
        if self.params["max_epochs"] != "auto":
            return self
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
        fold: tuple[int, int] | None = None,
    ) -> TrainingRun:
        """Build the training run of one network, without starting it.

        `train` are the indices of the training rows; None means all but the validation rows.
        `validation` is a dataset and the indices of its validation rows. Training stops after
        `n_epochs`, even if the learning-rate schedule is longer. `fold` is the number of a fold of
        cross-validation, and how many there are.
        """
        dtype = self.dtype_of(rows)
        is_split = validation is not None and validation[0] is rows
        excluded = validation[1] if validation is not None and is_split else None
        source: Source
        if self._steps_are_sparse(network, rows):
            source = SparseSource(rows, training_index(len(rows), train, excluded), dtype)
        else:
            source = self.source_of(rows, train, excluded, dtype)
        n_copies = rows.n_copies if self._counts_rows() else 1
        # A fold of a small table is trained like the table.
        n_rows = max(len(source), min(len(rows), FEW_UNITS * n_copies))
        batch_size, max_epochs = self._batch_size_and_epochs(n_rows, n_copies)
        of_fold: dict[str, Any] = {}
        if fold is not None:
            of_fold = {"keep_losses": True, "callbacks": [], "patience": None}
            of_fold |= {"restoring": None}  # `Folds` compares restoring
        net = self._net(in_precision(network, dtype), batch_size, max_epochs, **of_fold)
        n_threads = training_threads(network, batch_size, self.device)
        if validation is None:
            return TrainingRun(net, source, n_epochs=n_epochs, n_threads=n_threads)
        others, index = validation
        return TrainingRun(
            net,
            source,
            others.tensor(index, dtype),
            others.tensor_of_weights(index, torch.float64),
            None if fold is not None else others.units_of(index),
            n_epochs,
            n_threads,
            fold,
        )

    def _steps_are_sparse(self, network: nn.Module, rows: Dataset) -> bool:
        """Whether training steps read sparse rows as they are."""
        return (
            self.device.type == "cpu"
            and stays_sparse(rows)
            and self.make_gradient is None
            and not reads_batches(self.params["callbacks"])
            and SparseGradient.covers(network, self.objective)
            and self.make_noise() is None
        )

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
            "n_standard_errors": self.standard_errors_of(1.0),
            "keeps_latest": self.keeps_latest,
            "seed": self.order_seed,
            "noise": self.make_noise,
            "gradient": self.make_gradient,
            "restoring": self.restoring,
            "stochastic_depth": self.stochastic_depth,
            "callbacks": [clone(c, safe=False) for c in p["callbacks"] or ()],
            "device": str(self.device),
            "progress": self.progress,
            **changes,
        }
        return self.net_class(network.to(self.device), self.objective, **options)

    def standard_errors_of(self, by_rule: float) -> float:
        """Standard errors by which weights must be better than the initial ones."""
        if self.standard_errors is not None:
            return self.standard_errors
        return max(0.0, by_rule - self.standard_errors_waived)

    def _counts_rows(self) -> bool:
        """Whether batch size or number of epochs depend on the number of rows."""
        return "auto" in (self.params["batch_size"], self.params["max_epochs"])

    def _batch_size_and_epochs(self, n_rows: int, n_copies: int = 1) -> tuple[int, int]:
        """Batch size and largest number of epochs for a number of training rows.

        If all rows were copied, they take as many steps as one copy of each would.
        """
        batch_size, max_epochs = self.params["batch_size"], self.params["max_epochs"]
        n_rows //= n_copies
        if batch_size == "auto":
            batch_size = n_copies * auto_batch_size(
                n_rows, from_pca=self.is_careful, stochastic_depth=self.stochastic_depth
            )
            batch_size = min(batch_size, n_copies * self.largest_batch)
        if max_epochs == "auto":
            max_epochs = auto_max_epochs(n_rows, from_pca=self.require_gain)
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
        source = self.source_of(rows, None, None, dtype, scaled=False)
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
        if not self._is_judged_by_rows() or self.make_network is None:
            return False
        n_units, schedule = self.rows.n_units, self.trainer.params["lr_schedule"]
        most = MIN_UNITS_TO_TRUST_ONE_SPLIT if schedule == "one_cycle" else FEW_UNITS
        return MIN_UNITS <= n_units < most

    def _is_judged_by_rows(self) -> bool:
        """Whether training must be better than PCA on rows that are held out of the rows."""
        is_open = self.held_out is None and self.n_epochs is None
        return is_open and self.trainer.require_gain and self.trainer.params["early_stopping"]

    def final_run(self, validation: CrossValidation | None = None) -> TrainingRun:
        """Build the run whose network the fit keeps, given the result of its folds, if it has any.

        Where neither they nor the job fix the number of epochs, validation rows choose the best
        weights. If there are too few rows to judge training, PCA is kept.
        """
        trainer, rows = self.trainer, self.rows
        n_epochs = self.n_epochs if validation is None else validation.n_epochs
        if self._is_judged_by_rows() and rows.n_units < MIN_UNITS:
            n_epochs = 0
            if rows.groups is not None and len(rows) >= MIN_UNITS:
                warn(
                    f"groups has {rows.n_units} groups, but {MIN_UNITS} are needed to judge "
                    "training by groups that are held out, so PCA is kept. Give more groups, or "
                    "pass rows of other groups as X_val.",
                    ConvergenceWarning,
                )
        if n_epochs == 0:
            rows = rows.subset(np.zeros(1, int))  # nothing is trained
        if n_epochs is not None:
            return trainer.make_run(self.network, rows, n_epochs=n_epochs)
        if self.held_out is not None:
            given = self.held_out, rows_in_memory(self.held_out)
            return trainer.make_run(self.network, rows, validation=given)
        # A network that starts at random weights would be stopped too early by few rows.
        enough = MIN_UNITS if trainer.require_gain else MIN_UNITS_TO_CROSS_VALIDATE
        if not trainer.params["early_stopping"] or rows.n_units < enough:
            return trainer.make_run(self.network, rows)
        fraction = trainer.params["validation_fraction"]
        train, held_out = hold_out(rows, fraction, trainer.split_seed)
        return trainer.make_run(self.network, rows, train, (rows, held_out))


class CrossValidation(NamedTuple):
    """Result of the cross-validation of one job."""

    n_epochs: int  # the best number; 0 if no other is significantly better
    validation_curve: list[float]  # mean validation loss per row after each epoch
    validation_ratio: float  # squared error of validation rows over that of training rows
    restores: bool  # whether clean rows are restored better than by PCA
    pca_error_ratio: float  # squared error of clean validation rows over PCA's


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
            net.restores_, net.pca_error_ratio_ = validation.restores, validation.pca_error_ratio
            curve = validation.validation_curve
        results.append(Trained(net, curve))
    return results


def cross_validate(jobs: list[TrainingJob]) -> list[CrossValidation | None]:
    """Find the best number of epochs of each job by its folds; None for a job without folds."""
    tests = [Folds(job) if job.cross_validates() else None for job in jobs]
    some = [test for test in tests if test is not None]
    while some:
        runs = [(test, run) for test in some for run in test.next_runs()]
        trained = run_batched([run for _, run in runs])
        for (test, run), net in zip(runs, trained, strict=True):
            test.add(net, run)
        some = [test for test in some if test.is_undecided()]
    return [None if test is None else test.result() for test in tests]


class Folds:
    """Five folds of one job, made once or twice, and the losses of their held-out rows."""

    def __init__(self, job: TrainingJob):
        self.job, self.n_times = job, 0
        self.random = np.random.RandomState(job.trainer.split_seed)
        self.is_few = job.trainer.is_careful and job.rows.n_units < FEW_UNITS
        self.splits: list[Any] = []
        self.nets: list[AutoencoderNet] = []
        self.restored: list[Any] = []  # errors of clean rows, see `Trainer.restoring`

    def next_runs(self) -> list[TrainingRun]:
        """Make five folds, and build their training runs."""
        splits, n_before = five_folds(self.job.rows, self.random), len(self.splits)
        self.splits, self.n_times = self.splits + splits, self.n_times + 1
        n_folds = len(self.splits)
        return [self._run(*split, (n_before + i + 1, n_folds)) for i, split in enumerate(splits)]

    def _run(self, train: np.ndarray, held_out: np.ndarray, fold: tuple[int, int]) -> TrainingRun:
        make: Any = self.job.make_network
        rows, trainer = self.job.rows, self.job.trainer
        with trainer.progress.stage(f"fold {fold[0]} of {fold[1]}"):  # it may be pretrained
            network = make(rows.subset(train))
        return trainer.make_run(network, rows, train, (rows, held_out), fold=fold)

    def add(self, net: AutoencoderNet, run: TrainingRun) -> None:
        """Add the trained net of the next fold."""
        self.nets.append(net)
        if self.job.trainer.restoring is not None:
            held_out: Any = run.held_out
            rows = held_out[:, : self.job.rows.shape[1]]  # without targets
            self.restored.append(self.job.trainer.restoring(net.module_, rows.to(net.device)).cpu())

    def is_undecided(self) -> bool:
        """Whether few rows gain in the first five folds, so that five more should confirm it."""
        return (
            self.is_few
            and self.n_times == 1
            and self._best_of_few(FIRST_ERRORS, *self._losses()) > 0
        )

    def result(self) -> CrossValidation:
        """Best number of epochs: with the lowest mean, or for few rows the lowest bound."""
        losses, weights, units = self._losses()
        curve = np.average(losses, axis=1, weights=weights)
        ratio = float(np.mean([net.validation_ratio_ for net in self.nets]))
        restored, pca_ratio = self._restores()
        if self.is_few:
            best = 0
            if self.n_times > 1:
                fixed = self.job.trainer.standard_errors
                n_errors = SCORE_ERRORS if fixed is None else fixed
                best = self._best_of_few(n_errors, losses, weights, units)
            if self.job.trainer.must_restore and not restored:
                best = 0
            pca_ratio = pca_ratio if best else 1.0
            return CrossValidation(best, curve[1:].tolist(), ratio, restored, pca_ratio)
        best, trainer = int(np.nanargmin(curve)), self.job.trainer
        n_errors = trainer.standard_errors_of(standard_errors_needed(self.job.rows.n_units))
        options: Any = {"n_standard_errors": n_errors, "weights": weights, "units": units}
        if trainer.keeps_latest:
            gains = (
                e
                for e in range(len(losses) - 1, 0, -1)
                if is_better(losses[e], losses[0], **options)
            )
            best = next(gains, 0)
        elif not is_better(losses[best], losses[0], **options):
            best = 0
        pca_ratio = pca_ratio if best else 1.0
        return CrossValidation(best, curve[1:].tolist(), ratio, restored, pca_ratio)

    def _losses(self) -> tuple[np.ndarray, Any, Any]:
        """Losses (n_epochs + 1, n_rows) that start at PCA, with weights and units of the rows."""
        rows, held_out = self.job.rows, np.concatenate([index for _, index in self.splits])
        n_common = min(len(net.held_out_losses_) for net in self.nets)  # a failed fold has fewer
        losses = np.concatenate([net.held_out_losses_[:n_common] for net in self.nets], axis=1)
        if self.n_times > 1:  # each row has its mean loss
            order = np.argsort(held_out, kind="stable")
            losses = losses[:, order].reshape(n_common, len(rows), -1).mean(axis=2)
            held_out = np.arange(len(rows))
        return losses, rows.weights_of(held_out), rows.units_of(held_out)

    def _restores(self) -> tuple[bool, float]:
        """Whether clean held-out rows are restored better than by PCA, and their error over PCA's.

        Each network is judged at its own best epoch.
        """
        if not self.restored:
            return True, float("nan")
        rows, held_out = self.job.rows, np.concatenate([index for _, index in self.splits])
        labels = np.arange(len(rows)) if rows.units is None else rows.units
        weights, errors = (
            rows.tensor_of_weights(held_out, torch.float64),
            torch.cat(self.restored, dim=1),
        )
        return restores(errors, weights, labels[held_out]), error_ratio(errors, weights)

    def _best_of_few(
        self, score_errors: float, losses: np.ndarray, weights: Any, units: Any
    ) -> int:
        """Number of epochs with the lowest upper bound of scores minus PCA's; 0 if none gains.

        Scores are as in `BestWeights`. The losses themselves must be lower, too.
        """
        positive = self.job.trainer.objective.positive
        is_tiny = self.job.rows.n_units < TINY_ROWS
        loss_errors = LOSS_ERRORS_OF_TINY if is_tiny else LOSS_ERRORS
        loss_errors = min(loss_errors, score_errors) if positive else score_errors
        scale = ScoreScale(torch.from_numpy(losses[:1]), positive)
        scores = scale.score(torch.from_numpy(losses)).numpy()
        bounds, of_losses = (
            upper_bounds(values - values[0], n_errors, weights, units)
            for values, n_errors in ((scores, score_errors), (losses, loss_errors))
        )
        gains = (bounds < 0) & (of_losses < 0)
        if self.job.trainer.keeps_latest:
            return int(np.flatnonzero(gains).max(initial=0))
        return int(np.where(gains, bounds, np.inf).argmin()) if gains.any() else 0


# -- batch size, number of epochs, threads -----------------------------------------


def auto_batch_size(n_rows: int, *, from_pca: bool, stochastic_depth: float = 0.0) -> int:
    """Batch size for "auto": about 1 % of the rows, from 32 to 512; small tables have 8 or all.

    With stochastic depth it is at least 64, unless cross-validation trains small tables.
    """
    if from_pca and n_rows < FEW_UNITS:
        return FEW_ROWS_BATCH
    if n_rows < FEW_ROWS:
        return max(n_rows, 2)
    is_small = n_rows < MIN_UNITS_TO_TRUST_ONE_SPLIT or not stochastic_depth
    smallest = SMALLEST_BATCH if is_small else DEPTH_BATCH
    return int(np.clip(2 ** int(np.log2(n_rows / 100)), smallest, LARGEST_BATCH))


def auto_max_epochs(n_rows: int, *, from_pca: bool) -> int:
    """Number of epochs for "auto": fewer for more rows, see `docs/learning_curves.md`.

    Small tables have fixed numbers. If they start at PCA, few epochs suffice.
    """
    if not from_pca and n_rows < FEW_ROWS:
        return 600
    if from_pca and n_rows < FEW_UNITS:
        return FEW_ROWS_EPOCHS
    if n_rows < MIN_UNITS_TO_TRUST_ONE_SPLIT:
        return 150 if from_pca else MOST_EPOCHS  # 150 for each fold
    n_epochs = EPOCHS * (EPOCHS_AT / n_rows) ** DECAY
    return int(np.clip(n_epochs, FEWEST_EPOCHS, MOST_EPOCHS))


def training_threads(network: nn.Module, batch_size: int, device: torch.device) -> int:
    """Number of threads of a training step: one on the CPU, unless the step is large."""
    n_products = batch_size * sum(p.numel() for p in network.parameters())
    return 1 if device.type != "cpu" or n_products < 10_000_000 else torch.get_num_threads()
