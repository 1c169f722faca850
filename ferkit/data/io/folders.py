"""Image files in folders of one class each, and image bytes in parquet tables."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ferkit import labels
from ferkit.data.io.cache import Arrays
from ferkit.faces.decode import open_picture, upright

IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
#: Split by the name of a folder or of a parquet file up to its first "-".
SPLIT_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "publictest": "public_test", "privatetest": "private_test",
}  # fmt: skip
_ORDER = "fer2013"


def split_of(word: str) -> str | None:
    """Return the split that a folder or file is named after, None for another name."""
    return SPLIT_WORDS.get(re.sub(r"[\s_-]", "", word.lower()))


def is_emotion(word: str) -> bool:
    """Return whether `ferkit.labels` knows the word."""
    try:
        labels.canonical(word)
    except ValueError:
        return False
    return True


def class_tree(root: Path, endings: tuple[str, ...] = IMAGES) -> dict[str, dict[str, list[str]]]:
    """Return the pictures of class folders, inside split folders or not: split folder -> class folder -> sorted file names.

    The names of split folders and files are below `root`, with "/" between folders; split folders may also lie one level
    further down. Without any the one split folder is "". Names that begin with a dot are passed over.

    Raises ValueError for two folders of one split, or a link to a folder inside a class folder, which could lead in a circle.
    """
    splits: list[Path] = []
    for folder in (root, *_folders(root)):
        splits = [inner for inner in _folders(folder) if split_of(inner.name)]
        if splits:
            break
    names: dict[str, Path] = {}
    for folder in splits:
        twin = names.setdefault(str(split_of(folder.name)), folder)
        if twin is not folder:
            raise ValueError(f"Expected one folder per split, found {twin.name} and {folder.name} in {folder.parent}; put them together.")
    return {
        folder.relative_to(root).as_posix().removeprefix("."): {inner.name: _pictures(inner, root, endings) for inner in _folders(folder)}
        for folder in splits or [root]
    }


def _folders(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _pictures(folder: Path, root: Path, endings: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for inner, deeper, names in os.walk(folder):
        linked = next((name for name in deeper if os.path.islink(os.path.join(inner, name))), None)
        if linked is not None:
            raise ValueError(f"Expected pictures and plain folders in {folder.name}/, found the link {linked} to a folder; copy what it leads to.")
        below = os.path.relpath(inner, root).replace(os.sep, "/")
        found += [f"{below}/{name}" for name in names if name.lower().endswith(endings) and not name.startswith(".")]
    return sorted(found)


def find_class_folders(root: Path) -> list[Path]:
    """Return the image files under `root/<split>/<class>/`, sorted; [] where there is no split folder.

    Raises ValueError where a split folder holds a folder that is no FER2013 class, or lacks one, or holds none.
    """
    files: list[Path] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and split_of(path.name)):
        found: dict[str, list[Path]] = {}
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            if not is_emotion(inner.name) or labels.canonical(inner.name) not in labels.order(_ORDER):
                raise ValueError(
                    f"Expected one folder per FER2013 class in {folder.name}/ (angry, disgust, fear, happy, sad, "
                    f"surprise, neutral), found {inner.name!r}."
                )
            images = sorted(inner / name for name in os.listdir(inner) if name.lower().endswith(IMAGES))
            found.setdefault(labels.canonical(inner.name), []).extend(images)
        empty = [name for name in labels.order(_ORDER) if not found.get(name)]
        if empty:
            raise ValueError(
                f"Expected images of all seven classes in {folder.name}/, found none of {', '.join(empty)}."
            )
        files += [file for images in found.values() for file in images]
    return files


def read_class_folders(files: list[Path], root: Path, side: int) -> Arrays:
    """Read the files of `find_class_folders` as (N, side, side) grey images."""
    images = np.empty((len(files), side, side), np.uint8)
    codes = np.empty(len(files), np.int64)
    splits = []
    for row, file in enumerate(files):
        split, emotion = file.relative_to(root).parts[:2]
        images[row] = _grey(file.read_bytes(), side, file.relative_to(root).as_posix())
        codes[row] = labels.native_code(_ORDER, emotion)
        splits.append(split_of(split))
    return Arrays(images, codes, np.array(splits))


def _grey(data: bytes, side: int, what: str) -> np.ndarray:
    try:
        image = open_picture(data)
        if image.size != (side, side):  # before decoding, so that a huge picture costs nothing
            raise ValueError(f"expected {side}x{side} pixels, found {image.width}x{image.height}")
        return np.asarray(upright(image)[0].convert("L"))
    except ValueError as error:
        raise ValueError(f"{what}: {error}.") from None


def find_parquet(root: Path) -> list[Path]:
    """Return the parquet files of a folder, or of the folder `data` or `default` in it, sorted by path."""
    for folder in (root, root / "data", root / "default"):
        if files := sorted(folder.glob("*.parquet")) or sorted(folder.glob("*/*.parquet")):
            return files
    return []


def read_parquet(files: list[Path], side: int) -> Arrays:
    """Read tables with an image column {bytes, path} and a label column as (N, side, side) grey images.

    The split is taken from each file's name (`train-00000-of-00001.parquet`) or folder. Label numbers are read by the
    class names stored in the file; where it stores none they are taken in FER2013's order, and a warning says so.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ImportError('Reading parquet needs pyarrow: pip install "ferkit[datasets]".') from None
    images: list[np.ndarray] = []
    codes: list[int] = []
    splits: list[str] = []
    note = ""
    for file in files:
        split = split_of(re.split(r"[-.]", file.name)[0]) or split_of(file.parent.name)
        if split is None:
            raise ValueError(f"Expected parquet files named train-..., validation-... or test-..., found {file.name}.")
        try:
            with parquet.ParquetFile(file) as table:
                image, label = _parquet_columns(table.schema_arrow, file)
                code_of, named = _label_reader(table.schema_arrow, label, file)
                for batch in table.iter_batches(batch_size=512, columns=[image, label]):
                    for cell, value in zip(batch[image].to_pylist(), batch[label].to_pylist(), strict=True):
                        what = f"{file.name}, row {len(codes) + 1}"
                        data = cell.get("bytes") if isinstance(cell, dict) else cell
                        if not isinstance(data, bytes):
                            raise ValueError(f"{what}: expected the image's bytes, found {type(data).__name__}.")
                        images.append(_grey(data, side, what))
                        codes.append(code_of(value, what))
                        splits.append(split)
        except (arrow.ArrowException, OSError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"Expected {file.name} to be a whole parquet file, but it cannot be read: {first}"
            ) from None
        if not named:
            note = "label order assumed"
    if not codes:
        raise ValueError(f"Expected rows of images in {files[0].name}, found none.")
    if note:
        warnings.warn(
            "The parquet files do not name their classes; labels 0 to 6 are taken in FER2013's order "
            f"({', '.join(labels.order(_ORDER))}). Compare the counts per class with the official ones.",
            stacklevel=2,
        )
    return Arrays(np.stack(images), np.array(codes, np.int64), np.array(splits), note)


