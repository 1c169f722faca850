"""Photographs to aligned faces in files: what `load_folder(..., crop="face")` does,
kept to be looked at and used elsewhere.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm.auto import tqdm

from ferkit.data.io.folders import IMAGES, is_hidden
from ferkit.faces import crop_face, find_faces, read_picture
from ferkit.files import replacing


class Cropped(NamedTuple):
    """What became of the pictures: names below the source; `broken` with the reason."""

    written: list[str]
    there: list[str]
    faceless: list[str]
    broken: list[str]


def crop_pictures(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    size: int = 224,
    margin: float = 0.0,
    progress: bool = True,
) -> Cropped:
    """Cut the largest face out of every picture below a folder, or out of one picture,
    and write it as PNG below another.

    Args:
        source: a picture, or a folder whose folders are kept, so that splits and classes stay what they are.
        target: folder for the faces, made if need be; a face that is there already is not made again, so that an
            interrupted call goes on.
        size: side of the faces in pixels.
        margin: added on each side, as a part of the side; 0 frames a face as FER2013 does.
        progress: show a bar where it takes more than two seconds.

    Raises:
        FileNotFoundError: where there is nothing, or no picture, at `source`.
        ValueError: for a target inside of the source.
        ImportError: where the face detector is not installed.
    """
    start, goal = Path(source).expanduser(), Path(target).expanduser()
    files = [start.name] if start.is_file() else _pictures(start)
    root = start.parent if start.is_file() else start
    if not files:
        raise FileNotFoundError(
            f"Expected a picture or a folder of pictures ({', '.join(IMAGES)}) at {start}, found "
            f"{'none in it' if start.exists() else 'nothing there'}."
        )
    if start.is_dir() and goal.resolve().is_relative_to(start.resolve()):
        raise ValueError(
            f"Expected a folder for the faces outside of {start}, found {goal}; they would be taken for "
            "pictures of the set."
        )
    done = Cropped([], [], [], [])
    stems = Counter(os.path.splitext(name)[0] for name in files)  # a.jpg and a.png are two pictures
    for name in tqdm(files, desc="cutting out faces", unit="image", delay=2, disable=None if progress else True):
        stem = os.path.splitext(name)[0]
        file = goal / f"{stem if stems[stem] == 1 else name}.png"
        if file.exists():
            done.there.append(name)
            continue
        try:
            picture = read_picture(root / name)
        except (ValueError, OSError) as error:
            done.broken.append(f"{name}: {error}")
            continue
        faces = find_faces(picture)
        if not faces:
            done.faceless.append(name)
            continue
        with replacing(file) as temporary:
            Image.fromarray(crop_face(picture, faces[0], size=size, margin=margin)).save(temporary, "PNG")
        done.written.append(name)
    return done


def _pictures(root: Path) -> list[str]:
    found = []
    for inner, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        below = Path(os.path.relpath(inner, root))
        found += [
            (below / name).as_posix() for name in sorted(names) if name.lower().endswith(IMAGES) and not is_hidden(name)
        ]
    return found
