"""Class folders and csv files of one's own."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from ferkit import labels
from ferkit.data import load, load_folder
from ferkit.data.io.folders import class_tree
from ferkit.doctor import examine
from ferkit.faces import crop_face, find_faces, portrait, read_picture
from tests.support import trees
from tests.support.doctor_trees import SEVEN

ALIAS = {
    "angry": "anger",
    "Disgusted": "disgust",
    "scared": "fear",
    "happy": "happiness",
    "SAD": "sadness",
    "surprised": "surprise",
    "neutral": "neutral",
}


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
        emotion = (
            labels.order("fer2013")[int(emotion)]
            if emotion.isdigit() and int(emotion) < 7
            else ALIAS.get(emotion, emotion)
        )
        trees.save(trees.face(emotion if emotion in trees.COLOURS else "neutral"), root / row.split(",")[0])
    (root / name).write_text(end.join([header, *rows]) + end, encoding="utf-8", newline="")
    return root / name


def test_class_folders_with_splits(tmp_path):
    faces = load("folder", tree(tmp_path), size=24)
    assert faces.images.shape == (42, 3, 24, 24) and faces.names == labels.EMOTIONS[:7] and faces.name == "folder"
    assert (
        faces.splits() == {"train": 21, "test": 21}
        and set(faces.counts().values()) == {6}
        and trees.right_colours(faces)
    )
    assert "train/happy/0.jpg" in faces.extras["file"] and len(faces.sha256) == 64


@pytest.mark.parametrize(
    ("word", "split"),
    [("Training", "train"), ("val", "validation"), ("PublicTest", "public_test"), ("private_test", "private_test")],
)
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
    with pytest.raises(
        ValueError, match=rf"order of the classes to be told, found numbers {first} to {first + 6}: numbers do not say"
    ):
        load_folder(root, size=24)
    for order in ("fer2013", labels.order("fer2013"), ALIAS):
        faces = load_folder(root, size=24, order=order)
        assert faces.names == labels.order("fer2013") and trees.right_colours(faces)
    assert not trees.right_colours(load_folder(root, size=24, order="rafdb"))
    with pytest.raises(ValueError, match="numbers 0 to 7 or 1 to 8 for 8 names"):
        load_folder(root, size=24, order="affectnet8" if first else labels.EMOTIONS[:8]) if first else load_folder(
            tree(tmp_path / "b", {"3": "fear", "2": "anger"}), order="affectnet8"
        )


def test_order_of_words_sets_the_names(tmp_path):
    faces = load_folder(tree(tmp_path), size=24, order="rafdb")
    assert faces.names == labels.order("rafdb") and trees.right_colours(faces)
    with pytest.raises(ValueError, match="found none of disgust"):
        load_folder(tmp_path, size=24, order=[name for name in labels.EMOTIONS if name != "disgust"])
    with pytest.raises(ValueError, match="each class once"):
        load_folder(tmp_path, size=24, order=[*labels.EMOTIONS, "happy"])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["path,label,split", "\ufeffImage, Emotion,Usage"])
def test_csv(tmp_path, header, end):
    rows = [f"p/{name}{i}.jpg,{name},{split}" for name in ALIAS for i, split in enumerate(("train", "val", "test"))]
    file = table(tmp_path / "own", rows, header, end=end)
    for path in (file, file.parent):
        faces = load_folder(path, size=24)
        assert (
            faces.splits() == {"train": 7, "validation": 7, "test": 7}
            and trees.right_colours(faces)
            and len(faces) == 21
        )


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
        (["a.jpg,,train"], "path,label,split", "data row 1: expected the name of a class or a whole number, found ''"),
        (["a.jpg,1.5,train"], "path,label,split", "found '1.5'"),
        (["a.jpg,-1,train"], "path,label,split", "found '-1'"),
        (["a.jpg,hapy,train"], "path,label,split", "found 'hapy' (faces.csv, data row 1), which looks like 'happy' "
                                                   "misspelt"),
        (["/a/../b.jpg,sad,train"], "path,label,split", "expected a plain path of a picture"),
        (["a.jpg,happy,exam"], "path,label,split", "expected a split such as train, val or test, found 'exam'"),
        (["../a.jpg,happy,train"], "path,label,split", "inside the data set's folder"),
        (["a.jpg,happy,train", "b.jpg,3,train"], "path,label,split", "all words or all numbers"),
        (["a.jpg,happy,train"], "a,b,c", "Expected the columns path, label and perhaps split in faces.csv, found 'a', "
                                         "'b', 'c'"),
        (["a.jpg,happy,happy"], "path,label,emotion",
         "one column for the label in faces.csv, found 'label' and 'emotion'"),
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
    os.rename(root / "test/contempt", root / "test/suprise")
    trees.save(trees.face("surprise"), root / "test/suprise/a.jpg")
    with pytest.raises(
        ValueError,
        match=r"found 'suprise' \(folder test/suprise\), which looks like 'surprise' misspelt; rename it, "
        r"or, if it is meant",
    ):
        load_folder(root)
    assert load_folder(root, size=8, order=[*labels.EMOTIONS[:7], "suprise"]).counts()["suprise"] == 1
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
    assert np.unique(class_tree(root).folders["train"]["contempt"]).size == 3


# -------------------------------------------------------------------------------------------- everything below the path


def quiet(*args, **options):
    """The set, and the sentences of its warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        faces = load_folder(*args, **options)
    return faces, [str(warning.message) for warning in seen]


