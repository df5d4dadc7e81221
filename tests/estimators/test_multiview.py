"""Several views: the joint PCA, missing views, and predictions of one view from the others."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import assert_close, fast
from scipy import sparse
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, MultiViewAutoencoder, VAETransformer
from skae.export import to_onnx

VIEWS = {"b": [5, 0, 3], "a": [1, 2, 4, 6, 7], "c": slice(8, None)}  # of wine's 13 columns
LINEAR = {"hidden_layer_sizes": ()}


def make(**params):
    return MultiViewAutoencoder(random_state=0, **{"views": VIEWS, **params})


def trained(**params):
    """With a few epochs, which are kept."""
    return make(**{"max_epochs": 4, "early_stopping": False, "hidden_layer_sizes": 8, **params})


def without(X, columns, rows=slice(None)):
    """Rows without a view."""
    X = X.copy()
    X[rows, columns] = np.nan
    return X


@pytest.fixture
def gappy(wine):
    """Wine, in which each third row lacks view "b" and each third view "c"."""
    X = wine.copy()
    X[::3, VIEWS["b"]] = np.nan
    X[1::3, VIEWS["c"]] = np.nan
    return X


@pytest.fixture(scope="module")
def curve():
    """Two views of three and four columns that depend on one number, and not linearly."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, size=(700, 1))
    X = np.hstack([t, t**2, np.sin(3 * t), np.cos(3 * t), t**3, np.abs(t), np.cos(5 * t)])
    return X + 0.05 * rng.normal(size=X.shape)


CURVE_VIEWS = [slice(0, 3), slice(3, None)]


# -- identities --------------------------------------------------------------------


@pytest.mark.parametrize("views", [None, [slice(None)], {"all": list(range(13))}], ids=str)
@pytest.mark.parametrize("early_stopping", [True, False])
def test_one_view_is_the_plain_autoencoder(wine, views, early_stopping):
    params = {"max_epochs": 4, "early_stopping": early_stopping}
    plain = AutoencoderTransformer(3, stochastic_depth=0, random_state=0, **params).fit(wine)
    single = make(n_components=3, views=views, **params).fit(wine)
    assert np.array_equal(single.transform(wine), plain.transform(wine))
    assert np.array_equal(single.sample(5, random_state=0), plain.sample(5, random_state=0))


@pytest.mark.parametrize("n_components", [1, 4, 20])
def test_linear_unscaled_views_are_pca(wine, n_components):
    linear = make(n_components=n_components, scale_views=False, **LINEAR).fit(wine)
    pca = PCA(min(n_components, 13)).fit(wine)
    assert_close(linear.reconstruct(wine), pca.inverse_transform(pca.transform(wine)), 1e-12)
    k = pca.n_components_
    assert_close(np.abs(linear.transform(wine)[:, :k]), np.abs(pca.transform(wine)), 1e-12)
    assert_close(linear.explained_variance_[:k], pca.explained_variance_, 1e-12)


def test_linear_scaled_views_are_pca_of_views_of_equal_variance(raw_cancer):
    views = [slice(0, 10), slice(20, None), slice(10, 20)]
    linear = make(n_components=5, views=views, **LINEAR).fit(raw_cancer)
    factors = np.ones(30)
    for view in views:
        factors[view] = 1 / np.sqrt(raw_cancer[:, view].var(axis=0).sum())
    pca = PCA(5).fit(raw_cancer * factors)
    expected = pca.inverse_transform(pca.transform(raw_cancer * factors)) / factors
    assert_close(linear.reconstruct(raw_cancer), expected, 1e-10)


def test_without_a_limit_of_components_the_linear_prediction_is_ridge_regression(wine):
    views = {"first": slice(0, 6), "second": slice(6, None)}
    linear = make(n_components=13, views=views, scale_views=False, **LINEAR).fit(wine)
    a, b = wine[:, :6], wine[:, 6:]
    penalties = np.logspace(-5, 1, 13) * len(wine) * a.var(axis=0).mean()
    ridge = RidgeCV(penalties, fit_intercept=False).fit(a, b)
    assert_close(linear.predict_view(wine, "second"), ridge.predict(a), 1e-10)


def test_private_components_complete_each_view(wine):
    linear = make(n_components=1, n_private=13, **LINEAR).fit(wine)
    assert linear.n_components_ == 1 + 3 * 13
    assert_close(linear.reconstruct(wine), wine, 1e-9)
    joint = make(n_components=1, **LINEAR).fit(wine)
    assert_close(linear.transform(wine)[:, 0], joint.transform(wine)[:, 0], 1e-9)


