"""What does a model gain when it reads skae's codes instead of PCA's? Four readers, every loss.

Run from the root of the repository::

    python examples/benchmarks/downstream.py
    python examples/benchmarks/downstream.py --tables DIR --jobs 2 --output results.json
    python examples/benchmarks/downstream.py --only AutoencoderTransformer --splits 1
    python examples/benchmarks/downstream.py --from results.json --plot gains.png

Protocol. Tables are scikit-learn's five and, with ``--tables DIR``, those of a folder
(``*.csv``, ``*.csv.gz``: columns of numbers, then ``target``, of which text means classes and
numbers a quantity). Columns constant over the table are dropped, and so are the rows of classes
with fewer than five; of more than 4,000 rows, as many are drawn by
``default_rng(0).permutation``. k runs over the distinct values of {2, max(2, d // 4)} below d. A
table and a k make a pair. Split s holds 40 % of the rows out (``random_state=s``, stratified for
classes), and s is the ``random_state`` of every model too. Columns are standardised on the
training rows, and test rows clipped to ±10. Reducers and readers are fitted on the training
rows; every figure is of the test rows.

Codes. Those of PCA and of the reducers that ``--only`` names, at their defaults: kinds of skae, and
supervised reducers of scikit-learn: ``LDA`` (at most as many components as classes, less one) and
``NCA`` for classes, ``PLS`` for quantities. Besides, ``raw``: all columns, no reducer; and
``baseline``: always the most frequent class, or the mean (under ``linear`` only). Every reducer is
given the target, as a Pipeline does; most ignore it. Names may have parameters:
``--only AutoencoderTransformer:stochastic_depth=0.3 VAETransformer:target_weight=1``.

Readers, on codes standardised on the training rows: ``linear`` (logistic regression, or ridge
with a penalty chosen on the training rows), ``neighbors`` (the 10 nearest), ``trees`` (gradient
boosting on histograms) and ``svm`` (radial kernel; quantities are standardised for it).

Measures. *Score*: accuracy or R², times 100. *Gain*: score minus that with PCA's codes on the
same split, in points, averaged over the splits of a pair, with a 95 % interval corrected for
training rows that splits share (Nadeau and Bengio, 2003,
https://doi.org/10.1023/A:1024068626366); a gain is *significant* if its interval leaves 0 out.
No correction is made for the number of pairs: of 40 pairs without a gain, two look significant.
*Error*: squared error of the restored rows over that of PCA, geometric mean over the splits.
*Trustworthiness*: whether neighbours among the codes of (at most 1,000) rows are neighbours among
the rows, 1 at best. *Fit*: seconds of wall time of one fit on one thread.

``--from`` prints and draws what earlier runs wrote, without a fit. Of several files, the later
ones replace what the earlier say of the same reducer, table, k and split.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floor import TOLERATED, squares, standardized
from joblib import Parallel, delayed
from quality_vs_pca import MAX_ROWS, Table, bundled_tables, describe_machine
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.manifold import trustworthiness
from sklearn.model_selection import train_test_split
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    NeighborhoodComponentsAnalysis,
)
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from threadpoolctl import threadpool_limits

from skae import (
    AutoencoderTransformer,
    DenoisingAutoencoder,
    StackedAutoencoder,
    VAETransformer,
)

MIN_CLASS = 5  # rows
MAX_TRUSTED = 1000  # rows of which trustworthiness is computed
LEVEL = 0.95  # of the intervals
LOSS = -2.0  # points; pairs below are counted
TARGETS = "classes", "quantity"
Record = dict[str, Any]


# -- reducers and readers ----------------------------------------------------------------


@dataclass(frozen=True)
class Reducer:
    """How to make a reducer, and the targets that it can be fitted to.

    Parameters
    ----------
    make : callable
        From the number of components and the seed to an estimator.
    targets : sequence of {"classes", "quantity"}
    """

    make: Callable[[int, int], BaseEstimator]
    targets: Sequence[str] = TARGETS


KINDS = {
    "AutoencoderTransformer": AutoencoderTransformer,
    "DenoisingAutoencoder": DenoisingAutoencoder,
    "StackedAutoencoder": StackedAutoencoder,
    "VAETransformer": VAETransformer,
}
OTHERS = {
    # It makes all components that there are; `encoded` keeps the first k.
    "LDA": Reducer(lambda k, s: LinearDiscriminantAnalysis(), ["classes"]),
    "NCA": Reducer(lambda k, s: NeighborhoodComponentsAnalysis(k, random_state=s), ["classes"]),
    "PLS": Reducer(lambda k, s: PLSRegression(k), ["quantity"]),
}
INPUTS = "raw", "baseline"  # what else is read
FRONTIER = [f"AutoencoderTransformer:stochastic_depth={depth}" for depth in (0, 0.5, 0.7, 0.85, 1)]
DEFAULT = [*KINDS, *FRONTIER, *(f"{kind}:target_weight=1" for kind in KINDS), *OTHERS, *INPUTS]


def reducer_of(name: str) -> Reducer:
    """Find a reducer by its name; that of a kind may have parameters, ``kind:parameter=number``."""
    if name in OTHERS:
        return OTHERS[name]
    kind, *settings = name.split(":")
    parameters = {key: float(value) for key, value in (each.split("=") for each in settings)}
    return Reducer(lambda k, s: KINDS[kind](k, random_state=s, **parameters))


def reducer_name(name: str) -> str:
    """Check a name on the command line."""
    if name not in INPUTS:
        try:
            reducer_of(name).make(2, 0)
        except (KeyError, TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(
                f"{name!r} is none of {', '.join((*KINDS, *OTHERS, *INPUTS))}, nor a kind of skae "
                "with numbers for its parameters, such as VAETransformer:beta=0.5"
            ) from error
    return name


def pca(k: int) -> PCA:
    """PCA, exact."""
    return PCA(k, svd_solver="full")


READERS: dict[str, dict[str, Callable[[int], BaseEstimator]]] = {
    "linear": {
        "classes": lambda s: LogisticRegression(max_iter=300),
        "quantity": lambda s: RidgeCV(np.logspace(-3, 3, 7)),
    },
    "neighbors": {
        "classes": lambda s: KNeighborsClassifier(10),
        "quantity": lambda s: KNeighborsRegressor(10),
    },
    "trees": {
        "classes": lambda s: HistGradientBoostingClassifier(random_state=s),
        "quantity": lambda s: HistGradientBoostingRegressor(random_state=s),
    },
    "svm": {
        "classes": lambda s: SVC(),
        "quantity": lambda s: TransformedTargetRegressor(SVR(), transformer=StandardScaler()),
    },
}
BASELINES = {"classes": DummyClassifier(strategy="most_frequent"), "quantity": DummyRegressor()}


# -- tables ------------------------------------------------------------------------------


def five_tables() -> Iterator[Table]:
    """Tables of scikit-learn with their targets, without the 20 rows of linnerud."""
    for table in bundled_tables():
        if table.name == "diabetes":
            yield replace(table, y=load_diabetes().target)
        elif table.y is not None:
            yield table


def folder_tables(directory: Path | None) -> Iterator[Table]:
    """Tables of a folder with their targets."""
    for path in [] if directory is None else sorted(directory.glob("*.csv*")):
        content = np.loadtxt(path, delimiter=",", dtype=str, skiprows=1, comments=None)
        X, y = content[:, :-1].astype(float), content[:, -1]
        with contextlib.suppress(ValueError):  # of text, which names classes
            y = y.astype(float)
        yield Table(path.name.split(".")[0], "real", X, y)


def target_of(y: np.ndarray) -> str:
    """Say whether a target names classes or is a quantity."""
    return "quantity" if y.dtype.kind == "f" else "classes"


def prepared(table: Table) -> Table:
    """Drop rare classes, rows beyond the limit and constant columns."""
    X, y = table.X, table.y
    if target_of(y) == "classes":
        _, which, counts = np.unique(y, return_inverse=True, return_counts=True)
        common = counts[which] >= MIN_CLASS
        X, y = X[common], y[common]
    if len(X) > MAX_ROWS:
        rows = np.random.default_rng(0).permutation(len(X))[:MAX_ROWS]
        X, y = X[rows], y[rows]
    return replace(table, X=X[:, np.ptp(X, axis=0) > 0].astype(float), y=y)


def sizes(d: int) -> list[int]:
    """Numbers of components for a table of d columns."""
    return [k for k in sorted({2, max(2, d // 4)}) if k < d]


# -- measures ----------------------------------------------------------------------------


def split_of(table: Table, split: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Standardized training and test rows, and their targets."""
    stratify = table.y if target_of(table.y) == "classes" else None
    train, test, *y = train_test_split(
        table.X, table.y, test_size=0.4, random_state=split, stratify=stratify
    )
    return standardized(train, test), y


