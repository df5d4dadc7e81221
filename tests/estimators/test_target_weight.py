"""`target_weight`: codes that predict y, too."""

from __future__ import annotations

import copy
import pickle
import re
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import (
    ESTIMATORS,
    Fail,
    OwnModule,
    assert_close,
    fast,
    make_fast,
    name_of,
    suited,
    takes_tables,
)
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from skorch.callbacks import Callback

from skae import AutoencoderTransformer, SparseAutoencoder, VAETransformer
from skae._data import dataset
from skae._training import trainer
from skae._training.supervision import Supervision
from skae.export import to_onnx

NAN = float("nan")
LABELS = load_wine().target
NAMES = np.array(["barolo", "grignolino", "barbera"])[LABELS]
NO_FOLDS = {"early_stopping": False}
SMALL = {"hidden_layer_sizes": (16,)}
worse_than_pca = pytest.mark.filterwarnings("ignore:The error of restored held-out rows")


def small(estimator, **params):
    """Copy of an estimator with a few epochs of a small network."""
    return fast(estimator, **{**SMALL, **params})


@pytest.fixture(
    params=[each for each in ESTIMATORS if "target_weight" in each.get_params()], ids=name_of
)
def dense(request):
    """Every public estimator that can predict y."""
    return clone(request.param)


@pytest.fixture
def quick(dense):
    """Every kind with a dense code that shall predict y, with a few epochs and without folds."""
    return small(dense, target_weight=1.0, **NO_FOLDS)


@pytest.fixture(scope="session")
def sizes(wine):
    """A quantity that the two components with the largest variance do not tell."""
    return wine[:, 2] + np.sin(3 * wine[:, 7])


@pytest.fixture(scope="session")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def make_supervised(**params):
    return make_fast(**{"target_weight": 1.0, **SMALL, **NO_FOLDS, **params})


def codes_of(estimator, X, y, **options):
    return clone(estimator).fit(X, y, **options).transform(X)


def messages_of(fit, of="target_weight"):
    """Warnings of a call that name something."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return [w for w in caught if of in str(w.message)]


# -- without a weight, y is ignored ------------------------------------------------


@pytest.mark.parametrize("n_rows", [20, 178])
def test_without_a_weight_targets_change_no_bit(dense, wine, n_rows):
    X = wine[:n_rows]
    plain = small(dense).fit(X)
    assert plain.target_weight == 0
    ignored = [NAMES[:n_rows], np.full(n_rows, NAN), np.ones(5), sparse.eye(3)]
    for y in ignored:
        given = small(dense).fit(X, y)
        assert np.array_equal(given.transform(wine), plain.transform(wine))
        assert given.loss_curve_ == plain.loss_curve_
        assert given.pca_error_ratio_ == pytest.approx(plain.pca_error_ratio_, nan_ok=True)


def test_without_a_weight_validation_targets_are_ignored_too(dense, wine):
    both = small(dense).fit(wine[:100], X_val=wine[100:], y_val="none")
    assert np.array_equal(
        both.transform(wine), small(dense).fit(wine[:100], X_val=wine[100:]).transform(wine)
    )


def test_a_pickle_of_a_fit_without_a_weight_equals_one_of_a_fit_with_targets(dense, wine):
    ignoring = small(dense).fit(wine, NAMES)
    assert len(pickle.dumps(ignoring)) == len(pickle.dumps(small(dense).fit(wine)))


# -- with a weight, linear models read the codes better ----------------------------


def gain_of_reader(estimator, reader, X, y, n_rows):
    """Score of a linear model of codes of other rows, less that of PCA's codes."""
    X, test, y, of_test = train_test_split(X, y, train_size=n_rows, test_size=170, random_state=0)
    pipelines = [
        make_pipeline(reducer, StandardScaler(), reader)
        for reducer in (estimator, PCA(estimator.n_components))
    ]
    ours, theirs = (pipeline.fit(X, y).score(test, of_test) for pipeline in pipelines)
    return ours - theirs, pipelines[0][0]


def test_classes_are_told_apart_in_two_dimensions(dense, digits):
    dense.set_params(target_weight=1, max_epochs=15)
    y = load_digits(as_frame=True).target.map("digit {}".format)
    gain, fitted = gain_of_reader(dense, LogisticRegression(max_iter=1000), digits, y, 500)
    assert gain > 0.15
    assert fitted.n_iter_ > 0
    assert fitted.pca_error_ratio_ < 0.95  # and rows are restored better than by PCA


@worse_than_pca
def test_a_quantity_is_predicted_better(dense, diabetes):
    dense.set_params(target_weight=1, max_epochs=15)
    gain, fitted = gain_of_reader(dense, RidgeCV(), *diabetes, 265)
    assert gain > 0.03
    assert fitted.n_iter_ > 0
    assert 0.8 < fitted.pca_error_ratio_ < 1.2


@worse_than_pca
def test_the_weight_steers_the_compromise(digits):
    X, y = digits[:500], load_digits().target
    ratios, scores = [], []
    for weight in (0.0, 0.3, 10.0):
        fitted = AutoencoderTransformer(2, target_weight=weight, max_epochs=20, random_state=0)
        fitted.fit(X, y[:500])
        ratios.append(fitted.pca_error_ratio_)
        reader = LogisticRegression(max_iter=1000).fit(fitted.transform(X), y[:500])
        scores.append(reader.score(fitted.transform(digits[500:]), y[500:]))
    assert ratios[2] > max(ratios[:2])
    assert scores == sorted(scores)


