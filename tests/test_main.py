"""The command line, called in this process, and in two tests as a user calls it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.datasets import load_diabetes, load_wine

import skae
from skae.__main__ import main
from skae._model_selection.column_types import prepare_table
from skae._model_selection.table_file import TableError, read_frame

SMALL = ["--n-components", "2", "--cv", "2", "--n-jobs", "1", "--quiet"]


@pytest.fixture(scope="module")
def wine_frame():
    """60 wines, 20 of each class; classes have names."""
    frame = load_wine(as_frame=True).frame.groupby("target").head(20).reset_index(drop=True)
    return frame.assign(target=frame["target"].map({0: "Barolo", 1: "Grignolino", 2: "Barbera"}))


@pytest.fixture
def wine_file(wine_frame, tmp_path):
    path = tmp_path / "wine.csv"
    wine_frame.to_csv(path, index=False)
    return path


def run(*arguments):
    return main(["compare", *SMALL, *map(str, arguments)])


# -- results -----------------------------------------------------------------------


def test_verdict_and_summary_are_printed_and_a_report_written(wine_file, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    report = tmp_path / "report.html"
    assert run(wine_file, "--target", "target", "--output", report) == 0
    shown = capsys.readouterr()
    assert "PCA" in shown.out.splitlines()[0]
    assert "explained variance" in shown.out
    assert "accuracy" in shown.out
    html = report.read_text(encoding="utf-8")
    text = unescape(re.sub("<[^>]*>", "", html))
    assert shown.out.split("\n\n")[0] in text
    about = "60 rows, 13 columns, 2 folds · target: target · task: classification, 3 classes"
    assert about in text
    assert "python -m skae compare" in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "wine.csv"]


def test_without_output_nothing_is_written(wine_file, tmp_path, capsys):
    assert run(wine_file) == 0
    assert "accuracy" not in capsys.readouterr().out.replace("target", "")
    assert list(tmp_path.iterdir()) == [wine_file]


def test_it_finds_what_the_function_finds(wine_file, wine_frame, capsys):
    assert run(wine_file, "--target", "target") == 0
    X, y = wine_frame.drop(columns="target"), wine_frame["target"]
    expected = skae.compare(X, y, 2, cv=2)
    assert capsys.readouterr().out.split("\n\n")[0] == expected.verdict
    assert "raw columns" in expected.verdict.lower()


def test_baselines_can_be_left_out(wine_file, capsys):
    assert run(wine_file, "--target", "target", "--no-baselines") == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert "raw columns" not in shown.lower()


def test_a_progress_bar_goes_to_the_standard_error(wine_file, capsys):
    with parallel_config(backend="threading"):
        assert main(["compare", str(wine_file), "--n-components", "2", "--cv", "2"]) == 0
    shown = capsys.readouterr()
    assert "6/6" in shown.err
    assert "4/4" not in shown.out


def test_parquet_files_are_read(wine_frame, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    path = tmp_path / "wine.parquet"
    wine_frame.to_parquet(path)
    assert run(path, "--target", "target", "--task", "classification") == 0
    assert "accuracy" in capsys.readouterr().out


def test_numbers_are_regressed_on(tmp_path, capsys):
    path = tmp_path / "diabetes.csv"
    load_diabetes(as_frame=True).frame.head(100).to_csv(path, index=False)
    assert run(path, "--target", "target", "--kind", "vae") == 0
    shown = capsys.readouterr().out
    assert "R²" in shown
    assert "VAETransformer" in shown
    assert run(path, "--target", "target", "--task", "regression") == 0
    assert "R²" in capsys.readouterr().out


def test_as_a_user_calls_it(wine_file):
    command = [sys.executable, "-m", "skae", "compare", wine_file, *SMALL]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "PCA" in found.stdout.splitlines()[0]
    assert found.stderr == ""


def test_a_budget_leaves_out_what_comes_late(wine_file, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    arguments = [wine_file, "--target", "target", "--no-baselines", "--budget", "1e-9"]
    arguments += ["--n-components", "2", "4"]
    assert run(*arguments, "--output", tmp_path / "report.html") == 0
    late = "not fitted, as the budget was spent: AutoencoderTransformer with 4 components, "
    late += "VAETransformer with 2 and 4 components"
    assert late in capsys.readouterr().out
    assert late in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "long"])
def test_a_budget_is_a_positive_number(budget, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "wine.csv", "--budget", budget])
    assert stop.value.code == 2
    assert f"--budget: invalid positive number value: {budget!r}" in capsys.readouterr().err


def test_json_holds_what_the_report_says(wine_file, capsys):
    arguments = [wine_file, "--target", "target", "--kind", "autoencoder", "autoencoder", "--json"]
    assert run(*arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"].startswith("python -m skae compare --n-components 2")
    assert found["verdict"].startswith("PCA suffices") is found["pca_suffices"]
    settings = found["settings"]
    assert settings["target"] == "target"
    assert settings["task"] == "classification, 3 classes (accuracy)"
    assert settings["versions"].startswith(f"skae {skae.__version__}, Python 3")
    assert found["preparation"][0][0] == "numbers, standardised"
    assert {row["estimator"] for row in found["summary"]} >= {"PCA", "raw columns", "LDA"}
    raw = next(row for row in found["results"] if row["estimator"] == "raw columns")
    assert raw["explained_variance"] is None
    assert len(found["differences"]) > 4


def test_an_interrupt_has_a_status_of_its_own(wine_file, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("skae.__main__.compare", interrupt)
    assert run(wine_file) == 130


def test_the_version_is_given(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"skae {skae.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"]])
def test_help_is_given(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "compare" in capsys.readouterr().out


# -- errors ------------------------------------------------------------------------


WRONG = {
    "absent file": (["absent.csv"], "absent.csv does not exist"),
    "directory": (["."], "is a directory"),
    "not a table": (["binary.csv"], "it is not text in UTF-8: pass --encoding cp1252 (western"),
    "wide text": (["utf16.csv"], "it is not text in UTF-8: pass --encoding utf-16"),
    "no encoding": (["wine.csv", "--encoding", "utf-9"], "--encoding utf-9: there is no such"),
    "spreadsheet": (["wine.xlsx"], "wine.xlsx is neither CSV nor Parquet: save the table as CSV"),
    "empty": (["empty.csv"], "empty.csv cannot be read: No columns"),
    "not Parquet": (["binary.parquet"], "binary.parquet cannot be read"),
    "separator": (["semicolons.csv", "--sep", ","], "pass --sep ';'"),
    "two marks": (["wine.csv", "--sep", ", "], "--sep ', ' must be one character"),
    "target": (["wine.csv", "--target", "Target"], "no column 'Target': did you mean target?"),
    "far target": (
        ["wine.csv", "--target", "zzz"],
        "no column 'zzz': its columns are alcohol, malic",
    ),
    "drop": (["wine.csv", "--drop", "alcool"], "did you mean alcohol"),
    "both": (["wine.csv", "--drop", "target", "--target", "target"], "both the target and"),
    "no column": (
        ["constant.csv"],
        "no column is left to compress: two are needed that hold numbers, dates, or texts that "
        "repeat. Dropped: a (constant); b (no values).",
    ),
    "one column": (["gaps.csv", "--drop", "a"], "no column but 'b' is left to compress"),
    "no target value": (["gaps.csv", "--target", "empty"], "'empty' has no value: name another"),
    "one class": (
        ["wine.csv", "--target", "{same}"],
        "the target '{same}' has one value only, 'x', so there is nothing to predict; leave "
        "--target out, or name another column.",
    ),
    "few rows": (
        ["wine.csv", "--cv", "61"],
        "--cv 61 must lie between 2 and the number of rows, 60.",
    ),
    "sizes": (
        ["wine.csv", "--n-components", "98", "99"],
        "--n-components 98 99 must hold integers from 1 to 17: there",
    ),
    "identifiers": (
        ["names.csv", "--target", "y"],
        "the target 'y' has 4 classes, none with the 2 rows that --cv 2 needs; pass fewer folds, "
        "or --task regression",
    ),
    "single row of a class": (
        ["wine.csv", "--target", "odd"],
        "the target 'odd' has one class only, 'b', in the training part of a fold: its classes "
        "have 'b' 59, 'a' 1 rows. Leave out or merge",
    ),
    "huge": (["huge.csv"], "column 'b' holds 1e+200, whose square is infinite: divide"),
    "text regressed": (["wine.csv", "--target", "target", "--task", "regression"], "no numbers"),
    "task alone": (["wine.csv", "--task", "regression"], "needs --target"),
    "no parent": (["wine.csv", "--output", "no/report.html"], "directory no does not exist"),
    "output": (["wine.csv", "--output", "."], "is a directory; name a file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_printed_in_one_line(case, wine_frame, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = np.where(np.arange(60) == 7, "a", "b")
    wine_frame.assign(**{"odd": odd, "{same}": "x"}).to_csv("wine.csv", index=False)
    (tmp_path / "wine.xlsx").touch()
    (tmp_path / "utf16.csv").write_text("a,b\n1,2\n", encoding="utf-16")
    (tmp_path / "huge.csv").write_text("a,b\n1,1e200\n2,2\n3,3\n4,4\n")
    (tmp_path / "empty.csv").touch()
    for name in ("binary.csv", "binary.parquet"):
        (tmp_path / name).write_bytes(bytes(range(128, 256)))
    (tmp_path / "semicolons.csv").write_text("a;b\n1,5;2\n3;4,5\n")
    (tmp_path / "constant.csv").write_text("a,b\n1,\n1,\n1,\n")
    (tmp_path / "gaps.csv").write_text("a,b,empty\n1,2,\n3,4,\n5,7,\n")
    (tmp_path / "names.csv").write_text("a,b,y\n1,2,p\n2,3,q\n3,4,r\n5,9,s\n")
    arguments, says = WRONG[case]
    if "--output" in arguments:
        pytest.importorskip("matplotlib")
    status = run(*arguments)
    shown = capsys.readouterr()
    assert (status, shown.out) == (2, "")
    assert says in shown.err
    assert shown.err.startswith("skae: error: ")
    assert shown.err.count("\n") == 1


def test_wrong_options_end_with_two(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "wine.csv", "--cv", "many"])
    assert stop.value.code == 2
    assert "--cv" in capsys.readouterr().err


# -- columns -----------------------------------------------------------------------


def odd_frame(n_rows=40):
    """One column of each type that a file may have."""
    i = np.arange(n_rows)
    return pd.DataFrame(
        {
            "number": np.sin(i),
            "partly": np.where(i % 7 == 0, np.nan, i**2.0),
            "infinite": np.where(i == 3, np.inf, np.cos(i)),
            "flag": i % 3 == 0,
            "partly missing flag": np.where(i % 9 == 0, None, i % 2 == 0),
            "day": pd.Series(pd.date_range("2020-02-28", periods=n_rows)).dt.strftime("%Y-%m-%d"),
            "colour": np.take(["red", "green", None], i % 3),
            "id": [f"x{j}" for j in i],
            "constant": "same",
            "empty": np.nan,
            "row": i,
            "<script>": i % 5,
        }
    )


def read_back(frame, tmp_path):
    frame.to_csv(tmp_path / "odd.csv", index=False)
    return read_frame(tmp_path / "odd.csv")


def test_every_type_of_column_is_handled(tmp_path):
    table = prepare_table(read_back(odd_frame(), tmp_path))
    assert table.categorical == ["colour"]
    assert table.numeric == [
        "number",
        "partly",
        "infinite",
        "flag",
        "partly missing flag",
        "day",
        "row",
        "<script>",
    ]
    notes = dict(table.notes)
    assert notes["dropped: constant"] == "constant"
    assert notes["dropped: no values"] == "empty"
    assert notes["dropped: a different text in every row"] == "id"
    assert notes["missing numbers"].endswith("partly (6), infinite (1), partly missing flag (5)")
    assert notes["missing categories"].endswith("colour")
    assert notes["looks like a row number"].startswith("row;")


def test_values_of_columns(tmp_path):
    table = prepare_table(read_back(odd_frame(), tmp_path))
    assert np.diff(table.X["day"]).tolist() == [1.0] * 39  # over the 29th of February
    assert set(table.X["flag"]) == {0.0, 1.0}
    assert set(table.X["colour"]) == {"red", "green", "(missing)"}
    rows = table.preprocessor().fit_transform(table.X)
    assert rows.shape == (40, 8 + 3)
    np.testing.assert_allclose(rows[:, :8].mean(axis=0), 0, atol=1e-9)
    assert np.isfinite(rows).all()


def test_missing_values_become_the_median_of_training_rows(tmp_path):
    table = prepare_table(read_back(odd_frame(), tmp_path))
    fitted = table.preprocessor().fit(table.X[:20])
    value = fitted.transform(table.X[21:22])[0, 1]  # row 21 has a missing value
    median = table.X[:20].assign(partly=table.X["partly"][:20].median())
    assert value == pytest.approx(fitted.transform(median)[0, 1])


def test_types_of_parquet_are_known():
    i = np.arange(12)
    frame = pd.DataFrame(
        {
            "moment": pd.date_range("2020-01-01", periods=12, tz="Europe/Rome"),
            "duration": pd.to_timedelta(i, unit="h"),
            "date": [pd.Timestamp(2020, 1, j + 1).date() for j in i],
            "whole": pd.array([*range(1, 12), None], dtype="Int64"),
            "flag": pd.array([True, False, None] * 4, dtype="boolean"),
            "kind": pd.Categorical(["a", "b", "c"] * 4),
            "list": [[1]] * 12,
        }
    )
    table = prepare_table(frame)
    assert table.numeric == ["moment", "duration", "date", "whole", "flag"]
    assert table.categorical == ["kind"]
    assert dict(table.notes)["dropped: neither numbers nor text"] == "list"
    assert all(table.X[name].dtype == float for name in table.numeric)
    assert np.ptp(table.X["duration"]) == pytest.approx(11 / 24)


def test_rare_categories_are_one_column(tmp_path):
    i = np.arange(400)
    frame = pd.DataFrame({"number": np.sin(i), "many": [f"c{j % 100}" for j in i]})
    rows = prepare_table(frame).preprocessor().fit_transform(frame)
    assert rows.shape[1] == 1 + 20


def test_rows_without_target_are_dropped_and_counted():
    frame = odd_frame().assign(y=[None, "a", "b", "b"] * 10)
    table = prepare_table(frame, "y", drop=["row"])
    assert len(table.X) == len(table.y) == 30
    assert set(table.y) == {"a", "b"}
    notes = dict(table.notes)
    assert notes["rows dropped"] == "10 of 40, because 'y' is missing"
    assert notes["dropped as requested"] == "row"
    assert "y" not in [*table.numeric, *table.categorical]


def test_separators_and_decimal_commas(tmp_path):
    path = tmp_path / "comma.csv"
    path.write_text("a;b\n1,5;2\n3;4,5\n")
    for sep, decimal in ((";", ","), (None, None), (None, ","), (";", None)):
        assert read_frame(path, sep, decimal)["a"].tolist() == [1.5, 3.0]
    assert read_frame(path, decimal=".")["a"].tolist() == ["1,5", "3"]
    with pytest.raises(TableError, match="pass --sep ';'"):
        read_frame(path, ",")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_the_separator_is_found(mark, encoding, tmp_path):
    text = f'"a,b;|\tä"{mark}x\n1{mark}2\n'
    (tmp_path / "table.csv").write_text(text, encoding=encoding)
    frame = read_frame(tmp_path / "table.csv", encoding=encoding)
    assert frame.to_dict("list") == {"a,b;|\tä": [1], "x": [2]}
    (tmp_path / "one.csv").write_text("x\n1\n2\n", encoding=encoding)
    assert read_frame(tmp_path / "one.csv", encoding=encoding)["x"].tolist() == [1, 2]


def test_names_of_columns_are_text_in_the_report(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    odd_frame().to_csv(tmp_path / "odd.csv", index=False)
    assert run(tmp_path / "odd.csv", "--output", tmp_path / "odd.html") == 0
    html = (tmp_path / "odd.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in html
    assert "<script" not in html
