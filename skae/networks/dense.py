"""Networks: what maps a row to its code and a code back to a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}

LOG_VAR_BOUNDS = -20.0, 5.0  # of a posterior, whose prior has variance 1
SMALLEST_NOISE_VARIANCE = 1e-6  # in units of the mean feature variance
NOISE_VARIANCE_STEP = 0.05  # share of each batch in the running variance around reconstructions


class Output(NamedTuple):
    """Result of a network for a batch of rows.

    Attributes
    ----------
    reconstruction : Tensor of shape (n_rows, n_features)
    code : Tensor of shape (n_rows, n_components)
    corrupted : Tensor of shape (n_rows, n_features), bool, or None
        Entries that noise changed before the rows were encoded.
    mean, log_var : Tensor of shape (n_rows, n_components), or None
        Of the code's posterior, where the network has one.
    noise_variance : Tensor of shape () or (n_features,), or None
        Variance of rows around their reconstructions, where the network has one.
    cost : Tensor of shape (n_rows,), or None
        Penalty of each row's code, besides the error, where the network has one.
    activity : Tensor of shape (n_components,), or None
        Mean over the rows of each unit's activation, where the objective penalises it.
    """

    reconstruction: Tensor
    code: Tensor
    corrupted: Tensor | None = None
    mean: Tensor | None = None
    log_var: Tensor | None = None
    noise_variance: Tensor | None = None
    cost: Tensor | None = None
    activity: Tensor | None = None


class Codec(Protocol):
    """Interface of every network: an encoder and a decoder."""

    def encode(self, x: Tensor) -> Tensor:
        """Map (n_rows, n_features) to (n_rows, n_components)."""

    def decode(self, z: Tensor) -> Tensor:
        """Map (n_rows, n_components) to (n_rows, n_features)."""


Output.__module__ = Codec.__module__ = "skae.networks"  # no fields, members of a protocol


class MLP(nn.Sequential):
    """Fully connected network with an activation between its linear layers.

    Weights and biases are drawn uniformly within ``1 / sqrt(fan_in)``, torch's own
    default for a linear layer, but from a private generator.

    Parameters
    ----------
    widths : sequence of int
        Columns of the input, of each hidden layer, and of the output.
    activation : str or callable, default="relu"
        Key of ``ACTIVATIONS`` or a callable that makes a module.
    zero_last : bool, default=False
        Start with a last layer of zeros, so that the network returns zeros.
    generator : torch.Generator, default=None
        Source of the initial weights.

    Shape
    -----
    Input (n_rows, widths[0]), output (n_rows, widths[-1]).

    Examples
    --------
    >>> import torch
    >>> from skae.networks.dense import MLP
    >>> MLP([4, 8, 2])(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        widths: Sequence[int],
        activation: str | Callable[[], nn.Module] = "relu",
        *,
        zero_last: bool = False,
        generator: torch.Generator | None = None,
    ):
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [Linear(n_in, n_out, generator), make_activation(activation)]
        super().__init__(*layers[:-1])
        if zero_last:
            for parameter in self[-1].parameters():
                nn.init.zeros_(parameter)


def make_activation(activation: str | Callable[[], nn.Module]) -> nn.Module:
    """Make an activation.

    Parameters
    ----------
    activation : str or callable
        Key of ``ACTIVATIONS``, or what makes a module.

    Returns
    -------
    nn.Module
    """
    return ACTIVATIONS[activation]() if isinstance(activation, str) else activation()


class Linear(nn.Linear):
    """torch's linear layer, its weights drawn uniformly from a private generator.

    Parameters
    ----------
    n_in, n_out : int
    generator : torch.Generator or None
    """

    __module__ = "skae.networks"

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator | None = None):
        super().__init__(n_in, n_out, dtype=torch.float32)
        bound = 1 / math.sqrt(n_in)
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def reset_parameters(self) -> None:
        """Keep the weights: torch's method draws them from the global generator."""


