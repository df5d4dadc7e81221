"""`MeshAutoencoder`: meshes in and out, alignment, and graph convolutions that correct PCA."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from conftest import SMALL_MESH, assert_close, fast
from scipy import sparse
from scipy.spatial.transform import Rotation
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

from skae import LatentDimensionSearch, MeshAutoencoder
from skae._data.meshes import find_poses
from skae.export import to_onnx

N_RINGS, N_AROUND = 10, 6


def tube_faces():
    i, j = (grid.ravel() for grid in np.mgrid[: N_RINGS - 1, :N_AROUND])
    first, second = i * N_AROUND + j, i * N_AROUND + (j + 1) % N_AROUND
    lower = np.stack([first, second, second + N_AROUND], axis=1)
    return np.concatenate([lower, np.stack([first, second + N_AROUND, first + N_AROUND], axis=1)])


def tubes(n_meshes, seed=0):
    """Tubes that bend in a plane, in a direction and by a radius of their own, with some noise."""
    random = np.random.default_rng(seed)
    bend = random.normal(size=(n_meshes, 2))
    s = np.linspace(0, 1, N_RINGS)
    angle = np.linalg.norm(bend, axis=1)[:, None] * s
    toward = bend / np.linalg.norm(bend, axis=1, keepdims=True)
    centers = np.cumsum(
        np.stack(
            [np.sin(angle) * toward[:, :1], np.sin(angle) * toward[:, 1:], np.cos(angle)], axis=2
        ),
        axis=1,
    )
    around = np.arange(N_AROUND) / N_AROUND * 2 * np.pi
    circle = np.stack([np.cos(around), np.sin(around), 0 * around], axis=1)
    radius = 1 + 0.2 * random.normal(size=(n_meshes, 1, 1, 1))
    X = (centers[:, :, None] + radius * circle).reshape(n_meshes, -1, 3)
    return X + 0.01 * random.normal(size=X.shape)


FACES = tube_faces()
EDGES = sparse.coo_array(
    (np.ones(3 * len(FACES)), (FACES.ravel(), FACES[:, [1, 2, 0]].ravel())), shape=(60, 60)
)
EDGES = sparse.csr_array(EDGES + EDGES.T)


def make(**params):
    """Small network of a few epochs, which is kept whether it is better than PCA or not."""
    given = {} if "edges" in params else {"faces": FACES}
    small = MeshAutoencoder(3, random_state=0, early_stopping=False, **{**SMALL_MESH, **given})
    return fast(small, **params)


@pytest.fixture(scope="module")
def meshes():
    return tubes(120)


@pytest.fixture(scope="module")
def aligned(meshes):
    return make(align=True).fit(meshes)


@pytest.fixture(scope="module")
def moved(meshes):
    """The same meshes, each rotated and shifted."""
    rotations = Rotation.random(len(meshes), random_state=0).as_matrix()
    shifts = np.random.default_rng(0).normal(scale=5, size=(len(meshes), 1, 3))
    return meshes @ rotations + shifts, rotations, shifts


def squares(fitted, X):
    return np.square(fitted.inverse_transform(fitted.transform(X)) - X).sum()


# -- quality -----------------------------------------------------------------------


def test_bending_tubes_are_restored_better_than_by_pca():
    train, test = tubes(600), tubes(200, seed=1)
    params = {"n_channels": 16, "hidden_layer_sizes": (64,), "max_epochs": 40, "random_state": 0}
    fitted = MeshAutoencoder(3, faces=FACES, align=True, **params).fit(train)
    flat, others = fitted._check_rows(train), fitted._check_rows(test)
    error = fitted.reconstruction_error(test).sum()
    assert error < 0.15 * squares(PCA(3).fit(flat), others)
    assert fitted.pca_error_ratio_ < 0.15


@pytest.mark.parametrize("n_rows", [20, 60])
@pytest.mark.parametrize("params", [{}, {"align": True}], ids=str)
def test_few_meshes_are_never_restored_worse_than_by_pca(n_rows, params):
    fitted = make(early_stopping=True, **params).fit(tubes(n_rows))
    train, test = (fitted._check_rows(X) for X in (tubes(n_rows), tubes(200, seed=1)))
    error = fitted.reconstruction_error(tubes(200, seed=1)).sum()
    assert error < 1.001 * squares(PCA(3).fit(train), test)


def test_without_training_it_is_pca(meshes):
    fitted, flat = make(lr=1e-30).fit(meshes), meshes.reshape(120, -1)
    pca = PCA(3).fit(flat)
    by_pca = pca.inverse_transform(pca.transform(flat)).reshape(meshes.shape)
    assert_close(fitted.reconstruct(meshes), by_pca, 1e-6)
    assert_close(np.abs(fitted.transform(meshes)), np.abs(pca.transform(flat)), 1e-6)


@pytest.mark.parametrize("align", [False, True])
def test_equal_meshes_stay_equal(meshes, align):
    with pytest.warns(ConvergenceWarning, match="no variance"):
        fitted = make(align=align).fit(np.repeat(meshes[:1], 40, axis=0))
    np.testing.assert_allclose(fitted.reconstruct(meshes[:1]), meshes[:1], atol=1e-6)


# -- meshes in and out -------------------------------------------------------------


def test_rows_and_meshes_give_the_same_results(meshes):
    flat = meshes.reshape(120, -1)
    of_meshes, of_rows = make().fit(meshes), make().fit(flat)
    assert of_meshes.mesh_shape_ == of_rows.mesh_shape_ == (60, 3)
    codes = of_meshes.transform(meshes)
    assert np.array_equal(of_rows.transform(meshes), codes)
    assert of_meshes.score(flat) == of_rows.score(meshes)
    for method, given in (
        ("inverse_transform", codes),
        ("reconstruct", meshes),
        ("denoise", flat),
    ):
        out = getattr(of_meshes, method)(given)
        assert out.shape == meshes.shape
        assert np.array_equal(out.reshape(flat.shape), getattr(of_rows, method)(given))
    assert of_meshes.sample(4, 0).shape == (4, 60, 3)
    assert of_rows.sample(4, 0).shape == (4, 180)
    assert of_meshes.interpolate(meshes[:2], flat[2:4], 5).shape == (2, 5, 60, 3)


def test_edges_are_faces(meshes):
    of_faces = make().fit(meshes).transform(meshes)
    for edges in (EDGES, EDGES.toarray(), (EDGES * 3).tocoo()):
        assert np.array_equal(make(edges=edges).fit(meshes).transform(meshes), of_faces)


@pytest.mark.parametrize("n_values", [1, 2, 5])
def test_vertices_may_have_any_number_of_values(meshes, n_values):
    X = np.concatenate([meshes, meshes**2], axis=2)[..., :n_values]
    fitted = make(edges=EDGES).fit(X)
    assert fitted.mesh_shape_ == (60, n_values)
    assert np.isfinite(fitted.reconstruct(X)).all()
    assert np.array_equal(fitted.transform(X), fitted.transform(X.reshape(120, -1)))


def test_a_path_has_a_vertex_for_each_column(wine, meshes):
    assert make(edges="path").fit(wine).mesh_shape_ == (13, 1)
    with pytest.raises(ValueError, match=r"edges='path' is for rows .* shape \(60, 3\)"):
        make(edges="path").fit(meshes)


def test_parts_that_are_not_connected_are_admitted(meshes):
    two = np.concatenate([meshes[:, :30], meshes[:, 30:] + 9], axis=1)
    parted = FACES[(FACES < 30).all(axis=1) | (FACES >= 30).all(axis=1)]
    for n_clusters in (1, 5):
        fitted = make(faces=parted, n_clusters=n_clusters).fit(two)
        encoder = fitted.net_.module_.network.encoder
        assert len(encoder.laplacian) == max(2, n_clusters)
        assert np.isfinite(fitted.reconstruct(two)).all()


def test_lists_integers_and_frames(meshes):
    whole = np.round(meshes * 10).astype(np.int16)
    fitted = make().fit(whole)
    assert fitted.transform(whole).dtype == np.float32
    assert_close(fitted.transform(whole[:9].tolist()), fitted.transform(whole[:9]), 1e-5)
    frame = make(align=True).set_output(transform="pandas").fit(meshes).reconstruct(meshes[:5])
    assert list(frame.columns) == [f"x{i}" for i in range(180)]


# -- alignment ---------------------------------------------------------------------


def test_rotating_and_shifting_changes_neither_codes_nor_errors(aligned, meshes, moved):
    X, rotations, shifts = moved
    assert_close(aligned.transform(X), aligned.transform(meshes), 1e-9)
    assert_close(aligned.reconstruction_error(X), aligned.reconstruction_error(meshes), 1e-9)
    assert aligned.score(X) == pytest.approx(aligned.score(meshes), rel=1e-9)
    in_place = aligned.reconstruct(meshes) @ rotations + shifts
    assert_close(aligned.reconstruct(X), in_place, 1e-9)
    assert_close(aligned.denoise(X.reshape(120, -1)), in_place, 1e-9)
    errors = np.square(aligned.reconstruct(X) - X).sum(axis=(1, 2))
    assert_close(errors, aligned.reconstruction_error(X), 1e-6)


def test_poses_of_training_meshes_do_not_matter(aligned, meshes, moved):
    fitted = make(align=True).fit(moved[0])
    assert fitted.score(meshes) == pytest.approx(aligned.score(meshes), abs=0.01)
    # but without alignment they do
    turned = meshes @ moved[1]
    error = make().fit(turned).reconstruction_error(turned).sum()
    assert error > 2 * aligned.reconstruction_error(turned).sum()


def test_what_is_decoded_has_the_pose_of_the_mean_shape(aligned, meshes):
    center = meshes.mean(axis=(0, 1))
    assert_close(aligned.mean_shape_.mean(axis=0), center, 1e-6)
    for X in (aligned.inverse_transform(aligned.transform(meshes)), aligned.sample(20, 0)):
        assert np.abs(X.mean(axis=1) - center).max() < 0.05
    rotations, _ = find_poses(aligned.mean_shape_[None], meshes.mean(axis=0))
    np.testing.assert_allclose(rotations[0], np.eye(3), atol=1e-6)


def test_a_reflection_is_no_rotation(aligned, meshes):
    lean = meshes.copy()
    lean[:, :, 0] += 0.3 * lean[:, :, 1] * lean[:, :, 2]  # without a plane of symmetry
    fitted = make(align=True).fit(lean)
    mirrored = lean * [1, 1, -1]
    assert fitted.reconstruction_error(mirrored).sum() > 2 * fitted.reconstruction_error(lean).sum()


def test_meshes_in_a_plane_are_aligned(meshes):
    flat = meshes[..., [0, 2]]
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 120)
    turns = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], axis=1)
    fitted = make(align=True, edges=EDGES).fit(flat)
    turned = flat @ turns.reshape(-1, 2, 2) + 3
    assert_close(fitted.transform(turned), fitted.transform(flat), 1e-9)


def test_aligned_models_are_streamed_continued_and_kept(meshes, moved):
    streamed = make(align=True)
    for part in np.array_split(moved[0], 3):
        streamed.partial_fit(part)
    assert np.isfinite(streamed.reconstruct(meshes)).all()
    first = make(align=True, warm_start=True).fit(meshes)
    before, shape = first.loss_curve_[-1], first.mean_shape_
    assert first.fit(meshes).loss_curve_[-1] < before
    assert first.mean_shape_ is shape
    again = pickle.loads(pickle.dumps(first))
    assert np.array_equal(again.reconstruct(moved[0]), first.reconstruct(moved[0]))


# -- what every kind does ----------------------------------------------------------

CHECKED = [  # of few epochs; those with the defaults are in test_common
    {"noise": "gaussian", "emphasis": 2.0},
    {"anchor": None, "whiten": True},
    {"n_components": 0.6, "n_clusters": 1, "order": 1, "max_epochs": 1},
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("params", CHECKED, ids=str)
def test_scikit_learns_checks_pass_without_exception(params):
    """On rows of any width, whose columns are vertices in a row."""
    estimator = make(edges="path", faces=None, n_components=2, max_epochs=2).set_params(**params)
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    bad = [r for r in results if r["status"] in ("failed", "xfail")]
    assert [(r["check_name"], r["exception"]) for r in bad] == []


@pytest.mark.parametrize(
    "params",
    [
        {"target_weight": 1.0},
        {"stochastic_depth": 0.5},
        {"anchor": None},
        {"n_components": 0.9, "early_stopping": True},
        {"whiten": True, "activation": torch.nn.Mish},
        {"lr_schedule": "constant", "early_stopping": True},
        {"hidden_layer_sizes": (), "n_blocks": 0},
        {"n_blocks": 2, "order": 4, "n_clusters": 60},
        {"noise": "swap", "align": True},
    ],
    ids=str,
)
def test_parameters_of_the_other_kinds(meshes, params):
    y = (meshes[:, -1, 0] > 0).astype(str)
    fitted = make(**params).fit(meshes, y, sample_weight=np.arange(1, 121) / 100)
    assert np.isfinite(fitted.transform(meshes)).all()
    copied = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(copied.reconstruct(meshes), fitted.reconstruct(meshes))


def test_files_hold_plain_values(meshes):
    network = make().fit(meshes).net_.__getstate__()["network"]["network"]
    assert network["encoder"]["kind"] == "MeshEncoder"
    assert all(type(array) is np.ndarray for array in network["decoder"]["weights"])


def test_it_is_searched(meshes):
    search = LatentDimensionSearch(make(), n_components=[1, 2], cv=2).fit(meshes.reshape(120, -1))
    assert search.n_components_ in (1, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["transform", "inverse_transform", "reconstruct"])
def test_exported_models_compute_the_same(meshes, method, dtype):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    flat = meshes.reshape(120, -1).astype(dtype)
    fitted = make(order=4, n_clusters=9).fit(flat)
    given = fitted.transform(flat) if method == "inverse_transform" else flat
    session = runtime.InferenceSession(to_onnx(fitted, method, dtype=dtype).SerializeToString())
    (out,) = session.run(None, {"X": given})
    assert_close(out, getattr(fitted, method)(given), 1e-5 if dtype == "float32" else 1e-12)


def test_poses_cannot_be_exported(aligned):
    pytest.importorskip("onnx")
    with pytest.raises(TypeError, match=r"align=True cannot be exported.*'inverse_transform'"):
        to_onnx(aligned, "reconstruct")
    assert to_onnx(aligned, "inverse_transform") is not None


def test_the_network_is_as_large_as_documented():
    X = np.random.default_rng(0).normal(size=(40, 60, 3))
    params = {"max_epochs": 1, "early_stopping": False}
    for n_clusters, given in ((7, {"faces": FACES}), (30, {"edges": EDGES})):
        rows = X if "faces" in given else X[..., :1]
        network = MeshAutoencoder(2, **given, **params).fit(rows).net_.module_.network
        for part, n_blocks in ((network.encoder, 0), (network.decoder, 1)):
            assert len(part.laplacian) == n_clusters
            assert part.options["n_channels"] == 32
            assert part.options["n_blocks"] == n_blocks
            assert part.options["hidden_layer_sizes"] == [128]


# -- errors ------------------------------------------------------------------------

ISOLATED = EDGES.tolil()
ISOLATED[7, :] = ISOLATED[:, 7] = 0


@pytest.mark.parametrize(
    ("params", "shape", "message"),
    [
        ({"faces": None}, (60, 3), "Neither faces nor edges"),
        ({"faces": FACES, "edges": EDGES}, (60, 3), "Both faces and edges"),
        ({"faces": FACES + 1}, (60, 3), r"vertices 1 to 60, but X has 60 .* 0 to 59"),
        ({"faces": FACES - 1}, (60, 3), r"vertices -1 to 58"),
        ({"faces": FACES[:, :2]}, (60, 3), r"faces of shape \(108, 2\) .* triangles"),
        ({"faces": FACES / 1}, (60, 3), "type float64 must be integers"),
        ({"faces": FACES[FACES.max(axis=1) < 54]}, (60, 3), "faces leave .* without a neighbour"),
        ({"edges": EDGES[:9]}, (60, 3), r"edges of shape \(9, 60\) must be a square"),
        ({"edges": sparse.triu(EDGES)}, (60, 3), r"symmetric matrix; pass edges \+ edges.T"),
        ({"edges": ISOLATED}, (60, 3), "leave 1 of 60 vertices without .* vertex 7; remove"),
        ({"edges": EDGES}, (59, 3), r"60 vertices, but X has meshes of shape \(59, 3\)"),
        ({"edges": EDGES}, (121,), "60 vertices, but X has 121 columns"),
        ({}, (62,), "three coordinates a vertex, but X has 62 columns"),
        ({}, (60, 2), r"three coordinates a vertex, but X has meshes of shape \(60, 2\)"),
        ({}, (60, 3, 1), "arrays of 3 axes; pass meshes"),
        ({"align": True, "edges": EDGES}, (60, 1), "align=True needs two or three"),
        ({"n_clusters": 61}, (60, 3), "n_clusters=61 exceeds the 60 vertices"),
        ({"loss": "binary_cross_entropy"}, (60, 3), "set anchor=None"),
    ],
)
def test_errors_name_parameter_value_bound_and_remedy(params, shape, message):
    X = np.random.default_rng(0).normal(size=(40, *shape))
    with pytest.raises(ValueError, match=message):
        make(**params).fit(X)


def test_other_meshes_than_those_of_the_fit_are_refused(aligned, meshes):
    with pytest.raises(ValueError, match=r"shape \(59, 3\), but .* fitted to .* \(60, 3\)"):
        aligned.transform(meshes[:, :59])
    with pytest.raises(ValueError, match="180 features"):
        aligned.transform(meshes.reshape(120, -1)[:, :177])
    with pytest.raises(ValueError, match="X_val does not suit X"):
        make().fit(meshes, X_val=meshes[:, :4])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("align", [False, True])
def test_missing_and_infinite_vertices_are_refused(meshes, value, align):
    X = meshes.copy()
    X[3, 4, 2] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        make(align=align).fit(X)


def test_sparse_rows_are_refused_with_a_remedy(meshes):
    with pytest.raises(TypeError, match=r"dense meshes; pass X.toarray\(\)"):
        make().fit(sparse.csr_matrix(meshes.reshape(120, -1)))


@pytest.mark.parametrize("n_rows", [1, 2, 33])
def test_one_mesh_and_a_last_batch_of_one(meshes, n_rows):
    fitted = make(batch_size=32, align=True).fit(meshes[:n_rows])
    assert fitted.transform(meshes[:1]).shape == (1, 3)
