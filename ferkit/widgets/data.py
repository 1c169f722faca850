"""Are my data right, and where do I get them? The doctor and the list of sources, as plain functions and as panels."""

import html
from pathlib import Path

import ipywidgets
from IPython.display import HTML

from ferkit import labels
from ferkit.data import sources
from ferkit.doctor import SETS, Report, examine
from ferkit.widgets.controls import explore

_GUESS = "what it looks like"
_WORDS = "not told"


def doctor_report(path: str, set_name: str = _GUESS, order: str = _WORDS) -> Report | HTML:
    """Examine a data set; for an empty path, say what to type.

    Args:
        path: file or folder, as for `ferkit.doctor.examine`.
        set_name: one of `ferkit.doctor.SETS`, or the phrase that leaves it to the doctor.
        order: a key of `ferkit.labels.ORDERS` for classes that are numbers, or the phrase for none.

    Raises:
        NotRecognised: where no known data set lies at the path; in a panel this is one line.
    """
    if not path.strip():
        return HTML("<i>Type the path of a file or folder, such as data/raw/rafdb, and press Enter.</i>")
    return examine(
        Path(path.strip()),
        set_name=None if set_name == _GUESS else set_name,
        order=None if order == _WORDS else order,
        progress=False,
    )


def doctor_panel(path: str = "") -> None:
    """Type a path and see what the doctor says of it (see `doctor_report`); every change looks again,
    at changed files only.
    """
    explore(
        doctor_report,
        path=ipywidgets.Text(
            path, description="file or folder", placeholder="data/raw/rafdb", layout=ipywidgets.Layout(width="32em")
        ),
        set_name=ipywidgets.Dropdown(options=[_GUESS, *SETS], description="meant to be"),
        order=ipywidgets.Dropdown(options=[_WORDS, *labels.ORDERS], description="order of numbers"),
    )


def source_table(name: str = "all") -> HTML:
    """Where to get a data set, on what terms, how big it is, and how a copy is checked; of one set or of all.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    entries = sources.SOURCES if name == "all" else (sources.source(name),)
    lines = []
    for entry in entries:
        where = (
            f'<a href="{html.escape(entry.where)}">{html.escape(entry.where)}</a>'
            if entry.where.startswith("http")
            else html.escape(entry.where)
        )
        first = entry.name.split(", ")[0]
        fetch = (
            f"<code>python -m ferkit data get {first} --to data/raw/{first}</code>"
            if entry.get
            else "not by ferkit: the terms ask you to get it yourself"
        )
        facts = {
            "what": html.escape(entry.what),
            "where": where,
            "how": html.escape(entry.how),
            "terms": html.escape(entry.terms),
            "size": html.escape(entry.size),
            "is my copy right?": html.escape(entry.check),
            "download": fetch,
        }
        lines += [f"<tr><th colspan='2' style='text-align:left'>{html.escape(entry.title)}</th></tr>"]
        lines += [
            f"<tr><td style='text-align:left'>{key}</td><td style='text-align:left'>{value}</td></tr>"
            for key, value in facts.items()
        ]
    return HTML(f"<table>{''.join(lines)}</table>")


def source_panel(name: str = "fer2013") -> None:
    """Choose a data set and see how to get it (see `source_table`)."""
    names = [entry.split(", ")[0] for entry in (s.name for s in sources.SOURCES)]
    explore(
        lambda data_set: source_table(data_set),
        data_set=ipywidgets.Dropdown(options=["all", *names], value=name, description="data set"),
    )
