"""Pictures of one's own: folders of one class each (ImageFolder), or a csv that names pictures and their classes.

VEMO, the Residual Masking Network's private set, and most sets people make themselves come this way. Classes may be
emotions or anything else.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ferkit import labels
from ferkit.data.faceset import FaceSet, take_rows
from ferkit.data.io import lists
from ferkit.data.io.archives import csv_rows
from ferkit.data.io.folders import IMAGES, Tree, class_tree, first_few, left_over, split_of, subfolders, warn_of_loose
from ferkit.data.io.pictures import NO_FACE, Listing, missing_rows, store

#: Column names of a csv, in lower case: of the picture, of the class, of the split.
COLUMNS = {
    "path": (
        "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img_path",
        "image_name", "img", "pth",
    ),
    "label": ("label", "emotion", "expression", "class", "target"),
    "split": ("split", "usage", "subset", "partition", "set"),
}
TABLES = (".csv", ".tsv")


class Listed(NamedTuple):
    """Of each picture: file below the root (or anywhere, if its path is absolute), place for messages, label as
    written, split.
    """

    files: list[str]
    places: list[str]
    labels: list[str]
    splits: list[str]


class Found(NamedTuple):
    """What lies at a path: the folder that files are below, the layout in words, the rows, and what is not read,
    see `Tree`.
    """

    root: Path
    layout: str
    rows: Listed
    left_out: dict[str, list[str]]


def load_folder(
    path: str | os.PathLike[str] | None = None,
    *,
    size: int = 112,
    order: str | Sequence[str] | None = None,
    crop: str | None = None,
    missing: str = "error",
    workers: int | None = None,
    progress: bool = True,
) -> FaceSet:
    """Load pictures of one's own; decoded once, memory-mapped from the cache afterwards.

    Args:
        path: a folder with `<split>/<class>/*.jpg` or `<class>/*.jpg` (deeper folders belong to their class; splits are
            named train, val, test or alike), a csv with the columns path, label and perhaps split (others are passed
            over; paths are absolute or below the csv's folder or a folder beside it; columns are separated by commas,
            semicolons or tabs; without a first row of names the pictures, labels and splits are recognised by what they
            are), or a folder with one such csv, or with one for each split (train.csv, test_labels.csv). Without splits
            everything is `train`: `carve_validation` makes a validation split.
        size: side of the faces in pixels.
        order: which class each number is, first to last, where classes are numbers: a key of `ferkit.labels.ORDERS` or
            a tuple of names, of emotions or others. For classes that are words it sets the order of `names`, and says
            that a word close to an emotion's ("suprise") is meant as it is written.
        crop: None scales whole pictures to a square, so they should be faces already cut out. "face" looks for the
            largest face in each and cuts it out as an upload is cut; pictures without a face are left out, and a
            warning names them.
        missing: "error", or "drop" to leave out pictures that a csv names and that are not there, and such as cannot be
            read.
        workers: threads that decode; default one per processor, eight at most.
        progress: show a bar where decoding takes more than two seconds.

    Returns:
        FaceSet of (N, 3, size, size) RGB images; `names` are those of `order`, else the classes found, see
        `ferkit.labels.in_order`; `extras["file"]` is the file of each image, and `source` counts what was left out.
        Pictures below the path that lie in no class folder, or in no row of a csv, are named in a warning.

    Raises:
        FileNotFoundError: where there is nothing to read, or a picture is missing.
        ValueError: for a class that is probably a misspelt emotion, numbers without `order` or outside of it, empty
            class folders, rows or pictures that cannot be read; the sentence names the folder or the row.
        ImportError: with crop="face", where the face detector is not installed.
    """
    if path is None:
        raise ValueError(
            "Expected the path of a folder or csv of your own, found none; there is no usual place for it."
        )
    place = Path(path).expanduser()
    root, layout, rows, left_out = find(place)
    names, classes = named(rows, order)
    there = missing_rows(Listing(root=root, files=rows.files, place=rows.places.__getitem__), missing)
    dropped = len(rows.files) - len(there)
    rows = Listed(*([column[row] for row in there] for column in rows))  # type: ignore[arg-type]
    listing = Listing(root=root, files=rows.files, place=rows.places.__getitem__, crop=crop)
    faces = store("folder", listing, size=size, missing=missing, workers=workers, progress=progress)
    kept = np.setdiff1d(np.arange(len(rows.files)), list(faces.skipped))
    if not len(kept):
        raise ValueError(
            f"Expected pictures that can be used in {place}, found none; first {next(iter(faces.skipped.values()))}."
        )
    codes = np.array([names.index(classes[rows.labels[row]]) for row in kept], np.int64)
    split = np.array([rows.splits[row] for row in kept])
    notes = [f"{dropped} missing pictures left out"] * bool(dropped) + _notes(faces.skipped, left_out)
    return FaceSet(
        images=faces.images if len(kept) == len(faces.images) else take_rows(faces.images, kept),
        labels=codes,
        names=names,
        split=split,
        name="folder",
        source=f"{place.name} ({'; '.join([layout, *notes])})",
        sha256=lists.combined_sha256(faces.sha256, codes, split),
        extras={"file": np.array([rows.files[row] for row in kept])},
    )


def _notes(skipped: dict[int, str], left_out: dict[str, list[str]]) -> list[str]:
    """Return in words what was left out; of pictures that somebody may miss a warning says so, too."""
    notes = []
    faceless = [reason for reason in skipped.values() if reason.endswith(NO_FACE)]
    for kind, found in (
        ("without a face", faceless),
        ("that cannot be read", [reason for reason in skipped.values() if reason not in faceless]),
    ):
        if found:
            notes.append(f"{len(found)} pictures {kind} left out")
            warnings.warn(f"{len(found):,} pictures {kind} are left out: {first_few(found)}.", stacklevel=3)
    if loose := left_out.get("loose"):
        notes.append(f"{len(loose)} pictures without a class left out")
        warn_of_loose(loose)
    others = [name for kind in ("other", "hidden") for name in left_out.get(kind, [])]
    return notes + ([f"{len(others)} other or hidden files and folders left out"] if others else [])


def find(place: Path, faults: list[str] | None = None) -> Found:
    """Find the pictures at a path and everything else there. What is wrong raises, or is added to `faults`.

    Raises:
        FileNotFoundError: for nothing, or nothing known.
        ValueError: for rows or folders that are wrong; the sentence names them.
    """
    if not place.exists():
        raise FileNotFoundError(
            f"Expected a folder of pictures or a csv at {place}, found nothing there. Check the path."
        )
    if place.is_file():
        return Found(place.parent, place.name, read_table(place, faults), {})
    tree = class_tree(place)
    tables = {} if has_classes(tree) else find_tables(place)
    if not tables:
        filled = {name for classes in tree.folders.values() for name, files in classes.items() if files}
        if not has_classes(tree) and len(filled) < 2:
            raise FileNotFoundError(
                f"Expected class folders such as train/happy or happy, or a csv, in {place}; found neither. "
                "data/README.md shows both."
            )
        _refuse_splits(tree)
        return Found(place, "class folders", from_tree(tree.folders, faults), tree.left_out)
    rows = _joined(
        [read_table(table, faults, split if len(tables) > 1 else None) for table, split in tables.items()], faults
    )
    read = {*rows.files, *(table.name for table in tables)}
    return Found(place, ", ".join(table.name for table in tables), rows, left_over(place, read))


def has_classes(tree: Tree) -> bool:
    """Return whether there are class folders in split folders, or a class folder that is an emotion or a number."""
    return any(
        classes and (folder or any(labels.is_emotion(name) or name.isdigit() for name in classes))
        for folder, classes in tree.folders.items()
    )


def _refuse_splits(tree: Tree) -> None:
    """Refuse folders of classes that are taken for classes,
    because nobody can tell by their names that they are splits.
    """
    for name, files in tree.folders.get("", {}).items():
        inner = sorted({PurePosixPath(file).parts[-2] for file in files} - {name})
        if len([word for word in inner if labels.is_emotion(word)]) > 1 and not labels.is_emotion(name):
            raise ValueError(
                f"Expected classes or splits (train, validation, test), found the folder {name} that holds the "
                f"classes {', '.join(inner[:4])}; if it is a split, rename it."
            )


def find_tables(place: Path) -> dict[Path, str]:
    """Return the csv files in a folder that list pictures, each with the split it is named after ("" for none).

    Raises ValueError where there are several and their names do not say which split each is.
    """
    tables = {}
    for file in sorted(
        file
        for file in place.iterdir()
        if file.suffix.lower() in TABLES and file.is_file() and not file.name.startswith(".")
    ):
        words = [file.stem, *re.split(r"[\W_]+", file.stem)]
        tables[file] = next((split for word in words if (split := split_of(word))), "")
    if len(tables) > 1:
        with_pictures = {}
        for file, split in tables.items():
            with suppress(ValueError, OSError):
                _layout(file)
                with_pictures[file] = split
        tables = with_pictures or tables
    if len(tables) > 1 and ("" in tables.values() or len(set(tables.values())) < len(tables)):
        raise ValueError(
            f"Expected one csv in {place}, or one for each split, found "
            f"{', '.join(table.name for table in list(tables)[:5])}; give the path of the one to read."
        )
    return tables


def _joined(parts: list[Listed], faults: list[str] | None) -> Listed:
    rows = Listed([], [], [], [])
    seen: dict[str, str] = {}
    for part in parts:
        for file, place, label, split in zip(*part, strict=True):
            if file in seen:
                lists.refuse(
                    f"{place}: {file[:100]} is in {seen[file]} already; a picture has one label and one split.", faults
                )
                continue
            seen[file] = place
            for column, value in zip(rows, (file, place, label, split), strict=True):
                column.append(value)
    return rows


def from_tree(tree: dict[str, dict[str, list[str]]], faults: list[str] | None = None) -> Listed:
    """Return the pictures of class folders; an empty class folder raises ValueError, or is added to `faults`."""
    rows = Listed([], [], [], [])
    for folder, classes in tree.items():
        if not classes:
            lists.refuse(f"Expected class folders in {folder or 'the folder'}, found none.", faults)
        for name, files in classes.items():
            where = f"{folder}/{name}" if folder else name
            if not files:
                lists.refuse(
                    f"Expected pictures ({', '.join(IMAGES)}) in {where}, found none; fill or remove the folder.",
                    faults,
                )
            rows.files.extend(files)
            rows.places.extend([f"folder {where}"] * len(files))
            rows.labels.extend([name] * len(files))
            rows.splits.extend([split_of(PurePosixPath(folder).name) or "train"] * len(files))
    return rows


class _Layout(NamedTuple):
    delimiter: str
    columns: dict[str, int]
    width: int
    has_header: bool


def _layout(path: Path) -> _Layout:
    """Find out how a csv is written from its first row. Raises ValueError where path and label cannot be told."""
    with csv_rows(path, (), delimiter="\0") as lines:
        first = next(lines, [""])[0]
    delimiter = max(",;\t|", key=first.count)
    cells = [cell.strip().strip('"') for cell in first.split(delimiter)]
    pictures = [i for i, cell in enumerate(cells) if cell.lower().endswith(IMAGES)]
    if len(pictures) != 1 or len(cells) > 3 or len(cells) < 2:
        return _Layout(delimiter, table_columns(cells, path.name), len(cells), True)
    rest = [i for i in range(len(cells)) if i not in pictures]
    splits = [i for i in rest if split_of(cells[i])] if len(rest) == 2 else []
    if len(rest) - len(splits) != 1:
        raise ValueError(
            f"Expected a first row of names, or rows of picture, label and perhaps split, in {path.name}, found "
            f"{first[:80]!r}; name the columns in a first row."
        )
    columns = {"path": pictures[0], "label": next(i for i in rest if i not in splits)}
    return _Layout(delimiter, columns | ({"split": splits[0]} if splits else {}), len(cells), False)


def table_columns(header: list[str], what: str) -> dict[str, int]:
    """Return where path, label and, if there is one, split are.

    Raises ValueError where one is absent or named twice.
    """
    names = [name.strip().lower() for name in header]
    found = {key: [i for i, name in enumerate(names) if name in known] for key, known in COLUMNS.items()}
    shown = ", ".join(repr(name[:30]) for name in header[:10])
    if not found["path"] or not found["label"]:
        raise ValueError(
            f"Expected the columns path, label and perhaps split in {what}, found {shown or 'an empty file'}; name "
            "them in a first row."
        )
    for key, places in found.items():
        if len(places) > 1:
            twins = " and ".join(repr(header[i].strip()[:30]) for i in places)
            raise ValueError(
                f"Expected one column for the {key} in {what}, found {twins}; rename those that are not meant."
            )
    return {key: places[0] for key, places in found.items() if places}


def read_table(path: Path, faults: list[str] | None = None, split: str | None = None) -> Listed:
    """Read a csv with the columns path, label and perhaps split; a wrong row raises ValueError,
    or is left out and added to `faults`.

    `split` is that of the whole table, where its name says it. What files are relative to is found by looking where
    they are.
    """
    rows = Listed([], [], [], [])
    seen: dict[str, int] = {}
    layout = _layout(path)
    columns = layout.columns
    with csv_rows(path, (), delimiter=layout.delimiter) as table:
        if layout.has_header:
            next(table, [])
        for line, cells in enumerate(table, 1):
            where = f"{path.name}, data row {line}"
            try:
                if len(cells) != layout.width:
                    raise ValueError(
                        f"expected {layout.width} columns, found {len(cells)}; the file may be cut off here"
                    )
                name, label = _file_name(cells[columns["path"]], path.parent), lists.plain_code(cells[columns["label"]])
                if name in seen:
                    raise ValueError(f"{name[:100]} is in data row {seen[name]} already; a picture has one label")
                if not _is_label(label):
                    raise ValueError(f"expected the name of a class or a whole number, found {label[:40]!r}")
                row_split = split_of(cells[columns["split"]]) if "split" in columns else split or "train"
                if row_split is None:
                    raise ValueError(
                        f"expected a split such as train, val or test, found {cells[columns['split']][:40]!r}"
                    )
            except ValueError as error:
                lists.refuse(f"{where}: {error}.", faults)
                continue
            seen[name] = line
            rows.files.append(name)
            rows.places.append(where)
            rows.labels.append(label)
            rows.splits.append(row_split)
    if not rows.files:
        lists.refuse(f"Expected rows of pictures in {path.name}, found none.", faults)
    base = _base(path.parent, rows.files)
    return rows._replace(files=[name if os.path.isabs(name) else base + name for name in rows.files])


def _is_label(text: str) -> bool:
    """Return whether a text can name a class: a whole number of three digits at most,
    or a short text that is no number.
    """
    number = re.fullmatch(r"[-+]?[\d.,]*\d[\d.,]*(e[-+]?\d+)?", text)
    return text.isdigit() and len(text) < 4 if number else 0 < len(text) <= 60 and text.isprintable()


def _file_name(text: str, root: Path) -> str:
    """Return a file's name below the root, or its absolute path where it lies elsewhere; raises ValueError for "..",
    and for no name.
    """
    plain = text.strip()
    if not os.path.isabs(plain):
        return lists.picture_name(plain)
    if "\0" in plain or ".." in PurePosixPath(plain).parts:
        raise ValueError(f"expected a plain path of a picture, found {plain[:100]!r}")
    below = os.path.relpath(plain, root.absolute()).replace(os.sep, "/")
    return plain if below.startswith("..") else below


def _base(root: Path, files: list[str]) -> str:
    """Return the folder below the root that the files are in, with a "/", or ""; the one where most of a sample is."""
    sample = [name for name in files[:: max(1, len(files) // 20)] if not os.path.isabs(name)]
    here = sum(os.path.isfile(root / name) for name in sample)
    if here == len(sample):
        return ""
    folders = [f"{path.name}/" for path in subfolders(root)]
    folders += [f"{folder}{path.name}/" for folder in folders for path in subfolders(root / folder)]
    found = {folder: sum(os.path.isfile(root / folder / name) for name in sample) for folder in sorted(folders)}
    best = max(found, key=lambda folder: found[folder], default="")
    return best if found.get(best, 0) > here else ""


def named(rows: Listed, order: str | Sequence[str] | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names in label order, and the class of each label that is written.

    Raises ValueError for words beside numbers, a word that is probably a misspelt emotion, or an order that does not
    fit.
    """
    found = sorted(set(rows.labels))
    first = {label: row for row, label in reversed(list(enumerate(rows.labels)))}
    numbers = [label for label in found if label.isdigit()]
    words = [label for label in found if not label.isdigit()]
    if numbers and words:
        raise ValueError(
            f"Expected classes that are all words or all numbers, found {words[0]!r} "
            f"({rows.places[first[words[0]]]}) and {numbers[0]!r} ({rows.places[first[numbers[0]]]})."
        )
    names = () if order is None else labels.names_of(order)
    if numbers:
        return names, numbered([int(label) for label in numbers], numbers, names)
    classes = own_names(words)
    for label in words:
        if (near := labels.near_miss(label)) and classes[label] not in names:
            raise ValueError(
                f"Expected the name of a class, found {label!r} ({rows.places[first[label]]}), which looks like "
                f"{near!r} misspelt; rename it, or, if it is meant, list all classes in order=(..., {label!r})."
            )
    names = names or labels.in_order(classes.values())
    absent = sorted(set(classes.values()) - set(names))
    if absent:
        raise ValueError(
            f"Expected an order with every class found, found none of {', '.join(absent)} in {', '.join(names)}."
        )
    return names, classes