def findings(root):
    return {finding.code: finding for finding in examine(root, set_name="folder", progress=False).findings}


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("Testing", "test"), ("test_images", "test"), ("Test Set", "test"), ("images-test", "test"),
        ("eval", "validation"), ("Evaluation", "validation"),
        ("valid", "validation"), ("dev", "validation"), ("Validation Set", "validation"), ("val_data", "validation"),
        ("trainset", "train"), ("train_faces", "train"),
    ],
)  # fmt: skip
def test_more_words_for_splits(tmp_path, word, split):
    names = ("Train", word) if split != "train" else (word, "test")
    faces, said = quiet(tree(tmp_path, splits=names), size=8)
    assert faces.splits()[split] == 21 and len(faces) == 42 and not said


@pytest.mark.parametrize("layout", ["classes", "splits"])
def test_what_is_not_read_is_named_by_loader_and_doctor(tmp_path, layout):
    root = tree(tmp_path, splits=("train", "test") if layout == "splits" else ("",), n=6)
    base = root / "train" if layout == "splits" else root
    loose = ["a.jpg"] + (["train/b.png", "Holdout/happy/c.jpg"] if layout == "splits" else [])
    for name in loose:
        trees.save(trees.face("fear"), root / name)
    for name in (".ipynb_checkpoints/0-checkpoint.jpg", "__MACOSX/0.jpg", "@eaDir/0.jpg", ".hidden/0.jpg"):
        trees.save(trees.face("fear"), base / "happy" / name)
    for name in ("._0.jpg", "Thumbs.db", ".DS_Store"):
        (base / "happy" / name).write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    faces, said = quiet(root, size=8)
    assert (
        faces.counts()["happiness"] == (12 if layout == "splits" else 6)
        and len(faces) == 7 * faces.counts()["happiness"]
    )
    assert (
        len(said) == 1
        and f"{len(loose)} pictures lie in no class folder" in said[0]
        and all(name in said[0] for name in loose)
    )
    assert (
        f"{len(loose)} pictures without a class left out; 8 other or hidden files and folders left out" in faces.source
    )
    found = findings(root)
    assert found["left_out_loose"].count == len(loose) and set(found["left_out_loose"].examples) == set(loose)
    assert found["left_out_other"].count == 1 and found["left_out_hidden"].count == 7


