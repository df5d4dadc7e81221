"""Write the pages of the API reference: one a module, and from it one a public name.

Everything public is found by looking: in each module without underscore, the classes and functions
of its `__all__`, or those without underscore that it defines.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import skae


def public_names() -> dict[str, list[str]]:
    """Public names of every public module, in the order of the source."""
    found = [module.name for module in iter_modules(skae.__path__)]
    modules = ["skae", *(f"skae.{name}" for name in sorted(found) if not name.startswith("_"))]
    return {module: names_of(module) for module in modules}


def names_of(module: str) -> list[str]:
    """Classes and functions that a module offers: its `__all__`, or those that it defines."""
    loaded = import_module(module)
    contents = vars(loaded)
    offered = contents.get("__all__") or [
        name for name, thing in contents.items() if getattr(thing, "__module__", None) == module
    ]
    things = {name: getattr(loaded, name) for name in offered if not name.startswith("_")}
    return [
        name
        for name, thing in things.items()
        if inspect.isclass(thing) or inspect.isfunction(thing)
    ]


def page(module: str, names: list[str]) -> str:
    """One module: what it is for, and a line for each of its names."""
    summary = inspect.getdoc(import_module(module)) or ""
    title, first = f"``{module}``", summary.splitlines()[0]
    lines = [title, "=" * len(title), "", first, "", f".. currentmodule:: {module}", ""]
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
