"""Gradients in closed form equal those of autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skae._training.gradients import (
    DERIVATIVES,
    LOSS_GRADIENTS,
    NUMPY,
    TORCH,
    AutogradGradient,
    ClosedFormGradient,
    make_gradient,
)
from skae._training.optimizers import FlatParameters
from skae.losses import LOSSES, Objective, huber, squared_error
from skae.networks import ACTIVATIONS, MLP, AnchoredAutoencoder, Autoencoder

CLOSED_FORMS = [name for name, make in ACTIVATIONS.items() if type(make()) in DERIVATIVES]


both_backends = pytest.mark.parametrize("backend", [NUMPY, TORCH], ids=["numpy", "torch"])


def make_network(activation="relu", *, anchored=True, hidden=(8, 5), d=6, k=3, seed=0):
    """Network in the middle of training: no layer is zero."""
    generator = torch.Generator().manual_seed(seed)
    widths = [d, *hidden, k]
    pair = Autoencoder(
        MLP(widths, activation, generator=generator),
        MLP(widths[::-1], activation, generator=generator),
    )
    if not anchored:
        return pair
    components = torch.linalg.qr(torch.randn(d, k, generator=generator).double())[0].T
    return AnchoredAutoencoder(pair, components)


def make_rows(n_rows=32, d=6, dtype=torch.float32):
    return torch.rand(n_rows, d, generator=torch.Generator().manual_seed(1)).to(dtype)


def gradients(network, objective, x, backend=NUMPY):
    """Loss and gradient, by autograd and in closed form."""
    flat = FlatParameters(network)
    results = []
    for kind in (
        AutogradGradient(network, objective, flat.gradient),
        ClosedFormGradient(network, objective, backend),
    ):
        flat.gradient.fill_(torch.nan)
        loss = kind(x)["loss"]
        results.append((loss, flat.gradient.clone()))
    return results


def test_the_common_activations_and_all_losses_have_closed_forms():
    assert {"relu", "tanh", "logistic", "identity"} <= set(CLOSED_FORMS)
    assert set(LOSSES.values()) == LOSS_GRADIENTS.keys()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", CLOSED_FORMS)
@pytest.mark.parametrize("anchored", [True, False], ids=["anchored", "classic"])
@both_backends
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)], ids=str
)
def test_closed_form_equals_autograd(loss, activation, anchored, backend, dtype, tolerance):
    network = make_network(activation, anchored=anchored).to(dtype)
    objective = Objective({"reconstruction": LOSSES[loss]})
    (loss, grad), (closed_loss, closed_grad) = gradients(
        network, objective, make_rows(dtype=dtype), backend
    )
    assert float(closed_loss) == pytest.approx(float(loss), rel=tolerance)
    torch.testing.assert_close(closed_grad, grad, rtol=0, atol=tolerance * grad.abs().max())


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6, 5)], ids=str)
@pytest.mark.parametrize("anchored", [True, False], ids=["anchored", "classic"])
def test_closed_form_holds_at_any_depth(hidden, anchored):
    network = make_network(hidden=hidden, anchored=anchored).double()
    objective = Objective({"reconstruction": squared_error})
    (_, grad), (_, closed) = gradients(network, objective, make_rows(dtype=torch.float64))
    torch.testing.assert_close(closed, grad, rtol=0, atol=1e-13 * grad.abs().max())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", CLOSED_FORMS)
@pytest.mark.parametrize("ends", [(True, False), (False, True), (True, True)], ids=str)
@both_backends
def test_closed_form_holds_where_activations_end_a_perceptron(loss, activation, ends, backend):
    network = make_network(activation, anchored=False).double()
    for mlp, ends_active in zip((network.encoder, network.decoder), ends, strict=True):
        if ends_active:
            mlp.append(ACTIVATIONS[activation]())
    objective = Objective({"reconstruction": LOSSES[loss]})
    x = make_rows(dtype=torch.float64)
    (loss, grad), (closed_loss, closed_grad) = gradients(network, objective, x, backend)
    assert float(closed_loss) == pytest.approx(float(loss), rel=1e-13)
    torch.testing.assert_close(closed_grad, grad, rtol=0, atol=1e-13 * grad.abs().max())


def test_batches_of_several_sizes_do_not_disturb_each_other():
    network = make_network().double()
    objective = Objective({"reconstruction": squared_error})
    flat = FlatParameters(network)
    closed = ClosedFormGradient(network, objective, NUMPY)
    for n_rows in (32, 2, 32, 7):
        x = make_rows(n_rows, dtype=torch.float64)
        closed(x)
        closed_grad = flat.gradient.clone()
        AutogradGradient(network, objective, flat.gradient)(x)
        torch.testing.assert_close(closed_grad, flat.gradient)


@both_backends
def test_rows_are_not_written_to(backend):
    network, x = make_network(), make_rows()
    before = x.clone()
    FlatParameters(network)
    ClosedFormGradient(network, Objective({"reconstruction": squared_error}), backend)(x)
    assert torch.equal(x, before)


def gated():
    network = make_network()
    return AnchoredAutoencoder(network.network, network.components, gated=True)


class OwnMLP(MLP):
    def forward(self, x):
        return super().forward(x) ** 2


def own_layers():
    return Autoencoder(OwnMLP([6, 8, 3]), OwnMLP([3, 8, 6]))


def mixed_activations():
    network = make_network(anchored=False)
    network.encoder[1] = nn.Tanh()
    return network


def frozen():
    network = make_network()
    network.network.encoder[0].requires_grad_(False)
    return network


SQUARED = Objective({"reconstruction": squared_error})
NOT_COVERED = {
    "gates": (gated, SQUARED),
    "frozen layers": (frozen, SQUARED),
    "own layers": (own_layers, SQUARED),
    "mixed activations": (mixed_activations, SQUARED),
    "other activation": (lambda: make_network("elu"), SQUARED),
    "two terms": (make_network, Objective({"a": squared_error, "b": huber})),
    "weighted term": (make_network, Objective({"a": squared_error}, {"a": 2.0})),
    "own term": (make_network, Objective({"a": lambda output, x: huber(output, x)})),
}


@pytest.mark.parametrize("case", NOT_COVERED)
def test_anything_else_is_left_to_autograd(case):
    make, objective = NOT_COVERED[case]
    network = make()
    gradient = FlatParameters(network).gradient
    chosen = make_gradient(network, objective, gradient, by_autograd=False)
    assert isinstance(chosen, AutogradGradient)


@pytest.mark.parametrize(("by_autograd", "kind"), [(False, "Closed"), (True, "Autograd")])
def test_the_closed_form_is_used_unless_a_callback_needs_the_output(by_autograd, kind):
    network = make_network()
    gradient = FlatParameters(network).gradient
    chosen = make_gradient(network, SQUARED, gradient, by_autograd=by_autograd)
    assert type(chosen).__name__.startswith(kind)


@pytest.mark.parametrize(("n_threads", "backend"), [(1, NUMPY), (2, TORCH)])
def test_numpy_multiplies_on_one_thread(n_threads, backend):
    network = make_network()
    gradient = FlatParameters(network).gradient
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        chosen = make_gradient(network, SQUARED, gradient, by_autograd=False)
    finally:
        torch.set_num_threads(before)
    assert chosen.backend is backend
