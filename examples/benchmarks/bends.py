"""Why do linear models read an autoencoder's codes worse than PCA's? The figure of the design page.

Run from the root of the repository::

    python examples/benchmarks/bends.py --plot bends.png
    python examples/benchmarks/bends.py --tables DIR --jobs 2 --plot bends.png

A code z = V x + f(x) restores rows better than PCA's scores V x because f moves it, and what f
moves, a linear model no longer finds. *Kept* is the share of PCA's scores that it still finds: R²
of the scores of test rows, predicted by least squares from their codes, averaged over components.

Left: where the grid of PCA's first two scores goes in the code, for rows on PCA's plane, without
stochastic depth and with the default. Right: the gain of the linear reader over PCA's codes against
the share kept, a line for every pair of a table and a number of components, from no stochastic
depth (hollow) to the default (filled). Tables, splits and readers are those of ``downstream.py``.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from downstream import (
    Record,
    encoded,
    five_tables,
    folder_tables,
    pca,
    prepared,
    scores,
    sizes,
    split_of,
    target_of,
)
from joblib import Parallel, delayed
from matplotlib.axes import Axes
from quality_vs_pca import Table
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer

DEPTHS: dict[str, Any] = {"none": 0.0, "default": "auto"}
GRID = np.linspace(-2, 2, 9)  # standard deviations of PCA's scores
COLORS = {"classes": "#0072B2", "quantity": "#D55E00"}


def fitted(X: np.ndarray, k: int, depth: Any, seed: int) -> AutoencoderTransformer:
    """Fit an autoencoder, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoencoderTransformer(k, stochastic_depth=depth, random_state=seed).fit(X)


def measure(table: Table, split: int) -> list[Record]:
    """Gain and share kept, for every size and depth, on one split."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return [record for k in sizes(table.X.shape[1]) for record in measured(table, k, split)]


def measured(table: Table, k: int, split: int) -> list[Record]:
    """Records of one number of components."""
    X, y = split_of(table, split)
    linear = pca(k).fit(X[0])
    of_pca = encoded(linear, k, *X)
    base = scores(of_pca, y, ["linear"], split)["linear"]
    records = []
    for name, depth in DEPTHS.items():
        Z = encoded(fitted(X[0], k, depth, split), k, *X)
        predicted = LinearRegression().fit(Z[0], of_pca[0]).predict(Z[1])
        records.append(
            {
                "table": table.name,
                "target": target_of(table.y),
                "k": k,
                "depth": name,
                "kept": r2_score(of_pca[1], predicted),
                "gain": scores(Z, y, ["linear"], split)["linear"] - base,
            }
        )
    return records


def means(records: Sequence[Record]) -> dict[tuple[str, int, str], dict[str, np.ndarray]]:
    """Mean over splits of the share kept and of the gain, by pair; for both depths."""
    found: dict[tuple[str, int, str], dict[str, list[Any]]] = {}
    for r in records:
        of_pair = found.setdefault((r["table"], r["k"], r["target"]), {name: [] for name in DEPTHS})
        of_pair[r["depth"]].append((r["kept"], r["gain"]))
    return {
        pair: {name: np.mean(values, axis=0) for name, values in of_pair.items()}
        for pair, of_pair in found.items()
    }


def draw_grid(ax: Axes, table: Table, depth: Any, title: str) -> None:
    """Draw where the grid of PCA's scores goes in the code, over the codes of the rows."""
    (X, _), _ = split_of(table, 0)
    linear, model = pca(2).fit(X), fitted(X, 2, depth, 0)
    deviations = np.sqrt(linear.explained_variance_)
    ax.scatter(*model.transform(X).T, s=3, color="0.75", linewidths=0)
    fine = np.linspace(GRID[0], GRID[-1], 200)
    for value in GRID:
        fixed = np.full_like(fine, value)
        for points, color in (((fixed, fine), "#0072B2"), ((fine, fixed), "#D55E00")):
            rows = linear.inverse_transform(np.column_stack(points) * deviations)
            ax.plot(*model.transform(rows).T, color=color, linewidth=0.9)
    ax.set(title=title, xlabel="first component of the code", ylabel="second component")


def draw_gains(ax: Axes, by_pair: dict[tuple[str, int, str], dict[str, np.ndarray]]) -> None:
    """Draw the gain of the linear reader against the share kept."""
    for (_, _, target), of_pair in by_pair.items():
        (kept, gain), (kept_now, gain_now) = of_pair["none"], of_pair["default"]
        color = COLORS[target]
        ax.plot([kept, kept_now], [gain, gain_now], color=color, linewidth=0.6, alpha=0.6)
        ax.plot(kept, gain, "o", color=color, markersize=4, fillstyle="none")
        ax.plot(kept_now, gain_now, "o", color=color, markersize=4)
    for target, color in COLORS.items():
        ax.plot([], [], "o", color=color, markersize=4, label=target)
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set(
        title="What a linear reader gains",
        xlabel="share of PCA's scores kept (R²)",
        ylabel="gain over PCA's codes (points)",
    )
    ax.legend(frameon=False, loc="upper left")


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, help="folder of further tables")
    parser.add_argument("--grid", default="diabetes", help="table on the left")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plot", type=Path, default=Path("bends.png"))
    args = parser.parse_args()
    tables = [prepared(table) for table in [*five_tables(), *folder_tables(args.tables)]]
    jobs = [delayed(measure)(table, split) for table in tables for split in range(args.splits)]
    by_pair = means([r for some in Parallel(n_jobs=args.jobs)(jobs) for r in some])
    print("| table | k | target | kept, none | kept, default | gain, none | gain, default |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for (name, k, target), of_pair in sorted(by_pair.items(), key=lambda e: e[1]["none"][1]):
        (kept, gain), (kept_now, gain_now) = of_pair["none"], of_pair["default"]
        if kept < 1:
            print(
                f"| {name} | {k} | {target} | {kept:.2f} | {kept_now:.2f} | {gain:+.1f} "
                f"| {gain_now:+.1f} |"
            )
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    grid = next(table for table in tables if table.name == args.grid)
    draw_grid(axes[0], grid, 0.0, f"{args.grid}: no stochastic depth")
    draw_grid(axes[1], grid, "auto", f"{args.grid}: the default")
    draw_gains(axes[2], {pair: its for pair, its in by_pair.items() if its["none"][0] < 1})
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.plot, dpi=150)
    print(f"figure saved to {args.plot}", file=sys.stderr)


if __name__ == "__main__":
    main()