def test_codes_know_several_targets(digits, diabetes):
    X, size = diabetes
    other = np.where(X[:, 1] > 0, "men", "women")  # a column that PCA's first component ignores
    y = pd.DataFrame({"size": size, "sex": other})
    fitted = make_supervised(n_components=2, max_epochs=40).fit(X, y)
    plain = clone(fitted).set_params(target_weight=0).fit(X)
    readers = RidgeCV(), LogisticRegression()
    for reader, target in zip(readers, (size, other), strict=True):
        scores = [cross_val_score(reader, e.transform(X), target).mean() for e in (fitted, plain)]
        assert scores[0] > scores[1] + 0.03


def test_the_linear_kind_is_supervised_only_with_a_weight(diabetes):
    X, y = diabetes
    linear = AutoencoderTransformer(2, hidden_layer_sizes=(), max_epochs=40, random_state=0)
    pca = PCA(2, svd_solver="full").fit(X)
    plain = clone(linear).fit(X, y)
    assert plain.n_iter_ == 0
    assert_close(plain.transform(X), pca.transform(X), 1e-6)
    supervised = clone(linear).set_params(target_weight=1.0, **NO_FOLDS).fit(X, y)
    assert supervised.n_iter_ == 40
    scores = [RidgeCV().fit(e.transform(X), y).score(e.transform(X), y) for e in (supervised, pca)]
    assert scores[0] > scores[1] + 0.05
    # A linear encoder: codes are an affine function of the rows.
    design = np.column_stack([X, np.ones(len(X))])
    codes = supervised.transform(X)
    assert_close(design @ np.linalg.lstsq(design, codes, rcond=None)[0], codes, 1e-5)


def test_the_head_is_not_kept(quick, wine, sizes):
    quick.fit(wine, sizes)
    assert type(quick.net_.module_).__name__ in ("AnchoredAutoencoder", "VariationalAutoencoder")
    plain = clone(quick).set_params(target_weight=0).fit(wine)
    both = [fitted.net_ for fitted in (quick, plain)]
    names = [[name for name, _ in net.module_.named_parameters()] for net in both]
    assert names[0] == names[1]
    assert abs(len(pickle.dumps(both[0])) - len(pickle.dumps(both[1]))) < 50
    assert quick.reconstruct(wine).shape == wine.shape
    assert quick.score(wine) > 0.2
    assert quick.sample(3, random_state=0).shape == (3, 13)


def test_the_scale_of_a_quantity_and_names_of_classes_do_not_matter(quick, wine, sizes):
    for y, other in ((sizes, 1024 * sizes), (LABELS, LABELS + 5), (LABELS, LABELS.astype(str))):
        assert_close(codes_of(quick, wine, y), codes_of(quick, wine, other), 1e-6)


# -- the warning, and the error over PCA's -----------------------------------------


def test_rows_restored_worse_than_by_pca_warn_once(dense, diabetes):
    X, y = diabetes
    dense.set_params(target_weight=5, max_epochs=12)
    (warning,) = messages_of(lambda: dense.fit(X, y), of="PCA")
    assert warning.category is ConvergenceWarning
    assert warning.filename == __file__
    message = str(warning.message)
    (said,) = re.findall(r"is ([\d.]+) times that of PCA", message)
    assert float(said) == pytest.approx(dense.pca_error_ratio_, rel=0.01)
    assert "target_weight=5" in message
    assert "Lower target_weight" in message
    assert dense.pca_error_ratio_ > 1


def test_without_a_weight_nothing_of_the_kind_is_said(dense, diabetes):
    X, y = diabetes
    fitted = small(dense, max_epochs=12)
    assert messages_of(lambda: fitted.fit(X, y), of="PCA") == []
    assert fitted.pca_error_ratio_ < 1


def test_a_slight_loss_is_not_worth_a_warning(wine):
    """A figure that the message would print as 1 tells the user nothing."""
    fitted = make_fast(target_weight=1.0, network=OwnModule)
    said = messages_of(lambda: fitted.fit(wine, LABELS))
    assert not any("rows is 1 times" in str(warning.message) for warning in said)


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("n_rows", [9, 20, 60])
def test_the_error_over_pcas_is_one_where_pca_is_kept(dense, n_rows, weight):
    X = np.random.default_rng(n_rows).normal(size=(n_rows, 6)) * [5, 3, 1, 1, 1, 1]
    y = np.random.default_rng(0).normal(size=n_rows)
    fitted = small(dense, target_weight=weight, n_components=1).fit(X, y)
    assert fitted.n_iter_ == 0
    assert fitted.pca_error_ratio_ == 1


@pytest.mark.parametrize("params", [NO_FOLDS, {"anchor": None}], ids=str)
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_without_rows_or_an_anchor_to_compare_there_is_none(dense, wine, sizes, params, weight):
    fitted = small(dense, target_weight=weight, **params)
    assert messages_of(lambda: fitted.fit(wine, sizes), of="PCA") == []
    assert np.isnan(fitted.pca_error_ratio_)


