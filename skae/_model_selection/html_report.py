"""The report of a comparison: one self-contained HTML file, for screens of any width."""

from __future__ import annotations

import base64
import io
import math
import os
import platform
import re
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
# Of lines, with a contrast to white that is enough for text too.
COLOURS = "#1f5fa8", "#b45309", "#15803d", "#7c3aed", "#b91c1c", "#0e7490", "#a21caf", "#4d5866"
TEXT_COLUMNS = {"estimator", "measure", "outcome"}
PACKAGES = ("numpy", "scikit-learn", "torch", "pandas")
NAMES = {
    "n_components": "numbers of components",
    "downstream": "predictor",
    "random_state": "seed",
}
MEANING = (
    "“{reference} suffices” says that no estimator is shown to be better. It is no proof that they "
    "are equal: the intervals below hold the differences that remain possible."
)
RULE = (
    "Differences are paired over the folds. Their standard errors are those of Nadeau and Bengio "
    "(2003), because the training parts of the folds overlap. The 95 % intervals of one measure "
    "hold simultaneously (Bonferroni). Estimators that are fitted with the target count apart. "
    "Alike: the mean difference is smaller than 5 % of 1 minus the score of {reference}; for a "
    "downstream score, this bound is at least 0.01 and at most 0.05. Otherwise better or worse "
    "if the interval excludes zero, undecided if it does not."
)


def versions() -> str:
    """Versions of skae, of Python, and of the packages that results depend on."""
    known = [f"skae {__version__}", f"Python {platform.python_version()}"]
    return ", ".join(known + [f"{name} {version(name)}" for name in PACKAGES])


def notebook_html(comparison: Any) -> str:
    """Verdict and summary as an HTML fragment; each line of the verdict is a paragraph."""
    return (
        f"<div><strong>{_paragraphs(comparison.verdict)}</strong>"
        f"{_summary(comparison)}{_paragraphs(*comparison.dropped())}</div>"
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
    preparation, call = comparison.preparation, command or comparison.settings.get("call")
    reference = comparison.reference
    sections = {
        "Verdict": f'<div class="verdict">\n{_paragraphs(comparison.verdict)}</div>\n'
        f"{_note(MEANING.format(reference=reference))}"
        f"{_paragraphs(*comparison.dropped())}",
        "Summary": _summary(comparison) + _note("Means over folds ± standard deviations."),
        "Figures": f'<div class="figures">\n{_figures(comparison)}</div>',
        **dict(_differences_sections(comparison)),
        "Preparation of the table": _definitions(preparation) if preparation else "",
        "Settings": _definitions(_settings(comparison)),
        "To repeat this": f"<pre><code>{escape(call)}</code></pre>" if call else "",
    }
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        about=_numbers_whole(_about(comparison)),
        body="\n".join(_section(name, html) for name, html in sections.items() if html),
        folds=_table(_folds(comparison), "Scores and times of each estimator in every fold."),
        maker=f"skae {escape(__version__)}",
    )


def _section(name: str, html: str) -> str:
    key = "-".join(name.lower().split())
    label = escape(key, quote=True)
    return (
        f'<section aria-labelledby="{label}">\n<h2 id="{label}">{escape(name)}</h2>\n{html}\n'
        "</section>"
    )


def _about(comparison: Any) -> str:
    """What was compared and when, in a line below the title."""
    known = comparison.settings
    shown = {"target": "target", "task": "task", "date": "date"}
    parts = [f"{label}: {known[key]}" for key, label in shown.items() if key in known]
    sizes = [f"{known[key]} {key}" for key in ("rows", "columns", "folds") if key in known]
    return " · ".join([", ".join(sizes), *parts]) if sizes else " · ".join(parts)


def _paragraphs(*texts: str) -> str:
    lines = [line for text in texts for line in text.splitlines()]
    return "".join(f"<p>{_numbers_whole(line)}</p>\n" for line in lines)


def _numbers_whole(text: str) -> str:
    """Text as HTML in which numbers stay on the line of their unit, and dates on one."""
    unbroken = r'<span class="whole">\1</span>'
    return re.sub(r"(\S+ %|\d{4}-\d\d-\d\d)", unbroken, escape(text))


def _note(text: str) -> str:
    return f'<p class="note">{_numbers_whole(text)}</p>\n'


