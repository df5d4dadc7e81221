"""Displays show the values of the estimators, on the given axes."""

from __future__ import annotations

import inspect
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import ESTIMATORS, fast, make_fast, name_of, suited
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_wine
from sklearn.decomposition import NMF, PCA, FastICA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LatentDimensionSearch, displays
from skae.displays import (
    DimensionSearchDisplay,
    ExplainedVarianceDisplay,
    LatentGridDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    MeshDisplay,
    ReconstructionDisplay,
)

mpl.use("Agg")

DISPLAYS = [getattr(displays, name) for name in displays.__all__]
OF_ROWS = [LatentSpaceDisplay, LatentGridDisplay, ReconstructionDisplay, ExplainedVarianceDisplay]

each_display = pytest.mark.parametrize("display", DISPLAYS, ids=lambda d: d.__name__)
each_of_rows = pytest.mark.parametrize("display", OF_ROWS, ids=lambda d: d.__name__)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted(wine):
    """Autoencoder of four components whose training left PCA."""
    return make_fast(n_components=4, early_stopping=False, max_epochs=20).fit(wine)


@pytest.fixture(scope="module")
def frame():
    return load_wine(as_frame=True).data


@pytest.fixture(scope="module")
def pipeline(frame):
    reducer = make_fast(n_components=3, early_stopping=False)
    return make_pipeline(StandardScaler(), reducer).fit(frame)


@pytest.fixture(scope="module")
def search(wine):
    """Search over PCA, which is fast, scored by the share of explained variance."""
    grid = {"n_components": [1, 2, 8]}
    return GridSearchCV(AutoencoderTransformer(hidden_layer_sizes=()), grid, cv=4).fit(wine)


def drawn_for(display, fitted, search, wine, **options):
    """One display of each kind."""
    if display is DimensionSearchDisplay:
        return display.from_estimator(search, **options)
    if display is LossCurveDisplay:
        return display.from_estimator(fitted, **options)
    if display is MeshDisplay:
        tetrahedra = wine[:, :12]
        faces = [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]
        return display.from_estimator(PCA(2).fit(tetrahedra), tetrahedra, faces=faces, **options)
    if display is LatentGridDisplay:
        options.setdefault("image_shape", (13, 1))
    return display.from_estimator(fitted, wine, **options)


# -- what all of them promise ------------------------------------------------------


@each_display
def test_its_module_is_the_public_one(display):
    assert display.__module__ == "skae.displays"


@each_display
def test_the_axes_given_are_drawn_on(display, fitted, search, wine):
    figure, (ax, other) = plt.subplots(1, 2)
    drawn = drawn_for(display, fitted, search, wine, ax=ax)
    assert drawn.ax_ is ax
    assert drawn.figure_ is figure
    assert ax.has_data()
    assert not other.has_data()
    assert plt.get_fignums() == [figure.number]
    assert plt.gca() is other  # as `subplots` left it


@each_display
def test_it_is_drawn_again_by_plot(display, fitted, search, wine):
    drawn = drawn_for(display, fitted, search, wine)
    first = drawn.ax_
    assert drawn.plot() is drawn
    assert drawn.ax_ is not first
    assert drawn.ax_.get_xlabel() == first.get_xlabel()
    assert len(drawn.ax_.get_children()) == len(first.get_children())
    drawn.figure_.draw_without_rendering()


@each_display
def test_matplotlibs_settings_are_left_alone(display, fitted, search, wine):
    before = mpl.rcParams.copy()
    drawn_for(display, fitted, search, wine)
    assert mpl.rcParams == before


@each_display
def test_axes_that_pyplot_does_not_know_stay_so(display, fitted, search, wine):
    ax = Figure().subplots()
    assert drawn_for(display, fitted, search, wine, ax=ax).figure_ is ax.figure
    assert plt.get_fignums() == []


@each_display
def test_what_is_no_axes_is_refused_by_name(display, fitted, search, wine):
    with pytest.raises(TypeError, match=r"ax=<Figure.*plt\.subplots"):
        drawn_for(display, fitted, search, wine, ax=Figure())


@each_display
def test_without_matplotlib_the_error_names_it(display, fitted, search, wine, monkeypatch):
    drawn = drawn_for(display, fitted, search, wine)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    name = display.__name__
    with pytest.raises(ImportError, match=rf"{name}\.from_estimator requires matplotlib"):
        drawn_for(display, fitted, search, wine)
    with pytest.raises(ImportError, match=rf"{name}\.plot requires matplotlib"):
        drawn.plot()


@each_display
def test_keyword_dictionaries_are_those_of_from_estimator(display):
    """`from_estimator` passes on what `plot` takes, and `plot` takes nothing else."""
    passed = inspect.signature(display.from_estimator).parameters
    taken = inspect.signature(display.plot).parameters.keys() - {"self"}
    assert {"ax", *(name for name in passed if name.endswith("_kw"))} == taken


