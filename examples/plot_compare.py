"""
Compare PCA and an autoencoder
==============================

Does PCA suffice? ``skae.compare`` cross-validates PCA and an autoencoder with the same folds, and
says whether the difference is statistically significant and large enough to matter. There are four
tables. One is sampled from a linear model, for which PCA is optimal. One is a rolled sheet in space
(the swiss roll), for which it is not. breast_cancer and digits are real.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer, load_digits, make_swiss_roll

import skae

# %%
# Tables
# ------
# The linear model has three factors, ten columns and noise. Only 600 digits are used, to save
# time. They are not scaled, because their columns have the same unit.


def linear_table(n_rows: int = 500) -> np.ndarray:
    """Sample rows from a linear Gaussian model."""
    random = np.random.default_rng(0)
    loadings = random.normal(size=(3, 10))
    return random.normal(size=(n_rows, 3)) @ loadings + random.normal(size=(n_rows, 10))


digits, classes = load_digits(return_X_y=True)
TABLES = {
    "linear model": {"X": linear_table(), "n_components": [1, 3, 5]},
    "rolled sheet": {"X": make_swiss_roll(500, random_state=0)[0], "n_components": [1, 2]},
    "breast_cancer": dict(
        zip("Xy", load_breast_cancer(return_X_y=True), strict=True), n_components=[2, 8]
    ),
    "digits": {
        "X": digits[:600],
        "y": classes[:600],
        "n_components": [2, 8],
        "preprocessor": None,
    },
}

# %%
# Verdicts
# --------


def compare_all(n_jobs: int | None = None) -> dict[str, skae.Comparison]:
    """Compare on each table, and print the verdicts."""
    found = {}
    for name, table in TABLES.items():
        found[name] = skae.compare(**table, n_jobs=n_jobs)
        print(f"{name}: {found[name].verdict}\n")
    return found


# %%
# Curves
# ------
# Bars are one standard deviation over the folds. Folds differ in the same way for both estimators.
# The verdict is based on the differences within folds.


def draw(found: dict[str, skae.Comparison]) -> Figure:
    """Plot explained variance against the number of components, a panel for each table."""
    figure, axes = plt.subplots(1, len(found), figsize=(12, 4), layout="constrained")
    for axis, (name, comparison) in zip(axes, found.items(), strict=True):
        comparison.plot(axis)
        answer = "PCA suffices" if comparison.pca_suffices else "the autoencoder is better"
        axis.set_title(f"{name}\n{answer}", fontsize=11)
        axis.set_ylabel("" if axis is not axes[0] else "held-out variance explained")
        axis.get_legend().remove()
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def main() -> None:
    """Print the verdicts and save the figure."""
    parser = argparse.ArgumentParser(description="Compare PCA and an autoencoder on four tables.")
    parser.add_argument("--output", default="compare.png", help="file of the figure")
    parser.add_argument("--n-jobs", type=int, help="fits at once")
    args = parser.parse_args()
    draw(compare_all(args.n_jobs)).savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
