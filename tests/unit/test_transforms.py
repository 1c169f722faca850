"""prepare() against PIL and arithmetic; augmentations keep their promises."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ferkit.data.transforms import AUGMENTATIONS, IMAGENET_MEAN_COLOUR, as_batch, augmentation, prepare
from ferkit.models.base import IMAGENET_MEAN, IMAGENET_STD

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 48, 40), dtype=np.uint8)
RGB = RNG.integers(0, 256, (3, 3, 100, 90), dtype=np.uint8)
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def by_pil(picture: np.ndarray, size: int, colour: str) -> np.ndarray:
    """The released pipelines' order: PIL bilinear resize, then luma, then / 255; (C, size, size)."""
    image = Image.fromarray(picture if picture.ndim == 2 else picture.transpose(1, 2, 0))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    image = image.convert("RGB") if colour == "rgb" else image.convert("L")
    array = np.asarray(image, np.float64) / 255
    return array.transpose(2, 0, 1) if colour == "rgb" else np.stack([array] * (3 if colour == "grey3" else 1))


@pytest.mark.parametrize("colour", ["rgb", "grey3", "grey"])
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("images", [GREY, RGB], ids=["from grey", "from rgb"])
def test_prepare_is_what_pil_does(images, size, colour):
    channels = 1 if colour == "grey" else 3
    found = prepare(images, size=size, mean=(0.0,) * channels, std=(1.0,) * channels, colour=colour)
    assert found.shape == (3, channels, size, size) and found.dtype == torch.float32
    expected = np.stack([by_pil(picture, size, colour) for picture in images])
    difference = np.abs(found.numpy() - expected) * 255
    # In grey levels. PIL rounds after each of the two passes of resizing, and so do torch's kernels for AVX2; torch's
    # plain kernel rounds once. The rounding between the passes is half a level at most and a quarter on average, and
    # turns the last digit as often. Luma is cut to whole levels here and rounded by PIL: half a level more.
    cut = colour != "rgb" and images.ndim == 4
    assert difference.max() <= 2.01 and difference.mean() < (0.75 if cut else 0.25)


def test_the_tolerance_notices_resizing_without_antialiasing():
    image = Image.fromarray(GREY[0])
    blunt = np.asarray(image.resize((20, 20), Image.Resampling.NEAREST), np.float64)
    found = prepare(GREY[:1], size=20, **PLAIN, colour="grey3")[0, 0].numpy() * 255
    assert np.abs(found - blunt).mean() > 20


def test_luma_weights_are_those_of_itu_601():
    pure = np.zeros((3, 3, 8, 8), np.uint8)
    for channel in range(3):
        pure[channel, channel] = 255
    found = prepare(pure, size=8, **PLAIN, colour="grey3")
    assert torch.allclose(found[:, :, 0, 0] * 255, torch.tensor([[76.0], [150.0], [29.0]]).expand(3, 3), atol=1.01)


