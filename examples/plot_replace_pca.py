"""
Replace PCA in a grid search
============================

One line of a Pipeline changes: ``PCA(n_components=k)`` becomes
``AutoencoderTransformer(n_components=k)``. One grid search then chooses the reducer and the number
of components, by the accuracy of the model behind.

The data are 1,797 handwritten digits of 8 × 8 pixels, bundled with scikit-learn. Three numbers are
measured on the same test folds: the explained variance ratio, the accuracy of a logistic
regression fitted to the codes, and the seconds of a fit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_score

# %%
# The pipeline and the grid
# -------------------------
# The reducer is a parameter of the pipeline like any other. There are three in one list, with the
# same numbers of components: PCA, the autoencoder, and the autoencoder whose codes predict the
# target, too. A Pipeline passes ``y`` to its steps; the first two ignore it.

X, y = load_digits(return_X_y=True)

pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        ("reduce", PCA()),
        ("classify", LogisticRegression(max_iter=1000)),
    ]
)
reducers = {
    "PCA": PCA(),
    "autoencoder": AutoencoderTransformer(random_state=0),
    "with target": AutoencoderTransformer(target_weight=1, random_state=0),
}
param_grid = {"reduce": list(reducers.values()), "reduce__n_components": [2, 4, 8, 16]}

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
print("36 pipelines are fitted, in less than a minute on two cores.", flush=True)
search.fit(X, y)
all_pixels = 100 * cross_val_score(Pipeline([pipeline.steps[0], pipeline.steps[2]]), X, y, cv=3)

# %%
# The table
# ---------
# Explained variance increases with the number of components, so it cannot choose it. Accuracy can.
# A reducer that knows the target must be judged on rows that it was not fitted to, as here.


def curves(search: GridSearchCV) -> dict[str, dict[str, np.ndarray]]:
    """Collect each reducer's scores, sorted by the number of components."""
    results = search.cv_results_
    places = np.array([param_grid["reduce"].index(p["reduce"]) for p in results["params"]])
    measures = {
        "k": np.array([p["reduce__n_components"] for p in results["params"]]),
        "seconds": results["mean_fit_time"],
        "explained": 100 * results["mean_test_explained"],
        "explained_sd": 100 * results["std_test_explained"],
        "accuracy": 100 * results["mean_test_accuracy"],
        "accuracy_sd": 100 * results["std_test_accuracy"],
    }
    return {
        kind: {name: values[places == place] for name, values in measures.items()}
        for place, kind in enumerate(reducers)
    }


def print_table(scores: dict[str, dict[str, np.ndarray]]) -> None:
    """Print one line per number of components."""
    heads = {"explained": "explained variance, %", "accuracy": "accuracy, %", "seconds": "fit, s"}
    names = "".join(f"{kind:>12s}" for kind in scores)
    print(" " * 12 + "".join(f"{head:^39s}" for head in heads.values()))
    print(f"{'components':>10s}  " + f"{names}   " * len(heads))
    for i, k in enumerate(scores["PCA"]["k"]):
        cells = (
            "".join(
                f"{s[measure][i]:12.{2 if measure == 'seconds' else 1}f}" for s in scores.values()
            )
            for measure in heads
        )
        print(f"{k:10d}  " + "".join(f"{each}   " for each in cells))
    print(f"Accuracy on all {X.shape[1]} pixels, without a reducer: {all_pixels.mean():.1f} %")


scores = curves(search)
print_table(scores)
best = search.best_params_
chosen = next(name for name, reducer in reducers.items() if reducer is best["reduce"])
size = best["reduce__n_components"]
of_pca = scores["PCA"]["accuracy"][scores["PCA"]["k"] == size].item()
print(
    f"Chosen by accuracy: {chosen}, {size} components, {100 * search.best_score_:.1f} % "
    f"(PCA with {size}: {of_pca:.1f} %)"
)

# %%
# The figure
# ----------
# Bars show one standard deviation over the three folds.

STYLES = {
    "PCA": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "autoencoder": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "with target": {"color": "#009E73", "marker": "^", "linestyle": "-"},
}  # three colours of Okabe and Ito, apart for every kind of colour vision


def draw(ax: Axes, scores: dict[str, dict[str, np.ndarray]], measure: str, label: str) -> None:
    """Plot one score of all reducers against the number of components."""
    for shift, (kind, s) in zip((0.97, 1, 1.03), scores.items(), strict=True):
        spread = s[f"{measure}_sd"]
        ax.errorbar(shift * s["k"], s[measure], spread, capsize=3, label=kind, **STYLES[kind])
    ax.set_xscale("log", base=2)
    ax.set_xticks(scores["PCA"]["k"])
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("number of components")
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
    axes[1].axhline(all_pixels.mean(), color="0.5", linestyle=":", label="all pixels")
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
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {Path(output).resolve()}", file=sys.stderr)
