"""Training steps: the gradient of an objective, by autograd or in closed form for MLPs.

On tables, autograd spends most of the time of a step between the matrix products. The closed
form reuses its arrays, and writes each gradient directly to the memory that the optimizer reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae._training.targets import SupervisedObjective
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
from skae.networks import onednn
from skae.networks.dense import (
    LOG_VAR_BOUNDS,
    MLP,
    Anchored,
    AnchoredAutoencoder,
    Autoencoder,
    Linear,
    Output,
    VariationalAutoencoder,
    run,
    update_noise_variance,
)
from skae.networks.supervised import PredictingNetwork, without_head

WIDE_LAYER = 100_000  # weights of a layer whose products are large


class Gradient(Protocol):
    """A training step: computes a loss and writes its gradient to the parameters' `grad`.

    A kind may have its own (`BaseAutoencoder._make_gradient`), for example one that first
    trains a discriminator with an optimizer of its own.
    """

    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        """Return the mean "loss" and, if it was computed, the network's `Output` ("y_pred").

        Other means, such as a discriminator's loss, are recorded in the history too. x are rows
        (n_batch, n_features), `noise` is the result of the noise module for them, and `weights`
        (n_batch,) are sample weights.
        """


class AutogradGradient:
    """Gradient of any network and objective by automatic differentiation.

    `gradient` is the vector of which each parameter's `grad` is a view. In an anchored network,
    the codes of the first rows of each batch, a share of `stochastic_depth`, are not corrected.
    """

    def __init__(
        self,
        network: Any,
        objective: Objective,
        gradient: Tensor,
        stochastic_depth: float = 0.0,
    ):
        self.network, self.objective, self.gradient = network, objective, gradient
        self.stochastic_depth = stochastic_depth
        anchored = without_head(network)
        self.anchored = anchored if isinstance(anchored, Anchored) else None

    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        self.gradient.zero_()
        with torch.enable_grad(), self._partly_uncorrected(len(x)):
            output = run(self.network, x, noise, weights)
            loss = self.objective(output, x, weights)
            loss.backward()
        return {"loss": loss.detach(), "y_pred": output}

    @contextmanager
    def _partly_uncorrected(self, n_rows: int) -> Iterator[None]:
        """Inside the block, the codes of the first rows are not corrected."""
        if self.anchored is not None:
            self.anchored.n_uncorrected = n_uncorrected(n_rows, self.stochastic_depth)
        try:
            yield
        finally:
            if self.anchored is not None:
                self.anchored.n_uncorrected = 0


def n_uncorrected(n_rows: int, stochastic_depth: float) -> int:
    """Number of rows of a batch whose codes are not corrected in a training step."""
    return int(stochastic_depth * n_rows)


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


def _product_in_onednn(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    if not onednn.is_large(len(a), *b.shape):
        return torch.mm(a, b, out=out)
    result = onednn.linear(a, b.T)
    return result if out is None else out.copy_(result)


def _affine_in_onednn(bias: ArrayPair, a: Tensor, b: Tensor, out: ArrayPair) -> None:
    if onednn.is_large(len(a), *b.shape):
        out.tensor.copy_(onednn.linear(a, b.T, bias.tensor[0]))
    else:
        _affine_in_torch(bias, a, b, out)


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

ONEDNN = TORCH._replace(product=_product_in_onednn, affine=_affine_in_onednn)

# The same for stacks of matrices, (n_models, n_rows, width).
BATCHED_NUMPY = NUMPY._replace(product=np.matmul, affine=_affine_of_each, squares=_squares_of_each)
BATCHED_TORCH = TORCH._replace(
    product=torch.bmm, affine=_affine_of_each_in_torch, squares=_squares_of_each_in_torch
)


def _squared_error_gradient(
    decoded: ArrayPair, x: ArrayPair, backend: ArrayBackend, weights: ArrayPair | None = None
) -> Any:
    difference, n_rows = decoded.array, x.array.shape[-2]
    difference -= x.array
    if weights is None:
        loss = backend.squares(difference) / n_rows
        difference *= 2 / n_rows
        return loss
    roots = (weights.array / n_rows) ** 0.5
    difference *= roots
    loss = backend.squares(difference)
    difference *= 2 * roots
    return loss


def _absolute_error_gradient(
    decoded: ArrayPair, x: ArrayPair, backend: ArrayBackend, weights: ArrayPair | None = None
) -> Any:
    loss = decoded.tensor.sub_(x.tensor).abs()
    return _mean_loss(loss, decoded.tensor.sign_(), backend, weights)


def _huber_gradient(
    decoded: ArrayPair, x: ArrayPair, backend: ArrayBackend, weights: ArrayPair | None = None
) -> Any:
    loss = F.huber_loss(decoded.tensor, x.tensor, reduction="none")
    return _mean_loss(loss, decoded.tensor.sub_(x.tensor).clamp_(-1, 1), backend, weights)


def _cross_entropy_gradient(
    decoded: ArrayPair, x: ArrayPair, backend: ArrayBackend, weights: ArrayPair | None = None
) -> Any:
    loss = F.binary_cross_entropy_with_logits(decoded.tensor, x.tensor, reduction="none")
    return _mean_loss(loss, decoded.tensor.sigmoid_().sub_(x.tensor), backend, weights)


def _mean_loss(
    losses: Tensor, slopes: Tensor, backend: ArrayBackend, weights: ArrayPair | None
) -> Any:
    """Mean loss of the rows, given that of each entry; turns slopes into its gradient."""
    n_rows = losses.shape[-2]
    slopes.div_(n_rows)
    if weights is not None:
        losses = losses.mul_(weights.tensor)
        slopes.mul_(weights.tensor)
    return backend.view(losses.sum((-2, -1)) / n_rows)


# Each returns the mean loss of the rows, whose weights (..., n_rows, 1) may be given, and
# overwrites the reconstructions with its gradient.
LOSS_GRADIENTS: dict[Callable[..., Tensor], Callable[..., Any]] = {
    squared_error: _squared_error_gradient,
    absolute_error: _absolute_error_gradient,
    huber: _huber_gradient,
    binary_cross_entropy: _cross_entropy_gradient,
}


class ClosedFormMLP:
    """Forward and backward pass of an MLP, or of several with a leading axis of models.

    The `grad` of the parameters must exist. It is overwritten.
    """

    def __init__(self, mlp: Iterable[nn.Module], backend: ArrayBackend):
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
    `empty` allocates tensors, as `torch.empty`.
    """

    def __init__(self, mlp: ClosedFormMLP, backend: ArrayBackend, n_rows: int, empty: Any = None):
        empty = empty or mlp.weights[0].tensor.new_empty
        n_models = mlp.weights[0].tensor.shape[:-2]
        shapes = [weight.tensor.shape[-2:] for weight in mlp.weights]
        self.results = [backend.pair(empty(*n_models, n_rows, n_out)) for n_out, _ in shapes]
        self.input_grads = [backend.pair(empty(*n_models, n_rows, n_in)) for _, n_in in shapes]
        self.ones = backend.view(empty(*n_models, 1, n_rows).fill_(1))
        self.linear = backend.view(empty(*n_models, n_rows, shapes[-1][0]))
        last = self.results[-1].tensor
        self.kept = torch.empty_like(last) if mlp.ends_active else None


