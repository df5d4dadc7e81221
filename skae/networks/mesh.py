"""Encoders and decoders of meshes: graph convolutions on clusters of vertices.

Features of clusters are tensors (n_rows, n_clusters, n_channels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import dijkstra
from torch import Tensor, nn

from skae.networks.dense import MLP, CodecPart, make_activation

BRANCH_GAIN = 0.1  # of the last weights of an encoder's blocks, so that these start near identity
NEIGHBOURS = 4  # clusters that share a vertex
NEGLIGIBLE = 1e-4  # of the largest norm, below which a function of the basis is left out


class MeshGraph(NamedTuple):
    """Clusters of the vertices of a mesh, and the graph between them.

    Attributes
    ----------
    basis : Tensor of shape (n_clusters * n_functions, n_vertices), float32
        Local functions of each cluster, one cluster after the other, orthonormal.
    laplacian : Tensor of shape (n_clusters, n_clusters), float32
        Normalised Laplacian of the clusters minus the identity, whose eigenvalues lie in [-1, 1].
    n_channels : int
        Values of a vertex.
    """

    basis: Tensor
    laplacian: Tensor
    n_channels: int = 3

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.laplacian)

    @property
    def n_entries(self) -> int:
        """Number of values of a cluster."""
        return len(self.basis) // len(self.laplacian) * self.n_channels

    @property
    def n_features(self) -> int:
        """Number of columns of a row."""
        return self.basis.shape[1] * self.n_channels


MeshGraph.__module__ = "skae.networks"


# -- clusters ----------------------------------------------------------------------


def cluster_mesh(
    adjacency: sparse.csr_array, n_clusters: int, n_channels: int, points: np.ndarray | None = None
) -> MeshGraph:
    """Cluster the vertices of a mesh around points that are far from each other on the mesh.

    Each cluster has one smooth function that is largest at its centre and zero beyond the nearest
    other centres; with `points`, also its products with the local coordinates. Their sums are
    blends of one affine map for each cluster, as in embedded deformation [1]_. The functions of
    all clusters are made orthonormal, symmetrically, so that they stay local.

    Parameters
    ----------
    adjacency : csr_array of shape (n_vertices, n_vertices)
        Lengths of edges, symmetric. Each connected part has a cluster of its own at least.
    n_clusters : int
        Raised to the number of connected parts, if there are more.
    n_channels : int
    points : ndarray of shape (n_vertices, n_axes), default=None
        Positions of the vertices.

    Returns
    -------
    MeshGraph

    Raises
    ------
    ValueError
        If there are more clusters than vertices.

    References
    ----------
    .. [1] Sumner, Schmid and Pauly (2007). Embedded deformation for shape manipulation. ACM
       Transactions on Graphics 26. https://doi.org/10.1145/1276377.1276478
    """
    if n_clusters > adjacency.shape[0]:
        raise ValueError(
            f"n_clusters={n_clusters} exceeds the {adjacency.shape[0]} vertices of a mesh; set it "
            f"to at most {adjacency.shape[0]}, or to 'auto' in an estimator."
        )
    distances, centers = _farthest_points(adjacency, n_clusters)
    weights = _blending_weights(distances)
    functions = [weights]
    if points is not None:
        offsets = points[:, None] - points[centers]
        size = math.sqrt((weights * np.square(offsets).sum(axis=2)).sum(axis=1).mean()) or 1.0
        functions += list(np.moveaxis(weights[..., None] * offsets / size, 2, 0))
    stacked = np.stack(functions, axis=2).reshape(len(weights), -1)
    basis = torch.from_numpy(_orthonormal(stacked).T.astype(np.float32, order="C"))
    laplacian = _laplacian(adjacency, distances.argmin(axis=1), len(centers))
    return MeshGraph(basis, torch.from_numpy(laplacian.astype(np.float32)), n_channels)


def _farthest_points(adjacency: sparse.csr_array, n_points: int) -> tuple[np.ndarray, list[int]]:
    """Distances (n_vertices, n_points) to points, each the farthest from those before it."""
    found: list[np.ndarray] = []
    first = dijkstra(adjacency, indices=0)
    centers = [int(np.argmax(np.where(np.isfinite(first), first, -1.0)))]
    while True:
        found.append(dijkstra(adjacency, indices=centers[-1]))
        nearest = np.min(found, axis=0)
        if nearest.max() == 0 or (len(centers) >= n_points and np.isfinite(nearest).all()):
            return np.array(found).T, centers
        centers.append(int(np.argmax(nearest)))


def _blending_weights(distances: np.ndarray) -> np.ndarray:
    """Weights (n_vertices, n_clusters) of the nearest clusters of each vertex, whose sum is 1."""
    n_near = min(NEIGHBOURS, distances.shape[1])
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :n_near]
    near = np.take_along_axis(distances, nearest, axis=1)
    reach = np.full(len(distances), np.inf)
    if n_near < distances.shape[1]:
        reach = np.partition(distances, n_near, axis=1)[:, n_near]
    farthest = np.where(np.isfinite(near), near, 0).max(axis=1)
    reach = np.where(np.isfinite(reach) & (reach > 0), reach, 2 * farthest + 1e-12)[:, None]
    with np.errstate(invalid="ignore"):
        shares = np.where(np.isfinite(near), 1 - near / reach, 0).clip(0) ** 2
    shares[:, 0] += 1e-12  # where all clusters are equally far
    weights = np.zeros_like(distances)
    np.put_along_axis(weights, nearest, shares / shares.sum(axis=1, keepdims=True), axis=1)
    return weights


def _orthonormal(functions: np.ndarray) -> np.ndarray:
    """Orthonormal functions (n_vertices, n_functions) nearest to given ones (Löwdin, 1950)."""
    left, singular, right = np.linalg.svd(functions, full_matrices=False)
    kept = singular > NEGLIGIBLE * singular[0]
    orthonormal: np.ndarray = left[:, kept] @ right[kept]
    return orthonormal


def _laplacian(adjacency: sparse.csr_array, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Rescaled Laplacian of clusters, which are neighbours if any of their vertices are."""
    entries = adjacency.tocoo()
    between = np.zeros((n_clusters, n_clusters))
    between[labels[entries.row], labels[entries.col]] = 1
    np.fill_diagonal(between, 0)
    roots = np.sqrt(np.maximum(between.sum(axis=1), 1))
    return -between / np.outer(roots, roots)


