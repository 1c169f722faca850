"""Running a notebook: the good one passes both engines, and each way of being bad is found by one of them."""

from dataclasses import replace

import nbformat
import pytest

from ferkit.notebook import RECORD_MIME
from notebooks import build
from tests.support import checks, demo
from tests.support.smoke import run_lax, run_smoke

pytestmark = pytest.mark.slow
ENTRIES = demo.entries()
ENTRY = ENTRIES[0]


def variant(folder, *changes, **manifest):
    """A copy of the demonstration in `folder` with texts of its source replaced; its entry."""
    text = ENTRY.source.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "py").mkdir(parents=True)
    entry = replace(ENTRY, folder=folder, **manifest)
    entry.source.write_text(text, encoding="utf-8")
    return entry


def smoke(entry, folder, monkeypatch):
    return run_smoke(entry, [entry], folder, monkeypatch)[1]


def test_the_good_notebook_passes(tmp_path, monkeypatch):
    assert smoke(variant(tmp_path / "n"), tmp_path, monkeypatch) == []


def test_everything_wrong_with_a_run_is_found_at_once(tmp_path, monkeypatch):
    """One run, five faults: outside the band on either side, unknown, missing, and a control that raises."""
    entry = variant(
        tmp_path / "n",
        ("SCALE *", "2 *"),
        ('record("epochs_n", S.epochs)', 'record("epochs_n", 0); record("stray_n", 1)'),
        ('print(f"sum {sum(values**power):.4f}")', "1 / 0"),
        records={**ENTRY.records, "never_n": [1, 1]},
    )
    found = "\n".join(smoke(entry, tmp_path, monkeypatch))
    for expected in (
        "mean_frac = 0.5 is outside [0.24, 0.26]",
        "epochs_n = 0 is outside [1, 1]",
        "stray_n is recorded but has no band",
        "never_n was not recorded",
        "a control raised ZeroDivisionError",
    ):
        assert expected in found
    assert found.count("\n") == 4


def test_a_cell_that_raises_or_reaches_out_is_found(tmp_path, monkeypatch):
    import papermill

    reach = 'import urllib.request; urllib.request.urlopen("http://example.org", timeout=20)'
    entry = variant(tmp_path / "n", ('record("epochs_n", S.epochs)', reach))
    with pytest.raises(papermill.PapermillExecutionError, match="refused"):
        smoke(entry, tmp_path, monkeypatch)


def test_a_wrong_solution_is_found(tmp_path, monkeypatch):
    import papermill

    entry = variant(tmp_path / "n", ("answer = len(values)", "answer = 1 + len(values)"))
    with pytest.raises(papermill.PapermillExecutionError, match="the number of values: got 5"):
        smoke(entry, tmp_path, monkeypatch)


def test_a_warning_in_the_notebooks_own_code_is_found(tmp_path, monkeypatch):
    entry = variant(
        tmp_path / "n", ("values = SCALE", 'import warnings; warnings.warn("soon gone", FutureWarning)\nvalues = SCALE')
    )
    found = smoke(entry, tmp_path, monkeypatch)
    assert len(found) == 1 and "FutureWarning: soon gone" in found[0]


def test_unknown_parameter_is_refused_before_anything_runs(tmp_path, monkeypatch):
    entry = variant(tmp_path / "n", parameters={"smoke": {"SCALES": 2.0}})
    with pytest.raises(ValueError, match="no parameter 'SCALES'; its parameters cell has PROFILE, SCALE"):
        smoke(entry, tmp_path, monkeypatch)


@pytest.mark.parametrize(("value", "ok"), [(0.5, False), (0.25, True), (0.2, False)])
def test_bands_have_two_sides(value, ok):
    entry = replace(ENTRY, records={"mean_frac": [0.24, 0.26]})
    assert (checks.record_values({"mean_frac": value}, entry) == []) == ok
    assert checks.record_values({}, entry) and checks.record_values({"mean_frac": 0.25, "other_n": 1}, entry)


def test_budget_counts_the_work_of_the_kernel(tmp_path):
    """Not the waiting: another program's work must not fail a notebook. And a slow one is refused."""
    seconds = []
    for slow in (
        "import time; time.sleep(6)",
        "import time; t = time.process_time()\nwhile time.process_time() < t + 6: pass",
    ):
        entry = variant(tmp_path / slow[13:17], ('record("mean_frac", values.mean())', slow))
        seconds.append(build.execute(build.assemble(entry, [entry]), "smoke", {})[1])
    assert 0.5 < seconds[0] < 30 and 3 < seconds[1] - seconds[0] < 9, seconds
    assert checks.budget(269) == [] and "took 271 s" in checks.budget(271)[0]


@pytest.mark.timeout(60)
def test_a_reply_that_comes_while_a_control_is_answered_is_heard(monkeypatch):
    """Without `build.hear_replies` this waits for ever."""
    import time

    from nbclient.output_widget import OutputWidget

    publish = OutputWidget._publish_msg

    def late(self, *args, **options):
        time.sleep(0.3)
        publish(self, *args, **options)

    monkeypatch.setattr(OutputWidget, "_publish_msg", late)
    assert build.execute(demo.source(), "smoke", {})[1] > 0


