"""
Sample new rows
===============

Every estimator of this package samples new rows that resemble the training rows. The autoencoder
fits a mixture of normal distributions to its codes, decodes codes drawn from it, and adds noise
with the distribution of its residuals. It also computes the log-likelihood of rows. It is compared
with probabilistic PCA: a normal distribution whose covariance is ``PCA.get_covariance()``.

There are three examples: points along an arc, measurements of tumours, and digits.
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
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer

REAL, AUTOENCODER, PROBABILISTIC_PCA = "#555555", "#0072B2", "#D55E00"  # as in Okabe and Ito
DOTS: dict[str, Any] = {"s": 5, "alpha": 0.5, "linewidths": 0}


def sample_pca(pca: PCA, n_samples: int) -> np.ndarray:
    """Sample from probabilistic PCA. scikit-learn's PCA has no method for it."""
    random = np.random.default_rng(0)
    return random.multivariate_normal(pca.mean_, pca.get_covariance(), n_samples)


# %%
# Points along an arc
# -------------------
# One curved component is enough for an arc. The distance from the arc is noise, which is sampled
# unless ``observation_noise=False``. Without it, samples lie on the decoder's curve. Samples are
# not perfect: the noise has the same distribution along the whole curve, whatever its direction,
# and the curve continues a little beyond the rows. Probabilistic PCA has a straight component,
# and its density is one normal distribution.


def make_arc(n_samples: int, random: np.random.Generator) -> np.ndarray:
    """Sample rows from two thirds of a circle, with noise."""
    angles = np.pi * random.uniform(-1 / 6, 7 / 6, n_samples)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    return circle + 0.07 * random.normal(size=circle.shape)


random = np.random.default_rng(0)
arc, new_arc = make_arc(1000, random), make_arc(1000, random)
arc_autoencoder = AutoencoderTransformer(1, random_state=0).fit(arc)
arc_pca = PCA(1).fit(arc)


def draw_density(axis: Axes, model: Any, colours: str) -> None:
    """Plot the density of a fitted model on the shown part of the plane."""
    columns, rows = np.linspace(*axis.get_xlim(), 150), np.linspace(*axis.get_ylim(), 150)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1)
    density = np.exp(model.score_samples(grid.reshape(-1, 2))).reshape(grid.shape[:2])
    extent = (*axis.get_xlim(), *axis.get_ylim())
    axis.imshow(density, origin="lower", extent=extent, cmap=colours, vmin=0)


def draw_arc() -> Figure:
    """Plot real and sampled rows, and below them densities."""
    figure, axes = plt.subplots(
        2, 3, figsize=(10, 6.4), layout="constrained", sharex=True, sharey=True
    )
    axes[0, 0].set(xlim=(-2.1, 2.1), ylim=(-1.2, 2))
    n = len(arc)
    samples = {
        "real rows": (arc, REAL),
        "autoencoder's samples": (arc_autoencoder.sample(n, random_state=0), AUTOENCODER),
        "probabilistic PCA's samples": (sample_pca(arc_pca, n), PROBABILISTIC_PCA),
        "autoencoder's samples, no noise": (
            arc_autoencoder.sample(n, random_state=0, observation_noise=False),
            AUTOENCODER,
        ),
    }
    for axis, (title, (rows, colour)) in zip(axes.flat, samples.items(), strict=False):
        axis.scatter(*rows.T, color=colour, **DOTS)
        axis.set_title(title)
    for axis, title, model, colours in (
        (axes[1, 1], "autoencoder's density", arc_autoencoder, "Blues"),
        (axes[1, 2], "probabilistic PCA's density", arc_pca, "Oranges"),
    ):
        draw_density(axis, model, colours)
        score = model.score_samples(new_arc).mean()
        axis.set_title(f"{title}\n{score:.2f} nats a new row".replace("-", "−"))
    for axis in axes.flat:
        axis.set_aspect("equal")
        axis.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    return figure


figure_arc = draw_arc()

# %%
# Measurements of tumours
# -----------------------
# In the breast cancer table, 30 features, pairs of features lie along curves and inside wedges.
# The features are standardised. Both models have ten components and are fitted to all 569 rows.
# The autoencoder's samples bend and widen as the rows do, though not as sharply. Dotted lines
# show where a feature was zero before it was standardised. No tumour can lie beyond them, but
# samples of both models do, because neither model knows that a concavity cannot be negative.

cancer = load_breast_cancer()
scaler = StandardScaler().fit(cancer.data)
tumours, zeros = scaler.transform(cancer.data), -scaler.mean_ / scaler.scale_
tumours_autoencoder = AutoencoderTransformer(10, random_state=0).fit(tumours)
tumours_pca = PCA(10).fit(tumours)
PAIRS = [
    ("mean radius", "mean area"),
    ("mean concavity", "worst concavity"),
    ("mean radius", "mean fractal dimension"),
]


