"""The order of the code, and the attributes that describe a network."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import fast, is_dense

from skae import AutoencoderTransformer
from skae._latent.ordering import DESCRIBED_ROWS, EPOCHS_TO_DESCRIBE_ALL


@pytest.fixture(scope="module")
def curved():
    """More rows than describe a network after a short training."""
    random = np.random.default_rng(0)
    t = random.uniform(-2, 2, size=(3 * DESCRIBED_ROWS, 2))
    X = np.c_[t, t[:, :1] ** 2, np.sin(2 * t[:, 1:]), t[:, :1] * t[:, 1:]]
    return X + 0.1 * random.normal(size=X.shape)


def quick_fit(X, n_epochs, **params):
    return AutoencoderTransformer(
        2, hidden_layer_sizes=8, max_epochs=n_epochs, batch_size=1024, random_state=0, **params
    ).fit(X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_rows_describe_a_network_that_was_trained_for_long(curved, dtype):
    X = curved.astype(dtype)
    fitted = quick_fit(X, EPOCHS_TO_DESCRIBE_ALL)
    Z = fitted.transform(X).astype(float)
    covariance = np.cov(Z.T)
    tolerance = 1e-5 if dtype == np.float32 else 1e-9
    assert np.abs(Z.mean(axis=0)).max() < tolerance
    np.testing.assert_allclose(np.diag(covariance), fitted.explained_variance_, rtol=tolerance)
    assert abs(covariance[0, 1]) < tolerance
    assert fitted.explained_variance_ratio_.sum() == pytest.approx(fitted.score(X), abs=tolerance)


@pytest.mark.parametrize("weighted", [False, True])
def test_some_rows_describe_a_network_after_a_short_training(curved, weighted):
    weights = np.random.default_rng(1).integers(1, 4, len(curved)) if weighted else None
    fitted = AutoencoderTransformer(
        2, hidden_layer_sizes=8, max_epochs=2, batch_size=1024, random_state=0
    ).fit(curved, sample_weight=weights)
    assert fitted.n_iter_ < EPOCHS_TO_DESCRIBE_ALL
    Z = fitted.transform(curved)
    w = np.ones(len(curved)) if weights is None else weights
    mean = np.average(Z, axis=0, weights=w)
    variance = np.average((Z - mean) ** 2, axis=0, weights=w)
    # Four standard errors of means, variances and the error of 8,192 rows.
    assert np.abs(mean / np.sqrt(variance)).max() < 4 / np.sqrt(DESCRIBED_ROWS)
    np.testing.assert_allclose(fitted.explained_variance_, variance, rtol=0.06)
    explained = fitted.score(curved, sample_weight=weights)
    assert 1 - fitted.explained_variance_ratio_.sum() == pytest.approx(1 - explained, rel=0.06)
    noise = (1 - explained) * np.average((curved - fitted.mean_) ** 2, axis=0, weights=w).sum()
    per_dimension = noise / (curved.shape[1] - 2) * fitted.net_.validation_ratio_
    assert fitted.noise_variance_ == pytest.approx(per_dimension, rel=0.06)


def test_kinds_agree_on_float32_and_float64_rows(kind, cancer):
    params = {"n_components": 4, "max_epochs": 3}
    single, double = (fast(kind, **params).fit(cancer.astype(t)) for t in (np.float32, float))
    tolerance = 2e-2 if is_dense(kind) else 5e-2
    np.testing.assert_allclose(
        single.explained_variance_, double.explained_variance_, rtol=tolerance, atol=1e-3
    )
    assert single.components_.dtype == double.components_.dtype == np.float64
