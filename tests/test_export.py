"""ONNX models: results of onnxruntime equal those of skae."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import OwnModule, assert_close, fast, make_fast, suited, table_of_wine
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import minmax_scale
from torch import nn

import skae
from skae import (
    AutoencoderImputer,
    AutoencoderTransformer,
    NeighborAutoencoder,
    TableAutoencoder,
    VAETransformer,
)
from skae.export import METHODS, to_onnx
from skae.networks import ACTIVATIONS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# A kind is given those of the parameters that it has.
VARIANTS = {
    "default": {},
    "at PCA": {"early_stopping": True},
    "linear": {"hidden_layer_sizes": ()},
    "random start": {"anchor": None},
    "whitened": {"whiten": True, "n_components": 5},
    "deep": {"hidden_layer_sizes": (16, 8), "activation": "tanh"},
    "overcomplete": {"n_components": 40},
    "logits": {"loss": "binary_cross_entropy", "anchor": None},
    "bernoulli": {"likelihood": "bernoulli"},
    "per feature": {"observation_variance": "per_feature"},
}
BATCHES = (1, 7, 1000)


@pytest.fixture
def quick(kind):
    return fast(kind, hidden_layer_sizes=(8,), early_stopping=False)


def run(model, X):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (output,) = session.run(None, {"X": X})
    return output


def assert_runs_as(estimator, method, X, dtype="float32", tolerance=1e-5):
    """One model answers as skae does in float64, whatever the number of rows."""
    given = estimator.transform(X) if method == "inverse_transform" else X
    given = np.resize(given, (1000, given.shape[1])).astype(dtype)
    model = to_onnx(estimator, method, dtype=dtype)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = getattr(estimator, method)(given.astype(np.float64))
    for n_rows in BATCHES:
        (output,) = session.run(None, {"X": given[:n_rows]})
        assert output.dtype == dtype
        assert output.shape == (n_rows, expected.shape[1])
        np.testing.assert_allclose(
            output, expected[:n_rows], rtol=0, atol=tolerance * np.abs(expected).max()
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_onnxruntime_answers_as_skae(quick, wine, variant):
    X = minmax_scale(wine).clip(0, 1)
    if variant == "logits" and "anchor" not in quick.get_params():
        pytest.skip("decodes no logits")
    known = VARIANTS[variant].keys() & quick.get_params()
    quick.set_params(**{name: VARIANTS[variant][name] for name in known}).fit(X)
    for method in METHODS:
        assert_runs_as(quick, method, X)


def test_tiny_tables_trained_in_double_precision(quick, wine):
    quick.fit(wine[:20])
    for method in METHODS:
        assert_runs_as(quick, method, wine)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation, wine):
    estimator = make_fast(activation=activation, early_stopping=False).fit(wine)
    assert_runs_as(estimator, "reconstruct", wine)
    assert_runs_as(estimator, "reconstruct", wine, "float64", 1e-6)


def test_raw_columns_of_mixed_units_lose_nothing(quick, raw_cancer):
    quick.set_params(**suited(quick, {"n_components": 10, "whiten": True}))
    if isinstance(quick, NeighborAutoencoder):
        # Codes of maps, and of noise larger than small components, are hardly linear.
        quick.set_params(neighbor_weight=0, noise_level=0.0)
    quick.fit(raw_cancer)
    for method in METHODS:
        assert_runs_as(quick, method, raw_cancer, tolerance=1e-6)


def test_columns_far_from_zero_lose_nothing(quick, wine):
    X = wine.astype(np.float32).astype(np.float64) + 4096
    quick.fit(X)
    assert_runs_as(quick, "transform", X)


def test_double_precision_is_exact(quick, raw_cancer):
    quick.fit(raw_cancer)
    for method in METHODS:
        assert_runs_as(quick, method, raw_cancer, "float64", 1e-12)


@pytest.mark.parametrize("factor", [3.0, 1e4])
def test_rows_and_codes_beyond_the_region(quick, wine, factor):
    estimator = quick.set_params(early_stopping=False, max_epochs=20).fit(wine)
    X = factor * wine
    for method in METHODS:
        assert_runs_as(estimator, method, X, "float64", 1e-9)


@pytest.mark.parametrize("direct", [[1, 0, 0], [1, 1, 1]])
def test_a_vae_that_restores_along_axes(wine, direct):
    vae = VAETransformer(3, early_stopping=False, max_epochs=5, random_state=0).fit(wine)
    shift = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    vae.net_.restore_by(torch.tensor(direct, dtype=torch.float64), shift)
    for method in METHODS:
        assert_runs_as(vae, method, wine, "float64", 1e-9)


def test_the_linear_autoencoder_is_pca(raw_cancer):
    estimator = AutoencoderTransformer(3, hidden_layer_sizes=()).fit(raw_cancer)
    Z = run(to_onnx(estimator), raw_cancer.astype(np.float32))
    assert_close(Z, PCA(3, svd_solver="full").fit(raw_cancer).transform(raw_cancer), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "params", "method"),
    [
        (AutoencoderTransformer, {"network": OwnModule}, "reconstruct"),
        (VAETransformer, {"activation": nn.Mish}, "transform"),
    ],
)
def test_own_modules(kind, params, method, wine):
    pytest.importorskip("onnxscript")
    estimator = fast(kind(random_state=0), early_stopping=False)
    estimator.set_params(**suited(estimator, params)).fit(wine)
    assert_runs_as(estimator, method, wine)


# -- tables ------------------------------------------------------------------------

TABLES = {
    "default": {},
    "infrequent categories": {"max_categories": 2, "handle_unknown": "infrequent_if_exist"},
    "numbers as categories": {"categorical_features": ["ash"]},
    "networks": {"n_networks": 3, "column_layer_sizes": (8, 5)},
    "linear": {"hidden_layer_sizes": (), "n_components": 4},
    "whitened": {"whiten": True},
    "all columns": {"n_components": None},
    "untrained": {"max_epochs": 1},
}


def fit_table(X, **params):
    settings = {"random_state": 0, "max_epochs": 5, "column_layer_sizes": 8, **params}
    return TableAutoencoder(**settings).fit(X)


def assert_table_runs_as(table, X, gaps=1e-4, complete=1e-5):
    """One model answers as `transform` does, whatever the number of rows."""
    numbers, expected = table.to_numbers(X), table.transform(X)
    is_complete = ~np.isnan(numbers[:, table._modelled]).any(axis=1)
    scale = np.sqrt(table.explained_variance_.max()) or 1.0
    for dtype, factor in (("float32", 1), ("float64", 1e-2)):
        model = to_onnx(table, dtype=dtype)
        Z = run(model, numbers.astype(dtype))
        assert Z.dtype == dtype
        assert Z.shape == expected.shape
        errors = np.abs(Z - expected).max(axis=1)
        assert errors.max() <= gaps * factor * scale
        assert errors[is_complete].max(initial=0) <= complete * factor * scale
        np.testing.assert_allclose(run(model, numbers[:1].astype(dtype)), Z[:1], atol=gaps * scale)


@pytest.mark.parametrize("variant", TABLES)
def test_codes_of_tables(variant):
    X = table_of_wine()
    table = fit_table(X, **TABLES[variant])
    assert np.isnan(table.to_numbers(X)).any(axis=1).mean() > 0.3
    assert_table_runs_as(table, X)
    assert_table_runs_as(table, X.dropna())
    assert_table_runs_as(table, pd.DataFrame({name: [None] for name in X}))


def test_a_table_of_many_values_and_networks_that_have_learnt(cancer):
    X = pd.DataFrame(np.vstack([cancer[:, :6], cancer[:, :6] + 0.013])).round(3)
    X = X.mask(np.random.default_rng(0).random(X.shape) < 0.1)
    X["kind"] = np.where(X[0] > 0, "large", "small")
    X.columns = X.columns.astype(str)
    table = fit_table(X, column_layer_sizes=32, max_epochs=15)
    assert max(column.n_cells for column in table._column_model.columns) > 700
    assert_table_runs_as(table, X)
    beyond = X.assign(**{"0": 1e3, "1": -1e3})
    assert_table_runs_as(table, beyond)


ODD_TABLES = {
    "one number": lambda: pd.DataFrame({"a": np.arange(60.0) ** 2}),
    "one category": lambda: pd.DataFrame({"a": ["x", "y", None] * 20}),
    "categories": lambda: pd.DataFrame({"a": ["x", "y"] * 30, "b": ["u", "v", None] * 20}),
    "few values": lambda: pd.DataFrame({"a": [1, 2, None] * 20, "b": [0.5, 2, 3, 4] * 15}),
    "constant and empty": lambda: pd.DataFrame({"a": [7] * 60, "b": [None] * 60, "c": range(60)}),
    "all constant": lambda: pd.DataFrame({"a": [7.5] * 60}),
    "equal ranks": lambda: pd.DataFrame(
        {"a": [*range(35), *[40] * 30_000, None], "b": [*range(30_000), *[5] * 36]}
    ),
    "an array": lambda: np.where(np.eye(60)[:, :4] > 0, np.nan, np.arange(240.0).reshape(60, 4)),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", ODD_TABLES)
def test_codes_of_odd_tables(case):
    X = ODD_TABLES[case]()
    assert_table_runs_as(fit_table(X, n_components=1, max_epochs=1), X)


def test_numbers_can_be_made_without_skae():
    """Of what `columns_` says."""
    X = table_of_wine()
    table = fit_table(X, max_categories=2)
    columns = {column["name"]: column for column in table.columns_}
    numbers = pd.DataFrame(index=X.index)
    for name, column in columns.items():
        if "categories" in column:
            codes = dict(zip(column["categories"], column["codes"], strict=True))
            numbers[name] = X[name].map(codes, na_action="ignore").astype("float64")
        elif column["kind"] == "date":
            days = X[name].dt.tz_convert("UTC").dt.tz_localize(None)
            numbers[name] = (days - column["origin"]) / column["step"]
        else:
            numbers[name] = X[name].astype("float64")
    assert max(columns["colour"]["codes"]) == 1
    assert len(columns["colour"]["categories"]) == 3
    np.testing.assert_array_equal(numbers, table.to_numbers(X))
    assert_close(run(to_onnx(table), numbers.to_numpy(np.float32)), table.transform(X), 1e-4)


def test_export_leaves_a_table_alone_and_repeats():
    table = fit_table(table_of_wine())
    before = joblib.hash(table)
    models = [to_onnx(table) for _ in range(2)]
    assert models[0] == models[1]
    assert joblib.hash(table) == before
    assert models[0].doc_string == "TableAutoencoder.transform"
    (given,) = models[0].graph.input
    assert given.type.tensor_type.shape.dim[1].dim_value == 6


def test_what_is_not_exported_of_tables_is_refused():
    X = table_of_wine()
    table = fit_table(X)
    for method in ("inverse_transform", "reconstruct"):
        with pytest.raises(ValueError, match=f"method='{method}' of a Table.*only 'transform'"):
            to_onnx(table, method)
    imputer = AutoencoderImputer(max_epochs=1, column_layer_sizes=4).fit(X)
    with pytest.raises(TypeError, match=r"AutoencoderImputer\(.*no estimator of skae with codes"):
        to_onnx(imputer)
    with pytest.raises(NotFittedError):
        TableAutoencoder().to_numbers(X)


# -- the model ---------------------------------------------------------------------


def test_models_join(quick, wine):
    """Encoder and decoder, one after the other, are the reconstruction."""
    quick.fit(wine)
    encoder, decoder = to_onnx(quick), to_onnx(quick, "inverse_transform")
    joined = onnx.compose.merge_models(encoder, decoder, io_map=[("Y", "X")], prefix2="codes_")
    X = wine.astype(np.float32)
    assert_close(run(joined, X), run(to_onnx(quick, "reconstruct"), X), 1e-5)


def test_a_model_says_what_it_is(quick, wine, tmp_path):
    quick.fit(wine)
    model = to_onnx(quick)
    onnx.save(model, tmp_path / "codes.onnx")
    loaded = onnx.load(tmp_path / "codes.onnx")
    onnx.checker.check_model(loaded, full_check=True)
    assert loaded == model
    assert (loaded.producer_name, loaded.producer_version) == ("skae", skae.__version__)
    assert loaded.doc_string == f"{type(quick).__name__}.transform"
    (given,), (returned,) = loaded.graph.input, loaded.graph.output
    for end, name, n_columns in ((given, "X", 13), (returned, "Y", quick.n_components_)):
        rows, columns = end.type.tensor_type.shape.dim
        assert (end.name, rows.dim_param, columns.dim_value) == (name, "n_rows", n_columns)


def test_a_damaged_file_differs_from_its_digest(wine, tmp_path, monkeypatch):
    """`load` of the page on saving notices what onnxruntime does not."""
    page = (Path(__file__).parents[1] / "docs" / "persistence.md").read_text("utf-8")
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def load(" in b)
    names = {"model": to_onnx(make_fast().fit(wine)), "onnxruntime": onnxruntime}
    monkeypatch.chdir(tmp_path)
    exec(block, names)
    path = tmp_path / "autoencoder.onnx"
    content, n_unnoticed = path.read_bytes(), 0
    for position in np.linspace(0, len(content) - 1, 40).astype(int):
        flipped = bytearray(content)
        flipped[position] ^= 4
        for damaged in (bytes(flipped), content[:position]):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"autoencoder\.onnx is damaged: its SHA-256"):
                names["load"](path)
            n_unnoticed += is_read(damaged)
    assert n_unnoticed > 10  # so the digest is needed


def is_read(content):
    """Whether onnxruntime takes a file."""
    try:
        onnxruntime.InferenceSession(content)
    except Exception:
        return False
    return True


def test_export_leaves_the_estimator_alone(quick, wine):
    quick.fit(wine)
    before = joblib.hash(quick)
    models = [to_onnx(quick, method) for method in METHODS]
    assert joblib.hash(quick) == before
    assert models == [to_onnx(quick, method) for method in METHODS]


def test_equal_fits_make_equal_models(quick, wine):
    assert to_onnx(clone(quick).fit(wine)) == to_onnx(quick.fit(wine))


# -- refusals ----------------------------------------------------------------------


def test_an_unfitted_estimator_is_refused(quick):
    with pytest.raises(NotFittedError):
        to_onnx(quick)


def test_an_unknown_method_is_refused_with_the_choices(quick, wine):
    with pytest.raises(ValueError, match=r"method='predict'.*transform.*reconstruct"):
        to_onnx(quick.fit(wine), "predict")


def test_an_unknown_dtype_is_refused_with_the_choices(quick, wine):
    with pytest.raises(ValueError, match=r"dtype='float16'.*float32, float64"):
        to_onnx(quick.fit(wine), dtype="float16")


def test_what_is_not_of_skae_is_refused():
    with pytest.raises(TypeError, match=r"PCA\(\) is no estimator of skae.*skl2onnx"):
        to_onnx(PCA())


@pytest.mark.parametrize(
    ("absent", "params"), [("onnx", {}), ("onnxscript", {"network": OwnModule})]
)
def test_an_absent_library_names_the_extra(absent, params, wine, monkeypatch):
    estimator = make_fast(**params).fit(wine)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ImportError, match=rf"{absent} is needed.*skae\[export\]"):
        to_onnx(estimator)
