"""How long should a fit take? Error on new rows against seconds, for tables of many sizes.

Run from the root of the repository::

    python examples/benchmarks/learning_curves.py
    python examples/benchmarks/learning_curves.py --seeds 2 --plot curves.png --output curves.json
    python examples/benchmarks/learning_curves.py --only 10000x200 --factors 1 --batch-sizes 32 128

Protocol. The learning rate rises and falls once over a fit, so a curve is a set of whole fits, each
with a cycle of its own: ``max_epochs`` is a multiple (``--factors``) of the number that "auto"
takes. All other parameters have their defaults, but ``latent_density="gaussian"``, as the time of
the mixture does not depend on the training. *Error* is the squared error on rows that no fit has
seen over that of PCA, the geometric mean over the seeds; *spread* is the largest over the smallest
error of the seeds. Synthetic rows are curved functions of a few numbers plus noise, those of
``speed.py``, with 5,000 new rows (1,000 for the smallest). Digits come with scikit-learn
(standardised, 30 % new rows), Fashion-MNIST from ``--fashion-dir`` where its files are at hand
(60,000 training images, 5,000 of the test images). *Seconds* are of the processor, the whole fit,
one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_vs_pca import (
    FASHION_DIR,
    Table,
    bundled_tables,
    describe_machine,
    fit_pca,
    geometric_mean,
    load_images,
    squared_error,
)
from sklearn.model_selection import train_test_split
from speed import make_rows, print_table
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer
from skae._training.trainer import auto_max_epochs

Record = dict[str, Any]
Rows = tuple[np.ndarray, np.ndarray]  # for training, for testing


# -- rows --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A table, and the size of the code.

    Parameters
    ----------
    name : str
    k : int
    make : callable
        ``() -> (training rows, new rows)``.
    """

    name: str
    k: int
    make: Callable[[], Rows]


def curved_rows(n_rows: int, n_columns: int) -> Rows:
    """Synthetic rows; the new ones are of the same surface."""
    X = make_rows(n_rows + (5000 if n_rows >= 1000 else 1000), n_columns).astype(np.float64)
    return X[:n_rows], X[n_rows:]


def digits() -> Rows:
    """Digits, as in ``quality_vs_pca.py``."""
    (table,) = [table for table in bundled_tables() if table.name == "digits"]
    X = table.X[:, np.ptp(table.X, axis=0) > 0]
    parts = train_test_split(np.arange(len(X)), test_size=0.3, random_state=0)
    return Table("digits", "real", X).scaled(*parts)


def fashion(directory: Path) -> Rows:
    """Fashion-MNIST."""
    return load_images(directory, "train")[0], load_images(directory, "t10k")[0][:5000]


def curves(fashion_dir: Path) -> Iterator[Curve]:
    """Tables, from few rows to many."""
    shapes = [(300, 10, 3), (1000, 20, 5), (3000, 20, 5), (10_000, 30, 8), (10_000, 200, 8)]
    shapes += [(30_000, 50, 8), (100_000, 30, 8)]
    for n_rows, n_columns, k in shapes:
        yield Curve(f"{n_rows}x{n_columns}", k, partial(curved_rows, n_rows, n_columns))
    yield Curve("digits", 15, digits)
    if fashion_dir.is_dir():
        yield Curve("fashion", 16, partial(fashion, fashion_dir))
    else:
        print(f"fashion skipped: no folder {fashion_dir}; see --fashion-dir")


# -- measures ----------------------------------------------------------------------------


def auto_epochs(n_rows: int) -> int:
    """Number of epochs that "auto" takes; a tenth of the rows is held out from 500 rows on."""
    return auto_max_epochs(n_rows if n_rows < 500 else int(0.9 * n_rows), from_pca=True)


def measure(curve: Curve, args: argparse.Namespace) -> list[Record]:
    """Fit with several numbers of epochs and batch sizes; print each fit as it is done."""
    X, X_new = curve.make()
    reference = squared_error(fit_pca(X, curve.k, 0), X_new)
    auto = auto_epochs(len(X))
    records = []
    for batch_size in args.batch_sizes:
        for factor in args.factors:
            epochs = max(1, round(factor * auto))
            for seed in range(args.seeds):
                model = AutoencoderTransformer(
                    n_components=curve.k,
                    max_epochs=epochs,
                    batch_size=batch_size,
                    latent_density="gaussian",
                    random_state=seed,
                )
                start = time.process_time()
                model.fit(X)
                seconds = time.process_time() - start
                record = {"table": curve.name, "shape": X.shape, "k": curve.k, "factor": factor}
                record |= {"batch_size": batch_size, "epochs": epochs, "seed": seed}
                record |= {"seconds": seconds, "ratio": squared_error(model, X_new) / reference}
                records.append(record)
                shown = f"{epochs:5d} epochs  batch {batch_size!s:4s}  seed {seed}"
                result = f"{record['ratio']:.4f}  {seconds:7.2f} s"
                print(f"{curve.name:10s} {shown}  {result}", flush=True)
    return records


