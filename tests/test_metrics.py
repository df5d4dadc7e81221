"""Two scores for any reducer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import ESTIMATORS, fast, is_dense, make_fast, name_of
from scipy.stats import multivariate_normal
from sklearn.cluster import DBSCAN
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import NMF, PCA, FactorAnalysis, KernelPCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE, Isomap
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skae import AutoencoderTransformer
from skae.metrics import log_likelihood_score, reconstruction_score


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_it_is_the_score_of_estimators_of_skae(estimator, wine):
    fitted = fast(estimator).fit(wine[:120])
    for rows in (wine[:120], wine[120:]):
        assert reconstruction_score(fitted, rows) == pytest.approx(fitted.score(rows), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 6])
def test_for_pca_it_is_the_sum_of_its_ratios(k, wine):
    pca = PCA(k).fit(wine)
    assert reconstruction_score(pca, wine) == pytest.approx(pca.explained_variance_ratio_.sum())


def test_for_kernel_pca_it_is_the_formula(wine):
    reducer = KernelPCA(2, kernel="rbf", fit_inverse_transform=True).fit(wine[:120])
    rows = wine[120:]
    sse = np.square(rows - reducer.inverse_transform(reducer.transform(rows))).sum()
    total = np.square(rows - rows.mean(axis=0)).sum()
    assert reconstruction_score(reducer, rows) == pytest.approx(1 - sse / total)


def test_for_nmf_the_mean_is_that_of_the_rows(digits):
    reducer = NMF(3, max_iter=50, tol=0.1, random_state=0).fit(digits)
    reconstructed = reducer.inverse_transform(reducer.transform(digits))
    sse, total = (
        np.square(digits - reconstructed).sum(),
        np.square(digits - digits.mean(axis=0)).sum(),
    )
    assert reconstruction_score(reducer, digits) == pytest.approx(1 - sse / total)


def test_of_a_pipeline_it_is_in_input_units_around_the_training_mean():
    X = load_breast_cancer().data
    train, test = X[:400], X[400:]
    pipeline = make_pipeline(StandardScaler(), PCA(3)).fit(train)
    sse = np.square(test - pipeline.inverse_transform(pipeline.transform(test))).sum()
    total = np.square(test - train.mean(axis=0)).sum()
    assert reconstruction_score(pipeline, test) == pytest.approx(1 - sse / total)


def test_a_mean_behind_other_steps_is_taken_back_to_input_units(wine):
    train, test = wine[:120], wine[120:]
    pipeline = make_pipeline("passthrough", MinMaxScaler(), PCA(3)).fit(train)
    sse = np.square(test - pipeline.inverse_transform(pipeline.transform(test))).sum()
    total = np.square(test - train.mean(axis=0)).sum()
    assert reconstruction_score(pipeline, test) == pytest.approx(1 - sse / total)


def test_a_pipeline_scores_as_its_only_step(wine):
    estimator = make_fast()
    alone = estimator.fit(wine).score(wine)
    assert reconstruction_score(make_pipeline(estimator).fit(wine), wine) == pytest.approx(alone)


def test_the_errors_of_all_steps_count(wine):
    forth = FunctionTransformer(np.round, inverse_func=np.positive, check_inverse=False)
    pipeline = make_pipeline(forth, PCA(wine.shape[1])).fit(wine)
    assert 0 < 1 - reconstruction_score(pipeline, wine) < 0.2


def test_rows_without_variance_score_one_if_reconstructed():
    X = np.full((4, 3), 2.0)
    assert reconstruction_score(StandardScaler().fit(X), X) == 1.0


@pytest.mark.parametrize(
    "reducer",
    [
        PCA(2),
        KernelPCA(2, fit_inverse_transform=True),
        make_pipeline(StandardScaler(), PCA(2)),
        make_pipeline(StandardScaler(), make_fast()),
    ],
    ids=name_of,
)
def test_as_a_scorer_of_cross_val_score(reducer, wine):
    labels = np.repeat(["a", "b"], 89)
    scores = cross_val_score(
        reducer, wine, labels, cv=3, scoring=reconstruction_score, error_score="raise"
    )
    assert ((scores > -1) & (scores < 1)).all()


def test_as_a_scorer_of_a_search_over_reducers(wine):
    pipeline = make_pipeline(StandardScaler(), PCA())
    grid = {"pca": [PCA(), make_fast()], "pca__n_components": [1, 5]}
    search = GridSearchCV(
        pipeline, grid, cv=3, scoring=reconstruction_score, error_score="raise"
    ).fit(wine)
    assert search.best_params_["pca__n_components"] == 5
    assert search.score(wine) == reconstruction_score(search.best_estimator_, wine)


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (DBSCAN(), "transform"),
        (TSNE(), "transform"),
        (Isomap(), "inverse_transform"),
        (make_pipeline(StandardScaler(), Isomap()), "inverse_transform"),
    ],
    ids=["DBSCAN", "TSNE", "Isomap", "Pipeline"],
)
def test_reducers_without_an_inverse_are_a_type_error(estimator, method, wine):
    estimator.fit(wine)
    with pytest.raises(TypeError, match=f"`{method}`.*fit_inverse_transform=True"):
        reconstruction_score(estimator, wine)


def test_kernel_pca_without_an_inverse_says_so(wine):
    reducer = KernelPCA(2).fit(wine)
    with pytest.raises(NotFittedError, match="fit_inverse_transform"):
        reconstruction_score(reducer, wine)


def test_bad_rows_get_scikit_learns_errors(wine):
    pca = PCA(2).fit(wine)
    with pytest.raises(ValueError, match="features"):
        reconstruction_score(pca, wine[:, :4])
    with pytest.raises(ValueError, match="NaN"):
        reconstruction_score(pca, np.full_like(wine, np.nan))


# -- likelihood --------------------------------------------------------------------

DENSITIES = [
    PCA(3),
    FactorAnalysis(2),
    GaussianMixture(2, random_state=0),
    KernelDensity(bandwidth=0.5),
    *(fast(estimator) for estimator in ESTIMATORS if is_dense(estimator)),
]
AFFINE = [
    StandardScaler(),
    MinMaxScaler(),
    MaxAbsScaler(),
    RobustScaler(),
    PCA(),
    PCA(whiten=True),
    FunctionTransformer(lambda X: 3 - 2 * np.asarray(X)),
    make_pipeline(MinMaxScaler(), StandardScaler()),
    ColumnTransformer([("a", StandardScaler(), slice(5, 13)), ("b", RobustScaler(), slice(0, 5))]),
]


@pytest.fixture(scope="module")
def raw_wine():
    return load_wine().data


@pytest.mark.parametrize("density", DENSITIES, ids=name_of)
def test_it_is_the_mean_of_score_samples(density, wine):
    density.fit(wine[:120])
    expected = density.score_samples(wine[120:]).mean()
    assert log_likelihood_score(density, wine[120:]) == pytest.approx(expected, rel=1e-12)
    assert log_likelihood_score(make_pipeline(density), wine[120:]) == pytest.approx(expected)


@pytest.mark.parametrize("step", AFFINE, ids=name_of)
def test_a_normal_distribution_is_the_same_behind_any_affine_step(step, raw_wine):
    train, test = raw_wine[:120], raw_wine[120:]
    pipeline = make_pipeline(step, GaussianMixture(1, reg_covar=0)).fit(train)
    normal = multivariate_normal(train.mean(axis=0), np.cov(train.T, ddof=0))
    assert log_likelihood_score(pipeline, test) == pytest.approx(
        normal.logpdf(test).mean(), rel=1e-7
    )


@pytest.mark.parametrize("k", [2, 13])
def test_behind_a_scaler_pca_is_its_gaussian_in_raw_units(k, raw_wine):
    pipeline = make_pipeline(StandardScaler(), PCA(k, svd_solver="full")).fit(raw_wine)
    scale = pipeline[0].scale_
    covariance = pipeline[1].get_covariance() * np.outer(scale, scale)
    normal = multivariate_normal(raw_wine.mean(axis=0), covariance)
    assert log_likelihood_score(pipeline, raw_wine) == pytest.approx(
        normal.logpdf(raw_wine).mean(), rel=1e-9
    )


@pytest.mark.parametrize("density", DENSITIES, ids=name_of)
def test_rows_in_other_units_change_it_by_a_known_constant(density, raw_wine):
    factors = 2.0 ** np.arange(-6, 7)
    pipeline = make_pipeline(StandardScaler(), density)
    before = log_likelihood_score(pipeline.fit(raw_wine), raw_wine)
    scaled = raw_wine * factors * 8 + 1000
    after = log_likelihood_score(pipeline.fit(scaled), scaled)
    assert after == pytest.approx(before - 13 * np.log(8), abs=1e-3)


def test_steps_add_up(raw_wine):
    steps = MinMaxScaler(), "passthrough", RobustScaler(), PCA(whiten=True)
    long = make_pipeline(*steps, GaussianMixture(1, reg_covar=0)).fit(raw_wine)
    nested = make_pipeline(steps[0], make_pipeline(*steps[2:], GaussianMixture(1, reg_covar=0)))
    short = make_pipeline(GaussianMixture(1, reg_covar=0)).fit(raw_wine)
    expected = log_likelihood_score(short, raw_wine)
    assert log_likelihood_score(long, raw_wine) == pytest.approx(expected, rel=1e-7)
    assert log_likelihood_score(nested.fit(raw_wine), raw_wine) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
@pytest.mark.filterwarnings("error:X does not have valid feature names")
def test_frames_and_narrow_rows_score_as_arrays(make, raw_wine):
    names = [f"column {i}" for i in range(13)]
    frame = make(dict(zip(names, raw_wine.T, strict=True)))
    scaled = ColumnTransformer([("all", StandardScaler(), names)])
    pipeline = make_pipeline(scaled, PCA(3)).fit(frame)
    expected = log_likelihood_score(make_pipeline(StandardScaler(), PCA(3)).fit(raw_wine), raw_wine)
    assert log_likelihood_score(pipeline, frame) == pytest.approx(expected, rel=1e-9)
    narrow = make_pipeline(StandardScaler(), PCA(3)).fit(raw_wine.astype(np.float32))
    assert log_likelihood_score(narrow, raw_wine.astype(np.float32)) == pytest.approx(
        expected, rel=1e-4
    )


def test_it_chooses_scaler_and_dimension_in_a_search(raw_wine):
    pipeline = make_pipeline(StandardScaler(), PCA())
    grid = {"standardscaler": ["passthrough", StandardScaler()], "pca__n_components": [1, 3, 12]}
    search = GridSearchCV(
        pipeline, grid, cv=3, scoring=log_likelihood_score, error_score="raise"
    ).fit(raw_wine[::-1])
    best = search.best_estimator_
    assert isinstance(best[0], StandardScaler)
    assert log_likelihood_score(search, raw_wine) == log_likelihood_score(best, raw_wine)


def test_probabilistic_pca_and_the_linear_autoencoder_agree_behind_a_scaler(raw_wine):
    ours, pcas = (
        make_pipeline(StandardScaler(), reducer).fit(raw_wine)
        for reducer in (AutoencoderTransformer(3, hidden_layer_sizes=()), PCA(3))
    )
    assert log_likelihood_score(ours, raw_wine) == pytest.approx(
        log_likelihood_score(pcas, raw_wine), rel=1e-9
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (PCA(5), "turns 13 columns into 5"),
        (PowerTransformer(), "not affine"),
        (QuantileTransformer(n_quantiles=20), "not affine"),
        (Normalizer(), "not affine"),
        (FunctionTransformer(np.log), "not affine"),
        (FunctionTransformer(lambda X: np.tile(X[:, :1], 13)), "is not invertible"),
        (FunctionTransformer(np.zeros_like), "is not invertible"),
    ],
    ids=lambda value: name_of(value) if not isinstance(value, str) else value,
)
def test_a_step_without_a_determinant_is_named(step, message, raw_wine):
    pipeline = make_pipeline("passthrough", step, GaussianMixture(1))
    label = type(step).__name__.lower()
    with pytest.raises(ValueError, match=f"step '{label}'.*{message}"):
        log_likelihood_score(pipeline.fit(raw_wine), raw_wine)


def test_a_scaler_that_clips_is_refused_only_where_it_does(raw_wine):
    train, test = raw_wine[:120], raw_wine[120:]
    pipeline = make_pipeline(MinMaxScaler(clip=True), PCA(2)).fit(train)
    with pytest.raises(ValueError, match="does not clip"):
        log_likelihood_score(pipeline, test)
    plain = make_pipeline(MinMaxScaler(), PCA(2)).fit(train)
    assert log_likelihood_score(pipeline, train) == log_likelihood_score(plain, train)


@pytest.mark.parametrize(
    "estimator",
    [KernelPCA(2), IsolationForest(n_estimators=2), make_pipeline(MinMaxScaler(), KernelPCA(2))],
    ids=name_of,
)
def test_what_has_no_likelihood_is_a_type_error(estimator, raw_wine):
    with pytest.raises(TypeError, match="log-likelihoods, which"):
        log_likelihood_score(estimator.fit(raw_wine), raw_wine)


def test_bad_rows_of_a_pipeline_get_scikit_learns_errors(raw_wine):
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(raw_wine)
    with pytest.raises(ValueError, match="features"):
        log_likelihood_score(pipeline, raw_wine[:, :4])
    with pytest.raises(ValueError, match="NaN"):
        log_likelihood_score(pipeline, np.full_like(raw_wine, np.nan))