class Autoencoder(nn.Module):
    """Encoder and decoder: the textbook autoencoder.

    Parameters
    ----------
    encoder : nn.Module
        Maps (n_rows, n_features) to (n_rows, n_components).
    decoder : nn.Module
        Maps (n_rows, n_components) to (n_rows, n_features).
    """

    __module__ = "skae.networks"

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        """Codes of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        z : Tensor of shape (n_rows, n_components)
        """
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Rows of codes.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)

        Returns
        -------
        x : Tensor of shape (n_rows, n_features)
        """
        return self.decoder(z)

    def forward(self, x: Tensor) -> Output:
        """Code and reconstruction of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Output
        """
        return run(self, x)


def gated(correction: Tensor, gates: Tensor | None, i: int) -> Tensor:
    """Correction of a linear map times its gate, where there are gates.

    Parameters
    ----------
    correction : Tensor
    gates : Tensor of shape (n_gates,), or None
    i : int

    Returns
    -------
    Tensor of the shape of `correction`
    """
    return correction if gates is None else gates[i] * correction


class AnchoredAutoencoder(Autoencoder):
    """A fixed linear autoencoder plus trainable corrections.

    This is a PCA skip connection: the code is ``z = V x + f(x)`` and the reconstruction is
    ``Vᵀ z + g(z)``. While f and g return zeros, this is PCA with the components V.

    Parameters
    ----------
    network : nn.Module
        Its ``encode`` is f and its ``decode`` is g.
    components : Tensor of shape (n_components, n_features), float64
        The rows of V. Kept in float64: in float32 alone, raw data of mixed units loses
        five digits.
    gated : bool, default=False
        Multiply f and g by trainable scalars that start at zero, so that a network with
        arbitrary initial weights starts as PCA too [1]_.

    References
    ----------
    .. [1] Bachlechner et al. (2021). ReZero is all you need: fast convergence at large
       depth. UAI. https://proceedings.mlr.press/v161/bachlechner21a.html
    """

    __module__ = "skae.networks"

    components: Tensor
    network: Any

    def __init__(self, network: Codec, components: Tensor, *, gated: bool = False):
        nn.Module.__init__(self)
        self.network = network
        self.register_buffer("components", components)
        self.gates = nn.Parameter(torch.zeros(2, dtype=torch.float32)) if gated else None

    def encode(self, x: Tensor) -> Tensor:  # noqa: D102
        correction = gated(self.network.encode(x), self.gates, 0)
        return torch.addmm(correction, x, self.components.T.to(x.dtype))

    def decode(self, z: Tensor) -> Tensor:  # noqa: D102
        correction = gated(self.network.decode(z), self.gates, 1)
        return torch.addmm(correction, z, self.components.to(z.dtype))

    def is_at_anchor(self) -> bool:
        """Whether both corrections return zeros: their gates or last layers are zero.

        Returns
        -------
        bool
        """
        if self.gates is not None:
            return not self.gates.any()
        last = self.network.encoder[-1], self.network.decoder[-1]
        return not any(p.any() for layer in last for p in layer.parameters())


class SelfRunning(nn.Module):
    """A network with a method `run` of its own for training rows."""

    __module__ = "skae.networks"

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Encode and decode rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
        noise : Tensor of shape (n_rows, n_columns), default=None
            Corrupted rows, or reparameterisation noise.
        weights : Tensor of shape (n_rows,), default=None

        Returns
        -------
        Output
        """
        raise NotImplementedError