# -- layers ------------------------------------------------------------------------


class ToClusters(nn.Module):
    """Projects rows on the local functions of clusters.

    Parameters
    ----------
    graph : MeshGraph

    Shape
    -----
    Input (n_rows, n_features): one vertex after the other. Output (n_rows, n_clusters, n_entries).
    """

    __module__ = "skae.networks"
    basis: Tensor

    def __init__(self, graph: MeshGraph):
        super().__init__()
        self.register_buffer("basis", graph.basis.clone())
        self.n_clusters, self.n_channels = graph.n_clusters, graph.n_channels
        self.n_vertices, self.n_entries = graph.basis.shape[1], graph.n_entries

    def forward(self, x: Tensor) -> Tensor:
        """Project rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_clusters, n_entries)
        """
        x = x.reshape(-1, self.n_vertices, self.n_channels).permute(0, 2, 1)
        x = (x.reshape(-1, self.n_vertices) @ self.basis.T).reshape(
            -1, self.n_channels, len(self.basis)
        )
        return x.permute(0, 2, 1).reshape(-1, self.n_clusters, self.n_entries)


class FromClusters(nn.Module):
    """Sums the local functions of clusters: the inverse of `ToClusters` on their span.

    Parameters
    ----------
    graph : MeshGraph

    Shape
    -----
    Input (n_rows, n_clusters, n_entries), output (n_rows, n_features).
    """

    __module__ = "skae.networks"
    basis: Tensor

    def __init__(self, graph: MeshGraph):
        super().__init__()
        self.register_buffer("basis", graph.basis.clone())
        self.n_channels, self.n_features = graph.n_channels, graph.n_features

    def forward(self, x: Tensor) -> Tensor:
        """Sum functions.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_clusters, n_entries)

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        n_functions = len(self.basis)
        x = x.reshape(-1, n_functions, self.n_channels).permute(0, 2, 1)
        x = x.reshape(-1, n_functions) @ self.basis
        x = x.reshape(-1, self.n_channels, self.basis.shape[1]).permute(0, 2, 1)
        return x.reshape(-1, self.n_features)


class ChebyshevConvolution(nn.Module):
    """Graph convolution by Chebyshev polynomials of the Laplacian.

    Each order sees neighbours that are one edge further away [1]_.

    Parameters
    ----------
    laplacian : Tensor of shape (n_clusters, n_clusters)
        Of eigenvalues in [-1, 1].
    n_in, n_out : int
        Channels.
    order : int
        Number of polynomials: a cluster sees those at most ``order - 1`` edges away.
    gain : float, default=1.0
        Factor of the initial weights, which are drawn uniformly within ``1 / sqrt(fan_in)``.
    generator : torch.Generator, default=None
        Source of the initial weights.

    Attributes
    ----------
    weight : nn.Parameter of shape (n_out, order * n_in)
    bias : nn.Parameter of shape (n_out,)

    Shape
    -----
    Input (n_rows, n_clusters, n_in), output (n_rows, n_clusters, n_out).

    References
    ----------
    .. [1] Defferrard, Bresson and Vandergheynst (2016). Convolutional neural networks on graphs
       with fast localized spectral filtering. NeurIPS. https://arxiv.org/abs/1606.09375
    """

    __module__ = "skae.networks"
    polynomials: Tensor

    def __init__(
        self,
        laplacian: Tensor,
        n_in: int,
        n_out: int,
        order: int,
        gain: float = 1.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.order = order
        self.weight = nn.Parameter(torch.empty(n_out, order * n_in, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(n_out, dtype=torch.float32))
        bound = gain / math.sqrt(order * n_in)
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        # Rounded to float32 whatever the type, so that files, which hold the Laplacian, keep bits.
        one = torch.eye(len(laplacian), dtype=torch.float64, device=laplacian.device)
        before, last, found = one, laplacian.double(), []
        for _ in range(order - 1):
            found.append(last)
            before, last = last, 2 * laplacian.double() @ last - before
        polynomials = torch.cat(found).float() if found else laplacian[:0]  # all but the identity
        self.register_buffer("polynomials", polynomials.to(laplacian.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve features of clusters.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_clusters, n_in)

        Returns
        -------
        Tensor of shape (n_rows, n_clusters, n_out)
        """
        if self.order > 1:
            n_clusters, n_in = x.shape[1:]
            others = x.permute(0, 2, 1).reshape(-1, n_clusters) @ self.polynomials.T
            others = others.reshape(-1, n_in, self.order - 1, n_clusters).permute(0, 3, 2, 1)
            x = torch.cat([x, others.reshape(-1, n_clusters, (self.order - 1) * n_in)], dim=2)
        return nn.functional.linear(x, self.weight, self.bias)


