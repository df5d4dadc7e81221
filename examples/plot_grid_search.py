"""
One grid over estimators, widths and noise levels
=================================================

The reducer, its number of components, the width of the network and the noise level are parameters
of a Pipeline, so one ``GridSearchCV`` can search them all. A list of grids separates the parameters
of different reducers: PCA has no width, and only the denoising autoencoder has a noise level.

The data are 1,797 handwritten digits of 8 × 8 pixels, bundled with scikit-learn. A logistic
regression is fitted to the codes.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae.metrics import reconstruction_score

# %%
# A list of grids
# ---------------
# The step ``reduce`` is itself a parameter. The parameters of the step follow after two
# underscores. Thirty epochs are enough for a comparison; the best candidate can be trained for
# longer.

X, y = load_digits(return_X_y=True)

pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        ("reduce", PCA()),
        ("classify", LogisticRegression(max_iter=300)),
    ]
)
n_components = [2, 4, 8, 16]
grids = [
    {"reduce": [PCA()], "reduce__n_components": n_components},
    {
        "reduce": [AutoencoderTransformer(max_epochs=30, random_state=0)],
        "reduce__n_components": n_components,
        "reduce__hidden_layer_sizes": [32, 128],
    },
    {
        "reduce": [DenoisingAutoencoder(max_epochs=30, random_state=0)],
        "reduce__n_components": n_components,
        "reduce__noise_level": [0.1, 0.3],
    },
]

# %%
# Two scores of every fit
# -----------------------
# ``reconstruction_score`` gets all steps but the classifier. ``refit`` names the score that selects
# the best candidate.


def explained(fitted: Pipeline, X: np.ndarray, y: np.ndarray) -> float:
    """Return the explained variance ratio of the pixels."""
    return reconstruction_score(fitted[:-1], X)


search = GridSearchCV(
    pipeline,
    grids,
    scoring={"accuracy": "accuracy", "explained": explained},
    refit="accuracy",
    cv=StratifiedKFold(3, shuffle=True, random_state=0),
    n_jobs=2,
)
search.fit(X, y)

# %%
# Reading the results
# -------------------
# ``cv_results_`` is shown as a data frame with one line per candidate. Parameters that a candidate
# does not have are masked.


def name_of(params: dict[str, object]) -> str:
    """Return a short name of a candidate."""
    if "reduce__noise_level" in params:
        return f"denoising, {params['reduce__noise_level']:.0%} swapped"
    if "reduce__hidden_layer_sizes" in params:
        return f"autoencoder, {params['reduce__hidden_layer_sizes']} units"
    return "PCA"


results = pd.DataFrame(
    {
        "reducer": [name_of(params) for params in search.cv_results_["params"]],
        "k": [params["reduce__n_components"] for params in search.cv_results_["params"]],
        "accuracy": 100 * search.cv_results_["mean_test_accuracy"],
        "accuracy_sd": 100 * search.cv_results_["std_test_accuracy"],
        "explained": 100 * search.cv_results_["mean_test_explained"],
        "explained_sd": 100 * search.cv_results_["std_test_explained"],
    }
)
table = results.pivot(index="reducer", columns="k", values=["accuracy", "explained"])
print(table.round(1).to_string())
best = search.best_params_
print(f"Chosen by accuracy: {name_of(best)}, {best['reduce__n_components']} components")

# %%
# The figure
# ----------
# The two scores disagree: noise costs explained variance and gains accuracy, because codes that
# are robust to noise represent what several pixels have in common. Select by the score of the
# downstream model. Bars show one standard deviation over the three folds.

COLORS = ["#D55E00", "#56B4E9", "#0072B2", "#CC79A7", "#009E73"]  # of Okabe and Ito
MARKERS = ["s", "v", "o", "^", "D"]
STYLES = dict(zip(results["reducer"].unique(), zip(COLORS, MARKERS, strict=True), strict=True))


def draw(ax: Axes, measure: str, label: str) -> None:
    """Plot one score of all reducers against the number of components."""
    for i, (reducer, rows) in enumerate(results.groupby("reducer", sort=False)):
        color, marker = STYLES[reducer]
        ax.errorbar(
            rows["k"] * 1.02 ** (i - 2),
            rows[measure],
            rows[f"{measure}_sd"],
            capsize=2,
            color=color,
            marker=marker,
            linestyle="--" if reducer == "PCA" else "-",
            label=reducer,
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(n_components)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("number of components")
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def plot() -> Figure:
    """Plot both scores side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    draw(axes[0], "explained", "held-out variance explained (%)")
    draw(axes[1], "accuracy", "held-out accuracy (%)")
    axes[0].set_ylim(0, 100)
    axes[1].set_ylim(50, 100)
    axes[1].legend(loc="lower right", frameon=False)
    figure.suptitle("Handwritten digits, one grid of 20 candidates")
    return figure


figure = plot()

# %%
# As a script, this page saves its figure; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="One grid over kinds, widths and noise levels.")
    parser.add_argument("--output", default="grid_search.png", help="file of the figure")
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {output}", file=sys.stderr)
