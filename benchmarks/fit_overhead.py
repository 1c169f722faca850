"""What `fit` costs beside the plain PyTorch loop that it replaces: same network, pictures, augmentation and optimiser.

    python benchmarks/fit_overhead.py [--width 0.125] [--size 64] [--augmentation mild] [--images 512] [--repeats 6]

Both train one epoch and validate once, in turns, and the median of the ratios counts. Seconds are CPU seconds of this
process (one thread), so a busy machine does not spoil them much. Target: a ratio of at most 1.05.

On Linux the script starts itself again with malloc told to keep freed memory: otherwise it depends on luck which of the
two gives its memory back after each step and pays up to 15 % for asking again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ferkit.data import FaceSet
from ferkit.data.transforms import augmentation
from ferkit.labels import EMOTIONS
from ferkit.models import FerModel, create_model
from ferkit.predict import prepare_for
from ferkit.training import fit, make_task
from ferkit.training.recipe import Recipe

NAMES = EMOTIONS[:7]


def faces(n: int, split: str) -> FaceSet:
    """Noise of FER2013's shape; what is learned does not matter here."""
    rng = np.random.default_rng(n)
    images = rng.integers(0, 256, (n, 48, 48), dtype=np.uint8)
    return FaceSet(images=images, labels=np.arange(n) % 7, names=NAMES, split=np.full(n, split), name="noise")


class Augmented(Dataset):
    def __init__(self, data: FaceSet, preset: str) -> None:
        self.images, self.labels = torch.from_numpy(data.images)[:, None], torch.from_numpy(data.labels)
        self.augment = augmentation(preset)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.augment(self.images[index]), self.labels[index]


def plain_loop(model: FerModel, train: FaceSet, validation: FaceSet, recipe: Recipe) -> None:
    loader = DataLoader(Augmented(train, recipe.augmentation), batch_size=recipe.batch_size, shuffle=True)
    held_out = DataLoader(Augmented(validation, "none"), batch_size=64)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * len(loader))
    criterion = nn.CrossEntropyLoss()
    for _ in range(recipe.epochs):
        model.train()
        total = right = 0.0
        for pictures, targets in loader:
            logits = model(prepare_for(model, pictures))
            loss = criterion(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(targets)
            right += (logits.argmax(1) == targets).sum().item()
        model.eval()
        with torch.no_grad():
            right = sum((model(prepare_for(model, x)).argmax(1) == y).sum().item() for x, y in held_out)


def cpu_seconds(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def keep_freed_memory() -> None:
    settings = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
    if sys.platform == "linux" and not settings.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **settings})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=float, default=1 / 8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--augmentation", default="mild")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=6)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    recipe = Recipe(
        width=options.width,
        model_options={"head": "linear"},
        image_size=options.size,
        augmentation=options.augmentation,
        epochs=1,
        batch_size=32,
        lr=0.01,
        schedule="cosine",
    )
    train, validation = faces(options.images, "train"), faces(options.images // 8, "validation")
    torch.manual_seed(0)
    model = create_model(recipe.model, width=recipe.width, labels=NAMES, **recipe.model_options)
    model.input_size = options.size
    task = make_task(model, recipe, train.counts())

    def fitted() -> float:
        return cpu_seconds(lambda: fit(task, train, validation, recipe, progress=False))

    def by_hand() -> float:
        return cpu_seconds(lambda: plain_loop(model, train, validation, recipe))

    fitted(), by_hand()  # warm
    rounds = []
    for _ in range(options.repeats):  # there and back, so that neither is always the one that follows the other
        a, b, c, d = fitted(), by_hand(), by_hand(), fitted()
        rounds.append(((a + d) / 2, (b + c) / 2))
    ratio = statistics.median(a / b for a, b in rounds)
    ours, plain = (options.images / statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    print(
        f"ResEmoteNet, width {options.width:g}, {options.size} px, batch 32, augmentation "
        f"{options.augmentation}, one thread"
    )
    print(f"fit           {ours:8,.0f} images/s")
    print(f"plain loop    {plain:8,.0f} images/s")
    print(f"ratio         {ratio:8.3f}   (target: at most 1.05)")
    print(
        json.dumps(
            {
                "benchmark": "fit_overhead",
                "ratio": round(ratio, 4),
                "fit_per_s": round(ours, 1),
                "plain_per_s": round(plain, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
