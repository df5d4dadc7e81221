"""Terms of objectives, with one number per row, and `Objective`, which weighs and averages them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae.networks.dense import Output

__all__ = [
    "KL",
    "LOSSES",
    "ActivityKL",
    "ConditionalObjective",
    "Emphasised",
    "Objective",
    "Observed",
    "ObservedNLL",
    "absolute_error",
    "binary_cross_entropy",
    "code_cost",
    "gaussian_nll",
    "huber",
    "kl_by_component",
    "kl_of_moments",
    "squared_error",
]

Term = Callable[[Output, Tensor], Tensor]
SMALLEST_ACTIVITY = 1e-6  # also the smallest distance from 1, so that logarithms are finite


def squared_error(output: Output, x: Tensor) -> Tensor:
    """Sum over features of squared differences.

    Parameters
    ----------
    output : Output
    x : Tensor of shape (n_rows, n_features)

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    return (output.reconstruction - x).square().sum(dim=1)


def absolute_error(output: Output, x: Tensor) -> Tensor:
    """Sum over features of absolute differences.

    Parameters
    ----------
    output : Output
    x : Tensor of shape (n_rows, n_features)

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    return (output.reconstruction - x).abs().sum(dim=1)


def huber(output: Output, x: Tensor) -> Tensor:
    """Sum over features of Huber's loss: quadratic for errors up to one, linear above.

    Parameters
    ----------
    output : Output
    x : Tensor of shape (n_rows, n_features)

    Returns
    -------
    Tensor of shape (n_rows,)

    References
    ----------
    Huber (1964). Robust estimation of a location parameter.
    https://doi.org/10.1214/aoms/1177703732
    """
    return F.huber_loss(output.reconstruction, x, reduction="none").sum(dim=1)


def binary_cross_entropy(output: Output, x: Tensor) -> Tensor:
    """Sum over features of the cross-entropy of x in [0, 1], in nats.

    Parameters
    ----------
    output : Output
        Its reconstruction holds logits.
    x : Tensor of shape (n_rows, n_features)

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    loss = F.binary_cross_entropy_with_logits(output.reconstruction, x, reduction="none")
    return loss.sum(dim=1)


def gaussian_nll(output: Any, x: Tensor) -> Tensor:
    """Negative log-likelihood of rows, normal around their reconstructions, in nats.

    Parameters
    ----------
    output : Output
        Its noise variance is one number, or one number per feature.
    x : Tensor of shape (n_rows, n_features)

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    variance = output.noise_variance.expand(x.shape[1])
    squares = (output.reconstruction - x).square() / variance
    return 0.5 * (squares.sum(dim=1) + (2 * math.pi * variance).log().sum())


def kl_by_component(mean: Tensor, log_var: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a normal posterior from the standard normal prior.

    Parameters
    ----------
    mean, log_var : Tensor of shape (n_rows, n_components)

    Returns
    -------
    Tensor of shape (n_rows, n_components)
        ``(σ² + μ² - log σ² - 1) / 2``, in nats.
    """
    return kl_of_moments(log_var.exp() + mean.square(), log_var)


def kl_with_gradient(
    mean: Any, log_var: Any, exp: Callable[[Any], Any] = torch.exp
) -> tuple[Any, Any]:
    """Divergence of `kl_by_component`, and twice its derivative with respect to the log-variance.

    The derivative with respect to the mean is the mean itself.

    Parameters
    ----------
    mean, log_var : Tensor or ndarray of shape (..., n_rows, n_components)
    exp : callable, default=torch.exp
        Exponential function of the library of these arrays, such as ``numpy.exp``.

    Returns
    -------
    divergence, twice_derivative : Tensor or ndarray of shape (..., n_rows, n_components)
    """
    excess = exp(log_var) - 1
    return 0.5 * (excess - log_var + mean * mean), excess


