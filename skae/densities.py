"""Densities of codes and of residuals, which samples are drawn from."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any, Protocol

import numpy as np
from scipy.special import gammaln
from scipy.stats import beta, gamma, multivariate_normal, norm
from sklearn.base import clone
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state

from skae._data.pca import fitted_pca

__all__ = [
    "Density",
    "Estimated",
    "Gaussian",
    "Mixture",
    "OffSurface",
    "Residual",
    "SpikeAndSlab",
    "Uniform",
    "drawn_from",
    "varying",
]

MAX_COMPONENTS = 16  # of a mixture
MIN_ROWS_PER_COMPONENT = 50
REGULARISATION = 1e-3  # added to the variances of a mixture's components, codes standardised
NEGLIGIBLE = 1e-12  # share of the largest, or of the whole variance, that counts as zero
ROUNDING = 1e-14  # by which codes of equal rows may differ, in the unit of standardised rows
SMALLEST_SHARE = 1e-9  # distance from 0 and 1 of a mean that lies between them
MAX_FACTORS = 8  # of a residual's covariance
DEGREES_OF_FREEDOM = (3, 4, 5, 7, 10)  # of Student's t distribution, which one is chosen from


class Density(Protocol):
    """Interface of the latent density of an estimator."""

    def sample(self, n_samples: int, random_state: Any = None) -> np.ndarray:
        """Draw codes of shape (n_samples, n_components), float64."""

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Log-density in nats of codes, one number a row."""


class Gaussian:
    """Normal distribution of given moments.

    Parameters
    ----------
    mean : ndarray of shape (n_components,)
    covariance : ndarray of shape (n_components, n_components)
        Components whose variance is below 1e-12 of the largest count as constant: samples have
        their mean, and the log-density leaves them out.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.densities import Gaussian
    >>> Gaussian(np.zeros(2), np.eye(2)).score_samples(np.zeros((1, 2))).round(4)
    array([-1.8379])
    """

    def __init__(self, mean: np.ndarray, covariance: np.ndarray):
        self.mean = np.asarray(mean, dtype=float)
        self.covariance = np.asarray(covariance, dtype=float)
        self.varies = varying(np.diag(self.covariance))

    def _normal(self) -> Any:
        """Distribution of the components that vary, or None.

        It is not kept: pickles would hold classes of scipy.
        """
        if not self.varies.any():
            return None
        part = np.ix_(self.varies, self.varies)
        return multivariate_normal(
            self.mean[self.varies], self.covariance[part], allow_singular=True
        )

    def sample(self, n_samples: int, random_state: Any = None) -> np.ndarray:
        """Draw codes.

        Parameters
        ----------
        n_samples : int
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        codes = np.tile(self.mean, (n_samples, 1))
        if (normal := self._normal()) is not None:
            drawn = normal.rvs(n_samples, random_state=check_random_state(random_state))
            codes[:, self.varies] = np.reshape(drawn, (n_samples, -1))
        return codes

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Log-density of codes.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.
        """
        if (normal := self._normal()) is None:
            return np.zeros(len(X))
        return np.reshape(normal.logpdf(X[:, self.varies]), len(X))


class Uniform:
    """Uniform distribution in a cube around zero.

    Parameters
    ----------
    n_components : int
    reach : float, default=1.0
        Codes lie between ``-reach`` and ``reach`` in each component.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.densities import Uniform
    >>> Uniform(2).score_samples(np.array([[0.5, -0.5], [0.0, 2.0]])).round(4)
    array([-1.3863,    -inf])
    """

    def __init__(self, n_components: int, reach: float = 1.0):
        self.n_components, self.reach = n_components, reach

    def sample(self, n_samples: int, random_state: Any = None) -> np.ndarray:
        """Draw codes.

        Parameters
        ----------
        n_samples : int
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        random = check_random_state(random_state)
        return random.uniform(-self.reach, self.reach, size=(n_samples, self.n_components))

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Log-density of codes.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats; minus infinity outside of the cube.
        """
        inside = (np.abs(X) <= self.reach).all(axis=1)
        return np.where(inside, -self.n_components * np.log(2 * self.reach), -np.inf)


