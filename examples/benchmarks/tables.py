"""Mixed tables with gaps: synthetic rows, imputed cells and codes, beside peers.

Run from the root of the repository, with ``pip install skae[tables]`` for the peers::

    python examples/benchmarks/tables.py --data DIR
    python examples/benchmarks/tables.py --data DIR --what synthesis --methods skae ARF --seeds 1
    python examples/benchmarks/tables.py --from peers.json skae.json

Tables are the files ``*.csv`` of DIR. Columns that pandas reads as numbers are numbers, whole ones
included; all others are categories; empty cells are gaps. The target is the column that ``TARGETS``
or ``--targets table=column`` names, otherwise the last one. Each pair of a method and a table runs
in a process of its own, on one thread, for at most ``--limit`` seconds. Peers that are not
installed are left out. The protocol can be imported: ``synthesize``, ``score_synthesis``,
``remove_cells``, ``score_imputation``.

*synthesis*: of a table's rows, at most 2,000 drawn with seed 0, 60 % are training rows (stratified
by the target, seed 0). A method is fitted to them, target included, and draws as many rows; it is
fitted and drawn from with each seed.

- tstr: train on synthetic, test on real: mean one-against-rest AUC of gradient boosting on the
  test rows. The method ``training rows`` trains on real rows.
- detection: five-fold AUC of gradient boosting that tells synthetic rows from test rows, as many
  of each, rows without gaps only. 0.5: cannot be told apart.
- shape: 1 − Kolmogorov-Smirnov distance (numbers) or total variation (categories) from the test
  rows, mean over columns. Trend: the same of pairs: 1 − half the difference of two correlations,
  or 1 − total variation of a pair with a category, numbers cut in ten equal widths. Observed cells.
  Both stay below 1 for perfect samples, since the rows are few: see ``bootstrap``.
- nearest: of 500 synthetic rows, the share nearer to a training row than to a test row, as many of
  each; ties count half. Gower's distance: numbers over the range of the training rows, at most 1;
  categories 0 or 1; a gap is 1 from any value and 0 from a gap.
- copies: share of synthetic rows equal to a training row, less the share of test rows that are.
- membership: AUC of an attack that takes rows near to a synthetic row for training rows.

*imputation*: of all rows, 30 % of the observed cells are removed completely at random; one is left
in each row. The target is a column like the others. RMSE over the standard deviation of the
column's observed cells, mean over columns of numbers; error rate, mean over the others. The mean
rank is over the methods of the run, tables and both measures.

*calibration*: the same cells, imputed in 20 draws: share of removed numbers from the smallest to
the largest draw, ends included, and of removed categories in the smallest set of categories, most
frequent first, that holds 90 % of the draws; categories drawn as often as the last one belong to
it. A value exchangeable with the draws lies in the interval with probability 19/21; ties add.

*conditions*: share of 1,000 rows drawn with a condition that hold it, and seconds over those of
1,000 rows without one. Conditions: the second most frequent value of the first category, the
middle half of the first number, both.

*codes*: logistic regression behind ``StandardScaler`` reads k = 2 or 5 codes of all columns but
the target; accuracy on 40 % of all rows (stratified, the seed is ``random_state``), in points,
less the better of FAMD's and one-hot + PCA's (of their means over the splits). skae's codes are
without y, and with ``target_weight=1`` and y. In the references gaps are filled by the mean or mode
of the training rows, numbers standardised; FAMD divides indicators by the root of their frequency.

*seconds*: a fit to the whole table, and ``sample(10_000)``.

Peers have default settings, a few a second one. Models of ARF, TVAE, CTGAN, ForestDiffusion and the
copula know no gaps: these are filled by draws from the column before the fit. What they draw is
rounded where the column has whole numbers. Iterative ridge leaves categories of three values or
more at the mode: their indicators explain each other. arfpy 0.1.1 needs numpy below 2.4.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

TARGETS = {
    "penguins": "species",
    "german": "class",
    "credit": "Status",
    "attrition": "Attrition",
    "diamonds": "cut",
    "adult": "income",
}
MAX_ROWS = 2000  # of a table whose rows are imitated
N_NEAREST = 500  # synthetic rows of the nearest-record share
N_BINS = 10  # of numbers, where pairs with categories are compared
N_DRAWS = 20  # of a removed cell
LEVEL = 0.9  # of intervals
N_CONDITIONED = 1000  # rows
N_TIMED = 10_000  # rows
N_CODES = 2, 5
ROUNDS = 5  # of MissForest
OURS = "skae"
Draw = Callable[[int, int], pd.DataFrame]  # from a number of rows and a seed
Scores = dict[str, float]
Record = dict[str, Any]


# -- tables ------------------------------------------------------------------------------


def read_tables(
    directory: Path | str, targets: dict[str, str] | None = None
) -> dict[str, tuple[pd.DataFrame, str]]:
    """Read each table of the directory, and the name of its target."""
    named = {**TARGETS, **(targets or {})}
    frames = {path.stem: pd.read_csv(path) for path in sorted(Path(directory).glob("*.csv"))}
    return {name: (f, named.get(name, str(f.columns[-1]))) for name, f in frames.items()}


def split(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split at most 2,000 rows into training rows, 60 %, and test rows."""
    if len(frame) > MAX_ROWS:
        frame = frame.sample(MAX_ROWS, random_state=0)
    train, test = train_test_split(
        frame, test_size=0.4, random_state=0, stratify=frame[target].astype(str)
    )
    return train.reset_index(drop=True), test.reset_index(drop=True)


def numeric(frame: pd.DataFrame) -> np.ndarray:
    """Tell the columns of numbers from the others."""
    kinds = frame.dtypes
    return np.array(
        [pd.api.types.is_numeric_dtype(d) and not pd.api.types.is_bool_dtype(d) for d in kinds]
    )


