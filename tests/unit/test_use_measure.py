"""`python -m ferkit evaluate`: any weights on any labelled pictures, with intervals, without copies, and in pairs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ferkit import labels
from ferkit.__main__ import app
from ferkit.data import FaceSet
from ferkit.explain.opinions import Network
from ferkit.models import create_model, save_weights
from ferkit.predict import predict_probabilities
from ferkit.use.measure import in_lines, measure
from ferkit.use.networks import Ensemble


def small(seed, names=("anger", "happiness", "neutral")):
    torch.manual_seed(seed)
    model = create_model("resemotenet", width=1 / 16, head="linear", num_classes=len(names), labels=names)
    return Network(f"n{seed}", model.eval())


def faces(names, n=60, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 32, 32), dtype=np.uint8)
    split = np.array(["train"] * 20 + ["test"] * (n - 20))
    images[20:30] = images[:10]  # ten test pictures are in train, too
    return FaceSet(images=images, labels=rng.integers(0, len(names), n), names=names, split=split, name="made")


def test_scores_are_those_of_the_network_on_the_classes_that_are_shared():
    network, data = small(0), faces(("happiness", "boredom", "anger"))
    found = measure([network], data, n_bootstrap=50)
    test = data.select("test")
    kept = test.labels != 1
    assert found["labels"] == ["happiness", "anger"] and found["data"]["kept"] == pytest.approx(kept.mean())
    assert found["data"]["split"] == "test" and found["pairs"] == []
    p = predict_probabilities(network.model, test.images[kept])[:, [1, 0]]
    scores = found["networks"][0]
    assert scores["accuracy"] == pytest.approx((p.argmax(1) == (test.labels[kept] == 2)).mean())
    p /= p.sum(1, keepdims=True)
    truth = (test.labels[kept] == 2).astype(int)
    assert scores["cross_entropy"] == pytest.approx(-np.log(p[np.arange(len(truth)), truth]).mean(), rel=1e-5)
    assert scores["duplicate_clean"]["n"] == kept[10:].sum() < scores["n"]
    assert "are of other classes and left out" in "\n".join(in_lines(found))


def test_several_are_compared_in_pairs_on_the_same_pictures():
    data = faces(("anger", "happiness", "neutral"))
    a, b = small(0), small(1)
    found = measure([a, b, Ensemble("both", (a, b))], data, split="train", n_bootstrap=50)
    assert "duplicate_clean" not in found["networks"][0]
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [("n0", "n1"), ("n0", "both"), ("n1", "both")]
    accuracies = [n["accuracy"] for n in found["networks"]]
    for pair, (i, j) in zip(found["pairs"], ((0, 1), (0, 2), (1, 2)), strict=True):
        assert pair["accuracy"] == pytest.approx(accuracies[i] - accuracies[j])
        assert pair["interval"][0] <= pair["accuracy"] <= pair["interval"][1]
    assert "3 comparisons: by chance one in 20" in in_lines(found)[-1]


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="two classes or more in common"):
        measure([small(0)], faces(("boredom", "joyride")))
    with pytest.raises(ValueError, match="a split that is present, found 'private_test'"):
        measure([small(0)], faces(("anger", "neutral")), split="private_test")


@pytest.fixture
def own(tmp_path):
    """A folder of one's own, its classes no emotions, and weights that know them in another order."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 4), ("test", 6)):
        for name, value in (("awake", 60), ("asleep", 190)):
            (tmp_path / "own" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = np.clip(rng.normal(value, 20, (40, 40)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "own" / split / name / f"{i}.png")
    for seed in (0, 1):
        network = small(seed, ("awake", "asleep"))
        save_weights(network.model, tmp_path / f"w{seed}.safetensors", weights="w")
    return tmp_path


def test_the_command_on_own_classes(own, monkeypatch):
    monkeypatch.setenv("FERKIT_CACHE", str(own / "cache"))
    networks = [str(own / f"w{seed}.safetensors") for seed in (0, 1)]
    more = ["--data-path", str(own / "own"), "--json", str(own / "r.json"), "--figure", str(own / "c.png")]
    done = CliRunner().invoke(app, ["evaluate", *networks, *more, "--set", "size=40"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "folder, test: 12 pictures of asleep, awake"
    assert lines[2].startswith("  accuracy ") and " to " in lines[2] and "macro-F1" in lines[2]
    assert any("calibration error 0." in line for line in lines) and "McNemar p = " in lines[-1]
    record = json.loads((own / "r.json").read_text())
    assert [sum(map(sum, n["confusion"])) for n in record["networks"]] == [12, 12]
    pictures = [np.asarray(Image.open(own / f"{name}.png")) for name in ("c", "c-2")]
    assert all(picture.size > 10_000 for picture in pictures) and not np.array_equal(*pictures)
    wrong = CliRunner().invoke(app, ["evaluate", networks[0], *more, "--set", "size"])
    assert str(wrong.exception) == "ferkit: --set takes KEY=VALUE, found 'size'"


def test_published_weights_on_drawn_faces():
    few = ["--data", "synthetic", "--set", "n_train=20", "--set", "n_test=70"]
    done = CliRunner().invoke(app, ["evaluate", "resemotenet/fer2013-teach", *few])
    assert done.exit_code == 0, done.output
    assert (
        done.output.splitlines()[0]
        == f"synthetic, test: 70 pictures of {', '.join(labels.in_order(labels.ORDERS['fer2013']))}"
    )
