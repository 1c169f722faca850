"""run(): a recipe in, a folder out; tested once, resumed, never mixed with another recipe."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import ferkit
from ferkit.evaluation.metrics import evaluate
from ferkit.labels import order
from ferkit.models import create_model, summarise
from ferkit.predict import predict_probabilities
from ferkit.runs import experiment
from ferkit.runs.experiment import build_model, environment, load_faces, run, split_digest
from ferkit.training.history import History
from ferkit.training.recipe import Recipe, resolve
from tests.unit.small_faces import small_recipe, write_fer2013


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Two epochs on a small csv; 12 of the 60 test pictures are also in the training split."""
    file = write_fer2013(tmp_path_factory.mktemp("data") / "fer2013.csv", copies=12)
    return small_recipe(file, name="first", tta="flip")


@pytest.fixture(scope="module")
def done(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> experiment.Run:
    return run(recipe, out=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def finished(done: experiment.Run, tmp_path: Path) -> Path:
    """A copy of the finished run's folder, to do things to."""
    import shutil

    shutil.copytree(done.folder, tmp_path / "first")
    return tmp_path / "first"


def test_folder_holds_everything(done, recipe):
    names = {"recipe.yaml", "history.csv", "result.json", "predictions.npz", "best.safetensors", "checkpoint"}
    assert {p.name for p in done.folder.iterdir()} == names
    assert Recipe.load(done.folder / "recipe.yaml") == recipe
    assert History.read(done.folder / "history.csv").rows == done.history.rows
    assert json.loads((done.folder / "result.json").read_text("utf-8")) == done.result
    assert create_model("resemotenet", weights=done.folder / "best.safetensors").labels == order("fer2013")


def test_result_is_what_the_returned_network_does(done, recipe):
    faces = load_faces(recipe)
    for split, key in (("public_test", "test"), ("validation", "validation")):
        part = faces.select(split)
        expected = evaluate(predict_probabilities(done.model, part.images, tta="flip"), part.labels, faces.names)
        found = {k: v for k, v in done.result[key].items() if k != "duplicate_clean"}
        assert json.dumps(found) == json.dumps(expected)
    stored = np.load(done.folder / "predictions.npz")
    assert {k: v.shape for k, v in stored.items()} == {
        "test": (60, 7),
        "validation": (14, 7),
        "test_labels": (60,),
        "validation_labels": (14,),
        "test_clean": (60,),
    }
    assert stored["test_clean"].sum() == 48 and stored["test_clean"][12:].all()
    assert (stored["test"].argmax(1) == stored["test_labels"]).mean() == done.result["test"]["accuracy"]


def test_result_says_how_it_came_about(done, recipe):
    result = done.result
    assert result["recipe"] == recipe.as_dict()
    assert result["protocol"]["test_split"] == "public_test" and result["protocol"]["tta"] == "flip"
    best = done.history.best("val_accuracy")
    assert result["protocol"]["selection"].startswith(f"epoch {best + 1} of 2, largest val_accuracy")
    assert result["data"]["splits"] == {"train": 126, "validation": 14, "public_test": 60}
    assert len(result["data"]["sha256"]) == len(result["data"]["split_sha256"]) == 64
    assert result["model"]["parameters"] == sum(p.numel() for p in done.model.parameters())
    assert result["model"]["macs"] == sum(row.macs for row in summarise(done.model, 24)) > 100_000
    assert result["model"]["input_size"] == 24
    assert 0 < result["seconds"]["training"] <= result["seconds"]["this_call"] + 0.2
    assert set(environment()) >= {"ferkit", "commit", "python", "torch", "device", "processes", "threads", "system"}
    assert result["environment"]["processes"] == 1 and result["environment"]["torch"] == torch.__version__


def test_figures_without_copies_stand_beside_the_others(done):
    test = done.result["test"]
    assert test["n"] == 60 and test["duplicate_clean"]["n"] == 48
    for part in (test, test["duplicate_clean"]):
        low, high = part["intervals"]["accuracy"]
        assert low <= part["accuracy"] <= high


def test_a_finished_run_is_loaded_not_trained_and_not_tested(done, recipe, finished, monkeypatch):
    def never(*_args: object, **_options: object) -> None:
        raise AssertionError("a finished run was touched")

    for name in ("fit", "predict_probabilities", "evaluate", "write_json", "_claim"):
        monkeypatch.setattr(experiment, name, never)
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    again = run(recipe, out=finished.parent, progress=False)
    assert again.result == done.result and again.history.rows == done.history.rows
    for a, b in zip(again.model.state_dict().values(), done.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert again.model.input_size == 24 and again.model.labels == done.model.labels
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_the_test_split_is_read_once_and_after_training(recipe, tmp_path, monkeypatch):
    faces = load_faces(recipe)
    test, seen = faces.select("public_test"), []
    train_with, predict_with = experiment.fit, experiment.predict_probabilities

    def fitting(task, train, validation, *args, **options):
        seen.append("training")
        assert set(train.split) == {"train"} and set(validation.split) == {"validation"}
        return train_with(task, train, validation, *args, **options)

    def predicting(model, images, **options):
        seen.append("test" if len(images) == len(test) and np.array_equal(images, test.images) else "validation")
        return predict_with(model, images, **options)

    monkeypatch.setattr(experiment, "fit", fitting)
    monkeypatch.setattr(experiment, "predict_probabilities", predicting)
    run(recipe.overlay({"epochs": 1}), out=tmp_path, progress=False)
    assert sorted(seen) == ["test", "training", "validation"] and seen[0] == "training"


def test_interrupted_between_training_and_testing(done, recipe, tmp_path, monkeypatch):
    def out_of_memory(*_args: object, **_options: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "evaluate", out_of_memory)
        with pytest.raises(MemoryError):
            run(recipe, out=tmp_path, progress=False)
    assert not (tmp_path / "first" / "result.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr("ferkit.training.session.TrainingImages.__getitems__", out_of_memory)  # nothing is left to train
        again = run(recipe, out=tmp_path, progress=False)
    assert again.result["test"] == done.result["test"]


@pytest.mark.parametrize(("change", "named"), [({"lr": 0.1}, "lr"), ({"epochs": 1, "seed": 1}, "seed")])
def test_another_recipe_is_refused(recipe, finished, change, named):
    before = (finished / "recipe.yaml").read_bytes()
    with pytest.raises(
        ValueError, match=f"holds a run with another {named}; give this one another name, or begin anew"
    ):
        run(recipe.overlay(change), out=finished.parent, progress=False)
    assert (finished / "recipe.yaml").read_bytes() == before


def test_another_recipe_is_refused_in_the_first_stage_too(recipe, tmp_path):
    """A staged training has no history before its first stage is over."""
    staged = recipe.overlay({"name": "staged", "stages": [{"epochs": 1}]})
    (tmp_path / "staged" / "stages" / "01").mkdir(parents=True)
    staged.save(tmp_path / "staged" / "recipe.yaml")
    with pytest.raises(ValueError, match="holds a run with another lr; give this one another name"):
        run(staged.overlay({"lr": 0.1}), out=tmp_path, progress=False)


def test_what_does_not_change_the_training_may_change(recipe, finished, tmp_path):
    moved = tmp_path / "moved.csv"
    moved.write_bytes(Path(recipe.data_path).read_bytes())
    change = {
        "workers": 2,
        "checkpoint_steps": 7,
        "data_path": str(moved),
        "source": "said in other words",
        "threads": 2,
    }
    before = torch.get_num_threads()
    again = run(recipe.overlay(change), out=finished.parent, progress=False)
    torch.set_num_threads(before)
    assert again.result["recipe"]["workers"] == 0


def test_a_tuple_in_the_recipe_is_its_own_run(recipe, tmp_path):
    """YAML gives a list back; that is no other recipe."""
    tupled = recipe.overlay({"epochs": 1, "data_options": {}, "freeze": ()})
    first = run(tupled, out=tmp_path, progress=False)
    assert run(tupled, out=tmp_path, progress=False).result == first.result


def test_a_finished_run_goes_on_with_more_epochs_and_says_that_it_was_tested_before(recipe, tmp_path):
    short = run(recipe.overlay({"epochs": 1}), out=tmp_path, progress=False)
    assert short.result["protocol"]["tested_before"] == []
    longer = run(recipe.overlay({"epochs": 3}), out=tmp_path, progress=False)
    assert [row["epoch"] for row in longer.history.rows] == [1, 2, 3]
    assert longer.history.rows[0] == short.history.rows[0], "it went on, and did not begin anew"
    assert longer.result["protocol"]["tested_before"] == [
        {"epochs": 1, "test_accuracy": short.result["test"]["accuracy"]}
    ]
    assert "the test split was read 2 times, before after 1 epochs" in longer.result["protocol"]["selection"]
    fresh = run(recipe.overlay({"epochs": 3}), out=tmp_path / "fresh", progress=False)
    assert fresh.result["test"]["confusion"] == longer.result["test"]["confusion"], (
        "as if it had been asked for at once (constant rate)"
    )
    with pytest.raises(ValueError, match="holds a run of 3 epochs, found epochs=2; ask for 3 or more"):
        run(recipe.overlay({"epochs": 2}), out=tmp_path, progress=False)


def test_other_data_under_the_same_name_are_not_answered_with_the_old_result(recipe, finished, tmp_path):
    other = tmp_path / "other.csv"
    write_fer2013(other, train=150)
    with pytest.raises(ValueError, match=r"holds the result of a run on other data \(fer2013, "):
        run(recipe.overlay({"data_path": str(other)}), out=finished.parent, progress=False)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda f: (f / "result.json").write_text('{"test": {"accu'),
            r"Expected JSON in .*result.json, but it cannot be read",
        ),
        (lambda f: (f / "result.json").write_text(""), r"result.json, but it is empty"),
        (
            lambda f: (f / "result.json").write_text('{"a": 1}'),
            r"result.json is no result of a run: it has no test, validation, data",
        ),
        (lambda f: (f / "recipe.yaml").unlink(), r"holds a run whose recipe.yaml is gone"),
        (lambda f: (f / "recipe.yaml").write_text("- no"), r"recipe.yaml must hold keys and values, found list"),
        (
            lambda f: (f / "history.csv").write_text((f / "history.csv").read_text().replace(",", ";")),
            r"history.csv is no history of a training",
        ),
        (
            lambda f: (f / "history.csv").write_text("epoch,lr\n1,fast\n"),
            r"history.csv, line 2, is no row of a history",
        ),
        (lambda f: (f / "best.safetensors").write_bytes(b"cut"), "best.safetensors"),
    ],
)
def test_a_damaged_run_folder_is_named(recipe, finished, tmp_path, damage, said):
    folder = tmp_path / "damaged" / recipe.name
    shutil.copytree(finished, folder)
    damage(folder)
    with pytest.raises(ValueError, match=said):
        run(recipe, out=folder.parent, progress=False)


@pytest.mark.parametrize("git", ["absent", "another repository"])
def test_the_commit_is_ferkit_s_own_or_none(git, tmp_path, monkeypatch):
    """Without git a finished training must not be lost;
    an installed ferkit must not name the repository it happens to lie in.
    """
    if git == "absent":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        monkeypatch.setattr(ferkit, "__file__", str(tmp_path / "site-packages" / "ferkit" / "__init__.py"))
        (tmp_path / "site-packages" / "ferkit").mkdir(parents=True)
    assert environment()["commit"] is None


def test_without_resume_the_folder_begins_anew(recipe, finished, done):
    other = recipe.overlay({"epochs": 1, "seed": 8})
    again = run(other, out=finished.parent, resume=False, progress=False)
    assert len(again.history.rows) == 1 and again.result["protocol"]["seed"] == 8
    assert Recipe.load(finished / "recipe.yaml") == other
    assert [p.name for p in (finished / "checkpoint").iterdir()] == ["00001-0000000"]
    assert again.history.rows[0]["train_loss"] != done.history.rows[0]["train_loss"]


def test_a_run_that_cannot_begin_leaves_nothing_and_blocks_nothing(recipe, tmp_path):
    with pytest.raises(ValueError, match="found 'private_test'"):
        run(recipe.overlay({"test_split": "private_test"}), out=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="trains on votes, but .* has none"):
        run(recipe.overlay({"target": "votes"}), out=tmp_path, progress=False)
    run(recipe.overlay({"epochs": 1}), out=tmp_path, progress=False)  # the corrected recipe, same name


def test_network_comes_from_the_seed_and_speaks_the_data_s_labels(recipe):
    first, second, other = (build_model(recipe.overlay({"seed": s}), order("fer2013")) for s in (0, 0, 1))
    assert torch.equal(first.conv1.weight, second.conv1.weight) and not torch.equal(
        first.conv1.weight, other.conv1.weight
    )
    assert first.labels == order("fer2013") and first.input_size == 24
    eight = build_model(recipe.overlay({"image_size": None}), order("ferplus"))
    assert eight.fc.out_features == 8 and eight.input_size == 64


def test_validation_is_carved_or_the_data_s_own(recipe, monkeypatch):
    faces = load_faces(recipe)
    assert faces.splits() == {"train": 126, "validation": 14, "public_test": 60}
    assert split_digest(faces) == split_digest(load_faces(recipe))
    assert split_digest(faces) != split_digest(load_faces(recipe.overlay({"split_seed": 1})))
    assert load_faces(recipe.overlay({"validation_fraction": 0.2})).splits()["validation"] == 27  # of 140, by class

    clean = load_faces(recipe.overlay({"drop_leaked": True}))
    assert clean.splits()["train"] + clean.splits()["validation"] == 140 - 12

    monkeypatch.setattr(experiment.data, "load", lambda *_args, **_options: dataclasses.replace(faces, name="own"))
    assert (
        load_faces(recipe) is not None
        and load_faces(recipe.overlay({"split_seed": 5})).split.tolist() == faces.split.tolist()
    )
    with pytest.raises(ValueError, match="own brings its own"):
        load_faces(recipe.overlay({"drop_leaked": True}))


def test_validation_on_a_named_split(recipe):
    named = recipe.overlay(
        {
            "data": "synthetic",
            "data_path": None,
            "data_options": {"n_train": 20, "n_test": 10, "size": 32},
            "test_split": "test",
        }
    )
    faces = load_faces(recipe)
    own = dataclasses.replace(
        faces, split=np.where(np.arange(len(faces)) % 5 == 0, "private_test", faces.split.astype("<U12"))
    )
    own = dataclasses.replace(own, split=np.where(own.split == "validation", "train", own.split))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment.data, "load", lambda *_args, **_options: own)
        chosen = load_faces(recipe.overlay({"test_split": "private_test", "validation_split": "public_test"}))
        assert chosen.splits() == {
            "train": own.splits()["train"],
            "validation": own.splits()["public_test"],
            "private_test": own.splits()["private_test"],
        }
        assert np.array_equal(chosen.select("validation").images, own.select("public_test").images)
        both = dataclasses.replace(
            own, split=np.where((own.split == "train") & (np.arange(len(own)) % 3 == 0), "validation", own.split)
        )
        patch.setattr(experiment.data, "load", lambda *_args, **_options: both)
        with pytest.raises(ValueError, match="fer2013 brings a validation split of its own"):
            load_faces(recipe.overlay({"test_split": "private_test", "validation_split": "public_test"}))
    with pytest.raises(ValueError, match="found 'public_test'"):
        load_faces(named.overlay({"validation_split": "public_test"}))


