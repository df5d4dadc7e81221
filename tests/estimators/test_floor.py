"""Never worse than PCA: few rows, copies and groups, far rows, and a VAE that restores."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from conftest import assert_close
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderClassifier,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    LatentDimensionSearch,
    NeighborAutoencoder,
    VAETransformer,
    compare,
)


def squares(reducer, X):
    return np.square(X - reducer.inverse_transform(reducer.transform(X))).sum(axis=1)


def copy_of(fitted):
    return pickle.loads(pickle.dumps(fitted))


def curve(n_rows, seed=0):
    """Noisy curve in five dimensions."""
    random = np.random.default_rng(seed)
    t = random.uniform(-1, 1, size=n_rows)
    X = np.column_stack([t, t**2, np.sin(3 * t), np.cos(2 * t), t**3])
    return X + 0.05 * random.normal(size=X.shape)


def skip_maps(kind):
    """Skip kinds whose objective is not to restore rows."""
    if isinstance(kind, NeighborAutoencoder):
        pytest.skip("a map has no floor")


# -- few rows ----------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [2, 9, 20, 60])
def test_few_normal_rows_keep_pca(dense, n_rows):
    skip_maps(dense)
    X = np.random.default_rng(n_rows).normal(size=(n_rows, 6)) * [5, 3, 1, 1, 1, 1]
    fitted = dense.set_params(n_components=1).fit(X)
    assert fitted.n_iter_ == 0
    pca = PCA(1, svd_solver="full").fit(X)
    assert_close(fitted.reconstruct(X), pca.inverse_transform(pca.transform(X)), 1e-6)


def test_a_curve_of_few_rows_is_found():
    X, test = curve(60), curve(500, seed=1)
    fitted = AutoencoderTransformer(1, random_state=0).fit(X)
    assert fitted.n_iter_ > 0
    assert squares(fitted, test).sum() < 0.1 * squares(PCA(1).fit(X), test).sum()


def test_below_ten_rows_nothing_is_trained(dense):
    skip_maps(dense)
    assert dense.fit(curve(9)).n_iter_ == 0
    assert dense.set_params(early_stopping=False, max_epochs=3).fit(curve(9)).n_iter_ == 3


def test_few_rows_with_a_constant_rate(wine):
    fitted = AutoencoderTransformer(2, lr_schedule="constant", random_state=0).fit(wine[:25])
    pca = PCA(2).fit(wine[:25])
    assert squares(fitted, wine[25:]).sum() < 1.001 * squares(pca, wine[25:]).sum()


def test_few_clean_rows_are_restored_as_well_as_by_pca(wine):
    for seed in range(3):
        X = wine[np.random.default_rng(seed).permutation(len(wine))]
        fitted = DenoisingAutoencoder(2, random_state=seed).fit(X[:25])
        assert squares(fitted, X[25:]).sum() < 1.001 * squares(PCA(2).fit(X[:25]), X[25:]).sum()


# -- copies and groups -------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_copies_do_not_look_like_new_rows(wine, noise):
    random = np.random.default_rng(0)
    X = random.permutation(wine)
    X, test = X[:60], X[60:]
    copies = np.repeat(X, 5, axis=0)
    copies += noise * random.normal(size=copies.shape)
    fitted = AutoencoderTransformer(2, max_epochs=40, random_state=0).fit(copies)
    assert squares(fitted, test).sum() < 1.001 * squares(PCA(2).fit(copies), test).sum()


@pytest.fixture(scope="module")
def panel():
    """40 groups of 15 rows that differ little within a group, and new groups."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(80, 1, 10)) * np.linspace(2, 0.5, 10)
    rows = centers + 0.3 * random.normal(size=(80, 15, 10))
    groups = np.repeat(np.arange(40), 15)
    return rows[:40].reshape(-1, 10), groups, rows[40:].reshape(-1, 10)


