"""Dask collections: results of methods by partition, fits of rows, and fits on several workers."""

from __future__ import annotations

import os
import re
import signal
import time
import tracemalloc
from concurrent.futures import Future
from datetime import timedelta
from threading import Thread

import numpy as np
import pytest
import scipy
import torch
from conftest import assert_close, fast, is_dense, make_fast
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch.distributed import TCPStore

pytest.importorskip("distributed")
import dask
import dask.array as da
import dask.dataframe as dd
import pandas as pd
from dask.distributed import Client, LocalCluster

import skae.dask
from skae import AutoencoderTransformer, DenoisingAutoencoder, StackedAutoencoder, VAETransformer
from skae._data import dataset, spooled_rows
from skae._data.worker_group import LostWorkerError, WorkerGroup
from skae._estimators.distributed import fit_share
from skae._training.trainer import Trainer

TIMEOUT = 60  # seconds; of what should take a few
X = load_digits().data[:900] / 16
CHUNK = 200
NAMES = [f"c{i}" for i in range(X.shape[1])]
FRAME = pd.DataFrame(X, columns=NAMES, index=np.arange(len(X)) + 5)
BLOCKS = [X[i : i + CHUNK] for i in range(0, len(X), CHUNK)]


@pytest.fixture(autouse=True)
def in_this_thread():
    """Compute in this thread, unless a test has a client."""
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(scope="module")
def lazy():
    """The rows as a Dask array, in partitions that divide columns, too."""
    return da.from_array(X, chunks=(CHUNK, 50))


@pytest.fixture(scope="module")
def fitted():
    return make_fast(n_components=3).fit(X)


class Counted:
    """Rows as a Dask array that counts how often a partition is computed."""

    def __init__(self, rows, chunk):
        self.count = 0
        same = da.from_array(rows, chunks=(chunk, -1))
        self.rows = same.map_blocks(self.add, dtype=rows.dtype, meta=rows[:0])

    def add(self, block):
        self.count += 1
        return block


# -- methods by partition ----------------------------------------------------------


METHODS = ["transform", "reconstruct", "reconstruction_error", "score_samples"]


@pytest.mark.parametrize("method", METHODS)
def test_results_are_lazy_and_those_of_each_partition_to_the_bit(quick, lazy, method):
    if method == "score_samples" and not is_dense(quick):
        pytest.skip("a sparse code has no density")
    quick.set_params(n_components=3).fit(X)
    function = getattr(quick, method)
    result = function(lazy)
    assert isinstance(result, da.Array)
    assert result.chunks[0] == lazy.chunks[0]
    actual = result.compute()
    assert actual.shape == result.shape
    assert actual.dtype == result.dtype
    np.testing.assert_array_equal(actual, np.concatenate([function(block) for block in BLOCKS]))
    assert_close(actual, function(X), 1e-12)


def test_nothing_is_computed_before_it_is_asked_for(fitted):
    counted = Counted(X, CHUNK)
    results = [getattr(fitted, method)(counted.rows) for method in METHODS]
    results.append(fitted.inverse_transform(results[0]))
    results.append(fitted.reconstruction_error(counted.rows, per_feature=True))
    assert counted.count == 0
    shapes = [result.compute().shape for result in results]
    assert shapes == [(900, 3), (900, 64), (900,), (900,), (900, 64), (900, 64)]
    assert counted.count == len(results) * len(BLOCKS)


def test_a_later_fit_does_not_change_results_that_are_not_computed_yet(lazy):
    model = make_fast(n_components=3).fit(X)
    before, result = model.transform(X), model.transform(lazy)
    model.set_params(n_components=2).fit(X[:500])
    assert_close(result.compute(), before, 1e-12)


