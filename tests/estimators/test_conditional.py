"""The conditional variational autoencoder: conditions, identities, and what it is for."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import assert_close, slow_but_first
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

from skae import ConditionalVAE, VAETransformer

NUMBERS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]


@pytest.fixture(scope="module")
def flowers():
    """150 rows of four numbers and a class, in a mixed order."""
    bunch = load_iris(as_frame=True)
    frame = bunch.frame.rename(columns={"target": "species"})
    frame["species"] = bunch.target_names[frame["species"]]
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


@pytest.fixture(scope="module")
def fitted(flowers):
    return quick().fit(flowers)


@pytest.fixture(scope="module")
def digits():
    """Images with their class in the last column: training rows and test rows."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(np.c_[X / 16, y], stratify=y, random_state=0)


@pytest.fixture(scope="module")
def of_digits(digits):
    options = {"condition_features": [64], "categorical_features": [64], "random_state": 0}
    return ConditionalVAE(4, max_epochs=60, **options).fit(digits[0])


def quick(**params):
    options = {"condition_features": ["species"], "max_epochs": 5, "random_state": 0, **params}
    return ConditionalVAE(options.pop("n_components", 2), **options)


def by_position(**params):
    return quick(**{"condition_features": [0], **params})


# -- scikit-learn's contract -------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    slow_but_first(
        [
            by_position(condition_features=None, early_stopping=False),
            by_position(max_epochs=2),
            by_position(hidden_layer_sizes=(), n_components=3, early_stopping=False),
            by_position(beta=2.0, activation="tanh", batch_size=7, early_stopping=False),
        ]
    ),
    ids=lambda estimator: str(estimator)[:80],
)
def test_check_estimator(estimator):
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert failed == []


def test_search_in_a_pipeline(flowers):
    pipeline = make_pipeline(quick(), LogisticRegression())
    search = GridSearchCV(pipeline, {"conditionalvae__n_components": [1, 2]}, cv=2)
    search.fit(flowers, flowers["sepal length (cm)"] > 5.8)
    assert search.best_score_ > 0.5


def test_pickles_and_clones_give_the_same_codes(fitted, flowers):
    copy = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(copy.transform(flowers), fitted.transform(flowers))
    pd.testing.assert_frame_equal(copy.sample(5, 0), fitted.sample(5, 0))
    again = clone(fitted).fit(flowers)
    assert np.array_equal(again.transform(flowers), fitted.transform(flowers))


@pytest.mark.parametrize("name", ["_prior", "_rotation", "_rows", "net_"])
def test_a_damaged_state_is_refused(fitted, name):
    state = fitted.__getstate__()
    del state[name]
    with pytest.raises(ValueError, match="damaged"):
        ConditionalVAE.__new__(ConditionalVAE).__setstate__(state)


def test_networks_that_do_not_belong_together_are_refused(fitted):
    state = fitted.net_.__getstate__()["network"]
    broken = {**state, "network": {**state["network"], "encoder": state["network"]["decoder"]}}
    from skae.networks.serialization import network_from_config

    with pytest.raises(ValueError, match="do not belong together"):
        network_from_config(broken)
    with pytest.raises(ValueError, match="encoding of the network"):
        network_from_config({**state, "encoding": state["encoding"][:, 1:]})


def test_the_callers_generators_and_threads_stay(flowers):
    random, torch_state = np.random.mtrand._rand.__getstate__(), torch.get_rng_state()
    threads = torch.get_num_threads()
    quick().fit(flowers).sample(3, random_state=0)
    np.testing.assert_equal(np.random.mtrand._rand.__getstate__(), random)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads


def test_nothing_is_printed(flowers, capsys):
    quick().fit(flowers).transform(flowers)
    assert capsys.readouterr() == ("", "")


def test_a_failed_fit_leaves_the_estimator_as_it_was(fitted, flowers):
    copy = pickle.loads(pickle.dumps(fitted))
    before = copy.transform(flowers)
    with pytest.raises(ValueError, match="gaps"):
        copy.fit(flowers.mask(flowers == "setosa"))
    assert np.array_equal(copy.transform(flowers), before)


def test_set_output(fitted, flowers):
    frame = pickle.loads(pickle.dumps(fitted)).set_output(transform="polars").transform(flowers)
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == ["conditionalvae0", "conditionalvae1"]


# -- identities --------------------------------------------------------------------


