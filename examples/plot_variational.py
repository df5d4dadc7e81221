"""
Explore a variational autoencoder
=================================

A variational autoencoder is trained so that the distribution of all codes is close to a standard
normal distribution. So the latent space can be shown as a map, rows can be interpolated, and a row
has variations.

The rows are digits of 8 × 8 pixels, bundled with scikit-learn. The models are trained on three
quarters of them. All given digits in the figures are from the other quarter.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer, VAETransformer

N_COMPONENTS = 10
SIDE = 10  # of a digit with its margins: 8 pixels, and an empty one at each end
GREY: dict[str, Any] = {"cmap": "gray_r", "vmin": 0, "vmax": 16}

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# The plane of two components
# ---------------------------
# With two components the whole latent space fits in one figure. Quantiles of the standard normal
# distribution on both axes divide it into cells of equal probability. The code in the middle of
# each cell is decoded. The second panel has the posterior means of test digits on the same axes.
# A decoded digit looks like the digits whose means lie there. The plane is not filled evenly:
# digits of a class form clusters, and codes between clusters decode to blends.

plane = VAETransformer(2, random_state=0).fit(X_train)


def tile(images: np.ndarray) -> np.ndarray:
    """Make one image of rows and columns of digits, of shape (n_rows, n_columns, 64)."""
    n_rows, n_columns, _ = images.shape
    grid = np.full((n_rows, SIDE, n_columns, SIDE), np.nan)
    grid[:, 1:-1, :, 1:-1] = images.reshape(n_rows, n_columns, 8, 8).transpose(0, 2, 1, 3)
    return grid.reshape(SIDE * n_rows, SIDE * n_columns)


def middle(i: float) -> float:
    """Return the middle of the i-th digit of such an image, in pixels."""
    return SIDE * (i + 0.5) - 0.5


def label_quantiles(axis: Axes) -> None:
    """Label the axes with codes. Positions are probabilities of the standard normal."""
    codes = np.arange(-2, 3)
    axis.set_xticks(norm.cdf(codes), codes)
    axis.set_yticks(norm.cdf(codes), codes)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.set_xlabel("first component")
    axis.set_ylabel("second component")


def draw_plane(n_steps: int = 15) -> Figure:
    """Plot the decoded plane and the posterior means of test digits."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.6), layout="constrained")
    quantiles = norm.ppf((np.arange(n_steps) + 0.5) / n_steps)
    first, second = np.meshgrid(quantiles, quantiles[::-1])
    codes = np.column_stack([first.ravel(), second.ravel()])
    decoded = plane.inverse_transform(codes).reshape(n_steps, n_steps, 64)
    axes[0].imshow(tile(decoded), extent=(0, 1, 0, 1), **GREY)
    axes[0].set_title("codes, decoded")
    means = norm.cdf(plane.transform(X_test))
    for label in range(10):
        of_label = means[y_test == label]
        axes[1].scatter(*of_label.T, marker=f"${label}$", s=30, linewidths=0.1, clip_on=False)
    axes[1].set_title("posterior means of test digits, drawn as their labels")
    for axis in axes:
        label_quantiles(axis)
    figure.suptitle("The plane of a variational autoencoder with two components")
    return figure


figure_plane = draw_plane()

# %%
# From one digit to another
# -------------------------
# ``interpolate`` interpolates linearly between the codes of two rows. In the plain autoencoder,
# codes in between are not constrained by training. In the variational one, they lie where the
# prior has high density. The first line of each block interpolates the pixels, without a model.
# On images this small the three differ little. The first and last digit of a path are
# reconstructions; the given digits are outside the lines.

plain = AutoencoderTransformer(N_COMPONENTS, random_state=0).fit(X_train)
vae = VAETransformer(N_COMPONENTS, random_state=0).fit(X_train)
PAIRS = [(0, 6), (1, 7), (3, 9), (4, 8), (5, 2)]


def first_of(labels: list[int]) -> np.ndarray:
    """Return the first test digit of each label."""
    return np.stack([X_test[y_test == label][0] for label in labels])


def show(axis: Axes, images: np.ndarray, names: list[str]) -> None:
    """Show rows of digits with a name before each row."""
    axis.imshow(tile(images), **GREY)
    axis.set_yticks([middle(i) for i in range(len(names))], names)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def draw_paths(n_steps: int = 10) -> Figure:
    """Show interpolations between the digits of each pair, with the given digits at both ends."""
    start, end = (first_of(list(labels)) for labels in zip(*PAIRS, strict=True))
    shares = np.linspace(0, 1, n_steps)[:, None]
    paths = {
        "pixels": start[:, None] * (1 - shares) + end[:, None] * shares,
        "autoencoder": plain.interpolate(start, end, n_steps),
        "variational": vae.interpolate(start, end, n_steps),
    }
    figure, blocks = plt.subplots(len(PAIRS), 1, figsize=(8, 11), layout="constrained")
    for i, axis in enumerate(blocks):
        shown = np.full((len(paths), n_steps + 2, 64), np.nan)
        shown[:, 1:-1] = [path[i] for path in paths.values()]
        shown[1, 0], shown[1, -1] = start[i], end[i]
        show(axis, shown, list(paths))
        for edge in (middle(0.5), middle(n_steps + 0.5)):
            axis.axvline(edge, color="tab:blue", linewidth=1)
    figure.suptitle(f"Between two test digits, {N_COMPONENTS} components")
    return figure


figure_paths = draw_paths()

# %%
# Variations of a digit
# ---------------------
# The posterior of a row is a normal distribution of codes that may have generated it.
# ``sample_around`` draws codes from it and decodes them. The variations of one digit differ
# little, because ten components determine it nearly completely. The last column shows where they
# differ: the standard deviation of each pixel, up to 2 of the 16 shades of grey.


def draw_variations(n_samples: int = 8) -> Figure:
    """Show each given digit, its reconstruction, variations and their standard deviation."""
    given = first_of(list(range(10)))
    around = vae.sample_around(given, 200, random_state=0)
    images = [given, vae.reconstruct(given), *around[:, :n_samples].swapaxes(0, 1)]
    spread = 16 * around.std(axis=1) / 2
    figure, axis = plt.subplots(figsize=(8, 7.6), layout="constrained")
    show(axis, np.stack([*images, spread], axis=1), [str(label) for label in range(10)])
    columns = {
        "given": 0,
        "decoded": 1,
        "variations": 1.5 + n_samples / 2,
        "std": len(images),
    }
    axis.set_xticks([middle(i) for i in columns.values()], columns)
    for i in (0.5, 1.5, len(images) - 0.5):
        axis.axvline(middle(i), color="tab:blue", linewidth=1)
    axis.set_title(f"Variations of test digits, {N_COMPONENTS} components")
    return figure


figure_variations = draw_variations()

# %%
# As a script, this page saves its figures; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Explore a variational autoencoder.")
    parser.add_argument(
        "--output", default="variational.png", help="file of the figures; each adds its name"
    )
    output = Path(parser.parse_args().output)
    figures = {"plane": figure_plane, "paths": figure_paths, "variations": figure_variations}
    for name, figure in figures.items():
        path = output.with_stem(f"{output.stem}_{name}")
        figure.savefig(path, dpi=150)
        print(f"figure saved to {path}", file=sys.stderr)
