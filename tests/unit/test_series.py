"""Several runs of one recipe: what is run, resumed and summed up; folds that are a partition of the images."""

import csv
import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ferkit.training.session
from ferkit.__main__ import app
from ferkit.data import image_hashes
from ferkit.data import load as load_data
from ferkit.runs import experiment, series
from ferkit.runs.experiment import load_faces, run
from ferkit.runs.series import recipes_of, run_all
from ferkit.training.history import History
from ferkit.training.recipe import Recipe
from tests.unit.small_faces import small_recipe, write_fer2013


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """200 pictures; 12 of the 60 in the test split are also in the training split."""
    file = write_fer2013(tmp_path_factory.mktemp("data") / "fer2013.csv", copies=12)
    return small_recipe(file, name="small")


@pytest.fixture(scope="module")
def folds(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> series.Series:
    return run_all(recipe.overlay({"folds": 3}), out=tmp_path_factory.mktemp("runs"), progress=False)


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


# ---------------------------------------------------------------------------------------------------------------- which


def test_every_combination_is_a_recipe_of_its_own():
    recipe = Recipe(
        name="r",
        loss="cosine_harmony",
        loss_options={"variant": "released"},
        sweep={"loss_options.alpha": [0.1, 0.5], "seed": [0, 1]},
    )
    made = recipes_of(recipe)
    assert [each.name for _, each in made] == [
        "r-alpha=0.1-seed=0",
        "r-alpha=0.1-seed=1",
        "r-alpha=0.5-seed=0",
        "r-alpha=0.5-seed=1",
    ]
    assert made[2][0] == {"loss_options.alpha": 0.5, "seed": 0}
    assert made[2][1] == recipe.overlay(
        {"name": "r-alpha=0.5-seed=0", "sweep": {}, "seed": 0, "loss_options": {"variant": "released", "alpha": 0.5}}
    )
    both = recipes_of(recipe.overlay({"sweep": {"lr": [0.1]}, "folds": 10}))
    assert [(each.lr, each.folds, each.test_fold) for _, each in both] == [(0.1, 10, k) for k in range(1, 11)]
    assert both[0][1].name == "r-lr=0.1-test_fold=01"
    assert (
        recipes_of(Recipe(name="r", sweep={"init": [None, "a/b.safetensors"]}))[1][1].name == "r-init=a_b.safetensors"
    )


def test_what_cannot_be_several_runs_is_refused():
    with pytest.raises(ValueError, match="experiment is a single run: give its key sweep lists"):
        recipes_of(Recipe())
    with pytest.raises(ValueError, match="experiment is a single run"):
        recipes_of(Recipe(folds=3, test_fold=1))
    with pytest.raises(ValueError, match=r"would be called r-lr=0\.1: give each value once"):
        recipes_of(Recipe(name="r", sweep={"lr": [0.1, 0.1]}))
    with pytest.raises(ValueError, match="sweep names 'depth', which no recipe has"):
        recipes_of(Recipe(sweep={"depth": [1, 2]}))
    with pytest.raises(ValueError, match="lr must be a valid number"):
        recipes_of(Recipe(sweep={"lr": [0.1, "fast"]}))
    for several, named in (
        (Recipe(sweep={"lr": [0.1]}), r"\(lr\).*ferkit sweep"),
        (Recipe(folds=3), r"\(3 folds\).*ferkit kfold"),
    ):
        with pytest.raises(ValueError, match=f"asks for several runs {named}"):
            run(several)


# ---------------------------------------------------------------------------------------------------------------- folds


def test_folds_are_a_partition_and_no_copy_is_on_two_sides(recipe):
    whole = load_data("fer2013", recipe.data_path)
    everything = np.sort(image_hashes(whole.images))
    tested, classes = [], []
    for fold in (1, 2, 3):
        faces = load_faces(recipe.overlay({"folds": 3, "test_fold": fold}))
        hashes = image_hashes(faces.images)
        assert np.array_equal(np.sort(hashes), everything), "every image is in every fold's data, with its copies"
        parts = {split: set(hashes[faces.split == split].tolist()) for split in ("train", "validation", "public_test")}
        assert sum(faces.splits().values()) == len(whole) and all(parts.values())
        for a, b in (("train", "validation"), ("train", "public_test"), ("validation", "public_test")):
            assert not parts[a] & parts[b]
        tested.append(hashes[faces.split == "public_test"])
        classes.append(list(faces.select("public_test").counts().values()))
    assert np.array_equal(np.sort(np.concatenate(tested)), everything), "every image is tested in one fold"
    assert np.ptp(np.array(classes), axis=0).max() <= 2, "copies come in pairs"
    assert np.ptp([len(t) for t in tested]) <= 2
    other = load_faces(recipe.overlay({"folds": 3, "test_fold": 1, "split_seed": 1}))
    assert not np.array_equal(other.split, load_faces(recipe.overlay({"folds": 3, "test_fold": 1})).split)


def test_the_official_test_split_can_stay_out(recipe):
    whole = load_data("fer2013", recipe.data_path)
    faces = load_faces(recipe.overlay({"folds": 3, "test_fold": 2, "fold_pool": "train"}))
    assert len(faces) == whole.splits()["train"] == 140
    assert np.array_equal(np.sort(image_hashes(faces.images)), np.sort(image_hashes(whole.select("train").images)))


def test_what_folds_cannot_do_is_refused(recipe):
    with pytest.raises(ValueError, match=r"one for each fold, found \d+; ask for fewer folds"):
        load_faces(recipe.overlay({"folds": 150, "test_fold": 1}))
    for fold, number in ((4, 3), (1, None)):
        with pytest.raises(ValueError, match="fold counts from 1 to folds"):
            Recipe(folds=number, test_fold=fold)


# -------------------------------------------------------------------------------------------------------------- running


def test_every_fold_is_a_run_with_a_record_of_its_own(folds):
    assert sorted(p.name for p in folds.folder.iterdir()) == [
        "small-test_fold=1",
        "small-test_fold=2",
        "small-test_fold=3",
        "summary.csv",
        "summary.json",
    ]
    for row, each in zip(folds.summary["runs"], folds.recipes, strict=True):
        result = json.loads((folds.folder / each.name / "result.json").read_text("utf-8"))
        assert result["recipe"] == each.as_dict() and each.folds == 3 and row["values"] == {"test_fold": each.test_fold}
        assert (
            result["test"]["accuracy"] == row["test"]["accuracy"]
            and result["test"]["duplicate_clean"]["n"] == result["test"]["n"] == row["test"]["n"]
        )
    assert sum(row["test"]["n"] for row in folds.summary["runs"]) == 200
    assert len({json.dumps(row["test"]) for row in folds.summary["runs"]}) == 3


def test_mean_and_standard_deviation_are_those_of_the_folds(folds):
    (group,) = folds.summary["groups"]
    assert group["values"] == {} and group["runs"] == folds.summary["finished"] == folds.summary["planned"] == 3
    for part in ("test", "validation"):
        for score in ("accuracy", "balanced_accuracy", "macro_f1", "cross_entropy"):
            values = [row[part][score] for row in folds.summary["runs"]]
            assert group[part][score]["mean"] == pytest.approx(statistics.mean(values))
            assert group[part][score]["sd"] == pytest.approx(statistics.stdev(values))
    assert group["test"]["cross_entropy"]["sd"] > 0
    assert json.loads((folds.folder / "summary.json").read_text("utf-8")) == folds.summary
    table = lines(folds.folder / "summary.csv")
    assert [float(line["test_accuracy"]) for line in table] == [
        row["test"]["accuracy"] for row in folds.summary["runs"]
    ]
    assert [line["test_fold"] for line in table] == ["1", "2", "3"]


def test_an_interrupted_series_goes_on_in_the_fold_it_had_reached(recipe, folds, tmp_path, monkeypatch):
    asked = recipe.overlay({"folds": 3})
    save, begun = History.save, []

    def pull_the_plug(self: History, file: Path) -> None:
        save(self, file)
        # the checkpoint of this epoch is not written yet
        if file.parent.name == "small-test_fold=2" and len(self.rows) == 1:
            raise KeyboardInterrupt

    def fitting(*args, **options):
        begun.append(options["folder"].name)
        return fit(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(History, "save", pull_the_plug)
        with pytest.raises(KeyboardInterrupt):
            run_all(asked, out=tmp_path, progress=False)
    halfway = json.loads((tmp_path / "small" / "summary.json").read_text("utf-8"))
    assert (halfway["finished"], halfway["planned"], halfway["groups"][0]["runs"]) == (1, 3, 1)
    assert halfway["groups"][0]["test"]["accuracy"]["sd"] is None
    fit = experiment.fit
    monkeypatch.setattr(experiment, "fit", fitting)
    again = run_all(asked, out=tmp_path, progress=False)
    assert begun == ["small-test_fold=2", "small-test_fold=3"]
    without_times = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in s.summary["runs"]] for s in (again, folds)
    ]
    assert without_times[0] == without_times[1]
    begun.clear()
    monkeypatch.setattr(
        ferkit.training.session.TrainingImages, "__getitems__", lambda *_: pytest.fail("a finished series was trained")
    )
    assert run_all(asked, out=tmp_path, progress=False).summary == again.summary and not begun
    with pytest.raises(ValueError, match="holds a run with another lr"):
        run_all(asked.overlay({"lr": 0.5}), out=tmp_path, progress=False)