def test_without_a_condition_the_linear_model_is_probabilistic_pca():
    X = StandardScaler().fit_transform(load_breast_cancer().data[:, :8])
    linear = ConditionalVAE(3, hidden_layer_sizes=(), max_epochs=2, random_state=0).fit(X)
    pca = PCA(3).fit(X)
    assert_close(linear.score_samples(X), pca.score_samples(X), 1e-6)
    assert_close(linear.noise_variance_, pca.noise_variance_, 1e-6)


def test_the_linear_model_is_probabilistic_pca_of_the_residuals_of_a_regression(flowers):
    linear = quick(hidden_layer_sizes=()).fit(flowers)
    given = OneHotEncoder().fit_transform(flowers[["species"]]).toarray()
    X = flowers[NUMBERS].to_numpy()
    residuals = X - LinearRegression().fit(given, X).predict(given)
    assert_close(
        linear.score_samples(flowers), PCA(2).fit(residuals).score_samples(residuals), 1e-6
    )


def test_the_bound_rises_with_the_number_of_draws(of_digits, digits):
    few, many = (of_digits.score_samples(digits[1], n_draws=n).mean() for n in (1, 64))
    assert few < many


def test_translating_to_the_own_condition_changes_nothing(fitted, flowers):
    same = fitted.translate(flowers, flowers)
    pd.testing.assert_frame_equal(same, flowers)
    decoded = fitted.translate(flowers, flowers, keep_residual=False)
    pd.testing.assert_frame_equal(decoded, fitted.reconstruct(flowers))


def test_reconstructions_are_decoded_codes(fitted, flowers):
    decoded = fitted.inverse_transform(fitted.transform(flowers), flowers[["species"]])
    expected = fitted.reconstruct(flowers)
    assert_close(decoded[NUMBERS], expected[NUMBERS].to_numpy(), 1e-12)
    errors = np.square(flowers[NUMBERS] - expected[NUMBERS]).sum(axis=1)
    assert_close(fitted.reconstruction_error(flowers), errors.to_numpy(), 1e-12)
    each = fitted.reconstruction_error(flowers, per_feature=True)
    assert each.shape == flowers.shape
    assert_close(each.sum(axis=1), errors.to_numpy(), 1e-12)
    assert not each[:, list(flowers).index("species")].any()
    total = np.square(flowers[NUMBERS] - flowers[NUMBERS].mean()).to_numpy().sum()
    assert fitted.score(flowers) == pytest.approx(1 - errors.sum() / total)


def test_posteriors_have_the_codes_as_means(fitted, flowers):
    mean, std = fitted.posterior(flowers)
    assert np.array_equal(mean, fitted.transform(flowers))
    assert ((std > 0) & (std < 1.5)).all()


def test_codes_and_posteriors_together_have_the_moments_of_the_prior(of_digits, digits):
    mean, std = of_digits.posterior(digits[0])
    assert np.abs(mean.mean(axis=0)).max() < 1e-6
    assert_close(mean.var(axis=0) + np.square(std).mean(axis=0), np.ones(4), 1e-6)
    assert (np.diff(of_digits.kl_per_component_) <= 0).all()


def test_a_constant_condition_changes_nothing(flowers):
    codes = quick(condition_features=None).fit(flowers[NUMBERS]).transform(flowers[NUMBERS])
    frame = flowers[NUMBERS].assign(species="same")
    assert_close(quick().fit(frame).transform(frame), codes, 1e-5)


# -- what it is for ----------------------------------------------------------------


def test_samples_show_the_class_that_is_asked(of_digits, digits):
    train, test = digits
    judge = SVC(C=10).fit(train[:, :64], train[:, 64])
    asked = np.tile(np.arange(10.0), 50)
    drawn = of_digits.sample(500, 0, condition={64: asked})
    assert np.array_equal(drawn[:, 64], asked)
    assert judge.score(drawn[:, :64], asked) > 0.97
    trained_on_drawn = SVC(C=10).fit(drawn[:, :64], asked).score(test[:, :64], test[:, 64])
    assert trained_on_drawn > 0.9 * judge.score(test[:, :64], test[:, 64])


def test_codes_say_nothing_about_the_condition(of_digits, digits):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    for rows in digits:
        classes = rows[:, 64]
        read = cross_val_score(model, of_digits.transform(rows), classes).mean()
        assert read < np.bincount(classes.astype(int)).max() / len(rows) + 0.05


