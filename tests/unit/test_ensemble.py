"""Ensembles: what fits together, chosen on validation alone, and figures worked out by hand."""

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ferkit.__main__ import app
from ferkit.evaluation.metrics import evaluate, mcnemar, paired_difference
from ferkit.files import write_json
from ferkit.runs import ensemble as ensembles
from ferkit.runs import experiment, publish
from ferkit.runs.ensemble import Member, assess, choose, diversity, ensemble, read_member, refuse_unlike_members
from ferkit.training.recipe import Recipe
from tests.unit.small_faces import small_recipe, write_fer2013

NAMES = ("neutral", "happiness", "anger")
LABELS = {"validation": np.arange(30) % 3, "test": np.arange(60) % 3}
CLEAN = np.arange(60) >= 6


def answers(right: np.ndarray, labels: np.ndarray, sure: float = 0.6) -> np.ndarray:
    """Probabilities (N, 3), `sure` on the true class where right, else on the next one."""
    p = np.full((len(labels), 3), (1 - sure) / 2, dtype=np.float32)
    p[np.arange(len(labels)), np.where(right, labels, (labels + 1) % 3)] = sure
    return p


def write_run(
    folder: Path,
    validation: np.ndarray,
    test: np.ndarray,
    *,
    clean: np.ndarray | None = CLEAN,
    names=NAMES,
    labels=LABELS,
    **data,
) -> Path:
    """A run folder with these probabilities, without training anything."""
    folder.mkdir(parents=True)
    recipe = Recipe(name=folder.name, data="synthetic", tta="flip", seed=4)
    recipe.save(folder / "recipe.yaml")
    extra = {} if clean is None else {"test_clean": clean}
    np.savez(
        folder / "predictions.npz",
        validation=validation,
        test=test,
        validation_labels=labels["validation"],
        test_labels=labels["test"],
        **extra,
    )
    result = {
        "test": evaluate(test, labels["test"], names),
        "validation": evaluate(validation, labels["validation"], names),
        "model": {"parameters": 10, "macs": 20, "input_size": 24},
        "data": {
            "name": "drawn",
            "sha256": "aa",
            "splits": {"train": 9, "validation": 30, "test": 60},
            "split_sha256": "bb",
            **data,
        },
        "environment": {"commit": "abc"},
    }
    write_json(folder / "result.json", result)
    return folder


