"""RAF-DB: both layouts, the order trap of folders 0 to 6, and faults named with their row."""

import re
import shutil

import numpy as np
import pytest

from ferkit import data, labels
from ferkit.data import load_rafdb, rafdb
from tests.support import trees

OWN = labels.order("rafdb")


@pytest.fixture
def tree(tmp_path):
    return trees.rafdb(tmp_path / "RAF-DB")


def test_official_list(tree):
    faces = load_rafdb(tree, size=32)
    assert faces.images.shape == (28, 3, 32, 32) and faces.names == OWN and faces.name == "rafdb"
    assert faces.splits() == {"train": 14, "test": 14} and set(faces.counts().values()) == {4}
    assert faces.labels[:7].tolist() == list(range(7))  # the list counts from 1
    assert trees.right_colours(faces)
    assert faces.extras["file"][0] == "Image/aligned/train_00001_aligned.jpg"
    train = faces.select("train")
    assert np.shares_memory(train.images, faces.images) and len(train.extras["file"]) == 14
    assert len(faces.sha256) == 64 and "aligned" in faces.source
    assert data.load("rafdb", tree, size=32).sha256 == faces.sha256


def test_the_folder_above_and_the_variable_are_found(tmp_path, monkeypatch):
    trees.rafdb(tmp_path / "RAF-DB" / "basic")
    assert len(load_rafdb(tmp_path / "RAF-DB", size=16)) == 28
    monkeypatch.setenv("FERKIT_RAFDB", str(tmp_path / "RAF-DB"))
    assert len(data.load("rafdb", size=16)) == 28
    monkeypatch.setenv("FERKIT_RAFDB", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="folder of RAF-DB at .*nowhere, found nothing"):
        data.load("rafdb")


def test_line_ends_and_byte_order_marks_do_not_matter(tree):
    before = load_rafdb(tree, size=16)
    file = trees.rafdb_list(tree)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert load_rafdb(tree, size=16).sha256 == before.sha256


def test_original_pictures_by_box_and_by_landmarks(tmp_path):
    tree = trees.rafdb(tmp_path / "RAF-DB", original=True)
    boxed = load_rafdb(tree, size=32, images="original")
    assert trees.right_colours(boxed)
    wide = load_rafdb(tree, size=32, images="original", margin=0.5)
    assert not trees.right_colours(wide)
    # grey around, and its edge repeated outside
    assert (
        np.abs(wide.images[:, :, 16, 2].astype(int) - 90).max() < 8
        and np.abs(wide.images[:, :, 1, 16].astype(int) - 90).max() < 8
    )
    aligned = load_rafdb(tree, size=32, images="original", align=True)
    centre = aligned.images[:, :, 14:20, 12:20].mean((2, 3))
    assert np.abs(centre - [trees.COLOURS[OWN[label]] for label in aligned.labels]).max() < 8
    assert len({boxed.sha256, wide.sha256, aligned.sha256}) == 1  # the same pictures and labels, cut differently
    (tree / "Annotation/boundingbox/train_00003_boundingbox.txt").write_text("1 2 3\n")
    with pytest.raises(ValueError, match=r"train_00003_boundingbox\.txt: expected 4 numbers at least, found 3\."):
        load_rafdb(tree, size=32, images="original")
    shutil.rmtree(tree / "Annotation/manual")
    with pytest.raises(
        FileNotFoundError, match="Annotation/manual/train_00001_manu_attri.txt .* copy the folder Annotation"
    ):
        load_rafdb(tree, size=32, images="original", align=True)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("train_00002.jpg 2", "train_00002.jpg 8", "row 2: expected a label from 1 to 7, found '8'."),
        ("train_00002.jpg 2", "train_00002.jpg 0", "row 2: expected a label from 1 to 7, found '0'; RAF-DB counts "
                                                   "from 1"),
        ("train_00002.jpg 2", "train_00002.jpg fear", "row 2: expected a label from 1 to 7, found 'fear'."),
        ("train_00002.jpg 2", "train_00002.jpg 2 0.9", "row 2: expected a name and a label, found 3 fields"),
        ("train_00002.jpg 2", "train_00002.jpg", "row 2: expected a name and a label, found 1 fields"),
        ("train_00002.jpg 2", "train_00001.jpg 2", "row 2: train_00001.jpg is in row 1 already"),
        ("train_00002.jpg 2", "valid_00002.jpg 2", "row 2: expected a name that begins with train_ or test_, found "
                                                   "'valid_00002.jpg'"),
        ("train_00002.jpg 2", "../../train_00002.jpg 2",
         "row 2: expected the name of a picture inside the data set's folder"),
        ("train_00002.jpg 2", "train_x/../../y.jpg 2", "row 2: expected the name of a picture inside"),
        ("train_00002.jpg 2", "train_\0.jpg 2", "row 2: expected a line of text"),
    ],
)  # fmt: skip
def test_faults_in_the_list_name_their_row(tree, old, new, sentence):
    trees.edit(trees.rafdb_list(tree), old, new)
    with pytest.raises(ValueError, match=re.escape(f"list_patition_label.txt, {sentence}")) as caught:
        load_rafdb(tree, size=16)
    assert "\n" not in str(caught.value)


