"""The imputer of mixed tables, where scikit-learn's imputers stand."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import check_estimator

from skae import AutoencoderImputer, TableAutoencoder

FAST = {"max_epochs": 2, "column_layer_sizes": 8, "n_networks": 2, "random_state": 0}
MAKE = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}
LIBRARIES = pytest.mark.parametrize("library", MAKE)


def quick(**params):
    return AutoencoderImputer(**{**FAST, **params})


@pytest.fixture(scope="module")
def numbers():
    """Iris with a fifth of two columns missing."""
    X = load_iris().data.copy()
    random = np.random.default_rng(0)
    for j in (1, 2):
        X[random.random(150) < 0.2, j] = np.nan
    return X


@pytest.fixture(scope="module")
def mixed(numbers):
    frame = pd.DataFrame(numbers, columns=list("abcd"))
    frame["kind"] = pd.Series(np.where(numbers[:, 3] > 1, "wide", "narrow")).mask(
        np.arange(150) % 7 == 0
    )
    frame["day"] = pd.to_datetime("2020-01-01") + pd.to_timedelta(np.arange(150), "D")
    return frame.set_index(np.arange(150) * 2)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"add_indicator": True},
        {"sample_posterior": True, "handle_unknown": "infrequent_if_exist"},
        {"add_indicator": True, "categorical_features": [0], "max_categories": 3},
    ],
    ids=str,
)
def test_scikit_learns_checks_pass_without_exception(params):
    results = check_estimator(quick(**params), on_skip=None, on_fail=None)
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"] == []
    skipped = {r["check_name"] for r in results if r["status"] not in ("passed", "failed")}
    assert skipped <= {"check_array_api_input"}


# -- what is filled ----------------------------------------------------------------


def test_gaps_are_filled_as_the_table_autoencoder_fills_them(mixed):
    filled = quick().fit_transform(mixed)
    table = TableAutoencoder(hidden_layer_sizes=(), **FAST).fit(mixed)
    pd.testing.assert_frame_equal(filled, table.impute(mixed))
    assert not filled.isna().any(axis=None)


def test_observed_cells_stay_and_means_lie_in_the_training_range(numbers):
    filled = quick().fit_transform(numbers)
    known = ~np.isnan(numbers)
    assert np.array_equal(filled[known], numbers[known])
    assert (filled >= np.nanmin(numbers, axis=0)).all()
    assert (filled <= np.nanmax(numbers, axis=0)).all()


def test_it_fills_better_than_means(numbers):
    truth, gaps = load_iris().data, np.isnan(numbers)
    filled = AutoencoderImputer(random_state=0, n_networks=2, max_epochs=60).fit_transform(numbers)
    means = SimpleImputer().fit_transform(numbers)
    error, of_means = (np.abs(X - truth)[gaps].mean() for X in (filled, means))
    assert error < 0.6 * of_means


def test_draws_repeat_and_are_values_of_training(numbers):
    imputer = quick(sample_posterior=True).fit(numbers)
    filled = imputer.transform(numbers)
    assert np.array_equal(filled, imputer.transform(numbers))
    assert not np.array_equal(filled, quick(sample_posterior=False).fit_transform(numbers))
    other = quick(sample_posterior=True, random_state=1).fit_transform(numbers)
    assert not np.array_equal(filled, other)
    for j in range(4):
        assert set(filled[:, j]) <= set(numbers[:, j])


def test_rows_may_come_one_by_one(mixed):
    imputer = quick().fit(mixed)
    singly = pd.concat([imputer.transform(mixed[i : i + 1]) for i in range(30)])
    pd.testing.assert_frame_equal(singly, imputer.transform(mixed[:30]), rtol=1e-5)


def test_gaps_where_fit_had_none(numbers):
    imputer = quick(add_indicator=True).fit(numbers)
    X = numbers.copy()
    X[:5, 0] = np.nan
    filled = imputer.transform(X)
    assert filled.shape == (150, 6)
    assert not np.isnan(filled).any()


def test_empty_columns_stay(numbers):
    X = np.column_stack([numbers, np.full(150, np.nan)])
    filled = quick().fit_transform(X)
    assert filled.shape == (150, 5)
    assert np.isnan(filled[:, 4]).all()
    assert not np.isnan(filled[:, :4]).any()
    X[:, 4] = 1.0
    assert (quick().fit(np.column_stack([numbers, np.full(150, np.nan)])).transform(X) == 1)[
        :, 4
    ].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("add_indicator", [False, True])
def test_the_dtype_of_an_array_is_kept(numbers, dtype, add_indicator):
    imputer = quick(add_indicator=add_indicator)
    assert imputer.fit_transform(numbers.astype(dtype)).dtype == dtype
    whole = np.nan_to_num(numbers).astype(int)
    assert imputer.fit_transform(whole).dtype == int


def test_the_callers_rows_are_left_alone(mixed, numbers):
    kept, rows = mixed.copy(), numbers.copy()
    quick(add_indicator=True).set_output(transform="pandas").fit_transform(mixed)
    quick(add_indicator=True).fit_transform(numbers)
    pd.testing.assert_frame_equal(mixed, kept)
    assert np.array_equal(rows, numbers, equal_nan=True)


# -- indicators and names ----------------------------------------------------------


def test_indicators_are_those_of_the_iterative_imputer(numbers):
    imputer = quick(add_indicator=True).fit(numbers)
    theirs = IterativeImputer(add_indicator=True, max_iter=1).fit(numbers)
    assert np.array_equal(imputer.transform(numbers)[:, 4:], theirs.transform(numbers)[:, 4:])
    assert list(imputer.get_feature_names_out()) == list(theirs.get_feature_names_out())
    names = list("pqrs")
    assert list(imputer.get_feature_names_out(names)) == list(theirs.get_feature_names_out(names))
    assert quick().fit(numbers).indicator_ is None


@LIBRARIES
def test_indicators_are_columns_of_the_frame(library, mixed):
    X = MAKE[library](mixed)
    imputer = quick(add_indicator=True).fit(X)
    filled = imputer.transform(X)
    assert type(filled) is type(X)
    as_frame = filled if library == "pandas" else filled.to_pandas()
    names = [*mixed.columns, *(f"missingindicator_{name}" for name in ("b", "c", "kind"))]
    assert list(as_frame.columns) == names == list(imputer.get_feature_names_out())
    for name in ("b", "c", "kind"):
        indicator = as_frame[f"missingindicator_{name}"].to_numpy()
        assert indicator.dtype == np.float64
        assert np.array_equal(indicator, mixed[name].isna().to_numpy())
    if library == "pandas":
        assert filled.index.equals(mixed.index)
        assert (filled.dtypes[: mixed.shape[1]] == mixed.dtypes).all()


def test_unknown_categories_are_kept_and_no_gaps(mixed):
    filled = quick(add_indicator=True).fit(mixed).transform(mixed[:3].assign(kind="new"))
    assert list(filled["kind"]) == ["new"] * 3
    assert not filled["missingindicator_kind"].any()


def test_indicators_beside_objects(mixed):
    X = mixed.drop(columns="day").astype(object).to_numpy()
    filled = quick(add_indicator=True).fit_transform(X)
    assert filled.dtype == object
    assert filled.shape == (150, 8)
    assert set(filled[:, 5:].ravel()) == {0.0, 1.0}


def test_names_that_are_no_text_become_text_with_indicators(numbers):
    frame = pd.DataFrame(numbers)
    assert list(quick().fit_transform(frame).columns) == [0, 1, 2, 3]
    filled = quick(add_indicator=True).fit_transform(frame)
    names = ["x0", "x1", "x2", "x3", "missingindicator_x1", "missingindicator_x2"]
    assert list(filled.columns) == names


def test_names_that_an_indicator_takes_are_refused(mixed):
    X = mixed.rename(columns={"a": "missingindicator_b"})
    with pytest.raises(ValueError, match="several columns named 'missingindicator_b'"):
        quick(add_indicator=True).fit_transform(X)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
@pytest.mark.parametrize("library", [*MAKE, "array", "numbers"])
@pytest.mark.parametrize("add_indicator", [False, True])
def test_set_output(library, output, add_indicator, mixed, numbers):
    if library == "numbers":
        X = numbers
    elif library == "array":
        X = mixed.drop(columns="day").astype(object).to_numpy()
    else:
        X = MAKE[library](mixed)
    imputer = quick(add_indicator=add_indicator).set_output(transform=output).fit(X)
    filled = imputer.transform(X)
    kinds = {"default": type(X), "pandas": pd.DataFrame, "polars": pl.DataFrame}
    assert type(filled) is kinds[output]
    if output == "default":
        return
    assert list(filled.columns) == list(imputer.get_feature_names_out())
    first = filled[filled.columns[0]]
    assert first.dtype in (np.float64, pl.Float64)
    assert np.array_equal(first.to_numpy(), numbers[:, 0])
    if library not in ("array", "numbers"):
        assert filled["day"].dtype in (mixed["day"].dtype, pl.Datetime("us"), pl.Datetime("ns"))
    if library == "pandas" and output == "pandas":
        assert filled.index.equals(mixed.index)


# -- where scikit-learn's imputers stand -------------------------------------------


def test_in_a_pipeline_and_a_search(numbers):
    y = load_iris().target
    pipeline = make_pipeline(quick(), LogisticRegression(max_iter=200))
    grid = {"autoencoderimputer__add_indicator": [False, True]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(numbers, y)
    assert search.best_score_ > 0.85
    assert cross_val_score(pipeline, numbers, y, cv=3, error_score="raise").mean() > 0.85


def test_in_a_column_transformer(mixed):
    y = np.arange(150) < 75
    columns = ColumnTransformer(
        [
            ("numbers", quick(add_indicator=True), make_column_selector(dtype_include="number")),
            ("text", make_pipeline(quick(), OneHotEncoder()), ["kind"]),
        ]
    )
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=200)).fit(mixed, y)
    assert pipeline.score(mixed, y) > 0.7
    names = list(columns.fit(mixed).get_feature_names_out())
    assert names[:6] == [
        *(f"numbers__{name}" for name in "abcd"),
        "numbers__missingindicator_b",
        "numbers__missingindicator_c",
    ]
    assert names[6:] == ["text__kind_narrow", "text__kind_wide"]


def test_copies_answer_with_the_same_bits(mixed):
    imputer = quick(add_indicator=True, sample_posterior=True).fit(mixed)
    copied = pickle.loads(pickle.dumps(imputer))
    assert copied.transform(mixed).equals(imputer.transform(mixed))
    again = clone(imputer).fit(mixed)
    assert again.transform(mixed).equals(imputer.transform(mixed))


def test_other_columns_are_refused(mixed):
    imputer = quick().fit(mixed)
    with pytest.raises(ValueError, match="same order"):
        imputer.transform(mixed[mixed.columns[::-1]])
    with pytest.raises(ValueError, match="held numbers in fit"):
        imputer.transform(mixed.assign(a="x"))
    with pytest.raises(NotFittedError):
        quick().transform(mixed)
    with pytest.raises(NotFittedError):
        quick().get_feature_names_out()
    with pytest.raises(ValueError, match="add_indicator"):
        quick(add_indicator="yes").fit(mixed)