def test_a_sweep_is_summed_up_over_its_seeds(recipe, tmp_path):
    file = tmp_path / "small.yaml"
    recipe.overlay({"data_path": None, "epochs": 1, "name": "smoothing"}).save(file)
    over = ("--over", "label_smoothing=[0.0, 0.2]", "--over", "seed=[0, 1]")
    done = CliRunner().invoke(
        app, ["sweep", str(file), "--data", recipe.data_path, "--out", str(tmp_path / "runs"), *over]
    )
    assert done.exit_code == 0, done.output
    assert "label_smoothing = 0.2: public_test accuracy" in done.output and "over 2 runs" in done.output
    summary = json.loads((tmp_path / "runs" / "smoothing" / "summary.json").read_text("utf-8"))
    assert [(g["values"], g["runs"]) for g in summary["groups"]] == [
        ({"label_smoothing": 0.0}, 2),
        ({"label_smoothing": 0.2}, 2),
    ]
    rows = summary["runs"]
    assert [row["values"] for row in rows] == [{"label_smoothing": s, "seed": k} for s in (0.0, 0.2) for k in (0, 1)]
    second = [row["test"]["accuracy"] for row in rows[2:]]
    assert summary["groups"][1]["test"]["accuracy"] == {
        "mean": pytest.approx(sum(second) / 2),
        "sd": pytest.approx(abs(second[0] - second[1]) / 2**0.5),
    }
    assert rows[0]["test"]["cross_entropy"] != rows[2]["test"]["cross_entropy"]
    assert [
        (line["label_smoothing"], line["seed"]) for line in lines(tmp_path / "runs" / "smoothing" / "summary.csv")
    ] == [("0.0", "0"), ("0.0", "1"), ("0.2", "0"), ("0.2", "1")]


