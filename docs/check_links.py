"""Check that every link inside a built site leads somewhere, its anchor included.

Run it after a build: ``python docs/check_links.py docs/_build/html``.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

SOURCES = {"a": "href", "link": "href", "img": "src", "script": "src"}


class Page(HTMLParser):
    """Links and anchors of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag refers to and what refers to it."""
        values = dict(attrs)
        self.anchors |= {values[name] or "" for name in ("id", "name") if name in values}
        link = values.get(SOURCES.get(tag, ""))
        if link:
            self.links.append(link)


def broken_links(root: Path) -> list[str]:
    """Say of each link inside the site that leads nowhere where it is and where it goes.

    Parameters
    ----------
    root : Path
        Folder of a built site.

    Returns
    -------
    list of str
    """
    found = [path for path in root.rglob("*.html") if "_static" not in path.parts]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in found}
    return [
        f"{path.relative_to(root.resolve())}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not leads_somewhere(link, path, pages)
    ]


def leads_somewhere(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link of a page is to another site, a file, or an anchor that exists."""
    if urlsplit(link).scheme or link.startswith("//"):
        return True
    target, anchor = urldefrag(link)
    there = (path.parent / unquote(urlsplit(target).path)).resolve() if target else path
    if there.is_dir():
        there /= "index.html"
    if there not in pages:
        return there.exists()
    return unquote(anchor) in pages[there].anchors


if __name__ == "__main__":
    site = Path(sys.argv[1])
    broken = broken_links(site)
    print("\n".join(broken) or f"All links inside {site} lead somewhere.")
    sys.exit(bool(broken) or not (site / "index.html").exists())
