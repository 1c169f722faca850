"""Tables of answers: which columns they have, a line for each row, and the files they are written to."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ferkit.files import replacing
from ferkit.labels import in_order
from ferkit.use.networks import Ensemble, Network


def columns(networks: Sequence[Network | Ensemble]) -> list[str]:
    """Return the columns of a table of answers; the last are `p_<class>` for each class of the networks."""
    classes = in_order(name for network in networks for name in network.labels)
    first = ("file", "face", "left", "top", "right", "bottom", "network", "answer", "doubt", "likely", "problem")
    return [*first, *(f"p_{name}" for name in classes)]


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a line of a table: the box in four columns, the likely classes as "a|b", a column per class."""
    box = dict(zip(("left", "top", "right", "bottom"), row["box"] or (None,) * 4, strict=True))
    plain = {key: row[key] for key in ("file", "face", "network", "answer", "doubt", "problem")}
    return {
        **plain,
        **box,
        "likely": "|".join(row["likely"]),
        **{f"p_{name}": v for name, v in row["probabilities"].items()},
    }


def _write_csv(out: Path, rows: Iterable[dict[str, Any]], networks: Sequence[Network | Ensemble]) -> None:
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns(networks))
        writer.writeheader()
        writer.writerows(flat(row) for row in rows)


def _write_json_lines(out: Path, rows: Iterable[dict[str, Any]], networks: Sequence[Network | Ensemble]) -> None:
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


WRITERS = {".csv": _write_csv, ".jsonl": _write_json_lines}
