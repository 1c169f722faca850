"""Each check of sources and committed notebooks accepts the good notebook and rejects one that is bad in one way."""

from dataclasses import replace

import nbformat
import pytest

from notebooks import build, words
from tests.support import checks, demo

ENTRIES = demo.entries()
ENTRY = ENTRIES[0]


def broken(change, notebook=None):
    notebook = notebook or demo.source()
    change(notebook)
    return notebook


def rewrite(find, old, new):
    """A change: in the cell containing `find`, `old` becomes `new`."""

    def change(notebook):
        cell = demo.cell(notebook, find)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


# ----------------------------------------------------------------------------------------------------------- the source


def test_the_good_source_passes():
    notebook = demo.source()
    assert checks.parameters(notebook) == []
    assert checks.anatomy(notebook, ENTRY) == []
    assert checks.same_as(notebook) == []
    links = demo.cell(notebook, "Contents")
    assert "02_after.ipynb" in links.source and checks.notebook_links(notebook, ENTRY, ENTRIES) == [
        "link to ../README.md#the-notebooks, which does not exist"  # the demonstration has no README above it
    ] * links.source.count("README") * sum(cell.source.count("[Contents]") for cell in notebook.cells)
    assert checks.bands(ENTRY) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("SCALE = 2 * 0.5", "is not NAME = literal"),
        ("SCALE = float('1')", "is not NAME = literal"),
        ("import os", "is not NAME = literal"),
        ("print('hello')", "is not NAME = literal"),
    ],
)
def test_parameters_that_are_not_literal(value, says):
    found = checks.parameters(broken(rewrite("PROFILE =", "SCALE = 1.0", value)))
    assert len(found) == 1 and says in found[0]


def test_parameters_without_profile_or_with_another_default():
    for other in ("EPOCHS = 3", 'PROFILE = "smoke"'):
        assert "PROFILE" in checks.parameters(broken(rewrite("PROFILE =", 'PROFILE = "teach"', other)))[0]


def test_parameters_may_have_another_default_where_the_manifest_builds_with_it():
    notebook = broken(rewrite("PROFILE =", '"teach"', '"paper"'))
    assert checks.parameters(notebook, "paper") == [] and checks.parameters(notebook) != []


def test_parameters_cell_missing_or_late():
    def untag(notebook):
        demo.cell(notebook, "PROFILE =").metadata.clear()

    def late(notebook):
        notebook.cells.insert(1, nbformat.v4.new_code_cell("x = 1"))

    assert "0 cells are" in checks.parameters(broken(untag))[0]
    assert "first code cell" in checks.parameters(broken(late))[0]


@pytest.mark.parametrize(
    ("find", "old", "new", "says"),
    [
        ("# 01 ·", "# 01 · A demonstration", "# A demonstration", "must begin with"),
        ("# 01 ·", "in a few cells", "in many cells", "promise"),
        ("## Recap", "## Recap", "## The end", "there is no `## Recap`"),
        ("## Recap", "- move a control", "- move two controls", "not the manifest's objectives"),
        ("## Objectives", "- see a record\n", "", "not the manifest's objectives"),
        ("## Exercises", "## Exercises", "## Play", "there is no `## Exercises`"),
        ("footer()", "footer()", "print(1)", "footer()"),
    ],
)
def test_anatomy_with_a_part_missing(find, old, new, says):
    notebook = demo.source()
    cell = [c for c in notebook.cells if find in c.source and old in c.source][-1]
    cell.source = cell.source.replace(old, new)
    found = checks.anatomy(notebook, ENTRY)
    assert len(found) == 1 and says in found[0], found


def test_anatomy_without_solution():
    def untag(notebook):
        for cell in notebook.cells:
            if "solution" in build.tags(cell):
                cell.metadata.clear()

    assert checks.anatomy(broken(untag), ENTRY) == ["no cell is tagged `solution`"]


def test_a_papers_notebook_needs_more():
    found = checks.anatomy(broken(rewrite("# 01 ·", "# 01 ·", "# 10 ·")), replace(ENTRY, slug="10_demo"))
    assert [line for line in found if "differs" in line] and [line for line in found if "ledger" in line]




