"""`partial_fit`: rows that arrive in chunks."""

from __future__ import annotations

import copy
import pickle
from contextlib import suppress

import numpy as np
import pytest
import torch
from conftest import (
    ESTIMATORS,
    Fail,
    OwnModule,
    assert_close,
    is_dense,
    name_of,
    suited,
    takes_tables,
)
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression

from skae import AdversarialAutoencoder, AutoencoderTransformer, VAETransformer
from skae._estimators.partial_fit import Stream, concatenate_rows, min_rows_to_train
from skae.densities import Gaussian

NETWORKS = pytest.mark.parametrize(
    "params", [{}, {"anchor": None}, {"network": OwnModule}, {"whiten": True}], ids=str
)


def stream(estimator, X, n_chunks, n_passes=1, **params):
    for _ in range(n_passes):
        for chunk in np.array_split(np.arange(X.shape[0]), n_chunks):
            estimator.partial_fit(X[chunk], **{k: v[chunk] for k, v in params.items()})
    return estimator


@pytest.fixture(scope="module")
def shuffled(digits):
    return digits[np.random.default_rng(0).permutation(len(digits))]


@pytest.fixture(scope="module", params=ESTIMATORS, ids=name_of)
def streamed_once(request, shuffled):
    """Every kind, after several calls of `partial_fit`."""
    kind = clone(request.param).set_params(n_components=4)
    return stream(kind, shuffled[:900], 6)


@pytest.fixture
def streamed(streamed_once):
    """The same, to be changed."""
    return copy.deepcopy(streamed_once)


# -- before training starts --------------------------------------------------------


@pytest.mark.parametrize("n_chunks", [1, 5, 40])
def test_until_there_are_enough_rows_the_model_is_pca_of_them_all(dense, wine, n_chunks):
    stream(dense, wine, n_chunks)
    pca = PCA(2).fit(wine)
    assert dense.n_iter_ == 0
    assert dense.n_samples_ == dense.n_samples_seen_ == 178
    assert_close(dense.mean_, wine.mean(axis=0), 1e-9)
    if isinstance(dense, VAETransformer):
        assert dense.score_samples(wine).mean() == pytest.approx(pca.score(wine))
    else:
        assert dense.score(wine) == pytest.approx(pca.explained_variance_ratio_.sum())
        incremental = IncrementalPCA(2, batch_size=178).fit(wine)
        unit = np.ones(2)
        if isinstance(dense, AdversarialAutoencoder):  # codes are those of a whitened PCA
            unit = np.sqrt(incremental.explained_variance_)
        codes = np.abs(pca.transform(wine)) / unit
        assert_close(np.abs(dense.transform(wine)), codes, 1e-6)
        components = np.abs(incremental.components_) * unit[:, None]
        assert_close(np.abs(dense.components_), components, 1e-6)


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_linear_model_remains_pca_of_all_rows(cls, raw_cancer, offset):
    X = np.random.default_rng(0).permutation(raw_cancer) + offset
    linear = stream(cls(4, hidden_layer_sizes=()), np.tile(X, (2, 1)), 30)
    whole = cls(4, hidden_layer_sizes=()).fit(np.tile(X, (2, 1)))
    assert_close(linear.transform(X), whole.transform(X), 1e-6)
    assert_close(linear.score_samples(X), whole.score_samples(X), 1e-6)
    assert linear.n_samples_ == 2 * len(X)
    assert linear.noise_variance_ == pytest.approx(whole.noise_variance_)
    assert_close(linear.explained_variance_, whole.explained_variance_, 1e-9)


def test_training_waits_for_more_rows_if_there_are_more_features():
    assert [min_rows_to_train(d) for d in (1, 100, 784, 10_000)] == [500, 500, 3920, 5000]


def test_two_rows_per_feature_have_the_moments_of_all_rows(wine):
    seen = Stream([0], 13, joint=True)
    seen.rows.add(wine, np.arange(178.0))
    X, weights = seen.equivalent_rows()
    mean = weights @ X / weights.sum()
    assert weights.sum() == pytest.approx(np.arange(178).sum())
    assert_close(mean, seen.rows.mean, 1e-12)
    assert_close((X - mean).T * weights @ (X - mean), seen.rows.scatter, 1e-12)


# -- once training has started ------------------------------------------------------------------


