"""One table, several reducers, one verdict."""

from __future__ import annotations

import pickle
import pickletools
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import FAST, fast, make_fast
from joblib import parallel_config
from scipy import stats
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_digits, load_wine, make_swiss_roll
from sklearn.decomposition import PCA, FactorAnalysis, KernelPCA, TruncatedSVD
from sklearn.linear_model import LinearRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skae
from skae import AutoencoderTransformer, VAETransformer
from skae._model_selection.significance import corrected_interval, paired_differences
from skae._model_selection.verdict import verdict_of
from skae.metrics import reconstruction_score

MEASURES = {"explained_variance": "explained variance", "downstream_score": "accuracy"}


@pytest.fixture(scope="module")
def wine_and_classes():
    return load_wine(return_X_y=True)


@pytest.fixture(scope="module")
def comparison(wine_and_classes):
    X, y = wine_and_classes
    return skae.compare(X, y, [2, 3], [make_fast(), PCA()], cv=3)


def linear_rows(n_rows=300, n_features=8, seed=0):
    """Rows of a linear Gaussian model: three factors and noise."""
    random = np.random.default_rng(seed)
    loadings = random.normal(size=(3, n_features))
    return random.normal(size=(n_rows, 3)) @ loadings + random.normal(size=(n_rows, n_features))


# -- verdicts ----------------------------------------------------------------------


def test_pca_suffices_for_a_linear_model():
    found = skae.compare(linear_rows(), n_components=[3], cv=3)
    assert found.pca_suffices
    assert found.verdict.startswith("PCA suffices:")
    by_name = found.differences.set_index("estimator")["outcome"]
    assert by_name["AutoencoderTransformer"] == "alike"
    assert by_name["VAETransformer"] != "better"


def test_pca_does_not_suffice_for_digits():
    X, y = load_digits(return_X_y=True)
    estimators = [AutoencoderTransformer(max_epochs=30)]
    found = skae.compare(X[:900] / 16, y[:900], 4, estimators, preprocessor=None)
    assert not found.pca_suffices
    assert found.verdict.startswith("AutoencoderTransformer reconstructs held-out rows better")
    assert "accuracy" in found.verdict


def test_pca_does_not_suffice_for_a_rolled_sheet():
    X, _ = make_swiss_roll(600, random_state=0)
    found = skae.compare(X, None, 2, [AutoencoderTransformer(max_epochs=60)], cv=4)
    assert not found.pca_suffices
    assert set(found.differences["outcome"]) == {"better"}


def test_pca_itself_is_alike(wine_and_classes):
    X, y = wine_and_classes
    found = skae.compare(X, y, 2, {"PCA": PCA(), "linear": make_fast(hidden_layer_sizes=())}, cv=3)
    np.testing.assert_allclose(found.differences["difference"], 0, atol=1e-12)
    assert found.pca_suffices


def made_up(gains, scores):
    """Rows of results in which the rival differs from PCA by gains and scores, fold by fold."""
    rows = [
        {
            "estimator": name,
            "n_components": 2,
            "fold": i,
            "explained_variance": 0.6 + on * gain,
            "downstream_score": 0.7 + on * score,
        }
        for name, on in (("PCA", 0), ("rival", 1))
        for i, (gain, score) in enumerate(zip(gains, scores, strict=True))
    ]
    found = paired_differences(pd.DataFrame(rows), "PCA", MEASURES, 0.25)
    return verdict_of(found, "PCA", MEASURES)


UP, DOWN, FLAT, WILD = [0.1, 0.11, 0.12], [-0.1, -0.11, -0.12], [0.001] * 3, [0.4, -0.1, 0.01]


@pytest.mark.parametrize(
    ("gains", "scores", "suffices", "says"),
    [
        (FLAT, FLAT, True, ["PCA suffices: ", "accuracy shows no relevant gain"]),
        (FLAT, UP, False, ["PCA suffices for reconstruction: ", "accuracy is higher: 0.810"]),
        (UP, UP, False, ["rival reconstructs held-out rows better", "also higher"]),
        (
            UP,
            FLAT,
            False,
            [
                "0.710 of their variance instead of 0.600",
                "For prediction, PCA suffices nevertheless",
            ],
        ),
        (
            UP,
            DOWN,
            False,
            [
                "27 % of the variance that PCA leaves unexplained",
                "accuracy is lower, however: 0.590",
            ],
        ),
        (UP, WILD, False, ["The accuracy is also higher, but not significantly"]),
        (WILD, FLAT, True, ["PCA suffices: ", "which is not statistically significant"]),
        (DOWN, FLAT, True, ["PCA suffices: ", "explains no more"]),
    ],
)
def test_the_verdict_says_what_the_differences_are(gains, scores, suffices, says):
    verdict, found = made_up(gains, scores)
    assert found is suffices
    for part in says:
        assert part in verdict


