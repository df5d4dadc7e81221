"""scikit-learn's HTML display of fitted estimators, with size, variance, epochs, loss curve."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from conftest import make_fast
from sklearn import config_context
from sklearn.datasets import load_wine
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderClassifier, AutoencoderImputer, ConditionalVAE, TableAutoencoder
from skae._estimators.html_display import curve_of, facts_of


def pictures_in(html):
    return re.findall(r'<figure.*?<svg role="img".*?</figure>', html)


def numbers_in(text):
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", text)]


def test_the_caption_says_what_was_fitted(cancer):
    estimator = make_fast(n_components=3).fit(cancer)
    share = 100 * estimator.explained_variance_ratio_.sum()
    expected = ["3 components", f"{share:.1f} % of variance explained", "3 epochs"]
    assert facts_of(estimator) == expected
    assert f'<div class="caption">{" · ".join(expected)}</div>' in estimator._repr_html_()


def test_the_picture_is_the_curve_of_held_out_rows(cancer):
    estimator = make_fast(max_epochs=7).fit(cancer)
    (picture,) = pictures_in(estimator._repr_html_())
    losses = estimator.validation_loss_curve_
    text = ElementTree.fromstring(picture).find("svg").get("aria-label")
    assert text.startswith("Loss of held-out rows over 7 epochs")
    n_epochs, first, last, lowest, best = numbers_in(text)
    assert (n_epochs, best) == (7, losses.index(min(losses)) + 1)
    assert (first, last, lowest) == pytest.approx((losses[0], losses[-1], min(losses)), rel=1e-2)


def test_the_line_has_a_point_per_epoch_within_the_picture(cancer):
    estimator = make_fast(max_epochs=7).fit(cancer)
    svg = ElementTree.fromstring(curve_of(estimator)).find("svg")
    points = [tuple(map(float, p.split(","))) for p in svg.find("polyline").get("points").split()]
    assert len(points) == 7
    assert all(0 < x < float(svg.get("width")) for x, _ in points)
    assert all(0 < y < float(svg.get("height")) for _, y in points)
    losses = estimator.validation_loss_curve_
    lowest = max(points, key=lambda point: point[1])  # y points down
    assert points.index(lowest) == losses.index(min(losses))
    assert float(svg.find("circle").get("cy")) == lowest[1]


def test_long_curves_have_few_points(cancer):
    estimator = make_fast(max_epochs=400, lr=1e-4, hidden_layer_sizes=(2,)).fit(cancer)
    points = ElementTree.fromstring(curve_of(estimator)).find("svg/polyline").get("points")
    assert 100 <= len(points.split()) <= 120


def test_without_held_out_rows_it_is_the_training_loss(cancer):
    estimator = make_fast(early_stopping=False).fit(cancer)
    assert "Loss of training rows over 3 epochs" in curve_of(estimator)


def test_losses_that_are_not_finite_are_left_out(cancer):
    estimator = make_fast().fit(cancer)
    estimator.validation_loss_curve_ = [2.0, float("nan"), -1.0, float("inf"), 0.5]
    svg = ElementTree.fromstring(curve_of(estimator)).find("svg")
    assert len(svg.find("polyline").get("points").split()) == 3


def test_a_fit_without_training_has_no_picture(wine):
    estimator = make_fast(hidden_layer_sizes=()).fit(wine)
    assert pictures_in(estimator._repr_html_()) == []
    assert facts_of(estimator)[-1] == "0 epochs"


def test_it_is_shown_inside_pipelines(cancer):
    pipeline = make_pipeline(StandardScaler(), make_fast()).fit(cancer)
    html = pipeline._repr_html_()
    assert len(pictures_in(html)) == 1
    assert html.count('class="caption"') == 1


def test_an_unfitted_estimator_is_shown_as_scikit_learn_does():
    html = make_fast()._repr_html_()
    assert pictures_in(html) == []
    assert 'class="caption"' not in html


def test_estimators_among_the_parameters_are_shown_as_scikit_learn_does():
    html = make_fast(latent_density=KernelDensity())._repr_html_()
    assert "latent_density: KernelDensity" in html


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderClassifier(make_fast(), max_epochs=2),
        AutoencoderImputer(max_epochs=2),
        ConditionalVAE(2, condition_features=[0], max_epochs=2),
        TableAutoencoder(2, max_epochs=2),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_estimators_of_other_families_have_it_too(estimator):
    assert len(pictures_in(estimator.fit(*load_wine(return_X_y=True))._repr_html_())) == 1


def test_the_text_display_is_left_alone(cancer):
    estimator = make_fast().fit(cancer)
    with config_context(display="text"):
        assert not hasattr(estimator, "_repr_html_")
