"""Principal components of a dataset: which solver, and how precise it is."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import assert_close
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae._data import pca
from skae._data.dataset import Dataset

SHAPES = [
    (1000, 20, 5),
    (600, 501, 20),
    (600, 501, 450),
    (501, 60, 5),
    (700, 60, 5),
    (400, 400, 10),
    (20_000, 1500, 10),
]


def near_a_plane(n_rows, n_columns, dtype=np.float64, noise=0.05):
    random = np.random.default_rng(0)
    scales = 2.0 ** -np.arange(12)
    rows = (random.normal(size=(n_rows, 12)) * scales) @ random.normal(size=(12, n_columns))
    return (rows + noise * random.normal(size=rows.shape)).astype(dtype)


@pytest.mark.parametrize(("n_rows", "n_columns", "k"), SHAPES)
def test_the_randomized_solver_is_taken_where_pca_takes_it(n_rows, n_columns, k):
    rows = Dataset(np.broadcast_to(np.float32(0), (n_rows, n_columns)), np.zeros(n_columns))
    theirs = PCA(k)
    theirs._fit_full = lambda *args: "exact"
    theirs._fit_truncated = lambda *args: "randomized"
    solver = theirs._fit(rows.X)
    assert pca._is_randomized(rows, k) == (solver == "randomized")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(900, 800), (30, 900), (700, 65)], ids=str)
def test_the_linear_autoencoder_of_a_wide_table_is_pca(shape, dtype):
    X = near_a_plane(*shape, dtype)
    ours = AutoencoderTransformer(6, hidden_layer_sizes=(), random_state=3).fit(X)
    theirs = PCA(6, random_state=0).fit(X)
    tolerance = 1e-4 if dtype == np.float32 else 1e-6
    assert_close(ours.components_, theirs.components_, tolerance)
    assert_close(ours.explained_variance_, theirs.explained_variance_, tolerance)
    assert_close(ours.transform(X), theirs.transform(X), tolerance)


def test_the_randomized_solver_does_not_depend_on_random_state():
    X = near_a_plane(600, 520)
    first, second = (
        AutoencoderTransformer(4, hidden_layer_sizes=(), random_state=seed).fit(X).components_
        for seed in (0, 1)
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize("unit", [1e-22, 1e-12, 1.0, 1e12, 1e17])
def test_products_of_float32_neither_vanish_nor_overflow(unit):
    X = (unit * near_a_plane(12_000, 12)).astype(np.float32)
    rows = Dataset(X, X.mean(axis=0, dtype=float))
    exact = np.cov(X.astype(float).T, bias=True) * len(X)
    assert rows.is_tall
    assert_close(rows.scatter, exact, 1e-6)
    assert_close(rows.squares, np.trace(exact), 1e-6)


def test_a_small_residual_of_float32_rows_is_precise():
    X = near_a_plane(20_000, 20, np.float32, noise=1e-3)
    rows = Dataset(X, X.mean(axis=0, dtype=float))
    components = rows.principal_components(12)
    _, residual = rows.squares_along(components)
    centred = X.astype(float) - X.mean(axis=0, dtype=float)
    exact = np.square(centred - centred @ components.T @ components).sum()
    assert residual == pytest.approx(exact, rel=1e-5)


def test_a_mean_far_from_zero_costs_float32_no_more_than_its_own_rounding():
    X = (1e5 + near_a_plane(50_000, 8)).astype(np.float32)
    exact = X.astype(float)
    fitted = AutoencoderTransformer(3, hidden_layer_sizes=()).fit(X)
    np.testing.assert_allclose(fitted.mean_, exact.mean(axis=0), rtol=1e-7)
    expected = PCA(3, svd_solver="full").fit(exact)
    assert_close(fitted.explained_variance_, expected.explained_variance_, 1e-4)
    assert_close(np.abs(fitted.components_), np.abs(expected.components_), 1e-3)


def test_standardized_float32_rows_are_precise():
    X = (1e4 + near_a_plane(500, 8)).astype(np.float32)
    rows = Dataset(X, X.mean(axis=0, dtype=float), 0.7)
    single = rows.in_own_precision(slice(None))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, rows[:], rtol=3e-7, atol=1e-12)


def test_bounds_are_those_of_every_row():
    X = load_digits().data
    rows = Dataset(X, X.mean(axis=0), 2.0)
    expected = (np.array([X.min(axis=0), X.max(axis=0)]) - X.mean(axis=0)) / 2
    assert np.array_equal(rows.bounds(), expected)
    few = Dataset(X[:3], np.zeros(64))
    assert np.array_equal(few.bounds(), [X[:3].min(axis=0), X[:3].max(axis=0)])