def test_without_correction_the_interval_is_students():
    values = np.random.default_rng(0).normal(size=10)
    mean, lower, upper = corrected_interval(values, 0.0, alpha=0.1)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    np.testing.assert_allclose([mean, lower, upper], [values.mean(), expected.low, expected.high])


def test_the_correction_widens_by_the_root_of_one_plus_folds_times_ratio():
    values = np.random.default_rng(0).normal(size=5)
    mean, plain, _ = corrected_interval(values, 0.0)
    _, corrected, _ = corrected_interval(values, 0.25)
    assert (mean - corrected) / (mean - plain) == pytest.approx(np.sqrt(1 + 5 * 0.25))


# -- what is measured --------------------------------------------------------------


def test_scores_are_those_of_a_loop_by_hand(wine_and_classes):
    X, y = wine_and_classes
    folds = KFold(3, shuffle=True, random_state=1)
    model = KNeighborsClassifier()
    found = skae.compare(X, y, 3, [make_fast()], folds, downstream=model, random_state=0)
    rivals = {"PCA": PCA(3), "AutoencoderTransformer": make_fast(n_components=3)}
    for name, rows in found.results.groupby("estimator"):
        estimator = rivals[name]
        for (train, test), row in zip(folds.split(X), rows.itertuples(), strict=True):
            scaler = StandardScaler().fit(X[train])
            reducer = estimator.fit(scaler.transform(X[train]))
            held_out = scaler.transform(X[test])
            assert row.explained_variance == pytest.approx(reconstruction_score(reducer, held_out))
            model.fit(reducer.transform(scaler.transform(X[train])), y[train])
            assert row.downstream_score == pytest.approx(
                model.score(reducer.transform(held_out), y[test])
            )


def test_results_are_tidy(comparison):
    assert comparison.results.columns.tolist() == [
        "estimator",
        "n_components",
        "fold",
        "explained_variance",
        "downstream_score",
        "trustworthiness",
        "fit_time",
        "transform_time",
    ]
    assert not comparison.results.duplicated(["estimator", "n_components", "fold"]).any()
    assert len(comparison.results) == 2 * 2 * 3
    assert np.isfinite(comparison.results.select_dtypes("number")).all(axis=None)


def test_the_summary_is_of_the_results(comparison):
    rows = comparison.results.query("estimator == 'PCA' and n_components == 3")
    (summary,) = comparison.summary.query("estimator == 'PCA' and n_components == 3").itertuples()
    assert summary.explained_variance == pytest.approx(rows["explained_variance"].mean())
    assert summary.downstream_score_std == pytest.approx(rows["downstream_score"].std(ddof=1))


def test_jobs_change_nothing_but_times(comparison, wine_and_classes):
    X, y = wine_and_classes
    with parallel_config(backend="threading"):
        found = skae.compare(X, y, [2, 3], [make_fast(), PCA()], cv=3, n_jobs=2)
    times = ["fit_time", "transform_time"]
    pd.testing.assert_frame_equal(
        found.results.drop(columns=times), comparison.results.drop(columns=times)
    )


def test_nothing_that_is_passed_changes(wine_and_classes):
    X, y = wine_and_classes
    before, autoencoder = X.copy(), AutoencoderTransformer(**FAST)
    skae.compare(X, y, 2, [autoencoder], cv=2)
    np.testing.assert_array_equal(X, before)
    assert not hasattr(autoencoder, "net_")
    assert autoencoder.random_state is None


def test_more_rows_than_trustworthiness_takes():
    X = linear_rows(4200, 4)
    found = skae.compare(X, None, 2, [TruncatedSVD(2)], cv=2)
    assert found.results["trustworthiness"].between(0, 1).all()
    assert "downstream_score" not in found.results


