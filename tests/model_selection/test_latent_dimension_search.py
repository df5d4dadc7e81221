"""The search for the number of components."""

from __future__ import annotations

import copy
import pickle
import pickletools
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import OwnModule, fast, make_fast, slow_but_first
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_wine
from sklearn.decomposition import NMF, PCA
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, minmax_scale
from sklearn.utils.estimator_checks import check_estimator

import skae
from skae import LatentDimensionSearch, VAETransformer
from skae._data.seeds_and_devices import derive_seeds
from skae._model_selection.selection_rules import elbow, largest, one_standard_error
from skae.metrics import reconstruction_score

SIZES = [1, 2, 5]
ONE_DENSITY = make_fast(latent_density="gaussian")  # the default chooses one of several
WITHOUT_FOLDS = clone(ONE_DENSITY).set_params(early_stopping=False)


def search_of(estimator=None, n_components=SIZES, **params):
    estimator = make_fast() if estimator is None else estimator
    return LatentDimensionSearch(estimator, n_components, **{"cv": 3, **params})


def scores_of(search):
    splits = range(search.n_splits_)
    return np.array([search.cv_results_[f"split{i}_test_score"] for i in splits])


@pytest.fixture(scope="module")
def labels():
    return load_wine().target


@pytest.fixture(scope="module")
def plain(wine):
    """Search with default parameters; tests that change it take a copy."""
    return search_of().fit(wine)


# -- what is measured --------------------------------------------------------------


