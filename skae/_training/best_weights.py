"""The best weights of a training run, kept in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import Tensor

from skae._data.warnings import warn
from skae._training.validation_split import is_better

Snapshot = tuple[Tensor, list[Tensor]]  # of weights and buffers, with an axis of models in front
INITIAL_ROWS = 1024  # at most, of training rows that show whether the initial loss is finite
LOG_FLOOR = 0.1  # share of the mean initial loss that is added before the logarithm


class StopTraining(Exception):  # noqa: N818
    """Ends training from inside a callback; the best weights are kept."""


class ScoreScale:
    """Transforms losses of rows so that a few outlying rows do not dominate their mean.

    The score of a positive loss is its logarithm. A loss that may be negative, such as a
    negative log-likelihood, has the inverse hyperbolic sine of its distance from the median
    initial loss. `losses` are the initial ones, of shape (n_models, n_rows).
    """

    def __init__(self, losses: Tensor, positive: bool):
        self.positive, tiny = positive, torch.finfo(losses.dtype).tiny
        self.floor = LOG_FLOOR * losses.mean(-1, keepdim=True) + tiny
        self.median = losses.median(-1, keepdim=True).values
        self.width = (losses - self.median).abs().mean(-1, keepdim=True) + tiny

    def score(self, losses: Tensor) -> Tensor:
        """Scores of losses; lower is better."""
        if self.positive:
            return (losses + self.floor).log()
        return torch.asinh((losses - self.median) / self.width)


class BestWeights(Callback):
    """Keeps the best weights of each model; the initial weights are one of the candidates.

    A net trains one model, or a batch of models; scores have shape (n_models, n_rows). Weights
    are compared by the mean score of the validation rows. If the net requires a gain, they
    replace the initial weights only if they are better by some standard errors. If the net keeps
    the latest weights, these are the latest that are so much better, not the best. Without
    validation rows, the latest finite weights are kept. If the loss of a single model is not
    finite, training continues from its best weights at a lower learning rate; the second time,
    it stops. In a batch, such a model is left out, and is trained again alone.
    """

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        validates = net.held_out_ is not None
        # Without validation rows, some training rows show whether the initial loss is finite.
        rows = net.held_out_ if validates else net.rows_[..., :INITIAL_ROWS, :]
        losses = net.losses_of_each(rows, net.held_out_noise_ if validates else None)
        weights = net.held_out_weights_ if validates else None
        # Of each model, (n_models, n_rows).
        self.weights_ = None if weights is None else np.atleast_2d(weights.double().numpy())
        self.scale_ = ScoreScale(losses, net.criterion_.positive)
        self.start_scores_ = self.scores_ = self.scale_.score(losses)  # (n_models, n_rows)
        self.means_, self.losses_ = self._means(self.scores_), [losses]
        self.start_ = self.values_, self.buffers_ = net.snapshot()
        self.epochs_ = np.zeros(len(losses), dtype=int)
        self.failures_ = np.zeros(len(losses), dtype=int)
        if net.is_batched:
            self.failures_ += ~np.isfinite(self.means_)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        finite = better = np.isfinite(np.atleast_1d(net.history[-1]["train_loss"]))
        if net.held_out_ is not None:
            scores = self._validation_scores(net)
            means = self._means(scores)  # not finite if any score is not
            finite = finite & np.isfinite(means)
            if net.keeps_latest:
                better = finite & (not net.require_gain or self._gained(net, scores))
            else:
                better = finite & (~np.isfinite(self.means_) | (means < self.means_))
        if net.is_batched:
            better = better & (self.failures_ == 0)
        net.record("valid_loss_best", better)
        if better.any():
            if net.held_out_ is not None:
                self.means_ = np.where(better, means, self.means_)
                self.scores_ = _chosen(better, scores, self.scores_)
            self._keep(better, net.snapshot(), net.history[-1]["epoch"])
        if not finite.all():
            self.failures_ += ~finite
            net.recover(self.failures_, (self.values_, self.buffers_))

    def _validation_scores(self, net: Any) -> Tensor:
        """Scores (n_models, n_rows) of the current weights; records their mean losses."""
        losses = net.losses_of_each(net.held_out_, net.held_out_noise_)
        net.record("valid_loss", self._means(losses))
        if net.keep_losses:
            self.losses_.append(losses)
        return self.scale_.score(losses)

    def _means(self, values: Tensor) -> np.ndarray:
        """Weighted mean over the rows, (n_models,), of values (n_models, n_rows)."""
        if self.weights_ is None:
            return values.mean(1).numpy()
        return np.average(values.numpy(), axis=1, weights=self.weights_)

    def _weights_of_each(self) -> Any:
        """Weights of the validation rows of each model, or None for each."""
        return [None] * len(self.scores_) if self.weights_ is None else self.weights_

    def _keep(self, models: np.ndarray, snapshot: Snapshot, epoch: int) -> None:
        """Replace the kept weights of some models, a mask of shape (n_models,)."""
        values, buffers = snapshot
        self.values_ = _chosen(models, values, self.values_)
        pairs = zip(buffers, self.buffers_, strict=True)
        self.buffers_ = [_chosen(models, new, kept) for new, kept in pairs]
        self.epochs_[models] = epoch

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        failed = self.failures_ > 0
        back = failed & net.is_batched
        if not net.is_batched:
            self._report_failures(net)
        if net.require_gain and net.held_out_ is not None:
            back = back | ~self._gained(net, self.scores_)
        if back.any():
            self._keep(back, self.start_, 0)
        net.restore((self.values_, self.buffers_))
        losses = torch.stack(self.losses_).cpu().numpy() if net.keep_losses else None
        net.take_results(self.epochs_.tolist(), losses, failed.tolist())
        del self.start_, self.values_, self.buffers_, self.scores_, self.start_scores_, self.losses_

    def _gained(self, net: Any, scores: Tensor) -> np.ndarray:
        """Whether each model's weights of some scores are better than the initial ones."""
        gained = [
            not bool(start.isfinite().all())
            or is_better(
                best,
                start,
                n_standard_errors=net.n_standard_errors,
                weights=weights,
                units=net.held_out_units_,
            )
            for best, start, weights in zip(
                scores, self.start_scores_, self._weights_of_each(), strict=True
            )
        ]
        return np.array(gained)

    def _report_failures(self, net: Any) -> None:
        """Raise an error if no loss was finite; warn if training stopped for such a loss."""
        epoch = int(self.epochs_[0])
        if epoch == 0 and not np.isfinite(self.means_[0]):
            raise ValueError(
                "The training loss was never finite, not even at the initial weights; "
                f"lower lr={net.lr}, or check the network and the scale of X."
            )
        if self.failures_[0] > 1:
            warn(
                f"The training loss became non-finite twice (lr={net.lr}), so training stopped. "
                f"The best weights, of epoch {epoch}, are kept. Lower lr.",
                ConvergenceWarning,
            )


def _chosen(models: np.ndarray, new: Tensor, kept: Tensor) -> Tensor:
    """New values of the models in a mask, kept values of the others; axis 0 is that of models."""
    if models.all():
        return new
    chosen = torch.from_numpy(models).to(new.device)
    return torch.where(chosen.view(-1, *[1] * (new.ndim - 1)), new, kept)
