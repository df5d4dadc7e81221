"""Dask arrays and frames: fitted methods apply to each partition when it is computed.

Nothing here imports Dask, unless a collection of Dask is passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

Method = TypeVar("Method", bound=Callable[..., Any])


def is_lazy(X: Any) -> bool:
    """Whether X is a Dask array, frame or series."""
    return type(X).__module__.startswith(("dask.array", "dask.dataframe"))


def computed(value: Any) -> Any:
    """Compute a Dask collection; anything else is returned as it is."""
    return value.compute() if is_lazy(value) else value


def is_frame(X: Any) -> bool:
    """Whether X is a frame of pandas or Dask."""
    return hasattr(X, "iloc")


def sample_of(X: Any) -> Any:
    """A row or two like those of a collection, without computing any: names, types, and ones."""
    if is_frame(X):
        from dask.dataframe.utils import meta_nonempty

        return meta_nonempty(X._meta)
    if np.isnan(X.shape[1:]).any():
        raise ValueError(
            f"X is a Dask array of shape {X.shape}, whose number of columns is not known; call "
            "X.compute_chunk_sizes() first."
        )
    return np.ones((1,) * min(1, X.ndim) + X.shape[1:], dtype=X.dtype)


def whole_rows(X: Any) -> Any:
    """Same collection in partitions of whole rows."""
    return X if is_frame(X) or X.numblocks[1] == 1 else X.rechunk({1: -1})


def by_partition(method: Method) -> Method:
    """Let a fitted method that treats rows alone return a Dask collection for one.

    The result has the partitions of the rows. It is a frame if the method returns frames for rows
    of pandas, see `set_output`, and otherwise an array. Features are checked at once, values when
    they are computed.
    """

    @wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        X = args[0] if args else kwargs.get("X")
        if not is_lazy(X):
            return method(self, *args, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name != "X"}
        like = method(self, sample_of(X), *args[1:], **kwargs)
        call = method.__name__, args[1:], kwargs
        return _mapped(frozen(self), whole_rows(X), call, like)

    return cast(Method, wrapped)


def frozen(estimator: Any) -> Any:
    """A delayed copy of an estimator, which later fits do not change."""
    from dask import delayed

    twin: Any = object.__new__(type(estimator))
    vars(twin).update(vars(estimator))
    return delayed(twin, traverse=False)


def _mapped(estimator: Any, X: Any, call: Any, like: Any) -> Any:
    """Collection of the results for each partition of X, which are like those of a sample."""
    empty = like[:0]
    if is_frame(X):
        if type(like).__module__.partition(".")[0] == "polars":
            raise TypeError(
                "Dask has no frames of polars: call set_output(transform='pandas') or "
                "set_output(transform='default') before passing a Dask frame."
            )
        return X.map_partitions(_of_partition, estimator, call, empty, meta=empty)
    import dask.array as da

    names = list(like.columns) if hasattr(like, "columns") else None
    if names is not None:
        empty = np.asarray(empty)
    drop = {"drop_axis": 1} if like.ndim == 1 else {}
    chunks = X.chunks[:1] if like.ndim == 1 else (X.chunks[0], (like.shape[1],))
    options: dict[str, Any] = {"estimator": estimator, "call": call, "empty": empty, **drop}
    result = da.map_blocks(
        _of_partition, X, chunks=chunks, dtype=empty.dtype, meta=empty, **options
    )
    if names is None:
        return result
    import dask.dataframe as dd

    return dd.from_dask_array(result, columns=names)


def _of_partition(part: Any, estimator: Any, call: Any, empty: Any) -> Any:
    """Result of a method for one partition; `empty` if it has no rows."""
    name, args, kwargs = call
    if part.shape[0] == 0:
        return empty
    result = getattr(estimator, name)(part, *args, **kwargs)
    return np.asarray(result) if isinstance(empty, np.ndarray) else result


# -- sums, and partitions one after the other --------------------------------------


def sum_of_partitions(function: Callable[..., Any], estimator: Any, X: Any, weights: Any) -> Any:
    """Sum of ``function(estimator, rows, weights)`` over partitions, computed where they are.

    `weights` (n_rows,) are numpy's, or None.
    """
    import dask

    parts = np.ravel(whole_rows(X).to_delayed()).tolist()
    if weights is None:
        each: Any = [None] * len(parts)
    else:
        lengths = dask.compute(*map(dask.delayed(len), parts))
        if sum(lengths) != len(weights):
            raise ValueError(
                f"sample_weight has {len(weights)} weights, but X has {sum(lengths)} rows."
            )
        each = np.split(weights, np.cumsum(lengths)[:-1])
    share, model = dask.delayed(_share), frozen(estimator)
    shares = [share(function, model, *both) for both in zip(parts, each, strict=True)]
    return sum(each for each in dask.compute(*shares) if each is not None)


def _share(function: Callable[..., Any], estimator: Any, part: Any, weights: Any) -> Any:
    return None if len(part) == 0 else function(estimator, part, weights)


def blocks_in_order(X: Any, n_bytes: int) -> Iterator[Any]:
    """Yield the rows of a collection in order, some partitions at a time, about `n_bytes`."""
    X = whole_rows(X)
    start, n_together = 0, 1
    while start < X.npartitions:
        block = X.partitions[start : start + n_together].compute()
        yield block
        start += n_together
        size = block.memory_usage().sum() if is_frame(block) else block.nbytes
        n_together = max(1, int(n_bytes * n_together // max(1, size)))
