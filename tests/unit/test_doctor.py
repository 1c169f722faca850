"""The doctor names every planted fault, each alone in its tree, and has nothing to say about a clean one."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ferkit import labels
from ferkit.__main__ import app
from ferkit.data import load
from ferkit.doctor import NotRecognised, examine, scan
from ferkit.doctor.report import SEVERITIES
from tests.support import doctor_trees, trees
from tests.support.doctor_trees import LAYOUTS, SEVEN, pattern


@pytest.fixture(autouse=True)
def own_place(monkeypatch, tmp_path):
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    doctor_trees.official(monkeypatch, 4)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """One clean tree of each layout, to copy."""
    return {name: make(tmp_path_factory.mktemp("clean") / name.replace(" ", "_")) for name, make in LAYOUTS.items()}


@pytest.fixture
def tree(clean, tmp_path):
    return lambda name: shutil.copytree(clean[name], tmp_path / "tree")


def look(path, **options):
    return examine(path, progress=False, **options)


def codes(report, *, least="warning"):
    return {
        finding.code for finding in report.findings if SEVERITIES.index(finding.severity) <= SEVERITIES.index(least)
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_silent_on_a_clean_tree(clean, name):
    report = look(clean[name])
    assert report.findings == (), str(report)
    assert report.clean and report.exit_status == 0 and "Nothing wrong found." in str(report)
    expected = {
        "fer2013": 84,
        "affectnet csv": 64,
        "affectnet npy": 64,
        "expw": 28,
        "folder": 84,
        "folder without splits": 42,
        "csv": 84,
    }
    assert report.images == expected.get(name, 56) and report.set_name == (
        "folder" if name == "csv" else name.split()[0]
    )
    assert sum(sum(split.values()) for split in report.counts.values()) == report.images


# --------------------------------------------------------------------------------------------- one fault in one picture


def _first(root, split="train"):
    """The first two pictures, RAF-DB list layout."""
    return [root / f"Image/aligned/{split}_{i:05d}_aligned.jpg" for i in (1, 2)]


def _bytes(content):
    return lambda root: _first(root)[0].write_bytes(content)


def _image(make):
    """Write a picture made from the first one over it, whatever its name says."""
    def plant(root):
        file = _first(root)[0]
        with Image.open(file) as image:
            file.write_bytes(make(image.convert("RGB")))

    return plant


def _copy(change=None, *, to=0, split="test"):
    """Put the first training picture, changed, in the place of another."""
    def plant(root):
        with Image.open(_first(root)[0]) as image:
            file = _first(root, split)[to]
            file.write_bytes(
                _first(root)[0].read_bytes()
                if change is None
                else doctor_trees.saved(change(image.convert("RGB")), "JPEG", quality=70)
            )

    return plant


def _each(change):
    def plant(root):
        for file in root.rglob("*.jpg"):
            with Image.open(file) as image:
                changed = change(image.convert("RGB"))
            changed.save(file, quality=92)

    return plant


saved = doctor_trees.saved
PICTURES = {
    "missing": (lambda root: _first(root)[0].unlink(), {"missing"}, "found 1 missing"),
    "a folder for a picture": (lambda root: (_first(root)[0].unlink(), _first(root)[0].mkdir()), {"missing"},
                               "found 1 missing"),
    "empty": (_bytes(b""), {"unreadable"}, "found 1 that cannot be read"),
    "text": (_bytes(b"<html>404</html>"), {"unreadable"}, "found 1 that cannot be read"),
    "cut off": (_image(lambda image: saved(image, "JPEG")[:-900]), {"unreadable"}, "found 1 that cannot be read"),
    "cut off png": (_image(lambda image: saved(image, "PNG")[:-900]), {"unreadable"}, "found 1 that cannot be read"),
    "cut off and large": (_image(lambda image: saved(image.resize((900, 900)), "JPEG")[:-9000]), {"unreadable", "size"},
                          "found 1 that cannot be read"),
    "bomb": (_image(lambda image: saved(Image.new("1", (40000, 9000)), "PNG")), {"too_large"}, "found 1 larger"),
    "one colour": (_image(lambda image: saved(Image.new("RGB", (100, 100), (9, 9, 9)), "JPEG")), {"blank"},
                   "found 1 of a single colour"),
    "animated": (
        _image(lambda image: saved(image, "GIF", save_all=True, append_images=[pattern(999)])), {"animated"},
        "found 1 with several frames",
    ),
    "cmyk": (_image(lambda image: saved(image.convert("CMYK"), "JPEG")), {"other_mode"}, "found 1 in CMYK"),
    "another size": (_image(lambda image: saved(image.resize((90, 100)), "JPEG")), {"size"},
                     "found 1 pictures of another size (90x100)"),
    "copy in test": (_copy(), {"copies_across"}, "found 1 of its 28 that are also in train"),
    "copy with another label": (_copy(to=1), {"copies_across", "conflicting_labels"},
                                "found 1 groups of equal images with different labels"),
    "copy in train": (_copy(split="train", to=1), {"copies_inside", "conflicting_labels"},
                      "found 1 extra exact copies"),
    "saved anew": (_copy(lambda image: image), {"near_copies_across"},
                   "found 1 that are nearly equal to images of train"),
    "scaled and back": (_copy(lambda image: image.resize((48, 48)).resize((100, 100))), {"near_copies_across"},
                        "nearly equal"),
    "brighter": (_copy(lambda image: image.point(lambda value: min(255, value + 25))), {"near_copies_across"},
                 "nearly equal"),
    "mirrored": (_copy(lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), {"mirrored_copies_across"},
                 "found 1 that are mirror images of"),
    "all grey": (_each(lambda image: image.convert("L")), {"grey"}, "found 28 of 28 grey"),
    "swapped channels": (_each(lambda image: Image.merge("RGB", image.split()[::-1])), {"bgr"},
                         "red and blue are probably swapped"),
    "not in the list": (lambda root: pattern(999).save(root / "Image/aligned/train_09999_aligned.jpg"), {"not_listed"},
                        "found 1 that are not listed"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PICTURES)
def test_a_fault_of_pictures(tree, fault):
    plant, expected, sentence = PICTURES[fault]
    root = tree("rafdb list")
    plant(root)
    report = look(root)
    assert codes(report) == expected and sentence in str(report), str(report)
    assert not report.clean and report.exit_status == 1 and "Nothing wrong" not in str(report)
    if fault not in ("all grey", "swapped channels"):
        assert any("_aligned.jpg" in example for finding in report.findings for example in finding.examples)


def test_transparent_pictures_are_a_note(tree):
    root = tree("rafdb list")
    _image(lambda image: saved(Image.merge("RGBA", (*image.split(), Image.new("L", image.size, 128))), "PNG"))(root)
    report = look(root)
    assert codes(report) == set() and codes(report, least="note") == {"alpha"} and report.exit_status == 0


def test_pictures_of_sixteen_bits_are_a_note_and_are_read(tree):
    root = tree("rafdb list")
    ramp = np.linspace(0, 65535, 10_000).astype(np.uint16).reshape(100, 100)
    _image(lambda image: saved(Image.fromarray(ramp), "PNG"))(root)
    report = look(root)
    assert codes(report) == set() and codes(report, least="note") == {"deep"}
    faces = load("rafdb", root, size=100, progress=False)
    assert any(np.abs(picture[0] - ramp / 257).max() <= 0.51 for picture in faces.images.astype(float))


# ------------------------------------------------------------------------------------------------ one fault in one list


def _edit(file, old, new):
    return lambda root: trees.edit(root / file, old, new)


def _drop_last(file, n=1):
    def plant(root):
        lines = (root / file).read_text().splitlines()
        (root / file).write_text("\n".join(lines[:-n]) + "\n")

    return plant


RAF_LIST = "EmoLabel/list_patition_label.txt"
LISTS = {
    "label 0": ("rafdb list", _edit(RAF_LIST, "train_00003.jpg 3", "train_00003.jpg 0"),
                {"rows", "class_counts", "not_listed"}, "row 3: expected a label from 1 to 7, found '0'"),
    "no label": ("rafdb list", _edit(RAF_LIST, "train_00003.jpg 3", "train_00003.jpg"),
                 {"rows", "class_counts", "not_listed"}, "row 3: expected a name and a label"),
    "row twice": ("rafdb list", _edit(RAF_LIST, "train_00003.jpg 3", "train_00003.jpg 3\ntrain_00003.jpg 3"), {"rows"},
                  "is in row 3 already"),
    "list cut off": ("rafdb list", _drop_last(RAF_LIST, 2), {"class_counts", "not_listed"},
                     "anger 3 for 4, neutral 3 for 4"),
    "no test": ("rafdb list", _drop_last(RAF_LIST, 28), {"missing_split", "not_listed"},
                "Expected 28 images of test, found none"),
    "too many": ("rafdb folders", lambda root: pattern(99).save(root / "train/1/new.jpg"), {"class_counts"},
                 "images were added"),
    "empty class folder": ("folder", lambda root: (shutil.rmtree(root / "test/fear"), (root / "test/fear").mkdir()),
                           {"empty_folder", "few_images"}, "in test/fear, found none"),
    "strange class": ("folder", lambda root: os.rename(root / "test/fear", root / "test/faer"),
                      {"near_miss", "few_images"}, "found 'faer', which looks like 'fear' misspelt"),
    "mixed classes": (
        "folder",
        lambda root: [os.rename(root / f"{split}/fear", root / f"{split}/3") for split in ("train", "test")],
        {"mixed_classes"}, "found 3 beside",
    ),
    "unknown numbers": (
        "folder",
        lambda root: [
            os.rename(root / f"{split}/{name}", root / f"{split}/{i}")
            for split in ("train", "test")
            for i, name in enumerate(SEVEN)
        ],
        {"order_unknown"}, "found the numbers 0, 1, 2, 3, 4, 5, 6",
    ),
    "csv label": ("csv", lambda root: _edit("faces.csv", "train-fear-0.jpg,fear", "train-fear-0.jpg,1.5")(root),
                  {"rows", "left_out_loose"}, "expected the name of a class or a whole number, found '1.5'"),
    "csv split": (
        "csv",
        lambda root: _edit("faces.csv", "train-fear-0.jpg,fear,train", "train-fear-0.jpg,fear,exam")(root),
        {"rows", "left_out_loose"}, "found 'exam'",
    ),
    "csv picture gone": ("csv", lambda root: (root / "pictures/val-fear-2.jpg").unlink(), {"missing"},
                         "pictures/val-fear-2.jpg (faces.csv, data row"),
    "csv long picture": ("csv", lambda root: pattern(99, (48, 90)).save(root / "pictures/val-fear-2.jpg"),
                         {"not_square"}, "found 1 pictures more than half as long"),
    "csv tiny picture": ("csv", lambda root: pattern(99, (12, 12)).save(root / "pictures/val-fear-2.jpg"), {"tiny"},
                         "found 1 smaller"),
    "affectnet label": ("affectnet csv", lambda root: _first_row(root / "training.csv", 6, "11"),
                        {"rows", "class_counts"},
                        "training.csv, row 2: expected an expression from 0 to 10, found '11'"),
    "affectnet box": ("affectnet csv", lambda root: _first_row(root / "training.csv", 1, "500"), {"bad_box"},
                      "found 1 outside or without area"),
    "affectnet arousal gone": (
        "affectnet npy", lambda root: (root / "train_set/annotations/3_aro.npy").unlink(), {"rows", "class_counts"},
        "Expected 3_aro.npy in train_set/annotations",
    ),
    "affectnet label text": (
        "affectnet npy", lambda root: np.save(root / "train_set/annotations/3_exp.npy", np.array("happy")),
        {"rows", "class_counts"}, "an expression in 3_exp.npy from 0 to 7",
    ),
    "expw box": ("expw", lambda root: trees.edit(root / "label/label.lst", "photo_00000.jpg 0 9 5 35 39 ",
                                                 "photo_00000.jpg 0 9 35 5 39 "), {"rows", "class_counts"},
                                                 "expected a box"),
    "expw photograph gone": ("expw", lambda root: (root / "image/origin/photo_00000.jpg").unlink(), {"missing"},
                             "found 2 missing"),
    "fer2013 pixels": ("fer2013", lambda root: _fer_row(root, 5, lambda row: row.replace(" ", " 300 ", 1)),
                       {"rows", "class_counts"}, "data row 5: expected pixels"),
    "fer2013 label": ("fer2013", lambda root: _fer_row(root, 5, lambda row: "7" + row[1:]), {"rows", "class_counts"},
                      "data row 5: expected an emotion from 0 to 6, found '7'"),
    "fer2013 cut at a row end": ("fer2013", _drop_last("fer2013.csv", 28), {"missing_split"},
                                 "Expected 28 images of private_test, found none"),
    "fer2013 copies": ("fer2013", lambda root: _fer_row(root, 29, lambda row,
        first: first.replace("Training", "PublicTest"), of=1), {"copies_across"}, "data row 29 = data row 1"),
}  # fmt: skip


def _first_row(file, column, value):
    lines = file.read_text().splitlines()
    cells = lines[1].split(",")
    cells[column] = value
    file.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")


def _fer_row(root, number, change, of=None):
    lines = (root / "fer2013.csv").read_text().splitlines()
    lines[number] = change(lines[number]) if of is None else change(lines[number], lines[of])
    (root / "fer2013.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("fault", LISTS)
def test_a_fault_of_lists(tree, fault):
    layout, plant, expected, sentence = LISTS[fault]
    root = tree(layout)
    plant(root)
    report = look(root)
    assert codes(report) == expected and sentence in str(report), str(report)
    assert report.images > 20  # the rest was read all the same


def test_many_wrong_rows_are_one_finding(tree):
    root = tree("rafdb list")
    file = root / RAF_LIST
    file.write_text(file.read_text().replace(".jpg 7", ".jpg 8").replace(".jpg 6", ".jpg 0"))
    (rows,) = look(root).find("rows")
    assert rows.count == 16 and len(rows.examples) == 3 and rows.examples[-1] == "and 13 more"


# ---------------------------------------------------------------------------------------------------------- label order

COUNTS = {"train": (12, 3, 7, 40, 18, 5, 26), "test": (6, 2, 4, 20, 9, 3, 13)}


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """RAF-DB in class folders whose images have RAF-DB's proportions; `names` maps a folder to what is in it."""
    monkeypatch.setattr("ferkit.data.rafdb.OFFICIAL_COUNTS", COUNTS)
    per_class = {split: dict(zip(labels.order("rafdb"), counts, strict=True)) for split, counts in COUNTS.items()}
    return lambda names: doctor_trees.repaint(
        trees.rafdb_folders(tmp_path / "counted", names, per_class=per_class), (100, 100)
    )


