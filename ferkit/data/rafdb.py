"""RAF-DB, basic expressions: the official list with aligned or original pictures, or folders of one class each.

Li, Deng, Du, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the Wild",
CVPR 2017: 15,339 photographs labelled by about 40 people each, seven classes. How to get it: data/README.md.
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
from ferkit.data.io.folders import class_tree, split_of
from ferkit.data.io.pictures import Listing, missing_rows, store

#: Images per class of the official split, in RAF-DB's label order. Their sums are 12,271 and 3,068.
OFFICIAL_COUNTS = {"train": (1290, 281, 717, 4772, 1982, 705, 2524), "test": (329, 74, 160, 1185, 478, 162, 680)}
LIST_NAMES = tuple(
    f"{folder}{name}"
    for folder in ("EmoLabel/", "", "basic/EmoLabel/", "basic/")
    for name in ("list_patition_label.txt", "list_partition_label.txt")
)
_NAMES = labels.order("rafdb")


class Listed(NamedTuple):
    """Of each picture: file below the root, place for messages, label from 0, split, and its name in the official list.
    """

    files: list[str]
    places: list[str]
    labels: list[int]
    splits: list[str]
    names: list[str]


def load_rafdb(
    path: str | os.PathLike[str] | None = None,
    *,
    size: int = 112,
    images: str = "aligned",
    align: bool = False,
    margin: float = 0.0,
    order: str | Sequence[str] | None = None,
    missing: str = "error",
    workers: int | None = None,
    progress: bool = True,
) -> FaceSet:
    """Load RAF-DB (basic) from its folder; decoded once, memory-mapped from the cache afterwards.

    Args:
        path: folder with `EmoLabel/list_patition_label.txt` and `Image/aligned/` (or the folder above it, which holds
            `basic/`), or with `train/<class>/` and `test/<class>/`. Default: environment variable FERKIT_RAFDB, else
            `data/raw/rafdb`.
        size: side of the faces in pixels; the aligned pictures have 100.
        images: "aligned", the data set's own aligned faces, or "original", the photographs they were cut from (list
            layout).
        align: with "original", bring the five landmarks of `Annotation/manual` to the template of
            `ferkit.faces.crop`; else the box of `Annotation/boundingbox` (left, top, right, bottom) is cut out.
        margin: part of the box that is added on each side; only for "original" without `align`.
        order: for class folders named by numbers: which class each number is, first to last, as a key of
            `ferkit.labels.ORDERS` or a tuple of names. Folders 1 to 7 are RAF-DB's own order unless told otherwise;
            folders 0 to 6 must be told: see below.
        missing: "error", or "drop" to leave out pictures that are listed and not there.
        workers: threads that decode; default one per processor, eight at most.
        progress: show a bar where decoding takes more than two seconds.

    Returns:
        FaceSet of (N, 3, size, size) RGB images, `names` in RAF-DB's own order, splits `train` and `test`, and the file
        of each image in `extras["file"]`.

    Raises:
        FileNotFoundError: where there is nothing to read, or a picture is missing.
        ValueError: where the content is not RAF-DB. Also for folders 0 to 6 without `order`: released code uses both
            RAF-DB's own order less one (0 surprise, 1 fear, ...) and AffectNet's (0 neutral, 1 happiness, ...; READMEs
            of MA-Net and of DDAMFN), the numbers cannot tell which, and a wrong guess gives no error, only bad results.
    """
    root = lists.find_folder(path, "FERKIT_RAFDB", "rafdb", "RAF-DB")
    if images not in ("aligned", "original"):
        raise ValueError(f'Expected images="aligned" or images="original", found {images!r}.')
    if align and images == "aligned":
        raise ValueError(
            'Expected align=True with images="original" only: the aligned pictures have no landmarks of their own.'
        )
    listed = lists.first_file(root, LIST_NAMES)
    if listed is not None:
        if order is not None:
            raise ValueError(f"Expected no order for {listed.name}, whose labels 1 to 7 are defined; found {order!r}.")
        base = listed.parent.parent if listed.parent.name == "EmoLabel" else listed.parent
        rows, layout = read_list(listed, images), f"{listed.name}, {images}"
    elif "" not in (tree := class_tree(root).folders):
        if images == "original":
            raise ValueError(f"Expected the official list for images=\"original\", found class folders in {root}.")
        base, layout = root, "class folders"
        rows = _read_folders(tree, order)
    else:
        raise FileNotFoundError(
            f"Expected RAF-DB in {root}: EmoLabel/list_patition_label.txt with Image/aligned/, or folders such as "
            "train/1; found neither. data/README.md shows the layouts."
        )
    there = missing_rows(Listing(root=base, files=rows.files, place=rows.places.__getitem__), missing)
    dropped = len(rows.files) - len(there)
    rows = Listed(*([column[row] for row in there] for column in rows))  # type: ignore[arg-type]
    boxes = landmarks = None
    if images == "original":
        if align:
            landmarks = np.stack(
                [annotation(base, "manual", "manu_attri", name, 10).reshape(5, 2) for name in rows.names]
            )
        else:
            boxes = np.stack([annotation(base, "boundingbox", "boundingbox", name, 4) for name in rows.names])
    listing = Listing(root=base, files=rows.files, place=rows.places.__getitem__, boxes=boxes, landmarks=landmarks)
    faces = store("rafdb", listing, size=size, margin=margin, workers=workers, progress=progress)
    codes, split = np.array(rows.labels, np.int64), np.array(rows.splits)
    return FaceSet(
        images=faces.images,
        labels=codes,
        names=_NAMES,
        split=split,
        name="rafdb",
        source=f"{root.name} ({layout}{f'; {dropped} missing pictures left out' if dropped else ''})",
        sha256=lists.combined_sha256(faces.sha256, codes, split),
        extras={"file": np.array(rows.files)},
    )


def read_list(path: Path, images: str, faults: list[str] | None = None) -> Listed:
    """Read lines such as "train_00001.jpg 5"; a row that is wrong raises ValueError,
    or is left out and added to `faults`.
    """
    rows = Listed([], [], [], [], [])
    seen: dict[str, int] = {}
    for line, text in lists.read_lines(path):
        try:
            fields = text.split()
            if len(fields) != 2:
                raise ValueError(f"expected a name and a label, found {len(fields)} fields ({text[:60]!r})")
            name = lists.picture_name(fields[0])
            split = next((split for split in ("train", "test") if name.startswith(f"{split}_")), None)
            if split is None or "/" in name:
                raise ValueError(f"expected a name that begins with train_ or test_, found {name!r}")
            if not all(name.rpartition(".")):
                raise ValueError(f"expected the name of a picture with its ending, such as .jpg, found {name!r}")
            if name in seen:
                raise ValueError(f"{name} is in row {seen[name]} already; a picture has one label")
            if fields[1] == "0":
                raise ValueError(
                    "expected a label from 1 to 7, found '0'; RAF-DB counts from 1, this list may have been renumbered"
                )
            code = lists.whole_number(fields[1], "a label", 1, 7)
        except ValueError as error:
            lists.refuse(f"{path.name}, row {line}: {error}.", faults)
            continue
        seen[name] = line
        stem, _, ending = name.rpartition(".")
        rows.files.append(f"Image/aligned/{stem}_aligned.{ending}" if images == "aligned" else f"Image/original/{name}")
        rows.places.append(f"{path.name}, row {line}")
        rows.labels.append(code - 1)
        rows.splits.append(split)
        rows.names.append(stem)
    if not rows.files:
        lists.refuse(f"Expected rows of names and labels in {path.name}, found none.", faults)
    return rows


def annotation(base: Path, folder: str, ending: str, name: str, count: int) -> np.ndarray:
    """Return the first `count` numbers of `Annotation/<folder>/<name>_<ending>.txt`."""
    file = base / "Annotation" / folder / f"{name}_{ending}.txt"
    if not file.is_file():
        raise FileNotFoundError(
            f'Expected {file.relative_to(base).as_posix()} for images="original", found nothing there; copy the '
            "folder Annotation as well."
        )
    words = [word for _, text in lists.read_lines(file) for word in text.split()]
    if len(words) < count:
        raise ValueError(f"{file.name}: expected {count} numbers at least, found {len(words)}.")
    try:
        return np.array([lists.number(word, "a coordinate") for word in words[:count]])
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}.") from None


def _read_folders(tree: dict[str, dict[str, list[str]]], order: str | Sequence[str] | None) -> Listed:
    rows = Listed([], [], [], [], [])
    folders = {str(split_of(PurePosixPath(folder).name)): folder for folder in tree}
    classes = sorted({name for inner in tree.values() for name in inner})
    counts = {split: {name: len(files) for name, files in tree[folder].items()} for split, folder in folders.items()}
    emotion = _class_folders(classes, order, counts)
    for split in ("train", "validation", "test"):
        folder = folders.get(split, "")
        for name, files in tree.get(folder, {}).items():
            if not files:
                raise ValueError(f"Expected pictures in {folder}/{name}, found none.")
            rows.files.extend(files)
            rows.places.extend([f"folder {folder}/{name}"] * len(files))
            rows.labels.extend([_NAMES.index(emotion[name])] * len(files))
            rows.splits.extend([split] * len(files))
            rows.names.extend(PurePosixPath(file).stem for file in files)
        absent = [name for name in classes if split in folders and name not in tree[folder]]
        if absent:
            raise ValueError(f"Expected the same classes in every split, found no {folder}/{absent[0]}.")
    return rows


def _class_folders(
    classes: list[str], order: str | Sequence[str] | None, counts: dict[str, dict[str, int]]
) -> dict[str, str]:
    """Return the emotion of each class folder."""
    if len(classes) != 7:
        raise ValueError(
            f"Expected seven class folders in each split, found {len(classes)}: {', '.join(classes) or 'none'}."
        )
    if not any(name.isdigit() for name in classes):
        try:
            emotion = {name: labels.canonical(name) for name in classes}
        except ValueError as error:
            raise ValueError(f"Expected class folders named by emotions or numbers; {error}") from None
        if sorted(emotion.values()) != sorted(_NAMES):
            raise ValueError(f"Expected one folder for each of {', '.join(_NAMES)}, found {', '.join(classes)}.")
        if order is not None:
            raise ValueError(f"Expected no order for class folders that are named by emotions, found {order!r}.")
        return emotion
    if classes not in ([str(i) for i in range(7)], [str(i) for i in range(1, 8)]):
        raise ValueError(f"Expected class folders 1 to 7, 0 to 6 or named by emotions, found {', '.join(classes)}.")
    if order is None and classes[0] == "0":
        fitting = [key for key in ("rafdb", "manet") if _fits(counts, labels.order(key))]
        hint = f'; the numbers of pictures are those of order="{fitting[0]}"' if len(fitting) == 1 else ""
        raise ValueError(
            'Expected the order of the class folders 0 to 6 to be told, because two are in use: order="rafdb" (0 '
            "surprise, 1 fear, 2 disgust, 3 happiness, 4 sadness, 5 anger, 6 neutral; RAF-DB's own labels less one) "
            'and order="manet" (0 neutral, '
            f"1 happiness, 2 sadness, 3 surprise, 4 fear, 5 disgust, 6 anger; MA-Net, DDAMFN){hint}."
        )
    names = (
        labels.order(order or "rafdb")
        if order is None or isinstance(order, str)
        else tuple(map(labels.canonical, order))
    )
    if sorted(names) != sorted(_NAMES):
        raise ValueError(f"Expected an order of {', '.join(_NAMES)}, found {', '.join(names)}.")
    return dict(zip(classes, names, strict=True))


def _fits(counts: dict[str, dict[str, int]], names: tuple[str, ...]) -> bool:
    """Whether the numbers of pictures in folders 0 to 6 are the official ones, if the folders are in this order."""
    official = {split: dict(zip(_NAMES, numbers, strict=True)) for split, numbers in OFFICIAL_COUNTS.items()}
    shared = [split for split in counts if split in official]
    return bool(shared) and all(
        counts[split].get(str(code)) == official[split][name] for split in shared for code, name in enumerate(names)
    )
