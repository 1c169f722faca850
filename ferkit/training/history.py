"""What happened in each epoch of a training, in memory and as csv."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ferkit.files import write_text


class History:
    """What happened in each epoch: one dict per row, whole numbers and fractions only."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def column(self, name: str) -> list[float]:
        """One figure over the epochs, nan where an epoch has none.

        Raises KeyError, listing the columns, for an unknown one.
        """
        if self.rows and name not in self.columns():
            raise KeyError(f"no column {name!r}; known: {', '.join(self.columns())}")
        return [row.get(name, float("nan")) for row in self.rows]

    def columns(self) -> list[str]:
        """All figures that any epoch has, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def best(self, select: str, *, rows: Sequence[int] | None = None, last: bool = False) -> int:
        """Index of the row with the largest value, the first or the last of equals; among `rows` only, if given."""
        among = range(len(self.rows)) if rows is None else rows
        column = self.column(select)
        return max(among, key=lambda i: (column[i], i if last else -i))

    def save(self, file: Path) -> None:
        """Write csv, atomically."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns() or ["epoch"])
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(file, text.getvalue())

    @classmethod
    def read(cls, file: Path) -> "History":
        """Read what `save` wrote. Raises ValueError, with the file's name, for anything else."""
        history = cls()
        with file.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            if "epoch" not in (reader.fieldnames or []):
                raise ValueError(
                    f"{file} is no history of a training: expected a comma-separated column epoch, found "
                    f"{reader.fieldnames or 'nothing'}"
                )
            try:
                history.rows = [
                    {k: int(v) if k in ("epoch", "stage") else float(v) for k, v in row.items() if v != ""}
                    for row in reader
                ]
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file}, line {reader.line_num}, is no row of a history ({error})") from None
        return history
