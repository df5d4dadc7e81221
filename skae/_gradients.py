"""Gradients of an objective: by torch's autograd, or written out for plain networks.

On tables, a training step spends most of its time between the matrix products. The closed
form reuses its arrays and writes every gradient where the optimizer reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae.losses import (
    Objective,
    absolute_error,
    binary_cross_entropy,
    huber,
    squared_error,
)
from skae.networks import MLP, AnchoredAutoencoder, Autoencoder, Codec, run


class Gradient(Protocol):
    """Computes the loss of a batch and leaves its gradient in the parameters' `grad`."""

    def __call__(self, x: Tensor) -> dict[str, Any]:
        """Return the loss and, where it is at hand, the network's output."""


class AutogradGradient:
    """Gradient of any network and objective by automatic differentiation.

    Parameters
    ----------
    network : nn.Module
    objective : Objective
    gradient : Tensor
        The vector of which every parameter's `grad` is a view.
    """

    def __init__(self, network: Codec, objective: Objective, gradient: Tensor):
        self.network, self.objective, self.gradient = network, objective, gradient

    def __call__(self, x: Tensor) -> dict[str, Any]:
        self.gradient.zero_()
        with torch.enable_grad():
            output = run(self.network, x)
            loss = self.objective(output, x)
            loss.backward()
        return {"loss": loss.detach(), "y_pred": output}


class Derivative(NamedTuple):
    """An activation and its derivative, both in place, both from its result."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def _relu_backward(slope: Tensor, result: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(slope, result, 0, grad_input=slope)


def _tanh_backward(slope: Tensor, result: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(slope, result, grad_input=slope)


def _sigmoid_backward(slope: Tensor, result: Tensor) -> Tensor:
    return torch.ops.aten.sigmoid_backward.grad_input(slope, result, grad_input=slope)


DERIVATIVES: dict[type[nn.Module], Derivative] = {
    nn.ReLU: Derivative(torch.relu_, _relu_backward),
    nn.Tanh: Derivative(torch.tanh_, _tanh_backward),
    nn.Sigmoid: Derivative(torch.sigmoid_, _sigmoid_backward),
    nn.Identity: Derivative(lambda x: x, lambda slope, result: slope),
}


def _squared_slope(decoded: Tensor, x: Tensor) -> Tensor:
    difference = decoded.sub_(x).view(-1)
    loss = torch.dot(difference, difference)
    decoded.mul_(2 / x.shape[0])
    return loss.div_(x.shape[0])


def _absolute_slope(decoded: Tensor, x: Tensor) -> Tensor:
    loss = decoded.sub_(x).abs().sum()
    decoded.sign_().div_(x.shape[0])
    return loss.div_(x.shape[0])


def _huber_slope(decoded: Tensor, x: Tensor) -> Tensor:
    loss = F.huber_loss(decoded, x, reduction="sum")
    decoded.sub_(x).clamp_(-1, 1).div_(x.shape[0])
    return loss.div_(x.shape[0])


def _cross_entropy_slope(decoded: Tensor, x: Tensor) -> Tensor:
    loss = F.binary_cross_entropy_with_logits(decoded, x, reduction="sum")
    decoded.sigmoid_().sub_(x).div_(x.shape[0])
    return loss.div_(x.shape[0])


# Each returns the mean loss of the rows and turns what was decoded into its derivative.
SLOPES: dict[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]] = {
    squared_error: _squared_slope,
    absolute_error: _absolute_slope,
    huber: _huber_slope,
    binary_cross_entropy: _cross_entropy_slope,
}


class Arrays(NamedTuple):
    """What a stack computes for one batch size, made once and overwritten.

    Attributes
    ----------
    results : list of Tensor of shape (n_rows, width)
        Of every layer.
    slopes, transposed : list of Tensor
        Derivatives of the loss by the input of every layer, and views of them.
    """

    results: list[Tensor]
    slopes: list[Tensor]
    transposed: list[Tensor]


class Stack:
    """An MLP written out: forward and backward through arrays made once a batch size.

    Parameters
    ----------
    mlp : MLP
        Its parameters' `grad` must exist; they are overwritten, not added to.
    """

    def __init__(self, mlp: MLP):
        self.layers = [layer for layer in mlp if isinstance(layer, nn.Linear)]
        self.weights = [layer.weight.detach() for layer in self.layers]
        self.transposed = [weight.t() for weight in self.weights]
        self.biases = [layer.bias.detach() for layer in self.layers]
        self.gradients = [(layer.weight.grad, layer.bias.grad) for layer in self.layers]
        activations = [type(layer) for layer in mlp if not isinstance(layer, nn.Linear)]
        self.derivative = DERIVATIVES[activations[0] if activations else nn.Identity]
        self.arrays: dict[int, Arrays] = {}

    def _arrays(self, n_rows: int) -> Arrays:
        if n_rows not in self.arrays:
            empty = self.weights[0].new_empty
            results = [empty(n_rows, weight.shape[0]) for weight in self.weights]
            slopes = [empty(n_rows, weight.shape[1]) for weight in self.weights]
            self.arrays[n_rows] = Arrays(results, slopes, [slope.t() for slope in slopes])
        return self.arrays[n_rows]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the last layer's result, an array that the next call overwrites."""
        results = self._arrays(x.shape[0]).results
        last = len(results) - 1
        for i, result in enumerate(results):
            torch.addmm(self.biases[i], x, self.transposed[i], out=result)
            if i < last:
                self.derivative.forward(result)
            x = result
        return x

    def backward(self, x: Tensor, slope: Tensor, *, to_input: bool) -> Tensor:
        """Write the parameters' gradients; return the derivative by x if asked for."""
        results, slopes, transposed = self._arrays(x.shape[0])
        slope_t = slope.t()
        for i in range(len(results) - 1, -1, -1):
            weight_gradient, bias_gradient = self.gradients[i]
            below = results[i - 1] if i else x
            torch.mm(slope_t, below, out=weight_gradient)
            torch.sum(slope, 0, out=bias_gradient)
            if i or to_input:
                slope = torch.mm(slope, self.weights[i], out=slopes[i])
                slope_t = transposed[i]
            if i:
                self.derivative.backward(slope, below)
        return slope


