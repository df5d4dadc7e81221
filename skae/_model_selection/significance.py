"""Which differences between estimators, over the same folds, are significant and matter."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from scipy import stats

ALPHA = 0.05  # familywise, for all intervals of one family of comparisons
# The smallest difference that matters, as a share of 1 minus the reference's score ...
PRACTICAL_SIGNIFICANCE = 0.05
# ... and its bounds. A loss of five points always matters, also where 1 minus the score is large.
BOUNDS = {"explained_variance": (1e-6, np.inf), "downstream_score": (0.01, 0.05)}


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
    results: Any,
    reference: str,
    measures: dict[str, str],
    test_ratio: float,
    *,
    supervised: Collection[str] = (),
    baselines: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Compare every estimator with the reference of the same size, and with the baselines.

    An estimator of a size that the reference does not have is compared with the next larger one.

    `results` has one row for each estimator, size and fold; the keys of `measures` are columns
    of it. `supervised` are the estimators that are fitted with the target, `baselines` those
    that reduce nothing and have a downstream score only. Returns one dict for each comparison,
    with the `outcome`: "alike" if the difference is too small to matter, else "better" or
    "worse" if its interval excludes zero, and "undecided" if it does not.

    The intervals of a family of comparisons hold simultaneously. A family is the estimators that
    are fitted with the target, or those that are not, and what they are compared with.
    """
    rows = []
    for measure in measures:
        table = results.pivot(index="fold", columns=["estimator", "n_components"], values=measure)
        table = table.dropna(axis="columns", how="all")  # of what cannot restore rows
        with_target = [pair for pair in table if pair[0] in supervised]
        plain = [pair for pair in table if pair[0] not in (*supervised, *baselines)]
        rivals = [pair for pair in plain if pair[0] == reference]
        families = [(rivals, [pair for pair in plain if pair not in rivals]), (rivals, with_target)]
        for name in baselines:
            flat = [pair for pair in table if pair[0] == name]
            families += [(flat, plain), (flat, with_target)] if flat else []
        for rivals, pairs in families:
            for pair in pairs:
                rival = _rival_of(pair, rivals)
                row = {"measure": measure, "estimator": pair[0], "n_components": int(pair[1])}
                row |= {"reference": rival[0], "reference_n_components": int(rival[1])}
                scores, own = table[rival].to_numpy(), table[pair].to_numpy()
                alpha, bounds = ALPHA / len(pairs), BOUNDS[measure]
                row |= paired_difference(scores, own, test_ratio, alpha, bounds)
                rows.append(row | {"uses_target": pair[0] in supervised})
    return rows


def _rival_of(pair: tuple[str, int], rivals: list[tuple[str, int]]) -> tuple[str, int]:
    """What a pair of name and size is compared with: the smallest rival that is not smaller."""
    if len(rivals) == 1:
        return rivals[0]
    return min((rival for rival in rivals if rival[1] >= pair[1]), key=itemgetter(1))


def paired_difference(
    reference: np.ndarray,
    own: np.ndarray,
    test_ratio: float,
    alpha: float,
    bounds: tuple[float, float],
) -> dict[str, Any]:
    """Compare scores of one estimator with the reference's, both of shape (n_folds,).

    `bounds` are those of the smallest difference that matters.
    """
    mean, lower, upper = corrected_interval(own - reference, test_ratio, alpha)
    room = 1 - float(reference.mean())  # for improvement
    matters = abs(mean) >= np.clip(PRACTICAL_SIGNIFICANCE * room, *bounds)
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
