"""Sample weights: dropped, repeated or relative; in fit, score, metrics and Pipelines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import OwnModule, assert_close, is_dense, suited
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer
from skae._data.dataset import Dataset
from skae._data.sample_weight import check_weights, sort_and_repeat
from skae._data.statistics import Moments
from skae._training.gradients import AutogradGradient
from skae.losses import Objective, squared_error
from skae.metrics import log_likelihood_score, reconstruction_score
from skae.networks import MLP, Autoencoder


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(0).integers(0, 4, size=569)


# -- what weights mean -------------------------------------------------------------


def test_integers_count_rows_and_others_are_relative():
    X = np.arange(8.0).reshape(4, 2)
    kept, weights = check_weights([0, 1, 2, 1], X)
    assert np.array_equal(kept, X[1:])
    assert np.array_equal(weights, [1, 2, 1])
    assert check_weights([1, 1, 1, 1], X)[1] is None
    assert check_weights([0.2] * 4, X)[1] is None
    kept, weights = check_weights([0.5, 0, 1.5, 1.0], X)
    np.testing.assert_allclose(weights, [0.5, 1.5, 1.0])
    np.testing.assert_allclose(check_weights([50.5, 0, 151.5, 101], X)[1], weights)


@pytest.mark.parametrize("method", ["fit", "partial_fit", "score"])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(178, -1.0), "[Nn]egative"),
        (np.zeros(178), "zero"),
        (np.full(178, np.nan), "NaN"),
        (np.ones(177), r"\(177,\)"),
        (np.ones((178, 2)), "1D|2D"),
    ],
)
def test_bad_weights_are_refused(quick, wine, method, weights, message):
    if method == "score":
        quick.fit(wine)
    with pytest.raises(ValueError, match=message):
        getattr(quick, method)(wine, sample_weight=weights)
    if method != "score":
        with pytest.raises(NotFittedError):
            quick.transform(wine)


# -- identities --------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 9, 20])
@pytest.mark.parametrize("params", [{}, {"anchor": None}, {"network": OwnModule}], ids=str)
def test_few_rows_that_count_are_the_rows_repeated_bit_for_bit(quick, wine, n_rows, params):
    quick.set_params(**suited(quick, params))
    counts = np.resize([2, 0, 1, 1], n_rows)
    X = wine[:n_rows]
    repeated = np.random.default_rng(0).permutation(np.repeat(X, counts, axis=0))
    weighted = clone(quick).fit(X, sample_weight=counts)
    quick.fit(repeated)
    assert np.array_equal(weighted.transform(wine), quick.transform(wine))
    assert np.array_equal(weighted.sample(5, 0), quick.sample(5, 0))
    assert weighted.n_samples_ == quick.n_samples_ == counts.sum()
    assert weighted.noise_variance_ == pytest.approx(quick.noise_variance_)


def test_only_few_rows_with_integer_weights_are_sorted_and_repeated():
    X = np.array([[2.0], [1.0], [3.0]])
    assert np.array_equal(sort_and_repeat(X, np.array([2, 1, 1]), below=5)[0][:, 0], [1, 2, 2, 3])
    for weights in (np.array([2, 2, 1]), np.array([0.5, 1, 1.5])):
        assert sort_and_repeat(X, weights, below=5) == (X, weights)


def test_moments_of_weighted_rows_are_those_of_repeated_ones(raw_cancer, counts):
    centre = np.average(raw_cancer, axis=0, weights=counts)
    kept = counts > 0
    weighted = Dataset(raw_cancer[kept], centre, 3.0, counts[kept].astype(float))
    repeated = Dataset(np.repeat(raw_cancer, counts, axis=0), centre, 3.0)
    assert weighted.count == repeated.count
    assert_close(weighted.scatter, repeated.scatter, 1e-12)
    assert weighted.root_mean_square() == pytest.approx(repeated.root_mean_square())
    assert_close(weighted.principal_components(4), repeated.principal_components(4), 1e-9)
    for name, values in repeated.feature_statistics().items():
        np.testing.assert_allclose(weighted.feature_statistics()[name], values, atol=1e-12)
    components = repeated.principal_components(3)
    for one, other in zip(
        weighted.squares_along(components), repeated.squares_along(components), strict=True
    ):
        assert_close(one, other, 1e-12)
    assert np.array_equal(
        weighted[weighted.evenly_spaced(weighted.count)].mean(axis=0).round(12),
        repeated[:].mean(axis=0).round(12),
    )


def test_running_moments_count_weights_and_blocks(cancer, counts):
    rows = np.repeat(cancer, counts, axis=0)
    for joint in (True, False):
        running = Moments(30, joint=joint)
        for part in np.array_split(np.arange(569), 7):
            running.add(cancer[part], counts[part].astype(float))
        assert running.count == len(rows)
        assert_close(running.mean, rows.mean(axis=0), 1e-12)
        expected = np.cov(rows.T)
        assert_close(running.covariance(), expected if joint else np.diag(expected), 1e-12)
        limited = running.limit(10)
        assert limited.count == 10
        assert_close(limited.mean, rows.mean(axis=0), 1e-12)


def test_the_objective_weighs_rows_as_repeating_them_does():
    generator = torch.Generator().manual_seed(0)
    network = Autoencoder(MLP([4, 5, 2], generator=generator), MLP([2, 5, 4], generator=generator))
    network.double()
    gradient = torch.zeros(0)
    objective = Objective({"reconstruction": squared_error})
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    counts = torch.tensor([1, 3, 2, 1, 4, 1])
    losses, gradients = [], []
    for rows, weights in (
        (x, counts / counts.double().mean()),
        (x.repeat_interleave(counts, dim=0), None),
    ):
        network.zero_grad()
        step = AutogradGradient(network, objective, gradient)(rows, None, weights)
        losses.append(step["loss"])
        gradients.append(torch.cat([p.grad.reshape(-1) for p in network.parameters()]))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])
def test_the_linear_model_of_weighted_rows_is_that_of_repeated_ones(cls, raw_cancer, counts):
    repeated = np.repeat(raw_cancer, counts, axis=0)
    weighted, plain = (cls(4, hidden_layer_sizes=()) for _ in range(2))
    weighted.fit(raw_cancer, sample_weight=counts)
    plain.fit(repeated)
    assert_close(weighted.transform(raw_cancer), plain.transform(raw_cancer), 1e-8)
    for name in (
        "mean_",
        "components_",
        "explained_variance_",
        "explained_variance_ratio_",
        "noise_variance_",
        "singular_values_",
        "n_samples_",
    ):
        assert_close(getattr(weighted, name), getattr(plain, name), 1e-8)
    assert_close(weighted.score_samples(raw_cancer), plain.score_samples(raw_cancer), 1e-8)
    assert_close(weighted.get_covariance(), PCA(4).fit(repeated).get_covariance(), 1e-8)


def test_whatever_describes_a_fit_describes_the_weighted_rows(quick, cancer, counts):
    quick.fit(cancer, sample_weight=counts)
    repeated = np.repeat(cancer, counts, axis=0)
    codes = quick.transform(repeated)
    assert_close(quick.mean_, repeated.mean(axis=0), 1e-12)
    assert_close(codes.var(axis=0, ddof=1), quick.explained_variance_, 1e-4)
    if is_dense(quick):
        assert np.abs(codes.mean(axis=0)).max() < 1e-4 * np.abs(codes).max()
    assert quick.explained_variance_ratio_.sum() == pytest.approx(quick.score(repeated))


def test_scores_of_weighted_rows_are_those_of_repeated_ones(quick, cancer, counts):
    quick.fit(cancer)
    repeated = np.repeat(cancer, counts, axis=0)
    assert quick.score(cancer, sample_weight=counts) == pytest.approx(quick.score(repeated))
    likelihood = [log_likelihood_score] if is_dense(quick) else []
    for score in (reconstruction_score, *likelihood):
        for estimator in (quick, make_pipeline(StandardScaler(), PCA(2)).fit(cancer)):
            weighted = score(estimator, cancer, sample_weight=counts)
            assert weighted == pytest.approx(score(estimator, repeated))


# -- training ----------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [60, 300, 569])
def test_relative_weights_have_no_unit(quick, cancer, n_rows):
    weights = np.random.default_rng(0).uniform(0.5, 2, size=n_rows)
    one, other = (
        clone(quick).fit(cancer[:n_rows], sample_weight=weights * factor).transform(cancer)
        for factor in (1, 1024)
    )
    assert np.array_equal(one, other)
    assert not np.array_equal(one, quick.fit(cancer[:n_rows]).transform(cancer))


def test_equal_weights_are_none(quick, cancer):
    weighted = clone(quick).fit(cancer, sample_weight=np.full(569, 0.3)).transform(cancer)
    assert np.array_equal(weighted, quick.fit(cancer).transform(cancer))


@pytest.mark.slow
@pytest.mark.parametrize("early_stopping", [True, False])
def test_rows_of_larger_weight_are_reconstructed_better(kind, digits, early_stopping):
    heavy = np.arange(len(digits)) % 2 == 0
    heavy = heavy[:200]
    X = np.where(heavy[:, None], digits[:200], digits[:200, ::-1] ** 3)
    lost = []
    for weights in (np.where(heavy, 1, 20), np.where(heavy, 20, 1)):
        estimator = clone(kind).set_params(max_epochs=15, early_stopping=early_stopping)
        estimator.fit(X, sample_weight=weights)
        lost.append(estimator.reconstruction_error(X[heavy]).mean())
    assert lost[1] < 0.8 * lost[0]


@pytest.mark.slow
def test_weighted_and_repeated_rows_train_to_like_quality(kind, digits):
    counts = np.random.default_rng(0).integers(0, 4, size=500)
    X, test = digits[:500], digits[500:]
    weighted = clone(kind).set_params(n_components=8, max_epochs=20)
    repeated = clone(weighted).fit(np.repeat(X, counts, axis=0))
    weighted.fit(X, sample_weight=counts)
    lost = [e.reconstruction_error(test).mean() for e in (weighted, repeated)]
    assert lost[0] == pytest.approx(lost[1], rel=0.1)


# -- routing -----------------------------------------------------------------------


def test_weights_are_routed_through_pipelines_and_searches(quick, cancer, counts):
    cancer, counts = cancer[:200], counts[:200]
    y = cancer[:, 0] > 0
    with config_context(enable_metadata_routing=True):
        reducer = clone(quick).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            reducer,
            LogisticRegression().set_fit_request(sample_weight=False),
        )
        pipeline.fit(cancer, y, sample_weight=counts)
        scaled = StandardScaler().fit_transform(cancer)
        expected = clone(quick).fit(scaled, sample_weight=counts)
        assert np.array_equal(pipeline[1].transform(scaled), expected.transform(scaled))
        alone = reducer.set_score_request(sample_weight=True)
        search = GridSearchCV(alone, {"n_components": [1, 3]}, cv=2)
        search.fit(cancer, sample_weight=counts)
    first = clone(quick).set_params(n_components=3)
    first.fit(cancer[100:], sample_weight=counts[100:])
    score = first.score(cancer[:100], sample_weight=counts[:100])
    assert search.cv_results_["split0_test_score"][1] == pytest.approx(score, rel=1e-6)
