"""From what somebody types to pictures: files, folders, patterns, lists, one at a time and never all at once."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ferkit.data.folder import COLUMNS
from ferkit.data.io.archives import csv_rows
from ferkit.data.io.folders import IMAGES, is_hidden

#: A list names one picture in each row: under one of these columns, or, without a first row of names, in the first one.
LISTS = (".csv", ".tsv", ".txt", ".lst")
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")


def pictures_in(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield the pictures that paths lead to, in order; those of a folder by name, folder by folder.

    Args:
        paths: pictures; folders, of which all below is taken that is named like a picture and not hidden; patterns such
            as "photos/*.jpg"; or lists of pictures (.csv, .tsv, .txt, .lst), whose paths are absolute or below the
            list's folder.

    A picture that is named but absent is yielded: whoever reads it says so.

    Raises:
        FileNotFoundError: nothing lies at a path, or nothing fits a pattern.
        ValueError: a list that cannot be read.

    """
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            yield from _below(path)
        elif path.suffix.lower() in LISTS and path.is_file():
            yield from _listed(path)
        elif path.is_file():
            yield path
        elif glob.has_magic(str(path)):
            found = sorted(glob.glob(str(path), recursive=True))
            if not found:
                raise FileNotFoundError(f"expected files that fit {given}, found none; check the pattern")
            yield from pictures_in(found)
        else:
            raise FileNotFoundError(
                f"expected a picture, a folder, a pattern, a list or a video, found nothing at {given}"
            )


def _below(root: Path) -> Iterator[Path]:
    for inner, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            if name.lower().endswith(IMAGES) and not is_hidden(name):
                yield Path(inner, name)


def _listed(path: Path) -> Iterator[Path]:
    column = 0
    with csv_rows(path, (), delimiter="\t" if path.suffix.lower() == ".tsv" else ",") as rows:
        for number, cells in enumerate(rows):
            if number == 0:
                names = [cell.strip().lower() for cell in cells]
                named = [i for i, name in enumerate(names) if name in COLUMNS["path"]]
                if named:
                    column = named[0]
                    continue
            if len(cells) <= column or not cells[column].strip():
                raise ValueError(f"expected the path of a picture in {path.name}, row {number + 1}, found none")
            yield path.parent / Path(cells[column].strip()).expanduser()  # an absolute path stays what it is
