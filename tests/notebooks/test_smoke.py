"""Every notebook runs from its source under the smoke profile, without network, within its budget,
with the right numbers.
"""

import pytest

from notebooks import build
from tests.support.smoke import run_smoke

ENTRIES = build.read_manifest()
pytestmark = pytest.mark.timeout(600)  # of the clock; what a notebook may cost is checked in seconds of the processor


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.slug)
def test_runs_under_smoke(entry, tmp_path, monkeypatch):
    _, complaints = run_smoke(entry, ENTRIES, tmp_path, monkeypatch)
    assert not complaints, "\n".join(complaints)
