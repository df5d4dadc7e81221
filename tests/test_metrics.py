"""One score for any reducer."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ESTIMATORS, fast, make_fast, name_of
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import NMF, PCA, KernelPCA
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE, Isomap
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from skae.metrics import reconstruction_score


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_it_is_the_score_of_our_own(estimator, wine):
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
    lost = np.square(rows - reducer.inverse_transform(reducer.transform(rows))).sum()
    total = np.square(rows - rows.mean(axis=0)).sum()
    assert reconstruction_score(reducer, rows) == pytest.approx(1 - lost / total)


def test_for_nmf_the_mean_is_that_of_the_rows(digits):
    reducer = NMF(3, max_iter=50, tol=0.1, random_state=0).fit(digits)
    restored = reducer.inverse_transform(reducer.transform(digits))
    lost, total = np.square(digits - restored).sum(), np.square(digits - digits.mean(axis=0)).sum()
    assert reconstruction_score(reducer, digits) == pytest.approx(1 - lost / total)


def test_of_a_pipeline_it_is_in_input_units_around_the_training_mean():
    X = load_breast_cancer().data
    train, test = X[:400], X[400:]
    pipeline = make_pipeline(StandardScaler(), PCA(3)).fit(train)
    lost = np.square(test - pipeline.inverse_transform(pipeline.transform(test))).sum()
    total = np.square(test - train.mean(axis=0)).sum()
    assert reconstruction_score(pipeline, test) == pytest.approx(1 - lost / total)


def test_a_mean_behind_other_steps_is_taken_back_to_input_units(wine):
    train, test = wine[:120], wine[120:]
    pipeline = make_pipeline("passthrough", MinMaxScaler(), PCA(3)).fit(train)
    lost = np.square(test - pipeline.inverse_transform(pipeline.transform(test))).sum()
    total = np.square(test - train.mean(axis=0)).sum()
    assert reconstruction_score(pipeline, test) == pytest.approx(1 - lost / total)


def test_a_pipeline_scores_as_its_only_step(wine):
    estimator = make_fast()
    alone = estimator.fit(wine).score(wine)
    assert reconstruction_score(make_pipeline(estimator).fit(wine), wine) == pytest.approx(alone)


def test_every_step_that_loses_counts(wine):
    forth = FunctionTransformer(np.round, inverse_func=np.positive, check_inverse=False)
    pipeline = make_pipeline(forth, PCA(wine.shape[1])).fit(wine)
    assert 0 < 1 - reconstruction_score(pipeline, wine) < 0.2


def test_rows_without_variance_score_one_if_restored():
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
def test_what_cannot_go_back_is_a_type_error_that_says_so(estimator, method, wine):
    estimator.fit(wine)
    with pytest.raises(TypeError, match=f"`{method}`.*fit_inverse_transform=True"):
        reconstruction_score(estimator, wine)


def test_kernel_pca_that_learned_no_way_back_says_so(wine):
    reducer = KernelPCA(2).fit(wine)
    with pytest.raises(NotFittedError, match="fit_inverse_transform"):
        reconstruction_score(reducer, wine)


def test_bad_rows_get_scikit_learns_errors(wine):
    pca = PCA(2).fit(wine)
    with pytest.raises(ValueError, match="features"):
        reconstruction_score(pca, wine[:, :4])
    with pytest.raises(ValueError, match="NaN"):
        reconstruction_score(pca, np.full_like(wine, np.nan))
