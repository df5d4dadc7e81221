"""
A walk along the components of a mesh
=====================================

A chain of four segments bends at three joints, each by an angle of its own, and its segments have
different radii. PCA moves vertices along straight lines, so its shapes shrink where they bend. An
autoencoder of meshes restores them better with as many numbers.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation
from sklearn.decomposition import PCA

from skae import MeshAutoencoder
from skae.displays import MeshDisplay

N_RINGS, N_AROUND = 32, 8
N_COMPONENTS = 3

# %%
# Chains
# ------
# A circle is swept along the chain. Between segments, it turns by the angle of the joint, over a
# few rings. All vertices have a little noise.


def make_chains(n: int, seed: int) -> np.ndarray:
    """Meshes (n, n_vertices, 3) of chains."""
    random = np.random.default_rng(seed)
    joints = np.arange(1, 4) * N_RINGS / 4
    shares = np.exp(-0.5 * np.square((np.arange(N_RINGS)[:, None] - joints) / 1.5))
    turns = (0.7 * random.normal(size=(n, 3))) @ (shares / shares.sum(axis=0)).T
    radii = 0.4 * np.exp(0.1 * random.normal(size=(n, 4)))[:, np.arange(N_RINGS) * 4 // N_RINGS]
    around = 2 * np.pi * np.arange(N_AROUND) / N_AROUND
    circle = np.stack([np.cos(around), np.sin(around), 0 * around], axis=1)
    angles = np.cumsum(turns, axis=1)
    turned = Rotation.from_rotvec(angles.reshape(-1, 1) * [0.0, 1.0, 0.0])
    frames = turned.as_matrix().reshape(n, N_RINGS, 3, 3)
    centers = 0.25 * np.cumsum(frames[..., 2], axis=1)
    rings = centers[:, :, None] + radii[..., None, None] * (circle @ np.swapaxes(frames, 2, 3))
    return rings.reshape(n, -1, 3) + 0.01 * random.normal(size=(n, N_RINGS * N_AROUND, 3))


def make_faces() -> np.ndarray:
    """Triangles of all chains."""
    i, j = (grid.ravel() for grid in np.mgrid[: N_RINGS - 1, :N_AROUND])
    first, second = i * N_AROUND + j, i * N_AROUND + (j + 1) % N_AROUND
    upper = np.stack([first, second + N_AROUND, first + N_AROUND], axis=1)
    return np.concatenate([np.stack([first, second, second + N_AROUND], axis=1), upper])


train, test, faces = make_chains(800, 0), make_chains(200, 1), make_faces()

# %%
# Vertex errors
# -------------
# The mean distance of the vertices of other chains from their reconstructions.


def vertex_error(restored: np.ndarray) -> float:
    """Mean distance of vertices."""
    return float(np.linalg.norm(restored.reshape(test.shape) - test, axis=2).mean())


autoencoder = MeshAutoencoder(N_COMPONENTS, faces=faces, max_epochs=100, random_state=0).fit(train)
pca = PCA(N_COMPONENTS).fit(train.reshape(len(train), -1))
by_pca = pca.inverse_transform(pca.transform(test.reshape(len(test), -1)))
print(f"PCA                {vertex_error(by_pca):.4f}")
print(f"MeshAutoencoder    {vertex_error(autoencoder.reconstruct(test)):.4f}")

# %%
# Reconstructions, and a walk
# ---------------------------
# A walk leads from the 2 % quantile of a component to its 98 % quantile, with the other components
# at their means over chains whose component is similar.


def draw(n_drawn: int = 5) -> Figure:
    """Draw some test meshes above their reconstructions, and a walk along the first component."""
    figure, axes = plt.subplots(2, 1, figsize=(9, 6), height_ratios=[2, 1], layout="constrained")
    options = {"view": (0.0, -90.0)}  # from the side to which no joint turns
    MeshDisplay.from_estimator(autoencoder, test, n_rows=n_drawn, ax=axes[0], **options)
    MeshDisplay.from_estimator(
        autoencoder, test, component=0, n_steps=n_drawn, ax=axes[1], **options
    )
    axes[0].set_title("Test meshes and their reconstructions")
    axes[1].set_title("A walk along the first component")
    return figure


def main() -> None:
    """Save the figure."""
    parser = argparse.ArgumentParser(description="Walk along the components of a mesh.")
    parser.add_argument("--output", default="mesh_walk.png", help="file of the figure")
    args = parser.parse_args()
    draw().savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
