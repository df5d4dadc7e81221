"""Training steps: the gradient of an objective, by autograd or in closed form for MLPs.

On tables, autograd spends most of the time of a step between the matrix products. The closed
form reuses its arrays, and writes each gradient directly to the memory that the optimizer reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae.losses import (
    KL,
    Objective,
    absolute_error,
    binary_cross_entropy,
    gaussian_nll,
    huber,
    kl_with_gradient,
    squared_error,
)
from skae.networks.dense import (
    LOG_VAR_BOUNDS,
    MLP,
    AnchoredAutoencoder,
    Autoencoder,
    Codec,
    Linear,
    Output,
    VariationalAutoencoder,
    run,
    update_noise_variance,
)


class Gradient(Protocol):
    """A training step: computes a loss and writes its gradient to the parameters' `grad`.

    A kind may have its own (`BaseAutoencoder._make_gradient`), for example one that first
    trains a discriminator with an optimizer of its own.
    """

    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        """Return the mean "loss" and, if it was computed, the network's `Output` ("y_pred").

        x are rows (n_batch, n_features), `noise` is the result of the noise module for them, and
        `weights` (n_batch,) are sample weights.
        """


class AutogradGradient:
    """Gradient of any network and objective by automatic differentiation.

    `gradient` is the vector of which each parameter's `grad` is a view.
    """

    def __init__(self, network: Codec, objective: Objective, gradient: Tensor):
        self.network, self.objective, self.gradient = network, objective, gradient

    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        self.gradient.zero_()
        with torch.enable_grad():
            output = run(self.network, x, noise, weights)
            loss = self.objective(output, x, weights)
            loss.backward()
        return {"loss": loss.detach(), "y_pred": output}


class ActivationDerivative(NamedTuple):
    """An activation, and the gradient through it from its result; both work in place."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


_THRESHOLD_BACKWARD = torch.ops.aten.threshold_backward.grad_input._op  # without its wrapper


def _relu_backward(grad: Tensor, result: Tensor) -> Tensor:
    return _THRESHOLD_BACKWARD(grad, result, 0, grad_input=grad)