# As in scikit-learn's own tests of its searches, fits that fail raise what the checks expect; an
# estimator of skae is given to the search, which validates its rows, as it is.
@pytest.mark.parametrize(
    "search",
    slow_but_first(
        [
            search_of(ONE_DENSITY, "auto"),
            search_of(
                make_pipeline(StandardScaler(), WITHOUT_FOLDS), [1, 2], cv=2, error_score="raise"
            ),
            search_of(
                fast(VAETransformer(random_state=0), max_epochs=1, early_stopping=False),
                [1],
                cv=2,
                rule="elbow",
                n_seeds=2,
            ),
            search_of(PCA(), [1], together=False, error_score="raise"),
            search_of(WITHOUT_FOLDS, [1], cv=2, downstream=Ridge(), random_state=0),
        ]
    ),
    ids=["auto", "pipeline", "variational", "pca", "downstream"],
)
def test_check_estimator(search):
    results = check_estimator(search, on_skip=None, on_fail=None)
    assert [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")] == []


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
def test_scores_are_those_of_a_grid_search(quick, wine, together):
    ours = search_of(quick, together=together).fit(wine)
    grid = GridSearchCV(quick, {"n_components": SIZES}, cv=3, scoring=reconstruction_score)
    grid.fit(wine)
    tolerance = 1e-4 if together else 0
    np.testing.assert_allclose(scores_of(ours), scores_of(grid), rtol=0, atol=tolerance)
    assert ours.cv_results_.keys() - grid.cv_results_.keys() == {"mean_pca_score", "std_pca_score"}
    assert grid.cv_results_.keys() <= ours.cv_results_.keys()
    assert ours.cv_results_["params"] == grid.cv_results_["params"]


def test_small_tables_count_epochs_together_too(cancer):
    ours, theirs = (
        search_of(together=b, n_components=[2]).fit(cancer[:120]) for b in (True, False)
    )
    np.testing.assert_allclose(scores_of(ours), scores_of(theirs), atol=1e-4)


def test_pcas_scores_are_pcas(plain, wine):
    for i, k in enumerate(SIZES):
        scores = [
            reconstruction_score(PCA(k).fit(wine[train]), wine[test])
            for train, test in KFold(3).split(wine)
        ]
        assert plain.cv_results_["mean_pca_score"][i] == pytest.approx(np.mean(scores))
        assert plain.cv_results_["std_pca_score"][i] == pytest.approx(np.std(scores))


def test_behind_a_scaler_the_scaled_rows_count():
    X = load_wine().data
    pipeline = make_pipeline(StandardScaler(), make_fast())
    search = search_of(pipeline).fit(X)
    train, test = next(KFold(3).split(X))
    scaler = StandardScaler().fit(X[train])
    fitted = make_fast(n_components=5).fit(scaler.transform(X[train]))
    expected = fitted.score(scaler.transform(X[test]))
    assert search.cv_results_["split0_test_score"][2] == pytest.approx(expected, abs=1e-4)
    grid = GridSearchCV(pipeline, {"autoencodertransformer__n_components": SIZES}, cv=3).fit(X)
    np.testing.assert_allclose(scores_of(search), scores_of(grid), atol=1e-4)
    assert search.best_params_.keys() == {"autoencodertransformer__n_components"}
    assert search.score(X) == pytest.approx(search.best_estimator_.score(X))


def test_a_downstream_estimator_scores_codes(wine, labels):
    search = search_of(downstream=LogisticRegression(), cv=4).fit(wine, labels)
    scores, pca_scores = [], []
    for train, test in StratifiedKFold(4).split(wine, labels):
        for encoder, found in ((make_fast(n_components=2), scores), (PCA(2), pca_scores)):
            encoder.fit(wine[train])
            classifier = LogisticRegression().fit(encoder.transform(wine[train]), labels[train])
            found.append(classifier.score(encoder.transform(wine[test]), labels[test]))
    assert scores_of(search)[:, 1] == pytest.approx(scores)
    assert search.cv_results_["mean_pca_score"][1] == pytest.approx(np.mean(pca_scores))
    assert search.cv_results_["std_pca_score"][1] == pytest.approx(np.std(pca_scores))
    assert search.score(wine, labels) > 0.9
    assert search.downstream_.classes_.tolist() == [0, 1, 2]


def test_scorers_by_name_and_by_call(wine, labels):
    named = search_of(downstream=LogisticRegression(), scoring="f1_macro").fit(wine, labels)
    plain = search_of(downstream=LogisticRegression()).fit(wine, labels)
    assert np.abs(scores_of(named) - scores_of(plain)).max() > 0

    def likelihood(estimator, X, y=None):
        return estimator.score_samples(X).mean()

    search = search_of(scoring=likelihood).fit(wine)
    train, test = next(KFold(3).split(wine))
    expected = make_fast(n_components=2).fit(wine[train]).score_samples(wine[test]).mean()
    assert search.cv_results_["split0_test_score"][1] == pytest.approx(expected, abs=1e-2)
    assert search.score(wine) == pytest.approx(likelihood(search.best_estimator_, wine))


def test_training_scores_if_asked_for(wine):
    search = search_of(return_train_score=True).fit(wine)
    train, _ = next(KFold(3).split(wine))
    expected = make_fast(n_components=2).fit(wine[train]).score(wine[train])
    assert search.cv_results_["split0_train_score"][1] == pytest.approx(expected, abs=1e-4)


def test_seeds_are_averaged(wine):
    search = search_of(make_fast(anchor=None), n_seeds=2, random_state=3, together=False).fit(wine)
    seeds = derive_seeds(3, 2)
    train, test = next(KFold(3).split(wine))
    scores = [
        make_fast(anchor=None, n_components=2, random_state=seed).fit(wine[train]).score(wine[test])
        for seed in seeds
    ]
    assert scores[0] != scores[1]
    assert search.cv_results_["split0_test_score"][1] == pytest.approx(np.mean(scores), abs=1e-9)
    assert search.best_estimator_.random_state == seeds[0]


def test_groups_are_not_split(wine):
    groups = np.arange(len(wine)) % 5
    search = search_of(cv=GroupKFold(5)).fit(wine, groups=groups)
    assert search.n_splits_ == 5
    with pytest.raises(ValueError, match="groups"):
        search_of(cv=GroupKFold(5)).fit(wine)


def test_weights_go_to_the_fits(wine):
    weights = np.linspace(0.1, 2, len(wine))
    search = search_of(n_components=[2]).fit(wine, sample_weight=weights)
    train, test = next(KFold(3).split(wine))
    expected = make_fast(n_components=2).fit(wine[train], sample_weight=weights[train])
    assert search.cv_results_["split0_test_score"][0] == expected.score(wine[test])
    whole = make_fast(n_components=2).fit(wine, sample_weight=weights)
    np.testing.assert_array_equal(search.transform(wine), whole.transform(wine))


# -- beside PCA, and with the target -----------------------------------------------


class Spoilt(TransformerMixin, BaseEstimator):
    """PCA that loses some of the first component, and the signs of codes."""

    def __init__(self, n_components=2):
        self.n_components = n_components

    def fit(self, X, y=None):
        self.pca_ = PCA(self.n_components).fit(X)
        self.mean_ = self.pca_.mean_
        self.pca_.components_[0] = np.roll(self.pca_.components_[0], 1)
        return self

    def transform(self, X):
        return self.pca_.transform(X) ** 2

    def inverse_transform(self, Z):
        return self.pca_.inverse_transform(np.sqrt(Z))


@pytest.mark.parametrize("downstream", [None, LogisticRegression()])
def test_the_verdict_tells_losses_as_compare_does(wine, labels, downstream):
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    search = search_of(Spoilt(), [2], downstream=downstream, cv=folds).fit(wine, labels)
    found = skae.compare(
        wine,
        labels,
        2,
        [Spoilt()],
        folds,
        downstream=LogisticRegression(),
        preprocessor=None,
        baselines=False,
    )
    restoring, predicting = found.verdict.splitlines()
    expected = restoring if downstream is None else predicting
    assert search.verdict_ == expected
    assert "PCA is better here (difference −0." in search.verdict_


def test_the_verdict_is_of_the_chosen_candidate_and_counts_all(wine):
    search = search_of(Spoilt(), [2, 3], rule="largest").fit(wine)
    alone = search_of(Spoilt(), [search.n_components_]).fit(wine)
    assert f"with {search.n_components_} components" in search.verdict_
    assert search.verdict_ != alone.verdict_  # a narrower interval, of one comparison


def test_there_is_no_verdict_without_scores_of_pca(wine, labels):
    def score(estimator, X, y=None):
        return estimator.score(X)

    assert search_of(scoring=score).fit(wine).verdict_ is None
    assert search_of(cv=ShuffleSplit(1)).fit(wine).verdict_ is None
    assert search_of(make_fast(), [2]).fit(sparse.csr_array(wine)).verdict_ is None
    named = search_of(downstream=LogisticRegression(), scoring="f1_macro").fit(wine, labels)
    assert named.verdict_.startswith("F1 macro: AutoencoderTransformer ")


class Steered(TransformerMixin, BaseEstimator):
    """Reducer that needs the target if it has a weight; it remembers the targets."""

    seen: ClassVar[list] = []

    def __init__(self, n_components=2, target_weight=0.0):
        self.n_components = n_components
        self.target_weight = target_weight

    def fit(self, X, y=None):
        self.seen.append(y)
        self.model_ = PLSRegression(self.n_components).fit(X, np.eye(3)[y])
        return self

    def transform(self, X):
        return self.model_.transform(X)

    def inverse_transform(self, Z):
        return self.model_.inverse_transform(Z)


def test_the_target_reaches_every_fit_and_the_verdict(wine, labels, monkeypatch):
    monkeypatch.setattr(Steered, "seen", [])
    folds = StratifiedKFold(3)
    search = search_of(Steered(target_weight=1), [1, 2], cv=folds).fit(wine, labels)
    parts = [labels[train] for train, _ in folds.split(wine, labels)]
    expected = [*parts, *parts, labels]  # of the largest candidate, of the other, of all rows
    for given, target in zip(Steered.seen, expected, strict=True):
        np.testing.assert_array_equal(given, target)
    assert search.verdict_.endswith("The fit uses the target, so that restoring is not promised.")
    search = search_of(
        Steered(target_weight=1), [1], cv=folds, downstream=LogisticRegression()
    ).fit(wine, labels)
    assert search.verdict_.startswith("Accuracy, target in the fit: Steered 0.")
    assert search.verdict_.endswith(" Restoring is not promised.")


@pytest.mark.parametrize("piped", [False, True])
def test_a_supervised_code_is_that_of_a_fit_with_the_target(wine, labels, piped):
    estimator = make_fast(target_weight=1.0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = search_of(
        make_pipeline(StandardScaler(), estimator) if piped else estimator,
        [2, 3],
        cv=folds,
        downstream=LogisticRegression(),
    ).fit(wine, labels)
    scores = []
    for train, test in folds.split(wine, labels):
        encoder = make_pipeline(StandardScaler(with_mean=piped, with_std=piped), clone(estimator))
        encoder.fit(wine[train], labels[train])
        classifier = LogisticRegression().fit(encoder.transform(wine[train]), labels[train])
        scores.append(classifier.score(encoder.transform(wine[test]), labels[test]))
    np.testing.assert_allclose(scores_of(search)[:, 0], scores)
    whole = clone(search.best_estimator_).fit(wine, labels)
    np.testing.assert_array_equal(search.transform(wine), whole.transform(wine))
    plain = make_fast(n_components=search.n_components_).fit(wine)
    assert np.abs(search.transform(wine) - plain.transform(wine)).max() > 0.01


# -- what does not change it -------------------------------------------------------


def test_processes_do_not_change_a_bit(plain, wine):
    two = search_of(n_jobs=2).fit(wine)
    np.testing.assert_array_equal(scores_of(plain), scores_of(two))
    np.testing.assert_array_equal(plain.transform(wine), two.transform(wine))


def test_the_callers_generators_stay_as_they_were(wine):
    before = torch.get_rng_state(), np.random.get_state()[1:3]  # noqa: NPY002
    search_of(n_seeds=2, random_state=0).fit(wine)
    assert torch.equal(torch.get_rng_state(), before[0])
    for now, then in zip(np.random.get_state()[1:3], before[1], strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(now, then)


def test_own_networks_and_weights_are_searched_one_by_one(wine):
    search = search_of(make_fast(network=OwnModule), n_components=[2]).fit(wine)
    train, test = next(KFold(3).split(wine))
    expected = make_fast(network=OwnModule, n_components=2).fit(wine[train]).score(wine[test])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(expected, abs=1e-12)


def test_other_reducers_are_searched_too():
    X = load_wine().data
    search = search_of(NMF(max_iter=500, random_state=0)).fit(X)
    grid = GridSearchCV(
        NMF(max_iter=500, random_state=0),
        {"n_components": SIZES},
        cv=3,
        scoring=reconstruction_score,
    ).fit(X)
    np.testing.assert_array_equal(scores_of(search), scores_of(grid))


# -- rules -------------------------------------------------------------------------

CURVE = np.array([1, 2, 4, 8, 16]), np.array([0.2, 0.6, 0.8, 0.84, 0.85])


@pytest.mark.parametrize(
    ("rule", "error", "chosen"),
    [
        (largest, 0.0, 4),
        (one_standard_error, 0.0, 4),
        (one_standard_error, 0.02, 3),
        (one_standard_error, 0.06, 2),
        (elbow, 0.0, 2),
    ],
)
def test_rules(rule, error, chosen):
    assert rule(*CURVE, np.full(5, error)) == chosen


def test_rules_pass_over_candidates_that_failed():
    sizes, means = np.array([1, 2, 4]), np.array([np.nan, 0.5, 0.4])
    for rule in (largest, one_standard_error, elbow):
        assert rule(sizes, means, np.zeros(3)) == 1


@pytest.mark.parametrize("rule", ["largest", "one_standard_error", "elbow"])
def test_the_rule_chooses(rule, wine):
    search = search_of(rule=rule, n_components=[1, 2, 4, 8]).fit(wine)
    means, spread = (search.cv_results_[f"{name}_test_score"] for name in ("mean", "std"))
    rules = {"largest": largest, "one_standard_error": one_standard_error, "elbow": elbow}
    expected = rules[rule](np.array([1, 2, 4, 8]), means, spread / np.sqrt(3))
    assert search.best_index_ == expected
    assert search.best_score_ == means[expected]
    assert search.n_components_ == search.best_estimator_.n_components_ == [1, 2, 4, 8][expected]


def test_a_callable_rule(wine):
    search = search_of(rule=lambda results: int(np.argmin(results["mean_test_score"]))).fit(wine)
    assert search.n_components_ == 1
    with pytest.raises(IndexError, match="returned 7, but there are 3"):
        search_of(rule=lambda results: 7).fit(wine)


# -- as an estimator ---------------------------------------------------------------


def test_the_best_estimator_does_the_rest(wine):
    search = search_of(fast(VAETransformer(random_state=0))).fit(wine)
    best = search.best_estimator_
    codes = search.transform(wine)
    np.testing.assert_array_equal(codes, best.transform(wine))
    np.testing.assert_array_equal(search.inverse_transform(codes), best.inverse_transform(codes))
    np.testing.assert_array_equal(search.reconstruct(wine), best.reconstruct(wine))
    np.testing.assert_array_equal(
        search.reconstruction_error(wine, per_feature=True),
        best.reconstruction_error(wine, per_feature=True),
    )
    np.testing.assert_array_equal(search.sample(3, random_state=0), best.sample(3, random_state=0))
    np.testing.assert_array_equal(search.posterior(wine)[1], best.posterior(wine)[1])
    np.testing.assert_array_equal(search.score_samples(wine[:5]), best.score_samples(wine[:5]))
    assert search.interpolate(wine[:1], wine[1:2], 3).shape == (1, 3, 13)
    assert list(search.get_feature_names_out()) == list(best.get_feature_names_out())
    assert not hasattr(search, "denoise")
    assert search.n_features_in_ == 13


def test_equal_to_a_fit_of_the_best(plain, wine):
    alone = clone(make_fast()).set_params(**plain.best_params_).fit(wine)
    np.testing.assert_array_equal(plain.transform(wine), alone.transform(wine))
    np.testing.assert_array_equal(search_of().fit_transform(wine), alone.transform(wine))


def test_without_refit_there_are_results_only(wine):
    search = search_of(refit=False).fit(wine)
    assert search.n_components_ in SIZES
    assert not hasattr(search, "best_estimator_")
    assert not hasattr(search, "transform")
    with pytest.raises(AttributeError):
        search.n_features_in_  # noqa: B018


def test_before_fit():
    search = search_of()
    with pytest.raises(NotFittedError):
        search.transform(np.zeros((3, 2)))
    assert not hasattr(search, "n_features_in_")


def test_frames_and_their_names(wine):
    frame = pd.DataFrame(wine, columns=load_wine().feature_names)
    search = search_of().set_output(transform="pandas").fit(frame)
    codes = search.transform(frame)
    assert list(codes.columns) == list(search.get_feature_names_out())
    assert list(search.feature_names_in_) == load_wine().feature_names
    pipeline = make_pipeline(StandardScaler(), search_of()).set_output(transform="pandas")
    assert isinstance(pipeline.fit_transform(frame), pd.DataFrame)


def test_inside_a_pipeline_and_a_search(wine, labels):
    pipeline = make_pipeline(StandardScaler(), search_of(), LogisticRegression())
    outer = GridSearchCV(pipeline, {"latentdimensionsearch__rule": ["elbow", "largest"]}, cv=2)
    assert outer.fit(wine, labels).score(wine, labels) > 0.8


@pytest.mark.parametrize("name", ["mean_test_score", "mean_fit_time", "rank_test_score"])
def test_a_flipped_bit_of_a_pickle_is_an_error(plain, name):
    blob, scores = pickle.dumps(plain), plain.cv_results_[name].tobytes()
    damaged = bytearray(blob)
    damaged[blob.index(scores) + 1] ^= 4
    with pytest.raises(ValueError, match="The state of LatentDimensionSearch is damaged"):
        pickle.loads(bytes(damaged))


def test_pickles_and_clones(plain, wine):
    again = pickle.loads(pickle.dumps(plain))
    np.testing.assert_array_equal(again.transform(wine), plain.transform(wine))
    assert clone(plain).get_params().keys() == plain.get_params().keys()


PICKLED = [
    {},
    {"scoring": reconstruction_score},
    {"downstream": LogisticRegression()},
    {"downstream": LogisticRegression(), "scoring": "f1_macro"},
]


@pytest.mark.parametrize("params", PICKLED, ids=lambda params: " and ".join(params) or "default")
def test_pickles_name_no_private_module_and_score_as_before(params, wine, labels):
    search = search_of(PCA(), [2], **params).fit(wine, labels)
    data = pickle.dumps(search)
    names = {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    assert [name for name in names if name.startswith("skae._")] == []
    assert {"skae", "LatentDimensionSearch"} <= names
    assert pickle.loads(data).score(wine, labels) == search.score(wine, labels)


def test_a_progress_bar_if_verbose(wine, capsys):
    search_of(n_components=[1, 2]).fit(wine)
    assert capsys.readouterr() == ("", "")
    search_of(n_components=[1, 2], verbose=1).fit(wine)
    shown = capsys.readouterr()
    assert shown.out == ""
    last = shown.err.replace("\r", "\n").strip().splitlines()[-1]
    assert "100%" in last
    assert "6/6" in last
    assert "2 of 2 candidates" in last


# -- what goes wrong ---------------------------------------------------------------


class FailsAbove(TransformerMixin, BaseEstimator):
    """Reducer that cannot have many components."""

    def __init__(self, n_components=2):
        self.n_components = n_components

    def fit(self, X, y=None):
        if self.n_components > 2:
            raise RuntimeError("too many")
        self.pca_ = PCA(self.n_components).fit(X)
        return self

    def transform(self, X):
        return self.pca_.transform(X)

    def inverse_transform(self, X):
        return self.pca_.inverse_transform(X)


def test_candidates_that_fail_are_passed_over(wine):
    with pytest.warns(FitFailedWarning, match="too many"):
        search = search_of(FailsAbove()).fit(wine)
    assert np.isnan(scores_of(search)[:, 2]).all()
    assert search.n_components_ == 2
    with pytest.raises(RuntimeError, match="too many"):
        search_of(FailsAbove(), error_score="raise").fit(wine)
    with pytest.raises(ValueError, match="All the 3 fits failed"):
        search_of(FailsAbove(), n_components=[5]).fit(wine)


def test_one_failed_fit_does_not_fail_the_others(wine):
    rows = minmax_scale(wine)
    rows[0, 0] = 1.5  # outside of what the loss admits, in the training rows of two of three folds
    probabilities = make_fast(anchor=None, loss="binary_cross_entropy")
    search = search_of(probabilities, n_components=[2], refit=False, rule=lambda results: 0)
    with pytest.warns(FitFailedWarning, match="2 fits failed"):
        search.fit(rows)
    assert np.isfinite(scores_of(search)[:, 0]).tolist() == [True, False, False]


def test_a_search_that_fails_leaves_the_last_one(plain, wine):
    search = copy.deepcopy(plain)
    before = search.transform(wine)
    with pytest.raises(ValueError, match="n_samples=2"):
        search.fit(wine[:2])
    np.testing.assert_array_equal(search.transform(wine), before)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": []}, "must hold integers >= 1"),
        ({"n_components": [0, 2]}, "must hold integers >= 1"),
        ({"n_components": [0.5]}, "must hold integers >= 1"),
        ({"n_components": "all"}, "'n_components' parameter"),
        ({"rule": "best"}, "'rule' parameter"),
        ({"n_seeds": 0}, "'n_seeds' parameter"),
        ({"scoring": "nonsense"}, "'scoring' parameter"),
        ({"estimator": StandardScaler()}, "has no parameter n_components"),
        ({"estimator": make_pipeline(PCA(), StandardScaler())}, "has no parameter n_components"),
        ({"downstream": Ridge()}, "pass y, or set downstream=None"),
    ],
    ids=str,
)
def test_bad_input(params, message, wine):
    with pytest.raises(ValueError, match=message):
        search_of().set_params(**params).fit(wine)
