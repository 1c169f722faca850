"""Numbers that matter: kept in the notebook for the tests and for its text, invisible to a reader."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from IPython.display import display

RECORD_MIME = "application/vnd.ferkit.record+json"

#: The last word of a record's name says its unit, so that 0.71 % can not pass for 71 %.
UNITS = {
    "frac": "fraction, -1 to 1",
    "pct": "percent, -100 to 100",
    "points": "percentage points, -100 to 100",
    "n": "count",
    "ratio": "ratio of two like quantities",
    "nats": "nats",
    "px": "pixels",
    "s": "seconds",
    "mb": "megabytes",
    "per_s": "per second",
}


def record(name: str, value: float) -> None:
    """Stores a number in the notebook: tests read it with `records`, the text quotes it as `{{name}}`.

    A reader sees nothing.

    Args:
        name: a lower-case identifier ending in a unit of `UNITS`, such as `val_accuracy_frac` or `parameters_n`.
        value: one finite number (Python, numpy or a tensor with one element).

    Raises:
        ValueError: no known unit, not a finite number, or a number its unit can not have.
    """
    if not name.isidentifier() or name != name.lower() or not name.endswith(tuple(f"_{unit}" for unit in UNITS)):
        known = ", ".join(f"_{unit} ({meaning})" for unit, meaning in UNITS.items())
        raise ValueError(f"record name {name!r} must be a lower-case identifier ending in its unit: {known}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"record {name} is {number}; a record must be a finite number")
    limit = 1 if name.endswith("_frac") else 100 if name.endswith(("_pct", "_points")) else math.inf
    if abs(number) > limit:
        raise ValueError(
            f"record {name} is {number}; its unit allows -{limit} to {limit} (is it a fraction or a percentage?)"
        )
    if name.endswith("_n"):
        if number != int(number):
            raise ValueError(f"record {name} is {number}; a count must be a whole number")
        number = int(number)
    display({RECORD_MIME: {"name": name, "value": number}}, raw=True)


def records(path: str | Path) -> dict[str, float]:
    """The records of an executed notebook, by name.

    Raises:
        FileNotFoundError: no notebook at `path`.
        ValueError: the file is no notebook, or it records a name twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no notebook at {path}; `make notebooks` writes them")
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a notebook: expected JSON with cells ({type(error).__name__})") from None
    return records_in(cells, path.name)


def records_in(cells: Iterable[Mapping[str, Any]], where: str) -> dict[str, float]:
    """The records among a notebook's cells, by name. Raises ValueError, naming `where`, if one is recorded twice."""
    found: dict[str, float] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            if data := output.get("data", {}).get(RECORD_MIME):
                if data["name"] in found:
                    raise ValueError(f"{where} records {data['name']} twice; give each number its own name")
                found[data["name"]] = data["value"]
    return found
