"""Any picture as uint8 RGB, by one policy for training data, the doctor and uploads alike: nothing is trusted,
memory stays bounded.

The policy: the camera's EXIF rotation is applied, transparency is put on white, 16-bit values are scaled to 8 (65535 is
white), the first frame of an animation is taken, and the size is checked before anything is decoded.
"""

import base64
import binascii
import io
import math
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

MAX_PIXELS = 50_000_000  # read before decoding: the largest photographs that telephones make
LARGE = 16_000_000  # above this a picture is made smaller while it is converted; a face needs some hundred pixels
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM")  # EPS is left out: PIL would run Ghostscript
DEEP = ("I", "F")  # how the names of PIL's modes with more than eight bits per channel begin

_STRIP = 1_000_000  # pixels converted at a time, so that no second copy of a large picture is ever held
_TURNS = {  # Exif 2.32, tag 0x0112: how the camera was held
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _NoMeaning(ValueError):
    """Values of which nobody can say what is black and what is white."""


def read_picture(source: Any) -> np.ndarray:
    """Read one picture, however it comes, as uint8 RGB (H, W, 3).

    A file or PIL image of more than 16 megapixels is averaged down to a half or less of its sides, which keeps all that
    is held below 500 MB.

    Args:
        source: a path; an open file; the bytes of a file (the `content` of an ipywidgets FileUpload as it comes); a
            data URL or base64 text; a PIL image; or an array or tensor (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4
            channels (where both could be meant, the last axis holds the channels) of uint8, uint16, bool, whole numbers
            up to 255 or 65535, or floats in [0, 1].

    Raises:
        ValueError: not a picture, cut off, too large, or an array of another shape or type; one sentence.
        FileNotFoundError: no file at the path.

    """
    if callable(getattr(source, "read", None)):  # a file opened in binary mode, BytesIO, an upload of a web framework
        source = source.read()
    if isinstance(source, bytes | bytearray | memoryview | str | os.PathLike):
        data = _data(source)
        with warnings.catch_warnings():
            # of PIL, about sizes, which are checked here, and about damaged EXIF, which is left out
            warnings.simplefilter("ignore")
            return np.array(upright(open_picture(data))[0])
    if isinstance(source, Image.Image):
        return np.array(upright(_checked(source))[0])
    pixels = as_pixels(source)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)


def as_pixels(array: Any) -> np.ndarray:
    """Return one picture in an array or tensor as uint8, (H, W) for a grey one, else (H, W, 3).

    Shapes, types and errors are those of `read_picture`.
    """
    # a tensor; torch itself need not be imported for that
    if not isinstance(array, np.ndarray) and hasattr(array, "is_floating_point"):
        array = (array.detach().float() if array.is_floating_point() else array).cpu().numpy()
    if not isinstance(array, np.ndarray):
        raise ValueError(f"expected a picture's bytes, path, PIL image or array, found {type(array).__name__}")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(
            "expected one picture (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, found an array of "
            f"shape {array.shape}"
        )
    values = eight_bits(array)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 3 and values.shape[2] == 4:
        values = np.asarray(_rgb(Image.fromarray(np.ascontiguousarray(values))))
    return np.ascontiguousarray(values)


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Return the values of pictures, of any shape and type, as uint8.

    Raises ValueError for a type or range without a meaning.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "iuf":
        raise _NoMeaning(f"expected a picture of uint8, uint16, bool or floats in [0, 1], found {values.dtype}")
    if not values.size:
        return values.astype(np.uint8)
    return _scaled(values, _white(values.dtype, float(values.min()), float(values.max())))


def _white(kind: np.dtype, low: float, high: float) -> float:
    """Return which value is white in a picture of this type whose values lie between two others."""
    if kind.kind == "f":
        if not (0 <= low and high <= 1):  # false for numbers that are none, too
            raise _NoMeaning(
                f"expected floats in [0, 1], found {low:g} to {high:g}; for values in 0-255 convert with "
                ".astype(numpy.uint8), and do not normalise them first"
            )
        return 1.0
    if low < 0 or high > 65535:
        raise _NoMeaning(f"expected whole numbers from 0 to 255, or to 65535 for 16 bits, found {low:g} to {high:g}")
    # a type of 16 bits says what it means, however dark the picture is
    return 65535.0 if kind.itemsize == 2 and kind.kind == "u" or high > 255 else 255.0


def _scaled(values: np.ndarray, white: float) -> np.ndarray:
    return (values * np.float64(255 / white)).round().astype(np.uint8)


def portrait() -> np.ndarray:
    """The astronaut Eileen Collins, uint8 RGB (512, 512, 3): NASA, public domain, part of scikit-image's installation.
    """
    try:
        from skimage.data import astronaut
    except ImportError:
        raise ImportError("the sample portrait comes with scikit-image: pip install 'ferkit[workbook]'") from None
    return astronaut()


