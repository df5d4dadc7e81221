"""The base of all kinds: the seams that a kind fills, and `fit` from top to bottom."""

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
from sklearn import config_context
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, RealNotInt, StrOptions
from torch import nn

from skae._data.array_api import array_api_fit
from skae._data.dataset import Dataset, constant_columns
from skae._data.input_checks import as_numpy
from skae._data.parameter_checks import Interval, integers_in, warn_if_overcomplete
from skae._data.rollback import all_or_nothing
from skae._data.sample_weight import check_weights, sort_and_repeat, weighted_mean
from skae._data.seeds_and_devices import derive_seeds, resolve_device, seeded_globally
from skae._data.threads import limited_threads
from skae._data.warnings import warn
from skae._latent.covariance import CovarianceTransformer
from skae._latent.n_components import choose_n_components
from skae._training.batched import models_per_batch
from skae._training.callbacks import check_callbacks
from skae._training.net import AutoencoderNet
from skae._training.optimizers import OPTIMIZERS
from skae._training.pickling import PicklingMixin
from skae._training.trainer import Trained, Trainer, TrainingJob, auto_batch_size, train_networks
from skae._training.validation_split import MIN_ROWS_TO_HOLD_OUT
from skae.losses import Objective
from skae.networks.dense import ACTIVATIONS, MLP, Autoencoder, shapes_of_two_rows


class Seeds(NamedTuple):
    """Seeds of one fit: of initial weights, held-out rows, the order of rows, and noise."""

    weights: int
    split: int
    order: int
    noise: int


@dataclass
class FitData:
    """What one fit works on, before its network is built.

    Parameters
    ----------
    rows : Dataset
        Training rows.
    held_out : Dataset or None
        Validation rows that the user gave.
    device : torch.device
    seeds : Seeds
    density_seed : int
    previous : nn.Module or None
        Network that a warm start continues from.
    """

    rows: Dataset
    held_out: Dataset | None
    device: torch.device
    seeds: Seeds
    density_seed: int
    previous: nn.Module | None


