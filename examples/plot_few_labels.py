"""
Learn from few labels
=====================

Most rows of digits are unlabelled. A logistic regression, a multilayer perceptron and self-training
are compared with an autoencoder that is trained on all rows and fine-tuned with the few labels.
"""

from __future__ import annotations

import argparse
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.semi_supervised import SelfTrainingClassifier

from skae import AutoencoderClassifier, AutoencoderTransformer

# %%
# Rows
# ----
# Labels are a stratified sample, drawn three times for each number of labels.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=0.3, random_state=0, stratify=y
)
NUMBERS = [20, 50, 200, 1000]
N_DRAWS = 3


def few_labels(n_labels: int, seed: int) -> np.ndarray:
    """Return the labels of some rows, and -1 for the others."""
    index = np.arange(len(y_train))
    labeled, _ = train_test_split(index, train_size=n_labels, stratify=y_train, random_state=seed)
    return np.where(np.isin(index, labeled), y_train, -1)


# %%
# Methods
# -------
# The autoencoder is fitted once, because it does not depend on the labels.

pretrained = FrozenEstimator(AutoencoderTransformer(16, random_state=0).fit(X_train))
METHODS = {
    "logistic regression": LogisticRegression(max_iter=1000),
    "MLPClassifier": MLPClassifier((256,), max_iter=300, random_state=0),
    "self-training": SelfTrainingClassifier(LogisticRegression(max_iter=1000), threshold=0.9),
    "AutoencoderClassifier": AutoencoderClassifier(pretrained, unlabeled=-1, random_state=0),
}


def accuracies() -> dict[str, np.ndarray]:
    """Return the accuracy on the test rows of all methods, numbers of labels and samples."""
    found = {name: np.empty((len(NUMBERS), N_DRAWS)) for name in METHODS}
    for i, n_labels in enumerate(NUMBERS):
        for seed in range(N_DRAWS):
            few = few_labels(n_labels, seed)
            labeled = few != -1
            for name, model in METHODS.items():
                takes_all = name in ("self-training", "AutoencoderClassifier")
                rows = slice(None) if takes_all else labeled
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    model.fit(X_train[rows], few[rows])
                found[name][i, seed] = model.score(X_test, y_test)
    return found


# %%
# Curves
# ------


def draw(found: dict[str, np.ndarray]) -> Figure:
    """Plot accuracy against the number of labels."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for (name, values), marker in zip(found.items(), "os^D", strict=True):
        mean, spread = 100 * values.mean(axis=1), 100 * values.std(axis=1)
        axis.errorbar(NUMBERS, mean, spread, marker=marker, capsize=3, label=name)
    axis.set_xscale("log")
    axis.set_xticks(NUMBERS, [str(n) for n in NUMBERS])
    axis.minorticks_off()
    axis.set_xlabel("labelled rows")
    axis.set_ylabel("accuracy on test rows, %")
    axis.set_title("Digits: 1,257 rows, few of them labelled")
    axis.legend(frameon=False, loc="lower right")
    return figure


def main() -> None:
    """Print the accuracies and save the figure."""
    parser = argparse.ArgumentParser(description="Accuracy against the number of labels.")
    parser.add_argument("--output", default="few_labels.png", help="file of the figure")
    args = parser.parse_args()
    found = accuracies()
    print("labels".ljust(24), *(f"{n:6d}" for n in NUMBERS))
    for name, values in found.items():
        print(name.ljust(24), *(f"{100 * value:6.1f}" for value in values.mean(axis=1)))
    draw(found).savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
