"""AffectNet with 7 or 8 classes: the csv release with full photographs, and the npy release of 2021 with cut faces.

Mollahosseini, Hasani, Mahoor, "AffectNet: A Database for Facial Expression, Valence, and Arousal Computing in the
Wild", IEEE Transactions on Affective Computing 10(1), 2019 (arXiv 1708.03985). How to get it: data/README.md.
"""

from __future__ import annotations

import os
from functools import partial

import numpy as np

from ferkit import labels
from ferkit.data.affectnet_lists import LIST_FOLDERS, Table, read_csv_release, read_npy_release
from ferkit.data.faceset import FaceSet
from ferkit.data.io import lists
from ferkit.data.io.pictures import Listing, missing_rows, store

#: Images per class, in AffectNet's order: manually labelled training images as commonly counted, 500 each for
#: validation.
OFFICIAL_COUNTS = {"train": (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750), "test": (500,) * 8}


def load_affectnet(
    classes: int,
    path: str | os.PathLike[str] | None = None,
    *,
    size: int = 112,
    margin: float = 0.0,
    align: bool = False,
    missing: str = "error",
    workers: int | None = None,
    progress: bool = True,
) -> FaceSet:
    """Load AffectNet's manually labelled part from its folder; decoded once, memory-mapped from the cache afterwards.

    Args:
        classes: 7 or 8; with 7, contempt is left out of both splits.
        path: folder with `training.csv` and `validation.csv` (or below it `Manually_Annotated_file_lists/`) and the
            pictures (`Manually_Annotated_Images/`), or with `train_set/` and `val_set/`, each with `images/` and
            `annotations/`. Default: environment variable FERKIT_AFFECTNET, else `data/raw/affectnet`.
        size: side of the faces in pixels.
        margin: part of the face's box that is added on each side; csv release without `align` only.
        align: bring eyes, nose and mouth, from the 68 landmarks of the release, to the template of `ferkit.faces.crop`.
        missing: "error", or "drop" to leave out pictures that are listed and not there.
        workers: threads that decode; default one per processor, eight at most.
        progress: show a bar where decoding takes more than two seconds.

    Returns:
        FaceSet of (N, 3, size, size) RGB images in AffectNet's order of classes; `extras` holds `valence` and `arousal`
        (float32, -1 to 1) and `file`. Splits: `train`, and `test` for the public validation set of 500 images per
        class, which papers report on since the true test set was never published; nothing may be selected on it. Rows
        with labels 8 to 10 (none, uncertain, no face) are left out.

    Raises:
        FileNotFoundError: where there is nothing to read, or a picture is missing.
        ValueError: where the content is not AffectNet; the sentence names the file and its row.
    """
    if classes not in (7, 8):
        raise ValueError(f"Expected 7 or 8 classes, found {classes!r}.")
    root = lists.find_folder(path, "FERKIT_AFFECTNET", "affectnet", "AffectNet")
    names = labels.order(f"affectnet{classes}")
    if lists.first_file(root, [f"{folder}training.csv" for folder in LIST_FOLDERS]):
        table = read_csv_release(root, align)
    elif lists.first_folder(root, ("train_set", "val_set")):
        if margin:
            raise ValueError(
                f"Expected margin=0 for the npy release, whose pictures are cut already, found {margin!r}."
            )
        table = read_npy_release(root)
    else:
        raise FileNotFoundError(
            f"Expected AffectNet in {root}: training.csv and validation.csv, or train_set/ and val_set/ with images/ "
            "and annotations/; found neither. data/README.md shows the layouts."
        )
    rows = np.flatnonzero(table.labels < classes)
    if not len(rows):
        raise ValueError(f"Expected rows with labels 0 to {classes - 1} in {root}, found none.")
    listing = _listing(table, rows, align=False)
    there = missing_rows(listing, missing)
    dropped, rows = len(rows) - len(there), rows[there]
    faces = store(
        "affectnet", _listing(table, rows, align=align), size=size, margin=margin, workers=workers, progress=progress
    )
    codes, split = table.labels[rows].astype(np.int64), table.split[rows]
    extras = {
        "valence": table.valence[rows].astype(np.float32),
        "arousal": table.arousal[rows].astype(np.float32),
        "file": np.array([table.files[row] for row in rows]),
    }
    note = f"{table.layout}{'; aligned' if align else ''}{f'; {dropped} missing pictures left out' if dropped else ''}"
    return FaceSet(
        images=faces.images,
        labels=codes,
        names=names,
        split=split,
        name=f"affectnet{classes}",
        source=f"{root.name} ({note})",
        sha256=lists.combined_sha256(faces.sha256, codes, split, extras["valence"], extras["arousal"]),
        extras=extras,
    )


load_affectnet7 = partial(load_affectnet, 7)
load_affectnet8 = partial(load_affectnet, 8)


def _listing(table: Table, rows: np.ndarray, *, align: bool) -> Listing:
    places = [table.places[row] for row in rows]
    landmarks = None
    if align:
        points = table.landmarks[rows]
        absent = np.flatnonzero(~np.isfinite(points).all((1, 2)))
        if len(absent):
            raise ValueError(
                f"{places[absent[0]]}: expected 68 landmarks for align=True, found none; "
                f"{len(absent):,} rows lack them."
            )
        landmarks = points
    return Listing(
        root=table.root,
        files=[table.files[row] for row in rows],
        place=places.__getitem__,
        boxes=None if align or table.boxes is None else table.boxes[rows],
        landmarks=landmarks,
    )
