"""Reading a table from a CSV or Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skae._data.optional_imports import import_optional

PARQUET_SUFFIXES = {".parquet", ".pq"}


class TableError(ValueError):
    """An error in a file, a table or the command line, which the user can correct."""


def read_frame(path: Path, separator: str = ",", decimal: str = ".") -> Any:
    """Read a Parquet file (.parquet, .pq) or a CSV file, compressed or not, as a DataFrame."""
    if not path.is_file():
        raise TableError(f"{path} {'is a directory' if path.is_dir() else 'does not exist'}.")
    try:
        if path.suffix.lower() in PARQUET_SUFFIXES:
            return _read_parquet(path)
        return _read_csv(path, separator, decimal)
    except TableError:
        raise
    except (OSError, ValueError, EOFError) as error:  # those of pandas and pyarrow are among them
        raise TableError(f"{path} cannot be read: {_first_line(error)}") from error


def _read_csv(path: Path, separator: str, decimal: str) -> Any:
    pandas = import_optional("pandas", extra="compare")
    frame = pandas.read_csv(path, sep=separator, decimal=decimal, low_memory=False)
    if frame.shape[1] == 1:
        name = str(frame.columns[0])
        found = [mark for mark in (";", "\t", "|", ",") if mark in name]
        if found:
            raise TableError(
                f"{path} has one column, {name[:60]!r}: pass --separator {found[0]!r}."
            )
    return frame


def _read_parquet(path: Path) -> Any:
    try:
        import_optional("pyarrow", extra="compare")
    except ImportError as error:
        raise TableError(f"{path}: Parquet files need pyarrow: pip install pyarrow") from error
    frame = import_optional("pandas", extra="compare").read_parquet(path)
    return frame.set_axis(frame.columns.map(str), axis=1).reset_index(drop=True)


def _first_line(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8."
    return (str(error).strip() or type(error).__name__).splitlines()[0]