def test_the_order_of_numbers_is_inferred(counted):
    root = counted({str(i): name for i, name in enumerate(labels.order("manet"))})
    report = look(root)
    assert codes(report) == {"order_unknown"}
    (inferred,) = report.find("inferred_order")
    assert tuple(inferred.numbers["order"]) == labels.order("manet") and inferred.numbers["key"] in labels.ORDERS
    assert (
        labels.order(inferred.numbers["key"]) == labels.order("manet") and "0 neutral, 1 happiness" in inferred.sentence
    )
    assert look(root, order="manet").findings == ()


def test_a_claimed_order_that_the_counts_contradict(counted):
    root = counted({str(i): name for i, name in enumerate(labels.order("manet"))})
    report = look(root, order="rafdb")
    assert codes(report) == {"label_order"} and report.findings[0].severity == "error"
    (swapped,) = report.find("label_order")
    # folder 0 holds neutral and is called surprise by the wrong order
    assert (
        swapped.numbers["labelled_as"]["surprise"] == "neutral"
        and swapped.numbers["labelled_as"]["fear"] == "happiness"
    )
    assert "what is labelled surprise has the numbers of neutral" in str(report)


def test_folders_that_swap_two_names(counted):
    names = {name: name for name in labels.order("rafdb")} | {"anger": "disgust", "disgust": "anger"}
    (swapped,) = look(counted(names)).find("label_order")
    assert swapped.numbers["labelled_as"] == {"anger": "disgust", "disgust": "anger"}
    assert look(counted(names)).set_name == "rafdb"


