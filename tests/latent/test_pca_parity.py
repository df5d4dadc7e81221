"""User code around PCA, once each, run with PCA and with every estimator.

The page docs/pca_parity.md is made of what these tests report: after adding a piece, run
``python docs/make_parity.py``.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from conftest import ESTIMATORS, fast, is_dense, name_of, takes_tables
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

import skae
from skae import AdversarialAutoencoder, MultiViewAutoencoder, NeighborAutoencoder
from skae.export import to_onnx
from skae.metrics import log_likelihood_score, reconstruction_score

PAGE = Path(__file__).parents[2] / "docs" / "pca_parity.md"
GUIDE = PAGE.with_name("replace_pca.md")
# What may take PCA's place: a map may not, views need columns of their own, and codes of a prior
# have its variances.
NOT_PCA = NeighborAutoencoder, MultiViewAutoencoder, AdversarialAutoencoder
DENSE = [
    kind
    for kind in ESTIMATORS
    if is_dense(kind) and takes_tables(kind) and not isinstance(kind, NOT_PCA)
]
KINDS = [PCA(random_state=0), *DENSE]
# Of PCA's public names, those without a meaning for an autoencoder.
WITHOUT_MEANING = {
    "copy",
    "svd_solver",
    "iterated_power",
    "n_oversamples",
    "power_iteration_normalizer",
}


@dataclass(frozen=True)
class Piece:
    """User code that asserts what its author relies on."""

    group: str
    words: str
    run: Callable
    reference: type
    pca_raises: type[Exception] | tuple[type[Exception], ...] | None


PIECES: list[Piece] = []


def piece(group, words, *, reference=PCA, pca_raises=None):
    """Register a function of an unfitted estimator, rows, string labels and an empty folder.

    `reference` takes PCA's place, as IncrementalPCA where rows come in a stream;
    `pca_raises` is what it raises where it lacks the feature.
    """

    def register(run):
        PIECES.append(Piece(group, words, run, reference, pca_raises))
        return run

    return register


def made(kind, piece):
    if isinstance(kind, PCA):
        return piece.reference(2)
    return fast(kind, max_epochs=2, early_stopping=False)


@pytest.fixture(scope="module")
def labels():
    return np.array(["Barolo", "Grignolino", "Barbera"])[load_wine().target]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.run.__name__)
def test_piece(piece, kind, wine, labels, tmp_path, record_property):
    estimator = made(kind, piece)
    lacking = isinstance(kind, PCA) and piece.pca_raises
    substitute = "" if isinstance(estimator, type(kind)) else f" ({name_of(estimator)})"
    record_property("piece", f"{piece.group}|{piece.words}")
    record_property("estimator", name_of(kind))
    record_property("mark", "–" if lacking else f"✓{substitute}")
    if lacking:
        with pytest.raises(piece.pca_raises):
            piece.run(estimator, wine, labels, tmp_path)
    else:
        piece.run(estimator, wine, labels, tmp_path)


# -- the page ----------------------------------------------------------------------


def rows_of_page():
    """Cells of the rows of all tables on the page, headings left out, and its headings."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    table = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return [row for row in table if set(row[1]) - set("-:")], lines


def test_the_page_shows_every_piece_and_has_no_hole():
    rows, lines = rows_of_page()
    names = [name_of(kind) for kind in KINDS]
    heads = [row[1:] for row in rows if row[1] == "PCA"]
    groups = list(dict.fromkeys(piece.group for piece in PIECES))
    assert heads == [names] * len(groups)
    assert [line[3:] for line in lines if line.startswith("## ")] == groups
    shown = [row for row in rows if row[1] != "PCA"]
    expected = [piece for group in groups for piece in PIECES if piece.group == group]
    assert [row[0] for row in shown] == [piece.words for piece in expected]
    for row, piece in zip(shown, expected, strict=True):
        substitute = "" if piece.reference is PCA else f" ({piece.reference.__name__})"
        assert row[1] == ("–" if piece.pca_raises else f"✓{substitute}")
        assert row[2:] == ["✓"] * len(DENSE)


def test_no_piece_is_there_twice():
    assert len({piece.words for piece in PIECES}) == len(PIECES)
    assert len({piece.run.__name__ for piece in PIECES}) == len(PIECES)


@pytest.mark.parametrize("estimator", DENSE, ids=name_of)
def test_every_public_name_of_pca_is_there_or_in_the_list_of_those_without_meaning(estimator, wine):
    frame = pd.DataFrame(wine).add_prefix("x")
    ours, pcas = (
        {name for name in dir(fitted) if not name.startswith("_")}
        for fitted in (fast(estimator).fit(frame), PCA(2).fit(frame))
    )
    assert pcas - ours == WITHOUT_MEANING
    guide = GUIDE.read_text(encoding="utf-8")
    assert [name for name in WITHOUT_MEANING if f"`{name}`" not in guide] == []


# -- pieces ------------------------------------------------------------------------

PIPELINES = "In Pipelines and searches"


