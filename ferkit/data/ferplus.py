r"""FER+: ten raters' votes for every image of FER2013.

Barsoum, Zhang, Canton Ferrer, Zhang, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", ICMI 2016 (arXiv 1608.01041). The rules below are those of the authors' reader, which the paper's text
leaves partly open: microsoft/FERPlus @ 06447e00c28cad602381a37bd66a37313b41a1ef, src/ferplus.py. Before every rule a
single vote for a column is removed as an outlier.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferkit import labels
from ferkit.data.faceset import FaceSet
from ferkit.data.fer2013 import USAGES, find_source, load_fer2013
from ferkit.data.io.archives import csv_rows
from ferkit.files import sha256

MODES = ("majority", "probability", "multi_target")
VOTES_NAME = "fer2013new.csv"
_EMOTIONS = len(labels.order("ferplus"))
# On the real files 68 % of the majorities agree with FER2013's label, and among any 80 neighbours at least 48 %; where
# rows are shifted by one or shuffled, 18 % do, and among 80 neighbours at most 35 %.
LEAST_AGREEMENT, _WINDOW, _ENOUGH_ROWS = 0.42, 80, 200


class Votes(NamedTuple):
    """The vote file, row by row.

    Attributes:
        usage: (N,) strings, the split of each row in FaceSet's words.
        image: (N,) strings, the file name the vote file gives, "" for rows it marks as no face. Not unique, and not
            derived from the row number.
        counts: int64 (N, 10), votes for `labels.FERPLUS_COLUMNS`: eight emotions, unknown, not a face.
    """

    usage: np.ndarray
    image: np.ndarray
    counts: np.ndarray


def load_ferplus(
    fer2013_path: str | os.PathLike[str] | None = None,
    votes_path: str | os.PathLike[str] | None = None,
    mode: str = "majority",
) -> FaceSet:
    """Load FER2013's images with FER+'s eight labels; images without a label by the rule are left out.

    Args:
        fer2013_path: FER2013 as csv (see `load_fer2013`): images and votes are joined by row order, which the other
            layouts have lost. A copy that ends early gets the first rows of the votes.
        votes_path: fer2013new.csv; default: the file of that name beside FER2013's.
        mode: the rule for the training images, see `vote_targets`. The other splits always use "majority", as the
            authors' training script does, so that every mode is scored on the same images.

    Returns:
        FaceSet with `labels` the label of the rule and `votes` (N, 8), each row summing to 1: for training images in
        the modes "probability" and "multi_target" the distribution to train on, otherwise all eight cleaned counts
        as a distribution.

    Raises:
        FileNotFoundError: where one of the files is missing.
        ValueError: where the votes do not belong to these rows; the sentence names the first row that disagrees.
    """
    if mode not in MODES:
        raise ValueError(f"Expected a mode of FER+, found {mode!r}. Known: {', '.join(MODES)}.")
    source = find_source(fer2013_path)
    if not source.is_file() or source.suffix == ".parquet":
        raise ValueError(
            "Expected FER2013 as the contest's csv, because FER+ is joined by row order, found "
            f"{'parquet' if source.is_file() else 'a folder without it'} at {source}. data/README.md "
            "says how to get it."
        )
    path = Path(votes_path).expanduser() if votes_path else source.parent / VOTES_NAME
    votes = read_votes(path)
    faces = load_fer2013(source)
    n = len(faces)
    if len(votes.usage) < n:
        raise ValueError(f"Expected votes for all {n:,} images, found {len(votes.usage):,} rows in {path.name}.")
    differs = np.flatnonzero(votes.usage[:n] != faces.split)
    if len(differs):
        row = int(differs[0])
        raise ValueError(
            f"Expected {path.name} in the row order of {faces.source}, but data row {row + 1} is "
            f"{votes.usage[row]} there and {faces.split[row]} in FER2013 ({len(differs):,} rows differ)."
        )
    counts, train = votes.counts[:n], faces.split == "train"
    _, majority = vote_targets(counts, "majority")
    _check_order(faces, majority, path)
    targets, chosen = vote_targets(counts, mode)
    found = np.where(train, chosen, majority)
    cleaned = clean_votes(counts)[:, :_EMOTIONS]
    cleaned /= np.maximum(cleaned.sum(1, keepdims=True), 1)
    soft = train & (mode != "majority")
    rows = np.flatnonzero(found >= 0)
    return replace(
        faces.subset(rows),
        labels=found[rows],
        names=labels.order("ferplus"),
        votes=np.where(soft[:, None], targets, cleaned)[rows],
        name="ferplus",
        source=f"{faces.source} with {path.name}, {mode}",
        sha256=hashlib.sha256(f"{faces.sha256} {sha256(path)}".encode()).hexdigest(),
    )


def read_votes(path: str | os.PathLike[str]) -> Votes:
    """Read fer2013new.csv (columns Usage, Image name, eight emotions, unknown, NF). Raises ValueError by row."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the FER+ votes ({VOTES_NAME}) at {path}, found no file there. data/README.md says how to get it."
        )
    usage: list[str] = []
    image: list[str] = []
    counts: list[list[int]] = []
    with csv_rows(path, (VOTES_NAME,)) as rows:
        header = [name.strip().lower() for name in next(rows, [])]
        wanted = ["usage", "image name", *(name.lower() for name in labels.FERPLUS_COLUMNS)]
        absent = [name for name in wanted if name not in header]
        if absent:
            raise ValueError(f"Expected the columns {', '.join(wanted)} in {path.name}, found no {', '.join(absent)}.")
        place = [header.index(name) for name in wanted]
        for number, row in enumerate(rows, start=1):
            where = f"{path.name}, data row {number}"
            if len(row) != len(header):
                raise ValueError(f"{where}: expected {len(header)} columns, found {len(row)}; the file may be cut off.")
            split, name, *cells = (row[column].strip() for column in place)
            if split not in USAGES:
                raise ValueError(f"{where}: expected Usage among {', '.join(USAGES)}, found {split[:40]!r}.")
            odd = [
                cell for cell in cells if not (cell.isascii() and cell.isdigit() and len(cell) < 3 and int(cell) <= 10)
            ]
            if odd:
                raise ValueError(f"{where}: expected vote counts from 0 to 10, found {odd[0][:40]!r}.")
            usage.append(USAGES[split])
            image.append(name)
            counts.append([int(cell) for cell in cells])
    if not counts:
        raise ValueError(f"Expected rows of votes in {path.name}, found a header and nothing below it.")
    return Votes(np.array(usage), np.array(image), np.array(counts, np.int64))


