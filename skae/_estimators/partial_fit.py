"""Rows that arrive by and by: what `partial_fit` keeps between calls, and does with each."""

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

from skae._data.array_api import array_api_fit
from skae._data.dataset import Dataset
from skae._data.dtypes_and_batch_sizes import MEMORY_BYTES
from skae._data.input_checks import as_dense
from skae._data.moments import Moments
from skae._data.rollback import all_or_nothing
from skae._data.sample_weight import check_weights
from skae._data.seeds_and_devices import derive_seeds, resolve_device
from skae._data.threads import limited_threads
from skae._data.warnings import warn
from skae._estimators.base import BaseAutoencoder, FitData, Seeds
from skae._latent.n_components import pca_n_components
from skae._training.callbacks import check_callbacks
from skae._training.trainer import TrainingJob, train_networks
from skae.densities import Gaussian

MIN_ROWS, MAX_ROWS = 500, 5000  # that are waited for until training starts
ROWS_PER_FEATURE = 5
MIN_WINDOW, MAX_WINDOW = 1000, 10_000  # rows that what follows the weights is averaged over
SHARE_IN_WINDOW = 0.25  # of the rows so far
RATE_CUT = 0.1  # factor of the learning rate after a non-finite loss


class Stream:
    """What is known of the rows seen so far, and how training stands.

    Parameters
    ----------
    seeds : Seeds
    n_features : int
    joint : bool
        Whether the scatter matrix of the rows is kept, which is all that PCA needs of them.

    Attributes
    ----------
    rows : Moments
        Of all rows; once training has started, in network units.
    low, high : ndarray of shape (n_features,)
        Smallest and largest entry of each feature.
    pending : tuple
        Rows that wait until there are enough of them, and their weights.
    training : dict or None
        Weights and optimizer.
    n_steps, n_failures : int
        Of training.
    has_started : bool
        Whether training has, so that centre, scale and anchor stay.
    origin : ndarray of shape (n_features,)
        What moments of rows in input units are counted from.
    averages : dict of str to Moments
        Of what follows the weights: codes, slopes, errors and the like.
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
        """Add rows to the moments and the ranges.

        Parameters
        ----------
        rows : Dataset
        """
        for part in rows.parts():
            block = rows[part]
            self.rows.add(block, rows.weights_of(part))
            self.low = np.fmin(self.low, block.min(axis=0))
            self.high = np.fmax(self.high, block.max(axis=0))

    def add_pending(self, X: Any, weights: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
        """Let rows wait behind those that do already.

        Parameters
        ----------
        X : ndarray or CSR matrix or array of shape (n_rows, n_features)
        weights : ndarray of shape (n_rows,), or None

        Returns
        -------
        X, weights
            Of all that wait.
        """
        before, their = self.pending
        if before is not None:
            if weights is not None or their is not None:
                both = ((before, their), (X, weights))
                weights = np.concatenate(
                    [np.ones(rows.shape[0]) if w is None else w for rows, w in both]
                )
            X = concatenate_rows(before, X)
        self.pending = X, weights
        return self.pending

    def copy_pending(self, X: Any, weights: np.ndarray | None) -> None:
        """Copy what waits where it is still the caller's, who may change it.

        Parameters
        ----------
        X, weights
            Of this call.
        """
        rows, counts = self.pending
        if rows is not None and rows is X:
            rows = rows.copy()
        if counts is not None and counts is weights:
            counts = counts.copy()
        self.pending = rows, counts

    def average(self, name: str, value: Any, weight: float) -> np.ndarray:
        """Mean of a quantity over the last rows.

        Parameters
        ----------
        name : str
        value : ndarray
            Mean over the rows of this call.
        weight : float
            Their number.

        Returns
        -------
        ndarray of the shape of `value`
        """
        value = np.asarray(value, dtype=float)
        moments = self.averages.setdefault(name, Moments(value.size, joint=False))
        moments.limit(self.window()).add(value.reshape(1, -1), np.array([weight]))
        return moments.mean.reshape(value.shape)

    def window(self) -> float:
        """Rows that those before the next ones count for.

        Returns
        -------
        float
        """
        return min(MAX_WINDOW, max(MIN_WINDOW, SHARE_IN_WINDOW * self.rows.count))

    def feature_statistics(self) -> dict[str, np.ndarray]:
        """What `Rows.ranges` returns, of all rows so far.

        Returns
        -------
        dict of str to ndarray of shape (n_features,)
        """
        std = np.sqrt(self.rows.scatter / self.rows.count)
        return {"mean": self.rows.mean, "std": std, "low": self.low, "high": self.high}

    def equivalent_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows, two a feature, and weights, whose mean and scatter are those of all rows.

        Returns
        -------
        X : ndarray of shape (2 * n_features, n_features)
        weights : ndarray of shape (2 * n_features,)
        """
        n_features = len(self.rows.mean)
        variances, axes = np.linalg.eigh(self.rows.scatter / self.rows.count)
        steps = np.sqrt(n_features * np.maximum(variances, 0))[:, None] * axes.T
        X = self.origin + self.rows.mean + np.concatenate([steps, -steps])
        return X, np.full(len(X), self.rows.count / len(X))


