"""The bases of estimators of tables: columns in and out, and their joint distribution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from skae._data.dataset import Dataset
from skae._data.estimator_rollback import all_or_nothing
from skae._data.frames import FramesOut
from skae._data.parameter_checks import Interval, check_integer, integers_in
from skae._data.seeds_and_devices import derive_seeds, resolve_device
from skae._data.table_columns import UNMODELLED, Column, TableColumns
from skae._data.table_frames import Table, open_table
from skae._data.units import check_groups
from skae._estimators.base import BaseAutoencoder
from skae._estimators.html_display import FitDisplay
from skae._latent.column_cells import ColumnCells
from skae._latent.column_model import ColumnModel, ColumnTraining
from skae._training.pickling import PicklingMixin
from skae._training.progress import QUIET, Progress, progress_of_fit
from skae._training.validation_split import hold_out
from skae.networks.inference import Cast

CANDIDATES = 8  # rows drawn for each row of a sample with several conditions on ranges
FEWEST_ROWS = 10  # below, columns are taken as independent
SEVERAL = (tuple, list, set, frozenset, np.ndarray)  # containers of a condition's values
OF_TRAINING = (  # parameters that take the same values as those of `BaseAutoencoder`
    "lr",
    "weight_decay",
    "batch_size",
    "max_epochs",
    "validation_fraction",
    "device",
    "random_state",
    "verbose",
)


class TableEstimator(PicklingMixin, FitDisplay, BaseEstimator):
    """Takes tables whose columns may be numbers or categories."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "categorical_features": ["array-like", StrOptions({"auto"}), None],
    }
    _state_classes: ClassVar[dict[str, type]] = {"_columns": TableColumns}

    categorical_features: Any
    n_features_in_: int
    _columns: TableColumns
    _progress: Progress = QUIET

    def _learn_table(self, X: Any, **options: Any) -> Table:
        """Learn the columns of a table, with options of `TableColumns.learn`."""
        table = open_table(X)
        self._columns = TableColumns.learn(
            table, categorical_features=self.categorical_features, **options
        )
        validate_data(self, table.data, skip_check_array=True, reset=True)
        return table

    def _open(self, X: Any) -> Table:
        """A table with the columns of `fit`."""
        check_is_fitted(self)
        table = open_table(X)
        validate_data(self, table.data, skip_check_array=True, reset=False)
        return table

    def _encode(self, table: Table) -> np.ndarray:
        """Values (n_samples, n_features) of the cells of a table, NaN in gaps."""
        return self._columns.encode(table)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


