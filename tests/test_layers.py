"""DESIGN.md section 3, enforced by reading the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import skae

ROOT = Path(skae.__file__).parent
# A module may import only from lower floors, never from its own.
FLOORS = {
    "_version": 0,
    "_array_api": 0,
    "_validation": 2,
    "_docstrings": 0,
    "networks": 0,
    "_sparse_networks": 2,
    "noise": 0,
    "densities": 0,
    "_running": 0,
    "_threads": 0,
    "_frames": 0,
    "_moments": 5,
    "_persistence": 5,
    "_heads": 3,
    "_blueprints": 5,
    "_maps": 5,
    "_rows": 5,
    "_batches": 8,
    "losses": 10,
    "_gradients": 15,
    "_optimization": 15,
    "_linear_optimum": 15,
    "_callbacks": 18,
    "_engine": 20,
    "_together": 22,
    "_training": 25,
    "_targets": 26,
    "_spreading": 26,
    "_dimension": 27,
    "_coding": 27,
    "_description": 28,
    "_sampling": 28,
    "_streaming": 28,
    "_fine_tuning": 29,
    "_base": 30,
    "_autoencoder": 40,
    "_vae": 40,
    "_denoising": 50,
    "_sparse": 50,
    "_stacked": 50,
    "_supervised": 55,
    "_drawing": 56,
    "_display_codes": 58,
    "_display_curves": 58,
    "_display_grid": 58,
    "_display_rows": 58,
    "_display_search": 58,
    "displays": 60,
    "metrics": 60,
    "_search_rules": 60,
    "_search_fits": 62,
    "_dimension_search": 64,
    "export": 60,
    "_verdict": 60,
    "_report": 60,
    "_comparison": 63,
    "_compare": 65,
    "__init__": 70,
    "_table": 75,
    "__main__": 80,
}
FILES = sorted(ROOT.rglob("*.py"))
GLOBAL_STATE = {
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.seed",
    "np.random.seed",
    "numpy.random.seed",
    "np.random.set_state",
    "random.seed",
    "torch.set_default_dtype",
    "torch.set_default_device",
    "torch.use_deterministic_algorithms",
    "os.environ",
    "os.putenv",
}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(nodes):
    """Full names of everything that import statements name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(path):
    """Modules of skae that a file imports."""
    for name in imported_modules(ast.walk(tree_of(path))):
        if name.split(".")[0] == "skae":
            yield name.split(".")[1]


def test_every_file_has_a_room():
    assert {path.relative_to(ROOT).as_posix() for path in FILES} == {f"{m}.py" for m in FLOORS}


@each_file
def test_imports_are_absolute(path):
    relative = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.ImportFrom) and n.level]
    assert not relative


@each_file
def test_imports_go_down_only(path):
    not_below = [r for r in imported_rooms(path) if FLOORS[r] >= FLOORS[path.stem]]
    assert not not_below


@each_file
def test_only_the_engine_and_its_callbacks_import_skorch(path):
    tops = {name.split(".")[0] for name in imported_modules(ast.walk(tree_of(path)))}
    assert ("skorch" in tops) == (path.stem in {"_callbacks", "_engine", "_together"})


@each_file
def test_matplotlib_is_not_imported_at_the_top(path):
    tops = {name.split(".")[0] for name in imported_modules(tree_of(path).body)}
    assert "matplotlib" not in tops


@each_file
def test_global_state_is_left_alone(path):
    dotted = {ast.unparse(n) for n in ast.walk(tree_of(path)) if isinstance(n, ast.Attribute)}
    assert not dotted & GLOBAL_STATE


@pytest.mark.parametrize(
    ("module", "admitted"),
    [
        ("metrics", set()),
        ("export", {"_as_module", "__name__"}),
        ("_drawing", set()),
        *((path.stem, {"__name__"}) for path in sorted(ROOT.glob("_display_*.py"))),
        ("_compare", {"__name__"}),
    ],
)
def test_public_modules_use_estimators_by_their_public_methods(module, admitted):
    """L6 reads nothing private of an estimator, save for the one method that export needs."""
    private = {
        node.attr
        for node in ast.walk(tree_of(ROOT / f"{module}.py"))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_")
    }
    assert private == admitted
