"""Deep autoencoders with greedy layer-wise pretraining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from skae._data.dataset import Dataset
from skae._data.parameter_checks import Interval
from skae._data.statistics import Moments
from skae._estimators.base import FitData, Seeds
from skae._estimators.dense import DenseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.partial_fit import Stream
from skae._training.trainer import FEW_ROWS, Trainer, TrainingJob
from skae.losses import LOSSES, Objective
from skae.networks.dense import MLP, AnchoredAutoencoder, Autoencoder, Linear, make_activation
from skae.noise import NOISES, check_noise, make_noise

AUTO_SIZES = (128, 64)
AUTO_SHARE = 1 / 3  # of the epochs of joint training, for each layer
MANY_ROWS = 50_000  # largest number of rows for statistics of layer activations
SMALLEST_EIGENVALUE = 1e-10  # of the codes' scatter matrix, over the largest; below, it counts as 0


@inherit_entries(DenseAutoencoder)
class StackedAutoencoder(DenseAutoencoder):
    """Deep autoencoder whose layers are pretrained one by one, then trained jointly.

    Each hidden layer is first trained as an autoencoder, or a denoising autoencoder, of the
    activations of the layer below, while the layers below are fixed [1]_ [2]_. Joint training
    starts with these weights. It still starts at PCA, because the last layers of encoder and
    decoder start at zero, and PCA is added to both.

    Parameters
    ----------
    n_components
    pretraining : "greedy" or None, default="greedy"
        None starts the hidden layers at random weights, as a deep `AutoencoderTransformer`.
    noise : str, nn.Module or None, default=None
        Noise that corrupts the inputs of each layer during pretraining, as in
        `DenoisingAutoencoder`: "gaussian", "masking", "salt_pepper", "swap", or a module that
        accepts rows of any width. Joint training has clean rows.
    noise_level : float, default=0.25
        For "gaussian", the noise's standard deviation in units of each input's; otherwise the
        share of corrupted entries, in [0, 1]. Not used by your own module.
    fine_tune : bool, default=True
        False keeps the pretrained layers fixed. With ``anchor="pca"``, the layers that are not
        pretrained are still trained: the layers before and after the code, and the last layer.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the encoder's hidden layers. The decoder has the same layers in reverse order.
        "auto" is (128, 64). ``()`` is the linear autoencoder, which is PCA.
    activation
    anchor : "pca" or None, default="pca"
        "pca" adds PCA as a fixed skip connection. None is the classic stacked autoencoder: the
        code is pretrained like any other layer, and joint training starts from the pretrained
        encoders and decoders.
    loss : str, default="squared_error"
        Loss of the rows, as in `AutoencoderTransformer`. Layer activations are reconstructed
        with squared error.
    *
    network : callable, default=None
        ``(n_features, n_components) -> nn.Module`` as in `AutoencoderTransformer`. Your own
        network is not pretrained.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows, for each layer and for joint training. With "auto", a
        layer takes a third of the epochs of joint training, and below 64 rows there is no
        pretraining unless `fine_tune` is False.
    callbacks : list of skorch callbacks, default=None
        Callbacks of joint training.

    Attributes
    ----------
    layer_loss_curves_, layer_validation_loss_curves_ : list of list of float
        Mean loss after each epoch for each pretrained layer, the first layer first, in units of
        the mean variance of the layer's inputs. The validation curves are empty if no rows were
        held out. Both are empty after a warm start.
    *

    See Also
    --------
    AutoencoderTransformer : Trains all layers at once.
    AutoencoderClassifier : Fine-tunes an autoencoder with labels.

    References
    ----------
    .. [1] Bengio et al. (2007). Greedy layer-wise training of deep networks. NIPS 19.
    .. [2] Vincent et al. (2010). Stacked denoising autoencoders. Journal of Machine Learning
       Research 11. https://www.jmlr.org/papers/v11/vincent10a.html

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import StackedAutoencoder
    >>> X = load_digits().data
    >>> stacked = StackedAutoencoder(8, hidden_layer_sizes=(64, 32), max_epochs=5, random_state=0)
    >>> stacked.fit(X).transform(X).shape
    (1797, 8)
    >>> [len(curve) for curve in stacked.layer_loss_curves_]
    [5, 5]
    """

    __module__ = "skae"  # the public path, which pickles name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DenseAutoencoder._parameter_constraints,
        "pretraining": [StrOptions({"greedy"}), None],
        "noise": [StrOptions(set(NOISES)), nn.Module, None],
        "noise_level": [Interval(Real, 0, None, closed="left")],
        "fine_tune": ["boolean"],
    }

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        pretraining: Literal["greedy"] | None = "greedy",
        noise: str | nn.Module | None = None,
        noise_level: float = 0.25,
        fine_tune: bool = True,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        anchor: Literal["pca"] | None = "pca",
        loss: str = "squared_error",
        target_weight: float = 0.0,
        stochastic_depth: float | Literal["auto"] = "auto",
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
        super().__init__(
            n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            anchor=anchor,
            loss=loss,
            target_weight=target_weight,
            stochastic_depth=stochastic_depth,
            whiten=whiten,
            latent_density=latent_density,
            network=network,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            callbacks=callbacks,
            device=device,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )
        self.pretraining = pretraining
        self.noise = noise
        self.noise_level = noise_level
        self.fine_tune = fine_tune

    layer_loss_curves_: list[list[float]]
    layer_validation_loss_curves_: list[list[float]]

    # -- differences from training all layers at once ------------------------------

    def _check_parameters(self, X: np.ndarray) -> None:
        super()._check_parameters(X)
        check_noise(self.noise, self.noise_level)
        if self.pretraining is None and self.noise is not None:
            raise ValueError(
                f"noise={self.noise!r} is used in pretraining, but pretraining=None; set "
                "noise=None, or pretraining='greedy'."
            )
        if not self.fine_tune and (self.pretraining is None or self.network is not None):
            cause = "pretraining=None" if self.pretraining is None else "your own network"
            raise ValueError(
                f"fine_tune=False keeps pretrained layers fixed, which {cause} does not allow; "
                "set fine_tune=True."
            )

        if self._is_only_pretrained() and self.target_weight:
            raise ValueError(
                f"target_weight={self.target_weight} needs joint training of encoder and decoder, "
                "which anchor=None with fine_tune=False leaves out; set fine_tune=True, or "
                "target_weight=0."
            )

    def _has_user_modules(self) -> bool:
        return super()._has_user_modules() or isinstance(self.noise, nn.Module)

    def _resolve_hidden_layer_sizes(self) -> tuple[int, ...]:
        is_auto = isinstance(self.hidden_layer_sizes, str)
        return AUTO_SIZES if is_auto else super()._resolve_hidden_layer_sizes()

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        return not self._is_only_pretrained() and super()._needs_training(network, rows)

    def _is_only_pretrained(self) -> bool:
        """Whether pretraining is the only training: all layers are pretrained and fixed."""
        return self.anchor is None and not self.fine_tune

    def _train_epoch(self, stream: Stream, rows: Dataset, device: torch.device) -> None:
        if self._is_only_pretrained():
            stream.pending = (None, None)
        else:
            super()._train_epoch(stream, rows, device)

    def _set_trainable(self, network: nn.Module) -> nn.Module:
        network.requires_grad_(True)
        if not self.fine_tune:
            for layer in self._pretrained_layers(network):
                layer.requires_grad_(False)
        return network

    def _build(self, data: FitData) -> TrainingJob:
        self._clear_layer_curves()
        return super()._build(data)

    def _refit(self, *args: Any) -> None:
        self._clear_layer_curves()
        super()._refit(*args)

    def _clear_layer_curves(self) -> None:
        self.layer_loss_curves_, self.layer_validation_loss_curves_ = [], []

    # -- pretraining ---------------------------------------------------------------

    def _make_initial_network(
        self, rows: Dataset, device: torch.device, seeds: Seeds, held_out: Dataset | None = None
    ) -> nn.Module:
        network = self._make_network(rows, seeds.weights)
        if not self._pretrains(len(rows)) or not super()._needs_training(network, rows):
            return network
        layers = self._make_layer_autoencoders(seeds.weights)
        curves = self._pretrain(layers, rows, device, seeds, held_out)
        # The first network is pretrained on all rows. Networks of folds follow.
        if not getattr(self, "layer_loss_curves_", None):
            self.layer_loss_curves_, self.layer_validation_loss_curves_ = curves
        self._copy_layers(layers, network)
        if layers and isinstance(network, AnchoredAutoencoder):
            self._fit_layer_after_code(layers, network, rows)
        return self._set_trainable(network)

    def _pretrains(self, n_rows: int) -> bool:
        """Whether to pretrain; small tables are not pretrained if ``max_epochs="auto"``."""
        enough = self.max_epochs != "auto" or not self.fine_tune or n_rows >= FEW_ROWS
        return self.pretraining is not None and self.network is None and enough

    def _make_layer_autoencoders(self, seed: int) -> list[Any]:
        """Build an autoencoder for each layer to pretrain, the first layer first.

        As in the deep network, there is no activation on the code and on reconstructed rows.
        """
        generator = torch.Generator().manual_seed(seed)
        hidden = self._resolve_hidden_layer_sizes()
        code = () if self._starts_at_pca() else (self.n_components_,)
        widths = [self.n_features_in_, *hidden, *code]
        layers = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            encoder, decoder = (MLP(w, generator=generator) for w in ([n_in, n_out], [n_out, n_in]))
            if i < len(hidden):
                encoder.append(make_activation(self.activation))
            if i > 0:
                decoder.append(make_activation(self.activation))
            layers.append(Autoencoder(encoder, decoder))
        return layers

    def _pretrain(
        self,
        layers: list[Any],
        rows: Dataset,
        device: torch.device,
        seeds: Seeds,
        held_out: Dataset | None,
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Train each layer autoencoder on the activations below it; return its loss curves."""
        inputs, validation = rows, held_out
        encoders: list[nn.Module] = []
        curves: tuple[list[list[float]], list[list[float]]] = [], []
        for i, layer in enumerate(layers):
            unit = 1.0
            if encoders:
                statistics = inputs.feature_statistics()
                initialize_at_mean(layer.decoder, statistics["mean"])
                unit = float(np.square(statistics["std"]).mean()) or 1.0
            trainer = self._make_layer_trainer(inputs, device, seeds)
            with self._progress.stage(f"layer {i + 1} of {len(layers)}"):
                trained = TrainingJob(trainer, layer, inputs, held_out=validation).train()
            curves[0].append([epoch["train_loss"] / unit for epoch in trained.net.history])
            curves[1].append([loss / unit for loss in trained.validation_curve])
            encoders = [*encoders, layer.encoder]
            inputs = LayerActivations(rows, encoders)
            validation = None if held_out is None else LayerActivations(held_out, encoders)
        return curves

    def _make_layer_trainer(self, inputs: Dataset, device: torch.device, seeds: Seeds) -> Trainer:
        """Build the trainer of one layer, which starts at random weights."""
        trainer = self._make_trainer(inputs, device, seeds).shortened(AUTO_SHARE, len(inputs))
        loss = "squared_error" if isinstance(inputs, LayerActivations) else self.loss

        def make_corruption() -> nn.Module | None:
            generator = torch.Generator(device).manual_seed(seeds.noise)
            return make_noise(self.noise, self.noise_level, inputs.feature_statistics, generator)

        return replace(
            trainer,
            objective=Objective({"reconstruction": LOSSES[loss]}),
            require_gain=False,
            make_noise=make_corruption,
            restoring=None,
            params={**trainer.params, "callbacks": None},
        )

    @torch.no_grad()
    def _copy_layers(self, layers: list[Any], network: nn.Module) -> None:
        """Copy the pretrained weights to the deep network."""
        encoder, decoder = linear_layers(network)
        for i, layer in enumerate(layers):
            copy_layer(layer.encoder[0], encoder[i])
            if i > 0 or not self._starts_at_pca():
                copy_layer(layer.decoder[0], decoder[-1 - i])

    @torch.no_grad()
    def _fit_layer_after_code(
        self, layers: list[Any], network: AnchoredAutoencoder, rows: Dataset
    ) -> None:
        """Fit the decoder's first layer by least squares, because it is not pretrained.

        It predicts the last hidden layer, before the activation, from PCA's codes.
        """
        encoders = [layer.encoder for layer in layers]
        targets = LayerActivations(rows, [*encoders[:-1], encoders[-1][0]]).representative_rows()
        k, components = self.n_components_, network.components.cpu().numpy()
        moments = Moments(k + targets.shape[1])
        for part in targets.parts():
            both = np.hstack([targets.rows[part] @ components.T, targets[part]])
            moments.add(both, targets.weights_of(part))
        inverse = np.linalg.pinv(moments.scatter[:k, :k], SMALLEST_EIGENVALUE, hermitian=True)
        coefficients = inverse @ moments.scatter[:k, k:]
        first = linear_layers(network)[1][0]
        first.weight.copy_(torch.from_numpy(coefficients.T))
        first.bias.copy_(torch.from_numpy(moments.mean[k:] - moments.mean[:k] @ coefficients))

    def _pretrained_layers(self, network: nn.Module) -> list[Linear]:
        """Layers of the deep network that are pretrained."""
        encoder, decoder = linear_layers(network)
        if self._starts_at_pca():
            return [*encoder[:-1], *decoder[1:-1]]
        return [*encoder, *decoder]


