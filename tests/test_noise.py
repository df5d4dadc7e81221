"""Noise modules corrupt as much as their level says, and only in training mode."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from skae import noise
from skae.noise import IMAGE_NOISES, NOISES, Features


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


# -- noise of images ---------------------------------------------------------------


def image_noise(name, level, shape, seed=0, **options):
    """Noise for images whose pixels have mean 7."""
    features = Features(*(torch.full((math.prod(shape),), value) for value in (7.0, 1.0, 0.0, 9.0)))
    generator = torch.Generator().manual_seed(seed)
    return IMAGE_NOISES[name](level, features, generator, image_shape=shape, **options)


@pytest.mark.parametrize("level", [0.1, 0.4, 1.0])
def test_a_block_is_a_rectangle_of_means_in_all_channels(level):
    noise = image_noise("blocks", level, (16, 20, 3))
    corrupted = noise(torch.zeros(300, 960)).reshape(300, 16, 20, 3)
    changed = corrupted != 0
    assert set(corrupted[changed].tolist()) == {7.0}
    assert (changed == changed[..., :1]).all()
    for image in changed[:50, :, :, 0]:
        down, across = image.any(dim=1), image.any(dim=0)
        assert torch.equal(image, down[:, None] & across)
        assert max(down.int().diff().abs().sum(), across.int().diff().abs().sum()) <= 2
    assert changed.double().mean().item() == pytest.approx(level, rel=0.05)
    assert level == 1 or changed.any(dim=0).all()  # any pixel may be in a block


def test_blocks_of_a_signal_and_of_channels_that_are_first():
    signal = image_noise("blocks", 0.25, (1, 40, 1))(torch.zeros(50, 40))
    assert (signal != 0).sum(dim=1).tolist() == [10] * 50
    last, first = (
        image_noise("blocks", 0.3, (6, 5, 2), channels_first=first)(torch.zeros(9, 60))
        for first in (False, True)
    )
    assert torch.equal(last.reshape(9, 6, 5, 2).permute(0, 3, 1, 2), first.reshape(9, 2, 6, 5))


def test_blocks_of_tables_along_a_leading_axis_are_the_same():
    one, two = image_noise("blocks", 0.3, (6, 5, 1)), image_noise("blocks", 0.3, (6, 5, 1))
    x = torch.zeros(9, 30)
    assert torch.equal(two(torch.stack([x, x]))[1], one(x))


@pytest.mark.parametrize("shape", [(12, 9, 1), (7, 8, 3), (1, 30, 1)])
@pytest.mark.parametrize("level", [0.7, 3.0])
@pytest.mark.parametrize("channels_first", [False, True])
def test_blur_is_scipys_gaussian_filter(shape, level, channels_first):
    images = np.random.default_rng(0).normal(size=(5, *shape))
    expected = gaussian_filter(images, (0, level, level, 0), mode="reflect")
    if channels_first:
        images, expected = (np.moveaxis(each, -1, 1) for each in (images, expected))
    mean = np.random.default_rng(1).normal(size=math.prod(shape))
    noise = image_noise("blur", level, shape, channels_first=channels_first, background=mean)
    rows = torch.from_numpy(images.reshape(5, -1) - mean)
    np.testing.assert_allclose(noise.double()(rows) + mean, expected.reshape(5, -1), atol=1e-12)


@pytest.mark.parametrize("name", IMAGE_NOISES)
def test_level_zero_of_noise_of_images_changes_nothing(name):
    x = torch.rand(4, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(image_noise(name, 0.0, (6, 5, 1)).double()(x), x)
    assert image_noise(name, 0.5, (6, 5, 1)).eval()(x) is x
