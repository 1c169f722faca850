"""What AffectNet's two releases say of each face: training.csv and validation.csv, or a million small npy files;
read once and kept.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferkit.data.io import lists
from ferkit.data.io.archives import csv_rows
from ferkit.data.io.cache import cache_folder, source_sha256
from ferkit.faces.crop import five_of_68
from ferkit.files import replacing

COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip
#: Labels of the csv release that are no emotions: none, uncertain, no face.
LAST_LABEL = 10
LIST_FOLDERS = (
    "",
    "Manually_Annotated_file_lists/",
    "Manually_Annotated/Manually_Annotated_file_lists/",
    "Manually_Annotated/",
)
_PICTURE_FOLDERS = (
    "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated_compressed",
    "Manually_Annotated_extracted", "Manually_Annotated", "images", "Images", ".",
)  # fmt: skip
_VERSION = 1


class Table(NamedTuple):
    """Rows of the data set, all classes: files below `root`, places for messages, label, split,
    and what is said of the face.
    """

    root: Path
    files: list[str]
    places: list[str]
    labels: np.ndarray
    split: np.ndarray
    valence: np.ndarray
    arousal: np.ndarray
    boxes: np.ndarray | None
    landmarks: np.ndarray  # (N, 5, 2) float32, NaN where absent or not asked for
    layout: str


def _read_once(key: str, columns: tuple[str, ...], read: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the columns kept under `key`, reading them where there are none;
    where they cannot be kept they are read each time.
    """
    kept = cache_folder() / f"affectnet-table-v{_VERSION}-{key[:32]}.npz"
    with (
        suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error),
        np.load(kept, allow_pickle=False) as file,
    ):
        return {name: file[name] for name in columns}
    table = read()
    with suppress(OSError), replacing(kept) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **table)  # type: ignore[arg-type]
    return table


# ---------------------------------------------------------------------------------------------------------- csv release


def read_csv_release(root: Path, align: bool, faults: list[str] | None = None) -> Table:
    """Read the csv release below `root`; landmarks only with `align`.

    A wrong row raises, or is left out and added to `faults`.
    """
    parts = []
    for split, name in (("train", "training.csv"), ("test", "validation.csv")):
        path = lists.first_file(root, [f"{folder}{name}" for folder in LIST_FOLDERS])
        if path is None:
            raise FileNotFoundError(
                f"Expected {name} beside {'validation' if split == 'train' else 'training'}.csv in {root}, found "
                "none; copy it too."
            )
        if faults is not None:
            parts.append((split, name, _read_csv(path, align, faults)))
            continue
        key = hashlib.sha256(f"{source_sha256([path], path)} {align}".encode()).hexdigest()
        parts.append(
            (split, name, _read_once(key, ("files", "lines", "numbers", "landmarks"), partial(_read_csv, path, align)))
        )
    files = [
        file
        for _, _, part in parts
        if len(part["lines"])
        for file in part["files"].tobytes().decode("utf-8").split("\n")
    ]
    folder = next((name for name in _PICTURE_FOLDERS if files and (root / name / files[0]).is_file()), None)
    folder = folder or next(name for name in _PICTURE_FOLDERS if (root / name).is_dir())
    places = [f"{name}, row {line}" for _, name, part in parts for line in part["lines"]]
    table = np.concatenate([part["numbers"] for _, _, part in parts])
    x, y, width, height = table[:, :4].T
    sides = np.concatenate([np.full(len(part["lines"]), split) for split, _, part in parts])
    return Table(
        root / folder, files, places, table[:, 4].astype(np.int64), sides, table[:, 5], table[:, 6],
        np.stack([x, y, x + width, y + height], 1), np.concatenate([part["landmarks"] for _, _, part in parts]),
        "csv release",
    )  # fmt: skip