def test_nbval_passes_the_good_and_finds_what_papermill_does_not(tmp_path, monkeypatch):
    """A stored output that is no longer true, and a control that raises."""
    stale = demo.built()
    output = demo.cell(stale, "values.shape").outputs[0]
    assert output["data"]["text/plain"] == "(4,)"
    output["data"]["text/plain"] = "(5,)"
    control = demo.built()
    cell = demo.cell(control, "interact(")
    cell.source = cell.source.replace('print(f"sum {sum(values**power):.4f}")', "1 / 0")
    results = {}
    for name, notebook in (("good", demo.built()), ("stale", stale), ("control", control)):
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        results[name] = run_lax(tmp_path / f"{name}.ipynb", monkeypatch)
    assert results["good"][0] == 0, results["good"][1]
    assert results["stale"][0] == 1 and "(5,)" in results["stale"][1]
    assert results["control"][0] == 1 and "ZeroDivisionError" in results["control"][1]


def test_normalise_removes_what_differs_from_run_to_run():
    """State, views, progress bars and paths of a run go; what a reader sees stays."""
    notebook = demo.source()
    cell = demo.cell(notebook, "values.shape")
    cell.metadata["papermill"] = {"duration": 1}
    cell.metadata["execution"] = {"iopub.status.busy": "now"}
    home = f"{build.ROOT}/data/x.npy"
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="\r 10%|# | 1/10"),
        nbformat.v4.new_output("stream", name="stderr", text="\r100%|##| 10/10\n"),
        nbformat.v4.new_output("stream", text=f"read {home} <object at 0x7f00deadbeef>"),
        nbformat.v4.new_output("display_data", data={build.WIDGET_VIEW: {}, "text/plain": "VBox()"}),
        nbformat.v4.new_output("display_data", data={"text/html": f"<b>{home}</b>", "image/png": "AAAA"}),
        nbformat.v4.new_output(
            "display_data", data={RECORD_MIME: {"name": "a_n", "value": 1}, "text/plain": "a_n = 1"}
        ),
    ]
    notebook.metadata["widgets"] = {"state": {}}
    done = build.normalise(notebook)
    texts = [o.get("text") or o["data"] for o in demo.cell(done, "values.shape").outputs]
    assert texts == [
        "100%|##| 10/10\n",
        "read ./data/x.npy <object at 0x…>",
        {"text/html": "<b>./data/x.npy</b>", "image/png": "AAAA"},
        {RECORD_MIME: {"name": "a_n", "value": 1}},
    ]
    assert demo.cell(done, "values.shape").metadata == {"tags": ["nbval-check-output"]}
    assert set(done.metadata) == {"kernelspec", "language_info"}
    assert build.fingerprint(done) == build.fingerprint(demo.source())


def test_text_is_refreshed_without_running_and_only_over_the_same_code(tmp_path):
    entry = variant(tmp_path / "n", ("old as", "older than"))
    nbformat.write(demo.built(), entry.path)
    others = [entry, ENTRIES[1]]
    assert "other text" in build.complaints(entry, others)[0]
    assert build.refresh_prose(entry, others)
    assert build.complaints(entry, others) == []
    kept = nbformat.read(entry.path, as_version=4)
    assert [c.get("outputs") for c in kept.cells] == [c.get("outputs") for c in demo.built().cells]
    entry.source.write_text(entry.source.read_text().replace("/ 6", "/ 7"))
    before = entry.path.read_bytes()
    assert not build.refresh_prose(entry, others)
    assert entry.path.read_bytes() == before


def test_ledger_tables_follow_the_ledgers_without_running(tmp_path):
    entry = variant(
        tmp_path / "n", ("values.shape", 'facts = ["A1"]\nfacts += ["A5"]\nledger_table("resemotenet", *facts)')
    )
    committed = build.assemble(entry, [entry])
    old = {"text/html": "<b>an old row</b>", "text/plain": "an old row"}
    demo.cell(committed, "ledger_table")["outputs"] = [
        nbformat.v4.new_output("execute_result", data=old, execution_count=1)
    ]
    committed.metadata["ferkit"] = {"fingerprint": build.fingerprint(committed), "profile": "teach"}
    nbformat.write(committed, entry.path)
    assert build.complaints(entry, [entry]) == ["01_demo.ipynb shows rows that a ledger has no more: make prose"]
    assert build.refresh_prose(entry, [entry]) and build.complaints(entry, [entry]) == []
    (output,) = demo.cell(nbformat.read(entry.path, as_version=4), "ledger_table").outputs
    assert output.data["text/html"].count("<i>In the authors' favour:</i>") == 2 and "old row" not in str(output)
    for other in ("values", 'len(ledger_table("lfnsb", "A1").rows)', 'rows = ledger_table("lfnsb", "A1")'):
        assert build.shown_rows(nbformat.v4.new_code_cell(other)) is None


def test_fingerprint_is_that_of_the_source_and_ignores_injected_parameters(tmp_path):
    notebook = demo.built()
    assert build.fingerprint(notebook) == build.fingerprint(demo.source())
    notebook.cells.insert(3, nbformat.v4.new_code_cell("SCALE = 3", metadata={"tags": ["injected-parameters"]}))
    assert build.fingerprint(notebook) == build.fingerprint(demo.source())
    notebook.cells.insert(3, nbformat.v4.new_code_cell("SCALE = 3"))
    assert build.fingerprint(notebook) != build.fingerprint(demo.source())


def test_a_rewritten_notebook_runs_with_its_solutions(tmp_path, monkeypatch):
    entry = demo.entry("12_form")
    assert run_smoke(entry, ENTRIES, tmp_path, monkeypatch)[1] == []
    text = entry.source.read_text().replace("{{above_n}}", "{{below_n}}")
    (tmp_path / "py").mkdir()
    bad = replace(entry, folder=tmp_path)
    bad.source.write_text(text)
    found = run_smoke(bad, [e if e.slug != entry.slug else bad for e in ENTRIES], tmp_path, monkeypatch)[1]
    assert len(found) == 1 and "quotes {{below_n}}, which is not recorded" in found[0]
