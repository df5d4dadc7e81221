"""What scikit-learn and its users expect of every public estimator."""

from __future__ import annotations

import copy
import io
import pickle
import time
from contextlib import suppress

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import (
    ESTIMATORS,
    FOLDS_IN_TURN,
    Fail,
    OwnModule,
    OwnVariational,
    assert_close,
    fast,
    is_dense,
    make_fast,
    name_of,
    suited,
)
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, minmax_scale
from sklearn.utils.estimator_checks import check_estimator
from skorch.callbacks import EpochTimer
from torch import nn

import skae
from skae import (
    AdversarialAutoencoder,
    AutoencoderTransformer,
    ConvolutionalAutoencoder,
    DenoisingAutoencoder,
    MultiViewAutoencoder,
    NeighborAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VAETransformer,
)
from skae._estimators.base import BaseAutoencoder

# A value other than the default for every constructor parameter of every kind.
OTHER_VALUES = {
    "n_components": 3,
    "hidden_layer_sizes": (8, 4),
    "activation": "tanh",
    "anchor": None,
    "loss": "huber",
    "target_weight": 0.5,
    "stochastic_depth": 0.3,
    "whiten": True,
    "latent_density": "gaussian",
    "likelihood": "bernoulli",
    "observation_variance": "per_feature",
    "beta": 0.5,
    "sparsity": "l1",
    "n_active": 2,
    "transform_n_active": 0.5,
    "rho": 0.1,
    "sparse_output": True,
    "kl_warmup": 2,
    "free_bits": 0.1,
    "network": OwnModule,
    "optimizer": "sgd",
    "lr": 1e-3,
    "lr_schedule": "constant",
    "weight_decay": 0.0,
    "batch_size": 16,
    "max_epochs": 2,
    "early_stopping": False,
    "validation_fraction": 0.3,
    "n_iter_no_change": 2,
    "tol": 1e-2,
    "callbacks": (EpochTimer(),),
    "device": "auto",
    "random_state": 1,
    "warm_start": True,
    "verbose": 1,
    "noise": "gaussian",
    "noise_level": 0.3,
    "emphasis": 2.0,
    "image_shape": (1, 13),
    "layout": "channels_first",
    "kernel_size": 5,
    "channels": 3,
    "patch_size": 2,
    "n_blocks": 0,
    "mixed_precision": True,
    "edges": (np.eye(13, k=1) + np.eye(13, k=-1)).tolist(),
    "faces": None,  # rows of 13 columns are no triangles
    "align": False,
    "n_clusters": 3,
    "n_channels": 3,
    "order": 2,
    "pretraining": None,
    "fine_tune": False,
    "n_neighbors": 7,
    "neighbor_weight": 0.5,
    "min_dist": 0.3,
    "views": ([0, 2], slice(3, None), [1]),
    "n_private": 1,
    "scale_views": True,
    "view_dropout": 0.2,
    "experts": "product",
    "prior": "uniform",
    "prior_weight": 0.5,
}
# Variants that pass every check, beside every kind. Where folds do not matter, they train without
# them.
ALL_ROWS = {"early_stopping": False}
CHECKED = [
    *(
        make_fast(**params)
        for params in [
            {"anchor": None},
            {"hidden_layer_sizes": ()},
            {"hidden_layer_sizes": (), "anchor": None},
            {"hidden_layer_sizes": (8, 4), "n_components": None, **ALL_ROWS},
            {"whiten": True, "activation": nn.Mish, **ALL_ROWS},
            {"whiten": True, "anchor": None},
            {"loss": "absolute_error", "activation": "tanh", **ALL_ROWS},
            {"loss": "huber", "activation": "logistic"},
            {"loss": "huber", "anchor": None},
            {"n_components": 1, "warm_start": True},
            {"n_components": 0.6, "max_epochs": 1},
            {"n_components": 50, **ALL_ROWS},
            {"n_components": 50, "anchor": None, "activation": "relu"},
            {"lr_schedule": "constant", "batch_size": 7},
            {"activation": "gelu", "optimizer": torch.optim.RMSprop, **ALL_ROWS},
            {"network": OwnModule, **ALL_ROWS},
            {"network": OwnModule, "anchor": None},
            {"optimizer": "sgd", **ALL_ROWS},
            {"target_weight": 1.0, **ALL_ROWS},
        ]
    ),
    *(
        fast(DenoisingAutoencoder(random_state=0), **params)
        for params in [
            {"noise": "gaussian", "emphasis": 3.0, **ALL_ROWS},
            {"noise": "masking", "anchor": None, "whiten": True},
            {"noise": "salt_pepper", "hidden_layer_sizes": ()},
            {"noise": nn.Dropout(0.2), **ALL_ROWS},
            {"noise_level": 0.0, "whiten": True, "n_components": None, **ALL_ROWS},
            {"network": OwnModule, **ALL_ROWS},
        ]
    ),
    *(
        fast(VAETransformer(random_state=0), **params)
        for params in [
            {"anchor": None, "whiten": True},
            {"hidden_layer_sizes": ()},
            {"observation_variance": "per_feature", "free_bits": 0.5, **ALL_ROWS},
            {"beta": 4.0, "kl_warmup": 2, **ALL_ROWS},
            {"beta": 0.0, **ALL_ROWS},
            {"n_components": 0.6, "max_epochs": 1, **ALL_ROWS},
            {
                "latent_density": "gaussian_mixture",
                "whiten": True,
                "n_components": None,
                **ALL_ROWS,
            },
            {"n_components": 50, **ALL_ROWS},
            {"network": OwnVariational, **ALL_ROWS},
            {"target_weight": 1.0, **ALL_ROWS},
        ]
    ),
    *(
        fast(SparseAutoencoder(random_state=0), **params)
        for params in [
            {"sparsity": "l1"},
            {"sparsity": "kl"},
            {"n_components": 3, "n_active": 1},
            {"n_components": 3, "n_active": 5},
            {"n_components": 1, "sparsity": "l1"},
            {"n_active": 0.2, "transform_n_active": 0.4},
            {"hidden_layer_sizes": (8,), "n_active": 4},
            {"sparse_output": True},
            {"sparsity": "l1", "lr_schedule": "constant", "early_stopping": False},
            {"sparsity": "kl", "hidden_layer_sizes": (8,)},
        ]
    ),
    *(
        fast(StackedAutoencoder(random_state=0), **params)
        for params in [
            {"fine_tune": False, **ALL_ROWS},
            {"fine_tune": False, "anchor": None, "whiten": True},
            {"hidden_layer_sizes": ()},
            {"noise": "masking", "activation": "tanh", **ALL_ROWS},
            {"noise": "swap", "anchor": None, "hidden_layer_sizes": (9, 7, 5), **ALL_ROWS},
            {"hidden_layer_sizes": (8,), "lr_schedule": "constant"},
        ]
    ),
    *(
        fast(NeighborAutoencoder(random_state=0), **params)
        for params in [
            {"hidden_layer_sizes": (32, 32), "n_neighbors": 5},
            {"hidden_layer_sizes": 16, "whiten": True, "n_neighbors": 3, "activation": "relu"},
            {
                "early_stopping": True,
                "hidden_layer_sizes": (8,),
                "n_neighbors": 3,
                "noise_level": 0.0,
            },
            {
                "hidden_layer_sizes": (),
                "n_components": 1,
                "n_neighbors": 3,
                "min_dist": 0.3,
                "noise": "masking",
            },
        ]
    ),
    *(
        fast(AdversarialAutoencoder(random_state=0), **params)
        for params in [
            {"prior": "uniform", "anchor": None, **ALL_ROWS},
            {
                "prior": "gaussian_mixture",
                "hidden_layer_sizes": (8, 4),
                "n_components": 3,
                **ALL_ROWS,
            },
        ]
    ),
    *(
        fast(MultiViewAutoencoder(random_state=0), **params)
        for params in [
            {},
            {"views": {"all": slice(None)}, "n_private": 1, "whiten": True, **ALL_ROWS},
            {
                "views": [slice(0, -1), slice(-1, None)],
                "hidden_layer_sizes": (),
                "whiten": True,
                **ALL_ROWS,
            },
            {"views": [slice(0, -1), slice(-1, None)], "experts": "product"},
            {"experts": "mixture", **ALL_ROWS},
        ]
    ),
]
# Kinds whose gradients are written out, and by autograd.
WITH_AND_WITHOUT_AUTOGRAD = [
    e for e in ESTIMATORS if type(e) in (AutoencoderTransformer, ConvolutionalAutoencoder)
]
STARTS = [{}, {"anchor": None}, {"network": OwnModule}]
OF_VALIDATION = {"early_stopping", "validation_fraction", "n_iter_no_change", "tol"}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)


