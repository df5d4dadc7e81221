"""Callbacks of the engine: which weights are kept, and what is shown meanwhile."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm

from skae._data.sample_weight import weighted_average
from skae._data.scores import is_better

LOG_FLOOR = 0.1  # of the mean loss at the start: losses far below it are all as good
RATE_CUT = 0.1  # factor of the learning rate after a non-finite loss


class StopTraining(Exception):  # noqa: N818
    """Ends training from inside a callback; the best weights are kept."""


class Candidate(NamedTuple):
    """Weights that may be kept.

    Attributes
    ----------
    epoch : int
        After which they were found; 0 is before the first step.
    scores : Tensor of shape (n_rows,)
        Of the rows that judge them; lower is better.
    weights : tuple
        As `AutoencoderNet.snapshot` returns them.
    """

    epoch: int
    scores: Tensor
    weights: tuple[Tensor, list[Tensor]]

    def is_finite(self) -> bool:
        """Whether all scores are finite."""
        return bool(self.scores.isfinite().all())


class Scale:
    """How losses of rows are compared: so that no outlying row decides.

    Losses are compared by their logarithms: a mean of the losses themselves would let one row
    choose. An objective that may be negative, such as a log-likelihood, has no logarithm: the
    inverse hyperbolic sine of its distance from the median at the start does the same.

    Parameters
    ----------
    losses : Tensor of shape (..., n_rows)
        At the start.
    positive : bool
        Whether losses have logarithms.
    """

    def __init__(self, losses: Tensor, positive: bool):
        self.positive, tiny = positive, torch.finfo(losses.dtype).tiny
        self.floor = LOG_FLOOR * losses.mean(-1, keepdim=True) + tiny
        self.centre = losses.median(-1, keepdim=True).values
        self.width = (losses - self.centre).abs().mean(-1, keepdim=True) + tiny

    def score(self, losses: Tensor) -> Tensor:
        """Bring losses to the scale.

        Parameters
        ----------
        losses : Tensor of shape (..., n_rows)

        Returns
        -------
        Tensor of shape (..., n_rows)
            Lower is better.
        """
        if self.positive:
            return (losses + self.floor).log()
        return torch.asinh((losses - self.centre) / self.width)


class BestWeights(Callback):
    """Keeps the best weights in memory, those before the first step included.

    Weights are judged by the mean of the held-out rows' losses, brought to a `Scale`. Where
    the net is cautious, they replace those before the first step only if they are better by
    some standard errors. Without held-out rows the latest finite weights are kept. A
    non-finite loss brings the best weights back and lowers the rate; the second one stops
    training.
    """

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        if net.held_out_ is None:
            losses = net.evaluate(net.rows_)
        else:
            losses = net.evaluate(net.held_out_, net.held_out_noise_)
        judged = net.held_out_weights_ if net.held_out_ is not None else None
        self.weights_ = None if judged is None else judged.double().numpy()
        self.scale_ = Scale(losses, net.criterion_.positive)
        self.start_ = self.best_ = Candidate(0, self.scale_.score(losses), net.snapshot())
        self.losses_ = [losses]
        self.failures_ = 0

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        scores = self._judge(net)
        trained = math.isfinite(net.history[-1]["train_loss"])
        better = trained and bool(
            scores.isfinite().all()
            and (
                net.held_out_ is None
                or not self.best_.is_finite()
                or self._mean(scores) < self._mean(self.best_.scores)
            )
        )
        net.history.record("valid_loss_best", better)
        if better:
            self.best_ = Candidate(net.history[-1]["epoch"], scores, net.snapshot())
        elif not (trained and scores.isfinite().all()):
            self._recover(net)

    def _mean(self, values: Tensor) -> float:
        if self.weights_ is None:
            return values.mean().item()
        return weighted_average(values.cpu().numpy(), self.weights_)

    def _judge(self, net: Any) -> Tensor:
        """Scores of the current weights on the held-out rows, else of the epoch."""
        if net.held_out_ is None:
            return torch.tensor([net.history[-1]["train_loss"]])
        losses = net.evaluate(net.held_out_, net.held_out_noise_)
        net.history.record("valid_loss", self._mean(losses))
        if net.keep_losses:
            self.losses_.append(losses)
        return self.scale_.score(losses)

    def _recover(self, net: Any) -> None:
        self.failures_ += 1
        net.restore(self.best_.weights)
        if self.failures_ > 1:
            raise StopTraining
        net.rate_factor_ *= RATE_CUT
        net.initialize_optimizer()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        best = self.best_
        if not best.is_finite():
            raise ValueError(
                "The training loss was never finite, not even at the initial weights; "
                f"lower lr={net.lr} or check the network and the scale of X."
            )
        if self.failures_ > 1:
            warnings.warn(
                f"The training loss became non-finite twice (lr={net.lr}); training stopped "
                f"and the best weights, of epoch {best.epoch}, are kept. Lower lr.",
                ConvergenceWarning,
                stacklevel=2,
            )
        judged = net.require_gain and net.held_out_ is not None and self.start_.is_finite()
        if judged and not is_better(
            best.scores,
            self.start_.scores,
            n_standard_errors=net.n_standard_errors,
            weights=self.weights_,
        ):
            best = self.start_
        net.restore(best.weights)
        net.best_epoch_ = best.epoch
        if net.keep_losses:
            net.held_out_losses_ = torch.stack(self.losses_).cpu().numpy()
        del self.start_, self.best_, self.losses_, self.scale_


class ProgressBar(Callback):
    """A tqdm bar with one tick an epoch and the losses behind it; the net closes it."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar_ = tqdm(total=net.max_epochs, desc="fit", unit="epoch")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        last = net.history[-1]
        losses = {name: last[name] for name in ("train_loss", "valid_loss") if name in last}
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()


def check_callbacks(callbacks: Any) -> None:
    """Refuse what is no skorch callback.

    Parameters
    ----------
    callbacks : sequence or None
        Of callbacks or (name, callback) pairs.

    Raises
    ------
    ValueError
        Naming the item.
    """
    for item in callbacks or ():
        is_pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        callback = item[1] if is_pair else item
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"callbacks holds {item!r}, which is no skorch callback; give instances of "
                "skorch.callbacks.Callback or (name, callback) pairs."
            )
