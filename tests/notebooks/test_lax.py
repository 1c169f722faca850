"""Committed notebooks that ask for it run under nbval, which compares their stored outputs;
controls are swept there as well.

The others have nothing to compare: their one execution, in test_smoke.py, sweeps their controls.
"""

import pytest

from notebooks import build
from notebooks.build import tags
from tests.support.smoke import run_lax

pytestmark = pytest.mark.slow
ENTRIES = build.read_manifest()
COMPARED = [
    entry
    for entry in ENTRIES
    if any("nbval-check-output" in tags(cell) for cell in build.assemble(entry, ENTRIES).cells)
]


def test_some_notebooks_are_compared():
    assert {entry.number for entry in COMPARED} >= {"01", "02", "03"}


@pytest.mark.parametrize("entry", COMPARED, ids=lambda entry: entry.slug)
def test_stored_outputs_are_what_nbval_finds(entry, monkeypatch):
    assert entry.path.is_file(), f"{entry.path.name} is missing: make notebooks N={entry.number}"
    code, report = run_lax(entry.path, monkeypatch)
    assert code == 0, report
