"""What every kind of autoencoder shares: the way of the data through `fit` and back."""

from __future__ import annotations

import copy
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skae._callbacks import check_callbacks
from skae._dimension import choose_dimension
from skae._optimization import OPTIMIZERS
from skae._rows import Rows, constant_columns
from skae._sampling import SamplingMixin
from skae._training import Trainer
from skae._validation import (
    all_or_nothing,
    check_codes,
    check_rows,
    derive_seeds,
    explained_share,
    limited_threads,
    resolve_device,
    rows_per_batch,
    seeded_globally,
)
from skae.losses import Objective
from skae.networks import ACTIVATIONS, MLP, Autoencoder, shapes_of_two_rows

NEGLIGIBLE = 1e-12  # share of variance below which nothing is left to learn or to divide by
JACOBIAN_ROWS = 256  # rows over which components_ averages the decoder's Jacobian
INCREMENT_PRODUCTS = 10**9  # multiplications spent on explained_variance_ratio_


class BaseAutoencoder(
    SamplingMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
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

    _lenience: ClassVar[float] = 0.0  # standard errors of gain less for which PCA is left

    # -- what a kind chooses -------------------------------------------------------

    @abstractmethod
    def _make_network(self, rows: Rows, seed: int) -> nn.Module:
        """Build the network for rows in network units."""

    @abstractmethod
    def _make_objective(self) -> Objective:
        """Choose what training minimises."""

    def _make_noise(self, rows: Rows, generator: torch.Generator) -> nn.Module | None:
        """Choose what corrupts the rows while the network trains."""
        return None

    def _has_own_modules(self) -> bool:
        """Whether modules of the user's take part, which draw from torch's generators."""
        return self.network is not None

    def _check_parameters(self, X: np.ndarray) -> None:
        """Check what depends on two parameters, or on a parameter and the data."""

    def _needs_training(self, network: nn.Module, rows: Rows) -> bool:
        """Whether training can improve on the network's start."""
        return True

    def _starts_at_pca(self) -> bool:
        """Whether the network before training is PCA, a start worth keeping."""
        return self.anchor is not None

    def _is_linear(self) -> bool:
        """Whether the network can be nothing but linear, and starts at PCA."""
        no_layers = self.network is None and not self._resolve_hidden_layer_sizes()
        return self._starts_at_pca() and no_layers

    def _decodes_logits(self) -> bool:
        """Whether rows lie in [0, 1] and what is decoded are logits."""
        return False

    def _in_network_units(self, X: np.ndarray) -> Rows:
        """Learn the shift and the one scale between input units and network units."""
        if self._decodes_logits():
            return Rows(X, np.zeros_like(self.mean_))
        rows = Rows(X, self.mean_)
        return rows.with_scale(rows.root_mean_square())

    def _link(self, decoded: Tensor) -> Tensor:
        """Turn what the decoder returns into rows in network units."""
        return decoded.sigmoid() if self._decodes_logits() else decoded

    # -- fit -----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the autoencoder to rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, float64 or float32, else converted to float64.
        y : None
            Ignored, present for Pipelines.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X holds NaN or infinity, is not 2-D, is empty, or lies outside what the
            loss admits; if the device is absent; if no finite loss was ever found.

        Warns
        -----
        ConvergenceWarning
            If all rows are equal, if training stopped at a non-finite loss, or if
            `n_components` is a share of variance that PCA's choice for it does not explain
            of held-out rows.
        """
        device = resolve_device(self.device)
        check_callbacks(self.callbacks)
        with all_or_nothing(self):
            X = check_rows(self, X, reset=True)
            self._check_parameters(X)
            network = self._previous_network()
            rows = self._locate(X) if network is None else Rows(X, self._shift, self._scale)
            *seeds, density_seed = derive_seeds(self.random_state, 5)
            if network is None:
                self._choose_dimension(rows, device, seeds)
            self._train(network, rows, device, seeds)
            if self._is_at_pca():
                self._describe_as_pca(rows)
            else:
                self._describe(rows, self._order(rows))
            with limited_threads(torch.get_num_threads()):
                self._fit_densities(rows, density_seed)
        return self

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
        return copy.deepcopy(self.net_.module_).requires_grad_(True)

    def _locate(self, X: np.ndarray) -> Rows:
        """Learn centre and scale; settle the size of the code."""
        n_samples, n_features = X.shape
        self.n_components_ = self.n_components or min(n_samples, n_features)
        constant = constant_columns(X)
        # Rounding in the mean of a constant column would look like variance to the network.
        self.mean_ = np.where(constant, X[0], X.mean(axis=0, dtype=np.float64))
        rows = self._in_network_units(X)
        self._shift, self._scale = rows.shift, rows.scale
        if constant.all():
            warnings.warn(
                f"All rows of X are equal (n_samples={n_samples}): there is no variance to "
                "learn, every code is the same.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return rows

    def _choose_dimension(self, rows: Rows, device: torch.device, seeds: list[int]) -> None:
        """Turn a share of variance into a size of the code."""
        if hasattr(self, "dimension_curve_"):
            del self.dimension_curve_
        if isinstance(self.n_components, RealNotInt):
            self.n_components_, self.dimension_curve_ = choose_dimension(self, rows, device, seeds)

    def _make_trainer(self, rows: Rows, device: torch.device, seeds: list[int]) -> Trainer:
        """Choose how networks for these rows are trained."""
        _, split_seed, order_seed, noise_seed = seeds

        def make_noise() -> nn.Module | None:
            return self._make_noise(rows, torch.Generator(device).manual_seed(noise_seed))

        return Trainer(
            self.get_params(deep=False),
            self._make_objective(),
            self._starts_at_pca(),
            device,
            split_seed,
            order_seed,
            make_noise,
            self._lenience,
        )

    def _train(
        self, network: nn.Module | None, rows: Rows, device: torch.device, seeds: list[int]
    ) -> None:
        """Build the network unless it continues; train it; keep its best weights."""
        trainer, build_seed = self._make_trainer(rows, device, seeds), seeds[0]
        # A user's module knows only torch's global generators; ours have their own.
        own = seeded_globally(build_seed, device) if self._has_own_modules() else nullcontext()
        remake = None
        with own:
            if network is None:
                remake = partial(self._make_network, seed=build_seed)
                network = remake(rows)
            if self._needs_training(network, rows):
                self.net_, self.validation_loss_curve_ = trainer.train(network, rows, remake)
            else:
                self.net_, self.validation_loss_curve_ = trainer.leave(network, rows), []
        self.loss_curve_ = [epoch["train_loss"] for epoch in self.net_.history]
        self.n_iter_ = len(self.loss_curve_)

    def _is_at_pca(self) -> bool:
        """Whether the network is PCA: its own code is ordered and signed as PCA's."""
        return False

    def _describe_as_pca(self, rows: Rows) -> None:
        """Describe a network that is PCA, without running it."""
        self.components_ = self.net_.module_.components.cpu().numpy().copy()
        self._code_mean = np.zeros(self.n_components_)
        self._rotation = np.eye(self.n_components_)
        squares, left = rows.squares_along(self.components_)
        total = left + squares.sum()
        self._set_variances(rows, squares * self._scale**2 / max(1, len(rows) - 1))
        self._set_noise(rows, left)
        self.explained_variance_ratio_ = squares / total if total > 0 else squares

    def _left_over(self, rows: np.ndarray) -> np.ndarray:
        if self._is_at_pca():
            return rows - rows @ self.components_.T @ self.components_
        return super()._left_over(rows)

    def _order(self, rows: Rows) -> np.ndarray:
        """Make the code centred, uncorrelated, sorted by variance, and fix its signs.

        Learns the affine map ``(z - mean) @ rotation`` and returns the ordered codes.
        """
        raw = np.empty((len(rows), self.n_components_))
        for part in self._batches(len(rows)):
            raw[part] = self._encode(rows[part])
        slopes = self.net_.jacobian(raw[rows.spread(JACOBIAN_ROWS)], self._link).mean(axis=0)
        self._code_mean = raw.mean(axis=0)
        raw -= self._code_mean
        self._rotation = _uncorrelating_rotation(raw)
        self._rotation *= signs_of_largest(self._rotation.T @ slopes)
        self.components_ = self._rotation.T @ slopes
        codes = raw @ self._rotation
        variances = codes.var(axis=0, ddof=min(1, len(rows) - 1))
        self._set_variances(rows, variances * self._scale**2)
        return codes * self._code_scale

    def _set_variances(self, rows: Rows, variances: np.ndarray) -> None:
        """Take the variances of the code in input units; whiten it if asked to."""
        self.n_samples_ = len(rows)
        self.explained_variance_ = variances
        self._code_scale = np.full(self.n_components_, self._code_unit())
        if self.whiten:
            divisible = variances > NEGLIGIBLE * variances.max()
            self._code_scale[divisible] /= np.sqrt(variances[divisible])

    def _code_unit(self) -> Any:
        """Factor between the network's code and what `transform` returns, before whitening."""
        return self._scale

    def _resolve_hidden_layer_sizes(self) -> tuple[int, ...]:
        """Widths of the encoder's hidden layers."""
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, str):
            return (128,)
        sizes = np.atleast_1d(np.asarray(sizes)).tolist()
        if not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} must hold integers >= 1; use "
                "() for the linear autoencoder or 'auto'."
            )
        return tuple(sizes)

    def _make_pair(self, seed: int, n_parts: int = 1) -> Any:
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

    def _describe(self, rows: Rows, codes: np.ndarray) -> None:
        """Describe the fit by variances: explained by each component, and left over."""
        left, total = self._lost(rows, codes), self._total(rows)
        self._set_noise(rows, left * self.net_.optimism_)
        explained = 1 - left / total if total > 0 else 0.0
        self.explained_variance_ratio_ = self._increments(rows, codes, explained)

    def _set_noise(self, rows: Rows, left: float) -> None:
        """Spread what is left over evenly, as probabilistic PCA does."""
        n_left = min(rows.shape) - self.n_components_
        self.noise_variance_ = 0.0
        if n_left > 0 and len(rows) > 1:
            self.noise_variance_ = left * self._scale**2 / (n_left * (len(rows) - 1))

    def _increments(self, rows: Rows, codes: np.ndarray, explained: float) -> np.ndarray:
        """What each component adds to the explained share of variance.

        Measured on rows spread evenly, as many as INCREMENT_PRODUCTS allows, and scaled so
        that the sum is exact on all rows.
        """
        k = self.n_components_
        n_rows = max(JACOBIAN_ROWS, INCREMENT_PRODUCTS // (k * self.net_.n_parameters()))
        index = rows.spread(n_rows)
        rows, codes = rows.subset(index), codes[index]
        total = self._total(rows)
        if total == 0:
            return np.zeros(k)
        lost = [self._lost(rows, codes * (np.arange(k) <= last)) for last in range(k)]
        shares = 1 - np.array(lost) / total
        scale = explained / shares[-1] if shares[-1] > 0 else 1.0
        return np.diff(shares, prepend=0.0) * scale

    def _lost(self, rows: Rows, codes: np.ndarray) -> float:
        """Sum of squared differences between rows and decoded codes, network units."""
        return sum(
            float(np.square(rows[part] - self._decode(codes[part])).sum())
            for part in self._batches(len(rows))
        )

    def _total(self, rows: Rows) -> float:
        """Sum of squared differences between rows and the training mean, network units."""
        centre = (self.mean_ - self._shift) / self._scale
        return sum(float(np.square(rows[part] - centre).sum()) for part in self._batches(len(rows)))

    # -- between input units, network units, and the ordered code ------------------

    def _to_network_units(self, X: np.ndarray) -> np.ndarray:
        rows = (X - self._shift).astype(X.dtype, copy=False)
        rows /= self._scale
        return rows

    def _to_input_units(self, rows: np.ndarray) -> np.ndarray:
        return (rows * self._scale + self._shift).astype(rows.dtype, copy=False)

    def _encode(self, rows: np.ndarray) -> np.ndarray:
        return self.net_.infer_rows("encode", rows)

    def _arrange(self, raw: np.ndarray) -> np.ndarray:
        codes = (raw - self._code_mean) @ (self._rotation * self._code_scale)
        return codes.astype(raw.dtype, copy=False)

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        raw = codes @ (self._rotation / self._code_scale).T + self._code_mean
        return self.net_.infer_rows("decode", raw.astype(codes.dtype, copy=False), self._link)

    def _batches(self, n_rows: int, n_columns: int = 0) -> Iterator[slice]:
        """Slices of rows small enough for arrays of some width in bounded memory."""
        return gen_batches(n_rows, rows_per_batch(max(n_columns, self.net_.widest_layer())))

    def _in_batches(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        X: np.ndarray,
        n_columns: int,
        dtype: type | None = None,
        n_columns_inside: int = 0,
    ) -> np.ndarray:
        """Apply a function of rows, batch by batch; in X's dtype unless another is given."""
        result = np.empty((len(X), n_columns), dtype=dtype or X.dtype)
        for part in self._batches(len(X), n_columns_inside):
            result[part] = function(X[part])
        return result

    # -- transform and back --------------------------------------------------------

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return check_rows(self, X, reset=False)

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_), dtype of X
            Codes: centred on the training rows, uncorrelated there, the component of
            largest variance first; of unit variance if `whiten`.
        """
        X = self._checked(X)
        return self._in_batches(
            lambda part: self._arrange(self._encode(self._to_network_units(part))),
            X,
            self.n_components_,
        )

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes as `transform` returns them.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features_in_), dtype of the codes
            Rows in input units.
        """
        check_is_fitted(self)
        codes = check_codes(X, self.n_components_)
        return self._in_batches(
            lambda part: self._to_input_units(self._decode(part)), codes, self.n_features_in_
        )

    def reconstruct(self, X: Any) -> np.ndarray:
        """Encode and decode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features), dtype of X
        """
        X = self._checked(X)
        return self._in_batches(
            lambda part: self._to_input_units(self._reconstruct(self._to_network_units(part))),
            X,
            self.n_features_in_,
        )

    def _reconstruct(self, rows: np.ndarray) -> np.ndarray:
        """Encode and decode in network units."""
        return self._decode(self._arrange(self._encode(rows)))

    def reconstruction_error(self, X: Any, per_feature: bool = False) -> np.ndarray:
        """Squared differences between rows and their reconstructions, whatever the loss.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        per_feature : bool, default=False
            Return one value a feature instead of their sum over features.

        Returns
        -------
        errors : ndarray of shape (n_samples,) or (n_samples, n_features), dtype of X
            In squared input units.
        """
        X = self._checked(X)

        def errors(part: np.ndarray) -> np.ndarray:
            # In network units: float32 rows of a large offset lose nothing in the difference.
            rows = self._to_network_units(part)
            squares = np.square(rows - self._reconstruct(rows)) * self._scale**2
            return squares if per_feature else squares.sum(axis=1, keepdims=True)

        if per_feature:
            return self._in_batches(errors, X, self.n_features_in_)
        return self._in_batches(errors, X, 1)[:, 0]

    def score(self, X: Any, y: Any = None) -> float:
        """Fraction of variance explained by the reconstruction.

        ``1 - SSE / SST``: the squared error of the reconstruction over the squared
        distance to the *training* mean, both summed over rows and features. It rises
        with `n_components`, so that it cannot choose a dimension alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        score : float
            1 is perfect, 0 is what the training mean reaches; rows that all equal the
            training mean score 1 if reconstructed exactly, else 0.
        """
        X = self._checked(X)
        return explained_share(
            float(self.reconstruction_error(X).sum(dtype=np.float64)),
            float(sum(np.square(X[part] - self.mean_).sum() for part in self._batches(len(X)))),
        )

    # -- scikit-learn's contract ---------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _uncorrelating_rotation(centred: np.ndarray) -> np.ndarray:
    """Eigenvectors of the covariance as columns, the largest eigenvalue first."""
    return np.linalg.eigh(centred.T @ centred)[1][:, ::-1]


def signs_of_largest(rows: np.ndarray) -> np.ndarray:
    """Sign of the largest entry of each row.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of shape (n_rows,)
        1 or -1; 1 where all entries are zero.
    """
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(largest < 0, -1.0, 1.0)