def test_the_order_of_columns_does_not_matter(wine):
    order = np.random.default_rng(0).permutation(13)
    inverse = np.argsort(order)
    columns = {name: np.arange(13)[its] for name, its in VIEWS.items()}
    moved = {name: inverse[np.sort(its)] for name, its in columns.items()}
    # Within a view, columns keep their order, and so do the weights that are drawn.
    keeps = all((np.diff(its) > 0).all() for its in moved.values())
    linear, other = (make(views=v, **LINEAR) for v in (VIEWS, moved))
    assert_close(
        other.fit(wine[:, order]).reconstruct(wine[:, order])[:, inverse],
        linear.fit(wine).reconstruct(wine),
        1e-9,
    )
    assert not keeps  # so that only linear models are equal


@pytest.mark.parametrize(
    "views",
    [
        [[0, 3, 5], [1, 2, 4, 6, 7], [-1, -2, -3, 11 - 2, 8]],
        [np.isin(np.arange(13), VIEWS["b"]), (1, 2, 4, 6, 7), range(8, 13)],
    ],
    ids=["negative", "mask"],
)
def test_groups_are_indices_slices_or_masks(wine, views):
    fitted = trained(views=views).fit(wine)
    assert np.array_equal(fitted.transform(wine), trained().fit(wine).transform(wine))
    assert list(fitted.views_) == [0, 1, 2]


# -- missing views -------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"n_private": 2}, {"scale_views": False}, LINEAR], ids=str)
def test_missing_views_in_every_method(gappy, wine, params):
    fitted = trained(n_components=3, whiten=True, **params).fit(gappy)
    Z = fitted.transform(gappy)
    assert np.isfinite(Z).all()
    assert np.isfinite(fitted.reconstruct(gappy)).all()
    assert np.isfinite(fitted.sample(5, random_state=0)).all()
    assert np.isfinite(fitted.interpolate(gappy[:2], gappy[2:4], 3)).all()
    assert 0 < fitted.score(gappy) < 1
    assert fitted.noise_variance_ > 0
    assert fitted.explained_variance_ratio_.sum() == pytest.approx(fitted.score(gappy))
    assert np.array_equal(fitted.inverse_transform(Z), fitted.reconstruct(gappy))
    errors = fitted.reconstruction_error(gappy, per_feature=True)
    assert np.array_equal(errors == 0, np.isnan(gappy))
    observed = np.where(np.isnan(gappy), 0, (fitted.reconstruct(gappy) - gappy) ** 2)
    assert_close(errors, observed, 1e-9)


def test_the_score_counts_what_was_observed(gappy):
    fitted = trained().fit(gappy)
    left = np.nansum((gappy - fitted.reconstruct(gappy)) ** 2)
    assert fitted.score(gappy) == pytest.approx(1 - left / np.nansum((gappy - fitted.mean_) ** 2))
    np.testing.assert_allclose(fitted.mean_, np.nanmean(gappy, axis=0), atol=1e-12)


def test_rows_with_all_views_train_the_same_if_views_may_be_missing(gappy):
    """Without missing views in them, rows are treated alike whatever others lack."""
    fitted = trained().fit(gappy)
    complete = gappy[2::3]
    assert_close(fitted.transform(gappy)[2::3], fitted.transform(complete), 1e-12)


def test_a_missing_view_of_rows_is_the_prediction(wine):
    fitted = trained().fit(wine)
    hidden = without(wine, VIEWS["b"])
    predicted = fitted.predict_view(hidden, "b")
    assert np.array_equal(predicted, fitted.reconstruct(hidden)[:, [0, 3, 5]])
    assert np.array_equal(predicted, fitted.predict_view(wine, "b"))  # which does not look at it


def test_private_codes_of_a_missing_view_do_not_matter(wine):
    fitted = trained(n_components=2, n_private=1).fit(wine)
    hidden = without(wine, VIEWS["b"])
    codes = fitted.transform(hidden)
    assert np.ptp(codes[:, 2]) < 1e-12  # of view "b", the first
    assert np.ptp(codes[:, 3]) > 0.1


