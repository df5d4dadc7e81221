"""Deep autoencoders whose layers are trained one after another before all are together."""

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
from skae._data.moments import Moments
from skae._data.parameter_checks import Interval
from skae._estimators.base import FitData, Seeds
from skae._estimators.dense import DenseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.partial_fit import Stream
from skae._training.trainer import FEW_ROWS, Trainer, TrainingJob, train_networks
from skae.losses import LOSSES, Objective
from skae.networks.dense import MLP, AnchoredAutoencoder, Autoencoder, Linear, make_activation
from skae.noise import NOISES, check_noise, make_noise

AUTO_SIZES = (128, 64)
AUTO_SHARE = 1 / 3  # of the joint training's epochs, for each layer
MANY_ROWS = 50_000  # which stand for more where layers are described
SMALLEST_EIGENVALUE = 1e-10  # of the largest: directions below it have no codes


@inherit_entries(DenseAutoencoder)
class StackedAutoencoder(DenseAutoencoder):
    """Deep autoencoder whose layers are trained one by one, then all together.

    Each hidden layer is first trained as an autoencoder, or a denoising one, of what the
    layers below it make of the rows, which stay as they are meanwhile [1]_ [2]_. The joint
    training starts from these weights. It starts at PCA nevertheless: the last layers of the
    two perceptrons that correct PCA are zeros until then.

    Parameters
    ----------
    n_components
    pretraining : "greedy" or None, default="greedy"
        None starts the hidden layers at random: `AutoencoderTransformer` of that depth.
    noise : str, nn.Module or None, default=None
        What corrupts the input of each layer while it is trained alone, as in
        `DenoisingAutoencoder`: "gaussian", "masking", "salt_pepper", "swap", or a module, which
        must take rows of any width. The joint training sees clean rows.
    noise_level : float, default=0.25
        For "gaussian" in standard deviations of each input, else the share of entries in
        [0, 1]. Not used by your own module.
    fine_tune : bool, default=True
        False leaves all layers as the pretraining has left them. With ``anchor="pca"``, what
        it does not reach is trained nevertheless: the layers from and to the code, and the
        last one.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. "auto" is (128, 64).
        ``()`` is the linear autoencoder, which is PCA.
    activation
    anchor : "pca" or None, default="pca"
        None is the classic stack: the code is a layer as any other, and is pretrained too;
        the joint training starts from the stack unrolled.
    loss : str, default="squared_error"
        Of the rows, as in `AutoencoderTransformer`; codes of lower layers are reconstructed
        under squared error.
    *
    network : callable, default=None
        ``(n_features, n_components) -> nn.Module`` as in `AutoencoderTransformer`. A network
        of your own is not pretrained.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows: of each layer's training, and of the joint one. "auto"
        gives a layer a third as many, and does not pretrain below 64 rows unless `fine_tune`
        is False.
    callbacks : list of skorch callbacks, default=None
        Of the joint training.

    Attributes
    ----------
    layer_loss_curves_, layer_validation_loss_curves_ : list of list of float
        Of each layer that was trained alone, from the rows upwards, the mean loss after each
        epoch, in units of the mean variance of what it reconstructs; those of held-out rows
        are empty where none were held out. Empty after a warm start.
    *

    See Also
    --------
    AutoencoderTransformer : All layers at once.
    AutoencoderClassifier : Supervised training on top of it.

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

    # -- what differs from training all layers at once -----------------------------

    def _check_parameters(self, X: np.ndarray) -> None:
        super()._check_parameters(X)
        check_noise(self.noise, self.noise_level)
        if self.pretraining is None and self.noise is not None:
            raise ValueError(
                f"noise={self.noise!r} corrupts rows while layers are trained alone, which "
                "pretraining=None leaves out; set noise=None, or pretraining='greedy'."
            )
        if not self.fine_tune and (self.pretraining is None or self.network is not None):
            cause = "pretraining=None" if self.pretraining is None else "a network of one's own"
            raise ValueError(
                f"fine_tune=False leaves layers as they were pretrained, which {cause} does not "
                "allow; set fine_tune=True."
            )

    def _has_user_modules(self) -> bool:
        return super()._has_user_modules() or isinstance(self.noise, nn.Module)

    def _resolve_hidden_layer_sizes(self) -> tuple[int, ...]:
        is_auto = isinstance(self.hidden_layer_sizes, str)
        return AUTO_SIZES if is_auto else super()._resolve_hidden_layer_sizes()

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        return not self._is_only_pretrained() and super()._needs_training(network, rows)

    def _is_only_pretrained(self) -> bool:
        """Whether nothing is left to train once layers are pretrained."""
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

    # -- layer by layer ------------------------------------------------------------

    def _make_initial_network(
        self, rows: Dataset, device: torch.device, seeds: Seeds, held_out: Dataset | None = None
    ) -> nn.Module:
        network = self._make_network(rows, seeds.weights)
        if not self._pretrains(len(rows)) or not super()._needs_training(network, rows):
            return network
        pairs = self._make_layer_autoencoders(seeds.weights)
        curves = self._pretrain(pairs, rows, device, seeds, held_out)
        if not getattr(self, "layer_loss_curves_", None):  # those of folds come later
            self.layer_loss_curves_, self.layer_validation_loss_curves_ = curves
        self._copy_layers(pairs, network)
        if isinstance(network, AnchoredAutoencoder):
            self._fit_layer_after_code(pairs, network, rows)
        return self._set_trainable(network)

    def _pretrains(self, n_rows: int) -> bool:
        """Whether layers are trained alone: so few rows are soon done with all of them."""
        asked = self.max_epochs != "auto" or not self.fine_tune or n_rows >= FEW_ROWS
        return self.pretraining is not None and self.network is None and asked

    def _make_layer_autoencoders(self, seed: int) -> list[Any]:
        """Make an autoencoder of each layer to pretrain, from the rows upwards.

        Their activations are those of the stack: none around rows and codes.
        """
        generator = torch.Generator().manual_seed(seed)
        hidden = self._resolve_hidden_layer_sizes()
        code = () if self._starts_at_pca() else (self.n_components_,)
        widths = [self.n_features_in_, *hidden, *code]
        pairs = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            encoder, decoder = (MLP(w, generator=generator) for w in ([n_in, n_out], [n_out, n_in]))
            if i < len(hidden):
                encoder.append(make_activation(self.activation))
            if i > 0:
                decoder.append(make_activation(self.activation))
            pairs.append(Autoencoder(encoder, decoder))
        return pairs

    def _pretrain(
        self,
        pairs: list[Any],
        rows: Dataset,
        device: torch.device,
        seeds: Seeds,
        held_out: Dataset | None,
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Train each pair on the codes of those below; return curves of both kinds."""
        below, validation = rows, held_out
        curves: tuple[list[list[float]], list[list[float]]] = [], []
        for i, pair in enumerate(pairs):
            if i > 0:
                initialize_at_mean(pair.decoder, below.feature_statistics()["mean"])
            trainer = self._make_layer_trainer(below, device, seeds)
            (trained,) = train_networks([TrainingJob(trainer, pair, below, held_out=validation)])
            net, judged = trained
            unit = (
                1.0 if i == 0 else float(np.square(below.feature_statistics()["std"]).mean()) or 1.0
            )
            for kept, curve in zip(
                curves, ([epoch["train_loss"] for epoch in net.history], judged), strict=True
            ):
                kept.append([loss / unit for loss in curve])
            encoders = [each.encoder for each in pairs[: i + 1]]
            below = LayerActivations(rows, encoders)
            validation = None if held_out is None else LayerActivations(held_out, encoders)
        return curves

    def _make_layer_trainer(self, below: Dataset, device: torch.device, seeds: Seeds) -> Trainer:
        """Settle how one layer is trained: as the whole network, but from a random start."""
        trainer = self._make_trainer(below, device, seeds)
        if self.max_epochs == "auto":
            trainer = trainer.shortened(AUTO_SHARE, len(below))
        loss = "squared_error" if isinstance(below, LayerActivations) else self.loss

        def corrupt() -> nn.Module | None:
            generator = torch.Generator(device).manual_seed(seeds.noise)
            return make_noise(self.noise, self.noise_level, below.feature_statistics, generator)

        return replace(
            trainer,
            objective=Objective({"reconstruction": LOSSES[loss]}),
            require_gain=False,
            make_noise=corrupt,
            params={**trainer.params, "callbacks": None},
        )

    @torch.no_grad()
    def _copy_layers(self, pairs: list[Any], network: nn.Module) -> None:
        """Give a deep network the weights of its layers."""
        encoder, decoder = linear_layers(network)
        for i, pair in enumerate(pairs):
            copy_layer(pair.encoder[0], encoder[i])
            if i > 0 or not self._starts_at_pca():
                copy_layer(pair.decoder[0], decoder[-1 - i])

    @torch.no_grad()
    def _fit_layer_after_code(
        self, pairs: list[Any], network: AnchoredAutoencoder, rows: Dataset
    ) -> None:
        """Let the decoder find the top layer's codes in PCA's, by least squares.

        No pair has trained the layer between them.
        """
        if not pairs:
            return
        encoders = [pair.encoder for pair in pairs]
        tops = LayerActivations(
            rows, [*encoders[:-1], encoders[-1][0]]
        ).some()  # before their activation
        k, components = self.n_components_, network.components.cpu().numpy()
        moments = Moments(k + tops.shape[1])
        for part in tops.parts():
            both = np.hstack([tops.rows[part] @ components.T, tops[part]])
            moments.add(both, tops.weights_of(part))
        of_codes = np.linalg.pinv(moments.scatter[:k, :k], SMALLEST_EIGENVALUE, hermitian=True)
        jacobian = of_codes @ moments.scatter[:k, k:]
        layer = linear_layers(network)[1][0]
        layer.weight.copy_(torch.from_numpy(jacobian.T))
        layer.bias.copy_(torch.from_numpy(moments.mean[k:] - moments.mean[:k] @ jacobian))

    def _pretrained_layers(self, network: nn.Module) -> list[Linear]:
        """Layers of a deep network whose weights a pair has trained."""
        encoder, decoder = linear_layers(network)
        if self._starts_at_pca():
            return [*encoder[:-1], *decoder[1:-1]]
        return [*encoder, *decoder]