@worse_than_pca
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_error_over_pcas_is_that_of_the_users_rows(dense, digits, weight):
    X, rows, y = digits[:400], digits[400:600], load_digits().target
    fitted = small(dense, target_weight=weight, max_epochs=15)
    fitted.fit(X, y[:400], X_val=rows, y_val=y[400:600])
    pca = PCA(2).fit(X)
    errors = [np.square(e.inverse_transform(e.transform(rows)) - rows).sum() for e in (fitted, pca)]
    # The variational kind chooses how it restores from other rows.
    tolerance = 0.02 if isinstance(dense, VAETransformer) else 1e-3
    assert fitted.pca_error_ratio_ == pytest.approx(errors[0] / errors[1], rel=tolerance)
    assert fitted.pca_error_ratio_ < 1


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_error_over_pcas_makes_sense_where_pca_loses_nothing(dense, wine, weight):
    """Rounding errors of PCA are no unit for the errors of a network."""
    fitted = small(dense, target_weight=weight, n_components=13, max_epochs=20)
    said = messages_of(lambda: fitted.fit(wine, LABELS), of="PCA")
    assert not any("e+" in str(warning.message) for warning in said)
    assert not 1e4 < fitted.pca_error_ratio_ < np.inf


# -- unknown targets ---------------------------------------------------------------


UNKNOWN = np.arange(178) % 3 == 0


@pytest.mark.parametrize(
    ("y", "other"),
    [
        (np.where(UNKNOWN, NAN, LABELS), np.where(UNKNOWN, -1, LABELS)),
        (np.where(UNKNOWN, NAN, LABELS), np.where(UNKNOWN, None, NAMES)),
        (np.where(UNKNOWN, NAN, LABELS), pd.Series(LABELS, dtype="Int64").mask(UNKNOWN)),
        (np.where(UNKNOWN, None, LABELS == 1), np.where(UNKNOWN, -1, LABELS == 1)),
    ],
    ids=["NaN and -1", "NaN and None", "NaN and NA", "flags and -1"],
)
def test_however_a_target_is_missing_codes_are_the_same(quick, wine, y, other):
    order = np.unique(NAMES, return_inverse=True)[1]  # of names, which sort otherwise
    if isinstance(other, np.ndarray) and "barolo" in other:
        y = np.where(UNKNOWN, NAN, order)
    assert np.array_equal(codes_of(quick, wine, y), codes_of(quick, wine, other))


def test_minus_one_is_a_class_if_there_is_only_one_other(quick, wine):
    y = np.where(LABELS == 1, 1, -1)
    assert np.array_equal(codes_of(quick, wine, y), codes_of(quick, wine, LABELS == 1))


def test_rows_without_a_target_train_the_restoring(dense, wine, sizes):
    quick = small(dense, target_weight=1.0, max_epochs=20, **NO_FOLDS)
    y = np.where(UNKNOWN, NAN, sizes)
    some, dropped, known = (
        clone(quick).fit(wine, y),
        clone(quick).fit(wine[~UNKNOWN], sizes[~UNKNOWN]),
        clone(quick).fit(wine, sizes),
    )
    codes = [fitted.transform(wine) for fitted in (some, dropped, known)]
    assert not np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])
    assert some.n_samples_ == 178
    errors = [fitted.reconstruction_error(wine[UNKNOWN]).sum() for fitted in (some, dropped)]
    assert errors[0] < errors[1]


def test_few_known_classes_shape_the_codes_of_all_rows(digits):
    y = load_digits().target
    X, test, y, of_test = digits[:600], digits[600:], y[:600], y[600:]
    few = np.where(np.random.default_rng(0).random(600) < 0.25, y, -1)
    known = few != -1
    fitted = make_supervised(n_components=3, max_epochs=30).fit(X, few)
    plain = clone(fitted).set_params(target_weight=0).fit(X)
    scores = [
        LogisticRegression(max_iter=1000)
        .fit(e.transform(X[known]), y[known])
        .score(e.transform(test), of_test)
        for e in (fitted, plain)
    ]
    assert scores[0] > scores[1] + 0.05
    assert fitted.score(test) > PCA(3).fit(X).explained_variance_ratio_.sum()


# -- containers --------------------------------------------------------------------


MIXED = pd.DataFrame(
    {
        "size": pd.Series(np.where(UNKNOWN, NAN, LABELS + 0.5 * np.arange(178) / 178)),
        "name": pd.Categorical(NAMES),
        "count": pd.Series(LABELS, dtype="Int64").mask(LABELS == 2),
        "is red": pd.Series(LABELS == 0, dtype="boolean").mask(UNKNOWN),
    }
)


@pytest.mark.parametrize(
    ("given", "y"),
    [
        (LABELS.tolist(), LABELS),
        (torch.tensor(LABELS), LABELS),
        (pd.Series(LABELS, index=np.arange(178)[::-1]), LABELS),
        (pl.Series(LABELS), LABELS),
        (LABELS[:, None], LABELS),
        (LABELS.astype(np.float32), LABELS),
        (pd.Series(NAMES, dtype="category"), NAMES),
        (pl.Series(NAMES), NAMES),
        (NAMES.tolist(), NAMES),
        (NAMES.astype(object), NAMES),
        (pl.from_pandas(MIXED), MIXED),
        (MIXED.set_index(np.arange(178)[::-1]), MIXED),
    ],
    ids=lambda value: type(value).__module__.split(".")[0] + type(value).__name__,
)
def test_targets_of_any_container(wine, given, y):
    quick = make_supervised()
    assert np.array_equal(codes_of(quick, wine, given), codes_of(quick, wine, y))


