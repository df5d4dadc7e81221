"""Errors that a user can correct, in the words of the function or of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What `compare` calls its parameters; words may hold the values of an error.
FUNCTION_WORDS = {
    "y": "y",
    "leave_y_out": "leave y out",
    "cv": "cv={cv}",
    "n_components": "n_components={n_components}",
    "as_numbers": "`downstream` if y is a number to be predicted",
}


class TableError(ValueError):
    """An error in a file, a table or the command line, which the user can correct."""


class ParameterError(TableError):
    """An error whose text names parameters, which the command line calls by other words.

    Parameters
    ----------
    text : str
        With keys of `FUNCTION_WORDS` and of `values` in braces.
    values : dict of str to object, default=None
    """

    def __init__(self, text: str, values: Mapping[str, Any] | None = None):
        super().__init__(text, dict(values or {}))

    def __str__(self) -> str:
        return self.in_words(FUNCTION_WORDS)

    def in_words(self, words: Mapping[str, str]) -> str:
        """Text of the error with these words for parameters."""
        text, values = self.args
        for key, word in words.items():
            text = text.replace(f"{{{key}}}", word)
        return text.format(**values)