def labels_of(X):
    return np.where(X[:, 0] > np.median(X[:, 0]), "high", "low")


def failures(estimator):
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    return [
        (r["check_name"], r["exception"]) for r in results if r["status"] in ("failed", "xfail")
    ]


def describe(estimator):
    defaults = type(estimator)(random_state=0).get_params()
    changed = {n: v for n, v in estimator.get_params().items() if v != defaults[n]}
    return ",".join(f"{n}={getattr(v, '__name__', v)}" for n, v in changed.items()) or "default"


# -- scikit-learn's own checks -----------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("i", range(len(ESTIMATORS)), ids=[*map(name_of, ESTIMATORS)])
def test_scikit_learns_checks_pass_without_exception(i):
    """The first of the kinds with its defaults, the others with a few epochs."""
    assert failures(fast(ESTIMATORS[i]) if i else ESTIMATORS[0]) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", CHECKED, ids=describe)
def test_scikit_learns_checks_pass_of_other_parameters(estimator):
    assert failures(estimator) == []


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", WITH_AND_WITHOUT_AUTOGRAD, ids=name_of)
def test_scikit_learns_checks_pass_under_a_default_dtype_of_float64(kind, default_dtype):
    default_dtype(torch.float64)  # of which no bit of any kind depends, see below
    assert failures(fast(kind, early_stopping=False)) == []