class VariationalAutoencoder(SelfRunning):
    """An autoencoder whose code is a normal distribution, anchored at a linear one.

    The posterior of the code of a row x has mean ``E (x - c) + f(x)`` and log-variance
    ``l + h(x)``, within bounds; a code z is decoded to ``o + D z + g(z)``. While f, g and h
    return zeros this is a linear model, such as probabilistic PCA.

    Parameters
    ----------
    network : nn.Module
        Its ``encode`` returns f and h side by side, its ``decode`` is g.
    encoding, decoding : Tensor of shape (n_components, n_features), float64
        E and D.
    log_variances : Tensor of shape (n_components,), float64
        l.
    center, offset : Tensor of shape (n_features,), float64, or None
        c and o; None is zero.
    noise_variance : Tensor of shape () or (n_features,), float64, or None
        Variance of rows around their reconstructions, for a normal likelihood. In training it
        follows its optimum, the mean squared error of the batches. In evaluation with noise,
        it is the optimum of the given rows.
    gated : bool, default=False
        Multiply f, h and g by trainable scalars that start at zero.

    Notes
    -----
    Kingma and Welling (2014), https://arxiv.org/abs/1312.6114; the optimal variance is that
    of Rybkin, Daniilidis and Levine (2021), https://arxiv.org/abs/2006.13202.
    """

    __module__ = "skae.networks"

    encoding: Tensor
    decoding: Tensor
    log_variances: Tensor
    center: Tensor | None
    offset: Tensor | None
    noise_variance: Tensor | None
    network: Any

    def __init__(
        self,
        network: Codec,
        *,
        encoding: Tensor,
        decoding: Tensor,
        log_variances: Tensor,
        center: Tensor | None = None,
        offset: Tensor | None = None,
        noise_variance: Tensor | None,
        gated: bool = False,
    ):
        super().__init__()
        self.network = network
        self.register_buffer("encoding", encoding)
        self.register_buffer("decoding", decoding)
        self.register_buffer("log_variances", log_variances)
        self.register_buffer("center", center)
        self.register_buffer("offset", offset)
        self.register_buffer("noise_variance", noise_variance)
        self.gates = nn.Parameter(torch.zeros(2, dtype=torch.float32)) if gated else None

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the codes of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        mean, log_var : Tensor of shape (n_rows, n_components)
        """
        correction = gated(self.network.encode(x), self.gates, 0)
        mean, log_var = correction.chunk(2, dim=1)
        if self.center is not None:
            x = x - self.center.to(x.dtype)
        mean = torch.addmm(mean, x, self.encoding.T.to(x.dtype))
        return mean, (log_var + self.log_variances.to(x.dtype)).clamp(*LOG_VAR_BOUNDS)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        z : Tensor of shape (n_rows, n_components)
        """
        return self.posterior(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Means, or logits, of the rows of codes.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)

        Returns
        -------
        x : Tensor of shape (n_rows, n_features)
        """
        correction = gated(self.network.decode(z), self.gates, 1)
        if self.offset is not None:
            correction = correction + self.offset.to(z.dtype)
        return torch.addmm(correction, z, self.decoding.to(z.dtype))

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Encode rows, sample codes from the posterior, decode them.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
        noise : Tensor of shape (n_rows, n_components), default=None
            Standard normal reparameterisation noise; without it codes are posterior means.
        weights : Tensor of shape (n_rows,), default=None

        Returns
        -------
        Output
        """
        mean, log_var = self.posterior(x)
        z = mean if noise is None else torch.addcmul(mean, noise, (0.5 * log_var).exp())
        reconstruction = self.decode(z)
        if self.noise_variance is None:
            return Output(reconstruction, z, None, mean, log_var)
        noise_variance = self.noise_variance
        if noise is not None:
            squares = (reconstruction.detach() - x).square()
            if weights is not None:
                squares = squares * (weights / weights.mean())[:, None]
            squares = squares.mean(dim=0)
            if self.training:
                update_noise_variance(noise_variance, squares)
            else:
                noise_variance = best_noise_variance(squares, noise_variance)
        noise_variance = noise_variance.to(x.dtype)
        return Output(reconstruction, z, None, mean, log_var, noise_variance)


def best_noise_variance(squares: Any, variance: Any) -> Any:
    """Maximum likelihood estimate of the noise variance, of all features or of each.

    Parameters
    ----------
    squares : Tensor or ndarray of shape (n_features,)
        Means over rows of squared differences.
    variance : Tensor or ndarray of shape () or (n_features,)
        Has the shape of the result.

    Returns
    -------
    Tensor or ndarray of shape () or (n_features,)
    """
    return (squares if variance.ndim else squares.mean()).clip(SMALLEST_NOISE_VARIANCE, None)


