"""The short forms that a notebook's text may hold, and what a reader gets for them, on GitHub and in the book.

    [@senet]                        a citation, from references.bib
    {{test_accuracy_frac:.1%}}      a record of this notebook, in Python's format language; without one, 4 digits
    {fig:gates}  {tab:cost}         the number of a figure or table of this notebook: Figure 10.3
    {term:confusion matrix}         a link to book/glossary.md; {term:confusion matrix|matrices} with other words
    {row:RE-A11}                    a link to a row of a paper's ledger

Inside backticks they stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ferkit import papers
from ferkit.notebook import UNITS

ROOT = Path(__file__).resolve().parents[1]
BIBLIOGRAPHY = ROOT / "notebooks" / "references.bib"
GLOSSARY = ROOT / "book" / "glossary.md"

_UNIT = "|".join(UNITS)
CITATION = re.compile(r"(?<!`)\[@([\w-]+)\](?!`)")
FIELD = re.compile(rf"(?<!`)\{{\{{([a-z]\w*_(?:{_UNIT}))(?::([^{{}}]*))?\}}\}}(?!`)")
NUMBER = re.compile(r"(?<!`)\{((?:fig|tab):[a-z0-9-]+)\}(?!`)")
TERM = re.compile(r"(?<!`)\{term:([^{}|]+)(?:\|([^{}]+))?\}(?!`)")
ROW = re.compile(r"(?<!`)\{row:([A-Z]+)-([\w.-]+)\}(?!`)")


@dataclass(frozen=True)
class Work:
    """A work of the bibliography, as it is cited."""

    label: str  # Roy et al., 2024
    link: str  # empty where it has none
    reference: str  # its line in a list of references


@cache
def bibliography() -> dict[str, Work]:
    """references.bib by key."""
    from pybtex.database import parse_file

    return {key: _work(entry) for key, entry in parse_file(str(BIBLIOGRAPHY)).entries.items()}


def _work(entry: object) -> Work:
    fields = {name: re.sub(r"[{}]", "", value) for name, value in entry.fields.items()}  # type: ignore[attr-defined]
    people = [re.sub(r"[{}]", "", str(person)) for person in entry.persons["author"]]  # type: ignore[attr-defined]
    surnames = [name.split(",")[0] for name in people]
    names = " and ".join(surnames) if len(surnames) < 3 and "others" not in surnames else f"{surnames[0]} et al."
    link = f"https://doi.org/{fields['doi']}" if "doi" in fields else fields.get("url", "")
    authors = "; ".join(people).replace("; others", " et al.")
    where = fields.get("journal") or fields.get("booktitle") or fields.get("publisher")
    parts = [f"{authors} ({fields['year']})", f"*{fields['title']}*", where, link]
    return Work(f"{names}, {fields['year']}", link, ". ".join(part for part in parts if part))


def cited(key: str) -> Work:
    """A work of the bibliography. Raises ValueError for a key it does not have."""
    if key not in bibliography():
        raise ValueError(f"[@{key}] is not in notebooks/references.bib")
    return bibliography()[key]


def with_citations(text: str) -> str:
    """The text with each [@key] written out: [Roy et al., 2024], as a link where the work has one."""

    def written(match: re.Match[str]) -> str:
        work = cited(match.group(1))
        return f"[[{work.label}]({work.link})]" if work.link else f"[{work.label}]"

    return CITATION.sub(written, text)


def reference_list(text: str) -> str:
    """The works cited in `text` as [@key], by author; empty when there are none."""
    lines = sorted(f"- {cited(key).reference}" for key in set(CITATION.findall(text)))
    return "## References\n\n" + "\n".join(lines) if lines else ""


# ------------------------------------------------------------------------------------------------ terms and ledger rows


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub and the book make it."""
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")


def glossary() -> list[str]:
    """The terms of the glossary, in its order."""
    return re.findall(r"^## (.+?)\s*$", GLOSSARY.read_text(encoding="utf-8"), re.M)


def with_links(text: str, book: str = "../book") -> str:
    """The text with each {term:...} and {row:...} as a link; `book` is the folder of the glossary, seen from the text.

    Raises ValueError for a term that is not in the glossary, or a row that no ledger has.
    """

    def term(match: re.Match[str]) -> str:
        name, shown = match.group(1), match.group(2) or match.group(1)
        known = {t.lower(): t for t in glossary()}
        if name.lower() not in known:
            raise ValueError(f"{{term:{name}}} is not in book/glossary.md; add it there, once")
        return f"[{shown}]({book}/glossary.md#{slug(known[name.lower()])})"

    def row(match: re.Match[str]) -> str:
        prefix, code = match.groups()
        ledger = papers.by_prefix(prefix)
        ledger.select(code)
        return f"[{prefix}-{code}]({book}/ledger/{ledger.key}.md#{ledger.anchor(code)})"

    return ROW.sub(row, TERM.sub(term, text))


# -------------------------------------------------------------------------------------------------- numbers in the text


def filled(
    text: str,
    records: Mapping[str, float],
    numbers: Mapping[str, str],
    reference: Callable[[str, str], str] | None = None,
) -> str:
    """The text with the numbers of a run in it: records, and the numbers of figures and tables.

    Args:
        text: with {{record}}, {{record:format}}, {fig:name} and {tab:name}.
        records: by name, as `ferkit.notebook.records_in` reads them.
        numbers: {"fig:gates": "Figure 10.3"}, as `ferkit.notebook.numbered` reads them.
        reference: what is written for a key and its number; by default the number.

    Raises:
        ValueError: a record, figure or table that the run does not have, or a format that does not fit.
    """

    def value(match: re.Match[str]) -> str:
        name, form = match.groups()
        if name not in records:
            raise ValueError(
                f"the text quotes {{{{{name}}}}}, which is not recorded; it has {', '.join(records) or 'no records'}"
            )
        try:
            shown = format(records[name], form or (",d" if isinstance(records[name], int) else ".4g"))
        except ValueError as error:
            raise ValueError(f"the text quotes {{{{{name}:{form}}}}}: {error}") from None
        return shown.replace("%", "\u00a0%").replace("-", "\u2212")  # a space before %, and a minus that is one

    def number(match: re.Match[str]) -> str:
        key = match.group(1)
        if key not in numbers:
            raise ValueError(f"the text refers to {{{key}}}, which is not shown; it has {', '.join(numbers) or 'none'}")
        return reference(key, numbers[key]) if reference else numbers[key]

    return NUMBER.sub(number, FIELD.sub(value, text))


def unresolved(text: str) -> list[str]:
    """Short forms that are still in a text, misspelt ones included."""
    bare = re.sub(r"`[^`]*`|```.*?```", "", text, flags=re.S)
    return re.findall(
        r"\{\{[^{}]*\}\}|\{(?:fig|tab|term|row|cite)\s*:[^{}]*\}|\[@[^\]]*\]", re.sub(r"\$[^$]*\$", "", bare)
    )
