"""Covariance, precision and singular values: those of PCA if the model is linear."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ESTIMATORS, assert_close, fast, make_fast, name_of, suited
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from skae import (
    AdversarialAutoencoder,
    AutoencoderTransformer,
    NeighborAutoencoder,
    VAETransformer,
)
from skae._latent.covariance import with_variances

TABLES = {
    "iris": load_iris().data,
    "wine, raw": load_wine().data,
    "cancer, raw": load_breast_cancer().data,
    "digits": load_digits().data,
    "diabetes, fewer rows than features": load_diabetes().data[:8],
    "iris, offset": load_iris().data + 1e5,
}
LINEAR = {"hidden_layer_sizes": (), "random_state": 0}
each_table = pytest.mark.parametrize("X", TABLES.values(), ids=TABLES)
each_linear = pytest.mark.parametrize(
    "make", [AutoencoderTransformer, VAETransformer], ids=["plain", "variational"]
)
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)


def pca_of(X, k):
    return PCA(k, svd_solver="full").fit(X)


# -- identities: the linear autoencoder is PCA, the linear variational one probabilistic PCA --


@each_table
@each_linear
@pytest.mark.parametrize("whiten", [False, True], ids=["", "whitened"])
@pytest.mark.parametrize("k", [1, 2])
def test_of_a_linear_model_all_are_pcas(X, make, whiten, k):
    pca, linear = pca_of(X, k), make(k, whiten=whiten, **LINEAR).fit(X)
    np.testing.assert_allclose(linear.singular_values_, pca.singular_values_, rtol=1e-6)
    assert_close(linear.get_covariance(), pca.get_covariance(), 1e-6)
    assert_close(linear.get_precision(), pca.get_precision(), 1e-6)
    assert linear.noise_variance_ == pytest.approx(pca.noise_variance_, rel=1e-6)


def test_with_all_components_it_is_the_covariance_of_the_rows():
    X = load_iris().data
    linear = AutoencoderTransformer(None, **LINEAR).fit(X)
    assert_close(linear.get_covariance(), np.cov(X.T), 1e-12)
    assert_close(linear.get_precision(), np.linalg.inv(np.cov(X.T)), 1e-10)


def test_an_overcomplete_linear_code_changes_nothing():
    X = load_iris().data
    wide = AutoencoderTransformer(9, **LINEAR).fit(X)
    assert_close(wide.get_covariance(), np.cov(X.T), 1e-12)
    assert_close(wide.singular_values_[:4], pca_of(X, 4).singular_values_, 1e-12)
    assert not wide.singular_values_[4:].round(9).any()


def test_a_network_that_stays_at_pca_has_pcas():
    X = np.random.default_rng(0).normal(size=(300, 5)) * [5, 4, 1, 1, 1]
    stayed = AutoencoderTransformer(2, random_state=0).fit(X)
    assert stayed.score(X) == pytest.approx(pca_of(X, 2).explained_variance_ratio_.sum())
    assert_close(stayed.get_covariance(), pca_of(X, 2).get_covariance(), 1e-9)


# -- any model ---------------------------------------------------------------------


@each_estimator
def test_singular_values_are_lengths_of_codes(estimator, wine):
    fitted = fast(estimator).fit(wine)
    if isinstance(estimator, VAETransformer):
        lengths = np.linalg.norm(fitted.components_, axis=1)
        expected = np.sqrt(177 * (lengths**2 + fitted.noise_variance_))
    elif isinstance(estimator, AdversarialAutoencoder):  # whose codes have the prior's variances
        expected = np.sqrt(177) * np.linalg.norm(fitted.components_, axis=1)
    else:
        codes = fitted.transform(wine)
        expected = np.linalg.norm(codes - codes.mean(axis=0), axis=0)
    np.testing.assert_allclose(fitted.singular_values_, expected, rtol=1e-6)


@each_estimator
def test_singular_values_and_covariance_do_not_depend_on_whitening(estimator, wine):
    plain, white = (
        fast(estimator, **suited(estimator, {"whiten": whiten})).fit(wine)
        for whiten in (False, True)
    )
    np.testing.assert_allclose(white.singular_values_, plain.singular_values_, rtol=1e-6)
    # other draws of the same distribution
    assert_close(white.get_covariance(), plain.get_covariance(), 0.05)


@each_estimator
def test_the_covariance_is_symmetric_positive_and_repeats(estimator, wine):
    fitted = fast(estimator, n_components=3).fit(wine)
    covariance = fitted.get_covariance()
    assert covariance.shape == (13, 13)
    assert np.array_equal(covariance, fitted.get_covariance())
    assert_close(covariance.T, covariance, 1e-14)
    assert np.linalg.eigvalsh(covariance)[0] > 0
    assert_close(fitted.get_precision() @ covariance, np.eye(13), 1e-9)


@each_estimator
@pytest.mark.parametrize("exponent", [-20, 20])
def test_units_enter_as_squares(estimator, wine, exponent):
    factor = 2.0**exponent
    fitted, scaled = (fast(estimator).fit(wine * f) for f in (1.0, factor))
    assert_close(scaled.get_covariance(), fitted.get_covariance() * factor**2, 1e-9)
    assert_close(scaled.get_precision(), fitted.get_precision() / factor**2, 1e-9)
    assert_close(scaled.singular_values_, fitted.singular_values_ * factor, 1e-9)


@pytest.mark.slow
def test_a_nonlinear_covariance_is_nearer_to_the_rows_than_pcas(dense):
    if isinstance(dense, NeighborAutoencoder):
        dense.set_params(neighbor_weight=0)  # a map is not made to restore rows
    X = load_digits().data
    fitted = dense.set_params(n_components=2, max_epochs=30).fit(X)
    ours, pcas = (
        np.linalg.norm(model.get_covariance() - np.cov(X.T)) for model in (fitted, pca_of(X, 2))
    )
    assert ours < pcas


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("observation_variance", ["shared", "per_feature"])
def test_of_a_variational_model_it_is_that_of_its_samples(likelihood, observation_variance, digits):
    params = {"likelihood": likelihood, "observation_variance": observation_variance}
    vae = fast(VAETransformer(3, random_state=0), **params).fit(digits[:400])
    sampled = np.cov(vae.sample(50_000, random_state=0).T)
    assert_close(vae.get_covariance(), sampled, 0.05)


# -- corner cases ------------------------------------------------------------------


def test_a_singular_covariance_says_what_to_do():
    X = load_iris().data[:, [0, 1, 2, 2]]
    linear = AutoencoderTransformer(3, **LINEAR).fit(X)
    with pytest.raises(ValueError, match=r"noise_variance_=.*fit with a smaller n_components"):
        linear.get_precision()
    assert np.isfinite(AutoencoderTransformer(2, **LINEAR).fit(X).get_precision()).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@each_estimator
@pytest.mark.parametrize("n_rows", [1, 2, 40])
def test_rows_without_variance_have_none(estimator, n_rows):
    fitted = fast(estimator).fit(np.full((n_rows, 3), 2.0))
    assert np.abs(fitted.get_covariance()).max() <= 1e-5
    assert np.abs(fitted.singular_values_).max() <= 1e-2


@each_estimator
def test_before_fit_there_is_nothing(estimator):
    unfitted = fast(estimator)
    assert not hasattr(unfitted, "singular_values_")
    for method in ("get_covariance", "get_precision"):
        with pytest.raises(NotFittedError):
            getattr(unfitted, method)()


def test_codes_are_mapped_to_the_variances_and_stay_nearly_as_they_were():
    codes = np.random.default_rng(0).normal(size=(500, 3)) + 5
    mapped = with_variances(codes, np.array([4.0, 1.0, 0.0]))
    np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(mapped.T @ mapped / 500, np.diag([4.0, 1.0, 0.0]), atol=1e-12)
    assert np.corrcoef(mapped[:, 1], codes[:, 1])[0, 1] > 0.99


def test_more_components_than_draws():
    X = np.random.default_rng(0).normal(size=(50, 60))
    assert make_fast(n_components=1100, hidden_layer_sizes=()).fit(X).get_covariance().shape == (
        60,
        60,
    )
