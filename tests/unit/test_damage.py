"""Lists, csv files, trees and pictures damaged in hundreds of ways: each is read right, or refused in one sentence.

FERKIT_CASES=30 makes thirty times as many cases, other ones each time: thousands, in some minutes.

What is read is compared with a second, naive reading of the same damaged bytes, so that nothing can be taken up wrongly
in silence: every row must be literally there, and none may be passed over.
"""

import csv
import gzip
import io
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ferkit import labels
from ferkit.data import affectnet_lists, expw, fer2013, ferplus, folder, rafdb
from ferkit.data.io import lists
from ferkit.data.io.pictures import Listing
from ferkit.doctor import NotRecognised, examine, scan
from ferkit.doctor.survey import survey
from ferkit.faces import crop_face, read_picture
from tests.support import doctor_trees, trees

TIMES = int(os.environ.get("FERKIT_CASES", "1"))
FEW = settings(
    max_examples=15 * TIMES,
    deadline=None,
    derandomize=TIMES == 1,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=60 * TIMES)
JUNK = [
    b"\0",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\r",
    b"\n\n",
    b" ",
    b"\t",
    b",",
    b";",
    b'"',
    b"-1",
    b"7",
    b"0",
    b"1e9",
    b"nan",
    b"../",
    b"/",
    b"\xc3\xa9",
    b"\xff",
    b"\xe2\x80\xa8",
    b"x" * 400,
    b"1" * 70,
]

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
            data = (
                text.encode(where)
                if where.startswith("utf")
                else text.replace("\n", "\r\n" if where == "crlf" else "\r").encode()
            )
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
    found, part, faults = both(
        lambda path, faults=None: rafdb.read_list(path, "aligned", faults), place / "list.txt", data
    )
    if found is not None:
        wanted = [line.split() for _, line in naive_lines(data)]
        assert [
            [f"{name}{Path(file).suffix}", str(code + 1)]
            for name, code, file in zip(found.names, found.labels, found.files, strict=True)
        ] == wanted
    elif part is not None and len(part.files):
        assert len(part.files) + len(faults) >= len(naive_lines(data)) - 1


EXPW = "".join(
    f"photo {i // 2}.jpg {i % 2} {i} {2 * i} {i + 40} {i + 30} {20 + i}.5 {i % 7}\n" for i in range(24)
).encode()


@MANY
@given(steps=damages)
def test_expw_list(place, steps):
    data = damaged(EXPW, steps)
    found, _, _ = both(expw.read_list, place / "label.lst", data)
    if found is not None:
        for (number, line), file, face, code, box in zip(
            naive_lines(data), found.files, found.face_ids, found.labels, found.boxes, strict=True
        ):
            cells = line.rsplit(maxsplit=7)
            assert (cells[0].strip().replace("\\", "/"), int(cells[1]), int(cells[7])) == (file, face, code), number
            assert [float(cells[i]) for i in (3, 2, 4, 5)] == box.tolist()


CSV = (
    "path,label,split\n"
    + "".join(
        f"p/{name}{i}.jpg,{name},{split}\n" for name in doctor_trees.SEVEN for i, split in enumerate(("train", "val"))
    )
).encode()


@MANY
@given(steps=damages)
def test_csv_of_ones_own(place, steps):
    data = damaged(CSV, steps)
    found, _, _ = both(folder.read_table, place / "faces.csv", data)
    if found is not None and b'"' not in data:
        lines = [line for _, line in naive_lines(data)]
        at = folder.table_columns(lines[0].split(","), "")
        rows = [line.split(",") for line in lines[1:]]
        assert [row[at["path"]].strip().replace("\\", "/") for row in rows] == [
            file.encode("utf-8", "replace").decode() if "\ufffd" not in file else row[at["path"]].strip()
            for file, row in zip(found.files, rows, strict=True)
        ]
        assert [row[at["label"]].strip() for row in rows] == found.labels


AFFECTNET = (
    trees.HEADER + "\n" + "".join(f"{i}/{i}.jpg,{i},10,40,40,,{i % 9},{i / 100 - 0.1:.2f},0.5\n" for i in range(20))
).encode()


@MANY
@given(steps=damages)
def test_affectnet_csv(place, steps):
    data = damaged(AFFECTNET, steps)
    found, _, _ = both(
        lambda path, faults=None: affectnet_lists._read_csv(path, False, faults), place / "training.csv", data
    )
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
    return (
        "emotion,pixels,Usage\n"
        + "".join(f"{i % 7},{' '.join(map(str, rng.integers(0, 256, 2304)))},{usage[i % 3]}\n" for i in range(n))
    ).encode()


FER, FER7 = _fer(3), _fer(7)


