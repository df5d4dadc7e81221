"""Rows come out in the frames that `set_output` asks for; codes in frames are checked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import OwnModule, suited
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae.metrics import reconstruction_score

FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
EACH = pytest.mark.parametrize("output", FRAMES)
# What returns rows in input units.
ROWS_OUT = {
    "reconstruct": lambda estimator, X: estimator.reconstruct(X),
    "reconstruct by name": lambda estimator, X: estimator.reconstruct(X=X),
    "inverse_transform": lambda estimator, X: estimator.inverse_transform(estimator.transform(X)),
    "denoise": lambda estimator, X: getattr(estimator, "denoise", estimator.reconstruct)(X),
}
each_method = pytest.mark.parametrize("method", ROWS_OUT.values(), ids=ROWS_OUT)


@pytest.fixture(scope="module")
def frame():
    """178 rows with column names and an index that does not count rows."""
    X = load_wine(as_frame=True).data
    return X.set_index(pd.Index([f"bottle {i}" for i in range(len(X))]))


@each_method
def test_pandas_keeps_names_and_index(quick, frame, method):
    quick.set_output(transform="pandas").fit(frame)
    reconstructed = method(quick, frame)
    assert isinstance(reconstructed, pd.DataFrame)
    assert reconstructed.columns.equals(frame.columns)
    assert reconstructed.index.equals(frame.index)


@each_method
def test_polars_keeps_names(quick, frame, method):
    rows = pl.from_pandas(frame)
    reconstructed = method(quick.set_output(transform="polars").fit(rows), rows)
    assert isinstance(reconstructed, pl.DataFrame)
    assert reconstructed.columns == list(frame.columns)


@EACH
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_frames_hold_the_bits_of_the_array(quick, frame, output):
    plain = quick.fit(frame)
    rows, reconstructed = frame.to_numpy(), plain.reconstruct(frame)
    sampled = plain.sample(5, random_state=0)
    framed = clone(quick).set_output(transform=output).fit(frame)
    assert isinstance(reconstructed, np.ndarray)
    assert np.array_equal(framed.reconstruct(frame).to_numpy(), reconstructed)
    assert np.array_equal(framed.reconstruct(rows).to_numpy(), reconstructed)
    assert np.array_equal(framed.sample(5, random_state=0).to_numpy(), sampled)


@EACH
def test_samples_have_the_names_and_an_index_of_their_own(quick, frame, output):
    drawn = quick.set_output(transform=output).fit(frame).sample(4, random_state=0)
    assert isinstance(drawn, FRAMES[output])
    assert list(drawn.columns) == list(frame.columns)
    if output == "pandas":
        assert drawn.index.equals(pd.RangeIndex(4))
    assert isinstance(quick.sample(n_samples=2), FRAMES[output])


@EACH
def test_without_names_columns_have_scikit_learns(quick, wine, output):
    quick.set_output(transform=output).fit(wine)
    names = [f"x{i}" for i in range(13)]
    for rows in (
        quick.reconstruct(wine),
        quick.sample(2),
        quick.inverse_transform(np.ones((3, quick.n_components_))),
    ):
        assert list(rows.columns) == names


@EACH
def test_the_global_configuration_is_honoured(quick, frame, output):
    quick.fit(frame)
    with config_context(transform_output=output):
        assert all(isinstance(f(quick, frame), FRAMES[output]) for f in ROWS_OUT.values())
        assert isinstance(quick.sample(2), FRAMES[output])
        own = clone(quick).set_output(transform="default").fit(frame)
        assert isinstance(own.reconstruct(frame), np.ndarray)
    assert isinstance(quick.reconstruct(frame), np.ndarray)


@pytest.mark.parametrize("params", [{}, {"network": OwnModule}], ids=["default", "own"])
@pytest.mark.parametrize("density", ["gaussian_mixture", KernelDensity()], ids=str)
@pytest.mark.filterwarnings("error:X does not have valid feature names")
def test_a_fit_and_its_scores_do_not_depend_on_the_configuration(quick, frame, params, density):
    quick.set_params(**suited(quick, {"latent_density": density, **params}))
    plain, framed = clone(quick).fit(frame), clone(quick)
    with config_context(transform_output="pandas"):
        framed.fit(frame)
        for method in ("score_samples", "reconstruction_error"):
            result = getattr(framed, method)(frame)
            assert isinstance(result, np.ndarray)
            assert np.array_equal(result, getattr(plain, method)(frame))
        assert framed.score(frame) == plain.score(frame)
        assert reconstruction_score(framed, frame) == reconstruction_score(plain, frame)
        assert np.array_equal(framed.get_covariance(), plain.get_covariance())
        assert isinstance(framed.interpolate(frame[:2], frame[2:4], 3), np.ndarray)
    assert np.array_equal(framed.transform(frame), plain.transform(frame))


def test_float32_stays_float32(quick, frame):
    narrow = frame.astype(np.float32)
    quick.set_output(transform="pandas").fit(narrow)
    reconstructed = quick.inverse_transform(quick.transform(narrow))
    assert set(reconstructed.dtypes) == {np.dtype(np.float32)}


def test_behind_a_scaler_frames_pass_through(quick, frame):
    pipeline = make_pipeline(StandardScaler(), quick).set_output(transform="pandas").fit(frame)
    codes = pipeline.transform(frame)
    scaled = quick.inverse_transform(codes)
    assert scaled.columns.equals(frame.columns)
    assert scaled.index.equals(frame.index)
    back = pipeline.inverse_transform(codes)
    np.testing.assert_allclose(back, pipeline[0].inverse_transform(scaled.to_numpy()))


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
@pytest.mark.parametrize("method", ["transform", "reconstruct", "score"])
def test_wrong_or_reordered_columns_of_rows(quick, frame, make, method):
    def converted(X):
        return X if make is pd.DataFrame else pl.from_pandas(X)

    quick.fit(converted(frame))
    with pytest.raises(ValueError, match="same order as they were in fit"):
        getattr(quick, method)(converted(frame[frame.columns[::-1]]))
    renamed = frame.rename(columns={"ash": "dust"})
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- dust\n(.*\n)*- ash"):
        getattr(quick, method)(converted(renamed))


@EACH
def test_wrong_or_reordered_columns_of_codes(quick, frame, output):
    codes = quick.set_output(transform=output).fit(frame).transform(frame)
    names = list(codes.columns)
    with pytest.raises(ValueError, match="same order as they were in fit"):
        quick.inverse_transform(codes[names[::-1]])
    renamed = codes.copy() if output == "pandas" else codes.clone()
    renamed.columns = [*names[:-1], "other"]
    with pytest.raises(ValueError, match=f"unseen at fit time:\n- other\n(.*\n)*- {names[-1]}"):
        quick.inverse_transform(renamed)
    with pytest.raises(ValueError, match=f"missing:\n- {names[-1]}"):
        quick.inverse_transform(codes[names[:-1]])


def test_codes_under_names_of_the_callers_own_are_taken_as_they_come(quick, frame):
    codes = quick.fit(frame).transform(frame)
    own = pd.DataFrame(codes, columns=[f"own{i}" for i in range(codes.shape[1])])
    assert np.array_equal(quick.inverse_transform(own), quick.inverse_transform(codes))


def test_codes_without_names_are_taken_as_they_are(quick, frame):
    codes = quick.fit(frame).transform(frame)
    reconstructed = quick.inverse_transform(codes)
    assert np.array_equal(quick.inverse_transform(pd.DataFrame(codes)), reconstructed)
    assert np.array_equal(quick.inverse_transform(codes.tolist()), reconstructed)
