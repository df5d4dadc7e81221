"""One table, several reducers, one verdict."""

from __future__ import annotations

import pickle
import pickletools
import re
from html.parser import HTMLParser
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from conftest import FAST, fast, make_fast
from joblib import parallel_config
from scipy import stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes, load_digits, load_wine, make_swiss_roll
from sklearn.decomposition import PCA, FactorAnalysis, KernelPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, scale

import skae
from skae import AutoencoderTransformer, VAETransformer
from skae._model_selection.baselines import MEAN, MOST_FREQUENT, RAW_COLUMNS
from skae._model_selection.comparison_result import _with_spread
from skae._model_selection.significance import (
    BOUNDS,
    corrected_interval,
    paired_difference,
    paired_differences,
)
from skae._model_selection.verdict import _number, verdict_of
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
    estimators = {"PCA": PCA(), "linear": make_fast(hidden_layer_sizes=())}
    found = skae.compare(X, y, 2, estimators, cv=3, baselines=False)
    np.testing.assert_allclose(found.differences["difference"], 0, atol=1e-12)
    assert found.pca_suffices


def made_up(gains, scores, measures=MEASURES, **others):
    """Verdict on a rival that differs from PCA by gains and scores, fold by fold.

    `others` are the scores of estimators that restore nothing, if they are not called `both`.
    """
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
    rows += [
        {
            "estimator": name,
            "n_components": 2,
            "fold": i,
            "explained_variance": 0.5 + 0.01 * i if name == "both" else np.nan,
            "downstream_score": score,
        }
        for name, values in others.items()
        for i, score in enumerate(values)
    ]
    supervised = {"both", "LDA"}
    baselines = [name for name in others if name not in supervised]
    found = paired_differences(
        pd.DataFrame(rows), "PCA", measures, 0.25, supervised=supervised, baselines=baselines
    )
    return verdict_of(found, "PCA", measures)


UP, DOWN, FLAT, WILD = [0.1, 0.11, 0.12], [-0.1, -0.11, -0.12], [0.001] * 3, [0.4, -0.1, 0.01]
LOST = [-0.4, 0.1, -0.01]  # in the mean, but not in every fold


@pytest.mark.parametrize(
    ("gains", "scores", "suffices", "says"),
    [
        (FLAT, FLAT, True, ["PCA suffices: rival", "at no size is the mean difference large"]),
        (
            FLAT,
            UP,
            False,
            [
                "PCA suffices for reconstruction: ",
                "Accuracy: rival 0.810, PCA 0.700 with 2 components; rival is better here "
                "(difference 0.110, 95 % interval 0.0",
            ],
        ),
        (UP, UP, False, ["rival reconstructs held-out rows better", "; rival is better here"]),
        (
            UP,
            FLAT,
            False,
            [
                "0.710 of their variance instead of 0.600",
                "Accuracy: rival 0.701, PCA 0.700 with 2 components; at no size is the mean",
            ],
        ),
        (
            UP,
            DOWN,
            False,
            [
                "27 % of the variance that PCA leaves unexplained",
                "Accuracy: rival 0.590, PCA 0.700 with 2 components; PCA is better here "
                "(difference −0.110, 95 % interval −0.1",
            ],
        ),
        (UP, WILD, False, ["rival has the higher mean, but the difference is not stat"]),
        (UP, LOST, False, ["PCA has the higher mean, but the difference is not stat"]),
        (WILD, FLAT, True, ["PCA suffices: ", "which is not statistically significant"]),
        (
            DOWN,
            FLAT,
            True,
            [
                "PCA suffices: rival with 2 components explains less",
                "0.490 instead of 0.600: PCA is better here",
            ],
        ),
        (LOST, FLAT, True, ["explains less", "0.497 instead of 0.600", "PCA has the higher mean"]),
    ],
)
def test_the_verdict_says_what_the_differences_are(gains, scores, suffices, says):
    verdict, found = made_up(gains, scores)
    assert found is suffices
    for part in says:
        assert part in verdict
    uncertain = LOST in (gains, scores) or scores is WILD
    assert ("but the difference is not statistically significant (" in verdict) is uncertain


