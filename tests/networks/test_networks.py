"""Networks: shapes, initial weights, private random generators."""

from __future__ import annotations

import doctest
import pickle
import pickletools
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import ESTIMATORS, fast, is_dense, make_fast
from sklearn.decomposition import PCA
from torch import nn

from skae import AutoencoderRegressor, ConditionalVAE, MultiViewAutoencoder, networks
from skae.networks import ACTIVATIONS, MLP, AnchoredAutoencoder, Autoencoder, Output
from skae.networks.dense import has_modes, jacobian, run, shapes_of_two_rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_pair(d=6, k=2, *, zero_last=False, activation="tanh"):
    generator = seeded()
    encoder, decoder = (
        MLP(widths, activation, zero_last=zero_last, generator=generator)
        for widths in ([d, 8, k], [k, 8, d])
    )
    return Autoencoder(encoder, decoder)


def random_rows(n=10, d=6, dtype=torch.float64):
    return torch.randn(n, d, generator=seeded(1), dtype=dtype)


def make_anchored(rows, k=2, **options):
    """Anchor on the principal components of rows."""
    components = torch.from_numpy(PCA(k, svd_solver="full").fit(rows.numpy()).components_)
    pair = make_pair(rows.shape[1], k, zero_last=not options.get("gated", False))
    return AnchoredAutoencoder(pair, components, **options).double()


@pytest.mark.parametrize("widths", [[5, 2], [5, 8, 2], [5, 8, 4, 2]])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_has_its_widths_with_activations_only_between(widths, activation):
    mlp = MLP(widths, activation)
    linear = [(layer.in_features, layer.out_features) for layer in list(mlp)[::2]]
    assert linear == list(pairwise(widths))
    assert {type(layer) for layer in list(mlp)[1::2]} <= {type(ACTIVATIONS[activation]())}
    assert mlp(torch.ones(3, 5)).shape == (3, 2)


def test_mlp_takes_a_callable_activation():
    assert isinstance(MLP([3, 4, 2], nn.Mish)[1], nn.Mish)


def test_mlp_draws_within_torchs_own_bounds():
    mlp = MLP([16, 400, 2], generator=seeded())
    for weights in (mlp[0].weight, mlp[0].bias):
        assert 0.24 < weights.abs().max() <= 0.25
        assert weights.mean().abs() < 0.02


