"""Training steps of networks that predict columns: gradients in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skae._training.gradients import DERIVATIVES
from skae.losses import Objective
from skae.networks import onednn
from skae.networks.columns import ColumnLikelihood, ColumnNetwork

LARGE_PRODUCT = 1_000_000  # multiplications, from which oneDNN is faster for these shapes


class ColumnGradient:
    """Gradient of the likelihood of hidden cells; see `skae._training.gradients.Gradient`.

    The `grad` of the parameters must exist. It is overwritten.
    """

    def __init__(self, network: ColumnNetwork, objective: Objective, gradient: Tensor):
        self.network = network
        (self.term,) = objective.terms.values()
        self.uses_onednn = gradient.is_cpu and onednn.has_fast_onednn()
        self.uses_onednn &= gradient.dtype == torch.float32

    @torch.no_grad()
    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        """Return the mean loss, and set the gradients of all parameters."""
        network, term = self.network, self.term
        assert isinstance(term, ColumnLikelihood)
        hidden = network.hidden_columns(x, noise)
        results = network.results(network.inputs(x, hidden), self._product, self._affine)
        cell_weights = term.cell_weights(hidden, x) / (len(x) * network.n_networks)
        parts = term.parts(results[-1], x)
        loss = -(cell_weights * (parts["likelihood"] / parts["total"]).log()).sum()
        self._backward(results, term.gradient(parts, cell_weights))
        return {"loss": loss}

    def _backward(self, results: list[Tensor], grad: Tensor) -> None:
        """Set gradients of the parameters, given that of the outputs."""
        network = self.network
        direct = grad[..., : network.layout.n_direct]
        for i in range(len(network.weights) - 1, -1, -1):
            weight, bias, below = network.weights[i], network.biases[i], results[i]
            torch.sum(grad, dim=1, keepdim=True, out=bias.grad)
            if i == 0:
                grad = torch.cat([grad, direct], dim=-1)
            self._product(below.transpose(1, 2), grad, out=weight.grad)
            if i:
                grad = self._product(grad, weight.transpose(1, 2))
                DERIVATIVES[nn.ReLU].backward(grad, below)

    def _product(self, a: Tensor, b: Tensor, out: Any = None) -> Tensor:
        """Matrix products of each network."""
        if not self.uses_onednn or a.shape[1] * b.shape[1] * b.shape[2] < LARGE_PRODUCT:
            return torch.bmm(a, b, out=out)
        if out is None:
            out = a.new_empty(len(a), a.shape[1], b.shape[2])
        for each, first, second in zip(out, a, b, strict=True):
            each.copy_(onednn.linear(first, second.T))
        return out

    def _affine(self, bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return self._product(a, b).add_(bias)
