"""Are codes distributed like the prior, and do samples of the prior look like rows?

Run from the root of the repository::

    python examples/benchmarks/adversarial.py
    python examples/benchmarks/adversarial.py --seeds 10 --methods AdversarialAutoencoder loop
    python examples/benchmarks/adversarial.py --mnist-dir package/data --only MNIST

Protocol. Tables: scikit-learn's digits, breast_cancer and wine, standardized except the digits, a
third held out; and the first 10,000 training images of MNIST with 5,000 test images, where its
files are found. Methods:

*AdversarialAutoencoder* at its defaults, the standard normal prior; *uniform* and *mixture* are
other priors. *loop* is the adversarial autoencoder that one would write: encoder and decoder with
the same hidden layer and a linear last layer, a discriminator with two hidden layers of 64, Adam at
0.001, as many epochs and rows a batch, the two losses of the paper with equal weights; rows are
divided by the root of their mean variance. *VAETransformer* and *AutoencoderTransformer* at their
defaults: the latter fits a mixture to its codes. *PCA* has a normal distribution of its codes and
of the residuals, which is probabilistic PCA.

Measures. *Codes*: area under the ROC curve by which gradient boosting tells codes of test rows from
as many draws of the prior, by five folds; 0.5 is by chance. For the VAE, codes are samples of the
posteriors, which its prior is for; for the plain autoencoder, the prior is the mixture.
*Samples*: the same for test rows and as many samples, which are clipped to the range of the
training rows and, where a column holds whole numbers only, rounded. *Error*: squared error of test
rows over PCA's. *Worst*: the largest "codes" of all seeds. *Failed*: fits, of all seeds, whose
codes are told apart with more than 0.75, or whose error is above PCA's. *Seconds* are processor
time of the fit.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_vs_pca import describe_machine, load_images
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skae import AdversarialAutoencoder, AutoencoderTransformer, VAETransformer

Record = dict[str, Any]
ROWS, TEST_ROWS = 10_000, 5_000
HIDDEN = 128


class Adversarial:
    """The adversarial autoencoder with some prior."""

    def __init__(self, k: int, seed: int, prior: str = "standard_normal"):
        self.model = AdversarialAutoencoder(k, prior=prior, random_state=seed)
        self.seed = seed

    def fit(self, X: np.ndarray) -> None:
        """Fit to rows."""
        self.model.fit(X)

    def codes(self, X: np.ndarray) -> np.ndarray | None:
        """Codes of rows."""
        return self.model.transform(X)

    def draws(self, n: int) -> np.ndarray:
        """Draws of the prior."""
        return self.model.prior_.sample(n, self.seed)

    def sample(self, n: int) -> np.ndarray:
        """Draw rows."""
        return self.model.sample(n, self.seed)

    def restore(self, X: np.ndarray) -> np.ndarray:
        """Encode and decode rows."""
        return self.model.reconstruct(X)


class Variational(Adversarial):
    """The variational autoencoder."""

    def __init__(self, k: int, seed: int):
        self.model = VAETransformer(k, random_state=seed)
        self.seed = seed

    def codes(self, X: np.ndarray) -> np.ndarray | None:
        """Draw a code from the posterior of each row."""
        mean, std = self.model.posterior(X)
        return mean + std * np.random.default_rng(self.seed).normal(size=std.shape)

    def draws(self, n: int) -> np.ndarray:
        """Draws of the prior."""
        return self.model.latent_density_.sample(n, self.seed)


class Plain(Variational):
    """The autoencoder whose codes have a mixture that is fitted to them."""

    def __init__(self, k: int, seed: int):
        self.model = AutoencoderTransformer(k, random_state=seed)
        self.seed = seed

    def codes(self, X: np.ndarray) -> np.ndarray | None:
        """Codes of rows."""
        return self.model.transform(X)


class Probabilistic:
    """Probabilistic PCA."""

    def __init__(self, k: int, seed: int):
        self.model, self.seed = PCA(k, svd_solver="full"), seed

    def fit(self, X: np.ndarray) -> None:
        """Fit to rows."""
        self.model.fit(X)

    def codes(self, X: np.ndarray) -> np.ndarray | None:
        """Whitened codes of rows."""
        return self.model.transform(X) / np.sqrt(self.model.explained_variance_)

    def draws(self, n: int) -> np.ndarray:
        """Draws of the standard normal distribution."""
        return np.random.default_rng(self.seed).normal(size=(n, self.model.n_components_))

    def sample(self, n: int) -> np.ndarray:
        """Draw rows."""
        random = np.random.default_rng(self.seed)
        covariance = self.model.get_covariance()
        return random.multivariate_normal(self.model.mean_, covariance, n, method="eigh")

    def restore(self, X: np.ndarray) -> np.ndarray:
        """Encode and decode rows."""
        return self.model.inverse_transform(self.model.transform(X))


class Loop:
    """The training loop that one would write with torch."""

    def __init__(self, k: int, seed: int):
        self.k, self.seed = k, seed

    def fit(self, X: np.ndarray) -> None:
        """Train for as many epochs, at batches of as many rows, as the estimator by default."""
        torch.manual_seed(self.seed)
        self.mean = X.mean(axis=0)
        self.scale = np.sqrt(X.var(axis=0).mean())
        rows, d = self._tensor(X), X.shape[1]
        few = len(X) < 500
        batch = 32 if few else int(np.clip(2 ** int(np.log2(len(X) / 100)), 32, 512))
        epochs = 150 if few else int(np.clip(125 * (10_000 / len(X)) ** 0.4, 20, 300))
        self.encoder = nn.Sequential(nn.Linear(d, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, self.k))
        self.decoder = nn.Sequential(nn.Linear(self.k, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, d))
        judge = nn.Sequential(
            *(nn.Linear(self.k, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
        )
        both = [*self.encoder.parameters(), *self.decoder.parameters()]
        ours, theirs = torch.optim.Adam(both), torch.optim.Adam(judge.parameters())
        for _ in range(epochs):
            for part in torch.randperm(len(rows)).split(batch):
                x = rows[part]
                z = self.encoder(x)
                loss = F.softplus(-judge(torch.randn_like(z))) + F.softplus(judge(z.detach()))
                theirs.zero_grad()
                loss.mean().backward()
                theirs.step()
                loss = (self.decoder(z) - x).square().mean() + F.softplus(-judge(z)).mean()
                ours.zero_grad()
                loss.backward()
                ours.step()
        error = self._tensor(X) - self.decoder(self.encoder(rows))
        self.noise = float(error.detach().square().mean().sqrt())

    def _tensor(self, X: np.ndarray) -> torch.Tensor:
        return torch.tensor((X - self.mean) / self.scale, dtype=torch.float32)

    @torch.no_grad()
    def codes(self, X: np.ndarray) -> np.ndarray | None:
        """Codes of rows."""
        return self.encoder(self._tensor(X)).numpy()

    def draws(self, n: int) -> np.ndarray:
        """Draws of the standard normal distribution."""
        return np.random.default_rng(self.seed).normal(size=(n, self.k))

    @torch.no_grad()
    def sample(self, n: int) -> np.ndarray:
        """Draw rows, with normal noise of the size of the residuals."""
        rows = self.decoder(torch.tensor(self.draws(n), dtype=torch.float32)).numpy()
        noise = np.random.default_rng(self.seed + 1).normal(size=rows.shape)
        return (rows + self.noise * noise) * self.scale + self.mean

    @torch.no_grad()
    def restore(self, X: np.ndarray) -> np.ndarray:
        """Encode and decode rows."""
        return self.decoder(self.encoder(self._tensor(X))).numpy() * self.scale + self.mean


METHODS: dict[str, Callable[[int, int], Any]] = {
    "AdversarialAutoencoder": Adversarial,
    "uniform": lambda k, seed: Adversarial(k, seed, "uniform"),
    "mixture": lambda k, seed: Adversarial(k, seed, "gaussian_mixture"),
    "loop": Loop,
    "VAETransformer": Variational,
    "AutoencoderTransformer": Plain,
    "PCA": Probabilistic,
}


def tables(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, training rows and test rows."""
    yield "digits", *train_test_split(load_digits().data, test_size=1 / 3, random_state=0)
    for load in (load_breast_cancer, load_wine):
        X, test = train_test_split(load().data, test_size=1 / 3, random_state=0)
        scaler = StandardScaler().fit(X)
        yield load.__name__.removeprefix("load_"), scaler.transform(X), scaler.transform(test)
    if args.mnist_dir is not None:
        X, test = (load_images(Path(args.mnist_dir), part)[0] for part in ("train", "t10k"))
        yield "MNIST", X[:ROWS], test[:TEST_ROWS]


