"""The command line: ``python -m skae compare table.csv --target y --output report.html``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skae._data.validation import import_optional
from skae._data.version import __version__
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.denoising import DenoisingAutoencoder
from skae._estimators.stacked import StackedAutoencoder
from skae._estimators.vae import VAETransformer
from skae._model_selection.column_types import Table, TableError, prepare, read_frame
from skae._model_selection.compare import compare, default_predictor
from skae._model_selection.comparison_result import Comparison
from skae._model_selection.html_report import write_report

KINDS = {
    kind.__name__: kind
    for kind in (
        AutoencoderTransformer,
        DenoisingAutoencoder,
        StackedAutoencoder,
        VAETransformer,
    )
}
FAILED, INTERRUPTED = 2, 130


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line.

    Returns
    -------
    parser : argparse.ArgumentParser
    """
    parser = argparse.ArgumentParser(prog="python -m skae", description="Autoencoders beside PCA.")
    parser.add_argument("--version", action="version", version=f"skae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    sub = commands.add_parser(
        "compare",
        help="compare PCA and autoencoders on the table in a file",
        description="Compare PCA and autoencoders on the table in a file by cross-validation. "
        "Verdict and summary go to the standard output, the report to a file.",
    )
    sub.add_argument("table", type=Path, help="CSV file, or Parquet file (.parquet, .pq)")
    sub.add_argument("--target", metavar="COLUMN", help="column to predict from the codes")
    sub.add_argument("--output", type=Path, metavar="FILE", help="report to write, as HTML")
    sub.add_argument(
        "--n-components", type=int, nargs="+", metavar="K", help="sizes of the code [2 4 8]"
    )
    sub.add_argument(
        "--estimators",
        nargs="+",
        choices=list(KINDS),
        default=["AutoencoderTransformer", "VAETransformer"],
        metavar="KIND",
        help=f"to compare with PCA, of {', '.join(KINDS)} [both but the denoising one]",
    )
    sub.add_argument(
        "--task",
        choices=["auto", "classification", "regression"],
        default="auto",
        help="what the target asks for [decided by its values]",
    )
    sub.add_argument("--cv", type=int, default=5, metavar="FOLDS", help="number of folds [5]")
    sub.add_argument(
        "--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="to leave out"
    )
    sub.add_argument("--separator", default=",", metavar="MARK", help="of a CSV file [,]")
    sub.add_argument("--decimal", default=".", metavar="MARK", help="of its numbers [.]")
    sub.add_argument(
        "--n-jobs", type=int, default=-1, metavar="N", help="fits at once [-1: one a core]"
    )
    sub.add_argument("--random-state", type=int, default=0, metavar="SEED", help="[0]")
    sub.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    status : int
        0, or 2 after an error, which is told on the standard error.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    options = make_parser().parse_args(argv)
    try:
        _compare_file(options, shlex.join(["python", "-m", "skae", *argv]))
    except (TableError, ImportError) as error:
        print(f"skae: error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _compare_file(options: argparse.Namespace, command: str) -> None:
    import_optional("pandas", extra="compare")
    if options.output is not None:
        import_optional("matplotlib", extra="compare")
        _check_writable(options.output)
    table = prepare(_frame_of(options), options.target, options.drop)
    comparison = _compare_table(table, options)
    print(comparison)
    if options.output is None:
        return
    title = f"PCA or an autoencoder? {options.table.name}"
    try:
        write_report(
            comparison, options.output, title=title, preparation=table.notes, command=command
        )
    except OSError as error:
        raise TableError(f"{options.output} cannot be written: {error.strerror}.") from error
    print(f"report: {options.output}", file=sys.stderr)


def _frame_of(options: argparse.Namespace) -> Any:
    return read_frame(options.table, options.separator, options.decimal)


def _compare_table(table: Table, options: argparse.Namespace) -> Comparison:
    y, downstream = _target_of(table, options)
    warnings.filterwarnings("ignore", "Found unknown categories")  # they are counted as rare
    try:
        return compare(
            table.X,
            y,
            options.n_components,
            [KINDS[name]() for name in dict.fromkeys(options.estimators)],
            options.cv,
            downstream=downstream,
            preprocessor=table.preprocessor(),
            n_jobs=options.n_jobs,
            random_state=options.random_state,
            verbose=int(not options.quiet),
        )
    except ValueError as error:
        raise TableError(str(error)) from error


def _target_of(table: Table, options: argparse.Namespace) -> tuple[Any, Any]:
    """Target and its predictor: None, and chosen by its values, unless told otherwise."""
    if options.task == "auto":
        return table.y, None
    if table.y is None:
        raise TableError(f"--task {options.task} needs --target.")
    classes = options.task == "classification"
    if not classes and table.y.dtype.kind not in "iuf":
        raise TableError(f"--task regression: the target {options.target!r} holds no numbers.")
    return table.y.astype(str) if classes else table.y, default_predictor(classes)


def _check_writable(path: Path) -> None:
    """Refuse before the work what could not be written after it."""
    if path.is_dir():
        raise TableError(f"--output {path} is a directory; name a file.")
    if not path.parent.is_dir():
        raise TableError(f"--output {path}: the directory {path.parent} does not exist.")
    if not os.access(path.parent, os.W_OK):
        raise TableError(f"--output {path}: the directory {path.parent} cannot be written to.")


if __name__ == "__main__":
    sys.exit(main())