def test_mlp_draws_from_its_generator_only():
    before = torch.get_rng_state()
    first, second, other = (MLP([4, 8, 2], generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0].weight, second[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_mlp_is_float32_whatever_the_default_dtype(default_dtype):
    default_dtype(torch.float64)
    wide = MLP([4, 8, 2], generator=seeded())
    default_dtype(torch.float32)
    narrow = MLP([4, 8, 2], generator=seeded())
    both = zip(wide.parameters(), narrow.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in both)


def test_mlp_that_ends_in_zeros_returns_zeros():
    assert not MLP([4, 8, 3], zero_last=True)(torch.ones(5, 4)).any()


def test_autoencoder_is_decoder_after_encoder():
    pair, x = make_pair(), random_rows(dtype=torch.float32)
    output = pair(x)
    assert isinstance(output, Output)
    assert torch.equal(output.code, pair.encoder(x))
    assert torch.equal(output.reconstruction, pair.decoder(pair.encoder(x)))
    again = run(pair, x)
    assert torch.equal(output.code, again.code)
    assert torch.equal(output.reconstruction, again.reconstruction)
    assert output.corrupted is None


@pytest.mark.parametrize("gated", [False, True])
def test_anchored_autoencoder_starts_at_pca(gated):
    x = random_rows()
    x -= x.mean(dim=0)
    network = make_anchored(x, gated=gated)
    pca = PCA(2, svd_solver="full").fit(x.numpy())
    code = torch.from_numpy(pca.transform(x.numpy()))
    torch.testing.assert_close(network.encode(x), code, rtol=0, atol=1e-12)
    back = torch.from_numpy(pca.inverse_transform(code.numpy()))
    torch.testing.assert_close(network.decode(code), back, rtol=0, atol=1e-12)
    assert network.is_at_anchor()


def test_anchored_autoencoder_adds_its_corrections():
    x = random_rows()
    network = make_anchored(x)
    nn.init.normal_(network.network.encoder[-1].weight, generator=seeded())
    nn.init.normal_(network.network.decoder[-1].weight, generator=seeded())
    V, pair = network.components, network.network
    z = x @ V.T + pair.encode(x)
    torch.testing.assert_close(network.encode(x), z)
    torch.testing.assert_close(network.decode(z), z @ V + pair.decode(z))
    assert not network.is_at_anchor()


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_one_correction_is_enough_to_leave_the_anchor(part):
    x = random_rows()
    network = make_anchored(x)
    getattr(network.network, part)[-1].bias.data.fill_(0.1)
    assert not network.is_at_anchor()


def test_gates_learn_although_they_start_closed():
    x = random_rows()
    network = make_anchored(x, gated=True)
    (network(x).reconstruction - x).square().sum().backward()
    assert network.gates.grad.all()


def test_the_anchor_is_no_parameter_and_stays_in_float64():
    components = torch.eye(6, dtype=torch.float64)[:2]
    network = AnchoredAutoencoder(make_pair(), components)
    assert not any("components" in name for name, _ in network.named_parameters())
    assert network.components.dtype == torch.float64


@pytest.mark.parametrize("training", [False, True])
def test_shapes_are_probed_in_evaluation_mode_and_the_mode_comes_back(training):
    pair = make_pair().train(training)
    assert shapes_of_two_rows(pair, 6) == ((2, 2), (2, 6))
    assert pair.training is training


@pytest.mark.parametrize(
    ("activation", "expected"), [("relu", False), ("tanh", False), (lambda: nn.Dropout(0.1), True)]
)
def test_parts_with_modes_are_found(activation, expected):
    mlps = (MLP(widths, activation) for widths in ([4, 8, 2], [2, 8, 4]))
    assert has_modes(Autoencoder(*mlps)) is expected


def test_jacobian_of_a_linear_map_is_its_matrix():
    matrix = random_rows(3, 5)
    z = random_rows(7, 3)
    torch.testing.assert_close(jacobian(lambda z: z @ matrix, z), matrix.expand(len(z), -1, -1))


def test_jacobian_consists_of_difference_quotients():
    decode = make_pair().double().decode
    z, h = random_rows(7, 2), 1e-6
    steps = h * torch.eye(2, dtype=torch.float64)
    ratios = [(decode(z + s) - decode(z - s)) / (2 * h) for s in steps]
    torch.testing.assert_close(jacobian(decode, z), torch.stack(ratios, dim=1), rtol=0, atol=1e-8)


SPARSITIES = [{"sparsity": sparsity} for sparsity in ("topk", "l1", "kl")]
PUBLIC = [thing for name in networks.__all__ if isinstance(thing := getattr(networks, name), type)]
INNER = {"Autoencoder", "Codec", "Linear", "MLP", "Output", "SelfRunning"}  # parts, and types
INNER |= {"Convolution", "FromPatches", "Grid", "ImageDecoder", "ImageEncoder", "ImageShape"}
INNER |= {"ConditionalCodec", "ResidualBlock", "ToGrid", "ToPatches", "ViewDecoders"}
INNER |= {"ChebyshevConvolution", "FromClusters", "GraphBlock", "MeshDecoder", "MeshEncoder"}
INNER |= {"MeshGraph", "ToClusters", "ViewEncoders"}


def networks_of_every_kind():
    """Fitted networks of all kinds, and what is inside them."""
    X = np.random.default_rng(0).normal(size=(60, 5))
    for kind in ESTIMATORS:
        for params in SPARSITIES if not is_dense(kind) else [{}]:
            yield fast(kind, n_components=2, **params).fit(X).net_.module_
    yield AutoencoderRegressor(make_fast(), max_epochs=1).fit(X, X[:, 0]).net_.module_
    yield ConditionalVAE(condition_features=[0], max_epochs=1).fit(X).net_.module_
    experts = {"views": [slice(0, 2), slice(2, None)], "experts": "product"}
    yield MultiViewAutoencoder(**experts, max_epochs=1).fit(X).net_.module_


def globals_in(pickled):
    """Modules and names that a pickle looks up."""
    strings, found = [], set()
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            found.add(tuple(argument.split(" ")))
        elif opcode.name == "STACK_GLOBAL":
            found.add(tuple(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    return found


@pytest.mark.parametrize("protocol", [2, 3])  # which write names in full
def test_pickles_name_public_paths_only(protocol):
    kinds = set()
    for network in networks_of_every_kind():
        named = globals_in(pickle.dumps(network, protocol))
        kinds.add(type(network))
        ours = {(module, name) for module, name in named if module.startswith("skae")}
        assert ("skae.networks", type(network).__name__) in ours
        assert {module for module, _ in ours} == {"skae.networks"}
        assert all(hasattr(networks, name) for _, name in ours)
    assert {kind.__name__ for kind in kinds} == {kind.__name__ for kind in PUBLIC} - INNER


def test_public_classes_say_where_they_are_public():
    assert {kind.__module__ for kind in PUBLIC} == {"skae.networks"}
    assert doctest.testmod(networks).attempted > 0
