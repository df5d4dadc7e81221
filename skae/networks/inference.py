"""Modules that together are a whole estimator, from rows in input units to codes and back."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from skae.networks.conditional import ConditionalCodec
from skae.networks.dense import (
    CODE_FADE,
    CODE_REACH,
    LOG_VAR_BOUNDS,
    AnchoredAutoencoder,
    Autoencoder,
    VariationalAutoencoder,
    beyond,
    fade,
    in_precision,
    inverse_axes,
    outside,
)
from skae.networks.multiview import MultiViewNetwork
from skae.networks.sparse import SparseNetwork


class Cast(nn.Module):
    """Converts to a floating point type.

    Parameters
    ----------
    dtype : torch.dtype
    """

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Convert.

        Parameters
        ----------
        x : Tensor

        Returns
        -------
        Tensor of the same shape
        """
        return x.to(self.dtype)


class Standardize(nn.Module):
    """Standardizes rows: subtracts the center and divides by the scale.

    Parameters
    ----------
    center : Tensor of shape (n_features,), float64
    scale : Tensor of shape (), float64
    """

    center: Tensor
    scale: Tensor

    def __init__(self, center: Tensor, scale: Tensor):
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Standardize rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features), float64

        Returns
        -------
        Tensor of shape (n_rows, n_features), float64
        """
        return (x - self.center) / self.scale


class Affine(nn.Module):
    """An affine map.

    Parameters
    ----------
    matrix : Tensor of shape (n_columns_in, n_columns_out) or (), float64
        A number multiplies every entry.
    offset : Tensor of shape (n_columns_out,), float64, or None
    """

    matrix: Tensor
    offset: Tensor | None

    def __init__(self, matrix: Tensor, offset: Tensor | None = None):
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_columns_in), float64

        Returns
        -------
        Tensor of shape (n_rows, n_columns_out), float64
        """
        x = x @ self.matrix if self.matrix.ndim else x * self.matrix
        return x if self.offset is None else x + self.offset