@DTYPES
def test_results_have_the_precision_of_the_rows(quick, wine, dtype):
    X = wine.astype(dtype)
    Z = quick.fit_transform(X)
    assert Z.dtype == quick.inverse_transform(Z).dtype == quick.reconstruct(X).dtype == dtype
    assert quick.reconstruction_error(X).dtype == dtype
    assert isinstance(quick.score(X), float)


def test_both_precisions_agree_on_one_fit(quick, wine):
    quick.fit(wine)
    narrow = wine.astype(np.float32)
    assert_close(quick.transform(narrow), quick.transform(wine), 1e-5)
    assert_close(quick.reconstruct(narrow), quick.reconstruct(wine), 1e-5)
    assert quick.score(narrow) == pytest.approx(quick.score(wine), abs=1e-5)


# -- parameters --------------------------------------------------------------------


def test_every_parameter_has_another_value_to_test(kind):
    assert kind.get_params().keys() <= OTHER_VALUES.keys()


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ESTIMATORS for name in kind.get_params()],
    ids=lambda value: value if isinstance(value, str) else name_of(value),
)
def test_clone_and_set_params_of_every_parameter(kind, name, wine):
    value = suited(kind, {name: OTHER_VALUES[name]})[name]
    changed = clone(kind).set_params(**{name: value})
    assert getattr(changed, name) is value
    assert getattr(type(kind)(**{name: value}), name) is value
    cloned = clone(changed)
    assert cloned.get_params().keys() == kind.get_params().keys()
    if name != "callbacks":  # clones of callbacks do not equal each other
        assert cloned.get_params() == changed.get_params()
    if name != "max_epochs":
        cloned.set_params(max_epochs=2)
    if isinstance(kind, FOLDS_IN_TURN) and name not in OF_VALIDATION:
        cloned.set_params(early_stopping=False)
    Z = cloned.fit_transform(minmax_scale(wine[:60]), labels_of(wine[:60]))
    assert np.isfinite(Z.toarray() if sparse.issparse(Z) else Z).all()
    assert getattr(changed, name) is value


def test_fit_leaves_the_parameters_as_they_are(quick, wine):
    before = dict(quick.get_params())
    quick.fit(wine)
    assert all(after is before[name] for name, after in quick.get_params().items())


def test_nothing_is_set_before_fit(kind):
    assert vars(kind).keys() == kind.get_params().keys()


