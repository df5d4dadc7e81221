"""Display of rows beside their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from sklearn.utils import check_consistent_length

from skae._estimators.table import TableAutoencoder
from skae._estimators.table_coordinates import column_names, coordinates_of, features_of
from skae.displays import _plotting as plotting
from skae.displays._plotting import BLUE, VERMILLION, Keywords

BAR_HEIGHT = 0.22  # inches


@dataclass(eq=False, repr=False, kw_only=True)
class ReconstructionDisplay:
    """Rows and their reconstructions as images, or the error of each feature.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Original rows.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Their reconstructions.
    X_corrupted : array-like of shape (n_samples, n_features), default=None
        Rows given to the estimator, if they differ from `X`.
    image_shape : tuple of int, default=None
        (height, width), or (height, width, 3) for colours. None draws errors of features.
    n_rows : int, default=8
        Largest number of rows drawn as images; the first ones are taken.
    max_features : int, default=30
        Largest number of features; those with the largest errors are shown.
    feature_names : sequence of str of shape (n_features,), default=None
    features : array-like of int of shape (n_columns,), default=None
        Feature that each column of the rows belongs to, if a feature has several columns, such as
        the indicators of its categories. Cells of X that are NaN are then not counted.

    Attributes
    ----------
    images_ : ndarray of matplotlib AxesImage of shape (n_stages, n_rows)
        Originals, corrupted rows if there are any, reconstructions; None without
        `image_shape`.
    bars_ : matplotlib BarContainer
        Errors of the reconstruction, the largest on top; None with images.
    points_ : matplotlib Line2D
        Errors of the corrupted rows; None with images or without corrupted rows.
    errors_, corrupted_errors_ : ndarray of shape (n_features,)
        Squared error of each feature divided by its squared distance to its mean over X; NaN
        for constant features. None with images; the latter also without corrupted rows.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import ReconstructionDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_epochs=10, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(autoencoder, X, image_shape=(8, 8))
    >>> display.images_.shape
    (2, 8)
    """

    __module__ = "skae.displays"

    X: Any = field(kw_only=False)
    X_reconstructed: Any = field(kw_only=False)
    X_corrupted: Any = None
    image_shape: tuple[int, ...] | None = None
    n_rows: int = 8
    max_features: int = 30
    feature_names: Sequence[str] | None = None
    features: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        X_corrupted: Any = None,
        image_shape: tuple[int, ...] | None = None,
        n_rows: int = 8,
        max_features: int = 30,
        ax: Any = None,
        image_kw: Keywords = None,
        bar_kw: Keywords = None,
    ) -> Self:
        """Encode and decode rows, and draw the reconstructions or their errors.

        Errors of a `TableAutoencoder` are those of its coordinates, so that columns of categories
        have one too; gaps count nothing.

        Parameters
        ----------
        estimator : estimator with `transform` and `inverse_transform`
            Fitted: of skae, PCA, or a Pipeline of steps that can all be inverted.
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Original rows; of a `TableAutoencoder`, a table.
        X_corrupted : array-like or sparse matrix or array of shape (n_samples, n_features), \
default=None
            Corrupted copies of the same rows, which the estimator is given. None gives it X.
        image_shape : tuple of int, default=None
            (height, width), or (height, width, 3) for colours: rows are drawn as images, with
            the range of X from black to white. None is the shape of the images of a
            `ConvolutionalAutoencoder`. For others, it draws the error of each feature over all
            rows of X as a share of its variance: 0 is perfect, 1 is the error of the mean of X.
        n_rows : int, default=8
            Largest number of rows drawn as images; the first ones are taken.
        max_features : int, default=30
            Largest number of features; those with the largest errors are shown.
        ax : matplotlib Axes, default=None
            None makes a figure.
        image_kw, bar_kw : dict, default=None
            Keywords of `imshow`, such as `cmap`, and of the bars.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it lacks `transform` or `inverse_transform`.
        ValueError
            If `image_shape`, `n_rows` or `max_features` are out of bounds, if the corrupted
            rows are of another shape, or if a table with categories shall be images.
        ImportError
            If matplotlib is absent.
        """
        plotting.check_estimator(cls, estimator, "transform", "inverse_transform")
        plotting.check_count("n_rows", n_rows)
        plotting.check_count("max_features", max_features)
        given = X if X_corrupted is None else X_corrupted
        table, rows = plotting.split_table(estimator, X)
        if table is not None and image_shape is None:
            rows, corrupted, reconstructed = _table_rows(
                table, rows, plotting.split_table(estimator, given)[1]
            )
            display = cls(
                rows,
                reconstructed,
                X_corrupted=None if X_corrupted is None else corrupted,
                n_rows=n_rows,
                max_features=max_features,
                feature_names=column_names(table),
                features=features_of(table),
            )
            return display.plot(ax, image_kw=image_kw, bar_kw=bar_kw)
        if table is not None:
            plotting.check_numbers(table)
        is_own = image_shape is None
        if is_own:
            image_shape = plotting.own_image_shape(estimator)
        if image_shape is not None:
            X, given = plotting.first_rows(X, n_rows), plotting.first_rows(given, n_rows)
        reconstructed = estimator.inverse_transform(estimator.transform(given))
        rows, given, restored = map(plotting.as_float_array, (X, given, reconstructed))
        if is_own and image_shape is not None:
            rows, given, restored = (
                plotting.with_channels_last(estimator, each) for each in (rows, given, restored)
            )
        display = cls(
            rows,
            restored,
            X_corrupted=None if X_corrupted is None else given,
            image_shape=image_shape,
            n_rows=n_rows,
            max_features=max_features,
            feature_names=plotting.feature_names(estimator, X, rows.shape[1]),
        )
        return display.plot(ax, image_kw=image_kw, bar_kw=bar_kw)

    def plot(self, ax: Any = None, *, image_kw: Keywords = None, bar_kw: Keywords = None) -> Self:
        """Draw the images or the errors.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        image_kw, bar_kw : dict, default=None
            As for `from_estimator`.

        Returns
        -------
        display : ReconstructionDisplay
        """
        check_consistent_length(self.X, self.X_reconstructed, self.X_corrupted)
        self.images_ = self.bars_ = self.points_ = None
        self.errors_: Any = None
        self.corrupted_errors_: Any = None
        if self.image_shape is not None:
            self.images_ = _draw_stages(self, ax, image_kw)
        else:
            self.errors_ = _relative_errors(self, self.X_reconstructed)
            if self.X_corrupted is not None:
                self.corrupted_errors_ = _relative_errors(self, self.X_corrupted)
            self.bars_, self.points_ = _draw_errors(self, ax, bar_kw)
        return self


def _table_rows(
    table: TableAutoencoder, X: Any, X_given: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of rows, NaN in gaps; of the rows given; and of their reconstructions."""
    coordinates, observed = coordinates_of(table, X)
    given = coordinates if X_given is X else coordinates_of(table, X_given)[0]
    check_consistent_length(coordinates, given)
    restored = np.asarray(table.autoencoder_.reconstruct(given))
    return np.where(observed, coordinates, np.nan), given, restored


