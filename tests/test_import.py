"""Names of the package are loaded when they are first used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skae

LIBRARIES = "torch", "sklearn", "scipy", "skorch", "pandas", "numpy", "matplotlib"


def run(code):
    """Output of code in a new process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_loads_no_library():
    loaded = f"[name for name in {LIBRARIES} if name in sys.modules]"
    assert run(f"import sys, skae; print({loaded}, skae.__version__)") == f"[] {skae.__version__}"


def test_a_name_loads_what_it_needs_and_no_more():
    loaded = "[m for m in ('skae._model_selection.compare', 'matplotlib') if m in sys.modules]"
    assert run(f"import sys; from skae import AutoencoderTransformer; print({loaded})") == "[]"


@pytest.mark.slow
def test_all_names_are_listed_before_they_are_loaded_and_imported_by_a_star():
    listed, imported = run(
        "import skae; listed = dir(skae); from skae import *; "
        "print(*listed, sep=','); print(*dir(), sep=',')"
    ).splitlines()
    assert set(skae.__all__) <= set(listed.split(","))
    assert set(skae.__all__) <= set(imported.split(","))


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'skae' has no attribute 'Autoencoder'"):
        skae.Autoencoder  # noqa: B018


def test_type_checkers_see_the_names_that_are_loaded():
    tree = ast.parse(Path(skae.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = {alias.name: node.module for node in block.body for alias in node.names}
    modules = {name: f"skae.{module}" for name, module in skae._MODULES.items()}
    assert names == dict.fromkeys(skae._SUBMODULES, "skae") | modules
    assert set(skae.__all__) <= set(names)
