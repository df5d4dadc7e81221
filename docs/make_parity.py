"""Run the pieces of tests/latent/test_pca_parity.py and write what they report to pca_parity.md."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests" / "latent" / "test_pca_parity.py"
PAGE = DOCS / "pca_parity.md"
HEAD = """# What PCA's users can do, piece by piece

Each row is a piece of code around PCA as users write it: run once with PCA and once with each
estimator here whose codes are dense, by
[tests/latent/test_pca_parity.py](../tests/latent/test_pca_parity.py), where the code can be
read. ✓ it does what its author relies on, in brackets the class that does it
in PCA's place; – PCA (for `partial_fit`: IncrementalPCA) has no such thing, and raises; ✗ it fails.
What PCA has and an autoencoder has not is in
[Replacing PCA](replace_pca.md#what-has-no-meaning-here).

The table is written by `python docs/make_parity.py` from the outcome of the tests, and a test
compares it with them.
"""


def outcomes() -> list[dict[str, str]]:
    """Run the pieces; group, words, estimator and mark of each, in the tests' order."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-k", "test_piece", "-o", "junit_family=legacy", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *options, str(TESTS)]
        subprocess.run(command, cwd=DOCS.parent, check=False)
        cases = ElementTree.parse(report).iter("testcase")
        return [outcome for case in cases if (outcome := outcome_of(case))]


def outcome_of(case: ElementTree.Element) -> dict[str, str]:
    """What a test recorded; its mark is the test's own only if it passed."""
    recorded = {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
    if any(case.find(tag) is not None for tag in ("failure", "error", "skipped")):
        recorded["mark"] = "✗"
    return recorded


def page(results: list[dict[str, str]]) -> str:
    """Tables of one row a piece and one column an estimator."""
    estimators = list(dict.fromkeys(result["estimator"] for result in results))
    marks = {(result["piece"], result["estimator"]): result["mark"] for result in results}
    groups: dict[str, list[str]] = {}
    for piece in dict.fromkeys(result["piece"] for result in results):
        groups.setdefault(piece.split("|")[0], []).append(piece)
    parts = [HEAD]
    for group, pieces in groups.items():
        lines = [["", *estimators], ["---", *[":-:"] * len(estimators)]]
        lines += [[p.split("|")[1], *(marks.get((p, e), "") for e in estimators)] for p in pieces]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {group}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    results = outcomes()
    PAGE.write_text(page(results), encoding="utf-8")
    sys.exit(any(result["mark"] == "✗" for result in results))