def test_a_view_is_predicted_better_than_by_a_linear_model(curve):
    fitted = make(views=CURVE_VIEWS, n_components=4, max_epochs=60).fit(curve[:500])
    test = curve[500:]
    for i, (given, asked) in enumerate([CURVE_VIEWS[::-1], CURVE_VIEWS]):
        linear = LinearRegression().fit(curve[:500, given], curve[:500, asked])
        lost = np.square(linear.predict(test[:, given]) - test[:, asked]).sum()
        assert np.square(fitted.predict_view(test, i) - test[:, asked]).sum() < 0.7 * lost
    joint = make(views=CURVE_VIEWS, n_components=4, **LINEAR).fit(curve[:500])
    assert fitted.reconstruction_error(test).sum() < joint.reconstruction_error(test).sum()


def test_codes_of_one_view_are_near_those_of_all(digits):
    views = {"upper": slice(0, 40), "lower": slice(40, None)}
    fitted = make(n_components=6, views=views, max_epochs=25).fit(digits[:1000])
    linear = make(n_components=6, views=views, **LINEAR).fit(digits[:1000])
    test, upper = digits[1000:], without(digits[1000:], slice(40, None))
    far = [
        np.square(m.transform(upper) - m.transform(test)).sum() / np.square(m.transform(test)).sum()
        for m in (fitted, linear)
    ]
    assert far[0] < 0.8 * far[1]


def test_fewer_views_in_training_cost_little(curve):
    rng = np.random.default_rng(0)
    X = curve[:500].copy()
    for view in CURVE_VIEWS:
        rows = np.flatnonzero(~np.isnan(X).any(axis=1))
        X[rng.choice(rows, 75, replace=False), view] = np.nan
    params = {"views": CURVE_VIEWS, "n_components": 3, "max_epochs": 60}
    errors = [
        make(**params).fit(rows).reconstruction_error(curve[500:]).sum()
        for rows in (X, curve[:500])
    ]
    assert errors[0] < 1.15 * errors[1]


def test_views_that_no_row_has_both():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 6))
    X[::2, :3] = np.nan
    X[1::2, 3:] = np.nan
    fitted = trained(views=[slice(0, 3), slice(3, None)]).fit(X)
    assert np.isfinite(fitted.reconstruct(X)).all()
    linear = make(views=[slice(0, 3), slice(3, None)], **LINEAR).fit(X)
    assert_close(linear.predict_view(X[::2], 0), np.tile(linear.mean_[:3], (30, 1)), 1e-9)


def test_float32_and_memory_maps_with_missing_views(gappy, tmp_path):
    fitted = trained().fit(gappy)
    narrow = fitted.transform(gappy.astype(np.float32))
    assert narrow.dtype == np.float32
    assert_close(narrow, fitted.transform(gappy), 1e-5)
    np.save(tmp_path / "rows.npy", gappy)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert np.array_equal(trained().fit(mapped).transform(mapped), fitted.transform(gappy))


def test_weights_of_two_are_two_rows_with_missing_views(gappy):
    X = gappy[:18]
    twice = clone(trained()).fit(np.vstack([X, X])[:27])
    weights = np.ones(18)
    weights[:9] = 2
    assert_close(trained().fit(X, sample_weight=weights).transform(X), twice.transform(X), 1e-6)


# -- other methods -----------------------------------------------------------------


@pytest.mark.parametrize("make_frame", [pd.DataFrame, pl.DataFrame])
def test_frames_with_names(gappy, make_frame):
    columns = [f"x{i}" for i in range(13)]
    frame = make_frame(dict(zip(columns, gappy.T, strict=True)))
    named = {k: [f"x{i}" for i in np.arange(13)[v]] for k, v in VIEWS.items()}
    fitted = trained(views=named).fit(frame)
    expected = trained().fit(gappy)
    assert_close(np.asarray(fitted.transform(frame)), expected.transform(gappy), 1e-6)
    some = frame[1:10:3] if make_frame is pl.DataFrame else frame.iloc[1:10:3]
    predicted = fitted.set_output(transform="pandas").predict_view(some, "b")
    assert list(predicted.columns) == ["x0", "x3", "x5"]
    assert_close(predicted.to_numpy(), expected.predict_view(gappy[1:10:3], "b"), 1e-6)


def test_pickles_and_onnx_with_missing_views(gappy):
    onnxruntime = pytest.importorskip("onnxruntime")
    fitted = trained(n_components=3, n_private=1).fit(gappy)
    copied = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(copied.transform(gappy), fitted.transform(gappy))
    assert np.array_equal(
        copied.predict_view(gappy[1::3], "c"), fitted.predict_view(gappy[1::3], "c")
    )
    for method in ("transform", "reconstruct"):
        model = to_onnx(fitted, method, dtype="float64")
        session = onnxruntime.InferenceSession(model.SerializeToString())
        (output,) = session.run(None, {"X": gappy})
        assert_close(output, getattr(fitted, method)(gappy), 1e-9)


