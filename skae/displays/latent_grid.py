"""Display of decoded codes on a grid in two components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np

from skae._estimators.table import TableAutoencoder
from skae._estimators.table_coordinates import (
    cells_of,
    coordinate_names,
    coordinates_of,
    in_order_of_columns,
)
from skae.displays import _plotting as plotting
from skae.displays._plotting import Keywords

OUTER_QUANTILES = 0.02, 0.98  # of the codes, between which the grid lies
COLUMN_COUNTS = 4, 5, 3  # for maps: the first one that leaves fewest places empty is taken
PANEL = 2.0  # inches
MAX_NAME = 22  # characters


@dataclass(eq=False, repr=False, kw_only=True)
class LatentGridDisplay:
    """Codes of a grid in two components, decoded: an image for each, or a map of each feature.

    Parameters
    ----------
    rows : ndarray of shape (n_steps_up, n_steps_across, n_features)
        Decoded codes; with one component, ``n_steps_up`` is 1.
    values : sequence of ndarray of shape (n_steps,)
        Values of each component on the grid: across, then up.
    components : tuple of int, default=(0, 1)
        Which components these are.
    image_shape : tuple of int, default=None
        (height, width), or (height, width, 3) for colours. None draws a map of each feature.
    limits : tuple of float, default=None
        Values of the darkest and the lightest pixel. None is the range of `rows`.
    mean, std : array-like of shape (n_features,), default=0 and 1
        Maps show features less `mean`, divided by `std`.
    feature_names : sequence of str of shape (n_features,), default=None
    max_features : int, default=16
        Largest number of maps; the features that vary most over the grid are shown.

    Attributes
    ----------
    images_ : ndarray of matplotlib AxesImage
        Of shape (n_steps_up, n_steps_across) if `image_shape` is given; else of shape
        (n_features_shown,), one map per feature.
    features_ : ndarray of int of shape (n_features_shown,)
        Features that have a map; None with images.
    colorbar_ : matplotlib Colorbar
        Of the maps; None with images.
    ax_ : matplotlib Axes
        The axes of the images, or of the first map.
    axes_ : ndarray of Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import LatentGridDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(2, max_epochs=10, random_state=0).fit(X)
    >>> display = LatentGridDisplay.from_estimator(autoencoder, X, image_shape=(8, 8))
    >>> display.images_.shape
    (10, 10)
    """

    __module__ = "skae.displays"

    rows: np.ndarray = field(kw_only=False)
    values: Sequence[np.ndarray] = field(kw_only=False)
    components: Sequence[int] = (0, 1)
    image_shape: tuple[int, ...] | None = None
    limits: tuple[float, float] | None = None
    mean: Any = 0.0
    std: Any = 1.0
    feature_names: Sequence[str] | None = None
    max_features: int = 16

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        components: int | Sequence[int] | None = None,
        n_steps: int = 10,
        spacing: str = "quantiles",
        image_shape: tuple[int, ...] | None = None,
        max_features: int = 16,
        ax: Any = None,
        image_kw: Keywords = None,
    ) -> Self:
        """Decode a grid of codes in two components, the others at their mean.

        Of a `TableAutoencoder` there is a map of each number, and one of the share of each
        category.

        Parameters
        ----------
        estimator : estimator with `transform` and `inverse_transform`
            Fitted: of skae, PCA, or a Pipeline of steps that can all be inverted.
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Rows; their codes determine the extent of the grid.
        components : int or sequence of int, default=None
            One or two components, counted from 0: across, then up. None is the first two,
            or the only one.
        n_steps : int, default=10
            Values of each component, at least 2.
        spacing : {"quantiles", "range"}, default="quantiles"
            "quantiles" takes evenly spaced quantiles of the codes of X, from 0.02 to 0.98;
            "range" evenly spaced values from the smallest code to the largest.
        image_shape : tuple of int, default=None
            (height, width), or (height, width, 3) for colours: each decoded code is an image,
            with the range of X from black to white. None is the shape of the images of a
            `ConvolutionalAutoencoder`. For others, it draws a map of each feature over the grid,
            in standard deviations of X from the mean of X.
        max_features : int, default=16
            Largest number of maps; the features that vary most over the grid are shown.
        ax : matplotlib Axes or array of Axes, default=None
            For maps, as many axes as maps, or axes that are divided. None makes a figure.
        image_kw : dict, default=None
            Keywords of `imshow`, such as `cmap`.

        Returns
        -------
        display : LatentGridDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it lacks `transform` or `inverse_transform`.
        ValueError
            If there are no such components, or more than two; if `n_steps`, `spacing` or
            `image_shape` are out of bounds; or if a table with categories shall be images.
        ImportError
            If matplotlib is absent.
        """
        plotting.check_estimator(cls, estimator, "transform", "inverse_transform")
        plotting.check_count("n_steps", n_steps, at_least=2)
        table, of_table = plotting.split_table(estimator, X)
        if table is not None and image_shape is not None:
            plotting.check_numbers(table)
        codes = plotting.as_float_array(estimator.transform(X))
        shown = plotting.check_components(components, codes.shape[1], at_most=2)
        values = [_grid_values(codes[:, component], n_steps, spacing) for component in shown]
        if table is not None and image_shape is None:
            order = in_order_of_columns(table)
            names = np.array(coordinate_names(table))[order].tolist()
            rows = cells_of(table, coordinates_of(table, of_table)[0])[:, order]
            decode = partial(_decode_cells, table)
        else:
            rows, decode = plotting.as_float_array(X), estimator.inverse_transform
            names = plotting.feature_names(estimator, X, rows.shape[1])
        decoded = _decode_grid(decode, codes.mean(axis=0), shown, values)
        if image_shape is None and (own := plotting.own_image_shape(estimator)) is not None:
            rows, decoded = (
                plotting.with_channels_last(estimator, each) for each in (rows, decoded)
            )
            image_shape = own
        limits = None
        if image_shape is not None:
            image_shape = plotting.check_image_shape(image_shape, rows.shape[1])
            limits = plotting.pixel_limits(rows, image_shape)
        display = cls(
            decoded,
            values,
            components=shown,
            image_shape=image_shape,
            limits=limits,
            mean=rows.mean(axis=0),
            std=rows.std(axis=0),
            feature_names=names,
            max_features=plotting.check_count("max_features", max_features),
        )
        return display.plot(ax, image_kw=image_kw)

    def plot(self, ax: Any = None, *, image_kw: Keywords = None) -> Self:
        """Draw the images or the maps.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
        image_kw : dict, default=None
            As for `from_estimator`.

        Returns
        -------
        display : LatentGridDisplay
        """
        plotting.check_matplotlib(self)
        self.features_: Any = None
        self.colorbar_ = None
        if self.image_shape is None:
            maps = _standardize(self)
            self.features_ = _most_varying(maps, self.max_features)
            self.axes_, self.images_ = _draw_maps(self, maps[..., self.features_], ax, image_kw)
            self.colorbar_ = _add_colorbar(self.axes_, self.images_)
        else:
            self.axes_, self.images_ = _draw_grid_of_images(self, ax, image_kw)
        self.ax_ = self.axes_.flat[0]
        self.figure_ = self.ax_.figure
        return self


# -- decoding ----------------------------------------------------------------------


def _grid_values(codes: np.ndarray, n_steps: int, spacing: str) -> np.ndarray:
    """Values of one component on the grid."""
    if spacing == "quantiles":
        return np.quantile(codes, np.linspace(*OUTER_QUANTILES, n_steps))
    if spacing == "range":
        return np.linspace(codes.min(), codes.max(), n_steps)
    raise ValueError(f"{spacing=} is unknown; choose 'quantiles' or 'range'.")


def _decode_cells(table: TableAutoencoder, codes: np.ndarray) -> np.ndarray:
    """Numbers, and shares of categories, of codes."""
    cells = cells_of(table, np.asarray(table.autoencoder_.inverse_transform(codes)))
    return cells[:, in_order_of_columns(table)]


def _decode_grid(
    decode: Callable[[Any], Any],
    mean: np.ndarray,
    shown: Sequence[int],
    values: Sequence[np.ndarray],
) -> np.ndarray:
    """Decode codes of the grid, other components at their mean: (n_up, n_across, n_features)."""
    shape = (len(values[1]) if len(values) > 1 else 1, len(values[0]))
    grid = np.tile(mean, (*shape, 1))
    for component, along in zip(shown, np.meshgrid(*values), strict=True):
        grid[..., component] = along.reshape(shape)
    decoded = plotting.as_float_array(decode(grid.reshape(-1, len(mean))))
    return decoded.reshape(*shape, -1)


def _standardize(display: LatentGridDisplay) -> np.ndarray:
    """Decoded rows in standard deviations from the mean; constant features in their own unit."""
    std = np.asarray(display.std)
    return (display.rows - display.mean) / np.where(std > 0, std, 1.0)


def _most_varying(maps: np.ndarray, max_features: int) -> np.ndarray:
    """Features that vary most over the grid, in their own order."""
    spread = maps.std(axis=(0, 1))
    return np.sort(np.argsort(-spread, kind="stable")[:max_features])


# -- images ------------------------------------------------------------------------


def _draw_grid_of_images(
    display: LatentGridDisplay, ax: Any, image_kw: Keywords
) -> tuple[np.ndarray, np.ndarray]:
    """Draw each decoded code as an image at its place on the grid."""
    n_up, n_across, n_features = display.rows.shape
    shape = plotting.check_image_shape(display.image_shape, n_features)
    limits = display.limits
    if limits is None:
        limits = plotting.pixel_limits(display.rows.reshape(-1, n_features), shape)
    ax = plotting.axes_or_new(ax, plotting.figure_size(n_across * shape[1] / (n_up * shape[0])))
    images = display.rows.reshape(n_up, n_across, *shape)[::-1]  # the largest code on top
    drawn = plotting.draw_images(ax, images, limits, image_kw)[::-1]
    ax.set_xticks(range(n_across), _tick_labels(display.values[0]))
    ax.set_xlabel(f"component {display.components[0]}")
    ax.set_yticks([])
    if len(display.values) > 1:
        ax.set_yticks(range(n_up)[::-1], _tick_labels(display.values[1]))
        ax.set_ylabel(f"component {display.components[1]}")
    return np.array([[ax]], dtype=object), drawn


# -- maps --------------------------------------------------------------------------


def _draw_maps(
    display: LatentGridDisplay, maps: np.ndarray, ax: Any, image_kw: Keywords
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the map of each feature that is shown, all in the same range."""
    n_maps = maps.shape[-1]
    n_columns = min(n_maps, min(COLUMN_COUNTS, key=lambda n: -n_maps % n))
    n_rows = -(-n_maps // n_columns)
    axes = plotting.grid_of_axes(
        ax, (n_rows, n_columns), (PANEL * n_columns + 1, PANEL * n_rows + 0.4)
    )
    options = {"vmin": maps.min(), "vmax": maps.max(), "origin": "lower", "aspect": "auto"}
    images = np.empty(n_maps, dtype=object)
    for i, feature in enumerate(display.features_):
        images[i] = axes.flat[i].imshow(maps[..., i], **{**options, **(image_kw or {})})
        name = f"x{feature}" if display.feature_names is None else display.feature_names[feature]
        axes.flat[i].set_title(plotting.shorten(name, MAX_NAME), size="small")
    _label_maps(axes, n_maps, display)
    return axes, images


def _add_colorbar(axes: np.ndarray, images: np.ndarray) -> Any:
    label = "standard deviations from the mean"
    return axes.flat[0].figure.colorbar(images[0], ax=list(axes.flat), label=label)


def _label_maps(axes: np.ndarray, n_maps: int, display: LatentGridDisplay) -> None:
    """Label the lowest and the leftmost maps with components, and switch unused axes off."""
    n_columns = axes.shape[1]
    for i, ax in enumerate(axes.flat):
        if i >= n_maps:
            ax.set_axis_off()
        is_lowest, is_leftmost = i + n_columns >= n_maps, i % n_columns == 0
        _label_ends(ax.xaxis, display.values[0], display.components[0], is_lowest)
        ax.set_yticks([])
        if len(display.values) > 1:
            _label_ends(ax.yaxis, display.values[1], display.components[1], is_leftmost)


def _label_ends(axis: Any, values: np.ndarray, component: int, is_outer: bool) -> None:
    """Label the first and the last value on an axis."""
    labels = _tick_labels(values[[0, -1]]) if is_outer else ["", ""]
    axis.set_ticks([0, len(values) - 1], labels)
    if is_outer:
        axis.set_label_text(f"component {component}")


def _tick_labels(values: np.ndarray) -> list[str]:
    """Numbers with two digits at the scale of their range."""
    from matplotlib.ticker import ScalarFormatter

    span = float(np.ptp(values)) or 1.0
    decimals = 1 - int(np.floor(np.log10(span)))
    if not -3 < decimals < 5:
        return [ScalarFormatter.fix_minus(f"{value:.2g}") for value in values]
    rounded = np.round(values, max(0, decimals)) + 0.0  # no minus zero
    return [ScalarFormatter.fix_minus(f"{value:.{max(0, decimals)}f}") for value in rounded]
