"""FER2013 in the four layouts it travels in: the contest's csv, packed csv, folders of one class each, parquet.

Goodfellow et al., "Challenges in Representation Learning: A report on three machine learning contests", ICONIP 2013
(arXiv 1307.0414): 35,887 grey faces of 48x48 pixels, seven labels. How to get it: data/README.md.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeVar

import numpy as np

from ferkit import labels
from ferkit.data.faceset import FaceSet
from ferkit.data.io import cache
from ferkit.data.io.archives import csv_rows, is_packed
from ferkit.data.io.cache import Arrays
from ferkit.data.io.folders import find_class_folders, find_parquet, read_class_folders, read_parquet

SIDE = 48
PIXELS = SIDE * SIDE
USAGES = {"Training": "train", "PublicTest": "public_test", "PrivateTest": "private_test"}
#: Images per class of the contest's three splits, in FER2013's label order. Their sums are 28,709, 3,589 and 3,589.
OFFICIAL_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "public_test": (467, 56, 496, 895, 653, 415, 607),
    "private_test": (491, 55, 528, 879, 594, 416, 626),
}
#: File names looked for in a folder, in this order.
CSV_NAMES = ("fer2013.csv", "fer2013.csv.gz", "icml_face_data.csv", "icml_face_data.csv.gz", "fer2013.zip",
             "fer2013.csv.zip", "icml_face_data.csv.zip", "fer2013.tar.gz")  # fmt: skip
_CODES = {str(code): code for code in range(7)}
_DIGITS_AND_BLANKS = b"0123456789 \t\r\n"
_BLANK = (ord(" ") - ord("0")) % 256
Code = TypeVar("Code", int, str)


def load_fer2013(path: str | os.PathLike[str] | None = None) -> FaceSet:
    """Load FER2013 from a file or folder; parsed once, memory-mapped from the cache afterwards.

    Args:
        path: fer2013.csv or icml_face_data.csv, plain or as .gz, .zip, .tar.gz; a folder holding one of these; a folder
            `train/angry/*.jpg`, `test/happy/*.jpg`, ...; a parquet file or a folder of them. Default: environment
            variable FERKIT_FER2013, else `data/raw` and `data/raw/fer2013` under the working directory or the checkout.

    Returns:
        FaceSet of (N, 48, 48) grey images, `names` in FER2013's own order, rows in the order of the source. The csv
        gives splits `train`, `public_test`, `private_test`; folders and parquet give `train`, `test`, `validation`
        after their own names. The widespread folder copy merges the contest's two test sets into `test`.

    Raises:
        FileNotFoundError: where there is nothing to read.
        ValueError: where the content is not FER2013; the sentence names the data row (counted from 1) or the file.
    """
    source = find_source(path)
    if source.is_file():
        parquet = source.suffix == ".parquet"
        # a parquet file's name says which split it is, so it is part of the digest
        files, root = [source], source.parent if parquet else source
        reader = (lambda: read_parquet(files, SIDE)) if parquet else (lambda: read_csv(source))
        layout = "parquet" if parquet else "csv"
    elif files := find_parquet(source):
        root, layout, reader = source, "parquet", lambda: read_parquet(files, SIDE)
    elif files := find_class_folders(source):
        root, layout, reader = source, "class folders", lambda: read_class_folders(files, source, SIDE)
    else:
        raise FileNotFoundError(
            f"Expected FER2013 in {source}: one of {', '.join(CSV_NAMES[:4])}, folders such as train/angry, or parquet "
            "files; found none of them. data/README.md says how to get it."
        )
    sha256 = cache.source_sha256(files, root)
    arrays = cache.read_once("fer2013", sha256, reader)
    note = f"{source.name} ({layout}{'; ' + arrays.note if arrays.note else ''})"
    return FaceSet(
        images=arrays.images,
        labels=arrays.labels,
        names=labels.order("fer2013"),
        split=arrays.split,
        name="fer2013",
        source=note,
        sha256=sha256,
    )


def lacks(faceset: FaceSet) -> dict[str, int]:
    """Return how many rows the contest's splits have that this copy has not; {} for a complete one."""
    found = faceset.splits()
    missing = {split: sum(counts) - found.get(split, 0) for split, counts in OFFICIAL_COUNTS.items()}
    return {split: n for split, n in missing.items() if n > 0}


