"""Display of the share of variance that each component explains."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.decomposition import PCA

from skae._data.statistics import explained_share
from skae._estimators.table_coordinates import coordinates_of, reference_of
from skae.densities import SpikeAndSlab
from skae.displays import _plotting as plotting
from skae.displays._plotting import BLUE, VERMILLION, Keywords


class ExplainedVarianceDisplay:
    """Share of variance that each further component explains, beside PCA's.

    Parameters
    ----------
    explained_variance_ratio : array-like of shape (n_components,)
        What each component adds to the explained share of variance.
    pca_explained_variance_ratio : array-like of shape (n_pca_components,), default=None
        The same for PCA. None draws none.
    name, pca_name : str, default="estimator" and "PCA"
        Names of the estimator and of PCA in the legend.

    Attributes
    ----------
    bars_, pca_bars_ : matplotlib BarContainer
        What each component adds. `pca_bars_` and `pca_line_` are None without PCA.
    line_, pca_line_ : matplotlib Line2D
        Cumulated shares.
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
    >>> bool(abs(display.explained_variance_ratio.sum() - autoencoder.score(X)) < 1e-9)
    True
    """

    __module__ = "skae.displays"

    def __init__(
        self,
        explained_variance_ratio: Any,
        pca_explained_variance_ratio: Any = None,
        *,
        name: str = "estimator",
        pca_name: str = "PCA",
    ):
        self.explained_variance_ratio = explained_variance_ratio
        self.pca_explained_variance_ratio = pca_explained_variance_ratio
        self.name = name
        self.pca_name = pca_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        X_train: Any = None,
        ax: Any = None,
        bar_kw: Keywords = None,
        line_kw: Keywords = None,
    ) -> Self:
        """Compute and draw the share of the variance of rows that each component explains.

        The first j components are kept. The others are set to their mean over the training
        rows, which is zero except for sparse codes. These codes are decoded, and the share is
        one minus the squared error over the squared distance to the *training* mean. With all
        components this is ``score(X)`` for any rows X; on the training rows, the bars are
        ``explained_variance_ratio_``. A nonlinear autoencoder that is fitted with j components
        explains more than the first j components of a larger code.

        PCA is scikit-learn's with as many components, fitted to `X_train` and measured on X as
        well. By default it is fitted to X itself. That is fair if X are the training rows. If
        they are new rows, it favours PCA: pass the training rows as `X_train`.

        In a Pipeline all shares are measured on the input of its last step. Those of a
        `TableAutoencoder` are measured on its coordinates, over observed cells, beside the factor
        analysis of mixed data (FAMD), which is their PCA.

        Parameters
        ----------
        estimator : estimator with `transform`, `inverse_transform` and `mean_`
            Fitted: an estimator of skae, PCA or a Pipeline that ends in one.
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
        plotting.check_estimator(cls, estimator)
        train = X if X_train is None else X_train
        before, last = plotting.split_last(estimator)
        name, observed, table = type(last).__name__, None, plotting.table_at_end(estimator)
        if table is None:
            plotting.check_methods(cls, last, "transform", "inverse_transform", "mean_")
        X, train = (before.transform(rows) if before else rows for rows in (X, train))
        if table is not None:
            X, observed = coordinates_of(table, X)
            train = X if X_train is None else coordinates_of(table, train)[0]
            last = table.autoencoder_
        shares, train = _explained_shares(last, X, observed), plotting.as_float_array(train)
        pca = PCA(min(len(shares), *train.shape), svd_solver="full").fit(train)
        pca_shares = _explained_shares(pca, plotting.as_float_array(X), observed)
        display = cls(shares, pca_shares, name=name, pca_name=reference_of(estimator))
        return display.plot(ax, bar_kw=bar_kw, line_kw=line_kw)

    def plot(self, ax: Any = None, *, bar_kw: Keywords = None, line_kw: Keywords = None) -> Self:
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
        ax = plotting.start_plot(self, ax)
        self.pca_bars_ = self.pca_line_ = None
        self.bars_, self.line_ = _draw_shares(
            ax, self.explained_variance_ratio, self.name, False, bar_kw, line_kw
        )
        if self.pca_explained_variance_ratio is not None:
            self.pca_bars_, self.pca_line_ = _draw_shares(
                ax, self.pca_explained_variance_ratio, self.pca_name, True, bar_kw, line_kw
            )
        ax.set(xlabel="components kept", ylabel="explained share of variance")
        plotting.integer_ticks(ax.xaxis, min_n_ticks=1)
        ax.set_ylim(top=max(1.0, ax.get_ylim()[1]))
        plotting.style_axes(ax)
        ax.legend()
        return self


def _explained_shares(estimator: Any, X: Any, observed: Any = None) -> np.ndarray:
    """What each component adds to the explained share of variance of rows.

    With a mask of observed cells, X are coordinates, whose distances are those to zero.
    """
    codes = plotting.as_float_array(estimator.transform(X))
    rows, mean = plotting.as_float_array(X), _mean_code(estimator)
    total = np.square(rows - estimator.mean_ if observed is None else rows[observed]).sum()
    explained = [0.0]
    for n_kept in range(1, codes.shape[1] + 1):
        kept = np.where(np.arange(codes.shape[1]) < n_kept, codes, mean)
        errors = rows - plotting.as_float_array(estimator.inverse_transform(kept))
        sse = np.square(errors if observed is None else errors[observed]).sum()
        explained.append(explained_share(sse, total))
    return np.diff(explained)


def _mean_code(estimator: Any) -> Any:
    """Mean of the training codes, which is zero for dense codes."""
    density = getattr(estimator, "latent_density_", None)
    return density.expectation() if isinstance(density, SpikeAndSlab) else 0.0


def _draw_shares(
    ax: Any, shares: Any, name: str, is_pca: bool, bar_kw: Keywords, line_kw: Keywords
) -> tuple[Any, Any]:
    """Draw bars of shares and a line of their sums; PCA's bars are not filled."""
    color, marker, linestyle = (VERMILLION, "s", "--") if is_pca else (BLUE, "o", "-")
    face, shift = ("none", 0.2) if is_pca else ((color, 0.45), -0.2)
    bar_style = {"label": f"{name}, each", "width": 0.4, "edgecolor": color, "facecolor": face}
    line_style = {"color": color, "marker": marker, "linestyle": linestyle}
    line_style["label"] = f"{name}, cumulated"
    kept = np.arange(1, len(shares) + 1)
    bars = ax.bar(kept + shift, shares, **plotting.with_defaults(bar_kw, "patch", **bar_style))
    line_options = plotting.with_defaults(line_kw, "line", **line_style)
    return bars, ax.plot(kept, np.cumsum(shares), **line_options)[0]
