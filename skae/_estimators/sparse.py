"""The sparse autoencoder: of many units, few are active in each row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import torch
from scipy import sparse
from sklearn.utils._param_validation import RealNotInt, StrOptions
from torch import Tensor, nn

from skae._data.array_api import array_api, in_type_of, like, widest
from skae._data.dataset import Dataset, constant_columns
from skae._data.input_checks import as_dense
from skae._data.parameter_checks import Interval
from skae._data.statistics import Moments
from skae._estimators.base import BaseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.partial_fit import IncrementalAutoencoder, Stream
from skae._latent.covariance import CODES_PER_COMPONENT, MOMENT_CODES
from skae._latent.ordering import (
    INCREMENT_PRODUCTS,
    JACOBIAN_ROWS,
    Smooth,
    identity,
    scaled_increments,
)
from skae._training.trainer import FEW_ROWS, Trainer
from skae.densities import SpikeAndSlab
from skae.losses import ActivityKL, Objective, code_cost, squared_error
from skae.networks.dense import MLP, Autoencoder
from skae.networks.sparse import (
    LogisticNetwork,
    RectifiedNetwork,
    SparseNetwork,
    TopKNetwork,
)

OVERCOMPLETE = 2  # components per feature, for n_components=None
THRESHOLD_ROWS = 5000  # largest number of rows that the threshold of "l1" is fitted to
FEW_EPOCHS = 30  # number of epochs of small tables with max_epochs="auto"
SUPPORTS = {"topk": "real", "l1": "positive", "kl": "unit"}


@inherit_entries(BaseAutoencoder)
class SparseAutoencoder(IncrementalAutoencoder):
    """Autoencoder with many units, few of which are active in each row: dictionary learning.

    The reconstruction is the mean plus a weighted sum of atoms, which are the rows of
    `components_`. The weights are the code, and most of them are zero. An encoder learns which
    units are active, so that a code costs one matrix product.
    `sklearn.decomposition.DictionaryLearning` solves an optimization problem for each row.

    Parameters
    ----------
    n_components : int or None, default=None
        Number of units. None is twice the number of features; overcomplete codes are usual
        here.
    sparsity : {"topk", "l1", "kl"}, default="topk"
        What makes codes sparse. "topk" keeps the `n_active` largest entries of each code [1]_
        and revives dead units [2]_. "l1" has codes without negative entries and penalizes their
        sum. The penalty is adapted so that `n_active` units are active on average. "kl" has
        logistic units and penalizes the divergence of their mean activations from `rho` [3]_.
    n_active : int or float, default=0.05
        Number of active units in each row ("topk") or on average ("l1"). A float in (0, 1) is a
        share of the components; it counts as at least one unit. Not used by "kl".
    transform_n_active : int, float or None, default=None
        Number of units that "topk" keeps in codes after training. Classifiers gain from more
        active units than training had [1]_. None is `n_active`.
    rho : float, default=0.05
        Target of "kl" for the mean activation of each unit.
    beta : float, default=1.0
        Weight of the divergence of mean activations from `rho`. The other term of the loss is
        the squared error in units of the mean feature variance. Only used by "kl".
    sparse_output : bool, default=False
        Return codes as a CSR matrix.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of the encoder's hidden layers. The decoder has no hidden layers. "auto" is
        ``()``.
    activation
    *

    Attributes
    ----------
    n_components_
    components_ : ndarray of shape (n_components_, n_features_in_)
        The dictionary: row i is what one unit of code i adds to the reconstruction, in input
        units. Atoms have norm one. With "kl" they do not: there, codes are in [0, 1].
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component's code over the training rows, decreasing.
    noise_variance_ : float
        Mean squared error per feature of training rows, multiplied by the mean squared error of
        validation rows over that of training rows.
    sparsity_ : float
        Share of zeros in the codes of the training rows.
    n_active_per_row_ : float
        Mean number of nonzero entries in the codes of the training rows.
    dead_components_ : ndarray of shape (n_dead,), int
        Indices of the components that are zero in all training rows.
    latent_density_ : SpikeAndSlab
        The density of the training codes, with independent components.
    *

    See Also
    --------
    AutoencoderTransformer : Dense codes of a few uncorrelated components.
    sklearn.decomposition.MiniBatchDictionaryLearning : Solves for the code of each row.

    Notes
    -----
    Some properties of the dense kinds do not hold here. Training does not start at PCA. Codes
    are neither centred nor uncorrelated; components are only sorted. There is no
    `score_samples`. Codes are computed in double precision, and of equal entries "topk" keeps
    the first, so that the active units of a row do not depend on the other rows.

    "l1" fits a threshold after training, on at most 5,000 training rows, so that these have
    `n_active` active units on average. New rows may have more, if the table is small. "kl" sets
    activations below `rho` to zero, during training and after. The validation loss is the
    squared error at this sparsity; "kl" adds its divergence.

    References
    ----------
    .. [1] Makhzani and Frey (2014). k-sparse autoencoders. https://arxiv.org/abs/1312.5663
    .. [2] Gao et al. (2024). Scaling and evaluating sparse autoencoders.
       https://arxiv.org/abs/2406.04093
    .. [3] Ng (2011). Sparse autoencoder. CS294A lecture notes, Stanford University.
       https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import SparseAutoencoder
    >>> X = load_digits().data
    >>> autoencoder = SparseAutoencoder(200, n_active=10, max_epochs=30, random_state=0)
    >>> autoencoder = autoencoder.fit(X[:1500])
    >>> Z = autoencoder.transform(X[1500:])
    >>> Z.shape, set((Z != 0).sum(axis=1).tolist())
    ((297, 200), {10})
    >>> bool(autoencoder.score(X[1500:]) > 0.8)
    True
    """

    __module__ = "skae"  # the public path, which pickles name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: constraint
            for name, constraint in BaseAutoencoder._parameter_constraints.items()
            if name not in ("anchor", "whiten", "latent_density", "network")
        },
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "sparsity": [StrOptions({"topk", "l1", "kl"})],
        "n_active": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "transform_n_active": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "rho": [Interval(Real, 0, 1, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "sparse_output": ["boolean"],
    }
    _state_shapes: ClassVar[dict[str, str]] = {
        name: shape for name, shape in BaseAutoencoder._state_shapes.items() if name != "_rotation"
    }
    _state_parts = (*BaseAutoencoder._state_parts, "_order_of_units")
    _sparse_codes = "csr"
    latent_density_: SpikeAndSlab
    _needs_joint_moments = False
    anchor = network = None
    whiten = False
    latent_density = "auto"

    def __init__(
        self,
        n_components: int | None = None,
        *,
        sparsity: Literal["topk", "l1", "kl"] = "topk",
        n_active: int | float = 0.05,
        transform_n_active: int | float | None = None,
        rho: float = 0.05,
        beta: float = 1.0,
        sparse_output: bool = False,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 5e-3,
        lr_schedule: Literal["one_cycle", "constant"] = "one_cycle",
        weight_decay: float = 0.05,
        batch_size: int | Literal["auto"] = "auto",
        max_epochs: int | Literal["auto"] = "auto",
        early_stopping: bool = True,
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
        self.sparsity = sparsity
        self.n_active = n_active
        self.transform_n_active = transform_n_active
        self.rho = rho
        self.beta = beta
        self.sparse_output = sparse_output
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
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

    # -- codes ---------------------------------------------------------------------

    @array_api
    def transform(self, X: Any) -> Any:
        """Encode rows.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray or CSR matrix of shape (n_samples, n_components_), dtype of X
            Codes, sorted by decreasing variance. Entries are not negative with "l1", and in
            [0, 1] with "kl".
        """
        if not self.sparse_output:
            return super().transform(X)
        X = self._check_rows(X)
        blocks = [  # never all rows dense at once
            sparse.csr_matrix(self._codes(self._standardize(as_dense(X[part]))))
            for part in self._batch_slices(X.shape[0])
        ]
        return sparse.vstack(blocks, format="csr")

    @property
    def score_samples(self) -> NoReturn:
        """Not available: a sparse code has no likelihood."""
        raise AttributeError(
            f"{type(self).__name__} has no score_samples: a sparse code has no density in the "
            "space of the rows. Use reconstruction_error, the squared distance of a row to its "
            "reconstruction."
        )

    # -- network, objective and training -------------------------------------------

    def _n_components_of_none(self, rows: Dataset) -> int:
        return OVERCOMPLETE * rows.shape[1]

    def _warn_if_overcomplete(self) -> None:
        """Overcomplete sparse codes are usual."""

    def _resolve_hidden_layer_sizes(self) -> tuple[int, ...]:
        is_auto = isinstance(self.hidden_layer_sizes, str)
        return () if is_auto else super()._resolve_hidden_layer_sizes()

    def _n_units(self, n_active: int | float) -> int:
        """Number of active units, given this number or a share of the components."""
        if isinstance(n_active, RealNotInt):
            n_active = max(1, round(n_active * self.n_components_))
        return int(min(n_active, self.n_components_))

    def _make_objective(self) -> Objective:
        if self.sparsity == "kl":
            terms: dict[str, Any] = {
                "reconstruction": squared_error,
                "sparsity": ActivityKL(self.rho),
            }
            return Objective(terms, {"sparsity": self.beta * self.n_features_in_})
        return Objective({"reconstruction": squared_error, "sparsity": code_cost})

    def _make_network(self, rows: Dataset, seed: int) -> SparseNetwork:
        d, k, hidden = self.n_features_in_, self.n_components_, self._resolve_hidden_layer_sizes()
        generator = torch.Generator().manual_seed(seed)
        encoder: Any = MLP([d, *hidden, k], self.activation, generator=generator)
        decoder: Any = MLP([k, d], generator=generator)
        atoms = self._initial_atoms(rows, generator)
        with torch.no_grad():
            decoder[0].weight.copy_(atoms.T)
            decoder[0].bias.zero_()
            encoder[-1].bias.fill_(math.log(self.rho / (1 - self.rho)) if self._is_kl() else 0.0)
            if not hidden:
                encoder[0].weight.copy_(atoms)
        network = self._make_sparse_network(Autoencoder(encoder, decoder))
        self._fit_threshold(network, rows)
        return network

    def _initial_atoms(self, rows: Dataset, generator: torch.Generator) -> Tensor:
        """Random atoms of norm one, (n_components, n_features)."""
        shape = self.n_components_, rows.shape[1]
        atoms = torch.randn(shape, generator=generator, dtype=torch.float32)
        atoms[:, torch.from_numpy(constant_columns(rows.X))] = 0.0  # training keeps these zeros
        return torch.nn.functional.normalize(atoms, dim=1)

    def _make_sparse_network(self, network: Autoencoder) -> SparseNetwork:
        """Wrap a network in the module that decides which units are active."""
        idle = torch.zeros(self.n_components_, dtype=torch.float32)
        if self._is_kl():
            mean_sum = self.rho * self.n_components_
            length = math.sqrt(self.n_features_in_ / mean_sum)  # active atoms add up to a row
            return LogisticNetwork(
                network,
                n_active=number(mean_sum),
                floor=number(self.rho),
                length=number(length),
                activity=torch.full_like(idle, self.rho),
                idle=idle,
            )
        if self.sparsity == "topk":
            kept = self.n_active if self.transform_n_active is None else self.transform_n_active
            n_active, n_kept = (number(self._n_units(n)) for n in (self.n_active, kept))
            return TopKNetwork(network, n_active=n_active, n_kept=n_kept, idle=idle)
        share = isinstance(self.n_active, RealNotInt)  # a mean number need not be an integer
        n_active = number(
            self.n_active * self.n_components_ if share else self._n_units(self.n_active)
        )
        return RectifiedNetwork(
            network, n_active=n_active, penalty=number(0.0), threshold=number(0.0), idle=idle
        )

    def _is_kl(self) -> bool:
        return self.sparsity == "kl"

    @torch.no_grad()
    def _fit_threshold(self, network: SparseNetwork, rows: Dataset) -> None:
        """Set the threshold of "l1" so that `n_active` units are active on average."""
        if isinstance(network, RectifiedNetwork):
            weight: Any = network.network.decoder[0].weight
            block = rows[rows.evenly_spaced(THRESHOLD_ROWS)]
            x = torch.from_numpy(block).to(weight.device, weight.dtype)
            network.threshold.copy_(network.calibrated(network.network.encode(x)))

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        return rows.any()

    def _previous_network(self) -> nn.Module | None:
        network: Any = super()._previous_network()
        if network is None:
            return None
        fresh = self._make_sparse_network(network.network)
        if type(fresh) is not type(network):
            raise ValueError(
                "warm_start=True continues a fit with another sparsity, but now "
                f"sparsity={self.sparsity!r}; set warm_start=False for a new fit."
            )
        for name in ("n_active", "n_kept", "floor"):
            if hasattr(network, name):
                getattr(network, name).copy_(getattr(fresh, name))
        network.n_wanted = fresh.n_wanted
        return network

    def _make_trainer(self, rows: Dataset, *args: Any, **kwargs: Any) -> Trainer:
        trainer = super()._make_trainer(rows, *args, **kwargs)
        if self.max_epochs == "auto" and len(rows) < FEW_ROWS:
            return replace(trainer, params={**trainer.params, "max_epochs": FEW_EPOCHS})
        return trainer

    def _after_training(self, rows: Dataset) -> None:
        self.net_.module_.finish()
        self._fit_threshold(self.net_.module_, rows)

    def _train_epoch(self, stream: Stream, rows: Dataset, device: torch.device) -> None:
        super()._train_epoch(stream, rows, device)
        self.net_.module_.finish()

    # -- codes of the network and ordered codes ------------------------------------

    def _encode(self, rows: Any) -> Any:
        # In float64: rounding errors of float32 depend on the batch, and could change which
        # units are active.
        if isinstance(rows, Tensor):
            wide: Any = rows.to(widest(torch.float64, rows.device))
        else:
            wide = rows.astype(np.float64, copy=False)
        return in_type_of(self.net_.infer_rows("encode", wide), rows)

    def _rotate_codes(self, raw: Any) -> Any:
        codes = raw[:, like(self._order_of_units, raw)] * like(self._code_scale, raw)
        return in_type_of(codes, raw)

    def _decode(self, codes: Any, given: Any = None) -> Any:
        back = np.argsort(self._order_of_units)
        raw = in_type_of((codes / like(self._code_scale, codes))[:, like(back, codes)], codes)
        return self.net_.infer_rows("decode", raw, self._output_activation)

    @property
    def _rotation(self) -> np.ndarray:  # type: ignore[override]
        return np.eye(self.n_components_)[:, self._order_of_units]

    def _check_fitted_state(self, state: dict[str, Any]) -> None:
        super()._check_fitted_state(state)
        order, k = np.asarray(state["_order_of_units"]), state["n_components_"]
        if order.shape != (k,) or not np.array_equal(np.sort(order), np.arange(k)):
            raise ValueError(
                f"The state of {type(self).__name__} is damaged: _order_of_units is no "
                f"permutation of {k} units. Load an intact copy of the file, or fit anew."
            )

    # -- order and attributes ------------------------------------------------------

    def _mean_jacobian(self, rows: Any = None) -> np.ndarray:
        return self.net_.module_.network.decoder[0].weight.detach().double().cpu().numpy().T

    def _encoded_for_moments(self, rows: np.ndarray) -> np.ndarray:
        """Codes of rows and, side by side with them, whether they are nonzero."""
        codes = self._encode(rows)
        return np.hstack([codes, codes != 0])

    def _order(self, jacobian: np.ndarray, moments: Moments) -> None:
        """Sort components by variance; compute the attributes and the density of the codes."""
        k, unit = self.n_components_, 1.0 if self._is_kl() else self._scale
        variances = moments.covariance()[:k]
        order = np.argsort(-variances, kind="stable")
        self._order_of_units, self._code_mean = order, np.zeros(k)
        self._code_scale = np.full(k, unit)
        self.components_ = self._mean_jacobian()[order] * (self._scale / unit)
        self.explained_variance_ = variances[order] * unit**2
        mean, activity = moments.mean[:k][order] * unit, moments.mean[k:][order]
        squares = moments.scatter[:k][order] * unit**2 / moments.count + mean**2
        self.latent_density_ = self._spike_and_slab(activity, mean, squares)
        self.n_active_per_row_ = float(activity.sum())
        self.sparsity_ = 1 - self.n_active_per_row_ / k
        self.dead_components_ = np.flatnonzero(activity == 0)

    def _spike_and_slab(
        self, activity: np.ndarray, mean: np.ndarray, squares: np.ndarray
    ) -> SpikeAndSlab:
        """Density of codes, from the moments of all codes, zeros included."""
        active = np.where(activity > 0, activity, 1.0)
        mean = mean / active
        variance = np.maximum(squares / active - mean**2, 0.0)
        return SpikeAndSlab(activity, mean, variance, SUPPORTS[self.sparsity])

    def _previous_moments(self) -> Moments:
        density, n, order = self.latent_density_, self.n_samples_, self._order_of_units
        mean = density.expectation()
        squares = density.activity * (density.variance + density.mean**2)
        moments = Moments(2 * self.n_components_, joint=False)
        moments.count = n
        halves = np.split(moments.mean, 2), np.split(moments.scatter, 2)
        halves[0][0][order] = mean / self._code_scale
        halves[0][1][order] = density.activity
        halves[1][0][order] = n * (squares - mean**2) / self._code_scale / self._code_scale
        halves[1][1][order] = n * density.activity * (1 - density.activity)
        return moments

    def _set_noise(self, rows: Dataset, sse: float, smooth: Smooth = identity) -> None:
        """Set the noise variance to the mean squared error per feature."""
        self.noise_variance_ = sse * self._scale**2 / (self.n_samples_ * self.n_features_in_)

    def _explained_ratios(self, rows: Dataset, explained: float) -> np.ndarray:
        """As for dense kinds, but add one atom at a time instead of decoding k times."""
        k, d = self.components_.shape
        rows = rows.unweighted_subset(max(JACOBIAN_ROWS[1], INCREMENT_PRODUCTS // (k * d)))
        mean, atoms = self.latent_density_.expectation(), self.components_ / self._scale
        sst, sse = 0.0, np.zeros(k)
        for part in self._batch_slices(len(rows)):
            block = rows[part]
            sst += self._squares(block, self._standardized_mean())
            codes = self._codes(block)
            residuals = block - self._decode(codes) + (codes - mean) @ atoms
            for j in range(k):
                residuals -= np.outer(codes[:, j] - mean[j], atoms[j])
                sse[j] += np.square(residuals).sum()
        return scaled_increments(sse, sst, explained)

    # -- samples -------------------------------------------------------------------

    def _prepare_densities(self, rows: Dataset, seed: int, kind: Any = None) -> None:
        # `_order` has fitted the density of the codes.
        self._fit_residual(self._residuals(rows), seed)

    def _density_from_moments(self, codes: Moments) -> Any:
        return self.latent_density_

    def _moment_codes(self) -> np.ndarray:
        n_codes = max(MOMENT_CODES, CODES_PER_COMPONENT * self.n_components_)
        return self.latent_density_.sample(n_codes, 0)

    def _noise_covariance(self, mean: np.ndarray, squares: np.ndarray) -> np.ndarray:
        return self.noise_variance_ * np.eye(self.n_features_in_)


def number(value: float) -> Tensor:
    """Number as a float32 tensor of shape (), for a buffer of a network."""
    return torch.tensor(value, dtype=torch.float32)