def wrong_at(n: int, *places: int) -> np.ndarray:
    right = np.ones(n, dtype=bool)
    right[list(places)] = False
    return right


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three runs; on validation a and c err in different places, b errs most; on test b is the best."""
    v, t = LABELS["validation"], LABELS["test"]
    wrong = {"a": (range(6), range(12)), "b": (range(3, 12), range(4)), "c": (range(6, 13), range(8, 26))}
    return [
        write_run(tmp_path / name, answers(wrong_at(30, *val), v), answers(wrong_at(60, *test), t))
        for name, (val, test) in wrong.items()
    ]


@pytest.fixture
def members(folders: list[Path]) -> list[Member]:
    return [read_member(f) for f in folders]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_member_is_what_the_run_said(folders, members):
    a = members[0]
    assert a.names == NAMES and a.recipe.name == "a" and np.array_equal(a.clean, CLEAN)
    assert a.test.shape == (60, 3) and np.array_equal(a.test_labels, LABELS["test"])
    assert a.sha256 == hashlib.sha256((folders[0] / "predictions.npz").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["result.json", "recipe.yaml", "predictions.npz"])
def test_a_run_that_is_not_finished_is_refused(folders, name):
    (folders[0] / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}: expected the folder of a finished run"):
        read_member(folders[0])


def test_probabilities_that_are_not_those_of_the_result_are_refused(folders):
    with np.load(folders[0] / "predictions.npz") as saved:
        arrays = dict(saved)
    np.savez(folders[0] / "predictions.npz", **{**arrays, "test": arrays["test"][::-1]})
    with pytest.raises(ValueError, match="predictions.npz and result.json do not agree on test"):
        read_member(folders[0])
    np.savez(folders[0] / "predictions.npz", test=arrays["test"])
    with pytest.raises(ValueError, match="lacks validation, validation_labels, test_labels"):
        read_member(folders[0])


# --- what fits together -----------------------------------------------------------------------------------------------

OTHER = {
    "data": ({"sha256": "cc"}, r"b and other were trained on different data \(drawn aa; drawn cc\)"),
    "data set": ({"name": "photographed"}, "different data"),
    "split": ({"split_sha256": "cc"}, "one has seen pictures that the other is validated on"),
}


@pytest.mark.parametrize(("data", "complaint"), OTHER.values(), ids=OTHER)
def test_other_data_or_splits_are_refused(folders, tmp_path, data, complaint):
    b = read_member(folders[1])
    other = read_member(write_run(tmp_path / "other", b.validation, answers(wrong_at(60, 50), LABELS["test"]), **data))
    for call in (refuse_unlike_members, ensemble, choose):
        with pytest.raises(ValueError, match=complaint):
            call([b, other])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_another_order_of_the_pictures_is_refused(members, tmp_path, split):
    moved = {**LABELS, split: np.roll(LABELS[split], 1)}
    other = write_run(
        tmp_path / "other",
        answers(wrong_at(30), moved["validation"]),
        answers(wrong_at(60), moved["test"]),
        labels=moved,
    )
    with pytest.raises(ValueError, match=f"a and other have other {split} labels, or the pictures in another order"):
        ensemble([members[0], read_member(other)])


@pytest.mark.parametrize(
    ("names", "how"), [(NAMES[::-1], "in another order"), (("neutral", "happiness", "fear"), "of other names")]
)
def test_other_classes_are_refused_not_sorted(members, tmp_path, names, how):
    v, t = answers(wrong_at(30), LABELS["validation"]), answers(wrong_at(60), LABELS["test"])
    other = read_member(write_run(tmp_path / "other", v, t, names=names))
    with pytest.raises(
        ValueError, match=f"a and other have classes {how}: neutral, happiness, anger; {', '.join(names)}"
    ):
        ensemble([members[0], other])


def test_another_test_split_and_the_same_run_twice_are_refused(members, folders, tmp_path):
    with pytest.raises(ValueError, match="a and a hold the same probabilities"):
        ensemble([members[0], members[1], members[0]])
    folder = write_run(
        tmp_path / "other", answers(wrong_at(30), LABELS["validation"]), answers(wrong_at(60), LABELS["test"])
    )
    Recipe(name="other", test_split="public_test").save(folder / "recipe.yaml")
    with pytest.raises(ValueError, match="a and other were tested on different splits: test and public_test"):
        ensemble([members[0], read_member(folder)])
    with pytest.raises(ValueError, match="needs members, found none"):
        ensemble([])


# --- averaging and choosing -------------------------------------------------------------------------------------------


def test_mean_of_probabilities(members):
    found = ensemble(members)
    for split in ("validation", "test"):
        expected = sum(getattr(m, split).astype(np.float64) for m in members) / 3
        assert np.allclose(found[split], expected, atol=1e-12) and np.allclose(found[split].sum(1), 1, atol=1e-6)
    weighted = ensemble(members, weights=[1, 0, 3])
    assert np.allclose(weighted["test"], 0.25 * members[0].test + 0.75 * members[2].test, atol=1e-7)
    assert np.allclose(ensemble(members[:1])["test"], members[0].test)


@pytest.mark.parametrize("weights", [[1, 1], [1, -1, 1], [0, 0, 0], [1, float("nan"), 1]])
def test_weights_that_are_none_are_refused(members, weights):
    with pytest.raises(ValueError, match="expected 3 weights, none below 0 and one above, found"):
        ensemble(members, weights)


def by_hand(members: list[Member], sizes: range) -> float:
    return max(
        float((sum(m.validation for m in subset).argmax(1) == LABELS["validation"]).mean())
        for size in sizes
        for subset in itertools.combinations(members, size)
    )


def random_member(members: list[Member], seed: int) -> Member:
    import dataclasses

    rng = np.random.default_rng(seed)
    p = {split: rng.dirichlet(np.ones(3), len(y)) + 0.35 * np.eye(3)[y] for split, y in LABELS.items()}
    p = {split: (x / x.sum(1, keepdims=True)).astype(np.float32) for split, x in p.items()}
    return dataclasses.replace(members[0], **p, sha256=str(seed), recipe=Recipe(name=f"r{seed}"))


@pytest.mark.parametrize("seed", range(3))
def test_choice_is_the_best_subset_on_validation(members, seed):
    candidates = [random_member(members, 10 * seed + i) for i in range(6)]
    for max_size in (None, 2):
        chosen = choose(candidates, max_size)
        found = (ensemble(chosen)["validation"].argmax(1) == LABELS["validation"]).mean()
        assert found == by_hand(candidates, range(1, (max_size or 6) + 1)) and len(chosen) <= (max_size or 6)


def test_choice_does_not_look_at_the_test(members, monkeypatch):
    import dataclasses

    candidates = [random_member(members, i) for i in range(6)]
    before = [m.recipe.name for m in choose(candidates)]
    blind = [dataclasses.replace(m, test=np.full_like(m.test, np.nan)) for m in candidates]
    assert [m.recipe.name for m in choose(blind)] == before


def test_among_equals_the_smaller_then_the_surer(members, tmp_path):
    y = LABELS
    same = [
        write_run(
            tmp_path / f"s{i}",
            answers(wrong_at(30, 1, 2), y["validation"], sure),
            answers(wrong_at(60), y["test"], sure),
        )
        for i, sure in enumerate((0.5, 0.8))
    ]
    assert [m.recipe.name for m in choose([read_member(f) for f in same])] == ["s1"]


def test_too_many_subsets_are_refused(members):
    many = [random_member(members, i) for i in range(13)]
    with pytest.raises(
        ValueError, match="13 candidates have 4,097 subsets, more than 4,096; name fewer runs, or set max_size"
    ):
        choose(many)
    assert 1 <= len(choose(many, 2)) <= 2
    with pytest.raises(ValueError, match="max_size must be 1 or more, found 0"):
        choose(members, 0)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_diversity_by_hand(members):
    """On test a errs in 0-11, b in 0-3 (with the same wrong answer), c in 8-25."""
    found = diversity(members)
    assert found["oracle_accuracy"] == 1.0  # where a and b err, c is right, and the other way round
    expected = np.array([[0, 8, 8 + 14], [8, 0, 4 + 18], [22, 22, 0]]) / 60
    assert np.allclose(found["disagreement"], expected)
    assert found["mean_disagreement"] == pytest.approx((8 + 22 + 22) / 3 / 60)
    two = diversity(members[:2])
    assert two["oracle_accuracy"] == 56 / 60 and two["oracle_interval"][0] < 56 / 60 < two["oracle_interval"][1]
    assert (
        two["mean_disagreement_interval"][0] < two["mean_disagreement"] == 8 / 60 < two["mean_disagreement_interval"][1]
    )
    assert set(diversity(members[:1])) == {"oracle_accuracy", "oracle_interval"}


def test_assessment(members):
    record = assess(members, name="abc")
    probabilities = ensemble(members)
    assert record["test"] == evaluate(probabilities["test"], LABELS["test"], NAMES, clean=CLEAN)
    assert record["test"]["duplicate_clean"]["n"] == 54
    # Two of three are right everywhere but where a errs with b (0-3) or with c (8-11).
    assert record["test"]["accuracy"] == 52 / 60
    gain = record["gain"]
    assert gain["over"] == "a", "best on validation; b, the best on test, must not be what it is compared with"
    right = probabilities["test"].argmax(1) == LABELS["test"]
    assert gain["accuracy"] == pytest.approx((52 - 48) / 60)
    assert {k: gain[k] for k in ("only_a", "only_b", "p")} == mcnemar(right, wrong_at(60, *range(12)))
    assert gain["interval"][0] < gain["accuracy"] < gain["interval"][1]
    assert gain["duplicate_clean"]["accuracy"] == pytest.approx((50 - 48) / 54)
    assert [m["name"] for m in record["members"]] == ["a", "b", "c"] and "candidates" not in record
    assert record["members"][1]["test_accuracy"] == 56 / 60 and record["members"][1]["tta"] == "flip"
    assert len(record["members"][0]["predictions_sha256"]) == 64
    assert record["protocol"]["selection"].startswith("all runs that were given; the test split was read once")
    assert json.loads(json.dumps(record)) == record


def test_paired_difference():
    rng = np.random.default_rng(0)
    a, b = rng.random(2000) < 0.75, rng.random(2000) < 0.70
    found = paired_difference(a, b)
    difference = a.astype(float) - b
    assert found["accuracy"] == pytest.approx(difference.mean())
    half = 1.96 * difference.std() / 2000**0.5
    assert found["interval"] == pytest.approx([difference.mean() - half, difference.mean() + half], abs=0.002)
    assert found == paired_difference(a, b) and paired_difference(b, a)["accuracy"] == -found["accuracy"]
    equal = paired_difference(a, a)
    assert (equal["accuracy"], equal["interval"], equal["p"]) == (0.0, [0.0, 0.0], 1.0)
    with pytest.raises(ValueError, match="nothing to compare"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="must answer the same images"):
        paired_difference(a, b[:5])


# --- folders and the command line -------------------------------------------------------------------------------------


def test_run_writes_a_record(folders, tmp_path):
    record = ensembles.run_ensemble(folders, name="abc", out=tmp_path / "runs")
    file = tmp_path / "runs" / "abc" / "ensemble.json"
    assert json.loads(file.read_text("utf-8")) == record and [p.name for p in file.parent.iterdir()] == [
        "ensemble.json"
    ]
    assert str(tmp_path) not in file.read_text("utf-8"), "no machine's paths in a record"
    chosen = ensembles.run_ensemble(folders, name="best", out=tmp_path / "runs", choosing=True, max_size=2)
    assert [m["name"] for m in chosen["candidates"]] == ["a", "b", "c"] and len(chosen["members"]) <= 2
    assert chosen["protocol"]["subsets"] == 6
    assert chosen["protocol"]["selection"].startswith(
        "the subset of 3 runs with the best validation accuracy; the test split was read once"
    )


def test_runs_that_make_no_ensemble_are_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="two runs or more, found 1"):
        ensembles.run_ensemble(folders[:1], name="one", out=tmp_path / "runs")
    with pytest.raises(ValueError, match="max_size limits the choice"):
        ensembles.run_ensemble(folders, name="abc", out=tmp_path / "runs", max_size=2)
    with pytest.raises(ValueError, match="without slashes"):
        ensembles.run_ensemble(folders, name="../abc", out=tmp_path / "runs")
    with pytest.raises(ValueError, match="holds a training; give the ensemble another name"):
        ensembles.run_ensemble(folders, name="a", out=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_publishing_copies_the_record(folders, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="has no ensemble.json"):
        ensembles.publish_ensemble(folders[0], data_folder=tmp_path / "data")
    record = ensembles.run_ensemble(folders, name="abc", out=tmp_path)
    file = ensembles.publish_ensemble(tmp_path / "abc", data_folder=tmp_path / "data")
    assert file == tmp_path / "data" / "results" / "abc.json"
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path / "data" / "weights"))
    assert publish.read_record("abc") == record


def test_command_line(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path / "data" / "weights"))
    done = CliRunner().invoke(
        app, ["ensemble", *map(str, folders), "--name", "abc", "--out", str(tmp_path / "runs"), "--publish"]
    )
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == f"{tmp_path / 'runs' / 'abc'}: a + b + c"
    assert (
        lines[1].startswith("test accuracy 86.7 % (95 % interval ")
        and "n = 60); +6.7 points over a (" in lines[1]
        and "McNemar p = " in lines[1]
    )
    assert lines[2].endswith("abc.json") and Path(lines[2]).is_file()
    chosen = CliRunner().invoke(
        app,
        [
            "ensemble",
            *map(str, folders),
            "--name",
            "best",
            "--choose",
            "--max-size",
            "1",
            "--out",
            str(tmp_path / "runs"),
        ],
    )
    assert chosen.output.splitlines()[0].endswith("best: a")
    wrong = CliRunner().invoke(app, ["ensemble", str(folders[0]), str(tmp_path / "gone"), "--name", "x"])
    assert (
        wrong.exit_code == 1
        and wrong.output.startswith("ferkit: ")
        and "expected the folder of a finished run" in wrong.output
    )


def test_real_runs_and_one_without_a_mask(tmp_path):
    file = write_fer2013(tmp_path / "fer2013.csv", copies=12)
    recipe = small_recipe(file, name="s0", epochs=1)
    runs = [
        experiment.run(recipe.overlay({"name": f"s{seed}", "seed": seed}), out=tmp_path, progress=False).folder
        for seed in (0, 1)
    ]
    record = ensembles.run_ensemble(runs, name="two", out=tmp_path)
    assert record["test"]["n"] == 60 and record["test"]["duplicate_clean"]["n"] == 48
    old = shutil.copytree(runs[0], tmp_path / "old")
    with np.load(old / "predictions.npz") as saved:
        np.savez(old / "predictions.npz", **{k: v for k, v in saved.items() if k != "test_clean"})
    assert read_member(old).clean is None
    again = ensembles.run_ensemble([old, runs[1]], name="again", out=tmp_path)
    assert again["test"] == record["test"]
    other = experiment.run(recipe.overlay({"name": "other", "split_seed": 1}), out=tmp_path, progress=False).folder
    with pytest.raises(ValueError, match="s0 and other were trained on different splits"):
        ensembles.run_ensemble([runs[0], other], name="wrong", out=tmp_path)
