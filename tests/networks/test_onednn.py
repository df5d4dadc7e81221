"""Large products in oneDNN."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
import torch

from skae import AutoencoderTransformer
from skae.networks import MLP, onednn

needs_onednn = pytest.mark.skipif(
    not onednn.has_fast_onednn(), reason="oneDNN has no faster kernels for this processor"
)


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the products in oneDNN, all of which are large."""
    shapes, linear = [], onednn.linear

    def counted(x, weight, bias=None):
        shapes.append((len(x), *weight.shape))
        return linear(x, weight, bias)

    monkeypatch.setattr(onednn, "linear", counted)
    monkeypatch.setattr(onednn, "LARGE_PRODUCT", 100)
    return shapes


@needs_onednn
def test_a_layer_without_gradients_is_the_same_in_onednn(calls):
    mlp, x = (
        MLP([30, 20, 3], "relu", generator=torch.Generator().manual_seed(0)),
        torch.rand(50, 30),
    )
    expected = mlp(x).detach()
    assert not calls  # with gradients
    with torch.inference_mode():
        torch.testing.assert_close(mlp(x), expected, rtol=1e-5, atol=1e-6)
    assert calls == [(50, 20, 30), (50, 3, 20)]


@needs_onednn
@pytest.mark.parametrize(("dtype", "used"), [(np.float32, True), (np.float64, False)])
def test_float32_rows_are_encoded_in_onednn(dtype, used, calls, cancer):
    fitted = AutoencoderTransformer(4, max_epochs=3, random_state=0).fit(cancer)
    calls.clear()
    codes = fitted.transform(cancer.astype(dtype))
    assert bool(calls) == used
    np.testing.assert_allclose(codes, fitted.transform(cancer), rtol=1e-4, atol=1e-4)


@needs_onednn
def test_parts_of_wider_matrices_are_packed():
    """Else a product takes a thousand times longer than that of the same numbers."""
    wide = torch.rand(400, 900, generator=torch.Generator().manual_seed(0))
    x, weight = wide[:, :300], wide[:200, 500:800]
    for each in (x, x.T, weight):
        assert onednn.packed(each).is_contiguous() or onednn.packed(each).T.is_contiguous()
        assert torch.equal(onednn.packed(each), each)
    whole = x.contiguous()
    assert onednn.packed(whole) is whole
    assert onednn.packed(whole.T).data_ptr() == whole.data_ptr()
    expected = x.contiguous() @ weight.contiguous().T
    start = perf_counter()
    found = onednn.linear(x, weight)
    assert perf_counter() - start < 0.5  # 24 million multiplications
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_products_of_many_multiplications_are_large():
    assert onednn.is_large(256, 784, 256)
    assert not onednn.is_large(32, 20, 64)


def test_a_torch_without_this_product_does_without(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    onednn._linear_of_onednn.cache_clear()
    try:
        assert not onednn.has_fast_onednn()
    finally:
        monkeypatch.undo()
        onednn._linear_of_onednn.cache_clear()