@each_of_rows
def test_an_unfitted_estimator_says_so(kind, display, wine):
    with pytest.raises(NotFittedError):
        display.from_estimator(kind, wine)
    with pytest.raises(NotFittedError):
        display.from_estimator(make_pipeline(StandardScaler(), kind), wine)


@pytest.mark.parametrize("display", [LossCurveDisplay, DimensionSearchDisplay])
def test_an_unfitted_estimator_or_search_says_so(kind, display):
    search = GridSearchCV(kind, {"n_components": [1]})
    with pytest.raises(NotFittedError):
        display.from_estimator(search if display is DimensionSearchDisplay else kind)


@pytest.mark.parametrize("display", [LatentGridDisplay, ReconstructionDisplay])
@pytest.mark.parametrize("estimator", [DBSCAN(), LogisticRegression()], ids=name_of)
def test_estimators_without_an_inverse_are_refused(display, estimator, wine):
    estimator.fit(wine, load_wine().target)
    with pytest.raises(TypeError, match=rf"{display.__name__} needs.*`transform`.*lacks"):
        display.from_estimator(estimator, wine)


@each_of_rows
def test_a_pipeline_that_predicts_is_told_what_to_leave_out(display, wine):
    pipeline = make_pipeline(PCA(2), LogisticRegression()).fit(wine, load_wine().target)
    with pytest.raises(TypeError, match=r"pipeline\[:-1\]"):
        display.from_estimator(pipeline, wine)
    display.from_estimator(pipeline[:-1], wine)


@each_of_rows
@pytest.mark.parametrize(
    "as_container",
    [pd.DataFrame, sparse.csr_array, torch.from_numpy, list],
    ids=["frame", "sparse", "tensor", "list"],
)
def test_containers_change_nothing(display, as_container, wine):
    estimator = make_fast().fit(as_container(wine))
    other = make_fast().fit(wine)
    container = display.from_estimator(estimator, as_container(wine))
    plain = display.from_estimator(other, wine)
    for name, value in vars(plain).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(getattr(container, name), value, atol=1e-5)


@each_of_rows
@pytest.mark.filterwarnings("error")
def test_frames_in_and_out_give_no_warning(display, frame):
    pipeline = make_pipeline(StandardScaler(), make_fast()).set_output(transform="pandas")
    display.from_estimator(pipeline.fit(frame), frame).figure_.draw_without_rendering()


# -- losses ------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_lines_are_the_loss_curves(estimator, digits):
    fitted = fast(estimator, max_epochs=4, early_stopping=True).fit(digits[:600])
    drawn = LossCurveDisplay.from_estimator(fitted)
    assert np.array_equal(drawn.line_.get_ydata(), fitted.loss_curve_)
    assert np.array_equal(drawn.line_.get_xdata(), [1, 2, 3, 4])
    assert np.array_equal(drawn.validation_line_.get_ydata(), fitted.validation_loss_curve_)
    assert set(drawn.mark_.get_xdata()) == {fitted.net_.best_epoch_}
    assert drawn.mark_.get_label().startswith(f"kept: epoch {fitted.net_.best_epoch_}")


def test_without_held_out_rows_there_is_one_line(fitted):
    drawn = LossCurveDisplay.from_estimator(fitted)
    assert drawn.validation_line_ is None
    assert drawn.line_.get_label() == "training rows (none held out)"
    assert set(drawn.mark_.get_xdata()) == {20}


def test_cross_validated_epochs_have_a_longer_held_out_curve(wine):
    kept = AutoencoderTransformer(2, max_epochs=5, random_state=0).fit(wine)
    assert kept.n_iter_ == 0  # so that nothing was trained on all rows
    drawn = LossCurveDisplay.from_estimator(kept)
    assert drawn.line_ is None
    assert np.array_equal(drawn.validation_line_.get_ydata(), kept.validation_loss_curve_)
    assert drawn.mark_.get_label() == "kept: epoch 0, the start at PCA"


def test_a_linear_autoencoder_gets_a_sentence(wine):
    drawn = LossCurveDisplay.from_estimator(AutoencoderTransformer(hidden_layer_sizes=()).fit(wine))
    assert drawn.line_ is None
    assert "No epoch was trained" in drawn.text_.get_text()
    assert "at PCA" in drawn.text_.get_text()


def test_a_stream_has_a_point_a_call_and_no_mark(digits):
    stream = AutoencoderTransformer(2, random_state=0)
    for start in (0, 500, 1000):
        stream.partial_fit(digits[start : start + 500])
    drawn = LossCurveDisplay.from_estimator(stream)
    assert np.array_equal(drawn.line_.get_ydata(), stream.loss_curve_)
    assert len(stream.loss_curve_) == 3
    assert drawn.mark_ is None


