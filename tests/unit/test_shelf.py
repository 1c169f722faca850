"""The shelf: a series becomes a small record, whose runs are compared image by image, and can be run again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ferkit.__main__ import app
from ferkit.evaluation.metrics import paired_difference
from ferkit.runs.series import recipes_of, run_all
from ferkit.runs.shelf import (
    PREFIX,
    Shelf,
    compare,
    differences,
    pack,
    read_shelf,
    reproduce,
    shelf_folder,
    shelve,
    unpack,
)
from ferkit.training.history import History
from ferkit.training.recipe import Recipe
from tests.unit.small_faces import write_fer2013

RECIPES = Path(__file__).parents[2] / "notebooks" / "recipes" / "shelf"
COMMITTED = sorted(file.stem for file in shelf_folder().glob("*.json"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fer2013(tmp_path_factory.mktemp("data") / "fer2013.csv", copies=12)


@pytest.fixture(scope="module")
def recipe(data: Path) -> Recipe:
    """Four runs on pictures whose cue a network learns at once, stopped before all of them answer without a fault."""
    return Recipe(
        name="shelf-small",
        source="a test",
        width=1 / 16,
        model_options={"head": "linear", "ablation": "C6"},
        image_size=24,
        data="fer2013",
        data_path=str(data),
        test_split="public_test",
        epochs=2,
        batch_size=16,
        lr=0.01,
        threads=1,
        sweep={"label_smoothing": [0.0, 0.2], "seed": [0, 1]},
    )


@pytest.fixture(scope="module")
def series(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_all(recipe, out=tmp_path_factory.mktemp("runs"), progress=False).folder


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A shelf of its own."""
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path / "data" / "weights"))
    return tmp_path / "data" / "results" / "shelf"


def ferkit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


# --------------------------------------------------------------------------------------------------------------- record


def test_answers_are_kept_one_bit_each():
    right = np.array([1, 0, 0, 0, 0, 0, 0, 1, 1], dtype=bool)
    assert pack(right) == "gYA="  # the bytes 0x81 0x80
    assert np.array_equal(unpack("gYA=", 9), right) and unpack("gYA=", 9).dtype == bool
    for n in (1, 8, 3589):
        right = np.random.default_rng(n).random(n) < 0.6
        assert np.array_equal(unpack(pack(right), n), right) and len(pack(right)) <= n / 6 + 4


def test_the_record_says_what_the_runs_gave(recipe, series, shelf, tmp_path):
    recipe.overlay({"data_path": None}).save(tmp_path / "small.yaml")
    assert ferkit("shelve", tmp_path / "small.yaml", "--tries", 3, "--out", series.parent).output.strip() == str(
        shelf / "small.json"
    )
    kept = read_shelf("small")
    record = kept.record
    assert (record["name"], record["finished"], record["planned"], record["tries"]) == ("small", 4, 4, 3)
    assert [run["name"] for run in record["runs"]] == [
        f"label_smoothing={s}-seed={k}" for s in (0.0, 0.2) for k in (0, 1)
    ]
    assert Recipe(**record["recipe"]) == recipe.overlay({"data_path": None}) and recipe.data_path not in (
        shelf / "small.json"
    ).read_text("utf-8")
    assert len(record["environments"]) == 1 and len({run["split_sha256"] for run in record["runs"]}) == 1
    for run, right, clean in zip(record["runs"], kept.right, kept.clean, strict=True):
        folder = series / f"shelf-small-{run['name']}"
        result, predictions = (
            json.loads((folder / "result.json").read_text("utf-8")),
            np.load(folder / "predictions.npz"),
        )
        assert np.array_equal(right, predictions["test"].argmax(1) == predictions["test_labels"]) and right.shape == (
            60,
        )
        assert clean.sum() == 48 and np.array_equal(clean, predictions["test_clean"])
        assert run["values"] == {key: result["recipe"][key] for key in ("label_smoothing", "seed")}
        assert run["test"]["accuracy"] == round(right.mean(), 5) and run["seconds"] == result["seconds"]["training"]
        assert run["test"]["confusion"] == result["test"]["confusion"] and run["test"]["intervals"]["accuracy"] == [
            round(v, 5) for v in result["test"]["intervals"]["accuracy"]
        ]
        assert run["validation"]["cross_entropy"] == round(result["validation"]["cross_entropy"], 5)
        assert record["data"]["sha256"] == result["data"]["sha256"] and run["splits"] == result["data"]["splits"]
        losses = History.read(folder / "history.csv").column("val_loss")
        assert run["curves"]["val_loss"] == [round(v, 4) for v in losses] and len(losses) == 2
    assert len({run["right"] for run in record["runs"]}) > 1
    assert (shelf / "small.json").stat().st_size < 16_000


