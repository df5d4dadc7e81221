"""The skorch net that trains a network on batches of rows, and encodes and decodes by it."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from skorch.history import History
from torch import Tensor, nn

from skae._data.array_api import tensor_on
from skae._data.batches import BatchIterator, InMemorySource, Source, SparseSource
from skae._data.threads import inference_threads
from skae._training.best_weights import BestWeights, StopTraining
from skae._training.callbacks import BATCH_HOOKS, overrides
from skae._training.gradients import Gradient, backend_for, make_gradient
from skae._training.lr_schedule import cycle_steps, schedule_free_steps
from skae._training.optimizers import OPTIMIZERS, FlatParameters, to_arrays, to_tensors
from skae._training.pickling import (
    from_columns,
    loaded_device,
    loaded_network,
    portable_network,
    to_columns,
    with_checksum,
    without_checksum,
)
from skae._training.progress import QUIET, EpochCounter, Progress
from skae._training.sparse_gradients import SparseGradient
from skae._training.validation_split import upper_bounds
from skae.losses import Objective
from skae.networks.dense import VariationalAutoencoder, has_modes, jacobian, run
from skae.networks.serialization import sizes_of
from skae.networks.supervised import PredictingNetwork, without_head

SMALLEST_ERROR = 1e-9  # mean squared error of a row, in units of the mean feature variance
TRAINING_STATE = (
    "optimizer_",
    "flat_",
    "average_",
    "source_",
    "rows_",
    "held_out_",
    "held_out_weights_",
    "held_out_units_",
    "held_out_noise_",
    "noise_",
    "schedule_",
    "gradient_",
    "criterion_",
    "hooks_",
    "rate_factor_",
    "resumed_",
    "n_epochs_",
)
RESULTS = ("best_epoch_", "validation_ratio_")  # of training; files hold them and the history
RESTORING_ERRORS = 2.0  # standard errors by which restoring must be better than PCA's
RATE_CUT = 0.1  # factor of the learning rate after a non-finite loss
INTERPOLATION = 0.9  # share of the average in the weights at which gradients are computed
EVALUATION_ROWS = 8192  # batch size of evaluation
_COPYING = threading.Lock()  # one for all nets, because a net with a lock cannot be pickled


class AutoencoderNet(NeuralNet):
    """skorch net that trains an autoencoder.

    Differences from skorch's own loop: batches are cut from large blocks of rows; losses are
    recorded once an epoch; hooks that no callback overrides are not called; an interrupt
    propagates; the best weights are kept.

    Parameters
    ----------
    module : nn.Module
        The network, already built.
    criterion : nn.Module
        The objective: maps (Output, rows) to a scalar.
    optimizer : str or callable
        Key of ``OPTIMIZERS`` or ``(parameters, lr=, weight_decay=) -> Optimizer``.
    lr : float
        Learning rate; the peak where the schedule has one.
    lr_schedule : {"one_cycle", "constant"}
    weight_decay : float
    averaging : float
        Decay of the exponential average of the weights over steps; 0 is no average.
    schedule_free : bool
        Train without a fixed number of steps [1]_: the learning rate only warms up, all steps
        are averaged, later ones with more weight, and gradients are computed between the latest
        weights and their average. `averaging` must not be 0.
    batch_size, max_epochs : int
    patience : int or None
        Epochs without progress until training stops; None never stops.
    tol : float
        Relative decrease of the loss that counts as progress.
    clipping : float
        Largest norm of the gradient, so that outlying rows have a bounded effect.
    require_gain : bool
        Return to the initial weights unless others are significantly better.
    n_standard_errors : float
        Number of standard errors by which they must be better.
    keeps_latest : bool
        Keep the latest weights that are so much better than the initial ones, not the best.
    keep_losses : bool
        Keep the losses of all held-out rows after each epoch: ``held_out_losses_`` of shape
        (n_epochs + 1, n_held_out). The first row is at the initial weights.
    seed : int
        Seed of the order of the rows.
    noise : callable, default=None
        Builds the noise module, or returns None. The network gets the module's result for each
        batch too: corrupted rows, which it encodes instead, or reparameterisation noise. The
        module is applied to the held-out rows once, so that all weights are compared on the
        same noise.
    gradient : callable, default=None
        ``(network, objective, gradient) -> Gradient``: a training step other than
        backpropagation.
    restoring : callable, default=None
        ``(network, rows) -> errors`` of shape (2, n_rows): squared errors of rows that the network
        restores, and that PCA restores. `restores_` says whether the network's errors of held-out
        rows are significantly lower, `pca_error_ratio_` is their mean over that of PCA.
    stochastic_depth : float
        Share of the rows of each batch whose codes an anchored network does not correct.
    callbacks : list
        skorch callbacks.
    device : str
    progress : Progress
        Bar of the fit that the net is trained for.

    References
    ----------
    .. [1] Defazio et al. (2024). The road less scheduled. https://arxiv.org/abs/2405.15682
    """

    def __init__(
        self,
        module: nn.Module,
        criterion: nn.Module,
        *,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 5e-3,
        lr_schedule: str = "one_cycle",
        weight_decay: float = 0.0,
        averaging: float = 0.0,
        schedule_free: bool = False,
        batch_size: int = 32,
        max_epochs: int = 100,
        patience: int | None = None,
        tol: float = 1e-4,
        clipping: float = 0.2,
        require_gain: bool = False,
        n_standard_errors: float = 1.0,
        keeps_latest: bool = False,
        keep_losses: bool = False,
        seed: int = 0,
        noise: Callable[[], nn.Module | None] | None = None,
        gradient: Callable[..., Gradient] | None = None,
        restoring: Callable[[Any, Tensor], Tensor] | None = None,
        stochastic_depth: float = 0.0,
        callbacks: Sequence[Any] = (),
        device: str = "cpu",
        progress: Progress = QUIET,
    ):
        super().__init__(
            module,
            criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_split=None,
            callbacks=list(callbacks),
            device=device,
            verbose=0,
        )
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.averaging = averaging
        self.schedule_free = schedule_free
        self.patience = patience
        self.tol = tol
        self.clipping = clipping
        self.require_gain = require_gain
        self.n_standard_errors = n_standard_errors
        self.keeps_latest = keeps_latest
        self.keep_losses = keep_losses
        self.seed = seed
        self.noise = noise
        self.gradient = gradient
        self.restoring = restoring
        self.stochastic_depth = stochastic_depth
        self.progress = progress

    is_batched = False  # whether many models are trained at once
    restores_ = True  # unless held-out rows say otherwise
    pca_error_ratio_ = float("nan")  # unless rows were held out

    # Set by skorch and by `_initialize_optimizer`, which mypy cannot see.
    module: Any
    module_: Any
    criterion: Any
    criterion_: Any
    optimizer_: Any
    callbacks_: list[tuple[str, Callback]]
    flat_: FlatParameters
    average_: Any
    gradient_: Any
    noise_: nn.Module | None

    # -- parts ---------------------------------------------------------------------

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        parts: list[tuple[str, Callback]] = [("best_weights", BestWeights())]
        if self.progress.is_shown:
            parts.append(("epoch_counter", EpochCounter()))
        if self.patience is not None:
            monitor = "train_loss" if self.held_out_ is None else "valid_loss"
            stopping = EarlyStopping(
                monitor, patience=self.patience, threshold=self.tol, sink=_silent
            )
            parts.append(("patience", stopping))
        return parts

    def initialize_module(self) -> AutoencoderNet:
        """Move the network to the net's device, without a new initialization; build the noise."""
        self.module_ = self.module.to(self.device)
        self.has_modes_ = has_modes(self.module_)
        noise = None if self.noise is None else self.noise()
        self.noise_ = None if noise is None else noise.to(self.device, self.rows_.dtype).train()
        return self

    def initialize_optimizer(self, triggered_directly: bool | None = None) -> AutoencoderNet:
        """Lay the parameters out in one vector and make the optimizer that updates it."""
        if isinstance(self.optimizer, str):
            # With the usual 1e-8, rounding errors would determine the steps of parameters whose
            # gradient is almost zero; on tiny tables, repeated rows would not equal weighted ones.
            eps = 1e-6 if self.flat_.values.dtype == torch.float64 else 1e-8
            options: dict[str, Any] = {} if self.optimizer == "sgd" else {"eps": eps}
            if self.schedule_free and options:
                options["betas"] = (0.0, 0.999)  # the average takes the place of momentum
            parameters, make = [self.flat_.values], OPTIMIZERS[self.optimizer]
        else:
            options, parameters, make = {}, self.flat_.parameters, self.optimizer
        self.optimizer_ = make(parameters, lr=self.lr, weight_decay=self.weight_decay, **options)
        return self

    def _initialize_optimizer(self, reason: str | None = None) -> AutoencoderNet:
        with self._current_init_context("optimizer"):
            by_columns: Any = ()
            if isinstance(self.source_, SparseSource):
                by_columns = SparseGradient.stored_by_columns(self.module_)
            self.flat_ = FlatParameters(self.module_, by_columns)
            self.average_ = self.flat_.detached.clone() if self.averaging else None
            self.initialize_optimizer()
        return self

    # -- training: fit, epochs, steps ----------------------------------------------

    def fit(
        self,
        X: Tensor | Source,
        y: None = None,
        *,
        held_out: Tensor | None = None,
        held_out_weights: Tensor | None = None,
        held_out_units: np.ndarray | None = None,
        n_epochs: int | None = None,
    ) -> AutoencoderNet:
        """Train; if there are held-out rows, keep the weights that are best on them.

        X holds the rows, (n_rows, n_features), or is a source of batches. Held-out rows of one
        unit depend on each other. Training stops after `n_epochs`, even if the schedule has more
        (`max_epochs`).
        """
        self._take_rows(X, held_out, held_out_weights, held_out_units)
        self._train(n_epochs)
        self._set_training(False)
        training, validation = features_of(self.module_, self.rows_, self.held_out_)
        self.validation_ratio_ = validation_ratio(
            without_head(self.module_),
            (training, self.source_.weights),
            (validation, self.held_out_weights_),
        )
        if validation is not None and self.restoring is not None:
            network, parts = without_head(self.module_), validation.split(EVALUATION_ROWS)
            errors = torch.cat([self.restoring(network, rows) for rows in parts], dim=1)
            self.compare_restoring(errors, self.held_out_weights_, self.held_out_units_)
        return self

    def compare_restoring(self, errors: Tensor, weights: Tensor | None, units: Any) -> None:
        """Set how well rows are restored, given errors (2, n_rows) of the network and of PCA."""
        self.restores_ = restores(errors, weights, units)
        self.pca_error_ratio_ = error_ratio(errors, weights)

    def _train(self, n_epochs: int | None, state: dict[str, Any] | None = None) -> dict[str, Any]:
        """Train on the rows that were taken; return the state before the best weights are kept."""
        self.initialize()
        self.held_out_noise_ = None if self.held_out_ is None else self._noise_of(self.held_out_)
        self.resumed_: dict[str, Any] | None = None
        self.n_epochs_ = self.max_epochs if n_epochs is None else n_epochs
        if state is not None:
            self._resume(state)
        self.notify("on_train_begin", X=self.rows_, y=None)
        with suppress(StopTraining):
            self.fit_loop(self.source_, epochs=self.n_epochs_)
        for _, callback in self.callbacks_:
            if isinstance(callback, EpochCounter):
                callback.end(self)
        reached = self._state() if self.schedule_free else {}
        self.notify("on_train_end", X=self.rows_, y=None)
        return reached

    def partial_fit_epoch(
        self, source: Source, state: dict[str, Any] | None, n_steps_before: int
    ) -> dict[str, Any]:
        """Train for one epoch from the state that the previous call returned, None at first.

        A state consists of arrays and numbers: weights, their average, and the optimizer's state.
        """
        self._take_rows(source, None, None, None)
        self.n_steps_before_ = n_steps_before
        self.validation_ratio_ = 1.0
        return self._train(1, state)

    def _state(self) -> dict[str, Any]:
        """State from which training can continue, as arrays and numbers."""
        average = None if self.average_ is None else to_arrays(self.average_)
        state = {
            "weights": to_arrays(self.flat_.detached.clone()),
            "average": average,
            "optimizer": to_arrays(self.optimizer_.state_dict()),
        }
        if hasattr(self.gradient_, "state"):
            state["gradient"] = self.gradient_.state()
        return state

    @torch.no_grad()
    def _resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.flat_.values.copy_(to_tensors(state["weights"]))
        if self.average_ is not None:
            self.average_.copy_(to_tensors(state["average"]))
        self.optimizer_.load_state_dict(to_tensors(state["optimizer"]))
        self.resumed_ = state.get("gradient")

    def _take_rows(
        self,
        X: Tensor | Source,
        held_out: Tensor | None,
        held_out_weights: Tensor | None,
        held_out_units: np.ndarray | None,
    ) -> None:
        """Move training and held-out rows to the device, as `source_`, `rows_`, `held_out_`."""
        source = InMemorySource(X) if isinstance(X, Tensor) else X
        self.source_ = source.to(self.device)
        self.rows_ = self.source_.sample
        self.held_out_ = None if held_out is None else held_out.to(self.device)
        self.held_out_weights_ = held_out_weights
        self.held_out_units_ = held_out_units

    def fit_loop(
        self, X: Source, y: None = None, epochs: int | None = None, **fit_params: Any
    ) -> AutoencoderNet:
        """Run epochs: train on every batch; then callbacks evaluate the held-out rows."""
        epochs = self.max_epochs if epochs is None else epochs
        generator = torch.Generator().manual_seed(self.seed)
        iterator = BatchIterator(X, self.batch_size, generator)
        n_steps = self.max_epochs * len(iterator)
        if self.schedule_free:
            self.schedule_ = schedule_free_steps(self.lr, self.n_steps_before_, n_steps)
        else:
            self.schedule_ = cycle_steps(self.lr, n_steps, self.lr_schedule, self.averaging)
        self.rate_factor_ = 1.0
        self.hooks_ = {hook: self._is_overridden(hook) for hook in BATCH_HOOKS}
        self.gradient_ = self._make_gradient()
        if self.resumed_ is not None:
            self.gradient_.resume(self.resumed_)
        sets = {"dataset_train": X.sample, "dataset_valid": self.held_out_}
        for epoch in range(epochs):
            self.criterion_.begin_epoch(epoch)
            self.notify("on_epoch_begin", **sets)
            with np.errstate(over="ignore", invalid="ignore"):  # BestWeights checks the loss
                self.run_single_epoch(iterator, True, "train", self.train_step)
            self.notify("on_epoch_end", **sets)
        return self

    def _make_gradient(self) -> Gradient:
        """Choose how gradients are computed."""
        if self.gradient is not None:
            return self.gradient(self.module_, self.criterion_, self.flat_.gradient)
        if isinstance(self.source_, SparseSource):
            backend = backend_for(self.module_, self.flat_.gradient)
            return SparseGradient(self.module_, self.criterion_, backend, self.stochastic_depth)
        return make_gradient(
            self.module_,
            self.criterion_,
            self.flat_.gradient,
            by_autograd=self.hooks_["on_batch_end"],
            stochastic_depth=self.stochastic_depth,
        )

    def run_single_epoch(
        self,
        iterator: BatchIterator,
        training: bool,
        prefix: str,
        step_fn: Callable[..., dict[str, Any]],
        **fit_params: Any,
    ) -> None:
        """Train on all batches; read the losses of steps from the device once, at the end."""
        self._set_training(training)
        totals: dict[str, Any] = {"loss": 0.0}
        on_begin, on_end = self.hooks_["on_batch_begin"], self.hooks_["on_batch_end"]
        for batch, weights in iterator:
            if on_begin:
                self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, weights)
            for name, value in step.items():
                if name != "y_pred":
                    totals[name] = totals.get(name, 0.0) + value * batch.shape[-2]
            if on_end:
                self.notify("on_batch_end", batch=batch, training=training, **step)
        for name, total in totals.items():
            total = total.cpu().numpy() if isinstance(total, Tensor) else total
            mean = np.array(total, dtype=float, ndmin=1) / len(iterator.source)
            self.record(f"{prefix}_{name}", mean)

    def _set_training(self, training: bool = True) -> None:
        """Set training or evaluation mode, in all modules only if the mode changes any result."""
        if self.has_modes_:
            self.module_.train(training)
        else:
            self.module_.training = training

    def train_step(
        self, batch: Tensor, weights: Tensor | None = None, **fit_params: Any
    ) -> dict[str, Any]:
        """Compute the gradient, update the weights, and update their average."""
        rate, share = next(self.schedule_)
        rate *= self.rate_factor_
        for group in self.optimizer_.param_groups:
            group["lr"] = rate
        if self.schedule_free:
            with self._interpolated_weights():
                step = self.train_step_single(batch, weights)
        else:
            step = self.train_step_single(batch, weights)
        if self.hooks_["on_grad_computed"]:
            self.notify(
                "on_grad_computed",
                named_parameters=list(self.module_.named_parameters()),
                batch=batch,
            )
        self.flat_.clip(self.clipping)
        self.optimizer_.step()
        if self.average_ is not None:
            self.average_.lerp_(self.flat_.detached, share)
        return step

    @contextmanager
    def _interpolated_weights(self) -> Iterator[None]:
        """Inside the block, the weights lie between the latest ones and their average."""
        latest = self.flat_.detached.clone()
        self.flat_.detached.lerp_(self.average_, INTERPOLATION)
        yield
        self.flat_.detached.copy_(latest)

    def train_step_single(
        self, batch: Tensor, weights: Tensor | None = None, **fit_params: Any
    ) -> dict[str, Any]:
        """Compute the loss of a batch (n_batch, n_features) and its gradient."""
        return self.gradient_(batch, self._noise_of(batch), weights)

    def _noise_of(self, rows: Tensor) -> Tensor | None:
        """Result of the noise module for rows; None if there is no noise."""
        if self.noise_ is None:
            return None
        with torch.no_grad():
            return self.noise_(rows)

    def _is_overridden(self, hook: str) -> bool:
        """Whether any callback overrides a hook."""
        return any(overrides(callback, hook) for _, callback in self.callbacks_)

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call a hook of the net and of all callbacks.

        Training ends if a callback raises StopIteration, or if skorch's EarlyStopping raises
        KeyboardInterrupt, as it does. Any other KeyboardInterrupt propagates.
        """
        getattr(self, method_name)(self, **cb_kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except StopIteration:
                raise StopTraining from None
            except KeyboardInterrupt:
                stopped = isinstance(callback, EarlyStopping) and (
                    callback.misses_ >= callback.patience
                )
                if not stopped:
                    raise
                raise StopTraining from None

    # -- weights -------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, rows: Tensor, noise: Tensor | None = None) -> Tensor:
        """Loss of each row, (n_rows,), at the averaged weights if there is an average."""
        self._set_training(False)
        trained = self.flat_.detached
        before = trained.clone()
        if self.average_ is not None:
            trained.copy_(self.average_)
        batches = rows.split(EVALUATION_ROWS)
        given = [None] * len(batches) if noise is None else noise.split(EVALUATION_ROWS)
        losses = [
            self.criterion_.row_losses(run(self.module_, batch, its), batch)
            for batch, its in zip(batches, given, strict=True)
        ]
        if self.average_ is not None:
            trained.copy_(before)
        return torch.cat(losses)

    def losses_of_each(self, rows: Tensor, noise: Tensor | None) -> Tensor:
        """Loss of each row of each model, (n_models, n_rows), on the CPU."""
        return self.evaluate(rows, noise)[None].cpu()

    def snapshot(self) -> tuple[Tensor, list[Tensor]]:
        """Copy of the validated weights, (n_models, n_weights), and of the buffers."""
        weights = self.flat_.detached if self.average_ is None else self.average_
        return weights[None].clone(), [buffer[None].clone() for buffer in self._buffers()]

    @torch.no_grad()
    def restore(self, snapshot: tuple[Tensor, list[Tensor]]) -> None:
        """Set weights and buffers to those that `snapshot` returned."""
        (weights,), buffers = snapshot
        self.flat_.values.copy_(weights)
        if self.average_ is not None:
            self.average_.copy_(weights)
        for buffer, saved in zip(self._buffers(), buffers, strict=True):
            buffer.copy_(saved[0])

    def _buffers(self) -> list[Tensor]:
        """Buffers that may change; a sparse one, such as the graph of a mesh, is constant."""
        return [b for b in self.module_.buffers() if b.layout == torch.strided]

    def recover(self, failures: np.ndarray, best: tuple[Tensor, list[Tensor]]) -> None:
        """Return to the best weights and lower the rate; stop after the second failure."""
        self.restore(best)
        if failures[0] > 1:
            raise StopTraining
        self.rate_factor_ *= RATE_CUT
        self.initialize_optimizer()

    def record(self, name: str, values: np.ndarray) -> None:
        """Record a value of each model, (n_models,), in the history; here, there is one model."""
        self.history.record(name, values[0].item())

    def take_results(
        self, epochs: list[int], losses: np.ndarray | None, failed: list[bool]
    ) -> None:
        """Store the best epoch of each model, and the validation losses if they are kept."""
        self.best_epoch_ = epochs[0]
        if losses is not None:
            self.held_out_losses_ = losses[:, 0]

    def drop_training_state(self) -> AutoencoderNet:
        """Drop what only training needs: optimizer, average, data."""
        self.flat_.detach()
        for name in TRAINING_STATE:
            delattr(self, name)
        return self._as_trained()

    def keep_initial(self) -> AutoencoderNet:
        """Keep the network as it is, without training."""
        self.__dict__.update(best_epoch_=0, validation_ratio_=1.0)
        return self.adopt_results(History())

    def adopt_results(self, history: History) -> AutoencoderNet:
        """Take over the history of a batch in which this net's network was trained."""
        self.__dict__.update(  # skorch allows such attributes only in its initialize methods
            module_=self.module,
            has_modes_=has_modes(self.module),
            history_=history,
            initialized_=True,
        )
        return self._as_trained()

    def _as_trained(self) -> AutoencoderNet:
        """Keep only the network and its history."""
        self.__dict__["module_"] = without_head(
            self.module_
        ).eval()  # skorch forbids `self.module_ =`
        self.module, self.criterion = type(self.module_), type(self.criterion)
        self.noise = self.gradient = self.restoring = None
        self.progress, self.callbacks_ = QUIET, []
        return self

    # -- inference -----------------------------------------------------------------

    @torch.inference_mode(False)
    def at_precision(self, dtype: torch.dtype) -> Any:
        """Frozen copy of the network in a floating point type, cached."""
        copies = self.__dict__.setdefault("_copies", {})
        if dtype not in copies:
            with _COPYING:  # concurrent calls share one copy
                if dtype not in copies:
                    copies[dtype] = copy.deepcopy(self.module_).to(dtype).requires_grad_(False)
        return copies[dtype]

    def limit(self, row_region: Any, code_region: Any) -> None:
        """Set the region outside of which the corrections of an anchored network fade."""
        regions = [None if r is None else torch.from_numpy(r) for r in (row_region, code_region)]
        self.module_.limit(*regions)
        for dtype, frozen in self.__dict__.get("_copies", {}).items():
            frozen.limit(*(None if region is None else region.to(dtype) for region in regions))

    @torch.inference_mode()
    def infer_rows(
        self, method: str, rows: Any, output_activation: Callable[[Tensor], Tensor] | None = None
    ) -> Any:
        """Apply a method of the network to rows; type and device stay those of rows."""
        x = tensor_on(self.device, rows)
        with self._threads_for(x):
            result = getattr(self.at_precision(x.dtype), method)(x)
            if output_activation is not None:
                result = output_activation(result)
        if isinstance(rows, Tensor):
            return result.to(rows.device, rows.dtype)
        return result.cpu().numpy().astype(rows.dtype, copy=False)

    def restore_by(self, direct: Tensor, shift: Tensor, divisor: Tensor | None = None) -> None:
        """Set how a variational network restores rows: along which axes, shift and divisors."""
        self.module_.direct, self.module_.shift = direct.to(self.device), shift.to(self.device)
        if divisor is not None:
            self.module_.divisor = divisor.to(self.device)
        self.__dict__.pop("_copies", None)

    @property
    def restoring_method(self) -> str:
        """Method of the network that restores rows from codes."""
        return "restore" if hasattr(self.module_, "restore") else "decode"

    @torch.inference_mode()
    def posterior(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Posterior means and log-variances (n_rows, n_components), on the CPU; VAE only."""
        x = tensor_on(self.device, rows)
        with self._threads_for(x):
            mean, log_var = self.at_precision(x.dtype).posterior(x)
        dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
        return mean.to("cpu", dtype), log_var.to("cpu", dtype)

    def jacobian(
        self, codes: np.ndarray, output_activation: Callable[[Tensor], Tensor]
    ) -> np.ndarray:
        """Jacobians of the decoder at codes, (n_rows, n_components, n_features)."""
        z = tensor_on(self.device, codes)
        network = self.at_precision(z.dtype)
        with self._threads_for(z):
            return jacobian(lambda z: output_activation(network.decode(z)), z).cpu().numpy()

    def _threads_for(self, rows: Tensor) -> AbstractContextManager[Any]:
        """Limit inference to one thread if there is little to compute."""
        if not rows.is_cpu or torch.get_num_threads() == 1:
            return nullcontext()
        return inference_threads(len(rows) * self._n_weights)

    @cached_property
    def _n_weights(self) -> int:
        return self.n_parameters()

    def n_parameters(self) -> int:
        """Number of weights of the network, including those of the PCA skip connection."""
        return sum(p.numel() for p in (*self.module_.parameters(), *self.module_.buffers()))

    def widest_layer(self) -> int:
        """Number of columns of the widest array that inference computes."""
        return max([max(p.shape) for p in self.module_.parameters() if p.ndim > 1], default=1)

    def sizes(self) -> tuple[int, int] | None:
        """Numbers of features and components; None if the network is not one of skae's."""
        return sizes_of(self.module_)

    def __getstate__(self) -> dict[str, Any]:
        if "module_" not in vars(self):
            return vars(self).copy()
        state = {
            "network": portable_network(self.module_),
            "settings": {name: getattr(self, name) for name in _settings(type(self))},
            "history": to_columns(self.history or []),
            "results": {name: vars(self)[name] for name in RESULTS if name in vars(self)},
        }
        return with_checksum(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "network" not in state:
            self.__dict__.update(state)
            return
        network = loaded_network(state["network"])
        state = without_checksum(state, "the network")
        known = _settings(AutoencoderNet)  # an earlier release may have had others
        settings = {name: value for name, value in state["settings"].items() if name in known}
        settings["device"] = loaded_device(settings["device"])
        kinds: Any = type(network), Objective
        AutoencoderNet.__init__(self, *kinds, **settings)
        self.__dict__.update(
            module_=network.to(self.device),
            has_modes_=has_modes(network),
            history_=History(from_columns(state["history"])),
            callbacks_=[],
            initialized_=True,
            **state["results"],
        )


@torch.no_grad()
def validation_ratio(
    module: nn.Module,
    training: tuple[Tensor, Tensor | None],
    held_out: tuple[Tensor | None, Tensor | None],
) -> float:
    """Mean squared error of held-out rows divided by that of training rows, at least 1.

    `training` and `held_out` are rows with their weights, or None. Rows are not corrupted. The
    ratio is 1 if there are no held-out rows, or if the network predicts targets.
    """
    if held_out[0] is None:
        return 1.0
    means = []
    both: Any = held_out, training
    for rows, weights in both:
        some = rows[:EVALUATION_ROWS]
        output = run(module, some)
        if isinstance(module, VariationalAutoencoder):
            _, some = module.to_decode(output.code, some)
        if output.reconstruction.shape != some.shape:
            return 1.0  # the network predicts targets
        losses = (output.reconstruction - some).square().nansum(dim=1)  # NaN is missing
        w = None if weights is None else weights[:EVALUATION_ROWS].to(losses)
        means.append(float(losses.mean() if w is None else (w * losses).sum() / w.sum()))
    return max(1.0, means[0] / means[1]) if means[1] > 0 else 1.0


def restores(errors: Tensor, weights: Tensor | None, units: Any) -> bool:
    """Whether a network restores rows significantly better than PCA.

    `errors` (2, n_rows) are squared errors of the network and of PCA.
    """
    ours, theirs = errors.double().cpu().numpy()
    w = None if weights is None else weights.numpy()
    (bound,) = upper_bounds((ours - theirs)[None], RESTORING_ERRORS, w, units)
    return bool(bound < 0)


def error_ratio(errors: Tensor, weights: Tensor | None) -> float:
    """Mean of the first errors over that of the second, of shape (2, n_rows).

    Errors of the size of rounding errors are zero. The ratio is 1 if both are.
    """
    ours, theirs = np.average(errors.double().cpu().numpy(), axis=1, weights=weights)
    if theirs <= SMALLEST_ERROR:
        return 1.0 if ours <= SMALLEST_ERROR else float("inf")
    return float(ours / theirs)


def features_of(network: nn.Module, *rows: Tensor | None) -> Any:
    """Rows without the targets that a `PredictingNetwork` is given; other rows as they are."""
    n_features = network.n_features if isinstance(network, PredictingNetwork) else None
    return [None if some is None else some[:, :n_features] for some in rows]


def _settings(kind: type) -> list[str]:
    """Names of the net's parameters that files hold."""
    others = {"self", "module", "criterion", "noise", "gradient", "restoring", "callbacks"}
    others.add("progress")
    return [name for name in inspect.signature(kind).parameters if name not in others]


def _silent(message: str) -> None:
    """Discard a message of skorch."""
