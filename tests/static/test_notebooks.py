"""What can be said of a notebook without running it."""

import json

import nbformat
import pytest

from notebooks import build, pages
from tests.support import checks, reading

ENTRIES = build.read_manifest()
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.slug)


def refuse(complaints):
    assert not complaints, "\n".join(complaints)


@each
def test_source(entry):
    notebook = build.assemble(entry, ENTRIES)
    refuse(
        checks.parameters(notebook, entry.parameters.get("teach", {}).get("PROFILE", "teach"))
        + (reading.source(notebook, entry) if entry.form == 2 else checks.anatomy(notebook, entry))
        + checks.same_as(notebook)
        + checks.notebook_links(notebook, entry, ENTRIES)
        + checks.bands(entry)
    )


@each
def test_committed(entry):
    refuse(build.complaints(entry, ENTRIES))  # says so when the file is missing
    notebook = nbformat.read(entry.path, as_version=4)
    nbformat.validate(notebook)
    refuse(
        checks.execution_order(notebook)
        + checks.outputs(notebook)
        + (reading.committed(notebook, entry) if entry.form == 2 else [])
        + checks.size(entry.path)
        + checks.minutes(notebook, entry)
    )


def test_nothing_is_left_over_and_readme_is_generated():
    refuse([line for line in build.check() if "manifest.toml" in line or "README" in line or "ledger" in line])


def test_results_table_knows_runs_and_ensembles(tmp_path):
    scores = {"n": 10, "accuracy": 0.5, "macro_f1": 0.4, "intervals": {"accuracy": [0.2, 0.8], "macro_f1": [0.1, 0.7]}}
    common = {"test": scores, "data": {"name": "fer2013"}, "protocol": {"test_split": "public_test"}}
    (tmp_path / "a.json").write_text(json.dumps({"name": "a", "model": {"parameters": 1234}, **common}))
    (tmp_path / "b.json").write_text(
        json.dumps({"name": "b", "members": [{"parameters": 1000}, {"parameters": 500}], **common})
    )
    rows = pages.results_table(tmp_path).splitlines()[2:]
    assert ["| 1,234 |" in rows[0], "| 1,500 |" in rows[1]] == [True, True]
