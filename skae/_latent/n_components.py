"""Choice of the smallest number of components that explains a share of held-out variance."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from skae._data.dataset import Dataset, constant_columns
from skae._data.dtypes_and_batch_sizes import MEMORY_BYTES
from skae._data.statistics import explained_share
from skae._data.warnings import warn
from skae._training.net import AutoencoderNet
from skae._training.trainer import Trainer, TrainingJob, cross_validate
from skae._training.validation_split import MIN_UNITS_TO_CROSS_VALIDATE, folds_for_components

# Shares of a fit's epochs for the first network, and for one that starts from the weights of
# another size. The key is whether there are several folds, which make up for shorter training.
SHARES_OF_EPOCHS = {False: (1.0, 0.25), True: (0.3, 0.1)}


def choose_n_components(
    estimator: Any,
    rows: Dataset,
    device: torch.device,
    seeds: Any,
    held_out: Dataset | None = None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Find the smallest code that explains the share ``estimator.n_components`` of the variance.

    The variance is that of held-out rows: the user's validation rows `held_out`, or folds of
    `rows`. PCA's choice is tried first, then bisection finds the size below it. It assumes that
    larger codes explain more. Returns the size and the future `dimension_curve_`. The estimator
    is not changed.
    """
    fraction = estimator.n_components
    if rows.is_out_of_core:
        rows = rows.unweighted_subset(MEMORY_BYTES // (8 * rows.shape[1]))
    cap = pca_n_components(Dataset(rows.X, estimator.mean_, rows.scale, rows.weights), fraction)
    trials = ComponentTrials(estimator, rows, device, seeds, held_out)
    explained = {cap: trials.explained_variance(cap)}
    too_small, enough = 0, cap
    if explained[cap] < fraction:
        _warn_of_cap(fraction, cap, explained[cap])
        too_small = cap - 1
    while enough - too_small > 1:
        size = (too_small + enough) // 2
        explained[size] = trials.explained_variance(size)
        if explained[size] >= fraction:
            enough = size
        else:
            too_small = size
    sizes = np.array(sorted(explained))
    shares = np.array([explained[size] for size in sizes])
    return enough, {"n_components": sizes, "explained_variance": shares}


def pca_n_components(rows: Dataset, fraction: float) -> int:
    """``PCA(n_components=fraction).n_components_`` for centred rows; 1 if no feature varies."""
    along, residual = rows.squares_along(rows.principal_components(min(rows.shape)))
    total = along.sum() + residual
    if total == 0:
        return 1
    n_components = int(np.searchsorted(np.cumsum(along) / total, fraction, side="right")) + 1
    return min(n_components, len(along))


def _warn_of_cap(fraction: float, cap: int, explained: float) -> None:
    warn(
        f"n_components={fraction}: PCA needs {cap} components for this share of the training "
        f"rows' variance, but they explain only {explained:.4f} of held-out rows' variance. "
        f"{cap} components are used. Set n_components to an integer above {cap} for more.",
        ConvergenceWarning,
    )


@dataclass
class Split:
    """Training rows and validation rows of one fold.

    A feature that is constant in the training rows does not count: its values in the validation
    rows are replaced by the constant. In the final fit, on all rows, the feature varies.
    """

    rows: Dataset
    validation: Dataset

    def __post_init__(self) -> None:
        self.constant, self.first = constant_columns(self.rows.X), self.rows[:1][0]

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Standardized validation rows and their weights, block by block."""
        for part in self.validation.parts():
            block, weights = self.validation[part], self.validation.weights_of(part)
            block[:, self.constant] = self.first[self.constant]
            yield block, np.ones(len(block)) if weights is None else weights


@dataclass
class ComponentTrials:
    """Fits codes of any size to training rows, and scores them on validation rows.

    There are five folds, or one split if it holds out 500 rows or more. A fit starts from the
    weights of the nearest size that was tried before, and takes fewer epochs. If cross-validation
    chooses the number of epochs, a fit starts at PCA instead. `networks` holds the trained
    networks by size and fold.
    """

    estimator: Any
    rows: Dataset
    device: torch.device
    seeds: Any
    held_out: Dataset | None = None
    splits: list[Split] = field(init=False)
    networks: dict[tuple[int, int], nn.Module] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.held_out is not None or self.rows.n_units == 1:
            self.splits = [Split(self.rows, self.held_out or self.rows)]
            return
        fraction = self.estimator.validation_fraction
        self.splits = [
            Split(self.rows.subset(train), self.rows.subset(held_out))
            for train, held_out in folds_for_components(self.rows, fraction, self.seeds.split)
        ]

    def explained_variance(self, size: int) -> float:
        """Share of the validation rows' variance that a code of some size explains."""
        candidate = self._candidate(size)
        seeded = candidate._seed_user_modules(self.seeds.weights, self.device)
        with seeded, self.estimator._progress.stage(f"n_components={size}"):
            trainer = candidate._make_trainer(self.rows, self.device, self.seeds)
            trainer = replace(trainer, params=trainer.params | {"callbacks": None})
            n_epochs = self._n_epochs(candidate, trainer)
            sse = [self._sse(candidate, trainer, i, n_epochs) for i in range(len(self.splits))]
        sst = [self._validation_sst(split) for split in self.splits]
        if self.rows.n_units < MIN_UNITS_TO_CROSS_VALIDATE:  # a fold of a few rows has no variance
            return explained_share(sum(sse), sum(sst))
        return float(np.mean([explained_share(*both) for both in zip(sse, sst, strict=True)]))

    def _candidate(self, size: int) -> Any:
        """Copy of the estimator with codes of some size."""
        # Not `copy.copy`, which would convert the state as for a file.
        candidate: Any = object.__new__(type(self.estimator))
        vars(candidate).update(vars(self.estimator), n_components_=size)
        return candidate

    def _initial_network(self, candidate: Any, rows: Dataset) -> nn.Module:
        return candidate._make_initial_network(rows, device=self.device, seeds=self.seeds)

    def _n_epochs(self, candidate: Any, trainer: Trainer) -> int | None:
        """Best number of epochs by cross-validation; None if the fit does not cross-validate."""
        network = nn.Identity()  # only the networks of folds are trained
        make_network = partial(self._initial_network, candidate)
        job = TrainingJob(trainer, network, self.rows, make_network)
        if not job.cross_validates():
            return None
        if not candidate._needs_training(make_network(self.rows), self.rows):
            return 0
        (validation,) = cross_validate([job])
        return None if validation is None else validation.n_epochs

    def _sse(self, candidate: Any, trainer: Trainer, fold: int, n_epochs: int | None) -> float:
        """Sum of squared errors of one fold's validation rows, after a fit to its training rows."""
        split, size = self.splits[fold], candidate.n_components_
        rows = split.rows
        network = self._initial_network(candidate, rows)
        if not candidate._needs_training(network, rows):
            n_epochs = 0
        if n_epochs is not None:
            return self._validation_sse(_trained(trainer, network, rows, n_epochs), split)
        pca_sse = float("inf")
        nearest = self._nearest(size, fold)
        if nearest is not None:
            if trainer.require_gain:  # PCA is a candidate, although training does not start there
                pca = _trained(trainer, copy.deepcopy(network), rows, 0)
                pca_sse = self._validation_sse(pca, split)
            copy_weights(self.networks[nearest, fold], network, nearest, size)
        share = SHARES_OF_EPOCHS[len(self.splits) > 1][nearest is not None]
        net = _trained(trainer.shortened(share, len(rows)), network, rows)
        self.networks[size, fold] = net.module_
        return min(pca_sse, self._validation_sse(net, split))

    def _nearest(self, size: int, fold: int) -> int | None:
        """The nearest size tried before; of two, the larger one, which has all components."""
        sizes = [other for other, its_fold in self.networks if its_fold == fold]
        return min(sizes, key=lambda other: (abs(other - size), -other), default=None)

    def _validation_sse(self, net: AutoencoderNet, split: Split) -> float:
        """Sum of squared differences between validation rows and their reconstructions."""
        sse = 0.0
        for block, weights in split.blocks():
            codes = net.infer_rows("encode", block)
            activation = self.estimator._output_activation
            decoded = net.infer_rows(net.restoring_method, codes, activation)
            sse += float(weights @ np.square(block - decoded).sum(axis=1))
        return sse

    def _validation_sst(self, split: Split) -> float:
        """Sum of squared differences between validation rows and the mean of all rows."""
        mean = (self.estimator.mean_ - split.rows.center) / split.rows.scale
        return sum(
            float(weights @ np.square(block - mean).sum(axis=1))
            for block, weights in split.blocks()
        )


def _trained(
    trainer: Trainer, network: nn.Module, rows: Dataset, n_epochs: int | None = None
) -> AutoencoderNet:
    """Train one network."""
    return TrainingJob(trainer, network, rows, n_epochs=n_epochs).train().net


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module, size: int, new_size: int) -> None:
    """Copy the weights of the components that two networks, of `size` and `new_size`, both have.

    The encoder may return several arrays side by side, such as means and log-variances. Other
    weights of the target are not changed.
    """
    sources = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        other = sources.get(name)
        if other is not None and other.ndim == parameter.ndim:
            _copy_overlap(other, parameter, size, new_size)


def _copy_overlap(source: Tensor, target: Tensor, size: int, new_size: int) -> None:
    """Copy a parameter; along an axis of components, only those that both networks have."""
    indices = []
    for n, n_new in zip(source.shape, target.shape, strict=True):
        if n == n_new:
            indices.append((np.arange(n), np.arange(n)))
            continue
        n_blocks, rest = divmod(n, size)
        if rest or n_new != n_blocks * new_size:
            return
        common = np.arange(min(size, new_size))
        starts = np.arange(n_blocks)[:, None]
        indices.append(((starts * size + common).ravel(), (starts * new_size + common).ravel()))
    if not indices:
        target.copy_(source)
        return
    ours, theirs = (np.ix_(*side) for side in zip(*indices, strict=True))
    target[theirs] = source[ours].to(target.dtype)
