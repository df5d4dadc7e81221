"""Warnings name the user's line of code."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skae._data.warnings import warn


def module_of_skae(code):
    """What a module of skae with this code defines."""
    names = {"__name__": "skae._training.example", "warn": warn}
    exec(compile(code, "example.py", "exec"), names)
    return names


DEEP = module_of_skae(
    """
def direct(X):
    warn("inside", UserWarning)
    return X

def deep(X):
    return [each for each in (direct(X) for _ in range(1))][0]

def generate(X):
    yield direct(X)

def by_generator(X):
    def go_on():
        yield from generate(X)
    return next(go_on())
"""
)
CALLS = {
    "direct": DEEP["direct"],
    "deep": DEEP["deep"],
    "generator": DEEP["by_generator"],
    "torch decorator": torch.inference_mode()(DEEP["direct"]),
    "partial": functools.partial(DEEP["deep"]),
    "Pipeline": make_pipeline(FunctionTransformer(DEEP["deep"])).fit_transform,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_warning_names_the_line_outside(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(np.ones((2, 2)))
    (one,) = caught
    line = Path(__file__).read_text(encoding="utf-8").splitlines()[one.lineno - 1]
    assert one.filename == __file__
    assert line.strip() == "call(np.ones((2, 2)))"


@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning])
def test_the_category_is_kept(category):
    with pytest.warns(category, match="some text"):
        warn("some text", category)