def test_the_last_step_of_a_pipeline_counts(pipeline, frame):
    drawn = LossCurveDisplay.from_estimator(pipeline)
    assert np.array_equal(drawn.line_.get_ydata(), pipeline[-1].loss_curve_)
    grid = GridSearchCV(pipeline, {"autoencodertransformer__whiten": [True]}, cv=2).fit(frame)
    drawn = LossCurveDisplay.from_estimator(grid)
    assert np.array_equal(drawn.line_.get_ydata(), grid.best_estimator_[-1].loss_curve_)


def test_other_losses_are_drawn_and_none_is_refused(wine):
    network = MLPRegressor(
        hidden_layer_sizes=(4,), max_iter=5, n_iter_no_change=1, tol=1e9, random_state=0
    )
    network.fit(wine, wine)
    drawn = LossCurveDisplay.from_estimator(network)
    assert np.array_equal(drawn.line_.get_ydata(), network.loss_curve_)
    assert drawn.mark_ is None
    assert drawn.line_.get_label() == "training rows"
    with pytest.raises(TypeError, match=r"loss_curve_.*PCA\(\)"):
        LossCurveDisplay.from_estimator(PCA().fit(wine))


def test_losses_over_a_decade_have_a_logarithmic_axis():
    assert LossCurveDisplay([20.0, 4.0, 1.0]).plot().ax_.get_yscale() == "log"
    assert LossCurveDisplay([5.0, 4.0, 1.0]).plot().ax_.get_yscale() == "linear"
    assert LossCurveDisplay([20.0, 4.0, -1.0]).plot().ax_.get_yscale() == "linear"


# -- explained variance ------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
@pytest.mark.parametrize("whiten", [False, True])
def test_bars_are_the_ratios_and_sum_to_the_score(estimator, whiten, wine):
    params = suited(estimator, {"whiten": True} if whiten else {})
    if name_of(estimator) == "NeighborAutoencoder":
        params["hidden_layer_sizes"] = 32  # of larger networks, ratios are those of some rows
    fitted = fast(estimator, n_components=3, early_stopping=False, **params).fit(wine)
    drawn = ExplainedVarianceDisplay.from_estimator(fitted, wine)
    heights = [bar.get_height() for bar in drawn.bars_]
    np.testing.assert_allclose(heights, fitted.explained_variance_ratio_, atol=1e-5)
    assert sum(heights) == pytest.approx(fitted.score(wine), abs=1e-9)
    np.testing.assert_allclose(drawn.line_.get_ydata(), np.cumsum(heights))
    pca = PCA(3).fit(wine)
    pca_heights = [bar.get_height() for bar in drawn.pca_bars_]
    np.testing.assert_allclose(pca_heights, pca.explained_variance_ratio_)
    np.testing.assert_allclose(drawn.pca_line_.get_ydata(), np.cumsum(pca_heights))


def test_of_new_rows_the_sum_is_their_score(fitted, wine):
    new = wine[::3] + 0.1
    assert ExplainedVarianceDisplay.from_estimator(
        fitted, new
    ).explained_variance_ratio.sum() == pytest.approx(fitted.score(new), abs=1e-9)


def test_pca_of_training_rows_explains_new_rows_no_better_than_their_own(wine):
    pca = PCA(3).fit(wine[:100])
    drawn = ExplainedVarianceDisplay.from_estimator(pca, wine[100:], X_train=wine[:100])
    np.testing.assert_allclose(drawn.explained_variance_ratio, drawn.pca_explained_variance_ratio)
    own = ExplainedVarianceDisplay.from_estimator(pca, wine[100:])
    assert own.pca_explained_variance_ratio.sum() > drawn.pca_explained_variance_ratio.sum()


def test_behind_a_scaler_the_scaled_rows_count(pipeline, frame):
    drawn = ExplainedVarianceDisplay.from_estimator(pipeline, frame)
    assert drawn.explained_variance_ratio.sum() == pytest.approx(pipeline.score(frame), abs=1e-9)
    ratios = PCA(3).fit(StandardScaler().fit_transform(frame)).explained_variance_ratio_
    np.testing.assert_allclose(drawn.pca_explained_variance_ratio, ratios)


def test_pca_has_no_more_components_than_there_are(wine):
    wide = make_fast(n_components=20).fit(wine)
    drawn = ExplainedVarianceDisplay.from_estimator(wide, wine)
    assert (len(drawn.bars_), len(drawn.pca_bars_)) == (20, 13)
    assert drawn.pca_line_.get_ydata()[-1] == pytest.approx(1)


def test_codes_that_are_not_centred_are_refused(digits):
    reducer = NMF(2, max_iter=20, tol=0.1).fit(digits)
    with pytest.raises(TypeError, match="`mean_`"):
        ExplainedVarianceDisplay.from_estimator(reducer, digits)


# -- codes -------------------------------------------------------------------------


def offsets(scatters):
    return np.concatenate([np.asarray(scatter.get_offsets()) for scatter in scatters])