def test_a_split_without_classes_is_left_out_and_named(tmp_path):
    root = tree(tmp_path, splits=("train",))
    trees.save(trees.face("fear"), root / "test/1.jpg")
    faces, said = quiet(root, size=8)
    assert (
        faces.splits() == {"train": 21}
        and "1 pictures lie in no class folder, or are in no row of the csv, and are left out: test/1.jpg" in said[0]
    )


def test_folders_of_classes_are_not_taken_for_classes(tmp_path):
    tree(tmp_path, splits=("fer_a", "fer_b"))
    with pytest.raises(
        ValueError, match="found the folder fer_a that holds the classes .*; if it is a split, rename it"
    ):
        load_folder(tmp_path)


def test_fer2013_in_class_folders_passes_over_the_same_droppings(tmp_path):
    for name in SEVEN:
        for split in ("train", "validation"):
            trees.save(
                trees.face(labels.canonical(name)).convert("L").resize((48, 48)),
                tmp_path / "images" / split / name / "0.webp",
            )
    (tmp_path / "images/train/happy/._0.jpg").write_bytes(b"x")
    assert load("fer2013", tmp_path).splits() == {"train": 7, "validation": 7}


# ------------------------------------------------------------------------------------------------- classes of one's own


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (("tense", "bored", "attentive"), ("attentive", "bored", "tense")),
        (("pain", "no_pain"), ("no_pain", "pain")),
        (("happy", "bored", "angry"), ("happiness", "anger", "bored")),
        (("happy", "not_happy"), ("happiness", "not_happy")),
        (("colère", "生气"), ("colère", "生气")),
        (("0_angry", "1 - Happy", "2.bored"), ("happiness", "anger", "2.bored")),
    ],
)
def test_classes_of_ones_own(tmp_path, classes, names):
    faces, said = quiet(
        tree(tmp_path, {name: name if name in trees.COLOURS else "neutral" for name in classes}), size=8
    )
    assert (
        faces.names == names
        and set(faces.counts().values()) == {6}
        and faces.splits() == {"train": 3 * len(names), "test": 3 * len(names)}
        and not said
    )
    assert not {"unknown_class", "near_miss", "rows"} & set(findings(tmp_path))


def test_spellings_of_one_class_are_one_class(tmp_path):
    tree(tmp_path, {"Bored": "neutral", "tense": "fear"}, splits=("train",))
    tree(tmp_path, {"bored": "neutral", "Tense": "fear"}, splits=("test",))
    assert load_folder(tmp_path, size=8).counts() == {"Bored": 6, "tense": 6} or load_folder(
        tmp_path, size=8
    ).counts() == {"Bored": 6, "Tense": 6}


def test_numbers_with_names_of_ones_own(tmp_path):
    tree(tmp_path, {"0": "neutral", "1": "fear", "2": "anger"})
    faces = load_folder(tmp_path, size=8, order=("bored", "tense", "calm"))
    assert faces.names == ("bored", "tense", "calm") and faces.labels[:7].tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert load_folder(tmp_path, size=8, order=("bored", "happy", "calm")).names == ("bored", "happiness", "calm")


@pytest.mark.parametrize("word", ["suprise", "Suprised", "hapy", "angery", "disgut", "neutrl", "faer", "contemp"])
def test_a_misspelt_emotion_is_asked_about(tmp_path, word):
    root = tree(tmp_path, {"neutral": "neutral", word: "fear"}, n=6)
    with pytest.raises(
        ValueError,
        match=rf"found '{word}' .*, which looks like '\w+' misspelt; rename it, or, if it is meant, list "
        rf"all classes in order",
    ):
        load_folder(root, size=8)
    assert findings(root)["near_miss"].count == 12
    assert load_folder(root, size=8, order=("neutral", word)).names == ("neutral", word)


@pytest.mark.parametrize("word", ["unhappy", "bored", "mad", "calm", "smile", "no_pain", "positive", "boy", "danger"])
def test_another_word_is_no_misspelt_emotion(word):
    assert labels.near_miss(word) is None


# --------------------------------------------------------------------------------------------------------------- tables

