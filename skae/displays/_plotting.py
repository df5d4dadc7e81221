"""What the displays share: checks of estimators, axes, keywords of artists, images."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import _get_feature_names, check_array, check_is_fitted

from skae._data.array_api import to_numpy
from skae._data.parameter_checks import integers_in
from skae._estimators.table import TableAutoencoder
from skae._estimators.table_base import UNMODELLED
from skae._estimators.table_coordinates import column_names

# Okabe and Ito's colours, which readers with any colour vision can tell apart.
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
# Without their yellow, which is hard to see on white.
COLORS = (BLUE, VERMILLION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Petroff's ten colours, for more classes.
MANY_COLORS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
Keywords = dict[str, Any] | None  # of a matplotlib artist
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_STYLES = ("-", "--", "-.", ":")


# -- estimators and parameters -----------------------------------------------------


def check_estimator(display: type, estimator: Any, *methods: str) -> None:
    """Refuse to draw without matplotlib, an unfitted estimator, or one that lacks a method."""
    check_matplotlib_support(f"{display.__name__}.from_estimator")
    check_is_fitted(estimator)
    check_methods(display, estimator, *methods)


def check_methods(display: type, estimator: Any, *methods: str) -> None:
    """Refuse an estimator that lacks a method or an attribute."""
    for name in methods:
        if not hasattr(estimator, name):
            raise TypeError(
                f"{display.__name__} needs an estimator with `{name}`, which {estimator!r} lacks. "
                "A Pipeline has it only if all of its steps do: leave out a predictor at its "
                "end, as in pipeline[:-1]."
            )


def split_last(estimator: Any) -> tuple[Any, Any]:
    """Separate the last step of a Pipeline from the steps before it, if there are any.

    A fitted search is replaced by its best estimator.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not isinstance(estimator, Pipeline):
        return None, estimator
    return estimator[:-1], estimator[-1]


def table_at_end(estimator: Any) -> TableAutoencoder | None:
    """The `TableAutoencoder` at the end of an estimator; None if there is another one."""
    _, last = split_last(estimator)
    if not isinstance(last, TableAutoencoder):
        return None
    if all(column["kind"] in UNMODELLED for column in last.columns_):
        raise ValueError("All columns were constant or empty in fit, so there is nothing to draw.")
    return last


def split_table(estimator: Any, X: Any) -> tuple[TableAutoencoder | None, Any]:
    """The `TableAutoencoder` at the end of an estimator, and the rows that it is given.

    None, and X, if there is another one at the end.
    """
    table, before = table_at_end(estimator), split_last(estimator)[0]
    if table is None:
        return None, X
    return table, X if before is None else before.transform(X)


def check_numbers(table: TableAutoencoder) -> None:
    """Refuse a table with other columns than numbers, which are no pixels."""
    kinds = zip(column_names(table), table.columns_, strict=True)
    others = [name for name, column in kinds if column["kind"] not in ("number", "constant")]
    if others:
        raise ValueError(
            f"image_shape needs rows of numbers, which column {others[0]!r} does not hold; leave "
            "image_shape out."
        )


def as_float_array(X: Any) -> np.ndarray:
    """Convert rows, images or codes of any container to a dense float64 array of rows."""
    options: Any = {"accept_sparse": True, "ensure_all_finite": False, "allow_nd": True}
    X = check_array(to_numpy(X), dtype=np.float64, **options)
    X = X.toarray() if issparse(X) else X
    return X.reshape(len(X), -1)


def first_rows(X: Any, n_rows: int) -> Any:
    """Take the first rows of any container."""
    return (X.tocsr() if issparse(X) else X)[:n_rows]


def feature_names(estimator: Any, X: Any, n_features: int) -> list[str]:
    """Names of the features: those of the frame, else of the estimator, else "x0", "x1", ..."""
    names = _get_feature_names(X)
    if names is None:
        names = getattr(estimator, "feature_names_in_", None)
    return [f"x{i}" for i in range(n_features)] if names is None else [str(n) for n in names]


def check_components(
    components: Any, n_components: int, *, at_most: int | None = None
) -> tuple[int, ...]:
    """Check which components to show; None is the first two, or the only one."""
    if components is None:
        return tuple(range(min(2, n_components)))
    chosen = integers_in(components)
    if not chosen or len(set(chosen) & set(range(n_components))) < len(chosen):
        raise ValueError(
            f"{components=} must hold distinct integers in [0, {n_components}), the components "
            "of this code; pass None for the first two."
        )
    if at_most is not None and len(chosen) > at_most:
        raise ValueError(f"{components=} are too many: at most {at_most} can be shown here.")
    return tuple(chosen)


def check_count(name: str, value: Any, at_least: int = 1) -> int:
    """Check the number of things to draw."""
    count = integers_in([value])
    if count is None or count[0] < at_least:
        raise ValueError(f"{name}={value!r} must be an integer >= {at_least}.")
    return count[0]


# -- axes and artists --------------------------------------------------------------


def start_plot(display: Any, ax: Any, figsize: tuple[float, float] | None = None) -> Any:
    """Set `ax_` and `figure_` of a display that draws on one pair of axes, and return the axes."""
    check_matplotlib(display)
    display.ax_ = axes_or_new(ax, figsize)
    display.figure_ = display.ax_.figure
    return display.ax_


def check_matplotlib(display: Any) -> None:
    """Refuse to plot without matplotlib."""
    check_matplotlib_support(f"{type(display).__name__}.plot")


