"""Several threads use one fitted estimator at once, from its first use on."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from conftest import ESTIMATORS, OwnModule, fast, name_of, suited

N_THREADS = 8
METHODS = {
    "transform": lambda estimator, X, Z: estimator.transform(X),
    "transform float32": lambda estimator, X, Z: estimator.transform(X.astype(np.float32)),
    "inverse_transform": lambda estimator, X, Z: estimator.inverse_transform(Z),
    "reconstruct": lambda estimator, X, Z: estimator.reconstruct(X),
    "score": lambda estimator, X, Z: estimator.score(X),
    "score_samples": lambda estimator, X, Z: estimator.score_samples(X[:20]),
    "sample": lambda estimator, X, Z: estimator.sample(20, random_state=0),
    "get_covariance": lambda estimator, X, Z: estimator.get_covariance(),
}
each_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module", params=ESTIMATORS, ids=name_of)
def any_kind(request):
    return request.param


@pytest.fixture(scope="module", params=["default", "own network"])
def fitted(any_kind, request, wine):
    """Every public estimator, also around a module of the user's; tests use copies."""
    network = {} if request.param == "default" else {"network": OwnModule}
    return fast(any_kind, **suited(any_kind, network)).fit(wine)


@pytest.fixture
def eager_switches():
    """Let threads switch as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def methods_of(estimator):
    """The methods that an estimator has."""
    return {name: m for name, m in METHODS.items() if hasattr(estimator, name.split()[0])}


def at_once(functions):
    """Results of functions that threads begin at the same moment."""
    barrier = Barrier(len(functions))

    def wait_and_call(function):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(wait_and_call, functions))


def unused(estimator):
    """Copy that has not been used since its fit."""
    return pickle.loads(pickle.dumps(estimator))


@each_method
@pytest.mark.usefixtures("eager_switches")
def test_threads_that_use_it_first_get_the_bits_of_one(fitted, wine, name):
    method = methods_of(fitted).get(name) or pytest.skip("a sparse code has no likelihood")
    Z = fitted.transform(wine)
    alone = method(unused(fitted), wine, Z)
    shared = unused(fitted)
    results = at_once([lambda: method(shared, wine, Z)] * N_THREADS)
    assert all(np.array_equal(result, alone) for result in results)


@pytest.mark.usefixtures("eager_switches")
def test_threads_of_different_methods_get_the_bits_of_one(fitted, wine):
    Z, methods = fitted.transform(wine), methods_of(fitted).values()
    alone = [method(unused(fitted), wine, Z) for method in methods]
    for _ in range(3):
        shared = unused(fitted)
        results = at_once([lambda m=m, s=shared: m(s, wine, Z) for m in methods])
        assert all(np.array_equal(*both) for both in zip(results, alone, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.usefixtures("eager_switches")
def test_all_threads_find_one_copy_of_the_network(fitted, dtype):
    for _ in range(5):
        net = unused(fitted).net_
        copies = at_once([lambda net=net: net.at_precision(dtype)] * N_THREADS)
        assert len({id(network) for network in copies}) == 1
        assert not any(p.requires_grad for network in copies for p in network.parameters())


@pytest.mark.usefixtures("eager_switches")
def test_it_can_be_pickled_while_it_is_used(fitted, wine):
    shared = unused(fitted)
    uses = [lambda: shared.transform(wine)] * 4 + [lambda: unused(shared).transform(wine)] * 4
    results = at_once(uses)
    assert all(np.array_equal(result, results[0]) for result in results)