def encoded(reducer: Any, k: int, *parts: np.ndarray) -> list[np.ndarray]:
    """At most k components of the codes of some rows."""
    return [np.asarray(reducer.transform(X))[:, :k] for X in parts]


def scores(
    Z: Sequence[np.ndarray], y: Sequence[np.ndarray], readers: Sequence[str], seed: int
) -> Record:
    """Score of every reader; Z and y for training, then for testing."""
    scaler = StandardScaler().fit(Z[0])
    train, test = (scaler.transform(codes) for codes in Z)
    found = {}
    for name in readers:
        reader = READERS[name][target_of(y[0])](seed).fit(train, y[0])
        found[name] = 100 * float(reader.score(test, y[1]))
    return found


def measure(
    table: Table, split: int, chosen: Sequence[str], readers: Sequence[str]
) -> list[Record]:
    """Measure all chosen codes, of every size, on one split of a table, on one thread."""
    torch.set_num_threads(1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(measured(table, split, chosen, readers))


def measured(
    table: Table, split: int, chosen: Sequence[str], readers: Sequence[str]
) -> Iterator[Record]:
    """Yield the records of `measure`."""
    target = target_of(table.y)
    X, y = split_of(table, split)
    # Whatever the first fit of a process prepares is not to be counted.
    AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(X[0][:50])
    inputs: dict[str, Record] = {}
    if "raw" in chosen:
        inputs["raw"] = scores(X, y, readers, split)
    if "baseline" in chosen and "linear" in readers:
        baseline = BASELINES[target].fit(X[0], y[0])
        inputs["baseline"] = {"linear": 100 * float(baseline.score(X[1], y[1]))}

    d = table.X.shape[1]
    rows = {"n_train": len(X[0]), "n_test": len(X[1])}
    for k in sizes(d):
        where = {"table": table.name, "target": target, "d": d, "k": k, "split": split} | rows
        reference = squares(pca(k).fit(X[0]), X[1]).sum()
        for name in ["PCA", *chosen]:
            if name in inputs:
                yield where | {"reducer": name} | inputs[name]
            elif name not in INPUTS and (name == "PCA" or target in reducer_of(name).targets):
                made = pca(k) if name == "PCA" else reducer_of(name).make(k, split)
                yield where | {"reducer": name} | judged(made, k, X, y, reference, readers, split)


def judged(
    reducer: Any,
    k: int,
    X: Sequence[np.ndarray],
    y: Sequence[np.ndarray],
    reference: float,
    readers: Sequence[str],
    seed: int,
) -> Record:
    """Fit a reducer and measure it; X and y for training, then for testing."""
    start = time.perf_counter()
    reducer.fit(X[0], y[0])
    seconds = time.perf_counter() - start
    Z = encoded(reducer, k, *X)
    some = slice(MAX_TRUSTED)
    error = None
    if hasattr(reducer, "inverse_transform") and not isinstance(reducer, PCA):
        floor = np.finfo(float).eps * np.square(X[1]).sum()
        error = float((squares(reducer, X[1]).sum() + floor) / (reference + floor))
    return {
        "error": error,
        "trustworthiness": float(trustworthiness(X[1][some], Z[1][some], n_neighbors=5)),
        "seconds": seconds,
        **scores(Z, y, readers, seed),
    }


def measure_all(args: argparse.Namespace) -> Iterator[list[Record]]:
    """Yield the records of one split of a table after the other."""
    tables = [prepared(table) for table in [*five_tables(), *folder_tables(args.tables)]]
    tables = [table for table in tables if sizes(table.X.shape[1])]
    jobs = [
        delayed(measure)(table, split, args.only, args.readers)
        for table in tables
        for split in range(args.splits)
    ]
    done = Parallel(n_jobs=args.jobs, return_as="generator")(jobs)
    for i, runs in enumerate(done):
        show_progress(f"{i + 1} of {len(jobs)}: {runs[0]['table']}, split {runs[0]['split']}")
        yield runs
    show_progress("")


def show_progress(line: str) -> None:
    """Replace the line that says how far it is, where there is someone to read it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


# -- pairs and summary -------------------------------------------------------------------


def column(records: Sequence[Record], name: str) -> np.ndarray:
    """One measure of all records; nan where there is none."""
    found = [record.get(name) for record in records]
    return np.array([np.nan if value is None else value for value in found], dtype=float)


def interval(differences: np.ndarray, test_ratio: float) -> tuple[float, float]:
    """Ends of the corrected interval of the mean difference; nan for a single split."""
    n = len(differences)
    if n < 2:
        return np.nan, np.nan
    error = np.std(differences, ddof=1) * np.sqrt(1 / n + test_ratio)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * error
    return float(differences.mean() - half), float(differences.mean() + half)


def pair_results(runs: Sequence[Record], readers: Sequence[str]) -> list[Record]:
    """One record for each reducer and pair: means over splits, gains and their intervals."""
    of_pca = {(r["table"], r["k"], r["split"]): r for r in runs if r["reducer"] == "PCA"}
    grouped: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for run in runs:
        grouped[run["reducer"], run["table"], run["k"]].append(run)
    results = []
    for (_, table, k), own in grouped.items():
        theirs = [of_pca[table, k, run["split"]] for run in own]
        first = own[0]
        result = {name: first[name] for name in ("reducer", "table", "target", "d", "k")}
        gained = column(own, "trustworthiness") - column(theirs, "trustworthiness")
        result |= {
            "n_rows": first["n_train"] + first["n_test"],
            "n_splits": len(own),
            "error": float(np.exp(np.log(column(own, "error")).mean())),
            "trustworthiness_gain": float(gained.mean()),
            "seconds": float(column(own, "seconds").mean()),
            "times_pca": float(np.mean(column(own, "seconds") / column(theirs, "seconds"))),
        }
        for name in readers:
            score, gains = column(own, name), column(own, name) - column(theirs, name)
            lower, upper = interval(gains, first["n_test"] / first["n_train"])
            result[name] = {
                "score": float(score.mean()),
                "gain": float(gains.mean()),
                "lower": lower,
                "upper": upper,
            }
        results.append(result)
    return results


def known(values: np.ndarray, statistic: Callable[[np.ndarray], Any]) -> float:
    """Compute a statistic of what is not nan; nan where nothing is."""
    values = values[~np.isnan(values)]
    return float(statistic(values)) if len(values) else np.nan


def summarise(name: str, pairs: Sequence[Record], readers: Sequence[str]) -> Record:
    """Summary of the pairs of one reducer."""
    errors = column(pairs, "error")
    summary: Record = {
        "reducer": name,
        "n_pairs": len(pairs),
        "error": float(np.exp(known(np.log(errors), np.mean))),
        "error_worst": known(errors, np.max),
        "error_above": known(errors, lambda found: (found > TOLERATED).sum()),
        "trustworthiness_gain": known(column(pairs, "trustworthiness_gain"), np.mean),
        "seconds": known(column(pairs, "seconds"), np.mean),
        "times_pca": known(column(pairs, "times_pca"), np.median),
    }
    targets = np.array([pair["target"] for pair in pairs])
    for reader in readers:
        gains, lower, upper = (
            column([pair[reader] for pair in pairs], end) for end in ("gain", "lower", "upper")
        )
        summary[reader] = {
            "score": known(column([pair[reader] for pair in pairs], "score"), np.mean),
            "all": known(gains, np.mean),
            **{target: known(gains[targets == target], np.mean) for target in TARGETS},
            "worst": known(gains, np.min),
            "below": known(gains, lambda found: (found < LOSS).sum()),
            "better": known(lower, lambda found: (found > 0).sum()),
            "worse": known(upper, lambda found: (found < 0).sum()),
        }
    return summary


# -- report ------------------------------------------------------------------------------


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, of which zero has none; a dash for nan."""
    rounded = round(value, digits)
    return plain(value, digits) if rounded <= 0 or np.isnan(value) else f"+{value:.{digits}f}"


def plain(value: float, digits: int = 3) -> str:
    """A number; a dash for nan."""
    return "–" if np.isnan(value) else f"{value:z.{digits}f}".replace("-", "−")


def span(lower: float, upper: float) -> str:
    """An interval; a dash for nan."""
    return "–" if np.isnan(lower) else f"{signed(lower)} to {signed(upper)}"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown, first column to the left, the others to the right."""
    widths = [max(3, *map(len, cells)) for cells in zip(head, *rows, strict=True)]
    for i, row in enumerate([head, *rows]):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("| " + " | ".join(cells) + " |")
        if i == 0:
            rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            print("| " + " | ".join(rule) + " |")


def print_summary(summaries: Sequence[Record], readers: Sequence[str]) -> None:
    """Print what PCA's codes score, and two tables of the other reducers."""
    main, *others = readers
    n_pairs = max(s["n_pairs"] for s in summaries)
    scored = ", ".join(
        f"{reader} {plain(s[reader]['score'], 1)}"
        for s in summaries
        if s["reducer"] == "PCA"
        for reader in readers
    )
    print(f"\n{n_pairs} pairs; mean scores on PCA's codes: {scored}")
    shown = [s for s in summaries if s["reducer"] != "PCA"]
    print(f"\nRestoring, and points that the reader `{main}` gains over PCA's codes:\n")
    print_table(
        [
            *("codes", "pairs", "error over PCA's", "worst", f"above {TOLERATED}"),
            *("gain", "classes", "quantities", "worst pair", f"below {signed(LOSS, 0)}"),
            "significantly better, worse",
        ],
        [
            [
                *(s["reducer"], str(s["n_pairs"]), plain(s["error"]), plain(s["error_worst"])),
                plain(s["error_above"], 0),
                *(signed(s[main][part]) for part in ("all", *TARGETS, "worst")),
                plain(s[main]["below"], 0),
                f"{plain(s[main]['better'], 0)}, {plain(s[main]['worse'], 0)}",
            ]
            for s in shown
        ],
    )
    shown = [s for s in shown if s["reducer"] != "baseline"]
    print("\nPoints gained by other readers (on the worst pair), if any; neighbourhoods; time:\n")
    print_table(
        ["codes", *others, "trustworthiness", "fit, s", "fit, times PCA's, median"],
        [
            [
                s["reducer"],
                *(f"{signed(s[r]['all'])} ({signed(s[r]['worst'])})" for r in others),
                signed(s["trustworthiness_gain"], 3),
                plain(s["seconds"]),
                plain(s["times_pca"], 0),
            ]
            for s in shown
        ],
    )


def print_pairs(name: str, pairs: Sequence[Record], readers: Sequence[str]) -> None:
    """Print a line for each pair of a reducer, the largest loss first."""
    main, *others = readers
    print(f"\n{name}: gains over PCA's codes, and the interval of `{main}`\n")
    print_table(
        [
            *("table", "k", "of", "rows", "target", "PCA", main, "interval"),
            *others,
            *("error over PCA's", "trustworthiness", "fit, s"),
        ],
        [
            [
                *(p["table"], str(p["k"]), str(p["d"]), str(p["n_rows"]), p["target"]),
                plain(p[main]["score"] - p[main]["gain"], 1),
                signed(p[main]["gain"]),
                span(p[main]["lower"], p[main]["upper"]),
                *(signed(p[reader]["gain"]) for reader in others),
                plain(p["error"]),
                signed(p["trustworthiness_gain"], 3),
                plain(p["seconds"]),
            ]
            for p in sorted(pairs, key=lambda p: p[main]["gain"])
        ],
    )


MARKERS = {"classes": ("o", "#1f77b4"), "quantity": ("D", "#d95f02")}


def draw(summaries: Sequence[Record], pairs: Sequence[Record], reader: str, path: Path) -> None:
    """Draw a panel for each reducer that restores: a dot a pair, gain against error."""
    from matplotlib.figure import Figure

    shown = [s for s in summaries if not np.isnan(s["error"])]
    if not shown:
        print("\nnothing to draw: no reducer restores rows")
        return
    of = {s["reducer"]: [p for p in pairs if p["reducer"] == s["reducer"]] for s in shown}
    intervals = any(pair["n_splits"] > 1 for some in of.values() for pair in some)
    n_columns = min(3, len(shown)) if len(shown) != 4 else 2
    n_rows = -(-len(shown) // n_columns)
    figure = Figure(figsize=(1 + 3.8 * n_columns, 0.6 + 3.5 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    gains = np.array([p[reader]["gain"] for some in of.values() for p in some])
    scale_axes(grid[0, 0], gains, np.concatenate([column(some, "error") for some in of.values()]))
    for axes, summary in zip(grid.flat, shown, strict=False):
        draw_panel(axes, summary, of[summary["reducer"]], reader, intervals)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for i, axes in enumerate(grid.flat[: len(shown)]):
        axes.xaxis.set_tick_params(labelbottom=i + n_columns >= len(shown))
    figure.supxlabel("squared error on test rows over PCA's (log)", fontsize=10)
    figure.supylabel(f"points gained over PCA's codes ({reader})", fontsize=10)
    figure.legend(
        handles=legend_handles(intervals),
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=150)
    print(f"figure saved to {path}", file=sys.stderr)


def draw_curve(summaries: Sequence[Record], readers: Sequence[str], path: Path) -> None:
    """Draw the frontier of a parameter: mean and worst gains of readers against the error."""
    from matplotlib.figure import Figure

    marked = [s for s in summaries if "=" in s["reducer"] and not np.isnan(s["error"])]
    shown = sorted(marked, key=lambda s: s["error"])
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    mean, worst = figure.subplots(1, 2, sharex=True)
    errors = column(shown, "error")
    for reader in readers:
        mean.plot(errors, [s[reader]["all"] for s in shown], "o-", markersize=4, label=reader)
    first = readers[0]
    worst.plot(errors, [s[first]["worst"] for s in shown], "o-", markersize=4, label="worst pair")
    below = worst.twinx()
    below.plot(errors, [s[first]["below"] for s in shown], "s--", color="0.5", markersize=4)
    below.set_ylabel(f"pairs below {LOSS:.0f} (dashed)")
    bottom = mean.get_ylim()[0]
    mean.set_ylim(bottom - 0.3, None)
    for summary in shown:
        name = summary["reducer"].rpartition("=")[2]
        mean.annotate(name, (summary["error"], bottom - 0.2), fontsize=8, ha="center")
    mean.axhline(0, color="0.6", linewidth=0.8)
    mean.set(title="Mean over the pairs", ylabel="points gained over PCA's codes")
    worst.set(title=f"Worst pair ({first})", ylabel="points gained over PCA's codes")
    mean.legend(frameon=False)
    parameter = {s["reducer"].rpartition("=")[0].rpartition(":")[2] for s in shown}
    figure.supxlabel(f"error over PCA's, for values of {', '.join(sorted(parameter))}", fontsize=10)
    figure.savefig(path, dpi=150)
    print(f"figure saved to {path}", file=sys.stderr)


def draw_panel(
    axes: Any, summary: Record, pairs: Sequence[Record], reader: str, intervals: bool
) -> None:
    """Draw the pairs of one reducer; name the two that lose most and the one that gains most."""
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    for pair in pairs:
        marker, color = MARKERS[pair["target"]]
        low, high = pair[reader]["lower"], pair[reader]["upper"]
        filled = low > 0 or high < 0 or not intervals
        axes.plot(
            pair["error"],
            pair[reader]["gain"],
            marker,
            color=color,
            markerfacecolor=color if filled else "white",
            markersize=5,
            alpha=0.85,
        )
    ordered = sorted(pairs, key=lambda pair: pair[reader]["gain"])
    losers = ordered[:2]
    for pair in ordered if len(ordered) < 3 else [*losers, ordered[-1]]:
        # Names stand on opposite sides of the two losers, or above and below, within the axes.
        along = axes.transAxes.inverted().transform(axes.transData.transform((pair["error"], 0)))[0]
        left = along > (0.25 if pair is min(losers, key=lambda p: p["error"]) else 0.7)
        axes.annotate(
            f"{pair['table']}, {pair['k']}",
            (pair["error"], pair[reader]["gain"]),
            xytext=(-6 if left else 6, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top" if pair is losers[0] else "bottom" if pair is losers[-1] else "center",
            fontsize=7,
            color="0.25",
        )
    axes.set_title(
        f"{summary['reducer'].replace(':', ', ')}\n"
        f"gain {signed(summary[reader]['all'])}, error {summary['error']:.2f}",
        fontsize=10,
    )


def scale_axes(axes: Any, gains: np.ndarray, errors: np.ndarray) -> None:
    """Scale the shared axes, with room around the dots, and plain numbers at the ticks."""
    axes.set_xscale("log")
    low, high = min(errors.min(), 0.9), max(errors.max(), 1.1)
    room = (high / low) ** 0.08
    axes.set_xlim(low / room, high * room)
    candidates = [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100]
    ticks = [x for x in candidates if low / room <= x <= high * room]
    if len(ticks) > 6:
        ticks = [x for x in ticks if x not in (0.3, 0.7, 1.5, 3)]
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.set_xticks([], minor=True)
    if np.abs(gains).max() > 20:
        axes.set_yscale("symlog", linthresh=5, linscale=1)
        ticks = [0.0] + [sign * x for x in (2, 5, 10, 20, 50, 100, 200, 500) for sign in (-1, 1)]
        bottom, top = 1.7 * min(gains.min(), -5), 1.7 * max(gains.max(), 5)
        axes.set_ylim(bottom, top)
        axes.set_yticks([y for y in sorted(ticks) if bottom <= y <= top])
        axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda y, _: signed(y, 0) if y == int(y) else signed(y))


def legend_handles(intervals: bool) -> list[Any]:
    """Markers of the legend; filled and hollow ones if there are intervals."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=marker, color=color, linestyle="", label=name)
        for (marker, color), name in zip(MARKERS.values(), ("classes", "quantities"), strict=True)
    ]
    if intervals:
        handles += [
            Line2D([], [], marker="o", color="0.4", markerfacecolor=face, linestyle="", label=label)
            for face, label in (("0.4", "significant"), ("white", "not significant"))
        ]
    return handles


# -- files, command line -----------------------------------------------------------------


def without_nan(value: Any) -> Any:
    """Replace nan, which JSON does not know, by None, however deep."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def write(path: Path, machine: Record, runs: list[Record], **more: Any) -> None:
    """Write the machine, all runs and what was computed of them."""
    content = without_nan({**machine, **more, "runs": runs})
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(paths: Sequence[Path]) -> tuple[Record, list[Record]]:
    """Read the machine of the last file and the runs of all, later ones replacing earlier."""
    runs: dict[tuple[Any, ...], Record] = {}
    for path in paths:
        content = json.loads(path.read_text())
        machine = {name: content[name] for name in ("versions", "machine")}
        for run in content["runs"]:
            key = tuple(run[name] for name in ("reducer", "table", "k", "split"))
            runs[key] = run
    return machine, list(runs.values())


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, help="folder of further tables")
    parser.add_argument(
        "--only",
        nargs="+",
        type=reducer_name,
        metavar="NAME",
        help=f"codes besides PCA's (default: {' '.join(DEFAULT)})",
    )
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    parser.add_argument(
        "--from", dest="source", type=Path, nargs="+", help="what --output wrote, instead of fits"
    )
    parser.add_argument("--plot", type=Path, help="picture of gains against errors")
    parser.add_argument("--curve", type=Path, help="picture of the values of one parameter")
    args = parser.parse_args()
    args.readers = [name for name in READERS if name in args.readers]
    if args.only is None and args.source is None:
        args.only = DEFAULT
    return args


def main() -> None:
    """Measure or read, then print, write and draw."""
    args = parse_arguments()
    runs: list[Record] = []
    if args.source:
        machine, runs = read(args.source)
        args.readers = [name for name in args.readers if name in runs[0]]
    else:
        machine = describe_machine(1)
        for some in measure_all(args):
            runs += some
            if args.output:
                write(args.output, machine, runs)  # so that an end too early loses little
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    pairs = pair_results(runs, args.readers)
    of: dict[str, list[Record]] = {}
    names = dict.fromkeys(run["reducer"] for run in runs)
    order = [name for name in ("PCA", *DEFAULT) if name in names]
    for name in dict.fromkeys([*order, *names]):
        found = [pair for pair in pairs if pair["reducer"] == name]
        if found and (args.only is None or name in ("PCA", *args.only)):
            of[name] = found
    summaries = [summarise(name, found, args.readers) for name, found in of.items()]
    print_summary(summaries, args.readers)
    for name, found in of.items():
        if name not in ("PCA", "baseline"):
            print_pairs(name, found, args.readers)
    if args.output:
        write(args.output, machine, runs, summary=summaries, pairs=pairs)
    if args.plot:
        draw(summaries, pairs, args.readers[0], args.plot)
    if args.curve:
        draw_curve(summaries, args.readers, args.curve)


if __name__ == "__main__":
    main()
