"""Display of codes: scatter plots and histograms of their components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from skae.displays import _plotting as plotting
from skae.displays._plotting import BLUE, COLORS, GREY, LINE_STYLES, MANY_COLORS, MARKERS, Keywords

MAX_CLASSES = 20  # numbers with more distinct values are continuous
N_BINS = 8, 40  # of histograms: at least, at most
MARKER_AREAS = 5, 24  # square points: at least, at most
LEGEND_AREA = 30  # of a marker in the legend
PANEL = 2.1  # inches
DAY = np.timedelta64(1, "D")  # matplotlib counts days since 1970, too


class LatentSpaceDisplay:
    """Codes of rows: a scatter plot of two components, a histogram of one, all pairs of more.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        As returned by `transform`.
    y : array-like of shape (n_samples,), default=None
        Classes or numbers that colour the rows.
    components : int or sequence of int, default=None
        Which columns of the codes to show. None is the first two, or the only one.

    Attributes
    ----------
    scatters_ : list of matplotlib PathCollection
        One per panel and class; panels row by row.
    histograms_ : list of matplotlib StepPatch
        One per component and class.
    legend_ : matplotlib Legend
        Of the classes; None without classes.
    colorbar_ : matplotlib Colorbar
        Of a continuous `y`; else None.
    ax_ : matplotlib Axes
        The axes, or the first of them.
    axes_ : ndarray of Axes of shape (n_panels, n_panels)
        Of shape (1, 1) for one or two components.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import LatentSpaceDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(2, max_epochs=10, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(autoencoder, X, y)
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['0', '1', '2']
    """

    __module__ = "skae.displays"

    def __init__(self, codes: Any, y: Any = None, *, components: int | Sequence[int] | None = None):
        self.codes = codes
        self.y = y
        self.components = components

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        components: int | Sequence[int] | None = None,
        ax: Any = None,
        scatter_kw: Keywords = None,
        hist_kw: Keywords = None,
    ) -> Self:
        """Encode rows and draw their codes.

        Parameters
        ----------
        estimator : estimator with `transform`
            Fitted: any reducer, or a Pipeline.
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Rows to encode.
        y : array-like of shape (n_samples,), default=None
            Classes or numbers that colour the rows. Strings, booleans and integers of at most
            20 distinct values are classes, with a legend. Other numbers, and dates, are
            continuous, with a colour bar. Missing values are grey. ``y.astype(str)`` turns
            numbers into classes.
        components : int or sequence of int, default=None
            Which components to show, counted from 0. None is the first two, or the only one.
        ax : matplotlib Axes or array of Axes, default=None
            For three components or more: an array of n_components x n_components axes, or a
            single one that is divided. None makes a figure.
        scatter_kw, hist_kw : dict, default=None
            Keywords of scatter plots and of histograms.

        Returns
        -------
        display : LatentSpaceDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it cannot transform.
        ValueError
            If there are no such components, or if y has another length.
        ImportError
            If matplotlib is absent.
        """
        plotting.check_estimator(cls, estimator, "transform")
        codes = plotting.as_float_array(estimator.transform(X))
        display = cls(codes, y, components=components)
        return display.plot(ax, scatter_kw=scatter_kw, hist_kw=hist_kw)

    def plot(
        self, ax: Any = None, *, scatter_kw: Keywords = None, hist_kw: Keywords = None
    ) -> Self:
        """Draw the codes.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
        scatter_kw, hist_kw : dict, default=None
            As for `from_estimator`.

        Returns
        -------
        display : LatentSpaceDisplay
        """
        plotting.check_matplotlib(self)
        codes = np.asarray(self.codes)
        shown = plotting.check_components(self.components, codes.shape[1])
        groups = _make_groups(self.y, len(codes))
        self.axes_ = _make_axes(ax, len(shown))
        self.ax_ = self.axes_[0, 0]
        self.figure_ = self.ax_.figure
        self.scatters_, self.histograms_ = [], []
        if len(shown) == 1:
            self.histograms_ = _draw_single_histogram(self.ax_, codes, shown[0], groups, hist_kw)
        elif len(shown) == 2:
            self.scatters_ = _draw_scatter(self.ax_, codes, *shown, groups, scatter_kw)
        else:
            self.scatters_, self.histograms_ = _draw_pairs(
                self.axes_, codes, shown, groups, scatter_kw, hist_kw
            )
        self.legend_ = self.colorbar_ = None
        if groups[0].values is not None and self.scatters_:
            self.colorbar_ = _add_colorbar(self)
        elif groups[0].values is None and self.y is not None:
            self.legend_ = _add_legend(self, is_new_figure=ax is None)
        return self


# -- groups of rows ----------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Rows of one colour, or with `values` of shape (n_rows_in_group,) that are coloured.

    `rows` is a mask of shape (n_samples,).
    """

    label: str
    rows: np.ndarray
    color: str = BLUE
    marker: str = "o"
    values: np.ndarray | None = None


def _make_groups(y: Any, n_rows: int) -> list[_Group]:
    """One group a class, or one for continuous numbers; then one for missing values."""
    if y is None:
        return [_Group("", np.ones(n_rows, dtype=bool))]
    y = column_or_1d(np.asarray(y, dtype=None if hasattr(y, "dtype") else object))
    check_consistent_length(np.empty(n_rows), y)
    if y.dtype.kind == "M":
        y = np.where(np.isnat(y), np.nan, (y - np.datetime64(0, "D")) / DAY)
    known = ~np.array([_is_missing(value) for value in y], dtype=bool)
    values = np.array(y[known].tolist())  # objects get the dtype that they have in common
    if values.dtype.kind in "iuf" and _is_continuous(values):
        groups = [_Group("", known, values=values)]
    else:
        groups = _group_by_class(values, known)
    return groups if known.all() else [*groups, _Group("missing", ~known, GREY, "d")]


def _is_missing(value: Any) -> bool:
    # The last holds for NaT.
    return value is None or is_scalar_nan(value) or is_pandas_na(value) or value != value


def _is_continuous(values: np.ndarray) -> bool:
    distinct = np.unique(values)
    return len(distinct) > MAX_CLASSES or bool((distinct % 1 != 0).any())


def _group_by_class(values: np.ndarray, known: np.ndarray) -> list[_Group]:
    """One group a class; no two share colour and marker."""
    labels, codes = np.unique(values, return_inverse=True)
    colors = COLORS if len(labels) <= len(COLORS) else MANY_COLORS
    groups = []
    for i, label in enumerate(labels):
        rows = known.copy()
        rows[known] = codes == i
        marker = MARKERS[(i + i // len(colors)) % len(MARKERS)]
        groups.append(_Group(str(label), rows, colors[i % len(colors)], marker))
    return groups


# -- drawing -----------------------------------------------------------------------


def _make_axes(ax: Any, n_shown: int) -> np.ndarray:
    """Axes of shape (n_shown, n_shown), or (1, 1) for one or two components."""
    if n_shown <= 2:
        return np.array([[plotting.axes_or_new(ax)]], dtype=object)
    return plotting.grid_of_axes(ax, (n_shown, n_shown), (PANEL * n_shown, PANEL * n_shown))


def _marker_area(n_rows: int) -> float:
    """Square points: the more rows, the smaller."""
    return float(np.clip(20_000 / max(1, n_rows), *MARKER_AREAS))


def _draw_scatter(
    ax: Any, codes: np.ndarray, across: int, up: int, groups: Sequence[_Group], scatter_kw: Keywords
) -> list[Any]:
    """Draw component `up` against component `across`, group by group."""
    style = {"s": _marker_area(len(codes)), "linewidth": 0, "alpha": 0.8}
    has_color = bool({"c", "color", "facecolor"} & (scatter_kw or {}).keys())
    drawn = []
    for group in groups:
        color = {"color": group.color} if group.values is None else {"c": group.values}
        options = {"marker": group.marker, "label": group.label, **({} if has_color else color)}
        rows = codes[group.rows]
        options = plotting.with_defaults(scatter_kw, "collection", **style, **options)
        drawn.append(ax.scatter(rows[:, across], rows[:, up], **options))
    ax.set(xlabel=f"component {across}", ylabel=f"component {up}")
    plotting.style_axes(ax)
    return drawn


def _draw_histogram(
    ax: Any, codes: np.ndarray, component: int, groups: Sequence[_Group], hist_kw: Keywords
) -> list[Any]:
    """Draw the distribution of one component, group by group over the same bins."""
    n_bins = int(np.clip(np.sqrt(len(codes)), *N_BINS))
    edges = np.histogram_bin_edges(codes[:, component], bins=n_bins)
    drawn = []
    for i, group in enumerate(groups):
        counts, _ = np.histogram(codes[group.rows, component], bins=edges)
        style = {"facecolor": (group.color, 0.35), "edgecolor": group.color, "fill": True}
        style |= {"linestyle": LINE_STYLES[i % len(LINE_STYLES)], "linewidth": 1.2}
        options = plotting.with_defaults(hist_kw, "patch", label=group.label, **style)
        drawn.append(ax.stairs(counts, edges, **options))
    ax.set(xlabel=f"component {component}")
    plotting.style_axes(ax)
    return drawn


def _draw_single_histogram(ax: Any, *args: Any) -> list[Any]:
    drawn = _draw_histogram(ax, *args)
    ax.set_ylabel("rows")
    plotting.integer_ticks(ax.yaxis)
    return drawn


def _draw_pairs(
    axes: np.ndarray,
    codes: np.ndarray,
    shown: Sequence[int],
    groups: Sequence[_Group],
    scatter_kw: Keywords,
    hist_kw: Keywords,
) -> tuple[list[Any], list[Any]]:
    """Draw histograms on the diagonal and scatter plots below it."""
    scatters, histograms, last = [], [], len(shown) - 1
    for (i, j), ax in np.ndenumerate(axes):
        if i < j:
            ax.set_axis_off()
            continue
        if i == j:
            histograms += _draw_histogram(ax, codes, shown[i], groups, hist_kw)
            ax.set_yticks([])
        else:
            scatters += _draw_scatter(ax, codes, shown[j], shown[i], groups, scatter_kw)
            ax.set_ylim(_padded_range(codes[:, shown[i]]))
        ax.set_xlim(_padded_range(codes[:, shown[j]]))
        ax.tick_params(labelbottom=i == last, labelleft=j == 0)
        ax.set(xlabel=ax.get_xlabel() * (i == last), ylabel=ax.get_ylabel() * (j == 0))
    return scatters, histograms


def _padded_range(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _column_name(y: Any) -> str | None:
    name = getattr(y, "name", None)
    return name if isinstance(name, str) else None


def _add_colorbar(display: LatentSpaceDisplay) -> Any:
    axes = list(display.axes_.flat)
    options: dict[str, Any] = {"label": _column_name(display.y)}
    if np.asarray(display.y).dtype.kind == "M":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        options["ticks"] = AutoDateLocator()
        options["format"] = ConciseDateFormatter(options["ticks"])
    return display.figure_.colorbar(display.scatters_[0], ax=axes, **options)


def _add_legend(display: LatentSpaceDisplay, *, is_new_figure: bool) -> Any:
    """Add the legend of the classes: for pairs in the empty corner, else beside a new figure."""
    scale = np.sqrt(LEGEND_AREA / _marker_area(len(display.codes)))
    options = {"title": _column_name(display.y), "markerscale": scale}
    if display.axes_.size > 1:
        handles, labels = display.axes_[-1, 0].get_legend_handles_labels()
        corner = display.axes_[0, -1]
        return corner.legend(handles, labels, loc="upper right", frameon=False, **options)
    if is_new_figure:
        options |= {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
    else:
        options |= {"loc": "best", "frameon": True}
    return display.ax_.legend(**options)