class LayerActivations(Dataset):
    """Activations of the last of several trained layers, as a dataset for the next layer."""

    def __init__(self, rows: Dataset, layers: list[nn.Module]):
        parameters = [p for layer in layers for p in layer.parameters()]
        width = len(parameters[-1])
        super().__init__(rows.X, np.zeros(width), weights=rows.weights)
        self.rows, self.layers, self.shape = rows, layers, (len(rows), width)
        self.last_parameter = parameters[-1]
        self.widest = max(rows.shape[1], *(len(p) for p in parameters))

    @torch.no_grad()
    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """Activations of some rows, float64."""
        activations = torch.from_numpy(self.rows[part]).to(self.last_parameter)
        for layer in self.layers:
            activations = layer(activations)
        return activations.cpu().double().numpy()

    def _standardized_tensor(self, index: np.ndarray) -> Tensor:
        return torch.from_numpy(self[index])

    @property
    def copies(self) -> np.ndarray | None:
        """Copies among the rows, of which these are activations."""
        return self.rows.copies

    @property
    def units(self) -> np.ndarray | None:
        """Units of the rows."""
        return self.rows.units

    def subset(self, index: np.ndarray) -> LayerActivations:
        """Activations of a copy of some rows."""
        return LayerActivations(self.rows.subset(index), self.layers)

    def feature_statistics(self) -> dict[str, np.ndarray]:
        """Statistics of each unit, over at most MANY_ROWS rows."""
        if self.known_statistics is None:
            rows = self.representative_rows()
            self.known_statistics = super(LayerActivations, rows).feature_statistics()
        return self.known_statistics

    def representative_rows(self) -> LayerActivations:
        """All rows, or MANY_ROWS evenly spaced ones if there are more."""
        if len(self) <= MANY_ROWS:
            return self
        return self.subset(np.linspace(0, len(self) - 1, MANY_ROWS).astype(int))


@torch.no_grad()
def initialize_at_mean(decoder: Any, mean: np.ndarray) -> None:
    """Initialize a decoder of one layer so that it returns the mean for every input.

    With random weights, a ReLU may be zero for all rows, and its gradient too. The activation
    must be increasing to the right of its minimum.
    """
    grid = torch.linspace(-10, 10, 4001, dtype=torch.float32)
    values = decoder[1](grid).numpy()
    grid, values = grid[values.argmin() :], values[values.argmin() :]
    above = np.searchsorted(values, mean, side="right").clip(max=len(grid) - 1)
    decoder[0].weight.zero_()
    decoder[0].bias.copy_(grid[torch.from_numpy(above)])


def linear_layers(network: Any) -> tuple[list[Linear], list[Linear]]:
    """Linear layers of the encoder and of the decoder, from input to output."""
    mlps = network.network if isinstance(network, AnchoredAutoencoder) else network
    encoder, decoder = (
        [layer for layer in mlp if isinstance(layer, Linear)]
        for mlp in (mlps.encoder, mlps.decoder)
    )
    return encoder, decoder


def copy_layer(source: Linear, target: Linear) -> None:
    """Copy weights and biases."""
    target.weight.copy_(source.weight)
    target.bias.copy_(source.bias)
