"""Profiles, records, exercise checks, ledger tables and the footer."""

import math

import nbformat
import numpy as np
import pytest
import torch

from ferkit import notebook, papers
from ferkit.notebook import check, footer, ledger_table, profile, record, records


@pytest.fixture
def shown(monkeypatch):
    """What was displayed."""
    found = []
    for module in ("recording", "session"):
        monkeypatch.setattr(f"ferkit.notebook.{module}.display", lambda data, raw: found.append(data))
    return found


# ------------------------------------------------------------------------------------------------------------- profiles


def test_profile_gives_its_settings(monkeypatch):
    monkeypatch.delenv("FERKIT_PROFILE", raising=False)
    choices = {"smoke": {"epochs": 1, "n": 10}, "teach": {"epochs": 8, "n": 100}}
    assert vars(profile("smoke", **choices)) == {"profile": "smoke", "epochs": 1, "n": 10}
    assert profile("paper", **choices).epochs == 8  # no paper settings: those of teach
    assert profile("paper", **choices, paper={"epochs": 80, "n": 1000}).epochs == 80


def test_environment_goes_before_the_parameter(monkeypatch):
    monkeypatch.setenv("FERKIT_PROFILE", "smoke")
    assert profile("teach", smoke={"epochs": 1}, teach={"epochs": 8}).epochs == 1


def test_profile_refuses(monkeypatch):
    monkeypatch.delenv("FERKIT_PROFILE", raising=False)
    with pytest.raises(ValueError, match="unknown profile 'tech'; known: smoke, teach, paper"):
        profile("tech", smoke={}, teach={})
    with pytest.raises(ValueError, match="`teach` and `smoke` must name the same settings; only one has width"):
        profile("teach", smoke={"epochs": 1}, teach={"epochs": 8, "width": 1})


# -------------------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("accuracy_frac", np.float32(0.5), 0.5),
        ("parameters_n", 80_238_599, 80_238_599),
        ("epochs_n", np.int64(3), 3),
        ("loss_nats", torch.tensor([2.0]), 2.0),
        ("speed_per_s", 1234.5, 1234.5),
        ("gap_pct", -99.5, -99.5),
    ],
)
def test_record_stores_a_number_and_shows_nothing(shown, name, value, stored):
    record(name, value)
    assert shown == [{notebook.RECORD_MIME: {"name": name, "value": stored}}]
    assert type(shown[0][notebook.RECORD_MIME]["value"]) is type(stored)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("accuracy", 0.5, "ending in its unit: _frac"),
        ("Accuracy_frac", 0.5, "lower-case identifier"),
        ("val accuracy_frac", 0.5, "lower-case identifier"),
        ("frac", 0.5, "ending in its unit"),
        ("accuracy_frac", 71.0, "is it a fraction or a percentage"),
        ("accuracy_pct", 101.0, "allows -100 to 100"),
        ("loss_nats", math.nan, "finite"),
        ("loss_nats", math.inf, "finite"),
        ("epochs_n", 1.5, "whole number"),
    ],
)
def test_record_refuses(shown, name, value, says):
    with pytest.raises(ValueError, match=says):
        record(name, value)
    assert shown == []


