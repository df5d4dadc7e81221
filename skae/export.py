"""Export of fitted estimators as ONNX models, which run without skae."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.polynomial import chebyshev
from scipy.special import erfcx
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skae._data.optional_imports import import_optional
from skae._data.version import __version__
from skae.networks.convolutional import (
    Convolution,
    FromPatches,
    ResidualBlock,
    ToGrid,
    ToPatches,
)
from skae.networks.dense import CODE_FADE, CODE_REACH, LOG_VAR_BOUNDS, Linear
from skae.networks.inference import Affine, Cast, Corrected, Standardize, Unshrink, ViewCodes
from skae.networks.mesh import ChebyshevConvolution, FromClusters, GraphBlock, ToClusters
from skae.networks.multiview import EXPERT_BOUNDS, SMALLEST_SUM, MultiViewExperts, ViewDecoders
from skae.networks.serialization import activation_name, network_to_config
from skae.networks.sparse import KeepLargest, Rectify, Squash

METHODS = ("transform", "inverse_transform", "reconstruct")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
OPSET, IR_VERSION = 18, 8  # of 2022, for older runtimes
ERF_CENTRE, ERF_DEGREE = 3.75, 20


def to_onnx(estimator: Any, method: str = "transform", *, dtype: str = "float32") -> Any:
    """Convert a fitted estimator to an ONNX model that includes centring, scaling and whitening.

    The model has one input, "X", and one output, "Y", with any number of rows. Its network
    computes in `dtype`; centring, scaling and all linear maps are computed in float64, so that
    raw columns of different units keep their precision. Rows are not checked: NaN stays NaN.

    Of a `TableAutoencoder`, "transform" is exported. Its input are the numbers that `to_numbers`
    returns: categories as codes, NaN in gaps, which the model fills as the estimator does.

    Parameters
    ----------
    estimator : estimator of skae
        Fitted.
    method : {"transform", "inverse_transform", "reconstruct"}, default="transform"
        What the model computes.
    dtype : {"float32", "float64"}, default="float32"
        Type of the input, of the output and of the network.

    Returns
    -------
    onnx.ModelProto
        With operator set 18. ``onnx.save(model, path)`` writes it to a file,
        ``model.SerializeToString()`` to bytes.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If there is no such method or dtype, or if the method of a table is not exported.
    TypeError
        If the estimator is not one of skae, or has no codes.
    ImportError
        If onnx is absent: ``pip install 'skae[export]'``. Your own networks and activations are
        exported by torch, which also needs onnxscript.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderTransformer
    >>> from skae.export import to_onnx
    >>> X, _ = load_wine(return_X_y=True)
    >>> model = to_onnx(AutoencoderTransformer(3, max_epochs=5, random_state=0).fit(X))
    >>> [output.name for output in model.graph.output]
    ['Y']
    """
    _check(estimator, method, dtype)
    onnx = import_optional("onnx", extra="export")
    steps = estimator._as_module(method, DTYPES[dtype])
    shape = estimator.n_features_in_, estimator.n_components_
    n_in, n_out = {"transform": shape, "inverse_transform": shape[::-1]}.get(method, shape[:1] * 2)
    if all(map(_can_write, steps.modules())):
        model = _write(onnx, steps, dtype, n_in, n_out)
    else:
        model = _export_by_torch(steps, DTYPES[dtype], n_in)
    model.producer_name, model.producer_version = "skae", __version__
    model.doc_string = f"{type(estimator).__name__}.{method}"
    return model


def _check(estimator: Any, method: str, dtype: str) -> None:
    for name, value, choices in (("method", method, METHODS), ("dtype", dtype, DTYPES)):
        if value not in choices:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}.")
    if not hasattr(estimator, "_as_module"):
        raise TypeError(
            f"{estimator!r} is no estimator of skae with codes, which alone can be exported; "
            "skl2onnx exports scikit-learn's, and onnx.compose.merge_models joins models."
        )
    check_is_fitted(estimator)


def _can_write(step: nn.Module) -> bool:
    """Whether the graph of a step can be written here, without torch's exporter."""
    return not isinstance(step, Corrected) or network_to_config(step.correction) is not None


