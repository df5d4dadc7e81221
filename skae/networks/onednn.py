"""Matrix products of oneDNN, where they are faster than those of other libraries.

oneDNN has kernels for AVX-512 on all processors. numpy's OpenBLAS and torch's MKL have them for
processors of Intel only; on others, large products take half the time in oneDNN.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

LARGE_PRODUCT = 16_000_000  # multiplications, from which oneDNN's overhead does not matter


@cache
def _linear_of_onednn() -> Any:
    """The product that torch's compiler uses, or None where it is absent or not faster."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return None
    try:
        return torch.ops.mkldnn._linear_pointwise.default
    except (AttributeError, RuntimeError):
        return None


def has_fast_onednn() -> bool:
    """Whether oneDNN may have faster kernels for this processor than other libraries.

    Returns
    -------
    bool
    """
    return _linear_of_onednn() is not None


def is_large(*sizes: int) -> bool:
    """Whether a product of matrices (n_rows, n_in) and (n_in, n_out) has many multiplications.

    Parameters
    ----------
    *sizes : int
        The three numbers.

    Returns
    -------
    bool
    """
    return math.prod(sizes) >= LARGE_PRODUCT


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` in oneDNN, without gradients.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_in), float32, on the CPU
    weight : Tensor of shape (n_out, n_in), float32
    bias : Tensor of shape (n_out,), float32, default=None

    Returns
    -------
    Tensor of shape (n_rows, n_out)
    """
    result: Tensor = _linear_of_onednn()(packed(x), packed(weight), bias, "none", [], "")
    return result


def packed(matrix: Tensor) -> Tensor:
    """Return a matrix without gaps in memory, itself if it has none.

    For parts of wider matrices, oneDNN has a plain loop only, which is a thousand times slower.

    Parameters
    ----------
    matrix : Tensor of shape (n_rows, n_columns)

    Returns
    -------
    Tensor of shape (n_rows, n_columns)
    """
    has_gaps = not (matrix.is_contiguous() or matrix.T.is_contiguous())
    return matrix.contiguous() if has_gaps else matrix