def _relative_errors(display: ReconstructionDisplay, X_reconstructed: Any) -> np.ndarray:
    """Squared error of each feature divided by its squared distance to its mean."""
    rows = np.asarray(display.X, dtype=np.float64)
    if display.features is not None:
        return _relative_errors_of_features(display, rows, np.asarray(X_reconstructed))
    sse = np.square(rows - np.asarray(X_reconstructed)).sum(axis=0)
    total = np.square(rows - rows.mean(axis=0)).sum(axis=0)
    varies = np.ptp(rows, axis=0) > 0
    return np.where(varies, sse / np.where(varies, total, 1.0), np.nan)


def _relative_errors_of_features(
    display: ReconstructionDisplay, rows: np.ndarray, reconstructed: np.ndarray
) -> np.ndarray:
    """The same, summed over the columns of each feature and over cells that are not NaN."""
    features, names = np.asarray(display.features), display.feature_names
    n_features = features.max() + 1 if names is None else len(names)
    known = ~np.isnan(rows)
    means = np.nansum(rows, axis=0) / np.maximum(1, known.sum(axis=0))
    varies = np.fmax.reduce(rows, axis=0) > np.fmin.reduce(rows, axis=0)
    sums = [
        np.bincount(features, weights=values, minlength=n_features)
        for values in (
            np.nansum(np.square(rows - reconstructed), axis=0),
            np.nansum(np.square(rows - means), axis=0),
            varies,
        )
    ]
    return np.where(sums[2] > 0, sums[0] / np.where(sums[2] > 0, sums[1], 1.0), np.nan)


def _draw_stages(display: ReconstructionDisplay, ax: Any, image_kw: Keywords) -> np.ndarray:
    """Draw a line of images for each stage: original, corrupted, reconstruction."""
    shape = plotting.check_image_shape(display.image_shape, np.shape(display.X)[1])
    stages = {
        "original": display.X,
        "corrupted": display.X_corrupted,
        "reconstruction": display.X_reconstructed,
    }
    rows = {name: np.asarray(X)[: display.n_rows] for name, X in stages.items() if X is not None}
    images = np.array([each.reshape(-1, *shape) for each in rows.values()])
    aspect = images.shape[1] * shape[1] / (images.shape[0] * shape[0])
    ax = plotting.start_plot(display, ax, plotting.figure_size(aspect))
    drawn = plotting.draw_images(
        ax, images, plotting.pixel_limits(rows["original"], shape), image_kw
    )
    ax.set_xticks([])
    ax.set_yticks(range(len(rows)), list(rows))
    return drawn


def _draw_errors(display: ReconstructionDisplay, ax: Any, bar_kw: Keywords) -> tuple[Any, Any]:
    """Draw one bar for each feature, the largest error on top and constant features last."""
    errors = np.nan_to_num(display.errors_, nan=-1.0)
    order = np.argsort(-errors, kind="stable")[: display.max_features]
    ax = plotting.start_plot(display, ax, (6.4, 1.2 + BAR_HEIGHT * max(8, len(order))))
    places, points = np.arange(len(order)), None
    style = plotting.with_defaults(bar_kw, "patch", facecolor=BLUE, label="reconstruction")
    bars = ax.barh(places, display.errors_[order], **style)
    names = display.feature_names or [f"x{i}" for i in range(len(errors))]
    ax.set_yticks(places, [names[feature] for feature in order])
    if display.corrupted_errors_ is not None:
        style = {"color": VERMILLION, "marker": "D", "linestyle": "none", "label": "corrupted"}
        (points,) = ax.plot(display.corrupted_errors_[order], places, **style)
        ax.legend(handles=[bars, points])
    ax.set(xlabel="squared error as a share of the feature's variance")
    ax.set_xlim(left=0)
    ax.set_ylim(len(order) - 0.4, -0.6)
    plotting.style_axes(ax)
    ax.grid(visible=False, axis="y")
    return bars, points