def test_frames_lists_and_text_targets_are_taken(comparison, wine_and_classes):
    X, y = wine_and_classes
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
    names = pd.Series(["a", "b", "c"]).take(y).tolist()
    found = skae.compare(frame, names, (3, 2), [make_fast(), PCA()], cv=3)
    pd.testing.assert_frame_equal(found.summary.iloc[:, :4], comparison.summary.iloc[:, :4])


def test_an_own_preprocessor_receives_frames(wine_and_classes):
    X, _ = wine_and_classes
    frame = pd.DataFrame(X).rename(columns=str)
    chosen = ColumnTransformer([("some", StandardScaler(), ["0", "1", "2", "6"])])
    found = skae.compare(frame, None, 2, [make_fast()], cv=2, preprocessor=chosen)
    plain = skae.compare(frame[["0", "1", "2", "6"]], None, 2, [make_fast()], cv=2)
    pd.testing.assert_frame_equal(found.differences, plain.differences)


# -- choices -----------------------------------------------------------------------


@pytest.mark.parametrize(("width", "sizes"), [(2, [1]), (3, [2]), (5, [2, 4]), (30, [2, 4, 8])])
def test_default_sizes_are_smaller_than_the_rows(width, sizes):
    found = skae.compare(linear_rows(40, width), None, None, [TruncatedSVD()], cv=2)
    assert found.settings["n_components"] == sizes


def test_pca_is_added_and_classes_are_named():
    pipeline = make_pipeline(StandardScaler(), PCA())
    estimators = [FactorAnalysis(), KernelPCA(fit_inverse_transform=True), KernelPCA()]
    with pytest.raises(TypeError, match="FactorAnalysis"):
        skae.compare(linear_rows(40), None, 2, estimators)
    found = skae.compare(linear_rows(40), None, 2, [TruncatedSVD(), TruncatedSVD(), pipeline], cv=2)
    assert found.reference == "PCA"
    assert set(found.summary["estimator"]) == {
        "PCA",
        "StandardScaler+PCA",
        "TruncatedSVD-1",
        "TruncatedSVD-2",
    }


def test_regression_and_classification_are_distinguished(wine_and_classes):
    X, y = load_diabetes(return_X_y=True)  # whole numbers, 214 of them
    assert skae.compare(X, y, 2, [TruncatedSVD()]).labels["downstream_score"] == "R²"
    X, y = wine_and_classes
    assert skae.compare(X, y, 2, [TruncatedSVD()]).labels["downstream_score"] == "accuracy"
    found = skae.compare(X, y, 2, [TruncatedSVD()], downstream=LinearRegression())
    assert found.labels["downstream_score"] == "R²"


def test_every_kind_can_be_compared(kind, wine_and_classes):
    found = skae.compare(*wine_and_classes, 2, {"it": fast(kind, max_epochs=1)}, cv=2)
    assert found.summary["estimator"].tolist() == ["PCA", "it"]


