"""The store of decoded faces: decoded once, in blocks, taken up after an interruption, never torn."""

import json
import os
import threading

import numpy as np
import pytest
from PIL import Image

from ferkit.data.io import pictures
from ferkit.data.io.pictures import Listing, store

N = 23


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "BLOCK", 5)
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def listing(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(N):
        Image.new("RGB", (20, 20), (10 * i, 255 - 10 * i, 7)).save(root / f"{i}.png")
    return Listing(root=root, files=[f"{i}.png" for i in range(N)], place=lambda row: f"list.txt, row {row + 1}")


@pytest.fixture
def decoded(monkeypatch):
    """Rows that were decoded, in order."""
    rows, decode = [], pictures._decode

    def counted(listing, row, *rest):
        rows.append(row)
        return decode(listing, row, *rest)

    monkeypatch.setattr(pictures, "_decode", counted)
    return rows


def right(stored):
    return stored.images[:, :, 4, 4].tolist() == [[10 * i, 255 - 10 * i, 7] for i in range(N)]


def files(tmp_path):
    return sorted(path.suffix for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")


def test_decoded_once(listing, decoded, tmp_path):
    first = store("toy", listing, size=8)
    assert first.images.shape == (N, 3, 8, 8) and isinstance(first.images, np.memmap) and right(first)
    assert sorted(decoded) == list(range(N)) and files(tmp_path) == [".json", ".npy"]
    second = store("toy", listing, size=8, workers=3)
    assert len(decoded) == N and second.sha256 == first.sha256 and np.array_equal(second.images, first.images)
    second.images[0] = 0  # a write stays in memory
    assert right(store("toy", listing, size=8))


def test_other_options_or_pictures_give_another_store(listing, decoded):
    first = store("toy", listing, size=8)
    store("toy", listing, size=16)
    boxes = np.tile([2.0, 2, 18, 18], (N, 1))
    boxed = Listing(root=listing.root, files=listing.files, place=listing.place, boxes=boxes)
    store("toy", boxed, size=8)
    store("toy", boxed, size=8, margin=0.1)
    store("toy", Listing(root=listing.root, files=listing.files, place=listing.place, boxes=boxes + 1), size=8)
    assert len(decoded) == 5 * N
    Image.new("RGB", (20, 20), (1, 2, 3)).save(listing.root / "4.png")
    os.utime(listing.root / "4.png", (1, 1))
    changed = store("toy", listing, size=8)
    assert changed.sha256 != first.sha256 and changed.images[4, :, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("stop", [0, 7, 22])
def test_an_interrupted_run_is_taken_up(listing, monkeypatch, tmp_path, stop):
    decode = pictures._decode

    def interrupted(listing, row, *rest):
        if row == stop:
            raise KeyboardInterrupt
        return decode(listing, row, *rest)

    monkeypatch.setattr(pictures, "_decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store("toy", listing, size=8, workers=2)
    assert files(tmp_path) == [".blocks", ".part"]
    rows = []

    def counted(listing, row, *rest):
        rows.append(row)
        return decode(listing, row, *rest)

    monkeypatch.setattr(pictures, "_decode", counted)
    stored = store("toy", listing, size=8)
    assert right(stored) and sorted(rows) == list(range(stop // 5 * 5, N)) and files(tmp_path) == [".json", ".npy"]
    # the digest does not depend on the interruption
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache2"))
    assert store("toy", listing, size=8).sha256 == stored.sha256


def test_a_torn_journal_and_a_torn_block_are_decoded_again(listing, monkeypatch, decoded, tmp_path):
    monkeypatch.setattr(pictures.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    monkeypatch.setattr(pictures, "_begin", _begin_by_hand)
    with pytest.raises(OSError, match=r"Expected to keep .* but Input/output error; set FERKIT_CACHE"):
        store("toy", listing, size=8)
    monkeypatch.undo()
    monkeypatch.setattr(pictures, "BLOCK", 5)
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    part, journal = next((tmp_path / "cache").glob("*.part")), next((tmp_path / "cache").glob("*.blocks"))
    data = bytearray(part.read_bytes())
    data[-1] ^= 255  # in the last block
    part.write_bytes(data)
    lines = journal.read_text().split("\n")
    # block 1 is cut off
    journal.write_text("\n".join([lines[0], lines[1], lines[2][:20], *lines[3:], '{"block": 99}', "{"]))
    rows = []
    decode = pictures._decode
    monkeypatch.setattr(
        pictures, "_decode", lambda listing, row, *rest: (rows.append(row), decode(listing, row, *rest))[1]
    )
    assert right(store("toy", listing, size=8)) and sorted(rows) == [5, 6, 7, 8, 9, 20, 21, 22]


def _begin_by_hand(part, header, total):
    part.write_bytes(header + bytes(total - len(header)))


@pytest.mark.parametrize("damage", ["cut", "first", "last", "json", "no json"])
def test_a_damaged_store_is_made_again(listing, decoded, tmp_path, damage):
    store("toy", listing, size=8)
    npy, note = next((tmp_path / "cache").glob("*.npy")), next((tmp_path / "cache").glob("*.json"))
    data = bytearray(npy.read_bytes())
    if damage == "cut":
        npy.write_bytes(data[:-100])
    elif damage in ("first", "last"):
        data[200 if damage == "first" else -1] ^= 255
        npy.write_bytes(data)
    elif damage == "json":
        note.write_text(json.dumps({"sha256": "x", "crc32": [1]}))
    else:
        note.unlink()
    decoded.clear()
    assert right(store("toy", listing, size=8)) and len(decoded) == N


def test_four_at_once_decode_once(listing, decoded):
    results = []
    workers = [threading.Thread(target=lambda: results.append(store("toy", listing, size=8))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4 and all(right(stored) for stored in results) and sorted(decoded) == list(range(N))


def test_faults_name_file_and_row_and_keep_what_is_done(listing, decoded):
    good = (listing.root / "17.png").read_bytes()
    (listing.root / "17.png").write_bytes(good[:40])
    with pytest.raises(
        ValueError,
        match=r"17\.png \(list\.txt, row 18\): this is not a picture that can be read; copy it again, or export "
        r"it as JPEG or PNG\.",
    ) as caught:
        store("toy", listing, size=8)
    assert "\n" not in str(caught.value)
    (listing.root / "17.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"Expected the picture 17\.png below .* \(list\.txt, row 18\), but No such file"
    ):
        store("toy", listing, size=8)
    with pytest.raises(ValueError, match="pictures in the list of toy, found none"):
        store("toy", Listing(root=listing.root, files=[], place=str), size=8)


def test_no_room(listing, monkeypatch, tmp_path):
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(
        OSError, match=r"Expected to keep 0\.0 GB of faces in .*cache, but only 0\.0 GB are free; set FERKIT_CACHE"
    ):
        store("toy", listing, size=8)
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="set FERKIT_CACHE to a folder with room"):
        store("toy", listing, size=8)
