"""Run tests/latent/test_pca_parity.py and write the results to pca_parity.md."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests" / "latent" / "test_pca_parity.py"
PAGE = DOCS / "pca_parity.md"
HEAD = """# PCA's features, one by one

Each row is code that uses PCA as users write it. The test module
[tests/latent/test_pca_parity.py](../tests/latent/test_pca_parity.py) contains the code, and runs
it with PCA and with each estimator of skae that has dense codes. `SparseAutoencoder` is left out:
see [what differs there](sparse.md#what-differs-from-pca). So are `ConvolutionalAutoencoder`,
`MeshAutoencoder` and `MultiViewAutoencoder`, which are for images, meshes and several views, and
`AdversarialAutoencoder`, whose codes have the variances of a prior.

- ✓ the code works. A class in brackets was used in place of PCA.
- – PCA (for `partial_fit`: IncrementalPCA) does not have the feature, and raises an error.
- ✗ the code fails.

PCA's features that have no meaning for an autoencoder are in
[Replacing PCA](replace_pca.md#what-has-no-meaning-here).

`python docs/make_parity.py` writes the tables from the results of the tests, and a test compares
the page with them.
"""


def outcomes() -> list[dict[str, str]]:
    """Run the tests. Return group, words, estimator and mark of each, in the tests' order."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-k", "test_piece", "-o", "junit_family=legacy", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *options, str(TESTS)]
        subprocess.run(command, cwd=DOCS.parent, check=False)
        cases = ElementTree.parse(report).iter("testcase")
        return [outcome for case in cases if (outcome := outcome_of(case))]


def outcome_of(case: ElementTree.Element) -> dict[str, str]:
    """Return the properties that a test recorded. The mark of a test that did not pass is ✗."""
    recorded = {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
    if any(case.find(tag) is not None for tag in ("failure", "error", "skipped")):
        recorded["mark"] = "✗"
    return recorded


def page(results: list[dict[str, str]]) -> str:
    """Make the tables: a row for each feature, a column for each estimator."""
    estimators = list(dict.fromkeys(result["estimator"] for result in results))
    marks = {(result["piece"], result["estimator"]): result["mark"] for result in results}
    groups: dict[str, list[str]] = {}
    for piece in dict.fromkeys(result["piece"] for result in results):
        groups.setdefault(piece.split("|")[0], []).append(piece)
    parts = [HEAD]
    for group, pieces in groups.items():
        lines = [["feature", *estimators], ["---", *[":-:"] * len(estimators)]]
        lines += [[p.split("|")[1], *(marks.get((p, e), "") for e in estimators)] for p in pieces]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {group}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    results = outcomes()
    PAGE.write_text(page(results), encoding="utf-8")
    sys.exit(any(result["mark"] == "✗" for result in results))
