"""
Compress, fill and draw a table with categories and gaps
========================================================

A table of patients has numbers, categories, a date and gaps. One estimator compresses it to two
numbers a row, fills its gaps, and draws new rows, which are compared with the real ones.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes

from skae import TableAutoencoder

# %%
# A table
# -------
# The patients are scikit-learn's. Sex becomes a category, blood pressure a grade, and each patient
# gets a date. A tenth of all cells is removed.


def patients() -> pd.DataFrame:
    """Return 442 patients without gaps."""
    frame = load_diabetes(as_frame=True, scaled=False).frame
    pressure = pd.cut(frame["bp"], [0, 85, 100, 200], labels=["low", "normal", "high"])
    start = pd.Timestamp("2003-01-06")
    return pd.DataFrame(
        {
            "age": frame["age"].astype(int),
            "sex": frame["sex"].map({1: "female", 2: "male"}),
            "body mass index": frame["bmi"],
            "blood pressure": pressure,
            "cholesterol": frame["s1"].astype(int),
            "high-density lipoprotein": frame["s3"],
            "glucose": frame["s6"].astype(int),
            "visit": start + pd.to_timedelta(7 * (frame["age"] - 18), unit="D"),
            "progression": frame["target"].astype(int),
        }
    )


def with_gaps(frame: pd.DataFrame, share: float = 0.1) -> pd.DataFrame:
    """Remove a share of the cells, at random."""
    return frame.mask(np.random.default_rng(0).random(frame.shape) < share)


# %%
# Fit, fill, draw
# ---------------
# All three come from the same fit.

COMPLETE = patients()
GAPS = with_gaps(COMPLETE)
NUMBERS = ["age", "body mass index", "cholesterol", "high-density lipoprotein", "glucose"]


def draw_marginals(axes: list[plt.Axes], tables: dict[str, pd.DataFrame]) -> None:
    """Draw the distribution of a number and of a category in each table."""
    bins = np.linspace(15, 45, 21)
    for i, (name, table) in enumerate(tables.items()):
        axes[0].hist(
            table["body mass index"].dropna(),
            bins,
            density=True,
            histtype="step",
            linewidth=1.8,
            color=f"C{i}",
            label=name,
        )
        share = table["blood pressure"].value_counts(normalize=True)
        grades = ["low", "normal", "high"]
        places = np.arange(3) + 0.25 * (i - 1)
        axes[1].bar(places, share.reindex(grades), 0.23, color=f"C{i}")
    axes[0].set(xlabel="body mass index", ylabel="density")
    axes[1].set(xlabel="blood pressure", ylabel="share of the rows")
    axes[1].set_xticks(range(3), ["low", "normal", "high"])
    axes[0].legend(frameon=False)


def draw_correlations(axes: list[plt.Axes], tables: dict[str, pd.DataFrame]) -> None:
    """Draw the correlations of the numbers in each table."""
    short = ["age", "bmi", "chol.", "hdl", "gluc.", "progr."]
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        image = axis.imshow(table[[*NUMBERS, "progression"]].corr(), vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set_title(f"correlations: {name}")
        axis.set_xticks(range(6), short, rotation=60)
        axis.set_yticks(range(6), short)
    axes[-1].figure.colorbar(image, ax=axes, shrink=0.8)


def draw(model: TableAutoencoder) -> Figure:
    """Show codes, marginals and correlations."""
    tables = {
        "real, with gaps": GAPS,
        "gaps filled by draws": model.impute(GAPS, 1, random_state=0)[0],
        "drawn rows": model.sample(len(GAPS), random_state=0),
    }
    figure = plt.figure(figsize=(11, 6.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1)
    first, second, third = top.subplots(1, 3)
    codes = model.transform(GAPS)
    points = first.scatter(*codes.T, c=COMPLETE["progression"], s=12, cmap="viridis")
    first.set(xlabel="code 1", ylabel="code 2", title="codes of rows with gaps")
    figure.colorbar(points, ax=first, label="progression")
    draw_marginals([second, third], tables)
    draw_correlations(list(bottom.subplots(1, 3)), tables)
    return figure


def main() -> None:
    """Print how well gaps are filled, and save the figure."""
    parser = argparse.ArgumentParser(description="Compress, fill and draw a table with gaps.")
    parser.add_argument("--output", default="mixed_table.png", help="file of the figure")
    args = parser.parse_args()
    model = TableAutoencoder(n_components=2, random_state=0).fit(GAPS)
    filled, removed = model.impute(GAPS), GAPS.isna()
    print("error of filled numbers, in standard deviations (the mean has 1)")
    for name in NUMBERS:
        error = (filled[name] - COMPLETE[name])[removed[name]]
        print(f"  {name:<26}{np.sqrt(np.mean(error**2)) / COMPLETE[name].std():.2f}")
    is_right = (filled["sex"] == COMPLETE["sex"])[removed["sex"]]
    print(f"  {'sex':<26}{1 - is_right.mean():.2f} of the gaps wrong")
    print(model.sample(3, random_state=0, condition={"sex": "female", "age": (30, 40)}))
    draw(model).savefig(args.output, dpi=150)
    print(f"figure saved to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