def own_names(words: Sequence[str]) -> dict[str, str]:
    """Return the name of each class as it is written; spellings that differ in case alone are one class,
    named as the first.
    """
    spelling: dict[str, str] = {}
    return {word: spelling.setdefault(labels.class_name(word).casefold(), labels.class_name(word)) for word in words}


def numbered(codes: list[int], written: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """Return the class of each number as it is written; whether they count from 0 or 1 must be seen from the numbers.

    Raises ValueError without names, or where the numbers do not say.
    """
    span = f"numbers {min(codes)} to {max(codes)}"
    if not names:
        raise ValueError(
            f"Expected the order of the classes to be told, found {span}: numbers do not say which emotion is which, "
            "and a wrong guess gives no "
            'error, only bad results. Give order="fer2013" (0 anger, 1 disgust, ...), another key '
            f"({', '.join(labels.ORDERS)}) or the names."
        )
    k = len(names)
    from_zero, from_one = 0 in codes and max(codes) < k, 0 not in codes and max(codes) == k
    if not (from_zero or from_one):
        raise ValueError(f"Expected numbers 0 to {k - 1} or 1 to {k} for {k} names, 0 or {k} among them, found {span}.")
    return {label: names[code - (1 if from_one else 0)] for code, label in zip(codes, written, strict=True)}
