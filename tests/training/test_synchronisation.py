"""A training step never waits for the device: nothing is read from it until the epoch ends.

On a GPU, reading one number, or copying a batch from the host, makes the host wait until all
steps so far are done. There is no GPU here, so steps run on torch's "meta" device, which takes
every path of an accelerator but holds no numbers: reading one is an error. Copies between
devices, and shapes that depend on values, are counted.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skae import (
    AutoencoderTransformer,
    DenoisingAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VAETransformer,
)
from skae._data.batches import BatchIterator
from skae._training.batched import BatchedNet, BatchedSource
from skae._training.gradients import AutogradGradient, ClosedFormGradient, VariationalGradient
from skae._training.optimizers import FlatParameters
from skae.networks.sparse import cost_of_dead, cost_of_dead_without_waiting

N_ROWS, N_COLUMNS, BATCH = 96, 8, 16
MOST_READS = 8  # of an epoch: the order of the rows, two losses, the best weights
WAITING = {  # operations whose result, or its shape, is read from the device
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
}
READING = {  # methods that read numbers from a tensor, on any device
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.cpu,
    torch.Tensor.__bool__,
    torch.Tensor.__float__,
    torch.Tensor.__int__,
    torch.Tensor.__index__,
    torch.Tensor.__array__,
    torch.Tensor.nonzero,
    torch.nonzero,
    torch.equal,
    torch.masked_select,
}


class Waits(TorchDispatchMode):
    """Counts operations that make the host wait for a device, or copy from one to another."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()
        self.n_operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.n_operations += 1
        if self.waits(func._schema.name, args, kwargs):
            self.counts[func._schema.name] += 1
        return func(*args, **kwargs)

    @staticmethod
    def waits(name, args, kwargs):
        if name in ("aten::index", "aten::index_put_", "aten::index_put"):
            return any(index is not None and index.dtype == torch.bool for index in args[1])
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if name == "aten::_to_copy" and kwargs.get("device") is not None:
            devices.add(torch.device(kwargs["device"]).type)
        copies = name in ("aten::_to_copy", "aten::copy_", "aten::where")
        return name in WAITING or (copies and len(devices) > 1)


