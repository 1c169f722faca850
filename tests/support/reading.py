"""What a rewritten notebook (`form = 2` in the manifest) must be for its reader, as functions that return complaints.

CONTRIBUTING.md says the same in words. Every check is tried on a bad notebook in tests/guards/test_reading_guards.py.
"""

from __future__ import annotations

import ast
import re

from nbformat import NotebookNode

from notebooks import build, words
from notebooks.build import Entry, tags
from tests.support.checks import bullets, code_cells, section

MOST_COLUMNS = 88
MOST_IMPORTS = 8
MOST_HIDDEN_LINES = 30
MOST_PRINTED = 8
MOST_LEDGER_ROWS = 6
LEAST_EXERCISES = 3
ANSWER_WITHIN = 6  # cells
PICTURE_WITHIN = 6
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
# Calls that draw. A lesson names what is shown; how it is drawn stands in ferkit.plots or in a cell tagged hide-input.
DRAWS = re.compile(
    r"\b(?:plt|ax|axes|fig|figure|axis)\w*(?:\[[^\]]*\])?\.\w+\(|\bsubplots\(|\bnew_figure\(|\.set_(?:title|[xy](?:label|ticks|lim))\("
    r"|\.annotate\(|\.legend\(|\bFancyArrow|\bRectangle\("
)


def text_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """The text cells that somebody wrote, with their places."""
    return [(i, c) for i, c in enumerate(notebook.cells) if c.cell_type == "markdown" and "generated" not in tags(c)]


def shown(cell: NotebookNode) -> bool:
    """Whether a reader sees the code of this cell."""
    return not {"hide-input", "solution"} & set(tags(cell))


def source(notebook: NotebookNode, entry: Entry) -> list[str]:
    """All that can be said before it runs."""
    checks = (opening, code, questions, exercises, strips, references, findings)
    return [f"{entry.slug}: {line}" for check in checks for line in check(notebook, entry)]


def committed(notebook: NotebookNode, entry: Entry) -> list[str]:
    """All that can be said of its outputs."""
    checks = (figures, printed, first_picture, ledger_rows, short_forms)
    return [f"{entry.slug}: {line}" for check in checks for line in check(notebook, entry)]


# ----------------------------------------------------------------------------------------------------------- the source


def opening(notebook: NotebookNode, entry: Entry) -> list[str]:
    """Heading and promise come first, the footer last, and a paper's notebook says what the paper reports."""
    first = re.sub(r"\s+", " ", notebook.cells[0].source)
    found = []
    if not notebook.cells[0].source.startswith(f"# {entry.number} · {entry.title}\n"):
        found.append(f"the first cell must begin with `# {entry.number} · {entry.title}`")
    if entry.promise not in first:
        found.append("the first cell must hold the manifest's promise, word for word")
    if "footer(" not in (code_cells(notebook)[-1].source if code_cells(notebook) else ""):
        found.append("the last code cell must call footer()")
    if 10 <= int(entry.number) < 20 and section(notebook, "What the paper reports") is None:
        found.append("a paper's notebook needs `## What the paper reports, and what can be checked`")
    return found


def code(notebook: NotebookNode, entry: Entry) -> list[str]:
    """Nothing runs off the page, imports stand folded in one cell, and what is shown does not draw."""
    found, imports = [], []
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        lines = cell.source.splitlines()
        found += [
            f"cell {i}: {len(line)} columns, at most {MOST_COLUMNS}: {line.strip()[:50]}"
            for line in lines
            if len(line) > MOST_COLUMNS
        ]
        here = [line for line in lines if re.match(r"(from|import) ", line)]
        if here:
            imports.append(i)
            if "hide-input" not in tags(cell):
                found.append(f"cell {i} imports and is not tagged hide-input")
            if len(here) > MOST_IMPORTS:
                found.append(
                    f"cell {i} has {len(here)} imports, at most {MOST_IMPORTS}: from ferkit import data, models, plots"
                )
        if shown(cell):
            found += [
                f"cell {i} draws in front of the reader: {line.strip()[:60]}"
                for line in lines
                if DRAWS.search(line.split("#")[0])
            ]
        elif "hide-input" in tags(cell) and len(lines) > MOST_HIDDEN_LINES:
            found.append(
                f"cell {i} is hidden and has {len(lines)} lines, at most {MOST_HIDDEN_LINES}: GitHub "
                "shows it all the same"
            )
    return found + ([f"imports stand in cells {imports}; one is enough"] if len(imports) > 1 else [])


def questions(notebook: NotebookNode, entry: Entry) -> list[str]:
    """Every **Question.** has its **Answer.** within the next six cells."""
    found, cells = [], [c.source if c.cell_type == "markdown" else "" for c in notebook.cells]
    for i, text in enumerate(cells):
        asked = [m.end() for m in re.finditer(r"\*\*Question\b", text)]
        answers = len(re.findall(r"\*\*Answer\.\*\*", text[asked[0] :] if asked else "")) + sum(
            len(re.findall(r"\*\*Answer\.\*\*", later)) for later in cells[i + 1 : i + 1 + ANSWER_WITHIN]
        )
        if answers < len(asked):
            found.append(
                f"cell {i}: a question without `**Answer.**` in the next {ANSWER_WITHIN} cells: "
                f"{text[asked[-1] : asked[-1] + 60].strip()!r}"
            )
    return found


