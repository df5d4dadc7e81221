"""Displays of a TableAutoencoder and of the frames that it takes."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib import pyplot as plt
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skae import LatentDimensionSearch, TableAutoencoder
from skae.displays import (
    DimensionSearchDisplay,
    ExplainedVarianceDisplay,
    LatentGridDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)

mpl.use("Agg")

QUICK = {"max_epochs": 3, "n_networks": 1, "column_layer_sizes": 8, "random_state": 0}


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def table():
    """Wines: numbers, a category, a boolean, a date, a constant, and gaps in the first four."""
    frame = load_wine(as_frame=True).frame
    table = frame[["alcohol", "ash", "magnesium", "flavanoids"]].copy()
    table["hue"] = pd.cut(frame["hue"], 3, labels=["low", "middle", "high"])
    table["strong"] = frame["alcohol"] > 13
    table["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["proline"].round(), "D")
    table = table.mask(np.random.default_rng(0).random(table.shape) < 0.1)
    return table.astype({"strong": "boolean"}).assign(place="Piedmont")


@pytest.fixture(scope="module")
def fitted(table):
    return TableAutoencoder(3, **QUICK).fit(table)


@pytest.fixture(scope="module")
def linear(table):
    return TableAutoencoder(3, hidden_layer_sizes=(), **QUICK).fit(table)


def test_codes_are_coloured_by_a_column(fitted, table):
    display = LatentSpaceDisplay.from_estimator(fitted, table, table["hue"])
    labels = [text.get_text() for text in display.legend_.get_texts()]
    assert labels == ["high", "low", "middle", "missing"]
    points = np.vstack([scatter.get_offsets() for scatter in display.scatters_])
    assert len(points) == len(table)
    other = LatentSpaceDisplay.from_estimator(fitted, pl.from_pandas(table), table["hue"])
    np.testing.assert_array_equal(other.codes, display.codes)


@pytest.mark.parametrize("as_y", [lambda day: day, lambda day: pl.from_pandas(day)])
def test_dates_have_a_colour_bar_with_dates(as_y, fitted, table):
    day = table["day"]
    display = LatentSpaceDisplay.from_estimator(fitted, table, as_y(day))
    days = (day.dropna() - pd.Timestamp(0)).dt.days
    np.testing.assert_array_equal(display.scatters_[0].get_array(), days)
    assert len(display.scatters_) == 2  # the second one is grey: no date
    display.figure_.canvas.draw()
    labels = [tick.get_text() for tick in display.colorbar_.ax.get_yticklabels()]
    assert {"2021", "2022"} < set(labels)


def test_times_without_a_day_are_missing(fitted, table):
    days = table["day"].dt.tz_localize("UTC").dt.floor("730D")  # an array of objects
    display = LatentSpaceDisplay.from_estimator(fitted, table, days)
    assert display.legend_.get_texts()[-1].get_text() == "missing"


def test_loss_curves_are_those_of_the_columns(fitted):
    display = LossCurveDisplay.from_estimator(fitted)
    np.testing.assert_array_equal(display.line_.get_ydata(), fitted.loss_curve_)
    held_out = display.validation_line_.get_ydata()
    np.testing.assert_array_equal(held_out, fitted.validation_loss_curve_)
    assert "hidden cell" in display.ax_.get_ylabel()
    assert display.mark_ is None
    codes = LossCurveDisplay.from_estimator(fitted.autoencoder_)
    assert codes.ax_.get_ylabel() == "mean loss per row"


@pytest.mark.parametrize("whiten", [False, True])
def test_bars_sum_to_the_score_beside_famd(whiten, table):
    fitted = TableAutoencoder(3, whiten=whiten, **QUICK).fit(table)
    display = ExplainedVarianceDisplay.from_estimator(fitted, table)
    assert display.explained_variance_ratio.sum() == pytest.approx(fitted.score(table))
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [
        "TableAutoencoder, cumulated",
        "FAMD, cumulated",
        "TableAutoencoder, each",
        "FAMD, each",
    ]


def test_the_linear_estimator_is_famd(linear, table):
    piped = make_pipeline(FunctionTransformer(), linear)
    new, old = table.iloc[100:], table.iloc[:100]
    for rows, options in [(table, {}), (new, {"X_train": table})]:
        display = ExplainedVarianceDisplay.from_estimator(piped, rows, **options)
        np.testing.assert_allclose(
            display.pca_explained_variance_ratio, display.explained_variance_ratio, atol=1e-9
        )
    other = ExplainedVarianceDisplay.from_estimator(linear, new, X_train=old)
    assert abs(other.pca_explained_variance_ratio - other.explained_variance_ratio).max() > 1e-6


def test_errors_are_those_of_columns_without_gaps(fitted, table):
    display = ReconstructionDisplay.from_estimator(fitted, table)
    names = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert sorted(names) == sorted(table.columns)
    assert names[-1] == "place"
    assert np.isnan(display.errors_[-1])
    errors = fitted.reconstruction_error(table, per_feature=True).sum(axis=0)
    known = table["ash"].notna()
    score = (table["ash"] - table["ash"].mean()) / table["ash"].std(ddof=0)
    j = list(table).index("ash")
    assert display.errors_[j] == pytest.approx(errors[j] / np.square(score[known]).sum())
    shares = table["hue"].value_counts(normalize=True)
    total = (1 - shares).sum() * table["hue"].notna().sum()
    j = list(table).index("hue")
    assert display.errors_[j] == pytest.approx(errors[j] / total)


def test_corrupted_tables_have_points(fitted, table):
    corrupted = table.assign(alcohol=np.nan)
    display = ReconstructionDisplay.from_estimator(fitted, table, X_corrupted=corrupted)
    others = np.delete(display.corrupted_errors_, [0, len(table.columns) - 1])
    np.testing.assert_allclose(others, 0, atol=0.3)  # other gaps are expected otherwise
    assert display.corrupted_errors_[0] > 0.3
    assert len(display.points_.get_ydata()) == table.shape[1]
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ReconstructionDisplay.from_estimator(fitted, table, X_corrupted=corrupted[:9])


def test_maps_are_of_numbers_and_of_shares(fitted, table):
    display = LatentGridDisplay.from_estimator(fitted, table, n_steps=4)
    titles = [image.axes.get_title() for image in display.images_]
    assert titles == [
        *("alcohol", "ash", "magnesium", "flavanoids", "hue=low", "hue=middle", "hue=high"),
        *("strong=False", "strong=True", "day"),
    ]
    mean = fitted.transform(table).mean(axis=0)
    code = np.array([[display.values[0][2], display.values[1][1], mean[2]]])
    restored = fitted.inverse_transform(code)
    assert display.rows[1, 2, 0] == pytest.approx(restored["alcohol"].iloc[0])
    shares = display.rows[1, 2, 4:7]
    assert ["low", "middle", "high"][shares.argmax()] == restored["hue"].iloc[0]
    assert shares.sum() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("display", [LatentGridDisplay, ReconstructionDisplay])
def test_categories_are_no_pixels(display, fitted, table):
    with pytest.raises(ValueError, match="column 'hue' does not hold; leave image_shape out"):
        display.from_estimator(fitted, table, image_shape=(2, 4))


def test_images_may_have_gaps(digits):
    digits = np.where(np.random.default_rng(0).random(digits.shape) < 0.1, np.nan, digits)[:100]
    fitted = TableAutoencoder(2, **QUICK).fit(digits)
    rows = ReconstructionDisplay.from_estimator(fitted, digits, image_shape=(8, 8), n_rows=3)
    assert rows.images_.shape == (2, 3)
    assert rows.images_[0, 0].get_clim() == (np.nanmin(digits[:3]), np.nanmax(digits[:3]))
    assert np.isfinite(rows.images_[1, 0].get_array()).all()
    grid = LatentGridDisplay.from_estimator(fitted, digits, image_shape=(8, 8), n_steps=3)
    assert grid.images_.shape == (3, 3)
    errors = ReconstructionDisplay.from_estimator(fitted, digits)
    assert errors.feature_names[10] == "x10"


@pytest.mark.parametrize(
    "display", [LatentGridDisplay, ReconstructionDisplay, ExplainedVarianceDisplay]
)
def test_constant_tables_have_nothing_to_draw(display, table):
    constant = table.assign(**{name: table[name].dropna().iloc[0] for name in table})
    with pytest.warns(ConvergenceWarning, match="All rows of X are equal"):
        fitted = TableAutoencoder(**QUICK).fit(constant)
    with pytest.raises(ValueError, match="All columns were constant"):
        display.from_estimator(fitted, constant)


def test_a_search_of_tables_is_drawn_beside_famd(table):
    search = LatentDimensionSearch(TableAutoencoder(**QUICK), [1, 2], cv=2).fit(table)
    display = DimensionSearchDisplay.from_estimator(search)
    assert "FAMD" in [text.get_text() for text in display.ax_.get_legend().get_texts()]
    of_best = ExplainedVarianceDisplay.from_estimator(search, table)
    assert of_best.name == "TableAutoencoder"
    assert DimensionSearchDisplay([1], [0.5], [0.1]).pca_name == "PCA"
