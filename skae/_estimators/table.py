"""Autoencoder of mixed tables: numbers, categories, dates and gaps."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skae._data.estimator_rollback import all_or_nothing
from skae._data.frames import check_code_names
from skae._data.input_checks import check_codes
from skae._data.seeds_and_devices import derive_seeds, resolve_device
from skae._data.statistics import explained_share
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.docstrings import inherit_entries
from skae._estimators.partial_fit import IncrementalAutoencoder
from skae._estimators.table_base import TableEncoder, TableModel
from skae._latent.column_graph import ToCoordinates
from skae._latent.column_model import ColumnModel
from skae._latent.famd import FamdCoordinates

OF_CODES = "n_components", "hidden_layer_sizes", "target_weight", "stochastic_depth", "whiten"
CODE_PARAMETERS = (
    *OF_CODES,
    "batch_size",
    "max_epochs",
    "validation_fraction",
    "device",
    "verbose",
)


@inherit_entries(TableModel)
class TableAutoencoder(TableEncoder, TableModel):
    """Autoencoder of tables as people have them: numbers, categories, dates and gaps.

    It takes a frame, and returns frames of the same columns, dtypes and library. `transform`
    compresses rows to codes without gaps, `inverse_transform` restores rows, `impute` fills gaps,
    and `sample` draws new rows.

    Parameters
    ----------
    n_components : int, float or None, default=2
        Number of components, which is the size of the code. A float in (0, 1) is the share of
        the variance of held-out rows that the code shall explain. None is the number of
        coordinates (see Notes) or of rows.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the hidden layers of the encoder and, in reverse order, of the decoder. ``()`` is
        a linear autoencoder, which is FAMD.
    target_weight : float, default=0.0
        How much the code shall predict y, too; 1 is recommended. 0 ignores y. See
        `AutoencoderTransformer`.
    stochastic_depth : float or "auto", default="auto"
        Share of the rows of each batch whose code is FAMD's. See `AutoencoderTransformer`.
    whiten : bool, default=False
        Scale components to unit variance.
    *

    Attributes
    ----------
    n_components_ : int
    explained_variance_, explained_variance_ratio_ : ndarray of shape (n_components_,)
        Variance of each component over the training rows, and the share of the variance of the
        coordinates that it adds, as in `AutoencoderTransformer`.
    pca_error_ratio_ : float
        Squared error of restored validation rows over that of FAMD.
    autoencoder_ : AutoencoderTransformer
        Fitted to the coordinates of the training rows.
    *

    See Also
    --------
    AutoencoderImputer : Fills gaps in a Pipeline.
    AutoencoderTransformer : Numbers without gaps.

    Notes
    -----
    The model has two parts.

    *Columns.* Networks predict each column from any other columns. They are trained on rows of
    which a random set of columns is hidden; gaps are hidden too, and count nothing: the loss of a
    row is the sum of the negative log-likelihoods of its hidden cells that were observed, divided
    by the number of its hidden columns. A category has a softmax. A number is mapped to a normal
    scale by its ranks; its distribution is a mixture of four logistic distributions and of eight
    intervals of equal frequency, over the distinct training values (or 1,000 intervals between
    them). So rounding, repeated values and bounds are kept. A number of at most 30 distinct values
    has a probability for each value. Where two numbers determine each other closely, their
    difference is an input, too. `sample`, `impute` and `score_samples` use this part.

    *Codes.* Each number becomes its standard score, each category an indicator over the root of
    its frequency. Principal components of these coordinates are the factor analysis of mixed
    data (FAMD) [1]_. An `AutoencoderTransformer` compresses them: it starts at FAMD, and keeps it
    unless the error of held-out rows is lower. Where a row has gaps, its coordinates are their
    expectations given the rest of the row, by the first part; nothing is guessed before that
    part is fitted. `transform`, `inverse_transform`, `reconstruct`, `score` and
    `reconstruction_error` use this part. `score` and errors are those of the coordinates, over
    observed cells.

    Whole numbers are numbers, also if they have few values: a count and a code look alike. List
    codes in `categorical_features`.

    References
    ----------
    .. [1] Pagès (2004). Analyse factorielle de données mixtes. Revue de statistique appliquée 52.
       http://www.numdam.org/item/RSA_2004__52_4_93_0/

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skae import TableAutoencoder
    >>> random = np.random.default_rng(0)
    >>> size = random.normal(size=300)
    >>> frame = pd.DataFrame({
    ...     "length": (50 + 10 * size).round(1),
    ...     "weight": (20 + 6 * size + random.normal(size=300)).round(1),
    ...     "kind": np.where(size > 0.3, "large", "small"),
    ... })
    >>> frame.loc[::10, "weight"] = np.nan
    >>> table = TableAutoencoder(n_components=1, max_epochs=30, random_state=0).fit(frame)
    >>> table.transform(frame).shape
    (300, 1)
    >>> table.impute(frame)["weight"].isna().sum()
    np.int64(0)
    >>> table.sample(2, random_state=0, condition={"kind": "large"})["kind"].tolist()
    ['large', 'large']
    """

    __module__ = "skae"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TableModel._parameter_constraints,
        **{name: AutoencoderTransformer._parameter_constraints[name] for name in OF_CODES},
    }
    _state_classes: ClassVar[dict[str, type]] = {
        **TableModel._state_classes,
        "_coordinates": FamdCoordinates,
    }

    autoencoder_: AutoencoderTransformer
    _coordinates: FamdCoordinates

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        categorical_features: Any = "auto",
        handle_unknown: Literal["ignore", "error", "infrequent_if_exist"] = "ignore",
        min_frequency: int | float | None = None,
        max_categories: int | None = 100,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        target_weight: float = 0.0,
        stochastic_depth: float | Literal["auto"] = "auto",
        whiten: bool = False,
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
        self.n_components = n_components
        self.categorical_features = categorical_features
        self.handle_unknown = handle_unknown
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.hidden_layer_sizes = hidden_layer_sizes
        self.target_weight = target_weight
        self.stochastic_depth = stochastic_depth
        self.whiten = whiten
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

    # -- fit -----------------------------------------------------------------------

    def _after_columns(self, values: np.ndarray, y: Any, groups: Any) -> None:
        self._coordinates = FamdCoordinates.of_columns(self._column_model.columns)
        coordinates = self._to_coordinates(values[:, self._modelled])
        autoencoder = self._make_autoencoder()
        with self._progress.lent_to(autoencoder, "codes"):
            self.autoencoder_ = autoencoder.fit(coordinates, y, groups=groups)

    def _make_autoencoder(self) -> AutoencoderTransformer:
        """Autoencoder of the coordinates, not fitted."""
        # The density of the codes is not used: rows are drawn column by column.
        autoencoder = AutoencoderTransformer(
            latent_density="standard_normal", random_state=self._seeds[4]
        )
        return autoencoder.set_params(**self._code_parameters())

    def _code_parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in CODE_PARAMETERS}

    def _to_coordinates(self, values: np.ndarray) -> np.ndarray:
        """Coordinates of values (n_rows, n_modelled); gaps have their expectation."""
        coordinates = self._coordinates.from_values(values)
        for j, rows, expected in self._column_model.expectations(values):
            self._coordinates.set_expected(coordinates, j, rows, expected)
        return coordinates

    @available_if(IncrementalAutoencoder._ignores_y)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train on more rows.

        The first call learns the columns: their categories, the values and ranges of numbers, and
        means and scales. Pass some hundreds of rows that are like those to come. Categories that
        a dtype declares are learnt even if none of these rows has them: those of pandas'
        ``category``, of an ``Enum`` of polars, of a dictionary of pyarrow. Later, other categories
        are treated as `handle_unknown` says, numbers outside the ranges count as their ends, and
        columns that were constant or empty stay so.

        Each call trains the networks of the columns for one pass over its rows. The codes are
        trained as by `AutoencoderTransformer.partial_fit`: they are FAMD's for the first rows, at
        least 500. No rows are held out; `max_epochs` is not used. After `fit`, it continues from
        there.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        y : None
            Ignored, present for Pipelines.

        Returns
        -------
        self : object
            The estimator, which can be used, pickled and trained further.

        Raises
        ------
        ValueError
            If X is not valid for `fit`, has other columns than the first rows, or if
            `n_components` has changed.
        """
        self._validate_params()
        with all_or_nothing(self), torch.inference_mode(False):
            device = resolve_device(self.device)
            if is_first := not self.__sklearn_is_fitted__():
                values, cells = self._learn_columns(X, declared=True)
                values = values[:, self._modelled]
                self.n_samples_, self._seeds = 0, derive_seeds(self.random_state, 6)
                training = self._training(device, self._seeds)
                self._column_model = ColumnModel.fit(cells, values, training, np.zeros(0, int))
                self._coordinates = FamdCoordinates.of_columns(cells)
                self.autoencoder_ = self._make_autoencoder()
            else:
                values = self._values(X)
                self._column_model = copy.deepcopy(self._column_model)
                self.autoencoder_ = copy.deepcopy(self.autoencoder_)
                self.autoencoder_.set_params(**self._code_parameters())
            # Each call has its own seeds, so that no state of a generator must be kept.
            sequence = np.random.SeedSequence([*self._seeds, self.n_samples_])
            seeds = self._seeds if is_first else sequence.generate_state(3).tolist()
            self._column_model.partial_fit(values, self._training(device, seeds))
            self.autoencoder_.partial_fit(self._to_coordinates(values))
            self.n_samples_ += len(values)
        return self

    # -- codes and back --------------------------------------------------------------

    @property
    def n_components_(self) -> int:  # type: ignore[override]
        """Number of components."""
        return self._of_codes("n_components_")

    @property
    def explained_variance_(self) -> np.ndarray:
        """Variance of each component."""
        return self._of_codes("explained_variance_")

    @property
    def explained_variance_ratio_(self) -> np.ndarray:
        """Share of the variance of the coordinates that each component adds."""
        return self._of_codes("explained_variance_ratio_")

    @property
    def pca_error_ratio_(self) -> float:
        """Squared error of restored validation rows over that of FAMD."""
        return self._of_codes("pca_error_ratio_")

    def _of_codes(self, name: str) -> Any:
        if "autoencoder_" not in vars(self):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}; call fit first."
            )
        return getattr(self.autoencoder_, name)

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_), float64
            Codes, also of rows with gaps. A frame if `set_output` asks for frames.
        """
        coordinates = self._to_coordinates(self._values(X))
        return self.autoencoder_.transform(coordinates)

    def _steps_to_codes(self, dtype: torch.dtype) -> Iterable[nn.Module]:
        columns = ToCoordinates(self._column_model, self._coordinates, self._modelled, dtype)
        return columns, *self.autoencoder_._as_module("transform", dtype)

    def inverse_transform(self, X: Any) -> Any:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes as `transform` returns them. The columns of a frame must have the names of
            `get_feature_names_out`.

        Returns
        -------
        X_reconstructed : table of shape (n_samples, n_features)
            Of the library, columns and dtypes of the table in `fit`. Categories are the likeliest
            ones, numbers lie in their training range.
        """
        check_is_fitted(self)
        check_code_names(self, X)
        codes = check_codes(X, self.n_components_)
        coordinates = np.asarray(self.autoencoder_.inverse_transform(codes))
        return self._decode(self._coordinates.to_values(coordinates), like=X)

    def reconstruct(self, X: Any) -> Any:
        """Encode and decode rows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)

        Returns
        -------
        X_reconstructed : table of shape (n_samples, n_features)
            As of `inverse_transform`, without gaps, with the index of X.
        """
        coordinates = self._to_coordinates(self._values(X))
        restored = self.autoencoder_.reconstruct(coordinates)
        return self._decode(self._coordinates.to_values(restored), like=X)

    def reconstruction_error(self, X: Any, per_feature: bool = False) -> np.ndarray:
        """Squared differences between the coordinates of rows and their reconstructions.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        per_feature : bool, default=False
            Return one value per column instead of the sum over columns.

        Returns
        -------
        errors : ndarray of shape (n_samples,) or (n_samples, n_features)
            A number's error is in squared standard deviations. Gaps and constant columns have
            none.
        """
        errors, _ = self._squares(X)
        return errors if per_feature else errors.sum(axis=1)

    def _squares(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Squared errors, and squared distances to the mean, (n_samples, n_features) each."""
        values = self._values(X)
        coordinates = self._to_coordinates(values)
        differences = coordinates - self.autoencoder_.reconstruct(coordinates)
        errors, squares = np.zeros((2, len(values), self.n_features_in_))
        for result, each in ((errors, differences), (squares, coordinates)):
            by_column = self._coordinates.sum_by_column(each**2)
            result[:, self._modelled] = np.where(np.isnan(values), 0.0, by_column)
        return errors, squares

    def score(self, X: Any, y: Any = None) -> float:
        """Fraction of the variance of the coordinates that is explained, over observed cells.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        score : float
            ``1 - SSE / SST``, as of `AutoencoderTransformer.score`.
        """
        errors, squares = self._squares(X)
        return explained_share(float(errors.sum()), float(squares.sum()))

    # -- scikit-learn's contract ---------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        weight = self.target_weight
        tags.target_tags.required = isinstance(weight, Real) and weight > 0
        tags.target_tags.multi_output = tags.target_tags.required
        return tags
