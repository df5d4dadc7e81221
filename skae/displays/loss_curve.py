"""Displays of numbers over epochs, components and sizes of the code."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skae._data.validation import explained_share
from skae.densities import SpikeAndSlab
from skae.displays._plotting import (
    BLUE,
    GREY,
    VERMILLION,
    axes_for,
    check_methods,
    clear_up,
    in_array,
    split_last,
    with_defaults,
)

SEVERAL_DECADES = 10.0  # ratio of the largest loss to the least that asks for a logarithmic axis
MAX_MARKERS = 15  # of one curve


class LossCurveDisplay:
    """Losses of training and held-out rows, epoch by epoch, and the epoch whose weights are kept.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Mean loss per training row after each epoch.
    validation_loss_curve : array-like of shape (n_validation_epochs,), default=None
        The same of held-out rows; empty where none were held out, None where nobody knows.
    kept_epoch : int, default=None
        Epoch whose weights are kept, 0 for those before the first. None draws no mark.
    start : str, default="at random"
        Where the weights before the first epoch are.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Of the training rows; None if no epoch was trained on all of them.
    validation_line_ : matplotlib Line2D
        Of the held-out rows; None if none were held out.
    mark_ : matplotlib Line2D
        Vertical line at the kept epoch; None without one.
    text_ : matplotlib Text
        What is said in place of curves; None where there are some.
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

    def __init__(
        self,
        loss_curve: Any,
        validation_loss_curve: Any = None,
        *,
        kept_epoch: int | None = None,
        start: str = "at random",
    ):
        self.loss_curve = loss_curve
        self.validation_loss_curve = validation_loss_curve
        self.kept_epoch = kept_epoch
        self.start = start

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
        mark_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the losses that a fit has recorded.

        Where the number of epochs was cross-validated (tables below 500 rows), the held-out
        curve is the mean over the folds, each of them a training of its own that ran its full
        length; the curve of the training rows is that of the last training, on all rows, which
        ends at the number of epochs chosen. If that is none, there is no such curve. An epoch of
        lower loss than the start is passed over where it is not surely better. After
        `partial_fit`, each call that trained is one epoch, and no epoch is marked.

        Parameters
        ----------
        estimator : estimator with `loss_curve_`
            Fitted. A Pipeline stands for its last step, a fitted search for its best estimator.
        ax : matplotlib Axes, default=None
            None makes a figure.
        line_kw : dict, default=None
            Keywords of both lines.
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
            If it records no losses, as PCA.
        ImportError
            If matplotlib is absent.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        last = split_last(estimator)[1]
        if not hasattr(last, "loss_curve_"):
            raise TypeError(
                f"{cls.__name__} needs an estimator that keeps `loss_curve_`, which {last!r} "
                "does not; of a Pipeline, the last step counts."
            )
        display = cls(
            last.loss_curve_,
            getattr(last, "validation_loss_curve_", None),
            kept_epoch=_kept_epoch(last),
            start="at PCA" if getattr(last, "anchor", None) == "pca" else "at random",
        )
        return display.plot(ax, line_kw=line_kw, mark_kw=mark_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        line_kw: dict[str, Any] | None = None,
        mark_kw: dict[str, Any] | None = None,
    ) -> Self:
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
        check_matplotlib_support(f"{type(self).__name__}.plot")
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        self.ax_ = axes_for(ax)
        self.figure_ = self.ax_.figure
        self.line_ = self.validation_line_ = self.mark_ = self.text_ = None
        judged = () if self.validation_loss_curve is None else self.validation_loss_curve
        if not (len(self.loss_curve) or len(judged)):
            self.text_ = _say(
                self.ax_, f"No epoch was trained:\nthe model is as it started, {self.start}."
            )
            return self
        all_trained = self.validation_loss_curve is not None and not len(judged)
        self.line_ = _draw_losses(
            self.ax_,
            self.loss_curve,
            "training rows (none held out)" if all_trained else "training rows",
            with_defaults(line_kw, Line2D, color=BLUE, linestyle="-"),
        )
        self.validation_line_ = _draw_losses(
            self.ax_,
            judged,
            "held-out rows",
            with_defaults(line_kw, Line2D, color=VERMILLION, linestyle="--"),
        )
        if self.kept_epoch is not None:
            label = f"kept: epoch {self.kept_epoch or f'0, the start {self.start}'}"
            style = with_defaults(mark_kw, Line2D, color=GREY, linestyle=":", linewidth=2)
            self.mark_ = self.ax_.axvline(self.kept_epoch, **{"label": label, **style})
        scale = _scale_of(np.concatenate([self.loss_curve, judged]))
        self.ax_.set(xlabel="epoch", ylabel="mean loss per row", yscale=scale)
        self.ax_.xaxis.set_major_locator(MaxNLocator(integer=True))
        clear_up(self.ax_)
        self.ax_.legend()
        return self