@pytest.mark.slow
@NETWORKS
def test_attributes_are_current_after_each_call(kind, shuffled, params):
    kind.set_params(n_components=4, **suited(kind, params))
    # Codes that are pushed to a prior settle later.
    n_passes = 4 if isinstance(kind, AdversarialAutoencoder) else 2
    stream(kind, shuffled, 12, n_passes=n_passes)
    assert kind.n_iter_ == len(kind.loss_curve_) > 12
    assert kind.n_samples_ == n_passes * len(shuffled)
    assert_close(kind.mean_, shuffled.mean(axis=0), 1e-6)
    codes = kind.transform(shuffled)
    spread = codes.std(axis=0)
    if is_dense(kind):
        assert (np.abs(codes.mean(axis=0)) < 0.2 * spread).all()
        assert np.isfinite(kind.score_samples(shuffled)).all()
    expected = np.sqrt(kind.explained_variance_) if not kind.whiten else np.ones(4)
    np.testing.assert_allclose(spread, expected, rtol=0.2)
    assert kind.explained_variance_ratio_.sum() == pytest.approx(kind.score(shuffled), abs=0.08)
    drawn = kind.sample(2000, 0)
    assert drawn.var(axis=0).sum() == pytest.approx(shuffled.var(axis=0).sum(), rel=0.15)
    assert np.isfinite(kind.get_covariance()).all()


@pytest.mark.slow
def test_the_error_falls_below_pcas(dense, shuffled):
    stream(dense.set_params(n_components=4), shuffled[:1500], 20, n_passes=2)
    test = shuffled[1500:]
    pca = PCA(4).fit(shuffled[:1500])
    of_pca = np.square(test - pca.inverse_transform(pca.transform(test))).sum(axis=1)
    assert dense.reconstruction_error(test).mean() < 0.95 * of_pca.mean()


@pytest.mark.slow
def test_ten_passes_come_close_to_a_fit(shuffled):
    fitted = AutoencoderTransformer(8, random_state=0).fit(shuffled[:1400])
    streamed = stream(AutoencoderTransformer(8, random_state=0), shuffled[:1400], 20, 10)
    test = shuffled[1400:]
    lost = [m.reconstruction_error(test).mean() for m in (streamed, fitted)]
    assert lost[0] < 1.05 * lost[1]


def test_centre_scale_and_anchor_stay_once_training_has_started(streamed, shuffled):
    before = streamed._center, streamed._scale, streamed.net_.module_.state_dict()
    streamed.partial_fit(shuffled[900:] * 3)
    assert streamed._center is before[0]
    assert streamed._scale == before[1]
    after = streamed.net_.module_.state_dict()
    fixed = {"components", "encoding", "decoding"} & after.keys()
    assert fixed or not is_dense(streamed)
    assert all(torch.equal(after[name], before[2][name]) for name in fixed)


def test_single_rows_wait_for_a_batch(streamed, shuffled):
    n_epochs = streamed.n_iter_
    for i in range(900, 915):
        streamed.partial_fit(shuffled[i : i + 1])
    assert streamed.n_iter_ == n_epochs
    assert streamed.n_samples_ == 915
    assert_close(streamed.mean_, shuffled[:915].mean(axis=0), 1e-9)
    streamed.partial_fit(shuffled[915:916])
    assert streamed.n_iter_ == n_epochs + 1


def test_a_fit_is_continued(kind, shuffled):
    kind.set_params(n_components=4, max_epochs=5).fit(shuffled[:600])
    codes = kind.transform(shuffled)
    before = kind.reconstruction_error(shuffled[900:]).mean()
    stream(kind, shuffled[600:900], 3)
    assert kind.n_samples_ == 900
    assert_close(kind.mean_, shuffled[:900].mean(axis=0), 1e-9)
    assert kind.reconstruction_error(shuffled[900:]).mean() < 1.02 * before
    stream(kind, shuffled[:900], 9, n_passes=3)
    assert kind.reconstruction_error(shuffled[900:]).mean() < before
    following = kind.transform(shuffled)
    if is_dense(kind):
        assert LinearRegression().fit(following, codes).score(following, codes) > 0.8
    np.testing.assert_allclose(following.std(axis=0), np.sqrt(kind.explained_variance_), rtol=0.15)


@pytest.mark.parametrize("k", [3, 13])
def test_a_linear_fit_is_continued(wine, k):
    linear = AutoencoderTransformer(k, hidden_layer_sizes=()).fit(wine[:100])
    stream(linear, wine[100:], 4)
    pca = PCA(k).fit(wine)
    np.testing.assert_allclose(linear.mean_, wine.mean(axis=0), atol=1e-9)
    assert linear.n_samples_ == 178
    total = linear.explained_variance_.sum() + (13 - k) * linear.noise_variance_
    assert total == pytest.approx(wine.var(axis=0, ddof=1).sum(), rel=0.02)
    if k == 13:  # then nothing of the first rows was lost
        assert_close(linear.explained_variance_, pca.explained_variance_, 1e-9)
    else:
        assert linear.score(wine) > 0.99 * pca.explained_variance_ratio_.sum()


