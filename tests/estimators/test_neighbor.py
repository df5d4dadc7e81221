"""`NeighborAutoencoder`: codes are a map that keeps neighbours, and new rows join it."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import fast
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from skae import DenoisingAutoencoder, NeighborAutoencoder
from skae._estimators.neighbor import SMOOTHING, Positions
from skae._latent.neighbor_map import (
    fuzzy_graph,
    kernel_parameters,
    memberships,
    positions_of_new,
    spread_out,
)
from skae.displays import LatentSpaceDisplay
from skae.export import to_onnx
from skae.metrics import trustworthiness_of_rows


def make(**params):
    return fast(NeighborAutoencoder(random_state=0), **params)


# -- the graph ---------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 5, 15])
def test_weights_of_a_row_sum_to_the_logarithm_of_their_number(k):
    distances = np.sort(np.random.default_rng(0).gamma(3.0, size=(50, k)), axis=1)
    weights = memberships(distances)
    np.testing.assert_allclose(weights.sum(axis=1), np.log2(k), rtol=1e-6)
    np.testing.assert_array_equal(weights[:, 0], 1)
    assert (np.diff(weights, axis=1) <= 0).all()


def test_weights_do_not_depend_on_the_unit():
    distances = np.sort(np.random.default_rng(0).gamma(3.0, size=(20, 7)), axis=1)
    for unit in (1e-8, 1e8):
        np.testing.assert_allclose(memberships(unit * distances), memberships(distances))


def test_copies_of_a_row_are_its_nearest_neighbours():
    distances = np.array([[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    weights = memberships(distances)
    np.testing.assert_array_equal(weights[0, :3], 1)
    np.testing.assert_array_equal(weights[1], 1)


def test_the_graph_is_the_t_conorm_of_both_directions(wine):
    graph = fuzzy_graph(wine, 10).toarray()
    np.testing.assert_array_equal(graph, graph.T)
    assert (graph.diagonal() == 0).all()
    assert 0 <= graph.min() < graph.max() <= 1
    distances = np.linalg.norm(wine[:, None] - wine[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    order = distances.argsort(axis=1)[:, :10]
    one_way = np.zeros_like(graph)
    weights = memberships(np.take_along_axis(distances, order, axis=1))
    np.put_along_axis(one_way, order, weights, axis=1)
    np.testing.assert_allclose(graph, 1 - (1 - one_way) * (1 - one_way.T), atol=1e-4)


def test_the_graph_of_sparse_rows_is_the_same(digits):
    some = digits[:200]
    dense, csr = fuzzy_graph(some, 15), fuzzy_graph(sparse.csr_array(some), 15)
    np.testing.assert_allclose(dense.toarray(), csr.toarray(), atol=1e-5)


def test_the_kernel_is_that_of_umap():
    assert kernel_parameters(0.1) == pytest.approx((1.577, 0.895), abs=1e-3)


def test_the_layout_separates_groups_and_new_rows_join_theirs():
    random = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 40)
    X = 8 * np.eye(10)[group] + random.normal(size=(120, 10))
    start = random.normal(size=(120, 2))
    positions = spread_out(fuzzy_graph(X, 10), start, 0.1, random)
    means = np.array([positions[group == each].mean(axis=0) for each in range(3)])
    nearest = np.linalg.norm(positions[:, None] - means, axis=2).argmin(axis=1)
    assert np.mean(nearest == group) > 0.95
    new = positions_of_new(X, positions, 8 * np.eye(10)[:3], 10)
    assert np.array_equal(np.linalg.norm(new[:, None] - means, axis=2).argmin(axis=1), [0, 1, 2])


def test_the_loss_of_positions_is_a_distance_with_its_gradient():
    random = np.random.default_rng(0)
    codes = torch.from_numpy(random.normal(size=(20, 2))).requires_grad_()
    columns = torch.from_numpy(random.normal(size=(20, 2)))
    columns[0] = codes[0].detach()
    positions, factors = Positions(2), torch.tensor([3.0])
    losses = positions.head_losses(codes, columns)
    distances = (codes - columns).detach().numpy()
    np.testing.assert_allclose(
        losses[:, 0].detach(), np.linalg.norm(distances, axis=1) / np.sqrt(2), atol=SMOOTHING
    )
    (3 * losses.sum()).backward()
    written_out = positions.head_gradient(codes.detach(), columns, factors)
    np.testing.assert_allclose(written_out, codes.grad, rtol=1e-10)


def test_memory_maps_and_sparse_rows_are_searched_as_they_are(digits, tmp_path):
    some = digits[:300]
    np.save(tmp_path / "rows.npy", some)
    expected = fuzzy_graph(some, 15).toarray()
    for X in (np.load(tmp_path / "rows.npy", mmap_mode="r"), sparse.csr_array(some)):
        np.testing.assert_allclose(fuzzy_graph(X, 15).toarray(), expected, atol=1e-5)


# -- the map -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def mapped():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    params = {"hidden_layer_sizes": (128, 128), "max_epochs": 60, "random_state": 0}
    return NeighborAutoencoder(**params).fit(X[:1300]), X, y


def test_new_rows_keep_their_neighbours(mapped):
    mapper, X, y = mapped
    pca, new = PCA(2).fit(X[:1300]), X[1300:]
    codes = mapper.transform(new)
    assert trustworthiness(new, codes, n_neighbors=15) > 0.92
    assert trustworthiness(new, pca.transform(new), n_neighbors=15) < 0.85
    classifier = KNeighborsClassifier(10).fit(mapper.transform(X[:1300]), y[:1300])
    assert classifier.score(codes, y[1300:]) > 0.85  # of PCA: 0.6


def test_the_decoder_restores_far_more_than_pca(mapped):
    mapper, X, _ = mapped
    pca, new = PCA(2).fit(X[:1300]), X[1300:]
    of_pca = np.square(new - pca.inverse_transform(pca.transform(new))).sum()
    restored = mapper.inverse_transform(mapper.transform(new))
    assert np.square(new - restored).sum() < 0.75 * of_pca


def test_codes_are_ordered_and_have_the_variance_of_features(mapped):
    mapper, X, _ = mapped
    covariance = np.cov(mapper.transform(X[:1300]).T)
    assert abs(covariance[0, 1]) < 1e-6 * covariance[0, 0]
    assert covariance[0, 0] >= covariance[1, 1]
    assert 0.8 < np.trace(covariance) / 2 / X[:1300].var(axis=0).mean() < 1.2


def test_anchored_codes_have_the_variance_of_pcas(digits):
    some = digits[:600]
    mapper = make(anchor="pca", hidden_layer_sizes=64, max_epochs=30).fit(some)
    of_pca = PCA(2).fit(some).explained_variance_.sum()
    assert 0.7 < mapper.explained_variance_.sum() / of_pca < 1.2


def test_copies_and_files_have_the_same_map(mapped):
    mapper, X, _ = mapped
    codes = mapper.transform(X[:20])
    again = pickle.loads(pickle.dumps(mapper)).transform(X[:20])
    np.testing.assert_array_equal(again, codes)
    assert mapper.sample(5).shape == (5, 64)


def test_a_seed_gives_the_same_bits(wine):
    first, second = (make().fit(wine).transform(wine) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = make(random_state=1).fit(wine).transform(wine)
    assert not np.array_equal(first, other)


def test_a_map_has_six_layers_and_a_code_has_the_layers_of_others(wine):
    widths = [
        [layer.out_features for layer in fitted.net_.module_.encoder if hasattr(layer, "weight")]
        for fitted in (make().fit(wine), make(neighbor_weight=0).fit(wine))
    ]
    assert widths[0] == [128] * 6 + [2]
    assert len(widths[1]) < 4


@pytest.mark.parametrize("n_rows", [20, 150])
def test_without_weight_it_is_the_denoising_kind_bit_for_bit(wine, n_rows):
    same = {"noise": "gaussian", "noise_level": 0.5, "early_stopping": False, "random_state": 0}
    same |= {"anchor": None, "activation": "gelu"}
    plain = fast(DenoisingAutoencoder(**same)).fit(wine[:n_rows])
    zero = make(neighbor_weight=0).fit(wine[:n_rows])
    np.testing.assert_array_equal(zero.transform(wine), plain.transform(wine))


def test_a_larger_weight_restores_less(digits):
    some = digits[:600]
    low, high = (
        make(neighbor_weight=weight, hidden_layer_sizes=64, max_epochs=40).fit(some)
        for weight in (0.1, 30.0)
    )
    assert low.score(some) > high.score(some)


def test_more_neighbours_than_rows_are_all_others(wine):
    all_others = make(n_neighbors=29).fit(wine[:30])
    more = make(n_neighbors=500).fit(wine[:30])
    np.testing.assert_array_equal(all_others.transform(wine), more.transform(wine))


@pytest.mark.filterwarnings("ignore:All rows of X are equal")
@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 12])
def test_few_rows_are_fitted(wine, n_rows):
    codes = make(n_components=1).fit(wine[:n_rows]).transform(wine)
    assert np.isfinite(codes).all()


def test_copies_of_rows_are_fitted(wine):
    X = np.repeat(wine[:20], 30, axis=0)
    codes = make().fit(X).transform(X)
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(codes[:30], np.broadcast_to(codes[0], (30, 2)), atol=1e-6)


@pytest.mark.filterwarnings("ignore:All rows of X are equal")
@pytest.mark.parametrize("anchor", ["pca", None])
def test_constant_rows_have_equal_codes(anchor):
    codes = make(anchor=anchor).fit(np.full((40, 5), 3.0)).transform(np.full((4, 5), 3.0))
    assert np.isfinite(codes).all()
    assert np.ptp(codes, axis=0).max() == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:n_components=0.8")
@pytest.mark.parametrize(
    "params",
    [
        {"anchor": "pca"},
        {"loss": "binary_cross_entropy"},
        {"loss": "huber"},
        {"n_components": 3},
        {"n_components": 0.8},
        {"early_stopping": True},
        {"early_stopping": True, "anchor": "pca"},
        {"hidden_layer_sizes": ()},
        {"noise_level": 0.0},
        {"activation": "tanh"},
        {"whiten": True},
        {"noise": "masking", "noise_level": 0.2},
    ],
    ids=str,
)
def test_every_option_of_dense_kinds_makes_a_map(digits, params):
    mapper = make(**{"hidden_layer_sizes": 16, **params}).fit(digits[:600])
    assert np.isfinite(mapper.transform(digits[:50])).all()
    assert mapper.inverse_transform(mapper.transform(digits[:50])).shape == (50, 64)
    assert len(mapper.validation_loss_curve_) == (3 if mapper.early_stopping else 0)
    is_compared = mapper.early_stopping and mapper.anchor == "pca"
    assert np.isfinite(mapper.pca_error_ratio_) == is_compared


def test_validation_rows_get_positions_of_their_neighbours(digits):
    mapper = make(max_epochs=5, anchor="pca").fit(digits[:500], X_val=digits[500:700])
    assert len(mapper.validation_loss_curve_) == 5
    assert 0 < mapper.pca_error_ratio_ < 1


def test_a_warm_start_keeps_the_map(digits):
    some = digits[:500]
    mapper = make(max_epochs=30, hidden_layer_sizes=64, warm_start=True).fit(some)
    before = mapper.transform(some)
    after = mapper.fit(some).transform(some)
    correlations = np.abs(np.corrcoef(before.T, after.T)[:2, 2:])
    assert correlations.max(axis=1).min() > 0.8


def test_sparse_rows_and_weights_are_taken(digits):
    some = digits[:100]
    codes = make().fit(sparse.csr_array(some)).transform(some)
    assert np.isfinite(codes).all()
    weights = np.random.default_rng(0).uniform(size=100)
    assert not np.array_equal(make().fit(some, sample_weight=weights).transform(some), codes)


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_models_of_maps_run_without_skae(mapped, method):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    mapper, X, _ = mapped
    given = X[:50] if method == "transform" else mapper.transform(X[:50])
    model = to_onnx(mapper, method, dtype="float64").SerializeToString()
    (result,) = onnxruntime.InferenceSession(model).run(None, {"X": given})
    np.testing.assert_allclose(result, getattr(mapper, method)(given), rtol=0, atol=1e-12)


@pytest.mark.parametrize("as_given", ["memory map", "sparse"])
def test_rows_out_of_core_have_about_the_same_map(digits, tmp_path, monkeypatch, as_given):
    some = digits[:400].astype(np.float32)
    np.save(tmp_path / "rows.npy", some)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    X = mapped if as_given == "memory map" else sparse.csr_array(some)
    in_memory = make(max_epochs=30, hidden_layer_sizes=64).fit(some)
    monkeypatch.setattr("skae._data.dataset.MEMORY_BYTES", 1000)
    out_of_core = make(max_epochs=30, hidden_layer_sizes=64).fit(X, X_val=digits[400:450])
    for mapper in (in_memory, out_of_core):
        assert trustworthiness(some, mapper.transform(some), n_neighbors=15) > 0.93


def test_partial_fit_says_that_it_makes_no_map(wine):
    with pytest.warns(UserWarning, match="makes no map"):
        make().partial_fit(wine)


def test_rows_are_not_changed(wine):
    X = wine.copy()
    make().fit(X)
    np.testing.assert_array_equal(X, wine)


@pytest.mark.parametrize(
    ("name", "value"), [("n_neighbors", 0), ("neighbor_weight", -1.0), ("min_dist", 4.0)]
)
def test_bad_values_are_named(wine, name, value):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        make(**{name: value}).fit(wine)


def test_clones_and_names(wine):
    mapper = clone(make(n_neighbors=7))
    assert mapper.n_neighbors == 7
    names = mapper.fit(wine).get_feature_names_out()
    assert list(names) == ["neighborautoencoder0", "neighborautoencoder1"]


# -- where the map lies ------------------------------------------------------------


@pytest.mark.parametrize("n_neighbors", [1, 5, 15])
def test_the_mean_of_the_rows_is_scikit_learns(mapped, n_neighbors):
    mapper, X, _ = mapped
    codes = mapper.transform(X[:500])
    each = trustworthiness_of_rows(X[:500], codes, n_neighbors=n_neighbors)
    whole = trustworthiness(X[:500], codes, n_neighbors=n_neighbors)
    assert each.shape == (500,)
    assert each.mean() == pytest.approx(whole, abs=1e-12)
    assert (each <= 1).all()


def test_a_misplaced_row_is_found(wine):
    codes = wine.copy()
    codes[0] = wine[wine[:, 0].argmax()] + 1e-3
    each = trustworthiness_of_rows(wine, codes)
    assert each.argmin() == 0
    np.testing.assert_array_equal(trustworthiness_of_rows(wine, wine), 1)


def test_untrue_numbers_of_neighbours_are_refused(wine):
    for bad in (0, 89):
        with pytest.raises(ValueError, match=f"n_neighbors={bad} must be at least 1"):
            trustworthiness_of_rows(wine, wine[:, :2], n_neighbors=bad)
    with pytest.raises(ValueError, match="inconsistent"):
        trustworthiness_of_rows(wine, wine[:5])


def test_the_display_shows_where_the_map_lies(mapped):
    pytest.importorskip("matplotlib")
    mapper, X, _ = mapped
    each = pd.Series(trustworthiness_of_rows(X[:200], mapper.transform(X[:200])), name="trust")
    display = LatentSpaceDisplay.from_estimator(mapper, X[:200], each)
    np.testing.assert_array_equal(display.scatters_[0].get_array(), each)
    assert display.colorbar_.ax.get_ylabel() == "trust"
