"""predict_probabilities: raw pictures in, probabilities out, whatever the batch size; test-time augmentation."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ferkit.models import FerModel, create_model
from ferkit.predict import View, predict_logits, predict_probabilities, prepare_for, seen_through, tta_views

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 48, 48), dtype=np.uint8)


@pytest.fixture
def model() -> FerModel:
    torch.manual_seed(0)
    model = create_model("resemotenet", width=1 / 16, head="linear")
    for layer in model.modules():  # as after training: statistics that make the logits differ
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.weight.data.uniform_(0.5, 2)
    return model


def test_probabilities(model):
    found = predict_probabilities(model, GREY)
    assert found.shape == (7, 7) and found.dtype == np.float32
    assert np.allclose(found.sum(1), 1, atol=1e-6)
    assert 0 < found.min() and found.std(0).max() > 1e-3
    model.eval()
    with torch.no_grad():
        by_hand = model(prepare_for(model, GREY)).softmax(1).numpy()
    assert np.allclose(found, by_hand, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batch_size_does_not_matter(model, batch_size):
    assert np.allclose(
        predict_probabilities(model, GREY, batch_size=batch_size), predict_probabilities(model, GREY), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(2, 48, 48), (2, 1, 48, 48), (2, 3, 48, 48), (2, 100, 80), (2, 3, 20, 31)])
def test_any_size_and_colour(model, shape):
    pictures = RNG.integers(0, 256, shape, dtype=np.uint8)
    assert prepare_for(model, pictures).shape == (2, 3, 64, 64)
    assert predict_probabilities(model, pictures).shape == (2, 7)


def test_a_grey_picture_is_itself_in_three_channels(model):
    three = np.repeat(GREY[:, None], 3, 1)
    assert np.allclose(predict_probabilities(model, three), predict_probabilities(model, GREY), atol=2e-2)
    assert np.allclose(predict_probabilities(model, GREY[:, None]), predict_probabilities(model, GREY), atol=1e-7)


def test_it_uses_evaluation_mode_and_leaves_the_mode_and_statistics(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first = predict_probabilities(model.train(), GREY)
    assert model.training
    second = predict_probabilities(model.eval(), GREY)
    assert not model.training
    assert np.array_equal(first, second)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not predict_logits(model, GREY).requires_grad


def test_mode_is_left_after_an_error(model):
    model.train()
    with pytest.raises(ValueError):
        predict_logits(model, GREY.astype(np.float32))
    assert model.training


def test_flip_averages_the_probabilities_of_picture_and_mirror_image(model):
    mirrored = predict_probabilities(model, GREY[:, :, ::-1])
    plain = predict_probabilities(model, GREY)
    flip = predict_probabilities(model, GREY, tta="flip")
    assert np.allclose(flip, (plain + mirrored) / 2, atol=1e-4)
    assert np.abs(plain - mirrored).max() > 1e-3
    assert np.allclose(flip, predict_probabilities(model, GREY[:, :, ::-1], tta="flip"), atol=1e-4)
    assert np.array_equal(flip, predict_probabilities(model, GREY, tta="flip"))


def test_memory_maps_are_read_batch_by_batch(model, tmp_path):
    np.save(tmp_path / "x.npy", GREY)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.array_equal(
        predict_probabilities(model, mapped, batch_size=2), predict_probabilities(model, GREY, batch_size=2)
    )


def test_the_network_decides_the_preprocessing(model):
    plain = predict_probabilities(model, GREY)
    model.input_size = 48
    assert prepare_for(model, GREY).shape == (7, 3, 48, 48)
    assert not np.allclose(predict_probabilities(model, GREY), plain, atol=1e-4)


def test_errors(model):
    with pytest.raises(ValueError, match="no test-time augmentation 'crops'; known: none, flip"):
        predict_probabilities(model, GREY, tta="crops")
    with pytest.raises(ValueError, match="no pictures to predict"):
        predict_probabilities(model, GREY[:0])
    with pytest.raises(ValueError, match="do not normalise them first"):
        predict_probabilities(model, GREY / 127.5 - 1)
    with pytest.raises(ValueError, match="one in colour or three grey ones"):
        predict_probabilities(model, np.zeros((3, 64, 64), np.uint8))
    with pytest.raises(ValueError, match="one size, found 48x48, 40x48"):
        predict_probabilities(model, [GREY[0], GREY[0, :40]])


def test_pictures_in_every_form_get_the_same_answer(model):
    expected = predict_probabilities(model, GREY)
    for images in (GREY / 255, list(GREY), GREY[..., None], GREY[:, None], GREY.astype(np.int64)):
        assert np.array_equal(predict_probabilities(model, images), expected)
    for image in (GREY[0], GREY[0][..., None], np.repeat(GREY[0][..., None], 3, 2), Image.fromarray(GREY[0])):
        assert np.allclose(predict_probabilities(model, image), expected[:1], atol=0.01)


# --- test-time augmentation -------------------------------------------------------------------------------------------


def ones(n: int, value: float) -> torch.Tensor:
    return torch.full((n,), value)


def view(n: int = 3, *, flip: bool = False, angle: float = 0.0, right: float = 0.0, down: float = 0.0) -> View:
    return View(torch.full((n,), flip), ones(n, angle), ones(n, right), ones(n, down))


SQUARE = torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("angle", [-30.0, 7.5, 30.0])
def test_turning_is_torchvision_s(angle):
    found = seen_through(SQUARE, view(angle=angle), black=torch.zeros(1))
    expected = F.rotate(SQUARE, angle, interpolation=InterpolationMode.BILINEAR)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, F.rotate(SQUARE, -angle, interpolation=InterpolationMode.BILINEAR), atol=0.1)


def test_mirrored_before_turned():
    found = seen_through(SQUARE, view(flip=True, angle=20.0), black=torch.zeros(1))
    expected = F.rotate(SQUARE.flip(-1), 20.0, interpolation=InterpolationMode.BILINEAR)
    assert torch.allclose(found, expected, atol=1e-4)


def test_moving_by_whole_pixels_copies_them_and_carries_the_edge_on():
    found = seen_through(SQUARE, view(right=2 / 48, down=-1 / 48))
    assert torch.allclose(found[..., :-1, 2:], SQUARE[..., 1:, :-2], atol=1e-4)
    assert torch.allclose(found[..., :-1, 0], SQUARE[..., 1:, 0], atol=1e-4)


def test_turned_and_moved_is_turned_first():
    turned = seen_through(SQUARE, view(angle=90.0), black=torch.zeros(1))
    both = seen_through(SQUARE, view(angle=90.0, right=3 / 48), black=torch.zeros(1))
    assert torch.allclose(both[..., 3:], turned[..., :-3], atol=1e-3)


def test_black_is_black_after_normalisation():
    x = torch.zeros(1, 3, 20, 20)
    found = seen_through(x, view(1, angle=30.0), black=torch.tensor([-2.0, -1.0, 0.5]))
    assert torch.allclose(found[0, :, 0, 0], torch.tensor([-2.0, -1.0, 0.5]), atol=1e-5)
    assert torch.allclose(found[0, :, 10, 10], torch.zeros(3), atol=1e-5)


def test_each_picture_its_own_copy_and_nothing_changes_what_does_not_move():
    mixed = View(torch.tensor([False, True, False]), torch.tensor([0.0, 0.0, 25.0]), torch.zeros(3), torch.zeros(3))
    found = seen_through(SQUARE, mixed, black=torch.zeros(1))
    assert torch.allclose(found[0], SQUARE[0], atol=1e-5) and torch.allclose(found[1], SQUARE[1].flip(-1), atol=1e-5)
    assert torch.equal(seen_through(SQUARE, view()), SQUARE) and torch.equal(
        seen_through(SQUARE, view(flip=True)), SQUARE.flip(-1)
    )


@pytest.mark.parametrize(
    ("tta", "copies"), [(None, 1), ("none", 1), ("flip", 2), ("flip_shift", 10), ("flip_rotate", 6)]
)
def test_fixed_augmentations_hold_the_picture_and_each_copy_s_mirror_image(tta, copies):
    views = tta_views(tta, 2)
    rows = [tuple(float(entry[0]) for entry in v) for v in views]
    assert len(rows) == len(set(rows)) == copies and rows[0] == (0, 0, 0, 0)
    assert all(torch.equal(entry[:1], entry[1:]) for v in views for entry in v)
    if copies > 1:
        assert {(0.0, *row[1:]) for row in rows} == {row for row in rows if not row[0]}
        assert max(abs(row[1]) for row in rows) <= 10 and max(abs(m) for row in rows for m in row[2:]) <= 1 / 24 + 1e-6


@pytest.mark.parametrize("tta", ["flip_shift", "flip_rotate", "resmasking_random_3"])
def test_augmented_probabilities_are_the_mean_over_the_copies(model, tta):
    found = predict_probabilities(model, GREY, tta=tta, seed=5)
    black = torch.tensor([-m / s for m, s in zip(model.mean, model.std, strict=True)]) if "random" in tta else None
    model.eval()
    with torch.no_grad():
        copies = [
            model(seen_through(prepare_for(model, GREY), v, black=black)).softmax(1)
            for v in tta_views(tta, len(GREY), seed=5)
        ]
    assert np.allclose(found, torch.stack(copies).mean(0).numpy(), atol=1e-6)
    assert np.allclose(found.sum(1), 1, atol=1e-6) and found.dtype == np.float32
    assert np.abs(found - predict_probabilities(model, GREY)).max() > 1e-4
    assert np.allclose(found, predict_probabilities(model, GREY, tta=tta, seed=5, batch_size=2), atol=1e-5)


def test_random_copies_are_those_of_the_released_code():
    """Mirrored half of the time, turned by any angle in [-30, 30] every time, never moved."""
    views = tta_views("resmasking_random_8", 2000, seed=1)
    assert len(views) == 8
    flips, angles = torch.stack([v.flip for v in views]), torch.stack([v.angle for v in views])
    assert 0.48 < flips.float().mean() < 0.52
    assert -30 <= angles.min() < -29.9 and 29.9 < angles.max() <= 30
    assert abs(angles.mean()) < 0.5 and angles.std() == pytest.approx(60 / 12**0.5, abs=0.2)
    assert abs(torch.corrcoef(torch.stack([flips.float().flatten(), angles.flatten()]))[0, 1]) < 0.03
    assert all(not v.right.any() and not v.down.any() for v in views)
    assert (angles.abs() > 1e-6).all(), "there is no clean copy"
    assert len(tta_views("resmasking_random_10", 3)) == 10


def test_random_copies_come_from_the_seed_and_the_picture_alone(model):
    first, again, other = (predict_probabilities(model, GREY, tta="resmasking_random_8", seed=s) for s in (0, 0, 1))
    assert np.array_equal(first, again) and np.abs(first - other).max() > 1e-4
    assert np.array_equal(first, predict_probabilities(model, GREY, tta="resmasking_random_8"))
    fewer = predict_probabilities(model, GREY[:4], tta="resmasking_random_8")
    assert np.allclose(fewer, first[:4], atol=1e-5)
    state = torch.get_rng_state()
    predict_probabilities(model, GREY, tta="resmasking_random_8")
    assert torch.equal(torch.get_rng_state(), state), "a test does not disturb the training's random numbers"


@pytest.mark.parametrize(
    "name", ["crops", "resmasking_random", "resmasking_random_0", "resmasking_random_100", "resmasking_random_x"]
)
def test_unknown_augmentations_are_refused(model, name):
    with pytest.raises(
        ValueError,
        match=f"no test-time augmentation '{name}'; known: none, flip, flip_shift, flip_rotate, resmasking_random_K",
    ):
        predict_probabilities(model, GREY, tta=name)
