"""Reading a table from a CSV or Parquet file."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path
from typing import Any

from skae._data.optional_imports import import_optional
from skae._model_selection.table_errors import TableError

PARQUET_SUFFIXES = {".parquet", ".pq"}
OTHER_SUFFIXES = {".xls", ".xlsx", ".xlsb", ".ods", ".json", ".feather", ".sav", ".dta", ".rds"}
SEPARATORS = ",;\t|"
WESTERN = "cp1252"  # what spreadsheets write in western Europe and America


def read_frame(
    path: Path, sep: str | None = None, decimal: str | None = None, encoding: str = "utf-8"
) -> Any:
    """Read a Parquet file (.parquet, .pq) or a CSV file, compressed or not, as a DataFrame.

    Without `sep`, it is the mark among `SEPARATORS` that makes the most columns of the first line.
    Without `decimal`, it is a comma between semicolons, as spreadsheets write it, else a point.
    """
    if not path.is_file():
        raise TableError(f"{path} {'is a directory' if path.is_dir() else 'does not exist'}.")
    if path.suffix.lower() in OTHER_SUFFIXES:
        raise TableError(f"{path} is neither CSV nor Parquet: save the table as CSV in UTF-8.")
    try:
        if path.suffix.lower() in PARQUET_SUFFIXES:
            return _read_parquet(path)
        return _read_csv(path, sep, decimal, encoding)
    except TableError:
        raise
    except UnicodeError as error:
        raise TableError(
            f"{path} cannot be read: it is not text in {encoding.upper()}: pass --encoding "
            f"{_other_encoding(path)}, or the one it was saved in."
        ) from error
    except (OSError, ValueError, EOFError) as error:  # those of pandas and pyarrow are among them
        raise TableError(f"{path} cannot be read: {_first_line(error)}") from error


def _read_csv(path: Path, sep: str | None, decimal: str | None, encoding: str) -> Any:
    pandas = import_optional("pandas", extra="compare")
    _check_options(sep, decimal, encoding)
    found = sep or _separator_of(path, encoding)
    mark = decimal or ("," if found == ";" else ".")
    frame = pandas.read_csv(path, sep=found, decimal=mark, encoding=encoding, low_memory=False)
    if frame.shape[1] == 1 and sep is not None:
        name = str(frame.columns[0])
        others = [mark for mark in SEPARATORS if mark in name]
        if others:
            raise TableError(f"{path} has one column, {name[:60]!r}: pass --sep {others[0]!r}.")
    return frame


def _check_options(sep: str | None, decimal: str | None, encoding: str) -> None:
    for option, mark in (("--sep", sep), ("--decimal", decimal)):
        if mark is not None and len(mark) != 1:
            raise TableError(f"{option} {mark!r} must be one character.")
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise TableError(f"--encoding {encoding}: there is no such encoding.") from error


def _separator_of(path: Path, encoding: str) -> str:
    """Mark that makes the most columns of the first line; a comma if all make one."""
    pandas = import_optional("pandas", extra="compare")
    whole_lines = {"sep": "\x01", "quoting": csv.QUOTE_NONE, "dtype": str}
    lines = pandas.read_csv(path, header=None, nrows=1, encoding=encoding, **whole_lines)
    line = str(lines.iloc[0, 0])
    return max(SEPARATORS, key=lambda mark: len(next(csv.reader([line], delimiter=mark))))


def _other_encoding(path: Path) -> str:
    """Encoding that a file is likely in that is not in UTF-8."""
    with open(path, "rb") as file:
        start = file.read(2)
    is_utf16 = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if is_utf16 else f"{WESTERN} (western European)"


def _read_parquet(path: Path) -> Any:
    try:
        import_optional("pyarrow", extra="compare")
    except ImportError as error:
        raise TableError(f"{path}: Parquet files need pyarrow: pip install pyarrow") from error
    frame = import_optional("pandas", extra="compare").read_parquet(path)
    return frame.set_axis(frame.columns.map(str), axis=1).reset_index(drop=True)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