class GraphBlock(nn.Module):
    """Adds a graph convolution, an activation and a mixture of the channels to its input.

    Parameters
    ----------
    graph : MeshGraph
    n_channels : int
        Channels of the convolution.
    order : int
        Number of Chebyshev polynomials.
    activation : str or callable
    gain : float
        Factor of the initial weights of the mixture; 0 is an identity at first.
    generator : torch.Generator, default=None

    Shape
    -----
    Input and output (n_rows, n_clusters, n_entries).
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        graph: MeshGraph,
        n_channels: int,
        order: int,
        activation: str | Callable[[], nn.Module],
        gain: float,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        n, laplacian = graph.n_entries, graph.laplacian
        self.branch = nn.Sequential(
            ChebyshevConvolution(laplacian, n, n_channels, order, 1.0, generator),
            make_activation(activation),
            ChebyshevConvolution(laplacian, n_channels, n, 1, gain, generator),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_clusters, n_entries)

        Returns
        -------
        Tensor of the same shape
        """
        return x + self.branch(x)


# -- encoder and decoder -----------------------------------------------------------


class MeshPart(CodecPart):
    """Encoder or decoder of meshes.

    Parameters
    ----------
    layers : sequence of nn.Module
    graph : MeshGraph
    n_inputs, n_outputs : int
        Columns.
    options : dict
        Number of channels, order, number of blocks and widths of linear layers, as plain values.
    """

    laplacian: Tensor

    def __init__(
        self,
        layers: Sequence[nn.Module],
        graph: MeshGraph,
        n_inputs: int,
        n_outputs: int,
        options: dict[str, Any],
    ):
        super().__init__(layers, n_inputs, n_outputs, options)
        self.n_graph_channels = graph.n_channels
        self.register_buffer("laplacian", graph.laplacian.clone())

    @property
    def basis(self) -> Tensor:
        """Local functions of the clusters."""
        (layer,) = (each for each in self if isinstance(each, ToClusters | FromClusters))
        return layer.basis


