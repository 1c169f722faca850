"""Class folders and csv files of one's own."""

import os

import numpy as np
import pytest

from ferkit import labels
from ferkit.data import load, load_folder
from ferkit.data.io.folders import class_tree
from tests.support import trees

ALIAS = {"angry": "anger", "Disgusted": "disgust", "scared": "fear", "happy": "happiness", "SAD": "sadness", "surprised": "surprise", "neutral": "neutral"}


def tree(root, names=ALIAS, *, splits=("train", "test"), n=3):
    for split in splits:
        for name, emotion in names.items():
            for i in range(n):
                trees.save(trees.face(emotion), root / split / name / f"{i}.jpg")
    return root


def table(root, rows, header="path,label,split", name="faces.csv", end="\n"):
    root.mkdir(exist_ok=True)
    for row in rows:
        emotion = row.split(",")[1]
        emotion = labels.order("fer2013")[int(emotion)] if emotion.isdigit() and int(emotion) < 7 else ALIAS.get(emotion, emotion)
        trees.save(trees.face(emotion if emotion in trees.COLOURS else "neutral"), root / row.split(",")[0])
    (root / name).write_text(end.join([header, *rows]) + end, encoding="utf-8", newline="")
    return root / name


def test_class_folders_with_splits(tmp_path):
    faces = load("folder", tree(tmp_path), size=24)
    assert faces.images.shape == (42, 3, 24, 24) and faces.names == labels.EMOTIONS[:7] and faces.name == "folder"
    assert faces.splits() == {"train": 21, "test": 21} and set(faces.counts().values()) == {6} and trees.right_colours(faces)
    assert "train/happy/0.jpg" in faces.extras["file"] and len(faces.sha256) == 64


@pytest.mark.parametrize(("word", "split"), [("Training", "train"), ("val", "validation"), ("PublicTest", "public_test"), ("private_test", "private_test")])
def test_words_for_splits(tmp_path, word, split):
    assert load_folder(tree(tmp_path, splits=(word,)), size=8).splits() == {split: 21}


def test_class_folders_without_splits_are_train_and_may_be_deep_and_few(tmp_path):
    root = tree(tmp_path, {"happy": "happiness", "contempt": "contempt"}, splits=("",))
    trees.save(trees.face("happiness"), root / "happy/subject 1/a b.PNG")
    (root / "happy/notes.txt").write_text("x")
    (root / "happy/.hidden.jpg").write_text("x")
    faces = load_folder(root, size=24)
    assert faces.names == ("happiness", "contempt") and faces.splits() == {"train": 7} and trees.right_colours(faces)
    assert "happy/subject 1/a b.PNG" in faces.extras["file"]


def test_one_level_down(tmp_path):
    tree(tmp_path / "archive")
    assert load_folder(tmp_path, size=8).splits() == {"train": 21, "test": 21}


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_need_an_order(tmp_path, first):
    root = tree(tmp_path, {str(i + first): name for i, name in enumerate(labels.order("fer2013"))})
    with pytest.raises(ValueError, match=rf"order of the classes to be told, found numbers {first} to {first + 6}: numbers do not say"):
        load_folder(root, size=24)
    for order in ("fer2013", labels.order("fer2013"), ALIAS):
        faces = load_folder(root, size=24, order=order)
        assert faces.names == labels.order("fer2013") and trees.right_colours(faces)
    assert not trees.right_colours(load_folder(root, size=24, order="rafdb"))
    with pytest.raises(ValueError, match="numbers 0 to 7 or 1 to 8 for 8 names"):
        load_folder(root, size=24, order="affectnet8" if first else labels.EMOTIONS[:8]) if first else load_folder(tree(tmp_path / "b", {"3": "fear", "2": "anger"}), order="affectnet8")


def test_order_of_words_sets_the_names(tmp_path):
    faces = load_folder(tree(tmp_path), size=24, order="rafdb")
    assert faces.names == labels.order("rafdb") and trees.right_colours(faces)
    with pytest.raises(ValueError, match="found none of disgust"):
        load_folder(tmp_path, size=24, order=[name for name in labels.EMOTIONS if name != "disgust"])
    with pytest.raises(ValueError, match="each emotion once"):
        load_folder(tmp_path, size=24, order=[*labels.EMOTIONS, "happy"])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["path,label,split", "\ufeffImage, Emotion,Usage"])
