"""Targets encoded as columns of numbers, with their linear models and losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from skae.networks.dense import Output

SMALLEST_PROBABILITY = 1e-6
MAX_ITER = 1000
N_CORRECTIONS = 20  # iterations after which class shares are correct up to rounding


class Target(ABC):
    """A target, encoded as `n_columns` columns of numbers for each row."""

    n_columns: int

    @abstractmethod
    def encode(self, y: np.ndarray) -> np.ndarray:
        """Encode labels of shape (n_rows, n_outputs)."""

    @abstractmethod
    def losses(self, columns: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Loss of each row, given what `predict` returns."""

    @abstractmethod
    def fit_linear(
        self, codes: np.ndarray, columns: np.ndarray, weights: Any, penalty: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit a linear head and return coefficients (n_columns, n_components) and intercepts.

        `penalty` is the weight of squared coefficients, where the mean loss has weight one.
        """

    @abstractmethod
    def loss(self, output: Output, x: Tensor) -> Tensor:
        """Loss of each row, as a term of an objective; targets are the last columns of x."""

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Predictions, given the outputs of the head."""
        return outputs

    def prior_corrected(self, predicted: np.ndarray) -> np.ndarray:
        """Predictions for all rows, corrected by known shares of the classes."""
        return predicted

    def with_temperature(self, predicted: np.ndarray, power: float) -> np.ndarray:
        """Predictions at the temperature ``1 / power``; a power above 1 makes them more certain."""
        return predicted

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class ClassTarget(Target):
    """Classes of one or several outputs, one-hot encoded, one output after another.

    `classes` are the sorted classes of each output. `shares` are the known shares of the classes
    among all rows, one per column, or None.
    """

    def __init__(self, classes: list[np.ndarray], shares: np.ndarray | None = None):
        self.classes, self.shares = classes, shares
        self.n_columns = sum(map(len, classes))

    @property
    def blocks(self) -> list[slice]:
        """Slices of columns, one per output."""
        ends = np.cumsum([len(each) for each in self.classes]).tolist()
        return [slice(end - len(c), end) for c, end in zip(self.classes, ends, strict=True)]

    def encode(self, y: np.ndarray) -> np.ndarray:
        each = [
            np.eye(len(classes))[np.searchsorted(classes, labels)]
            for classes, labels in zip(self.classes, y.T, strict=True)
        ]
        return np.hstack(each)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities, given logits."""
        return np.hstack([softmax(outputs[:, block], axis=1) for block in self.blocks])

    def prior_corrected(self, predicted: np.ndarray) -> np.ndarray:
        """Probabilities with the shares of the classes as means, if the shares are known."""
        if self.shares is None:
            return predicted
        for _ in range(N_CORRECTIONS):
            means = np.maximum(predicted.mean(axis=0), SMALLEST_PROBABILITY)
            predicted = predicted * (self.shares / means)
            each = [predicted[:, block] for block in self.blocks]
            predicted = np.hstack([p / p.sum(axis=1, keepdims=True) for p in each])
        return predicted

    def with_temperature(self, predicted: np.ndarray, power: float) -> np.ndarray:
        logs = power * np.log(np.maximum(predicted, SMALLEST_PROBABILITY))
        return self.predict(logs)

    def losses(self, columns: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Cross-entropy of each row, in nats, summed over outputs."""
        return -(columns * np.log(np.maximum(predicted, SMALLEST_PROBABILITY))).sum(axis=1)

    def fit_linear(
        self, codes: np.ndarray, columns: np.ndarray, weights: Any, penalty: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit a logistic regression for each output.

        A class without rows has a low intercept, so that it is never predicted.
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
        """Cross-entropy of each row, summed over outputs; the reconstruction is the logits."""
        logits, targets = output.reconstruction, x[:, -self.n_columns :]
        each = [
            -(targets[:, block] * F.log_softmax(logits[:, block], dim=1)).sum(dim=1)
            for block in self.blocks
        ]
        return torch.stack(each).sum(dim=0)


class ContinuousTarget(Target):
    """Numbers of one or several outputs, standardized by their means and scales (n_outputs,)."""

    def __init__(self, mean: np.ndarray, scale: np.ndarray):
        self.mean, self.scale = mean, scale
        self.n_columns = len(mean)

    def encode(self, y: np.ndarray) -> np.ndarray:
        return (y - self.mean) / self.scale

    def losses(self, columns: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Squared error of each row, summed over outputs."""
        return np.square(columns - predicted).sum(axis=1)

    def fit_linear(
        self, codes: np.ndarray, columns: np.ndarray, weights: Any, penalty: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit a ridge regression."""
        total = len(codes) if weights is None else weights.sum()
        model = Ridge(alpha=penalty * total).fit(codes, columns, sample_weight=weights)
        return np.reshape(model.coef_, (self.n_columns, -1)), np.ravel(model.intercept_)

    def loss(self, output: Output, x: Tensor) -> Tensor:
        """Squared error of each row, summed over outputs."""
        return (output.reconstruction - x[:, -self.n_columns :]).square().sum(dim=1)
