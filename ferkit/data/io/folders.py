"""Image files in folders of one class each, and image bytes in parquet tables."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ferkit import labels
from ferkit.data.io.cache import Arrays
from ferkit.faces.decode import open_picture, upright

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".ppm", ".pgm")
#: Split by the name of a folder or of a file; see `split_of`.
SPLIT_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "eval": "validation", "evaluation": "validation", "test": "test", "testing": "test",
    "publictest": "public_test", "privatetest": "private_test",
}  # fmt: skip
_ENDINGS = "set|images?|imgs?|pictures|photos|faces|data|split|folder|labels?|list"
#: What systems and programs put beside pictures; so do names that begin with a dot.
SYSTEM = (
    "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__", "thumbs.db",
    "desktop.ini",
)
_ORDER = "fer2013"
#: How many names of pictures a sentence shows.
_SHOWN = 3


class Tree(NamedTuple):
    """Pictures in class folders, and what else lies there.

    Attributes:
        folders: split folder -> class folder -> sorted file names; without split folders the one split folder is "".
            Names are below the root, with "/" between folders.
        left_out: names of files that are not read, by kind: "loose" pictures, which lie in no class folder; "other"
            files; "hidden" ones, or such of a system. A folder that is left out as a whole is one name that ends in
            "/".
    """

    folders: dict[str, dict[str, list[str]]]
    left_out: dict[str, list[str]]


def split_of(word: str) -> str | None:
    """Return the split that a folder or file is named after ("Testing", "val", "train_images", "Test Set"),
    None for another name.
    """
    plain = re.sub(r"[\s_.-]", "", word.lower())
    return SPLIT_WORDS.get(plain) or SPLIT_WORDS.get(re.sub(rf"^({_ENDINGS})|({_ENDINGS})$", "", plain))


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that a system puts there."""
    return name.startswith(".") or name.lower() in SYSTEM


def class_tree(root: Path) -> Tree:
    """Find the pictures of class folders, inside split folders or not, and name everything else that lies there.

    Split folders may also lie one level further down, and class folders in a folder that is the only one. A split
    folder without class folders has no labels, so its pictures are loose.

    Raises ValueError for two folders of one split, or a link to a folder inside a class folder, which could lead in a
    circle.
    """
    splits: list[Path] = []
    for folder in (root, *subfolders(root)):
        splits = [inner for inner in subfolders(folder) if split_of(inner.name)]
        if splits:
            break
    names: dict[str, Path] = {}
    for folder in splits:
        twin = names.setdefault(str(split_of(folder.name)), folder)
        if twin is not folder:
            raise ValueError(
                f"Expected one folder per split, found {twin.name} and {folder.name} in {folder.parent}; "
                "put them together."
            )
    found = {
        folder.relative_to(root).as_posix().removeprefix("."): {
            inner.name: _pictures(inner, root) for inner in subfolders(folder)
        }
        for folder in splits or [_only_folder(root)]
    }
    for folder in splits:
        key = folder.relative_to(root).as_posix()
        if not found[key] and any(path.is_file() and not is_hidden(path.name) for path in folder.iterdir()):
            del found[key]
    read = {name for classes in found.values() for files in classes.values() for name in files}
    return Tree(found, left_over(root, read))


def left_over(root: Path, read: Collection[str]) -> dict[str, list[str]]:
    """Return the files below a folder that are not among those read, by kind, see `Tree`."""
    kinds: dict[str, list[str]] = {"loose": [], "other": [], "hidden": []}
    for inner, folders, names in os.walk(root):
        below = os.path.relpath(inner, root).replace(os.sep, "/").removeprefix(".")
        prefix = f"{below}/" if below else ""
        kinds["hidden"] += [f"{prefix}{name}/" for name in folders if is_hidden(name)]
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            if (path := f"{prefix}{name}") not in read:
                kind = "hidden" if is_hidden(name) else "loose" if name.lower().endswith(IMAGES) else "other"
                kinds[kind].append(path)
    return {kind: found for kind, found in kinds.items() if found}