@pytest.mark.parametrize("reference", [0.5, 0.98, 1.0, -4.0])
@pytest.mark.parametrize("loss", [0.1, 0.2])
def test_a_loss_of_ten_points_is_a_loss(reference, loss):
    own = reference - np.array([loss, loss + 0.01, loss + 0.005])
    found = paired_difference(np.full(3, reference), own, 0.25, 0.05, BOUNDS["downstream_score"])
    assert found["outcome"] == "worse"


def test_losses_are_told_beside_gains():
    rows = [
        {"estimator": name, "n_components": k, "fold": i, **scores_of(name, k, i)}
        for name in ("PCA", "one", "other")
        for k in (2, 4)
        for i in range(4)
    ]
    found = paired_differences(pd.DataFrame(rows), "PCA", MEASURES, 0.25)
    verdict, suffices = verdict_of(found, "PCA", MEASURES)
    assert not suffices
    restoring, predicting = verdict.splitlines()
    assert restoring.startswith("one reconstructs held-out rows better than PCA: with 2 components")
    assert "With 4 components, other explains 0.3" in restoring
    assert "PCA is better here" in restoring
    assert "one 0.9" in predicting.split("; one is better here")[0]
    assert "other 0.5" in predicting.split("; PCA is better here")[0]


def scores_of(name, k, i):
    """Scores of two rivals: one is better with 2 components, the other worse with 4."""
    gain = {("one", 2): 0.2, ("other", 4): -0.2}.get((name, k), 0)
    wobble = 0.001 * i * (name != "PCA")
    return {"explained_variance": 0.5 + gain + wobble, "downstream_score": 0.7 + gain + wobble}


def around(mean):
    return [mean - 0.01, mean, mean + 0.01]


BETTER, SAME, WORSE = around(0.95), around(0.7), around(0.5)


@pytest.mark.parametrize(
    ("others", "suffices", "says"),
    [
        (
            {"both": BETTER, "LDA": BETTER},
            False,
            [
                "Accuracy, target in the fit: both 0.950, PCA 0.700 with 2 components; both is "
                "better here (difference 0.250",
                "both does not promise to restore rows: it explains 0.510 of their variance, PCA "
                "0.600.",
                "LDA cannot restore rows.",
            ],
        ),
        ({"both": WORSE}, True, ["both 0.500, PCA 0.700 with 2 components; PCA is better here"]),
        ({"both": SAME}, True, ["both 0.700, PCA 0.700 with 2 components; at no size is the"]),
        (
            {RAW_COLUMNS: BETTER},
            True,
            [
                "Raw columns: accuracy 0.950; the best code without the target, rival with 2 "
                "components, scores lower: 0.701 (difference −0.249",
                "So all codes of PCA and rival score lower than raw columns.",
            ],
        ),
        (
            {RAW_COLUMNS: SAME},
            True,
            ["Raw columns: accuracy 0.700", "by less than what counts: 0.701 ("],
        ),
        ({RAW_COLUMNS: WORSE}, True, ["Raw columns: accuracy 0.500", "scores higher: 0.701 ("]),
        (
            {RAW_COLUMNS: [0.4, 0.9, 1.0]},
            True,
            ["Raw columns: accuracy 0.767", "not differ significantly: 0.701 ("],
        ),
        (
            {RAW_COLUMNS: BETTER, "both": BETTER},
            False,
            ["So all codes of", "The best code with the target, both with 2 components, d"],
        ),
        (
            {MOST_FREQUENT: SAME},
            True,
            ["Always the most frequent: accuracy 0.700. No reducer is significantly better"],
        ),
        (
            {MOST_FREQUENT: SAME, "both": BETTER},
            False,
            ["Always the most frequent: accuracy 0.700. Without the target, no reducer is signif"],
        ),
        ({MEAN: WORSE}, True, ["Always the mean: accuracy 0.500."]),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, dict) else "",
)
def test_the_verdict_names_baselines_and_supervised_reducers(others, suffices, says):
    verdict, found = made_up(FLAT, FLAT, **others)
    assert found is suffices
    for part in says:
        assert part in verdict
    assert ("So all codes of" in verdict) is (others.get(RAW_COLUMNS) is BETTER)
    assert ("No reducer" in verdict) is (others == {MOST_FREQUENT: SAME})


