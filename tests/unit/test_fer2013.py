from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import sys
import tarfile
import threading
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ferkit import labels
from ferkit.data import fer2013, load_fer2013
from ferkit.data.fer2013 import parse_pixels
from ferkit.data.io import archives, cache

N = 30
USAGE = ["Training"] * 20 + ["PublicTest"] * 6 + ["PrivateTest"] * 4
SPLITS = ["train"] * 20 + ["public_test"] * 6 + ["private_test"] * 4
IMAGES = np.random.default_rng(7).integers(0, 256, (N, 48, 48), dtype=np.uint8)
IMAGES[0] = np.arange(256, dtype=np.uint8).repeat(9).reshape(48, 48)  # every value, of one to three digits
CODES = np.random.default_rng(8).integers(0, 7, N)
CODES[:7] = np.arange(7)
FOLDERS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def cells() -> list[dict[str, str]]:
    return [
        {"emotion": str(code), "pixels": " ".join(map(str, image.ravel())), "Usage": usage}
        for code, image, usage in zip(CODES, IMAGES, USAGE, strict=True)
    ]


def text(rows: list[dict[str, str]], columns: tuple[str, ...] = ("emotion", "pixels", "Usage"), end: str = "\n") -> str:
    lines = [",".join(columns), *(",".join(row[column.strip()] for column in columns) for row in rows)]
    return end.join(lines) + end


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FERKIT_FER2013", raising=False)
    return tmp_path / "cache"


def check(faces, splits=SPLITS, images=IMAGES, codes=CODES) -> None:
    assert np.array_equal(faces.images, images)
    assert faces.labels.dtype == np.int64 and faces.labels.tolist() == list(codes)
    assert faces.split.tolist() == list(splits)
    assert faces.names == labels.order("fer2013") and faces.name == "fer2013"
    assert len(faces.sha256) == 64


# ---- layouts ----