@pytest.mark.parametrize("reducer", [*ESTIMATORS, PCA(4), FastICA(4)], ids=name_of)
def test_points_are_the_codes(reducer, wine):
    params = fast(reducer, n_components=4) if reducer in ESTIMATORS else clone(reducer)
    reducer = params.fit(wine)
    drawn = LatentSpaceDisplay.from_estimator(reducer, wine, components=(2, 0))
    np.testing.assert_allclose(offsets(drawn.scatters_), reducer.transform(wine)[:, [2, 0]])
    assert drawn.ax_.get_xlabel() == "component 2"
    assert drawn.ax_.get_ylabel() == "component 0"
    assert drawn.legend_ is drawn.colorbar_ is None


LABELS = load_wine().target
CLASSES = {
    "integers": LABELS,
    "strings": np.array(["red", "blue", "green"])[LABELS],
    "objects": np.array(["red", "blue", "green"], dtype=object)[LABELS],
    "booleans": LABELS == 1,
    "whole floats": LABELS.astype(float),
    "list": LABELS.tolist(),
    "series": pd.Series(LABELS, name="cultivar", index=range(5, 183)),
    "categories": pd.Series(np.array(["b", "a", "c"])[LABELS], dtype="category"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_each_class_has_its_points_and_its_name(case, fitted, wine):
    y = np.asarray(CLASSES[case])
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, CLASSES[case])
    codes = fitted.transform(wine)[:, :2]
    names = [text.get_text() for text in drawn.legend_.get_texts()]
    assert len(names) == len(drawn.scatters_) == len(set(y.tolist()))
    for name, scatter in zip(names, drawn.scatters_, strict=True):
        of_class = np.array([str(label) == name for label in y.tolist()])
        np.testing.assert_allclose(scatter.get_offsets(), codes[of_class])
    looks = {tuple(scatter.get_facecolor()[0]) for scatter in drawn.scatters_}
    assert len(looks) == len(names)
    assert drawn.colorbar_ is None


def test_twenty_classes_look_different(digits):
    y = np.arange(len(digits)) % 20
    drawn = LatentSpaceDisplay(digits, y).plot()
    looks = {
        (tuple(s.get_facecolor()[0]), s.get_paths()[0].vertices.tobytes()) for s in drawn.scatters_
    }
    assert len(looks) == 20


def test_the_name_of_a_column_is_the_title(fitted, frame, wine):
    y = pd.Series(LABELS, name="cultivar")
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, y)
    assert drawn.legend_.get_title().get_text() == "cultivar"
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, frame["proline"])
    assert drawn.colorbar_.ax.get_ylabel() == "proline"


@pytest.mark.parametrize("y", [np.linspace(0, 1, 178), np.arange(178)], ids=["floats", "integers"])
def test_a_continuous_quantity_has_a_colour_bar(y, fitted, wine):
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, y)
    (scatter,) = drawn.scatters_
    assert np.array_equal(scatter.get_array(), y)
    assert drawn.colorbar_.mappable is scatter
    assert drawn.legend_ is None


@pytest.mark.parametrize("unknown", [None, np.nan, pd.NA], ids=str)
@pytest.mark.parametrize("kind_of_y", ["strings", "numbers"])
def test_missing_labels_are_grey(unknown, kind_of_y, fitted, wine):
    known = CLASSES["objects"] if kind_of_y == "strings" else np.linspace(0, 1, 178)
    y = known.astype(object)
    y[::4] = unknown
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, y)
    codes = fitted.transform(wine)[:, :2]
    grey = drawn.scatters_[-1]
    np.testing.assert_allclose(grey.get_offsets(), codes[::4])
    assert len(set(grey.get_facecolor()[0][:3])) == 1
    assert sum(len(scatter.get_offsets()) for scatter in drawn.scatters_) == len(wine)
    assert (drawn.colorbar_ is None) == (kind_of_y == "strings")


def test_one_component_is_a_histogram(fitted, wine):
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, LABELS, components=1)
    codes = fitted.transform(wine)[:, 1]
    for label, steps in enumerate(drawn.histograms_):
        counts, edges, _ = steps.get_data()
        assert np.array_equal(counts, np.histogram(codes[label == LABELS], edges)[0])
        assert counts.sum() == (label == LABELS).sum()
    single = make_fast(n_components=1).fit(wine)
    drawn = LatentSpaceDisplay.from_estimator(single, wine)
    assert drawn.scatters_ == []
    assert drawn.histograms_[0].get_data().values.sum() == len(wine)


def test_more_components_are_pairs(fitted, wine):
    shown = (3, 0, 1)
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, components=shown)
    codes = fitted.transform(wine)
    assert drawn.axes_.shape == (3, 3)
    assert len(drawn.scatters_) == len(drawn.histograms_) == 3
    for (i, j), scatter in zip([(1, 0), (2, 0), (2, 1)], drawn.scatters_, strict=True):
        assert scatter.axes is drawn.axes_[i, j]
        np.testing.assert_allclose(scatter.get_offsets(), codes[:, [shown[j], shown[i]]])
    for i, steps in enumerate(drawn.histograms_):
        assert steps.axes is drawn.axes_[i, i]
    assert [ax.get_xlabel() for ax in drawn.axes_[2]] == [f"component {c}" for c in shown]


