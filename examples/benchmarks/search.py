"""Time of a search for the number of components, and whether it chooses the same.

``--parts speed``: `LatentDimensionSearch`, `GridSearchCV` over the same estimator, and a loop
written by hand in PyTorch, run for every candidate and fold by two processes. All train the
same networks for the same epochs on the same folds; search and grid also fit the best candidate
to all rows, the loop does not. Methods take turns; printed are medians. Worker processes are
started before the clock. Rows are a noisy curved surface of five dimensions.

``--parts choose``: the number of components that is chosen when the folds are trained in one batch
(*together*), when they are trained one by one, and the latter with another random state.

    python examples/benchmarks/search.py
    python examples/benchmarks/search.py --parts choose --tables DIR
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import AutoencoderTransformer, LatentDimensionSearch
from skae._training.trainer import auto_batch_size, auto_max_epochs

CANDIDATES = [2, 4, 8, 16, 32]
N_FOLDS = 5
SIZES = {"1000x20": (1_000, 20), "5000x30": (5_000, 30), "20000x100": (20_000, 100)}
HIDDEN = 128
SHOWN = "table", "method", "processes", "seconds", "to search"


def make_rows(n_rows: int, n_columns: int, n_latent: int = 5) -> np.ndarray:
    """Noisy points on a curved surface."""
    random = np.random.default_rng(0)
    codes = random.normal(size=(n_rows, n_latent))
    surface = np.tanh(codes @ random.normal(size=(n_latent, n_columns)))
    return surface + 0.1 * random.normal(size=(n_rows, n_columns))


def candidates_for(X: np.ndarray) -> list[int]:
    """Candidates below the number of features."""
    return [k for k in CANDIDATES if k < X.shape[1]]


# -- the loop ----------------------------------------------------------------------


def run_loop(
    X: np.ndarray, train: np.ndarray, test: np.ndarray, k: int, epochs: int | None
) -> float:
    """Train one network by hand; return the share of variance explained of other rows.

    Rows in memory, batches by index, fused AdamW, one-cycle learning rate, a tenth of the
    rows held out after each epoch, the best weights kept; one thread, the faster number here.
    """
    torch.set_num_threads(1)
    mean = X[train].mean(axis=0)
    scale = np.sqrt(np.square(X[train] - mean).mean())
    rows = torch.tensor((X[train] - mean) / scale, dtype=torch.float32)
    torch.manual_seed(0)
    rows = rows[torch.randperm(len(rows))]
    n_held_out = len(rows) // 10
    held_out, rows = rows[:n_held_out], rows[n_held_out:]
    d, batch_size = X.shape[1], auto_batch_size(len(rows), from_pca=True)
    epochs = epochs or auto_max_epochs(len(rows), from_pca=True)
    network = nn.Sequential(
        *(nn.Linear(d, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, k)),
        *(nn.Linear(k, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, d)),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.05, fused=True)
    n_steps = -(-len(rows) // batch_size) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=n_steps)
    best, kept = float("inf"), None
    for _ in range(epochs):
        for index in torch.randperm(len(rows)).split(batch_size):
            batch = rows[index]
            optimizer.zero_grad(set_to_none=True)
            (network(batch) - batch).square().sum(1).mean().backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            loss = float((network(held_out) - held_out).square().sum(1).mean())
        if loss < best:
            best, kept = loss, {n: p.detach().clone() for n, p in network.state_dict().items()}
    network.load_state_dict(kept)
    others = torch.tensor((X[test] - mean) / scale, dtype=torch.float32)
    with torch.no_grad():
        return float(1 - (network(others) - others).square().sum() / others.square().sum())


def loop(X: np.ndarray, n_jobs: int, epochs: int | None) -> None:
    """Run the loop for every candidate and fold, the slowest first."""
    splits = list(KFold(N_FOLDS).split(X))
    Parallel(n_jobs)(
        delayed(run_loop)(X, train, test, k, epochs)
        for k in reversed(candidates_for(X))
        for train, test in splits
    )


# -- skae --------------------------------------------------------------------------


def make_estimator(epochs: int | None) -> AutoencoderTransformer:
    """Make the estimator of both searches."""
    return AutoencoderTransformer(max_epochs=epochs or "auto", random_state=0)


def search(X: np.ndarray, n_jobs: int, epochs: int | None) -> None:
    """Search with `LatentDimensionSearch`, which trains in one batch."""
    LatentDimensionSearch(make_estimator(epochs), candidates_for(X), cv=N_FOLDS, n_jobs=n_jobs).fit(
        X
    )


def grid(X: np.ndarray, n_jobs: int, epochs: int | None) -> None:
    """Search by scikit-learn's own search."""
    GridSearchCV(
        make_estimator(epochs), {"n_components": candidates_for(X)}, cv=N_FOLDS, n_jobs=n_jobs
    ).fit(X)


