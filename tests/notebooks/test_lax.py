"""Every committed notebook runs under nbval: controls swept, stored outputs compared where the notebook asks for it."""

import pytest

from notebooks import build
from tests.support.smoke import run_lax


@pytest.mark.parametrize("entry", build.read_manifest(), ids=lambda entry: entry.slug)
def test_runs_under_nbval(entry, monkeypatch):
    assert entry.path.is_file(), f"{entry.path.name} is missing: make notebooks N={entry.number}"
    code, report = run_lax(entry.path, monkeypatch)
    assert code == 0, report