def open_picture(data: bytes) -> Image.Image:
    """Return a picture whose header is read and whose size is allowed; nothing is decoded yet (see `upright`).

    Raises ValueError, in one sentence that does not say which picture.
    """
    if not data:
        raise ValueError("the picture is empty (0 bytes): the upload or copy was not finished")
    Image.init()
    try:
        image = Image.open(io.BytesIO(data), formats=[f for f in FORMATS if f in Image.OPEN])  # AVIF is optional in PIL
    except Image.DecompressionBombError:
        raise ValueError(f"the picture has more than {_LIMIT}") from None
    except Exception:  # decoders raise a dozen kinds for bytes that are not theirs
        what = "a HEIC or video file, which cannot" if data[4:8] == b"ftyp" else "not a picture that can"
        raise ValueError(f"this is {what} be read; copy it again, or export it as JPEG or PNG") from None
    return _checked(image)


_LIMIT = f"the {MAX_PIXELS / 1e6:.0f} megapixels allowed; make it smaller first"


def _checked(image: Image.Image) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height} = {image.width * image.height / 1e6:.1f} megapixels"
        raise ValueError(f"the picture is {size}, more than {_LIMIT}")
    if not image.width * image.height:
        raise ValueError(f"the picture has no pixels ({image.width} x {image.height})")
    return image


def upright(image: Image.Image, *, shortest: int | None = None) -> tuple[Image.Image, int]:
    """Decode a picture by the policy above.

    Args:
        image: from `open_picture`.
        shortest: pixels that the shorter side must keep; a JPEG whose sides can be halved without going below is
            decoded at a half, quarter or eighth, which saves most of the time. None keeps the size.

    Returns:
        RGB image, and by which whole number its sides were divided: by more than 1 only as `shortest` allows, or where
        the picture has more than 16 megapixels.

    Raises:
        ValueError: damaged or cut off, in one sentence that does not say which picture.

    """
    size, kind = image.size, image.format or image.mode
    try:
        least = min(size) / _factor(image) if shortest is None else min(shortest, min(size) / _factor(image))
        if image.format in ("JPEG", "MPO") and 2 * least <= min(size):
            image.draft(None, (math.ceil(size[0] * least / min(size)), math.ceil(size[1] * least / min(size))))
        image.load()
        turn, halved, factor = _turn(image), round(max(size) / max(image.size)), _factor(image)
        small = factor == 1 and (image.mode == "RGB" or image.width * image.height <= _STRIP)
        rgb = _rgb(image) if small else Image.fromarray(_in_strips(image, factor))
        if turn is not None:
            rgb = rgb.transpose(turn)
            rgb.info = {}  # it holds the EXIF data still, by which it would be turned again
        return rgb, halved * factor
    except _NoMeaning:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the {kind} picture is damaged or cut off ({said}); copy or export it again") from None


def _data(source: bytes | bytearray | memoryview | str | os.PathLike[str]) -> bytes:
    """Return the bytes of a picture in a file, in memory or in a text."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    text = os.fspath(source)
    head, comma, body = text.partition(",")
    if head.startswith("data:"):
        if not (comma and head.endswith(";base64")):
            raise ValueError(f"expected a data URL in base64 (data:image/png;base64,...), found {head[:40]!r}")
        return _from_base64(body)
    # a path is far shorter than a picture, and longer ones are an error of the operating system
    if len(text) > 1000 and re.fullmatch(r"[A-Za-z0-9+/\s]+={0,2}\s*", text):
        return _from_base64(text)
    if not text or not Path(text).expanduser().is_file():
        raise FileNotFoundError(f"no picture at {text[:200] or 'an empty path'}; check the path")
    return Path(text).expanduser().read_bytes()


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the picture arrived damaged: its base64 text cannot be read; send it again") from None


def _factor(image: Image.Image) -> int:
    return max(1, math.ceil(math.sqrt(image.width * image.height / LARGE)))


def _rgb(image: Image.Image) -> Image.Image:
    """Return a picture, or a strip of one, in RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(DEEP):
        image = Image.fromarray(eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _in_strips(image: Image.Image, factor: int) -> np.ndarray:
    """Return a large picture as RGB, its sides divided by `factor`, without a second copy of it."""
    width, height = image.size
    rows = factor * max(1, _STRIP // (factor * width))
    strips = [(0, y, width, min(height, y + rows)) for y in range(0, height, rows)]
    white = None
    if image.mode.startswith(DEEP):  # one white for the whole picture
        spans = [
            (values.dtype, values.min(), values.max()) for values in (np.asarray(image.crop(strip)) for strip in strips)
        ]
        white = _white(spans[0][0], float(min(low for _, low, _ in spans)), float(max(high for _, _, high in spans)))
    out = np.empty((math.ceil(height / factor), math.ceil(width / factor), 3), np.uint8)
    for box in strips:
        strip = image.crop(box)
        strip = _rgb(strip if white is None else Image.fromarray(_scaled(np.asarray(strip), white)))
        strip = strip.reduce(factor) if factor > 1 else strip
        out[box[1] // factor : box[1] // factor + strip.height] = np.asarray(strip)
    return out


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF raises a dozen kinds; the picture itself may be whole
        return None
