"""Faces in a video, followed from frame to frame, and how steady a network's answer about them is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from ferkit.files import replacing
from ferkit.plots import over_time, to_png
from ferkit.use.networks import Ensemble, Network
from ferkit.use.pictures import CROPS, Asked, Seen, answered, as_networks, cut, rows_of, seen_in_order
from ferkit.use.tables import columns as columns_of_pictures
from ferkit.use.tables import flat

#: Share of their common area that two boxes must have to be one face in two frames.
SAME_FACE = 0.3
#: Frames for which a face may be hidden and is still the same one.
PATIENCE = 10


class Frame(NamedTuple):
    """A frame of a video: its number from 0, its time in seconds, and its picture, uint8 (H, W, 3)."""

    number: int
    seconds: float
    picture: np.ndarray


def read_frames(file: str | os.PathLike[str], *, every: int = 1) -> Iterator[Frame]:
    """Yield the frames of a video one after the other, upright, every first of so many; no more than one is held.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, or damaged; frames before the damage have been given then.
        ImportError: PyAV is not installed.

    """
    av = _av()
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no video at {path}; check the path")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"expected a video at {path}, found a file without pictures")
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # how the telephone was held
                    picture = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                    yield Frame(number, float(frame.time or 0.0), picture)
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path} is no video that can be read, or cut off ({error.strerror}); copy it again"
        ) from None


def write_video(file: str | os.PathLike[str], frames: np.ndarray, *, fps: int) -> None:
    """Write frames, uint8 (T, 3, H, W) with even sides, as H.264 in MP4, or what the file's ending says; atomic.

    Raises:
        ValueError: frames of another shape or type.
        ImportError: PyAV is not installed.

    """
    av = _av()
    if (
        frames.dtype != np.uint8
        or frames.ndim != 4
        or frames.shape[1] != 3
        or frames.shape[2] % 2
        or frames.shape[3] % 2
    ):
        raise ValueError(
            f"expected frames as uint8 (T, 3, H, W) with even sides, found {frames.dtype} {frames.shape}"
        )
    kind = Path(file).suffix.removeprefix(".").lower()
    with (
        replacing(file) as temporary,
        av.open(str(temporary), "w", format={"mkv": "matroska"}.get(kind, kind)) as container,
    ):
        stream = container.add_stream("h264", rate=fps, options={"crf": "18"})
        stream.height, stream.width = frames.shape[2:]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture.transpose(1, 2, 0)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ImportError("videos need PyAV: pip install 'ferkit[video]'") from None
    return av


class Follower:
    """Gives faces in successive frames their numbers: the one that overlaps most with a face of before is that face."""

    def __init__(self) -> None:
        self._boxes: dict[int, np.ndarray] = {}
        self._seen: dict[int, int] = {}
        self._next = 0

    def follow(self, boxes: Sequence[Sequence[float]], frame: int) -> list[int]:
        """Return the number of each box (left, top, right, bottom) of the next frame; new faces get new numbers.

        `frame` counts the frames that were looked at: a face that was away for more than `PATIENCE` of them is new.
        """
        for gone in [face for face, last in self._seen.items() if frame - last > PATIENCE + 1]:
            del self._boxes[gone], self._seen[gone]
        known = list(self._boxes)
        shares = np.array([[overlap(self._boxes[face], box) for box in boxes] for face in known]).reshape(
            len(known), len(boxes)
        )
        numbers = [-1] * len(boxes)
        for row, column in zip(*linear_sum_assignment(-shares), strict=True):
            if shares[row, column] >= SAME_FACE:
                numbers[column] = known[row]
        for column, box in enumerate(boxes):
            if numbers[column] < 0:
                numbers[column], self._next = self._next, self._next + 1
            self._boxes[numbers[column]], self._seen[numbers[column]] = np.asarray(box, float), frame
        return numbers


def overlap(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Return the common area of two boxes (left, top, right, bottom) as a share of what they cover together, 0 to 1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both, 1e-9)


def columns(networks: Sequence[Network | Ensemble]) -> list[str]:
    """Return the columns of `predict_video`'s table."""
    first, *rest = columns_of_pictures(networks)
    return [first, "frame", "seconds", *rest]