def classifier(estimator, **params):
    return Pipeline(
        [
            ("scale", StandardScaler()),
            ("reduce", estimator),
            ("classify", LogisticRegression(max_iter=1000)),
        ],
        **params,
    )


@piece(PIPELINES, "a step of a Pipeline before a classifier, with string labels")
def step_of_a_pipeline(estimator, X, y, tmp_path):
    model = classifier(estimator).fit(X, y)
    assert model.score(X, y) > 0.8
    assert set(model.predict(X[:5])) <= set(y)
    assert model[:-1].transform(X).shape == (178, 2)


@piece(PIPELINES, "`inverse_transform` of a whole Pipeline")
def pipeline_goes_back(estimator, X, y, tmp_path):
    rows = X * 100 + 7
    model = make_pipeline(MinMaxScaler(), estimator).fit(rows)
    back = model.inverse_transform(model.transform(rows))
    assert np.square(back - rows).sum() < 0.7 * np.square(rows - rows.mean(axis=0)).sum()


@piece(PIPELINES, "swapped into a Pipeline with `set_params(reduce=...)`")
def swapped_by_set_params(estimator, X, y, tmp_path):
    model = classifier("passthrough").set_params(reduce=estimator, reduce__n_components=4)
    assert model.fit(X, y)["reduce"].transform(X).shape == (178, 4)


@piece(PIPELINES, '`Pipeline(memory="cache")` fits once')
def cached_by_a_pipeline(estimator, X, y, tmp_path):
    model = classifier(estimator, memory=str(tmp_path))
    first = clone(model).fit(X, y)
    stored = sorted(tmp_path.rglob("output.pkl"))
    second = clone(model).fit(X, y)
    assert sorted(tmp_path.rglob("output.pkl")) == stored
    assert len(stored) == 2
    assert np.array_equal(first.predict_proba(X), second.predict_proba(X))


@piece(PIPELINES, "`GridSearchCV` over `n_components`, `n_jobs=2`")
def grid_search(estimator, X, y, tmp_path):
    grid = {"reduce__n_components": [1, 5]}
    search = GridSearchCV(classifier(estimator), grid, cv=3, n_jobs=2, error_score="raise")
    assert search.fit(X, y).best_params_ == {"reduce__n_components": 5}


@piece(PIPELINES, "one grid contains it and PCA")
def grid_of_reducers(estimator, X, y, tmp_path):
    grid = {"reduce": [PCA(), estimator], "reduce__n_components": [1, 3]}
    search = GridSearchCV(classifier(PCA()), grid, cv=3, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 4


@piece(PIPELINES, "`RandomizedSearchCV`")
def randomized_search(estimator, X, y, tmp_path):
    lists = {"reduce__n_components": [1, 2, 3], "reduce__whiten": [False, True]}
    search = RandomizedSearchCV(classifier(estimator), lists, n_iter=3, cv=2, random_state=0)
    assert 1 <= search.fit(X, y).best_params_["reduce__n_components"] <= 3


@piece(PIPELINES, "`HalvingGridSearchCV`")
def halving_search(estimator, X, y, tmp_path):
    grid = {"reduce__n_components": [1, 2, 5]}
    search = HalvingGridSearchCV(classifier(estimator), grid, cv=2, random_state=0)
    assert search.fit(X, y).best_score_ > 0.5


@piece(PIPELINES, "search for the number of components by held-out likelihood, without labels")
def search_by_likelihood(estimator, X, y, tmp_path):
    model = make_pipeline(StandardScaler(), estimator)
    grid = {f"{type(estimator).__name__.lower()}__n_components": [1, 3]}
    search = GridSearchCV(model, grid, cv=3, scoring=log_likelihood_score, error_score="raise")
    assert np.isfinite(search.fit(X[::-1]).cv_results_["mean_test_score"]).all()


@piece(PIPELINES, "`FeatureUnion`")
def feature_union(estimator, X, y, tmp_path):
    union = FeatureUnion([("scaled", StandardScaler()), ("codes", estimator)])
    assert union.fit_transform(X).shape == (178, 15)
    assert list(union.get_feature_names_out())[-1].startswith("codes__")


@piece(PIPELINES, "a step of a `ColumnTransformer`")
def column_transformer(estimator, X, y, tmp_path):
    frame = pd.DataFrame(X).add_prefix("x").assign(kind=y)
    both = ColumnTransformer(
        [("codes", estimator, list(frame.columns[:6])), ("kind", OneHotEncoder(), ["kind"])]
    )
    assert both.fit_transform(frame).shape == (178, 5)


@piece(PIPELINES, "one-hot categories together with scaled numbers")
def mixed_table(estimator, X, y, tmp_path):
    frame = pd.DataFrame(X).add_prefix("x").assign(kind=y)
    columns = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["kind"]), remainder=StandardScaler()
    )
    model = make_pipeline(columns, estimator).fit(frame)
    assert reconstruction_score(model[1:], columns.transform(frame)) > 0.3