ROWS = [(f"{name}{i}.jpg", name, ("train", "val", "test")[i]) for name in ALIAS for i in range(3)]


def pictures(root, folder=""):
    for file, name, _ in ROWS:
        trees.save(trees.face(ALIAS[name]), root / folder / file)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("columns", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_tables_in_every_hand(tmp_path, delimiter, header, columns):
    pictures(tmp_path)
    rows = [("path", "label", "split")] * header + ROWS
    (tmp_path / "faces.csv").write_text("".join(delimiter.join(row[i] for i in columns) + "\n" for row in rows))
    faces, said = quiet(tmp_path, size=24)
    assert faces.splits() == {"train": 7, "validation": 7, "test": 7} and trees.right_colours(faces) and not said


def test_two_columns_without_a_header(tmp_path):
    pictures(tmp_path)
    (tmp_path / "faces.csv").write_text("".join(f"{file},{name}\n" for file, name, _ in ROWS))
    assert trees.right_colours(load_folder(tmp_path, size=24))
    (tmp_path / "faces.csv").write_text("a.jpg,happy,0.7\n")
    with pytest.raises(ValueError, match="Expected a first row of names"):
        load_folder(tmp_path)


@pytest.mark.parametrize("folders", ["beside", "split", "images", "deep"])
def test_a_table_for_each_split_beside_folders_of_pictures(tmp_path, folders):
    for split in ("train", "val", "test"):
        rows = [row for row in ROWS if row[2] == split]
        (tmp_path / f"{split}_labels.csv").write_text(
            "image,label\n" + "".join(f"{file},{name}\n" for file, name, _ in rows)
        )
        where = {"beside": "", "split": split, "images": "images", "deep": f"images/{split}"}[folders]
        for file, name, _ in rows:
            trees.save(trees.face(ALIAS[name]), tmp_path / where / file)
    faces, said = quiet(tmp_path, size=24)
    assert faces.splits() == {"train": 7, "validation": 7, "test": 7} and trees.right_colours(faces) and not said
    assert faces.source.count(".csv") == 3
    (tmp_path / "test_labels.csv").write_text(
        "image,label\n" + "".join(f"{file},{name}\n" for file, name, split in ROWS if split != "val")
    )
    if folders == "images":
        with pytest.raises(ValueError, match="a picture has one label and one split"):
            load_folder(tmp_path, size=24)


def test_absolute_paths_and_numbers_with_a_point(tmp_path):
    pictures(tmp_path / "elsewhere")
    pictures(tmp_path / "own", "p")
    order = list(ALIAS)
    inside = [f"{tmp_path / 'own/p' / file},{order.index(name)}.0" for file, name, _ in ROWS]
    outside = [f"{tmp_path / 'elsewhere' / file},{order.index(name)}.0" for file, name, _ in ROWS]
    (tmp_path / "own/faces.csv").write_text("\n".join(["path,label", *inside, *outside]) + "\n")
    faces, said = quiet(tmp_path / "own", size=24, order=order)
    assert len(faces) == 42 and trees.right_colours(faces) and not said
    assert faces.extras["file"][0] == f"p/{ROWS[0][0]}" and faces.extras["file"][-1] == str(
        tmp_path / "elsewhere" / ROWS[-1][0]
    )


def test_pictures_in_no_row_are_named(tmp_path):
    pictures(tmp_path)
    (tmp_path / "faces.csv").write_text("".join(f"{file},{name}\n" for file, name, _ in ROWS[1:]))
    faces, said = quiet(tmp_path, size=8)
    assert len(faces) == 20 and ROWS[0][0] in said[0]
    assert findings(tmp_path)["left_out_loose"].examples == (ROWS[0][0],)


# ------------------------------------------------------------------------------------------------------ single pictures


def test_a_broken_picture_is_skipped_and_counted(tmp_path):
    root = tree(tmp_path)
    whole = (root / "train/SAD/1.jpg").read_bytes()
    (root / "train/SAD/1.jpg").write_bytes(whole[:-20])
    (root / "test/happy/2.jpg").write_bytes(b"")
    for _ in range(2):  # also after a run that left them out
        with pytest.raises(ValueError, match=r"\.jpg \(folder .*\): the (JPEG )?picture is"):
            load_folder(root, size=24)
        for _ in range(2):  # decoded, and from the cache
            faces, said = quiet(root, size=24, missing="drop")
            assert (
                len(faces) == 40
                and trees.right_colours(faces)
                and "2 pictures that cannot be read left out" in faces.source
            )
            assert (
                len(said) == 1
                and "train/SAD/1.jpg (folder train/SAD): the JPEG picture is damaged or cut off" in said[0]
            )
    (root / "train/SAD/1.jpg").write_bytes(whole)
    (root / "test/happy/2.jpg").write_bytes(whole)
    assert len(load_folder(root, size=24)) == 42


def test_nothing_but_broken_pictures(tmp_path):
    for name in ("happy", "sad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="Expected pictures that can be used .*, found none; first "):
        load_folder(tmp_path, missing="drop")


def test_the_folder_is_read_as_an_upload_is(tmp_path):
    """Rotation by EXIF, transparency, 16 bits: what a network is trained on is what it is asked about later."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)).resize((50, 60), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "happy").mkdir()
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "happy/a.jpg", exif=exif, quality=95)
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 50).astype(np.uint8), (60, 1)))
    Image.merge("RGBA", (*image.split(), alpha)).save(tmp_path / "happy/b.png")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(tmp_path / "happy/c.png")
    image.convert("LA").save(tmp_path / "happy/d.png")
    image.quantize(32).save(tmp_path / "happy/e.png")
    trees.save(trees.face("sadness"), tmp_path / "sad/a.png")
    faces = load_folder(tmp_path, size=32)
    for picture, file in list(zip(faces.images, faces.extras["file"], strict=True))[:5]:
        upload = Image.fromarray(read_picture(tmp_path / file)).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.abs(picture.transpose(1, 2, 0).astype(int) - np.asarray(upload)).max() <= 1, file
    upright = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    turned = faces.images[0].transpose(1, 2, 0).astype(int)
    assert np.abs(turned - upright).mean() < 6 < np.abs(np.rot90(turned) - upright).mean()


def test_photographs_are_decoded_at_a_fraction_and_look_the_same(tmp_path):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)).resize(
        (1200, 900), Image.Resampling.BICUBIC
    )
    for name in ("happy", "sad"):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "a.jpg", quality=95)
    faces = load_folder(tmp_path, size=48)
    expected = np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(faces.images[0].transpose(1, 2, 0) - expected).mean() < 3


def test_faces_are_cut_out_of_photographs(tmp_path):
    pytest.importorskip("facenet_pytorch")
    photo = portrait()
    for name, x in (("happy", 0), ("sad", 300)):
        (tmp_path / name).mkdir()
        wide = np.full((360, 960, 3), 90, np.uint8)
        wide[:, x : x + 512] = photo[:360]
        Image.fromarray(wide).save(tmp_path / name / "a.png")
    Image.fromarray(np.full((200, 300, 3), 128, np.uint8)).save(tmp_path / "sad/nobody.png")
    for _ in range(2):
        faces, said = quiet(tmp_path, size=48, crop="face")
        assert len(faces) == 2 and "1 pictures without a face left out" in faces.source
        assert len(said) == 1 and "sad/nobody.png (folder sad): no face was found" in said[0]
    expected = crop_face(photo, find_faces(photo)[0], size=48).astype(int)
    for picture in faces.images:
        assert np.abs(picture.transpose(1, 2, 0) - expected).mean() < 12
    assert len(load_folder(tmp_path, size=48)) == 3  # whole pictures are another cache entry
    with pytest.raises(ValueError, match='crop="face" or crop=None, found'):
        load_folder(tmp_path, crop="faces")
