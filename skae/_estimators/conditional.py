"""The variational autoencoder of rows, given some of their columns."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skae._data.dataset import Dataset
from skae._data.dtypes_and_batch_sizes import rows_per_batch
from skae._data.estimator_rollback import all_or_nothing
from skae._data.frames import check_code_names
from skae._data.input_checks import check_codes
from skae._data.input_errors import check_squares
from skae._data.parameter_checks import Interval, check_integer
from skae._data.seeds_and_devices import derive_seeds, resolve_device
from skae._data.statistics import explained_share
from skae._data.table_columns import listed_columns
from skae._data.table_frames import Table
from skae._data.units import check_groups
from skae._estimators.base import resolve_hidden_layer_sizes
from skae._estimators.docstrings import inherit_entries
from skae._estimators.table_base import TableEncoder
from skae._estimators.vae import (
    ACTIVE,
    N_DRAWS,
    POSTERIOR_REACH,
    VARIANCE_DRAWS,
    VAETransformer,
    antithetic_draws,
    importance_weighted_bound,
    probabilistic_pca,
    squares_of_draws,
)
from skae._latent.column_graph import ToResiduals, ToWhitened
from skae._latent.given_condition import ConditionalNormal, ResidualRows
from skae._latent.ordering import signs_of_largest
from skae._latent.sampling import DENSITY_ROWS
from skae._training.callbacks import check_callbacks
from skae._training.net import AutoencoderNet
from skae._training.progress import progress_of_fit
from skae._training.trainer import Trainer, TrainingJob
from skae.losses import KL, ConditionalObjective, gaussian_nll, kl_of_moments
from skae.networks.conditional import ConditionalCodec, ConditionalVariationalAutoencoder
from skae.networks.dense import MLP, SMALLEST_NOISE_VARIANCE, Output
from skae.networks.inference import Affine, Cast, encoder_of
from skae.noise import ReparameterizationNoise

SMALLEST_DEVIATION = 1e-6  # of a component, for the fading of corrections beyond its codes
NOT_HERE = (  # parameters of `VAETransformer`
    "likelihood",
    "observation_variance",
    "anchor",
    "target_weight",
    "stochastic_depth",
    "whiten",
    "latent_density",
    "network",
    "warm_start",
)
OF_VAE = {n: c for n, c in VAETransformer._parameter_constraints.items() if n not in NOT_HERE}


@inherit_entries(VAETransformer)
class ConditionalVAE(TableEncoder):
    """Variational autoencoder of rows, given some of their columns (CVAE).

    Some columns are the condition of a row: a class, a batch, a site, an age. Encoder and decoder
    are told the condition, so the code need not hold it [1]_. `transform` returns codes of what is
    left; `sample` draws rows under a condition; `translate` returns rows as they would be under
    another condition.

    The other columns are numbers x. A linear regression on the condition c is subtracted from
    them, and the rest is modelled as by `VAETransformer`: a code z is standard normal, whatever the
    condition, and a row is normal with mean ``B c + g(z, c)``. Training starts at probabilistic PCA
    of the residuals, and keeps it unless the bound of held-out rows is higher.

    Parameters
    ----------
    n_components : int, default=2
        Number of components, which is the size of the code.
    condition_features : array-like of str, int or bool, callable or None, default=None
        Which columns are the condition: names, positions, a mask, or a callable that returns them
        for X, such as `sklearn.compose.make_column_selector`. None is no condition.
    categorical_features : "auto", None or array-like of str, int or bool, default="auto"
        Which columns of the condition are categories: names, positions, or a mask. Text, booleans
        and columns of a categorical dtype always are. List whole numbers that are labels.
    beta
    kl_warmup
    free_bits
    hidden_layer_sizes
    activation
    optimizer
    lr
    lr_schedule
    weight_decay
    batch_size
    max_epochs
    early_stopping : bool, default=True
        Hold out validation rows and keep the weights that are best on them, as
        `VAETransformer` does. False trains on all rows and keeps the last weights.
    validation_fraction : float, default=0.1
        Share of the rows in a validation set.
    n_iter_no_change
    tol
    callbacks
    device
    random_state
    verbose

    Attributes
    ----------
    n_components_ : int
    condition_features_ : list
        Names of the columns of the condition, which are their positions in an array.
    noise_variance_ : float
        Observation variance, in squared input units.
    kl_per_component_ : ndarray of shape (n_components_,)
        Mean KL divergence of each component over the training rows, in nats, decreasing.
    n_active_components_ : int
        Number of components whose KL divergence exceeds 0.01 nats.
    loss_curve_, validation_loss_curve_ : list of float
        Mean loss per row after each epoch: the negative bound, in nats of standardized rows.
    n_iter_ : int
        Number of epochs.
    net_ : skorch net
        The trained network, `net_.module_`, and its history.
    n_samples_ : int
    n_features_in_ : int
        Number of columns, the condition included.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X has string column names.

    See Also
    --------
    VAETransformer : Without a condition.
    TableAutoencoder : Mixed tables with gaps; samples under conditions on any columns.

    Notes
    -----
    Tables come back as they went in: library, columns and dtypes are those of `fit`, and the
    columns of the condition hold the condition. Gaps are errors, and so is a category that `fit`
    has not seen. Rows differ from one condition to another as the training rows do, whatever the
    reason for that.

    Training makes codes normal, but not alike under each condition. So they are whitened after it:
    a normal distribution whose mean and covariance depend on the condition is fitted to the
    posteriors of the training rows, and is the prior of the network's codes. Its mean, its
    regressions of components on those before them, and the logarithms of the variances that these
    leave are linear in the condition [5]_. Few rows of a category are shrunk to all others.

    References
    ----------
    .. [1] Sohn, Lee and Yan (2015). Learning structured output representation using deep
       conditional generative models. https://papers.nips.cc/paper/5775
    .. [2] Burda, Grosse and Salakhutdinov (2016). Importance weighted autoencoders.
       https://arxiv.org/abs/1509.00519
    .. [3] Higgins et al. (2017). beta-VAE. https://openreview.net/forum?id=Sy2fzU9gl
    .. [4] Kingma et al. (2016). Improved variational inference with inverse autoregressive
       flow. https://arxiv.org/abs/1606.04934
    .. [5] Pourahmadi (1999). Joint mean-covariance models with applications to longitudinal data.
       Biometrika 86. https://doi.org/10.1093/biomet/86.3.677

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import ConditionalVAE
    >>> frame = load_iris(as_frame=True).frame
    >>> frame["species"] = load_iris().target_names[frame.pop("target")]
    >>> vae = ConditionalVAE(
    ...     n_components=1, condition_features=["species"], max_epochs=50, random_state=0
    ... )
    >>> vae.fit(frame).transform(frame).shape
    (150, 1)
    >>> vae.sample(2, random_state=0, condition={"species": "setosa"})["species"].tolist()
    ['setosa', 'setosa']
    """

    __module__ = "skae"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **OF_VAE,
        **TableEncoder._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "condition_features": ["array-like", callable, None],
    }
    _state_classes: ClassVar[dict[str, type]] = {
        **TableEncoder._state_classes,
        "net_": AutoencoderNet,
        "_rows": ResidualRows,
        "_prior": ConditionalNormal,
    }
    _state_shapes: ClassVar[dict[str, str]] = {"_rotation": "kk"}
    _state_parts: ClassVar[tuple[str, ...]] = ("_rows", "_prior", "noise_variance_")

    _rows: ResidualRows  # standardized, of the columns that are no condition
    _conditions: np.ndarray  # (n_kept, n_condition_columns), of evenly spaced training rows
    _prior: ConditionalNormal  # of the network's codes
    _rotation: np.ndarray  # (n_components, n_components), order and signs of whitened codes

    def __init__(
        self,
        n_components: int = 2,
        *,
        condition_features: Any = None,
        categorical_features: Any = "auto",
        beta: float = 1.0,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
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
        verbose: int = 0,
    ):
        self.n_components = n_components
        self.condition_features = condition_features
        self.categorical_features = categorical_features
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
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
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> Self:
        """Fit to a table.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            A pandas or polars frame, a pyarrow table, or an array-like, without gaps.
        y : None
            Ignored, present for Pipelines. A class that shall be a condition is a column of X.
        groups : array-like of shape (n_samples,), default=None
            Label of the group of each row, such as a person. The rows of a group are held out
            together.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X is not 2-D, is empty or has gaps; if a column that is no condition is no number; if
            no column is left to model; or if the device does not exist.
        """
        with progress_of_fit(self), all_or_nothing(self), torch.inference_mode(False):
            device = resolve_device(self.device)
            check_callbacks(self.callbacks)
            rows = self._learn_rows(X)
            rows.groups = check_groups(groups, rows)
            self.n_samples_ = len(rows)
            job = self._make_job(rows, device, derive_seeds(self.random_state, 4))
            self.net_, self.validation_loss_curve_ = job.train()
            self.loss_curve_ = [epoch["train_loss"] for epoch in self.net_.history]
            self.n_iter_ = len(self.loss_curve_)
            self._describe(rows)
        return self

    def _learn_rows(self, X: Any) -> Dataset:
        """Learn the columns of X; return standardized rows, with their conditions."""
        features = self.condition_features
        features = features(X) if callable(features) else features
        table = self._learn_table(X, handle_unknown="error")
        chosen = listed_columns("condition_features", features, table)
        columns = self._columns.columns
        if len(chosen) == len(columns):
            raise ValueError(
                f"condition_features={features!r} lists all n_features={len(columns)} columns of "
                "X, so that none is left to model; leave out those that shall be drawn."
            )
        for j, column in enumerate(columns):
            if j not in chosen and column.is_category:
                raise ValueError(
                    f"{table.label(j)} holds text, booleans or categories; list it in "
                    "condition_features, encode it as numbers, or use TableAutoencoder."
                )
        values = self._encode(table)
        check_squares(np.delete(values, sorted(chosen), axis=1), X)
        self._rows, rows = ResidualRows.fit(values, columns, sorted(chosen))
        self.condition_features_ = [columns[j].name for j in sorted(chosen)]
        self._conditions = values[rows.evenly_spaced(DENSITY_ROWS)][:, self._rows.of_condition]
        return rows

    def _encode(self, table: Table) -> np.ndarray:
        """Values of a table, which has no gaps."""
        values = super()._encode(table)
        gaps = np.isnan(values)
        if gaps.any():
            j = int(gaps.any(axis=0).argmax())
            raise ValueError(
                f"{table.label(j)} has {gaps[:, j].sum()} gaps, but {type(self).__name__} does not "
                "accept missing values (NaN); drop these rows, fill them by AutoencoderImputer, or "
                "use TableAutoencoder."
            )
        return values

    def _make_job(self, rows: Dataset, device: torch.device, seeds: Any) -> TrainingJob:
        """Build the network and the trainer; zero epochs if training cannot help.

        A linear network starts at its optimum: the regression on the condition, and probabilistic
        PCA of the residuals.
        """
        weights, split, order, noise = seeds
        make_network = partial(self._make_network, seed=weights)

        def make_noise() -> nn.Module:
            generator = torch.Generator(device).manual_seed(noise)
            return ReparameterizationNoise(self.n_components, generator)

        objective = ConditionalObjective(
            {"reconstruction": gaussian_nll, "kl": KL(self.free_bits)},
            {"kl": self.beta},
            warm_up={"kl": self.kl_warmup},
            positive=False,
        )
        trainer = Trainer(
            self.get_params(deep=False),
            objective,
            True,
            device,
            split,
            order,
            make_noise,
            VAETransformer._standard_errors_waived,
            progress=self._progress,
        )
        is_linear = not resolve_hidden_layer_sizes(self.hidden_layer_sizes) and not self.free_bits
        n_epochs = 0 if is_linear or not rows.any() else None
        return TrainingJob(trainer, make_network(rows), rows, make_network, n_epochs=n_epochs)

    def _make_network(self, rows: Dataset, seed: int) -> ConditionalVariationalAutoencoder:
        """Probabilistic PCA of the residuals, with corrections that start at zero."""
        generator, k = torch.Generator().manual_seed(seed), self.n_components
        n_columns, n_conditions = rows.shape[1], rows.n_inputs - rows.shape[1]
        hidden = resolve_hidden_layer_sizes(self.hidden_layer_sizes)
        encoder, decoder = (
            MLP(widths, self.activation, zero_last=True, generator=generator)
            for widths in (
                [n_columns + n_conditions, *hidden, 2 * k],
                [k + n_conditions, *hidden[::-1], n_columns],
            )
        )
        linear = probabilistic_pca(rows, k, self.beta)
        none = np.zeros((k, n_conditions))
        return ConditionalVariationalAutoencoder(
            ConditionalCodec(encoder, decoder),
            encoding=torch.from_numpy(np.hstack([linear["encoding"], none])),
            decoding=torch.from_numpy(
                np.vstack([linear["decoding"], np.zeros((n_conditions, n_columns))])
            ),
            log_variances=torch.from_numpy(linear["log_variances"]),
            noise_variance=torch.tensor(linear["noise_variance"], dtype=torch.float64),
        )

    def _describe(self, rows: Dataset) -> None:
        """Fit the prior of the network's codes, order the components, and set the noise variance.

        The prior is the normal distribution, given the condition, that makes the divergence
        smallest. Whitened by it, codes are standard normal whatever the condition, as nearly as a
        normal distribution can make them.
        """
        k = self.n_components_ = self.n_components
        conditions = self._conditions_of(rows)
        self._prior = ConditionalNormal.standard(k, conditions.shape[1])
        codes, variances, log_vars = np.empty((3, len(rows), k))
        for part in self._parts(len(rows)):
            codes[part], log_vars[part] = self._posterior(rows[part], conditions[part])
        if self._was_trained():
            self._limit_network(rows, codes, log_vars)
            self._prior = ConditionalNormal.fit(codes, np.exp(log_vars), conditions)
        along = np.zeros((k, rows.shape[1]))
        for part in self._parts(len(rows)):
            given = conditions[part]
            codes[part] = self._prior.whiten(codes[part], given)
            variances[part] = self._prior.whitened_variances(np.exp(log_vars[part]), given)
            log_vars[part] += 2 * self._prior.log_slopes(given)
            along += codes[part].T @ rows[part]
        squares = (np.square(codes) + variances).mean(axis=0)
        divergence = kl_of_moments(squares, log_vars.mean(axis=0))
        order = np.argsort(-divergence, kind="stable")
        self.kl_per_component_ = divergence[order]
        self.n_active_components_ = int((self.kl_per_component_ > ACTIVE).sum())
        self._rotation = np.eye(k)[:, order] * signs_of_largest(along[order])
        self._set_noise(rows)

    def _limit_network(self, rows: Dataset, means: np.ndarray, log_vars: np.ndarray) -> None:
        """Let corrections fade beyond the training rows, their posteriors, and conditions."""
        conditions, reach = self._conditions_of(rows), POSTERIOR_REACH * np.exp(0.5 * log_vars)
        of_conditions = np.array([conditions.min(axis=0), conditions.max(axis=0)])
        of_codes = np.array([(means - reach).min(axis=0), (means + reach).max(axis=0)])
        deviations = np.maximum(means.std(axis=0), SMALLEST_DEVIATION)
        deviations = np.hstack([deviations, np.ones(conditions.shape[1])])
        self.net_.limit(
            np.hstack([rows.bounds(), of_conditions]),
            np.vstack([np.hstack([of_codes, of_conditions]), deviations]),
        )

    def _was_trained(self) -> bool:
        """Whether training changed the network."""
        return self.n_iter_ > 0 and self.net_.best_epoch_ > 0

    def _conditions_of(self, rows: Dataset) -> np.ndarray:
        conditions: Any = rows.extra
        return conditions

    def _set_noise(self, rows: Dataset) -> None:
        """Set the observation variance to its optimum, in the network too."""
        variance = self.net_.module_.noise_variance
        if self._was_trained():
            index, squares = rows.evenly_spaced(DENSITY_ROWS), np.zeros(rows.shape[1])
            draws = antithetic_draws(VARIANCE_DRAWS, self.n_components_)
            for part in self._parts(len(index)):
                block, conditions = rows[index[part]], self._conditions_of(rows)[index[part]]
                posterior, decode = self._posterior(block, conditions), self._decoder(conditions)
                squares += sum(squares_of_draws(block, *posterior, draws, decode))
            best = squares.mean() / VARIANCE_DRAWS / len(index) * self.net_.validation_ratio_
            variance.fill_(max(best, SMALLEST_NOISE_VARIANCE))
        self.noise_variance_ = float(variance) * self._rows.scale**2

    # -- rows and codes ------------------------------------------------------------

    def _parts(self, n_rows: int) -> Iterator[slice]:
        widest = max(self.n_features_in_, self.net_.widest_layer(), self._prior.widest)
        return gen_batches(n_rows, rows_per_batch(widest))

    def _read(self, X: Any) -> tuple[Table, np.ndarray, np.ndarray, np.ndarray]:
        """A table with the columns of `fit`, its values, standardized rows, and conditions."""
        table = self._open(X)
        values = self._encode(table)
        return table, values, *self._rows.split(values)

    def _given(self, condition: Any, n_rows: int) -> np.ndarray:
        """Values (n_rows, n_condition_columns) of a condition that is asked for."""
        return self._columns.encode_condition(self._rows.of_condition, condition, n_rows)

    def _posterior(self, rows: np.ndarray, conditions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and log-variances of the network's codes of standardized rows."""
        both = self.net_.posterior(np.hstack([rows, conditions]))
        mean, log_var = (tensor.numpy() for tensor in both)
        return mean, log_var

    def _decoder(self, conditions: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """What decodes the network's codes to standardized rows, under conditions."""
        return lambda raw: self.net_.infer_rows("decode", np.hstack([raw, conditions]))

    def _to_codes(self, raw: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """Codes, whose prior is standard normal, of the network's codes."""
        return self._prior.whiten(raw, conditions) @ self._rotation

    def _codes(self, rows: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """Codes of standardized rows: means of the posterior distributions."""
        codes = np.empty((len(rows), self.n_components_))
        for part in self._parts(len(rows)):
            raw, _ = self._posterior(rows[part], conditions[part])
            codes[part] = self._to_codes(raw, conditions[part])
        return codes

    def _decoded(self, codes: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Values (n_rows, n_features), of codes and the values of their conditions."""
        conditions = self._rows.coordinates.from_values(given)
        rows = np.empty((len(codes), len(self._rows.of_rows)))
        for part in self._parts(len(codes)):
            raw = self._prior.color(codes[part] @ self._rotation.T, conditions[part])
            rows[part] = self._decoder(conditions[part])(raw)
        return self._rows.join(rows, given)

    def _restored(self, X: Any) -> tuple[Table, np.ndarray, np.ndarray]:
        """A table with the columns of `fit`, its values, and those that its codes restore."""
        table, values, rows, conditions = self._read(X)
        given = values[:, self._rows.of_condition]
        return table, values, self._decoded(self._codes(rows, conditions), given)

    def _steps_to_codes(self, dtype: torch.dtype) -> Iterable[nn.Module]:
        network = copy.deepcopy(self.net_.module_).cpu().requires_grad_(False)
        yield ToResiduals(self._rows)
        yield ToWhitened(encoder_of(network, dtype, self.n_components_), self._prior)
        yield Affine(torch.from_numpy(self._rotation))
        yield Cast(dtype)

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows: means of the posterior distributions of their codes.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of the condition.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_), float64
            A frame if `set_output` asks for frames.
        """
        _, _, rows, conditions = self._read(X)
        return self._codes(rows, conditions)

    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of the posterior distributions of rows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)

        Returns
        -------
        mean, std : ndarray of shape (n_samples, n_components_), float64
            In units of the codes. Whitened components are not quite independent of each other.
        """
        _, _, rows, conditions = self._read(X)
        mean, std = np.empty((2, len(rows), self.n_components_))
        for part in self._parts(len(rows)):
            raw, log_var = self._posterior(rows[part], conditions[part])
            mean[part] = self._to_codes(raw, conditions[part])
            variances = self._prior.whitened_variances(np.exp(log_var), conditions[part])
            std[part] = np.sqrt(variances) @ np.abs(self._rotation)
        return mean, std

    def inverse_transform(self, X: Any, condition: Any = None) -> Any:
        """Decode codes under a condition.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes as `transform` returns them.
        condition : dict or table of n_samples rows, default=None
            Values of the columns of the condition: one value for all rows, or one for each. A table
            may have further columns. None is for models without a condition.

        Returns
        -------
        X_reconstructed : table of shape (n_samples, n_features)
            Of the library, columns and dtypes of the table in `fit`.

        Raises
        ------
        ValueError
            If the condition lacks a column, or has a value that `fit` has not seen.
        """
        check_is_fitted(self)
        check_code_names(self, X)
        codes = check_codes(X, self.n_components_).astype(np.float64, copy=False)
        given = self._given(condition, len(codes))
        return self._columns.decode(self._decoded(codes, given), template=X)

    def reconstruct(self, X: Any) -> Any:
        """Encode rows, and decode them under their own condition.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)

        Returns
        -------
        X_reconstructed : table of shape (n_samples, n_features)
        """
        table, _, restored = self._restored(X)
        return self._columns.decode(restored, template=table.data)

    def translate(self, X: Any, condition: Any, *, keep_residual: bool = True) -> Any:
        """Return rows as they would be under another condition: decode their codes under it.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        condition : dict or table of n_samples rows
            As of `inverse_transform`.
        keep_residual : bool, default=True
            Add what the code does not restore of each row. Then translating a row to its own
            condition changes nothing, as harmonising batches needs it. False returns the decoded
            rows, which are smoother.

        Returns
        -------
        X_translated : table of shape (n_samples, n_features)
            The columns of the condition hold the new one.
        """
        table, values, rows, conditions = self._read(X)
        given = self._given(condition, len(rows))
        codes = self._codes(rows, conditions)
        translated = self._decoded(codes, given)
        if keep_residual:
            own = values[:, self._rows.of_condition]
            translated += values - self._decoded(codes, own)
        return self._columns.decode(translated, template=table.data)

    # -- samples and likelihoods ---------------------------------------------------

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        condition: Any = None,
        observation_noise: bool = True,
    ) -> Any:
        """Draw new rows under a condition.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None
        condition : dict or table of n_samples rows, default=None
            As of `inverse_transform`. None draws conditions of training rows.
        observation_noise : bool, default=True
            Add normal noise of variance `noise_variance_`. Without it, rows are the means of the
            model given codes and conditions.

        Returns
        -------
        X : table of shape (n_samples, n_features)
            Of the library, columns and dtypes of the table in `fit`.
        """
        check_is_fitted(self)
        check_integer(n_samples, "n_samples", at_least=1)
        random = check_random_state(random_state)
        if condition is None:
            given = self._conditions[random.randint(len(self._conditions), size=n_samples)]
        else:
            given = self._given(condition, n_samples)
        codes = random.normal(size=(n_samples, self.n_components_))
        rows = self._decoded(codes, given)
        if observation_noise:
            shape = n_samples, len(self._rows.of_rows)
            noise = math.sqrt(self.noise_variance_) * random.normal(size=shape)
            rows[:, self._rows.of_rows] += noise
        return self._columns.decode(rows)

    def score_samples(self, X: Any, *, n_draws: int = N_DRAWS, random_state: int = 0) -> np.ndarray:
        """Lower bound on the log-likelihood of each row, given its condition.

        This is the importance-weighted bound [2]_, as of `VAETransformer.score_samples`.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        n_draws : int, default=64
            Number of samples of each row's posterior.
        random_state : int, default=0
            Seed of the samples.

        Returns
        -------
        bound : ndarray of shape (n_samples,), float64
            In nats per row.
        """
        _, _, rows, conditions = self._read(X)
        check_integer(n_draws, "n_draws", at_least=1)
        draws = antithetic_draws(n_draws, self.n_components_, random_state)
        bound = np.empty(len(rows))
        for part in self._parts(len(rows)):
            bound[part] = self._bound(rows[part], conditions[part], draws)
        return bound - rows.shape[1] * math.log(self._rows.scale)

    def _bound(self, rows: np.ndarray, conditions: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Bound of standardized rows given their conditions, as density of standardized rows."""
        variance, x = self.net_.module_.noise_variance.cpu(), torch.from_numpy(rows)
        mean, log_var = map(torch.from_numpy, self._posterior(rows, conditions))

        decode = self._decoder(conditions)

        def nll(z: Tensor) -> Tensor:
            decoded = torch.from_numpy(decode(z.numpy()))
            return gaussian_nll(Output(decoded, z, noise_variance=variance), x)

        def to_prior(z: Tensor) -> Tensor:
            return torch.from_numpy(self._to_codes(z.numpy(), conditions))

        slopes = self._prior.log_slopes(conditions).sum(axis=1)
        return importance_weighted_bound(mean, log_var, draws, nll, to_prior) + slopes

    def reconstruction_error(self, X: Any, per_feature: bool = False) -> np.ndarray:
        """Squared differences between rows and their reconstructions.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        per_feature : bool, default=False
            Return one value per column instead of the sum over columns.

        Returns
        -------
        errors : ndarray of shape (n_samples,) or (n_samples, n_features), float64
            In squared input units. Columns of the condition have none.
        """
        errors, _ = self._squares(X)
        return errors if per_feature else errors.sum(axis=1)

    def _squares(self, X: Any) -> np.ndarray:
        """Squared errors, and squared distances to the mean, (2, n_samples, n_features)."""
        _, values, restored = self._restored(X)
        own = self._rows.of_rows
        squares = np.zeros((2, *values.shape))
        for each, to in zip(squares, (restored[:, own], self._rows.mean), strict=True):
            each[:, own] = np.square(values[:, own] - to)
        return squares

    def score(self, X: Any, y: Any = None) -> float:
        """Fraction of the variance that is explained by codes and conditions together.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        score : float
            ``1 - SSE / SST`` over the columns that are no condition, as of
            `AutoencoderTransformer.score`.
        """
        return explained_share(*self._squares(X).sum(axis=(1, 2)).tolist())

    # -- scikit-learn's contract ---------------------------------------------------

    def _check_fitted_state(self, state: dict[str, Any]) -> None:
        # The network maps the columns that are no condition.
        n_columns = len(state["_rows"].of_rows) if "_rows" in state else 0
        super()._check_fitted_state({**state, "n_features_in_": n_columns})