@piece(PIPELINES, "`cross_val_score` with its own `score`")
def cross_validated(estimator, X, y, tmp_path):
    scores = cross_val_score(estimator, X, cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()


@piece(PIPELINES, "`cross_validate` with several scores, returning the fitted estimators")
def cross_validated_by_several(estimator, X, y, tmp_path):
    scoring = {"share": reconstruction_score, "nats": log_likelihood_score}
    result = cross_validate(estimator, X, cv=3, scoring=scoring, return_estimator=True)
    assert (result["test_share"] < 1).all()
    assert np.isfinite(result["test_nats"]).all()
    assert [fitted.n_components_ for fitted in result["estimator"]] == [2, 2, 2]


@piece(PIPELINES, "`cross_val_predict` of a Pipeline")
def predictions_of_folds(estimator, X, y, tmp_path):
    assert (cross_val_predict(classifier(estimator), X, y, cv=3) == y).mean() > 0.7


@piece(PIPELINES, "`learning_curve`")
def curve_of_sizes(estimator, X, y, tmp_path):
    sizes, train, test = learning_curve(
        estimator, X, None, cv=2, train_sizes=[20, 60], scoring=reconstruction_score
    )
    assert list(sizes) == [20, 60]
    assert np.isfinite([train, test]).all()


@piece(PIPELINES, "`validation_curve` over `n_components`")
def curve_of_dimensions(estimator, X, y, tmp_path):
    train, _ = validation_curve(
        estimator,
        X,
        None,
        param_name="n_components",
        param_range=[1, 6],
        cv=2,
        scoring=reconstruction_score,
    )
    assert (train[1] > train[0]).all()


@piece(PIPELINES, "`permutation_importance` of a Pipeline")
def importance_of_columns(estimator, X, y, tmp_path):
    model = classifier(estimator).fit(X, y)
    importance = permutation_importance(model, X, y, n_repeats=2, random_state=0)
    assert importance.importances_mean.max() > 0


@piece(PIPELINES, "`TransformedTargetRegressor` around a Pipeline")
def transformed_target(estimator, X, y, tmp_path):
    target = np.exp(X[:, 0])
    model = make_pipeline(estimator, Ridge())
    regressor = TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp)
    assert (regressor.fit(X, target).predict(X) > 0).all()


@piece(PIPELINES, "reduces the targets of a `TransformedTargetRegressor`")
def reduced_targets(estimator, X, y, tmp_path):
    regressor = TransformedTargetRegressor(Ridge(), transformer=estimator, check_inverse=False)
    assert regressor.fit(X[:, :4], X).predict(X[:, :4]).shape == X.shape


@piece(PIPELINES, "`BaggingClassifier` and `StackingClassifier` around a Pipeline")
def ensembles(estimator, X, y, tmp_path):
    model = classifier(estimator)
    assert BaggingClassifier(model, n_estimators=2, random_state=0).fit(X, y).score(X, y) > 0.7
    stack = StackingClassifier([("reduced", model), ("raw", KNeighborsClassifier())], cv=2)
    assert stack.fit(X, y).score(X, y) > 0.7


@piece(PIPELINES, "clustering and nearest neighbours of codes")
def clusters_of_codes(estimator, X, y, tmp_path):
    codes = estimator.fit_transform(X)
    assert len(set(KMeans(3, n_init=1, random_state=0).fit_predict(codes))) == 3
    assert KNeighborsClassifier().fit(codes, y).score(codes, y) > 0.8


PARAMETERS = "Parameters"


@piece(PARAMETERS, "the number of components as first argument, `PCA(3)`")
def size_comes_first(estimator, X, y, tmp_path):
    assert type(estimator)(3).n_components == 3


@piece(PARAMETERS, "no argument needed")
def no_argument(estimator, X, y, tmp_path):
    codes = fast(type(estimator)()) if "max_epochs" in estimator.get_params() else PCA()
    assert np.isfinite(codes.fit_transform(X)).all()


@piece(PARAMETERS, "`n_components=None` keeps `min(n_samples, n_features)`")
def all_components(estimator, X, y, tmp_path):
    assert estimator.set_params(n_components=None).fit(X[:6]).n_components_ == 6
    assert estimator.fit(X[:60, :4]).n_components_ == 4


@piece(PARAMETERS, "`n_components=0.9`: as many as explain this fraction of the variance")
def share_of_variance_asked_for(estimator, X, y, tmp_path):
    estimator.set_params(n_components=0.9).fit(X)
    assert 1 < estimator.n_components_ <= PCA(0.9).fit(X).n_components_
    assert estimator.transform(X).shape == (178, estimator.n_components_)


@piece(PARAMETERS, "`whiten=True`: codes of unit variance")
def whitened(estimator, X, y, tmp_path):
    codes = estimator.set_params(whiten=True).fit_transform(X)
    np.testing.assert_allclose(codes.std(axis=0, ddof=1), 1, rtol=1e-5)


@piece(PARAMETERS, "`clone`, `get_params`, `set_params`")
def cloned(estimator, X, y, tmp_path):
    other = clone(estimator.set_params(n_components=4, whiten=True))
    assert other.get_params() == estimator.get_params()
    assert other.fit(X).n_components_ == 4


