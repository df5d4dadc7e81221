"""Training steps whose convolutions and matrix products are computed in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skae._training.gradients import AutogradGradient
from skae.losses import Objective
from skae.networks.convolutional import mixed_precision

LARGE_STEP = 50_000_000  # weights times rows, from which conversions of types do not matter


class MixedPrecisionGradient(AutogradGradient):
    """Gradient by automatic differentiation, with encoder and decoder in bfloat16.

    PCA, codes, reconstructions, the loss, and the weights stay float32. Networks in float64, as
    those of tiny tables, are computed in float64. Steps of fewer weights times rows than
    `fewest_products` are computed in float32.
    """

    def __init__(
        self,
        network: Any,
        objective: Objective,
        gradient: Tensor,
        stochastic_depth: float = 0.0,
        fewest_products: int = 0,
    ):
        super().__init__(network, objective, gradient, stochastic_depth)
        self.fewest_products = fewest_products

    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        is_large = len(x) * self.gradient.numel() >= self.fewest_products
        if self.gradient.dtype != torch.float32 or not is_large:
            return super().__call__(x, noise, weights)
        with mixed_precision(self.network):
            return super().__call__(x, noise, weights)