def axes_or_new(ax: Any, figsize: tuple[float, float] | None = None) -> Any:
    """Return the given axes, or those of a new figure with `figsize` in inches."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax={ax!r} is no matplotlib Axes; pass a single one, as in "
            "`figure, ax = plt.subplots()`, or None for a new figure."
        )
    return ax


def grid_of_axes(ax: Any, shape: tuple[int, int], figsize: tuple[float, float]) -> np.ndarray:
    """Return an array of axes: those given, those that divide the ones given, or new ones."""
    import matplotlib.pyplot as plt

    if ax is None:
        return plt.subplots(*shape, figsize=figsize, layout="constrained", squeeze=False)[1]
    if isinstance(ax, (np.ndarray, list, tuple)):
        axes = np.array(ax, dtype=object)
        if axes.size != shape[0] * shape[1]:
            raise ValueError(
                f"ax holds {axes.size} axes, but {shape[0]} rows of {shape[1]} are drawn; pass "
                "as many, a single one to be divided, or None for a new figure."
            )
        return np.array([axes_or_new(one) for one in axes.ravel()], dtype=object).reshape(shape)
    return _divide(axes_or_new(ax), shape)


def _divide(ax: Any, shape: tuple[int, int]) -> np.ndarray:
    """Put several axes in the place of one, which is switched off."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            "ax was not placed by `subplots`, so that it cannot be divided into "
            f"{shape[0]} x {shape[1]}; pass an array of as many axes."
        )
    figure, current = ax.figure, ax.figure.gca()
    axes = place.subgridspec(*shape).subplots(squeeze=False)
    ax.set_axis_off()
    figure.sca(current)
    return axes


def with_defaults(given: Keywords, artist: str, **defaults: Any) -> dict[str, Any]:
    """Keywords of a "line", "patch" or "collection": those given, by any alias, over defaults."""
    from matplotlib import cbook, collections, lines, patches

    artists = {"line": lines.Line2D, "patch": patches.Patch, "collection": collections.Collection}
    return {**defaults, **cbook.normalize_kwargs(given or {}, artists[artist])}


def shorten(name: str, n_characters: int) -> str:
    """Cut a long name and end it with an ellipsis."""
    return name if len(name) <= n_characters else f"{name[: n_characters - 1]}…"


def style_axes(ax: Any) -> None:
    """Hide the upper and the right spine and draw a faint grid behind the artists."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)


def integer_ticks(axis: Any, **options: Any) -> None:
    """Put ticks at integers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, **options))


# -- images ------------------------------------------------------------------------


def check_image_shape(image_shape: Any, n_features: int) -> tuple[int, ...]:
    """Check that rows can be images of (height, width), or with three or four colour channels."""
    shape = tuple(np.atleast_1d(np.asarray(image_shape)).tolist())
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if not is_image or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(
            f"{image_shape=} must be (height, width), or (height, width, 3) for colours."
        )
    if np.prod(shape) != n_features:
        raise ValueError(
            f"{image_shape=} has {np.prod(shape)} pixels, but rows have {n_features} features."
        )
    return shape


def own_image_shape(estimator: Any) -> tuple[int, ...] | None:
    """Shape of the images that an estimator was fitted to, if they can be drawn."""
    height, width, n_channels = getattr(split_last(estimator)[1], "image_shape_", (1, 1, 1))
    if 1 in (height, width) or n_channels not in (1, 3, 4):
        return None
    return (height, width) if n_channels == 1 else (height, width, n_channels)


def with_channels_last(estimator: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of an estimator's images in the order (height, width, channel)."""
    last = split_last(estimator)[1]
    if getattr(last, "layout", None) != "channels_first":
        return rows
    height, width, n_channels = last.image_shape_
    images = rows.reshape(*rows.shape[:-1], n_channels, height, width)
    return np.moveaxis(images, -3, -1).reshape(rows.shape)


def draw_images(
    ax: Any, images: np.ndarray, limits: tuple[float, float], image_kw: Keywords
) -> np.ndarray:
    """Draw images of shape (n_rows, n_columns, height, width[, channels]) on one pair of axes.

    The image in row i and column j covers the unit square around (j, i), less a gap of 3 %
    at each side; row 0 is on top. Returns the drawn images, of shape (n_rows, n_columns).
    """
    low, high = limits
    options = {"cmap": "gray", "vmin": low, "vmax": high, **(image_kw or {})}
    (n_rows, n_columns, height, width), half = images.shape[:4], 0.47
    drawn = np.empty((n_rows, n_columns), dtype=object)
    for i, j in np.ndindex(drawn.shape):
        image = images[i, j]
        if image.ndim == 3:  # matplotlib takes colours in [0, 1] only
            image = np.clip((image - low) / (high - low), 0, 1)
        extent = (j - half, j + half, i + half, i - half)
        drawn[i, j] = ax.imshow(image, **{"extent": extent, **options})
    ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5), aspect=height / width)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return drawn


def pixel_limits(rows: np.ndarray, image_shape: tuple[int, ...]) -> tuple[float, float]:
    """Values of the darkest and the lightest pixel.

    For colours they are 0 and 1, or 0 and 255 if any value is greater than 1.
    """
    if len(image_shape) == 3:
        return 0.0, 255.0 if np.nanmax(rows) > 1 else 1.0
    low, high = float(np.nanmin(rows)), float(np.nanmax(rows))
    return (low, high) if low < high else (low, low + 1)


def figure_size(aspect: float) -> tuple[float, float]:
    """Width and height in inches of a figure whose images together have this width over height."""
    width = min(9.0, max(3.0, 6.0 * aspect))
    return width + 0.8, width / aspect + 0.7
