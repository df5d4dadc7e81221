"""Threads: limits that end with their block, and results that do not depend on their number."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event

import numpy as np
import pytest
import torch
from conftest import fast, is_dense, suited
from sklearn.base import clone
from threadpoolctl import threadpool_info, threadpool_limits

from skae._data.threads import LITTLE_INFERENCE, inference_threads, limited_threads


def test_threads_are_limited_inside_and_reset_even_after_an_error(two_threads):
    inside = []
    with suppress(KeyError), limited_threads(1):
        inside.append(torch.get_num_threads())
        raise KeyError
    assert (inside, torch.get_num_threads()) == ([1], two_threads)


@pytest.mark.usefixtures("two_threads")
def test_a_limit_never_raises_the_callers_threads():
    with limited_threads(1):
        with limited_threads(64):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_uses_one_thread_until_the_last_of_several_blocks_ends():
    with threadpool_limits(2, user_api="blas"):
        first, second = limited_threads(2), limited_threads(2)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_a_thread_that_begins_inside_a_limit_does_not_hand_it_on():
    is_inside, may_leave = Event(), Event()

    def stay():
        with limited_threads(1):
            is_inside.set()
            may_leave.wait(timeout=60)

    with ThreadPoolExecutor(2) as others:
        with limited_threads(1):
            staying = others.submit(stay)
            assert is_inside.wait(timeout=60)
        may_leave.set()
        staying.result(timeout=60)
        assert others.submit(torch.get_num_threads).result(timeout=60) == 2
    with ThreadPoolExecutor(1) as others:
        assert others.submit(torch.get_num_threads).result(timeout=60) == 2


def test_little_inference_has_one_thread(two_threads):
    with inference_threads(LITTLE_INFERENCE - 1):
        assert torch.get_num_threads() == 1
    with inference_threads(LITTLE_INFERENCE):
        assert torch.get_num_threads() == two_threads


def results(estimator, X, n_threads):
    """Result of a worker process with a number of threads."""
    with threadpool_limits(n_threads):
        torch.set_num_threads(n_threads)
        fitted = clone(estimator).fit(X)
        few = [fitted.reconstruct(X[:n]) for n in (1, 5, 7, 11, 30, 43)]
        return [
            fitted.components_,
            fitted.explained_variance_ratio_,
            fitted.transform(X),
            *([fitted.score_samples(X[:50])] if hasattr(fitted, "score_samples") else []),
            fitted.sample(5, random_state=0),
            *few,
        ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("params", [{}, {"hidden_layer_sizes": ()}], ids=["default", "linear"])
def test_bits_do_not_depend_on_the_number_of_threads(kind, cancer, params, dtype, two_threads):
    estimator = fast(kind, n_components=4, **suited(kind, params))
    here, there = (results(estimator, cancer.astype(dtype), n) for n in (two_threads, 1))
    assert all(np.array_equal(*both) for both in zip(here, there, strict=True))


@pytest.mark.slow
def test_bits_of_a_wide_table_do_not_depend_on_the_number_of_threads(kind, two_threads):
    X = np.random.default_rng(0).normal(size=(160, 600))
    # Steps of larger networks may have several threads.
    layers = {"hidden_layer_sizes": 128} if is_dense(kind) else {}
    here, there = (results(fast(kind, **layers), X, n) for n in (two_threads, 1))
    assert all(np.array_equal(*both) for both in zip(here, there, strict=True))