def concatenate_rows(first: Any, second: Any) -> Any:
    """Rows of two arrays one below the other; sparse if both are.

    Parameters
    ----------
    first, second : ndarray or CSR matrix or array of shape (n_rows, n_features)

    Returns
    -------
    ndarray or CSR matrix or array
    """
    if sparse.issparse(first) and sparse.issparse(second):
        return sparse.vstack([first, second], format="csr")
    return np.concatenate([X.toarray() if sparse.issparse(X) else X for X in (first, second)])


class IncrementalAutoencoder(BaseAutoencoder):
    """Adds `partial_fit` to the steps of `fit`: the class that kinds derive from."""

    _state_classes: ClassVar[dict[str, type]] = {
        **BaseAutoencoder._state_classes,
        "_stream": Stream,
    }
    _stream: Stream

    def _start_fit(self, X: Any, sample_weight: Any = None, X_val: Any = None) -> FitData:
        if hasattr(self, "_stream"):
            del self._stream
        return super()._start_fit(X, sample_weight, X_val)

    @array_api_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from more rows, as `sklearn.decomposition.IncrementalPCA` does.

        The first rows wait until there are enough of them (five a feature, but at least 500
        and at most 5,000). Until then the model is PCA of all rows so far, or an untrained
        network without an anchor. Then centre, scale and anchor stay, and every call trains
        for one epoch on the rows it brings, at a constant rate of twice `lr`; rows fewer than
        a batch (16 if "auto") wait for the next call. Nothing is held out: `max_epochs`,
        `lr_schedule` and `early_stopping` play no part, and there is no promise about PCA. A
        share of variance as `n_components` is PCA's choice until training starts, and is then
        settled by the rows that waited. The linear autoencoder remains PCA of all rows so far.

        What describes the model is current after each call. The mean and the number of rows
        are of all rows; moments, order of the components and a Gaussian density follow the
        weights: they are averaged over about the last quarter of the rows, at least 1,000 and
        at most 10,000.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
        y : None
            Ignored, present for Pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            How many rows each stands for, one as any other. Rows of weight zero are dropped.

        Returns
        -------
        self : object
            The estimator, which can be used, pickled, and continued.

        Raises
        ------
        ValueError
            If X is bad as for `fit` or its width differs from that of the first rows, or if
            `n_components` has changed.

        Warns
        -----
        UserWarning
            If `n_components` exceeds the number of features (first call only), or if
            `latent_density` cannot follow and a normal distribution takes its place.
        ConvergenceWarning
            If a loss was not finite: the weights before the call are kept, and the learning
            rate is lowered.
        """
        self._validate_params()  # scikit-learn does so only before the first call
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
                follow = self._continue if stream.has_started else self._refit
                follow(stream, X, weights, device)
            stream.copy_pending(X, weights)
            self._stream = stream
            if is_first:
                self._warn_if_overcomplete()
        return self

    @property
    def n_samples_seen_(self) -> int:
        """Number of rows, as IncrementalPCA's."""
        return self.n_samples_

    def _check_continues(self) -> None:
        """Refuse another number of components, and name what needs all rows at once."""
        kept = getattr(self, "n_components_", None)
        chosen = self.n_components is None or isinstance(self.n_components, RealNotInt)
        if kept is not None and not chosen and self.n_components != kept:
            raise ValueError(
                f"partial_fit continues with {kept} components, but "
                f"n_components={self.n_components}; use a new estimator, or fit."
            )
        if self.latent_density not in ("auto", "gaussian", "standard_normal"):
            warn(
                f"latent_density={self.latent_density!r} cannot follow rows that arrive by and "
                "by: a normal distribution takes its place, as of latent_density='gaussian'.",
                UserWarning,
            )

    def _copy_or_make_stream(self) -> Stream:
        """Return a copy of the stream so far, or one that continues a fit, or a new one."""
        if hasattr(self, "_stream"):
            return copy.deepcopy(self._stream)
        d, is_solved = self.n_features_in_, self._starts_at_optimum()
        if is_solved and 8 * d**2 > MEMORY_BYTES:
            raise ValueError(
                f"partial_fit of the linear autoencoder keeps a matrix of {d} times {d} "
                "features, too large for memory; use sklearn.decomposition.IncrementalPCA, or "
                "hidden_layer_sizes other than ()."
            )
        stream = Stream(Seeds(*derive_seeds(self.random_state, 4)), d, joint=is_solved)
        if hasattr(self, "net_"):
            stream.rows.count = self.n_samples_
            if is_solved:  # of rows that are gone, what the model says of them is left
                stream.origin = self.mean_
                stream.rows.scatter = self.get_covariance() * max(1, self.n_samples_ - 1)
            else:
                stream.has_started = True
                stream.rows.mean = self._standardized_mean()
                stream.averages["codes"] = self._previous_moments()
        return stream

    def _standardized_mean(self) -> np.ndarray:
        return (self.mean_ - self._center) / self._scale

    # -- before training starts ----------------------------------------------------

    def _refit(
        self, stream: Stream, X: Any, weights: np.ndarray | None, device: torch.device
    ) -> None:
        """Start anew from all rows so far; train if there are enough."""
        if self._starts_at_optimum():
            # Around the first row, so that a large offset costs no digits.
            if stream.rows.count == 0:
                stream.origin = as_dense(X[:1])[0].astype(float)
            stream.update_statistics(Dataset(X, stream.origin, weights=weights))
            X, weights = stream.equivalent_rows()
        else:
            X, weights = stream.add_pending(X, weights)
        rows = self._fit_center_and_scale(X, weights, warns=False)
        self.n_samples_ = rows.count
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
            (trained,) = train_networks([TrainingJob(trainer, network, rows, n_epochs=0)])
            self.net_ = trained.net
        self.loss_curve_, self.validation_loss_curve_, self.n_iter_ = [], [], 0
        if starts:
            stream.has_started = True
            self._train_epoch(stream, rows, device)
            stream.rows = Moments(self.n_features_in_, joint=False)
            self._update_mean(stream, rows)
            self._update_attributes(stream, rows)
            return
        self._describe_network(rows)
        kind = "standard_normal" if self.latent_density == "standard_normal" else "gaussian"
        self._fit_density(rows, stream.seeds.split, kind)

    # -- from then on --------------------------------------------------------------

    def _continue(
        self, stream: Stream, X: Any, weights: np.ndarray | None, device: torch.device
    ) -> None:
        """Train on what arrives, as soon as it fills a batch; describe what came of it."""
        waiting = Dataset(*self._to_rows(*stream.add_pending(X, weights)))
        rows = Dataset(*self._to_rows(X, weights))
        trainer = self._make_trainer(rows, device, stream.seeds)
        self._update_mean(stream, rows)
        if len(waiting) >= trainer.partial_fit_batch_size():
            self._train_epoch(stream, waiting, device)
        self._update_attributes(stream, rows)

    def _to_rows(self, X: Any, weights: np.ndarray | None) -> tuple[Any, ...]:
        return X, self._center, self._scale, weights

    def _train_epoch(self, stream: Stream, rows: Dataset, device: torch.device) -> None:
        """Train for one epoch on rows, which then wait no longer."""
        if stream.rows.count:
            rows.known_statistics = stream.feature_statistics()
        # Other draws in each call, though a generator's state need not be kept.
        sequence = np.random.SeedSequence([*stream.seeds, stream.n_steps])
        seeds = Seeds(*(int(seed) for seed in sequence.generate_state(4)))
        trainer = self._make_trainer(rows, device, seeds, rate=RATE_CUT**stream.n_failures)
        network = self._set_trainable(copy.deepcopy(self.net_.module_))
        with self._seed_user_modules(seeds.weights, device):
            self.net_, stream.training, n_steps = trainer.partial_fit(
                network, rows, stream.training, stream.n_steps
            )
        stream.n_steps += n_steps
        loss = self.net_.history[-1]["train_loss"]
        self.loss_curve_ = [*self.loss_curve_, loss]
        self.n_iter_ = len(self.loss_curve_)
        stream.pending = (None, None)
        if not math.isfinite(loss):
            stream.training = None
            stream.n_failures += 1
            warn(
                "The training loss became non-finite: the weights before these rows are kept, "
                f"and the learning rate is lowered to {trainer.params['lr'] * RATE_CUT:.1g}. "
                "Lower lr.",
                ConvergenceWarning,
            )

    def _update_mean(self, stream: Stream, rows: Dataset) -> None:
        """Count rows in: their number, mean and ranges."""
        stream.update_statistics(rows)
        self.n_samples_ = round(stream.rows.count)
        self.mean_ = stream.rows.mean * self._scale + self._center

    def _update_attributes(self, stream: Stream, rows: Dataset) -> None:
        """Describe the model by what these rows and those before them say of it."""
        n = rows.count if rows.weights is None else float(rows.weights.sum())
        codes = stream.averages.get("codes")
        codes = self._code_moments_of(rows, None if codes is None else codes.limit(stream.window()))
        stream.averages["codes"] = codes
        self._order(stream.average("slopes", self._mean_jacobian(rows), n), codes)
        errors = np.array([self._sse(rows), self._sst(rows)]) / n
        mse, mst = stream.average("errors", errors, n)
        self._set_noise(
            rows, mse * self.n_samples_, lambda value: stream.average("noise", value, n)
        )
        explained = 1 - mse / mst if mst > 0 else 0.0
        shares = stream.average("shares", self._explained_ratios(rows, explained), n)
        self.explained_variance_ratio_ = shares * (explained / shares.sum() if shares.any() else 1)
        self._set_residual(rows, lambda value: stream.average("residual", value, n))
        self.latent_density_ = self._density_from_moments(codes)

    def _density_from_moments(self, codes: Moments) -> Gaussian:
        """Prior, or the normal distribution that has the moments of the codes."""
        k = self.n_components_
        if self.latent_density == "standard_normal":
            return Gaussian(np.zeros(k), self._prior_covariance())
        to_code = self._rotation * self._code_scale
        mean = (codes.mean[:k] - self._code_mean) @ to_code
        return Gaussian(mean, to_code.T @ codes.covariance()[:k, :k] @ to_code)


def min_rows_to_train(n_features: int) -> int:
    """Rows that wait until training starts.

    Parameters
    ----------
    n_features : int

    Returns
    -------
    int
    """
    return int(np.clip(ROWS_PER_FEATURE * n_features, MIN_ROWS, MAX_ROWS))
