"""The autoencoder of tables: codes, gaps, samples and likelihoods of mixed columns."""

from __future__ import annotations

import datetime as dt
import pickle
import pickletools
from zoneinfo import ZoneInfo

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import assert_close, slow_but_first
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator

from skae import AutoencoderImputer, TableAutoencoder

FAST = {"max_epochs": 2, "column_layer_sizes": 8, "n_networks": 2, "random_state": 0}
LIBRARIES = {
    "pandas": lambda frame: frame,
    "polars": lambda frame: pl.from_pandas(frame.assign(size=frame["size"].astype(object))),
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "array": lambda frame: frame.astype(object).to_numpy(),
}
TABLES = pytest.mark.parametrize("library", LIBRARIES)
METHODS = ["transform", "reconstruct", "reconstruction_error", "score_samples", "score", "impute"]
ZONE = ZoneInfo("Europe/Berlin")


def quick(**params):
    return TableAutoencoder(**{**FAST, **params})


def make_frame(n_rows=200, seed=0, gaps=True):
    """Numbers, text, categories, booleans and dates that depend on each other; some gaps."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=n_rows)
    size = np.digitize(hidden + 0.3 * random.normal(size=n_rows), [-0.7, 0.7])
    day = np.datetime64("2020-03-01") + (hidden * 20 + 60).astype(int)
    frame = pd.DataFrame(
        {
            "length": hidden.round(3),
            "weight": (3 * hidden + random.normal(size=n_rows)).round(1),
            "count": random.poisson(np.exp(0.5 * hidden)),
            "colour": np.where(
                random.random(n_rows) < 1 / (1 + np.exp(-2 * hidden)), "red", "blue"
            ),
            "size": pd.Categorical.from_codes(size, ["small", "middle", "large"], ordered=True),
            "sold": hidden + random.normal(size=n_rows) > 0,
            "day": pd.to_datetime(day),
            "same": 7.0,
        }
    )
    if gaps:
        for name in ("weight", "colour", "size", "day"):
            frame.loc[random.random(n_rows) < 0.15, name] = None
    return frame


@pytest.fixture(scope="module")
def frame():
    return make_frame()


@pytest.fixture(scope="module")
def fitted(frame):
    """Fitted once: no test changes it."""
    return TableAutoencoder(random_state=0, max_epochs=100, n_networks=2).fit(frame)


def equal(one, other):
    """Whether two results are equal, also in their gaps."""
    if isinstance(one, list):
        return all(map(equal, one, other))
    if hasattr(one, "equals"):
        return one.equals(other)
    return np.array_equal(one, other)


# -- scikit-learn's own checks -----------------------------------------------------

ONE = {"n_networks": 1}
CHECKED = [
    {},
    {"n_components": 0.9, **ONE},
    {"n_components": None, "min_frequency": 2, **ONE},
    {"hidden_layer_sizes": ()},
    {"target_weight": 1, **ONE},
    {"whiten": True},
    {"categorical_features": [0], **ONE},
    {"handle_unknown": "error", "max_categories": 3, **ONE},
    {"handle_unknown": "infrequent_if_exist", "min_frequency": 0.1, "batch_size": 7, **ONE},
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("params", slow_but_first(CHECKED), ids=str)
def test_scikit_learns_checks_pass_without_exception(params):
    results = check_estimator(quick(**params), on_skip=None, on_fail=None)
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"] == []
    skipped = {r["check_name"] for r in results if r["status"] not in ("passed", "failed")}
    assert skipped <= {"check_array_api_input"}  # which an environment variable switches on


# -- tables of any library ---------------------------------------------------------


@TABLES
def test_tables_come_back_as_they_are(library, frame):
    X = LIBRARIES[library](frame)
    table = quick().fit(X)
    Z = table.transform(X)
    assert Z.shape == (200, 2)
    assert Z.dtype == np.float64
    assert np.isfinite(Z).all()
    filled = table.impute(X)
    results = table.inverse_transform(Z), table.reconstruct(X), table.sample(200, 0), filled
    for result in results:
        assert type(result) is type(X)
        assert result.shape == X.shape
        again = pd.DataFrame(result) if library == "array" else result
        again = again if library in ("array", "pandas") else again.to_pandas()
        assert not again.isna().any(axis=None)
        if library == "pandas":
            assert (result.dtypes == X.dtypes).all()
        if library == "polars":
            assert result.schema == X.schema
        if library == "pyarrow":
            assert result.schema.equals(X.schema)
    assert equal(table.inverse_transform(Z), table.reconstruct(X))


@TABLES
def test_results_do_not_depend_on_the_library(library, frame):
    words = frame.assign(size=frame["size"].astype(object))  # without an order
    expected = quick(categorical_features=["size"]).fit(words)
    X = LIBRARIES[library](words)
    table = quick().fit(X)
    kinds = [column["kind"] for column in table.columns_]
    assert kinds == [column["kind"] for column in expected.columns_]
    assert_close(table.score_samples(X), expected.score_samples(frame), 1e-6)


def test_the_callers_frame_and_generator_are_left_alone(frame):
    kept, state, threads = frame.copy(), torch.get_rng_state(), torch.get_num_threads()
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002
    table = quick().fit(frame)
    for method in METHODS:
        getattr(table, method)(frame)
    table.impute(frame, 2, 0)
    table.sample(3, 0, condition={"colour": "red"})
    pd.testing.assert_frame_equal(frame, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    assert torch.get_num_threads() == threads


def test_the_index_of_a_frame_is_kept(fitted, frame):
    X = frame[:5].set_axis(list("abcde"))
    for result in (fitted.reconstruct(X), fitted.impute(X), *fitted.impute(X, 2, 0)):
        assert result.index.equals(X.index)
    Z = clone(fitted).set_params(**FAST).set_output(transform="pandas").fit(frame).transform(X)
    assert Z.index.equals(X.index)


def test_columns_say_what_was_learnt(fitted):
    columns = {column["name"]: column for column in fitted.columns_}
    assert [column["kind"] for column in columns.values()] == [
        "number",
        "number",
        "number",
        "category",
        "ordered",
        "boolean",
        "date",
        "constant",
    ]
    assert columns["size"]["categories"] == ["small", "middle", "large"]
    assert columns["colour"]["categories"] == ["blue", "red"]
    assert columns["size"]["codes"] == [0, 1, 2]
    assert "categories" not in columns["day"]
    assert columns["day"]["step"] == np.timedelta64(1, "D")


def test_cells_as_numbers(fitted, frame):
    numbers = fitted.to_numbers(frame)
    assert numbers.dtype == np.float64
    assert np.array_equal(np.isnan(numbers), frame.isna())
    columns = {column["name"]: column for column in fitted.columns_}
    at = dict(zip(frame, numbers.T, strict=True))
    np.testing.assert_array_equal(at["weight"], frame["weight"])
    np.testing.assert_array_equal(at["size"], frame["size"].cat.codes.replace(-1, np.nan))
    assert set(at["same"]) == {0.0}
    since = (frame["day"] - columns["day"]["origin"]) / columns["day"]["step"]
    np.testing.assert_array_equal(at["day"], since)
    assert np.isnan(fitted.to_numbers(frame.assign(colour="green"))[:, 3]).all()


def test_infrequent_categories_share_a_code(frame):
    X = frame.assign(colour=np.resize(["a", "b", "c", "a", "d", "a"], len(frame)))
    table = quick(max_categories=2, handle_unknown="infrequent_if_exist").fit(X)
    (column,) = [each for each in table.columns_ if each["name"] == "colour"]
    assert dict(zip(column["categories"], column["codes"], strict=True)) == {
        "a": 0,
        "b": 1,
        "c": 1,
        "d": 1,
    }
    assert table.to_numbers(X.assign(colour="new"))[0, 3] == 1


DATES = {
    "moments": ([dt.datetime(2020, 1, 1, i % 24) for i in range(30)], "datetime64"),
    "zones": ([dt.datetime(2020, 1, 1, i % 24, tzinfo=ZONE) for i in range(30)], "datetime64"),
    "durations": ([dt.timedelta(hours=i) for i in range(30)], "timedelta64"),
    "times": ([dt.time(i % 24) for i in range(30)], "timedelta64"),
    "periods": (pd.period_range("2020-01", periods=30, freq="M"), "int"),
}


@pytest.mark.parametrize("kind", DATES)
def test_dates_have_an_origin_and_a_step(kind):
    values, name = DATES[kind]
    X = pd.DataFrame({"t": values, "b": range(30)})
    table = quick(n_components=1).fit(X)
    origin, step = (table.columns_[0][key] for key in ("origin", "step"))
    assert type(origin).__name__ == name
    ticks = origin + table.to_numbers(X)[:, 0].astype(int) * step
    if kind == "moments":
        np.testing.assert_array_equal(ticks, X["t"].to_numpy())
    if kind == "zones":
        assert origin == np.datetime64("2019-12-31T23:00")
    if kind == "times":
        assert ticks[3] == np.timedelta64(3, "h")
    if kind == "periods":
        assert ticks.tolist() == [period.ordinal for period in values]


# -- Pipelines, searches, pickles --------------------------------------------------


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_codes_in_a_frame(library, output, frame):
    X = LIBRARIES[library](frame)
    Z = quick().set_output(transform=output).fit_transform(X)
    kinds = {"default": np.ndarray, "pandas": pd.DataFrame, "polars": pl.DataFrame}
    assert type(Z) is kinds[output]
    if output != "default":
        assert list(Z.columns) == ["tableautoencoder0", "tableautoencoder1"]
    back = quick().fit(X).inverse_transform(Z)
    assert type(back) is type(X)


def test_codes_in_another_order_are_refused(frame):
    table = quick().set_output(transform="pandas")
    Z = table.fit_transform(frame)
    with pytest.raises(ValueError, match="feature names"):
        table.inverse_transform(Z[Z.columns[::-1]])


@pytest.mark.slow
def test_search_of_the_number_of_components(frame):
    grid = {"n_components": [1, 3]}
    search = GridSearchCV(quick(hidden_layer_sizes=()), grid, cv=2, error_score="raise").fit(frame)
    assert search.best_params_ == {"n_components": 3}
    pipeline = make_pipeline(quick(hidden_layer_sizes=()), LogisticRegression())
    grid = {"tableautoencoder__n_components": [1, 2]}
    X, y = frame.drop(columns="sold"), frame["sold"]
    found = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    assert found.best_score_ > 0.65
    assert cross_val_score(pipeline, X, y, cv=2, error_score="raise").shape == (2,)


def test_in_a_column_transformer(frame):
    both = ColumnTransformer(
        [("code", quick(), ["length", "colour", "day"])], remainder=AutoencoderImputer(**FAST)
    )
    both.set_output(transform="pandas")
    Z = both.fit_transform(frame)
    assert list(Z.columns)[:3] == [
        "code__tableautoencoder0",
        "code__tableautoencoder1",
        "remainder__weight",
    ]
    assert not Z.isna().any(axis=None)


def test_clones_are_equal_and_fits_repeat(frame):
    first = quick(target_weight=0.5, hidden_layer_sizes=(8,))
    assert clone(first).get_params() == first.get_params()
    y = frame["weight"].to_numpy()
    one, two = (clone(first).fit(frame, y) for _ in range(2))
    for method in METHODS:
        assert equal(getattr(one, method)(frame), getattr(two, method)(frame))
    assert equal(one.sample(20, 1), two.sample(20, 1))


def fitted_scores(frame):
    return quick().fit(frame).score_samples(frame)


def test_worker_processes_give_the_same_bits(frame):
    here = fitted_scores(frame)
    for there in Parallel(n_jobs=2)(delayed(fitted_scores)(frame) for _ in range(2)):
        assert np.array_equal(here, there)


@pytest.mark.parametrize("library", LIBRARIES)
def test_copies_answer_with_the_same_bits(library, frame, tmp_path):
    X = LIBRARIES[library](frame)
    table = quick(min_frequency=5).fit(X)
    joblib.dump(table, tmp_path / "table.joblib")
    for copied in (pickle.loads(pickle.dumps(table)), joblib.load(tmp_path / "table.joblib")):
        for method in METHODS:
            assert equal(getattr(copied, method)(X), getattr(table, method)(X))
        assert equal(copied.sample(9, 0), table.sample(9, 0))
        assert copied.columns_ == table.columns_


def test_a_pickle_is_small_and_names_public_paths_only(fitted):
    blob = pickle.dumps(fitted)
    named = {arg.split(" ")[0] for _, arg, _ in pickletools.genops(blob) if isinstance(arg, str)}
    modules = {name for name in named if name.split(".")[0] == "skae"}
    assert modules
    assert not [name for name in modules if any(p.startswith("_") for p in name.split("."))]
    assert b"torch" not in blob
    n_weights = sum(p.numel() for p in fitted._column_model.network.parameters())
    assert len(blob) < 5 * n_weights + 200_000


def damaged_weight(state):
    state["_column_model"]["weights"][0][0, 0, 0] += 1e-3


def missing_weight(state):
    state["_column_model"]["weights"].pop()


def other_shape(state):
    state["_column_model"]["weights"][0] = np.zeros((2, 2), np.float32)


def other_scale(state):
    state["_coordinates"]["scale"] = state["_coordinates"]["scale"] * 2


def other_category(state):
    state["_columns"]["columns"][3]["representatives"][0] = "green"


@pytest.mark.parametrize(
    "damage", [damaged_weight, missing_weight, other_shape, other_scale, other_category]
)
def test_a_damaged_state_is_refused(fitted, damage):
    state = pickle.loads(pickle.dumps(fitted)).__getstate__()
    damage(state)
    with pytest.raises(ValueError, match=r"damaged|zip\(\)"):
        TableAutoencoder().__setstate__(state)


# -- rows and columns of any kind --------------------------------------------------


def test_rows_alone_and_together_have_the_same_results(fitted, frame):
    X = frame[:40]
    Z, scores = fitted.transform(X), fitted.score_samples(X)
    singly = [X[i : i + 1] for i in range(len(X))]
    assert_close(np.concatenate([fitted.transform(row) for row in singly]), Z, 1e-6)
    assert_close(np.concatenate([fitted.score_samples(row) for row in singly]), scores, 1e-6)
    filled = pd.concat([fitted.impute(row) for row in singly])
    pd.testing.assert_frame_equal(filled, fitted.impute(X), rtol=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_rows", [1, 2, 3, 9, 11])
def test_few_rows(n_rows):
    X = make_frame(n_rows)
    table = quick().fit(X)
    for result in (table.reconstruct(X), table.sample(3, 0)):
        kept = [c["name"] for c in table.columns_ if c["kind"] != "empty"]
        assert not result[kept].isna().any(axis=None)
    assert np.isfinite(table.transform(X)).all()
    assert np.isfinite(table.score_samples(X)).all()


ODD = {
    "one column": lambda: pd.DataFrame({"a": np.arange(30.0)}),
    "one category": lambda: pd.DataFrame({"a": ["x", "y"] * 15}),
    "all constant": lambda: pd.DataFrame({"a": [1.5] * 20, "b": ["x"] * 20}),
    "all empty": lambda: pd.DataFrame({"a": [np.nan] * 20, "b": [None] * 20}),
    "one value and gaps": lambda: pd.DataFrame({"a": [1.0, np.nan] * 10, "b": range(20)}),
    "a category of one row": lambda: pd.DataFrame({"a": ["x", *["y"] * 29], "b": range(30)}),
    "empty rows": lambda: pd.DataFrame({"a": [1, 2, None] * 10, "b": ["u", "v", None] * 10}),
    "an empty column": lambda: pd.DataFrame({"a": [None] * 20, "b": range(20)}),
    "mixed types": lambda: pd.DataFrame({"a": [1, "1", 2.5, True, None] * 6, "b": range(30)}),
    "more columns than rows": lambda: pd.DataFrame(np.random.default_rng(0).normal(size=(12, 40))),
    "equal rows": lambda: pd.DataFrame({"a": ["x", "y"] * 20, "b": [1, 2] * 20}),
    "many values": lambda: pd.DataFrame({"a": np.random.default_rng(0).normal(size=3000)}),
    "text that differs": lambda: pd.DataFrame({"a": [f"name {i}" for i in range(150)]}),
    "large and small": lambda: pd.DataFrame({"a": np.arange(40) * 1e12, "b": np.arange(40) * 1e-9}),
    "huge": lambda: pd.DataFrame({"a": np.linspace(-1, 1, 40) * 1e200, "b": range(40)}),
    "tiny": lambda: pd.DataFrame({"a": np.linspace(-1, 1, 40) * 1e-200, "b": range(40)}),
    "zones": lambda: pd.DataFrame(
        {"t": pd.date_range("2020-03-28", periods=40, freq="h", tz="Europe/Berlin"), "b": range(40)}
    ),
    "times and durations": lambda: pd.DataFrame(
        {"t": [dt.time(i % 24) for i in range(40)], "d": [dt.timedelta(i) for i in range(40)]}
    ),
    "nullable": lambda: pd.DataFrame(
        {
            "i": pd.array([1, 2, None] * 10, "Int16"),
            "b": pd.array([True, None, False] * 10, "boolean"),
            "s": pd.array(["x", "y", None] * 10, "string"),
        }
    ),
    "float32": lambda: np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32),
    "integers": lambda: np.random.default_rng(0).integers(0, 5, (30, 3)),
    "booleans": lambda: np.random.default_rng(0).random((30, 3)) < 0.4,
    "rows of objects": lambda: [["a", 1.5, True], ["b", None, False]] * 10,
    "names that are no text": lambda: pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2))),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Many rows of X lie on straight lines")
@pytest.mark.filterwarnings("ignore:overflow encountered in square")
@pytest.mark.parametrize("case", ODD)
def test_odd_tables_have_an_answer(case):
    X = ODD[case]()
    table = quick(n_components=1).fit(X)
    Z = table.transform(X)
    assert np.isfinite(Z).all()
    assert np.isfinite(table.score_samples(X)).all()
    assert np.isfinite(table.reconstruction_error(X, per_feature=True)).all()
    assert np.isfinite(table.score(X))
    filled, drawn, sample = table.impute(X), table.impute(X, 1, 0)[0], table.sample(5, 0)
    empty = [column["kind"] == "empty" for column in table.columns_]
    for result in (filled, drawn, sample, table.inverse_transform(Z)):
        cells = pd.DataFrame(result).isna().to_numpy()
        assert np.array_equal(cells.any(axis=0), empty)
        assert type(result) is (np.ndarray if isinstance(X, list) else type(X))


def test_an_empty_row_gets_the_means():
    X = make_frame(300)
    table = quick().fit(X)
    empty = pd.DataFrame({name: [None] for name in X})
    filled = table.impute(empty)
    assert not filled.isna().any(axis=None)
    assert filled["same"].item() == 7.0
    assert table.score_samples(empty) == 0
    assert table.reconstruction_error(empty) == 0


def test_constant_columns_come_back_and_empty_ones_stay_empty(frame):
    X = frame.assign(nothing=None)
    table = quick().fit(X)
    for result in (table.reconstruct(X), table.sample(20, 0), table.impute(X)):
        assert (result["same"] == 7).all()
        assert result["nothing"].isna().all()
    assert table.reconstruction_error(X, per_feature=True)[:, [7, 8]].max() == 0


@pytest.mark.slow
def test_a_wide_table():
    random = np.random.default_rng(0)
    X = pd.DataFrame(random.normal(size=(60, 3)) @ random.normal(size=(3, 300))).add_prefix("x")
    X["kind"] = np.where(X["x0"] > 0, "high", "low")
    table = quick().fit(X.mask(random.random(X.shape) < 0.05))
    assert table.transform(X).shape == (60, 2)
    assert table.sample(5, 0).shape == (5, 301)


def test_ten_thousand_categories_have_bounded_cost():
    X = pd.DataFrame({"a": [f"c{i}" for i in range(10_000)], "b": np.arange(10_000.0)})
    table = quick(max_epochs=1, hidden_layer_sizes=()).fit(X)
    assert len(table.columns_[0]["categories"]) == 10_000
    assert table._column_model.layout.n_entries[0] == 100
    assert set(table.sample(50, 0)["a"]) <= set(X["a"])
    everything = quick(max_epochs=1, hidden_layer_sizes=(), max_categories=None)
    assert everything.fit(X[:1000])._column_model.layout.n_entries[0] == 1000


def test_unknown_categories(frame):
    new = frame[:3].assign(colour="green")
    gap = frame[:3].assign(colour=None)
    ignoring = quick().fit(frame)
    assert np.array_equal(ignoring.transform(new), ignoring.transform(gap))
    assert list(ignoring.impute(new)["colour"]) == ["green"] * 3  # it is observed
    strict = quick(handle_unknown="error").fit(frame)
    with pytest.raises(ValueError, match=r"unknown categories in column 'colour'.*'green'"):
        strict.transform(new)
    rare = frame.assign(colour=frame["colour"].mask(np.arange(200) < 3, "rare"))
    rare.loc[3:5, "colour"] = "odd"
    grouping = quick(handle_unknown="infrequent_if_exist", min_frequency=5).fit(rare)
    as_rare = grouping.transform(rare[:3])
    assert np.array_equal(grouping.transform(rare[:3].assign(colour="new")), as_rare)


def test_whole_numbers_are_categories_where_listed():
    X = pd.DataFrame({"code": [10, 20, 30] * 20, "value": np.arange(60.0)})
    by_default = quick().fit(X)
    listed = quick(categorical_features=["code"]).fit(X)
    assert [c["kind"] for c in by_default.columns_] == ["number", "number"]
    assert listed.columns_[0] == {
        "name": "code",
        "kind": "category",
        "categories": [10, 20, 30],
        "codes": [0, 1, 2],
    }
    assert set(listed.reconstruct(X)["code"]) <= {10, 20, 30}
    assert listed.reconstruct(X)["code"].dtype == X["code"].dtype


TARGETS = {
    "number": [0.5, np.nan, 1.5, 2.5],
    "class": ["a", None, "b", "a"],
    "several": [[1.5, np.nan], [0.0, 2.0], [np.nan, np.nan], [0.3, 1.0]],
}


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_may_have_gaps(frame, kind):
    y = np.array(TARGETS[kind] * 50, dtype=object if kind == "class" else float)
    Z = quick(target_weight=1).fit(frame, y).transform(frame)
    assert np.isfinite(Z).all()


def test_groups_are_held_out_together(frame):
    groups = np.repeat(np.arange(20), 10)
    table = quick().fit(frame, groups=groups)
    assert np.isfinite(table.transform(frame)).all()
    with pytest.raises(ValueError, match="groups has missing values"):
        quick().fit(frame, groups=np.where(groups == 3, np.nan, groups))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(frame, groups=groups[:-1])


def test_other_dtypes_than_in_fit(fitted, frame):
    X = frame.dropna()[:20]
    expected = fitted.transform(X)
    others = X.assign(
        length=X["length"].astype(object),
        count=X["count"].astype(float),
        colour=X["colour"].astype("category"),
        size=X["size"].astype(str),
        sold=X["sold"].astype("boolean"),
        day=X["day"].astype("datetime64[us]"),
    )
    assert_close(fitted.transform(others), expected, 1e-6)


# -- codes -------------------------------------------------------------------------


def famd(X, n_components):
    """Codes and restored coordinates by the singular value decomposition of numpy."""
    parts = []
    for name in X.columns:
        if X[name].dtype.kind in "if":
            parts.append(((X[name] - X[name].mean()) / X[name].std(ddof=0)).to_numpy()[:, None])
        else:
            share = X[name].value_counts(normalize=True).sort_index()
            indicators = X[name].to_numpy()[:, None] == share.index.to_numpy()
            parts.append((indicators - share.to_numpy()) / np.sqrt(share.to_numpy()))
    coordinates = np.concatenate(parts, axis=1)
    U, S, V = np.linalg.svd(coordinates, full_matrices=False)
    Z = U[:, :n_components] * S[:n_components]
    return Z, coordinates, Z @ V[:n_components]


@pytest.mark.parametrize("n_components", [1, 2, 4])
def test_the_linear_autoencoder_is_famd(n_components):
    X = make_frame(150, gaps=False)[["length", "weight", "colour", "count"]]
    table = quick(n_components=n_components, hidden_layer_sizes=()).fit(X)
    Z, coordinates, restored = famd(X, n_components)
    ours = table.transform(X)
    assert_close(ours * np.sign((ours * Z).sum(axis=0)), Z, 1e-6)
    errors = ((coordinates - restored) ** 2).sum(axis=1)
    np.testing.assert_allclose(table.reconstruction_error(X), errors, atol=1e-5)
    assert table.score(X) == pytest.approx(1 - errors.sum() / (coordinates**2).sum(), abs=1e-6)
    back = table.reconstruct(X)
    lengths = restored[:, 0] * X["length"].std(ddof=0) + X["length"].mean()
    np.testing.assert_allclose(
        back["length"], lengths.clip(X["length"].min(), X["length"].max()), atol=1e-6
    )
    share = X["colour"].value_counts(normalize=True).sort_index()
    indicators = restored[:, 2:4] * np.sqrt(share.to_numpy()) + share.to_numpy()
    assert np.array_equal(back["colour"], share.index.to_numpy()[indicators.argmax(axis=1)])
    assert table.pca_error_ratio_ == pytest.approx(1)


def bundled(load):
    X = load(as_frame=True).data
    for name in X.columns[1::3]:
        X[name] = pd.qcut(X[name], 4, labels=list("abcd")).astype(str)
    return train_test_split(X, random_state=0)


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_held_out_rows_are_restored_no_worse_than_by_famd(load):
    train, test = bundled(load)
    params = {"n_components": 2, "n_networks": 1, "column_layer_sizes": 8, "random_state": 0}
    linear = TableAutoencoder(hidden_layer_sizes=(), **params).fit(train)
    assert TableAutoencoder(**params).fit(train).score(test) >= linear.score(test) - 0.01


def test_errors_count_observed_cells_only(fitted, frame):
    errors = fitted.reconstruction_error(frame, per_feature=True)
    assert errors.shape == frame.shape
    assert not errors[frame.isna().to_numpy()].any()
    assert_close(fitted.reconstruction_error(frame), errors.sum(axis=1), 1e-12)
    assert 0 < fitted.score(frame) < 1


def test_restored_numbers_lie_in_the_training_range(fitted, frame):
    far = fitted.inverse_transform(np.full((4, 2), 50.0) * [[1, 1], [1, -1], [-1, 1], [-1, -1]])
    for name in ("length", "weight", "count", "day"):
        assert far[name].between(frame[name].min(), frame[name].max()).all()


# -- gaps --------------------------------------------------------------------------


@TABLES
def test_only_gaps_are_filled(library, frame):
    X = LIBRARIES[library](frame)
    table = quick().fit(X)
    for result in (table.impute(X), *table.impute(X, 2, 0)):
        as_frame = [
            pd.DataFrame(t) if library == "array" else t if library == "pandas" else t.to_pandas()
            for t in (X, result)
        ]
        before, after = (t.astype(object).to_numpy() for t in as_frame)
        observed = ~pd.isna(before)
        assert np.array_equal(before[observed], after[observed])
        assert not pd.isna(after).any()


def test_means_lie_in_the_training_range(fitted, frame):
    filled = fitted.impute(frame)
    gaps = frame["weight"].isna()
    assert filled["weight"][gaps].between(frame["weight"].min(), frame["weight"].max()).all()
    error = np.abs(filled["weight"] - 3 * frame["length"])[gaps].mean()
    assert error < np.abs(frame["weight"].mean() - 3 * frame["length"])[gaps].mean()


def test_multiple_imputations_differ_and_repeat(fitted, frame):
    first, second = fitted.impute(frame, 2, random_state=0)
    assert not first.equals(second)
    assert first.equals(fitted.impute(frame, 1, random_state=0)[0])
    assert set(first["weight"]) <= set(frame["weight"].dropna())
    with pytest.raises(ValueError, match="n_imputations"):
        fitted.impute(frame, 0)


# -- samples -----------------------------------------------------------------------


def test_samples_without_training_match_the_marginals():
    X = make_frame(9, gaps=False)  # too few rows to train on: columns are independent
    sample = quick().fit(X).sample(4000, 0)
    for name in ("colour", "sold", "size", "count"):
        share = X[name].value_counts(normalize=True)
        drawn = sample[name].value_counts(normalize=True).reindex(share.index).fillna(0)
        assert np.abs(drawn - share).max() < 0.03
    assert abs(np.corrcoef(sample["length"], sample["weight"])[0, 1]) < 0.06


def test_samples_repeat_and_hold_values_of_training(fitted, frame):
    one, two, other = (fitted.sample(300, seed) for seed in (0, 0, 1))
    assert one.equals(two)
    assert not one.equals(other)
    for name in ("length", "weight", "count", "colour", "size", "sold", "day", "same"):
        assert set(one[name]) <= set(frame[name].dropna())
    assert np.corrcoef(one["length"], one["weight"])[0, 1] > 0.5


DAY = dt.date(2020, 5, 1)
CONDITIONS = {
    "a category": ({"colour": "red"}, lambda X: X["colour"] == "red"),
    "a number": ({"count": 1}, lambda X: X["count"] == 1),
    "a new number": ({"length": 0.12345}, lambda X: X["length"] == 0.12345),
    "a boolean": ({"sold": True}, lambda X: X["sold"]),
    "a list": ({"size": ["small", "large"]}, lambda X: X["size"].isin(["small", "large"])),
    "a set of numbers": ({"count": {0, 2}}, lambda X: X["count"].isin([0, 2])),
    "an array": ({"count": np.array([0, 2])}, lambda X: X["count"].isin([0, 2])),
    "a range": ({"length": (0, 0.5)}, lambda X: X["length"].between(0, 0.5)),
    "an open range": ({"weight": (2, None)}, lambda X: X["weight"] >= 2),
    "a range of dates": (
        {"day": (None, pd.Timestamp(DAY))},
        lambda X: X["day"] <= pd.Timestamp(DAY),
    ),
    "a date": ({"day": DAY}, lambda X: X["day"] == pd.Timestamp(DAY)),
    "a numpy date": ({"day": np.datetime64(DAY)}, lambda X: X["day"] == pd.Timestamp(DAY)),
    "an ordered range": (
        {"size": ("middle", None)},
        lambda X: X["size"].isin(["middle", "large"]),
    ),
    "an ordered category": ({"size": "middle"}, lambda X: X["size"] == "middle"),
    "a constant": ({"same": 7}, lambda X: X["same"] == 7),
    "a range around a constant": ({"same": (6, 8)}, lambda X: X["same"] == 7),
    "several ranges": (
        {"length": (-1, 1), "weight": (0, 4), "day": (pd.Timestamp(DAY), None)},
        lambda X: (
            X["length"].between(-1, 1) & X["weight"].between(0, 4) & (X["day"] >= pd.Timestamp(DAY))
        ),
    ),
    "all sorts": (
        {"colour": "red", "size": ["large"], "length": (0.5, None), "sold": False},
        lambda X: (
            (X["colour"] == "red") & (X["size"] == "large") & (X["length"] >= 0.5) & ~X["sold"]
        ),
    ),
    "an unlikely pair": (
        {"length": (1.5, None), "size": ["small"]},
        lambda X: (X["length"] >= 1.5) & (X["size"] == "small"),
    ),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_conditions_hold(fitted, case):
    condition, holds = CONDITIONS[case]
    sample = fitted.sample(100, 0, condition=condition)
    assert holds(sample).all()
    assert sample.notna().all(axis=None)


def test_conditions_by_position(frame):
    table = quick().fit(frame[["length", "colour"]].to_numpy(dtype=object))
    sample = table.sample(20, 0, condition={1: "red", 0: (0, None)})
    assert set(sample[:, 1]) == {"red"}
    assert min(sample[:, 0]) >= 0


@pytest.mark.filterwarnings("ignore:Many rows of X lie on straight lines")
def test_conditions_with_zones():
    X = ODD["zones"]()
    start, end = dt.datetime(2020, 3, 29, tzinfo=ZONE), dt.datetime(2020, 3, 29, 12, tzinfo=ZONE)
    sample = quick().fit(X).sample(50, 0, condition={"t": (start, end)})
    assert sample["t"].between(start, end).all()
    assert sample["t"].dtype == X["t"].dtype


IMPOSSIBLE = {
    "no column": ({"height": 1}, ValueError, "names 'height', which is no column.*'length'"),
    "no category": ({"colour": "green"}, ValueError, "'green' is not among .*'blue', 'red'"),
    "one of a list": ({"colour": ["red", "green"]}, ValueError, "'green' is not among"),
    "no value in a range": ({"length": (50, 60)}, ValueError, r"\(50, 60\).*widen it"),
    "no value in a list": ({"length": [77.7]}, ValueError, r"\[77.7\].*widen it"),
    "an empty list": ({"length": []}, ValueError, "widen it"),
    "a wrong order": ({"length": (1, 0)}, ValueError, "widen it"),
    "a gap": ({"length": None}, ValueError, "None is not among"),
    "text for a number": ({"length": "long"}, ValueError, "numbers .* text"),
    "a number for a date": ({"day": 3}, ValueError, "dates .* numbers"),
    "three ends": ({"length": (1, 2, 3)}, ValueError, "a tuple is the lowest and highest"),
    "a range of text": ({"colour": ("a", "b")}, ValueError, "Pass a list of values"),
    "half a count": ({"count": 1.5}, ValueError, "cannot hold the value exactly; the nearest is"),
    "an hour of a day": (
        {"day": dt.datetime(2020, 5, 1, 3)},
        ValueError,
        "cannot hold the value exactly",
    ),
    "another constant": ({"same": 8}, ValueError, "widen it"),
    "a range beside a constant": ({"same": (8, 9)}, ValueError, "widen it"),
    "no dict": ([("length", 1)], TypeError, "must be a dict"),
    "infinity": ({"length": np.inf}, ValueError, "infinity"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_conditions_say_so(fitted, case):
    condition, error, message = IMPOSSIBLE[case]
    with pytest.raises(error, match=message):
        fitted.sample(3, 0, condition=condition)


def test_rare_categories_cannot_be_asked_for(frame):
    colour = frame["colour"].mask(np.arange(200) < 6, "rare").mask(np.arange(200) < 2, "odd")
    table = quick(min_frequency=10).fit(frame.assign(colour=colour))
    assert set(table.sample(9, 0, condition={"colour": "rare"})["colour"]) == {"rare"}
    with pytest.raises(ValueError, match=r"'odd' is an infrequent category.*'rare'"):
        table.sample(3, 0, condition={"colour": "odd"})


# -- likelihoods -------------------------------------------------------------------


def test_probabilities_of_all_rows_sum_to_one():
    random = np.random.default_rng(0)
    first = random.integers(0, 3, 120)
    X = pd.DataFrame(
        {"a": first, "b": np.where(random.random(120) < 0.8, first % 2, 1 - first % 2)}
    )
    X["c"] = np.where(X["a"] + X["b"] > 1, "u", "v")
    table = quick(max_epochs=20, categorical_features=["b"]).fit(X)
    every = pd.DataFrame(
        [(a, b, c) for a in range(3) for b in range(2) for c in "uv"], columns=list("abc")
    )
    assert np.exp(table.score_samples(every)).sum() == pytest.approx(1, abs=1e-6)
    margin = every.assign(c=None)[::2]
    assert np.exp(table.score_samples(margin)).sum() == pytest.approx(1, abs=1e-6)


def test_score_samples_prefers_rows_that_hang_together(fitted):
    X = make_frame(300, seed=1, gaps=False)
    shuffled = X.assign(weight=X["weight"].sample(frac=1, random_state=0).to_numpy())
    assert fitted.score_samples(X).mean() > fitted.score_samples(shuffled).mean() + 0.1


# -- broken input ------------------------------------------------------------------

GOOD = make_frame(30)


def broken(**columns):
    return GOOD.assign(**columns)


BROKEN_FIT = {
    "infinity": (broken(length=np.inf), ValueError, "infinity in column 'length'"),
    "complex numbers": (broken(length=1j), ValueError, "Complex data not supported"),
    "lists": (broken(length=[[1]] * 30), TypeError, "type 'list'"),
    "a series": (GOOD["length"], ValueError, "2-dimensional|2D"),
    "no rows": (GOOD[:0], ValueError, r"0 sample\(s\)"),
    "no columns": (GOOD[[]], ValueError, r"0 feature\(s\)"),
    "repeated names": (GOOD[["length", "length"]], ValueError, "several columns named 'length'"),
    "names of two types": (broken(**{"x": 1}).rename(columns={"x": 3}), TypeError, "strings"),
    "a lazy frame": (pl.LazyFrame({"a": [1]}), TypeError, r"X\.collect\(\)"),
    "None": (None, ValueError, "2D array"),
}
BROKEN_LATER = {
    **{case: BROKEN_FIT[case] for case in ("infinity", "lists", "no rows")},
    "an array of another width": (np.ones((3, 5)), ValueError, "X has 5 features, but TableAuto"),
    "one column less": (
        GOOD.drop(columns="same"),
        ValueError,
        "feature names.*\n.*missing.*\n.*same",
    ),
    "one column more": (broken(more=1), ValueError, "unseen at fit time:\n- more"),
    "another order": (GOOD[GOOD.columns[::-1]], ValueError, "must be in the same order"),
    "another name": (
        GOOD.rename(columns={"day": "date"}),
        ValueError,
        "unseen at fit time:\n- date",
    ),
    "text for numbers": (broken(length="x"), ValueError, "held numbers in fit and now holds text"),
    "numbers for dates": (broken(day=1.0), ValueError, "held dates.* now holds numbers"),
    "zones for dates": (broken(day=GOOD["day"].dt.tz_localize("UTC")), ValueError, "with a time"),
    "durations for dates": (broken(day=pd.Timedelta("1D")), ValueError, "durations"),
    "dates for numbers": (broken(weight=GOOD["day"]), ValueError, "held numbers .* holds dates"),
    "text for booleans": (
        broken(sold="yes"),
        ValueError,
        "unknown categories in column 'sold'.*'yes'",
    ),
}
AFTER_FIT = ["transform", "reconstruct", "reconstruction_error", "score", "score_samples", "impute"]


@pytest.mark.parametrize("case", BROKEN_FIT)
def test_broken_frames_cannot_be_fitted(case):
    X, error, message = BROKEN_FIT[case]
    for method in ("fit", "fit_transform", "partial_fit"):
        table = quick()
        with pytest.raises(error, match=message):
            getattr(table, method)(X)
        assert set(vars(table)) == set(table.get_params())


@pytest.fixture(scope="module")
def strict():
    return quick(handle_unknown="error").fit(GOOD)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("method", [*AFTER_FIT, "partial_fit"])
@pytest.mark.parametrize("case", BROKEN_LATER)
def test_broken_frames_after_fit(strict, case, method):
    X, error, message = BROKEN_LATER[case]
    with pytest.raises(error, match=message):
        getattr(strict, method)(X)
    assert strict.n_samples_ == 30


@pytest.mark.parametrize("method", [*AFTER_FIT, "inverse_transform"])
def test_before_fit_every_method_says_so(method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(quick(), method)(GOOD)
    with pytest.raises(NotFittedError):
        quick().sample(1)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.ones((3, 3)), "3 columns.*n_components_=2"),
        (np.full((3, 2), np.nan), "NaN"),
        (np.ones(2), "Expected 2D array"),
        (np.array([["a", "b"]]), "could not convert|dtype"),
    ],
    ids=["width", "NaN", "1-D", "text"],
)
def test_broken_codes(fitted, codes, message):
    with pytest.raises(ValueError, match=message):
        fitted.inverse_transform(codes)


BAD_VALUES = {
    "n_components": [0, 1.5, "two", True],
    "categorical_features": ["colour", 3, ["height"], [99], [[0]]],
    "handle_unknown": ["drop", None],
    "min_frequency": [0, 1.0, "few"],
    "max_categories": [1, "all"],
    "column_layer_sizes": [0, (), (8, 0), (8.5,), "wide"],
    "n_networks": [0, 1.5],
    "hidden_layer_sizes": ["wide", (0,)],
    "target_weight": [-1, None],
    "lr": [0, "auto"],
    "weight_decay": [-1],
    "batch_size": [0, "all"],
    "max_epochs": [0, "many"],
    "validation_fraction": [0, 1],
    "device": ["cuda:99", 0],
    "random_state": ["a"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values]
)
def test_bad_parameters_are_named(name, value):
    with pytest.raises((InvalidParameterError, ValueError), match=name) as error:
        quick(**{name: value}).fit(GOOD)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("n_samples", [0, 2.5, "one"])
def test_bad_numbers_of_samples(fitted, n_samples):
    with pytest.raises((ValueError, TypeError), match="n_samples"):
        fitted.sample(n_samples)


def test_a_failed_fit_changes_nothing(frame):
    table = quick().fit(frame)
    before = table.transform(frame)
    with pytest.raises(ValueError, match="infinity"):
        table.fit(frame.assign(length=np.inf))
    assert np.array_equal(table.transform(frame), before)


# -- rows in parts -----------------------------------------------------------------


def batches(n_batches, n_rows=300):
    for i in range(n_batches):
        frame = make_frame(n_rows, seed=100 + i)
        frame["colour"] = pd.Categorical(frame["colour"], ["red", "blue", "grey"])
        yield frame


def test_batches_approach_fit():
    test = make_frame(400, seed=1)
    table, scores, likelihoods = quick(), [], []
    for X in batches(8):
        table.partial_fit(X)
        scores.append(table.score(test))
        likelihoods.append(table.score_samples(test).mean())
    whole = quick().fit(pd.concat(batches(8)))
    assert table.n_samples_ == 2400
    assert likelihoods[-1] > likelihoods[0] + 0.2
    assert table.score(test) > whole.score(test) - 0.1
    assert len(table.loss_curve_) == 8
    assert table.sample(5, 0).shape == (5, 8)


def test_declared_categories_may_come_later():
    first, second, *_ = batches(2)
    first = first[(first["colour"] == "blue") & (first["size"] != "large")]
    table = quick().partial_fit(first)
    assert table.columns_[3]["categories"] == ["blue", "grey", "red"]
    assert table.columns_[4]["categories"] == ["small", "middle", "large"]
    assert np.isfinite(table.transform(second)).all()
    before = table.score_samples(second)
    assert np.isfinite(before).all()
    for _ in range(3):
        table.partial_fit(second)
    assert table.score_samples(second).mean() > before.mean()
    assert table.sample(20, 0, condition={"colour": "red"})["colour"].eq("red").all()
    assert np.isfinite(table.reconstruction_error(second)).all()


@pytest.mark.parametrize(
    "declare",
    [
        lambda values: pl.DataFrame({"a": pl.Series(values, dtype=pl.Enum(["x", "y", "z"]))}),
        lambda values: pa.table(
            {
                "a": pa.DictionaryArray.from_arrays(
                    [["x", "y", "z"].index(v) for v in values], pa.array(["x", "y", "z"])
                )
            }
        ),
    ],
    ids=["polars", "pyarrow"],
)
def test_declared_categories_of_other_libraries(declare):
    table = quick(n_components=1).partial_fit(declare(["x", "x", "y"] * 10))
    assert table.columns_[0]["categories"] == ["x", "y", "z"]
    assert np.isfinite(table.transform(declare(["z"] * 4))).all()


def test_categories_that_are_not_declared_are_gaps_later(frame):
    table = quick().partial_fit(frame)
    new = frame.assign(colour="green")
    assert np.array_equal(table.transform(new), table.transform(frame.assign(colour=None)))
    table.partial_fit(new)
    with pytest.raises(ValueError, match="unknown categories"):
        quick(handle_unknown="error").partial_fit(frame).partial_fit(new)


def test_a_pickle_continues_where_the_original_does():
    parts = list(batches(4))
    table, copied = quick(), quick()
    for X in parts:
        table.partial_fit(X)
        copied = pickle.loads(pickle.dumps(copied.partial_fit(X)))
    assert np.array_equal(table.transform(parts[0]), copied.transform(parts[0]))
    assert np.array_equal(table.score_samples(parts[0]), copied.score_samples(parts[0]))


def test_a_fit_can_be_continued(frame):
    table = quick().fit(frame)
    twin = pickle.loads(pickle.dumps(table))
    before = table.score_samples(frame)
    table.partial_fit(make_frame(seed=3))
    assert table.n_samples_ == 400
    assert not np.array_equal(table.score_samples(frame), before)
    assert np.array_equal(twin.score_samples(frame), before)


def test_a_failed_part_changes_nothing(frame):
    table = quick().partial_fit(frame)
    before = table.score_samples(frame)
    table.set_params(n_components=3)
    with pytest.raises(ValueError, match="n_components"):
        table.partial_fit(frame)
    assert np.array_equal(table.score_samples(frame), before)
    assert table.n_samples_ == 200


def test_parts_do_not_take_targets(frame):
    with pytest.raises(AttributeError, match="partial_fit"):
        quick(target_weight=1).partial_fit(frame)
