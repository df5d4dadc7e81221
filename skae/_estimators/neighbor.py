"""The autoencoder whose code is a map that keeps neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn

from skae._data.dataset import Dataset
from skae._data.parameter_checks import Interval
from skae._data.warnings import warn
from skae._estimators.base import FitData
from skae._estimators.denoising import DenoisingAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.partial_fit import Stream
from skae._latent.neighbor_map import fuzzy_graph, positions_of_new, spread_out
from skae._training.callbacks import reads_batches
from skae._training.gradients import make_gradient
from skae._training.supervision import Supervision
from skae._training.targets import ContinuousTarget, Targets
from skae._training.trainer import Trainer
from skae.losses import Objective
from skae.networks.supervised import PredictingNetwork, make_head

HIDDEN = (128,) * 6  # widths of "auto"
SHARE_OF_EPOCHS = 0.6  # of the number that "auto" has elsewhere
MANY_ROWS, LARGE_BATCH = 5000, 256  # from so many rows on, "auto" has so large batches
MIN_ROWS = 10  # fewer have no map
SMOOTHING = 0.01  # distance from a position, in units of its deviation, below which it is smooth


@inherit_entries(DenoisingAutoencoder)
class NeighborAutoencoder(DenoisingAutoencoder):
    """Map of rows that keeps neighbours, with `transform` and `inverse_transform` by networks.

    First, the training rows get positions in which neighbours are near each other: a fuzzy graph
    of the nearest neighbours is laid out as in UMAP [1]_, from PCA's plane on. Then an autoencoder
    is trained so that codes are these positions and the decoder restores the rows. New rows are
    encoded by the network, so they need no neighbours. Rows are corrupted in training, which makes
    the map smooth between the training rows.

    Codes are rotated to be uncorrelated and sorted by variance. Their mean variance is about that
    of the features. Distances between far groups say little, as in all such maps.

    Parameters
    ----------
    n_components
    n_neighbors : int, default=15
        Number of neighbours of each row in the graph, at most ``n_samples - 1``. More
        neighbours show coarser structure.
    neighbor_weight : float, default=2.0
        How much codes shall be the positions, next to restoring the rows. The distance from the
        positions, over the root of their variance, counts ``neighbor_weight / 2`` times the
        variance of the rows. 0 makes no map: the result is that of `DenoisingAutoencoder` with the
        same parameters, bit for bit.
    min_dist : float, default=0.1
        Distance below which rows are drawn no nearer to each other, where the map starts with an
        extent of 20. Larger values spread groups out.
    noise : {"swap", "masking", "gaussian", "salt_pepper"} or nn.Module, default="gaussian"
        As in `DenoisingAutoencoder`.
    noise_level : float, default=0.5
        As in `DenoisingAutoencoder`. Small tables need much noise.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the encoder's hidden layers. The decoder has the same layers in reverse order.
        "auto" is ``(128,) * 6``: a map needs more layers than a code. New rows are placed better by
        more layers, not by wider ones.
    activation : str or callable, default="gelu"
        As in `AutoencoderTransformer`. Smooth ones make smoother maps, on which new rows are placed
        better; "relu" and "tanh" train twice as fast.
    anchor : "pca" or None, default=None
        None has no linear path: encoder and decoder start at random weights. "pca" adds PCA as a
        fixed skip connection, as in `AutoencoderTransformer`, and codes have about the variance of
        PCA's. New rows are then placed worse, because the encoder has to undo PCA first.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows. "auto" is 75 for 10,000 rows, and ten times as many rows
        have 0.4 times as many passes.
    batch_size : int or "auto", default="auto"
        Rows per training step. "auto" is 256 from 5,000 rows on, else as in
        `AutoencoderTransformer`.
    early_stopping : bool, default=False
        False trains on all rows and keeps the last weights. True holds out rows and keeps the
        weights that restore them, and their positions, best. All rows take part in the map.
    *

    Attributes
    ----------
    pca_error_ratio_ : float
        Squared error of restored validation rows over that of PCA. NaN if no rows were held out or
        with ``anchor=None``, as by default.
    *

    See Also
    --------
    AutoencoderTransformer : Codes for models, which keep distances rather than neighbours.
    skae.metrics.trustworthiness_of_rows : Where a map lies.
    sklearn.manifold.TSNE : Positions of the training rows only.

    Notes
    -----
    Below ten rows there is no map: PCA is kept, or with ``anchor=None`` an autoencoder is trained
    without positions. The result need not restore rows better than PCA; with two
    components it usually does, since groups that PCA lays over each other are apart. Sample weights
    count in training the networks, not in the positions. Positions of `X_val` are means of those of
    its neighbours. Neighbours are sought among all rows, of which `partial_fit` sees parts: it
    makes no map, with a warning, and trains as `DenoisingAutoencoder` does. The search reads all
    rows of a memory map at once, and of many features its time grows with the square of the number
    of rows.

    References
    ----------
    .. [1] McInnes, Healy and Melville (2018). UMAP: Uniform manifold approximation and projection
       for dimension reduction. https://arxiv.org/abs/1802.03426
    .. [2] Sainburg, McInnes and Gentner (2021). Parametric UMAP embeddings for representation and
       semisupervised learning. Neural Computation 33. https://doi.org/10.1162/neco_a_01434

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.manifold import trustworthiness
    >>> from skae import NeighborAutoencoder
    >>> X = load_digits().data
    >>> X_train, X_test = X[:1200], X[1200:]
    >>> mapper = NeighborAutoencoder(max_epochs=10, random_state=0).fit(X_train)
    >>> bool(trustworthiness(X_test, mapper.transform(X_test)) > 0.9)
    True
    >>> bool(trustworthiness(X_test, PCA(2).fit(X_train).transform(X_test)) > 0.9)
    False
    """

    __module__ = "skae"  # the public path, which pickles name

    # Parameters of the parent that this kind has not.
    emphasis: float = 1.0
    target_weight: float = 0.0
    stochastic_depth: float | str = 0.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        name: constraint
        for name, constraint in DenoisingAutoencoder._parameter_constraints.items()
        if name not in ("target_weight", "stochastic_depth", "emphasis")
    } | {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "neighbor_weight": [Interval(Real, 0, None, closed="left")],
        "min_dist": [Interval(Real, 0, 3, closed="both")],
    }

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        n_neighbors: int = 15,
        neighbor_weight: float = 2.0,
        min_dist: float = 0.1,
        noise: str | nn.Module = "gaussian",
        noise_level: float = 0.5,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "gelu",
        anchor: Literal["pca"] | None = None,
        loss: str = "squared_error",
        whiten: bool = False,
        latent_density: Any = "auto",
        network: Callable[[int, int], nn.Module] | None = None,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 5e-3,
        lr_schedule: Literal["one_cycle", "constant"] = "one_cycle",
        weight_decay: float = 0.05,
        batch_size: int | Literal["auto"] = "auto",
        max_epochs: int | Literal["auto"] = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        callbacks: Sequence[Any] | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
    ):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.neighbor_weight = neighbor_weight
        self.min_dist = min_dist
        self.noise = noise
        self.noise_level = noise_level
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.anchor = anchor
        self.loss = loss
        self.whiten = whiten
        self.latent_density = latent_density
        self.network = network
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def _resolve_hidden_layer_sizes(self) -> tuple[int, ...]:
        is_auto = isinstance(self.hidden_layer_sizes, str)
        return HIDDEN if is_auto and self.neighbor_weight else super()._resolve_hidden_layer_sizes()

    def _copy_or_make_stream(self) -> Stream:
        if self.neighbor_weight:
            warn(
                "partial_fit makes no map, because it does not see the neighbours among all rows "
                f"(neighbor_weight={self.neighbor_weight}). Call fit for a map, or set "
                "neighbor_weight=0.",
                UserWarning,
            )
        return super()._copy_or_make_stream()

    def _start_fit(self, *args: Any) -> FitData:
        data = super()._start_fit(*args)
        rows = data.rows
        if not (self.neighbor_weight and len(rows) >= MIN_ROWS and rows.any()):
            return data
        start, among = self._start_of_map(data), _as_searched(rows, rows)
        graph = fuzzy_graph(among, self.n_neighbors)
        random = np.random.default_rng(data.seeds.noise)
        positions = _standardized(spread_out(graph, start, self.min_dist, random), start)
        data.targets, data.columns = Positions(self.n_components_), positions.astype(np.float32)
        if data.held_out is not None:
            searched = _as_searched(data.held_out, rows)
            columns = positions_of_new(among, positions, searched, self.n_neighbors)
            data.held_out_columns = columns.astype(np.float32)
        return data

    def _start_of_map(self, data: FitData) -> np.ndarray:
        """Codes (n_rows, n_components) of PCA, or of the network that a warm start continues."""
        rows: Any = self._centred(data.rows) if data.previous is None else data.rows
        if data.previous is None:
            components = rows.principal_components(self.n_components_)
            return np.concatenate([block @ components.T for block in rows.blocks()])
        network: Any = data.previous.to(data.device).eval()
        weight = next(network.parameters())
        with torch.no_grad():
            parts = [
                network.encode(torch.from_numpy(block).to(weight)).double().cpu().numpy()
                for block in rows.blocks()
            ]
        codes: np.ndarray = np.concatenate(parts)
        return codes - codes.mean(axis=0)

    def _make_supervision(self, targets: Targets, network: Any, rows: Dataset) -> Supervision:
        supervision = super()._make_supervision(targets, network, rows)
        unit = 1.0
        if self.anchor is not None:  # about the size of the codes that training starts from
            centred = self._centred(rows)
            along, _ = centred.squares_along(centred.principal_components(self.n_components_))
            unit = float(np.sqrt(along.sum() / (rows.count * self.n_components_))) or 1.0
        own = {field.name: getattr(supervision, field.name) for field in fields(supervision)}
        return MapSupervision(**{**own, "weight": self.neighbor_weight}, code_unit=unit)

    def _make_gradient(self) -> Any:
        if not self.neighbor_weight:
            return super()._make_gradient()
        # Networks with fixed heads are not trained in one batch.
        return partial(make_gradient, by_autograd=reads_batches(self.callbacks))

    def _make_trainer(self, rows: Dataset, *args: Any, **options: Any) -> Trainer:
        trainer = super()._make_trainer(rows, *args, **options)
        if not self.neighbor_weight:
            return trainer
        trainer = trainer.shortened(SHARE_OF_EPOCHS, len(rows))
        if self.batch_size == "auto" and len(rows) >= MANY_ROWS:
            trainer = replace(trainer, params={**trainer.params, "batch_size": LARGE_BATCH})
        return trainer

    def _after_training(self, rows: Dataset) -> None:
        super()._after_training(rows)
        self.net_.criterion = Objective  # positions are not kept

    def _starts_at_optimum(self) -> bool:
        return super()._starts_at_optimum() and not self.neighbor_weight

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        if not self.neighbor_weight or not self._starts_at_pca():
            return super()._needs_training(network, rows)
        return len(rows) >= MIN_ROWS and rows.any()


@dataclass(frozen=True)
class MapSupervision(Supervision):
    """Supervision by positions that codes shall be, in units of `code_unit`."""

    code_unit: float = 1.0

    def add_head(self, network: Any, rows: Dataset) -> PredictingNetwork:
        """Add a head that divides codes by their unit, and is not trained."""
        weight, n_components = next(network.parameters()), self.targets.n_columns
        eye, zeros = torch.eye(n_components).double(), torch.zeros(n_components).double()
        head = make_head(eye, zeros, weight.dtype).requires_grad_(False)
        both = zeros, torch.full_like(zeros, self.code_unit)
        return PredictingNetwork(network, head, *both, self.n_features).to(weight.device)


def _as_searched(rows: Dataset, among: Dataset) -> Any:
    """Rows as neighbours are sought `among` others: as they are if those are out of core."""
    return rows.X if among.is_out_of_core else rows.in_own_precision(slice(None))


def _standardized(positions: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Centred positions of mean square 1, turned towards where they started."""
    positions = positions - positions.mean(axis=0)
    positions /= np.sqrt(np.square(positions).mean())
    return positions @ orthogonal_procrustes(positions, start)[0]


class Positions(Targets):
    """Positions on a map, which codes shall be."""

    def __init__(self, n_components: int):
        self.parts = [Position(np.zeros(n_components), np.ones(n_components))]
        self.slices, self.n_columns = [slice(0, n_components)], n_components


class Position(ContinuousTarget):
    """A position, whose loss is the distance, not its square.

    A code whose row might belong to either of two groups is then placed in one of them rather
    than between them, as a median is.
    """

    def head_losses(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Distance of each row over the root of the number of components."""
        squares = (outputs - columns).square().mean(dim=-1)
        return (squares + SMOOTHING**2).sqrt() - SMOOTHING

    def head_gradient(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Gradient of the distance."""
        errors = outputs - columns
        squares = errors.square().mean(dim=-1, keepdim=True)
        return errors / ((squares + SMOOTHING**2).sqrt() * self.n_columns)