def test_targets_of_several_kinds_differ_from_each_alone(quick, wine):
    each = [codes_of(quick, wine, y) for y in (MIXED, MIXED["name"], MIXED["size"])]
    for i in range(3):
        assert np.isfinite(each[i]).all()
        assert not np.array_equal(each[i], each[i - 1])


def test_the_callers_targets_are_not_written_to(quick, wine):
    y = np.where(UNKNOWN, NAN, LABELS + 0.5)
    kept, frame = y.copy(), MIXED.copy()
    y.flags.writeable = False
    quick.fit(wine, y)
    assert np.array_equal(y, kept, equal_nan=True)
    quick.fit(wine, MIXED)
    pd.testing.assert_frame_equal(MIXED, frame)


# -- rows of any kind --------------------------------------------------------------


def test_sparse_rows_and_memory_maps(quick, wine, sizes, tmp_path):
    expected = codes_of(quick, wine, sizes)
    if takes_tables(quick):
        given = clone(quick).fit(sparse.csr_array(wine), sizes)
        assert_close(given.transform(wine), expected, 1e-6)
    joblib.dump(wine, tmp_path / "X.joblib")
    mapped = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
    assert not mapped.flags.writeable
    assert np.array_equal(codes_of(quick, mapped, sizes), expected)


@worse_than_pca
@pytest.mark.parametrize("early_stopping", [True, False])
def test_rows_out_of_core_have_their_targets(digits, monkeypatch, early_stopping):
    """In another order than in memory, but they are the same rows."""
    X, y = digits[:600], load_digits().target[:600]
    quick = make_supervised(max_epochs=20, early_stopping=early_stopping)
    expected = clone(quick).fit(X, y).transform(X)
    monkeypatch.setattr(dataset, "MEMORY_BYTES", 1000)
    codes = quick.fit(sparse.csr_array(X), y).transform(X)
    scores = [LogisticRegression(max_iter=1000).fit(Z, y).score(Z, y) for Z in (codes, expected)]
    assert scores[0] > scores[1] - 0.1
    plain = make_fast(max_epochs=20).fit(X).transform(X)
    assert scores[0] > LogisticRegression(max_iter=1000).fit(plain, y).score(plain, y) + 0.1


def test_single_precision_and_torch_rows(quick, wine, sizes):
    narrow = clone(quick).fit(wine.astype(np.float32), sizes).transform(wine.astype(np.float32))
    assert narrow.dtype == np.float32
    assert_close(narrow, codes_of(quick, wine, sizes), 1e-3)
    tensors = torch.from_numpy(wine), torch.from_numpy(sizes)
    assert np.array_equal(clone(quick).fit(*tensors).transform(wine), codes_of(quick, wine, sizes))


def test_equal_rows_have_nothing_to_tell(quick):
    with pytest.warns(ConvergenceWarning, match="All rows of X are equal"):
        quick.fit(np.ones((40, 3)), np.arange(40) % 2)
    assert not quick.transform(np.ones((2, 3))).any()


# -- weights of rows ---------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [9, 20])
@pytest.mark.parametrize("several", [False, True])
def test_few_rows_that_count_are_the_rows_repeated(quick, wine, sizes, n_rows, several):
    counts = np.resize([2, 0, 1, 1], n_rows)
    X, y = wine[:n_rows], sizes[:n_rows]
    if several:
        y = np.column_stack([y, np.where(np.arange(n_rows) % 3, y**2, NAN), np.arange(n_rows) % 3])
    index = np.random.default_rng(0).permutation(np.repeat(np.arange(n_rows), counts))
    weighted = clone(quick).fit(X, y, sample_weight=counts)
    repeated = clone(quick).fit(X[index], y[index])
    assert_close(weighted.transform(wine), repeated.transform(wine), 1e-6)
    assert weighted.n_samples_ == counts.sum()
    assert not np.array_equal(codes_of(quick, X, y), weighted.transform(X))


@pytest.mark.parametrize("several", [False, True])
def test_the_order_of_few_rows_does_not_matter_even_if_some_are_equal(quick, wine, sizes, several):
    X, y = np.repeat(wine[:10], 2, axis=0), sizes[:20]
    if several:
        y = np.column_stack([y, np.where(np.arange(20) % 3, y**2, NAN), np.arange(20) % 3])
    order = np.random.default_rng(0).permutation(20)
    shuffled = clone(quick).fit(X[order], y[order]).transform(wine)
    assert_close(shuffled, clone(quick).fit(X, y).transform(wine), 1e-6)