@pytest.mark.slow
def test_groups_are_held_out_together(panel, kind):
    X, groups, test = panel
    kind.set_params(max_epochs=10)
    names = np.array([f"patient {group}" for group in groups], dtype=object)
    fitted = clone(kind).fit(X, groups=names)
    assert_close(clone(kind).fit(X, groups=groups).reconstruct(test), fitted.reconstruct(test), 0)
    if hasattr(kind, "sparsity") or isinstance(kind, NeighborAutoencoder):
        return
    kept = squares(fitted, test).sum()
    assert kept < 1.001 * squares(PCA(2).fit(X), test).sum()


def test_without_groups_a_panel_is_overfitted(panel):
    """The case that groups mend: otherwise the test above would show nothing."""
    X, groups, test = panel
    pca = PCA(2).fit(X)
    plain = AutoencoderTransformer(2, random_state=0).fit(X)
    grouped = AutoencoderTransformer(2, random_state=0).fit(X, groups=groups)
    assert squares(grouped, test).sum() < 1.001 * squares(pca, test).sum()
    assert squares(plain, test).sum() > 1.05 * squares(pca, test).sum()


def test_one_group_cannot_be_held_out(wine):
    with pytest.warns(UserWarning, match="groups"):
        fitted = AutoencoderTransformer(2, random_state=0).fit(wine, groups=np.zeros(len(wine)))
    assert fitted.n_iter_ == 0


def test_bad_groups_leave_a_fitted_estimator_as_it_was(wine):
    fitted = AutoencoderTransformer(2, max_epochs=3, random_state=0).fit(wine)
    codes = fitted.transform(wine)
    with pytest.raises(ValueError, match="groups has missing values"):
        fitted.fit(wine, groups=[np.nan] * len(wine))
    with pytest.raises(ValueError, match="inconsistent"):
        fitted.fit(wine, groups=[1, 2])
    assert np.array_equal(fitted.transform(wine), codes)


def test_rows_of_weight_zero_take_their_groups_along(panel):
    X, groups, test = panel
    weights = (groups != 3).astype(float)
    estimator = AutoencoderTransformer(2, max_epochs=5, random_state=0)
    dropped = clone(estimator).fit(X, sample_weight=weights, groups=groups)
    absent = clone(estimator).fit(X[groups != 3], groups=groups[groups != 3])
    assert np.array_equal(dropped.transform(test), absent.transform(test))


def test_groups_are_routed_as_metadata(panel):
    X, groups, test = panel
    direct = AutoencoderTransformer(2, max_epochs=5, random_state=0)
    scaled = StandardScaler().fit(X)
    expected = clone(direct).fit(scaled.transform(X), groups=groups)
    expected = expected.transform(scaled.transform(test))
    pipeline = make_pipeline(StandardScaler(), clone(direct))
    plain = clone(pipeline).fit(X, autoencodertransformer__groups=groups)
    assert np.array_equal(plain.transform(test), expected)
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline(StandardScaler(), clone(direct).set_fit_request(groups=True))
        assert np.array_equal(routed.fit(X, groups=groups).transform(test), expected)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_search_passes_groups_to_folds_and_fits(panel, in_pipeline):
    X, groups, _ = panel
    estimator = AutoencoderTransformer(max_epochs=5, random_state=0)
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), estimator)
    search = LatentDimensionSearch(estimator, [1, 2], cv=3)
    together = clone(search).fit(X, groups=groups)
    alone = clone(search).set_params(together=False).fit(X, groups=groups)
    scores = [each.cv_results_["mean_test_score"] for each in (together, alone)]
    assert_close(*scores, 1e-4)
    key = "autoencodertransformer__groups" if in_pipeline else "groups"
    refitted = clone(together.best_estimator_).fit(X, **{key: groups})
    assert np.array_equal(together.transform(X), refitted.transform(X))


def test_compare_passes_groups_to_folds_and_fits(panel):
    X, groups, _ = panel
    y = groups % 2
    estimators = [AutoencoderTransformer(max_epochs=3)]
    result = compare(X, y, 2, estimators, cv=4, groups=groups, baselines=False)
    assert result.summary.shape[0] == 2
    with pytest.raises(ValueError, match="number of groups, 2"):
        compare(X, None, 2, estimators, cv=4, groups=groups % 2)


