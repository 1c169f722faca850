"""What holds for a whole notebook: its profile and chapter, and what produced its numbers."""

from __future__ import annotations

import difflib
import html
import os
import platform
import time
from collections.abc import Collection, Mapping
from importlib import metadata
from types import SimpleNamespace
from typing import Any

from IPython.display import display

PROFILES = ("smoke", "teach", "paper")

# A kernel runs one notebook, so one module-level note of when it began and how is enough.
_session: dict[str, Any] = {"began": time.perf_counter(), "profile": "none", "chapter": None, "figure": {}, "table": {}}


def profile(
    name: str,
    *,
    smoke: Mapping[str, Any],
    teach: Mapping[str, Any],
    paper: Mapping[str, Any] | None = None,
    chapter: int | None = None,
) -> SimpleNamespace:
    """The settings of a notebook under one profile: `S = profile(PROFILE, smoke=dict(epochs=1), teach=dict(epochs=8))`.

    Args:
        name: `smoke` (tests, seconds), `teach` (a laptop's CPU, minutes) or `paper` (the full recipe). The environment
            variable FERKIT_PROFILE goes before it: nbval, unlike papermill, can not set a notebook's parameters.
        smoke: settings by name; the other profiles must give the same names.
        teach: the same for `teach`.
        paper: the same for `paper`; a notebook without a full recipe leaves it out and gets `teach`.
        chapter: the notebook's number, for those of its figures and tables.

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
            raise ValueError(
                f"profiles `teach` and `{other}` must name the same settings; only one has {', '.join(sorted(odd))}"
            )
    _session["profile"], _session["chapter"] = name, chapter
    return SimpleNamespace(profile=name, **choices[name])


def parameters_given(names: Mapping[str, Any], *, own: Collection[str], known: Collection[str]) -> dict[str, Any]:
    """What papermill wrote below the parameters cell, for a notebook whose parameters are the keys of something.

    papermill only warns of a parameter that the cell does not have, so a misspelt one would go unnoticed.

    Args:
        names: `globals()`, in the first cell after the parameters, before its own imports.
        own: names that the parameters cell itself has.
        known: names that may be given.

    Raises:
        ValueError: a name that is neither, with the nearest one that is.
    """
    from IPython import get_ipython

    shell = get_ipython()
    hidden = set(own) | set(shell.user_ns_hidden if shell is not None else ())
    plain = str | int | float | list | dict | None
    given = {
        name: value
        for name, value in names.items()
        if name not in hidden and not name.startswith("_") and isinstance(value, plain)
    }
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, [*known, *own], n=1)
            raise ValueError(f"the notebook has no parameter {name!r}{f'; did you mean {close[0]}?' if close else ''}")
    return given


def number_of(kind: str, name: str) -> str:
    """The number of a "figure" or "table", such as 10.3: the next one for a new name,
    and again the same for a known one.

    Raises ValueError where no chapter is set.
    """
    if _session["chapter"] is None:
        raise ValueError(
            f"{kind} {name} has no chapter; name it where the settings are chosen: profile(..., chapter=10)"
        )
    names = _session[kind]
    return f"{_session['chapter']}.{names.setdefault(name, len(names) + 1)}"


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
