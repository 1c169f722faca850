"""The doctor and the sources as panels: the same report as the command's, errors in one line, one table of facts."""

import html

import pytest

from ferkit import data, widgets
from ferkit.data import sources
from ferkit.doctor import NotRecognised, examine
from notebooks.build import ROOT
from tests.support import doctor_trees
from tests.unit.test_widgets import parts, shown  # noqa: F401


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    return doctor_trees.folder(tmp_path / "<b>faces")


def test_the_report_in_a_notebook_says_what_the_command_says(tree):
    (tree / "train/happy/copy.jpg").write_bytes((tree / "test/angry/testangry-0.jpg").read_bytes())
    (tree / "train/sad/broken.jpg").write_bytes(b"no picture")
    report, page = examine(tree, progress=False), widgets.doctor_report(str(tree))._repr_html_()
    assert len(report.findings) >= 2
    for finding in report.findings:
        assert html.escape(finding.sentence) in page and f"<code>{finding.code}</code>" in page
    for split, counts in report.counts.items():
        assert f"{split}</th>" in page and f"<td>{sum(counts.values()):,}</td>" in page
    assert "<b>faces" not in page.replace("&lt;b&gt;faces", "") and "Nothing wrong found" not in page


def test_a_clean_set_and_an_empty_path(tree):
    assert "Nothing wrong found" in widgets.doctor_report(f" {tree} ")._repr_html_()
    assert "Type the path" in widgets.doctor_report(" ").data


def test_panel_of_the_doctor(shown, tree, tmp_path):  # noqa: F811
    widgets.doctor_panel()
    _, text, note, (path, set_name, order) = parts(shown[-1])
    path.value = str(tree)
    assert "84 images" in text.value and note.value == ""
    path.value = str(tmp_path / "nowhere")
    assert (
        "NotRecognised: Expected a data set at" in note.value and "\n" not in note.value and "84 images" in text.value
    )
    path.value, set_name.value, order.value = str(tree), "fer2013", "manet"
    assert text.value.startswith("<p><b>fer2013</b>") and note.value == ""
    with pytest.raises(NotRecognised, match="found nothing there"):
        widgets.doctor_panel(str(tmp_path / "nowhere"))


def test_sources_name_every_set_and_are_the_readme(shown):  # noqa: F811
    named = {name for entry in sources.SOURCES for name in entry.name.split(", ")}
    assert named == set(data.list_datasets()) - {"synthetic"}
    assert sources.markdown() in (ROOT / "data" / "README.md").read_text("utf-8")
    for name in named:
        page = widgets.source_table(name).data
        entry = sources.source(name)
        assert all(html.escape(fact) in page for fact in (entry.where, entry.terms, entry.size, entry.check))
        assert ("python -m ferkit data get" in page) == bool(entry.get)
    with pytest.raises(ValueError, match="Expected a data set among fer2013, ferplus, rafdb"):
        widgets.source_table("ck+")
    widgets.source_panel()
    _, text, _, (choice,) = parts(shown[-1])
    choice.value = "all"
    assert text.value.count("colspan") == len(sources.SOURCES)


def test_sets_that_may_not_be_passed_on_are_not_fetched():
    assert {entry.title for entry in sources.SOURCES if not entry.get} == {"RAF-DB", "AffectNet", "ExpW"}