def _export_by_torch(steps: nn.Sequential, dtype: torch.dtype, n_in: int) -> Any:
    """Let torch trace the graph of a user's module."""
    import_optional("onnxscript", extra="export")
    program: Any = torch.onnx.export(
        steps,
        (torch.zeros(2, n_in, dtype=dtype),),
        input_names=["X"],
        output_names=["Y"],
        dynamic_shapes=({0: torch.export.Dim("n_rows", max=2**62)},),  # torch 2.6 asks for an end
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    return program.model_proto


def _write(onnx: Any, steps: nn.Sequential, dtype: str, n_in: int, n_out: int) -> Any:
    """Write the graph of steps that skae knows."""
    graph = _Graph(onnx)
    last = "X"
    step: Any
    for step in steps:
        last = graph.write(last, step)
    graph.nodes[-1].output[:] = ["Y"]
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs, outputs = (
        [helper.make_tensor_value_info(name, kind, ["n_rows", n_columns])]
        for name, n_columns in (("X", n_in), ("Y", n_out))
    )
    onnx_graph = helper.make_graph(graph.nodes, "skae", inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(onnx_graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants of an ONNX graph that is built from its input to its output."""

    def __init__(self, onnx: Any):
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: Any, n_outputs: int = 1, **attributes: Any) -> Any:
        """Add a node, and return the name of its output, or a list of names.

        Inputs are names of outputs, or tensors, which become constants.
        """
        names = [name if isinstance(name, str) else self.constant(name) for name in inputs]
        outputs = [f"{operator}_{len(self.nodes)}" + "_" * i for i in range(n_outputs)]
        self.nodes.append(self.onnx.helper.make_node(operator, names, outputs, **attributes))
        return outputs if n_outputs > 1 else outputs[0]

    def write(self, x: str, step: Any) -> str:
        """Add the nodes of a step, and return the name of its output."""
        writer = WRITERS.get(type(step))
        output: str = writer(self, x, step) if writer else step.write(self, x)
        return output

    def constant(self, tensor: torch.Tensor) -> str:
        """Add a constant, and return its name."""
        name = f"constant_{len(self.constants)}"
        array = tensor.detach().contiguous().numpy()
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def cast(self, x: str, dtype: torch.dtype) -> str:
        """Add a conversion to float32 or float64, and return the name of its output."""
        types = self.onnx.TensorProto
        return self.add("Cast", x, to=types.DOUBLE if dtype == torch.float64 else types.FLOAT)


# -- one function per step ---------------------------------------------------------


def _write_standardise(graph: _Graph, x: str, step: Any) -> str:
    # One factor per feature, as onnxruntime would fuse a scalar into the next product in float32.
    return graph.add("Div", graph.add("Sub", x, step.center), step.scale.expand_as(step.center))


def _write_affine(graph: _Graph, x: str, step: Any) -> str:
    if step.matrix.ndim:
        x = graph.add("MatMul", x, step.matrix)
    else:
        x = graph.add("Mul", x, step.matrix.expand_as(step.offset))
    return x if step.offset is None else graph.add("Add", x, step.offset)


def _write_corrected(graph: _Graph, x: str, step: Any) -> str:
    at = x if step.inputs is None else graph.add("Mul", x, step.inputs)
    far = None
    if step.region is not None:
        low, high = step.region
        nearest = graph.add("Min", graph.add("Max", at, low), high)
        far = graph.add("Sub", at, nearest)
        if step.unit is not None:
            reach = step.unit * (CODE_REACH / CODE_FADE)
            within = graph.add("Mul", graph.add("Tanh", graph.add("Div", far, reach)), reach)
            at = graph.add("Add", nearest, within)
    added = _write_layer(graph, graph.cast(at, step.dtype), step.correction, step.dtype)
    if step.correction.n_outputs > step.n_columns:
        added = _write_columns(graph, added, 0, step.n_columns)
    added = graph.cast(added, torch.float64)
    if step.gate != 1:
        added = graph.add("Mul", added, torch.tensor(step.gate, dtype=torch.float64))
    if step.outputs is not None:
        added = graph.add("Mul", added, step.outputs)
    if far is not None:
        added = graph.add("Mul", added, _write_fade(graph, far, step.unit))
    if step.affine is None:
        return added
    return graph.add("Add", added, _write_affine(graph, x, step.affine))


def _write_fade(graph: _Graph, far: str, unit: torch.Tensor | None) -> str:
    far = far if unit is None else graph.add("Div", far, unit)
    squares = graph.add("ReduceMean", graph.add("Mul", far, far), torch.tensor([1]), keepdims=1)
    return graph.add("Exp", graph.add("Mul", squares, torch.tensor(-0.5, dtype=torch.float64)))


def _write_unshrink(graph: _Graph, x: str, step: Any) -> str:
    k = step.n_components
    mean, log_var = (_write_columns(graph, x, first, k) for first in (0, k))
    low, high, one = (
        torch.tensor(number, dtype=torch.float64) for number in (*LOG_VAR_BOUNDS, 1.0)
    )
    variance = graph.add("Exp", graph.add("Min", graph.add("Max", log_var, low), high))
    return graph.add("Div", mean, graph.add("Max", graph.add("Sub", one, variance), step.divisor))


def _write_columns(graph: _Graph, x: str, start: int, n_columns: int) -> str:
    """Take some columns of an array."""
    return graph.add("Slice", x, *(torch.tensor([n]) for n in (start, start + n_columns, 1)))


def _write_view_codes(graph: _Graph, x: str, step: Any) -> str:
    """Write `MultiViewNetwork.encode`, with one sum for the share of each view."""
    network, one = step.network, torch.ones((), dtype=torch.float64)
    n_views, n_outputs = network.encoding.shape[:2]
    missing = graph.add("IsNaN", x)
    gaps = graph.cast(graph.add("Gather", missing, torch.tensor(network.firsts), axis=1), one.dtype)
    there = graph.add("Sub", one, gaps)
    x = graph.add("Where", missing, torch.zeros((), dtype=torch.float64), x)
    encoded = _write_encoders(graph, x, step)

    def output(view: int, start: int, n_columns: int) -> str:
        return _write_columns(graph, encoded, view * n_outputs + start, n_columns)

    s, p, shared, private = network.n_shared, network.n_private, "", []
    if isinstance(network, MultiViewExperts):
        weights = [_write_columns(graph, there, i, 1) for i in range(n_views)]
        experts = [(output(i, 0, s), output(i, s, s)) for i in range(n_views)]
        return _write_mean_of_experts(graph, weights, experts, network)
    for i in range(n_views):
        weights = graph.add("Mul", there, network.reliability[:, i].contiguous())
        total = graph.add("ReduceSum", weights, torch.tensor([1]), keepdims=1)
        weights = graph.add("Div", weights, graph.add("Max", total, one * SMALLEST_SUM))
        weights = graph.add("Mul", weights, _write_columns(graph, gaps, i, 1))
        share = graph.add("Mul", _write_columns(graph, there, i, 1), output(i, i * s, s))
        for j in set(range(n_views)) - {i}:
            weight = _write_columns(graph, weights, j, 1)
            share = graph.add("Add", share, graph.add("Mul", weight, output(j, i * s, s)))
        shared = graph.add("Add", shared, share) if shared else share
    if not p:
        return shared
    explained = graph.add("MatMul", shared, network.shared_in_private)
    for i in range(n_views):
        own = output(i, n_views * s, p)
        own = graph.add("Sub", own, _write_columns(graph, explained, i * p, p))
        private.append(graph.add("Mul", own, _write_columns(graph, there, i, 1)))
    return graph.add("Concat", shared, *private, axis=1)


def _write_mean_of_experts(
    graph: _Graph, there: list[str], experts: list[tuple[str, str]], network: MultiViewExperts
) -> str:
    """Write `MultiViewExperts.combine`, without the variance."""
    low, high, one = (torch.tensor(n, dtype=torch.float64) for n in (*EXPERT_BOUNDS, 1.0))
    total = mean = ""
    for weight, (own, log_var), constant in zip(there, experts, network.log_variances, strict=True):
        if not network.mixes:
            log_var = graph.add("Add", log_var, constant)
            log_var = graph.add("Min", graph.add("Max", log_var, low), high)
            weight = graph.add("Mul", weight, graph.add("Exp", graph.add("Neg", log_var)))
        weighted = graph.add("Mul", weight, own)
        mean = graph.add("Add", mean, weighted) if mean else weighted
        total = graph.add("Add", total, weight) if total else weight
    return graph.add("Div", mean, total if network.mixes else graph.add("Add", total, one))


def _write_encoders(graph: _Graph, x: str, step: Any) -> str:
    """Write what all encoders of views return, side by side."""
    network, parts = step.network, step.network.network.encoder
    narrow, columns = graph.cast(x, step.dtype), parts.order.split(parts.sizes)
    each = [
        _write_layer(graph, graph.add("Gather", narrow, its, axis=1), part, step.dtype)
        for part, its in zip(parts.parts, columns, strict=True)
    ]
    added = graph.cast(graph.add("Concat", *each, axis=1), torch.float64)
    if network.row_region is not None:
        low, high = network.row_region
        far = graph.add("Sub", x, graph.add("Min", graph.add("Max", x, low), high))
        added = graph.add("Mul", added, _write_fade(graph, far, None))
    linear = network.encoding.flatten(0, 1).T.contiguous()
    return graph.add("Add", added, graph.add("MatMul", x, linear))


def _write_largest(graph: _Graph, x: str, step: Any) -> str:
    values, places = graph.add("TopK", x, torch.tensor([int(step.value)]), n_outputs=2)
    zeros = graph.add("Sub", x, x)
    return graph.add("ScatterElements", zeros, places, values, axis=1)


def _write_rectify(graph: _Graph, x: str, step: Any) -> str:
    threshold = torch.tensor(step.value, dtype=torch.float64)
    return graph.add("Relu", graph.add("Sub", x, threshold))


def _write_squash(graph: _Graph, x: str, step: Any) -> str:
    squashed = graph.add("Sigmoid", x)
    above = graph.add("Greater", squashed, torch.tensor(step.value, dtype=torch.float64))
    return graph.add("Mul", squashed, graph.cast(above, torch.float64))


WRITERS: dict[type[nn.Module], Callable[[_Graph, str, Any], str]] = {
    Cast: lambda graph, x, step: graph.cast(x, step.dtype),
    Standardize: _write_standardise,
    Affine: _write_affine,
    Corrected: _write_corrected,
    Unshrink: _write_unshrink,
    ViewCodes: _write_view_codes,
    KeepLargest: _write_largest,
    Rectify: _write_rectify,
    Squash: _write_squash,
    nn.Sigmoid: lambda graph, x, step: graph.add("Sigmoid", x),
}


# -- one function per layer --------------------------------------------------------


def _write_layer(graph: _Graph, x: str, layer: nn.Module, dtype: torch.dtype) -> str:
    """Write a layer, or a sequence of layers."""
    writer = LAYERS.get(type(layer))
    if writer is not None:
        return writer(graph, x, layer, dtype)
    name = activation_name(layer)
    if name is not None:
        return ACTIVATIONS[name](graph, x, dtype)
    for inner in layer.children():
        x = _write_layer(graph, x, inner, dtype)
    return x


def _write_linear(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    return graph.add("Gemm", x, layer.weight, layer.bias, transB=1)


def _write_convolution(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    # A product with the neighbours of each place: onnxruntime has no convolution in float64.
    height, width = layer.kernel_size
    above, left = height // 2, width // 2
    if above or left:
        x = _write_padding(graph, x, (above, above, left, left), dtype)
    neighbours = [
        _write_slice(graph, x, (i, i - height + 1), (j, j - width + 1))
        for i in range(height)
        for j in range(width)
    ]
    if len(neighbours) > 1:
        x = graph.add("Concat", *neighbours, axis=3)
    weight = layer.weight.reshape(len(layer.weight), -1).T
    return graph.add("Add", graph.add("MatMul", x, weight), layer.bias)


def _write_padding(
    graph: _Graph, x: str, margins: tuple[int, int, int, int], dtype: torch.dtype
) -> str:
    """Add zeros to images: above, below, on the left and on the right."""
    above, below, left, right = margins
    zeros = torch.tensor([0, above, left, 0, 0, below, right, 0])
    return graph.add("Pad", x, zeros, torch.zeros((), dtype=dtype))


def _write_slice(graph: _Graph, x: str, down: tuple[int, int], across: tuple[int, int]) -> str:
    """Leave out so many lines and columns of images at the start, and (below zero) at the end."""
    if not any((*down, *across)):
        return x
    starts = torch.tensor([down[0], across[0]])
    ends = torch.tensor([last or torch.iinfo(torch.int64).max for last in (down[1], across[1])])
    return graph.add("Slice", x, starts, ends, torch.tensor([1, 2]))


def _write_reshape(graph: _Graph, x: str, *shape: int) -> str:
    return graph.add("Reshape", x, torch.tensor([-1, *shape]))


def _write_to_patches(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    grid = layer.grid
    height, width, n_channels, channels_first = grid.image
    if channels_first:
        x = _write_reshape(graph, x, n_channels, height, width)
        x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    else:
        x = _write_reshape(graph, x, height, width, n_channels)
    if any(grid.margins):
        x = _write_padding(graph, x, grid.margins, dtype)
    (down, across), patch = grid.shape, grid.patch
    x = _write_reshape(graph, x, down, patch[0], across, patch[1], n_channels)
    x = graph.add("Transpose", x, perm=[0, 1, 3, 2, 4, 5])
    return _write_reshape(graph, x, down, across, grid.n_entries)


def _write_from_patches(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    grid = layer.grid
    (down, across), patch, n_channels = grid.shape, grid.patch, grid.image.n_channels
    x = _write_reshape(graph, x, down, across, *patch, n_channels)
    x = graph.add("Transpose", x, perm=[0, 1, 3, 2, 4, 5])
    x = _write_reshape(graph, x, down * patch[0], across * patch[1], n_channels)
    above, below, left, right = grid.margins
    x = _write_slice(graph, x, (above, -below), (left, -right))
    if grid.image.channels_first:
        x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    return _write_reshape(graph, x, grid.image.n_features)


def _write_to_grid(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    return _write_reshape(graph, x, *layer.shape)


def _write_residual(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    return graph.add("Add", x, _write_layer(graph, x, layer.branch, dtype))


def _write_view_decoders(graph: _Graph, z: str, layer: Any, dtype: torch.dtype) -> str:
    s, p, views = layer.n_shared, layer.n_private, []
    for i, part in enumerate(layer.parts):
        code = z
        if p:
            private = _write_columns(graph, z, s + i * p, p)
            code = graph.add("Concat", _write_columns(graph, z, 0, s), private, axis=1)
        views.append(_write_layer(graph, code, part, dtype))
    return graph.add("Gather", graph.add("Concat", *views, axis=1), layer.order.argsort(), axis=1)


def _write_to_clusters(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    x = _write_reshape(graph, x, layer.n_vertices, layer.n_channels)
    x = graph.add("MatMul", layer.basis, x)
    return _write_reshape(graph, x, layer.n_clusters, layer.n_entries)


def _write_from_clusters(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    x = _write_reshape(graph, x, len(layer.basis), layer.n_channels)
    return _write_reshape(graph, graph.add("MatMul", layer.basis.T, x), layer.n_features)


def _write_chebyshev(graph: _Graph, x: str, layer: Any, dtype: torch.dtype) -> str:
    if layer.order > 1:
        polynomials = layer.polynomials.chunk(layer.order - 1)
        x = graph.add("Concat", x, *(graph.add("MatMul", each, x) for each in polynomials), axis=2)
    return graph.add("Add", graph.add("MatMul", x, layer.weight.T), layer.bias)


LAYERS: dict[type[nn.Module], Callable[[_Graph, str, Any, torch.dtype], str]] = {
    ViewDecoders: _write_view_decoders,
    Linear: _write_linear,
    Convolution: _write_convolution,
    ResidualBlock: _write_residual,
    GraphBlock: _write_residual,
    ChebyshevConvolution: _write_chebyshev,
    ToClusters: _write_to_clusters,
    FromClusters: _write_from_clusters,
    nn.Unflatten: lambda graph, x, layer, dtype: _write_reshape(graph, x, *layer.unflattened_size),
    ToPatches: _write_to_patches,
    FromPatches: _write_from_patches,
    ToGrid: _write_to_grid,
    nn.Flatten: lambda graph, x, layer, dtype: graph.add("Flatten", x),
}


# -- one function per activation ---------------------------------------------------


def _operator(operator: str) -> Callable[[_Graph, str, torch.dtype], str]:
    """Activation that is an ONNX operator with the same defaults as in torch."""
    return lambda graph, x, dtype: graph.add(operator, x)


def _write_erf(graph: _Graph, x: str) -> str:
    """Write the error function in float64, for which onnxruntime has no operator.

    For positive x, ``(1 + 2 x) exp(x ** 2) erfc(x)`` is a polynomial of ``(x - c) / (x + c)``, up
    to 3e-15 (Shepherd and Laframboise, 1981, https://doi.org/10.1090/S0025-5718-1981-0595058-X).
    """

    def number(value: float) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float64)

    c, size = number(ERF_CENTRE), graph.add("Abs", x)
    u = graph.add("Div", graph.add("Sub", size, c), graph.add("Add", size, c))
    *rest, last = map(number, _scaled_erfc_polynomial())
    scaled = graph.add("Add", graph.add("Mul", u, last), rest.pop())
    for coefficient in reversed(rest):
        scaled = graph.add("Add", graph.add("Mul", scaled, u), coefficient)
    decay = graph.add("Exp", graph.add("Neg", graph.add("Mul", size, size)))
    divisor = graph.add("Add", graph.add("Mul", size, number(2.0)), number(1.0))
    rest_of_one = graph.add("Div", graph.add("Mul", decay, scaled), divisor)
    return graph.add("Mul", graph.add("Sign", x), graph.add("Sub", number(1.0), rest_of_one))


@cache
def _scaled_erfc_polynomial() -> list[float]:
    """Coefficients of the polynomial of `_write_erf`, from the constant on."""

    def scaled(u: Any) -> Any:
        x = ERF_CENTRE * (1 + u) / (1 - u)
        return erfcx(x) * (1 + 2 * x)

    coefficients = chebyshev.cheb2poly(chebyshev.chebinterpolate(scaled, ERF_DEGREE))
    return list(map(float, coefficients))


def _write_gelu(graph: _Graph, x: str, dtype: torch.dtype) -> str:
    root = graph.add("Mul", x, torch.tensor(math.sqrt(0.5), dtype=dtype))
    is_double = dtype == torch.float64
    error = _write_erf(graph, root) if is_double else graph.add("Erf", root)
    share = graph.add("Add", error, torch.tensor(1.0, dtype=dtype))
    return graph.add("Mul", graph.add("Mul", x, share), torch.tensor(0.5, dtype=dtype))


def _write_silu(graph: _Graph, x: str, dtype: torch.dtype) -> str:
    # As a product with a sigmoid, onnxruntime fuses it to an operator without float64.
    shrunk = graph.add("Exp", graph.add("Neg", x))
    return graph.add("Div", x, graph.add("Add", shrunk, torch.ones((), dtype=dtype)))


ACTIVATIONS: dict[str, Callable[[_Graph, str, torch.dtype], str]] = {
    "relu": _operator("Relu"),
    "gelu": _write_gelu,
    "silu": _write_silu,
    "elu": _operator("Elu"),
    "leaky_relu": _operator("LeakyRelu"),
    "softplus": _operator("Softplus"),
    "tanh": _operator("Tanh"),
    "logistic": _operator("Sigmoid"),
    "identity": lambda graph, x, dtype: x,
}