class ClosedFormGradient:
    """Gradient of an autoencoder of two MLPs, anchored or not, without autograd.

    Parameters
    ----------
    network : Autoencoder
        One that `covers` admits.
    objective : Objective

    Notes
    -----
    With x the rows, z = f(x) + V x the code and x̂ = g(z) + Vᵀ z, the derivative by the
    code is that of g plus V times the derivative by x̂; V = 0 without an anchor.
    """

    def __init__(self, network: Any, objective: Objective):
        anchored = isinstance(network, AnchoredAutoencoder)
        pair = network.network if anchored else network
        self.encoder, self.decoder = Stack(pair.encoder), Stack(pair.decoder)
        self.slope = SLOPES[next(iter(objective.terms.values()))]
        self.components: Tensor | None = None
        if anchored:
            dtype = self.encoder.weights[0].dtype
            self.components = network.components.to(dtype)
            self.components_t = self.components.t()

    @staticmethod
    def covers(network: Any, objective: Objective) -> bool:
        """Whether network and objective are of the kind that is written out here.

        Parameters
        ----------
        network : nn.Module
        objective : Objective

        Returns
        -------
        bool
        """
        pair = network
        if type(network) is AnchoredAutoencoder and network.gates is None:
            pair = network.network
        terms = list(objective.terms.values())
        return (
            type(pair) is Autoencoder
            and all(_is_written_out(mlp) for mlp in (pair.encoder, pair.decoder))
            and len(terms) == 1
            and terms[0] in SLOPES
            and not objective.weights
        )

    @torch.no_grad()
    def __call__(self, x: Tensor) -> dict[str, Any]:
        V = self.components
        z = self.encoder.forward(x)
        if V is not None:
            z.addmm_(x, self.components_t)
        decoded = self.decoder.forward(z)
        if V is not None:
            decoded.addmm_(z, V)
        loss = self.slope(decoded, x)
        slope = self.decoder.backward(z, decoded, to_input=True)
        if V is not None:
            slope.addmm_(decoded, self.components_t)
        self.encoder.backward(x, slope, to_input=False)
        return {"loss": loss}


def _is_written_out(mlp: nn.Module) -> bool:
    activations = {type(layer) for layer in mlp.children()} - {nn.Linear}
    return type(mlp) is MLP and len(activations) <= 1 and activations <= DERIVATIVES.keys()


def make_gradient(
    network: Any, objective: Objective, gradient: Tensor, *, with_output: bool
) -> Gradient:
    """Choose the fastest way to the gradient.

    Parameters
    ----------
    network : nn.Module
    objective : Objective
    gradient : Tensor
        The vector of which every parameter's `grad` is a view.
    with_output : bool
        Whether someone listens to the network's output of each batch.

    Returns
    -------
    Gradient
    """
    if not with_output and ClosedFormGradient.covers(network, objective):
        return ClosedFormGradient(network, objective)
    return AutogradGradient(network, objective, gradient)
