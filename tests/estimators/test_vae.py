"""`VAETransformer`: the linear model is probabilistic PCA; the bound; posteriors of codes."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from conftest import OwnModule, OwnVariational, assert_close, fast
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import VAETransformer
from skae._estimators.vae import antithetic_draws
from skae._training.gradients import (
    NUMPY,
    TORCH,
    AutogradGradient,
    VariationalGradient,
    make_gradient,
)
from skae._training.net import AutoencoderNet
from skae._training.optimizers import FlatParameters
from skae.losses import KL, Objective, binary_cross_entropy, gaussian_nll, kl_by_component
from skae.networks import MLP, Autoencoder, Output, VariationalAutoencoder
from skae.networks.dense import LOG_VAR_BOUNDS
from skae.networks.linear_vae import LinearOptimum
from skae.noise import ReparameterizationNoise

TABLES = [load_wine, load_breast_cancer, load_diabetes]


def make(**params):
    return fast(VAETransformer(random_state=0), **params)


def linear(k, **params):
    return VAETransformer(k, hidden_layer_sizes=(), **params)


@pytest.fixture(scope="module")
def halves():
    """Digits in [0, 1], as training rows and other rows."""
    X = load_digits().data / 16
    return X[::2], X[1::2]


@pytest.fixture(scope="module")
def trained(halves):
    return VAETransformer(5, max_epochs=30, random_state=0).fit(halves[0])


# -- the divergence ----------------------------------------------------------------


def test_the_divergence_is_torchs():
    generator = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_var).exp()), normal(torch.zeros(()), torch.ones(()))
    )
    torch.testing.assert_close(kl_by_component(mean, log_var), expected, rtol=0, atol=1e-12)
    formula = (log_var.exp() + mean**2 - log_var - 1) / 2
    torch.testing.assert_close(kl_by_component(mean, log_var), formula)
    output = Output(mean, mean, None, mean, log_var)
    torch.testing.assert_close(KL()(output, mean), expected.sum(dim=1), rtol=0, atol=1e-12)


def test_free_bits_are_the_smallest_cost():
    zeros = torch.zeros(3, 4)
    assert (KL(0.5)(Output(zeros, zeros, None, zeros, zeros), zeros) == 2).all()
    far = torch.full((3, 4), 5.0)
    assert torch.equal(*(KL(bits)(Output(far, far, None, far, zeros), far) for bits in (0.0, 0.5)))


def test_the_likelihood_is_the_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    x, made = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    for variance in (torch.tensor(0.3, dtype=torch.float64), torch.rand(4).double() + 0.1):
        expected = -torch.distributions.Normal(made, variance.sqrt()).log_prob(x).sum(dim=1)
        output = Output(made, made, noise_variance=variance)
        torch.testing.assert_close(gaussian_nll(output, x), expected)


def test_weights_warm_up_while_training_only():
    objective = Objective(
        {"a": lambda o, x: x[:, 0], "b": lambda o, x: x[:, 0]}, {"b": 3.0}, warm_up={"b": 4}
    )
    x = torch.ones(2, 1)
    seen = []
    for epoch in range(6):
        objective.begin_epoch(epoch)
        seen.append(float(objective(None, x)))
        assert (objective.row_losses(None, x) == 4).all()
    assert seen == [1, 1.75, 2.5, 3.25, 4, 4]


# -- the linear model --------------------------------------------------------------


@pytest.mark.parametrize("load", TABLES, ids=lambda load: load.__name__)
@pytest.mark.parametrize("whiten", [False, True])
def test_the_bound_of_the_linear_model_is_probabilistic_pcas_likelihood(load, whiten):
    X = load().data
    train, test = X[::2], X[1::2]
    pca = PCA(5, svd_solver="full").fit(train)
    vae = linear(5, whiten=whiten).fit(train)
    for rows in (train, test):
        np.testing.assert_allclose(vae.score_samples(rows), pca.score_samples(rows), rtol=1e-6)
    assert vae.noise_variance_ == pytest.approx(pca.noise_variance_)


def test_training_stays_at_the_optimum_of_the_linear_model(cancer):
    # One number a feature instead of one for all lets the linear model train; it may only win.
    vae = linear(4, observation_variance="per_feature", random_state=0, max_epochs=100)
    vae.fit(cancer)
    assert vae.noise_variance_.shape == (30,)
    assert vae.score_samples(cancer).mean() > PCA(4).fit(cancer).score(cancer)


@pytest.mark.parametrize("load", TABLES, ids=lambda load: load.__name__)
def test_without_divergence_the_linear_model_reconstructs_as_pca(load):
    X = StandardScaler().fit_transform(load().data)
    pca = PCA(3).fit(X)
    vae = linear(3, beta=1e-6).fit(X)
    assert_close(vae.reconstruct(X), pca.inverse_transform(pca.transform(X)), 1e-3)


def test_a_larger_beta_leaves_fewer_components_active(cancer):
    active = [linear(10, beta=beta).fit(cancer).n_active_components_ for beta in (0.1, 1, 2, 4, 8)]
    assert active[0] == active[1] == 10
    assert active == sorted(active, reverse=True)
    assert active[-1] < 10


@pytest.mark.parametrize("k", [2, 5, 10])
def test_repeated_features_leave_all_components_active(cancer, k):
    once = linear(k).fit(cancer)
    twice = linear(k).fit(np.hstack([cancer, cancer]))
    assert once.n_active_components_ == k
    assert twice.n_active_components_ == k
    assert (twice.kl_per_component_ >= once.kl_per_component_ - 1e-9).all()


@pytest.mark.parametrize("beta", [0.01, 0.3, 1.0, 3.0])
def test_the_linear_optimum_is_one(beta):
    variances, left, d = np.array([5.0, 3.0, 1.5, 1.2]), 6.0, 12

    def loss(w, noise):
        """Twice the negative bound with decoders of norms w, at the best posterior."""
        tau = beta * noise
        mean, var = w / (w**2 + tau), tau / (w**2 + tau)
        squares = left + (variances * (1 - w * mean) ** 2 + w**2 * var).sum()
        kl = (var + variances * mean**2 - np.log(var) - 1).sum()
        return d * np.log(noise) + squares / noise + beta * kl

    best = LinearOptimum.find(variances, left, d, beta)
    w, noise = best.decoding(), best.noise_variance
    for step in (-0.01, 0.01):
        assert loss(w, noise * (1 + step)) > loss(w, noise)
        for i in range(best.n_active):
            moved = w.copy()
            moved[i] *= 1 + step
            assert loss(moved, noise) > loss(w, noise)


# -- the bound ---------------------------------------------------------------------


def test_the_bound_rises_with_the_number_of_draws(trained, halves):
    rows = halves[1][:100]
    means = [
        np.mean([trained.score_samples(rows, n_draws=n, random_state=s) for s in range(20)])
        for n in (2, 8, 32)
    ]
    assert means == sorted(means)


def test_five_sets_of_draws_agree(trained, halves):
    means = [trained.score_samples(halves[1], random_state=s).mean() for s in range(5)]
    assert np.std(means) < 0.5
    assert np.mean(means) > PCA(5).fit(halves[0]).score(halves[1]) + 5


def test_draws_are_standard_normal_in_pairs():
    draws = antithetic_draws(8192, 3, 0)
    np.testing.assert_array_equal(draws[:4096], -draws[4096:])
    np.testing.assert_allclose(np.cov(draws.T), np.eye(3), atol=0.02)
    assert antithetic_draws(5, 2).shape == (5, 2)
    assert not np.array_equal(antithetic_draws(8, 2, 0), antithetic_draws(8, 2, 1))


def test_the_bound_repeats_and_has_one_number_a_row(trained, halves):
    bound = trained.score_samples(halves[1])
    assert bound.shape == (len(halves[1]),)
    np.testing.assert_array_equal(trained.score_samples(halves[1]), bound)


def test_the_observation_variance_is_the_best_of_the_training_rows(halves):
    vae = make(n_components=4, early_stopping=False, max_epochs=20).fit(halves[0])
    likelihoods = []
    variance = vae.net_.module_.noise_variance
    before = variance.clone()
    for factor in (0.8, 1.0, 1.25):
        variance.copy_(before * factor)
        likelihoods.append(vae.score_samples(halves[0], n_draws=2).mean())
    variance.copy_(before)
    assert likelihoods[1] > max(likelihoods[0], likelihoods[2])


# -- codes -------------------------------------------------------------------------


def test_posteriors_are_those_of_each_row(trained, halves):
    mean, std = trained.posterior(halves[1])
    np.testing.assert_array_equal(mean, trained.posterior(halves[1])[0])
    assert std.shape == mean.shape
    assert ((std > 0) & (std < 1.5)).all()


def test_without_an_anchor_transform_is_the_mean_of_the_posterior(halves):
    for params in ({"anchor": None}, {"likelihood": "bernoulli"}):
        vae = make(n_components=3, **params)
        rows = np.clip(halves[0], 0, 1) if "likelihood" in params else halves[0]
        np.testing.assert_array_equal(vae.fit(rows).transform(rows), vae.posterior(rows)[0])


def test_the_posterior_of_the_linear_model(cancer):
    pca, vae = PCA(4).fit(cancer), linear(4).fit(cancer)
    mean, std = vae.posterior(cancer)
    spread = pca.explained_variance_
    kept = np.sqrt(spread - pca.noise_variance_) / spread
    assert_close(np.abs(mean), np.abs(pca.transform(cancer) * kept), 1e-6)
    assert_close(std, np.broadcast_to(np.sqrt(pca.noise_variance_ / spread), std.shape), 1e-6)


def test_components_are_sorted_by_divergence_and_signed(trained):
    assert (np.diff(trained.kl_per_component_) <= 0).all()
    assert trained.n_active_components_ == 5
    largest = np.take_along_axis(
        trained.components_, np.abs(trained.components_).argmax(axis=1)[:, None], axis=1
    )
    assert (largest > 0).all()


def test_posteriors_together_have_the_moments_of_the_prior(trained, halves):
    mean, std = trained.posterior(halves[0])
    np.testing.assert_allclose(mean.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(mean.var(axis=0, ddof=1) + np.square(std).mean(axis=0), 1)
    kl = 0.5 * (np.square(mean) + np.square(std) - 2 * np.log(std) - 1)
    np.testing.assert_allclose(trained.kl_per_component_, kl.mean(axis=0))


def test_whitened_means_have_unit_variance(halves):
    vae = make(n_components=3, whiten=True).fit(halves[0])
    np.testing.assert_allclose(vae.transform(halves[0]).var(axis=0, ddof=1), 1, rtol=1e-6)
    plain = make(n_components=3).fit(halves[0])
    assert_close(vae.reconstruct(halves[1]), plain.reconstruct(halves[1]), 1e-6)
    assert_close(vae.score_samples(halves[1]), plain.score_samples(halves[1]), 1e-9)


def test_variations_lie_around_the_reconstruction(trained, halves):
    rows = halves[1][:3]
    around = trained.sample_around(rows, 500, random_state=0)
    assert around.shape == (3, 500, 64)
    assert np.abs(around.mean(axis=1) - trained.reconstruct(rows)).max() < 0.15
    np.testing.assert_array_equal(around, trained.sample_around(rows, 500, random_state=0))
    assert not np.array_equal(around, trained.sample_around(rows, 500, random_state=1))
    noisy = trained.sample_around(rows, 500, random_state=0, observation_noise=True)
    assert noisy.var(axis=1).mean() > around.var(axis=1).mean()


def test_the_prior_is_what_is_sampled(trained, halves):
    drawn = trained.latent_density_.sample(50_000, 0)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(5), atol=0.03)
    noisy, smooth = (trained.sample(5000, 0, observation_noise=noise) for noise in (True, False))
    assert np.square(noisy - smooth).mean() == pytest.approx(trained.noise_variance_, rel=0.02)


def test_no_component_starts_collapsed_and_pca_is_matched(halves, cancer):
    for (train, test), k in ((halves, 10), ((cancer[::2], cancer[1::2]), 5)):
        pca = PCA(k).fit(train)
        vae = VAETransformer(k, max_epochs=60, random_state=0).fit(train)
        error = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
        assert vae.reconstruction_error(test).sum() <= error
        assert vae.n_active_components_ == k


# -- Bernoulli ---------------------------------------------------------------------


@pytest.mark.parametrize("anchor", ["pca", None])
def test_bernoulli_rows(halves, anchor):
    train, test = ((X > 0.5).astype(float) for X in halves)
    vae = make(n_components=5, likelihood="bernoulli", anchor=anchor, max_epochs=40).fit(train)
    assert vae.noise_variance_ == 0
    assert set(np.unique(vae.sample(20, 0))) <= {0.0, 1.0}
    smooth = vae.sample(20, 0, observation_noise=False)
    assert ((smooth > 0) & (smooth < 1)).all()
    rates = train.mean(axis=0).clip(0.01, 0.99)
    independent = (test * np.log(rates) + (1 - test) * np.log(1 - rates)).sum(axis=1).mean()
    bound = vae.score_samples(test)
    assert (bound < 0).all()
    assert bound.mean() > independent + 2


@pytest.mark.parametrize("shift", [-0.1, 0.1])
def test_bernoulli_rows_outside_the_unit_interval_are_refused(halves, shift):
    with pytest.raises(ValueError, match=r"likelihood='bernoulli' needs X within \[0, 1\]"):
        make(likelihood="bernoulli").fit(halves[0] + shift)


# -- warnings ----------------------------------------------------------------------


def test_exact_reconstructions_get_a_warning():
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 2)) @ random.normal(size=(2, 6))
    with pytest.warns(ConvergenceWarning, match="observation variance is at its lower bound"):
        linear(2).fit(X)


def test_a_code_without_active_components_gets_a_warning(wine):
    with pytest.warns(ConvergenceWarning, match="No component is active"):
        vae = linear(2, beta=100).fit(wine)
    assert vae.n_active_components_ == 0


# -- networks and gradients --------------------------------------------------------


@pytest.mark.parametrize("anchor", ["pca", None])
def test_networks_of_ones_own(cancer, anchor):
    vae = make(n_components=3, network=OwnVariational, anchor=anchor).fit(cancer)
    assert vae.transform(cancer).shape == (569, 3)
    assert np.isfinite(vae.score_samples(cancer)).all()


def test_networks_without_variances_are_refused(cancer):
    with pytest.raises(ValueError, match=r"encodes 2 rows.*\(2, 6\)"):
        make(n_components=3, network=OwnModule).fit(cancer)


def make_network(dtype, *, per_feature=False, bernoulli=False, d=7, k=3):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mlps = MLP([d, 9, 2 * k], generator=generator), MLP([k, 9, d], generator=generator)
    variance = draw(d).abs() + 0.1 if per_feature else torch.tensor(0.3, dtype=torch.float64)
    return VariationalAutoencoder(
        Autoencoder(*mlps).to(dtype),
        encoding=0.3 * draw(k, d),
        decoding=0.3 * draw(k, d),
        log_variances=draw(k),
        center=draw(d) if bernoulli else None,
        offset=draw(d) if bernoulli else None,
        noise_variance=None if bernoulli else variance,
    ).train()


CASES = list(itertools.product(["shared", "per_feature", "bernoulli"], [0.0, 0.3], [1.0, 0.2]))


@pytest.mark.parametrize(("kind", "free_bits", "beta"), CASES)
@pytest.mark.parametrize("backend", [NUMPY, TORCH], ids=["numpy", "torch"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_closed_form_equals_autograd(kind, free_bits, beta, backend, dtype, tolerance):
    network = make_network(dtype, per_feature=kind == "per_feature", bernoulli=kind == "bernoulli")
    other = copy.deepcopy(network)
    nll = binary_cross_entropy if kind == "bernoulli" else gaussian_nll
    objective = Objective({"reconstruction": nll, "kl": KL(free_bits)}, {"kl": beta})
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(32, 7, generator=generator, dtype=dtype)
    draws = torch.randn(32, 3, generator=generator, dtype=dtype)
    with torch.no_grad():  # some log-variances beyond their bounds
        network.network.encoder[-1].bias[-1] = other.network.encoder[-1].bias[-1] = 30.0
    flats = [FlatParameters(n) for n in (network, other)]
    gradients = (
        AutogradGradient(network, objective, flats[0].gradient),
        VariationalGradient(other, objective, backend),
    )
    assert VariationalGradient.covers(other, objective)
    for _ in range(2):
        losses = [float(gradient(x, draws)["loss"]) for gradient in gradients]
    scale = flats[0].gradient.abs().max()
    assert (flats[0].gradient - flats[1].gradient).abs().max() < tolerance * scale
    assert losses[1] == pytest.approx(losses[0], rel=10 * tolerance)
    if kind != "bernoulli":
        expected = network.noise_variance
        torch.testing.assert_close(other.noise_variance, expected, rtol=tolerance, atol=0)


def test_whole_fits_agree_with_autograd(cancer, monkeypatch):
    def fit():
        return make(n_components=3, max_epochs=30, early_stopping=False).fit(cancer[:25])

    written = fit()
    monkeypatch.setattr("skae._training.net.make_gradient", lambda n, o, g, **options: (
        AutogradGradient(n, o, g)))  # fmt: skip
    by_autograd = fit()
    assert_close(written.transform(cancer), by_autograd.transform(cancer), 1e-9)
    assert written.noise_variance_ == pytest.approx(by_autograd.noise_variance_, rel=1e-9)


def test_the_closed_form_is_chosen():
    objective = Objective({"reconstruction": gaussian_nll, "kl": KL()}, positive=False)
    network = make_network(torch.float32)
    gradient = FlatParameters(network).gradient
    assert type(make_gradient(network, objective, gradient, by_autograd=False)) is (
        VariationalGradient
    )
    network.gates = nn.Parameter(torch.zeros(2))
    assert not VariationalGradient.covers(network, objective)


def test_log_variances_stay_within_bounds():
    network = make_network(torch.float64)
    network.log_variances.copy_(torch.tensor([-100.0, 0.0, 100.0]))
    log_var = network.posterior(torch.zeros(2, 7, dtype=torch.float64))[1]
    assert log_var.min() == LOG_VAR_BOUNDS[0]
    assert log_var.max() == LOG_VAR_BOUNDS[1]


def test_held_out_rows_are_evaluated_with_the_same_draws_and_the_learned_variance():
    objective = Objective({"reconstruction": gaussian_nll, "kl": KL()}, positive=False)
    network = make_network(torch.float32)
    net = AutoencoderNet(
        network,
        objective,
        max_epochs=1,
        noise=lambda: ReparameterizationNoise(3, torch.Generator().manual_seed(2)),
    )
    rows = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    net.fit(rows)
    draws = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    before = network.noise_variance.clone()
    losses = net.evaluate(rows, draws)
    assert torch.equal(losses, net.evaluate(rows, draws))
    assert torch.equal(network.noise_variance, before)
    output = network.run(rows, draws)
    squares = (output.reconstruction - rows).square().mean()
    torch.testing.assert_close(output.noise_variance, squares)


def test_warm_start_goes_on_from_the_network(cancer):
    vae = make(n_components=3, warm_start=True).fit(cancer)
    module, variance = vae.net_.module_, vae.noise_variance_
    vae.fit(cancer)
    assert vae.net_.module_ is not module
    assert vae.noise_variance_ <= 1.1 * variance


@pytest.mark.parametrize("params", [{"kl_warmup": 9}, {"free_bits": 3.0}, {"beta": 0.0}], ids=str)
def test_parameters_of_the_divergence_change_the_fit(halves, params):
    plain = make(n_components=3, early_stopping=False).fit(halves[0])
    other = clone(plain).set_params(**params).fit(halves[0])
    assert np.isfinite(other.score_samples(halves[0])).all()
    assert not np.array_equal(other.transform(halves[0]), plain.transform(halves[0]))
