"""How many pictures a second one core augments, with each preset.

    python benchmarks/augmentation.py [--n 2048] [--size 48]

Batches are taken as a training takes them, each picture with a random stream of its own. Seconds are CPU seconds of
this process (one thread), so a busy machine does not spoil them much. Target: 4,000 pictures of 48 x 48 with "mild".
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from ferkit.data import FaceSet
from ferkit.data.transforms import AUGMENTATIONS, augmentation
from ferkit.labels import EMOTIONS
from ferkit.training.batches import Draw, TrainingImages

BATCH = 64


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the best of some runs, in CPU seconds."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def augmented(preset: str, n: int, size: int) -> Callable[[], None]:
    """Return what draws n pictures of an epoch, in batches."""
    images = np.random.default_rng(0).integers(0, 256, (n, size, size), dtype=np.uint8)
    faces = FaceSet(images=images, labels=np.arange(n) % 7, names=EMOTIONS[:7], split=np.full(n, "train"), name="noise")
    data = TrainingImages(faces, augmentation(preset), seed=0)

    def epoch() -> None:
        for i in range(0, n, BATCH):
            data.__getitems__([Draw(1, row) for row in range(i, min(i + BATCH, n))])

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=2048)
    parser.add_argument("--size", type=int, default=48)
    options = parser.parse_args()
    torch.set_num_threads(1)

    print(f"{options.size} x {options.size} grey, one core, batches of {BATCH}")
    for preset in AUGMENTATIONS:
        n = options.n if preset in ("none", "mild") else options.n // 8  # others enlarge to 112 px and more first
        draw = augmented(preset, n, options.size)
        print(f"{preset:24} {n / seconds(draw, 3):8,.0f} pictures/s")


if __name__ == "__main__":
    main()
