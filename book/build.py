"""Builds the book: the committed notebooks, executed as they are, as a searchable site in build/book/html.

    python book/build.py          warnings are errors, and every link inside the book is followed

Nothing is run. The text comes from the sources in notebooks/py, so that citations, terms, figures and ledger rows
become links of the book; the outputs come from the committed notebooks.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import jupytext
import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `notebooks`, when this file is run as a script

from ferkit import papers  # noqa: E402
from ferkit.notebook import RECORD_MIME, numbered, records_in  # noqa: E402
from notebooks import build as notebooks  # noqa: E402
from notebooks import pages, words  # noqa: E402
from notebooks.build import Entry, tags  # noqa: E402

BOOK = ROOT / "book"
OUT = ROOT / "build" / "book"
IMAGES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}


def main() -> int:
    """The command line."""
    site = build(OUT)
    found = broken_links(site)
    print("\n".join(found) or f"The book is in {site}/index.html")
    return bool(found)


def build(out: Path, entries: list[Entry] | None = None) -> Path:
    """Write the sources to out/source and the site to out/html; its folder. `entries`: the chapters, by default all."""
    source, site = out / "source", out / "html"
    shutil.rmtree(out, ignore_errors=True)
    (source / "chapters").mkdir(parents=True)
    entries = notebooks.read_manifest() if entries is None else entries
    shutil.copytree(BOOK / "_static", source / "_static")
    for entry in entries:
        nbformat.write(chapter(entry, source), source / "chapters" / entry.path.name)
    for name, text in page_texts(entries).items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    typeset(source, site)
    return site


def typeset(source: Path, site: Path) -> None:
    """Run Sphinx. Raises CalledProcessError at any warning."""
    command = [
        sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "2", "-b", "html", "-c",
        str(BOOK),
        str(source),
        str(site),
    ]
    subprocess.run(command, cwd=ROOT, check=True)


# ------------------------------------------------------------------------------------------------------------- chapters


def chapter(entry: Entry, source: Path) -> NotebookNode:
    """A chapter as the book shows it; its pictures are written below source/figures.

    Raises ValueError if the committed notebook is not of this source.
    """
    written, ran = jupytext.read(entry.source), nbformat.read(entry.path, as_version=4)
    if notebooks.fingerprint(written) != notebooks.fingerprint(ran):
        raise ValueError(
            f"{entry.path.name} shows outputs of other code than {entry.source.name} has: make "
            f"notebooks N={entry.number}"
        )
    records, numbers = records_in(ran.cells, entry.path.name), numbered(ran.cells, entry.path.name)
    outputs = iter([cell for cell in ran.cells if cell.cell_type == "code"])
    cells: list[NotebookNode] = []
    for cell in written.cells:
        if cell.cell_type == "markdown":
            text = words.filled(
                book_text(cell.source), records, numbers, lambda key, number: f"[{number}](#{target(number)})"
            )
            cells.append(nbformat.v4.new_markdown_cell(text))
        else:
            cells += code_cells(cell, next(outputs), entry, source)
    cells.insert(1, nbformat.v4.new_markdown_cell(notebooks.times(entry)))
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": notebooks.KERNEL, "language_info": {"name": "python"}}
    )


def target(number: str) -> str:
    """The name of a figure or table inside the book: "Figure 12.1" as figure-12-1."""
    return re.sub(r"\W+", "-", number.lower())


def book_text(text: str) -> str:
    """A notebook's text with citations, terms and ledger rows as links of the book, and links to files that are in it.
    """
    text = words.CITATION.sub(lambda m: f"{{cite:p}}`{words.cited(m.group(1)) and m.group(1)}`", text)
    return relinked(words.with_links(text), "..")


def relinked(text: str, up: str) -> str:
    """Links of a notebook or page of the repository as links of the book; `up` is the book's root, seen from the text.

    What is not in the book, such as a benchmark, keeps its words and loses its link.
    """

    def link(match: re.Match[str]) -> str:
        shown, path, _, anchor = match.group(1), *match.group(2).partition("#")
        name = path.rpartition("/")[2]
        if "://" in path or (not path and anchor) or re.fullmatch(r"\d\d_\w+\.ipynb", path):
            return match.group(0)
        if path.endswith("glossary.md"):
            return f"[{shown}]({up}/glossary.md#{anchor})"
        if "/ledger/" in path or path.endswith("glossary.md"):
            return f"[{shown}](#{anchor})" if anchor else f"[{shown}]({up}/ledger/{name})"
        if path.endswith("data/README.md"):
            return f"[{shown}]({up}/data.md)"
        if path.endswith("README.md"):
            return f"[{shown}]({up}/{'results' if anchor == 'measured-results' else 'index'}.md)"
        if "data/weights/" in path and path.endswith(".md"):
            return f"[{shown}]({up}/weights/{name})"
        return f"{shown} (`{path.removeprefix('../')}`)"

    return re.sub(r"(?<!!)\[([^\]\[]*)\]\(([^)\s]+)\)", link, text)


def code_cells(cell: NotebookNode, ran: NotebookNode, entry: Entry, source: Path) -> list[NotebookNode]:
    """A code cell with its outputs; figures and tables follow it as text, so that the book knows number,
    caption and alt text.
    """
    first = nbformat.v4.new_code_cell(
        cell.source, execution_count=ran.execution_count, metadata={"tags": shown_tags(cell)}
    )
    cells, current = [first], first
    for output in ran.outputs:
        note = output.get("metadata", {}).get("ferkit", {})
        if RECORD_MIME in output.get("data", {}) or "caption_of" in note:
            continue
        if "kind" in note:
            cells.append(nbformat.v4.new_markdown_cell(numbered_text(output, note, entry, source)))
            current = None
            continue
        if current is None:  # an output behind a figure: a cell without its code
            current = nbformat.v4.new_code_cell("", metadata={"tags": ["remove-input"]})
            cells.append(current)
        current.outputs.append(book_output(output))
    return cells


def shown_tags(cell: NotebookNode) -> list[str]:
    """myst-nb's own tags: folded code, and a folded solution with its outputs."""
    return ["hide-cell"] if "solution" in tags(cell) else ["hide-input"] if "hide-input" in tags(cell) else []


