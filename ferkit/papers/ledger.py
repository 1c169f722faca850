"""The form of a paper's ledger, and its reader: every claim is a row with its place of evidence, every table is data.

A ledger is a TOML file with the paper's particulars on top, `[tables.<key>]` for numbers that code needs, and one
`[[rows]]` per claim or fact. The reader accepts nothing it does not know and says in one sentence what is wrong where.

The authors are colleagues, so the two statuses that speak against a paper have to be earned: *conflicts* needs two
named places that speak of the same thing, *impossible* an arithmetic check that is run on reading, and both a sentence
on what speaks for the authors. What our copy of a source has lost (`lost`, on top of the file) can only be
*unverified*.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ferkit.papers import arithmetic

#: What a row can conclude. Every ledger repeats these definitions in its header.
STATUSES = {
    "agrees": "paper, released code and arithmetic say the same wherever they speak",
    "conflicts": "two named places say different things about the same thing",
    "unstated": "needed to repeat the work, and the paper does not say it",
    "impossible": (
        "arithmetic excludes the printed value under the reading named, also if rounded, cut, averaged or added up"
    ),
    "unverified": "nothing public to check it against, not checked here, or lost in our copy of the source",
}

#: The statuses that speak against the paper or its code.
ADVERSE = ("conflicts", "impossible")

#: How a paper voice begins that says nothing, and so can conflict with nothing.
_SILENT = re.compile(
    r"not (stated|mentioned|named|described|discussed|printed)\b|could not be recovered|.*, not recovered"
)
_TEST = re.compile(r"tests/[a-z]+/test_\w+\.py::test_\w+")
_PREFIX = re.compile(r"[A-Z]{2,4}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")

Value = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One claim or fact, in three voices: what the paper says, what the released code does, what ferkit does.

    Where the other source is no code (a data set's file, a cited paper, what people write in an issue), the second
    voice names it. `for_authors` says what speaks for them, or "Nothing found."; `excluded` holds the printed numbers
    of a row of status impossible, as `arithmetic.exclusion` reads them.
    """

    id: str
    what: str
    section: str
    status: str
    paper: str = ""
    paper_place: str = ""
    code: str = ""
    code_place: str = ""
    ours: str = ""
    why: str = ""
    for_authors: str = ""
    excluded: tuple[Mapping[str, Any], ...] = ()
    test: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers as printed or counted: named rows of values under `columns`; None where the source prints a dash."""

    key: str
    caption: str
    place: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Value, ...]]

    def cell(self, row: str, column: str) -> Value:
        """Return one value. Raises ValueError listing the known rows or columns."""
        self.row(row)
        return self.column(column)[row]

    def row(self, name: str) -> dict[str, Value]:
        """Return one row as column -> value. Raises ValueError listing the known rows."""
        if name not in self.rows:
            raise ValueError(f"Table {self.key} has no row {name!r}. Known: {', '.join(self.rows)}.")
        return dict(zip(self.columns, self.rows[name], strict=True))

    def column(self, name: str) -> dict[str, Value]:
        """Return one column as row -> value. Raises ValueError listing the known columns."""
        if name not in self.columns:
            raise ValueError(f"Table {self.key} has no column {name!r}. Known: {', '.join(self.columns)}.")
        index = self.columns.index(name)
        return {row: values[index] for row, values in self.rows.items()}

    def numbers(self, column: str) -> dict[str, Any]:
        """Return the cells of a column that hold a number, as row -> number."""
        return {row: value for row, value in self.column(column).items() if isinstance(value, int | float)}


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A paper as data: its particulars, its tables by key, its rows in file order; `lost` are places our copy lacks."""

    key: str
    prefix: str
    name: str
    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    doi: str
    arxiv: str
    code: str
    commit: str
    licence: str
    lost: tuple[str, ...]
    tables: Mapping[str, Table]
    rows: tuple[Row, ...]

    def __getitem__(self, row_id: str) -> Row:
        """Return the row with this id. Raises ValueError listing the known ids."""
        return self.select(row_id)[0]

    def label(self, row_id: str) -> str:
        """Return a row's code with its paper's, such as RE-A11: two papers may both have a row A11."""
        return f"{self.prefix}-{row_id}"

    def anchor(self, row_id: str) -> str:
        """Return where a row stands on its paper's page, such as re-a11."""
        return self.label(row_id).lower().replace(".", "-")

    def sections(self) -> tuple[str, ...]:
        """Return the sections in the order of their first row."""
        return tuple(dict.fromkeys(row.section for row in self.rows))

    def select(self, *ids: str, section: str | None = None, status: str | None = None) -> tuple[Row, ...]:
        """Return the rows that meet every condition given: in the order of `ids`, else in file order.

        Raises ValueError, listing what is known, for an id, section or status that does not exist.
        """
        by_id = {row.id: row for row in self.rows}
        for kind, wanted, known in (
            ("row", ids, by_id),
            ("section", (section,) if section is not None else (), self.sections()),
            ("status", (status,) if status is not None else (), STATUSES),
        ):
            for name in wanted:
                if name not in known:
                    raise ValueError(f"The ledger of {self.key} has no {kind} {name!r}. Known: {', '.join(known)}.")
        chosen = [by_id[name] for name in ids] if ids else self.rows
        return tuple(
            row
            for row in chosen
            if (section is None or row.section == section) and (status is None or row.status == status)
        )


