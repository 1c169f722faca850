r"""Equal, nearly equal and mirrored pictures, inside and across splits.

Equal pictures have the same digest. Near ones are looked for among the small grey pictures of the records: the 8 x 8
lowest frequencies of their cosine transform give 64 bits each (above the set's median or not: a perceptual hash), and
mirroring a picture only turns the sign of every second column. The hashes are sorted a few times, each time with their
bits in another order, and each is compared with its next neighbours: $O(n \log n)$, whatever the pictures are. A pair
counts if the correlation of the two small pictures is high enough, so that a bad hash can miss a pair but never make
one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.fft import dctn

from ferkit.data.faceset import SPLITS
from ferkit.doctor.report import Finding
from ferkit.doctor.scan import FLAGS, THUMB
from ferkit.doctor.survey import Survey

#: Correlation of the small pictures from which two count as near copies. Compared with all 502 million pairs of
#: FER2013's train and public test images, the search finds 95 % of those above it; 4 in 5 of them carry the same label,
#: as of the exact copies.
NEAR = 0.97
_HASH = 8
_ROUNDS, _NEIGHBOURS = 12, 6
_CHUNK = 1 << 15


class Near(NamedTuple):
    """Pairs of rows (M, 2), the lower first, whether each is mirrored (M,), and how alike they are (M,)."""

    pairs: np.ndarray
    mirrored: np.ndarray
    alike: np.ndarray


def usable(records: np.ndarray) -> np.ndarray:
    """Return which pictures could be opened, bool (N,)."""
    bad = FLAGS["missing"] | FLAGS["unreadable"] | FLAGS["too_large"] | FLAGS["deep"] | FLAGS["bad_box"]
    return (records["flags"] & bad) == 0


def groups(records: np.ndarray) -> np.ndarray:
    """Return a number per picture, equal for equal pictures, (N,); pictures that cannot be opened are alone."""
    keys = records["digest"].copy()
    lone = ~usable(records)
    _, group = np.unique(keys, return_inverse=True)
    group[lone] = group.max(initial=0) + 1 + np.arange(lone.sum())
    return group


def near_copies(records: np.ndarray, *, near: float = NEAR) -> Near:
    """Return pairs of pictures that are nearly equal or mirrored, without equal or blank ones."""
    group = groups(records)
    _, first = np.unique(group, return_index=True)
    rows = np.sort(first)
    rows = rows[usable(records)[rows] & ((records["flags"][rows] & FLAGS["blank"]) == 0)]
    if len(rows) < 2:
        return Near(np.empty((0, 2), np.int64), np.empty(0, bool), np.empty(0))
    thumbs = np.asarray(records["thumb"])
    hashes, mirrors = _hashes(thumbs, rows)
    n = len(rows)
    found: list[np.ndarray] = []
    for a, b in _candidates(np.concatenate([hashes, mirrors])):
        # entry i >= n is the mirror image of picture i - n; a pair of two mirror images says nothing new
        turned = (a >= n) != (b >= n)
        one, other = np.minimum(a % n, b % n), np.maximum(a % n, b % n)
        keep = (one != other) & ~((a >= n) & (b >= n))
        found.append(np.unique((one[keep] * n + other[keep]) * 2 + turned[keep]))
    codes = np.unique(np.concatenate(found))
    if not len(codes):
        return Near(np.empty((0, 2), np.int64), np.empty(0, bool), np.empty(0))
    left, right, turned = codes // 2 // n, codes // 2 % n, (codes % 2).astype(bool)
    alike = np.concatenate(
        [
            _alike(thumbs, rows[left[i : i + _CHUNK]], rows[right[i : i + _CHUNK]], turned[i : i + _CHUNK])
            for i in range(0, len(codes), _CHUNK)
        ]
    )
    keep = alike >= near
    return Near(np.stack([rows[left[keep]], rows[right[keep]]], 1), turned[keep], alike[keep])


def _hashes(thumbs: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of pictures and of their mirror images, (n,) uint64 each."""
    low = np.empty((len(rows), _HASH, _HASH), np.float32)
    for i in range(0, len(rows), _CHUNK):
        low[i : i + _CHUNK] = dctn(thumbs[rows[i : i + _CHUNK]].astype(np.float32), axes=(1, 2), norm="ortho")[
            :, :_HASH, :_HASH
        ]
    low[:, 0, 0] = 0  # brightness
    low /= np.maximum(np.sqrt((low**2).sum((1, 2), keepdims=True)), 1e-6)  # contrast
    turn = (-1.0) ** np.arange(_HASH, dtype=np.float32)
    level = np.median(low, axis=0)
    level[:, 1::2] = 0  # so that a picture and its mirror image are cut at the same place
    return _packed(low > level), _packed(low * turn > level)


def _packed(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits.reshape(len(bits), -1), axis=1).view(np.uint64).ravel()


