"""Networks of skae as plain configurations of values and arrays, as files hold them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae.networks.conditional import ConditionalCodec, ConditionalVariationalAutoencoder
from skae.networks.convolutional import (
    Convolution,
    FromPatches,
    Grid,
    ImageDecoder,
    ImageEncoder,
    ImagePart,
    ImageShape,
    ResidualBlock,
    ToGrid,
    ToPatches,
)
from skae.networks.dense import (
    ACTIVATIONS,
    MLP,
    AnchoredAutoencoder,
    Autoencoder,
    CodecPart,
    Linear,
    VariationalAutoencoder,
)
from skae.networks.mesh import (
    ChebyshevConvolution,
    FromClusters,
    GraphBlock,
    MeshDecoder,
    MeshEncoder,
    MeshGraph,
    MeshPart,
    ToClusters,
)
from skae.networks.multiview import (
    MultiViewExperts,
    MultiViewNetwork,
    ViewDecoders,
    ViewEncoders,
)
from skae.networks.sparse import LogisticNetwork, RectifiedNetwork, TopKNetwork
from skae.networks.supervised import HeadedNetwork

NetworkConfig = dict[str, Any]

# Shapes of the tensors of each kind: "d" is features, "k" components, "" a scalar; "x" and "z" are
# features and components with their condition. With views, "v" is views, "s" shared and "p" private
# components, "e" outputs of an encoder, "m" those of an expert. Where several are possible, "|"
# separates them.
SHAPES: dict[type[nn.Module], dict[str, str]] = {
    Autoencoder: {},
    AnchoredAutoencoder: {
        "components": "kd",
        "gates": "2|None",
        "row_region": "2d|None",
        "code_region": "3k|None",
    },
    VariationalAutoencoder: {
        "encoding": "kd",
        "decoding": "kd",
        "log_variances": "k",
        "center": "d|None",
        "offset": "d|None",
        "noise_variance": "|d|None",
        "gates": "2|None",
        "row_region": "2d|None",
        "code_region": "3k|None",
        "axes": "kd|None",
        "direct": "k|None",
        "divisor": "k|None",
        "shift": "k|None",
    },
    ConditionalCodec: {},
    ConditionalVariationalAutoencoder: {
        "encoding": "kx",
        "decoding": "zd",
        "log_variances": "k",
        "noise_variance": "",
        "row_region": "2x|None",
        "code_region": "3z|None",
    },
    MultiViewNetwork: {
        "encoding": "ved",
        "decoding": "kd",
        "reliability": "vv",
        "shared_in_private": "sp",
        "hidden_weight": "",
        "scales": "d",
        "row_region": "2d|None",
        "code_region": "3k|None",
    },
    MultiViewExperts: {
        "encoding": "vmd",
        "decoding": "kd",
        "log_variances": "vk",
        "noise_variance": "",
        "is_mixture": "",
        "scales": "d",
        "row_region": "2d|None",
        "code_region": "3k|None",
    },
    TopKNetwork: {"n_active": "", "n_kept": "", "idle": "k"},
    RectifiedNetwork: {"n_active": "", "penalty": "", "threshold": "", "idle": "k"},
    LogisticNetwork: {"n_active": "", "floor": "", "length": "", "activity": "k", "idle": "k"},
    HeadedNetwork: {"scale": ""},
}
LATER = {
    "row_region",
    "code_region",
    "axes",
    "direct",
    "divisor",
    "shift",
}  # may be missing in older files
# Networks inside a network; of other kinds there is one, `network`.
PARTS = {
    Autoencoder: ("encoder", "decoder"),
    ConditionalCodec: ("encoder", "decoder"),
    HeadedNetwork: ("network", "head"),
}
KINDS = {kind.__name__: kind for kind in SHAPES}
IMAGE_PARTS: dict[str, Any] = {"ImageEncoder": ImageEncoder, "ImageDecoder": ImageDecoder}
VIEW_PARTS: dict[str, Any] = {"ViewEncoders": ViewEncoders, "ViewDecoders": ViewDecoders}
MESH_PARTS: dict[str, Any] = {"MeshEncoder": MeshEncoder, "MeshDecoder": MeshDecoder}
# Modules of these parts that are no activations.
LAYERS_OF_PARTS = {
    ChebyshevConvolution,
    Convolution,
    FromClusters,
    FromPatches,
    GraphBlock,
    Linear,
    ResidualBlock,
    ToClusters,
    ToGrid,
    ToPatches,
    nn.Flatten,
    nn.Sequential,
    nn.Unflatten,
}
WEIGHTED = ChebyshevConvolution | Convolution | Linear


# -- from networks -----------------------------------------------------------------


def network_to_config(network: nn.Module) -> NetworkConfig | None:
    """Configuration of a network: plain values and arrays that it can be made from.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    dict or None
        Of strings, numbers, numpy arrays, and lists and dicts of these; arrays share the
        network's memory. None if any part is not one of skae.
    """
    if type(network) is MLP:
        return _mlp_to_config(network)
    if isinstance(network, ImagePart):
        return _image_part_to_config(network)
    if isinstance(network, ViewEncoders | ViewDecoders):
        return _view_parts_to_config(network)
    if isinstance(network, MeshPart):
        return _mesh_part_to_config(network)
    kind: Any = type(network)
    if kind not in SHAPES:
        return None
    parts = PARTS.get(kind, ("network",))
    inner = {name: network_to_config(getattr(network, name)) for name in parts}
    if None in inner.values():
        return None
    arrays = {name: _array(getattr(network, name)) for name in SHAPES[kind]}
    return {"kind": kind.__name__, **inner, **arrays}


def _mlp_to_config(network: MLP) -> NetworkConfig | None:
    layers, between = list(network)[::2], list(network)[1::2]
    names = {activation_name(module) for module in between}
    if any(type(layer) is not Linear for layer in layers) or None in names or len(names) > 1:
        return None
    linear: list[Any] = layers
    return {
        "kind": "MLP",
        "widths": [layer.in_features for layer in linear] + [linear[-1].out_features],
        "activation": names.pop() if names else "identity",
        "weights": [_array(layer.weight) for layer in linear],
        "biases": [_array(layer.bias) for layer in linear],
    }


def _image_part_to_config(network: ImagePart) -> NetworkConfig | None:
    activation = _activation_of(network)
    if type(network) not in IMAGE_PARTS.values() or activation is None:
        return None
    height, width, n_channels, channels_first = network.grid.image
    return {
        "kind": type(network).__name__,
        "image_shape": [height, width, n_channels],
        "channels_first": channels_first,
        "patch": list(network.grid.patch),
        "activation": activation,
        **_sizes_and_weights(network),
    }


def _mesh_part_to_config(network: MeshPart) -> NetworkConfig | None:
    activation = _activation_of(network)
    if type(network) not in MESH_PARTS.values() or activation is None:
        return None
    return {
        "kind": type(network).__name__,
        "basis": _array(network.basis),
        "laplacian": _array(network.laplacian),
        "n_graph_channels": network.n_graph_channels,
        "activation": activation,
        **_sizes_and_weights(network),
    }


def _sizes_and_weights(network: CodecPart) -> NetworkConfig:
    size = _size_of_codes(type(network))
    return {
        size: getattr(network, size),
        **network.options,
        "weights": [_array(layer.weight) for layer in _weighted(network)],
        "biases": [_array(layer.bias) for layer in _weighted(network)],
    }


def _view_parts_to_config(network: ViewEncoders | ViewDecoders) -> NetworkConfig | None:
    parts = [network_to_config(part) for part in network.parts]
    if None in parts:
        return None
    private = {"n_private": network.n_private} if isinstance(network, ViewDecoders) else {}
    order = _array(network.order)
    return {"kind": type(network).__name__, "parts": parts, "order": order, **private}


def _size_of_codes(kind: type[nn.Module]) -> str:
    """Argument of an encoder or a decoder that is the number of columns of codes."""
    return "n_outputs" if kind in (ImageEncoder, MeshEncoder) else "n_inputs"


def _activation_of(network: nn.Module) -> str | None:
    """Name of the activation between the layers of an encoder or decoder of images or meshes."""
    others = [module for module in network.modules() if type(module) not in LAYERS_OF_PARTS]
    names = {activation_name(module) for module in others if module is not network}
    if not names:
        return "identity"
    return names.pop() if len(names) == 1 else None


def activation_name(module: nn.Module) -> str | None:
    """Name of an activation.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    str or None
        Key of ``ACTIVATIONS``; None if there is no such activation with such settings.
    """
    for name, make in ACTIVATIONS.items():
        if type(module) is make and _settings(module) == _settings(make()):
            return name
    return None


def _settings(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if k[0] != "_" and k != "training"}


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().cpu().contiguous().numpy()


def sizes_of(network: nn.Module) -> tuple[int, int] | None:
    """Numbers of features and of components of a network of skae.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    tuple of two int, or None
        None if the network is not one of skae.
    """
    inner: Any = getattr(network, "network", network)
    if type(inner) is ConditionalCodec:
        encoder, decoder = _parts_of(inner)
        return decoder.n_outputs, encoder.n_outputs // 2
    kinds = MLP | ImageDecoder | MeshDecoder | ViewDecoders
    if type(inner) is not Autoencoder or not isinstance(inner.decoder, kinds):
        return None
    return inner.decoder.n_outputs, inner.decoder.n_inputs


def _parts_of(network: Any) -> tuple[Any, Any]:
    """Encoder and decoder."""
    return network.encoder, network.decoder


# -- back --------------------------------------------------------------------------


def network_from_config(config: NetworkConfig) -> nn.Module:
    """Make the network of a configuration, in evaluation mode.

    Parameters
    ----------
    config : dict
        As `network_to_config` returned it. Its arrays are copied.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If anything is missing, or if an array has the wrong shape or type.
    """
    kind = _entry(config, "kind")
    if kind == "MLP":
        return _mlp_from_config(config)
    if kind in IMAGE_PARTS:
        return _image_part_from_config(config)
    if kind in VIEW_PARTS:
        return _view_parts_from_config(config)
    if kind in MESH_PARTS:
        return _mesh_part_from_config(config)
    if kind not in KINDS:
        raise _damaged(f"There is no network of kind {kind!r}")
    names = PARTS.get(KINDS[kind], ("network",))
    parts = {name: network_from_config(_entry(config, name)) for name in names}
    if kind == "Autoencoder":
        _check_mirrored(**parts)
        return Autoencoder(**parts).eval()
    if kind == "ConditionalCodec":
        _check_conditions(**parts)
        return ConditionalCodec(**parts).eval()
    return _outer_from_config(config, KINDS[kind], parts)


def _outer_from_config(config: NetworkConfig, kind: Any, parts: dict[str, Any]) -> nn.Module:
    """Network with tensors of its own around an `Autoencoder`."""
    tensors, sizes = SHAPES[kind], sizes_of(parts["network"])
    if sizes is None:
        raise _damaged(f"{kind.__name__} holds no Autoencoder")
    letters = _letters(parts["network"], sizes)
    given: dict[str, Any] = {n: _checked_tensor(config, n, tensors[n], letters) for n in tensors}
    if isinstance(inner := parts["network"].encoder if "v" in letters else None, ViewEncoders):
        n_outputs = given["encoding"].shape[1]
        if any(part.n_outputs != n_outputs for part in inner.parts):
            raise _damaged(
                f"Encoders of views of {kind.__name__} do not return {n_outputs} columns"
            )
    gates = given.pop("gates", None)
    if "gates" in tensors:
        given["gated"] = gates is not None
    if kind is HeadedNetwork:
        _check_head(parts["head"], sizes)
        given["n_features"] = sizes[0]
    network = kind(**parts, **given)
    if gates is not None:
        network.gates = nn.Parameter(gates)
    return network.eval()


def _letters(network: Any, sizes: tuple[int, int]) -> dict[str, int]:
    """Numbers that the letters of shapes stand for."""
    letters = {"d": sizes[0], "k": sizes[1], "2": 2, "3": 3}
    decoder = network.decoder if hasattr(network, "decoder") else None
    if isinstance(network, ConditionalCodec):
        n_conditions = _parts_of(network)[1].n_inputs - sizes[1]
        letters |= {"x": sizes[0] + n_conditions, "z": sizes[1] + n_conditions}
    if isinstance(decoder, ViewDecoders):
        v, s, p = len(decoder.parts), decoder.n_shared, decoder.n_private
        letters |= {"v": v, "s": s, "p": v * p, "e": v * s + p, "m": 2 * s}
    return letters


def _mlp_from_config(config: NetworkConfig) -> MLP:
    widths, name = _entry(config, "widths"), _activation_in(config)
    weights, biases = _entry(config, "weights"), _entry(config, "biases")
    if not len(widths) - 1 == len(weights) == len(biases) > 0:
        raise _damaged(
            f"MLP of widths {widths} has {len(weights)} weights and {len(biases)} biases"
        )
    with torch.device("meta"):  # on which no weights are drawn
        network = MLP(widths, name)
    _set_weights(list(network)[::2], weights, biases)
    return network


def _view_parts_from_config(config: NetworkConfig) -> ViewEncoders | ViewDecoders:
    parts: Any = [network_from_config(part) for part in _entry(config, "parts")]
    order = np.asarray(_entry(config, "order"))
    kind = VIEW_PARTS[config["kind"]]
    n_columns = sum(p.n_inputs if kind is ViewEncoders else p.n_outputs for p in parts)
    if sorted(order.ravel().tolist()) != list(range(n_columns)):
        raise _damaged(f"The order of {n_columns} columns of views does not have each of them once")
    options = {"n_private": _entry(config, "n_private")} if kind is ViewDecoders else {}
    made: ViewEncoders | ViewDecoders = kind(
        parts, torch.from_numpy(order.astype(np.int64)), **options
    )
    return made


def _image_part_from_config(config: NetworkConfig) -> ImagePart:
    name, sides = _activation_in(config), _entry(config, "image_shape")
    if len(sides) != 3:
        raise _damaged(f"The shape {sides} of images has {len(sides)} numbers, not 3")
    height, width, n_channels = sides
    image = ImageShape(height, width, n_channels, _entry(config, "channels_first"))
    patch, kernel = _entry(config, "patch"), _entry(config, "kernel_size")
    kind = IMAGE_PARTS[config["kind"]]
    names = _size_of_codes(kind), "n_channels", "n_blocks", "hidden_layer_sizes"
    options = {each: _entry(config, each) for each in names}
    with torch.device("meta"):  # on which no weights are drawn
        network = kind(
            Grid(image, tuple(patch)), kernel_size=tuple(kernel), activation=name, **options
        )
    _set_weights_of_part(network, config)
    return network


def _mesh_part_from_config(config: NetworkConfig) -> MeshPart:
    kind, name = MESH_PARTS[config["kind"]], _activation_in(config)
    laplacian, basis = _entry(config, "laplacian"), _entry(config, "basis")
    n_clusters = len(laplacian) if np.ndim(laplacian) else 0
    graph = MeshGraph(
        _tensor(basis, "basis", [np.shape(basis)]),
        _tensor(laplacian, "laplacian", [(n_clusters, n_clusters)]),
        _entry(config, "n_graph_channels"),
    )
    if not n_clusters or graph.basis.ndim != 2 or len(graph.basis) % n_clusters:
        raise _damaged(f"A basis of shape {np.shape(basis)} does not suit {n_clusters} clusters")
    names = _size_of_codes(kind), "n_channels", "order", "n_blocks", "hidden_layer_sizes"
    options = {each: _entry(config, each) for each in names}
    network: MeshPart = kind(graph, activation=name, generator=torch.Generator(), **options)
    _set_weights_of_part(network, config)
    return network


def _set_weights_of_part(network: nn.Module, config: NetworkConfig) -> None:
    """Set weights and biases of an encoder or decoder of images or meshes."""
    weights, biases = _entry(config, "weights"), _entry(config, "biases")
    layers = _weighted(network)
    if not len(layers) == len(weights) == len(biases):
        raise _damaged(
            f"{config['kind']} of {len(layers)} layers has {len(weights)} weights and "
            f"{len(biases)} biases"
        )
    _set_weights(layers, weights, biases)


def _activation_in(config: NetworkConfig) -> str:
    """Name of the activation in a configuration."""
    name: str = _entry(config, "activation")
    if name not in ACTIVATIONS:
        raise _damaged(f"There is no activation {name!r}")
    return name


def _weighted(network: nn.Module) -> list[Any]:
    """Layers with weights and biases."""
    return [layer for layer in network.modules() if isinstance(layer, WEIGHTED)]


def _set_weights(layers: Sequence[Any], weights: Any, biases: Any) -> None:
    """Set weights and biases of layers, after a check of their shapes."""
    for i, layer in enumerate(layers):
        weight = _tensor(weights[i], f"weights[{i}]", [layer.weight.shape])
        bias = _tensor(biases[i], f"biases[{i}]", [layer.bias.shape])
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)


def _check_mirrored(encoder: Any, decoder: Any) -> None:
    """Check that rows and codes have the same widths on both sides."""
    if isinstance(encoder, ViewEncoders) or isinstance(decoder, ViewDecoders):
        return _check_views(encoder, decoder)
    d, k = encoder.n_inputs, decoder.n_inputs
    if decoder.n_outputs != d or encoder.n_outputs not in (k, 2 * k):
        raise _damaged(
            f"An encoder from {d} to {encoder.n_outputs} columns and a decoder from {k} to "
            f"{decoder.n_outputs} do not belong together"
        )


def _check_conditions(encoder: Any, decoder: Any) -> None:
    """Check that rows and codes have as many columns of a condition."""
    n_of_rows = encoder.n_inputs - decoder.n_outputs
    n_of_codes = decoder.n_inputs - encoder.n_outputs // 2
    if n_of_rows != n_of_codes or n_of_rows < 0 or encoder.n_outputs % 2:
        raise _damaged(
            f"An encoder and a decoder with {n_of_rows} and {n_of_codes} columns of a condition do "
            "not belong together"
        )


def _check_views(encoder: Any, decoder: Any) -> None:
    """Check that encoders and decoders are of the same views."""
    kinds = isinstance(encoder, ViewEncoders), isinstance(decoder, ViewDecoders)
    if not all(kinds) or not torch.equal(encoder.order, decoder.order):
        raise _damaged("Encoders and decoders of views do not belong together")
    n_outputs = {part.n_outputs for part in encoder.parts}
    of_shares = len(decoder.parts) * decoder.n_shared + decoder.n_private
    of_experts = 2 * decoder.n_shared
    sides = zip(encoder.parts, decoder.parts, strict=False)
    same = all(a.n_inputs == b.n_outputs for a, b in sides)
    fits = n_outputs == {of_shares} or (n_outputs == {of_experts} and not decoder.n_private)
    if len(encoder.parts) != len(decoder.parts) or not (same and fits):
        raise _damaged("Encoders and decoders of views do not belong together")


def _check_head(head: Any, sizes: tuple[int, int]) -> None:
    """Check that a head takes the codes of a network of `sizes` features and components."""
    if type(head) is not MLP or head.n_inputs != sizes[1]:
        raise _damaged(
            f"A head and a network of {sizes} features and components do not belong together"
        )


def _entry(config: NetworkConfig, name: str) -> Any:
    if not isinstance(config, dict) or name not in config:
        raise _damaged(f"{name} of the network is missing")
    return config[name]


def _checked_tensor(
    config: NetworkConfig, name: str, shapes: str, letters: dict[str, int]
) -> Tensor | None:
    """Tensor of a network; the letters of its shape stand for sizes."""
    array = config.get(name) if name in LATER else _entry(config, name)
    if array is None and "None" in shapes:
        return None
    several = shapes.removesuffix("|None").split("|")
    admitted = [tuple(letters[s] for s in shape) for shape in several]
    return _tensor(array, name, admitted)


def _tensor(array: Any, name: str, shapes: Sequence[tuple[int, ...]]) -> Tensor:
    if np.shape(array) not in shapes or np.asarray(array).dtype.kind != "f":
        admitted = " or ".join(str(tuple(shape)) for shape in shapes)
        raise _damaged(f"{name} of the network is no array of numbers of shape {admitted}")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _damaged(what: str) -> ValueError:
    return ValueError(f"{what}: the network configuration is damaged.")
