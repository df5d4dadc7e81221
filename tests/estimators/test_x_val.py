"""`X_val`: a validation set of the user."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer


def test_weights_are_validated_on_the_given_rows(kind, digits):
    kind.set_params(max_epochs=8, n_components=6)
    kind.fit(digits[:600], X_val=digits[600:700])
    assert len(kind.validation_loss_curve_) == kind.n_iter_ == 8
    assert kind.n_samples_ == 600
    other = clone(kind).fit(digits[:600], X_val=digits[700:800])
    assert other.loss_curve_ == kind.loss_curve_  # all 600 rows are trained on in both
    assert other.validation_loss_curve_ != kind.validation_loss_curve_


@pytest.mark.parametrize("n_rows", [20, 60, 300])
@pytest.mark.parametrize(
    "params", [{}, {"early_stopping": False}, {"validation_fraction": 0.5}], ids=str
)
def test_they_replace_the_rows_that_would_be_held_out(quick, wine, n_rows, params):
    X = np.resize(wine, (n_rows, 13))
    quick.set_params(**params).fit(X, X_val=wine[:50])
    assert len(quick.validation_loss_curve_) == quick.n_iter_ == 3
    plain = clone(quick).set_params(early_stopping=True, validation_fraction=0.1)
    assert np.array_equal(plain.fit(X, X_val=wine[:50]).transform(wine), quick.transform(wine))


def test_rows_that_training_does_not_help_keep_pca(digits):
    """Other rows than those trained on: noise, which PCA reconstructs as well as any model."""
    noise = np.random.default_rng(0).normal(size=(300, 64))
    kept = AutoencoderTransformer(4, max_epochs=5, random_state=0).fit(digits, X_val=noise)
    assert kept.net_.best_epoch_ == 0
    left = clone(kept).fit(digits[:1500], X_val=digits[1500:])
    assert left.net_.best_epoch_ > 0
    pca = PCA(4).fit(digits)
    assert kept.score(digits) == pytest.approx(pca.explained_variance_ratio_.sum())


def test_rows_out_of_core_are_all_trained_on(wine, monkeypatch):
    """Validation rows of the user are no rows of X, whatever their number."""
    monkeypatch.setattr("skae._data.dataset.MEMORY_BYTES", 1000)
    estimator = AutoencoderTransformer(3)
    started = estimator._start_fit(sparse.csr_array(wine[:100]), None, wine[100:])
    assert len(estimator._build(started).final_run().source) == 100


def test_sparse_rows_can_validate(quick_for_tables, wine):
    expected = clone(quick_for_tables).fit(wine[:100], X_val=wine[100:]).transform(wine)
    given = quick_for_tables.fit(wine[:100], X_val=sparse.csc_array(wine[100:]))
    assert np.array_equal(given.transform(wine), expected)


def test_a_pipeline_transforms_them(quick, raw_cancer):
    train, held_out = raw_cancer[:400], raw_cancer[400:]
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("code", clone(quick).set_fit_request(X_val=True))],
            transform_input=["X_val"],
        ).fit(train, X_val=held_out)
    scaler = StandardScaler().fit(train)
    quick.fit(scaler.transform(train), X_val=scaler.transform(held_out))
    rows = scaler.transform(raw_cancer)
    assert np.array_equal(pipeline[-1].transform(rows), quick.transform(rows))
    assert pipeline[-1].validation_loss_curve_ == quick.validation_loss_curve_


@pytest.mark.parametrize(
    ("X_val", "message"),
    [
        (np.ones((5, 12)), "X_val.*12 features.*13"),
        (np.full((5, 13), np.nan), "X_val.*NaN"),
        (np.empty((0, 13)), r"X_val.*0 sample\(s\)"),
        (np.ones(13), "X_val.*1D array"),
        ("validation", "X_val"),
    ],
)
def test_bad_ones_are_refused_by_name(quick, wine, X_val, message):
    with pytest.raises(ValueError, match=message):
        quick.fit(wine, X_val=X_val)
    with pytest.raises(NotFittedError):
        quick.transform(wine)


def test_they_must_be_values_that_the_loss_allows(digits):
    estimator = AutoencoderTransformer(2, anchor=None, loss="binary_cross_entropy", max_epochs=1)
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        estimator.fit(digits, X_val=digits * 16)
