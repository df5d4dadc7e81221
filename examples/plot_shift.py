"""
Rows beyond the training range
==============================

Next month's rows may lie where no training row was. There the corrections that an autoencoder adds
to PCA are not known, and they fade out: what is left is PCA. That is safe far away, but just
outside the training range a correction may be wrong. The remedy is ``X_val``: a few rows of the
later kind, which choose when training stops.

The rows are the ten measurements of the diabetes table, bundled with scikit-learn. The table has no
dates, so it is sorted by its first principal component, as if this quantity grew with time: the
first 80 % are the past.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

X = load_diabetes().data
X = X[PCA(1).fit_transform(X)[:, 0].argsort()]
n_past = int(0.8 * len(X))
scaler = StandardScaler().fit(X[:n_past])
past, later = scaler.transform(X[:n_past]), scaler.transform(X[n_past:])

# %%
# A third of the later rows as validation rows
# --------------------------------------------
# Without them, rows are held out of the past, and training is judged by the past. With them, it is
# judged by rows of the kind that it is meant for. PCA is one of the candidates, so that the result
# is PCA if nothing else restores these rows better.

is_validation = np.random.default_rng(0).permutation(len(later)) < len(later) // 3
validation, test = later[is_validation], later[~is_validation]
models: dict[str, Any] = {
    "PCA": PCA(2).fit(past),
    "autoencoder": AutoencoderTransformer(2, random_state=0).fit(past),
    "autoencoder with X_val": AutoencoderTransformer(2, random_state=0).fit(past, X_val=validation),
}


def errors(model: Any, rows: np.ndarray) -> np.ndarray:
    """Squared error of each row."""
    return np.square(rows - model.inverse_transform(model.transform(rows))).sum(axis=1)


print(f"{'squared error per row':24s}{'past':>8s}{'later':>8s}")
for name, model in models.items():
    print(f"{name:24s}{errors(model, past).mean():8.2f}{errors(model, test).mean():8.2f}")

# %%
# From near to far
# ----------------
# Rows of the past are moved, each in a random direction. After a few deviations they leave the
# training range. There the error over PCA's may rise above one; far away it is one.

DISTANCES = np.geomspace(0.1, 1000, 41)
STYLES: dict[str, dict[str, Any]] = {
    "PCA": {"color": "#D55E00", "linestyle": "--"},
    "autoencoder": {"color": "#0072B2", "linestyle": "-"},
    "autoencoder with X_val": {"color": "#009E73", "linestyle": "-."},
}


def ratios(model: Any) -> list[float]:
    """Error of moved rows over PCA's, at each distance."""
    directions = np.random.default_rng(0).normal(size=past.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    moved = [past + distance * directions for distance in DISTANCES]
    return [float(errors(model, rows).sum() / errors(models["PCA"], rows).sum()) for rows in moved]


def make_figure() -> Figure:
    """Draw the errors of past and later rows, and of rows that are moved out."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for i, (name, model) in enumerate(models.items()):
        heights = [errors(model, rows).mean() for rows in (past, test)]
        places = np.arange(2) + 0.27 * (i - 1)
        left.bar(places, heights, 0.25, color=STYLES[name]["color"], label=name)
        right.plot(DISTANCES, ratios(model), label=name, **STYLES[name])
    left.set(xticks=[0, 1], xticklabels=["past rows", "later rows"], ylabel="squared error per row")
    left.legend(fontsize="small", loc="upper left")
    left.margins(y=0.4)
    left.set_title("Past and later rows")
    right.set_title("Rows moved out of the training range")
    right.set(xscale="log", xlabel="distance moved, in deviations", ylabel="error over PCA's")
    return figure


figure = make_figure()

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Rows beyond the training range.")
    parser.add_argument("--output", default="shift.png", help="file of the figure")
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {output}", file=sys.stderr)