def test_pairs_take_axes_one_by_one_or_divide_one(fitted, wine):
    figure, axes = plt.subplots(3, 3)
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, components=(0, 1, 2), ax=axes)
    assert drawn.axes_.tolist() == axes.tolist()
    _, (ax, other) = plt.subplots(1, 2)
    drawn = LatentSpaceDisplay.from_estimator(fitted, wine, components=(0, 1, 2), ax=ax)
    assert drawn.figure_ is ax.figure
    assert not ax.axison
    assert drawn.axes_[2, 2].get_position().x1 <= other.get_position().x0
    assert plt.gca() is other
    with pytest.raises(ValueError, match="ax holds 4 axes, but 3 rows of 3"):
        LatentSpaceDisplay.from_estimator(
            fitted, wine, components=(0, 1, 2), ax=plt.subplots(2, 2)[1]
        )
    with pytest.raises(ValueError, match="pass an array"):
        LatentSpaceDisplay.from_estimator(
            fitted, wine, components=(0, 1, 2), ax=figure.add_axes((0, 0, 1, 1))
        )


@pytest.mark.parametrize(
    "components", [4, -1, (0, 4), (0, 0), (0.0, 1.0), (), "01", (True, None), True]
)
@pytest.mark.parametrize("display", [LatentSpaceDisplay, LatentGridDisplay])
def test_components_that_are_not_there_are_refused(display, components, fitted, wine):
    with pytest.raises(ValueError, match=r"components=.*distinct integers in \[0, 4\)"):
        display.from_estimator(fitted, wine, components=components)


@pytest.mark.parametrize("y", [LABELS[:-1], np.ones((178, 2)), "label"])
def test_labels_of_another_length_are_refused(y, fitted, wine):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples|1d array"):
        LatentSpaceDisplay.from_estimator(fitted, wine, y)


def test_keywords_go_before_defaults_by_any_alias(fitted, wine):
    style = {"lw": 2, "edgecolors": "k", "s": 3, "marker": "^", "c": "r"}
    (scatter,) = LatentSpaceDisplay.from_estimator(fitted, wine, scatter_kw=style).scatters_
    assert scatter.get_linewidth() == [2]
    assert scatter.get_sizes() == [3]
    drawn = LossCurveDisplay.from_estimator(fitted, line_kw={"c": "r", "ls": ":", "label": "mine"})
    assert (drawn.line_.get_color(), drawn.line_.get_linestyle()) == ("r", ":")
    assert drawn.line_.get_label() == "mine"


# -- the decoded plane -------------------------------------------------------------


def decoded_plane(estimator, X, components, values):
    """Rows of the grid, each decoded on its own."""
    mean = np.asarray(estimator.transform(X)).mean(axis=0)
    plane = np.empty((len(values[1]), len(values[0]), X.shape[1]))
    for i, j in np.ndindex(plane.shape[:2]):
        code = mean.copy()
        code[list(components)] = values[0][j], values[1][i]
        plane[i, j] = np.asarray(estimator.inverse_transform(code[None]))[0]
    return plane


@pytest.mark.parametrize("reducer", [*ESTIMATORS, PCA(3)], ids=name_of)
@pytest.mark.parametrize("spacing", ["quantiles", "range"])
def test_images_are_decoded_codes(reducer, spacing, digits):
    X = digits[:600]
    params = {"n_components": 3}
    fitted = (fast(reducer, **params) if reducer in ESTIMATORS else clone(reducer)).fit(X)
    drawn = LatentGridDisplay.from_estimator(
        fitted, X, components=(1, 0), n_steps=4, spacing=spacing, image_shape=(8, 8)
    )
    codes = fitted.transform(X)
    for component, values in zip((1, 0), drawn.values, strict=True):
        along = codes[:, component]
        if spacing == "range":
            expected = np.linspace(along.min(), along.max(), 4)
        else:
            expected = np.quantile(along, [0.02, 0.34, 0.66, 0.98])
        np.testing.assert_allclose(values, expected)
    plane = decoded_plane(fitted, X, (1, 0), drawn.values)
    for i, j in np.ndindex(4, 4):
        shown = drawn.images_[i, j].get_array()
        np.testing.assert_allclose(shown.ravel(), plane[i, j], atol=1e-9)
        left, right, bottom, top = drawn.images_[i, j].get_extent()
        assert left < j < right
        assert top < 3 - i < bottom  # the greatest code on top
    assert drawn.images_[0, 0].get_clim() == (X.min(), X.max())
    assert drawn.ax_.get_xlabel() == "component 1"


