"""How much a reader has to read to follow a fit: ``python tests/reading_path.py [-v]``.

Prints the number of distinct functions of skae in one fit, in the order of their first visit, and
how often this order changes file; with -v the functions themselves.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

import skae
from skae import AutoencoderTransformer

ROOT = Path(skae.__file__).parent
NESTED = {"<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>", "<lambda>"}


def curved_rows(n_rows=1000):
    """Rows of 12 features on a curved surface, so that training leaves PCA."""
    random = np.random.default_rng(0)
    Z = random.normal(size=(n_rows, 3))
    X = np.hstack([Z, Z**2, np.sin(2 * Z), np.roll(Z, 1, axis=1) * Z])
    return X + 0.05 * random.normal(size=X.shape)


def reading_path():
    """(file, function) of every function of skae in one fit, by first visit."""
    X, seen = curved_rows(), {}
    estimator = AutoencoderTransformer(max_epochs=2, random_state=0)

    def visit(frame, event, _):
        code = frame.f_code
        if (
            event == "call"
            and code.co_name not in NESTED
            and Path(code.co_filename).is_relative_to(ROOT)
        ):
            seen.setdefault(code)

    before = sys.getprofile()
    sys.setprofile(visit)
    try:
        estimator.fit(X)
    finally:
        sys.setprofile(before)
    return [(Path(c.co_filename).relative_to(ROOT).as_posix(), c.co_qualname) for c in seen]


def changes_of_file(path):
    return sum(one != other for (one, _), (other, _) in pairwise(path))


def main():
    path = reading_path()
    n_files = len({file for file, _ in path})
    print(f"{len(path)} functions in {n_files} files, {changes_of_file(path)} changes of file")
    if "-v" in sys.argv:
        print(*(f"{file:40} {function}" for file, function in path), sep="\n")


if __name__ == "__main__":
    main()