def test_right_folders_are_not_called_swapped(counted):
    root = counted({name: name for name in labels.order("rafdb")})
    assert look(root).findings == ()
    for file in sorted((root / "train/happiness").iterdir())[:20]:
        file.unlink()  # half of a class is gone: other counts, no other order
    assert codes(look(root)) == {"class_counts"}


def test_a_set_is_recognised_by_its_numbers_alone(counted):
    root = counted({name: name for name in labels.order("rafdb")})
    for i, file in enumerate(sorted(root.rglob("*.jpg"))):
        file.rename(file.with_name(f"{i}.jpg"))
    report = look(root)
    assert report.set_name == "rafdb" and report.findings == ()
    assert look(root, set_name="folder").set_name == "folder"


def test_merged_and_renamed_test_splits_of_fer2013(monkeypatch, tmp_path):
    n = {"train": {name: 6 for name in SEVEN}, "test": {name: 10 for name in SEVEN}}
    monkeypatch.setattr(
        "ferkit.data.fer2013.OFFICIAL_COUNTS", {"train": (6,) * 7, "public_test": (4,) * 7, "private_test": (6,) * 7}
    )
    report = look(doctor_trees.folder(tmp_path / "merged", n=n), set_name="fer2013")
    assert report.official["test"]["fear"] == 10 and codes(report) == {"colour"}


