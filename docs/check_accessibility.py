"""Check rules of WCAG 2.2 (level AA) on HTML files that a parser can check without a browser.

These are language, title, zoom, landmarks, headings, names of images, links, buttons and fields,
headers and captions of tables, identifiers, and contrasts of colours in custom properties. A
browser's tool, such as axe, checks more: run it too before a release.

Run it as ``python docs/check_accessibility.py report.html``, or with a folder of pages.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise, product
from pathlib import Path

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
LANDMARKS = {"main", "header", "footer", "nav", "aside"}
ROLES = {"main", "banner", "contentinfo", "navigation", "complementary", "search"}
NAMED = {"a", "button", "summary"}
FIELDS = {"input", "select", "textarea"}
SILENT = {"script", "style", "title", "template", "noscript"}
FLOATING = {"button", "dialog"}  # may be outside of landmarks
# Custom properties: what is written on what, and what is drawn on what.
TEXTS, SURFACES, MARKS = ("text", "soft"), ("page", "box", "code"), ("edge", "focus", "rule")
MIN_TEXT, MIN_MARK = 4.5, 3.0


class Element:
    """An element of a page: its tag, its attributes, and the text in it."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Element | None):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.parts: list[Element | str] = []  # children and texts in their order

    @property
    def children(self) -> list[Element]:
        """Elements directly in it."""
        return [part for part in self.parts if isinstance(part, Element)]

    @property
    def text(self) -> str:
        """Text directly in it."""
        return "".join(part for part in self.parts if isinstance(part, str))

    def get(self, name: str) -> str:
        """Value of an attribute without blanks around it; empty without one."""
        return self.attributes.get(name, "").strip()

    def within(self, *tags: str) -> bool:
        """Whether it lies in an element with one of these tags."""
        return any(each.tag in tags for each in self.ancestors())

    def ancestors(self) -> list[Element]:
        """Elements around it, the innermost first."""
        return [] if self.parent is None else [self.parent, *self.parent.ancestors()]

    def descendants(self) -> list[Element]:
        """Elements in it, in their order."""
        return [each for child in self.children for each in (child, *child.descendants())]

    def name(self) -> str:
        """What a screen reader calls it, but for names by reference."""
        return self.get("aria-label") or self.shown().strip() or self.get("title")

    def shown(self) -> str:
        """Its text, and those in place of images."""
        texts = [part if isinstance(part, str) else part.shown() for part in self.parts]
        return self.get("alt") + "".join(texts)

    def says_its_text(self) -> bool:
        """Whether its label, if any, holds all words that are shown: some users speak them."""
        label = self.get("aria-label")
        return not label or set(self.shown().lower().split()) <= set(label.lower().split())


class Page(HTMLParser):
    """Elements of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.root = self.inner = Element("", {}, None)
        self.css = "".join(re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL))
        self.feed(text)
        self.elements = self.root.descendants()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        element = Element(tag, {name: value or "" for name, value in attrs}, self.inner)
        self.inner.parts.append(element)
        if tag not in VOID:
            self.inner = element

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element of this tag, and what is still open in it."""
        for element in (self.inner, *self.inner.ancestors()):
            if element.tag == tag and element.parent is not None:
                self.inner = element.parent
                return

    def handle_data(self, data: str) -> None:
        """Add text to the innermost element."""
        self.inner.parts.append(data)

    def all(self, *tags: str) -> list[Element]:
        """Elements with one of these tags."""
        return [element for element in self.elements if element.tag in tags]


def problems_of(text: str) -> list[str]:
    """Say what is wrong on a page.

    Parameters
    ----------
    text : str
        HTML of a whole page.

    Returns
    -------
    list of str
    """
    page = Page(text)
    checks = (document, landmarks, headings, names, tables, references, contrasts)
    return [problem for check in checks for problem in check(page)]


def document(page: Page) -> list[str]:
    """Check language, title and zoom."""
    found = []
    if not any(html.get("lang") for html in page.all("html")):
        found.append("html has no lang")
    if not any(title.text.strip() for title in page.all("title")):
        found.append("there is no title")
    viewports = [each.get("content") for each in page.all("meta") if each.get("name") == "viewport"]
    if any(re.search(r"user-scalable=(no|0)|maximum-scale=1(\D|$)", each) for each in viewports):
        found.append("the page cannot be zoomed")
    return found


def landmarks(page: Page) -> list[str]:
    """Check that there is one main part, and that no text lies outside of landmarks."""
    n_mains = sum(each.tag == "main" or each.get("role") == "main" for each in page.elements)
    found = [] if n_mains == 1 else [f"there are {n_mains} main landmarks"]
    for element in page.elements:
        around = [element, *element.ancestors()]
        is_within = any(each.tag in LANDMARKS or each.get("role") in ROLES for each in around)
        is_link_to_main = element.tag == "a" and element.get("href").startswith("#")
        is_shown = not any(each.tag in SILENT | FLOATING | {"head"} for each in around)
        if element.text.strip() and is_shown and not (is_within or is_link_to_main):
            found.append(f"text outside of landmarks: {element.text.strip()[:40]!r}")
    return found


