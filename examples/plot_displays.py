"""
Plot an autoencoder
===================

Six figures of autoencoders of handwritten digits, bundled with scikit-learn: the losses during
training, the explained variance of the components, digits in the latent space, decoded codes,
reconstructions, and a search for the number of components. Each is one call of
``skae.displays``, here on the axes of one figure.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from skae import AutoencoderTransformer
from skae.displays import (
    DimensionSearchDisplay,
    ExplainedVarianceDisplay,
    LatentGridDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)
from skae.metrics import log_likelihood_score

# %%
# An autoencoder and a search
# ---------------------------
# Two components can be plotted; eight explain more variance. The explained variance ratio increases
# with the number of components, so the search uses the log-likelihood of held-out rows.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
autoencoder = AutoencoderTransformer(2, random_state=0).fit(X_train)
larger = AutoencoderTransformer(8, random_state=0).fit(X_train)
search = GridSearchCV(
    AutoencoderTransformer(max_epochs=30, random_state=0),
    {"n_components": [2, 4, 8, 16, 32]},
    scoring=log_likelihood_score,
    cv=3,
    n_jobs=2,
).fit(X_train)

# %%
# Six figures in one
# ------------------
# Without ``ax``, each display makes its own figure.


def draw() -> Figure:
    """Plot all displays on axes of one figure."""
    figure, axes = plt.subplots(3, 2, figsize=(10, 13), layout="constrained")
    titles = [
        ("Training, 8 components", LossCurveDisplay.from_estimator(larger, ax=axes[0, 0])),
        (
            "Training digits explained",
            ExplainedVarianceDisplay.from_estimator(larger, X_train, ax=axes[0, 1]),
        ),
        ("Number of components", DimensionSearchDisplay.from_estimator(search, ax=axes[1, 0])),
        (
            "Test digits in 2 components",
            LatentSpaceDisplay.from_estimator(autoencoder, X_test, y_test, ax=axes[1, 1]),
        ),
        (
            "Decoded codes of 2 components",
            LatentGridDisplay.from_estimator(
                autoencoder, X_train, image_shape=(8, 8), ax=axes[2, 0]
            ),
        ),
        (
            "Test digits reconstructed from 8 components",
            ReconstructionDisplay.from_estimator(
                larger, X_test, image_shape=(8, 8), n_rows=6, ax=axes[2, 1]
            ),
        ),
    ]
    for title, display in titles:
        display.ax_.set_title(title)
    axes[0, 1].set_ylim(0, 1.35)  # room for the legend
    axes[1, 1].get_legend().set(loc="center left", bbox_to_anchor=(1, 0.5))  # beside the digits
    return figure


figure = draw()

# %%
# As a script, this page saves its figure; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Plot an autoencoder.")
    parser.add_argument("--output", default="displays.png", help="file of the figure")
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {output}", file=sys.stderr)
