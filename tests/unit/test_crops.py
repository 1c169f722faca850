"""A face out of a picture: boxes, margins and five landmarks, framed alike for training and for uploads."""

import io

import numpy as np
import pytest
from PIL import Image

from ferkit.data.io.pictures import Listing, store
from ferkit.faces import TEMPLATE, Face, crop_face
from ferkit.faces.crop import five_of_68, similarity_transform, square_box


def packed(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def face(box=(0, 0, 1, 1), landmarks=None):
    return Face(box, 1.0, np.zeros((5, 2)) if landmarks is None else landmarks)


def test_similarity_recovers_turn_scale_and_shift():
    rng = np.random.default_rng(0)
    for degrees, scale, shift in ((0, 1, 0), (30, 0.5, 10 - 4j), (-90, 3, 2j), (179, 0.1, 50)):
        a = scale * np.exp(1j * np.radians(degrees))
        points = rng.normal(0, 20, (5, 2))
        moved = a * (points @ [1, 1j]) + shift
        found = similarity_transform(points, np.stack([moved.real, moved.imag], 1))
        assert np.allclose(found, (a, shift))
    # with noise it is the least-squares solution: nothing near it is better
    points = 112 * TEMPLATE
    goal = points + rng.normal(0, 3, (5, 2))
    a, b = similarity_transform(points, goal)

    def error(a, b):
        return np.abs(a * (points @ [1, 1j]) + b - goal @ [1, 1j]).__pow__(2).sum()

    assert all(error(a, b) < error(a + 0.01 * d, b) and error(a, b) < error(a, b + d) for d in (1, -1, 1j, -1j))
    # a mirror image cannot be reached
    goal = points * [-1, 1]
    assert error(*similarity_transform(points, goal)) > 1000
    for same in (np.zeros((5, 2)), np.full((5, 2), np.nan)):
        for pair in ((same, points), (points, same)):
            with pytest.raises(ValueError, match="landmarks at different places"):
                similarity_transform(*pair)


def turned_face(degrees, scale):
    """Five blobs, drawn where a turned and scaled face has them, and the places."""
    a = 112 * scale * np.exp(1j * np.radians(degrees))
    z = a * ((TEMPLATE @ [1, 1j]) - (0.5 + 0.5j)) + (300 + 300j)
    points = np.stack([z.real, z.imag], 1)
    grid = np.mgrid[:600, :600] + 0.5
    picture = np.zeros((600, 600))
    for x, y in points:
        picture += 255 * np.exp(-((grid[1] - x) ** 2 + (grid[0] - y) ** 2) / (2 * (2.5 * scale) ** 2))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8)).convert("RGB"), points


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (25, 1.5), (-60, 2.3), (180, 4.7), (10, 0.6)])
@pytest.mark.parametrize("size", [64, 112])
@pytest.mark.parametrize("where", ["upload", "training"])
def test_landmarks_land_on_the_template(degrees, scale, size, where, tmp_path, monkeypatch):
    """To half a pixel, in the crops of an upload and in those a network is trained on."""
    image, points = turned_face(degrees, scale)
    if where == "upload":
        crop = crop_face(np.asarray(image), face(landmarks=points), size=size)[..., 0]
    else:
        monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
        image.save(tmp_path / "a.png")
        crop = store(
            "toy", Listing(root=tmp_path, files=["a.png"], place=str, landmarks=points[None]), size=size
        ).images[0, 0]
    assert crop.shape == (size, size) and crop.dtype == np.uint8
    pixels = np.mgrid[:size, :size] + 0.5
    for x, y in TEMPLATE * size:
        near = np.where((pixels[1] - x) ** 2 + (pixels[0] - y) ** 2 < 36, crop.astype(float), 0)
        centre = [(near * pixels[1]).sum() / near.sum(), (near * pixels[0]).sum() / near.sum()]
        assert np.abs(np.array(centre) - (x, y)).max() < 0.5


def test_eyes_are_where_fer2013_has_them():
    assert TEMPLATE[:2, 1].tolist() == [0.390, 0.390] and np.allclose(TEMPLATE[:2, 0].sum(), 1)


