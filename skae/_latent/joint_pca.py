"""The linear start of several views: a joint PCA, and what views predict of each other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model import RidgeCV

from skae._data.dataset import Dataset
from skae._data.pca import fitted_pca
from skae._data.views import Views, observed_statistics, views_there
from skae.networks.linear_vae import LinearOptimum
from skae.networks.multiview import EXPERT_BOUNDS

SAMPLE_ROWS = 5000  # largest number of rows from which predictions and private codes are fitted
# Penalties of the ridge regressions, in units of the number of rows times the mean variance.
PENALTIES = np.logspace(-5, 1, 13)
SMALLEST_WEIGHT = 0.001  # of rows that lack views
SMALLEST = 1e-12  # of divisors
SMALLEST_NOISE = 1e-9  # that gives an expert its precision


class JointPCA(NamedTuple):
    """Linear encoders and decoders of several views, as `MultiViewNetwork` has them."""

    encoding: np.ndarray  # (n_views, n_views * n_shared + n_private, n_features)
    decoding: np.ndarray  # (n_shared + n_views * n_private, n_features)
    reliability: np.ndarray  # (n_views, n_views)
    shared_in_private: np.ndarray  # (n_shared, n_views * n_private)
    hidden_weight: np.ndarray  # (): error of complete rows, over that of rows with a hidden view


class LinearExperts(NamedTuple):
    """Linear experts and decoders of several views, as `MultiViewExperts` has them."""

    encoding: np.ndarray  # (n_views, 2 * n_components, n_features)
    decoding: np.ndarray  # (n_components, n_features)
    log_variances: np.ndarray  # (n_views, n_components)
    noise_variance: np.ndarray  # (), of scaled rows
    is_mixture: np.ndarray  # (), 1 or 0


class ScaledViews(Dataset):
    """Rows whose columns are scaled, and whose missing views are predicted from the others.

    `views`, `scales` (n_features,) and `predictions` are set after the rows.
    """

    views: Views
    scales: np.ndarray
    predictions: Predictions

    def __getitem__(self, part: Any) -> np.ndarray:
        return self.filled(super().__getitem__(part))

    def in_own_precision(self, part: Any) -> np.ndarray:
        """Scaled rows in the precision of X."""
        rows = super().in_own_precision(part)
        return self.filled(rows).astype(rows.dtype, copy=False)

    def filled(self, rows: np.ndarray) -> np.ndarray:
        """Standardized rows, scaled and filled."""
        rows = rows * self.scales
        return self.predictions.fill(rows) if np.isnan(rows).any() else rows


class Predictions:
    """Ridge regressions of each view on each other view, of scaled rows.

    `maps[i][j]` (n_columns of i, n_columns of j) predicts view j from view i, and `reliability`
    (i, j) is one over its mean squared error of rows that are left out; both are zero if no row
    has both views.
    """

    def __init__(self, rows: np.ndarray, weights: Any, views: Views):
        self.views, n = views, len(views)
        self.columns = list(views.values())
        self.reliability = np.zeros((n, n))
        self.maps = [[np.zeros((len(a), len(b))) for b in self.columns] for a in self.columns]
        there = views_there(rows, views)
        for i in range(n):
            for j in range(n):
                both = there[:, i] & there[:, j]
                if i != j and both.sum() > 1:
                    some = None if weights is None else weights[both]
                    self._fit(i, j, rows[both], some)

    def _fit(self, i: int, j: int, rows: np.ndarray, weights: Any) -> None:
        X, y = rows[:, self.columns[i]], rows[:, self.columns[j]]
        unit = np.square(X).sum() / X.shape[1]
        if not unit:
            return
        ridge = RidgeCV(PENALTIES * unit, fit_intercept=False).fit(X, y, weights)
        self.maps[i][j] = ridge.coef_.reshape(y.shape[1], -1).T
        error = -float(ridge.best_score_)
        self.reliability[i, j] = 1 / max(error, SMALLEST)

    def of_view(self, i: int, j: int) -> np.ndarray:
        """Map from columns of view i to those of view j; for i itself, the identity."""
        return np.eye(len(self.columns[i])) if i == j else self.maps[i][j]

    def fill(self, rows: np.ndarray) -> np.ndarray:
        """Scaled rows whose missing views are means of predictions, weighted by reliability."""
        there, filled = views_there(rows, self.views), rows.copy()
        for j, view in enumerate(self.columns):
            gaps = np.flatnonzero(~there[:, j])
            if not len(gaps):
                continue
            weights = there[gaps] * self.reliability[:, j]
            weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), SMALLEST)
            filled[np.ix_(gaps, view)] = sum(
                weights[:, [i]] * (np.nan_to_num(rows[np.ix_(gaps, other)]) @ self.maps[i][j])
                for i, other in enumerate(self.columns)
            )
        return filled


def equal_scales(rows: Dataset, views: Views) -> np.ndarray:
    """Factors of the columns (n_features,) after which all views have the same total variance."""
    squares, scales = observed_statistics(rows)["mean_square"], np.ones(rows.shape[1])
    for columns in views.values():
        total = squares[columns].sum() * len(views)
        scales[columns] = np.sqrt(len(scales) / total) if total else 1.0
    return scales


def fit_joint_pca(
    rows: Dataset, views: Views, scales: np.ndarray, n_shared: int, n_private: int
) -> JointPCA:
    """Fit the linear start to standardized rows, whose columns are multiplied by `scales`."""
    scaled, sample = _scaled_and_filled(rows, views, scales)
    predictions = scaled.predictions
    components = scaled.principal_components(n_shared)  # (n_shared, n_features)
    n_views, k, p = len(views), n_shared, n_private
    encoding = np.zeros((n_views, n_views * k + p, rows.shape[1]))
    decoding = np.zeros((k + n_views * p, rows.shape[1]))
    decoding[:k] = components
    filled, there = scaled.filled(sample / scales), views_there(sample, views)
    left = filled - filled @ components.T @ components
    for i, view in enumerate(views.values()):
        for j, other in enumerate(views.values()):
            back = predictions.of_view(i, j)
            encoding[i][j * k : (j + 1) * k, view] = components[:, other] @ back.T
        private = _private_components(left[there[:, i]][:, view], p)
        encoding[i][n_views * k :, view] = private
        decoding[k + i * p : k + (i + 1) * p, view] = private
    return JointPCA(
        encoding * scales,
        decoding / scales,
        predictions.reliability,
        components @ decoding[k:].T,
        np.array(_hidden_weight(sample[there.all(axis=1)], predictions, components)),
    )


def fit_linear_experts(
    rows: Dataset,
    views: Views,
    scales: np.ndarray,
    n_components: int,
    beta: float,
    *,
    mixture: bool,
) -> LinearExperts:
    """Fit linear experts to standardized rows, whose columns are multiplied by `scales`.

    The decoder is that of the best linear variational autoencoder of all scaled columns, which for
    ``beta=1`` is probabilistic PCA. In a product, the precision of an expert is its view's part of
    the squared lengths of the decoder's columns, over β σ². Then the posterior of a row with all
    views is that of the linear variational autoencoder. In a mixture, the mean of an expert is
    this posterior's mean, predicted from its view by ridge regression, and its variance is the
    posterior's plus the mean squared error of the prediction.
    """
    scaled, sample = _scaled_and_filled(rows, views, scales)
    components, n_free = scaled.principal_components(n_components), max(1, rows.count - 1)
    along, residual = scaled.squares_along(components)
    n_dimensions = min(rows.count, rows.shape[1])
    best = LinearOptimum.find(along / n_free, residual / n_free, n_dimensions, beta)
    lengths, k = best.decoding(), n_components
    encoding = np.zeros((len(views), 2 * k, rows.shape[1]))
    logs = np.empty((len(views), k))
    complete = sample[views_there(sample, views).all(axis=1)]
    for i, view in enumerate(views.values()):
        if mixture:
            encoding[i][:k, view] = best.encoding()[:, None] * sum(
                components[:, other] @ scaled.predictions.of_view(i, j).T
                for j, other in enumerate(views.values())
            )
            errors = complete @ (encoding[i][:k] - best.encoding()[:, None] * components).T
            squares = np.square(errors).mean(axis=0) if len(complete) else np.zeros(k)
            variances = np.exp(best.log_variances()) + squares
        else:
            parts = lengths * np.square(components[:, view]).sum(axis=1)
            encoding[i][:k, view] = components[:, view] / np.maximum(parts, SMALLEST)[:, None]
            encoding[i][:k][parts == 0] = 0.0
            noise = max(beta * best.noise_variance, SMALLEST_NOISE)
            variances = noise / np.maximum(lengths * parts, SMALLEST)
        logs[i] = np.log(variances).clip(*EXPERT_BOUNDS)
    return LinearExperts(
        encoding * scales,
        components * lengths[:, None] / scales,
        logs,
        np.array(best.noise_variance),
        np.array(float(mixture)),
    )


def _scaled_and_filled(
    rows: Dataset, views: Views, scales: np.ndarray
) -> tuple[ScaledViews, np.ndarray]:
    """Scaled rows whose gaps are filled, and a sample of scaled rows with their gaps."""
    some = rows if len(rows) <= SAMPLE_ROWS else rows.unweighted_subset(SAMPLE_ROWS)
    sample = some[:] * scales
    scaled = ScaledViews(rows.X, rows.center, rows.scale, rows.weights)
    scaled.views, scaled.scales = views, scales
    scaled.predictions = Predictions(sample, some.weights, views)
    return scaled, sample


def _hidden_weight(rows: np.ndarray, predictions: Predictions, components: np.ndarray) -> float:
    """Squared error of scaled rows over that of the same rows with one view hidden, at most 1."""
    if len(rows) == 0:
        return 1.0

    def error(encoded: np.ndarray) -> float:
        return float(np.square(rows - encoded @ components.T @ components).mean())

    hidden = []
    for columns in predictions.columns:
        without = rows.copy()
        without[:, columns] = np.nan
        hidden.append(error(predictions.fill(without)))
    ratio = error(rows) / max(float(np.mean(hidden)), SMALLEST)
    return float(np.clip(ratio, SMALLEST_WEIGHT, 1.0))


def _private_components(left: np.ndarray, n_private: int) -> np.ndarray:
    """Principal components of what is left of a view, (n_private, n_columns); zero if no more."""
    components = np.zeros((n_private, left.shape[1]))
    n = min(n_private, *left.shape)
    if n and len(left) > 1:
        components[:n] = fitted_pca(left, n).components_
    return components
