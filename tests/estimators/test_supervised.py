"""Classifier and regressor on the codes of an autoencoder."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Fail, OwnModule, make_fast, slow_but_first
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_linnerud
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from skae import (
    AutoencoderClassifier,
    AutoencoderRegressor,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VAETransformer,
)
from skae._estimators.supervised.label_propagation import (
    directions,
    neighbor_graph,
    neighbor_graphs,
    propagate,
)
from skae._training.targets import ClassTarget
from skae._training.validation_split import stratified_folds, stratified_hold_out
from skae.noise import NOISES

BOTH = pytest.mark.parametrize("kind", [AutoencoderClassifier, AutoencoderRegressor])
FITTED = {"max_epochs": 3, "latent_density": "gaussian", "random_state": 0}


def quick(kind, autoencoder=None, **params):
    """Estimator with a few epochs."""
    if autoencoder is None:
        autoencoder = AutoencoderTransformer(4, **FITTED)
    return kind(autoencoder, **{"max_epochs": 2, "random_state": 0, **params})


@pytest.fixture(scope="module")
def labeled_digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def few(y, n_labeled, blank=-1):
    """Labels of the first rows only."""
    return np.where(np.arange(len(y)) < n_labeled, y, blank)


# -- scikit-learn's own checks -----------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize(
    "params",
    slow_but_first(
        [
            {},
            {
                "autoencoder": AutoencoderTransformer(
                    10, hidden_layer_sizes=(), whiten=True, latent_density="gaussian"
                ),
                "freeze": True,
            },
            {
                "autoencoder": DenoisingAutoencoder(10, anchor=None, **FITTED),
                "batch_size": 50,
                "noise": "masking",
                "early_stopping": False,
            },
        ]
    ),
    ids=["default", "frozen", "denoising"],
)
@BOTH
def test_scikit_learns_checks_pass_without_exception(kind, params):
    params = {"autoencoder": AutoencoderTransformer(10, **FITTED), **params}
    results = check_estimator(quick(kind, **params), on_skip=None, on_fail=None)
    failed = [r for r in results if r["status"] in ("failed", "xfail")]
    assert [(r["check_name"], r["exception"]) for r in failed] == []


# -- promises ---------------------------------------------------------------------


def test_without_fine_tuning_the_classifier_is_logistic_regression_on_codes(labeled_digits):
    X, y = labeled_digits
    model = quick(AutoencoderClassifier, freeze=True).fit(X[:300], y[:300])
    Z = model.transform(X)
    assert np.array_equal(Z, model.autoencoder_.transform(X))
    probabilities = model.predict_proba(X[:300])
    best = min(
        log_loss(
            y[:300],
            LogisticRegression(C=c, max_iter=5000).fit(Z[:300], y[:300]).predict_proba(Z[:300]),
        )
        for c in (0.01, 1, 100)
    )
    assert log_loss(y[:300], probabilities) < 1.5 * best
    assert model.n_iter_ == 0


def test_fine_tuning_helps_where_a_linear_head_on_codes_does_not_suffice(labeled_digits):
    X, y = labeled_digits
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    frozen, tuned = (
        quick(AutoencoderClassifier, freeze=freeze, max_epochs=15).fit(X_train, y_train)
        for freeze in (True, False)
    )
    assert tuned.score(X_test, y_test) > frozen.score(X_test, y_test) + 0.05
    assert not np.array_equal(tuned.transform(X_test), tuned.autoencoder_.transform(X_test))


def test_unlabeled_rows_help_on_digits(labeled_digits):
    X, y = labeled_digits
    autoencoder = FrozenEstimator(AutoencoderTransformer(16, **FITTED).fit(X))
    model = quick(AutoencoderClassifier, autoencoder, unlabeled=-1, max_epochs=10)
    alone = LogisticRegression(max_iter=1000).fit(X[:100], y[:100]).score(X[100:], y[100:])
    assert model.fit(X, few(y, 100)).score(X[100:], y[100:]) > alone + 0.03
    assert model.alpha_ in (0.8, 0.95, 0.99)
    assert model.metric_ in ("euclidean", "cosine")


def test_propagation_does_not_choose_a_metric_that_mixes_classes(cancer):
    y = load_breast_cancer().target  # most components are noise, which whitening blows up
    autoencoder = AutoencoderTransformer(30, hidden_layer_sizes=())
    some = np.where(np.arange(len(y)) % 10 == 0, y, -1)
    model = quick(AutoencoderClassifier, autoencoder, unlabeled=-1).fit(cancer, some)
    assert model.metric_ != "cosine"
    assert model.score(cancer, y) > 0.94


def test_too_few_labels_are_not_propagated(labeled_digits):
    X, y = labeled_digits
    model = quick(AutoencoderClassifier, unlabeled=-1).fit(X[:100], few(y[:100], 9))
    assert model.metric_ is model.alpha_ is None


def test_noise_is_not_learned(diabetes):
    X, _ = diabetes
    y = np.random.default_rng(0).normal(size=len(X))
    model = quick(AutoencoderRegressor, max_epochs=10).fit(X, y)
    assert np.std(model.predict(X)) < 0.5 * y.std()


def test_names_and_numbers_of_classes_give_the_same_model(labeled_digits):
    X, y = labeled_digits
    names = np.array([f"d{digit}" for digit in y])
    by_name = quick(AutoencoderClassifier).fit(X[:200], names[:200])
    by_number = quick(AutoencoderClassifier).fit(X[:200], y[:200])
    assert by_name.classes_.tolist() == [f"d{digit}" for digit in range(10)]
    assert np.array_equal(by_name.predict_proba(X), by_number.predict_proba(X))
    assert np.array_equal(by_name.predict(X), np.char.add("d", by_number.predict(X).astype(str)))


def test_unlabeled_none_and_no_row_unlabeled_are_the_same(labeled_digits):
    X, y = labeled_digits
    models = [
        quick(AutoencoderClassifier, unlabeled=u).fit(X[:200], y[:200]) for u in (None, -1, "?")
    ]
    for model in models[1:]:
        assert np.array_equal(model.predict_proba(X), models[0].predict_proba(X))


@pytest.mark.parametrize(
    ("blank", "labels"),
    [
        (-1, lambda y: few(y, 100)),
        (np.nan, lambda y: few(y.astype(float), 100, np.nan)),
        ("?", lambda y: few(y.astype(str), 100, "?")),
        (-1, lambda y: few(y, 100).astype(str)),
    ],
)
def test_rows_without_a_label_by_any_name(labeled_digits, blank, labels):
    X, y = labeled_digits
    model = quick(AutoencoderClassifier, unlabeled=blank).fit(X[:400], labels(y[:400]))
    assert len(model.classes_) == 10
    assert model.autoencoder_.n_samples_ == 400


def test_the_regressor_takes_unlabeled_rows(diabetes):
    X, y = diabetes
    model = quick(AutoencoderRegressor, unlabeled=np.nan).fit(X, few(y, 200, np.nan))
    assert model.score(X[200:], y[200:]) > 0.3
    assert model.autoencoder_.n_samples_ == len(X)


def test_a_shift_and_scale_of_what_is_predicted_come_back(diabetes):
    X, y = diabetes
    plain = quick(AutoencoderRegressor).fit(X, y).predict(X)
    moved = quick(AutoencoderRegressor).fit(X, 1e6 + 1024 * y).predict(X)
    np.testing.assert_allclose((moved - 1e6) / 1024, plain, rtol=1e-3)


# -- an autoencoder of any kind ----------------------------------------------------


@pytest.mark.parametrize(
    "autoencoder",
    [
        make_fast(hidden_layer_sizes=()),
        make_fast(whiten=True, n_components=0.8),
        make_fast(network=OwnModule),
        VAETransformer(3, max_epochs=2, random_state=0),
        DenoisingAutoencoder(3, max_epochs=2, random_state=0),
        SparseAutoencoder(20, n_active=5, max_epochs=2, sparse_output=True, random_state=0),
        SparseAutoencoder(20, sparsity="l1", n_active=5, max_epochs=2, random_state=0),
        SparseAutoencoder(20, sparsity="kl", max_epochs=2, random_state=0),
        StackedAutoencoder(3, fine_tune=False, max_epochs=2, random_state=0),
    ],
    ids=["linear", "whitened", "own", "variational", "denoising", "topk", "l1", "kl", "stacked"],
)
@BOTH
def test_any_kind(kind, autoencoder, cancer):
    y = load_breast_cancer().target
    model = quick(kind, autoencoder).fit(cancer, y)
    assert model.score(cancer, y) > (0.9 if kind is AutoencoderClassifier else 0.5)
    assert model.transform(cancer).shape == (569, model.n_components_)
    assert type(model.autoencoder_) is type(autoencoder)


def test_a_fitted_autoencoder_is_used_as_it_is_and_stays_so(labeled_digits):
    X, y = labeled_digits
    fitted = AutoencoderTransformer(4, **FITTED).fit(X)
    before = pickle.dumps(fitted)
    model = quick(AutoencoderClassifier, FrozenEstimator(fitted)).fit(X[:600], y[:600])
    assert model.autoencoder_ is fitted
    assert pickle.dumps(fitted) == before
    bare = quick(AutoencoderClassifier, fitted).fit(X[:600], y[:600])
    assert bare.autoencoder_.n_samples_ == 600
    assert fitted.n_samples_ == len(X)


def test_nested_parameters_are_searched(cancer):
    y = load_breast_cancer().target
    model = make_pipeline(StandardScaler(), quick(AutoencoderClassifier))
    grid = {"autoencoderclassifier__autoencoder__n_components": [1, 6]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(cancer, y)
    assert search.best_params_["autoencoderclassifier__autoencoder__n_components"] == 6
    assert cross_val_score(quick(AutoencoderClassifier), cancer, y, cv=2).min() > 0.85


# -- outputs -----------------------------------------------------------------------


def test_several_outputs_of_classes(labeled_digits):
    X, y = labeled_digits
    both = np.column_stack([y, y % 2])[:600]
    model = quick(AutoencoderClassifier, max_epochs=5).fit(X[:600], both)
    probabilities = model.predict_proba(X)
    assert [p.shape[1] for p in probabilities] == [10, 2]
    assert [len(c) for c in model.classes_] == [10, 2]
    for p in probabilities:
        np.testing.assert_allclose(p.sum(axis=1), 1)
    assert model.predict(X).shape == (len(X), 2)
    assert (model.predict(X[:600]) == both).mean() > 0.8
    blank = np.where(np.arange(600)[:, None] < 300, both, -1)
    semi = quick(AutoencoderClassifier, unlabeled=-1).fit(X[:600], blank)
    assert [len(c) for c in semi.classes_] == [10, 2]


def test_several_continuous_outputs():
    X, Y = load_linnerud(return_X_y=True)
    model = quick(AutoencoderRegressor, AutoencoderTransformer(2, **FITTED)).fit(X, Y)
    assert model.predict(X).shape == Y.shape
    assert model.score(X, Y) > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_precision_of_the_rows(labeled_digits, diabetes, dtype):
    X, y = labeled_digits
    model = quick(AutoencoderClassifier).fit(X[:100].astype(dtype), y[:100])
    rows = X.astype(dtype)
    assert model.transform(rows).dtype == model.predict_proba(rows).dtype == dtype
    np.testing.assert_allclose(model.predict_proba(rows).sum(axis=1), 1, rtol=1e-6)
    assert np.array_equal(model.predict_log_proba(rows), np.log(model.predict_proba(rows)))
    X, y = diabetes
    assert (
        quick(AutoencoderRegressor).fit(X.astype(dtype), y).predict(X.astype(dtype)).dtype == dtype
    )


def test_known_shares_of_classes_are_met(labeled_digits):
    X, y = labeled_digits
    shares = np.linspace(1, 3, 10) / np.linspace(1, 3, 10).sum()
    target = ClassTarget([np.arange(10)])
    target.shares = shares
    predicted = np.random.default_rng(0).dirichlet(np.ones(10), 500)
    np.testing.assert_allclose(target.prior_corrected(predicted).mean(axis=0), shares, atol=1e-3)
    for given in ("labeled", np.full(10, 0.1)):
        model = quick(AutoencoderClassifier, unlabeled=-1, class_shares=given)
        assert model.fit(X[:500], few(y[:500], 100)).score(X, y) > 0.7


# -- rows of any kind --------------------------------------------------------------


@BOTH
def test_sparse_rows_frames_and_dense_rows_agree(kind, labeled_digits):
    X, y = labeled_digits
    X, y = X[:150], y[:150]
    dense = quick(kind).fit(X, y)
    from_sparse = quick(kind).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(from_sparse.transform(X), dense.transform(X), rtol=1e-3, atol=1e-3)
    frame = pd.DataFrame(X).add_prefix("x")
    from_frame = quick(kind).set_output(transform="pandas").fit(frame, pd.Series(y))
    assert list(from_frame.transform(frame)) == [f"{kind.__name__.lower()}{i}" for i in range(4)]
    with pytest.raises(ValueError, match="feature names"):
        from_frame.predict(frame[frame.columns[::-1]])


@BOTH
@pytest.mark.parametrize("n_rows", [20, 200])
def test_rows_of_weight_zero_might_as_well_be_absent(kind, n_rows, cancer):
    X, y = cancer[:n_rows], load_breast_cancer().target[:n_rows].astype(float)
    weights = np.ones(n_rows)
    weights[::3] = 0
    weighted = quick(kind).fit(X, y, sample_weight=weights)
    without = quick(kind).fit(X[weights > 0], y[weights > 0])
    assert np.array_equal(weighted.predict(X), without.predict(X))


@BOTH
def test_weights_move_predictions(kind, cancer):
    y = load_breast_cancer().target.astype(float)
    weights = np.where(y == 1, 10.0, 1.0)
    plain, weighted = (quick(kind).fit(cancer, y, sample_weight=w) for w in (None, weights))
    assert weighted.predict(cancer).mean() > plain.predict(cancer).mean()


# -- noise while fine-tuning -------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n_rows", [60, 569])
@BOTH
def test_noise_changes_only_fine_tuning_and_level_zero_is_no_noise(kind, noise, n_rows, cancer):
    X, y = cancer[:n_rows], load_breast_cancer().target[:n_rows]
    plain, zero, noisy = (
        quick(kind, noise=n, noise_level=level, early_stopping=False).fit(X, y)
        for n, level in [(None, 0.3), (noise, 0), (noise, 0.3)]
    )
    assert np.array_equal(zero.transform(X), plain.transform(X))
    assert not np.array_equal(noisy.transform(X), plain.transform(X))
    assert np.array_equal(noisy.autoencoder_.transform(X), plain.autoencoder_.transform(X))


class Large(nn.Module):
    """Noise module of a user, for rows of one width. It ignores training mode."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((30,), 1e4))

    def forward(self, x):
        return x + self.scale * torch.randn_like(x)


