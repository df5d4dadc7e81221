"""`SparseAutoencoder`: the number of active units, the dictionary, and training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import assert_close, fast
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from skae import AutoencoderTransformer, SparseAutoencoder
from skae._training.gradients import AutogradGradient
from skae.densities import SpikeAndSlab
from skae.losses import ActivityKL
from skae.networks import Output
from skae.networks.sparse import keep_largest

SPARSITIES = ["topk", "l1", "kl"]
each = pytest.mark.parametrize("sparsity", SPARSITIES)


def make(n_components=None, **params):
    return SparseAutoencoder(n_components, **{"random_state": 0, "max_epochs": 12, **params})


@pytest.fixture(scope="module", params=SPARSITIES)
def fitted(request, digits):
    return make(sparsity=request.param, n_active=8).fit(digits)


# -- active units ------------------------------------------------------------------


@pytest.mark.parametrize("n_active", [1, 7, 64, 128, 500])
def test_topk_has_exactly_n_active_units_active(digits, n_active):
    model = make(n_active=n_active, max_epochs=3).fit(digits[:700])
    active = np.count_nonzero(model.transform(digits), axis=1)
    assert set(active) == {min(n_active, 128)}
    assert model.n_active_per_row_ == pytest.approx(min(n_active, 128))


def test_more_may_be_active_after_training(digits):
    few = make(n_active=5, max_epochs=3).fit(digits[:700])
    more = make(n_active=5, transform_n_active=0.25, max_epochs=3).fit(digits[:700])
    assert set(np.count_nonzero(more.transform(digits), axis=1)) == {32}
    weights, others = (model.net_.module_.state_dict() for model in (few, more))
    assert torch.equal(weights["network.encoder.0.weight"], others["network.encoder.0.weight"])


@pytest.mark.parametrize("n_active", [3, 12.8, 0.05, 0.2])
@pytest.mark.parametrize("n_rows", [20, 700, 1797])
def test_l1_reaches_its_share_on_the_training_rows(digits, n_active, n_rows):
    if n_active == 12.8:
        n_active = 0.1
    model = make(sparsity="l1", n_active=n_active).fit(digits[:n_rows])
    asked = n_active if n_active >= 1 else 128 * n_active
    active = np.count_nonzero(model.transform(digits[:n_rows]), axis=1).mean()
    assert active == pytest.approx(asked, rel=0.02)
    assert model.n_active_per_row_ == pytest.approx(active)


def test_fewer_active_units_need_a_larger_l1_penalty(digits):
    digits = digits[:900]
    penalties = [
        float(make(sparsity="l1", n_active=n, max_epochs=12).fit(digits).net_.module_.penalty)
        for n in (2, 8, 32)
    ]
    assert penalties == sorted(penalties, reverse=True)
    assert penalties[0] > 2 * penalties[-1]


@pytest.mark.parametrize("rho", [0.03, 0.1, 0.3])
def test_kl_reaches_its_mean_activation(digits, rho):
    model = make(sparsity="kl", rho=rho, max_epochs=25).fit(digits)
    Z = model.transform(digits)
    assert Z.mean() == pytest.approx(rho, rel=0.1)
    assert np.abs(Z.mean(axis=0) - rho).mean() < 0.15 * rho


@pytest.mark.parametrize(
    ("params", "name", "values"),
    [
        ({"sparsity": "topk"}, "n_active", [0.3, 0.1, 0.03]),
        ({"sparsity": "l1"}, "n_active", [0.3, 0.1, 0.03]),
        ({"sparsity": "kl"}, "rho", [0.3, 0.1, 0.03]),
    ],
    ids=SPARSITIES,
)
def test_sparsity_rises_with_its_parameter(digits, params, name, values):
    digits = digits[:900]
    models = [make(**params, **{name: value}).fit(digits) for value in values]
    shares = [model.sparsity_ for model in models]
    assert shares == sorted(shares)
    assert shares[-1] > shares[0] + 0.05
    scores = [model.score(digits) for model in models]
    assert scores == sorted(scores, reverse=True)


def test_signs(fitted, digits):
    Z = fitted.transform(digits)
    assert (Z == 0).mean() == pytest.approx(fitted.sparsity_, abs=1e-6)
    if fitted.sparsity != "topk":
        assert (Z >= 0).all()
    if fitted.sparsity == "kl":
        assert Z.max() <= 1
        assert Z[Z > 0].min() >= fitted.rho * (1 - 1e-6)


def test_of_equal_entries_the_first_are_kept_whatever_the_batch():
    u = torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.0, 2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(keep_largest(u, 2), expected)
    assert torch.equal(keep_largest(u.repeat(50, 1), 2), expected.repeat(50, 1))


def test_what_is_active_depends_on_no_other_row(fitted, digits):
    rows = digits.astype(np.float32)
    alone = np.concatenate([fitted.transform(row[None]) for row in rows[:200]])
    assert np.array_equal(alone != 0, fitted.transform(rows)[:200] != 0)


# -- dead units ---------------------------------------------------------------------


def test_dead_units_are_those_of_no_training_row(fitted, digits):
    silent = np.flatnonzero(~fitted.transform(digits).any(axis=0))
    assert np.array_equal(fitted.dead_components_, silent)


@pytest.mark.slow
def test_units_that_died_are_revived(digits, monkeypatch):
    params = {"n_active": 4, "max_epochs": 30, "early_stopping": False}
    revived = make(400, **params).fit(digits)
    monkeypatch.setattr("skae.networks.sparse.IDLE_TURNS", np.inf)
    left = make(400, **params).fit(digits)
    assert len(revived.dead_components_) < 0.7 * len(left.dead_components_)


# -- the dictionary ----------------------------------------------------------------


def test_atoms_have_length_one(fitted):
    lengths = np.linalg.norm(fitted.components_, axis=1)
    if fitted.sparsity == "kl":
        np.testing.assert_allclose(lengths, lengths[0], rtol=1e-5)
    else:
        np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_rows_are_decoded_to_sums_of_atoms(fitted, digits):
    Z = fitted.transform(digits)
    bias = fitted.inverse_transform(np.zeros((1, fitted.n_components_)))
    assert_close(fitted.inverse_transform(Z), Z @ fitted.components_ + bias, 1e-6)
    assert_close(fitted.inverse_transform(Z), fitted.reconstruct(digits), 1e-9)


def test_components_are_sorted_and_their_shares_add_up(fitted, digits):
    variances = fitted.transform(digits).var(axis=0, ddof=1)
    assert_close(fitted.explained_variance_, variances, 1e-6)
    assert (np.diff(fitted.explained_variance_) <= 1e-12).all()
    assert fitted.explained_variance_ratio_.sum() == pytest.approx(fitted.score(digits))


def test_shares_are_what_components_add(digits):
    model = make(6, n_active=2).fit(digits)
    Z, total = model.transform(digits), np.square(digits - digits.mean(axis=0)).sum()
    mean, shares = Z.mean(axis=0), []
    for k in range(1, 7):
        kept = np.where(np.arange(6) < k, Z, mean)
        shares.append(1 - np.square(digits - model.inverse_transform(kept)).sum() / total)
    assert_close(np.cumsum(model.explained_variance_ratio_), np.array(shares), 1e-6)


def test_more_units_than_features_or_rows(digits):
    model = make(300, n_active=4).fit(digits[:100])
    assert model.transform(digits).shape == (1797, 300)
    assert make().fit(digits[:100]).n_components_ == 2 * 64


def test_a_dictionary_beats_pca_of_as_many_components_as_active_units(digits):
    model = make(200, n_active=5, max_epochs=20).fit(digits[:1400])
    linear = AutoencoderTransformer(5, hidden_layer_sizes=()).fit(digits[:1400])
    assert model.score(digits[1400:]) > linear.score(digits[1400:]) + 0.15


# -- codes as CSR ------------------------------------------------------------------


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_output_is_the_dense_output(digits, sparsity, dtype):
    X = digits[:400].astype(dtype)
    plain = make(sparsity=sparsity, max_epochs=2).fit(X)
    Z = make(sparsity=sparsity, max_epochs=2, sparse_output=True).fit_transform(X)
    assert sparse.isspmatrix_csr(Z)
    assert Z.dtype == dtype
    assert Z.nnz == np.count_nonzero(plain.transform(X))
    assert np.array_equal(Z.toarray(), plain.transform(X))


def test_sparse_codes_are_decoded(fitted, digits):
    Z = fitted.transform(digits)
    for container in (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix):
        assert np.array_equal(fitted.inverse_transform(container(Z)), fitted.inverse_transform(Z))


def test_sparse_codes_feed_a_classifier(digits):
    y = (digits[:, 20] > 0.5).astype(int)
    pipeline = make_pipeline(
        make(n_active=8, sparse_output=True, max_epochs=3), LogisticRegression(max_iter=500)
    )
    assert pipeline.fit(digits[:900], y[:900]).score(digits[900:], y[900:]) > 0.8


# -- samples -----------------------------------------------------------------------


def test_samples_have_the_activity_of_the_codes(fitted, digits):
    Z, drawn = fitted.transform(digits), fitted.latent_density_.sample(50_000, 0)
    assert_close((drawn != 0).mean(axis=0), (Z != 0).mean(axis=0), 0.05)
    assert_close(drawn.mean(axis=0), Z.mean(axis=0), 0.05)
    assert_close(drawn.var(axis=0), Z.var(axis=0), 0.1)
    if fitted.sparsity != "topk":
        assert (drawn >= 0).all()
    assert fitted.sample(3, 0).shape == (3, 64)


@pytest.mark.parametrize("support", ["real", "positive", "unit"])
def test_the_density_integrates_to_one(support):
    density = SpikeAndSlab(np.array([0.3]), np.array([0.4]), np.array([0.01]), support)
    grid = np.linspace(-1, 2, 30_001)[:, None]
    grid = grid[grid[:, 0] != 0]
    mass = np.exp(density.score_samples(grid)).sum() * 1e-4
    spike = np.exp(density.score_samples(np.zeros((1, 1))))[0]
    assert spike == pytest.approx(0.7)
    assert mass == pytest.approx(0.3, rel=1e-3)


def test_there_is_no_likelihood_in_the_space_of_the_rows(fitted, digits):
    assert not hasattr(fitted, "score_samples")
    with pytest.raises(AttributeError, match="reconstruction_error"):
        fitted.score_samples(digits)


# -- training ----------------------------------------------------------------------


def test_the_divergence_is_that_of_bernoulli_distributions():
    activity = torch.tensor([0.05, 0.2], dtype=torch.float64)
    term = ActivityKL(0.05)
    output = Output(torch.zeros(3, 1), torch.zeros(3, 2), activity=activity)
    expected = 0.05 * np.log(0.05 / 0.2) + 0.95 * np.log(0.95 / 0.8)
    np.testing.assert_allclose(term(output, torch.zeros(3, 1)).numpy(), np.full(3, expected))


@each
def test_repeated_rows_make_the_step_of_weighted_ones(digits, sparsity):
    model = make(sparsity=sparsity, max_epochs=1, n_active=8).fit(digits[:198])
    counts = torch.tensor(np.arange(198) % 3, dtype=torch.float64)
    x = torch.from_numpy(digits[:198] - digits[:198].mean(axis=0))
    gradients = []
    for rows, weights in [
        (x, counts / counts.mean()),
        (x.repeat_interleave(counts.long(), dim=0), None),
    ]:
        network = model.net_.at_precision(torch.float64)
        network = type(model.net_.module_)(
            network.network, **{name: b.clone() for name, b in network.named_buffers()}
        ).requires_grad_(True)
        network.train()
        gradient = torch.zeros(1)
        for p in network.parameters():
            p.grad = torch.zeros_like(p)
        AutogradGradient(network, model._make_objective(), gradient)(rows, None, weights)
        gradients.append(torch.cat([p.grad.reshape(-1) for p in network.parameters()]))
        network.requires_grad_(False)
    torch.testing.assert_close(*gradients)


def test_a_warm_start_of_another_sparsity_is_refused(digits):
    model = make(warm_start=True, max_epochs=1).fit(digits[:200])
    with pytest.raises(ValueError, match=r"sparsity='l1'.*warm_start=False"):
        model.set_params(sparsity="l1").fit(digits[:200])


def test_a_warm_start_takes_another_number_of_active_units(digits):
    model = make(warm_start=True, max_epochs=1, n_active=4).fit(digits[:200])
    model.set_params(n_active=9).fit(digits[:200])
    assert set(np.count_nonzero(model.transform(digits), axis=1)) == {9}


@each
def test_rows_may_arrive_in_chunks(digits, sparsity):
    model = make(sparsity=sparsity, n_active=8)
    for chunk in np.array_split(digits, 18):
        model.partial_fit(chunk)
    assert model.n_samples_seen_ == 1797
    first = model.score(digits)
    for _ in range(3):
        for chunk in np.array_split(digits, 18):
            model.partial_fit(chunk)
    assert model.score(digits) > (0.6 if sparsity == "kl" else max(first, 0.6))
    active = np.count_nonzero(model.transform(digits), axis=1).mean()
    assert model.n_active_per_row_ == pytest.approx(active, rel=0.15)


def test_a_search_over_sizes_and_sparsity(digits):
    grid = {"n_components": [20, 64], "sparsity": SPARSITIES}
    search = GridSearchCV(fast(make(n_active=8)), grid, cv=2, error_score="raise").fit(digits[:400])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("value", [0.5, 0.9])
def test_a_share_of_variance_chooses_no_size(digits, value):
    with pytest.raises(InvalidParameterError, match="n_components"):
        clone(make()).set_params(n_components=value).fit(digits)