def _kept_epoch(estimator: Any) -> int | None:
    """Epoch of the weights kept; None for streams and for what is not skae's."""
    net = getattr(estimator, "net_", None)
    if net is None or len(net.history) != len(estimator.loss_curve_):
        return None
    return getattr(net, "best_epoch_", None)


def _draw_losses(ax: Any, curve: Any, label: str, style: dict[str, Any]) -> Any:
    """Draw one curve, whose points are seen where they are few."""
    if not len(curve):
        return None
    epochs = np.arange(1, len(curve) + 1)
    marker = "o" if len(curve) <= MAX_MARKERS else None
    return ax.plot(epochs, curve, **{"label": label, "marker": marker, **style})[0]


def _scale_of(losses: np.ndarray) -> str:
    """Logarithmic where losses are positive and span much."""
    finite = losses[np.isfinite(losses)]
    wide = len(finite) and 0 < finite.min() < finite.max() / SEVERAL_DECADES
    return "log" if wide else "linear"


def _say(ax: Any, sentence: str) -> Any:
    """Write on axes in place of curves."""
    ax.set_axis_off()
    return ax.text(0.5, 0.5, sentence, ha="center", va="center", transform=ax.transAxes)


class ExplainedVarianceDisplay:
    """Share of variance that each further component explains, beside PCA's.

    Parameters
    ----------
    shares : array-like of shape (n_components,)
        What each component adds to the explained share of variance.
    pca_explained_ratios : array-like of shape (n_pca_components,), default=None
        The same of PCA. None draws none.
    name : str, default="estimator"
        Of the estimator, for the legend.

    Attributes
    ----------
    bars_, pca_bars_ : matplotlib BarContainer
        What each component adds. `pca_bars_` and `pca_line_` are None without PCA.
    line_, pca_line_ : matplotlib Line2D
        What the components up to each one explain together.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import ExplainedVarianceDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_epochs=10, random_state=0).fit(X)
    >>> display = ExplainedVarianceDisplay.from_estimator(autoencoder, X)
    >>> bool(abs(display.shares.sum() - autoencoder.score(X)) < 1e-9)
    True
    """

    def __init__(self, shares: Any, pca_explained_ratios: Any = None, *, name: str = "estimator"):
        self.shares = shares
        self.pca_explained_ratios = pca_explained_ratios
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        X_train: Any = None,
        ax: Any = None,
        bar_kw: dict[str, Any] | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Compute and draw what the components of a code explain of the variance of rows.

        The first j components are kept and the later ones held at their mean over the training
        rows, which is zero but for sparse codes; the codes are decoded, and the share is one
        minus the squared error over the squared distance to the *training* mean. With all
        components that is ``score(X)``, whatever rows X are; on the training rows, the bars are
        ``explained_variance_ratio_``.
        A nonlinear code of fewer components would be a fit of its own, and better than the
        first ones of this code.

        PCA is scikit-learn's, of as many components, fitted to `X_train` and judged by X too.
        By default it is fitted to X itself: fair if X are the training rows, an advantage to
        PCA if they are new ones; then pass the training rows as `X_train`.

        In a Pipeline everything is measured before its last step, behind the others.

        Parameters
        ----------
        estimator : estimator with `transform`, `inverse_transform` and `mean_`
            Fitted: of skae, PCA or a Pipeline that ends in one.
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Rows whose variance is explained. They are decoded once for each component.
        X_train : array-like or sparse matrix or array of shape (n_train, n_features), default=None
            Rows that PCA is fitted to.
        ax : matplotlib Axes, default=None
            None makes a figure.
        bar_kw, line_kw : dict, default=None
            Keywords of all bars and of both lines.

        Returns
        -------
        display : ExplainedVarianceDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it lacks a method or `mean_`.
        ImportError
            If matplotlib is absent.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        before, last = split_last(estimator)
        check_methods(cls.__name__, last, ("transform", "inverse_transform", "mean_"))
        X = X if before is None else before.transform(X)
        shares = _shares(last, X)
        rows = X
        if X_train is not None:
            rows = X_train if before is None else before.transform(X_train)
        rows = in_array(rows)
        pca = PCA(min(len(shares), *rows.shape), svd_solver="full").fit(rows)
        pca_explained_ratios = _shares(pca, in_array(X))
        display = cls(shares, pca_explained_ratios, name=type(last).__name__)
        return display.plot(ax, bar_kw=bar_kw, line_kw=line_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        bar_kw: dict[str, Any] | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw bars of what each component adds, and lines of their sums.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        bar_kw, line_kw : dict, default=None
            As for `from_estimator`.

        Returns
        -------
        display : ExplainedVarianceDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        from matplotlib.ticker import MaxNLocator

        self.ax_ = axes_for(ax)
        self.figure_ = self.ax_.figure
        self.pca_bars_ = self.pca_line_ = None
        style = {"color": BLUE, "marker": "o", "linestyle": "-"}
        self.bars_, self.line_ = _draw_shares(
            self.ax_, self.shares, self.name, -0.2, style, bar_kw, line_kw
        )
        if self.pca_explained_ratios is not None:
            style = {"color": VERMILLION, "marker": "s", "linestyle": "--"}
            self.pca_bars_, self.pca_line_ = _draw_shares(
                self.ax_, self.pca_explained_ratios, "PCA", 0.2, style, bar_kw, line_kw
            )
        self.ax_.set(xlabel="components kept", ylabel="explained share of variance")
        self.ax_.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        self.ax_.set_ylim(top=max(1.0, self.ax_.get_ylim()[1]))
        clear_up(self.ax_)
        self.ax_.legend()
        return self


def _shares(estimator: Any, X: Any) -> np.ndarray:
    """What each component adds to the explained share of variance of rows."""
    codes = in_array(estimator.transform(X))
    rows, mean = in_array(X), _mean_code(estimator)
    total = np.square(rows - estimator.mean_).sum()
    explained = [0.0]
    for n_kept in range(1, codes.shape[1] + 1):
        kept = np.where(np.arange(codes.shape[1]) < n_kept, codes, mean)
        lost = np.square(rows - in_array(estimator.inverse_transform(kept))).sum()
        explained.append(explained_share(lost, total))
    return np.diff(explained)


def _mean_code(estimator: Any) -> Any:
    """Mean of the training codes; that of dense codes is zero."""
    density = getattr(estimator, "latent_density_", None)
    return density.expectation() if isinstance(density, SpikeAndSlab) else 0.0


def _draw_shares(
    ax: Any,
    shares: Any,
    name: str,
    shift: float,
    style: dict[str, Any],
    bar_kw: dict[str, Any] | None,
    line_kw: dict[str, Any] | None,
) -> tuple[Any, Any]:
    """Draw bars of shares and a line of their sums."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    kept = np.arange(1, len(shares) + 1)
    colour = style["color"]
    fill = (colour, 0.45) if style["linestyle"] == "-" else "none"  # apart without colours too
    bar_style = with_defaults(bar_kw, Rectangle, edgecolor=colour, facecolor=fill)
    bars = ax.bar(kept + shift, shares, **{"width": 0.4, "label": f"{name}, each", **bar_style})
    line_style = with_defaults(line_kw, Line2D, **style)
    (line,) = ax.plot(kept, np.cumsum(shares), **{"label": f"{name}, cumulated", **line_style})
    return bars, line
