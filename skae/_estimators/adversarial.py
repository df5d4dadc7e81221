"""The adversarial autoencoder, whose codes are distributed like a prior of the user's choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy.stats import ks_2samp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import HasMethods, StrOptions
from torch import nn

from skae._data.array_api import array_api_by_numpy
from skae._data.dataset import Dataset
from skae._data.parameter_checks import Interval
from skae._data.statistics import Moments
from skae._data.warnings import warn
from skae._estimators.base import FitData
from skae._estimators.dense import DenseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._latent.sampling import mean_and_covariance
from skae._training.adversarial import (
    INDISTINGUISHABLE,
    N_DRAWS,
    AdversarialGradient,
    CodePrior,
)
from skae._training.callbacks import reads_batches
from skae._training.trainer import Trained, Trainer
from skae.densities import Estimated, Gaussian, Mixture, Uniform, varying

PRIOR_ROWS = 5000  # largest number of codes that a prior is fitted to, or compared with
# Standard deviations of components of priors whose mean is zero.
KNOWN_DEVIATIONS = {"standard_normal": 1.0, "uniform": 1 / np.sqrt(3)}
SMALLEST_UNIT = 0.01  # of a component, over the largest, in whose codes the prior is expressed
FAR = 0.2  # Kolmogorov-Smirnov distance of a component from the prior that is reported, if it
CHANCE = 0.01  # has a smaller probability than this by chance
WON = 0.5  # share of the loss of a discriminator that knows nothing, below which it has won


@inherit_entries(DenseAutoencoder)
class AdversarialAutoencoder(DenseAutoencoder):
    """Autoencoder whose codes have a distribution that you choose, so that it can be drawn from.

    A discriminator learns to tell codes from draws of a prior, and the encoder learns that it
    cannot [1]_. So samples of the prior decode to rows like those of the training, and no density
    has to be fitted to the codes. Unlike in `VAETransformer`, codes are a function of the row, and
    the prior may be anything that can be sampled. Training starts at PCA, and returns to it unless
    validation rows are restored better.

    Codes have the mean and the variances of the prior over the training rows: for the normal prior
    zero and one. Components keep the order of PCA's, from which they start.

    Parameters
    ----------
    n_components
    prior : {"standard_normal", "uniform", "gaussian_mixture"} or density, default="standard_normal"
        Distribution of the codes. "standard_normal" has independent components of mean zero and
        variance one. "uniform" is uniform in the cube from -1 to 1; the log-likelihood of a row
        whose code lies outside is minus infinity. "gaussian_mixture" is fitted to PCA's
        standardized codes, its number of components chosen by the Bayesian information criterion:
        groups in the rows stay groups in the codes. An estimator with `fit`, `sample` and
        `score_samples`, such as `sklearn.neighbors.KernelDensity`, is cloned and fitted to these
        codes, too. An object without `fit`, such as
        ``skae.densities.Gaussian(mean, covariance)``, is used as it is.
    prior_weight : float, default=3.0
        Weight of the Kullback-Leibler divergence of the codes from the prior: a nat counts as much
        as so many times PCA's squared error. Larger values bring the codes nearer to the prior, and
        restore rows worse.
    hidden_layer_sizes
    activation
    anchor
    loss
    weight_decay : float, default=0.3
        Strength with which weights are pulled towards zero. Smaller tables need more of it.
    latent_density : str or estimator, default="prior"
        Density of the codes, for `sample` and `score_samples`. "prior" is the prior.
        "gaussian_mixture" and "gaussian" are fitted to the codes after training, as in
        `AutoencoderTransformer`; so is an estimator with `fit`, `sample` and `score_samples`.
    *

    Attributes
    ----------
    prior_ : object with `sample` and `score_samples`
        The prior, in units of the codes.
    prior_distances_ : ndarray of shape (n_components_,)
        Kolmogorov-Smirnov distance of each component of the training codes from the prior, between
        0 and 1. Only after `fit`.
    discriminator_loss_curve_ : list of float
        Mean cross-entropy of the discriminator in each epoch, in nats: log 4, which is 1.39, if it
        cannot tell codes from draws, 0 if it always can.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component of `transform` over the training rows: that of the prior.
    singular_values_ : ndarray of shape (n_components_,)
        Root of ``(n_samples_ - 1) * explained_variance_`` times the length of the component in
        `components_`: if PCA is kept, its singular values.
    loss_curve_, validation_loss_curve_ : list of float
        Mean loss of restored rows after each epoch, without the divergence, in units of the mean
        feature variance. The validation curve is empty if no rows were held out.
    *

    See Also
    --------
    VAETransformer : A normal prior by a divergence of each row, and a likelihood.
    AutoencoderTransformer : Restores rows better; a mixture is fitted to its codes.

    Notes
    -----
    The discriminator has two hidden layers of 64. Its loss is the cross-entropy plus half the mean
    squared slope at draws and codes [2]_, which keeps it smooth. It has its own optimizer with a
    constant learning rate of 0.001, and takes one step before each step of the encoder [3]_. The
    encoder lowers the mean of the discriminator's log-ratio, which estimates the Kullback-Leibler
    divergence [4]_; the penalty makes it smaller. The weights that are kept are averages over the
    steps. None of this needs tuning; a failed balance is reported by a warning.

    Later weights are nearer to the prior. So the latest weights are kept, not the best, if they
    restore validation rows better than PCA, else the latest that do. If none do, PCA is kept; its
    codes have the moments of the prior, but not its distribution. With fewer than 200 rows, they
    must be better by one standard error.

    References
    ----------
    .. [1] Makhzani et al. (2015). Adversarial autoencoders. https://arxiv.org/abs/1511.05644
    .. [2] Mescheder, Geiger and Nowozin (2018). Which training methods for GANs do actually
       converge? https://arxiv.org/abs/1801.04406
    .. [3] Heusel et al. (2017). GANs trained by a two time-scale update rule converge to a local
       Nash equilibrium. https://arxiv.org/abs/1706.08500
    .. [4] Mescheder, Nowozin and Geiger (2017). Adversarial variational Bayes.
       https://arxiv.org/abs/1701.04722

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AdversarialAutoencoder
    >>> X = load_digits().data
    >>> autoencoder = AdversarialAutoencoder(2, prior="uniform", max_epochs=30, random_state=0)
    >>> Z = autoencoder.fit_transform(X)
    >>> bool(abs(Z).max() < 1.5), bool((autoencoder.prior_distances_ < 0.1).all())
    (True, True)
    >>> autoencoder.sample(3, random_state=0).shape
    (3, 64)
    """

    __module__ = "skae"  # the public path, which pickles name

    # Parameters of the parent that this kind has not.
    whiten: bool = False
    target_weight: float = 0.0
    stochastic_depth: float | str = 0.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        name: constraint
        for name, constraint in DenseAutoencoder._parameter_constraints.items()
        if name not in ("whiten", "target_weight", "stochastic_depth")
    } | {
        "prior": [
            StrOptions({"standard_normal", "uniform", "gaussian_mixture"}),
            HasMethods(["sample", "score_samples"]),
        ],
        "prior_weight": [Interval(Real, 0, None, closed="left")],
        "latent_density": [
            StrOptions({"prior", "gaussian_mixture", "gaussian"}),
            HasMethods(["fit", "sample", "score_samples"]),
        ],
    }

    # That codes are the prior's counts, too, so rows must not be restored that much better.
    _standard_errors_waived: ClassVar[float] = 3.0

    _state_shapes: ClassVar[dict[str, str]] = {
        **DenseAutoencoder._state_shapes,
        "_unit": "k",
        "_prior_mean": "k",
        "_prior_deviation": "k",
        "_trained_unit": "k",
    }

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        prior: Any = "standard_normal",
        prior_weight: float = 3.0,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        anchor: Literal["pca"] | None = "pca",
        loss: str = "squared_error",
        latent_density: Any = "prior",
        network: Callable[[int, int], nn.Module] | None = None,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 5e-3,
        lr_schedule: Literal["one_cycle", "constant"] = "one_cycle",
        weight_decay: float = 0.3,
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
        self.prior = prior
        self.prior_weight = prior_weight
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.anchor = anchor
        self.loss = loss
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

    # -- network and prior ---------------------------------------------------------

    def _make_network(self, rows: Dataset, seed: int) -> nn.Module:
        """Build the network, and attach the prior of its codes."""
        network: Any = super()._make_network(rows, seed)
        centred = self._centred(rows)
        components = centred.principal_components(self.n_components_)
        along, residual = centred.squares_along(components)
        deviations = np.sqrt(along / rows.count)
        unit = np.maximum(deviations, SMALLEST_UNIT * deviations.max())
        unit[unit == 0] = 1.0
        density = self._make_prior(centred, components / unit[:, None], seed)
        nat = self._unit_of_squares(network) * residual / rows.count
        if self.anchor is None:
            unit = np.ones(self.n_components_)
        network.code_prior = self._code_prior(density, unit, nat, seed)
        return network

    def _make_prior(self, rows: Dataset, projection: np.ndarray, seed: int) -> Any:
        """The prior; if it is fitted, to standardized codes of PCA, which are projections."""
        if self.prior == "standard_normal":
            return Gaussian(np.zeros(self.n_components_), np.eye(self.n_components_))
        if self.prior == "uniform":
            return Uniform(self.n_components_)
        if self.prior != "gaussian_mixture" and not hasattr(self.prior, "fit"):
            return self.prior
        codes = rows[rows.evenly_spaced(PRIOR_ROWS)] @ projection.T
        if self.prior == "gaussian_mixture":
            return Mixture(seed).fit(codes)
        return Estimated(self.prior, seed).fit(codes)

    def _code_prior(self, density: Any, unit: np.ndarray, nat: float, seed: int) -> CodePrior:
        """Describe the prior of raw codes, whose standard deviations are `unit`."""
        draws = np.asarray(density.sample(N_DRAWS, random_state=seed), dtype=float)
        shape = N_DRAWS, self.n_components_
        if draws.shape != shape or not np.isfinite(draws).all():
            raise ValueError(
                f"prior={self.prior!r} draws {N_DRAWS} codes of shape {draws.shape}; with "
                f"n_components={self.n_components_} they must be finite and have shape {shape}."
            )
        mean, deviation = draws.mean(axis=0), draws.std(axis=0)
        if isinstance(self.prior, str) and self.prior in KNOWN_DEVIATIONS:
            mean = np.zeros(self.n_components_)
            deviation = np.full(self.n_components_, KNOWN_DEVIATIONS[self.prior])
        deviation[deviation == 0] = 1.0
        return CodePrior(
            draws=torch.from_numpy((draws - mean) / deviation),
            unit=torch.from_numpy(unit),
            weight=self.prior_weight,
            nat=nat,
            density=density,
            mean=mean,
            deviation=deviation,
        )

    def _network_to_train(self) -> nn.Module:
        network: Any = super()._network_to_train()
        if not hasattr(network, "code_prior"):
            described = self._code_prior(self.prior_, self._trained_unit, self._nat, seed=0)
            network.code_prior = described
        return network

    def _take_prior(self) -> None:
        """Take over the prior of the trained network's codes."""
        network = self.net_.module_
        if hasattr(network, "code_prior"):
            prior: CodePrior = network.code_prior
            self.prior_, self._nat = prior.density, prior.nat
            self._prior_mean, self._prior_deviation = prior.mean, prior.deviation
            self._trained_unit = prior.unit.numpy()
            del network.code_prior

    def _make_gradient(self) -> Any:
        return AdversarialGradient

    def _make_trainer(self, rows: Dataset, device: torch.device, seeds: Any, **options: Any) -> Any:
        trainer: Trainer = super()._make_trainer(rows, device, seeds, **options)
        by_autograd = reads_batches(self.callbacks)
        make = partial(AdversarialGradient, seed=seeds.noise, by_autograd=by_autograd)
        return replace(trainer, make_gradient=make, keeps_latest=True)

    # -- order and attributes ------------------------------------------------------

    def _is_at_pca(self) -> bool:
        return False  # PCA's codes have another unit

    def _code_unit(self) -> np.ndarray:
        return self._unit

    def _limit_network(self, rows: Dataset, held_out: Dataset | None = None) -> None:
        self._take_prior()  # before the network is copied
        super()._limit_network(rows, held_out)

    def _order(self, jacobian: np.ndarray, moments: Moments) -> None:
        """Give each component the mean and variance of the prior; the order is kept.

        This changes no reconstruction, and brings codes nearer to the prior.
        """
        self._take_prior()
        variances = np.diag(moments.covariance())
        varies = varying(variances)
        self._unit = self._prior_deviation / self._trained_unit
        self._unit[varies] = self._prior_deviation[varies] / np.sqrt(variances[varies])
        self._rotation = np.eye(self.n_components_)
        self._code_mean = moments.mean - self._prior_mean / self._unit
        self.components_ = jacobian / self._unit[:, None] * self._scale
        self._set_variances(variances * np.square(self._unit))

    @property
    @array_api_by_numpy
    def singular_values_(self) -> np.ndarray:
        """Norm of each component over the training rows, (n_components_,), in input units."""
        lengths = np.linalg.norm(self.components_, axis=1)
        return np.sqrt((self.n_samples_ - 1) * self.explained_variance_) * lengths

    def _previous_moments(self) -> Moments:
        moments = Moments(self.n_components_)
        moments.count = self.n_samples_
        moments.mean = self._code_mean + self._prior_mean / self._unit
        variances = self.explained_variance_ / np.square(self._unit)
        moments.scatter = np.diag(variances * max(1, self.n_samples_ - 1))
        return moments

    def _finish_fit(self, data: FitData, trained: Trained, *, full: bool = True) -> None:
        super()._finish_fit(data, trained, full=full)
        name = "train_discriminator_loss"
        self.discriminator_loss_curve_ = [
            epoch[name] for epoch in self.net_.history if name in epoch
        ]
        if full:
            self._compare_with_prior(data.rows, data.density_seed)

    def _compare_with_prior(self, rows: Dataset, seed: int) -> None:
        """Set how far codes are from the prior; warn if they are far."""
        codes = self._codes_for_density(rows)
        draws = self.prior_.sample(PRIOR_ROWS, random_state=seed)
        tests = [ks_2samp(*pair) for pair in zip(codes.T, draws.T, strict=True)]
        self.prior_distances_ = np.array([test.statistic for test in tests])
        far = max((t.statistic for t in tests if t.pvalue < CHANCE), default=0.0)
        curve = self.discriminator_loss_curve_
        has_won = bool(curve) and curve[-1] < WON * INDISTINGUISHABLE
        if not rows.any() or not (far > FAR or has_won):
            return
        if not curve or (self.anchor is not None and self.net_.module_.is_at_anchor()):
            reason = "PCA was kept, because no other weights restored held-out rows better"
            remedy = "Give more rows, or lower n_components or prior_weight"
        else:
            reason = f"the discriminator's loss is {curve[-1]:.2g} of log 4 = 1.39 at best"
            remedy = "Raise prior_weight or max_epochs, or choose another prior"
        warn(
            f"Codes are not distributed like prior={self.prior!r} (largest Kolmogorov-Smirnov "
            f"distance of a component: {far:.2g}): {reason}. Samples may be unlike the rows. "
            f"{remedy} (n_components={self.n_components_}, prior_weight={self.prior_weight}).",
            ConvergenceWarning,
        )

    # -- densities -----------------------------------------------------------------

    def _prior_density(self) -> Any:
        return self.prior_

    def _make_mixture(self, seed: int) -> Mixture:
        return Mixture(seed)  # components of the code have a unit each

    def _code_moments(self, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
        return mean_and_covariance(self._codes_for_density(rows))

    def _density_from_moments(self, codes: Moments) -> Any:
        return (
            self.prior_ if self.latent_density == "prior" else super()._density_from_moments(codes)
        )