@BOTH
def test_validation_prediction_and_the_kept_network_have_no_noise(kind, cancer):
    y = load_breast_cancer().target
    frozen = quick(kind, freeze=True).fit(cancer, y)
    model = quick(kind, noise=Large()).fit(cancer, y)
    assert max(model.validation_loss_curve_) < 10 * abs(model.loss_curve_[0])
    assert model.score(cancer, y) > frozen.score(cancer, y) - 0.05
    assert np.array_equal(model.predict(cancer), model.predict(cancer))
    assert model.net_.module_.noise is None
    assert pickle.loads(pickle.dumps(model)).noise.scale.shape == (30,)


# -- errors ------------------------------------------------------------------------


def bad_nan(y):
    y = y.astype(float)
    y[3] = np.nan
    return y


@pytest.mark.parametrize(
    ("kind", "params", "labels", "message"),
    [
        (AutoencoderClassifier, {}, lambda y: np.ones(len(y)), "one class only"),
        (AutoencoderClassifier, {"unlabeled": -1}, lambda y: -np.ones(len(y)), "no labelled row"),
        (AutoencoderRegressor, {"unlabeled": np.nan}, lambda y: y * np.nan, "no labelled row"),
        (AutoencoderRegressor, {}, bad_nan, "y contains NaN"),
        (AutoencoderClassifier, {}, bad_nan, "y contains NaN"),
        (AutoencoderClassifier, {}, lambda y: y + 0.5, "Unknown label type"),
        (AutoencoderClassifier, {}, lambda y: y[:-1], "inconsistent numbers of samples"),
        (AutoencoderClassifier, {}, lambda y: None, "requires y to be passed"),
        (AutoencoderClassifier, {"class_shares": [0.5, 0.6]}, lambda y: y, "class_shares"),
        (AutoencoderClassifier, {"noise": "swap", "noise_level": 1.5}, lambda y: y, "at most 1"),
        (AutoencoderClassifier, {"autoencoder": StandardScaler()}, lambda y: y, "StandardScaler"),
        (
            AutoencoderClassifier,
            {"unlabeled": -1},
            lambda y: np.column_stack([y, np.where(y == 0, -1, y)]),
            "only some outputs",
        ),
    ],
)
def test_errors_name_the_mistake(kind, params, labels, message, cancer):
    y = load_breast_cancer().target.astype(float)
    with pytest.raises(ValueError, match=message):
        quick(kind, **params).fit(cancer, labels(y))