WRONG = {
    "sizes too large": ({"n_components": [2, 9]}, ValueError, r"n_components=\[2, 9\].* 1 to 8"),
    "fractions": ({"n_components": 0.9}, ValueError, "n_components=0.9 must hold integers"),
    "one fold": ({"cv": ShuffleSplit(1)}, ValueError, "two or more"),
    "too many folds": ({"cv": 50}, ValueError, "cv=50 must lie between 2 and .* 40"),
    "missing values in y": ({"y": [None] + [1.0] * 39}, ValueError, "y holds missing values"),
    "one class": ({"y": ["a"] * 40}, ValueError, "one value only"),
    "names": ({"y": [str(i) for i in range(40)]}, ValueError, "y has 40 classes"),
    "lengths": ({"y": [0, 1]}, ValueError, "inconsistent numbers of samples"),
    "downstream alone": ({"downstream": LinearRegression()}, ValueError, "needs y"),
    "a class": ({"estimators": [PCA, TruncatedSVD()]}, TypeError, "must be an estimator"),
    "one way": ({"estimators": [TSNE()]}, TypeError, "inverse_transform"),
    "no size": ({"estimators": {"s": StandardScaler()}}, ValueError, "no parameter `n_components`"),
    "PCA alone": ({"estimators": [PCA()]}, ValueError, "nothing to compare"),
    "preprocessor": ({"preprocessor": "minmax"}, ValueError, "preprocessor='minmax'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_name_the_remedy(case):
    params, error, says = WRONG[case]
    with pytest.raises(error, match=says):
        skae.compare(linear_rows(40), **params)


def test_missing_values_are_refused():
    X = linear_rows(40)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        skae.compare(X)


def test_a_single_column_is_refused():
    with pytest.raises(ValueError, match="at least two columns"):
        skae.compare(linear_rows(40, 1))


# -- figure and report -------------------------------------------------------------


@pytest.mark.parametrize("measure", ["explained_variance", "downstream_score", "fit_time"])
def test_the_figure_shows_the_summary(comparison, measure):
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    display = comparison.plot(axes, measure=measure)
    assert display.ax_ is axes
    assert display.figure_ is axes.figure
    assert len(display.error_bars_) == (0 if measure == "fit_time" else 2)
    for line, (name, rows) in zip(
        display.lines_, comparison.summary.groupby("estimator", sort=False), strict=True
    ):
        np.testing.assert_allclose(line.get_ydata(orig=False), rows[measure])
        assert name in [text.get_text() for text in axes.get_legend().get_texts()]


def test_an_unknown_measure_is_refused(comparison):
    with pytest.raises(ValueError, match="measure='speed' must be one of"):
        comparison.plot(measure="speed")


VOID = {"meta", "link", "img", "br", "hr", "input"}


class Checker(HTMLParser):
    """Reads HTML as a browser would, and fails where tags do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.text, self.images = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        assert len(attributes) == len(attrs)
        self.links += [attributes[key] for key in ("src", "href") if key in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def test_the_report_is_one_whole_file(comparison, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "report.html"
    comparison.to_html(path)
    html = path.read_text(encoding="utf-8")
    page = parsed(html)
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert 'name="viewport" content="width=device-width' in html
    assert comparison.verdict in "".join(page.text)
    assert all(link.startswith("data:") for link in page.links)
    assert not re.search(r"https?://|url\(|@import|<script", html)
    assert len(page.images) == 4
    assert all(image["alt"] for image in page.images)
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_replaces_the_one_before_or_leaves_it(comparison, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "report.html"
    path.write_text("before")
    path.chmod(0o640)
    comparison.to_html(path)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE")
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileNotFoundError):
        comparison.to_html(tmp_path / "absent" / "report.html")
    assert not (tmp_path / "absent").exists()


def test_the_report_does_not_touch_pyplot(comparison, tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    comparison.to_html(tmp_path / "report.html")
    assert pyplot.get_fignums() == before


def test_names_are_text(wine_and_classes):
    X, y = wine_and_classes
    found = skae.compare(X, y, 2, {"<b>&\"'": TruncatedSVD()}, cv=2)
    page = parsed(found._repr_html_())
    assert "b" not in page.tags
    assert "<b>&\"'" in "".join(page.text)


PUBLIC = [skae.compare, skae.Comparison, skae.ComparisonDisplay, skae.LatentDimensionSearch]


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_its_module_is_the_public_one(thing):
    assert thing.__module__ == "skae"


def test_pickles_name_no_private_module(comparison):
    opcodes = pickletools.genops(pickle.dumps(comparison))
    names = [argument for _, argument, _ in opcodes if isinstance(argument, str)]
    assert [name for name in names if name.startswith("skae._")] == []


def test_it_is_readable_and_picklable(comparison):
    text = repr(comparison)
    assert text.startswith(comparison.verdict)
    assert "±" in text
    again = pickle.loads(pickle.dumps(comparison))
    pd.testing.assert_frame_equal(again.results, comparison.results)
    assert again.verdict == comparison.verdict


def test_a_progress_bar_is_shown_on_request(wine_and_classes, capsys):
    X, _ = wine_and_classes
    skae.compare(X, None, 2, [TruncatedSVD()], cv=2, verbose=1)
    shown = capsys.readouterr()
    assert "4/4" in shown.err
    assert shown.out == ""
    skae.compare(X, None, 2, [VAETransformer(max_epochs=1)], cv=2)
    assert capsys.readouterr() == ("", "")
