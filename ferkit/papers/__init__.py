"""The papers' claims as data: `load("resemotenet")` reads every claim, its place of evidence and what was found.

Notebooks and tests take paper facts from here and nowhere else. `arithmetic` computes what a printed number implies.
No torch in this package.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ferkit.papers.ledger import STATUSES, Ledger, Row, Table, read

__all__ = ["STATUSES", "Ledger", "Row", "Table", "by_prefix", "keys", "load", "read"]

_FOLDER = Path(__file__).parent


def keys() -> tuple[str, ...]:
    """Return the keys of the papers that have a ledger, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@cache
def load(key: str) -> Ledger:
    """Return the ledger of a paper. Raises ValueError listing the known keys."""
    if key not in keys():
        raise ValueError(f"Expected the key of a paper, found {key!r}. Known: {', '.join(keys())}.")
    return read(_FOLDER / f"{key}.toml")


def by_prefix(prefix: str) -> Ledger:
    """Return the ledger whose rows have this prefix, such as RE. Raises ValueError listing the known ones."""
    ledgers = {ledger.prefix: ledger for ledger in map(load, keys())}
    if prefix not in ledgers:
        raise ValueError(f"Expected the prefix of a paper, found {prefix!r}. Known: {', '.join(ledgers)}.")
    return ledgers[prefix]
