"""
Compress, fill and draw a table with categories and gaps
========================================================

A table of patients has numbers, categories, dates and gaps. One ``TableAutoencoder`` compresses it
to two numbers a row, fills its gaps, and draws new rows, which are compared with the real ones.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes

from skae import TableAutoencoder

# %%
# A table
# -------
# The patients are scikit-learn's. Sex becomes a category, blood pressure an ordered category, and
# each patient gets a date of birth that suits the age. A tenth of all cells is removed.


def patients() -> pd.DataFrame:
    """Return 442 patients without gaps."""
    frame = load_diabetes(as_frame=True, scaled=False).frame
    days = np.random.default_rng(0).integers(0, 365, len(frame)) + 365 * frame["age"]
    table = pd.DataFrame(
        {
            "age": frame["age"].astype(int),
            "born": pd.Timestamp("2003-12-31") - pd.to_timedelta(days, unit="D"),
            "sex": frame["sex"].map({1: "female", 2: "male"}),
            "bmi": frame["bmi"],
            "pressure": pd.cut(frame["bp"], [0, 85, 100, 200], labels=["low", "normal", "high"]),
            "cholesterol": frame["s1"].astype(int),
            "hdl": frame["s3"],
            "glucose": frame["s6"].astype(int),
            "progression": frame["target"].astype(int),
        }
    )
    return table.convert_dtypes()  # integers that may have gaps


complete = patients()
numbers = ["age", "bmi", "cholesterol", "hdl", "glucose", "progression"]
with_gaps = complete.mask(np.random.default_rng(0).random(complete.shape) < 0.1)
print(with_gaps.head())

# %%
# Fit once
# --------
# The table goes in as it is: no encoder, no imputer, no scaler. Gaps are not guessed before the
# fit, and the codes have none.

model = TableAutoencoder(n_components=2, random_state=0).fit(with_gaps)
codes = model.transform(with_gaps)
print(codes.shape, "codes,", np.isnan(codes).sum(), "gaps")

# %%
# Fill gaps
# ---------
# ``impute`` fills numbers with their mean and categories with the likeliest one, given the rest of
# the row. Age and date of birth fill each other best; the other columns say less about each
# other.

filled, removed = model.impute(with_gaps), with_gaps.isna()
print("error of filled numbers, in standard deviations (the mean has 1)")
for name in numbers:
    error = (filled[name] - complete[name])[removed[name]].astype(float)
    print(f"  {name:<12}{np.sqrt(np.mean(error**2)) / complete[name].std():.2f}")
for name in ("sex", "pressure"):
    wrong = filled[name].astype(str) != complete[name].astype(str)
    print(f"  {name:<12}{wrong[removed[name]].mean():.0%} of the gaps wrong")

# %%
# Draw rows
# ---------
# Drawn rows come back with the same columns and dtypes. All of them hold the condition. The exact
# rule between age and date of birth holds only roughly: compute such a column afterwards.

print(model.sample(5, random_state=0, condition={"sex": "female", "age": (30, 40)}))

# %%
# Beside the real table
# ---------------------
# The filled table has one draw in each gap. Draws keep variances and correlations; means would
# not. Above: codes, the distribution of a number and that of a category. Below: correlations of
# the numbers.

tables = {
    "real, with gaps": with_gaps,
    "gaps filled by draws": model.impute(with_gaps, 1, random_state=0)[0],
    "drawn rows": model.sample(len(with_gaps), random_state=0),
}
COLOURS = "#555555", "#0072B2", "#D55E00"  # as in Okabe and Ito


def draw_marginals(left: Axes, right: Axes) -> None:
    """Plot the distribution of a number and of a category in each table."""
    bins = np.linspace(15, 45, 16)
    grades = ["low", "normal", "high"]
    for i, (name, table) in enumerate(tables.items()):
        rows = table["bmi"].dropna().astype(float)
        style = {"color": COLOURS[i], "linestyle": ("-", "--", "-")[i]}
        left.hist(rows, bins, density=True, histtype="step", linewidth=1.6, **style)
        share = table["pressure"].value_counts(normalize=True).reindex(grades)
        right.bar(np.arange(3) + 0.27 * (i - 1), share, 0.25, color=COLOURS[i], label=name)
    left.set(xlabel="body mass index", ylabel="density", title="a number")
    right.set(xlabel="blood pressure", ylabel="share of the rows", title="a category")
    right.set_xticks(range(3), grades)


def draw_correlations(axes: list[Axes]) -> None:
    """Show the correlations of the numbers in each table."""
    places = range(len(numbers))
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        image = axis.imshow(table[numbers].corr(), vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set_title(name)
        axis.set_xticks(places, numbers, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(places, numbers if axis is axes[0] else [])
    axes[0].figure.colorbar(image, ax=axes, shrink=0.8, label="correlation")


def draw() -> Figure:
    """Show codes, marginals and correlations."""
    figure = plt.figure(figsize=(11, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1)
    first, second, third = top.subplots(1, 3)
    progression = complete["progression"].astype(float)
    points = first.scatter(*codes.T, c=progression, s=12, cmap="viridis")
    first.set(xlabel="code 1", ylabel="code 2", title="codes of rows with gaps")
    top.colorbar(points, ax=first, label="progression")
    draw_marginals(second, third)
    top.legend(loc="outside lower center", ncols=3, frameon=False)
    draw_correlations(list(bottom.subplots(1, 3)))
    return figure


figure = draw()

# %%
# As a script, this page saves its figure; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Compress, fill and draw a table with gaps.")
    parser.add_argument("--output", default="mixed_table.png", help="file of the figure")
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {output}", file=sys.stderr)
