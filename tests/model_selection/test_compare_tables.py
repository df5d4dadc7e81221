"""Comparisons and searches of frames as people have them: text, dates, booleans and gaps."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skae
from skae import AutoencoderTransformer, LatentDimensionSearch, TableAutoencoder
from skae.__main__ import main
from skae._model_selection.column_types import table_of
from skae._model_selection.compare import default_estimators
from skae._model_selection.table_preprocessor import MISSING
from skae.metrics import reconstruction_score

QUICK = {"max_epochs": 2, "n_networks": 1, "column_layer_sizes": 8, "random_state": 0}
LINEAR = TableAutoencoder(hidden_layer_sizes=(), **QUICK)


def wines():
    """60 wines: numbers, a category, an ordered one, a boolean, a date; and their cultivars."""
    frame = load_wine(as_frame=True).frame.groupby("target").head(20).reset_index(drop=True)
    table = frame[["alcohol", "ash", "magnesium", "flavanoids", "proline"]].copy()
    table["hue"] = pd.cut(frame["hue"], 3, labels=["low", "middle", "high"]).astype(object)
    table["colour"] = pd.cut(frame["color_intensity"], [0, 3, 5, 99], labels=["a", "b", "c"])
    table["strong"] = frame["alcohol"] > 13
    table["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["proline"].round(), "D")
    return table, frame["target"].map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})


def with_gaps(table, share=0.1):
    random = np.random.default_rng(0)
    return table.mask(random.random(table.shape) < share)


@pytest.fixture(scope="module")
def complete():
    return wines()


@pytest.fixture(scope="module")
def gappy():
    table, y = wines()
    table = (
        with_gaps(table).astype({"strong": "boolean"}).assign(label=[f"w{i}" for i in range(60)])
    )
    return table, y.astype(object).where(np.arange(60) % 10 > 0, None)


@pytest.fixture(scope="module")
def comparison(gappy):
    return skae.compare(*gappy, 2, [PCA(), TableAutoencoder(**QUICK)], cv=2)


# -- compare -----------------------------------------------------------------------


def test_a_frame_with_text_gaps_and_dates_is_compared(comparison):
    names = ["PCA", "TableAutoencoder", "TableAutoencoder with target", "LDA"]
    assert comparison.summary["estimator"].tolist()[:4] == names
    shares = comparison.summary.set_index("estimator")["explained_variance"]
    assert shares[names[:3]].between(0.2, 1).all()
    assert comparison.reference == "PCA"


def test_rows_without_target_are_dropped_and_told(comparison, tmp_path):
    assert comparison.settings["rows"] == 54
    assert dict(comparison.preparation)["rows dropped"] == "6 of 60, because 'target' is missing"
    told = "rows dropped: 6 of 60, because 'target' is missing"
    assert told in repr(comparison)
    assert "dropped: a different text in every row: label" in repr(comparison)
    assert "because &#x27;target&#x27; is missing" in comparison._repr_html_()
    pytest.importorskip("matplotlib")
    comparison.to_html(tmp_path / "report.html")
    assert "Preparation of the table" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert pickle.loads(pickle.dumps(comparison)).preparation == comparison.preparation


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_libraries_change_nothing(library, comparison, gappy):
    table, y = gappy
    if library == "polars":
        table, y = pl.from_pandas(table), pl.Series("target", y.tolist())
    else:
        table, y = pa.Table.from_pandas(table), pa.array(y.tolist())
    found = skae.compare(table, y, 2, [PCA(), TableAutoencoder(**QUICK)], cv=2)
    columns = ["explained_variance", "downstream_score", "trustworthiness"]
    pd.testing.assert_frame_equal(found.results[columns], comparison.results[columns])


def test_the_caller_keeps_the_frame(gappy):
    table, y = gappy
    before = table.copy(deep=True), y.copy(deep=True)
    skae.compare(table, y, 2, [LINEAR], cv=2, baselines=False)
    pd.testing.assert_frame_equal(table, before[0])
    pd.testing.assert_series_equal(y, before[1])


def test_pca_of_a_prepared_frame_is_famd(complete):
    """So a linear TableAutoencoder, measured on the common scale, explains what PCA explains."""
    found = skae.compare(complete[0], None, [1, 3], [PCA(), LINEAR], cv=2)
    shares = found.results.pivot(
        index=["n_components", "fold"], columns="estimator", values="explained_variance"
    )
    np.testing.assert_allclose(shares["TableAutoencoder"], shares["PCA"], rtol=1e-9)


def test_its_own_score_is_on_that_scale(complete):
    table, _ = complete
    groups, prepared = np.arange(60) % 20, table_of(table).X
    folds, model = GroupKFold(2), TableAutoencoder(2, **QUICK)
    found = skae.compare(table, None, 2, [PCA(), model], cv=folds, groups=groups)
    own = [
        model.fit(prepared.iloc[train], groups=groups[train]).score(prepared.iloc[test])
        for train, test in folds.split(table, groups=groups)
    ]
    theirs = found.results.query("estimator == 'TableAutoencoder'")["explained_variance"]
    np.testing.assert_allclose(theirs, own, rtol=1e-9)


def test_gaps_are_not_counted(complete):
    table, _ = complete
    prepared = table_of(with_gaps(table))
    fitted = prepared.preprocessor().fit(prepared.X)
    observed = fitted.observed(prepared.X)
    rows = fitted.transform(prepared.X)
    assert observed.shape == rows.shape
    numbers = len(prepared.numeric)
    np.testing.assert_array_equal(observed[:, :numbers], prepared.X[prepared.numeric].notna())
    is_gap = (prepared.X[prepared.categorical] == MISSING).to_numpy()
    for j, name in enumerate(prepared.categorical):
        values = np.unique(prepared.X[name])
        start = numbers + sum(prepared.X[n].nunique() for n in prepared.categorical[:j])
        own = observed[:, start : start + len(values)]
        assert not own[:, values == MISSING].any()
        assert (own[:, values != MISSING] == ~is_gap[:, [j]]).all()


def test_indicators_have_the_variance_of_famd(complete):
    prepared = table_of(complete[0])
    rows = prepared.preprocessor().fit_transform(prepared.X)
    n_categories = sum(prepared.X[name].nunique() for name in prepared.categorical)
    expected = len(prepared.numeric) + n_categories - len(prepared.categorical)
    assert rows.var(axis=0).sum() == pytest.approx(expected)


def test_numeric_frames_are_as_arrays_and_may_lack_targets(complete):
    X, y = load_wine(return_X_y=True)
    frame = pd.DataFrame(X).assign(flag=y > 1)  # numbers as names
    assert table_of(frame, y).numeric == [*map(str, range(13)), "flag"]
    assert table_of(frame.to_numpy(dtype=float), y) is None
    y = pd.Series(y, name="class").where(y > 0)
    found = skae.compare(frame, y, 2, [AutoencoderTransformer(max_epochs=1)], cv=2)
    assert found.settings["rows"] == 119
    assert "because 'class' is missing" in repr(found)
    X, estimators = frame[y.notna()].to_numpy(float), [AutoencoderTransformer(max_epochs=1)]
    plain = skae.compare(X, y.dropna(), 2, estimators, cv=2)
    np.testing.assert_allclose(
        found.results["explained_variance"], plain.results["explained_variance"], rtol=1e-6
    )


def test_targets_of_every_kind(gappy):
    table, y = gappy
    quantity = load_wine(as_frame=True).frame["alcohol"].iloc[:60].where(np.arange(60) > 4)
    one = skae.compare(table, quantity, 2, [LINEAR], cv=2, baselines=False)
    assert one.labels["downstream_score"] == "R²"
    several = np.column_stack([quantity, np.arange(60.0)])
    found = skae.compare(table, several, 2, [LINEAR], cv=2)
    assert found.settings["rows"] == 55
    assert "PLS" in set(found.summary["estimator"])
    assert "because a target is missing" in repr(found)
    groups = [f"g{i % 7}" for i in range(60)]
    grouped = skae.compare(table, y.tolist(), 2, [LINEAR], cv=2, groups=groups, baselines=False)
    assert grouped.labels["downstream_score"] == "accuracy"


def wrong(table, y):
    splits = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    repeated = pd.concat([table, table[["ash"]]], axis=1)
    return {
        "gaps in an array": ((np.full((40, 3), np.nan),), {}, "NaN: pass X as a pandas, polars"),
        "text in an array": ((np.array([["a", "b"]] * 9),), {}, "pass X as a pandas, polars"),
        "no scaling": ((table,), {"preprocessor": None}, "set preprocessor='scale'"),
        "names": ((repeated,), {}, "several columns named 'ash'"),
        "splits": ((table, y), {"cv": splits}, "6 rows without a target are dropped"),
        "nothing left": ((table[["label"]],), {}, "label .a different text in every row"),
        "no target": ((table, [None] * 60), {}, "the target 'y' has no value"),
        "lengths": ((table, y[:50]), {}, "inconsistent numbers of samples"),
    }


@pytest.mark.parametrize("case", wrong(*[pd.DataFrame({"ash": [1], "label": ["a"]})] * 2))
def test_errors_name_the_remedy(case, gappy):
    arguments, params, says = wrong(*gappy)[case]
    with pytest.raises(ValueError, match=says):
        skae.compare(*arguments, **params)


def test_gaps_bring_the_estimator_of_tables(complete):
    table, _ = complete
    names = [type(e).__name__ for e in default_estimators(table_of(with_gaps(table)))]
    assert names == ["AutoencoderTransformer", "VAETransformer", "TableAutoencoder"]
    few = table.astype({"hue": object}).copy()
    few.loc[3, "hue"] = None
    few.loc[4, "ash"] = np.nan
    assert table_of(few).share_of_gaps() == pytest.approx(2 / 540)
    for without in (table_of(table), table_of(few), None):
        assert [type(e).__name__ for e in default_estimators(without)] == names[:2]


def test_the_command_line_compares_the_same(gappy, tmp_path, capsys):
    table, y = gappy
    table.assign(target=y).to_csv(tmp_path / "wine.csv", index=False)
    options = "--target target --n-components 2 --cv 2 --n-jobs 1 --quiet --no-baselines"
    path, names = str(tmp_path / "wine.csv"), ["--kind", "autoencoder"]
    assert main(["compare", path, *options.split(), *names]) == 0
    shown = capsys.readouterr().out
    found = skae.compare(*gappy, 2, [AutoencoderTransformer()], cv=2, baselines=False)
    assert shown.split("\n\n")[0] == found.verdict
    assert "6 of 60, because 'target' is missing" in shown
    table = table[["ash", "colour", "hue"]].head(30)
    table.to_csv(tmp_path / "small.csv", index=False)
    options = "--n-components 1 --cv 2 --n-jobs 1 --quiet --kind table"
    assert main(["compare", str(tmp_path / "small.csv"), *options.split()]) == 0
    assert "TableAutoencoder" in capsys.readouterr().out


# -- search ------------------------------------------------------------------------


@pytest.mark.parametrize("container", [lambda t: t, pl.from_pandas, pa.Table.from_pandas])
def test_a_search_takes_frames_as_they_are(container, gappy):
    table = container(gappy[0].drop(columns="label"))
    search = LatentDimensionSearch(TableAutoencoder(**QUICK), [1, 2], cv=2).fit(table)
    assert search.verdict_.startswith("FAMD suffices") or "better than FAMD" in search.verdict_
    assert search.transform(table).shape == (60, search.n_components_)
    assert search.score(table) == search.best_estimator_.score(table)
    assert reconstruction_score(search.best_estimator_, table) == search.score(table)


def test_its_reference_is_the_linear_estimator(gappy):
    table = gappy[0].drop(columns="label")
    search = LatentDimensionSearch(LINEAR, [1, 2, 4], cv=2, refit=False).fit(table)
    results = search.cv_results_
    np.testing.assert_allclose(results["mean_pca_score"], results["mean_test_score"], rtol=1e-9)
    by_hand = cross_val_score(TableAutoencoder(2, hidden_layer_sizes=(), **QUICK), table, cv=2)
    assert results["mean_pca_score"][1] == pytest.approx(by_hand.mean())
    assert "FAMD suffices" in search.verdict_


def test_a_search_scores_codes_and_takes_pipelines(gappy, complete):
    table, y = gappy[0].drop(columns="label"), complete[1]
    piped = make_pipeline(FunctionTransformer(), TableAutoencoder(**QUICK))
    search = LatentDimensionSearch(piped, [1, 2], cv=2, downstream=LogisticRegression())
    search.fit(table, y)
    assert search.verdict_.startswith("Accuracy: TableAutoencoder")
    assert "FAMD" in search.verdict_


@pytest.mark.parametrize("columns", [["ash", "hue"], ["ash", "alcohol"]])
def test_other_estimators_name_the_one_that_takes_frames(columns, gappy):
    search = LatentDimensionSearch(AutoencoderTransformer(), [1])
    with pytest.raises(ValueError, match=r"use TableAutoencoder\(\)"):
        search.fit(gappy[0][columns])


def test_an_array_in_a_comparison_is_an_array(complete):
    X = load_wine().data[:60]
    found = skae.compare(X, None, 2, [PCA(), LINEAR], cv=2, preprocessor=StandardScaler())
    shares = found.results.pivot(index="fold", columns="estimator", values="explained_variance")
    assert (shares["TableAutoencoder"] > 0).all()
