"""The package: what is installed, and that the versions it asks for are those that are tested."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import skae

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
UNTESTED = {"dev", "docs", "tables"}  # extras of people who work on skae, in any version


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def lower_bounds(requirements):
    """Least version of each package, by its name."""
    bounded = [r for r in requirements if ">=" in r]
    return {name_of(r): re.search(r">=([\d.]+)", r)[1] for r in bounded}


def pinned(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {name_of(package): version for package, version in pairs}


def release(version):
    """Numbers of a version, without zeros at its end."""
    numbers = [int(number) for number in version.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return numbers


def test_lower_bounds_are_the_oldest_tested_versions():
    tested = [r for extra, group in EXTRAS.items() if extra not in UNTESTED for r in group]
    bounds = lower_bounds([*PROJECT["dependencies"], *tested])
    oldest = pinned("constraints-oldest.txt")
    assert bounds.keys() <= oldest.keys()
    assert {n for n, least in bounds.items() if release(oldest[n]) != release(least)} == set()


def test_one_package_has_one_lower_bound():
    for name, least in lower_bounds(PROJECT["dependencies"]).items():
        assert {lower_bounds(group).get(name, least) for group in EXTRAS.values()} == {least}
    for name in {name_of(r) for group in EXTRAS.values() for r in group} - {"skae", "numpy"}:
        found = {lower_bounds(group).get(name) for group in EXTRAS.values()} - {None}
        assert len(found) == 1, name


def test_pinned_versions_lie_within_the_bounds():
    versions = pinned("constraints.txt")
    for name, least in lower_bounds(PROJECT["dependencies"]).items():
        assert release(versions[name]) >= release(least)


def test_the_public_types_are_marked():
    assert (Path(skae.__file__).parent / "py.typed").exists()


def test_the_wheel_holds_the_package_and_nothing_else():
    files = metadata.files("skae")
    if any(path.suffix == ".pth" for path in files):
        pytest.skip("skae is installed in place; .ci/matrix installs the wheel")
    inside = [path for path in files if "dist-info" not in path.parts[0]]
    inside = [path for path in inside if path.suffix != ".pyc"]
    assert {path.parts[0] for path in inside} == {"skae"}
    others = {path.as_posix() for path in inside if path.suffix != ".py"}
    assert others == {"skae/py.typed", "skae/_model_selection/report.html"}
    about = metadata.metadata("skae")
    assert about["Version"] == skae.__version__
    assert set(about.get_all("Provides-Extra")) == EXTRAS.keys()
