"""The ONNX graph from values of a mixed table to coordinates, in which gaps have expectations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae._latent.column_model import QUANTILES, ColumnModel
from skae._latent.famd import FamdCoordinates
from skae._latent.given_condition import ConditionalNormal, ResidualRows
from skae.networks.columns import LARGEST_CONTRAST, LOG_SCALES, RAMPS


class ToCoordinates(nn.Module):
    """Step of a module for ONNX: coordinates of values (n_rows, n_features), NaN in gaps.

    It is what `ColumnModel.expectations` and `FamdCoordinates` compute together. `skae.export`
    writes its graph; torch does not run it. The networks compute in `dtype`, all else in float64.
    """

    def __init__(
        self,
        model: ColumnModel,
        coordinates: FamdCoordinates,
        modelled: np.ndarray,
        dtype: torch.dtype,
    ):
        super().__init__()
        self.model, self.columns, self.layout = model, model.columns, model.layout
        self.coordinates, self.modelled, self.dtype = coordinates, modelled, dtype

    def write(self, graph: Any, x: str) -> str:
        """Add the nodes to a graph, and return the name of the output."""
        x = graph.add("Gather", x, torch.as_tensor(self.modelled), axis=1)
        missing = graph.add("IsNaN", x)
        outputs = self._outputs(graph, self._inputs(graph, x, missing))
        expected = graph.add("Concat", *self._expectations(graph, outputs), axis=-1)
        coordinates = self.coordinates
        owners = coordinates.owners
        known, gaps = _known(graph, x, coordinates), _columns(graph, missing, owners)
        return _scaled(graph, graph.add("Where", gaps, expected, known), coordinates)

    def _inputs(self, graph: Any, x: str, missing: str) -> str:
        """Inputs of the networks, (n_rows, n_inputs)."""
        layout, parts = self.layout, []
        if layout.n_discrete:
            discrete = self.columns[: layout.n_discrete]
            ends = [np.r_[-np.inf, column.bounds, np.inf] for column in discrete]
            lower, upper = (
                _double(np.concatenate(side))
                for side in ([each[:-1] for each in ends], [each[1:] for each in ends])
            )
            own = _columns(graph, x, np.repeat(range(len(ends)), layout.n_entries[: len(ends)]))
            inside = graph.add("GreaterOrEqual", own, lower), graph.add("Less", own, upper)
            parts.append(graph.cast(graph.add("And", *inside), torch.float64))  # NaN is in no cell
        seen = graph.cast(graph.add("Not", missing), torch.float64)
        if layout.scored:
            scored = [self.columns[j] for j in layout.scored]
            own = _columns(graph, graph.add("Where", missing, _double(0.0), x), layout.scored)
            scores = _interpolate(graph, own, [c.mean for c in scored], [c.score for c in scored])
            is_seen = _columns(graph, seen, layout.scored)
            numbers = range(len(scored) - layout.n_numbers, len(scored))
            contrasts = [self._contrasts(graph, scores, is_seen)] if layout.contrasts else []
            if layout.n_numbers:
                both = (_columns(graph, part, numbers) for part in (scores, is_seen))
                parts.append(_ramps(graph, *both))
            parts += [_ramps(graph, *pair) for pair in contrasts]
            parts.append(graph.add("Mul", scores, is_seen))
            parts += [graph.add("Mul", *pair) for pair in contrasts]
        return graph.cast(graph.add("Concat", *parts, seen, axis=1), self.dtype)

    def _contrasts(self, graph: Any, scores: str, is_seen: str) -> tuple[str, str]:
        """Contrasts (n_rows, n_contrasts), and whether both of their columns are seen."""
        layout = self.layout
        places = {j: i for i, j in enumerate(layout.scored)}
        pairs = [[places[a] for a, _, _ in layout.contrasts]]
        pairs.append([places[b] for _, b, _ in layout.contrasts])
        correlations = np.array([correlation for _, _, correlation in layout.contrasts])
        one, other = (_columns(graph, scores, pair) for pair in pairs)
        predicted = graph.add("Mul", other, _double(correlations))
        scale = _double(np.sqrt(1 - correlations**2))
        contrasts = graph.add("Div", graph.add("Sub", one, predicted), scale)
        both = graph.add("Mul", *(_columns(graph, is_seen, pair) for pair in pairs))
        return _clip(graph, contrasts, -LARGEST_CONTRAST, LARGEST_CONTRAST), both

    def _outputs(self, graph: Any, x: str) -> str:
        """Outputs of the networks, (n_networks, n_rows, n_outputs), in float64."""
        network, n_direct = self.model.network, self.layout.n_direct
        weights = [weight.to(self.dtype) for weight in network.weights]
        biases = [bias.to(self.dtype) for bias in network.biases]
        both = graph.add("MatMul", x, weights[0])
        h, direct = _split(graph, both, [network.widths[0], n_direct])
        for bias, weight in zip(biases[:-1], weights[1:], strict=True):
            h = graph.add("MatMul", graph.add("Relu", graph.add("Add", h, bias)), weight)
        padding = torch.tensor([0] * 5 + [self.layout.n_outputs - n_direct])
        h = graph.add("Add", h, graph.add("Pad", direct, padding))
        return graph.cast(graph.add("Add", h, biases[-1]), torch.float64)

    def _expectations(self, graph: Any, outputs: str) -> list[str]:
        """Mean of each number, probabilities of each category: (n_rows, n) each."""
        layout, q, m = self.layout, self.layout.n_numbers, self.layout.n_logistic
        sizes, logits = [*layout.n_entries, *[m] * q], outputs
        if q:
            locations, logits, log_scales = _split(graph, outputs, [q * m, sum(sizes), q * m])
            means = _split(graph, self._means(graph, locations, log_scales), [m] * q)
        of_columns = _split(graph, logits, sizes)
        expectations = []
        for j, column in enumerate(self.columns):
            own, i = of_columns[j], j - layout.n_discrete
            if layout.is_number(j):
                own = graph.add("Concat", own, of_columns[layout.n_columns + i], axis=-1)
            expected = graph.add("Softmax", own, axis=-1)
            if column.kind != "category":
                entries = _double(column.means_of_entries)[:, None]
                shares, *others = _split(graph, expected, [len(entries), m][: 1 + (i >= 0)])
                expected = graph.add("MatMul", shares, entries)
                for share in others:
                    weighted = graph.add("Mul", share, means[i])
                    weighted = graph.add("ReduceSum", weighted, torch.tensor([-1]), keepdims=1)
                    expected = graph.add("Add", expected, weighted)
            expectations.append(graph.add("ReduceMean", expected, torch.tensor([0]), keepdims=0))
        return expectations

    def _means(self, graph: Any, locations: str, log_scales: str) -> str:
        """Mean value of each logistic distribution, (n_networks, n_rows, n_numbers * m)."""
        q, m = self.layout.n_numbers, self.layout.n_logistic
        numbers = self.columns[self.layout.n_discrete :]
        scales = graph.add("Exp", _clip(graph, log_scales, *LOG_SCALES))
        shape = torch.tensor([0, 0, q, m, 1])
        locations, scales = (graph.add("Reshape", part, shape) for part in (locations, scales))
        logits = _double(np.log(QUANTILES / (1 - QUANTILES)))
        scores = graph.add("Add", locations, graph.add("Mul", scales, logits))
        given = [c.score for c in numbers], [c.mean for c in numbers]
        values = _interpolate(graph, scores, *given, n_trailing=2)
        means = graph.add("ReduceMean", values, torch.tensor([-1]), keepdims=0)
        return graph.add("Reshape", means, torch.tensor([0, 0, q * m]))


class ToResiduals(nn.Module):
    """Step of a module for ONNX: residuals of a regression on a condition, and the condition.

    It is `ResidualRows.split`, with both parts side by side. torch does not run it.
    """

    def __init__(self, rows: ResidualRows):
        super().__init__()
        self.rows = rows

    def write(self, graph: Any, x: str) -> str:
        """Add the nodes to a graph, and return the name of the output."""
        own, parts = self.rows, []
        rows = graph.add("Sub", _columns(graph, x, own.of_rows), _double(own.mean))
        if len(own.of_condition):
            given = _columns(graph, x, own.of_condition)
            parts.append(_scaled(graph, _known(graph, given, own.coordinates), own.coordinates))
            fitted = graph.add("MatMul", parts[0], _double(own.slopes))
            rows = graph.add("Sub", rows, fitted)
        rows = graph.add("Div", rows, _double(np.full(len(own.mean), own.scale)))
        return graph.add("Concat", rows, *parts, axis=1)


class ToWhitened(nn.Module):
    """Step of a module for ONNX: codes that are standard normal, of what `ToResiduals` returns.

    It is an encoder, and then `ConditionalNormal.whiten`. torch does not run it.
    """

    def __init__(self, encoder: nn.Module, prior: ConditionalNormal):
        super().__init__()
        self.encoder, self.prior = encoder, prior

    def write(self, graph: Any, x: str) -> str:
        """Add the nodes to a graph, and return the name of the output."""
        prior, codes = self.prior, graph.write(x, self.encoder)
        m, k = prior.shift.shape
        codes = graph.add("Sub", codes, _double(prior.center))
        regression, logs = prior.coefficients[:, 0], _double(-0.5 * prior.log_variances[0])
        if m:
            given = graph.add("Gather", x, torch.arange(-m, 0), axis=1)
            codes = graph.add("Sub", codes, graph.add("MatMul", given, _double(prior.shift)))
            inside = _clip(graph, graph.add("Div", given, _double(prior.reach)), -1.0, 1.0)
            pairs = (
                graph.add("Unsqueeze", *pair)
                for pair in ((codes, torch.tensor([2])), (inside, torch.tensor([1])))
            )
            products = graph.add("Flatten", graph.add("Mul", *pairs), axis=1)
            products = graph.add("Concat", codes, products, axis=1)
            regression = np.vstack([regression, prior.coefficients[:, 1:].reshape(k * m, k)])
            by_condition = graph.add("MatMul", inside, _double(-0.5 * prior.log_variances[1:]))
            logs = graph.add("Add", by_condition, logs)
        else:
            products = codes
        codes = graph.add("Sub", codes, graph.add("MatMul", products, _double(regression)))
        return graph.add("Mul", codes, graph.add("Exp", logs))


def _known(graph: Any, x: str, coordinates: FamdCoordinates) -> str:
    """Numbers, and indicators of categories, (n_rows, n_coordinates), of values without gaps."""
    owners, columns = coordinates.owners, coordinates.columns
    is_category = torch.tensor([columns[j].kind == "category" for j in owners])
    starts = np.array([where.start for where in coordinates.slices])
    own = _columns(graph, x, owners)
    indicators = graph.add("Equal", own, _double(np.arange(len(owners)) - starts[owners]))
    return graph.add("Where", is_category, graph.cast(indicators, torch.float64), own)


def _scaled(graph: Any, x: str, coordinates: FamdCoordinates) -> str:
    centred = graph.add("Sub", x, _double(coordinates.mean))
    return graph.add("Div", centred, _double(coordinates.scale))


def _ramps(graph: Any, x: str, is_seen: str) -> str:
    """Ramps of scores (n_rows, n) that are seen, (n_rows, n * N_RAMPS)."""
    each, shown = (graph.add("Unsqueeze", part, torch.tensor([-1])) for part in (x, is_seen))
    starts, lengths = map(_double, RAMPS)
    ramps = _clip(graph, graph.add("Div", graph.add("Sub", each, starts), lengths), 0.0, 1.0)
    return graph.add("Flatten", graph.add("Mul", ramps, shown), axis=1)


def _double(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float64))


def _columns(graph: Any, x: str, which: Any) -> str:
    return graph.add("Gather", x, torch.as_tensor(np.asarray(which, dtype=np.int64)), axis=1)


def _clip(graph: Any, x: str, low: float, high: float) -> str:
    return graph.add("Min", graph.add("Max", x, _double(low)), _double(high))


def _split(graph: Any, x: str, sizes: Sequence[int]) -> list[str]:
    """Split the last axis."""
    if len(sizes) == 1:
        return [x]
    return graph.add("Split", x, torch.tensor(list(sizes)), n_outputs=len(sizes), axis=-1)


def _interpolate(
    graph: Any, x: str, knots: list[np.ndarray], values: list[np.ndarray], n_trailing: int = 0
) -> str:
    """`numpy.interp` with a table for each column of x, whose axis has `n_trailing` others after.

    The last knot that is not above x is found by bisection, for all tables at once.
    """
    size = 1 << max(len(each) - 1 for each in knots).bit_length()
    at = np.full((len(knots), size), np.finfo(float).max)
    result, slope = np.empty_like(at), np.zeros_like(at)
    for i, (own, ordinates) in enumerate(zip(knots, values, strict=True)):
        n, widths = len(own), np.diff(own)
        at[i, :n], result[i, :n], result[i, n:] = own, ordinates, ordinates[-1]
        slope[i, : n - 1] = np.diff(ordinates) / np.where(widths > 0, widths, np.inf)
    tables = [_double(table.ravel()) for table in (at, result, slope)]
    starts = np.arange(len(knots)) * size
    position: Any = torch.as_tensor(starts.reshape(-1, *[1] * n_trailing))
    while size := size // 2:
        probe = graph.add("Add", position, torch.tensor(size))
        is_reached = graph.add("LessOrEqual", graph.add("Gather", tables[0], probe), x)
        position = graph.add("Where", is_reached, probe, position)
    knot, value, slopes = (graph.add("Gather", table, position) for table in tables)
    beyond = graph.add("Max", graph.add("Sub", x, knot), _double(0.0))
    return graph.add("Add", value, graph.add("Mul", slopes, beyond))
