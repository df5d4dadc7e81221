"""Targets encoded as columns of numbers, with their linear models and losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.validation import check_consistent_length
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from skae._data.array_api import to_numpy
from skae.losses import Objective
from skae.networks.dense import Output

SMALLEST_PROBABILITY = 1e-6
MAX_ITER = 1000
N_CORRECTIONS = 20  # iterations after which class shares are correct up to rounding
UNLABELED = -1  # as in sklearn.semi_supervised; NaN is for all types of targets
MAX_CLASSES, MAX_SPACING = 20, 3  # of whole numbers that are classes; of more, they are quantities


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
    def head_losses(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Loss of each row, given the outputs of the head, both (..., n_rows, n_columns)."""

    @abstractmethod
    def head_gradient(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Gradient of `head_losses` with respect to the outputs of the head."""

    def loss(self, output: Output, x: Tensor) -> Tensor:
        """Loss of each row, as a term of an objective.

        The reconstruction is the outputs of the head; targets are the last columns of x.
        """
        return self.head_losses(output.reconstruction, x[:, -self.n_columns :])

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

    def head_losses(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Cross-entropy of each row, summed over outputs, in nats."""
        each = [
            -(columns[..., block] * F.log_softmax(outputs[..., block], dim=-1)).sum(dim=-1)
            for block in self.blocks
        ]
        return torch.stack(each).sum(dim=0)

    def head_gradient(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Probabilities minus one-hot classes."""
        each = [outputs[..., block].softmax(dim=-1) for block in self.blocks]
        return torch.cat(each, dim=-1) - columns


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

    def head_losses(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Squared error of each row, summed over outputs."""
        return (outputs - columns).square().sum(dim=-1)

    def head_gradient(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Twice the errors."""
        return 2 * (outputs - columns)


# -- reading y ---------------------------------------------------------------------


def is_quantity(values: np.ndarray) -> bool:
    """Whether the values of a target are quantities; they are classes otherwise.

    Quantities are numbers of which some are not whole, or which have more than 20 values, or which
    are far apart, as 0, 10, 20 and so on. Numbers of classes lie close together.
    """
    if values.dtype.kind not in "iuf":
        return False
    distinct = np.unique(values)
    if (distinct % 1 != 0).any() or len(distinct) > MAX_CLASSES:
        return True
    span = float(distinct[-1]) - float(distinct[0]) + 1
    return len(distinct) > 2 and span > MAX_SPACING * len(distinct)


class Column(NamedTuple):
    """Values of one target, and a mask of the rows that have one."""

    values: np.ndarray
    known: np.ndarray

    def at(self, index: np.ndarray) -> Column:
        """Values of some rows."""
        return Column(self.values[index], self.known[index])


class Targets:
    """One or several targets, each predicted by a linear head on the code.

    `read` are the targets of some rows, of which those at `index` are trained on.
    """

    def __init__(self, read: list[Column], index: np.ndarray, weights: np.ndarray | None = None):
        self.parts = [_target_of(column.at(index), weights) for column in read]
        ends = np.cumsum([part.n_columns for part in self.parts]).tolist()
        self.slices = [
            slice(end - part.n_columns, end) for end, part in zip(ends, self.parts, strict=True)
        ]
        self.n_columns = ends[-1]

    def encode(self, read: list[Column], name: str = "y") -> np.ndarray:
        """Encode targets as columns of numbers, (n_rows, n_columns) float32; NaN is unknown."""
        if len(read) != len(self.parts):
            raise ValueError(f"{name} has {len(read)} targets, but y has {len(self.parts)}.")
        columns = np.full((len(read[0].known), self.n_columns), np.nan, np.float32)
        for column, part, block in zip(read, self.parts, self.slices, strict=True):
            known = column.known
            if isinstance(part, ClassTarget):
                known = _labeled(column, part.classes[0])
                _check_classes(column.values[known], part.classes[0], name)
            else:
                _check_quantity(column.values[known], name)
            if known.any():
                columns[known, block] = part.encode(column.values[known, None])
        return columns

    def head_losses(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Losses (..., n_rows, n_targets) of the outputs of the head; zero without a value."""
        known, filled = _known_and_filled(columns)
        each = [
            part.head_losses(outputs[..., block], filled[..., block]) * known[..., block.start]
            for part, block in zip(self.parts, self.slices, strict=True)
        ]
        return torch.stack(each, dim=-1)

    def head_gradient(self, outputs: Tensor, columns: Tensor, factors: Tensor) -> Tensor:
        """Gradient of the losses, times the factor of each target, with respect to the outputs."""
        known, filled = _known_and_filled(columns)
        each = [
            part.head_gradient(outputs[..., block], filled[..., block]) * factor
            for part, block, factor in zip(self.parts, self.slices, factors, strict=True)
        ]
        return torch.cat(each, dim=-1) * known

    def fit_linear(self, codes: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fit a linear head to standardized codes; return its coefficients and intercepts.

        The penalty is scikit-learn's default, 1 for the sum over rows.
        """
        coefficients = np.zeros((self.n_columns, codes.shape[1]))
        intercepts = np.zeros(self.n_columns)
        for part, block in zip(self.parts, self.slices, strict=True):
            known = ~np.isnan(columns[:, block.start])
            if not known.any():
                continue
            coefficients[block], intercepts[block] = part.fit_linear(
                codes[known], columns[known, block].astype(float), None, 1 / known.sum()
            )
        return coefficients, intercepts

    def shares(self, columns: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Share of the rows that have each target; 1 for a target of no row."""
        known = ~np.isnan(columns[:, [block.start for block in self.slices]])
        shares = np.average(known, axis=0, weights=weights)
        return np.where(shares > 0, shares, 1.0)

    def uninformed_losses(self) -> np.ndarray:
        """Loss of each target without any knowledge: log of the number of classes, or 1."""
        n_classes = [
            len(part.classes[0]) if isinstance(part, ClassTarget) else 0 for part in self.parts
        ]
        return np.array([np.log(n) if n else 1.0 for n in n_classes])


def _known_and_filled(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Mask of the values that are known, and the columns with zeros in place of the others."""
    known = columns == columns
    return known, torch.where(known, columns, 0.0)


def _target_of(column: Column, weights: np.ndarray | None) -> Target:
    """Make the encoding of one target."""
    known = column.values[column.known]
    if len(known) == 0:
        raise ValueError(
            "y has no known value in some target: all are missing. Set target_weight=0, or give "
            "the targets of some rows."
        )
    if known.dtype.kind == "f":
        _check_quantity(known, "y")
    if is_quantity(known):
        numbers = known.astype(float)
        if (numbers == numbers[0]).all():
            raise ValueError(
                f"y has one value only, {known[0].item()!r}, so there is nothing to predict; set "
                "target_weight=0."
            )
        its = None if weights is None else weights[column.known]
        mean = np.average(numbers, weights=its)
        distances = numbers - mean
        unit = np.abs(distances).max()  # whose square may be too large for a float
        scale = unit * np.sqrt(np.average(np.square(distances / unit), weights=its))
        return ContinuousTarget(np.array([mean]), np.array([scale]))
    classes = np.unique(known)
    if _has_unlabeled(classes):
        classes = classes[classes != UNLABELED]
    if len(classes) < 2:
        raise ValueError(
            f"y has one class only, {classes[0].item()!r}, among its {len(known)} known values, so "
            "there is nothing to predict; set target_weight=0, or give rows of two classes."
        )
    return ClassTarget([classes])


def _has_unlabeled(classes: np.ndarray) -> bool:
    """Whether -1 marks rows without a label: if it is a number, and two classes are left."""
    return classes.dtype.kind in "if" and UNLABELED in classes and len(classes) > 2


def _labeled(column: Column, classes: np.ndarray) -> np.ndarray:
    """Mask of the rows that have a class."""
    are_numbers = classes.dtype.kind in "if" and column.values.dtype.kind in "iuf"
    if not are_numbers or UNLABELED in classes:
        return column.known
    return column.known & np.not_equal(column.values, UNLABELED)


def _check_classes(values: np.ndarray, classes: np.ndarray, name: str) -> None:
    unseen = set(values.tolist()) - set(classes.tolist())
    if unseen:
        raise ValueError(
            f"{name} has classes that y lacks: {sorted(unseen, key=str)[:5]}; the classes of y are "
            f"{classes.tolist()[:10]}."
        )


def _check_quantity(values: np.ndarray, name: str) -> None:
    if len(values) and values.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} holds {values[0].item()!r}, but this target of y is a quantity; pass numbers, "
            "or NaN where it is unknown."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            f"{name} has infinite values; a quantity must be finite, or NaN if unknown."
        )


def read_targets(y: Any, X: Any, name: str) -> list[Column]:
    """Values of each target, without a dtype of objects."""
    if sparse.issparse(y):
        raise ValueError(f"{name} is a sparse matrix; pass a dense array of targets.")
    y = to_numpy(y)
    if hasattr(y, "iloc") and np.ndim(y) == 2:  # a frame, whose columns may differ in type
        columns = [np.asarray(y.iloc[:, i]) for i in range(y.shape[1])]
    else:
        # A list may hold text and numbers, of which numpy would make text.
        array = np.asarray(y, dtype=object) if isinstance(y, list | tuple) else np.asarray(y)
        if array.ndim not in (1, 2) or array.shape[1:] == (0,):
            raise ValueError(
                f"{name} must be of shape (n_samples,) or (n_samples, n_targets), but has shape "
                f"{array.shape}."
            )
        columns = [array] if array.ndim == 1 else list(array.T)
    for values in columns:
        check_consistent_length(X, values)
    read = [_read_column(values, name) for values in columns]
    return read


def _read_column(values: np.ndarray, name: str) -> Column:
    if values.dtype.kind == "O":
        known = np.array([not _is_missing(value) for value in values])
        inferred = np.array(values[known].tolist())
        mixed = {type(value) for value in values[known].tolist() if not isinstance(value, str)}
        if inferred.dtype.kind in "US" and mixed:
            raise TypeError(
                f"{name} holds values of several types, such as text and numbers; convert all to "
                "text, or all to numbers. Missing values are NaN or None."
            )
        filled = np.zeros(len(values), inferred.dtype)
        filled[known] = inferred
        known &= filled == filled
        values = filled
    else:
        known = values == values
    if values.dtype.kind not in "biufUST":
        raise ValueError(
            f"{name} has dtype {values.dtype}; targets must be numbers, booleans or text."
        )
    return Column(values, known)


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas.NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and value != value


# -- training ----------------------------------------------------------------------


class SupervisedObjective(Objective):
    """An objective of rows, and the losses of heads that predict targets from their codes.

    Targets are columns behind the features of each row. In training, the losses of heads have
    `weight`. When the weights of different epochs are compared, they have `validation_weight`,
    and are in units of the loss of a head that knows nothing.
    """

    in_training: Tensor
    in_validation: Tensor

    def __init__(
        self,
        objective: Objective,
        targets: Targets,
        n_features: int,
        shares: np.ndarray,
        *,
        weight: float,
        validation_weight: float,
    ):
        super().__init__(
            objective.terms,
            {**objective.weights, "target": weight},
            warm_up=objective.warm_up,
            positive=objective.positive,
        )
        self.targets, self.n_features = targets, n_features
        # Buffers, which the net moves to its device once.
        self.register_buffer("in_training", torch.from_numpy(1 / shares) / len(shares))
        share = validation_weight / weight
        in_units = share * self.in_training / torch.from_numpy(targets.uninformed_losses())
        self.register_buffer("in_validation", in_units)

    def per_row(self, output: Output, x: Tensor) -> dict[str, Tensor]:
        """Terms of each row, and the losses of its heads as "target"."""
        return self._per_row(output, x, self.in_training)

    def _per_row(self, output: Any, x: Tensor, of_targets: Tensor) -> dict[str, Tensor]:
        rows, columns = x[:, : self.n_features], x[:, self.n_features :]
        losses = self.targets.head_losses(output.prediction, columns)
        return {**super().per_row(output, rows), "target": losses @ of_targets.to(losses)}

    def head_losses_and_gradient(
        self, outputs: Tensor, columns: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean weighted loss of the heads over the rows, and its gradient, in training.

        Outputs and columns have shape (..., n_rows, n_columns), weights of rows (..., n_rows, 1).
        """
        factors = self.weights["target"] * self.in_training.to(outputs) / outputs.shape[-2]
        losses = self.targets.head_losses(outputs, columns) @ factors
        gradient = self.targets.head_gradient(outputs, columns, factors)
        if weights is not None:
            losses, gradient = losses * weights[..., 0], gradient * weights
        return losses.sum(dim=-1), gradient

    def row_losses(self, output: Output, x: Tensor) -> Tensor:
        """Losses by which the weights of different epochs are compared."""
        terms = self._per_row(output, x, self.in_validation)
        return torch.stack(
            [self.weights.get(name, 1.0) * term for name, term in terms.items()]
        ).sum(dim=0)