def test_a_fit_forgets_the_stream(streamed, wine):
    again = clone(streamed).set_params(max_epochs=2).fit(wine)
    streamed.set_params(max_epochs=2).fit(wine)
    assert vars(streamed).keys() == vars(again).keys()
    assert np.array_equal(streamed.transform(wine), again.transform(wine))


# -- equal results -----------------------------------------------------------------


@pytest.mark.slow
@NETWORKS
def test_an_interrupted_stream_continues_from_a_pickle(kind, shuffled, params):
    kind.set_params(n_components=4, **suited(kind, params))
    chunks = [*np.array_split(shuffled[:1000], 5), shuffled[1000:1003], shuffled[1003:1200]]
    whole = clone(kind)
    pickles = {}
    for i, chunk in enumerate(chunks):
        whole.partial_fit(chunk)
        pickles[i] = pickle.dumps(kind.partial_fit(chunk))
    codes, drawn = whole.transform(shuffled), whole.sample(3, 0)
    for stop in (1, 3, 5, 6):  # before training, in the middle, while rows wait, at the end
        through = pickle.loads(pickles[stop])
        for chunk in chunks[stop + 1 :]:
            through.partial_fit(chunk)
        assert np.array_equal(through.transform(shuffled), codes)
        assert np.array_equal(through.sample(3, 0), drawn)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", torch.optim.RMSprop])
def test_every_optimizer_continues_from_a_pickle(shuffled, optimizer):
    ours = AutoencoderTransformer(3, optimizer=optimizer, random_state=0)
    stream(ours, shuffled[:800], 4)
    copied = pickle.loads(pickle.dumps(ours))
    for model in (ours, copied):
        model.partial_fit(shuffled[800:1100])
    assert np.array_equal(ours.transform(shuffled), copied.transform(shuffled))


def test_sparse_chunks_are_the_same_rows(streamed_once, shuffled):
    if not takes_tables(streamed_once):
        pytest.skip(f"{name_of(streamed_once)} takes no sparse rows")
    for container in (sparse.csr_matrix, sparse.csc_array):
        thin = clone(streamed_once)
        for chunk in np.array_split(shuffled[:900], 6):
            thin.partial_fit(container(chunk))
        assert_close(thin.transform(shuffled), streamed_once.transform(shuffled), 1e-5)


def test_stacked_rows_are_sparse_if_both_are(wine):
    thin = sparse.csr_array(wine)
    assert sparse.issparse(concatenate_rows(thin, thin))
    for pair in ((thin, thin), (thin, wine), (wine, wine)):
        both = concatenate_rows(*pair)
        both = both.toarray() if sparse.issparse(both) else both
        assert np.array_equal(both, np.tile(wine, (2, 1)))


def test_the_callers_rows_may_change_after_the_call(kind, wine):
    buffer = np.empty((89, 13))
    for half in (wine[:89], wine[89:]):
        buffer[:] = half
        kind.partial_fit(buffer)
    assert_close(kind.mean_, wine.mean(axis=0), 1e-12)


def test_the_callers_weights_may_change_after_the_call(kind, wine):
    counts, halves = np.empty(89), np.split(np.arange(178.0) % 3 + 1, 2)
    for rows, theirs in zip((wine[:89], wine[89:]), halves, strict=True):
        counts[:] = theirs
        kind.partial_fit(rows, sample_weight=counts)
    expected = np.average(wine, axis=0, weights=np.concatenate(halves))
    assert_close(kind.mean_, expected, 1e-12)


def test_weights_count_rows(kind, wine):
    counts = np.random.default_rng(0).integers(0, 3, size=178)
    weighted = stream(clone(kind), wine, 4, sample_weight=counts)
    chunks = np.array_split(np.arange(178), 4)
    for chunk in chunks:
        kind.partial_fit(np.repeat(wine[chunk], counts[chunk], axis=0))
    assert weighted.n_samples_ == kind.n_samples_ == counts.sum()
    assert_close(weighted.transform(wine), kind.transform(wine), 1e-7)
    assert_close(weighted.explained_variance_, kind.explained_variance_, 1e-9)


