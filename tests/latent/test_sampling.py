"""Samples, likelihoods and interpolation of every kind."""

from __future__ import annotations

import copy
import math
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import assert_close, fast, is_dense, make_fast
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from skae import AutoencoderTransformer
from skae.densities import Mixture

DENSITIES = ["auto", "gaussian_mixture", "gaussian", "standard_normal", KernelDensity()]
TABLES = [load_wine, load_breast_cancer, load_diabetes, load_digits]


def linear(k, **params):
    return AutoencoderTransformer(k, hidden_layer_sizes=(), **params)


def curve(name, n_rows=1000, seed=0):
    """Rows near a line, a parabola or an arc in the plane."""
    random = np.random.default_rng(seed)
    t = random.uniform(-1, 1, n_rows)
    points = {
        "line": np.c_[t, 2 * t],
        "parabola": np.c_[1.5 * t, 2.25 * t**2],
        "arc": np.c_[np.cos(2 * t), np.sin(2 * t)],
    }
    return points[name] + 0.05 * random.normal(size=(n_rows, 2))


def integral(model, X, n_steps=300, margin=1.0):
    """Integral over the plane of the density of a model."""
    low, high = X.min(axis=0) - margin, X.max(axis=0) + margin
    axes = [np.linspace(a, b, n_steps) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = np.prod((high - low) / (n_steps - 1))
    return float(np.exp(model.score_samples(grid)).sum() * cell)


# -- likelihood --------------------------------------------------------------------


@pytest.mark.parametrize("load", TABLES, ids=lambda load: load.__name__)
@pytest.mark.parametrize("whiten", [False, True])
def test_the_linear_autoencoder_is_probabilistic_pca(load, whiten):
    X = load().data
    train, test = X[::2], X[1::2]
    pca = PCA(5, svd_solver="full").fit(train)
    model = linear(5, latent_density="gaussian", whiten=whiten).fit(train)
    for rows in (train, test):
        expected = pca.score_samples(rows)
        np.testing.assert_allclose(model.score_samples(rows), expected, rtol=1e-6, atol=1e-6)


def test_the_linear_autoencoder_is_probabilistic_pca_by_default(wine):
    assert_close(
        linear(4).fit(wine).score_samples(wine), PCA(4).fit(wine).score_samples(wine), 1e-6
    )


def test_as_many_components_as_features_leave_the_density_of_the_code(wine):
    pca = PCA(13).fit(wine)
    assert_close(linear(13).fit(wine).score_samples(wine), pca.score_samples(wine), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["line", "parabola", "arc"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("depth", "tolerance"), [(0.0, 0.05), ("auto", 0.1)])
def test_the_density_of_a_curve_integrates_to_one(name, seed, depth, tolerance):
    X = curve(name, seed=seed)
    model = AutoencoderTransformer(
        1, stochastic_depth=depth, max_epochs=100, random_state=seed
    ).fit(X)
    assert integral(model, X) == pytest.approx(1, abs=tolerance)


def test_a_bent_density_is_higher_where_the_rows_are():
    X, new = curve("arc"), curve("arc", seed=1)
    model = AutoencoderTransformer(1, max_epochs=100, random_state=0).fit(X)
    assert model.score_samples(new).mean() > PCA(1).fit(X).score_samples(new).mean() + 0.5


def test_whitening_changes_no_likelihood(cancer):
    plain, white = (make_fast(n_components=3, whiten=w).fit(cancer) for w in (False, True))
    assert_close(white.score_samples(cancer), plain.score_samples(cancer), 1e-5)


def test_likelihood_follows_the_units_of_the_rows(cancer):
    model, other = (make_fast(n_components=3).fit(X) for X in (cancer, 1000 * cancer))
    shift = -cancer.shape[1] * math.log(1000)
    assert_close(other.score_samples(1000 * cancer), model.score_samples(cancer) + shift, 1e-5)


def test_likelihood_of_one_row_is_that_among_many(dense, cancer):
    model = fast(dense, n_components=3).fit(cancer)
    together = model.score_samples(cancer)
    alone = np.concatenate([model.score_samples(row[None]) for row in cancer[:20]])
    assert together.shape == (569,)
    assert together.dtype == np.float64
    np.testing.assert_allclose(alone, together[:20], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(model.score_samples(cancer[::-1]), together[::-1], rtol=1e-9)


def test_noise_of_a_trained_network_is_that_of_held_out_rows(digits):
    model = AutoencoderTransformer(10, max_epochs=60, random_state=0).fit(digits)
    left = model.reconstruction_error(digits).sum() / (1796 * (64 - 10))
    assert model.net_.validation_ratio_ > 1.2
    assert model.noise_variance_ == pytest.approx(left * model.net_.validation_ratio_, rel=1e-3)


def test_more_components_than_features_have_no_likelihood(wine):
    model = make_fast(n_components=20).fit(wine)
    with pytest.raises(ValueError, match="at most as many components as features"):
        model.score_samples(wine)


# -- samples -----------------------------------------------------------------------


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_samples_of_every_density(cancer, density):
    model = make_fast(n_components=3, latent_density=density).fit(cancer)
    drawn = model.sample(5, 0)
    assert drawn.shape == (5, 30)
    assert drawn.dtype == np.float64
    assert np.isfinite(drawn).all()
    assert np.isfinite(model.score_samples(cancer)).all()


def test_samples_repeat_by_seed_only(kind, cancer):
    model = fast(kind, n_components=3).fit(cancer)
    np.testing.assert_array_equal(model.sample(4, random_state=3), model.sample(4, 3))
    assert not np.array_equal(model.sample(4, 3), model.sample(4, 4))
    assert not np.array_equal(model.sample(4), model.sample(4))
    again = fast(kind, n_components=3).fit(cancer)
    np.testing.assert_array_equal(again.sample(4, 3), model.sample(4, 3))


def test_noise_is_added_to_what_the_decoder_returns(kind, cancer):
    model = fast(kind, n_components=3).fit(cancer)
    noisy, smooth = model.sample(2000, 0), model.sample(2000, 0, observation_noise=False)
    added = np.square(noisy - smooth).mean()
    assert added == pytest.approx(model.reconstruction_error(cancer).mean() / 30, rel=0.4)
    assert np.square(noisy[:9] - smooth[:9]).sum() > 0


def test_samples_of_the_linear_autoencoder_have_the_covariance_of_the_rows(wine):
    drawn = linear(4).fit(wine).sample(200_000, 0)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(wine.T), atol=0.06)


def test_samples_come_in_the_units_of_the_input(raw_cancer):
    drawn = make_fast(n_components=5, max_epochs=30).fit(raw_cancer).sample(20_000, 0)
    np.testing.assert_allclose(
        drawn.mean(axis=0), raw_cancer.mean(axis=0), atol=0.2 * raw_cancer.std(axis=0).max()
    )


def test_samples_respect_the_bounds_of_the_loss(digits):
    model = make_fast(n_components=3, loss="binary_cross_entropy", anchor=None).fit(digits)
    drawn = model.sample(50, 0)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, "3"])
