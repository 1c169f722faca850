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


def entry(slug: str = "01_demo") -> build.Entry:
    """One of them: `01_demo`, or `12_form`, which has the form of a rewritten chapter."""
    return next(e for e in entries() if e.slug == slug)


def source(slug: str = "01_demo") -> NotebookNode:
    """Assembled, not run; a fresh copy."""
    return build.assemble(entry(slug), entries())


@cache
def _built(slug: str) -> NotebookNode:
    executed, _ = build.execute(source(slug), "teach", {})
    notebook = build.fill(build.normalise(executed), executed)
    notebook.metadata["ferkit"] = {"fingerprint": build.fingerprint(notebook), "profile": "teach", "seconds": 5}
    return notebook


def built(slug: str = "01_demo") -> NotebookNode:
    """As a build commits it; a fresh copy."""
    return from_dict(_built(slug))


def cell(notebook: NotebookNode, text: str) -> NotebookNode:
    """The first cell that contains `text`."""
    return next(c for c in notebook.cells if text in c.source)
