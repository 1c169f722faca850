"""Splits that do not leak: exact duplicates, a validation split carved from the training data, folds.

FER2013 holds many exact copies inside and across its splits, some of them with different labels. An image whose copy
was trained on says nothing about new faces, so copies stay on one side of every split made here.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ferkit.data.faceset import SPLITS, FaceSet


def image_hashes(images: np.ndarray) -> np.ndarray:
    """Return a 64-bit digest of each image, (N,) uint64; equal exactly for equal pixels.

    BLAKE2b: among 36,000 different images the chance that any two share a digest is below 1e-10.
    """
    digests = b"".join(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in images)
    return np.frombuffer(digests, np.uint64)


def duplicate_mask(
    faceset: FaceSet, evaluated_split: str, against: str | Sequence[str] = ("train", "validation")
) -> np.ndarray:
    """Mark the images of a split that occur, pixel for pixel, in any of the splits `against` (itself left aside).

    Returns:
        bool (n,), n the rows of `faceset.select(evaluated_split)` in that order; True where the image is a copy.
        ``~duplicate_mask(...)`` selects the duplicate-clean rows. A split of `against` that is absent holds no copies.
    """
    evaluated = image_hashes(faceset.select(evaluated_split).images)
    others = {against} if isinstance(against, str) else set(against)
    unknown = sorted(others - set(SPLITS))
    if unknown:
        raise ValueError(f"Expected splits among {', '.join(SPLITS)}, found {', '.join(unknown)}.")
    seen = np.isin(faceset.split, sorted(others - {evaluated_split}))
    return np.isin(evaluated, image_hashes(faceset.subset(seen).images))


def duplicates_across(faceset: FaceSet, a: str, b: str) -> np.ndarray:
    """Return all pairs of rows, (M, 2) int64 in `faceset`, with equal images: first in split `a`, second in `b`.

    With `a` equal to `b` each pair is listed once, the earlier row first.
    """
    hashes = image_hashes(faceset.images)
    rows_b: dict[int, list[int]] = {}
    for row in np.flatnonzero(faceset.split == b).tolist():
        rows_b.setdefault(int(hashes[row]), []).append(row)
    pairs = [
        (row, other)
        for row in np.flatnonzero(faceset.split == a).tolist()
        for other in rows_b.get(int(hashes[row]), ())
        if a != b or row < other
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def carve_validation(
    faceset: FaceSet,
    fraction: float = 0.1,
    seed: int = 0,
    drop_leaked_from: str | Sequence[str] | None = None,
) -> FaceSet:
    """Move part of `train` to a new split `validation`: stratified, seeded, copies of one image on one side.

    Args:
        faceset: has `train` and no `validation`.
        fraction: part of each class that moves, in (0, 1); at least one image of each class moves.
        seed: decides which.
        drop_leaked_from: splits, e.g. "public_test"; training images that occur in one of them are left out of the
            result before carving.

    Returns:
        A FaceSet with the same rows in the same order (less the dropped ones). Copies with different labels count
        as the class that most of them have.

    Raises:
        ValueError: for a fraction outside (0, 1), a missing `train`, an existing `validation`, or a class with a single
            distinct image.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"Expected a fraction between 0 and 1, found {fraction}.")
    there = faceset.splits()
    if "train" not in there or "validation" in there:
        raise ValueError(
            f"Expected a FaceSet with train and without validation, found {', '.join(there) or 'no rows'}."
        )
    hashes = image_hashes(faceset.images)
    if drop_leaked_from is not None:
        leaked_from = [drop_leaked_from] if isinstance(drop_leaked_from, str) else list(drop_leaked_from)
        absent = [split for split in leaked_from if split not in there or split == "train"]
        if absent:
            raise ValueError(
                f"Expected drop_leaked_from among {', '.join(there)} less train, found {', '.join(absent)}."
            )
        leaked = np.isin(hashes, hashes[np.isin(faceset.split, leaked_from)]) & (faceset.split == "train")
        faceset, hashes = faceset.subset(~leaked), hashes[~leaked]
    train = np.flatnonzero(faceset.split == "train")
    group, group_class, group_size = _distinct(hashes[train], faceset.labels[train], len(faceset.names))
    generator = np.random.default_rng(seed)
    moved = np.zeros(len(group_size), bool)
    for code, name in enumerate(faceset.names):
        mine = np.flatnonzero(group_class == code)
        if not len(mine):
            continue
        if len(mine) == 1:
            raise ValueError(f"Expected two distinct training images of {name} at least, found one; nothing to carve.")
        wanted = max(1, round(fraction * group_size[mine].sum()))
        taken = 0
        for candidate in generator.permutation(mine)[:-1]:  # one distinct image always stays
            if taken + group_size[candidate] <= wanted:
                moved[candidate] = True
                taken += group_size[candidate]
            if taken == wanted:
                break
        if not taken:  # nothing but large groups: take the smallest
            moved[mine[group_size[mine].argmin()]] = True
    split = faceset.split.astype("<U12")
    split[train[moved[group]]] = "validation"
    return replace(faceset, split=split)


