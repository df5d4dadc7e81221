"""What displays share: axes, colours, keywords of artists, last steps of Pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _get_feature_names, check_array

from skae._data.array_api import to_numpy

# Of Okabe and Ito, apart for every kind of colour vision.
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
# The others of them, yellow left out, which white swallows; markers tell the rest apart.
COLOURS = (BLUE, VERMILLION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Of Petroff's ten, for more classes.
MANY_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_STYLES = ("-", "--", "-.", ":")


# -- estimators --------------------------------------------------------------------


def split_last(estimator: Any) -> tuple[Any, Any]:
    """Separate the last step of a Pipeline from those before it.

    Parameters
    ----------
    estimator : estimator
        A fitted search stands for its best estimator.

    Returns
    -------
    before : Pipeline or None
        None where nothing comes before.
    last : estimator
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not isinstance(estimator, Pipeline):
        return None, estimator
    before, last = estimator[:-1], estimator[-1]
    return (before if len(before) else None), last


def in_array(X: Any) -> np.ndarray:
    """Rows or codes, of whatever container, as numbers to compute with.

    Parameters
    ----------
    X : array-like or sparse matrix or array of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of shape (n_rows, n_columns), float64
    """
    X = check_array(to_numpy(X), accept_sparse=True, dtype=np.float64, ensure_all_finite=False)
    return X.toarray() if issparse(X) else X


def first_rows(X: Any, n_rows: int) -> Any:
    """Take the first rows of any container.

    Parameters
    ----------
    X : array-like or sparse matrix or array of shape (n_samples, n_features)
    n_rows : int

    Returns
    -------
    array-like or sparse matrix or array of shape (at most n_rows, n_features)
    """
    return (X.tocsr() if issparse(X) else X)[:n_rows]


def check_methods(display: str, estimator: Any, names: Sequence[str]) -> None:
    """Refuse an estimator that lacks a method.

    Parameters
    ----------
    display : str
    estimator : estimator
    names : sequence of str

    Raises
    ------
    TypeError
    """
    for name in names:
        if not hasattr(estimator, name):
            raise TypeError(
                f"{display} needs an estimator with `{name}`, which {estimator!r} lacks; a "
                "Pipeline has it if all of its steps do: leave out a predictor at its end, as "
                "in pipeline[:-1]."
            )


def feature_names(estimator: Any, X: Any, n_features: int) -> list[str]:
    """Names of the features: of the frame, else those the estimator knows, else numbers.

    Parameters
    ----------
    estimator : estimator
    X : array-like of shape (n_samples, n_features)
    n_features : int

    Returns
    -------
    list of str
    """
    names = _get_feature_names(X)
    if names is None:
        names = getattr(estimator, "feature_names_in_", None)
    return [f"x{i}" for i in range(n_features)] if names is None else [str(n) for n in names]


def chosen_components(
    components: Any, n_components: int, *, at_most: int | None = None
) -> tuple[int, ...]:
    """Check which components of a code to show.

    Parameters
    ----------
    components : int, sequence of int or None
        None is the first two, or the only one.
    n_components : int
        Of the code.
    at_most : int, default=None
        How many may be shown.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If they are not distinct integers in [0, n_components), or too many.
    """
    if components is None:
        return tuple(range(min(2, n_components)))
    chosen: list[Any] = list(np.atleast_1d(np.asarray(components, dtype=object)))
    valid = all(isinstance(c, Integral) and 0 <= int(c) < n_components for c in chosen)
    if not (chosen and valid and len(set(chosen)) == len(chosen)):
        raise ValueError(
            f"{components=} must hold distinct integers in [0, {n_components}), the components "
            "of this code; pass None for the first two."
        )
    if at_most is not None and len(chosen) > at_most:
        raise ValueError(f"{components=} are too many: at most {at_most} can be shown here.")
    return tuple(map(int, chosen))


def check_count(name: str, value: Any, at_least: int = 1) -> int:
    """Check a number of things to draw.

    Parameters
    ----------
    name : str
    value : int
    at_least : int, default=1

    Returns
    -------
    int

    Raises
    ------
    ValueError
    """
    if not isinstance(value, Integral) or value < at_least:
        raise ValueError(f"{name}={value!r} must be an integer >= {at_least}.")
    return int(value)