def test_an_unfinished_series_is_kept_as_far_as_it_went(recipe, series, shelf, tmp_path):
    partly = shutil.copytree(series, tmp_path / "shelf-small")
    (partly / "shelf-small-label_smoothing=0.2-seed=0" / "result.json").unlink()
    shelve(recipe, out=tmp_path)
    kept = read_shelf("small")
    assert (kept.record["finished"], kept.record["planned"], len(kept.right)) == (3, 4, 3)
    assert [run["values"]["seed"] for run in kept.select({"label_smoothing": 0.2}).record["runs"]] == [1]


def test_what_does_not_belong_on_the_shelf_is_refused(recipe, series, shelf, tmp_path):
    with pytest.raises(FileNotFoundError, match="shelf-small holds no finished run of shelf-small: run it first"):
        shelve(recipe, out=tmp_path)
    with pytest.raises(ValueError, match=r"seed=0 holds a run with another lr than the recipe"):
        shelve(recipe.overlay({"lr": 0.5, "source": "another"}), out=series.parent)
    run = "shelf-small-label_smoothing=0.0-seed=1"
    slack = shutil.copytree(series, tmp_path / "slack" / "shelf-small")
    history = History.read(slack / run / "history.csv")
    history.rows = [{**row, "train_accuracy": 0.17} for row in history.rows]  # below 1.2 times one seventh
    history.save(slack / run / "history.csv")
    with pytest.raises(
        ValueError,
        match=f"{run} did not learn: its training accuracy never passed 17.0%, and the largest class alone is 14.3%",
    ):
        shelve(recipe, out=slack.parent)
    other = shutil.copytree(series, tmp_path / "other" / "shelf-small")
    arrays = dict(np.load(other / run / "predictions.npz"))
    np.savez(other / run / "predictions.npz", **{**arrays, "test_labels": arrays["test_labels"][::-1]})
    with pytest.raises(ValueError, match="not tested on the same images"):
        shelve(recipe, out=other.parent)
    assert not shelf.exists()
    with pytest.raises(FileNotFoundError, match="no series named 'small' on the shelf .*; known: none"):
        read_shelf("small")


# ----------------------------------------------------------------------------------------------------------- comparison


def made_up(right: np.ndarray, seeds: list[int], *, labels: str = "x") -> Shelf:
    runs = [{"name": f"seed={seed}", "values": {"seed": seed, "lr": 0.1}} for seed in seeds]
    return Shelf(
        {"name": "made up", "data": {"test_labels_sha256": labels}, "recipe": {"seed": 0}, "runs": runs},
        right,
        np.ones_like(right),
    )


