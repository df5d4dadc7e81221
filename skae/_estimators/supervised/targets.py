"""Targets as columns of numbers: classes or quantities, their linear models and losses."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from skae.networks.dense import Output

SMALLEST_PROBABILITY = 1e-6
MAX_ITER = 1000
N_ADJUSTMENTS = 20  # until shares are as they should be, to rounding


class Target(Protocol):
    """What is predicted, as columns of numbers.

    Attributes
    ----------
    n_columns : int
    """

    n_columns: int

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Columns of labels, of shape (n_rows, n_columns)."""

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Columns that the head's outputs stand for."""

    def prior_corrected(self, predicted: np.ndarray) -> np.ndarray:
        """What is predicted for all rows, corrected by what is known of them together."""

    def with_temperature(self, predicted: np.ndarray, power: float) -> np.ndarray:
        """What is predicted, with more certainty where there can be any."""

    def losses(self, columns: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Loss of each row, given what `predict` returns."""

    def fit_linear(
        self, codes: np.ndarray, columns: np.ndarray, weights: Any, penalty: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients, of shape (n_columns, n_components), and intercepts of a linear head."""

    def loss(self, output: Output, x: Tensor) -> Tensor:
        """Term of an objective; targets are the last columns of rows."""


class ClassTarget:
    """Classes of one or several outputs: a column for each class, one output after another.

    Parameters
    ----------
    classes : list of ndarray
        Of each output, sorted.

    Attributes
    ----------
    shares : ndarray of shape (n_columns,), or None
        Of all rows that are of each class, where they are known.
    """

    def __init__(self, classes: list[np.ndarray]):
        self.classes = classes
        self.shares: np.ndarray | None = None
        sizes = [len(each) for each in classes]
        self.n_columns = sum(sizes)
        ends = np.cumsum(sizes)
        self.blocks = [slice(end - n, end) for n, end in zip(sizes, ends.tolist(), strict=True)]

    def encode(self, y: np.ndarray) -> np.ndarray:
        """One where a row is of a class, else zero.

        Parameters
        ----------
        y : ndarray of shape (n_rows, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
        """
        each = [
            np.eye(len(classes))[np.searchsorted(classes, labels)]
            for classes, labels in zip(self.classes, y.T, strict=True)
        ]
        return np.hstack(each)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities of logits.

        Parameters
        ----------
        outputs : ndarray of shape (n_rows, n_columns)

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
        """
        return np.hstack([softmax(outputs[:, block], axis=1) for block in self.blocks])

    def prior_corrected(self, predicted: np.ndarray) -> np.ndarray:
        """Probabilities whose means are the shares of the classes, where these are known.

        Parameters
        ----------
        predicted : ndarray of shape (n_rows, n_columns)
            Of all rows.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
        """
        if self.shares is None:
            return predicted
        for _ in range(N_ADJUSTMENTS):
            means = np.maximum(predicted.mean(axis=0), SMALLEST_PROBABILITY)
            predicted = predicted * (self.shares / means)
            each = [predicted[:, block] for block in self.blocks]
            predicted = np.hstack([p / p.sum(axis=1, keepdims=True) for p in each])
        return predicted

    def with_temperature(self, predicted: np.ndarray, power: float) -> np.ndarray:
        """Powers of probabilities, so that they add up to one.

        Parameters
        ----------
        predicted : ndarray of shape (n_rows, n_columns)
        power : float

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
        """
        logs = power * np.log(np.maximum(predicted, SMALLEST_PROBABILITY))
        return self.predict(logs)

    def losses(self, columns: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Cross-entropy of each row, in nats, summed over outputs.

        Parameters
        ----------
        columns, predicted : ndarray of shape (n_rows, n_columns)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        return -(columns * np.log(np.maximum(predicted, SMALLEST_PROBABILITY))).sum(axis=1)

    def fit_linear(
        self, codes: np.ndarray, columns: np.ndarray, weights: Any, penalty: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logistic regressions, one for each output.

        Parameters
        ----------
        codes : ndarray of shape (n_rows, n_components)
        columns : ndarray of shape (n_rows, n_columns)
        weights : ndarray of shape (n_rows,), or None
        penalty : float
            Of squared coefficients, against the mean loss.

        Returns
        -------
        coefficients : ndarray of shape (n_columns, n_components)
        intercepts : ndarray of shape (n_columns,)
            Of a class that no row has, so low that nothing is predicted to be of it.
        """
        coefficients = np.zeros((self.n_columns, codes.shape[1]))
        intercepts = np.full(self.n_columns, np.log(SMALLEST_PROBABILITY))
        total = len(codes) if weights is None else weights.sum()
        for block in self.blocks:
            labels = columns[:, block].argmax(axis=1)
            present = block.start + np.unique(labels)
            if len(present) == 1:
                intercepts[present] = 0.0
                continue
            model = LogisticRegression(C=1 / (penalty * total), max_iter=MAX_ITER)
            model.fit(codes, labels, sample_weight=weights)
            both = np.column_stack([model.coef_, model.intercept_])
            both = np.vstack([-both, both]) / 2 if len(present) == 2 else both
            coefficients[present], intercepts[present] = both[:, :-1], both[:, -1]
        return coefficients, intercepts

    def loss(self, output: Output, x: Tensor) -> Tensor:
        """Cross-entropy of each row, summed over outputs.

        Parameters
        ----------
        output : Output
            Its reconstruction holds logits.
        x : Tensor of shape (n_rows, n_features + n_columns)

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        logits, targets = output.reconstruction, x[:, -self.n_columns :]
        each = [
            -(targets[:, block] * F.log_softmax(logits[:, block], dim=1)).sum(dim=1)
            for block in self.blocks
        ]
        return torch.stack(each).sum(dim=0)


class ContinuousTarget:
    """Numbers of one or several outputs, standardised.

    Parameters
    ----------
    mean, scale : ndarray of shape (n_outputs,)
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray):
        self.mean, self.scale = mean, scale
        self.n_columns = len(mean)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Standardise.

        Parameters
        ----------
        y : ndarray of shape (n_rows, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
        """
        return (y - self.mean) / self.scale

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs as they are.

        Parameters
        ----------
        outputs : ndarray of shape (n_rows, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
        """
        return outputs

    def prior_corrected(self, predicted: np.ndarray) -> np.ndarray:
        """Return what is predicted as it is.

        Parameters
        ----------
        predicted : ndarray of shape (n_rows, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
        """
        return predicted

    def with_temperature(self, predicted: np.ndarray, power: float) -> np.ndarray:
        """Return what is predicted as it is.

        Parameters
        ----------
        predicted : ndarray of shape (n_rows, n_outputs)
        power : float

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
        """
        return predicted

    def losses(self, columns: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Squared error of each row, summed over outputs.

        Parameters
        ----------
        columns, predicted : ndarray of shape (n_rows, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        return np.square(columns - predicted).sum(axis=1)

    def fit_linear(
        self, codes: np.ndarray, columns: np.ndarray, weights: Any, penalty: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ridge regression.

        Parameters
        ----------
        codes : ndarray of shape (n_rows, n_components)
        columns : ndarray of shape (n_rows, n_outputs)
        weights : ndarray of shape (n_rows,), or None
        penalty : float
            Of squared coefficients, against the mean loss.

        Returns
        -------
        coefficients : ndarray of shape (n_outputs, n_components)
        intercepts : ndarray of shape (n_outputs,)
        """
        total = len(codes) if weights is None else weights.sum()
        model = Ridge(alpha=penalty * total).fit(codes, columns, sample_weight=weights)
        return np.reshape(model.coef_, (self.n_columns, -1)), np.ravel(model.intercept_)

    def loss(self, output: Output, x: Tensor) -> Tensor:
        """Squared error of each row, summed over outputs.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features + n_outputs)

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        return (output.reconstruction - x[:, -self.n_columns :]).square().sum(dim=1)