# -- Pipelines and searches --------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [GridSearchCV, pytest.param(HalvingGridSearchCV, id="HalvingGridSearchCV")],
)
def test_search_in_a_pipeline_with_string_labels_in_two_processes(quick, cancer, search):
    X = cancer[:240]
    y = labels_of(X)
    pipeline = make_pipeline(StandardScaler(), quick, LogisticRegression())
    grid = {f"{type(quick).__name__.lower()}__n_components": [1, 4]}
    found = search(pipeline, grid, cv=3, n_jobs=2, error_score="raise").fit(X, y)
    assert found.best_score_ > 0.75
    assert set(found.predict(cancer[:9])) <= {"high", "low"}


def test_labels_do_not_matter(quick, wine):
    with_labels = clone(quick).fit(wine, labels_of(wine)).transform(wine)
    assert np.array_equal(with_labels, quick.fit_transform(wine))


def test_in_a_column_transformer(quick, wine):
    frame = pd.DataFrame(wine, columns=[f"x{i}" for i in range(13)])
    frame["kind"] = pd.Categorical(labels_of(wine))
    columns = frame.columns[:6]
    both = ColumnTransformer([("code", quick, columns), ("kind", OneHotEncoder(), ["kind"])])
    Z = both.fit_transform(frame)
    expected = clone(quick).fit_transform(frame[columns])
    assert np.array_equal(Z[:, : expected.shape[1]], expected)
    prefix = type(quick).__name__.lower()
    assert list(both.get_feature_names_out())[:2] == [f"code__{prefix}0", f"code__{prefix}1"]


def test_in_a_feature_union(quick, wine):
    union = FeatureUnion([("scaled", StandardScaler()), ("code", quick)])
    Z = union.fit_transform(wine)
    expected = clone(quick).fit_transform(wine)
    assert Z.shape == (178, 13 + expected.shape[1])
    assert np.array_equal(Z[:, 13:], expected)


def test_a_pipeline_goes_back(quick, raw_cancer):
    pipeline = make_pipeline(StandardScaler(), quick.set_params(n_components=10)).fit(raw_cancer)
    back = pipeline.inverse_transform(pipeline.transform(raw_cancer))
    lost = ((back - raw_cancer) ** 2).sum(axis=0) / (raw_cancer.var(axis=0) * len(back))
    is_map = isinstance(quick, NeighborAutoencoder)  # which restores less
    assert lost.mean() < (0.2 if is_map else 0.06 if is_dense(quick) else 1)
    assert lost.mean() == pytest.approx(1 - pipeline[-1].score(pipeline[0].transform(raw_cancer)))


# -- frames ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_frames_in_and_out_with_names(quick, make, output):
    X, _ = load_iris(return_X_y=True, as_frame=True)
    frame = X if make is pd.DataFrame else pl.from_pandas(X)
    quick.set_output(transform=output)
    Z = quick.fit_transform(frame)
    names = [f"{type(quick).__name__.lower()}{i}" for i in range(quick.n_components_)]
    assert list(quick.get_feature_names_out()) == names
    assert list(quick.feature_names_in_) == list(X.columns)
    assert (
        type(Z) is {"default": np.ndarray, "pandas": pd.DataFrame, "polars": pl.DataFrame}[output]
    )
    if output != "default":
        assert list(Z.columns) == names
    expected = clone(quick).set_output(transform="default").fit_transform(X.to_numpy())
    # polars hands over another memory layout, in which means round differently
    assert_close(np.asarray(Z), expected, 1e-5)


def test_the_index_of_a_frame_is_kept(quick, wine):
    frame = pd.DataFrame(wine).add_prefix("x").set_index(np.arange(178)[::-1])
    assert quick.set_output(transform="pandas").fit_transform(frame).index.equals(frame.index)


def test_columns_in_another_order_are_refused(quick, wine):
    frame = pd.DataFrame(wine).add_prefix("x")
    quick.fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        quick.transform(frame[frame.columns[::-1]])


def test_codes_come_back_from_a_frame(quick, wine):
    Z = quick.set_output(transform="pandas").fit_transform(wine)
    assert np.array_equal(quick.inverse_transform(Z), quick.inverse_transform(Z.to_numpy()))


# -- pickles -----------------------------------------------------------------------


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return joblib.load(buffer)


@pytest.mark.parametrize("copy_of", [through_pickle, through_joblib, copy.deepcopy])
def test_copies_transform_identically(quick, wine, copy_of):
    quick.fit(wine[:100])
    copied = copy_of(quick)
    for method in ("transform", "reconstruct", "reconstruction_error"):
        assert np.array_equal(getattr(copied, method)(wine), getattr(quick, method)(wine))
    assert copied.score(wine) == quick.score(wine)


