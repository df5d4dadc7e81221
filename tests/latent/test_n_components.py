"""`n_components` as a share of held-out variance chooses the size of the code."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import Fail, OwnModule, fast, make_fast, suited
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.preprocessing import minmax_scale

from skae import AutoencoderTransformer, VAETransformer
from skae._data.dataset import Dataset
from skae._data.seeds_and_devices import derive_seeds
from skae._estimators.base import Seeds
from skae._latent.n_components import ComponentTrials, copy_weights, pca_n_components

FRACTIONS = [0.01, 0.5, 0.8, 0.9, 0.95, 0.999]
AT_CAP = "ignore:n_components=.* of held-out rows:sklearn.exceptions.ConvergenceWarning"
may_bind = pytest.mark.filterwarnings(AT_CAP)


@pytest.fixture
def quick(dense):
    """Every public estimator, asked for a share of variance, trained for a moment."""
    return fast(dense, n_components=0.8)


def curve_of(estimator):
    curve = estimator.dimension_curve_
    return dict(zip(curve["n_components"], curve["explained_variance"], strict=True))


def centred(X):
    return Dataset(X, X.mean(axis=0))


def explained_by_pca(train, held_out, mean, k):
    """Share of the variance of held-out rows around a mean that PCA of other rows explains."""
    components = PCA(k, svd_solver="full").fit(train).components_
    held_out = held_out - mean
    errors = held_out - held_out @ components.T @ components
    return 1 - np.square(errors).sum() / np.square(held_out).sum()


# -- what is chosen ----------------------------------------------------------------


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_cap_is_pcas_choice(cancer, wine, digits, fraction):
    wide = np.random.default_rng(0).normal(size=(20, 60))
    for X in (cancer, wine, digits, wide):
        assert pca_n_components(centred(X), fraction) == PCA(fraction).fit(X).n_components_


@pytest.mark.slow
@may_bind
@pytest.mark.parametrize("fraction", [0.6, 0.9])
def test_the_size_below_explains_less_than_asked_for(dense, cancer, fraction):
    cancer = cancer[:250, :20]
    estimator = fast(dense, n_components=fraction).fit(cancer)
    curve, chosen = curve_of(estimator), estimator.n_components_
    cap = PCA(fraction).fit(cancer).n_components_
    sizes = estimator.dimension_curve_["n_components"]
    assert (np.diff(sizes) > 0).all()
    assert sizes[-1] == cap >= chosen
    if curve[cap] < fraction:
        assert chosen == cap
    else:
        assert curve[chosen] >= fraction
        assert chosen == 1 or curve[chosen - 1] < fraction


@may_bind
def test_the_fit_is_the_ordinary_one_of_that_size(quick, cancer):
    cancer = cancer[:150, :10]
    chosen = clone(quick).fit(cancer)
    ordinary = quick.set_params(n_components=chosen.n_components_).fit(cancer)
    assert np.array_equal(chosen.transform(cancer), ordinary.transform(cancer))
    assert np.array_equal(chosen.reconstruct(cancer), ordinary.reconstruct(cancer))
    assert not hasattr(ordinary, "dimension_curve_")


@may_bind
def test_the_curve_of_a_linear_code_is_pcas_over_folds(wine):
    X, mean = wine[:, :8], wine[:, :8].mean(axis=0)
    estimator = AutoencoderTransformer(0.7, hidden_layer_sizes=(), random_state=0).fit(X)
    folds = list(KFold(5, shuffle=True, random_state=derive_seeds(0, 5)[1]).split(X))
    for k, explained in curve_of(estimator).items():
        shares = [explained_by_pca(X[train], X[held_out], mean, k) for train, held_out in folds]
        assert explained == pytest.approx(np.mean(shares), abs=1e-12)


@pytest.mark.slow
def test_an_anchored_code_is_smaller_than_pcas(digits):
    # Shuffled: others wrote the last of the digits.
    X, others = train_test_split(digits, train_size=500, random_state=0)
    estimator = AutoencoderTransformer(0.8, max_epochs=100, random_state=0).fit(X)
    pca = PCA(0.8).fit(X)
    assert estimator.n_components_ <= 0.8 * pca.n_components_
    assert estimator.score(others) >= 0.8 - 0.005


def test_the_smallest_of_shares_needs_one_component(quick, wine):
    assert quick.set_params(n_components=0.01).fit(wine).n_components_ == 1


def test_where_pcas_choice_explains_too_little_it_is_kept_with_a_warning(quick):
    X = np.random.default_rng(0).normal(size=(60, 10))
    quick.set_params(n_components=0.8)
    with pytest.warns(ConvergenceWarning, match=r"n_components=0\.8: .*held-out.*integer above"):
        quick.fit(X)
    cap = PCA(0.8).fit(X).n_components_
    assert quick.n_components_ == cap
    assert list(curve_of(quick)) == [cap]


def test_other_rows_may_validate(wine):
    train, held_out = wine[:100], wine[100:]
    estimator = AutoencoderTransformer(hidden_layer_sizes=()).fit(train)
    mean = train.mean(axis=0)
    rows, validation = Dataset(train, mean), Dataset(held_out, mean)
    trials = ComponentTrials(
        estimator, rows, torch.device("cpu"), Seeds(*derive_seeds(0, 4)), validation
    )
    for k in (1, 3, 5):
        expected = explained_by_pca(train, held_out, mean, k)
        assert trials.explained_variance(k) == pytest.approx(expected, abs=1e-12)


def test_a_feature_that_varies_in_no_other_fold_is_left_out_of_validation(wine):
    """Only one row has a value there; standardised, its error would dominate all others."""
    X = np.column_stack([wine, np.eye(len(wine))[0] * 100])
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        linear = {"hidden_layer_sizes": (), "random_state": 0}
        rare = AutoencoderTransformer(0.99, **linear).fit(X).dimension_curve_
    rows = Dataset(X, X.mean(axis=0))
    trials = ComponentTrials(
        AutoencoderTransformer(**linear).fit(X), rows, torch.device("cpu"), Seeds(0, 0, 0, 0)
    )
    (alone,) = (split for split in trials.splits if split.constant[-1])
    assert alone.validation.X[:, -1].any()
    assert all((block[:, -1] == alone.first[-1]).all() for block, _ in alone.blocks())
    assert rare["explained_variance"][-1] > 0.9


# -- small, constant, narrow -------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5, 29, 30, 79, 80])
def test_few_rows(quick, wine, n_rows):
    X = wine[:n_rows]
    quick.fit(X)
    assert 1 <= quick.n_components_ <= min(X.shape)
    assert np.isfinite(quick.transform(X)).all()
    assert np.isfinite(list(curve_of(quick).values())).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_rows", [1, 3, 40])
def test_constant_rows_need_one_component(quick, n_rows):
    quick.fit(np.full((n_rows, 4), 3.0))
    assert curve_of(quick) == {1: 1.0}


@may_bind
@pytest.mark.parametrize("fraction", [0.01, 0.999])
@pytest.mark.filterwarnings("ignore:No component is active")
def test_one_feature_needs_one_component(quick, wine, fraction):
    if "views" in quick.get_params():
        quick.set_params(views=None)
    assert quick.set_params(n_components=fraction).fit(wine[:, :1]).n_components_ == 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.5, -0.5, np.nan])
def test_what_is_no_share_is_refused(dense, wine, fraction):
    with pytest.raises(ValueError, match=r"'n_components' parameter.*\(0\.0, 1\.0\)"):
        dense.set_params(n_components=fraction).fit(wine)


# -- every way to train ------------------------------------------------------------


@pytest.mark.slow
@may_bind
@pytest.mark.parametrize(
    "params",
    [
        {"anchor": None},
        {"network": OwnModule},
        {"network": OwnModule, "anchor": None},
        {"early_stopping": False},
        {"lr_schedule": "constant"},
    ],
    ids=lambda params: ",".join(params),
)
def test_every_way_to_train_can_choose_the_size(quick, cancer, params):
    cancer = cancer[:150, :10]
    quick.set_params(**suited(quick, params)).fit(cancer)
    shares = np.array(list(curve_of(quick).values()))
    assert 1 <= quick.n_components_ <= PCA(0.8).fit(cancer).n_components_
    assert (shares < 1).all()


@may_bind
def test_decoded_logits_are_compared_as_rows(cancer):
    X = minmax_scale(cancer[:, :10])
    params = {"loss": "binary_cross_entropy", "anchor": None, "n_components": 0.6}
    logits = make_fast(**params, max_epochs=30).fit(X)
    assert 0.2 < max(curve_of(logits).values()) < 1


def test_the_callers_state_is_untouched(quick, cancer, two_threads):
    cancer = cancer[:100, :5]
    quick.set_params(**suited(quick, {"network": OwnModule, "n_components": 0.5}))
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        first = clone(quick).fit(cancer)
        second = quick.fit(cancer)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == two_threads
    assert curve_of(first) == curve_of(second)
    assert np.array_equal(first.transform(cancer), second.transform(cancer))


# -- pickles and searches -----------------------------------------------------------


@may_bind
def test_the_curve_survives_clone_and_pickle(quick, wine):
    quick.fit(wine)
    loaded = pickle.loads(pickle.dumps(quick))
    assert curve_of(loaded) == curve_of(quick)
    assert clone(quick).n_components == 0.8
    assert not hasattr(quick.set_params(n_components=2).fit(wine), "dimension_curve_")


@pytest.mark.slow
@may_bind
def test_a_search_over_shares(quick, wine):
    search = GridSearchCV(quick, {"n_components": [0.3, 0.9]}, cv=3, error_score="raise")
    assert search.fit(wine[::2, :4]).best_params_ == {"n_components": 0.9}


@pytest.mark.slow
@may_bind
def test_a_warm_start_keeps_the_size(quick, cancer):
    cancer = cancer[:200, :12]
    quick.set_params(warm_start=True).fit(cancer)
    before = curve_of(quick)
    again = copy.deepcopy(quick).fit(cancer[:100])
    assert again.n_components_ == quick.n_components_
    assert curve_of(again) == before


def test_a_share_does_not_continue_a_number(quick, wine):
    quick.set_params(warm_start=True, n_components=2).fit(wine)
    with pytest.raises(ValueError, match=r"n_components=0\.8.*warm_start=False"):
        quick.set_params(n_components=0.8).fit(wine)


@may_bind
def test_a_failed_fit_loses_nothing(cancer):
    estimator = make_fast(n_components=0.8, early_stopping=False).fit(cancer)
    curve, Z = estimator.dimension_curve_, estimator.transform(cancer)
    with pytest.raises(RuntimeError, match="a callback failed"):
        estimator.set_params(n_components=0.5, callbacks=[Fail()]).fit(cancer)
    assert estimator.dimension_curve_ is curve
    assert np.array_equal(estimator.transform(cancer), Z)


# -- warm starts -------------------------------------------------------------------


def network_of(estimator, X, size):
    """Network of a code of some size, its last layers no longer zero."""
    fitted = copy.copy(clone(estimator).set_params(n_components=size, max_epochs=1).fit(X))
    rows = Dataset(X, fitted.mean_)
    network = fitted._make_network(rows, seed=size)
    generator = torch.Generator().manual_seed(size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize(("size", "new_size"), [(2, 5), (5, 2), (3, 3)])
def test_common_components_encode_as_before(dense, wine, size, new_size):
    source, target = (network_of(dense, wine, k) for k in (size, new_size))
    copy_weights(source, target, size, new_size)
    x, common = torch.from_numpy(wine[:9]).float(), min(size, new_size)
    if isinstance(dense, VAETransformer):  # the linear map is that of the other size's PPCA
        source, target = source.network, target.network
    before, after = source.encode(x), target.encode(x)
    for part in range(before.shape[1] // size):  # means, and log-variances beside them
        old, new = before[:, part * size :], after[:, part * new_size :]
        torch.testing.assert_close(new[:, :common], old[:, :common], rtol=1e-5, atol=1e-6)


def test_what_differs_otherwise_is_left_alone():
    source, target = torch.nn.Linear(4, 7), torch.nn.Linear(4, 9)
    before = target.weight.clone()
    copy_weights(source, target, 2, 3)
    assert torch.equal(target.weight, before)
