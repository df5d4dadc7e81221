"""A fit in several processes: the steps of `fit`, of which those over all rows are sums."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral
from typing import Any

import numpy as np
import torch

from skae._data.input_checks import as_numpy
from skae._data.seeds_and_devices import derive_seeds, resolve_device
from skae._data.shared_rows import SharedDataset, SharedRows
from skae._data.statistics import Moments
from skae._data.units import find_copies
from skae._data.worker_group import WorkerGroup
from skae._estimators.autoencoder import AutoencoderTransformer
from skae._estimators.base import FitData, Seeds
from skae._estimators.denoising import DenoisingAutoencoder
from skae._estimators.vae import VAETransformer
from skae._training.distributed import DistributedTrainer
from skae._training.net import AutoencoderNet
from skae._training.trainer import Trainer
from skae._training.validation_split import MIN_UNITS_TO_TRUST_ONE_SPLIT

KINDS = AutoencoderTransformer, DenoisingAutoencoder, VAETransformer


def check_supported(estimator: Any) -> None:
    """Raise an error if an estimator cannot be fitted in several processes."""
    name = type(estimator).__name__
    if type(estimator) not in KINDS:
        known = ", ".join(kind.__name__ for kind in KINDS)
        raise ValueError(f"{name} cannot be fitted by several workers; {known} can.")
    params = estimator.get_params(deep=False)
    # Other activations have no closed form, in which the noise variance is that of a whole batch.
    has_closed_form = params["activation"] in ("relu", "tanh", "logistic", "identity")
    is_gaussian = params.get("likelihood") == "gaussian"
    refused = {
        "n_components": not isinstance(params["n_components"], Integral | None),
        "network": params["network"] is not None,
        "callbacks": bool(params["callbacks"]),
        "target_weight": params["target_weight"] != 0,
        "warm_start": params["warm_start"],
        "device": params["device"] != "cpu",
        "noise": not isinstance(params.get("noise"), str | None),
        "activation": is_gaussian and not has_closed_form,
    }
    if found := [name for name, is_refused in refused.items() if is_refused]:
        given = ", ".join(f"{parameter}={params[parameter]!r}" for parameter in found)
        raise ValueError(
            f"{name}({given}) cannot be fitted by several workers; set other values, or call "
            "fit, which streams a Dask collection through one process."
        )


def check_n_rows(n_rows: int) -> None:
    """Raise an error if cross-validation would choose the number of epochs."""
    if n_rows < MIN_UNITS_TO_TRUST_ONE_SPLIT:
        raise ValueError(
            f"X has {n_rows} rows, but a fit by several workers needs at least "
            f"{MIN_UNITS_TO_TRUST_ONE_SPLIT}; call fit."
        )


class DistributedFit:
    """Changes of a dense kind for a fit in which every process takes the same steps.

    Passes over all rows are here: each process passes over its own rows. Other steps read few
    rows, which `SharedDataset` gathers.
    """

    _group: WorkerGroup
    _lengths: np.ndarray
    _partitions: np.ndarray
    _dtype: torch.dtype

    def _start_fit(self: Any, X: Any, *_: Any) -> FitData:
        device = resolve_device(self.device, None)
        own = self._group.agree(lambda: self._checked(X))
        X = SharedRows(own, self._lengths, self._partitions, self._group)
        rows = self._fit_center_and_scale(X, None)
        *seeds, density_seed = derive_seeds(self.random_state, 5)
        vars(rows)["copies"] = find_copies(rows)
        self.n_samples_ = rows.count
        return FitData(rows, None, device, Seeds(*seeds), density_seed, None)

    def _checked(self: Any, X: Any) -> np.ndarray:
        own = as_numpy(self._check_rows(X, reset=True))
        self._check_parameters(own)
        return own

    def _rows_around_mean(self, X: Any, weights: None) -> tuple[SharedDataset, np.ndarray]:
        return SharedDataset.around_mean(X)

    def _make_trainer(self: Any, *args: Any, **kwargs: Any) -> Trainer:
        trainer = super()._make_trainer(*args, **kwargs)  # type: ignore[misc]
        settings = {field.name: getattr(trainer, field.name) for field in fields(trainer)}
        return DistributedTrainer(**settings, dtype=self._dtype)

    def _code_moments_of(self: Any, rows: Any, moments: Any = None) -> Moments:
        if not isinstance(rows, SharedDataset):
            return super()._code_moments_of(rows, moments)  # type: ignore[misc]
        moments = sum_of_moments(super()._code_moments_of(rows.own), rows.group)  # type: ignore[misc]
        if self._has_region():
            low, high, _ = self._region()[1]
            squares = moments.scatter.diagonal() if moments.joint else moments.scatter
            self._limit_codes(
                np.array([rows.group.lowest(low), rows.group.highest(high)]),
                np.sqrt(squares[: self.n_components_] / moments.count),
            )
        return moments

    def _sse_and_sst(self, rows: Any) -> tuple[float, float]:
        if not isinstance(rows, SharedDataset):
            return super()._sse_and_sst(rows)  # type: ignore[misc]
        sse, sst = rows.group.sum(np.array(super()._sse_and_sst(rows.own)))  # type: ignore[misc]
        return float(sse), float(sst)


def sum_of_moments(own: Moments, group: WorkerGroup) -> Moments:
    """Moments of the rows of all processes, from those of each."""
    total = Moments(len(own.mean), joint=own.joint)
    total.count = float(group.sum(own.count))
    total.mean = group.sum(own.count * own.mean) / total.count
    step = own.mean - total.mean
    between = np.outer(step, step) if own.joint else np.square(step)
    total.scatter = group.sum(own.scatter + own.count * between)
    return total


def fit_share(
    estimator: Any,
    X: Any,
    lengths: np.ndarray,
    partitions: np.ndarray,
    group: WorkerGroup,
    dtype: torch.dtype,
) -> Any:
    """Fit an estimator to the rows of all processes, and return it; X are those of this one.

    `lengths` (n_partitions,) are the numbers of rows of all partitions, of which those at
    `partitions` are X. The result is the same in all processes.
    """
    kind = type(estimator)
    estimator.__class__ = type(kind.__name__, (DistributedFit, kind), {})
    of_fit = {"_group": group, "_lengths": lengths, "_partitions": partitions, "_dtype": dtype}
    vars(estimator).update(of_fit)
    try:
        estimator.fit(X)
    finally:
        for name in of_fit:
            del vars(estimator)[name]
        estimator.__class__ = kind
    estimator.net_.__class__ = AutoencoderNet
    return estimator
