"""The denoising autoencoder, which reconstructs clean rows from corrupted ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import nn

from skae._data.dataset import Dataset
from skae._data.parameter_checks import Interval
from skae._estimators.dense import DenseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._latent.region import union
from skae.losses import LOSSES, Emphasised, Objective
from skae.noise import NOISES, check_noise, make_noise

CORRUPTED_ROWS = 5000  # largest number of corrupted rows from which the network's region is known


@inherit_entries(DenseAutoencoder)
class DenoisingAutoencoder(DenseAutoencoder):
    """Autoencoder that learns to reconstruct clean rows from corrupted ones.

    During training, rows are corrupted before they are encoded, and the decoder has to return
    the clean rows [1]_. `transform` and the other methods do not corrupt rows. Training starts
    at PCA. It keeps the weights that reconstruct one fixed corruption of the validation rows
    best; PCA is one of the candidates.

    Parameters
    ----------
    n_components
    noise : {"swap", "masking", "gaussian", "salt_pepper"} or nn.Module, default="swap"
        "gaussian" adds normal noise. The others replace entries: "masking" by the feature's
        mean, "salt_pepper" by its minimum or maximum, and "swap" by its value in another row,
        which suits tables of mixed columns. A module of your own maps rows of shape
        (n_rows, n_features) to corrupted rows. Its rows are centred, in units of the root mean
        feature variance. The module is copied for each training run.
    noise_level : float, default=0.15
        For "gaussian", the noise's standard deviation in units of each feature's; otherwise the
        share of corrupted entries, in [0, 1]. 0 gives the same results as `AutoencoderTransformer`
        with the same `stochastic_depth`, bit for bit. Not used by your own module.
    emphasis : float, default=1.0
        Weight of corrupted entries in the loss; other entries have weight 1. Values other than
        1 need a loss that is zero for an exact reconstruction, which "binary_cross_entropy" is
        not.
    *

    Attributes
    ----------
    *

    See Also
    --------
    AutoencoderTransformer : The same kind without noise.
    skae.noise : The kinds of noise as modules.

    References
    ----------
    .. [1] Vincent et al. (2010). Stacked denoising autoencoders. Journal of Machine Learning
       Research 11. https://www.jmlr.org/papers/v11/vincent10a.html

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenoisingAutoencoder
    >>> X = load_digits().data
    >>> X_train, X_test = X[:600], X[600:900]
    >>> noise = np.random.default_rng(0).normal(size=X_test.shape) * X_train.std(axis=0)
    >>> denoiser = DenoisingAutoencoder(20, noise="gaussian", noise_level=1.0, random_state=0)
    >>> denoised = denoiser.fit(X_train).denoise(X_test + noise)
    >>> bool(np.square(denoised - X_test).mean() < np.square(noise).mean() / 2)
    True
    """

    __module__ = "skae"  # the public path, which pickles name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DenseAutoencoder._parameter_constraints,
        "noise": [StrOptions(set(NOISES)), nn.Module],
        "noise_level": [Interval(Real, 0, None, closed="left")],
        "emphasis": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        noise: str | nn.Module = "swap",
        noise_level: float = 0.15,
        emphasis: float = 1.0,
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
        super().__init__(
            n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            anchor=anchor,
            loss=loss,
            target_weight=target_weight,
            stochastic_depth=stochastic_depth,
            whiten=whiten,
            latent_density=latent_density,
            network=network,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            callbacks=callbacks,
            device=device,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )
        self.noise = noise
        self.noise_level = noise_level
        self.emphasis = emphasis

    def denoise(self, X: Any) -> np.ndarray:
        """Denoise rows: encode and decode them, as `reconstruct` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Corrupted rows.

        Returns
        -------
        X_denoised : ndarray of shape (n_samples, n_features), dtype of X
            A frame with the feature names if `set_output` asks for frames.
        """
        return self.reconstruct(X)

    def _check_parameters(self, X: np.ndarray) -> None:
        super()._check_parameters(X)
        if self.emphasis != 1 and self.loss == "binary_cross_entropy":
            raise ValueError(
                f"emphasis={self.emphasis} needs a loss that is zero for an exact "
                "reconstruction, which loss='binary_cross_entropy' is not; set emphasis=1.0."
            )
        check_noise(self.noise, self.noise_level)

    def _has_user_modules(self) -> bool:
        return super()._has_user_modules() or isinstance(self.noise, nn.Module)

    def _make_noise(self, rows: Dataset, generator: torch.Generator) -> nn.Module | None:
        kinds = self._noise_kinds(rows)
        return make_noise(self.noise, self.noise_level, rows.feature_statistics, generator, kinds)

    def _noise_kinds(self, rows: Dataset) -> Mapping[str, Callable[..., nn.Module]]:
        """What makes each kind of noise. A kind may add some."""
        return NOISES

    def _row_bounds(self, rows: Dataset) -> np.ndarray:
        """Bounds of rows and of corrupted rows, which the network was trained on."""
        bounds = super()._row_bounds(rows)
        noise = self._make_noise(rows, torch.Generator(self.net_.device).manual_seed(0))
        if noise is None:
            return bounds
        device = torch.device(self.net_.device)
        clean = rows.tensor(rows.evenly_spaced(CORRUPTED_ROWS), torch.float32).to(device)
        with torch.no_grad(), self._seed_user_modules(0, device):
            corrupted = noise.to(device, torch.float32).train()(clean).cpu().double().numpy()
        return union(bounds, np.array([corrupted.min(axis=0), corrupted.max(axis=0)]))

    def _make_objective(self) -> Objective:
        if self.emphasis == 1:
            return super()._make_objective()
        return Objective({"reconstruction": Emphasised(LOSSES[self.loss], self.emphasis)})

    def _must_restore(self) -> bool:
        return self._corrupts()

    def _corrupts(self) -> bool:
        has_level = self.noise is not None and self.noise_level > 0
        return isinstance(self.noise, nn.Module) or has_level

    def _starts_at_optimum(self) -> bool:
        # PCA is the best linear map for clean rows, but not for corrupted ones.
        return super()._starts_at_optimum() and not self._corrupts()

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        return (self._corrupts() and rows.any()) or super()._needs_training(network, rows)
