"""
Choose the number of components
===============================

More components always keep more, so the explained variance alone cannot say how many are enough.
Three questions have an answer: from where on do further components add little? How many does the
model behind the codes need? How many are needed for 80 % of the variance?

The table is scikit-learn's breast_cancer: 569 tumours, 30 measurements.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LatentDimensionSearch
from skae.displays import DimensionSearchDisplay

X, y = load_breast_cancer(return_X_y=True)
folds = KFold(5, shuffle=True, random_state=0)
SIZES = [1, 2, 4, 8]

# %%
# From where on do components add little?
# ---------------------------------------
# ``LatentDimensionSearch`` is a grid search for this one parameter. It trains all folds of a
# candidate in one batch, and measures PCA beside it. The elbow is where the curve bends most. Forty
# epochs are enough to choose; a final fit takes the default, which is more.

autoencoder = AutoencoderTransformer(max_epochs=40, random_state=0)
pipeline = make_pipeline(StandardScaler(), autoencoder)
by_variance = LatentDimensionSearch(pipeline, n_components=SIZES, cv=folds, rule="elbow").fit(X)
print(f"elbow: {by_variance.n_components_} components")
print(by_variance.verdict_, "\n")

# %%
# How many does the model behind need?
# ------------------------------------
# ``downstream`` is fitted to the codes of each training part, and its accuracy is the score. The
# rule takes the smallest number whose accuracy is within a standard error of the best. The verdict
# compares with PCA of the same size.

by_accuracy = LatentDimensionSearch(
    pipeline, n_components=SIZES, cv=folds, downstream=LogisticRegression()
).fit(X, y)
print(f"for a logistic regression: {by_accuracy.n_components_} components")
print(by_accuracy.verdict_, "\n")

# %%
# How many for 80 % of the variance?
# ----------------------------------
# As with PCA, a fraction as ``n_components`` is the share of the variance to explain. PCA counts
# that of its training rows; the autoencoder counts that of rows that the fit has not seen.

X_scaled = StandardScaler().fit_transform(X)
fraction = AutoencoderTransformer(0.8, max_epochs=40, random_state=0).fit(X_scaled)
print(f"80 % of the variance: {fraction.n_components_} components, ", end="")
print(f"PCA {PCA(0.8).fit(X_scaled).n_components_}")

# %%
# The curves
# ----------
# Bars are one standard error of the mean over the folds.


def draw() -> Figure:
    """Plot both searches."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    cases = {"explained variance": by_variance, "accuracy of a logistic regression": by_accuracy}
    for axis, (name, search) in zip(axes, cases.items(), strict=True):
        DimensionSearchDisplay.from_estimator(search, ax=axis)
        axis.set(title=name, ylabel="mean score of held-out rows")
    return figure


figure = draw()

# %%
# As a script, this page saves its figure; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Choose the number of components.")
    parser.add_argument("--output", default="choose_dimension.png", help="file of the figure")
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {output}", file=sys.stderr)