def read(path: str | Path) -> Ledger:
    """Read and check a ledger.

    Raises FileNotFoundError if there is none, ValueError naming the file, the row's id and what to do otherwise.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a ledger at {path}, found nothing; give the path of a .toml file.")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: not readable as TOML ({error}); correct the file there.") from None
    top = {name: str for name in ("prefix", "name", "title", "venue", "doi", "arxiv", "code", "commit", "licence")}
    lists = {"authors": list, "year": int, "lost": list, "tables": dict, "rows": list}
    _check(data, path.name, top | lists, optional={"tables", "lost"})
    if not _PREFIX.fullmatch(data["prefix"]):
        raise ValueError(
            f"{path.name}: the prefix must be two to four capital letters, found {data['prefix']!r}; change it."
        )
    lost = tuple(data.pop("lost", ()))
    tables = {key: _table(path.name, key, table) for key, table in data.pop("tables", {}).items()}
    rows = tuple(_row(path.name, number, row, lost) for number, row in enumerate(data.pop("rows"), 1))
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise ValueError(f"{path.name}, row {row.id}: the id is used twice; give each row its own.")
        seen.add(row.id)
    return Ledger(
        key=path.stem, authors=tuple(data.pop("authors")), lost=lost, tables=MappingProxyType(tables), rows=rows, **data
    )


def _check(found: Any, where: str, types: Mapping[str, type], optional: set[str]) -> None:
    """Every required name present, none unknown, each of its type and no text empty."""
    if not isinstance(found, dict):
        raise ValueError(f"{where}: expected a TOML table, found {found!r}; write name = value lines under it.")
    if missing := [name for name in types if name not in found and name not in optional]:
        raise ValueError(f"{where}: missing {', '.join(missing)}; add the field.")
    if unknown := [name for name in found if name not in types]:
        raise ValueError(f"{where}: unknown field {', '.join(unknown)}; known are {', '.join(types)}.")
    for name, value in found.items():
        if type(value) is not types[name]:
            raise ValueError(f"{where}: {name} must be a {types[name].__name__}, found {value!r}; correct its type.")
        if isinstance(value, str) and not value.strip():
            raise ValueError(f"{where}: {name} is empty; fill it in or leave the line out.")


def _row(file: str, number: int, data: Any, lost: tuple[str, ...]) -> Row:
    name = data.get("id") if isinstance(data, dict) else None
    where = f"{file}, row {name}" if isinstance(name, str) and name else f"{file}, row number {number}"
    required = {"id", "what", "section", "status"}
    names = {field.name: str for field in fields(Row)} | {"excluded": list}
    _check(data, where, names, optional=set(names) - required)
    row = Row(**data | {"excluded": tuple(data.get("excluded", ()))})
    if not _ID.fullmatch(row.id):
        raise ValueError(f"{where}: the id must be letters, digits, dots and hyphens, found {row.id!r}; rename it.")
    if row.status not in STATUSES:
        raise ValueError(f"{where}: unknown status {row.status!r}; known are {', '.join(STATUSES)}.")
    if not (row.paper or row.code):
        raise ValueError(f"{where}: neither paper nor code says anything; fill in at least one of the two.")
    for voice in ("paper", "code"):
        if bool(getattr(row, voice)) != bool(getattr(row, f"{voice}_place")):
            raise ValueError(f"{where}: {voice} and {voice}_place go together; give both or neither.")
    if row.status != "agrees" and not row.why:
        raise ValueError(f"{where}: status {row.status} needs a reason; add why.")
    if row.test and not _TEST.fullmatch(row.test):
        raise ValueError(f"{where}: test must read tests/unit/test_x.py::test_y, found {row.test!r}; correct it.")
    _earned(row, where, lost)
    return row


def _places(row: Row) -> list[str]:
    """The different places that say something, the paper's first; a paper that is silent has none."""
    silent = not row.paper or bool(_SILENT.match(row.paper))
    said = ("" if silent else row.paper_place, row.code_place)
    return list(dict.fromkeys(place for voice in said for place in voice.split("; ") if place))


def _earned(row: Row, where: str, lost: tuple[str, ...]) -> None:
    """Whether the row may have its status."""
    for place in lost:
        if row.status != "unverified" and re.search(rf"{re.escape(place)}\b", row.paper_place):
            raise ValueError(
                f"{where}: our copy lacks {place}, so the row can only be unverified; change status or place."
            )
    if row.status in ADVERSE and not row.for_authors:
        raise ValueError(
            f"{where}: status {row.status} needs for_authors; say what speaks for them, or 'Nothing found.'"
        )
    if row.status == "conflicts" and len(found := _places(row)) < 2:
        shown = ", ".join(found) or "none"
        raise ValueError(
            f"{where}: status conflicts needs two places that speak, found {shown}; name both, joined by '; '."
        )
    if (row.status == "impossible") != bool(row.excluded):
        raise ValueError(f"{where}: excluded belongs to status impossible and to no other; give both or neither.")
    for printed in row.excluded:
        try:
            ways = arithmetic.exclusion(**printed)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: excluded cannot be checked ({error}); correct it.") from None
        if ways:
            raise ValueError(f"{where}: {printed} is possible, as {ways[0]}; impossible is not the status.")


def _table(file: str, key: str, data: Any) -> Table:
    where = f"{file}, table {key}"
    _check(data, where, {"caption": str, "place": str, "columns": list, "rows": dict}, optional=set())
    columns = tuple(data["columns"])
    for name, values in data["rows"].items():
        if not isinstance(values, list) or len(values) != len(columns):
            raise ValueError(f"{where}, row {name}: expected {len(columns)} values for its columns, found {values!r}.")
        if any(not isinstance(value, int | float | str) or isinstance(value, bool) for value in values):
            raise ValueError(f"{where}, row {name}: cells are numbers or text ('-' for none), found {values!r}.")
    rows = {name: tuple(None if v == "-" else v for v in values) for name, values in data["rows"].items()}
    return Table(key=key, caption=data["caption"], place=data["place"], columns=columns, rows=MappingProxyType(rows))
