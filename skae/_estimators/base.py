"""The base class of all kinds: the methods that a kind may override, and the steps of `fit`."""

from __future__ import annotations

import copy
from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, RealNotInt, StrOptions
from torch import nn

from skae._data.array_api import array_api_fit
from skae._data.dataset import Dataset, constant_columns
from skae._data.estimator_rollback import all_or_nothing
from skae._data.input_checks import errors_about_validation_rows, read_rows
from skae._data.parameter_checks import Interval, integers_in, warn_if_overcomplete
from skae._data.sample_weight import check_weights, sort_and_repeat, weighted_mean
from skae._data.seeds_and_devices import derive_seeds, resolve_device, seeded_globally
from skae._data.threads import limited_threads
from skae._data.units import check_groups
from skae._data.warnings import warn
from skae._estimators.html_display import FitDisplay
from skae._latent.covariance import CovarianceTransformer
from skae._latent.n_components import choose_n_components
from skae._training.batched import models_per_batch
from skae._training.callbacks import check_callbacks
from skae._training.net import AutoencoderNet
from skae._training.optimizers import OPTIMIZERS
from skae._training.pickling import PicklingMixin
from skae._training.progress import QUIET, Progress, progress_of_fit
from skae._training.supervision import Supervision
from skae._training.targets import Targets, read_targets
from skae._training.trainer import TINY_ROWS, Trained, Trainer, TrainingJob, auto_batch_size
from skae.losses import Objective
from skae.networks.dense import ACTIVATIONS, MLP, Anchored, Autoencoder, shapes_of_two_rows

# Constraints of parameters that only kinds with a dense code have.
DENSE_CONSTRAINTS: dict[str, list[Any]] = {
    "target_weight": [Interval(Real, 0, None, closed="left")],
    "stochastic_depth": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
}


class Seeds(NamedTuple):
    """Seeds of one fit: of initial weights, validation split, order of rows, and noise."""

    weights: int
    split: int
    order: int
    noise: int


@dataclass
class FitData:
    """The validated data of one fit, with its device and seeds."""

    rows: Dataset  # training rows
    held_out: Dataset | None  # the user's validation rows
    device: torch.device
    seeds: Seeds
    density_seed: int
    previous: nn.Module | None  # the network that a warm start continues from
    targets: Targets | None = None  # that codes shall predict
    columns: Any = None  # targets of the training rows, encoded; likewise of `held_out`
    held_out_columns: Any = None


