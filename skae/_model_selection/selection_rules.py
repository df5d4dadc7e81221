"""Rules that choose the number of components from the scores of a search.

Each maps increasing sizes, mean scores and their standard errors, all of shape (n_candidates,),
to the index of a candidate. Scores of candidates that failed are NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def largest(sizes: np.ndarray, means: np.ndarray, errors: np.ndarray) -> int:
    """Choose the largest mean score."""
    return int(np.nanargmax(means))


def one_standard_error(sizes: np.ndarray, means: np.ndarray, errors: np.ndarray) -> int:
    """Choose the smallest size whose score is within one standard error of the largest.

    Breiman, Friedman, Olshen and Stone (1984). Classification and regression trees, 3.4.3.
    """
    best = largest(sizes, means, errors)
    return int(np.flatnonzero(means >= means[best] - np.nan_to_num(errors[best]))[0])


def elbow(sizes: np.ndarray, means: np.ndarray, errors: np.ndarray) -> int:
    """Choose the size at which the curve of scores bends most.

    There sizes and scores, both scaled to [0, 1], are furthest above the line from the first
    candidate to the last one.

    Satopää, Albrecht, Irwin and Raghavan (2011). Finding a "kneedle" in a haystack.
    https://doi.org/10.1109/ICDCSW.2011.20
    """
    known = np.flatnonzero(np.isfinite(means))
    x, y = sizes[known] - sizes[known[0]], means[known] - means[known[0]]
    if y[-1] <= 0:  # more components do not improve the score
        return int(known[0])
    return int(known[np.argmax(y / y[-1] - x / max(1, x[-1]))])


RULES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], int]] = {
    "largest": largest,
    "one_standard_error": one_standard_error,
    "elbow": elbow,
}
