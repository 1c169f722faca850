"""A face out of a picture: boxes, margins, five landmarks, and pictures that would be read wrongly."""

import io

import numpy as np
import pytest
from PIL import Image

from ferkit.faces.crop import TEMPLATE_112, cut_face, five_of_68, open_picture, similarity, square_box


def packed(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_similarity_recovers_turn_scale_and_shift():
    rng = np.random.default_rng(0)
    for degrees, scale, shift in ((0, 1, 0), (30, 0.5, 10 - 4j), (-90, 3, 2j), (179, 0.1, 50)):
        a = scale * np.exp(1j * np.radians(degrees))
        points = rng.normal(0, 20, (5, 2))
        moved = a * (points @ [1, 1j]) + shift
        found = similarity(points, np.stack([moved.real, moved.imag], 1))
        assert np.allclose(found, (a, shift))
    # with noise it is the least-squares solution: nothing near it is better
    goal = TEMPLATE_112 + rng.normal(0, 3, (5, 2))
    a, b = similarity(TEMPLATE_112, goal)
    def error(a, b):
        return np.abs(a * (TEMPLATE_112 @ [1, 1j]) + b - goal @ [1, 1j]).__pow__(2).sum()
    assert all(error(a, b) < error(a + 0.01 * d, b) and error(a, b) < error(a, b + d) for d in (1, -1, 1j, -1j))
    # a mirror image cannot be reached
    a, b = similarity(TEMPLATE_112, TEMPLATE_112 * [-1, 1])
    assert error(a, b) > 1000
    for same in (np.zeros((5, 2)), np.full((5, 2), np.nan)):
        with pytest.raises(ValueError, match="landmarks at different places"):
            similarity(same, TEMPLATE_112)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (25, 1.5), (-60, 2.3), (180, 4.7), (10, 0.6)])
@pytest.mark.parametrize("size", [64, 112])
def test_landmarks_land_on_the_template(degrees, scale, size):
    """Five blobs, drawn where a turned and scaled face has them, come to lie on the template to half a pixel."""
    a = scale * np.exp(1j * np.radians(degrees))
    z = a * ((TEMPLATE_112 @ [1, 1j]) - (56 + 56j)) + (300 + 300j)
    points = np.stack([z.real, z.imag], 1)
    grid = np.mgrid[:600, :600]
    picture = np.zeros((600, 600))
    for x, y in points:
        picture += 255 * np.exp(-((grid[1] - x) ** 2 + (grid[0] - y) ** 2) / (2 * (2.5 * scale) ** 2))
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8)).convert("RGB")
    face = cut_face(image, size, landmarks=points)
    assert face.shape == (3, size, size) and face.dtype == np.uint8
    pixels = np.mgrid[:size, :size]
    for x, y in TEMPLATE_112 * (size / 112):
        near = np.where((pixels[1] - x) ** 2 + (pixels[0] - y) ** 2 < 36, face[0].astype(float), 0)
        centre = [(near * pixels[1]).sum() / near.sum(), (near * pixels[0]).sum() / near.sum()]
        assert np.abs(np.array(centre) - (x, y)).max() < 0.5


def test_a_large_face_is_averaged_before_it_is_made_small():
    """A checkerboard of single pixels becomes grey, not black and white spots."""
    board = (np.indices((900, 900)).sum(0) % 2 * 255).astype(np.uint8)
    face = cut_face(Image.fromarray(board).convert("RGB"), 112, landmarks=TEMPLATE_112 * 8)
    assert 120 < face.min() and face.max() < 135


def test_boxes_are_squares_and_may_leave_the_picture():
    assert square_box(np.array([10, 20, 30, 60]), 0) == (0, 20, 40, 60)
    assert square_box(np.array([10, 20, 30, 60]), 0.25) == (-10, 10, 50, 70)
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:40] = (200, 100, 50)
    image = Image.fromarray(picture)
    face = cut_face(image, 16, box=np.array([20, 10, 40, 30]))
    assert face.reshape(3, -1).T.tolist() == [[200, 100, 50]] * 256  # channels first, in RGB
    edge = cut_face(Image.new("RGB", (40, 40), (9, 9, 9)), 20, box=np.array([-20, 0, 20, 40]))
    assert edge[:, :, :9].max() == 0 and edge[:, :, 11:].min() == 9
    assert cut_face(image, 16).shape == (3, 16, 16)
    for box in ([10, 10, 10, 20], [30, 10, 20, 20], [60, 0, 70, 10], [-20, 0, 0, 10], [0, 40, 10, 50], [np.nan, 0, 1, 1]):
        with pytest.raises(ValueError, match=r"expected a box .* in a picture of 60x40, found"):
            cut_face(image, 16, box=np.array(box, float))


def test_five_of_68():
    points = np.random.default_rng(1).normal(size=(3, 68, 2))
    five = five_of_68(points)
    assert five.shape == (3, 5, 2)
    assert np.allclose(five[:, 0], points[:, 36:42].mean(1)) and np.allclose(five[:, 1], points[:, 42:48].mean(1))
    assert np.array_equal(five[:, 2:], points[:, [30, 48, 54]])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA"])
def test_pictures_of_every_mode_become_rgb(mode):
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    read = open_picture(packed(image, "TIFF"))
    assert read.mode == "RGB" and read.size == (8, 8) and np.asarray(read).min() > 250


def test_animations_give_their_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    data = packed(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(open_picture(data))[0, 0].tolist() == [250, 0, 0]


def test_pictures_that_cannot_be_read_right_are_refused(monkeypatch):
    deep = Image.fromarray(np.full((8, 8), 40000, np.uint16))
    with pytest.raises(ValueError, match="8 bits per channel, found an image of mode I;16"):
        open_picture(packed(deep))
    whole = packed(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    for data in (b"", b"text", whole[: len(whole) // 2], whole[:100]):
        with pytest.raises(ValueError, match="expected an image file, but it cannot be read"):
            open_picture(data)
    monkeypatch.setattr("ferkit.faces.crop.MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="at most 1,000 pixels, found 64x64"):
        open_picture(whole)
