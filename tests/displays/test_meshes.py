"""`MeshDisplay` shows meshes beside their reconstructions, and walks along components."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from skae import MeshAutoencoder
from skae.displays import MeshDisplay

mpl.use("Agg")

CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
FACES = [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def meshes():
    random = np.random.default_rng(0)
    return CORNERS * random.uniform(1, 2, size=(60, 1, 3)) + 0.01 * random.normal(size=(60, 4, 3))


@pytest.fixture(scope="module")
def fitted(meshes):
    return MeshAutoencoder(2, faces=FACES, align=True, max_epochs=3, random_state=0).fit(meshes)


def corners_of(collection):
    """Distinct corners of the faces that were drawn."""
    return np.unique(np.concatenate([path.vertices for path in collection.get_paths()]), axis=0)


def test_rows_are_drawn_above_their_reconstructions(fitted, meshes):
    drawn = MeshDisplay.from_estimator(fitted, meshes, n_rows=3)
    assert drawn.meshes_.shape == (2, 3)
    np.testing.assert_array_equal(drawn.meshes[0], meshes[:3])
    np.testing.assert_array_equal(drawn.meshes[1], fitted.reconstruct(meshes[:3]))
    labels = [label.get_text() for label in drawn.ax_.get_yticklabels()]
    assert labels == ["original", "reconstruction"]
    drawn.figure_.draw_without_rendering()


def test_each_mesh_lies_in_its_place(fitted, meshes):
    drawn = MeshDisplay.from_estimator(fitted, meshes, n_rows=4)
    for (i, j), collection in np.ndenumerate(drawn.meshes_):
        assert np.abs(corners_of(collection) - [j, -i]).max() < 0.5


def test_a_walk_follows_a_component(fitted, meshes):
    drawn = MeshDisplay.from_estimator(fitted, meshes, component=1, n_steps=7)
    codes = fitted.transform(meshes)
    walk = np.zeros((7, 2))
    walk[:, 1] = np.linspace(*np.quantile(codes[:, 1], [0.02, 0.98]), 7)
    for step in walk:
        three = np.argsort(np.abs(codes[:, 1] - step[1]))[:3]  # a twentieth
        step[0] = codes[three, 0].mean()
    np.testing.assert_allclose(drawn.meshes[0], fitted.inverse_transform(walk))
    assert drawn.meshes_.shape == (1, 7)
    assert drawn.ax_.get_yticklabels()[0].get_text() == "component 1"


def test_faces_behind_are_drawn_first(meshes):
    """From above, along the third axis."""
    drawn = MeshDisplay(meshes[None, :1], faces=FACES, view=(90.0, 0.0)).plot()
    paths = drawn.meshes_[0, 0].get_paths()
    heights = meshes[0, FACES, 2].mean(axis=1)
    turned = meshes[0, FACES[int(np.argmax(heights))]]
    size = np.ptp(np.stack([meshes[0, :, 1], -meshes[0, :, 0]]), axis=1).max()
    expected = np.stack([turned[:, 1], -turned[:, 0]], axis=1) * 0.92 / size
    last = paths[-1].vertices[:3]
    np.testing.assert_allclose(last - last.mean(axis=0), expected - expected.mean(axis=0))


def test_wireframes_and_edges(fitted, meshes):
    lines = MeshDisplay.from_estimator(fitted, meshes, style="wireframe", mesh_kw={"color": "red"})
    assert len(lines.meshes_[0, 0].get_segments()) == 6
    assert np.array_equal(lines.meshes_[0, 0].get_colors()[0], mpl.colors.to_rgba("red"))
    of_edges = MeshAutoencoder(2, edges=sparse.csr_array(1 - np.eye(4)), max_epochs=1).fit(meshes)
    assert len(MeshDisplay.from_estimator(of_edges, meshes).meshes_[0, 0].get_segments()) == 6


def test_pca_is_drawn_with_faces(meshes):
    pca, flat = PCA(1).fit(meshes.reshape(60, -1)), meshes.reshape(60, -1)
    drawn = MeshDisplay.from_estimator(pca, flat, faces=FACES)
    by_pca = pca.inverse_transform(pca.transform(flat[:4]))
    np.testing.assert_allclose(drawn.meshes[1].reshape(4, -1), by_pca)
    with pytest.raises(ValueError, match="faces=None gives no surface"):
        MeshDisplay.from_estimator(pca, flat)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rows": 0}, "n_rows=0 must be an integer >= 1"),
        ({"component": 0, "n_steps": 1}, "n_steps=1 must be an integer >= 2"),
        ({"component": 2}, r"components=\[2\] must hold distinct integers in \[0, 2\)"),
        ({"style": "glass"}, "style='glass' must be 'shaded' or 'wireframe'"),
    ],
)
def test_errors_name_parameter_value_and_bound(fitted, meshes, options, message):
    with pytest.raises(ValueError, match=message):
        MeshDisplay.from_estimator(fitted, meshes, **options)


def test_only_vertices_of_three_coordinates_are_drawn(meshes):
    with pytest.raises(NotFittedError):
        MeshDisplay.from_estimator(MeshAutoencoder(faces=FACES), meshes)
    flat = MeshAutoencoder(1, edges=1 - np.eye(4), max_epochs=1).fit(meshes[..., :2])
    with pytest.raises(ValueError, match=r"meshes of shape \(4, 2\), but only"):
        MeshDisplay.from_estimator(flat, meshes[..., :2])
    with pytest.raises(ValueError, match="8 columns, which are no multiple of 3"):
        MeshDisplay.from_estimator(flat, meshes[..., :2].reshape(60, -1))