def test_an_unfitted_estimator_survives_pickle(kind):
    assert repr(through_pickle(kind)) == repr(kind)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [20, 60, 400], ids="n_rows={}".format)
def test_a_pickle_is_small_after_a_fit_of_full_length(kind, cancer, n_rows):
    kind.fit(cancer[:n_rows]).transform(cancer)
    n_weights = sum(p.numel() for p in kind.net_.module_.parameters())
    assert len(pickle.dumps(kind)) <= 16 * n_weights + 64 * 1024


def test_a_pickle_does_not_grow_with_the_rows(quick):
    X = np.random.default_rng(0).normal(size=(3000, 10))
    quick.set_params(early_stopping=False)  # a network that PCA replaces has no region
    few, many = (len(pickle.dumps(clone(quick).fit(X[:n]))) for n in (600, 3000))
    assert abs(many - few) < 200


def test_a_pickle_holds_no_row_and_no_optimizer(quick, wine):
    blob = pickle.dumps(quick.fit(wine))
    rows = quick._standardize(wine)
    for array in (wine, wine.astype("f4"), rows, rows.astype("f4")):
        assert not any(row.tobytes()[:16] in blob for row in array)
    assert b"torch.optim" not in blob
    assert b"FusedAdamW" not in blob


# -- rows of any kind --------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("order", ["C", "F"])
def test_read_only_memory_maps(quick, wine, tmp_path, dtype, order):
    X = np.asarray(wine, dtype=dtype, order=order)
    joblib.dump(X, tmp_path / "X.joblib")
    mapped = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    Z = clone(quick).fit_transform(mapped)
    assert np.array_equal(Z, quick.fit_transform(X))
    codes = np.array(Z)
    codes.flags.writeable = False
    assert np.array_equal(quick.inverse_transform(codes), quick.reconstruct(mapped))


def test_the_callers_rows_are_not_written_to(quick, wine):
    X = wine.copy()
    Z = quick.fit_transform(X)
    kept = Z.copy()
    quick.inverse_transform(Z)
    quick.reconstruction_error(X)
    assert np.array_equal(X, wine)
    assert np.array_equal(Z, kept)


def test_lists_and_integers_are_rows_too(quick):
    X = load_iris().data.round().astype(int)
    Z = clone(quick).fit_transform(X.astype(float))
    assert np.array_equal(clone(quick).fit_transform(X), Z)
    assert np.array_equal(quick.fit_transform(X.tolist()), Z)


def test_transform_is_the_same_in_any_order_and_partition(quick, cancer):
    Z = quick.fit_transform(cancer)
    order = np.random.default_rng(0).permutation(len(cancer))
    assert_close(quick.transform(cancer[order]), Z[order], 1e-12)
    for size in (1, 2, 100):
        parts = [quick.transform(cancer[i : i + size]) for i in range(0, len(cancer), size)]
        assert_close(np.concatenate(parts), Z, 1e-12)


def test_many_rows_are_transformed_as_few_are(quick, cancer):
    quick.fit(cancer)
    many = np.tile(cancer, (100, 1))
    assert_close(quick.transform(many), np.tile(quick.transform(cancer), (100, 1)), 1e-12)
    assert quick.score(many) == pytest.approx(quick.score(cancer), rel=1e-12)


@pytest.mark.parametrize("exponent", [-20, 20])
def test_units_that_differ_by_a_power_of_two_change_no_bit(quick, wine, exponent):
    factor = 2.0**exponent
    scaled = clone(quick).fit(wine * factor)
    quick.fit(wine)
    # The unit of codes may be the prior's.
    of_code = 1 if isinstance(quick, (VAETransformer, AdversarialAutoencoder)) else factor
    assert np.array_equal(scaled.transform(wine * factor), quick.transform(wine) * of_code)
    assert np.array_equal(scaled.reconstruct(wine * factor), quick.reconstruct(wine) * factor)
    assert scaled.explained_variance_ratio_ == pytest.approx(quick.explained_variance_ratio_)


