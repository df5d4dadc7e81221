"""The base class of kinds with dense codes: perceptrons whose outputs are added to PCA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import nn

from skae._data.dataset import Dataset
from skae._data.input_checks import check_unit_interval
from skae._estimators.base import DENSE_CONSTRAINTS, BaseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.partial_fit import IncrementalAutoencoder
from skae.densities import NEGLIGIBLE
from skae.losses import LOSSES, Objective
from skae.networks.dense import AnchoredAutoencoder


@inherit_entries(BaseAutoencoder)
class DenseAutoencoder(IncrementalAutoencoder):
    """Base of the kinds with dense codes and one optimizer.

    Parameters
    ----------
    n_components
    hidden_layer_sizes
    activation
    anchor : "pca" or None, default="pca"
        "pca" adds PCA as a fixed skip connection, so that training starts at PCA. None is the
        classic undercomplete autoencoder: it starts at random weights, has no linear path, and
        may be worse than PCA.
    loss : str, default="squared_error"
        Loss of a row, summed over features: "squared_error", "absolute_error", "huber" or
        "binary_cross_entropy". Outliers move "absolute_error" and "huber" less; "huber" is
        linear for errors above the root of the mean feature variance. "binary_cross_entropy" is
        for data in [0, 1] and needs ``anchor=None``.
    *

    Attributes
    ----------
    *
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseAutoencoder._parameter_constraints,
        "loss": [StrOptions(set(LOSSES))],
        **DENSE_CONSTRAINTS,
    }

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        anchor: Literal["pca"] | None = "pca",
        loss: str = "squared_error",
        target_weight: float = 0.0,
        stochastic_depth: float | Literal["auto"] = "auto",
        whiten: bool = False,
        latent_density: Any = "auto",
        network: Callable[[int, int], nn.Module] | None = None,
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.anchor = anchor
        self.loss = loss
        self.target_weight = target_weight
        self.stochastic_depth = stochastic_depth
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

    def _check_parameters(self, X: np.ndarray) -> None:
        if self.loss != "binary_cross_entropy":
            return
        if self.anchor is not None:
            raise ValueError(
                "loss='binary_cross_entropy' needs a decoder of logits, which "
                f"anchor={self.anchor!r} does not allow; set anchor=None."
            )
        check_unit_interval(X, "loss='binary_cross_entropy'", "loss='squared_error'")

    def _decodes_logits(self) -> bool:
        return self.loss == "binary_cross_entropy"

    def _make_objective(self) -> Objective:
        return Objective({"reconstruction": LOSSES[self.loss]})

    def _make_network(self, rows: Dataset, seed: int) -> nn.Module:
        network = self._make_codec(seed)
        if self.anchor is None:
            return network
        components = torch.from_numpy(rows.principal_components(self.n_components_))
        return AnchoredAutoencoder(network, components, gated=self.network is not None)

    def _restoring_errors(self) -> Any:
        return AnchoredAutoencoder.restoring_errors

    def _auto_density(self) -> str:
        return "gaussian" if self._is_linear() else super()._auto_density()

    def _starts_at_optimum(self) -> bool:
        is_pca = self._is_linear() and self.loss == "squared_error"
        return is_pca and not self.target_weight

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        if self._starts_at_optimum():
            return False
        if not isinstance(network, AnchoredAutoencoder) or self.target_weight:
            return True
        along, residual = rows.squares_along(network.components.cpu().numpy())
        return bool(residual > NEGLIGIBLE * (along.sum() + residual))

    def _is_at_pca(self) -> bool:
        return self.anchor is not None and self.net_.module_.is_at_anchor()
