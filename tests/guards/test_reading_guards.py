"""Each check of a rewritten notebook accepts the good one and rejects one that is bad in one way."""

from dataclasses import replace

import nbformat
import pytest

from notebooks import build, words
from tests.support import checks, demo, reading

ENTRY = demo.entry("12_form")
SLUG = ENTRY.slug


def refusals(change, *, built=False, entry=ENTRY):
    """What the checks say of a notebook after `change`."""
    notebook = demo.built(SLUG) if built else demo.source(SLUG)
    change(notebook)
    return (reading.committed if built else reading.source)(notebook, entry)


def rewrite(find, old, new):
    """A change: in the cell containing `find`, `old` becomes `new`."""

    def change(notebook):
        cell = demo.cell(notebook, find)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def untag(find):
    return lambda notebook: demo.cell(notebook, find).metadata.clear()


def test_the_good_source_passes():
    notebook = demo.source(SLUG)
    assert reading.source(notebook, ENTRY) == []
    assert checks.parameters(notebook) == [] and checks.bands(ENTRY) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rewrite("# 12 ·", "# 12 · The form", "# The form"), "must begin with `# 12 · The form of a chapter`"),
        (rewrite("# 12 ·", "on four numbers", "on three numbers"), "promise"),
        (rewrite("footer()", "footer()", "print(1)"), "footer()"),
        (rewrite("## What the paper", "## What the paper reports", "## The paper"), "needs `## What the paper reports"),
        (rewrite("values = np", "values**2", "values**2  # " + "a" * 80), "columns, at most 88"),
        (
            rewrite("import numpy", "import pandas as pd", "\n".join(f"import pandas as p{i}" for i in range(8))),
            "12 imports, at most 8",
        ),
        (untag("import numpy"), "imports and is not tagged hide-input"),
        (rewrite("values = np", "values = np", "import math\nvalues = np"), "imports and is not tagged hide-input"),
        (untag("def raised"), "draws in front of the reader: ax.plot"),
        (rewrite("def raised", "    return picture", "    return picture\n" + "x = 1\n" * 30), "hidden and has"),
        (rewrite("**Answer.**", "**Answer.**", "Answer."), "a question without `**Answer.**`"),
        (rewrite("**Exercise 2", "**Exercise 2", "**Task 2"), "2 exercises, at least 3"),
        (rewrite("def raised", "strip=[", "film=["), "explore(...) without strip"),
        (rewrite("**Answer.**", "{tab:squares}", "Table 12.1"), "`Table 12.1` is typed"),
        (
            rewrite(
                "**Answer.**", "The mean of squares", "A [sigmoid](../book/glossary.md#sigmoid): the mean of squares"
            ),
            "'sigmoid' is linked a second time",
        ),
        (rewrite("## What you found", "## What you found", "## Recap"), "no `## What you found`"),
        (
            rewrite(
                "## What you found",
                "{{above_n}} squares are",
                "You can now quote a record in a sentence. Some squares are",
            ),
            "repeats the objective 'quote a record in a sentence'",
        ),
    ],
)
def test_a_source_that_is_bad_in_one_way(change, says):
    found = refusals(change)
    assert (found == []) if says is None else any(says in line for line in found), found


def test_findings_need_numbers():
    def change(notebook):
        cell = demo.cell(notebook, "## What you found")
        cell.source = (
            cell.source[: cell.source.index("## What you found")]
            + "## What you found\n\nThe mean of the squares is above a quarter."
        )

    assert any("has no number" in line for line in refusals(change))


def test_solutions_must_be_folded_and_one_of_them_must_run():
    open_solution = rewrite("**Exercise 2", "<summary>Solution</summary>", "<summary>Answer</summary>")
    assert sum("has no `<details><summary>Solution`" in line for line in refusals(open_solution)) >= 1
    wordy = rewrite("**Exercise 2", "```python", "```")
    assert any("no solution holds ```python" in line for line in refusals(wordy))


def test_a_late_answer_is_none():
    def change(notebook):
        for i in range(7):
            notebook.cells.insert(7, nbformat.v4.new_markdown_cell(f"text {i}"))

    assert any("a question without `**Answer.**`" in line for line in refusals(change))


