"""Rules that choose among the candidates of a search for the number of components."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def largest(sizes: np.ndarray, means: np.ndarray, errors: np.ndarray) -> int:
    """Index of the largest mean score.

    Parameters
    ----------
    sizes, means, errors : ndarray of shape (n_candidates,)
        Numbers of components, increasing; mean scores; standard errors of the means.

    Returns
    -------
    int
    """
    return int(np.nanargmax(means))


def one_standard_error(sizes: np.ndarray, means: np.ndarray, errors: np.ndarray) -> int:
    """Index of the smallest size whose score is within one standard error of the largest.

    Parameters
    ----------
    sizes, means, errors : ndarray of shape (n_candidates,)
        As of `largest`.

    Returns
    -------
    int

    References
    ----------
    Breiman, Friedman, Olshen and Stone (1984). Classification and regression trees, 3.4.3.
    """
    best = largest(sizes, means, errors)
    return int(np.flatnonzero(means >= means[best] - np.nan_to_num(errors[best]))[0])


def elbow(sizes: np.ndarray, means: np.ndarray, errors: np.ndarray) -> int:
    """Index of the size at which the curve of scores bends most.

    Where sizes and scores, both brought to [0, 1], lie furthest above the line from the first
    candidate to the last one.

    Parameters
    ----------
    sizes, means, errors : ndarray of shape (n_candidates,)
        As of `largest`.

    Returns
    -------
    int

    References
    ----------
    Satopää, Albrecht, Irwin and Raghavan (2011). Finding a "kneedle" in a haystack.
    https://doi.org/10.1109/ICDCSW.2011.20
    """
    known = np.flatnonzero(np.isfinite(means))
    x, y = sizes[known] - sizes[known[0]], means[known] - means[known[0]]
    if y[-1] <= 0:
        return int(known[0])  # more components are not worth anything
    return int(known[np.argmax(y / y[-1] - x / max(1, x[-1]))])


RULES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], int]] = {
    "largest": largest,
    "one_standard_error": one_standard_error,
    "elbow": elbow,
}