def test_an_offset_of_a_million_changes_hardly_anything(with_folds, wine):
    quick = with_folds  # rounding errors grow while a network is trained, and PCA has none
    shifted = clone(quick).fit(wine + 1e6)
    quick.fit(wine)
    # Sparse codes: rounding may change which units are active, and so the course of training.
    tolerance = 1e-4 if is_dense(quick) else 1e-3
    assert_close(shifted.transform(wine + 1e6), quick.transform(wine), tolerance)
    assert_close(shifted.reconstruct(wine + 1e6) - 1e6, quick.reconstruct(wine), tolerance)
    assert shifted.score(wine + 1e6) == pytest.approx(quick.score(wine), abs=1e-4)


def test_features_of_a_scale_of_a_millionth(quick, wine):
    X = wine * np.where(np.arange(13) % 2, 1e-6, 1.0)
    Z = quick.fit_transform(X)
    assert np.isfinite(Z).all()
    assert 0 < quick.score(X) < 1


def test_constant_columns_stay_constant(with_folds, wine):
    quick, X = with_folds, wine.copy()
    X[:, [0, 5, 8]] = 3.0, -7.0, 0.1
    quick.fit(X)
    reconstructed = quick.reconstruct(X)
    np.testing.assert_allclose(reconstructed[:, [0, 5, 8]], X[:, [0, 5, 8]], atol=1e-5)
    assert np.isfinite(quick.explained_variance_ratio_).all()


@pytest.mark.parametrize("value", [0.0, 5.0, 1e6])
def test_equal_rows_warn_and_come_back(quick, value):
    X = np.full((40, 3), value)
    with pytest.warns(ConvergenceWarning, match="n_samples=40"):
        quick.fit(X)
    assert not quick.transform(X).any()
    np.testing.assert_allclose(quick.reconstruct(X), X)
    assert not quick.explained_variance_ratio_.any()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@DTYPES
@pytest.mark.parametrize("params", STARTS, ids=lambda params: next(iter(params), "default"))
@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_a_few_rows(quick, wine, n_rows, params, dtype):
    X = wine[:n_rows].astype(dtype)
    Z = quick.set_params(**suited(quick, params)).fit_transform(X)
    assert Z.shape == (n_rows, quick.n_components_)
    assert np.isfinite(Z).all()
    assert np.isfinite(quick.reconstruct(X)).all()
    assert np.isfinite([quick.score(X), quick.noise_variance_]).all()


