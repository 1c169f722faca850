"""Photographs decoded once and kept as one memory-mapped array, so that later epochs and later starts decode nothing.

Per list of pictures and choice of options `cache_folder()` gets two files: `<key>.npy` with all faces, (N, 3, S, S)
uint8, and `<key>.json` with checksums. While the work is under way they are `<key>.part` and `<key>.blocks`: faces are
written in blocks, and a line is added to the latter after each, so that an interrupted run is taken up where it
stopped. Only one block is held in memory, and a lock lets one process at a time do it. `key` is a hash of names, sizes
and times of change of the files, of boxes, landmarks and options.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm.auto import tqdm

from ferkit.data.io.cache import cache_folder, open_mapped
from ferkit.faces.crop import Face, crop_face
from ferkit.faces.decode import open_picture, upright
from ferkit.faces.detect import find_faces
from ferkit.files import read_json, replacing, write_json

#: Part of every key: raised whenever the same pictures would give other faces.
VERSION = 2
#: Faces per block: 10 MB at 112 pixels.
BLOCK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """Which pictures make a data set, in order, and which part of each is the face.

    Attributes:
        root: folder that the files are below.
        files: N names below `root`, with "/" between folders; a picture with several faces is named several times.
        place: row of `files` -> where it was named, for messages, e.g. "label.lst, row 7".
        boxes: (N, 4) left, top, right, bottom in pixels, or None for whole pictures.
        landmarks: (N, 5, 2) x, y in pixels, to align faces by, or None.
        crop: "face" looks for the largest face in each picture, where neither boxes nor landmarks are known; None does
            not.
    """

    root: Path
    files: Sequence[str]
    place: Callable[[int], str]
    boxes: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    crop: str | None = None


class Stored(NamedTuple):
    """Faces (N, 3, S, S) uint8, memory-mapped, and a sha256 over names and bytes of their pictures.

    `skipped` says, for rows that are black because nothing could be cut out of their picture, why: row -> file and
    reason.
    """

    images: np.ndarray
    sha256: str
    skipped: dict[int, str]


#: How the reason ends for a picture that was looked through in vain.
NO_FACE = "no face was found"


class _NoFace(ValueError):
    pass


def present(root: Path, files: Sequence[str]) -> np.ndarray:
    """Return which of the files below `root` are there, bool (N,)."""
    return np.array([os.path.isfile(os.path.join(root, name)) for name in files], bool)


def missing_rows(listing: Listing, missing: str) -> np.ndarray:
    """Return the rows whose pictures are there, (M,); with `missing="error"` all must be.

    Raises:
        FileNotFoundError: with `missing="error"`, naming the first absent picture and how many there are.
        ValueError: for another word than "error" or "drop", or if no picture is there at all.
    """
    if missing not in ("error", "drop"):
        raise ValueError(f'Expected missing="error" or missing="drop", found {missing!r}.')
    there = present(listing.root, listing.files)
    absent = np.flatnonzero(~there)
    if len(absent) and missing == "error":
        first = int(absent[0])
        raise FileNotFoundError(
            f"Expected {len(there):,} pictures below {listing.root}, found {len(absent):,} missing, first "
            f"{listing.files[first]} ({listing.place(first)}); complete the copy, or leave them out "
            'with missing="drop".'
        )
    if not there.any():
        raise ValueError(
            f"Expected pictures below {listing.root}, found none of the {len(there):,} that are listed there."
        )
    return np.flatnonzero(there)


def store(
    kind: str,
    listing: Listing,
    *,
    size: int,
    margin: float = 0.0,
    missing: str = "error",
    workers: int | None = None,
    progress: bool = True,
) -> Stored:
    """Return the faces of a list of pictures, decoding what is not kept yet.

    Args:
        kind: name of the data set, for file names and the progress bar.
        listing: the pictures.
        size: side of the faces in pixels.
        margin: see `ferkit.faces.crop_face`.
        missing: "error" refuses a picture that cannot be read or cut; "drop" leaves its row black, see `Stored`. One
            without a face, with the listing's `crop`, is always left so.
        workers: threads that decode; default one per processor, eight at most.
        progress: show a bar where it takes more than two seconds.

    Raises:
        FileNotFoundError: for an absent picture.
        ValueError: for options out of range, or a picture that cannot be read or cut; the sentence names file and row.
        OSError: where the cache folder cannot be written or has no room; the sentence says how much is needed.
    """
    if not (isinstance(size, int) and 8 <= size <= 1024):
        raise ValueError(f"Expected a size from 8 to 1024 pixels, found {size!r}.")
    if not 0 <= margin <= 2:
        raise ValueError(f"Expected a margin from 0 to 2 (a part of the box on each side), found {margin!r}.")
    if workers is not None and workers < 1:
        raise ValueError(f"Expected at least one worker, found {workers!r}.")
    if listing.crop not in (None, "face"):
        raise ValueError(f'Expected crop="face" or crop=None, found {listing.crop!r}.')
    if not len(listing.files):
        raise ValueError(f"Expected pictures in the list of {kind}, found none.")
    key = cache_folder() / f"{kind}-faces-v{VERSION}-{_state(listing, size, margin)[:32]}"
    kept = _open(key)
    if kept is not None:
        return _unless_broken(kept, missing)
    shape = (len(listing.files), 3, size, size)
    try:
        key.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(key.with_suffix(".lock")):  # of several processes one decodes, the others wait and find it done
            kept = _open(key)
            if kept is not None:
                return _unless_broken(kept, missing)
            lines = _fill(
                key, kind, listing, shape, margin, missing == "drop", workers or min(8, os.cpu_count() or 1), progress
            )
            digest = hashlib.sha256("".join(line["sha256"] for line in lines).encode()).hexdigest()
            skipped = {row: reason for line in lines for row, reason in line["skipped"].items()}
            write_json(
                key.with_suffix(".json"),
                {"sha256": digest, "crc32": [line["crc32"] for line in lines], "skipped": skipped},
            )
            os.replace(key.with_suffix(".part"), key.with_suffix(".npy"))
            key.with_suffix(".blocks").unlink(missing_ok=True)
            kept = _open(key)
    except OSError as error:
        raise OSError(
            f"Expected to keep {np.prod(shape) / 1e9:.1f} GB of faces in {cache_folder()}, but "
            f"{error.strerror or error}; set FERKIT_CACHE to a folder with room."
        ) from None
    if kept is None:
        raise OSError(
            f"Expected the faces just written to {key.name}.npy, but they cannot be read back; delete the "
            "file and try again."
        )
    return _unless_broken(kept, missing)


def _unless_broken(kept: Stored, missing: str) -> Stored:
    broken = [reason for reason in kept.skipped.values() if not reason.endswith(NO_FACE)]
    if broken and missing == "error":
        raise ValueError(f"{broken[0]}.")
    return kept


def _state(listing: Listing, size: int, margin: float) -> str:
    known: dict[str, str] = {}  # a picture with many faces is looked at once
    digest = hashlib.sha256(f"{size} {margin!r} {BLOCK} {listing.crop or ''}\n".encode())
    for row, name in enumerate(listing.files):
        if name not in known:
            try:
                stat = os.stat(os.path.join(listing.root, name))
            except OSError as error:
                raise FileNotFoundError(
                    f"Expected the picture {name} below {listing.root} ({listing.place(row)}), but "
                    f"{error.strerror or error}; complete the copy."
                ) from None
            known[name] = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(known[name].encode("utf-8", "surrogateescape"))
    for array in (listing.boxes, listing.landmarks):
        digest.update(b"none" if array is None else np.ascontiguousarray(array, np.float64).tobytes())
    return digest.hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _open(key: Path) -> Stored | None:
    """Return the faces kept under `key`, or None where they are absent or torn: size, first and last block are checked.
    """
    try:
        known = read_json(key.with_suffix(".json"))
        images = open_mapped(key.with_suffix(".npy"))
        sums = [int(value) for value in known["crc32"]]
        whole = images.dtype == np.uint8 and images.ndim == 4 and len(sums) == -(-len(images) // BLOCK)
        for block in {0, len(sums) - 1}:
            whole = (
                whole
                and zlib.crc32(np.ascontiguousarray(images[block * BLOCK : (block + 1) * BLOCK]).data) == sums[block]
            )
        skipped = {int(row): str(reason) for row, reason in known["skipped"].items()}
        return Stored(images, str(known["sha256"]), skipped) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None


def _begin(part: Path, header: bytes, total: int) -> None:
    """Make the file for the faces at its full length, unless an interrupted run left it."""
    with suppress(OSError):
        if part.stat().st_size == total:
            return
    room = shutil.disk_usage(part.parent).free
    if room < total:
        raise OSError(28, f"only {room / 1e9:.1f} GB are free")
    part.with_suffix(".blocks").unlink(missing_ok=True)
    with replacing(part) as temporary, temporary.open("wb") as stream:
        stream.write(header)
        stream.truncate(total)


def _journal(path: Path, blocks: int) -> dict[int, dict[str, Any]]:
    """Return what is said of finished blocks; a line that an interruption cut off is passed over."""
    found: dict[int, dict[str, Any]] = {}
    with suppress(OSError):
        for text in path.read_text("utf-8", "replace").splitlines():
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                line = json.loads(text)
                if 0 <= int(line["block"]) < blocks and len(line["sha256"]) == 64:
                    found[int(line["block"])] = {
                        "crc32": int(line["crc32"]),
                        "sha256": str(line["sha256"]),
                        "skipped": dict(line["skipped"].items()),
                    }
    return found


def _fill(
    key: Path,
    kind: str,
    listing: Listing,
    shape: tuple[int, ...],
    margin: float,
    drop: bool,
    workers: int,
    progress: bool,
) -> list[dict[str, Any]]:
    header, face = _header(shape), int(np.prod(shape[1:]))
    part, blocks = key.with_suffix(".part"), -(-shape[0] // BLOCK)
    _begin(part, header, len(header) + shape[0] * face)
    done = _journal(key.with_suffix(".blocks"), blocks)
    block = np.empty((BLOCK, *shape[1:]), np.uint8)
    with (
        part.open("r+b") as stream,
        key.with_suffix(".blocks").open("a", encoding="utf-8") as journal,
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=shape[0], desc=f"decoding {kind}", unit="face", delay=2, disable=None if progress else True) as bar,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of PIL, see read_picture; once for all threads, which share the filters
        for number in range(blocks):
            rows = range(number * BLOCK, min((number + 1) * BLOCK, shape[0]))
            if (
                number in done
                and (drop or not done[number]["skipped"])
                and _intact(stream, len(header) + rows.start * face, len(rows) * face, done[number]["crc32"])
            ):
                bar.update(len(rows))
                continue
            results = list(
                pool.map(lambda row: _decode(listing, row, shape[-1], margin, drop, block[row % BLOCK]), rows)
            )
            data = block[: len(rows)].data
            stream.seek(len(header) + rows.start * face)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # the line below must not outlive the faces it speaks of
            lines = "".join(f"{listing.files[row]}\0{digest}\n" for row, (digest, _) in zip(rows, results, strict=True))
            sha256 = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
            skipped = {str(row): reason for row, (_, reason) in zip(rows, results, strict=True) if reason}
            done[number] = {"crc32": zlib.crc32(data), "sha256": sha256, "skipped": skipped}
            journal.write("\n" + json.dumps({"block": number, **done[number]}))
            journal.flush()
            bar.update(len(rows))
    return [done[number] for number in range(blocks)]


def _intact(stream: io.BufferedRandom, start: int, length: int, crc32: object) -> bool:
    stream.seek(start)
    return zlib.crc32(stream.read(length)) == crc32


def _decode(listing: Listing, row: int, size: int, margin: float, drop: bool, out: np.ndarray) -> tuple[str, str]:
    """Write one face into `out` (3, S, S); return the sha256 of its picture's bytes, and why there is no face, or "".
    """
    file = os.path.join(listing.root, listing.files[row])
    data = b""
    try:
        with open(file, "rb") as stream:
            data = stream.read()
        face = _cut(data, listing, row, size, margin)
        for channel in range(3):  # a fifth faster than one copy of the transposed array
            out[channel] = face[..., channel]
    except (ValueError, OSError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        sentence = f"{listing.files[row]} ({listing.place(row)}): {reason}"
        if not (drop or isinstance(error, _NoFace)):
            raise ValueError(f"{sentence}.") from None
        out[:] = 0
        return hashlib.sha256(data).hexdigest(), sentence
    return hashlib.sha256(data).hexdigest(), ""


def _cut(data: bytes, listing: Listing, row: int, size: int, margin: float) -> np.ndarray:
    """Return the face of a picture, or the whole picture scaled to a square, (S, S, 3)."""
    box = None if listing.boxes is None else listing.boxes[row]
    landmarks = None if listing.landmarks is None else listing.landmarks[row]
    if listing.crop == "face":
        image, _ = upright(open_picture(data))
        faces = find_faces(image)
        if not faces:
            raise _NoFace(NO_FACE)
        return crop_face(image, faces[0], size=size)
    if box is None and landmarks is None:
        image, _ = upright(open_picture(data), shortest=2 * size)
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    image, divided = upright(open_picture(data))
    scaled = [None if points is None else np.asarray(points, np.float64) / divided for points in (box, landmarks)]
    return crop_face(image, Face(scaled[0], 1.0, scaled[1]), margin=margin, size=size, align=landmarks is not None)  # type: ignore[arg-type]
