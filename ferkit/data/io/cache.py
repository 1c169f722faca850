"""Read a source once, keep its arrays on disk beside a hash of the source, memory-map them ever after.

Three files per source in `cache_folder()`: `<key>.npy` holds the images, `<key>.npz` the labels, the splits and a
checksum of the images, `<path hash>.json` remembers which sha256 a path had at which size and modification time, so
that opening again needs no hash of the source. Each is written under another name and then moved into place.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ferkit.files import read_json, replacing, sha256, write_json

#: Part of every key: raised whenever a loader would read the same bytes differently.
VERSION = 2
#: A file changed less than this many seconds ago may change again within one tick of its file system's clock.
SETTLED = 2.0


class Arrays(NamedTuple):
    """What a loader reads: images uint8 (N, H, W), labels int64 (N,), split (N,) strings, notes in words."""

    images: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    note: str = ""


class Mapped(np.memmap):
    """A memory map that is opened again where it is unpickled, so that worker processes share it on the disk,
    each without a copy.

    They see what is in the file: what was written to the array in memory alone stays in the process that wrote it.
    """

    _mmap: mmap.mmap | None  # numpy's own

    def __reduce__(self) -> str | tuple[Any, ...]:
        # rows that were copied out of the map, or every second one
        if self._mmap is None or not self.flags.c_contiguous:
            return np.asarray(self).__reduce__()
        # a map begins at a multiple of the system's step before the data, and `offset` is that of the whole array, not
        # of a part
        begin = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
        inside = self.ctypes.data - np.frombuffer(self._mmap, np.uint8).ctypes.data
        return _open_part, (str(self.filename), begin + inside, self.shape, self.dtype.str)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return np.asarray(found) if isinstance(found, Mapped) and found._mmap is None else found


def _open_part(file: str, offset: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "c", offset, shape).view(Mapped)


def open_mapped(file: Path) -> Mapped:
    """Memory-map a .npy file; writing to the array changes memory, never the file. Raises what `np.load` raises."""
    return np.load(file, mmap_mode="c", allow_pickle=False).view(Mapped)


def cache_folder() -> Path:
    """Return where parsed data sets are kept: environment variable FERKIT_CACHE, else ~/.cache/ferkit,
    else the folder for temporary files.
    """
    if named := os.environ.get("FERKIT_CACHE"):
        return Path(named)
    try:
        return Path.home() / ".cache" / "ferkit"
    except RuntimeError:  # a user without a home, in a container mostly
        return Path(tempfile.gettempdir()) / "ferkit-cache"


def source_sha256(files: Sequence[Path], root: Path) -> str:
    """Return the sha256 of the file `root`, or of the lines "path NUL sha256 LF" of `files` below the folder `root`.

    Remembered by path, size and modification time, so that asking again costs no reading.
    """
    stats = [os.stat(file) for file in files]
    alone = files == [root]
    names = [root.name] if alone else [os.fspath(file)[len(os.fspath(root)) :] for file in files]
    listing = hashlib.sha256()
    for name, stat in zip(names, stats, strict=True):
        listing.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    state = listing.hexdigest()
    memory = cache_folder() / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = read_json(memory)
        if known["state"] == state:
            return str(known["sha256"])
    if alone:
        found = sha256(root)
    else:
        lines = [f"{file.relative_to(root).as_posix()}\0{sha256(file)}\n" for file in files]
        found = hashlib.sha256("".join(lines).encode()).hexdigest()
    if max((stat.st_mtime for stat in stats), default=0.0) < time.time() - SETTLED:
        with suppress(OSError):
            write_json(memory, {"state": state, "sha256": found})
    return found


def _open(key: Path) -> Arrays | None:
    """Return the arrays kept under `key`, or None where they are absent or not what was written."""
    try:
        with np.load(key.with_suffix(".npz"), allow_pickle=False) as kept:
            labels, split, checksum, note = kept["labels"], kept["split"], int(kept["crc32"]), str(kept["note"])
        images = open_mapped(key.with_suffix(".npy"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    whole = images.dtype == np.uint8 and len(images) == len(labels) == len(split)
    if not whole or zlib.crc32(np.ascontiguousarray(images).data) != checksum:
        return None
    return Arrays(images, labels, split, note)


def read_once(kind: str, sha256: str, read: Callable[[], Arrays]) -> Arrays:
    """Return the arrays of the source with digest `sha256`, calling `read` where no intact copy is kept.

    The images come back as a memory map; writing to them changes memory, never the file. Where the cache cannot be
    written, a warning says so and the arrays come back as they were read. What `read` raises is raised, and nothing is
    kept then.
    """
    key = cache_folder() / f"{kind}-v{VERSION}-{sha256[:32]}"
    kept = _open(key)
    if kept is not None:
        return kept
    arrays = read()
    try:
        with replacing(key.with_suffix(".npy")) as temporary, temporary.open("wb") as stream:
            np.save(stream, arrays.images, allow_pickle=False)
        with replacing(key.with_suffix(".npz")) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                labels=arrays.labels,
                split=arrays.split,
                crc32=np.uint32(zlib.crc32(np.ascontiguousarray(arrays.images).data)),
                note=np.str_(arrays.note),
            )
    except OSError as error:
        warnings.warn(
            f"The parsed {kind} images cannot be kept in {cache_folder()} ({error.strerror or error}), so the next "
            "start reads the source again; set FERKIT_CACHE to a folder with room.",
            stacklevel=3,
        )
        return arrays
    return _open(key) or arrays
