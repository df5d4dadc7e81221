"""
Draw digits of a class, in a style
==================================

A conditional variational autoencoder is told the class of each digit, so its code need not hold the
class. What is left is style: slant, width, thickness. One code, decoded under each class, gives ten
digits in the same hand; `sample` draws digits of the classes that are asked.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skae import ConditionalVAE

# %%
# The class as a column
# ---------------------
# The condition is a column of the table; here the last one. It holds whole numbers, which are
# labels, so it is listed as categorical. In a frame, a column of text needs no list.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
CLASS = X.shape[1]
vae = ConditionalVAE(
    n_components=4, condition_features=[CLASS], categorical_features=[CLASS], random_state=0
).fit(np.c_[X_train, y_train])

# %%
# Samples hold the class, codes do not
# ------------------------------------
# A classifier that was trained on real digits reads the class that was asked in almost all samples.
# From codes of new digits, little more than chance is read.

asked = np.repeat(np.arange(10.0), 100)
drawn = vae.sample(len(asked), 0, condition={CLASS: asked}, observation_noise=False)
read = SVC().fit(X_train, y_train).score(drawn[:, :CLASS], asked)
codes, codes_test = vae.transform(np.c_[X_train, y_train]), vae.transform(np.c_[X_test, y_test])
reader = make_pipeline(StandardScaler(), LogisticRegression()).fit(codes, y_train)


def print_table() -> None:
    """Print what is read from samples and from codes."""
    print(f"class read in samples   {100 * read:.1f} %")
    print(f"class read from codes   {100 * reader.score(codes_test, y_test):.1f} %, chance 10 %")


# %%
# The same hand, ten classes
# --------------------------
# Each line is a test digit, on the left, translated to every class: its code is decoded under the
# others. Slant and thickness of a line stay.


def draw(n_digits: int = 6) -> Figure:
    """Show test digits, and their translations to all classes."""
    chosen = np.random.default_rng(2).choice(len(X_test), n_digits, replace=False)
    rows = np.c_[X_test, y_test][chosen]
    every = [rows] + [
        vae.translate(rows, {CLASS: float(label)}, keep_residual=False) for label in range(10)
    ]
    images = np.stack([some[:, :CLASS].reshape(-1, 8, 8) for some in every], axis=1)
    images = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)])
    figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
    axis.imshow(np.block([list(line) for line in images]), cmap="gray_r", vmin=0, vmax=16)
    axis.set_xticks(4.5 + 10 * np.arange(11), ["test\ndigit", *map(str, range(10))])
    axis.set_yticks([])
    axis.tick_params(length=0)
    axis.axvline(9.5, color="black", linewidth=1)
    axis.set_xlabel("translated to")
    axis.set_title("Test digits, translated to each class")
    axis.spines[:].set_visible(False)
    return figure


def main() -> None:
    """Print the table and save the figure."""
    parser = argparse.ArgumentParser(description="Draw digits under conditions.")
    parser.add_argument("--output", default="conditions.png", help="file of the figure")
    args = parser.parse_args()
    print_table()
    draw().savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
