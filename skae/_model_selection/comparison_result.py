"""What a comparison found: frames, a verdict, a figure, a report."""

from __future__ import annotations

from os import PathLike
from typing import Any

from skae._data.validation import import_optional
from skae._model_selection.html_report import fragment, write_report
from skae._model_selection.significance import paired_differences, verdict_of

KEYS = ["estimator", "n_components"]
LABELS = {
    "explained_variance": "explained variance",
    "trustworthiness": "trustworthiness",
    "fit_time": "fit time, s",
    "transform_time": "transform time, s",
}
SCORES = {"explained_variance", "downstream_score", "trustworthiness"}
MARKERS = "osD^vPX*"


class ComparisonDisplay:
    """Figure of one measure against the size of the code.

    Parameters
    ----------
    summary : DataFrame
        Means and standard deviations over folds, as `Comparison.summary` has them.
    measure : str
        Column that is drawn.
    label : str
        Of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        Means over folds, one line an estimator.
    error_bars_ : list of matplotlib LineCollection
        One standard deviation over folds to both sides; of scores only, times have a
        logarithmic axis.
    """

    def __init__(self, summary: Any, *, measure: str, label: str):
        self.summary = summary
        self.measure = measure
        self.label = label

    def plot(self, ax: Any = None) -> ComparisonDisplay:
        """Draw the figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ComparisonDisplay
        """
        if ax is None:
            _, ax = import_optional("matplotlib.pyplot", extra="compare").subplots()
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_: list[Any] = []
        self.error_bars_: list[Any] = []
        groups = list(self.summary.groupby("estimator", sort=False))
        for i, (name, rows) in enumerate(groups):
            self._draw(str(name), rows, i, len(groups))
        sizes = sorted(self.summary["n_components"].unique())
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set(xlabel="n_components", ylabel=self.label)
        ax.margins(x=0.08)
        if self.measure not in SCORES:
            ax.set_yscale("log")
        ax.grid(axis="y", alpha=0.3)
        ax.legend()
        return self

    def _draw(self, name: str, rows: Any, i: int, n_lines: int) -> None:
        """Draw one estimator, beside the others so that no bar hides another."""
        sizes = sorted(self.summary["n_components"].unique())
        places = [sizes.index(k) + 0.06 * (i - (n_lines - 1) / 2) for k in rows["n_components"]]
        line, _, bars = self.ax_.errorbar(
            places,
            rows[self.measure],
            yerr=rows[f"{self.measure}_std"] if self.measure in SCORES else None,
            marker=MARKERS[i % len(MARKERS)],
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
        What the downstream score is called; empty without one.
    test_ratio : float
        Test rows of a fold for each of its training rows.
    settings : dict of str to object
        How it was found, for the report.

    Attributes
    ----------
    results : DataFrame
        Columns `estimator`, `n_components`, `fold`, `explained_variance`, `downstream_score`
        (only with y), `trustworthiness`, `fit_time` and `transform_time` (seconds).
    summary : DataFrame
        Means over folds, and standard deviations in columns that end in ``_std``.
    differences : DataFrame
        Each estimator minus the reference, over the same folds: `difference` and its interval
        from `lower` to `upper`, `share_of_left` (the difference divided by what the reference
        leaves to 1) and `outcome`: "better", "worse", "undecided" or "alike".
    verdict : str
        What it comes to, in a sentence or two.
    pca_suffices : bool
        Whether nothing is better than PCA, neither at restoring rows nor downstream.
    """

    def __init__(
        self,
        results: Any,
        *,
        reference: str,
        score_label: str,
        test_ratio: float,
        settings: dict[str, Any],
    ):
        pandas = import_optional("pandas", extra="compare")
        self.results = pandas.DataFrame(results)
        self.reference = reference
        self.settings = settings
        self.labels = {
            name: LABELS.get(name, score_label)
            for name in self.results.columns
            if name not in (*KEYS, "fold")
        }
        self.summary = self._summarise()
        measures = {
            name: self.labels[name]
            for name in ("explained_variance", "downstream_score")
            if name in self.labels
        }
        rows = paired_differences(self.results, reference, measures, test_ratio)
        self.differences = pandas.DataFrame(rows)
        self.verdict, self.pca_suffices = verdict_of(rows, reference, measures)

    def _summarise(self) -> Any:
        groups = self.results.groupby(KEYS, sort=False)[list(self.labels)]
        means, spreads = groups.mean(), groups.std(ddof=1)
        joined = means.join(spreads.add_suffix("_std"))
        ordered = [name + end for name in self.labels for end in ("", "_std")]
        return joined[ordered].reset_index()

    def readable(self) -> Any:
        """Make the summary a table for people: means ± standard deviations, smallest code first.

        Returns
        -------
        table : DataFrame of str
        """
        summary = self.summary.sort_values("n_components", kind="stable")
        table = summary[["n_components", "estimator"]].astype(str)
        table = table.rename(columns={"n_components": "components"})
        for name, label in self.labels.items():
            if name == "transform_time":  # milliseconds, in `summary`
                continue
            mean, spread = summary[name], summary[f"{name}_std"]
            table[label] = [f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True)]
        return table

    def plot(self, ax: Any = None, *, measure: str = "explained_variance") -> ComparisonDisplay:
        """Draw one measure against the number of components.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        measure : str, default="explained_variance"
            "explained_variance", "downstream_score", "trustworthiness", "fit_time" or
            "transform_time".

        Returns
        -------
        display : ComparisonDisplay
            With what was drawn as `ax_`, `figure_`, `lines_` and `error_bars_`.

        Raises
        ------
        ValueError
            If there is no such measure.
        ImportError
            If matplotlib is absent: ``pip install 'skae[compare]'``.
        """
        if measure not in self.labels:
            raise ValueError(f"measure={measure!r} must be one of {sorted(self.labels)}.")
        display = ComparisonDisplay(self.summary, measure=measure, label=self.labels[measure])
        return display.plot(ax)

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the report as one HTML file that needs nothing else.

        The file is complete or absent: it is written beside its place, then moved there.

        Parameters
        ----------
        path : str or path
            In a directory that exists.

        Raises
        ------
        OSError
            If the file cannot be written.
        ImportError
            If matplotlib is absent: ``pip install 'skae[compare]'``.
        """
        write_report(self, path)

    def _repr_html_(self) -> str:
        return fragment(self)

    def __repr__(self) -> str:
        return f"{self.verdict}\n\n{self.readable().to_string(index=False)}"
