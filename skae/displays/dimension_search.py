"""Display of a search over the number of components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Self

import numpy as np

from skae._estimators.table_coordinates import reference_of
from skae.displays import _plotting as plotting
from skae.displays._plotting import COLORS, GREY, LINE_STYLES, MARKERS, VERMILLION, Keywords

LOG_STEP_RATIO = 5.0  # of the widest step between sizes to the narrowest, as in scikit-learn
MAX_TICKS = 15
MAX_LABEL = 40  # characters
GROUP_COLORS = [color for color in COLORS if color != VERMILLION]  # which is PCA's


@dataclass(eq=False, repr=False, kw_only=True)
class DimensionSearchDisplay:
    """Scores of a search over the number of components, and the number that it chose.

    Parameters
    ----------
    n_components : sequence of shape (n_candidates,)
        Integers, shares of variance, None or anything else that was searched.
    scores : array-like of shape (n_candidates,)
        Mean test score of each.
    errors : array-like of shape (n_candidates,)
        Standard error of each mean.
    groups : sequence of str of shape (n_candidates,), default=None
        Other parameters of each; a line joins the candidates of a group. None is one line.
    chosen : int, default=None
        Index of the chosen candidate.
    rule : str, default=None
        How it was chosen, for the legend.
    pca_scores, pca_errors : array-like of shape (n_candidates,), default=None
        The same for PCA.
    score_name : str, default="score"
    parameter : str, default="n_components"
    pca_name : str, default="PCA"
        Name of PCA in the legend.

    Attributes
    ----------
    errorbars_ : list of matplotlib ErrorbarContainer
        One per group, in order of appearance.
    pca_errorbar_ : matplotlib ErrorbarContainer
        None without PCA.
    band_ : matplotlib Polygon or Rectangle
        From the best mean to one standard error below it; None if all scores are NaN.
    mark_ : matplotlib Line2D
        Around the chosen candidate; None if there is none.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import DimensionSearchDisplay
    >>> X, _ = load_wine(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(hidden_layer_sizes=())
    >>> search = GridSearchCV(autoencoder, {"n_components": [1, 2, 4]}, cv=3).fit(X)
    >>> display = DimensionSearchDisplay.from_estimator(search)
    >>> display.mark_.get_label()
    'chosen: 4'
    """

    __module__ = "skae.displays"

    n_components: Sequence[Any] = field(kw_only=False)
    scores: Any = field(kw_only=False)
    errors: Any = field(kw_only=False)
    groups: Sequence[str] | None = None
    chosen: Any = None
    rule: str | None = None
    pca_scores: Any = None
    pca_errors: Any = None
    score_name: str = "score"
    parameter: str = "n_components"
    pca_name: str = "PCA"

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        parameter: str | None = None,
        metric: str | None = None,
        ax: Any = None,
        errorbar_kw: Keywords = None,
        band_kw: Keywords = None,
        mark_kw: Keywords = None,
    ) -> Self:
        """Draw the mean test score against the number of components.

        Bars are one standard error of the mean over the splits: ``std_test_score`` divided by
        the square root of their number. The band reaches from the best mean to one standard
        error below it. The one-standard-error rule chooses the smallest size inside the band.
        The splits share training rows, so the standard error is only approximate.

        Each combination of the other parameters and each iteration of a halving search has its
        own line. Candidates without the parameter are left out. If the values of `n_components`
        are neither all integers nor all shares of variance, they are evenly spaced: integers
        first, then shares, then other values.

        Parameters
        ----------
        search : estimator with `cv_results_`
            Fitted, such as `sklearn.model_selection.GridSearchCV`. PCA's scores are drawn
            where ``cv_results_`` has ``mean_pca_score``.
        parameter : str, default=None
            Name of the searched parameter, such as "pca__n_components". None is the only one
            whose name ends in "n_components".
        metric : str, default=None
            Which score to show if there are several. None is the one that `refit` names.
        ax : matplotlib Axes, default=None
            None makes a figure.
        errorbar_kw, band_kw, mark_kw : dict, default=None
            Keywords of the curves, the band and the mark.

        Returns
        -------
        display : DimensionSearchDisplay

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        TypeError
            If it is no search.
        ValueError
            If there is no such parameter or metric, or if several match and none is named.
        ImportError
            If matplotlib is absent.
        """
        plotting.check_estimator(cls, search, "cv_results_")
        results = search.cv_results_
        parameter = _check_parameter(results["params"], parameter)
        key = _score_key(search, metric)
        shown = [i for i, params in enumerate(results["params"]) if parameter in params]
        chosen = getattr(search, "best_index_", None)
        scores, errors = _means_and_errors(search, key, shown)
        pca_scores, pca_errors = _means_and_errors(search, "pca_score", shown)
        display = cls(
            [results["params"][i][parameter] for i in shown],
            scores,
            errors,
            groups=_groups(results, parameter, shown),
            chosen=shown.index(chosen) if chosen in shown else None,
            rule=getattr(search, "rule", None),
            pca_scores=pca_scores,
            pca_errors=pca_errors,
            pca_name=reference_of(search.estimator),
            score_name=_score_name(search, key),
            parameter=parameter,
        )
        return display.plot(ax, errorbar_kw=errorbar_kw, band_kw=band_kw, mark_kw=mark_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        errorbar_kw: Keywords = None,
        band_kw: Keywords = None,
        mark_kw: Keywords = None,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        errorbar_kw, band_kw, mark_kw : dict, default=None
            As for `from_estimator`.

        Returns
        -------
        display : DimensionSearchDisplay
        """
        ax = plotting.start_plot(self, ax)
        x = _positions(self.n_components)
        self.errorbars_ = _draw_groups(ax, x, self, errorbar_kw)
        self.pca_errorbar_ = self.mark_ = None
        if self.pca_scores is not None:
            self.pca_errorbar_ = _draw_pca(ax, x, self, errorbar_kw)
        self.band_ = _draw_band(ax, self, band_kw)
        if self.chosen is not None:
            self.mark_ = _draw_mark(ax, x[self.chosen], self, mark_kw)
        _label_sizes(ax, x, self.n_components)
        ax.set(xlabel=self.parameter.split("__")[-1], ylabel=self.score_name)
        plotting.style_axes(ax)
        handles = [*self.errorbars_, self.pca_errorbar_, self.mark_, self.band_]
        ax.legend(handles=[handle for handle in handles if handle is not None])
        return self


# -- results of a search -----------------------------------------------------------


def _check_parameter(candidates: Sequence[dict[str, Any]], parameter: str | None) -> str:
    """Name of the parameter that is the number of components."""
    names = list(dict.fromkeys(name for params in candidates for name in params))
    if parameter is not None:
        if parameter not in names:
            raise ValueError(f"{parameter=} was not searched; choose one of {', '.join(names)}.")
        return parameter
    fitting = [name for name in names if name.endswith("n_components")]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(
            f"The search has several numbers of components, {', '.join(fitting)}; pass one of "
            "them as parameter."
        )
    raise ValueError(
        f"The search has no parameter n_components, but {', '.join(names) or 'none at all'}; "
        "search over it, or name the one to show as parameter."
    )


def _score_key(search: Any, metric: str | None) -> str:
    """Key of the scores to show, without "mean_"."""
    prefix = "mean_test_"
    found = [n.removeprefix(prefix) for n in search.cv_results_ if n.startswith(prefix)]
    if metric is None:
        refit = getattr(search, "refit", None)
        metric = found[0] if len(found) == 1 else refit if refit in found else None
    if metric not in found:
        raise ValueError(
            f"{metric=} is none of the scores of the search; choose one of {', '.join(found)}."
        )
    return f"test_{metric}"


def _score_name(search: Any, key: str) -> str:
    """Name of the scores, for the axis."""
    scoring = getattr(search, "scoring", None)
    name = key.removeprefix("test_")
    if name == "score" and scoring is not None:
        name = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", name)
    return f"mean test {name}".replace("_", " ")


def _means_and_errors(search: Any, key: str, shown: Sequence[int]) -> tuple[Any, Any]:
    """Means over splits and their standard errors; None, None if there are no such scores."""
    results = search.cv_results_
    if f"mean_{key}" not in results:
        return None, None
    spread = np.asarray(results[f"std_{key}"], dtype=float)[shown]
    return np.asarray(results[f"mean_{key}"])[shown], spread / math.sqrt(search.n_splits_)


def _groups(results: dict[str, Any], parameter: str, shown: Sequence[int]) -> list[str]:
    """Labels of the other parameters, if they differ between candidates."""
    others = [dict(results["params"][i]) for i in shown]
    for i, other in zip(shown, others, strict=True):
        del other[parameter]
        if "iter" in results:
            other["iter"] = results["iter"][i]
    texts = [{name: _one_line_repr(value) for name, value in other.items()} for other in others]
    names = dict.fromkeys(name for text in texts for name in text)
    varying = [name for name in names if len({text.get(name) for text in texts}) > 1]
    return [
        ", ".join(f"{name.split('__')[-1]}={text[name]}" for name in varying if name in text)
        for text in texts
    ]


def _one_line_repr(value: Any) -> str:
    return " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())


# -- the horizontal axis -----------------------------------------------------------


def _kind(value: Any) -> int:
    """Kind of a value: 0 is a size, 1 a fraction, 2 anything else."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return 2
    return 0 if isinstance(value, Integral) else 1


def _is_numeric(n_components: Sequence[Any]) -> bool:
    """Whether all are sizes or all are fractions, so that the axis can be numeric."""
    return {_kind(value) for value in n_components} in ({0}, {1})


def _sorted_values(n_components: Sequence[Any]) -> list[Any]:
    """Distinct values: sizes, fractions, then other values in order of appearance."""
    values = dict.fromkeys(n_components)
    return sorted(values, key=lambda v: (_kind(v), v if _kind(v) < 2 else 0))


def _positions(n_components: Sequence[Any]) -> np.ndarray:
    """Positions of candidates on the axis."""
    if _is_numeric(n_components):
        return np.asarray(n_components, dtype=float)
    places = {value: i for i, value in enumerate(_sorted_values(n_components))}
    return np.array([places[value] for value in n_components], dtype=float)


def _label_sizes(ax: Any, x: np.ndarray, n_components: Sequence[Any]) -> None:
    """Choose the scale of the axis and label the values that were searched."""
    from matplotlib.ticker import NullLocator

    values, places = _sorted_values(n_components), np.unique(x)
    steps, is_numeric = np.diff(places), _is_numeric(values)
    if is_numeric and len(steps) > 1 and steps.max() > LOG_STEP_RATIO * steps.min():
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    if len(places) <= MAX_TICKS or not is_numeric:
        ax.set_xticks(places, [str(value) for value in values])


# -- drawing -----------------------------------------------------------------------


def _draw_groups(
    ax: Any, x: np.ndarray, display: DimensionSearchDisplay, errorbar_kw: Keywords
) -> list[Any]:
    """Draw one curve per group."""
    groups = np.array([""] * len(x) if display.groups is None else display.groups, dtype=object)
    curves = []
    for i, group in enumerate(dict.fromkeys(groups)):
        style = plotting.with_defaults(
            errorbar_kw,
            "line",
            capsize=3,
            label=plotting.shorten(group, MAX_LABEL) or "mean over splits",
            color=GROUP_COLORS[i % len(GROUP_COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle=LINE_STYLES[i % len(LINE_STYLES)],
        )
        which = np.flatnonzero(groups == group)
        curves.append(_draw_curve(ax, x, which, (display.scores, display.errors), style))
    return curves


def _draw_pca(
    ax: Any, x: np.ndarray, display: DimensionSearchDisplay, errorbar_kw: Keywords
) -> Any:
    """Draw the curve of PCA: one point for each size, for all values of other parameters."""
    errors = np.zeros(len(x)) if display.pca_errors is None else display.pca_errors
    first = np.sort(np.unique(x, return_index=True)[1])
    style = {"label": display.pca_name, "color": VERMILLION, "marker": "s", "linestyle": "--"}
    options = plotting.with_defaults(errorbar_kw, "line", capsize=3, **style)
    return _draw_curve(ax, x, first, (display.pca_scores, errors), options)


def _draw_curve(ax: Any, x: np.ndarray, which: np.ndarray, scores: Any, options: Any) -> Any:
    """Draw means and standard errors of some candidates, in the order of their sizes."""
    order = which[np.argsort(x[which], kind="stable")]
    means, errors = (np.asarray(values, dtype=float)[order] for values in scores)
    return ax.errorbar(x[order], means, errors, **options)


def _draw_band(ax: Any, display: DimensionSearchDisplay, band_kw: Keywords) -> Any | None:
    """Shade one standard error below the best mean."""
    scores = np.asarray(display.scores, dtype=float)
    if not np.isfinite(scores).any():
        return None
    best = int(np.nanargmax(scores))
    low = scores[best] - np.nan_to_num(display.errors[best])
    style = {"label": "one standard error of the best", "facecolor": GREY}
    options = plotting.with_defaults(band_kw, "patch", alpha=0.2, linewidth=0, **style)
    return ax.axhspan(low, scores[best], **options)


def _draw_mark(ax: Any, x: float, display: DimensionSearchDisplay, mark_kw: Keywords) -> Any:
    """Draw a ring around the chosen candidate."""
    chosen = display.chosen
    label = f"chosen: {_one_line_repr(display.n_components[chosen])}"
    if isinstance(display.rule, str):
        label = f"{label} ({display.rule.replace('_', ' ')})"
    ring = {"color": "black", "marker": "o", "markersize": 14, "markerfacecolor": "none"}
    options = plotting.with_defaults(mark_kw, "line", linestyle="none", label=label, **ring)
    return ax.plot([x], [display.scores[chosen]], **options)[0]
