"""AffectNet: csv and npy release, 7 and 8 classes, valence and arousal, and faults named with their row."""

import re
import shutil

import numpy as np
import pytest

from ferkit import data, labels
from ferkit.data import affectnet_lists
from tests.support import trees


@pytest.fixture
def tree(tmp_path):
    return trees.affectnet_csv(tmp_path / "AffectNet")


@pytest.fixture
def npy(tmp_path):
    return trees.affectnet_npy(tmp_path / "AffectNet2021")


@pytest.mark.parametrize("make", [trees.affectnet_csv, trees.affectnet_npy])
def test_both_releases(tmp_path, make):
    tree = make(tmp_path / "AffectNet")
    eight, seven = (data.load(f"affectnet{n}", tree, size=32) for n in (8, 7))
    assert eight.splits() == {"train": 16, "test": 16} and eight.names == labels.EMOTIONS and eight.name == "affectnet8"
    assert seven.splits() == {"train": 14, "test": 14} and seven.names == labels.EMOTIONS[:7]
    assert trees.right_colours(eight) and trees.right_colours(seven)
    assert np.allclose(eight.extras["valence"], eight.labels / 10 - 0.35, atol=1e-6)
    assert np.allclose(seven.extras["arousal"], -seven.labels / 20, atol=1e-6)
    assert seven.extras["valence"].dtype == np.float32
    test = seven.select("test")
    assert np.shares_memory(test.images, seven.images) and np.array_equal(
        test.extras["valence"], seven.extras["valence"][14:]
    )
    assert eight.sha256 != seven.sha256
    with pytest.raises(ValueError, match="among size, margin, align, missing, workers, progress, found classes"):
        data.load("affectnet7", tree, classes=8)


def test_rows_without_emotion_need_no_picture_and_no_box(tree):
    assert "NULL" in (tree / "training.csv").read_text()
    assert len(data.load("affectnet8", tree, size=16)) == 32


def test_box_margin_and_alignment(tree):
    whole = data.load("affectnet8", tree, size=32, margin=0.4)
    assert not trees.right_colours(whole)  # grey around the face comes in
    aligned = data.load("affectnet8", tree, size=32, align=True)
    centre = aligned.images[:, :, 14:20, 12:20].mean((2, 3))
    assert np.abs(centre - [trees.COLOURS[aligned.names[label]] for label in aligned.labels]).max() < 8
    assert "aligned" in aligned.source
    # x and y are not swapped: the boxes of the second half start at x = 21, and a swapped box would be half grey
    assert trees.right_colours(data.load("affectnet8", tree, size=32))


def test_header_column_order_and_folders(tmp_path):
    plain = data.load("affectnet7", trees.affectnet_csv(tmp_path / "a"), size=16)
    bare = data.load("affectnet7", trees.affectnet_csv(tmp_path / "b", header=("training",)), size=16)
    assert np.array_equal(bare.labels, plain.labels) and np.array_equal(bare.images, plain.images)
    tree = trees.affectnet_csv(tmp_path / "c")
    for name in ("training", "validation"):
        file = tree / f"{name}.csv"
        rows = [line.split(",") for line in file.read_text().splitlines()]
        file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(",".join(row[::-1]) for row in rows).encode())
    (tree / "Manually_Annotated").mkdir()
    shutil.move(tree / "Manually_Annotated_Images", tree / "Manually_Annotated/Manually_Annotated_Images")
    turned = data.load("affectnet7", tree, size=16)
    assert np.array_equal(turned.labels, plain.labels) and np.array_equal(turned.images, plain.images)


FIRST = "1/00001.jpg,20,10,40,40,"


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        (6, "11", "row 2: expected an expression from 0 to 10, found '11'."),
        (6, "-1", "row 2: expected an expression from 0 to 10, found '-1'."),
        (6, "Happy", "row 2: expected an expression from 0 to 10, found 'Happy'."),
        (7, "-2", "row 2: expected valence as a number from -1 to 1, found '-2'."),
        (8, "nan", "row 2: expected arousal as a number from -1 to 1, found 'nan'."),
        (1, "NULL", "row 2: expected face_x as a number, found 'NULL'."),
        (3, "0", "row 2: expected face_width as a number from 1 to 1e+06, found '0'."),
        (0, "/etc/x.jpg", "row 2: expected the name of a picture inside the data set's folder, found '/etc/x.jpg'."),
        (0, "2/00002.jpg", "row 3: 2/00002.jpg is in row 2 already"),
    ],
)
def test_faults_in_the_csv_name_their_row(tree, column, value, sentence):
    file = tree / "training.csv"
    lines = file.read_text().splitlines()
    cells = lines[1].split(",")
    cells[column] = value
    file.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    with pytest.raises(ValueError, match=re.escape(f"training.csv, {sentence}")) as caught:
        data.load("affectnet8", tree, size=16)
    assert "\n" not in str(caught.value)


def test_a_csv_that_is_cut_off_or_lacks_a_column_or_is_absent(tree):
    file = tree / "validation.csv"
    text = file.read_text()
    file.write_text(text[: text.index("1002.jpg") + 14])
    with pytest.raises(
        ValueError, match=r"validation\.csv, row 3: expected 9 columns, found \d; the file may be cut off here"
    ):
        data.load("affectnet8", tree, size=16)
    file.write_text(text.replace("valence", "valance", 1))
    with pytest.raises(ValueError, match=r"validation\.csv, row 1: expected the columns .* found no valence"):
        data.load("affectnet8", tree, size=16)
    file.write_text(trees.HEADER + "\n")
    with pytest.raises(ValueError, match=r"Expected rows with labels 0 to 7 in validation\.csv, found none"):
        data.load("affectnet8", tree, size=16)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected validation\.csv beside training\.csv"):
        data.load("affectnet8", tree, size=16)
    with pytest.raises(FileNotFoundError, match="Expected AffectNet in .* found neither"):
        data.load("affectnet8", tree / "Manually_Annotated_Images")


