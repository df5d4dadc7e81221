"""The autoencoder of several views: groups of columns that share one code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import block_diag
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import RealNotInt, StrOptions
from sklearn.utils.metaestimators import available_if
from torch import Tensor, nn

from skae._data.array_api import array_api
from skae._data.dataset import Dataset
from skae._data.frames import wrap_in_frame
from skae._data.parameter_checks import Interval
from skae._data.partitions import by_partition
from skae._data.views import (
    check_gaps,
    check_others,
    refuse_gaps,
    resolve_views,
)
from skae._estimators.dense import DenseAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._estimators.missing_values import PartlyObservedAutoencoder
from skae._estimators.vae import (
    N_DRAWS,
    VAETransformer,
    antithetic_draws,
    importance_weighted_bound,
)
from skae._latent.joint_pca import equal_scales, fit_joint_pca, fit_linear_experts
from skae._latent.region import union
from skae._training.trainer import Trainer
from skae.densities import Gaussian
from skae.losses import KL, LOSSES, Objective, Observed, ObservedNLL
from skae.networks.dense import AnchoredAutoencoder, Output
from skae.networks.multiview import MultiViewExperts, MultiViewNetwork, make_multiview_network
from skae.noise import ReparameterizationNoise, SideBySide, ViewDropout

# Of the standard errors by which networks must be better than the linear model. Gains of predicted
# views are large: on tables of 130 rows, networks that are kept so restore new rows better.
WAIVED = 2.0
PRIOR_REACH = 3.0  # standard deviations of the prior that belong to the region of the codes
NOT_HERE = "anchor", "network", "stochastic_depth", "target_weight"  # parameters of the parent


def _has_experts(estimator: Any) -> bool:
    """Whether rows have posterior distributions of codes."""
    if estimator.experts is None:
        raise AttributeError("experts=None has codes without a distribution; set experts.")
    return True


@inherit_entries(DenseAutoencoder)
class MultiViewAutoencoder(PartlyObservedAutoencoder):
    """Autoencoder of several views of each row, such as the channels of a measurement.

    Views are groups of columns. Each has an encoder and a decoder of its own, and all share one
    code. A row may lack whole views, in `fit` and afterwards: all columns of the view are NaN. The
    code then comes from the other views, and the decoders restore all of them. So
    `predict_view` predicts one view from the others.

    Training starts at a joint PCA: the principal components of all columns, after each view was
    scaled to the same total variance. The code of PCA is a sum of one share for each view. The
    share of a missing view is predicted by ridge regression from each of the others, and these
    predictions are averaged with weights, one over their mean squared errors. Encoders and
    decoders add corrections to this linear model, which start at zero. In training, views are
    hidden at random [1]_, and the decoders have to restore all of them. The weights are kept that
    restore held-out rows best; the linear model is one of the candidates.

    Parameters
    ----------
    n_components : int, float or None, default=2
        Number of components of the shared code. None is ``min(n_samples, n_features)``. A share of
        variance, as in `AutoencoderTransformer`, needs rows with all views, and ``n_private=0``.
    views : list or dict of groups of columns, default=None
        Each group is a list of indices or of names, a slice, or a mask. Each column is in exactly
        one group. The keys of a dict are the names of the views; views in a list have the
        numbers 0, 1, and so on. None is one view of all columns: the result is that of
        `AutoencoderTransformer` with ``stochastic_depth=0``, bit for bit.
    n_private : int, default=0
        Number of additional components for each view, which only its own decoder is given. They
        hold what the view does not share with others. They start as principal components of what
        the shared code leaves of the view, as in JIVE [2]_.
    scale_views : bool, default=True
        Scale views to the same total variance in the anchor and in the loss. With False, a
        view counts as much as its variance, and the anchor is PCA.
    view_dropout : float, default=0.5
        Share of the rows of each training batch from which views are hidden. More predicts missing
        views better, and restores complete rows worse. Not used for one view, and by a mixture of
        experts.
    experts : {"product", "mixture"} or None, default=None
        Makes this a variational autoencoder, in which each view's encoder is an expert: it returns
        a normal distribution of the code. The posterior distribution of a row's code is the product
        of the experts of the views that are there and the standard normal prior [4]_, or the
        mixture of these experts [5]_. None is an autoencoder: the code is a point. A product
        restores complete rows better than a mixture. Both need ``n_private=0`` and
        ``loss="squared_error"``.
    beta : float, default=1.0
        Weight of the KL divergence of the posteriors from the prior, for `experts`; 1 is the bound
        on the likelihood. 0 trains on the reconstruction alone.
    loss : {"squared_error", "absolute_error", "huber"}, default="squared_error"
        Loss of a row, summed over the features that it has.
    *

    Attributes
    ----------
    views_ : dict
        Indices of the columns of each view, by its name or number.
    n_components_ : int
        Number of columns of a code: shared components, then the private ones of each view.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component over the training rows, before whitening. The shared components
        are sorted, and so are the private ones of each view.
    pca_error_ratio_ : float
        Squared error of restored held-out rows, of scaled views, over that of the joint PCA; see
        `AutoencoderTransformer`.
    *

    See Also
    --------
    sklearn.cross_decomposition.CCA : Linear codes of two complete views.
    sklearn.cross_decomposition.PLSRegression : Linear prediction of one view from the other.

    Notes
    -----
    Codes, scores and errors only use what a row has: errors of missing views are zero.
    `reconstruct` fills missing views. In the code of a row, private components of a missing view
    are zero before centring, and so its decoder predicts it from the shared code alone.
    `partial_fit` needs rows with all views, and so does `score_samples` without `experts`. Sparse
    rows are made dense.

    Means and scales are those of the values that are there, so views should not be missing
    because of what they would have shown. Missing views of training rows are filled by the ridge
    regressions before PCA is computed. These regressions, and the private components, are fitted
    to 5,000 rows at most.

    Rows that lack views are restored worse by nature. So that they do not dominate the training,
    their loss is multiplied by the ratio of the joint PCA's squared errors, of complete rows over
    rows with one view hidden, between 0.001 and 1. Held-out rows lack views as often as rows do
    in training, and weigh the same, so it is this loss that is no worse than the linear model's.

    The linear autoencoder is not trained: it is the joint PCA with the ridge regressions.

    With `experts`, the loss is the negative evidence lower bound of rows, of scaled views that have
    one observation variance. Views are hidden in training as without them, and all views are
    restored [6]_; for a mixture, all but one view of each row are hidden. Training starts at
    probabilistic PCA of the scaled views, and a product of linear experts has its posterior for
    complete rows. `transform` returns posterior means, in an order of decreasing variance, but not
    rotated, as the components of the experts are independent. `posterior` returns standard
    deviations, too; in these units, that of the prior is the root of the mean feature variance,
    unless codes are whitened. The density of codes is the prior, so `sample` draws from the
    generative model, and `sample_around` draws rows given the views that are there. `score_samples`
    returns the importance-weighted bound of `VAETransformer`, of the views that are there. Of a
    mixture, mean and standard deviation are those of the whole mixture, and both methods take it as
    normal. `pca_error_ratio_` is relative to the linear model.

    References
    ----------
    .. [1] Neverova et al. (2016). ModDrop: adaptive multi-modal gesture recognition. IEEE
       Transactions on Pattern Analysis and Machine Intelligence 38.
       https://doi.org/10.1109/TPAMI.2015.2461544
    .. [2] Lock et al. (2013). Joint and individual variation explained (JIVE) for integrated
       analysis of multiple data types. Annals of Applied Statistics 7.
       https://doi.org/10.1214/12-AOAS597
    .. [3] Ngiam et al. (2011). Multimodal deep learning. ICML.
       https://icml.cc/2011/papers/399_icmlpaper.pdf
    .. [4] Wu and Goodman (2018). Multimodal generative models for scalable weakly-supervised
       learning. https://arxiv.org/abs/1802.05335
    .. [5] Shi et al. (2019). Variational mixture-of-experts autoencoders for multi-modal deep
       generative models. https://arxiv.org/abs/1911.03393
    .. [6] Sutter, Daunhawer and Vogt (2021). Generalized multimodal ELBO.
       https://arxiv.org/abs/2105.02470

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skae import MultiViewAutoencoder
    >>> X = load_digits().data
    >>> views = {"upper": slice(0, 32), "lower": slice(32, None)}
    >>> model = MultiViewAutoencoder(8, views=views, max_epochs=20, random_state=0)
    >>> X_train, X_test = X[:1500], X[1500:].copy()
    >>> model.fit(X_train).predict_view(X_test, "lower").shape
    (297, 32)
    >>> X_test[:, 32:] = np.nan  # only the upper halves
    >>> model.transform(X_test).shape
    (297, 8)
    """

    __module__ = "skae"  # the public path, which pickles name

    # Parameters of the parent that this kind has not.
    anchor: Literal["pca"] | None = "pca"
    network: Any = None
    _column_scales: np.ndarray  # (n_features,)
    target_weight: float = 0.0
    stochastic_depth: float | str = 0.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        name: constraint
        for name, constraint in DenseAutoencoder._parameter_constraints.items()
        if name not in NOT_HERE
    } | {
        "views": [list, tuple, Mapping, None],
        "n_private": [Interval(Integral, 0, None, closed="left")],
        "scale_views": ["boolean"],
        "view_dropout": [Interval(Real, 0, 1, closed="both")],
        "experts": [StrOptions({"product", "mixture"}), None],
        "beta": [Interval(Real, 0, None, closed="left")],
        "loss": [StrOptions(set(LOSSES) - {"binary_cross_entropy"})],
    }

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        views: Any = None,
        n_private: int = 0,
        scale_views: bool = True,
        view_dropout: float = 0.5,
        experts: Literal["product", "mixture"] | None = None,
        beta: float = 1.0,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        loss: str = "squared_error",
        whiten: bool = False,
        latent_density: Any = "auto",
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
        self.views = views
        self.n_private = n_private
        self.scale_views = scale_views
        self.view_dropout = view_dropout
        self.experts = experts
        self.beta = beta
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.whiten = whiten
        self.latent_density = latent_density
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

    # -- views -----------------------------------------------------------------------

    @by_partition
    def predict_view(self, X: Any, view: Any) -> np.ndarray:
        """Predict one view of rows from their other views.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with at least one other view each. The columns of the view itself are not used,
            and may be NaN.
        view : str or int
            Name of the view in `views`, or its number.

        Returns
        -------
        X_view : ndarray of shape (n_samples, n_columns_of_view), dtype of X
            In input units. A frame with the feature names if `set_output` asks for frames.

        Raises
        ------
        ValueError
            If there is no such view, or if a row has no other view.
        """
        restored = self._restored_without(X, view)
        return _safe_indexing(restored, self.views_[view].tolist(), axis=1)

    @wrap_in_frame
    @array_api
    def _restored_without(self, X: Any, view: Any) -> np.ndarray:
        """Rows restored from all views but one."""
        X = self._check_rows(X)
        check_others(X, self.views_, view)
        columns = self.views_[view].tolist()

        def restored(part: Any) -> Any:
            rows = self._standardize(part)
            rows[:, columns] = np.nan
            return self._unstandardize(self._reconstruct(rows))

        return self._map_batches(restored, X, self.n_features_in_)

    def _takes_nan(self) -> bool:
        return self.views is not None and len(self.views) > 1

    def _check_rows(self, X: Any, *, reset: bool = False) -> Any:
        if sparse.issparse(X) and self._takes_nan():
            X = X.toarray()
        rows = super()._check_rows(X, reset=reset)
        if reset:
            names = getattr(self, "feature_names_in_", None)
            self.views_ = resolve_views(self.views, rows.shape[1], names)
        if self._takes_nan():
            check_gaps(rows, self.views_, every_view=reset)
        return rows

    def _check_parameters(self, X: np.ndarray) -> None:
        if self.experts is not None:
            for name, needed in (("n_private", 0), ("loss", "squared_error")):
                if (value := getattr(self, name)) != needed:
                    raise ValueError(
                        f"experts={self.experts!r} needs {name}={needed!r} instead of {value!r}; "
                        "or set experts=None."
                    )
        if isinstance(self.n_components, RealNotInt):
            share = f"n_components={self.n_components}, a share of variance,"
            refuse_gaps(X, share)
            if self.n_private:
                raise ValueError(f"{share} needs n_private=0 instead of {self.n_private}.")

    # -- fit -------------------------------------------------------------------------

    def _n_chosen(self) -> int:
        return self.n_components_ - len(self.views_) * self.n_private

    def _previous_network(self) -> nn.Module | None:
        network: Any = super()._previous_network()
        views, is_plain = list(self.views_.values()), not isinstance(network, MultiViewNetwork)
        if network is None or (is_plain and self._is_plain()):
            return network
        same = not is_plain and network.has_views(views, self.n_private)
        if not same or self._experts_of(network) != self.experts:
            raise ValueError(
                "warm_start=True continues a fit with the same views, n_private and experts, but "
                "they have changed; set warm_start=False for a new fit."
            )
        return network

    def _experts_of(self, network: MultiViewNetwork) -> str | None:
        if not isinstance(network, MultiViewExperts):
            return None
        return "mixture" if network.mixes else "product"

    def _is_plain(self) -> bool:
        """Whether there is nothing but one view, as in `AutoencoderTransformer`."""
        return len(self.views_) == 1 and not self.n_private and self.experts is None

    def _fit_center_and_scale(self, X: Any, weights: Any, *, warns: bool = True) -> Dataset:
        rows = super()._fit_center_and_scale(X, weights, warns=warns)
        scales = self.scale_views and len(self.views_) > 1
        self._column_scales = equal_scales(rows, self.views_) if scales else np.ones(rows.shape[1])
        self.n_components_ += len(self.views_) * self.n_private
        return rows

    def _make_noise(self, rows: Dataset, generator: torch.Generator) -> nn.Module | None:
        columns = [its.tolist() for its in self.views_.values()]
        if self.experts is not None:
            is_mixture = self.experts == "mixture"  # of which one expert is drawn for each row
            share, most = (1.0, 1) if is_mixture else (self.view_dropout, None)
            hiding = ViewDropout(columns, share, generator, most)
            return SideBySide(hiding, ReparameterizationNoise(self.n_components_, generator))
        if not self._must_restore():
            return None
        return ViewDropout(columns, self.view_dropout, generator)

    def _make_trainer(self, rows: Dataset, *args: Any, **options: Any) -> Trainer:
        trainer = super()._make_trainer(rows, *args, **options)
        if self.experts is not None:
            waived = VAETransformer._standard_errors_waived
            return replace(trainer, standard_errors_waived=waived)
        return replace(trainer, standard_errors_waived=WAIVED) if len(self.views_) > 1 else trainer

    def _must_restore(self) -> bool:
        return len(self.views_) > 1 and self.view_dropout > 0 and self.experts is None

    def _make_objective(self) -> Objective:
        if self._is_plain():
            return super()._make_objective()
        scales = torch.from_numpy(self._column_scales)
        if self.experts is not None:
            terms: Any = {"reconstruction": ObservedNLL(scales), "kl": KL()}
            return Objective(terms, {"kl": self.beta}, positive=False)
        return Objective({"reconstruction": Observed(LOSSES[self.loss], scales)})

    def _make_network(self, rows: Dataset, seed: int) -> nn.Module:
        if self._is_plain():
            return super()._make_network(rows, seed)
        scales = self._column_scales
        given = rows, self.views_, scales, self._n_chosen()
        if self.experts is None:
            start: dict[str, Any] = fit_joint_pca(*given, self.n_private)._asdict()
        else:
            is_mixture = self.experts == "mixture"
            start = fit_linear_experts(*given, self.beta, mixture=is_mixture)._asdict()
        views, widths = list(self.views_.values()), self._resolve_hidden_layer_sizes()
        linear = {**start, "scales": scales}
        return make_multiview_network(views, self.n_private, linear, widths, self.activation, seed)

    def _restoring_errors(self) -> Any:
        if self._is_plain():
            return AnchoredAutoencoder.restoring_errors
        kind = MultiViewNetwork if self.experts is None else MultiViewExperts
        return kind.restoring_errors

    def _needs_training(self, network: nn.Module, rows: Dataset) -> bool:
        return super()._needs_training(network, rows) and rows.any()

    def _is_at_pca(self) -> bool:
        return isinstance(self.net_.module_, AnchoredAutoencoder) and super()._is_at_pca()

    def _code_bounds(self, encoded: np.ndarray) -> np.ndarray:
        bounds = super()._code_bounds(encoded)
        if self.experts is None:
            return bounds
        return union(bounds, np.outer([-PRIOR_REACH, PRIOR_REACH], np.ones(self.n_components_)))

    def _principal_axes(self, scatter: np.ndarray) -> np.ndarray:
        if self.experts is not None:  # a rotation would make components of posteriors dependent
            order = np.argsort(-np.diag(scatter), kind="stable")
            return np.eye(len(scatter))[:, order]
        k, p, axes_of = self._n_chosen(), self.n_private, super()._principal_axes
        starts = [0, *range(k, len(scatter), p or 1)]  # of the shared and the private codes
        blocks = [scatter[a:b, a:b] for a, b in pairwise([*starts, len(scatter)])]
        return block_diag(*map(axes_of, blocks))

    # -- posterior -------------------------------------------------------------------

    posterior = available_if(_has_experts)(VAETransformer.posterior)
    sample_around = available_if(_has_experts)(VAETransformer.sample_around)
    _posterior = VAETransformer._posterior

    def _auto_density(self) -> str:
        return super()._auto_density() if self.experts is None else "prior"

    def _prior_covariance(self) -> np.ndarray:
        if self.experts is None:
            return super()._prior_covariance()
        return np.diag(np.square(self._code_scale))

    def _prior_density(self) -> Gaussian:
        scale = self._rotation * self._code_scale
        return Gaussian(-self._code_mean @ scale, self._prior_covariance())

    def _log_likelihood(self, X: np.ndarray) -> np.ndarray:
        if self.experts is None:
            return super()._log_likelihood(X)
        rows = self._standardize(X.astype(np.float64))
        mean, log_var = self.net_.posterior(rows)
        x, variance = torch.from_numpy(rows), self.net_.module_.noise_variance.cpu()
        log_loss = self._make_objective().terms["reconstruction"]

        def nll(z: Tensor) -> Tensor:
            decoded = torch.from_numpy(self.net_.infer_rows("decode", z.numpy()))
            return log_loss(Output(decoded, z, noise_variance=variance), x)

        draws = antithetic_draws(N_DRAWS, self.n_components_)
        bound = importance_weighted_bound(mean, log_var, draws, nll, lambda z: z)
        slopes = np.log(self._column_scales / self._scale)  # of scaled columns
        return bound + np.where(np.isnan(rows), 0.0, slopes).sum(axis=1)
