"""Joint distribution of the columns of a mixed table, by a `ColumnNetwork`.

Rows are drawn column by column, given what is known of them. The order of the columns is random:
the density is the mean over orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logsumexp, softmax

from skae._data.batches import InMemorySource
from skae._data.threads import inference_threads, limited_threads
from skae._latent.column_cells import ColumnCells, find_contrasts, layout_of, to_cells
from skae._training.column_gradients import ColumnGradient
from skae._training.net import AutoencoderNet
from skae._training.progress import QUIET, Progress
from skae._training.trainer import AVERAGING, training_threads
from skae.losses import Objective
from skae.networks.columns import (
    LOG_SCALES,
    CellLayout,
    ColumnLikelihood,
    ColumnNetwork,
    RandomColumns,
    ramps,
)

N_LOGISTIC = 4  # logistic distributions of a number
VALIDATION_MASKS = 400  # at least, if the held-out rows are repeated at most so many times:
MOST_REPEATS = 6
ROWS_OF_AN_ORDER = 8  # about, of rows that are drawn in one order of the columns
MOST_ORDERS = 150
DENSITY_ORDERS = 4  # over which a log-likelihood is averaged
ROWS_AT_ONCE = 4096
SMALLEST_LIKELIHOOD = 1e-300
QUANTILES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # whose mean is the mean of a distribution
WIDTHS = (128, 128)
BATCH_SIZE, STEPS = 128, 4000
FEWEST_EPOCHS, MOST_EPOCHS = 10, 450
PATIENCE = 0.15  # share of the epochs without progress after which training stops
PARTIAL_FIT_BATCH = 32
CLIPPING = 10.0  # largest norm of the gradient
Allowed = dict[int, np.ndarray]  # of columns, which of their cells are admitted


@dataclass(frozen=True)
class ColumnTraining:
    """Settings of the training of a `ColumnModel`; None is a default for the number of rows.

    `seeds` are those of the weights, of the order of the rows and of the hidden columns.
    """

    widths: tuple[int, ...] | None
    n_networks: int
    lr: float
    weight_decay: float
    batch_size: int | None
    max_epochs: int | None
    device: torch.device
    seeds: tuple[int, ...]
    progress: Progress = QUIET

    def make_network(self, columns: list[ColumnCells], values: np.ndarray) -> ColumnNetwork:
        """Build networks at their initial weights, for columns with values."""
        layout = layout_of(columns, N_LOGISTIC, find_contrasts(columns, values))
        frequencies = np.concatenate([column.frequencies for column in columns])
        generator = torch.Generator().manual_seed(self.seeds[0])
        widths = self.widths or WIDTHS
        given = torch.from_numpy(frequencies).float()
        return ColumnNetwork(layout, given, widths, self.n_networks, generator)

    def make_net(self, network: ColumnNetwork, n_rows: int, **options: Any) -> AutoencoderNet:
        """Build the net that trains networks on so many rows."""
        layout, batch_size = network.layout, self.batch_size or BATCH_SIZE
        n_steps = -(-n_rows // batch_size)
        max_epochs = self.max_epochs or int(np.clip(STEPS // n_steps, FEWEST_EPOCHS, MOST_EPOCHS))

        def make_masks() -> RandomColumns:
            random = torch.Generator(self.device).manual_seed(self.seeds[2])
            return RandomColumns(layout.n_columns, network.n_networks, random)

        settings: dict[str, Any] = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "averaging": AVERAGING,
            "clipping": CLIPPING,
            "batch_size": batch_size,
            "max_epochs": max_epochs,
            "patience": max(5, round(PATIENCE * max_epochs)),
            "require_gain": True,
            "n_standard_errors": 0.0,
            "seed": self.seeds[1],
            "noise": make_masks,
            "gradient": ColumnGradient,
            "device": str(self.device),
            "progress": self.progress,
        }
        objective = Objective({"log_likelihood": ColumnLikelihood(layout)})
        return AutoencoderNet(network, objective, **settings | options)


class ColumnModel:
    """Distribution of each column given any others, by several networks.

    Each row is drawn by one of them; expectations are averaged over all.

    Parameters
    ----------
    columns : list of ColumnCells
    network : ColumnNetwork
        On the CPU, in evaluation mode.
    loss_curve, validation_curve : list of float
        Mean negative log-likelihood of a hidden cell after each epoch, in nats.
    """

    def __init__(
        self,
        columns: list[ColumnCells],
        network: ColumnNetwork,
        loss_curve: Sequence[float] = (),
        validation_curve: Sequence[float] = (),
    ):
        self.columns, self.network = columns, network
        self.loss_curve, self.validation_curve = list(loss_curve), list(validation_curve)
        # Of `partial_fit`: weights and optimizer between calls, and the number of steps so far.
        self.state: dict[str, Any] | None = None
        self.n_steps = 0

    @property
    def layout(self) -> CellLayout:
        """Layout of the network's inputs and outputs."""
        return self.network.layout

    @classmethod
    def fit(
        cls,
        columns: list[ColumnCells],
        values: np.ndarray,
        training: ColumnTraining,
        held_out: np.ndarray,
    ) -> ColumnModel:
        """Train networks on values (n_rows, n_columns); NaN is missing.

        `held_out` are the indices of validation rows. Without any, nothing is trained, and the
        columns are independent.
        """
        network = training.make_network(columns, values)
        if not len(held_out) or len(columns) < 2:
            return cls(columns, network.eval().requires_grad_(False))
        cells = torch.from_numpy(to_cells(columns, network.layout, values))
        is_held_out = np.zeros(len(values), bool)
        is_held_out[held_out] = True
        repeats = min(MOST_REPEATS, -(-VALIDATION_MASKS // len(held_out)))
        validation = cells[is_held_out].repeat(repeats, 1)
        net = training.make_net(network, len(values) - len(held_out))
        with limited_threads(training_threads(network, net.batch_size, training.device)):
            net.fit(cells[~is_held_out], held_out=validation)
        history = net.history
        curves = [[epoch[loss] for epoch in history] for loss in ("train_loss", "valid_loss")]
        net.drop_training_state()
        return cls(columns, net.module_.cpu().requires_grad_(False), *curves)

    def partial_fit(self, values: np.ndarray, training: ColumnTraining) -> None:
        """Train for one pass over values (n_rows, n_columns), after the passes of earlier calls."""
        network = self.network.requires_grad_(True)
        net = training.make_net(
            network,
            len(values),
            batch_size=training.batch_size or PARTIAL_FIT_BATCH,
            max_epochs=1,
            schedule_free=True,
            require_gain=False,
            seed=training.seeds[1] + self.n_steps,
            progress=QUIET,
        )
        source = InMemorySource(torch.from_numpy(to_cells(self.columns, self.layout, values)))
        with limited_threads(training_threads(network, net.batch_size, training.device)):
            self.state = net.partial_fit_epoch(source, self.state, self.n_steps)
        self.n_steps += -(-len(values) // net.batch_size)
        self.loss_curve.append(net.history[-1]["train_loss"])
        net.drop_training_state()
        self.network = net.module_.cpu().requires_grad_(False)

    # -- distributions given what is known -----------------------------------------

    @torch.inference_mode()
    def _outputs(self, values: np.ndarray) -> np.ndarray:
        """Outputs (n_networks, n_rows, n_outputs) given what is known of rows."""
        cells = torch.from_numpy(to_cells(self.columns, self.layout, values))
        hidden = torch.zeros(self.network.n_networks, len(cells), self.layout.n_columns)
        with inference_threads(len(cells) * sum(p.numel() for p in self.network.parameters())):
            return self.network(self.network.inputs(cells, hidden)).numpy()

    def expectations(self, values: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Distributions of missing values, for each column and part of the rows.

        Yields
        ------
        j : int
            Column.
        rows : ndarray of int
            Rows that lack it.
        expected : ndarray of shape (n_rows,) or (n_rows, n_categories)
            Mean of a number, or probabilities of the categories.
        """
        incomplete = np.flatnonzero(np.isnan(values).any(axis=1))
        for start in range(0, len(incomplete), ROWS_AT_ONCE):
            rows = incomplete[start : start + ROWS_AT_ONCE]
            part = values[rows]
            outputs = self._outputs(part)
            for j in range(self.layout.n_columns):
                missing = np.flatnonzero(np.isnan(part[:, j]))
                if len(missing):
                    yield j, rows[missing], self._expected(j, outputs[:, missing])

    def _expected(self, j: int, outputs: np.ndarray) -> np.ndarray:
        """Mean of a number or probabilities of categories, of outputs (n_networks, n_rows, …)."""
        column, layout = self.columns[j], self.layout
        own = Outputs(layout, j, lambda where: outputs[..., where].astype(float))
        shares = softmax(own.logits, axis=-1)
        if column.kind == "category":
            return shares.mean(axis=0)
        n = column.n_entries
        means = shares[..., :n] @ column.means_of_entries
        if column.kind == "number":
            logits = np.log(QUANTILES / (1 - QUANTILES))
            scores = own.locations[..., None] + own.scales[..., None] * logits
            means += (shares[..., n:] * column.values_at(scores).mean(axis=-1)).sum(axis=-1)
        return means.mean(axis=0)

    # -- drawing -------------------------------------------------------------------

    def draw(
        self,
        values: np.ndarray,
        random_state: np.random.RandomState,
        allowed: Allowed | None = None,
        only: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw what is missing in rows (n_rows, n_columns), column by column.

        In columns of `allowed`, only the cells that it admits are drawn. If `only` names columns,
        no others are drawn.

        Returns
        -------
        values : ndarray of shape (n_rows, n_columns)
        log_weights : ndarray of shape (n_rows,)
            Log-probability of the admitted cells of each row. Rows that are drawn again with
            these weights have the distribution given the condition.
        """
        values, allowed = values.copy(), allowed or {}
        log_weights = np.zeros(len(values))
        if not len(values):
            return values, log_weights
        n_orders = int(np.clip(len(values) // ROWS_OF_AN_ORDER, 8, MOST_ORDERS))
        with limited_threads(1):
            for rows in np.array_split(np.arange(len(values)), min(n_orders, len(values))):
                order = random_state.permutation(self.layout.n_columns)
                if only is not None:
                    order = order[np.isin(order, only)]
                network = random_state.randint(self.network.n_networks)
                state = _Conditioning(self, values[rows], network)
                for j in order.tolist():
                    missing = np.flatnonzero(np.isnan(values[rows, j]))
                    if not len(missing):
                        continue
                    outputs = state.outputs(j, missing)
                    cells, log_mass = self._draw_cells(j, outputs, random_state, allowed.get(j))
                    log_weights[rows[missing]] += log_mass
                    drawn = self.columns[j].draw(cells, random_state)
                    values[rows[missing], j] = drawn
                    state.condition(j, missing, cells, drawn)
        return values, log_weights

    def _draw_cells(
        self,
        j: int,
        outputs: Outputs,
        random_state: np.random.RandomState,
        allowed: np.ndarray | None,
    ) -> tuple[np.ndarray, Any]:
        """Draw a cell of a column for each row; with the log-probability of the admitted ones."""
        column = self.columns[j]
        if allowed is not None:
            masses = self._masses(j, outputs) * allowed
            total = masses.sum(axis=1)
            masses = np.where(total[:, None] > 0, masses, allowed * np.maximum(column.count, 0.5))
            return _draw_each(masses, random_state), np.log(np.maximum(total, SMALLEST_LIKELIHOOD))
        chosen = _draw_each(softmax(outputs.logits, axis=1), random_state)
        if column.kind != "number":
            return chosen, 0.0
        cells = np.empty(len(chosen), int)
        is_entry = chosen < column.n_entries
        ends = column.rows_up_to_entries
        entry = chosen[is_entry]
        counts = np.diff(ends, prepend=0)[entry]
        position = ends[entry] - counts * (1 - random_state.random_sample(len(entry)))
        cells[is_entry] = np.searchsorted(column.rows_up_to_cells, position, side="right")
        others = np.flatnonzero(~is_entry)
        which = chosen[others] - column.n_entries
        uniform = np.clip(random_state.random_sample(len(others)), 1e-7, 1 - 1e-7)
        scores = outputs.locations[others, which] + outputs.scales[others, which] * np.log(
            uniform / (1 - uniform)
        )
        cells[others] = np.searchsorted(column.edges[1:-1], scores, side="right")
        return np.minimum(cells, column.n_cells - 1), 0.0

    def _masses(self, j: int, outputs: Outputs) -> np.ndarray:
        """Probability of each cell of a column, (n_rows, n_cells)."""
        column = self.columns[j]
        shares = softmax(outputs.logits, axis=1)
        masses = shares[:, column.entry] * column.shares
        if column.kind == "number":
            for i in range(self.layout.n_logistic):
                scores = column.edges - outputs.locations[:, i, None]
                below = expit(scores / outputs.scales[:, i, None])
                masses += shares[:, column.n_entries + i, None] * np.diff(below, axis=1)
        return masses

    # -- likelihood ----------------------------------------------------------------

    def log_likelihood(
        self,
        values: np.ndarray,
        random_state: np.random.RandomState,
        n_orders: int = DENSITY_ORDERS,
    ) -> np.ndarray:
        """Log-likelihood of what is known of rows, in nats, (n_rows,).

        It is that of the mean over the networks, each with its own orders of the columns, which
        are the same for all rows. There are at least `n_orders` in all.
        """
        n_networks = self.network.n_networks
        n_orders = n_networks * -(-n_orders // n_networks)
        orders = [random_state.permutation(self.layout.n_columns) for _ in range(n_orders)]
        result = np.empty(len(values))
        with limited_threads(1):
            for start in range(0, len(values), ROWS_AT_ONCE // 4):
                rows = slice(start, start + ROWS_AT_ONCE // 4)
                in_orders = [
                    self._log_likelihood_in_order(values[rows], order, i % n_networks)
                    for i, order in enumerate(orders)
                ]
                result[rows] = logsumexp(in_orders, axis=0) - np.log(n_orders)
        return result

    def _log_likelihood_in_order(
        self, values: np.ndarray, order: np.ndarray, network: int
    ) -> np.ndarray:
        total = np.zeros(len(values))
        state = _Conditioning(self, np.full_like(values, np.nan), network)
        for j in order:
            known = np.flatnonzero(~np.isnan(values[:, j]))
            if not len(known):
                continue
            own = values[known, j]
            cells = self.columns[j].cells_of(own)
            likelihood = self._likelihood(j, state.outputs(j, known), cells)
            total[known] += np.log(np.maximum(likelihood, SMALLEST_LIKELIHOOD))
            state.condition(j, known, cells, own)
        return total

    def _likelihood(self, j: int, outputs: Outputs, cells: np.ndarray) -> np.ndarray:
        """Probability of one cell of a column for each row."""
        column, rows = self.columns[j], np.arange(len(cells))
        shares = softmax(outputs.logits, axis=1)
        likelihood = shares[rows, column.entry[cells]] * column.shares[cells]
        if column.kind == "number":
            edges = np.stack([column.edges[cells], column.edges[cells + 1]])
            below, above = expit((edges[..., None] - outputs.locations) / outputs.scales)
            likelihood += (shares[:, column.n_entries :] * (above - below)).sum(axis=1)
        return likelihood

    # -- pickles -------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        network = self.network
        return {
            "columns": [column.to_state() for column in self.columns],
            "n_logistic": self.layout.n_logistic,
            "contrasts": [list(pair) for pair in self.layout.contrasts],
            "widths": list(network.widths),
            "n_networks": network.n_networks,
            "weights": [p.detach().numpy() for p in network.parameters()],
            "loss_curve": np.array(self.loss_curve),
            "validation_curve": np.array(self.validation_curve),
            "state": self.state,
            "n_steps": self.n_steps,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        columns = [ColumnCells(**column) for column in state["columns"]]
        contrasts = [(one, other, r) for one, other, r in state["contrasts"]]
        layout = layout_of(columns, state["n_logistic"], contrasts)
        frequencies = torch.ones(sum(layout.n_entries))
        network = ColumnNetwork(layout, frequencies, state["widths"], state["n_networks"])
        for parameter, values in zip(network.parameters(), state["weights"], strict=True):
            if parameter.shape != values.shape:
                raise ValueError(
                    f"The weights of the column model have shape {values.shape}, not "
                    f"{tuple(parameter.shape)}: the file is damaged. Load an intact copy of it."
                )
            parameter.data = torch.from_numpy(np.array(values))
        curves = state["loss_curve"].tolist(), state["validation_curve"].tolist()
        ColumnModel.__init__(self, columns, network.eval().requires_grad_(False), *curves)
        self.state, self.n_steps = state["state"], state["n_steps"]


class Outputs:
    """Outputs for one column: logits of entries and distributions, locations and scales.

    `read` returns a part of the outputs, (..., n).
    """

    def __init__(self, layout: CellLayout, j: int, read: Callable[[slice], np.ndarray]):
        self.logits = read(layout.entries_of(j))
        if layout.is_number(j):
            self.locations, logits, log_scales = map(read, layout.distributions_of(j))
            self.logits = np.concatenate([self.logits, logits], axis=-1)
            self.scales = np.exp(np.clip(log_scales, *LOG_SCALES))


class _Conditioning:
    """What the inputs add to one network's layers, of rows whose columns become known in turn.

    Only what a new column adds is computed.
    """

    def __init__(self, model: ColumnModel, values: np.ndarray, network: int):
        layout, parts = model.layout, model.network
        self.layout, self.columns = layout, model.columns
        self.weights = [w[network].numpy() for w in parts.weights]
        self.biases = [b[network].numpy() for b in parts.biases]
        self.width, self.first = parts.widths[0], self.weights[0]
        self.sums = np.zeros((len(values), self.first.shape[1]), np.float32)
        self.sums[:, : self.width] = self.biases[0]
        self.scores = np.full((len(values), layout.n_columns), np.nan, np.float32)
        for j in range(layout.n_columns):
            known = np.flatnonzero(~np.isnan(values[:, j]))
            if len(known):
                own = values[known, j]
                self.condition(j, known, self.columns[j].cells_of(own), own)

    def condition(self, j: int, rows: np.ndarray, cells: np.ndarray, values: np.ndarray) -> None:
        """Make a column of some rows known."""
        layout, column = self.layout, self.columns[j]
        added = self.first[layout.first_seen + j]
        if layout.is_scored[j]:
            scores = column.scores_of(values).astype(np.float32)
            self.scores[rows, j] = scores
            added = added + np.outer(
                scores, self.first[layout.first_score + layout.scored.index(j)]
            )
        if layout.is_number(j):
            own = ramps(scores[:, None]).astype(np.float32)
            added = added + own @ self.first[layout.ramps_of(j - layout.n_discrete)]
        else:
            added = added + self.first[layout.starts[j] + column.entry[cells]]
        self.sums[rows] += added
        for i, (one, other, _) in enumerate(layout.contrasts):
            if j in (one, other):
                is_known = ~np.isnan(self.scores[rows, other if j == one else one])
                both = rows[is_known]
                contrast = layout.contrast(self.scores[both], i)[:, None].astype(np.float32)
                slopes = self.first[layout.ramps_of(layout.n_numbers + i)]
                added = ramps(contrast).astype(np.float32) @ slopes
                self.sums[both] += added + contrast * self.first[layout.first_contrast + i]

    def outputs(self, j: int, rows: np.ndarray) -> Outputs:
        """Outputs for a column of some rows, given what is known."""
        layout, sums = self.layout, self.sums[rows]
        h = np.maximum(sums[:, : self.width], 0)
        for weight, bias in zip(self.weights[1:-1], self.biases[1:-1], strict=True):
            h = np.maximum(h @ weight + bias, 0)

        def read(where: slice) -> np.ndarray:
            result = h @ self.weights[-1][:, where] + self.biases[-1][:, where]
            if where.stop <= layout.n_direct:
                result += sums[:, self.width + where.start : self.width + where.stop]
            return result

        return Outputs(layout, j, read)


def _draw_each(weights: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
    """Draw a column of each row, with probabilities proportional to its weights."""
    cumulative = weights.cumsum(axis=1)
    thresholds = random_state.random_sample((len(weights), 1)) * cumulative[:, -1:]
    return np.minimum((cumulative <= thresholds).sum(axis=1), weights.shape[1] - 1)