@piece(
    PARAMETERS, "`random_state=0`: bit-identical results; global random generators are not changed"
)
def repeatable(estimator, X, y, tmp_path):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    estimator.set_params(random_state=0)
    first, second = (clone(estimator).fit_transform(X) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@piece(PARAMETERS, "an error that names parameter and value")
def wrong_parameter(estimator, X, y, tmp_path):
    with pytest.raises(ValueError, match=r"n_components.*-3"):
        estimator.set_params(n_components=-3).fit(X)


@piece(PARAMETERS, "`repr` and the HTML diagram of a notebook")
def shown_in_a_notebook(estimator, X, y, tmp_path):
    assert "n_components=4" in repr(estimator.set_params(n_components=4))
    assert type(estimator).__name__ in classifier(estimator)._repr_html_()


@piece(PARAMETERS, "nothing is printed")
def silent(estimator, X, y, tmp_path):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        estimator.fit_transform(X)
    assert out.getvalue() + err.getvalue() == ""


@piece(PARAMETERS, "`warm_start=True` continues the previous fit", pca_raises=ValueError)
def warm_start(estimator, X, y, tmp_path):
    estimator.set_params(warm_start=True).fit(X)
    before = reconstruction_score(estimator, X)
    assert reconstruction_score(estimator.fit(X), X) > before - 0.05


@piece(PARAMETERS, "more components than features", pca_raises=ValueError)
def overcomplete(estimator, X, y, tmp_path):
    assert estimator.set_params(n_components=20).fit_transform(X).shape == (178, 20)


FRAMES = "Data frames and names"


def framed(X):
    index = [f"bottle {i}" for i in range(len(X))]
    return pd.DataFrame(X, index=index, columns=load_wine().feature_names)


def prefixed(estimator, k=2):
    return [f"{type(estimator).__name__.lower()}{i}" for i in range(k)]


@piece(FRAMES, '`set_output(transform="pandas")`: names and index kept')
def pandas_out(estimator, X, y, tmp_path):
    codes = estimator.set_output(transform="pandas").fit_transform(framed(X))
    assert list(codes.columns) == prefixed(estimator)
    assert codes.index[0] == "bottle 0"


@piece(FRAMES, '`set_output(transform="polars")`')
def polars_out(estimator, X, y, tmp_path):
    codes = estimator.set_output(transform="polars").fit_transform(pl.from_pandas(framed(X)))
    assert isinstance(codes, pl.DataFrame)
    assert codes.columns == prefixed(estimator)


@piece(FRAMES, '`sklearn.set_config(transform_output="pandas")`')
def frames_everywhere(estimator, X, y, tmp_path):
    with config_context(transform_output="pandas"):
        codes = make_pipeline(StandardScaler(), estimator).fit_transform(framed(X))
    assert list(codes.columns) == prefixed(estimator)


@piece(FRAMES, "`feature_names_in_` and `get_feature_names_out`")
def names_in_and_out(estimator, X, y, tmp_path):
    estimator.fit(framed(X))
    assert estimator.feature_names_in_[0] == "alcohol"
    assert estimator.n_features_in_ == 13
    assert list(estimator.get_feature_names_out()) == prefixed(estimator)


@piece(FRAMES, "reordered or missing columns are an error")
def wrong_columns(estimator, X, y, tmp_path):
    frame = framed(X)
    estimator.fit(frame)
    for columns in (frame.columns[::-1], frame.columns[1:]):
        with pytest.raises(ValueError, match="feature names should match"):
            estimator.transform(frame[columns])


@piece(FRAMES, "`inverse_transform` takes a data frame of codes")
def codes_in_a_frame(estimator, X, y, tmp_path):
    codes = estimator.set_output(transform="pandas").fit_transform(framed(X))
    assert np.shape(estimator.inverse_transform(codes)) == X.shape


@piece(
    FRAMES,
    "`inverse_transform` returns the original columns and index",
    pca_raises=(AttributeError, AssertionError),  # an array, or a frame of other columns
)
def rows_in_a_frame(estimator, X, y, tmp_path):
    frame = framed(X)
    codes = estimator.set_output(transform="pandas").fit_transform(frame)
    reconstructed = estimator.inverse_transform(codes)
    assert reconstructed.columns.equals(frame.columns)
    assert reconstructed.index.equals(frame.index)


ATTRIBUTES = "Fitted attributes"


@piece(ATTRIBUTES, "`components_`: a table of loadings by feature")
def loadings(estimator, X, y, tmp_path):
    estimator.fit(framed(X))
    table = pd.DataFrame(estimator.components_.T, index=estimator.feature_names_in_)
    assert table.shape == (13, 2)
    assert (table.abs().max() > 0.3 * np.linalg.norm(table, axis=0)).all()


@piece(ATTRIBUTES, "signs are fixed: the largest entry of a component is positive")
def signs(estimator, X, y, tmp_path):
    components = estimator.fit(X).components_
    assert (np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], 1) > 0).all()


@piece(ATTRIBUTES, "`explained_variance_` is the variance of the codes")
def variances(estimator, X, y, tmp_path):
    codes = estimator.fit_transform(X)
    np.testing.assert_allclose(estimator.explained_variance_, codes.var(axis=0, ddof=1), rtol=1e-6)


