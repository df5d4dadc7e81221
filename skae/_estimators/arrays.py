"""The base class of kinds whose rows may be arrays, such as images and meshes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.utils import Tags

from skae._data.dtypes_and_batch_sizes import FLOAT_DTYPES
from skae._data.input_checks import ReadInFloat32
from skae._estimators.denoising import DenoisingAutoencoder


class ArrayAutoencoder(DenoisingAutoencoder):
    """Takes rows or arrays, and returns what it was fitted to. The network is the kind's own."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        k: v for k, v in DenoisingAutoencoder._parameter_constraints.items() if k != "network"
    }

    _array_shape: tuple[int, ...] | None  # of one array, if fitted to arrays
    _keeps_type: ClassVar[bool] = True
    _arrays: ClassVar[str]  # what the arrays are
    network: ClassVar[None] = None  # type: ignore[misc]

    @abstractmethod
    def _n_features_of(self, shape: tuple[int, ...], *, reset: bool) -> int:
        """Number of columns of an array of this shape, after a check of it."""

    @abstractmethod
    def _set_shape(self, n_features: int, shape: tuple[int, ...] | None) -> None:
        """Set the shape of the arrays in rows; `shape` is given if X holds arrays."""

    def interpolate(self, X_start: Any, X_end: Any, n_steps: int = 10) -> np.ndarray:
        """Interpolate between rows: on a straight line between their codes, then decoded.

        Parameters
        ----------
        X_start, X_end : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Rows or arrays. Path i goes from row i of `X_start` to row i of `X_end`.
        n_steps : int, default=10
            Number of rows on each path, both ends included.

        Returns
        -------
        X : ndarray of shape (n_samples, n_steps, n_features) or (n_samples, n_steps, ...)
            Rows if the estimator was fitted to rows, else arrays. The ends are the
            reconstructions of `X_start` and `X_end`.

        Raises
        ------
        ValueError
            If the numbers of rows differ or `n_steps` is below 2.
        """
        rows = super().interpolate(X_start, X_end, n_steps)
        return self._in_form_of_training_rows(rows)

    def _check_rows(self, X: Any, *, reset: bool = False) -> Any:
        if sparse.issparse(X):
            raise TypeError(
                f"X is a sparse {type(X).__name__}, but {type(self).__name__} convolves dense "
                f"{self._arrays}; pass X.toarray(), or use AutoencoderTransformer, which takes "
                "sparse rows."
            )
        shape = shape_of_arrays(X)
        if shape is not None:
            X = np.asarray(X) if isinstance(X, list | tuple) else X
            X = X.reshape(X.shape[0], self._n_features_of(shape, reset=reset))
        rows = super()._check_rows(X, reset=reset)
        if reset:
            self._array_shape = shape
            self._set_shape(rows.shape[1], shape)
        is_integer = isinstance(rows.dtype, np.dtype) and rows.dtype not in FLOAT_DTYPES
        is_small = is_integer and np.can_cast(rows.dtype, np.float32)
        return ReadInFloat32(rows) if is_small else rows

    def _in_form_of_training_rows(self, rows: Any) -> Any:
        if self._array_shape is None:
            return rows
        return rows.reshape(*rows.shape[:-1], *self._array_shape)

    def _is_linear(self) -> bool:
        return False

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.three_d_array = True
        return tags


def shape_of_arrays(X: Any) -> tuple[int, ...] | None:
    """Shape of one array if X holds arrays; None if X holds rows, or is no array."""
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X)
        except ValueError:  # rows of several lengths
            return None
    n_axes = getattr(X, "ndim", 0)
    return tuple(X.shape[1:]) if n_axes > 2 else None
