"""Arrays in and out, devices, seeds."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch

from skae._data.validation import (
    BATCH_BYTES,
    all_or_nothing,
    check_codes,
    derive_seeds,
    explained_share,
    import_optional,
    is_better,
    resolve_device,
    rows_per_batch,
    seeded_globally,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_of_either_precision_pass_through(dtype):
    Z = np.ones((3, 2), dtype=dtype)
    assert check_codes(Z, 2) is Z


def test_codes_of_integers_become_floats():
    assert check_codes([[1, 2]], 2).dtype == np.float64


def test_codes_of_a_wrong_width_say_both_widths():
    with pytest.raises(ValueError, match=r"3 columns.*n_components_=2"):
        check_codes(np.ones((1, 3)), 2)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_better_by_so_many_standard_errors(kind):
    baseline = kind([1.0, 2.0, 3.0, 4.0])
    gains = kind([0.2, 0.4, 0.2, 0.4])  # mean 0.3, standard error 0.05
    assert is_better(baseline - gains, baseline, n_standard_errors=5.9)
    assert not is_better(baseline - gains, baseline, n_standard_errors=6.1)
    assert not is_better(baseline + gains, baseline, n_standard_errors=0)
    assert not is_better(baseline, baseline, n_standard_errors=1)


@pytest.mark.parametrize("n_columns", [1, 100, 10_000, 10**9])
def test_inference_batches_fit_their_budget_or_are_64_rows(n_columns):
    n_rows = rows_per_batch(n_columns)
    assert n_rows == 64 or n_rows * n_columns * 8 <= BATCH_BYTES


def test_explained_share():
    assert explained_share(1.0, 4.0) == 0.75
    assert explained_share(0.0, 0.0) == 1.0
    assert explained_share(1.0, 0.0) == 0.0


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


def test_globally_seeded_block_restores_after_an_error():
    before = torch.get_rng_state()
    with suppress(KeyError), seeded_globally(1, torch.device("cpu")):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


class Holder:
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_all_or_nothing_brings_attributes_back(error):
    holder = Holder()
    holder.kept = 1
    with suppress(error), all_or_nothing(holder):
        holder.kept, holder.added = 2, 3
        raise error
    assert vars(holder) == {"kept": 1}


def test_all_or_nothing_hides_no_error():
    with pytest.raises(KeyError), all_or_nothing(Holder()):
        raise KeyError


def test_all_or_nothing_keeps_what_succeeds():
    holder = Holder()
    with all_or_nothing(holder):
        holder.added = 3
    assert vars(holder) == {"added": 3}


def test_a_missing_optional_module_names_its_extra():
    with pytest.raises(ImportError, match=r"no_such_module.*skae\[plot\]"):
        import_optional("no_such_module", extra="plot")


def test_a_present_optional_module_is_returned():
    assert import_optional("json", extra="plot").loads("1") == 1
