"""From pictures to answers: faces cut out by several threads, networks asked in batches, rows written as they come.

Of a million pictures no more than some dozens are held at any time.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from ferkit.explain.opinions import Network, Opinion, as_network
from ferkit.faces import crop_face, find_faces
from ferkit.faces.decode import open_picture, upright
from ferkit.use.journal import Counts, Journal
from ferkit.use.networks import Ensemble, load, opinions
from ferkit.use.sheet import write_sheet
from ferkit.use.sources import pictures_in
from ferkit.use.tables import WRITERS, columns, flat

#: The network that is asked unless another is named: of those that come with the workbook, the best on validation.
BEST = "resemotenet/fer2013-teach"
CROPS = ("face", "none")
SIZE = 224  # side of a face as it is cut out: enough for every network, and the same as in the notebooks' upload
THUMB = 96  # side of a face on the contact sheet
NO_FACE = "no face found"

T = TypeVar("T")
Box = tuple[float, float, float, float]
Asked = str | os.PathLike[str] | Network | Ensemble | nn.Module


class Seen(NamedTuple):
    """A picture that was looked at: the faces in it, uint8 (3, S, S) each, where they are, and what is wrong, or ""."""

    file: Path
    place: int
    faces: list[np.ndarray]
    boxes: list[Box | None]
    problem: str = ""


def as_networks(networks: Asked | Sequence[Asked]) -> list[Network | Ensemble]:
    """Return networks by their names, see `ferkit.use.load`, or as they are.

    Raises:
        ValueError: none, or two of one name; otherwise what `load` raises.

    """
    several = (
        [networks] if isinstance(networks, str | os.PathLike | Network | Ensemble | nn.Module) else list(networks)
    )
    found = [
        load(n) if isinstance(n, str | os.PathLike) else n if isinstance(n, Ensemble) else as_network(n)
        for n in several
    ]
    names = [network.name for network in found]
    if not found or len(set(names)) < len(names):
        raise ValueError(f"expected networks of different names, found {', '.join(names) or 'none'}")
    return found


def look(file: Path, place: int = 0, crop: str = "face") -> Seen:
    """Read one picture and cut its faces out; what goes wrong is said in the result, not raised."""
    try:
        picture = np.asarray(upright(open_picture(file.read_bytes()))[0])
    except ValueError as error:
        return Seen(file, place, [], [], str(error))
    except OSError as error:
        return Seen(file, place, [], [], (error.strerror or str(error)).lower())
    return Seen(file, place, *cut(picture, crop))


def cut(picture: np.ndarray, crop: str) -> tuple[list[np.ndarray], list[Box | None], str]:
    """Return the faces of a picture, uint8 RGB (H, W, 3), as in `Seen`, their boxes, and what is wrong."""
    if crop == "none":
        return [_whole(picture)], [None], ""
    found = find_faces(picture)
    faces = [_channels(crop_face(picture, face, size=SIZE)) for face in found]
    return faces, [face.box for face in found], "" if found else NO_FACE


def _whole(picture: np.ndarray) -> np.ndarray:
    """A whole picture as a square, as `load_folder` makes one for training; a small square one as it is."""
    height, width = picture.shape[:2]
    if height != width or height > SIZE:
        picture = np.asarray(Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return _channels(picture)


def _channels(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def seen_in_order(items: Iterable[tuple[int, T]], look: Callable[[T, int], Seen], *, workers: int) -> Iterator[Seen]:
    """Look at items in several threads, and give what is seen in order; two for each thread are read ahead."""
    waiting: deque[Future[Seen]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for place, item in items:
                waiting.append(pool.submit(look, item, place))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an interrupted call does not wait for what nobody will read
            for future in waiting:
                future.cancel()


def answered(
    pictures: Iterable[Seen], networks: Sequence[Network | Ensemble], *, batch_size: int
) -> Iterator[tuple[Seen, list[list[Opinion]]]]:
    """Yield each picture, in order, with what is said of each of its faces: a list by face, of lists by network."""
    batch: list[Seen] = []
    for seen in pictures:
        batch.append(seen)
        if len(batch) >= batch_size or sum(len(one.faces) for one in batch) >= batch_size:
            yield from _asked(batch, networks)
            batch = []
    yield from _asked(batch, networks)


def _asked(batch: list[Seen], networks: Sequence[Network | Ensemble]) -> Iterator[tuple[Seen, list[list[Opinion]]]]:
    faces = [face for seen in batch for face in seen.faces]
    said: list[list[Opinion]] = [[] for _ in faces]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, face in enumerate(faces):
        by_shape.setdefault(face.shape, []).append(i)
    for network in networks:
        for rows in by_shape.values():
            for i, opinion in zip(rows, opinions(network, np.stack([faces[i] for i in rows])), strict=True):
                said[i].append(opinion)
    place = 0
    for seen in batch:
        yield seen, said[place : place + len(seen.faces)]
        place += len(seen.faces)


def rows_of(seen: Seen, said: Sequence[Sequence[Opinion]]) -> list[dict[str, Any]]:
    """Return what is written of one picture: a row for each face and network, or one with the problem."""
    if not seen.faces:
        return [_row(seen, None, None, None)]
    return [_row(seen, i, seen.boxes[i], opinion) for i, of_face in enumerate(said) for opinion in of_face]


def _row(seen: Seen, face: int | None, box: Sequence[float] | None, opinion: Opinion | None) -> dict[str, Any]:
    row = {
        "file": os.fspath(seen.file),
        "face": face,
        "box": box and [round(v, 1) for v in box],
        "problem": seen.problem,
    }
    if opinion is None:
        return {**row, "network": "", "answer": "", "doubt": None, "likely": [], "probabilities": {}}
    p = {name: round(float(v), 6) for name, v in zip(opinion.labels, opinion.probabilities, strict=True)}
    return {
        **row,
        **{"network": opinion.network, "answer": opinion.answer, "doubt": round(opinion.doubt, 4)},
        "likely": list(opinion.likely),
        "probabilities": p,
    }


def predict_folder(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    networks: Asked | Sequence[Asked] = BEST,
    *,
    crop: str = "face",
    workers: int = 2,
    batch_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Return what networks say of the faces in pictures: one row for each face and network.

    Args:
        paths: pictures, folders, patterns and lists, see `ferkit.use.sources.pictures_in`; one or several.
        networks: names as `ferkit.use.load` takes them, networks, or bare models; one or several.
        crop: "face" finds the faces, cuts them out and turns them upright, as FER2013 frames them; "none" takes each
            picture as it is for a face.
        workers: threads that read pictures and find faces.
        batch_size: faces that are asked about at a time.
        progress: show a bar where it takes more than two seconds.

    Returns:
        Columns `file`, `face` (a number, from the largest), the box as `left`, `top`, `right`, `bottom` in pixels,
        `network`, `answer`, `doubt` (0 sure, 1 all classes alike), `likely` (the conformal set, "a|b"; empty for a
        network that was never calibrated), `problem`, and `p_<class>` for every class. A picture that cannot be read,
        or has no face, has one row that says so under `problem`.

    Raises:
        FileNotFoundError: nothing lies at a path.
        ValueError: options out of range, or networks that cannot be used.
        ImportError: the face detector is not installed.

    """
    asked = as_networks(networks)
    journal = Journal(None, {})
    _fill(
        journal,
        _several(paths),
        asked,
        crop=crop,
        workers=workers,
        batch_size=batch_size,
        progress=progress,
        small=False,
    )
    table = pd.DataFrame([flat(row) for row in journal.rows()], columns=columns(asked))
    journal.close()
    return table.astype({"face": "Int64"})