def update_noise_variance(variance: Any, squares: Any) -> None:
    """Move a noise variance, in place, towards the estimate of a batch.

    Parameters
    ----------
    variance : Tensor or ndarray of shape () or (n_features,)
    squares : Tensor or ndarray of shape (n_features,)
        Means over the batch of squared differences.
    """
    variance += NOISE_VARIANCE_STEP * (best_noise_variance(squares, variance) - variance)


def run(
    network: Any, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
) -> Output:
    """Encode and decode rows with any module that has `encode` and `decode`.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
    x : Tensor of shape (n_rows, n_features)
    noise : Tensor, default=None
        Corrupted rows of shape (n_rows, n_features), which are encoded instead of x; for a
        `VariationalAutoencoder`, reparameterisation noise of shape (n_rows, n_components).
    weights : Tensor of shape (n_rows,), default=None
        Weights of the rows, for statistics that the network keeps of them.

    Returns
    -------
    Output
    """
    if isinstance(network, SelfRunning):
        return network.run(x, noise, weights)
    z = network.encode(x if noise is None else noise)
    return Output(network.decode(z), z, None if noise is None else noise != x)


def in_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert a network to a float type, except its linear part, which stays float64.

    Parameters
    ----------
    network : nn.Module
    dtype : torch.dtype

    Returns
    -------
    nn.Module
        The network itself.
    """
    linear = [
        (part, name, buffer)
        for part in network.modules()
        if isinstance(part, AnchoredAutoencoder | VariationalAutoencoder)
        for name, buffer in part.named_buffers(recurse=False)
    ]
    network.to(dtype)
    for part, name, buffer in linear:
        part.register_buffer(name, buffer)
    return network


MODELESS: set[Any] = {MLP, Linear, Autoencoder, AnchoredAutoencoder, *ACTIVATIONS.values()}


def has_modes(network: nn.Module) -> bool:
    """Whether any part of a network may behave differently in training and evaluation.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    bool
    """
    parts = [module for module in network.modules() if module is not network]
    return any(type(module) not in MODELESS for module in parts)


@torch.no_grad()
def shapes_of_two_rows(
    network: Any, n_features: int, n_columns: int | None = None
) -> tuple[torch.Size, torch.Size]:
    """Shapes of the code and of the reconstruction of two rows.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
    n_features : int
    n_columns : int, default=None
        Columns, of those that `encode` returns, which `decode` takes; None is all.

    Returns
    -------
    tuple of two torch.Size
    """
    was_training = network.training
    code = network.eval().encode(torch.zeros(2, n_features, dtype=torch.float32))
    row = network.decode(code[:, :n_columns])
    network.train(was_training)
    return code.shape, row.shape


def jacobian(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Jacobian of a decoder at each code: its linear map there.

    Parameters
    ----------
    decode : callable
        Maps (n_rows, n_components) to (n_rows, n_features), row by row.
    z : Tensor of shape (n_rows, n_components)

    Returns
    -------
    Tensor of shape (n_rows, n_components, n_features)
    """
    with torch.inference_mode(False), torch.enable_grad():
        z = (z.clone() if z.is_inference() else z.detach()).requires_grad_(True)
        x = decode(z)
        # The derivative of a vector-Jacobian product by its vector: forward mode through
        # backward mode, which every module supports and which is much quicker to set up.
        vector = torch.zeros_like(x, requires_grad=True)
        # Of sums: given a vector, torch would import sympy to compare shapes.
        (product,) = torch.autograd.grad((x * vector).sum(), z, create_graph=True)
        columns = [
            torch.autograd.grad((product * direction).sum(), vector, retain_graph=True)[0]
            for direction in torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        ]
    return torch.stack(columns, dim=1)
