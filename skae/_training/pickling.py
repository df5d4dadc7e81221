"""Pickles of estimators and nets: plain values and arrays, without a device, with a checksum."""

from __future__ import annotations

import copy
import inspect
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.fixes import parse_version
from torch import Tensor, nn

from skae._data.array_api import attributes_in_numpy, is_fitted_elsewhere
from skae._data.seeds_and_devices import resolve_device
from skae._data.version import __version__
from skae._data.warnings import warn
from skae.networks.serialization import network_from_config, network_to_config

VERSION, CHECKSUM = "_skae_version", "_checksum"


# -- checksums ---------------------------------------------------------------------


def checksum(part: Any, start: int = 0) -> int:
    """Cyclic redundancy check of the numbers, strings and arrays in nested objects.

    It is the same on every machine. `start` is the checksum of the parts before this one. Objects
    of libraries other than numpy, torch and scikit-learn are left out, and so are objects of skae
    with a checksum of their own.
    """
    if isinstance(part, np.ndarray) and not part.dtype.hasobject:
        start = checksum([part.dtype.str[1:], part.shape], start)
        little = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
        return zlib.crc32(little.tobytes(), start)
    if isinstance(part, np.ndarray | np.generic):
        part = part.tolist()
    if part is None or isinstance(part, bool | int | float | str):
        return zlib.crc32(f"{part!r};".encode(), start)
    for inner in _parts_of(part):
        start = checksum(inner, start)
    return start


def _parts_of(part: Any) -> list[Any]:
    """Parts of an object, in a fixed order."""
    if isinstance(part, list | tuple):
        return [f"{len(part)} in order", *part]
    if isinstance(part, Mapping):
        pairs = [(key, part[key]) for key in sorted(part, key=str)]
        return [f"{len(pairs)} by name", *(entry for pair in pairs for entry in pair)]
    if isinstance(part, Tensor) and part.layout != torch.strided:
        coo = part.detach().to_sparse_coo().coalesce()
        return [tuple(part.shape), coo.indices(), coo.values()]
    if isinstance(part, Tensor):
        return [part.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy()]
    if isinstance(part, nn.Module):
        return [part.state_dict()]
    package = type(part).__module__.partition(".")[0]
    checks_itself = package == "skae" and hasattr(part, "__setstate__")
    walked = package in ("skae", "sklearn") and not checks_itself
    return [vars(part)] if walked and hasattr(part, "__dict__") else []


def with_checksum(state: dict[str, Any]) -> dict[str, Any]:
    """State with its checksum."""
    return {**state, CHECKSUM: checksum(state)}


def without_checksum(state: dict[str, Any], name: str) -> dict[str, Any]:
    """State without its checksum; raises ValueError if the checksum is missing or wrong."""
    state = dict(state)
    if state.pop(CHECKSUM, None) != checksum(state):
        raise ValueError(
            f"The state of {name} is damaged: its checksum differs from the one it was written "
            "with. Load an intact copy of the file, or fit anew."
        )
    return state


def check_version(written_by: Any, name: str) -> None:
    """Refuse a state that a newer release of skae wrote."""
    if not isinstance(written_by, str):
        raise ValueError(
            f"The state of {name} is damaged: it does not record the version of skae that wrote "
            "it. Load an intact copy of the file, or fit anew."
        )
    if parse_version(written_by) > parse_version(__version__):
        raise ValueError(
            f"This {name} was saved by skae {written_by}, which is newer than skae {__version__} "
            f"here: pip install 'skae>={written_by}', or fit and save it with {__version__}."
        )


# -- nets --------------------------------------------------------------------------


def portable_network(network: nn.Module) -> Any:
    """Network as plain values and arrays; the module on the CPU if it is the user's."""
    config = network_to_config(network)
    if config is not None:
        return config
    on_cpu = all(t.is_cpu for t in (*network.parameters(), *network.buffers()))
    return network if on_cpu else copy.deepcopy(network).cpu()


def loaded_network(network: Any) -> nn.Module:
    """Network from the result of `portable_network`."""
    return network_from_config(network) if isinstance(network, dict) else network


def loaded_device(device: str) -> str:
    """Device of a loaded model: the one it was fitted on, or the CPU if that is absent."""
    try:
        return str(resolve_device(device))
    except ValueError:
        warn(
            f"The model was fitted on {device=}, which is absent here; it is loaded to the CPU.",
            UserWarning,
        )
        return "cpu"