def test_partitions_may_have_unknown_numbers_of_rows_or_none(fitted, lazy):
    kept = (X[:, 10] > 0.5) & (np.arange(len(X)) >= CHUNK)
    result = fitted.transform(lazy[da.from_array(kept, chunks=CHUNK)])
    assert np.isnan(result.shape[0])
    codes = result.compute()
    assert_close(codes, fitted.transform(X[kept]), 1e-12)
    unknown = lazy[da.from_array(kept, chunks=CHUNK)]
    assert fitted.score(unknown) == pytest.approx(fitted.score(X[kept]), rel=1e-12)


def test_float32_stays_float32(fitted, lazy):
    result = fitted.transform(lazy.astype(np.float32))
    assert result.dtype == result.compute().dtype == np.float32


def test_frames_give_arrays_or_frames_of_the_same_partitions():
    model, frame = make_fast(n_components=3).fit(FRAME), dd.from_pandas(FRAME, npartitions=4)
    codes = model.transform(frame)
    assert isinstance(codes, da.Array)
    assert codes.numblocks == (4, 1)
    model.set_output(transform="pandas")
    for function, names in (
        (model.transform, model.get_feature_names_out()),
        (model.reconstruct, NAMES),
    ):
        result = function(frame)
        assert isinstance(result, dd.DataFrame)
        assert list(result.columns) == list(names)
        assert result.divisions == frame.divisions
        parts = [function(frame.get_partition(i).compute()) for i in range(4)]
        pd.testing.assert_frame_equal(result.compute(), pd.concat(parts))
    assert_close(model.transform(frame).compute().to_numpy(), codes.compute(), 1e-12)
    assert isinstance(model.score_samples(frame), da.Array)
    restored = model.inverse_transform(model.transform(frame))
    pd.testing.assert_frame_equal(restored.compute(), model.reconstruct(frame).compute())


def test_arrays_give_frames_if_asked_for(lazy):
    model = make_fast(n_components=3).fit(X).set_output(transform="pandas")
    result = model.transform(lazy)
    assert isinstance(result, dd.DataFrame)
    pd.testing.assert_frame_equal(result.compute(), model.transform(X))


def test_dask_has_no_frames_of_polars():
    pytest.importorskip("polars")
    model = make_fast(n_components=3).fit(FRAME).set_output(transform="polars")
    with pytest.raises(TypeError, match=r"no frames of polars.*set_output\(transform='pandas'\)"):
        model.transform(dd.from_pandas(FRAME, npartitions=2))


def test_the_score_is_a_sum_over_partitions(fitted, lazy):
    assert fitted.score(lazy) == pytest.approx(fitted.score(X), rel=1e-12)
    weights = np.random.default_rng(0).uniform(size=len(X))
    weights[:300] = 0  # no row of the first partition counts
    expected = fitted.score(X, sample_weight=weights)
    for given in (weights, da.from_array(weights, chunks=100)):
        assert fitted.score(lazy, sample_weight=given) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="sample_weight has 899 weights, but X has 900 rows"):
        fitted.score(lazy, sample_weight=weights[1:])
    with pytest.raises(ValueError, match=r"at least one (non-zero|must be positive)"):
        fitted.score(lazy, sample_weight=0 * weights)


@pytest.mark.parametrize("method", [*METHODS, "score"])
def test_wrong_columns_are_an_error_at_once(fitted, lazy, method):
    counted = Counted(X[:, :5], CHUNK)
    with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 64"):
        getattr(fitted, method)(counted.rows)
    assert counted.count == 0
    with pytest.raises(ValueError, match="Expected 2D array"):
        getattr(fitted, method)(lazy[:, 0])
    unknown = da.map_blocks(
        np.copy, lazy.rechunk((CHUNK, -1)), chunks=(lazy.chunks[0], (np.nan,)), meta=X[:0]
    )
    with pytest.raises(ValueError, match=r"number of columns is not known; call X\.compute_chunk"):
        getattr(fitted, method)(unknown)


