"""Every picture looked at once: a record of fixed size each, kept on disk block by block,
so that an interrupted look goes on.

The file `doctor-<key>.records` in the cache folder holds, per block of `BLOCK` pictures, a digest of the state of their
files (names, sizes, times of change, boxes), the records and a checksum. A later look reads blocks whose state is the
same and looks at the pictures of the others, so memory and time stay bounded for large sets and a small change costs
little.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm.auto import tqdm

from ferkit.data.io.cache import cache_folder
from ferkit.data.io.pictures import Listing
from ferkit.doctor.survey import Survey
from ferkit.faces.crop import in_picture, square_box
from ferkit.faces.decode import DEEP, open_picture, upright

VERSION = 2
BLOCK = 1024
#: Side of the small grey picture that near copies are recognised by.
THUMB = 16
#: What the bits of a record's `flags` mean.
FLAGS = {
    name: 1 << bit
    for bit, name in enumerate(
        ("missing", "unreadable", "too_large", "deep", "blank", "grey", "animated", "alpha", "other_mode", "bad_box")
    )
}
RECORD = np.dtype(
    [
        ("digest", "<u8"),  # of the file's bytes and the box, or of the pixels where there are no files
        ("flags", "<u2"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("red_blue", "<f4"),  # mean of red less blue in the middle of the picture
        ("thumb", "u1", (THUMB, THUMB)),
    ]
)
#: Values of a blank picture lie no further apart: jpeg may shake a single colour a little.
_BLANK = 2
_GREY = 3


def look(survey: Survey, *, workers: int | None = None, progress: bool = True) -> np.ndarray:
    """Return a record of each picture of a survey, (N,) of `RECORD`, memory-mapped where it was kept.

    Args:
        survey: from `ferkit.doctor.survey.survey`.
        workers: threads that decode; default one per processor, eight at most.
        progress: show a bar where it takes more than two seconds.

    Where the cache cannot be written a warning says so, and nothing is kept.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"Expected at least one worker, found {workers!r}.")
    n = len(survey.labels)
    if not n:
        return np.empty(0, RECORD)
    key = hashlib.sha256(f"{survey.key}\0{BLOCK} {THUMB}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    path = cache_folder() / f"doctor-v{VERSION}-{key}.records"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")), open(path, "r+b" if path.exists() else "w+b") as stream:
            return _fill(stream, survey, n, workers or min(8, os.cpu_count() or 1), progress)
    except OSError as error:
        warnings.warn(
            f"What is seen cannot be kept in {cache_folder()} ({error.strerror or error}), so the next call looks "
            "again; set FERKIT_CACHE.",
            stacklevel=3,
        )
        return _fill(io.BytesIO(), survey, n, workers or min(8, os.cpu_count() or 1), progress)


def _fill(stream: IO[bytes], survey: Survey, n: int, workers: int, progress: bool) -> np.ndarray:
    records = np.empty(n, RECORD)
    span = 16 + BLOCK * RECORD.itemsize + 4
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(
            total=n, desc=f"looking at {survey.set_name}", unit="image", delay=2, disable=None if progress else True
        ) as bar,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of PIL, see read_picture; once for all threads, which share the filters
        for number, start in enumerate(range(0, n, BLOCK)):
            rows = range(start, min(start + BLOCK, n))
            state = survey_state(survey, rows)
            stream.seek(number * span)
            kept = stream.read(16 + len(rows) * RECORD.itemsize + 4)
            body = kept[16:-4]
            if (
                kept[:16] == state
                and len(kept) == 20 + len(rows) * RECORD.itemsize
                and zlib.crc32(body).to_bytes(4, "little") == kept[-4:]
            ):
                records[rows.start : rows.stop] = np.frombuffer(body, RECORD)
            else:
                block = records[rows.start : rows.stop]
                block[:] = np.zeros((), RECORD)
                if survey.images is not None:
                    _arrays(np.asarray(survey.images[rows.start : rows.stop]), block)
                else:
                    assert survey.listing is not None
                    list(pool.map(lambda row: _file(survey.listing, row, records[row : row + 1]), rows, chunksize=8))  # type: ignore[arg-type]
                body = block.tobytes()
                stream.seek(number * span)
                stream.write(state + body + zlib.crc32(body).to_bytes(4, "little"))
                stream.flush()
            bar.update(len(rows))
        stream.truncate((number + 1) * span)
    return records


