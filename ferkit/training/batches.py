"""Which images make a batch, and how each is disturbed: functions of (seed, epoch, image, repetition) alone.

Nothing here depends on how many processes share the work or on where a training was interrupted, so neither changes
what is trained.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ferkit.data.faceset import FaceSet


def stream(*keys: int) -> int:
    """A 63-bit seed from whole numbers; neighbours give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(keys).encode(), digest_size=8).digest(), "little") >> 1


class EpochBatches:
    """The batches of one epoch for one process: rank r of w takes every w-th image of each global batch, from the r-th.

    Args:
        n: images in an epoch.
        weights: None for every image once, in random order; or (n,) chances to be drawn, with replacement.

    A last global batch of a single image is left out, since batch normalisation needs two; so is one with fewer images
    than processes.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        weights: Tensor | None = None,
    ) -> None:
        if batch_size < 2 * world:
            raise ValueError(
                f"a batch of {batch_size} is too small for {world} processes; it needs two images for each"
            )
        generator = torch.Generator().manual_seed(stream(seed, epoch))
        order = (
            torch.randperm(n, generator=generator)
            if weights is None
            else torch.multinomial(weights, n, replacement=True, generator=generator)
        )
        batches = [b.tolist() for b in order.split(batch_size) if len(b) >= max(2, world)]
        if not batches:
            raise ValueError(
                f"{n} training images are too few for {world} processes; a batch needs two, and one for each process"
            )
        self.steps, self.start, self.rank, self.world = len(batches), start, rank, world
        self.whole = batches  # every global batch of the epoch, in order, also those before `start`

    def __iter__(self) -> Iterator[list[int]]:
        return (b[self.rank :: self.world] for b in self.whole[self.start :])

    def __len__(self) -> int:
        return self.steps - self.start


def class_balance(labels: Tensor) -> Tensor:
    """Chances (N,) that give every class present the same share: one over the images of each image's class."""
    return 1.0 / torch.bincount(labels)[labels].double()


class Draw(NamedTuple):
    """One picture of a batch: in which epoch it is drawn, which picture it is,
    and how often it was drawn in this epoch before.
    """

    epoch: int
    picture: int
    repetition: int = 0


class Draws:
    """A batch sampler that lives as long as its training, so that a loader's worker processes can, too.

    `deal` gives it the batches of the next epoch. A picture that is drawn several times in an epoch, as balanced
    sampling does, is told apart by its repetition, counted over all processes.
    """

    def __init__(self) -> None:
        self._epoch = 0
        self._batches: EpochBatches | None = None

    def deal(self, batches: EpochBatches, epoch: int) -> None:
        """Take the batches of one epoch, for the next pass."""
        self._epoch, self._batches = epoch, batches

    def __iter__(self) -> Iterator[list[Draw]]:
        assert self._batches is not None, "deal() comes first"
        batches, seen = self._batches, Counter[int]()
        for number, whole in enumerate(batches.whole):
            draws = []
            for index in whole:
                draws.append(Draw(self._epoch, index, seen[index]))
                seen[index] += 1
            if number >= batches.start:
                yield draws[batches.rank :: batches.world]

    def __len__(self) -> int:
        return 0 if self._batches is None else len(self._batches)


class TrainingImages(Dataset[tuple[Tensor, Tensor]]):
    """Augmented uint8 pictures (C, H, W) and targets: labels, or distributions (K,) if `target` is "votes".

    What is drawn for a picture depends on the seed, the epoch, the picture and its repetition, on nothing else.
    """

    def __init__(self, faces: FaceSet, augment: nn.Module, *, seed: int, target: str = "label") -> None:
        self.faces, self.augment, self.seed = faces, augment, seed
        if target == "votes":
            if faces.votes is None:
                raise ValueError(f"the recipe trains on votes, but {faces.name} has none; use target: label")
            self.targets = torch.tensor(faces.votes, dtype=torch.float32)
            self.targets = self.targets / self.targets.sum(1, keepdim=True)
        else:
            self.targets = torch.tensor(faces.labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        pictures, targets = self.__getitems__([draw])
        return pictures[0], targets[0]

    def __getitems__(self, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
        """Return a batch: pictures (B, C, H, W) uint8 and their targets.

        The loader asks for whole batches where it can.
        """
        indices = [draw.picture for draw in draws]
        pictures = torch.tensor(self.faces.images[indices])  # a copy: memory maps are read-only
        pictures = pictures if pictures.ndim == 4 else pictures[:, None]  # (B, C, H, W)
        # Not torch.manual_seed: that also seeds every accelerator, which takes longer than the augmentation.
        generator = torch.default_generator
        before = generator.get_state()
        disturbed = []
        try:
            for picture, (epoch, index, repetition) in zip(pictures, draws, strict=True):
                generator.manual_seed(
                    stream(self.seed, epoch, index, repetition) if repetition else stream(self.seed, epoch, index)
                )
                disturbed.append(self.augment(picture))
        finally:
            generator.set_state(before)
        return torch.stack(disturbed), self.targets[indices]


def as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Hand on a batch that is one already: the loader's `collate_fn`."""
    return batch
