"""`Dataset`: standardized rows, block by block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA

from skae._data import dtypes_and_batch_sizes
from skae._data.dataset import Dataset, constant_columns


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 rows, the least that rows_per_batch gives."""
    monkeypatch.setattr(dtypes_and_batch_sizes, "BATCH_BYTES", 1)


def make_rows(n_rows=700, n_features=5, dtype=np.float64):
    X = np.random.default_rng(0).normal(3, 2, size=(n_rows, n_features)).astype(dtype)
    return Dataset(X, X.mean(axis=0, dtype=np.float64), 2.5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_tensors_and_subsets_are_the_same_rows(dtype):
    rows = make_rows(dtype=dtype)
    expected = (rows.X - rows.center) / rows.scale
    assert len(list(rows.blocks())) > 5
    np.testing.assert_array_equal(np.concatenate(list(rows.blocks())), expected)
    index = np.random.default_rng(1).permutation(len(rows))[:200]
    np.testing.assert_array_equal(rows.tensor(index, torch.float64), expected[index])
    np.testing.assert_array_equal(
        rows.tensor(index, torch.float32), expected[index].astype(np.float32)
    )
    np.testing.assert_array_equal(rows.subset(index)[:], expected[index])


def test_the_array_is_not_written_to():
    rows = make_rows()
    rows.X.setflags(write=False)
    before = rows.X.copy()
    rows.principal_components(2)
    rows.root_mean_square()
    rows.squares_along(np.eye(2, 5))
    np.testing.assert_array_equal(rows.X, before)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_rows", [40, 25_000], ids=["few", "many"])
def test_moments_are_those_of_all_rows(n_rows):
    rows = make_rows(n_rows)
    dense = rows[:]
    assert rows.is_tall is (n_rows > 40)
    assert rows.root_mean_square() == pytest.approx(np.sqrt(np.square(dense).mean()))
    np.testing.assert_allclose(rows.scatter, dense.T @ dense)
    pca = PCA(3, svd_solver="full").fit(dense)
    np.testing.assert_allclose(rows.principal_components(3), pca.components_, atol=1e-9)
    along, left = rows.squares_along(pca.components_)
    np.testing.assert_allclose(along, pca.explained_variance_ * (n_rows - 1))
    assert left == pytest.approx(2 * pca.noise_variance_ * (n_rows - 1))


def test_another_scale_rescales_the_moments():
    rows = make_rows(25_000)
    rows.scatter  # noqa: B018  # computed once
    other = rows.with_scale(5.0)
    assert "scatter" in vars(other)
    np.testing.assert_allclose(other.scatter, Dataset(rows.X, rows.center, 5.0).scatter)


@pytest.mark.parametrize("size", [1e-200, 1e200])
@pytest.mark.parametrize("n_rows", [40, 25_000], ids=["few", "many"])
def test_extreme_units_neither_overflow_nor_vanish(size, n_rows):
    X = make_rows(n_rows).X * size
    rows = Dataset(X, X.mean(axis=0))
    rows = rows.with_scale(rows.root_mean_square())
    assert rows.scale / size == pytest.approx(2, rel=0.2)
    components = rows.principal_components(2)
    np.testing.assert_allclose(components @ components.T, np.eye(2), atol=1e-12)


@pytest.mark.parametrize("n_rows", [1, 3, 30_000])
def test_rows_that_are_all_equal_have_no_components(n_rows):
    rows = Dataset(np.ones((n_rows, 4)), np.ones(4))
    assert rows.root_mean_square() == 1.0
    assert not rows.principal_components(2).any()


@pytest.mark.parametrize("n_rows", [200, 30_000], ids=["few", "many"])
def test_constant_columns_take_no_part_in_components(n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 4))
    X[:, 2] = 0.1
    components = Dataset(X, np.where([0, 0, 1, 0], X[0], X.mean(axis=0))).principal_components(3)
    assert not components[:, 2].any()
    np.testing.assert_allclose(components @ components.T, np.eye(3), atol=1e-12)


def test_components_beyond_rows_and_features_are_zero():
    rows = make_rows(n_rows=3, n_features=4)
    components = rows.principal_components(6)
    assert components.shape == (6, 4)
    assert not components[3:].any()


def test_second_moments_are_used_only_for_many_rows():
    X = load_breast_cancer().data
    assert not Dataset(X, X.mean(axis=0)).is_tall
    assert Dataset(np.broadcast_to(0.0, (100_000, 30)), np.zeros(30)).is_tall


@pytest.mark.usefixtures("small_blocks")
def test_columns_are_constant_only_if_all_rows_agree():
    X = np.ones((500, 4))
    X[499, 1] = 2.0
    X[0, 2] = 0.0
    np.testing.assert_array_equal(constant_columns(X), [True, False, False, True])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_the_first_rows_to_vary_are_found(form):
    X = np.ones((500, 5))
    X[[1, 3, 4], 0] = 0.0  # in rows of both kinds
    X[[7, 499], 1] = 2.0  # in others alone
    X[9, 2:4] = 3.0
    X[2, 4] = 4.0
    rows, index = Dataset(form(X), np.zeros(5)), np.arange(500)
    others = index[1::2]
    np.testing.assert_array_equal(rows.first_varying_rows(index[::2], others), [7, 9])
    np.testing.assert_array_equal(rows.first_varying_rows(index[::2], others[::-1]), [499, 9])
    assert len(rows.first_varying_rows(index, index)) == 0


def test_evenly_spaced_rows_are_chosen_once():
    rows = make_rows(n_rows=10)
    np.testing.assert_array_equal(rows.evenly_spaced(20), np.arange(10))
    np.testing.assert_array_equal(rows.evenly_spaced(4), [0, 3, 6, 9])
