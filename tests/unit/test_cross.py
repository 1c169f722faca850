"""Trained here, tested there: tiny runs on drawn trees, the same figures computed by hand,
and runs that cannot be compared.
"""

import json
import shutil

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from ferkit import data, labels, plots
from ferkit.__main__ import app
from ferkit.models import create_model
from ferkit.predict import predict_probabilities
from ferkit.runs.cross import cross, emotions_in_common, read_trained
from ferkit.runs.experiment import run
from ferkit.training.recipe import Recipe
from tests.support import doctor_trees, trees


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """RAF-DB (7 classes), of which five test pictures are training pictures, too, and AffectNet-8."""
    root = tmp_path_factory.mktemp("cross")
    patch = pytest.MonkeyPatch()
    patch.setenv("FERKIT_CACHE", str(root / "cache"))
    for tree in (trees.rafdb(root / "rafdb", 12), trees.affectnet_csv(root / "affectnet", 12)):
        doctor_trees.repaint(tree)
    for i in range(1, 6):
        shutil.copy(
            root / f"rafdb/Image/aligned/train_{i:05d}_aligned.jpg",
            root / f"rafdb/Image/aligned/test_{i:05d}_aligned.jpg",
        )
    shared = dict(
        model="resemotenet",
        width=1 / 16,
        model_options={"head": "linear", "stem_dropout": 0.0},
        image_size=24,
        epochs=2,
        batch_size=16,
        lr=0.05,
        threads=1,
    )
    for name, options in (("rafdb", {"size": 24}), ("affectnet8", {"size": 24})):
        recipe = Recipe(
            name=f"on-{name}",
            data=name,
            data_path=str(root / name.rstrip("8")),
            data_options=options,
            validation_fraction=0.2,
            **shared,
        )
        run(recipe, out=root / "runs", progress=False)
    yield root / "runs"
    patch.undo()


@pytest.fixture(scope="module")
def record(runs):
    return cross([runs / "on-rafdb", runs / "on-affectnet8"], n_bootstrap=200)


def test_shared_labels():
    assert labels.shared("fer2013", "rafdb") == labels.EMOTIONS[:7]
    assert labels.shared("affectnet8", ("sad", "happy", "contempt")) == ("happiness", "sadness", "contempt")
    with pytest.raises(ValueError, match="in common, found anger"):
        labels.shared("fer2013", ("angry", "contempt"))


def test_every_cell_is_what_one_computes_by_hand(runs, record):
    assert (
        record["labels"] == list(labels.EMOTIONS[:7])
        and record["sets"] == ["rafdb", "affectnet8"]
        and record["trained_on"] == [0, 1]
    )
    sets = [
        data.load(name, runs.parent / place, size=24).select("test")
        for name, place in (("rafdb", "rafdb"), ("affectnet8", "affectnet"))
    ]
    for i, name in enumerate(record["runs"]):
        model = create_model("resemotenet", weights=runs / name / "best.safetensors")
        for j, faces in enumerate(sets):
            p = predict_probabilities(model, faces.images)
            allowed = [k for k, word in enumerate(model.labels) if word != "contempt"]
            said = np.array([model.labels[allowed[k]] for k in p[:, allowed].argmax(1)])
            true = np.array([faces.names[k] for k in faces.labels])
            kept = true != "contempt"
            cell = record["cells"][i][j]
            assert cell["n"] == kept.sum() == 84 and cell["kept"] == pytest.approx(kept.mean())
            assert cell["accuracy"] == pytest.approx((said == true)[kept].mean())
            low, high = cell["intervals"]["accuracy"]
            assert low <= cell["accuracy"] <= high


def test_the_own_column_is_the_runs_own_result_where_all_classes_are_shared(runs, record):
    own = json.loads((runs / "on-rafdb/result.json").read_text())["test"]
    assert record["cells"][0][0]["accuracy"] == pytest.approx(own["accuracy"]) and record["cells"][0][0]["kept"] == 1


def test_copies_of_training_pictures_are_counted(record):
    assert [[cell["copies"] for cell in line] for line in record["cells"]] == [[5, 0], [0, 0]]
    assert record["cells"][0][0]["duplicate_clean"]["n"] == 79


def test_figure(record):
    figure = plots.cross_matrix(record)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert (
        len(texts) == 4
        and texts[0].startswith(f"{100 * record['cells'][0][0]['accuracy']:.1f}\n")
        and "5 trained on" in texts[0]
    )
    assert len([patch for patch in figure.axes[0].patches if not patch.get_fill()]) == 2
    with pytest.raises(ValueError, match="expected a score among accuracy"):
        plots.cross_matrix(record, score="loss")


def test_command(runs, tmp_path):
    folders = [str(runs / name) for name in ("on-rafdb", "on-affectnet8")]
    said = CliRunner().invoke(
        app, ["cross", *folders, "--json", str(tmp_path / "a/x.json"), "--figure", str(tmp_path / "b/x.png")]
    )
    assert said.exit_code == 0 and "on affectnet8: " in said.output and "5 of them trained on" in said.output
    assert json.loads((tmp_path / "a/x.json").read_text())["runs"] == ["on-rafdb", "on-affectnet8"]
    assert (tmp_path / "b/x.png").read_bytes()[:4] == b"\x89PNG"
    said = CliRunner().invoke(app, ["cross", folders[0]])
    assert said.exit_code == 1 and "two runs or more" in str(said.exception)


def changed(source, target, *, name=None, recipe=None, result=None):
    shutil.copytree(source, target)
    values = yaml.safe_load((target / "recipe.yaml").read_text()) | {"name": name or target.name} | (recipe or {})
    (target / "recipe.yaml").write_text(yaml.safe_dump(values))
    found = json.loads((target / "result.json").read_text())
    found["data"] |= result or {}
    (target / "result.json").write_text(json.dumps(found))
    return target


def test_runs_that_cannot_be_compared(runs, tmp_path):
    a, b = runs / "on-rafdb", runs / "on-affectnet8"
    cases = {
        "name every run once": [a, a, b],
        "fewer|nothing to cross": [a, changed(a, tmp_path / "again")],
        "differ in width": [a, changed(b, tmp_path / "wide", recipe={"width": 0.125})],
        "split the same data in different ways": [a, b, changed(a, tmp_path / "other", result={"split_sha256": "0"})],
    }
    for sentence, folders in cases.items():
        with pytest.raises(ValueError, match=sentence):
            emotions_in_common([read_trained(folder) for folder in folders])
    with pytest.raises(ValueError, match="no longer those of the training"):
        cross([changed(a, tmp_path / "moved", result={"sha256": "0"}), b])
    (tmp_path / "moved/best.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no best.safetensors"):
        read_trained(tmp_path / "moved")