@pytest.mark.parametrize("columns", [("emotion", "pixels", "Usage"), ("emotion", " Usage", " pixels")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_csv_of_either_contest_file(tmp_path: Path, columns: tuple[str, ...], end: str, bom: bytes) -> None:
    check(load_fer2013(write(tmp_path / "faces.csv", bom + text(cells(), columns, end).encode())))


def test_csv_with_quotes_blank_lines_and_a_column_more(tmp_path: Path) -> None:
    rows = [row | {"pixels": f'"{row["pixels"]}"', "note": '"a, b"'} for row in cells()]
    content = text(rows, ("note", "Usage", "emotion", "pixels")).replace("\n", "\n\n")
    check(load_fer2013(write(tmp_path / "faces.csv", content)))


def test_packed_csv(tmp_path: Path) -> None:
    content = text(cells()).encode()
    check(load_fer2013(write(tmp_path / "fer2013.csv.gz", gzip.compress(content))))
    with zipfile.ZipFile(tmp_path / "contest.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("train.csv", "emotion,pixels\n")
        pack.writestr("a/icml_face_data.csv", content)
        pack.writestr("README", "read me")
    check(load_fer2013(tmp_path / "contest.zip"))
    with tarfile.open(tmp_path / "fer2013.tar.gz", "w:gz") as archive:
        for name, data in (("fer2013/README", b"read me"), ("fer2013/fer2013.csv", content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    check(load_fer2013(tmp_path / "fer2013.tar.gz"))


def test_finds_the_csv_in_a_folder_in_the_environment_and_in_data_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "data" / "raw" / "fer2013" / "fer2013.csv", text(cells()))
    check(load_fer2013(path.parent))
    check(load_fer2013(path.parent.parent))
    monkeypatch.chdir(tmp_path)
    check(load_fer2013())
    monkeypatch.setenv("FERKIT_FER2013", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        load_fer2013()
    monkeypatch.setenv("FERKIT_FER2013", str(path))
    monkeypatch.chdir(tmp_path.parent)
    check(load_fer2013())


def class_folders(root: Path, words: tuple[str, ...] = FOLDERS, test: str = "test") -> None:
    for row in range(N):
        split = "train" if SPLITS[row] == "train" else test
        path = root / split / words[CODES[row]] / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[row]).save(path)
    for split in ("train", test):  # every class has an image in every split
        for code, word in enumerate(words):
            path = root / split / word / "900.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((48, 48), 10 * code, np.uint8)).save(path)


@pytest.mark.parametrize("words", [FOLDERS, labels.order("fer2013")])
def test_class_folders(tmp_path: Path, words: tuple[str, ...]) -> None:
    class_folders(tmp_path / "faces", words)
    write(tmp_path / "faces" / "train" / words[0] / "Thumbs.db", b"x")
    write(tmp_path / "faces" / "train" / ".DS_Store", b"x")
    faces = load_fer2013(tmp_path / "faces")
    assert faces.splits() == {"train": 27, "test": 17}  # the widespread copy merges both test sets
    train = faces.select("train")
    assert list(faces.counts()) == list(labels.order("fer2013"))
    assert list(faces.counts().values()) == (np.bincount(CODES) + 2).tolist()
    for code in range(7):
        mine = [row for row in range(20) if CODES[row] == code]
        assert np.array_equal(train.images[train.labels == code][:-1], IMAGES[mine])
        assert (train.images[train.labels == code][-1] == 10 * code).all()
    with pytest.raises(ValueError, match=r"'public_test'; .* has train \(27\), test \(17\)"):
        faces.select("public_test")


def test_pictures_without_a_class_are_named(tmp_path: Path) -> None:
    class_folders(tmp_path, FOLDERS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = load_fer2013(tmp_path)
    write(tmp_path / "test" / "1.jpg", png(IMAGES[0]))
    with pytest.warns(UserWarning, match=r"1 pictures lie in no class folder, .* left out: test/1\.jpg"):
        assert load_fer2013(tmp_path).splits() == whole.splits()


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def parquet(path: Path, rows: list[int], codes: list, names: list[str] | None) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as tables

    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    image = arrow.array([{"bytes": png(IMAGES[row]), "path": None} for row in rows], kind)
    table = arrow.table({"image": image, "label": arrow.array(codes)})
    if names is not None:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    tables.write_table(table, path)


@pytest.mark.parametrize(
    "files", ["{}-00000-of-00001.parquet", "data/{}-00000-of-00001-ab12.parquet", "default/{}/0.parquet"]
)
def test_parquet_reads_labels_by_the_names_in_the_file(tmp_path: Path, files: str) -> None:
    alphabetical = sorted(FOLDERS)  # another order than FER2013's, as some copies have it
    for split, rows in (("train", range(20)), ("test", range(20, 26)), ("validation", range(26, 30))):
        codes = [alphabetical.index(FOLDERS[CODES[row]]) for row in rows]
        parquet(tmp_path / files.format(split), list(rows), codes, alphabetical)
    faces = load_fer2013(tmp_path)
    assert faces.splits() == {"train": 20, "validation": 4, "test": 6}
    for split, rows in (("train", slice(0, 20)), ("test", slice(20, 26)), ("validation", slice(26, 30))):
        assert np.array_equal(faces.select(split).images, IMAGES[rows])
        assert faces.select(split).labels.tolist() == CODES[rows].tolist()


def test_parquet_file_alone_without_names_warns_and_its_name_is_its_split(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", list(range(N)), CODES.tolist(), None)
    with pytest.warns(UserWarning, match="do not name their classes"):
        faces = load_fer2013(tmp_path / "train.parquet")
    check(faces, ["train"] * N)
    assert "label order assumed" in faces.source
    shutil.copy(tmp_path / "train.parquet", tmp_path / "test.parquet")
    with pytest.warns(UserWarning):
        assert load_fer2013(tmp_path / "test.parquet").splits() == {"test": N}


def test_parquet_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.parquet"
    parquet(path, [0, 1], [0, 7], list(FOLDERS))
    with pytest.raises(ValueError, match="train.parquet, row 2: expected a label from 0 to 6 .* found 7"):
        load_fer2013(path)
    parquet(path, [0, 1], [0, 1], ["cat", "dog"])
    with pytest.raises(ValueError, match="class names in train.parquet, found cat, dog"):
        load_fer2013(path)
    parquet(tmp_path / "faces.parquet", [0], [0], list(FOLDERS))
    with pytest.raises(ValueError, match="named train-.*found faces.parquet"):
        load_fer2013(tmp_path / "faces.parquet")
    path.write_bytes((tmp_path / "faces.parquet").read_bytes()[:-100])
    with pytest.raises(ValueError, match="train.parquet to be a whole parquet file"):
        load_fer2013(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "ferkit\[datasets\]"'):
        load_fer2013(path)


def test_folder_faults(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found none of them"):
        load_fer2013(tmp_path)
    class_folders(tmp_path)
    bad = tmp_path / "train" / "fear" / "500.png"
    write(bad, png(IMAGES[0])[:-200])
    with pytest.raises(ValueError, match="train/fear/500.png: the picture is empty"):
        load_fer2013(tmp_path)
    write(bad, png(np.zeros((100, 90), np.uint8)))
    with pytest.raises(ValueError, match="train/fear/500.png: expected 48x48 pixels, found 90x100"):
        load_fer2013(tmp_path)
    bad.unlink()
    write(tmp_path / "train" / "contempt" / "1.png", png(IMAGES[0]))
    with pytest.raises(ValueError, match="found 'contempt'"):
        load_fer2013(tmp_path)
    shutil.rmtree(tmp_path / "train" / "contempt")
    shutil.rmtree(tmp_path / "test" / "sad")
    with pytest.raises(ValueError, match="in test/, found none of sadness"):
        load_fer2013(tmp_path)


# ---- faults of a csv: one sentence, with the data row ----


@pytest.mark.parametrize(
    ("row", "change", "sentence"),
    [
        (17, {"emotion": "7"}, "expected an emotion from 0 to 6, found '7'"),
        (1, {"emotion": "-1"}, "found '-1'"),
        (30, {"emotion": "happy"}, "found 'happy'"),
        (4, {"emotion": ""}, "found ''"),
        (9, {"Usage": "Test"}, "Usage among Training, PublicTest, PrivateTest, found 'Test'"),
        (12, {"pixels": " ".join(["5"] * 2303)}, r"expected 2304 pixels \(48x48\), found 2303"),
        (12, {"pixels": " ".join(["5"] * 2305)}, "found 2305"),
        (12, {"pixels": ""}, "found 0"),
        (2, {"pixels": " ".join(["5"] * 2303 + ["256"])}, "found '256' at position 2304"),
        (3, {"pixels": " ".join(["-5"] + ["5"] * 2303)}, "found '-5' at position 1"),
        (3, {"pixels": " ".join(["5"] * 9 + ["1.0"] + ["5"] * 2294)}, "found '1.0' at position 10"),
        (30, {"pixels": " ".join(["5"] * 9 + ["nan"] + ["5"] * 2294)}, "found 'nan' at position 10"),
        (30, {"pixels": " ".join(["5"] * 9 + ["é"] + ["5"] * 2294)}, "at position 10"),
        (5, {"Usage": "Training,0"}, "expected 3 columns, found 4"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: int, change: dict, sentence: str, fresh_cache: Path) -> None:
    rows = cells()
    rows[row - 1] |= change
    path = write(tmp_path / "faces.csv", text(rows))
    with pytest.raises(ValueError, match=f"faces.csv, data row {row}: .*{sentence}"):
        load_fer2013(path)
    assert not list(fresh_cache.glob("fer2013*"))


def test_of_two_bad_rows_the_first_is_named(tmp_path: Path) -> None:
    rows = cells()
    rows[10] |= {"pixels": "1 2 3"}
    rows[11] |= {"emotion": "8"}
    with pytest.raises(ValueError, match="data row 11: expected 2304 pixels"):
        load_fer2013(write(tmp_path / "faces.csv", text(rows)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "found an empty file"),
        ("emotion,pixels,Usage\n", "a header and nothing below"),
        ("emotion,pixels\n0,1 2\n", "train.csv, which does not name the splits: take fer2013.csv"),
        ("pixels\n1 2\n", "test.csv, which has no labels: take fer2013.csv"),
        ("<!doctype html>\n<html>\n", "columns emotion, pixels, Usage in faces.csv, found '<!doctype html>'"),
        ("emotion;pixels;Usage\n", "found 'emotion;pixels;Usage'"),
        (bytes(range(256)) * 4, "columns emotion, pixels, Usage"),
        ("emotion,pixels,Usage\n0," + "1 " * 100_000, "longer than"),
    ],
)
def test_files_that_are_not_fer2013(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_fer2013(write(tmp_path / "faces.csv", content))


def test_missing_and_unknown_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.csv, found nothing there"):
        load_fer2013(tmp_path / "nowhere.csv")
    monkeypatch.chdir(tmp_path)
    # not the checkout's data/raw
    monkeypatch.setattr("ferkit.data.fer2013.__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(FileNotFoundError, match="FERKIT_FER2013 or in data/raw"):
        load_fer2013()
    with pytest.raises(ValueError, match="found faces.jpg"):
        load_fer2013(write(tmp_path / "faces.jpg", b"\xff\xd8"))


def test_files_that_are_cut_off(tmp_path: Path) -> None:
    content = text(cells()).encode()
    with pytest.raises(ValueError, match="data row 30: expected 3 columns, found 2; the file may be cut off"):
        load_fer2013(write(tmp_path / "faces.csv", content[:-200]))
    with pytest.raises(ValueError, match="data row 30: expected Usage"):
        load_fer2013(write(tmp_path / "faces.csv", content[:-5]))
    packed = gzip.compress(content)
    for damaged in (packed[:-2000], packed[:-4], packed[:5], b"not gzip"):
        with pytest.raises(ValueError, match="damaged or cut off"):
            load_fer2013(write(tmp_path / "faces.csv.gz", damaged))
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 255
    with pytest.raises(ValueError, match="faces.csv.gz"):
        load_fer2013(write(tmp_path / "faces.csv.gz", bytes(flipped)))


def test_archives_that_cannot_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(name: str, content: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        return tmp_path / "a.zip"

    for name in ("../../fer2013.csv", "/etc/fer2013.csv", "a/../../fer2013.csv"):
        with pytest.raises(ValueError, match="leaves the archive's folder"):
            load_fer2013(pack(name, text(cells()).encode()))
    with pytest.raises(ValueError, match=r"a \.csv inside a\.zip, found 'notes\.txt'"):
        load_fer2013(pack("notes.txt", b"x"))
    with pytest.raises(ValueError, match="damaged or cut off"):
        load_fer2013(write(tmp_path / "a.tar.gz", gzip.compress(bytes(100))))
    whole = pack("fer2013.csv", text(cells()).encode()).read_bytes()
    with pytest.raises(ValueError, match="damaged or cut off"):
        load_fer2013(write(tmp_path / "a.zip", whole[:-300]))
    # absurd sizes: announced by a zip, or met while unpacking
    monkeypatch.setattr(archives, "MAX_BYTES", 100_000)
    with pytest.raises(ValueError, match="at most 100,000 bytes of csv in a.zip"):
        load_fer2013(pack("fer2013.csv", text(cells()).encode()))
    with pytest.raises(ValueError, match="at most 100,000 bytes of csv in b.csv.gz, found more"):
        load_fer2013(write(tmp_path / "b.csv.gz", gzip.compress(text(cells()).encode())))
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 200_000
        archive.addfile(info, io.BytesIO(bytes(200_000)))
    with pytest.raises(ValueError, match="at most 100,000 bytes in c.tar.gz"):
        load_fer2013(tmp_path / "c.tar.gz")
    assert sorted(path.name for path in tmp_path.parent.glob("*.csv")) == []


def test_a_copy_without_some_splits_says_what_it_lacks(tmp_path: Path) -> None:
    faces = load_fer2013(write(tmp_path / "faces.csv", text(cells()[:26])))
    assert faces.splits() == {"train": 20, "public_test": 6}
    assert fer2013.lacks(faces) == {"train": 28_689, "public_test": 3_583, "private_test": 3_589}
    with pytest.raises(
        ValueError, match=r"'private_test'; fer2013 from faces.csv .* has train \(20\), public_test \(6\)"
    ):
        faces.select("private_test")
    assert [sum(counts) for counts in fer2013.OFFICIAL_COUNTS.values()] == [28_709, 3_589, 3_589]


def test_parse_pixels_reads_every_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fer2013, "PIXELS", 4)
    assert parse_pixels("0 9 10 255") == bytes([0, 9, 10, 255])
    assert parse_pixels(" 001\t99  100 7 \n") == bytes([1, 99, 100, 7])
    huge = (str(2**16 + 1), str(2**32 + 1), str(2**64 + 1), "9" * 40)  # small numbers once cut to 16, 32 or 64 bits
    for bad in ("1000", "256", "+4", "-0", "4.", "4e0", "0x4", "4,", "\xff", "²", "٤", "4\x00", "4\xa05", *huge):
        with pytest.raises(ValueError, match="expected pixels as whole numbers from 0 to 255, found .* at position 3"):
            parse_pixels(f"1 2 {bad} 3")
        with pytest.raises(ValueError, match="position 4"):
            parse_pixels(f"1 2 3 {bad}")
    for text, found in (("", 0), (" ", 0), ("1 2 3", 3), ("1 2 3 4 5", 5)):
        with pytest.raises(ValueError, match=f"expected 4 pixels .* found {found}"):
            parse_pixels(text)


# ---- the cache ----


def settle(path: Path) -> Path:
    old = time.time() - 60
    os.utime(path, (old, old))
    return path


def count_reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    calls = {"parsed": 0, "hashed": 0}
    parse, digest = fer2013.read_csv, cache.sha256

    def counted_parse(path: Path):
        calls["parsed"] += 1
        return parse(path)

    def counted_digest(path: Path) -> str:
        calls["hashed"] += 1
        return digest(path)

    monkeypatch.setattr(fer2013, "read_csv", counted_parse)
    monkeypatch.setattr(cache, "sha256", counted_digest)
    return calls


def test_the_second_open_neither_parses_nor_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settle(write(tmp_path / "faces.csv", text(cells())))
    calls = count_reads(monkeypatch)
    check(load_fer2013(path))
    assert calls == {"parsed": 1, "hashed": 1}
    faces = load_fer2013(path)
    check(faces)
    assert isinstance(faces.images, np.memmap) and isinstance(faces.select("train").images, np.memmap)
    assert calls == {"parsed": 1, "hashed": 1}
    # the same content elsewhere is known by its hash, a touched file is hashed again
    check(load_fer2013(shutil.copy(path, tmp_path / "copy.csv")))
    os.utime(path)
    check(load_fer2013(path))
    assert calls == {"parsed": 1, "hashed": 3}


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = settle(write(tmp_path / "faces.csv", text(cells())))
    before = load_fer2013(path)
    rows = cells()
    rows[0] |= {"emotion": "6"}  # same size
    after = load_fer2013(write(path, text(rows)))
    assert (before.labels[0], after.labels[0]) == (0, 6)
    assert before.sha256 != after.sha256
    # twice within the clock's tick: a file as young as that is not remembered by its time
    for code in "345":
        rows[0] |= {"emotion": code}
        assert load_fer2013(write(path, text(rows))).labels[0] == int(code)


@pytest.mark.parametrize("damage", ["cut images", "flip a bit", "cut labels", "no labels", "garbage", "no images"])
def test_a_damaged_cache_is_rebuilt(
    tmp_path: Path, fresh_cache: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "faces.csv", text(cells()))
    load_fer2013(path)
    (images,), (table,) = fresh_cache.glob("*.npy"), fresh_cache.glob("*.npz")
    whole = images.read_bytes()
    if damage == "cut images":
        images.write_bytes(whole[:-1000])
    elif damage == "flip a bit":
        images.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "cut labels":
        table.write_bytes(table.read_bytes()[:-50])
    elif damage == "no labels":
        table.unlink()
    elif damage == "garbage":
        images.write_bytes(b"\x93NUMPY" + bytes(300))
    else:
        images.unlink()
    calls = count_reads(monkeypatch)
    check(load_fer2013(path))
    check(load_fer2013(path))
    assert calls["parsed"] == 1
    assert not list(fresh_cache.glob("*.part"))


def test_a_damaged_memory_of_hashes_costs_one_more_hash(
    tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settle(write(tmp_path / "faces.csv", text(cells())))
    load_fer2013(path)
    (memory,) = fresh_cache.glob("*.json")
    calls = count_reads(monkeypatch)
    for content in ("{", "[]", '{"state": 1}', ""):
        memory.write_text(content)
        check(load_fer2013(path))
    assert calls == {"parsed": 0, "hashed": 4}


def test_a_killed_write_leaves_nothing_that_is_read(
    tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "faces.csv", text(cells()))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", killed)
        with pytest.raises(KeyboardInterrupt):
            load_fer2013(path)
    assert not list(fresh_cache.glob("*.npz")) and not list(fresh_cache.glob("*.part"))
    check(load_fer2013(path))


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERKIT_CACHE", str(write(tmp_path / "file", "x")))
    with pytest.warns(UserWarning, match="cannot be kept in .*set FERKIT_CACHE"):
        check(load_fer2013(write(tmp_path / "faces.csv", text(cells()))))


def test_writing_to_loaded_images_never_reaches_the_cache(tmp_path: Path) -> None:
    path = write(tmp_path / "faces.csv", text(cells()))
    load_fer2013(path).images[:] = 0
    check(load_fer2013(path))


def test_many_first_readers_at_once(tmp_path: Path, fresh_cache: Path) -> None:
    path = write(tmp_path / "faces.csv", text(cells()))
    found: list = []
    threads = [threading.Thread(target=lambda: found.append(load_fer2013(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for faces in found:
        check(faces)
    assert len(list(fresh_cache.iterdir())) == 2


@pytest.mark.parametrize(
    "last",
    [
        "0", "9", "10", "99", "100", "199", "255", "256", "300", "999", "000", "007", "0255", "1000", "65536", "65541",
        "x", "1x", "-1", "+5", "1.5", "",
    ],
)
@pytest.mark.parametrize("blank", [" ", "  ", "\t"])
def test_the_quick_reading_of_pixels_agrees_with_the_plain_one(last: str, blank: str) -> None:
    words = [str(value) for value in np.random.default_rng(0).integers(0, 256, 2303)]
    for place in (0, 1000, 2303):
        row = [*words[:place], last, *words[place:]]
        text = blank.join(row)
        known = re.fullmatch("[0-9]{1,4}", last) and int(last) < 256
        expected = bytes(int(word) for word in row) if known else None
        if expected is None:
            with pytest.raises(ValueError):
                fer2013.parse_pixels(text)
        else:
            assert fer2013.parse_pixels(text) == expected
        quick = fer2013._three_digits(text.encode())
        assert quick == (expected if blank != "\t" and len(last) < 4 else None)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_rows_end_as_they_like(tmp_path: Path, end: str, mark: str) -> None:
    row = " ".join(["7"] * 2304)
    file = tmp_path / "fer2013.csv"
    file.write_bytes(f"{mark}emotion,pixels,Usage{end}3,{row},Training{end}{end}4,{row},PublicTest".encode())
    arrays = fer2013.read_csv(file)
    assert arrays.labels.tolist() == [3, 4] and (arrays.images == 7).all()