def test_a_pipeline_scales_observed_values_and_passes_missing_views(gappy):
    pipeline = make_pipeline(StandardScaler(), trained()).fit(gappy)
    assert np.isfinite(pipeline.transform(gappy)).all()


def test_warm_start_continues(gappy):
    warm = trained(n_private=1, warm_start=True).fit(gappy)
    before = warm.score(gappy)
    assert warm.set_params(max_epochs=20).fit(gappy).score(gappy) > before
    with pytest.raises(ValueError, match=r"warm_start=True continues .*same views"):
        warm.set_params(views={name: VIEWS[name] for name in "abc"}).fit(gappy)


def test_validation_rows_may_lack_views(wine, gappy):
    fitted = make(max_epochs=4, hidden_layer_sizes=8).fit(wine[:100], X_val=gappy[100:])
    assert np.isfinite(fitted.validation_loss_curve_).all()


def test_dask_rows_with_missing_views(gappy):
    da = pytest.importorskip("dask.array")
    rows = da.from_array(gappy, chunks=(60, 13))
    fitted = trained().fit(rows)
    expected = trained().fit(gappy)
    assert_close(np.asarray(fitted.transform(rows)), expected.transform(gappy), 1e-9)
    X = da.from_array(gappy[1::3], chunks=(20, 13))
    assert_close(
        np.asarray(fitted.predict_view(X, "b")), expected.predict_view(gappy[1::3], "b"), 1e-9
    )


def test_partial_fit_of_complete_rows(curve):
    streamed = make(views=CURVE_VIEWS, n_components=3, hidden_layer_sizes=8)
    for _ in range(3):
        streamed.partial_fit(curve)
    assert streamed.n_iter_ > 0
    assert np.isfinite(streamed.predict_view(curve, 0)).all()
    with pytest.raises(ValueError, match="partial_fit needs rows with all views"):
        streamed.partial_fit(without(curve, slice(0, 3), slice(0, 10)))


# -- experts -------------------------------------------------------------------------

EXPERTS = pytest.mark.parametrize("experts", ["product", "mixture"])


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_the_linear_product_of_complete_rows_is_the_linear_variational_autoencoder(wine, beta):
    product = make(n_components=3, scale_views=False, experts="product", beta=beta, **LINEAR)
    vae = VAETransformer(3, beta=beta, **LINEAR).fit(wine)
    product.fit(wine)
    mean, std = product.posterior(wine)
    assert_close(np.abs(mean), np.abs(vae.posterior(wine)[0]) * product._scale, 1e-9)
    assert_close(std, vae.posterior(wine)[1] * product._scale, 1e-9)
    assert_close(product.score_samples(wine), vae.score_samples(wine), 1e-9)


@EXPERTS
def test_transform_returns_posterior_means(gappy, experts):
    for whiten in (False, True):
        fitted = trained(experts=experts, whiten=whiten).fit(gappy)
        mean, std = fitted.posterior(gappy)
        assert np.array_equal(mean, fitted.transform(gappy))
        assert np.abs(mean.mean(axis=0)).max() < 1e-9
        assert np.isfinite(std).all()
        assert (std > 0).all()
        if whiten:
            assert_close(mean.std(axis=0, ddof=1), np.ones(2), 1e-6)


def test_fewer_views_have_wider_posteriors(wine):
    fitted = trained(experts="product").fit(wine)
    std = fitted.posterior(wine)[1]
    for columns in VIEWS.values():
        hidden = without(wine, columns)
        assert (fitted.posterior(hidden)[1] > std).all()
        prior = fitted._code_scale  # in units of the codes
        assert (fitted.posterior(hidden)[1] < prior).all()


@EXPERTS
def test_a_view_of_rows_is_predicted_by_experts(curve, experts):
    fitted = make(views=CURVE_VIEWS, n_components=4, max_epochs=60, experts=experts)
    fitted.fit(curve[:500])
    test = curve[500:]
    for i, (given, asked) in enumerate([CURVE_VIEWS[::-1], CURVE_VIEWS]):
        linear = LinearRegression().fit(curve[:500, given], curve[:500, asked])
        lost = np.square(linear.predict(test[:, given]) - test[:, asked]).sum()
        assert np.square(fitted.predict_view(test, i) - test[:, asked]).sum() < 0.7 * lost
    linear = make(views=CURVE_VIEWS, n_components=4, experts=experts, **LINEAR).fit(curve[:500])
    assert fitted.score_samples(test).mean() > linear.score_samples(test).mean()


