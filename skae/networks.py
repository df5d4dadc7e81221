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


class Output(NamedTuple):
    """What a network says of a batch of rows.

    Attributes
    ----------
    reconstruction : Tensor of shape (n_rows, n_features)
    code : Tensor of shape (n_rows, n_components)
    corrupted : Tensor of shape (n_rows, n_features), bool, or None
        Entries that noise changed before the rows were encoded.
    """

    reconstruction: Tensor
    code: Tensor
    corrupted: Tensor | None = None


class Codec(Protocol):
    """What any network must have: an encoder and a decoder."""

    def encode(self, x: Tensor) -> Tensor:
        """Map (n_rows, n_features) to (n_rows, n_components)."""

    def decode(self, z: Tensor) -> Tensor:
        """Map (n_rows, n_components) to (n_rows, n_features)."""


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
    >>> from skae.networks import MLP
    >>> MLP([4, 8, 2])(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str | Callable[[], nn.Module] = "relu",
        *,
        zero_last: bool = False,
        generator: torch.Generator | None = None,
    ):
        make_activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [Linear(n_in, n_out, generator), make_activation()]
        super().__init__(*layers[:-1])
        if zero_last:
            last: Any = self[-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


class Linear(nn.Linear):
    """torch's linear layer, its weights drawn uniformly from a private generator.

    Parameters
    ----------
    n_in, n_out : int
    generator : torch.Generator or None
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator | None = None):
        super().__init__(n_in, n_out, dtype=torch.float32)
        bound = 1 / math.sqrt(n_in)
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def reset_parameters(self) -> None:
        """Leave the weights alone: torch's own method draws from the global generator."""


class Autoencoder(nn.Module):
    """Encoder and decoder: the textbook autoencoder.

    Parameters
    ----------
    encoder : nn.Module
        Maps (n_rows, n_features) to (n_rows, n_components).
    decoder : nn.Module
        Maps (n_rows, n_components) to (n_rows, n_features).
    """

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


class AnchoredAutoencoder(Autoencoder):
    """A fixed linear autoencoder plus trainable corrections.

    The code is ``z = V x + f(x)`` and the reconstruction ``Vᵀ z + g(z)``. While f and g
    return zeros, this is PCA with the components V.

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

    components: Tensor
    network: Any

    def __init__(self, network: Codec, components: Tensor, *, gated: bool = False):
        nn.Module.__init__(self)
        self.network = network
        self.register_buffer("components", components)
        self.gates = nn.Parameter(torch.zeros(2, dtype=torch.float32)) if gated else None

    def encode(self, x: Tensor) -> Tensor:  # noqa: D102
        correction = self.network.encode(x)
        if self.gates is not None:
            correction = self.gates[0] * correction
        return torch.addmm(correction, x, self.components.T.to(x.dtype))

    def decode(self, z: Tensor) -> Tensor:  # noqa: D102
        correction = self.network.decode(z)
        if self.gates is not None:
            correction = self.gates[1] * correction
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


def run(network: Codec, x: Tensor, corrupted: Tensor | None = None) -> Output:
    """Encode and decode rows with any module that has `encode` and `decode`.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
    x : Tensor of shape (n_rows, n_features)
    corrupted : Tensor of shape (n_rows, n_features), default=None
        What is encoded, if not the rows.

    Returns
    -------
    Output
    """
    z = network.encode(x if corrupted is None else corrupted)
    return Output(network.decode(z), z, None if corrupted is None else corrupted != x)


@torch.no_grad()
def shapes_of_two_rows(network: Any, n_features: int) -> tuple[torch.Size, torch.Size]:
    """Shapes of the code and of the reconstruction of two rows.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
    n_features : int

    Returns
    -------
    tuple of two torch.Size
    """
    was_training = network.training
    output = run(network.eval(), torch.zeros(2, n_features, dtype=torch.float32))
    network.train(was_training)
    return output.code.shape, output.reconstruction.shape


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
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        x = decode(z)
        # The derivative of a vector-Jacobian product by its vector: forward mode through
        # backward mode, which every module supports and which is much quicker to set up.
        vector = torch.zeros_like(x, requires_grad=True)
        (product,) = torch.autograd.grad(x, z, vector, create_graph=True)
        columns = [
            torch.autograd.grad(product, vector, direction.expand_as(z), retain_graph=True)[0]
            for direction in torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        ]
    return torch.stack(columns, dim=1)
