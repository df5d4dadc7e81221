"""
Learn from a file larger than the memory
========================================

``partial_fit`` accepts rows in chunks, as ``IncrementalPCA`` does, so a file may be larger than the
memory. Here a Parquet file is read by pyarrow in record batches. On Linux the script limits its own
memory to half of what the rows need.

It needs pyarrow in addition to the ``plot`` extra: ``pip install "skae[plot]" pyarrow``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits
from sklearn.decomposition import IncrementalPCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_score

try:
    import resource
except ImportError:  # not on Windows
    resource = None

N_ROWS, ROWS_OF_BATCH, N_PASSES, N_COMPONENTS = 400_000, 20_000, 2, 8
ALLOWED_MEGABYTES = 100
AUTOENCODER, INCREMENTAL_PCA = "#0072B2", "#D55E00"  # as in Okabe and Ito

# %%
# A file of many rows
# -------------------
# The file has digits of 8 by 8 pixels, each many times, rotated by up to 15 degrees and shifted
# by up to half a pixel, so that no two rows are equal. Every fourth digit is not in the file.
# Rows made of these digits in the same way are the test rows.


def turned_and_moved(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return rotated and shifted images as rows of integers from 0 to 16."""
    angles = np.deg2rad(random.uniform(-15, 15, len(images)))[:, None]
    shifts = random.uniform(-0.5, 0.5, size=(2, len(images), 1))
    down, across = np.indices((8, 8)).reshape(2, 1, 64) - 3.5
    rows = np.cos(angles) * down - np.sin(angles) * across + 3.5 + shifts[0]
    columns = np.sin(angles) * down + np.cos(angles) * across + 3.5 + shifts[1]
    which = np.broadcast_to(np.arange(len(images))[:, None], rows.shape)
    return map_coordinates(images, [which, rows, columns], order=1).round().astype(np.uint8)


def write_file(path: Path, images: np.ndarray, random: np.random.Generator) -> None:
    """Write the rows batch by batch, in random order."""
    schema = pa.schema([(f"pixel{i}", pa.uint8()) for i in range(64)])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(N_ROWS // ROWS_OF_BATCH):
            rows = turned_and_moved(
                images[random.integers(len(images), size=ROWS_OF_BATCH)], random
            )
            writer.write_batch(pa.record_batch(list(rows.T), schema=schema))


random = np.random.default_rng(0)
images, new_images = train_test_split(load_digits().images, random_state=0)
new_rows = turned_and_moved(np.repeat(new_images, 5, axis=0), random)
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "digits.parquet"
write_file(path, images, random)

# %%
# Two models with ``partial_fit``
# -------------------------------
# Each record batch is converted to an array, passed to ``partial_fit``, and freed.


def batches(path: Path) -> Iterator[np.ndarray]:
    """Yield the rows of a file in batches."""
    for batch in pq.ParquetFile(path).iter_batches(batch_size=ROWS_OF_BATCH):
        yield np.column_stack([column.to_numpy() for column in batch.columns]).astype(np.float32)


def make_models() -> dict[str, Any]:
    """Make both models, unfitted."""
    return {
        "autoencoder": AutoencoderTransformer(N_COMPONENTS, random_state=0),
        "IncrementalPCA": IncrementalPCA(N_COMPONENTS),
    }


@contextmanager
def allowed(megabytes: int) -> Iterator[None]:
    """Limit the growth of this process's private memory, on Linux."""
    status = Path("/proc/self/status")
    if resource is None or not status.exists():
        print("Memory is not limited: this is not Linux.")
        yield
        return
    (used,) = (line.split()[1] for line in status.open() if line.startswith("VmData"))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(used) * 2**10 + megabytes * 2**20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def print_size() -> None:
    """Print the size of the rows, and try to load them all at once."""
    print(f"the file: {path.stat().st_size / 2**20:.0f} MB; its rows in float64: ", end="")
    print(f"{N_ROWS * 64 * 8 / 2**20:.0f} MB; more memory allowed: {ALLOWED_MEGABYTES} MB")
    try:
        np.ones((N_ROWS, 64))
    except MemoryError as error:
        print(f"all rows at once: MemoryError: {error}")


def learn(models: dict[str, Any]) -> dict[str, list[float]]:
    """Train in several passes. Return the explained variance of test rows after each batch."""
    explained: dict[str, list[float]] = {name: [] for name in models}
    for i in range(N_PASSES):
        for rows in batches(path):
            for name, model in models.items():
                model.partial_fit(rows)
                explained[name].append(reconstruction_score(model, new_rows.astype(np.float32)))
        shares = ", ".join(f"{name} {shares[-1]:.3f}" for name, shares in explained.items())
        print(f"explained of new rows after pass {i + 1}: {shares}")
    return explained


# The first batch starts threads and loads libraries; their memory is not part of the limit.
for model in make_models().values():
    reconstruction_score(model.partial_fit(next(batches(path))), new_rows)
models = make_models()
with allowed(ALLOWED_MEGABYTES):
    print_size()
    explained = learn(models)

# %%
# Results
# -------
# IncrementalPCA is at its best after the first batch and does not improve with more rows. The
# autoencoder is better by then, and improves further, also in the second pass.


def draw() -> Figure:
    """Plot explained variance during training, and some test rows with reconstructions."""
    figure = plt.figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.3])
    colours = (AUTOENCODER, INCREMENTAL_PCA)
    for (name, shares), colour in zip(explained.items(), colours, strict=True):
        seen = np.arange(1, len(shares) + 1) * ROWS_OF_BATCH / 1e6
        left.plot(seen, shares, color=colour)
        left.text(seen[-1], shares[-1] - 0.01, name, color=colour, ha="right", va="top")
    for i in range(1, N_PASSES):
        left.axvline(i * N_ROWS / 1e6, color="0.8", linewidth=1, zorder=0)
    left.set(
        ylim=(0.6, 0.9),
        xlabel="rows seen, millions (lines: a new pass)",
        ylabel="explained variance ratio of test rows",
    )
    left.spines[["top", "right"]].set_visible(False)
    draw_digits(right)
    return figure


def draw_digits(axis: Any, n_columns: int = 6) -> None:
    """Show test rows and their reconstructions from eight components."""
    some = new_rows[:: len(new_rows) // n_columns][:n_columns].astype(np.float32)
    blocks = {"new rows": some}
    for name, model in models.items():
        blocks[name] = model.inverse_transform(model.transform(some))
    grid = np.full((len(blocks), 10, n_columns, 10), np.nan)
    images = np.reshape(list(blocks.values()), (len(blocks), n_columns, 8, 8))
    grid[:, 1:-1, :, 1:-1] = images.transpose(0, 2, 1, 3)
    axis.imshow(grid.reshape(10 * len(blocks), 10 * n_columns), cmap="gray_r", vmin=0, vmax=16)
    axis.set(xticks=[], yticks=10 * np.arange(len(blocks)) + 4.5, yticklabels=list(blocks))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(f"reconstructed from {N_COMPONENTS} components")


figure = draw()
folder.cleanup()

# %%
# As a script, this page saves its figure; ``--output`` says where.

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    parser = argparse.ArgumentParser(description="Learn from a file larger than the memory.")
    parser.add_argument("--output", default="streaming.png", help="file of the figure")
    output = parser.parse_args().output
    figure.savefig(output, dpi=150)
    print(f"figure saved to {output}", file=sys.stderr)