def test_wrong_names_and_text_are_an_error_at_once():
    model, frame = make_fast(n_components=3).fit(FRAME), dd.from_pandas(FRAME, npartitions=2)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame[NAMES[::-1]])
    with pytest.raises(ValueError, match="no numbers in column 'c3'"):
        model.transform(frame.assign(c3="x"))
    codes = model.set_output(transform="pandas").transform(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.inverse_transform(codes[list(codes.columns)[::-1]])


def test_missing_values_are_an_error_when_they_are_computed(fitted):
    wrong = X.copy()
    wrong[-1, 7] = np.nan
    result = fitted.transform(da.from_array(wrong, chunks=(CHUNK, -1)))
    assert np.isfinite(result[:CHUNK].compute()).all()
    with pytest.raises(ValueError, match="no missing values in column 7"):
        result.compute()


# -- fit in one process ------------------------------------------------------------


def test_a_fit_to_few_rows_is_that_of_an_array(quick, lazy):
    quick.set_params(n_components=3)
    here = clone(quick).fit(X)
    np.testing.assert_array_equal(quick.fit(lazy).transform(X), here.transform(X))
    assert quick.fit_transform(lazy).compute().shape == (900, 3)


@pytest.mark.parametrize("kind", ["array", "frame"])
def test_a_fit_to_many_rows_is_that_of_a_memory_map(kind, monkeypatch, tmp_path):
    for module in (spooled_rows, dataset):
        monkeypatch.setattr(module, "MEMORY_BYTES", 100_000)
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    rows = da.from_array(X, chunks=70) if kind == "array" else dd.from_pandas(FRAME, npartitions=7)
    model = make_fast(n_components=3).fit(rows)
    assert hasattr(model, "feature_names_in_") == (kind == "frame")
    expected = make_fast(n_components=3).fit(mapped)
    assert model.loss_curve_ == expected.loss_curve_
    given = X if kind == "array" else FRAME
    np.testing.assert_array_equal(model.transform(given), expected.transform(X))


def test_a_fit_computes_each_partition_once(monkeypatch):
    for module in (spooled_rows, dataset):
        monkeypatch.setattr(module, "MEMORY_BYTES", 50_000)
    counted = Counted(X, 50)
    make_fast(n_components=3).fit(counted.rows)
    assert counted.count == 18


def test_targets_weights_and_validation_rows_may_be_lazy(lazy):
    y, weights = load_digits().target[:900], np.arange(900) % 3
    model = make_fast(n_components=3, target_weight=1.0)
    options = {"sample_weight": weights, "X_val": X[:100], "y_val": y[:100], "groups": y}
    here = clone(model).fit(X, y, **options)
    chunked = {name: da.from_array(value, chunks=100) for name, value in options.items()}
    there = clone(model).fit(lazy, pd.Series(y).pipe(dd.from_pandas, npartitions=3), **chunked)
    np.testing.assert_array_equal(there.transform(X), here.transform(X))


def test_partial_fit_takes_partitions(lazy):
    here, there = make_fast(n_components=3), make_fast(n_components=3)
    np.testing.assert_array_equal(
        there.partial_fit(lazy).transform(X), here.partial_fit(X).transform(X)
    )


def test_a_fit_finds_missing_values_and_no_rows(lazy):
    wrong = FRAME.copy()
    wrong.iloc[-1, 7] = np.nan
    with pytest.raises(ValueError, match="no missing values in column 'c7'"):
        make_fast().fit(dd.from_pandas(wrong, npartitions=3))
    with pytest.raises(ValueError, match="0 sample"):
        make_fast().fit(lazy[lazy[:, 0] > 5])


@pytest.mark.slow
def test_memory_stays_flat():
    """Of 200 MB in float64, that are never in memory together."""
    rows = da.random.default_rng(0).normal(size=(50_000, 500), chunks=(2_000, 500))
    model = AutoencoderTransformer(2, max_epochs=1, hidden_layer_sizes=4, random_state=0)
    tracemalloc.start()
    model.fit(rows)
    mean = model.transform(rows).mean(axis=0).compute()
    score = model.score(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.abs(mean).max() < 1e-3
    assert 0 < score < 0.02
    assert peak < 80e6


# -- fit in several processes: here, in threads ------------------------------------


def in_threads(function, n):
    """Results or errors of ``function(rank, store)`` in threads that find each other."""
    limit, outcomes = timedelta(seconds=TIMEOUT), [Future() for _ in range(n)]
    first = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=limit)

    def run(rank):
        options = {"is_master": False, "wait_for_workers": False, "timeout": limit}
        store = TCPStore("127.0.0.1", first.port, **options) if rank else first
        try:
            outcomes[rank].set_result(function(rank, store))
        except Exception as error:
            outcomes[rank].set_exception(error)

    for rank in range(n):
        Thread(target=run, args=(rank,), daemon=True).start()
    return outcomes


def fit_in_threads(estimator, rows, n, chunk=90):
    """Fit in threads, each with every n-th partition."""
    blocks = [rows[i : i + chunk] for i in range(0, len(rows), chunk)]
    lengths = np.array([len(block) for block in blocks])

    def fit(rank, store):
        group = WorkerGroup(store, rank, n, "127.0.0.1", TIMEOUT)
        own = np.arange(len(blocks))[rank::n]
        share = np.concatenate([blocks[i] for i in own])
        return fit_share(clone(estimator), share, lengths, own, group, torch.float64)

    return [outcome.result(TIMEOUT) for outcome in in_threads(fit, n)]


@pytest.fixture
def in_float64(monkeypatch):
    """Let `fit` train in float64, where rounding does not grow to what could be a difference."""
    monkeypatch.setattr(Trainer, "dtype_of", lambda *_: torch.float64)


def assert_same_fit(there, here, rows, tolerance=1e-9):
    for name in ("transform", "reconstruct", "score_samples"):
        assert_close(getattr(there, name)(rows), getattr(here, name)(rows), tolerance)
    for name in (
        "mean_",
        "components_",
        "explained_variance_",
        "explained_variance_ratio_",
        "loss_curve_",
        "validation_loss_curve_",
        "noise_variance_",
        "pca_error_ratio_",
    ):
        actual, desired = (np.ravel(getattr(each, name)) for each in (there, here))
        scale = np.nanmax(np.abs(desired), initial=0)
        np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * scale)
    assert vars(there).keys() == vars(here).keys()
    assert (there.n_iter_, there.n_samples_) == (here.n_iter_, here.n_samples_)
    assert there.net_.best_epoch_ == here.net_.best_epoch_
    assert type(there) is type(here)
    assert type(there.net_) is type(here.net_)


