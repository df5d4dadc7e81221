"""Networks that predict every column of a mixed table from any other columns of the row.

A cell is an entry of its column: a category, a distinct value, or an interval of a number. The
network is trained as a masked model [1]_: some columns of a row are hidden, and it returns the
distribution of each from the columns that are seen. So it has the conditional distributions of
all orders in which the columns of a row can be drawn [2]_.

References
----------
.. [1] Uria, Murray and Larochelle (2014). A deep and tractable density estimator.
   https://proceedings.mlr.press/v32/uria14.html
.. [2] Hoogeboom et al. (2022). Autoregressive diffusion models.
   https://arxiv.org/abs/2110.02037
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn

from skae.networks.dense import Output, SelfRunning

LOG_SCALES = -6.0, 3.0  # bounds of the logarithm of a logistic distribution's scale
SMALLEST = 1e-30  # probability
N_RAMPS = 16
EDGES = [-3.0, *(NormalDist().inv_cdf(i / N_RAMPS) for i in range(1, N_RAMPS)), 3.0]
RAMPS = EDGES[:-1], [b - a for a, b in pairwise(EDGES)]
LARGEST_CONTRAST = 3.0
# At first the logistic distributions of a number have 95 % of its probability: intervals, which
# know other columns coarsely only, gain from training what they need.
LOGISTIC_LOGIT = 3.0
FAR = 60.0  # differences of logits beyond which a probability is zero


@dataclass(frozen=True)
class CellLayout:
    """Where the columns of a table are in the inputs and outputs of a `ColumnNetwork`.

    Numbers of many values come after all other columns. Inputs are indicators of entries, ramps of
    numbers, scores, and one input for each column that is seen. Outputs are locations of
    logistic distributions, logits of the entries of all columns, logits of the logistic
    distributions, and logarithms of their scales.

    Parameters
    ----------
    n_entries : tuple of int
        Number of entries of each column.
    is_scored : tuple of bool
        Whether the entries of a column have an order, so that cells have scores.
    n_numbers : int
        Number of columns of numbers with many values: their distribution is a mixture of their
        entries and of `n_logistic` logistic distributions of the score.
    n_logistic : int
    contrasts : tuple of (int, int, float), default=()
        Pairs of scored columns that are closely related, with the correlation of their scores. The
        standardized difference of the scores, as the correlation predicts one from the other, is
        an input with ramps of its own where both are seen.
    """

    n_entries: tuple[int, ...]
    is_scored: tuple[bool, ...]
    n_numbers: int
    n_logistic: int
    contrasts: tuple[tuple[int, int, float], ...] = ()

    @property
    def n_columns(self) -> int:
        """Number of columns of the table."""
        return len(self.n_entries)

    @property
    def n_discrete(self) -> int:
        """Number of columns before the numbers."""
        return self.n_columns - self.n_numbers

    @cached_property
    def scored(self) -> list[int]:
        """Columns that have scores."""
        return [j for j, scored in enumerate(self.is_scored) if scored]

    @cached_property
    def starts(self) -> list[int]:
        """First entry of each column, among the entries of all; then their number."""
        return [0, *accumulate(self.n_entries)]

    def is_number(self, j: int) -> bool:
        """Whether a column is a number of many values."""
        return j >= self.n_discrete

    # -- inputs --------------------------------------------------------------------

    @property
    def n_indicators(self) -> int:
        """Number of indicators, which are the first inputs."""
        return self.starts[self.n_discrete]

    @property
    def first_score(self) -> int:
        """First input of the scores, which come after indicators and ramps."""
        return self.n_indicators + N_RAMPS * (self.n_numbers + len(self.contrasts))

    @property
    def first_contrast(self) -> int:
        """First input of the contrasts."""
        return self.first_score + len(self.scored)

    @property
    def first_seen(self) -> int:
        """First input of those that say which columns are seen."""
        return self.first_contrast + len(self.contrasts)

    def ramps_of(self, i: int) -> slice:
        """Inputs of the ramps of a number or, after all numbers, of a contrast."""
        first = self.n_indicators + N_RAMPS * i
        return slice(first, first + N_RAMPS)

    def contrast(self, scores: Any, i: int) -> Any:
        """Standardized difference of two scores, of scores (..., n_columns)."""
        one, other, correlation = self.contrasts[i]
        difference = scores[..., one] - correlation * scores[..., other]
        scale = math.sqrt(1 - correlation**2)
        return (difference / scale).clip(-LARGEST_CONTRAST, LARGEST_CONTRAST)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self.first_seen + self.n_columns

    # -- outputs -------------------------------------------------------------------

    @property
    def n_distributions(self) -> int:
        """Number of logistic distributions; as many outputs are their locations."""
        return self.n_numbers * self.n_logistic

    @property
    def n_direct(self) -> int:
        """Number of outputs with a linear path from the inputs: locations and discrete logits."""
        return self.n_distributions + self.n_indicators

    @property
    def all_logits(self) -> slice:
        """All logits in the outputs."""
        n = self.n_distributions
        return slice(n, n + self.starts[-1] + n)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.all_logits.stop + self.n_distributions

    def entries_of(self, j: int) -> slice:
        """Logits of a column's entries in the outputs."""
        first = self.n_distributions
        return slice(first + self.starts[j], first + self.starts[j + 1])

    def distributions_of(self, j: int) -> list[slice]:
        """Locations, logits and logarithms of scales of a number's logistic distributions."""
        first = (j - self.n_discrete) * self.n_logistic
        n = self.n_distributions
        starts = first, n + self.starts[-1] + first, self.all_logits.stop + first
        return [slice(start, start + self.n_logistic) for start in starts]

    # -- cells ---------------------------------------------------------------------

    @property
    def n_cell_columns(self) -> int:
        """Number of columns of an array of cells."""
        return 4 * self.n_columns + 2 * self.n_numbers

    def split_cells(self, cells: Any) -> tuple[Any, ...]:
        """Split cells (..., n_cell_columns) into their parts.

        Returns
        -------
        entry, score, observed, share : of shape (..., n_columns)
            Number of the entry, score, whether it is observed, and the probability of the cell
            in its entry.
        lower, upper : of shape (..., n_numbers)
            Bounds of the cell's score.
        """
        p, q = self.n_columns, self.n_numbers
        ends = [0, p, 2 * p, 3 * p, 4 * p, 4 * p + q, 4 * p + 2 * q]
        return tuple(cells[..., a:b] for a, b in pairwise(ends))