def kl_of_moments(squares: Any, log_var: Any) -> Any:
    """Mean divergence of normal posteriors from the standard normal prior, from moments.

    Parameters
    ----------
    squares : Tensor or ndarray
        Means of ``σ² + μ²``.
    log_var : Tensor or ndarray
        Means of ``log σ²``.

    Returns
    -------
    Tensor or ndarray
        In nats.
    """
    return 0.5 * (squares - log_var - 1)


class KL:
    """Kullback-Leibler divergence of posterior from prior, at least `free_bits` per component.

    Parameters
    ----------
    free_bits : float, default=0.0
        Nats per component and row that are not penalised.

    References
    ----------
    Kingma et al. (2016). Improved variational inference with inverse autoregressive flow.
    https://arxiv.org/abs/1606.04934
    """

    def __init__(self, free_bits: float = 0.0):
        self.free_bits = free_bits

    def __call__(self, output: Any, x: Tensor) -> Tensor:
        """Sum over components.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        divergence = kl_by_component(output.mean, output.log_var)
        if self.free_bits:
            divergence = divergence.clamp(min=self.free_bits)
        return divergence.sum(dim=1)


def code_cost(output: Any, x: Tensor) -> Tensor:
    """Penalty of the code that the network returns, or zero if it returns none.

    Parameters
    ----------
    output : Output
    x : Tensor of shape (n_rows, n_features)

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    return x.new_zeros(len(x)) if output.cost is None else output.cost


class ActivityKL:
    """Divergence between a target and each unit's mean activation over rows, summed over units.

    It is the Kullback-Leibler divergence of the Bernoulli distribution with mean ρ from the one
    with the unit's mean activation. It is the same for all rows.

    Parameters
    ----------
    rho : float
        Target, in (0, 1).

    References
    ----------
    Ng (2011). Sparse autoencoder. CS294A lecture notes, Stanford University.
    https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf
    """

    def __init__(self, rho: float):
        self.rho = rho

    def __call__(self, output: Any, x: Tensor) -> Tensor:
        """Sum over units.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows,)
            In nats.
        """
        rho = self.rho
        mean = output.activity.clamp(SMALLEST_ACTIVITY, 1 - SMALLEST_ACTIVITY)
        divergence = rho * (rho / mean).log() + (1 - rho) * ((1 - rho) / (1 - mean)).log()
        return divergence.sum().clamp(min=0).expand(len(x))  # never negative by rounding


class Emphasised:
    """A term in which corrupted entries have another weight than the other entries.

    Parameters
    ----------
    term : callable
        A sum over features that is zero where the reconstruction is exact.
    emphasis : float
        Weight of a corrupted entry; that of the others is 1.
    """

    def __init__(self, term: Term, emphasis: float):
        self.term, self.emphasis = term, emphasis

    def __call__(self, output: Output, x: Tensor) -> Tensor:
        """Weighted sum over features; the unweighted term if rows were not corrupted.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        loss = self.term(output, x)
        if output.corrupted is None:
            return loss
        exact_elsewhere = torch.where(output.corrupted, output.reconstruction, x)
        extra = self.term(output._replace(reconstruction=exact_elsewhere), x)
        return loss + (self.emphasis - 1) * extra


class Observed:
    """A term in which missing entries of rows, which are NaN, do not count.

    Rows count by their weight, where the network has one (`Output.row_weight`).

    Parameters
    ----------
    term : callable
        A sum over features that is zero where the reconstruction is exact.
    scales : Tensor of shape (n_features,)
        Factors of the columns, of rows and reconstructions.
    """

    def __init__(self, term: Term, scales: Tensor):
        self.term, self.scales = term, scales

    def __call__(self, output: Output, x: Tensor) -> Tensor:
        """Sum over observed features.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        scales, rows = self.scales.to(x), output.reconstruction
        target = torch.where(x.isnan(), rows.detach(), x)
        losses = self.term(output._replace(reconstruction=rows * scales), target * scales)
        return losses if output.row_weight is None else output.row_weight * losses


