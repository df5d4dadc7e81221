"""Errors name value and remedy, and do not change a fitted estimator."""

from __future__ import annotations

import math
import warnings

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import ESTIMATORS, Fail, is_dense, make_fast, name_of, takes_tables
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from skae import (
    AutoencoderClassifier,
    AutoencoderRegressor,
    AutoencoderTransformer,
    LatentDimensionSearch,
    SparseAutoencoder,
)

METHODS = ["transform", "inverse_transform", "reconstruct", "reconstruction_error", "score"]
ON_ROWS = ["fit", "fit_transform", "transform", "reconstruct", "reconstruction_error", "score"]


def with_value(value):
    X = np.random.default_rng(0).normal(size=(40, 13))
    X[3, 5] = value
    return X


BAD_ROWS = {
    "NaN": (with_value(np.nan), ValueError, "contains NaN"),
    "infinity": (with_value(np.inf), ValueError, "contains infinity"),
    "1-D": (np.arange(13.0), ValueError, "Expected 2D array, got 1D array"),
    "3-D": (np.ones((4, 13, 2)), ValueError, "3"),
    "no rows": (np.empty((0, 13)), ValueError, r"0 sample\(s\)"),
    "no columns": (np.empty((4, 0)), ValueError, r"0 feature\(s\)"),
    "strings": (np.full((4, 13), "a"), ValueError, "could not convert string to float|dtype"),
    "objects": (pd.DataFrame({"x": ["a", "b"]}), ValueError, "could not convert string to float"),
    "complex": (np.ones((4, 13)) * 1j, ValueError, "Complex data not supported"),
    "sparse NaN": (sparse.csr_matrix(with_value(np.nan)), ValueError, "contains NaN"),
    "scalar": (3.0, ValueError, "Expected 2D array, got scalar"),
}
NO_CODES = {"no columns", "3-D", "objects", "sparse NaN"}
# Values that a parameter does not admit.
BAD_VALUES = {
    "n_components": [0, -1, 0.0, 1.0, 1.5, "two"],
    "hidden_layer_sizes": [0, -3, "wide", (8, 0), (8.5,), ("a",), None],
    "activation": ["swish", None, 3],
    "anchor": ["lda", True],
    "loss": ["mse", None],
    "target_weight": [-1, math.inf, "auto", None],
    "stochastic_depth": [-0.1, 1.1, "none", None],
    "whiten": ["yes", None],
    "latent_density": ["mixture", None, 3],
    "likelihood": ["normal", None],
    "observation_variance": ["one", None, 0.1],
    "beta": [-1, math.inf, "auto"],
    "sparsity": ["l0", None],
    "n_active": [0, -1, 1.5, 0.0, "all", None],
    "transform_n_active": [0, -1, 1.5, 0.0, "all"],
    "rho": [0, 1, -0.1, "auto"],
    "sparse_output": ["yes", None],
    "kl_warmup": [-1, 0.5, None],
    "free_bits": [-0.1, None],
    "network": ["mlp", 3],
    "optimizer": ["lbfgs", None],
    "lr": [0, -1, "auto", math.nan, math.inf],
    "lr_schedule": ["cosine", None],
    "weight_decay": [-1, "none", math.inf],
    "batch_size": [0, "all", 2.5],
    "max_epochs": [0, "many", 2.5],
    "early_stopping": ["yes", None],
    "validation_fraction": [0, 1, 1.2, "a"],
    "n_iter_no_change": [0, 2.5],
    "tol": [-1, "small"],
    "callbacks": [3, "early_stopping"],
    "device": [0, None],
    "random_state": ["a", -1, 0.5],
    "warm_start": ["yes", None],
    "verbose": ["loud", -1],
    "noise": ["pink", None, 0.3],
    "noise_level": [-0.1, 1.5, "some"],
    "emphasis": [0, -1, None],
    "image_shape": ["square", 3, (4, 0), (2, 3), (1, 13, 1, 1), (2.5, 4)],
    "layout": ["first", None],
    "channels": [0, 2.5, "many", None],
    "kernel_size": [0, 2, 15, "large", None],
    "patch_size": [0, 14, 2.5, "small", None],
    "n_blocks": [-1, 0.5, "many", None],
    "faces": [3, "all"],
    "edges": [3, "ring", None],
    "align": ["yes", None],
    "n_clusters": [0, 14, 2.5, "many", None],
    "n_channels": [0, 2.5, None],
    "order": [0, 2.5, None],
    "mixed_precision": ["half", None],
    "pretraining": ["layers", True, 3],
    "fine_tune": ["yes", None],
    "n_neighbors": [0, -1, 2.5, "all", None],
    "neighbor_weight": [-1, math.inf, "auto", None],
    "min_dist": [-0.1, 3.5, math.nan, None],
    "views": [2, "halves"],
    "n_private": [-1, 0.5, None],
    "scale_views": ["yes", None],
    "view_dropout": [-0.1, 1.1, None],
    "experts": ["average", True],
    "prior": ["gaussian", 1, None],
    "prior_weight": [-1, math.nan, "auto", None],
}
# Parameters that take a number: no boolean is one.
NUMBERS = {"n_components", "hidden_layer_sizes", "batch_size", "max_epochs", "n_iter_no_change"}
NUMBERS |= {"n_active", "transform_n_active", "kl_warmup", "lr", "weight_decay", "tol"}
NUMBERS |= {"channels", "kernel_size", "patch_size", "n_blocks", "n_clusters", "n_channels"}
NUMBERS |= {"order"}
NUMBERS |= {"validation_fraction", "beta", "rho", "free_bits", "noise_level", "emphasis"}
NUMBERS |= {"n_neighbors", "neighbor_weight", "min_dist", "n_private", "view_dropout"}
NUMBERS |= {"prior_weight"}
ADMITTED = [  # by one kind, though not by others
    ("StackedAutoencoder", "noise", None),
    ("StackedAutoencoder", "noise_level", 1.5),  # of no noise
    ("NeighborAutoencoder", "noise_level", 1.5),  # in standard deviations
    ("ConvolutionalAutoencoder", "noise", None),
    ("ConvolutionalAutoencoder", "noise_level", 1.5),
    ("MeshAutoencoder", "noise", None),
    ("MeshAutoencoder", "noise_level", 1.5),  # of no noise
]


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(1).normal(size=(60, 13))


