"""The progress bar of a fit: one for all networks that it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from skorch.callbacks import Callback
from tqdm.auto import tqdm


class Progress:
    """One bar for all training of a fit; a step is an epoch of a network, or of a batch of them.

    The bar appears when training begins. Its length is the number of epochs that are known to
    come. It grows when folds, layers or sizes are added, and shrinks when training stops early, so
    that it ends at 100 %.
    """

    def __init__(self, title: str = "", *, is_shown: bool = False):
        self.title, self.is_shown = title, is_shown
        self.stages: list[str] = []
        self.n_planned = 0  # epochs that the bar counts already, of networks that are still to come
        self.bar: Any = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name what is trained in the block, after the names of the blocks around it."""
        if not self.is_shown or not name:
            yield
            return
        self.stages.append(name)
        try:
            yield
        finally:
            self.stages.pop()

    @contextmanager
    def lent_to(self, estimator: Any, stage: str) -> Iterator[None]:
        """Show the training of another estimator, which is fitted in the block, on this bar."""
        if not self.is_shown:
            yield
            return
        estimator._progress = self
        try:
            with self.stage(stage):
                yield
        finally:
            vars(estimator).pop("_progress", None)

    def plan(self, n_epochs: int) -> None:
        """Announce epochs that begin later."""
        if self.is_shown and n_epochs:
            self._lengthen(n_epochs)
            self.n_planned += n_epochs

    def begin(self, n_epochs: int) -> None:
        """Begin so many epochs of one network, announced or not."""
        announced = min(n_epochs, self.n_planned)
        self.n_planned -= announced
        self._lengthen(n_epochs - announced)
        names = [self.title, ", ".join(self.stages)]
        self.bar.set_description(": ".join(filter(None, names)))

    def advance(self, losses: dict[str, float]) -> None:
        """Count an epoch."""
        self.bar.set_postfix(losses, refresh=False)
        self.bar.update()

    def skip(self, n_epochs: int) -> None:
        """Leave out epochs that have begun."""
        self._lengthen(-n_epochs)

    def close(self, *, is_done: bool) -> None:
        """Close the bar, at 100 % if the fit is done."""
        if self.bar is None:
            return
        if is_done:
            self._lengthen(self.bar.n - self.bar.total)
        self.bar.close()

    def _lengthen(self, n_epochs: int) -> None:
        if self.bar is None:
            self.bar = tqdm(total=n_epochs, desc=self.title, unit="epoch")
            return
        self.bar.total += n_epochs
        if hasattr(self.bar, "container"):  # of a notebook, which keeps the length elsewhere, too
            self.bar.container.children[1].max = self.bar.total


QUIET = Progress()


@contextmanager
def progress_of_fit(estimator: Any) -> Iterator[None]:
    """Have a bar as `estimator._progress` in the block, which is a fit, if `verbose` asks for it.

    An estimator that fits this one may have lent it its own bar.
    """
    if "_progress" in vars(estimator) or not estimator.verbose:
        yield
        return
    progress = estimator._progress = Progress(type(estimator).__name__, is_shown=True)
    is_done = False
    try:
        yield
        is_done = True
    finally:
        vars(estimator).pop("_progress", None)
        progress.close(is_done=is_done)


class EpochCounter(Callback):
    """Counts the epochs of a net on the bar of the fit, and shows the losses."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.n_left_ = net.n_epochs_
        net.progress.begin(self.n_left_)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        last = net.history[-1]
        names = [name for name in ("train_loss", "valid_loss") if name in last]
        self.n_left_ -= 1
        # A batch of networks has a loss of each.
        net.progress.advance({name: float(np.mean(last[name])) for name in names})

    def end(self, net: Any) -> None:
        """Leave out the epochs that training stopped before."""
        net.progress.skip(self.n_left_)