@pytest.mark.parametrize("n_rows", [20, 60, 178])
def test_rows_of_weight_zero_have_no_influence(quick, wine, sizes, n_rows):
    X, weights = wine[:n_rows], np.ones(n_rows)
    weights[::4] = 0
    kept = weights > 0
    named = np.resize(["a", "b", "c", "d", "e"], n_rows)
    named[::4] = np.resize(["a", "rare", "z"], len(named[::4]))
    wild = np.where(kept, sizes[:n_rows], np.inf)
    for y in (named, wild, np.column_stack([wild, np.arange(n_rows) % 3])):
        weighted = codes_of(quick, X, y, sample_weight=weights)
        without = clone(quick).fit(X[kept], y[kept]).transform(X)
        assert np.array_equal(weighted, without)


@worse_than_pca
def test_rows_of_larger_weight_are_told_apart_better(diabetes):
    X, y = diabetes
    heavy = X[:, 1] > 0
    rmse = []
    for weights in (np.where(heavy, 1, 20), np.where(heavy, 20, 1)):
        fitted = make_supervised(n_components=1, max_epochs=30, target_weight=5.0)
        Z = fitted.fit(X, y, sample_weight=weights).transform(X)
        model = RidgeCV().fit(Z[heavy], y[heavy])
        rmse.append(np.sqrt(np.square(model.predict(Z[heavy]) - y[heavy]).mean()))
    assert rmse[1] < 0.97 * rmse[0]


@worse_than_pca
@pytest.mark.parametrize("n_rows", [60, 178])
def test_weights_and_folds_go_together(dense, wine, sizes, n_rows):
    weights = np.random.default_rng(0).uniform(0.5, 2, size=n_rows)
    codes = [
        small(dense, target_weight=1.0).fit(wine[:n_rows], sizes[:n_rows], sample_weight=w)
        for w in (weights, 1024 * weights)
    ]
    one, other = (fitted.transform(wine) for fitted in codes)
    assert np.array_equal(one, other)
    assert np.isfinite(one).all()


# -- validation rows and groups ----------------------------------------------------


@worse_than_pca
def test_validation_rows_bring_their_targets(dense, diabetes):
    X, y = diabetes
    kind = small(dense, target_weight=1.0, max_epochs=8)
    own = clone(kind).fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert len(own.validation_loss_curve_) == own.n_iter_ == 8
    assert np.isfinite(own.pca_error_ratio_)
    unknown = clone(kind).fit(X[:300], y[:300], X_val=X[300:], y_val=np.full(142, NAN))
    wrong = clone(kind).fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:][::-1].copy())
    assert own.loss_curve_ == unknown.loss_curve_ == wrong.loss_curve_  # they are not trained on
    assert unknown.validation_loss_curve_[-1] < own.validation_loss_curve_[-1]
    assert own.validation_loss_curve_[-1] < wrong.validation_loss_curve_[-1]


def test_validation_targets_choose_the_epoch(diabetes):
    """A relation that new rows do not have is not learned."""
    X, y = diabetes
    kind = AutoencoderTransformer(2, target_weight=5.0, max_epochs=10, random_state=0)
    kept = clone(kind).fit(X[:300], y[:300], X_val=X[300:], y_val=300 - y[300:])
    assert kept.net_.best_epoch_ == 0
    assert kept.pca_error_ratio_ == 1
    with pytest.warns(ConvergenceWarning, match="target_weight=5"):
        left = clone(kind).fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert left.net_.best_epoch_ > 0
    assert left.pca_error_ratio_ > 1


