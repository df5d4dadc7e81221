"""A classifier and a regressor on the codes of an autoencoder, fine-tuned."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, check_array
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)
from torch import nn

from skae._data.input_checks import as_numpy, check_rows
from skae._data.input_errors import check_squares
from skae._data.parameter_checks import Interval
from skae._data.rollback import all_or_nothing
from skae._data.sample_weight import check_weights, sort_and_repeat, weighted_mean
from skae._data.seeds_and_devices import derive_seeds, seeded_globally
from skae._data.threads import limited_threads
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.base import BaseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.supervised.fine_tuning import FineTuning, HeadInitializer
from skae._estimators.supervised.label_propagation import neighbor_graphs
from skae._estimators.supervised.targets import ClassTarget, ContinuousTarget, Target
from skae._training.callbacks import check_callbacks
from skae._training.net import AutoencoderNet
from skae._training.pickling import PicklingMixin
from skae._training.validation_split import MIN_ROWS_TO_HOLD_OUT
from skae.noise import NOISES, check_noise

DEFAULT_COMPONENTS = 32


class _Supervised(
    PicklingMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Template of classifier and regressor.

    Parameters
    ----------
    autoencoder : estimator, default=None
        An estimator of skae, of which a clone is fitted, or one that is fitted already, as
        ``FrozenEstimator(autoencoder)``. None is `AutoencoderTransformer` with 32 components,
        or as many as there are features if these are fewer.
    freeze : bool, default=False
        Train the head only.
    unlabeled : label, default=None
        What stands in y for rows without a label, such as -1 or NaN. The autoencoder is
        fitted to all rows, the head to the labelled ones. None: all rows are labelled.
    spread_labels : bool, default=True
        Give unlabelled rows targets to train on: what the head predicts, averaged over
        neighbours in the space of codes, labelled ones above all. Done only where it predicts
        held-out labels better than the head.
    n_neighbors : int, default=10
        Neighbours that targets are spread to.
    noise : str, nn.Module or None, default=None
        What corrupts rows while fine-tuning, so that predictions depend on no few features:
        "masking", "gaussian", "salt_pepper", "swap" or a module, as in `DenoisingAutoencoder`.
        Weights are judged by clean rows.
    noise_level : float, default=0.25
        For "gaussian" in standard deviations of each feature, else the share of entries in
        [0, 1]. Not used by your own module.
    lr : float, default=1e-3
        Peak of the learning rate while fine-tuning.
    weight_decay : float, default=0.01
    batch_size : int or "auto", default="auto"
    max_epochs : int or "auto", default="auto"
        Passes over the rows while fine-tuning.
    early_stopping : bool, default=True
        Hold rows out and keep the weights that predict them best, those before fine-tuning
        among them; below 500 labelled rows, hold out each row once and keep the best number
        of epochs; below 30, do not fine-tune. False trains on all rows and keeps the last
        weights.
    validation_fraction : float, default=0.1
    callbacks : list of skorch callbacks, default=None
        Of the fine-tuning.
    random_state : int, RandomState instance or None, default=None
        Of the fine-tuning, and of the autoencoder if its own is None.
    verbose : int, default=0
        1 shows a progress bar of the fine-tuning.

    Attributes
    ----------
    autoencoder_ : estimator
        Fitted to all rows, before fine-tuning.
    net_ : skorch.NeuralNet
        Encoder and head; its network is ``net_.module_``.
    n_components_ : int
        Of the codes.
    metric_ : {"euclidean", "cosine"} or None
        By which rows were neighbours: distance between codes, or the angle between whitened
        codes; None where nothing was spread.
    alpha_ : float or None
        Share that each step of spreading took from neighbours; None where nothing was spread.
    n_iter_ : int
        Epochs of fine-tuning.
    loss_curve_, validation_loss_curve_ : list of float
        Mean loss per row after each epoch of fine-tuning.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X has string column names.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "autoencoder": [HasMethods(["fit", "transform"]), None],
        "freeze": ["boolean"],
        "unlabeled": "no_validation",  # type: ignore[dict-item]
        "spread_labels": ["boolean"],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "noise": [StrOptions(set(NOISES)), nn.Module, None],
        "noise_level": [Interval(Real, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "callbacks": [list, tuple, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _state_classes: ClassVar[dict[str, type]] = {"net_": AutoencoderNet}
    _state_shapes: ClassVar[dict[str, str]] = {}
    _state_parts: ClassVar[tuple[str, ...]] = ("autoencoder_", "_target")

    net_: Any
    autoencoder_: Any
    _target: Target

    def __init__(
        self,
        autoencoder: Any = None,
        *,
        freeze: bool = False,
        unlabeled: Any = None,
        spread_labels: bool = True,
        n_neighbors: int = 10,
        noise: str | nn.Module | None = None,
        noise_level: float = 0.25,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        batch_size: int | Literal["auto"] = "auto",
        max_epochs: int | Literal["auto"] = "auto",
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        callbacks: Sequence[Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.autoencoder = autoencoder
        self.freeze = freeze
        self.unlabeled = unlabeled
        self.spread_labels = spread_labels
        self.n_neighbors = n_neighbors
        self.noise = noise
        self.noise_level = noise_level
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    # -- what classifier and regressor choose --------------------------------------

    @abstractmethod
    def _check_labels(self, y: np.ndarray) -> np.ndarray:
        """Check the labels of labelled rows."""

    @abstractmethod
    def _make_target(self, y: np.ndarray, weights: np.ndarray | None) -> Target:
        """Learn how labels become columns of numbers."""

    # -- fit -----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the autoencoder, then the head, then both.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels; `unlabeled` in rows that have none.
        sample_weight : array-like of shape (n_samples,), default=None
            Rows of weight zero are dropped.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or y holds NaN or infinity, lengths or widths differ, no row is labelled, or
            labels are of one class only.
        """
        with all_or_nothing(self), torch.inference_mode(False):
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        check_callbacks(self.callbacks)
        check_noise(self.noise, self.noise_level)
        rows = check_rows(self, X, reset=True)
        y = self._check_y(y, rows)
        rows, weights = check_weights(sample_weight, rows)
        y, _ = check_weights(sample_weight, y)
        columns = self._encode_targets(y, weights)
        rows, columns, weights = _sort_and_repeat(rows, columns, weights)
        seeds = derive_seeds(self.random_state, 5)
        self.autoencoder_ = self._fitted_autoencoder(X, rows, weights, seeds[0])
        self.n_components_ = self.autoencoder_.n_components_
        with limited_threads(torch.get_num_threads()):
            self._fit_head(rows, columns, weights, seeds[1:])
        self.loss_curve_ = [epoch["train_loss"] for epoch in self.net_.history]
        self.n_iter_ = len(self.loss_curve_)

    def _encode_targets(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Targets as columns of numbers; NaN in rows without a label."""
        labeled = self._is_labeled(y)
        labels = self._check_labels(y[labeled])
        weights = None if weights is None else weights[labeled]
        self._target = self._make_target(labels, weights)
        columns = np.full((len(y), self._target.n_columns), np.nan)
        columns[labeled] = self._target.encode(labels)
        return columns

    def _check_y(self, y: Any, rows: Any) -> np.ndarray:
        """Labels in rows and columns, whatever they are."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        y = check_array(y, ensure_2d=False, dtype=None, ensure_all_finite=False, input_name="y")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_consistent_length(rows, y)
        self._is_multi_output = y.ndim == 2
        return y.reshape(len(y), -1)

    def _is_labeled(self, y: np.ndarray) -> np.ndarray:
        """Which rows have labels."""
        absent = _is_label(y, self.unlabeled)
        partly = absent.any(axis=1) & ~absent.all(axis=1)
        if partly.any():
            raise ValueError(
                f"y has {partly.sum()} rows in which only some outputs are "
                f"unlabeled={self.unlabeled!r}; give all outputs of a row, or none."
            )
        if absent.all():
            raise ValueError(
                f"y has no labelled row: all {len(y)} are unlabeled={self.unlabeled!r}; label "
                "some, or fit an autoencoder, which needs no labels."
            )
        return ~absent[:, 0]

    def _fitted_autoencoder(
        self, X: Any, rows: Any, weights: np.ndarray | None, seed: int
    ) -> BaseAutoencoder:
        """Fit a clone of the autoencoder to all rows, unless it is fitted already."""
        frozen = isinstance(self.autoencoder, FrozenEstimator)
        autoencoder = self.autoencoder.estimator if frozen else self.autoencoder
        if autoencoder is None:
            autoencoder = AutoencoderTransformer(min(DEFAULT_COMPONENTS, rows.shape[1]))
        if not isinstance(autoencoder, BaseAutoencoder):
            raise ValueError(
                f"autoencoder={self.autoencoder!r} is no autoencoder of skae; give one, such as "
                "AutoencoderTransformer(), or FrozenEstimator of a fitted one. Other steps go "
                "before this estimator, in a Pipeline."
            )
        if frozen:
            check_is_fitted(autoencoder)
            check_rows(autoencoder, X, reset=False)
            return autoencoder
        autoencoder = clone(autoencoder)
        if autoencoder.random_state is None:
            autoencoder.set_params(random_state=seed)
        return autoencoder.fit(rows, sample_weight=weights)

    def _fit_head(
        self, X: Any, columns: np.ndarray, weights: np.ndarray | None, seeds: list[int]
    ) -> None:
        """Fit the head to the codes of labelled rows, and fine-tune."""
        labeled = np.flatnonzero(~np.isnan(columns[:, 0]))
        propagates = self.spread_labels and len(labeled) < len(columns)
        codes = self._raw_codes(X if propagates else X[labeled])
        labeled_codes = labeled if propagates else np.arange(len(labeled))
        unit = float(np.sqrt(codes[labeled_codes].var(axis=0).mean())) or 1.0
        known = None if weights is None else weights[labeled]
        initializer = HeadInitializer(
            self._target, codes[labeled_codes] / unit, columns[labeled], known, seeds[0]
        )
        targets, self.metric_, self.alpha_ = None, None, None
        if propagates and initializer.folds:
            graphs = neighbor_graphs(codes, self.n_neighbors)
            targets, self.metric_, self.alpha_ = initializer.propagate(
                graphs, codes / unit, labeled
            )
        tuning = FineTuning(
            self.get_params(deep=False), self.autoencoder_, initializer, unit, seeds[1:3]
        )
        if targets is None:
            tune = partial(tuning.train_on_labeled, X[labeled])
        else:
            tune = partial(tuning.train_on_propagated, X, targets, weights, labeled)
        with self._seed_user_modules(seeds[3], torch.device(self.autoencoder_.net_.device)):
            self.net_, self.validation_loss_curve_ = tune()
        self.net_.module_.noise = None

    def _seed_user_modules(self, seed: int, device: torch.device) -> AbstractContextManager[None]:
        """Let a user's modules draw by a seed."""
        if isinstance(self.noise, nn.Module):
            return seeded_globally(seed, device)
        return self.autoencoder_._seed_user_modules(seed, device)

    def _raw_codes(self, X: Any) -> np.ndarray:
        """Codes of rows, as the network has them."""
        autoencoder = self.autoencoder_
        return autoencoder._map_batches(
            lambda part: autoencoder._encode(autoencoder._standardize(part)), X, self.n_components_
        ).astype(float, copy=False)

    # -- after fit -----------------------------------------------------------------

    def _apply(
        self, X: Any, method: str, arrange: Callable[[np.ndarray], np.ndarray], n_columns: int
    ) -> np.ndarray:
        """Run rows through the network, batch by batch."""
        check_is_fitted(self)
        X, autoencoder = check_rows(self, X, reset=False), self.autoencoder_

        def apply(part: np.ndarray) -> np.ndarray:
            return arrange(self.net_.infer_rows(method, autoencoder._standardize(part)))

        return autoencoder._map_batches(apply, X, n_columns)

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows by the fine-tuned encoder.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_), dtype of X
            Codes in the order and units of `autoencoder_`.
        """
        check_is_fitted(self)
        return self._apply(X, "encode", self.autoencoder_._rotate_codes, self.n_components_)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


@inherit_entries(_Supervised)
class AutoencoderClassifier(ClassifierMixin, _Supervised):
    """Classifier on the codes of an autoencoder, fine-tuned through its encoder.

    An autoencoder is fitted to the rows, whether or not they are labelled; a logistic
    regression is fitted to the codes of the labelled ones; and from there, both are trained
    together. Weights are kept that predict held-out rows best, those of the logistic
    regression among them.

    Parameters
    ----------
    autoencoder
    freeze
    unlabeled
    spread_labels
    n_neighbors
    noise
    noise_level
    class_shares : "labeled", array-like or None, default=None
        Shares of the classes among all rows, in the order of `classes_`, where you know them;
        targets of unlabelled rows are made to agree. "labeled": as among the labelled rows,
        for a sample drawn class by class. One drawn at random says too little, and None, no
        correction, is better.
    *

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or list of such
        A list if there are several outputs.
    *

    See Also
    --------
    AutoencoderRegressor : The same for quantities.
    sklearn.semi_supervised.SelfTrainingClassifier : Labels from a classifier's own predictions.

    Notes
    -----
    Spreading minimises what [1]_ does, with the head's predictions, of small weight, as the
    targets of unlabelled rows [2]_. Which metric and which step of the spreading are best, if
    any, is found by five-fold cross-validation over the labelled rows; below ten there is none.

    References
    ----------
    .. [1] Zhou et al. (2004). Learning with local and global consistency. NIPS 16.
    .. [2] Huang et al. (2021). Combining label propagation and simple models out-performs
       graph neural networks. ICLR. https://arxiv.org/abs/2010.13993

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> y_few = np.where(np.arange(len(y)) < 100, y, -1)
    >>> classifier = AutoencoderClassifier(unlabeled=-1, random_state=0).fit(X, y_few)
    >>> bool(classifier.score(X[100:], y[100:]) > 0.9)
    True
    """

    __module__ = "skae"  # the public path, which pickles name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_Supervised._parameter_constraints,
        "class_shares": [StrOptions({"labeled"}), "array-like", None],
    }

    def __init__(
        self,
        autoencoder: Any = None,
        *,
        freeze: bool = False,
        unlabeled: Any = None,
        spread_labels: bool = True,
        n_neighbors: int = 10,
        class_shares: Any = None,
        noise: str | nn.Module | None = None,
        noise_level: float = 0.25,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        batch_size: int | Literal["auto"] = "auto",
        max_epochs: int | Literal["auto"] = "auto",
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        callbacks: Sequence[Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        super().__init__(
            autoencoder,
            freeze=freeze,
            unlabeled=unlabeled,
            spread_labels=spread_labels,
            n_neighbors=n_neighbors,
            noise=noise,
            noise_level=noise_level,
            lr=lr,
            weight_decay=weight_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            callbacks=callbacks,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_shares = class_shares

    _state_classes: ClassVar[dict[str, type]] = {
        **_Supervised._state_classes,
        "_target": ClassTarget,
    }
    _target: ClassTarget

    def _check_labels(self, y: np.ndarray) -> np.ndarray:
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        for labels in y.T:
            check_classification_targets(labels)
        return y

    def _make_target(self, y: np.ndarray, weights: np.ndarray | None) -> Target:
        classes = [np.unique(labels) for labels in y.T]
        for each in classes:
            if len(each) == 1:
                raise ValueError(
                    f"y has one class only, {each[0]!r}, among its {len(y)} labelled rows; a "
                    "classifier needs at least two classes."
                )
        self.classes_ = classes if self._is_multi_output else classes[0]
        target = ClassTarget(classes)
        if self.class_shares is not None:
            target.shares = self._shares(target, target.encode(y), weights)
        return target

    def _shares(
        self, target: ClassTarget, columns: np.ndarray, weights: np.ndarray | None
    ) -> np.ndarray:
        """Shares of all classes, side by side."""
        if isinstance(self.class_shares, str):
            return np.average(columns, axis=0, weights=weights)
        shares = np.ravel(np.asarray(self.class_shares, dtype=float))
        sums = [shares[block].sum() for block in target.blocks]
        whole = len(shares) == target.n_columns and np.allclose(sums, 1) and (shares >= 0).all()
        if not whole:
            raise ValueError(
                f"class_shares={self.class_shares!r} must hold {target.n_columns} numbers >= 0, "
                f"one for each of classes_={self.classes_!r}, that add up to 1."
            )
        return shares

    def _probabilities(self, X: Any) -> list[np.ndarray]:
        """Probabilities of the classes of each output."""
        check_is_fitted(self)
        target = self._target
        columns = self._apply(X, "predict", target.predict, target.n_columns)
        return [columns[:, block] for block in target.blocks]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of rows whose label is predicted.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        return super().score(X, y, sample_weight)

    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes), dtype of X
            In the order of `classes_`; a list of such if there are several outputs.
        """
        each = self._probabilities(X)
        return each if self._is_multi_output else each[0]

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        log_P : ndarray of shape (n_samples, n_classes), dtype of X
            A list of such if there are several outputs.
        """
        with np.errstate(divide="ignore"):  # minus infinity is right
            each = [np.log(p) for p in self._probabilities(X)]
        return each if self._is_multi_output else each[0]

    def predict(self, X: Any) -> np.ndarray:
        """Most probable classes.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        found = self._probabilities(X)
        each = [
            classes[p.argmax(axis=1)]
            for classes, p in zip(self._target.classes, found, strict=True)
        ]
        return np.column_stack(each) if self._is_multi_output else each[0]