def test_runs_are_compared_on_the_same_images():
    rng = np.random.default_rng(0)
    b = rng.random((3, 1000)) < 0.5
    a = b.copy()
    a[:, :100] = True  # half of these were wrong
    found = compare(made_up(a, [0, 1, 2]), made_up(b, [0, 1, 2]))
    each = a.mean(1) - b.mean(1)
    assert found["each"] == pytest.approx(each.tolist()) and found["accuracy"] == pytest.approx(each.mean())
    low, high = found["interval"]
    # pairs of images: the interval is as narrow as the 100 changed images allow, not as the accuracies of 0.5 would
    spread = (a.astype(int) - b).mean(0).std() / 1000**0.5
    assert low == pytest.approx(found["accuracy"] - 1.96 * spread, abs=0.003) and high == pytest.approx(
        found["accuracy"] + 1.96 * spread, abs=0.003
    )
    half = 4.303 * each.std(ddof=1) / 3**0.5
    assert found["seeds_interval"] == pytest.approx([each.mean() - half, each.mean() + half], abs=1e-4)
    assert compare(made_up(b, [0, 1, 2]), made_up(b, [0, 1, 2]))["interval"] == [0, 0]
    changed = np.arange(1000) < 100
    assert compare(made_up(a, [0, 1, 2]), made_up(b, [0, 1, 2]), images=~changed)["accuracy"] == 0
    assert compare(made_up(a, [0, 1, 2]), made_up(b, [0, 1, 2]), images=changed)["accuracy"] == pytest.approx(
        10 * each.mean()
    )


def test_one_pair_is_what_paired_difference_says():
    rng = np.random.default_rng(1)
    a, b = rng.random((1, 800)) < 0.7, rng.random((1, 800)) < 0.6
    found, expected = compare(made_up(a, [0]), made_up(b, [0])), paired_difference(a[0], b[0])
    assert found["accuracy"] == pytest.approx(expected["accuracy"]) and found["interval"] == pytest.approx(
        expected["interval"], abs=0.004
    )
    assert np.isnan(found["seeds_interval"]).all()


def test_seeds_that_only_one_has_are_left_out():
    """As in the record of a series that is not finished; the order in which the seeds were run does not matter."""
    rng = np.random.default_rng(2)
    a, b = rng.random((3, 500)) < 0.7, rng.random((2, 500)) < 0.6
    found = compare(made_up(a, [0, 1, 2]), made_up(b, [2, 0]))
    assert found["seeds"] == [0, 2]
    assert found["each"] == pytest.approx([a[0].mean() - b[1].mean(), a[2].mean() - b[0].mean()])


def test_differences_hold_every_kind_against_one():
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 400)) < 0.7, rng.random((2, 400)) < 0.6
    one, other = made_up(a, [0, 1]), made_up(b, [0, 1])
    runs = [
        {**r, "values": {**r["values"], "kind": kind}}
        for kind, s in (("x", one), ("y", other))
        for r in s.record["runs"]
    ]
    both = Shelf({**one.record, "runs": runs}, np.concatenate([a, b]), np.concatenate([one.clean, other.clean]))
    found, expected = differences(both, "kind", "x"), compare(other, one)
    assert list(found) == ["y"]
    assert found["y"][:3] == pytest.approx([100 * v for v in (expected["accuracy"], *expected["seeds_interval"])])
    assert found["y"][3] == pytest.approx([100 * v for v in expected["each"]])
    assert differences(both, "kind", "y")["x"][0] == pytest.approx(-found["y"][0])
    with pytest.raises(ValueError, match="has no run with"):
        differences(both, "kind", "z")


def test_what_is_no_pair_is_refused():
    right = np.ones((2, 10), dtype=bool)
    with pytest.raises(ValueError, match="not tested on the same images"):
        compare(made_up(right, [0, 1]), made_up(right, [0, 1], labels="y"))
    with pytest.raises(ValueError, match=r"found seeds \[0, 1\] and \[2, 3\]"):
        compare(made_up(right, [0, 1]), made_up(right, [2, 3]))
    with pytest.raises(ValueError, match="found several of one"):
        compare(made_up(right, [0, 0]), made_up(right, [0, 1]))
    with pytest.raises(ValueError, match=r"made up has no run with \{'lr': 0\.2\}; its runs: seed=0, seed=1"):
        made_up(right, [0, 1]).select({"lr": 0.2})
    assert made_up(right, [0, 1]).select({"lr": 0.1, "seed": 1}).right.shape == (1, 10)