class BaseAutoencoder(PicklingMixin, FitDisplay, CovarianceTransformer):
    """Template of all kinds: a kind chooses the network, the objective and the parameters.

    Parameters
    ----------
    n_components : int, float or None, default=2
        Number of components, which is the size of the code. It may exceed the number of
        features (an overcomplete code). None means ``min(n_samples, n_features)``, as in PCA;
        such a code does not compress, and there is nothing to learn. A float in (0, 1) is a
        share of variance: several fits find the smallest size that explains this share of the
        variance of held-out rows. It is at most PCA's choice for the same share.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the encoder's hidden layers. The decoder has the same layers in reverse order.
        ``()`` is the linear autoencoder, which is PCA. "auto" is one hidden layer whose width
        suits tables of a few hundred to some ten thousand rows. Images gain from more layers,
        for example ``(1000, 500, 250)``.
    activation : str or callable, default="relu"
        Activation between the layers: "relu", "gelu", "silu", "elu", "leaky_relu", "softplus",
        "tanh", "logistic", "identity", or a callable that returns a module, such as
        `torch.nn.Mish`. "relu", "tanh", "logistic" and "identity" train fastest.
    target_weight : float, default=0.0
        How much the code shall predict y, too; 1 is recommended. 0 ignores y. A linear head on
        the code is trained with the network: its loss is the cross-entropy of classes in nats, or
        the squared error of a standardized quantity, times ``target_weight / 2`` times the
        variance of the rows. The number of epochs minimises the error of held-out rows over PCA's
        plus ``2 * target_weight`` times the loss of the head (of classes, over the log of their
        number). Rows may then be restored worse than by PCA, see `pca_error_ratio_`. The head is
        not kept. Inside cross-validation only, as for any step that sees y.
    stochastic_depth : float or "auto", default="auto"
        Share of the rows of each training batch whose code is PCA's: the encoder's correction is
        left out (Huang et al., 2016, https://doi.org/10.1007/978-3-319-46493-0_39). So the decoder
        restores rows from PCA's codes, too, and the code stays near them, which suits models
        behind it. 0 restores rows best. 1 keeps PCA's codes and trains the decoder alone. "auto" is
        0.6 for `AutoencoderTransformer` without a target, and 0 otherwise, also in `partial_fit`.
        Not used with ``anchor=None``.
    whiten : bool, default=False
        Scale components to unit variance, as PCA's `whiten`.
    latent_density : str or estimator, default="auto"
        Density of the codes, for `sample` and `score_samples`. "gaussian_mixture" chooses its
        number of components by the Bayesian information criterion. "gaussian" has the moments
        of the training codes. "standard_normal" is fixed. An estimator with `fit`, `sample` and
        `score_samples`, such as `sklearn.neighbors.KernelDensity`, is cloned, and the clone is
        fitted to at most 5,000 codes. "auto" is the mixture; for the linear autoencoder it is
        "gaussian", which makes the model probabilistic PCA.
    network : callable, default=None
        ``(n_features, n_components) -> nn.Module`` with methods `encode` and `decode`: your own
        network instead of the multilayer perceptrons. `hidden_layer_sizes` and `activation` are
        then not used. With ``anchor="pca"``, its outputs are multiplied by trainable factors
        that start at zero, and are added to PCA.
    optimizer : str or callable, default="adamw"
        "adamw", "adam", "sgd", or ``(parameters, lr=, weight_decay=) -> Optimizer``, such as
        `torch.optim.RMSprop`.
    lr : float, default=5e-3
        Learning rate. For "one_cycle" it is the largest one.
    lr_schedule : {"one_cycle", "constant"}, default="one_cycle"
        "one_cycle" rises and falls once over `max_epochs` and never stops earlier. "constant"
        stops after `n_iter_no_change` epochs without progress.
    weight_decay : float, default=0.05
        Strength with which weights are pulled towards zero. Smaller tables need more of it.
    batch_size : int or "auto", default="auto"
        Rows per training step. "auto" is about 1 % of the rows, from 32 to 512, and at least 64
        with stochastic depth; small tables have fewer. If the last batch had a single row, this
        row joins the previous batch.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows. "auto" is 125 for 10,000 rows, and ten times as many rows
        have 0.4 times as many passes, within 20 and 300; below 500 rows it is 150 for each fold.
        It was chosen from learning curves: twice as many lower the error by about 1 %.
    early_stopping : bool, default=True
        Hold out validation rows and keep the weights that reconstruct them best. Tables of
        fewer than 500 rows use cross-validation instead, and keep the best number of epochs
        (see the Notes of `AutoencoderTransformer`). Below ten rows, PCA is kept. False trains on
        all rows and keeps the last weights.
    validation_fraction : float, default=0.1
        Share of the rows in a validation set. The principal components are computed from all
        rows, including the validation rows.
    n_iter_no_change : int, default=10
        Epochs without progress after which a constant learning rate stops. Needs
        `early_stopping`.
    tol : float, default=1e-4
        Relative decrease of the validation loss that counts as progress.
    callbacks : list of skorch callbacks, default=None
        They are cloned for each fit. Their batch hooks are called only if overridden.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:1", "mps", or "auto", which is an accelerator if there is one.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, the validation split and the order of the rows. An int
        gives the same bits on the same CPU with the same number of threads.
    warm_start : bool, default=False
        Continue from the centre, scale, anchor and weights of the previous fit. If
        `n_components` is a share of variance, the number of components is kept.
    verbose : int, default=0
        1 shows a progress bar in `fit`: the epochs of all networks that are trained, with the
        losses. It names folds, layers to pretrain, and numbers of components that are tried.

    Attributes
    ----------
    n_components_ : int
    dimension_curve_ : dict of str to ndarray of shape (n_sizes,)
        Only if `n_components` is a float. "n_components" are the sizes tried;
        "explained_variance" is the share of the held-out rows' variance that each explains.
    components_ : ndarray of shape (n_components_, n_features_in_)
        Mean Jacobian of the decoder, over 128 to 256 rows: the change of the reconstruction, in
        input units, per unit of each component (before whitening). The largest entry of each
        row, by magnitude, is positive.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component over the training rows, before whitening, decreasing.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Share of the training rows' variance that each component adds to the previous ones,
        while the later ones are at their mean. With a nonlinear decoder, the shares need not
        decrease and can be negative. Their sum is ``score(X_train)``.
    singular_values_ : ndarray of shape (n_components_,)
        Root of ``(n_samples_ - 1) * explained_variance_``: the norm of each component over the
        training rows, before whitening.
    noise_variance_ : float
        Residual variance per remaining dimension, as in PCA. For a network that was trained, it
        is multiplied by the mean squared error of validation rows over that of training rows.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows.
    n_samples_ : int
        Number of training rows, including rows that were held out of them.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X has string column names.
    latent_density_ : object with `sample` and `score_samples`
        The density of the training codes. It is fitted when it is first used, or when the
        estimator is pickled. Until then, the estimator holds what it is fitted to: at most 5,000
        codes and 16 MiB of residuals. A density of the user's is fitted in `fit`.
    net_ : skorch.NeuralNet
        The trained net. Its network is ``net_.module_``, its history ``net_.history``.
    n_iter_ : int
        Number of epochs trained; 0 if PCA is already the optimum.
    pca_error_ratio_ : float
        Squared error of restored validation rows over that of PCA, an estimate for new rows; in
        cross-validation, each network has its own best number of epochs. 1 if PCA is kept, NaN if
        no rows were held out, with ``anchor=None``, or if the decoder returns probabilities.
    loss_curve_, validation_loss_curve_ : list of float
        Mean loss per row after each epoch, in units of the mean feature variance. The
        validation curve is empty if no rows were held out.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "activation": [StrOptions(set(ACTIVATIONS)), callable],
        "anchor": [StrOptions({"pca"}), None],
        "whiten": ["boolean"],
        "latent_density": [
            StrOptions({"auto", "gaussian_mixture", "gaussian", "standard_normal"}),
            HasMethods(["fit", "sample", "score_samples"]),
        ],
        "network": [callable, None],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"one_cycle", "constant"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "callbacks": [list, tuple, None],
        "device": [str],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
    }

    dimension_curve_: dict[str, np.ndarray]
    n_iter_: int
    loss_curve_: list[float]
    validation_loss_curve_: list[float]

    _state_classes: ClassVar[dict[str, type]] = {"net_": AutoencoderNet}
    # Trained weights must be better than PCA by some standard errors; a kind may subtract some.
    _standard_errors_waived: ClassVar[float] = 0.0
    _auto_depth: ClassVar[float] = 0.0  # stochastic depth without a target
    _progress: Progress = QUIET
    # Of kinds without these parameters.
    target_weight: float = 0.0
    stochastic_depth: float | str = 0.0

    # -- what a kind may override --------------------------------------------------

    @abstractmethod
    def _make_network(self, rows: Dataset, seed: int) -> nn.Module:
        """Build the network. It maps standardized rows to codes, and codes to such rows."""

    @abstractmethod
    def _make_objective(self) -> Objective:
        """Build the objective that training minimises."""

    def _make_noise(self, rows: Dataset, generator: torch.Generator) -> nn.Module | None:
        """Build the noise module of a training run, or None: corruption or reparameterisation."""
        return None

    def _make_gradient(self) -> Any:
        """Return a function that builds the training step, or None for backpropagation.

        The function is ``(network, objective, gradient) -> Gradient``. Backpropagation uses closed
        forms if `skae._training.gradients` has them for the network.
        """
        return None

    def _restoring_errors(self) -> Any:
        """Return a function that compares the restoring of clean rows with PCA's, or None.

        It is ``(network, rows) -> errors``, as of `AutoencoderNet`.
        """
        return None

    def _must_restore(self) -> bool:
        """Whether few rows keep PCA unless clean rows are restored better.

        A kind needs it if its objective is not the error of restored rows.
        """
        return False

    def _resolve_stochastic_depth(self, streams: bool) -> float:
        """Share of the rows of each batch whose codes are not corrected."""
        depth: Any = self.stochastic_depth
        if not self._starts_at_pca():
            return 0.0
        if depth == "auto":
            return 0.0 if streams or self.target_weight else self._auto_depth
        return float(depth)

    def _unit_of_squares(self, network: Any) -> float:
        """What a squared error of a row counts in the objective, given the initial network."""
        return 0.5 if self._decodes_logits() else 1.0  # half a squared deviation is a nat

    def _make_initial_network(
        self, rows: Dataset, device: torch.device, seeds: Seeds, held_out: Dataset | None = None
    ) -> nn.Module:
        """Build the network that training starts from. A kind may pretrain it here."""
        return self._make_network(rows, seeds.weights)

    def _set_trainable(self, network: nn.Module) -> nn.Module:
        """Set which weights training may change; return the network."""
        return network.requires_grad_(True)

    def _after_training(self, rows: Dataset) -> None:
        """Change the trained network, for example its threshold."""

    def _check_parameters(self, X: np.ndarray) -> None:
        """Check parameters against each other and against the data."""

    def _has_user_modules(self) -> bool:
        """Whether modules of the user take part. They may use torch's global generators."""
        return self.network is not None

    def _starts_at_pca(self) -> bool:
        """Whether the initial network is PCA. It is kept unless training is better."""
        return self.anchor is not None

    def _is_linear(self) -> bool:
        """Whether the network has no hidden layers and starts at PCA."""
        no_layers = self.network is None and not self._resolve_hidden_layer_sizes()
        return self._starts_at_pca() and no_layers

    def _starts_at_optimum(self) -> bool:
        """Whether the initial network is optimal, whatever the data."""
        return False

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        """Whether training can improve the initial network on these data."""
        return not self._starts_at_optimum()

    # -- fit -----------------------------------------------------------------------

    @array_api_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        groups: Any = None,
    ) -> Self:
        """Fit the autoencoder to rows.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Training rows. Types other than float64 and float32 are converted to float64. Sparse
            rows and memory maps that would need more than 64 MiB as a dense float32 array are
            made dense or read batch by batch. So many rows of a Dask array or frame are written to
            a temporary file first.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Targets that codes shall predict if `target_weight` is positive; else ignored. Text,
            booleans, and whole numbers of at most 20 values close together, are classes; other
            numbers are quantities. Pass more classes as text. NaN and None are unknown, and so is
            -1 if two or more other classes are numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Rows of weight zero are dropped. Integer weights are numbers of equal rows. Other
            weights are relative: they are scaled to a mean of one.
        X_val : array-like or sparse matrix or array of shape (n_held_out, n_features), default=None
            Validation rows, such as other groups or later rows. They replace the rows that
            `validation_fraction` would hold out. They are not trained on.
        y_val : array-like of shape (n_held_out,) or (n_held_out, n_targets), default=None
            Targets of X_val, which are needed if `target_weight` is positive; else ignored.
        groups : array-like of shape (n_samples,), default=None
            Label of the group of each row, such as a person or a batch. The rows of a group are
            held out together. Copies of a row are always held out together, and so are near
            copies if there are many.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or X_val contains NaN or infinity, is not 2-D, is empty, or has values that the
            loss does not allow; if their numbers of features differ; if weights are negative or
            all zero; if groups have another length or missing values; if the device does not
            exist; if no loss was finite. If `target_weight` is positive: if y is missing, or has
            another length, a single class or infinite values; if y_val is missing, or has classes
            that y lacks.

        Warns
        -----
        UserWarning
            If `n_components` exceeds the number of features, or if many rows lie between others,
            as after oversampling, so that validation rows resemble training rows too much.
        ConvergenceWarning
            If all rows are equal, if training stopped at a non-finite loss, or if
            `n_components` is a share of variance and PCA's choice for it explains less of the
            held-out rows' variance. If `target_weight` is positive and held-out rows are restored
            worse than by PCA.
        """
        with progress_of_fit(self), all_or_nothing(self), torch.inference_mode(False):
            if not self.target_weight:
                y = y_val = None
            elif y is None:
                raise ValueError(
                    f"{type(self).__name__}(target_weight={self.target_weight}) requires y to be "
                    "passed, but the target y is None; pass the targets, or set target_weight=0."
                )
            data = self._start_fit(X, sample_weight, X_val, groups, y, y_val)
            with self._seed_user_modules(data.seeds.weights, data.device):
                trained = self._build(data).train()
            self._finish_fit(data, trained)
            self._warn_if_overcomplete()
        return self

    def _start_fit(
        self,
        X: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        groups: Any = None,
        y: Any = None,
        y_val: Any = None,
    ) -> FitData:
        """Validate and standardize the data; choose the number of components if it is a share."""
        device = resolve_device(self.device, X)
        check_callbacks(self.callbacks)
        X = self._check_rows(X, reset=True)
        targets = columns = held_out_columns = None
        read, labels = None if y is None else read_targets(y, X, "y"), check_groups(groups, X)
        index = np.arange(X.shape[0])
        X, weights, labels, index = check_weights(sample_weight, X, labels, index)
        if read is not None:
            targets = Targets(read, index, weights)
            columns = targets.encode([column.at(index) for column in read])
        X, weights, labels, columns = sort_and_repeat(
            X, weights, labels, columns, below=TINY_ROWS, ties=columns
        )
        self._check_parameters(X)
        X_val = None if X_val is None else self._check_validation_rows(X_val)
        if targets is not None:
            held_out_columns = _encode_validation_targets(targets, y_val, X_val)
        previous = self._previous_network()
        if previous is None:
            rows = self._fit_center_and_scale(X, weights)
        else:
            rows = Dataset(X, self._center, self._scale, weights)
        rows.groups = labels
        held_out = None if X_val is None else Dataset(X_val, self._center, self._scale)
        *seeds, density_seed = derive_seeds(self.random_state, 5)
        data = FitData(
            rows,
            held_out,
            device,
            Seeds(*seeds),
            density_seed,
            previous,
            targets,
            columns,
            held_out_columns,
        )
        self.n_samples_ = rows.count
        if previous is None:
            self._choose_n_components(rows, device, data.seeds, held_out)
        return data

    def _build(self, data: FitData) -> TrainingJob:
        """Build the initial network and the trainer; zero epochs if training cannot help."""
        rows, held_out, seeds, network = data.rows, data.held_out, data.seeds, data.previous
        trainer = self._make_trainer(rows, data.device, seeds)
        make_network: Any = None
        if network is None:
            make_network = partial(self._make_initial_network, device=data.device, seeds=seeds)
            network = make_network(rows, held_out=held_out)
        n_epochs = None if self._needs_training(network, rows) else 0
        if data.targets is not None:
            supervision = self._make_supervision(data.targets, network, rows)
            rows = rows.with_extra(data.columns)
            held_out = None if held_out is None else held_out.with_extra(data.held_out_columns)
            trainer = supervision.supervise(trainer, rows)
            network = supervision.add_head(network, rows)
            if make_network is not None:
                make_network = partial(supervision.make_network, make_network)
        return TrainingJob(trainer, network, rows, make_network, held_out, n_epochs)

    def _make_supervision(self, targets: Targets, network: Any, rows: Dataset) -> Supervision:
        """Describe how much targets count next to the rows."""
        centred = self._centred(rows)
        components = centred.principal_components(self.n_components_)
        along, residual = centred.squares_along(components)
        return Supervision(
            targets,
            self.target_weight,
            rows.shape[1],
            residual / ((along.sum() + residual) or 1.0),
            self._unit_of_squares(network),
        )

    def _finish_fit(self, data: FitData, trained: Trained, *, full: bool = True) -> None:
        """Store the trained net, order the code, compute the attributes, fit the density.

        If not `full`, compute only what codes, reconstructions and `score` need.
        """
        self.net_, self.validation_loss_curve_ = trained
        self.loss_curve_ = [epoch["train_loss"] for epoch in self.net_.history]
        self.n_iter_ = len(self.loss_curve_)
        self._set_pca_error_ratio()
        self._after_training(data.rows)
        self._limit_network(data.rows, data.held_out)
        self._describe_network(data.rows, full=full)
        if full:
            with limited_threads(torch.get_num_threads()):
                self._prepare_densities(data.rows, data.density_seed)

    def _set_pca_error_ratio(self) -> None:
        """Set how well held-out rows are restored; warn if it is worse than by PCA."""
        network = self.net_.module_
        is_anchor = isinstance(network, Anchored) and network.is_at_anchor()
        is_pca = is_anchor and not self._decodes_logits()
        self.pca_error_ratio_ = 1.0 if is_pca else self.net_.pca_error_ratio_
        if self.target_weight and round(self.pca_error_ratio_, 3) > 1:
            warn(
                f"The error of restored held-out rows is {self.pca_error_ratio_:.4g} times that of "
                f"PCA, because codes predict the target, too (target_weight={self.target_weight}). "
                "Lower target_weight, or raise n_components, if rows shall be restored.",
                ConvergenceWarning,
            )

    # -- steps of fit --------------------------------------------------------------

    def _check_validation_rows(self, X_val: Any) -> Any:
        """Validate the user's validation rows."""
        with errors_about_validation_rows():
            X_val = self._check_rows(X_val)
        self._check_parameters(X_val)
        return X_val

    def _previous_network(self) -> nn.Module | None:
        """Copy of the network that a warm start continues from; None without a warm start."""
        if not (self.warm_start and hasattr(self, "net_")):
            return None
        if len(self.mean_) != self.n_features_in_:
            raise ValueError(
                f"warm_start=True continues a fit on {len(self.mean_)} features, but X has "
                f"{self.n_features_in_}; set warm_start=False for a new fit."
            )
        chosen = isinstance(self.n_components, RealNotInt) and hasattr(self, "dimension_curve_")
        if not chosen and self.n_components not in (None, self._n_chosen()):
            raise ValueError(
                f"warm_start=True continues a fit of {self._n_chosen()} components, but "
                f"n_components={self.n_components}; set warm_start=False for a new fit."
            )
        return self._network_to_train()

    def _n_chosen(self) -> int:
        """Number of components that `n_components` chose. A kind may add others."""
        return self.n_components_

    def _network_to_train(self) -> nn.Module:
        """Copy of the trained network, to be trained further."""
        network = copy.deepcopy(self.net_.module_)
        if isinstance(network, Anchored):
            network.limit(None, None)
        return self._set_trainable(network)

    def _fit_center_and_scale(
        self, X: Any, weights: np.ndarray | None, *, warns: bool = True
    ) -> Dataset:
        """Set mean, centre, scale (one number) and `n_components_`; return standardized rows."""
        rows, constant = self._rows_around_mean(X, weights)
        self.mean_ = rows.center
        if self._decodes_logits():
            rows = rows.with_center(np.zeros_like(self.mean_))
        else:
            rows = rows.with_scale(rows.root_mean_square())
        self._center, self._scale = rows.center, rows.scale
        self.n_components_ = self.n_components or self._n_components_of_none(rows)
        if warns and constant.all():
            warn(
                f"All rows of X are equal (n_samples={X.shape[0]}): there is no variance to "
                "learn, and all codes are equal. Fit on rows that differ.",
                ConvergenceWarning,
            )
        return rows

    def _rows_around_mean(self, X: Any, weights: np.ndarray | None) -> tuple[Dataset, np.ndarray]:
        """Rows around the mean of each column, and which columns are constant."""
        constant = constant_columns(X)
        # A rounding error in the mean of a constant column would look like variance.
        mean = np.where(constant, read_rows(X, slice(1))[0], weighted_mean(X, weights))
        return Dataset(X, mean, weights=weights), constant

    def _centred(self, rows: Dataset) -> Dataset:
        """Rows around their mean, which rows for a decoder of logits are not."""
        if not self._decodes_logits():
            return rows
        return rows.with_center(self.mean_)

    def _warn_if_overcomplete(self) -> None:
        warn_if_overcomplete(self.n_components_, self.n_features_in_)

    def _n_components_of_none(self, rows: Dataset) -> int:
        """Number of components for ``n_components=None``."""
        return min(rows.count, rows.shape[1])

    def _choose_n_components(
        self, rows: Dataset, device: torch.device, seeds: Seeds, held_out: Dataset | None
    ) -> None:
        """If `n_components` is a share of variance, set `n_components_` to explain this share."""
        if hasattr(self, "dimension_curve_"):
            del self.dimension_curve_
        if isinstance(self.n_components, RealNotInt):
            self.n_components_, self.dimension_curve_ = choose_n_components(
                self, rows, device, seeds, held_out
            )

    def _make_trainer(
        self,
        rows: Dataset,
        device: torch.device,
        seeds: Seeds,
        *,
        rate: float = 1.0,
        streams: bool = False,
    ) -> Trainer:
        """Build the trainer for networks on these rows; `rate` is a factor of the learning rate.

        `streams` says that the rows are a part of a stream.
        """

        def make_noise() -> nn.Module | None:
            return self._make_noise(rows, torch.Generator(device).manual_seed(seeds.noise))

        return Trainer(
            # By name: a kind may have a class attribute instead of one of these parameters.
            {name: getattr(self, name) for name in BaseAutoencoder._parameter_constraints}
            | {"lr": self.lr * rate},
            self._make_objective(),
            self._starts_at_pca(),
            device,
            seeds.split,
            seeds.order,
            make_noise,
            self._standard_errors_waived,
            self._make_gradient(),
            restoring=self._restoring_errors() if self._starts_at_pca() else None,
            must_restore=self._must_restore(),
            stochastic_depth=self._resolve_stochastic_depth(streams),
            progress=self._progress,
        )

    def _seed_user_modules(self, seed: int, device: torch.device) -> AbstractContextManager[None]:
        """Seed torch's global generators if modules of the user draw from them."""
        return seeded_globally(seed, device) if self._has_user_modules() else nullcontext()

    def _n_fits_per_batch(self, n_rows: int, n_features: int) -> int:
        """Number of fits on tables of this size whose networks should share a batch."""
        single = self._has_user_modules() or self.callbacks or self._make_gradient() is not None
        single = single or self.target_weight > 0
        if single or not isinstance(self.n_components, Integral):
            return 1
        widths: list[Any] = [n_features, *self._resolve_hidden_layer_sizes(), self.n_components]
        n_parameters = 2 * sum(n_in * n_out for n_in, n_out in pairwise(widths))
        batch_size: Any = self.batch_size
        if batch_size == "auto":
            depth = self._resolve_stochastic_depth(streams=False)
            batch_size = auto_batch_size(
                n_rows, from_pca=self._starts_at_pca(), stochastic_depth=depth
            )
        return models_per_batch(n_parameters, batch_size, n_rows, n_features)

    # -- networks ------------------------------------------------------------------

    def _resolve_hidden_layer_sizes(self) -> tuple[int, ...]:
        """Widths of the encoder's hidden layers."""
        return resolve_hidden_layer_sizes(self.hidden_layer_sizes)

    def _make_codec(self, seed: int, n_parts: int = 1) -> Any:
        """Build the user's network, or an encoder and a decoder with mirrored layers.

        The encoder returns `n_parts` arrays of n_components columns, side by side.
        """
        if self.network is not None:
            return self._make_user_network(n_parts)
        generator = torch.Generator().manual_seed(seed)
        d, k, hidden = self.n_features_in_, self.n_components_, self._resolve_hidden_layer_sizes()
        encoder, decoder = (
            MLP(widths, self.activation, zero_last=self._starts_at_pca(), generator=generator)
            for widths in ([d, *hidden, n_parts * k], [k, *hidden[::-1], d])
        )
        return Autoencoder(encoder, decoder)

    def _make_user_network(self, n_parts: int = 1) -> nn.Module:
        """Build the user's network and check its shapes on two rows of zeros."""
        d, k = self.n_features_in_, self.n_components_
        network = self.network(d, k)
        if not (hasattr(network, "encode") and hasattr(network, "decode")):
            raise ValueError(
                f"network={self.network!r} returned {type(network).__name__}, which lacks "
                "`encode` or `decode`; return an nn.Module with both methods."
            )
        network = network.float()
        code_shape, row_shape = shapes_of_two_rows(network, d, k if n_parts > 1 else None)
        if (code_shape, row_shape) != ((2, n_parts * k), (2, d)):
            raise ValueError(
                f"network={self.network!r} encodes 2 rows to shape {code_shape} and decodes "
                f"them to {row_shape}; with n_components={k} and {d} features, the shapes must "
                f"be {(2, n_parts * k)} and {(2, d)}."
            )
        return network

    # -- scikit-learn's contract ---------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        tags.array_api_support = True
        weight = self.target_weight
        tags.target_tags.required = isinstance(weight, Real) and weight > 0
        tags.target_tags.multi_output = tags.target_tags.required
        return tags


def resolve_hidden_layer_sizes(sizes: Any) -> tuple[int, ...]:
    """Widths of an encoder's hidden layers, of the parameter `hidden_layer_sizes`."""
    if isinstance(sizes, str):
        return (128,)
    widths = integers_in(sizes)
    if widths is None or min(widths, default=1) < 1:
        raise ValueError(
            f"hidden_layer_sizes={sizes!r} must hold integers >= 1; use () for the linear "
            "autoencoder, or 'auto'."
        )
    return tuple(widths)


def _encode_validation_targets(targets: Targets, y_val: Any, X_val: Any) -> np.ndarray | None:
    """Encode the targets of the user's validation rows; None if there are no such rows."""
    if X_val is None and y_val is None:
        return None
    if X_val is None:
        raise ValueError("y_val was passed without X_val; pass the rows, too, or neither.")
    if y_val is None:
        raise ValueError(
            "X_val was passed without y_val, but target_weight is positive; pass the targets of "
            "X_val as y_val, with NaN where they are unknown."
        )
    return targets.encode(read_targets(y_val, X_val, "y_val"), "y_val")
