from __future__ import annotations

import multiprocessing
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferkit import data
from ferkit.data import FaceSet, faceset
from ferkit.data.faceset import Rows
from ferkit.data.io.cache import open_mapped

NAMES = ("anger", "fear", "neutral")


def make(n: int = 6, **changes) -> FaceSet:
    fields = {
        "images": np.arange(n * 16, dtype=np.uint8).reshape(n, 4, 4),
        "labels": np.arange(n) % 3,
        "names": NAMES,
        "split": np.array((["train"] * (n - 2) + ["public_test"] * 2)[:n]),
        "name": "toy",
        "source": "memory",
    }
    return FaceSet(**(fields | changes))


def test_counts_splits_and_selection() -> None:
    faces = make()
    assert len(faces) == 6
    assert faces.splits() == {"train": 4, "public_test": 2}
    assert faces.counts() == {"anger": 2, "fear": 2, "neutral": 2}
    train = faces.select("train")
    assert train.labels.tolist() == [0, 1, 2, 0]
    assert train.counts() == {"anger": 2, "fear": 1, "neutral": 1}
    assert train.source == "memory" and train.names == NAMES
    assert repr(faces) == "FaceSet(toy: 6 images 4x4, 3 classes; train 4, public_test 2)"


def test_neighbouring_rows_are_a_view_and_others_a_copy() -> None:
    faces = make()
    assert np.shares_memory(faces.select("public_test").images, faces.images)
    odd = faces.subset([1, 3, 5])
    assert not np.shares_memory(odd.images, faces.images)
    assert np.array_equal(odd.images, faces.images[[1, 3, 5]])


def test_subset_keeps_the_order_asked_for_and_takes_masks_and_votes() -> None:
    votes = np.eye(3)[np.arange(6) % 3]
    faces = make(votes=votes)
    assert faces.subset([5, 0]).labels.tolist() == [2, 0]
    assert faces.subset([-1]).labels.tolist() == [2]
    masked = faces.subset(faces.labels == 1)
    assert masked.labels.tolist() == [1, 1]
    assert np.array_equal(masked.votes, votes[[1, 4]])
    assert len(faces.subset([])) == 0


def test_extras_go_along_with_their_rows() -> None:
    faces = make(extras={"valence": np.linspace(-1, 1, 6), "file": np.array(list("abcdef"))})
    assert faces.select("public_test").extras["file"].tolist() == ["e", "f"]
    picked = faces.subset([5, 0])
    assert picked.extras["valence"].tolist() == [1.0, -1.0] and picked.subset([1]).extras["file"].tolist() == ["a"]
    assert faces.subset(faces.labels == 1).extras["file"].tolist() == ["b", "e"]
    assert make().extras == {} and make().subset([0]).extras == {}
    with pytest.raises(ValueError, match="one entry of valence per image, found 5 for 6 images"):
        make(extras={"valence": np.zeros(5)})


def test_an_absent_split_lists_what_is_there() -> None:
    with pytest.raises(ValueError, match=r"'private_test'; toy from memory has train \(4\), public_test \(2\)\."):
        make().select("private_test")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": np.zeros((6, 4, 4))}, "float64"),
        ({"images": np.zeros((6, 4, 4, 3), np.uint8)}, r"\(6, 4, 4, 3\)"),
        ({"labels": np.zeros(5, np.int64)}, "5 for 6 images"),
        ({"labels": np.array([0, 1, 2, 3, 0, 0])}, "from 0 to 2 for 3 names, found 0 to 3"),
        ({"labels": np.array([0, 1, 2, -1, 0, 0])}, "found -1 to 2"),
        ({"labels": np.zeros(6)}, "integer labels"),
        ({"split": np.array(["train"] * 5 + ["exam"])}, "found 'exam'"),
        ({"votes": np.zeros((6, 8))}, r"votes of shape \(6, 3\), found \(6, 8\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**changes)


def test_masks_and_rows_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="mask of 6 rows"):
        make().subset(np.ones(5, bool))
    with pytest.raises(IndexError):
        make().subset([4, 5, 6])
    with pytest.raises(IndexError):
        make().subset([9, 0])


def test_colour_images_are_channels_first() -> None:
    assert "3x4x4" in repr(make(images=np.zeros((6, 3, 4, 4), np.uint8)))


def test_load_names_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(data.list_datasets()) >= {
        "synthetic", "fer2013", "ferplus", "rafdb", "affectnet7", "affectnet8", "expw", "folder",
    }
    with pytest.raises(ValueError, match="'fer2014'. Known: synthetic, fer2013, ferplus"):
        data.load("fer2014")
    with pytest.raises(ValueError, match="'ferplus' among votes_path, mode, found modus"):
        data.load("ferplus", "somewhere", modus="majority")

    # `synthetic` is imported only when asked for, takes options and has no path
    module = types.ModuleType("ferkit.synthetic.faces")
    module.load_synthetic = lambda n_train=3, seed=0: make(n_train)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ferkit.synthetic.faces", module)
    assert len(data.load("synthetic", n_train=5)) == 5
    with pytest.raises(ValueError, match="among n_train, seed, found n"):
        data.load("synthetic", n=5)
    with pytest.raises(ValueError, match="no path for 'synthetic'"):
        data.load("synthetic", "a/path")


# ---- scattered rows of a memory map ----


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaceSet:
    monkeypatch.setattr(faceset, "LAZY_BYTES", 100)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 3, 6, 5), dtype=np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="c")
    return FaceSet(images=images, labels=np.arange(40) % 3, names=NAMES, split=np.array(["train", "test"] * 20))


