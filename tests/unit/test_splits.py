from __future__ import annotations

import numpy as np
import pytest

from ferkit.data import FaceSet, carve_validation, duplicate_mask, duplicates_across, image_hashes, stratified_folds

NAMES = ("anger", "disgust", "fear")


def make(labels: list[int], split: list[str], identity: list[int]) -> FaceSet:
    """Images that are equal exactly where `identity` is."""
    pool = np.random.default_rng(0).integers(0, 256, (max(identity) + 1, 8, 8), dtype=np.uint8)
    return FaceSet(
        images=pool[identity], labels=np.array(labels), names=NAMES, split=np.array(split), name="toy", source=""
    )


def big(seed: int = 0, n: int = 900) -> FaceSet:
    """900 training images in classes of 600, 200 and 100, a fifth of them copies, and 100 public ones, 40 leaked."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [600, 200, 100])
    identity = np.arange(n)
    copies = rng.choice(n, n // 5, replace=False)
    identity[copies] = rng.choice(n, n // 5)  # of any class: some groups have several labels
    public = [*range(40), *range(n, n + 60)]
    return make(
        [*labels, *rng.integers(0, 3, 100)], ["train"] * n + ["public_test"] * 100, [*identity.tolist(), *public]
    )


def test_hashes_are_equal_exactly_for_equal_pixels() -> None:
    images = np.zeros((4, 48, 48), np.uint8)
    images[1, 47, 47] = 1
    images[3, 47, 47] = 1
    hashes = image_hashes(images)
    assert hashes.dtype == np.uint64 and hashes.shape == (4,)
    assert hashes[0] == hashes[2] != hashes[1] == hashes[3]
    # rows of a view that is not contiguous hash like their copies
    assert np.array_equal(image_hashes(images[:, ::2, ::2]), image_hashes(images[:, ::2, ::2].copy()))


def test_duplicate_mask_and_pairs() -> None:
    split = ["train", "train", "validation", "public_test", "public_test", "public_test", "train"]
    faces = make([0] * 7, split, [0, 1, 2, 1, 2, 3, 1])
    assert duplicate_mask(faces, "public_test").tolist() == [True, True, False]
    assert duplicate_mask(faces, "public_test", ("train",)).tolist() == [True, False, False]
    assert duplicate_mask(faces, "public_test", "validation").tolist() == [False, True, False]
    assert duplicate_mask(faces, "validation").tolist() == [False]  # its own copies do not count
    assert duplicates_across(faces, "train", "public_test").tolist() == [[1, 3], [6, 3]]
    assert duplicates_across(faces, "train", "train").tolist() == [[1, 6]]
    assert duplicates_across(faces, "train", "private_test").shape == (0, 2)
    with pytest.raises(ValueError, match="found exam"):
        duplicate_mask(faces, "public_test", ("train", "exam"))
    with pytest.raises(ValueError, match="'private_test'"):
        duplicate_mask(faces, "private_test")


@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_carving_is_stratified_and_keeps_copies_together(fraction: float) -> None:
    faces = big()
    carved = carve_validation(faces, fraction, seed=1)
    assert len(carved) == len(faces) and carved.splits()["public_test"] == 100
    assert np.array_equal(carved.images, faces.images) and np.array_equal(carved.labels, faces.labels)
    whole, part = faces.select("train").counts(), carved.select("validation").counts()
    for name in NAMES:  # copies with other labels move a few images between the classes
        assert abs(part[name] - fraction * whole[name]) <= max(3, 0.12 * fraction * whole[name]), name
    assert abs(sum(part.values()) - fraction * 900) <= 2
    assert not duplicate_mask(carved, "validation", ("train",)).any()
    # a random cut that ignores copies would not pass the line above
    naive = faces.split.copy().astype("<U12")
    naive[np.random.default_rng(1).choice(900, round(900 * fraction), replace=False)] = "validation"
    leaky = FaceSet(images=faces.images, labels=faces.labels, names=NAMES, split=naive)
    assert duplicate_mask(leaky, "validation", ("train",)).sum() > 10


def test_carving_depends_on_the_seed_alone() -> None:
    one, same, other = (carve_validation(big(), seed=seed).split for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert 50 < (one != other).sum() <= 180


def test_dropping_leaked_training_images() -> None:
    faces = big()
    leaked = np.isin(image_hashes(faces.images), image_hashes(faces.select("public_test").images))
    leaked &= faces.split == "train"
    assert leaked.sum() >= 40 * 0.6
    carved = carve_validation(faces, drop_leaked_from="public_test")
    assert len(carved) == len(faces) - leaked.sum()
    assert duplicate_mask(faces, "public_test").any() and not duplicate_mask(carved, "public_test").any()
    assert carve_validation(faces, drop_leaked_from=("public_test",)).splits() == carved.splits()
    assert np.array_equal(carved.images, faces.images[~leaked])


def test_a_rare_class_gives_one_image_and_keeps_one() -> None:
    faces = make([0] * 40 + [1] * 3, ["train"] * 43, [*range(40), 40, 40, 41])
    carved = carve_validation(faces, 0.1)
    disgust = carved.split[faces.labels == 1].tolist()
    assert disgust == ["train", "train", "validation"]
    # two groups of copies: the smaller one moves although it holds more than the fraction
    faces = make([0] * 40 + [1] * 5, ["train"] * 45, [*range(40), 40, 40, 40, 41, 41])
    assert carve_validation(faces, 0.1).split[40:].tolist() == ["train"] * 3 + ["validation"] * 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fraction": 0.0}, "between 0 and 1, found 0"),
        ({"fraction": 1.0}, "between 0 and 1, found 1"),
        ({"drop_leaked_from": "private_test"}, "among train, public_test less train, found private_test"),
        ({"drop_leaked_from": "train"}, "found train"),
    ],
)
def test_bad_options_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        carve_validation(big(), **options)


def test_what_cannot_be_carved_is_refused() -> None:
    with pytest.raises(ValueError, match="without validation, found train, validation"):
        carve_validation(carve_validation(big()))
    with pytest.raises(ValueError, match="found test"):
        carve_validation(make([0, 0], ["test"] * 2, [0, 1]))
    with pytest.raises(ValueError, match="two distinct training images of disgust"):
        carve_validation(make([0, 0, 1, 1], ["train"] * 4, [0, 1, 2, 2]))


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_are_stratified_and_keep_copies_together(folds: int) -> None:
    faces = big()
    fold = stratified_folds(faces, folds, seed=3)
    assert fold.shape == (len(faces),) and set(fold.tolist()) == set(range(folds))
    hashes = image_hashes(faces.images)
    for value in np.unique(hashes):
        assert len(set(fold[hashes == value].tolist())) == 1
    counts = np.array([np.bincount(faces.labels[fold == k], minlength=3) for k in range(folds)])
    # labels of copies may differ from the class they were dealt as: the classes are even but for those
    assert np.ptp(counts.sum(1)) <= 3
    assert (np.abs(counts - counts.mean(0)) <= 0.25 * counts.mean(0) + 2).all()
    assert np.array_equal(fold, stratified_folds(faces, folds, seed=3))
    assert not np.array_equal(fold, stratified_folds(faces, folds, seed=4))


def test_without_copies_folds_differ_by_one_image_of_a_class() -> None:
    labels = np.repeat([0, 1, 2], [101, 47, 12])
    faces = make(labels.tolist(), ["train"] * 160, list(range(160)))
    fold = stratified_folds(faces, 5)
    counts = np.array([np.bincount(labels[fold == k], minlength=3) for k in range(5)])
    assert np.ptp(counts, axis=0).tolist() == [1, 1, 1] and np.ptp(counts.sum(1)) <= 1, (
        "what is left over goes to the smallest fold"
    )


def test_folds_refuse_what_cannot_be_dealt() -> None:
    faces = make([0, 0, 0, 1, 1], ["train"] * 5, [0, 1, 2, 3, 3])
    with pytest.raises(ValueError, match="Expected two folds at least, found 1"):
        stratified_folds(faces, 1)
    with pytest.raises(
        ValueError,
        match="Expected 2 distinct images of disgust at least, one for each fold, found 1; ask for fewer folds",
    ):
        stratified_folds(faces, 2)
