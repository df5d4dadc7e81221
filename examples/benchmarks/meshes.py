"""Autoencoders of meshes and their peers, in the same time.

Run from the root of the repository::

    python examples/benchmarks/meshes.py
    python examples/benchmarks/meshes.py --families arm --components 8 --rows 1000 --seconds 20

Meshes are made by known parameters, each normally distributed:

- *arm*: a chain of nine segments, eight joints with two angles each (16 parameters, of decaying
  size), and the radius of each segment (9); 720 vertices.
- *bar*: a square bar whose rates of bending in two directions and of twisting are sums of six
  cosines (18); 640 vertices.
- *bumps*: an ellipsoid (3 axes) with four bumps, whose place, height and width vary (16); 642
  vertices.

All vertices get a little measurement noise. *Vertex error*: mean distance of vertices of 1,000
other meshes from their reconstructions, over PCA's with as many components. *Squared*: the same of
squared distances.

Every method but PCA has ``--seconds`` of processor time on one thread, so that other programs do
not count. Short fits are timed to find the number of epochs that they hold. *skae, dense* are the
dense kind with its default layer and with two layers. *torch, Chebyshev* is an autoencoder as of
Ranjan et al. (2018, https://doi.org/10.1007/978-3-030-01219-9_43): four convolutions of 16, 16, 16
and 32 channels and order 6 on graphs of which each has a quarter of the vertices of the one before
it, a linear layer to the code, the same back; Adam with rate 1e-3, mean squared error, batches of
32. Its meshes are centred and scaled.

A peer is one function: add it to ``METHODS``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from quality_vs_pca import describe_machine
from scipy import sparse
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.transform import Rotation
from sklearn.decomposition import PCA
from torch import Tensor, nn

from skae import AutoencoderTransformer, MeshAutoencoder

TESTED = 1000
MARGIN = 0.95  # share of the budget that is planned
Record = dict[str, Any]


class Model(Protocol):
    """What a method makes."""

    def fit(self, X: np.ndarray) -> Self:
        """Fit to rows."""

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """Restore rows."""


# -- meshes ------------------------------------------------------------------------


def tube_faces(n_rings: int, n_around: int) -> np.ndarray:
    """Triangles of an open tube."""
    i, j = (grid.ravel() for grid in np.mgrid[: n_rings - 1, :n_around])
    first, second = i * n_around + j, i * n_around + (j + 1) % n_around
    above = [first, second, second + n_around]
    return np.concatenate([np.stack(above, 1), np.stack([first, above[2], first + n_around], 1)])


def sweep(rates: np.ndarray, radii: np.ndarray, length: float) -> np.ndarray:
    """Tubes along curves that turn by `rates` (n, n_rings, 3) at each ring.

    Radii are (n, n_rings, n_around).
    """
    n, n_rings, n_around = radii.shape
    turns = Rotation.from_rotvec(rates.reshape(-1, 3)).as_matrix().reshape(n, n_rings, 3, 3)
    angles = np.arange(n_around) / n_around * 2 * np.pi
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    frames, centers = np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 1, 3))
    X = np.empty((n, n_rings, n_around, 3))
    for i in range(n_rings):
        frames = frames @ turns[:, i]
        X[:, i] = centers + radii[:, i, :, None] * (circle @ np.swapaxes(frames[..., :2], 1, 2))
        centers = centers + length / n_rings * frames[:, None, :, 2]
    return X.reshape(n, -1, 3)


def make_arm(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Chain of segments and joints."""
    n_rings, n_around = 60, 12
    mixing = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0]
    deviations = 0.8 ** np.arange(16)
    deviations *= 0.35 / np.sqrt(np.square(deviations).mean())  # radians
    angles = (random.normal(size=(n, 16)) * deviations @ mixing).reshape(n, 8, 2)
    places = np.arange(n_rings)[:, None] - np.arange(1, 9) * n_rings / 9
    shares = np.exp(-0.5 * np.square(places / 1.2))
    rates = np.zeros((n, n_rings, 3))
    rates[..., :2] = np.einsum("rj,njc->nrc", shares / shares.sum(axis=0), angles)
    segments = np.minimum(np.arange(n_rings) * 9 // n_rings, 8)
    radii = 0.4 * np.exp(0.15 * random.normal(size=(n, 9)))[:, segments]
    X = sweep(rates, np.repeat(radii[..., None], n_around, axis=2), 9.0)
    return X + 0.01 * random.normal(size=X.shape), tube_faces(n_rings, n_around)


def make_bar(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Square bar that bends and twists."""
    n_rings, n_around = 40, 16
    k, s = np.arange(6)[:, None], (np.arange(n_rings) + 0.5) / n_rings
    modes = np.cos(np.pi * k * s) / (1 + k)
    rates = np.einsum("njc,jr->nrc", random.normal(size=(n, 6, 3)), modes) / n_rings
    angles = np.arange(n_around) / n_around * 2 * np.pi
    square = 0.1 / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles)))
    X = sweep(rates, np.broadcast_to(square, (n, n_rings, n_around)), 1.0)
    return X + 0.001 * random.normal(size=X.shape), tube_faces(n_rings, n_around)


def icosphere(n_times: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of an icosahedron that was subdivided."""
    golden = (1 + 5**0.5) / 2
    signs = np.array([[-1, 1], [1, 1], [-1, -1], [1, -1]]) * [1, golden]
    flat = np.pad(signs, ((0, 0), (0, 1)))
    points = np.concatenate([flat, np.roll(flat, 1, axis=1), np.roll(flat, 2, axis=1)])
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    near = (distances > 0) & (distances < 2.1)
    triples = [(i, j, k) for i in range(12) for j in range(i) for k in range(j)]
    faces = np.array(
        [t for t in triples if near[t[0], t[1]] and near[t[1], t[2]] and near[t[0], t[2]]]
    )
    normals = np.cross(
        points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]
    )
    inward = (normals * points[faces[:, 0]]).sum(axis=1) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    for _ in range(n_times):
        edges = np.sort(
            np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1
        )
        unique, index = np.unique(edges, axis=0, return_inverse=True)
        a, b, c = len(points) + index.reshape(3, -1)
        points = np.concatenate([points, points[unique].mean(axis=1)])
        corners = [(faces[:, 0], a, c), (faces[:, 1], b, a), (faces[:, 2], c, b), (a, b, c)]
        faces = np.concatenate([np.stack(corner, axis=1) for corner in corners])
    return points / np.linalg.norm(points, axis=1, keepdims=True), faces


def make_bumps(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ellipsoids with bumps."""
    points, faces = icosphere(3)
    places = np.array([[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]]) / 3**0.5
    tops = places + 0.35 * random.normal(size=(n, 4, 3))
    tops /= np.linalg.norm(tops, axis=2, keepdims=True)
    widths = 0.4 * np.exp(0.2 * random.normal(size=(n, 4, 1)))
    heights = 0.3 + 0.1 * random.normal(size=(n, 4))
    squares = 2 - 2 * np.einsum("vc,nbc->nbv", points, tops)
    radii = 1 + np.einsum("nb,nbv->nv", heights, np.exp(-0.5 * squares / widths**2))
    X = radii[..., None] * points * np.exp(0.15 * random.normal(size=(n, 1, 3)))
    return X + 0.005 * random.normal(size=X.shape), faces


FAMILIES = {"arm": make_arm, "bar": make_bar, "bumps": make_bumps}


# -- methods -----------------------------------------------------------------------


class Linear(PCA):
    """PCA with `reconstruct`."""

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """Project rows."""
        return self.inverse_transform(self.transform(X))


def skae_dense(X: np.ndarray, faces: np.ndarray, k: int, epochs: int, widths: Any) -> Model:
    """The dense kind."""
    return AutoencoderTransformer(
        k, hidden_layer_sizes=widths, stochastic_depth=0.0, max_epochs=epochs, random_state=0
    )


def skae_mesh(X: np.ndarray, faces: np.ndarray, k: int, epochs: int) -> Model:
    """The kind of meshes."""
    return MeshAutoencoder(k, faces=faces, max_epochs=epochs, random_state=0)


class Chebyshev(nn.Module):
    """Graph convolution of order 6 on sparse matrices.

    Parameters
    ----------
    laplacian : Tensor of shape (n_nodes, n_nodes)
        Sparse.
    n_in, n_out : int
    """

    def __init__(self, laplacian: Tensor, n_in: int, n_out: int):
        super().__init__()
        self.laplacian, self.linear = laplacian, nn.Linear(6 * n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (n_nodes, n_rows, n_in)."""
        shape = x.shape
        before = x.reshape(len(x), -1)
        last = self.laplacian @ before
        found = [before, last]
        for _ in range(4):
            before, last = last, 2 * (self.laplacian @ last) - before
            found.append(last)
        return self.linear(torch.cat([each.reshape(shape) for each in found], dim=2))


def to_torch(matrix: Any) -> Tensor:
    """Sparse matrix of torch."""
    csr = sparse.csr_array(matrix)
    parts = torch.from_numpy(csr.indptr), torch.from_numpy(csr.indices), torch.from_numpy(csr.data)
    return torch.sparse_csr_tensor(*parts, size=csr.shape, dtype=torch.float32)


def coarsen(graph: Any) -> tuple[Any, Any, Any]:
    """A graph of a quarter of the nodes, and matrices down to it and up from it."""
    centers, nearest = [0], dijkstra(graph, indices=0, unweighted=True)
    while len(centers) < -(-graph.shape[0] // 4):
        centers.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, dijkstra(graph, indices=centers[-1], unweighted=True))
    distances = dijkstra(graph, indices=centers, unweighted=True).T
    three = np.argsort(distances, axis=1)[:, :3]
    weights = 1 / (0.1 + np.take_along_axis(distances, three, axis=1))
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(three)), 3)
    up = sparse.csr_array((weights.ravel(), (rows, three.ravel())), shape=distances.shape)
    down = sparse.csr_array(
        (np.ones(len(centers)), (np.arange(len(centers)), centers)), shape=distances.shape[::-1]
    )
    labels = distances.argmin(axis=1)
    pairs = graph.tocoo()
    coarse = np.zeros((len(centers),) * 2)
    coarse[labels[pairs.row], labels[pairs.col]] = 1
    np.fill_diagonal(coarse, 0)
    return sparse.csr_array(coarse), to_torch(down), to_torch(up)