# ---------------------------------------------------------------------------------------------------------------- votes


def _votes(root, order):
    """FER+ votes that agree with FER2013's labels, for rows in another order perhaps."""
    rows = (root / "fer2013.csv").read_text().splitlines()[1:]
    lines = ["Usage,Image name," + ",".join(labels.FERPLUS_COLUMNS)]
    for row, other in zip(rows, order, strict=True):
        column = labels.order("ferplus").index(labels.from_native("fer2013", int(rows[other][0])))
        lines.append(f"{row.rpartition(',')[2]},x.png," + ",".join("10" if i == column else "0" for i in range(10)))
    (root / "fer2013new.csv").write_text("\n".join(lines) + "\n")


def test_votes_that_belong_are_a_note_and_others_an_error(tree):
    root = tree("fer2013")
    _votes(root, range(84))
    (votes,) = look(root).findings
    assert (
        votes.code == "votes"
        and votes.severity == "note"
        and votes.numbers["agreement"] == 1
        and votes.numbers["with_majority"] == 84
    )
    _votes(root, [(i + 3) % 84 for i in range(84)])
    (votes,) = look(root).findings
    assert votes.severity == "error" and votes.numbers["agreement"] < 0.2
    file = root / "fer2013new.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:50]) + "\n")
    assert "votes for all 84 images, found 49 rows" in look(root).findings[0].sentence