class MeshEncoder(MeshPart):
    """Encoder of meshes: features of clusters, graph convolutions, linear layers.

    Parameters
    ----------
    graph : MeshGraph
    n_outputs : int
        Columns of the codes.
    n_channels : int
        Channels of each convolution.
    order : int
        Number of Chebyshev polynomials of each convolution.
    n_blocks : int
        Residual blocks.
    hidden_layer_sizes : sequence of int, default=()
        Widths of linear layers before the last.
    activation : str or callable, default="relu"
    zero_last : bool, default=False
        Start with a last layer of zeros, so that the encoder returns zeros.
    generator : torch.Generator, default=None
        Source of the initial weights.

    Shape
    -----
    Input (n_rows, n_features), output (n_rows, n_outputs).

    Examples
    --------
    >>> import torch
    >>> from scipy import sparse
    >>> from skae.networks import MeshEncoder, cluster_mesh
    >>> path = sparse.csr_array(sparse.diags([1.0, 1.0], [-1, 1], shape=(10, 10)))
    >>> graph = cluster_mesh(path, n_clusters=4, n_channels=3)
    >>> encoder = MeshEncoder(graph, 2, n_channels=8, order=2, n_blocks=1)
    >>> encoder(torch.ones(5, 30)).shape
    torch.Size([5, 2])
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        graph: MeshGraph,
        n_outputs: int,
        *,
        n_channels: int,
        order: int,
        n_blocks: int,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str | Callable[[], nn.Module] = "relu",
        zero_last: bool = False,
        generator: torch.Generator | None = None,
    ):
        widths = [graph.n_clusters * graph.n_entries, *hidden_layer_sizes, n_outputs]
        layers = [
            ToClusters(graph),
            *_blocks(n_blocks, graph, n_channels, order, activation, BRANCH_GAIN, generator),
            nn.Flatten(),
            *MLP(widths, activation, zero_last=zero_last, generator=generator),
        ]
        options: dict[str, Any] = {
            "n_channels": n_channels,
            "order": order,
            "n_blocks": n_blocks,
            "hidden_layer_sizes": hidden_layer_sizes,
        }
        super().__init__(layers, graph, graph.n_features, n_outputs, options)


class MeshDecoder(MeshPart):
    """Decoder of meshes: linear layers, graph convolutions, local functions of clusters.

    Parameters
    ----------
    graph : MeshGraph
    n_inputs : int
        Columns of the codes.
    n_channels : int
        Channels of each convolution.
    order : int
        Number of Chebyshev polynomials of each convolution.
    n_blocks : int
        Residual blocks.
    hidden_layer_sizes : sequence of int, default=()
        Widths of linear layers before the clusters.
    activation : str or callable, default="relu"
    zero_last : bool, default=False
        Start with layers of zeros, so that the decoder returns zeros.
    generator : torch.Generator, default=None
        Source of the initial weights.

    Shape
    -----
    Input (n_rows, n_inputs), output (n_rows, n_features).
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        graph: MeshGraph,
        n_inputs: int,
        *,
        n_channels: int,
        order: int,
        n_blocks: int,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str | Callable[[], nn.Module] = "relu",
        zero_last: bool = False,
        generator: torch.Generator | None = None,
    ):
        widths = [n_inputs, *hidden_layer_sizes, graph.n_clusters * graph.n_entries]
        gain = 0.0 if zero_last else 1.0
        layers = [
            *MLP(widths, activation, zero_last=zero_last, generator=generator),
            nn.Unflatten(1, (graph.n_clusters, graph.n_entries)),
            *_blocks(n_blocks, graph, n_channels, order, activation, gain, generator),
            FromClusters(graph),
        ]
        options: dict[str, Any] = {
            "n_channels": n_channels,
            "order": order,
            "n_blocks": n_blocks,
            "hidden_layer_sizes": hidden_layer_sizes,
        }
        super().__init__(layers, graph, n_inputs, graph.n_features, options)


def _blocks(
    n_blocks: int,
    graph: MeshGraph,
    n_channels: int,
    order: int,
    activation: str | Callable[[], nn.Module],
    gain: float,
    generator: torch.Generator | None,
) -> list[nn.Module]:
    return [
        GraphBlock(graph, n_channels, order, activation, gain, generator) for _ in range(n_blocks)
    ]
