"""The script that soaks a model runs, and sees what it looks for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_fast

SCRIPT = Path(__file__).parents[1] / "examples" / "benchmarks" / "soak.py"


@pytest.fixture
def soak(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import soak

    return soak


class Unsteady:
    """Transforms rows to something else now and then."""

    def __init__(self):
        self.n_calls = 0

    def transform(self, X):
        self.n_calls += 1
        return X + (self.n_calls % 10 == 5)


def test_threads_get_identical_bits(soak, wine):
    calls = soak.soak_calls(make_fast().fit(wine), wine, 200)
    assert (calls["calls"], calls["different"]) == (200, 0)


def test_other_bits_are_counted(soak, wine):
    calls = soak.soak_calls(Unsteady(), wine, 203)
    assert calls["calls"] == 203
    assert 0 < calls["different"] < 203


class Leaky:
    """Keeps 64 MB of each fit, which are memory of their own."""

    kept: list = []  # noqa: RUF012

    def fit(self, X):
        self.kept.append(np.ones(2**23))
        return self

    def transform(self, X):
        return X


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_growth_is_seen(soak, wine):
    fits = soak.soak_fits(Leaky(), wine, 3, 1)
    Leaky.kept.clear()
    assert fits["fits"] == 3
    assert fits["MB more"] > 100


def test_a_few_fits_keep_nothing_large(soak, wine):
    assert soak.soak_fits(make_fast(max_epochs=1), wine, 20, 10)["MB more"] < 10
