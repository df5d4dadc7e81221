"""Classifier and regressor on the codes of an autoencoder, fine-tuned through its encoder."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
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

from skae._data.estimator_rollback import all_or_nothing
from skae._data.frames import FramesOut
from skae._data.input_checks import as_numpy, check_rows
from skae._data.input_errors import check_squares
from skae._data.parameter_checks import Interval
from skae._data.sample_weight import check_weights, sort_and_repeat, weighted_mean
from skae._data.seeds_and_devices import derive_seeds, seeded_globally
from skae._data.threads import limited_threads
from skae._data.units import check_groups, exact_copies, find_units
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.base import BaseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.html_display import FitDisplay
from skae._estimators.supervised.fine_tuning import FineTuning, HeadInitializer
from skae._estimators.supervised.label_propagation import neighbor_graphs
from skae._training.callbacks import check_callbacks
from skae._training.net import AutoencoderNet
from skae._training.pickling import PicklingMixin
from skae._training.progress import QUIET, Progress, progress_of_fit
from skae._training.targets import ClassTarget, ContinuousTarget, Target
from skae._training.trainer import TINY_ROWS
from skae.noise import NOISES, check_noise

DEFAULT_COMPONENTS = 32


class _Supervised(PicklingMixin, FitDisplay, FramesOut, BaseEstimator, metaclass=ABCMeta):
    """Template of classifier and regressor.

    Parameters
    ----------
    autoencoder : estimator, default=None
        An autoencoder of skae, which is cloned and fitted, or a fitted one as
        ``FrozenEstimator(autoencoder)``. None is `AutoencoderTransformer` with 32 components,
        or one component per feature if there are fewer features.
    freeze : bool, default=False
        Train only the head, not the encoder.
    unlabeled : label, default=None
        Value in y of rows without a label, such as -1 or NaN. The autoencoder is fitted to all
        rows, the head to the labelled ones. None means that all rows are labelled.
    spread_labels : bool, default=True
        Train on unlabelled rows too, by label propagation. Their targets are the head's
        predictions, averaged over neighbours in the latent space; labelled neighbours have much
        larger weights. This is done only if it predicts held-out labels better than the head.
    n_neighbors : int, default=10
        Number of neighbours in label propagation.
    noise : str, nn.Module or None, default=None
        Noise that corrupts rows in fine-tuning, so that predictions do not depend on few
        features: "masking", "gaussian", "salt_pepper", "swap" or a module, as in
        `DenoisingAutoencoder`. Validation rows are clean.
    noise_level : float, default=0.25
        For "gaussian", the noise's standard deviation in units of each feature's; otherwise the
        share of corrupted entries, in [0, 1]. Not used by your own module.
    lr : float, default=1e-3
        Largest learning rate of fine-tuning.
    weight_decay : float, default=0.01
    batch_size : int or "auto", default="auto"
    max_epochs : int or "auto", default="auto"
        Passes over the rows in fine-tuning.
    early_stopping : bool, default=True
        Hold out validation rows and keep the weights that predict them best; those before
        fine-tuning are one of the candidates. With fewer than 500 labelled rows,
        cross-validation chooses the number of epochs. With fewer than 30, there is no
        fine-tuning. False trains on all rows and keeps the last weights.
    validation_fraction : float, default=0.1
    callbacks : list of skorch callbacks, default=None
        Callbacks of fine-tuning.
    random_state : int, RandomState instance or None, default=None
        Seed of fine-tuning, and of the autoencoder if its own is None.
    verbose : int, default=0
        1 shows a progress bar: the epochs of the autoencoder and of fine-tuning, with the losses.

    Attributes
    ----------
    autoencoder_ : estimator
        The autoencoder, fitted to all rows, before fine-tuning.
    net_ : skorch.NeuralNet
        Encoder and head. Its network is ``net_.module_``.
    n_components_ : int
        Number of components of the codes.
    metric_ : {"euclidean", "cosine"} or None
        Metric of neighbours in label propagation: distance between codes, or angle between
        whitened codes. None if labels were not propagated.
    alpha_ : float or None
        Share that each step of label propagation takes from neighbours. None if labels were not
        propagated.
    n_iter_ : int
        Number of epochs of fine-tuning.
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

    _progress: Progress = QUIET

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

    # -- what classifier and regressor override ------------------------------------

    @abstractmethod
    def _check_labels(self, y: np.ndarray) -> np.ndarray:
        """Check the labels of labelled rows."""

    @abstractmethod
    def _make_target(self, y: np.ndarray, weights: np.ndarray | None) -> Target:
        """Build the encoding of labels."""

    # -- fit -----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None) -> Self:
        """Fit the autoencoder, then the head, then train both.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels, and `unlabeled` for rows without a label.
        sample_weight : array-like of shape (n_samples,), default=None
            Rows of weight zero are dropped.
        groups : array-like of shape (n_samples,), default=None
            Label of the group of each row. The rows of a group, and copies of a row, are held
            out together.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or y contains NaN or infinity, if their lengths differ, if X has another number
            of features than a fitted autoencoder, if no row is labelled, or if there is only one
            class.
        """
        with progress_of_fit(self), all_or_nothing(self), torch.inference_mode(False):
            check_callbacks(self.callbacks)
            check_noise(self.noise, self.noise_level)
            rows = check_rows(self, X, reset=True)
            y = self._check_y(y, rows)
            labels = check_groups(groups, rows)
            rows, weights, y, labels = check_weights(sample_weight, rows, y, labels)
            columns = self._encode_targets(y, weights)
            rows, columns, weights, labels = _sort_and_repeat(rows, columns, weights, labels)
            seeds = derive_seeds(self.random_state, 5)
            self.autoencoder_ = self._fitted_autoencoder(X, rows, weights, labels, seeds[0])
            self.n_components_ = self.autoencoder_.n_components_
            units = find_units(labels, exact_copies(rows))
            with limited_threads(torch.get_num_threads()):
                self._fit_head(rows, columns, weights, units, seeds[1:])
            self.loss_curve_ = [epoch["train_loss"] for epoch in self.net_.history]
            self.n_iter_ = len(self.loss_curve_)
        return self

    def _encode_targets(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Set `_target`; return labels as columns of numbers, with NaN in rows without a label."""
        labeled = self._is_labeled(y)
        labels = self._check_labels(y[labeled])
        weights = None if weights is None else weights[labeled]
        self._target = self._make_target(labels, weights)
        columns = np.full((len(y), self._target.n_columns), np.nan)
        columns[labeled] = self._target.encode(labels)
        return columns

    def _check_y(self, y: Any, rows: Any) -> np.ndarray:
        """Validate y and return it as a 2-D array of any dtype."""
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
        """Mask of rows that have labels."""
        absent = _equals_label(y, self.unlabeled)
        partly = absent.any(axis=1) & ~absent.all(axis=1)
        if partly.any():
            raise ValueError(
                f"y has {partly.sum()} rows in which only some outputs are "
                f"unlabeled={self.unlabeled!r}; label all outputs of a row, or none."
            )
        if absent.all():
            raise ValueError(
                f"y has no labelled row: all {len(y)} are unlabeled={self.unlabeled!r}; label "
                "some rows, or fit an autoencoder, which needs no labels."
            )
        return ~absent[:, 0]

    def _fitted_autoencoder(
        self, X: Any, rows: Any, weights: np.ndarray | None, groups: Any, seed: int
    ) -> BaseAutoencoder:
        """Fit a clone of the autoencoder to all rows, unless it is fitted already."""
        frozen = isinstance(self.autoencoder, FrozenEstimator)
        autoencoder = self.autoencoder.estimator if frozen else self.autoencoder
        if autoencoder is None:
            size = min(DEFAULT_COMPONENTS, rows.shape[1])
            autoencoder = AutoencoderTransformer(size, stochastic_depth=0)
        if not isinstance(autoencoder, BaseAutoencoder):
            raise ValueError(
                f"autoencoder={self.autoencoder!r} is no autoencoder of skae; pass one, such as "
                "AutoencoderTransformer(), or a FrozenEstimator of a fitted one. Put other "
                "steps before this estimator, in a Pipeline."
            )
        if frozen:
            check_is_fitted(autoencoder)
            check_rows(autoencoder, X, reset=False)
            return autoencoder
        if autoencoder.target_weight:
            raise ValueError(
                f"autoencoder={self.autoencoder!r} has a target_weight, but this estimator trains "
                "the encoder for y itself; set target_weight=0."
            )
        autoencoder = clone(autoencoder)
        if autoencoder.random_state is None:
            autoencoder.set_params(random_state=seed)
        with self._progress.lent_to(autoencoder, "autoencoder"):
            return autoencoder.fit(rows, sample_weight=weights, groups=groups)

    def _fit_head(
        self, X: Any, columns: np.ndarray, weights: np.ndarray | None, units: Any, seeds: list[int]
    ) -> None:
        """Fit the head to codes of labelled rows, propagate labels, fine-tune; set `net_`."""
        labeled = np.flatnonzero(~np.isnan(columns[:, 0]))
        propagates = self.spread_labels and len(labeled) < len(columns)
        codes = self._raw_codes(X if propagates else X[labeled])
        labeled_codes = codes[labeled] if propagates else codes
        unit = float(np.sqrt(labeled_codes.var(axis=0).mean())) or 1.0
        labeled_weights = None if weights is None else weights[labeled]
        initializer = HeadInitializer(
            self._target,
            labeled_codes / unit,
            columns[labeled],
            labeled_weights,
            seeds[0],
            None if units is None else units[labeled],
        )
        targets, self.metric_, self.alpha_ = None, None, None
        if propagates and initializer.folds:
            graphs = neighbor_graphs(codes, self.n_neighbors)
            targets, self.metric_, self.alpha_ = initializer.propagate(
                graphs, codes / unit, labeled
            )
        tuning = FineTuning(
            self.get_params(deep=False),
            self.autoencoder_,
            initializer,
            unit,
            seeds[1:3],
            self._progress,
        )
        seeded = self._seed_user_modules(seeds[3], torch.device(self.autoencoder_.net_.device))
        with seeded, self._progress.stage("fine-tuning"):
            if targets is None:
                trained = tuning.train_on_labeled(X[labeled])
            else:
                trained = tuning.train_on_propagated(X, targets, weights, labeled, units)
        self.net_, self.validation_loss_curve_ = trained
        self.net_.module_.noise = None

    def _seed_user_modules(self, seed: int, device: torch.device) -> AbstractContextManager[None]:
        """Seed torch's global generators if modules of the user draw from them."""
        if isinstance(self.noise, nn.Module):
            return seeded_globally(seed, device)
        return self.autoencoder_._seed_user_modules(seed, device)

    def _raw_codes(self, X: Any) -> np.ndarray:
        """Codes of rows, before they are ordered and scaled."""
        autoencoder = self.autoencoder_
        return autoencoder._map_batches(
            lambda part: autoencoder._encode(autoencoder._standardize(part)), X, self.n_components_
        ).astype(float, copy=False)

    # -- after fit -----------------------------------------------------------------

    def _apply(
        self, X: Any, method: str, after: Callable[[np.ndarray], np.ndarray], n_columns: int
    ) -> np.ndarray:
        """Apply a method of the network to rows, then a function to its result, batch by batch."""
        X, autoencoder = check_rows(self, X, reset=False), self.autoencoder_

        def apply(part: np.ndarray) -> np.ndarray:
            return after(self.net_.infer_rows(method, autoencoder._standardize(part)))

        return autoencoder._map_batches(apply, X, n_columns)

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows with the fine-tuned encoder.

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

    First, an autoencoder is fitted to all rows, with and without labels. Then a logistic
    regression is fitted to the codes of the labelled rows. Then encoder and head are trained
    together, from there. Training keeps the weights that predict validation rows best; the
    logistic regression is one of the candidates.

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
        Known shares of the classes among all rows, in the order of `classes_`. The propagated
        targets of unlabelled rows are corrected so that they have these shares. "labeled" takes
        the shares among the labelled rows, which suits a stratified sample. A random sample
        tells too little about the shares; use None then, which is no correction.
    *

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or list of such
        A list if there are several outputs.
    *

    See Also
    --------
    AutoencoderRegressor : The same for continuous targets.
    sklearn.semi_supervised.SelfTrainingClassifier : Labels from a classifier's own predictions.

    Notes
    -----
    Label propagation has the objective of [1]_. The targets of unlabelled rows are the head's
    predictions, with a small weight [2]_. Five-fold cross-validation over the labelled rows
    chooses `metric_` and `alpha_`, or no propagation. With fewer than ten labelled rows, labels
    are not propagated.

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
                    f"y has one class only, {each[0]!r}, among its {len(y)} labelled rows; "
                    "label rows of at least two classes."
                )
        self.classes_ = classes if self._is_multi_output else classes[0]
        target = ClassTarget(classes)
        if self.class_shares is not None:
            target.shares = self._shares(target, target.encode(y), weights)
        return target

    def _shares(
        self, target: ClassTarget, columns: np.ndarray, weights: np.ndarray | None
    ) -> np.ndarray:
        """Shares of the classes, one per column."""
        if isinstance(self.class_shares, str):
            return np.average(columns, axis=0, weights=weights)
        shares = np.ravel(np.asarray(self.class_shares, dtype=float))
        sums = [shares[block].sum() for block in target.blocks]
        valid = len(shares) == target.n_columns and np.allclose(sums, 1) and (shares >= 0).all()
        if not valid:
            raise ValueError(
                f"class_shares={self.class_shares!r} must be {target.n_columns} numbers >= 0 "
                f"with sum 1, one for each of classes_={self.classes_!r}."
            )
        return shares

    def _probabilities(self, X: Any) -> list[np.ndarray]:
        """Probabilities of the classes of each output."""
        check_is_fitted(self)
        target = self._target
        columns = self._apply(X, "predict", target.predict, target.n_columns)
        return [columns[:, block] for block in target.blocks]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy: share of rows whose label is predicted correctly.

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
        with np.errstate(divide="ignore"):  # a probability of zero has the logarithm -inf
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

    First, an autoencoder is fitted to all rows, with and without labels. Then a ridge
    regression is fitted to the codes of the labelled rows. Then encoder and head are trained
    together, from there. Training keeps the weights that predict validation rows best; the ridge
    regression is one of the candidates. Targets are standardized internally.

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
        """Predict continuous targets.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs), dtype of X
        """
        check_is_fitted(self)
        target = self._target

        def unstandardize(outputs: np.ndarray) -> np.ndarray:
            return outputs * target.scale + target.mean

        predicted = self._apply(X, "predict", unstandardize, target.n_columns)
        return predicted if self._is_multi_output else predicted[:, 0]


def _equals_label(y: np.ndarray, label: Any) -> np.ndarray:
    """Mask of the entries that equal a label; NaN equals NaN, and None no entry."""
    if label is None:
        return np.zeros(y.shape, dtype=bool)
    if isinstance(label, Real) and np.isnan(float(label)):
        return np.asarray(y != y, dtype=bool)
    wanted = str(label) if y.dtype.kind in "US" else label
    return np.asarray(y.astype(object) == wanted, dtype=bool)


def _sort_and_repeat(
    X: Any, columns: np.ndarray, weights: np.ndarray | None, groups: np.ndarray | None
) -> tuple[Any, ...]:
    """Sort few rows with their targets and groups, and repeat them by integer weights."""
    if X.shape[0] >= TINY_ROWS:
        return X, columns, weights, groups
    X, n_features = as_numpy(X), X.shape[1]
    both, weights, groups = sort_and_repeat(
        np.hstack([X, columns]), weights, groups, below=TINY_ROWS
    )
    return both[:, :n_features].astype(X.dtype), both[:, n_features:], weights, groups