def survey_state(survey: Survey, rows: range) -> bytes:
    """Return 16 bytes that change with the pictures in `rows`: names, sizes and times of their files,
    or their pixels' source.
    """
    digest = hashlib.blake2b(f"{survey.state} {rows.start} {rows.stop}".encode(), digest_size=16)
    listing = survey.listing
    if listing is not None:
        for row in rows:
            name = listing.files[row]
            try:
                stat = os.stat(os.path.join(listing.root, name))
                digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            except (OSError, ValueError):
                digest.update(f"{name}\0absent\n".encode("utf-8", "surrogateescape"))
        if listing.boxes is not None:
            digest.update(np.ascontiguousarray(listing.boxes[rows.start : rows.stop]).tobytes())
    return digest.digest()


def _arrays(images: np.ndarray, out: np.ndarray) -> None:
    """Fill records from grey images (n, H, W)."""
    flat = images.reshape(len(images), -1)
    out["height"], out["width"] = images.shape[1:3]
    out["flags"] = FLAGS["grey"] | np.where(flat.max(1) - flat.min(1) <= _BLANK, FLAGS["blank"], 0)
    for row, image in enumerate(images):
        out["digest"][row] = int.from_bytes(
            hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "little"
        )
        out["thumb"][row] = np.asarray(Image.fromarray(image).resize((THUMB, THUMB), Image.Resampling.BOX))


def _file(listing: Listing, row: int, out: np.ndarray) -> None:
    path = Path(listing.root, listing.files[row])
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        out["flags"] = FLAGS["missing"]
        return
    except (OSError, ValueError):
        out["flags"] = FLAGS["missing"] if not os.path.isfile(path) else FLAGS["unreadable"]
        return
    box = None if listing.boxes is None else listing.boxes[row]
    digest = hashlib.blake2b(data, digest_size=8)
    if box is not None:
        digest.update(np.ascontiguousarray(box).tobytes())
    out["digest"] = int.from_bytes(digest.digest(), "little")
    try:
        image = open_picture(data)
    except ValueError as error:
        out["flags"] |= FLAGS["too_large" if "megapixels" in str(error) else "unreadable"]
        return
    try:
        _picture(image, box, out)
    except Exception:  # counting the frames of a damaged animation raises whatever its format leads to
        out["flags"] |= FLAGS["unreadable"]


def _picture(image: Image.Image, box: np.ndarray | None, out: np.ndarray) -> None:
    flags = _kind(image)
    out["width"], out["height"] = size = image.size
    # four times the small picture's side is enough to see copies by, and a JPEG is decoded at that in a third of the
    # time
    side = min(size) if box is None else max(box[2] - box[0], box[3] - box[1], 1)
    image, divided = upright(image, shortest=math.ceil(4 * THUMB * min(size) / side))
    if (size[0] > size[1]) != (image.width > image.height):  # it lay on its side
        out["height"], out["width"] = size
    if box is not None and in_picture(box / divided, *image.size):
        left, top, right, bottom = (round(value) for value in square_box(box / divided))
        image = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    elif box is not None:
        flags |= FLAGS["bad_box"]
    extrema = image.getextrema()
    flags |= FLAGS["blank"] if all(high - low <= _BLANK for low, high in extrema) else 0  # type: ignore[misc, operator]
    small = image.resize((THUMB, THUMB), Image.Resampling.BOX)
    pixels = np.asarray(small, np.int16)
    spread = pixels.max(2) - pixels.min(2)
    flags |= FLAGS["grey"] if spread.max() <= _GREY else 0
    middle = pixels[THUMB // 4 : -THUMB // 4, THUMB // 4 : -THUMB // 4]
    out["red_blue"] = (middle[..., 0] - middle[..., 2]).mean()
    out["thumb"] = np.asarray(small.convert("L"))
    out["flags"] |= flags


def _kind(image: Image.Image) -> int:
    """Return the flags that a picture's header shows."""
    flags = FLAGS["animated"] if image.format != "MPO" and getattr(image, "n_frames", 1) > 1 else 0
    flags |= FLAGS["alpha"] if image.has_transparency_data else 0
    flags |= FLAGS["deep"] if image.mode.startswith(DEEP) else 0
    return flags | (FLAGS["other_mode"] if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else 0)