class ColumnNetwork(SelfRunning):
    """Predicts hidden columns from seen ones; several networks side by side.

    A linear model is added to the results of the hidden layers: of locations, and of logits of
    columns that are no numbers. At its initial weights, it returns the distribution of each
    column without the others.

    Parameters
    ----------
    layout : CellLayout
    frequencies : Tensor of shape (n_all_entries,)
        Frequency of each entry in its column.
    widths : sequence of int
        Widths of the hidden layers.
    n_networks : int
    generator : torch.Generator, default=None
        Of the initial weights.
    """

    def __init__(
        self,
        layout: CellLayout,
        frequencies: Tensor,
        widths: Sequence[int],
        n_networks: int = 1,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.layout, self.widths, self.n_networks = layout, tuple(widths), n_networks
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in pairwise([layout.n_inputs, *widths]):
            bound = 1 / math.sqrt(n_in)
            for parameters, n in ((self.weights, n_in), (self.biases, 1)):
                values = torch.rand((n_networks, n, n_out), generator=generator)
                parameters.append(nn.Parameter(bound * (2 * values - 1)))
        last = torch.zeros(n_networks, widths[-1], layout.n_outputs)
        for where in (slice(layout.n_distributions), slice(layout.all_logits.stop, None)):
            draws = torch.randn(
                (n_networks, widths[-1], layout.n_distributions), generator=generator
            )
            last[:, :, where] = 0.01 * draws
        self.weights.append(nn.Parameter(last))
        outputs = _initial_outputs(layout, frequencies)
        self.biases.append(nn.Parameter(outputs.repeat(n_networks, 1, 1)))
        # The linear model reads the inputs together with the first layer.
        direct = torch.zeros(n_networks, layout.n_inputs, layout.n_direct)
        self.weights[0] = nn.Parameter(torch.cat([self.weights[0].detach(), direct], dim=2))

    def inputs(self, cells: Tensor, hidden: Tensor) -> Tensor:
        """Inputs (n_networks, n_rows, n_inputs) of cells (n_rows, n_cell_columns).

        `hidden` (n_networks, n_rows, n_columns) is 1 where a column is hidden, else 0.
        """
        layout, n = self.layout, self.layout.n_discrete
        entry, score, observed, *_ = layout.split_cells(cells)
        seen = observed * (1 - hidden)
        x = seen.new_zeros(*seen.shape[:-1], layout.n_inputs)
        shown = seen[..., :n]
        index = entry[:, :n].long() + torch.tensor(layout.starts[:n], device=cells.device)
        x.scatter_(-1, index.expand(shown.shape), shown)
        x[..., layout.first_score : layout.first_contrast] = (score * seen)[..., layout.scored]
        ramped, shown = score[:, n:], seen[..., n:]
        if layout.contrasts:
            one, other = ([pair[i] for pair in layout.contrasts] for i in (0, 1))
            several = [layout.contrast(score, i) for i in range(len(one))]
            contrasts, both = torch.stack(several, dim=-1), seen[..., one] * seen[..., other]
            x[..., layout.first_contrast : layout.first_seen] = contrasts * both
            ramped, shown = torch.cat([ramped, contrasts], -1), torch.cat([shown, both], -1)
        own = ramps(ramped[..., None]) * shown[..., None]
        x[..., layout.n_indicators : layout.first_score] = own.flatten(-2)
        x[..., layout.first_seen :] = seen
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n_networks, n_rows, n_outputs) for inputs (n_networks, n_rows, n_inputs)."""
        return self.results(x)[-1]

    def results(
        self,
        x: Tensor,
        product: Callable[[Tensor, Tensor], Tensor] = torch.bmm,
        affine: Callable[[Tensor, Tensor, Tensor], Tensor] = torch.baddbmm,
    ) -> list[Tensor]:
        """Inputs, results of the hidden layers, and outputs, (n_networks, n_rows, n) each.

        ``product(a, b)`` and ``affine(bias, a, b)`` compute in each network.
        """
        first, direct = product(x, self.weights[0]).tensor_split([self.widths[0]], dim=-1)
        results = [x, (first + self.biases[0]).relu_()]
        for weight, bias in zip(self.weights[1:-1], self.biases[1:-1], strict=True):
            results.append(affine(bias, results[-1], weight).relu_())
        outputs = affine(self.biases[-1], results[-1], self.weights[-1])
        outputs[..., : self.layout.n_direct] += direct
        return [*results, outputs]

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Predict the hidden columns of cells.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_cell_columns)
        noise : Tensor of shape (n_rows, n_networks * n_columns), default=None
            1 where a column is hidden, else 0. None hides all columns.
        weights : None

        Returns
        -------
        Output
            Its reconstruction are the outputs (n_networks, n_rows, n_outputs), its code is what
            was hidden, (n_networks, n_rows, n_columns).
        """
        hidden = self.hidden_columns(x, noise)
        return Output(self(self.inputs(x, hidden)), hidden)

    def hidden_columns(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """What is hidden, (n_networks, n_rows, n_columns), of `noise` as in `run`."""
        if noise is None:
            noise = x.new_ones(len(x), self.n_networks * self.layout.n_columns)
        return noise.unflatten(1, (self.n_networks, -1)).transpose(0, 1)


def ramps(scores: Any) -> Any:
    """Piecewise linear encoding: from 0 to 1 over each of N_RAMPS intervals of the score.

    Networks learn from it better than from the score alone [1]_.

    Parameters
    ----------
    scores : Tensor or ndarray of shape (..., 1)

    Returns
    -------
    Tensor or ndarray of shape (..., N_RAMPS)

    References
    ----------
    .. [1] Gorishniy, Rubachev and Babenko (2022). On embeddings for numerical features in tabular
       deep learning. https://arxiv.org/abs/2203.05556
    """
    starts, lengths = RAMPS
    if isinstance(scores, Tensor):
        return ((scores - scores.new_tensor(starts)) / scores.new_tensor(lengths)).clamp(0, 1)
    return ((scores - starts) / lengths).clip(0, 1)


def _initial_outputs(layout: CellLayout, frequencies: Tensor) -> Tensor:
    """Outputs that are the distributions of the columns, (n_outputs,)."""
    outputs = torch.zeros(layout.n_outputs)
    n, first = layout.n_logistic, layout.n_distributions
    outputs[first : first + layout.starts[-1]] = frequencies.log()
    for j in range(layout.n_discrete, layout.n_columns):
        locations, logits, log_scales = layout.distributions_of(j)
        outputs[locations] = torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1)
        outputs[logits] = LOGISTIC_LOGIT - math.log(n)
        outputs[log_scales] = -1
    return outputs