@pytest.fixture(scope="module", params=ESTIMATORS, ids=name_of)
def fitted(request, rows):
    return clone(request.param).set_params(max_epochs=3).fit(rows)


def text_of(call):
    """Message of the error that a call raises."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return str(caught.value)


# -- rows --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("method", ON_ROWS)
@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_get_scikit_learns_errors(fitted, method, case):
    X, error, message = BAD_ROWS[case]
    if sparse.issparse(X) and not takes_tables(fitted):
        error, message = TypeError, "sparse csr_matrix.*pass X.toarray"
    estimator = clone(fitted) if method.startswith("fit") else fitted
    with pytest.raises(error, match=message):
        getattr(estimator, method)(X)


@pytest.mark.parametrize("method", ["transform", "reconstruct", "reconstruction_error", "score"])
@pytest.mark.parametrize("n_columns", [1, 12, 14])
def test_a_wrong_width_says_both_widths(fitted, method, n_columns):
    with pytest.raises(ValueError, match=f"X has {n_columns} features.*expecting 13 features"):
        getattr(fitted, method)(np.ones((3, n_columns)))


BAD_CODES = {
    **{case: BAD_ROWS[case] for case in sorted(BAD_ROWS.keys() - NO_CODES)},
    "sparse": (sparse.csr_matrix(np.eye(13)), TypeError, "[Ss]parse data was passed"),
}


@pytest.mark.parametrize("case", BAD_CODES)
def test_bad_codes_get_scikit_learns_errors(fitted, case):
    Z, error, message = BAD_CODES[case]
    if case == "sparse" and not is_dense(fitted):  # such codes are its own: only their width is bad
        error, message = ValueError, "13 columns.*n_components_=26"
    with pytest.raises(error, match=message):
        fitted.inverse_transform(Z)


@pytest.mark.parametrize("n_columns", [1, 3, 13])
def test_codes_of_a_wrong_width_say_both_widths(fitted, n_columns):
    with pytest.raises(ValueError, match=rf"{n_columns} columns.*n_components_=2"):  # or 26
        fitted.inverse_transform(np.ones((3, n_columns)))


@pytest.mark.parametrize("method", METHODS)
def test_before_fit_every_method_says_so(kind, method, rows):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(kind, method)(rows)


def test_names_before_fit(kind):
    with pytest.raises(NotFittedError):
        kind.get_feature_names_out()


def test_a_failed_first_fit_leaves_an_unfitted_estimator(kind, rows):
    with pytest.raises(ValueError, match="NaN"):
        kind.fit(with_value(np.nan))
    with pytest.raises(NotFittedError):
        kind.transform(rows)


# -- columns that cannot be used ---------------------------------------------------

DAY = pd.Timestamp("2020-01-01")
FRAME = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0)[::-1]})
# Columns that are added to numbers, and how messages name them.
NO_NUMBERS = {
    "dates": (FRAME.assign(day=DAY), r"column 'day' \(datetime64\[.*days since the first"),
    "dates with a zone": (
        FRAME.assign(day=DAY.tz_localize("UTC")),
        r"'day' \(datetime64.*, UTC\]\)",
    ),
    "durations": (FRAME.assign(t=pd.Timedelta("1D")), r"column 't' \(timedelta64"),
    "periods": (FRAME.assign(p=pd.period_range("2020", periods=40)), r"'p' \(period\[D\]\)"),
    "strings": (FRAME.assign(s="x"), r"column 's' .*OneHotEncoder.*TableAutoencoder\(\)"),
    "categories": (FRAME.assign(c=pd.Categorical(["x", "y"] * 20)), r"column 'c' \(category\)"),
    "objects": (FRAME.assign(o=pd.Series([{"x": 1}] * 40)), r"column 'o' \(object\)"),
    "lists": (FRAME.assign(o=pd.Series([[1, 2]] * 40)), r"column 'o' \(object\)"),
    "several": (FRAME.assign(s="x", day=DAY, n=1.0, u="y"), "columns 's' .*, 'day' .*, 'u' "),
    "many": (FRAME.assign(**{f"s{i}": "x" for i in range(9)}), r"'s4' \(\w+\) and 4 more:"),
    "polars strings": (
        pl.DataFrame({"a": [1.0, 2.0], "s": ["x", "y"]}),
        r"column 's' \(String\): .*drop these columns",
    ),
    "arrow strings": (pa.table({"a": [1.0, 2.0], "s": ["x", "y"]}), r"column 's' \(string\)"),
    "object array": (np.array([[1, 2, "x"], [3, 4, "y"]], dtype=object), "in column 2:"),
    "nested lists": ([[1, "x", 2], [3, "y", 4]], "in column 1:"),
    "string array": (np.array([["1", "x"], ["2", "y"]]), "in column 1:"),
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_columns_without_numbers_are_named(kind, case):
    X, message = NO_NUMBERS[case]
    for method in (kind.fit, kind.partial_fit):
        with pytest.raises((TypeError, ValueError), match=f"X holds values.*no numbers.*{message}"):
            method(X)


@pytest.mark.parametrize("case", ["dates", "strings"])
def test_columns_without_numbers_are_named_after_fit(case):
    X = NO_NUMBERS[case][0]
    fitted = make_fast().fit(X.assign(**{X.columns[2]: np.arange(40.0)}))
    with pytest.raises((TypeError, ValueError), match=f"no numbers in column '{X.columns[2]}'"):
        fitted.transform(X)
    with pytest.raises((TypeError, ValueError), match=r"X_val does not suit X: .*no numbers"):
        fitted.fit(X.assign(**{X.columns[2]: np.arange(40.0)}), X_val=X)
    with pytest.raises((TypeError, ValueError), match="no numbers in column 1"):
        fitted.inverse_transform(np.array([[1.0, "x"]], dtype=object))


@pytest.mark.parametrize("model", [AutoencoderClassifier(), AutoencoderRegressor()], ids=name_of)
@pytest.mark.parametrize("case", ["dates", "strings"])
def test_columns_without_numbers_are_named_by_supervised_models(model, case):
    with pytest.raises((TypeError, ValueError), match="no numbers in column '"):
        clone(model).fit(NO_NUMBERS[case][0], np.arange(40) % 2)


@pytest.mark.parametrize("case", ["dates", "strings"])
def test_columns_without_numbers_are_named_by_the_search(case):
    with pytest.raises((TypeError, ValueError), match="no numbers in column '"):
        LatentDimensionSearch(make_fast(), [1]).fit(NO_NUMBERS[case][0])


NUMBERS_OF_ANY_KIND = {
    "object columns": FRAME.astype(object),
    "strings of numbers": FRAME.astype(str),
    "object array": FRAME.to_numpy().astype(object),
    "booleans among objects": FRAME.assign(o=pd.Series([True, 2.0] * 20, dtype=object)),
    "categories of numbers": FRAME.assign(c=pd.Categorical([1, 2] * 20)),
    "nullable integers": FRAME.astype("Int64"),
    "lists": FRAME.to_numpy().tolist(),
    "polars": pl.from_pandas(FRAME),
    "dask array": da.from_array(FRAME.to_numpy(), chunks=10),
}


@pytest.mark.parametrize("case", NUMBERS_OF_ANY_KIND)
def test_numbers_of_any_kind_are_taken(case):
    X = NUMBERS_OF_ANY_KIND[case]
    codes = make_fast(n_components=1).fit(X).transform(X)
    assert codes.shape == (40, 1)
    assert np.isfinite(codes).all()


# -- rows that are not there yet ---------------------------------------------------


LAZY = pl.LazyFrame({"a": [1.0, 2.0, 3.0], "b": [2.0, 1.0, 4.0]})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_a_lazy_frame_must_be_collected(kind, method):
    with pytest.raises(TypeError, match=r"polars LazyFrame.*pass X\.collect\(\)"):
        getattr(kind, method)(LAZY)


@pytest.mark.parametrize(
    "model",
    [AutoencoderClassifier(), AutoencoderRegressor(), LatentDimensionSearch(make_fast(), [1])],
    ids=name_of,
)
def test_a_lazy_frame_must_be_collected_for_every_estimator(model):
    with pytest.raises(TypeError, match=r"polars LazyFrame.*pass X\.collect\(\)"):
        clone(model).fit(LAZY, [0, 1, 1])


def test_a_lazy_frame_must_be_collected_after_fit():
    fitted = make_fast(n_components=1).fit(LAZY.collect())
    for method in (fitted.transform, fitted.score, fitted.inverse_transform):
        with pytest.raises(TypeError, match=r"pass X\.collect\(\)"):
            method(LAZY)
    with pytest.raises(TypeError, match=r"X_val.*pass X\.collect\(\)"):
        fitted.fit(LAZY.collect(), X_val=LAZY)
    with pytest.raises(ValueError, match=r"list of lazy frames.*pass X\[0\]\.collect\(\)"):
        fitted.transform([LAZY, LAZY])


def test_text_in_a_dask_frame_names_its_columns():
    frame = dd.from_pandas(FRAME.assign(s="x"), npartitions=2)
    with pytest.raises(ValueError, match=r"no numbers in column 's'.*OneHotEncoder"):
        make_fast().fit(frame)


# -- missing and infinite values ---------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_missing_values_name_their_columns_and_remedies(kind, method):
    if "views" in kind.get_params():
        kind.set_params(views=None)
    X = FRAME.assign(c=np.where(np.arange(40) == 3, np.nan, 1.0))
    start = rf"Input X contains NaN\.\n{name_of(kind)} takes no missing values in column 'c': "
    remedies = r"SimpleImputer or KNNImputer.*TableAutoencoder\(\)"
    with pytest.raises(ValueError, match=f"{start}.*{remedies}") as caught:
        getattr(kind, method)(X)
    assert "HistGradientBoosting" not in str(caught.value)


MISSING = {
    "array": with_value(np.nan),
    "lists": with_value(np.nan).tolist(),
    "sparse": sparse.csr_matrix(with_value(np.nan)),
    "None": with_value(np.nan).astype(object),
    "float32": with_value(np.nan).astype(np.float32),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_values_of_arrays_are_named_by_number(case, rows):
    with pytest.raises(ValueError, match=r"contains NaN.*\n.*in column 5:"):
        make_fast().fit(MISSING[case])
    with pytest.raises(ValueError, match=r"X_val does not suit X: .*contains NaN.*\n.*column 5:"):
        make_fast().fit(rows, X_val=MISSING[case])
    with pytest.raises(ValueError, match=r"contains NaN.*\nAutoencoderRegressor .*column 5:"):
        AutoencoderRegressor(make_fast()).fit(MISSING[case], np.arange(40.0))


def test_missing_values_of_nullable_columns_are_named():
    X = FRAME.assign(n=pd.array([None] + [1] * 39, dtype="Int64"))
    with pytest.raises(ValueError, match=r"contains NaN.*\n.*in column 'n':"):
        make_fast().fit(X)
    with pytest.raises(ValueError, match=r"contains NaN.*\n.*in column 'n':"):
        make_fast().fit(pl.DataFrame({"a": [1.0, 2.0], "n": [None, 1]}))


def test_infinite_values_name_their_columns():
    with pytest.raises(ValueError, match=r"contains infinity.*\n.*infinite values in column 5:"):
        make_fast().fit(with_value(-np.inf))


# -- numbers whose squares overflow ------------------------------------------------


def huge(column, factor, dtype=np.float64):
    X = np.random.default_rng(0).normal(size=(60, 13))
    X[:, column] *= factor
    return X.astype(dtype)


HUGE = {
    "all": (huge(slice(None), 1e200), "float64"),
    "one": (huge([5], 1e200), "float64"),
    "negative": (-np.abs(huge([5], 1e200)), "float64"),
    "largest": (huge([5], 1e307), "float64"),
    "float32": (huge(slice(None), 1e30, np.float32), "float32"),
    "one float32": (huge([5], 1e30, np.float32), "float32"),
    "frame": (pd.DataFrame(huge([5], 1e200)).add_prefix("x"), "float64"),
    "lists": (huge([5], 1e200).tolist(), "float64"),
    "sparse": (sparse.csr_array(huge([5], 1e200)), "float64"),
    "columns first": (np.asfortranarray(huge([5], 1e200)), "float64"),
    "every second row": (np.repeat(huge([5], 1e200), 2, axis=0)[::2], "float64"),
}


@pytest.mark.filterwarnings("error::RuntimeWarning", "ignore:X has feature names")
@pytest.mark.parametrize("case", HUGE)
@pytest.mark.parametrize("method", [*ON_ROWS, "partial_fit"])
def test_numbers_whose_squares_overflow_name_their_columns(fitted, method, case):
    X, dtype = HUGE[case]
    if sparse.issparse(X) and not takes_tables(fitted):
        pytest.skip(f"{name_of(fitted)} takes no sparse rows")
    estimator = clone(fitted) if "fit" in method else fitted
    where = r"(columns 0, 1, 2, 3, 4 and 8 more|column '?x?5'?)"
    message = rf"in {where}, whose squares overflow in {dtype}: .*MaxAbsScaler"
    with pytest.raises(ValueError, match=message):
        getattr(estimator, method)(X)


@pytest.mark.parametrize("case", HUGE)
def test_numbers_whose_squares_overflow_are_refused_by_every_estimator(case, rows):
    X = HUGE[case][0]
    with pytest.raises(ValueError, match=r"X_val does not suit X: .*squares overflow"):
        make_fast().fit(rows, X_val=X)
    for model in (AutoencoderClassifier(), AutoencoderRegressor()):
        with pytest.raises(ValueError, match=r"X holds values.*squares overflow"):
            model.fit(X, np.arange(60) % 2)
    with pytest.raises(ValueError, match=r"X holds values.*squares overflow"):
        LatentDimensionSearch(make_fast(), [1]).fit(X)


def test_targets_whose_squares_overflow_are_refused(rows):
    with pytest.raises(ValueError, match=r"y holds values.*in column 0, whose squares overflow"):
        AutoencoderRegressor(make_fast()).fit(rows, rows[:, 0] * 1e200)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("case", ["all", "one", "float32", "one float32"])
def test_scaled_numbers_do_not_overflow(case):
    X = HUGE[case][0]
    pipeline = make_pipeline(MaxAbsScaler(), make_fast()).fit(X)
    assert np.isfinite(pipeline.transform(X)).all()
    assert np.isfinite(pipeline.score(X))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(("size", "dtype"), [(1e30, np.float64), (1e17, np.float32)])
def test_numbers_whose_squares_do_not_overflow_are_taken(kind, size, dtype):
    X = huge(slice(None), size, dtype)
    fitted = kind.set_params(max_epochs=3).fit(X)
    assert np.isfinite(fitted.transform(X)).all()
    assert np.isfinite(fitted.reconstruction_error(X)).all()
    assert np.isfinite(fitted.score(X))


# -- parameters --------------------------------------------------------------------


def test_every_parameter_has_bad_values(kind):
    assert kind.get_params().keys() <= BAD_VALUES.keys()


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (k, name, value)
        for k in ESTIMATORS
        for name in k.get_params()
        for value in BAD_VALUES[name]
        if (name_of(k), name, value) not in ADMITTED
    ],
)
def test_an_unknown_value_is_refused_by_name(kind, name, value, rows):
    message = text_of(lambda: clone(kind).set_params(**{name: value}).fit(rows))
    assert name in message
    assert str(value) in message


@pytest.mark.parametrize("value", [True, False, np.True_])
@pytest.mark.parametrize(
    ("kind", "name"), [(k, name) for k in ESTIMATORS for name in k.get_params() if name in NUMBERS]
)
def test_a_boolean_is_no_number(kind, name, value, rows):
    estimator = clone(kind).set_params(**{name: value})
    message = rf"The '{name}' parameter of {name_of(kind)} must be an? .*Got {value!r} instead"
    with pytest.raises(InvalidParameterError, match=message):
        estimator.fit(rows)
    with pytest.raises(InvalidParameterError, match=message):
        estimator.partial_fit(rows)


@pytest.mark.parametrize("sizes", [(8, True), [np.True_], np.array([True, True])], ids=str)
def test_a_boolean_is_no_layer_size(kind, sizes, rows):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=.*True.*must hold integers >= 1"):
        kind.set_params(hidden_layer_sizes=sizes).fit(rows)


@pytest.mark.parametrize("sizes", [(8, np.int64(3)), np.array([8, 3]), pd.Series([8, 3]), [8, 3]])
def test_integers_of_any_make_are_layer_sizes(sizes, rows):
    network = make_fast(hidden_layer_sizes=sizes, max_epochs=1).fit(rows).net_.module_.network
    assert [layer.out_features for layer in list(network.encoder)[::2]] == [8, 3, 2]


@pytest.mark.parametrize("name", ["n_neighbors", "batch_size", "max_epochs"])
@pytest.mark.parametrize("model", [AutoencoderClassifier, AutoencoderRegressor])
def test_a_boolean_is_no_number_for_supervised_models(model, name, rows):
    with pytest.raises(InvalidParameterError, match=rf"'{name}' parameter.*Got True instead"):
        model(**{name: True}).fit(rows, np.arange(60) % 2)


@pytest.mark.parametrize("name", ["n_components", "n_seeds", "n_jobs"])
def test_a_boolean_is_no_number_for_the_search(name, rows):
    search = LatentDimensionSearch(make_fast(), **{name: True})
    with pytest.raises(InvalidParameterError, match=rf"'{name}' parameter.*Got True instead"):
        search.fit(rows)
    if name == "n_components":
        with pytest.raises(ValueError, match=r"n_components=\[2, True\] must hold integers"):
            search.set_params(n_components=[2, True]).fit(rows)


def test_a_boolean_is_no_number_of_samples(rows):
    with pytest.raises(TypeError, match="n_samples=True must be an instance of int"):
        make_fast().fit(rows).sample(True)


def test_an_unknown_value_is_an_invalid_parameter_error(kind, rows):
    with pytest.raises(InvalidParameterError, match=r"'lr' parameter.*Got -1 instead"):
        kind.set_params(lr=-1).fit(rows)


def test_an_unknown_parameter_is_refused(kind):
    with pytest.raises(TypeError, match="n_component"):
        type(kind)(n_component=3)
    with pytest.raises(ValueError, match="Invalid parameter 'n_component'"):
        kind.set_params(n_component=3)


@pytest.mark.parametrize("low, high", [(-0.5, 1.0), (0.0, 255.0)])  # noqa: PT006
def test_cross_entropy_outside_the_unit_interval_names_the_range(rows, low, high):
    X = np.clip(rows, 0, 1)
    X[0, 0], X[1, 0] = low, high
    estimator = make_fast(loss="binary_cross_entropy", anchor=None)
    message = text_of(lambda: estimator.fit(X))
    assert f"[{low:g}, {high:g}]" in message
    assert "MinMaxScaler" in message
    assert "squared_error" in message


def test_rounding_beyond_the_unit_interval_is_admitted(rows):
    X = np.clip(rows, 0, 1)
    X[0, 0], X[1, 0] = -1e-16, 1 + 2e-16
    make_fast(loss="binary_cross_entropy", anchor=None).fit(X)


def test_cross_entropy_with_the_anchor_names_the_remedy(rows):
    message = text_of(lambda: make_fast(loss="binary_cross_entropy").fit(np.clip(rows, 0, 1)))
    assert "anchor='pca'" in message
    assert "anchor=None" in message


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cpuu", "cuda:x"])
def test_an_absent_device_names_itself_and_a_remedy(kind, device, rows):
    message = text_of(lambda: kind.set_params(device=device).fit(rows))
    assert f"device='{device}'" in message
    assert "'cpu'" in message
    assert "'auto'" in message


def one_way(d, k):
    network = nn.Module()
    network.encode = nn.Linear(d, k)
    return network


def wrong_code(d, k):
    network = one_way(d, k + 1)
    network.decode = nn.Linear(k + 1, d)
    return network


def wrong_rows(d, k):
    network = one_way(d, k)
    network.decode = nn.Linear(k, d + 2)
    return network


@pytest.mark.parametrize("anchor", ["pca", None])
@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (one_way, "lacks `encode` or `decode`"),
        (lambda d, k: None, "lacks `encode` or `decode`"),
        (wrong_code, "2, 3"),
        (wrong_rows, "2, 15"),
    ],
)
def test_an_own_network_of_a_wrong_shape_is_refused(network, complaint, anchor, rows):
    with pytest.raises(ValueError, match=f"network=.*{complaint}"):
        make_fast(network=network, anchor=anchor).fit(rows)


@pytest.mark.parametrize("callbacks", [[3], [print], ["early_stopping"], [(1, 2, 3)]], ids=str)
def test_what_is_no_callback_is_refused_by_name(callbacks, rows):
    estimator = make_fast(callbacks=callbacks, early_stopping=False)
    assert "callbacks" in text_of(lambda: estimator.fit(rows))


def test_a_warm_start_on_other_columns_says_so(rows):
    estimator = make_fast(warm_start=True).fit(rows)
    with pytest.raises(ValueError, match=r"13 features.*4.*warm_start=False"):
        estimator.fit(rows[:, :4])


def test_a_warm_start_with_another_size_of_code_says_so(rows):
    estimator = make_fast(warm_start=True).fit(rows)
    with pytest.raises(ValueError, match=r"n_components=5.*warm_start=False"):
        estimator.set_params(n_components=5).fit(rows)


# -- codes wider than the rows -----------------------------------------------------


def overcomplete_warnings(call):
    """Warnings of a call that say the code is overcomplete, and the files that they name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [w.filename for w in caught if "the code is overcomplete" in str(w.message)]