class Corrected(nn.Module):
    """An affine map in double precision, plus a correction by a network in its own precision.

    Parameters
    ----------
    correction : nn.Module
        Maps (n_rows, n_columns_in) to (n_rows, n_columns) or more columns, of which the first
        `n_columns` are used.
    dtype : torch.dtype
        Of the correction.
    n_columns : int
    affine : Affine, default=None
        None is zero.
    gate : float, default=1.0
        Factor of the correction.
    region : Tensor of shape (2, n_columns_in), float64, default=None
        Beyond it, the correction fades out.
    unit : Tensor of shape (n_columns_in,), float64, default=None
        Units of the distances outside the region. If given, the correction is evaluated near the
        region.
    inputs : Tensor of shape (n_columns_in,), float64, default=None
        Factors of the columns that the correction is given.
    outputs : Tensor of shape (n_columns,), float64, default=None
        Factors of the columns of the correction.
    """

    region: Tensor | None
    unit: Tensor | None
    inputs: Tensor | None
    outputs: Tensor | None

    def __init__(
        self,
        correction: nn.Module,
        dtype: torch.dtype,
        n_columns: int,
        affine: Affine | None = None,
        gate: float = 1.0,
        region: Tensor | None = None,
        unit: Tensor | None = None,
        inputs: Tensor | None = None,
        outputs: Tensor | None = None,
    ):
        super().__init__()
        self.correction = correction.to(dtype)
        self.dtype, self.n_columns, self.gate = dtype, n_columns, gate
        self.affine = affine
        self.register_buffer("region", region)
        self.register_buffer("unit", unit)
        self.register_buffer("inputs", inputs)
        self.register_buffer("outputs", outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_columns_in), float64

        Returns
        -------
        Tensor of shape (n_rows, n_columns), float64
        """
        at = x if self.inputs is None else x * self.inputs
        far = None if self.region is None else outside(at, self.region)
        if far is not None and self.unit is not None:
            at = at - beyond(far, self.unit * (CODE_REACH / CODE_FADE))
        added = self.correction(at.to(self.dtype))[:, : self.n_columns].to(x.dtype) * self.gate
        if self.outputs is not None:
            added = added * self.outputs
        if far is not None:
            added = added * fade(far if self.unit is None else far / self.unit)
        return added if self.affine is None else added + self.affine(x)


class Unshrink(nn.Module):
    """Divides posterior means by one minus posterior variances.

    Parameters
    ----------
    divisor : Tensor of shape (n_components,), float64
        The least that means are divided by.
    """

    divisor: Tensor

    def __init__(self, divisor: Tensor):
        super().__init__()
        self.register_buffer("divisor", divisor)
        self.n_components = len(divisor)

    def forward(self, x: Tensor) -> Tensor:
        """Map posteriors to codes, as `VariationalAutoencoder.encode`.

        Parameters
        ----------
        x : Tensor of shape (n_rows, 2 * n_components), float64
            Means and log-variances side by side.

        Returns
        -------
        Tensor of shape (n_rows, n_components), float64
        """
        mean, log_var = x[:, : self.n_components], x[:, self.n_components :]
        variance = log_var.clamp(*LOG_VAR_BOUNDS).exp()
        return mean / torch.maximum(1 - variance, self.divisor)


class ViewCodes(nn.Module):
    """Codes of rows with several views, of which some may be missing.

    Parameters
    ----------
    network : MultiViewNetwork
        Becomes part of the result and changes its type.
    dtype : torch.dtype
        Of the corrections; the linear part is double.
    """

    def __init__(self, network: MultiViewNetwork, dtype: torch.dtype):
        super().__init__()
        self.network, self.dtype = in_precision(network, dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        """Encode rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features), float64
            Missing views are NaN.

        Returns
        -------
        Tensor of shape (n_rows, n_components), float64
        """
        network: Any = self.network
        codes: Tensor = network.encode(x)
        return codes


class Method(nn.Module):
    """One method of a network as a module of its own.

    Parameters
    ----------
    network : nn.Module
    name : {"encode", "decode"}
    """

    def __init__(self, network: nn.Module, name: str):
        super().__init__()
        self.network, self.name = network, name

    def forward(self, x: Tensor) -> Tensor:
        """Call the method.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_columns_in)

        Returns
        -------
        Tensor of shape (n_rows, n_columns_out)
        """
        return getattr(self.network, self.name)(x)


def encoder_of(network: Any, dtype: torch.dtype, n_components: int) -> Corrected | ViewCodes:
    """Encoder of a network, with its linear part in double precision.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
        Becomes part of the result and changes its type.
    dtype : torch.dtype
    n_components : int

    Returns
    -------
    Corrected or ViewCodes
        Maps standardized rows to codes.
    """
    if isinstance(network, MultiViewNetwork):
        return ViewCodes(network, dtype)
    if type(network) is AnchoredAutoencoder:
        affine = Affine(network.components.double().T)
    elif isinstance(network, VariationalAutoencoder):
        matrix = network.encoding.double().T
        offset = None if network.center is None else -network.center.double() @ matrix
        affine = Affine(matrix, offset)
    else:
        if isinstance(network, SparseNetwork):  # rounding may decide what is active
            network, dtype = network.network, torch.float64
        return Corrected(_part(network, "encode"), dtype, n_components)
    part, region = _part(network.network, "encode"), network.row_region
    region, gate = None if region is None else region.double(), _gate(network, 0)
    if not _restores(network):
        return Corrected(part, dtype, n_components, affine, gate, region)
    direct = network.direct > 0
    # Direct components get the smallest variance, by which `Unshrink` then divides.
    along = inverse_axes(network.axes.double()) * (1 - math.exp(LOG_VAR_BOUNDS[0]))
    encoding = torch.where(direct[:, None], along, network.encoding.double())
    log_variances = network.log_variances.double().masked_fill(direct, LOG_VAR_BOUNDS[0])
    affine = Affine(
        torch.cat([encoding, torch.zeros_like(encoding)]).T.contiguous(),
        torch.cat([torch.zeros_like(log_variances), log_variances]),
    )
    outputs = torch.cat([1 - network.direct, 1 - network.direct]).double()
    return Corrected(part, dtype, 2 * n_components, affine, gate, region, outputs=outputs)


def rules_of(network: Any) -> list[nn.Module]:
    """Steps after the encoder: the rule of sparse codes, or the unshrinking of posterior means.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`

    Returns
    -------
    list of nn.Module
    """
    if isinstance(network, SparseNetwork):
        return [network.rule()]
    if not _restores(network):
        return []
    return [Unshrink(network.divisor.double()), Affine(_one(), -network.shift.double())]


def shifts_of(network: Any) -> list[nn.Module]:
    """Steps before the decoder, for codes that are shifted after the encoder.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`

    Returns
    -------
    list of nn.Module
    """
    return [Affine(_one(), network.shift.double())] if _restores(network) else []


def _one() -> Tensor:
    return torch.ones((), dtype=torch.float64)


def _restores(network: Any) -> bool:
    """Whether the codes of a network are those that `restore` takes."""
    is_variational = type(network) is VariationalAutoencoder
    return is_variational and network.axes is not None and network.direct is not None


def decoder_of(network: Any, dtype: torch.dtype, n_features: int) -> Corrected:
    """Decoder of a network, with its linear part in double precision.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
        Becomes part of the result and changes its type.
    dtype : torch.dtype
    n_features : int

    Returns
    -------
    Corrected
        Maps codes to standardized rows, or to their logits.
    """
    if type(network) is AnchoredAutoencoder:
        affine = Affine(network.components.double())
    elif isinstance(network, MultiViewNetwork):
        affine = Affine(network.decoding.double())
    elif type(network) is VariationalAutoencoder:
        offset = None if network.offset is None else network.offset.double()
        affine = Affine(network.decoding.double(), offset)
    else:
        network = network.network if isinstance(network, SparseNetwork) else network
        return Corrected(_part(network, "decode"), dtype, n_features)
    part, region, unit = _part(network.network, "decode"), network.code_region, None
    if region is not None:
        region, unit = region[:2].double(), CODE_FADE * region[2].double()
    gate, inputs = _gate(network, 1), None
    if _restores(network) and network.direct.any():
        inputs = 1 - network.direct.double()
        decoding = network.decoding.double() * inputs[:, None]
        affine = Affine(decoding + network.axes.double() * (1 - inputs)[:, None])
        gate = gate if inputs.any() else 0.0
    return Corrected(part, dtype, n_features, affine, gate, region, unit, inputs)


def _part(network: Any, method: str) -> nn.Module:
    if type(network) in (Autoencoder, ConditionalCodec):
        return network.encoder if method == "encode" else network.decoder
    return Method(network, method)


def _gate(network: Any, i: int) -> float:
    return 1.0 if network.gates is None else float(network.gates[i])