@pytest.mark.parametrize(
    ("y", "y_val", "message"),
    [
        (NAMES, None, "X_val was passed without y_val.*target_weight"),
        (NAMES, ["barolo", "merlot"] * 10, r"y_val has classes that y lacks: \['merlot'\]"),
        (LABELS, [5] * 20, r"y_val has classes that y lacks: \[5\].*\[0, 1, 2\]"),
        (LABELS, np.zeros((20, 2)), "y_val has 2 targets, but y has 1"),
        (LABELS, LABELS[:19], r"inconsistent numbers of samples: \[20, 19\]"),
        (LABELS + 0.5, ["1.5"] * 20, "y_val"),
        (LABELS + 0.5, [np.inf] * 20, "y_val has infinite values"),
        (LABELS + 0.5, sparse.eye(20), "y_val is a sparse matrix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_validation_targets_are_refused_by_name(wine, y, y_val, message):
    quick = make_supervised()
    with pytest.raises(ValueError, match=message):
        quick.fit(wine, y, X_val=wine[:20], y_val=y_val)
    with pytest.raises(NotFittedError):
        quick.transform(wine)


@worse_than_pca
def test_groups_and_targets(dense, wine, sizes):
    groups = np.arange(178) // 4
    fitted = small(dense, target_weight=1.0).fit(wine, sizes, groups=groups)
    assert np.isfinite(fitted.transform(wine)).all()
    names = [f"bottle {group:03}" for group in groups]  # in the same order
    again = clone(fitted).fit(wine, sizes, groups=names)
    assert np.array_equal(again.transform(wine), fitted.transform(wine))
    with pytest.raises(ValueError, match="inconsistent"):
        fitted.fit(wine, sizes, groups=groups[1:])


# -- folds -------------------------------------------------------------------------


@pytest.mark.slow
@worse_than_pca
@pytest.mark.parametrize("y", [LABELS, MIXED], ids=["classes", "several"])
def test_folds_of_one_batch_are_trained_as_folds_one_by_one(dense, wine, y, monkeypatch):
    kind = small(dense, target_weight=1.0, max_epochs=6)
    batched = clone(kind).fit(wine, y)
    runs = []

    def one_by_one(given):
        runs.append(len(given))
        return [each.run() for each in given]

    monkeypatch.setattr(trainer, "run_batched", one_by_one)
    alone = clone(kind).fit(wine, y)
    assert 5 in runs
    assert_close(batched.validation_loss_curve_, alone.validation_loss_curve_, 1e-4)
    assert batched.n_iter_ == alone.n_iter_
    assert batched.pca_error_ratio_ == pytest.approx(alone.pca_error_ratio_, rel=1e-4)
    assert_close(batched.reconstruct(wine), alone.reconstruct(wine), 1e-4)


def test_folds_share_batches(monkeypatch, wine):
    """Otherwise the test above would compare a thing with itself."""
    sizes = []
    monkeypatch.setattr(
        trainer,
        "run_batched",
        lambda runs, original=trainer.run_batched: (
            sizes.append(len({run.batching_key() for run in runs})),
            original(runs),
        )[1],
    )
    make_fast(target_weight=1.0).fit(wine[:175], LABELS[:175])  # 5 folds of equal size
    assert sizes[0] == 1


def test_folds_may_lack_a_class(dense, wine):
    y = NAMES.copy()
    y[[3, 77]] = ["unique", "rare"]
    fitted = small(dense, target_weight=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(wine, y)
    assert np.isfinite(fitted.transform(wine)).all()
    assert np.isfinite(fitted.validation_loss_curve_).all()


# -- errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"\(target_weight=1.0\) requires y to be passed.*target_weight=0"),
        (LABELS[1:], r"inconsistent numbers of samples: \[178, 177\]"),
        (np.full(178, "a"), "one class only, .*a.*target_weight=0"),
        (np.full(178, 0.1), "one value only.*target_weight=0"),
        (np.full(178, NAN), "no known value.*target_weight=0"),
        (np.where(UNKNOWN, np.inf, 0.5), "y has infinite values"),
        (LABELS + 1j, "y has dtype complex128"),
        (LABELS.astype("M8[D]"), "y has dtype datetime64"),
        (sparse.csr_array(LABELS[:, None]), "y is a sparse matrix"),
        (np.where(UNKNOWN, 1, NAMES.astype(object)), "text and numbers"),
        (3, r"y must be of shape \(n_samples,\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_targets_are_refused_and_change_nothing(wine, sizes, y, message):
    quick = make_supervised()
    with pytest.raises((TypeError, ValueError), match=message):
        quick.fit(wine, y)
    assert vars(quick).keys() == quick.get_params().keys()
    before = pickle.dumps(quick.fit(wine, sizes))
    with pytest.raises((TypeError, ValueError), match=message):
        quick.fit(wine[:, :5] if y is None else wine, y)
    assert pickle.dumps(quick) == before


@pytest.mark.parametrize("weight", [-1, -1e-9, "a", NAN, np.inf, None, True])
def test_bad_weights_are_refused(quick, wine, weight):
    quick.set_params(target_weight=weight)
    with pytest.raises(InvalidParameterError, match=r"'target_weight'.*\[0\.0, inf\)"):
        quick.fit(wine, LABELS)
    with pytest.raises(NotFittedError):
        quick.transform(wine)


def test_a_callback_that_fails_leaves_the_earlier_fit(quick, wine, sizes):
    before = quick.fit(wine, sizes).transform(wine)
    with pytest.raises(RuntimeError, match="a callback failed"):
        quick.set_params(callbacks=[Fail()]).fit(wine, NAMES)
    assert np.array_equal(quick.transform(wine), before)


def test_partial_fit_refuses_a_weight(quick, wine):
    with pytest.raises((AttributeError, ValueError), match="partial_fit"):
        quick.partial_fit(wine, LABELS)
    quick.set_params(target_weight=0).partial_fit(wine, LABELS)
    assert quick.n_samples_ == 178


def test_other_kinds_have_no_such_parameter():
    assert "target_weight" not in SparseAutoencoder().get_params()
    with pytest.raises(TypeError, match="target_weight"):
        SparseAutoencoder(target_weight=1)


# -- scikit-learn's contract -------------------------------------------------------


def test_targets_are_required_only_with_a_weight(quick):
    tags = quick.__sklearn_tags__()
    assert tags.target_tags.required
    assert not quick.set_params(target_weight=0).__sklearn_tags__().target_tags.required
    quick.set_params(target_weight="a").__sklearn_tags__()  # no error before fit


def test_one_random_state_gives_the_same_bits_and_leaves_no_trace(dense, wine, sizes):
    quick = small(dense, target_weight=1.0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    for params in ({}, {"network": OwnModule, **NO_FOLDS}, {"anchor": None}):
        changed = clone(quick).set_params(**suited(quick, params))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            first, second = (codes_of(changed, wine, sizes) for _ in range(2))
            other = codes_of(changed.set_params(random_state=1, **NO_FOLDS), wine, sizes)
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.get_num_threads() == before[2]


def test_the_callers_default_dtype_and_grad_mode_change_no_bit(quick, wine, sizes, default_dtype):
    expected = codes_of(quick, wine, sizes)
    with torch.no_grad():
        assert np.array_equal(codes_of(quick, wine, sizes), expected)
    with torch.inference_mode():
        assert np.array_equal(codes_of(quick, wine, sizes), expected)
    default_dtype(torch.float64)
    assert np.array_equal(codes_of(quick, wine, sizes), expected)


def test_copies_transform_identically(quick, wine, sizes):
    quick.fit(wine, sizes)
    again = pickle.loads(pickle.dumps(quick))
    for method in ("transform", "reconstruct", "score_samples"):
        assert np.array_equal(getattr(again, method)(wine), getattr(quick, method)(wine))
    assert again.target_weight == 1
    assert np.isnan(again.pca_error_ratio_)
    cloned = clone(again)
    assert cloned.get_params() == quick.get_params()
    assert np.array_equal(cloned.fit(wine, sizes).transform(wine), quick.transform(wine))


def test_a_pickle_holds_no_target(quick, wine, sizes):
    blob = pickle.dumps(quick.fit(wine, sizes))
    standard = (sizes - sizes.mean()) / sizes.std()
    for values in (sizes, standard):
        for dtype in ("f4", "f8"):
            assert values.astype(dtype).tobytes()[:32] not in blob
    assert b"barolo" not in pickle.dumps(quick.fit(wine, NAMES))


def test_skops_trusts_nothing_but_scikit_learn_and_skae(quick, wine, sizes):
    skops_io = pytest.importorskip("skops.io")
    blob = skops_io.dumps(quick.fit(wine, sizes))
    foreign = skops_io.get_untrusted_types(data=blob)
    assert all(name.split(".")[0] in ("skae", "sklearn") for name in foreign)
    loaded = skops_io.loads(blob, trusted=foreign)
    assert np.array_equal(loaded.transform(wine), quick.transform(wine))


def test_fitting_twice_resets_everything(quick, wine, sizes):
    once = clone(quick).fit(wine, NAMES)
    twice = clone(quick).fit(wine[:, :5], MIXED).fit(wine, NAMES)
    assert vars(twice).keys() == vars(once).keys()
    assert np.array_equal(twice.transform(wine), once.transform(wine))


@worse_than_pca
def test_a_search_over_weights_in_a_pipeline(digits):
    X, y = digits[:400], load_digits(as_frame=True).target[:400].map("digit {}".format)
    pipeline = make_pipeline(
        StandardScaler(), make_fast(max_epochs=8), StandardScaler(), LogisticRegression()
    )
    grid = {"autoencodertransformer__target_weight": [0, 1]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_ == {"autoencodertransformer__target_weight": 1}
    without, with_targets = search.cv_results_["mean_test_score"]
    assert with_targets > without + 0.05
    assert set(search.predict(X[:5])) <= set(y)


def test_targets_pass_through_fit_transform_and_pipelines(quick, wine):
    frame = pd.DataFrame(wine).add_prefix("x")
    Z = clone(quick).set_output(transform="pandas").fit_transform(frame, NAMES)
    assert list(Z.columns) == [f"{type(quick).__name__.lower()}{i}" for i in range(2)]
    expected = clone(quick).fit(frame, NAMES).transform(frame)
    assert np.array_equal(Z.to_numpy(), expected)
    pipeline = Pipeline([("code", clone(quick)), ("read", LogisticRegression())])
    assert np.array_equal(pipeline.fit(frame, NAMES)[0].transform(frame), expected)


@worse_than_pca
def test_validation_rows_are_routed_through_a_pipeline(dense, raw_cancer):
    y = load_breast_cancer(as_frame=True).target.map({0: "malignant", 1: "benign"}).to_numpy()
    quick = small(dense, target_weight=1.0)
    X, rows, y, of_rows = raw_cancer[:300], raw_cancer[300:400], y[:300], y[300:400]
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [
                ("scale", StandardScaler()),
                ("code", clone(quick).set_fit_request(X_val=True, y_val=True)),
            ],
            transform_input=["X_val"],
        ).fit(X, y, X_val=rows, y_val=of_rows)
    scaler = StandardScaler().fit(X)
    quick.fit(scaler.transform(X), y, X_val=scaler.transform(rows), y_val=of_rows)
    assert pipeline[-1].validation_loss_curve_ == quick.validation_loss_curve_


# -- other parameters --------------------------------------------------------------


@worse_than_pca
@pytest.mark.parametrize(
    "params",
    [
        {"n_components": 0.8},
        {"n_components": None},
        {"anchor": None},
        {"network": OwnModule},
        {"network": OwnModule, "anchor": None},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (8, 6), "activation": "gelu"},
        {"lr_schedule": "constant", "optimizer": torch.optim.RMSprop},
        {"batch_size": 16, "whiten": True, "device": "cpu"},
        {"loss": "absolute_error"},
        {"noise": "gaussian"},
        {"fine_tune": False},
        {"observation_variance": "per_feature", "free_bits": 0.1, "kl_warmup": 2},
    ],
    ids=str,
)
def test_other_parameters(quick, wine, params):
    quick.set_params(**suited(quick, params))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_components=0.8")
        quick.fit(wine, NAMES)
        plain = clone(quick).set_params(target_weight=0).fit(wine)
    assert quick.n_iter_ == 3
    Z = quick.transform(wine)
    assert Z.shape == (178, quick.n_components_)
    assert np.isfinite(Z).all()
    assert np.isfinite(quick.reconstruct(wine)).all()
    assert plain.n_components_ == quick.n_components_
    assert not np.array_equal(Z, plain.transform(wine))


@worse_than_pca
@pytest.mark.parametrize("params", [{}, {"lr_schedule": "constant"}, {"network": OwnModule}])
def test_the_same_with_early_stopping(dense, digits, params):
    quick = small(dense, target_weight=1.0, max_epochs=5)
    quick.set_params(**suited(quick, params))
    y = load_digits().target[:520]
    for n_rows in (300, 520):  # folds, and one split
        quick.fit(digits[:n_rows], y[:n_rows])
        assert np.isfinite(quick.transform(digits)).all()
        assert 0 < quick.pca_error_ratio_ < 1.5
        assert len(quick.validation_loss_curve_) > 0


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(3, loss="binary_cross_entropy", anchor=None),
        VAETransformer(3, likelihood="bernoulli"),
    ],
    ids=["cross-entropy", "bernoulli"],
)
def test_decoders_of_probabilities(estimator, digits):
    X, y = digits[:500], load_digits().target[:500]
    kind = clone(estimator).set_params(max_epochs=25, random_state=0, **NO_FOLDS)
    plain, supervised = (clone(kind).set_params(target_weight=w).fit(X, y) for w in (0, 1))
    scores = []
    for fitted in (plain, supervised):
        restored = fitted.reconstruct(digits)
        assert restored.min() >= 0
        assert restored.max() <= 1
        assert np.isnan(fitted.pca_error_ratio_)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(fitted.transform(X), y)
        scores.append(model.score(fitted.transform(digits[500:]), load_digits().target[500:]))
    assert scores[1] > scores[0] + 0.03


class Watch(Callback):
    """Keeps what a callback of a user may look at."""

    def on_train_begin(self, net, X=None, **kwargs):
        self.shape = tuple(X.shape)

    def on_batch_end(self, net, batch=None, y_pred=None, **kwargs):
        self.shapes = tuple(batch.shape), tuple(y_pred.reconstruction.shape)

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs = len(net.history)
        WATCHED.append(self)


WATCHED: list[Watch] = []


def test_callbacks_of_the_user(quick, wine, sizes):
    WATCHED.clear()
    with_callback = clone(quick).set_params(callbacks=[Watch()], batch_size=32)
    Z = with_callback.fit(wine, sizes).transform(wine)
    assert WATCHED[-1].n_epochs == 3
    assert WATCHED[-1].shapes[1][1] == 13
    without = clone(quick).set_params(batch_size=32).fit(wine, sizes)
    assert_close(Z, without.transform(wine), 1e-4)  # by autograd, and in closed form


def test_a_warm_start_goes_on_with_the_same_or_other_targets(quick, wine, sizes):
    quick.set_params(warm_start=True, max_epochs=10)
    first = quick.fit(wine, sizes).loss_curve_
    second = quick.fit(wine, sizes).loss_curve_
    assert np.mean(second) < np.mean(first)
    before = quick.transform(wine)
    quick.fit(wine, NAMES)
    assert not np.array_equal(quick.transform(wine), before)
    quick.set_params(target_weight=0).fit(wine)
    assert np.isfinite(quick.transform(wine)).all()


@worse_than_pca
@pytest.mark.parametrize("n_rows", [2, 9, 31])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.filterwarnings("ignore:The observation variance")
def test_a_few_rows(dense, wine, sizes, n_rows, early_stopping):
    quick = small(dense, target_weight=1.0, early_stopping=early_stopping)
    for y in (sizes[:n_rows], np.arange(n_rows) % 2):
        Z = quick.fit(wine[:n_rows], y).transform(wine)
        assert np.isfinite(Z).all()
        assert np.isfinite(quick.reconstruct(wine)).all()


def test_onnx_answers_as_skae(quick, wine, sizes):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    quick.fit(wine, sizes)
    given = {"transform": wine, "reconstruct": wine, "inverse_transform": quick.transform(wine)}
    for method, X in given.items():
        model = to_onnx(quick, method, dtype="float64")
        (output,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"X": X})
        assert_close(output, getattr(quick, method)(X), 1e-9)


# -- the head's first weights ------------------------------------------------------


def test_the_head_starts_at_the_best_linear_model_of_pcas_codes(monkeypatch):
    heads = []
    original = Supervision.add_head

    def add_head(self, network, rows):
        both = original(self, network, rows)
        heads.append((copy.deepcopy(both), rows))
        return both

    monkeypatch.setattr(Supervision, "add_head", add_head)
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    make_supervised().fit(X, y)
    (both, rows), *_ = heads
    model = make_pipeline(PCA(2), StandardScaler(), LogisticRegression()).fit(X, y)
    outputs = both.run(torch.from_numpy(rows[:]).float()).prediction
    assert_close(outputs.softmax(dim=1).detach().numpy(), model.predict_proba(X), 2e-3)