# -- axes and artists --------------------------------------------------------------


def with_defaults(given: dict[str, Any] | None, artist: Any, **defaults: Any) -> dict[str, Any]:
    """Keywords of an artist: those given, by any alias, before the defaults.

    Parameters
    ----------
    given : dict or None
    artist : type
        Of matplotlib, whose aliases count.
    defaults : keyword arguments

    Returns
    -------
    dict
    """
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(given or {}, artist)}


def axes_for(ax: Any, figsize: tuple[float, float] | None = None) -> Any:
    """Axes to draw on: those given, or the only ones of a new figure.

    Parameters
    ----------
    ax : matplotlib Axes or None
    figsize : tuple of float, default=None
        Of the new figure, in inches.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError
    """
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
    """Rows and columns of axes: those given, in place of the ones given, or of a new figure.

    Parameters
    ----------
    ax : matplotlib Axes, array of Axes or None
    shape : tuple of int
    figsize : tuple of float
        Of the new figure, in inches.

    Returns
    -------
    ndarray of Axes of that shape

    Raises
    ------
    ValueError
        If an array has another shape, or if axes were not placed by `subplots`.
    """
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
        return np.array([axes_for(one) for one in axes.ravel()], dtype=object).reshape(shape)
    return _divided(axes_for(ax), shape)


def _divided(ax: Any, shape: tuple[int, int]) -> np.ndarray:
    """Axes in the place of others, which are switched off."""
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


def clear_up(ax: Any, *, grid: bool = True) -> None:
    """Leave out of axes what tells nothing.

    Parameters
    ----------
    ax : matplotlib Axes
    grid : bool, default=True
        Draw faint lines behind the artists.
    """
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(alpha=0.3)
        ax.set_axisbelow(True)


def place_legend(ax: Any, *, is_own: bool, **options: Any) -> Any:
    """Add a legend: beside axes of a figure of one's own, else where there is room.

    Parameters
    ----------
    ax : matplotlib Axes
    is_own : bool
    options : keyword arguments
        Of `Axes.legend`.

    Returns
    -------
    matplotlib Legend
    """
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if is_own else {"loc": "best"}
    return ax.legend(**place, frameon=not is_own, **options)


# -- images ------------------------------------------------------------------------


def check_image_shape(image_shape: Any, n_features: int) -> tuple[int, ...]:
    """Check that rows can be images of a shape.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width), or (height, width, 3) or (height, width, 4) for colours.
    n_features : int

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
    """
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


def draw_images(
    ax: Any,
    images: np.ndarray,
    limits: tuple[float, float],
    image_kw: dict[str, Any] | None,
    gap: float = 0.06,
) -> np.ndarray:
    """Draw a table of images on one pair of axes, the first row on top.

    The image in row i and column j covers the unit square around (j, i).

    Parameters
    ----------
    ax : matplotlib Axes
    images : ndarray of shape (n_rows, n_columns, height, width) or (..., 3)
    limits : tuple of float
        Values that are black and white; of colours, nothing and full.
    image_kw : dict or None
        Of `Axes.imshow`.
    gap : float, default=0.06
        Between images, as a share of their size.

    Returns
    -------
    ndarray of AxesImage of shape (n_rows, n_columns)
    """
    low, high = limits
    options = {"cmap": "gray", "vmin": low, "vmax": high, **(image_kw or {})}
    (n_rows, n_columns, height, width), half = images.shape[:4], 0.5 - gap / 2
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


def limits_of(rows: np.ndarray, image_shape: tuple[int, ...]) -> tuple[float, float]:
    """Values of the darkest and the lightest pixel.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    image_shape : tuple of int

    Returns
    -------
    tuple of float
        Of colours, (0, 1), or (0, 255) if rows exceed 1.
    """
    if len(image_shape) == 3:
        return 0.0, 255.0 if rows.max() > 1 else 1.0
    low, high = float(rows.min()), float(rows.max())
    return (low, high) if low < high else (low, low + 1)


def figure_size(aspect: float) -> tuple[float, float]:
    """Size of a figure for images side by side.

    Parameters
    ----------
    aspect : float
        Width over height of all images together.

    Returns
    -------
    tuple of float
        In inches.
    """
    width = min(9.0, max(3.0, 6.0 * aspect))
    return width + 0.8, width / aspect + 0.7
