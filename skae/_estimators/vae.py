"""The variational autoencoder: posterior distributions of codes, and a likelihood of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from skae._data.array_api import array_api_by_numpy
from skae._data.dataset import Dataset
from skae._data.input_checks import check_unit_interval
from skae._data.parameter_checks import Interval, check_integer
from skae._data.partitions import by_partition
from skae._data.statistics import Moments
from skae._data.warnings import warn
from skae._estimators.base import DENSE_CONSTRAINTS, BaseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.partial_fit import IncrementalAutoencoder
from skae._latent.covariance import CODES_PER_COMPONENT, MOMENT_CODES, with_variances
from skae._latent.ordering import Smooth, identity, signs_of_largest
from skae._latent.sampling import DENSITY_ROWS, mean_and_covariance
from skae.densities import Mixture
from skae.losses import KL, Objective, binary_cross_entropy, gaussian_nll, kl_of_moments
from skae.networks.dense import (
    LITTLE_RELIABILITY,
    SMALLEST_NOISE_VARIANCE,
    Output,
    VariationalAutoencoder,
)
from skae.networks.linear_vae import LinearOptimum
from skae.noise import ReparameterizationNoise

ACTIVE = 0.01  # KL divergence, in nats, above which a component is active
# Lower bound of the logistic function's derivative and of mean probabilities, at the start.
SMALLEST_DERIVATIVE = 0.05
POSTERIOR_REACH = 4.0  # standard deviations of a posterior that belong to the region of the codes
N_DRAWS = 64  # samples of each row's posterior, for the likelihood
VARIANCE_DRAWS = 8  # samples of each row's posterior, for the observation variance


@inherit_entries(BaseAutoencoder)
class VAETransformer(IncrementalAutoencoder):
    """Variational autoencoder (VAE): nonlinear probabilistic PCA.

    The decoder is a generative model. A code z is standard normal. A row is normal with mean
    ``g(z)`` and a learned variance, or Bernoulli. The encoder computes a normal posterior with
    independent components for each row. Both are trained on the evidence lower bound [1]_
    ``E log p(x | z) - β KL(q(z | x) ‖ p(z))``. The linear VAE is probabilistic PCA [2]_.
    Training starts there, so that no useful component is collapsed at the start.

    `posterior` returns means and standard deviations of the posterior distributions. The mean is
    shrunk towards zero, and a row restored from it is too. So `transform` returns the mean divided
    by one minus the posterior variance, as for probabilistic PCA [6]_, and `inverse_transform`
    decodes it. A component that says almost nothing about rows is restored along its axis of PCA,
    and so are all of them if validation rows are restored better by PCA. Bound and samples do not
    depend on this. With ``likelihood="bernoulli"`` or ``anchor=None``, `transform` returns the
    posterior mean.

    Parameters
    ----------
    n_components
    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        Distribution of a row given its code. "bernoulli" is for data in [0, 1]; the decoder
        then returns probabilities.
    observation_variance : {"shared", "per_feature"}, default="shared"
        Variance of a row given its code: one for all features, as in probabilistic PCA, or one
        per feature. Not used by "bernoulli".
    beta : float, default=1.0
        Weight of the KL divergence [3]_. 1 is the bound on the likelihood. With larger values,
        fewer components are active. 0 trains on the reconstruction alone.
    kl_warmup : int, default=0
        Number of epochs over which the weight rises from 0 to `beta`.
    free_bits : float, default=0.0
        KL divergence of each component, in nats, that is not penalized [4]_.
    hidden_layer_sizes
    activation
    anchor : "pca" or None, default="pca"
        "pca" starts training at probabilistic PCA, None at random weights.
    whiten : bool, default=False
        Scale codes to unit variance over the training rows.
    latent_density : str or estimator, default="standard_normal"
        Density of the codes, for `sample`. "standard_normal" is the prior of the model.
        "gaussian_mixture" (with the number of components chosen by the Bayesian information
        criterion), "gaussian", or an estimator with `fit`, `sample` and `score_samples` is
        fitted to at most 5,000 posterior means. `score_samples` always uses the prior.
    network : callable, default=None
        ``(n_features, n_components) -> nn.Module`` with methods `encode` and `decode`. `encode`
        returns means and log-variances of the posterior side by side, in ``2 * n_components``
        columns. The network's outputs are added to probabilistic PCA, multiplied by trainable
        factors that start at zero. With ``anchor=None`` the network is used alone.
    *

    Attributes
    ----------
    n_components_
    components_
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component of `transform` over the training rows, before whitening, in
        units of the prior's variance.
    explained_variance_ratio_
    singular_values_ : ndarray of shape (n_components_,)
        Root of ``n_samples_ - 1`` times the model's variance of rows in the direction of each
        component: the variance of decoded samples of the prior plus the observation variance.
        For the linear model and an active component, this is PCA's singular value.
    noise_variance_ : float or ndarray of shape (n_features_in_,)
        Observation variance, in squared input units: the mean squared error of decoded samples
        of the training rows' posteriors, which maximizes the bound. 0 for "bernoulli".
    kl_per_component_ : ndarray of shape (n_components_,)
        Mean KL divergence of each component over the training rows, in nats, decreasing.
    n_active_components_ : int
        Number of components whose KL divergence exceeds 0.01 nats.
    *

    See Also
    --------
    AutoencoderTransformer : Restores rows better, because it has no prior.
    sklearn.decomposition.PCA : Its `score_samples` is that of the linear model.

    References
    ----------
    .. [1] Kingma and Welling (2014). Auto-encoding variational Bayes.
       https://arxiv.org/abs/1312.6114
    .. [2] Lucas et al. (2019). Don't blame the ELBO! A linear VAE perspective on posterior
       collapse. https://arxiv.org/abs/1911.02469
    .. [3] Higgins et al. (2017). beta-VAE. https://openreview.net/forum?id=Sy2fzU9gl
    .. [4] Kingma et al. (2016). Improved variational inference with inverse autoregressive
       flow. https://arxiv.org/abs/1606.04934
    .. [5] Burda, Grosse and Salakhutdinov (2016). Importance weighted autoencoders.
       https://arxiv.org/abs/1509.00519
    .. [6] Tipping and Bishop (1999). Probabilistic principal component analysis. Section 3.3.
       https://doi.org/10.1111/1467-9868.00196

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import VAETransformer
    >>> X = load_digits().data
    >>> X_train, X_test = X[:600], X[600:900]
    >>> vae = VAETransformer(n_components=5, random_state=0).fit(X_train)
    >>> mean, std = vae.posterior(X_test)
    >>> mean.shape, std.shape
    ((300, 5), (300, 5))
    >>> bool(vae.score_samples(X_test).mean() > PCA(5).fit(X_train).score(X_test))
    True
    """

    __module__ = "skae"  # the public path, which pickles name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseAutoencoder._parameter_constraints,
        "likelihood": [StrOptions({"gaussian", "bernoulli"})],
        "observation_variance": [StrOptions({"shared", "per_feature"})],
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warmup": [Interval(Integral, 0, None, closed="left")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        **DENSE_CONSTRAINTS,
    }

    _state_shapes: ClassVar[dict[str, str]] = {
        **BaseAutoencoder._state_shapes,
        "_unit": "k",
        "kl_per_component_": "k",
    }
    # For a log-likelihood, the mean over rows counts, whatever its standard error.
    _standard_errors_waived: ClassVar[float] = 3.0

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        observation_variance: Literal["shared", "per_feature"] = "shared",
        beta: float = 1.0,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        anchor: Literal["pca"] | None = "pca",
        target_weight: float = 0.0,
        stochastic_depth: float | Literal["auto"] = "auto",
        whiten: bool = False,
        latent_density: Any = "standard_normal",
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
        self.likelihood = likelihood
        self.observation_variance = observation_variance
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.anchor = anchor
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

    # -- network, objective and training -------------------------------------------

    def _check_parameters(self, X: np.ndarray) -> None:
        if self.likelihood == "bernoulli":
            check_unit_interval(X, "likelihood='bernoulli'", "likelihood='gaussian'")

    def _decodes_logits(self) -> bool:
        return self.likelihood == "bernoulli"

    def _make_objective(self) -> Objective:
        nll = binary_cross_entropy if self.likelihood == "bernoulli" else gaussian_nll
        return Objective(
            {"reconstruction": nll, "kl": KL(self.free_bits)},
            {"kl": self.beta},
            warm_up={"kl": self.kl_warmup},
            positive=False,
        )

    def _make_noise(self, rows: Dataset, generator: torch.Generator) -> nn.Module:
        return ReparameterizationNoise(self.n_components_, generator)

    def _starts_at_optimum(self) -> bool:
        return (
            self._is_linear()
            and self.likelihood == "gaussian"
            and self.observation_variance == "shared"
            and self.free_bits == 0
            and not self.target_weight
        )

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        return not self._starts_at_optimum() and rows.any()

    def _make_network(self, rows: Dataset, seed: int) -> nn.Module:
        d, k = self.n_features_in_, self.n_components_
        linear = self._linear_model(rows) if self.anchor is not None else _no_linear_model(d, k)
        variance = linear.pop("noise_variance")
        if self.observation_variance == "per_feature":
            variance = np.full(d, variance)
        if self.likelihood == "bernoulli":
            variance = None
        tensors: dict[str, Any] = {
            name: None if value is None else torch.tensor(value, dtype=torch.float64)
            for name, value in {**linear, "noise_variance": variance}.items()
        }
        if tensors.get("axes") is not None:  # inactive components have axes only
            tensors["direct"] = (tensors["decoding"].abs().sum(dim=1) == 0).double()
            tensors["divisor"] = torch.full((k,), LITTLE_RELIABILITY, dtype=torch.float64)
            tensors["shift"] = torch.zeros(k, dtype=torch.float64)
        gated = self.network is not None and self.anchor is not None
        return VariationalAutoencoder(self._make_codec(seed, n_parts=2), **tensors, gated=gated)

    def _linear_model(self, rows: Dataset) -> dict[str, Any]:
        """Probabilistic PCA of the rows; for "bernoulli", its approximation in logits."""
        model = probabilistic_pca(self._centred(rows), self.n_components_, self.beta)
        if self.likelihood == "gaussian":
            return {**model, "center": None, "offset": None}
        derivative = np.maximum(self.mean_ * (1 - self.mean_), SMALLEST_DERIVATIVE)
        mean = self.mean_.clip(SMALLEST_DERIVATIVE, 1 - SMALLEST_DERIVATIVE)
        return {
            **model,
            "decoding": model["decoding"] / derivative,
            "center": self.mean_,
            "offset": np.log(mean / (1 - mean)),
            "axes": None,
        }

    def _unit_of_squares(self, network: Any) -> float:
        if self._decodes_logits():
            return super()._unit_of_squares(network)
        return 0.5 / float(network.noise_variance.mean())

    def _restoring_errors(self) -> Any:
        return VariationalAutoencoder.restoring_errors if self.likelihood == "gaussian" else None

    def _limit_network(self, rows: Dataset, held_out: Dataset | None = None) -> None:
        """Choose also which components are restored along their axes: all if PCA is better."""
        super()._limit_network(rows, held_out)
        network = self.net_.module_
        if network.axes is None or not self._was_trained():
            return
        some = rows.tensor(rows.evenly_spaced(DENSITY_ROWS), torch.float64)
        exact = self.net_.at_precision(torch.float64)
        direct, divisor = exact.choose_restoring(some.to(self.net_.device))
        if not (self.net_.restores_ or self.target_weight):
            direct, self.pca_error_ratio_ = torch.ones_like(direct), 1.0
        self.net_.restore_by(direct, torch.zeros_like(direct), divisor)

    # -- order and attributes ------------------------------------------------------

    def _encoded_for_moments(self, rows: np.ndarray) -> np.ndarray:
        """Mean, variance and log-variance of the posteriors of rows, and codes, side by side."""
        mean, log_var = (tensor.double().numpy() for tensor in self.net_.posterior(rows))
        return np.hstack([mean, np.exp(log_var), log_var, self._encode(rows)])

    def _code_bounds(self, encoded: np.ndarray) -> np.ndarray:
        mean, variance, *_ = np.split(encoded, 4, axis=1)
        reach = POSTERIOR_REACH * np.sqrt(variance)
        return np.array([(mean - reach).min(axis=0), (mean + reach).max(axis=0)])

    def _order(self, jacobian: np.ndarray, moments: Moments) -> None:
        """Sort components by KL divergence, fix their signs, and set centre and unit of the code.

        Centre and unit do not change reconstructions, but they change the divergence. It is
        smallest if the posteriors of all rows together have the mean and variance of the prior.
        There is no rotation, because it would make the components of posteriors dependent.
        """
        k = self.n_components_
        mean, variances, logs, of_encode = np.split(moments.mean, 4)
        network = self.net_.module_
        if network.axes is not None and self._was_trained():
            shift = network.shift.cpu() + torch.from_numpy(of_encode - mean)
            self.net_.restore_by(network.direct, shift)
        of_means, *_, of_codes = np.split(np.diag(moments.covariance()), 4)
        center, unit = np.zeros(k), np.ones(k)
        if self._was_trained() and moments.count > 1:
            center = mean
            unit = 1 / np.sqrt(of_means + variances)
        squares = (
            np.diag(moments.scatter)[:k] / moments.count + np.square(mean - center) + variances
        )
        divergence = kl_of_moments(unit**2 * squares, logs + 2 * np.log(unit))
        order = np.argsort(-divergence, kind="stable")
        self.kl_per_component_ = divergence[order]
        self.n_active_components_ = int((self.kl_per_component_ > ACTIVE).sum())
        jacobian = (jacobian / unit[:, None])[order]
        signs = signs_of_largest(jacobian)
        self._rotation, self._code_mean = np.eye(k)[:, order] * signs, center
        self._unit = unit[order]
        self.components_ = jacobian * signs[:, None] * self._scale
        self._posterior_variance = of_means[order] * np.square(self._unit)
        self._set_variances(of_codes[order] * np.square(self._unit))

    def _was_trained(self) -> bool:
        """Whether training changed the network, so that it is not the linear optimum."""
        return self.anchor is None or (self.n_iter_ > 0 and self.net_.best_epoch_ > 0)

    def _code_unit(self) -> np.ndarray:
        return self._unit

    def _previous_moments(self) -> Moments:
        # `_order` solved for the moments, with the components in the network's order.
        n, unit, back = self.n_samples_, self._unit, np.abs(self._rotation)
        between = self._posterior_variance / np.square(unit)
        of_codes = self.explained_variance_ / np.square(unit)
        if self._was_trained():
            within = 1 / np.square(unit) - between
        else:
            within = back.T @ self.net_.module_.log_variances.exp().cpu().numpy()
        squares = between * (n - 1) / n + within
        logs = np.square(unit) * squares - 2 * np.log(unit) - 1 - 2 * self.kl_per_component_
        k = self.n_components_
        moments = Moments(4 * k)
        moments.count = n
        parts = self._code_mean, back @ within, back @ logs, self._code_mean
        moments.mean = np.concatenate(parts)
        first, last = np.arange(k), np.arange(3 * k, 4 * k)
        moments.scatter[first, first] = back @ between * max(1, n - 1)
        moments.scatter[last, last] = back @ of_codes * max(1, n - 1)
        return moments

    def _set_noise(self, rows: Dataset, sse: float, smooth: Smooth = identity) -> None:
        """Set the observation variance to its optimum, in the network too."""
        varies = rows.any()
        if self.likelihood == "bernoulli":
            self.noise_variance_ = 0.0
        else:
            variances = self.net_.module_.noise_variance
            if self._was_trained():
                best = smooth(self._posterior_mse(rows)) * self.net_.validation_ratio_
                variances.copy_(torch.tensor(best).clamp(SMALLEST_NOISE_VARIANCE))
            variances = variances.cpu().numpy()
            if varies and (variances <= SMALLEST_NOISE_VARIANCE).any():
                self._warn_of_noise_floor()
            self.noise_variance_ = variances * self._scale**2
            if variances.ndim == 0:
                self.noise_variance_ = float(self.noise_variance_)
        if varies and self.n_active_components_ == 0:
            warn(
                f"No component is active: the KL divergence of all n_components="
                f"{self.n_components_} is below {ACTIVE} nats, so codes have no information "
                f"about the rows. Lower beta={self.beta}.",
                ConvergenceWarning,
            )

    def _warn_of_noise_floor(self) -> None:
        warn(
            "The observation variance is at its lower bound, 1e-6 of the mean feature variance "
            f"(n_components={self.n_components_}, {self.n_features_in_} features): rows are "
            "reconstructed exactly, and their likelihood has no meaning. Lower n_components, or "
            "use AutoencoderTransformer.",
            ConvergenceWarning,
        )

    def _posterior_mse(self, rows: Dataset) -> Any:
        """Mean squared error of decoded samples of the posteriors, per feature or over all."""
        squares, index = np.zeros(rows.shape[1]), rows.evenly_spaced(DENSITY_ROWS)
        draws = antithetic_draws(VARIANCE_DRAWS, self.n_components_)
        for part in self._batch_slices(len(index)):
            x = rows[index[part]]
            mean, log_var = (t.numpy() for t in self.net_.posterior(x))
            decode = partial(self.net_.infer_rows, "decode")
            for of_draw in squares_of_draws(x, mean, log_var, draws, decode):
                squares += of_draw
        squares /= len(draws) * len(index)
        return squares if self.observation_variance == "per_feature" else squares.mean()

    # -- posterior -----------------------------------------------------------------

    @array_api_by_numpy
    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of the posterior distributions of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        mean : ndarray of shape (n_samples, n_components_), dtype of X
            In units of the codes.
        std : ndarray of shape (n_samples, n_components_), dtype of X
            In units of the codes.
        """
        X = self._check_rows(X)
        both = self._map_batches(
            lambda part: np.hstack(self._posterior(self._standardize(part))),
            X,
            2 * self.n_components_,
        )
        mean, std = np.split(both, 2, axis=1)
        return mean, std

    def _posterior(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and standard deviations of standardized rows, as ordered codes."""
        mean, log_var = (tensor.numpy() for tensor in self.net_.posterior(rows))
        std = np.exp(0.5 * log_var) @ np.abs(self._rotation) * self._code_scale
        return self._rotate_codes(mean), std.astype(rows.dtype, copy=False)

    @array_api_by_numpy
    def sample_around(
        self,
        X: Any,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        observation_noise: bool = False,
    ) -> np.ndarray:
        """Draw variations of rows: decode samples of their posteriors.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        n_samples : int, default=1
            Number of variations of each row.
        random_state : int, RandomState instance or None, default=None
        observation_noise : bool, default=False
            Add observation noise, as `sample` does.

        Returns
        -------
        X_around : ndarray of shape (n_rows, n_samples, n_features_in_), float64
            In input units. An array even if `set_output` asks for frames.
        """
        mean, std = self.posterior(X)
        check_integer(n_samples, "n_samples", at_least=1)
        random = check_random_state(random_state)
        shape = len(mean), n_samples, self.n_components_
        codes = mean[:, None] + std[:, None] * random.normal(size=shape)
        codes = codes.reshape(-1, self.n_components_).astype(np.float64)
        rows = self._decoded(codes, self._generate)
        if observation_noise:
            rows = self._add_noise(rows, random)
        return rows.reshape(len(mean), n_samples, self.n_features_in_)

    # -- samples and likelihoods ---------------------------------------------------

    def _generate(self, codes: Any) -> Any:
        return self.net_.infer_rows("decode", self._raw_codes(codes), self._output_activation)

    def _codes_for_density(self, rows: Dataset) -> np.ndarray:
        """Posterior means of evenly spaced rows."""
        some = rows[rows.evenly_spaced(DENSITY_ROWS)]
        parts = self._batch_slices(len(some))
        return np.concatenate([self._posterior(some[part])[0] for part in parts])

    def _prior_covariance(self) -> np.ndarray:
        return np.diag(np.square(self._code_scale / self._unit))

    def _code_moments(self, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
        return mean_and_covariance(self._codes_for_density(rows))

    def _make_mixture(self, seed: int) -> Mixture:
        return Mixture(seed)  # components of the code have a unit each

    def _residuals(self, rows: Dataset) -> None:
        """No residuals are kept: the likelihood is their distribution."""

    def _set_residual(self, rows: Dataset, smooth: Smooth) -> None:
        """Nothing to fit."""

    def _add_noise(self, X: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        if self.likelihood == "bernoulli":
            return (random.uniform(size=X.shape) < X).astype(X.dtype)
        return X + np.sqrt(self.noise_variance_) * random.normal(size=X.shape)

    @property
    @array_api_by_numpy
    def singular_values_(self) -> np.ndarray:
        """Norm of each component over `n_samples_` rows of the model's distribution."""
        squares = np.square(self.components_)
        decoded = squares.sum(axis=1)
        observed = squares @ np.broadcast_to(self.noise_variance_, self.n_features_in_)
        observed[decoded > 0] /= decoded[decoded > 0]
        return np.sqrt((self.n_samples_ - 1) * (decoded + observed))

    @array_api_by_numpy
    def get_covariance(self) -> np.ndarray:
        """Covariance of the model's distribution of rows.

        It is the covariance of 4,096 or more decoded samples of the prior, the same in every
        call, plus the observation variance. For the linear model it does not depend on the
        samples, and at ``beta=1`` it is `PCA.get_covariance`. For a nonlinear decoder it is an
        estimate.

        Returns
        -------
        covariance : ndarray of shape (n_features_in_, n_features_in_), float64
            In squared input units.
        """
        return super().get_covariance()

    def _moment_codes(self) -> np.ndarray:
        variances = np.diag(self._prior_covariance())
        n_codes = max(MOMENT_CODES, CODES_PER_COMPONENT * self.n_components_)
        return with_variances(antithetic_draws(n_codes, self.n_components_), variances)

    def _noise_covariance(self, mean: np.ndarray, squares: np.ndarray) -> np.ndarray:
        if self.likelihood == "bernoulli":
            return np.diag(mean - squares)
        return np.diag(np.broadcast_to(self.noise_variance_, self.n_features_in_))

    @by_partition
    @array_api_by_numpy
    def score_samples(self, X: Any, *, n_draws: int = N_DRAWS, random_state: int = 0) -> np.ndarray:
        """Lower bound on the log-likelihood of each row.

        This is the importance-weighted bound [5]_: the logarithm of the mean of
        ``p(x | z) p(z) / q(z | x)`` over samples of z from the posterior of the row. It
        rises with their number towards the log-likelihood. For the linear model at ``beta=1``
        it is exact, and is the log-likelihood of probabilistic PCA. The samples are
        quasi-random, in pairs of opposite signs. They are the same for every row, so that the
        value of a row does not depend on other rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        n_draws : int, default=64
            Number of samples of each row's posterior.
        random_state : int, default=0
            Seed of the samples. Compare seeds to see how much the bound depends on them.

        Returns
        -------
        bound : ndarray of shape (n_samples,), float64
            In nats per row.
        """
        X = self._check_rows(X)
        check_integer(n_draws, "n_draws", at_least=1)
        draws = antithetic_draws(n_draws, self.n_components_, random_state)
        return self._map_batches(
            lambda part: self._bound(self._standardize(part), draws)[:, None], X, 1, np.float64
        )[:, 0]

    def _bound(self, rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Importance-weighted bound of standardized rows, in nats, as density in input units."""
        mean, log_var = self.net_.posterior(rows)
        x = torch.from_numpy(np.ascontiguousarray(rows))
        variance = self.net_.module_.noise_variance
        if variance is not None:
            variance = variance.cpu().to(x.dtype)
        center, to_prior = (
            torch.tensor(array, dtype=x.dtype)
            for array in (self._code_mean, self._rotation * self._unit)
        )
        log_loss = self._make_objective().terms["reconstruction"]

        def nll(z: Tensor) -> Tensor:
            decoded = torch.from_numpy(self.net_.infer_rows("decode", z.numpy()))
            return log_loss(Output(decoded, z, noise_variance=variance), x)

        bound = importance_weighted_bound(
            mean, log_var, draws, nll, lambda z: (z - center) @ to_prior
        )
        return bound + np.log(self._unit).sum() - self.n_features_in_ * math.log(self._scale)


def probabilistic_pca(rows: Dataset, n_components: int, beta: float = 1.0) -> dict[str, Any]:
    """Tensors of a linear VAE at its optimum, and its noise variance, for centred rows."""
    components = rows.principal_components(n_components)
    along, residual = rows.squares_along(components)
    n_free, n_dimensions = max(1, rows.count - 1), min(rows.count, rows.shape[1])
    best = LinearOptimum.find(along / n_free, residual / n_free, n_dimensions, beta)
    return {
        "encoding": components * best.encoding()[:, None],
        "decoding": components * best.decoding()[:, None],
        "log_variances": best.log_variances(),
        "noise_variance": best.noise_variance,
        "axes": components * np.sqrt(along / n_free)[:, None],
    }


def importance_weighted_bound(
    mean: Tensor,
    log_var: Tensor,
    draws: np.ndarray,
    nll: Callable[[Tensor], Tensor],
    to_prior: Callable[[Tensor], Tensor],
) -> np.ndarray:
    """Lower bound (n_rows,) on log-likelihoods, given posteriors and standard normal `draws`.

    `nll` is the negative log-likelihood of the rows given their codes, `to_prior` maps codes to
    those whose prior is standard normal, with unit determinant.
    """
    std, logs = (0.5 * log_var).exp(), []
    for draw in torch.from_numpy(draws).to(mean.dtype):
        z = mean + draw * std
        of_code = 0.5 * (draw.square() - to_prior(z).square() + log_var).sum(dim=1)
        logs.append((of_code - nll(z)).double())
    return torch.logsumexp(torch.stack(logs), dim=0).numpy() - math.log(len(draws))


def squares_of_draws(
    x: np.ndarray,
    mean: np.ndarray,
    log_var: np.ndarray,
    draws: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray],
) -> Iterator[np.ndarray]:
    """Squared errors (n_features,) of rows decoded from samples of their posteriors.

    They are summed over the rows, for each of the standard normal `draws` in turn.
    """
    std = np.exp(0.5 * log_var)
    for draw in draws:
        yield np.square(x - decode(mean + draw * std)).sum(axis=0)


def antithetic_draws(n_draws: int, n_components: int, seed: int = 0) -> np.ndarray:
    """Quasi-random standard normal samples (n_draws, n_components), in pairs of opposite signs.

    `seed` scrambles the Sobol sequence.
    """
    sequence = torch.quasirandom.SobolEngine(n_components, scramble=True, seed=seed)
    uniform = sequence.draw(-(-n_draws // 2), dtype=torch.float64)
    normal = torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9)).numpy()
    return np.concatenate([normal, -normal])[:n_draws]


def _no_linear_model(n_features: int, n_components: int) -> dict[str, Any]:
    """A linear model that returns zero, so that the network is used alone; noise variance 1."""
    return {
        "encoding": np.zeros((n_components, n_features)),
        "decoding": np.zeros((n_components, n_features)),
        "log_variances": np.zeros(n_components),
        "noise_variance": 1.0,
    }
