"""The verdict of a comparison: a line for each subject, losses included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skae._model_selection.baselines import CONSTANTS, RAW_COLUMNS
from skae._model_selection.significance import PRACTICAL_SIGNIFICANCE as BOUND

Row = dict[str, Any]
NO_GAIN = 0.0005  # shares below are printed as 0.0 %
RESTORING, PREDICTING = "explained_variance", "downstream_score"


def verdict_of(rows: list[Row], reference: str, measures: dict[str, str]) -> tuple[str, bool]:
    """Put the rows of `paired_differences` into words, and say whether the reference suffices.

    `measures` maps the measure of reconstruction and, with a target, the downstream score to
    their names; either may be absent. The reference suffices if nothing is better by any of
    them. An estimator that is fitted with the target is judged by the downstream score if there
    is one.
    """
    from_reference = [row for row in rows if row["reference"] == reference]
    restoring = [row for row in from_reference if row["measure"] == RESTORING]
    scores = [row for row in from_reference if row["measure"] == PREDICTING]
    judged = [row for row in restoring if not (scores and row["uses_target"])]
    suffices = not any(row["outcome"] == "better" for row in [*judged, *scores])
    label = measures.get(PREDICTING, "")
    plain = [row for row in scores if not row["uses_target"]]
    with_target = [row for row in scores if row["uses_target"]]
    head, told = _capitalised(label), restoring if RESTORING in measures else None
    lines = [
        _restoring(judged, reference, suffices) if judged else "",
        f"{head}: {_downstream(plain)}" if plain else "",
        f"{head}, target in the fit: {_supervised(with_target, told)}" if with_target else "",
        _raw_columns([row for row in rows if row["reference"] == RAW_COLUMNS], label),
        _constant([row for row in rows if row["reference"] in CONSTANTS], label),
    ]
    return "\n".join(filter(None, lines)), suffices


def gain_of(row: Row) -> float:
    """Difference of a row, without its rounding error, so that the first of equal ones is best."""
    return round(row["difference"], 12)


# -- which differences are told ----------------------------------------------------


def _best(rows: Iterable[Row], *outcomes: str) -> Row | None:
    """Largest gain among rows with one of these outcomes."""
    gains = (row for row in rows if row["outcome"] in outcomes and gain_of(row) > 0)
    return max(gains, key=gain_of, default=None)


def _is_loss(row: Row) -> bool:
    return row["outcome"] != "alike" and gain_of(row) < 0


def _losses(rows: list[Row]) -> list[Row]:
    """The largest significant loss, and the largest one of all if it is another."""
    losses = [row for row in rows if _is_loss(row)]
    significant = [row for row in losses if row["outcome"] == "worse"]
    told = [min(part, key=gain_of) for part in (significant, losses) if part]
    return told[:1] if len(told) == 2 and told[0] is told[1] else told


def _told(rows: list[Row]) -> list[Row]:
    """Differences that matter: the largest gain, significant if there is one, and the losses."""
    gain = _best(rows, "better") or _best(rows, "undecided")
    return ([] if gain is None else [gain]) + _losses(rows)


# -- reconstruction ----------------------------------------------------------------


def _restoring(rows: list[Row], reference: str, suffices: bool) -> str:
    """Say which estimator reconstructs better than the reference, and which one worse."""
    best = _best(rows, "better")
    if best is None:
        named = max(rows, key=gain_of)
        told = _no_gain(named, reference, suffices, len(rows))
        others = [] if _is_loss(named) else _losses(rows)
    else:
        told, others = _gain(best, reference), _losses(rows)
    sentences = [told, *(f"{_explained(row)}: {_which_is_better(row)}." for row in others)]
    if any(row["uses_target"] for row in rows):
        sentences.append("The fit uses the target, so that restoring is not promised.")
    return " ".join(sentences)


def _gain(row: Row, reference: str) -> str:
    return (
        f"{row['estimator']} reconstructs held-out rows better than {reference}: with "
        f"{_components(row)} it explains {_number(row['mean'])} of their variance instead of "
        f"{_number(row['reference_mean'])} ({_interval(row)}). The gain is "
        f"{_percent(row['share_of_left'])} of the variance that {reference} leaves unexplained."
    )


def _no_gain(row: Row, reference: str, suffices: bool, n_rows: int) -> str:
    """Say that the reference suffices; `row` is the best of the others."""
    share, purpose = row["share_of_left"], "" if suffices else " for reconstruction"
    rival = f"{row['estimator']} with {_components(row)}"
    if n_rows > 1:
        rival = f"the best alternative, {rival},"
    head = f"{reference} suffices{purpose}: {rival}"
    if _is_loss(row):
        return (
            f"{head} explains less of the variance of held-out rows, {_number(row['mean'])} "
            f"instead of {_number(row['reference_mean'])}: {_which_is_better(row)}."
        )
    if share < NO_GAIN:
        return (
            f"{head} explains no more of the variance of held-out rows than {reference} "
            f"({_interval(row)})."
        )
    result = f"{head} explains {_percent(share)} of the variance that {reference} leaves"
    if row["outcome"] == "undecided" and share >= BOUND:
        return f"{result} unexplained, which is not statistically significant ({_interval(row)})."
    return f"{result} unexplained ({_interval(row)}), less than the {_percent(BOUND)} that count."


def _explained(row: Row) -> str:
    return (
        f"With {_components(row)}, {row['estimator']} explains {_number(row['mean'])} and "
        f"{row['reference']} {_number(row['reference_mean'])}"
    )


# -- the downstream score ----------------------------------------------------------


def _downstream(rows: list[Row]) -> str:
    """Say where a score is higher or lower than the reference's."""
    if told := _told(rows):
        return " ".join(f"{_scores(row)}; {_which_is_better(row)}." for row in told)
    largest = max(rows, key=lambda row: abs(gain_of(row)))
    return (
        f"{_scores(largest)}; at no size is the mean difference large enough to count (here "
        f"{_interval(largest)})."
    )


