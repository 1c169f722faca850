"""Writing a file whole or not at all, reading JSON with a clear answer to a damaged one, and the digest of a file."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes the place
    of `path` when the block ends without an error.

    Readers therefore see the old file or the new one, never a part, and several processes may write the same file at
    once: each has a temporary name of its own, and the last to finish wins. After an error the old file stays. Nothing
    is forced to the disk, so a power failure may still leave a torn file.

    Folders that are absent are made.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are readable by their owner alone, and a renamed file keeps that.
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON object in a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, cut off, or no JSON object; the sentence names it.

    """
    data = Path(path).read_bytes()
    try:
        values = json.loads(data)
    except ValueError as error:  # both of JSON and of UTF-8
        found = f"it cannot be read ({error})" if data.strip(b"\0 \r\n\t") else "it is empty"
        raise ValueError(
            f"Expected JSON in {path}, but {found}; it was cut off or changed by hand. Restore it, or delete it to "
            "have it made again."
        ) from None
    if not isinstance(values, dict):
        raise ValueError(f"Expected a JSON object ({{...}}) in {path}, found {type(values).__name__}.")
    return values


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