class RandomColumns(nn.Module):
    """Noise module that hides a random set of columns of each row, at least one.

    The share of hidden columns is uniform, so all orders of the columns count equally. A single
    hidden column counts twice.

    Parameters
    ----------
    n_columns, n_networks : int
        Each network has its own sets.
    generator : torch.Generator
    """

    def __init__(self, n_columns: int, n_networks: int, generator: torch.Generator):
        super().__init__()
        self.n_columns, self.n_networks, self.generator = n_columns, n_networks, generator

    def forward(self, rows: Tensor) -> Tensor:
        """Draw 1 for hidden columns, else 0: (n_rows, n_networks * n_columns)."""
        shape = len(rows), self.n_networks, self.n_columns
        options: Any = {"generator": self.generator, "device": rows.device, "dtype": rows.dtype}
        draws = torch.rand(shape, **options)
        share = torch.rand((*shape[:2], 1), **options)
        share = torch.maximum(share, draws.amin(-1, keepdim=True))  # at least one is hidden
        return (draws <= share).to(rows.dtype).flatten(1)


class ColumnLikelihood:
    """Term of an objective: negative log-likelihood of hidden cells, in nats.

    A row's loss is the mean over its hidden columns; columns that are not observed count as zero.
    The mean over several networks is taken.

    Parameters
    ----------
    layout : CellLayout
    """

    def __init__(self, layout: CellLayout):
        self.layout = layout
        sizes = torch.tensor(layout.n_entries)
        owners = torch.arange(layout.n_columns).repeat_interleave(sizes)
        numbers = torch.arange(layout.n_discrete, layout.n_columns)
        owners = torch.cat([owners, numbers.repeat_interleave(layout.n_logistic)])
        # Which logits belong to which column: sums over columns are products.
        self.members = torch.zeros(len(owners), layout.n_columns)
        self.members[torch.arange(len(owners)), owners] = 1.0
        self.starts = torch.tensor(layout.starts[:-1])

    def __call__(self, output: Output, x: Tensor) -> Tensor:
        """Loss of each row.

        Parameters
        ----------
        output : Output
            Of a `ColumnNetwork`.
        x : Tensor of shape (n_rows, n_cell_columns)

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        weights = self.cell_weights(output.code, x)
        losses: Any = _Likelihood.apply(output.reconstruction, x, weights, self)
        return losses.mean(0)

    def cell_weights(self, hidden: Tensor, cells: Tensor) -> Tensor:
        """Weight of each cell in the loss of its row, (n_networks, n_rows, n_columns)."""
        return hidden * self.layout.split_cells(cells)[2] / hidden.sum(-1, keepdim=True)

    def log_likelihoods(self, outputs: Tensor, cells: Tensor) -> Tensor:
        """Log-likelihood of each cell, (..., n_rows, n_columns), in nats."""
        parts = self.parts(outputs, cells)
        return (parts["likelihood"] / parts["total"]).clamp(min=SMALLEST).log()

    def parts(self, outputs: Tensor, cells: Tensor) -> dict[str, Tensor]:
        """Likelihoods that are not normalised, their totals, and what gradients need."""
        layout, n = self.layout, self.layout.n_discrete
        entry, _, _, share, lower, upper = layout.split_cells(cells)
        self.members = self.members.to(outputs)
        logits = outputs[..., layout.all_logits]
        e = (logits - logits.amax(-1, keepdim=True)).clamp_(min=-FAR).exp_()
        total = e @ self.members
        index = (entry.long() + self.starts.to(e.device)).expand(total.shape)
        of_entry = e.gather(-1, index).mul_(share)
        parts = {"e": e, "total": total, "index": index, "of_entry": of_entry}
        likelihood = of_entry.clone()
        if layout.n_numbers:
            q = layout.n_numbers, layout.n_logistic
            location = outputs[..., : layout.n_distributions].unflatten(-1, q)
            raw = outputs[..., layout.all_logits.stop :].unflatten(-1, q)
            inverse = raw.clamp(*LOG_SCALES).neg_().exp_()
            above = (upper[..., None] - location).mul_(inverse)
            below = (lower[..., None] - location).mul_(inverse)
            width = (above - below).clamp_(min=1e-6)
            at_above, at_below = above.sigmoid(), below.neg().sigmoid_()
            # F(above) - F(below) of the logistic distribution, without cancellation.
            mass = width.neg().expm1_().neg_().mul_(at_above).mul_(at_below)
            weighted = mass.mul_(e[..., layout.starts[-1] :].unflatten(-1, q))
            likelihood[..., n:] += weighted.sum(-1)
            parts |= {"above": above, "below": below, "width": width, "weighted": weighted}
            parts |= {"inverse": inverse, "raw": raw, "at_above": at_above, "at_below": at_below}
        parts["likelihood"] = likelihood.clamp_(min=SMALLEST)
        return parts

    def gradient(self, parts: dict[str, Tensor], weights: Tensor) -> Tensor:
        """Gradient of the weighted sum of negative log-likelihoods with respect to the outputs.

        It overwrites the parts.
        """
        layout, n, e = self.layout, self.layout.n_discrete, parts["e"]
        gradient = e.new_empty(*e.shape[:-1], layout.n_outputs)
        of_logits = gradient[..., layout.all_logits]
        torch.mul(e, (weights / parts["total"]) @ self.members.T, out=of_logits)
        inverse = weights / parts["likelihood"]
        of_logits.scatter_add_(-1, parts["index"], parts["of_entry"].mul_(inverse).neg_())
        if not layout.n_numbers:
            return gradient
        above, below, width = parts["above"], parts["below"], parts["width"]
        shares = parts["weighted"].mul_(inverse[..., n:, None])
        of_logits[..., layout.starts[-1] :] -= shares.flatten(-2)
        at_above, at_below = parts["at_above"], parts["at_below"]
        slope = (at_below - at_above).mul_(shares).mul_(parts["inverse"])
        gradient[..., : layout.n_distributions] = slope.flatten(-2)
        # At the outermost cells a bound is far away, and its part is zero.
        outer = (above > FAR) | (below < -FAR)
        of_scale = (width / width.clamp(max=FAR).expm1_()).masked_fill_(outer, 0.0)
        of_scale += (above * (1 - at_above)).masked_fill_(above > FAR, 0.0)
        of_scale -= (below * (1 - at_below)).masked_fill_(below < -FAR, 0.0)
        inside = (parts["raw"] > LOG_SCALES[0]) & (parts["raw"] < LOG_SCALES[1])
        gradient[..., layout.all_logits.stop :] = of_scale.mul_(shares).mul_(inside).flatten(-2)
        return gradient


class _Likelihood(torch.autograd.Function):
    """Weighted sums of negative log-likelihoods, with their gradient in closed form."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, cells: Tensor, weights: Tensor, term: ColumnLikelihood
    ) -> Tensor:
        parts = term.parts(outputs, cells)
        losses = -(weights * (parts["likelihood"] / parts["total"]).log()).sum(-1)
        if outputs.requires_grad:
            ctx.save_for_backward(term.gradient(parts, weights))
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0][..., None], None, None, None