def _candidates(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of places whose hashes are neighbours when sorted, each time with the bits in another order."""
    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1)
    generator = np.random.default_rng(0)
    for _ in range(_ROUNDS):
        shuffled = np.packbits(np.ascontiguousarray(bits[:, generator.permutation(64)]), axis=1).view(">u8").ravel()
        order = np.argsort(shuffled, kind="stable")
        for step in range(1, _NEIGHBOURS + 1):
            a, b = order[:-step], order[step:]
            # further apart than this no pair passes the comparison of the small pictures
            near = np.bitwise_count(hashes[a] ^ hashes[b]) <= 16
            yield a[near], b[near]


def _alike(thumbs: np.ndarray, a: np.ndarray, b: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Return the correlation of pairs of small pictures."""
    x, y = (thumbs[rows].astype(np.float32) for rows in (a, b))
    y[turned] = y[turned][:, :, ::-1]
    x, y = ((z - z.mean((1, 2), keepdims=True)).reshape(-1, THUMB * THUMB) for z in (x, y))
    return (x * y).sum(1) / np.maximum(np.sqrt((x**2).sum(1) * (y**2).sum(1)), 1e-6)


def check_copies(survey: Survey, records: np.ndarray, near: Near) -> list[Finding]:
    """Return what equal, near and mirrored pictures inside and across splits mean."""
    group, splits = groups(records), survey.split
    fine = usable(records)
    present = sorted(set(splits.tolist()), key=_rank)
    findings = []
    for i, evaluated in enumerate(present):
        mine = np.flatnonzero((splits == evaluated) & fine)
        extra = len(mine) - len(np.unique(group[mine]))
        if extra:
            seen, first, inverse = np.unique(group[mine], return_index=True, return_inverse=True)
            again = np.flatnonzero(first[inverse] != np.arange(len(mine)))
            told = [f"{_name(survey, mine[row])} = {_name(survey, mine[first[inverse[row]]])}" for row in again[:4]]
            findings.append(_finding(
                "warning", "copies_inside", extra, told, {"split": evaluated, "extra": extra},
                f"Expected every image of {evaluated} once, found {extra:,} extra exact copies of others; they count "
                "twice. Keep copies on one side of every new split (carve_validation does).",
            ))  # fmt: skip
        for other in present[:i]:
            theirs = np.flatnonzero((splits == other) & fine)
            leaked = mine[np.isin(group[mine], group[theirs])]
            if len(leaked):
                twin = {int(group[row]): row for row in theirs[::-1]}
                told = [f"{_name(survey, row)} = {_name(survey, twin[int(group[row])])}" for row in leaked[:4]]
                findings.append(_finding(
                    "warning",
                    "copies_across",
                    len(leaked),
                    told,
                    {"split": evaluated, "also_in": other, "rows": len(leaked)},
                    f"Expected no image of {evaluated} in {other}, found {len(leaked):,} of its {len(mine):,} that "
                    f"are also in {other}: accuracy on {evaluated} reads too high. Report it without them, too "
                    "(duplicate_mask), or drop them from training.",
                ))  # fmt: skip
    return findings + _conflicts(survey, group, fine) + _near(survey, near, present)


def _conflicts(survey: Survey, group: np.ndarray, fine: np.ndarray) -> list[Finding]:
    """Return groups of equal pictures with several labels."""
    order = np.lexsort((survey.labels, group))
    differs = (
        (group[order][1:] == group[order][:-1])
        & (survey.labels[order][1:] != survey.labels[order][:-1])
        & fine[order][1:]
    )
    places = np.flatnonzero(differs)
    torn = np.unique(group[order][places])
    if not len(torn):
        return []
    _, first = np.unique(group[order][places], return_index=True)
    pairs = [(order[places[i]], order[places[i] + 1]) for i in first[:4]]
    told = [
        f"{_name(survey, a)} {survey.names[survey.labels[a]]}, {_name(survey, b)} {survey.names[survey.labels[b]]}"
        for a, b in pairs
    ]
    sentence = (
        f"Expected one label per image, found {len(torn):,} groups of equal images with different labels; no "
        "network can be right on all of them. Decide, or leave them out."
    )
    return [_finding("warning", "conflicting_labels", len(torn), told, {"groups": len(torn)}, sentence)]


def _near(survey: Survey, near: Near, present: list[str]) -> list[Finding]:
    findings = []
    split = survey.split[near.pairs]  # (M, 2)
    for mirrored, code, word in (
        (False, "near_copies", "nearly equal to"),
        (True, "mirrored_copies", "mirror images of"),
    ):
        for i, evaluated in enumerate(present):
            for other in present[: i + 1]:
                pairs = near.pairs[
                    (near.mirrored == mirrored)
                    & ((split == (evaluated, other)).all(1) | (split == (other, evaluated)).all(1))
                ]
                if not len(pairs):
                    continue
                rows = np.unique(pairs[survey.split[pairs] == evaluated]) if evaluated != other else np.unique(pairs)
                told = [
                    f"{_name(survey, a)} ~ {_name(survey, b)}"
                    for a, b in ((a, b) if survey.split[a] == evaluated else (b, a) for a, b in pairs[:4])
                ]
                numbers = {"split": evaluated, "also_in": other, "pairs": len(pairs), "rows": len(rows)}
                if evaluated == other:
                    sentence = (
                        f"{len(rows):,} images of {evaluated} are {word} others of it; keep them on one "
                        "side when it is split."
                    )
                    findings.append(_finding("note", f"{code}_inside", len(pairs), told, numbers, sentence))
                else:
                    sentence = (
                        f"Expected no image of {evaluated} in {other} in any form, found {len(rows):,} that are "
                        f"{word} images of {other}: saved anew, scaled, mirrored or augmented before the split. Look "
                        "at some; split first, augment afterwards."
                    )
                    findings.append(_finding("warning", f"{code}_across", len(rows), told, numbers, sentence))
    return findings


def _rank(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)


def _name(survey: Survey, row: int) -> str:
    return survey.listing.files[row] if survey.listing is not None else survey.place(int(row))


def _finding(severity: str, code: str, count: int, told: list[str], numbers: dict[str, Any], sentence: str) -> Finding:
    examples = (*told[:3], *([f"and {count - 3:,} more"] if count > 3 else []))
    return Finding(
        severity=severity, code=code, sentence=sentence, count=int(count), examples=examples, numbers=numbers
    )