def test_baselines_do_not_widen_other_intervals(wine_and_classes):
    X, y = wine_and_classes
    with_them, without = (
        skae.compare(X, y, 2, [TruncatedSVD()], cv=3, baselines=b).differences
        for b in (True, False)
    )
    chosen = with_them.query("estimator == 'TruncatedSVD' and reference == 'PCA'")
    pd.testing.assert_frame_equal(chosen.reset_index(drop=True), without)


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
    rivals = {
        "PCA": PCA(3),
        "AutoencoderTransformer": make_fast(n_components=3),
        "LDA": LinearDiscriminantAnalysis(n_components=2),
        RAW_COLUMNS: FunctionTransformer(),
        MOST_FREQUENT: FunctionTransformer(),
    }
    for name, estimator in rivals.items():
        rows = found.results.query("estimator == @name")
        predictor = DummyClassifier() if name == MOST_FREQUENT else model
        for (train, test), row in zip(folds.split(X), rows.itertuples(), strict=True):
            scaler = StandardScaler().fit(X[train])
            reducer = estimator.fit(scaler.transform(X[train]), y[train])
            held_out = scaler.transform(X[test])
            if name in ("PCA", "AutoencoderTransformer"):
                expected = reconstruction_score(reducer, held_out)
                assert row.explained_variance == pytest.approx(expected)
            else:
                assert np.isnan(row.explained_variance)
            predictor.fit(reducer.transform(scaler.transform(X[train])), y[train])
            assert row.downstream_score == pytest.approx(
                predictor.score(reducer.transform(held_out), y[test])
            )


class Steered(TransformerMixin, BaseEstimator):
    """PCA, or partial least squares if there is a weight; it remembers the targets of its fits."""

    seen: ClassVar[list] = []

    def __init__(self, n_components=2, target_weight=0.0):
        self.n_components = n_components
        self.target_weight = target_weight

    def fit(self, X, y=None):
        self.seen.append((self.target_weight, y))
        if self.target_weight == 0:
            self.model_ = PCA(self.n_components).fit(X)
            return self
        numbers = np.eye(3)[np.unique(y, return_inverse=True)[1]] if y.dtype.kind == "U" else y
        self.model_ = PLSRegression(self.n_components).fit(X, numbers)
        return self

    def transform(self, X):
        return self.model_.transform(X)

    def inverse_transform(self, Z):
        return self.model_.inverse_transform(Z)


@pytest.fixture
def targets_seen(monkeypatch):
    """Targets that fits of `Steered` get: lists of those with weight 0 and with weight 1."""
    seen = []
    monkeypatch.setattr(Steered, "seen", seen)
    return lambda: ([y for w, y in seen if w == 0], [y for w, y in seen if w == 1])


def test_an_estimator_that_can_use_the_target_gets_it(wine_and_classes, targets_seen):
    X, y = wine_and_classes
    found = skae.compare(X, y, 2, {"it": Steered(), "again": Steered()}, cv=3)
    assert found.supervised == ["it with target", "LDA"]
    plain, with_target = targets_seen()
    assert (len(plain), len(with_target)) == (6, 3)
    (row,) = found.summary.query("estimator == 'it with target'").to_dict("records")
    (pca,) = found.summary.query("estimator == 'PCA'").to_dict("records")
    assert row["downstream_score"] > pca["downstream_score"]
    assert row["explained_variance"] < pca["explained_variance"]
    assert "it with target does not promise to restore rows" in found.verdict
    assert "it with target" not in found.verdict.splitlines()[0]
    before = found.differences.query("reference == 'PCA'").set_index("estimator")
    names = ["it", "again", "it with target", "LDA"]
    assert [before["uses_target"].loc[[name]].all() for name in names] == [False, False, True, True]