class Reads(TorchFunctionMode):
    """Counts calls of methods that read numbers from tensors, or move tensors to a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        moves = func is torch.Tensor.to and isinstance(args[1], str | torch.device)
        self.count += moves or func in READING
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return np.random.default_rng(0).standard_normal((N_ROWS, N_COLUMNS))


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(1).uniform(0.5, 2, N_ROWS)


@pytest.fixture(scope="module")
def targets(X):
    both = np.column_stack([X[:, 0] > 0, X[:, 1]]).astype(object)
    both[::5, 1] = np.nan  # of some rows, a target is unknown
    return both


def run_of(estimator, X, y=None, sample_weight=None):
    """The final training run of a fit, not started."""
    estimator.set_params(early_stopping=False, batch_size=BATCH, max_epochs=2)
    return estimator._build(estimator._start_fit(X, sample_weight, None, None, y)).final_run()


def without_data(net, source):
    """Let a net that has not been trained begin to train on the meta device."""
    vars(net)["device"] = "meta"
    net.module.to("meta")
    net._take_rows(source, None, None, None)
    net.initialize()
    net.hooks_ = {"on_grad_computed": False, "on_batch_end": False}
    net.rate_factor_ = 1.0
    net.gradient_ = net._make_gradient()
    net._set_training(True)
    net.criterion_.begin_epoch(1)
    return net


def steps(net):
    """All steps of one epoch; what each of them waits for, and number of operations."""
    batches = list(BatchIterator(net.source_, net.batch_size, torch.Generator()))
    net.schedule_ = iter([(1e-3, 0.1)] * len(batches))
    total, counts = 0.0, []
    for batch, weights in batches:
        with Waits() as waits:
            step = net.train_step(batch, weights)
            total = total + step["loss"] * batch.shape[-2]
        assert waits.n_operations > 5  # the step was seen
        counts.append(dict(waits.counts))
    assert total.device.type == "meta"
    return counts


CLOSED, VARIATIONAL = ClosedFormGradient, VariationalGradient
CASES = {
    "anchored": (AutoencoderTransformer(3), CLOSED),
    "classic": (AutoencoderTransformer(3, anchor=None), CLOSED),
    "absolute error": (AutoencoderTransformer(3, loss="absolute_error"), CLOSED),
    "huber, tanh": (AutoencoderTransformer(3, loss="huber", activation="tanh"), CLOSED),
    "no closed form": (AutoencoderTransformer(3, activation="gelu"), AutogradGradient),
    "stochastic depth": (AutoencoderTransformer(3, stochastic_depth=0.3), CLOSED),
    "sgd": (AutoencoderTransformer(3, optimizer="sgd"), CLOSED),
    **{
        f"{noise} noise": (DenoisingAutoencoder(3, noise=noise), CLOSED)
        for noise in ("gaussian", "masking", "salt_pepper", "swap")
    },
    "emphasis": (DenoisingAutoencoder(3, emphasis=2.0), AutogradGradient),
    "stacked": (StackedAutoencoder(3, hidden_layer_sizes=(6, 5)), CLOSED),
    "vae": (VAETransformer(3), VARIATIONAL),
    "vae, per feature": (VAETransformer(3, observation_variance="per_feature"), VARIATIONAL),
    "vae, free bits": (VAETransformer(3, free_bits=0.1, kl_warmup=2), VARIATIONAL),
    "vae, no closed form": (VAETransformer(3, activation="gelu"), AutogradGradient),
    **{
        f"sparse, {sparsity}": (SparseAutoencoder(12, sparsity=sparsity), AutogradGradient)
        for sparsity in ("topk", "l1", "kl")
    },
}
each_case = pytest.mark.parametrize(("estimator", "kind"), CASES.values(), ids=CASES)


# -- no step waits -------------------------------------------------------------------


@each_case
def test_no_step_waits_for_the_device(estimator, kind, X):
    run = run_of(estimator, X)
    net = without_data(run.net, run.source)
    assert type(net.gradient_) is kind
    assert steps(net) == [{}] * (N_ROWS // BATCH)


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(3),
        VAETransformer(3),
        *(SparseAutoencoder(12, sparsity=each) for each in ("topk", "l1", "kl")),
    ],
    ids=repr,
)
def test_no_step_with_sample_weights_waits(estimator, X, weights):
    run = run_of(estimator, X, sample_weight=weights)
    assert steps(without_data(run.net, run.source)) == [{}] * (N_ROWS // BATCH)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("make", [AutoencoderTransformer, DenoisingAutoencoder, VAETransformer])
def test_no_step_with_targets_waits(make, activation, X, targets):
    run = run_of(make(3, target_weight=1.0, activation=activation), X, targets)
    assert steps(without_data(run.net, run.source)) == [{}] * (N_ROWS // BATCH)


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(3),
        AutoencoderTransformer(3, anchor=None),
        DenoisingAutoencoder(3),
        VAETransformer(3),
    ],
    ids=repr,
)
def test_no_step_of_models_in_a_batch_waits(estimator, X):
    runs = [run_of(estimator.set_params(random_state=seed), X) for seed in (0, 1)]
    net = BatchedNet(runs)
    for run in runs:
        run.net.module.to("meta")
        run.source = run.source.to("meta")
    source = BatchedSource([run.source for run in runs], [run.net.seed for run in runs])
    assert steps(without_data(net, source)) == [{}] * (N_ROWS // BATCH)


def test_no_schedule_free_step_waits(X):
    run = run_of(AutoencoderTransformer(3), X)
    vars(run.net)["schedule_free"] = True
    assert steps(without_data(run.net, run.source)) == [{}] * (N_ROWS // BATCH)


def test_a_read_in_a_step_is_an_error_or_is_counted(X):
    """Check the checks: each way to wait is seen."""
    rows = torch.zeros(4, 3, device="meta")
    for read in (torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy):
        with pytest.raises((RuntimeError, NotImplementedError, TypeError, ValueError)):
            read(rows[0, 0])
    with Waits() as waits:
        torch.zeros(3).to("meta")
        rows[0].copy_(torch.zeros(3))
    assert waits.counts == {"aten::_to_copy": 1, "aten::copy_": 1}
    here = torch.eye(3)
    with Waits() as waits:
        here[here > 0], here.sum().item(), here.nonzero(), bool(here.any())
    assert waits.counts["aten::index"] == waits.counts["aten::nonzero"] == 1
    assert waits.counts["aten::_local_scalar_dense"] + waits.counts["aten::is_nonzero"] == 2


# -- an epoch reads a few numbers ------------------------------------------------------


def reads_of_epochs(estimator, X, batch_size):
    """Numbers of reads of each epoch of a fit, with those of its validation."""
    counts, reads = [], Reads()

    class Count(Callback):
        def on_epoch_begin(self, net, **kwargs):
            counts.append(reads.count)

    estimator.set_params(max_epochs=5, batch_size=batch_size, random_state=0, callbacks=[Count()])
    with reads:
        estimator.fit(X, X_val=X[:20])
    return np.diff(counts).tolist()


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(3),
        AutoencoderTransformer(3, activation="gelu"),
        AutoencoderTransformer(3, optimizer="adam"),
        DenoisingAutoencoder(3),
        VAETransformer(3, activation="gelu"),
        SparseAutoencoder(12, sparsity="kl"),
    ],
    ids=repr,
)
def test_an_epoch_reads_a_few_numbers_however_many_its_batches(estimator, X):
    for n_batches in (2, N_ROWS // 4):
        counts = reads_of_epochs(estimator, X, N_ROWS // n_batches)
        assert 1 <= min(counts) <= max(counts) <= MOST_READS < N_ROWS // 4


def test_reads_are_seen():
    tensor = torch.ones(2)
    with Reads() as reads:
        tensor[0].item(), tensor.tolist(), tensor.cpu(), bool(tensor[0]), float(tensor[0])
        tensor.to("cpu"), tensor.to(tensor.device), np.asarray(tensor)
    assert reads.count == 8


# -- what was written so that steps need not wait -----------------------------------------


@pytest.mark.parametrize("n_dead", [1, 3, 9, 12])
@pytest.mark.parametrize("n_kept", [1, 4, 20])
def test_the_cost_of_dead_units_is_that_of_fixed_shapes(n_dead, n_kept):
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(16, 12, generator=generator, dtype=torch.float64)
    atoms = torch.randn(8, 12, generator=generator, dtype=torch.float64)
    residual = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    dead = torch.zeros(12, dtype=torch.bool)
    dead[torch.randperm(12, generator=generator)[:n_dead]] = True
    results = []
    for cost in (cost_of_dead, cost_of_dead_without_waiting):
        inputs = [each.clone().requires_grad_(True) for each in (u, atoms)]
        loss = cost(inputs[0], dead, inputs[1], residual, n_kept)
        gradients = torch.autograd.grad(loss.sum(), inputs)
        results.append((loss, *gradients))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


def test_no_dead_units_cost_nothing():
    u, atoms, residual = torch.randn(5, 4), torch.randn(3, 4), torch.randn(5, 3)
    u.requires_grad_(True)
    alive = torch.zeros(4, dtype=torch.bool)
    cost = cost_of_dead_without_waiting(u, alive, atoms, residual, 2)
    assert torch.equal(cost, torch.zeros(5))
    (gradient,) = torch.autograd.grad(cost.sum(), u)
    assert torch.equal(gradient, torch.zeros(5, 4))


def test_clipping_in_torch_equals_clipping_in_numpy(two_threads):
    network = torch.nn.Linear(3, 2)
    in_torch = FlatParameters(network)
    assert in_torch.array is None
    in_torch.gradient.copy_(torch.arange(8.0))
    in_torch.clip(0.2)
    expected = torch.arange(8.0) * 0.2 / torch.arange(8.0).norm()
    torch.testing.assert_close(in_torch.gradient, expected)
