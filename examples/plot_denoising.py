"""
Denoise digits
==============

A denoising autoencoder learns to reconstruct clean rows from corrupted ones. Here the rows are
digits of 8 × 8 pixels, bundled with scikit-learn. Test digits are corrupted in two ways: by normal
noise of half a standard deviation of each pixel, and by a loss of about a third of the pixels. PCA
with as many components, and the plain autoencoder, are shown for comparison.
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
# Clean and corrupted digits
# --------------------------
# A lost pixel is replaced by its mean over the training digits, as by mean imputation.

X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X, random_state=0)
random = np.random.default_rng(0)
noisy = X_test + 0.5 * X_train.std(axis=0) * random.normal(size=X_test.shape)
lost = np.where(random.random(X_test.shape) < 0.3, X_train.mean(axis=0), X_test)

# %%
# One denoising autoencoder for each noise
# ----------------------------------------
# Each is trained with the noise of its test digits. The training rows themselves are not modified.

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


def reconstructions(name: str) -> dict[str, np.ndarray]:
    """Return test digits: clean, corrupted, and as each method reconstructs them."""
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
# Errors are divided by PCA's: 1 is as good as PCA.


def print_table() -> None:
    """Print errors, mean over test digits, relative to PCA's."""
    print(f"{'relative to PCA':18s}{'corrupted':>12s}{'autoencoder':>14s}{'denoising':>12s}")
    for name in corrupted:
        images = reconstructions(name)
        error = {label: np.square(rows - X_test).sum() for label, rows in images.items()}
        ratios = [
            error[label] / error["PCA"] for label in ("corrupted", "autoencoder", "denoising")
        ]
        print(f"{name:18s}{ratios[0]:12.2f}{ratios[1]:14.2f}{ratios[2]:12.2f}")


# %%
# Images
# ------


def draw(n_digits: int = 8) -> Figure:
    """Show some test digits: a row for each method, a block for each noise."""
    figure, blocks = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, name in zip(blocks, corrupted, strict=True):
        images = reconstructions(name)
        shown = [np.hstack(rows[:n_digits].reshape(-1, 8, 8)) for rows in images.values()]
        axis.imshow(np.vstack(shown), cmap="gray_r", vmin=0, vmax=16)
        axis.set_title(name)
        axis.set_yticks(4 + 8 * np.arange(len(images)), images)
        axis.set_xticks([])
        axis.tick_params(length=0)
        for edge in 8 * np.arange(1, len(images)) - 0.5:
            axis.axhline(edge, color="white", linewidth=3)
        axis.spines[:].set_visible(False)
    figure.suptitle(f"Digits reconstructed from {N_COMPONENTS} components")
    return figure


def main() -> None:
    """Print the table and save the figure."""
    parser = argparse.ArgumentParser(description="Denoise digits.")
    parser.add_argument("--output", default="denoising.png", help="file of the figure")
    args = parser.parse_args()
    print_table()
    draw().savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
