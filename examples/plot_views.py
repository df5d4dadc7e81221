"""
Predicting one view from another
================================

The upper and the lower half of a handwritten digit are two views of it. An autoencoder with an
encoder and a decoder for each half learns one code for both. From the upper half alone it then
predicts the lower one, and its code still tells digits apart. In training, 30 % of the halves
are missing.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skae import MultiViewAutoencoder

VIEWS = {"upper": slice(0, 32), "lower": slice(32, None)}

# %%
# Digits with missing halves
# --------------------------
# A missing view is a block of NaN. Each training digit keeps at least one half.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0, stratify=y)
random = np.random.default_rng(0)
missing = random.random((len(X_train), 2)) < 0.3
missing[missing.all(axis=1), 0] = False
X_gaps = X_train.copy()
for lacks, columns in zip(missing.T, VIEWS.values(), strict=True):
    X_gaps[lacks, columns] = np.nan

# %%
# Predictions of the lower half
# -----------------------------
# The autoencoder is trained with and without gaps, the linear models without.

complete, with_gaps = (
    MultiViewAutoencoder(8, views=VIEWS, max_epochs=120, random_state=0).fit(rows)
    for rows in (X_train, X_gaps)
)
upper, lower = X_train[:, VIEWS["upper"]], X_train[:, VIEWS["lower"]]
ridge = RidgeCV(np.logspace(-3, 3, 13)).fit(upper, lower)
pls = PLSRegression(16, scale=False).fit(upper, lower)
given, truth = X_test[:, VIEWS["upper"]], X_test[:, VIEWS["lower"]]
predictions = {
    "ridge regression": ridge.predict(given),
    "partial least squares": pls.predict(given),
    "autoencoder": complete.predict_view(X_test, "lower"),
    "autoencoder, 30 % missing": with_gaps.predict_view(X_test, "lower"),
}


def explained(predicted: np.ndarray) -> float:
    """Share of the variance of the lower halves that is predicted."""
    return 1 - float(np.square(predicted - truth).sum() / np.square(truth - lower.mean(0)).sum())


# %%
# Codes of one view
# -----------------
# The neighbours are codes of whole training digits.

only_upper = X_test.copy()
only_upper[:, VIEWS["lower"]] = np.nan
neighbours = KNeighborsClassifier(10).fit(complete.transform(X_train), y_train)
accuracy = {
    "codes of whole digits": neighbours.score(complete.transform(X_test), y_test),
    "codes of upper halves": neighbours.score(complete.transform(only_upper), y_test),
    "pixels of upper halves": KNeighborsClassifier(10).fit(upper, y_train).score(given, y_test),
}


def print_tables() -> None:
    """Print how well lower halves are predicted, and how well classes are read."""
    for name, predicted in predictions.items():
        print(f"{name:28s} R² {explained(predicted):.3f}")
    for name, share in accuracy.items():
        print(f"{name:28s} {100 * share:.1f} % right")


def draw(n_digits: int = 10) -> Figure:
    """Show some test digits whose lower half is predicted."""
    rows = {"digit": truth, **predictions}
    stripes = [
        np.hstack(np.hstack([given, its])[:n_digits].reshape(-1, 8, 8)) for its in rows.values()
    ]
    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axis.imshow(np.vstack(stripes), cmap="gray_r", vmin=0, vmax=1)
    axis.set_yticks(4 + 8 * np.arange(len(rows)), list(rows))
    axis.set_xticks([])
    axis.set_title("Lower halves, predicted from upper ones")
    axis.tick_params(length=0)
    for i in range(len(rows)):
        axis.axhline(8 * i + 3.5, color="tab:red", linewidth=0.5)
        axis.axhline(8 * i - 0.5, color="white", linewidth=4)
    axis.spines[:].set_visible(False)
    return figure


def main() -> None:
    """Print the tables and save the figure."""
    parser = argparse.ArgumentParser(description="Predict lower halves of digits from upper ones.")
    parser.add_argument("--output", default="views.png", help="file of the figure")
    args = parser.parse_args()
    print_tables()
    draw().savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