def test_maps_are_decoded_features_in_standard_deviations(pipeline, frame):
    drawn = LatentGridDisplay.from_estimator(pipeline, frame, n_steps=5)
    plane = decoded_plane(pipeline, frame, (0, 1), drawn.values)
    expected = (plane - frame.mean().to_numpy()) / frame.std(ddof=0).to_numpy()
    assert drawn.features_.tolist() == list(range(13))
    for feature, image in zip(drawn.features_, drawn.images_, strict=True):
        np.testing.assert_allclose(image.get_array(), expected[..., feature], atol=1e-9)
        assert image.axes.get_title().startswith(frame.columns[feature][:10])
        assert image.origin == "lower"
    limits = {image.get_clim() for image in drawn.images_}
    assert len(limits) == 1


def test_of_many_features_those_that_vary_most_are_shown(digits):
    fitted = make_fast().fit(digits)
    drawn = LatentGridDisplay.from_estimator(fitted, digits, max_features=5)
    std = digits.std(axis=0)
    maps = (drawn.rows - digits.mean(axis=0)) / np.where(std > 0, std, 1)
    spread = maps.std(axis=(0, 1))
    assert len(drawn.images_) == 5
    assert spread[drawn.features_].min() >= np.delete(spread, drawn.features_).max()
    assert (np.diff(drawn.features_) > 0).all()


def test_one_component_is_a_strip(digits):
    fitted = make_fast(n_components=1).fit(digits)
    drawn = LatentGridDisplay.from_estimator(fitted, digits, image_shape=(8, 8), n_steps=6)
    assert drawn.images_.shape == (1, 6)
    decoded = fitted.inverse_transform(drawn.values[0][:, None])
    np.testing.assert_allclose(drawn.images_[0, 2].get_array().ravel(), decoded[2], atol=1e-9)
    assert len(LatentGridDisplay.from_estimator(fitted, digits).images_) == 16


def test_colours_are_kept_within_bounds(digits):
    X = np.repeat(digits[:100, 16:48], 3, axis=1)
    fitted = make_fast().fit(X)
    drawn = LatentGridDisplay.from_estimator(fitted, X, image_shape=(4, 8, 3), n_steps=2)
    assert drawn.images_[0, 0].get_array().shape == (4, 8, 3)
    loud = ReconstructionDisplay(255 * X, 300 * X - 10, image_shape=(4, 8, 3)).plot()
    shown = loud.images_[1, 0].get_array()
    np.testing.assert_allclose(shown.ravel(), np.clip((300 * X[0] - 10) / 255, 0, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_steps": 1}, "n_steps=1 must be an integer >= 2"),
        ({"n_steps": 2.5}, "n_steps=2.5"),
        ({"n_steps": [3]}, "n_steps="),
        ({"max_features": True}, "max_features=True must be an integer >= 1"),
        ({"spacing": "even"}, "spacing='even'.*'quantiles' or 'range'"),
        ({"components": (0, 1, 2)}, "at most 2"),
        ({"image_shape": (3, 4)}, "12 pixels, but rows have 13 features"),
        ({"image_shape": (13,)}, r"must be \(height, width\)"),
        ({"image_shape": (13, -1)}, r"must be \(height, width\)"),
        ({"image_shape": (13, 1, 2)}, r"must be \(height, width\)"),
        ({"max_features": 0}, "max_features=0"),
    ],
)
def test_a_grid_out_of_bounds_is_refused(options, message, fitted, wine):
    with pytest.raises(ValueError, match=message):
        LatentGridDisplay.from_estimator(fitted, wine, **options)


# -- reconstructions ---------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_images_are_rows_and_their_reconstructions(estimator, digits):
    fitted = fast(estimator).fit(digits[:600])
    noisy = digits + 0.1
    drawn = ReconstructionDisplay.from_estimator(
        fitted, digits, X_corrupted=noisy, image_shape=(8, 8), n_rows=3
    )
    stages = digits[:3], noisy[:3], fitted.reconstruct(noisy[:3])
    assert drawn.images_.shape == (3, 3)
    for images, rows in zip(drawn.images_, stages, strict=True):
        for image, row in zip(images, rows, strict=True):
            np.testing.assert_allclose(image.get_array().ravel(), row, atol=1e-9)
    labels = [text.get_text() for text in drawn.ax_.get_yticklabels()]
    assert labels == ["original", "corrupted", "reconstruction"]
    assert len({image.get_clim() for image in drawn.images_.ravel()}) == 1


@pytest.mark.parametrize("as_container", [sparse.coo_matrix, pl.DataFrame, list])
def test_the_first_rows_of_any_container_are_shown(as_container, digits):
    X = as_container(digits[:100])
    drawn = ReconstructionDisplay.from_estimator(make_fast().fit(X), X, image_shape=(8, 8))
    shown = [image.get_array().ravel() for image in drawn.images_[0]]
    assert np.array_equal(shown, digits[:8])


