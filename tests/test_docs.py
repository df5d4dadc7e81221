"""Everything printed in README, docs and docstrings runs; every public name is explained."""

from __future__ import annotations

import doctest
import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import pytest
from conftest import ESTIMATORS, make_fast, name_of

import skae
from skae import AutoencoderImputer, ConditionalVAE, TableAutoencoder
from skae.__main__ import _make_parser

ROOT = Path(__file__).parents[1]
MODULES = ["skae", *(module.name for module in walk_packages(skae.__path__, "skae."))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCES = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INLINE_COMMAND = re.compile(r"`(python [^`]+)`")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name):
    assert doctest.testmod(import_module(name)).failed == 0


def run_where_arrays_are_followed(code):
    pytest.importorskip("array_api_compat")
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.slow
@each_page
def test_code_on_a_page_runs(page, tmp_path, monkeypatch):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    if any("matplotlib" in block for block in blocks):
        pytest.importorskip("matplotlib").use("Agg")
    if any("dask.distributed" in block for block in blocks):
        pytest.importorskip("distributed")
    if any("array_api_dispatch" in block for block in blocks):
        run_where_arrays_are_followed("".join(blocks))
        return
    monkeypatch.chdir(tmp_path)
    main = ModuleType("__main__")  # where pickle looks for classes that a page defines
    monkeypatch.setitem(sys.modules, "__main__", main)
    for i, block in enumerate(blocks):
        exec(compile(block, f"{page.name}, block {i + 1}", "exec"), vars(main))


def python_commands(page):
    """Arguments of each call of python, in a block or in a line of a page."""
    text = page.read_text(encoding="utf-8")
    lines = "".join(COMMANDS.findall(text)).replace("\\\n", " ").splitlines()
    calls = [call for line in lines for call in line.split(" && ")]
    calls += [" ".join(call.split()) for call in INLINE_COMMAND.findall(FENCES.sub("", text))]
    words = [shlex.split(call, comments=True) for call in calls]
    return [each[each.index("python") + 1 :] for each in words if "python" in each]


@each_page
def test_commands_on_a_page_name_scripts_and_options_that_exist(page):
    for words in python_commands(page):
        if words[:3] == ["-m", "skae", "compare"]:
            if not words[3:] or "--help" in words:  # the command's name alone
                continue
            _make_parser().parse_args(words[2:])
        elif words[0].endswith(".py"):
            source = (ROOT / words[0]).read_text(encoding="utf-8")
            options = [word for word in words if word.startswith("-")]
            assert [option for option in options if f'"{option}"' not in source] == [], words