def test_codes_have_the_prior_in_each_class(of_digits, digits):
    mean, std = of_digits.posterior(digits[0])
    for label in range(10):
        own = digits[0][:, 64] == label
        assert np.abs(mean[own].mean(axis=0)).max() < 1e-6
        squares = (np.square(mean[own]) + np.square(std[own])).mean(axis=0)
        assert_close(squares, np.ones(4), 0.1)


def test_the_bound_is_higher_than_without_the_condition(of_digits, digits):
    train, test = digits
    plain = VAETransformer(4, max_epochs=60, random_state=0).fit(train[:, :64])
    assert of_digits.score_samples(test).mean() > plain.score_samples(test[:, :64]).mean() + 2


def test_rows_of_two_sites_are_harmonised(flowers):
    random = np.random.default_rng(0)
    site = random.permutation(np.repeat(["a", "b"], 75))
    shifted = flowers[NUMBERS] + np.where(site == "b", 1.5, 0.0)[:, None]
    frame = shifted.assign(site=site)
    model = quick(condition_features=["site"], max_epochs=30).fit(frame)
    moved = model.translate(frame, {"site": "a"})
    assert (moved["site"] == "a").all()
    error = np.abs(moved[NUMBERS] - flowers[NUMBERS]).to_numpy()[site == "b"].mean()
    assert error < 0.25  # it was 1.5
    gap = moved[NUMBERS][site == "a"].mean() - moved[NUMBERS][site == "b"].mean()
    assert np.abs(gap).max() < 0.25


def test_numbers_are_conditions_too():
    X, size = load_breast_cancer().data[:, 4:10], load_breast_cancer().data[:, :1]
    rows = np.hstack([X, size])
    model = by_position(condition_features=[6], max_epochs=30).fit(rows)
    small, large = (model.sample(200, 0, condition={6: value}) for value in (10.0, 20.0))
    assert np.array_equal(large[:, 6], np.full(200, 20.0))
    expected = LinearRegression().fit(size, X[:, 2]).coef_[0] * 10  # concavity rises with the size
    assert large[:, 2].mean() - small[:, 2].mean() == pytest.approx(expected, rel=0.4)


# -- conditions and tables ---------------------------------------------------------


@pytest.mark.parametrize(
    "features", [["species"], [4], [False] * 4 + [True], make_column_selector(dtype_exclude=float)]
)
def test_columns_of_the_condition_may_be_named_in_any_way(flowers, fitted, features):
    model = quick(condition_features=features).fit(flowers)
    assert model.condition_features_ == ["species"]
    assert np.array_equal(model.transform(flowers), fitted.transform(flowers))


@pytest.mark.parametrize(
    "condition",
    [
        {"species": "setosa"},
        {"species": ["setosa"] * 3},
        pd.DataFrame({"species": ["setosa"] * 3}),
        pl.DataFrame({"species": ["setosa"] * 3, "other": [1, 2, 3]}),
        np.array([["setosa"]] * 3, dtype=object),
    ],
    ids=["value", "list", "pandas", "polars", "array"],
)
def test_conditions_may_be_given_in_any_way(fitted, condition):
    drawn = fitted.sample(3, 0, condition=condition)
    pd.testing.assert_frame_equal(drawn, fitted.sample(3, 0, condition={"species": "setosa"}))
    assert drawn["species"].tolist() == ["setosa"] * 3


def test_without_a_condition_samples_have_those_of_training_rows(fitted):
    assert set(fitted.sample(200, 0)["species"]) == {"setosa", "versicolor", "virginica"}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_come_back_as_they_went_in(flowers, library):
    frame = flowers.astype({"petal width (cm)": "float32", "species": "category"})
    frame["count"] = np.arange(150)
    frame = pl.from_pandas(frame) if library == "polars" else frame.set_index(frame.index + 7)
    model = quick().fit(frame)
    for back in (model.reconstruct(frame), model.translate(frame, {"species": "setosa"})):
        assert type(back) is type(frame)
        assert list(back.columns) == list(frame.columns)
        if library == "polars":
            assert back.schema["count"] == pl.Int64
        else:
            assert back.dtypes.equals(frame.dtypes)
            assert back.index.equals(frame.index)