def exercises(notebook: NotebookNode, entry: Entry) -> list[str]:
    """Three at least (from 01 to 39), each with a folded hint and solution, and one with a check."""
    if not 1 <= int(entry.number) < 40:
        return []
    found, number = [], 0
    cells = notebook.cells
    for i, cell in text_cells(notebook):
        heads = re.findall(r"^#+ .*\bExercise\b.*$|^\*\*Exercise\b.*$", cell.source, re.M)
        number += len(heads)
        for head in heads:
            near = "\n".join(c.source for c in cells[i : i + 5] if c.cell_type == "markdown")
            if not build.solutions(near):
                found.append(
                    f"cell {i}: {head.strip('#* ')[:50]!r} has no `<details><summary>Solution` in the next cells"
                )
    if number < LEAST_EXERCISES:
        found.append(
            f"{number} exercises, at least {LEAST_EXERCISES}: one by hand, one that changes code, one "
            "about paper and code"
        )
    if number and not any(
        build.solutions(c.source) and any(build.solutions(c.source)) for _, c in text_cells(notebook)
    ):
        found.append("no solution holds ```python to run: tests run it together with the check(...) above it")
    return found


def strips(notebook: NotebookNode, entry: Entry) -> list[str]:
    """Every live control has a film strip."""
    found = []
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                named = isinstance(node, ast.Call) and (
                    getattr(node.func, "id", None) or getattr(node.func, "attr", None)
                )
                if named == "explore" and "strip" not in {k.arg for k in node.keywords}:
                    found.append(
                        f"cell {i}: explore(...) without strip=[...]: on paper the control shows one frame and is dead"
                    )
    return found


def references(notebook: NotebookNode, entry: Entry) -> list[str]:
    """Figures and tables are referred to by name, and a term is linked once, at its first use."""
    found = []
    linked: set[str] = set()
    for i, cell in text_cells(notebook):
        prose = re.sub(r"`[^`]*`", "", cell.source)
        found += [
            f"cell {i}: `{typed}` is typed; write {{fig:name}} or {{tab:name}}"
            for typed in re.findall(r"\b(?:Figure|Table) \d+\.\d+", prose)
        ]
        for term in re.findall(r"glossary\.md#([\w-]+)", cell.source):
            if term in linked:
                found.append(f"cell {i}: the glossary's {term!r} is linked a second time; once, at its first use")
            linked.add(term)
    return found


def findings(notebook: NotebookNode, entry: Entry) -> list[str]:
    """`## What you found` gives findings with numbers, and none of the objectives over again."""
    text = section(notebook, "What you found")
    if text is None:
        return ["there is no `## What you found`"]
    plain = re.sub(r"\W+", " ", text).lower()
    found = [
        f"`What you found` repeats the objective {goal!r}"
        for goal in entry.objectives
        if re.sub(r"\W+", " ", goal).strip().lower() in plain
    ]
    if not re.search(r"\d|\{\{", text):
        found.append("`What you found` has no number; findings are what was measured")
    listed = bullets(section(notebook, "Objectives") or "")
    return found + (
        ["the list under `## Objectives` is not the manifest's"] if listed and listed != entry.objectives else []
    )


# ---------------------------------------------------------------------------------------------------------- the outputs


def figures(notebook: NotebookNode, entry: Entry) -> list[str]:
    """Every picture came through figure(...): number, caption, alt text, nothing that cannot be read."""
    found: list[str] = []
    numbers: dict[str, list[str]] = {"figure": [], "table": []}
    for i, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            note = output.get("metadata", {}).get("ferkit", {})
            if any(mime in output.get("data", {}) for mime in PICTURES) and not (
                note.get("caption") and note.get("alt")
            ):
                found.append(
                    f"cell {i}: a picture without caption and alt text; show it with figure(picture, "
                    "name, caption, alt)"
                )
            found += [f"cell {i}, {note['name']}: {problem}" for problem in note.get("problems", [])]
            if "kind" in note:
                numbers[note["kind"]].append(note["number"])
    for kind, given in numbers.items():
        expected = [f"{int(entry.number)}.{n}" for n in range(1, len(given) + 1)]
        if given != expected:
            found.append(
                f"{kind}s are numbered {', '.join(given)}; expected {', '.join(expected)} (profile(..., "
                f"chapter={int(entry.number)}), each name once)"
            )
    return found


def printed(notebook: NotebookNode, entry: Entry) -> list[str]:
    """At most eight printed lines in a cell; more is a table or a picture."""
    found = []
    for i, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            rich = any(mime.startswith(("image/", "text/html", "text/markdown")) for mime in data)
            text = output.get("text", "") or ("" if rich else data.get("text/plain", ""))
            if (lines := len([line for line in text.splitlines() if line.strip()])) > MOST_PRINTED:
                found.append(
                    f"cell {i} prints {lines} lines, at most {MOST_PRINTED}: table(frame, name, caption), or a picture"
                )
    return found


def first_picture(notebook: NotebookNode, entry: Entry) -> list[str]:
    """A picture within the first six cells."""
    for cell in notebook.cells[: PICTURE_WITHIN + 1]:
        if any(mime in output.get("data", {}) for output in cell.get("outputs", []) for mime in PICTURES):
            return []
    return [f"no picture within the first {PICTURE_WITHIN} cells; begin with a picture, a puzzle or a number"]


def ledger_rows(notebook: NotebookNode, entry: Entry) -> list[str]:
    """At most six rows of ledgers; the rest is on the paper's page."""
    rows = sum(
        output.get("data", {}).get("text/html", "").count('<tr class="ledger-row">')
        for cell in code_cells(notebook)
        for output in cell.outputs
    )
    return (
        [f"{rows} rows of the ledger, at most {MOST_LEDGER_ROWS}; link to the paper's page for the rest"]
        if rows > MOST_LEDGER_ROWS
        else []
    )


def short_forms(notebook: NotebookNode, entry: Entry) -> list[str]:
    """No short form of notebooks/words.py is left in the text: a misspelt one would be."""
    return [
        f"cell {i}: {left} was not understood (notebooks/words.py)"
        for i, cell in text_cells(notebook)
        for left in words.unresolved(cell.source)
    ]