def test_one_answer_does_not_serve_two_questions():
    twice = rewrite("**Question.**", "> **Question.**", "> **Question.** And why?\n>\n> **Question.**")
    assert any("a question without `**Answer.**`" in line for line in refusals(twice))


# ---------------------------------------------------------------------------------------------------------- its outputs


def test_the_good_notebook_passes():
    notebook = demo.built(SLUG)
    assert reading.committed(notebook, ENTRY) == []
    assert build.complaints(ENTRY, demo.entries(), notebook) == []
    assert checks.outputs(notebook) == [] and checks.execution_order(notebook) == []


def picture_of(notebook, mime):
    return next(o for c in checks.code_cells(notebook) for o in c.outputs if mime in o.get("data", {}))


PLAIN = nbformat.v4.new_output("display_data", data={"image/png": "AAAA", "text/plain": "x"})
LONG = nbformat.v4.new_output("stream", text="\n".join("line" for _ in range(9)))


def spoil(mime, **values):
    return lambda notebook: picture_of(notebook, mime).metadata["ferkit"].update(values)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda n: checks.code_cells(n)[3].outputs.append(PLAIN), "a picture without caption and alt text"),
        (spoil("image/png", alt=""), "a picture without caption and alt text"),
        (spoil("image/svg+xml", caption=""), "a picture without caption and alt text"),
        (spoil("image/png", problems=["'x' and 'y' overlap"]), "powers: 'x' and 'y' overlap"),
        (spoil("image/png", number="12.3"), "figures are numbered 12.1, 12.3; expected 12.1, 12.2"),
        (spoil("text/html", number="2.1"), "tables are numbered 2.1; expected 12.1"),
        (lambda n: checks.code_cells(n)[3].outputs.append(LONG), "prints 9 lines, at most 8"),
        (
            lambda n: [n.cells.insert(0, nbformat.v4.new_markdown_cell(f"text {i}")) for i in range(4)],
            "no picture within the first 6 cells",
        ),
        (
            lambda n: (
                demo.cell(n, "ledger_table(").outputs[0].data.update({"text/html": '<tr class="ledger-row">' * 7})
            ),
            "7 rows of the ledger, at most 6",
        ),
        (
            rewrite("**Answer.**", "**Answer.**", "**Answer.** {{typo_frac}} and {figure:gate}"),
            "{{typo_frac}} was not understood",
        ),
    ],
)
def test_a_notebook_that_is_bad_in_one_way(change, says):
    assert any(says in line for line in refusals(change, built=True)), refusals(change, built=True)


def test_numbers_of_another_chapter():
    assert any(
        "expected 13.1" in line for line in refusals(lambda n: None, built=True, entry=replace(ENTRY, slug="13_form"))
    )


# ----------------------------------------------------------------------------------------------------- text and records


def test_a_record_and_its_sentence_cannot_part():
    """The number in the text, and the record it was filled from: whichever is changed, it is said."""
    notebook = demo.built(SLUG)
    assert (
        "38.9\u00a0%" in demo.cell(notebook, "**Answer.**").source
        and "{{" not in demo.cell(notebook, "What you found").source
    )
    rewrite("**Answer.**", "38.9", "39.8")(notebook)
    assert "other text or links than its source, its records" in build.complaints(ENTRY, demo.entries(), notebook)[0]
    notebook = demo.built(SLUG)
    record = next(
        o.data[build.RECORD_MIME]
        for c in checks.code_cells(notebook)
        for o in c.outputs
        if build.RECORD_MIME in o.get("data", {}) and o.data[build.RECORD_MIME]["name"] == "squares_frac"
    )
    record["value"] = 0.41
    assert "other text or links than its source, its records" in build.complaints(ENTRY, demo.entries(), notebook)[0]
    record["name"] = "cubes_frac"
    assert "quotes {{squares_frac}}, which is not recorded" in build.complaints(ENTRY, demo.entries(), notebook)[0]


