"""How a head on codes is fitted, and how it and the encoder are trained on."""

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
from skae._estimators.supervised.targets import Target
from skae._training.trainer import Trained, Trainer, TrainingJob, train_networks
from skae._training.validation_split import (
    MIN_ROWS_TO_HOLD_OUT,
    MIN_ROWS_TO_TRUST_ONE_SPLIT,
    stratified_folds,
    stratified_hold_out,
)
from skae.losses import Objective
from skae.networks.dense import MLP
from skae.networks.supervised import HeadedNetwork
from skae.noise import make_noise

PENALTIES = 10.0 ** np.arange(-4.0, 1.0)  # of squared coefficients, against the mean loss
FEW_ROWS = 10  # too few to judge anything by
PENALTY_OF_FEW = 1e-2  # of too few rows to hold some out for the penalty
ALPHAS = 0.8, 0.95, 0.99
POWERS = 1.0, 1.5, 2.0, 3.0, 4.0  # of probabilities, which spreading makes too uncertain
CONFIDENCE = 0.005  # of what the head predicts itself, where that of labels is one
STANDARD_ERRORS_WAIVED = (
    3.0  # standard errors less than for leaving PCA: fine-tuning gains more often
)
MAX_EPOCHS = 20

Linear = tuple[np.ndarray, np.ndarray]


def linear_outputs(codes: np.ndarray, linear: Linear) -> np.ndarray:
    """What a linear head makes of codes.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_components)
    linear : tuple of ndarray
        Coefficients and intercepts.

    Returns
    -------
    ndarray of shape (n_rows, n_columns)
    """
    return codes @ linear[0].T + linear[1]


class HeadInitializer:
    """Fits linear heads to codes and finds out what suits them by cross-validation.

    Parameters
    ----------
    target : Target
    codes : ndarray of shape (n_labelled, n_components)
        In a unit that is about their size.
    columns : ndarray of shape (n_labelled, n_columns)
    weights : ndarray of shape (n_labelled,), or None
    seed : int
        Of the folds.

    Attributes
    ----------
    penalty : float
        Under which linear heads predict best what they were not fitted to.
    """

    def __init__(
        self, target: Target, codes: np.ndarray, columns: np.ndarray, weights: Any, seed: int
    ):
        self.target, self.codes, self.columns, self.weights = target, codes, columns, weights
        self.folds = list(stratified_folds(columns, seed)) if len(codes) >= FEW_ROWS else []
        enough = len(codes) >= MIN_ROWS_TO_HOLD_OUT
        self.penalty = self._choose_penalty() if enough else PENALTY_OF_FEW

    def fit(self, index: Any = slice(None)) -> Linear:
        """Fit a head to some of the labelled rows.

        Parameters
        ----------
        index : slice or ndarray of int
            All, if not given.

        Returns
        -------
        tuple of ndarray
        """
        return self._fit(index, self.penalty)

    def _fit(self, index: Any, penalty: float) -> Linear:
        weights = None if self.weights is None else self.weights[index]
        return self.target.fit_linear(self.codes[index], self.columns[index], weights, penalty)

    def _mean(self, losses: list[np.ndarray]) -> float:
        """Mean over the held-out rows of all folds."""
        held_out = np.concatenate([held_out for _, held_out in self.folds])
        weights = None if self.weights is None else self.weights[held_out]
        return float(np.average(np.concatenate(losses), weights=weights))

    def _losses(self, held_out: np.ndarray, linear: Linear) -> np.ndarray:
        predicted = self.target.predict(linear_outputs(self.codes[held_out], linear))
        return self.target.losses(self.columns[held_out], predicted)

    def _choose_penalty(self) -> float:
        means = [
            self._mean(
                [
                    self._losses(held_out, self._fit(train, penalty))
                    for train, held_out in self.folds
                ]
            )
            for penalty in PENALTIES
        ]
        return float(PENALTIES[int(np.argmin(means))])

    def propagate(
        self, graphs: dict[str, sparse.csr_matrix], codes: np.ndarray, labeled: np.ndarray
    ) -> tuple[np.ndarray | None, str | None, float | None]:
        """Targets of all rows: known ones as they are, others taken from around them.

        Parameters
        ----------
        graphs : dict of csr_matrix of shape (n_rows, n_rows)
        codes : ndarray of shape (n_rows, n_components)
        labeled : ndarray of int
            Indices of the rows whose targets are known.

        Returns
        -------
        targets : ndarray of shape (n_rows, n_columns), or None
            None if held-out targets are not predicted better so than by the head alone.
        metric : str or None
            Which graph they were spread over.
        alpha : float or None
            How far they were spread.
        """
        metric, alpha, power = self._choose_propagation(graphs, codes, labeled)
        if metric is None:
            return None, None, None
        targets = self._propagate(graphs[metric], codes, labeled, slice(None), alpha)
        targets = self.target.with_temperature(targets, power)
        targets[labeled] = self.columns
        return targets, metric, alpha

    def _propagate(
        self, graph: Any, codes: np.ndarray, labeled: np.ndarray, known: Any, alpha: float
    ) -> np.ndarray:
        """Targets around all rows, given some of those that are known."""
        own = self.target.predict(linear_outputs(codes, self.fit(known)))
        confidences = np.full(len(codes), CONFIDENCE)
        own[labeled[known]] = self.columns[known]
        confidences[labeled[known]] = 1.0 if self.weights is None else self.weights[known]
        return self.target.prior_corrected(propagate(graph, own, confidences, alpha))

    def _choose_propagation(
        self, graphs: dict[str, sparse.csr_matrix], codes: np.ndarray, labeled: np.ndarray
    ) -> tuple[str | None, float, float]:
        """Metric, reach and power that predict held-out targets best; no metric: the head."""
        if not self.folds:
            return None, 0.0, 1.0
        alone = [
            self.target.predict(linear_outputs(self.codes[test], self.fit(train)))
            for train, test in self.folds
        ]
        found: dict[tuple[str | None, float, float], float] = {}
        found |= {(None, 0.0, power): loss for power, loss in self._losses_by_power(alone)}
        for (metric, graph), alpha in product(graphs.items(), ALPHAS):
            around = [
                self._propagate(graph, codes, labeled, train, alpha)[labeled[test]]
                for train, test in self.folds
            ]
            losses = self._losses_by_power(around)
            found |= {(metric, alpha, power): loss for power, loss in losses}
        return min(found, key=lambda key: found[key])

    def _losses_by_power(self, predicted: list[np.ndarray]) -> Iterator[tuple[float, float]]:
        """Mean losses of what is predicted in each fold, sharpened by each power."""
        for power in POWERS:
            losses = [
                self.target.losses(self.columns[test], self.target.with_temperature(its, power))
                for its, (_, test) in zip(predicted, self.folds, strict=True)
            ]
            yield power, self._mean(losses)


