"""Peak memory and imports, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ESTIMATORS, name_of

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
def test_a_fit_adds_one_float32_copy_of_an_array():
    (added,) = run("""
X = np.random.default_rng(0).normal(size=(500_000, 50)).astype(np.float32)
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = status("VmRSS")
AutoencoderTransformer(8, **quick).fit(X)
print(status("VmHWM") - before - X.nbytes)
""")
    assert added < 150 * MEGABYTE


# Private memory of the process may grow by so much and no further.
ALLOWANCE = """
import resource
def allow(megabytes):
    limit = status("VmData") + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
"""


@on_linux
@pytest.mark.parametrize("kind", ESTIMATORS, ids=name_of)
def test_a_memory_map_longer_than_the_memory_is_fitted(kind, tmp_path):
    path, n_rows = tmp_path / "rows.npy", 2_000_000  # 320 MB in float32
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=(n_rows, 40))
    some = np.random.default_rng(0).normal(20, 20, size=(n_rows // 100, 40)).astype(np.int8)
    for start in range(0, n_rows, len(some)):
        X[start : start + len(some)] = some
    X.flush()
    (described,) = run(
        ALLOWANCE
        + """
import skae
X = np.load(sys.argv[1], mmap_mode="r")
allow(300)
kind = getattr(skae, sys.argv[2])(2, batch_size=5000, **quick).fit(X)
codes = kind.transform(X[:100_000])
variances = kind.explained_variance_
print(int(np.allclose(codes.var(axis=0), variances, rtol=1e-3, atol=1e-6 * variances.max())))
""",
        path,
        name_of(kind),
    )
    assert described


@on_linux
@pytest.mark.parametrize(("kind", "n_rows"), [(kind, 5_000) for kind in ESTIMATORS], ids=str)
def test_a_sparse_matrix_is_never_made_dense_at_once(kind, n_rows):
    added, agree = run(
        """
import skae
from scipy import sparse
random, n_rows = np.random.default_rng(0), int(sys.argv[2])
columns = random.integers(0, 10_000, 50 * n_rows)  # half a percent
ends = np.arange(0, len(columns) + 1, 50)
X = sparse.csr_array((random.normal(size=len(columns)), columns, ends), shape=(n_rows, 10_000))
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
kind = getattr(skae, sys.argv[1])(8, **quick).fit(X)
score = kind.score(X[:1000])
print(status("VmHWM") - before)
print(int(np.allclose(kind.transform(X[:9]), kind.transform(X[:9].toarray()))))
""",
        name_of(kind),
        n_rows,
    )
    assert added < 400 * MEGABYTE
    assert agree


def test_neither_import_nor_fit_imports_torchs_compiler():
    (n_modules,) = run("""
X = np.random.default_rng(0).normal(size=(500, 3)) ** 3
trained = AutoencoderTransformer(2, early_stopping=False, max_epochs=2).fit(X)
trained.score_samples(X)
print(sum(name.split(".")[0] == "sympy" or name == "torch._dynamo" for name in sys.modules))
""")
    assert n_modules == 0
