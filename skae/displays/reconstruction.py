"""Display of rows beside what their codes restore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skae.displays._plotting import (
    BLUE,
    VERMILLION,
    axes_for,
    check_count,
    check_image_shape,
    check_methods,
    clear_up,
    draw_images,
    feature_names,
    figure_size,
    first_rows,
    in_array,
    limits_of,
    with_defaults,
)

BAR = 0.22  # inches


class ReconstructionDisplay:
    """Rows and their reconstructions as images, or the error of each feature.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows as they should be.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Rows as they are restored.
    X_corrupted : array-like of shape (n_samples, n_features), default=None
        Rows as they were given to the estimator, if not as they are in `X`.
    image_shape : tuple of int, default=None
        (height, width), or (height, width, 3) for colours. None draws errors of features.
    n_rows : int, default=8
        Images drawn at most: those of the first rows.
    max_features : int, default=30
        Features drawn at most: those of the greatest error.
    feature_names : sequence of str of shape (n_features,), default=None

    Attributes
    ----------
    images_ : ndarray of matplotlib AxesImage of shape (n_stages, n_rows)
        Originals, corrupted rows if there are any, reconstructions; None without
        `image_shape`.
    bars_ : matplotlib BarContainer
        Errors of the reconstruction, feature by feature from above; None with images.
    points_ : matplotlib Line2D
        Errors of the corrupted rows; None with images or without corrupted rows.
    errors_, corrupted_errors_ : ndarray of shape (n_features,)
        Squared error of each feature over its squared distance to its mean over X; NaN where
        a feature is constant. The latter is None without corrupted rows.
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

    errors_: Any
    corrupted_errors_: Any

    def __init__(
        self,
        X: Any,
        X_reconstructed: Any,
        *,
        X_corrupted: Any = None,
        image_shape: tuple[int, ...] | None = None,
        n_rows: int = 8,
        max_features: int = 30,
        feature_names: Sequence[str] | None = None,
    ):
        self.X = X
        self.X_reconstructed = X_reconstructed
        self.X_corrupted = X_corrupted
        self.image_shape = image_shape
        self.n_rows = n_rows
        self.max_features = max_features
        self.feature_names = feature_names

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
        image_kw: dict[str, Any] | None = None,
        bar_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Encode and decode rows and draw what becomes of them.

        Parameters
        ----------
        estimator : estimator with `transform` and `inverse_transform`
            Fitted: of skae, PCA, or a Pipeline of steps that can all be inverted.
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Rows as they should be.
        X_corrupted : array-like or sparse matrix or array of shape (n_samples, n_features), \