class FineTuning:
    """Trains a head, and the encoder below it unless frozen.

    Parameters
    ----------
    params : dict
        Of the classifier or regressor.
    coder : estimator
        The fitted autoencoder.
    start : HeadStart
    unit : float
        Of codes.
    seeds : list of two int
        Of the rows held out, and of the order of the others.
    """

    def __init__(
        self,
        params: dict[str, Any],
        autoencoder: Any,
        initializer: HeadInitializer,
        unit: float,
        seeds: list[int],
    ):
        self.params, self.autoencoder, self.initializer, self.unit = (
            params,
            autoencoder,
            initializer,
            unit,
        )
        self.n_features = autoencoder.n_features_in_
        self.split_seed, self.order_seed = seeds
        settings = {
            "optimizer": "adamw",
            "lr_schedule": "one_cycle",
            "n_iter_no_change": 1,
            "tol": 0.0,
            **params,
        }
        if settings["max_epochs"] == "auto":
            settings["max_epochs"] = MAX_EPOCHS
        self.trainer = Trainer(
            settings,
            Objective({"target": initializer.target.loss}, positive=False),
            True,
            torch.device(autoencoder.net_.device),
            self.split_seed,
            self.order_seed,
            standard_errors_waived=STANDARD_ERRORS_WAIVED,
        )

    def train_on_labeled(self, X: Any) -> Trained:
        """Train on labelled rows, as long as others are predicted better.

        Parameters
        ----------
        X : ndarray or CSR matrix or array of shape (n_labeled, n_features)

        Yields
        ------
        list of Training
            To be done.

        Returns
        -------
        net : AutoencoderNet
        validation_curve : list of float
        """
        stops, n_rows = self.params["early_stopping"], X.shape[0]
        rows = self._rows(X, self.initializer.columns, self.initializer.weights)
        if self.params["freeze"] or (stops and n_rows < MIN_ROWS_TO_HOLD_OUT):
            return self._train(self._network(self.initializer.fit()), rows, n_epochs=0)
        if not stops or n_rows < MIN_ROWS_TO_TRUST_ONE_SPLIT:
            network = self._network(self.initializer.fit())
            return self._train(network, rows, make_network=self._make_network)
        return self._train_with_hold_out(rows)

    def _train_with_hold_out(self, rows: Dataset) -> Trained:
        """Train a head fitted to some labelled rows; the others choose the weights."""
        share = self.params["validation_fraction"]
        train, held_out = stratified_hold_out(self.initializer.columns, share, self.split_seed)
        network = self._network(self.initializer.fit(train))
        trained = self._train(network, rows.subset(train), held_out=rows.subset(held_out))
        if trained.net.best_epoch_ == 0:
            trained.net.module_.set_head(*map(torch.from_numpy, self.initializer.fit()))
        return trained

    def train_on_propagated(
        self, X: Any, targets: np.ndarray, weights: np.ndarray | None, labeled: np.ndarray
    ) -> Trained:
        """Train on all rows; unlabelled ones choose the weights.

        Parameters
        ----------
        X : ndarray or CSR matrix or array of shape (n_rows, n_features)
        targets : ndarray of shape (n_rows, n_columns)
        weights : ndarray of shape (n_rows,), or None
        labeled : ndarray of int

        Yields
        ------
        list of Training
            To be done.

        Returns
        -------
        net : AutoencoderNet
        validation_curve : list of float
        """
        rows, network = self._rows(X, targets, weights), self._network(self.initializer.fit())
        others = np.setdiff1d(np.arange(len(rows)), labeled)
        n_held_out = int(self.params["validation_fraction"] * len(others))
        if n_held_out == 0 or not self.params["early_stopping"]:
            return self._train(network, rows, n_epochs=self.trainer.params["max_epochs"])
        held_out = np.random.RandomState(self.split_seed).permutation(others)[:n_held_out]
        train = np.setdiff1d(np.arange(len(rows)), held_out)
        return self._train(network, rows.subset(train), held_out=rows.subset(held_out))

    def _train(self, network: HeadedNetwork, rows: Dataset, **options: Any) -> Trained:
        """Train one network."""
        (trained,) = train_networks([TrainingJob(self.trainer, network, rows, **options)])
        return trained

    def _rows(self, X: Any, targets: np.ndarray, weights: np.ndarray | None) -> Dataset:
        """Rows in network units, their targets behind them."""
        both = np.empty((X.shape[0], self.n_features + targets.shape[1]), np.float32)
        for part in gen_batches(len(both), rows_per_batch(both.shape[1])):
            both[part, : self.n_features] = self.autoencoder._standardize(as_dense(X[part]))
        both[:, self.n_features :] = targets
        self.rows = Dataset(both, np.zeros(both.shape[1]), weights=weights)
        return self.rows

    def _feature_statistics(self) -> dict[str, np.ndarray]:
        """Ranges of the features alone."""
        return {
            name: its[: self.n_features] for name, its in self.rows.feature_statistics().items()
        }

    def _make_noise(self) -> Any:
        """Make what corrupts rows while one network is trained."""
        generator = torch.Generator(self.trainer.device).manual_seed(self.order_seed)
        noise, level = self.params["noise"], self.params["noise_level"]
        return make_noise(noise, level, self._feature_statistics, generator)

    def _network(self, linear: Linear) -> HeadedNetwork:
        """Encoder as it is, below a linear head."""
        encoder = copy.deepcopy(self.autoencoder.net_.module_)
        widths = [self.autoencoder.n_components_, self.initializer.target.n_columns]
        head = MLP(widths, zero_last=True, generator=torch.Generator())  # of its own: unused
        unit = torch.tensor(self.unit, dtype=torch.float64)
        network = HeadedNetwork(encoder, head, unit, self.n_features, self._make_noise())
        network.head.to(next(encoder.parameters()).dtype)
        network.set_head(*map(torch.from_numpy, linear))
        network.to(self.trainer.device).train_head_and(encoder=not self.params["freeze"])
        return network

    @torch.no_grad()
    def _make_network(self, rows: Dataset) -> HeadedNetwork:
        """Make such a network for some of the labelled rows."""
        columns = np.asarray(rows.X[:, self.n_features :], dtype=float)
        x = np.asarray(rows.X[:, : self.n_features], dtype=float)
        codes = self.autoencoder._encode(x) / self.unit
        initializer = self.initializer
        return self._network(
            initializer.target.fit_linear(codes, columns, rows.weights, initializer.penalty)
        )