def rows_of_video(
    file: str | os.PathLike[str],
    networks: Sequence[Network | Ensemble],
    *,
    every: int,
    crop: str,
    workers: int,
    batch_size: int,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a video's table, frame by frame; a few dozen frames are held at any time."""
    seconds: dict[int, float] = {}

    def frames() -> Iterator[tuple[int, Frame]]:
        for place, frame in enumerate(read_frames(file, every=every)):
            seconds[place] = frame.seconds
            yield place, frame

    def look(frame: Frame, place: int) -> Seen:
        return Seen(Path(file), place, *cut(frame.picture, crop))

    follower = Follower()
    looked_at = seen_in_order(frames(), look, workers=workers)
    for seen, said in answered(looked_at, networks, batch_size=batch_size):
        numbers = follower.follow([box for box in seen.boxes if box is not None], seen.place)
        for row in rows_of(seen, said):
            if row["face"] is not None and numbers:  # without boxes the whole picture is face 0
                row["face"] = numbers[row["face"]]
            yield {"frame": seen.place * every, "seconds": round(seconds[seen.place], 3), **flat(row)}
        del seconds[seen.place]


def predict_video(
    file: str | os.PathLike[str],
    networks: Asked | Sequence[Asked],
    *,
    every: int = 1,
    crop: str = "face",
    workers: int = 2,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Return what networks say of the faces in a video: one row for each frame, face and network.

    Args:
        file: a video.
        networks: as for `predict_folder`.
        every: look at the first of every so many frames.
        crop: "face" finds the faces and follows them from frame to frame; "none" takes each frame for a face.
        workers: threads that find faces.
        batch_size: frames that are asked about at a time.

    Returns:
        The columns of `predict_folder`, and after the file the number of the frame and its time in `seconds`. `face` is
        the same number for the same face, as long as it is not out of sight for more than ten frames.

    Raises:
        ValueError: not a video, damaged, or options out of range.
        FileNotFoundError: no such file.
        ImportError: PyAV is not installed.

    """
    if every < 1 or crop not in CROPS:
        raise ValueError(f"expected every from 1 and a crop among {', '.join(CROPS)}, found {every} and {crop!r}")
    asked = as_networks(networks)
    rows = rows_of_video(file, asked, every=every, crop=crop, workers=workers, batch_size=batch_size)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"expected a video with pictures at {file}, found none in it")
    return pd.DataFrame(chain([first], rows), columns=columns(asked)).astype({"face": "Int64"})


def smoothed(table: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """Return the table with each face's probabilities averaged over a time, and the answers that follow.

    Args:
        table: from `predict_video`.
        seconds: the length of the window around each frame; 0 leaves the table as it is.

    """
    if not seconds > 0:
        return table
    parts = []
    for _, part in _tracks(table):
        classes = [name for name in _classes(table) if part[name].notna().any()]
        time = part["seconds"].to_numpy()
        first = np.searchsorted(time, time - seconds / 2 - 1e-9)  # (T,), of the window around each frame
        last = np.searchsorted(time, time + seconds / 2 + 1e-9)
        sums = np.cumsum(np.vstack([np.zeros(len(classes)), part[classes].to_numpy(float)]), 0)  # (T + 1, K)
        p = (sums[last] - sums[first]) / (last - first)[:, None]  # (T, K)
        answers = [classes[k].removeprefix("p_") for k in p.argmax(1)]
        parts.append(part.assign(**dict(zip(classes, p.T, strict=True)), answer=answers))
    return pd.concat(parts).sort_index() if parts else table


def flips(table: pd.DataFrame) -> pd.DataFrame:
    """Return how often each network's answer about each face changes from one frame to the next.

    Returns:
        One row for each `network` and `face`: the `frames` it was seen in, the `seconds` between the first and the
        last, the number of `flips`, and `flips_per_second` (nan for a single frame).

    """
    rows = []
    for (network, face), part in _tracks(table):
        count, time = (
            int((part["answer"] != part["answer"].shift()).sum()) - 1,
            part["seconds"].iloc[-1] - part["seconds"].iloc[0],
        )
        rate = count / time if time > 0 else float("nan")
        rows.append(
            {
                "network": network,
                "face": face,
                "frames": len(part),
                "seconds": time,
                "flips": count,
                "flips_per_second": rate,
            }
        )
    return pd.DataFrame(rows, columns=["network", "face", "frames", "seconds", "flips", "flips_per_second"])


def draw(table: pd.DataFrame, *, smooth: float = 0.5) -> bytes:
    """Return a PNG of the face and network with the most frames: probabilities over time, answers as strips.

    Args:
        table: from `predict_video`.
        smooth: seconds over which the lower strip averages; the lines are as they are.

    Raises:
        ValueError: no face in the whole video.

    """
    if not (tracks := list(_tracks(table))):
        raise ValueError("expected a face in the video, found none; a figure of nothing is not drawn")
    (network, face), part = max(tracks, key=lambda track: len(track[1]))
    classes = [name for name in _classes(table) if part[name].notna().any()]
    calm = f"mean of {smooth:g} s"
    answers = {"as it is": part["answer"].tolist(), calm: smoothed(part, smooth)["answer"].tolist()}
    lines = {name.removeprefix("p_"): part[name].to_numpy(float) for name in classes}
    return to_png(over_time(part["seconds"].to_numpy(), lines, answers, title=f"{network}, face {face}"))


def _tracks(table: pd.DataFrame) -> Iterable[tuple[Any, pd.DataFrame]]:
    seen = table[table["network"] != ""]
    return seen.groupby(["network", "face"], sort=False)


def _classes(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith("p_")]