def draw_tumours() -> Figure:
    """Plot pairs of features of real and sampled rows, a column for each pair."""
    n = len(tumours)
    samples = {
        "real": (tumours, REAL),
        "autoencoder": (tumours_autoencoder.sample(n, random_state=0), AUTOENCODER),
        "probabilistic PCA": (sample_pca(tumours_pca, n), PROBABILISTIC_PCA),
    }
    figure, axes = plt.subplots(
        3, 3, figsize=(9, 8.4), layout="constrained", sharex="row", sharey="row"
    )
    names = list(cancer.feature_names)
    for axis, title in zip(axes[0], samples, strict=True):
        axis.set_title(title)
    for row, (first, second) in zip(axes, PAIRS, strict=True):
        i, j = names.index(first), names.index(second)
        row[0].set_ylabel(second)
        for axis, (rows, colour) in zip(row, samples.values(), strict=True):
            axis.scatter(rows[:, i], rows[:, j], color=colour, **DOTS)
            axis.set_xlabel(first)
        row[0].set(xlim=row[0].get_xlim(), ylim=row[0].get_ylim())  # whatever lines are added
        for axis in row:
            axis.axvline(zeros[i], color="black", linestyle=":", linewidth=1)
            axis.axhline(zeros[j], color="black", linestyle=":", linewidth=1)
    return figure


figure_tumours = draw_tumours()

# %%
# Digits
# ------
# Here ``VAETransformer`` is compared too. It decodes codes from the standard normal distribution
# that it was trained with, and adds noise with one variance. Noise hides the quality of the
# decoded digits, so samples of both are also shown without noise.
#
# Pixels are integers from 0 to 16, but samples of all models are continuous, so they are easily
# recognised. Rounding them and clipping them to 0 and 16 removes this difference. The table says
# how many samples a random forest still distinguishes from real digits. Log-likelihoods of new
# digits compare the models with each other; that of the variational autoencoder is a lower bound.

digits, _ = load_digits(return_X_y=True)
digits, new_digits = train_test_split(digits, random_state=0)
digits_pca = PCA(20).fit(digits)
digits_autoencoder = AutoencoderTransformer(20, random_state=0).fit(digits)
digits_vae = VAETransformer(20, random_state=0).fit(digits)


def sample_digits(n_samples: int) -> dict[str, np.ndarray]:
    """Sample new digits from each model, with noise."""
    return {
        "probabilistic PCA": sample_pca(digits_pca, n_samples),
        "autoencoder": digits_autoencoder.sample(n_samples, random_state=0),
        "variational": digits_vae.sample(n_samples, random_state=0),
    }


def told_apart(rows: np.ndarray) -> float:
    """Return a random forest's accuracy in distinguishing rows from new digits; chance is 0.5."""
    both = np.concatenate([new_digits, rows])
    is_real = np.arange(len(both)) < len(new_digits)
    forest = RandomForestClassifier(100, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return cross_val_score(forest, both, is_real, cv=folds).mean()


def print_table() -> None:
    """Print log-likelihoods of new digits, and how well samples are distinguished from them."""
    models = (digits_pca, digits_autoencoder, digits_vae)
    samples = sample_digits(len(new_digits))
    print(f"{'':18s}{'log-likelihood':>16s}{'told apart':>12s}{'if rounded':>12s}")
    for model, (name, rows) in zip(models, samples.items(), strict=True):
        rounded = rows.round().clip(0, 16)
        print(
            f"{name:18s}{model.score_samples(new_digits).mean():16.1f}"
            f"{told_apart(rows):12.2f}{told_apart(rounded):12.2f}"
        )


print_table()

# %%
# Figures
# -------


def tile(rows: np.ndarray, n_columns: int) -> np.ndarray:
    """Make one image of digits, with a margin of one pixel around each."""
    grid = np.full((len(rows) // n_columns, 10, n_columns, 10), np.nan)
    grid[:, 1:-1, :, 1:-1] = rows.reshape(-1, n_columns, 8, 8).transpose(0, 2, 1, 3)
    return grid.reshape(10 * grid.shape[0], 10 * n_columns)


def draw_digits(n_columns: int = 12) -> Figure:
    """Show two rows of real digits, of samples, and of samples without noise."""
    n = 2 * n_columns
    with_noise = sample_digits(n)
    images = {
        "real": digits[:n],
        **with_noise,
        "autoencoder,\nno noise": digits_autoencoder.sample(
            n, random_state=0, observation_noise=False
        ),
        "variational,\nno noise": digits_vae.sample(n, random_state=0, observation_noise=False),
    }
    figure, blocks = plt.subplots(len(images), 1, figsize=(7.5, 8.4), layout="constrained")
    for axis, (name, rows) in zip(blocks, images.items(), strict=True):
        axis.imshow(tile(rows, n_columns), cmap="gray_r", vmin=0, vmax=16)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.suptitle("Digits, real and drawn from 20 components")
    return figure


figure_digits = draw_digits()

# %%
# As a script, this page saves its figures; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Draw new rows.")
    parser.add_argument(
        "--output", default="sampling.png", help="file of the figures; each adds its name"
    )
    output = Path(parser.parse_args().output)
    figures = {"arc": figure_arc, "tumours": figure_tumours, "digits": figure_digits}
    for name, figure in figures.items():
        path = output.with_stem(f"{output.stem}_{name}")
        figure.savefig(path, dpi=150)
        print(f"figure saved to {path}", file=sys.stderr)
