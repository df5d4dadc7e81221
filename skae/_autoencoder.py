"""The plain autoencoder, anchored at PCA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from skae._base import NEGLIGIBLE, BaseAutoencoder
from skae._rows import Rows
from skae.losses import LOSSES, Objective
from skae.networks import ACTIVATIONS, MLP, AnchoredAutoencoder, Autoencoder


class AutoencoderTransformer(BaseAutoencoder):
    """Autoencoder in the place of PCA: nonlinear, and never worse where it counts.

    The code of a row x is ``z = V (x - mean) + f(x)`` and its reconstruction
    ``mean + Vᵀ z + g(z)``. V are the principal components of the training rows and stay
    fixed; f and g are multilayer perceptrons whose last layers start at zero. So training
    starts *at* PCA, and the weights kept are those that restore held-out rows best, PCA's
    among them.

    As with PCA, rows are centred but features are not scaled: put a `StandardScaler` before
    the estimator unless the features share a unit.

    Parameters
    ----------
    n_components : int or None, default=2
        Size of the code. May exceed the number of features (an overcomplete code). None is
        ``min(n_samples, n_features)``, as in PCA, which leaves nothing to learn.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. ``()`` is the linear
        autoencoder, which is PCA. "auto" is one hidden layer whose width suits tables of a
        few hundred to some ten thousand rows; images gain from more layers, for example
        ``(1000, 500, 250)``.
    activation : str or callable, default="relu"
        Between the layers: "relu", "gelu", "silu", "elu", "leaky_relu", "softplus", "tanh",
        "logistic", "identity", or a callable that makes a module, such as `torch.nn.Mish`.
        "relu", "tanh", "logistic" and "identity" train fastest.
    anchor : "pca" or None, default="pca"
        None is the classic undercomplete autoencoder: random start, no linear path, and no
        promise about PCA.
    loss : str, default="squared_error"
        What training minimises, summed over features: "squared_error", "absolute_error" and
        "huber" (less moved by outlying values; huber is linear beyond one root mean feature
        variance), or "binary_cross_entropy" for data in [0, 1], which needs ``anchor=None``.
    whiten : bool, default=False
        Scale components to unit variance, as PCA's `whiten`.
    latent_density : str or estimator, default="auto"
        How codes are distributed, for `sample` and `score_samples`: "gaussian_mixture" (as
        many components as the Bayesian information criterion asks for), "gaussian" (the
        moments of the training codes), "standard_normal", or an estimator with `fit`,
        `sample` and `score_samples`, such as `sklearn.neighbors.KernelDensity`, of which a
        clone is fitted to at most 10,000 codes. "auto" is the mixture, but "gaussian" for
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
        Start from the centre, scale, anchor and weights of the previous fit.
    verbose : int, default=0
        1 shows a progress bar with the losses.

    Attributes
    ----------
    n_components_ : int
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
        times the median loss of held-out rows over that of training rows.
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

    See Also
    --------
    sklearn.decomposition.PCA : The linear solution, and where training starts.
    skae.metrics.reconstruction_score : The score for any reducer or Pipeline.

    Notes
    -----
    From 500 rows on, weights are judged after each epoch by the mean logarithm of the losses
    of the held-out rows, so that a few outlying rows do not choose them, and leave PCA for a
    gain of one standard error. Below 500 rows, five-fold cross-validation (below 80, one
    split) chooses the number of epochs, of which PCA's none is one, and training on all rows
    stops there; a gain of two standard errors is asked for, of four below 200 rows.
    ``anchor=None`` and a constant rate always use one split. What is judged and kept is the
    exponential average of the weights over the steps, and gradients are clipped.

    The code is rotated after training, which changes no
    reconstruction, to be uncorrelated and sorted by variance.

    References
    ----------
    .. [1] Hinton and Salakhutdinov (2006). Reducing the dimensionality of data with neural
       networks. Science 313. https://doi.org/10.1126/science.1127647
    .. [2] Baldi and Hornik (1989). Neural networks and principal component analysis. Neural
       Networks 2. https://doi.org/10.1016/0893-6080(89)90014-2

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import train_test_split
    >>> from skae import AutoencoderTransformer
    >>> from skae.metrics import reconstruction_score
    >>> X, _ = load_digits(return_X_y=True)
    >>> X_train, X_test = train_test_split(X, random_state=0)
    >>> autoencoder = AutoencoderTransformer(n_components=8, random_state=0).fit(X_train)
    >>> autoencoder.transform(X_test).shape
    (450, 8)
    >>> pca = PCA(n_components=8).fit(X_train)
    >>> autoencoder.score(X_test) > reconstruction_score(pca, X_test) + 0.1
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseAutoencoder._parameter_constraints,
        "activation": [StrOptions(set(ACTIVATIONS)), callable],
        "anchor": [StrOptions({"pca"}), None],
        "loss": [StrOptions(set(LOSSES))],
    }

    def __init__(
        self,
        n_components: int | None = 2,
        *,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        anchor: Literal["pca"] | None = "pca",
        loss: str = "squared_error",
        whiten: bool = False,
        latent_density: Any = "auto",
        network: Callable[[int, int], nn.Module] | None = None,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 5e-3,
        lr_schedule: Literal["one_cycle", "constant"] = "one_cycle",
        weight_decay: float = 0.05,
        batch_size: int | Literal["auto"] = "auto",
        max_epochs: int | Literal["auto"] = "auto",
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        callbacks: Sequence[Any] | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.anchor = anchor
        self.loss = loss
        self.whiten = whiten
        self.latent_density = latent_density
        self.network = network
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def _check_parameters(self, X: np.ndarray) -> None:
        if self.loss != "binary_cross_entropy":
            return
        if self.anchor is not None:
            raise ValueError(
                f"loss='binary_cross_entropy' decodes to logits, which anchor={self.anchor!r} "
                "cannot: set anchor=None."
            )
        low, high = X.min(), X.max()
        if low < 0 or high > 1:
            raise ValueError(
                "loss='binary_cross_entropy' needs X within [0, 1], but it spans "
                f"[{low:.6g}, {high:.6g}]; scale it, as with MinMaxScaler(clip=True), or use "
                "loss='squared_error'."
            )

    def _in_network_units(self, X: np.ndarray) -> Rows:
        if self.loss == "binary_cross_entropy":
            return Rows(X, np.zeros_like(self.mean_))
        return super()._in_network_units(X)

    def _link(self, decoded: Tensor) -> Tensor:
        return decoded.sigmoid() if self.loss == "binary_cross_entropy" else decoded

    def _make_objective(self) -> Objective:
        return Objective({"reconstruction": LOSSES[self.loss]})

    def _make_network(self, rows: Rows, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        network: Any = self._make_own_network() if self.network else self._make_mlps(generator)
        if self.anchor is None:
            return network
        components = torch.from_numpy(rows.principal_components(self.n_components_))
        return AnchoredAutoencoder(network, components, gated=self.network is not None)

    def _make_mlps(self, generator: torch.Generator) -> Autoencoder:
        """Build the encoder and its mirror image, the decoder."""
        hidden = self._resolve_hidden_layer_sizes()
        widths = [self.n_features_in_, *hidden, self.n_components_]
        encoder, decoder = (
            MLP(w, self.activation, zero_last=self.anchor is not None, generator=generator)
            for w in (widths, widths[::-1])
        )
        return Autoencoder(encoder, decoder)

    def _within_bounds(self, X: np.ndarray) -> np.ndarray:
        return X.clip(0, 1) if self.loss == "binary_cross_entropy" else X

    def _starts_at_pca(self) -> bool:
        return self.anchor is not None

    def _is_linear(self) -> bool:
        """Whether the network can be nothing but PCA."""
        no_layers = self.network is None and not self._resolve_hidden_layer_sizes()
        return self.anchor is not None and no_layers

    def _auto_density(self) -> str:
        return "gaussian" if self._is_linear() else super()._auto_density()

    def _needs_training(self, network: nn.Module, rows: Rows) -> bool:
        if not isinstance(network, AnchoredAutoencoder):
            return True
        if self._is_linear() and self.loss == "squared_error":
            return False  # PCA is the optimum
        along, left = rows.squares_along(network.components.cpu().numpy())
        return bool(left > NEGLIGIBLE * (along.sum() + left))

    def _is_at_pca(self) -> bool:
        return self.anchor is not None and self.net_.module_.is_at_anchor()
