"""The smallest code that explains a share of the variance of held-out rows."""

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
from skae._data.scores import explained_share
from skae._data.warnings import warn
from skae._training.net import AutoencoderNet
from skae._training.trainer import Trainer, TrainingJob, cross_validate, train_networks
from skae._training.validation_split import MIN_ROWS_TO_CROSS_VALIDATE, folds_for_components

# Of the epochs of a fit: for the first of all sizes, for those that start from another's
# weights. Folds make up in number for what each lacks in length.
SHARES = {False: (1.0, 0.25), True: (0.3, 0.1)}


@dataclass
class Split:
    """Rows to fit, and rows that judge the fit.

    What never varied does not judge: where the rows fitted are constant, the others are taken
    to be so too. In all rows together the feature does vary, so that no fit will be as
    ignorant of it.

    Parameters
    ----------
    rows, validation : Dataset
    """

    rows: Dataset
    validation: Dataset

    def __post_init__(self) -> None:
        self.constant, self.first = constant_columns(self.rows.X), self.rows[:1][0]

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Judging rows, block by block.

        Yields
        ------
        block : ndarray of shape (n_rows, n_features)
        weights : ndarray of shape (n_rows,)
        """
        for part in self.validation.parts():
            block, weights = self.validation[part], self.validation.weights_of(part)
            block[:, self.constant] = self.first[self.constant]
            yield block, np.ones(len(block)) if weights is None else weights


def pca_dimension(rows: Dataset, fraction: float) -> int:
    """PCA's number of components for a share of the variance of the training rows.

    Parameters
    ----------
    rows : Dataset
        Centred.
    fraction : float

    Returns
    -------
    int
        As of ``PCA(n_components=fraction)``; 1 where nothing varies.
    """
    along, left = rows.squares_along(rows.principal_components(min(rows.shape)))
    total = along.sum() + left
    if total == 0:
        return 1
    n_components = int(np.searchsorted(np.cumsum(along) / total, fraction, side="right")) + 1
    return min(n_components, len(along))


def choose_dimension(
    estimator: Any,
    rows: Dataset,
    device: torch.device,
    seeds: Any,
    held_out: Dataset | None = None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Find the smallest code that explains ``estimator.n_components`` of held-out variance.

    The share is taken to grow with the size, which bisection needs: PCA's choice is judged
    first, and no larger size.

    Parameters
    ----------
    estimator : BaseAutoencoder
        Knows centre and scale, is not written to.
    rows : Dataset
        All training rows; if they stay outside of memory, some that fit stand for them.
    device : torch.device
    seeds : list of int
        As the training takes them.
    held_out : Dataset, default=None
        Rows that judge; if not given, some of `rows`, which the fits on the way do not see.

    Returns
    -------
    n_components : int
    curve : dict of str to ndarray of shape (n_sizes,)
        "n_components", increasing, and "explained_variance", the share of each.

    Warns
    -----
    ConvergenceWarning
        If PCA's choice explains less than is asked for.
    """
    fraction = estimator.n_components
    if rows.is_out_of_core:
        some = rows.subset(rows.evenly_spaced(MEMORY_BYTES // (8 * rows.shape[1])))
        rows = Dataset(
            some.X, some.center, some.scale
        )  # those that weigh more are there more often
    cap = pca_dimension(Dataset(rows.X, estimator.mean_, rows.scale, rows.weights), fraction)
    trial = Trial(estimator, rows, device, seeds, held_out)
    explained = {cap: trial.explained(cap)}
    too_small, enough = 0, cap
    if explained[cap] < fraction:
        _warn_of_cap(fraction, cap, explained[cap])
        too_small = cap - 1
    while enough - too_small > 1:
        size = (too_small + enough) // 2
        explained[size] = trial.explained(size)
        if explained[size] >= fraction:
            enough = size
        else:
            too_small = size
    sizes = np.array(sorted(explained))
    shares = np.array([explained[size] for size in sizes])
    return enough, {"n_components": sizes, "explained_variance": shares}


def _warn_of_cap(fraction: float, cap: int, explained: float) -> None:
    warn(
        f"n_components={fraction}: the {cap} components that PCA needs for this share of the "
        f"training rows' variance explain {explained:.4f} of held-out rows' variance; they are "
        f"kept. Set n_components to an integer above {cap} for more.",
        ConvergenceWarning,
    )


@dataclass
class Trial:
    """Fits codes of any size to some rows and validation them by others.

    Below 5,000 rows each row validation once, in five folds; from there on, one share of the rows
    validation. A fit starts from the weights of the nearest size that was tried and is shortened;
    where cross-validation counts the epochs from PCA on, it starts there.

    Parameters
    ----------
    estimator : BaseAutoencoder
    rows : Dataset
    device : torch.device
    seeds : list of int
    held_out : Dataset, default=None
        Judge instead of some of `rows`.
    """

    estimator: Any
    rows: Dataset
    device: torch.device
    seeds: Any
    held_out: Dataset | None = None
    splits: list[Split] = field(init=False)
    tried: dict[tuple[int, int], nn.Module] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.held_out is not None or len(self.rows) == 1:
            self.splits = [Split(self.rows, self.held_out or self.rows)]
            return
        fraction = self.estimator.validation_fraction
        self.splits = [
            Split(self.rows.subset(train), self.rows.subset(held_out))
            for train, held_out in folds_for_components(len(self.rows), fraction, self.seeds.split)
        ]

    def explained(self, size: int) -> float:
        """Share of the variance of the judging rows that a code of some size explains.

        Parameters
        ----------
        size : int

        Returns
        -------
        float
        """
        candidate: Any = object.__new__(
            type(self.estimator)
        )  # not through states, which are for files
        vars(candidate).update(vars(self.estimator))
        candidate.n_components_ = size
        with candidate._seed_user_modules(self.seeds.weights, self.device):
            trainer = self._trainer(candidate)
            remake = partial(candidate._make_initial_network, device=self.device, seeds=self.seeds)
            n_epochs = self._n_epochs(candidate, trainer, remake)
            sse = [
                self._sse(candidate, trainer, remake, fold, n_epochs)
                for fold in range(len(self.splits))
            ]
        total = [self._sst(split) for split in self.splits]
        if len(self.rows) < MIN_ROWS_TO_CROSS_VALIDATE:  # a fold of a few rows has no variance
            return explained_share(sum(sse), sum(total))
        return float(np.mean([explained_share(*both) for both in zip(sse, total, strict=True)]))

    def _trainer(self, candidate: Any) -> Trainer:
        """Make what trains as the estimator would, but silently."""
        trainer = candidate._make_trainer(self.rows, self.device, self.seeds)
        return replace(trainer, params={**trainer.params, "callbacks": None, "verbose": 0})

    def _n_epochs(self, candidate: Any, trainer: Trainer, remake: Any) -> int | None:
        """Epochs that cross-validation would find best; None where it would not be asked."""
        network = nn.Identity()  # only those of folds are trained
        job = TrainingJob(trainer, network, self.rows, remake)
        if not job.cross_validates():
            return None
        if not candidate._needs_training(remake(self.rows), self.rows):
            return 0
        (length,) = cross_validate([job])
        return None if length is None else length.n_epochs

    def _sse(
        self, candidate: Any, trainer: Trainer, remake: Any, fold: int, n_epochs: int | None
    ) -> float:
        """Sum of squares that a fit to one fold does not explain of the rows left out."""
        split = self.splits[fold]
        rows = split.rows
        network = remake(rows)
        if not candidate._needs_training(network, rows):
            n_epochs = 0
        if n_epochs is not None:
            return self._squares(_trained(trainer, network, rows, n_epochs), split)
        lost_at_start = float("inf")
        nearest = self._nearest(candidate.n_components_, fold)
        if nearest is not None:
            if trainer.require_gain:  # of weights that are no longer PCA's, PCA remains a rival
                at_start = _trained(trainer, copy.deepcopy(network), rows, 0)
                lost_at_start = self._squares(at_start, split)
            copy_weights(self.tried[nearest, fold], network, nearest, candidate.n_components_)
        share = SHARES[len(self.splits) > 1][nearest is not None]
        net = _trained(trainer.shortened(share, len(rows)), network, rows)
        self.tried[candidate.n_components_, fold] = net.module_
        return min(lost_at_start, self._squares(net, split))

    def _nearest(self, size: int, fold: int) -> int | None:
        """Return the nearest size tried; of two, the larger, which forgets rather than learns."""
        sizes = [tried for tried, its_fold in self.tried if its_fold == fold]
        return min(sizes, key=lambda tried: (abs(tried - size), -tried), default=None)

    def _squares(self, net: AutoencoderNet, split: Split) -> float:
        """Sum of squared differences between judging rows and their reconstructions."""

        def sse(block: np.ndarray, weights: np.ndarray) -> float:
            codes = net.infer_rows("encode", block)
            decoded = net.infer_rows("decode", codes, self.estimator._output_activation)
            return float(weights @ np.square(block - decoded).sum(axis=1))

        return sum(sse(*block) for block in split.blocks())

    def _sst(self, split: Split) -> float:
        """Sum of squared differences between judging rows and the mean of all."""
        centre = (self.estimator.mean_ - split.rows.center) / split.rows.scale
        return sum(
            float(weights @ np.square(block - centre).sum(axis=1))
            for block, weights in split.blocks()
        )


def _trained(
    trainer: Trainer, network: nn.Module, rows: Dataset, n_epochs: int | None = None
) -> AutoencoderNet:
    """Train one network."""
    (trained,) = train_networks([TrainingJob(trainer, network, rows, n_epochs=n_epochs)])
    return trained.net


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module, size: int, new_size: int) -> None:
    """Copy what two networks of different sizes of code have in common.

    Of each parameter, the slices of the components that both have; a code may be several
    arrays side by side, such as means and log-variances. The rest of the target stays.

    Parameters
    ----------
    source, target : nn.Module
    size, new_size : int
        Of their codes.
    """
    theirs = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        other = theirs.get(name)
        if other is not None and other.ndim == parameter.ndim:
            _copy_overlap(other, parameter, size, new_size)


def _copy_overlap(source: Tensor, target: Tensor, size: int, new_size: int) -> None:
    """Copy along each axis all entries or, of each block, those of common components."""
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