def test_a_wrong_augmentation_of_the_test_is_refused_before_training(recipe, tmp_path):
    with pytest.raises(ValueError, match="no test-time augmentation 'crops'"):
        run(recipe.overlay({"tta": "crops"}), out=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_random_copies_of_the_test_come_from_the_recipe_s_seed(recipe, tmp_path):
    done = run(recipe.overlay({"tta": "resmasking_random_2", "epochs": 1, "seed": 3}), out=tmp_path, progress=False)
    test = load_faces(recipe).select("public_test")
    stored = np.load(done.folder / "predictions.npz")["test"]
    assert np.array_equal(stored, predict_probabilities(done.model, test.images, tta="resmasking_random_2", seed=3))
    assert not np.array_equal(stored, predict_probabilities(done.model, test.images, tta="resmasking_random_2", seed=0))


def test_smoke_profile_runs_every_recipe_s_kind(tmp_path):
    """The profile needs no data; the recipe is the most demanding one."""
    recipe = resolve(Recipe(
        name="smoke", augmentation="mild_erasing", schedule="cosine", warmup_epochs=1.0, ema_decay=0.999,
        precision="bf16", channels_last=True,
        model_options={"head": "linear"}, tta="flip", nesterov=True, threads=1,
    ), profile="smoke")  # fmt: skip
    done = run(recipe, out=tmp_path, progress=False)
    assert done.result["data"]["splits"] == {"train": 252, "validation": 28, "test": 140}
    assert done.result["test"]["n"] == 140


def test_frozen_parts_stay_as_they_were_statistics_included(recipe, tmp_path):
    first = run(recipe.overlay({"epochs": 1}), out=tmp_path, progress=False)
    tuned = recipe.overlay(
        {
            "name": "tuned",
            "init": str(first.folder / "best.safetensors"),
            "freeze": ["conv1", "bn1"],
            "ema_decay": 0.5,
            "epochs": 2,
        }
    )
    done = run(tuned, out=tmp_path, progress=False)
    before, after = first.model.state_dict(), done.model.state_dict()
    frozen = [k for k in before if k.startswith(("conv1.", "bn1."))]
    assert frozen and all(torch.equal(before[k], after[k]) for k in frozen)
    assert any("running_mean" in k for k in frozen)
    assert not torch.equal(before["conv2.weight"], after["conv2.weight"]) and not torch.equal(
        before["bn2.running_mean"], after["bn2.running_mean"]
    )
    with pytest.raises(ValueError, match="conv9"):
        run(recipe.overlay({"name": "wrong", "freeze": ["conv9"]}), out=tmp_path, progress=False)
    assert not (tmp_path / "wrong").exists()
