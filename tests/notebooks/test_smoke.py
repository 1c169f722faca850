"""Every notebook runs from its source under the smoke profile, without network, within its budget,
with the right numbers.
"""

import pytest

from notebooks import build
from tests.support.smoke import run_smoke

ENTRIES = build.read_manifest()
# of the clock; what a notebook may cost is checked in seconds of the processor
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.slug)
def test_runs_under_smoke(entry, tmp_path, monkeypatch):
    _, complaints = run_smoke(entry, ENTRIES, tmp_path, monkeypatch)
    assert not complaints, "\n".join(complaints)