def test_an_overcomplete_code_warns_once_at_the_callers_line(dense, rows):
    dense.set_params(n_components=9, max_epochs=1)
    with pytest.warns(UserWarning, match=r"n_components=9 exceeds the 4 features.*at most 4"):
        dense.fit(rows[:, :4])
    X, y = rows[:, :4], np.arange(60.0)
    calls = [lambda: clone(dense).fit(X), lambda: clone(dense).partial_fit(X)]
    calls.append(lambda: make_pipeline(MaxAbsScaler(), clone(dense)).fit(X))
    calls.append(lambda: AutoencoderRegressor(dense, max_epochs=1).fit(X, y))
    calls.append(lambda: LatentDimensionSearch(dense, [9], cv=2).fit(X))
    for call in calls:
        assert overcomplete_warnings(call) == [__file__]


@pytest.mark.parametrize("n_components", [4, 3, None, 0.5])
def test_other_codes_are_silent(dense, n_components, rows):
    dense.set_params(n_components=n_components, max_epochs=1)
    assert overcomplete_warnings(lambda: dense.fit(rows[:, :4])) == []


def test_later_calls_and_sparse_codes_are_silent(rows):
    X = rows[:, :4]
    sparse_codes = SparseAutoencoder(9, max_epochs=1)
    assert overcomplete_warnings(lambda: sparse_codes.fit(X).partial_fit(X)) == []
    dense_codes, classifier = make_fast(n_components=9), AutoencoderClassifier(max_epochs=1)
    dense_codes.partial_fit(X)
    assert overcomplete_warnings(lambda: dense_codes.partial_fit(X).transform(X)) == []
    assert overcomplete_warnings(lambda: classifier.fit(X, X[:, 0] > 0)) == []