@piece(ATTRIBUTES, "`explained_variance_ratio_`: a scree plot whose sum is the training score")
def scree(estimator, X, y, tmp_path):
    estimator.set_params(n_components=5).fit(X)
    cumulated = np.cumsum(estimator.explained_variance_ratio_)
    assert cumulated[-1] == pytest.approx(reconstruction_score(estimator, X))
    assert 1 <= np.argmax(cumulated > 0.4) + 1 <= 5


@piece(ATTRIBUTES, "`singular_values_`")
def singular_values(estimator, X, y, tmp_path):
    assert (estimator.fit(X).singular_values_ > 0).all()
    assert estimator.singular_values_.shape == (2,)


@piece(ATTRIBUTES, "`mean_`, `n_components_`, `n_samples_`, `n_features_in_`")
def counts(estimator, X, y, tmp_path):
    estimator.fit(X + 3)
    np.testing.assert_allclose(estimator.mean_, (X + 3).mean(axis=0))
    assert (estimator.n_components_, estimator.n_samples_) == (2, 178)
    assert estimator.n_features_in_ == 13


@piece(ATTRIBUTES, "`noise_variance_`")
def noise_variance(estimator, X, y, tmp_path):
    few, many = (clone(estimator).set_params(n_components=k).fit(X) for k in (1, 8))
    assert few.noise_variance_ > many.noise_variance_ > 0


@piece(ATTRIBUTES, "`get_covariance`: closer to the sample covariance than the variances alone")
def covariance(estimator, X, y, tmp_path):
    of_rows = np.cov(X.T)
    modelled = estimator.set_params(n_components=6).fit(X).get_covariance()
    alone = np.linalg.norm(np.diag(np.diag(of_rows)) - of_rows)
    assert np.linalg.norm(modelled - of_rows) < alone


@piece(ATTRIBUTES, "`get_precision`: Mahalanobis distances that find outlying rows")
def mahalanobis(estimator, X, y, tmp_path):
    estimator.fit(X)
    rows = np.vstack([X, X[:1] + 10]) - estimator.mean_
    distances = np.einsum("ij,jk,ik->i", rows, estimator.get_precision(), rows)
    assert distances.argmax() == len(X)


ROWS = "Codes and rows"


@piece(ROWS, "`fit_transform` is `fit` and `transform`; y is ignored")
def fit_and_transform(estimator, X, y, tmp_path):
    codes = clone(estimator).fit_transform(X, y)
    np.testing.assert_allclose(codes, estimator.fit(X).transform(X), atol=1e-8)


@piece(ROWS, "codes are centred")
def centred(estimator, X, y, tmp_path):
    codes = estimator.fit_transform(X + 5)
    assert (np.abs(codes.mean(axis=0)) < 1e-5 * codes.std(axis=0)).all()


@piece(ROWS, "the code of a row does not depend on the other rows, nor on the call")
def row_by_row(estimator, X, y, tmp_path):
    codes = estimator.fit(X).transform(X)
    assert np.array_equal(estimator.transform(X), codes)
    np.testing.assert_allclose(
        np.vstack([estimator.transform(X[[i]]) for i in range(5)]), codes[:5]
    )


@piece(ROWS, "`inverse_transform` returns rows in input units")
def rows_come_back(estimator, X, y, tmp_path):
    rows = X * 50 - 20
    estimator.set_params(n_components=8).fit(rows)
    reconstructed = estimator.inverse_transform(estimator.transform(rows))
    assert np.square(reconstructed - rows).mean() < 0.2 * rows.var()


@piece(ROWS, "float32 in, float32 out")
def narrow_rows(estimator, X, y, tmp_path):
    codes = estimator.fit_transform(X.astype(np.float32))
    assert codes.dtype == estimator.inverse_transform(codes).dtype == np.float32


@piece(ROWS, "lists, integers, read-only and Fortran-ordered arrays; the caller's rows unchanged")
def any_array(estimator, X, y, tmp_path):
    rows = np.asfortranarray((X * 10).round().astype(int))
    rows.flags.writeable = False
    codes = estimator.fit_transform(rows)
    np.testing.assert_allclose(estimator.transform(rows.tolist()), codes, atol=1e-6)


@piece(ROWS, "constant columns, and fewer rows than columns")
def odd_tables(estimator, X, y, tmp_path):
    rows = np.hstack([X, np.full((178, 2), 4.0)])[:9]
    codes = estimator.fit_transform(rows)
    np.testing.assert_allclose(estimator.inverse_transform(codes)[:, 13:], 4, rtol=1e-6)


@piece(ROWS, "any number of rows: 2, 33, 65")
def any_number_of_rows(estimator, X, y, tmp_path):
    for n_rows in (2, 33, 65):
        assert np.isfinite(estimator.fit_transform(X[:n_rows])).all()