class Normed(nn.Module):
    """Fails on a batch of a single row, as everything with batch norm does."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.encode = nn.Sequential(nn.BatchNorm1d(n_features), nn.Linear(n_features, n_components))
        self.decode = nn.Linear(n_components, n_features)


class NormedVariational(Normed):
    """The same with means and log-variances."""

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.encode[-1] = nn.Linear(n_features, 2 * n_components)


@pytest.mark.parametrize(
    ("n_rows", "batch_size"), [(65, 32), (33, 32), (17, 16), (50, 10_000), (570, 32), (101, 100)]
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_no_batch_is_a_single_row(quick, n_rows, batch_size, early_stopping):
    X = np.random.default_rng(0).normal(size=(n_rows, 5))
    network = NormedVariational if isinstance(quick, VAETransformer) else Normed
    params = {"network": network, "batch_size": batch_size, "early_stopping": early_stopping}
    quick.set_params(**suited(quick, params))
    assert np.isfinite(quick.fit_transform(X)).all()


# -- repeatability -----------------------------------------------------------------


def fitted_codes(estimator, X, n_threads):
    """Fit, and return all that was learned from X; it can be called in another process."""
    torch.set_num_threads(n_threads)
    fitted = clone(estimator).fit(X)
    return fitted.transform(X), fitted.reconstruct(X), fitted.explained_variance_ratio_


@pytest.mark.parametrize(
    ("params", "n_rows"),
    [
        *(({}, n_rows) for n_rows in (20, 60, 120, 500)),
        *((params, n_rows) for params in STARTS[1:] for n_rows in (60, 500)),
    ],
    ids=lambda value: next(iter(value), "default") if isinstance(value, dict) else str(value),
)
def test_one_random_state_gives_the_same_bits(with_folds, cancer, n_rows, params):
    with_folds.set_params(**suited(with_folds, params))
    X, n_threads = cancer[:n_rows], torch.get_num_threads()
    first, second = (fitted_codes(with_folds, X, n_threads) for _ in range(2))
    assert all(np.array_equal(*both) for both in zip(first, second, strict=True))


@pytest.mark.slow
def test_a_worker_process_gives_the_same_bits(quick, cancer, two_threads):
    here = fitted_codes(quick, cancer, two_threads)
    workers = Parallel(n_jobs=2, backend="loky")(
        delayed(fitted_codes)(quick, cancer, two_threads) for _ in range(2)
    )
    for there in workers:
        assert all(np.array_equal(*both) for both in zip(here, there, strict=True))


def test_threads_of_one_process_give_the_same_bits(quick, cancer):
    quick.set_params(**suited(quick, {"network": OwnModule}))
    n_threads = torch.get_num_threads()
    here = fitted_codes(quick, cancer, n_threads)
    others = Parallel(n_jobs=2, backend="threading")(
        delayed(fitted_codes)(quick, cancer, n_threads) for _ in range(4)
    )
    for there in others:
        assert all(np.array_equal(*both) for both in zip(here, there, strict=True))
    assert torch.get_num_threads() == n_threads


def test_a_generator_advances_and_none_differs(quick, cancer):
    quick.set_params(early_stopping=False)  # else few epochs may keep PCA, whatever the seed
    generator = np.random.RandomState(0)
    first, second = (
        clone(quick).set_params(random_state=state).fit_transform(cancer)
        for state in (generator, generator)
    )
    again = quick.set_params(random_state=np.random.RandomState(0)).fit_transform(cancer)
    assert np.array_equal(again, first)
    fresh = [clone(quick).set_params(random_state=None).fit_transform(cancer) for _ in range(2)]
    assert not np.array_equal(first, second)
    assert not np.array_equal(*fresh)


def test_fitting_twice_resets_everything(quick, wine, cancer):
    frame = pd.DataFrame(cancer).add_prefix("x")
    twice = clone(quick).fit(frame).fit(wine)
    once = quick.fit(wine)
    assert vars(twice).keys() == vars(once).keys()
    assert len(pickle.dumps(twice)) == len(pickle.dumps(once))
    assert np.array_equal(twice.transform(wine), once.transform(wine))


def global_state():
    return (
        torch.get_rng_state().tolist(),
        [np.asarray(part).tolist() for part in np.random.get_state()],  # noqa: NPY002
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"anchor": None},
        {"network": OwnModule},
        {"network": OwnModule, "anchor": None},
        {"callbacks": [Fail()]},
        {"callbacks": [Fail()], "network": OwnModule},
        {"network": lambda d, k: 1 / 0},
    ],
    ids=["default", "classic", "own", "own classic", "fails", "own fails", "no network"],
)
@pytest.mark.usefixtures("two_threads")
def test_the_callers_global_state_is_untouched(quick, wine, default_dtype, dtype, params):
    default_dtype(dtype)
    quick.set_params(**suited(quick, params))
    before = global_state()
    with suppress(RuntimeError, ZeroDivisionError):
        quick.fit(wine)
        quick.score(wine)
    assert global_state() == before


def test_the_callers_default_dtype_changes_no_bit(quick, wine, default_dtype):
    narrow = clone(quick).fit_transform(wine)
    default_dtype(torch.float64)
    assert np.array_equal(quick.fit_transform(wine), narrow)


def test_the_callers_no_grad_is_no_obstacle(quick, wine):
    with torch.no_grad():
        silent = clone(quick).set_params(activation="gelu").fit_transform(wine)
    assert np.array_equal(silent, quick.set_params(activation="gelu").fit_transform(wine))


# -- time --------------------------------------------------------------------------


@pytest.mark.parametrize(("n_rows", "seconds"), [(9, 0.05), (50, 1.0)])
def test_a_default_fit_of_few_rows_is_fast(kind, n_rows, seconds):
    X = load_breast_cancer().data[:n_rows]
    assert any(cpu_seconds(lambda: clone(kind).fit(X)) <= seconds for _ in range(3))


def cpu_seconds(function):
    before = time.process_time()
    function()
    return time.process_time() - before


def test_no_estimator_is_forgotten():
    public = {getattr(skae, name) for name in skae.__all__}
    classes = {thing for thing in public if isinstance(thing, type)}
    kinds = {thing for thing in classes if issubclass(thing, BaseAutoencoder)}
    assert kinds == {type(estimator) for estimator in ESTIMATORS}
