"""Make the pages readable with a screen reader and on a phone, as Sphinx and its theme do not.

Each table is named after its section, headers say whether they are of a column or of a row, and
buttons that unfold the navigation say of which pages. Figures get a box in which wide ones scroll.
It is an extension of Sphinx.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator


class Translator(HTML5Translator):
    """Write names of tables, and scopes of headers."""

    def starttag(self, node: Any, tagname: str, *args: Any, **attributes: Any) -> str:
        """Open a tag."""
        if tagname == "table":
            attributes["aria-label"] = name_of_table(node)
        if tagname == "th":
            is_of_column = isinstance(node.parent.parent, nodes.thead)
            attributes["scope"] = "col" if is_of_column else "row"
        return super().starttag(node, tagname, *args, **attributes)


def name_of_table(table: nodes.table) -> str:
    """Return its caption, or else the title of its section and, of several tables, its number."""
    for caption in table.findall(nodes.title):
        return caption.astext()
    section = table.parent
    while not isinstance(section, nodes.section | nodes.document):
        section = section.parent
    title = next((each.astext() for each in section.findall(nodes.title)), "Table")
    tables = list(section.findall(nodes.table))
    return title if len(tables) == 1 else f"{title}, table {tables.index(table) + 1}"


def add_row_headers(app: Any, doctree: nodes.document, docname: str) -> None:
    """Make the first column a header where no row is: so are lists of names and what they do."""
    for table in doctree.findall(nodes.table):
        if not any(table.findall(nodes.thead)):
            next(table.findall(nodes.colspec))["stub"] = 1


def box_figures(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put each figure into a box like that of the theme's tables, which the keyboard can scroll."""
    for node in list(doctree.findall(is_figure)):
        box = nodes.container(classes=["pst-scrollable-table-container"])
        node.replace_self(box)
        box.append(node)


def is_figure(node: nodes.Node) -> bool:
    """Whether a node is a figure of the gallery, or a paragraph that is just an image."""
    if isinstance(node, nodes.paragraph):
        return [type(child) for child in node.children] == [nodes.image]
    return node.tagname == "imgsgnode"


def name_toggles(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Name the buttons that unfold parts of the navigation; the theme gives them only a sign."""
    make = context["generate_toctree_html"]

    def make_with_names(*args: Any, **options: Any) -> Any:
        tree = make(*args, **options)
        for toggle in [] if isinstance(tree, str) else tree.select("summary:not(:has(p))"):
            toggle["aria-label"] = f"Pages below {toggle.find_parent('li').a.get_text(strip=True)}"
        return tree

    context["generate_toctree_html"] = make_with_names


def setup(app: Any) -> dict[str, bool]:
    """Connect to Sphinx; the theme's functions must be there before they are changed."""
    app.set_translator("html", Translator)
    app.connect("doctree-resolved", add_row_headers)
    app.connect("doctree-resolved", box_figures)
    app.connect("html-page-context", name_toggles, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
