"""Adversarial training: codes are pushed towards a prior by a discriminator that learns beside."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from skae._training.gradients import AutogradGradient, make_gradient
from skae._training.optimizers import FlatParameters, FusedAdamW, to_arrays, to_tensors
from skae.losses import Objective
from skae.networks.dense import MLP, Linear, Output

WIDTH = 64  # of the two hidden layers of the discriminator
LR, BETAS = 1e-3, (0.5, 0.99)  # of the discriminator's optimizer
PENALTY = 1.0  # weight of half the mean squared slope of the discriminator
N_DRAWS = 2**15  # of the prior, among which each batch chooses
INDISTINGUISHABLE = math.log(4)  # loss of a discriminator that knows nothing


class CodePrior(NamedTuple):
    """What codes of a network are pushed to.

    `draws` (n_draws, n_components) are samples of the density, standardized by its `mean` and
    `deviation`. `unit` (n_components,) are the standard deviations that raw codes shall have.
    `weight` is that of the divergence, in units of `nat`.
    """

    draws: Tensor
    unit: Tensor
    weight: float
    nat: float
    density: Any
    mean: np.ndarray
    deviation: np.ndarray


class Discriminator:
    """Tells standardized codes from draws of a prior; its result is a log-ratio of densities.

    It is a perceptron with two hidden layers. A step lowers the cross-entropy plus a penalty of the
    mean squared slope at draws and codes [1]_, which keeps it smooth, and so training stable. Its
    optimizer is its own, with a constant learning rate [2]_. Gradients are in closed form.

    References
    ----------
    .. [1] Mescheder, Geiger and Nowozin (2018). Which training methods for GANs do actually
       converge? https://arxiv.org/abs/1801.04406
    .. [2] Heusel et al. (2017). GANs trained by a two time-scale update rule converge to a local
       Nash equilibrium. https://arxiv.org/abs/1706.08500
    """

    def __init__(self, n_components: int, like: Tensor, generator: torch.Generator):
        widths = [n_components, WIDTH, WIDTH, 1]
        network = MLP(widths, "relu", generator=generator).to(like)
        self.flat = FlatParameters(network)
        options: dict[str, Any] = {"eps": 1e-6 if like.dtype == torch.float64 else 1e-8}
        self.optimizer = FusedAdamW(
            [self.flat.values], lr=LR, betas=BETAS, weight_decay=0.0, **options
        )
        layers: Any = [layer for layer in network if isinstance(layer, Linear)]
        self.layers: Any = [(layer.weight.detach(), layer.bias.detach()) for layer in layers]
        self.gradients: Any = [(layer.weight.grad, layer.bias.grad) for layer in layers]

    def step(self, draws: Tensor, codes: Tensor, weights: Tensor | None = None) -> Tensor:
        """Train on draws and codes (n_rows, n_components); return the cross-entropy before.

        `weights` (n_rows, 1) are those of the codes.
        """
        loss = self.compute_gradient(draws, codes, weights)
        self.optimizer.step()
        return loss

    def compute_gradient(self, draws: Tensor, codes: Tensor, weights: Tensor | None) -> Tensor:
        """Write the gradient of cross-entropy and penalty; return the cross-entropy."""
        n_draws, n_codes = len(draws), len(codes)
        of_codes: Any = 1.0 if weights is None else weights
        u = torch.cat([draws, codes])
        first, second, logits = self._forward(u)
        loss = (
            F.softplus(-logits[:n_draws]).mean() + (of_codes * F.softplus(logits[n_draws:])).mean()
        )
        of_logits = torch.cat(
            [
                -torch.sigmoid(-logits[:n_draws]) / n_draws,
                of_codes * torch.sigmoid(logits[n_draws:]) / n_codes,
            ]
        )
        (w1, _), (w2, _), (w3, _) = self.layers
        (g1, b1), (g2, b2), (g3, b3) = self.gradients
        torch.mm(of_logits.T, second, out=g3)
        torch.sum(of_logits, 0, out=b3)
        active1, active2 = (first > 0).to(u.dtype), (second > 0).to(u.dtype)
        of_second = (of_logits @ w3) * active2
        torch.mm(of_second.T, first, out=g2)
        torch.sum(of_second, 0, out=b2)
        of_first = (of_second @ w2) * active1
        torch.mm(of_first.T, u, out=g1)
        torch.sum(of_first, 0, out=b1)
        back2, back1, slopes = self._slopes(active1, active2)
        of_slopes = slopes * (PENALTY / len(u))  # of half their mean square
        g1.addmm_(back1.T, of_slopes)
        of_back1 = (of_slopes @ w1.T) * active1
        g2.addmm_(back2.T, of_back1)
        g3.add_(((of_back1 @ w2.T) * active2).sum(0))
        return loss

    def slopes(self, codes: Tensor) -> Tensor:
        """Gradient of the log-ratio with respect to each code, (n_rows, n_components)."""
        first, second, _ = self._forward(codes)
        return self._slopes(first > 0, second > 0)[-1]

    def _slopes(self, active1: Tensor, active2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to the second layer, the first layer, and the codes."""
        (w1, _), (w2, _), (w3, _) = self.layers
        back2 = active2 * w3
        back1 = (back2 @ w2) * active1
        return back2, back1, back1 @ w1

    def log_ratios(self, codes: Tensor) -> Tensor:
        """Logarithm of the prior's density over that of codes, (n_rows, 1)."""
        return self._forward(codes)[-1]

    def _forward(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (w1, b1), (w2, b2), (w3, b3) = self.layers
        first = torch.addmm(b1, u, w1.T).relu_()
        second = torch.addmm(b2, first, w2.T).relu_()
        return first, second, torch.addmm(b3, second, w3.T)


class AdversarialGradient:
    """Gradient of an objective plus the divergence of codes from a prior, by a discriminator.

    The network has a `code_prior`. In each step, first the discriminator takes a step on draws of
    the prior and on the codes of the batch. Its result then is an estimate of the log-ratio of
    the densities, whose mean over codes is minus their Kullback-Leibler divergence from the prior
    [1]_; the penalty makes it smaller. Its gradient is added to that of the objective. The loss is
    the objective's alone.

    References
    ----------
    .. [1] Mescheder, Nowozin and Geiger (2017). Adversarial variational Bayes: unifying variational
       autoencoders and generative adversarial networks. https://arxiv.org/abs/1701.04722
    """

    def __init__(
        self,
        network: Any,
        objective: Objective,
        gradient: Tensor,
        *,
        seed: int,
        by_autograd: bool,
    ):
        prior: CodePrior = network.code_prior
        self.generator = torch.Generator().manual_seed(seed)
        self.draws, self.unit = prior.draws.to(gradient), prior.unit.to(gradient)
        self.weight = prior.weight * prior.nat
        self.discriminator = Discriminator(len(self.unit), gradient, self.generator)
        self.loss: Any = 0.0
        inner: Any = make_gradient(network, objective, gradient, by_autograd=by_autograd)
        if isinstance(inner, AutogradGradient):
            inner.objective = self._pushed(objective)
        else:
            inner.head = self._head
        self.inner = inner

    def __call__(
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        step = self.inner(x, noise, weights)
        return {**step, "discriminator_loss": self.loss}

    @torch.no_grad()
    def push(self, codes: Tensor, weights: Tensor | None = None) -> Tensor:
        """Train the discriminator; return the gradient of the divergence, as of the raw codes.

        `weights` (n_rows, 1) are those of the rows.
        """
        standardized = codes / self.unit
        index = torch.randint(len(self.draws), (len(codes),), generator=self.generator)
        draws = self.draws[index.to(self.draws.device)]
        self.loss = self.discriminator.step(draws, standardized, weights)
        slopes = self.discriminator.slopes(standardized)
        slopes *= (-self.weight / len(codes)) / self.unit
        return slopes if weights is None else slopes.mul_(weights)

    def _head(self, codes: Tensor, columns: Tensor, weights: Any = None) -> tuple[Tensor, Tensor]:
        """Loss and gradient as those of a head on the codes, for closed forms."""
        gradient = self.push(codes, None if weights is None else weights.tensor)
        return gradient.new_zeros(()), gradient

    def _pushed(self, objective: Objective) -> Any:
        """The objective with a term that has the value zero and the gradient of the divergence."""

        def loss(output: Output, x: Tensor, weights: Tensor | None = None) -> Tensor:
            code = output.code
            columns = None if weights is None else weights.unsqueeze(1)
            gradient = self.push(code.detach(), columns)
            return objective(output, x, weights) + (gradient * (code - code.detach())).sum()

        return loss

    def state(self) -> dict[str, Any]:
        """State from which training can continue, as arrays and numbers."""
        return {
            "weights": to_arrays(self.discriminator.flat.detached.clone()),
            "optimizer": to_arrays(self.discriminator.optimizer.state_dict()),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.discriminator.flat.detached.copy_(to_tensors(state["weights"]))
        self.discriminator.optimizer.load_state_dict(to_tensors(state["optimizer"]))
