"""
Compress a table and look at it
===============================

Thirty measurements of each tumour are compressed to two numbers, which can be drawn. The figures
show what to look at then: the plane of the two numbers, how much of each measurement they hold, and
which rows they hold badly. PCA with two components stands beside it.

The table is scikit-learn's breast_cancer. All figures are of a quarter of the rows that no fit has
seen.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_score

# %%
# Two numbers for each row
# ------------------------
# Columns have different units, so they are standardised first.

table = load_breast_cancer()
names = [str(name) for name in table.feature_names]
X_train, X_test, y_train, y_test = train_test_split(
    table.data, table.target, random_state=0, stratify=table.target
)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

models = {
    "PCA": PCA(2).fit(X_train),
    "autoencoder": AutoencoderTransformer(2, random_state=0).fit(X_train),
}
codes = {name: model.transform(X_test) for name, model in models.items()}

# %%
# How much is kept
# ----------------
# The explained variance is the share of the variance of new rows that comes back from two numbers.
# The accuracy is that of a logistic regression that reads the two numbers. Without the target,
# codes that keep more need not help a linear model: compare both columns.


def accuracy(model: AutoencoderTransformer | PCA) -> float:
    """Return the accuracy of a logistic regression on the codes of new rows."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    classifier.fit(model.transform(X_train), y_train)
    return classifier.score(model.transform(X_test), y_test)


def print_table() -> None:
    """Print both scores of both models."""
    print(f"{'':14s}explained variance   accuracy")
    for name, model in models.items():
        explained = reconstruction_score(model, X_test)
        print(f"{name:14s}{explained:18.1%}{accuracy(model):11.1%}")


print_table()

# %%
# The plane, and the columns
# --------------------------
# Left: a point is a tumour. Right: the share of each measurement that the two numbers explain. PCA
# holds the sizes (radius, perimeter, area) a little better, as they vary most together. The
# autoencoder holds nearly all others better.


def explained_by_column(model: AutoencoderTransformer | PCA) -> np.ndarray:
    """Return the explained share of the variance of each column of the new rows."""
    residuals = X_test - model.inverse_transform(model.transform(X_test))
    return 1 - np.square(residuals).sum(axis=0) / np.square(X_test).sum(axis=0)


STYLES = {"PCA": ("#D55E00", "s"), "autoencoder": ("#0072B2", "o")}  # of Okabe and Ito
CLASSES = {"malignant": ("#CC79A7", "^"), "benign": ("#009E73", "o")}


def draw_plane(axis: Axes, name: str) -> None:
    """Plot the codes of new rows, a colour and a marker for each diagnosis."""
    for label, (diagnosis, (colour, marker)) in enumerate(CLASSES.items()):
        rows = codes[name][y_test == label]
        axis.scatter(*rows.T, s=18, color=colour, marker=marker, alpha=0.7, label=diagnosis)
    axis.set(title=f"{name}: new rows", xlabel="component 1", ylabel="component 2")


def draw_columns(axis: Axes) -> None:
    """Plot the explained share of each column, sorted by PCA's."""
    shares = {name: explained_by_column(model) for name, model in models.items()}
    order = shares["PCA"].argsort()
    axis.hlines(range(30), *(each[order] for each in shares.values()), color="0.7", linewidth=1)
    for name, (colour, marker) in STYLES.items():
        axis.plot(shares[name][order], range(30), marker, color=colour, label=name, markersize=5)
    axis.set_yticks(range(30), [names[i] for i in order], fontsize=8)
    axis.set(title="what two numbers hold", xlabel="explained share", xlim=(None, 1))
    axis.legend(frameon=False, loc="lower right")


def draw() -> Figure:
    """Show both planes and the columns."""
    figure = plt.figure(figsize=(10, 7), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.1])
    for axis, name in zip(left.subplots(2, 1), models, strict=True):
        draw_plane(axis, name)
    axis.legend(frameon=False)
    draw_columns(right.subplots())
    return figure


figure = draw()

# %%
# Rows that do not fit
# --------------------
# ``reconstruction_error`` says which rows two numbers cannot describe, and in which columns.

autoencoder = models["autoencoder"]
errors = autoencoder.reconstruction_error(X_test)
by_column = autoencoder.reconstruction_error(X_test, per_feature=True)
for row in errors.argsort()[::-1][:3]:
    worst = by_column[row].argsort()[::-1][:2]
    share = by_column[row, worst].sum() / errors[row]
    columns = " and ".join(names[j] for j in worst)
    print(f"row {row}: error {errors[row] / np.median(errors):.0f} times the median, ", end="")
    print(f"{share:.0%} of it in {columns}")

# %%
# As a script, this page saves its figure; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Compress a table to two numbers a row.")
    parser.add_argument("--output", default="compress_and_look.png", help="file of the figure")
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {output}", file=sys.stderr)
