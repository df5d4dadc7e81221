"""
=====================================
A dictionary of digits
=====================================

A sparse autoencoder of handwritten digits learns a dictionary of atoms, each an image. A code says
which few atoms a digit is composed of.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import SparseAutoencoder

# %%
# Eight of 144 units may be active in each image of 64 pixels.

X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X, random_state=0)
autoencoder = SparseAutoencoder(144, n_active=8, max_epochs=60, random_state=0).fit(X_train)
print(f"explained of the test images: {autoencoder.score(X_test):.3f}")
print(f"units that are never active: {len(autoencoder.dead_components_)}")


def show(ax, image, title="", limit=None):
    """Show one image: red adds ink and blue removes it; without a limit, in grey."""
    if limit is None:
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
    else:
        ax.imshow(image.reshape(8, 8), cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_title(title, fontsize=8)
    ax.set_axis_off()


# %%
# The dictionary, sorted by the variance of the codes.

figure, axes = plt.subplots(6, 12, figsize=(8, 4.4), layout="constrained")
figure.suptitle("The first 72 atoms")
for ax, atom in zip(axes.flat, autoencoder.components_, strict=False):
    show(ax, atom, limit=0.6)

# %%
# One image, its atoms, and their sum.

row = X_test[3:4]
code = autoencoder.transform(row)[0]
active = np.argsort(-np.abs(code))[: np.count_nonzero(code)]
figure, axes = plt.subplots(1, len(active) + 2, figsize=(9, 1.8), layout="constrained")
figure.suptitle("A digit as a sum of atoms")
show(axes[0], row[0], "image")
for ax, j in zip(axes[1:-1], active, strict=True):
    show(ax, autoencoder.components_[j], f"{code[j]:.0f} ×", limit=0.6)
show(axes[-1], autoencoder.reconstruct(row)[0], "mean + sum")

# %%
# Fewer active units explain less variance.

n_actives = [1, 2, 4, 8, 16, 32]
scores = {
    "topk": [
        SparseAutoencoder(144, n_active=n, max_epochs=30, random_state=0).fit(X_train).score(X_test)
        for n in n_actives
    ],
    "l1": [
        SparseAutoencoder(144, sparsity="l1", n_active=n, max_epochs=30, random_state=0)
        .fit(X_train)
        .score(X_test)
        for n in n_actives
    ],
}
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for (sparsity, values), marker in zip(scores.items(), "os", strict=True):
    ax.plot(n_actives, values, marker=marker, label=sparsity)
ax.set_xscale("log", base=2)
ax.set_xticks(n_actives, n_actives)
ax.set_xlabel("active units of 144")
ax.set_ylabel("explained variance ratio")
ax.set_title("Test digits explained")
ax.legend()

# %%
# As a script, this page saves its figures; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Learn a dictionary of digits.")
    parser.add_argument(
        "--output", default="sparse.png", help="file of the figures; each adds its number"
    )
    output = Path(parser.parse_args().output)
    for number in plt.get_fignums():
        path = output.with_stem(f"{output.stem}_{number}")
        plt.figure(number).savefig(path, dpi=150)
        print(f"figure saved to {path}", file=sys.stderr)
