"""Imputer of mixed tables, by networks that predict columns from other columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.impute import MissingIndicator
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skae._data.table_frames import Table, append_columns, to_library
from skae._estimators.docstrings import inherit_entries
from skae._estimators.table_base import TableModel


@inherit_entries(TableModel)
class AutoencoderImputer(TransformerMixin, TableModel):
    """Fills gaps of tables with numbers, categories and dates.

    It takes the place of `sklearn.impute.IterativeImputer` in a Pipeline, and takes columns of any
    type. All columns are learnt together, once, by masked networks; a gap is filled from what is
    known of its row. `TableAutoencoder.impute` fills gaps in the same way.

    Parameters
    ----------
    sample_posterior : bool, default=False
        Fill gaps with draws, instead of means and likeliest categories.
    add_indicator : bool, default=False
        Append a column of 0 and 1 for each column that had gaps in `fit`: where it has one.
    *

    Attributes
    ----------
    indicator_ : MissingIndicator or None
        None if there are no indicators.
    *

    See Also
    --------
    TableAutoencoder : Compresses, restores and draws rows, too.

    Notes
    -----
    Unlike in scikit-learn's imputers, a column that is empty in `fit` stays, and stays empty.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderImputer
    >>> X = load_iris().data
    >>> X[::5, 2] = np.nan
    >>> filled = AutoencoderImputer(random_state=0).fit_transform(X)
    >>> np.isnan(filled).sum()
    np.int64(0)
    """

    __module__ = "skae"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TableModel._parameter_constraints,
        "sample_posterior": ["boolean"],
        "add_indicator": ["boolean"],
    }

    indicator_: MissingIndicator | None

    def __init__(
        self,
        *,
        categorical_features: Any = "auto",
        handle_unknown: Literal["ignore", "error", "infrequent_if_exist"] = "ignore",
        min_frequency: int | float | None = None,
        max_categories: int | None = 100,
        sample_posterior: bool = False,
        add_indicator: bool = False,
        column_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        n_networks: int = 2,
        lr: float = 2e-3,
        weight_decay: float = 0.1,
        batch_size: int | Literal["auto"] = "auto",
        max_epochs: int | Literal["auto"] = "auto",
        validation_fraction: float = 0.1,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.categorical_features = categorical_features
        self.handle_unknown = handle_unknown
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.column_layer_sizes = column_layer_sizes
        self.n_networks = n_networks
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _after_columns(self, values: np.ndarray, y: Any, groups: Any) -> None:
        self.indicator_ = None
        if self.add_indicator:
            self.indicator_ = MissingIndicator(error_on_new=False).fit(values)

    def transform(self, X: Any) -> Any:
        """Fill the gaps of rows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)

        Returns
        -------
        X_imputed : table of shape (n_samples, n_features + n_indicators)
            Of the library, dtypes and index of X; a frame of another library if `set_output`
            asks for it. A column that was empty in `fit` stays empty. If gaps are filled with
            draws, the same table has the same draws in each call. If indicators are appended to
            a frame whose names are no strings, its names become those of `get_feature_names_out`.
        """
        table = self._open(X)
        own = self._values(table)
        if self.sample_posterior:
            filled = self._with_draws(own, np.random.RandomState(self._seeds[4]))
        else:
            filled = self._with_means(own)
        X_imputed = self._fill(table, filled)
        if self.indicator_ is not None and len(self.indicator_.features_):
            # Of the cells themselves: a category that fit has not seen is no gap.
            gaps = np.where(self._columns.observed(table), 0.0, np.nan)
            indicators = self.indicator_.transform(gaps).astype(float)
            X_imputed = append_columns(X_imputed, self._names_in_frame(table), indicators)
        library = _get_output_config("transform", self)["dense"]
        if library == "default":
            return X_imputed
        return to_library(X_imputed, library, self.get_feature_names_out().tolist())

    def _names_in_frame(self, table: Table) -> list[Any]:
        """Names of the columns of a frame, and of the indicators.

        If names are no strings, all are those of `get_feature_names_out`: scikit-learn takes no
        frames of names of several types.
        """
        names = self.get_feature_names_out().tolist()
        if table.names is None or not all(isinstance(name, str) for name in table.names):
            return names
        return [*table.names, *names[len(table.names) :]]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns, then of the indicators.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns if `fit` had none.

        Returns
        -------
        feature_names_out : ndarray of str
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features).tolist()
        if self.indicator_ is not None:
            names += [f"missingindicator_{names[j]}" for j in self.indicator_.features_]
        return np.array(names, dtype=object)
