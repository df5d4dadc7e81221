"""
Restore noisy digits
====================

A denoising autoencoder is trained on corrupted rows and asked for the clean ones. Here the
rows are 8 × 8 digits, bundled with scikit-learn, and two things happen to digits that nobody
trained on: normal noise of half a standard deviation of each pixel, and a third of the pixels
lost. PCA with as many components, and the plain autoencoder, stand beside it.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer, DenoisingAutoencoder

N_COMPONENTS = 20

# %%
# Clean digits, and what happens to some of them
# ----------------------------------------------
# A lost pixel shows its mean over the training digits, as after an imputation.

X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X, random_state=0)
random = np.random.default_rng(0)
noisy = X_test + 0.5 * X_train.std(axis=0) * random.normal(size=X_test.shape)
lost = np.where(random.random(X_test.shape) < 0.3, X_train.mean(axis=0), X_test)

# %%
# One denoiser for each kind of noise
# -----------------------------------
# The noise it is trained on is the noise it will meet; rows that are passed are left alone.

pca = PCA(N_COMPONENTS).fit(X_train)
plain = AutoencoderTransformer(N_COMPONENTS, random_state=0).fit(X_train)
denoisers = {
    "noise": DenoisingAutoencoder(
        N_COMPONENTS, noise="gaussian", noise_level=0.5, random_state=0
    ).fit(X_train),
    "lost pixels": DenoisingAutoencoder(
        N_COMPONENTS, noise="masking", noise_level=0.3, random_state=0
    ).fit(X_train),
}
corrupted = {"noise": noisy, "lost pixels": lost}


def restored(name: str) -> dict[str, np.ndarray]:
    """Test digits: clean, corrupted, and as each method restores them."""
    rows = corrupted[name]
    return {
        "clean": X_test,
        "corrupted": rows,
        "PCA": pca.inverse_transform(pca.transform(rows)),
        "autoencoder": plain.reconstruct(rows),
        "denoising": denoisers[name].denoise(rows),
    }


# %%
# Squared error against the clean digits
# --------------------------------------
# Relative to PCA's, so that 1 is as good as PCA.


def print_table() -> None:
    """Print errors, mean over test digits, relative to PCA's."""
    print(f"{'relative to PCA':18s}{'corrupted':>12s}{'autoencoder':>14s}{'denoising':>12s}")
    for name in corrupted:
        images = restored(name)
        error = {label: np.square(rows - X_test).sum() for label, rows in images.items()}
        ratios = [
            error[label] / error["PCA"] for label in ("corrupted", "autoencoder", "denoising")
        ]
        print(f"{name:18s}{ratios[0]:12.2f}{ratios[1]:14.2f}{ratios[2]:12.2f}")


# %%
# Look
# ----


def draw(n_digits: int = 8) -> Figure:
    """Draw some test digits: a row for each stage, a block for each noise."""
    figure, blocks = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, name in zip(blocks, corrupted, strict=True):
        images = restored(name)
        shown = [np.hstack(rows[:n_digits].reshape(-1, 8, 8)) for rows in images.values()]
        axis.imshow(np.vstack(shown), cmap="gray_r", vmin=0, vmax=16)
        axis.set_title(name)
        axis.set_yticks(4 + 8 * np.arange(len(images)), images)
        axis.set_xticks([])
        axis.tick_params(length=0)
        for edge in 8 * np.arange(1, len(images)) - 0.5:
            axis.axhline(edge, color="white", linewidth=3)
        axis.spines[:].set_visible(False)
    figure.suptitle(f"Digits restored from {N_COMPONENTS} components")
    return figure


def main() -> None:
    """Print the table and save the figure."""
    parser = argparse.ArgumentParser(description="Restore noisy digits.")
    parser.add_argument("--output", default="denoising.png", help="file of the figure")
    args = parser.parse_args()
    print_table()
    draw().savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