@EXPERTS
def test_samples_of_the_prior_resemble_rows(curve, experts):
    fitted = make(views=CURVE_VIEWS, n_components=3, max_epochs=60, experts=experts).fit(curve)
    density = fitted.latent_density_
    codes = density.sample(4000, np.random.RandomState(0))
    raw = (codes / fitted._code_scale) @ fitted._rotation.T + fitted._code_mean
    assert np.abs(raw.mean(axis=0)).max() < 0.1  # standard normal, in the network's units
    assert_close(np.cov(raw.T), np.eye(3), 0.1)
    drawn = fitted.sample(2000, random_state=0)
    assert np.array_equal(drawn, fitted.sample(2000, random_state=0))
    differences = np.abs(drawn.mean(axis=0) - curve.mean(axis=0)) / curve.std(axis=0)
    assert differences.max() < 0.35


def test_rows_are_drawn_given_the_views_that_are_there(curve):
    fitted = make(views=CURVE_VIEWS, n_components=3, max_epochs=60, experts="product").fit(curve)
    hidden = without(curve[:5], CURVE_VIEWS[1])
    few, all_views = (fitted.sample_around(X, 200, random_state=0) for X in (hidden, curve[:5]))
    assert few.shape == (5, 200, 7)
    assert (few.var(axis=1).sum(axis=1) > all_views.var(axis=1).sum(axis=1)).all()


@EXPERTS
def test_bounds_are_of_the_views_that_are_there(gappy, wine, experts):
    linear = make(n_components=3, experts=experts, views=list(VIEWS.values()), **LINEAR).fit(wine)
    hidden = without(wine, slice(8, None))
    bound = linear.score_samples(hidden)
    model = linear.net_.module_
    noise = float(model.noise_variance) / np.square(linear._column_scales) * linear._scale**2
    decoding = model.decoding.numpy() * linear._scale
    covariance = decoding.T @ decoding + np.diag(noise)
    normal = multivariate_normal(linear.mean_[:8], covariance[:8, :8])
    exact = normal.logpdf(hidden[:, :8])
    assert abs(bound.mean() - exact.mean()) < 0.05  # draws are the same for all rows
    assert np.isfinite(trained(experts=experts).fit(gappy).score_samples(gappy)).all()


def test_without_a_weight_of_the_prior_rows_are_restored_better(curve):
    options = {"views": CURVE_VIEWS, "n_components": 3, "max_epochs": 40, "experts": "product"}
    errors = [
        make(beta=beta, **options).fit(curve[:500]).reconstruction_error(curve[500:]).sum()
        for beta in (0.0, 1.0, 30.0)
    ]
    assert errors == sorted(errors)
    options |= LINEAR
    joint, linear = (make(**{**options, "experts": e}, beta=0.0) for e in (None, "product"))
    assert_close(linear.fit(curve).reconstruct(curve), joint.fit(curve).reconstruct(curve), 1e-6)


@EXPERTS
def test_experts_are_pickled_and_exported(gappy, experts):
    onnxruntime = pytest.importorskip("onnxruntime")
    fitted = trained(n_components=3, experts=experts).fit(gappy)
    assert np.array_equal(
        trained(n_components=3, experts=experts).fit(gappy).transform(gappy),
        fitted.transform(gappy),
    )
    copied = pickle.loads(pickle.dumps(fitted))
    for own, other in zip(copied.posterior(gappy), fitted.posterior(gappy), strict=True):
        assert np.array_equal(own, other)
    for method in ("transform", "reconstruct"):
        model = to_onnx(fitted, method, dtype="float64")
        session = onnxruntime.InferenceSession(model.SerializeToString())
        (output,) = session.run(None, {"X": gappy})
        assert_close(output, getattr(fitted, method)(gappy), 1e-9)


def test_experts_in_partial_fit_and_warm_starts(curve, gappy):
    streamed = make(views=CURVE_VIEWS, n_components=3, hidden_layer_sizes=8, experts="product")
    for _ in range(3):
        streamed.partial_fit(curve)
    assert streamed.n_iter_ > 0
    assert np.isfinite(streamed.posterior(curve)[1]).all()
    warm = trained(experts="product", warm_start=True).fit(gappy)
    before = warm.score_samples(gappy).mean()
    assert warm.set_params(max_epochs=20).fit(gappy).score_samples(gappy).mean() > before
    with pytest.raises(ValueError, match=r"warm_start=True continues .*and experts"):
        warm.set_params(experts="mixture").fit(gappy)


