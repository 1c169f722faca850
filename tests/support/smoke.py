"""Running a notebook for a test: smoke profile, no network, records and widget errors read afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from ferkit.notebook import records
from notebooks import build
from notebooks.build import Entry
from tests.support import checks

ROOT = build.ROOT


def shut_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No way out but to this machine: a hidden download fails here, and not at the reader's."""
    closed = "http://127.0.0.1:9"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, closed)
        monkeypatch.setenv(name.lower(), closed)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run_smoke(
    entry: Entry, entries: list[Entry], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[NotebookNode, list[str]]:
    """The executed notebook and all complaints about the run.

    One execution proves all that needs one: no error, the records, and every option of every control (`explore` calls
    its function for each, and lets errors out into the cell).
    """
    shut_network(monkeypatch)
    monkeypatch.delenv("FERKIT_PROFILE", raising=False)
    monkeypatch.setenv("FERKIT_WIDGETS", "sweep")
    assembled = build.with_solutions(build.assemble(entry, entries))
    executed, seconds = build.execute(assembled, "smoke", entry.parameters.get("smoke", {}))
    path = folder / entry.path.name
    nbformat.write(executed, path)
    try:
        build.fill(build.normalise(executed), executed)
        complaints = []
    except ValueError as error:
        complaints = [f"{entry.slug}: {error}"]
    complaints += checks.record_values(records(path), entry) + checks.widget_errors(executed) + checks.budget(seconds)
    return executed, complaints + [c for c in checks.outputs(build.normalise(executed)) if "Warning" in c]


def run_lax(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """nbval over a notebook, its controls swept: exit code and report.

    nbval does not emulate widgets, so an exception inside a control fails its cell; and it compares the outputs of
    cells tagged `nbval-check-output` with those stored.
    """
    shut_network(monkeypatch)
    monkeypatch.setenv("FERKIT_PROFILE", "smoke")
    monkeypatch.setenv("FERKIT_WIDGETS", "sweep")
    options = [
        "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=120", "-p", "tests.support.private_kernels", "-p",
        "no:cacheprovider", "-q",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    return done.returncode, done.stdout[-6000:] + done.stderr[-2000:]