def inline(source, name):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source, metadata={"tags": [f"same-as:{name}"]})]
    )
    return checks.same_as(notebook)


def test_same_as():
    good = (
        "import re\n\ndef section_of(x):\n    return x\n\ndef code_cells(notebook: NotebookNode) -> "
        "list[NotebookNode]:\n    # another comment\n    return [cell for cell in notebook.cells if "
        'cell.cell_type == "code"]\n'
    )
    name = "tests.support.checks.code_cells"
    assert inline(good, name) == []
    assert "differ" in inline(good.replace('"code"', '"markdown"'), name)[0]
    assert "must define code_cells once" in inline(good.replace("def code_cells", "def cells"), name)[0]
    assert "no such thing" in inline(good, "tests.support.nothing.code_cells")[0]
    assert "no such thing" in inline(good.replace("def code_cells", "def other"), "tests.support.checks.other")[0]
    assert "at most" in inline(good + "\n" * 70 + "x = 1", name)[0]


def test_links(tmp_path):
    (tmp_path / "there.md").write_text("# A heading: with marks\n")
    good = "[a](there.md) [b](there.md#a-heading-with-marks) [c](https://example.org/x) `[d](code)`".replace(
        "`[d](code)`", ""
    )
    assert checks.links(good, tmp_path) == []
    assert "does not exist" in checks.links("[a](gone.md)", tmp_path)[0]
    assert "does not exist" in checks.links("![a](gone.png)", tmp_path)[0]
    assert "no such heading" in checks.links("[a](there.md#other)", tmp_path)[0]
    assert checks.links('<a id="a-row"></a>\n[a](#a-row)', tmp_path) == []
    assert "no such heading" in checks.links("# Here\n[a](#there)", tmp_path)[0]


@pytest.mark.parametrize("band", [[0, 1], [0.5], [0.9, 0.8], ["0", "1"], [0.5, float("nan")]])
def test_bands_that_say_nothing(band):
    assert len(checks.bands(replace(ENTRY, records={"accuracy_frac": band}))) == 1
    assert checks.bands(replace(ENTRY, records={"accuracy_frac": [0.3, 0.5], "parameters_n": [7, 7]})) == []


def test_unknown_reference_is_refused():
    with pytest.raises(ValueError, match=r"\[@nobody\] is not in"):
        words.reference_list("as [@nobody] says")


def test_manifest_refuses_unknown_keys_and_disorder(tmp_path):
    good = (demo.FOLDER / "manifest.toml").read_text()
    (tmp_path / "manifest.toml").write_text(good.replace("promise", "promises", 1))
    with pytest.raises(ValueError, match="unknown key 'promises'"):
        build.read_manifest(tmp_path)
    (tmp_path / "manifest.toml").write_text(good.replace("02_after", "00_after"))
    with pytest.raises(ValueError, match="order"):
        build.read_manifest(tmp_path)


# ----------------------------------------------------------------------------------------------- the committed notebook


def test_the_good_notebook_passes():
    notebook = demo.built()
    nbformat.validate(notebook)
    assert build.complaints(ENTRY, ENTRIES, notebook) == []
    assert checks.execution_order(notebook) == []
    assert checks.outputs(notebook) == []
    assert checks.minutes(notebook, ENTRY) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rewrite("SCALE *", "/ 6", "/ 7"), "outputs of other code"),
        (rewrite("old as", "as old as", "older than"), "other text or links"),
        (lambda notebook: notebook.metadata.ferkit.update(fingerprint="0" * 64), "outputs of other code"),
        (lambda notebook: notebook.metadata.pop("ferkit"), "outputs of other code"),
        (lambda notebook: notebook.metadata.ferkit.update(profile="smoke"), "profile 'smoke'"),
        (lambda notebook: notebook.cells.pop(1), "other text or links"),
    ],
    ids=["stale code", "stale text", "forged stamp", "no stamp", "wrong profile", "no navigation"],
)
def test_stale_notebooks(change, says):
    assert says in build.complaints(ENTRY, ENTRIES, broken(change, demo.built()))[0]


