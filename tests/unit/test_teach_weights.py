"""The weights that come with the workbook: their card, their record, and that they still give the recorded figures."""

import numpy as np
import pytest

from ferkit import data, labels
from ferkit.evaluation.metrics import evaluate
from ferkit.models import count_parameters, create_model, list_weights
from ferkit.models.registry import read_weights_header, weights_folder
from ferkit.predict import predict_probabilities
from ferkit.runs.experiment import load_faces, split_digest
from ferkit.runs.publish import _card
from ferkit.runs.records import read_record
from ferkit.training.recipe import Recipe

NAME = "resemotenet-teach-fer2013"


@pytest.fixture(scope="module")
def record():
    return read_record(NAME)


def test_weights_are_listed_and_load_with_what_they_were_trained_with(record):
    assert "fer2013-teach" in list_weights()["resemotenet"]
    model = create_model("resemotenet", weights="fer2013-teach")
    assert model.labels == labels.order("fer2013")
    assert model.input_size == record["recipe"]["image_size"]
    assert count_parameters(model) == record["model"]["parameters"]


def test_record_is_complete_and_names_no_machine(record):
    assert record["protocol"]["test_split"] == "public_test"
    assert record["test"]["n"] == 3589 == sum(map(sum, record["test"]["confusion"]))
    hits = sum(record["test"]["confusion"][i][i] for i in range(7))
    assert record["test"]["accuracy"] == pytest.approx(hits / 3589, abs=1e-12)
    assert record["test"]["duplicate_clean"]["n"] == 3589 - 280
    assert record["recipe"]["data_path"] is None
    assert len(record["data"]["sha256"]) == 64
    best = int(np.argmax(record["history"]["val_accuracy"]))
    assert record["protocol"]["selection"].startswith(f"epoch {best + 1} of {record['recipe']['epochs']}")


def test_recipe_file_is_the_one_that_was_run(record):
    file = weights_folder().parents[1] / "notebooks" / "recipes" / "resemotenet" / "teach-fer2013.yaml"
    # keys that recipes got after the run count with their defaults, which are what it did
    assert Recipe.load(file).overlay({"precision": record["recipe"]["precision"]}) == Recipe(**record["recipe"]), (
        "auto is what the machine then had"
    )


def test_card_states_the_recorded_figures(record):
    card = (weights_folder() / f"{NAME}.md").read_text(encoding="utf-8")
    low, high = record["test"]["intervals"]["accuracy"]
    assert f"{100 * record['test']['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" in card
    assert record["data"]["sha256"] in card
    assert "Validation is carved from the training images" in card
    other = _card(Recipe(**record["recipe"]).overlay({"validation_split": "private_test"}), record, "x", 1)
    assert "Validation is the data's own private_test" in other and "carved" not in other


EVERY = sorted(file.stem for file in weights_folder().glob("*.safetensors"))


@pytest.mark.parametrize("name", EVERY)
def test_every_network_has_its_record_card_recipe_and_calibration(name):
    record, header = read_record(name), read_weights_header(weights_folder() / f"{name}.safetensors")
    model = create_model(header["model"], weights=header["weights"])
    assert list(model.labels) == header["labels"] and model.input_size == record["recipe"]["image_size"]
    assert count_parameters(model) == record["model"]["parameters"]
    recipe = Recipe.load(weights_folder().parents[1] / "notebooks" / "recipes" / f"{name.replace('-', '/', 1)}.yaml")
    assert recipe.overlay({"precision": record["recipe"]["precision"]}) == Recipe(**record["recipe"])
    card = (weights_folder() / f"{name}.md").read_text(encoding="utf-8")
    low, high = record["test"]["intervals"]["accuracy"]
    assert f"{100 * record['test']['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" in card
    assert (
        f'create_model("{header["model"]}", weights="{header["weights"]}")' in card and record["data"]["sha256"] in card
    )
    conformal = record["conformal"]
    low, high = conformal["test_coverage_interval"]
    assert low < conformal["test_coverage"] < high and conformal["level"] == 0.9
    assert 0.85 < conformal["test_coverage"] < 0.97, "sets hold the label about as often as they promise"
    assert 1 < conformal["test_mean_size"] < 4 and 0 < conformal["threshold"] < 0.5


@pytest.mark.real_data
@pytest.mark.slow
def test_weights_give_the_recorded_figures(record, fer2013_path):
    recipe = Recipe(**{**record["recipe"], "data_path": str(fer2013_path)})
    faces = load_faces(recipe)
    if faces.sha256 != record["data"]["sha256"]:
        pytest.skip("this copy of FER2013 is another file than the recorded one")
    assert split_digest(faces) == record["data"]["split_sha256"]
    test = faces.select(recipe.test_split)
    model = create_model("resemotenet", weights="fer2013-teach")
    found = evaluate(
        predict_probabilities(model, test.images, tta=recipe.tta),
        test.labels,
        faces.names,
        n_bootstrap=10,
        clean=~data.duplicate_mask(faces, recipe.test_split),
    )
    # half precision on disk may turn a handful of 3,589 answers
    assert found["accuracy"] == pytest.approx(record["test"]["accuracy"], abs=0.002)
    assert found["macro_f1"] == pytest.approx(record["test"]["macro_f1"], abs=0.004)
    assert found["duplicate_clean"]["n"] == record["test"]["duplicate_clean"]["n"]
