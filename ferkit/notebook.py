"""What a notebook of this workbook needs besides its subject: profiles, records, ledger tables, provenance.

A notebook has one parameters cell of literals; the next cell turns `PROFILE` into settings with `profile`. Numbers that a
test asserts go through `record`. What a paper says comes out of its ledger with `ledger_table`. `footer` ends it.
"""

from __future__ import annotations

import html
import json
import math
import os
import platform
import textwrap
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from IPython.display import display

from ferkit import papers

PROFILES = ("smoke", "teach", "paper")
RECORD_MIME = "application/vnd.ferkit.record+json"

#: The last word of a record's name says its unit, so that 0.71 % can not pass for 71 %.
UNITS = {
    "frac": "fraction, -1 to 1",
    "pct": "percent, -100 to 100",
    "n": "count",
    "ratio": "ratio of two like quantities",
    "nats": "nats",
    "px": "pixels",
    "s": "seconds",
    "mb": "megabytes",
    "per_s": "per second",
}

# A kernel runs one notebook, so one module-level note of when it began and how is enough for its footer.
_session: dict[str, Any] = {"began": time.perf_counter(), "profile": "none"}


def profile(
    name: str, *, smoke: Mapping[str, Any], teach: Mapping[str, Any], paper: Mapping[str, Any] | None = None
) -> SimpleNamespace:
    """The settings of a notebook under one profile: `S = profile(PROFILE, smoke=dict(epochs=1), teach=dict(epochs=8))`.

    Args:
        name: `smoke` (tests, seconds), `teach` (a laptop's CPU, minutes) or `paper` (the full recipe). The environment
            variable FERKIT_PROFILE goes before it: nbval, unlike papermill, can not set a notebook's parameters.
        smoke: settings by name; the other profiles must give the same names.
        teach: the same for `teach`.
        paper: the same for `paper`; a notebook without a full recipe leaves it out and gets `teach`.

    Returns:
        A namespace with the settings as attributes, and `profile`, the name of the one in use.

    Raises:
        ValueError: an unknown profile, or profiles that do not name the same settings.
    """
    name = os.environ.get("FERKIT_PROFILE") or name
    choices = {"smoke": smoke, "teach": teach, "paper": teach if paper is None else paper}
    if name not in choices:
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    for other, settings in choices.items():
        if odd := set(settings) ^ set(teach):
            raise ValueError(f"profiles `teach` and `{other}` must name the same settings; only one has {', '.join(sorted(odd))}")
    _session["profile"] = name
    return SimpleNamespace(profile=name, **choices[name])


