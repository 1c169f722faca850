"""How long reading a picture, finding its faces and cutting one out takes on one core.

    python benchmarks/faces_speed.py [--repeats 7]

Seconds are CPU seconds of this process (one thread), so a busy machine does not spoil them much; the least of the
repeats and their median. Target: 640 x 480 within 150 ms, all three steps together. MTCNN keeps it, so a second, faster
detector (BlazeFace) would not earn the runtime it needs.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time

import numpy as np
import torch
from PIL import Image

from ferkit.faces import crop_face, find_faces, portrait, read_picture


def scene(width: int, height: int, faces: int) -> bytes:
    """A JPEG with the portrait in it that many times, side by side."""
    picture = Image.new("RGB", (width, height), (110, 110, 110))
    side = min(height, width // max(1, faces))
    one = Image.fromarray(portrait()).resize((side, side))
    for number in range(faces):
        picture.paste(one, (number * side, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def clock(data: bytes, repeats: int) -> tuple[np.ndarray, int]:
    """CPU milliseconds (repeats, 3) of reading, finding and cutting, and the number of faces found."""
    rows, found = [], []
    for _ in range(repeats + 1):
        times = [time.process_time()]
        picture = read_picture(data)
        times.append(time.process_time())
        found = find_faces(picture)
        times.append(time.process_time())
        crop_face(picture, found[0] if found else None)
        times.append(time.process_time())
        rows.append(np.diff(times) * 1000)
    return np.array(rows[1:]), len(found)  # the first loads the network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("picture                 found   read   find    cut    all (median)  milliseconds")
    for width, height, faces in (
        (640, 480, 0),
        (640, 480, 1),
        (640, 480, 3),
        (1920, 1080, 1),
        (4000, 3000, 1),
        (8000, 6000, 1),
    ):
        rows, found = clock(scene(width, height, faces), options.repeats)
        total = rows.sum(1)
        read, find, cut = rows[total.argmin()]
        print(
            f"{width:5d} x {height:4d}, {faces} faces {found:7d} {read:7.0f}{find:7.0f}{cut:7.0f}{total.min():7.0f} "
            f"{statistics.median(total):8.0f}"
        )


if __name__ == "__main__":
    main()
