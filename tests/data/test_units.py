"""Rows that are held out together: groups, exact copies and near copies."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import euclidean_distances

from skae._data.dataset import Dataset
from skae._data.units import check_groups, exact_copies, merged


def dataset(X, groups=None):
    rows = Dataset(X, np.zeros(X.shape[1]))
    rows.groups = None if groups is None else np.asarray(groups)
    return rows


def mapped(X, path):
    np.save(path / "X.npy", X)
    return np.load(path / "X.npy", mmap_mode="r")


FORMS = {
    "float64": lambda X, path: X,
    "float32": lambda X, path: X.astype(np.float32),
    "CSR": lambda X, path: sparse.csr_array(X),
    "tensor": lambda X, path: torch.from_numpy(X),
    "memory map": mapped,
}


@pytest.mark.parametrize("form", FORMS)
def test_equal_rows_share_a_label(form, tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 3)).round(1)
    X = np.concatenate([X, X[10:20], X[10:15]])
    X[55, 0] = -0.0  # equals zero
    X[5, 0], X[5, 1:] = 0.0, X[55, 1:]
    labels = exact_copies(FORMS[form](X, tmp_path))
    equal = (X[:, None] == X[None]).all(axis=2)
    assert np.array_equal(labels[:, None] == labels[None], equal)


def test_rows_of_a_coarse_grid_agree_by_chance():
    random = np.random.default_rng(0)
    answers = random.integers(4, size=(300, 4)).astype(float)  # 256 possible rows
    assert dataset(answers).units is None
    fine = random.normal(size=(60, 4)).round(1)
    assert dataset(np.repeat(fine, 5, axis=0)).n_units == 60


def test_rows_that_differ_have_no_copies(cancer):
    assert exact_copies(cancer) is None
    assert exact_copies(cancer * 1e6 + 1e9) is None
    assert exact_copies(cancer[:1]) is None


def test_rows_with_missing_values_can_be_copies():
    X = np.array([[1.0, np.nan], [2.0, 3.0], [1.0, np.nan], [np.nan, 1.0]])
    labels = exact_copies(X)
    assert labels[0] == labels[2]
    assert len(set(labels.tolist())) == 3


def test_equal_projections_are_not_enough():
    X = np.array([[0.0, 0.0], [0.0, 1e-13], [0.0, 0.0], [5.0, 5.0]])
    labels = exact_copies(X)
    assert labels[0] == labels[2]
    assert len(set(labels.tolist())) == 3


@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize("noise", [1e-3, 1e-2])
def test_near_copies_are_one_unit(wine, times, noise):
    groups = np.repeat(np.arange(len(wine)), times)
    X = wine[groups] + noise * np.random.default_rng(0).normal(size=(len(groups), 13))
    rows = dataset(X)
    assert rows.n_units == len(wine)
    assert rows.n_copies == times
    assert np.array_equal(rows.units[:, None] == rows.units, groups[:, None] == groups)


def test_ordinary_tables_have_no_near_copies(cancer, wine, digits, recwarn):
    tables = [cancer, wine, digits, load_diabetes().data, np.unique(load_iris().data, axis=0)]
    tables.append(np.random.default_rng(0).standard_cauchy(size=(500, 2)))
    t = np.linspace(0, 1, 400)[:, None]  # neighbours on a curve are almost on lines
    tables.append(np.hstack([t, t**2, np.sin(5 * t)]))
    tables.append(np.stack(np.meshgrid(*[np.arange(5.0)] * 4), axis=-1).reshape(-1, 4))
    for X in tables:
        assert dataset(X).units is None
    assert len(recwarn) == 0


def test_rows_between_others_are_reported(wine):
    random = np.random.default_rng(0)
    first = random.integers(len(wine), size=300)
    neighbors = euclidean_distances(wine).argsort(axis=1)[:, 1:6]  # as SMOTE does
    second = neighbors[first, random.integers(5, size=300)]
    X = np.concatenate([wine, wine[first] + random.random((300, 1)) * (wine[second] - wine[first])])
    with pytest.warns(UserWarning, match="Pass groups="):
        assert dataset(X).units is None
    dataset(X, np.arange(len(X))).units  # noqa: B018  (groups are the remedy: no warning)


def test_groups_that_share_a_copy_are_merged():
    groups = np.array([0, 0, 1, 2, 2, 3, 4, 5])
    assert merged(groups, np.array([0, 1, 1, 2, 3, 4, 5, 6])).tolist() == [0, 0, 0, 1, 1, 2, 3, 4]
    X = np.arange(16.0).reshape(8, 2)
    X[2] = X[1]
    assert dataset(X, groups).n_units == 5
    X[:] = X[0]  # merging would leave one unit
    assert np.array_equal(dataset(X, groups).units, groups)


def test_some_rows_keep_their_labels():
    X = np.arange(12.0).reshape(6, 2)
    rows = dataset(X, [0, 0, 1, 1, 2, 2])
    assert rows.subset(np.array([0, 2, 3])).units.tolist() == [0, 1, 1]
    assert rows.units_of(np.array([5])).tolist() == [2]


def test_groups_are_checked():
    X = np.zeros((3, 2))
    assert check_groups(None, X) is None
    assert check_groups(["b", "a", "b"], X).tolist() == [1, 0, 1]
    assert check_groups([[1], [2], [1]], X).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="inconsistent"):
        check_groups([1, 2], X)
    for groups in (1, np.zeros((3, 2))):
        with pytest.raises(ValueError, match=r"groups of shape .* one label a row"):
            check_groups(groups, X)
    for missing in ([1.0, np.nan, 2.0], np.array(["a", None, "b"], dtype=object)):
        with pytest.raises(ValueError, match="groups has missing values"):
            check_groups(missing, X)


@pytest.mark.slow
def test_labels_do_not_depend_on_the_process(tmp_path):
    """Python's hash of bytes differs between processes; labels decide which rows are held out."""
    X = np.repeat(load_diabetes().data[:60], 3, axis=0)[np.random.default_rng(0).permutation(180)]
    np.save(tmp_path / "rows.npy", X)
    code = (
        "import sys, numpy as np\n"
        "from skae._data.units import exact_copies\n"
        "print(exact_copies(np.load(sys.argv[1])).tolist())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "rows.npy"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    labels = exact_copies(X)
    first = np.unique(labels, return_index=True)[1]
    assert (np.diff(first) > 0).all()  # numbered in the order of their first rows