def to_columns(history: list[dict[str, Any]]) -> Any:
    """History of a net as a dict of columns; a list if epochs differ or record batches.

    Columns of numbers are arrays, because skops writes every entry of a list on its own.
    """
    history = _plain(list(history))
    is_table = all(
        epoch.keys() == history[0].keys() and epoch.get("batches") == [] for epoch in history
    )
    if not (history and is_table):
        return history
    names = [name for name in history[0] if name != "batches"]
    return {name: _column([epoch[name] for epoch in history]) for name in names}


def from_columns(record: Any) -> list[dict[str, Any]]:
    """History from the result of `to_columns`."""
    if isinstance(record, list):
        return record
    columns = [np.asarray(c).tolist() if isinstance(c, np.ndarray) else c for c in record.values()]
    epochs = zip(*columns, strict=True)
    return [{"batches": [], **dict(zip(record, epoch, strict=True))} for epoch in epochs]


def _column(values: list[Any]) -> Any:
    kinds = set(map(type, values))
    return np.array(values) if kinds in ({float}, {int}, {bool}) else values


def _plain(record: Any) -> Any:
    """Convert nested lists and dicts with numbers of numpy to those of Python."""
    if isinstance(record, dict):
        return {key: _plain(value) for key, value in record.items()}
    if isinstance(record, list):
        return [_plain(value) for value in record]
    return record.item() if isinstance(record, np.generic) else record


# -- estimators --------------------------------------------------------------------


class PicklingMixin:
    """Pickles of estimators, with the version that wrote them, a checksum and checks of shapes.

    Attributes that are objects of private classes are kept as their states. So a file names
    public classes only, and private modules may move.
    """

    # Private classes of attributes, each with `__getstate__` and `__setstate__`.
    _state_classes: ClassVar[dict[str, type]] = {}

    # Sizes of fitted arrays: "d" features, "k" components.
    _state_shapes: ClassVar[dict[str, str]] = {
        "mean_": "d",
        "components_": "kd",
        "explained_variance_": "k",
        "explained_variance_ratio_": "k",
        "_center": "d",
        "_code_mean": "k",
        "_code_scale": "k",
        "_rotation": "kk",
    }
    _state_curves: ClassVar[tuple[str, ...]] = ("loss_curve_", "validation_loss_curve_")
    _state_parts: ClassVar[tuple[str, ...]] = ("_scale", "noise_variance_", "latent_density_")

    def __getstate__(self) -> dict[str, Any]:
        inherited: Any = super().__getstate__()
        inherited.update(attributes_in_numpy(self) if is_fitted_elsewhere(self) else {})
        curves = {c: np.array(inherited[c], float) for c in self._state_curves if c in inherited}
        states = {n: inherited[n].__getstate__() for n in self._state_classes if n in inherited}
        return with_checksum({**inherited, **curves, **states, VERSION: __version__})

    def __setstate__(self, state: dict[str, Any]) -> None:
        name = type(self).__name__
        check_version(state.get(VERSION), name)
        parts = {
            n: _from_state(cls, state[n]) for n, cls in self._state_classes.items() if n in state
        }
        if "net_" in state:
            self._check_fitted_state({**state, **parts})
        state = {**without_checksum(state, name), **parts}
        if state.pop(VERSION) != __version__:
            state = {**self._defaults(), **state}  # parameters that came later
        curves = {c: np.asarray(state[c]).tolist() for c in self._state_curves if c in state}
        vars(self).update({**state, **curves})

    def _defaults(self) -> dict[str, Any]:
        parameters = inspect.signature(type(self)).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    def _check_fitted_state(self, state: dict[str, Any]) -> None:
        """Check that the attributes that inference needs are there and that their shapes agree."""
        damaged = f"The state of {type(self).__name__} is damaged: "
        remedy = "Load an intact copy of the file, or fit anew."
        needed = {"n_features_in_", "n_components_", *self._state_shapes, *self._state_parts}
        if missing := sorted(needed - state.keys()):
            raise ValueError(f"{damaged}{', '.join(missing)} is missing. {remedy}")
        sizes = {"d": state["n_features_in_"], "k": state["n_components_"]}
        for name, letters in self._state_shapes.items():
            shape = tuple(sizes[letter] for letter in letters)
            array = state[name]
            if np.shape(array) != shape or np.asarray(array).dtype.kind != "f":
                raise ValueError(
                    f"{damaged}{name} is no array of numbers of shape {shape}. {remedy}"
                )
        found = state["net_"].sizes()
        if found not in (None, (sizes["d"], sizes["k"])):
            raise ValueError(
                f"{damaged}its network maps {found[0]} features to {found[1]} components, not "
                f"{sizes['d']} to {sizes['k']}. {remedy}"
            )


def _from_state(cls: Any, state: dict[str, Any]) -> Any:
    """Object of a class, from its state."""
    instance = cls.__new__(cls)
    instance.__setstate__(state)
    return instance