def test_what_experts_need(wine):
    with pytest.raises(ValueError, match=r"experts='product' needs n_private=0 instead of 1"):
        make(experts="product", n_private=1).fit(wine)
    with pytest.raises(ValueError, match=r"experts='mixture' needs loss='squared_error'"):
        make(experts="mixture", loss="huber").fit(wine)
    assert not hasattr(make(), "posterior")
    assert hasattr(make(experts="product"), "sample_around")


# -- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([[0, 1], [1, 2]], r"Column 1 is in view 0 and in view 1"),
        ([[0, 0, 1], [2]], r"Column 0 is in view 0 and in view 0"),
        ([slice(0, 3), slice(3, 6)], r"No view of views has the columns 6, 7, 8, 9, 10 and 2 more"),
        ([slice(0, 3), slice(3, None), []], r"view 2 of views is \[\], which has no columns"),
        ({"a": slice(0, 12), "b": [12, 13]}, r"view 'b' of views is \[12, 13\], which are no col"),
        ({"a": ["x"], "b": slice(None)}, r"view 'a' of views is \['x'\].*X has no column names"),
        ({"a": [True, False], "b": slice(1, None)}, r"view 'a' of views is \[True, False\]"),
        ({}, "views is empty"),
    ],
    ids=str,
)
def test_views_that_do_not_share_the_columns_out(wine, views, message):
    with pytest.raises(ValueError, match=message):
        make(views=views).fit(wine)


def test_unknown_names_of_columns(wine):
    frame = pd.DataFrame(wine).add_prefix("x")
    with pytest.raises(ValueError, match=r"view 'a' of views is \['y'\].*X has no column 'y'"):
        make(views={"a": ["y"], "b": slice(None)}).fit(frame)
    with pytest.raises(ValueError, match=r"Column 'x1' is in view 'a' and in view 'b'"):
        make(views={"a": ["x1"], "b": slice(None)}).fit(frame)


def test_rows_that_lack_a_part_of_a_view_or_all_views(wine):
    fitted = trained().fit(wine)
    part, nothing = without(wine, [0, 3], 7), without(wine, slice(None), 9)
    for call in (clone(fitted).fit, fitted.transform, fitted.score, fitted.reconstruct):
        with pytest.raises(ValueError, match=r"Row 7 .* NaN in 2 of the 3 columns of view 'b'"):
            call(part)
        with pytest.raises(ValueError, match=r"Row 9 of X contains NaN in all views; drop it"):
            call(nothing)
    with pytest.raises(ValueError, match=r"View 'c' of views is NaN in all rows"):
        clone(fitted).fit(without(wine, VIEWS["c"]))
    with pytest.raises(ValueError, match=r"X_val does not suit X: Row 7"):
        clone(fitted).fit(wine, X_val=part)


def test_errors_of_predictions(wine):
    fitted = trained().fit(wine)
    with pytest.raises(ValueError, match=r"view='d' cannot be predicted.*\['b', 'a', 'c'\]"):
        fitted.predict_view(wine, "d")
    alone = without(without(wine, VIEWS["a"], 4), VIEWS["c"], 4)
    with pytest.raises(ValueError, match=r"Row 4 of X has no view other than 'b'"):
        fitted.predict_view(alone, "b")
    with pytest.raises(ValueError, match=r"view=0 cannot be predicted"):
        make(views=None, max_epochs=2).fit(wine).predict_view(wine, 0)


def test_what_needs_all_views(gappy, wine):
    fitted = trained().fit(gappy)
    assert np.isfinite(fitted.score_samples(wine)).all()
    with pytest.raises(ValueError, match="score_samples needs rows with all views"):
        fitted.score_samples(gappy)
    with pytest.raises(ValueError, match="share of variance"):
        make(n_components=0.5).fit(gappy)
    with pytest.raises(ValueError, match=r"n_private=0 instead of 1"):
        make(n_components=0.5, n_private=1).fit(wine)


def test_sparse_rows_are_complete(wine):
    X = np.where(np.abs(wine) < 0.5, 0, wine)
    fitted = fast(make(), early_stopping=False).fit(X)
    assert_close(fitted.transform(sparse.csr_matrix(X)), fitted.transform(X), 1e-9)