def _supervised(scores: list[Row], restoring: list[Row] | None) -> str:
    """Say the same of each estimator that is fitted with the target, and what it restores.

    `restoring` is None if this was not measured.
    """
    sentences = []
    for name in dict.fromkeys(row["estimator"] for row in scores):
        own = [row for row in scores if row["estimator"] == name]
        size = (_told(own) or [max(own, key=gain_of)])[0]["n_components"]
        sentences.append(_downstream(own))
        if restoring is None:
            sentences.append("Restoring is not promised.")
        else:
            sentences.append(_restored(name, size, restoring))
    return " ".join(sentences)


def _restored(name: str, size: int, restoring: list[Row]) -> str:
    """Say what an estimator restores that does not promise to restore."""
    own = [row for row in restoring if (row["estimator"], row["n_components"]) == (name, size)]
    if not own:
        return f"{name} cannot restore rows."
    return (
        f"{name} does not promise to restore rows: it explains {_number(own[0]['mean'])} of their "
        f"variance, {own[0]['reference']} {_number(own[0]['reference_mean'])}."
    )


def _scores(row: Row) -> str:
    own, others = _components(row), n_components_text(row["reference_n_components"])
    return (
        f"{row['estimator']} {_number(row['mean'])}{'' if own == others else f' with {own}'}, "
        f"{row['reference']} {_number(row['reference_mean'])} with {others}"
    )


# -- baselines ---------------------------------------------------------------------


def _raw_columns(rows: list[Row], label: str) -> str:
    """Compare the best code without the target, and the best one with it, with all columns."""
    plain = [row for row in rows if not row["uses_target"]]
    with_target = [row for row in rows if row["uses_target"]]
    parts = [("without the target", plain), ("with the target", with_target)]
    told = [f"the best code {which}, {_against(part)}" for which, part in parts if part]
    if not told:
        return ""
    line = f"{_capitalised(RAW_COLUMNS)}: {label} {_number(rows[0]['reference_mean'])}; {told[0]}."
    if plain and max(plain, key=gain_of)["outcome"] == "worse":
        names = list(dict.fromkeys(row["estimator"] for row in plain))
        line += f" So all codes of {_joined(names)} score lower than {RAW_COLUMNS}."
    return " ".join([line, *(f"{_capitalised(each)}." for each in told[1:])])


def _against(rows: list[Row]) -> str:
    """Name the best of the rows, and what its difference from the raw columns is."""
    best = max(rows, key=gain_of)
    words = {
        "better": "scores higher",
        "worse": "scores lower",
        "alike": "differs by less than what counts",
    }
    word = words.get(best["outcome"], "does not differ significantly")
    text = f"{best['estimator']} with {_components(best)}, {word}"
    return f"{text}: {_number(best['mean'])} ({_interval(best)})"


def _constant(rows: list[Row], label: str) -> str:
    """Say what a constant scores, and whether any reducer is better."""
    if not rows:
        return ""
    name = rows[0]["reference"]
    line = f"{_capitalised(name)}: {label} {_number(rows[0]['reference_mean'])}."
    if _best(rows, "better") is None:
        return f"{line} No reducer is significantly better than this."
    plain = [row for row in rows if not row["uses_target"]]
    if plain and _best(plain, "better") is None:
        return f"{line} Without the target, no reducer is significantly better than this."
    return line


# -- words -------------------------------------------------------------------------


def _which_is_better(row: Row) -> str:
    winner = row["estimator"] if gain_of(row) > 0 else row["reference"]
    if row["lower"] <= 0 <= row["upper"]:
        return (
            f"{winner} has the higher mean, but the difference is not statistically significant "
            f"({_interval(row)})"
        )
    return f"{winner} is better here ({_interval(row)})"


def _interval(row: Row) -> str:
    return (
        f"difference {_number(row['difference'])}, 95 % interval {_number(row['lower'])} to "
        f"{_number(row['upper'])}"
    )


def _number(value: float) -> str:
    """Three digits, with a true minus; zero has no sign."""
    return f"{value:z.3f}".replace("-", "−")


def _components(row: Row) -> str:
    return n_components_text(row["n_components"])


def n_components_text(count: int) -> str:
    """A number of components in words."""
    return f"{count} component" + ("s" if count > 1 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.0995 else f"{100 * share:.1f} %"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _joined(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
