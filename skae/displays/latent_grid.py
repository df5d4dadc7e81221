"""Display of what a plane of codes is decoded to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skae.displays._plotting import (
    axes_for,
    check_count,
    check_image_shape,
    check_methods,
    chosen_components,
    draw_images,
    feature_names,
    figure_size,
    grid_of_axes,
    in_array,
    limits_of,
)

OUTERMOST = 0.02  # quantile that the grid of codes starts at
N_COLUMNS = 4, 5, 3  # of maps, the first that leaves fewest places empty
PANEL = 2.0  # inches
MAX_NAME = 22  # characters


class LatentGridDisplay:
    """What a plane of codes is decoded to: images over the plane, or a map of each feature.

    Parameters
    ----------
    rows : ndarray of shape (n_steps_up, n_steps_across, n_features)
        Decoded codes; of one component, ``n_steps_up`` is 1.
    values : sequence of ndarray of shape (n_steps,)
        Values of each component that is shown: across, then up.
    components : tuple of int, default=(0, 1)
        Which components these are.
    image_shape : tuple of int, default=None
        (height, width), or (height, width, 3) for colours. None draws a map of each feature.
    limits : tuple of float, default=None
        Values of the darkest and the lightest pixel. None is the range of `rows`.
    mean, std : array-like of shape (n_features,), default=0 and 1
        What the maps of features are drawn in.
    feature_names : sequence of str of shape (n_features,), default=None
    max_features : int, default=16
        Maps drawn at most: of the features that vary most over the plane.

    Attributes
    ----------
    images_ : ndarray of matplotlib AxesImage
        Of shape (n_steps_up, n_steps_across), where `image_shape` is given; else of shape
        (n_features_shown,), one map a feature.
    features_ : ndarray of int of shape (n_features_shown,)
        Which features the maps are of; None with images.
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

    def __init__(
        self,
        rows: np.ndarray,
        values: Sequence[np.ndarray],
        *,
        components: Sequence[int] = (0, 1),
        image_shape: tuple[int, ...] | None = None,
        limits: tuple[float, float] | None = None,
        mean: Any = 0.0,
        std: Any = 1.0,
        feature_names: Sequence[str] | None = None,
        max_features: int = 16,
    ):
        self.rows = rows
        self.values = values
        self.components = components
        self.image_shape = image_shape
        self.limits = limits
        self.mean = mean
        self.std = std
        self.feature_names = feature_names
        self.max_features = max_features

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
        image_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Decode a grid of codes in two components, the others at their mean.

        Parameters
        ----------
        estimator : estimator with `transform` and `inverse_transform`
            Fitted: of skae, PCA, or a Pipeline of steps that can all be inverted.
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Rows whose codes say how far the grid reaches.
        components : int or sequence of int, default=None
            One or two components, counted from 0: across, then up. None is the first two,
            or the only one.
        n_steps : int, default=10
            Values of each component, at least 2.
        spacing : {"quantiles", "range"}, default="quantiles"
            "quantiles" spaces values evenly among the codes of X, from their quantile 0.02 to
            0.98; "range" evenly from the least code to the greatest.
        image_shape : tuple of int, default=None
            (height, width), or (height, width, 3) for colours: each code is drawn as an image,
            all in the same range, that of X. None draws a map of each feature over the plane,
            less the mean of X and in standard deviations of X.
        max_features : int, default=16
            Maps drawn at most: of the features that vary most over the plane.
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
            If it cannot transform and go back.
        ValueError
            If there are no such components, or more than two; if `n_steps`, `spacing` or
            `image_shape` are out of bounds.
        ImportError
            If matplotlib is absent.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        check_methods(cls.__name__, estimator, ("transform", "inverse_transform"))
        check_count("n_steps", n_steps, at_least=2)
        codes = in_array(estimator.transform(X))
        shown = chosen_components(components, codes.shape[1], at_most=2)
        values = [_steps(codes[:, component], n_steps, spacing) for component in shown]
        n_up = len(values[1]) if len(values) > 1 else 1
        grid = np.tile(codes.mean(axis=0), (n_up, n_steps, 1))
        for component, along in zip(shown, np.meshgrid(*values), strict=True):
            grid[..., component] = along.reshape(n_up, n_steps)
        decoded = in_array(estimator.inverse_transform(grid.reshape(n_up * n_steps, -1)))
        rows = in_array(X)
        options: dict[str, Any] = {}
        if image_shape is not None:
            shape = check_image_shape(image_shape, rows.shape[1])
            options = {"image_shape": shape, "limits": limits_of(rows, shape)}
        display = cls(
            decoded.reshape(n_up, n_steps, -1),
            values,
            components=shown,
            mean=rows.mean(axis=0),
            std=rows.std(axis=0),
            feature_names=feature_names(estimator, X, rows.shape[1]),
            max_features=check_count("max_features", max_features),
            **options,
        )
        return display.plot(ax, image_kw=image_kw)

    def plot(self, ax: Any = None, *, image_kw: dict[str, Any] | None = None) -> Self:
        """Draw the plane.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
        image_kw : dict, default=None
            As for `from_estimator`.

        Returns
        -------
        display : LatentGridDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        self.features_ = self.colorbar_ = None
        if self.image_shape is None:
            maps = _in_deviations(self)
            self.features_ = _most_varying(maps, self.max_features)
            self.axes_, self.images_ = _draw_maps(self, maps, self.features_, ax, image_kw)
            self.colorbar_ = _add_colorbar(self.axes_, self.images_)
        else:
            self.axes_, self.images_ = _draw_plane_of_images(self, ax, image_kw)
        self.ax_ = self.axes_.flat[0]
        self.figure_ = self.ax_.figure
        return self


def _steps(codes: np.ndarray, n_steps: int, spacing: str) -> np.ndarray:
    """Values of one component on the grid."""
    if spacing == "quantiles":
        return np.quantile(codes, np.linspace(OUTERMOST, 1 - OUTERMOST, n_steps))
    if spacing == "range":
        return np.linspace(codes.min(), codes.max(), n_steps)
    raise ValueError(f"{spacing=} is unknown; choose 'quantiles' or 'range'.")


def _draw_plane_of_images(
    display: LatentGridDisplay, ax: Any, image_kw: dict[str, Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw each decoded code as an image at its place in the plane."""
    n_up, n_across, n_features = display.rows.shape
    shape = check_image_shape(display.image_shape, n_features)
    limits = display.limits
    if limits is None:
        limits = limits_of(display.rows.reshape(-1, n_features), shape)
    ax = axes_for(ax, figure_size(n_across * shape[1] / (n_up * shape[0])))
    images = display.rows.reshape(n_up, n_across, *shape)
    drawn = draw_images(ax, images[::-1], limits, image_kw)[::-1]  # the greatest code on top
    ax.set_xticks(range(n_across), _rounded(display.values[0]))
    ax.set_xlabel(f"component {display.components[0]}")
    ax.set_yticks([])
    if len(display.values) > 1:
        ax.set_yticks(range(n_up)[::-1], _rounded(display.values[1]))
        ax.set_ylabel(f"component {display.components[1]}")
    return np.array([[ax]], dtype=object), drawn