@pytest.mark.parametrize("n_rows", [3, 178])
def test_small_weights_are_no_obstacle(kind, wine, n_rows):
    kind.partial_fit(wine[:n_rows], sample_weight=np.full(n_rows, 0.01))
    assert kind.n_samples_ >= 1
    assert np.isfinite(kind.transform(wine)).all()
    np.testing.assert_allclose(kind.mean_, wine[:n_rows].mean(axis=0), atol=1e-9)


def test_rows_of_weight_two_count_twice_in_training(shuffled):
    one, two = (
        stream(AutoencoderTransformer(3, optimizer="sgd", random_state=0), shuffled[:600], 1)
        for _ in range(2)
    )
    one.partial_fit(shuffled[600:700])
    two.partial_fit(shuffled[600:700], sample_weight=np.full(100, 2))
    assert two.n_samples_ == one.n_samples_ + 100
    assert not np.array_equal(one.transform(shuffled), two.transform(shuffled))


# -- errors and warnings ------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 3}, "n_components=3.*4 components|4 components.*n_components=3"),
        ({"lr": -1}, "'lr'"),
        ({"device": "cuda:99"}, "absent"),
    ],
)
def test_bad_parameters_are_refused_and_nothing_is_lost(streamed, shuffled, params, message):
    codes = streamed.transform(shuffled)
    n_seen = streamed.n_samples_seen_
    with pytest.raises(ValueError, match=message):
        streamed.set_params(**params).partial_fit(shuffled[900:1000])
    assert np.array_equal(streamed.transform(shuffled), codes)
    assert streamed.n_samples_seen_ == n_seen


def test_a_linear_model_of_very_many_features_names_a_remedy():
    rows = sparse.random(5, 5000, density=0.01, format="csr", random_state=0)
    with pytest.raises(ValueError, match="IncrementalPCA"):
        AutoencoderTransformer(2, hidden_layer_sizes=()).partial_fit(rows)


def test_a_density_that_needs_all_rows_is_replaced_with_a_warning(streamed, shuffled):
    streamed.set_params(**suited(streamed, {"latent_density": "gaussian_mixture"}))
    with pytest.warns(UserWarning, match="latent_density='gaussian_mixture'.*normal distribution"):
        streamed.partial_fit(shuffled[900:])
    assert isinstance(streamed.latent_density_, Gaussian)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_share_of_variance_chooses_the_size_when_training_starts(dense, shuffled):
    dense.set_params(n_components=0.5, max_epochs=5)
    dense.partial_fit(shuffled[:300])
    of_pca = PCA(0.5).fit(shuffled[:300]).n_components_
    assert dense.n_components_ == of_pca
    dense.partial_fit(shuffled[300:600])
    settled = dense.n_components_
    assert settled <= PCA(0.5).fit(shuffled[:600]).n_components_
    assert settled in dense.dimension_curve_["n_components"]
    dense.partial_fit(shuffled[600:900])
    assert dense.n_components_ == dense.transform(shuffled).shape[1] == settled


@pytest.mark.parametrize("kind_of_failure", ["NaN", "width", "callback"])
def test_a_failed_call_loses_nothing(streamed, shuffled, kind_of_failure):
    fine = pickle.loads(pickle.dumps(streamed))
    bad = shuffled[900:1000].copy()
    if kind_of_failure == "NaN":
        bad[3, 3] = np.nan
    elif kind_of_failure == "width":
        bad = bad[:, :-1]
    else:
        streamed.set_params(callbacks=[Fail()])
    with suppress(ValueError, RuntimeError):
        streamed.partial_fit(bad)
    streamed.set_params(callbacks=None)
    for model in (streamed, fine):
        model.partial_fit(shuffled[900:1000])
    assert np.array_equal(streamed.transform(shuffled), fine.transform(shuffled))


def test_a_loss_that_is_not_finite_keeps_the_weights_and_lowers_the_rate(shuffled):
    model = stream(AutoencoderTransformer(3, random_state=0), shuffled[:900], 3)
    codes = model.transform(shuffled)
    with pytest.warns(ConvergenceWarning, match="non-finite"):
        model.set_params(lr=1e30).partial_fit(shuffled[900:1200])
    model.set_params(lr=5e-3)
    assert np.isfinite(model.transform(shuffled)).all()
    assert np.corrcoef(model.transform(shuffled)[:, 0], codes[:, 0])[0, 1] ** 2 > 0.1
    model.partial_fit(shuffled[900:1200])
    assert np.isfinite(model.loss_curve_[-1])


def test_global_state_is_left_alone(kind, shuffled, two_threads):
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002
    stream(kind.set_params(**suited(kind, {"network": OwnModule})), shuffled[:700], 2)
    assert torch.get_num_threads() == two_threads
    after = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert after == before