def test_a_number_of_samples_below_one_is_refused(wine, n_samples):
    with pytest.raises((ValueError, TypeError), match="n_samples"):
        make_fast().fit(wine).sample(n_samples)


def test_nothing_is_drawn_before_fit(kind, wine):
    for call in (
        lambda: kind.sample(),
        lambda: kind.interpolate(wine, wine),
    ):
        with pytest.raises(NotFittedError):
            call()


class Unsampled(KernelDensity):
    """Density without samples."""

    sample = property()


@pytest.mark.parametrize("density", [Unsampled(), "mixture", None, 3])
def test_densities_that_are_none_are_refused(dense, wine, density):
    with pytest.raises(ValueError, match="latent_density"):
        clone(dense).set_params(latent_density=density).fit(wine)


def test_a_density_is_cloned_with_a_seed_of_the_fit(wine):
    given = GaussianMixture(3)
    one, other = (make_fast(latent_density=given).fit(wine) for _ in range(2))
    assert not hasattr(given, "means_")
    np.testing.assert_array_equal(one.sample(5, 0), other.sample(5, 0))


@pytest.mark.parametrize("n_rows", [1, 2, 20])
def test_a_few_rows_can_be_sampled_and_scored(kind, wine, n_rows):
    model = fast(kind).fit(wine[:n_rows])
    assert np.isfinite(model.sample(3, 0)).all()
    if is_dense(kind):
        assert np.isfinite(model.score_samples(wine[:n_rows])).all()


def test_equal_rows_are_drawn_again(kind):
    with pytest.warns(ConvergenceWarning, match="All rows of X are equal"):
        model = fast(kind).fit(np.ones((10, 4)))
    # The variance of a variational model has a floor of 1e-6.
    np.testing.assert_allclose(model.sample(3, 0), np.ones((3, 4)), atol=1e-2)
    if is_dense(kind):
        assert np.isfinite(model.score_samples(np.ones((3, 4)))).all()


def test_the_density_takes_a_small_part_of_the_time():
    X = np.random.default_rng(0).normal(size=(3000, 20)) ** 3
    model = AutoencoderTransformer(8, max_epochs=60, random_state=0)
    start = time.process_time()
    model.fit(X)
    whole = time.process_time() - start
    model.set_params(latent_density="standard_normal")
    start = time.process_time()
    model.fit(X)
    without = time.process_time() - start
    assert whole - without < 0.5 * whole  # a fifth, and what the machine does meanwhile


# -- paths -------------------------------------------------------------------------


