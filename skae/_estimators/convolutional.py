"""The convolutional autoencoder of images, which starts at PCA."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import nn

from skae._data.dataset import Dataset
from skae._data.parameter_checks import Interval, integers_in
from skae._data.seeds_and_devices import resolve_device
from skae._estimators.arrays import ArrayAutoencoder
from skae._estimators.denoising import DenoisingAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._training.gradients import AutogradGradient
from skae._training.mixed_precision import LARGE_STEP, MixedPrecisionGradient
from skae._training.trainer import Trainer
from skae.networks.convolutional import (
    Grid,
    ImageDecoder,
    ImageEncoder,
    ImageShape,
    has_fast_bfloat16,
)
from skae.networks.dense import Autoencoder
from skae.noise import ALL_NOISES, IMAGE_NOISES, NOISES

GRID = 7  # smallest number of patches along each side of an image, for "auto"
GRID_OF_SIGNAL = 32  # the same of a row of pixels
SMALLEST_HALVED = 8  # pixels of a side, from which patches have two pixels or more
KERNEL = 3  # kernel size for "auto"
LARGEST_BATCH = 256  # for "auto"
SHARE_OF_EPOCHS = 0.5  # of the number that "auto" has elsewhere
CHANNELS, CHANNELS_OF_SMALL = 64, 32  # for "auto"
SMALL_IMAGE = 256  # largest number of pixels of a small image
N_BLOCKS = 1  # for "auto"
WIDTH, WIDTH_OF_SMALL = 512, 128  # of the linear layer beside the code, for "auto"


@inherit_entries(DenoisingAutoencoder)
class ConvolutionalAutoencoder(ArrayAutoencoder):
    """Autoencoder of images: convolutions correct PCA, at which training starts.

    The code of an image x is ``z = V (x - mean) + f(x)`` and its reconstruction
    ``mean + Vᵀ z + g(z)``, as in `AutoencoderTransformer`. f and g are convolutional networks: f
    cuts the image into patches, convolves their grid, and ends in a linear layer; g is its mirror
    image [1]_ [2]_. Training starts at PCA, and keeps the weights that reconstruct the validation
    images best; PCA is one of the candidates.

    Images are arrays, or rows of pixels as those of scikit-learn's data sets. Integers are kept as
    they are: no copy of all images in another type is made. Results for 8-bit and 16-bit integers
    are float32.

    Parameters
    ----------
    n_components
    image_shape : tuple of int, "row" or None, default=None
        Shape of the image in a row of X: (height, width), or (height, width, n_channels); with
        ``layout="channels_first"`` (n_channels, height, width). "row" is one row of pixels as wide
        as X, such as a spectrum or a time series. None is the shape of the images if X is an array
        of images, else a square of one channel.
    layout : {"channels_last", "channels_first"}, default="channels_last"
        Order of the pixels in X: with their channels last, (height, width, n_channels), as
        matplotlib and scikit-image have it; or with their channels first, as torch has it.
    channels : int or "auto", default="auto"
        Channels of the decoder's convolutions: the width of the network. The encoder has half as
        many, at least one. "auto" is 64, or 32 for images of at most 256 pixels.
    kernel_size : int or "auto", default="auto"
        Height and width of the kernels, in patches: an odd number, not larger than the grid. "auto"
        is 3, or 1 along sides of fewer than three patches.
    patch_size : int or "auto", default="auto"
        Height and width of a patch, in pixels. Images whose sides are no multiples of it are padded
        with their mean. Small patches show more detail, and take more time. "auto" is the largest
        power of two with at least seven patches along the shorter side, but 2 from 8 to 13 pixels;
        of a single row it is that with 32 patches. A large `kernel_size` makes patches smaller.
    n_blocks : int or "auto", default="auto"
        Residual blocks of the decoder: the depth of the network. The encoder has none. "auto" is 1.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of linear layers between the grid and the code, in the encoder; the decoder has the
        same layers in reverse order. "auto" is one of 512, or of 128 for images of at most 256
        pixels.
    activation
    noise : {"swap", "masking", "gaussian", "salt_pepper", "blocks", "blur"}, nn.Module or None, \
