"""The demonstration notebook: a good one, to be copied and broken."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nbformat import NotebookNode, from_dict

from notebooks import build

FOLDER = Path(__file__).resolve().parents[1] / "notebooks" / "demo"


def entries() -> list[build.Entry]:
    """Its manifest."""
    return build.read_manifest(FOLDER)


def source() -> NotebookNode:
    """Assembled, not run; a fresh copy."""
    return build.assemble(entries()[0], entries())


@cache
def _built() -> NotebookNode:
    entry = entries()[0]
    executed, _ = build.execute(source(), "teach", {})
    notebook = build.normalise(executed)
    notebook.metadata["ferkit"] = {"fingerprint": build.fingerprint(notebook), "profile": "teach", "seconds": 5}
    assert entry.slug == "01_demo"
    return notebook


def built() -> NotebookNode:
    """As a build commits it; a fresh copy."""
    return from_dict(_built())


def cell(notebook: NotebookNode, text: str) -> NotebookNode:
    """The first cell that contains `text`."""
    return next(c for c in notebook.cells if text in c.source)
