"""The normal distribution of codes given a condition, and rows as residuals on a condition."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import assert_close
from scipy.stats import multivariate_normal

from skae._latent.given_condition import ConditionalNormal

COVARIANCES = [[[1.0, 0.8], [0.8, 1.0]], [[0.1, 0.0], [0.0, 3.0]], [[2.0, -0.9], [-0.9, 0.5]]]
NO_VARIANCE = 1e-12


@pytest.fixture(scope="module")
def classes():
    return np.random.default_rng(0).integers(0, 3, 6000)


@pytest.fixture(scope="module")
def codes(classes):
    random, codes = np.random.default_rng(1), np.empty((len(classes), 2))
    for label, covariance in enumerate(COVARIANCES):
        where = classes == label
        codes[where] = random.multivariate_normal([label, -label], covariance, where.sum())
    return codes


@pytest.fixture(scope="module")
def conditions(classes):
    return np.eye(3)[classes] - np.bincount(classes) / len(classes)


@pytest.fixture(scope="module")
def normal(codes, conditions):
    return ConditionalNormal.fit(codes, np.full(codes.shape, NO_VARIANCE), conditions)


def test_codes_are_white_in_each_class(normal, codes, conditions, classes):
    white = normal.whiten(codes, conditions)
    for label in range(3):
        own = white[classes == label]
        assert np.abs(own.mean(axis=0)).max() < 1e-10
        assert_close(np.cov(own.T), np.eye(2), 0.02)


def test_coloring_undoes_whitening(normal, codes, conditions):
    assert_close(normal.color(normal.whiten(codes, conditions), conditions), codes, 1e-10)


def test_the_density_is_that_of_the_normal_distribution_of_each_class(
    normal, codes, conditions, classes
):
    white = normal.whiten(codes, conditions)
    logs = multivariate_normal(np.zeros(2)).logpdf(white)
    logs += normal.log_slopes(conditions).sum(axis=1)
    for label in range(3):
        own = codes[classes == label]
        fitted = multivariate_normal(own.mean(axis=0), np.cov(own.T))
        assert_close(logs[classes == label].mean(), fitted.logpdf(own).mean(), 2e-3)


def test_variances_are_those_of_whitened_draws(normal, conditions):
    random, variances = np.random.default_rng(2), np.array([0.3, 0.7])
    draws = random.normal(size=(20_000, 2)) * np.sqrt(variances)
    one = conditions[:1]
    white = normal.whiten(draws, np.repeat(one, len(draws), axis=0))
    assert_close(normal.whitened_variances(variances[None], one)[0], white.var(axis=0), 0.05)


def test_variances_of_posteriors_count(codes, conditions):
    variances = np.random.default_rng(3).uniform(0.5, 2, codes.shape)
    normal = ConditionalNormal.fit(codes, variances, conditions)
    squares = np.square(normal.whiten(codes, conditions))
    squares += normal.whitened_variances(variances, conditions)
    assert_close(squares.mean(axis=0), np.ones(2), 1e-10)


def test_numbers_change_variance_and_correlation():
    random = np.random.default_rng(4)
    number = random.uniform(-1, 1, (20_000, 1))
    first = random.normal(size=(20_000, 1)) * np.exp(0.5 * number)
    codes = np.hstack([first, 0.7 * number * first + random.normal(size=first.shape)])
    normal = ConditionalNormal.fit(codes, np.full(codes.shape, NO_VARIANCE), number)
    assert_close(normal.log_variances[:, 0], [0.0, 1.0], 0.05)
    assert_close(normal.coefficients[0, :, 1], [0.0, 0.7], 0.05)
    beyond = normal.log_slopes(np.array([[1.0], [50.0]]))
    assert_close(beyond[1], beyond[0], 1e-3)


def test_a_class_of_few_rows_is_shrunk_to_all_others(codes, conditions):
    few = np.r_[np.flatnonzero(conditions[:, 0] < 0), np.flatnonzero(conditions[:, 0] > 0)[:2]]
    normal = ConditionalNormal.fit(codes[few], np.full((len(few), 2), NO_VARIANCE), conditions[few])
    own = normal.log_slopes(conditions[few[-1:]])
    assert np.abs(own).max() < 1.5  # the variance of two rows along two axes is zero


def test_without_a_condition_codes_are_white(codes):
    none = np.zeros((len(codes), 0))
    normal = ConditionalNormal.fit(codes, np.full(codes.shape, NO_VARIANCE), none)
    assert_close(np.cov(normal.whiten(codes, none).T), np.eye(2), 1e-2)


def test_the_standard_normal_changes_nothing(codes, conditions):
    standard = ConditionalNormal.standard(2, 3)
    assert np.array_equal(standard.whiten(codes, conditions), codes)
    assert np.array_equal(standard.color(codes, conditions), codes)
    assert not standard.log_slopes(conditions).any()
