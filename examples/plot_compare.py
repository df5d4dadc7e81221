"""
Compare PCA and an autoencoder
==============================

Does PCA suffice? ``skae.compare`` cross-validates PCA and an autoencoder with the same folds, and
says whether the difference is statistically significant and large enough to matter. With a target,
it also says what a classifier gains or loses behind the codes. There are four tables. One is
sampled from a linear model, for which PCA is optimal. One is a rolled sheet in space (the swiss
roll), for which it is not. breast_cancer and digits are real.
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
# The verdict is based on the differences within folds. The last panels show the accuracy of a
# logistic regression on the codes. Its horizontal lines are the same classifier on all columns,
# and the most frequent class.

MEASURES = {"explained_variance": "held-out variance explained", "downstream_score": "accuracy"}


def answer(comparison: skae.Comparison, measure: str) -> str:
    """Say whether an estimator that is not fitted with the target is better than PCA."""
    rows = comparison.differences.query("reference == 'PCA' and not uses_target")
    outcomes = set(rows["outcome"][rows["measure"] == measure])
    return "an autoencoder is better" if "better" in outcomes else "PCA suffices"


def draw(found: dict[str, skae.Comparison]) -> Figure:
    """Plot each measure of each table against the number of components."""
    panels = [(m, name) for m in MEASURES for name in found if m in found[name].labels]
    figure, axes = plt.subplots(2, 3, figsize=(12, 8), layout="constrained")
    names = {}
    for axis, (measure, name) in zip(axes.flat, panels, strict=True):
        found[name].plot(axis, measure=measure)
        axis.set_title(f"{name}\n{answer(found[name], measure)}", fontsize=11)
        axis.set_ylabel(MEASURES[measure])
        axis.get_legend().remove()
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            names.setdefault(label, handle)
    figure.legend(names.values(), names, loc="outside lower center", ncols=4, frameon=False)
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