def test_an_empty_list_and_an_empty_folder(tree, tmp_path):
    trees.rafdb_list(tree).write_text("\n \n")
    with pytest.raises(ValueError, match=r"rows of names and labels in list_patition_label\.txt, found none"):
        load_rafdb(tree)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="or folders such as train/1; found neither"):
        load_rafdb(tmp_path / "empty")


def test_missing_pictures_are_counted_or_left_out(tree):
    for name in ("train_00003", "test_00001"):
        (tree / f"Image/aligned/{name}_aligned.jpg").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"Expected 28 pictures .* found 2 missing, first .*train_00003_aligned\.jpg "
        r"\(list_patition_label\.txt, row 3\)",
    ):
        load_rafdb(tree, size=16)
    faces = load_rafdb(tree, size=16, missing="drop")
    assert faces.splits() == {"train": 13, "test": 13} and "2 missing pictures left out" in faces.source
    assert trees.right_colours(faces)
    with pytest.raises(ValueError, match='Expected missing="error" or missing="drop", found \'skip\''):
        load_rafdb(tree, missing="skip")
    shutil.rmtree(tree / "Image")
    with pytest.raises(ValueError, match="found none of the 28"):
        load_rafdb(tree, missing="drop")


# -------------------------------------------------------------------------------------------------------- class folders


def test_folders_1_to_7_and_by_name(tmp_path):
    numbers = {str(code): emotion for code, emotion in enumerate(OWN, 1)}
    words = dict(zip(("Surprised", "fear", "Disgust", "happy", "sad", "angry", "neutral"), OWN, strict=True))
    for key, names in (("numbers", numbers), ("words", words)):
        faces = load_rafdb(trees.rafdb_folders(tmp_path / key, names), size=16)
        assert faces.names == OWN and trees.right_colours(faces) and faces.splits() == {"train": 14, "test": 14}
    nested = load_rafdb(trees.rafdb_folders(tmp_path / "copy" / "DATASET", numbers).parent, size=16)
    assert len(nested) == 28
    # numbers in another order than RAF-DB's own
    other = {str(code): emotion for code, emotion in enumerate(labels.order("manet"), 1)}
    tree = trees.rafdb_folders(tmp_path / "other", other)
    assert not trees.right_colours(load_rafdb(tree, size=16)) and trees.right_colours(
        load_rafdb(tree, size=16, order="manet")
    )


