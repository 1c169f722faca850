"""What can be said of a notebook without running it."""

import nbformat
import pytest

from notebooks import build
from tests.support import checks

ENTRIES = build.read_manifest()
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.slug)


def refuse(complaints):
    assert not complaints, "\n".join(complaints)


@each
def test_source(entry):
    notebook = build.assemble(entry, ENTRIES)
    refuse(
        checks.parameters(notebook, entry.parameters.get("teach", {}).get("PROFILE", "teach"))
        + checks.anatomy(notebook, entry)
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
        + checks.size(entry.path)
        + checks.minutes(notebook, entry)
    )


def test_nothing_is_left_over_and_readme_is_generated():
    refuse([line for line in build.check() if "manifest.toml" in line or "README" in line])