def _read_csv(path: Path, align: bool, faults: list[str] | None = None) -> dict[str, np.ndarray]:
    """Return of each row with an emotion: file (all in one text), line, (x, y, width, height, label, valence, arousal),
    landmarks.
    """
    seen: dict[str, int] = {}
    numbers: list[tuple[float, ...]] = []
    landmarks: list[np.ndarray] = []
    columns: list[int] = []
    with csv_rows(path, ()) as rows:
        for line, row in enumerate(rows, 1):
            try:
                if line == 1:
                    columns = _columns(row)
                    if row[0].strip() == COLUMNS[0] or columns != list(range(9)):
                        continue
                file, values, points = _csv_row(row, columns, align)
                if file is None:
                    continue
                if file in seen:
                    raise ValueError(f"{file} is in row {seen[file]} already; a face has one label")
            except ValueError as error:
                lists.refuse(f"{path.name}, row {line}: {error}.", faults)
                if not columns:  # the header itself is wrong, so nothing below it can be read
                    break
                continue
            seen[file] = line
            numbers.append(values)
            landmarks.append(points)
    if not seen:
        lists.refuse(f"Expected rows with labels 0 to 7 in {path.name}, found none.", faults)
    return {
        "files": np.frombuffer("\n".join(seen).encode(), np.uint8),
        "lines": np.array(list(seen.values()), np.int64),
        "numbers": np.array(numbers, np.float64).reshape(-1, 7),
        "landmarks": np.array(landmarks, np.float32).reshape(-1, 5, 2),
    }


def _columns(first: list[str]) -> list[int]:
    """Return where each of `COLUMNS` is; validation.csv has no header in some copies,
    then the order is the official one.
    """
    names = [name.strip() for name in first]
    if all(name in names for name in COLUMNS):
        return [names.index(name) for name in COLUMNS]
    absent = [name for name in COLUMNS if name not in names]
    if len(absent) < len(COLUMNS):
        raise ValueError(f"expected the columns {', '.join(COLUMNS)}, found no {absent[0]}")
    return list(range(9))


def _csv_row(row: list[str], columns: list[int], align: bool) -> tuple[str | None, tuple[float, ...], np.ndarray]:
    """Return file, (x, y, width, height, label, valence, arousal) and five points;
    None for the file of a row without emotion.
    """
    if len(row) <= max(columns):
        raise ValueError(f"expected {len(COLUMNS)} columns, found {len(row)}; the file may be cut off here")
    name, x, y, width, height, points, expression, valence, arousal = (row[column] for column in columns)
    label = lists.whole_number(expression, "an expression", 0, LAST_LABEL)
    if label > 7:
        return None, (), np.empty(0)
    box = (
        lists.number(x, "face_x"),
        lists.number(y, "face_y"),
        lists.number(width, "face_width", 1, 1e6),
        lists.number(height, "face_height", 1, 1e6),
    )
    affect = (lists.number(valence, "valence", -1, 1), lists.number(arousal, "arousal", -1, 1))
    return lists.picture_name(name), (*box, label, *affect), _points(points if align else "")


def _points(text: str) -> np.ndarray:
    """Return five points (5, 2) of 68 written "x;y;x;y;..."; NaN where there is nothing."""
    if not text.strip() or text.strip().upper() == "NULL":
        return np.full((5, 2), np.nan, np.float32)
    try:
        values = np.array(text.strip().strip(";").split(";"), np.float64)
    except ValueError:
        raise ValueError(f"expected facial_landmarks as numbers with ';' between them, found {text[:40]!r}") from None
    if values.size != 136:
        raise ValueError(f"expected 68 facial_landmarks (136 numbers), found {values.size} numbers")
    return five_of_68(values.reshape(68, 2)).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------- npy release


def read_npy_release(root: Path, faults: list[str] | None = None) -> Table:
    """Read the npy release of 2021 below `root`.

    An annotation that is wrong raises, or its picture is left out and it is added to `faults`.
    """
    parts = []
    for split, name in (("train", "train_set"), ("test", "val_set")):
        if not (root / name / "images").is_dir() or not (root / name / "annotations").is_dir():
            raise FileNotFoundError(
                f"Expected {name}/images and {name}/annotations in {root}, found not both; copy the whole release."
            )
        parts.append((split, name, _annotations(root / name / "annotations", name, faults)))
    files: list[str] = []
    places: list[str] = []
    for _, name, table in parts:
        there = {entry.name.rpartition(".")[0]: entry.name for entry in os.scandir(root / name / "images")}
        files += [f"{name}/images/{there.get(str(number), f'{number}.jpg')}" for number in table["ids"]]
        places += [f"{name}/annotations/{number}_exp.npy" for number in table["ids"]]
    joined = {
        key: np.concatenate([table[key] for _, _, table in parts])
        for key in ("labels", "valence", "arousal", "landmarks")
    }
    sides = np.concatenate([np.full(len(table["ids"]), split) for split, _, table in parts])
    return Table(
        root, files, places, joined["labels"], sides, joined["valence"], joined["arousal"], None, joined["landmarks"],
        "npy release of 2021",
    )  # fmt: skip