def test_folders_0_to_6_must_be_told(tmp_path):
    for key in ("rafdb", "manet"):
        tree = trees.rafdb_folders(
            tmp_path / key, {str(code): emotion for code, emotion in enumerate(labels.order(key))}
        )
        with pytest.raises(
            ValueError, match=r'two are in use: order="rafdb" \(0 surprise.* and order="manet" \(0 neutral'
        ) as caught:
            load_rafdb(tree, size=16)
        assert "the numbers of pictures" not in str(caught.value)
        assert trees.right_colours(load_rafdb(tree, size=16, order=key))
        assert trees.right_colours(load_rafdb(tree, size=16, order=labels.order(key)))
        other = {"rafdb": "manet", "manet": "rafdb"}[key]
        assert not trees.right_colours(load_rafdb(tree, size=16, order=other))


def test_the_message_uses_the_official_numbers():
    official = {split: dict(zip(OWN, numbers, strict=True)) for split, numbers in rafdb.OFFICIAL_COUNTS.items()}
    assert {split: sum(numbers) for split, numbers in rafdb.OFFICIAL_COUNTS.items()} == {"train": 12271, "test": 3068}
    folders = [str(code) for code in range(7)]
    for key in ("rafdb", "manet"):
        counts = {
            split: {str(code): official[split][emotion] for code, emotion in enumerate(labels.order(key))}
            for split in official
        }
        with pytest.raises(ValueError, match=f'the numbers of pictures are those of order="{key}"'):
            rafdb._class_folders(folders, None, counts)


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        ([str(i) for i in range(2, 9)], {}, "class folders 1 to 7, 0 to 6 or named by emotions, found 2, 3"),
        ([str(i) for i in range(1, 7)], {}, "seven class folders in each split, found 6: 1, 2"),
        (["1", "2", "3", "4", "5", "6", "happy"], {}, "class folders 1 to 7, 0 to 6 or named by emotions, found 1"),
        (["fear", "disgust", "happy", "sad", "anger", "neutral", "bored"], {},
         "named by emotions or numbers; Expected an emotion name, found 'bored'"),
        (["fear", "disgust", "happy", "happiness", "sad", "anger", "neutral"], {},
         "one folder for each of surprise, fear"),
        ([str(i) for i in range(7)], {"order": "ferplus"},
         "an order of surprise, fear, disgust, happiness, sadness, anger, neutral, found neutral"),
        ([str(i) for i in range(7)], {"order": "raf"}, "the name of a label order, found 'raf'. Known:"),
        ([*OWN], {"order": "rafdb"}, "no order for class folders that are named by emotions"),
        ([*OWN], {"images": "original"}, "the official list for images=\"original\", found class folders"),
    ],
)  # fmt: skip
def test_folders_that_are_not_rafdb(tmp_path, names, options, sentence):
    tree = trees.rafdb_folders(tmp_path / "tree", dict(zip(names, OWN, strict=False)), per_class=1)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_rafdb(tree, size=16, **options)


def test_a_class_that_is_absent_or_empty_in_one_split(tmp_path):
    tree = trees.rafdb_folders(tmp_path / "tree", {str(code): emotion for code, emotion in enumerate(OWN, 1)})
    for file in (tree / "test/3").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="Expected pictures in test/3, found none"):
        load_rafdb(tree, size=16)
    (tree / "test/3").rmdir()
    with pytest.raises(ValueError, match="the same classes in every split, found no test/3"):
        load_rafdb(tree, size=16)


def test_options_that_do_not_go_together(tree):
    for options, sentence in (
        ({"images": "cropped"}, "found 'cropped'"),
        ({"align": True}, "align=True with images=\"original\" only"),
        ({"order": "manet"}, "no order for list_patition_label.txt"),
        ({"size": 4}, "size from 8 to 1024"),
        ({"margin": -0.1}, "margin from 0 to 2"),
        ({"workers": 0}, "at least one worker"),
    ):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            load_rafdb(tree, **options)
    with pytest.raises(
        ValueError,
        match="options of 'rafdb' among size, images, align, margin, order, missing, workers, progress, found classes",
    ):
        data.load("rafdb", tree, classes=7)