def test_a_frozen_autoencoder_must_be_fitted_and_to_such_rows(cancer):
    y = load_breast_cancer().target
    with pytest.raises(NotFittedError):
        quick(AutoencoderClassifier, FrozenEstimator(AutoencoderTransformer())).fit(cancer, y)
    fitted = AutoencoderTransformer(2, **FITTED).fit(cancer[:, :7])
    with pytest.raises(ValueError, match=r"30 features.*7 features"):
        quick(AutoencoderClassifier, FrozenEstimator(fitted)).fit(cancer, y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("autoencoder", 3),
        ("freeze", "yes"),
        ("spread_labels", None),
        ("n_neighbors", 0),
        ("noise", "pink"),
        ("noise", 0.3),
        ("noise_level", -0.1),
        ("lr", 0),
        ("weight_decay", -1),
        ("batch_size", "all"),
        ("max_epochs", 0),
        ("early_stopping", "no"),
        ("validation_fraction", 1.0),
        ("callbacks", [3]),
        ("random_state", "a"),
        ("verbose", -1),
    ],
)
@BOTH
def test_values_that_parameters_do_not_admit(kind, name, value, cancer):
    with pytest.raises(ValueError, match=name):
        quick(kind).set_params(**{name: value}).fit(cancer, cancer[:, 0] > 0)