@pytest.mark.filterwarnings("ignore:The error of restored")
def test_the_rows_of_an_autoencoder_with_the_target_are_those_of_a_loop_by_hand():
    X, y = load_diabetes(return_X_y=True)
    folds, grades = KFold(2), np.digitize(y, [80, 110, 140, 200])  # whole, yet no classes
    found = skae.compare(X, grades, 2, [make_fast()], folds, downstream=LinearRegression())
    rows = found.results.query("estimator == 'AutoencoderTransformer with target'")
    for (train, test), row in zip(folds.split(X), rows.itertuples(), strict=True):
        scaler = StandardScaler().fit(X[train])
        codes, held_out = scaler.transform(X[train]), scaler.transform(X[test])
        autoencoder = make_fast(target_weight=1.0).fit(codes, grades[train] + 0.5)
        model = LinearRegression().fit(autoencoder.transform(codes), grades[train])
        expected = model.score(autoencoder.transform(held_out), grades[test])
        assert row.downstream_score == pytest.approx(expected)
        expected = reconstruction_score(autoencoder, held_out)
        assert row.explained_variance == pytest.approx(expected)


def test_a_fit_that_restores_worse_says_so_in_the_verdict_only(recwarn):
    X, y = load_diabetes(return_X_y=True)
    found = skae.compare(X, y, 1, [make_fast(max_epochs=40)], cv=2)
    rows = found.differences.query("uses_target and measure == 'explained_variance'")
    chosen = rows.set_index("estimator").loc["AutoencoderTransformer with target"]
    assert chosen["difference"] < -0.02
    explained = (
        f"explains {chosen['mean']:.3f} of their variance, PCA {chosen['reference_mean']:.3f}"
    )
    assert explained in found.verdict
    assert [str(w.message) for w in recwarn if "restored" in str(w.message)] == []
    alone, rows = make_fast(max_epochs=40, n_components=1, target_weight=1.0), scale(X)
    with pytest.warns(ConvergenceWarning, match="restored held-out rows"):
        alone.fit(rows, y)


def test_one_that_uses_it_already_is_no_plain_reducer(wine_and_classes, targets_seen):
    X, y = wine_and_classes
    pipeline = make_pipeline(StandardScaler(), Steered(target_weight=1))
    found = skae.compare(X, y, 2, {"plain": Steered(), "mine": pipeline}, cv=2)
    assert found.supervised == ["mine", "LDA"]
    assert list(map(len, targets_seen())) == [2, 2]
    alone = skae.compare(X, y, 2, {"mine": pipeline}, cv=2, baselines=False)
    assert alone.supervised == ["mine"]
    assert alone.verdict.startswith("Accuracy, target in the fit: mine 0.9")


@pytest.mark.parametrize("classes", [[-1, 0, 1], [0, 1, 2], ["a", "b", "c"], [0.0, 1.0, 2.0]])
def test_classes_cannot_be_taken_for_numbers_or_gaps(wine_and_classes, targets_seen, classes):
    X, y = wine_and_classes
    skae.compare(X, np.take(classes, y), 2, [Steered()], cv=2)
    _, with_target = targets_seen()
    assert [set(each) for each in with_target] == [{"class 0", "class 1", "class 2"}] * 2


@pytest.mark.parametrize("columns", [[0], [0, 1]])
def test_numbers_are_quantities(targets_seen, columns):
    X, y = load_diabetes(return_X_y=True)
    target = np.column_stack([y.astype(int), 100 * X[:, 2]])[:, columns]
    found = skae.compare(X, target.squeeze(), [2, 4], [Steered()], cv=2)
    assert found.supervised == ["Steered with target", "PLS"]
    assert found.baselines == [RAW_COLUMNS, MEAN]
    summary = found.summary.set_index("estimator")
    assert summary["downstream_score"][MEAN] < 0.01
    assert np.isfinite(summary["explained_variance"]["PLS"]).all()
    _, with_target = targets_seen()
    for seen in with_target:  # whole numbers would be taken for classes
        assert (seen % 1 != 0).any(axis=0).all()
        differences = np.subtract.outer(np.reshape(seen, (221, -1))[:, 0], target[:, 0])
        assert (differences == 0.5).any(axis=1).all()