def clean_votes(counts: np.ndarray) -> np.ndarray:
    """Return the counts as float (N, 10) without outliers: a column with a single vote counts as none."""
    return np.where(counts > 1, counts, 0).astype(float)


def vote_targets(counts: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    r"""Turn vote counts into target distributions over the eight emotions.

    All rules look at the cleaned counts $v_k$ of the ten columns and at their sum $V$:

    - "majority": the column with $v_k > V/2$, one-hot. No such column: no label.
    - "probability": columns from the largest down, equal ones together, until $0.75 V$ or three columns are
      collected, or unknown or not-a-face is met. No label where that one comes first, where not more than $V/2$ is
      collected, or where ties bring in more than three. The paper draws a label from this distribution in each
      epoch, or takes the cross-entropy to it.
    - "multi_target": all columns with $v_k \ge 0.3 V$, each as good as the others, $t_k = 1$ (here divided by their
      number); the loss is $-\log \max_k t_k p_k$. No label where they hold not more than $V/2$.

    In every rule an image whose largest collected column is unknown or not a face has no label; the two columns are
    removed from the others and the rest sums to 1.

    Args:
        counts: (N, 10), columns as `labels.FERPLUS_COLUMNS`.
        mode: one of `MODES`.

    Returns:
        targets (N, 8), zeros where there is no label, and the labels, int64 (N,): the largest count collected, the
        first of equals; -1 where there is none.
    """
    if mode not in MODES:
        raise ValueError(f"Expected a mode of FER+, found {mode!r}. Known: {', '.join(MODES)}.")
    if counts.ndim != 2 or counts.shape[1] != len(labels.FERPLUS_COLUMNS):
        raise ValueError(f"Expected vote counts of shape (N, {len(labels.FERPLUS_COLUMNS)}), found {counts.shape}.")
    votes = clean_votes(counts)
    total = votes.sum(1, keepdims=True)
    if mode == "majority":
        taken = np.where(votes > 0.5 * total, votes, 0)
    elif mode == "multi_target":
        taken = np.where((votes >= 0.3 * total) & (votes > 0), votes, 0)
    else:
        taken = _collect(votes, total)
    keep = (taken.sum(1) > 0.5 * total[:, 0]) & (taken.argmax(1) < _EMOTIONS)
    targets = np.where(keep[:, None], taken[:, :_EMOTIONS], 0)
    if mode == "multi_target":
        targets = (targets > 0).astype(float)
    return targets / np.maximum(targets.sum(1, keepdims=True), 1), np.where(keep, taken.argmax(1), -1)


def _collect(votes: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the counts that the rule "probability" collects, (N, 10); a row of zeros where ties bring in too many."""
    left, taken = votes.copy(), np.zeros_like(votes)
    going = total[:, 0] > 0
    for _ in range(3):
        going &= (taken.sum(1) < 0.75 * total[:, 0]) & ((taken > 0).sum(1) < 3)
        largest = left.max(1, keepdims=True)
        top = (left == largest) & going[:, None]
        meets_other = top[:, _EMOTIONS:].any(1)
        # unknown or not a face: ends the collecting; it is kept only where no emotion was collected before or with it
        first_other = meets_other & ~(taken.any(1) | top[:, :_EMOTIONS].any(1))
        top[:, _EMOTIONS:] &= first_other[:, None]
        taken = np.where(top, largest, taken)
        left = np.where(top, 0, left)
        going &= ~meets_other
    return np.where((taken > 0).sum(1, keepdims=True) > 3, 0, taken)


def first_disagreement(codes: np.ndarray, names: Sequence[str], majority: np.ndarray) -> tuple[int, float] | None:
    """Return the row where votes stop to belong to labels, and how many majorities agree around it; None where all do.

    Args:
        codes: (N,) FER2013's labels.
        names: what they mean, in label order.
        majority: (N,) labels of the votes in the order of FER+, -1 where there is none.

    Rows that are shifted somewhere are found by looking at every run of 80 neighbours with a majority. Fewer than 200
    rows with a majority say too little.
    """
    rows = np.flatnonzero(majority >= 0)
    if len(rows) < _ENOUGH_ROWS:
        return None
    agrees = np.asarray(labels.index_map(names, "ferplus"))[codes[rows]] == majority[rows]
    counted = np.concatenate([[0], np.cumsum(agrees)])
    share = (counted[_WINDOW:] - counted[:-_WINDOW]) / _WINDOW  # of the rows from each one on
    low = np.flatnonzero(share < LEAST_AGREEMENT)
    if not len(low):
        return None
    # a run of neighbours is low once about half of it does not belong, so what does not begins and ends in the middle
    # of one
    last = low[np.flatnonzero(np.diff(low, append=len(agrees) + 2) > 1)[0]]
    start = 0 if low[0] == 0 else int(low[0]) + _WINDOW // 2
    stop = len(agrees) if last == len(share) - 1 else int(last) + _WINDOW // 2
    return int(rows[start]), float(agrees[start : max(stop, start + _WINDOW // 2)].mean())


def _check_order(faces: FaceSet, majority: np.ndarray, path: Path) -> None:
    """Refuse votes that have little to do with the labels of FER2013 anywhere: the rows are in another order there."""
    found = first_disagreement(faces.labels, faces.names, majority)
    if found is not None:
        row, share = found
        raise ValueError(
            f"Expected most majorities of {path.name} to agree with FER2013's labels, found {share:.0%} from about "
            f"data row {row + 1:,} on: the rows of {faces.source} are shifted there, or not in the contest's order. "
            "Use an unsorted, whole fer2013.csv or icml_face_data.csv."
        )