def test_a_classifier_takes_groups(panel):
    X, groups, test = panel
    classifier = AutoencoderClassifier(
        AutoencoderTransformer(2, max_epochs=3), max_epochs=3, unlabeled=-1, random_state=0
    )
    y = np.where(groups < 20, groups % 2, -1)
    fitted = clone(classifier).fit(X, y, groups=groups)
    assert set(fitted.predict(test)) <= {0, 1}
    with pytest.raises(ValueError, match="inconsistent"):
        clone(classifier).fit(X, y, groups=[1])


# -- far rows ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=["AutoencoderTransformer", "VAETransformer"])
def trained(request, digits_fits):
    return digits_fits[request.param]


@pytest.fixture(scope="module")
def digits_fits(digits):
    kinds = AutoencoderTransformer, VAETransformer
    return {
        kind.__name__: kind(6, max_epochs=15, random_state=0).fit(digits[:1000]) for kind in kinds
    }


def test_rows_far_off_are_restored_as_by_pca(trained, digits):
    X = digits[:1000]
    pca = PCA(6, svd_solver="full").fit(X)
    directions = np.random.default_rng(0).normal(size=(50, 64))
    far = X[:50] + 1e6 * directions
    assert (squares(trained, far) / squares(pca, far)).max() < 1.001
    # Codes are PCA's in the basis of the fit, which is an affine map of PCA's.
    design = np.column_stack([pca.transform(far), np.ones(50)])
    codes = trained.transform(far)
    mapped = design @ np.linalg.lstsq(design, codes, rcond=None)[0]
    assert_close(mapped, codes, 1e-6)


def test_rows_between_near_and_far_change_gradually(trained, digits):
    steps = np.linspace(0, 60, 2001)[:, None]
    direction = np.random.default_rng(1).normal(size=64)
    rows = digits[1500] + steps * direction / 8
    restored = trained.reconstruct(rows)
    jumps = np.linalg.norm(np.diff(restored, axis=0), axis=1)
    assert jumps.max() < 10 * np.linalg.norm(np.diff(rows, axis=0), axis=1).max()


def test_log_likelihoods_fall_beyond_the_region(trained, digits):
    directions = np.random.default_rng(0).normal(size=(20, 64)) / 8
    steps = np.geomspace(10, 1e6, 12)
    logs = [trained.score_samples(digits[:20] + step * directions) for step in steps]
    assert (np.diff(logs, axis=0) < 0).all()


def test_inside_the_region_nothing_changes(trained, digits):
    inside = trained.reconstruct(digits[:1000])
    unbounded = copy_of(trained)
    unbounded.net_.limit(None, None)
    assert_close(unbounded.reconstruct(digits[:1000]), inside, 1e-12)
    far = digits[:5] + 100.0
    assert np.abs(unbounded.reconstruct(far) - trained.reconstruct(far)).max() > 0.1


def test_validation_rows_belong_to_the_region(digits):
    bright = 2 * digits[1000:1200]
    fitted = AutoencoderTransformer(4, max_epochs=3, random_state=0)
    fitted.fit(digits[:1000], X_val=bright)
    low, high = fitted.net_.module_.row_region.numpy()
    standard = (bright - fitted._center) / fitted._scale
    assert (low <= standard.min(axis=0)).all()
    assert (standard.max(axis=0) <= high).all()
    codes = fitted._encode(standard)
    low, high, _ = fitted.net_.module_.code_region.numpy()
    assert (low <= codes.min(axis=0) + 1e-9).all()
    assert (codes.max(axis=0) <= high + 1e-9).all()


def test_corrupted_rows_belong_to_the_region(digits):
    fitted = DenoisingAutoencoder(4, noise="gaussian", noise_level=2.0, max_epochs=3)
    low, high = fitted.fit(digits[:600]).net_.module_.row_region.numpy()
    standard = (digits[:600] - fitted._center) / fitted._scale
    assert (high - low).mean() > 1.5 * np.ptp(standard, axis=0).mean()