def test_landmarks_are_read_when_they_are_needed(tree):
    file = tree / "training.csv"
    lines = file.read_text().splitlines()
    cells = lines[2].split(",")
    for value, sentence in (
        ("1;2;3", r"training\.csv, row 3: expected 68 facial_landmarks \(136 numbers\), found 3 numbers"),
        ("a;b", r"training\.csv, row 3: expected facial_landmarks as numbers"),
        ("NULL", r"training\.csv, row 3: expected 68 landmarks for align=True, found none; 1 rows lack them"),
        (";".join(["7"] * 136), r"2/00002\.jpg \(training\.csv, row 3\): expected landmarks at different places"),
    ):
        cells[5] = value
        file.write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]))
        assert len(data.load("affectnet8", tree, size=16)) == 32
        with pytest.raises(ValueError, match=sentence):
            data.load("affectnet8", tree, size=16, align=True)


def test_a_box_outside_of_the_picture(tree):
    trees.edit(tree / "training.csv", FIRST, FIRST.replace("20,10", "200,10"))
    with pytest.raises(
        ValueError,
        match=r"1/00001\.jpg \(training\.csv, row 2\): expected a box .* in a picture of 80x60, found 200, 10, 240, 50",
    ):
        data.load("affectnet8", tree, size=16)


def test_missing_pictures(tree):
    (tree / "Manually_Annotated_Images/3/00003.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"found 1 missing, first 3/00003\.jpg \(training\.csv, row 4\)"):
        data.load("affectnet8", tree, size=16)
    faces = data.load("affectnet8", tree, size=16, missing="drop")
    assert len(faces) == 31 and trees.right_colours(faces) and "1 missing pictures left out" in faces.source
    assert len(faces.extras["valence"]) == 31 and "3/00003.jpg" not in faces.extras["file"]


# ---------------------------------------------------------------------------------------------------------- npy release


def test_npy_numbers_are_in_their_order_and_kept(npy, monkeypatch):
    faces = data.load("affectnet8", npy, size=16)
    assert faces.extras["file"][:4].tolist() == [f"train_set/images/{n}.jpg" for n in (3, 8, 13, 18)]
    assert "npy release of 2021" in faces.source
    monkeypatch.setattr(affectnet_lists, "_cell", lambda *_: pytest.fail("read again"))
    assert data.load("affectnet8", npy, size=16).sha256 == faces.sha256


def test_npy_annotations_that_change_are_read_again(npy):
    before = data.load("affectnet8", npy, size=16)
    np.save(npy / "train_set/annotations/3_exp.npy", np.array("5", dtype="<U2"))
    assert data.load("affectnet8", npy, size=16).labels[0] == 5 != before.labels[0]
    np.save(npy / "train_set/annotations/3_exp.npy", np.array(6))  # a number instead of text
    assert data.load("affectnet8", npy, size=16).labels[0] == 6


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("8_exp", np.array("8"), "train_set/annotations: expected an expression in 8_exp.npy from 0 to 7, found '8'."),
        (
            "8_val",
            np.array("-2"),
            "train_set/annotations: expected valence in 8_val.npy as a number from -1 to 1, found '-2'.",
        ),
        ("8_aro", np.array(["0", "1"]), "train_set/annotations: expected one value in 8_aro.npy, found 2."),
        ("8_lnd", np.zeros(10), "train_set/annotations: expected 136 numbers in 8_lnd.npy, found 10."),
        ("8_exp", None, "train_set/annotations: expected 8_exp.npy as a numpy file, but it cannot be read"),
        (
            "08_emo",
            np.array("1"),
            "Expected <number>_exp.npy, _val.npy, _aro.npy or _lnd.npy in train_set/annotations, found 08_emo.npy.",
        ),
    ],
)
def test_faults_in_the_npy_release(npy, name, value, sentence):
    file = npy / f"train_set/annotations/{name}.npy"
    if value is None:
        file.write_bytes(file.read_bytes()[:40])
    else:
        np.save(file, value)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        data.load("affectnet8", npy, size=16)


def test_npy_files_that_are_absent(npy):
    with pytest.raises(ValueError, match="margin=0 for the npy release"):
        data.load("affectnet8", npy, margin=0.2)
    (npy / "val_set/annotations/13_aro.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected 13_aro\.npy in val_set/annotations"):
        data.load("affectnet8", npy, size=16)
    shutil.rmtree(npy / "val_set")
    with pytest.raises(FileNotFoundError, match="Expected val_set/images and val_set/annotations"):
        data.load("affectnet8", npy, size=16)


def test_numpy_objects_are_never_unpickled(npy):
    np.save(npy / "train_set/annotations/8_exp.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"expected 8_exp\.npy as a numpy file, but it cannot be read"):
        data.load("affectnet8", npy, size=16)


def test_the_csv_is_parsed_once(tree, monkeypatch):
    before = data.load("affectnet8", tree, size=16)
    monkeypatch.setattr(affectnet_lists, "_csv_row", lambda *_: pytest.fail("parsed again"))
    assert (
        data.load("affectnet7", tree, size=16).sha256 != before.sha256 == data.load("affectnet8", tree, size=16).sha256
    )
    monkeypatch.undo()
    trees.edit(tree / "training.csv", ",0,-0.350,0.000\n2/00002", ",6,-0.350,0.000\n2/00002")
    assert data.load("affectnet8", tree, size=16).labels[0] == 6 != before.labels[0]