def test_scattered_rows_of_a_memory_map_are_read_when_used(mapped: FaceSet) -> None:
    train = mapped.select("train")
    rows, wanted = train.images, np.array(mapped.images)[::2]
    assert isinstance(rows, Rows) and rows.source is mapped.images
    assert (
        len(rows) == 20
        and rows.shape == (20, 3, 6, 5)
        and rows.dtype == np.uint8
        and rows.ndim == 4
        and rows.nbytes == 20 * 90
    )
    assert np.array_equal(np.asarray(rows), wanted) and np.array_equal(np.stack(list(rows)), wanted)
    mask = np.arange(20) % 3 == 0
    for index in (
        0,
        -1,
        slice(3, 9),
        slice(None, None, -2),
        [4, 1, 1],
        np.array([-1, 5]),
        mask,
        ...,
        (slice(None), 1),
        (3, 0, 2),
        (mask, slice(None), 2),
        (slice(2), ..., 1),
    ):
        assert type(rows[index]) is not Rows and np.array_equal(rows[index], wanted[index]), index
    assert type(rows[2:5]) is np.ndarray
    rows[2:5][:] = 0  # of a copy
    assert np.array_equal(np.asarray(rows), wanted)
    with pytest.raises(IndexError):
        rows[20]


def test_rows_of_rows_stay_unread(mapped: FaceSet) -> None:
    wanted = np.array(mapped.images)
    train = mapped.select("train")
    for pick in (slice(5, 15), [9, 3, 3, 0, -1, 2], np.arange(20) % 2 == 0):
        part = train.subset(np.arange(20)[pick])
        assert isinstance(part.images, Rows) and part.images.source is mapped.images
        assert np.array_equal(np.asarray(part.images), wanted[::2][pick]) and np.array_equal(
            part.labels, train.labels[pick]
        )
    both = mapped.subset(np.arange(40)[::-1])
    again = both.subset(np.arange(40)[::-1])  # neighbours in the file once more
    assert (
        isinstance(both.images, Rows)
        and isinstance(again.images, np.memmap)
        and np.shares_memory(again.images, mapped.images)
    )
    assert isinstance(mapped.subset(np.arange(3, 30)).images, np.memmap)
    with pytest.raises(IndexError):
        mapped.subset([1, 40, 3])


def test_rows_work_where_images_are_used(mapped: FaceSet) -> None:
    train = mapped.select("train")
    plain = replace(train, images=np.asarray(train.images))
    assert np.array_equal(data.image_hashes(train.images), data.image_hashes(plain.images))
    assert np.array_equal(data.carve_validation(train, 0.2).split, data.carve_validation(plain, 0.2).split)
    assert repr(train) == repr(plain)
    twice = mapped.subset(np.r_[np.arange(0, 40, 2), np.arange(1, 40, 2)[:5]])
    assert not data.duplicate_mask(twice, "test", "train").any()


def test_small_parts_and_ordinary_arrays_are_copied_as_before(mapped: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make(40).subset(np.arange(0, 40, 2)).images) is np.ndarray
    assert not isinstance(mapped.subset([7]).images, Rows)
    monkeypatch.setattr(faceset, "LAZY_BYTES", 1 << 28)
    assert not isinstance(mapped.select("train").images, Rows)


def _seen(faces, queue):
    queue.put((type(faces.images).__name__, np.asarray(faces.images).sum(dtype=np.int64)))


@pytest.mark.parametrize("part", [slice(None), slice(1, 9), np.array([7, 3, 3, 0])])
def test_worker_processes_open_the_map_again(tmp_path, monkeypatch, part):
    """What is sent to a worker is the name of the file, not the pictures; also of a part of them."""
    monkeypatch.setattr("ferkit.data.faceset.LAZY_BYTES", 0)
    images = np.random.default_rng(0).integers(0, 256, (1000, 40, 50), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    faces = FaceSet(
        images=open_mapped(tmp_path / "a.npy"),
        labels=np.zeros(1000, np.int64),
        names=("fear",),
        split=np.repeat("train", 1000),
    )
    chosen = faces.subset(np.arange(1000)[part])
    sent = pickle.dumps(chosen.images)
    assert len(sent) < 1000 + 8 * len(chosen) * isinstance(part, np.ndarray)
    back = pickle.loads(sent)
    assert np.array_equal(np.asarray(back), images[part]) and np.array_equal(back[0], images[part][0])
    if isinstance(part, slice):
        assert isinstance(back, np.memmap) and isinstance(pickle.loads(pickle.dumps(back[3:])), np.memmap)
        assert np.array_equal(pickle.loads(pickle.dumps(back[3:])), images[part][3:])
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_seen, args=(chosen, queue))
    child.start()
    assert queue.get(timeout=60) == (type(chosen.images).__name__, images[part].sum(dtype=np.int64))
    child.join()


def test_copies_out_of_a_map_are_plain_arrays(tmp_path):
    images = np.arange(2000, dtype=np.uint8).reshape(10, 10, 20)
    np.save(tmp_path / "a.npy", images)
    mapped = open_mapped(tmp_path / "a.npy")
    for copied in (mapped[[3, 1]], mapped[mapped[:, 0, 0] > 100], mapped[0, 0, 0]):
        assert not isinstance(copied, np.memmap)
    for view in (mapped[::2], mapped[:, ::2], mapped.transpose(0, 2, 1), mapped + 1, mapped[:0]):
        assert np.array_equal(pickle.loads(pickle.dumps(view)), view)
