"""Which rows are held out to validate the weights."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import fast
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import NeighborAutoencoder
from skae._data.dataset import Dataset
from skae._training.validation_split import hold_out

N_ROWS = 500


@pytest.fixture
def plain_split():
    return train_test_split(np.arange(N_ROWS), test_size=0.1, random_state=0)


def split(X):
    return hold_out(Dataset(X, X.mean(axis=0)), 0.1, 0)


@pytest.mark.parametrize("case", ["all vary", "one is constant", "most rows are alone"])
def test_rows_are_held_out_at_random(plain_split, case):
    X = np.random.default_rng(0).normal(size=(N_ROWS, 3))
    if case == "one is constant":
        X[:, 1] = 0.1
    elif case == "most rows are alone":
        X = np.eye(N_ROWS)
    for found, expected in zip(split(X), plain_split, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_only_row_in_which_a_feature_varies_is_trained_on(plain_split):
    X = np.random.default_rng(0).normal(size=(N_ROWS, 2))
    for i in range(0, N_ROWS, 5):
        alone = np.arange(N_ROWS)[:, None] == i
        train, held_out = split(np.hstack([X, alone]))
        np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(N_ROWS))
        np.testing.assert_array_equal(held_out, plain_split[1][plain_split[1] != i])


@pytest.mark.slow
def test_a_feature_that_varies_in_one_row_is_reconstructed_no_worse_than_by_pca(dense):
    # One training row alone has another value in pixel 31; random_state=6 would hold it out.
    train, test = train_test_split(load_digits().data, test_size=0.3, random_state=6)
    scaler = StandardScaler().fit(train)
    lit = scaler.transform(test[test[:, 31] > 0])
    train = scaler.transform(train)
    images = {"image_shape": (8, 8)} if "image_shape" in dense.get_params() else {}
    estimator = fast(dense, n_components=11, max_epochs=40, random_state=6, **images)
    if isinstance(dense, NeighborAutoencoder):  # no rows are held out, and maps have no floor
        estimator.set_params(neighbor_weight=0, early_stopping=True)
    if "prior_weight" in dense.get_params():  # a prior has no such rows
        estimator.set_params(prior_weight=0)
    if "views" in dense.get_params():  # whose decoders are smaller
        estimator.set_params(views=None)
    estimator.fit(train)
    pca = PCA(11, svd_solver="full").fit(train)
    lost = np.square(lit - pca.inverse_transform(pca.transform(lit))).sum()
    assert estimator.reconstruction_error(lit).sum() < lost