@each_page
def test_links_on_a_page_lead_somewhere(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


SCRIPTS = [p for p in (ROOT / "examples").rglob("*.py") if ".savefig(" in p.read_text("utf-8")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_says_where_its_figure_is(script):
    """The statement after each `savefig` prints the path to the standard error."""
    source = script.read_text(encoding="utf-8")
    saved = re.findall(r"\.savefig\(([^\n]+), dpi=\d+\)\n +(.*)\n", source)
    assert len(saved) == source.count(".savefig(")
    for path, after in saved:
        assert re.fullmatch(r'print\(f"figure saved to \{(.+)\}", file=sys\.stderr\)', after)
        assert path in after


def test_the_readme_has_code_and_stays_short():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert BLOCK.findall(readme)
    assert len(readme.splitlines()) <= 120


# -- docstrings --------------------------------------------------------------------


def functions_and_classes():
    """Every function and class without underscore that a module of skae defines."""
    for name in MODULES:
        for label, thing in vars(import_module(name)).items():
            own = getattr(thing, "__module__", None) == name
            if own and not label.startswith("_") and callable(thing):
                yield thing


def label_of(thing):
    return f"{thing.__module__}.{thing.__qualname__}"


def sections(thing):
    """Text of each section of a numpydoc docstring, by its title."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-+\n", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    return {"Summary": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def explained(section):
    """Names that a section explains: those at the start of a line."""
    heads = re.findall(r"^(\S[^:\n]*)(?: : .*)?$", section, flags=re.MULTILINE)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def parameters_of(thing):
    return [name for name in inspect.signature(thing).parameters if name not in ("self", "args")]


def takes_parameters(thing):
    """Whether it is a function, or a class with a constructor of its own, no protocol."""
    own = "__init__" in vars(thing) and not getattr(thing, "_is_protocol", False)
    return own or not inspect.isclass(thing)


ALL = list(functions_and_classes())


def is_public(thing):
    """Whether users import it: no part of its module's name begins with an underscore."""
    return not any(part.startswith("_") for part in thing.__module__.split("."))


PUBLIC = [thing for thing in ALL if is_public(thing)]


def says_what_it_is(thing):
    """Whether the docstring begins with a sentence."""
    summary = sections(thing)["Summary"].strip().splitlines()
    return bool(summary) and summary[0].endswith((".", ":"))


def unexplained_parameters(thing):
    return set(parameters_of(thing)) - explained(sections(thing).get("Parameters", ""))


def explains_its_result(function):
    returned = inspect.signature(function).return_annotation
    context = inspect.isgeneratorfunction(inspect.unwrap(function))  # a `with` that yields nothing
    return context or returned in (None, "None") or sections(function).get("Returns", "").strip()


def test_every_name_says_what_it_is():
    assert [label_of(thing) for thing in ALL if not says_what_it_is(thing)] == []


def test_every_parameter_is_explained():
    missing = {label_of(t): unexplained_parameters(t) for t in PUBLIC if takes_parameters(t)}
    assert {label: names for label, names in missing.items() if names} == {}


def test_references_are_given_where_they_are_cited_and_not_in_summaries():
    for thing in PUBLIC:
        text = inspect.getdoc(thing) or ""
        cited = set(re.findall(r"\[(\d+)\]_", text))
        assert cited <= set(re.findall(r"^\.\. \[(\d+)\]", text, flags=re.MULTILINE)), thing
        assert not re.search(r"\[\d+\]_", text.split("\n\n")[0]), thing


def test_every_result_is_explained():
    functions = [thing for thing in PUBLIC if inspect.isfunction(thing)]
    assert [label_of(f) for f in functions if not explains_its_result(f)] == []


@pytest.mark.parametrize("estimator", [*ESTIMATORS, TableAutoencoder()], ids=name_of)
def test_every_method_of_an_estimator_is_explained(estimator):
    methods = {
        label: function
        for label, function in inspect.getmembers(type(estimator), inspect.isfunction)
        if not label.startswith("_") and function.__module__.startswith("skae")
    }
    assert {"fit", "transform", "inverse_transform", "reconstruct", "score"} <= methods.keys()
    for function in methods.values():
        text = sections(function)
        assert set(parameters_of(function)) <= explained(text.get("Parameters", ""))
        assert text["Returns"].strip()


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_every_fitted_attribute_is_explained(estimator, wine):
    fitted = make_fast().fit(wine)
    attributes = {name for name in vars(fitted) if name.endswith("_") and name[0] != "_"}
    text = sections(type(estimator))
    assert attributes <= explained(text["Attributes"])
    assert {"Examples", "References", "See Also"} <= text.keys()


@pytest.mark.parametrize(
    "estimator",
    [*ESTIMATORS, TableAutoencoder(), AutoencoderImputer(), ConditionalVAE()],
    ids=name_of,
)
def test_documented_defaults_are_the_defaults(estimator):
    text = sections(type(estimator))["Parameters"]
    documented = dict(re.findall(r"^(\w+) : .*default=(\S+)$", text, flags=re.MULTILINE))
    signature = inspect.signature(type(estimator)).parameters
    assert documented.keys() == signature.keys()
    for name, parameter in signature.items():
        shown = documented[name].strip('"')
        default = parameter.default
        same = float(shown) == default if isinstance(default, float) else shown == str(default)
        assert same, name


def test_the_table_of_contents_is_true():
    assert all(hasattr(skae, name) for name in skae.__all__)
    assert len(set(skae.__all__)) == len(skae.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", skae.__version__)
