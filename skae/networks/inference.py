"""Modules that together are a whole estimator, from rows in input units to codes and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skae.networks.dense import AnchoredAutoencoder, Autoencoder, VariationalAutoencoder
from skae.networks.sparse import Rule, SparseNetwork


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
    """

    def __init__(
        self,
        correction: nn.Module,
        dtype: torch.dtype,
        n_columns: int,
        affine: Affine | None = None,
        gate: float = 1.0,
    ):
        super().__init__()
        self.correction = correction.to(dtype)
        self.dtype, self.n_columns, self.gate = dtype, n_columns, gate
        self.affine = affine

    def forward(self, x: Tensor) -> Tensor:
        """Map rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_columns_in), float64

        Returns
        -------
        Tensor of shape (n_rows, n_columns), float64
        """
        added = self.correction(x.to(self.dtype))[:, : self.n_columns].to(x.dtype) * self.gate
        return added if self.affine is None else added + self.affine(x)


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


def encoder_of(network: Any, dtype: torch.dtype, n_components: int) -> Corrected:
    """Encoder of a network, with its linear part in double precision.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
        Becomes part of the result and changes its type.
    dtype : torch.dtype
    n_components : int

    Returns
    -------
    Corrected
        Maps standardized rows to codes.
    """
    if type(network) is AnchoredAutoencoder:
        affine = Affine(network.components.double().T)
    elif type(network) is VariationalAutoencoder:
        matrix = network.encoding.double().T
        offset = None if network.center is None else -network.center.double() @ matrix
        affine = Affine(matrix, offset)
    else:
        if isinstance(network, SparseNetwork):  # rounding may decide what is active
            network, dtype = network.network, torch.float64
        return Corrected(_part(network, "encode"), dtype, n_components)
    part = _part(network.network, "encode")
    return Corrected(part, dtype, n_components, affine, _gate(network, 0))


def rules_of(network: Any) -> list[Rule]:
    """Rule that a network with sparse codes applies after its encoder; for others, none.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`

    Returns
    -------
    list of Rule
    """
    return [network.rule()] if isinstance(network, SparseNetwork) else []


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
    elif type(network) is VariationalAutoencoder:
        offset = None if network.offset is None else network.offset.double()
        affine = Affine(network.decoding.double(), offset)
    else:
        network = network.network if isinstance(network, SparseNetwork) else network
        return Corrected(_part(network, "decode"), dtype, n_features)
    part = _part(network.network, "decode")
    return Corrected(part, dtype, n_features, affine, _gate(network, 1))


def _part(network: Any, method: str) -> nn.Module:
    if type(network) is Autoencoder:
        return network.encoder if method == "encode" else network.decoder
    return Method(network, method)


def _gate(network: Any, i: int) -> float:
    return 1.0 if network.gates is None else float(network.gates[i])
