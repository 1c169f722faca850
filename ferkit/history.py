"""What happened in each epoch of a training, in memory and as csv."""

import csv
import os
from pathlib import Path

import numpy as np


class History:
    """What happened in each epoch: one dict per row, whole numbers and fractions only."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def column(self, name: str) -> list[float]:
        """One figure over the epochs. Raises KeyError, listing the columns, for an unknown one."""
        if self.rows and name not in self.rows[0]:
            raise KeyError(f"no column {name!r}; known: {', '.join(self.rows[0])}")
        return [row[name] for row in self.rows]

    def best(self, select: str) -> int:
        """Index of the row with the largest value; the first of equals."""
        return int(np.argmax(self.column(select)))

    def save(self, file: Path) -> None:
        """Write csv, atomically."""
        partial = file.with_name(file.name + ".partial")
        with partial.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(self.rows[0]) if self.rows else ["epoch"])
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(partial, file)

    @classmethod
    def read(cls, file: Path) -> "History":
        """Read what `save` wrote."""
        history = cls()
        with file.open(newline="", encoding="utf-8") as handle:
            history.rows = [{k: int(v) if k == "epoch" else float(v) for k, v in row.items()} for row in csv.DictReader(handle)]
        return history
