"""The command line: ``python -m skae compare table.csv --target y --output report.html``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skae._data.optional_imports import import_optional
from skae._data.version import __version__
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.denoising import DenoisingAutoencoder
from skae._estimators.stacked import StackedAutoencoder
from skae._estimators.table import TableAutoencoder
from skae._estimators.vae import VAETransformer
from skae._model_selection.column_types import Table, prepare_table
from skae._model_selection.compare import compare, default_estimators
from skae._model_selection.comparison_result import Comparison
from skae._model_selection.downstream_target import default_predictor
from skae._model_selection.html_report import write_report
from skae._model_selection.table_errors import ParameterError, TableError
from skae._model_selection.table_file import read_frame

KINDS = {
    "autoencoder": AutoencoderTransformer,
    "denoising": DenoisingAutoencoder,
    "stacked": StackedAutoencoder,
    "table": TableAutoencoder,
    "vae": VAETransformer,
}
FAILED, INTERRUPTED = 2, 130
EXIT_STATUS = (
    "Exit status: 0 after a comparison; 2 if the command line or the table is at fault, with one "
    "line on the standard error that names the option or the column and a remedy; 130 after an "
    "interrupt."
)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skae", description="Autoencoders beside PCA.")
    parser.add_argument("--version", action="version", version=f"skae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    command = commands.add_parser(
        "compare",
        help="compare PCA and autoencoders on the table in a file",
        description="Compare PCA and autoencoders on the table in a file by cross-validation. "
        "Verdict and summary go to the standard output, the report to a file.",
        epilog=EXIT_STATUS,
    )
    _add_table_options(command.add_argument)
    _add_comparison_options(command.add_argument)
    return parser


def _add_table_options(add: Callable[..., Any]) -> None:
    add("table", type=Path, help="CSV file, or Parquet file (.parquet, .pq)")
    add("--target", metavar="COLUMN", help="column to predict from the codes")
    add("--groups", metavar="COLUMN", help="rows with the same value here are held out together")
    add("--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="to leave out")
    marks = "between columns of a CSV file [the one of , ; | and tab that the first line has]"
    add("--sep", metavar="MARK", help=marks)
    add("--decimal", metavar="MARK", help="decimal mark of a CSV file [, between ; and else .]")
    add("--encoding", default="utf-8", metavar="NAME", help="of a CSV file, as cp1252 [utf-8]")
    add("--output", type=Path, metavar="FILE", help="HTML file for the report")
    add("--json", action="store_true", help="print everything as JSON, in place of the summary")


def _add_comparison_options(add: Callable[..., Any]) -> None:
    add("--n-components", type=int, nargs="+", metavar="K", help="numbers of components [2 4 8]")
    kinds = (
        f"autoencoders to compare with PCA: any of {', '.join(KINDS)} [autoencoder vae, and table "
        "if 1 %% of the cells or more are missing]"
    )
    add("--kind", nargs="+", choices=list(KINDS), metavar="KIND", help=kinds)
    tasks = ["auto", "classification", "regression"]
    add("--task", choices=tasks, default="auto", help="type of the target [auto: by its values]")
    baselines = "with a target: leave out raw columns, constant and supervised reducers"
    add("--no-baselines", action="store_true", help=baselines)
    add("--cv", type=int, default=5, metavar="FOLDS", help="number of folds [5]")
    budget = "begin no fit after this time; the report says what was left out [no limit]"
    add("--budget", type=_positive, metavar="SECONDS", help=budget)
    jobs = "number of processes [-1: one per core]"
    add("--n-jobs", type=int, default=-1, metavar="N", help=jobs)
    add("--random-state", type=int, default=0, metavar="SEED", help="seed [0]")
    add("--quiet", action="store_true", help="no progress bar")


def _positive(text: str) -> float:
    if not (value := float(text)) > 0:
        raise ValueError
    return value


_positive.__name__ = "positive number"  # in the parser's errors


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments of the command line. None is those of the process.

    Returns
    -------
    status : int
        Exit status: 0, or 2 after an error, which is printed to the standard error, or 130 after
        an interrupt.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    options = _make_parser().parse_args(argv)
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
    sep = None if options.sep is None else options.sep.replace("\\t", "\t")
    frame = read_frame(options.table, sep, options.decimal, options.encoding)
    table = prepare_table(frame, options.target, options.drop, options.groups)
    comparison = _compare_table(table, options)
    if options.json:
        content = {"command": command, **comparison.to_dict()}
        print(json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print(comparison)
    if options.output is None:
        return
    title = f"PCA or an autoencoder? {options.table.name}"
    try:
        write_report(comparison, options.output, title=title, command=command)
    except OSError as error:
        raise TableError(f"{options.output} cannot be written: {error.strerror}.") from error
    print(f"report: {options.output}", file=sys.stderr)


def _compare_table(table: Table, options: argparse.Namespace) -> Comparison:
    y, downstream = _target_and_predictor(table, options)
    try:
        comparison = compare(
            table.X,
            y,
            options.n_components,
            _estimators(table, options),
            options.cv,
            downstream=downstream,
            preprocessor=table.preprocessor(),
            groups=table.groups,
            baselines=not options.no_baselines,
            budget=options.budget,
            n_jobs=options.n_jobs,
            random_state=options.random_state,
            verbose=int(not options.quiet),
        )
    except ParameterError as error:
        raise TableError(error.in_words(_words(options))) from error
    except ValueError as error:
        raise TableError(str(error)) from error
    comparison.preparation = [*table.notes, *comparison.preparation]
    del comparison.settings["call"]  # of a frame that the user does not have
    return comparison


def _words(options: argparse.Namespace) -> dict[str, str]:
    """What the command line calls the parameters of `compare`."""
    target = repr(options.target).replace("{", "{{").replace("}", "}}")
    sizes = " ".join(map(str, options.n_components or []))
    return {
        "y": f"the target {target}",
        "leave_y_out": "leave --target out, or name another column",
        "cv": f"--cv {options.cv}",
        "n_components": f"--n-components {sizes}",
        "as_numbers": "--task regression if it is a number to be predicted, or another --target",
    }


def _estimators(table: Table, options: argparse.Namespace) -> list[Any]:
    if options.kind is None:
        return default_estimators(table)
    return [KINDS[kind]() for kind in dict.fromkeys(options.kind)]


def _target_and_predictor(table: Table, options: argparse.Namespace) -> tuple[Any, Any]:
    """Target of `--task`, and what predicts it; None leaves the choice to `compare`."""
    if options.task == "auto":
        return table.y, None
    if table.y is None:
        raise TableError(f"--task {options.task} needs --target.")
    if options.task == "classification":
        return table.y.astype(str), default_predictor(classifies=True)
    if table.y.dtype.kind not in "iuf":
        raise TableError(f"--task regression: the target {options.target!r} holds no numbers.")
    return table.y, default_predictor(classifies=False)


def _check_writable(path: Path) -> None:
    """Refuse an output file that cannot be written, before the fits."""
    if path.is_dir():
        raise TableError(f"--output {path} is a directory; name a file.")
    if not path.parent.is_dir():
        raise TableError(f"--output {path}: the directory {path.parent} does not exist.")
    if not os.access(path.parent, os.W_OK):
        raise TableError(f"--output {path}: the directory {path.parent} cannot be written to.")


if __name__ == "__main__":
    sys.exit(main())