def _parquet_columns(schema: Any, file: Path) -> tuple[str, str]:
    image = next((name for name in ("image", "img", "img_bytes", "jpg", "png") if name in schema.names), None)
    label = next((name for name in ("label", "labels", "emotion", "cls") if name in schema.names), None)
    if image is None or label is None:
        found = ", ".join(schema.names)
        raise ValueError(f"Expected an image and a label column in {file.name}, found {found}.")
    return image, label


def _class_names(schema: Any, column: str) -> list[str]:
    """Return the class names that the Hugging Face library stores in a table's schema, [] without any."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _label_reader(schema: Any, column: str, file: Path) -> tuple[Callable[[Any, str], int], bool]:
    """Return a function from a cell to FER2013's label, and whether the file itself names the classes."""
    names = _class_names(schema, column)
    named = bool(names) and not all(name.isdigit() for name in names)
    odd = [name for name in names if not is_emotion(name)] if named else []
    if odd:
        raise ValueError(f"Expected FER2013's class names in {file.name}, found {', '.join(odd)}.")

    def code_of(value: Any, what: str) -> int:
        if isinstance(value, str) and is_emotion(value):
            return labels.native_code(_ORDER, value)
        if isinstance(value, int) and 0 <= value < (len(names) if named else 7):
            return labels.native_code(_ORDER, names[value]) if named else value
        raise ValueError(f"{what}: expected a label from 0 to 6 or an emotion's name, found {value!r}.")

    texts = str(schema.field(column).type) in ("string", "large_string")
    return code_of, named or texts
