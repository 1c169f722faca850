"""The doctor on a large folder: how much memory and time `python -m ferkit doctor` takes.

    python benchmarks/doctor_memory.py                       # 300,000 generated pictures of 48 x 48 (1 GB on disk for
    the time of the run) python benchmarks/doctor_memory.py --pictures 20000

The pictures are random patterns in an ImageFolder layout, one in a thousand an exact copy across train and test, which
the report must name. Target: below 1 GB for 300,000 files, in minutes. Memory is the largest resident set of the
doctor's process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ferkit.labels import order

SIDE = 48


def write_pictures(folder: Path, count: int) -> int:
    """`count` bitmaps in train and test, by class; gives the number of copies across the two."""
    rng, names, copies = np.random.default_rng(0), order("fer2013"), 0
    image = Image.new("L", (SIDE, SIDE))
    for split in ("train", "test"):
        for name in names:
            (folder / split / name).mkdir(parents=True)
    kept: dict[int, bytes] = {}
    for number in range(count):
        pixels = np.kron(rng.integers(0, 256, (12, 12), dtype=np.uint8), np.ones((4, 4), np.uint8))
        if number % 1000 == 999:
            kept[number % len(names)] = pixels.tobytes()
        test = number % 10 == 0
        if test and number % 1000 == 0 and number % len(names) in kept:
            pixels = np.frombuffer(kept[number % len(names)], np.uint8).reshape(SIDE, SIDE)
            copies += 1
        image = Image.fromarray(pixels)
        image.save(folder / ("test" if test else "train") / names[number % len(names)] / f"{number:06d}.bmp")
    return copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=300_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, report = Path(scratch) / "faces", Path(scratch) / "report.json"
        began = time.perf_counter()
        copies = write_pictures(folder, options.pictures)
        print(
            f"{options.pictures:,} pictures written in {time.perf_counter() - began:.0f} s, {copies} of "
            "test are also in train"
        )
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "ferkit", "doctor", str(folder), "--json", str(report)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
        if not report.is_file():
            raise SystemExit(f"the doctor wrote no report:\n{done.stderr[-2000:]}")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        found = json.loads(report.read_text("utf-8"))
        named = [f["sentence"] for f in found["findings"] if f["code"] == "copies_across"]
        print(
            f"doctor: {seconds:.0f} s, {options.pictures / seconds:,.0f} pictures/s, largest resident set {peak:.0f} MB"
        )
        print("copies across splits:", *(named or ["none named"]))


if __name__ == "__main__":
    main()
