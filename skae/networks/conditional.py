"""A variational autoencoder that is told the condition of each row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skae.networks.dense import Autoencoder, VariationalAutoencoder


class ConditionalCodec(Autoencoder):
    """Encoder and decoder that are both given a condition in further columns.

    Parameters
    ----------
    encoder : nn.Module
        Maps (n_rows, n_features + n_conditions) to (n_rows, n_columns).
    decoder : nn.Module
        Maps (n_rows, n_components + n_conditions) to (n_rows, n_features).
    """

    __module__ = "skae.networks"


class ConditionalVariationalAutoencoder(VariationalAutoencoder):
    """A variational autoencoder of rows, given their conditions.

    Rows have their condition in further columns, and so have codes that are decoded.

    Parameters
    ----------
    network : ConditionalCodec
    encoding : Tensor of shape (n_components, n_features + n_conditions), float64
    decoding : Tensor of shape (n_components + n_conditions, n_features), float64
    **options
        As of `VariationalAutoencoder`.

    Notes
    -----
    Sohn, Lee and Yan (2015). Learning structured output representation using deep conditional
    generative models. https://papers.nips.cc/paper/5775
    """

    __module__ = "skae.networks"

    def __init__(self, network: Any, **options: Any):
        super().__init__(network, **options)
        self.n_features = self.decoding.shape[1]

    def to_decode(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes with the condition of their rows, and the rows without it.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)
        x : Tensor of shape (n_rows, n_features + n_conditions)

        Returns
        -------
        z : Tensor of shape (n_rows, n_components + n_conditions)
        x : Tensor of shape (n_rows, n_features)
        """
        x, condition = x[:, : self.n_features], x[:, self.n_features :]
        return torch.cat([z, condition], dim=1), x