def _in_deviations(display: LatentGridDisplay) -> np.ndarray:
    """Decoded rows less the mean, in standard deviations; of constant features, in their unit."""
    std = np.asarray(display.std)
    return (display.rows - display.mean) / np.where(std > 0, std, 1.0)


def _draw_maps(
    display: LatentGridDisplay,
    maps: np.ndarray,
    features: np.ndarray,
    ax: Any,
    image_kw: dict[str, Any] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw each feature over the plane, all in the same range."""
    n_columns = min(len(features), min(N_COLUMNS, key=lambda n: -len(features) % n))
    n_rows = -(-len(features) // n_columns)
    axes = grid_of_axes(ax, (n_rows, n_columns), (PANEL * n_columns + 1, PANEL * n_rows + 0.4))
    low, high = maps[..., features].min(), maps[..., features].max()
    options = {"vmin": low, "vmax": high, "origin": "lower", "aspect": "auto", **(image_kw or {})}
    images = np.empty(len(features), dtype=object)
    for i, feature in enumerate(features):
        images[i] = axes.flat[i].imshow(maps[..., feature], **options)
        name = f"x{feature}" if display.feature_names is None else display.feature_names[feature]
        name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
        axes.flat[i].set_title(name, size="small")
    _label_maps(axes, len(features), display)
    return axes, images


def _add_colorbar(axes: np.ndarray, images: np.ndarray) -> Any:
    label = "standard deviations from the mean"
    return axes.flat[0].figure.colorbar(images[0], ax=list(axes.flat), label=label)


def _most_varying(maps: np.ndarray, max_features: int) -> np.ndarray:
    """Features that vary most over the plane, in the order in which they come."""
    spread = maps.std(axis=(0, 1))
    return np.sort(np.argsort(-spread, kind="stable")[:max_features])


def _label_maps(axes: np.ndarray, n_shown: int, display: LatentGridDisplay) -> None:
    """Say at the lower and the left edge which codes these are."""
    n_columns = axes.shape[1]
    for i, ax in enumerate(axes.flat):
        if i >= n_shown:
            ax.set_axis_off()
        is_lowest, is_leftmost = i + n_columns >= n_shown, i % n_columns == 0
        _label_ends(ax.xaxis, display.values[0], display.components[0], is_lowest)
        ax.set_yticks([])
        if len(display.values) > 1:
            _label_ends(ax.yaxis, display.values[1], display.components[1], is_leftmost)


def _label_ends(axis: Any, values: np.ndarray, component: int, is_outer: bool) -> None:
    """Label the first and the last step of an axis."""
    labels = _rounded(values[[0, -1]]) if is_outer else ["", ""]
    axis.set_ticks([0, len(values) - 1], labels)
    if is_outer:
        axis.set_label_text(f"component {component}")


def _rounded(values: np.ndarray) -> list[str]:
    """Numbers with as many decimals as their range asks for."""
    from matplotlib.ticker import ScalarFormatter

    span = float(np.ptp(values)) or 1.0
    decimals = 1 - int(np.floor(np.log10(span)))
    if not -3 < decimals < 5:
        return [ScalarFormatter.fix_minus(f"{value:.2g}") for value in values]
    rounded = np.round(values, max(0, decimals)) + 0.0  # no minus zero
    return [ScalarFormatter.fix_minus(f"{value:.{max(0, decimals)}f}") for value in rounded]
