"""FaceSet: labelled face images with their splits, the one thing every loader returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

#: Names a split can have, in the order in which they are listed. `test` is a test set that is not one of FER2013's two.
SPLITS = ("train", "validation", "public_test", "private_test", "test")


@dataclass(frozen=True, eq=False, kw_only=True)
class FaceSet:
    """Face images of one data set, with labels and splits; rows keep the order of the source.

    Attributes:
        images: uint8 in [0, 255], (N, H, W) grey or (N, 3, H, W) RGB; may be a memory map.
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

        A run of neighbouring rows stays a view, so that memory-mapped images are not read before they are used.
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
            images=self.images[pick],
            labels=self.labels[pick],
            split=self.split[pick],
            votes=None if self.votes is None else self.votes[pick],
            extras={name: values[pick] for name, values in self.extras.items()},
        )
