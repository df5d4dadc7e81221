"""The progress bar of searches and comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tqdm.auto import tqdm


@contextmanager
def progress_of_fits(
    title: str, candidates: Sequence[int], *, is_shown: bool
) -> Iterator[Callable[[Sequence[int]], None]]:
    """Show how many fits and candidates are done, and the time left.

    `candidates` is the candidate of each fit. In the block, a function is called with the indices
    of the fits that are done.
    """
    if not is_shown:
        yield lambda fits: None
        return
    to_do = Counter(candidates)
    n_candidates = len(to_do)
    with tqdm(total=len(candidates), desc=title, unit="fit") as bar:

        def count(fits: Sequence[int]) -> None:
            to_do.subtract(candidates[i] for i in fits)
            n_done = sum(n == 0 for n in to_do.values())
            bar.set_postfix_str(f"{n_done} of {n_candidates} candidates", refresh=False)
            bar.update(len(fits))

        yield count
