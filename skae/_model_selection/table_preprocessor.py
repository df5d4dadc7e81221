"""The common scale of a table with categories and gaps, behind which PCA is FAMD."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import _safe_indexing

from skae._estimators.table import TableAutoencoder
from skae._estimators.table_coordinates import categories_of, cells_of, features_of

MAX_CATEGORIES, MIN_FREQUENCY = 20, 0.01
MISSING = "(missing)"  # category of missing values


class TablePreprocessor(TransformerMixin, BaseEstimator):
    """Numbers as standard scores, categories as indicators over the root of their frequency.

    So a number and a category of two values have the same variance, and PCA behind it is the
    factor analysis of mixed data. Missing numbers are replaced by the median. Rows are frames
    with numbers in float64, and categories as text with `MISSING` in gaps.

    Parameters
    ----------
    numeric, categorical : list of str
    """

    def __init__(self, numeric: Sequence[str], categorical: Sequence[str]):
        self.numeric = numeric
        self.categorical = categorical

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn medians, means and deviations of numbers, and frequencies of categories."""
        numbers = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
        )
        encoder = OneHotEncoder(
            max_categories=MAX_CATEGORIES,
            min_frequency=MIN_FREQUENCY,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
        self.encoder_ = make_column_transformer(
            (numbers, list(self.numeric)), (encoder, list(self.categorical))
        )
        rows = self.encoder_.fit_transform(X)
        frequency = rows.mean(axis=0)
        frequency[: len(self.numeric)] = 1.0
        self.scale_ = np.sqrt(np.where(frequency > 0, frequency, 1.0))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Scores and indicators, of shape (n_samples, n_columns)."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found unknown categories")  # taken as rare ones
            return self.encoder_.transform(X) / self.scale_

    def observed(self, X: Any) -> np.ndarray:
        """Mask (n_samples, n_columns) of what is counted: no gaps, and no indicators of gaps."""
        parts = X[self.numeric].notna(), X[self.categorical] != MISSING
        known = np.hstack([part.to_numpy(dtype=bool) for part in parts])
        owners, is_missing = self._layout()
        return known[:, owners] & ~is_missing

    def with_gaps(self, X: Any) -> Any:
        """Frame as `TableAutoencoder` takes it: with None in the gaps of categories."""
        return X.assign(**{n: X[n].where(X[n] != MISSING, None) for n in self.categorical})

    def restored(self, table: TableAutoencoder, codes: np.ndarray) -> np.ndarray:
        """Rows as `transform` returns them, restored by an estimator of frames with gaps.

        As PCA restores expectations, not single categories, so does this.
        """
        frame = table.inverse_transform(codes)
        features = features_of(table)
        cells = cells_of(table, np.asarray(table.autoencoder_.inverse_transform(codes)))
        categories = categories_of(table)
        for j in set(features.tolist()) - set(categories):
            frame[frame.columns[j]] = cells[:, features == j][:, 0]
        for name in self.categorical:  # one without values in `fit` is not restored
            frame[name] = frame[name].astype(object).where(frame[name].notna(), MISSING)
        rows = self.transform(frame)
        order = [*self.numeric, *self.categorical]
        owners, _ = self._layout()
        for j, values in categories.items():
            name = frame.columns[j]
            own = owners == order.index(name)
            one_each = _safe_indexing(frame, [0] * len(values)).assign(**{name: values})
            rows[:, own] = cells[:, features == j] @ self.transform(one_each)[:, own]
        return rows

    def _layout(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each column of `transform`: position of its feature, and whether it marks gaps."""
        owners = list(range(len(self.numeric)))
        is_missing = [False] * len(owners)
        if self.categorical:
            encoder = self.encoder_.transformers_[-1][1]
            both = zip(encoder.categories_, encoder.infrequent_categories_, strict=True)
            for j, (values, rare) in enumerate(both, start=len(owners)):
                kept = values if rare is None else values[~np.isin(values, rare)]
                marks = [value == MISSING for value in kept] + [False] * (rare is not None)
                owners += [j] * len(marks)
                is_missing += marks
        return np.array(owners), np.array(is_missing)
