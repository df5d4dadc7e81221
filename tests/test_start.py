"""The two paths of the page "Getting started", followed as a reader follows them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "start.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUICK = ["--n-components", "2", "--cv", "2", "--kind", "autoencoder", "--n-jobs", "1", "--quiet"]
LEAN = "\nimport sys\nassert not {'skae', 'torch'} & sys.modules.keys()\n"


def test_every_script_of_the_gallery_is_listed():
    scripts = {path.name for path in (PAGE.parents[1] / "examples").glob("plot_*.py")}
    assert set(re.findall(r"\[(plot_\w+\.py)\]", PAGE.read_text(encoding="utf-8"))) == scripts


def blocks_of(title):
    """Language and text of each block of a section."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    return BLOCK.findall(rest.partition("\n## ")[0])


def run_in(folder, *arguments):
    """Run Python in a process of its own."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_from_a_csv_file_to_a_report_and_codes(tmp_path):
    pytest.importorskip("matplotlib")
    (_, write), (language, command), (_, compress) = blocks_of("I have a CSV file")
    run_in(tmp_path, "-c", write)
    table = pd.read_csv(tmp_path / "table.csv")
    assert language == "console"
    python, *arguments = command.split()
    assert python == "python"
    shown = run_in(tmp_path, *arguments, *QUICK)
    assert "PCA" in shown.splitlines()[0]
    assert "raw columns" in shown
    assert "accuracy" in (tmp_path / "report.html").read_text(encoding="utf-8")
    run_in(tmp_path, "-c", compress)
    assert pd.read_csv(tmp_path / "codes.csv").shape == (len(table), 2)
    filled = pd.read_csv(tmp_path / "without_gaps.csv")
    pd.testing.assert_frame_equal(filled, table.drop(columns="target"))


@pytest.mark.slow
def test_from_a_pipeline_to_a_machine_without_skae(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    *here, (_, there) = blocks_of("I have a Pipeline")
    assert len(here) == 4
    shown = run_in(tmp_path, "-c", "".join(code for _, code in here)).splitlines()
    assert float(shown[0]) > 0.9
    assert "reduce" in shown[-2]
    assert shown[-1] == "True"
    assert {"model.joblib", "reducer.onnx"} <= {path.name for path in tmp_path.iterdir()}
    share = float(run_in(tmp_path, "-c", there + LEAN))
    assert share == pytest.approx(1, abs=1 / len(np.load(tmp_path / "expected.npy")))
