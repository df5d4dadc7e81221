"""The script that measures a GPU runs from end to end on the CPU, so that it is ready for one."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ESTIMATORS

SCRIPT = Path(__file__).parents[1] / "examples" / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The script's process and its records, and the folder in which it ran."""
    folder = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, "-B", SCRIPT, "--device", "cpu", "--quick", "--output", "gpu.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, json.loads((folder / "gpu.json").read_text()), folder


@pytest.fixture
def gpu(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import gpu

    return gpu


@pytest.mark.slow
def test_every_section_is_measured_on_both_devices(finished):
    _, content, _ = finished
    records = content["records"]
    assert list(dict.fromkeys(r["section"] for r in records)) == [
        *("tests", "fits", "defaults", "images", "compare", "search", "tables", "maps"),
        *("conditions", "convolutions", "views", "meshes", "adversarial"),
    ]
    assert not any(record.get("skipped") for record in records)
    for record in records:
        if record["section"] == "tests":
            assert record["passed"]
            assert f"{len(ESTIMATORS)} passed" in record["task"]
        else:
            assert record["cpu_seconds"] > 0
            assert record["device_seconds"] > 0


@pytest.mark.slow
def test_equal_fits_have_equal_quality(finished):
    _, content, _ = finished
    compared = [r for r in content["records"] if "device_quality" in r and r["section"] != "images"]
    assert len(compared) == 11
    for record in compared:
        assert record["device_quality"] == pytest.approx(record["cpu_quality"], abs=1e-6)


@pytest.mark.slow
def test_one_table_is_printed_and_only_the_output_is_written(finished):
    done, content, folder = finished
    assert done.stdout.count("Processor and cpu") == 1
    assert all(record["task"] in done.stdout for record in content["records"])
    assert os.listdir(folder) == ["gpu.json"]


@pytest.mark.skipif(not hasattr(time, "CLOCK_MONOTONIC"), reason="needs alarms of Unix")
def test_a_section_ends_when_its_time_is_used_up(gpu, monkeypatch, capsys):
    def run(args, records):
        records.append({"task": "done before"})
        time.sleep(30)

    monkeypatch.setitem(gpu.SECTIONS, "fits", (0.05, run))
    start = time.perf_counter()
    records = gpu.run_section("fits", 100.0, argparse.Namespace())
    assert time.perf_counter() - start < 20
    assert [record["task"] for record in records] == [
        "done before",
        "the rest is skipped: time used up",
    ]
    assert "skipped" in capsys.readouterr().out


def test_no_section_starts_after_the_limit(gpu):
    (record,) = gpu.run_section("defaults", 0.0, argparse.Namespace())
    assert record["skipped"]


def test_all_sections_together_end_in_eight_minutes(gpu):
    assert sum(seconds for seconds, _ in gpu.SECTIONS.values()) <= gpu.LIMIT < 8 * 60


def test_an_absent_device_is_an_error_of_the_command_line(gpu, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cuda:99"])
    with pytest.raises(SystemExit) as error:
        gpu.parse_arguments()
    assert error.value.code == 2
    assert "absent on this machine" in capsys.readouterr().err
