"""Sparse rows and rows on disk: the same rows as dense ones in memory."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ESTIMATORS, assert_close, is_dense, name_of, takes_tables
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline

from skae import AutoencoderTransformer
from skae._data import dataset
from skae._data.dataset import Dataset, constant_columns
from skae._data.sample_weight import weighted_mean
from skae._latent import n_components

CONTAINERS = [
    sparse.csr_matrix,
    sparse.csc_matrix,
    sparse.csr_array,
    sparse.csc_array,
    sparse.coo_array,
]


@pytest.fixture(scope="module")
def thin(digits):
    """Digits with small values set to zero, so that more than half of the entries are zero."""
    return np.where(digits > 0.7, digits, 0.0)[:700]


@pytest.fixture
def out_of_core(monkeypatch):
    for module in (dataset, n_components):
        monkeypatch.setattr(module, "MEMORY_BYTES", 100_000)


# -- sparse ------------------------------------------------------------------------


def test_sparse_rows_are_the_dense_rows(quick_for_tables, thin):
    quick = quick_for_tables
    dense = clone(quick).fit(thin)
    likelihood = ["score_samples"] if is_dense(quick) else []
    for container in CONTAINERS:
        X = container(thin)
        before = X.copy()
        quick.fit(X)
        for method in ["transform", "reconstruct", "reconstruction_error", *likelihood]:
            result = getattr(quick, method)(X)
            assert isinstance(result, np.ndarray)
            assert_close(result, getattr(dense, method)(thin), 1e-4)
            assert np.array_equal(result, getattr(quick, method)(thin))
        assert quick.score(X) == quick.score(thin)
        assert quick.score(X) == pytest.approx(dense.score(thin), abs=1e-5)
        assert (before != X).nnz == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.bool_])
def test_sparse_numbers_of_any_type(quick_for_tables, thin, dtype):
    quick = quick_for_tables
    X = sparse.csr_array(np.round(4 * thin).astype(dtype))
    Z = quick.fit_transform(X)
    assert Z.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert_close(Z, quick.transform(X.toarray()), 1e-6)


def test_entries_that_are_given_twice_add_up(quick_for_tables, thin):
    quick = quick_for_tables
    rows, columns = np.nonzero(thin)
    halves = np.tile(thin[rows, columns] / 2, 2)
    twice = sparse.coo_array((halves, (np.tile(rows, 2), np.tile(columns, 2))), thin.shape)
    unsorted = sparse.csr_array(thin)
    unsorted.indices, unsorted.data = unsorted.indices.copy(), unsorted.data.copy()
    first = slice(unsorted.indptr[0], unsorted.indptr[1])
    unsorted.indices[first] = unsorted.indices[first][::-1]
    unsorted.data[first] = unsorted.data[first][::-1]
    unsorted.has_sorted_indices = unsorted.has_canonical_format = False
    expected = clone(quick).fit_transform(sparse.csr_array(thin))
    for X in (twice.tocsr(), unsorted):
        assert_close(clone(quick).fit_transform(X), expected, 1e-6)


def test_statistics_of_sparse_rows_are_those_of_dense_ones(thin):
    weights = np.random.default_rng(0).uniform(size=len(thin))
    X = sparse.csr_array(thin)
    assert np.array_equal(constant_columns(X), constant_columns(thin))
    for w in (None, weights):
        assert_close(weighted_mean(X, w), weighted_mean(thin, w), 1e-12)


def test_after_a_vectorizer():
    texts = [
        f"{'red' if i % 2 else 'blue'} {'cat' if i % 3 else 'dog'} number{i}" for i in range(90)
    ]
    estimator = AutoencoderTransformer(3, max_epochs=3, random_state=0)
    Z = make_pipeline(CountVectorizer(), estimator).fit_transform(texts)
    assert Z.shape == (90, 3)
    assert np.isfinite(Z).all()


# -- out of core ---------------------------------------------------------------------


def outside(X, make, tmp_path):
    """Rows that are sparse or on disk."""
    if make == "sparse":
        return sparse.csr_array(X)
    mapped = np.memmap(tmp_path / "rows", dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    mapped.flush()
    return np.memmap(tmp_path / "rows", dtype=X.dtype, mode="r", shape=X.shape)


both = pytest.mark.parametrize("make", ["sparse", "memory map"])


@both
@pytest.mark.usefixtures("out_of_core")
@pytest.mark.parametrize("weighted", [False, True])
def test_the_anchor_out_of_core_is_pcas(thin, make, weighted, tmp_path):
    weights = np.random.default_rng(0).integers(1, 4, size=len(thin)).astype(float)
    mean = np.average(thin, axis=0, weights=weights if weighted else None)
    rows = Dataset(outside(thin, make, tmp_path), mean, 2.0, weights if weighted else None)
    assert rows.is_out_of_core
    repeated = np.repeat(thin, weights.astype(int), axis=0) if weighted else thin
    expected = PCA(5, svd_solver="full").fit(repeated).components_
    found = rows.principal_components(5)
    assert_close(np.abs(found @ expected.T), np.eye(5), 1e-9)


@both
@pytest.mark.usefixtures("out_of_core")
@pytest.mark.parametrize("n_components", [None, 64])
def test_all_components_out_of_core_are_refused_by_name(thin, make, n_components, tmp_path):
    X = outside(thin, make, tmp_path)
    with pytest.raises(ValueError, match=r"n_components=64.*ARPACK.*anchor=None"):
        AutoencoderTransformer(n_components, max_epochs=1).fit(X)
    AutoencoderTransformer(n_components, anchor=None, max_epochs=1).fit(X)


@pytest.fixture(scope="module", params=ESTIMATORS, ids=name_of)
def inside(request, digits):
    """Every kind, fitted to rows in memory."""
    return clone(request.param).set_params(n_components=6, max_epochs=8).fit(digits[:700])


@pytest.mark.slow
@both
def test_training_out_of_core_is_as_good_as_in_memory(inside, digits, make, tmp_path, monkeypatch):
    if make == "sparse" and not takes_tables(inside):
        pytest.skip(f"{name_of(inside)} takes no sparse rows")
    kind = clone(inside)
    monkeypatch.setattr(dataset, "MEMORY_BYTES", 1000)
    X = outside(digits[:700], make, tmp_path)
    again = clone(kind).fit(X)
    kind.fit(X)
    assert np.array_equal(kind.transform(X), again.transform(digits[:700]))
    lost = [e.reconstruction_error(digits[700:]).mean() for e in (inside, kind)]
    assert lost[1] == pytest.approx(lost[0], rel=0.05)


@pytest.mark.usefixtures("out_of_core")
@pytest.mark.parametrize(
    "params",
    [{"early_stopping": False}, {"n_components": 0.5}, {"lr_schedule": "constant"}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_ways_to_fit_out_of_core(quick_for_tables, thin, params):
    quick = quick_for_tables
    X = sparse.csr_array(thin)
    if not is_dense(quick) and "n_components" in params:
        params = {"n_components": None}
    quick.set_params(**params).fit(X, sample_weight=np.arange(len(thin)) % 3)
    assert np.isfinite(quick.transform(X)).all()
    assert quick.n_samples_ == (np.arange(len(thin)) % 3).sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32])
def test_numbers_on_disk_of_any_type(quick, digits, dtype, tmp_path):
    X = (digits[:300] * 16).astype(dtype)
    expected = clone(quick).fit_transform(X)
    mapped = outside(X, "memory map", tmp_path)
    assert_close(quick.fit_transform(mapped), expected, 1e-5)
    assert_close(quick.transform(mapped[10:20]), expected[10:20], 1e-5)
    assert quick.score(mapped) == pytest.approx(quick.score(X.astype(float)), abs=1e-5)


def test_numbers_on_disk_that_are_not_finite_are_refused(quick, wine, tmp_path):
    X = wine.copy()
    X[5, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        quick.fit(outside(X, "memory map", tmp_path))
