"""Networks of several views: shares of the code, missing views, configurations; hidden views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skae.losses import KL, LOSSES, Observed, ObservedNLL, gaussian_nll
from skae.networks import MLP, Autoencoder, Output, ViewDecoders, ViewEncoders
from skae.networks.dense import run
from skae.networks.multiview import make_multiview_network
from skae.networks.serialization import network_from_config, network_to_config
from skae.noise import ReparameterizationNoise, SideBySide, ViewDropout

VIEWS = [[4, 1], [0, 2, 3], [5]]  # of six columns
ORDER = torch.tensor([4, 1, 0, 2, 3, 5])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def make_network(n_shared=2, n_private=1, *, at_anchor=False):
    """Network of three views, whose linear part is random."""
    encoding = np.zeros((3, 3 * n_shared + n_private, 6))
    for i, columns in enumerate(VIEWS):
        encoding[i][:, columns] = random(3 * n_shared + n_private, len(columns), seed=i)
    linear = {
        "encoding": encoding,
        "decoding": random(n_shared + 3 * n_private, 6).numpy(),
        "reliability": np.array([[0.0, 1, 2], [3, 0, 1], [1, 1, 0]]),
        "shared_in_private": random(n_shared, 3 * n_private).numpy(),
        "hidden_weight": np.array(0.5),
        "scales": np.ones(6),
    }
    views = [np.array(columns) for columns in VIEWS]
    network = make_multiview_network(views, n_private, linear, [4], "tanh", 0)
    if not at_anchor:
        for part in (*network.network.encoder.parts, *network.network.decoder.parts):
            torch.nn.init.normal_(part[-1].weight, generator=generator())
    return network.double().eval()


def test_parts_read_and_write_the_columns_of_their_view():
    encoders = ViewEncoders([MLP([n, 2]) for n in (2, 3, 1)], ORDER)
    x = random(4, 6).float()
    for i, columns in enumerate(VIEWS):
        assert torch.equal(encoders(x)[:, i], encoders.parts[i](x[:, columns]))
    decoders = ViewDecoders([MLP([2, n]) for n in (2, 3, 1)], ORDER)
    z = random(4, 2).float()
    for part, columns in zip(decoders.parts, VIEWS, strict=True):
        assert torch.equal(decoders(z)[:, columns], part(z))


def test_a_private_code_is_given_to_its_own_decoder_only():
    decoders = ViewDecoders([MLP([3, n]) for n in (2, 3, 1)], ORDER, n_private=1)
    z = random(4, 5).float()
    changed = z.clone()
    changed[:, 3] += 1  # of the second view
    differs = (decoders(changed) != decoders(z)).any(dim=0)
    assert torch.nonzero(differs)[:, 0].tolist() == sorted(VIEWS[1])


def test_the_code_is_a_sum_of_shares():
    network = make_network(n_private=0)
    x = random(5, 6)
    encoded = network.encode_linearly(x) + network.correct_code(x)
    shares = [encoded[:, i, 2 * i : 2 * i + 2] for i in range(3)]
    torch.testing.assert_close(network.encode(x), sum(shares))


def test_the_share_of_a_missing_view_is_a_weighted_mean_of_predictions():
    network = make_network(n_private=0)
    x = random(5, 6)
    x[:, VIEWS[2]] = torch.nan
    encoded = network.encode_linearly(x.nan_to_num()) + network.correct_code(x.nan_to_num())
    predicted = (2 * encoded[:, 0, 4:6] + encoded[:, 1, 4:6]) / 3
    expected = encoded[:, 0, :2] + encoded[:, 1, 2:4] + predicted
    torch.testing.assert_close(network.encode(x), expected)


def test_codes_of_a_row_do_not_depend_on_other_rows():
    network, x = make_network(), random(6, 6)
    x[::2, VIEWS[0]] = torch.nan
    x[1::3, VIEWS[1]] = torch.nan
    alone = torch.cat([network.encode(row[None]) for row in x])
    torch.testing.assert_close(network.encode(x), alone)
    assert not network.encode(x)[::2, 2].any()  # private code of the first view


def test_only_the_anchor_has_no_corrections():
    assert make_network(at_anchor=True).is_at_anchor()
    network = make_network(at_anchor=True)
    torch.nn.init.ones_(network.network.encoder.parts[0][-1].bias)
    assert not network.is_at_anchor()
    assert network.has_views([np.array(columns) for columns in VIEWS], 1)
    assert not network.has_views([np.array(columns) for columns in VIEWS], 0)
    assert not network.has_views([np.array(columns) for columns in VIEWS[::-1]], 1)
    errors = make_network(at_anchor=True).restoring_errors(random(4, 6))
    torch.testing.assert_close(*errors)


def test_rows_that_lack_views_weigh_less_in_the_loss():
    network, x = make_network(), random(4, 6)
    x[0, VIEWS[0]] = torch.nan
    noise = x.clone()
    noise[1, VIEWS[1]] = torch.nan
    output = run(network, x, noise)
    assert output.row_weight.tolist() == [0.5, 0.5, 1.0, 1.0]
    loss = Observed(LOSSES["squared_error"], torch.full((6,), 2.0))
    errors = (4 * (output.reconstruction - x).square()).nansum(dim=1)
    torch.testing.assert_close(loss(output, x), output.row_weight * errors)


def test_missing_entries_have_no_gradient():
    x = random(3, 6)
    x[1, :2] = torch.nan
    rows = random(3, 6, seed=1).requires_grad_()
    for term in ("squared_error", "absolute_error", "huber"):
        loss = Observed(LOSSES[term], torch.ones(6))(Output(rows, rows), x).sum()
        (gradient,) = torch.autograd.grad(loss, rows)
        assert torch.equal(gradient == 0, x.isnan())


@pytest.mark.parametrize("n_private", [0, 2])
def test_a_configuration_makes_the_same_network(n_private):
    network, x = make_network(n_private=n_private), random(4, 6)
    x[0, VIEWS[0]] = torch.nan
    rebuilt = network_from_config(network_to_config(network))
    assert torch.equal(rebuilt.encode(x), network.encode(x))
    assert torch.equal(rebuilt.decode(rebuilt.encode(x)), network.decode(network.encode(x)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda inner: inner["encoder"].update(order=ORDER.flip(0).numpy()), "belong together"),
        (lambda inner: inner["decoder"].update(n_private=0), "belong together"),
        (lambda inner: inner["encoder"]["parts"].pop(), "does not have each of them once"),
        (lambda inner: inner["decoder"].pop("parts"), "parts of the network is missing"),
    ],
    ids=["order", "n_private", "parts", "missing"],
)
def test_damaged_configurations_are_refused(change, message):
    config = network_to_config(make_network())
    change(config["network"])
    with pytest.raises(ValueError, match=message):
        network_from_config(config)


def test_own_activations_have_no_configuration():
    parts = [MLP([n, 4, 2], torch.nn.Mish) for n in (2, 3, 1)]
    assert network_to_config(ViewEncoders(parts, ORDER)) is None
    pair = Autoencoder(ViewEncoders(parts, ORDER), MLP([2, 6]))
    assert network_to_config(pair) is None


# -- hidden views --------------------------------------------------------------------


def hidden_views(x):
    return torch.stack([x[:, columns].isnan().all(dim=1) for columns in VIEWS], dim=1)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_hidden_views_are_whole_and_rows_keep_one(rate):
    x = random(3000, 6)
    x[:1000, VIEWS[0]] = torch.nan
    before = x.clone()
    noisy = ViewDropout(VIEWS, rate, generator())(x)
    torch.testing.assert_close(x, before, equal_nan=True)
    hidden = hidden_views(noisy)
    assert torch.equal(noisy.isnan(), hidden[:, [1, 0, 1, 1, 0, 2]])
    assert not hidden.all(dim=1).any()
    added = (hidden & ~hidden_views(x)).any(dim=1).float().mean()
    assert abs(added - rate) < 0.05
    assert torch.equal(noisy[~noisy.isnan()], x[~noisy.isnan()])


def test_as_many_views_are_kept_as_is_drawn():
    hidden = hidden_views(ViewDropout(VIEWS, 1.0, generator())(random(6000, 6)))
    counts = torch.bincount(hidden.sum(dim=1), minlength=4) / 6000
    torch.testing.assert_close(counts, torch.tensor([0, 0.5, 0.5, 0]), atol=0.03, rtol=0)
    torch.testing.assert_close(hidden.float().mean(dim=0), torch.full((3,), 0.5), atol=0.03, rtol=0)


def test_a_single_view_is_never_hidden():
    x = random(100, 6)
    x[:, VIEWS[0] + VIEWS[2]] = torch.nan
    torch.testing.assert_close(ViewDropout(VIEWS, 1.0, generator())(x), x, equal_nan=True)


# -- experts -------------------------------------------------------------------------


def make_experts(*, mixture=False):
    """Network of three experts, whose linear part is random."""
    encoding = np.zeros((3, 4, 6))
    for i, columns in enumerate(VIEWS):
        encoding[i][:2, columns] = random(2, len(columns), seed=i)
    arrays = {
        "encoding": encoding,
        "decoding": random(2, 6).numpy(),
        "log_variances": random(3, 2, seed=4).numpy(),
        "noise_variance": np.array(0.5),
        "is_mixture": np.array(float(mixture)),
        "scales": np.arange(1.0, 7.0),
    }
    views = [np.array(columns) for columns in VIEWS]
    network = make_multiview_network(views, 0, arrays, [4], "tanh", 0)
    for part in (*network.network.encoder.parts, *network.network.decoder.parts):
        torch.nn.init.normal_(part[-1].weight, generator=generator())
    return network.double().eval()


def experts_of(network, x):
    """Mean and variance of the expert of each view, (n_rows, n_views, n_components)."""
    encoded = network.encode_linearly(x) + network.correct_code(x)
    return encoded[:, :, :2], (encoded[:, :, 2:] + network.log_variances).exp()


@pytest.mark.parametrize("missing", [[], [2], [0, 1]], ids=str)
def test_a_product_of_experts_is_weighted_by_precision(missing):
    network, x = make_experts(), random(5, 6)
    means, variances = experts_of(network, x)
    there = [i for i in range(3) if i not in missing]
    precision = 1 + sum(1 / variances[:, i] for i in there)
    expected = sum(means[:, i] / variances[:, i] for i in there) / precision
    for i in missing:
        x[:, VIEWS[i]] = torch.nan
    mean, log_var = network.posterior(x)
    torch.testing.assert_close(log_var.exp(), 1 / precision)
    torch.testing.assert_close(mean, expected)
    assert torch.equal(network.encode(x), mean)


@pytest.mark.parametrize("missing", [[], [2], [0, 1]], ids=str)
def test_a_mixture_of_experts_has_the_moments_of_draws(missing):
    network, x = make_experts(mixture=True), random(1, 6)
    means, variances = experts_of(network, x)
    there = [i for i in range(3) if i not in missing]
    for i in missing:
        x[:, VIEWS[i]] = torch.nan
    mean, log_var = network.posterior(x)
    drawn = [means[0, i] + variances[0, i].sqrt() * random(100_000, 2, seed=i) for i in there]
    drawn = torch.cat(drawn)
    torch.testing.assert_close(mean[0], drawn.mean(dim=0), atol=0.03, rtol=0)
    torch.testing.assert_close(log_var[0].exp(), drawn.var(dim=0), atol=0, rtol=0.03)


@pytest.mark.parametrize("mixture", [False, True])
def test_a_step_samples_the_posterior_of_the_views_that_stay(mixture):
    network, x = make_experts(mixture=mixture), random(7, 6)
    x[0, VIEWS[0]] = torch.nan
    noise = SideBySide(
        ViewDropout(VIEWS, 1.0, generator(), most=1), ReparameterizationNoise(2, generator(1))
    )(x)
    hidden, normal = noise[:, :6], noise[:, 6:]
    assert ((~hidden.isnan())[:, [4, 0, 5]].sum(dim=1) == 1).all()
    output = run(network, x, noise)
    mean, log_var = network.posterior(hidden)
    torch.testing.assert_close(output.code, mean + normal * (0.5 * log_var).exp())
    squares = ((output.reconstruction - x) * network.scales).square()
    torch.testing.assert_close(output.noise_variance, squares.nanmean())
    before = network.noise_variance.clone()
    run(network.train(), x, noise)
    torch.testing.assert_close(network.noise_variance, before + 0.05 * (squares.nanmean() - before))
    assert torch.isfinite(KL()(output, x)).all()


def test_the_likelihood_counts_observed_entries():
    x, rows, variance = random(3, 6), random(3, 6, seed=1), torch.tensor(0.3).double()
    x[1, :2] = torch.nan
    scales = torch.arange(1.0, 7.0).double()
    loss = ObservedNLL(scales)(Output(rows, rows, noise_variance=variance), x)
    for i, own in enumerate([slice(None), slice(2, None), slice(None)]):
        given = Output((rows * scales)[i : i + 1, own], rows, noise_variance=variance)
        (expected,) = gaussian_nll(given, (x * scales)[i : i + 1, own])
        torch.testing.assert_close(loss[i], expected)


@pytest.mark.parametrize("mixture", [False, True])
def test_a_configuration_makes_the_same_experts(mixture):
    network, x = make_experts(mixture=mixture), random(4, 6)
    x[0, VIEWS[0]] = torch.nan
    rebuilt = network_from_config(network_to_config(network))
    for own, other in zip(rebuilt.posterior(x), network.posterior(x), strict=True):
        assert torch.equal(own, other)


def test_encoders_of_another_kind_are_refused():
    config = network_to_config(make_experts())
    config["network"]["encoder"] = network_to_config(make_network(n_private=0))["network"][
        "encoder"
    ]
    with pytest.raises(ValueError, match="MultiViewExperts do not return 4 columns"):
        network_from_config(config)
