"""Pictures of one's own: folders of one class each (ImageFolder), or a csv that names pictures and their emotions.

VEMO, the Residual Masking Network's private set, and most sets people make themselves come this way.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ferkit import labels
from ferkit.data.faceset import FaceSet
from ferkit.data.io import lists
from ferkit.data.io.archives import csv_rows
from ferkit.data.io.folders import IMAGES, class_tree, is_emotion, split_of
from ferkit.data.io.pictures import Listing, missing_rows, store

#: Files taken for pictures in class folders; what a csv names may end as it likes.
ENDINGS = (*IMAGES, ".webp", ".tif", ".tiff", ".gif")
#: Column names of a csv, in lower case: of the picture, of the emotion, of the split.
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img_path", "image_name", "pth"),
    "label": ("label", "emotion", "expression", "class"),
    "split": ("split", "usage", "subset", "partition"),
}


class Listed(NamedTuple):
    """Of each picture: file below the root, place for messages, label as it is written, and split."""

    files: list[str]
    places: list[str]
    labels: list[str]
    splits: list[str]


def load_folder(
    path: str | os.PathLike[str] | None = None,
    *,
    size: int = 112,
    order: str | Sequence[str] | None = None,
    missing: str = "error",
    workers: int | None = None,
    progress: bool = True,
) -> FaceSet:
    """Load pictures of one's own; decoded once, memory-mapped from the cache afterwards.

    Args:
        path: a folder with `<split>/<class>/*.jpg` or `<class>/*.jpg` (deeper folders belong to their class; splits are named
            train, val, test or alike), a csv with the columns path, label and perhaps split (others are passed over; paths
            are below the csv's folder), or a folder with one such csv. Without splits everything is `train`:
            `carve_validation` makes a validation split.
        size: side of the faces in pixels; whole pictures are scaled to a square.
        order: which class each number is, first to last, where classes are numbers: a key of `ferkit.labels.ORDERS` or a
            tuple of names. For classes that are words it only sets the order of `names`.
        missing: "error", or "drop" to leave out pictures that a csv names and that are not there.
        workers: threads that decode; default one per processor, eight at most.
        progress: show a bar where decoding takes more than two seconds.

    Returns:
        FaceSet of (N, 3, size, size) RGB images; `names` are those of `order`, else the emotions found, in the order of
        `ferkit.labels.EMOTIONS`; `extras["file"]` is the file of each image.

    Raises:
        FileNotFoundError: where there is nothing to read, or a picture is missing.
        ValueError: for classes that are no emotions (known words: `ferkit.labels.ALIASES`), numbers without `order` or
            outside of it, empty class folders, rows that cannot be read; the sentence names the folder or the row.
    """
    if path is None:
        raise ValueError("Expected the path of a folder or csv of your own, found none; there is no usual place for it.")
    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"Expected a folder of pictures or a csv at {place}, found nothing there. Check the path.")
    tree = class_tree(place, ENDINGS) if place.is_dir() else {}
    if has_classes(tree):
        root, layout, rows = place, "class folders", from_tree(tree)
    else:
        table = find_table(place)
        root, layout, rows = table.parent, table.name, read_table(table)
    names, emotions = _named(rows, order)
    there = missing_rows(Listing(root=root, files=rows.files, place=rows.places.__getitem__), missing)
    dropped = len(rows.files) - len(there)
    files, places = [rows.files[row] for row in there], [rows.places[row] for row in there]
    faces = store("folder", Listing(root=root, files=files, place=places.__getitem__), size=size, workers=workers, progress=progress)
    codes = np.array([names.index(emotions[rows.labels[row]]) for row in there], np.int64)
    split = np.array([rows.splits[row] for row in there])
    return FaceSet(
        images=faces.images,
        labels=codes,
        names=names,
        split=split,
        name="folder",
        source=f"{place.name} ({layout}{f'; {dropped} missing pictures left out' if dropped else ''})",
        sha256=lists.combined_sha256(faces.sha256, codes, split),
        extras={"file": np.array(files)},
    )


def has_classes(tree: dict[str, dict[str, list[str]]]) -> bool:
    """Return whether a `class_tree` has split folders, or a class folder that is an emotion or a number."""
    return bool(tree) and ("" not in tree or any(is_emotion(name) or name.isdigit() for name in tree[""]))


def find_table(place: Path) -> Path:
    """Return the csv that a path leads to: itself, or the only one in the folder. Raises FileNotFoundError or ValueError."""
    if place.is_file():
        return place
    tables = sorted(place.glob("*.csv"))
    if len(tables) > 1:
        raise ValueError(f"Expected one csv in {place}, found {', '.join(table.name for table in tables[:5])}; give the path of the one to read.")
    if not tables:
        raise FileNotFoundError(f"Expected class folders such as train/happy or happy, or a csv, in {place}; found neither. data/README.md shows both.")
    return tables[0]


def from_tree(tree: dict[str, dict[str, list[str]]], faults: list[str] | None = None) -> Listed:
    """Return the pictures of a `class_tree`; an empty class folder raises ValueError, or is added to `faults`."""
    rows = Listed([], [], [], [])
    for folder, classes in tree.items():
        if not classes:
            lists.refuse(f"Expected class folders in {folder or 'the folder'}, found none.", faults)
        for name, files in classes.items():
            where = f"{folder}/{name}" if folder else name
            if not files:
                lists.refuse(f"Expected pictures ({', '.join(ENDINGS)}) in {where}, found none; fill or remove the folder.", faults)
            rows.files.extend(files)
            rows.places.extend([f"folder {where}"] * len(files))
            rows.labels.extend([name] * len(files))
            rows.splits.extend([split_of(PurePosixPath(folder).name) or "train"] * len(files))
    return rows


def table_columns(header: list[str], what: str) -> dict[str, int]:
    """Return where path, label and, if there is one, split are. Raises ValueError where one is absent or named twice."""
    names = [name.strip().lower() for name in header]
    found = {key: [i for i, name in enumerate(names) if name in known] for key, known in COLUMNS.items()}
    shown = ", ".join(repr(name[:30]) for name in header[:10])
    if not found["path"] or not found["label"]:
        raise ValueError(f"Expected the columns path, label and perhaps split in {what}, found {shown or 'an empty file'}; name them in a first row.")
    for key, places in found.items():
        if len(places) > 1:
            twins = " and ".join(repr(header[i].strip()[:30]) for i in places)
            raise ValueError(f"Expected one column for the {key} in {what}, found {twins}; rename those that are not meant.")
    return {key: places[0] for key, places in found.items() if places}


def read_table(path: Path, faults: list[str] | None = None) -> Listed:
    """Read a csv with the columns path, label and perhaps split; a wrong row raises ValueError, or is left out and added to `faults`."""
    rows = Listed([], [], [], [])
    seen: dict[str, int] = {}
    with csv_rows(path, ()) as table:
        header = next(table, [])
        columns = table_columns(header, path.name)
        for line, cells in enumerate(table, 1):
            where = f"{path.name}, data row {line}"
            try:
                if len(cells) != len(header):
                    raise ValueError(f"expected {len(header)} columns, found {len(cells)}; the file may be cut off here")
                name, label = lists.picture_name(cells[columns["path"]]), cells[columns["label"]].strip()
                if name in seen:
                    raise ValueError(f"{name[:100]} is in data row {seen[name]} already; a picture has one label")
                if not (is_emotion(label) or (label.isascii() and label.isdigit() and len(label) < 4)):
                    raise ValueError(f"expected an emotion or a whole number, found {label[:40]!r}")
                split = split_of(cells[columns["split"]]) if "split" in columns else "train"
                if split is None:
                    raise ValueError(f"expected a split such as train, val or test, found {cells[columns['split']][:40]!r}")
            except ValueError as error:
                lists.refuse(f"{where}: {error}.", faults)
                continue
            seen[name] = line
            rows.files.append(name)
            rows.places.append(where)
            rows.labels.append(label)
            rows.splits.append(split)
    if not rows.files:
        lists.refuse(f"Expected rows of pictures in {path.name}, found none.", faults)
    return rows


def _named(rows: Listed, order: str | Sequence[str] | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names in label order, and the emotion of each label that is written."""
    found = sorted(set(rows.labels))
    first = {label: row for row, label in reversed(list(enumerate(rows.labels)))}
    numbers = [label for label in found if label.isdigit()]
    words = [label for label in found if not label.isdigit()]
    if numbers and words:
        raise ValueError(f"Expected classes that are all words or all numbers, found {words[0]!r} ({rows.places[first[words[0]]]}) and {numbers[0]!r} ({rows.places[first[numbers[0]]]}).")
    odd = next((label for label in words if not is_emotion(label)), None)
    if odd is not None:
        known = "; ".join("/".join((name, *words)) for name, words in labels.ALIASES.items())
        raise ValueError(f"Expected classes named by emotions ({known}) or numbers, found {odd!r} ({rows.places[first[odd]]}); rename it, or move it away.")
    names = () if order is None else labels.order(order) if isinstance(order, str) else tuple(map(labels.canonical, order))
    if len(set(names)) != len(names):
        raise ValueError(f"Expected each emotion once in the order, found {', '.join(names)}.")
    if numbers:
        return names, numbered([int(label) for label in numbers], numbers, names)
    emotions = {label: labels.canonical(label) for label in words}
    names = names or tuple(name for name in labels.EMOTIONS if name in emotions.values())
    absent = sorted(set(emotions.values()) - set(names))
    if absent:
        raise ValueError(f"Expected an order with every emotion found, found none of {', '.join(absent)} in {', '.join(names)}.")
    return names, emotions


def numbered(codes: list[int], written: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """Return the emotion of each number as it is written; whether they count from 0 or 1 must be seen from the numbers.

    Raises ValueError without names, or where the numbers do not say.
    """
    span = f"numbers {min(codes)} to {max(codes)}"
    if not names:
        raise ValueError(
            f"Expected the order of the classes to be told, found {span}: numbers do not say which emotion is which, and a wrong guess gives no "
            f'error, only bad results. Give order="fer2013" (0 anger, 1 disgust, ...), another key ({", ".join(labels.ORDERS)}) or the names.'
        )
    k = len(names)
    from_zero, from_one = 0 in codes and max(codes) < k, 0 not in codes and max(codes) == k
    if not (from_zero or from_one):
        raise ValueError(f"Expected numbers 0 to {k - 1} or 1 to {k} for {k} names, 0 or {k} among them, found {span}.")
    return {label: names[code - (1 if from_one else 0)] for code, label in zip(codes, written, strict=True)}
