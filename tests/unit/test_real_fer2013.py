"""Known figures of the real FER2013 and FER+; nothing here shows or stores an image."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ferkit.data import (
    FaceSet,
    carve_validation,
    duplicate_mask,
    duplicates_across,
    fer2013,
    ferplus,
    image_hashes,
    load,
    load_fer2013,
)

pytestmark = pytest.mark.real_data

READ = """
import json, pathlib, sys, time
from ferkit.data import load_fer2013
start = time.perf_counter()
faces = load_fer2013(sys.argv[1])
status = pathlib.Path("/proc/self/status")  # getrusage would start from the peak of the test process
peak = int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024 if status.exists() else None
print(json.dumps({"seconds": time.perf_counter() - start, "peak_mb": peak, "splits": faces.splits()}))
"""


@pytest.fixture(scope="module")
def reads(fer2013_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict]]:
    """The first read and the second open, each in a process of its own; their cache serves the other tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        command = [sys.executable, "-c", READ, str(fer2013_path)]
        yield [json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(2)]


@pytest.fixture(scope="module")
def faces(fer2013_path: Path, reads: list[dict]) -> FaceSet:
    return load_fer2013(fer2013_path)


@pytest.fixture(scope="module")
def votes_path(fer2013_path: Path) -> Path:
    path = (fer2013_path if fer2013_path.is_dir() else fer2013_path.parent) / ferplus.VOTES_NAME
    if not path.is_file():
        pytest.skip(f"needs the FER+ votes, {ferplus.VOTES_NAME}, beside FER2013 (data/README.md says how to get them)")
    return path


def test_class_counts_are_the_official_ones(faces: FaceSet) -> None:
    assert {"train", "public_test"} <= set(faces.splits())
    for split in faces.splits():
        assert tuple(faces.select(split).counts().values()) == fer2013.OFFICIAL_COUNTS[split], split
    assert set(fer2013.lacks(faces)) == set(fer2013.OFFICIAL_COUNTS) - set(faces.splits())


def test_exact_copies_inside_and_across_the_splits(faces: FaceSet) -> None:
    train = image_hashes(faces.select("train").images)
    public = image_hashes(faces.select("public_test").images)
    assert len(train) - len(np.unique(train)) == 1236
    assert len(public) - len(np.unique(public)) == 26
    assert duplicate_mask(faces, "public_test").sum() == 280
    pairs = duplicates_across(faces, "train", "public_test")
    assert len(pairs) == 371 and len(np.unique(pairs[:, 1])) == 280
    assert all(np.array_equal(faces.images[a], faces.images[b]) for a, b in pairs)
    if "private_test" in faces.splits():
        assert duplicate_mask(faces, "private_test", ("train",)).sum() == 288


def test_equal_images_with_different_labels_and_constant_images(faces: FaceSet) -> None:
    known = faces.subset(faces.split != "private_test")
    flat = known.images.reshape(len(known), -1)
    assert (flat.min(1) == flat.max(1)).sum() == 12
    _, group = np.unique(image_hashes(known.images), return_inverse=True)
    kinds = np.zeros((group.max() + 1, 7), bool)
    kinds[group, known.labels] = True
    assert (kinds.sum(1) > 1).sum() == 47  # 57 with the private test


def test_carved_validation_shares_no_image_with_training(faces: FaceSet) -> None:
    carved = carve_validation(faces, 0.1, seed=0, drop_leaked_from="public_test")
    assert carved.splits()["train"] + carved.splits()["validation"] == 28_709 - 351
    assert not duplicate_mask(carved, "validation", ("train",)).any()
    assert not duplicate_mask(carved, "public_test").any()
    train, part = carved.select("train").counts(), carved.select("validation").counts()
    for name in faces.names:
        share = part[name] / (part[name] + train[name])
        assert 0.09 < share < 0.11, name


FERPLUS_TRAIN = {
    "majority": (8740, 7287, 3149, 3014, 2100, 119, 532, 119),
    "probability": (10122, 7503, 3524, 3430, 2407, 169, 641, 160),
    "multi_target": (10071, 7492, 3486, 3399, 2327, 153, 598, 145),
}
FERPLUS_MAJORITY = {
    "public_test": (1182, 865, 415, 351, 287, 24, 62, 13),
    "private_test": (1090, 893, 396, 384, 273, 18, 83, 16),
}


@pytest.mark.parametrize("mode", ferplus.MODES)
@pytest.mark.usefixtures("reads")
def test_ferplus_counts_after_each_rule(fer2013_path: Path, votes_path: Path, mode: str) -> None:
    plus = load("ferplus", fer2013_path, votes_path=votes_path, mode=mode)
    assert tuple(plus.select("train").counts().values()) == FERPLUS_TRAIN[mode]
    for split in set(plus.splits()) - {"train"}:
        assert tuple(plus.select(split).counts().values()) == FERPLUS_MAJORITY[split], split
    assert np.allclose(plus.votes.sum(1), 1)


def test_ferplus_vote_file(votes_path: Path) -> None:
    votes = ferplus.read_votes(votes_path)
    assert len(votes.counts) == 35_887
    assert np.unique(votes.counts.sum(1), return_counts=True)[1].tolist() == [1, 35_886]  # one row has nine votes
    unnamed = votes.image == ""
    assert {split: int((unnamed & (votes.usage == split)).sum()) for split in np.unique(votes.usage)} == {
        "train": 148,
        "public_test": 10,
        "private_test": 15,
    }
    assert (votes.counts[unnamed][:, 9] == 10).all()
    for mode, public, private in (("probability", 3505, 3505), ("multi_target", 3472, 3472)):
        codes = ferplus.vote_targets(votes.counts, mode)[1]
        assert ((codes >= 0) & (votes.usage == "public_test")).sum() == public
        assert ((codes >= 0) & (votes.usage == "private_test")).sum() == private
    # of the training images without a majority label: no majority, unknown, not a face
    cleaned = ferplus.clean_votes(votes.counts)[votes.usage == "train"]
    winner = np.where(cleaned.max(1) > cleaned.sum(1) / 2, cleaned.argmax(1), -1)
    assert [(winner == code).sum() for code in (-1, 8)] == [3423, 76]


def test_first_read_and_second_open_stay_within_their_limits(reads: list[dict]) -> None:
    first, second = reads
    assert first["splits"] == second["splits"] and first["splits"]["train"] == 28_709
    assert 0.5 < first["seconds"] < 30
    assert second["seconds"] < min(1, first["seconds"] / 10)
    if first["peak_mb"] is None:
        pytest.skip("the peak memory is read from /proc, which only Linux has; the times were checked")
    assert 100 < first["peak_mb"] < 400


def test_votes_that_are_shifted_for_a_while_are_noticed(faces: FaceSet, votes_path: Path) -> None:
    votes = ferplus.read_votes(votes_path)
    _, majority = ferplus.vote_targets(votes.counts[: len(faces)], "majority")
    assert ferplus.first_disagreement(faces.labels, faces.names, majority) is None
    for start in range(500, len(faces) - 400, 2000):
        moved = majority.copy()
        moved[start : start + 200] = majority[start + 1 : start + 201]
        row, share = ferplus.first_disagreement(faces.labels, faces.names, moved)
        assert abs(row - start) < 90 and 0 <= share < 0.45
