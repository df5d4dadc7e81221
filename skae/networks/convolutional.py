"""Convolutional encoders and decoders of images, on a grid of patches.

Images are tensors (n_rows, height, width, n_channels) without gaps: the layout in which
convolutions are fastest on CPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae.networks.dense import MLP, CodecPart, make_activation

BRANCH_GAIN = 0.1  # of the initial weights of residual branches, so that blocks start near identity


class ImageShape(NamedTuple):
    """Shape of the image in a row.

    Attributes
    ----------
    height, width, n_channels : int
    channels_first : bool
        Whether a row holds one channel after the other, in the order (channel, height, width);
        else it holds one pixel after the other, in the order (height, width, channel).
    """

    height: int
    width: int
    n_channels: int = 1
    channels_first: bool = False

    @property
    def n_features(self) -> int:
        """Number of columns of a row."""
        return self.height * self.width * self.n_channels


class Grid(NamedTuple):
    """How images are cut into patches.

    Attributes
    ----------
    image : ImageShape
    patch : tuple of int
        Height and width of a patch.
    """

    image: ImageShape
    patch: tuple[int, int] = (1, 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of patches, down and across."""
        sides = zip(self.image[:2], self.patch, strict=True)
        down, across = (-(-side // patch) for side, patch in sides)
        return down, across

    @property
    def n_places(self) -> int:
        """Number of patches of an image."""
        return self.shape[0] * self.shape[1]

    @property
    def n_entries(self) -> int:
        """Number of values of a patch."""
        return self.patch[0] * self.patch[1] * self.image.n_channels

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """Pixels that are added to images: above, below, on the left, on the right."""
        both = zip(self.shape, self.patch, self.image[:2], strict=True)
        more = [n * patch - side for n, patch, side in both]
        return more[0] // 2, more[0] - more[0] // 2, more[1] // 2, more[1] - more[1] // 2


ImageShape.__module__ = Grid.__module__ = "skae.networks"


# -- layers ------------------------------------------------------------------------


class ToPatches(nn.Module):
    """Cuts rows into patches on a grid; images are padded with zeros to whole patches.

    Parameters
    ----------
    grid : Grid

    Shape
    -----
    Input (n_rows, n_features), output (n_rows, n_down, n_across, n_entries): the values of a patch,
    in the order (height, width, channel), are channels.
    """

    __module__ = "skae.networks"

    def __init__(self, grid: Grid):
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Cut rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_down, n_across, n_entries)
        """
        (height, width, n_channels, channels_first), patch = self.grid
        if channels_first:
            x = x.reshape(-1, n_channels, height, width).permute(0, 2, 3, 1)
        else:
            x = x.reshape(-1, height, width, n_channels)
        above, below, left, right = self.grid.margins
        if any(self.grid.margins):
            x = F.pad(x, (0, 0, left, right, above, below))
        down, across = self.grid.shape
        x = x.reshape(-1, down, patch[0], across, patch[1], n_channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(-1, down, across, self.grid.n_entries)


class FromPatches(nn.Module):
    """Joins patches to rows, and leaves out the margins: the inverse of `ToPatches`.

    Parameters
    ----------
    grid : Grid

    Shape
    -----
    Input (n_rows, n_down, n_across, n_entries), output (n_rows, n_features).
    """

    __module__ = "skae.networks"

    def __init__(self, grid: Grid):
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Join patches.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_down, n_across, n_entries)

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        (height, width, n_channels, channels_first), patch = self.grid
        down, across = self.grid.shape
        x = x.reshape(-1, down, across, *patch, n_channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, down * patch[0], across * patch[1], n_channels)
        above, _, left, _ = self.grid.margins
        x = x[:, above : above + height, left : left + width]
        if channels_first:
            x = x.permute(0, 3, 1, 2)
        return x.reshape(-1, self.grid.image.n_features)


class ToGrid(nn.Module):
    """Arranges columns on a grid, in the order (down, across, channel).

    Parameters
    ----------
    shape : tuple of int
        Numbers of places, down and across, and of channels.

    Shape
    -----
    Input (n_rows, n_columns), output (n_rows, n_down, n_across, n_channels).
    """

    __module__ = "skae.networks"

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Arrange columns.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_columns)

        Returns
        -------
        Tensor of shape (n_rows, n_down, n_across, n_channels)
        """
        return x.reshape(-1, *self.shape)


class Convolution(nn.Module):
    """Convolution of images with their channels last; borders are padded with zeros.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel_size : tuple of int
        Height and width of the kernel, odd.
    gain : float, default=1.0
        Factor of the initial weights, which are drawn uniformly within ``1 / sqrt(fan_in)``, as
        those of `MLP`; 0 is zeros.
    generator : torch.Generator, default=None
        Source of the initial weights.

    Attributes
    ----------
    weight : nn.Parameter of shape (n_out, kernel_height, kernel_width, n_in)
    bias : nn.Parameter of shape (n_out,)

    Shape
    -----
    Input (n_rows, height, width, n_in), output (n_rows, height, width, n_out).
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: tuple[int, int],
        gain: float = 1.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        shape = n_out, *kernel_size, n_in
        self.weight = nn.Parameter(torch.empty(shape, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(n_out, dtype=torch.float32))
        self.kernel_size = kernel_size
        bound = gain / math.sqrt(math.prod(shape[1:]))
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images.

        Parameters
        ----------
        x : Tensor of shape (n_rows, height, width, n_in)

        Returns
        -------
        Tensor of shape (n_rows, height, width, n_out)
        """
        # For torch, tensors without gaps whose channels are last are in "channels_last" format.
        convolved = F.conv2d(
            x.permute(0, 3, 1, 2),
            self.weight.permute(0, 3, 1, 2),
            self.bias,
            padding=[size // 2 for size in self.kernel_size],
        )
        return convolved.permute(0, 2, 3, 1)


class ResidualBlock(nn.Module):
    """Adds a convolution, an activation and a mixture of the channels to its input.

    It is a residual block [1]_ without normalization.

    Parameters
    ----------
    n_channels : int
    kernel_size : tuple of int
    activation : str or callable
    generator : torch.Generator, default=None

    Shape
    -----
    Input and output (n_rows, height, width, n_channels).

    References
    ----------
    .. [1] He et al. (2016). Deep residual learning for image recognition. CVPR.
       https://doi.org/10.1109/CVPR.2016.90
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        n_channels: int,
        kernel_size: tuple[int, int],
        activation: str | Callable[[], nn.Module],
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.branch = nn.Sequential(
            Convolution(n_channels, n_channels, kernel_size, 1.0, generator),
            make_activation(activation),
            Convolution(n_channels, n_channels, (1, 1), BRANCH_GAIN, generator),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch.

        Parameters
        ----------
        x : Tensor of shape (n_rows, height, width, n_channels)

        Returns
        -------
        Tensor of the same shape
        """
        return x + self.branch(x)


# -- encoder and decoder -----------------------------------------------------------


class ImagePart(CodecPart):
    """Encoder or decoder of images. Training steps may compute it in bfloat16.

    Parameters
    ----------
    layers : sequence of nn.Module
    grid : Grid
    n_inputs, n_outputs : int
        Columns.
    options : dict
        Number of channels, size of the kernels, number of blocks and widths of linear layers, as
        plain values.

    Attributes
    ----------
    in_bfloat16 : bool
        Whether convolutions and matrix products are computed in bfloat16. A training step may set
        it, see `mixed_precision`; else it is False.
    """

    in_bfloat16 = False

    def __init__(
        self,
        layers: Sequence[nn.Module],
        grid: Grid,
        n_inputs: int,
        n_outputs: int,
        options: dict[str, Any],
    ):
        super().__init__(layers, n_inputs, n_outputs, options)
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Map rows to codes, or codes to rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_columns_in)

        Returns
        -------
        Tensor of shape (n_rows, n_columns_out), dtype of x
        """
        if not self.in_bfloat16:
            return super().forward(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return super().forward(x).to(x.dtype)


class ImageEncoder(ImagePart):
    """Convolutional encoder of images: patches, a convolution, residual blocks, a linear layer.

    Parameters
    ----------
    grid : Grid
    n_outputs : int
        Columns of the codes.
    n_channels : int
        Channels of each layer.
    kernel_size : tuple of int
        Height and width, in patches, of the kernels; odd.
    n_blocks : int
        Residual blocks.
    hidden_layer_sizes : sequence of int, default=()
        Widths of linear layers before the last.
    activation : str or callable, default="relu"
    zero_last : bool, default=False
        Start with a last layer of zeros, so that the encoder returns zeros.
    generator : torch.Generator, default=None
        Source of the initial weights.

    Shape
    -----
    Input (n_rows, n_features), output (n_rows, n_outputs).

    Examples
    --------
    >>> import torch
    >>> from skae.networks.convolutional import Grid, ImageEncoder, ImageShape
    >>> grid = Grid(ImageShape(28, 28), patch=(4, 4))
    >>> encoder = ImageEncoder(grid, 16, n_channels=8, kernel_size=(3, 3), n_blocks=1)
    >>> encoder(torch.ones(5, 784)).shape
    torch.Size([5, 16])
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        grid: Grid,
        n_outputs: int,
        *,
        n_channels: int,
        kernel_size: tuple[int, int],
        n_blocks: int,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str | Callable[[], nn.Module] = "relu",
        zero_last: bool = False,
        generator: torch.Generator | None = None,
    ):
        widths = [grid.n_places * n_channels, *hidden_layer_sizes, n_outputs]
        layers = [
            ToPatches(grid),
            Convolution(grid.n_entries, n_channels, kernel_size, 1.0, generator),
            make_activation(activation),
            *_blocks(n_blocks, n_channels, kernel_size, activation, generator),
            nn.Flatten(),
            *MLP(widths, activation, zero_last=zero_last, generator=generator),
        ]
        super().__init__(
            layers,
            grid,
            grid.image.n_features,
            n_outputs,
            {
                "n_channels": n_channels,
                "kernel_size": kernel_size,
                "n_blocks": n_blocks,
                "hidden_layer_sizes": hidden_layer_sizes,
            },
        )