def predict_to_file(
    paths: Iterable[str | os.PathLike[str]],
    networks: Asked | Sequence[Asked],
    out: str | os.PathLike[str],
    *,
    html: str | os.PathLike[str] | None = None,
    crop: str = "face",
    workers: int = 2,
    batch_size: int = 32,
    progress: bool = True,
    most: int = 20,
) -> tuple[Counts, list[str]]:
    """Write what `predict_folder` gives to a file and never holds all of it; an interrupted call goes on where it was.

    Args:
        paths, networks, crop, workers, batch_size, progress: as for `predict_folder`.
        out: a .csv with its columns, or a .jsonl with one object in a line, whose `box` and `likely` are lists and
            whose `probabilities` are an object. Until it is finished, answers lie beside it in ".<name>.journal".
        html: a page to write with the faces and their answers. It holds pictures of the faces.
        most: pictures with a problem that are named.

    Returns:
        How many pictures, faces and problems there are, and the first problems in words.

    Raises:
        ValueError: also for another kind of file, or where the same command runs already.

    """
    target, asked = Path(out), as_networks(networks)
    if target.suffix.lower() not in WRITERS:
        raise ValueError(f"expected a file for the answers that ends in {' or '.join(WRITERS)}, found {target.name}")
    settings = {"networks": [_identity(network) for network in asked], "crop": crop, "small": html is not None}
    journal = Journal(target.with_name(f".{target.name}.journal"), settings)
    try:
        _fill(
            journal,
            list(paths),
            asked,
            crop=crop,
            workers=workers,
            batch_size=batch_size,
            progress=progress,
            small=html is not None,
        )
        WRITERS[target.suffix.lower()](target, journal.rows(), asked)
        if html is not None:
            write_sheet(html, journal, asked)
        counts, problems = journal.counts(), journal.problems(most)
    except BaseException:
        journal.close()
        raise
    journal.close(forget=True)
    return counts, problems