def _tanh_backward(grad: Tensor, result: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(grad, result, grad_input=grad)


def _sigmoid_backward(grad: Tensor, result: Tensor) -> Tensor:
    return torch.ops.aten.sigmoid_backward.grad_input(grad, result, grad_input=grad)


DERIVATIVES: dict[type[nn.Module], ActivationDerivative] = {
    nn.ReLU: ActivationDerivative(torch.relu_, _relu_backward),
    nn.Tanh: ActivationDerivative(torch.tanh_, _tanh_backward),
    nn.Sigmoid: ActivationDerivative(torch.sigmoid_, _sigmoid_backward),
    nn.Identity: ActivationDerivative(lambda x: x, lambda grad, result: grad),
}


class ArrayPair(NamedTuple):
    """Rows (..., n_rows, width) as a tensor and as the backend's array, in the same memory."""

    tensor: Tensor
    array: Any
    transposed: Any


class ArrayBackend(NamedTuple):
    """Matrix operations of a library, numpy or torch."""

    product: Callable[..., Any]  # product(a, b, out=c): matrix product
    affine: Callable[..., Any]  # affine(bias, a, b, out=c): a @ b + bias; bias and c are pairs
    squares: Callable[[Any], Any]  # sum of the squared entries of a matrix
    exp: Callable[..., Any]  # of each entry
    log: Callable[..., Any]  # of each entry
    view: Callable[[Tensor], Any]  # a tensor as an array of the library, without a copy

    def pair(self, tensor: Tensor) -> ArrayPair:
        """Pair a tensor with its array and the transpose of this array."""
        array = self.view(tensor)
        return ArrayPair(tensor, array, array.swapaxes(-1, -2))


def _affine(bias: ArrayPair, a: np.ndarray, b: np.ndarray, out: ArrayPair) -> None:
    array = np.dot(a, b, out=out.array)
    array += bias.array


def _affine_of_each(bias: ArrayPair, a: np.ndarray, b: np.ndarray, out: ArrayPair) -> None:
    np.matmul(a, b, out=out.array)
    out.tensor.add_(bias.tensor)  # numpy takes twice as long for such short rows


def _affine_in_torch(bias: ArrayPair, a: Tensor, b: Tensor, out: ArrayPair) -> None:
    torch.addmm(bias.tensor, a, b, out=out.tensor)


def _affine_of_each_in_torch(bias: ArrayPair, a: Tensor, b: Tensor, out: ArrayPair) -> None:
    torch.baddbmm(bias.tensor, a, b, out=out.tensor)


def _squares(matrix: Any) -> Any:
    flat = matrix.reshape(-1)
    return flat @ flat


def _squares_of_each(matrices: np.ndarray) -> np.ndarray:
    rows = matrices.reshape(len(matrices), 1, -1)
    return (rows @ rows.swapaxes(1, 2))[:, 0, 0]


def _squares_of_each_in_torch(matrices: Tensor) -> Tensor:
    return matrices.square().sum((-2, -1))


# numpy calls BLAS with less overhead than torch, so it is faster on one thread. torch uses several
# threads and accelerators. Activations are always torch's, because it has their derivatives.
NUMPY = ArrayBackend(np.dot, _affine, _squares, np.exp, np.log, Tensor.numpy)
TORCH = ArrayBackend(
    torch.matmul, _affine_in_torch, _squares, torch.exp, torch.log, lambda tensor: tensor
)

# The same for stacks of matrices, (n_models, n_rows, width).
BATCHED_NUMPY = NUMPY._replace(product=np.matmul, affine=_affine_of_each, squares=_squares_of_each)
BATCHED_TORCH = TORCH._replace(
    product=torch.bmm, affine=_affine_of_each_in_torch, squares=_squares_of_each_in_torch
)


def _squared_error_gradient(decoded: ArrayPair, x: ArrayPair, backend: ArrayBackend) -> Any:
    difference, n_rows = decoded.array, x.array.shape[-2]
    difference -= x.array
    loss = backend.squares(difference) / n_rows
    difference *= 2 / n_rows
    return loss


def _absolute_error_gradient(decoded: ArrayPair, x: ArrayPair, backend: ArrayBackend) -> Any:
    n_rows = x.array.shape[-2]
    loss = decoded.tensor.sub_(x.tensor).abs().sum((-2, -1))
    decoded.tensor.sign_().div_(n_rows)
    return backend.view(loss / n_rows)


def _huber_gradient(decoded: ArrayPair, x: ArrayPair, backend: ArrayBackend) -> Any:
    n_rows = x.array.shape[-2]
    loss = F.huber_loss(decoded.tensor, x.tensor, reduction="none").sum((-2, -1))
    decoded.tensor.sub_(x.tensor).clamp_(-1, 1).div_(n_rows)
    return backend.view(loss / n_rows)


def _cross_entropy_gradient(decoded: ArrayPair, x: ArrayPair, backend: ArrayBackend) -> Any:
    n_rows = x.array.shape[-2]
    loss = F.binary_cross_entropy_with_logits(decoded.tensor, x.tensor, reduction="none")
    decoded.tensor.sigmoid_().sub_(x.tensor).div_(n_rows)
    return backend.view(loss.sum((-2, -1)) / n_rows)


# Each returns the mean loss of the rows, and overwrites the reconstructions with its gradient.
LOSS_GRADIENTS: dict[Callable[..., Tensor], Callable[[ArrayPair, ArrayPair, ArrayBackend], Any]] = {
    squared_error: _squared_error_gradient,
    absolute_error: _absolute_error_gradient,
    huber: _huber_gradient,
    binary_cross_entropy: _cross_entropy_gradient,
}


class ClosedFormMLP:
    """Forward and backward pass of an MLP, or of several with a leading axis of models.

    The `grad` of the parameters must exist. It is overwritten.
    """

    def __init__(self, mlp: MLP, backend: ArrayBackend):
        layers: list[Any] = [layer for layer in mlp if isinstance(layer, Linear)]
        self.weights = [backend.pair(layer.weight.detach()) for layer in layers]
        self.biases = [backend.pair(layer.bias.detach().unsqueeze(-2)) for layer in layers]
        self.gradients = [
            (backend.view(layer.weight.grad), backend.view(layer.bias.grad.unsqueeze(-2)))
            for layer in layers
        ]
        activations = [type(layer) for layer in mlp if not isinstance(layer, Linear)]
        self.derivative = DERIVATIVES[activations[0] if activations else nn.Identity]
        self.n_active = len(activations)
        self.ends_active = self.n_active == len(layers)
        self.product, self.affine = backend.product, backend.affine

    def forward(self, x: ArrayPair, workspace: Workspace) -> None:
        """Compute the results of all layers, in the workspace."""
        for i, result in enumerate(workspace.results):
            self.affine(self.biases[i], x.array, self.weights[i].transposed, out=result)
            if i < self.n_active:
                self.derivative.forward(result.tensor)
            x = result
        if workspace.kept is not None:
            workspace.kept.copy_(x.tensor)

    def backward(
        self, x: ArrayPair, workspace: Workspace, grad: ArrayPair, *, to_input: bool
    ) -> None:
        """Compute the gradients of the parameters and, if `to_input`, that of the input.

        `grad` is the gradient of the loss with respect to the result of the last layer.
        """
        if workspace.kept is not None:
            self.derivative.backward(grad.tensor, workspace.kept)
        for i in range(len(self.weights) - 1, -1, -1):
            weight_gradient, bias_gradient = self.gradients[i]
            below = workspace.results[i - 1] if i else x
            self.product(grad.transposed, below.array, out=weight_gradient)
            self.product(workspace.ones, grad.array, out=bias_gradient)
            if i or to_input:
                self.product(grad.array, self.weights[i].array, out=workspace.input_grads[i].array)
                grad = workspace.input_grads[i]
            if i:
                self.derivative.backward(grad.tensor, below.tensor)


class Workspace:
    """Arrays of a closed-form MLP for one batch size. Each step overwrites them.

    `results` are the results of the layers, `input_grads` the gradients of the loss with respect
    to their inputs. `ones` (..., 1, n_rows) times an array are the sums of its columns. `linear`
    (..., n_rows, n_outputs) is for the skip connection around the MLP. `kept` is a copy of the
    last result if an activation computed it, because callers overwrite the result; else None.
    """

    def __init__(self, mlp: ClosedFormMLP, backend: ArrayBackend, n_rows: int):
        empty = mlp.weights[0].tensor.new_empty
        n_models = mlp.weights[0].tensor.shape[:-2]
        shapes = [weight.tensor.shape[-2:] for weight in mlp.weights]
        self.results = [backend.pair(empty(*n_models, n_rows, n_out)) for n_out, _ in shapes]
        self.input_grads = [backend.pair(empty(*n_models, n_rows, n_in)) for _, n_in in shapes]
        self.ones = backend.view(empty(*n_models, 1, n_rows).fill_(1))
        self.linear = backend.view(empty(*n_models, n_rows, shapes[-1][0]))
        last = self.results[-1].tensor
        self.kept = torch.empty_like(last) if mlp.ends_active else None


class ClosedFormGradient:
    """Gradient of an autoencoder of two MLPs, anchored or not, in closed form.

    Parameters, buffers and rows may have a leading axis of models.

    For rows x, the code is z = f(x) + V x and the reconstruction x̂ = g(z) + Vᵀ z. The gradient
    with respect to z is that through g, plus V times the gradient with respect to x̂. Without an
    anchor, V is zero.
    """

    def __init__(self, network: Any, objective: Objective, backend: ArrayBackend):
        anchored = isinstance(network, AnchoredAutoencoder)
        pair = network.network if anchored else network
        self.backend = backend
        self.encoder, self.decoder = (
            ClosedFormMLP(pair.encoder, backend),
            ClosedFormMLP(pair.decoder, backend),
        )
        self.loss_gradient = LOSS_GRADIENTS[next(iter(objective.terms.values()))]
        self.components: ArrayPair | None = None
        if anchored:
            dtype = self.encoder.weights[0].tensor.dtype
            self.components = backend.pair(network.components.to(dtype))
        self.workspaces: dict[int, tuple[Workspace, Workspace]] = {}

    @staticmethod
    def covers(network: Any, objective: Objective) -> bool:
        """Whether this closed form is that of the network and the objective."""
        pair = network
        if type(network) is AnchoredAutoencoder and network.gates is None:
            pair = network.network
        terms = list(objective.terms.values())
        return (
            type(pair) is Autoencoder
            and all(_has_closed_form(mlp) for mlp in (pair.encoder, pair.decoder))
            and len(terms) == 1
            and terms[0] in LOSS_GRADIENTS
            and not objective.weights
        )

    def _workspaces(self, n_rows: int) -> tuple[Workspace, Workspace]:
        if n_rows not in self.workspaces:
            encoder, decoder = (
                Workspace(mlp, self.backend, n_rows) for mlp in (self.encoder, self.decoder)
            )
            self.workspaces[n_rows] = encoder, decoder
        return self.workspaces[n_rows]

    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        encoder, decoder = self._workspaces(x.shape[-2])
        target, V = self.backend.pair(x), self.components
        rows = target if noise is None else self.backend.pair(noise)
        z, decoded = self._forward(rows, encoder, decoder)
        loss = self.loss_gradient(decoded, target, self.backend)  # overwrites `decoded`
        self.decoder.backward(z, decoder, decoded, to_input=True)
        grad = decoder.input_grads[0]
        if V is not None:
            self._add_product(grad, decoded, V.transposed, encoder.linear)
        self.encoder.backward(rows, encoder, grad, to_input=False)
        return {"loss": loss}

    def output(self, x: Tensor, noise: Tensor | None = None) -> Output:
        """Output of the network, without gradients. The next call overwrites it."""
        rows = self.backend.pair(x if noise is None else noise)
        z, decoded = self._forward(rows, *self._workspaces(x.shape[-2]))
        return Output(decoded.tensor, z.tensor, None if noise is None else noise != x)

    def _forward(
        self, rows: ArrayPair, encoder: Workspace, decoder: Workspace
    ) -> tuple[ArrayPair, ArrayPair]:
        """Codes (..., n_rows, n_components) and reconstructions (..., n_rows, n_features)."""
        V = self.components
        self.encoder.forward(rows, encoder)
        z = encoder.results[-1]
        if V is not None:
            self._add_product(z, rows, V.transposed, encoder.linear)
        self.decoder.forward(z, decoder)
        decoded = decoder.results[-1]
        if V is not None:
            self._add_product(decoded, z, V.array, decoder.linear)
        return z, decoded

    def _add_product(self, result: ArrayPair, a: ArrayPair, b: Any, out: Any) -> None:
        """Add ``a @ b``, which is computed in `out`, to a result."""
        array = result.array
        array += self.backend.product(a.array, b, out=out)


class VariationalGradient:
    """Gradient of the evidence lower bound of a VAE of two MLPs, in closed form.

    Parameters, buffers and rows may have a leading axis of models.

    The posterior has mean m and log-variance v, and the code is z = m + ε exp(v / 2). Let G be
    the gradient of the loss with respect to z. The gradient with respect to m is G + β m / n,
    and with respect to v it is G ε exp(v / 2) / 2 + β (exp(v) - 1) / (2 n), for n rows.
    """

    def __init__(
        self, network: VariationalAutoencoder, objective: Objective, backend: ArrayBackend
    ):
        self.objective, self.backend = objective, backend
        pair = network.network
        self.encoder, self.decoder = (
            ClosedFormMLP(pair.encoder, backend),
            ClosedFormMLP(pair.decoder, backend),
        )
        dtype = self.encoder.weights[0].tensor.dtype
        self.encoding, self.decoding = (
            backend.pair(components.to(dtype))
            for components in (network.encoding, network.decoding)
        )
        view = backend.view
        center, offset = network.center, network.offset
        self.shift = self.offset = self.variance = self.precision = None
        if center is not None:
            shift = center.unsqueeze(-2) @ network.encoding.swapaxes(-1, -2)
            self.shift = view(shift.to(dtype))
        if offset is not None:
            self.offset = view(offset.to(dtype).unsqueeze(-2))
        self.log_variances = view(network.log_variances.to(dtype).unsqueeze(-2))
        # A view of the network's own buffer, which every batch updates in place.
        variance = network.noise_variance
        self.is_per_feature = variance is not None and variance.ndim == network.log_variances.ndim
        if variance is not None:
            self.variance = view(variance)
            of_rows = variance if self.is_per_feature else variance.unsqueeze(-1)
            self.precision = view(torch.empty_like(of_rows.unsqueeze(-2), dtype=dtype))
        self.is_gaussian = objective.terms["reconstruction"] is gaussian_nll
        self.workspaces: dict[int, tuple[Workspace, Workspace, ArrayPair]] = {}

    @staticmethod
    def covers(network: Any, objective: Objective) -> bool:
        """Whether this closed form is that of the network and the objective."""
        terms = objective.terms
        return (
            type(network) is VariationalAutoencoder
            and network.gates is None
            and type(network.network) is Autoencoder
            and all(_has_closed_form(m) for m in (network.network.encoder, network.network.decoder))
            and terms.keys() == {"reconstruction", "kl"}
            and terms["reconstruction"] in (gaussian_nll, binary_cross_entropy)
            and type(terms["kl"]) is KL
            and objective.weights.keys() <= {"kl"}
        )

    def _workspaces(self, n_rows: int) -> tuple[Workspace, Workspace, ArrayPair]:
        if n_rows not in self.workspaces:
            encoder, decoder = (
                Workspace(mlp, self.backend, n_rows) for mlp in (self.encoder, self.decoder)
            )
            codes = self.backend.pair(torch.empty_like(decoder.input_grads[0].tensor))
            self.workspaces[n_rows] = encoder, decoder, codes
        return self.workspaces[n_rows]

    def __call__(
        self, x: Tensor, noise: Any = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        encoder, decoder, z = self._workspaces(x.shape[-2])
        rows, draws = self.backend.pair(x), self.backend.view(noise)
        product, exp = self.backend.product, self.backend.exp
        self.encoder.forward(rows, encoder)
        mean, log_var = self._halves(encoder.results[-1])
        mean += product(rows.array, self.encoding.transposed, out=z.array)
        if self.shift is not None:
            mean -= self.shift
        log_var += self.log_variances
        std = exp(0.5 * log_var.clip(*LOG_VAR_BOUNDS))
        array = z.array
        array[:] = draws
        array *= std
        array += mean
        self.decoder.forward(z, decoder)
        decoded = decoder.results[-1]
        array = decoded.array
        array += product(z.array, self.decoding.array, out=decoder.linear)
        if self.offset is not None:
            array += self.offset
        loss = self._reconstruction(decoded, rows)  # overwrites `decoded` with its gradient
        self.decoder.backward(z, decoder, decoded, to_input=True)
        grad = decoder.input_grads[0].array
        grad += product(decoded.array, self.decoding.transposed, out=z.array)
        loss = loss + self._divergence(encoder.results[-1], grad, draws * std)
        self.encoder.backward(rows, encoder, encoder.results[-1], to_input=False)
        return {"loss": loss}

    def _halves(self, posterior: ArrayPair) -> tuple[Any, Any]:
        """Views of means and log-variances, each (..., n_rows, n_components)."""
        n_components = posterior.tensor.shape[-1] // 2
        return posterior.array[..., :n_components], posterior.array[..., n_components:]

    def _reconstruction(self, decoded: ArrayPair, x: ArrayPair) -> Any:
        """Mean reconstruction loss of the rows; overwrites `decoded` with its gradient."""
        if not self.is_gaussian:
            return _cross_entropy_gradient(decoded, x, self.backend)
        difference, (n_rows, n_features) = decoded.array, decoded.tensor.shape[-2:]
        variance: Any = self.variance
        difference -= x.array
        if self.is_per_feature:
            squares = (difference * difference).mean(-2)
        else:
            squares = self.backend.squares(difference) / (n_rows * n_features)
        update_noise_variance(variance, squares)
        precision: Any = self.precision
        precision[...] = (1 / (n_rows * variance)).reshape(precision.shape)
        difference *= precision
        each = squares / variance + self.backend.log(2 * math.pi * variance)
        return 0.5 * (each.sum(-1) if self.is_per_feature else n_features * each)

    def _divergence(self, posterior: ArrayPair, grad: Any, deviations: Any) -> Any:
        """Mean KL divergence of the rows, times β; overwrites `posterior` with its gradient.

        `grad` is the gradient of the reconstruction loss with respect to the codes, `deviations`
        are the codes minus the posterior means.
        """
        kl: Any = self.objective.terms["kl"]
        beta = self.objective.weights.get("kl", 1.0) * self.objective.factors.get("kl", 1.0)
        mean, log_var = self._halves(posterior)
        bounded = log_var.clip(*LOG_VAR_BOUNDS)
        within = bounded == log_var
        share = beta / mean.shape[-2]
        divergence, excess = kl_with_gradient(mean, bounded, self.backend.exp)
        if kl.free_bits:
            costs = divergence > kl.free_bits
            mean *= costs
            excess *= costs
            divergence = divergence.clip(kl.free_bits, None)
        deviations = deviations * grad
        deviations += share * excess
        mean *= share
        mean += grad
        log_var[:] = deviations
        log_var *= within
        log_var *= 0.5
        return divergence.sum((-2, -1)) * share


def _has_closed_form(mlp: nn.Module) -> bool:
    activations = {type(layer) for layer in mlp.children()} - {Linear}
    is_plain = len(activations) <= 1 and activations <= DERIVATIVES.keys()
    return type(mlp) is MLP and is_plain and all(p.requires_grad for p in mlp.parameters())


def closed_form_for(network: Any, objective: Objective) -> Any:
    """Class of the closed-form gradient of a network and an objective, or None."""
    kinds = ClosedFormGradient, VariationalGradient
    return next((kind for kind in kinds if kind.covers(network, objective)), None)


def make_gradient(
    network: Any, objective: Objective, gradient: Tensor, *, by_autograd: bool
) -> Gradient:
    """Choose the fastest training step: a closed form if there is one, else autograd.

    `by_autograd` requires autograd: if rows have weights, or a callback reads the output of each
    batch.
    """
    kind = None if by_autograd else closed_form_for(network, objective)
    if kind is None:
        return AutogradGradient(network, objective, gradient)
    on_one_thread = gradient.is_cpu and torch.get_num_threads() == 1
    return kind(network, objective, NUMPY if on_one_thread else TORCH)