@pytest.mark.parametrize("degrees", [0, 30])
def test_a_large_face_is_averaged_before_it_is_made_small(degrees):
    """A checkerboard of single pixels becomes grey, not black and white spots."""
    board = (np.indices((1800, 1800)).sum(0) % 2 * 255).astype(np.uint8)
    points = TEMPLATE * 900 @ np.array([[np.cos(d := np.radians(degrees)), np.sin(d)], [-np.sin(d), np.cos(d)]]) + 500
    crop = crop_face(board, face(landmarks=points), size=112)
    assert 115 < crop.min() and crop.max() < 140


def test_boxes_are_squares_and_may_leave_the_picture():
    assert square_box((10, 20, 30, 60)) == (0, 20, 40, 60)
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[9:31, 19:41] = (200, 100, 50)
    crop = crop_face(picture, face((20, 10, 40, 30)), size=16, align=False)
    assert crop.reshape(-1, 3).tolist() == [[200, 100, 50]] * 256
    edge = np.full((40, 40, 3), 9, np.uint8)
    edge[:, :4] = 99
    crop = crop_face(edge, face((-20, 0, 20, 40)), size=20, align=False)
    assert (crop[:, :9] == 99).all() and (crop[:, 13:] == 9).all()  # the edge is repeated
    for box in (
        [10, 10, 10, 20],
        [30, 10, 20, 20],
        [60, 0, 70, 10],
        [-20, 0, 0, 10],
        [0, 40, 10, 50],
        [np.nan, 0, 1, 1],
    ):
        with pytest.raises(ValueError, match=r"expected a box .* in a picture of 60x40, found"):
            crop_face(picture, face(box), size=16, align=False)


@pytest.mark.parametrize("box", [(-1e6, -1e6, 1e6, 1e6), (39.5, 0, 1e6, 9), (-3e5, 39, 0.5, 41)])
def test_boxes_far_larger_than_the_picture_cost_no_memory(box):
    crop = crop_face(np.full((40, 40, 3), 7, np.uint8), face(box), size=32, align=False)
    assert (crop == 7).all()


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("scale", [0.7, 1.0, 2.3, 5.0])
def test_the_same_square_is_cut_the_same_inside_and_at_the_border(scale, shift):
    """A ramp is read where it is: both ways of the sampler know where a pixel's middle is."""
    ramp = np.repeat(np.linspace(0, 255, 256)[None].astype(np.uint8), 256, 0)
    side = 40 * scale
    inside = crop_face(ramp, face((20 + shift, 20, 20 + shift + side, 20 + side)), size=40, align=False)[20, :, 0]
    border = crop_face(ramp, face((20 + shift, -3, 20 + shift + side, side - 3)), size=40, align=False)[20, :, 0]
    expected = 20 + shift + (np.arange(40) + 0.5) * scale - 0.5
    assert np.abs(inside - expected).max() <= 1.5 and np.abs(border - expected)[1:-1].max() <= 1.5


def test_training_and_upload_frame_a_box_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (12, 10, 3)).astype(np.uint8)).resize(
        (100, 120), Image.Resampling.BICUBIC
    )
    image.save(tmp_path / "a.png")
    box = (70.5, 30, 110, 90)
    kept = store(
        "toy", Listing(root=tmp_path, files=["a.png"], place=str, boxes=np.array([box])), size=48, margin=0.1
    ).images[0]
    assert np.array_equal(kept.transpose(1, 2, 0), crop_face(image, face(box), size=48, margin=0.1, align=False))


def test_large_photographs_are_cut_at_the_right_place(tmp_path, monkeypatch):
    """What is averaged down while it is read has its boxes and landmarks brought along."""
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ferkit.faces.decode.LARGE", 10_000)
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[180:240, 30:90] = 250
    Image.fromarray(picture).save(tmp_path / "a.png")
    kept = store(
        "toy", Listing(root=tmp_path, files=["a.png"], place=str, boxes=np.array([[30, 180, 90, 240.0]])), size=20
    )
    assert kept.images.min() > 245


def test_five_of_68():
    points = np.random.default_rng(1).normal(size=(3, 68, 2))
    five = five_of_68(points)
    assert five.shape == (3, 5, 2)
    assert np.allclose(five[:, 0], points[:, 36:42].mean(1)) and np.allclose(five[:, 1], points[:, 42:48].mean(1))
    assert np.array_equal(five[:, 2:], points[:, [30, 48, 54]])
