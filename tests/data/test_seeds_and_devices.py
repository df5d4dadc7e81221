"""Devices and seeds."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch

from skae._data.seeds_and_devices import derive_seeds, resolve_device, seeded_globally


def test_the_cpu_is_present_and_auto_is_some_device():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in {"cpu", "cuda", "mps"}


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "", "xpu", "meta", "CPU"])
def test_other_devices_are_refused_by_name_with_a_remedy(device):
    with pytest.raises(ValueError, match=f"device='{device}'.*'cpu'"):
        resolve_device(device)


def test_seeds_repeat_for_an_int_and_advance_for_a_generator():
    assert derive_seeds(3, 4) == derive_seeds(3, 4)
    assert derive_seeds(3, 4) != derive_seeds(4, 4)
    generator = np.random.RandomState(3)
    assert derive_seeds(generator, 4) == derive_seeds(3, 4)
    assert derive_seeds(generator, 4) != derive_seeds(3, 4)


def test_globally_seeded_block_repeats_and_leaves_the_generator():
    before = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with seeded_globally(1, torch.device("cpu")):
            draws.append(torch.rand(3))
    assert torch.equal(*draws)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_globally_seeded_block_resets_generators_after_an_error():
    before = torch.get_rng_state()
    with suppress(KeyError), seeded_globally(1, torch.device("cpu")):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