# -- nothing is lost ---------------------------------------------------------------


FAILING = {
    "rows": ({}, with_value(np.nan)),
    "width": ({"n_components": -1}, np.ones((40, 3))),
    "value": ({"lr": -1}, with_value(0)),
    "device": ({"device": "cuda:99"}, with_value(0)),
    "loss": ({"loss": "binary_cross_entropy", "anchor": None}, with_value(0)),
    "sizes": ({"hidden_layer_sizes": (0,)}, with_value(0)[:, :7]),
    "network": ({"network": wrong_rows}, with_value(0)[:, :7]),
    "callback": ({"callbacks": [Fail()], "early_stopping": False}, with_value(0)[:, :7]),
    "names": ({"callbacks": [Fail()], "early_stopping": False}, pd.DataFrame(with_value(0))),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_failed_fit_loses_nothing(case, rows):
    params, X = FAILING[case]
    estimator = make_fast().fit(rows)
    Z, attributes = estimator.transform(rows), vars(estimator).keys() - set(params)
    before = {name: vars(estimator)[name] for name in attributes}
    with pytest.raises((ValueError, RuntimeError)):
        estimator.set_params(**params).fit(X)
    assert all(vars(estimator)[name] is value for name, value in before.items())
    assert np.array_equal(estimator.transform(rows), Z)


def test_a_failed_warm_start_loses_nothing(rows):
    estimator = make_fast(warm_start=True, early_stopping=False).fit(rows)
    Z = estimator.transform(rows)
    with pytest.raises(RuntimeError, match="a callback failed"):
        estimator.set_params(callbacks=[Fail()], lr=1.0).fit(rows)
    assert np.array_equal(estimator.transform(rows), Z)


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_failed_transform_loses_nothing(fitted, case, rows):
    Z = fitted.transform(rows)
    with pytest.raises((ValueError, TypeError)):
        fitted.transform(BAD_ROWS[case][0])
    assert np.array_equal(fitted.transform(rows), Z)


def test_extreme_units_are_no_bad_input():
    X = np.random.default_rng(0).normal(size=(40, 5))
    for factor in (1e-150, 1e150):
        estimator = AutoencoderTransformer(2, max_epochs=3, random_state=0).fit(X * factor)
        assert np.isfinite(estimator.transform(X * factor) / factor).all()
        assert 0 < estimator.explained_variance_ratio_.sum() < 1


@pytest.mark.parametrize("method", ["transform", "reconstruct", "score_samples", "partial_fit"])
@pytest.mark.parametrize("scale", [1e-3, 1e-200])
def test_rows_too_far_from_those_of_fit_name_their_column(method, scale, rows):
    estimator = make_fast().fit(rows * scale)
    far = rows * scale
    far[3, 5] = 1e152 if scale == 1e-3 else 1e-20
    assert np.isfinite(estimator.transform(rows * scale * 1e6)).all()
    with pytest.raises(ValueError, match=r"X lies .* away .* in column 5,.* in the units of fit"):
        getattr(estimator, method)(far)
