"""Finding the folder of a data set and reading the list files in it; every fault is one sentence with the row it is in.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

MAX_LINE = 1 << 16
MAX_SENTENCE = 600


def find_folder(path: str | os.PathLike[str] | None, variable: str, name: str, title: str) -> Path:
    """Return the folder of a data set: `path`, else the one named by an environment variable, else `data/raw/<name>`.

    Raises FileNotFoundError saying where was looked.
    """
    asked = path or os.environ.get(variable)
    if asked:
        folder = Path(asked).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"Expected the folder of {title} at {folder}, found {'a file' if folder.exists() else 'nothing'} "
                f"there. Check the path (or {variable}); data/README.md says how to get the data set."
            )
        return folder
    places = [Path("data/raw") / name, Path(__file__).parents[2] / "data" / "raw" / name]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"Expected the folder of {title} at the path given, in {variable} or in data/raw/{name}; none of the three "
        "is there. data/README.md says how to get the data set."
    )


def first_file(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of the files that is there, or None."""
    return next((root / name for name in names if (root / name).is_file()), None)


def first_folder(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of the folders that is there, or None."""
    return next((root / name for name in names if (root / name).is_dir()), None)


def refuse(sentence: str, faults: list[str] | None = None) -> None:
    """Raise a ValueError with the sentence, shortened where it quotes more than fits, or, where faults are collected,
    add it to them.
    """
    if len(sentence) > MAX_SENTENCE:
        sentence = f"{sentence[: MAX_SENTENCE - 100]} ... {sentence[-80:]}"
    if faults is None:
        raise ValueError(sentence) from None
    faults.append(sentence)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank with their number, from 1, whatever ends them; a byte order mark is taken off.

    Raises ValueError for a line longer than any list has, or a NUL in it: no text file.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        number = 0
        while line := stream.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE or "\0" in line:
                raise ValueError(
                    f"{path.name}, row {number}: expected a line of text, found {line[:20]!r}...; is "
                    "this the list file?"
                )
            if text := line.strip():
                yield number, text


def picture_name(name: str) -> str:
    """Return a file name from a list with "/" between folders.

    Raises ValueError, without saying where, for a name that leads out of the data set's folder.
    """
    plain = name.strip().replace("\\", "/")
    parts = PurePosixPath(plain)
    if not plain or parts.is_absolute() or ".." in parts.parts or ":" in plain or "\0" in plain:
        raise ValueError(f"expected the name of a picture inside the data set's folder, found {name!r}")
    return plain


def number(text: str, what: str, low: float = -np.inf, high: float = np.inf) -> float:
    """Return a number from text.

    Raises ValueError, without saying where, unless it is finite and from `low` to `high`.
    """
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and low <= value <= high):
        span = "" if np.isinf(low) else f" from {low:g} to {high:g}"
        raise ValueError(f"expected {what} as a number{span}, found {text[:40]!r}")
    return value


def whole_number(text: str, what: str, low: int, high: int) -> int:
    """Return a whole number from text.

    Raises ValueError, without saying where, unless it is one from `low` to `high`.
    """
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit() and low <= int(stripped[:9]) <= high):
        raise ValueError(f"expected {what} from {low} to {high}, found {text[:40]!r}")
    return int(stripped)


def plain_code(text: str) -> str:
    """Return the class number "3" for a text such as "3.0" or "03", as tables write it; any other text as it is."""
    stripped = text.strip()
    found = re.fullmatch(r"0*(\d{1,3})(\.0*)?", stripped, re.ASCII)
    return found[1] if found else stripped


def combined_sha256(pictures: str, *arrays: np.ndarray, text: str = "") -> str:
    """Return one digest of the pictures' own and of what the lists say of them."""
    digest = hashlib.sha256(f"{pictures}\n{text}\n".encode())
    for array in arrays:
        plain = (
            "\n".join(map(str, array.tolist())) if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes()
        )
        digest.update(plain.encode("utf-8", "surrogateescape") if isinstance(plain, str) else plain)
    return digest.hexdigest()
