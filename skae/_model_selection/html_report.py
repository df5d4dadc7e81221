"""A comparison as HTML: one file without requests, for a screen of any width."""

from __future__ import annotations

import base64
import io
import os
import platform
import shutil
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from skae._data.validation import import_optional
from skae._data.version import __version__

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.25rem 1rem 3rem; background: #fff;
  color: #1c2430; font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p, li, dd { overflow-wrap: anywhere; max-width: 46rem; }
.verdict { margin: 0; padding: .9rem 1.1rem; max-width: none; font-size: 1.1rem;
  border-left: .35rem solid #1f5fa8; background: #eef4fb; }
.note { color: #4d5866; font-size: .9rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .8rem .35rem 0; text-align: right; white-space: nowrap; }
th { vertical-align: bottom; border-bottom: 2px solid #1c2430; }
td { border-bottom: 1px solid #d9dee5; }
.text { text-align: left; }
.figures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; }
figcaption { color: #4d5866; font-size: .9rem; }
pre { overflow-x: auto; padding: .7rem .9rem; background: #f3f5f7; font-size: .9rem; }
dl { display: grid; grid-template-columns: fit-content(16rem) 1fr; gap: .3rem 1.2rem; margin: 0; }
dt { font-weight: 600; }
dd { margin: 0; }
summary { cursor: pointer; font-weight: 600; margin-top: 2rem; }
@media (max-width: 34rem) {
  table { font-size: .82rem; }
  th { white-space: normal; min-width: 4.5rem; }
  th, td { padding-right: .6rem; }
  .text { white-space: normal; overflow-wrap: anywhere; min-width: 7.8rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; }
}
"""
FIGURES = {
    "explained_variance": "Share of the variance of held-out rows that the codes keep. "
    "1 is perfect, 0 is what the mean of the training rows reaches.",
    "downstream_score": "How well held-out rows are predicted from their codes.",
    "trustworthiness": "How many of the nearest neighbours of codes are neighbours of rows too.",
    "fit_time": "Seconds of one fit, on a logarithmic scale.",
}
TEXTS = {"estimator", "measure", "outcome"}
TEXT = ' class="text"'
PACKAGES = ("numpy", "scikit-learn", "torch", "pandas")
RULE = (
    "Differences are paired over the folds, with the standard error of Nadeau and Bengio (2003), "
    "which allows for training parts that overlap; the 95 % intervals of one measure hold "
    "together (Bonferroni). Alike: the difference is less than 5 % of what {reference} leaves, "
    "which is 1 minus its score, or less than 0.01 of a downstream score. Otherwise better or "
    "worse if the interval excludes zero, undecided if it does not."
)


def fragment(comparison: Any) -> str:
    """Write verdict and summary as a piece of HTML, for notebooks.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    html : str
    """
    return (
        f"<div><p><strong>{escape(comparison.verdict)}</strong></p>"
        f"{table(comparison.readable())}</div>"
    )


def table(frame: Any) -> str:
    """Write a frame as an HTML table in a box of its own that scrolls.

    Parameters
    ----------
    frame : DataFrame
        Columns "estimator", "measure" and "outcome" are text, aligned left.

    Returns
    -------
    html : str
    """

    def cells(tag: str, values: Sequence[Any]) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(
            f"<{tag}{scope}{TEXT if name in TEXTS else ''}>{escape(str(value))}</{tag}>"
            for name, value in zip(frame.columns, values, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in frame.to_numpy().tolist())
    return (
        '<div class="table" tabindex="0" style="overflow-x: auto">\n'
        f"<table>\n<thead><tr>{cells('th', list(frame.columns))}</tr></thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def write_report(
    comparison: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "PCA or an autoencoder?",
    preparation: Sequence[tuple[str, str]] = (),
    command: str | None = None,
) -> None:
    """Write the report of a comparison to a file, whole or not at all.

    Parameters
    ----------
    comparison : Comparison
    path : str or path
    title : str, default="PCA or an autoencoder?"
    preparation : sequence of (str, str), default=()
        What was done to columns and rows: terms and explanations.
    command : str, default=None
        Command line that makes the same report.
    """
    import_optional("matplotlib", extra="compare")
    _write_whole(_page(comparison, title, preparation, command), Path(path))


def _write_whole(text: str, path: Path) -> None:
    """Write beside the place, then move there: nobody meets half a file."""
    beside = path.with_name(f".{uuid4().hex}.part")
    try:
        with open(beside, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if path.exists():
            shutil.copymode(path, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _page(
    comparison: Any, title: str, preparation: Sequence[tuple[str, str]], command: str | None
) -> str:
    columns = "".join(
        f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>\n" for term, text in preparation
    )
    parts = [
        f'<h1>{escape(title)}</h1>\n<p class="verdict">{escape(comparison.verdict)}</p>',
        f"<h2>Summary</h2>\n{table(comparison.readable())}"
        '<p class="note">Means over folds ± standard deviations between folds.</p>',
        f'<h2>Figures</h2>\n<div class="figures">\n{_figures(comparison)}</div>',
        f"<h2>Differences from {escape(comparison.reference)}</h2>\n"
        f"{table(_differences(comparison))}"
        f'<p class="note">{escape(RULE.format(reference=comparison.reference))}</p>',
        f"<h2>What was done to the table</h2>\n<dl>\n{columns}</dl>" if preparation else "",
        f"<h2>How it was done</h2>\n<dl>\n{_settings(comparison)}</dl>",
        f"<h2>To repeat it</h2>\n<pre><code>{escape(command)}</code></pre>" if command else "",
        f"<details>\n<summary>Every fold</summary>\n{table(_folds(comparison))}</details>",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _figures(comparison: Any) -> str:
    return "".join(
        f'<figure>\n<img alt="{escape(_in_words(comparison, measure))}" '
        f'src="{_drawn(comparison, measure)}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>\n"
        for measure, caption in FIGURES.items()
        if measure in comparison.labels
    )


def _drawn(comparison: Any, measure: str) -> str:
    """Draw a figure without pyplot, whose state belongs to the user."""
    figure_type = import_optional("matplotlib.figure", extra="compare").Figure
    figure = figure_type(figsize=(5, 3.6), layout="constrained")
    comparison.plot(figure.subplots(), measure=measure)
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _in_words(comparison: Any, measure: str) -> str:
    """Say what a figure shows, for those who cannot see it."""
    rows = comparison.summary[["estimator", "n_components", measure]].itertuples(index=False)
    values = "; ".join(f"{name}, {size}: {value:.3f}" for name, size, value in rows)
    return f"{comparison.labels[measure]} by estimator and number of components. {values}."


def _differences(comparison: Any) -> Any:
    frame = comparison.differences
    shown = frame[["n_components", "estimator"]].rename(columns={"n_components": "components"})
    shown["measure"] = frame["measure"].map(comparison.labels)
    shown["difference"] = [_signed(value) for value in frame["difference"]]
    ends = zip(frame["lower"], frame["upper"], strict=True)
    shown["interval"] = [f"{_signed(lower)} to {_signed(upper)}" for lower, upper in ends]
    shown[f"of what {comparison.reference} leaves"] = [
        f"{_signed(100 * value, 1)} %" for value in frame["share_of_left"]
    ]
    shown["outcome"] = frame["outcome"]
    return shown


def _signed(value: float, n_digits: int = 3) -> str:
    rounded = round(value, n_digits)
    return f"{rounded:+.{n_digits}f}".replace("-", "−") if rounded else f"{0:.{n_digits}f}"


def _settings(comparison: Any) -> str:
    settings = {
        **{name.replace("_", " "): value for name, value in comparison.settings.items()},
        "versions": ", ".join(
            [f"skae {__version__}", f"Python {platform.python_version()}"]
            + [f"{name} {version(name)}" for name in PACKAGES]
        ),
    }
    return "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_shown(value))}</dd>\n"
        for name, value in settings.items()
    )


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _folds(comparison: Any) -> Any:
    frame = comparison.results.rename(columns=comparison.labels)
    return frame.map(lambda value: f"{value:.4f}" if isinstance(value, float) else value)
