"""Display of the codes of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skae.displays._plotting import (
    BLUE,
    COLOURS,
    GREY,
    LINE_STYLES,
    MANY_COLOURS,
    MARKERS,
    axes_for,
    check_methods,
    chosen_components,
    clear_up,
    grid_of_axes,
    in_array,
    place_legend,
    with_defaults,
)

MAX_CLASSES = 20  # distinct numbers; more are taken for a continuous quantity
N_BINS = 8, 40  # of histograms: at least, at most
SIZES = 5, 24  # of markers, in square points: at least, at most
IN_LEGEND = 30
PANEL = 2.1  # inches


class LatentSpaceDisplay:
    """Codes of rows: a scatter plot of two components, a histogram of one, all pairs of more.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        As `transform` returns them.
    y : array-like of shape (n_samples,), default=None
        What colours the rows.
    components : int or sequence of int, default=None
        Which columns of the codes to show. None is the first two, or the only one.

    Attributes
    ----------
    scatters_ : list of matplotlib PathCollection
        Panel by panel, from the left and from above, in each one a class.
    histograms_ : list of matplotlib StepPatch
        Component by component, in each one a class.
    legend_ : matplotlib Legend
        Of the classes; None without.
    colorbar_ : matplotlib Colorbar
        Of a continuous `y`; None without.
    ax_ : matplotlib Axes
        The axes, or the first of them.
    axes_ : ndarray of Axes of shape (n_panels, n_panels)
        One by one, except for three components and more.
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
        scatter_kw: dict[str, Any] | None = None,
        hist_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Encode rows and draw their codes.

        Parameters
        ----------
        estimator : estimator with `transform`
            Fitted: any reducer, or a Pipeline.
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Rows to encode.
        y : array-like of shape (n_samples,), default=None
            What colours the rows. Strings, booleans and integers of at most 20 values are
            classes, with a legend; other numbers are continuous, with a colour bar. Missing
            values are grey. ``y.astype(str)`` makes classes of any numbers.
        components : int or sequence of int, default=None
            Which components to show, counted from 0. None is the first two, or the only one.
        ax : matplotlib Axes or array of Axes, default=None
            For three components and more, as many axes as pairs, or axes that are divided.
            None makes a figure.
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
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        check_methods(cls.__name__, estimator, ("transform",))
        codes = in_array(estimator.transform(X))
        display = cls(codes, y, components=components)
        return display.plot(ax, scatter_kw=scatter_kw, hist_kw=hist_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        scatter_kw: dict[str, Any] | None = None,
        hist_kw: dict[str, Any] | None = None,
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
        check_matplotlib_support(f"{type(self).__name__}.plot")
        from matplotlib.ticker import MaxNLocator

        codes = np.asarray(self.codes)
        shown = chosen_components(self.components, codes.shape[1])
        groups = _groups(self.y, len(codes))
        self.scatters_, self.histograms_ = [], []
        if len(shown) == 2:
            self.axes_ = np.array([[axes_for(ax)]], dtype=object)
            self.scatters_ = _scatter(self.axes_[0, 0], codes, *shown, groups, scatter_kw)
        elif len(shown) == 1:
            self.axes_ = np.array([[axes_for(ax)]], dtype=object)
            self.histograms_ = _histogram(self.axes_[0, 0], codes, shown[0], groups, hist_kw)
            self.axes_[0, 0].set_ylabel("rows")
            self.axes_[0, 0].yaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            size = PANEL * len(shown)
            self.axes_ = grid_of_axes(ax, (len(shown), len(shown)), (size, size))
            self.scatters_, self.histograms_ = _pairs(
                self.axes_, codes, shown, groups, scatter_kw, hist_kw
            )
        self.ax_ = self.axes_[0, 0]
        self.figure_ = self.ax_.figure
        self.legend_ = self.colorbar_ = None
        if groups[0].values is not None and self.scatters_:
            self.colorbar_ = self.figure_.colorbar(
                self.scatters_[0], ax=list(self.axes_.flat), label=_name_of(self.y)
            )
        elif groups[0].values is None and self.y is not None:
            self.legend_ = _add_legend(
                self.axes_,
                is_own=ax is None,
                title=_name_of(self.y),
                markerscale=np.sqrt(IN_LEGEND / _marker_size(len(codes))),
            )
        return self


@dataclass(frozen=True)
class Group:
    """Rows that look alike: a class, or all rows of a continuous quantity.

    Parameters
    ----------
    label : str
    rows : ndarray of shape (n_samples,)
        True for those in the group.
    colour, marker : str
    values : ndarray of shape (n_rows_in_group,), default=None
        That colours stand for, instead of `colour`.
    """

    label: str
    rows: np.ndarray
    colour: str = BLUE
    marker: str = "o"
    values: np.ndarray | None = None


def _groups(y: Any, n_rows: int) -> list[Group]:
    """Divide rows by what colours them."""
    if y is None:
        return [Group("", np.ones(n_rows, dtype=bool))]
    y = column_or_1d(np.asarray(y, dtype=None if hasattr(y, "dtype") else object))
    check_consistent_length(np.empty(n_rows), y)
    known = ~np.array([is_missing(value) for value in y], dtype=bool)
    values = np.array(y[known].tolist())  # of objects, the type they have in common
    if values.dtype.kind in "iuf" and _is_continuous(values):
        groups = [Group("", known, values=values)]
    else:
        groups = []
        labels = np.unique(values)
        for label, looks in zip(labels, _looks(len(labels)), strict=True):
            rows = known.copy()
            rows[known] = values == label
            groups.append(Group(str(label), rows, *looks))
    if known.all():
        return groups
    return [*groups, Group("missing", ~known, GREY, "d")]


def _looks(n_classes: int) -> Iterator[tuple[str, str]]:
    """Colours and markers of classes, no two alike."""
    colours = COLOURS if n_classes <= len(COLOURS) else MANY_COLOURS
    for i in range(n_classes):
        yield colours[i % len(colours)], MARKERS[(i + i // len(colours)) % len(MARKERS)]


def _marker_size(n_rows: int) -> float:
    """Area of a marker: smaller where there are many."""
    return float(np.clip(20_000 / max(1, n_rows), *SIZES))


def is_missing(value: Any) -> bool:
    """Whether a label is unknown.

    Parameters
    ----------
    value : object

    Returns
    -------
    bool
    """
    return value is None or is_scalar_nan(value) or is_pandas_na(value)


def _is_continuous(values: np.ndarray) -> bool:
    distinct = np.unique(values)
    return len(distinct) > MAX_CLASSES or bool((distinct % 1 != 0).any())


def _scatter(
    ax: Any,
    codes: np.ndarray,
    across: int,
    up: int,
    groups: Sequence[Group],
    scatter_kw: dict[str, Any] | None,
) -> list[Any]:
    """Draw two components against each other, group by group."""
    from matplotlib.collections import PathCollection

    drawn = []
    for group in groups:
        colour = {"color": group.colour} if group.values is None else {"c": group.values}
        if {"c", "color", "facecolor"} & (scatter_kw or {}).keys():
            colour = {}
        style = with_defaults(scatter_kw, PathCollection, linewidth=0, alpha=0.8)
        options = {
            "s": _marker_size(len(codes)),
            "marker": group.marker,
            "label": group.label,
            **colour,
            **style,
        }
        rows = codes[group.rows]
        drawn.append(ax.scatter(rows[:, across], rows[:, up], **options))
    ax.set(xlabel=f"component {across}", ylabel=f"component {up}")
    clear_up(ax)
    return drawn


def _histogram(
    ax: Any,
    codes: np.ndarray,
    component: int,
    groups: Sequence[Group],
    hist_kw: dict[str, Any] | None,
) -> list[Any]:
    """Draw how one component is distributed, group by group over the same bins."""
    from matplotlib.patches import StepPatch

    n_bins = int(np.clip(np.sqrt(len(codes)), *N_BINS))
    edges = np.histogram_bin_edges(codes[:, component], bins=n_bins)
    drawn = []
    for i, group in enumerate(groups):
        counts, _ = np.histogram(codes[group.rows, component], bins=edges)
        style = with_defaults(
            hist_kw,
            StepPatch,
            facecolor=(group.colour, 0.35),
            edgecolor=group.colour,
            linestyle=LINE_STYLES[i % len(LINE_STYLES)],
            linewidth=1.2,
            fill=True,
        )
        drawn.append(ax.stairs(counts, edges, **{"label": group.label, **style}))
    ax.set(xlabel=f"component {component}")
    clear_up(ax)
    return drawn


def _pairs(
    axes: np.ndarray,
    codes: np.ndarray,
    shown: Sequence[int],
    groups: Sequence[Group],
    scatter_kw: dict[str, Any] | None,
    hist_kw: dict[str, Any] | None,
) -> tuple[list[Any], list[Any]]:
    """Draw histograms on the diagonal and pairs below it."""
    scatters, histograms, last = [], [], len(shown) - 1
    for (i, j), ax in np.ndenumerate(axes):
        if i < j:
            ax.set_axis_off()
            continue
        if i == j:
            histograms += _histogram(ax, codes, shown[i], groups, hist_kw)
            ax.set_yticks([])
        else:
            scatters += _scatter(ax, codes, shown[j], shown[i], groups, scatter_kw)
            ax.set_ylim(_padded(codes[:, shown[i]]))
        ax.set_xlim(_padded(codes[:, shown[j]]))
        ax.tick_params(labelbottom=i == last, labelleft=j == 0)
        ax.set(xlabel=ax.get_xlabel() * (i == last), ylabel=ax.get_ylabel() * (j == 0))
    return scatters, histograms


def _padded(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _name_of(y: Any) -> str | None:
    """Name of a column of a frame."""
    name = getattr(y, "name", None)
    return name if isinstance(name, str) else None


def _add_legend(axes: np.ndarray, *, is_own: bool, **options: Any) -> Any:
    """Add the legend of the classes: of pairs, in the empty corner."""
    if axes.size == 1:
        return place_legend(axes[0, 0], is_own=is_own, **options)
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    return axes[0, -1].legend(handles, labels, loc="upper right", frameon=False, **options)
