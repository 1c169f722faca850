"""ExpW: boxes, the split file that is written and used again, ResEmoteNet's rule, and faults named with their row."""

import re

import numpy as np
import pytest

from ferkit import data, labels, papers
from ferkit.data import expw
from tests.support import trees


@pytest.fixture
def tree(tmp_path):
    return trees.expw(tmp_path / "ExpW")


def test_boxes_labels_and_extras(tree):
    faces = data.load("expw", tree, size=24)
    assert (
        faces.images.shape == (140, 3, 24, 24)
        and faces.names == labels.order("expw")
        and set(faces.counts().values()) == {20}
    )
    # top and left are not swapped: the second face of a photograph is beside the first
    assert trees.right_colours(faces)
    assert faces.extras["file"][:2].tolist() == ["photo_00000.jpg"] * 2 and faces.extras["face_id"][:3].tolist() == [
        0,
        1,
        0,
    ]
    assert faces.extras["confidence"].dtype == np.float32
    assert set(faces.splits()) == {"train", "validation", "test"}
    assert not trees.right_colours(data.load("expw", tree, size=24, margin=0.3))


def test_faces_of_one_photograph_stay_on_one_side(tree):
    faces = data.load("expw", tree, size=16)
    sides = {}
    for file, side in zip(faces.extras["file"].tolist(), faces.split.tolist(), strict=True):
        sides.setdefault(file, set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    parts = {side: n / len(faces) for side, n in faces.splits().items()}
    assert 0.65 < parts["train"] < 0.8 and 0.1 < parts["test"] < 0.25 and 0.03 < parts["validation"] < 0.2
    apart = data.load("expw", tree, size=16, split="resemotenet")
    mixed = {
        file for file in set(apart.extras["file"].tolist()) if len(set(apart.split[apart.extras["file"] == file])) > 1
    }
    assert mixed  # the rule of the paper takes no notice of photographs


def test_resemotenet_rule_gives_the_printed_counts():
    table = papers.load("resemotenet").tables["II"]
    words = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")  # ExpW's order
    codes = np.repeat(np.arange(7), expw.OFFICIAL_COUNTS)
    sides = expw._resemotenet(codes, 0)
    assert sum(expw.OFFICIAL_COUNTS) == len(sides) == 91793
    train, test = (np.bincount(codes[sides == side], minlength=7).tolist() for side in ("train", "test"))
    assert test == [table.cell(word, "ExpW test") for word in words]
    printed = [table.cell(word, "ExpW train") for word in words]
    assert [a - b for a, b in zip(printed, train, strict=True)] == [0, 0, 0, 0, 0, 1, 0]
    assert int((sides == "validation").sum()) == 18449 + 1


def test_the_split_is_written_once_and_used_again(tree, tmp_path):
    file = tmp_path / "split.csv"
    first = data.load("expw", tree, size=16, split_file=file)
    text = file.read_text()
    assert text.startswith("image_name,face_id,split\nphoto_00000.jpg,0,") and text.count("\n") == 141
    again = data.load("expw", tree, size=16, split="resemotenet", seed=7, split_file=file)
    assert (
        np.array_equal(again.split, first.split)
        and again.sha256 == first.sha256
        and "split.csv, sha256" in first.source
    )
    file.unlink()
    other = data.load("expw", tree, size=16, seed=1, split_file=file)
    assert not np.array_equal(other.split, first.split) and other.sha256 != first.sha256
    default = data.load("expw", tree, size=16)
    assert np.array_equal(default.split, first.split)  # the same rule and seed, kept in the cache folder


def test_a_split_file_that_does_not_fit(tree, tmp_path):
    file = tmp_path / "split.csv"
    data.load("expw", tree, size=16, split_file=file)
    good = file.read_text()
    lines = good.splitlines()
    for text, sentence in (
        ("a,b\n" + good, r"the columns image_name, face_id, split in split\.csv, found 'a', 'b'"),
        ("", "found nothing"),
        (
            good.replace(lines[3], "photo_00002.jpg,0,training"),
            r"split\.csv, row 4: expected a split among train, validation, test, found 'training'",
        ),
        (good + lines[1] + "\n", r"split\.csv, row 142: face 0 of photo_00000\.jpg is named twice"),
        (good + "x.jpg,0,train\n", r"split\.csv, row 142: face 0 of 'x\.jpg' is not in the label list"),
        (good + "x.jpg,0\n", r"split\.csv, row 142: expected three columns, found 2"),
        (
            "\n".join(lines[:-2]) + "\n",
            r"a split for every face in split\.csv, found none for 2, first face 0 of photo_00138\.jpg",
        ),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=sentence):
            data.load("expw", tree, size=16, split_file=file)
    with pytest.raises(OSError, match=r"Expected to write the split to .* name a place with split_file="):
        data.load("expw", tree, size=16, split_file=tree / "label/label.lst" / "split.csv")


def test_confidence_is_a_threshold_after_the_split(tree):
    every = data.load("expw", tree, size=16)
    sure = data.load("expw", tree, size=16, min_confidence=50)
    keep = every.extras["confidence"] >= 50
    assert 0 < len(sure) < len(every) and np.array_equal(sure.split, every.split[keep])
    assert np.array_equal(sure.images, every.images[keep])
    with pytest.raises(ValueError, match="faces with a confidence of 1000 or more"):
        data.load("expw", tree, min_confidence=1000)


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ("photo_00000.jpg 0 9 5 35 39 20.5 7", "row 1: expected a label from 0 to 6, found '7'."),
        (
            "photo_00000.jpg 0 9 5 35 39 0",
            "row 1: expected 8 fields (image_name face_id top left right bottom confidence label), found 7.",
        ),
        (
            "photo_00000.jpg 0 9 35 5 39 20.5 0",
            "row 1: expected a box with top < bottom and left < right, found top 9, left 35, right 5, bottom 39.",
        ),
        ("photo_00000.jpg 0 9 x 35 39 20.5 0", "row 1: expected left of the box as a number, found 'x'."),
        ("photo_00000.jpg 1 9 5 35 39 20.5 0", "row 2: face 1 of photo_00000.jpg is in row 1 already."),
        ("photo_00000.jpg a 9 5 35 39 20.5 0", "row 1: expected a face_id from 0 to 1000000, found 'a'."),
        ("../photo.jpg 0 9 5 35 39 20.5 0", "row 1: expected the name of a picture inside the data set's folder"),
    ],
)
def test_faults_in_the_list_name_their_row(tree, new, sentence):
    trees.edit(tree / "label/label.lst", "photo_00000.jpg 0 9 5 35 39 20.5 0", new)
    with pytest.raises(ValueError, match=re.escape(f"label.lst, {sentence}")) as caught:
        data.load("expw", tree, size=16)
    assert "\n" not in str(caught.value)


def test_what_is_absent_is_named(tree, tmp_path):
    with pytest.raises(ValueError, match="a split among by_photo, resemotenet, found 'random'"):
        data.load("expw", tree, split="random")
    (tree / "image/origin/photo_00004.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"found 2 missing, first photo_00004\.jpg \(label\.lst, row 5\)"):
        data.load("expw", tree, size=16)
    assert len(data.load("expw", tree, size=16, missing="drop")) == 138
    (tmp_path / "empty/label").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"Expected label/label\.lst or label\.lst"):
        data.load("expw", tmp_path / "empty")
    (tmp_path / "empty/label/label.lst").write_text("a.jpg 0 1 1 2 2 3 4\n")
    with pytest.raises(FileNotFoundError, match="Expected the photographs in"):
        data.load("expw", tmp_path / "empty")
