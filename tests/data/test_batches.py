"""Batches of training rows: from one tensor, or out of core."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from skae._data import batches, dataset
from skae._data.batches import BatchIterator, InMemorySource, OutOfCoreSource, SparseSource
from skae._data.dataset import Dataset


def generator():
    return torch.Generator().manual_seed(0)


def rows_of(iterator):
    return torch.cat([batch.clone() for batch, _ in iterator])


@pytest.mark.parametrize("n_rows", [1, 2, 31, 32, 33, 64, 65, 66, 100])
@pytest.mark.parametrize("batch_size", [1, 2, 32, 1000])
def test_batches_partition_the_rows_and_none_is_left_alone(n_rows, batch_size):
    rows = torch.arange(n_rows, dtype=torch.float32)[:, None]
    iterator = BatchIterator(InMemorySource(rows), batch_size, generator())
    batches = [batch for batch, _ in iterator]
    assert len(batches) == len(iterator)
    assert torch.equal(torch.cat(batches).sort(dim=0)[0], rows)
    if n_rows > 1 and batch_size > 1:
        assert min(len(batch) for batch in batches) >= 2
    assert max(len(batch) for batch in batches) <= batch_size + 1


def test_every_pass_has_a_new_order():
    rows = torch.arange(100)[:, None]
    shuffled = BatchIterator(InMemorySource(rows), 32, generator())
    assert not torch.equal(rows_of(shuffled), rows_of(shuffled))


def test_rows_shuffled_some_batches_at_a_time_are_as_if_shuffled_at_once(monkeypatch):
    source = InMemorySource(torch.arange(1001, dtype=torch.float32)[:, None])
    at_once = rows_of(BatchIterator(source, 10, generator()))
    monkeypatch.setattr(batches, "ORDERED_BYTES", 120)
    assert torch.equal(rows_of(BatchIterator(source, 10, generator())), at_once)


def test_weights_go_with_their_rows():
    rows = torch.arange(1, 101, dtype=torch.float32)[:, None]
    for batch, weights in BatchIterator(InMemorySource(rows, 2 * rows[:, 0]), 32, generator()):
        assert torch.equal(2 * batch[:, 0], weights)


# -- out of core -------------------------------------------------------------------


@pytest.fixture
def out_of_core(monkeypatch, tmp_path, request):
    """1,000 numbered rows that are read, or made dense, chunk by chunk."""
    monkeypatch.setattr(dataset, "MEMORY_BYTES", 0)
    monkeypatch.setattr(batches, "SHUFFLE_BUFFER_BYTES", 4 * 2 * 256)  # of two float32 features
    X = np.stack([np.arange(1000.0), np.ones(1000)], axis=1)
    if request.param == "sparse":
        return Dataset(sparse.csr_array(X), np.zeros(2))
    mapped = np.memmap(tmp_path / "rows", dtype=np.float64, mode="w+", shape=X.shape)
    mapped[:] = X
    return Dataset(mapped, np.zeros(2))


both = pytest.mark.parametrize("out_of_core", ["sparse", "memory map"], indirect=True)


@both
@pytest.mark.parametrize("batch_size", [1, 7, 32, 999, 5000])
def test_out_of_core_rows_come_once_per_pass_without_excluded_ones(out_of_core, batch_size):
    assert out_of_core.is_out_of_core
    excluded = np.array([0, 5, 6, 500, 999])
    source = OutOfCoreSource(out_of_core, excluded, torch.float32)
    iterator = BatchIterator(source, batch_size, generator())
    passes = [rows_of(iterator)[:, 0] for _ in range(2)]
    expected = torch.from_numpy(np.setdiff1d(np.arange(1000), excluded)).float()
    assert not torch.equal(*passes)
    for numbers in passes:
        assert torch.equal(numbers.sort()[0], expected)
    assert [len(batch) for batch, _ in iterator] == iterator.sizes


@both
def test_out_of_core_batches_mix_rows_from_many_places(out_of_core):
    source = OutOfCoreSource(out_of_core, np.zeros(0, int), torch.float32)
    first = next(iter(BatchIterator(source, 32, generator())))[0][:, 0]
    assert first.max() - first.min() > 500
    assert not (first.diff() == 1).any()


@both
def test_a_sample_represents_the_out_of_core_rows(out_of_core):
    sample = OutOfCoreSource(out_of_core, np.arange(0, 1000, 2), torch.float32).sample
    assert 64 <= len(sample) <= 256
    assert not (sample[:, 0] % 2 == 0).any()
    assert sample[:, 0].mean() == pytest.approx(500, rel=0.05)


@both
def test_out_of_core_rows_keep_their_weights_which_have_mean_one(out_of_core):
    weighted = Dataset(out_of_core.X, out_of_core.center, weights=np.arange(1.0, 1001))
    source = OutOfCoreSource(weighted, np.arange(10), torch.float64)
    batches = [(rows.clone(), w) for rows, w in BatchIterator(source, 32, generator())]
    rows, weights = map(torch.cat, zip(*batches, strict=True))
    torch.testing.assert_close(weights / weights[0], (rows[:, 0] + 1) / (rows[0, 0] + 1))
    assert weights.mean().item() == pytest.approx(1)


# -- rows that stay sparse -----------------------------------------------------------


@pytest.fixture
def thin_rows():
    random = np.random.default_rng(0)
    X = sparse.csr_array(random.normal(size=(100, 30)) * (random.random((100, 30)) < 0.1))
    return Dataset(X, X.mean(axis=0), 0.7, np.linspace(0.5, 1.5, 100))


def as_dense(batch):
    starts, columns, values = batch.rows
    rows = np.repeat(np.arange(len(batch)), np.diff(starts))
    entries = slice(starts[0], starts[-1])
    matrix = sparse.coo_array((values[entries], (rows, columns[entries])), batch.shape)
    return torch.from_numpy(matrix.toarray() - batch.center)


@pytest.mark.parametrize("together", [1, 2**20])
def test_sparse_batches_are_those_of_dense_rows(thin_rows, together, monkeypatch):
    monkeypatch.setattr(batches, "ORDERED_BYTES", together)
    index = np.random.default_rng(0).permutation(100)[:83]
    weights = thin_rows.tensor_of_weights(index, torch.float64)
    dense = InMemorySource(thin_rows.tensor(index, torch.float64), weights)
    source = SparseSource(thin_rows, index, torch.float64)
    iterators = (BatchIterator(its, 16, generator()) for its in (source, dense))
    for (ours, our_weights), (theirs, their_weights) in zip(*iterators, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(as_dense(ours), theirs)
        assert torch.equal(our_weights, their_weights)
    torch.testing.assert_close(source.sample, dense.sample)
    assert torch.equal(source.weights, weights)


def test_products_of_sparse_batches(thin_rows):
    source = SparseSource(thin_rows, np.arange(100), torch.float64)
    batch = next(source.take([16, 84], generator()))[0].without_first(5)
    matrix = as_dense(batch).numpy() + batch.center
    random = np.random.default_rng(0)
    wide, tall, result = random.normal(size=(30, 4)), random.normal(size=(11, 4)), np.ones((30, 4))
    np.testing.assert_allclose(batch.times(wide), matrix @ wide)
    batch.add_transposed_times(tall, result)
    np.testing.assert_allclose(result, 1 + matrix.T @ tall)
    np.testing.assert_allclose(batch.squares, np.square(matrix).sum(axis=1))
    with pytest.raises(RuntimeError):  # a copy would take the sum
        batch.add_transposed_times(tall, np.ones((4, 30)).T)


def test_a_sample_of_sparse_rows_is_small(thin_rows, monkeypatch):
    monkeypatch.setattr(batches, "SAMPLE_ROWS", 20)
    source = SparseSource(thin_rows, np.arange(10, 100), torch.float32)
    assert source.sample.shape == (20, 30)
    torch.testing.assert_close(
        source.sample[[0, -1]], thin_rows.tensor(np.array([10, 99]), torch.float32)
    )
    assert source.weights.shape == (20,)
