"""The report of a comparison: one self-contained HTML file, for screens of any width."""

from __future__ import annotations

import base64
import io
import math
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any
from uuid import uuid4

from skae._data.optional_imports import import_optional
from skae._data.version import __version__

DASH = "–"  # for what an estimator does not have
PAGE = Path(__file__).with_name("report.html")
FIGURES = {
    "explained_variance": "Explained share of the variance of held-out rows. 1 is a perfect "
    "reconstruction, 0 is the mean of the training rows.",
    "downstream_score": "How well the target of held-out rows is predicted from their codes. "
    "Horizontal lines are predictions without codes.",
    "trustworthiness": "How many nearest neighbours of a code are also neighbours of its row.",
    "fit_time": "Seconds per fit, on a logarithmic scale.",
}
TEXT_COLUMNS = {"estimator", "measure", "outcome"}
PACKAGES = ("numpy", "scikit-learn", "torch", "pandas")
RULE = (
    "Differences are paired over the folds. Their standard errors are those of Nadeau and Bengio "
    "(2003), because the training parts of the folds overlap. The 95 % intervals of one measure "
    "hold simultaneously (Bonferroni). Estimators that are fitted with the target count apart. "
    "Alike: the difference is smaller than 5 % of 1 minus the score of {reference}; for a "
    "downstream score, this bound is at least 0.01 and at most 0.05. Otherwise better or worse "
    "if the interval excludes zero, undecided if it does not."
)


def notebook_html(comparison: Any) -> str:
    """Verdict and summary as an HTML fragment; each line of the verdict is a line."""
    return (
        f'<div><p style="white-space: pre-line"><strong>{escape(comparison.verdict)}</strong></p>'
        f"{_table(comparison.readable())}"
        f"{''.join(f'<p>{escape(line)}</p>' for line in comparison.dropped())}</div>"
    )


def write_report(
    comparison: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "PCA or an autoencoder?",
    command: str | None = None,
) -> None:
    """Write the report to a file."""
    import_optional("matplotlib", extra="compare")
    _write_atomically(_page(comparison, title, command), Path(path))


def _write_atomically(text: str, path: Path) -> None:
    """Write to a temporary file and rename it, so that no reader sees an incomplete file."""
    temporary = path.with_name(f".{uuid4().hex}.part")
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# -- the page ----------------------------------------------------------------------


def _page(comparison: Any, title: str, command: str | None) -> str:
    preparation = comparison.preparation
    sections = {
        "Summary": f"{_table(comparison.readable())}"
        '<p class="note">Means over folds ± standard deviations between folds.</p>',
        "Figures": f'<div class="figures">\n{_figures(comparison)}</div>',
        **dict(_differences_sections(comparison)),
        "Preparation of the table": _definitions(preparation) if preparation else "",
        "Settings": _definitions(_settings(comparison)),
        "Command": f"<pre><code>{escape(command)}</code></pre>" if command else "",
    }
    body = "\n".join(f"<h2>{escape(name)}</h2>\n{html}" for name, html in sections.items() if html)
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        verdict=escape(comparison.verdict),
        body=body,
        folds=_table(_folds(comparison)),
    )


def _table(frame: Any) -> str:
    """Write a frame as an HTML table in a box that scrolls; columns of text are aligned left."""
    classes = [' class="text"' if name in TEXT_COLUMNS else "" for name in frame.columns]

    def cells(tag: str, values: Iterable[Any]) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(
            f"<{tag}{scope}{kind}>{escape(str(value))}</{tag}>"
            for kind, value in zip(classes, values, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in frame.to_numpy().tolist())
    return (
        '<div class="table" tabindex="0" style="overflow-x: auto">\n'
        f"<table>\n<thead><tr>{cells('th', list(frame.columns))}</tr></thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def _definitions(items: Iterable[tuple[str, str]]) -> str:
    """Write a list of terms and explanations."""
    body = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>\n" for term, text in items)
    return f"<dl>\n{body}</dl>"


# -- its contents ------------------------------------------------------------------


def _figures(comparison: Any) -> str:
    return "".join(
        f'<figure>\n<img alt="{escape(_alt_text(comparison, measure))}" '
        f'src="{_svg_uri(comparison, measure)}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>\n"
        for measure, caption in FIGURES.items()
        if measure in comparison.labels
    )


def _svg_uri(comparison: Any, measure: str) -> str:
    """Draw a figure as SVG in a data URI, without pyplot, whose state is the user's."""
    figure_type = import_optional("matplotlib.figure", extra="compare").Figure
    figure = figure_type(figsize=(5, 3.6), layout="constrained")
    comparison.plot(figure.subplots(), measure=measure)
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _alt_text(comparison: Any, measure: str) -> str:
    """Describe a figure for readers who cannot see it."""
    rows = comparison.summary[["estimator", "n_components", measure]].dropna()
    values = [
        f"{name}: {value:.3f}" if name in comparison.baselines else f"{name}, {size}: {value:.3f}"
        for name, size, value in rows.itertuples(index=False)
    ]
    label = comparison.labels[measure]
    return f"{label} by estimator and number of components. {'; '.join(values)}."


def _differences_sections(comparison: Any) -> Iterator[tuple[str, str]]:
    """Title and HTML of the differences from each reference."""
    for reference, frame in comparison.differences.groupby("reference", sort=False):
        note = f'<p class="note">{escape(RULE.format(reference=reference))}</p>'
        table = _table(_differences(comparison, frame, reference))
        is_first = reference == comparison.reference
        yield f"Differences from {reference}", table + note if is_first else table


def _differences(comparison: Any, frame: Any, reference: str) -> Any:
    shown = frame[["n_components", "estimator"]].rename(columns={"n_components": "components"})
    others = frame["reference_n_components"]
    if reference == comparison.reference and (others != shown["components"]).any():
        shown.insert(1, f"components of {reference}", others)
    shown["measure"] = frame["measure"].map(comparison.labels)
    shown["difference"] = frame["difference"].map(_signed)
    shown["interval"] = frame["lower"].map(_signed) + " to " + frame["upper"].map(_signed)
    shares = (100 * frame["share_of_left"]).map(lambda value: f"{_signed(value, 1)} %")
    shown[f"share of 1 minus {reference}'s score"] = shares
    shown["outcome"] = frame["outcome"]
    return shown


def _signed(value: float, n_digits: int = 3) -> str:
    """Number with a sign and a true minus; zero has none."""
    rounded = round(value, n_digits)
    return f"{rounded:+.{n_digits}f}".replace("-", "−") if rounded else f"{0:.{n_digits}f}"


def _settings(comparison: Any) -> Iterator[tuple[str, str]]:
    """Settings and versions as text."""
    for name, value in comparison.settings.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield name.replace("_", " "), text
    versions = [f"skae {__version__}", f"Python {platform.python_version()}"]
    yield "versions", ", ".join(versions + [f"{name} {version(name)}" for name in PACKAGES])


def _folds(comparison: Any) -> Any:
    frame = comparison.results.rename(columns=comparison.labels)
    return frame.map(_four_digits)


def _four_digits(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return DASH if math.isnan(value) else f"{value:.4f}"
