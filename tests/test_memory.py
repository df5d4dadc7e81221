"""Peak memory and imports, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MEGABYTE = 2**20
PROLOGUE = """
import sys
import numpy as np
from skae import AutoencoderTransformer
def status(field):
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024
quick = {"hidden_layer_sizes": 16, "max_epochs": 1, "random_state": 0}
small = AutoencoderTransformer(4, **quick).fit(np.random.default_rng(0).normal(size=(99, 20)))
"""
on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def run(code, *arguments):
    """Output of a script, as one integer a line."""
    result = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [int(line) for line in result.stdout.split()]


@on_linux
def test_inference_on_any_number_of_rows_adds_bounded_memory():
    added = run("""
X = np.zeros((1_000_000, 20), dtype=np.float32)
X += 1  # resident now
for run in (small.transform, small.reconstruct, small.reconstruction_error, small.score):
    before = status("VmRSS")
    result = run(X)
    print(max(0, status("VmHWM") - before - getattr(result, "nbytes", 0)))
    del result
Z = small.transform(X)
before = max(status("VmRSS"), status("VmHWM"))
result = small.inverse_transform(Z)
print(max(0, status("VmHWM") - before - result.nbytes))
""")
    assert len(added) == 5
    assert max(added) < 100 * MEGABYTE


@on_linux
def test_a_fit_adds_one_float32_copy_of_a_memory_map(tmp_path):
    path, n_rows = tmp_path / "rows.npy", 500_000
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, 50))
    X[:] = np.random.default_rng(0).normal(size=(n_rows, 50))
    X.flush()
    (added,) = run(
        """
X = np.load(sys.argv[1], mmap_mode="r")
before = status("VmRSS")
AutoencoderTransformer(8, **quick).fit(X)
print(status("VmHWM") - before - 2 * X.nbytes)  # the pages that were read count too
""",
        path,
    )
    assert added < 150 * MEGABYTE


def test_neither_import_nor_fit_imports_torchs_compiler():
    (n_modules,) = run("""
X = np.random.default_rng(0).normal(size=(500, 3)) ** 3
trained = AutoencoderTransformer(2, early_stopping=False, max_epochs=2).fit(X)
trained.score_samples(X)
print(sum(name.split(".")[0] == "sympy" or name == "torch._dynamo" for name in sys.modules))
""")
    assert n_modules == 0