@settings(MANY, max_examples=40 * TIMES)
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


@settings(MANY, max_examples=60 * TIMES)
@given(steps=damages, kind=st.sampled_from(["gz", "zip", "tar.gz"]))
def test_packed_csv(place, steps, kind):
    data = damaged(packed(kind, "fer2013.csv", FER), [step for step in steps if step[0] != "encode"])
    found, _, _ = both(fer2013.read_csv, place / f"fer2013.csv.{kind}", data)
    if found is not None:  # a checksum guards the content
        assert found.labels.tolist() == [0, 1, 2]
        assert found.images.tobytes() == fer2013.read_csv(_written(place / "whole.csv", FER)).images.tobytes()


def _written(path, data):
    path.write_bytes(data)
    return path


def packed(kind, name, data):
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr(name, data)
    elif kind.startswith("tar"):
        with tarfile.open(fileobj=stream, mode="w:gz" if kind == "tar.gz" else "w") as pack:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            pack.addfile(info, io.BytesIO(data))
    return stream.getvalue() or gzip.compress(data, mtime=0)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
@pytest.mark.parametrize(
    "name", ["../fer2013.csv", "/etc/fer2013.csv", "a/../../fer2013.csv", "..\\fer2013.csv", "C:\\fer2013.csv"]
)
def test_archives_that_lead_out(tmp_path, kind, name):
    (tmp_path / "in").mkdir()
    file = _written(tmp_path / f"in/fer2013.{kind}", packed(kind, name, FER))
    with pytest.raises(ValueError, match="leaves the archive's folder"):
        fer2013.read_csv(file)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [file.name]


def test_zips_with_names_that_are_none(tmp_path):
    """Found by thousands of cases: an empty name, one that takes kilobytes, one with a line end."""
    whole = packed("zip", "fer2013.csv", FER)
    at = whole.rindex(b"PK\x01\x02")
    for data in (
        whole[: at + 28] + b"\0\0" + whole[at + 30 : at + 46] + whole[at + 57 :],
        whole[:26] + b"\xff\x7f" + whole[28:],
        packed("zip", "fer2013\n.txt", FER),
        packed("zip", "x" * 5000, FER),
    ):
        with pytest.raises(ValueError) as error:
            fer2013.read_csv(_written(tmp_path / "fer2013.zip", data))
        sentence(error.value)


def test_archives_that_hold_a_link(tmp_path):
    with tarfile.open(tmp_path / "fer2013.tar.gz", "w:gz") as pack:
        info = tarfile.TarInfo("fer2013.csv")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        pack.addfile(info)
    with pytest.raises(ValueError, match="Expected a .csv inside"):
        fer2013.read_csv(tmp_path / "fer2013.tar.gz")


@pytest.mark.parametrize("kind", ["gz", "zip", "tar.gz"])
@pytest.mark.parametrize("filling", [b"\0", b"\n", b"0,1,Training\n"])
def test_archives_that_blow_up(tmp_path, monkeypatch, kind, filling):
    """A hundred megabytes in a hundred kilobytes; the limit is lowered to ten, so that the test is quick."""
    monkeypatch.setattr("ferkit.data.io.archives.MAX_BYTES", 10_000_000)
    data = b"emotion,pixels,Usage\n" + filling * (30_000_000 // len(filling))
    file = _written(tmp_path / f"fer2013.csv.{kind}", packed(kind, "fer2013.csv", data))
    assert file.stat().st_size < 1_000_000
    with pytest.raises(ValueError) as error:
        fer2013.read_csv(file)
    sentence(error.value)


@pytest.mark.parametrize("kind", ["gz", "zip", "tar.gz"])
def test_a_wrong_checksum_of_the_packing_is_seen(tmp_path, kind):
    """The packing's checksum guards values that would pass as pixels."""
    data = bytearray(packed(kind, "fer2013.csv", FER))
    place = 14 if kind == "zip" else len(data) - 8
    data[place] ^= 1
    if kind == "zip":  # which writes it twice; the second one counts
        data[data.rindex(b"PK\x01\x02") + 16] ^= 1
    with pytest.raises(ValueError, match="damaged or cut off"):
        fer2013.read_csv(_written(tmp_path / f"fer2013.csv.{kind}", data))


VOTES = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    + "".join(f"Training,fer{i:07d}.png,{i % 5},{5 - i % 5},0,1,2,0,1,1,0,0\n" for i in range(15))
).encode()


