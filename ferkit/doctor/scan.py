"""Every picture looked at once: a record of fixed size each, kept on disk block by block, so that an interrupted look goes on.

The file `doctor-<key>.records` in the cache folder holds, per block of `BLOCK` pictures, a digest of the state of their files
(names, sizes, times of change, boxes), the records and a checksum. A later look reads blocks whose state is the same and looks
at the pictures of the others, so memory and time stay bounded for large sets and a small change costs little.
"""

from __future__ import annotations

import hashlib
import io
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
from ferkit.faces.crop import MAX_PIXELS, square_box

VERSION = 1
BLOCK = 1024
#: Side of the small grey picture that near copies are recognised by.
THUMB = 16
#: What the bits of a record's `flags` mean.
FLAGS = {name: 1 << bit for bit, name in enumerate(("missing", "unreadable", "too_large", "deep", "blank", "grey", "animated", "alpha", "other_mode", "bad_box"))}
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
_DEEP = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
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
        warnings.warn(f"What is seen cannot be kept in {cache_folder()} ({error.strerror or error}), so the next call looks again; set FERKIT_CACHE.", stacklevel=3)
        return _fill(io.BytesIO(), survey, n, workers or min(8, os.cpu_count() or 1), progress)


def _fill(stream: IO[bytes], survey: Survey, n: int, workers: int, progress: bool) -> np.ndarray:
    records = np.empty(n, RECORD)
    span = 16 + BLOCK * RECORD.itemsize + 4
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=n, desc=f"looking at {survey.set_name}", unit="image", delay=2, disable=None if progress else True) as bar,
    ):
        for number, start in enumerate(range(0, n, BLOCK)):
            rows = range(start, min(start + BLOCK, n))
            state = survey_state(survey, rows)
            stream.seek(number * span)
            kept = stream.read(16 + len(rows) * RECORD.itemsize + 4)
            body = kept[16:-4]
            if kept[:16] == state and len(kept) == 20 + len(rows) * RECORD.itemsize and zlib.crc32(body).to_bytes(4, "little") == kept[-4:]:
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
    """Return 16 bytes that change with the pictures in `rows`: names, sizes and times of their files, or their pixels' source."""
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
        out["digest"][row] = int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "little")
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                _picture(image, box, out)
    except Image.DecompressionBombError:
        out["flags"] |= FLAGS["too_large"]
    except Exception:  # PIL's readers raise whatever their formats' damage leads to
        out["flags"] |= FLAGS["unreadable"]


def _picture(image: Image.Image, box: np.ndarray | None, out: np.ndarray) -> None:
    out["width"], out["height"] = image.size
    flags = FLAGS["animated"] if getattr(image, "n_frames", 1) > 1 else 0
    flags |= FLAGS["alpha"] if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info else 0
    flags |= FLAGS["other_mode"] if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else 0
    if image.width * image.height > MAX_PIXELS or image.mode in _DEEP:
        out["flags"] = flags | FLAGS["too_large" if image.width * image.height > MAX_PIXELS else "deep"]
        return
    area = (0.0, 0.0, float(image.width), float(image.height))
    if box is not None:
        left, top, right, bottom = (float(value) for value in box)
        if not (right > left and bottom > top and right > 0 and bottom > 0 and left < image.width and top < image.height):
            out["flags"] = flags | FLAGS["bad_box"]
            box = None
        else:
            area = square_box(box, 0)
    side = min(area[2] - area[0], area[3] - area[1])
    if image.format == "JPEG" and side >= 8 * THUMB:  # the decoder can halve the picture for a third of the time
        wanted = 4 * THUMB / side
        whole = image.size
        image.draft(None, (max(1, int(whole[0] * wanted)), max(1, int(whole[1] * wanted))))
        scale = image.width / whole[0], image.height / whole[1]
        area = area[0] * scale[0], area[1] * scale[1], area[2] * scale[0], area[3] * scale[1]
    image = image.convert("RGB")
    if box is not None:
        image = image.crop((round(area[0]), round(area[1]), max(round(area[2]), round(area[0]) + 1), max(round(area[3]), round(area[1]) + 1)))
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
