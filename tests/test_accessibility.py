"""Reports and pages can be read with a screen reader; reports also on a phone, and on paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.decomposition import TruncatedSVD

import skae
from skae._model_selection.comparison_result import MARKERS
from skae._model_selection.html_report import COLOURS


@pytest.fixture(scope="module")
def checker(from_docs):
    return from_docs("check_accessibility")


@pytest.fixture(scope="module", params=["classes", "quantity", "no target"])
def report(request, tmp_path_factory):
    pytest.importorskip("matplotlib")
    load = load_diabetes if request.param == "quantity" else load_wine
    X, y = load(return_X_y=True, as_frame=True)
    y = None if request.param == "no target" else y
    found = skae.compare(X, y, 2, {"a <b>": TruncatedSVD()}, cv=2)
    path = tmp_path_factory.mktemp("report") / "report.html"
    found.to_html(path)
    return found, path.read_text(encoding="utf-8")


def test_the_report_has_no_problems(checker, report):
    assert checker.problems_of(report[1]) == []


def test_cells_of_the_report_know_their_columns(checker, report):
    """On narrow screens, each cell is a line that starts with the name of its column."""
    page = checker.Page(report[1])
    for table in page.all("table"):
        head, *rows = [row.children for row in table.descendants() if row.tag == "tr"]
        names = [cell.text for cell in head]
        assert len(rows) > 0
        for first, *cells in rows:
            assert first.get("scope") == "row"
            assert [cell.get("data-label") for cell in cells] == names[1:]
            assert {cell.get("role") for cell in cells} == {"cell"}


def test_the_report_tells_what_was_done(checker, report):
    found, html = report
    page = checker.Page(html)
    terms = [each.name() for each in page.all("dt")]
    values = dict(zip(terms, (each.name() for each in page.all("dd")), strict=True))
    for term in ("target", "task", "date", "versions", "seed", "rows", "folds", "predictor"):
        assert values[term]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d \S+", values["date"])
    assert values["versions"].startswith(f"skae {skae.__version__}, Python 3.")
    (call,) = [each.text for each in page.all("code")]
    y = "" if found.settings["target"] == "none" else "y, "
    expected = f"skae.compare(X, {y}n_components=2, estimators={{'a <b>': TruncatedSVD()}}, cv=2)"
    assert call == expected
    names = [cell.name() for cell in page.all("th") if cell.get("scope") == "row"]
    assert set(found.baselines) <= set(names)


def test_the_call_repeats_the_comparison():
    X, y = load_wine(return_X_y=True)
    first = skae.compare(X, y, [2], [TruncatedSVD(n_iter=3)], cv=3, random_state=1, n_jobs=1)
    names = {"skae": skae, "X": X, "y": y, "TruncatedSVD": TruncatedSVD}
    again = eval(first.settings["call"], names)
    assert again.verdict == first.verdict
    assert again.settings["call"] == first.settings["call"]
    plain = skae.compare(X, None, 2, [TruncatedSVD()], 2, preprocessor=None, random_state=None)
    seed = plain.settings["random_state"]
    expected = f"estimators=[TruncatedSVD()], cv=2, preprocessor=None, random_state={seed})"
    assert plain.settings["call"].endswith(expected)
    folds = [([*range(90)], [*range(90, 178)]), ([*range(88, 178)], [*range(88)])]
    long = skae.compare(X, None, 2, [TruncatedSVD()], folds, groups=None)
    assert long.settings["call"].endswith("estimators=[TruncatedSVD()], cv=cv)")


def test_the_report_is_laid_out_for_phones_and_paper(report):
    _, html = report
    assert "@media print" in html
    assert "@media screen and (max-width:" in html
    assert "@media screen and (prefers-color-scheme: dark)" in html
    assert "overflow-wrap: anywhere" not in html  # would break names within a word


WRONG = {
    "no lang": ('<html lang="en">', "<html>", "html has no lang"),
    "no title": (r"<title>[^<]*", "<title>", "there is no title"),
    "no zoom": ("initial-scale=1", "maximum-scale=1", "the page cannot be zoomed"),
    "no main": ("main>", "div>", "there are 0 main landmarks"),
    "text outside": ("<header>", "<p>lost</p><header>", "text outside of landmarks: 'lost'"),
    "two titles": ("h2", "h1", "headings h1"),
    "a level left out": ("h2", "h3", "h1 is followed by h3"),
    "no alt": ("<img alt=", "<img title=", "img without alt"),
    "a link without text": ("<footer>", '<footer><a href="x"></a>', "a without a name: x"),
    "label": ("<footer>", '<footer><a aria-label="x">y</a>', "aria-label 'x' lacks text of a"),
    "a field": ("<footer>", "<footer><input>", "input without a label"),
    "order of focus": ('tabindex="0"', 'tabindex="2"', "div with tabindex 2"),
    "region": (' aria-label="', ' data-label="', "div with role region has no name"),
    "no caption": ("caption>", "p>", "table without a caption"),
    "no headers": (r"(</?)th\b", r"\1td", "table without headers"),
    "no scope": (' scope="col"', "", "th without scope"),
    "empty header": (">estimator<", "><", "th without text"),
    "cells": (r"<td[^>]*><span>[^<]*</span></td></tr>", "</tr>", "rows of a table have"),
    "ids": ('id="summary"', 'id="figures"', "id 'figures' is not unique"),
    "absent": ('id="summary"', "", "aria-labelledby refers to 'summary', which is absent"),
    "contrast": ("--soft: #4d5866", "--soft: #8a8f98", "contrast of soft on page is 3.2"),
    "contrast in the dark": ("--edge: #7db3f0", "--edge: #333333", "contrast of edge on page"),
}


@pytest.mark.parametrize("case", WRONG)
def test_problems_are_found(case, checker, report):
    old, new, says = WRONG[case]
    changed, count = re.subn(old, new, report[1])
    assert count > 0
    assert any(says in problem for problem in checker.problems_of(changed))


def test_lines_of_figures_can_be_told_from_the_ground(checker):
    assert all(checker.contrast(colour, "#ffffff") > 4.5 for colour in COLOURS)
    assert len(set(COLOURS)) == len(MARKERS)


def test_contrasts_are_those_of_the_standard(checker):
    assert checker.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert checker.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


PAGES = {
    "index.md": "# Home\n\n```{toctree}\nguide\n```\n",
    "guide.md": "# Guide\n\n```{toctree}\nkinds\n```\n",
    "kinds.md": "# Kinds\n\n```{toctree}\nlists\n```\n\n"
    + 2 * "| k | x |\n|---|---|\n| a | b |\n\n",
    "lists.md": "# Lists\n\n![A dot](dot.svg)\n\n```{eval-rst}\n== ==\na  b\n== ==\n```\n",
}


@pytest.fixture(scope="module")
def site(checker, tmp_path_factory):
    """Pages of a small site with the theme of our pages."""
    application = pytest.importorskip("sphinx.application")
    pytest.importorskip("pydata_sphinx_theme")
    pytest.importorskip("myst_parser")
    folder = tmp_path_factory.mktemp("site")
    for name, text in PAGES.items():
        (folder / name).write_text(text)
    (folder / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    settings = {
        "extensions": ["accessible_site", "myst_parser"],
        "html_theme": "pydata_sphinx_theme",
        "html_use_index": False,
        "templates_path": [str(Path(checker.__file__).parent / "_templates")],
    }
    places = [folder, None, folder / "html", folder / "trees", "html"]
    application.Sphinx(*places, settings, status=None, warning=None, freshenv=True).build()
    return {p.stem: p.read_text(encoding="utf-8") for p in (folder / "html").glob("*.html")}


def test_pages_have_no_problems(checker, site):
    assert set(site) == {"index", "guide", "kinds", "lists", "search"}
    problems = [problem for text in site.values() for problem in checker.problems_of(text)]
    assert problems == []


def test_tables_of_pages_are_named_after_their_section(checker, site):
    kinds, lists = checker.Page(site["kinds"]), checker.Page(site["lists"])
    names = [table.name() for table in kinds.all("table")]
    assert names == ["Kinds, table 1", "Kinds, table 2"]
    assert {header.get("scope") for header in kinds.all("th")} == {"col"}
    assert [table.name() for table in lists.all("table")] == ["Lists"]
    assert [(header.name(), header.get("scope")) for header in lists.all("th")] == [("a", "row")]


def test_buttons_of_the_navigation_say_what_they_unfold(checker, site):
    names = {summary.name() for summary in checker.Page(site["guide"]).all("summary")}
    assert names == {"Pages below Kinds"}


def test_figures_of_pages_are_in_boxes(checker, site):
    (image,) = checker.Page(site["lists"]).all("img")
    assert image.name() == "A dot"
    boxes = [each.get("class").split() for each in image.ancestors() if each.tag == "div"]
    assert "pst-scrollable-table-container" in boxes[0]
