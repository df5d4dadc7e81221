"""Frames as people have them: `compare` and the command line report, or name column and remedy."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine

import skae
from skae import AutoencoderTransformer
from skae.__main__ import main
from skae._model_selection.column_types import table_of
from skae._model_selection.written_values import dates_of, numbers_of

N = 45
ROWS = np.arange(N)
GERMAN = {"sep": ";", "decimal": ",", "encoding": "cp1252"}


def wines():
    """45 wines with numbers and their cultivar as text."""
    frame = load_wine(as_frame=True).frame.groupby("target").head(15).reset_index(drop=True)
    cultivars = frame["target"].map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    return frame[["alcohol", "ash", "flavanoids", "proline"]].assign(cultivar=cultivars)


def spreadsheet():
    """A German export: prices and dates as text, names with umlauts, numbers of customers."""
    return wines().assign(
        Preis=[f"{1000.5 + 37 * i:,.2f} €".translate({44: ".", 46: ","}) for i in ROWS],
        Straße=np.take(["Süd", "Nord", None], ROWS % 3),
        Datum=pd.date_range("2023-01-28", periods=N).strftime("%d.%m.%Y"),
        Kunde=[f"K{i:04d}" for i in ROWS],
    )


def shop():
    """Prices in dollars, shares, sizes with marks of gaps, and American dates."""
    return wines().assign(
        price=[f"${1234.5 * (1 + i % 9):,.2f}" for i in ROWS],
        share=[f"{i % 7}.5 %" for i in ROWS],
        size=np.where(ROWS % 8 == 0, "n/a", (ROWS % 11).astype(str)),
        sold=pd.date_range("2023-01-28", periods=N).strftime("%m/%d/%Y"),
    )


def survey():
    """Answers as text, booleans with gaps, ages with a mark, and what was typed in by hand."""
    typed = pd.Series(np.take([3, "4", "?", 5.5, None], ROWS % 5), dtype=object)
    return pd.DataFrame(
        {
            "smoker": np.take(["yes", "no", ""], ROWS % 3),
            "member": pd.array(np.where(ROWS % 6 == 0, None, ROWS % 2 == 0), dtype="boolean"),
            "age": np.where(ROWS % 9 == 4, "-", (20 + ROWS * 7 % 50).astype(str)),
            "typed": typed,
            "other": np.take(np.array([1, "a", True, None], dtype=object), ROWS % 4),
            "comment": [f"comment {i}" for i in ROWS],
            "answer": pd.array(np.take([1, 2, 3, None], ROWS % 4), dtype="Int64"),
        }
    )


def with_gaps_everywhere():
    frame = load_iris(as_frame=True).frame[::3].iloc[:N].reset_index(drop=True)
    frame["target"] = frame["target"].map({0: "setosa", 1: "versicolor", 2: "virginica"})
    return frame.mask(np.random.default_rng(0).random(frame.shape) < 0.15)


def useless_columns():
    return wines().assign(empty=np.nan, same="x", one=1, tiny=np.where(ROWS == 3, 1e-300, 2e-300))


def quantities():
    frame = load_diabetes(as_frame=True, scaled=False).frame.iloc[:N]
    return frame.assign(target=frame["target"].where(ROWS % 10 > 0), sex=frame["sex"].astype(int))


def infinite():
    frame = wines()
    return frame.assign(
        ash=frame["ash"].where(ROWS % 10 > 0, np.inf), proline=np.where(ROWS == 1, -np.inf, ROWS)
    )


def wide():
    values = np.random.default_rng(0).normal(size=(30, 120))
    return pd.DataFrame(values).add_prefix("gene").assign(case=np.arange(30) % 2 == 0)


def many_levels():
    return wines().assign(
        city=[f"city {i * i % 41}" for i in ROWS],
        postcode=[f"{i * 71 % 23:05d}" for i in ROWS],
        when=pd.Categorical(np.take(["low", "high"], ROWS % 2), ordered=True),
    )


# Of each frame: how to make it, its target, options of the file, and what its notes or the error
# must say. An error is the same for the function and the command line but for parameters' names.
REPORTED = {
    "German spreadsheet": (spreadsheet, "cultivar", GERMAN, "text in every row: Kunde"),
    "shop": (shop, "cultivar", {}, "standardised: alcohol, ash, flavanoids, proline, price, share"),
    "survey": (survey, "answer", {}, "rows dropped: 11 of 45, because 'answer' is missing"),
    "gaps everywhere": (with_gaps_everywhere, "target", {}, "replaced by medians of the training"),
    "useless columns": (useless_columns, "cultivar", {}, "constant: same, one, tiny"),
    "index": (lambda: wines().reset_index(names="Unnamed: 0"), "cultivar", {}, "numbers without"),
    "identifiers": (lambda: wines().assign(id=ROWS + 1), "cultivar", {}, "row number: id"),
    "quantities": (quantities, "target", {}, "5 of 45, because 'target' is missing"),
    "infinite values": (infinite, "cultivar", {}, "ash (5), proline (1)"),
    "wide": (wide, "case", {}, "gene39 and 80 more"),
    "many levels": (many_levels, "cultivar", {}, "(at most 20 each, rare ones as one): city, post"),
    "tiny": (lambda: wines().iloc[[0, 1, 20, 21]], "cultivar", {}, "numbers, standardised"),
    "rare class": (
        lambda: wines().assign(cultivar=np.where(ROWS, wines()["cultivar"], "Nebbiolo")),
        "cultivar",
        {},
        "classes with fewer rows than folds: Nebbiolo (1)",
    ),
    "text only": (lambda: survey()[["smoker", "other", "answer"]], "answer", {}, "smoker, other"),
}
REFUSED = {
    "identifiers alone": (
        lambda: spreadsheet()[["Kunde", "cultivar"]],
        "cultivar",
        GERMAN,
        "Dropped: Kunde (a different text in every row).",
    ),
    "one column": (
        lambda: useless_columns()[["ash", "same", "empty", "cultivar"]],
        "cultivar",
        {},
        "no column but 'ash' is left to compress: two are needed that hold numbers, dates, or "
        "texts that repeat. Dropped: same (constant); empty (no values).",
    ),
    "one class": (lambda: wines().assign(y="a"), "y", {}, "has one value only, 'a', so there is"),
    "names as target": (spreadsheet, "Kunde", GERMAN, "has 45 classes, none with the 2 rows that"),
    "empty target": (useless_columns, "empty", {}, "'empty' has no value: name another one"),
    "huge": (
        lambda: wines().assign(ash=1e200 * wines()["ash"]),
        "cultivar",
        {},
        "column 'ash' holds 2.87e+200, whose square is infinite: divide the column by a constant",
    ),
    "huge target": (
        lambda: wines().assign(y=1e200 * wines()["ash"]),
        "y",
        {},
        "column 'y' holds 2.87e+200, whose square is infinite",
    ),
    "three rows": (
        lambda: wines().iloc[[0, 1, 2]],
        None,
        {},
        "the table has 3 rows to compare, but 4 are needed",
    ),
}


def compared(frame, target):
    X, y = (frame, None) if target is None else (frame.drop(columns=target), frame[target])
    return skae.compare(X, y, 1, [AutoencoderTransformer(max_epochs=2)], cv=2)


def run(frame, target, options, folder):
    frame.to_csv(folder / "table.csv", index=False, **options)
    command = ["compare", folder / "table.csv", "--output", folder / "report.html", "--quiet"]
    command += ["--target", target] if target else []
    command += ["--encoding", options["encoding"]] if options else ["--no-baselines"]  # quicker
    command += ["--kind", "autoencoder", "--n-components", "1", "--cv", "2", "--n-jobs", "1"]
    return main(list(map(str, command)))


@pytest.mark.parametrize("name", REPORTED)
def test_the_function_reports(name, tmp_path):
    make, target, _, says = REPORTED[name]
    found = compared(make(), target)
    assert found.verdict
    assert says in "\n".join(map(": ".join, found.preparation))
    assert found.settings["target"] == target


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTED)
def test_the_command_line_reports(name, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    make, target, options, _ = REPORTED[name]
    assert run(make(), target, options, tmp_path) == 0
    shown = capsys.readouterr().out
    assert "AutoencoderTransformer" in shown
    assert ("raw columns" in shown) is ("encoding" in options)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<dt>target</dt><dd>{target}</dd>" in html


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_column_and_remedy(name, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    make, target, options, says = REFUSED[name]
    with pytest.raises(ValueError, match=r"\w") as refusal:
        compared(make(), target)
    assert says in str(refusal.value)
    assert run(make(), target, options, tmp_path) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.count("\n") == 1
    assert "y=" not in shown.err
    assert not (tmp_path / "report.html").exists()


def test_objects_of_other_libraries_are_taken():
    frame = pl.DataFrame(
        {
            "a": np.sin(ROWS),
            "b": np.cos(ROWS),
            "pair": [[i, 1] for i in ROWS],
            "struct": [{"x": i % 2} for i in ROWS],
            "fixed": pl.Series([[1, i] for i in ROWS], dtype=pl.Array(pl.Int64, 2)),
            "old": [date(1700 + 10 * i, 1, 1) for i in ROWS],
        }
    )
    table = table_of(frame, pl.Series("y", ROWS % 2))
    assert table.numeric == ["a", "b", "old"]
    assert table.target == "y"
    assert np.ptp(table.X["old"]) == pytest.approx(365.2425 * 10 * (N - 1), rel=1e-4)
    assert dict(table.notes)["dropped: neither numbers nor text"] == "pair, struct, fixed"
    with pytest.raises(ValueError, match="X has no column: pass two or more"):
        table_of(frame.select([]), pl.Series("y", ROWS % 2))


def test_what_few_rows_do_not_have_is_a_dash():
    found = compared(wines().iloc[[0, 1, 20, 21, 40]], "cultivar")
    assert "nan" not in repr(found)
    assert "–" in repr(found)


def test_columns_with_one_name_are_refused_by_name():
    repeated = pd.concat([wines(), wines()[["ash"]]], axis=1)
    with pytest.raises(ValueError, match="several columns named 'ash': rename or drop"):
        skae.compare(repeated.drop(columns="cultivar"), repeated["cultivar"])


# -- numbers and dates in texts ----------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1.5", "2"], [1.5, 2]),
        (["1,5", "2"], [1.5, 2]),
        (["1.234,5 €", "7 €"], [1234.5, 7]),
        (["$1,234.50", "$7"], [1234.5, 7]),
        (["EUR 12", "EUR 3"], [12, 3]),
        (["12 %", "−3.5 %"], [12, -3.5]),
        (["1 234,5", "7"], [1234.5, 7]),
        (["1'234.5", "7"], [1234.5, 7]),
        (["1e3", "-2E-1"], [1000, -0.2]),
        (["3", "?", "n/a"], [3, np.nan, np.nan]),
        (["0,123", "5"], [0.123, 5]),
        (["1,234", "1,234.5"], [1234, 1234.5]),
    ],
)
def test_numbers_are_read(texts, numbers):
    found = numbers_of(pd.Series([*texts, None], index=range(5, 6 + len(texts))))
    np.testing.assert_array_equal(found, [*numbers, np.nan])
    assert found.index[0] == 5


@pytest.mark.parametrize(
    "texts",
    [
        ["1", "2"],  # may be labels
        ["01", "?"],
        ["1,234", "5,678"],  # may be either number
        ["1.5", "2,5"],
        ["1.5", "many"],
        ["+49 123", "1.5"],
        ["10 20", "1.5"],
        ["?", "-"],
        ["1.2.3", "1.5"],
        ["", ""],
    ],
)
def test_other_texts_are_no_numbers(texts):
    assert numbers_of(pd.Series(texts)) is None


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["31.12.2023", "1.1.2024"], ["2023-12-31", "2024-01-01"]),
        (["12/31/2023", "01/02/2024"], ["2023-12-31", "2024-01-02"]),
        (["31/12/2023", "01/02/2024"], ["2023-12-31", "2024-02-01"]),
        (["2023/12/31", "2024/01/02"], ["2023-12-31", "2024-01-02"]),
        (["31.12.2023 18:30", "01.01.2024 06:00"], ["2023-12-31 18:30", "2024-01-01 06:00"]),
        (["02/02/2024", "03/03/2024"], ["2024-02-02", "2024-03-03"]),
    ],
)
def test_dates_are_read(texts, days):
    found = dates_of(pd.Series([*texts, None]))
    assert found[:-1].tolist() == pd.to_datetime(days, utc=True).tolist()
    assert found.isna().tolist() == [False] * len(texts) + [True]


@pytest.mark.parametrize("texts", [["03/04/2024", "05/06/2024"], ["31.12.2023", "x"], ["30.02.24"]])
def test_other_texts_are_no_dates(texts):
    assert dates_of(pd.Series(texts)) is None


def test_what_can_be_read_in_two_ways_is_pointed_out():
    frame = wines().assign(
        when=[f"{i % 12 + 1:02d}/{i % 11 + 1:02d}/2024" for i in ROWS],
        count=[f"{i % 4 + 1},234" for i in ROWS],
    )
    table = table_of(frame)
    assert table.categorical[1:] == ["count"]
    note = dict(table.notes)["may be numbers or dates"]
    assert note == "when, count; write them as 1234.5 or 2024-05-31 if they are"


def test_numbers_in_objects_and_categories():
    frame = pd.DataFrame(
        {
            "decimal": np.array([np.float64(i) for i in ROWS], dtype=object),
            "typed": survey()["typed"],
            "label": pd.Categorical(ROWS % 3),
            "digits": (ROWS % 3).astype(str),
        }
    )
    table = table_of(frame)
    assert table.categorical == ["label", "digits"]
    assert table.numeric == ["decimal", "typed"]
    assert table.X["typed"][:5].tolist()[:2] == [3.0, 4.0]
    assert table.X["typed"].isna().sum() == 18