class BaseAutoencoder(PicklingMixin, CovarianceTransformer):
    """Template of all kinds: a kind says which network, objective and parameters it has.

    Parameters
    ----------
    n_components : int, float or None, default=2
        Size of the code. May exceed the number of features (an overcomplete code). None is
        ``min(n_samples, n_features)``, as in PCA, which leaves nothing to learn. A float in
        (0, 1) is the smallest size that explains this share of the variance of rows held out
        for it, at most PCA's choice for the same share; some fits on the way find it.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. ``()`` is the linear
        autoencoder, which is PCA. "auto" is one hidden layer whose width suits tables of a
        few hundred to some ten thousand rows; images gain from more layers, for example
        ``(1000, 500, 250)``.
    activation : str or callable, default="relu"
        Between the layers: "relu", "gelu", "silu", "elu", "leaky_relu", "softplus", "tanh",
        "logistic", "identity", or a callable that makes a module, such as `torch.nn.Mish`.
        "relu", "tanh", "logistic" and "identity" train fastest.
    whiten : bool, default=False
        Scale components to unit variance, as PCA's `whiten`.
    latent_density : str or estimator, default="auto"
        How codes are distributed, for `sample` and `score_samples`: "gaussian_mixture" (as
        many components as the Bayesian information criterion asks for), "gaussian" (the
        moments of the training codes), "standard_normal", or an estimator with `fit`,
        `sample` and `score_samples`, such as `sklearn.neighbors.KernelDensity`, of which a
        clone is fitted to at most 5,000 codes. "auto" is the mixture, but "gaussian" for
        the linear autoencoder, which makes it probabilistic PCA.
    network : callable, default=None
        ``(n_features, n_components) -> nn.Module`` with methods `encode` and `decode`: a
        network of your own instead of the perceptrons. `hidden_layer_sizes` and `activation`
        are then not used. With ``anchor="pca"`` it takes the place of f and g, each behind a
        trainable factor that starts at zero.
    optimizer : str or callable, default="adamw"
        "adamw", "adam", "sgd", or ``(parameters, lr=, weight_decay=) -> Optimizer``, such as
        `torch.optim.RMSprop`.
    lr : float, default=5e-3
        Learning rate; the peak of the cycle.
    lr_schedule : {"one_cycle", "constant"}, default="one_cycle"
        "one_cycle" rises and falls once over `max_epochs` and always runs its full length;
        "constant" stops after `n_iter_no_change` epochs without progress.
    weight_decay : float, default=0.05
        Pulls the weights towards zero: more of it suits smaller tables.
    batch_size : int or "auto", default="auto"
        Rows of one step. A last batch of a single row joins the one before it.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows; "auto" gives small tables more passes.
    early_stopping : bool, default=True
        Hold rows out and keep the weights that restore them best; of tables below 500 rows,
        hold out each row once and keep the best number of epochs (see Notes). False trains
        on all rows and keeps the last weights. Below 30 rows none are held out.
    validation_fraction : float, default=0.1
        Share of the rows held out at once. The principal components are those of all rows.
    n_iter_no_change : int, default=10
        Epochs without progress until a constant rate stops; needs `early_stopping`.
    tol : float, default=1e-4
        Relative decrease of the held-out loss that counts as progress.
    callbacks : list of skorch callbacks, default=None
        Cloned for each fit. Hooks of batches are called only if overridden.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:1", "mps", or "auto": an accelerator if there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the held-out rows and the order of the rows. An int gives
        the same bits on the same CPU with the same number of threads.
    warm_start : bool, default=False
        Start from the centre, scale, anchor and weights of the previous fit. A size that a
        share of variance has chosen is kept.
    verbose : int, default=0
        1 shows a progress bar with the losses.

    Attributes
    ----------
    n_components_ : int
    dimension_curve_ : dict of str to ndarray of shape (n_sizes,)
        Only if `n_components` is a float: the sizes tried, "n_components", and what each
        explains of the variance of held-out rows, "explained_variance".
    components_ : ndarray of shape (n_components_, n_features_in_)
        Mean linear map of the decoder: how the reconstruction moves, in input units, per
        unit of each component (before whitening). The largest entry of a row is positive.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component over the training rows, before whitening, decreasing.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        What a component adds to the explained share of the training rows' variance while the
        later ones are held at their mean. With a nonlinear decoder it need not decrease and
        may be negative. Its sum is ``score(X_train)``.
    singular_values_ : ndarray of shape (n_components_,)
        Root of ``(n_samples_ - 1) * explained_variance_``: the length of each component over
        the training rows, before whitening.
    noise_variance_ : float
        Mean variance left per remaining dimension, as PCA's; of a network that was trained,
        times the mean squared error of held-out rows over that of training rows.
    mean_ : ndarray of shape (n_features_in_,)
        Of the training rows.
    n_samples_ : int
        Number of training rows, held-out rows included.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X has string column names.
    latent_density_ : object with `sample` and `score_samples`
        The density of the training codes.
    net_ : skorch.NeuralNet
        The trained net; its network is ``net_.module_``, its record ``net_.history``.
    n_iter_ : int
        Epochs trained; 0 where PCA is already the optimum.
    loss_curve_, validation_loss_curve_ : list of float
        Mean loss per row after each epoch, in units of the mean feature variance; the latter
        is empty where no rows were held out.
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
    # Of those by which training must be better than PCA, standard errors that are waived.
    _standard_errors_waived: ClassVar[float] = 0.0

    # -- seams: what a kind says ---------------------------------------------------

    @abstractmethod
    def _make_network(self, rows: Dataset, seed: int) -> nn.Module:
        """Build the network for standardized rows."""

    @abstractmethod
    def _make_objective(self) -> Objective:
        """Choose what training minimises."""

    def _make_noise(self, rows: Dataset, generator: torch.Generator) -> nn.Module | None:
        """Choose what corrupts the rows during training, or draws codes; None is nothing."""
        return None

    def _make_gradient(self) -> Any:
        """Choose the training step: ``(network, objective, gradient) -> Gradient``, or None.

        None is backpropagation, in closed form where there is one. See `skae._training.gradients`.
        """
        return None

    def _make_initial_network(
        self, rows: Dataset, device: torch.device, seeds: Seeds, held_out: Dataset | None = None
    ) -> nn.Module:
        """Build the network that joint training starts from; a kind may pretrain it here."""
        return self._make_network(rows, seeds.weights)

    def _set_trainable(self, network: nn.Module) -> nn.Module:
        """Choose the weights that training may change."""
        return network.requires_grad_(True)

    def _after_training(self, rows: Dataset) -> None:
        """Finish the trained network."""

    def _check_parameters(self, X: np.ndarray) -> None:
        """Check what depends on two parameters, or on a parameter and the data."""

    def _has_user_modules(self) -> bool:
        """Whether modules of the user take part: they draw from torch's global generators."""
        return self.network is not None

    def _starts_at_pca(self) -> bool:
        """Whether the network before training is PCA, and a start worth keeping."""
        return self.anchor is not None

    def _is_linear(self) -> bool:
        """Whether the network starts at PCA and cannot leave it."""
        no_layers = self.network is None and not self._resolve_hidden_layer_sizes()
        return self._starts_at_pca() and no_layers

    def _starts_at_optimum(self) -> bool:
        """Whether the network's start is the optimum, whatever the rows."""
        return False

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        """Whether training can improve on the network's start."""
        return not self._starts_at_optimum()

    # -- fit -----------------------------------------------------------------------

    @array_api_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, X_val: Any = None) -> Self:
        """Fit the autoencoder to rows.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
            Training rows, float64 or float32, else converted to float64. Sparse rows and
            memory maps of more than 64 MiB in float32 are made dense, or read, batch by batch.
        y : None
            Ignored, present for Pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Rows of weight zero are dropped. Integer weights say how many rows each stands
            for; others are relative, scaled to a mean of one.
        X_val : array-like or sparse matrix or array of shape (n_held_out, n_features), default=None
            Rows to judge the weights by, such as other groups or later ones, instead of rows
            held out by `validation_fraction`. They are not trained on.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or X_val holds NaN or infinity, is not 2-D, is empty, or lies outside what
            the loss admits; if their widths differ; if weights are negative or all zero; if
            the device is absent; if no finite loss was ever found.

        Warns
        -----
        UserWarning
            If `n_components` exceeds the number of features.
        ConvergenceWarning
            If all rows are equal, if training stopped at a non-finite loss, or if
            `n_components` is a share of variance that PCA's choice for it does not explain
            of held-out rows.
        """
        with all_or_nothing(self), torch.inference_mode(False):
            data = self._start_fit(X, sample_weight, X_val)
            with self._seed_user_modules(data.seeds.weights, data.device):
                job = self._build(data)
                (trained,) = train_networks([job])
            self._finish_fit(data, trained)
            self._warn_if_overcomplete()
        return self

    def _start_fit(self, X: Any, sample_weight: Any = None, X_val: Any = None) -> FitData:
        """Validate, then standardize, then settle the number of components."""
        device = resolve_device(self.device, X)
        check_callbacks(self.callbacks)
        X, weights = check_weights(sample_weight, self._check_rows(X, reset=True))
        X, weights = sort_and_repeat(X, weights, below=MIN_ROWS_TO_HOLD_OUT)
        self._check_parameters(X)
        X_val = None if X_val is None else self._check_validation_rows(X_val)
        previous = self._previous_network()
        if previous is None:
            rows = self._fit_center_and_scale(X, weights)
        else:
            rows = Dataset(X, self._center, self._scale, weights)
        held_out = None if X_val is None else Dataset(X_val, self._center, self._scale)
        *seeds, density_seed = derive_seeds(self.random_state, 5)
        data = FitData(rows, held_out, device, Seeds(*seeds), density_seed, previous)
        self.n_samples_ = rows.count
        if previous is None:
            self._choose_n_components(rows, device, data.seeds, held_out)
        return data

    def _build(self, data: FitData) -> TrainingJob:
        """Anchor the network at PCA, and say how it is trained."""
        rows, seeds, network = data.rows, data.seeds, data.previous
        trainer, make_network = self._make_trainer(rows, data.device, seeds), None
        if network is None:
            make_network = partial(self._make_initial_network, device=data.device, seeds=seeds)
            network = make_network(rows, held_out=data.held_out)
        n_epochs = None if self._needs_training(network, rows) else 0
        return TrainingJob(trainer, network, rows, make_network, data.held_out, n_epochs)

    def _finish_fit(self, data: FitData, trained: Trained, *, full: bool = True) -> None:
        """Keep the best weights, then order the code, then describe it and fit its density.

        Unless in full, only compute what codes, reconstructions and `score` need.
        """
        self.net_, self.validation_loss_curve_ = trained
        self.loss_curve_ = [epoch["train_loss"] for epoch in self.net_.history]
        self.n_iter_ = len(self.loss_curve_)
        self._after_training(data.rows)
        self._describe_network(data.rows, full=full)
        if full:
            threads = limited_threads(torch.get_num_threads())
            with threads, config_context(array_api_dispatch=False):  # codes are in numpy
                self._fit_density(data.rows, data.density_seed)

    # -- steps of fit --------------------------------------------------------------

    def _check_validation_rows(self, X_val: Any) -> Any:
        """Validate rows that the user gave for validation."""
        try:
            X_val = self._check_rows(X_val)
        except ValueError as error:
            raise ValueError(f"X_val does not suit X: {error}") from error
        self._check_parameters(X_val)
        return X_val

    def _previous_network(self) -> nn.Module | None:
        """Return the network that a warm start continues from."""
        if not (self.warm_start and hasattr(self, "net_")):
            return None
        if len(self.mean_) != self.n_features_in_:
            raise ValueError(
                f"warm_start=True continues a fit on {len(self.mean_)} features, but X has "
                f"{self.n_features_in_}; set warm_start=False to start anew."
            )
        chosen = isinstance(self.n_components, RealNotInt) and hasattr(self, "dimension_curve_")
        if not chosen and self.n_components not in (None, self.n_components_):
            raise ValueError(
                f"warm_start=True continues a fit of {self.n_components_} components, but "
                f"n_components={self.n_components}; set warm_start=False to start anew."
            )
        return self._set_trainable(copy.deepcopy(self.net_.module_))

    def _fit_center_and_scale(
        self, X: Any, weights: np.ndarray | None, *, warns: bool = True
    ) -> Dataset:
        """Fit centre and scale; settle the number of components that None stands for."""
        constant = constant_columns(X)
        # Rounding in the mean of a constant column would look like variance to the network.
        self.mean_ = np.where(constant, as_numpy(X[:1])[0], weighted_mean(X, weights))
        rows = self._fit_scale(X, weights)
        self.n_components_ = self.n_components or self._n_components_of_none(rows)
        self._center, self._scale = rows.center, rows.scale
        if warns and constant.all():
            warn(
                f"All rows of X are equal (n_samples={X.shape[0]}): there is no variance to "
                "learn, every code is the same.",
                ConvergenceWarning,
            )
        return rows

    def _fit_scale(self, X: Any, weights: np.ndarray | None) -> Dataset:
        """Fit the one scale of all features: the objective stays PCA's."""
        if self._decodes_logits():
            return Dataset(X, np.zeros_like(self.mean_), weights=weights)
        rows = Dataset(X, self.mean_, weights=weights)
        return rows.with_scale(rows.root_mean_square())

    def _warn_if_overcomplete(self) -> None:
        warn_if_overcomplete(self.n_components_, self.n_features_in_)

    def _n_components_of_none(self, rows: Dataset) -> int:
        """Number of components that None stands for."""
        return min(rows.count, rows.shape[1])

    def _choose_n_components(
        self, rows: Dataset, device: torch.device, seeds: Seeds, held_out: Dataset | None
    ) -> None:
        """Turn a share of variance into a number of components."""
        if hasattr(self, "dimension_curve_"):
            del self.dimension_curve_
        if isinstance(self.n_components, RealNotInt):
            self.n_components_, self.dimension_curve_ = choose_n_components(
                self, rows, device, seeds, held_out
            )

    def _make_trainer(
        self, rows: Dataset, device: torch.device, seeds: Seeds, *, rate: float = 1.0
    ) -> Trainer:
        """Settle how networks are trained on rows, at some share of the learning rate."""

        def make_noise() -> nn.Module | None:
            return self._make_noise(rows, torch.Generator(device).manual_seed(seeds.noise))

        return Trainer(
            # By name: a derived kind need not repeat the parameters that it leaves as they are.
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
        )

    def _seed_user_modules(self, seed: int, device: torch.device) -> AbstractContextManager[None]:
        """Let a user's modules draw by a seed: they know only torch's global generators."""
        return seeded_globally(seed, device) if self._has_user_modules() else nullcontext()

    def _n_fits_per_batch(self, n_rows: int, n_features: int) -> int:
        """Number of fits to so many rows that are worth training in one batch."""
        alone = self._has_user_modules() or self.callbacks or self._make_gradient() is not None
        if alone or not isinstance(self.n_components, Integral):
            return 1
        widths: list[Any] = [n_features, *self._resolve_hidden_layer_sizes(), self.n_components]
        n_parameters = 2 * sum(n_in * n_out for n_in, n_out in pairwise(widths))
        batch_size: Any = self.batch_size
        if batch_size == "auto":
            batch_size = auto_batch_size(n_rows)
        return models_per_batch(n_parameters, batch_size, n_rows, n_features)

    # -- networks ------------------------------------------------------------------

    def _resolve_hidden_layer_sizes(self) -> tuple[int, ...]:
        """Widths of the encoder's hidden layers."""
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, str):
            return (128,)
        widths = integers_in(sizes)
        if widths is None or min(widths, default=1) < 1:
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} must hold integers >= 1; use "
                "() for the linear autoencoder or 'auto'."
            )
        return tuple(widths)

    def _make_mlps(self, seed: int, n_parts: int = 1) -> Any:
        """Build the user's network, or an encoder and its mirror image, the decoder.

        What encodes returns codes, or `n_parts` arrays as wide, side by side.
        """
        if self.network is not None:
            return self._make_own_network(n_parts)
        generator = torch.Generator().manual_seed(seed)
        d, k, hidden = self.n_features_in_, self.n_components_, self._resolve_hidden_layer_sizes()
        encoder, decoder = (
            MLP(widths, self.activation, zero_last=self._starts_at_pca(), generator=generator)
            for widths in ([d, *hidden, n_parts * k], [k, *hidden[::-1], d])
        )
        return Autoencoder(encoder, decoder)

    def _make_own_network(self, n_parts: int = 1) -> nn.Module:
        """Build the user's network and check its shapes on two rows of zeros."""
        d, k = self.n_features_in_, self.n_components_
        network = self.network(d, k)
        if not (hasattr(network, "encode") and hasattr(network, "decode")):
            raise ValueError(
                f"network={self.network!r} returned {type(network).__name__}, which lacks "
                "`encode` or `decode`; return an nn.Module that has both."
            )
        network = network.float()
        code_shape, row_shape = shapes_of_two_rows(network, d, k if n_parts > 1 else None)
        if (code_shape, row_shape) != ((2, n_parts * k), (2, d)):
            raise ValueError(
                f"network={self.network!r} encodes 2 rows to {code_shape} and decodes them to "
                f"{row_shape}; with n_components={k} and {d} features, {(2, n_parts * k)} and "
                f"{(2, d)} are needed."
            )
        return network

    # -- scikit-learn's contract ---------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags
