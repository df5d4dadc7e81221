"""Densities of codes: against scikit-learn and scipy, degenerate codes, seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from skae.densities import (
    Estimated,
    Gaussian,
    Mixture,
    OffSurface,
    Residual,
    SpikeAndSlab,
    drawn_from,
)

COVARIANCE = np.array([[4.0, 1.0], [1.0, 2.0]])


def groups(n_groups, n_rows=600, n_columns=2, seed=0):
    random = np.random.default_rng(seed)
    centres = 20 * random.normal(size=(n_groups, n_columns))
    return centres[np.arange(n_rows) % n_groups] + random.normal(size=(n_rows, n_columns))


def fitted(name, codes, seed=0):
    if name == "gaussian":
        return Gaussian(codes.mean(axis=0), np.cov(codes.T))
    estimators = {"kernel": KernelDensity(), "mixture": GaussianMixture(2)}
    density = Mixture(seed) if name == "bic" else Estimated(estimators[name], seed)
    return density.fit(codes)


each_density = pytest.mark.parametrize("name", ["gaussian", "bic", "kernel", "mixture"])


def test_a_gaussian_is_scipys():
    mean, codes = np.array([1.0, -2.0]), groups(1)
    np.testing.assert_allclose(
        Gaussian(mean, COVARIANCE).score_samples(codes),
        multivariate_normal(mean, COVARIANCE).logpdf(codes),
    )


def test_samples_of_a_gaussian_have_its_moments():
    drawn = Gaussian(np.array([1.0, -2.0]), COVARIANCE).sample(100_000, 0)
    np.testing.assert_allclose(drawn.mean(axis=0), [1, -2], atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), COVARIANCE, atol=0.05)


@pytest.mark.parametrize("n_groups", [1, 2, 4, 8])
def test_bic_finds_the_number_of_groups(n_groups):
    assert Mixture(0).fit(groups(n_groups)).n_components_ == n_groups


def test_few_rows_get_few_components():
    assert Mixture(0).fit(groups(4, n_rows=99)).mixture_.n_components == 1
    assert Mixture(0).fit(groups(4, n_rows=120)).n_components_ <= 2


def test_a_mixture_does_not_depend_on_the_units_of_codes():
    codes, units = groups(4), np.array([1e3, 1e-1])
    one, other = Mixture(0).fit(codes), Mixture(0).fit(codes * units)
    np.testing.assert_allclose(
        other.score_samples(codes * units), one.score_samples(codes) - np.log(units).sum()
    )
    np.testing.assert_allclose(other.sample(9, 1), one.sample(9, 1) * units)


def test_the_density_is_the_mean_of_two_mixtures():
    codes = groups(2) - groups(2).mean(axis=0)
    codes /= codes.std(axis=0)
    two, four = (GaussianMixture(k, reg_covar=1e-3, random_state=0).fit(codes) for k in (2, 4))
    expected = np.logaddexp(two.score_samples(codes), four.score_samples(codes)) - np.log(2)
    density = Mixture(0).fit(codes)
    assert density.n_components_ == 2
    np.testing.assert_allclose(density.score_samples(codes), expected)


def test_components_of_a_mixture_are_not_narrower_than_the_noise():
    codes, noise = groups(4), 0.5
    density = Mixture(0, scale=np.ones(2), noise_variance=noise).fit(codes)
    variances = np.linalg.eigvalsh(density.mixture_.covariances_ * density.scale_**2)
    assert (variances > noise).all()


@each_density
def test_densities_integrate_to_one(name):
    codes = groups(2, n_columns=1)
    if name == "gaussian":
        density = Gaussian(codes.mean(axis=0), np.atleast_2d(np.cov(codes.T)))
    else:
        density = fitted(name, codes)
    spread = np.ptp(codes)
    grid = np.linspace(codes.min() - spread, codes.max() + spread, 20_001)
    heights = np.exp(density.score_samples(grid[:, None]))
    assert heights.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-3)


@each_density
def test_the_same_seed_draws_the_same_codes(name):
    density = fitted(name, groups(2))
    assert density.sample(7, 1).shape == (7, 2)
    np.testing.assert_array_equal(density.sample(7, 1), density.sample(7, 1))
    assert not np.array_equal(density.sample(7, 1), density.sample(7, 2))
    assert not np.array_equal(density.sample(7), density.sample(7))


@each_density
def test_one_generator_goes_on_from_draw_to_draw(name):
    density = fitted(name, groups(2))
    random = np.random.RandomState(0)
    assert not np.array_equal(density.sample(7, random), density.sample(7, random))


@pytest.mark.parametrize("make", [lambda codes: Gaussian(codes.mean(0), np.cov(codes.T)),
                                  lambda codes: Mixture(0).fit(codes)])  # fmt: skip
def test_constant_components_stay_at_their_mean(make):
    codes = groups(2, n_columns=3)
    codes[:, 1] = 5.0
    density = make(codes)
    assert (density.sample(9, 0)[:, 1] == 5).all()
    assert np.isfinite(density.score_samples(codes)).all()
    elsewhere = codes + np.array([0, 1, 0])
    np.testing.assert_array_equal(density.score_samples(elsewhere), density.score_samples(codes))


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_a_handful_of_equal_codes_is_a_point(n_rows):
    density = Mixture(0).fit(np.ones((n_rows, 2)))
    np.testing.assert_array_equal(density.sample(3, 0), np.ones((3, 2)))
    np.testing.assert_array_equal(density.score_samples(np.ones((3, 2))), np.zeros(3))


def test_an_estimator_is_cloned_and_seeded():
    given = GaussianMixture(2)
    one, other = (Estimated(given, 3).fit(groups(2)) for _ in range(2))
    assert not hasattr(given, "means_")
    assert given.random_state is None
    np.testing.assert_array_equal(one.estimator_.means_, other.estimator_.means_)


@pytest.mark.parametrize("name", ["bic", "mixture"])
def test_samples_of_mixtures_come_in_no_order(name):
    drawn = fitted(name, groups(2)).sample(1000, 0)
    assert np.abs(drawn[:500].mean(axis=0) - drawn[500:].mean(axis=0)).max() < 0.2 * np.ptp(drawn)


def test_drawing_leaves_the_estimator_as_it_was():
    mixture = GaussianMixture(2, random_state=5).fit(groups(2))
    drawn_from(mixture, 3, 0)
    assert mixture.random_state == 5


class NoSeed(KernelDensity):
    """Estimator whose `sample` has no seed and returns a tuple."""

    def sample(self, n_samples=1):
        return super().sample(n_samples, 0), np.zeros(n_samples)


class TooMany(KernelDensity):
    """Estimator that returns one log-density per column."""

    def score_samples(self, X):
        return np.zeros(np.shape(X))


def test_tuples_and_estimators_without_seed_are_understood():
    assert Estimated(NoSeed()).fit(groups(2)).sample(4, 0).shape == (4, 2)


def test_log_densities_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"TooMany.*one number a row"):
        Estimated(TooMany()).fit(groups(2))


# -- residuals ---------------------------------------------------------------------


@pytest.mark.parametrize("n_columns", [1, 2, 5, 8])
def test_residuals_have_their_covariance_where_factors_suffice(n_columns):
    random = np.random.default_rng(0)
    X = random.normal(size=(5000, n_columns)) @ random.normal(size=(n_columns, n_columns)) + 3
    drawn = Residual(0).fit(X).sample(200_000, 1)
    scale = np.abs(np.cov(X.T)).max()
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(X.T), atol=0.03 * scale)
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.03 * scale)


def test_residuals_of_many_features_keep_the_variance_of_each():
    random = np.random.default_rng(0)
    X = random.normal(size=(3000, 40)) * np.linspace(0.1, 2, 40)
    residual = Residual(0).fit(X)
    assert residual.factors_.shape == (8, 40)
    np.testing.assert_allclose(residual.sample(100_000, 1).var(axis=0), X.var(axis=0), rtol=0.03)


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (5, 1)])
def test_residuals_of_a_handful_of_rows(shape):
    assert Residual(0).fit(np.zeros(shape)).sample(4, 0).shape == (4, shape[1])


# -- residuals off a surface ---------------------------------------------------------


def residuals_of(n_rows=2000, seed=0):
    """Residuals perpendicular to the first of four directions, wide along the second."""
    random = np.random.default_rng(seed)
    scales = np.sqrt(random.chisquare(5, size=(n_rows, 1)) / 5)
    return random.normal(size=(n_rows, 4)) * [0, 3, 1, 1] / scales


def off_surface(X, n_directions=3):
    variance = np.square(X).sum(axis=1).mean() / n_directions
    return OffSurface().fit(X, Residual(0).fit(X).factors_, variance, n_directions)


def test_axes_and_tails_of_residuals_are_found():
    density = off_surface(residuals_of(20_000))
    np.testing.assert_allclose(np.abs(density.axes_), [[0, 1, 0, 0]], atol=0.05)
    np.testing.assert_allclose(density.ratios_, 3 * 9 / 11, rtol=0.1)
    assert density.degrees_of_freedom_ in (4, 5, 7)
    normal = np.random.default_rng(0).normal(size=(2000, 4)) * [0, 1, 1, 1]
    assert off_surface(normal).degrees_of_freedom_ == 10


@pytest.mark.parametrize("tangent", [[1.0, 0, 0], [0.6, 0.8, 0]])
def test_the_density_of_residuals_integrates_to_one(tangent):
    density = off_surface(residuals_of()[:, :3], n_directions=2)
    tangent = np.array(tangent)
    across = np.array([[-tangent[1], tangent[0], 0], [0, 0, 1]])  # perpendicular
    steps = np.sinh(np.linspace(-8, 8, 801))  # dense in the middle
    widths = np.gradient(steps)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2) @ across
    cosines = np.tile(tangent @ density.axes_.T, (len(grid), 1, 1))
    heights = np.exp(density.score_samples(grid, cosines))
    assert heights @ np.outer(widths, widths).ravel() == pytest.approx(1, abs=0.01)


# -- units that are zero or not ----------------------------------------------------


@pytest.mark.parametrize("support", ["real", "positive", "unit"])
@pytest.mark.parametrize("mean", [0.0, 1e-320, 1e-200, 0.5])
def test_units_that_do_not_vary_are_drawn_at_their_mean(support, mean):
    density = SpikeAndSlab(np.ones(3), np.full(3, mean), np.zeros(3), support)
    codes = density.sample(50, random_state=0)
    np.testing.assert_allclose(codes, mean, rtol=1e-5, atol=1e-5 if support == "unit" else 1e-300)
    assert not np.isnan(density.score_samples(codes)).any()


@pytest.mark.parametrize("support", ["real", "positive", "unit"])
def test_units_have_their_mean_and_variance(support):
    density = SpikeAndSlab([1.0], [0.3], [0.02], support)
    codes = density.sample(100_000, random_state=0)
    np.testing.assert_allclose([codes.mean(), codes.var()], [0.3, 0.02], rtol=0.02)
