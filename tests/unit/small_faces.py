"""Small pictures with a cue that a network learns in seconds: the height of a bright bar.

Mirror images keep their label.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from ferkit.data import FaceSet
from ferkit.labels import EMOTIONS
from ferkit.training.recipe import Recipe

NAMES = EMOTIONS[:7]


def small_faces(
    n: int = 120, *, size: int = 24, seed: int = 0, split: str = "train", noise: float = 40.0, votes: bool = False
) -> FaceSet:
    """n grey pictures (n, size, size), labels nearly balanced; `votes` adds soft labels that agree with the hard ones.
    """
    rng = np.random.default_rng([seed, n, size])
    labels = rng.permutation(np.arange(n) % len(NAMES))
    pictures = rng.normal(90, noise, (n, size, size))
    for picture, label in zip(pictures, labels, strict=True):
        top = 2 + round(label * (size - 6) / (len(NAMES) - 1))
        picture[top : top + 3] += 110
    distribution = np.full((n, len(NAMES)), 0.05)
    distribution[np.arange(n), labels] = 0.7
    return FaceSet(
        images=pictures.clip(0, 255).astype(np.uint8),
        labels=labels,
        names=NAMES,
        split=np.full(n, split),
        votes=distribution if votes else None,
        name="small faces",
    )


def write_fer2013(file: Path, *, train: int = 140, test: int = 60, copies: int = 0) -> Path:
    """A csv in the layout of FER2013; the first `copies` of its PublicTest pictures are also in Training."""
    made = small_faces(train + test, size=48)
    order = [*range(train), *range(copies), *range(train + copies, train + test)]
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["emotion", "pixels", "Usage"])
        for row, i in enumerate(order):
            pixels = " ".join(map(str, made.images[i].flatten()))
            writer.writerow([made.labels[i], pixels, "Training" if row < train else "PublicTest"])
    return file


def small_recipe(file: Path, **changes: Any) -> Recipe:
    """Two epochs of a thin ResEmoteNet on what `write_fer2013` wrote: a second or two."""
    usual = dict(width=1 / 16, model_options={"head": "linear"}, image_size=24, test_split="public_test")
    training = dict(epochs=2, batch_size=32, lr=0.02)
    return Recipe(**(dict(source="a test", data="fer2013", data_path=str(file)) | usual | training | changes))
