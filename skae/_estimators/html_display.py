"""What scikit-learn's HTML display of a fitted estimator shows besides the parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils._repr_html.estimator import _VisualBlock
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _is_fitted

WIDTH, HEIGHT, MARGIN = 240, 60, 4  # of the picture, in pixels
MOST_POINTS = 120


def _holds_no_estimator(estimator: Any) -> bool:
    """Whether no parameter is an estimator, which scikit-learn would show inside this one."""
    return not any(hasattr(value, "fit") for value in estimator.get_params(deep=False).values())


class FitDisplay:
    """Adds size, explained variance, epochs and loss curve to the display of a fitted estimator.

    They are a caption below the name, also inside Pipelines, and a picture above the parameters.
    """

    @available_if(_holds_no_estimator)
    def _sk_visual_block_(self) -> Any:
        caption = " · ".join(facts_of(self)) if _is_fitted(self) else None
        name = type(self).__name__
        return _VisualBlock(
            "single", self, names=name, name_details=str(self), name_caption=caption or None
        )

    def _get_params_html(self, *args: Any, **options: Any) -> Any:
        """Parameters as scikit-learn shows them, below the loss curve if there is one."""
        shown = super()._get_params_html(*args, **options)  # type: ignore[misc]
        if _is_fitted(self):
            both = curve_of(self) + shown._repr_html_inner()
            shown._html_repr = lambda: both
        return shown


def facts_of(estimator: Any) -> list[str]:
    """Number of components, share of the variance that they explain, and number of epochs."""
    facts = []
    n_components = getattr(estimator, "n_components_", None)
    if n_components is not None:
        facts.append(_counted(n_components, "component"))
    shares = getattr(estimator, "explained_variance_ratio_", None)
    if shares is not None:
        facts.append(f"{100 * float(shares.sum()):.1f} % of variance explained")
    facts.append(_counted(len(estimator.loss_curve_), "epoch"))
    return facts


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def curve_of(estimator: Any) -> str:
    """Picture of the validation loss, or else of the training loss; empty if nothing was trained.

    It is an SVG in the colour of the text around it, and its caption is its alternative text.
    """
    held_out = list(estimator.validation_loss_curve_)
    losses = np.array(held_out or list(estimator.loss_curve_), dtype=float)
    if np.isfinite(losses).sum() < 2:
        return ""
    best = int(np.nanargmin(losses))
    rows = "held-out rows" if held_out else "training rows"
    text = (
        f"Loss of {rows} over {_counted(len(losses), 'epoch')}: {losses[0]:.3g} after the first, "
        f"{losses[-1]:.3g} after the last, lowest {losses[best]:.3g} after epoch {best + 1}."
    )
    return f'<figure style="margin: 0.5em">{_svg(losses, best, text)}{_caption(text)}</figure>'


def _caption(text: str) -> str:
    return f'<figcaption aria-hidden="true"><small>{text}</small></figcaption>'


def _svg(losses: np.ndarray, best: int, text: str) -> str:
    """Line of losses, on a logarithmic scale if all are positive, with a dot at the lowest."""
    finite = np.isfinite(losses)
    heights = (
        np.log(losses, where=finite, out=losses.copy()) if losses[finite].min() > 0 else losses
    )
    low, high = heights[finite].min(), heights[finite].max()
    across = np.linspace(MARGIN, WIDTH - MARGIN, len(losses))
    down = MARGIN + (HEIGHT - 2 * MARGIN) * (high - heights) / ((high - low) or 1.0)
    step = math.ceil(len(losses) / MOST_POINTS)
    points = [f"{across[i]:.1f},{down[i]:.1f}" for i in range(0, len(losses), step) if finite[i]]
    return (
        f'<svg role="img" aria-label="{text}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}"><polyline fill="none" stroke="currentColor" '
        f'stroke-width="1.5" points="{" ".join(points)}"/>'
        f'<circle fill="currentColor" r="3" cx="{across[best]:.1f}" cy="{down[best]:.1f}"/></svg>'
    )
