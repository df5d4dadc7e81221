"""Searches on a cluster by joblib's Dask backend: real processes, bit-identical results."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from threading import Thread

import joblib
import numpy as np
import pytest
import torch
from conftest import fast
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer, DenoisingAutoencoder, VAETransformer
from skae.metrics import reconstruction_score

pytest.importorskip("distributed")
TIMEOUT = 120  # seconds; of what should take a few


@pytest.fixture(scope="module")
def client():
    """Client of two worker processes of one thread each."""
    from dask.distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        LocalCluster(**options, dashboard_address=None) as cluster,
        Client(cluster, timeout=TIMEOUT) as client,
    ):
        client.wait_for_workers(2, timeout=TIMEOUT)
        yield client


@pytest.fixture(scope="module")
def splits(cancer_classes):
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return list(folds.split(np.zeros_like(cancer_classes), cancer_classes))


@pytest.fixture(scope="module")
def cancer_classes():
    return load_breast_cancer().target


def explained(pipeline, X, y):
    return reconstruction_score(pipeline[:-1], X)


def worker(pipeline, X, y):
    """Process that scores."""
    return os.getpid()


def make_search(splits, **scoring):
    """One grid over kinds of reducers, their dimensions, widths and noise levels."""
    kinds = [AutoencoderTransformer(random_state=0), VAETransformer(random_state=0)]
    steps = [("scale", StandardScaler()), ("reduce", PCA()), ("classify", LogisticRegression())]
    grid = [
        {"reduce": [PCA(), *(fast(kind) for kind in kinds)], "reduce__n_components": [2, 5]},
        {
            "reduce": [fast(DenoisingAutoencoder(4, random_state=0))],
            "reduce__noise_level": [0.1, 0.3],
            "reduce__hidden_layer_sizes": [32],
        },
    ]
    scoring = {"accuracy": "accuracy", "explained": explained, **scoring}
    return GridSearchCV(Pipeline(steps), grid, scoring=scoring, refit="explained", cv=splits)


def within(seconds, function):
    """Result of a function, or a TimeoutError: a cluster that hangs must not hang the tests."""
    result = Future()

    def run():
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return result.result(timeout=seconds)


def on_the_cluster(client, search, X, y):
    """Fit with rows and folds on all workers, so that any of them may be lost."""
    client.amm.stop()  # or the cluster drops what several workers have
    scattered = [X, y, *chain.from_iterable(search.cv)]

    def fit():
        with joblib.parallel_config(backend="dask", scatter=scattered):
            return search.fit(X, y)

    return within(TIMEOUT, fit)


@pytest.fixture(scope="module")
def here(cancer, cancer_classes, splits):
    """The same search in this process, on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        search = make_search(splits).fit(cancer, cancer_classes)
    torch.set_num_threads(before)
    return search


def assert_same_search(there, here, X):
    """Scores, choice and codes, to the bit."""
    scores = [name for name in here.cv_results_ if "_test_" in name]
    assert len(scores) == 2 * (3 + 3)
    for name in scores:
        np.testing.assert_array_equal(there.cv_results_[name], here.cv_results_[name])
    assert there.best_index_ == here.best_index_
    codes, codes_here = (search.best_estimator_[:-1].transform(X) for search in (there, here))
    np.testing.assert_array_equal(codes, codes_here)


def processes_of(search):
    return set(chain.from_iterable(search.cv_results_[f"split{i}_test_worker"] for i in range(3)))


@pytest.mark.slow
def test_a_cluster_finds_the_bits_of_one_process(client, here, cancer, cancer_classes, splits):
    there = on_the_cluster(client, make_search(splits, worker=worker), cancer, cancer_classes)
    assert processes_of(there) == set(client.run(os.getpid).values())
    assert set(client.run(torch.get_num_threads).values()) == {1}  # where this process has two
    assert_same_search(there, here, cancer)


class Killer:
    """Scorer that kills the worker process which calls it first, as a crash would."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __call__(self, pipeline, X, y):
        try:
            self.marker.touch(exist_ok=False)
        except FileExistsError:
            return os.getpid()
        self.marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_search_survives_the_loss_of_a_worker(
    client, here, cancer, cancer_classes, splits, tmp_path
):
    marker = tmp_path / "killed"
    there = on_the_cluster(
        client, make_search(splits, worker=Killer(marker)), cancer, cancer_classes
    )
    killed = int(marker.read_text())
    assert killed != os.getpid()
    assert killed not in processes_of(there)
    assert_same_search(there, here, cancer)
