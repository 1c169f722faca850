"""A series that is given some minutes stops between two epochs, and the same call goes on from there."""

import json
import time
from pathlib import Path

import pytest
from accelerate import Accelerator
from typer.testing import CliRunner

from ferkit.__main__ import app
from ferkit.models import create_model
from ferkit.runs.series import run_all
from ferkit.training import History, OutOfTime, Recipe, fit, make_accelerator, make_task, session
from tests.unit.small_faces import NAMES, small_faces, write_fer2013


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(
        name="small",
        width=1 / 16,
        model_options={"head": "linear"},
        image_size=24,
        data="fer2013",
        data_path=str(write_fer2013(tmp_path_factory.mktemp("data") / "fer2013.csv")),
        test_split="public_test",
        epochs=2,
        batch_size=32,
        lr=0.02,
        sweep={"seed": [0, 1, 2]},
    )


def without_times(summary: dict) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in summary["runs"]]


def test_a_series_whose_time_is_over_goes_on_where_it_stopped(recipe, tmp_path, monkeypatch):
    seen = []

    def in_the_second_run(until: float, history: History, accelerator: Accelerator) -> bool:
        seen.append(len(history.rows))
        return seen == [0, 1, 0, 1]  # two epochs of the first run, one of the second

    with monkeypatch.context() as patch:
        patch.setattr(session, "too_late", in_the_second_run)
        stopped = run_all(recipe, out=tmp_path, progress=False, until=1.0)
    assert (stopped.summary["finished"], stopped.summary["planned"]) == (1, 3)
    assert (
        len(History.read(tmp_path / "small" / "small-seed=1" / "history.csv").rows) == 1
        and not (tmp_path / "small" / "small-seed=2").exists()
    )
    again = run_all(recipe, out=tmp_path, progress=False, until=time.monotonic() + 3600)
    never_stopped = run_all(recipe, out=tmp_path / "whole", progress=False)
    assert without_times(again.summary) == without_times(never_stopped.summary) and again.summary["finished"] == 3


def test_an_epoch_begins_if_one_like_the_last_would_end_in_time():
    accelerator, history, now = make_accelerator(), History(), time.monotonic()
    assert session.too_late(now - 1, history, accelerator) and not session.too_late(now + 100, history, accelerator)
    history.rows = [{"epoch": 1, "seconds": 1.0}, {"epoch": 2, "seconds": 80.0}]
    assert not session.too_late(now + 100, history, accelerator)
    history.rows.append({"epoch": 3, "seconds": 120.0})
    assert session.too_late(now + 100, history, accelerator)


def test_stages_share_the_time(recipe, tmp_path):
    from ferkit.training import fit_stages

    staged = recipe.overlay({"sweep": {}, "stages": [{"epochs": 1}, {"epochs": 1, "lr": 0.01}]})
    model = create_model("resemotenet", width=1 / 16, labels=NAMES, head="linear")
    model.input_size = 24
    faces = small_faces(64)
    with pytest.raises(OutOfTime, match="stopped after 0 of 1 epochs"):
        fit_stages(model, faces, faces, staged, folder=tmp_path, progress=False, until=time.monotonic() - 1)
    assert not (tmp_path / "stages" / "01" / "history.csv").exists()
    fit_stages(model, faces, faces, staged, folder=tmp_path, progress=False, until=time.monotonic() + 3600)
    with pytest.raises(OutOfTime, match="stopped after 1 of 2 epochs"):
        longer = recipe.overlay({"sweep": {}, "epochs": 2})
        fit(
            make_task(model, longer, faces.counts()),
            faces,
            faces,
            longer,
            folder=tmp_path / "stages" / "02",
            progress=False,
            until=time.monotonic() - 1,
        )


def test_minutes_are_those_of_all_recipes_together(recipe, tmp_path):
    files: list[Path] = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file in files:
        recipe.overlay({"name": file.stem, "sweep": {"seed": [0, 1]}}).save(file)
    sweep = ["sweep", *map(str, files), "--out", str(tmp_path / "runs"), "--minutes"]
    done = CliRunner().invoke(app, [*sweep, "0"])
    assert done.exit_code == 0, done.output
    for name in "ab":
        assert f"{name}: the time is over, 0 of 2 runs are finished; the same command goes on from there" in done.output
        assert not (tmp_path / "runs" / name / f"{name}-seed=0" / "result.json").exists()
    done = CliRunner().invoke(app, [*sweep, "60"])
    assert done.exit_code == 0 and "the time is over" not in done.output, done.output
    assert all(
        json.loads((tmp_path / "runs" / name / "summary.json").read_text("utf-8"))["finished"] == 2 for name in "ab"
    )