class Mixture:
    """Gaussian mixture whose number of components is chosen by BIC.

    scikit-learn's `GaussianMixture` with 1, 2, 4, 8 or 16 components and at least 50 rows each:
    the number doubles until the Bayesian information criterion rises. The density is the mean of
    the chosen mixture's and of the one with twice as many components, where that was fitted.
    Such a mean is a mixture too, and predicts new codes better than either.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seeds the initial components.
    scale : ndarray of shape (n_components,), default=None
        Codes are divided by it, and then all by one number, so that their mean variance is one.
        None: the standard deviation of each component.
    noise_variance : float, default=0.0
        Variance of the codes' noise, after division by `scale`. It is added to the variances of
        the components of the mixture: none is narrower than the noise.

    Attributes
    ----------
    n_components_ : int
        The number of components that the criterion chooses.
    mixture_ : GaussianMixture
        The mean, fitted to standardised codes.

    References
    ----------
    Schwarz (1978). Estimating the dimension of a model.
    https://doi.org/10.1214/aos/1176344136

    Examples
    --------
    >>> import numpy as np
    >>> from skae.densities import Mixture
    >>> random = np.random.default_rng(0)
    >>> codes = np.concatenate([random.normal(-5, size=(200, 1)), random.normal(5, size=(200, 1))])
    >>> Mixture(random_state=0).fit(codes).n_components_
    2
    """

    def __init__(
        self,
        random_state: Any = None,
        scale: np.ndarray | None = None,
        noise_variance: float = 0.0,
    ):
        self.random_state, self.scale = random_state, scale
        self.noise_variance = noise_variance

    def fit(self, X: np.ndarray) -> Mixture:
        """Choose and fit the mixture.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        self : Mixture
        """
        self.mean_, variances = X.mean(axis=0), X.var(axis=0)
        scale = np.sqrt(variances) if self.scale is None else self.scale
        self.varies_ = varying(variances) & (variances > np.square(ROUNDING * scale))
        self.scale_ = np.array(scale, dtype=float)[self.varies_]
        self.n_components_, self.mixture_ = 0, None
        if self.varies_.any() and len(X) > 1:
            unit = np.mean(variances[self.varies_] / np.square(self.scale_))
            self.scale_ *= np.sqrt(unit)
            codes = (X - self.mean_)[:, self.varies_] / self.scale_
            self.mixture_ = self._choose(codes, REGULARISATION + self.noise_variance / unit)
        return self

    def _choose(self, codes: np.ndarray, smallest_variance: float) -> GaussianMixture:
        n_components, criterion = 1, np.inf
        fitted: list[GaussianMixture] = []
        largest = min(MAX_COMPONENTS, max(1, len(codes) // MIN_ROWS_PER_COMPONENT))
        while n_components <= largest:
            mixture = GaussianMixture(
                n_components, reg_covar=smallest_variance, random_state=self.random_state
            ).fit(codes)
            fitted = [*fitted[-1:], mixture]
            if (value := mixture.bic(codes)) >= criterion:
                break
            criterion, self.n_components_ = value, n_components
            n_components *= 2
        return mean_of(fitted) if n_components <= largest else fitted[-1]

    def sample(self, n_samples: int, random_state: Any = None) -> np.ndarray:
        """Draw codes.

        Parameters
        ----------
        n_samples : int
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        codes = np.tile(self.mean_, (n_samples, 1))
        if self.mixture_ is not None:
            drawn = drawn_from(self.mixture_, n_samples, random_state)
            codes[:, self.varies_] += drawn * self.scale_
        return codes

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Log-density of codes.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.
        """
        if self.mixture_ is None:
            return np.zeros(len(X))
        standardised = (X - self.mean_)[:, self.varies_] / self.scale_
        return self.mixture_.score_samples(standardised) - np.log(self.scale_).sum()


class Estimated:
    """A user's density estimator, cloned and seeded.

    Parameters
    ----------
    estimator : estimator with `fit`, `sample` and `score_samples`
        Such as `sklearn.neighbors.KernelDensity`. `sample` may return an array or a tuple
        that begins with one.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    estimator_ : estimator
        Fitted to codes.
    """

    def __init__(self, estimator: Any, random_state: Any = None):
        self.estimator, self.random_state = estimator, random_state

    def fit(self, X: np.ndarray) -> Estimated:
        """Fit a clone to codes.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        self : Estimated

        Raises
        ------
        ValueError
            If the estimator's log-densities are not one number a row.
        """
        self.estimator_ = clone(self.estimator)
        parameters = self.estimator_.get_params()
        names = [name for name in parameters if name.split("__")[-1] == "random_state"]
        self.estimator_.set_params(**dict.fromkeys(names, self.random_state))
        self.estimator_.fit(X)
        shape = np.shape(self.estimator_.score_samples(X[:2]))
        if shape != (len(X[:2]),):
            raise ValueError(
                f"latent_density={self.estimator!r} returns log-densities of shape {shape} for "
                f"{len(X[:2])} codes; `score_samples` must return one number a row."
            )
        return self

    def sample(self, n_samples: int, random_state: Any = None) -> np.ndarray:
        """Draw codes.

        Parameters
        ----------
        n_samples : int
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return drawn_from(self.estimator_, n_samples, random_state)

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Log-density of codes.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.
        """
        return np.asarray(self.estimator_.score_samples(X), dtype=float)


class SpikeAndSlab:
    """Independent units, each zero or drawn from a distribution of its own.

    Parameters
    ----------
    activity : ndarray of shape (n_components,)
        Probability that each unit is not zero.
    mean, variance : ndarray of shape (n_components,)
        Of each unit's values other than zero.
    support : {"real", "positive", "unit"}
        Where such values lie: their distribution is normal, gamma, or (between 0 and 1) beta.

    References
    ----------
    Mitchell and Beauchamp (1988). Bayesian variable selection in linear regression.
    https://doi.org/10.1080/01621459.1988.10478694

    Examples
    --------
    >>> import numpy as np
    >>> from skae.densities import SpikeAndSlab
    >>> density = SpikeAndSlab(np.full(3, 0.1), np.ones(3), np.full(3, 0.2), "positive")
    >>> codes = density.sample(1000, random_state=0)
    >>> bool((codes >= 0).all()), round(float((codes > 0).mean()), 1)
    (True, 0.1)
    """

    def __init__(
        self, activity: np.ndarray, mean: np.ndarray, variance: np.ndarray, support: str = "real"
    ):
        self.activity = np.asarray(activity, dtype=float)
        self.mean = np.asarray(mean, dtype=float)
        self.variance = np.asarray(variance, dtype=float)
        self.support = support

    def expectation(self) -> np.ndarray:
        """Mean code, zeros included.

        Returns
        -------
        ndarray of shape (n_components,)
        """
        return self.activity * self.mean

    def _slab(self) -> Any:
        """Distribution of values other than zero; a narrow one if they do not vary."""
        scale = np.maximum(np.abs(self.mean), np.finfo(float).tiny)
        narrow = math.sqrt(NEGLIGIBLE) * scale  # its square may underflow
        if self.support == "real":
            return norm(self.mean, np.maximum(np.sqrt(self.variance), narrow))
        if self.support == "positive":
            ratio = np.maximum(np.sqrt(self.variance), narrow) / scale
            return gamma(ratio**-2, scale=ratio**2 * scale)
        inside = scale.clip(SMALLEST_SHARE, 1 - SMALLEST_SHARE)
        largest = (1 - SMALLEST_SHARE) * inside * (1 - inside)
        variance = np.maximum(self.variance, narrow**2).clip(NEGLIGIBLE, largest)
        strength = inside * (1 - inside) / variance - 1
        return beta(inside * strength, (1 - inside) * strength)

    def sample(self, n_samples: int, random_state: Any = None) -> np.ndarray:
        """Draw codes.

        Parameters
        ----------
        n_samples : int
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        random = check_random_state(random_state)
        shape = n_samples, len(self.activity)
        codes = self._slab().rvs(size=shape, random_state=random)
        return np.where(random.uniform(size=shape) < self.activity, codes, 0.0)

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Log-density of codes; for a zero it is the logarithm of its probability.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats; minus infinity if a unit is active that was never active in training.
        """
        with np.errstate(divide="ignore"):
            silent, active = np.log1p(-self.activity), np.log(self.activity)
            each = np.where(X == 0, silent, active + self._slab().logpdf(X))
        return each.sum(axis=1)


class Residual:
    """Normal distribution of residuals: a few factors, and a variance for each feature.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seeds scikit-learn's PCA, which finds the factors.

    Attributes
    ----------
    mean_, variances_ : ndarray of shape (n_features,)
    factors_ : ndarray of shape (n_factors, n_features)
        At most eight directions, each as long as the standard deviation along it.
    """

    def __init__(self, random_state: Any = None):
        self.random_state = random_state

    def fit(self, X: np.ndarray) -> Residual:
        """Learn mean, factors and variances.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Residuals: differences between rows and their reconstructions.

        Returns
        -------
        self : Residual
        """
        n_factors = min(MAX_FACTORS, len(X) - 1, X.shape[1])
        self.mean_, variances = X.mean(axis=0), X.var(axis=0)
        self.factors_ = np.zeros((max(0, n_factors), X.shape[1]))
        if n_factors > 0 and variances.any():
            pca = fitted_pca(X, n_factors, svd_solver="auto", random_state=self.random_state)
            self.factors_ = pca.components_ * np.sqrt(pca.explained_variance_)[:, None]
        self.variances_ = np.maximum(variances - np.square(self.factors_).sum(axis=0), 0)
        return self

    def of_moments(self, mean: np.ndarray, variances: np.ndarray) -> Residual:
        """Set mean and variances, without factors.

        Parameters
        ----------
        mean, variances : ndarray of shape (n_features,)

        Returns
        -------
        self : Residual
        """
        self.mean_, self.variances_ = mean, variances
        self.factors_ = np.zeros((0, len(mean)))
        return self

    def sample(self, n_samples: int, random_state: Any = None) -> np.ndarray:
        """Draw residuals.

        Parameters
        ----------
        n_samples : int
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        random = check_random_state(random_state)
        along = random.normal(size=(n_samples, len(self.factors_))) @ self.factors_
        alone = random.normal(size=(n_samples, len(self.mean_))) * np.sqrt(self.variances_)
        return self.mean_ + along + alone


class OffSurface:
    """Density of residuals perpendicular to the decoder's surface: Student's t distribution.

    Its scale matrix is a multiple of the identity, plus additional variance along a few axes. It
    has more mass far away than a normal distribution: some rows are noisier than others.

    Attributes
    ----------
    variance_ : float
        Variance in each direction other than the axes.
    axes_ : ndarray of shape (n_axes, n_features)
        Orthonormal.
    ratios_ : ndarray of shape (n_axes,)
        Variances along the axes, over `variance_`; at least one.
    degrees_of_freedom_ : int
        3, 4, 5, 7 or 10, the one of the largest likelihood. 10 is the largest because training
        rows show less of the tails than new rows.

    References
    ----------
    Lange, Little and Taylor (1989). Robust statistical modeling using the t distribution.
    https://doi.org/10.1080/01621459.1989.10478852
    """

    def fit(
        self, X: np.ndarray, factors: np.ndarray, noise_variance: float, n_directions: int
    ) -> OffSurface:
        """Learn the axes, their variances and the degrees of freedom.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Residuals of training rows.
        factors : ndarray of shape (n_factors, n_features)
            Orthogonal directions, each as long as the standard deviation along it, the longest
            first, such as `Residual.factors_`. Those longer than the mean are the axes.
        noise_variance : float
            Mean variance of new rows' residuals in each direction. The residuals are multiplied
            by one number so that they have it.
        n_directions : int
            Dimensions that the surface leaves.

        Returns
        -------
        self : OffSurface
        """
        stretch = noise_variance * n_directions / np.square(X).sum(axis=1).mean()
        ratios = np.square(factors[: n_directions - 1]).sum(axis=1) * stretch / noise_variance
        self.ratios_ = ratios[ratios > 1]
        axes = factors[: len(ratios)][ratios > 1]
        self.axes_ = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        self.variance_, self.n_directions_ = 1.0, n_directions
        squares = self._squares(X) * stretch
        self.variance_ = squares.mean() / n_directions
        squares /= self.variance_
        likelihoods = [self._log_t(squares, degrees).sum() for degrees in DEGREES_OF_FREEDOM]
        self.degrees_of_freedom_ = DEGREES_OF_FREEDOM[int(np.argmax(likelihoods))]
        return self

    def _squares(self, X: np.ndarray) -> np.ndarray:
        """Squared length of each residual, in units of the standard deviation along each axis."""
        along = np.square(X @ self.axes_.T) @ (1 - 1 / self.ratios_)
        return (np.square(X).sum(axis=1) - along) / self.variance_

    def _log_t(self, squares: np.ndarray, degrees: int) -> np.ndarray:
        """Log-density of Student's t distribution of unit variances, up to volume."""
        m = self.n_directions_
        constant = gammaln((degrees + m) / 2) - gammaln(degrees / 2)
        constant -= 0.5 * m * np.log(np.pi * (degrees - 2))
        return constant - 0.5 * (degrees + m) * np.log1p(squares / (degrees - 2))

    def score_samples(self, X: np.ndarray, cosines: np.ndarray) -> np.ndarray:
        """Log-density of residuals among those perpendicular to the surface.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        cosines : ndarray of shape (n_samples, n_tangents, n_axes)
            Scalar products of orthonormal tangents of the surface with the axes. The density
            integrates to one over the directions perpendicular to the tangents.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.
        """
        weighted = cosines * np.sqrt(self.ratios_ - 1)
        along = np.eye(len(self.ratios_)) + weighted.transpose(0, 2, 1) @ weighted
        volume = np.log(self.ratios_).sum() - np.linalg.slogdet(along)[1]
        volume += self.n_directions_ * np.log(self.variance_)
        return self._log_t(self._squares(X), self.degrees_of_freedom_) - 0.5 * volume


def mean_of(mixtures: list[GaussianMixture]) -> GaussianMixture:
    """The mixture whose density is the mean of the densities of fitted mixtures.

    Parameters
    ----------
    mixtures : list of GaussianMixture
        With full covariances.

    Returns
    -------
    GaussianMixture
    """
    mean = GaussianMixture(sum(mixture.n_components for mixture in mixtures))
    mean.set_params(random_state=mixtures[0].random_state, reg_covar=mixtures[0].reg_covar)
    for name in ("means_", "covariances_", "precisions_", "precisions_cholesky_"):
        setattr(mean, name, np.concatenate([getattr(mixture, name) for mixture in mixtures]))
    mean.weights_ = np.concatenate([mixture.weights_ for mixture in mixtures]) / len(mixtures)
    mean.converged_ = all(mixture.converged_ for mixture in mixtures)
    mean.n_features_in_ = mixtures[0].n_features_in_
    return mean


def varying(variances: np.ndarray) -> np.ndarray:
    """Which components vary; the standard deviations of others are not divided by.

    Parameters
    ----------
    variances : ndarray of shape (n_components,)

    Returns
    -------
    ndarray of shape (n_components,), bool
    """
    return variances > NEGLIGIBLE * variances.max(initial=0.0)


def drawn_from(estimator: Any, n_samples: int, random_state: Any) -> np.ndarray:
    """Draw codes from a fitted density of any library, without changing it.

    Parameters
    ----------
    estimator : estimator with `sample`
        `random_state` is used if `sample` takes it (`KernelDensity`) or if it is a parameter
        (`GaussianMixture`); otherwise the estimator's own generator is.
    n_samples : int
    random_state : int, RandomState instance or None

    Returns
    -------
    ndarray of shape (n_samples, n_columns), float64
    """
    random = check_random_state(random_state)
    if "random_state" in inspect.signature(estimator.sample).parameters:
        drawn = estimator.sample(n_samples, random_state=random)
    else:
        if hasattr(estimator, "random_state"):
            estimator = copy.copy(estimator)
            estimator.random_state = random
        drawn = estimator.sample(n_samples)
    codes = np.asarray(drawn[0] if isinstance(drawn, tuple) else drawn, dtype=float)
    return random.permutation(codes)  # mixtures return one component after the other