def rescaled_laplacian(graph: Any) -> Tensor:
    """Normalised Laplacian less the identity."""
    roots = sparse.diags_array(1 / np.sqrt(np.maximum(graph.sum(axis=1), 1)))
    return to_torch(-roots @ graph @ roots)


class TorchAutoencoder:
    """A Chebyshev autoencoder written by hand.

    Parameters
    ----------
    faces : ndarray of shape (n_faces, 3)
    n_vertices, k, epochs : int
    """

    def __init__(self, faces: np.ndarray, n_vertices: int, k: int, epochs: int):
        self.epochs, self.n_vertices = epochs, n_vertices
        pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        pairs = np.concatenate([pairs, pairs[:, ::-1]])
        graph = sparse.csr_array((np.ones(len(pairs)), pairs.T), shape=(n_vertices, n_vertices))
        graph.data[:] = 1
        widths = [3, 16, 16, 16, 32]
        self.down, self.up = [], []
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(0)
            layers: list[Any] = []
            for n_in, n_out in pairwise(widths):
                laplacian = rescaled_laplacian(graph)
                layers.append(
                    [Chebyshev(laplacian, n_in, n_out), Chebyshev(laplacian, n_out, n_in)]
                )
                graph, down, up = coarsen(graph)
                self.down.append(down)
                self.up.append(up)
            self.n_nodes = graph.shape[0]
            self.into = nn.Linear(32 * self.n_nodes, k)
            self.out = nn.Linear(k, 32 * self.n_nodes)
        self.encoders = nn.ModuleList(pair[0] for pair in layers)
        self.decoders = nn.ModuleList(pair[1] for pair in layers[::-1])

    def restore(self, x: Tensor) -> Tensor:
        """Encode and decode (n_rows, n_vertices, 3)."""
        n, x = len(x), x.transpose(0, 1)
        for layer, down in zip(self.encoders, self.down, strict=True):
            h = nn.functional.elu(layer(x))
            x = (down @ h.reshape(len(h), -1)).reshape(-1, n, h.shape[2])
        z = self.into(x.transpose(0, 1).reshape(n, -1))
        x = self.out(z).reshape(n, self.n_nodes, 32).transpose(0, 1)
        for i, (layer, up) in enumerate(zip(self.decoders, self.up[::-1], strict=True)):
            x = nn.functional.elu(x) if i else x
            x = layer((up @ x.reshape(len(x), -1)).reshape(-1, n, x.shape[2]))
        return x.transpose(0, 1)

    def fit(self, X: np.ndarray) -> Self:
        """Train."""
        rows = torch.from_numpy(X).reshape(len(X), -1, 3)
        self.mean = rows.mean(dim=0)
        self.scale = (rows - self.mean).std()
        rows = (rows - self.mean) / self.scale
        modules = nn.ModuleList([self.encoders, self.decoders, self.into, self.out])
        optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(self.epochs):
            for index in torch.randperm(len(rows), generator=generator).split(32):
                loss = (self.restore(rows[index]) - rows[index]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return self

    @torch.no_grad()
    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """Encode and decode rows."""
        rows = (torch.from_numpy(X).reshape(len(X), -1, 3) - self.mean) / self.scale
        restored = torch.cat([self.restore(part) for part in rows.split(200)])
        return (restored * self.scale + self.mean).reshape(len(X), -1).numpy()


def torch_chebyshev(X: np.ndarray, faces: np.ndarray, k: int, epochs: int) -> Model:
    """The autoencoder written by hand."""
    return TorchAutoencoder(faces, X.shape[1] // 3, k, epochs)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int, int], Model]] = {
    "PCA": lambda X, faces, k, epochs: Linear(k),
    "skae, dense, (128,)": partial(skae_dense, widths="auto"),
    "skae, dense, (512, 256)": partial(skae_dense, widths=(512, 256)),
    "torch, Chebyshev": torch_chebyshev,
    "skae, mesh": skae_mesh,
}


# -- measuring ---------------------------------------------------------------------


def seconds_of(make: Callable[[int], Model], X: np.ndarray, n_epochs: int) -> float:
    """Processor time of a fit."""
    start = time.process_time()
    make(n_epochs).fit(X)
    return time.process_time() - start


def plan_epochs(make: Callable[[int], Model], X: np.ndarray, seconds: float) -> int:
    """Time short fits and return the number of epochs that the budget holds."""
    seconds_of(make, X[:600], 1)  # first calls are slower
    once, more = seconds_of(make, X, 1), seconds_of(make, X, 4)
    epoch = max((more - once) / 3, 1e-3)
    return max(1, int((MARGIN * seconds - (once - epoch)) / epoch))


def errors_of(restored: np.ndarray, X: np.ndarray) -> tuple[float, float]:
    """Mean distance of vertices, and mean squared distance."""
    squares = np.square(restored - X, dtype=np.float64).reshape(len(X), -1, 3).sum(axis=2)
    return float(np.sqrt(squares).mean()), float(squares.mean())


def compare(args: argparse.Namespace, family: str, k: int) -> list[Record]:
    """Errors of all methods on one family of shapes."""
    X, faces = FAMILIES[family](args.rows + TESTED, np.random.default_rng(0))
    rows = X.reshape(len(X), -1).astype(np.float32)
    train, test = rows[: args.rows], rows[args.rows :]
    print(f"\n{family}, {len(train):,} meshes of {X.shape[1]} vertices, {k} components")
    print(f"{'':26s}{'epochs':>8s}{'seconds':>9s}{'vertex error':>14s}{'/ PCA':>8s}{'squared':>9s}")
    records: list[Record] = []
    for name in args.methods:
        make = partial(METHODS[name], train, faces, k)
        n_epochs = 0 if name == "PCA" else plan_epochs(make, train, args.seconds)
        start = time.process_time()
        model = make(n_epochs).fit(train)
        seconds = time.process_time() - start
        error, square = errors_of(model.reconstruct(test), test)
        first = records[0] if records else {"vertex_error": error, "squared_error": square}
        record = {"family": family, "n_components": k, "method": name, "epochs": n_epochs}
        record |= {"seconds": seconds, "vertex_error": error, "squared_error": square}
        records.append(record)
        ratios = error / first["vertex_error"], square / first["squared_error"]
        print(
            f"{name:26s}{n_epochs:8d}{seconds:9.1f}{error:14.5f}{ratios[0]:8.3f}{ratios[1]:9.3f}",
            flush=True,
        )
    return records


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--components", nargs="+", type=int, default=[4, 8, 16])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rows", type=int, default=2000, help="training meshes")
    parser.add_argument("--seconds", type=float, default=40, help="for each fit")
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Sparse")  # of torch: that its matrices are new
    machine = describe_machine(1)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n", flush=True)
    records = [r for name in args.families for k in args.components for r in compare(args, name, k)]
    if args.output:
        args.output.write_text(json.dumps({**machine, "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