def find_source(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the file or folder that `load_fer2013` reads for `path`. Raises FileNotFoundError where there is none."""
    asked = path or os.environ.get("FERKIT_FER2013")
    if asked:
        source = Path(asked).expanduser()
        if not source.exists():
            raise FileNotFoundError(
                f"Expected FER2013 at {source}, found nothing there. Check the path (or FERKIT_FER2013); "
                "data/README.md says how to get the data set."
            )
        folders = [source, source / "fer2013"] if source.is_dir() else []
    else:
        # a notebook's working directory is its own folder, so the checkout's data/raw is looked into as well
        places = [Path("data/raw"), Path(__file__).parents[2] / "data" / "raw"]
        source = next((place for place in places if place.is_dir()), places[0])
        folders = [source, source / "fer2013"]
    for folder in folders:
        for name in CSV_NAMES:
            if (folder / name).is_file():
                return folder / name
    if not asked and (source / "fer2013").is_dir():
        return source / "fer2013"
    if not asked:
        raise FileNotFoundError(
            "Expected FER2013 at the path given, in FERKIT_FER2013 or in data/raw; none of the three is there. "
            "data/README.md says how to get the data set."
        )
    return source


def read_csv(path: Path, faults: dict[int, str] | None = None) -> Arrays:
    """Parse the contest's csv (columns emotion, pixels, Usage in any order) row by row, without caching.

    A wrong row raises ValueError, or is left out and added to `faults` under its number among the data rows, from 1.
    """
    if path.suffix.lower() not in (".csv", ".txt") and not is_packed(path):
        raise ValueError(
            f"Expected FER2013 as .csv, .csv.gz, .zip, .tar.gz or .parquet, found {path.name}. "
            "data/README.md lists the layouts."
        )
    images = bytearray()
    codes: list[int] = []
    splits: list[str] = []
    with csv_rows(path, CSV_NAMES) as rows:
        emotion, pixels, usage, width = _columns(next(rows, []), path)
        for number, row in enumerate(rows, start=1):
            try:
                if len(row) != width:
                    raise ValueError(f"expected {width} columns, found {len(row)}; the file may be cut off here")
                code = _code(row[emotion], _CODES, "an emotion from 0 to 6")
                split = _code(row[usage], USAGES, f"Usage among {', '.join(USAGES)}")
                images += parse_pixels(row[pixels])
            except ValueError as error:
                sentence = f"{path.name}, data row {number}: {error}."
                if faults is None:
                    raise ValueError(sentence) from None
                faults[number] = sentence
                continue
            codes.append(code)
            splits.append(split)
    if not codes and not faults:
        raise ValueError(f"Expected rows of images in {path.name}, found a header and nothing below it.")
    table = np.frombuffer(images, np.uint8).reshape(-1, SIDE, SIDE)
    return Arrays(table, np.array(codes, np.int64), np.array(splits))


def _columns(header: list[str], path: Path) -> tuple[int, int, int, int]:
    names = [name.strip().lower() for name in header]
    absent = [name for name in ("emotion", "pixels", "usage") if name not in names]
    if not absent:
        return names.index("emotion"), names.index("pixels"), names.index("usage"), len(names)
    found = ", ".join(_short(name) for name in header[:12]) or "an empty file"
    step = "See data/README.md for the layouts."
    if "pixels" in names:
        contest = (
            "test.csv, which has no labels" if "emotion" in absent else "train.csv, which does not name the splits"
        )
        step = f"This looks like the contest's {contest}: take fer2013.csv or icml_face_data.csv of the same download."
    raise ValueError(f"Expected the columns emotion, pixels, Usage in {path.name}, found {found}. {step}")


def _short(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "...")


def _code(text: str, known: dict[str, Code], what: str) -> Code:
    code = known.get(text.strip())
    if code is None:
        raise ValueError(f"expected {what}, found {_short(text)}")
    return code


def _three_digits(text: bytes) -> bytes | None:
    """Return the pixels in a text of numbers of at most three digits with single blanks between them,
    None for any other text.

    Nearly every row is like this. All characters are looked at at once, which takes half the time of reading number by
    number.
    """
    # what is below "0" wraps around to a large number
    digit = np.frombuffer(b"   " + text + b" ", np.uint8) - np.uint8(48)
    is_digit = digit < 10
    pairs = is_digit[:-1] & is_digit[1:]
    ends = np.flatnonzero(is_digit[3:-1] > is_digit[4:])
    blanks = len(digit) - np.count_nonzero(is_digit)
    if len(ends) != PIXELS or blanks != np.count_nonzero(digit == _BLANK) or (pairs[:-2] & pairs[2:]).any():
        return None
    digit *= is_digit.view(np.uint8)
    below_100 = (digit[3:-1] + np.uint8(10) * digit[2:-2]).take(ends)
    hundreds = (digit[1:-3] * pairs[1:-2].view(np.uint8)).take(ends)
    if hundreds.max() > 2 or below_100[hundreds == 2].max(initial=0) > 55:
        return None
    return (below_100 + np.uint8(100) * hundreds).tobytes()


def parse_pixels(text: str) -> bytes:
    """Turn 2,304 grey values from 0 to 255, written with blanks between them, into bytes.

    Raises ValueError saying which value is not one, or how many there are.
    """
    digits = text.encode("ascii", "replace")
    pixels = _three_digits(digits)
    if pixels is not None:
        return pixels
    if not digits.translate(None, _DIGITS_AND_BLANKS):
        # 64 bits: numpy stops at the largest number there instead of wrapping around to a small one
        values = np.fromstring(digits, np.int64, sep=" ")
        if len(values) == PIXELS and values.max() < 256:
            return values.astype(np.uint8).tobytes()
    words = re.findall(r"[^ \t\r\n]+", text)
    for place, word in enumerate(words, start=1):
        if not re.fullmatch("0{0,9}[0-9]{1,3}", word, re.ASCII) or int(word) > 255:
            raise ValueError(
                f"expected pixels as whole numbers from 0 to 255, found {_short(word)} at position {place}"
            )
    raise ValueError(f"expected {PIXELS} pixels (48x48), found {len(words)}; the row, or the file, may be cut off here")