@piece(ROWS, "NaN and infinity are an error with a clear message")
def missing_values(estimator, X, y, tmp_path):
    for value, said in ((np.nan, "NaN"), (np.inf, "infinity")):
        rows = X.copy()
        rows[3, 3] = value
        with pytest.raises(ValueError, match=said):
            estimator.fit(rows)


@piece(ROWS, "`reconstruct`, and the squared error of each row or entry", pca_raises=AttributeError)
def errors(estimator, X, y, tmp_path):
    by_entry = np.square(X - estimator.fit(X).reconstruct(X))
    np.testing.assert_allclose(estimator.reconstruction_error(X), by_entry.sum(axis=1), rtol=1e-6)
    per_feature = estimator.reconstruction_error(X, per_feature=True)
    np.testing.assert_allclose(per_feature, by_entry, atol=1e-9)


SCORES = "Scores, likelihoods, samples"


@piece(SCORES, "`reconstruction_score`: explained variance ratio, as a scorer")
def share_of_variance(estimator, X, y, tmp_path):
    scores = cross_val_score(estimator, X[::-1], cv=3, scoring=reconstruction_score)
    assert (scores < 1).all()
    assert 0.4 < reconstruction_score(estimator.fit(X), X) < 0.7


@piece(SCORES, "`log_likelihood_score`: nats in input units, after any scaler")
def nats_in_raw_units(estimator, X, y, tmp_path):
    model = make_pipeline(StandardScaler(), estimator)
    in_one, in_other = (log_likelihood_score(model.fit(X * c), X * c) for c in (1, 1000))
    assert in_other == pytest.approx(in_one - 13 * np.log(1000), abs=1e-3)


@piece(SCORES, "`score_samples`: outlying rows are the least likely")
def outlying_rows(estimator, X, y, tmp_path):
    rows = np.vstack([X, X[:1] + 10])
    assert estimator.fit(X).score_samples(rows).argmin() == len(X)


@piece(SCORES, "`score_samples` at the end of a Pipeline")
def likelihoods_of_a_pipeline(estimator, X, y, tmp_path):
    model = make_pipeline(StandardScaler(), estimator).fit(X)
    assert model.score_samples(X).shape == (178,)


@piece(SCORES, "`sample`: new rows, with `random_state`", pca_raises=AttributeError)
def new_rows(estimator, X, y, tmp_path):
    drawn = estimator.fit(X).sample(2000, random_state=0)
    np.testing.assert_allclose(drawn.std(axis=0), X.std(axis=0), rtol=0.5)
    assert np.array_equal(drawn, estimator.sample(2000, random_state=0))


@piece(SCORES, "`interpolate` between rows", pca_raises=AttributeError)
def paths(estimator, X, y, tmp_path):
    assert estimator.fit(X).interpolate(X[:3], X[3:6], n_steps=4).shape == (3, 4, 13)


STREAMS = "`partial_fit`, memory maps, sparse matrices"


def long_table(X, n_rows=700):
    """Enough rows for `partial_fit` to start training, in random order."""
    return X[np.random.default_rng(0).integers(0, len(X), n_rows)]


def thin(X):
    """Rows without negative entries, as a sparse array."""
    return sparse.csr_array(np.maximum(X, 0))


def streamed(estimator, rows, n_chunks=7, n_passes=1):
    for _ in range(n_passes):
        for chunk in np.array_split(np.arange(rows.shape[0]), n_chunks):
            estimator.partial_fit(rows[chunk])
    return estimator


@piece(STREAMS, "`partial_fit`, chunk by chunk, several passes", reference=IncrementalPCA)
def chunk_by_chunk(estimator, X, y, tmp_path):
    rows = long_table(X)
    streamed(estimator, rows, n_passes=2)
    assert estimator.n_samples_seen_ == 1400
    np.testing.assert_allclose(estimator.mean_, rows.mean(axis=0), atol=1e-9)
    assert reconstruction_score(estimator, rows) > 0.5


@piece(STREAMS, "the model can be used after each chunk", reference=IncrementalPCA)
def used_on_the_way(estimator, X, y, tmp_path):
    for chunk in np.array_split(long_table(X), 8):
        codes = estimator.partial_fit(chunk).transform(X)
        assert estimator.inverse_transform(codes).shape == X.shape
        assert np.isfinite(estimator.explained_variance_ratio_).all()


@piece(STREAMS, "`partial_fit` continues after pickling", reference=IncrementalPCA)
def pickled_in_the_middle(estimator, X, y, tmp_path):
    rows = long_table(X)
    loaded = pickle.loads(pickle.dumps(streamed(clone(estimator), rows[:600], 6)))
    loaded = streamed(loaded, rows[600:], 1)
    whole = streamed(clone(estimator), rows)
    assert loaded.n_samples_seen_ == whole.n_samples_seen_ == 700
    assert np.array_equal(loaded.transform(X), whole.transform(X))


@piece(STREAMS, "`partial_fit` continues from `fit`", reference=IncrementalPCA)
def a_fit_goes_on(estimator, X, y, tmp_path):
    estimator.fit(X).partial_fit(X[:80] + 1)
    assert estimator.n_samples_seen_ == 258
    np.testing.assert_allclose(estimator.mean_, np.vstack([X, X[:80] + 1]).mean(axis=0), atol=1e-9)


