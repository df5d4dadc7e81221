"""Which differences between estimators, over the same folds, are significant and matter."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

ALPHA = 0.05  # familywise, for all intervals of one measure
# The smallest gain that matters, as a share of 1 minus the reference's score ...
PRACTICAL_SIGNIFICANCE = 0.05
# ... and the smallest gain of a downstream score.
PRACTICAL_SIGNIFICANCE_OF_SCORES = 0.01


def corrected_interval(
    differences: np.ndarray, test_ratio: float, alpha: float = ALPHA
) -> tuple[float, float, float]:
    """Mean of paired differences of shape (n_folds,), and the ends of its corrected t-interval.

    The training parts of folds overlap, so that the usual standard error is too small. Nadeau
    and Bengio (2003, https://doi.org/10.1023/A:1024068626366) replace ``1 / n_folds`` in its
    square by ``1 / n_folds + test_ratio``, the ratio of test rows to training rows of a fold.

    >>> import numpy as np
    >>> from skae._model_selection.significance import corrected_interval
    >>> mean, lower, upper = corrected_interval(np.array([0.10, 0.12, 0.11]), 0.5)
    >>> print(round(mean, 3), round(lower, 3), round(upper, 3))
    0.11 0.071 0.149
    """
    n_folds = len(differences)
    mean, spread = np.mean(differences), np.std(differences, ddof=1)
    half = stats.t.ppf(1 - alpha / 2, n_folds - 1) * spread * np.sqrt(1 / n_folds + test_ratio)
    return float(mean), float(mean - half), float(mean + half)


def paired_differences(
    results: Any, reference: str, measures: dict[str, str], test_ratio: float
) -> list[dict[str, Any]]:
    """Compare every estimator with the reference of the same size, measure by measure.

    `results` has one row for each estimator, size and fold; the keys of `measures` are columns
    of it. Returns one dict for each measure, other estimator and size, with the `outcome`:
    "alike" if the difference is too small to matter, else "better" or "worse" if its interval
    excludes zero, and "undecided" if it does not.
    """
    rows = []
    for measure in measures:
        table = results.pivot(index="fold", columns=["estimator", "n_components"], values=measure)
        others = [pair for pair in table if pair[0] != reference]
        smallest = PRACTICAL_SIGNIFICANCE_OF_SCORES if measure == "downstream_score" else 0.0
        for name, size in others:
            scores, own = (table[label, size].to_numpy() for label in (reference, name))
            rows.append(
                {"measure": measure, "estimator": name, "n_components": int(size)}
                | _difference(scores, own, test_ratio, ALPHA / len(others), smallest)
            )
    return rows


def _difference(
    reference: np.ndarray, own: np.ndarray, test_ratio: float, alpha: float, smallest: float
) -> dict[str, Any]:
    """Compare scores of one estimator with the reference's, both of shape (n_folds,)."""
    mean, lower, upper = corrected_interval(own - reference, test_ratio, alpha)
    room = 1 - float(reference.mean())  # for improvement
    matters = room > 0 and abs(mean) >= max(smallest, PRACTICAL_SIGNIFICANCE * room)
    return {
        "reference_mean": float(reference.mean()),
        "mean": float(own.mean()),
        "difference": mean,
        "lower": lower,
        "upper": upper,
        "share_of_left": mean / room if room > 0 else 0.0,
        "outcome": _outcome(lower, upper) if matters else "alike",
    }


def _outcome(lower: float, upper: float) -> str:
    if lower > 0:
        return "better"
    return "worse" if upper < 0 else "undecided"