def test_normalisation_is_per_channel():
    found = prepare(GREY, size=48, mean=IMAGENET_MEAN, std=IMAGENET_STD, colour="grey3")
    values = prepare(GREY, size=48, **PLAIN, colour="grey3")
    for c in range(3):
        assert torch.allclose(found[:, c], (values[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c], atol=1e-6)
    assert not torch.allclose(found[:, 0], found[:, 1], atol=0.1)  # equal greys differ afterwards


def test_prepare_does_not_depend_on_the_batch_or_change_its_input():
    before = RGB.copy()
    whole = prepare(RGB, size=64, **PLAIN, colour="rgb")
    assert torch.equal(whole[1:2], prepare(RGB[1:2], size=64, **PLAIN, colour="rgb"))
    assert torch.equal(whole, prepare(torch.from_numpy(RGB), size=64, **PLAIN, colour="rgb"))
    same_size = prepare(GREY[:, :40], size=40, **PLAIN, colour="grey3")
    assert same_size.min() >= 0 and same_size.max() <= 1
    assert np.array_equal(RGB, before)


def test_memory_maps_and_views_are_read_without_a_warning(tmp_path):
    np.save(tmp_path / "x.npy", GREY)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(as_batch(mapped[:, None])[:, 0], torch.from_numpy(GREY))
        assert torch.equal(as_batch(GREY[::-1, None, :, ::2])[0, 0], torch.from_numpy(GREY[2, :, ::2].copy()))


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (RGB.astype(np.float32), r"floats in \[0, 1\]"),
        (torch.zeros(1, 3, 8, 8) - 1, r"floats in \[0, 1\], found -1"),
        (RGB.astype(np.int64) * 1000, "65535"),
        (np.zeros((2, 5, 8, 8), np.uint8), r"found \(2, 5, 8, 8\)"),
        (np.zeros((2, 0, 8), np.uint8), r"found \(2, (1, )?0, 8\)"),
        (np.zeros(7, np.uint8), r"found \(7,\)"),
        ([GREY[0], GREY[0, :40]], "one size, found 48x40, 40x40"),
        ([], "empty list"),
        ({"a": GREY}, "found dict"),
        ([b"text"], "not a picture"),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused(images, complaint):
    for function in (as_batch, lambda x: prepare(x, size=32, **PLAIN, colour="grey3")):
        with pytest.raises(ValueError, match=complaint) as raised:
            function(images)
        assert "\n" not in str(raised.value)


def test_one_colour_picture_is_never_three_grey_ones():
    with pytest.raises(
        ValueError,
        match=r"one in colour or three grey ones; say which by the shape \(1, 3, 48, 40\) or \(3, 1, 48, 40\)",
    ):
        as_batch(GREY)
    assert as_batch(GREY[None]).shape == (1, 3, 48, 40) and as_batch(GREY[:, None]).shape == (3, 1, 48, 40)
    # a part of a data set is a batch whatever its length is
    assert prepare(GREY, size=32, **PLAIN, colour="grey3").shape == (3, 3, 32, 32)


@pytest.mark.parametrize(
    "images",
    [
        RGB,
        RGB.transpose(0, 2, 3, 1),
        torch.from_numpy(RGB),
        RGB.astype(np.float64) / 255,
        torch.from_numpy(RGB).float() / 255,
        RGB.astype(np.int64),
        RGB.astype(np.uint16) * 257,
        list(RGB),
        [picture.transpose(1, 2, 0) for picture in RGB],
        tuple(Image.fromarray(picture.transpose(1, 2, 0)) for picture in RGB),
        np.concatenate([RGB, np.full((3, 1, 100, 90), 255, np.uint8)], 1),
    ],
)  # fmt: skip
def test_pictures_in_every_form_are_the_same_batch(images):
    assert torch.equal(as_batch(images), torch.from_numpy(RGB))


@pytest.mark.parametrize(
    "image", [GREY[0], GREY[:1], GREY[0, ..., None], GREY[None, :1], GREY[:1, ..., None], [GREY[0]]]
)
def test_one_grey_picture_in_every_form_is_a_batch_of_one(image):
    assert torch.equal(as_batch(image), torch.from_numpy(GREY[:1])[:, None])


def test_one_picture_in_a_file_is_a_batch_of_one(tmp_path):
    image = Image.fromarray(RGB[0].transpose(1, 2, 0))
    image.save(tmp_path / "a.png")
    for source in (
        image,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
        [tmp_path / "a.png"],
        RGB[0].transpose(1, 2, 0),
    ):
        assert torch.equal(as_batch(source), torch.from_numpy(RGB[:1]))
    with pytest.raises(FileNotFoundError, match="check the path"):
        as_batch("face.jpg")


def test_grey_among_colour():
    batch = as_batch([GREY[0], RGB[0, :, :48, :40]])
    assert batch.shape == (2, 3, 48, 40) and np.array_equal(batch[0, 2], GREY[0])



def test_unknown_colour_mode_lists_the_known_ones():
    with pytest.raises(ValueError, match="no colour mode 'bgr'; known: rgb, grey3, grey"):
        prepare(GREY, size=32, **PLAIN, colour="bgr")


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentations_keep_type_and_shape_and_only_draw_from_torch(preset, channels):
    picture = torch.from_numpy(RNG.integers(0, 256, (channels, 48, 48), dtype=np.uint8))
    before = picture.clone()
    change = augmentation(preset)
    torch.manual_seed(3)
    first = [change(picture) for _ in range(8)]
    torch.manual_seed(3)
    second = [change(picture) for _ in range(8)]
    side = {
        "resmasking": 224,
        "lfnsb_rafdb": 112,
        "lfnsb_affectnet": 112,
        "diversity_rafdb_96": 96,
        "diversity_rafdb_224": 224,
        "manet": 224,
    }.get(preset, 48)
    # a grey picture in colour: holes have ImageNet's mean colour
    seen = 3 if preset.startswith(("lfnsb", "diversity", "manet")) else channels
    assert all(x.shape == (seen, side, side) and x.dtype == torch.uint8 for x in first)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(picture, before)
    different = len({x.numpy().tobytes() for x in first})
    low, high = {
        "none": (1, 1),
        "resemotenet": (2, 2),
        "lfnsb_rafdb": (5, 8),
        "diversity_rafdb_96": (4, 8),
        "diversity_rafdb_224": (4, 8),
    }.get(preset, (8, 8))
    assert low <= different <= high


def test_the_released_augmentation_mirrors_one_half():
    ramp = torch.arange(8, dtype=torch.uint8).expand(1, 4, 8)
    torch.manual_seed(0)
    flipped = [bool(augmentation("resemotenet")(ramp)[0, 0, 0] == 7) for _ in range(400)]
    assert 0.4 < np.mean(flipped) < 0.6


@pytest.mark.parametrize(("preset", "moved", "largest"), [("lfnsb_rafdb", 0.2, 0.25), ("lfnsb_affectnet", 0.7, 1 / 3)])
def test_lfnsb_moves_and_erases_as_often_and_as_much_as_released(preset, moved, largest):
    """On white: black came from outside, ImageNet's mean colour is a hole."""
    white = torch.full((3, 112, 112), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    pictures = torch.stack([augmentation(preset)(white) for _ in range(400)])
    hole = (pictures == torch.tensor(IMAGENET_MEAN_COLOUR, dtype=torch.uint8).view(3, 1, 1)).all(1)  # (400, 112, 112)
    share = hole.float().mean((1, 2))
    assert 0.43 < (share > 0).float().mean() < 0.57
    assert 0.015 < share[share > 0].min() < 0.05 and 0.8 * largest < share.max() < 1.05 * largest
    outside = (pictures == 0).all(1).flatten(1).any(1)
    # a crop by chance in the middle, or a hole over the only black corner, shows nothing
    assert moved - 0.1 < outside.float().mean() < moved + 0.06
    seen = prepare(
        torch.tensor(IMAGENET_MEAN_COLOUR, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8),
        size=8,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        colour="rgb",
    )
    assert seen.abs().max() < 0.5 / 255 / min(IMAGENET_STD) + 1e-6, (
        "0 after normalisation, but for rounding to whole grey levels"
    )


def test_esr_moves_enlarges_and_changes_light_as_released():
    """Turned by up to 30 degrees, moved by up to a tenth, never made smaller; brightness and contrast by up to a half.
    """
    torch.manual_seed(0)
    white = torch.full((1, 96, 96), 200, dtype=torch.uint8)
    middles = torch.stack([augmentation("esr")(white)[0, 48, 48] for _ in range(300)]).float()
    assert 95 <= middles.min() < 130 and middles.max() == 255  # 200 times 0.5 to 1.5, cut off at 255
    outside = np.array([float((augmentation("esr")(white) == 0).float().mean()) for _ in range(200)])
    assert (outside == 0).any() and outside.max() < 0.35


def test_the_diversified_rafdb_recipe_erases_half_and_moves_a_fifth():
    white = torch.full((3, 96, 96), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    pictures = torch.stack([augmentation("diversity_rafdb_96")(white) for _ in range(400)])
    hole = (pictures == torch.tensor(IMAGENET_MEAN_COLOUR, dtype=torch.uint8).view(3, 1, 1)).all(1).float().mean((1, 2))
    assert 0.43 < (hole > 0).float().mean() < 0.57 and 0.2 < hole.max() < 0.27
    outside = (pictures == 0).all(1).flatten(1).any(1)
    assert 0.12 < outside.float().mean() < 0.26


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(
        ValueError,
        match="no augmentation 'heavy'; known: none, resemotenet, resmasking, lfnsb_rafdb, lfnsb_affectnet, esr, "
        "diversity_rafdb_96, diversity_rafdb_224, manet, mild",
    ):
        augmentation("heavy")


def test_resmasking_enlarges_then_mirrors_and_turns_with_black_outside():
    white = torch.full((1, 48, 48), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    turned = [augmentation("resmasking")(white) for _ in range(40)]
    corners = torch.stack([x[0, [0, 0, -1, -1], [0, -1, 0, -1]] for x in turned])
    assert (corners.amax(1) == 0).float().mean() > 0.9, "turned nearly always: the corners are black"
    assert all((x[0, 60:164, 60:164] == 255).all() for x in turned), (
        "the middle is inside at any angle up to 30 degrees"
    )
    # A white square turned by a keeps the area of itself cut with the unturned one; at 30 degrees 0.845 of it.
    shares = torch.stack([(x > 127).float().mean() for x in turned])
    assert 0.84 < shares.min() < 0.88 and shares.max() > 0.95


def test_resmasking_is_resize_then_mirror_then_rotate(monkeypatch):
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    picture = torch.from_numpy(GREY[:1])
    torch.manual_seed(2)
    found = augmentation("resmasking")(picture)
    large = F.resize(picture, [224, 224])
    candidates = {
        (flip, angle): F.rotate(
            large.flip(-1) if flip else large, float(angle), interpolation=InterpolationMode.BILINEAR
        )
        for flip in (False, True)
        for angle in np.arange(-30, 30.1, 0.25)
    }
    distance = {key: (found.float() - x.float()).abs().mean().item() for key, x in candidates.items()}
    best = min(distance, key=distance.get)
    torch.manual_seed(2)
    assert best[0] == bool(torch.rand(1) < 0.5)
    assert distance[best] < 0.15 * np.median(list(distance.values()))