@MANY
@given(steps=damages)
def test_votes(place, steps):
    data = damaged(VOTES, steps)
    path = _written(place / "fer2013new.csv", data)
    try:
        found = ferplus.read_votes(path)
    except ValueError as error:
        sentence(error)
        return
    if b'"' not in data:
        lines = [line.split(",") for _, line in naive_lines(data)]
        names = [name.strip().lower() for name in lines[0]]
        wanted = [[int(row[names.index(name.lower())]) for name in labels.FERPLUS_COLUMNS] for row in lines[1:]]
        assert found.counts.tolist() == wanted


@MANY
@given(steps=damages)
def test_split_file_of_expw(place, steps):
    rows = expw.read_list(_written(place / "l.lst", EXPW))
    expw._write_split(place / "split.csv", rows, expw._by_photo(rows, 0))
    data = damaged((place / "split.csv").read_bytes(), steps)
    path = _written(place / "damaged.csv", data)
    try:
        sides, _ = expw._read_split(path, rows)
    except ValueError as error:
        sentence(error)
        return
    told = {
        (row[0], int(row[1])): row[2]
        for row in csv.reader(io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline=""))
        if row and row[1] != "face_id"
    }
    assert [told[face] for face in zip(rows.files, rows.face_ids, strict=True)] == sides.tolist()


def test_a_quote_that_swallows_a_split_file(tmp_path):
    """Found by thousands of cases: the whole file stood in the sentence."""
    rows = expw.read_list(_written(tmp_path / "l.lst", EXPW))
    expw._write_split(tmp_path / "split.csv", rows, expw._by_photo(rows, 0))
    for data in (
        b'"' + (tmp_path / "split.csv").read_bytes(),
        (tmp_path / "split.csv").read_bytes().replace(b"photo 3", b'"photo 3', 1),
    ):
        with pytest.raises(ValueError) as error:
            expw._read_split(_written(tmp_path / "damaged.csv", data), rows)
        sentence(error.value)


# ------------------------------------------------------------------------------------ labels in another way of counting


def shifted(data, separator, column, change, header=0):
    lines = data.decode().splitlines()
    for i in range(header, len(lines)):
        cells = lines[i].split(separator)
        cells[column] = change(cells[column])
        lines[i] = separator.join(cells)
    return "\n".join(lines).encode() + b"\n"


LABELLED = {
    "rafdb": (lambda path, faults=None: rafdb.read_list(path, "aligned", faults), RAFDB, " ", 1, 0),
    "expw": (expw.read_list, EXPW, " ", 8, 0),
    "fer2013": (fer2013.read_csv, FER, ",", 0, 1),
}
WORDS = {
    "one more": lambda text: str(int(text) + 1),
    "one less": lambda text: str(int(text) - 1),
    "a word": lambda text: "happy",
    "a fraction": lambda text: f"{text}.0",
    "nothing": lambda text: "",
}


@pytest.mark.parametrize("how", list(WORDS))
@pytest.mark.parametrize("name", list(LABELLED))
def test_labels_counted_or_written_otherwise(tmp_path, name, how):
    """Every class occurs, so a shift by one reaches a number that is none."""
    read, data, separator, column, header = LABELLED[name]
    data = FER7 if name == "fer2013" else data
    file = _written(tmp_path / "list.csv", shifted(data, separator, column, WORDS[how], header))
    assert read(_written(tmp_path / "right.csv", data)) is not None
    with pytest.raises(ValueError) as error:
        read(file)
    sentence(error.value)


def test_numbers_in_a_csv_need_an_order_and_must_fit_it(tmp_path):
    for first in range(9):
        (tmp_path / "faces.csv").write_text("path,label\n" + "".join(f"{i}.jpg,{first + i}\n" for i in range(7)))
        rows = folder.read_table(tmp_path / "faces.csv")
        with pytest.raises(ValueError, match="a wrong guess gives no error"):
            folder.named(rows, None)
        if first < 2:
            _, emotions = folder.named(rows, "fer2013")
            assert [emotions[str(first + i)] for i in range(7)] == list(labels.order("fer2013"))
        else:
            with pytest.raises(ValueError) as error:
                folder.named(rows, "fer2013")
            sentence(error.value)


# ------------------------------------------------------------------------------------------------------------- pictures

