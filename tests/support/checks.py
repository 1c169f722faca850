"""What a notebook must be, as functions that return complaints.

Every one of them is tried on a bad notebook in tests/guards.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import math
import re
import textwrap
from pathlib import Path

from nbformat import NotebookNode

from notebooks import build
from notebooks.build import Entry, tags

MAX_MB = 1.0
MAX_SAME_AS_LINES = 60
# As the tests run it, with every option of every control drawn once; a reader's smoke run, without that, is to stay
# under 60.
SMOKE_SECONDS = 270
# Spelt in pieces so that this file does not name them itself.
MACHINE_PATHS = re.compile(
    "|".join(
        [
            r"(?<![\w.])/" + p
            for p in (
                r"work/\w",
                r"root/\w",
                "opt/" + "wheels",
                "opt/" + "pypi",
                r"home/\w+/",
                r"Users/\w+/",
                r"tmp/\w",
            )
        ]
    )
    + r"|[A-Z]:\\Users\\"
)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# ----------------------------------------------------------------------------------------------------------- the source


def parameters(notebook: NotebookNode, profile: str = "teach") -> list[str]:
    """The first code cell, and only it, is tagged `parameters`; it assigns literals and PROFILE, by default `profile`.
    """
    cells = code_cells(notebook)
    tagged = [cell for cell in cells if "parameters" in tags(cell)]
    if len(tagged) != 1 or tagged[0] is not cells[0]:
        return [f"the first code cell, and only it, must be tagged `parameters`; {len(tagged)} cells are"]
    found, names = [], {}
    for statement in ast.parse(tagged[0].source).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        try:
            names[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError, TypeError):
            found.append(
                f"parameters cell: `{ast.unparse(statement)}` is not NAME = literal; derive values in the next cell"
            )
    if not found and names.get("PROFILE") != profile:
        found.append(f'parameters cell: PROFILE = "{profile}" is missing')
    return found


def section(notebook: NotebookNode, heading: str) -> str | None:
    """The text under a heading up to the next one of any level; None when there is no such heading."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    match = re.search(rf"^#+ +(?:[\d.]+ (?:· )?)?{heading}\b.*?$(.*?)(?=^#+ |\Z)", text, re.M | re.S | re.I)
    return match and match.group(1)


def bullets(text: str) -> list[str]:
    """The items of the lists in a text, with wrapped lines joined."""
    items = re.findall(r"^\s*(?:[-*]|\d+\.) +(.+(?:\n(?!\s*(?:[-*]|\d+\.) |\s*\n).+)*)", text, re.M)
    return [re.sub(r"\s+", " ", item).strip() for item in items]


def anatomy(notebook: NotebookNode, entry: Entry) -> list[str]:
    """Heading, promise, objectives, recap and the parts its number band must have, as the manifest says."""
    found = []
    opening = re.sub(r"\s+", " ", notebook.cells[0].source)
    if not notebook.cells[0].source.startswith(f"# {entry.number} · {entry.title}\n"):
        found.append(f"the first cell must begin with `# {entry.number} · {entry.title}`")
    if entry.promise not in opening:
        found.append("the first cell must hold the manifest's promise, word for word")
    for heading in ("Objectives", "Recap"):
        text = section(notebook, heading)
        if text is None:
            found.append(f"there is no `## {heading}`")
        elif bullets(text) != entry.objectives:
            found.append(
                f"the list under `## {heading}` is not the manifest's objectives: {bullets(text)} against "
                f"{entry.objectives}"
            )
    source = "\n".join(cell.source for cell in code_cells(notebook))
    foundation, paper = 1 <= int(entry.number) < 40, 10 <= int(entry.number) < 20
    solutions = [cell for cell in notebook.cells if "solution" in tags(cell)]
    if foundation and section(notebook, "Exercises") is None:
        found.append("there is no `## Exercises`")
    if foundation and not solutions:
        found.append("no cell is tagged `solution`")
    if paper and section(notebook, "Why our number differs") is None:
        found.append("a paper's notebook needs `## Why our number differs`")
    if paper and "ledger_table(" not in source:
        found.append("a paper's notebook must show its ledger with ledger_table(...)")
    if "footer(" not in (code_cells(notebook)[-1].source if code_cells(notebook) else ""):
        found.append("the last code cell must call footer()")
    return found


def same_as(notebook: NotebookNode) -> list[str]:
    """A cell tagged `same-as:dotted.name` defines what the library does: equal syntax trees but for docstrings."""
    found = []
    for cell in notebook.cells:
        for name in (tag.partition(":")[2] for tag in tags(cell) if tag.startswith("same-as:")):
            if (lines := len(cell.source.splitlines())) > MAX_SAME_AS_LINES:
                found.append(f"same-as:{name}: {lines} lines; an inline idea has at most {MAX_SAME_AS_LINES}")
            inline = [n for n in ast.parse(cell.source).body if getattr(n, "name", None) == name.rpartition(".")[2]]
            if len(inline) != 1:
                found.append(f"same-as:{name}: the cell must define {name.rpartition('.')[2]} once")
                continue
            try:
                library = ast.parse(textwrap.dedent(inspect.getsource(_resolve(name)))).body[0]
            except (ImportError, AttributeError) as error:
                found.append(f"same-as:{name}: no such thing in the library ({error})")
                continue
            if _tree(inline[0]) != _tree(library):
                found.append(f"same-as:{name}: the cell and the library differ; copy the library's definition")
    return found


def _resolve(name: str) -> object:
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[cut:], module)
    raise ImportError(name)


