"""The pages that are made of data: a paper's ledger in book/ledger, and the measured results in README and in the book.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferkit import papers
from ferkit.files import write_text
from ferkit.notebook import STATUS

ROOT = Path(__file__).resolve().parents[1]
LEDGER = ROOT / "book" / "ledger"
RESULTS = ROOT / "data" / "results"


def plain(text: str) -> str:
    """Text as Markdown that reads as the text does, on one line."""
    return re.sub(r"([\\`*_\[\]<>|$#~{}])", r"\\\1", " ".join(text.split()))


# -------------------------------------------------------------------------------------------------------------- ledgers


def ledger_page(ledger: papers.Ledger) -> str:
    """Every row of a paper's ledger by section: its name first, then its code, its status, and the three voices."""
    counts = Counter(row.status for row in ledger.rows)
    numbers = ", ".join(f"{counts[status]} {STATUS[status][0]}" for status in STATUS if counts[status])
    sources = [
        f"[doi](https://doi.org/{ledger.doi})" if "/" in ledger.doi else "",
        f"[arXiv](https://arxiv.org/abs/{ledger.arxiv})" if ledger.arxiv[0].isdigit() else "",
    ]
    code = f"[released code]({ledger.code})" if ledger.code.startswith("http") else plain(ledger.code)
    found = [
        f"# {plain(ledger.name)}: claims and facts",
        f"*{plain(ledger.title)}.* {plain(', '.join(ledger.authors))}. {plain(ledger.venue)}, {ledger.year}. "
        + ", ".join([*filter(None, sources), f"{code} at commit `{ledger.commit[:7]}`"]) + ".",
        f"{len(ledger.rows)} rows, with codes that begin with {ledger.prefix}: {numbers}. The marks:",
        "\n".join(f"- **{STATUS[status][0]}**: {meaning}." for status, meaning in papers.STATUSES.items()),
        f"Lost in our copy of the paper: {plain(', '.join(ledger.lost))}." if ledger.lost else "",
        "This page is generated from `ferkit/papers/" + ledger.key + ".toml`.",
    ]
    for section in ledger.sections():
        found.append(f"## {section.capitalize()}")
        found += [_ledger_row(ledger, row) for row in ledger.select(section=section)]
    return "\n\n".join(part for part in found if part) + "\n"


def _ledger_row(ledger: papers.Ledger, row: papers.Row) -> str:
    voices = [
        f"{plain(text)} <small>({plain(place)})</small>" if place else plain(text or "–")
        for text, place in ((row.paper, row.paper_place), (row.code, row.code_place), (row.ours, ""))
    ]
    parts = [
        f'<a id="{ledger.anchor(row.id)}"></a>',
        f"**{plain(row.what)}** · `{ledger.label(row.id)}` · {STATUS[row.status][0]}",
        f"| the paper says | the released code does | we do |\n|---|---|---|\n| {' | '.join(voices)} |",
        f"Why: {plain(row.why)}" if row.why else "",
        f"In the authors' favour: {plain(row.for_authors)}" if row.for_authors else "",
        f"Asserted by `{row.test}`." if row.test else "",
    ]
    return "\n\n".join(part for part in parts if part)


def write_ledgers() -> list[Path]:
    """Write the page of every ledger; the files that changed."""
    changed = []
    for key in papers.keys():
        path, text = LEDGER / f"{key}.md", ledger_page(papers.load(key))
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            changed.append(path)
    return changed


def stale_ledgers() -> list[str]:
    """What is not as `write_ledgers` would leave it."""
    pages = {LEDGER / f"{key}.md": ledger_page(papers.load(key)) for key in papers.keys()}
    found = [
        f"book/ledger/{path.name} is out of date: make prose"
        for path, text in pages.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return found + [
        f"book/ledger/{path.name} belongs to no ledger" for path in sorted(LEDGER.glob("*.md")) if path not in pages
    ]


# -------------------------------------------------------------------------------------------------------------- results


def results_table(folder: Path = RESULTS) -> str:
    """Measured results, one line per record of a run in data/results."""
    head = [
        "run",
        "parameters",
        "data, split",
        "images",
        "accuracy [95 %]",
        "macro-F1 [95 %]",
        "accuracy without images that are also in training",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        test = record.get("test")
        if test is None:  # a measurement of data, not of a network
            continue
        clean = test.get("duplicate_clean")
        cells = [
            f"[{record['name']}](data/results/{path.name})",
            f"{sum(part['parameters'] for part in record.get('members', [record.get('model')])):,}",
            f"{record['data']['name']}, {record['protocol']['test_split']}",
            f"{test['n']:,}",
            _with_interval(test, "accuracy"),
            _with_interval(test, "macro_f1"),
            f"{_with_interval(clean, 'accuracy')}, n = {clean['n']:,}" if clean else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "No run is recorded yet."


def shelf_tables(folder: Path = RESULTS / "shelf") -> str:
    """The long runs that the notebooks draw beside their own: a table per series."""
    parts = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        lines = ["| run | parameters | images | accuracy [95 %] | macro-F1 [95 %] |", "|---" * 5 + "|"]
        for run in record["runs"]:
            lines.append(
                f"| {plain(run['name'])} | {run['parameters']:,} | {run['test']['n']:,} | "
                f"{_with_interval(run['test'], 'accuracy')} | {_with_interval(run['test'], 'macro_f1')} |"
            )
        parts.append(f"### {record['name']}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _with_interval(metrics: Mapping[str, Any], key: str) -> str:
    low, high = metrics["intervals"][key]
    return f"{100 * metrics[key]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