class TableEncoder(FramesOut, TableEstimator):
    """Encodes the rows of tables, here and in ONNX models."""

    def to_numbers(self, X: Any) -> np.ndarray:
        """Encode the cells of a table as numbers, which is what an ONNX model takes.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)

        Returns
        -------
        numbers : ndarray of shape (n_samples, n_features), float64
            Numbers as they are; categories and booleans as whole numbers in the order of their
            categories, of which infrequent ones share one; dates, durations and times as
            ``(date - origin) / step``; 0 in constant columns; NaN in gaps and where a category is
            unknown, if these are accepted.
        """
        return self._encode(self._open(X))

    def _as_module(self, method: str, dtype: torch.dtype = torch.float32) -> nn.Sequential:
        """`transform` of the result of `to_numbers`, as steps of an ONNX model."""
        if method != "transform":
            raise ValueError(
                f"method={method!r} of a {type(self).__name__} cannot be exported, only "
                "'transform' can: an ONNX model returns no table. Use the estimator itself."
            )
        return nn.Sequential(Cast(torch.float64), *self._steps_to_codes(dtype)).eval()

    def _steps_to_codes(self, dtype: torch.dtype) -> Iterable[nn.Module]:
        """Steps from values (n_rows, n_features) to codes, of type `dtype`."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags


class TableModel(TableEstimator):
    """Joint distribution of the columns of a table with categories and gaps.

    Parameters
    ----------
    categorical_features : "auto", None or array-like of str, int or bool, default="auto"
        Which columns are categories: names, positions, or a mask. Text, booleans and columns of
        a categorical dtype always are. "auto" and None add no others: whole numbers are numbers,
        whatever the number of their values. List those that are labels.
    handle_unknown : {"ignore", "error", "infrequent_if_exist"}, default="ignore"
        What is done with a category that `fit` has not seen: it is taken as a gap, it is an error,
        or it joins the infrequent categories of its column, if there are any.
    min_frequency : int or float, default=None
        Categories with fewer rows, or a smaller share of the rows, share one code. It stands for
        the most frequent of them.
    max_categories : int, default=100
        Largest number of categories of a column. Rarer ones share one code. None is no limit;
        time and memory grow with the number of categories.
    column_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the hidden layers of the networks that predict columns from other columns.
    n_networks : int, default=2
        Number of these networks. Each row is drawn by one of them; means and probabilities are
        averaged.
    lr : float, default=2e-3
        Largest learning rate of these networks.
    weight_decay : float, default=0.1
        Strength with which their weights are pulled towards zero.
    batch_size : int or "auto", default="auto"
        Rows per training step; "auto" is 128 for these networks.
    max_epochs : int or "auto", default="auto"
        Largest number of passes over the training rows. "auto" is 4,000 training steps of these
        networks, and 10 to 450 passes; they stop if 15 % of the passes bring no progress.
    validation_fraction : float, default=0.1
        Share of the rows that are held out to choose the best weights. Copies of a row are held
        out together.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:1", "mps", or "auto", which is an accelerator if there is one. Rows
        are drawn on the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, validation split, order of rows, and masks.
    verbose : int, default=0
        1 shows a progress bar in `fit`: the epochs of all networks, with the losses.

    Attributes
    ----------
    columns_ : list of dict
        What was learnt of each column: its "name", which is its position in an array; its
        "kind", which is "number", "category", "ordered", "boolean", "date" (also times and
        durations), "constant" or "empty"; of those that have categories, the "categories", each
        with its number in "codes", which infrequent ones share; and of dates the "origin", which
        is the earliest, and the "step" in which they are counted, as values of numpy (those with
        a time zone in UTC, periods as integers).
    n_samples_ : int
        Number of training rows.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X has string column names.
    loss_curve_, validation_loss_curve_ : list of float
        Mean negative log-likelihood of a hidden cell after each epoch, in nats.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TableEstimator._parameter_constraints,
        "handle_unknown": [StrOptions({"ignore", "error", "infrequent_if_exist"})],
        "min_frequency": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            None,
        ],
        "max_categories": [Interval(Integral, 2, None, closed="left"), None],
        "column_layer_sizes": BaseAutoencoder._parameter_constraints["hidden_layer_sizes"],
        "n_networks": [Interval(Integral, 1, None, closed="left")],
        **{name: BaseAutoencoder._parameter_constraints[name] for name in OF_TRAINING},
    }
    _state_classes: ClassVar[dict[str, type]] = {
        **TableEstimator._state_classes,
        "_column_model": ColumnModel,
    }
    _state_curves: ClassVar[tuple[str, ...]] = ()

    # Parameters.
    handle_unknown: str
    min_frequency: int | float | None
    max_categories: int | None
    column_layer_sizes: Any
    n_networks: int
    lr: float
    weight_decay: float
    batch_size: Any
    max_epochs: Any
    validation_fraction: float
    device: str
    random_state: Any
    verbose: int
    # Set by `fit`.
    n_samples_: int
    _modelled: np.ndarray  # indices of the columns that vary
    _column_model: ColumnModel
    _seeds: list[int]  # of weights, order of rows, masks, split, codes or draws, orders

    # -- fit -----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> Self:
        """Fit to a table.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            A pandas or polars frame, a pyarrow table, or an array-like. NaN, None, NaT, `pandas.NA`
            and nulls are gaps.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Targets that codes shall predict if there is a `target_weight` that is positive; else
            ignored. NaN and None are unknown.
        groups : array-like of shape (n_samples,), default=None
            Label of the group of each row, such as a person. The rows of a group are held out
            together.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X is not 2-D or empty, if a number is infinite, if a column holds objects that are
            no values, if a parameter does not suit X, or if the device does not exist.
        """
        with progress_of_fit(self), all_or_nothing(self), torch.inference_mode(False):
            device = resolve_device(self.device)
            values, cells = self._learn_columns(X)
            labels = check_groups(groups, values)
            self._seeds = derive_seeds(self.random_state, 6)
            self.n_samples_ = len(values)
            self._fit_column_model(values[:, self._modelled], cells, labels, device)
            self._after_columns(values, y, groups)
        return self

    def _learn_columns(
        self, X: Any, *, declared: bool = False
    ) -> tuple[np.ndarray, list[ColumnCells]]:
        """Learn the columns of X; return their values (n_samples, n_features), NaN in gaps.

        With them come the cells of the columns that vary, numbers of many values last. If
        `declared`, categories that a dtype declares are learnt even if X has none of them.
        """
        table = self._learn_table(
            X,
            handle_unknown=self.handle_unknown,
            min_frequency=self.min_frequency,
            max_categories=self.max_categories,
            declared=declared,
        )
        kinds = [column.kind for column in self._columns.columns]
        varying = [j for j, kind in enumerate(kinds) if kind not in UNMODELLED]
        varying = varying or [0]  # if none varies, the first is one category
        values = self._encode(table)
        cells = [ColumnCells.of_column(self._columns.columns[j], values[:, j]) for j in varying]
        order = sorted(range(len(cells)), key=lambda i: cells[i].kind == "number")
        self._modelled = np.array(varying)[order]
        return values, [cells[i] for i in order]

    def _fit_column_model(
        self, values: np.ndarray, cells: list[ColumnCells], labels: Any, device: torch.device
    ) -> None:
        """Train the networks that predict columns, on values (n_samples, n_modelled)."""
        held_out = np.zeros(0, int)
        rows = np.nan_to_num(values)
        rows /= np.maximum(np.abs(rows).max(axis=0), np.finfo(float).tiny)  # copies have no unit
        rows = Dataset(rows, np.zeros(values.shape[1]))
        rows.groups = labels
        if len(values) >= FEWEST_ROWS and rows.n_units > 1:
            _, held_out = hold_out(rows, self.validation_fraction, self._seeds[3])
        training = self._training(device, self._seeds)
        with self._progress.stage("columns"):
            self._column_model = ColumnModel.fit(cells, values, training, held_out)

    def _training(self, device: torch.device, seeds: Sequence[int]) -> ColumnTraining:
        """Settings of the training of the networks that predict columns."""
        sizes = self.column_layer_sizes
        widths = None if isinstance(sizes, str) else integers_in(sizes)
        if not isinstance(sizes, str) and (widths is None or min(widths, default=0) < 1):
            raise ValueError(
                f"column_layer_sizes={sizes!r} must hold at least one integer, each >= 1; or pass "
                "'auto'."
            )
        return ColumnTraining(
            None if widths is None else tuple(widths),
            int(self.n_networks),
            float(self.lr),
            float(self.weight_decay),
            None if self.batch_size == "auto" else int(self.batch_size),
            None if self.max_epochs == "auto" else int(self.max_epochs),
            device,
            tuple(seeds[:3]),
            self._progress,
        )

    def _after_columns(self, values: np.ndarray, y: Any, groups: Any) -> None:
        """Fit what an estimator has besides, to the values (n_samples, n_features)."""

    # -- tables in and out ---------------------------------------------------------

    def _values(self, X: Any) -> np.ndarray:
        """Values (n_samples, n_modelled) of a table with the columns of `fit`."""
        return self._encode(self._open(X))[:, self._modelled]

    def _decode(self, values: np.ndarray, like: Any = None) -> Any:
        """Table like that of `fit`, of values (n_rows, n_modelled) of the columns that vary.

        Constant columns have their value. It has the index of the frame `like`.
        """
        return self._columns.decode(self._all_columns(values), template=like)

    def _all_columns(self, values: np.ndarray) -> np.ndarray:
        """Values of all columns, of those of the columns that vary."""
        everything = np.full((len(values), self.n_features_in_), np.nan)
        for j, column in enumerate(self._columns.columns):
            if column.kind == "constant":
                everything[:, j] = 0.0
        everything[:, self._modelled] = values
        return everything

    @property
    def columns_(self) -> list[dict[str, Any]]:
        """What was learnt of each column."""
        check_is_fitted(self, "_columns")
        columns = []
        for column in self._columns.columns:
            learnt = {"name": column.name, "kind": column.kind}
            if column.codes is not None and column.is_category:
                learnt["categories"] = list(column.categories or [])
                learnt["codes"] = column.codes.tolist()
            elif column.kind == "date":
                learnt["origin"], learnt["step"] = column.ticks
            columns.append(learnt)
        return columns

    @property
    def loss_curve_(self) -> list[float]:
        """Mean training loss after each epoch."""
        check_is_fitted(self, "_column_model")
        return self._column_model.loss_curve

    @property
    def validation_loss_curve_(self) -> list[float]:
        """Mean validation loss after each epoch."""
        check_is_fitted(self, "_column_model")
        return self._column_model.validation_curve

    # -- gaps ----------------------------------------------------------------------

    def impute(self, X: Any, n_imputations: int | None = None, random_state: Any = None) -> Any:
        """Fill gaps; other cells are left as they are.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        n_imputations : int, default=None
            None fills each gap with its mean (numbers and dates) or its likeliest category, given
            the rest of the row. An int draws all gaps of a row together, so many times: multiple
            imputation [2]_.
        random_state : int, RandomState instance or None, default=None
            Of the draws.

        Returns
        -------
        X_imputed : table, or list of `n_imputations` tables
            Of the library, dtypes and index of X. A column that was empty in `fit` stays empty.

        References
        ----------
        .. [2] Rubin (1987). Multiple imputation for nonresponse in surveys.
           https://doi.org/10.1002/9780470316696
        """
        table = self._open(X)
        values = self._values(table)
        if n_imputations is None:
            return self._fill(table, self._with_means(values))
        check_integer(n_imputations, "n_imputations", at_least=1)
        random = check_random_state(random_state)
        return [self._fill(table, self._with_draws(values, random)) for _ in range(n_imputations)]

    def _with_means(self, values: np.ndarray) -> np.ndarray:
        """Values (n_samples, n_modelled) whose gaps have their means or likeliest categories."""
        filled = values.copy()
        for j, rows, expected in self._column_model.expectations(values):
            filled[rows, j] = expected.argmax(axis=1) if expected.ndim == 2 else expected
        return filled

    def _with_draws(self, values: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """Values (n_samples, n_modelled) whose gaps are drawn together in each row."""
        filled, incomplete = values.copy(), np.isnan(values).any(axis=1)
        filled[incomplete] = self._column_model.draw(values[incomplete], random)[0]
        return filled

    def _fill(self, table: Table, values: np.ndarray) -> Any:
        """A table whose gaps have the values (n_samples, n_modelled)."""
        return self._columns.with_gaps_filled(table, self._all_columns(values))

    # -- rows ----------------------------------------------------------------------

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-likelihood of what is known of each row.

        Columns are predicted one after the other, from those before them; the likelihood is the
        mean over four orders of the columns. It is the probability of the observed cells: of
        categories, and of values or, of numbers with more than 1,000 distinct training values,
        of intervals between them. Values outside the training range count as its ends. Gaps
        count nothing, and so do constant columns.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            In nats.
        """
        values = self._values(X)
        return self._column_model.log_likelihood(values, np.random.RandomState(self._seeds[5]))

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        condition: Mapping[Any, Any] | None = None,
    ) -> Any:
        """Draw new rows, without gaps. Columns that were empty in `fit` stay empty.

        Each row is drawn column by column, in random order, given what is already drawn.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None
        condition : dict, default=None
            What holds in all rows, by column name, or by position in an array: a value; a list of
            values; or, of numbers, dates and ordered categories, a tuple ``(low, high)``, which
            includes both ends; None is no bound. All rows hold it: none is drawn in vain for
            single values, or for one list or range. For several of these, eight candidates for
            each row are drawn in the conditioned columns.

        Returns
        -------
        X : table of shape (n_samples, n_features)
            Of the library, columns and dtypes of the table in `fit`.

        Raises
        ------
        ValueError
            If a condition names no column, admits no value that `fit` has seen, or asks for a
            value that the column cannot hold: one that its dtype rounds, or an infrequent category.
        """
        check_is_fitted(self)
        check_integer(n_samples, "n_samples", at_least=1)
        random = check_random_state(random_state)
        fixed, allowed = self._read_condition(condition or {})
        values = np.full((n_samples, len(self._modelled)), np.nan)
        for j, value in fixed.items():
            values[:, j] = value
        if allowed:
            values = self._draw_conditioned(values, allowed, random)
        return self._decode(self._column_model.draw(values, random)[0])

    def _draw_conditioned(
        self, values: np.ndarray, allowed: dict[int, np.ndarray], random: Any
    ) -> np.ndarray:
        """Draw the columns with several admitted cells; candidates are weighted."""
        n_candidates = 1 if len(allowed) == 1 else CANDIDATES
        candidates = np.repeat(values, n_candidates, axis=0)
        model, only = self._column_model, list(allowed)
        candidates, log_weights = model.draw(candidates, random, allowed, only=only)
        if n_candidates == 1:
            return candidates
        weights = np.exp(log_weights - log_weights.max())
        chosen = random.choice(len(candidates), len(values), p=weights / weights.sum())
        return candidates[chosen]

    def _read_condition(
        self, condition: Mapping[Any, Any]
    ) -> tuple[dict[int, float], dict[int, np.ndarray]]:
        """Read fixed values, and which cells are admitted, by position among modelled columns."""
        if not isinstance(condition, Mapping):
            raise TypeError(
                f"condition={condition!r} must be a dict of columns and what holds in them, such "
                "as {'age': (30, 40)}."
            )
        fixed, allowed = {}, {}
        places = {column.name: j for j, column in enumerate(self._columns.columns)}
        positions = {j: i for i, j in enumerate(self._modelled.tolist())}
        for name, wanted in condition.items():
            if name not in places:
                known = ", ".join(map(repr, list(places)[:8]))
                raise ValueError(
                    f"condition names {name!r}, which is no column; the columns are {known}"
                    f"{' and more' if len(places) > 8 else ''}."
                )
            j = places[name]
            column = self._columns.columns[j]
            if column.kind in UNMODELLED:
                self._check_constant(j, column, wanted)
            elif isinstance(wanted, SEVERAL):
                cells = self._column_model.columns[positions[j]]
                allowed[positions[j]] = self._admitted(j, wanted, cells.low, cells.high)
            else:
                fixed[positions[j]] = self._columns.encode_value(j, wanted)
        return fixed, allowed

    def _admitted(self, j: int, wanted: Any, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Mask of the cells, from `low` to `high`, that a list or range admits."""
        column = self._columns.columns[j]
        if isinstance(wanted, tuple):
            first, last = self._read_range(j, column, wanted)
            if column.kind == "ordered":  # rare ones share the last code
                places = {category: i for i, category in enumerate(column.categories or [])}
                low = high = np.array([places[value] for value in column.representatives])
                first, last = (low[int(end)] if np.isfinite(end) else end for end in (first, last))
            admitted = (low >= first) & (high <= last)
        else:
            codes = [self._columns.encode_value(j, value) for value in wanted]
            admitted = np.isin(low, codes) & (low == high)
        if not admitted.any():
            what = "the range" if isinstance(wanted, tuple) else "the values"
            raise ValueError(
                f"condition admits {what} {wanted!r} for column {column.name!r}, among which are "
                "none of those that fit has seen; widen it."
            )
        return admitted

    def _read_range(self, j: int, column: Column, wanted: tuple[Any, ...]) -> list[float]:
        """Ends of a range, which may be infinite."""
        if (column.is_category and column.kind != "ordered") or len(wanted) != 2:
            raise ValueError(
                f"condition has {wanted!r} for column {column.name!r}; a tuple is the lowest "
                "and highest value of a number, date or ordered category. Pass a list of values "
                "instead."
            )
        return [
            infinity if end is None else self._columns.encode_value(j, end, exact=False)
            for end, infinity in zip(wanted, (-np.inf, np.inf), strict=True)
        ]

    def _check_constant(self, j: int, column: Column, wanted: Any) -> None:
        """Refuse a condition on a constant or empty column that does not hold."""
        if column.kind == "constant":
            if not isinstance(wanted, SEVERAL):
                wanted = [wanted]
            self._admitted(j, wanted, np.zeros(1), np.zeros(1))
            return
        raise ValueError(
            f"condition asks {wanted!r} of column {column.name!r}, which was empty in fit; leave "
            "it out."
        )

    # -- scikit-learn's contract ---------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_column_model")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