def points(records: Sequence[Record], table: str) -> list[Record]:
    """Means over the seeds for each batch size and number of epochs of a table."""
    means = []
    found = [r for r in records if r["table"] == table]
    for batch_size, factor in dict.fromkeys((r["batch_size"], r["factor"]) for r in found):
        some = [r for r in found if (r["batch_size"], r["factor"]) == (batch_size, factor)]
        ratios = np.array([r["ratio"] for r in some])
        means.append(
            {
                **some[0],
                "ratio": geometric_mean(ratios),
                "spread": float(ratios.max() / ratios.min()),
                "seconds": float(np.mean([r["seconds"] for r in some])),
            }
        )
    return means


# -- report ------------------------------------------------------------------------------


def print_curves(records: Sequence[Record]) -> None:
    """Print a line for each number of epochs of each table."""
    rows = []
    for table in dict.fromkeys(r["table"] for r in records):
        found = points(records, table)
        best = min(p["ratio"] for p in found)
        for p in found:
            line = [table, f"{p['k']}", f"{p['batch_size']}", f"{p['epochs']}"]
            line += ["auto" if p["factor"] == 1 else f"x {p['factor']:g}"]
            line += [f"{p['ratio']:.4f}", f"{100 * (p['spread'] - 1):.1f}"]
            rows.append([*line, f"{100 * (p['ratio'] / best - 1):+.1f}", f"{p['seconds']:.2f}"])
    columns = ["table", "k", "batch", "epochs", "", "error", "spread %", "to best %", "seconds"]
    print_table("Error on new rows over PCA's", columns, rows)


def plot(records: Sequence[Record], path: Path) -> None:
    """Draw a curve for each table: percent above its lowest error; "auto" is filled."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    names = list(dict.fromkeys(r["table"] for r in records))
    colors = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(names)))
    for name, color in zip(names, colors, strict=True):
        found = [p for p in points(records, name) if p["batch_size"] == "auto"]
        best = min(p["ratio"] for p in found)
        for some, style in (
            (found, {"mfc": "white", "ms": 4, "lw": 1.2, "ls": "-"}),
            ([p for p in found if p["factor"] == 1], {"ms": 8, "ls": "", "label": shown(name)}),
        ):
            excess = [100 * (p["ratio"] / best - 1) for p in some]
            axes.plot([p["seconds"] for p in some], excess, marker="o", color=color, **style)
    axes.set(xscale="log", xlabel="seconds of the fit, one core", ylabel="% above the lowest error")
    axes.set_ylim(-0.5, 14.5)
    axes.legend(fontsize=8, title="filled: the default", title_fontsize=8, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    print(f"figure saved to {path}", file=sys.stderr)


def shown(name: str) -> str:
    """Name of a table, or its shape in words."""
    return " × ".join(f"{int(n):,}" for n in name.split("x")) if name[0].isdigit() else name


def batch_size(text: str) -> int | str:
    """Read "auto" or a number."""
    return text if text == "auto" else int(text)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="TABLE", help="names of tables")
    parser.add_argument("--factors", nargs="+", type=float, default=[0.125, 0.25, 0.5, 1, 2, 4])
    parser.add_argument("--batch-sizes", nargs="+", type=batch_size, default=["auto"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--plot", type=Path, help="figure of the curves")
    parser.add_argument("--output", type=Path, help="JSON file of all fits")
    parser.add_argument("--add", nargs="+", type=Path, default=[], help="earlier JSON files")
    return parser.parse_args()


def main() -> None:
    """Measure, print, draw, write."""
    args = parse_arguments()
    machine = describe_machine(1)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    torch.set_num_threads(1)
    records: list[Record] = [r for path in args.add for r in json.loads(path.read_text())["fits"]]
    with threadpool_limits(1):
        AutoencoderTransformer(max_epochs=2).fit(make_rows(600, 5))  # untimed
        for curve in curves(args.fashion_dir):
            if args.only is None or curve.name in args.only:
                records += measure(curve, args)
    print_curves(records)
    if args.plot:
        plot(records, args.plot)
    if args.output:
        args.output.write_text(json.dumps({**machine, "fits": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
