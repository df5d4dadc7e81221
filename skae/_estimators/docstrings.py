"""Docstrings of kinds that share parameters, so that each entry is written once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

SECTION = re.compile(r"^(Parameters|Attributes)\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", re.M | re.S)
ENTRY = re.compile(r"^(\S[^\n]*)\n((?:^[ ]+[^\n]*\n|^\n)*)", re.M)


def inherit_entries(parent: type) -> Callable[[type], type]:
    """Class decorator that adds entries for parameters and attributes from `parent`'s docstring.

    A line with only a name is replaced by the parent's entry of that name. A line with only
    ``*`` is replaced by all other entries of the parent; of its parameters, only those that the
    constructor of the class takes.
    """
    inherited = {match[1]: _entries(match[2]) for match in SECTION.finditer(_doc(parent))}

    def complete(cls: type) -> type:
        def filled(match: re.Match[str]) -> str:
            title, own = match[1], _entries(match[2])
            theirs, lines = inherited[title], []
            if title == "Parameters":
                accepted = inspect.signature(cls).parameters
                theirs = {name: text for name, text in theirs.items() if name in accepted}
            for name, text in own.items():
                if name == "*":
                    lines += [text for name, text in theirs.items() if name not in own]
                else:
                    lines.append(theirs[name] if text.strip() == name else text)
            return f"{title}\n{'-' * len(title)}\n" + "".join(lines) + "\n"

        cls.__doc__ = SECTION.sub(filled, _doc(cls))
        return cls

    return complete


def _doc(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "") + "\n"


def _entries(section: str) -> dict[str, str]:
    """Entries of a section by their first name, each with its heading line."""
    return {
        re.split(r"[ ,]", match[1])[0]: match[0].rstrip() + "\n"
        for match in ENTRY.finditer(section)
    }
