"""Objectives: named terms per row, weighed and reduced in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae.networks import Output

Term = Callable[[Output, Tensor], Tensor]


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
    """Sum over features of Huber's loss: quadratic within one, linear beyond.

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


class Emphasised:
    """A term that weighs corrupted entries differently from those that noise left alone.

    Parameters
    ----------
    term : callable
        A sum over features that is zero where the reconstruction is exact.
    emphasis : float
        Weight of a corrupted entry; the others weigh 1.
    """

    def __init__(self, term: Term, emphasis: float):
        self.term, self.emphasis = term, emphasis

    def __call__(self, output: Output, x: Tensor) -> Tensor:
        """Sum over features, weighed by entry; without corruption the term itself.

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


LOSSES: dict[str, Term] = {
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
    "binary_cross_entropy": binary_cross_entropy,
}


class Objective(nn.Module):
    """Weighted sum of terms, averaged over rows: the only place that weighs and reduces.

    Parameters
    ----------
    terms : mapping of str to callable
        Each maps (Output, rows) to one number a row.
    weights : mapping of str to float, default=None
        Factors of the terms that are not weighed 1.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Objective, squared_error
    >>> from skae.networks import Output
    >>> objective = Objective({"reconstruction": squared_error})
    >>> objective(Output(torch.zeros(2, 3), torch.zeros(2, 1)), torch.ones(2, 3))
    tensor(3.)
    """

    def __init__(self, terms: Mapping[str, Term], weights: Mapping[str, float] | None = None):
        super().__init__()
        self.terms = dict(terms)
        self.weights = {} if weights is None else dict(weights)

    def per_row(self, output: Output, x: Tensor) -> dict[str, Tensor]:
        """Terms before weighing, one number a row each.

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
        rows = self.per_row(output, x)
        first, *others = (self.weights.get(name, 1.0) * term for name, term in rows.items())
        return sum(others, start=first)

    def forward(self, output: Output, x: Tensor) -> Tensor:
        """Mean over rows of the weighted sum of terms.

        Parameters
        ----------
        output : Output
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape ()
        """
        return self.row_losses(output, x).mean()
