"""What has been answered so far, on the disk: an interrupted call goes on from here, and memory stays flat."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Raised whenever the same picture and networks would be answered otherwise, or written down otherwise.
VERSION = 1


class Counts(NamedTuple):
    """How many pictures were looked at, how many faces they have, and how many pictures have a problem."""

    pictures: int
    faces: int
    problems: int


class Journal:
    """Answers by picture, in an SQLite file, in the order of the pictures.

    Args:
        file: where; it is made if need be. None keeps everything in memory.
        settings: what the answers depend on besides the pictures. A file that was made with others is begun anew.

    Raises:
        ValueError: the file is no journal, or another process is writing it.

    """

    def __init__(self, file: Path | None, settings: Any) -> None:
        self.file = file
        said = json.dumps([VERSION, settings], sort_keys=True)
        try:
            self._open(said)
        except sqlite3.OperationalError as error:
            raise ValueError(f"{file} cannot be used ({error}); is the same command running already?") from None
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{file} is no journal of answers ({error}); delete it to begin anew") from None

    def _open(self, said: str) -> None:
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(self.file or ":memory:", timeout=1.0)
        run = self._base.execute
        run("PRAGMA locking_mode = EXCLUSIVE")  # a second call on the same file is refused, not mixed in
        run("CREATE TABLE IF NOT EXISTS settings (said TEXT)")
        if run("SELECT said FROM settings").fetchone() != (said,):
            for table in ("answers", "faces"):
                run(f"DROP TABLE IF EXISTS {table}")
            run("DELETE FROM settings")
            run("INSERT INTO settings VALUES (?)", (said,))
        run(
            "CREATE TABLE IF NOT EXISTS answers"
            " (file TEXT PRIMARY KEY, stamp TEXT, place INTEGER, faces INTEGER, problem TEXT, rows TEXT)"
        )
        run("CREATE TABLE IF NOT EXISTS faces (file TEXT, face INTEGER, jpeg BLOB, PRIMARY KEY (file, face))")
        run(
            "UPDATE answers SET place = NULL"
        )  # of an earlier call; `knows` gives those that are asked for again their place
        self._base.commit()

    def knows(self, file: Path, place: int) -> bool:
        """Return whether a picture is answered and has not changed since; it then has this place in the order."""
        key = os.fspath(file)
        found = self._base.execute(
            "SELECT place FROM answers WHERE file = ? AND stamp = ?", (key, _stamp(file))
        ).fetchone()
        if found and found[0] is None:  # a picture that is named twice keeps its first place
            self._base.execute("UPDATE answers SET place = ? WHERE file = ?", (place, key))
        return found is not None

    def add(
        self,
        file: Path,
        place: int,
        rows: list[dict[str, Any]],
        *,
        faces: int,
        problem: str,
        pictures: Sequence[bytes] = (),
    ) -> None:
        """Write down the rows of one picture, and small pictures of its faces as JPEG."""
        key, text = os.fspath(file), json.dumps(rows, ensure_ascii=False)
        values = (key, _stamp(file), place, faces, problem, text)
        self._base.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", values)
        self._base.execute("DELETE FROM faces WHERE file = ?", (key,))
        self._base.executemany(
            "INSERT INTO faces VALUES (?, ?, ?)", [(key, i, jpeg) for i, jpeg in enumerate(pictures)]
        )

    def keep(self) -> None:
        """Bring to the disk what was added."""
        self._base.commit()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield all rows, in the order of the pictures."""
        for (text,) in self._base.execute("SELECT rows FROM answers WHERE place IS NOT NULL ORDER BY place"):
            yield from json.loads(text)

    def faces(self) -> Iterator[tuple[list[dict[str, Any]], bytes | None]]:
        """Yield the rows of each face with its small picture, in order; of a picture with a problem without one."""
        for file, text in self._base.execute("SELECT file, rows FROM answers WHERE place IS NOT NULL ORDER BY place"):
            rows = json.loads(text)
            for face in dict.fromkeys(row["face"] for row in rows):
                found = self._base.execute(
                    "SELECT jpeg FROM faces WHERE file = ? AND face = ?", (file, face)
                ).fetchone()
                yield [row for row in rows if row["face"] == face], found and found[0]

    def counts(self) -> Counts:
        """Return how many pictures, faces and problems there are."""
        what = "COUNT(*), COALESCE(SUM(faces), 0), COALESCE(SUM(problem != ''), 0)"
        return Counts(*self._base.execute(f"SELECT {what} FROM answers WHERE place IS NOT NULL").fetchone())

    def problems(self, most: int) -> list[str]:
        """Return the first pictures with a problem, with what it is."""
        what = "SELECT file, problem FROM answers WHERE place IS NOT NULL AND problem != '' ORDER BY place LIMIT ?"
        return [f"{file}: {problem}" for file, problem in self._base.execute(what, (most,))]

    def close(self, *, forget: bool = False) -> None:
        """Close the file; `forget` deletes it, once its rows are written elsewhere."""
        self._base.commit()
        self._base.close()
        if forget and self.file is not None:
            self.file.unlink(missing_ok=True)


def _stamp(file: Path) -> str:
    try:
        found = file.stat()
    except OSError:
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns}"