def _fill(
    journal: Journal, paths: Sequence[str | os.PathLike[str]], networks: Sequence[Network | Ensemble],
    *, crop: str, workers: int, batch_size: int, progress: bool, small: bool,
) -> None:  # fmt: skip
    """Answer what the journal does not know yet."""
    if crop not in CROPS:
        raise ValueError(f"expected a crop among {', '.join(CROPS)}, found {crop!r}")
    if workers < 1 or batch_size < 1:
        raise ValueError(f"expected workers and batch_size of at least 1, found {workers} and {batch_size}")
    total = sum(1 for _ in pictures_in(paths))  # names alone are quick, and a bar without an end says little
    if not total:
        raise FileNotFoundError(f"expected pictures at {', '.join(map(str, paths))}, found none")
    bar = tqdm(total=total, desc="asking", unit="picture", delay=2, disable=None if progress else True)
    with bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PIL, as `read_picture` does; once for all threads, which share the filters

        def unknown() -> Iterator[tuple[int, Path]]:
            for place, file in enumerate(pictures_in(paths)):
                if journal.knows(file, place):
                    bar.update()
                else:
                    yield place, file

        looked_at = seen_in_order(unknown(), partial(look, crop=crop), workers=workers)
        for number, (seen, said) in enumerate(answered(looked_at, networks, batch_size=batch_size), 1):
            pictures = [_jpeg(face) for face in seen.faces] if small else []
            journal.add(
                seen.file,
                seen.place,
                rows_of(seen, said),
                faces=len(seen.faces),
                problem=seen.problem,
                pictures=pictures,
            )
            bar.update()
            if number % batch_size == 0:
                journal.keep()


def _several(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)


def _jpeg(face: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(face.transpose(1, 2, 0)).resize((THUMB, THUMB), Image.Resampling.BILINEAR).save(
        stream, "JPEG", quality=80
    )
    return stream.getvalue()


def _identity(network: Network | Ensemble) -> list[str]:
    """What tells a network from another one of its name: its weights."""
    if isinstance(network, Ensemble):
        return [part for member in network.members for part in _identity(member)]
    digest = hashlib.sha256()
    for value in network.model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return [network.name, str(network.tta), str(network.threshold), digest.hexdigest()]