class LayerActivations(Dataset):
    """What trained layers make of rows, as rows to train the next layer on.

    Parameters
    ----------
    rows : Dataset
    layers : list of nn.Module
        From the rows upwards.
    """

    def __init__(self, rows: Dataset, layers: list[nn.Module]):
        parameters = [p for layer in layers for p in layer.parameters()]
        width = len(parameters[-1])
        super().__init__(rows.X, np.zeros(width), weights=rows.weights)
        self.rows, self.layers, self.shape = rows, layers, (len(rows), width)
        self.like = parameters[-1]
        self.widest = max(rows.shape[1], *(len(p) for p in parameters))

    @torch.no_grad()
    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """Codes of some rows, float64."""
        codes = torch.from_numpy(self.rows[part]).to(self.like)
        for layer in self.layers:
            codes = layer(codes)
        return codes.cpu().double().numpy()

    def _standardized_tensor(self, index: np.ndarray) -> Tensor:
        return torch.from_numpy(self[index])

    def subset(self, index: np.ndarray) -> LayerActivations:
        """Choose rows, which are copied.

        Parameters
        ----------
        index : ndarray of shape (n_rows,)

        Returns
        -------
        Codes
        """
        return LayerActivations(self.rows.subset(index), self.layers)

    def feature_statistics(self) -> dict[str, np.ndarray]:
        """Mean, standard deviation, minimum and maximum of each code.

        Returns
        -------
        dict of str to ndarray of shape (n_codes,)
        """
        if self.known_statistics is None:
            self.known_statistics = super(LayerActivations, self.some()).feature_statistics()
        return self.known_statistics

    def some(self) -> LayerActivations:
        """Evenly spread rows, if there are many.

        Returns
        -------
        Codes
        """
        if len(self) <= MANY_ROWS:
            return self
        return self.subset(np.linspace(0, len(self) - 1, MANY_ROWS).astype(int))