# ------------------------------------------------------------------------------------------------------------ run again


def test_a_series_run_again_is_held_against_the_old_one(recipe, series, shelf, data, tmp_path):
    file, run = shelve(recipe, out=series.parent), "label_smoothing=0.2-seed=1"
    done = ferkit("reproduce", "small", "--data", data, "--only", run, "--out", tmp_path / "again")
    assert done.exit_code == 0, done.output
    old = read_shelf("small").select({"label_smoothing": 0.2, "seed": 1})
    low, high = (f"{100 * v:.1f}" for v in old.record["runs"][0]["test"]["intervals"]["accuracy"])
    percent = f"{100 * old.right.mean():.1f} %"
    assert done.output.splitlines()[-1] == (
        f"{run}: accuracy {percent}, inside the interval {low} to {high} of {percent}; both right or both wrong on "
        "100.0 % of the images"
    )
    assert [f.name for f in (tmp_path / "again" / "shelf-small").iterdir()] == [f"shelf-small-{run}"]
    record = json.loads(file.read_text("utf-8"))
    record["runs"][3]["test"]["intervals"]["accuracy"] = [0.99, 1.0]
    record["runs"][3]["right"] = pack(~old.right[0])
    file.write_text(json.dumps(record), encoding="utf-8")
    done = ferkit("reproduce", "small", "--data", data, "--only", run, "--out", tmp_path / "again")
    assert (
        done.exit_code == 1
        and f"{percent}, OUTSIDE the interval 99.0 to 100.0" in done.output
        and "both wrong on 0.0 % of" in done.output
    )
    shelve(recipe, out=series.parent)
    # where they are: nothing is trained
    everything = list(reproduce("small", data_path=str(data), out=series.parent, progress=False))
    assert [row["name"] for row in everything] == [run["name"] for run in record["runs"]] and all(
        row["within"] for row in everything
    )


def test_what_cannot_be_run_again_is_refused(recipe, series, shelf, tmp_path):
    shelve(recipe, out=series.parent)
    other = write_fer2013(tmp_path / "other.csv", train=147)
    for arguments, said in (
        (["large"], "no series named 'large'"),
        (["small", "--only", "seed=7"], "small has no run 'seed=7'; known: label_smoothing=0.0-seed=0, "),
        (["small", "--data", other], "give the copy it was trained on"),
    ):
        done = ferkit("reproduce", *arguments, "--out", tmp_path / "again")
        assert done.exit_code == 1 and said in str(done.exception), arguments
    assert not (tmp_path / "again").exists()


# -------------------------------------------------------------------------------------------------- the committed shelf


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_records_are_those_of_committed_recipes(name):
    kept = read_shelf(name)
    recipe = Recipe.load(RECIPES / f"{name}.yaml")
    assert recipe.name == PREFIX + name and Recipe(**kept.record["recipe"]) == recipe
    made = {each.name.removeprefix(f"{recipe.name}-"): differs for differs, each in recipes_of(recipe)}
    assert kept.record["planned"] == len(made) and kept.record["finished"] == len(kept.record["runs"]) > 0
    for run, right in zip(kept.record["runs"], kept.right, strict=True):
        assert made[run["name"]] == run["values"]
        assert run["test"]["accuracy"] == round(right.mean(), 5) and len(right) == run["test"]["n"] == np.sum(
            run["test"]["confusion"]
        )
        assert len({len(curve) for curve in run["curves"].values()}) == 1


@pytest.mark.slow
def test_the_cheap_record_holds(tmp_path):
    done = ferkit("reproduce", "drawn-faces", "--only", "seed=0", "--out", tmp_path)
    assert done.exit_code == 0 and "seed=0: accuracy" in done.output and ", inside the interval" in done.output, (
        done.output
    )
