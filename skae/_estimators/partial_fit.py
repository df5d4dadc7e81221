"""`partial_fit`: training on rows that arrive in parts, and the state between calls."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import RealNotInt
from sklearn.utils.metaestimators import available_if

from skae._data.array_api import array_api_fit
from skae._data.dataset import Dataset
from skae._data.dtypes_and_batch_sizes import MEMORY_BYTES
from skae._data.estimator_rollback import all_or_nothing
from skae._data.input_checks import as_dense
from skae._data.input_errors import check_standardized
from skae._data.sample_weight import check_weights
from skae._data.seeds_and_devices import derive_seeds, resolve_device
from skae._data.statistics import Moments
from skae._data.threads import limited_threads
from skae._data.warnings import warn
from skae._estimators.base import BaseAutoencoder, FitData, Seeds
from skae._latent.n_components import pca_n_components
from skae._training.callbacks import check_callbacks
from skae._training.trainer import TrainingJob
from skae.densities import Gaussian

MIN_ROWS, MAX_ROWS = 500, 5000  # bounds of the number of rows that training starts with
ROWS_PER_FEATURE = 5
MIN_WINDOW, MAX_WINDOW = 1000, 10_000  # bounds of the number of rows in moving averages
SHARE_IN_WINDOW = 0.25  # of the rows so far
RATE_CUT = 0.1  # factor of the learning rate after a non-finite loss


class Stream:
    """State of `partial_fit` between calls: statistics of all rows, and state of training.

    `rows` are the moments of all rows so far: of rows in input units minus `origin` before
    training `has_started`, of standardized rows afterwards. Once training has started, centre,
    scale and anchor do not change. If `joint`, `rows` has the scatter matrix, which PCA needs.
    `low` and `high` are the minimum and maximum of each feature. `pending` are rows and weights
    that wait for more rows. `training` is the state of weights and optimizer. `averages` are
    moving averages of quantities that change with the weights.
    """

    def __init__(self, seeds: Seeds, n_features: int, *, joint: bool):
        self.seeds, self.origin = seeds, np.zeros(n_features)
        self.rows = Moments(n_features, joint=joint)
        self.low, self.high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        self.pending: tuple[Any, np.ndarray | None] = (None, None)
        self.training: dict[str, Any] | None = None
        self.n_steps = self.n_failures = 0
        self.has_started = False
        self.averages: dict[str, Moments] = {}

    def __getstate__(self) -> dict[str, Any]:
        averages = {name: vars(moments) for name, moments in self.averages.items()}
        plain = {"seeds": list(self.seeds), "rows": vars(self.rows), "averages": averages}
        return {**vars(self), **plain}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.seeds, self.rows = Seeds(*state["seeds"]), Moments.of(state["rows"])
        self.averages = {name: Moments.of(its) for name, its in state["averages"].items()}

    def update_statistics(self, rows: Dataset) -> None:
        """Add rows to the moments, minima and maxima."""
        for part in rows.parts():
            block = rows[part]
            self.rows.add(block, rows.weights_of(part))
            self.low = np.fmin(self.low, block.min(axis=0))
            self.high = np.fmax(self.high, block.max(axis=0))

    def add_pending(self, X: Any, weights: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
        """Append rows and weights to the pending ones, and return all of them."""
        old_X, old_weights = self.pending
        if old_X is not None:
            if weights is not None or old_weights is not None:
                parts = (old_X, old_weights), (X, weights)
                weights = np.concatenate(
                    [np.ones(x.shape[0]) if w is None else w for x, w in parts]
                )
            X = concatenate_rows(old_X, X)
        self.pending = X, weights
        return self.pending

    def copy_pending(self, X: Any, weights: np.ndarray | None) -> None:
        """Copy pending rows and weights if they are the caller's arrays, which may change."""
        old_X, old_weights = self.pending
        if old_X is not None and old_X is X:
            old_X = old_X.copy()
        if old_weights is not None and old_weights is weights:
            old_weights = old_weights.copy()
        self.pending = old_X, old_weights

    def average(self, name: str, value: Any, weight: float) -> np.ndarray:
        """Update the moving average of a quantity with its mean over `weight` new rows."""
        value = np.asarray(value, dtype=float)
        moments = self.averages.setdefault(name, Moments(value.size, joint=False))
        with np.errstate(over="ignore", invalid="ignore"):  # of squares, which are not used
            moments.limit(self.window()).add(value.reshape(1, -1), np.array([weight]))
        return moments.mean.reshape(value.shape)

    def window(self) -> float:
        """Number of earlier rows that a moving average counts at most."""
        return min(MAX_WINDOW, max(MIN_WINDOW, SHARE_IN_WINDOW * self.rows.count))

    def feature_statistics(self) -> dict[str, np.ndarray]:
        """Statistics as of `Dataset.feature_statistics`, over all rows so far."""
        std = np.sqrt(self.rows.scatter / self.rows.count)
        return {"mean": self.rows.mean, "std": std, "low": self.low, "high": self.high}

    def equivalent_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Weighted rows (2 * n_features, n_features) with the moments of all rows so far."""
        n_features = len(self.rows.mean)
        variances, axes = np.linalg.eigh(self.rows.scatter / self.rows.count)
        steps = np.sqrt(n_features * np.maximum(variances, 0))[:, None] * axes.T
        X = self.origin + self.rows.mean + np.concatenate([steps, -steps])
        return X, np.full(len(X), self.rows.count / len(X))


def concatenate_rows(first: Any, second: Any) -> Any:
    """Concatenate rows; the result is a CSR matrix if both are sparse, else dense."""
    if sparse.issparse(first) and sparse.issparse(second):
        return sparse.vstack([first, second], format="csr")
    return np.concatenate([X.toarray() if sparse.issparse(X) else X for X in (first, second)])


def min_rows_to_train(n_features: int) -> int:
    """Number of rows with which training starts."""
    return int(np.clip(ROWS_PER_FEATURE * n_features, MIN_ROWS, MAX_ROWS))


class IncrementalAutoencoder(BaseAutoencoder):
    """Adds `partial_fit`. All kinds derive from this class."""

    _state_classes: ClassVar[dict[str, type]] = {
        **BaseAutoencoder._state_classes,
        "_stream": Stream,
    }
    _stream: Stream

    def _start_fit(self, *args: Any) -> FitData:
        if hasattr(self, "_stream"):
            del self._stream
        return super()._start_fit(*args)

    def _ignores_y(self) -> bool:
        """Whether y is not used, so that rows can be trained on part by part."""
        if self.target_weight:
            raise AttributeError(
                f"partial_fit does not use y, but target_weight={self.target_weight}; set "
                "target_weight=0, or call fit."
            )
        return True

    @available_if(_ignores_y)
    @array_api_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train on more rows, as `sklearn.decomposition.IncrementalPCA` does.

        Training starts once there are enough rows: five per feature, but at least 500 and at
        most 5,000. Until then the model is PCA of all rows so far, or an untrained network if
        ``anchor=None``. Centre, scale and anchor are those of the rows that training starts
        with. From then on, every call trains for one epoch on its rows, at a constant learning
        rate of twice `lr`. Rows fewer than a batch (16 if "auto") wait for the next call. No rows
        are held out: `max_epochs`, `lr_schedule` and `early_stopping` are not used, and the
        result may be worse than PCA. If `n_components` is a share of variance, the number of
        components is PCA's choice until training starts, and is then chosen as in `fit` from
        the rows so far. The linear autoencoder is always PCA of all rows so far.

        The attributes are up to date after each call. `mean_` and `n_samples_` count all rows.
        Moments, order of the components and a Gaussian density change with the weights, and are
        averages over about the last quarter of the rows, at least 1,000 and at most 10,000 rows.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
        y : None
            Ignored, present for Pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of equal rows that each row counts for; None is one. Rows of weight zero are
            dropped.

        Returns
        -------
        self : object
            The estimator, which can be used, pickled and trained further.

        Raises
        ------
        ValueError
            If X is not valid for `fit`, if its number of features differs from that of the
            first rows, or if `n_components` has changed.

        Warns
        -----
        UserWarning
            If `n_components` exceeds the number of features (first call only), or if
            `latent_density` needs all rows at once and a normal distribution takes its place.
        ConvergenceWarning
            If a loss was not finite. The weights before the call are kept, and the learning
            rate is lowered.
        """
        self._validate_params()  # scikit-learn's `_fit_context` does so in the first call only
        device = resolve_device(self.device)
        check_callbacks(self.callbacks)
        self._check_continues()
        with all_or_nothing(self), torch.inference_mode(False):
            is_first = not hasattr(self, "net_")
            X = self._check_rows(X, reset=is_first)
            X, weights = check_weights(sample_weight, X, scaled=False)
            self._check_parameters(X)
            stream = self._copy_or_make_stream()
            with limited_threads(torch.get_num_threads()):
                update = self._continue if stream.has_started else self._refit
                update(stream, X, weights, device)
            stream.copy_pending(X, weights)
            self._stream = stream
            self.pca_error_ratio_ = float("nan")  # no rows are held out
            if is_first:
                self._warn_if_overcomplete()
        return self

    @property
    def n_samples_seen_(self) -> int:
        """Number of rows so far, as in IncrementalPCA."""
        return self.n_samples_

    def _check_continues(self) -> None:
        """Check `n_components` against earlier calls; warn if the density needs all rows."""
        kept = self._n_chosen() if hasattr(self, "n_components_") else None
        chosen = self.n_components is None or isinstance(self.n_components, RealNotInt)
        if kept is not None and not chosen and self.n_components != kept:
            raise ValueError(
                f"partial_fit continues with {kept} components, but "
                f"n_components={self.n_components}; use a new estimator, or call fit."
            )
        if self.latent_density not in ("auto", "gaussian", "standard_normal", "prior"):
            warn(
                f"latent_density={self.latent_density!r} needs all rows at once, so partial_fit "
                "uses a normal distribution instead. Set latent_density='gaussian'.",
                UserWarning,
            )

    def _copy_or_make_stream(self) -> Stream:
        """Return a copy of the stream of earlier calls, or a new one, which may continue a fit."""
        if hasattr(self, "_stream"):
            return copy.deepcopy(self._stream)
        d, is_pca = self.n_features_in_, self._starts_at_optimum()
        if is_pca and 8 * d**2 > MEMORY_BYTES:
            raise ValueError(
                f"partial_fit of the linear autoencoder keeps a matrix of {d} times {d} "
                "features, which is too large for memory; use "
                "sklearn.decomposition.IncrementalPCA, or hidden_layer_sizes other than ()."
            )
        stream = Stream(Seeds(*derive_seeds(self.random_state, 4)), d, joint=is_pca)
        if hasattr(self, "net_"):
            stream.rows.count = self.n_samples_
            if is_pca:  # the rows are gone, but the model has their covariance
                stream.origin = self.mean_
                stream.rows.scatter = self.get_covariance() * max(1, self.n_samples_ - 1)
            else:
                stream.has_started = True
                stream.rows.mean = (self.mean_ - self._center) / self._scale
                stream.averages["codes"] = self._previous_moments()
        return stream

    # -- before training starts ----------------------------------------------------

    def _refit(
        self, stream: Stream, X: Any, weights: np.ndarray | None, device: torch.device
    ) -> None:
        """Fit PCA to all rows so far; if there are enough rows, start training."""
        rows = self._all_rows(stream, X, weights)
        starts = not self._starts_at_optimum() and len(rows) >= min_rows_to_train(rows.shape[1])
        if isinstance(self.n_components, RealNotInt):
            self.n_components_ = pca_n_components(rows, self.n_components)
            if starts:
                self._choose_n_components(rows, device, stream.seeds, None)
        with self._seed_user_modules(stream.seeds.weights, device):
            if starts:
                network = self._make_initial_network(rows, device, stream.seeds)
            else:
                network = self._make_network(rows, stream.seeds.weights)
            trainer = self._make_trainer(rows, device, stream.seeds)
            self.net_ = TrainingJob(trainer, network, rows, n_epochs=0).train().net
        self.loss_curve_, self.validation_loss_curve_, self.n_iter_ = [], [], 0
        if starts:
            self._train_epoch(stream, rows, device)
            stream.has_started = True
            stream.rows = Moments(self.n_features_in_, joint=False)
            self._update_mean(stream, rows)
            self._update_attributes(stream, rows)
            return
        self._describe_network(rows)
        is_known = self.latent_density in ("standard_normal", "prior")
        kind = self.latent_density if is_known else "gaussian"
        self._prepare_densities(rows, stream.seeds.split, kind)

    def _all_rows(self, stream: Stream, X: Any, weights: np.ndarray | None) -> Dataset:
        """All rows so far, standardized again; for PCA, rows with the same moments."""
        if self._starts_at_optimum():
            # Moments around the first row: if the mean is large, those around zero lose digits.
            if stream.rows.count == 0:
                stream.origin = as_dense(X[:1])[0].astype(float)
            stream.update_statistics(Dataset(X, stream.origin, weights=weights))
            X, weights = stream.equivalent_rows()
        else:
            X, weights = stream.add_pending(X, weights)
        rows = self._fit_center_and_scale(X, weights, warns=False)
        self.n_samples_ = rows.count
        return rows

    # -- once training has started -------------------------------------------------

    def _continue(
        self, stream: Stream, X: Any, weights: np.ndarray | None, device: torch.device
    ) -> None:
        """Train on the pending and the new rows if they fill a batch; update the attributes."""
        pending, pending_weights = stream.add_pending(X, weights)
        rows = Dataset(X, self._center, self._scale, weights)
        with np.errstate(over="ignore"):
            for block in rows.blocks():
                check_standardized(block.astype(np.float32))  # in which networks train
        self._update_mean(stream, rows)
        trainer = self._make_trainer(rows, device, stream.seeds)
        if pending.shape[0] >= trainer.partial_fit_batch_size():
            pending_rows = Dataset(pending, self._center, self._scale, pending_weights)
            self._train_epoch(stream, pending_rows, device)
        self._update_attributes(stream, rows)

    def _train_epoch(self, stream: Stream, rows: Dataset, device: torch.device) -> None:
        """Train for one epoch on rows; afterwards no rows are pending."""
        if stream.rows.count:
            rows.known_statistics = stream.feature_statistics()
        # Each call has its own seeds, so that no state of a generator must be kept.
        sequence = np.random.SeedSequence([*stream.seeds, stream.n_steps])
        seeds = Seeds(*(int(seed) for seed in sequence.generate_state(4)))
        rate = RATE_CUT**stream.n_failures
        trainer = self._make_trainer(rows, device, seeds, rate=rate, streams=True)
        network, region = self._network_to_train(), self._region()
        with self._seed_user_modules(seeds.weights, device):
            self.net_, stream.training, n_steps = trainer.partial_fit(
                network, rows, stream.training, stream.n_steps
            )
        self._set_region(*region)
        stream.n_steps += n_steps
        stream.pending = (None, None)
        loss = self.net_.history[-1]["train_loss"]
        self.loss_curve_ = [*self.loss_curve_, loss]
        self.n_iter_ = len(self.loss_curve_)
        if not math.isfinite(loss):
            stream.training = None
            stream.n_failures += 1
            warn(
                f"The training loss became non-finite (lr={self.lr}): the weights before these "
                "rows are kept, and the learning rate is lowered to "
                f"{trainer.params['lr'] * RATE_CUT:.1g}. Lower lr.",
                ConvergenceWarning,
            )

    def _update_mean(self, stream: Stream, rows: Dataset) -> None:
        """Update the number of rows and their mean by new rows."""
        stream.update_statistics(rows)
        self.n_samples_ = round(stream.rows.count)
        self.mean_ = stream.rows.mean * self._scale + self._center

    def _update_attributes(self, stream: Stream, rows: Dataset) -> None:
        """Update moving averages; from them, set order of the code, attributes and densities."""
        n = rows.count if rows.weights is None else float(rows.weights.sum())
        self._limit_network(rows)
        codes = stream.averages.get("codes")
        codes = self._code_moments_of(rows, None if codes is None else codes.limit(stream.window()))
        stream.averages["codes"] = codes
        self._order(stream.average("jacobian", self._mean_jacobian(rows), n), codes)
        errors = np.array(self._sse_and_sst(rows)) / n
        mse, mst = stream.average("errors", errors, n)
        self._set_noise(
            rows, mse * self.n_samples_, lambda value: stream.average("noise", value, n)
        )
        explained = 1 - mse / mst if mst > 0 else 0.0
        shares = stream.average("shares", self._explained_ratios(rows, explained), n)
        self.explained_variance_ratio_ = shares * (explained / shares.sum() if shares.any() else 1)
        self.__dict__.pop("_density_sample", None)  # of an earlier fit
        self._set_residual(rows, lambda value: stream.average("residual", value, n))
        self.latent_density_ = self._density_from_moments(codes)

    def _density_from_moments(self, codes: Moments) -> Gaussian:
        """The standard normal density, or the normal density with the moments of the codes."""
        k = self.n_components_
        if self.latent_density == "standard_normal":
            return Gaussian(np.zeros(k), self._prior_covariance())
        to_code = self._rotation * self._code_scale
        mean = (codes.mean[:k] - self._code_mean) @ to_code
        return Gaussian(mean, to_code.T @ codes.covariance()[:k, :k] @ to_code)