SHARED = {
    "plain": AutoencoderTransformer(3),
    "by autograd": AutoencoderTransformer(3, activation="gelu"),
    "constant rate": AutoencoderTransformer(3, lr_schedule="constant", n_iter_no_change=2),
    "classic": AutoencoderTransformer(3, anchor=None),
    "logits": AutoencoderTransformer(3, anchor=None, loss="binary_cross_entropy"),
    "few rows in a batch": AutoencoderTransformer(3, batch_size=4),
    "all rows": AutoencoderTransformer(None, early_stopping=False, hidden_layer_sizes=()),
    "masking": DenoisingAutoencoder(3, noise="masking", noise_level=0.2),
    "swap": DenoisingAutoencoder(3, noise="swap", noise_level=0.2),
    "variational": VAETransformer(3, batch_size=8),
    "variances": VAETransformer(3, observation_variance="per_feature", stochastic_depth=0.4),
    "bernoulli": VAETransformer(3, likelihood="bernoulli"),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", SHARED)
def test_the_result_does_not_depend_on_the_number_of_processes(case, in_float64):
    rows = X[:600, ::2]
    model = fast(SHARED[case], random_state=0, max_epochs=2)
    here = clone(model).fit(rows)
    for there in fit_in_threads(model, rows, 2):
        assert_same_fit(there, here, rows)


def test_one_process_is_a_usual_fit_to_the_bit(in_float64):
    model = make_fast(n_components=3)
    (there,) = fit_in_threads(model, X, 1)
    assert_same_fit(there, clone(model).fit(X), X, tolerance=0)


@pytest.mark.slow
@pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 17),
    reason="threads stand for processes, and before scipy 1.17 only one can run ARPACK",
)
@pytest.mark.parametrize("memory", [0, 64 * 2**20], ids=["wide", "small"])
def test_copies_are_held_out_together(memory, in_float64, monkeypatch):
    """Copies of a row are in several processes; rows out of core are gathered in parts."""
    rows = np.concatenate([X, X[::2]])
    for module in (dataset, __import__("skae._data.shared_rows", fromlist=["_"])):
        monkeypatch.setattr(module, "MEMORY_BYTES", memory)
    model = make_fast(n_components=3)
    two, three = fit_in_threads(model, rows, 2)[0], fit_in_threads(model, rows, 3)[0]
    assert_same_fit(two, three, rows)
    if memory:
        assert_same_fit(two, clone(model).fit(rows), rows)


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_an_error_in_time():
    def wait(rank, store):
        group = WorkerGroup(store, rank, 2, "127.0.0.1", 2)
        group.sum(1.0)
        if rank == 0:
            return group.sum(1.0)
        time.sleep(4)
        return group

    start = time.monotonic()
    with pytest.raises(LostWorkerError, match="Process 0 of 2 has lost another one"):
        in_threads(wait, 2)[0].result(TIMEOUT)
    assert time.monotonic() - start < 4


