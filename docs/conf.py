"""Settings of Sphinx: how these pages become a site.

Building needs no network: nothing is fetched, links between projects are plain links, and formulas
stay TeX, which MathJax draws in the reader's browser.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import make_api  # noqa: E402

import skae  # noqa: E402

make_api.write(DOCS / "api")

project = "skae"
author = "the skae developers"
copyright = "the skae developers, BSD 3-Clause license"
release = version = skae.__version__

extensions = [
    "accessible_site",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/*.ipynb", "gallery/**/*.md5"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["skae.css"]
# Docstrings list references that their text need not cite; `mean` is the name of several things.
suppress_warnings = ["config.cache", "ref.footnote", "ref.python"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "literal"  # names stand in single backticks in docstrings
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # docstrings say types, with shapes
autodoc_member_order = "bysource"
autosummary_generate = True
autosummary_generate_overwrite = True
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shape", "Warns"]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"benchmarks",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "capture_repr": (),  # scripts print what they show; HTML of estimators has tables without names
    "show_memory": False,
    "parallel": 2,
    "show_signature": False,
    "write_computation_times": False,
    "plot_gallery": "True",
    "matplotlib_animations": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skae {version}"
html_show_sourcelink = False
html_use_index = False  # no page links to it, and the search finds names
html_copy_source = False
html_theme_options = {
    "logo": {"text": "skae"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_version_warning_banner": False,
}
html_sidebars = {"index": [], "start": [], "api": [], "gallery/index": []}


def escape_trailing_underscores(
    app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Keep ``n_components_`` outside of backticks a name: to Sphinx it would be a link."""
    for i, line in enumerate(lines):
        head, colon, rest = line.partition(" : ")  # names of attributes are escaped already
        text = rest if colon else line
        pieces = re.split(r"(`+[^`]*`+_?)", text)
        pieces[::2] = [re.sub(r"(?<=[a-z])_(?![\w\\])", r"\\_", piece) for piece in pieces[::2]]
        lines[i] = head + colon + "".join(pieces) if colon else "".join(pieces)


def setup(app: Any) -> None:
    """Ask to see docstrings before they are taken apart."""
    app.connect("autodoc-process-docstring", escape_trailing_underscores, priority=400)