class ImageDecoder(ImagePart):
    """Convolutional decoder of images: linear layers, residual blocks, a convolution, patches.

    Parameters
    ----------
    grid : Grid
    n_inputs : int
        Columns of the codes.
    n_channels : int
        Channels of each layer.
    kernel_size : tuple of int
        Height and width, in patches, of the kernels; odd.
    n_blocks : int
        Residual blocks.
    hidden_layer_sizes : sequence of int, default=()
        Widths of linear layers before the grid.
    activation : str or callable, default="relu"
    zero_last : bool, default=False
        Start with a last layer of zeros, so that the decoder returns zeros.
    generator : torch.Generator, default=None
        Source of the initial weights.

    Shape
    -----
    Input (n_rows, n_inputs), output (n_rows, n_features).
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        grid: Grid,
        n_inputs: int,
        *,
        n_channels: int,
        kernel_size: tuple[int, int],
        n_blocks: int,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str | Callable[[], nn.Module] = "relu",
        zero_last: bool = False,
        generator: torch.Generator | None = None,
    ):
        widths = [n_inputs, *hidden_layer_sizes, grid.n_places * n_channels]
        gain = 0.0 if zero_last else 1.0
        layers = [
            *MLP(widths, activation, generator=generator),
            make_activation(activation),
            ToGrid((*grid.shape, n_channels)),
            *_blocks(n_blocks, n_channels, kernel_size, activation, generator),
            Convolution(n_channels, grid.n_entries, kernel_size, gain, generator),
            FromPatches(grid),
        ]
        super().__init__(
            layers,
            grid,
            n_inputs,
            grid.image.n_features,
            {
                "n_channels": n_channels,
                "kernel_size": kernel_size,
                "n_blocks": n_blocks,
                "hidden_layer_sizes": hidden_layer_sizes,
            },
        )


def _blocks(
    n_blocks: int,
    n_channels: int,
    kernel_size: tuple[int, int],
    activation: str | Callable[[], nn.Module],
    generator: torch.Generator | None,
) -> list[nn.Module]:
    """Residual blocks, and an activation behind them if there are any."""
    blocks: list[nn.Module] = [
        ResidualBlock(n_channels, kernel_size, activation, generator) for _ in range(n_blocks)
    ]
    return [*blocks, make_activation(activation)] if blocks else []


# -- precision ---------------------------------------------------------------------


@contextmanager
def mixed_precision(network: nn.Module) -> Iterator[None]:
    """Compute the encoders and decoders of images in a network in bfloat16, inside the block.

    Their results, and everything else, keep their types (Micikevicius et al., 2018,
    https://arxiv.org/abs/1710.03740).

    Parameters
    ----------
    network : nn.Module
    """
    parts = [part for part in network.modules() if isinstance(part, ImagePart)]
    for part in parts:
        part.in_bfloat16 = True
    try:
        yield
    finally:
        for part in parts:
            part.in_bfloat16 = False


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products of matrices in bfloat16.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    bool
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # Private functions of torch, which an earlier or later version may lack.
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    return any(getattr(torch.cpu, name, bool)() for name in names)
