"""
A denoising front for a classifier
==================================

A classifier that was trained on clean images fails on corrupted ones. Here a convolutional
autoencoder stands in front of it, in one Pipeline: it is trained to restore clean digits from
corrupted ones, and the classifier reads its codes. The classifier sees clean digits only in
training; test digits have noise, or a gap of 40 % of their area.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import median_filter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import ConvolutionalAutoencoder

N_COMPONENTS = 20

# %%
# Corrupted test digits
# ---------------------
# Noise has one and a half standard deviations of each pixel. Gaps are squares of 5 × 5 of the 8 × 8
# pixels, in which each pixel has its mean over the training digits, as after mean imputation.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
random = np.random.default_rng(0)
noisy = X_test + 1.5 * X_train.std(axis=0) * random.normal(size=X_test.shape)
images, mean = X_test.reshape(-1, 8, 8).copy(), X_train.mean(axis=0).reshape(8, 8)
for image, (top, left) in zip(images, random.integers(0, 4, (len(images), 2)), strict=True):
    gap = np.s_[top : top + 5, left : left + 5]
    image[gap] = mean[gap]
gaps = images.reshape(X_test.shape)

# %%
# Fronts
# ------
# One autoencoder is trained on noise, one on gaps: the corruption is a parameter.


def autoencoder(noise: str, noise_level: float) -> ConvolutionalAutoencoder:
    """Make a denoising front."""
    return ConvolutionalAutoencoder(
        N_COMPONENTS, noise=noise, noise_level=noise_level, max_epochs=120, random_state=0
    )


def filtered(X: np.ndarray) -> np.ndarray:
    """Filter digits by the median of 3 × 3 pixels."""
    return median_filter(X.reshape(-1, 8, 8), size=(1, 3, 3)).reshape(X.shape)


def classifier(*front: Any) -> Any:
    """Fit a logistic regression behind a front to clean digits."""
    steps = *front, LogisticRegression(max_iter=2000)
    return make_pipeline(*steps).fit(X_train, y_train)


plain, behind_pca = classifier(), classifier(PCA(N_COMPONENTS), StandardScaler())
behind_noise = classifier(autoencoder("gaussian", 1.0), StandardScaler())
behind_gaps = classifier(autoencoder("blocks", 0.4), StandardScaler())

# %%
# Accuracy
# --------
# In percent. The median filter blurs digits of so few pixels.

corrupted = {"noise": noisy, "gaps": gaps}
behind = {"noise": behind_noise, "gaps": behind_gaps}
cases: dict[str, dict[str, tuple[Any, np.ndarray]]] = {
    case: {
        "no front": (plain, rows),
        "median filter": (plain, filtered(rows)),
        "PCA": (behind_pca, rows),
        "autoencoder": (behind[case], rows),
    }
    for case, rows in corrupted.items()
}
accuracy = {
    case: {front: 100 * model.score(rows, y_test) for front, (model, rows) in fronts.items()}
    for case, fronts in cases.items()
}


def print_table() -> None:
    """Print the accuracy behind each front."""
    fronts = list(accuracy["noise"])
    print(f"{'':8s}" + "".join(f"{front:>15s}" for front in fronts))
    for case, of_fronts in accuracy.items():
        print(f"{case:8s}" + "".join(f"{of_fronts[front]:15.1f}" for front in fronts))


# %%
# What the autoencoder restores
# -----------------------------


def draw(n_digits: int = 8) -> Figure:
    """Show some test digits: clean, corrupted, and restored."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 2.8), layout="constrained")
    for axis, (name, rows) in zip(axes, corrupted.items(), strict=True):
        shown = [X_test, rows, behind[name][0].denoise(rows)]
        stripes = [np.hstack(some[:n_digits].reshape(-1, 8, 8)) for some in shown]
        axis.imshow(np.vstack(stripes), cmap="gray_r", vmin=0, vmax=16)
        without, with_it = (accuracy[name][front] for front in ("no front", "autoencoder"))
        axis.set_title(f"{name}: {without:.0f} % right, with the front {with_it:.0f} %")
        axis.set_yticks(4 + 8 * np.arange(3), ["clean", "corrupted", "restored"])
        axis.set_xticks([])
        axis.tick_params(length=0)
        for edge in (7.5, 15.5):
            axis.axhline(edge, color="white", linewidth=4)
        axis.spines[:].set_visible(False)
    return figure


def main() -> None:
    """Print the table and save the figure."""
    parser = argparse.ArgumentParser(description="Classify corrupted digits.")
    parser.add_argument("--output", default="denoising_front.png", help="file of the figure")
    args = parser.parse_args()
    print_table()
    draw().savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
