"""How one fit trains: which rows are held out, for how long, on how many threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.model_selection import KFold, ShuffleSplit, train_test_split
from sklearn.utils.random import sample_without_replacement
from torch import nn

from skae._data.batches import InMemorySource, OutOfCoreSource, Source
from skae._data.dataset import Dataset
from skae._data.scores import is_better
from skae._data.threads import limited_threads
from skae._training.batched import Plan, TrainingRun
from skae._training.net import AutoencoderNet
from skae.losses import Objective
from skae.networks.dense import in_precision

MIN_ROWS_TO_HOLD_OUT = 30
MIN_ROWS_TO_CROSS_VALIDATE = 80
MIN_ROWS_TO_TRUST_ONE_SPLIT = 500
N_FOLDS = 5
MAX_STEPS = 30_000
STREAM_BATCH, STREAM_RATE = 16, 2.0  # of rows that arrive by and by; the rate in those of lr
HELD_OUT_BYTES = 16 * 2**20  # of held-out rows, where not all that are asked for fit
FEW_ROWS = 64  # below, one batch and a short training, so that checks stay quick
AVERAGING = 0.99  # of the weights over steps: what is judged and kept is their average


@dataclass(frozen=True)
class Trainer:
    """Trains networks as the parameters of an estimator say.

    Parameters
    ----------
    params : dict
        The estimator's parameters.
    objective : Objective
    require_gain : bool
        Whether networks start at PCA, which is left only for what is surely better.
    device : torch.device
    split_seed : int
        Of the rows held out.
    order_seed : int
        Of the order of the rows.
    make_noise : callable
        Makes what corrupts the rows of one training, or None.
    standard_errors_waived : float, default=0.0
        Standard errors of gain less than usual for which PCA is left.
    """

    params: dict[str, Any]
    objective: Objective
    require_gain: bool
    device: torch.device
    split_seed: int
    order_seed: int
    make_noise: Callable[[], nn.Module | None] = lambda: None
    standard_errors_waived: float = 0.0

    def train(
        self,
        network: nn.Module,
        rows: Dataset,
        remake: Callable[[Dataset], nn.Module] | None,
        held_out: Dataset | None = None,
    ) -> Plan:
        """Train a network and keep its best weights.

        Parameters
        ----------
        network : nn.Module
        rows : Dataset
        remake : callable
            Makes such a network anew for other rows: for the folds of a cross-validation.
            None for a network that continues, of which new ones would say nothing.
        held_out : Dataset, default=None
            Rows that judge the weights, instead of some that are held out.

        Yields
        ------
        list of Training
            To be done.

        Returns
        -------
        net : AutoencoderNet
        validation_curve : list of float
            Mean held-out loss per row after each epoch.
        """
        if held_out is None and remake is not None and self.cross_validates(len(rows)):
            n_epochs, curve, validation_ratio = yield from self.cross_validate(rows, remake)
            (net,) = yield [self._training(network, rows, n_epochs=n_epochs)]
            net.validation_ratio_ = validation_ratio
            return net, curve
        if held_out is not None:
            (net,) = yield [self._training(network, rows, judges=self._judges(held_out))]
        elif self._holds_out(len(rows)):
            (net,) = yield [self._training(network, rows, *self._split(rows))]
        else:
            (net,) = yield [self._training(network, rows)]
            return net, []
        return net, [epoch["valid_loss"] for epoch in net.history]

    def _holds_out(self, n_rows: int) -> bool:
        """Whether there are enough rows to hold some out."""
        # A random start is no candidate to fall back on: a handful of rows would only stop it.
        enough = MIN_ROWS_TO_HOLD_OUT if self.require_gain else MIN_ROWS_TO_CROSS_VALIDATE
        return self.params["early_stopping"] and n_rows >= enough

    def _split(self, rows: Dataset) -> tuple[np.ndarray | None, np.ndarray]:
        """Indices of the rows to train on and of those to hold out.

        A row that alone makes a feature vary is trained on: the components know the feature,
        so that the network has to. Where most rows are such, they are no exception. Of rows
        outside of memory, no more than fit are held out, and the others are all that are not:
        None.
        """
        share = self.params["validation_fraction"]
        if not rows.is_out_of_core:
            train, held_out = train_test_split(
                np.arange(len(rows)), test_size=share, random_state=self.split_seed
            )
            alone = rows.first_varying_rows(train, held_out)
            if 2 * len(alone) > len(held_out):
                return train, held_out
            return np.concatenate([train, alone]), held_out[~np.isin(held_out, alone)]
        largest = max(1, HELD_OUT_BYTES // (4 * rows.shape[1]))
        n_held_out = min(math.ceil(share * len(rows)), largest)
        chosen = sample_without_replacement(
            len(rows),
            n_held_out,
            method="tracking_selection",  # in memory of those chosen, not of all
            random_state=self.split_seed,
        )
        return None, np.sort(chosen)

    def learn(
        self, network: nn.Module, rows: Dataset, state: dict[str, Any] | None, n_steps_before: int
    ) -> tuple[AutoencoderNet, dict[str, Any], int]:
        """Train a network for one epoch, at a constant rate, from where another call left off.

        Parameters
        ----------
        network : nn.Module
        rows : Dataset
            Their weights are not scaled.
        state : dict or None
            What `AutoencoderNet.learn` returned.
        n_steps_before : int

        Returns
        -------
        net : AutoencoderNet
        state : dict
        n_steps : int
            Of this epoch.
        """
        source = _source(rows, None, None, torch.float32, scaled=False)
        batch_size = self.stream_batch_size()
        net = self._net(
            in_precision(network, torch.float32),
            batch_size,
            1,
            lr=STREAM_RATE * self.params["lr"],
            schedule_free=True,
            patience=None,
            require_gain=False,
        )
        with limited_threads(training_threads(network, batch_size, self.device)):
            state = net.learn(source, state, n_steps_before)
        return net.release(), state, -(-len(source) // batch_size)

    def stream_batch_size(self) -> int:
        """Batch size where rows arrive by and by, however many they will be.

        Returns
        -------
        int
        """
        batch_size = self.params["batch_size"]
        return STREAM_BATCH if batch_size == "auto" else batch_size

    def leave(self, network: nn.Module, rows: Dataset) -> AutoencoderNet:
        """Wrap a network that needs no training.

        Parameters
        ----------
        network : nn.Module
        rows : Dataset

        Returns
        -------
        net : AutoencoderNet
        """
        return self._training(network, rows.subset(np.zeros(1, int)), n_epochs=0).run()

    def repeat(self, network: nn.Module, rows: Dataset, n_epochs: int) -> AutoencoderNet:
        """Train a network on all rows for a number of epochs that is known.

        Parameters
        ----------
        network : nn.Module
        rows : Dataset
        n_epochs : int

        Returns
        -------
        net : AutoencoderNet
        """
        return self._training(network, rows, n_epochs=n_epochs).run()

    def shortened(self, share: float, n_rows: int) -> Trainer:
        """Train as this one, for a share of the epochs.

        Parameters
        ----------
        share : float
        n_rows : int
            Training rows, on which the number of epochs depends.

        Returns
        -------
        Trainer
        """
        n_epochs = max(1, round(share * self._length(n_rows)[1]))
        return replace(self, params={**self.params, "max_epochs": n_epochs})

    def cross_validates(self, n_rows: int) -> bool:
        """Whether too few rows would be held out at once to choose the weights.

        Parameters
        ----------
        n_rows : int

        Returns
        -------
        bool
        """
        return (
            self.require_gain
            and self.params["early_stopping"]
            and self.params["lr_schedule"] == "one_cycle"
            and MIN_ROWS_TO_HOLD_OUT <= n_rows < MIN_ROWS_TO_TRUST_ONE_SPLIT
        )

    def cross_validate(self, rows: Dataset, remake: Callable[[Dataset], nn.Module]) -> Plan:
        """Find the number of epochs that is best over folds, 0 unless surely better.

        Parameters
        ----------
        rows : Dataset
        remake : callable
            Makes a network for the rows of a fold.

        Yields
        ------
        list of Training
            To be done.

        Returns
        -------
        n_epochs : int
        curve : list of float
            Mean held-out loss per row after each epoch.
        validation_ratio : float
            How much squared errors of held-out rows exceed those in training.
        """
        folds: Any = KFold(N_FOLDS, shuffle=True, random_state=self.split_seed)
        if len(rows) < MIN_ROWS_TO_CROSS_VALIDATE:
            fraction = self.params["validation_fraction"]
            folds = ShuffleSplit(1, test_size=fraction, random_state=self.split_seed)
        splits = list(folds.split(np.empty(len(rows))))
        nets = yield [
            self._training(remake(rows.subset(train)), rows, train, held_out, is_fold=True)
            for train, held_out in splits
        ]
        losses, validation_ratio = zip(
            *((net.held_out_losses_, net.validation_ratio_) for net in nets), strict=True
        )
        judges = [held_out for _, held_out in splits]
        n_common = min(len(fold) for fold in losses)  # a fold that failed has fewer epochs
        by_epoch = np.concatenate([fold[:n_common] for fold in losses], axis=1)
        weights = rows.weights_of(np.concatenate(judges))
        curve = np.average(by_epoch, axis=1, weights=weights)
        best = int(np.nanargmin(curve))
        needed = max(0, _needed_errors(len(rows)) - self.standard_errors_waived)
        if not is_better(by_epoch[best], by_epoch[0], n_standard_errors=needed, weights=weights):
            best = 0
        return best, curve[1:].tolist(), float(np.mean(validation_ratio))

    def _training(
        self,
        network: nn.Module,
        rows: Dataset,
        train: np.ndarray | None = None,
        held_out: np.ndarray | None = None,
        *,
        judges: tuple[Dataset, np.ndarray] | None = None,
        n_epochs: int | None = None,
        is_fold: bool = False,
    ) -> TrainingRun:
        """Training of one network on some of the rows: all not held out, if not given.

        Rows that judge the weights may be others instead.
        """
        if held_out is not None:
            judges = rows, held_out
        # Too few rows to hold some out train in float64: then rounding does not depend on
        # their order.
        tiny = judges is None and len(rows if train is None else train) < MIN_ROWS_TO_HOLD_OUT
        dtype = torch.float64 if tiny else torch.float32
        source = _source(rows, train, held_out, dtype)
        batch_size, max_epochs = self._length(len(source))
        quiet = {"keep_losses": True, "callbacks": [], "verbose": 0} if is_fold else {}
        net = self._net(in_precision(network, dtype), batch_size, max_epochs, **quiet)
        training = TrainingRun(net, source, n_epochs=n_epochs)
        training.n_threads = training_threads(network, batch_size, self.device)
        if judges is not None:
            training.held_out = judges[0].tensor(judges[1], dtype)
            training.held_out_weights = judges[0].tensor_of_weights(judges[1], torch.float64)
        return training

    def _net(
        self, network: nn.Module, batch_size: int, max_epochs: int, **changes: Any
    ) -> AutoencoderNet:
        """Make the net as the parameters say."""
        p = self.params
        options = {
            "optimizer": p["optimizer"],
            "lr": p["lr"],
            "lr_schedule": p["lr_schedule"],
            "weight_decay": p["weight_decay"],
            "averaging": AVERAGING,
            "batch_size": batch_size,
            "max_epochs": max_epochs,
            "patience": self._patience(),
            "tol": p["tol"],
            "require_gain": self.require_gain,
            "n_standard_errors": max(0.0, 1 - self.standard_errors_waived),
            "seed": self.order_seed,
            "noise": self.make_noise,
            "callbacks": [clone(c, safe=False) for c in p["callbacks"] or ()],
            "device": str(self.device),
            "verbose": int(p["verbose"]),
            **changes,
        }
        return AutoencoderNet(network.to(self.device), self.objective, **options)

    def _judges(self, held_out: Dataset) -> tuple[Dataset, np.ndarray]:
        """Choose as many of the rows given to judge the weights as fit into memory."""
        largest = max(1, HELD_OUT_BYTES // (4 * held_out.shape[1]))
        return held_out, held_out.evenly_spaced(largest)

    def _length(self, n_rows: int) -> tuple[int, int]:
        """Return batch size and number of epochs for a number of training rows."""
        batch_size, max_epochs = self.params["batch_size"], self.params["max_epochs"]
        if batch_size == "auto":
            batch_size = auto_batch_size(n_rows)
        if max_epochs == "auto":
            max_epochs = auto_max_epochs(n_rows, batch_size, from_pca=self.require_gain)
        return batch_size, max_epochs

    def _patience(self) -> int | None:
        """Epochs without progress that end training; a cycle runs its full length."""
        stops = self.params["early_stopping"] and self.params["lr_schedule"] == "constant"
        return self.params["n_iter_no_change"] if stops else None


def _source(
    rows: Dataset,
    train: np.ndarray | None,
    left_out: np.ndarray | None,
    dtype: torch.dtype,
    *,
    scaled: bool = True,
) -> Source:
    """Rows to train on, in memory where they fit."""
    if rows.is_out_of_core:
        return OutOfCoreSource(
            rows, np.zeros(0, int) if left_out is None else left_out, dtype, scaled=scaled
        )
    index = np.arange(len(rows)) if train is None else train
    weights = rows.tensor_of_weights(index, dtype, scaled=scaled)
    return InMemorySource(rows.tensor(index, dtype), weights)


def _needed_errors(n_rows: int) -> int:
    """Standard errors of gain that a cross-validation must show to leave the start.

    Below 200 rows, folds resemble each other more than they resemble new rows: gains of
    three standard errors have turned out losses.
    """
    return 2 if n_rows >= 200 else 4


def auto_batch_size(n_rows: int) -> int:
    """Batch size for a number of training rows.

    Parameters
    ----------
    n_rows : int

    Returns
    -------
    int
        All rows of a few, 32 of some thousand, then in proportion up to 256.
    """
    if n_rows < FEW_ROWS:
        return max(n_rows, 2)
    return int(np.clip(2 ** int(np.log2(n_rows / 100)), 32, 256))


def auto_max_epochs(n_rows: int, batch_size: int, *, from_pca: bool) -> int:
    """Epochs for a number of training rows.

    Parameters
    ----------
    n_rows, batch_size : int
    from_pca : bool
        Whether training starts at PCA, which few rows cannot improve by much, or anywhere.

    Returns
    -------
    int
        As many as keep the number of steps bounded.
    """
    if not from_pca and n_rows < FEW_ROWS:
        return 600
    if n_rows < MIN_ROWS_TO_HOLD_OUT:
        return 7  # nothing is held out that could tell when to stop
    if n_rows < FEW_ROWS:
        return 30  # a fit of 50 rows should take no longer than 50 ms
    if from_pca and n_rows < MIN_ROWS_TO_TRUST_ONE_SPLIT:
        return 150  # once a fold
    return int(np.clip(MAX_STEPS * batch_size / n_rows, 20, 300))


def training_threads(module: nn.Module, batch_size: int, device: torch.device) -> int:
    """Threads that a training step of this size can use.

    Parameters
    ----------
    module : nn.Module
    batch_size : int
    device : torch.device

    Returns
    -------
    int
        1 where waking a second thread takes longer than it saves.
    """
    n_products = batch_size * sum(p.numel() for p in module.parameters())
    return 1 if device.type != "cpu" or n_products < 10_000_000 else torch.get_num_threads()
