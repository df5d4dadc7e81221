"""
Codes that fill a square, or any shape you choose
=================================================

An adversarial autoencoder pushes its codes towards a prior that you choose. With the uniform prior,
codes of digits fill a square evenly, so every point of it decodes to a digit: the square is a map
of digits, and random points in it are new digits.
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

from skae import AdversarialAutoencoder

# %%
# Three priors
# ------------
# The codes are those of digits that were not trained on. "gaussian_mixture" is fitted to PCA's
# codes, so groups stay groups.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=600, random_state=0)
PRIORS = "standard_normal", "uniform", "gaussian_mixture"
fits = {
    prior: AdversarialAutoencoder(n_components=2, prior=prior, random_state=0).fit(X_train)
    for prior in PRIORS
}
pca = PCA(n_components=2).fit(X_train)


def draw_codes() -> Figure:
    """Show codes of test digits under each prior, and those of PCA."""
    figure, axes = plt.subplots(1, 4, figsize=(10, 3), layout="constrained")
    every = {"PCA": pca.transform(X_test)}
    every |= {f"prior: {name}": fit.transform(X_test) for name, fit in fits.items()}
    for axis, (title, codes) in zip(axes, every.items(), strict=True):
        points = axis.scatter(*codes.T, c=y_test, cmap="tab10", vmin=-0.5, vmax=9.5, s=8)
        axis.set_title(title)
        axis.set_box_aspect(1)
    figure.colorbar(points, ax=axes, ticks=range(10), label="digit")
    return figure


# %%
# Every point of the square is a digit
# ------------------------------------
# On the left a grid of codes, from corner to corner, decoded; on the right random codes, which are
# samples of the prior. No density was fitted.

SIDE = 12


def draw_square() -> Figure:
    """Show a grid of decoded codes, and as many samples."""
    uniform = fits["uniform"]
    ticks = np.linspace(-0.95, 0.95, SIDE)
    grid = np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1).reshape(-1, 2)
    drawn = uniform.sample(SIDE**2, random_state=0, observation_noise=False)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    titles = "codes on a grid, decoded", "samples"
    for axis, title, rows in zip(
        axes, titles, (uniform.inverse_transform(grid), drawn), strict=True
    ):
        images = np.pad(rows.reshape(SIDE, SIDE, 8, 8), [(0, 0), (0, 0), (1, 1), (1, 1)])
        picture = images.transpose(0, 2, 1, 3).reshape(10 * SIDE, 10 * SIDE)
        axis.imshow(picture, cmap="gray_r", vmin=0, vmax=16)
        axis.set_title(title)
        axis.set_axis_off()
    return figure


# %%
# Rows are still restored better than by PCA
# ------------------------------------------
# The distance is that of Kolmogorov and Smirnov: the largest difference between the distribution of
# a component of the training codes and that of the prior.


def print_table() -> None:
    """Print errors of test digits, and distances from the prior."""
    lost = np.square(X_test - pca.inverse_transform(pca.transform(X_test))).sum()
    print("prior             error over PCA's   largest distance of a component")
    for name, fit in fits.items():
        ratio = fit.reconstruction_error(X_test).sum() / lost
        print(f"{name:18s}{ratio:.2f}               {fit.prior_distances_.max():.2f}")


def main() -> None:
    """Print the table and save the figures."""
    parser = argparse.ArgumentParser(description="Choose the distribution of codes.")
    parser.add_argument("--output", default="adversarial.png", help="file of the figure")
    args = parser.parse_args()
    print_table()
    figures = {args.output.replace(".png", "_codes.png"): draw_codes(), args.output: draw_square()}
    for path, figure in figures.items():
        figure.savefig(path, dpi=150)
        print(f"figure saved to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