def encoded(frame: pd.DataFrame, *others: pd.DataFrame) -> list[np.ndarray]:
    """Turn frames of the same columns into floats: numbers, codes of categories, NaN."""
    is_number = numeric(frame)
    frames = [frame, *(other[frame.columns] for other in others)]
    arrays = [np.empty(each.shape) for each in frames]
    for j, name in enumerate(frame.columns):
        columns = [each[name] for each in frames]
        if is_number[j]:
            values = [
                pd.to_numeric(c, errors="coerce").to_numpy(float, na_value=np.nan) for c in columns
            ]
        else:
            codes, _ = pd.factorize(pd.concat([c.astype(object) for c in columns]), sort=False)
            codes = np.where(codes < 0, np.nan, codes)
            values = np.split(codes, np.cumsum([len(c) for c in columns])[:-1])
        for array, column in zip(arrays, values, strict=True):
            array[:, j] = column
    return arrays


# -- scores of synthetic rows ------------------------------------------------------------


def boosting(
    X: np.ndarray, is_category: np.ndarray, n_iterations: int, seed: int
) -> HistGradientBoostingClassifier:
    """Make gradient boosting that knows the categories, where it can have so many."""
    few = np.array([len(np.unique(column[~np.isnan(column)])) < 255 for column in X.T])
    return HistGradientBoostingClassifier(
        max_iter=n_iterations,
        learning_rate=0.07,
        categorical_features=is_category & few,
        random_state=seed,
    )


def tstr(
    synthetic: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame, target: str, seed: int = 0
) -> float:
    """Train on synthetic rows, test on real ones: mean one-against-rest AUC."""
    columns = [name for name in train.columns if name != target]
    is_category = ~numeric(train[columns])
    _, X, X_test = encoded(train[columns], synthetic, test)
    known = synthetic[target].notna().to_numpy()
    y, y_test = synthetic[target].astype(str).to_numpy(), test[target].astype(str).to_numpy()
    if len(np.unique(y[known])) < 2:
        return 0.5
    model = boosting(X[known], is_category, 100, seed).fit(X[known], y[known])
    proba = dict(zip(model.classes_, model.predict_proba(X_test).T, strict=True))
    classes = np.unique(y_test[test[target].notna().to_numpy()])
    zero = np.zeros(len(X_test))
    areas = [roc_auc_score(y_test == each, proba.get(each, zero)) for each in classes]
    return float(np.mean(areas))


def detection(synthetic: pd.DataFrame, real: pd.DataFrame, seed: int = 0) -> float:
    """Five-fold AUC of telling synthetic rows from real ones, complete rows only."""
    synthetic, real = synthetic[real.columns].dropna(), real.dropna()
    n = min(len(synthetic), len(real))
    if n < 10:
        return np.nan
    real, synthetic = real.sample(n, random_state=seed), synthetic.sample(n, random_state=seed)
    X = np.vstack(encoded(real, synthetic))
    y = np.repeat([0, 1], n)
    model = boosting(X, ~numeric(real), 80, seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    proba = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, proba))


def shape(synthetic: pd.DataFrame, real: pd.DataFrame) -> float:
    """Mean over columns of 1 − Kolmogorov-Smirnov or total variation, observed cells."""
    is_number = numeric(real)
    R, S = encoded(real, synthetic)
    scores = []
    for j in range(R.shape[1]):
        r, s = (column[~np.isnan(column)] for column in (R[:, j], S[:, j]))
        if not len(r) or not len(s):
            scores.append(float(len(r) == len(s)))
            continue
        values = np.unique(np.concatenate([r, s]))
        cumulated = [np.searchsorted(np.sort(c), values, "right") / len(c) for c in (r, s)]
        gap = cumulated[0] - cumulated[1]
        lost = np.abs(gap).max() if is_number[j] else np.abs(np.diff(gap, prepend=0)).sum() / 2
        scores.append(1 - lost)
    return float(np.mean(scores))


def trend(synthetic: pd.DataFrame, real: pd.DataFrame) -> float:
    """Mean over pairs of 1 − half the difference of correlations, or total variation."""
    is_number = numeric(real)
    R, S = encoded(real, synthetic)
    correlations = [pd.DataFrame(M[:, is_number]).corr().to_numpy() for M in (R, S)]
    change = np.nan_to_num(np.abs(np.nan_to_num(correlations[0]) - np.nan_to_num(correlations[1])))
    k = is_number.sum()
    scores = list(1 - change[np.triu_indices(k, 1)] / 2)
    for j in np.flatnonzero(is_number):
        edges = np.linspace(np.nanmin(R[:, j]), np.nanmax(R[:, j]), N_BINS + 1)[1:-1]
        for M in (R, S):
            M[:, j] = np.where(np.isnan(M[:, j]), np.nan, np.searchsorted(edges, M[:, j]))
    n_values = np.nan_to_num(np.nanmax(np.vstack([R, S]), axis=0)).astype(int) + 1
    for i in range(R.shape[1]):
        for j in range(i):
            if is_number[i] and is_number[j]:
                continue
            counts = []
            for M in (R, S):
                pairs = M[:, i] * n_values[j] + M[:, j]
                pairs = pairs[~np.isnan(pairs)].astype(int)
                n_pairs = n_values[i] * n_values[j]
                counts.append(np.bincount(pairs, minlength=n_pairs) / max(len(pairs), 1))
            scores.append(1 - np.abs(counts[0] - counts[1]).sum() / 2)
    return float(np.mean(scores))