def test_prose_fills_the_numbers_of_the_stored_run(tmp_path):
    (tmp_path / "py").mkdir()
    entry = replace(ENTRY, folder=tmp_path)
    text = ENTRY.source.read_text().replace(
        "**Answer.** More: {{squares_frac:.1%}}", "**Answer.** More, {{squares_frac:.3f}}"
    )
    entry.source.write_text(text)
    nbformat.write(demo.built(SLUG), entry.path)
    others = [entry if e.slug == SLUG else e for e in demo.entries()]
    assert "other text" in build.complaints(entry, others)[0]
    assert build.refresh_prose(entry, others)
    assert "More, 0.389 (Table 12.1)" in demo.cell(nbformat.read(entry.path, as_version=4), "**Answer.**").source
    assert build.complaints(entry, others) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{a_frac:.1%}} of {{b_n}}", "12.3\u00a0% of 80,238,599"),
        ("{{a_frac}} and `{{a_frac}}`", "0.1235 and `{{a_frac}}`"),
        ("{{c_pct:+.1f}} points", "\u22124.5 points"),
        ("{fig:gates}, {tab:cost}, `{fig:gates}`", "Figure 3.1, Table 3.2, `{fig:gates}`"),
        ("$x_{{ab}}$ and {braces}", "$x_{{ab}}$ and {braces}"),
    ],
)
def test_filled(text, shown):
    records, numbers = (
        {"a_frac": 0.12345, "b_n": 80238599, "c_pct": -4.5},
        {"fig:gates": "Figure 3.1", "tab:cost": "Table 3.2"},
    )
    assert words.filled(text, records, numbers) == shown
    assert words.unresolved(shown) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{x_frac}}", "quotes {{x_frac}}, which is not recorded; it has a_n"),
        ("{{a_n:.q}}", "quotes {{a_n:.q}}"),
        ("{fig:x}", "refers to {fig:x}, which is not shown; it has fig:a"),
    ],
)
def test_what_cannot_be_filled(text, says):
    with pytest.raises(ValueError, match=says.replace("{", r"\{").replace("}", r"\}")):
        words.filled(text, {"a_n": 1}, {"fig:a": "Figure 1.1"})


def test_terms_and_rows_are_links():
    text = words.with_links("a {term:sigmoid}, two {term:Sigmoid|sigmoids} and {row:RE-eq2}; not `{term:x}`")
    assert text == (
        "a [sigmoid](../book/glossary.md#sigmoid), two [sigmoids](../book/glossary.md#sigmoid) "
        "and [RE-eq2](../book/ledger/resemotenet.md#re-eq2); not `{term:x}`"
    )
    for bad, says in (
        ("{term:nonsense}", "not in book/glossary.md"),
        ("{row:RE-nonsense}", "has no row"),
        ("{row:XX-a}", "prefix of a paper"),
    ):
        with pytest.raises(ValueError, match=says):
            words.with_links(bad)


def test_misspelt_short_forms_are_seen():
    text = "{{not_a_unit}} {fig: gates} {term:x} {row:RE-A11} [@x] {cite:y} `{fig:gates}` $a_{{b}}$"
    assert words.unresolved(text) == ["{{not_a_unit}}", "{fig: gates}", "{term:x}", "{row:RE-A11}", "[@x]", "{cite:y}"]


def test_solutions_become_cells_with_their_check_and_a_wrong_one_fails(tmp_path):
    import papermill

    notebook = build.with_solutions(demo.source(SLUG))
    added = [
        c.source for c in checks.code_cells(notebook) if c.source not in {k.source for k in demo.source(SLUG).cells}
    ]
    assert len(added) == 3 and added[0].startswith("answer = 2\n") and "check(" in added[0]
    assert "check(" not in added[1] and added[2].strip() == ""
    wrong = demo.source(SLUG)
    rewrite("**Exercise 2", "answer = 2", "answer = 3")(wrong)
    with pytest.raises(papermill.PapermillExecutionError, match="squares above a quarter: got 3. That is too large."):
        build.execute(build.with_solutions(wrong), "smoke", {})