def test_an_error_of_one_process_is_an_error_of_all():
    def check(rank, store):
        def fail_in_one():
            if rank == 1:
                raise ValueError("é" * 5000)
            return rank

        group = WorkerGroup(store, rank, 2, "127.0.0.1", TIMEOUT)
        assert group.agree(lambda: rank) == rank
        group.agree(fail_in_one)

    for outcome in in_threads(check, 2):
        with pytest.raises(ValueError, match=r"^é{1000,}"):
            outcome.result(TIMEOUT)


def test_partitions_stay_where_they_are_unless_others_have_fewer():
    lengths = np.array([10, 10, 10, 10])
    there = skae.dask._shares(lengths, ["b", "a", "b", "a"], ["a", "b"])
    assert there == {"a": [1, 3], "b": [0, 2]}
    spread = skae.dask._shares(lengths, ["a", "a", "a", None], ["a", "b"])
    assert sorted(map(len, spread.values())) == [2, 2]
    assert skae.dask._shares(lengths[:1], ["b"], ["a", "b"]) == {"b": [0]}


UNSUITED = {
    "SparseAutoencoder": skae.SparseAutoencoder(),
    "StackedAutoencoder": StackedAutoencoder(),
    "n_components=0.9": AutoencoderTransformer(0.9),
    "target_weight=1.0": AutoencoderTransformer(target_weight=1.0),
    "warm_start=True": AutoencoderTransformer(warm_start=True),
    "device='cuda'": AutoencoderTransformer(device="cuda"),
    "activation='gelu'": VAETransformer(activation="gelu"),
    "network=": AutoencoderTransformer(network=print),
    "callbacks=": AutoencoderTransformer(callbacks=[print]),
    "noise=": DenoisingAutoencoder(noise=torch.nn.Dropout()),
}


@pytest.mark.parametrize("case", UNSUITED)
def test_what_workers_cannot_fit_is_an_error(case, lazy):
    with pytest.raises(ValueError, match=f"{re.escape(case)}.*cannot be fitted by several"):
        skae.dask.fit(UNSUITED[case], lazy)