# ------------------------------------------------------------------------------------------------ keeping what was seen


def test_an_interrupted_look_goes_on(clean, monkeypatch):
    monkeypatch.setattr(scan, "BLOCK", 8)
    seen, whole = [], scan._file

    def counted(listing, row, out):
        if len(seen) == 30:
            raise KeyboardInterrupt
        seen.append(row)
        whole(listing, row, out)

    monkeypatch.setattr(scan, "_file", counted)
    with pytest.raises(KeyboardInterrupt):
        look(clean["rafdb list"], workers=1)
    again = []
    monkeypatch.setattr(scan, "_file", lambda listing, row, out: (again.append(row), whole(listing, row, out)))
    assert look(clean["rafdb list"]).findings == ()
    assert sorted(again) == list(range(24, 56))  # three whole blocks were kept
    assert look(clean["rafdb list"]).findings == () and len(again) == 32


def test_only_what_changed_is_looked_at_again(tree, monkeypatch):
    monkeypatch.setattr(scan, "BLOCK", 8)
    root = tree("rafdb list")
    look(root)
    again, whole = [], scan._file
    monkeypatch.setattr(scan, "_file", lambda listing, row, out: (again.append(row), whole(listing, row, out)))
    pattern(999, (60, 60)).save(root / "Image/aligned/train_00012_aligned.jpg")
    assert codes(look(root)) == {"size"} and sorted(again) == list(range(8, 16))