class ObservedNLL(Observed):
    """Negative log-likelihood of the observed entries of rows, normal around reconstructions.

    Parameters
    ----------
    scales : Tensor of shape (n_features,)
        Factors of the columns. The network's noise variance is one number, that of scaled columns.
    """

    def __init__(self, scales: Tensor):
        super().__init__(gaussian_nll, scales)

    def __call__(self, output: Output, x: Tensor) -> Tensor:
        """Sum over observed features.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows,)
            In nats, of scaled columns.
        """
        variance: Any = output.noise_variance
        of_missing = 0.5 * (2 * math.pi * variance).log() * x.isnan().sum(dim=1)
        return super().__call__(output, x) - of_missing


LOSSES: dict[str, Term] = {
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
    "binary_cross_entropy": binary_cross_entropy,
}


class Objective(nn.Module):
    """Weighted sum of terms, averaged over rows.

    Parameters
    ----------
    terms : mapping of str to callable
        Each maps (Output, rows) to one number per row.
    weights : mapping of str to float, default=None
        Weights of the terms; 1 if not given.
    warm_up : mapping of str to int, default=None
        Number of epochs over which the weight of a term rises from 0 in training. Evaluation
        uses the full weight.
    positive : bool, default=True
        Whether the losses of rows are never negative. Then weights are compared by the mean
        logarithm of these losses.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Objective, squared_error
    >>> from skae.networks import Output
    >>> objective = Objective({"reconstruction": squared_error})
    >>> objective(Output(torch.zeros(2, 3), torch.zeros(2, 1)), torch.ones(2, 3))
    tensor(3.)
    """

    def __init__(
        self,
        terms: Mapping[str, Term],
        weights: Mapping[str, float] | None = None,
        *,
        warm_up: Mapping[str, int] | None = None,
        positive: bool = True,
    ):
        super().__init__()
        self.terms = dict(terms)
        self.weights = {} if weights is None else dict(weights)
        self.warm_up = {} if warm_up is None else dict(warm_up)
        self.positive = positive
        self.factors: dict[str, float] = {}

    def begin_epoch(self, epoch: int) -> None:
        """Set the weights of terms that warm up to their values in an epoch.

        Parameters
        ----------
        epoch : int
            Counted from 0.
        """
        self.factors = {
            name: min(1.0, epoch / n_epochs) for name, n_epochs in self.warm_up.items() if n_epochs
        }

    def per_row(self, output: Output, x: Tensor) -> dict[str, Tensor]:
        """Terms of each row, by name, without their weights.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        dict of str to Tensor of shape (n_rows,)
        """
        return {name: term(output, x) for name, term in self.terms.items()}

    def row_losses(self, output: Output, x: Tensor) -> Tensor:
        """Weighted sum of the terms of each row.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        return self._sum(output, x, {})

    def _sum(self, output: Output, x: Tensor, factors: Mapping[str, float]) -> Tensor:
        first, *others = (
            self.weights.get(name, 1.0) * factors.get(name, 1.0) * term
            for name, term in self.per_row(output, x).items()
        )
        return sum(others, start=first)

    def forward(self, output: Output, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over rows of the weighted sum of terms; terms that warm up have a smaller weight.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)
        weights : Tensor of shape (n_rows,), default=None
            Weights of the rows; their mean over all training rows is one.

        Returns
        -------
        Tensor of shape ()
        """
        losses = self._sum(output, x, self.factors)
        return losses.mean() if weights is None else (weights * losses).mean()


class ConditionalObjective(Objective):
    """Objective of rows that have their condition in further columns, which are not restored."""

    def per_row(self, output: Output, x: Tensor) -> dict[str, Tensor]:
        """Terms of each row, by name, without their weights.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features + n_conditions)

        Returns
        -------
        dict of str to Tensor of shape (n_rows,)
        """
        return super().per_row(output, x[:, : output.reconstruction.shape[1]])