@inherit_entries(_Supervised)
class AutoencoderRegressor(RegressorMixin, _Supervised):
    """Regressor on the codes of an autoencoder, fine-tuned through its encoder.

    An autoencoder is fitted to the rows, whether or not they are labelled; a ridge regression
    is fitted to the codes of the labelled ones; and from there, both are trained together.
    Weights are kept that predict held-out rows best, those of the ridge regression among them.
    What is predicted is standardised inside.

    Parameters
    ----------
    *

    Attributes
    ----------
    *

    See Also
    --------
    AutoencoderClassifier : The same for classes.

    References
    ----------
    .. [1] Hinton and Salakhutdinov (2006). Reducing the dimensionality of data with neural
       networks. Science 313. https://doi.org/10.1126/science.1127647

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import train_test_split
    >>> from skae import AutoencoderRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> regressor = AutoencoderRegressor(random_state=0).fit(X_train, y_train)
    >>> regressor.predict(X_test).shape
    (111,)
    >>> bool(regressor.score(X_test, y_test) > 0.3)
    True
    """

    _state_classes: ClassVar[dict[str, type]] = {
        **_Supervised._state_classes,
        "_target": ContinuousTarget,
    }
    _target: ContinuousTarget

    __module__ = "skae"  # the public path, which pickles name

    def _check_labels(self, y: np.ndarray) -> np.ndarray:
        y = check_array(y, dtype=np.float64, input_name="y", ensure_min_samples=1)
        check_squares(y, y, "y")
        return y

    def _make_target(self, y: np.ndarray, weights: np.ndarray | None) -> Target:
        mean = weighted_mean(y, weights)
        scale = np.sqrt(weighted_mean(np.square(y - mean), weights))
        return ContinuousTarget(mean, np.where(scale > 0, scale, 1.0))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination of the predictions, R².

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        return super().score(X, y, sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """Predict quantities.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs), dtype of X
        """
        check_is_fitted(self)
        target = self._target

        def in_units(outputs: np.ndarray) -> np.ndarray:
            return outputs * target.scale + target.mean

        predicted = self._apply(X, "predict", in_units, target.n_columns)
        return predicted if self._is_multi_output else predicted[:, 0]


def _is_label(y: np.ndarray, label: Any) -> np.ndarray:
    """Which entries are some label, of the type that labels have."""
    if label is None:
        return np.zeros(y.shape, dtype=bool)
    if isinstance(label, Real) and np.isnan(float(label)):
        return np.asarray(y != y, dtype=bool)
    wanted = str(label) if y.dtype.kind in "US" else label
    return np.asarray(y.astype(object) == wanted, dtype=bool)


def _sort_and_repeat(
    X: Any, columns: np.ndarray, weights: np.ndarray | None
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """Write few rows out in sorted order, each as often as it counts, with their targets."""
    if X.shape[0] >= MIN_ROWS_TO_HOLD_OUT:
        return X, columns, weights
    X, n_features = as_numpy(X), X.shape[1]
    both, weights = sort_and_repeat(np.hstack([X, columns]), weights, below=MIN_ROWS_TO_HOLD_OUT)
    return both[:, :n_features].astype(X.dtype), both[:, n_features:], weights