def record(name: str, value: float) -> None:
    """Shows `name = value` and stores it in the notebook, where tests read it with `records`.

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
    limit = 1 if name.endswith("_frac") else 100 if name.endswith("_pct") else math.inf
    if abs(number) > limit:
        raise ValueError(f"record {name} is {number}; its unit allows -{limit} to {limit} (is it a fraction or a percentage?)")
    if name.endswith("_n"):
        if number != int(number):
            raise ValueError(f"record {name} is {number}; a count must be a whole number")
        number = int(number)
    shown = f"{number:,}" if isinstance(number, int) else f"{number:.4g}"
    display({RECORD_MIME: {"name": name, "value": number}, "text/plain": f"{name} = {shown}"}, raw=True)


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
    found: dict[str, float] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            if data := output.get("data", {}).get(RECORD_MIME):
                if data["name"] in found:
                    raise ValueError(f"{path.name} records {data['name']} twice; give each number its own name")
                found[data["name"]] = data["value"]
    return found


def check(what: str, answer: Any, expected: Any, *, tolerance: float = 0.0, hint: str = "") -> None:
    """Compares an exercise's answer with what it should be, and says what is wrong.

    Args:
        what: what was asked for, as the message names it.
        answer: the reader's answer; None or ... means that there is none yet, which is said and is no error.
        expected: the right one: a number, text, or a sequence of them.
        tolerance: how far numbers may be off.
        hint: said after a wrong answer.

    Raises:
        AssertionError: the answer is wrong. So the solutions in a notebook are tested whenever it runs.
    """
    if answer is None or answer is ...:
        print(f"… {what}: no answer yet. Replace the None above and run both cells again.")
        return
    try:
        numbers, wanted = np.asarray(answer, dtype=float), np.asarray(expected, dtype=float)
        right = numbers.shape == wanted.shape and bool(np.allclose(numbers, wanted, rtol=1e-9, atol=tolerance))
    except (TypeError, ValueError):  # not numbers
        sequences = all(isinstance(value, (list, tuple)) for value in (answer, expected))
        right = list(answer) == list(expected) if sequences else answer is expected or bool(answer == expected)
    if not right:
        raise AssertionError(f"✗ {what}: got {answer!r}.{' ' + hint if hint else ''}")
    print(f"✓ {what}")


#: How a row's status is shown: a sign and a word, so that colour is never the only carrier.
STATUS = {
    "agrees": ("✓ agrees", "#1a7f37"),
    "conflicts": ("✗ conflicts", "#cf222e"),
    "impossible": ("⊘ impossible under the reading named", "#cf222e"),
    "unstated": ("? unstated", "#9a6700"),
    "unverified": ("… unverified", "#57606a"),
}


class LedgerTable:
    """Ledger rows as a table in three voices; HTML where it can be drawn, text elsewhere."""

    def __init__(self, rows: Sequence[papers.Row]) -> None:
        self.rows = rows

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
            columns = [f"<b>{html.escape(row.what)}</b><br><small>{html.escape(row.id)}</small>"]
            for value, place in self._voices(row).values():
                note = f"<br><small>{html.escape(place)}</small>" if place else ""
                columns.append(html.escape(value) + note)
            why = f"<br><small>{html.escape(row.why)}</small>" if row.why else ""
            columns.append(f'<b style="color:{colour}">{sign}</b>{why}')
            lines.append("<tr>" + "".join(f'<td style="text-align:left;vertical-align:top">{c}</td>' for c in columns) + "</tr>")
        return "\n".join([*lines, "</tbody></table>"])

    def __repr__(self) -> str:
        blocks = []
        for row in self.rows:
            lines = [f"{row.id}  {row.what}  [{STATUS[row.status][0]}]"]
            voices = {**self._voices(row), **({"why": (row.why, "")} if row.why else {})}
            for voice, (value, place) in voices.items():
                text = f"{value}  ({place})" if place else value
                lines += textwrap.wrap(text, 110, initial_indent=f"  {voice:<24}", subsequent_indent=" " * 26)
            blocks.append("\n".join(lines))
        return "\n".join(blocks)


def ledger_table(key: str | papers.Ledger, *ids: str, section: str | None = None, status: str | None = None) -> LedgerTable:
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
        raise ValueError(f"the ledger of {ledger.key} has no row in section {section!r} with status {status!r}; leave one of them out")
    return LedgerTable(rows)


def footer(data: Any = None) -> None:
    """Shows what produced the numbers above: versions, device, profile, seconds, and the data's hash.

    Args:
        data: a `FaceSet` (anything with `name` and `sha256`) the notebook worked on.
    """
    import torch  # here, so that reading records does not wait for it

    device = "CPU"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    elif torch.backends.mps.is_available():
        device = "Apple GPU (mps)"
    facts = {
        "ferkit": metadata.version("ferkit"),
        "Python": platform.python_version(),
        **{package: metadata.version(package) for package in ("torch", "torchvision", "numpy")},
        "device": f"{device}, {torch.get_num_threads()} CPU thread(s)",
        "profile": _session["profile"],
        "seconds": f"{time.perf_counter() - _session['began']:.0f}",
    }
    if data is not None:
        facts["data"] = f"{data.name}, sha256 {str(data.sha256)[:12]}…"
    line = " · ".join(f"{name} {value}" for name, value in facts.items())
    display({"text/html": f"<small>{html.escape(line)}</small>", "text/plain": line}, raw=True)