class Gower:
    """Distances of rows: numbers over the range of `reference`, categories 0 or 1.

    A column's distance is at most 1. Two gaps are 0 apart, a gap and a value 1.
    """

    def __init__(self, reference: pd.DataFrame, *frames: pd.DataFrame) -> None:
        self.is_number = numeric(reference)
        self.arrays = encoded(reference, *frames)
        R = self.arrays[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            self.scale = np.nanmax(R, axis=0) - np.nanmin(R, axis=0)
        self.scale[~(self.scale > 0)] = 1.0

    def nearest(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Distance of each row of A to the nearest one of B."""
        nearest = np.empty(len(A))
        for start in range(0, len(A), 200):
            block = A[start : start + 200]
            total = np.zeros((len(block), len(B)), dtype=np.float32)
            for j, number in enumerate(self.is_number):
                a = block[:, j].astype(np.float32)[:, None]
                b = B[:, j].astype(np.float32)
                if number:
                    d = np.abs(a - b)
                    d /= np.float32(self.scale[j])
                    np.minimum(d, 1, out=d)
                else:
                    d = (a != b).astype(np.float32)
                gaps_a, gaps_b = np.isnan(a), np.isnan(b)
                if gaps_a.any() or gaps_b.any():
                    d = np.where(gaps_a | gaps_b, (gaps_a != gaps_b).astype(np.float32), d)
                total += d
            nearest[start : start + 200] = total.min(axis=1)
        return nearest / A.shape[1]


def nearest_record_share(
    synthetic: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame, seed: int = 0
) -> float:
    """Share of 500 synthetic rows nearer to a training row than to a test row; ties are halves."""
    n = min(len(train), len(test))
    drawn = synthetic.sample(min(N_NEAREST, len(synthetic)), random_state=seed)
    known, new = (each.sample(n, random_state=seed) for each in (train, test))
    gower = Gower(train, drawn, known, new)
    _, S, A, B = gower.arrays
    to_train, to_test = gower.nearest(S, A), gower.nearest(S, B)
    return float(np.mean((to_train < to_test) + 0.5 * (to_train == to_test)))


def membership(synthetic: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame) -> float:
    """AUC of an attack that takes rows near to a synthetic row for training rows."""
    gower = Gower(train, synthetic, test)
    A, S, B = gower.arrays
    near = -np.concatenate([gower.nearest(A, S), gower.nearest(B, S)])
    return float(roc_auc_score(np.repeat([1, 0], [len(A), len(B)]), near))


def copies(synthetic: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Share of synthetic rows equal to a training row, less that of test rows."""
    arrays = encoded(train, synthetic, test)
    known, drawn, new = ([row.tobytes() for row in np.nan_to_num(M, nan=-1e99)] for M in arrays)
    known = set(known)
    return float(np.mean([r in known for r in drawn]) - np.mean([r in known for r in new]))


def score_synthesis(
    synthetic: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame, target: str, seed: int = 0
) -> Scores:
    """All scores of synthetic rows."""
    return {
        "tstr": tstr(synthetic, train, test, target, seed),
        "detection": detection(synthetic, test, seed),
        "shape": shape(synthetic, test),
        "trend": trend(synthetic, test),
        "nearest": nearest_record_share(synthetic, train, test, seed),
        "copies": copies(synthetic, train, test),
        "membership": membership(synthetic, train, test),
    }


# -- scores of imputed cells -------------------------------------------------------------


def remove_cells(
    frame: pd.DataFrame, share: float = 0.3, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    """Remove cells completely at random; at least one observed cell is left in each row.

    Returns the frame with gaps and the mask of the removed cells, which were observed.
    """
    rng = np.random.default_rng(seed)
    observed = frame.notna().to_numpy()
    order = rng.random(frame.shape)
    removed = observed & (order < share)
    none_left = ~(observed & ~removed).any(axis=1)
    kept = np.where(observed, order, -1).argmax(axis=1)
    removed[none_left, kept[none_left]] = False
    return frame.mask(removed), removed


def score_imputation(filled: pd.DataFrame, frame: pd.DataFrame, removed: np.ndarray) -> Scores:
    """RMSE over the standard deviation, mean of numeric columns; error rate, mean of the others."""
    is_number = numeric(frame)
    true, guess = encoded(frame, filled)
    rmse, error = [], []
    for j in range(true.shape[1]):
        rows = removed[:, j]
        if not rows.any():
            continue
        if is_number[j]:
            lost = np.sqrt(np.mean(np.square(true[rows, j] - guess[rows, j])))
            if deviation := np.nanstd(true[:, j]):
                rmse.append(lost / deviation)
        else:
            error.append(np.mean(true[rows, j] != guess[rows, j]))
    return {
        "rmse": float(np.mean(rmse)) if rmse else np.nan,
        "error": float(np.mean(error)) if error else np.nan,
    }


def score_draws(
    draws: Sequence[pd.DataFrame], frame: pd.DataFrame, removed: np.ndarray, level: float = LEVEL
) -> Scores:
    """Share of removed cells in the interval, or set of categories, of their draws."""
    is_number = numeric(frame)
    true, *arrays = encoded(frame, *draws)
    drawn = np.stack(arrays)
    # Exchangeable values leave a share of 2 cut / (draws + 1) outside of the interval.
    cut = max(int((1 - level) / 2 * (len(drawn) + 1)), 1)
    numbers, categories = [], []
    for j in range(true.shape[1]):
        rows = removed[:, j]
        if not rows.any():
            continue
        values, truth = np.sort(drawn[:, rows, j], axis=0), true[rows, j]
        if is_number[j]:
            numbers.append(np.mean((values[cut - 1] <= truth) & (truth <= values[-cut])))
        else:
            counts = (values[:, :, None] == np.arange(int(np.nanmax(true[:, j])) + 1)).sum(axis=0)
            ordered = -np.sort(-counts, axis=1)
            enough = np.argmax(ordered.cumsum(axis=1) >= level * len(drawn), axis=1)
            least = ordered[np.arange(len(truth)), enough]
            categories.append(np.mean(counts[np.arange(len(truth)), truth.astype(int)] >= least))
    return {
        "numbers": float(np.mean(numbers)) if numbers else np.nan,
        "categories": float(np.mean(categories)) if categories else np.nan,
    }


# -- synthesizers ------------------------------------------------------------------------


def sequential_trees(train: pd.DataFrame, seed: int) -> Draw:
    """One decision tree for each column given those before it; values are drawn from its leaves."""
    is_number = numeric(train)
    (X,) = encoded(train)
    trees: list[Any] = [None]
    leaves: list[Any] = [None]
    for j in range(1, X.shape[1]):
        y = X[:, j] if is_number[j] else np.nan_to_num(X[:, j], nan=-1)
        kind = DecisionTreeRegressor if is_number[j] else DecisionTreeClassifier
        seen = ~np.isnan(y)
        tree = kind(min_samples_leaf=5, random_state=seed).fit(X[seen, :j], y[seen])
        trees.append(tree)
        leaves.append(tree.apply(X[:, :j]))  # of rows with a gap too: gaps are drawn as well

    def draw(n: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        rows = np.empty((n, X.shape[1]), dtype=int)  # the training row that a cell is from
        rows[:, 0] = rng.integers(len(X), size=n)
        new = X[rows[:, :1], [0]]
        for j in range(1, X.shape[1]):
            order = np.argsort(leaves[j], kind="stable")
            leaf, ordered = trees[j].apply(new), leaves[j][order]
            start, stop = (np.searchsorted(ordered, leaf, side) for side in ("left", "right"))
            rows[:, j] = order[rng.integers(start, stop)]
            new = np.column_stack([new, X[rows[:, j], j]])
        return cells(train, rows)

    return draw


def cells(frame: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Make a frame of the cells of the given rows, a column of rows for each column."""
    columns = {c: frame[c].to_numpy()[rows[:, j]] for j, c in enumerate(frame.columns)}
    return pd.DataFrame(columns).astype(frame.dtypes)


def independent_columns(train: pd.DataFrame, seed: int) -> Draw:
    """Bootstrap each column on its own."""

    def draw(n: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        return cells(train, rng.integers(len(train), size=(n, train.shape[1])))

    return draw


def bootstrap(train: pd.DataFrame, seed: int) -> Draw:
    """Draw training rows with replacement."""
    return lambda n, seed: train.sample(n, replace=True, random_state=seed, ignore_index=True)


def training_rows(train: pd.DataFrame, seed: int) -> Draw:
    """Give the training rows in random order, as often as needed."""

    def draw(n: int, seed: int) -> pd.DataFrame:
        rows = np.random.default_rng(seed).permutation(len(train))
        return train.iloc[np.resize(rows, n)].reset_index(drop=True)

    return draw


def skae_rows(train: pd.DataFrame, seed: int, **parameters: Any) -> Draw:
    """skae's TableAutoencoder."""
    from skae import TableAutoencoder

    model = TableAutoencoder(random_state=seed, **parameters).fit(train)
    return lambda n, seed: model.sample(n, random_state=seed)


@contextlib.contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators for peers that know no other, and put them back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def without_gaps(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Fill gaps by draws from the observed cells of the column; text becomes objects."""
    rng = np.random.default_rng(seed)
    filled = frame.copy()
    for number, name in zip(numeric(frame), frame.columns, strict=True):
        observed = frame[name].dropna().to_numpy()
        gaps = frame[name].isna().to_numpy()
        values = frame[name].to_numpy(dtype=float if number else object, copy=True)
        values[gaps] = observed[rng.integers(len(observed), size=gaps.sum())]
        filled[name] = values
    return filled


def rounded(rows: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """Round the columns that have whole numbers in the training rows."""
    rows = rows[train.columns].reset_index(drop=True)
    for number, name in zip(numeric(train), train.columns, strict=True):
        if number:
            known = train[name].dropna()
            rows[name] = rows[name].astype(float)
            if (known == known.round()).all():
                rows[name] = rows[name].round()
        else:
            rows[name] = rows[name].astype(object)
    return rows


def arf_rows(train: pd.DataFrame, seed: int, **parameters: Any) -> Draw:
    """Adversarial random forests of arfpy."""
    from arfpy import arf

    filled = without_gaps(train, seed)
    texts = filled.columns[~numeric(train)]
    filled[texts] = filled[texts].astype("category")
    with global_seed(seed):
        model = arf.arf(filled, verbose=False, random_state=seed, **parameters)
        model.forde()

    def draw(n: int, seed: int) -> pd.DataFrame:
        with global_seed(seed):
            return rounded(model.forge(n), train)

    return draw


def forest_diffusion_rows(train: pd.DataFrame, seed: int, **parameters: Any) -> Draw:
    """ForestDiffusion, flow matching by default, with the kinds of the columns told."""
    from ForestDiffusion import ForestDiffusionModel

    is_number = numeric(train)
    filled = without_gaps(train, seed)
    encoder = OrdinalEncoder()
    X = np.empty(filled.shape)
    X[:, is_number] = filled.loc[:, is_number]
    X[:, ~is_number] = encoder.fit_transform(filled.loc[:, ~is_number])
    kinds: dict[str, list[int]] = {"bin_indexes": [], "cat_indexes": [], "int_indexes": []}
    for j in range(X.shape[1]):
        if is_number[j]:
            if (X[:, j] == X[:, j].round()).all():
                kinds["int_indexes"].append(j)
        else:
            kinds["bin_indexes" if len(np.unique(X[:, j])) <= 2 else "cat_indexes"].append(j)
    model = ForestDiffusionModel(X, n_jobs=1, seed=seed, **kinds, **parameters)

    def draw(n: int, seed: int) -> pd.DataFrame:
        with global_seed(seed):
            new = model.generate(batch_size=n)
        rows = pd.DataFrame(new, columns=train.columns).astype(object)
        codes = new[:, ~is_number].astype(float).round()
        largest = np.array([len(c) - 1 for c in encoder.categories_])
        rows.loc[:, ~is_number] = encoder.inverse_transform(np.clip(codes, 0, largest))
        return rounded(rows, train)

    return draw


def ctgan_rows(train: pd.DataFrame, seed: int, kind: str, **parameters: Any) -> Draw:
    """TVAE or CTGAN of ctgan."""
    import ctgan

    filled = without_gaps(train, seed)
    model = getattr(ctgan, kind)(enable_gpu=False, **parameters)
    model.set_random_state(seed)
    with global_seed(seed):
        model.fit(filled, list(train.columns[~numeric(train)]))

    def draw(n: int, seed: int) -> pd.DataFrame:
        model.set_random_state(seed)
        return rounded(model.sample(n), train)

    return draw


def copula_rows(train: pd.DataFrame, seed: int) -> Draw:
    """Gaussian copula of copulas; a category is a uniform number between its cumulated shares."""
    from copulas.multivariate import GaussianMultivariate

    rng = np.random.default_rng(seed)
    filled = without_gaps(train, seed)
    texts = train.columns[~numeric(train)]
    edges = {}
    for name in texts:
        shares = filled[name].value_counts(normalize=True)
        stop = shares.cumsum()
        edges[name] = stop
        width = filled[name].map(shares).to_numpy(float)
        filled[name] = filled[name].map(stop).to_numpy(float) - width * rng.random(len(train))
    with global_seed(seed):
        model = GaussianMultivariate(random_state=seed)
        model.fit(filled)

    def draw(n: int, seed: int) -> pd.DataFrame:
        model.set_random_state(seed)
        rows = model.sample(n)
        for name in texts:
            position = np.searchsorted(edges[name].to_numpy(), rows[name])
            rows[name] = edges[name].index.to_numpy()[np.minimum(position, len(edges[name]) - 1)]
        return rounded(rows, train)

    return draw


SYNTHESIZERS: dict[str, Callable[[pd.DataFrame, int], Draw]] = {
    OURS: skae_rows,
    "training rows": training_rows,
    "sequential trees": sequential_trees,
    "ARF": arf_rows,
    "ForestDiffusion": forest_diffusion_rows,
    "TVAE": partial(ctgan_rows, kind="TVAE"),
    "TVAE, batches of 100": partial(ctgan_rows, kind="TVAE", batch_size=100),
    "CTGAN": partial(ctgan_rows, kind="CTGAN"),
    "Gaussian copula": copula_rows,
    "independent columns": independent_columns,
    "bootstrap": bootstrap,
}
PACKAGES = {  # of methods
    "ARF": "arfpy",
    "ForestDiffusion": "ForestDiffusion",
    "TVAE": "ctgan",
    "TVAE, batches of 100": "ctgan",
    "CTGAN": "ctgan",
    "Gaussian copula": "copulas",
    "FAMD, prince": "prince",
}


def synthesize(name: str, train: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Fit the method to the training rows and draw n rows."""
    return SYNTHESIZERS[name](train, seed)(n, seed)


# -- imputers ----------------------------------------------------------------------------


def mean_or_mode(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Fill by means of numbers and the most frequent of categories."""
    filled = frame.copy()
    for number, name in zip(numeric(frame), frame.columns, strict=True):
        value = frame[name].mean() if number else frame[name].mode().iloc[0]
        filled[name] = frame[name].fillna(value)
    return filled


class Indicators:
    """Numbers standardised, categories as indicators; gaps are NaN in all columns of theirs."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.is_number = numeric(frame)
        (codes,) = encoded(frame)
        blocks = []
        self.scalers: list[StandardScaler | None] = []
        self.values: list[np.ndarray | None] = []
        for j, number in enumerate(self.is_number):
            column = codes[:, [j]]
            if number:
                scaler = StandardScaler().fit(column)
                self.scalers.append(scaler)
                self.values.append(None)
                blocks.append(scaler.transform(column))
            else:
                values = frame.iloc[:, j].dropna().unique()  # in the order of the codes
                block = (column == np.arange(len(values))).astype(float)
                block[np.isnan(column[:, 0])] = np.nan
                self.scalers.append(None)
                self.values.append(np.asarray(values, dtype=object))
                blocks.append(block)
        widths = [block.shape[1] for block in blocks]
        stops = np.cumsum(widths)
        self.slices = [slice(b - w, b) for b, w in zip(stops, widths, strict=True)]
        self.X = np.hstack(blocks)
        self.of_category = np.repeat(~self.is_number, widths)

    def fill(self, X: np.ndarray) -> pd.DataFrame:
        """Fill the gaps of the frame: numbers as they are, the largest indicator of categories."""
        filled = self.frame.copy()
        for j, name in enumerate(self.frame.columns):
            gaps = self.frame[name].isna().to_numpy()
            if not gaps.any():
                continue
            block = X[gaps, self.slices[j]]
            scaler, values = self.scalers[j], self.values[j]
            column = self.frame[name].to_numpy(dtype=object if scaler is None else float, copy=True)
            if scaler is None:
                column[gaps] = values[block.argmax(axis=1)]
            else:
                column[gaps] = scaler.inverse_transform(block)[:, 0]
            filled[name] = column
        return filled


def nearest_neighbours(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """KNNImputer on standardised numbers and indicators."""
    table = Indicators(frame)
    return table.fill(KNNImputer(n_neighbors=5).fit_transform(table.X))


def iterative_ridge(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """IterativeImputer, Bayesian ridge, on standardised numbers and indicators."""
    table = Indicators(frame)
    return table.fill(IterativeImputer(random_state=seed).fit_transform(table.X))


def iterative_famd(
    frame: pd.DataFrame, seed: int = 0, n_components: int = 2, max_iter: int = 100
) -> pd.DataFrame:
    """Regularised iterative FAMD: gaps are replaced by what a few axes restore, until they stay.

    Audigier, Husson and Josse (2016), https://doi.org/10.1007/s11634-014-0195-1.
    """
    table = Indicators(frame)
    gaps = np.isnan(table.X)
    X = np.where(gaps, np.nanmean(table.X, axis=0), table.X)
    for _ in range(max_iter):
        mean = X.mean(axis=0)
        scale = np.where(table.of_category, np.sqrt(np.maximum(mean, 1e-12)), X.std(axis=0))
        scale[scale == 0] = 1
        U, s, Vt = np.linalg.svd((X - mean) / scale, full_matrices=False)
        k = min(n_components, len(s) - 1)
        noise = np.mean(np.square(s[k:]))
        kept = np.maximum(s[:k] - noise / s[:k], 0)
        restored = (U[:, :k] * kept) @ Vt[:k] * scale + mean
        change = np.sqrt(np.mean(np.square(restored - X)[gaps])) if gaps.any() else 0.0
        X[gaps] = restored[gaps]
        if change < 1e-3:
            break
    return table.fill(X)


def miss_forest(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Extra trees column by column, that with the fewest gaps first, five rounds."""
    is_number = numeric(frame)
    gaps = frame.isna().to_numpy()
    start = mean_or_mode(frame)
    encoder = OrdinalEncoder()
    X = np.empty(frame.shape)
    X[:, is_number] = start.loc[:, is_number]
    if not is_number.all():
        X[:, ~is_number] = encoder.fit_transform(start.loc[:, ~is_number].astype(object))
    for _ in range(ROUNDS):
        for j in np.argsort(gaps.sum(axis=0), kind="stable"):
            missing = gaps[:, j]
            if not missing.any():
                continue
            kind = ExtraTreesRegressor if is_number[j] else ExtraTreesClassifier
            model = kind(50, min_samples_leaf=3, max_features=0.5, random_state=seed)
            others = np.delete(X, j, axis=1)
            X[missing, j] = model.fit(others[~missing], X[~missing, j]).predict(others[missing])
    filled = frame.copy()
    for j in np.flatnonzero(is_number):
        filled[frame.columns[j]] = X[:, j]
    if not is_number.all():
        filled[frame.columns[~is_number]] = encoder.inverse_transform(X[:, ~is_number])
    return filled


def skae_filled(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """skae's TableAutoencoder: mean or mode."""
    from skae import TableAutoencoder

    return TableAutoencoder(random_state=seed).fit(frame).impute(frame)


def skae_draws(frame: pd.DataFrame, seed: int = 0) -> list[pd.DataFrame]:
    """Draws of skae's TableAutoencoder."""
    from skae import TableAutoencoder

    model = TableAutoencoder(random_state=seed).fit(frame)
    return model.impute(frame, n_imputations=N_DRAWS, random_state=seed)


IMPUTERS: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    OURS: skae_filled,
    "MissForest": miss_forest,
    "iterative FAMD, 2": iterative_famd,
    "iterative FAMD, 5": partial(iterative_famd, n_components=5),
    "5 nearest neighbours": nearest_neighbours,
    "iterative ridge": iterative_ridge,
    "mean, mode": mean_or_mode,
}
MULTIPLE: dict[str, Callable[[pd.DataFrame, int], list[pd.DataFrame]]] = {
    OURS: skae_draws,
    "observed draws": lambda frame, seed: [
        without_gaps(frame, N_DRAWS * seed + i) for i in range(N_DRAWS)
    ],
}


# -- codes -------------------------------------------------------------------------------


class RootOfFrequency(OneHotEncoder):
    """Indicators over the root of their frequency, centred, as FAMD has them."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> RootOfFrequency:
        super().fit(X)
        self.frequency_ = super().transform(X).mean(axis=0)
        return self

    def fit_transform(self, X: pd.DataFrame, y: Any = None) -> np.ndarray:
        return self.fit(X).transform(X)

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        return (super().transform(X) - self.frequency_) / np.sqrt(self.frequency_)


def filled_and_encoded(train: pd.DataFrame, encoder: OneHotEncoder) -> Any:
    """Mean or mode for gaps; standardised numbers and what the encoder makes of categories."""
    is_number = numeric(train)
    as_objects = FunctionTransformer(lambda X: X.astype(object).where(X.notna(), np.nan))
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), list(train.columns[is_number])),
        (
            make_pipeline(as_objects, SimpleImputer(strategy="most_frequent"), encoder),
            list(train.columns[~is_number]),
        ),
    )


def linear_codes(
    encoder: type[OneHotEncoder], train: pd.DataFrame, test: pd.DataFrame, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """PCA of the encoded columns."""
    model = filled_and_encoded(train, encoder(handle_unknown="ignore", sparse_output=False))
    Z, Z_test = model.fit_transform(train), model.transform(test)
    if k:
        pca = PCA(min(k, *Z.shape), random_state=seed).fit(Z)
        Z, Z_test = pca.transform(Z), pca.transform(Z_test)
    return Z, Z_test


def prince_codes(
    train: pd.DataFrame, test: pd.DataFrame, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """FAMD of prince; gaps are filled by the mean or mode of the training rows."""
    from prince import FAMD

    is_number = numeric(train)
    texts = list(train.columns[~is_number])
    fill = {c: train[c].mode().iloc[0] if c in texts else train[c].mean() for c in train.columns}
    train, test = train.fillna(fill), test.fillna(fill)
    train, test = (f.astype(dict.fromkeys(texts, object)) for f in (train, test))
    model = FAMD(
        n_components=k, random_state=seed, categorical_columns=texts, handle_unknown="ignore"
    )
    model.fit(train)
    return np.asarray(model.transform(train)), np.asarray(model.transform(test))


def accuracy(Z: np.ndarray, y: np.ndarray, Z_test: np.ndarray, y_test: np.ndarray) -> float:
    """Accuracy of logistic regression behind StandardScaler, in points."""
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return 100 * float(reader.fit(Z, y).score(Z_test, y_test))


def skae_codes(
    train: pd.DataFrame, test: pd.DataFrame, k: int, seed: int, y: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """skae's codes, without y, or with y and target_weight=1."""
    from skae import TableAutoencoder

    weight = 0 if y is None else 1
    model = TableAutoencoder(k, target_weight=weight, random_state=seed)
    model.fit(train) if y is None else model.fit(train, y)
    return np.asarray(model.transform(train)), np.asarray(model.transform(test))


CODERS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    OURS: skae_codes,
    f"{OURS}, y": skae_codes,
    "FAMD": partial(linear_codes, RootOfFrequency),
    "one-hot + PCA": partial(linear_codes, OneHotEncoder),
    "one-hot, all columns": partial(linear_codes, OneHotEncoder),
    "FAMD, prince": prince_codes,
}
REFERENCES = "FAMD", "one-hot + PCA"


# -- measurements ------------------------------------------------------------------------


def measure_synthesis(method: str, frame: pd.DataFrame, target: str, seed: int) -> list[Record]:
    """Scores of as many synthetic rows as training rows."""
    train, test = split(frame, target)
    start = time.perf_counter()
    draw = SYNTHESIZERS[method](train, seed)
    fitted = time.perf_counter()
    synthetic = draw(len(train), seed)
    drawn = time.perf_counter()
    scores = score_synthesis(synthetic, train, test, target, seed)
    return [{**scores, "fit_s": fitted - start, "sample_s": drawn - fitted}]


def measure_imputation(method: str, frame: pd.DataFrame, target: str, seed: int) -> list[Record]:
    """Errors of the cells removed with the seed."""
    with_gaps, removed = remove_cells(frame, seed=seed)
    start = time.perf_counter()
    filled = IMPUTERS[method](with_gaps, seed)
    seconds = time.perf_counter() - start
    return [{**score_imputation(filled, frame, removed), "fit_s": seconds}]


def measure_calibration(method: str, frame: pd.DataFrame, target: str, seed: int) -> list[Record]:
    """Shares of the removed cells in the intervals of their draws."""
    with_gaps, removed = remove_cells(frame, seed=seed)
    return [score_draws(MULTIPLE[method](with_gaps, seed), frame, removed)]


def conditions_of(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Make a condition on a category, on a number, and on both."""
    is_number = numeric(frame)
    made: dict[str, dict[str, Any]] = {}
    if not is_number.all():
        name = frame.columns[~is_number][0]
        counts = frame[name].value_counts()
        made["category"] = {name: counts.index[min(1, len(counts) - 1)]}
    if is_number.any():
        name = frame.columns[is_number][0]
        made["number"] = {name: tuple(float(q) for q in frame[name].quantile([0.25, 0.75]))}
    if len(made) == 2:
        made["both"] = {**made["category"], **made["number"]}
    return made


def holds(rows: pd.DataFrame, condition: dict[str, Any]) -> np.ndarray:
    """Tell the rows that hold a condition; bounds of numbers are included."""
    held = np.ones(len(rows), dtype=bool)
    for name, value in condition.items():
        column = rows[name]
        held &= np.asarray(column.between(*value) if isinstance(value, tuple) else column == value)
    return held


def measure_conditions(method: str, frame: pd.DataFrame, target: str, seed: int) -> list[Record]:
    """Share of rows that hold the condition, and seconds over those without one."""
    from skae import TableAutoencoder

    train, _ = split(frame, target)
    model = TableAutoencoder(random_state=seed).fit(train)
    model.sample(N_CONDITIONED, random_state=seed)
    start = time.perf_counter()
    model.sample(N_CONDITIONED, random_state=seed)
    plain = time.perf_counter() - start
    records = []
    for kind, condition in conditions_of(train).items():
        start = time.perf_counter()
        rows = model.sample(N_CONDITIONED, condition=condition, random_state=seed)
        cost = (time.perf_counter() - start) / plain
        held = float(holds(rows, condition).mean()) * len(rows) / N_CONDITIONED
        records.append({"condition": kind, "held": held, "cost": cost})
    return records


def measure_codes(method: str, frame: pd.DataFrame, target: str, seed: int) -> list[Record]:
    """Accuracy of a reader of the codes."""
    frame = frame[frame[target].notna()]
    y = frame[target].astype(str).to_numpy()
    train, test, y_train, y_test = train_test_split(
        frame.drop(columns=target), y, test_size=0.4, random_state=seed, stratify=y
    )
    records = []
    for k in N_CODES:
        extra = {"y": y_train} if method == f"{OURS}, y" else {}
        size = 0 if method == "one-hot, all columns" else k
        Z, Z_test = CODERS[method](train, test, size, seed, **extra)
        records.append({"k": k, "accuracy": accuracy(Z, y_train, Z_test, y_test)})
    return records


def measure_seconds(method: str, frame: pd.DataFrame, target: str, seed: int) -> list[Record]:
    """Seconds of a fit to the whole table and of 10,000 rows."""
    start = time.perf_counter()
    draw = SYNTHESIZERS[method](frame, seed)
    fitted = time.perf_counter()
    draw(N_TIMED, seed)
    return [{"fit_s": fitted - start, "sample_s": time.perf_counter() - fitted}]


MEASURES: dict[str, tuple[Sequence[str], Callable[..., list[Record]]]] = {
    "synthesis": (list(SYNTHESIZERS), measure_synthesis),
    "imputation": (list(IMPUTERS), measure_imputation),
    "calibration": (list(MULTIPLE), measure_calibration),
    "conditions": ([OURS], measure_conditions),
    "codes": (list(CODERS), measure_codes),
    "seconds": ([OURS, "sequential trees"], measure_seconds),
}
METHODS = list(dict.fromkeys(method for methods, _ in MEASURES.values() for method in methods))


# -- processes ---------------------------------------------------------------------------


def _send(
    sender: Any, what: str, method: str, frame: pd.DataFrame, target: str, n_seeds: int
) -> None:
    warnings.simplefilter("ignore")
    if method.startswith(OURS):
        import skae  # noqa: F401  # not a part of the seconds
    try:
        with threadpool_limits(1):
            for seed in range(n_seeds):
                sender.send(MEASURES[what][1](method, frame, target, seed))
    except Exception as error:  # of a peer: told, and the others go on
        sender.send(f"{type(error).__name__}: {error}".splitlines()[0])


def in_new_process(limit: float, n_seeds: int, *arguments: Any) -> Iterator[list[Record] | str]:
    """Measure with each seed in a new process, or say why there is no result."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, *arguments, n_seeds))
    process.start()
    sender.close()
    try:
        for _ in range(n_seeds):
            if not receiver.poll(limit):
                yield f"more than {limit:.0f} s"
                return
            result = receiver.recv()
            yield result
            if isinstance(result, str):
                return
    except EOFError:
        yield "the process ended without a result"
    finally:
        process.terminate()
        process.join()


def measure(args: argparse.Namespace, tables: dict[str, tuple[pd.DataFrame, str]]) -> list[Record]:
    """Measure all; write after each method."""
    records: list[Record] = []
    for what in args.what:
        for method in MEASURES[what][0]:
            if method not in args.methods:
                continue
            package = PACKAGES.get(method)
            if package and importlib.util.find_spec(package) is None:
                print(f"{method} left out: {package} is not installed", flush=True)
                continue
            for table, (frame, target) in tables.items():
                results = in_new_process(args.limit, args.seeds, what, method, frame, target)
                for seed, result in enumerate(results):
                    where = {"what": what, "method": method, "table": table, "seed": seed}
                    if isinstance(result, str):
                        print(f"{method} left out on {table}, {what}: {result}", flush=True)
                        records.append({**where, "failure": result})
                        continue
                    records += [{**where, **each} for each in result]
                    if args.verbose:
                        print(*({**where, **each} for each in result), sep="\n", flush=True)
            if args.json:
                args.json.write_text(json.dumps(records, indent=1) + "\n")
    return records


# -- tables of results -------------------------------------------------------------------


def means(records: list[Record], measure: str, index: Any = "method") -> pd.DataFrame:
    """Means over seeds: methods by tables, in the order of the records, and their mean."""
    frame = pd.DataFrame([r for r in records if measure in r])
    if frame.empty:
        return frame
    by_table = frame.groupby([*np.atleast_1d(index), "table"], sort=False)[measure].mean()
    by_table = by_table.unstack("table")
    order = {name: i for i, name in enumerate(TARGETS)}
    by_table = by_table[sorted(by_table.columns, key=lambda name: order.get(name, len(order)))]
    # A mean over some of the tables would be compared with one over all.
    return by_table.assign(mean=by_table.mean(axis=1).where(by_table.notna().all(axis=1)))


def print_frame(title: str, frame: pd.DataFrame, digits: int = 3) -> None:
    """Print a table in Markdown."""
    if frame.empty:
        return
    print(f"\n{title}\n")
    names = [str(name) for name in frame.index.names]
    for line in [[*names, *frame.columns], ["---"] * (len(names) + frame.shape[1])]:
        print(f"| {' | '.join(map(str, line))} |")
    for key, row in zip(frame.index, frame.to_numpy(float), strict=True):
        key = key if isinstance(key, tuple) else (key,)
        cells = ["–" if np.isnan(value) else f"{value:.{digits}f}" for value in row]
        print(f"| {' | '.join([*map(str, key), *cells])} |")


def print_duels(title: str, frame: pd.DataFrame, larger_is_better: bool) -> None:
    """Print on which tables skae wins and loses against each other method, by how much."""
    if frame.empty or OURS not in frame.index or len(frame) < 2:
        return
    print(f"\n{title}\n\n| against | wins | losses |\n| --- | --- | --- |")
    frame = frame.drop(columns="mean")
    for method in frame.index.drop(OURS):
        gain = (frame.loc[OURS] - frame.loc[method]).dropna() * (1 if larger_is_better else -1)
        sides = gain[gain > 0], gain[gain <= 0]
        texts = [", ".join(f"{t} {g:+.3f}" for t, g in side.items()) or "–" for side in sides]
        print(f"| {method} | {' | '.join(texts)} |")


def print_synthesis(records: list[Record]) -> None:
    for measure, better in ("tstr", "larger"), ("detection", "smaller"):
        frame = means(records, measure)
        print_frame(f"Synthesis: {measure}, {better} is better", frame)
        print_duels(f"Synthesis: {measure} of {OURS}, gain", frame, better == "larger")
    measures = "tstr", "detection", "shape", "trend", "nearest", "copies", "membership"
    columns = {m: means(records, m)["mean"] for m in (*measures, "fit_s", "sample_s")}
    print_frame("Synthesis: means over the tables", pd.DataFrame(columns))
    print_frame("Synthesis: seconds of a fit", means(records, "fit_s"), 2)


def print_imputation(records: list[Record]) -> None:
    frames = {measure: means(records, measure) for measure in ("rmse", "error", "fit_s")}
    for measure, title in ("rmse", "RMSE / deviation"), ("error", "error rate"):
        print_frame(f"Imputation: {title}", frames[measure])
        print_duels(f"Imputation: {title} of {OURS}, gain", frames[measure], False)
    ranks = [
        rankdata(frames[measure].drop(columns="mean"), axis=0, nan_policy="omit")
        for measure in ("rmse", "error")
    ]
    columns = {measure: frame["mean"] for measure, frame in frames.items()}
    columns["mean rank"] = np.nanmean(np.hstack(ranks), axis=1)
    print_frame("Imputation: means over the tables", pd.DataFrame(columns))


def print_calibration(records: list[Record]) -> None:
    for measure in "numbers", "categories":
        frame = means(records, measure)
        print_frame(f"Calibration: {measure} in their {LEVEL:.0%} interval or set", frame)


def print_conditions(records: list[Record]) -> None:
    for measure, title in ("held", "rows that hold it"), ("cost", "seconds over those without"):
        frame = means(records, measure, ["method", "condition"])
        print_frame(f"Conditions: {title}", frame)


def print_codes(records: list[Record]) -> None:
    frame = means(records, "accuracy", ["k", "method"])
    print_frame("Codes: accuracy in points", frame, 1)
    gains = []
    for k in N_CODES:
        of_k = frame.loc[k].drop(columns="mean")
        references = [name for name in REFERENCES if name in of_k.index]
        if references:
            gain = of_k - of_k.loc[references].max()
            gain.index = pd.MultiIndex.from_product([[k], gain.index], names=["k", "method"])
            gains.append(gain.assign(mean=gain.mean(axis=1), worst=gain.min(axis=1)))
    if gains:
        title = f"Codes: points above the better of {' and '.join(REFERENCES)}"
        print_frame(title, pd.concat(gains), 1)


def print_seconds(records: list[Record]) -> None:
    for measure, title in ("fit_s", "a fit to the table"), ("sample_s", f"{N_TIMED:,} rows"):
        print_frame(f"Seconds: {title}", means(records, measure), 2)


PRINTERS = {
    "synthesis": print_synthesis,
    "imputation": print_imputation,
    "calibration": print_calibration,
    "conditions": print_conditions,
    "codes": print_codes,
    "seconds": print_seconds,
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of tables, *.csv")
    parser.add_argument("--tables", nargs="+", help="names of tables; all by default")
    parser.add_argument("--targets", nargs="+", default=[], metavar="TABLE=COLUMN")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--what", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600, help="seconds of a method on a table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all records")
    parser.add_argument(
        "--from",
        type=Path,
        nargs="+",
        default=[],
        dest="earlier",
        metavar="FILE",
        help="print records of earlier runs, too; a later one replaces the same of an earlier one",
    )
    parser.add_argument("--verbose", action="store_true", help="print each record")
    args = parser.parse_args(arguments)
    if not args.data and not args.earlier:
        parser.error("--data or --from is needed")
    return args


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    records = [each for path in args.earlier for each in json.loads(path.read_text())]
    if args.data:
        from quality_vs_pca import describe_machine  # slow to import, and not needed elsewhere

        print(*(f"{key}: {value}" for key, value in describe_machine(1).items()), sep="\n")
        targets = dict(each.split("=", 1) for each in args.targets)
        tables = read_tables(args.data, targets)
        chosen = {name: tables[name] for name in args.tables or tables}
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # new processes inherit it
        try:
            records += measure(args, chosen)
        finally:
            del os.environ["OMP_NUM_THREADS"]
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before
    keys = "what", "method", "table", "seed", "condition", "k"
    records = list({tuple(r.get(key) for key in keys): r for r in records}.values())
    for what, print_records in PRINTERS.items():
        of_what = [r for r in records if r["what"] == what and "failure" not in r]
        if of_what:
            print_records(of_what)


if __name__ == "__main__":
    main()