def write(path, *bundles):
    cells = [nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", data=b)]) for b in bundles]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_records_reads_them_back(shown, tmp_path):
    record("accuracy_frac", 0.5)
    record("epochs_n", 3)
    write(tmp_path / "a.ipynb", *shown, {"text/plain": "other"})
    assert records(tmp_path / "a.ipynb") == {"accuracy_frac": 0.5, "epochs_n": 3}


def test_records_refuses(shown, tmp_path):
    record("epochs_n", 3)
    write(tmp_path / "twice.ipynb", *shown, *shown)
    with pytest.raises(ValueError, match="twice.ipynb records epochs_n twice"):
        records(tmp_path / "twice.ipynb")
    with pytest.raises(FileNotFoundError, match="make notebooks"):
        records(tmp_path / "none.ipynb")
    for content in ("{", "[]", "{}", "null"):
        (tmp_path / "no.ipynb").write_text(content)
        with pytest.raises(ValueError, match="no.ipynb is not a notebook"):
            records(tmp_path / "no.ipynb")


# ------------------------------------------------------------------------------------------------------------ exercises


@pytest.mark.parametrize(
    ("answer", "expected", "tolerance"),
    [
        (4, 4, 0),
        (0.3, 0.1 + 0.2, 0),
        (3.2, 3.0, 0.25),
        ((1, 2), [1, 2], 0),
        ("sadness", "sadness", 0),
        ([0.9, 2], (1, 2), 0.2),
        (["sad", "fear"], ("sad", "fear"), 0),
        (torch.tensor(4), 4, 0),
        (True, True, 0),
        (torch.tensor(4.0, requires_grad=True), 4, 0),
        ([torch.tensor(1.5, requires_grad=True), 2], [1.5, 2], 0),
        (np.array(["sad", "fear"]), ["sad", "fear"], 0),
        (np.array([1, 2]), (1, 2), 0),
        ((3, 64, 64), torch.Size([3, 64, 64]), 0),
        (np.bool_(True), True, 0),
        (1e-12, 0.0, 1e-9),
    ],
)
def test_check_accepts(capsys, answer, expected, tolerance):
    check("the answer", answer, expected, tolerance=tolerance)
    assert capsys.readouterr().out == "✓ the answer\n"


@pytest.mark.parametrize(
    ("answer", "expected", "tolerance", "says"),
    [
        (5, 4, 0, "That is too large."),
        (0.31, 0.1 + 0.2, 0, "That is too large."),
        (2.7, 3.0, 0.25, "That is too small."),
        (-3.0, 3.0, 0.25, "The sign is wrong."),
        (71.0, 0.71, 0.01, "A hundred times too large"),
        (0.71, 71.0, 0.01, "A hundred times too small"),
        ((2, 1, 3), [1, 2, 3], 0, "2 of 3 values are wrong, at position 1; 2."),
        ([[1, 2], [3, 5]], [[1, 2], [3, 4]], 0, "1 of 4 values is wrong, at position 2, 2."),
        ("sad", "sadness", 0, "That is not it."),
        (["sad", "fear"], ["sad", "joy"], 0, "1 of 2 values is wrong, at position 2."),
        ("x", 4.0, 0, "Expected a number, found a text."),
        ("5", 5, 0, "Expected a number, found a text."),
        (["5"], [5], 0, "Expected a number, found a text."),
        (5, "5", 0, "Expected a text, found a number."),
        (1, True, 0, "Expected True or False, found a number."),
        (True, 1, 0, "Expected a number, found True or False."),
        (False, True, 0, "That is not it."),
        (4, [4], 0, "Expected a single value or a list"),
        ([1, 2], [1, 2, 3], 0, "Expected 3 values, found 2 values."),
        ([[1, 2]], [[1], [2]], 0, "Expected the shape (2, 1), found the shape (1, 2)."),
        (math.nan, 4.0, 1, "not a finite number"),
        ({"a": 1}, 4, 0, "Expected a number, found something else (object)."),
        ([[1], [1, 2]], [1, 2], 0, "Expected a number, found something else (object)."),
    ],
)
def test_check_says_what_is_wrong_and_not_what_is_right(capsys, answer, expected, tolerance, says):
    with pytest.raises(AssertionError) as caught:
        check("the answer", answer, expected, tolerance=tolerance, hint="Count the pads.")
    message = str(caught.value)
    assert message.startswith("✗ the answer: got ") and says in message and message.endswith(" Count the pads.")
    assert caught.value._render_traceback_() == [message]  # what Jupyter shows
    assert capsys.readouterr().out == ""


def test_check_does_not_give_the_answer_away():
    with pytest.raises(AssertionError) as caught:
        check("the answer", 12345, 80238599)
    assert "80238599" not in str(caught.value)


def test_check_waits_for_an_answer(capsys):
    check("the answer", None, 4)
    check("the answer", ..., 4)
    assert capsys.readouterr().out.count("no answer yet") == 2


# --------------------------------------------------------------------------------------------------------------- tables


def test_every_row_of_every_ledger_is_shown_in_three_voices():
    for key in papers.keys():
        table = ledger_table(key)
        assert len(table.rows) == len(papers.load(key).rows) > 0
        page, text = table._repr_html_(), repr(table)
        assert page.count("<tr") == len(table.rows) + 1
        for row in table.rows:
            label = table.ledger.label(row.id)
            assert (
                f"{row.what}  ({label})  [" in text
                and f">{label}</a>" in page
                and f"{key}.md#{label.lower().replace('.', '-')}" in page
            )
            assert f"[{notebook.STATUS[row.status][0]}]" in text
        assert (
            page.count("<i>In the authors' favour:</i>")
            == text.count("  for the authors  ")
            == sum(bool(row.for_authors) for row in table.rows)
            > 0
        )
        for voice in ("the paper says", "the released code does", "we do"):
            assert voice in page and text.count(f"  {voice:<24}") == len(table.rows)


def test_ledger_table_selects_and_escapes():
    row = papers.Row(
        id="X1",
        what="a < b",
        section="s",
        status="conflicts",
        paper="1 & 2",
        paper_place="eq. 1",
        why="<b>",
        for_authors="c < d",
    )
    page = notebook.LedgerTable([row], papers.load("resemotenet"))._repr_html_()
    assert (
        "a &lt; b" in page
        and "1 &amp; 2" in page
        and "&lt;b&gt;" in page
        and "✗ conflicts" in page
        and "In the authors' favour:</i> c &lt; d" in page
    )
    ledger = papers.load("resemotenet")
    ids = [row.id for row in ledger.rows[:3]][::-1]
    assert [row.id for row in ledger_table(ledger, *ids).rows] == ids
    conflicts = ledger_table("resemotenet", status="conflicts").rows
    assert 0 < len(conflicts) < len(ledger.rows) and {row.status for row in conflicts} == {"conflicts"}


def test_statuses_are_those_of_the_ledgers():
    assert set(notebook.STATUS) == set(papers.STATUSES)


def test_ledger_table_refuses():
    with pytest.raises(ValueError, match="resemotenet"):
        ledger_table("resnet")
    with pytest.raises(ValueError, match="Known: "):
        ledger_table("resemotenet", "Z99")
    with pytest.raises(ValueError, match="Known: "):
        ledger_table("resemotenet", status="wrong")
    row = papers.load("resemotenet").rows[0]
    other = next(status for status in papers.STATUSES if status != row.status)
    with pytest.raises(ValueError, match="leave one of them out"):
        ledger_table("resemotenet", row.id, status=other)


# --------------------------------------------------------------------------------------------------------------- footer


def test_footer_says_what_made_the_numbers(shown, monkeypatch):
    monkeypatch.delenv("FERKIT_PROFILE", raising=False)
    profile("smoke", smoke={}, teach={})

    class Data:
        name = "synthetic"
        sha256 = "0123456789abcdef" * 4

    footer()
    footer(Data())
    without, with_data = (data["text/plain"] for data in shown)
    for part in (f"torch {torch.__version__.split('+')[0]}", "profile smoke", "seconds ", "ferkit 0.", "device "):
        assert part in without
    assert "synthetic, sha256 0123456789ab…" in with_data and "sha256" not in without