@piece(
    STREAMS,
    "`partial_fit` of fewer rows than components, also in the first call",
    reference=IncrementalPCA,
    pca_raises=ValueError,
)
def row_after_row(estimator, X, y, tmp_path):
    for row in X[:20]:
        estimator.partial_fit(row[None])
    assert estimator.transform(X).shape == (178, 2)


@piece(STREAMS, "`partial_fit` of sparse chunks", reference=IncrementalPCA, pca_raises=TypeError)
def sparse_chunks(estimator, X, y, tmp_path):
    rows = long_table(X)
    assert streamed(estimator, thin(rows)).transform(thin(X)).shape == (178, 2)
    np.testing.assert_allclose(estimator.mean_, thin(rows).mean(axis=0), atol=1e-9)


@piece(
    STREAMS, "`partial_fit` with `sample_weight`", reference=IncrementalPCA, pca_raises=TypeError
)
def weighted_chunks(estimator, X, y, tmp_path):
    weights = np.arange(178) % 3
    for chunk in np.array_split(np.arange(178), 2):
        estimator.partial_fit(X[chunk], sample_weight=weights[chunk])
    assert estimator.n_samples_seen_ == weights.sum()
    np.testing.assert_allclose(estimator.mean_, np.average(X, axis=0, weights=weights), atol=1e-9)


@piece(STREAMS, '`np.load(mmap_mode="r")`: the same result as with the array')
def memory_map(estimator, X, y, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    estimator.set_params(random_state=0)
    codes = clone(estimator).fit(X).transform(X)
    np.testing.assert_allclose(estimator.fit(rows).transform(rows), codes, atol=1e-9)


@piece(STREAMS, "CSR and CSC, matrices and arrays: the same result as with dense rows")
def sparse_rows(estimator, X, y, tmp_path):
    estimator.set_params(random_state=0)
    rows = thin(X)
    codes = clone(estimator).fit(rows.toarray()).transform(rows.toarray())
    for kind in (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.csc_array):
        np.testing.assert_allclose(
            estimator.fit(kind(rows)).transform(kind(rows)), codes, atol=1e-5
        )


@piece(STREAMS, "word counts from `CountVectorizer` in a Pipeline, never made dense")
def words(estimator, X, y, tmp_path):
    texts = [
        f"{label} with {'much ' * int(row[0] > 0)}alcohol" for label, row in zip(y, X, strict=True)
    ]
    model = make_pipeline(CountVectorizer(), MaxAbsScaler(), estimator, KNeighborsClassifier())
    assert model.fit(texts, y).score(texts, y) > 0.9


@piece(STREAMS, "`reconstruction_score` of sparse rows, as a scorer")
def sparse_scores(estimator, X, y, tmp_path):
    rows = thin(X[::-1])
    scores = cross_val_score(estimator, rows, cv=3, scoring=reconstruction_score)
    assert (scores < 1).all()
    estimator.fit(rows)
    dense, given = (reconstruction_score(estimator, r) for r in (rows.toarray(), rows))
    assert dense == pytest.approx(given)


@piece(STREAMS, "`score` and `score_samples` of sparse rows", pca_raises=TypeError)
def likelihoods_of_sparse_rows(estimator, X, y, tmp_path):
    rows = thin(X)
    estimator.fit(rows)
    expected = estimator.score_samples(rows.toarray())
    np.testing.assert_allclose(estimator.score_samples(rows), expected, atol=1e-6)
    assert estimator.score(rows) == pytest.approx(estimator.score(rows.toarray()))


WEIGHTS = "Sample weights and validation rows"
COUNTS = np.arange(178) % 4  # rows of weight zero among them


@piece(
    WEIGHTS,
    "`fit` with `sample_weight`: weight 0 removes a row, weight 2 counts it twice",
    pca_raises=TypeError,
)
def weighted_fit(estimator, X, y, tmp_path):
    few, counts = X[:16], COUNTS[:16]  # so few that no rounding is left between the two
    estimator.set_params(random_state=0)
    codes = clone(estimator).fit(np.repeat(few, counts, axis=0)).transform(X)
    assert estimator.fit(few, sample_weight=counts).n_samples_ == counts.sum()
    assert np.array_equal(estimator.transform(X), codes)


@piece(WEIGHTS, "`reconstruction_score` and `log_likelihood_score` with `sample_weight`")
def weighted_scores(estimator, X, y, tmp_path):
    estimator.fit(X)
    for score in (reconstruction_score, log_likelihood_score):
        weighted = score(estimator, X, sample_weight=COUNTS)
        assert weighted == pytest.approx(score(estimator, np.repeat(X, COUNTS, axis=0)))


@piece(WEIGHTS, "weights routed through a Pipeline", pca_raises=AttributeError)
def weights_through_a_pipeline(estimator, X, y, tmp_path):
    with config_context(enable_metadata_routing=True):
        model = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=True),
            estimator.set_fit_request(sample_weight=True),
        ).fit(X, sample_weight=COUNTS)
    assert model[-1].n_samples_ == COUNTS.sum()


