"""Write the pages of the API reference: one a module, and from it one a public name.

Everything public is found by looking: `skae.__all__`, and of each module without underscore the
classes and functions without underscore that it defines.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import skae


def public_names() -> dict[str, list[str]]:
    """Public names of every public module, in the order of the source."""
    names = {"skae": [n for n in skae.__all__ if not inspect.ismodule(getattr(skae, n))]}
    for module in sorted(found.name for found in iter_modules(skae.__path__)):
        if not module.startswith("_"):
            names[f"skae.{module}"] = own_names(f"skae.{module}")
    return names


def own_names(module: str) -> list[str]:
    """Classes and functions without underscore that a module defines."""
    return [
        name
        for name, thing in vars(import_module(module)).items()
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module
    ]


def page(module: str, names: list[str]) -> str:
    """One module: what it is for, and a line for each of its names."""
    summary = inspect.getdoc(import_module(module)) or ""
    title = f"``{module}``: {summary.splitlines()[0].rstrip('.')}"
    lines = [title, "=" * len(title), "", f".. currentmodule:: {module}", ""]
    lines += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
    return "\n".join([*lines, *(f"   {name}" for name in names)]) + "\n"


def write(folder: Path) -> None:
    """Write all pages, those alone that have changed."""
    folder.mkdir(exist_ok=True)
    for module, names in public_names().items():
        path, text = folder / f"{module}.rst", page(module, names)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent / "api")
