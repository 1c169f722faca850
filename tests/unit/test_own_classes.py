"""A folder with classes of one's own goes all the way: training, scores, figures, explanations, an upload."""

import numpy as np
import pytest
from PIL import Image

from ferkit import plots
from ferkit.data import load
from ferkit.explain import cam
from ferkit.explain.opinions import Network, ask, in_words
from ferkit.runs.experiment import run
from ferkit.training.recipe import Recipe
from tests.support import trees

CLASSES = ("angry", "bored", "no_pain", "tense")
NAMES = ("anger", "bored", "no_pain", "tense")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    place = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for split, n in (("train", 16), ("Testing", 6)):
        for k, name in enumerate(CLASSES):
            for i in range(n):
                picture = rng.integers(0, 60, (24, 24, 3)).astype(np.uint8)
                picture[:, 6 * k : 6 * k + 6] += 150
                trees.save(Image.fromarray(picture), place / "pictures" / split / name / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERKIT_CACHE", str(place / "cache"))
        recipe = Recipe(
            name="own", model="resemotenet", width=1 / 16, image_size=24, epochs=4, batch_size=16, data="folder",
            data_path=str(place / "pictures"),
            data_options={"size": 24}, threads=1,
        )  # fmt: skip
        yield (
            run(recipe, out=place / "runs", progress=False),
            load("folder", place / "pictures", size=24, progress=False),
        )


def test_training_and_scores(done):
    finished, faces = done
    assert faces.names == NAMES and finished.model.labels == NAMES and faces.splits() == {"train": 64, "test": 24}
    test = finished.result["test"]
    assert test["n"] == 24 and set(test["recall"]) == set(NAMES) and 0.4 < test["accuracy"] <= 1


def test_figures(done):
    finished, faces = done
    assert plots.class_counts(faces.counts()) is not None
    colours = [plots.colour(name) for name in NAMES]
    assert len(set(colours)) == 4 and colours[0] == plots.house.EMOTION_COLOURS["anger"]
    assert (
        not set(colours[1:]) & set(plots.house.EMOTION_COLOURS.values())
        and [plots.colour(name) for name in NAMES] == colours
    )
    many = [plots.colour(f"class {i}") for i in range(40)]
    assert len(set(many)) == 40


def test_explanations_and_uploads(done):
    widgets = pytest.importorskip("ferkit.widgets")
    finished, faces = done
    model = finished.model.eval()
    assert cam(model, faces.images[:2], target="bored").shape == (2, 24, 24)
    network, crop = Network("mine", model), np.ascontiguousarray(faces.images[-1].transpose(1, 2, 0))
    opinion = ask(network, crop)
    assert opinion.answer in NAMES and f"it says {opinion.answer}" in in_words([opinion])
    figure = widgets.answers_figure({"mine": network}, crop)
    shown = {text.get_text() for ax in figure.axes for text in ax.get_yticklabels()}
    assert set(NAMES) <= shown