def told_apart(first: np.ndarray, second: np.ndarray) -> float:
    """Area under the ROC curve by which gradient boosting tells two sets of rows apart."""
    X = np.concatenate([first, second])
    y = np.repeat([0, 1], [len(first), len(second)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    judge = HistGradientBoostingClassifier(random_state=0)
    return float(cross_val_score(judge, X, y, cv=folds, scoring="roc_auc").mean())


def like_rows(drawn: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Clip samples to the range of rows, and round columns of whole numbers."""
    whole = (np.round(X) == X).all(axis=0)
    drawn = np.clip(drawn, X.min(axis=0), X.max(axis=0))
    return np.where(whole, np.round(drawn), drawn)


def measure(model: Any, X: np.ndarray, test: np.ndarray) -> Record:
    """Fit a model, and measure it."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    seconds = time.process_time() - start
    codes, draws = model.codes(test), model.draws(len(test))
    pca = PCA(codes.shape[1], svd_solver="full").fit(X)
    squares = np.square(test - model.restore(test)).sum()
    of_pca = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    of_codes, error = told_apart(codes, draws), float(squares / of_pca)
    return {
        "codes": of_codes,
        "samples": told_apart(test, like_rows(model.sample(len(test)), X)),
        "error": error,
        "worst": of_codes,
        "failed": float(of_codes > 0.75 or round(error, 6) > 1),
        "seconds": seconds,
    }


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--components", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--only", nargs="+", help="names of data sets")
    parser.add_argument("--mnist-dir", help="folder of MNIST's files")
    parser.add_argument("--output", help="JSON file of all records")
    args = parser.parse_args()
    machine = describe_machine(torch.get_num_threads())
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    records: list[Record] = []
    for name, X, test in tables(args):
        if args.only and name not in args.only:
            continue
        print(f"\n{name}: {len(X)} x {X.shape[1]}")
        columns = "codes", "samples", "error", "worst", "failed", "seconds"
        print(f"{'':24s}{'k':>4s}" + "".join(f"{column:>10s}" for column in columns))
        for k in args.components:
            for method in args.methods:
                own = [measure(METHODS[method](k, s), X, test) for s in range(args.seeds)]
                labels = {"data": name, "k": k, "method": method}
                records += [{**labels, "seed": s, **record} for s, record in enumerate(own)]
                worst = {"worst": np.max, "failed": np.sum}
                values = [worst.get(c, np.mean)([r[c] for r in own]) for c in columns]
                shown = "".join(f"{value:10.3f}" for value in values)
                print(f"{method:24s}{k:4d}{shown}", flush=True)
    if args.output:
        Path(args.output).write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