def test_damaged_records_are_made_anew(clean, tmp_path, monkeypatch):
    look(clean["rafdb list"])
    (records,) = (tmp_path / "cache").glob("doctor-*.records")
    good = records.read_bytes()
    for bad in (good[:100], b"", good[:200] + b"x" + good[201:], good + good):
        records.write_bytes(bad)
        assert look(clean["rafdb list"]).findings == ()
        assert records.read_bytes() == good


def test_without_a_cache_a_warning_and_the_same_report(tree, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "file"))
    root = tree("rafdb list")
    _first(root)[0].unlink()
    with pytest.warns(UserWarning, match="cannot be kept in"):
        assert codes(look(root)) == {"missing"}


# --------------------------------------------------------------------------------------------------------- command line


def doctor(*arguments):
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


def test_exit_status_text_and_json(tree, tmp_path):
    root = tree("rafdb list")
    done = doctor(root, "--json", tmp_path / "deep/report.json")
    assert (
        done.exit_code == 0
        and "Nothing wrong found." in done.output
        and "rafdb: list_patition_label.txt, aligned" in done.output
    )
    kept = json.loads((tmp_path / "deep/report.json").read_text())
    assert kept["clean"] is True and kept["images"] == 56 and kept["counts"]["train"]["fear"] == 4
    _first(root)[0].unlink()
    done = doctor(root, "--json", tmp_path / "report.json", "--set", "rafdb", "--workers", 2)
    assert done.exit_code == 1 and "[missing] Expected every picture that is listed, found 1 missing" in done.output
    (finding,) = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert (finding["code"], finding["severity"], finding["count"]) == ("missing", "error", 1)


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (lambda place: place / "gone", (), "found nothing there"),
        (lambda place: place, (), "found none of them"),
        (lambda place: trees._write(place / "a.csv", "x,y\n1,2\n") or place, (), "Expected the columns path, label"),
        (lambda place: (place / "x.bin").write_bytes(bytes(range(256))) and place / "x.bin", (), "Expected"),
        (lambda place: trees.rafdb(place), ("--set", "cifar"), "among fer2013, rafdb"),
        (lambda place: trees.rafdb(place), ("--order", "alphabet"), "Known: fer2013"),
        (lambda place: trees.rafdb(place), ("--set", "affectnet"), "found none of them"),
    ],
)  # fmt: skip
def test_nothing_recognised_is_status_2_and_one_sentence(tmp_path, make, options, sentence):
    (tmp_path / "place").mkdir()
    done = doctor(make(tmp_path / "place"), *options)
    assert (
        done.exit_code == 2
        and done.output.startswith("ferkit: ")
        and sentence in done.output
        and done.output.count("\n") == 1
    ), done.output


def test_a_folder_is_named_not_guessed_in_the_message(tmp_path):
    with pytest.raises(NotRecognised, match="FER2013"):
        look(tmp_path)