def test_read_only_memory_maps(flowers, tmp_path, fitted):
    rows = flowers[NUMBERS].assign(k=pd.factorize(flowers["species"])[0]).to_numpy()
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    options = {"condition_features": [4], "categorical_features": [4]}
    codes = [by_position(**options).fit(X).transform(X) for X in (mapped, rows)]
    assert np.array_equal(*codes)


def test_one_row_and_equal_rows():
    one = by_position().fit(np.array([[1.0, 2.0, 3.0]]))
    assert_close(one.reconstruct([[1.0, 2.0, 3.0]]), np.array([[1.0, 2.0, 3.0]]), 1e-12)
    equal = by_position().fit(np.ones((20, 3)))
    assert np.array_equal(equal.sample(4, 0, observation_noise=False), np.ones((4, 3)))


def test_rows_far_from_all_others_are_decoded_linearly(of_digits, digits):
    far = digits[1][:1].copy()
    far[0, :64] *= 1e6
    assert np.isfinite(of_digits.transform(far)).all()
    assert np.isfinite(of_digits.reconstruct(far)).all()


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("species", "condition_features"),
        (["colour"], "condition_features has the name 'colour'"),
        ([9], "condition_features has the position 9"),
        ([True], "condition_features is a mask of 1 booleans"),
        ([*NUMBERS, "species"], "none is left to model"),
        (None, "'species' holds text, booleans or categories"),
    ],
)
def test_bad_columns_of_a_condition(flowers, features, message):
    with pytest.raises(ValueError, match=message):
        quick(condition_features=features).fit(flowers)


def test_gaps_are_refused_with_a_remedy(fitted, flowers):
    for column in ("species", "petal width (cm)"):
        frame = flowers.astype({"species": object}).copy()
        frame.loc[[3, 5], column] = None
        with pytest.raises(ValueError, match=rf"'{column[:5]}.*2 gaps.*AutoencoderImputer"):
            quick().fit(frame)
        with pytest.raises(ValueError, match="2 gaps"):
            fitted.transform(frame)


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        ({"species": "rose"}, ValueError, "'rose'"),
        ({"colour": "red"}, ValueError, "'colour', which is no column of the condition"),
        ({}, ValueError, "condition lacks 'species'"),
        ({"species": ["setosa"] * 2}, ValueError, "2 values of 'species', but there are 3 rows"),
        (np.full((3, 3), "setosa", dtype=object), ValueError, "condition has 3 columns"),
        (pd.DataFrame({"colour": ["red"] * 3}), ValueError, "condition lacks 'species'"),
        ({"species": None}, ValueError, "None"),
    ],
)
def test_bad_conditions(fitted, condition, error, message):
    with pytest.raises(error, match=message):
        fitted.sample(3, 0, condition=condition)


def test_codes_need_their_condition(fitted, flowers):
    with pytest.raises(ValueError, match="condition lacks 'species'"):
        fitted.inverse_transform(fitted.transform(flowers))


def test_new_categories_are_refused(fitted, flowers):
    with pytest.raises(ValueError, match="unknown categories"):
        fitted.transform(flowers.replace("setosa", "rose"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 0.9}, "n_components"),
        ({"condition_features": 4}, "condition_features"),
        ({"categorical_features": "all"}, "categorical_features"),
        ({"hidden_layer_sizes": (8, 0)}, "hidden_layer_sizes"),
        ({"beta": -1.0}, "beta"),
        ({"device": "cuda:99"}, "device"),
        ({"callbacks": [3]}, "callbacks"),
    ],
)
def test_bad_parameters(flowers, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        quick(**params).fit(flowers)


def test_groups_are_held_out_together(flowers):
    groups = np.arange(150) // 3
    model = quick().fit(flowers, groups=groups)
    assert model.n_iter_ >= 0
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(flowers, groups=groups[:10])


def test_onnxruntime_answers_as_skae(fitted, of_digits, flowers, digits):
    onnxruntime = pytest.importorskip("onnxruntime")
    from skae.export import to_onnx

    for model, X in ((fitted, flowers), (of_digits, digits[1])):
        for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-10)):
            session = onnxruntime.InferenceSession(to_onnx(model, dtype=dtype).SerializeToString())
            (codes,) = session.run(None, {"X": model.to_numbers(X).astype(dtype)})
            assert_close(codes, model.transform(X), tolerance)
    with pytest.raises(ValueError, match="'reconstruct' of a ConditionalVAE cannot be exported"):
        to_onnx(fitted, "reconstruct")
