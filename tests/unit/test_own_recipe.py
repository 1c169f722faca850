"""notebooks/recipes/own/README.md, as a new user types it: draw, fine-tune, evaluate, predict."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ferkit
from ferkit.__main__ import app
from notebooks.build import ROOT

PAGE = (ROOT / "notebooks/recipes/own/README.md").read_text(encoding="utf-8")


def test_its_commands_and_options_exist():
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    typed = re.findall(r"^python -m ferkit (\w+)(.*)$", PAGE, re.M)
    assert {command for command, _ in typed} == {"run", "evaluate", "predict", "export"} <= known
    for command, rest in typed:
        page = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        assert set(re.findall(r"--[\w-]+", rest)) <= set(re.findall(r"--[\w-]+", page)), command


@pytest.mark.slow
def test_as_a_new_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    program = re.findall(r"```python\n(.*?)```", PAGE, re.S)[0]
    fewer = program.replace("range(60)", "range(14)").replace("range(60, 90)", "range(60, 68)")
    assert fewer.count("range(14)") == 1 and fewer.count("range(60, 68)") == 1
    subprocess.run([sys.executable, "-c", fewer], check=True)

    def typed(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code in (0, 1), done.output
        return done

    recipe = ROOT / "notebooks/recipes/own/fine-tune.yaml"
    short = "stages=[{freeze: [conv, repvgg, spatial_bias], epochs: 2, lr: 0.02}, {freeze: [], epochs: 1, lr: 0.005}]"
    done = typed("run", recipe, "--data", "my_faces", "--set", short, "--set", "threads=1", "--set", "batch_size=16")
    assert "rows of the head kept for happiness, surprise; new and random: asleep; dropped: anger" in done.output
    network = ferkit.load("runs/own-fine-tune")
    assert set(network.labels) == {"happiness", "surprise", "asleep"} and network.threshold is not None
    assert str(network).startswith("runs/own-fine-tune: trained on 39 pictures of folder; right on ")
    accuracy = float(re.findall(r"test accuracy (\S+) %", done.output)[0])
    assert accuracy > 50, "three classes, and two of them known: a third is chance"
    said = typed("evaluate", "runs/own-fine-tune", "--data-path", "my_faces", "--figure", "confusion.png").output
    assert float(re.findall(r"accuracy (\S+) %", said)[0]) == accuracy and Path("confusion.png").stat().st_size > 5000
    said = typed(
        "predict", "my_faces/test", "--network", "runs/own-fine-tune", "--html", "sheet.html", "--crop", "none"
    )
    assert said.exit_code == 0 and "24 pictures, 24 faces" in said.output and Path("sheet.html").is_file()
