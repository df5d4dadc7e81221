"""Training step on sparse rows: the squared error of perceptrons, without a dense copy of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skae._data.batches import SparseRows
from skae._training.gradients import (
    DERIVATIVES,
    NUMPY,
    ArrayBackend,
    ArrayPair,
    ClosedFormGradient,
    ClosedFormMLP,
    Workspace,
    n_uncorrected,
    pair_of,
)
from skae.losses import Objective, squared_error


class SparseWorkspace(NamedTuple):
    """Arrays of the step for one batch size.

    `encoder` is for the layers after the first one, `decoder` for those before the last one. The
    other arrays have shape (n_rows, n_factors): `factors` of the reconstructions, their products
    with the axes, `slopes`, and the products of rows with the axes, `crossed`.
    """

    encoder: Any
    decoder: Any
    factors: np.ndarray
    slopes: np.ndarray
    crossed: np.ndarray
    dense: np.ndarray | None  # (n_rows, n_features), if the step fills it


class SparseGradient:
    """Gradient of the squared error of an autoencoder of two MLPs, for batches of `SparseRows`.

    A standardized row is x - c, and most entries of x are zero. The encoder's first layer and the
    skip connection need products of x only. With the last hidden layer h, the reconstruction plus c
    is a D, with factors a = (h, z, 1) and axes D = (W, Vᵀ, b + c)ᵀ. So the loss is
    a D Dᵀ aᵀ - 2 a D x + |x|², and gradients need D Dᵀ, products of factors with each other, and
    products of x with weights. No array of all features of a batch is filled, unless the batch has
    so few rows that this is faster.

    The weights of the first layer must be stored by columns, as `stored_by_columns` says.
    """

    def __init__(
        self,
        network: Any,
        objective: Objective,
        backend: ArrayBackend,
        stochastic_depth: float = 0.0,
    ):
        pair = pair_of(network)
        anchored = pair is not network
        encoder, decoder = list(pair.encoder), list(pair.decoder)
        self.backend, self.stochastic_depth = backend, stochastic_depth if anchored else 0.0
        self.derivative = DERIVATIVES[type(encoder[1]) if len(encoder) > 1 else nn.Identity]
        self.encoder = ClosedFormMLP(encoder[2:], backend) if len(encoder) > 2 else None
        self.decoder = ClosedFormMLP(decoder[:-1], backend) if len(decoder) > 1 else None
        self.first, self.first_bias = _arrays_of(encoder[0], transposed=True)
        self.last, self.last_bias = _arrays_of(decoder[-1])
        self.first_gradients = _gradients_of(encoder[0], transposed=True)
        self.last_gradients = _gradients_of(decoder[-1])
        # Axes of the last factors, in rows: of the codes, if there is an anchor, and of one.
        n_features, h = self.last.shape
        self.n_hidden, self.n_codes = h, network.components.shape[0] if anchored else 0
        self.others = np.zeros((self.n_codes + 1, n_features), self.last.dtype)
        if anchored:
            self.others[:-1] = network.components.cpu().numpy()
        self.components = np.ascontiguousarray(self.others[:-1].T)
        n_factors = h + self.n_codes + 1
        self.gram = np.empty((n_factors, n_factors), self.last.dtype)
        self.gram[h:, h:] = self.others @ self.others.T  # the last row and column change
        self.workspaces: dict[tuple[int, int], SparseWorkspace] = {}

    @staticmethod
    def covers(network: Any, objective: Objective) -> bool:
        """Whether this is the gradient of the network and the objective."""
        if list(objective.terms.values()) != [squared_error] or objective.weights:
            return False
        if not ClosedFormGradient.covers(network, objective):
            return False
        pair = pair_of(network)
        return all(hasattr(layer, "weight") for layer in (pair.encoder[0], pair.decoder[-1]))

    @staticmethod
    def stored_by_columns(network: Any) -> list[Tensor]:
        """Parameters whose columns must be contiguous."""
        return [pair_of(network).encoder[0].weight]

    def _workspace(self, n_rows: int, n_plain: int) -> SparseWorkspace:
        if (n_rows, n_plain) not in self.workspaces:
            encoder, decoder = (
                None if mlp is None else Workspace(mlp, self.backend, n)
                for mlp, n in ((self.encoder, n_rows - n_plain), (self.decoder, n_rows))
            )
            n_factors, dtype = len(self.gram), self.last.dtype
            factors, slopes, crossed = (np.ones((n_rows, n_factors), dtype) for _ in range(3))
            dense = None
            if 2 * n_rows < n_factors:  # fewer products than those of the axes
                dense = np.empty((n_rows, len(self.last)), dtype)
            self.workspaces[n_rows, n_plain] = SparseWorkspace(
                encoder, decoder, factors, slopes, crossed, dense
            )
        return self.workspaces[n_rows, n_plain]

    def __call__(
        self, x: Any, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Any]:
        """Return the mean "loss" of `SparseRows`; there is no noise."""
        n_rows = x.shape[0]
        n_plain = n_uncorrected(n_rows, self.stochastic_depth)
        work, some = self._workspace(n_rows, n_plain), x.without_first(n_plain)
        share = 2 / n_rows if weights is None else weights.numpy()[:, None] * (2 / n_rows)
        hidden = self._first_layer(some)
        codes = self._codes(x, hidden, work, n_plain)
        self._factorize(x, codes, work)
        loss = self._loss_and_slopes(x, work, share)
        self._set_last_gradients(x, work, share)
        grad = self._through_decoder(codes, work)
        self._through_encoder(some, hidden, work, grad[n_plain:])
        return {"loss": loss}

    def _product(self, a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Large matrix product, by the backend's library."""
        if self.backend is NUMPY:
            return np.dot(a, b, out=out)
        tensors = torch.from_numpy(a), torch.from_numpy(b)
        into = None if out is None else torch.from_numpy(out)
        result: np.ndarray = self.backend.product(*tensors, out=into).numpy()
        return result

    # -- forward -------------------------------------------------------------------

    def _first_layer(self, x: SparseRows) -> ArrayPair:
        """Result of the encoder's first layer."""
        result = x.times(self.first)
        result += self.first_bias - x.center @ self.first
        return self.backend.pair(self.derivative.forward(torch.from_numpy(result)))

    def _codes(
        self, x: SparseRows, hidden: ArrayPair, work: SparseWorkspace, n_plain: int
    ) -> ArrayPair:
        """Codes; those of rows after the first `n_plain` are corrected."""
        correction = hidden.tensor
        if self.encoder is not None:
            self.encoder.forward(hidden, work.encoder)
            correction = work.encoder.results[-1].tensor
        if not self.n_codes:
            return self.backend.pair(correction)
        along = x.times(self.components)
        work.crossed[:, self.n_hidden : -1] = along
        along -= x.center @ self.components
        along[n_plain:] += correction.numpy()
        return self.backend.pair(torch.from_numpy(along))

    def _factorize(self, x: SparseRows, codes: ArrayPair, work: SparseWorkspace) -> None:
        """Set the factors of the reconstructions plus the centre, and the axis of one."""
        last_hidden = codes
        if self.decoder is not None:
            self.decoder.forward(codes, work.decoder)
            last_hidden = work.decoder.results[-1]
        work.factors[:, : self.n_hidden] = last_hidden.tensor.numpy()
        if self.n_codes:
            work.factors[:, self.n_hidden : -1] = codes.tensor.numpy()
        np.add(self.last_bias, x.center, out=self.others[-1])

    def _loss_and_slopes(
        self, x: SparseRows, work: SparseWorkspace, share: float | np.ndarray
    ) -> Any:
        """Mean loss of the rows; sets the gradient with respect to their factors."""
        factors, slopes, crossed, h = work.factors, work.slopes, work.crossed, self.n_hidden
        crossed[:, :h] = x.times(self.last)
        crossed[:, -1:] = x.times(self.others[-1:].T)
        if work.dense is not None:
            dense = self._product(factors[:, :h], self.last.T, work.dense)
            dense += factors[:, h:] @ self.others
            slopes[:, :h] = self._product(dense, self.last)
            slopes[:, h:] = dense @ self.others.T
        else:
            self.gram[:h, :h] = self._product(self.last.T, self.last)
            self.gram[h:, :h] = self._product(self.others, self.last)
            self.gram[:h, h:] = self.gram[h:, :h].T
            self.gram[-1, h:] = self.gram[h:, -1] = self.others @ self.others[-1]
            np.dot(factors, self.gram, out=slopes)
        slopes -= crossed
        crossed -= slopes
        losses = x.squares - np.einsum("ij,ij->i", factors, crossed)
        slopes *= share
        return (0.5 * np.ravel(share) * np.maximum(losses, 0)).sum()

    # -- backward ------------------------------------------------------------------

    def _set_last_gradients(
        self, x: SparseRows, work: SparseWorkspace, share: float | np.ndarray
    ) -> None:
        """Set the gradients of the decoder's last layer."""
        h, (weight_gradient, bias_gradient) = self.n_hidden, self.last_gradients
        weighted = work.factors * share
        if work.dense is not None:
            self._product(work.dense.T, weighted[:, :h], weight_gradient)
            bias_gradient[:] = weighted[:, -1] @ work.dense
        else:
            products = work.factors.T @ weighted
            self._product(self.last, products[:h, :h], weight_gradient)
            others, products_of_others = map(torch.from_numpy, (self.others, products[h:, :h]))
            torch.from_numpy(weight_gradient).addmm_(others.T, products_of_others)
            bias_gradient[:] = self.last @ products[:h, -1] + products[h:, -1] @ self.others
        x.add_transposed_times(-weighted[:, :h], weight_gradient)
        x.add_transposed_times(-weighted[:, -1:], bias_gradient)

    def _through_decoder(self, codes: ArrayPair, work: SparseWorkspace) -> np.ndarray:
        """Gradient with respect to codes; sets those of the decoder's other layers."""
        of_hidden, of_codes = np.split(work.slopes[:, :-1], [self.n_hidden], axis=1)
        if self.decoder is not None:
            grad = self.backend.pair(torch.from_numpy(of_hidden))
            self.decoder.backward(codes, work.decoder, grad, to_input=True)
            of_hidden = work.decoder.input_grads[0].tensor.numpy()
        if self.n_codes:
            of_hidden += of_codes
        return of_hidden

    def _through_encoder(
        self, x: SparseRows, hidden: ArrayPair, work: SparseWorkspace, grad: np.ndarray
    ) -> None:
        """Set the gradients of the encoder."""
        pair = self.backend.pair(torch.from_numpy(grad))
        if self.encoder is not None:
            self.encoder.backward(hidden, work.encoder, pair, to_input=True)
            pair = work.encoder.input_grads[0]
        of_result = self.derivative.backward(pair.tensor, hidden.tensor).numpy()
        weight_gradient, bias_gradient = self.first_gradients
        of_result.sum(axis=0, out=bias_gradient)
        np.multiply(x.center[:, None], -bias_gradient, out=weight_gradient)
        x.add_transposed_times(of_result, weight_gradient)


def _arrays_of(layer: Any, *, transposed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of a layer, in the memory of the parameters."""
    weight = layer.weight.detach()
    return (weight.T if transposed else weight).numpy(), layer.bias.detach().numpy()


def _gradients_of(layer: Any, *, transposed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of weights and biases of a layer, in the memory that the optimizer reads."""
    gradient = layer.weight.grad
    return (gradient.T if transposed else gradient).numpy(), layer.bias.grad.numpy()