def _name(text: Any) -> str:
    """Text as HTML, in which long names are broken between their words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[_./])(?=[^\W\d])", "<wbr>", escape(str(text)))


def _table(frame: Any, caption: str) -> str:
    """Write a frame as an HTML table, whose first column has the names of its rows.

    Roles are written out, because on narrow screens each row is a block of lines, and browsers
    do not tell screen readers of tables that are laid out so.
    """
    names = list(frame.columns)
    classes = [' class="text"' if name in TEXT_COLUMNS else "" for name in names]
    head = "".join(
        f'<th scope="col" role="columnheader"{kind}>{escape(name)}</th>'
        for name, kind in zip(names, classes, strict=True)
    )
    rows = frame.to_numpy(dtype=object).tolist()
    body = "".join(_row(names, classes, values) for values in rows)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escape(caption)}" '
        f'style="overflow-x: auto">\n<table role="table">\n<caption>{escape(caption)}</caption>\n'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{body}</tbody>\n</table>\n</div>\n'
    )


def _row(names: list[str], classes: list[str], values: list[Any]) -> str:
    """Write a row of a table; each cell knows the name of its column, for narrow screens."""
    cells = "".join(
        f'<td role="cell" data-label="{escape(name)}"{kind}><span>{escape(str(value))}</span></td>'
        for name, kind, value in zip(names[1:], classes[1:], values[1:], strict=True)
    )
    header = f'<th scope="row" role="rowheader" class="text">{escape(str(values[0]))}</th>'
    return f'<tr role="row">{header}{cells}</tr>\n'


def _definitions(items: Iterable[tuple[str, str]]) -> str:
    """Write a list of terms and explanations."""
    body = "".join(f"<dt>{escape(term)}</dt><dd>{_name(text)}</dd>\n" for term, text in items)
    return f"<dl>\n{body}</dl>"


# -- its contents ------------------------------------------------------------------


def _summary(comparison: Any) -> str:
    frame = comparison.readable()
    names = ["estimator", *(name for name in frame.columns if name != "estimator")]
    beside = ", and of predictions without codes" if comparison.baselines else ""
    return _table(frame[names], f"Scores and times of each estimator{beside}.")


def _figures(comparison: Any) -> str:
    return "".join(
        f'<figure>\n<img alt="{escape(_alt_text(comparison, measure))}" '
        f'src="{_svg_uri(comparison, measure)}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>\n"
        for measure, caption in FIGURES.items()
        if measure in comparison.labels and comparison.summary[measure].notna().any()
    )


def _svg_uri(comparison: Any, measure: str) -> str:
    """Draw a figure as SVG in a data URI, without pyplot, whose state is the user's."""
    figure_type = import_optional("matplotlib.figure", extra="compare").Figure
    figure = figure_type(layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=COLOURS)
    comparison.plot(axes, measure=measure)
    names = axes.get_legend_handles_labels()[1]
    axes.get_legend().remove()
    figure.legend(loc="outside upper left", frameon=False)  # on the axes it may cover points
    figure.set_size_inches(5, 3.2 + 0.2 * len(names))
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _alt_text(comparison: Any, measure: str) -> str:
    """Describe a figure for readers who cannot see it."""
    rows = comparison.summary[["estimator", "n_components", measure]].dropna()
    values = [
        f"{name}: {value:z.3f}" if name in comparison.baselines else f"{name}, {size}: {value:z.3f}"
        for name, size, value in rows.itertuples(index=False)
    ]
    label = comparison.labels[measure]
    return f"{label} by estimator and number of components. {'; '.join(values)}."


def _differences_sections(comparison: Any) -> Iterator[tuple[str, str]]:
    """Title and HTML of the differences from each reference."""
    for reference, frame in comparison.differences.groupby("reference", sort=False):
        title = f"Differences from {reference}"
        caption = f"{title}. Relative ones are divided by 1 minus the score of {reference}."
        table = _table(_differences(comparison, frame, reference), caption)
        is_first = reference == comparison.reference
        yield title, table + _note(RULE.format(reference=reference)) if is_first else table


def _differences(comparison: Any, frame: Any, reference: str) -> Any:
    shown = frame[["estimator", "n_components"]].rename(columns={"n_components": "components"})
    others = frame["reference_n_components"]
    if reference == comparison.reference and (others != shown["components"]).any():
        shown.insert(2, f"components of {reference}", others)
    shown["measure"] = frame["measure"].map(comparison.labels)
    shown["difference"] = frame["difference"].map(_signed)
    shown["95 % interval"] = frame["lower"].map(_signed) + " to " + frame["upper"].map(_signed)
    shares = (100 * frame["share_of_left"]).map(lambda value: f"{_signed(value, 1)} %")
    shown["relative difference"] = shares
    shown["outcome"] = frame["outcome"]
    return shown


def _signed(value: float, n_digits: int = 3) -> str:
    """Number with a sign and a true minus; zero has none."""
    rounded = round(value, n_digits)
    return f"{rounded:+.{n_digits}f}".replace("-", "−") if rounded else f"{0:.{n_digits}f}"


def _settings(comparison: Any) -> Iterator[tuple[str, str]]:
    """Settings as text, but for the call, which has a section of its own."""
    for name, value in comparison.settings.items():
        if name != "call":
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield NAMES.get(name, name), text


def _folds(comparison: Any) -> Any:
    frame = comparison.results.rename(columns=comparison.labels | {"n_components": "components"})
    return frame.map(_four_digits)


def _four_digits(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return DASH if math.isnan(value) else f"{value:.4f}"