@BOTH
def test_a_failed_fit_loses_nothing(kind, cancer):
    y = load_breast_cancer().target
    model = quick(kind).fit(cancer, y)
    before = model.predict(cancer)
    with pytest.raises(RuntimeError, match="a callback failed"):
        model.set_params(callbacks=[Fail()]).fit(cancer, 1 - y)
    assert np.array_equal(model.predict(cancer), before)


# -- repeatability and files -------------------------------------------------------


@BOTH
@pytest.mark.parametrize("noise", [None, "swap", nn.Dropout(0.2)], ids=str)
@pytest.mark.parametrize("n_rows", [20, 120, 569])
def test_one_random_state_gives_the_same_bits_and_leaves_no_trace(kind, n_rows, noise, cancer):
    X, y = cancer[:n_rows], load_breast_cancer().target[:n_rows]
    autoencoder = AutoencoderTransformer(3, max_epochs=2)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    first, second = (quick(kind, autoencoder, noise=noise).fit(X, y).transform(X) for _ in "12")
    assert np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.get_num_threads() == before[2]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@BOTH
def test_copies_predict_identically_and_are_small(kind, copied, labeled_digits):
    X, y = labeled_digits
    model = quick(kind).fit(X[:600], y[:600])
    other = copied(model)
    assert np.array_equal(other.predict(X), model.predict(X))
    assert np.array_equal(other.transform(X), model.transform(X))
    assert clone(other).get_params().keys() == model.get_params().keys()
    n_weights = sum(p.numel() for p in model.net_.module_.parameters())
    assert len(pickle.dumps(model)) < 2 * 16 * n_weights + 128 * 1024
    assert b"torch" not in pickle.dumps(model)