PICTURE = doctor_trees.pattern(1, (40, 36))
KINDS = {
    "jpeg": (PICTURE, "JPEG"), "png": (PICTURE, "PNG"), "grey": (PICTURE.convert("L"), "PNG"),
    "palette": (PICTURE.convert("P"), "GIF"),
    "alpha": (Image.merge("RGBA", (*PICTURE.split(), PICTURE.split()[0])), "PNG"),
    "16-bit": (Image.new("I;16", (40, 36), 700), "PNG"),
    "cmyk": (PICTURE.convert("CMYK"), "JPEG"), "bmp": (PICTURE, "BMP"), "tiff": (PICTURE, "TIFF"),
    "webp": (PICTURE, "WEBP"), "16-bit tiff": (Image.new("I;16", (40, 36), 700), "TIFF"),
    "float": (Image.new("F", (40, 36), 0.5), "TIFF"), "1-bit": (PICTURE.convert("1"), "PNG"),
}  # fmt: skip
FILES = {name: doctor_trees.saved(image, kind) for name, (image, kind) in KINDS.items()}
FILES |= {
    f"animated {kind.lower()}": doctor_trees.saved(PICTURE, kind, save_all=True,
        append_images=[doctor_trees.pattern(2, (40, 36)), doctor_trees.pattern(3, (40, 36))]) for kind in ("GIF", "PNG",
        "WEBP")
}  # fmt: skip
raw = damages.map(lambda steps: [step for step in steps if step[0] != "encode"])


@settings(MANY, max_examples=200 * TIMES)
@given(name=st.sampled_from(list(FILES)), steps=raw)
def test_pictures(place, name, steps):
    data = damaged(FILES[name], steps)
    try:
        picture = read_picture(data)
    except ValueError as error:
        sentence(error)
    else:
        assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.size <= 3 * 50_000_000
        assert crop_face(picture, None, size=16).shape == (16, 16, 3)
    (place / "x").write_bytes(data)
    record = np.zeros(1, scan.RECORD)
    scan._file(Listing(root=place, files=["x"], place=str), 0, record)
    readable = not record["flags"][0] & (scan.FLAGS["unreadable"] | scan.FLAGS["too_large"])
    try:
        read_picture(data)
        assert readable or name.startswith("animated")  # the doctor also looks at the frames behind the first
    except ValueError:
        assert not readable


def test_whole_pictures_are_read_or_refused_by_kind():
    for name, data in FILES.items():
        if name in ("16-bit", "16-bit tiff", "float"):
            assert read_picture(data)[0, 0].tolist() == [128 if name == "float" else 3] * 3
        elif name not in ("1-bit", "palette", "alpha", "cmyk", "grey", "animated gif"):
            assert np.abs(np.asarray(read_picture(data), int) - np.asarray(PICTURE, int)).mean() < 12, name


@pytest.mark.parametrize("side", [(40_000, 9_000), (65_500, 65_500)])
def test_pictures_that_would_fill_the_memory(place, side):
    """Headers alone say so: nothing of it is decoded."""
    head = io.BytesIO()
    Image.new("1", (8, 8)).save(head, "PNG")
    data = bytearray(head.getvalue())
    data[16:24] = side[0].to_bytes(4, "big") + side[1].to_bytes(4, "big")
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    with pytest.raises(ValueError) as error:
        read_picture(bytes(data))
    assert "pixels" in sentence(error.value)
    record = np.zeros(1, scan.RECORD)
    scan._file(Listing(root=place, files=[_written(place / "bomb", data).name], place=str), 0, record)
    assert record["flags"][0] & scan.FLAGS["too_large"]


def test_names_longer_than_a_file_system_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "set"
    root.mkdir()
    for name in ("x" * 300 + ".jpg", "/".join(["d" * 200] * 30) + "/x.jpg", "\u65e5" * 200 + ".png"):
        (root / "faces.csv").write_text(f"path,label\n{name},happy\n", encoding="utf-8")
        report = examine(root, progress=False)
        assert report.find("missing")[0].count == 1 and report.to_json()
        with pytest.raises((FileNotFoundError, ValueError)):
            folder.load_folder(root, size=8, progress=False)


# ---------------------------------------------------------------------------------------------------------------- trees

names = st.one_of(
    st.sampled_from(["happy", "HAPPY", "0", "7", "train", "test", ".hidden", "-", "con", "a" * 200, "ünïcödé", "日本",
                     "\u202e", "a b", "%00", "list_patition_label.txt", "label.lst", "training.csv", "faces.csv",
                     "fer2013.csv", "fer2013.zip"]),
    st.text(st.characters(exclude_characters="/\0",
                          exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text not in (".",
                          "..")),
)  # fmt: skip
changes = st.lists(
    st.tuples(
        st.sampled_from(["rename", "delete", "empty", "folder", "loop", "file", "deep"]), st.integers(0, 10**6), names
    ),
    min_size=1,
    max_size=3,
)


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
@given(
    layout=st.sampled_from(
        ["rafdb list", "rafdb folders", "affectnet csv", "affectnet npy", "expw", "folder", "csv", "fer2013"]
    ),
    steps=changes,
)
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
                assert any(
                    part and labels.canonical(part) == faces.names[code]
                    for part in Path(file).parts[:-1]
                    if _emotion(part)
                ), file


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
