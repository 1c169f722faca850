"""Builds the notebooks of this folder from their sources in `py/`, and the tables made from `manifest.toml`.

    python notebooks/build.py [N ...]            run the sources and write the notebooks (all, or those numbered N)
    python notebooks/build.py --prose [N ...]    refresh text, links and ledger tables, keep other outputs; runs no code
    python notebooks/build.py --check            say what is not as a build would leave it; runs no code, writes nothing
    python notebooks/build.py --profile smoke --out DIR [N ...]      run under another profile, into another folder

The `.py` file (jupytext's percent format) is the source; the `.ipynb` is committed with its outputs because people read
it on GitHub. A hash of the code cells is stored in the notebook, so outputs that belong to other code are found out.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import sys
import tempfile
import time
import tomllib
import uuid
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `notebooks.words`, when this file is run as a script

from ferkit.files import replacing, write_text  # noqa: E402
from ferkit.notebook import PROFILES, RECORD_MIME, numbered, records_in  # noqa: E402
from notebooks import pages, words  # noqa: E402

NOTEBOOKS = ROOT / "notebooks"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Entry:
    """One notebook of `manifest.toml`."""

    slug: str
    title: str
    promise: str
    objectives: list[str]
    minutes: dict[str, float]  # by profile
    cpu: bool = True  # the paper profile is bearable without a GPU
    parameters: dict = field(default_factory=dict)  # by profile: values injected beside PROFILE
    records: dict = field(default_factory=dict)  # name -> [low, high] under the smoke profile
    form: int = 1  # 2: rewritten; held to the checks of tests/support/reading.py
    folder: Path = NOTEBOOKS

    @property
    def number(self) -> str:
        """NN."""
        return self.slug[:2]

    @property
    def source(self) -> Path:
        """The percent script."""
        return self.folder / "py" / f"{self.slug}.py"

    @property
    def path(self) -> Path:
        """The committed notebook."""
        return self.folder / f"{self.slug}.ipynb"


def read_manifest(folder: Path = NOTEBOOKS) -> list[Entry]:
    """The notebooks of a folder in reading order; a key the form does not have is an error."""
    entries, known = [], [name for name in Entry.__dataclass_fields__ if name != "folder"]
    for table in tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))["notebook"]:
        if unknown := sorted(set(table) - set(known)):
            raise ValueError(
                f"manifest.toml, {table.get('slug')}: unknown key {unknown[0]!r}; known: {', '.join(known)}"
            )
        entries.append(Entry(**table, folder=folder))
    if [e.slug for e in entries] != sorted({e.slug for e in entries}):
        raise ValueError("manifest.toml: notebooks must be listed once each, in the order of their numbers")
    return entries


# --------------------------------------------------------------------------------------------------- source -> notebook


def tags(cell: NotebookNode) -> list[str]:
    """A cell's tags."""
    return list(cell.metadata.get("tags", []))


def fingerprint(notebook: NotebookNode) -> str:
    """sha256 of the code cells, equal for a source and its notebook; cells injected by papermill do not count."""
    code = [c.source.rstrip() for c in notebook.cells if c.cell_type == "code" and "injected-parameters" not in tags(c)]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def assemble(entry: Entry, entries: list[Entry]) -> NotebookNode:
    """The notebook without outputs: the source's cells and the generated ones, stable cell ids, clean metadata."""
    if not entry.source.is_file():
        raise FileNotFoundError(f"{entry.slug} is in manifest.toml but py/{entry.source.name} does not exist")
    cells = [c for c in jupytext.read(entry.source).cells if "generated" not in tags(c)]
    links, references = (
        navigation(entry, entries),
        words.reference_list("\n".join(c.source for c in cells if c.cell_type == "markdown")),
    )
    for cell in cells:
        if cell.cell_type == "markdown":
            cell["source"] = words.with_links(words.with_citations(cell.source))
    cells.insert(min(1, len(cells)), _generated(f"{times(entry)}\n\n{links}"))
    cells += [_generated(text) for text in (references, links) if text]
    seen: dict[str, int] = {}
    for cell in cells:
        # an id made of the content stays when cells are inserted elsewhere, and so keeps diffs quiet
        digest = hashlib.sha256(f"{cell.cell_type}{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = f"{digest}-{seen[digest]}"
        cell["metadata"] = _cell_metadata(cell)
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})


