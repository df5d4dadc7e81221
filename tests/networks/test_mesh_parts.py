"""Parts of mesh autoencoders: clusters, graph convolutions, configurations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from skae._data.meshes import align, edge_lengths, find_poses, mean_shape, path_graph
from skae.networks import (
    ChebyshevConvolution,
    FromClusters,
    GraphBlock,
    MeshDecoder,
    MeshEncoder,
    ToClusters,
    cluster_mesh,
)
from skae.networks.serialization import network_from_config, network_to_config


def plane(side=7):
    """Adjacency and positions of a square of vertices, each joined to those beside it."""
    points = np.indices((side, side)).reshape(2, -1).T.astype(float)
    distances = np.abs(points[:, None] - points).sum(axis=2)
    height = 0.1 * (points[:, :1] - side / 2) ** 2
    return sparse.csr_array((distances == 1).astype(float)), np.hstack([points, height])


ADJACENCY, POINTS = plane()
GRAPHS = {
    "positions": cluster_mesh(edge_lengths(ADJACENCY, POINTS), 6, 3, POINTS),
    "values": cluster_mesh(ADJACENCY, 9, 2),
    "one cluster": cluster_mesh(ADJACENCY, 1, 3, POINTS),
    "every vertex": cluster_mesh(path_graph(5), 5, 1),
    "one vertex": cluster_mesh(path_graph(1), 1, 4),
}
each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def generator():
    return torch.Generator().manual_seed(0)


def rows_for(graph, n_rows=4, dtype=torch.float32):
    return torch.randn(n_rows, graph.n_features, generator=generator(), dtype=dtype)


def make_part(kind, graph, n_columns=3, **options):
    defaults = {"n_channels": 4, "order": 3, "n_blocks": 1, "generator": generator()}
    return kind(graph, n_columns, **{**defaults, **options})


# -- clusters ----------------------------------------------------------------------


@each_graph
def test_functions_of_clusters_are_orthonormal_or_zero(graph):
    products = graph.basis.double() @ graph.basis.double().T
    eigenvalues = torch.linalg.eigvalsh(products)
    assert torch.minimum(eigenvalues.abs(), (eigenvalues - 1).abs()).max() < 1e-5


@each_graph
def test_eigenvalues_of_the_laplacian_are_at_most_one(graph):
    torch.testing.assert_close(graph.laplacian, graph.laplacian.T)
    assert torch.linalg.eigvalsh(graph.laplacian.double()).abs().max() < 1 + 1e-6


def test_rigid_and_affine_maps_of_the_mesh_are_in_the_span():
    graph = GRAPHS["positions"]
    moved = torch.from_numpy(POINTS @ np.random.default_rng(0).normal(size=(3, 3)) + 5).float()
    row = moved.reshape(1, -1)
    assert graph.n_entries == 12
    restored = FromClusters(graph)(ToClusters(graph)(row))
    torch.testing.assert_close(restored, row, rtol=0, atol=1e-4)


def test_functions_are_local():
    squares = GRAPHS["values"].basis.square()
    far = np.abs(POINTS[:, None] - POINTS).sum(axis=2)
    centers = squares.argmax(dim=1).numpy()
    beyond = torch.from_numpy(far[centers] > 6)
    assert (squares * beyond).sum() < 0.02 * squares.sum()


def test_every_part_of_a_mesh_has_a_cluster_and_its_neighbours_only():
    two = sparse.csr_array(sparse.block_diag([ADJACENCY, ADJACENCY]))
    graph = cluster_mesh(two, 6, 3)
    first = graph.basis[:, :49].abs().sum(dim=1) > 1e-6
    second = graph.basis[:, 49:].abs().sum(dim=1) > 1e-6
    assert (first ^ second).all()
    assert not graph.laplacian[first][:, second].any()
    assert cluster_mesh(two, 1, 3).n_clusters == 2


def test_clusters_do_not_depend_on_the_scale_of_the_mesh():
    large = cluster_mesh(edge_lengths(ADJACENCY, 1e3 * POINTS), 6, 3, 1e3 * POINTS)
    torch.testing.assert_close(large.basis, GRAPHS["positions"].basis, rtol=0, atol=1e-5)


# -- convolutions ------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_a_convolution_is_a_polynomial_of_the_laplacian(order):
    laplacian = GRAPHS["values"].laplacian.double()
    layer = ChebyshevConvolution(laplacian, 3, 4, order, generator=generator()).double()
    x = torch.randn(2, 9, 3, generator=generator(), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(laplacian)
    expected = layer.bias.expand(2, 9, 4)
    for i, weight in enumerate(layer.weight.split(3, dim=1)):
        filtered = vectors @ torch.diag(torch.cos(i * torch.acos(values.clamp(-1, 1))))
        expected = expected + (filtered @ vectors.T @ x) @ weight.T
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-6)


def test_a_cluster_sees_those_two_edges_away():
    graph = cluster_mesh(path_graph(9), 9, 1)
    layer = ChebyshevConvolution(graph.laplacian, 1, 1, 3, generator=generator())
    x = torch.zeros(1, 9, 1)
    center = int(torch.argmax((graph.laplacian != 0).sum(dim=0)))
    seen = (layer.polynomials.reshape(2, 9, 9)[:, :, center] != 0).any(dim=0)
    x[0, center] = 1
    changed = (layer(x) - layer(torch.zeros_like(x)))[0, :, 0].abs() > 1e-7
    seen[center] = True
    assert torch.equal(changed, seen)
    assert changed.sum() <= 5


def test_convolutions_follow_the_numbers_of_clusters():
    graph = GRAPHS["values"]
    order = torch.randperm(9, generator=generator())
    renumbered = graph._replace(
        basis=graph.basis[order], laplacian=graph.laplacian[order][:, order]
    )
    one, other = (GraphBlock(g, 4, 3, "relu", 1.0, generator()) for g in (graph, renumbered))
    x = rows_for(graph)
    torch.testing.assert_close(
        FromClusters(renumbered)(other(ToClusters(renumbered)(x))),
        FromClusters(graph)(one(ToClusters(graph)(x))),
    )


# -- encoder and decoder -----------------------------------------------------------


@each_graph
@pytest.mark.parametrize("hidden", [(), (6, 5)])
@pytest.mark.parametrize("n_blocks", [0, 2])
def test_parts_map_rows_to_codes_and_back(graph, hidden, n_blocks):
    options = {"hidden_layer_sizes": hidden, "n_blocks": n_blocks}
    z = make_part(MeshEncoder, graph, **options)(rows_for(graph))
    assert z.shape == (4, 3)
    assert make_part(MeshDecoder, graph, **options)(z).shape == (4, graph.n_features)


@pytest.mark.parametrize("kind", [MeshEncoder, MeshDecoder])
def test_a_last_layer_of_zeros_returns_zeros_and_has_a_gradient(kind):
    part = make_part(kind, GRAPHS["positions"], hidden_layer_sizes=(5,), zero_last=True)
    x = torch.randn(4, part.n_inputs, generator=generator())
    assert not part(x).any()
    (part(x) - 1).square().sum().backward()
    assert any(p.grad.any() for p in part.parameters())


def test_initial_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    one, other = (make_part(MeshEncoder, GRAPHS["values"]) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [MeshEncoder, MeshDecoder])
@pytest.mark.parametrize("activation", ["relu", "silu"])
@each_graph
def test_a_configuration_makes_the_same_part(kind, graph, activation):
    part = make_part(kind, graph, hidden_layer_sizes=(5,), activation=activation)
    before = torch.get_rng_state()
    back = network_from_config(network_to_config(part))
    x = torch.randn(4, part.n_inputs, generator=generator())
    assert torch.equal(back(x), part(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_part_without_activations_has_a_configuration():
    part = make_part(MeshEncoder, GRAPHS["values"], n_blocks=0)
    x = rows_for(GRAPHS["values"])
    assert torch.equal(network_from_config(network_to_config(part))(x), part(x))


DAMAGES = {
    "weights of the network is missing": lambda part: part.pop("weights"),
    "basis of the network is missing": lambda part: part.pop("basis"),
    "order of the network is missing": lambda part: part.pop("order"),
    "no activation 'rela'": lambda part: part.update(activation="rela"),
    r"shape \(5, 49\) does not suit 6 clusters": lambda part: part.update(basis=part["basis"][:5]),
    "laplacian.*shape": lambda part: part.update(laplacian=part["laplacian"][:, :3]),
    "of 3 layers has 2 weights and 3 biases": lambda part: part["weights"].pop(),
    r"weights\[0\].*shape": lambda part: part.update(weights=part["weights"][::-1]),
}


@pytest.mark.parametrize("complaint", DAMAGES)
def test_a_damaged_configuration_is_refused(complaint):
    config = network_to_config(make_part(MeshEncoder, GRAPHS["positions"]))
    DAMAGES[complaint](config)
    with pytest.raises(ValueError, match=complaint):
        network_from_config(config)


def test_an_activation_of_the_user_has_no_configuration():
    part = make_part(MeshEncoder, GRAPHS["values"], activation=torch.nn.Mish)
    assert network_to_config(part) is None


# -- rigid alignment ---------------------------------------------------------------


def test_poses_are_found_again():
    random = np.random.default_rng(0)
    rotations = np.linalg.qr(random.normal(size=(5, 3, 3)))[0]
    rotations[:, :, 0] *= np.linalg.det(rotations)[:, None]
    X = POINTS @ rotations + random.normal(size=(5, 1, 3))
    found, centroids = find_poses(X, POINTS)
    np.testing.assert_allclose(found, np.swapaxes(rotations, 1, 2), atol=1e-12)
    np.testing.assert_allclose(centroids, X.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(align(X, POINTS), np.broadcast_to(POINTS, X.shape), atol=1e-12)
    shape = mean_shape(X)
    np.testing.assert_allclose(
        np.linalg.norm(shape - shape.mean(axis=0), axis=1),
        np.linalg.norm(POINTS - POINTS.mean(axis=0), axis=1),
        atol=1e-9,
    )
