"""`DenoisingAutoencoder`: encodes corrupted rows and reconstructs clean ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import assert_close, fast
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from torch import nn

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae._training.gradients import NUMPY, TORCH, AutogradGradient, ClosedFormGradient
from skae._training.optimizers import FlatParameters
from skae.losses import LOSSES, Emphasised, Objective
from skae.networks import MLP, Autoencoder, Output
from skae.noise import NOISES


def make(**params):
    return fast(DenoisingAutoencoder(random_state=0), **params)


class Shift(nn.Module):
    """Noise module of a user, which draws from the global generator."""

    def forward(self, x):
        return x + 0.3 * torch.randn(1) if self.training else x


def error(reconstructed, X):
    return np.square(reconstructed - X).sum()


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n_rows", [20, 100, 569])
def test_level_zero_is_the_plain_autoencoder_bit_for_bit(cancer, noise, n_rows):
    same = {"n_components": 3, "random_state": 1, "stochastic_depth": 0.6}
    plain = fast(AutoencoderTransformer(**same)).fit(cancer[:n_rows])
    zero = make(**same, noise=noise, noise_level=0).fit(cancer[:n_rows])
    np.testing.assert_array_equal(zero.transform(cancer), plain.transform(cancer))
    np.testing.assert_array_equal(zero.components_, plain.components_)


@pytest.mark.parametrize(("noise", "level"), [("gaussian", 0.5), ("masking", 0.3)])
def test_corrupted_digits_are_reconstructed_far_better_than_by_pca(digits, noise, level):
    train, test = digits[:1300], digits[1300:]
    random = np.random.default_rng(0)
    if noise == "gaussian":
        corrupted = test + level * train.std(axis=0) * random.normal(size=test.shape)
    else:
        corrupted = np.where(random.random(test.shape) < level, train.mean(axis=0), test)
    pca = PCA(10).fit(train)
    denoiser = DenoisingAutoencoder(
        10, noise=noise, noise_level=level, max_epochs=100, random_state=0
    ).fit(train)
    of_pca = error(pca.inverse_transform(pca.transform(corrupted)), test)
    assert error(denoiser.denoise(corrupted), test) < 0.65 * of_pca


def test_denoising_is_reconstructing(cancer):
    fitted = make().fit(cancer)
    np.testing.assert_array_equal(fitted.denoise(cancer), fitted.reconstruct(cancer))


def test_encoding_is_free_of_noise(cancer):
    fitted = make(noise_level=0.5).fit(cancer)
    np.testing.assert_array_equal(fitted.transform(cancer), fitted.transform(cancer))


@pytest.mark.parametrize("noise", [*NOISES, Shift()], ids=str)
def test_the_users_rows_are_not_written_to(noise):
    X = load_wine().data
    before = X.copy()
    X.setflags(write=False)
    make(noise=noise).fit(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("noise", [*NOISES, Shift()], ids=str)
def test_one_random_state_gives_the_same_bits(cancer, noise):
    before = torch.get_rng_state()
    codes = [make(noise=noise).fit_transform(cancer) for _ in range(2)]
    np.testing.assert_array_equal(*codes)
    assert torch.equal(torch.get_rng_state(), before)
    assert not np.array_equal(codes[0], make(noise=noise, random_state=1).fit_transform(cancer))


def test_a_linear_denoiser_is_trained_since_pca_is_not_its_optimum(cancer):
    train, test = cancer[:400], cancer[400:]
    corrupted = test + np.random.default_rng(0).normal(size=test.shape)
    pca = PCA(10).fit(train)
    linear = make(
        n_components=10,
        hidden_layer_sizes=(),
        noise="gaussian",
        noise_level=1.0,
        max_epochs=50,
        early_stopping=False,
    ).fit(train)
    of_pca = error(pca.inverse_transform(pca.transform(corrupted)), test)
    assert error(linear.denoise(corrupted), test) < 0.9 * of_pca


def test_all_weights_are_validated_on_the_same_corruption(cancer):
    fitted = make(max_epochs=4, lr=1e-30, anchor=None).fit(np.repeat(cancer, 2, axis=0))
    assert np.ptp(fitted.validation_loss_curve_) < 1e-6


def test_equal_rows_stay_equal():
    X = np.ones((50, 4))
    with pytest.warns(match="no variance"):
        fitted = make(noise="gaussian").fit(X)
    np.testing.assert_allclose(fitted.reconstruct(X), X)


def test_a_module_of_ones_own_is_copied_and_not_moved_to_the_model(cancer):
    noise = nn.Dropout(0.5)
    fitted = make(noise=noise).fit(cancer)
    assert fitted.noise is noise
    assert fitted.net_.noise is None
    assert not hasattr(fitted.net_, "noise_")


# -- parts -------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [NUMPY, TORCH], ids=["numpy", "torch"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_closed_form_encodes_corrupted_rows_and_compares_with_clean_ones(loss, backend):
    generator = torch.Generator().manual_seed(0)
    network = Autoencoder(
        MLP([6, 8, 3], generator=generator), MLP([3, 8, 6], generator=generator)
    ).double()
    x, corrupted = torch.rand(2, 32, 6, generator=generator, dtype=torch.float64)
    objective = Objective({"reconstruction": LOSSES[loss]})
    flat = FlatParameters(network)
    expected = AutogradGradient(network, objective, flat.gradient)(x, corrupted)
    grad = flat.gradient.clone()
    written = ClosedFormGradient(network, objective, backend)(x, corrupted)
    assert float(written["loss"]) == pytest.approx(float(expected["loss"]))
    torch.testing.assert_close(flat.gradient, grad)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_emphasis_weighs_the_corrupted_entries(loss):
    term = LOSSES[loss]
    generator = torch.Generator().manual_seed(0)
    x, made = torch.randn(2, 5, 4, generator=generator)
    corrupted = torch.rand(5, 4, generator=generator) < 0.5
    output = Output(made, made[:, :2], corrupted)
    elsewhere = term(Output(torch.where(corrupted, x, made), made), x)
    there = term(Output(torch.where(corrupted, made, x), made), x)
    torch.testing.assert_close(Emphasised(term, 3.0)(output, x), elsewhere + 3 * there)
    torch.testing.assert_close(Emphasised(term, 3.0)(Output(made, made), x), term(output, x))


def test_emphasis_one_is_no_emphasis(cancer):
    plain = make(emphasis=1.0).fit_transform(cancer)
    nearly = make(emphasis=1.0 + 1e-12).fit_transform(cancer)  # by autograd
    assert_close(nearly, plain, 1e-3)


# -- errors ------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["masking", "salt_pepper", "swap"])
def test_a_share_above_one_says_so(cancer, noise):
    with pytest.raises(ValueError, match=rf"noise_level=1.2.*{noise}.*share.*at most 1"):
        make(noise=noise, noise_level=1.2).fit(cancer)


def test_gaussian_noise_may_exceed_one_standard_deviation(cancer):
    make(noise="gaussian", noise_level=2.0).fit(cancer)


def test_emphasis_and_cross_entropy_exclude_each_other():
    X = np.random.default_rng(0).random((60, 4))
    with pytest.raises(ValueError, match=r"emphasis=2.0.*emphasis=1.0"):
        make(emphasis=2.0, loss="binary_cross_entropy", anchor=None).fit(X)
    make(emphasis=1.0, loss="binary_cross_entropy", anchor=None).fit(X)
