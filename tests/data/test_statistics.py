"""Explained variance and significant gains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skae._data.statistics import explained_share
from skae._training.validation_split import is_better


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_better_by_so_many_standard_errors(kind):
    baseline = kind([1.0, 2.0, 3.0, 4.0])
    gains = kind([0.2, 0.4, 0.2, 0.4])  # mean 0.3, standard error 0.05
    assert is_better(baseline - gains, baseline, n_standard_errors=5.9)
    assert not is_better(baseline - gains, baseline, n_standard_errors=6.1)
    assert not is_better(baseline + gains, baseline, n_standard_errors=0)
    assert not is_better(baseline, baseline, n_standard_errors=1)


def test_explained_share():
    assert explained_share(1.0, 4.0) == 0.75
    assert explained_share(0.0, 0.0) == 1.0
    assert explained_share(1.0, 0.0) == 0.0
