"""Rows of a csv that may be packed as .gz, .zip or .tar.gz; nothing is ever unpacked to disk."""

from __future__ import annotations

import csv
import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, cast

MAX_BYTES = 2 << 30  # FER2013's csv is about 0.3 GB
MAX_LINE = 1 << 17  # a row of 48x48 values takes 9.3 kB at most; and the limit of a field in Python's csv module
MAX_BLANK = 1_000_000


# RuntimeError: a zip with a password or an unknown compression
_DAMAGE = (EOFError, OSError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def is_packed(path: Path) -> bool:
    """Return whether the file name is that of a packed csv."""
    return path.name.lower().endswith((".gz", ".tgz", ".zip", ".tar"))


@contextmanager
def csv_rows(path: Path, prefer: Sequence[str], *, delimiter: str = ",") -> Iterator[Iterator[list[str]]]:
    """Open a csv, packed or not, as an iterator over its rows; of several members the first in `prefer` is taken.

    Blank lines are left out; a row ends with its line, also inside quotes. `delimiter` is what separates columns.

    Raises ValueError, also from the iterator, where the file is damaged, cut off, too large or no csv.
    """
    name = path.name.lower()
    whole: IO[bytes] | None = None
    with ExitStack() as stack:
        try:
            if name.endswith((".tar.gz", ".tgz", ".tar")):
                archive = stack.enter_context(tarfile.open(path))
                sizes = _tar_sizes(archive, path)
                stream: IO[bytes] | None = archive.extractfile(_member(sizes, prefer, path))
                whole = cast("IO[bytes]", archive.fileobj)
                assert stream is not None  # a regular file, by the line above
            elif name.endswith(".zip"):
                pack = stack.enter_context(zipfile.ZipFile(path))
                # is_dir fails on an empty name
                sizes = {info.filename: info.file_size for info in pack.infolist() if not info.filename.endswith("/")}
                stream = pack.open(_member(sizes, prefer, path))
            else:
                stream = cast(IO[bytes], gzip.open(path) if name.endswith(".gz") else path.open("rb"))
            stack.enter_context(stream)
        except _DAMAGE as error:
            raise ValueError(_damaged(path, error)) from None
        # a tar ends before the checksum of what packs it, so that is read on to
        yield _rows(_lines(stream, path, whole), delimiter)


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    blank = 0
    for line in lines:
        text = line.rstrip("\r\n")
        blank = 0 if text else blank + 1
        if blank > MAX_BLANK:  # two gigabytes of them would take an hour
            raise ValueError(f"Expected rows of a csv, found {blank:,} blank lines one after the other.")
        if text:  # csv's reader goes letter by letter, which takes as long as reading all the numbers
            yield next(csv.reader([text], delimiter=delimiter)) if '"' in text else text.split(delimiter)


def _damaged(path: Path, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(":")
    return f"Expected {path.name} whole, but it is damaged or cut off ({reason}). Download or copy it again."


def _tar_sizes(archive: tarfile.TarFile, path: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for member in archive:  # unpacks on the way, so a bomb must be stopped here
        if member.isfile():
            sizes[member.name] = member.size
        if sum(sizes.values()) > MAX_BYTES:
            raise ValueError(f"Expected at most {MAX_BYTES:,} bytes in {path.name}, found more.")
    return sizes


def _member(sizes: dict[str, int], prefer: Sequence[str], path: Path) -> str:
    tables = [name for name in sizes if name.lower().endswith(".csv")]
    tables.sort(key=lambda name: (_rank(name, prefer), len(name), name))
    if not tables:
        found = ", ".join(repr(name[:40]) for name in list(sizes)[:8]) or "nothing"
        raise ValueError(f"Expected a .csv inside {path.name}, found {found}. Unpack it, and name the csv itself.")
    chosen = tables[0]
    parts = PurePosixPath(chosen.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise ValueError(
            f"Expected plain names inside {path.name}, found {chosen[:100]!r}, which leaves the archive's folder."
        )
    if sizes[chosen] > MAX_BYTES:
        raise ValueError(
            f"Expected at most {MAX_BYTES:,} bytes of csv in {path.name}, found {sizes[chosen]:,} in {chosen[:100]!r}."
        )
    return chosen


def _rank(name: str, prefer: Sequence[str]) -> int:
    base = PurePosixPath(name).name.lower()
    return prefer.index(base) if base in prefer else len(prefer)


def _lines(stream: IO[bytes], path: Path, whole: IO[bytes] | None) -> Iterator[str]:
    read = 0
    try:
        for line in _plain_lines(stream):
            read += len(line)
            if len(line) >= MAX_LINE:
                raise ValueError(f"Expected a csv in {path.name}, found a line longer than {MAX_LINE:,} characters.")
            if read > MAX_BYTES:
                raise ValueError(f"Expected at most {MAX_BYTES:,} bytes of csv in {path.name}, found more.")
            yield line
        while whole is not None and (rest := len(whole.read(1 << 20))):
            read += rest
            if read > 2 * MAX_BYTES:
                raise ValueError(f"Expected at most {MAX_BYTES:,} bytes of csv in {path.name}, found more.")
    except _DAMAGE as error:
        raise ValueError(_damaged(path, error)) from None


def _plain_lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield lines in UTF-8 whatever ends them; one that is too long is cut, and as long as `MAX_LINE` then.

    Python's own reader of texts takes twice as long for lines of 9 kB, so it is left to files whose lines end as they
    did on old Macs.
    """
    buffered = io.BufferedReader(cast(io.RawIOBase, stream), 1 << 16)
    text = io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="replace", newline="")
    try:
        head = buffered.peek(1)
        if b"\r" in head and b"\n" not in head:
            while line := text.readline(MAX_LINE):
                yield line
        first = True
        while raw := buffered.readline(MAX_LINE):
            line = raw.decode("utf-8", "replace")
            if first:
                first, line = False, line.removeprefix("\ufeff")
            if line.find("\r", 0, -2) < 0 or len(raw) == MAX_LINE:
                yield line if len(raw) < MAX_LINE else line.ljust(MAX_LINE)
            else:
                yield from re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", line)
    finally:
        with suppress(ValueError):  # the stream is closed by those who opened it, at times before
            text.detach().detach()
