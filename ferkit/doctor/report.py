"""What the doctor says: findings, and the report that holds them, as text and as JSON."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass, field
from typing import Any

#: How bad a finding is: `error`, numbers made with these data are wrong; `warning`, they mislead or are incomplete;
#: `note`, good to know, and no reason for another exit status.
SEVERITIES = ("error", "warning", "note")
_COLOURS = {"error": "#B00020", "warning": "#9A5B00", "note": "#505050"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or worth knowing.

    Attributes:
        severity: one of `SEVERITIES`.
        code: short name that stays the same from version to version, for programs.
        sentence: what was expected, what was found, and what to do.
        count: of how many pictures, rows or groups it speaks.
        examples: where, at most a few.
        numbers: figures for programs.
    """

    severity: str
    code: str
    sentence: str
    count: int = 1
    examples: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was examined and found.

    Attributes:
        path: as it was given.
        set_name: which data set it was taken for, as in `ferkit.data.list_datasets()`.
        layout: in words.
        images: how many pictures or faces were examined.
        counts: split -> class -> images, classes in label order.
        official: the same from the published tables, {} where there are none.
        findings: worst first.
        seconds: wall time.
    """

    path: str
    set_name: str
    layout: str
    images: int
    counts: dict[str, dict[str, int]]
    official: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether there is nothing worse than a note."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def exit_status(self) -> int:
        """0 for a clean set, else 1."""
        return 0 if self.clean else 1

    def find(self, code: str) -> tuple[Finding, ...]:
        """Return the findings with this code."""
        return tuple(finding for finding in self.findings if finding.code == code)

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return json.dumps({**asdict(self), "clean": self.clean}, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        lines = [f"{self.set_name}: {self.layout}", f"{self.path}: {self.images:,} images", "", *self._table()]
        for severity in SEVERITIES:
            some = [finding for finding in self.findings if finding.severity == severity]
            if some:
                lines += ["", f"{severity}s ({len(some)})"]
            for finding in some:
                lines.append(f"  [{finding.code}] {finding.sentence}")
                lines += [f"      {example}" for example in finding.examples]
        if self.clean:
            lines += ["", "Nothing wrong found."]
        return "\n".join(line.encode("utf-8", "replace").decode() for line in lines)

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        head, *rows = self._rows() or [[]]
        body = "".join(
            f"<tr><th style='text-align:left'>{_plain(row[0])}</th>"
            f"{''.join(f'<td>{_plain(cell)}</td>' for cell in row[1:])}</tr>"
            for row in rows
        )
        table = f"<table><tr>{''.join(f'<th>{_plain(cell)}</th>' for cell in head)}</tr>{body}</table>" if rows else ""
        items = []
        for finding in self.findings:
            colour, examples = (
                _COLOURS[finding.severity],
                "".join(f"<br><small>{_plain(example)}</small>" for example in finding.examples),
            )
            items.append(
                f"<li><b style='color:{colour}'>{finding.severity}</b> <code>{finding.code}</code> "
                f"{_plain(finding.sentence)}{examples}</li>"
            )
        end = "<p>Nothing wrong found.</p>" if self.clean else ""
        return (
            f"<p><b>{_plain(self.set_name)}</b>: {_plain(self.layout)}<br>{_plain(self.path)}: {self.images:,} "
            f"images</p>{table}<ul>{''.join(items)}</ul>{end}"
        )

    def _table(self) -> list[str]:
        rows = self._rows()
        if not rows:
            return []
        widths = [
            max((len(row[i]) for row in rows if len(row) > 2 and i < len(row)), default=0) for i in range(len(rows[0]))
        ]
        widths[0] = max(len(row[0]) for row in rows)
        return [
            "  ".join(
                [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)),
                ]
            ).rstrip()
            for row in rows
        ]

    def _rows(self) -> list[list[str]]:
        """Return counts by split and class beside the published ones, the names of the classes first."""
        splits = list(self.counts)
        if not splits:
            return []
        names = list(self.counts[splits[0]])
        rows = [["", *names, "sum"]]
        for split in splits:
            rows.append(
                [split, *(f"{self.counts[split][name]:,}" for name in names), f"{sum(self.counts[split].values()):,}"]
            )
            if split in self.official:
                official = [self.official[split].get(name, 0) for name in names]
                same = official == [self.counts[split][name] for name in names]
                rows.append(
                    ["  published", *(["the same"] if same else [*(f"{n:,}" for n in official), f"{sum(official):,}"])]
                )
        return rows


def some(items: list[str], limit: int = 3) -> tuple[str, ...]:
    """Return the first few, and how many more there are."""
    return (*items[:limit], *([f"and {len(items) - limit:,} more"] if len(items) > limit else []))


def _plain(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode())
