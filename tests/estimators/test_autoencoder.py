"""The plain autoencoder: PCA if it is linear, never worse than PCA if not."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from conftest import OwnModule, assert_close, make_fast
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import AutoencoderTransformer
from skae.losses import LOSSES
from skae.metrics import reconstruction_score
from skae.networks import ACTIVATIONS, AnchoredAutoencoder, Autoencoder

LOSSES_OF_ANY_DATA = sorted(set(LOSSES) - {"binary_cross_entropy"})
# Fits that really train, of every form the network can have.
TRAINED = {
    "anchored": {},
    "deep": {"hidden_layer_sizes": (16, 8), "activation": "tanh"},
    "classic": {"anchor": None},
    "linear classic": {"anchor": None, "hidden_layer_sizes": ()},
    "own": {"network": OwnModule, "anchor": None},
    "own anchored": {"network": OwnModule},
    "overcomplete": {"n_components": 20, "anchor": None},
    "huber": {"loss": "huber"},
}


def make_linear(k, **params):
    return AutoencoderTransformer(k, hidden_layer_sizes=(), random_state=0, **params)


def full_pca(k, **params):
    return PCA(k, svd_solver="full", **params)


def wide_rows():
    return np.random.default_rng(0).normal(size=(20, 60)) @ np.diag(np.arange(1, 61.0))


TABLES = {
    "standardised": lambda: StandardScaler().fit_transform(load_wine().data),
    "raw units": lambda: load_breast_cancer().data,
    "offset": lambda: load_wine().data + 1e6,
    "raw offset": lambda: load_breast_cancer().data + 1e6,
    "wide": wide_rows,
    "few": lambda: load_iris().data[:3],
    "tall": lambda: np.random.default_rng(0).normal(size=(12_000, 10)) * np.arange(1, 11) + 1e6,
}


@pytest.fixture(params=TRAINED, scope="module")
def trained(request):
    """A fitted estimator of each form, and its training rows."""
    X = StandardScaler().fit_transform(load_wine().data)
    params = {"n_components": 3, "max_epochs": 20, "early_stopping": False, "weight_decay": 0.0}
    fitted = AutoencoderTransformer(random_state=0, **{**params, **TRAINED[request.param]}).fit(X)
    assert fitted.net_.best_epoch_ == 20
    return fitted, X


# -- linear: PCA -------------------------------------------------------------------


@pytest.mark.parametrize("whiten", [False, True], ids=["", "whiten"])
@pytest.mark.parametrize("k", [1, 2, None])
@pytest.mark.parametrize("table", TABLES)
def test_the_linear_autoencoder_is_pca(table, k, whiten):
    X = TABLES[table]()
    k = min(X.shape) - 1 if k is None else k  # whitening divides by the variance of the last
    ours, pca = make_linear(k, whiten=whiten).fit(X), full_pca(k, whiten=whiten).fit(X)
    Z = pca.transform(X)
    assert_close(ours.transform(X), Z, 1e-6)
    assert_close(ours.inverse_transform(Z), pca.inverse_transform(Z), 1e-6)
    assert_close(ours.components_, pca.components_, 1e-6)
    assert_close(ours.explained_variance_, pca.explained_variance_, 1e-6)
    assert_close(ours.explained_variance_ratio_, pca.explained_variance_ratio_, 1e-6)
    assert_close(ours.mean_, pca.mean_, 1e-12)
    assert (ours.n_components_, ours.n_samples_) == (pca.n_components_, pca.n_samples_)
    variance = X.var(axis=0).sum()
    assert ours.noise_variance_ == pytest.approx(pca.noise_variance_, rel=1e-6, abs=1e-9 * variance)


@pytest.mark.parametrize("table", ["standardised", "wide"])
def test_no_number_of_components_is_all_of_them_as_in_pca(table):
    X = TABLES[table]()
    ours, pca = AutoencoderTransformer(None).fit(X), full_pca(None).fit(X)
    assert ours.n_components_ == pca.n_components_
    assert ours.n_iter_ == 0
    assert_close(ours.transform(X), pca.transform(X), 1e-6)
    assert ours.score(X) == pytest.approx(1, abs=1e-12)
    assert ours.noise_variance_ == pca.noise_variance_ == 0


def test_the_linear_autoencoder_is_pca_in_float32(wine):
    ours, pca = make_linear(2).fit(wine.astype(np.float32)), full_pca(2).fit(wine)
    assert_close(ours.transform(wine), pca.transform(wine), 1e-6)


def test_new_rows_are_coded_as_pca_codes_them(raw_cancer):
    train, test = raw_cancer[:400], raw_cancer[400:]
    ours, pca = make_linear(5).fit(train), full_pca(5).fit(train)
    assert_close(ours.transform(test), pca.transform(test), 1e-6)
    assert ours.score(test) == pytest.approx(reconstruction_score(pca, test), abs=1e-6)


def points_around_a_plane(seed):
    """60 points in three dimensions, along three quarters of an ellipse in a plane."""
    random = np.random.default_rng(seed)
    a = random.uniform(0, 1.5 * np.pi, 60)
    x, y = np.cos(a) + 0.5 * np.sin(a), 0.7 * np.sin(a)
    return np.column_stack([x, y, 0.1 * x + 0.3 * y]) + 0.1 * random.normal(size=(60, 3))


@pytest.mark.parametrize("seed", range(5))
def test_training_alone_finds_the_plane_of_pca(seed):
    X = points_around_a_plane(seed)
    linear = AutoencoderTransformer(
        2,
        hidden_layer_sizes=(),
        anchor=None,
        max_epochs=500,
        batch_size=16,
        early_stopping=False,
        random_state=seed,
    ).fit(X)
    pca = PCA(2).fit(X)
    best = np.square(X - pca.inverse_transform(pca.transform(X))).sum()
    assert best * (1 - 1e-9) <= linear.reconstruction_error(X).sum() <= 1.01 * best


@pytest.mark.parametrize("hidden_layer_sizes", [(), "auto"], ids=["linear", "auto"])
@pytest.mark.parametrize("n_rows", [60, 178])
def test_a_classic_autoencoder_beats_the_mean_by_default(wine, hidden_layer_sizes, n_rows):
    X = wine[:n_rows]
    classic = AutoencoderTransformer(
        4, anchor=None, hidden_layer_sizes=hidden_layer_sizes, random_state=0
    ).fit(X)
    assert classic.score(X) > 0


# -- never worse than PCA ----------------------------------------------------------


def ratio_to_pca(X, k, **params):
    """Held-out error divided by that of PCA."""
    train, test = train_test_split(X, test_size=0.3, random_state=0)
    ours = AutoencoderTransformer(k, random_state=0, **params).fit(train)
    pca = full_pca(k).fit(train)
    return (1 - ours.score(test)) / (1 - reconstruction_score(pca, test))


@pytest.mark.parametrize(
    ("load", "k"),
    [(load_iris, 2), (load_wine, 6), (load_diabetes, 5), (load_breast_cancer, 15)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_held_out_rows_are_reconstructed_no_worse_than_by_pca(load, k):
    assert ratio_to_pca(StandardScaler().fit_transform(load().data), k) <= 1.001


def test_digits_are_reconstructed_far_better_than_by_pca():
    assert ratio_to_pca(load_digits().data, 2) < 0.8


@pytest.mark.parametrize("correlated", [False, True])
def test_on_a_gaussian_where_nothing_beats_pca_it_is_hardly_worse(correlated):
    X = np.random.default_rng(0).normal(size=(600, 8))
    if correlated:
        X = X @ np.random.default_rng(1).normal(size=(8, 8))
    assert ratio_to_pca(X, 3) <= 1.005


@pytest.mark.parametrize("loss", LOSSES_OF_ANY_DATA)
def test_training_lowers_its_own_loss_below_pcas(loss, cancer):
    formula = {
        "squared_error": np.square,
        "absolute_error": np.abs,
        "huber": lambda r: np.where(abs(r) < 1, r**2 / 2, abs(r) - 0.5),
    }[loss]
    ours = make_fast(n_components=4, loss=loss, max_epochs=20, early_stopping=False).fit(cancer)
    pca = full_pca(4).fit(cancer)
    scale = np.sqrt(cancer.var(axis=0).mean())
    start = formula((pca.inverse_transform(pca.transform(cancer)) - cancer) / scale).sum()
    assert formula((ours.reconstruct(cancer) - cancer) / scale).sum() < 0.95 * start


# -- the code ----------------------------------------------------------------------


def test_components_are_centred_uncorrelated_and_sorted(trained):
    fitted, X = trained
    Z = fitted.transform(X)
    covariance = np.cov(Z, rowvar=False)
    largest = covariance.max()
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-10 * np.sqrt(largest))
    np.testing.assert_allclose(
        covariance, np.diag(fitted.explained_variance_), atol=1e-10 * largest
    )
    assert (np.diff(fitted.explained_variance_) <= 1e-10 * largest).all()


def test_the_largest_entry_of_each_component_is_positive(trained):
    fitted, X = trained
    rows = fitted.components_[fitted.explained_variance_ > 1e-10 * fitted.explained_variance_[0]]
    assert (rows.max(axis=1) == np.abs(rows).max(axis=1)).all()
    assert fitted.components_.shape == (fitted.n_components_, X.shape[1])


def test_components_are_the_mean_jacobian_of_the_decoder(trained):
    fitted, X = trained
    Z, h = fitted.transform(X), 1e-6
    for step, component in zip(h * np.eye(Z.shape[1]), fitted.components_, strict=True):
        differences = fitted.inverse_transform(Z + step) - fitted.inverse_transform(Z - step)
        # kinks of a ReLU are crossed by some steps
        np.testing.assert_allclose(differences.mean(axis=0) / (2 * h), component, atol=1e-3)


@pytest.mark.parametrize("form", TRAINED)
def test_whitening_scales_to_unit_variance_and_changes_no_reconstruction(form, wine):
    params = {"n_components": 3, "early_stopping": False, **TRAINED[form]}
    plain, white = (make_fast(whiten=whiten, **params).fit(wine) for whiten in (False, True))
    Z = white.transform(wine)
    active = plain.explained_variance_ > 1e-10 * plain.explained_variance_[0]
    np.testing.assert_allclose(Z[:, active].var(axis=0, ddof=1), 1, rtol=1e-6)
    assert_close(white.reconstruct(wine), plain.reconstruct(wine), 1e-9)
    np.testing.assert_allclose(white.explained_variance_, plain.explained_variance_)
    np.testing.assert_allclose(white.components_, plain.components_, atol=1e-12)


def test_fit_transform_is_fit_and_transform(cancer):
    Z = make_fast().fit_transform(cancer)
    assert np.array_equal(Z, make_fast().fit(cancer).transform(cancer))


# -- attributes and scores ----------------------------------------------------------


def test_reconstruct_is_inverse_transform_of_transform(trained):
    fitted, X = trained
    assert_close(fitted.reconstruct(X), fitted.inverse_transform(fitted.transform(X)), 1e-12)


def test_reconstruction_error_is_in_squared_input_units(trained):
    fitted, X = trained
    squares = np.square(X - fitted.reconstruct(X))
    np.testing.assert_allclose(fitted.reconstruction_error(X), squares.sum(axis=1), rtol=1e-9)
    assert_close(fitted.reconstruction_error(X, per_feature=True), squares, 1e-12)


def test_errors_are_in_the_units_of_raw_rows(raw_cancer):
    train, test = raw_cancer[:400], raw_cancer[400:]
    fitted = make_fast(early_stopping=False).fit(train)
    squares = np.square(test - fitted.reconstruct(test))
    assert_close(fitted.reconstruction_error(test, per_feature=True), squares, 1e-9)
    assert_close(fitted.reconstruction_error(test), squares.sum(axis=1), 1e-9)
    expected = 1 - squares.sum() / np.square(test - train.mean(axis=0)).sum()
    assert fitted.score(test) == pytest.approx(expected, rel=1e-12)


def test_score_is_one_minus_sse_over_sst_around_the_training_mean(trained):
    fitted, X = trained
    for rows in (X, X[:50] + 0.5):
        lost = np.square(rows - fitted.reconstruct(rows)).sum()
        total = np.square(rows - X.mean(axis=0)).sum()
        assert fitted.score(rows) == pytest.approx(1 - lost / total, rel=1e-9)


def test_ratios_add_up_to_the_score_of_the_training_rows(trained):
    fitted, X = trained
    assert fitted.explained_variance_ratio_.sum() == pytest.approx(fitted.score(X), rel=1e-9)


def test_a_ratio_is_what_a_component_adds_with_later_ones_at_their_mean(trained):
    fitted, X = trained
    Z, total = fitted.transform(X), np.square(X - X.mean(axis=0)).sum()
    shares = [
        1 - np.square(X - fitted.inverse_transform(Z * (np.arange(Z.shape[1]) < j))).sum() / total
        for j in range(Z.shape[1] + 1)
    ]
    expected = np.diff([0.0, *shares[1:]])
    np.testing.assert_allclose(fitted.explained_variance_ratio_, expected, atol=1e-9)


def test_variances_describe_code_and_noise(trained):
    fitted, X = trained
    variances = fitted.transform(X).var(axis=0, ddof=1)
    assert_close(fitted.explained_variance_, variances, 1e-10)
    n_left = X.shape[1] - fitted.n_components_
    noise = fitted.reconstruction_error(X).sum() / (n_left * (len(X) - 1)) if n_left > 0 else 0
    assert fitted.noise_variance_ == pytest.approx(noise, rel=1e-9)
    assert fitted.n_samples_ == len(X)


def test_curves_have_one_value_an_epoch(cancer):
    fitted = make_fast(max_epochs=5).fit(cancer)
    assert len(fitted.loss_curve_) == len(fitted.validation_loss_curve_) == fitted.n_iter_ == 5
    assert fitted.loss_curve_ == fitted.net_.history[:, "train_loss"]


def test_a_perfect_loss_of_one_is_the_variance(cancer):
    """Curves are in units of the mean feature variance: predicting the mean costs n_features."""
    fitted = make_fast(anchor=None, early_stopping=False, max_epochs=1, lr=1e-12).fit(cancer)
    assert fitted.loss_curve_[0] == pytest.approx(30, rel=0.1)


def test_no_row_is_held_out_in_vain(cancer):
    fitted = make_fast(early_stopping=False).fit(cancer)
    assert fitted.validation_loss_curve_ == []
    assert fitted.net_.best_epoch_ == fitted.n_iter_ == 3


# -- the classic forms -------------------------------------------------------------


@pytest.mark.parametrize("activation", [*ACTIVATIONS, nn.Mish, partial(nn.LeakyReLU, 0.2)], ids=str)
@pytest.mark.parametrize("anchor", ["pca", None])
def test_every_activation_trains(activation, anchor, cancer):
    fitted = make_fast(
        activation=activation, anchor=anchor, early_stopping=False, max_epochs=10, n_components=4
    ).fit(cancer)
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    modules = [type(module) for module in fitted.net_.module_.modules()]
    make = ACTIVATIONS.get(activation, activation) if isinstance(activation, str) else activation
    assert type(make()) in modules


@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, partial(torch.optim.SGD, momentum=0.9)])
def test_an_optimizer_of_ones_own(optimizer, cancer):
    fitted = make_fast(optimizer=optimizer, early_stopping=False, max_epochs=10, lr=0.01)
    fitted.fit(cancer)
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]


@pytest.mark.parametrize("sizes", [8, [8], np.array([8]), (np.int64(8),)], ids=repr)
def test_hidden_layer_sizes_may_be_any_sequence_or_one_number(sizes, wine):
    Z = make_fast(hidden_layer_sizes=sizes, early_stopping=False).fit_transform(wine)
    expected = make_fast(hidden_layer_sizes=(8,), early_stopping=False).fit_transform(wine)
    assert np.array_equal(Z, expected)


def test_hidden_layers_are_mirrored(wine):
    module = make_fast(hidden_layer_sizes=(9, 5), anchor=None).fit(wine).net_.module_
    assert type(module) is Autoencoder
    widths = [
        [layer.in_features for layer in mlp if isinstance(layer, nn.Linear)]
        for mlp in (module.encoder, module.decoder)
    ]
    assert widths == [[13, 9, 5], [2, 5, 9]]


def test_cross_entropy_reconstructs_within_the_unit_interval(digits):
    fitted = make_fast(
        n_components=10, loss="binary_cross_entropy", anchor=None, max_epochs=30
    ).fit(digits)
    reconstructed = fitted.reconstruct(digits)
    assert 0 <= reconstructed.min() < reconstructed.max() <= 1
    assert fitted.score(digits) > 0.3
    assert fitted.loss_curve_[-1] < 0.8 * fitted.loss_curve_[0]
    assert fitted.explained_variance_ratio_.sum() == pytest.approx(fitted.score(digits), rel=1e-6)


def test_cross_entropy_takes_zeros_and_ones(digits):
    X = (digits > 0.5).astype(float)
    fitted = make_fast(loss="binary_cross_entropy", anchor=None).fit(X)
    assert np.isfinite(fitted.loss_curve_).all()


@pytest.mark.parametrize("k", [13, 14, 40])
@pytest.mark.parametrize("whiten", [False, True])
def test_an_overcomplete_code_reconstructs_everything(k, whiten, wine):
    fitted = AutoencoderTransformer(k, whiten=whiten, random_state=0).fit(wine)
    Z = fitted.transform(wine)
    assert Z.shape == (178, k)
    assert np.isfinite(Z).all()
    assert not Z[:, 13:].any()
    assert fitted.score(wine) == pytest.approx(1, abs=1e-12)
    assert np.isfinite(fitted.explained_variance_ratio_).all()


def test_an_own_network_starts_at_pca(wine):
    params = {"early_stopping": False, "lr": 1e-30, "weight_decay": 0.0}
    fitted = make_fast(network=OwnModule, **params).fit(wine)
    assert isinstance(fitted.net_.module_, AnchoredAutoencoder)
    assert isinstance(fitted.net_.module_.network, OwnModule)
    assert_close(fitted.transform(wine), full_pca(2).fit_transform(wine), 1e-6)


def test_an_own_network_leaves_pca_by_training(cancer):
    fitted = make_fast(network=OwnModule, early_stopping=False, max_epochs=40).fit(cancer)
    assert fitted.score(cancer) > full_pca(2).fit(cancer).explained_variance_ratio_.sum()


def test_an_own_network_without_anchor_is_the_network(wine):
    sizes = []

    def network(n_features, n_components):
        sizes.append((n_features, n_components))
        return OwnModule(n_features, n_components)

    fitted = make_fast(network=network, anchor=None, n_components=3).fit(wine)
    assert type(fitted.net_.module_) is OwnModule
    assert set(sizes) == {(13, 3)}


def test_an_own_network_infers_without_dropout(wine):
    fitted = make_fast(network=OwnModule, anchor=None).fit(wine)
    assert np.array_equal(fitted.reconstruct(wine), fitted.reconstruct(wine))


# -- warm starts --------------------------------------------------------------------


def make_warm(**params):
    return make_fast(
        warm_start=True, early_stopping=False, lr_schedule="constant", weight_decay=0.0, **params
    )


def test_a_warm_start_goes_on_where_training_stopped(cancer):
    fitted = make_warm(max_epochs=10).fit(cancer)
    first, score = fitted.loss_curve_, fitted.score(cancer)
    fitted.fit(cancer)
    assert fitted.loss_curve_[0] < first[0]
    assert fitted.score(cancer) > score


def test_a_warm_start_at_rate_zero_changes_nothing(cancer):
    fitted = make_warm().fit(cancer)
    Z = fitted.transform(cancer)
    assert_close(fitted.set_params(lr=1e-30).fit(cancer).transform(cancer), Z, 1e-6)


def test_a_warm_start_keeps_centre_and_scale_for_other_rows(cancer):
    fitted = make_warm().fit(cancer[:300])
    mean = fitted.mean_
    fitted.fit(cancer[300:] + 1)
    assert fitted.mean_ is mean
    assert fitted.n_samples_ == 269


def test_a_warm_start_of_few_rows_is_validated_on_one_split_not_by_cross_validation(cancer):
    fitted = make_fast(max_epochs=8).fit(cancer[:200])
    fitted.set_params(warm_start=True).fit(cancer[:200])
    assert len(fitted.validation_loss_curve_) == fitted.n_iter_ == 8
    held_out = fitted.validation_loss_curve_
    assert held_out[0] < 1.05 * held_out[-1]  # not where new networks begin


def test_a_first_warm_start_is_a_cold_one(cancer):
    cold = make_warm().set_params(warm_start=False).fit_transform(cancer)
    assert np.array_equal(make_warm().fit_transform(cancer), cold)


def test_without_warm_start_a_second_fit_repeats_the_first(cancer):
    fitted = make_fast().fit(cancer)
    Z = fitted.transform(cancer)
    assert np.array_equal(fitted.fit(cancer).transform(cancer), Z)


# -- devices -----------------------------------------------------------------------


@pytest.mark.device
@pytest.mark.parametrize("form", TRAINED)
def test_life_on_any_device(device, form, cancer):
    params = {"n_components": 3, "early_stopping": False, **TRAINED[form]}
    here = make_fast(**params).fit(cancer)
    there = make_fast(**params, device=device).fit(cancer)
    assert next(there.net_.module_.parameters()).device.type == torch.device(device).type
    if form not in ("own", "own anchored"):  # whose dropout draws from the device's generator
        assert there.score(cancer) == pytest.approx(here.score(cancer), abs=1e-3)
    Z = there.transform(cancer)
    assert isinstance(Z, np.ndarray)
    assert np.array_equal(pickle.loads(pickle.dumps(there)).transform(cancer), Z)


@pytest.mark.device
def test_pca_on_any_device(device, raw_cancer):
    ours, pca = make_linear(3, device=device).fit(raw_cancer), full_pca(3).fit(raw_cancer)
    assert_close(ours.transform(raw_cancer), pca.transform(raw_cancer), 1e-6)
