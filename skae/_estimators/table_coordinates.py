"""Rows of tables in the coordinates of a fitted TableAutoencoder, which measure its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skae._estimators.table import TableAutoencoder


def reference_of(estimator: Any) -> str:
    """Name of the linear method that an estimator, or the last step of a Pipeline, starts at."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    return "FAMD" if isinstance(last, TableAutoencoder) else "PCA"


def coordinates_of(table: TableAutoencoder, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of rows, and the mask of those that belong to no gap, (n_rows, n_coordinates).

    The coordinates of gaps are their expectations.
    """
    values = table._values(X)
    coordinates = table._to_coordinates(values)
    return coordinates, ~np.isnan(values)[:, table._coordinates.owners]


def cells_of(table: TableAutoencoder, coordinates: np.ndarray) -> np.ndarray:
    """Numbers in their units and probabilities of categories, (n_rows, n_coordinates)."""
    return coordinates * table._coordinates.scale + table._coordinates.mean


def in_order_of_columns(table: TableAutoencoder) -> np.ndarray:
    """Positions of the coordinates in the order of the table's columns."""
    return np.argsort(features_of(table), kind="stable")


def features_of(table: TableAutoencoder) -> np.ndarray:
    """Position of the column that each coordinate belongs to."""
    return table._modelled[table._coordinates.owners]


def categories_of(table: TableAutoencoder) -> dict[int, list[Any]]:
    """Categories of the columns with an indicator for each, in the order of their coordinates."""
    columns = table._columns.columns
    cells = zip(table._modelled.tolist(), table._coordinates.columns, strict=True)
    return {j: columns[j].representatives for j, own in cells if own.kind == "category"}


def column_names(table: TableAutoencoder) -> list[str]:
    """Names of all columns; "x0", "x1", ... of an array."""
    names = [column.name for column in table._columns.columns]
    has_names = hasattr(table, "feature_names_in_") or not all(isinstance(n, int) for n in names)
    return [str(name) if has_names else f"x{name}" for name in names]


def coordinate_names(table: TableAutoencoder) -> list[str]:
    """Names of the coordinates: of the column, with the category if it has categories."""
    names, categories = column_names(table), categories_of(table)
    found = []
    for j in table._modelled.tolist():
        found += [f"{names[j]}={c}" for c in categories[j]] if j in categories else [names[j]]
    return found
