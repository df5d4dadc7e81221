"""Linear heads on the codes of a network, which predict targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skae.networks.dense import MLP, Output, SelfRunning, run


def make_head(coefficients: Tensor, intercepts: Tensor, dtype: torch.dtype) -> MLP:
    """Make a linear head.

    Parameters
    ----------
    coefficients : Tensor of shape (n_targets, n_components)
    intercepts : Tensor of shape (n_targets,)
    dtype : torch.dtype

    Returns
    -------
    MLP
    """
    n_targets, n_components = coefficients.shape
    # With a generator, so that no weights are drawn from torch's global one.
    head = MLP([n_components, n_targets], generator=torch.Generator()).to(dtype)
    return set_linear(head, coefficients, intercepts)


@torch.no_grad()
def set_linear(head: MLP, coefficients: Tensor, intercepts: Tensor) -> MLP:
    """Set the weights of a linear head, and return it.

    Parameters
    ----------
    head : MLP
    coefficients : Tensor of shape (n_targets, n_components)
    intercepts : Tensor of shape (n_targets,)

    Returns
    -------
    MLP
    """
    layer: Any = head[0]
    layer.weight.copy_(coefficients)
    layer.bias.copy_(intercepts)
    return head


class HeadedNetwork(nn.Module):
    """The encoder of a network and a linear head on its codes.

    It is trained like an autoencoder that "reconstructs" the targets. Rows have the targets in
    further columns after their features.

    Parameters
    ----------
    network : nn.Module
        Has `encode`.
    head : MLP
        Maps codes, divided by `scale`, to targets.
    scale : Tensor of shape (), float64
    n_features : int
        Columns of rows that are encoded.
    noise : nn.Module, default=None
        Corrupts rows in training mode.

    Shape
    -----
    Rows (n_rows, n_features or more), codes (n_rows, n_components), targets (n_rows,
    n_targets).
    """

    __module__ = "skae.networks"

    scale: Tensor

    def __init__(
        self,
        network: Any,
        head: MLP,
        scale: Tensor,
        n_features: int,
        noise: nn.Module | None = None,
    ):
        super().__init__()
        self.network = network
        self.head = head
        self.n_features = n_features
        self.noise = noise
        self.register_buffer("scale", scale)

    def encode(self, x: Tensor) -> Tensor:
        """Codes of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features or more)

        Returns
        -------
        z : Tensor of shape (n_rows, n_components)
        """
        x = x[:, : self.n_features]
        if self.noise is not None and self.training:
            x = self.noise(x)
        return self.network.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Predictions of codes.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)

        Returns
        -------
        Tensor of shape (n_rows, n_targets)
        """
        return self.head(z / self.scale.to(z.dtype))

    def predict(self, x: Tensor) -> Tensor:
        """Predictions of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features or more)

        Returns
        -------
        Tensor of shape (n_rows, n_targets)
        """
        return self.decode(self.encode(x))

    @torch.no_grad()
    def set_head(self, coefficients: Tensor, intercepts: Tensor) -> None:
        """Set the weights of the head.

        Parameters
        ----------
        coefficients : Tensor of shape (n_targets, n_components)
        intercepts : Tensor of shape (n_targets,)
        """
        set_linear(self.head, coefficients, intercepts)

    def train_head_and(self, *, encoder: bool) -> None:
        """Train the head and, if `encoder`, all parameters that codes depend on.

        Parameters
        ----------
        encoder : bool
        """
        self.requires_grad_(True)
        parameters = list(self.network.parameters())
        layer: Any = self.head[0]
        rows = torch.ones(2, self.n_features, dtype=layer.weight.dtype, device=layer.weight.device)
        with torch.enable_grad():
            codes = self.eval().encode(rows)
            passed = torch.autograd.grad(codes.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, passed, strict=True):
            parameter.requires_grad_(encoder and gradient is not None)


class PredictingNetwork(SelfRunning):
    """An autoencoder and a linear head on its code, while both are trained together.

    Rows have the targets in further columns after their features.

    Parameters
    ----------
    network : nn.Module
        Has `encode` and `decode`.
    head : MLP
        Maps centred codes, divided by `scale`, to predictions.
    center, scale : Tensor of shape (n_components,), float64
    n_features : int
        Columns of rows that are encoded.
    """

    __module__ = "skae.networks"

    center: Tensor
    scale: Tensor

    def __init__(self, network: Any, head: MLP, center: Tensor, scale: Tensor, n_features: int):
        super().__init__()
        self.network = network
        self.head = head
        self.n_features = n_features
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Encode and decode rows, and predict targets from their codes.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features or more)
        noise : Tensor of shape (n_rows, n_columns), default=None
            Corrupted rows, or reparameterisation noise.
        weights : Tensor of shape (n_rows,), default=None

        Returns
        -------
        Output
            Predictions are of posterior means, where the network has them.
        """
        output = run(self.network, x[:, : self.n_features], noise, weights)
        code = output.code if output.mean is None else output.mean
        code = (code - self.center.to(code.dtype)) / self.scale.to(code.dtype)
        return output._replace(prediction=self.head(code))


def without_head(network: Any) -> Any:
    """Return the autoencoder of a `PredictingNetwork`; any other network as it is.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    nn.Module
    """
    return network.network if isinstance(network, PredictingNetwork) else network