class HeadGradient:
    """Gradient of the loss of a linear head on codes, in closed form.

    Parameters, buffers and codes may have a leading axis of models.
    """

    def __init__(self, network: PredictingNetwork, objective: SupervisedObjective):
        layer: Any = network.head[0]
        self.objective = objective
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach().unsqueeze(-2)
        self.gradients = layer.weight.grad, layer.bias.grad
        self.is_trained = layer.weight.requires_grad
        self.center = network.center.to(self.weight.dtype).unsqueeze(-2)
        self.scale = network.scale.to(self.weight.dtype).unsqueeze(-2)

    def outputs(self, codes: Tensor) -> Tensor:
        """Outputs of the head, (..., n_rows, n_columns)."""
        return self._outputs((codes - self.center) / self.scale)

    def _outputs(self, standardized: Tensor) -> Tensor:
        return standardized @ self.weight.mT + self.bias

    def __call__(
        self, codes: Tensor, columns: Tensor, weights: ArrayPair | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean loss of the rows, and its gradient with respect to their codes.

        `weights` (..., n_rows, 1) are those of the rows.
        """
        standardized = (codes - self.center) / self.scale
        loss, of_outputs = self.objective.head_losses_and_gradient(
            self._outputs(standardized), columns, None if weights is None else weights.tensor
        )
        if self.is_trained:
            self.gradients[0].copy_(of_outputs.mT @ standardized)
            self.gradients[1].copy_(of_outputs.sum(dim=-2))
        return loss, of_outputs @ self.weight / self.scale


class CodecWorkspace(NamedTuple):
    """Workspaces of an encoder and a decoder, and arrays (..., n_rows, n_components).

    `codes` are the codes, `linear` is for the skip connection around the decoder.
    """

    encoder: Workspace
    decoder: Workspace
    codes: ArrayPair
    linear: Any


def pair_of(network: Any) -> Any:
    """Encoder and decoder of a network, which corrects PCA by them if it is anchored."""
    return network.network if isinstance(network, Anchored) else network


class ClosedForm:
    """Parts of the closed forms: two MLPs, the head if there is one, and the stochastic depth."""

    empty: Any = None  # allocates the arrays of workspaces, as `torch.empty`

    def __init__(
        self,
        network: Any,
        objective: Objective,
        backend: ArrayBackend,
        stochastic_depth: float = 0.0,
    ):
        self.head, self.n_features = _head_of(network, objective)
        self.network, self.backend = without_head(network), backend
        pair = pair_of(self.network)
        self.stochastic_depth = stochastic_depth if pair is not self.network else 0.0
        self.encoder, self.decoder = (
            ClosedFormMLP(pair.encoder, backend),
            ClosedFormMLP(pair.decoder, backend),
        )
        self.dtype = self.encoder.weights[0].tensor.dtype

    def _columns_of(self, weights: Tensor | None) -> ArrayPair | None:
        """Weights of rows as a column, (..., n_rows, 1)."""
        return None if weights is None else self.backend.pair(weights.unsqueeze(-1))


class ClosedFormGradient(ClosedForm):
    """Gradient of an autoencoder of two MLPs, anchored or not, in closed form.

    Parameters, buffers and rows may have a leading axis of models. The code may have a linear
    head that predicts targets, which are columns behind the features of rows.

    For rows x, the code is z = f(x) + V x and the reconstruction x̂ = g(z) + Vᵀ z. The gradient
    with respect to z is that through g, plus V times the gradient with respect to x̂. Without an
    anchor, V is zero. For the first rows of each batch, a share of `stochastic_depth`, f is left
    out.
    """

    def __init__(
        self,
        network: Any,
        objective: Objective,
        backend: ArrayBackend,
        stochastic_depth: float = 0.0,
    ):
        super().__init__(network, objective, backend, stochastic_depth)
        self.loss_gradient = LOSS_GRADIENTS[next(iter(objective.terms.values()))]
        self.components: ArrayPair | None = None
        if isinstance(self.network, AnchoredAutoencoder):
            self.components = backend.pair(self.network.components.to(self.dtype))
        self.workspaces: dict[tuple[int, int], CodecWorkspace] = {}

    @staticmethod
    def covers(network: Any, objective: Objective) -> bool:
        """Whether this closed form is that of the network and the objective."""
        is_supervised = _is_supervised(network, objective)
        network = without_head(network)
        pair = network
        if type(network) is AnchoredAutoencoder and network.gates is None:
            pair = network.network
        terms = list(objective.terms.values())
        return (
            type(pair) is Autoencoder
            and all(_has_closed_form(mlp) for mlp in (pair.encoder, pair.decoder))
            and len(terms) == 1
            and terms[0] in LOSS_GRADIENTS
            and is_supervised is not None
            and objective.weights.keys() == ({"target"} if is_supervised else set())
        )

    def _workspace(self, n_rows: int, n_plain: int) -> CodecWorkspace:
        if (n_rows, n_plain) not in self.workspaces:
            encoder = Workspace(self.encoder, self.backend, n_rows - n_plain, self.empty)
            decoder = Workspace(self.decoder, self.backend, n_rows, self.empty)
            like_codes = decoder.input_grads[0].tensor
            codes = encoder.results[-1]
            if self.components is not None:
                codes = self.backend.pair(torch.empty_like(like_codes))
            linear = self.backend.view(torch.empty_like(like_codes))
            self.workspaces[n_rows, n_plain] = CodecWorkspace(encoder, decoder, codes, linear)
        return self.workspaces[n_rows, n_plain]

    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        n_plain = n_uncorrected(x.shape[-2], self.stochastic_depth)
        work = self._workspace(x.shape[-2], n_plain)
        target, V = self.backend.pair(x[..., : self.n_features]), self.components
        rows = target if noise is None else self.backend.pair(noise)
        some = self._without_first(rows, n_plain)
        decoded = self._forward(rows, some, work, n_plain)
        of_rows = self._columns_of(weights)
        loss = self.loss_gradient(decoded, target, self.backend, of_rows)  # overwrites `decoded`
        self.decoder.backward(work.codes, work.decoder, decoded, to_input=True)
        grad = work.decoder.input_grads[0]
        if V is not None:
            self._add_product(grad, decoded, V.transposed, work.linear)
        if self.head is not None:
            columns = x[..., self.n_features :]
            of_head, head_grad = self.head(work.codes.tensor, columns, of_rows)
            loss = loss + self.backend.view(of_head)
            grad.tensor.add_(head_grad)
        grad = self._without_first(grad, n_plain)
        self.encoder.backward(some, work.encoder, grad, to_input=False)
        return {"loss": loss}

    def _without_first(self, rows: ArrayPair, n_rows: int) -> ArrayPair:
        """Rows after the first ones."""
        return self.backend.pair(rows.tensor[..., n_rows:, :]) if n_rows else rows

    def output(self, x: Tensor, noise: Tensor | None = None) -> Output:
        """Output of the network, without gradients. The next call overwrites it."""
        x = x[..., : self.n_features]
        rows = self.backend.pair(x if noise is None else noise)
        work = self._workspace(x.shape[-2], 0)
        decoded = self._forward(rows, rows, work, 0).tensor
        codes = work.codes.tensor
        output = Output(decoded, codes, None if noise is None else noise != x)
        if self.head is None:
            return output
        return output._replace(prediction=self.head.outputs(codes))

    def _forward(
        self, rows: ArrayPair, some: ArrayPair, work: CodecWorkspace, n_plain: int
    ) -> ArrayPair:
        """Compute codes in the workspace, and return reconstructions (..., n_rows, n_features).

        The codes of `some` rows, those after the first `n_plain`, are corrected.
        """
        V, codes = self.components, work.codes.array
        self.encoder.forward(some, work.encoder)
        if V is not None:
            self.backend.product(rows.array, V.transposed, out=codes)
            corrected = codes[..., n_plain:, :]
            corrected += work.encoder.results[-1].array
        self.decoder.forward(work.codes, work.decoder)
        decoded = work.decoder.results[-1]
        if V is not None:
            self._add_product(decoded, work.codes, V.array, work.decoder.linear)
        return decoded

    def _add_product(self, result: ArrayPair, a: ArrayPair, b: Any, out: Any) -> None:
        """Add ``a @ b``, which is computed in `out`, to a result."""
        array = result.array
        array += self.backend.product(a.array, b, out=out)


class VariationalGradient(ClosedForm):
    """Gradient of the evidence lower bound of a VAE of two MLPs, in closed form.

    Parameters, buffers and rows may have a leading axis of models.

    The posterior has mean m and log-variance v, and the code is z = m + ε exp(v / 2). Let G be
    the gradient of the loss with respect to z. The gradient with respect to m is G + β m / n,
    and with respect to v it is G ε exp(v / 2) / 2 + β (exp(v) - 1) / (2 n), for n rows. For the
    first rows of each batch, a share of `stochastic_depth`, the encoder's MLP is left out.
    """

    def __init__(
        self,
        network: Any,
        objective: Objective,
        backend: ArrayBackend,
        stochastic_depth: float = 0.0,
    ):
        super().__init__(network, objective, backend, stochastic_depth)
        self.objective = objective
        network, dtype = self.network, self.dtype
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
        # Mean over a batch, given that over the rows that are passed: here, these are all.
        self.over_batch: Callable[[Any], Any] = lambda mean: mean
        self.workspaces: dict[int, tuple[Workspace, Workspace, ArrayPair]] = {}

    @staticmethod
    def covers(network: Any, objective: Objective) -> bool:
        """Whether this closed form is that of the network and the objective."""
        is_supervised = _is_supervised(network, objective)
        network, terms = without_head(network), objective.terms
        return (
            type(network) is VariationalAutoencoder
            and network.gates is None
            and type(network.network) is Autoencoder
            and all(_has_closed_form(m) for m in (network.network.encoder, network.network.decoder))
            and terms.keys() == {"reconstruction", "kl"}
            and terms["reconstruction"] in (gaussian_nll, binary_cross_entropy)
            and type(terms["kl"]) is KL
            and is_supervised is not None
            and objective.weights.keys() <= {"kl", "target"}
        )

    def _workspaces(self, n_rows: int) -> tuple[Workspace, Workspace, ArrayPair]:
        if n_rows not in self.workspaces:
            encoder, decoder = (
                Workspace(mlp, self.backend, n_rows, self.empty)
                for mlp in (self.encoder, self.decoder)
            )
            codes = self.backend.pair(torch.empty_like(decoder.input_grads[0].tensor))
            self.workspaces[n_rows] = encoder, decoder, codes
        return self.workspaces[n_rows]

    def __call__(
        self, x: Tensor, noise: Any = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        encoder, decoder, z = self._workspaces(x.shape[-2])
        x, columns = x[..., : self.n_features], x
        rows, draws = self.backend.pair(x), self.backend.view(noise)
        product, exp = self.backend.product, self.backend.exp
        self.encoder.forward(rows, encoder)
        n_plain = n_uncorrected(x.shape[-2], self.stochastic_depth)
        encoder.results[-1].array[..., :n_plain, :] = 0
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
        of_rows = self._columns_of(weights)
        loss = self._reconstruction(decoded, rows, of_rows)  # overwrites `decoded`
        self.decoder.backward(z, decoder, decoded, to_input=True)
        grad = decoder.input_grads[0].array
        grad += product(decoded.array, self.decoding.transposed, out=z.array)
        head_grad = None
        if self.head is not None:
            n_components = z.tensor.shape[-1]
            means = encoder.results[-1].tensor[..., :n_components]
            of_head, head_grad = self.head(means, columns[..., self.n_features :], of_rows)
            loss = loss + self.backend.view(of_head)
        loss = loss + self._divergence(encoder.results[-1], grad, draws * std, of_rows)
        if head_grad is not None:
            means.add_(head_grad)
        encoder.results[-1].array[..., :n_plain, :] = 0
        self.encoder.backward(rows, encoder, encoder.results[-1], to_input=False)
        return {"loss": loss}

    def _halves(self, posterior: ArrayPair) -> tuple[Any, Any]:
        """Views of means and log-variances, each (..., n_rows, n_components)."""
        n_components = posterior.tensor.shape[-1] // 2
        return posterior.array[..., :n_components], posterior.array[..., n_components:]

    def _reconstruction(self, decoded: ArrayPair, x: ArrayPair, weights: ArrayPair | None) -> Any:
        """Mean reconstruction loss of the rows; overwrites `decoded` with its gradient."""
        if not self.is_gaussian:
            return _cross_entropy_gradient(decoded, x, self.backend, weights)
        difference, (n_rows, n_features) = decoded.array, decoded.tensor.shape[-2:]
        variance: Any = self.variance
        difference -= x.array
        # The variance is that of the batch by its own weights, whose mean need not be one.
        mean_weight: Any = 1.0 if weights is None else weights.array.mean(-2)
        mean_of_all = mean_weight if weights is None else mean_weight[..., 0]
        roots = 1.0 if weights is None else weights.array**0.5
        if weights is not None:
            difference *= roots
        if self.is_per_feature:
            squares = (difference * difference).mean(-2) / mean_weight
        else:
            squares = self.backend.squares(difference) / (n_rows * n_features) / mean_of_all
        squares = self.over_batch(squares)
        update_noise_variance(variance, squares)
        precision: Any = self.precision
        precision[...] = (1 / (n_rows * variance)).reshape(precision.shape)
        difference *= precision
        if weights is not None:
            difference *= roots
        each = squares / variance + self.backend.log(2 * math.pi * variance)
        of_features = each.sum(-1) if self.is_per_feature else n_features * each
        return 0.5 * mean_of_all * of_features

    def _divergence(
        self, posterior: ArrayPair, grad: Any, deviations: Any, weights: ArrayPair | None
    ) -> Any:
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
        share = share if weights is None else share * weights.array
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
        if weights is None:
            return divergence.sum((-2, -1)) * share
        return (divergence * share).sum((-2, -1))


def _head_of(network: Any, objective: Any) -> tuple[HeadGradient | None, int | None]:
    """Gradient of the network's head, and the number of features; None without a head."""
    if not isinstance(network, PredictingNetwork):
        return None, None
    return HeadGradient(network, objective), network.n_features


def _is_supervised(network: Any, objective: Objective) -> bool | None:
    """Whether there is a head, and the objective has its loss; None if they do not fit."""
    has_head = isinstance(network, PredictingNetwork)
    return has_head if has_head == isinstance(objective, SupervisedObjective) else None


def _has_closed_form(mlp: nn.Module) -> bool:
    activations = {type(layer) for layer in mlp.children()} - {Linear}
    is_plain = len(activations) <= 1 and activations <= DERIVATIVES.keys()
    return type(mlp) is MLP and is_plain and all(p.requires_grad for p in mlp.parameters())


def closed_form_for(network: Any, objective: Objective) -> Any:
    """Class of the closed-form gradient of a network and an objective, or None."""
    kinds = ClosedFormGradient, VariationalGradient
    return next((kind for kind in kinds if kind.covers(network, objective)), None)


def make_gradient(
    network: Any,
    objective: Objective,
    gradient: Tensor,
    *,
    by_autograd: bool,
    stochastic_depth: float = 0.0,
) -> Gradient:
    """Choose the fastest training step: a closed form if there is one, else autograd.

    `by_autograd` requires autograd: if a callback reads the output of each batch.
    """
    kind = None if by_autograd else closed_form_for(network, objective)
    if kind is None:
        return AutogradGradient(network, objective, gradient, stochastic_depth)
    return kind(network, objective, backend_for(network, gradient), stochastic_depth)


def backend_for(network: nn.Module, gradient: Tensor) -> ArrayBackend:
    """Return the fastest library: oneDNN for wide layers, numpy on one thread, else torch."""
    if not gradient.is_cpu:
        return TORCH
    widest = max((p.numel() for p in network.parameters() if p.ndim == 2), default=0)
    if widest >= WIDE_LAYER and gradient.dtype == torch.float32 and onednn.has_fast_onednn():
        return ONEDNN
    return NUMPY if torch.get_num_threads() == 1 else TORCH
