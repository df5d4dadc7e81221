"""
Replace PCA in a grid search
============================

One line of a Pipeline changes: ``PCA(n_components=k)`` becomes
``AutoencoderTransformer(n_components=k)``. One grid search then chooses between the two, and the
number of components.

The data are 1,797 handwritten digits of 8 × 8 pixels, bundled with scikit-learn. Two scores are
measured on the same test folds: the explained variance ratio, and the accuracy of a logistic
regression fitted to the codes.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_score

# %%
# The pipeline and the grid
# -------------------------
# The reducer is a parameter of the pipeline like any other. PCA and the autoencoder are in one
# list, with the same numbers of components for both.

X, y = load_digits(return_X_y=True)

pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        ("reduce", PCA()),
        ("classify", LogisticRegression(max_iter=1000)),
    ]
)
param_grid = {
    "reduce": [PCA(), AutoencoderTransformer(random_state=0)],
    "reduce__n_components": [2, 4, 8, 16, 32],
}

# %%
# Two scores from the same fits
# -----------------------------
# ``reconstruction_score`` accepts anything with ``transform`` and ``inverse_transform``, including
# pipelines. Here it gets all steps but the classifier, so it compares the pixels of test rows with
# their reconstructions.
#
# The folds are in the order of the rows, so most writers of a test fold are new.


def explained_variance(fitted: Pipeline, X: np.ndarray, y: np.ndarray) -> float:
    """Return the explained variance ratio of the pixels."""
    return reconstruction_score(fitted[:-1], X)


search = GridSearchCV(
    pipeline,
    param_grid,
    scoring={"accuracy": "accuracy", "explained": explained_variance},
    refit="accuracy",
    cv=3,
    n_jobs=2,
)
search.fit(X, y)

# %%
# The table
# ---------
# Explained variance increases with the number of components, so it cannot choose it. Accuracy can.

NAMES = {"PCA": "PCA", "AutoencoderTransformer": "autoencoder"}


def curves(search: GridSearchCV) -> dict[str, dict[str, np.ndarray]]:
    """Collect each reducer's scores, sorted by the number of components."""
    results = search.cv_results_
    kinds = np.array([NAMES[type(p["reduce"]).__name__] for p in results["params"]])
    measures = {
        "k": np.array([p["reduce__n_components"] for p in results["params"]]),
        "explained": results["mean_test_explained"],
        "explained_sd": results["std_test_explained"],
        "accuracy": results["mean_test_accuracy"],
        "accuracy_sd": results["std_test_accuracy"],
    }
    return {
        kind: {name: 100 * values if name != "k" else values for name, values in rows.items()}
        for kind in NAMES.values()
        for rows in [{name: values[kinds == kind] for name, values in measures.items()}]
    }


def print_table(scores: dict[str, dict[str, np.ndarray]]) -> None:
    """Print one line per number of components."""
    print(f"{'latent':>9s}   {'explained variance, %':^21s}   {'accuracy, % (mean ± sd)':^25s}")
    print(f"{'dimension':>9s}   {'PCA':>9s} {'autoenc.':>11s}   {'PCA':>12s} {'autoenc.':>12s}")
    pca, autoencoder = scores["PCA"], scores["autoencoder"]
    for i, k in enumerate(pca["k"]):
        explained = f"{pca['explained'][i]:9.1f} {autoencoder['explained'][i]:11.1f}"
        accuracies = [
            f"{s['accuracy'][i]:.1f} ± {s['accuracy_sd'][i]:.1f}" for s in (pca, autoencoder)
        ]
        print(f"{k:9d}   {explained}   {accuracies[0]:>12s} {accuracies[1]:>12s}")


scores = curves(search)
print_table(scores)
best = search.best_params_
print(
    f"Chosen by accuracy: {NAMES[type(best['reduce']).__name__]} with "
    f"{best['reduce__n_components']} components, {100 * search.best_score_:.1f} %"
)

# %%
# The figure
# ----------
# Bars show one standard deviation over the three folds.

STYLES = {
    "PCA": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "autoencoder": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
}  # two colours of Okabe and Ito, apart for every kind of colour vision


def draw(ax: Axes, scores: dict[str, dict[str, np.ndarray]], measure: str, label: str) -> None:
    """Plot one score of both reducers against the number of components."""
    for shift, (kind, s) in zip((0.98, 1.02), scores.items(), strict=True):
        spread = s[f"{measure}_sd"]
        ax.errorbar(shift * s["k"], s[measure], spread, capsize=3, label=kind, **STYLES[kind])
    ax.set_xscale("log", base=2)
    ax.set_xticks(scores["PCA"]["k"])
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("latent dimension (number of components)")
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def plot(scores: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Plot both scores side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    draw(axes[0], scores, "explained", "held-out variance explained (%)")
    draw(axes[1], scores, "accuracy", "held-out accuracy (%)")
    axes[0].set_ylim(0, 100)
    axes[1].set_ylim(40, 100)
    axes[0].set_title("What the codes keep")
    axes[1].set_title("What a logistic regression makes of them")
    axes[1].legend(loc="lower right", frameon=False)
    figure.suptitle("Handwritten digits, three-fold cross-validation")
    return figure


figure = plot(scores)

# %%
# As a script, this page saves its figure; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Replace PCA in a grid search.")
    parser.add_argument("--output", default="replace_pca.png", help="file of the figure")
    figure.savefig(parser.parse_args().output, dpi=150)
