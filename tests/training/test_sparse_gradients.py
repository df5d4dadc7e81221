"""The training step on sparse rows equals that on the same rows made dense."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import sparse
from skorch.callbacks import Callback
from test_gradients import gated, make_network, make_weights, own_layers

from skae import AutoencoderTransformer, DenoisingAutoencoder, VAETransformer
from skae._data import batches
from skae._data.batches import InMemorySource, OutOfCoreSource, SparseSource
from skae._data.dataset import Dataset
from skae._training.gradients import NUMPY, TORCH, ClosedFormGradient
from skae._training.optimizers import FlatParameters
from skae._training.sparse_gradients import SparseGradient
from skae.losses import Objective, huber, squared_error
from skae.networks.dense import in_precision

SQUARED = Objective({"reconstruction": squared_error})
N_ROWS, N_FEATURES = 60, 40


def make_dataset(weights=None):
    """CSR rows of counts, of which most are zero; some rows and columns are empty."""
    random = np.random.default_rng(0)
    X = random.poisson(0.1 * random.uniform(0, 2, N_FEATURES), (N_ROWS, N_FEATURES))
    X[[3, 17]] = X[:, [0, 9]] = 0
    return Dataset(sparse.csr_array(X.astype(float)), X.mean(axis=0), X.std(), weights)


def batch_of(rows, n_rows, dtype):
    """The same first batch, sparse and dense, with their weights."""
    index, sizes = np.arange(N_ROWS), [n_rows, N_ROWS - n_rows]
    sources = (
        SparseSource(rows, index, dtype),
        InMemorySource(rows.tensor(index, dtype), rows.tensor_of_weights(index, dtype)),
    )
    return [next(its.take(sizes, torch.Generator().manual_seed(0))) for its in sources]


@pytest.mark.parametrize("backend", [NUMPY, TORCH], ids=["numpy", "torch"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("n_rows", [2, 4, 25])
@pytest.mark.parametrize("hidden", [(), (12,), (12, 7)], ids=str)
@pytest.mark.parametrize("depth", [None, 0.0, 0.6], ids=["classic", "anchored", "depth"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str
)
def test_the_sparse_step_equals_the_dense_one(
    backend, weighted, n_rows, hidden, depth, dtype, tolerance
):
    weights = make_weights(N_ROWS).double().numpy() + 0.1 if weighted else None
    (x, w), (dense, dense_w) = batch_of(make_dataset(weights), n_rows, dtype)
    network = make_network(hidden=hidden, anchored=depth is not None, d=N_FEATURES, k=3)
    network = in_precision(network, dtype)
    other = copy.deepcopy(network)
    flat = FlatParameters(network, SparseGradient.stored_by_columns(network))
    flat.gradient.fill_(torch.nan)
    loss = SparseGradient(network, SQUARED, backend, depth or 0.0)(x, None, w)["loss"]
    FlatParameters(other)
    expected = ClosedFormGradient(other, SQUARED, NUMPY, depth or 0.0)(dense, None, dense_w)["loss"]
    assert float(loss) == pytest.approx(float(expected), rel=tolerance)
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        largest = theirs.grad.abs().max()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("activation", ["tanh", "logistic", "identity"])
def test_other_activations(activation):
    (x, _), (dense, _) = batch_of(make_dataset(), 25, torch.float64)
    network = make_network(activation, hidden=(12, 7), d=N_FEATURES).double()
    other = copy.deepcopy(network)
    flat = FlatParameters(network, SparseGradient.stored_by_columns(network))
    SparseGradient(network, SQUARED, NUMPY)(x)
    expected = FlatParameters(other)
    ClosedFormGradient(other, SQUARED, NUMPY)(dense)
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in each.parameters()]) for each in (network, other)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * theirs.abs().max())
    assert flat.gradient.norm() == pytest.approx(float(expected.gradient.norm()))


def test_the_loss_of_exact_reconstructions_is_not_negative():
    rows = make_dataset()
    (x, _), _ = batch_of(rows, 25, torch.float32)
    network = make_network(hidden=(), d=N_FEATURES, k=N_FEATURES)
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    FlatParameters(network, SparseGradient.stored_by_columns(network))
    loss = SparseGradient(network, SQUARED, NUMPY)(x)["loss"]
    assert 0 <= loss < 1e-4


@pytest.mark.parametrize(
    ("network", "objective"),
    [
        (gated(), SQUARED),
        (own_layers(), SQUARED),
        (make_network("elu"), SQUARED),
        (make_network(), Objective({"reconstruction": huber})),
        (make_network(), Objective({"reconstruction": squared_error}, {"reconstruction": 2.0})),
    ],
    ids=["gates", "own layers", "other activation", "other loss", "weighted term"],
)
def test_anything_else_is_made_dense(network, objective):
    assert SparseGradient.covers(make_network(), SQUARED)
    assert not SparseGradient.covers(network, objective)


def test_parameters_by_columns_keep_their_values():
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    weight = network.network.encoder[0].weight
    flat = FlatParameters(network, SparseGradient.stored_by_columns(network))
    assert weight.T.is_contiguous()
    assert weight.grad.T.is_contiguous()
    flat.detach()
    assert all(p.is_contiguous() for p in network.parameters())
    for name, values in network.state_dict().items():
        assert torch.equal(values, before[name])


# -- which fits keep rows sparse -----------------------------------------------------


@pytest.fixture
def many_words(monkeypatch):
    """Rows that are sparse enough."""
    monkeypatch.setattr(batches, "LIMITS_IN_MEMORY", (0.5, 10))
    return make_dataset().X


def source_of(estimator, X, sample_weight=None):
    started = estimator._start_fit(X, sample_weight)
    return estimator._build(started).final_run().source


def watching(hook):
    """Make a callback that overrides one hook."""
    return type("Watching", (Callback,), {hook: lambda self, net, **options: None})()


COVERED = {
    "default": AutoencoderTransformer(3),
    "classic": AutoencoderTransformer(3, anchor=None, hidden_layer_sizes=(7, 5)),
    "no noise": DenoisingAutoencoder(3, noise=None),
    "callback of epochs": AutoencoderTransformer(3, callbacks=[watching("on_epoch_end")]),
}
LEFT_DENSE = {
    "loss": AutoencoderTransformer(3, loss="huber"),
    "noise": DenoisingAutoencoder(3),
    "callback of batches": AutoencoderTransformer(3, callbacks=[watching("on_batch_end")]),
    "variational": VAETransformer(3),
    "activation": AutoencoderTransformer(3, activation="gelu"),
}


@pytest.mark.parametrize("case", COVERED)
def test_these_train_on_sparse_rows(case, many_words):
    assert isinstance(source_of(COVERED[case], many_words), SparseSource)
    assert isinstance(source_of(COVERED[case], many_words.toarray()), InMemorySource)


@pytest.mark.parametrize("case", LEFT_DENSE)
def test_these_train_on_dense_rows(case, many_words):
    assert isinstance(source_of(LEFT_DENSE[case], many_words), InMemorySource)


def test_rows_that_are_full_or_far_from_zero_are_made_dense(many_words, monkeypatch):
    estimator = AutoencoderTransformer(3)
    assert isinstance(source_of(estimator, many_words), SparseSource)
    far = many_words.copy()
    far.data[:] = 1.0
    far = sparse.csr_array(far.toarray() + 1000 * (np.arange(N_FEATURES) == 5))
    assert isinstance(source_of(estimator, far), InMemorySource)
    monkeypatch.setattr(batches, "LIMITS_IN_MEMORY", (0.01, 10))
    assert isinstance(source_of(estimator, many_words), InMemorySource)


# -- whole fits ----------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("params", [{}, {"anchor": None}, {"stochastic_depth": 0.0}], ids=str)
def test_a_fit_on_sparse_rows_is_that_on_dense_ones(params, weighted, many_words, monkeypatch):
    monkeypatch.setattr("skae._training.trainer.TINY_ROWS", 100)  # so that it is in float64
    X, dense = many_words, many_words.toarray()
    weights = np.random.default_rng(0).uniform(0.5, 2, N_ROWS) if weighted else None
    estimator = AutoencoderTransformer(
        3, early_stopping=False, max_epochs=20, random_state=0, **params
    )
    assert isinstance(source_of(estimator, X, weights), SparseSource)
    ours = estimator.fit(X, sample_weight=weights)
    curve, restored = ours.loss_curve_, ours.reconstruct(dense)
    theirs = estimator.fit(dense, sample_weight=weights)
    np.testing.assert_allclose(curve, theirs.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(restored, theirs.reconstruct(dense), atol=1e-8)


def test_validation_keeps_the_same_weights(monkeypatch):
    """In float32, with held-out rows, which are dense."""
    monkeypatch.setattr(batches, "LIMITS_IN_MEMORY", (0.5, 10))
    random = np.random.default_rng(0)
    words = random.dirichlet(np.full(50, 0.1), 4)[random.integers(0, 4, 700)]
    X = sparse.csr_array(random.poisson(8 * words).astype(np.float32))
    estimator = AutoencoderTransformer(2, max_epochs=10, random_state=0)
    assert isinstance(source_of(estimator, X), SparseSource)
    sparsely, densely = (copy.deepcopy(estimator).fit(rows) for rows in (X, X.toarray()))
    np.testing.assert_allclose(
        sparsely.validation_loss_curve_, densely.validation_loss_curve_, rtol=1e-3
    )
    assert sparsely.net_.validation_ratio_ == pytest.approx(densely.net_.validation_ratio_, 1e-3)
    assert sparsely.score(X) == pytest.approx(densely.score(X), abs=1e-3)


def test_out_of_core_rows_stay_sparse_too(monkeypatch):
    monkeypatch.setattr(batches, "LIMITS_OUT_OF_CORE", (0.5, 10))
    monkeypatch.setattr("skae._data.dataset.MEMORY_BYTES", 1000)
    X = make_dataset().X
    assert isinstance(source_of(AutoencoderTransformer(3), X), SparseSource)
    assert isinstance(source_of(AutoencoderTransformer(3, loss="huber"), X), OutOfCoreSource)
