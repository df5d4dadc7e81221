"""Display of the losses of a fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from skae._estimators.table_base import TableModel
from skae.displays import _plotting as plotting
from skae.displays._plotting import BLUE, GREY, VERMILLION, Keywords

LOG_SCALE_RATIO = 10.0  # of the largest loss to the smallest, above which the axis is logarithmic
PER_ROW, PER_CELL = "mean loss per row", "negative log-likelihood of a hidden cell, nats"
MAX_MARKERS = 15  # longer curves are drawn without markers


@dataclass(eq=False, repr=False, kw_only=True)
class LossCurveDisplay:
    """Loss of training and held-out rows after each epoch, and the epoch whose weights are kept.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Mean loss per training row after each epoch.
    validation_loss_curve : array-like of shape (n_validation_epochs,), default=None
        The same for held-out rows. Empty if none were held out, None if that is unknown.
    kept_epoch : int, default=None
        Epoch whose weights are kept; 0 is before the first. None draws no mark.
    start : str, default="at random"
        Where the weights are before the first epoch.
    unit : str, default="mean loss per row"
        Label of the vertical axis.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Losses of the training rows; None if no epoch was trained on all of them.
    validation_line_ : matplotlib Line2D
        Losses of the held-out rows; None if none were held out.
    mark_ : matplotlib Line2D
        Vertical line at the kept epoch; None without one.
    text_ : matplotlib Text
        Shown instead of curves if no epoch was trained; else None.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import LossCurveDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_epochs=10, random_state=0).fit(X)
    >>> display = LossCurveDisplay.from_estimator(autoencoder)
    >>> len(display.validation_line_.get_ydata())
    10
    """

    __module__ = "skae.displays"

    loss_curve: Any = field(kw_only=False)
    validation_loss_curve: Any = field(default=None, kw_only=False)
    kept_epoch: int | None = None
    start: str = "at random"
    unit: str = PER_ROW

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: Any = None,
        line_kw: Keywords = None,
        mark_kw: Keywords = None,
    ) -> Self:
        """Draw the losses that a fit has recorded.

        If the number of epochs was cross-validated (tables below 500 rows), the held-out curve
        is the mean over the folds, whose fits all ran to `max_epochs`. The curve of the training
        rows is that of the last fit, on all rows, which ends at the chosen number of epochs. If
        that number is 0, there is no such curve. An epoch with a lower loss than the start is
        not kept unless it is significantly better. After `partial_fit`, each call that trained
        is one epoch, and no epoch is marked.

        The curves of a `TableAutoencoder` are those of its networks that predict columns: mean
        negative log-likelihoods of hidden cells, in nats. Those of its codes are drawn for its
        `autoencoder_`.

        Parameters
        ----------
        estimator : estimator with `loss_curve_`
            Fitted. Of a Pipeline the last step is taken, of a search its best estimator.
        ax : matplotlib Axes, default=None
            None makes a figure.
        line_kw : dict, default=None
            Keywords of both curves.
        mark_kw : dict, default=None
            Keywords of the line at the kept epoch.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it records no losses, such as PCA.
        ImportError
            If matplotlib is absent.
        """
        plotting.check_estimator(cls, estimator)
        last = plotting.split_last(estimator)[1]
        if not hasattr(last, "loss_curve_"):
            raise TypeError(
                f"{cls.__name__} needs an estimator that keeps `loss_curve_`, which {last!r} "
                "does not; of a Pipeline, the last step is taken."
            )
        display = cls(
            last.loss_curve_,
            getattr(last, "validation_loss_curve_", None),
            kept_epoch=_kept_epoch(last),
            start="at PCA" if getattr(last, "anchor", None) == "pca" else "at random",
            unit=PER_CELL if isinstance(last, TableModel) else PER_ROW,
        )
        return display.plot(ax, line_kw=line_kw, mark_kw=mark_kw)

    def plot(self, ax: Any = None, *, line_kw: Keywords = None, mark_kw: Keywords = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        line_kw, mark_kw : dict, default=None
            As for `from_estimator`.

        Returns
        -------
        display : LossCurveDisplay
        """
        ax = plotting.start_plot(self, ax)
        self.line_ = self.validation_line_ = self.mark_ = self.text_ = None
        train = np.asarray(self.loss_curve)
        is_unknown = self.validation_loss_curve is None
        validation = np.asarray(() if is_unknown else self.validation_loss_curve)
        if not (len(train) or len(validation)):
            self.text_ = _write_untrained(ax, self.start)
            return self
        none_held_out = not is_unknown and not len(validation)
        label = "training rows (none held out)" if none_held_out else "training rows"
        self.line_ = _draw_losses(ax, train, label, BLUE, "-", line_kw)
        self.validation_line_ = _draw_losses(
            ax, validation, "held-out rows", VERMILLION, "--", line_kw
        )
        if self.kept_epoch is not None:
            self.mark_ = _draw_kept_epoch(ax, self.kept_epoch, self.start, mark_kw)
        _finish_axes(ax, np.concatenate([train, validation]), self.unit)
        return self


def _kept_epoch(estimator: Any) -> int | None:
    """Epoch of the weights that are kept; None after `partial_fit` and for other libraries."""
    net = getattr(estimator, "net_", None)
    if net is None or len(net.history) != len(estimator.loss_curve_):
        return None
    return getattr(net, "best_epoch_", None)


def _draw_losses(
    ax: Any, losses: np.ndarray, label: str, color: str, linestyle: str, line_kw: Keywords
) -> Any:
    """Draw one curve, with markers if it is short; None if it is empty."""
    if not len(losses):
        return None
    marker = "o" if len(losses) <= MAX_MARKERS else None
    style = {"label": label, "color": color, "linestyle": linestyle, "marker": marker}
    return ax.plot(
        np.arange(1, len(losses) + 1), losses, **plotting.with_defaults(line_kw, "line", **style)
    )[0]


def _draw_kept_epoch(ax: Any, epoch: int, start: str, mark_kw: Keywords) -> Any:
    label = f"kept: epoch {epoch or f'0, the start {start}'}"
    style = {"label": label, "color": GREY, "linestyle": ":", "linewidth": 2}
    return ax.axvline(epoch, **plotting.with_defaults(mark_kw, "line", **style))


def _write_untrained(ax: Any, start: str) -> Any:
    """Write a sentence in place of the curves."""
    ax.set_axis_off()
    text = f"No epoch was trained:\nthe model is as it started, {start}."
    return ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)


def _finish_axes(ax: Any, losses: np.ndarray, unit: str) -> None:
    """Label the axes; the scale is logarithmic if losses are positive and span a wide range."""
    finite = losses[np.isfinite(losses)]
    is_wide = len(finite) and 0 < finite.min() < finite.max() / LOG_SCALE_RATIO
    ax.set(xlabel="epoch", ylabel=unit, yscale="log" if is_wide else "linear")
    plotting.integer_ticks(ax.xaxis)
    plotting.style_axes(ax)
    ax.legend()
