"""Noise modules corrupt as much as their level says, and only in training mode."""

from __future__ import annotations

import pytest
import torch

from skae import noise
from skae.noise import NOISES, Features


def make_rows(n_rows=4000, n_features=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([0.5, 1.0, 3.0][:n_features])
    return (torch.randn(n_rows, n_features, generator=generator) * scales + 1).to(dtype)


def make_noise(name, level, x, seed=0):
    features = Features(x.mean(0), x.std(0), x.amin(0), x.amax(0))
    return NOISES[name](level, features, torch.Generator().manual_seed(seed))


each_noise = pytest.mark.parametrize("name", NOISES)


@each_noise
def test_rows_are_left_alone_in_evaluation_mode(name):
    x = make_rows()
    assert make_noise(name, 0.5, x).eval()(x) is x


@each_noise
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_callers_rows_are_not_written_to(name, dtype):
    x = make_rows(dtype=dtype)
    before = x.clone()
    corrupted = make_noise(name, 0.5, x)(x)
    assert torch.equal(x, before)
    assert corrupted.dtype == dtype
    assert corrupted.shape == x.shape
    assert not torch.equal(corrupted, x)


@each_noise
def test_one_seed_gives_one_corruption_and_the_next_batch_another(name):
    x = make_rows()
    noise = make_noise(name, 0.3, x)
    first, second = noise(x), noise(x)
    assert torch.equal(first, make_noise(name, 0.3, x)(x))
    assert not torch.equal(first, second)
    assert not torch.equal(first, make_noise(name, 0.3, x, seed=1)(x))


@each_noise
def test_the_global_generator_is_untouched(name):
    x = make_rows()
    before = torch.get_rng_state()
    make_noise(name, 0.3, x)(x)
    assert torch.equal(torch.get_rng_state(), before)


@each_noise
def test_level_zero_changes_nothing(name):
    x = make_rows()
    assert torch.equal(make_noise(name, 0.0, x)(x), x)


def test_gaussian_noise_has_the_level_in_standard_deviations():
    x = make_rows()
    drawn = make_noise("gaussian", 0.5, x)(x) - x
    torch.testing.assert_close(drawn.std(0), 0.5 * x.std(0), rtol=0.05, atol=0)
    assert (drawn.mean(0) / x.std(0)).abs().max() < 0.05


@pytest.mark.parametrize("name", ["masking", "salt_pepper", "swap"])
@pytest.mark.parametrize("level", [0.1, 0.6])
def test_the_other_levels_are_shares_of_the_entries(name, level):
    x = make_rows()
    changed = (make_noise(name, level, x)(x) != x).float().mean(0)
    assert (changed - level).abs().max() < 0.04


def test_masked_entries_are_means():
    x = make_rows()
    corrupted = make_noise("masking", 0.3, x)(x)
    changed = corrupted != x
    assert torch.equal(corrupted[changed], x.mean(0).expand_as(x)[changed])


def test_salt_and_pepper_are_extremes_as_often_each():
    x = make_rows()
    corrupted = make_noise("salt_pepper", 0.4, x)(x)
    low = (corrupted == x.amin(0)).float().mean(0)
    high = (corrupted == x.amax(0)).float().mean(0)
    assert (low - 0.2).abs().max() < 0.03
    assert (high - 0.2).abs().max() < 0.03


def test_swapped_entries_come_from_the_same_feature_of_another_row():
    x = make_rows()
    corrupted = make_noise("swap", 1.0, x)(x)
    assert (corrupted != x).all()  # never the row itself
    for column, own in zip(corrupted.T, x.T, strict=True):
        assert torch.isin(column, own).all()
    assert not torch.equal(corrupted[:, 0].argsort(), corrupted[:, 1].argsort())


@pytest.mark.parametrize("n_rows", [1, 2])
def test_one_row_has_no_other_and_two_have_each_other(n_rows):
    x = make_rows(n_rows)
    noise = make_noise("swap", 1.0, make_rows())
    assert torch.equal(noise(x), x.flip(0))


@pytest.mark.parametrize("name", NOISES)
def test_noises_are_made_by_name(name):
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    ranges = dict(zip(Features._fields, (x.mean(0), x.std(0), x.amin(0), x.amax(0)), strict=True))
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    made = noise.make_noise(name, 0.5, lambda: {k: v.numpy() for k, v in ranges.items()}, seeds[0])
    assert torch.equal(made(x), NOISES[name](0.5, Features(**ranges), seeds[1])(x))


def test_no_noise_needs_no_feature_statistics():
    own = torch.nn.Dropout(0.5)
    assert noise.make_noise(None, 0.5, dict) is noise.make_noise("swap", 0, dict) is None
    copied = noise.make_noise(own, 0.5, dict)
    assert type(copied) is type(own)
    assert copied is not own


@pytest.mark.parametrize("name", sorted(NOISES.keys() - {"gaussian"}))
def test_a_share_above_one_is_refused(name):
    with pytest.raises(ValueError, match=rf"noise_level=1.1 of noise='{name}'.*at most 1"):
        noise.check_noise(name, 1.1)
    for admitted in (("gaussian", 5.0), (name, 1.0), (None, 3.0), (torch.nn.Dropout(), 9.0)):
        noise.check_noise(*admitted)