def test_csv(tmp_path, header, end):
    rows = [f"p/{name}{i}.jpg,{name},{split}" for name in ALIAS for i, split in enumerate(("train", "val", "test"))]
    file = table(tmp_path / "own", rows, header, end=end)
    for path in (file, file.parent):
        faces = load_folder(path, size=24)
        assert faces.splits() == {"train": 7, "validation": 7, "test": 7} and trees.right_colours(faces) and len(faces) == 21


def test_csv_with_numbers_and_other_columns(tmp_path):
    file = table(tmp_path / "own", [f"p{i}.jpg,{i % 7},x" for i in range(14)], "file,label,remark")
    with pytest.raises(ValueError, match="Expected the order"):
        load_folder(file, size=24)
    faces = load_folder(file, size=24, order="fer2013")
    assert faces.splits() == {"train": 14} and trees.right_colours(faces)


def test_missing_pictures_of_a_csv(tmp_path):
    file = table(tmp_path / "own", [f"{name}.jpg,{name},train" for name in ALIAS])
    (file.parent / "SAD.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"found 1 missing, first SAD\.jpg \(faces\.csv, data row 5\)"):
        load_folder(file)
    faces = load_folder(file, size=24, missing="drop")
    assert len(faces) == 6 and "1 missing pictures left out" in faces.source and trees.right_colours(faces)
    assert faces.names == labels.EMOTIONS[:7] and faces.counts()["sadness"] == 0


@pytest.mark.parametrize(
    ("rows", "header", "sentence"),
    [
        (["a.jpg,happy"], "path,label,split", "data row 1: expected 3 columns, found 2"),
        (["a.jpg,happy,train", "a.jpg,sad,train"], "path,label,split", "data row 2: a.jpg is in data row 1 already"),
        (["a.jpg,angst,train"], "path,label,split", "data row 1: expected an emotion or a whole number, found 'angst'"),
        (["a.jpg,1.0,train"], "path,label,split", "found '1.0'"),
        (["a.jpg,happy,exam"], "path,label,split", "expected a split such as train, val or test, found 'exam'"),
        (["../a.jpg,happy,train"], "path,label,split", "inside the data set's folder"),
        (["a.jpg,happy,train", "b.jpg,3,train"], "path,label,split", "all words or all numbers"),
        (["a.jpg,happy,train"], "a,b,c", "Expected the columns path, label and perhaps split in faces.csv, found 'a', 'b', 'c'"),
        (["a.jpg,happy,happy"], "path,label,emotion", "one column for the label in faces.csv, found 'label' and 'emotion'"),
        ([], "path,label", "Expected rows of pictures in faces.csv, found none"),
    ],
)  # fmt: skip
def test_csv_faults(tmp_path, rows, header, sentence):
    file = table(tmp_path / "own", [row for row in rows if ".." not in row], header)
    file.write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(ValueError) as caught:
        load_folder(file, size=8)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_folder_faults(tmp_path):
    with pytest.raises(ValueError, match="Expected the path of a folder or csv"):
        load("folder")
    with pytest.raises(FileNotFoundError, match="found nothing there"):
        load("folder", tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="or a csv"):
        load_folder(tmp_path)
    root = tree(tmp_path / "a")
    (root / "test/contempt").mkdir()
    with pytest.raises(ValueError, match=r"Expected pictures \(\.jpg.* in test/contempt, found none"):
        load_folder(root)
    os.rename(root / "test/contempt", root / "test/faces")
    trees.save(trees.face("fear"), root / "test/faces/a.jpg")
    with pytest.raises(ValueError, match=r"found 'faces' \(folder test/faces\); rename it"):
        load_folder(root)
    tree(tmp_path / "b", splits=("val", "validation"))
    with pytest.raises(ValueError, match="one folder per split, found val and validation"):
        load_folder(tmp_path / "b")
    (tmp_path / "c").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "c" / name).write_text("path,label\n")
    with pytest.raises(ValueError, match=r"Expected one csv in .*, found a\.csv, b\.csv"):
        load_folder(tmp_path / "c")


def test_links_inside_a_class_folder_are_refused_and_loops_end(tmp_path):
    root = tree(tmp_path / "a", splits=("train",))
    (root / "train/happy/again").symlink_to(root, target_is_directory=True)
    with pytest.raises(ValueError, match="found the link again to a folder"):
        load_folder(root)
    (root / "train/happy/again").unlink()
    outside = tree(tmp_path / "outside", {"contempt": "contempt"}, splits=("",))
    (root / "train/contempt").symlink_to(outside / "contempt", target_is_directory=True)  # a class elsewhere is fine
    assert load_folder(root, size=8).counts()["contempt"] == 3
    assert np.unique(class_tree(root)["train"]["contempt"]).size == 3
