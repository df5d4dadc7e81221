"""Noise that corrupts rows in training, and reparameterisation noise."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

__all__ = [
    "NOISES",
    "BlockNoise",
    "BlurNoise",
    "Features",
    "GaussianNoise",
    "ImageNoise",
    "MaskingNoise",
    "Noise",
    "ReparameterizationNoise",
    "SaltPepperNoise",
    "SideBySide",
    "SwapNoise",
    "ViewDropout",
    "check_noise",
    "make_noise",
]

SLIMMEST = 0.3  # exponent of the level for one side of a block; the other side has the rest of 1


class Features(NamedTuple):
    """Statistics of each feature that noise depends on, in the units of the rows.

    Attributes
    ----------
    mean, std, low, high : Tensor of shape (n_features,)
        Mean, standard deviation, minimum and maximum over the training rows.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor


class Noise(nn.Module):
    """Corrupts rows in training mode; returns them as they are in evaluation mode.

    Parameters
    ----------
    level : float
    features : Features
    generator : torch.Generator, default=None
        Source of the noise, on the device of the rows; None is torch's global one.

    Shape
    -----
    Input and output (..., n_rows, n_features); the input is not written to. All tables along
    leading axes get the same random numbers.
    """

    largest: ClassVar[float] = 1.0  # level; of most kinds it is a share
    level_is: ClassVar[str] = "a share of the entries"

    def __init__(self, level: float, features: Features, generator: torch.Generator | None = None):
        super().__init__()
        self.level, self.generator = level, generator
        self.mean, self.std, self.low, self.high = map(nn.Buffer, features)

    def forward(self, x: Tensor) -> Tensor:
        """Corrupt rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        return self.corrupt(x) if self.training else x

    def corrupt(self, x: Tensor) -> Tensor:
        """Return corrupted rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        raise NotImplementedError

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one number in [0, 1) for each entry of a table.

        Parameters
        ----------
        x : Tensor of shape (..., n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        shape = x.shape[-2:]
        return torch.rand(shape, generator=self.generator, dtype=x.dtype, device=x.device)


class GaussianNoise(Noise):
    """Adds normal noise; the level is in units of each feature's standard deviation.

    Parameters
    ----------
    level : float
    features : Features
    generator : torch.Generator, default=None
    """

    largest = float("inf")
    level_is = "in standard deviations of each feature"

    def corrupt(self, x: Tensor) -> Tensor:  # noqa: D102
        shape = x.shape[-2:]
        drawn = torch.randn(shape, generator=self.generator, dtype=x.dtype, device=x.device)
        return torch.addcmul(x, drawn, self.std, value=self.level)


class MaskingNoise(Noise):
    """Sets a share of the entries to their feature's mean.

    Parameters
    ----------
    level : float
    features : Features
    generator : torch.Generator, default=None

    References
    ----------
    .. [1] Vincent et al. (2008). Extracting and composing robust features with denoising
       autoencoders. ICML. https://doi.org/10.1145/1390156.1390294
    """

    def corrupt(self, x: Tensor) -> Tensor:  # noqa: D102
        return torch.where(self.uniform(x) < self.level, self.mean, x)


class SaltPepperNoise(Noise):
    """Sets a share of the entries to their feature's minimum or maximum, as often each.

    Parameters
    ----------
    level : float
    features : Features
    generator : torch.Generator, default=None
    """

    def corrupt(self, x: Tensor) -> Tensor:  # noqa: D102
        drawn = self.uniform(x)
        lowered = torch.where(drawn < self.level / 2, self.low, x)
        raised = (drawn >= self.level / 2) & (drawn < self.level)
        return torch.where(raised, self.high, lowered)


class SwapNoise(Noise):
    """Replaces a share of the entries by the same feature's value in another row.

    Each feature keeps its own distribution; only the dependence between features is disturbed.
    Rows are swapped within a batch. A single row is not changed.

    Parameters
    ----------
    level : float
    features : Features
    generator : torch.Generator, default=None
    """

    def corrupt(self, x: Tensor) -> Tensor:  # noqa: D102
        n_rows = x.shape[-2]
        if n_rows == 1:
            return x
        # At least one row further, modulo the number of rows: never the row itself.
        steps = (1 + self.uniform(x) * (n_rows - 1)).long().clamp_(max=n_rows - 1)
        others = (torch.arange(n_rows, device=x.device)[:, None] + steps) % n_rows
        swapped = x.gather(-2, others.expand(x.shape))
        return torch.where(self.uniform(x) < self.level, swapped, x)


class ImageNoise(Noise):
    """Base of noise that needs to know the images in rows.

    Parameters
    ----------
    level : float
    features : Features
    generator : torch.Generator, default=None
    image_shape : tuple of int
        (height, width, n_channels).
    channels_first : bool, default=False
        Whether rows hold one channel after the other, instead of one pixel after the other.
    background : array-like of shape (n_features,), default=None
        What was subtracted from the images, in the units of the rows; None is nothing.
    """

    def __init__(
        self,
        level: float,
        features: Features,
        generator: torch.Generator | None = None,
        *,
        image_shape: tuple[int, int, int],
        channels_first: bool = False,
        background: Any = None,
    ):
        super().__init__(level, features, generator)
        self.image_shape, self.channels_first = tuple(image_shape), channels_first
        none = torch.zeros_like(self.mean) if background is None else torch.as_tensor(background)
        self.background = nn.Buffer(none)

    def to_images(self, x: Tensor) -> Tensor:
        """View rows as images.

        Parameters
        ----------
        x : Tensor of shape (..., n_features)

        Returns
        -------
        Tensor of shape (..., n_channels, height, width)
        """
        height, width, n_channels = self.image_shape
        if self.channels_first:
            return x.reshape(*x.shape[:-1], n_channels, height, width)
        return x.reshape(*x.shape[:-1], height, width, n_channels).movedim(-1, -3)

    def to_rows(self, images: Tensor) -> Tensor:
        """Rows of images: the inverse of `to_images`.

        Parameters
        ----------
        images : Tensor of shape (..., n_channels, height, width)

        Returns
        -------
        Tensor of shape (..., n_features)
        """
        if not self.channels_first:
            images = images.movedim(-3, -1)
        return images.reshape(*images.shape[:-3], -1)


class BlockNoise(ImageNoise):
    """Sets a rectangle of each image to the mean of each pixel, in all channels.

    The level is the share of the image's area. Place and form of the rectangle are random: with
    level p, one side is ``p ** t`` times the image's, the other ``p ** (1 - t)`` times, and t is
    uniform between 0.3 and 0.7.

    Parameters
    ----------
    level : float
    features : Features
    generator : torch.Generator, default=None
    image_shape : tuple of int
        (height, width, n_channels).
    channels_first : bool, default=False
    background : array-like of shape (n_features,), default=None
        Not used.

    References
    ----------
    .. [1] DeVries and Taylor (2017). Improved regularization of convolutional neural networks with
       cutout. https://arxiv.org/abs/1708.04552
    """

    level_is = "a share of the image's area"

    def corrupt(self, x: Tensor) -> Tensor:  # noqa: D102
        return torch.where(self.blocks(x), self.mean, x)

    def blocks(self, x: Tensor) -> Tensor:
        """Draw a block for each row.

        Parameters
        ----------
        x : Tensor of shape (..., n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_features), bool
            Whether an entry is in the block.
        """
        height, width, n_channels = self.image_shape
        shape = x.shape[-2], 3
        drawn = torch.rand(shape, generator=self.generator, dtype=x.dtype, device=x.device)
        form = SLIMMEST + (1 - 2 * SLIMMEST) * drawn[:, 0]
        if 1 in (height, width):
            form = torch.full_like(form, float(width == 1))  # the whole of the side of one pixel
        down = _within(height, self.level**form, drawn[:, 1])
        across = _within(width, self.level ** (1 - form), drawn[:, 2])
        block = down[:, None, :, None] & across[:, None, None, :]
        return self.to_rows(block.expand(-1, n_channels, -1, -1))


def _within(length: int, shares: Tensor, places: Tensor) -> Tensor:
    """Whether each pixel of a side is in a random part of it, (n_rows, length).

    `shares` and `places` (n_rows,) are the length of the part and its place, in [0, 1].
    """
    sizes = torch.where(shares > 0, (length * shares).round().clamp(min=1), 0.0)
    starts = (places * (length - sizes + 1)).floor().clamp(max=length - 1)
    pixels = torch.arange(length, device=shares.device)
    return (pixels >= starts[:, None]) & (pixels < (starts + sizes)[:, None])


class BlurNoise(ImageNoise):
    """Blurs images with a Gaussian filter; the level is its standard deviation in pixels.

    Nothing is random. Images are continued beyond their borders by reflection, as by
    `scipy.ndimage.gaussian_filter`.

    Parameters
    ----------
    level : float
    features : Features
    generator : torch.Generator, default=None
        Not used.
    image_shape : tuple of int
        (height, width, n_channels).
    channels_first : bool, default=False
    background : array-like of shape (n_features,), default=None
        What was subtracted from the images, in the units of the rows, and is blurred with them;
        None is nothing.
    """

    largest = float("inf")
    level_is = "a standard deviation in pixels"

    def __init__(
        self,
        level: float,
        features: Features,
        generator: torch.Generator | None = None,
        *,
        image_shape: tuple[int, int, int],
        channels_first: bool = False,
        background: Any = None,
    ):
        super().__init__(
            level,
            features,
            generator,
            image_shape=image_shape,
            channels_first=channels_first,
            background=background,
        )
        down, across = (
            torch.from_numpy(gaussian_filter1d(np.eye(side), self.level, axis=0))
            if self.level
            else torch.eye(side, dtype=torch.float64)
            for side in self.image_shape[:2]
        )
        self.down, self.across = nn.Buffer(down), nn.Buffer(across)

    def corrupt(self, x: Tensor) -> Tensor:  # noqa: D102
        images = self.to_images(x + self.background)
        blurred = self.down @ images @ self.across.T
        return self.to_rows(blurred) - self.background


NOISES: dict[str, type[Noise]] = {
    "gaussian": GaussianNoise,
    "masking": MaskingNoise,
    "salt_pepper": SaltPepperNoise,
    "swap": SwapNoise,
}
IMAGE_NOISES: dict[str, type[ImageNoise]] = {"blocks": BlockNoise, "blur": BlurNoise}
ALL_NOISES: dict[str, type[Noise]] = {**NOISES, **IMAGE_NOISES}


def check_noise(noise: Any, noise_level: float) -> None:
    """Raise an error if the level is too large for the kind of noise.

    Parameters
    ----------
    noise : str, nn.Module or None
        Key of ``NOISES`` or ``IMAGE_NOISES``; anything else has no level.
    noise_level : float

    Raises
    ------
    ValueError
    """
    if isinstance(noise, str) and noise_level > ALL_NOISES[noise].largest:
        raise ValueError(
            f"noise_level={noise_level} of noise={noise!r} is {ALL_NOISES[noise].level_is}: at "
            f"most {ALL_NOISES[noise].largest:g}."
        )


def make_noise(
    noise: Any,
    noise_level: float,
    feature_statistics: Callable[[], dict[str, np.ndarray]],
    generator: torch.Generator | None = None,
    kinds: Mapping[str, Callable[..., nn.Module]] = NOISES,
) -> nn.Module | None:
    """Make the noise of one training run.

    Parameters
    ----------
    noise : str, nn.Module or None
        Key of `kinds`, or a module, which is copied.
    noise_level : float
        Not used by a module.
    feature_statistics : callable
        Returns the fields of ``Features`` as arrays by name.
    generator : torch.Generator, default=None
    kinds : mapping of str to callable, default=NOISES
        Each makes a module of a level, ``Features`` and a generator.

    Returns
    -------
    nn.Module or None
        None if nothing is corrupted.
    """
    if isinstance(noise, nn.Module):
        return copy.deepcopy(noise)
    if noise is None or noise_level == 0:
        return None
    features = {name: torch.from_numpy(value) for name, value in feature_statistics().items()}
    return kinds[noise](noise_level, Features(**features), generator)


class ReparameterizationNoise(nn.Module):
    """Standard normal noise for the codes of a batch; it depends on the number of rows alone.

    Parameters
    ----------
    n_components : int
    generator : torch.Generator
        On the device of the rows.

    Shape
    -----
    Input (..., n_rows, n_features), output (..., n_rows, n_components). All tables along leading
    axes get the same numbers.
    """

    def __init__(self, n_components: int, generator: torch.Generator):
        super().__init__()
        self.n_components, self.generator = n_components, generator

    def forward(self, x: Tensor) -> Tensor:
        """Draw noise for rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_components)
        """
        shape = x.shape[-2], self.n_components
        drawn = torch.randn(shape, generator=self.generator, dtype=x.dtype, device=x.device)
        return drawn.expand(*x.shape[:-2], *shape)


class ViewDropout(nn.Module):
    """Hides views of rows: their columns become NaN. A row keeps at least one of its views.

    Parameters
    ----------
    views : sequence of sequences of int
        Columns of each view.
    rate : float
        Share of the rows from which views are hidden. How many stay is drawn, from one to all but
        one of those that are there.
    generator : torch.Generator, default=None
        Source of random numbers, on the device of the rows; None is torch's global one.
    most : int, default=None
        Largest number of views that stay, in all rows; None is no limit.

    Shape
    -----
    Input and output (n_rows, n_features); the input is not written to.

    References
    ----------
    .. [1] Neverova et al. (2016). ModDrop: adaptive multi-modal gesture recognition. IEEE
       Transactions on Pattern Analysis and Machine Intelligence 38.
       https://doi.org/10.1109/TPAMI.2015.2461544
    """

    view_of: Tensor

    def __init__(
        self,
        views: Sequence[Sequence[int]],
        rate: float,
        generator: torch.Generator | None = None,
        most: int | None = None,
    ):
        super().__init__()
        self.rate, self.generator, self.most = rate, generator, most
        self.firsts = [int(columns[0]) for columns in views]
        view_of = np.empty(sum(map(len, views)), dtype=int)
        for i, columns in enumerate(views):
            view_of[list(columns)] = i
        self.view_of = nn.Buffer(torch.from_numpy(view_of))

    def forward(self, x: Tensor) -> Tensor:
        """Hide views.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        there = ~x[:, self.firsts].isnan()
        shape = len(x), len(self.firsts) + 2
        drawn = torch.rand(shape, generator=self.generator, dtype=x.dtype, device=x.device)
        n_there = there.sum(dim=1)
        n_kept = 1 + (drawn[:, 0] * (n_there - 1)).long()
        n_kept = torch.where(
            drawn[:, 1] < self.rate, n_kept.minimum((n_there - 1).clamp(1)), n_there
        )
        if self.most is not None:
            n_kept = n_kept.clamp(max=self.most)
        places = drawn[:, 2:].masked_fill(~there, 2.0).argsort(dim=1).argsort(dim=1)
        return x.masked_fill((places >= n_kept[:, None])[:, self.view_of], torch.nan)


class SideBySide(nn.Module):
    """Results of several noises for the same rows, side by side.

    Parameters
    ----------
    *noises : nn.Module

    Shape
    -----
    Input (n_rows, n_features), output (n_rows, n_columns), where n_columns are those of all noises.
    """

    def __init__(self, *noises: nn.Module):
        super().__init__()
        self.noises = nn.ModuleList(noises)

    def forward(self, x: Tensor) -> Tensor:
        """Apply all noises to rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_columns)
        """
        return torch.cat([noise(x) for noise in self.noises], dim=1)


def joined(noises: Sequence[Any]) -> nn.Module | None:
    """Join the noises of several tables into one for tables along a leading axis.

    Parameters
    ----------
    noises : sequence of nn.Module
        One for each table.

    Returns
    -------
    nn.Module or None
        None if they differ in kind, level or seed, or if the kind is the user's.
    """
    first = noises[0]
    if type(first) not in (*NOISES.values(), ReparameterizationNoise):
        return None
    kinds = {(type(n), getattr(n, "level", None), n.generator.initial_seed()) for n in noises}
    if len(kinds) > 1:
        return None
    one = copy.copy(first)
    one._buffers = {
        name: torch.stack([noise.get_buffer(name) for noise in noises]).unsqueeze(-2)
        for name, _ in first.named_buffers()
    }
    return one