def stratified_folds(faceset: FaceSet, folds: int, seed: int = 0) -> np.ndarray:
    """Deal images to folds for cross-validation: every class evenly, copies of one image into one fold.

    Args:
        faceset: images of any split; which of them are dealt is the caller's choice.
        folds: how many, at least 2.
        seed: decides which image goes where.

    Returns:
        (N,) int64, the fold of each image, 0 to folds - 1. Two folds differ by one image of a class at most, or by as
        many as its most frequent copies: the largest groups are dealt first, each to the fold that has least of their
        class. Copies with different labels count as the class that most of them have.

    Raises:
        ValueError: fewer than two folds, or a class with fewer distinct images than folds.
    """
    if folds < 2:
        raise ValueError(f"Expected two folds at least, found {folds}.")
    group, group_class, group_size = _distinct(image_hashes(faceset.images), faceset.labels, len(faceset.names))
    generator = np.random.default_rng(seed)
    fold_of = np.zeros(len(group_size), np.int64)
    total = np.zeros(folds, np.int64)
    for code, name in enumerate(faceset.names):
        mine = generator.permutation(np.flatnonzero(group_class == code))
        if 0 < len(mine) < folds:
            raise ValueError(
                f"Expected {folds} distinct images of {name} at least, one for each fold, found {len(mine)}; "
                "ask for fewer folds."
            )
        dealt = [(0, int(total[fold]), fold) for fold in range(folds)]  # least of this class first, then least of all
        heapq.heapify(dealt)
        for candidate in mine[np.argsort(-group_size[mine], kind="stable")]:
            here, all_before, fold = dealt[0]
            fold_of[candidate] = fold
            total[fold] += group_size[candidate]
            heapq.heapreplace(dealt, (here + int(group_size[candidate]), all_before, fold))
    return fold_of[group]


def _distinct(hashes: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Copies together: the group (N,) of each image, and each group's class (the most frequent) and size, (G,)."""
    _, group = np.unique(hashes, return_inverse=True)
    votes = np.zeros((group.max(initial=-1) + 1, classes), np.int64)  # copies by group and class
    np.add.at(votes, (group, labels), 1)
    return group, votes.argmax(1), votes.sum(1)


def cap_per_class(faceset: FaceSet, cap: int, seed: int = 0) -> FaceSet:
    """Return at most `cap` random images of each class, in the order of the rows; smaller classes stay whole."""
    if cap < 1:
        raise ValueError(f"Expected at least one image per class, found {cap}.")
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(faceset.labels == code) for code in range(len(faceset.names))]
    kept = [rows if len(rows) <= cap else generator.choice(rows, cap, replace=False) for rows in classes]
    return faceset.subset(np.sort(np.concatenate(kept)))