def headings(page: Page) -> list[str]:
    """Check that there is one first heading, and that no level is left out."""
    levels = [int(each.tag[1]) for each in page.all(*(f"h{i}" for i in range(1, 7)))]
    found = [] if levels.count(1) == 1 else [f"there are {levels.count(1)} headings h1"]
    return found + [f"h{a} is followed by h{b}" for a, b in pairwise(levels) if b > a + 1]


def names(page: Page) -> list[str]:
    """Check that images, links, buttons, fields and scrolled parts have names."""
    found = []
    for element in page.elements:
        is_hidden = element.get("aria-hidden") == "true" or element.get("hidden")
        refers = element.get("aria-labelledby")
        if element.tag == "img" and "alt" not in element.attributes:
            found.append(f"img without alt: {element.get('src')[:40]}")
        if element.tag in NAMED and not (is_hidden or refers or element.name()):
            found.append(f"{element.tag} without a name: {element.get('href')[:40]}")
        if element.tag in NAMED and not element.says_its_text():
            found.append(f"aria-label {element.get('aria-label')!r} lacks text of {element.tag}")
        if element.tag in FIELDS and element.get("type") not in ("hidden", "submit"):
            labels = [each.get("for") for each in page.all("label")]
            named = element.get("id") in labels or element.within("label") or refers
            if not (named or element.get("aria-label") or element.get("title")):
                found.append(f"{element.tag} without a label")
        if element.get("tabindex").isdigit() and int(element.get("tabindex")) > 0:
            found.append(f"{element.tag} with tabindex {element.get('tabindex')}")
        if element.get("role") == "region" and not (refers or element.get("aria-label")):
            found.append(f"{element.tag} with role region has no name")
    return found


def tables(page: Page) -> list[str]:
    """Check that tables have a name, and headers of columns and rows that are not empty."""
    found = []
    for table in page.all("table"):
        inner = table.descendants()
        headers = [each for each in inner if each.tag == "th"]
        captions = [each for each in inner if each.tag == "caption" and each.text.strip()]
        if not (captions or table.get("aria-label") or table.get("aria-labelledby")):
            found.append("table without a caption")
        if not headers:
            found.append("table without headers")
        found += ["th without text" for each in headers if not each.name()]
        found += ["th without scope" for each in headers if not each.get("scope")]
        rows = [each for each in inner if each.tag == "tr"]
        widths = {sum(cell.tag in ("td", "th") for cell in row.children) for row in rows}
        if len(widths) > 1 and not any(each.get("colspan") for each in inner):
            found.append(f"rows of a table have {sorted(widths)} cells")
    return found


def references(page: Page) -> list[str]:
    """Check that identifiers are unique, and those that are referred to exist."""
    counts = Counter(each.get("id") for each in page.elements if each.get("id"))
    found = [f"id {name!r} is not unique" for name, count in counts.items() if count > 1]
    for element, attribute in product(
        page.elements, ("aria-labelledby", "aria-describedby", "for")
    ):
        absent = [name for name in element.get(attribute).split() if name not in counts]
        found += [f"{attribute} refers to {name!r}, which is absent" for name in absent]
    return found


def contrasts(page: Page) -> list[str]:
    """Check colours of custom properties: those of `:root`, and each scheme that changes them."""
    blocks = re.findall(r":root\s*\{([^{}]*)\}", page.css)
    found, colours = [], {}
    for block in blocks:
        colours |= dict(re.findall(r"--([\w-]+):\s*(#[0-9a-fA-F]{6})", block))
        for names_, surfaces, least in ((TEXTS, SURFACES, MIN_TEXT), (MARKS, ("page",), MIN_MARK)):
            for name, surface in product(names_, surfaces):
                if {name, surface} <= set(colours):
                    ratio = contrast(colours[name], colours[surface])
                    if ratio < least:
                        found.append(f"contrast of {name} on {surface} is {ratio:.2f} < {least}")
    return found


def contrast(one: str, other: str) -> float:
    """Ratio of contrast of two colours such as "#1c2430", by WCAG 2.2."""
    light, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance, from 0 to 1."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    files = sorted(place.rglob("*.html")) if place.is_dir() else [place]
    files = [f for f in files if "_static" not in f.relative_to(place).parts]  # parts of the theme
    lines = [f"{f}: {p}" for f in files for p in problems_of(f.read_text(encoding="utf-8"))]
    print("\n".join(lines) or f"No problems in {len(files)} files.")
    sys.exit(bool(lines))