METHODS: dict[str, tuple[Callable[..., None], int]] = {
    "search": (search, 2),
    "search, one process": (search, 1),
    "GridSearchCV": (grid, 2),
    "GridSearchCV, one process": (grid, 1),
    "loop by hand": (loop, 2),
}


def measure_speed(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of each method on each table."""
    records = []
    for name in args.sizes:
        X = make_rows(*SIZES[name])
        for function, n_jobs in METHODS.values():  # workers start, libraries are loaded
            function(X[:200], n_jobs, 1)
        seconds: dict[str, list[float]] = {method: [] for method in args.methods}
        for _ in range(args.repeats):
            for method, its in seconds.items():
                function, n_jobs = METHODS[method]
                started = time.perf_counter()
                function(X, n_jobs, args.epochs)
                its.append(time.perf_counter() - started)
        medians = {method: float(np.median(its)) for method, its in seconds.items()}
        for method, median in medians.items():
            ratio = median / medians.get("search", np.nan)
            records.append(
                {
                    "table": name,
                    "method": method.split(",")[0],
                    "processes": METHODS[method][1],
                    "seconds": median,
                    "to search": ratio,
                    "all": seconds[method],
                }
            )
    return records


# -- what is chosen ----------------------------------------------------------------


def tables(directory: Path | None) -> dict[str, np.ndarray]:
    """Standardised real tables: those that scikit-learn has, and some of a folder."""
    found = {
        "breast_cancer": load_breast_cancer().data,
        "digits": load_digits().data,
        "wine": load_wine().data,
        "diabetes": load_diabetes(scaled=False).data,
    }
    if directory is not None:
        for path in sorted(directory.glob("*.csv")):
            rows = np.genfromtxt(path, delimiter=",", skip_header=1)
            rows = rows[:, np.isfinite(rows).all(axis=0)]
            if 300 < len(rows) <= 2_000 and 6 <= rows.shape[1] <= 64:
                found[path.stem] = rows
    random = np.random.default_rng(0)
    return {
        name: StandardScaler().fit_transform(random.permutation(X)) for name, X in found.items()
    }


def measure_choice(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Chosen numbers of components, and how far mean scores are apart, in standard errors."""
    records = []
    for name, X in tables(args.tables).items():
        fitted = [
            LatentDimensionSearch(
                AutoencoderTransformer(max_epochs=args.epochs or "auto", random_state=seed),
                candidates_for(X),
                together=together,
                refit=False,
                n_jobs=2,
            ).fit(X)
            for together, seed in ((True, 0), (False, 0), (False, 1))
        ]
        means = [one.cv_results_["mean_test_score"] for one in fitted]
        errors = fitted[1].cv_results_["std_test_score"] / np.sqrt(N_FOLDS)
        records.append(
            {
                "table": f"{name} {X.shape[0]}x{X.shape[1]}",
                "together": fitted[0].n_components_,
                "alone": fitted[1].n_components_,
                "other seed": fitted[2].n_components_,
                "apart": float(np.max(np.abs(means[0] - means[1]) / errors)),
                "apart, other seed": float(np.max(np.abs(means[0] - means[2]) / errors)),
            }
        )
    return records


def print_table(records: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print records as a Markdown table."""
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for record in records:
        cells = (f"{v:.2f}" if isinstance(v := record[c], float) else str(v) for c in columns)
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=["speed", "choose"], default=["speed"])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["1000x20", "5000x30"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="instead of those that the defaults give")
    parser.add_argument("--tables", type=Path, help="folder of CSV files, in numbers")
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {os.cpu_count()} cores")
    results = {}
    if "speed" in args.parts:
        results["speed"] = measure_speed(args)
        print_table(results["speed"], SHOWN)
    if "choose" in args.parts:
        results["choose"] = measure_choice(args)
        print_table(results["choose"], list(results["choose"][0]))
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