def _tree(node: ast.AST) -> str:
    for inner in ast.walk(node):
        body = getattr(inner, "body", None)
        if (
            isinstance(body, list)
            and isinstance(inner, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(inner)
        ):
            inner.body = body[1:] or [ast.Pass()]
    return ast.dump(node)


def links(text: str, folder: Path) -> list[str]:
    """Relative links and images in a Markdown text lead to files that exist; anchors here to headings or `<a id>`."""
    found = []
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text):
        if re.match(r"[a-z]+:", target) or target.startswith(("attachment:", "data:")):
            continue
        path, _, anchor = target.partition("#")
        file = folder / path if path else None
        if file is not None and not file.exists():
            found.append(f"link to {target}, which does not exist")
        elif anchor and (file is None or file.suffix == ".md"):
            content = text if file is None else file.read_text(encoding="utf-8")
            known = {
                re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-")
                for h in re.findall(r"^#+ +(.+?)\s*$", content, re.M)
            } | set(re.findall(r'<a id="([^"]+)"></a>', content))
            if anchor not in known:
                found.append(f"link to {target}, but there is no such heading or anchor")
    return found


def notebook_links(notebook: NotebookNode, entry: Entry, entries: list[Entry]) -> list[str]:
    """The links of the text cells; those to notebooks of the manifest hold even before these are built."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return [
        c
        for c in links(text, entry.folder)
        if not any(c == f"link to {e.path.name}, which does not exist" for e in entries)
    ]


def bands(entry: Entry) -> list[str]:
    """Every band is two finite numbers, low to high, that exclude something their unit allows."""
    found = []
    for name, band in entry.records.items():
        if (
            len(band) != 2
            or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in band)
            or band[0] > band[1]
        ):
            found.append(f"{entry.slug}: {name} = {band} is not [low, high]")
        elif name.endswith(("_frac", "_pct")) and band[1] - band[0] >= (1 if name.endswith("_frac") else 100):
            found.append(f"{entry.slug}: {name} = {band} is so wide that no value fails it")
    return found


# ----------------------------------------------------------------------------------------------- the committed notebook


def execution_order(notebook: NotebookNode) -> list[str]:
    """Executed once from top to bottom: counts 1, 2, 3 ... and no cell left out or empty."""
    cells = code_cells(notebook)
    if empty := sum(not cell.source.strip() for cell in cells):
        return [f"{empty} code cell(s) are empty"]
    counts = [cell.execution_count for cell in cells]
    return (
        []
        if counts == list(range(1, len(cells) + 1))
        else [f"execution counts are {counts}; expected 1 to {len(cells)} in order"]
    )


def outputs(notebook: NotebookNode) -> list[str]:
    """No errors, warnings, widget views or widget state, and no paths of the machine it was built on."""
    found = ["metadata.widgets is stored; GitHub refuses such notebooks"] if "widgets" in notebook.metadata else []
    for number, cell in enumerate(notebook.cells):
        where = f"cell {number}"
        if MACHINE_PATHS.search(cell.source):
            found.append(f"{where}: a machine's path in the source: {MACHINE_PATHS.search(cell.source).group()}…")
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                found.append(f"{where}: error output {output.ename}")
            if build.WIDGET_VIEW in output.get("data", {}):
                found.append(f"{where}: a live widget as output; its static twin belongs there")
            text = output.get("text", "") + "".join(
                v for k, v in output.get("data", {}).items() if k.startswith("text/")
            )
            if match := MACHINE_PATHS.search(text):
                found.append(f"{where}: a machine's path in the output: {match.group()}…")
            if output.get("name") == "stderr" and re.search(r"\w+Warning: ", text):
                found.append(f"{where}: a warning is shown: {re.search(r'.*Warning: .*', text).group()[:100]}")
    return found


def size(path: Path) -> list[str]:
    """At most 1 MB: GitHub renders it, and a clone stays small."""
    mb = path.stat().st_size / 1e6
    return [f"{path.name} has {mb:.2f} MB; at most {MAX_MB} (PNG at 100 dpi, fewer figures)"] if mb > MAX_MB else []


def minutes(notebook: NotebookNode, entry: Entry) -> list[str]:
    """The seconds the build took are not above twice what the manifest promises."""
    seconds, promised = notebook.metadata.get("ferkit", {}).get("seconds", math.inf), 60 * entry.minutes["teach"]
    return [f"{entry.slug}: took {seconds} s, the manifest promises {promised:.0f} s"] if seconds > 2 * promised else []


# ---------------------------------------------------------------------------------------------------------- after a run


def record_values(found: dict[str, float], entry: Entry) -> list[str]:
    """Every record lies in its band, every band has a record, every record a band."""
    complaints = [
        f"{entry.slug}: {name} is recorded but has no band in manifest.toml"
        for name in found
        if name not in entry.records
    ]
    for name, (low, high) in entry.records.items():
        if name not in found:
            complaints.append(f"{entry.slug}: {name} was not recorded")
        elif not low <= found[name] <= high:
            complaints.append(f"{entry.slug}: {name} = {found[name]} is outside [{low}, {high}]")
    return complaints


def widget_errors(executed: NotebookNode) -> list[str]:
    """Exceptions inside live controls. papermill stores them in the widget state and goes on
    as if nothing had happened.
    """
    state = executed.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    return [
        f"a control raised {output['ename']}: {output['evalue']}"
        for model in state.values()
        for output in model.get("state", {}).get("outputs", [])
        if output.get("output_type") == "error"
    ]


def budget(seconds: float) -> list[str]:
    """A smoke run takes a minute at most; `build.execute` says how long it took."""
    return [f"took {seconds:.0f} s; the budget is {SMOKE_SECONDS} s"] if seconds > SMOKE_SECONDS else []
