"""Imports of optional packages."""

from __future__ import annotations

import pytest

from skae._data.optional_imports import import_optional


def test_a_missing_optional_module_names_its_extra():
    with pytest.raises(ImportError, match=r"no_such_module.*skae\[plot\]"):
        import_optional("no_such_module", extra="plot")


def test_a_present_optional_module_is_returned():
    assert import_optional("json", extra="plot").loads("1") == 1