def test_the_region_of_sparse_rows_is_that_of_dense_ones(digits):
    estimator = AutoencoderTransformer(4, early_stopping=False, max_epochs=3, random_state=0)
    X = digits[:200]
    expected, fitted = clone(estimator).fit(X), clone(estimator).fit(sparse.csr_array(X))
    far = fitted.reconstruct(sparse.csr_array(20 * X))
    for one, other in zip(fitted._region(), expected._region(), strict=True):
        assert_close(one, other, 1e-6)
    assert_close(far, expected.reconstruct(20 * X), 1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu"])  # closed form and autograd
def test_training_does_not_know_the_region(digits, activation):
    warm = AutoencoderTransformer(
        4,
        activation=activation,
        early_stopping=False,
        max_epochs=2,
        warm_start=True,
        random_state=0,
    )
    other = clone(warm)
    warm.fit(digits[:300])
    other.fit(digits[:300]).net_.limit(None, None)
    far = 5 * digits[:300]
    assert warm.fit(far).loss_curve_ == other.fit(far).loss_curve_


def test_partial_fit_widens_the_region(digits):
    fitted = AutoencoderTransformer(4, random_state=0).partial_fit(digits[:700])
    first = fitted.net_.module_.row_region.clone()
    fitted.partial_fit(3 * digits[700:1000])
    second = fitted.net_.module_.row_region
    assert (second[0] <= first[0]).all()
    assert (second[1] >= first[1]).all()
    assert (second[1] > first[1] + 0.1).any()


def test_a_warm_start_forgets_the_region(digits):
    fitted = AutoencoderTransformer(4, max_epochs=3, warm_start=True, random_state=0)
    wide = fitted.fit(3 * digits[:700]).net_.module_.row_region.clone()
    narrow = fitted.fit(digits[:700]).net_.module_.row_region
    assert (narrow[1] < wide[1] - 0.1).any()


# -- a VAE that restores -----------------------------------------------------------


def test_the_linear_vae_restores_as_pca(cancer):
    for k in (3, 25):  # of 25 components, some lie below the noise
        vae = VAETransformer(k, hidden_layer_sizes=()).fit(cancer)
        pca = PCA(k, svd_solver="full").fit(cancer)
        expected = pca.inverse_transform(pca.transform(cancer))
        assert_close(vae.reconstruct(cancer), expected, 1e-9)
        assert_close(vae.inverse_transform(vae.transform(cancer)), expected, 1e-9)


def test_codes_are_unshrunk_posterior_means(digits_fits, digits):
    vae = digits_fits["VAETransformer"]
    mean, std = vae.posterior(digits[:200])
    std = std / vae._code_scale  # of the network's codes, whose prior has variance one
    center = vae._code_mean @ (vae._rotation * vae._code_scale)
    assert not vae.net_.module_.direct.any()
    divisor = np.abs(vae._rotation.T) @ vae.net_.module_.divisor.numpy()
    codes = (mean + center) / np.maximum(1 - std**2, divisor)
    difference = vae.transform(digits[:200]) - codes
    assert_close(difference, np.broadcast_to(difference[0], codes.shape), 1e-6)
    assert_close(vae.transform(digits[:1000]).mean(axis=0) + 1, np.ones(6), 1e-9)


def test_restoring_falls_back_on_pca():
    X = np.random.default_rng(0).normal(size=(600, 10))  # nothing to be gained
    vae = VAETransformer(4, random_state=0).fit(X[:400])
    assert (squares(vae, X[400:]).sum() / squares(PCA(4).fit(X[:400]), X[400:]).sum()) < 1.001


def test_samples_do_not_use_the_axes(digits_fits):
    vae = copy_of(digits_fits["VAETransformer"])
    before = vae.sample(5, random_state=0), vae.score_samples(np.zeros((2, 64)))
    vae.net_.restore_by(*torch.ones((2, 6), dtype=torch.float64))
    after = vae.sample(5, random_state=0), vae.score_samples(np.zeros((2, 64)))
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one, other)
