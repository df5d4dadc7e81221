"""The verdict of a comparison, in a sentence or two."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from skae._model_selection.significance import PRACTICAL_SIGNIFICANCE

NO_GAIN = 0.0005  # shares below are printed as 0.0 %
candidate_of = itemgetter("estimator", "n_components")


def gain_of(row: dict[str, Any]) -> float:
    """Difference of a row, without its rounding error, so that the first of equal ones is best."""
    return round(row["difference"], 12)


def verdict_of(
    rows: list[dict[str, Any]], reference: str, measures: dict[str, str]
) -> tuple[str, bool]:
    """Put the rows of `paired_differences` into words, and say whether the reference suffices.

    `measures` maps the measure of reconstruction and, with a target, the downstream score to
    their names. The reference suffices if nothing is better by any of them.
    """
    parts = [[row for row in rows if row["measure"] == measure] for measure in measures]
    best = [_largest_gain(part, "better") for part in parts]
    suffices, reconstructs_better = not any(best), best[0] is not None
    named = best[0] or max(parts[0], key=gain_of)
    if reconstructs_better:
        sentences = [_gain(named, reference)]
    else:
        sentences = [_no_gain(named, reference, suffices)]
    if len(parts) > 1:
        label = list(measures.values())[-1]
        sentences.append(_downstream(parts[1], named, label, reference, reconstructs_better))
    return " ".join(sentences), suffices


def _largest_gain(rows: list[dict[str, Any]], outcome: str) -> dict[str, Any] | None:
    return max((r for r in rows if r["outcome"] == outcome), key=gain_of, default=None)


def _gain(row: dict[str, Any], reference: str) -> str:
    return (
        f"{row['estimator']} reconstructs held-out rows better than {reference}: with "
        f"{_components(row)} it explains {row['mean']:.3f} of their variance instead of "
        f"{row['reference_mean']:.3f} (difference {row['difference']:.3f}, interval "
        f"{row['lower']:.3f} to {row['upper']:.3f}). The gain is {_percent(row['share_of_left'])} "
        f"of the variance that {reference} leaves unexplained."
    )


def _no_gain(row: dict[str, Any], reference: str, suffices: bool) -> str:
    share, purpose = row["share_of_left"], "" if suffices else " for reconstruction"
    if share < NO_GAIN:
        result = f"explains no more of the variance of held-out rows than {reference}"
    else:
        result = f"explains {_percent(share)} of the variance that {reference} leaves unexplained"
    if share >= PRACTICAL_SIGNIFICANCE:
        result += ", which is not statistically significant"
    return (
        f"{reference} suffices{purpose}: the best alternative, {row['estimator']} with "
        f"{_components(row)}, {result}."
    )


def _downstream(
    rows: list[dict[str, Any]],
    named: dict[str, Any],
    label: str,
    reference: str,
    reconstructs_better: bool,
) -> str:
    """Say whether the downstream score is also higher; `named` is the row of the first sentence."""
    also, however = ("also ", ", however") if reconstructs_better else ("", "")
    if (better := _largest_gain(rows, "better")) is not None:
        return f"The {label} is {also}higher: {_scores(better, reference)}."
    worse = [row for row in rows if row["outcome"] == "worse"]
    if worse:
        return f"The {label} is lower{however}: {_scores(min(worse, key=gain_of), reference)}."
    shown = next(row for row in rows if candidate_of(row) == candidate_of(named))
    if (undecided := _undecided_gain(rows, shown)) is not None:
        interval = f"{undecided['lower']:.3f} to {undecided['upper']:.3f}"
        return (
            f"The {label} is {also}higher, but not significantly: {_scores(undecided, reference)} "
            f"(interval of the difference {interval})."
        )
    head = f"For prediction, {reference} suffices nevertheless: the" if also else "The"
    return f"{head} {label} shows no relevant gain at any size ({_scores(shown, reference)})."


def _undecided_gain(rows: list[dict[str, Any]], shown: dict[str, Any]) -> dict[str, Any] | None:
    """Row of a gain that is not significant: `shown` if it is one, else the largest."""
    gains = [row for row in rows if row["outcome"] == "undecided" and gain_of(row) > 0]
    return shown if shown in gains else max(gains, key=gain_of, default=None)


def _components(row: dict[str, Any]) -> str:
    return f"{row['n_components']} component" + ("s" if row["n_components"] > 1 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.0995 else f"{100 * share:.1f} %"


def _scores(row: dict[str, Any], reference: str) -> str:
    return (
        f"{row['mean']:.3f} for {row['estimator']} and {row['reference_mean']:.3f} for "
        f"{reference} with {_components(row)}"
    )
