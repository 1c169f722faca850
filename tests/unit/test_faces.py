"""From an upload to a crop: odd files, no face, many faces, alignment."""

import base64
import io
import socket
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ferkit.faces import TEMPLATE, Face, crop_face, describe, detect, find_faces, portrait, read_picture, tilt

pytest.importorskip("facenet_pytorch")


def encode(image: Image.Image, fmt: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return portrait()


@pytest.fixture(scope="module")
def found(astronaut: np.ndarray) -> Face:
    return find_faces(astronaut)[0]


# -- read_picture ------------------------------------------------------------------------------------------------------


def gradient(mode: str) -> Image.Image:
    ramp = np.linspace(0, 255, 30 * 20).reshape(20, 30).astype(np.uint8)
    return Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2], -1)).convert(mode)


@pytest.mark.parametrize(
    ("mode", "fmt"),
    [
        ("RGB", "PNG"),
        ("RGB", "BMP"),
        ("L", "PNG"),
        ("1", "PNG"),
        ("P", "GIF"),
        ("P", "PNG"),
        ("CMYK", "TIFF"),
        ("RGB", "WEBP"),
    ],
)
def test_modes_and_formats(mode: str, fmt: str) -> None:
    image = gradient(mode)
    rgb = read_picture(encode(image, fmt, **({"lossless": True} if fmt == "WEBP" else {})))
    assert rgb.shape == (20, 30, 3) and rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, np.asarray(image.convert("RGB")))


def test_memoryview_path_and_array_agree(tmp_path: Path) -> None:
    image = gradient("RGB")
    data = encode(image)
    (tmp_path / "a.txt").write_bytes(data)  # the content decides, not the name
    expected = np.asarray(image)
    for source in (data, memoryview(data), bytearray(data), tmp_path / "a.txt", str(tmp_path / "a.txt"), expected):
        np.testing.assert_array_equal(read_picture(source), expected)