default=None
            The same rows as the estimator is given them, to see what it restores. None gives
            it X.
        image_shape : tuple of int, default=None
            (height, width), or (height, width, 3) for colours: rows are drawn as images, all
            in the range of X. None draws the error of each feature as a share of its
            variance, over all rows of X: 0 is perfect, 1 is what the mean of X reaches.
        n_rows : int, default=8
            Images drawn at most: those of the first rows.
        max_features : int, default=30
            Features drawn at most: those of the greatest error, which is on top.
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
            If it cannot transform and go back.
        ValueError
            If `image_shape`, `n_rows` or `max_features` are out of bounds, or if the corrupted
            rows are of another shape.
        ImportError
            If matplotlib is absent.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        check_methods(cls.__name__, estimator, ("transform", "inverse_transform"))
        check_count("n_rows", n_rows)
        check_count("max_features", max_features)
        given = X if X_corrupted is None else X_corrupted
        if image_shape is not None:
            X, given = first_rows(X, n_rows), first_rows(given, n_rows)
        restored = estimator.inverse_transform(estimator.transform(given))
        rows = in_array(X)
        if image_shape is not None:
            image_shape = check_image_shape(image_shape, rows.shape[1])
        display = cls(
            rows,
            in_array(restored),
            X_corrupted=None if X_corrupted is None else in_array(given),
            image_shape=image_shape,
            n_rows=n_rows,
            max_features=max_features,
            feature_names=feature_names(estimator, X, rows.shape[1]),
        )
        return display.plot(ax, image_kw=image_kw, bar_kw=bar_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        image_kw: dict[str, Any] | None = None,
        bar_kw: dict[str, Any] | None = None,
    ) -> Self:
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
        check_matplotlib_support(f"{type(self).__name__}.plot")
        stages = {"original": self.X, "reconstruction": self.X_reconstructed}
        if self.X_corrupted is not None:
            stages = {"original": self.X, "corrupted": self.X_corrupted, **stages}
        check_consistent_length(*stages.values())
        self.images_ = self.bars_ = self.points_ = None
        self.errors_ = self.corrupted_errors_ = None
        if self.image_shape is not None:
            shape = check_image_shape(self.image_shape, np.shape(self.X)[1])
            tables = {name: np.asarray(rows)[: self.n_rows] for name, rows in stages.items()}
            aspect = len(tables["original"]) * shape[1] / (len(tables) * shape[0])
            self.ax_ = axes_for(ax, figure_size(aspect))
            self.images_ = _draw_stages(self.ax_, tables, shape, image_kw)
        else:
            self.errors_ = _error_shares(self.X, self.X_reconstructed)
            if self.X_corrupted is not None:
                self.corrupted_errors_ = _error_shares(self.X, self.X_corrupted)
            order = _greatest(self.errors_, self.max_features)
            self.ax_ = axes_for(ax, (6.4, 1.2 + BAR * max(8, len(order))))
            self.bars_, self.points_ = _draw_errors(self, self.ax_, order, bar_kw)
        self.figure_ = self.ax_.figure
        return self


def _error_shares(X: Any, X_reconstructed: Any) -> np.ndarray:
    """Squared error of each feature over its squared distance to its mean."""
    rows = np.asarray(X, dtype=np.float64)
    lost = np.square(rows - np.asarray(X_reconstructed)).sum(axis=0)
    total = np.square(rows - rows.mean(axis=0)).sum(axis=0)
    varies = np.ptp(rows, axis=0) > 0
    return np.where(varies, lost / np.where(varies, total, 1.0), np.nan)


def _draw_stages(
    ax: Any,
    tables: dict[str, np.ndarray],
    shape: tuple[int, ...],
    image_kw: dict[str, Any] | None,
) -> np.ndarray:
    """Draw one line of images for each stage."""
    images = np.array([rows.reshape(-1, *shape) for rows in tables.values()])
    drawn = draw_images(ax, images, limits_of(tables["original"], shape), image_kw)
    ax.set_xticks([])
    ax.set_yticks(range(len(tables)), list(tables))
    return drawn


def _greatest(errors: np.ndarray, n_features: int) -> np.ndarray:
    """Features of the greatest errors, these first; constant features last."""
    return np.argsort(-np.nan_to_num(errors, nan=-1.0), kind="stable")[:n_features]


def _draw_errors(
    display: ReconstructionDisplay, ax: Any, order: np.ndarray, bar_kw: dict[str, Any] | None
) -> tuple[Any, Any]:
    """Draw one bar for each feature, from above."""
    from matplotlib.patches import Rectangle

    places, points = np.arange(len(order)), None
    style = with_defaults(bar_kw, Rectangle, facecolor=BLUE)
    bars = ax.barh(places, display.errors_[order], **{"label": "reconstruction", **style})
    names = display.feature_names or [f"x{i}" for i in range(np.shape(display.X)[1])]
    ax.set_yticks(places, [names[feature] for feature in order])
    if display.corrupted_errors_ is not None:
        looks = {"color": VERMILLION, "marker": "D", "linestyle": "none", "label": "corrupted"}
        (points,) = ax.plot(display.corrupted_errors_[order], places, **looks)
        ax.legend(handles=[bars, points])
    ax.set(xlabel="squared error as a share of the feature's variance")
    ax.set_xlim(left=0)
    ax.set_ylim(len(order) - 0.4, -0.6)
    clear_up(ax)
    ax.grid(visible=False, axis="y")
    return bars, points
