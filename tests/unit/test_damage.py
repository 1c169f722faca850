"""Lists, csv files, trees and pictures damaged in thousands of ways: each is read right, or refused in one sentence.

What is read is compared with a second, naive reading of the same damaged bytes, so that nothing can be taken up wrongly in
silence: every row must be literally there, and none may be passed over.
"""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ferkit import labels
from ferkit.data import affectnet_lists, expw, fer2013, folder, lists, rafdb
from ferkit.data.crops import cut_face, open_picture
from ferkit.data.pictures import Listing
from ferkit.doctor import NotRecognised, examine, scan
from ferkit.doctor.survey import survey
from tests.support import doctor_trees, trees

FEW = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=500)
JUNK = [b"\0", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n\n", b" ", b"\t", b",", b";", b'"', b"-1", b"7", b"0", b"1e9", b"nan", b"../", b"/", b"\xc3\xa9", b"\xff", b"\xe2\x80\xa8", b"x" * 400, b"1" * 70]

damages = st.lists(
    st.one_of(
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
        st.tuples(st.just("delete"), st.floats(0, 1), st.binary(min_size=1, max_size=30)),
        st.tuples(st.just("repeat"), st.floats(0, 1), st.binary(min_size=1, max_size=60)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.sampled_from(JUNK)),
        st.tuples(st.just("replace"), st.floats(0, 1), st.sampled_from(JUNK)),
        st.tuples(st.just("encode"), st.sampled_from(["utf-16", "utf-16-le", "utf-8-sig", "crlf", "cr"]), st.just(b"")),
    ),
    min_size=1,
    max_size=3,
)


def damaged(data, steps):
    for kind, where, what in steps:
        if kind == "encode":
            text = data.decode("utf-8", "replace")
            data = text.encode(where) if where.startswith("utf") else text.replace("\n", "\r\n" if where == "crlf" else "\r").encode()
            continue
        place = int(where * len(data))
        if kind == "cut":
            data = data[:place]
        elif kind == "delete":
            data = data[:place] + data[place + len(what) :]
        elif kind == "repeat":
            data = data[: place + len(what)] + data[place:]
        elif kind == "insert":
            data = data[:place] + what + data[place:]
        else:
            data = data[:place] + what + data[place + len(what) :]
    return data


def sentence(error):
    text = str(error)
    assert "\n" not in text and 15 < len(text) < 900 and text[0] != "<", text
    return text


def naive_lines(data):
    """Lines as anybody would count them: universal line ends, byte order mark off, blank ones passed over."""
    text = data.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


def both(read, path, data):
    """What a reader returns, or None where it refuses; collecting faults must not fail where reading whole does."""
    path.write_bytes(data)
    collected = [] if read is not fer2013.read_csv else {}
    try:
        found = read(path)
    except ValueError as error:
        sentence(error)
        found = None
    try:
        part = read(path, collected)
    except ValueError as error:
        sentence(error)
        assert found is None
        return None, None, collected
    assert (found is None) == bool(collected)
    for text in collected if isinstance(collected, list) else collected.values():
        sentence(text)
    return found, part, collected


RAFDB = "".join(f"{split}_{i:05d}.jpg {i % 7 + 1}\n" for split in ("train", "test") for i in range(1, 15)).encode()


@MANY
@given(steps=damages)
def test_rafdb_list(place, steps):
    data = damaged(RAFDB, steps)
    found, part, faults = both(lambda path, faults=None: rafdb.read_list(path, "aligned", faults), place / "list.txt", data)
    if found is not None:
        wanted = [line.split() for _, line in naive_lines(data)]
        assert [[f"{name}{Path(file).suffix}", str(code + 1)] for name, code, file in zip(found.names, found.labels, found.files, strict=True)] == wanted
    elif part is not None and len(part.files):
        assert len(part.files) + len(faults) >= len(naive_lines(data)) - 1


EXPW = "".join(f"photo {i // 2}.jpg {i % 2} {i} {2 * i} {i + 40} {i + 30} {20 + i}.5 {i % 7}\n" for i in range(24)).encode()


@MANY
@given(steps=damages)
def test_expw_list(place, steps):
    data = damaged(EXPW, steps)
    found, _, _ = both(expw.read_list, place / "label.lst", data)
    if found is not None:
        for (number, line), file, face, code, box in zip(naive_lines(data), found.files, found.face_ids, found.labels, found.boxes, strict=True):
            cells = line.rsplit(maxsplit=7)
            assert (cells[0].strip().replace("\\", "/"), int(cells[1]), int(cells[7])) == (file, face, code), number
            assert [float(cells[i]) for i in (3, 2, 4, 5)] == box.tolist()


CSV = ("path,label,split\n" + "".join(f"p/{name}{i}.jpg,{name},{split}\n" for name in doctor_trees.SEVEN for i, split in enumerate(("train", "val")))).encode()


@MANY
@given(steps=damages)
def test_csv_of_ones_own(place, steps):
    data = damaged(CSV, steps)
    found, _, _ = both(folder.read_table, place / "faces.csv", data)
    if found is not None and b'"' not in data:
        lines = [line for _, line in naive_lines(data)]
        at = folder.table_columns(lines[0].split(","), "")
        rows = [line.split(",") for line in lines[1:]]
        assert [row[at["path"]].strip().replace("\\", "/") for row in rows] == [file.encode("utf-8", "replace").decode() if "\ufffd" not in file else row[at["path"]].strip() for file, row in zip(found.files, rows, strict=True)]
        assert [row[at["label"]].strip() for row in rows] == found.labels


AFFECTNET = (trees.HEADER + "\n" + "".join(f"{i}/{i}.jpg,{i},10,40,40,,{i % 9},{i / 100 - 0.1:.2f},0.5\n" for i in range(20))).encode()


@MANY
@given(steps=damages)
def test_affectnet_csv(place, steps):
    data = damaged(AFFECTNET, steps)
    found, _, _ = both(lambda path, faults=None: affectnet_lists._read_csv(path, False, faults), place / "training.csv", data)
    if found is not None and b'"' not in data:
        rows = [line.split(",") for _, line in naive_lines(data)]
        rows = rows[1:] if "expression" in rows[0] or rows[0][0].strip() == "subDirectory_filePath" else rows
        head = naive_lines(data)[0][1].split(",")
        column = head.index("expression") if "expression" in head else 6
        wanted = [int(row[column]) for row in rows if int(row[column]) < 8]
        assert found["numbers"][:, 4].tolist() == wanted


def _fer(n):
    rng = np.random.default_rng(1)
    usage = ("Training", "PublicTest", "PrivateTest")
    return ("emotion,pixels,Usage\n" + "".join(f"{i % 7},{' '.join(map(str, rng.integers(0, 256, 2304)))},{usage[i % 3]}\n" for i in range(n))).encode()


FER = _fer(3)


@settings(MANY, max_examples=250)
@given(steps=damages)
def test_fer2013_csv(place, steps):
    data = damaged(FER, steps)
    found, _, _ = both(fer2013.read_csv, place / "fer2013.csv", data)
    if found is not None and b'"' not in data:
        lines = [line.split(",") for _, line in naive_lines(data)]
        names = [name.strip().lower() for name in lines[0]]
        assert len(found.labels) == len(lines) - 1
        for row, image, code in zip(lines[1:], found.images, found.labels, strict=True):
            assert int(row[names.index("emotion")]) == code
            assert [int(word) for word in row[names.index("pixels")].split()] == image.ravel().tolist()


@settings(MANY, max_examples=150)
@given(steps=damages, kind=st.sampled_from(["gz", "zip"]))
def test_packed_csv(place, steps, kind):
    import gzip

    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr("fer2013.csv", FER)
    data = stream.getvalue() if kind == "zip" else gzip.compress(FER, mtime=0)
    data = damaged(data, [step for step in steps if step[0] != "encode"])
    found, _, _ = both(fer2013.read_csv, place / f"fer2013.csv.{kind}", data)
    if found is not None:  # a checksum guards the content
        assert found.labels.tolist() == [0, 1, 2]


# ---------------------------------------------------------------------------------------------------------------- pictures

PICTURE = doctor_trees.pattern(1, (40, 36))
KINDS = {
    "jpeg": (PICTURE, "JPEG"), "png": (PICTURE, "PNG"), "grey": (PICTURE.convert("L"), "PNG"), "palette": (PICTURE.convert("P"), "GIF"),
    "alpha": (Image.merge("RGBA", (*PICTURE.split(), PICTURE.split()[0])), "PNG"), "16-bit": (Image.new("I;16", (40, 36), 700), "PNG"),
    "cmyk": (PICTURE.convert("CMYK"), "JPEG"), "bmp": (PICTURE, "BMP"), "tiff": (PICTURE, "TIFF"), "webp": (PICTURE, "WEBP"), "1-bit": (PICTURE.convert("1"), "PNG"),
}  # fmt: skip
FILES = {name: doctor_trees.saved(image, kind) for name, (image, kind) in KINDS.items()}
raw = damages.map(lambda steps: [step for step in steps if step[0] != "encode"])


@settings(MANY, max_examples=1000)
@given(name=st.sampled_from(list(FILES)), steps=raw)
def test_pictures(place, name, steps):
    data = damaged(FILES[name], steps)
    try:
        image = open_picture(data)
    except ValueError as error:
        sentence(error)
    else:
        assert image.mode == "RGB" and image.width * image.height <= 100_000_000
        if image.width * image.height < 10**6:
            assert cut_face(image, 16).shape == (3, 16, 16)
    (place / "x").write_bytes(data)
    record = np.zeros(1, scan.RECORD)
    scan._file(Listing(root=place, files=["x"], place=str), 0, record)
    readable = not record["flags"][0] & (scan.FLAGS["unreadable"] | scan.FLAGS["deep"] | scan.FLAGS["too_large"])
    try:
        open_picture(data)
        assert readable
    except ValueError:
        assert not readable


def test_whole_pictures_are_read_or_refused_by_kind():
    for name, data in FILES.items():
        if name == "16-bit":
            with pytest.raises(ValueError, match="8 bits per channel"):
                open_picture(data)
        elif name not in ("1-bit", "palette", "cmyk", "grey"):
            assert np.abs(np.asarray(open_picture(data), int) - np.asarray(PICTURE, int)).mean() < 12, name


# ------------------------------------------------------------------------------------------------------------------- trees

names = st.one_of(
    st.sampled_from(["happy", "HAPPY", "0", "7", "train", "test", ".hidden", "-", "con", "a" * 200, "ünïcödé", "日本", "\u202e", "a b", "%00", "list_patition_label.txt", "label.lst", "training.csv", "faces.csv", "fer2013.csv", "fer2013.zip"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text not in (".", "..")),
)  # fmt: skip
changes = st.lists(st.tuples(st.sampled_from(["rename", "delete", "empty", "folder", "loop", "file", "deep"]), st.integers(0, 10**6), names), min_size=1, max_size=3)


def change(root, steps):
    for kind, number, name in steps:
        places = sorted(root.rglob("*"))
        if not places:
            return
        target = places[number % len(places)]
        new = target.with_name(name)
        if len(name.encode()) > 240 or (new.exists() and kind != "delete"):
            continue
        if kind == "rename":
            target.rename(new)
        elif kind == "delete":
            target.unlink() if target.is_file() or target.is_symlink() else shutil.rmtree(target)
        elif kind == "empty" and target.is_file():
            target.write_bytes(b"")
        elif kind == "folder":
            new.mkdir()
        elif kind == "loop":
            new.symlink_to(root, target_is_directory=True)
        elif kind == "file":
            new.write_bytes(FILES["jpeg"] if number % 2 else b"a,b\n1,2\n")
        elif kind == "deep":
            inner = target.parent
            for _ in range(12):
                inner = inner / "d" / "e"
            inner.mkdir(parents=True, exist_ok=True)


@FEW
@given(layout=st.sampled_from(["rafdb list", "rafdb folders", "affectnet csv", "affectnet npy", "expw", "folder", "csv", "fer2013"]), steps=changes)
def test_trees(clean, tmp_path_factory, layout, steps):
    root = tmp_path_factory.mktemp("t") / "tree"
    shutil.copytree(clean[layout], root)
    change(root, steps)
    try:
        report = examine(root, progress=False, workers=1)
        assert "\x1b" not in str(report) and report.to_json()
    except NotRecognised as error:
        sentence(error)
    try:
        survey(root)
    except NotRecognised:
        pass
    if layout == "folder":
        try:
            faces = folder.load_folder(root, size=8, progress=False)
        except (ValueError, FileNotFoundError) as error:
            sentence(error)
        else:
            for file, code in zip(faces.extras["file"], faces.labels, strict=True):
                assert any(part and labels.canonical(part) == faces.names[code] for part in Path(file).parts[:-1] if _emotion(part)), file


def _emotion(word):
    try:
        labels.canonical(word)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp("clean") / "tree") for name, make in doctor_trees.LAYOUTS.items()}


def test_the_damage_does_damage():
    """A test of the tests: the steps change the bytes, and the naive reading sees it."""
    seen = set()

    @settings(FEW, max_examples=100)
    @given(steps=damages)
    def collect(steps):
        seen.add(damaged(RAFDB, steps))

    collect()
    assert len(seen) > 60 and RAFDB not in list(seen)[:1] and len(naive_lines(RAFDB)) == 28
    assert lists.picture_name("a/b.jpg") == "a/b.jpg"
