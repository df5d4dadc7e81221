"""Parts of convolutional autoencoders: patches, convolutions, precision, configurations."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from skae.networks import (
    Convolution,
    FromPatches,
    Grid,
    ImageDecoder,
    ImageEncoder,
    ImageShape,
    ResidualBlock,
    ToPatches,
)
from skae.networks.convolutional import mixed_precision
from skae.networks.serialization import network_from_config, network_to_config

GRIDS = [
    Grid(ImageShape(8, 8), (2, 2)),
    Grid(ImageShape(27, 31, 3), (4, 4)),
    Grid(ImageShape(5, 6, 8, channels_first=True), (4, 4)),
    Grid(ImageShape(1, 13), (1, 4)),
    Grid(ImageShape(7, 1, 2), (1, 1)),
]
each_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)


def generator():
    return torch.Generator().manual_seed(0)


def rows_for(grid, n_rows=4, dtype=torch.float32):
    return torch.randn(n_rows, grid.image.n_features, generator=generator(), dtype=dtype)


def make_part(kind, grid, n_columns=3, **options):
    defaults = {"n_channels": 4, "kernel_size": (3, 3), "n_blocks": 1, "generator": generator()}
    return kind(grid, n_columns, **{**defaults, **options})


@each_grid
def test_patches_are_joined_to_the_rows_they_were_cut_from(grid):
    x = rows_for(grid)
    patches = ToPatches(grid)(x)
    assert patches.shape == (4, *grid.shape, grid.n_entries)
    assert torch.equal(FromPatches(grid)(patches), x)


def test_a_patch_holds_neighbouring_pixels():
    grid = Grid(ImageShape(4, 6), (2, 2))
    x = torch.arange(24.0)[None]
    assert ToPatches(grid)(x)[0, 1, 2].tolist() == [16, 17, 22, 23]


def test_images_are_padded_with_zeros_on_all_sides():
    grid = Grid(ImageShape(3, 5, 2), (4, 4))
    x = ToPatches(grid)(torch.ones(1, 30))
    assert x.sum() == 30
    assert grid.margins == (0, 1, 1, 2)


@each_grid
def test_channels_may_be_first(grid):
    last = Grid(grid.image._replace(channels_first=False), grid.patch)
    first = Grid(grid.image._replace(channels_first=True), grid.patch)
    height, width, n_channels, _ = grid.image
    x = rows_for(last)
    swapped = x.reshape(4, height, width, n_channels).permute(0, 3, 1, 2).reshape(4, -1)
    assert torch.equal(ToPatches(first)(swapped), ToPatches(last)(x))
    assert torch.equal(FromPatches(first)(ToPatches(last)(x)), swapped)


@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 1), (1, 5)])
def test_a_convolution_is_that_of_torch(kernel_size):
    layer = Convolution(3, 5, kernel_size, generator=generator())
    x = torch.randn(2, 6, 7, 3, generator=generator())
    expected = F.conv2d(
        x.permute(0, 3, 1, 2).contiguous(),
        layer.weight.permute(0, 3, 1, 2).contiguous(),
        layer.bias,
        padding="same",
    )
    torch.testing.assert_close(layer(x), expected.permute(0, 2, 3, 1))


def test_blocks_commute_with_shifts_away_from_the_borders():
    blocks = torch.nn.Sequential(
        *(ResidualBlock(4, (3, 3), "relu", torch.Generator().manual_seed(i)) for i in range(2))
    ).double()
    x = torch.randn(1, 12, 12, 4, generator=generator(), dtype=torch.float64)
    shifted = blocks(x.roll((1, 2), (1, 2)))[:, 4:-4, 4:-4]
    torch.testing.assert_close(shifted, blocks(x).roll((1, 2), (1, 2))[:, 4:-4, 4:-4])


@each_grid
@pytest.mark.parametrize("hidden", [(), (6, 5)])
def test_parts_map_rows_to_codes_and_back(grid, hidden):
    encoder = make_part(ImageEncoder, grid, hidden_layer_sizes=hidden)
    decoder = make_part(ImageDecoder, grid, hidden_layer_sizes=hidden)
    z = encoder(rows_for(grid))
    assert z.shape == (4, 3)
    assert decoder(z).shape == (4, grid.image.n_features)


@pytest.mark.parametrize("kind", [ImageEncoder, ImageDecoder])
def test_a_last_layer_of_zeros_returns_zeros_and_has_a_gradient(kind):
    part = make_part(kind, GRIDS[0], zero_last=True)
    x = torch.randn(4, part.n_inputs, generator=generator())
    assert not part(x).any()
    (part(x) - 1).square().sum().backward()
    assert list(part.parameters())[-1].grad.any()


def test_initial_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    one, other = (make_part(ImageEncoder, GRIDS[0]) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [ImageEncoder, ImageDecoder])
@pytest.mark.parametrize("activation", ["relu", "silu"])
@each_grid
def test_a_configuration_makes_the_same_part(kind, grid, activation):
    part = make_part(kind, grid, hidden_layer_sizes=(5,), activation=activation)
    config = network_to_config(part)
    back = network_from_config(config)
    x = torch.randn(4, part.n_inputs, generator=generator())
    assert torch.equal(back(x), part(x))


DAMAGES = {
    "weights of the network is missing": lambda part: part.pop("weights"),
    "channels_first of the network is missing": lambda part: part.pop("channels_first"),
    "n_blocks of the network is missing": lambda part: part.pop("n_blocks"),
    "no activation 'rela'": lambda part: part.update(activation="rela"),
    "has 2 numbers, not 3": lambda part: part.update(image_shape=[8, 8]),
    "of 4 layers has 3 weights and 4 biases": lambda part: part["weights"].pop(),
    r"weights\[0\].*shape": lambda part: part.update(weights=part["weights"][::-1]),
    r"weights\[1\].*no array of numbers": lambda part: part["weights"].__setitem__(1, "weights"),
}


@pytest.mark.parametrize("complaint", DAMAGES)
def test_a_damaged_configuration_is_refused(complaint):
    config = network_to_config(make_part(ImageEncoder, GRIDS[0]))
    DAMAGES[complaint](config)
    with pytest.raises(ValueError, match=complaint):
        network_from_config(config)


def test_an_activation_of_the_user_has_no_configuration():
    assert network_to_config(make_part(ImageEncoder, GRIDS[0], activation=torch.nn.Mish)) is None


@pytest.mark.parametrize("kind", [ImageEncoder, ImageDecoder])
def test_mixed_precision_is_near_and_ends_with_the_block(kind):
    part = make_part(kind, GRIDS[0])
    x = torch.randn(4, part.n_inputs, generator=generator())
    part.requires_grad_(False)
    exact = part(x)
    with mixed_precision(torch.nn.Sequential(part)):
        rounded = part(x)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.03 * float(exact.abs().max()))
    assert torch.equal(part(x), exact)