def _cell_metadata(cell: NotebookNode) -> NotebookNode:
    """Tags only; JupyterLab folds a solution, and the code of a cell tagged hide-input, until its bar is clicked."""
    kept = NotebookNode({"tags": tags(cell)} if tags(cell) else {})
    if "hide-input" in tags(cell):
        kept["jupyter"] = {"source_hidden": True}
    if "solution" in tags(cell):
        kept["jupyter"] = (
            {"source_hidden": True, "outputs_hidden": True} if cell.cell_type == "code" else {"source_hidden": True}
        )
    return kept


def _generated(text: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": ["generated"]})


def times(entry: Entry) -> str:
    """How long the notebook takes, by profile."""
    spans = " · ".join(f"`{p}` {span(entry.minutes[p])}" for p in PROFILES if p in entry.minutes)
    return (
        f"*Time on a laptop's CPU, by profile: {spans}.*"
        if entry.cpu
        else f"*Time by profile (`paper` on a GPU): {spans}.*"
    )


def span(minutes: float) -> str:
    """A duration in words: 20 s, 6 min, 3 h."""
    if minutes < 1:
        return f"{minutes * 60:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def navigation(entry: Entry, entries: list[Entry]) -> str:
    """Links to the previous and next notebook and to the contents."""
    at = entries.index(entry)
    before = entries[at - 1] if at else None
    after = entries[at + 1] if at + 1 < len(entries) else None
    links = [f"← [{before.number} · {before.title}]({before.path.name})"] if before else []
    links.append("[Contents](../README.md#the-notebooks)")
    links += [f"[{after.number} · {after.title}]({after.path.name}) →"] if after else []
    return " | ".join(links)


def fill(notebook: NotebookNode, ran: NotebookNode) -> NotebookNode:
    """Writes the numbers of a run into the text: records, and the numbers of figures and tables.

    Raises:
        ValueError: the text quotes or refers to something that the run does not have.
    """
    records, numbers = records_in(ran.cells, "the notebook"), numbered(ran.cells, "the notebook")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell["source"] = words.filled(cell.source, records, numbers)
    return notebook


def with_solutions(notebook: NotebookNode) -> NotebookNode:
    """With each folded solution as code to run, as tests do: its Python, and the check above it once more."""
    notebook, cells, check = nbformat.from_dict(notebook), [], ""
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code" and re.search(r"^check\(", cell.source, re.M):
            check = cell.source
        elif cell.cell_type == "markdown":
            for code in solutions(cell.source):
                cells.append(nbformat.v4.new_code_cell(f"{code}\n{check}"))
                check = ""  # it belongs to this exercise alone
    notebook["cells"] = cells
    return notebook


def solutions(text: str) -> list[str]:
    """The Python of each folded solution in a text; empty for one in words alone."""
    folded = re.findall(r"<details>\s*<summary>\s*(?:<b>)?Solution.*?</details>", text, re.S)
    return ["\n".join(re.findall(r"^```python\n(.*?)^```", part, re.M | re.S)) for part in folded]


# ---------------------------------------------------------------------------------------------------- run and normalise


def private_kernels(base: type | None = None) -> type:
    """A kernel manager (of class `base`) that talks over sockets in the file system, where there are such.

    The default picks free TCP ports before the kernel binds them, so kernels that start at the same time can get each
    other's: one then dies, or waits for ever.
    """
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import CaselessStrEnum, default

    if os.name != "posix":
        return base or AsyncKernelManager

    class PrivateKernelManager(base or AsyncKernelManager):
        transport = CaselessStrEnum(["tcp", "ipc"], default_value="ipc", config=True)

        @default("ip")
        def _own_path(self) -> str:
            return str(Path(tempfile.gettempdir(), f"kernel-{uuid.uuid4().hex[:16]}"))

    return PrivateKernelManager


def hear_replies() -> None:
    """Keeps papermill from waiting for ever after a cell with a live control,
    which on a busy machine one in a hundred did.

    nbclient answers the control through the socket on which it waits for the cell's reply. If the reply comes in just
    then, sending uses up the signal that would have woken the waiting (nteract/papermill#723, jupyter/nbclient#312).
    Asking the socket for its events after each answer sets the signal again.
    """
    import zmq
    from nbclient.output_widget import OutputWidget

    plain = OutputWidget.send
    if plain.__name__ == "send_and_look":
        return

    def send_and_look(widget: OutputWidget, *args: object, **options: object) -> None:
        plain(widget, *args, **options)
        widget.kernel_client.shell_channel.socket.get(zmq.EVENTS)

    OutputWidget.send = send_and_look


def execute(notebook: NotebookNode, profile: str, parameters: dict) -> tuple[NotebookNode, float]:
    """Runs a notebook by papermill in an empty working directory; the executed notebook and its seconds.

    The seconds are those of the clock or of the processor, whichever are fewer: on a busy machine the clock counts what
    others do, on an idle one the processor counts every thread.

    Raises:
        ValueError: a parameter that the notebook's parameters cell does not have (papermill only warns of it).
    """
    import papermill

    with tempfile.TemporaryDirectory() as scratch:
        blank, done = Path(scratch, "in.ipynb"), Path(scratch, "out.ipynb")
        nbformat.write(notebook, blank)
        known = papermill.inspect_notebook(str(blank))
        values = {"PROFILE": profile, **parameters} if "PROFILE" in known else dict(parameters)
        # A value equal to the one written in the cell is not injected, so the built notebook is the source's, cell for
        # cell.
        values = {
            name: v for name, v in values.items() if name not in known or known[name]["default"].strip("\"'") != str(v)
        }
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(
                f"the notebook has no parameter {unknown[0]!r}; its parameters cell has {', '.join(known) or 'none'}"
            )
        hear_replies()
        began, worked = time.perf_counter(), _work_of_children()
        papermill.execute_notebook(
            str(blank),
            str(done),
            parameters=values,
            cwd=scratch,
            log_output=False,
            kernel_manager_class=private_kernels(),
        )
        seconds = min(time.perf_counter() - began, _work_of_children() - worked)
        return nbformat.read(done, as_version=4), seconds


def _work_of_children() -> float:
    """Processor seconds of ended child processes, such as kernels; infinite where the system does not say."""
    times = os.times()
    return times.children_user + times.children_system if os.name == "posix" else float("inf")


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Removes what differs from run to run or breaks GitHub's view: widget state and views, timestamps, machine paths.
    """
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        cell["metadata"] = _cell_metadata(cell)
        if cell.cell_type != "code":
            continue
        kept: list[NotebookNode] = []
        for output in cell.outputs:
            # the static figure beside it is what a reader without a kernel sees
            if WIDGET_VIEW in output.get("data", {}):
                continue
            output.get("metadata", {}).pop("execution", None)
            if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
                kept[-1]["text"] += output.text
            else:
                kept.append(output)
        for output in kept:
            if RECORD_MIME in output.get("data", {}):
                output["data"] = {RECORD_MIME: output["data"][RECORD_MIME]}  # older builds also showed a line of text
            if output.output_type == "stream":
                # of a line redrawn by a progress bar only the last state is read
                output["text"] = _clean(re.sub(r"[^\n]*\r(?=[^\n])", "", output.text).replace("\r\n", "\n"))
            for mime, value in output.get("data", {}).items():
                if mime.startswith("text/") and isinstance(value, str):
                    output["data"][mime] = _clean(value)
        cell["outputs"] = kept
    notebook["metadata"] = NotebookNode({k: v for k, v in notebook.metadata.items() if k == "ferkit"})
    notebook.metadata.update({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    return notebook


def _clean(text: str) -> str:
    text = re.sub(r"/\S*/ipykernel_\d+/\d+\.py", "<cell>", text)
    text = re.sub(r"\b0x[0-9a-f]{8,}\b", "0x…", text)
    for path, shown in (
        (str(ROOT), "."),
        (sys.prefix, "<python>"),
        (str(Path.home()), "~"),
        (tempfile.gettempdir(), "<tmp>"),
    ):
        text = re.sub(re.escape(path) + r"(?=[/\s'\"<)]|$)", shown, text)
    return text


def shown_rows(cell: NotebookNode) -> dict[str, str] | None:
    """What a code cell that ends in `ledger_table(...)` shows of the ledgers as they are now; None for any other cell.

    Ledgers are text that is mended like prose, so a committed table follows them without running the notebook.
    Arguments are literals, or a list of them that the same cell makes.
    """
    if cell.cell_type != "code" or "ledger_table(" not in cell.source:
        return None
    *before, last = ast.parse(cell.source).body
    call = getattr(last, "value", None)
    if not (
        isinstance(last, ast.Expr) and isinstance(call, ast.Call) and getattr(call.func, "id", "") == "ledger_table"
    ):
        return None
    from ferkit.notebook import ledger_table

    literal = [
        s for s in before if isinstance(s, ast.Assign | ast.AugAssign) and isinstance(s.value, ast.List | ast.Constant)
    ]
    names: dict = {"ledger_table": ledger_table}
    exec(compile(ast.Module(literal, type_ignores=[]), "<cell>", "exec"), names)
    table = eval(compile(ast.Expression(call), "<cell>", "eval"), names)
    return {"text/html": _clean(table._repr_html_()), "text/plain": _clean(repr(table))}


def build(entry: Entry, entries: list[Entry], profile: str, out: Path) -> Path:
    """Executes a source under a profile and writes the notebook; a failed run leaves the old file as it was."""
    import torch

    for name in ("FERKIT_PROFILE", "FERKIT_WIDGETS"):  # meant for tests; here they would belie the stamp
        os.environ.pop(name, None)
    notebook, seconds = execute(assemble(entry, entries), profile, entry.parameters.get(profile, {}))
    notebook = fill(normalise(notebook), notebook)
    notebook.metadata["ferkit"] = {
        "fingerprint": fingerprint(notebook),
        "profile": profile,
        "ferkit": metadata.version("ferkit"),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "seconds": round(seconds),
    }
    return write(notebook, out / entry.path.name)


def write(notebook: NotebookNode, path: Path) -> Path:
    """Writes a notebook in one step."""
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)
    return path


def refresh_prose(entry: Entry, entries: list[Entry]) -> bool:
    """Brings text, numbers, links and ledger tables of a committed notebook up to date;
    False when its code is another's.
    """
    fresh, old = assemble(entry, entries), nbformat.read(entry.path, as_version=4)
    if fingerprint(fresh) != fingerprint(old):
        return False
    outputs = iter([cell for cell in old.cells if cell.cell_type == "code"])
    for cell in fresh.cells:
        if cell.cell_type == "code":
            ran = next(outputs)
            cell["outputs"], cell["execution_count"] = ran.outputs, ran.execution_count
            if rows := shown_rows(cell):
                for output in cell.outputs:
                    if output.output_type == "execute_result":
                        output["data"].update(rows)
    fresh.metadata["ferkit"] = old.metadata.get("ferkit", {})
    write(fill(normalise(fresh), old), entry.path)
    return True


# ------------------------------------------------------------------------------------------------- README and the check


def notebook_table(entries: list[Entry]) -> str:
    """README's table of notebooks."""
    lines = ["| | notebook | what you do | teach | paper | laptop CPU |", "|---|---|---|---|---|---|"]
    for e in entries:
        paper = span(e.minutes["paper"]) if "paper" in e.minutes else "–"
        teach = span(e.minutes["teach"])
        cpu = "yes" if e.cpu else "teach only"
        lines.append(f"| {e.number} | [{e.title}](notebooks/{e.path.name}) | {e.promise} | {teach} | {paper} | {cpu} |")
    return "\n".join(lines)


def readme_text(text: str, entries: list[Entry]) -> str:
    """README with its generated parts filled between their markers."""
    for name, content in (("notebooks", notebook_table(entries)), ("results", pages.results_table())):
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"README.md must hold the markers {begin} and {end} once each")
        text = text[: text.index(begin) + len(begin)] + f"\n{content}\n" + text[text.index(end) :]
    return text


def complaints(entry: Entry, entries: list[Entry], committed: NotebookNode | None = None) -> list[str]:
    """What is not as a build would leave this notebook; `committed` stands in for the file in tests."""
    if committed is None:
        if not entry.path.is_file():
            return [f"{entry.path.name} is missing: make notebooks N={entry.number}"]
        committed = nbformat.read(entry.path, as_version=4)
    fresh, stamp = assemble(entry, entries), committed.metadata.get("ferkit", {})
    found = []
    if fingerprint(fresh) != fingerprint(committed) or stamp.get("fingerprint") != fingerprint(committed):
        found.append(
            f"{entry.path.name} shows outputs of other code than {entry.source.name} has: make "
            f"notebooks N={entry.number}"
        )
    else:
        try:
            fill(fresh, committed)
        except ValueError as error:
            found.append(f"{entry.path.name}: {error}")
        if [(c.id, c.source, tags(c)) for c in fresh.cells] != [(c.id, c.source, tags(c)) for c in committed.cells]:
            found.append(
                f"{entry.path.name} has other text or links than its source, its records and manifest.toml: make prose"
            )
        if any(
            out.data != rows
            for c in committed.cells
            if (rows := shown_rows(c))
            for out in c.outputs
            if out.output_type == "execute_result"
        ):
            found.append(f"{entry.path.name} shows rows that a ledger has no more: make prose")
    if stamp.get("profile") != "teach":
        found.append(
            f"{entry.path.name} was built under profile {stamp.get('profile')!r}, not 'teach': make "
            f"notebooks N={entry.number}"
        )
    return found


def check() -> list[str]:
    """All complaints about notebooks and README."""
    entries = read_manifest()
    found = [line for entry in entries for line in complaints(entry, entries)]
    known = {entry.slug for entry in entries}
    for path in [*NOTEBOOKS.glob("*.ipynb"), *(NOTEBOOKS / "py").glob("*.py")]:
        if path.stem not in known:
            found.append(f"{path.relative_to(ROOT)} is not in manifest.toml")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if text != readme_text(text, entries):
        found.append("README.md's tables are out of date: make prose")
    return found + pages.stale_ledgers()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", metavar="N", help="notebook numbers; none means all")
    parser.add_argument("--profile", choices=PROFILES, default="teach")
    parser.add_argument("--out", type=Path, default=NOTEBOOKS, help="folder to write to")
    mode = parser.add_mutually_exclusive_group()
    for name in ("check", "prose"):
        mode.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    entries = read_manifest()
    if unknown := sorted({n.zfill(2) for n in args.numbers} - {e.number for e in entries}):
        parser.error(f"no notebook {unknown[0]} in manifest.toml; it has {', '.join(e.number for e in entries)}")
    if args.profile != "teach" and args.out == NOTEBOOKS:
        parser.error("the notebooks in this folder are built under the teach profile; give --out DIR for another")
    chosen = [e for e in entries if not args.numbers or e.number in {n.zfill(2) for n in args.numbers}]
    if args.check:
        found = check()
        print("\n".join(found) or "Notebooks and README are as built.")
        return bool(found)
    status = 0
    for entry in chosen:
        if args.prose:
            if not entry.path.is_file() or not refresh_prose(entry, entries):
                why = "its code is not the code that ran" if entry.path.is_file() else "it is not built yet"
                print(f"{entry.slug}: {why}; make notebooks N={entry.number}")
                status = 1
        else:
            path = build(entry, entries, args.profile, args.out)
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if args.out == NOTEBOOKS and text != readme_text(text, entries):
        write_text(readme, readme_text(text, entries))
    if args.out == NOTEBOOKS:
        pages.write_ledgers()
    return status


if __name__ == "__main__":
    raise SystemExit(main())
