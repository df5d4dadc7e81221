"""Checks of rows and codes."""

from __future__ import annotations

import numpy as np
import pytest

from skae._data.input_checks import check_codes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_of_either_precision_pass_through(dtype):
    Z = np.ones((3, 2), dtype=dtype)
    assert check_codes(Z, 2) is Z


def test_codes_of_integers_become_floats():
    assert check_codes([[1, 2]], 2).dtype == np.float64


def test_codes_of_a_wrong_width_say_both_widths():
    with pytest.raises(ValueError, match=r"3 columns.*n_components_=2"):
        check_codes(np.ones((1, 3)), 2)