@pytest.mark.parametrize(
    "autoencoder",
    [AutoencoderTransformer(4, **FITTED), SparseAutoencoder(20, max_epochs=2, random_state=0)],
    ids=["plain", "sparse"],
)
@BOTH
def test_skops_trusts_nothing_but_scikit_learn_and_skae(kind, autoencoder, labeled_digits):
    skops_io = pytest.importorskip("skops.io")
    X, y = labeled_digits
    model = quick(kind, autoencoder).fit(X[:100], y[:100])
    blob = skops_io.dumps(model)
    foreign = skops_io.get_untrusted_types(data=blob)
    assert all(name.split(".")[0] in ("skae", "sklearn") for name in foreign)
    loaded = skops_io.loads(blob, trusted=foreign)
    assert np.array_equal(loaded.predict(X), model.predict(X))


# -- parts -------------------------------------------------------------------------


def test_propagation_keeps_constants_and_follows_neighbors():
    random = np.random.default_rng(0)
    codes = np.concatenate([random.normal(size=(50, 2)), random.normal(size=(50, 2)) + 20])
    graph = neighbor_graph(codes, 5)
    assert abs(graph - graph.T).max() < 1e-6
    own, confidences = np.full((100, 1), 3.0), np.full(100, 0.02)
    np.testing.assert_allclose(propagate(graph, own, confidences, 0.95), 3, rtol=1e-5)
    targets = np.full((100, 1), 0.5)
    targets[[0, 50], 0], confidences[[0, 50]] = [0, 1], 1
    found = propagate(graph, targets, confidences, 0.95)[:, 0]
    assert found[:50].max() < 0.5 < found[50:].min()


def test_equal_codes_are_no_obstacle():
    for graph in neighbor_graphs(np.zeros((30, 2)), 5).values():
        assert np.isfinite(graph.data).all()


def test_directions_ignore_a_linear_map_of_the_codes():
    random = np.random.default_rng(0)
    codes = random.normal(size=(50, 3))
    mapped = 7 + codes @ random.normal(size=(3, 3))
    one, other = directions(codes), directions(np.column_stack([mapped, np.zeros(50)]))
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1)
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-9)


def test_folds_hold_every_row_out_once_and_classes_evenly():
    columns = np.eye(4)[np.arange(80) % 4]
    held_out = [held_out for _, held_out in stratified_folds(columns, 0)]
    assert np.array_equal(np.sort(np.concatenate(held_out)), np.arange(80))
    assert all((columns[fold].sum(axis=0) == 4).all() for fold in held_out)
    train, others = stratified_hold_out(columns, 0.25, 0)
    assert np.array_equal(columns[others].sum(axis=0), [5, 5, 5, 5])
    assert len(np.intersect1d(train, others)) == 0
