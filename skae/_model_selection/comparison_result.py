"""Result of a comparison: frames, verdict, figure and report."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from skae._data.optional_imports import import_optional
from skae._model_selection.html_report import DASH, notebook_html, write_report
from skae._model_selection.significance import paired_differences
from skae._model_selection.verdict import verdict_of

KEYS = ["estimator", "n_components"]
LABELS = {
    "explained_variance": "explained variance",
    "trustworthiness": "trustworthiness",
    "fit_time": "fit time, s",
    "transform_time": "transform time, s",
}
COMPARED = "explained_variance", "downstream_score"
SCORES = {"explained_variance", "downstream_score", "trustworthiness"}
MARKERS = "osD^vPX*"
GREYS, DASHES = ("0.25", "0.55"), ("--", ":")


class ComparisonDisplay:
    """Figure of one measure against the number of components.

    Parameters
    ----------
    summary : DataFrame
        Means and standard deviations over folds, as `Comparison.summary` has them.
    measure : str
        Column to draw.
    label : str
        Label of the vertical axis.
    baselines : sequence of str, default=()
        Estimators that do not depend on the number of components: horizontal lines.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        Means over folds, one line per estimator that has this measure.
    error_bars_ : list of matplotlib LineCollection
        Standard deviations over folds; of scores only, because times have a logarithmic axis,
        and not of horizontal lines.
    """

    __module__ = "skae"

    def __init__(self, summary: Any, *, measure: str, label: str, baselines: Sequence[str] = ()):
        self.summary = summary
        self.measure = measure
        self.label = label
        self.baselines = baselines

    def plot(self, ax: Any = None) -> ComparisonDisplay:
        """Draw the figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        display : ComparisonDisplay
        """
        if ax is None:
            _, ax = import_optional("matplotlib.pyplot", extra="compare").subplots()
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_: list[Any] = []
        self.error_bars_: list[Any] = []
        shown = self.summary.dropna(subset=[self.measure])
        flat = shown["estimator"].isin(list(self.baselines))
        sizes = sorted(shown["n_components"][~flat].unique())
        groups = list(shown[~flat].groupby("estimator", sort=False))
        for i, (name, rows) in enumerate(groups):
            shift = 0.06 * (i - (len(groups) - 1) / 2)  # so that error bars do not overlap
            places = [sizes.index(k) + shift for k in rows["n_components"]]
            self._draw(str(name), places, rows, MARKERS[i % len(MARKERS)])
        for i, row in enumerate(shown[flat].to_dict("records")):
            style = {"color": GREYS[i % len(GREYS)], "linestyle": DASHES[i % len(DASHES)]}
            line = ax.axhline(row[self.measure], label=row["estimator"], zorder=1, **style)
            self.lines_.append(line)
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set(xlabel="n_components", ylabel=self.label)
        reach = 0.1 + 0.03 * len(groups)  # beyond the outermost numbers of components
        ax.set_xlim(-reach, max(len(sizes), 1) - 1 + reach)
        if self.measure not in SCORES:
            ax.set_yscale("log")
        ax.grid(axis="y", alpha=0.3)
        ax.legend()
        return self

    def _draw(self, name: str, places: list[float], rows: Any, marker: str) -> None:
        """Draw one estimator."""
        line, _, bars = self.ax_.errorbar(
            places,
            rows[self.measure],
            yerr=rows[f"{self.measure}_std"] if self.measure in SCORES else None,
            marker=marker,
            capsize=3,
            label=name,
        )
        self.lines_.append(line)
        self.error_bars_ += bars


class Comparison:
    """Outcome of `skae.compare`.

    Parameters
    ----------
    results : list of dict or DataFrame
        One row for each estimator, size and fold.
    reference : str
        Estimator that the others are compared with.
    score_label : str
        Name of the downstream score; empty without one.
    test_ratio : float
        Number of test rows of a fold divided by the number of its training rows.
    settings : dict of str to object
        Settings of the comparison, for the report.
    supervised : sequence of str, default=()
        Estimators that are fitted with the target.
    baselines : sequence of str, default=()
        Rows of `results` without a reducer.
    preparation : sequence of tuple of two str, default=()
        What was done to the columns and rows of a frame: terms and explanations.
    left_out : sequence of tuple of str and int, default=()
        Estimators and their numbers of components that were not fitted, because the budget was
        spent.

    Attributes
    ----------
    results : DataFrame
        Columns `estimator`, `n_components`, `fold`, `explained_variance`, `downstream_score`
        (only with y), `trustworthiness`, `fit_time` and `transform_time` (seconds). What a row
        does not have is NaN: LDA and baselines restore nothing. The number of components of
        baselines is the number of columns that they use, 0 for a constant.
    summary : DataFrame
        Means over folds, and standard deviations in columns that end in ``_std``.
    differences : DataFrame
        Each estimator minus the PCA of the same size and, for the downstream score, minus each
        baseline, over the same folds. `reference` and `reference_n_components` are what is
        subtracted; for LDA, which may have too few components, it is the next larger PCA.
        `uses_target` says whether the estimator is fitted with the target. `difference` has an
        interval from `lower` to `upper`, `share_of_left` is the difference divided by 1 minus
        the score of the reference, and `outcome` is "better", "worse", "undecided" or "alike".
    verdict : str
        The conclusion: a line for reconstruction and, with a target, lines for the downstream
        score, for reducers that are fitted with the target, and for the baselines.
    pca_suffices : bool
        Whether no estimator is better than PCA, neither in explained variance nor downstream.
        Estimators that are fitted with the target count downstream only.
    supervised, baselines, preparation, left_out : list
        As passed.
    """

    __module__ = "skae"

    def __init__(
        self,
        results: Any,
        *,
        reference: str,
        score_label: str,
        test_ratio: float,
        settings: dict[str, Any],
        supervised: Sequence[str] = (),
        baselines: Sequence[str] = (),
        preparation: Sequence[tuple[str, str]] = (),
        left_out: Sequence[tuple[str, int]] = (),
    ):
        pandas = import_optional("pandas", extra="compare")
        self.results = pandas.DataFrame(results)
        self.reference = reference
        self.settings = settings
        self.supervised, self.baselines = list(supervised), list(baselines)
        self.preparation, self.left_out = list(preparation), list(left_out)
        names = self.results.columns.drop([*KEYS, "fold"])
        self.labels = {name: LABELS.get(name, score_label) for name in names}
        self.summary = self._summarize()
        compared = [name for name in COMPARED if name in self.labels]
        measures = {name: self.labels[name] for name in compared}
        rows = paired_differences(
            self.results,
            reference,
            measures,
            test_ratio,
            supervised=self.supervised,
            baselines=self.baselines,
        )
        self.differences = pandas.DataFrame(rows)
        self.verdict, self.pca_suffices = verdict_of(rows, reference, measures)

    def _summarize(self) -> Any:
        groups = self.results.groupby(KEYS, sort=False)[list(self.labels)]
        joined = groups.mean().join(groups.std(ddof=1).add_suffix("_std"))
        ordered = [name + end for name in self.labels for end in ("", "_std")]
        return joined[ordered].reset_index()

    def readable(self) -> Any:
        """Format the summary as text: means ± standard deviations, by number of components.

        A dash stands for what an estimator does not have. Baselines are last.

        Returns
        -------
        table : DataFrame of str
        """
        by_size = self.summary.sort_values("n_components", kind="stable")
        is_baseline = by_size["estimator"].isin(self.baselines)
        summary = by_size.iloc[np.argsort(is_baseline, kind="stable")]
        table = summary[["n_components", "estimator"]].astype(str)
        table = table.rename(columns={"n_components": "components"})
        for name, label in self.labels.items():
            if name == "transform_time":  # too short to be shown; in `summary`
                continue
            mean, spread = summary[name], summary[f"{name}_std"]
            pairs = zip(mean, spread, strict=True)
            table[label] = [_with_spread(*pair) for pair in pairs]
        return table

    def plot(self, ax: Any = None, *, measure: str = "explained_variance") -> ComparisonDisplay:
        """Draw one measure against the number of components.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.
        measure : str, default="explained_variance"
            "explained_variance", "downstream_score", "trustworthiness", "fit_time" or
            "transform_time".

        Returns
        -------
        display : ComparisonDisplay
            With the attributes `ax_`, `figure_`, `lines_` and `error_bars_`.

        Raises
        ------
        ValueError
            If there is no such measure.
        ImportError
            If matplotlib is absent: ``pip install 'skae[compare]'``.
        """
        if measure not in self.labels:
            raise ValueError(f"measure={measure!r} must be one of {sorted(self.labels)}.")
        label = self.labels[measure]
        display = ComparisonDisplay(
            self.summary, measure=measure, label=label, baselines=self.baselines
        )
        return display.plot(ax)

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the report as one self-contained HTML file.

        The file is written under another name and then renamed, so that it is never incomplete.

        Parameters
        ----------
        path : str or path
            Its directory must exist.

        Raises
        ------
        OSError
            If the file cannot be written.
        ImportError
            If matplotlib is absent: ``pip install 'skae[compare]'``.
        """
        write_report(self, path)

    def to_dict(self) -> dict[str, Any]:
        """Everything that the report says as plain values, such as `json.dumps` takes.

        Returns
        -------
        result : dict of str to object
            The keys are "verdict", "pca_suffices", "reference", "settings", "preparation" and
            "left_out" (lists of pairs), and "summary", "differences" and "results" (lists with a
            dict for each row of these frames). What a row does not have is None.
        """
        return {
            "verdict": self.verdict,
            "pca_suffices": self.pca_suffices,
            "reference": self.reference,
            "settings": dict(self.settings),
            "preparation": [list(pair) for pair in self.preparation],
            "left_out": [list(pair) for pair in self.left_out],
            "summary": _records(self.summary),
            "differences": _records(self.differences),
            "results": _records(self.results),
        }

    def _repr_html_(self) -> str:
        return notebook_html(self)

    def __repr__(self) -> str:
        dropped = "".join(f"\n{line}" for line in self.dropped())
        return f"{self.verdict}\n\n{self.readable().to_string(index=False)}{dropped}"

    def dropped(self) -> list[str]:
        """Say which rows and columns of the table, and which fits, were left out, and why.

        Returns
        -------
        lines : list of str
            One for each reason.
        """
        lines = [f"{term}: {text}" for term, text in self.preparation if "dropped" in term]
        sizes: dict[str, list[str]] = {}
        for name, size in self.left_out:
            sizes.setdefault(name, []).append(str(size))
        if sizes:
            late = [f"{name} with {' and '.join(own)} components" for name, own in sizes.items()]
            lines.append(f"not fitted, as the budget was spent: {', '.join(late)}")
        return lines


def _with_spread(mean: float, spread: float) -> str:
    """Mean ± standard deviation, which is unknown of one fold; a dash without either."""
    if np.isnan(mean):
        return DASH
    return f"{mean:z.3f}" if np.isnan(spread) else f"{mean:z.3f} ± {spread:.3f}"


def _records(frame: Any) -> list[dict[str, Any]]:
    """Rows of a frame with None in place of NaN."""
    return [
        {name: None if value != value else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
