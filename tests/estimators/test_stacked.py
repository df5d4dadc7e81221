"""`StackedAutoencoder`: layers are pretrained one by one, then trained jointly."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import OwnModule, assert_close, fast
from scipy import sparse
from sklearn.decomposition import PCA
from skorch.callbacks import Callback
from torch import nn

from skae import AutoencoderTransformer, LatentDimensionSearch, StackedAutoencoder
from skae._data.dataset import Dataset
from skae._estimators.stacked import LayerActivations, linear_layers
from skae.metrics import reconstruction_score
from skae.networks import MLP
from skae.noise import NOISES

DEVICE = torch.device("cpu")
each_anchor = pytest.mark.parametrize("anchor", ["pca", None], ids=["anchored", "classic"])


def make(**params):
    return fast(StackedAutoencoder(random_state=0, hidden_layer_sizes=(8, 6)), **params)


def weights_of(fitted):
    """Weights of encoder and decoder, layer by layer."""
    return [
        [layer.weight.detach() for layer in half] for half in linear_layers(fitted.net_.module_)
    ]


def started(X, **params):
    """A stack whose joint training changed the weights hardly at all, and its layers."""
    params = {"lr": 1e-12, "early_stopping": False, **params}
    return make(**params).fit(X)


# -- layer by layer ----------------------------------------------------------------


@each_anchor
@pytest.mark.parametrize("n_rows", [20, 60, 150, 569])
def test_without_pretraining_it_is_the_plain_autoencoder_bit_for_bit(cancer, anchor, n_rows):
    X = cancer[:n_rows]
    same = {"anchor": anchor, "stochastic_depth": 0.6}
    stacked = make(pretraining=None, **same).fit(X)
    plain = fast(AutoencoderTransformer(random_state=0), **same, hidden_layer_sizes=(8, 6))
    np.testing.assert_array_equal(stacked.transform(X), plain.fit(X).transform(X))
    assert stacked.layer_loss_curves_ == stacked.layer_validation_loss_curves_ == []


@pytest.mark.parametrize("noise", [None, "masking", "swap"])
def test_a_layer_is_trained_while_those_below_stay_as_they_are(cancer, noise):
    sizes = (12, 9, 7, 5)
    stacks = [
        make(hidden_layer_sizes=sizes[:depth], anchor=None, fine_tune=False, noise=noise).fit(
            cancer
        )
        for depth in range(1, 5)
    ]
    deepest, _ = weights_of(stacks[-1])
    for depth, stack in enumerate(stacks, start=1):
        for own, same in zip(weights_of(stack)[0][:depth], deepest, strict=False):
            assert torch.equal(own, same)
        assert stack.layer_loss_curves_[:depth] == stacks[-1].layer_loss_curves_[:depth]


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "softplus", "gelu", "identity"])
def test_layers_start_from_the_mean_of_their_inputs(digits, activation):
    stack = started(digits, anchor=None, activation=activation)
    for curve, n_inputs in zip(stack.layer_loss_curves_[1:], (8, 6), strict=True):
        assert curve[-1] == pytest.approx(n_inputs, rel=0.01)


def test_without_fine_tuning_the_anchored_stack_has_the_layers_of_the_classic_one(cancer):
    anchored, classic = (make(anchor=a, fine_tune=False).fit(cancer) for a in ("pca", None))
    (encoder, decoder), (its_encoder, its_decoder) = weights_of(anchored), weights_of(classic)
    for own, same in zip(
        [*encoder[:-1], decoder[1]], [*its_encoder[:-1], its_decoder[1]], strict=True
    ):
        assert torch.equal(own, same)
    assert (anchored.n_iter_, classic.n_iter_) == (3, 0)
    assert classic.loss_curve_ == []


class Watch(Callback):
    """Copies the network with which joint training starts."""

    found: ClassVar[list] = []

    def on_train_begin(self, net, **kwargs):
        self.found.append(copy.deepcopy(linear_layers(net.module_)))


@pytest.mark.parametrize(
    ("fine_tune", "expected"),
    [
        (False, [[False, False, True], [True, False, True]]),
        (True, [[True, True, True], [True, True, True]]),
    ],
)
def test_without_fine_tuning_only_other_layers_are_trained(cancer, fine_tune, expected):
    Watch.found.clear()
    params = {"fine_tune": fine_tune, "early_stopping": False, "callbacks": [Watch()]}
    after = linear_layers(make(**params).fit(cancer).net_.module_)
    (before,) = Watch.found
    moved = [
        [not torch.equal(one.weight, other.weight) for one, other in zip(*half, strict=True)]
        for half in zip(before, after, strict=True)
    ]
    assert moved == expected


def test_the_classic_stack_is_the_chain_of_its_layers(cancer):
    model = make(anchor=None, max_epochs=1).fit(cancer)
    pairs, network = model._make_layer_autoencoders(3), model._make_network(None, 5)
    model._copy_layers(pairs, network)
    x = torch.from_numpy(cancer).float()
    codes = [x]
    for pair in pairs:
        codes.append(pair.encode(codes[-1]))
    row = codes[-1]
    for pair in pairs[::-1]:
        row = pair.decode(row)
    assert len(pairs) == 3
    torch.testing.assert_close(network.encode(x), codes[-1])
    torch.testing.assert_close(network.decode(codes[-1]), row)


# -- start at PCA -------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(8,), (8, 6), (9, 7, 5)], ids=str)
def test_the_joint_training_starts_at_pca(wine, hidden):
    pca = PCA(2).fit(wine)
    stack = started(wine, hidden_layer_sizes=hidden)
    assert_close(stack.reconstruct(wine), pca.inverse_transform(pca.transform(wine)), 1e-5)
    assert len(stack.layer_loss_curves_) == len(hidden)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_the_decoders_first_layer_starts_at_its_least_squares_fit(cancer, activation):
    """Codes are uncorrelated with the residuals, so the least-squares fit is the projection."""
    stack = started(cancer, hidden_layer_sizes=(8,), activation=activation, n_components=4)
    encoder, decoder = linear_layers(stack.net_.module_)
    components = stack.net_.module_.components.float()
    torch.testing.assert_close(
        decoder[0].weight, encoder[0].weight @ components.T, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(decoder[0].bias, encoder[0].bias, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_rows", [100, 569])
@pytest.mark.parametrize("params", [{}, {"fine_tune": False}, {"noise": "masking"}], ids=str)
def test_it_is_never_worse_than_pca(cancer, n_rows, params):
    order = np.random.default_rng(0).permutation(len(cancer))
    X = cancer[order[:n_rows]]
    pca, stack = PCA(4).fit(X), make(n_components=4, max_epochs=20, **params).fit(X)
    assert stack.score(cancer) > reconstruction_score(pca, cancer) - 1e-6


def test_pretraining_helps_deep_networks_on_digits(digits):
    train, test = digits[:1300], digits[1300:]
    random, greedy = (
        StackedAutoencoder(
            8,
            hidden_layer_sizes=(64, 32),
            activation="logistic",
            anchor=None,
            pretraining=pretraining,
            max_epochs=20,
            random_state=0,
        )
        .fit(train)
        .score(test)
        for pretraining in (None, "greedy")
    )
    assert greedy > random + 0.1


# -- loss curves of layers --------------------------------------------------------


@each_anchor
def test_curves_of_each_layer_fall_and_are_in_units_of_its_input(digits, anchor):
    stack = make(anchor=anchor, max_epochs=8).fit(digits)
    sizes = [64, 8, 6]
    n_layers = 2 if anchor == "pca" else 3
    for curves in (stack.layer_loss_curves_, stack.layer_validation_loss_curves_):
        assert [len(curve) for curve in curves] == [8] * n_layers
        for curve, n_inputs in zip(curves, sizes, strict=False):
            assert 0 < curve[-1] < curve[0] < 2 * n_inputs
    assert type(stack.layer_loss_curves_[1][0]) is float


def test_without_early_stopping_no_rows_are_held_out_of_layers(wine):
    stack = make(early_stopping=False).fit(wine)
    assert [len(curve) for curve in stack.layer_loss_curves_] == [3, 3]
    assert stack.layer_validation_loss_curves_ == [[], []]


def test_x_val_validates_the_layers_too(wine):
    few = make(max_epochs=4).fit(wine[:60])
    assert few.layer_validation_loss_curves_ == [[], []]
    few.fit(wine[:60], X_val=wine[60:])
    assert [len(curve) for curve in few.layer_validation_loss_curves_] == [4, 4]


def test_auto_gives_layers_a_share_of_the_epochs(wine):
    stack = make(max_epochs="auto").fit(wine[:63])
    assert stack.layer_loss_curves_ == []
    stack.set_params(fine_tune=False).fit(wine[:63])
    assert [len(curve) for curve in stack.layer_loss_curves_] == [20, 20]
    stack.set_params(fine_tune=True).fit(wine[:100])
    assert [len(curve) for curve in stack.layer_loss_curves_] == [50, 50]
    stack.set_params(anchor=None).fit(wine[:70])
    assert [len(curve) for curve in stack.layer_loss_curves_] == [100] * 3


def test_curves_survive_pickles(wine):
    stack = make().fit(wine)
    assert pickle.loads(pickle.dumps(stack)).layer_loss_curves_ == stack.layer_loss_curves_


@each_anchor
def test_a_warm_start_pretrains_nothing(wine, anchor):
    stack = make(warm_start=True, anchor=anchor, fine_tune=False, early_stopping=False).fit(wine)
    before = weights_of(stack)[0][0].clone()
    stack.fit(wine)
    assert stack.layer_loss_curves_ == []
    assert torch.equal(weights_of(stack)[0][0], before)


@each_anchor
def test_a_stream_is_pretrained_on_the_rows_that_waited(digits, anchor):
    stack = make(anchor=anchor).partial_fit(digits[:100])
    assert stack.layer_loss_curves_ == []
    stack.partial_fit(digits[100:600])
    curves = stack.layer_loss_curves_
    assert len(curves) == (2 if anchor == "pca" else 3)
    stack.partial_fit(digits[600:])
    assert stack.layer_loss_curves_ is curves
    assert stack.n_iter_ == 2


@each_anchor
def test_a_stream_without_fine_tuning_keeps_pretrained_layers(digits, anchor):
    stack = make(anchor=anchor, fine_tune=False).partial_fit(digits[:600])
    before, score = weights_of(stack), stack.score(digits)
    stack.partial_fit(digits[600:])
    moved = [
        [not torch.equal(one, other) for one, other in zip(*half, strict=True)]
        for half in zip(before, weights_of(stack), strict=True)
    ]
    ends = anchor == "pca"
    assert moved == [[False, False, ends], [ends, False, ends]]
    assert np.isfinite(score)
    assert stack.n_samples_seen_ == 1797


# -- noise -------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [*NOISES, nn.Dropout(0.3)], ids=str)
def test_noise_reaches_the_layers_and_is_seeded(cancer, noise):
    plain, noisy, again = (make(noise=n).fit(cancer) for n in (None, noise, noise))
    assert noisy.layer_loss_curves_ == again.layer_loss_curves_
    for one, other in zip(noisy.layer_loss_curves_, plain.layer_loss_curves_, strict=True):
        assert one != other
    np.testing.assert_array_equal(noisy.transform(cancer), again.transform(cancer))


@pytest.mark.parametrize("noise", NOISES)
def test_noise_of_level_zero_is_none(cancer, noise):
    plain, zero = (
        make(noise=n, noise_level=level).fit(cancer) for n, level in [(None, 0.25), (noise, 0)]
    )
    np.testing.assert_array_equal(zero.transform(cancer), plain.transform(cancer))


# -- rows and other parameters -----------------------------------------------------


def test_statistics_of_very_many_rows_use_some_of_them():
    random = np.random.default_rng(0)
    rows = Dataset(random.normal(size=(120_000, 2)), np.zeros(2))
    codes = LayerActivations(rows, [MLP([2, 3], generator=torch.Generator().manual_seed(0))])
    assert len(codes.representative_rows()) == 50_000
    whole = codes[:].std(axis=0)
    np.testing.assert_allclose(codes.feature_statistics()["std"], whole, rtol=0.02)


def test_layer_activations_are_a_dataset(wine):
    random = torch.Generator().manual_seed(0)
    layer, weights = MLP([13, 4], generator=random).append(nn.Tanh()), np.arange(1.0, 179)
    rows = Dataset(wine, wine.mean(axis=0), weights=weights)
    codes = LayerActivations(rows, [layer])
    expected = np.tanh(
        (wine - wine.mean(axis=0)) @ layer[0].weight.detach().numpy().T
        + layer[0].bias.detach().numpy()
    )
    index = np.array([5, 3, 100])
    assert codes.shape == (178, 4)
    assert len(codes) == 178
    np.testing.assert_allclose(codes[index], expected[index], atol=1e-6)
    np.testing.assert_allclose(codes.tensor(index, torch.float64), expected[index], atol=1e-6)
    np.testing.assert_allclose(codes.subset(index)[:], expected[index], atol=1e-6)
    np.testing.assert_array_equal(codes.subset(index).weights, weights[index])
    mean = np.average(expected, axis=0, weights=weights)
    np.testing.assert_allclose(
        codes.feature_statistics()["mean"] * codes.count / weights.sum(), mean, atol=1e-6
    )
    np.testing.assert_allclose(codes.feature_statistics()["high"], expected.max(axis=0), atol=1e-6)


def test_sparse_rows_are_pretrained_as_dense_ones(wine):
    X = np.where(wine > 1, wine, 0)
    dense, thin = make().fit(X), make().fit(sparse.csr_matrix(X))
    assert_close(thin.transform(X), dense.transform(X), 1e-4)


def test_codes_are_ordered_and_can_be_sampled(digits):
    stack = make(n_components=4, max_epochs=10).fit(digits)
    covariance = np.cov(stack.transform(digits).T)
    assert_close(covariance, np.diag(stack.explained_variance_), 1e-6)
    assert (np.diff(stack.explained_variance_) <= 0).all()
    assert stack.sample(5, random_state=0).shape == (5, 64)
    assert np.isfinite(stack.score_samples(digits[:9])).all()


def test_a_search_of_dimensions_trains_stacks(wine):
    search = LatentDimensionSearch(make(), n_components=[1, 3], cv=2).fit(wine)
    assert len(search.best_estimator_.layer_loss_curves_) == 2


def test_a_network_of_ones_own_is_not_pretrained(wine):
    stack = make(network=OwnModule).fit(wine)
    assert stack.layer_loss_curves_ == []


def test_the_linear_stack_is_pca(wine):
    stack = make(hidden_layer_sizes=()).fit(wine)
    np.testing.assert_allclose(stack.transform(wine), PCA(2).fit_transform(wine), atol=1e-10)


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"noise": "masking", "pretraining": None}, "noise='masking'.*pretraining='greedy'"),
        ({"fine_tune": False, "pretraining": None}, "fine_tune=False.*pretraining=None"),
        ({"fine_tune": False, "network": OwnModule}, "fine_tune=False.*your own network"),
        ({"noise": "masking", "noise_level": 1.5}, "noise_level=1.5.*at most 1"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(wine, params, complaint):
    with pytest.raises(ValueError, match=complaint):
        make(**params).fit(wine)
