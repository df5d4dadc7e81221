"""Where is skae never worse than PCA, and where is it? Few rows, copies, shifts, far rows.

Run from the root of the repository::

    python examples/benchmarks/floor.py
    python examples/benchmarks/floor.py --tables DIR --jobs 2 --output results.json
    python examples/benchmarks/floor.py --only few laws --draws 1

Every figure is a squared error on rows that were not trained on, divided by that of PCA with as
many components, fitted to the same training rows. Columns are standardised on the training
rows, those constant there are dropped, and test rows are clipped to ±10.

Sections. ``few``: 15 to 90 rows of scikit-learn's five tables, two components, all dense kinds.
``laws``: 24 rows of eight synthetic laws in four shapes. ``gaussian``: rows of a normal
distribution, of which PCA is the truth; a fit that is not PCA is a false gain. ``copies``: 60
rows, each 5 or 20 times, exact or with noise of 0.1 % of a deviation, with and without
``groups``. ``smote``: the same rows with as many between neighbours. ``shift``: trained on the
lower 80 % along the first component, tested on the others; and with a third of those as
``X_val``, tested on the rest. ``far``: test rows moved by 10^6 deviations in 50 directions.
``vae``: ordinary splits, restored from the codes. ``gain``: how much of the gain of the best
number of epochs in hindsight a fit reaches. ``--tables DIR`` adds a folder of tables
(``*.csv``, ``*.csv.gz``: numbers, then a target) to ``shift`` and ``vae``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from quality_vs_pca import Table, bundled_tables, describe_machine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from skae import (
    AutoencoderTransformer,
    DenoisingAutoencoder,
    StackedAutoencoder,
    VAETransformer,
)

SIZES = 15, 20, 25, 30, 40, 50, 70, 90
SHAPES = (5, 2), (10, 2), (20, 4), (40, 2)
KINDS = {
    "AutoencoderTransformer": AutoencoderTransformer,
    "DenoisingAutoencoder": DenoisingAutoencoder,
    "StackedAutoencoder": StackedAutoencoder,
    "VAETransformer": VAETransformer,
}
TOLERATED = 1.001
Record = dict[str, Any]
Task = Callable[[], Record]


# -- measures ----------------------------------------------------------------------------


def standardized(X: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Scale columns by the first rows; drop those that are constant there; clip the others."""
    kept = np.ptp(X, axis=0) > 0
    mean, std = X[:, kept].mean(axis=0), X[:, kept].std(axis=0)
    return [
        (X[:, kept] - mean) / std,
        *(((rows[:, kept] - mean) / std).clip(-10, 10) for rows in others),
    ]


def squares(reducer: Any, X: np.ndarray) -> np.ndarray:
    """Squared error of each row."""
    return np.square(X - reducer.inverse_transform(reducer.transform(X))).sum(axis=1)


def compare(kind: str, k: int, X: np.ndarray, test: np.ndarray, seed: int, **given: Any) -> Record:
    """Fit a kind and PCA to the same rows, and compare their errors on others."""
    pca = PCA(k, svd_solver="full").fit(X)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = KINDS[kind](k, random_state=seed).fit(X, **given)
    seconds = time.perf_counter() - start
    ours, theirs = squares(fitted, test), squares(pca, test)
    floor = np.finfo(float).eps * np.square(test).sum()
    at_least_mean = np.maximum(theirs, theirs.mean())
    return {
        "kind": kind,
        "ratio": float((ours.sum() + floor) / (theirs.sum() + floor)),
        # Rows that PCA restores better than the mean row are compared with its mean error.
        "worst_row": float((ours / at_least_mean).max()),
        "n_iter": int(fitted.n_iter_),
        "bound": float(fitted.score_samples(test).mean() - pca.score(test))
        if kind == "VAETransformer"
        else None,
        "warned": any("groups" in str(w.message) for w in caught),
        "seconds": seconds,
    }


# -- tables ------------------------------------------------------------------------------


def five_tables() -> list[Table]:
    """Tables of scikit-learn, without the 20 rows of linnerud."""
    return [table.drawn(10) for table in bundled_tables() if table.name != "linnerud"]


def folder_tables(directory: Path | None) -> Iterator[Table]:
    """Tables of a folder; targets are strings, and are not used."""
    paths = [] if directory is None else sorted(directory.glob("*.csv*"))
    for path in paths:
        content = np.loadtxt(path, delimiter=",", dtype=str, skiprows=1)
        yield Table(path.name.split(".")[0], "real", content[:, :-1].astype(float)).drawn(10)


