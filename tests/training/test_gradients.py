"""Gradients in closed form equal those of autograd."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from skae import AutoencoderTransformer, DenoisingAutoencoder, VAETransformer
from skae._training.gradients import (
    BATCHED_NUMPY,
    BATCHED_TORCH,
    DERIVATIVES,
    LOSS_GRADIENTS,
    NUMPY,
    ONEDNN,
    TORCH,
    AutogradGradient,
    ClosedFormGradient,
    backend_for,
    closed_form_for,
    make_gradient,
)
from skae._training.optimizers import BatchedFlatParameters, FlatParameters
from skae.losses import LOSSES, Objective, huber, squared_error
from skae.networks import ACTIVATIONS, MLP, AnchoredAutoencoder, Autoencoder, onednn

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


def make_weights(n_rows=32, dtype=torch.float32, seed=0):
    """Weights of a batch, of which one is zero; their mean need not be one."""
    weights = np.random.default_rng(seed).uniform(0.1, 3, n_rows)
    weights[1] = 0
    return torch.from_numpy(weights).to(dtype)


weighted_or_not = pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])


def gradients(network, objective, x, backend=NUMPY, weights=None):
    """Loss and gradient, by autograd and in closed form."""
    flat = FlatParameters(network)
    results = []
    for kind in (
        AutogradGradient(network, objective, flat.gradient),
        ClosedFormGradient(network, objective, backend),
    ):
        flat.gradient.fill_(torch.nan)
        loss = kind(x, None, weights)["loss"]
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
@weighted_or_not
def test_closed_form_equals_autograd(
    loss, activation, anchored, backend, dtype, tolerance, weighted
):
    network = make_network(activation, anchored=anchored).to(dtype)
    objective = Objective({"reconstruction": LOSSES[loss]})
    weights = make_weights(dtype=dtype) if weighted else None
    (loss, grad), (closed_loss, closed_grad) = gradients(
        network, objective, make_rows(dtype=dtype), backend, weights
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


needs_onednn = pytest.mark.skipif(
    not onednn.has_fast_onednn(), reason="oneDNN has no faster kernels for this processor"
)


@needs_onednn
@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_large_products_are_the_same_in_onednn(loss, anchored, monkeypatch):
    monkeypatch.setattr(onednn, "LARGE_PRODUCT", 100)
    network, x = make_network(anchored=anchored, hidden=(40, 20), d=30), make_rows(64, 30)
    objective = Objective({"reconstruction": LOSSES[loss]})
    flat, results = FlatParameters(network), []
    for backend in (TORCH, ONEDNN):
        value = ClosedFormGradient(network, objective, backend)(x)["loss"]
        results.append((float(value), flat.gradient.clone()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)


@needs_onednn
@pytest.mark.parametrize("n_threads", [1, 2])
def test_onednn_multiplies_wide_layers_of_float32(n_threads):
    wide, narrow = make_network(hidden=(400,), d=300), make_network(hidden=(40,), d=30)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        chosen = [backend_for(net, FlatParameters(net).gradient) for net in (wide, narrow)]
        double = backend_for(wide.double(), FlatParameters(wide).gradient)
    finally:
        torch.set_num_threads(before)
    others = NUMPY if n_threads == 1 else TORCH
    assert chosen[0] is ONEDNN
    assert chosen[1] is others
    assert double is others


def test_processors_and_releases_of_torch_without_onednn_do_without(monkeypatch):
    wide = make_network(hidden=(400,), d=300)
    monkeypatch.setattr(onednn, "has_fast_onednn", lambda: False)
    assert backend_for(wide, FlatParameters(wide).gradient) is not ONEDNN


# -- codes that predict targets ----------------------------------------------------

N_ROWS = 32
LABELS = np.resize(["a", "b", "c"], N_ROWS)
SIZES = make_rows(N_ROWS)[:, 0].numpy() ** 2
SOME_UNKNOWN = pd.DataFrame(
    {
        "size": np.where(np.arange(N_ROWS) % 5, SIZES, np.nan),
        "kind": np.where(np.arange(N_ROWS) % 3, LABELS, None),
        "weight": np.where(np.arange(N_ROWS) % 2, 3 - SIZES, np.nan),
        "flag": np.resize([0, 1, -1, 1], N_ROWS),
    }
)
TARGETS = {"classes": LABELS, "quantity": SIZES, "several, some unknown": SOME_UNKNOWN}
each_target = pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)
PREDICTING = {
    "anchored": AutoencoderTransformer(hidden_layer_sizes=(8, 5)),
    "linear": AutoencoderTransformer(hidden_layer_sizes=()),
    "classic": AutoencoderTransformer(anchor=None, activation="tanh", loss="huber"),
    "logits": AutoencoderTransformer(anchor=None, loss="binary_cross_entropy"),
    "denoising": DenoisingAutoencoder(activation="logistic"),
    "gaussian": VAETransformer(),
    "per feature": VAETransformer(observation_variance="per_feature", free_bits=0.1, beta=0.5),
    "bernoulli": VAETransformer(likelihood="bernoulli", hidden_layer_sizes=(8, 5)),
}
each_network = pytest.mark.parametrize("estimator", PREDICTING.values(), ids=PREDICTING)


def start_predicting(estimator, y, seeds=(0,)):
    """Networks with a head in the middle of training, one objective, rows and noise of each."""
    networks, rows, noises = [], [], []
    for seed in seeds:
        params = {"n_components": 3, "target_weight": 2.0, "random_state": seed}
        started = copy.deepcopy(estimator).set_params(**params)
        X = make_rows(N_ROWS, dtype=torch.float64).numpy()
        job = started._build(started._start_fit(X, None, None, None, y))
        network, generator = job.network.double(), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in network.parameters():  # the last layers start at zero
                p.add_(0.2 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
        networks.append(network)
        rows.append(job.rows.tensor(np.arange(N_ROWS), torch.float64))
        noise = job.trainer.make_noise()
        noises.append(None if noise is None else noise.double().train()(rows[-1]))
        objective = job.trainer.objective
    objective.begin_epoch(1)
    return networks, objective, rows, noises


def by_autograd(network, objective, x, noise=None, weights=None):
    network = copy.deepcopy(network).train()
    flat = FlatParameters(network)
    loss = AutogradGradient(network, objective, flat.gradient)(x, noise, weights)["loss"]
    return float(loss), flat.gradient.clone()


@each_network
@each_target
@both_backends
@weighted_or_not
def test_closed_form_of_networks_that_predict_targets(estimator, y, backend, weighted):
    (network,), objective, (x,), (noise,) = start_predicting(estimator, y)
    weights = make_weights(dtype=torch.float64) if weighted else None
    loss, expected = by_autograd(network, objective, x, noise, weights)
    flat = FlatParameters(network.train())
    flat.gradient.fill_(torch.nan)
    kind = closed_form_for(network, objective)
    before = x.clone()
    closed_loss = kind(network, objective, backend)(x, noise, weights)["loss"]
    assert float(closed_loss) == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(
        flat.gradient, expected, rtol=0, atol=1e-12 * float(expected.abs().max())
    )
    assert torch.equal(torch.nan_to_num(x, 7.0), torch.nan_to_num(before, 7.0))


@each_network
@each_target
@pytest.mark.parametrize("backend", [BATCHED_NUMPY, BATCHED_TORCH], ids=["numpy", "torch"])
@weighted_or_not
def test_closed_form_of_several_networks_that_predict_targets(estimator, y, backend, weighted):
    networks, objective, rows, noises = start_predicting(estimator, y, seeds=(0, 1))
    rows[1] = rows[1].flip(0)
    flat = BatchedFlatParameters([copy.deepcopy(network).train() for network in networks])
    joined = flat.joined(flat.detached)
    kind = closed_form_for(networks[0], objective)
    noise = None if noises[0] is None else torch.stack(noises)
    of_each = [make_weights(dtype=torch.float64, seed=i) if weighted else None for i in (0, 1)]
    weights = torch.stack(of_each) if weighted else None
    losses = kind(joined, objective, backend)(torch.stack(rows), noise, weights)["loss"]
    for i, network in enumerate(networks):
        loss, expected = by_autograd(network, objective, rows[i], noises[i], of_each[i])
        assert float(losses[i]) == pytest.approx(loss, rel=1e-12)
        gradient = torch.cat([p.grad[i].flatten() for p in joined.parameters()])
        torch.testing.assert_close(
            gradient, expected, rtol=0, atol=1e-12 * float(expected.abs().max())
        )


@pytest.mark.parametrize("name", ["anchored", "gaussian"])
def test_the_head_moves_the_encoder_and_learns_itself(name):
    """Otherwise the closed form could agree with autograd and teach the code nothing."""
    (network,), objective, (x,), (noise,) = start_predicting(PREDICTING[name], SOME_UNKNOWN)
    unknown = x.clone()
    unknown[:, 6:] = torch.nan
    gradients = [by_autograd(network, objective, rows, noise)[1] for rows in (x, unknown)]
    names = [name for name, p in network.named_parameters() for _ in range(p.numel())]
    differs = {its for its, moves in zip(names, gradients[0] != gradients[1], strict=True) if moves}
    assert {its.split(".")[-3] for its in differs if "decoder" not in its} >= {"encoder"}
    assert any(its.startswith("head") for its in differs)
    assert not any("decoder" in its for its in differs)
    is_head = torch.tensor([its.startswith("head") for its in names])
    assert not gradients[1][is_head].any()


def test_batches_of_several_sizes_do_not_disturb_a_head():
    (network,), objective, (x,), _ = start_predicting(PREDICTING["anchored"], SOME_UNKNOWN)
    flat = FlatParameters(network)
    closed = ClosedFormGradient(network, objective, NUMPY)
    for n_rows in (32, 2, 32, 7):
        closed(x[:n_rows])
        torch.testing.assert_close(flat.gradient, by_autograd(network, objective, x[:n_rows])[1])


@pytest.mark.parametrize("name", ["anchored", "linear", "denoising"])
@each_target
def test_the_output_of_the_closed_form_is_that_of_the_network(name, y):
    (network,), objective, (x,), (noise,) = start_predicting(PREDICTING[name], y)
    FlatParameters(network)
    output = ClosedFormGradient(network, objective, TORCH).output(x, noise)
    expected = network.run(x, noise)
    for ours, theirs in zip(output, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(objective.row_losses(output, x), objective.row_losses(expected, x))


@each_network
@each_target
def test_weighted_rows_that_predict_targets_count_as_repeated_ones(estimator, y):
    (network,), objective, (x,), (noise,) = start_predicting(estimator, y)
    counts = torch.as_tensor(np.resize([1, 3, 2, 1, 4], N_ROWS))
    weighted = by_autograd(network, objective, x, noise, counts / counts.double().mean())
    repeated = x.repeat_interleave(counts, dim=0)
    noise = None if noise is None else noise.repeat_interleave(counts, dim=0)
    loss, gradient = by_autograd(network, objective, repeated, noise)
    assert weighted[0] == pytest.approx(loss)
    torch.testing.assert_close(weighted[1], gradient)


def test_a_head_and_an_objective_that_do_not_fit_have_no_closed_form():
    (network,), objective, *_ = start_predicting(PREDICTING["anchored"], LABELS)
    assert closed_form_for(network, objective) is ClosedFormGradient
    assert closed_form_for(network, SQUARED) is None
    assert closed_form_for(network.network, objective) is None
    assert closed_form_for(network.network, SQUARED) is ClosedFormGradient
