"""Fit a linear head to codes, propagate labels, and fine-tune head and encoder."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import gen_batches

from skae._data.dataset import Dataset
from skae._data.dtypes_and_batch_sizes import rows_per_batch
from skae._data.input_checks import as_dense
from skae._estimators.supervised.label_propagation import propagate
from skae._training.progress import QUIET, Progress
from skae._training.targets import Target
from skae._training.trainer import Trained, Trainer, TrainingJob
from skae._training.validation_split import (
    MIN_UNITS_TO_TRUST_ONE_SPLIT,
    hold_out_among,
    stratified_folds,
    stratified_hold_out,
)
from skae.losses import Objective
from skae.networks.supervised import HeadedNetwork, make_head
from skae.noise import make_noise

PENALTIES = 10.0 ** np.arange(-4.0, 1.0)  # weights of squared coefficients; the mean loss has 1
FEW_ROWS = 10  # below so many labelled rows, there are no folds
MIN_LABELED_ROWS = 30  # below, head and penalty are not tuned
PENALTY_OF_FEW = 1e-2  # used if there are too few rows to choose a penalty
ALPHAS = 0.8, 0.95, 0.99
POWERS = 1.0, 1.5, 2.0, 3.0, 4.0  # inverse temperatures: propagated probabilities are too uncertain
CONFIDENCE = 0.005  # weight of the head's predictions in propagation; labels have 1
# Fine-tuning improves on its start more often than an autoencoder improves on PCA.
STANDARD_ERRORS_WAIVED = 3.0
MAX_EPOCHS = 20

Linear = tuple[np.ndarray, np.ndarray]  # coefficients (n_columns, n_components), intercepts


def linear_outputs(codes: np.ndarray, linear: Linear) -> np.ndarray:
    """Outputs (n_rows, n_columns) of a linear head."""
    return codes @ linear[0].T + linear[1]


class HeadInitializer:
    """Fits linear heads to codes of labelled rows, and chooses their penalty by cross-validation.

    `codes` (n_labeled, n_components) are scaled so that their variance is about one. `columns`
    (n_labeled, n_columns) are the encoded targets. `units` (n_labeled,) are labels of rows that
    belong together, or None. If there are too few rows, there are no folds.
    """

    def __init__(
        self,
        target: Target,
        codes: np.ndarray,
        columns: np.ndarray,
        weights: Any,
        seed: int,
        units: Any = None,
    ):
        self.target, self.codes, self.columns, self.weights = target, codes, columns, weights
        n_units = len(codes) if units is None else len(np.unique(units))
        self.units = units
        self.folds = list(stratified_folds(columns, seed, units)) if n_units >= FEW_ROWS else []
        enough = n_units >= MIN_LABELED_ROWS
        self.penalty = self._choose_penalty() if enough else PENALTY_OF_FEW

    def fit(self, index: Any = slice(None), penalty: float | None = None) -> Linear:
        """Fit a linear head to all labelled rows, or to those at an index."""
        weights = None if self.weights is None else self.weights[index]
        penalty = self.penalty if penalty is None else penalty
        return self.target.fit_linear(self.codes[index], self.columns[index], weights, penalty)

    def _choose_penalty(self) -> float:
        means = [
            self._mean_loss([self._predict(test, self.fit(train, c)) for train, test in self.folds])
            for c in PENALTIES
        ]
        return float(PENALTIES[int(np.argmin(means))])

    def _predict(self, index: np.ndarray, linear: Linear) -> np.ndarray:
        return self.target.predict(linear_outputs(self.codes[index], linear))

    def _mean_loss(self, predicted: list[np.ndarray]) -> float:
        """Mean loss of the predictions of all folds' held-out rows."""
        held_out = [test for _, test in self.folds]
        losses = [
            self.target.losses(self.columns[test], p)
            for test, p in zip(held_out, predicted, strict=True)
        ]
        weights = None if self.weights is None else self.weights[np.concatenate(held_out)]
        return float(np.average(np.concatenate(losses), weights=weights))

    def propagate(
        self, graphs: dict[str, sparse.csr_matrix], codes: np.ndarray, labeled: np.ndarray
    ) -> tuple[np.ndarray | None, str | None, float | None]:
        """Targets of all rows: those of labelled rows, averages over neighbours for the others.

        `graphs` are neighbour graphs of all `codes` by metric, `labeled` are the indices of
        labelled rows. Returns targets (n_rows, n_columns), metric and alpha. All three are None
        if the head predicts held-out targets better without propagation.
        """
        metric, alpha, power = self._choose_propagation(graphs, codes, labeled)
        if metric is None:
            return None, None, None
        targets = self._propagate(graphs[metric], codes, labeled, slice(None), alpha)
        targets = self.target.with_temperature(targets, power)
        targets[labeled] = self.columns
        return targets, metric, alpha

    def _propagate(
        self, graph: Any, codes: np.ndarray, labeled: np.ndarray, train: Any, alpha: float
    ) -> np.ndarray:
        """Propagated targets of all rows, given the targets of some labelled ones."""
        own = self.target.predict(linear_outputs(codes, self.fit(train)))
        confidences = np.full(len(codes), CONFIDENCE)
        own[labeled[train]] = self.columns[train]
        confidences[labeled[train]] = 1.0 if self.weights is None else self.weights[train]
        return self.target.prior_corrected(propagate(graph, own, confidences, alpha))

    def _choose_propagation(
        self, graphs: dict[str, sparse.csr_matrix], codes: np.ndarray, labeled: np.ndarray
    ) -> tuple[str | None, float, float]:
        """Metric, alpha and power that predict held-out targets best; None is no propagation."""
        if not self.folds:
            return None, 0.0, 1.0
        by_head = [self._predict(test, self.fit(train)) for train, test in self.folds]
        losses: dict[tuple[str | None, float, float], float] = {}
        losses |= {(None, 0.0, power): loss for power, loss in self._losses_by_power(by_head)}
        for (metric, graph), alpha in product(graphs.items(), ALPHAS):
            predicted = [
                self._propagate(graph, codes, labeled, train, alpha)[labeled[test]]
                for train, test in self.folds
            ]
            by_power = self._losses_by_power(predicted)
            losses |= {(metric, alpha, power): loss for power, loss in by_power}
        return min(losses, key=lambda key: losses[key])

    def _losses_by_power(self, predicted: list[np.ndarray]) -> Iterator[tuple[float, float]]:
        """Mean loss of the folds' predictions at each temperature."""
        for power in POWERS:
            tempered = [self.target.with_temperature(p, power) for p in predicted]
            yield power, self._mean_loss(tempered)