def warn_of_loose(pictures: Sequence[str]) -> None:
    """Warn that pictures without a class are left out."""
    warnings.warn(
        f"{len(pictures):,} pictures lie in no class folder, or are in no row of the csv, and are left out: "
        f"{first_few(pictures)}. Put them into the folder of their class, or away.",
        stacklevel=4,
    )


def first_few(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def _only_folder(root: Path) -> Path:
    """Return the folder that class folders are in: `root`,
    or the one folder in it that holds folders with pictures and nothing else.
    """
    inner = subfolders(root)
    alone = len(inner) == 1 and not labels.is_emotion(inner[0].name) and not inner[0].name.isdigit()
    has_pictures = any(name.lower().endswith(IMAGES) for folder in (root, *inner) for name in os.listdir(folder))
    return _only_folder(inner[0]) if alone and not has_pictures and subfolders(inner[0]) else root


def _pictures(folder: Path, root: Path) -> list[str]:
    found: list[str] = []
    for inner, deeper, names in os.walk(folder):
        deeper[:] = [name for name in deeper if not is_hidden(name)]
        linked = next((name for name in deeper if os.path.islink(os.path.join(inner, name))), None)
        if linked is not None:
            raise ValueError(
                f"Expected pictures and plain folders in {folder.name}/, found the link {linked} to a folder; "
                "copy what it leads to."
            )
        below = os.path.relpath(inner, root).replace(os.sep, "/")
        found += [f"{below}/{name}" for name in names if name.lower().endswith(IMAGES) and not is_hidden(name)]
    return sorted(found)


def find_class_folders(root: Path) -> list[Path]:
    """Return the image files in the class folders of split folders, sorted; [] where there is no split folder.

    Raises ValueError where a split folder holds a folder that is no FER2013 class, or lacks one, or holds none.
    """
    files: list[Path] = []
    tree = class_tree(root)
    for folder, classes in tree.folders.items():
        if not folder:
            return []
        for name in classes:
            if not labels.is_emotion(name) or labels.canonical(name) not in labels.order(_ORDER):
                raise ValueError(
                    f"Expected one folder per FER2013 class in {folder}/ (angry, disgust, fear, happy, sad, surprise, "
                    f'neutral), found {name!r}; other classes are read as "folder", ferkit.data.load("folder", PATH).'
                )
        found = {labels.canonical(name) for name, pictures in classes.items() if pictures}
        absent = [name for name in labels.order(_ORDER) if name not in found]
        if absent:
            raise ValueError(f"Expected images of all seven classes in {folder}/, found none of {', '.join(absent)}.")
        files += [root / name for pictures in classes.values() for name in pictures]
    if loose := tree.left_out.get("loose"):
        warn_of_loose(loose)
    return files


def read_class_folders(files: list[Path], root: Path, side: int) -> Arrays:
    """Read the files of `find_class_folders` as (N, side, side) grey images."""
    images = np.empty((len(files), side, side), np.uint8)
    codes = np.empty(len(files), np.int64)
    splits = []
    for row, file in enumerate(files):
        names = file.relative_to(root).parts
        place = next(i for i, name in enumerate(names) if split_of(name))
        split, emotion = names[place : place + 2]
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
    odd = [name for name in names if not labels.is_emotion(name)] if named else []
    if odd:
        raise ValueError(f"Expected FER2013's class names in {file.name}, found {', '.join(odd)}.")

    def code_of(value: Any, what: str) -> int:
        if isinstance(value, str) and labels.is_emotion(value):
            return labels.native_code(_ORDER, value)
        if isinstance(value, int) and 0 <= value < (len(names) if named else 7):
            return labels.native_code(_ORDER, names[value]) if named else value
        raise ValueError(f"{what}: expected a label from 0 to 6 or an emotion's name, found {value!r}.")

    texts = str(schema.field(column).type) in ("string", "large_string")
    return code_of, named or texts