def test_the_command_line_says_what_is_wrong(recipe, tmp_path):
    file = tmp_path / "small.yaml"
    recipe.save(file)
    for arguments, said in (
        (["sweep", file], "small is a single run: give its key sweep lists of values"),
        (["sweep", file, "--over", "lr"], "--over takes KEY=VALUE, found 'lr'"),
        (["sweep", file, "--over", "lr=0.1"], "recipe key sweep.lr must be a valid list, found 0.1"),
        (["kfold", file, "--folds", "150"], "ask for fewer folds"),
        (["run", file, "--set", "folds=3"], "asks for several runs (3 folds)"),
    ):
        done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(tmp_path / "runs")])
        assert done.exit_code == 1 and said in str(done.exception or done.output), arguments
    assert not (tmp_path / "runs").exists()


def test_the_folds_that_are_asked_for_are_run_and_no_others():
    recipe = Recipe(name="r", folds=5, sweep={"test_fold": [1, 3]})
    assert [each.test_fold for _, each in recipes_of(recipe)] == [1, 3]


def test_one_run_that_diverges_does_not_end_the_others(recipe, tmp_path, capsys):
    done = run_all(recipe.overlay({"epochs": 1, "sweep": {"lr": [1.0e30, 0.01]}}), out=tmp_path)
    assert done.summary["finished"] == 1 and [row["values"] for row in done.summary["runs"]] == [{"lr": 0.01}]
    (failed,) = done.summary["failed"]
    assert failed["values"] == {"lr": 1e30} and failed["why"].startswith("the loss is ")
    assert "failed: the loss is" in capsys.readouterr().out
    assert json.loads((done.folder / "summary.json").read_text("utf-8")) == json.loads(json.dumps(done.summary))
    nothing = run_all(
        recipe.overlay({"name": "none", "epochs": 1, "sweep": {"lr": [1.0e30]}}), out=tmp_path, progress=False
    )
    assert nothing.summary["finished"] == 0 and nothing.summary["groups"] == []


def test_a_series_does_not_go_into_the_folder_of_a_run(recipe, tmp_path):
    (tmp_path / "small").mkdir()
    recipe.save(tmp_path / "small" / "recipe.yaml")
    with pytest.raises(ValueError, match="holds a single run; give the series another name"):
        run_all(recipe.overlay({"folds": 2}), out=tmp_path, progress=False)