def book_output(output: NotebookNode) -> NotebookNode:
    """An output whose links lead to the pages of the book."""
    output = nbformat.from_dict(output)
    if "text/html" in output.get("data", {}):
        output.data["text/html"] = output.data["text/html"].replace('"../book/', '"../').replace(".md#", ".html#")
    return output


def numbered_text(output: NotebookNode, note: NotebookNode, entry: Entry, source: Path) -> str:
    """A figure or table as Markdown of the book."""
    label = f"{note.kind.capitalize()} {note.number}"
    caption = f"**{label}.** {relinked(note.caption, '..')}"
    mime = next((m for m in IMAGES if m in output.data), None)
    if mime is None:
        page = book_output(output).data["text/html"]
        parts = [f"({target(label)})=\n{caption}", f"`````{{raw}} html\n{page}\n`````"]
        return "\n\n".join(parts if note.kind == "table" else reversed(parts))
    file = source / "figures" / f"{entry.number}-{note.name}.{IMAGES[mime]}"
    file.parent.mkdir(exist_ok=True)
    content = output.data[mime]
    file.write_bytes(content.encode() if mime == "image/svg+xml" else base64.b64decode(content))
    alt = " ".join(note.alt.split())
    return f":::::{{figure}} ../figures/{file.name}\n:name: {target(label)}\n:alt: {alt}\n\n{caption}\n:::::"


# ---------------------------------------------------------------------------------------------------------- other pages


def page_texts(entries: list[Entry]) -> dict[str, str]:
    """Every page that is no chapter, by its name below the sources."""
    found = {
        "index.md": (BOOK / "index.md").read_text(encoding="utf-8").replace("<!-- cards -->", cards(entries)),
        "glossary.md": (BOOK / "glossary.md").read_text(encoding="utf-8"),
        "exported.md": (BOOK / "exported.md").read_text(encoding="utf-8"),
        "bibliography.md": "# Bibliography\n\n```{bibliography}\n:all:\n```\n",
        "data.md": relinked((ROOT / "data" / "README.md").read_text(encoding="utf-8"), "."),
        "ledger.md": "# The papers' claims\n\n"
        + LEDGER_INTRODUCTION
        + toctree(f"ledger/{key}" for key in papers.keys()),
    }
    for path in sorted((BOOK / "ledger").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        found[f"ledger/{path.name}"] = re.sub(r'^<a id="([\w-]+)"></a>$', r"(\1)=", text, flags=re.M)
    cards_of_weights = sorted((ROOT / "data" / "weights").glob("*.md"))
    for path in cards_of_weights:
        found[f"weights/{path.name}"] = relinked(path.read_text(encoding="utf-8"), "..")
    table = re.sub(r"\[([^\]]*)\]\(data/results/[^)]*\)", r"\1", pages.results_table())
    found["results.md"] = (
        f"# Measured results\n\n{RESULTS_INTRODUCTION}\n\n{table}\n\n## The "
        f"shelf\n\n{SHELF_INTRODUCTION}\n\n{pages.shelf_tables()}\n\n## Trained weights\n\n"
    ) + toctree(f"weights/{path.stem}" for path in cards_of_weights)
    return found


LEDGER_INTRODUCTION = """Everything that the chapters say of the four papers stands here, claim by claim: what the
paper says, what the released code does, what we do, where each can be read, and how they relate.

"""
RESULTS_INTRODUCTION = """Every line comes from a record in `data/results/`, written by the run it describes: selected
on a validation split, tested once. Intervals are 95 % bootstrap intervals over images; they do not cover the choice of
the seed."""
SHELF_INTRODUCTION = """Longer runs than a reader's machine would make in minutes, each made by one committed command.
The chapters draw them beside your own."""


def toctree(names: object) -> str:
    """A visible list of pages."""
    return "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"  # type: ignore[arg-type]


def cards(entries: list[Entry]) -> str:
    """A card per chapter, with its promise."""
    lines = ["::::{grid} 1 2 2 3", ":gutter: 3", ""]
    for e in entries:
        lines += [
            f":::{{grid-item-card}} {e.number} · {e.title}",
            f":link: chapters/{e.slug}",
            ":link-type: doc",
            "",
            e.promise,
            ":::",
            "",
        ]
    return "\n".join([*lines, "::::"])


# ---------------------------------------------------------------------------------------------------------------- links


class _Page(HTMLParser):
    """The ids and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {value for value in (values.get("id"), values.get("name")) if value}
        self.links += [value for value in (values.get("href"), values.get("src")) if value]


def broken_links(site: Path) -> list[str]:
    """Links of the site's pages to files or places inside it that do not exist."""
    parsed: dict[Path, _Page] = {}
    for path in (p for p in site.rglob("*.html") if "_static" not in p.parts):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        parsed[path.resolve()] = page
    found = []
    for path, page in parsed.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            where, _, anchor = link.partition("#")
            to = (path.parent / unquote(where.partition("?")[0])).resolve() if where else path
            name = f"{path.relative_to(site.resolve())}: {link}"
            if not to.exists():
                found.append(f"{name} leads to no file")
            elif anchor and to in parsed and unquote(anchor) not in parsed[to].ids:
                found.append(f"{name} leads to no place on its page")
    return sorted(set(found))


if __name__ == "__main__":
    raise SystemExit(main())