def test_a_path_joins_the_reconstructions(kind, cancer):
    model = fast(kind, n_components=3).fit(cancer)
    path = model.interpolate(cancer[:4], cancer[4:8], n_steps=5)
    assert path.shape == (4, 5, 30)
    assert_close(path[:, 0], model.reconstruct(cancer[:4]), 1e-6)
    assert_close(path[:, -1], model.reconstruct(cancer[4:8]), 1e-6)


def test_a_linear_path_is_straight(wine):
    path = linear(3).fit(wine).interpolate(wine[:2], wine[2:4], 5)
    np.testing.assert_allclose(np.diff(path, 2, axis=1), 0, atol=1e-12)


def test_paths_keep_the_dtype(kind, cancer):
    rows = cancer.astype(np.float32)
    model = fast(kind).fit(rows)
    assert model.interpolate(rows[:2], rows[2:4]).dtype == np.float32
    assert model.interpolate(rows[:2], cancer[2:4]).dtype == np.float32


def test_paths_need_as_many_ends_as_starts(kind, wine):
    model = fast(kind).fit(wine)
    with pytest.raises(ValueError, match="X_start has 3 rows and X_end 2"):
        model.interpolate(wine[:3], wine[:2])


@pytest.mark.parametrize("n_steps", [1, 0, 2.5])
def test_paths_need_two_steps(wine, n_steps):
    with pytest.raises((ValueError, TypeError), match="n_steps"):
        make_fast().fit(wine).interpolate(wine[:1], wine[1:2], n_steps)


# -- densities are fitted at first use ---------------------------------------------


PENDING = ("latent_density_", "_residual")


def test_densities_are_fitted_when_they_are_first_used(wine):
    fitted = make_fast(random_state=0).fit(wine)
    fitted.transform(wine)
    assert not set(PENDING) & vars(fitted).keys()
    codes = fitted._density_sample.codes
    expected = fitted._make_mixture(fitted._density_sample.seed).fit(codes)
    assert_close(fitted.latent_density_.score_samples(codes), expected.score_samples(codes), 1e-12)
    assert set(PENDING) <= vars(fitted).keys()
    assert not hasattr(fitted, "_density_sample")  # nothing of the rows is left


def test_an_estimator_without_a_fit_has_no_density():
    model = make_fast()
    assert not hasattr(model, "latent_density_")
    with pytest.raises(AttributeError, match=r"no attribute 'latent_density_'; call fit"):
        _ = model.latent_density_


def test_parameters_set_after_fit_do_not_change_the_density(wine):
    fitted = make_fast(random_state=0).fit(wine)
    fitted.set_params(latent_density="standard_normal", n_components=3)
    other = make_fast(random_state=0).fit(wine)
    assert np.array_equal(fitted.sample(9, random_state=0), other.sample(9, random_state=0))


def test_files_and_copies_hold_densities_and_no_codes(wine):
    fitted = make_fast(random_state=0).fit(wine)
    state = fitted.__getstate__()
    assert "latent_density_" in state
    assert "_density_sample" not in state
    again = make_fast(random_state=0).fit(wine)
    for copied in (pickle.loads(pickle.dumps(again)), copy.deepcopy(fitted)):
        assert np.array_equal(copied.sample(9, random_state=0), fitted.sample(9, random_state=0))


def test_concurrent_first_uses_fit_one_density(wine, monkeypatch):
    fitted, calls, fit = make_fast(random_state=0).fit(wine), [], Mixture.fit

    def counted(self, X):
        calls.append(len(X))
        time.sleep(0.05)
        return fit(self, X)

    monkeypatch.setattr(Mixture, "fit", counted)
    with ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(lambda _: fitted.sample(5, random_state=0), range(8)))
    assert len(calls) == 1
    assert all(np.array_equal(sample, samples[0]) for sample in samples)


def test_a_second_fit_replaces_a_density_that_was_used(wine):
    model = make_fast(random_state=0).fit(wine[::2])
    model.sample(3, random_state=0)
    model.fit(wine)
    expected = make_fast(random_state=0).fit(wine)
    assert np.array_equal(model.sample(9, random_state=0), expected.sample(9, random_state=0))


def test_partial_fit_after_fit_has_a_density_of_its_own(wine):
    model = make_fast(random_state=0, latent_density="gaussian").fit(wine)
    model.partial_fit(wine[:40])
    assert not hasattr(model, "_density_sample")
    before = model.sample(5, random_state=0)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).sample(5, random_state=0), before)


def test_a_density_of_the_user_is_fitted_in_fit(wine):
    class Broken(KernelDensity):
        def fit(self, X, y=None):
            raise RuntimeError("this density does not fit")

    with pytest.raises(RuntimeError, match="does not fit"):
        make_fast(latent_density=Broken()).fit(wine)