def test_bars_are_shares_of_variance(pipeline, frame):
    drawn = ReconstructionDisplay.from_estimator(pipeline, frame)
    reconstructed = pipeline.inverse_transform(pipeline.transform(frame))
    shares = np.square(frame - reconstructed).mean() / frame.var(ddof=0)
    np.testing.assert_allclose(drawn.errors_, shares)
    names = [text.get_text() for text in drawn.ax_.get_yticklabels()]
    widths = [bar.get_width() for bar in drawn.bars_]
    np.testing.assert_allclose(widths, shares[names])
    assert widths == sorted(widths, reverse=True)


def test_errors_weighted_by_variance_are_what_the_score_lacks(fitted, wine):
    drawn = ReconstructionDisplay.from_estimator(fitted, wine)
    unexplained = drawn.errors_ @ wine.var(axis=0) / wine.var(axis=0).sum()
    assert unexplained == pytest.approx(1 - fitted.score(wine), abs=1e-6)


def test_points_are_the_errors_of_corrupted_rows(fitted, wine):
    corrupted = np.where(np.arange(13) < 5, wine.mean(axis=0), wine)
    drawn = ReconstructionDisplay.from_estimator(fitted, wine, X_corrupted=corrupted)
    np.testing.assert_allclose(drawn.corrupted_errors_, np.arange(13) < 5, atol=1e-9)
    order = np.argsort(-drawn.errors_)
    np.testing.assert_allclose(drawn.points_.get_xdata(), drawn.corrupted_errors_[order])
    reconstructed = fitted.reconstruct(corrupted)
    np.testing.assert_allclose(
        drawn.errors_, np.square(wine - reconstructed).sum(axis=0) / np.square(wine).sum(axis=0)
    )


def test_constant_features_have_no_share_and_come_last(digits):
    drawn = ReconstructionDisplay.from_estimator(make_fast().fit(digits), digits)
    constant = np.ptp(digits, axis=0) == 0
    assert np.array_equal(np.isnan(drawn.errors_), constant)
    assert len(drawn.bars_) == 30
    assert not np.isnan([bar.get_width() for bar in drawn.bars_]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rows": 0}, "n_rows=0 must be an integer >= 1"),
        ({"max_features": -1}, "max_features=-1"),
        ({"image_shape": (8, 8)}, "64 pixels, but rows have 13 features"),
        ({"X_corrupted": np.ones((3, 13))}, "inconsistent numbers of samples"),
    ],
)
def test_a_reconstruction_out_of_bounds_is_refused(options, message, fitted, wine):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_estimator(fitted, wine, **options)


# -- searches ----------------------------------------------------------------------


def points_and_errors(errorbar):
    line, _, (bars,) = errorbar
    ends = np.array([[low, high] for (_, low), (_, high) in bars.get_segments()])
    return line.get_xdata(), line.get_ydata(), np.diff(ends)[:, 0] / 2


def test_curves_are_the_scores_and_bars_their_standard_errors(search):
    drawn = DimensionSearchDisplay.from_estimator(search)
    results = search.cv_results_
    ((sizes, scores, errors),) = map(points_and_errors, drawn.errorbars_)
    assert sizes.tolist() == [1, 2, 8]
    np.testing.assert_allclose(scores, results["mean_test_score"])
    standard_errors = results["std_test_score"] / np.sqrt(4)
    np.testing.assert_allclose(errors, standard_errors)
    best = search.best_index_
    assert drawn.mark_.get_xydata().tolist() == [[8, search.best_score_]]
    assert drawn.mark_.get_label() == "chosen: 8"
    box = drawn.band_.get_window_extent().transformed(drawn.ax_.transData.inverted())
    assert box.y1 == pytest.approx(search.best_score_)
    assert box.y1 - box.y0 == pytest.approx(standard_errors[best])
    assert drawn.pca_errorbar_ is None
    assert drawn.ax_.get_xlabel() == "n_components"


def test_pcas_curve_and_the_rule_are_drawn(wine):
    search = LatentDimensionSearch(make_fast(), [1, 2, 8], cv=4, rule="elbow").fit(wine)
    drawn = DimensionSearchDisplay.from_estimator(search)
    _, scores, errors = points_and_errors(drawn.pca_errorbar_)
    np.testing.assert_allclose(scores, search.cv_results_["mean_pca_score"])
    np.testing.assert_allclose(errors, search.cv_results_["std_pca_score"] / 2)
    assert drawn.mark_.get_xdata() == [search.n_components_]
    assert drawn.mark_.get_label() == f"chosen: {search.n_components_} (elbow)"


def test_each_combination_of_other_parameters_has_a_line(wine):
    grid = {"pca__n_components": [4, 1], "pca__whiten": [True, False]}
    search = GridSearchCV(make_pipeline(StandardScaler(), PCA()), grid, cv=3).fit(wine)
    drawn = DimensionSearchDisplay.from_estimator(search)
    assert [curve.get_label() for curve in drawn.errorbars_] == ["whiten=True", "whiten=False"]
    for curve, whiten in zip(drawn.errorbars_, [True, False], strict=True):
        sizes, scores, _ = points_and_errors(curve)
        assert sizes.tolist() == [1, 4]
        for size, score in zip(sizes, scores, strict=True):
            params = {"pca__n_components": size, "pca__whiten": whiten}
            i = search.cv_results_["params"].index(params)
            assert score == search.cv_results_["mean_test_score"][i]