def test_without_baselines_the_estimators_are_alone(wine_and_classes, targets_seen):
    X, y = wine_and_classes
    found = skae.compare(X, y, 2, [Steered()], cv=2, baselines=False)
    assert set(found.summary["estimator"]) == {"PCA", "Steered"}
    assert found.supervised == found.baselines == []
    assert len(found.verdict.splitlines()) == 2
    without = skae.compare(X, None, 2, [Steered()], cv=2)
    assert set(without.summary["estimator"]) == {"PCA", "Steered"}
    assert len(without.verdict.splitlines()) == 1
    assert set(without.differences["reference"]) == {"PCA"}


def test_names_that_are_taken_stay_with_their_owners(wine_and_classes):
    X, y = wine_and_classes
    mine = {"LDA": TruncatedSVD(), RAW_COLUMNS: TruncatedSVD(), "other": Steered()}
    found = skae.compare(X, y, 2, mine, cv=2)
    assert found.summary["estimator"].is_unique
    assert found.baselines == [MOST_FREQUENT]
    assert found.supervised == ["other with target"]
    chosen = found.summary.set_index("estimator")["downstream_score"]
    assert chosen["LDA"] == chosen[RAW_COLUMNS]


def test_a_search_downstream_scores_constants_too(wine_and_classes):
    X, y = wine_and_classes
    search = GridSearchCV(LogisticRegression(), {"C": [1]}, scoring="roc_auc", cv=2)
    found = skae.compare(X, y == 1, 2, [TruncatedSVD()], cv=2, downstream=search)
    assert found.summary.set_index("estimator")["downstream_score"][MOST_FREQUENT] == 0.5


def test_several_labels_have_raw_columns_only(wine_and_classes):
    X, y = wine_and_classes
    labels = np.column_stack([y == 0, y < 2]).astype(int)
    found = skae.compare(X, labels, 2, [Steered()], KFold(2), downstream=KNeighborsClassifier())
    assert (found.supervised, found.baselines) == ([], [RAW_COLUMNS])


def test_nothing_beats_the_majority_where_there_is_nothing_to_find():
    y = np.arange(300) % 3 == 0
    found = skae.compare(linear_rows(), y, 2, [TruncatedSVD()], cv=4)
    last = found.verdict.splitlines()[-1]
    assert last.startswith("Always the most frequent: accuracy 0.667. No reducer")


