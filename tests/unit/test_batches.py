"""Batches and augmentation depend on seed, epoch and image alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ferkit.data.transforms import augmentation
from ferkit.training.batches import Draw, Draws, EpochBatches, TrainingImages, as_it_is, class_balance, stream
from tests.unit.small_faces import small_faces


def test_streams_are_the_same_everywhere_and_differ_between_neighbours():
    # fixed, so that a published run can be repeated by a later version
    assert stream(0, 0) == 5104172916443561106
    assert stream(0, 0, 1) == 3625014271353791493
    seeds = [stream(a, b, c) for a in range(5) for b in range(5) for c in range(5)]
    assert len(set(seeds)) == 125 and all(0 <= s < 2**63 for s in seeds)
    bits = np.array([[s >> i & 1 for i in range(63)] for s in seeds])
    assert 0.4 < bits.mean() < 0.6 and 0.25 < bits.mean(0).min()


def test_every_image_once_per_epoch_in_another_order():
    first, second, again, other = (
        [i for batch in EpochBatches(100, 32, seed=s, epoch=e) for i in batch]
        for s, e in ((0, 0), (0, 1), (0, 0), (1, 0))
    )
    assert sorted(first) == sorted(second) == list(range(100))
    assert first == again
    assert first != second and first != other and first != list(range(100))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("n", [100, 98, 97, 131])
def test_processes_share_the_batches_of_one(n, world):
    whole = list(EpochBatches(n, 32, seed=0, epoch=3))
    parts = [list(EpochBatches(n, 32, seed=0, epoch=3, rank=r, world=world)) for r in range(world)]
    kept = [b for b in whole if len(b) >= world]
    for b, batch in enumerate(kept):
        shares = [parts[r][b] for r in range(world)]
        assert sorted(i for share in shares for i in share) == sorted(batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1 and min(map(len, shares)) >= 1
    assert all(len(p) == len(kept) for p in parts)


@pytest.mark.parametrize(
    ("n", "world", "sizes"),
    [
        (66, 1, [32, 32, 2]),
        (65, 1, [32, 32]),  # one image has no batch statistics
        (66, 2, [32, 32, 2]),  # batch normalisation sees the global batch, so one image per process is enough
        (65, 2, [32, 32]),
        (66, 3, [32, 32]),  # a process without an image could not take part
        (67, 3, [32, 32, 3]),
        (3, 1, [3]),
    ],
)
def test_last_batch(n, world, sizes):
    for rank in range(world):
        batches = EpochBatches(n, 32, seed=0, epoch=0, rank=rank, world=world)
        assert [len(b) for b in batches.whole] == sizes
        assert batches.steps == len(batches) == len(list(batches)) == len(sizes)


def test_start_in_the_middle_gives_the_rest():
    whole = EpochBatches(100, 16, seed=5, epoch=2)
    for start in (0, 3, 6, 7):
        rest = EpochBatches(100, 16, seed=5, epoch=2, start=start)
        assert list(rest) == list(whole)[start:]
        assert len(rest) == 7 - start and rest.steps == 7 and rest.whole == whole.whole


def test_too_few_images_or_too_small_a_batch():
    with pytest.raises(ValueError, match="1 training images are too few for 1 processes"):
        EpochBatches(1, 32, seed=0, epoch=0)
    with pytest.raises(ValueError, match="a batch of 6 is too small for 4 processes"):
        EpochBatches(100, 6, seed=0, epoch=0, world=4)


def images(preset: str = "mild", seed: int = 0, **options) -> TrainingImages:
    return TrainingImages(small_faces(40, **options), augmentation(preset), seed=seed)


def drawn(faces: TrainingImages, epoch: int = 0) -> list[torch.Tensor]:
    return [faces[Draw(epoch, i)][0] for i in range(len(faces))]


def test_augmentation_depends_on_seed_epoch_and_image_alone():
    one, two = drawn(images()), images()
    torch.randn(7)  # whatever else draws in between
    backwards = [two[Draw(0, i)][0] for i in reversed(range(40))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(one, backwards, strict=True))
    batch = two.__getitems__([Draw(0, i) for i in (7, 3, 30)])[0]
    assert all(torch.equal(one[i], picture) for i, picture in zip((7, 3, 30), batch, strict=True))
    for other in (drawn(images(), epoch=1), drawn(images(seed=1))):
        assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_picture_drawn_again_in_an_epoch_is_disturbed_anew():
    """Balanced sampling draws the few pictures of a rare class many times: each time another picture must come out."""
    faces = small_faces(40)
    faces = replace(faces, labels=np.where(np.arange(40) < 2, 0, 1 + faces.labels % 6))
    draws = Draws()
    draws.deal(EpochBatches(40, 16, seed=0, epoch=0, weights=class_balance(torch.as_tensor(faces.labels))), 0)
    of_two = [draw for batch in draws for draw in batch if draw.picture < 2]
    assert len(of_two) >= 4 and len({draw.picture for draw in of_two}) <= 2
    pictures = TrainingImages(faces, augmentation("mild"), seed=0).__getitems__(of_two)[0]
    assert len({picture.numpy().tobytes() for picture in pictures}) == len(of_two)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_repetitions_are_counted_over_all_processes(world):
    weights = torch.tensor([10.0, 10.0, *[0.01] * 38]).double()
    def parts(world: int) -> list[list[Draw]]:
        found = []
        for rank in range(world):
            draws = Draws()
            draws.deal(EpochBatches(40, 12, seed=0, epoch=5, rank=rank, world=world, weights=weights), 5)
            found.append([draw for batch in draws for draw in batch])
        return found

    everything = [draw for part in parts(world) for draw in part]
    assert sorted(everything) == sorted(parts(1)[0]) and len(set(everything)) == len(everything)
    assert {draw.epoch for draw in everything} == {5} and max(draw.repetition for draw in everything) > 5


def test_an_epoch_that_goes_on_counts_what_was_drawn_before():
    weights = torch.tensor([10.0, 10.0, *[0.01] * 38]).double()
    whole, rest = Draws(), Draws()
    whole.deal(EpochBatches(40, 8, seed=0, epoch=1, weights=weights), 1)
    rest.deal(EpochBatches(40, 8, seed=0, epoch=1, start=3, weights=weights), 1)
    assert list(rest) == list(whole)[3:] and len(rest) == len(whole) - 3 == 2


def test_augmentation_leaves_the_stream_that_dropout_draws_from():
    torch.manual_seed(3)
    expected = torch.randn(5)
    torch.manual_seed(3)
    faces = images()
    assert not torch.equal(faces[Draw(0, 0)][0], torch.from_numpy(faces.faces.images[:1]))
    assert torch.equal(torch.randn(5), expected)

    def broken(_picture):
        torch.randn(1)
        raise RuntimeError("in an augmentation")

    torch.manual_seed(3)
    with pytest.raises(RuntimeError, match="in an augmentation"):
        TrainingImages(small_faces(4), broken, seed=0)[Draw(0, 0)]
    assert torch.equal(torch.randn(5), expected)


def test_workers_change_nothing():
    def epoch(workers: int) -> list[torch.Tensor]:
        faces = images()
        draws = Draws()
        loader = DataLoader(
            faces,
            batch_sampler=draws,
            collate_fn=as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )
        found = []
        for epoch in (2, 3):
            draws.deal(EpochBatches(40, 16, seed=0, epoch=epoch), epoch)
            found += [x for batch in loader for x in batch]
        return found

    alone, helped = epoch(0), epoch(2)
    assert len(alone) == len(helped) == 12
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_pictures_and_targets():
    faces = small_faces(20, votes=True)
    plain = TrainingImages(faces, augmentation("none"), seed=0)
    assert len(plain) == 20
    picture, target = plain[Draw(0, 7)]
    assert picture.dtype == torch.uint8 and torch.equal(picture[0], torch.from_numpy(faces.images[7]))
    assert target == faces.labels[7] and target.dtype == torch.int64

    soft = TrainingImages(faces, augmentation("none"), seed=0, target="votes")
    assert soft[Draw(0, 7)][1].dtype == torch.float32 and soft[Draw(0, 7)][1].sum() == pytest.approx(1)
    assert soft[Draw(0, 7)][1].argmax() == faces.labels[7]

    with pytest.raises(ValueError, match="trains on votes, but small faces has none; use target: label"):
        TrainingImages(small_faces(20), augmentation("none"), seed=0, target="votes")