def _annotations(folder: Path, name: str, faults: list[str] | None = None) -> dict[str, np.ndarray]:
    """Read `<id>_exp.npy`, `_val`, `_aro` and, where it is there, `_lnd`; over a million small files,
    so they are kept as one.
    """
    state = hashlib.sha256()
    found: dict[int, set[str]] = {}
    entries = sorted(
        (entry for entry in os.scandir(folder) if entry.name.endswith(".npy")), key=lambda entry: entry.name
    )
    for entry in entries:
        stem, _, kind = entry.name[:-4].rpartition("_")
        if not (stem.isascii() and stem.isdigit() and kind in ("exp", "val", "aro", "lnd")):
            lists.refuse(
                f"Expected <number>_exp.npy, _val.npy, _aro.npy or _lnd.npy in {name}/annotations, found {entry.name}.",
                faults,
            )
            continue
        stat = entry.stat()
        state.update(f"{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        found.setdefault(int(stem), set()).add(kind)
    if not found:
        lists.refuse(f"Expected annotations such as 0_exp.npy in {name}/annotations, found none.", faults)
    if faults is not None:
        return _read_npy(folder, name, found, faults)
    columns = ("ids", "labels", "valence", "arousal", "landmarks")
    return _read_once(state.hexdigest(), columns, partial(_read_npy, folder, name, found))


def _read_npy(
    folder: Path, name: str, found: dict[int, set[str]], faults: list[str] | None = None
) -> dict[str, np.ndarray]:
    ids, read = sorted(found), []
    table: dict[str, np.ndarray] = {
        "ids": np.array(ids, np.int64),
        "labels": np.empty(len(ids), np.int64),
        "valence": np.empty(len(ids)),
        "arousal": np.empty(len(ids)),
        "landmarks": np.full((len(ids), 5, 2), np.nan, np.float32),
    }
    for row, number in enumerate(ids):
        absent = sorted({"exp", "val", "aro"} - found[number])
        if absent:
            sentence = (
                f"Expected {number}_{absent[0]}.npy in {name}/annotations beside the others of {number}, found none."
            )
            if faults is None:
                raise FileNotFoundError(sentence)
            faults.append(sentence)
            continue
        try:
            table["labels"][row] = lists.whole_number(*_cell(folder, number, "exp", "an expression"), 0, 7)
            table["valence"][row] = lists.number(*_cell(folder, number, "val", "valence"), -1, 1)
            table["arousal"][row] = lists.number(*_cell(folder, number, "aro", "arousal"), -1, 1)
            if "lnd" in found[number]:
                points = _array(folder, number, "lnd").astype(np.float64).ravel()
                if points.size != 136:
                    raise ValueError(f"expected 136 numbers in {number}_lnd.npy, found {points.size}")
                table["landmarks"][row] = five_of_68(points.reshape(68, 2))
        except ValueError as error:
            lists.refuse(f"{name}/annotations: {error}.", faults)
            continue
        read.append(row)
    return {key: column[read] for key, column in table.items()}


def _array(folder: Path, number: int, kind: str) -> np.ndarray:
    try:
        return np.load(folder / f"{number}_{kind}.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"expected {number}_{kind}.npy as a numpy file, but it cannot be read ({error}); copy it again"
        ) from None


def _cell(folder: Path, number: int, kind: str, what: str) -> tuple[str, str]:
    """Return the one value of a file as text, numbers and text alike, and what to call it in messages."""
    array = _array(folder, number, kind)
    if array.size != 1:
        raise ValueError(f"expected one value in {number}_{kind}.npy, found {array.size}")
    return str(array.reshape(-1)[0]), f"{what} in {number}_{kind}.npy"