@piece(
    WEIGHTS, "weights routed through `GridSearchCV` to `fit` and `score`", pca_raises=AttributeError
)
def weights_through_a_search(estimator, X, y, tmp_path):
    with config_context(enable_metadata_routing=True):
        estimator.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(estimator, {"n_components": [1, 3]}, cv=2, error_score="raise")
        search.fit(X, sample_weight=COUNTS)
    assert search.best_estimator_.n_samples_ == COUNTS.sum()


@piece(WEIGHTS, "`X_val` in `fit`: your own validation rows", pca_raises=TypeError)
def own_validation_rows(estimator, X, y, tmp_path):
    estimator.fit(X[::2], X_val=X[1::2])
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_


@piece(WEIGHTS, "`X_val` through `Pipeline(transform_input=...)`", pca_raises=AttributeError)
def validation_rows_through_a_pipeline(estimator, X, y, tmp_path):
    with config_context(enable_metadata_routing=True):
        steps = [("scale", StandardScaler()), ("reduce", estimator.set_fit_request(X_val=True))]
        model = Pipeline(steps, transform_input=["X_val"]).fit(X[::2], X_val=X[1::2])
    assert len(model[-1].validation_loss_curve_) == model[-1].n_iter_


KEPT = "Saving, copying, parallel work"


@piece(KEPT, "`pickle`, `joblib.dump`, `copy.deepcopy`")
def copies(estimator, X, y, tmp_path):
    codes = estimator.fit_transform(X)
    joblib.dump(estimator, tmp_path / "model.joblib")
    for same in (
        pickle.loads(pickle.dumps(estimator)),
        joblib.load(tmp_path / "model.joblib"),
        copy.deepcopy(estimator),
    ):
        np.testing.assert_allclose(same.transform(X), codes, atol=1e-12)


@piece(KEPT, "`skops`: files that run no code")
def secure_files(estimator, X, y, tmp_path):
    skops_io = pytest.importorskip("skops.io")
    codes = estimator.fit_transform(X)
    skops_io.dump(estimator, tmp_path / "model.skops")
    types = skops_io.get_untrusted_types(file=tmp_path / "model.skops")
    assert all(name.startswith("skae.") for name in types)
    loaded = skops_io.load(tmp_path / "model.skops", trusted=types)
    np.testing.assert_allclose(loaded.transform(X), codes, atol=1e-12)


@piece(KEPT, "a file records the version that wrote it")
def version_of_a_file(estimator, X, y, tmp_path):
    joblib.dump(estimator.fit(X), tmp_path / "model.joblib")
    state = joblib.load(tmp_path / "model.joblib").__getstate__()
    library = {"sklearn": sklearn, "skae": skae}[type(estimator).__module__.split(".")[0]]
    assert state[f"_{library.__name__}_version"] == library.__version__


@piece(
    KEPT, "`skae.export.to_onnx`: the complete transformation for onnxruntime", pca_raises=TypeError
)
def exported(estimator, X, y, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    codes = estimator.fit_transform(X)
    model = to_onnx(estimator).SerializeToString()
    (exported,) = onnxruntime.InferenceSession(model).run(None, {"X": X.astype(np.float32)})
    np.testing.assert_allclose(exported, codes, atol=1e-4)


@piece(KEPT, "a pickle holds no training rows")
def small_pickle(estimator, X, y, tmp_path):
    blob = pickle.dumps(estimator.fit(X))
    assert not any(row.tobytes() in blob for row in X)


@piece(KEPT, "`check_is_fitted` before and after `fit`")
def fitted_or_not(estimator, X, y, tmp_path):
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
    check_is_fitted(estimator.fit(X))


@piece(KEPT, "`fit` on other columns starts from scratch")
def fitted_anew(estimator, X, y, tmp_path):
    assert estimator.fit(framed(X)).fit(X[:, :5]).components_.shape == (2, 5)
    assert not hasattr(estimator, "feature_names_in_")


@piece(KEPT, "worker processes give bit-identical results")
def processes(estimator, X, y, tmp_path):
    estimator.set_params(random_state=0)
    there = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(clone(estimator).fit_transform)(X) for _ in range(2)
    )
    assert all(np.array_equal(codes, estimator.fit_transform(X)) for codes in there)


@piece(KEPT, 'a search in threads, `parallel_backend("threading")`')
def search_in_threads(estimator, X, y, tmp_path):
    scores = []
    for n_jobs in (1, 2):
        with joblib.parallel_config(backend="threading"):
            model = classifier(clone(estimator).set_params(random_state=0))
            scores.append(cross_val_score(model, X, y, cv=3, n_jobs=n_jobs, error_score="raise"))
    assert np.array_equal(*scores)


@piece(KEPT, "several threads call `transform` of one estimator at once")
def shared_by_threads(estimator, X, y, tmp_path):
    estimator.fit(X)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(estimator.transform, [X] * 8))
    assert all(np.array_equal(codes, estimator.transform(X)) for codes in results)
