"""Display of a search over the number of components."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skae.displays._plotting import (
    COLOURS,
    GREY,
    LINE_STYLES,
    MARKERS,
    VERMILLION,
    axes_for,
    clear_up,
    with_defaults,
)

WIDE_STEPS = 5.0  # ratio of steps between sizes that asks for a logarithmic axis, as scikit-learn's
MAX_TICKS = 15
MAX_LABEL = 40  # characters
OTHER_COLOURS = [colour for colour in COLOURS if colour != VERMILLION]  # which is PCA's


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
        Other parameters of each: those of one group are joined by a line. None is one line.
    chosen : int, default=None
        Index of the candidate chosen.
    rule : str, default=None
        How it was chosen, for the legend.
    pca_scores, pca_errors : array-like of shape (n_candidates,), default=None
        The same of PCA.
    score_name : str, default="score"
    parameter : str, default="n_components"

    Attributes
    ----------
    errorbars_ : list of matplotlib ErrorbarContainer
        One a group, in the order in which they come first.
    pca_errorbar_ : matplotlib ErrorbarContainer
        None without PCA.
    band_ : matplotlib Polygon or Rectangle
        From the best mean to one standard error below it; None if all scores are NaN.
    mark_ : matplotlib Line2D
        Around the candidate chosen; None if there is none.
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

    def __init__(
        self,
        n_components: Sequence[Any],
        scores: Any,
        errors: Any,
        *,
        groups: Sequence[str] | None = None,
        chosen: Any = None,
        rule: str | None = None,
        pca_scores: Any = None,
        pca_errors: Any = None,
        score_name: str = "score",
        parameter: str = "n_components",
    ):
        self.n_components = n_components
        self.scores = scores
        self.errors = errors
        self.groups = groups
        self.chosen = chosen
        self.rule = rule
        self.pca_scores = pca_scores
        self.pca_errors = pca_errors
        self.score_name = score_name
        self.parameter = parameter

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        parameter: str | None = None,
        metric: str | None = None,
        ax: Any = None,
        errorbar_kw: dict[str, Any] | None = None,
        band_kw: dict[str, Any] | None = None,
        mark_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the mean test score against the number of components.

        Bars are one standard error of the mean over the splits, ``std_test_score`` over the
        root of their number. The band reaches from the best mean to one standard error below
        it: the smallest size inside is the choice of the one-standard-error rule. The splits
        share training rows, so that the error is a rough one.

        Each combination of the other parameters has a line of its own, and so has each
        iteration of a halving search. Candidates without the parameter are left out. Where
        `n_components` is not always an integer, or always a share of variance, candidates
        stand side by side: integers, shares, then everything else.

        Parameters
        ----------
        search : estimator with `cv_results_`
            Fitted, such as `sklearn.model_selection.GridSearchCV`. PCA's scores are drawn
            where ``cv_results_`` has ``mean_pca_score``.
        parameter : str, default=None
            Of the search, such as "pca__n_components". None is the only one whose name is or
            ends in "n_components".
        metric : str, default=None
            Which of several scores to show. None is the one that the search refits by.
        ax : matplotlib Axes, default=None
            None makes a figure.
        errorbar_kw, band_kw, mark_kw : dict, default=None
            Keywords of the curves, of the band and of the mark.

        Returns
        -------
        display : DimensionSearchDisplay

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        ValueError
            If no parameter fits, or several do; if there is no such metric, or several.
        ImportError
            If matplotlib is absent.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(search, "cv_results_")
        results = search.cv_results_
        parameter = _check_parameter(results["params"], parameter)
        key = _score_key(search, metric)
        shown = [i for i, params in enumerate(results["params"]) if parameter in params]
        chosen = getattr(search, "best_index_", None)
        options = {}
        if "mean_pca_score" in results:
            options["pca_scores"] = np.asarray(results["mean_pca_score"])[shown]
            options["pca_errors"] = _errors(search, "pca_score")[shown]
        display = cls(
            [results["params"][i][parameter] for i in shown],
            np.asarray(results[f"mean_{key}"])[shown],
            _errors(search, key)[shown],
            groups=_groups(results, parameter, shown),
            chosen=shown.index(chosen) if chosen in shown else None,
            rule=getattr(search, "rule", None),
            score_name=_score_name(search, key),
            parameter=parameter,
            **options,
        )
        return display.plot(ax, errorbar_kw=errorbar_kw, band_kw=band_kw, mark_kw=mark_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        errorbar_kw: dict[str, Any] | None = None,
        band_kw: dict[str, Any] | None = None,
        mark_kw: dict[str, Any] | None = None,
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
        check_matplotlib_support(f"{type(self).__name__}.plot")
        x = _positions(self.n_components)
        self.ax_ = axes_for(ax)
        self.figure_ = self.ax_.figure
        self.errorbars_ = _draw_groups(self.ax_, x, self, errorbar_kw)
        self.pca_errorbar_ = self.mark_ = None
        if self.pca_scores is not None:
            self.pca_errorbar_ = _draw_pca(self.ax_, x, self, errorbar_kw)
        self.band_ = _draw_band(self.ax_, self, band_kw)
        if self.chosen is not None:
            self.mark_ = _draw_mark(self.ax_, x, self, mark_kw)
        _label_sizes(self.ax_, x, self.n_components)
        self.ax_.set(xlabel=self.parameter.split("__")[-1], ylabel=self.score_name)
        clear_up(self.ax_)
        handles = [*self.errorbars_, self.pca_errorbar_, self.mark_, self.band_]
        self.ax_.legend(handles=[handle for handle in handles if handle is not None])
        return self


# -- what a search says ------------------------------------------------------------


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
    results = search.cv_results_
    found = [m[1] for m in (re.fullmatch(r"mean_test_(.+)", name) for name in results) if m]
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


def _errors(search: Any, key: str) -> np.ndarray:
    """Standard errors of means over splits."""
    results = search.cv_results_
    n_splits = sum(bool(re.fullmatch(rf"split\d+_{re.escape(key)}", name)) for name in results)
    return np.asarray(results[f"std_{key}"], dtype=float) / math.sqrt(n_splits or search.n_splits_)


def _groups(results: dict[str, Any], parameter: str, shown: Sequence[int]) -> list[str]:
    """Label of what distinguishes candidates beside the parameter."""
    others = []
    for i in shown:
        other = {name: v for name, v in results["params"][i].items() if name != parameter}
        others.append({**other, **({"iter": results["iter"][i]} if "iter" in results else {})})
    names = dict.fromkeys(name for other in others for name in other)
    texts = [{name: _text_of(value) for name, value in other.items()} for other in others]
    varying = [name for name in names if len({text.get(name) for text in texts}) > 1]
    return [
        ", ".join(f"{name.split('__')[-1]}={text[name]}" for name in varying if name in text)
        for text in texts
    ]


def _text_of(value: Any) -> str:
    return " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())


# -- how it is drawn ---------------------------------------------------------------


def _is_size(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, Integral)


def _are_numbers(n_components: Sequence[Any]) -> bool:
    """Whether all are sizes or all are shares, so that distances between them mean something."""
    return all(map(_is_size, n_components)) or all(map(_is_share, n_components))


def _in_order(n_components: Sequence[Any]) -> list[Any]:
    """Distinct values: sizes, shares, then everything else as it comes."""
    values = list(dict.fromkeys(n_components))
    others = [v for v in values if not (_is_size(v) or _is_share(v))]
    return [*sorted(filter(_is_size, values)), *sorted(filter(_is_share, values)), *others]


def _positions(n_components: Sequence[Any]) -> np.ndarray:
    """Where candidates stand on the axis."""
    if _are_numbers(n_components):
        return np.asarray(n_components, dtype=float)
    places = {value: i for i, value in enumerate(_in_order(n_components))}
    return np.array([places[value] for value in n_components], dtype=float)


def _label_sizes(ax: Any, x: np.ndarray, n_components: Sequence[Any]) -> None:
    """Choose the scale of the axis and label the sizes that were tried."""
    from matplotlib.ticker import NullLocator

    values = _in_order(n_components)
    places, steps = np.unique(x), np.diff(np.unique(x))
    if _are_numbers(values) and len(steps) > 1 and steps.max() > WIDE_STEPS * steps.min():
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    if len(places) <= MAX_TICKS or not _are_numbers(values):
        ax.set_xticks(places, [str(value) for value in values])


def _draw_groups(
    ax: Any, x: np.ndarray, display: DimensionSearchDisplay, errorbar_kw: dict[str, Any] | None
) -> list[Any]:
    """Draw one curve a group."""
    from matplotlib.lines import Line2D

    groups = [""] * len(x) if display.groups is None else list(display.groups)
    curves = []
    for i, group in enumerate(dict.fromkeys(groups)):
        style = with_defaults(
            errorbar_kw,
            Line2D,
            color=OTHER_COLOURS[i % len(OTHER_COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle=LINE_STYLES[i % len(LINE_STYLES)],
        )
        name = group if len(group) <= MAX_LABEL else f"{group[: MAX_LABEL - 1]}…"
        own = np.array([other == group for other in groups])
        options = {"label": name or "mean over splits", "capsize": 3, **style}
        curves.append(_draw_curve(ax, x, display.scores, display.errors, own, options))
    return curves


def _draw_pca(
    ax: Any, x: np.ndarray, display: DimensionSearchDisplay, errorbar_kw: dict[str, Any] | None
) -> Any:
    """Draw the curve of PCA: once for each size, whatever the other parameters."""
    from matplotlib.lines import Line2D

    first = np.zeros(len(x), dtype=bool)
    first[np.unique(x, return_index=True)[1]] = True
    errors = np.zeros(len(x)) if display.pca_errors is None else display.pca_errors
    style = with_defaults(errorbar_kw, Line2D, color=VERMILLION, marker="s", linestyle="--")
    options = {"label": "PCA", "capsize": 3, **style}
    return _draw_curve(ax, x, display.pca_scores, errors, first, options)


def _draw_curve(
    ax: Any, x: np.ndarray, scores: Any, errors: Any, which: np.ndarray, options: dict[str, Any]
) -> Any:
    """Draw some candidates in the order of their sizes."""
    order = np.flatnonzero(which)
    order = order[np.argsort(x[order], kind="stable")]
    y, spread = (np.asarray(values, dtype=float)[order] for values in (scores, errors))
    return ax.errorbar(x[order], y, spread, **options)


def _draw_band(
    ax: Any, display: DimensionSearchDisplay, band_kw: dict[str, Any] | None
) -> Any | None:
    """Draw one standard error below the best mean."""
    from matplotlib.patches import Rectangle

    scores = np.asarray(display.scores, dtype=float)
    if not np.isfinite(scores).any():
        return None
    best = int(np.nanargmax(scores))
    low = scores[best] - np.nan_to_num(display.errors[best])
    style = with_defaults(band_kw, Rectangle, facecolor=GREY, alpha=0.2, linewidth=0)
    return ax.axhspan(low, scores[best], **{"label": "one standard error of the best", **style})


def _draw_mark(
    ax: Any, x: np.ndarray, display: DimensionSearchDisplay, mark_kw: dict[str, Any] | None
) -> Any:
    """Draw a ring around the candidate chosen."""
    from matplotlib.lines import Line2D

    chosen = display.chosen
    label = f"chosen: {_text_of(display.n_components[chosen])}"
    if isinstance(display.rule, str):
        label = f"{label} ({display.rule.replace('_', ' ')})"
    ring = {"color": "black", "marker": "o", "markersize": 14, "markerfacecolor": "none"}
    style = with_defaults(mark_kw, Line2D, linestyle="none", label=label, **ring)
    return ax.plot([x[chosen]], [display.scores[chosen]], **style)[0]