def test_moved_neighbour_makes_links_stale():
    others = [ENTRY, replace(ENTRIES[1], title="Renamed")]
    assert "other text or links" in build.complaints(ENTRY, others, demo.built())[0]


def test_execution_order():
    def swap(notebook):
        a, b = checks.code_cells(notebook)[2:4]
        a.execution_count, b.execution_count = b.execution_count, a.execution_count

    def later(notebook):
        for cell in checks.code_cells(notebook):
            cell.execution_count += 20

    def unrun(notebook):
        checks.code_cells(notebook)[3].execution_count = None

    def empty(notebook):
        notebook.cells.append(nbformat.v4.new_code_cell("  "))

    for change in (swap, later, unrun):
        assert "execution counts" in checks.execution_order(broken(change, demo.built()))[0]
    assert "empty" in checks.execution_order(broken(empty, demo.built()))[0]


VIEW = nbformat.v4.new_output("display_data", data={build.WIDGET_VIEW: {"model_id": "1"}, "text/plain": "VBox()"})
HOME = "/" + "home/someone/x.py"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (nbformat.v4.new_output("error", ename="ValueError", evalue="no"), "error output ValueError"),
        (VIEW, "live widget"),
        (nbformat.v4.new_output("stream", text=f"read {HOME}"), "path"),
        (nbformat.v4.new_output("display_data", data={"text/html": f"<b>{HOME}</b>"}), "path"),
        (nbformat.v4.new_output("stream", name="stderr", text="x.py:1: FutureWarning: soon gone"), "warning"),
    ],
    ids=["error", "widget", "path", "path in html", "warning"],
)
def test_bad_outputs(output, says):
    found = checks.outputs(broken(lambda notebook: checks.code_cells(notebook)[2].outputs.append(output), demo.built()))
    assert len(found) == 1 and says in found[0]


def test_machine_path_in_source_and_widget_state():
    assert (
        "path"
        in checks.outputs(broken(lambda n: n.cells.append(nbformat.v4.new_code_cell(f"open('{HOME}')")), demo.built()))[
            0
        ]
    )
    assert "metadata.widgets" in checks.outputs(broken(lambda n: n.metadata.update(widgets={}), demo.built()))[0]


def test_oversized(tmp_path):
    for name, length, bad in (("small", 900_000, False), ("large", 1_100_000, True)):
        path = tmp_path / f"{name}.ipynb"
        path.write_text("x" * length)
        assert bool(checks.size(path)) == bad


def test_slower_than_promised():
    notebook = demo.built()
    notebook.metadata.ferkit["seconds"] = 61
    assert "took 61 s" in checks.minutes(notebook, ENTRY)[0]
    notebook.metadata.ferkit["seconds"] = 59
    assert checks.minutes(notebook, ENTRY) == []


def test_hidden_input_and_solutions_are_folded_in_jupyterlab():
    cell = nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["hide-input"], "other": 1})
    assert build._cell_metadata(cell) == {"tags": ["hide-input"], "jupyter": {"source_hidden": True}}
    cell.metadata["tags"] = ["solution"]
    assert build._cell_metadata(cell)["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
    cell.metadata["tags"] = ["parameters"]
    assert "jupyter" not in build._cell_metadata(cell)


def test_a_record_leaves_no_mark_on_the_page():
    from nbconvert import HTMLExporter

    notebook = demo.built()
    with pytest.warns(UserWarning, match="not able to be represented"):
        page, _ = HTMLExporter().from_notebook_node(notebook)
    recorded = [o for c in checks.code_cells(notebook) for o in c.outputs if build.RECORD_MIME in o.get("data", {})]
    assert len(recorded) == 2 and all(set(o.data) == {build.RECORD_MIME} for o in recorded)
    body = page[page.index("<body") :]
    assert "(4,)" in body and "0.25" not in body and "vnd.ferkit.record" not in body