def test_iterations_of_a_halving_search_are_kept_apart(wine):
    search = HalvingGridSearchCV(
        PCA(), {"n_components": [1, 2, 3, 4]}, cv=2, factor=2, random_state=0
    ).fit(wine)
    drawn = DimensionSearchDisplay.from_estimator(search)
    n_iterations = len(set(search.cv_results_["iter"]))
    assert [c.get_label() for c in drawn.errorbars_] == [f"iter={i}" for i in range(n_iterations)]


@pytest.mark.parametrize(
    ("values", "places", "labels"),
    [
        ([8, 1, 2], [1, 2, 8], ["1", "2", "8"]),
        ([0.75, 0.5], [0.5, 0.75], ["0.5", "0.75"]),
        ([None, 4, 0.5, "mle", 2], [0, 1, 2, 3, 4], ["2", "4", "0.5", "None", "mle"]),
        ([3], [3], ["3"]),
    ],
    ids=["sizes", "shares", "mixed", "one"],
)
def test_any_value_of_n_components_has_a_position(values, places, labels, wine):
    search = GridSearchCV(PCA(), {"n_components": values}, cv=3).fit(wine)
    drawn = DimensionSearchDisplay.from_estimator(search)
    assert points_and_errors(drawn.errorbars_[0])[0].tolist() == places
    assert [text.get_text() for text in drawn.ax_.get_xticklabels()] == labels
    assert drawn.mark_.get_label() == f"chosen: {search.best_params_['n_components']!r}"


def test_candidates_without_the_parameter_are_left_out(wine):
    grid = [{"n_components": [1, 2]}, {"whiten": [True]}]
    search = GridSearchCV(PCA(), grid, cv=3).fit(wine)
    drawn = DimensionSearchDisplay.from_estimator(search)
    assert list(drawn.n_components) == [1, 2]


def test_several_scores_need_one_to_be_named(wine):
    scoring = {"r2": lambda e, X: e.score(X), "rank": lambda e, X: e.n_components_}
    search = GridSearchCV(PCA(), {"n_components": [1, 2]}, scoring=scoring, cv=3, refit="rank")
    drawn = DimensionSearchDisplay.from_estimator(search.fit(wine))
    assert drawn.ax_.get_ylabel() == "mean test rank"
    drawn = DimensionSearchDisplay.from_estimator(search, metric="r2")
    np.testing.assert_allclose(drawn.scores, search.cv_results_["mean_test_r2"])
    np.testing.assert_allclose(drawn.errors, search.cv_results_["std_test_r2"] / np.sqrt(3))
    with pytest.raises(ValueError, match=r"metric='f1'.*r2, rank"):
        DimensionSearchDisplay.from_estimator(search, metric="f1")
    search = clone(search).set_params(refit=False).fit(wine)
    with pytest.raises(ValueError, match=r"metric=None.*r2, rank"):
        DimensionSearchDisplay.from_estimator(search)
    assert DimensionSearchDisplay.from_estimator(search, metric="r2").mark_ is None


def test_the_parameter_is_found_or_asked_for(wine):
    y = load_wine().target
    both = make_pipeline(PCA(), AutoencoderTransformer(hidden_layer_sizes=()))
    names = "pca__n_components", "autoencodertransformer__n_components"
    search = GridSearchCV(both, {name: [1] for name in names}, cv=2).fit(wine)
    with pytest.raises(ValueError, match=f"several.*{names[0]}, {names[1]}|{names[1]}, {names[0]}"):
        DimensionSearchDisplay.from_estimator(search)
    assert DimensionSearchDisplay.from_estimator(search, parameter=names[0]).n_components == [1]
    with pytest.raises(ValueError, match="parameter='k' was not searched"):
        DimensionSearchDisplay.from_estimator(search, parameter="k")
    search = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2).fit(wine, y)
    with pytest.raises(ValueError, match="no parameter n_components, but C"):
        DimensionSearchDisplay.from_estimator(search)


@pytest.mark.filterwarnings("ignore:Scoring failed", "ignore:One or more of the test")
def test_failed_candidates_leave_a_gap(wine):
    def fails_at_two(estimator, X):
        if estimator.n_components == 2:
            raise ValueError
        return estimator.score(X)

    grid = {"n_components": [1, 2, 3]}
    search = GridSearchCV(PCA(), grid, scoring=fails_at_two, cv=2).fit(wine)
    drawn = DimensionSearchDisplay.from_estimator(search)
    assert np.isnan(drawn.scores).tolist() == [False, True, False]
    assert drawn.band_ is not None
    drawn.figure_.draw_without_rendering()
