"""Arrays of other libraries (the array API standard): in, out, and as fitted attributes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from sklearn import get_config
from sklearn.utils._array_api import _convert_to_numpy, device, get_namespace
from torch import Tensor

from skae._data.estimator_rollback import all_or_nothing
from skae._data.partitions import computed

Method = TypeVar("Method", bound=Callable[..., Any])


class Place(NamedTuple):
    """Where arrays are: a namespace of the array API standard other than numpy, and a device."""

    namespace: Any
    device: Any

    def bring(self, array: Any) -> Any:
        """Bring a numpy array of numbers here, in the widest float type that the device has."""
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            return array
        if "torch" in self.namespace.__name__:
            return tensor_on(self.device, array)
        return self.namespace.asarray(array.copy(), device=self.device)


def place_of(array: Any) -> Place | None:
    """Where an array is; None if scikit-learn does not dispatch on arrays, or if it is numpy's."""
    if isinstance(array, np.ndarray) or not get_config()["array_api_dispatch"]:
        return None
    if not (isinstance(array, Tensor) or hasattr(array, "__array_namespace__")):
        return None
    namespace = get_namespace(array)[0]
    if isinstance(array, np.generic) or "numpy" in namespace.__name__:
        return None
    return Place(namespace, device(array))


def to_numpy(array: Any) -> Any:
    """Convert an array of any library to numpy; anything else is returned as it is."""
    if isinstance(array, Tensor):
        return array.detach().cpu().numpy()
    place = place_of(array)
    return array if place is None else _convert_to_numpy(array, place.namespace)


def widest(dtype: torch.dtype, device: Any) -> torch.dtype:
    """Float type that a device has for numbers of some type: MPS has no float64."""
    narrow = torch.device(device).type == "mps" and dtype == torch.float64
    return torch.float32 if narrow else dtype


def tensor_on(device: Any, array: Any) -> Tensor:
    """Bring an array or a tensor to a device, in its own type if the device has it."""
    is_tensor = isinstance(array, Tensor)
    tensor = array if is_tensor else torch.from_numpy(np.ascontiguousarray(array))
    return tensor.to(device, widest(tensor.dtype, device))


# -- arithmetic of numpy arrays and torch tensors ----------------------------------


def like(constant: Any, rows: Any) -> Any:
    """Bring a constant numpy array to where rows are, to compute with both."""
    return tensor_on(rows.device, constant) if isinstance(rows, Tensor) else constant


def product(rows: Any, matrix: np.ndarray) -> Any:
    """Product of rows (n_rows, n_columns) and a constant matrix, in the matrix's precision."""
    other = like(matrix, rows)
    return (rows.to(other.dtype) if isinstance(rows, Tensor) else rows) @ other


def in_type_of(result: Any, rows: Any) -> Any:
    """Convert a result to the float type of the rows that it was computed from."""
    if isinstance(result, Tensor):
        return result.to(rows.dtype)
    return result.astype(rows.dtype, copy=False)


def empty_like(rows: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
    """Empty array where rows are, in their type unless `dtype` is given."""
    if not isinstance(rows, Tensor):
        return np.empty(shape, dtype=dtype or rows.dtype)
    wide = widest(rows.dtype if dtype is None else torch.float64, rows.device)
    return rows.new_empty(shape, dtype=wide)


# -- methods -----------------------------------------------------------------------


def array_api_fit(method: Method) -> Method:
    """Let `fit` or `partial_fit` take arrays of any library, and leave attributes in it.

    `fit` trains on torch's tensors where they are; other arrays are converted to numpy first.
    """

    @wraps(method)
    def wrapped(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        args = tuple(map(computed, args))
        kwargs = {k: v if k == "X_val" else computed(v) for k, v in kwargs.items()}
        place = None if isinstance(X, np.ndarray) else place_of(X)
        if place is None and not is_fitted_elsewhere(self):
            return method(self, X, *args, **kwargs)
        rows = X if isinstance(X, Tensor) and method.__name__ == "fit" else to_numpy(X)
        with all_or_nothing(self):
            vars(self).update(attributes_in_numpy(self))
            method(self, rows, *map(to_numpy, args), **{k: to_numpy(v) for k, v in kwargs.items()})
            if place is not None:
                if hasattr(self, "_fit_densities_to_sample"):
                    self._fit_densities_to_sample()  # while attributes are in numpy
                vars(self).update({k: place.bring(v) for k, v in vars(self).items()})
        return self

    return cast(Method, wrapped)


def array_api_by_numpy(method: Method) -> Method:
    """Let a fitted method that computes with numpy alone return the input's kind."""
    return array_api(method, native=False)


def array_api(method: Method, *, native: bool = True) -> Method:
    """Let a fitted method that computes with tensors and numpy arrays return the input's kind."""

    @wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "_is_numpy_copy" in vars(self):
            return method(self, *args, **kwargs)
        given = place_of(args[0] if args else kwargs.get("X"))
        if given is None and not is_fitted_elsewhere(self):
            return method(self, *args, **kwargs)
        place = _check_place(self, args[0] if args else kwargs.get("X"), method.__name__)
        if not (native and given is not None and "torch" in given.namespace.__name__):
            args, kwargs = tuple(map(to_numpy, args)), {k: to_numpy(v) for k, v in kwargs.items()}
        result = method(_numpy_copy(self), *args, **kwargs)
        if place is None:
            return result
        if isinstance(result, tuple):
            return tuple(map(place.bring, result))
        return place.bring(result)

    return cast(Method, wrapped)


def _check_place(estimator: Any, X: Any, method: str) -> Place | None:
    """Where results belong; an error if X is not where the training rows were."""
    if not get_config()["array_api_dispatch"] or not hasattr(estimator, "mean_"):
        return None
    fitted, given = place_of(estimator.mean_), place_of(X)
    if X is None or isinstance(X, int | np.integer) or given == fitted:
        return fitted
    where = [
        "numpy" if place is None else f"{place.namespace.__name__} on device {place.device}"
        for place in (fitted, given)
    ]
    raise ValueError(
        f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace and "
        f"the same device as those passed to fit(): that was {where[0]}, this is {where[1]}. "
        "Convert the rows, or fit to rows like these."
    )


def is_fitted_elsewhere(estimator: Any) -> bool:
    """Whether the arrays of a fitted estimator are not numpy's."""
    mean = vars(estimator).get("mean_")
    return mean is not None and not isinstance(mean, np.ndarray)


def attributes_in_numpy(estimator: Any) -> dict[str, Any]:
    """Attributes of an estimator, with all arrays converted to numpy."""
    parameters = estimator.get_params(deep=False)
    return {
        name: value if name in parameters else _plain(value)
        for name, value in vars(estimator).items()
    }


def _plain(value: Any) -> Any:
    """Convert an array to numpy, whether or not scikit-learn dispatches on arrays."""
    if isinstance(value, Tensor):
        return to_numpy(value)
    if isinstance(value, np.ndarray) or not hasattr(value, "__array_namespace__"):
        return value
    return _convert_to_numpy(value, value.__array_namespace__())


def _numpy_copy(estimator: Any) -> Any:
    """Copy of an estimator with its arrays in numpy."""
    twin: Any = object.__new__(type(estimator))
    vars(twin).update(attributes_in_numpy(estimator), _is_numpy_copy=True)
    return twin
