"""
Find outliers, and see why they are outliers
============================================

An autoencoder that has seen normal rows only gives every new row a score: the negative
log-likelihood. Here the normal rows are handwritten digits without the 3, or benign tumours.
Outliers are the digit 3, and malignant tumours. Both tables are bundled with scikit-learn.

On digits, whose rows lie on curved surfaces, the score is much better than PCA's. On the tumours
all methods are about equally good, so the cheapest will do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from skae import AutoencoderTransformer

# %%
# Normal rows, and outliers
# -------------------------
# Half of the normal rows are for training, a tenth sets the threshold, and the rest are new rows.

Table = dict[str, np.ndarray]


def split(X: np.ndarray, is_outlier: np.ndarray) -> Table:
    """Split into training, held-out and new normal rows, and outliers."""
    train, new = train_test_split(X[~is_outlier], test_size=0.4, random_state=0)
    train, held_out = train_test_split(train, test_size=1 / 6, random_state=0)
    return {"train": train, "held out": held_out, "new": new, "outliers": X[is_outlier]}


digits, digit = load_digits(return_X_y=True)
tumours, benign = load_breast_cancer(return_X_y=True)
tables = {"digits: 3": split(digits, digit == 3), "tumours: malignant": split(tumours, benign == 0)}

# %%
# Four detectors
# --------------
# The area under the ROC curve is the chance that an outlier has a higher score than a normal row.
# PCA and the autoencoder have as many components as PCA needs for 90 % of the variance. Columns are
# standardised for all.


def detectors(train: np.ndarray) -> dict[str, Pipeline]:
    """Fit each detector to normal rows; all have ``score_samples``, which is low for outliers."""
    n_components = PCA(0.9, svd_solver="full").fit(scale(train)).n_components_
    models = {
        "autoencoder": AutoencoderTransformer(n_components, random_state=0),
        "PCA": PCA(n_components),
        "IsolationForest": IsolationForest(random_state=0),
        "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
    }
    return {name: make_pipeline(StandardScaler(), each).fit(train) for name, each in models.items()}


def area(model: Pipeline, table: Table) -> float:
    """Area under the ROC curve of new rows and outliers."""
    scores = [-model.score_samples(table[part]) for part in ("new", "outliers")]
    truth = np.repeat([0, 1], [len(each) for each in scores])
    return roc_auc_score(truth, np.concatenate(scores))


fitted = {name: detectors(table["train"]) for name, table in tables.items()}
areas = {
    name: {method: area(model, tables[name]) for method, model in models.items()}
    for name, models in fitted.items()
}

# %%
# A threshold for 5 % of false alarms
# -----------------------------------
# It is a quantile of the scores of rows that were held out. Training rows have lower scores than
# new rows, so their quantile would give too many false alarms.

table = tables["digits: 3"]


def alarms(model: Pipeline) -> tuple[float, float]:
    """Share of the new normal rows, and of the outliers, beyond the threshold of a detector."""
    threshold = np.quantile(-model.score_samples(table["held out"]), 0.95)
    new, outliers = (
        (-model.score_samples(table[part]) > threshold).mean() for part in ("new", "outliers")
    )
    return new, outliers


print(f"{'':20s}area under the ROC curve            digits: 3s found   false alarms")
print(" " * 20 + "".join(f"{name:20s}" for name in tables))
for method, model in fitted["digits: 3"].items():
    false_alarms, hits = alarms(model)
    both = "".join(f"{areas[name][method]:<20.3f}" for name in tables)
    print(f"{method:20s}{both}{hits:>14.0%}{false_alarms:>15.0%}")

# %%
# Why is it an outlier?
# ---------------------
# The reconstruction shows what the model expects in the place of an outlier, and the error of each
# pixel where it is wrong. Most 3s are nearly restored, as they share strokes with other digits:
# the error alone would find fewer of them than the likelihood, which knows that their codes are
# rare.

COLOURS = {"new": "#0072B2", "outliers": "#D55E00"}  # of Okabe and Ito
autoencoder = fitted["digits: 3"]["autoencoder"]


def draw_scores(axis: Axes) -> None:
    """Plot the distribution of the autoencoder's scores, and its threshold."""
    scores = {part: -autoencoder.score_samples(table[part]) for part in COLOURS}
    bins = np.linspace(*np.quantile(np.concatenate(list(scores.values())), [0, 0.995]), 40)
    labels = {"new": "new digits, no 3", "outliers": "the digit 3"}
    for part, each in scores.items():
        axis.hist(each, bins, density=True, alpha=0.6, color=COLOURS[part], label=labels[part])
    threshold = np.quantile(-autoencoder.score_samples(table["held out"]), 0.95)
    axis.axvline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axis.set(xlabel="score: negative log-likelihood, nats", ylabel="density")
    false_alarms, hits = alarms(autoencoder)
    axis.set_title(f"{hits:.0%} of the 3s found, {false_alarms:.0%} false alarms")
    axis.legend(frameon=False, loc="upper right")


def draw_areas(axis: Axes) -> None:
    """Plot the area of each method on each table."""
    for (name, values), marker in zip(areas.items(), "os", strict=True):
        axis.plot(list(values.values())[::-1], list(values)[::-1], marker, label=name)
    axis.set(xlim=(0.5, 1), xlabel="area under the ROC curve", title="four detectors, two tables")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(frameon=False, loc="upper left")


def tile(rows: np.ndarray) -> np.ndarray:
    """Put digits side by side, with an empty pixel around each."""
    return np.hstack(np.pad(rows.reshape(-1, 8, 8), [(0, 0), (1, 1), (1, 1)], constant_values=0))


def draw_reasons(axes: Sequence[Axes], n_digits: int = 10) -> None:
    """Show outliers, what the model expects in their place, and the error of each pixel."""
    scaler, model = autoencoder
    order = autoencoder.score_samples(table["outliers"]).argsort()
    outliers = table["outliers"][order[:n_digits]]
    rows = scaler.transform(outliers)
    expected = scaler.inverse_transform(model.reconstruct(rows))
    errors = np.sqrt(model.reconstruction_error(rows, per_feature=True))
    pictures = {"outlier": outliers, "expected": expected, "error": errors}
    for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
        colours, most = ("Reds", 3) if name == "error" else ("gray_r", 16)
        axis.imshow(tile(picture), cmap=colours, vmin=0, vmax=most)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[0].set_title("the 3s with the highest scores, and why")


def draw() -> Figure:
    """Show scores, areas and reasons."""
    figure = plt.figure(figsize=(10, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 0.95])
    left, right = top.subplots(1, 2)
    draw_scores(left)
    draw_areas(right)
    draw_reasons(bottom.subplots(3, 1))
    return figure


figure = draw()

# %%
# As a script, this page saves its figure; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Find outliers.")
    parser.add_argument("--output", default="outliers.png", help="file of the figure")
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {output}", file=sys.stderr)