def test_rows_in_memory_and_other_types_are_an_error(lazy):
    with pytest.raises(TypeError, match=r"X is a ndarray.*call estimator\.fit"):
        skae.dask.fit(AutoencoderTransformer(), X)
    with pytest.raises(ValueError, match="dtype='int' must be one of 'float32', 'float64'"):
        skae.dask.fit(AutoencoderTransformer(), lazy, dtype="int")


# -- fit on a cluster --------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    """Client of two worker processes of one thread each."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        LocalCluster(**options, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster, timeout=TIMEOUT, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, timeout=TIMEOUT)
        yield client


@pytest.mark.slow
def test_two_workers_find_what_one_process_finds(client, lazy, in_float64):
    model = make_fast(n_components=3)
    there = skae.dask.fit(clone(model), lazy, client=client, dtype="float64")
    assert_same_fit(there, clone(model).fit(X), X)


@pytest.mark.slow
def test_workers_fit_frames_and_warn_here(client):
    model = make_fast(n_components=80, random_state=None, hidden_layer_sizes=4)
    frame = dd.from_pandas(FRAME[NAMES[10:14]], npartitions=3)
    with pytest.warns(UserWarning, match="n_components=80 exceeds the 4 features"):
        assert skae.dask.fit(model, frame, client=client) is model
    assert list(model.feature_names_in_) == NAMES[10:14]
    assert model.random_state is None
    assert model.transform(frame).compute(scheduler=client).shape == (900, 80)


def test_an_error_of_a_worker_is_an_error_here(client):
    model = make_fast().fit(X)
    wrong = X.copy()
    wrong[-1, 7] = np.inf
    with pytest.raises(ValueError, match="no infinite values in column 7"):
        skae.dask.fit(model, da.from_array(wrong, chunks=(CHUNK, -1)), client=client)
    assert model.transform(X).shape == (900, 2)  # as it was
    with pytest.raises(ValueError, match=r"X has 400 rows, but .* at least 500"):
        skae.dask.fit(model, da.from_array(X[:400], chunks=(CHUNK, -1)), client=client)


def training_workers(client):
    """Addresses of the workers that are in a training step."""
    stacks = client.call_stack() or {}
    return [worker for worker, stack in stacks.items() if "run_single_epoch" in str(stack)]


def wait_until(condition):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_fit_that_nobody_waits_for_ends(client, lazy, monkeypatch):
    def interrupted(*args):
        wait_until(lambda: len(training_workers(client)) == 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(skae.dask, "_watched", interrupted)
    with pytest.raises(KeyboardInterrupt):
        skae.dask.fit(make_fast(max_epochs=100_000), lazy, client=client)
    wait_until(lambda: not training_workers(client))


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["SIGSTOP", "SIGKILL"])
def test_a_worker_that_is_lost_is_an_error_in_time(client, lazy, sent):
    """A worker that hangs is found at the time limit, one that ends at once."""
    ended, threads = Future(), client.run(os.getpid)

    def lose_one():
        wait_until(lambda: len(training_workers(client)) == 2)
        pid = max(threads.values())
        os.kill(pid, getattr(signal, sent))
        ended.set_result((pid, time.monotonic()))

    Thread(target=lose_one, daemon=True).start()
    model, timeout = make_fast(max_epochs=100_000), 2 if sent == "SIGSTOP" else 60
    with pytest.raises(RuntimeError, match=r"A worker was lost, or did not answer in time"):
        skae.dask.fit(model, lazy, client=client, timeout=timeout)
    pid, start = ended.result(TIMEOUT)
    assert time.monotonic() - start < 15
    assert not hasattr(model, "net_")
    if sent == "SIGSTOP":
        os.kill(pid, signal.SIGCONT)
    else:  # the cluster has started another one
        wait_until(
            lambda: len(client.nthreads()) == 2 and pid not in client.run(os.getpid).values()
        )
        again = skae.dask.fit(make_fast(), lazy, client=client)
        assert again.score(X) > 0.2
