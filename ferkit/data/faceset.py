"""FaceSet: labelled face images with their splits, the one thing every loader returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

#: Names a split can have, in the order in which they are listed. `test` is a test set that is not one of FER2013's two.
SPLITS = ("train", "validation", "public_test", "private_test", "test")
#: Scattered rows of a memory map that take more bytes than this stay on disk until they are used.
LAZY_BYTES = 1 << 28


class Rows:
    """Scattered rows of a memory map, read where they are indexed:
    AffectNet's training images would take 10 GB in memory.

    It has what the project uses of an array: length, `shape`, `dtype`, `ndim`, `nbytes`, iteration, indices (whole
    numbers, slices, arrays, masks, and tuples of them, whose first one is for the rows), and `np.asarray`. Every index
    gives an ordinary array in memory; `at` gives rows of the rows without reading any.
    """

    def __init__(self, source: np.ndarray, rows: np.ndarray) -> None:
        if len(rows) and not (-len(source) <= rows.min() and rows.max() < len(source)):
            raise IndexError(f"Expected rows below {len(source)}, found {rows.min()} to {rows.max()}.")
        self.source, self.rows = source, rows % max(len(source), 1)
        self.shape, self.dtype, self.ndim = (len(rows), *source.shape[1:]), source.dtype, source.ndim

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def at(self, pick: slice | np.ndarray) -> np.ndarray:
        """Return some of the rows, read only where they are few or neighbours in the file."""
        return take_rows(self.source, self.rows[pick])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        if first is Ellipsis or first is None:
            return np.asarray(self)[index]
        rows = self.rows[first]
        picked = np.array(self.source[rows])  # a copy: what is written to it stays in memory
        return picked[(slice(None),) * rows.ndim + rest] if rest else picked

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.source[row] for row in self.rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Expected leave to copy: scattered rows of a file are no array in memory.")
        return np.asarray(self.source[self.rows], dtype)


def take_rows(images: np.ndarray | Rows, pick: slice | np.ndarray) -> np.ndarray:
    """Return some of the images: a view for a slice, else a copy, or `Rows` where a memory map is scattered and large.
    """
    if isinstance(images, Rows):
        return images.at(pick)
    if isinstance(pick, slice) or not isinstance(images, np.memmap):
        return images[pick]
    if len(pick) and pick[0] >= 0 and np.array_equal(pick, np.arange(pick[0], pick[0] + len(pick))):
        return images[int(pick[0]) : int(pick[-1]) + 1]
    rows = Rows(images, pick)
    # an array to all who use it; the type would have to be spelt out in every signature otherwise
    return cast(np.ndarray, rows) if rows.nbytes > LAZY_BYTES else images[pick]


@dataclass(frozen=True, eq=False, kw_only=True)
class FaceSet:
    """Face images of one data set, with labels and splits; rows keep the order of the source.

    Attributes:
        images: uint8 in [0, 255], (N, H, W) grey or (N, 3, H, W) RGB; may be a memory map, or `Rows` of one.
        labels: int64 (N,), positions in `names`.
        names: canonical emotion names in label order.
        split: (N,) strings, each one of `SPLITS`.
        votes: float (N, K), one distribution over `names` per image where several raters voted, else None.
        name: which data set this is, e.g. "fer2013".
        source: what it was read from, in words.
        sha256: digest of the source in hexadecimal, "" where there is none.
        extras: what else the source says of each image, by name: arrays of length N such as valence and arousal.

    Raises:
        ValueError: where the arrays do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    split: np.ndarray
    votes: np.ndarray | None = None
    name: str = ""
    source: str = ""
    sha256: str = ""
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        grey, colour = self.images.ndim == 3, self.images.ndim == 4 and self.images.shape[1] == 3
        if self.images.dtype != np.uint8 or not (grey or colour):
            raise ValueError(
                "Expected images as uint8 of shape (N, H, W) or (N, 3, H, W), "
                f"found {self.images.dtype} of shape {self.images.shape}."
            )
        n = len(self.images)
        arrays = {"labels": self.labels, "split": self.split, "votes": self.votes, **self.extras}
        for what, array in arrays.items():
            if array is not None and len(array) != n:
                raise ValueError(f"Expected one entry of {what} per image, found {len(array)} for {n} images.")
        if not np.issubdtype(self.labels.dtype, np.integer) or self.labels.ndim != 1:
            raise ValueError(f"Expected integer labels of shape (N,), found {self.labels.dtype} {self.labels.shape}.")
        if n and not (0 <= self.labels.min() and self.labels.max() < len(self.names)):
            raise ValueError(
                f"Expected labels from 0 to {len(self.names) - 1} for {len(self.names)} names, "
                f"found {self.labels.min()} to {self.labels.max()}."
            )
        unknown = sorted({str(split) for split in np.unique(self.split)} - set(SPLITS))
        if unknown:
            raise ValueError(f"Expected splits among {', '.join(SPLITS)}, found {', '.join(map(repr, unknown))}.")
        if self.votes is not None and self.votes.shape != (n, len(self.names)):
            raise ValueError(f"Expected votes of shape ({n}, {len(self.names)}), found {self.votes.shape}.")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split} {n:,}" for split, n in self.splits().items())
        size = "x".join(map(str, self.images.shape[1:]))
        return f"FaceSet({self.name}: {len(self):,} images {size}, {len(self.names)} classes; {sizes or 'empty'})"

    def splits(self) -> dict[str, int]:
        """Return how many rows each split has; a split without rows is not listed."""
        found = dict(zip(*np.unique(self.split, return_counts=True), strict=True))
        return {split: int(found[split]) for split in SPLITS if split in found}

    def counts(self) -> dict[str, int]:
        """Return how many images each class has, in label order."""
        return dict(zip(self.names, np.bincount(self.labels, minlength=len(self.names)).tolist(), strict=True))

    def select(self, split: str) -> FaceSet:
        """Return the rows of one split, in order. Raises ValueError, listing what there is, for an absent one."""
        rows = np.flatnonzero(self.split == split)
        if not len(rows):
            there = ", ".join(f"{name} ({n:,})" for name, n in self.splits().items()) or "no rows at all"
            what = f"{self.name} from {self.source}" if self.source else self.name or "this FaceSet"
            raise ValueError(f"Expected a split that is present, found {split!r}; {what} has {there}.")
        return self.subset(rows)

    def subset(self, indices: np.ndarray | Sequence[int]) -> FaceSet:
        """Return the rows at `indices` (integers, in that order, or a boolean mask of length N).

        A run of neighbouring rows stays a view, and scattered rows of a memory map that take more than `LAZY_BYTES`
        become `Rows`, so that memory-mapped images are not read before they are used.
        """
        rows = np.asarray(indices)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise ValueError(f"Expected a mask of {len(self)} rows, found shape {rows.shape}.")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        pick: slice | np.ndarray = rows
        if len(rows) and rows[0] >= 0 and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            if rows[-1] >= len(self):
                raise IndexError(f"Expected rows below {len(self)}, found {rows[-1]}.")
            pick = slice(int(rows[0]), int(rows[-1]) + 1)
        return replace(
            self,
            images=take_rows(self.images, pick),
            labels=self.labels[pick],
            split=self.split[pick],
            votes=None if self.votes is None else self.votes[pick],
            extras={name: values[pick] for name, values in self.extras.items()},
        )
