"""Whether differences between folds are more than luck, and worth their price."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.05  # of all intervals of one measure together
PAIR = ("estimator", "n_components")
PRACTICAL_SIGNIFICANCE = 0.05  # least share of what the reference leaves to 1 that a gain must take
PRACTICAL_SIGNIFICANCE_OF_SCORES = 0.01  # and least gain of a downstream score


def corrected_interval(
    differences: np.ndarray, test_ratio: float, level: float = LEVEL
) -> tuple[float, float, float]:
    """Mean of paired differences over folds, and its corrected t-interval.

    The training parts of folds overlap, so that the usual standard error is too small. Nadeau
    and Bengio [1]_ put ``1 / J + n_test / n_train`` in the place of ``1 / J``.

    Parameters
    ----------
    differences : ndarray of shape (n_folds,)
    test_ratio : float
        Test rows of a fold for each of its training rows.
    level : float, default=0.05
        Probability that the interval misses, at both ends together.

    Returns
    -------
    mean, lower, upper : float

    References
    ----------
    .. [1] Nadeau and Bengio (2003). Inference for the generalization error. Machine Learning
       52. https://doi.org/10.1023/A:1024068626366

    Examples
    --------
    >>> import numpy as np
    >>> from skae._model_selection.significance import corrected_interval
    >>> mean, lower, upper = corrected_interval(np.array([0.10, 0.12, 0.11]), 0.5)
    >>> print(round(mean, 3), round(lower, 3), round(upper, 3))
    0.11 0.071 0.149
    """
    n_folds = len(differences)
    mean, spread = np.mean(differences), np.std(differences, ddof=1)
    half = stats.t.ppf(1 - level / 2, n_folds - 1) * spread * np.sqrt(1 / n_folds + test_ratio)
    return float(mean), float(mean - half), float(mean + half)


def paired_differences(
    results: Any, reference: str, measures: dict[str, str], test_ratio: float
) -> list[dict[str, Any]]:
    """Compare every estimator with the reference of the same size, measure by measure.

    Parameters
    ----------
    results : DataFrame
        One row for each estimator, size and fold.
    reference : str
        Name of the estimator that the others are compared with.
    measures : dict of str to str
        Columns to compare, and how they are called.
    test_ratio : float
        Test rows of a fold for each of its training rows.

    Returns
    -------
    rows : list of dict
        One for each measure, other estimator and size; `outcome` is "alike" where the
        difference is too small to matter, else "better" or "worse" if the interval excludes
        zero, and "undecided" if it does not.
    """
    rows = []
    for measure in measures:
        table = results.pivot(index="fold", columns=["estimator", "n_components"], values=measure)
        others = [pair for pair in table if pair[0] != reference]
        for name, size in others:
            theirs, own = (table[label, size].to_numpy() for label in (reference, name))
            level = LEVEL / len(others)
            least = PRACTICAL_SIGNIFICANCE_OF_SCORES if measure == "downstream_score" else 0.0
            rows.append(
                {"measure": measure, "estimator": name, "n_components": int(size)}
                | _difference(theirs, own, test_ratio, level, least)
            )
    return rows


def _difference(
    theirs: np.ndarray, own: np.ndarray, ratio: float, level: float, least: float
) -> dict[str, Any]:
    mean, lower, upper = corrected_interval(own - theirs, ratio, level)
    left = 1 - float(theirs.mean())
    matters = left > 0 and abs(mean) >= max(least, PRACTICAL_SIGNIFICANCE * left)
    return {
        "reference_mean": float(theirs.mean()),
        "mean": float(own.mean()),
        "difference": mean,
        "lower": lower,
        "upper": upper,
        "share_of_left": mean / left if left > 0 else 0.0,
        "outcome": _outcome(lower, upper) if matters else "alike",
    }


def _outcome(lower: float, upper: float) -> str:
    if lower > 0:
        return "better"
    return "worse" if upper < 0 else "undecided"


def verdict_of(
    rows: list[dict[str, Any]], reference: str, measures: dict[str, str]
) -> tuple[str, bool]:
    """Say in a sentence or two what the differences come to.

    Parameters
    ----------
    rows : list of dict
        As `paired_differences` returns them.
    reference : str
    measures : dict of str to str
        First the reconstruction's, then, where there is one, the downstream score's.

    Returns
    -------
    verdict : str
    suffices : bool
        Whether nothing is better than the reference by any measure.
    """
    parts = [[row for row in rows if row["measure"] == measure] for measure in measures]
    best = [_strongest([r for r in part if r["outcome"] == "better"]) for part in parts]
    label = list(measures.values())[-1] if len(parts) > 1 else None
    suffices, restores = not any(best), best[0] is not None
    named = best[0] or max(parts[0], key=_size_of_gain)
    first = _gain(named, reference) if restores else _no_gain(named, reference, alone=suffices)
    sentences = [first]
    if label is not None:
        sentences.append(_downstream(parts[1], named, label, reference, restores=restores))
    return " ".join(sentences), suffices


def _strongest(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    return max(rows, key=_size_of_gain, default=None)


def _size_of_gain(row: dict[str, Any]) -> float:
    return row["difference"]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.0995 else f"{100 * share:.1f} %"


def _components(size: int) -> str:
    return f"{size} component" + ("s" if size > 1 else "")


def _gain(row: dict[str, Any], reference: str) -> str:
    return (
        f"{row['estimator']} restores held-out rows better than {reference}: with "
        f"{_components(row['n_components'])} it explains {row['mean']:.3f} of their variance "
        f"instead of {row['reference_mean']:.3f} (difference {row['difference']:.3f}, interval "
        f"{row['lower']:.3f} to {row['upper']:.3f}), which is {_percent(row['share_of_left'])} "
        f"of what {reference} leaves unexplained."
    )


def _no_gain(row: dict[str, Any], reference: str, *, alone: bool) -> str:
    head = f"{reference} suffices" if alone else f"{reference} suffices to restore rows"
    share = row["share_of_left"]
    unclear = "" if share < PRACTICAL_SIGNIFICANCE else ", which the folds cannot tell from chance"
    closest = (
        f"takes {_percent(share)} of the variance that {reference} leaves unexplained{unclear}"
        if share >= 0.0005
        else f"explains no more held-out variance than {reference}"
    )
    return (
        f"{head}: the strongest rival, {row['estimator']} with "
        f"{_components(row['n_components'])}, {closest}."
    )


def _downstream(
    rows: list[dict[str, Any]],
    named: dict[str, Any],
    label: str,
    reference: str,
    *,
    restores: bool,
) -> str:
    """Say whether prediction gains, too or all the same; `named` is who was spoken of."""
    better = _strongest([row for row in rows if row["outcome"] == "better"])
    if better is not None:
        return f"The {label} is {'also ' * restores}higher: {_scores(better, reference)}."
    worse = [row for row in rows if row["outcome"] == "worse"]
    if worse:
        though = ", though" if restores else ""
        return f"The {label} is lower{though}: {_scores(min(worse, key=_size_of_gain), reference)}."
    shown = next(row for row in rows if all(row[key] == named[key] for key in PAIR))
    gains = [row for row in rows if row["outcome"] == "undecided" and row["difference"] > 0]
    open_gain = shown if shown in gains else _strongest(gains)
    if open_gain is not None:
        return (
            f"The folds leave open whether the {label} gains{' too' * restores}: "
            f"{_scores(open_gain, reference)} (interval of the difference "
            f"{open_gain['lower']:.3f} to {open_gain['upper']:.3f})."
        )
    head = f"For prediction {reference} suffices all the same: the" if restores else "The"
    return f"{head} {label} shows no gain worth naming at any size ({_scores(shown, reference)})."


def _scores(row: dict[str, Any], reference: str) -> str:
    return (
        f"{row['mean']:.3f} for {row['estimator']} and {row['reference_mean']:.3f} for "
        f"{reference} with {_components(row['n_components'])}"
    )
