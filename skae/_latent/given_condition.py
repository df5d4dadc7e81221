"""What depends linearly on a condition: rows, and the normal distribution of their codes."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.linalg import cho_solve, cholesky, lstsq
from sklearn.linear_model import GammaRegressor
from sklearn.utils import gen_batches

from skae._data.dataset import Dataset
from skae._data.dtypes_and_batch_sizes import rows_per_batch
from skae._data.input_errors import check_standardized
from skae._data.table_columns import Column
from skae._latent.column_cells import ColumnCells
from skae._latent.famd import FamdCoordinates


class ResidualRows:
    """Columns of a table as residuals of a linear regression on others, its condition.

    Parameters
    ----------
    of_rows, of_condition : ndarray of shape (n_columns,), (n_condition_columns,)
        Positions of the columns.
    coordinates : FamdCoordinates
        Of the condition.
    mean : ndarray of shape (n_columns,)
    slopes : ndarray of shape (n_coordinates, n_columns)
    scale : float
        Root mean square of the residuals, by which they are divided.
    """

    def __init__(
        self,
        of_rows: np.ndarray,
        of_condition: np.ndarray,
        coordinates: FamdCoordinates,
        mean: np.ndarray,
        slopes: np.ndarray,
        scale: float,
    ):
        self.of_rows, self.of_condition, self.coordinates = of_rows, of_condition, coordinates
        self.mean, self.slopes, self.scale = mean, slopes, scale

    @classmethod
    def fit(
        cls, values: np.ndarray, columns: list[Column], of_condition: list[int]
    ) -> tuple[Self, Dataset]:
        """Regress values (n_rows, n_features) on those at some positions; return the residuals.

        The residuals have the coordinates of the condition as extra columns.
        """
        of_rows = np.setdiff1d(np.arange(values.shape[1]), of_condition)
        cells = [ColumnCells.of_column(columns[j], values[:, j]) for j in of_condition]
        coordinates = FamdCoordinates.of_columns(cells)
        conditions = coordinates.from_values(values[:, of_condition])
        mean = values[:, of_rows].mean(axis=0)
        rows = values[:, of_rows] - mean
        slopes = slopes_on(conditions, rows)
        rows -= conditions @ slopes
        dataset = Dataset(rows, np.zeros(rows.shape[1]), extra=conditions)
        scale = dataset.root_mean_square()
        own = cls(of_rows, np.array(of_condition, dtype=int), coordinates, mean, slopes, scale)
        return own, dataset.with_scale(scale)

    def split(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standardized residuals of values (n_rows, n_features), and coordinates of conditions."""
        conditions = self.coordinates.from_values(values[:, self.of_condition])
        rows = values[:, self.of_rows] - self.mean - conditions @ self.slopes
        with np.errstate(over="ignore"):
            rows /= self.scale
        check_standardized(rows)
        return rows, conditions

    def join(self, rows: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Values (n_rows, n_features), of standardized residuals and values of the condition."""
        conditions = self.coordinates.from_values(given)
        values = np.empty((len(rows), len(self.of_rows) + len(self.of_condition)))
        values[:, self.of_rows] = rows * self.scale + self.mean + conditions @ self.slopes
        values[:, self.of_condition] = given
        return values

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "coordinates": self.coordinates.__getstate__()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        coordinates = FamdCoordinates.__new__(FamdCoordinates)
        coordinates.__setstate__(state["coordinates"])
        ResidualRows.__init__(self, **{**state, "coordinates": coordinates})


class ConditionalNormal:
    """Normal distribution of codes, given coordinates c of a condition.

    The mean is linear in c. Each component less its mean is regressed on the components before it,
    with coefficients that are linear in c, and the logarithm of the variance of what is left is
    linear in c. So the covariance is positive definite whatever c is (modified Cholesky
    decomposition [1]_). Coordinates beyond the training rows count as the ends of their range.

    Parameters
    ----------
    center : ndarray of shape (n_components,)
    shift : ndarray of shape (n_coordinates, n_components)
        Slopes of the mean.
    reach : ndarray of shape (n_coordinates,)
        Largest absolute values of the coordinates, by which they are divided.
    coefficients : ndarray of shape (n_components, 1 + n_coordinates, n_components)
        Of components in the regression on those before them, in the last axis; zero for others.
    log_variances : ndarray of shape (1 + n_coordinates, n_components)

    References
    ----------
    .. [1] Pourahmadi (1999). Joint mean-covariance models with applications to longitudinal data.
       Biometrika 86. https://doi.org/10.1093/biomet/86.3.677
    """

    def __init__(
        self,
        center: np.ndarray,
        shift: np.ndarray,
        reach: np.ndarray,
        coefficients: np.ndarray,
        log_variances: np.ndarray,
    ):
        self.center, self.shift, self.reach = center, shift, reach
        self.coefficients, self.log_variances = coefficients, log_variances

    @classmethod
    def standard(cls, n_components: int, n_coordinates: int) -> Self:
        """Standard normal, whatever the condition."""
        k, m = n_components, n_coordinates
        coefficients, log_variances = np.zeros((k, 1 + m, k)), np.zeros((1 + m, k))
        return cls(np.zeros(k), np.zeros((m, k)), np.ones(m), coefficients, log_variances)

    @classmethod
    def fit(cls, means: np.ndarray, variances: np.ndarray, conditions: np.ndarray) -> Self:
        """The likeliest for codes that are normal, independent, with means and variances.

        Means and variances have the shape (n_rows, n_components). The covariance is shrunk to one
        that no condition changes, as if one row more than there are components had it at the end
        of the range of each coordinate.
        """
        k, n_prior = means.shape[1], means.shape[1] + 1
        normal = cls.standard(k, conditions.shape[1])
        normal.center = means.mean(axis=0)
        normal.shift = slopes_on(conditions, means - normal.center)
        if len(conditions):
            normal.reach = np.abs(conditions).max(axis=0)
        normal.reach[normal.reach == 0] = 1.0
        residuals, design = normal._residuals(means, conditions), normal._design(conditions)
        q = design.shape[1]
        gram, along = n_prior * np.eye(k * q), np.zeros((k * q, k))
        for part in gen_batches(len(means), rows_per_batch(k * q)):
            products = _products(residuals[part], design[part])
            gram += products.T @ products
            along += products.T @ residuals[part]
            for j, start in enumerate(range(0, k * q, q)):
                own = slice(start, start + q)
                gram[own, own] += (design[part] * variances[part, j, None]).T @ design[part]
        factor = cholesky(gram, lower=True)
        for j in range(1, k):  # the factor of a leading block is that block of the factor
            known = j * q
            solved = cho_solve((factor[:known, :known], True), along[:known, j])
            normal.coefficients[:j, :, j] = solved.reshape(j, q)
        squares = np.square(normal._innovations(residuals, design))
        squares += normal._innovation_variances(variances, design)
        regression = GammaRegressor(alpha=n_prior / len(means), max_iter=1000, tol=1e-8)
        for j in range(k):
            regression.fit(design, squares[:, j])
            normal.log_variances[:, j] = regression.coef_
            rest = squares[:, j] * np.exp(-design @ regression.coef_)
            normal.log_variances[0, j] += np.log(rest.mean())  # what is left has variance 1
        return normal

    @property
    def widest(self) -> int:
        """Number of columns of the widest array that is computed."""
        return self.coefficients[..., 0].size

    def whiten(self, codes: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """Codes (n_rows, n_components) that are standard normal, of codes of this distribution."""
        design = self._design(conditions)
        innovations = self._innovations(self._residuals(codes, conditions), design)
        return innovations * np.exp(-0.5 * design @ self.log_variances)

    def color(self, codes: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """Codes of this distribution, of codes that are standard normal."""
        design = self._design(conditions)
        residuals = codes * np.exp(0.5 * design @ self.log_variances)
        for j in range(1, codes.shape[1]):
            residuals[:, j] += (residuals[:, :j] * self._weights(design, j)).sum(axis=1)
        return residuals + self.center + conditions @ self.shift

    def whitened_variances(self, variances: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """Variances of whitened codes, of the variances of codes that are independent."""
        design = self._design(conditions)
        return self._innovation_variances(variances, design) * np.exp(-design @ self.log_variances)

    def log_slopes(self, conditions: np.ndarray) -> np.ndarray:
        """Logarithms (n_rows, n_components) of the slopes of whitened codes on their own code.

        Their sum over the components is the logarithm of the determinant of `whiten`.
        """
        slopes: np.ndarray = -0.5 * self._design(conditions) @ self.log_variances
        return slopes

    def _design(self, conditions: np.ndarray) -> np.ndarray:
        """Coordinates in their range, behind a column of ones."""
        inside = np.clip(conditions / self.reach, -1, 1)
        return np.hstack([np.ones((len(conditions), 1)), inside])

    def _residuals(self, codes: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        return codes - self.center - conditions @ self.shift

    def _innovations(self, residuals: np.ndarray, design: np.ndarray) -> np.ndarray:
        """What the regression on the components before leaves of each component."""
        k = residuals.shape[1]
        return residuals - _products(residuals, design) @ self.coefficients.reshape(-1, k)

    def _innovation_variances(self, variances: np.ndarray, design: np.ndarray) -> np.ndarray:
        result = variances.copy()
        for j in range(1, variances.shape[1]):
            result[:, j] += (variances[:, :j] * self._weights(design, j) ** 2).sum(axis=1)
        return result

    def _weights(self, design: np.ndarray, j: int) -> np.ndarray:
        """Coefficients (n_rows, j) of the components before a component."""
        weights: np.ndarray = design @ self.coefficients[:j, :, j].T
        return weights

    def __getstate__(self) -> dict[str, Any]:
        return vars(self).copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        ConditionalNormal.__init__(self, **state)


def slopes_on(conditions: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Slopes (n_coordinates, n_columns) of the linear regression of centred columns."""
    if not conditions.any():
        return np.zeros((conditions.shape[1], columns.shape[1]))
    slopes: np.ndarray = lstsq(conditions, columns, lapack_driver="gelsy", cond=1e-10)[0]
    return slopes


def _products(codes: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Products of all components and columns of a design, (n_rows, n_components * n_columns)."""
    return (codes[:, :, None] * design[:, None]).reshape(len(codes), -1)