def test_lda_has_one_component_for_two_classes_and_meets_the_next_pca(wine_and_classes):
    X, y = wine_and_classes
    found = skae.compare(X, y == 1, [2, 4], [TruncatedSVD()], cv=3)
    chosen = found.differences.query("estimator == 'LDA' and reference == 'PCA'")
    assert chosen["n_components"].tolist() == [1]
    assert chosen["reference_n_components"].tolist() == [2]
    scores = found.results.set_index(["estimator", "n_components"])["downstream_score"]
    expected = scores["LDA", 1].mean() - scores["PCA", 2].mean()
    assert chosen["difference"].item() == pytest.approx(expected)
    assert re.search(r"LDA 0\.\d+ with 1 component, PCA 0\.\d+ with 2 components", found.verdict)


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
    assert comparison.results["n_components"].dtype.kind == "i"
    assert comparison.results.groupby("estimator")["n_components"].unique().map(set).to_dict() == {
        "PCA": {2, 3},
        "AutoencoderTransformer": {2, 3},
        "AutoencoderTransformer with target": {2, 3},
        "LDA": {2},  # of three classes
        RAW_COLUMNS: {13},
        MOST_FREQUENT: {0},
    }
    numbers = comparison.results.set_index("estimator").select_dtypes("number")
    finite = np.isfinite(numbers).groupby(level=0, sort=False).all()
    assert finite.loc["PCA":"AutoencoderTransformer with target"].all(axis=None)
    assert not finite["explained_variance"][["LDA", *comparison.baselines]].any()
    assert finite["downstream_score"].all()


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
    X, y = wine_and_classes
    can = "target_weight" in kind.get_params()
    found = skae.compare(X, [-1, 0, 1] @ np.eye(3)[y].T, 2, {"it": fast(kind, max_epochs=1)}, cv=2)
    expected = ["PCA", "it", *["it with target"] * can, "LDA", RAW_COLUMNS, MOST_FREQUENT]
    assert found.summary["estimator"].tolist() == expected


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
    "no time": ({"budget": 0}, ValueError, "budget=0 must be a number of seconds above 0"),
    "all alike": ({"X": np.ones((9, 3))}, ValueError, "all rows of X are equal"),
    "few rows": ({"X": np.eye(3)}, ValueError, "the table has 3 rows to compare, but 4"),
    "preprocessor": ({"preprocessor": "minmax"}, ValueError, "preprocessor='minmax'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_name_the_remedy(case):
    params, error, says = WRONG[case]
    with pytest.raises(error, match=says):
        skae.compare(**{"X": linear_rows(40), **params})


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
    shown = comparison.summary.dropna(subset=[measure])
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert set(named) == set(shown["estimator"])
    for name in comparison.baselines:  # lines across the figure
        if measure == "downstream_score":
            (mean,) = shown.query("estimator == @name")[measure]
            (line,) = [line for line in display.lines_ if line.get_label() == name]
            assert line.get_ydata() == [mean, mean]
        assert (name in named) is (measure == "downstream_score")
    reducers = shown[~shown["estimator"].isin(comparison.baselines)]
    for name, rows in reducers.groupby("estimator"):
        (handle,) = [h for h in axes.containers if h.get_label() == name]
        np.testing.assert_allclose(handle[0].get_ydata(orig=False), rows[measure])
    assert len(display.lines_) == len(named)
    n_bars = 0 if measure == "fit_time" else reducers["estimator"].nunique()
    assert len(display.error_bars_) == n_bars
    assert [t.get_text() for t in axes.get_xticklabels()] == ["2", "3"]


def test_a_budget_leaves_out_what_comes_late(wine_and_classes):
    X, y = wine_and_classes
    estimators = {"a": make_fast(), "b": make_fast()}
    found = skae.compare(X, y, [2, 3], estimators, cv=2, budget=1e-9)
    late = [("a", 3), ("b", 2), ("b", 3), ("a with target", 2), ("a with target", 3)]
    assert found.left_out == late
    kept = set(found.summary[["estimator", "n_components"]].itertuples(index=False, name=None))
    expected = {("PCA", 2), ("PCA", 3), ("a", 2), ("LDA", 2), (RAW_COLUMNS, 13), (MOST_FREQUENT, 0)}
    assert kept == expected
    long = skae.compare(X, y, [2, 3], estimators, cv=2, budget=1000)
    assert long.left_out == []
    without = skae.compare(X, y, [2, 3], estimators, cv=2)
    columns = ["estimator", "n_components", "fold", "explained_variance", "downstream_score"]
    pd.testing.assert_frame_equal(long.results[columns], without.results[columns])


def test_an_unknown_measure_is_refused(comparison):
    with pytest.raises(ValueError, match="measure='speed' must be one of"):
        comparison.plot(measure="speed")


VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


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
    assert "nan" not in html
    assert page.text.count("–") > 6  # of rows that restore nothing
    titles = [f"Differences from {name}" for name in ("PCA", *comparison.baselines)]
    assert [text for text in page.text if text in titles] == titles
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
    assert "nan" not in text.lower()
    again = pickle.loads(pickle.dumps(comparison))
    pd.testing.assert_frame_equal(again.results, comparison.results)
    assert again.verdict == comparison.verdict


@pytest.mark.parametrize("mean", [-1e-5, -0.0, 0.0, 1e-5])
def test_zero_has_no_sign(mean):
    assert _with_spread(mean, 0.01) == "0.000 ± 0.010"
    assert _with_spread(mean, np.nan) == _number(mean) == "0.000"


def test_a_progress_bar_is_shown_on_request(wine_and_classes, capsys):
    X, _ = wine_and_classes
    skae.compare(X, None, 2, [TruncatedSVD()], cv=2, verbose=1)
    shown = capsys.readouterr()
    last = shown.err.replace("\r", "\n").strip().splitlines()[-1]
    assert "4/4" in last
    assert "2 of 2 candidates" in last
    assert shown.out == ""
    skae.compare(X, None, 2, [VAETransformer(max_epochs=1)], cv=2)
    assert capsys.readouterr() == ("", "")
