"""A paper's ledger as a table in three voices."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

from ferkit import papers

#: How a row's status is shown: a sign and a word, so that colour is never the only carrier.
STATUS = {
    "agrees": ("✓ agrees", "#1a7f37"),
    "conflicts": ("✗ conflicts", "#cf222e"),
    "impossible": ("⊘ impossible under the reading named", "#cf222e"),
    "unstated": ("? unstated", "#9a6700"),
    "unverified": ("… unverified", "#57606a"),
}


class LedgerTable:
    """Ledger rows as a table in three voices; HTML where it can be drawn, text elsewhere.

    A row is called by what it says; its code, below it, leads to the paper's page with all rows.
    """

    def __init__(self, rows: Sequence[papers.Row], ledger: papers.Ledger) -> None:
        self.rows, self.ledger = rows, ledger

    @staticmethod
    def _voices(row: papers.Row) -> dict[str, tuple[str, str]]:
        """What each voice says, and where."""
        return {
            "the paper says": (row.paper or "–", row.paper_place),
            "the released code does": (row.code or "–", row.code_place),
            "we do": (row.ours or "–", ""),
        }

    def _repr_html_(self) -> str:
        head = ["", "the paper says", "the released code does", "we do", ""]
        cells = "".join(f'<th style="text-align:left">{title}</th>' for title in head)
        lines = [f'<table style="text-align:left"><thead><tr>{cells}</tr></thead><tbody>']
        for row in self.rows:
            sign, colour = STATUS[row.status]
            page = f"../book/ledger/{self.ledger.key}.md#{self.ledger.anchor(row.id)}"
            columns = [
                (
                    f"<b>{html.escape(row.what)}</b><br><small><a "
                    f'href="{page}">{html.escape(self.ledger.label(row.id))}</a></small>'
                )
            ]
            for value, place in self._voices(row).values():
                note = f"<br><small>{html.escape(place)}</small>" if place else ""
                columns.append(html.escape(value) + note)
            notes = [html.escape(row.why)] if row.why else []
            notes += [f"<i>In the authors' favour:</i> {html.escape(row.for_authors)}"] if row.for_authors else []
            columns.append(
                f'<b style="color:{colour}">{sign}</b>' + "".join(f"<br><small>{note}</small>" for note in notes)
            )
            lines.append(
                '<tr class="ledger-row">'
                + "".join(f'<td style="text-align:left;vertical-align:top">{c}</td>' for c in columns)
                + "</tr>"
            )
        return "\n".join([*lines, "</tbody></table>"])

    def __repr__(self) -> str:
        blocks = []
        for row in self.rows:
            lines = [f"{row.what}  ({self.ledger.label(row.id)})  [{STATUS[row.status][0]}]"]
            notes = {"why": (row.why, ""), "for the authors": (row.for_authors, "")}
            voices = self._voices(row) | {name: note for name, note in notes.items() if note[0]}
            for voice, (value, place) in voices.items():
                text = f"{value}  ({place})" if place else value
                lines += textwrap.wrap(text, 110, initial_indent=f"  {voice:<24}", subsequent_indent=" " * 26)
            blocks.append("\n".join(lines))
        return "\n".join(blocks)


def ledger_table(
    key: str | papers.Ledger, *ids: str, section: str | None = None, status: str | None = None
) -> LedgerTable:
    """Rows of a paper's ledger as a table: the paper says, the released code does, we do.

    Args:
        key: a paper's key (`papers.keys()` lists them) or its ledger.
        *ids: row ids, in the order wanted; none means all rows the other two arguments leave.
        section: only rows of this section.
        status: only rows with this status (`papers.STATUSES` lists them).

    Raises:
        ValueError: an unknown key, id, section or status, or nothing left to show.
    """
    ledger = papers.load(key) if isinstance(key, str) else key
    rows = ledger.select(*ids, section=section, status=status)
    if not rows:
        raise ValueError(
            f"the ledger of {ledger.key} has no row in section {section!r} with status {status!r}; "
            "leave one of them out"
        )
    return LedgerTable(rows, ledger)