@torch.no_grad()
def initialize_at_mean(decoder: Any, mean: np.ndarray) -> None:
    """Let a decoder of one layer return the mean of the codes, whatever comes in.

    From a random start, a rectifier may return zero for all rows, and then has no slope.

    Parameters
    ----------
    decoder : MLP
        Ends with an activation, which is taken to increase from its minimum on.
    mean : ndarray of shape (n_codes,)
    """
    grid = torch.linspace(-10, 10, 4001)
    values = decoder[1](grid).numpy()
    grid, values = grid[values.argmin() :], values[values.argmin() :]
    above = np.searchsorted(values, mean, side="right").clip(max=len(grid) - 1)
    decoder[0].weight.zero_()
    decoder[0].bias.copy_(grid[torch.from_numpy(above)])


def linear_layers(network: Any) -> tuple[list[Linear], list[Linear]]:
    """Linear layers of the encoder and of the decoder, in the order of the data.

    Parameters
    ----------
    network : Autoencoder or AnchoredAutoencoder
        Of two MLPs.

    Returns
    -------
    encoder, decoder : list of Linear
    """
    pair = network.network if isinstance(network, AnchoredAutoencoder) else network
    encoder, decoder = (
        [layer for layer in mlp if isinstance(layer, Linear)]
        for mlp in (pair.encoder, pair.decoder)
    )
    return encoder, decoder


def copy_layer(source: Linear, target: Linear) -> None:
    """Copy weights and biases.

    Parameters
    ----------
    source, target : Linear
    """
    target.weight.copy_(source.weight)
    target.bias.copy_(source.bias)