def pairs(directory: Path | None) -> Iterator[tuple[Table, int]]:
    """Pairs of a table and a number of components."""
    for table in [*five_tables(), *folder_tables(directory)]:
        d = table.X.shape[1]
        for k in sorted({2, max(2, d // 4)}):
            if k < d:
                yield table, k


LAWS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {}


def law(function: Callable[[np.random.Generator, int, int], np.ndarray]) -> Any:
    """Register a law by its name."""
    LAWS[function.__name__] = function
    return function


@law
def gaussian(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw correlated normal rows."""
    mixing = np.random.default_rng(d).normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1))
    return random.normal(size=(n, d)) @ mixing.T


@law
def heavy_tails(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw rows of Student's t with three degrees of freedom."""
    mixing = np.random.default_rng(d).normal(size=(d, d))
    return random.standard_t(3, size=(n, d)) @ mixing.T


@law
def low_rank(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw three factors and little noise."""
    loadings = np.random.default_rng(d).normal(size=(3, d))
    return random.normal(size=(n, 3)) @ loadings + 0.1 * random.normal(size=(n, d))


@law
def spikes(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw entries that are mostly zero."""
    return random.exponential(size=(n, d)) * (random.uniform(size=(n, d)) < 0.3)


@law
def one_hot(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw one category per row, with a little noise."""
    return np.eye(d)[random.integers(d, size=n)] + 0.01 * random.normal(size=(n, d))


@law
def drift(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw a random walk, row by row, and shuffle it."""
    return random.permutation(np.cumsum(random.normal(size=(n, d)), axis=0))


@law
def rolled_sheet(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw a rolled sheet in d dimensions."""
    angle = 1.5 * np.pi * (1 + 2 * random.uniform(size=n))
    height = 21 * random.uniform(size=n)
    sheet = np.column_stack([angle * np.cos(angle), height, angle * np.sin(angle)])
    loadings = np.linalg.qr(np.random.default_rng(d).normal(size=(d, 3)))[0]
    return sheet @ loadings.T + 0.1 * random.normal(size=(n, d))


@law
def cauchy(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw entries without a mean."""
    return random.standard_cauchy(size=(n, d))


# -- sections ----------------------------------------------------------------------------


def few(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """Few rows of real tables."""
    for kind in args.kinds:
        for table in five_tables():
            for n in SIZES:
                for draw in range(args.draws):
                    order = np.random.default_rng(1000 * n + draw).permutation(len(table.X))
                    X, test = standardized(table.X[order[:n]], table.X[order[n:]])
                    name = f"{table.name} {n}"
                    yield name, partial(compare, kind, 2, X, test, draw)


def laws(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """24 rows of synthetic laws."""
    for kind in args.kinds:
        for name, draw_rows in LAWS.items():
            for d, k in SHAPES:
                for draw in range(args.draws):
                    rows = draw_rows(np.random.default_rng(draw), 1024, d)
                    X, test = standardized(rows[:24], rows[24:])
                    yield f"{name} {d} {k}", partial(compare, kind, k, X, test, draw)


def gaussian_rows(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """Rows of which PCA is the truth."""
    for kind in args.kinds:
        for n in (20, 40, 80, 160, 320):
            for d, k in SHAPES:
                for draw in range(2 * args.draws):
                    rows = gaussian(np.random.default_rng(draw), 1024 + n, d)
                    X, test = standardized(rows[:n], rows[n:])
                    yield f"{n} {d} {k}", partial(compare, kind, k, X, test, draw)


def copied(
    table: Table, seed: int, times: int, noise: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """60 rows, each many times with noise; test rows; and the number of the row of each copy."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(table.X))
    X, test = standardized(table.X[order[:60]], table.X[order[60:]])
    groups = np.repeat(np.arange(60), times)
    X = X[groups] + noise * random.normal(size=(60 * times, X.shape[1]))
    return X, test, groups


def copies(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """Rows that were repeated, exactly or with noise."""
    for table in five_tables():
        for times in (5, 20):
            for draw in range(args.draws):
                for name, noise, grouped in (
                    ("exact", 0.0, False),
                    ("noise, groups", 1e-3, True),
                    ("noise", 1e-3, False),
                ):
                    X, test, groups = copied(table, draw, times, noise)
                    given = {"groups": groups} if grouped else {}
                    yield (
                        name,
                        partial(compare, "AutoencoderTransformer", 2, X, test, draw, **given),
                    )


def smote(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """Rows between neighbours, as oversampling adds them."""
    for table in five_tables():
        for times in (5, 20):
            for draw in range(args.draws):
                X, test, _ = copied(table, draw, 1, 0.0)
                random = np.random.default_rng(draw)
                distances = np.linalg.norm(X[:, None] - X[None], axis=2)
                neighbors = distances.argsort(axis=1)[:, 1:6]
                first = random.integers(60, size=60 * (times - 1))
                second = neighbors[first, random.integers(5, size=len(first))]
                share = random.uniform(size=(len(first), 1))
                X = np.concatenate([X, X[first] + share * (X[second] - X[first])])
                yield f"times {times}", partial(compare, "AutoencoderTransformer", 2, X, test, draw)


def shift(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """Test rows beyond the training rows, along the first component."""
    for table, k in pairs(args.tables):
        scaled = (table.X - table.X.mean(axis=0)) / table.X.std(axis=0)
        order = PCA(1, svd_solver="full").fit_transform(scaled)[:, 0].argsort()
        low, high = np.split(order, [int(0.8 * len(order))])
        X, test = standardized(table.X[low], table.X[high])
        if X.shape[1] <= k:
            continue
        yield "shifted", partial(named, table, k, X, test)
        third = np.random.default_rng(0).permutation(len(test)) < len(test) // 3
        yield (
            "shifted, X_val",
            partial(named, table, k, X, test[~third], X_val=test[third]),
        )


def named(
    table: Table,
    k: int,
    X: np.ndarray,
    test: np.ndarray,
    kind: str = "AutoencoderTransformer",
    seed: int = 0,
    **given: Any,
) -> Record:
    """Compare, and say on which table."""
    return compare(kind, k, X, test, seed, **given) | {"table": table.name, "k": k}


def far(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """Rows far off in random directions."""
    for kind in args.kinds:
        for table in five_tables():
            yield kind, partial(move_out, kind, table)


def move_out(kind: str, table: Table) -> Record:
    """Move a row out in 50 directions; compare errors, codes and likelihoods on the way."""
    (X,) = standardized(table.X)
    k = max(2, X.shape[1] // 4)
    pca = PCA(k, svd_solver="full").fit(X)
    fitted = KINDS[kind](k, random_state=0).fit(X)
    directions = np.random.default_rng(0).normal(size=(50, X.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    steps = np.geomspace(10, 1e6, 26)
    logs, ratios = [], []
    for step in steps:
        rows = X[:50] + step * directions * np.sqrt(X.shape[1])
        ratios.append(float((squares(fitted, rows) / squares(pca, rows)).max()))
        logs.append(fitted.score_samples(rows))
    codes, theirs = fitted.transform(rows), pca.transform(rows)
    # The basis of the code is that of the fit: an affine map of PCA's.
    design = np.column_stack([theirs, np.ones(len(theirs))])
    mapped = design @ np.linalg.lstsq(design, codes, rcond=None)[0]
    return {
        "kind": kind,
        "table": table.name,
        "ratio": ratios[-1],
        "on_the_way": max(ratios),
        "codes": float(np.abs(mapped - codes).max() / np.abs(codes).max()),
        "falling": float((np.diff(logs, axis=0) < 0).all(axis=0).mean()),
        "seconds": 0.0,
    }


def vae(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """Ordinary splits of tables, restored by the variational autoencoder."""
    for kind in ("VAETransformer", "AutoencoderTransformer"):
        for table, k in pairs(args.tables):
            yield kind, partial(split_means, table, k, kind, args.splits)


def split_means(table: Table, k: int, kind: str, n_splits: int) -> Record:
    """Geometric mean of the ratio over splits."""
    records = []
    for seed in range(n_splits):
        parts = train_test_split(table.X, test_size=0.4, random_state=seed)
        records.append(named(table, k, *standardized(*parts), kind, seed))
    ratio = float(np.exp(np.mean([np.log(record["ratio"]) for record in records])))
    seconds = sum(record["seconds"] for record in records)
    return records[0] | {"ratio": ratio, "seconds": seconds}


class Hindsight(Callback):
    """Appends the test error of the averaged weights after each epoch to a list."""

    def __init__(self, test: torch.Tensor, errors: list[float]):
        self.test, self.errors = test, errors

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Append the error of the start, which is PCA's."""
        self.on_epoch_end(net)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Append the error of this epoch."""
        self.errors.append(float(net.evaluate(self.test.to(net.rows_.dtype)).mean()))

    def __sklearn_clone__(self) -> Any:
        return self  # so that the estimator's clone appends to the same list


def gain(args: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """Gains that a choice in hindsight would reach."""
    tables: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
        table.name: partial(drawn_rows, table.X)
        for table in [*five_tables(), *folder_tables(args.tables)]
    }
    tables["curve"] = curve
    for name, rows_of in tables.items():
        for n in (40, 50, 60, 70, 90):
            for draw in range(args.draws):
                rows = rows_of(np.random.default_rng(1000 * n + draw), n)
                X, test = standardized(rows[:n], rows[n:])
                group, k = ("curve", 1) if name == "curve" else ("real tables", 2)
                if X.shape[1] > k:
                    yield f"{group}, {n} rows", partial(hindsight, X, test, draw, k)


def drawn_rows(X: np.ndarray, random: np.random.Generator, n: int) -> np.ndarray:
    """Rows of a table in random order."""
    return X[random.permutation(len(X))]


def curve(random: np.random.Generator, n: int) -> np.ndarray:
    """Draw a noisy parabola in five dimensions."""
    t = random.uniform(-1, 1, size=n + 1000)
    columns = np.column_stack([t, t**2, np.sin(3 * t), np.cos(2 * t), t**3])
    return columns + 0.05 * random.normal(size=columns.shape)


def hindsight(X: np.ndarray, test: np.ndarray, seed: int, k: int) -> Record:
    """Compare a fit with the best epoch of the same training in hindsight."""
    record = compare("AutoencoderTransformer", k, X, test, seed)
    standard = torch.from_numpy((test - X.mean(axis=0)) / np.sqrt(np.square(X).mean()))
    errors: list[float] = []
    AutoencoderTransformer(
        k, random_state=seed, early_stopping=False, callbacks=[Hindsight(standard, errors)]
    ).fit(X)
    record["oracle"] = min(errors) / errors[0]
    return record


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[tuple[str, Task]]]] = {
    "few": few,
    "laws": laws,
    "gaussian": gaussian_rows,
    "copies": copies,
    "smote": smote,
    "shift": shift,
    "far": far,
    "vae": vae,
    "gain": gain,
}


# -- report ------------------------------------------------------------------------------


def run(name: str, task: Task, section: str) -> Record:
    """Run one task on one thread."""
    torch.set_num_threads(1)
    return {"section": section, "name": name} | task()


BY_KIND = {"few", "laws", "gaussian", "far"}  # sections with one line per kind


def summary(section: str, records: list[Record]) -> Iterator[str]:
    """Yield the lines of the table of one section."""
    column = "kind" if section in BY_KIND else "name"
    for key in dict.fromkeys(record[column] for record in records):
        some = [record for record in records if record[column] == key]
        ratios = np.array([record["ratio"] for record in some])
        mean, seconds = np.exp(np.log(ratios).mean()), np.mean([r["seconds"] for r in some])
        yield (
            f"| {section}: {key} | {len(some)} | {(ratios > TOLERATED).sum()} | {ratios.max():.3f} "
            f"| {mean:.3f} | {seconds:.2f} | {'; '.join(remarks(section, some))} |"
        )


def remarks(section: str, records: list[Record]) -> Iterator[str]:
    """Yield what else there is to say of the fits of one line."""

    def each(name: str) -> np.ndarray:
        return np.array([record[name] for record in records], dtype=float)

    if records[0].get("bound") is not None:
        bounds = each("bound")
        yield f"bound minus PCA's: mean {bounds.mean():.2f}, lowest {bounds.min():.2f}"
    if section == "gaussian":
        yield f"not PCA: {(each('n_iter') > 0).mean():.1%}"
    if section in ("copies", "smote"):
        silent = each("ratio")[each("warned") == 0]
        yield f"warned {each('warned').mean():.0%}; worst of the others {silent.max(initial=0):.3f}"
    if section == "shift":
        yield f"largest row {each('worst_row').max():.1f}"
    if section == "gain":
        best = np.log(each("oracle"))
        yield f"best epoch {np.exp(best.mean()):.3f}"
        yield f"reached {np.log(each('ratio')).sum() / best.sum():.0%} of its gain"
    if section == "far":
        yield f"on the way {each('on_the_way').max():.3f}"
        yield f"codes differ by {each('codes').max():.0e}"
        yield f"falling likelihood {each('falling').mean():.0%}"


def main() -> None:
    """Run the sections that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, help="folder of further tables")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file of all records")
    args = parser.parse_args()
    print(describe_machine(1))
    print("| situation | fits | above 1.001 | worst | geometric mean | s per fit | besides |")
    print("|---|---|---|---|---|---|---|")
    records: list[Record] = []
    for section in args.only:
        jobs = [delayed(run)(name, task, section) for name, task in SECTIONS[section](args)]
        done = Parallel(n_jobs=args.jobs)(jobs)
        records += done
        print("\n".join(summary(section, done)), flush=True)
    if args.output:
        args.output.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
