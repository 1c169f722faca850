"""The command line: what it prints, and that mistakes end in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ferkit.__main__ import app
from ferkit.models import create_model, save_weights
from ferkit.training.recipe import Recipe
from tests.unit.small_faces import write_fer2013


def ferkit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_fer2013(folder / "fer2013.csv")
    recipe = Recipe(
        name="small",
        width=1 / 16,
        model_options={"head": "linear"},
        image_size=24,
        data="fer2013",
        test_split="public_test",
        epochs=1,
        batch_size=32,
    )
    recipe.save(folder / "small.yaml")
    return folder / "small.yaml"


def run(recipe_file: Path, out: Path, *more: object) -> Result:
    return ferkit("run", recipe_file, "--data", recipe_file.with_name("fer2013.csv"), "--out", out, *more)


def test_run_prints_epochs_and_one_result(recipe_file, tmp_path):
    done = run(
        recipe_file, tmp_path, "--set", "epochs=2", "--set", "lr=0.02", "--set", "model_options={head: mlp}", "--set",
        "early_stopping=null",
    )
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch   1/2") and lines[1].startswith("epoch   2/2")
    assert lines[2].startswith(f"{tmp_path / 'small'}: public_test accuracy ")
    assert "95 % interval" in lines[2] and "n = 60" in lines[2] and "macro-F1 0." in lines[2]
    kept = Recipe.load(tmp_path / "small" / "recipe.yaml")
    assert (kept.epochs, kept.lr, kept.model_options, kept.early_stopping) == (2, 0.02, {"head": "mlp"}, None)
    assert kept.data_path == str(recipe_file.with_name("fer2013.csv"))


def test_run_again_only_reports_and_no_resume_trains(recipe_file, tmp_path):
    first = run(recipe_file, tmp_path).stdout.splitlines()
    assert run(recipe_file, tmp_path).stdout.splitlines() == first[-1:]
    assert len(run(recipe_file, tmp_path, "--no-resume").stdout.splitlines()) == 2


def test_show_prints_the_recipe_as_it_would_run_and_stops(recipe_file, tmp_path):
    done = run(recipe_file, tmp_path, "--show", "--profile", "smoke", "--set", "lr=2e-3")
    assert done.exit_code == 0 and not (tmp_path / "small").exists()
    shown = tmp_path / "shown.yaml"
    shown.write_text(done.stdout, encoding="utf-8")
    recipe = Recipe.load(shown)
    assert (recipe.name, recipe.data, recipe.lr, recipe.epochs) == ("small", "synthetic", 2e-3, 1)
    again = run(recipe_file, tmp_path, "--profile", "smoke")
    assert "# " in again.stderr and "name: small" in again.stderr and "name: small" not in again.stdout


def test_profile_comes_before_set(recipe_file, tmp_path):
    done = ferkit("run", recipe_file, "--profile", "smoke", "--set", "batch_size=64", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    kept = Recipe.load(tmp_path / "small" / "recipe.yaml")
    assert (kept.data, kept.test_split, kept.batch_size, kept.image_size) == ("synthetic", "test", 64, 48)
    assert ": test accuracy " in done.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "lr=fast"], "ferkit: recipe key lr must be a valid number, found 'fast'"),
        (["--set", "lr"], "ferkit: --set takes KEY=VALUE, found 'lr'"),
        (["--set", "learning_rate=0.1"], "ferkit: a recipe has no key 'learning_rate'; known: name, source"),
        (["--set", "model=resnet0"], "ferkit: recipe key model must be one of bam_resnet50"),
        (["--set", "model_options={depth: 3}"], "ferkit: resemotenet has no option 'depth'; known: head"),
        (["--set", "test_split=private_test"], "ferkit: Expected a split that is present, found 'private_test'"),
        (["--set", "schedule=poly"], "ferkit: recipe key schedule must be one of constant"),
        (["--profile", "quick"], "ferkit: no profile 'quick'; known: smoke, teach, paper"),
        (["--set", "lr=1.0e+30", "--set", "epochs=3"], "ferkit: the loss is "),
        (["--set", "data=cifar"], "ferkit: recipe key data must be one of synthetic"),
    ],
)
def test_mistakes_end_in_one_sentence(recipe_file, tmp_path, arguments, complaint):
    done = run(recipe_file, tmp_path, *arguments)
    assert done.exit_code == 1
    said = str(done.exception.code)
    assert said.startswith(complaint) and "\n" not in said
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)


def test_absent_files_end_in_one_sentence(recipe_file, tmp_path):
    done = ferkit("run", tmp_path / "gone.yaml")
    assert done.exit_code == 1 and done.output.strip() == f"ferkit: no recipe at {tmp_path / 'gone.yaml'}"
    done = ferkit("run", recipe_file, "--data", tmp_path / "gone.csv", "--out", tmp_path)
    assert done.exit_code == 1 and str(done.exception).startswith("ferkit: ") and "gone.csv" in done.output
    (tmp_path / "occupied").write_text("a file where the folder should go")
    done = run(recipe_file, tmp_path / "occupied")
    assert done.exit_code == 1 and str(done.exception).startswith("ferkit: ") and "occupied" in done.output


def test_weights_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path))
    assert ferkit("weights").output == ""
    for name in ("fer2013-small", "other"):
        save_weights(create_model("resemotenet", width=1 / 16), tmp_path / f"{name}.safetensors", weights=name)
    assert ferkit("weights").output == "resemotenet: fer2013-small, other\n"
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    assert ferkit("weights").output == "resemotenet: fer2013-small, other\n", "a damaged file hides no other"


def test_publishing_needs_a_name_and_a_finished_run(tmp_path):
    done = ferkit("weights", "--publish", tmp_path)
    assert done.exit_code == 1 and done.output.startswith("ferkit: give the weights a name")
    done = ferkit("weights", "--publish", tmp_path, "--name", "x", "--record-only")
    assert done.exit_code == 1 and done.output.startswith("ferkit: give the weights a name")
    done = ferkit("weights", "--publish", tmp_path, "--record-only")
    assert done.exit_code == 1 and "expected the folder of a finished run" in done.output
    done = ferkit("weights", "--publish", tmp_path, "--name", "x")
    assert done.exit_code == 1 and "expected the folder of a finished run" in done.output


def test_help_is_quick_and_names_the_commands():
    done = ferkit("--help")
    assert done.exit_code == 0 and "run" in done.output and "weights" in done.output
    check = "import sys; import ferkit.__main__; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], env=os.environ, check=False).returncode == 0, (
        "help would take seconds"
    )


@pytest.mark.parametrize("command", ["run", "sweep", "kfold"])
def test_an_interrupted_training_says_how_to_go_on(command, recipe_file, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ferkit.runs.experiment.run", interrupted)
    monkeypatch.setattr("ferkit.runs.series.run_all", interrupted)
    typed = [command, "my recipes/small.yaml", "--no-resume", "--set", "lr=0.1"]
    monkeypatch.setattr(sys, "argv", ["ferkit", *typed])
    done = ferkit(command, recipe_file, "--out", tmp_path, "--no-resume")
    assert done.exit_code == 130
    assert f"to go on from there: python -m ferkit {command} 'my recipes/small.yaml' --set lr=0.1\n" in done.output