class FineTuning:
    """Trains a head on a fitted autoencoder, and the encoder too unless it is frozen.

    `params` are the parameters of classifier or regressor. Codes are divided by `unit`, as those
    of `initializer` are. `seeds` are those of the validation split and of the order of rows.
    """

    def __init__(
        self,
        params: dict[str, Any],
        autoencoder: Any,
        initializer: HeadInitializer,
        unit: float,
        seeds: list[int],
        progress: Progress = QUIET,
    ):
        self.params, self.autoencoder, self.initializer = params, autoencoder, initializer
        self.unit, self.n_features = unit, autoencoder.n_features_in_
        self.split_seed, self.order_seed = seeds
        fixed = {
            "optimizer": "adamw",
            "lr_schedule": "one_cycle",
            "n_iter_no_change": 1,
            "tol": 0.0,
        }
        auto = {"max_epochs": MAX_EPOCHS} if params["max_epochs"] == "auto" else {}
        self.trainer = Trainer(
            fixed | params | auto,
            Objective({"target": initializer.target.loss}, positive=False),
            True,
            torch.device(autoencoder.net_.device),
            self.split_seed,
            self.order_seed,
            standard_errors_waived=STANDARD_ERRORS_WAIVED,
            is_strict=False,
            progress=progress,
        )

    def train_on_labeled(self, X: Any) -> Trained:
        """Train on labelled rows; labelled validation rows or folds choose the weights."""
        stops, units = self.params["early_stopping"], self.initializer.units
        rows = self._make_dataset(X, self.initializer.columns, self.initializer.weights)
        vars(rows)["units"] = units
        n_rows = rows.n_units
        if self.params["freeze"] or (stops and n_rows < MIN_LABELED_ROWS):
            return self._train(self._make_network(self.initializer.fit()), rows, n_epochs=0)
        if not stops or n_rows < MIN_UNITS_TO_TRUST_ONE_SPLIT:
            network = self._make_network(self.initializer.fit())
            return self._train(network, rows, make_network=self._make_fold_network)
        share = self.params["validation_fraction"]
        train, held_out = stratified_hold_out(
            self.initializer.columns, share, self.split_seed, units
        )
        network = self._make_network(self.initializer.fit(train))
        trained = self._train(network, rows.subset(train), held_out=rows.subset(held_out))
        if trained.net.best_epoch_ == 0:  # without fine-tuning, the head is fitted to all rows
            trained.net.module_.set_head(*map(torch.from_numpy, self.initializer.fit()))
        return trained

    def train_on_propagated(
        self,
        X: Any,
        targets: np.ndarray,
        weights: np.ndarray | None,
        labeled: np.ndarray,
        units: Any = None,
    ) -> Trained:
        """Train on all rows with their propagated targets; validate on unlabelled rows.

        `units` (n_rows,) are labels of rows that belong together, or None.
        """
        rows = self._make_dataset(X, targets, weights)
        network = self._make_network(self.initializer.fit())
        unlabeled = np.setdiff1d(np.arange(len(rows)), labeled)
        share = self.params["validation_fraction"]
        train, held_out = hold_out_among(unlabeled, len(rows), share, self.split_seed, units)
        if len(held_out) == 0 or not self.params["early_stopping"]:
            return self._train(network, rows, n_epochs=self.trainer.params["max_epochs"])
        return self._train(network, rows.subset(train), held_out=rows.subset(held_out))

    def _train(self, network: HeadedNetwork, rows: Dataset, **options: Any) -> Trained:
        """Train one network."""
        return TrainingJob(self.trainer, network, rows, **options).train()

    def _make_dataset(self, X: Any, targets: np.ndarray, weights: np.ndarray | None) -> Dataset:
        """Standardized rows, with targets as extra columns."""
        rows = np.empty((X.shape[0], self.n_features), np.float32)
        for part in gen_batches(len(rows), rows_per_batch(self.n_features)):
            rows[part] = self.autoencoder._standardize(as_dense(X[part]))
        center, extra = np.zeros(self.n_features), targets.astype(np.float32)
        self.rows = Dataset(rows, center, weights=weights, extra=extra)
        return self.rows

    def _make_network(self, linear: Linear) -> HeadedNetwork:
        """A copy of the encoder with a linear head, and noise on its inputs."""
        encoder = copy.deepcopy(self.autoencoder.net_.module_)
        coefficients, intercepts = map(torch.from_numpy, linear)
        head = make_head(coefficients, intercepts, next(encoder.parameters()).dtype)
        generator = torch.Generator(self.trainer.device).manual_seed(self.order_seed)
        statistics = self.rows.feature_statistics
        noise = make_noise(self.params["noise"], self.params["noise_level"], statistics, generator)
        unit = torch.tensor(self.unit, dtype=torch.float64)
        network = HeadedNetwork(encoder, head, unit, self.n_features, noise)
        network.to(self.trainer.device).train_head_and(encoder=not self.params["freeze"])
        return network

    @torch.no_grad()
    def _make_fold_network(self, rows: Dataset) -> HeadedNetwork:
        """The network whose head is fitted to the labelled rows of a fold."""
        columns = np.asarray(rows.extra, dtype=float)
        codes = self.autoencoder._encode(np.asarray(rows.X, dtype=float)) / self.unit
        target, penalty = self.initializer.target, self.initializer.penalty
        return self._make_network(target.fit_linear(codes, columns, rows.weights, penalty))