def test_exif_rotation_is_applied() -> None:
    image = gradient("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # camera turned: rotate by 90 degrees clockwise to see it upright
    rgb = read_picture(encode(image, "JPEG", exif=exif, quality=95))
    assert rgb.shape == (30, 20, 3)
    upright = np.asarray(image.rotate(-90, expand=True)).astype(int)
    assert np.abs(rgb - upright).mean() < 8 < np.abs(rgb[:, ::-1] - upright).mean()


def test_transparency_becomes_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (200, 10, 20, 255)
    expected = np.full((4, 4, 3), 255, np.uint8)
    expected[:2] = (200, 10, 20)
    np.testing.assert_array_equal(read_picture(encode(Image.fromarray(rgba))), expected)
    np.testing.assert_array_equal(read_picture(rgba), expected)
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    rgb = read_picture(encode(palette, "PNG", transparency=1))
    assert rgb.tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 257, 32896, 65535], [0, 1, 128, 255]), ([200, 200, 128, 0], [1, 1, 0, 0])]
)
def test_sixteen_bit_is_scaled_not_cut(values: list[int], expected: list[int]) -> None:
    """The same grey as file and as array, also where nothing is brighter than 255."""
    values = np.array([values], np.uint16)
    assert read_picture(encode(Image.fromarray(values)))[0, :, 0].tolist() == expected
    assert read_picture(values)[0, :, 0].tolist() == expected
    assert read_picture(encode(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == expected


def test_other_arrays() -> None:
    assert read_picture(np.array([[0.0, 0.5, 1.0]], np.float32))[0, :, 0].tolist() == [0, 128, 255]
    assert read_picture(np.array([[False, True]]))[0, :, 2].tolist() == [0, 255]
    assert read_picture(np.array([[0, 255]]))[0, :, 1].tolist() == [0, 255]
    assert read_picture(np.array([[0, 65535]]))[0, :, 1].tolist() == [0, 255]


COLOUR = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "source",
    [
        COLOUR,
        COLOUR.transpose(2, 0, 1),
        torch.from_numpy(COLOUR),
        torch.from_numpy(COLOUR.transpose(2, 0, 1).copy()).float() / 255,
        torch.from_numpy(COLOUR.transpose(2, 0, 1).copy()).float().requires_grad_() / 255,
        np.asfortranarray(COLOUR),
        COLOUR.astype(np.int64),
        COLOUR.astype(np.uint16) * 257,
        np.dstack([COLOUR, np.full((20, 30), 255, np.uint8)]),
        np.dstack([COLOUR, np.full((20, 30), 255, np.uint8)]).transpose(2, 0, 1),
        Image.fromarray(COLOUR),
        Image.fromarray(COLOUR).convert("RGBA"),
        encode(Image.fromarray(COLOUR)),
        "data:image/png;base64," + base64.b64encode(encode(Image.fromarray(COLOUR))).decode(),
        base64.b64encode(encode(Image.fromarray(COLOUR))).decode(),
    ],
)  # fmt: skip
def test_one_picture_in_every_form_is_the_same_picture(source: object) -> None:
    np.testing.assert_array_equal(read_picture(source), COLOUR)


@pytest.mark.parametrize(
    "source", [COLOUR[..., 0], COLOUR[..., :1], COLOUR[None, ..., 0], Image.fromarray(COLOUR[..., 0])]
)
def test_one_grey_picture_in_every_form_is_the_same_picture(source: object) -> None:
    np.testing.assert_array_equal(read_picture(source), np.repeat(COLOUR[..., :1], 3, 2))


def test_an_image_object_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for fmt in ("JPEG", "PNG"):
        image = Image.open(io.BytesIO(encode(Image.fromarray(COLOUR), fmt, exif=exif)))
        assert read_picture(image).shape == (30, 20, 3)
        assert crop_face(image.convert("RGB"), None, size=8).shape == (8, 8, 3)
        np.testing.assert_array_equal(crop_face(image, None, size=20), crop_face(read_picture(image), None, size=20))


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 4), c) for c in ("red", "blue")]
    rgb = read_picture(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert rgb[0, 0].tolist() == [255, 0, 0]


def bomb() -> bytes:
    """A PNG of some hundred bytes that says it is 20000 x 20000."""
    data = bytearray(encode(Image.new("1", (8, 8))))
    data[16:24] = (20000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "empty"),
        (b"hello, this is not a picture at all", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"),
        (encode(Image.effect_noise((99, 99), 60).convert("RGB"), "JPEG")[:1500], "cut off"),
        (encode(Image.effect_noise((99, 99), 60).convert("RGB"), "PNG")[:3000], "cut off"),
        (encode(Image.new("1", (9000, 9000))), "81.0 megapixels, more than the 50"),
        (encode(Image.new("1", (10000, 10000))), "100.0 megapixels, more than the 50"),
        (bomb(), "megapixels"),
        (42, "found int"),
        (np.zeros((5, 20, 20), np.uint8), r"shape \(5, 20, 20\)"),
        (Image.new("1", (9000, 9000)), "81.0 megapixels"),
        (np.array([["a"]]), "found <U1"),
        (np.zeros((0, 5), np.uint8), "shape"),
        (np.full((4, 4), 300.0), r"floats in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"floats in \[0, 1\]"),
        (np.full((4, 4), -1), "whole numbers from 0 to 255"),
        (np.full((4, 4), 70000), "to 65535 for 16 bits, found 70000"),
        ("data:image/png,abc", "data URL in base64"),
        ("data:image/png;base64,ab$c", "base64 text cannot be read"),
    ],
)
def test_bad_pictures_are_one_sentence(source: object, words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=words) as info:
            read_picture(source)  # type: ignore[arg-type]
    assert "\n" not in str(info.value)
    assert info.value.__cause__ is None and (info.value.__context__ is None or info.value.__suppress_context__)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_picture(tmp_path / "none.png")


# -- find_faces --------------------------------------------------------------------------------------------------------


def test_portrait_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("tried to open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    picture = portrait()
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8


def test_one_face(found: Face) -> None:
    left, top, right, bottom = found.box
    assert 170 < left < 190 and 50 < top < 70 and 260 < right < 280 and 165 < bottom < 185
    assert 0.99 < found.probability <= 1
    eyes, nose, mouth = found.landmarks[:2], found.landmarks[2], found.landmarks[3:]
    assert eyes[0, 0] < nose[0] < eyes[1, 0]
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min()


def test_several_faces_largest_first(astronaut: np.ndarray) -> None:
    small = np.asarray(Image.fromarray(astronaut).resize((300, 300)))
    wall = np.full((512, 1200, 3), 90, np.uint8)
    wall[:300, :300] = small
    wall[:, 600:1112] = astronaut[:, ::-1]
    result = find_faces(wall)
    assert len(result) == 2
    assert result[0].box[0] > 800 and result[1].box[2] < 200
    assert describe(result).startswith("2 faces found; the largest is number 0")


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (500, 15), (12, 12), (20, 20), (48, 48), (300, 200)])
def test_no_face_is_an_empty_list(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    assert find_faces(np.full((*shape, 3), 128, np.uint8)) == []
    assert find_faces(rng.integers(0, 256, (*shape, 3)).astype(np.uint8)) == []
    assert describe([]).startswith("No face found, so the whole picture is used")


def test_large_photographs_are_looked_at_small(astronaut: np.ndarray, found: Face) -> None:
    big = np.asarray(Image.fromarray(astronaut).resize((3072, 3072)))
    [face] = find_faces(big)
    np.testing.assert_allclose(np.array(face.box) / 6, found.box, atol=6)
    np.testing.assert_allclose(face.landmarks / 6, found.landmarks, atol=4)


def test_tight_little_crops_are_found(astronaut: np.ndarray, found: Face) -> None:
    for size in (48, 64, 100):
        [face] = find_faces(crop_face(astronaut, found, size=size))
        assert face.probability > 0.9


def test_min_size_and_min_probability(astronaut: np.ndarray) -> None:
    assert find_faces(astronaut, min_size=400) == []
    assert len(find_faces(astronaut, min_size=60)) == 1
    assert find_faces(astronaut, min_probability=1.1) == []


def test_the_package_losing_count_is_survived(monkeypatch: pytest.MonkeyPatch, astronaut: np.ndarray) -> None:
    real, calls = detect._detector, []

    class Loses:
        def __init__(self, min_size: float) -> None:
            self.min_size = min_size

        def detect(self, *args: object, **kwargs: object) -> object:
            calls.append(self.min_size)
            if len(calls) == 1:
                raise IndexError(
                    "The shape of the mask [4] at index 0 does not match the shape of the indexed tensor [6, 4]"
                )
            return real(self.min_size).detect(*args, **kwargs)

    monkeypatch.setattr(detect, "_detector", Loses)
    assert len(find_faces(astronaut)) == 1
    assert len(calls) == 2 and calls[0] < calls[1]


def test_other_input_is_refused(astronaut: np.ndarray) -> None:
    for bad in (astronaut[None], astronaut - 256.0, {"a": 1}):
        for function in (find_faces, lambda p: crop_face(p, None)):
            with pytest.raises(ValueError, match="expected"):
                function(bad)


def test_faces_are_found_in_a_picture_of_any_form(astronaut: np.ndarray, found: Face) -> None:
    for source in (
        astronaut.transpose(2, 0, 1),
        astronaut / 255,
        Image.fromarray(astronaut),
        encode(Image.fromarray(astronaut)),
        torch.from_numpy(astronaut),
    ):
        [face] = find_faces(source)
        assert face.box == found.box
        np.testing.assert_array_equal(crop_face(source, face, size=48), crop_face(astronaut, found, size=48))
    assert find_faces(io.BytesIO(encode(Image.fromarray(astronaut))))[0].box == found.box


def turned_picture(astronaut: np.ndarray, degrees: float) -> np.ndarray:
    return np.asarray(Image.fromarray(astronaut).rotate(degrees))


@pytest.mark.parametrize("degrees", [-40, -25, 0, 25, 40])
def test_tilt_in_words(astronaut: np.ndarray, degrees: float) -> None:
    [face] = find_faces(turned_picture(astronaut, degrees))
    assert tilt(face) == pytest.approx(-degrees, abs=12)  # PIL turns counter-clockwise
    said = describe([face])
    way = "counter-clockwise" if degrees > 0 else "clockwise"
    assert ("tilted" in said) == (degrees != 0) and (not degrees or f"degrees {way}:" in said)


def test_tilt_of_points_that_fall_together() -> None:
    assert tilt(Face((0, 0, 1, 1), 1.0, np.zeros((5, 2)))) == 0


@pytest.mark.parametrize(
    ("degrees", "how"), [(90, "a quarter to the right"), (180, "upside down"), (-90, "a quarter to the left")]
)
def test_a_face_on_its_side_is_said_to_be_there(astronaut: np.ndarray, degrees: float, how: str) -> None:
    picture = turned_picture(astronaut, degrees)
    assert find_faces(picture) == []
    assert f"when the picture is turned {how}:" in describe([], picture)
    right = {"a quarter to the right": 3, "upside down": 2, "a quarter to the left": 1}[how]
    [face] = find_faces(np.ascontiguousarray(np.rot90(picture, right)))  # what the sentence says to do is right
    assert abs(tilt(face)) < 10


def test_tiny_faces_in_words(astronaut: np.ndarray) -> None:
    picture = np.full((480, 640, 3), 110, np.uint8)
    picture[:140, :140] = np.asarray(Image.fromarray(astronaut).resize((140, 140)))
    assert "It is tiny (2" in describe(find_faces(picture))
    picture[:] = 110
    picture[:100, :100] = np.asarray(Image.fromarray(astronaut).resize((100, 100)))
    assert find_faces(picture) == []
    assert "A closer look finds a tiny one" in describe([], picture)
    picture[:] = 110
    assert "A face helps that is upright" in describe([], picture)


# -- crop_face ---------------------------------------------------------------------------------------------------------


def rotated(face: Face, degrees: float, centre: float) -> np.ndarray:
    t = np.deg2rad(-degrees)  # PIL turns counter-clockwise, y points down
    turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    return (face.landmarks - centre) @ turn.T + centre


@pytest.mark.parametrize("degrees", [-40, 0, 25])
def test_alignment_undoes_a_rotation(astronaut: np.ndarray, found: Face, degrees: float) -> None:
    turned = np.asarray(Image.fromarray(astronaut).rotate(degrees, resample=Image.Resampling.BICUBIC))
    face = Face(found.box, 1.0, rotated(found, degrees, 255.5))
    straight = crop_face(astronaut, found, size=96).astype(float)
    again = crop_face(turned, face, size=96).astype(float)
    assert np.abs(straight - again).mean() < 5
    if degrees:
        upright = crop_face(turned, face, size=96, align=False).astype(float)
        assert np.abs(straight - upright).mean() > 15


def test_landmarks_land_on_the_template(astronaut: np.ndarray, found: Face) -> None:
    [face] = find_faces(crop_face(astronaut, found, size=224))
    assert np.abs(face.landmarks / 224 - TEMPLATE).max() < 0.06
    [wide] = find_faces(crop_face(astronaut, found, size=224, margin=0.5))
    assert np.abs(wide.landmarks / 224 - (TEMPLATE + 0.5) / 2).max() < 0.04


def test_crop_of_the_box_is_that_part_of_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (80, 100, 3)).astype(np.uint8)
    face = Face((30, 20, 62, 52), 1.0, np.zeros((5, 2)))
    np.testing.assert_array_equal(crop_face(picture, face, size=32, align=False), picture[20:52, 30:62])
    np.testing.assert_array_equal(crop_face(picture, face, size=48, align=False, margin=0.25), picture[12:60, 22:70])
    np.testing.assert_array_equal(crop_face(picture, None, size=80), picture[:, 10:90])


def test_shrinking_averages() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # would alias to black or white without enough samples
    small = crop_face(stripes, None, size=8)
    assert 120 <= small.min() and small.max() <= 135


def test_outside_the_picture_the_edge_is_repeated() -> None:
    picture = np.full((20, 20, 3), 50, np.uint8)
    picture[:, -1] = 200
    inside_out = Face((15, 0, 35, 20), 1.0, np.zeros((5, 2)))
    crop = crop_face(picture, inside_out, size=20, align=False)
    assert (crop[:, :4] == 50).all() and (crop[:, 5:] == 200).all()
    with pytest.raises(ValueError, match="in a picture of 20x20, found 500, 500, 520, 520"):
        crop_face(picture, Face((500, 500, 520, 520), 1.0, np.zeros((5, 2))), size=4, align=False)


def test_sizes_and_margins_are_checked(astronaut: np.ndarray, found: Face) -> None:
    for kwargs in ({"size": 0}, {"margin": -0.5}):
        with pytest.raises(ValueError, match="size >= 1 and margin"):
            crop_face(astronaut, found, **kwargs)
    assert crop_face(astronaut, found, size=1).shape == (1, 1, 3)
