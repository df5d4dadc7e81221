"""Peak memory and imports, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ESTIMATORS, name_of, takes_tables

pytestmark = pytest.mark.slow  # a process each, which imports torch

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
"""
SMALL = """
small = AutoencoderTransformer(4, **quick).fit(np.random.default_rng(0).normal(size=(99, 20)))
"""
on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def run_script(code, *arguments):
    """Output and errors of a script."""
    result = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


def run(code, *arguments):
    """Output of a script, as one integer a line."""
    return [int(line) for line in run_script(SMALL + code, *arguments)[0].split()]


# Every kind in a process of its own, forked from one that has imported everything.
OPTIONS = {
    "ConvolutionalAutoencoder": {"image_shape": "row", "channels": 2, "patch_size": 8},
    "MeshAutoencoder": {"edges": "path", "n_clusters": 16, "n_channels": 2},
}
EACH_KIND = f"OPTIONS = {OPTIONS}"
EACH_KIND += """
import os
import traceback
from functools import partial
import skae
def each(names, function):
    for name in names:
        sys.stdout.flush()
        if child := os.fork():
            os.waitpid(child, 0)
            continue
        try:
            make = partial(getattr(skae, name), **OPTIONS.get(name, {}))
            print(name, *map(int, function(make)), flush=True)
        except BaseException:
            print(name, traceback.format_exc(), file=sys.stderr, flush=True)
        finally:
            os._exit(0)
"""


def run_each(code, *arguments, kinds=ESTIMATORS):
    """What a script prints for every kind: integers, by the kind's name."""
    names = [name_of(kind) for kind in kinds]
    output, errors = run_script(EACH_KIND + code, *arguments, *names)
    found = {name: list(map(int, values)) for name, *values in map(str.split, output.splitlines())}
    assert found.keys() == set(names), errors
    return found


@on_linux
def test_inference_on_any_number_of_rows_adds_bounded_memory():
    added = run("""
X = np.zeros((500_000, 20), dtype=np.float32)
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
    assert max(added) < 50 * MEGABYTE


@on_linux
def test_a_fit_adds_one_float32_copy_of_an_array():
    (added,) = run("""
X = np.random.default_rng(0).normal(size=(300_000, 50)).astype(np.float32)
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = status("VmRSS")
AutoencoderTransformer(8, **quick).fit(X)
print(status("VmHWM") - before - X.nbytes)
""")
    assert added < 90 * MEGABYTE


# Private memory of the process may grow by so much and no further.
ALLOWANCE = """
import resource
def allow(megabytes):
    limit = status("VmData") + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
"""


@on_linux
def test_a_memory_map_longer_than_the_memory_is_fitted(tmp_path):
    path, n_rows = tmp_path / "rows.npy", 1_000_000  # 160 MB in float32
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=(n_rows, 40))
    some = np.random.default_rng(0).normal(20, 20, size=(n_rows // 100, 40)).astype(np.int8)
    for start in range(0, n_rows, len(some)):
        X[start : start + len(some)] = some
    X.flush()
    described = run_each(
        ALLOWANCE
        + """
def is_described(kind):
    X = np.load(sys.argv[1], mmap_mode="r")
    allow(150)
    # A map needs the distances between all rows: of a million rows they would take hours.
    no_map = {"neighbor_weight": 0} if kind.func is skae.NeighborAutoencoder else {}
    fitted = kind(2, batch_size=5000, **quick, **no_map).fit(X)
    variances = fitted.explained_variance_
    found = fitted.transform(X[:100_000]).var(axis=0)
    # After so few epochs, 8,192 rows describe a network: 1.6 % is a standard error.
    yield np.allclose(found, variances, rtol=0.05, atol=1e-6 * variances.max())
each(sys.argv[2:], is_described)
""",
        path,
    )
    assert all(values == [1] for values in described.values()), described


@on_linux
def test_a_sparse_matrix_is_never_made_dense_at_once():
    code = """
from scipy import sparse
random, n_rows = np.random.default_rng(0), 4_000
columns = random.integers(0, 8_000, 40 * n_rows)  # half a percent
ends = np.arange(0, len(columns) + 1, 40)
X = sparse.csr_array((random.normal(size=len(columns)), columns, ends), shape=(n_rows, 8_000))
def added_and_whether_codes_agree(kind):
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    fitted = kind(8, **quick).fit(X)
    fitted.score(X[:1000])
    yield status("VmHWM") - before
    yield np.allclose(fitted.transform(X[:9]), fitted.transform(X[:9].toarray()))
each(sys.argv[1:], added_and_whether_codes_agree)
"""
    found = run_each(code, kinds=filter(takes_tables, ESTIMATORS))
    assert all(added < 8 * 4_000 * 8_000 for added, _ in found.values()), found
    assert all(agree for _, agree in found.values()), found


def test_neither_import_nor_fit_imports_torchs_compiler():
    (n_modules,) = run("""
X = np.random.default_rng(0).normal(size=(500, 3)) ** 3
for optimizer in ("adam", "adamw"):
    options = {"early_stopping": False, "max_epochs": 2, "optimizer": optimizer}
    AutoencoderTransformer(2, **options).fit(X).score_samples(X)
print(sum(name.split(".")[0] == "sympy" or name == "torch._dynamo" for name in sys.modules))
""")
    assert n_modules == 0
