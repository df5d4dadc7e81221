"""Parameters in one vector, and the optimizers that update it."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TINY = 1e-12


class FlatParameters:
    """All trainable parameters of a module in one vector.

    Parameters and their gradients become views of the vectors `values` and `gradient`, so that
    one fused operation updates, averages or copies all of them. Those in `by_columns` are matrices
    whose columns are contiguous.
    """

    def __init__(self, module: nn.Module, by_columns: Sequence[Tensor] = ()):
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.are_transposed = [any(p is matrix for matrix in by_columns) for p in self.parameters]
        pieces = [
            (p.detach().T if is_transposed else p.detach()).reshape(-1)
            for p, is_transposed in zip(self.parameters, self.are_transposed, strict=True)
        ]
        self.values = nn.Parameter(torch.cat(pieces) if pieces else torch.zeros(0))
        self.gradient = torch.zeros_like(self.values)
        self.values.grad = self.gradient
        # On one CPU thread, numpy clips faster: reading the norm needs no synchronization.
        on_one_thread = self.gradient.is_cpu and torch.get_num_threads() == 1
        self.array = self.gradient.numpy() if on_one_thread else None
        self.detached = self.values.detach()
        self.views = self._split(self.detached)
        for p, values, gradient in zip(
            self.parameters, self.views, self._split(self.gradient), strict=True
        ):
            p.data = values
            p.grad = gradient

    def _split(self, flat: Tensor) -> list[Tensor]:
        pieces = flat.split([p.numel() for p in self.parameters])
        return [
            piece.view(p.shape[::-1]).T if is_transposed else piece.view(p.shape)
            for piece, p, is_transposed in zip(
                pieces, self.parameters, self.are_transposed, strict=True
            )
        ]

    def clip(self, largest: float) -> None:
        """Scale the gradient so that its norm is at most `largest`."""
        if self.array is None:
            length = torch.dot(self.gradient, self.gradient).sqrt_()
            self.gradient.mul_((largest / (length + TINY)).clamp_(max=1.0))
        elif (norm := math.sqrt(np.dot(self.array, self.array))) > largest:
            self.array *= largest / norm

    def detach(self) -> None:
        """Give every parameter its own memory, and drop the gradients."""
        for p, values in zip(self.parameters, self.views, strict=True):
            p.data = values.clone(memory_format=torch.contiguous_format)
            p.grad = None


class BatchedFlatParameters:
    """All parameters of modules of one architecture in a matrix, one row per module.

    `values` and `gradient` have shape (n_modules, n_parameters). `buffers` are stacked along the
    first axis. The modules keep their own memory, to which `write` copies.
    """

    def __init__(self, modules: list[nn.Module]):
        self.modules = modules
        rows = [torch.cat([_wide(p.detach()).flatten() for p in m.parameters()]) for m in modules]
        self.values = nn.Parameter(torch.stack(rows))
        self.gradient = torch.zeros_like(self.values)
        self.values.grad = self.gradient
        self.detached = self.values.detach()
        self.array = self.gradient.numpy() if self.gradient.is_cpu else None
        self.buffers = [
            torch.stack(each) for each in zip(*(m.buffers() for m in modules), strict=True)
        ]

    def _split(self, flat: Tensor) -> list[Tensor]:
        parameters = list(self.modules[0].parameters())
        pieces = flat.split([p.numel() for p in parameters], dim=1)
        views = []
        for piece, p in zip(pieces, parameters, strict=True):
            view = piece.view(-1, *_wide(p).shape)
            views.append(view if _wide(p) is p else view.swapaxes(1, 2))
        return views

    def joined(self, values: Tensor) -> nn.Module:
        """One module whose parameters and buffers have a leading axis of modules.

        Parameters are views of `values`, their gradients are views of `gradient`. The module
        cannot be called, as torch's layers do not accept this axis.
        """
        module = copy.deepcopy(self.modules[0])
        views, gradients = self._split(values), self._split(self.gradient)
        for p, view, gradient in zip(module.parameters(), views, gradients, strict=True):
            p.data = view
            p.grad = gradient
        owners = [(m, name) for m in module.modules() for name, _ in m.named_buffers(recurse=False)]
        for (owner, name), buffer in zip(owners, self.buffers, strict=True):
            owner.register_buffer(name, buffer)
        return module

    @torch.no_grad()
    def write(self, values: Tensor, buffers: list[Tensor]) -> None:
        """Copy to each module its row of values, and its buffers."""
        views = self._split(values)
        for i, module in enumerate(self.modules):
            for p, view in zip(module.parameters(), views, strict=True):
                p.copy_(view[i])
            for own, stacked in zip(module.buffers(), buffers, strict=True):
                own.copy_(stacked[i])

    def clip(self, largest: float) -> None:
        """Scale the gradient of each module so that its norm is at most `largest`."""
        if self.array is None:
            lengths = torch.linalg.vector_norm(self.gradient, dim=1, keepdim=True)
            self.gradient.mul_((largest / (lengths + TINY)).clamp_(max=1.0))
            return
        rows = self.array[:, None, :]
        norms = np.sqrt(rows @ rows.swapaxes(1, 2))[:, 0]
        if (norms > largest).any():
            self.array *= largest / np.maximum(norms, largest)


def _wide(p: Tensor) -> Tensor:
    """Transpose a matrix with more rows than columns: batched products are faster along rows."""
    return p.T if p.ndim == 2 and p.shape[0] > p.shape[1] else p


class _OneVector:
    """Update of one vector of parameters by a direct call of torch's fused kernel.

    For short vectors, torch's code around the kernel takes several times longer than the kernel.
    """

    kernel: Callable[..., None]
    param_groups: list[dict[str, Any]]

    def __init__(self, params: list[nn.Parameter], **options: Any):
        super().__init__(params, fused=True, **options)  # type: ignore[call-arg]
        (parameter,) = params
        values = parameter.detach()
        self.steps = torch.zeros((), device=values.device)
        # On the CPU, a numpy view of the same number, which is incremented faster.
        self.count = self.steps.numpy() if self.steps.is_cpu else self.steps
        gradient = torch.zeros_like(values) if parameter.grad is None else parameter.grad
        moments = [torch.zeros_like(values)], [torch.zeros_like(values)]
        self.vectors = ([values], [gradient], *moments)

    def step(self, closure: None = None) -> None:
        """Update the vector once."""
        (group,) = self.param_groups
        self.count += 1
        self.kernel(
            *self.vectors,
            [],
            [self.steps],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Moments and number of steps."""
        return {"moments": [moment.clone() for (moment,) in self.vectors[2:]], "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        for (moment,), saved in zip(self.vectors[2:], state_dict["moments"], strict=True):
            moment.copy_(saved)
        self.steps.copy_(state_dict["steps"])

    # torch's method is wrapped for its compiler, whose import takes a second.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)

    step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it for its profiler


class FusedAdam(_OneVector, torch.optim.Adam):  # type: ignore[misc]
    """torch's Adam for one vector of parameters; weight decay is added to the gradient."""

    kernel = staticmethod(torch._fused_adam_)


class FusedAdamW(_OneVector, torch.optim.AdamW):  # type: ignore[misc]
    """torch's AdamW for one vector of parameters; weight decay is apart from the gradient."""

    kernel = staticmethod(torch._fused_adamw_)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": FusedAdamW,
    "adam": FusedAdam,
    "sgd": torch.optim.SGD,
}


def to_arrays(state: Any) -> Any:
    """Arrays for the tensors of a nested dict or list."""
    if isinstance(state, Tensor):
        return state.detach().cpu().numpy().copy()
    if isinstance(state, dict):
        return {key: to_arrays(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(to_arrays(value) for value in state)
    return state


def to_tensors(state: Any) -> Any:
    """Tensors for the arrays of a nested dict or list."""
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state.copy())
    if isinstance(state, dict):
        return {key: to_tensors(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(to_tensors(value) for value in state)
    return state