default=None
        Corruption of the training images. None corrupts nothing. "blocks" sets a random rectangle
        of each image to the mean of each pixel, so fill gaps of new images with ``mean_``. "blur"
        is a Gaussian filter. The others are those of `DenoisingAutoencoder`.
    noise_level : float, default=0.15
        For "gaussian", the noise's standard deviation in units of each pixel's; for "blur", the
        filter's standard deviation in pixels; for "blocks", the rectangle's share of the image's
        area; otherwise the share of corrupted entries. 0 corrupts nothing.
    emphasis
    mixed_precision : bool or "auto", default="auto"
        Compute convolutions and matrix products of training in bfloat16, which takes half the time
        where the processor has instructions for it. "auto" does so there if training steps are
        large. PCA, the loss, the weights, and everything after training are not affected, and
        neither are fewer than 30 images, which are trained on in float64.
    lr : float, default=3e-3
        As in `AutoencoderTransformer`.
    weight_decay : float, default=0.5
        As in `AutoencoderTransformer`. Convolutions need more of it.
    batch_size : int or "auto", default="auto"
        As in `AutoencoderTransformer`, but "auto" is at most 256.
    max_epochs : int or "auto", default="auto"
        As in `AutoencoderTransformer`, but "auto" is half as many.
    *

    Attributes
    ----------
    image_shape_ : tuple of int
        (height, width, n_channels), whatever the layout.
    *

    See Also
    --------
    AutoencoderTransformer : The same with multilayer perceptrons, for tables.
    DenoisingAutoencoder : The same with multilayer perceptrons and noise.

    References
    ----------
    .. [1] Masci et al. (2011). Stacked convolutional auto-encoders for hierarchical feature
       extraction. ICANN. https://doi.org/10.1007/978-3-642-21735-7_7
    .. [2] Shi et al. (2016). Real-time single image and video super-resolution using an efficient
       sub-pixel convolutional neural network. CVPR. https://doi.org/10.1109/CVPR.2016.207

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import ConvolutionalAutoencoder
    >>> images = load_digits().images  # (1797, 8, 8)
    >>> autoencoder = ConvolutionalAutoencoder(8, max_epochs=3, random_state=0).fit(images)
    >>> autoencoder.transform(images).shape
    (1797, 8)
    >>> autoencoder.reconstruct(images).shape
    (1797, 8, 8)
    """

    __module__ = "skae"  # the public path, which pickles name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ArrayAutoencoder._parameter_constraints,
        "image_shape": ["array-like", StrOptions({"row"}), None],
        "layout": [StrOptions({"channels_last", "channels_first"})],
        "channels": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "kernel_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "patch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_blocks": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "mixed_precision": ["boolean", StrOptions({"auto"})],
        "noise": [StrOptions(set(ALL_NOISES)), nn.Module, None],
    }

    image_shape_: tuple[int, int, int]
    _arrays: ClassVar[str] = "images"

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        image_shape: Sequence[int] | Literal["row"] | None = None,
        layout: Literal["channels_last", "channels_first"] = "channels_last",
        channels: int | Literal["auto"] = "auto",
        kernel_size: int | Literal["auto"] = "auto",
        patch_size: int | Literal["auto"] = "auto",
        n_blocks: int | Literal["auto"] = "auto",
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        noise: str | nn.Module | None = None,
        noise_level: float = 0.15,
        emphasis: float = 1.0,
        mixed_precision: bool | Literal["auto"] = "auto",
        anchor: Literal["pca"] | None = "pca",
        loss: str = "squared_error",
        target_weight: float = 0.0,
        stochastic_depth: float | Literal["auto"] = "auto",
        whiten: bool = False,
        latent_density: Any = "auto",
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 3e-3,
        lr_schedule: Literal["one_cycle", "constant"] = "one_cycle",
        weight_decay: float = 0.5,
        batch_size: int | Literal["auto"] = "auto",
        max_epochs: int | Literal["auto"] = "auto",
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        callbacks: Sequence[Any] | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
    ):
        super().__init__(
            n_components,
            noise=noise,  # type: ignore[arg-type]
            noise_level=noise_level,
            emphasis=emphasis,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            anchor=anchor,
            loss=loss,
            target_weight=target_weight,
            stochastic_depth=stochastic_depth,
            whiten=whiten,
            latent_density=latent_density,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            callbacks=callbacks,
            device=device,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )
        del self.network  # a class attribute: the network is this kind's own
        self.image_shape = image_shape
        self.layout = layout
        self.channels = channels
        self.kernel_size = kernel_size
        self.patch_size = patch_size
        self.n_blocks = n_blocks
        self.mixed_precision = mixed_precision

    # -- images in and out ---------------------------------------------------------

    def _n_features_of(self, shape: tuple[int, ...], *, reset: bool) -> int:
        image = self._resolve_image_shape(math.prod(shape), shape)
        if not reset and hasattr(self, "image_shape_") and image[:3] != self.image_shape_:
            expected = self._in_layout(ImageShape(*self.image_shape_))
            raise ValueError(
                f"X has images of shape {shape}, but {type(self).__name__} was fitted to images of "
                f"shape {expected}; pass images of that shape."
            )
        return image.n_features

    def _set_shape(self, n_features: int, shape: tuple[int, ...] | None) -> None:
        self.image_shape_ = self._resolve_image_shape(n_features, shape)[:3]

    def _resolve_image_shape(self, n_features: int, shape: tuple[int, ...] | None) -> ImageShape:
        """Shape of the image in a row of X; `shape` is that of an image if X holds images."""
        first = self.layout == "channels_first"
        given = self.image_shape
        if isinstance(given, str):
            if shape is not None:
                raise ValueError(
                    f"image_shape={given!r} is for rows of shape (n_samples, n_features), but X "
                    f"holds images of shape {shape}; set image_shape=None."
                )
            return ImageShape(1, n_features, 1, first)
        if given is None:
            sides = shape or _square(n_features)
            source = "X"
        else:
            sides, source = _checked_sides(given), f"image_shape={given!r}"
        if len(sides) == 2:
            height, width, n_channels = *sides, 1
        elif len(sides) == 3:
            n_channels, height, width = sides if first else (sides[2], *sides[:2])
        else:
            raise ValueError(
                f"{source} has images of {len(sides)} axes; pass (height, width), or with channels "
                f"{'(n_channels, height, width)' if first else '(height, width, n_channels)'}."
            )
        image = ImageShape(height, width, n_channels, first)
        alike = shape is None or self._in_layout(image) in (shape, (*shape, 1), (1, *shape))
        if image.n_features != n_features or not alike:
            found = (
                f"rows of {n_features} features" if shape is None else f"images of shape {shape}"
            )
            raise ValueError(
                f"{source} has {image.n_features} values, but X holds {found}; set image_shape to "
                "the shape of one image of X, channels included."
            )
        return image

    def _in_layout(self, image: ImageShape) -> tuple[int, ...]:
        """Shape of an image in X, with its channels."""
        sides, channels = (image.height, image.width), (image.n_channels,)
        return (*channels, *sides) if self.layout == "channels_first" else (*sides, *channels)

    # -- network and training ------------------------------------------------------

    def _make_codec(self, seed: int, n_parts: int = 1) -> Any:
        generator = torch.Generator().manual_seed(seed)
        grid, kernel_size = self._resolve_grid()
        hidden, n_channels = self._resolve_hidden_layer_sizes(), self._resolve_channels()
        options: dict[str, Any] = {
            "kernel_size": kernel_size,
            "activation": self.activation,
            "zero_last": self._starts_at_pca(),
            "generator": generator,
        }
        k = self.n_components_
        encoder = ImageEncoder(
            grid,
            n_parts * k,
            n_channels=max(1, n_channels // 2),
            n_blocks=0,  # they gain less than they cost
            hidden_layer_sizes=hidden,
            **options,
        )
        decoder = ImageDecoder(
            grid,
            k,
            n_channels=n_channels,
            n_blocks=N_BLOCKS if self.n_blocks == "auto" else self.n_blocks,
            hidden_layer_sizes=hidden[::-1],
            **options,
        )
        return Autoencoder(encoder, decoder)

    def _resolve_hidden_layer_sizes(self) -> tuple[int, ...]:
        if isinstance(self.hidden_layer_sizes, str):
            return (WIDTH_OF_SMALL,) if self._is_small() else (WIDTH,)
        return super()._resolve_hidden_layer_sizes()

    def _is_small(self) -> bool:
        return math.prod(self.image_shape_[:2]) <= SMALL_IMAGE

    def _resolve_channels(self) -> int:
        if not isinstance(self.channels, str):
            return self.channels
        return CHANNELS_OF_SMALL if self._is_small() else CHANNELS

    def _resolve_grid(self) -> tuple[Grid, tuple[int, int]]:
        """Grid of patches, and the size of the kernels on it; 1 along sides of one pixel."""
        image = ImageShape(*self.image_shape_, channels_first=self.layout == "channels_first")
        sides = image[:2]
        longer = [side for side in sides if side > 1]
        if isinstance(self.patch_size, str):
            size = self._auto_patch_size(min(longer, default=1), is_image=len(longer) > 1)
        else:
            size = self.patch_size
            if size > min(longer, default=1):
                raise ValueError(
                    f"patch_size={size} is larger than images of {sides[0]} x {sides[1]} pixels; "
                    f"set it to at most {min(longer, default=1)}, or to 'auto'."
                )
        grid = Grid(image, _along(sides, lambda side: 1 if side == 1 else size))
        return grid, self._resolve_kernel_size(grid)

    def _auto_patch_size(self, side: int, *, is_image: bool) -> int:
        """Largest power of two that leaves enough patches along a side, also for the kernel."""
        needed = KERNEL if isinstance(self.kernel_size, str) else self.kernel_size
        least = max(GRID if is_image else GRID_OF_SIGNAL, needed)
        size = 2 ** max(0, int(math.log2(side / least)))
        halves = is_image and side >= max(SMALLEST_HALVED, 2 * needed)
        return max(size, 2) if halves else size

    def _resolve_kernel_size(self, grid: Grid) -> tuple[int, int]:
        if isinstance(self.kernel_size, str):
            return _along(grid.shape, lambda n_patches: KERNEL if n_patches >= KERNEL else 1)
        size, longer = self.kernel_size, [n for n in grid.shape if n > 1]
        if size % 2 == 0:
            raise ValueError(
                f"kernel_size={size} must be odd, so that a kernel has a centre; set it to "
                f"{size - 1} or {size + 1}."
            )
        if size > min(longer, default=1):
            raise ValueError(
                f"kernel_size={size} is larger than the grid of {grid.shape[0]} x {grid.shape[1]} "
                f"patches that images of {grid.image.height} x {grid.image.width} pixels are cut "
                f"into; set it to at most {_largest_odd(min(longer, default=1))}, or to 'auto', or "
                "lower patch_size."
            )
        return _along(grid.shape, lambda n_patches: 1 if n_patches == 1 else size)

    def _check_parameters(self, X: Any) -> None:
        super()._check_parameters(X)
        self._resolve_grid()

    def _make_trainer(self, rows: Dataset, *args: Any, **options: Any) -> Trainer:
        trainer = super()._make_trainer(rows, *args, **options)
        trainer = replace(trainer, largest_batch=LARGEST_BATCH)
        return trainer.shortened(SHARE_OF_EPOCHS, len(rows))

    def _make_gradient(self) -> Any:
        depth = self._resolve_stochastic_depth(streams=False)
        is_auto = self.mixed_precision == "auto"
        if self.mixed_precision and (not is_auto or has_fast_bfloat16(resolve_device(self.device))):
            fewest = LARGE_STEP if is_auto else 0
            return partial(MixedPrecisionGradient, stochastic_depth=depth, fewest_products=fewest)
        return partial(AutogradGradient, stochastic_depth=depth)

    def _noise_kinds(self, rows: Dataset) -> Mapping[str, Callable[..., nn.Module]]:
        options: dict[str, Any] = {
            "image_shape": self.image_shape_,
            "channels_first": self.layout == "channels_first",
            "background": rows.center / rows.scale,
        }
        of_images = {name: partial(kind, **options) for name, kind in IMAGE_NOISES.items()}
        return {**NOISES, **of_images}


def _checked_sides(image_shape: Any) -> tuple[int, ...]:
    sides = integers_in(image_shape)
    if sides is None or len(sides) not in (2, 3) or min(sides) < 1:
        raise ValueError(
            f"image_shape={image_shape!r} must hold two or three integers >= 1: the height and the "
            "width of an image in pixels, and the number of channels."
        )
    return tuple(sides)


def _square(n_features: int) -> tuple[int, int]:
    side = math.isqrt(n_features)
    if side**2 != n_features:
        raise ValueError(
            f"image_shape=None takes rows of {n_features} features for square images of one "
            f"channel, but {n_features} is no square; set image_shape=(height, width) or (height, "
            "width, n_channels), or image_shape='row' if a row is a signal."
        )
    return side, side


def _along(sides: tuple[int, int], function: Callable[[int], int]) -> tuple[int, int]:
    """Apply a function to height and width."""
    return function(sides[0]), function(sides[1])


def _largest_odd(number: int) -> int:
    return number - 1 + number % 2
