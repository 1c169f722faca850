"""ExpW, the Expression in-the-Wild set: faces in photographs from the web, with boxes; it has no official split.

Zhang, Luo, Loy, Tang, "From Facial Expression Recognition to Interpersonal Relation Prediction", IJCV 126, 2018
(arXiv 1609.06426): 91,793 faces, seven classes. How to get it: data/README.md.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferkit import labels
from ferkit.data.faceset import FaceSet
from ferkit.data.io import lists
from ferkit.data.io.cache import cache_folder
from ferkit.data.io.pictures import Listing, missing_rows, store
from ferkit.files import replacing, sha256

#: Faces per class of the whole set, in ExpW's label order, as commonly counted. Their sum is 91,793.
OFFICIAL_COUNTS = (3671, 3995, 1088, 30537, 10559, 7060, 34883)
FIELDS = ("image_name", "face_id", "top", "left", "right", "bottom", "confidence", "label")
#: How the faces can be split.
RULES = ("by_photo", "resemotenet")
LIST_NAMES = ("label/label.lst", "label.lst", "ExpW/label/label.lst", "ExpW/label.lst")
PICTURE_FOLDERS = ("image/origin", "origin", "image", "images")
_SPLITS = ("train", "validation", "test")


class Listed(NamedTuple):
    """Of each face what `FIELDS` say, and its line in the list."""

    files: list[str]
    face_ids: list[int]
    lines: list[int]
    boxes: np.ndarray  # (N, 4) left, top, right, bottom
    confidence: np.ndarray
    labels: np.ndarray


def load_expw(
    path: str | os.PathLike[str] | None = None,
    *,
    size: int = 112,
    margin: float = 0.0,
    split: str = "by_photo",
    seed: int = 0,
    split_file: str | os.PathLike[str] | None = None,
    min_confidence: float = 0.0,
    missing: str = "error",
    workers: int | None = None,
    progress: bool = True,
) -> FaceSet:
    """Load ExpW from its folder; decoded once, memory-mapped from the cache afterwards.

    Args:
        path: folder with `label/label.lst` (or `label.lst`) and the photographs in `image/origin/` (or `image/`).
            Default: environment variable FERKIT_EXPW, else `data/raw/expw`.
        size: side of the faces in pixels.
        margin: part of the box that is added on each side.
        split: the rule that makes the split file if there is none yet. "by_photo": 70 % train, 10 % validation and 20 %
            test of each class, all faces of one photograph on one side. "resemotenet": as the counts in ResEmoteNet's
            Table II imply, of each class floor(0.7 n) faces train, ceil(0.33 h) of the other h test, the rest
            validation, faces of one photograph wherever they fall; the paper's own lists were not published, and its
            Surprise has one more training face than the rule.
        seed: decides which faces.
        split_file: csv with image_name, face_id and split. One that exists is used, whatever `split` and `seed` say,
            and must name exactly the listed faces; otherwise it is written. Default: a file in the cache folder, named
            after rule, seed and list. Publish it with a result: accuracies on other splits cannot be compared.
        min_confidence: faces whose box has less are left out, after the split.
        missing: "error", or "drop" to leave out faces whose photographs are not there.
        workers: threads that decode; default one per processor, eight at most.
        progress: show a bar where decoding takes more than two seconds.

    Returns:
        FaceSet of (N, 3, size, size) RGB images, `names` in ExpW's own order, splits `train`, `validation`, `test`;
        `extras` holds `confidence` of the box (float32), `file` and `face_id`. `source` has the sha256 of the split
        file.

    Raises:
        FileNotFoundError: where there is nothing to read, or a photograph is missing.
        ValueError: where the content is not ExpW, or the split file does not fit; the sentence names the row.
    """
    if split not in RULES:
        raise ValueError(f"Expected a split among {', '.join(RULES)}, found {split!r}.")
    root = lists.find_folder(path, "FERKIT_EXPW", "expw", "ExpW")
    listed = lists.first_file(root, LIST_NAMES)
    if listed is None:
        raise FileNotFoundError(
            f"Expected label/label.lst or label.lst in {root}, found neither. data/README.md shows the layout."
        )
    base = listed.parent.parent if listed.parent.name == "label" else listed.parent
    pictures = lists.first_folder(base, PICTURE_FOLDERS)
    if pictures is None:
        raise FileNotFoundError(
            f"Expected the photographs in {base / PICTURE_FOLDERS[0]} or {base / 'image'}, found neither; "
            "unpack them there."
        )
    rows = read_list(listed)
    file = (
        Path(split_file)
        if split_file is not None
        else cache_folder() / f"expw-split-{split}-{seed}-{sha256(listed)[:16]}.csv"
    )
    if not file.is_file():
        _write_split(file, rows, _by_photo(rows, seed) if split == "by_photo" else _resemotenet(rows.labels, seed))
    sides, split_sha256 = _read_split(file, rows)
    kept = np.flatnonzero(rows.confidence >= min_confidence)
    if not len(kept):
        raise ValueError(
            f"Expected faces with a confidence of {min_confidence:g} or more in {listed.name}, found none."
        )
    there = missing_rows(_listing(pictures, rows, kept, listed.name), missing)
    dropped, kept = len(kept) - len(there), kept[there]
    faces = store(
        "expw",
        _listing(pictures, rows, kept, listed.name),
        size=size,
        margin=margin,
        workers=workers,
        progress=progress,
    )
    note = (
        f"{listed.name}; split {file.name}, sha256 "
        f"{split_sha256[:16]}{f'; {dropped} faces without photograph left out' if dropped else ''}"
    )
    return FaceSet(
        images=faces.images,
        labels=rows.labels[kept],
        names=labels.order("expw"),
        split=sides[kept],
        name="expw",
        source=f"{root.name} ({note})",
        sha256=lists.combined_sha256(faces.sha256, rows.labels[kept], sides[kept]),
        extras={
            "confidence": rows.confidence[kept].astype(np.float32),
            "file": np.array([rows.files[row] for row in kept]),
            "face_id": np.array([rows.face_ids[row] for row in kept]),
        },
    )


def _listing(pictures: Path, rows: Listed, kept: np.ndarray, name: str) -> Listing:
    lines = [rows.lines[row] for row in kept]
    return Listing(
        root=pictures,
        files=[rows.files[row] for row in kept],
        place=lambda row: f"{name}, row {lines[row]}",
        boxes=rows.boxes[kept],
    )


def read_list(path: Path, faults: list[str] | None = None) -> Listed:
    """Read lines "image_name face_id top left right bottom confidence label"; a wrong row raises,
    or is left out and added to `faults`.
    """
    files: list[str] = []
    face_ids: list[int] = []
    lines: list[int] = []
    numbers: list[tuple[float, ...]] = []
    seen: dict[tuple[str, int], int] = {}
    for line, text in lists.read_lines(path):
        try:
            fields = text.rsplit(maxsplit=7)  # a name may hold blanks
            if len(fields) != 8:
                raise ValueError(f"expected 8 fields ({' '.join(FIELDS)}), found {len(fields)}")
            name = lists.picture_name(fields[0])
            face = lists.whole_number(fields[1], "a face_id", 0, 10**6)
            top, left, right, bottom = (
                lists.number(value, f"{what} of the box") for what, value in zip(FIELDS[2:6], fields[2:6], strict=True)
            )
            if right <= left or bottom <= top:
                raise ValueError(
                    f"expected a box with top < bottom and left < right, found top {top:g}, left {left:g}, right "
                    f"{right:g}, bottom {bottom:g}"
                )
            confidence = lists.number(fields[6], "the confidence")
            label = lists.whole_number(fields[7], "a label", 0, 6)
            if (name, face) in seen:
                raise ValueError(f"face {face} of {name} is in row {seen[name, face]} already")
        except ValueError as error:
            lists.refuse(f"{path.name}, row {line}: {error}.", faults)
            continue
        seen[name, face] = line
        files.append(name)
        face_ids.append(face)
        lines.append(line)
        numbers.append((left, top, right, bottom, confidence, label))
    if not files:
        lists.refuse(f"Expected rows of faces in {path.name}, found none.", faults)
    table = np.array(numbers).reshape(-1, 6)
    return Listed(files, face_ids, lines, table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _resemotenet(codes: np.ndarray, seed: int) -> np.ndarray:
    """Two cuts of each class: floor(0.7 n) train, then ceil(0.33 h) of the other h test and the rest validation."""
    generator = np.random.default_rng(seed)
    sides = np.empty(len(codes), "<U10")
    for code in range(7):
        rows = generator.permutation(np.flatnonzero(codes == code))
        train = 7 * len(rows) // 10
        test = -(-33 * (len(rows) - train) // 100)
        sides[rows[:train]], sides[rows[train : train + test]], sides[rows[train + test :]] = (
            "train",
            "test",
            "validation",
        )
    return sides


def _by_photo(rows: Listed, seed: int) -> np.ndarray:
    """Photographs, each counted as the class most of its faces have, go to 70 % train, 20 % test and 10 % validation.
    """
    generator = np.random.default_rng(seed)
    photos, photo = np.unique(np.array(rows.files), return_inverse=True)
    votes = np.zeros((len(photos), 7), np.int64)
    np.add.at(votes, (photo, rows.labels), 1)
    side = np.empty(len(photos), "<U10")
    for code in range(7):
        mine = generator.permutation(np.flatnonzero(votes.argmax(1) == code))
        before = np.cumsum(votes[mine].sum(1)) - votes[mine].sum(1)  # faces placed before each photograph
        part = before / max(1, votes[mine].sum())
        side[mine] = np.where(part < 0.7, "train", np.where(part < 0.9, "test", "validation"))
    return side[photo]


def _write_split(file: Path, rows: Listed, sides: np.ndarray) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_name", "face_id", "split"])
    writer.writerows(zip(rows.files, rows.face_ids, sides.tolist(), strict=True))
    try:
        with replacing(file) as temporary:
            temporary.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise OSError(
            f"Expected to write the split to {file}, but {error.strerror or error}; name a place with split_file=."
        ) from None


def _read_split(file: Path, rows: Listed) -> tuple[np.ndarray, str]:
    """Return the side of each face, and the file's sha256."""
    data = file.read_bytes()
    try:
        table = list(csv.reader(io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")))
    except csv.Error as error:
        raise ValueError(
            f"Expected {file.name} as a csv, but it cannot be read ({error}); delete it to have it written anew."
        ) from None
    header = [name.strip() for name in table[0]] if table else []
    if header != ["image_name", "face_id", "split"]:
        raise ValueError(
            f"Expected the columns image_name, face_id, split in {file.name}, found "
            f"{', '.join(repr(name[:40]) for name in header[:5]) or 'nothing'}."
        )
    wanted = {face: row for row, face in enumerate(zip(rows.files, rows.face_ids, strict=True))}
    sides = np.full(len(wanted), "", "<U10")
    for line, fields in enumerate(table[1:], 2):
        if not fields:
            continue
        try:
            if len(fields) != 3:
                raise ValueError(f"expected three columns, found {len(fields)}")
            face = fields[0], lists.whole_number(fields[1], "a face_id", 0, 10**6)
            if face not in wanted:
                raise ValueError(
                    f"face {face[1]} of {face[0][:100]!r} is not in the label list; the split is of another list"
                )
            if fields[2] not in _SPLITS:
                raise ValueError(f"expected a split among {', '.join(_SPLITS)}, found {fields[2][:40]!r}")
            if sides[wanted[face]]:
                raise ValueError(f"face {face[1]} of {face[0]} is named twice")
        except ValueError as error:
            raise ValueError(f"{file.name}, row {line}: {error}.") from None
        sides[wanted[face]] = fields[2]
    absent = np.flatnonzero(sides == "")
    if len(absent):
        row = int(absent[0])
        raise ValueError(
            f"Expected a split for every face in {file.name}, found none for {len(absent):,}, first face "
            f"{rows.face_ids[row]} of {rows.files[row]}."
        )
    return sides, hashlib.sha256(data).hexdigest()
