"""The documentation site: what its pages are made from, and the check of its links."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import skae

DOCS = Path(__file__).parents[1] / "docs"
PUBLIC_MODULES = [m.name for m in iter_modules(skae.__path__) if not m.name.startswith("_")]


def public_callables(module):
    """What a user can import from a module and call, that is defined there or re-exported."""
    listed = getattr(module, "__all__", None)
    things = {name: getattr(module, name) for name in dir(module) if name[0] != "_"}
    return [
        name
        for name, thing in things.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and (name in listed if listed else thing.__module__ == module.__name__)
    ]


@pytest.mark.parametrize("module", ["skae", *(f"skae.{name}" for name in PUBLIC_MODULES)])
def test_every_public_name_is_in_the_reference(from_docs, tmp_path, module):
    from_docs("make_api").write(tmp_path)
    page = (tmp_path / f"{module}.rst").read_text(encoding="utf-8")
    names = public_callables(import_module(module))
    assert names
    assert set(names) <= {line.strip() for line in page.splitlines()}


def test_the_reference_is_written_only_where_it_changed(from_docs, tmp_path):
    make_api = from_docs("make_api")
    make_api.write(tmp_path)
    (tmp_path / "skae.rst").write_text("old", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    make_api.write(tmp_path)
    changed = [p.name for p, time in before.items() if p.stat().st_mtime_ns != time]
    assert changed == ["skae.rst"]


PAGE = """<html><body>
<h2 id="here">Title</h2><a href="#here">a</a><a href="other.html#there">b</a><a href="#">c</a>
<a href="https://example.org/nothing">d</a><a href="sub/">e</a><img src="image%20one.png">{}
</body></html>"""


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        ("#here", False),
        ("#elsewhere", True),
        ("other.html", False),
        ("other.html#there", False),
        ("other.html#here", True),
        ("missing.html", True),
        ("sub/index.html", False),
        ("mailto:someone@example.org", False),
    ],
)
def test_links_that_lead_nowhere_are_found(from_docs, tmp_path, link, is_broken):
    (tmp_path / "index.html").write_text(PAGE.format(f'<a href="{link}">f</a>'), encoding="utf-8")
    (tmp_path / "other.html").write_text('<p id="there">', encoding="utf-8")
    (tmp_path / "image one.png").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text('<a href="../index.html#here">', encoding="utf-8")
    broken = from_docs("check_links").broken_links(tmp_path)
    assert broken == ([f"index.html: {link}"] if is_broken else [])


def test_the_page_for_contributors_stays_short():
    assert len((DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 100
