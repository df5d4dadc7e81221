"""`AdversarialAutoencoder`: codes are distributed like the prior, and PCA restores no better."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from conftest import assert_close, fast
from scipy.stats import ks_2samp
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skae import AdversarialAutoencoder, AutoencoderTransformer, LatentDimensionSearch
from skae.densities import Gaussian, Mixture, Uniform
from skae.export import to_onnx


def make(n_components=2, **params):
    return AdversarialAutoencoder(n_components, random_state=0, **params)


def told_apart(first, second):
    X, y = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    judge = HistGradientBoostingClassifier(max_iter=40, random_state=0)
    return cross_val_score(judge, X, y, cv=folds, scoring="roc_auc").mean()


@pytest.fixture(scope="module")
def split(digits):
    return train_test_split(digits, test_size=600, random_state=0)


@pytest.fixture(scope="module", params=["standard_normal", "uniform", "gaussian_mixture"])
def fitted(request, split):
    return make(prior=request.param, max_epochs=100).fit(split[0])


def test_codes_of_new_rows_are_distributed_like_the_prior(fitted, split):
    codes, draws = fitted.transform(split[1]), fitted.prior_.sample(600, random_state=1)
    assert told_apart(codes, draws) < 0.66
    assert max(ks_2samp(*pair).statistic for pair in zip(codes.T, draws.T, strict=True)) < 0.15
    assert (fitted.prior_distances_ < 0.1).all()
    assert fitted.discriminator_loss_curve_[-1] == pytest.approx(np.log(4), abs=0.05)


def test_codes_have_the_moments_of_the_prior(fitted, split):
    codes = fitted.transform(split[0])
    deviation = {"uniform": 1 / np.sqrt(3)}.get(fitted.prior, 1.0)
    mean = fitted.prior_.sample(2**15, 0).mean(axis=0)
    np.testing.assert_allclose(codes.mean(axis=0), mean, rtol=0, atol=0.03)
    np.testing.assert_allclose(codes.std(axis=0, ddof=1), deviation, rtol=0.02)
    np.testing.assert_allclose(fitted.explained_variance_, codes.var(axis=0, ddof=1), rtol=1e-3)


def test_new_rows_are_restored_better_than_by_pca(fitted, split):
    pca = PCA(2, svd_solver="full").fit(split[0])
    lost = np.square(split[1] - pca.inverse_transform(pca.transform(split[1]))).sum()
    assert fitted.reconstruction_error(split[1]).sum() < 0.85 * lost
    assert fitted.pca_error_ratio_ < 0.85


def test_samples_are_decoded_draws_of_the_prior(fitted):
    drawn = fitted.sample(5, random_state=3, observation_noise=False)
    codes = fitted.prior_.sample(5, random_state=np.random.RandomState(3))
    assert_close(drawn, fitted.inverse_transform(codes), 1e-9)
    assert fitted.latent_density_ is fitted.prior_


def test_each_prior_is_what_its_name_says():
    X = np.random.default_rng(0).normal(size=(60, 4))
    kinds = {"standard_normal": Gaussian, "uniform": Uniform, "gaussian_mixture": Mixture}
    for name, kind in kinds.items():
        assert isinstance(make(prior=name, max_epochs=1).fit(X).prior_, kind)


def test_an_estimator_is_cloned_and_fitted_to_the_codes_of_pca(wine):
    density = KernelDensity(bandwidth=0.3)
    fitted = make(prior=density, max_epochs=2).fit(wine)
    assert not hasattr(density, "tree_")
    trained_on = np.asarray(fitted.prior_.estimator_.tree_.data)
    assert trained_on.shape == (178, 2)
    np.testing.assert_allclose(trained_on.std(axis=0), 1, rtol=1e-6)


def test_an_object_without_fit_is_used_as_it_is(digits):
    prior = Gaussian([3.0, -1.0], [[4.0, 1.0], [1.0, 1.0]])
    fitted = make(prior=prior, max_epochs=60).fit(digits)
    codes = fitted.transform(digits)
    assert fitted.prior_ is prior
    np.testing.assert_allclose(codes.mean(axis=0), [3, -1], atol=0.1)
    np.testing.assert_allclose(codes.std(axis=0), [2, 1], rtol=0.05)
    assert np.corrcoef(codes.T)[0, 1] == pytest.approx(0.5, abs=0.1)


def test_a_prior_of_another_dimension_is_refused(wine):
    with pytest.raises(
        ValueError, match=r"draws 32768 codes of shape \(32768, 3\).*n_components=2"
    ):
        make(prior=Uniform(3)).fit(wine)


def test_without_weight_it_is_the_plain_autoencoder(digits):
    params = {"max_epochs": 10, "early_stopping": False, "weight_decay": 0.3, "random_state": 0}
    plain = AutoencoderTransformer(3, stochastic_depth=0.0, **params).fit(digits)
    without = AdversarialAutoencoder(3, prior_weight=0, **params).fit(digits)
    assert_close(without.reconstruct(digits), plain.reconstruct(digits), 1e-12)
    assert without.loss_curve_ == plain.loss_curve_


def test_the_weights_that_are_kept_are_the_latest_that_are_better_than_pca(digits):
    latest = make(8, max_epochs=60).fit(digits)
    assert latest.net_.best_epoch_ == 60
    assert min(latest.validation_loss_curve_) <= latest.validation_loss_curve_[-1]


@pytest.mark.parametrize("seed", range(10))
def test_no_seed_fails(seed, cancer):
    train, test = train_test_split(cancer, test_size=0.3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        fitted = make(4, max_epochs=40, early_stopping=False)
        fitted.set_params(random_state=seed).fit(train)
    pca = PCA(4, svd_solver="full").fit(train)
    lost = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    assert fitted.reconstruction_error(test).sum() < lost
    assert (fitted.transform(test).std(axis=0) > 0.7).all()


def test_a_prior_that_codes_cannot_have_is_reported(digits):
    two_points = Gaussian(np.zeros(2), np.eye(2))
    two_points.sample = lambda n, random_state=None: np.where(
        np.random.RandomState(0).rand(n, 1) < 0.5, [[-1.0, -1.0]], [[1.0, 1.0]]
    )
    with pytest.warns(ConvergenceWarning, match=r"not distributed like prior=.*Raise prior_weight"):
        make(prior=two_points, max_epochs=3).fit(digits)


def test_pca_that_is_kept_is_reported_if_its_codes_are_not_the_priors():
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 6)) * [0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    X[:, 0] += random.choice([-1.0, 1.0], size=300)  # two groups; there is no other structure
    with pytest.warns(ConvergenceWarning, match="PCA was kept"):
        kept = make(1, max_epochs=20).fit(X)
    assert kept.net_.module_.is_at_anchor()
    assert kept.pca_error_ratio_ == 1.0
    assert kept.prior_distances_[0] > 0.2


def test_normal_rows_whose_pca_is_kept_are_not_reported(recwarn):
    X = np.random.default_rng(0).normal(size=(300, 4)) * [3, 2, 1, 1]
    kept = make(2, max_epochs=20).fit(X)
    assert kept.net_.module_.is_at_anchor()
    assert not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]
    pca = PCA(2).fit(X)
    codes = pca.transform(X) / np.sqrt(pca.explained_variance_)
    assert_close(np.abs(kept.transform(X)), np.abs(codes), 1e-6)
    assert_close(kept.singular_values_, pca.singular_values_, 1e-6)
    assert_close(kept.get_covariance(), pca.get_covariance(), 0.02)


def test_partial_fit_continues_the_discriminator(digits):
    streamed = make(2)
    for _ in range(6):
        for part in np.array_split(digits, 3):
            streamed.partial_fit(part)
    codes = streamed.transform(digits)
    assert "gradient" in streamed._stream.training
    assert streamed.latent_density_ is streamed.prior_
    draws = streamed.prior_.sample(len(codes), 0)
    assert max(ks_2samp(*pair).statistic for pair in zip(codes.T, draws.T, strict=True)) < 0.15
    again = pickle.loads(pickle.dumps(streamed))
    assert np.array_equal(
        again.partial_fit(digits).transform(digits), streamed.partial_fit(digits).transform(digits)
    )


def test_a_warm_start_keeps_the_prior(digits):
    first = make(prior="gaussian_mixture", warm_start=True, max_epochs=5).fit(digits)
    prior = first.prior_
    first.fit(digits)
    assert first.prior_ is prior


@pytest.mark.parametrize(
    "params", [{}, {"prior": "gaussian_mixture"}, {"prior": "uniform", "anchor": None}]
)
def test_a_pickle_answers_with_the_same_bits(params, wine):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = fast(make(**params)).fit(wine)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(loaded.transform(wine), fitted.transform(wine))
    assert np.array_equal(loaded.sample(4, 0), fitted.sample(4, 0))
    assert np.array_equal(loaded.prior_.sample(4, 0), fitted.prior_.sample(4, 0))


@pytest.mark.parametrize("method", ["transform", "inverse_transform", "reconstruct"])
def test_an_exported_model_gives_the_same_numbers(method, wine):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    fitted = make(3, max_epochs=20, early_stopping=False).fit(wine)
    given = fitted.transform(wine) if method == "inverse_transform" else wine
    model = to_onnx(fitted, method, dtype="float64")
    session = runtime.InferenceSession(model.SerializeToString())
    (result,) = session.run(None, {"X": given})
    assert_close(result, getattr(fitted, method)(given), 1e-12)


def test_a_callback_that_reads_batches_sees_the_output_and_changes_no_result(digits):
    class Reads(Callback):
        def on_batch_end(self, net, **kwargs):
            assert kwargs["training"]
            assert kwargs["y_pred"].code.shape[1] == 2
            assert np.isfinite(float(kwargs["discriminator_loss"]))

    params = {"max_epochs": 2, "early_stopping": False}
    plain = make(**params).fit(digits)
    read = make(callbacks=[Reads()], **params).fit(digits)
    assert_close(read.transform(digits), plain.transform(digits), 1e-3)


def test_it_takes_pcas_place_in_a_pipeline_and_a_search(cancer):
    pipe = make_pipeline(StandardScaler(), make(max_epochs=5))
    assert pipe.fit_transform(cancer).shape == (569, 2)
    search = LatentDimensionSearch(make(max_epochs=5), n_components=[1, 2], cv=2).fit(cancer)
    assert search.best_params_["n_components"] in (1, 2)


def test_other_densities_are_fitted_to_the_codes(digits):
    fitted = make(latent_density="gaussian_mixture", max_epochs=10).fit(digits)
    assert isinstance(fitted.latent_density_, Mixture)
    assert isinstance(
        make(latent_density="gaussian", max_epochs=2).fit(digits).latent_density_, Gaussian
    )
