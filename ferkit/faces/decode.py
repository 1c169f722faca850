"""Somebody's picture, whatever it is, as uint8 RGB: nothing is trusted, nothing is written, memory stays bounded."""

import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

MAX_PIXELS = 50_000_000  # read before decoding: the largest photographs that telephones make
LARGE = 16_000_000  # above this a picture is made smaller while it is converted; a face needs some hundred pixels
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM")  # EPS is left out: PIL would run Ghostscript

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


def read_picture(source: bytes | bytearray | memoryview | str | Path | np.ndarray) -> np.ndarray:
    """Read any picture a user may bring as uint8 RGB (H, W, 3).

    The camera's EXIF rotation is applied, transparency is put on white, 16-bit values are scaled to 8, and the first frame
    of an animation is taken. The size is checked before anything is decoded. A picture of more than 16 megapixels is
    averaged down to a half or less of its sides, which keeps all that is held below 500 MB.

    Args:
        source: the bytes of a file (the `content` of an ipywidgets FileUpload as it comes), a path, or an array (H, W),
            (H, W, 3) or (H, W, 4) of uint8, uint16, bool, or floats in [0, 1].

    Raises:
        ValueError: not a picture, cut off, too large, or an array of another shape or type; one sentence.
        FileNotFoundError: no file at the path.

    """
    if isinstance(source, np.ndarray):
        return _to_rgb(_array_image(source))
    if isinstance(source, str | os.PathLike):
        if not Path(source).is_file():
            raise FileNotFoundError(f"no picture at {source}; check the path")
        data = Path(source).read_bytes()
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    else:
        raise ValueError(f"expected a picture's bytes, path or array, found {type(source).__name__}")
    if not data:
        raise ValueError("the picture is empty (0 bytes); was the upload finished?")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PIL, about sizes, which are checked here, and about damaged EXIF, which is left out
        image = _open(data)
        try:
            factor = _factor(image)
            if factor > 1:
                image.draft(None, (image.width // factor, image.height // factor))  # JPEG need not decode what is averaged away
            image.load()
            return _to_rgb(image)
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"the {image.format} picture is damaged or cut off ({said}); export or upload it again") from None


def portrait() -> np.ndarray:
    """The astronaut Eileen Collins, uint8 RGB (512, 512, 3): NASA, public domain, part of scikit-image's installation."""
    try:
        from skimage.data import astronaut
    except ImportError:
        raise ImportError("the sample portrait comes with scikit-image: pip install 'ferkit[workbook]'") from None
    return astronaut()


def _open(data: bytes) -> Image.Image:
    Image.init()
    limit = f"the {MAX_PIXELS / 1e6:.0f} megapixels allowed; make it smaller first"
    try:
        image = Image.open(io.BytesIO(data), formats=[f for f in FORMATS if f in Image.OPEN])  # AVIF is optional in PIL
    except Image.DecompressionBombError:
        raise ValueError(f"the picture has more than {limit}") from None
    except Exception:  # decoders raise a dozen kinds for bytes that are not theirs
        what = "a HEIC or video file, which cannot" if data[4:8] == b"ftyp" else "not a picture that can"
        raise ValueError(f"this is {what} be read; export it as JPEG or PNG first") from None
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height} = {image.width * image.height / 1e6:.1f} megapixels"
        raise ValueError(f"the picture is {size}, more than {limit}")
    return image


def _factor(image: Image.Image) -> int:
    return max(1, math.ceil(math.sqrt(image.width * image.height / LARGE)))


def _to_rgb(image: Image.Image) -> np.ndarray:
    turn = _turn(image)
    factor = _factor(image)
    width, height = image.size
    rows = factor * max(1, _STRIP // (factor * width))
    top = _white(image, rows) if image.mode.startswith(("I", "F")) else None
    out = np.empty((math.ceil(height / factor), math.ceil(width / factor), 3), np.uint8)
    for y in range(0, height, rows):
        strip = image.crop((0, y, width, min(height, y + rows)))
        if top is not None:  # 16 bits or more: PIL's own conversion cuts everything above 255 off
            values = np.nan_to_num(np.asarray(strip, np.float32), nan=0.0).clip(0, top)
            strip = Image.fromarray((values * (255 / top)).round().astype(np.uint8))
        elif strip.has_transparency_data:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        strip = strip.convert("RGB")
        strip = strip.reduce(factor) if factor > 1 else strip
        out[y // factor : y // factor + strip.height] = np.asarray(strip)
    return out if turn is None else np.array(Image.fromarray(out).transpose(turn))


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF raises a dozen kinds; the picture itself may be whole
        return None


def _white(image: Image.Image, rows: int) -> float:
    """The value that stands for white in a picture of deep or real numbers: 65535, 255 or 1, whichever holds them all."""
    largest = 0.0
    for y in range(0, image.height, rows):
        values = np.asarray(image.crop((0, y, image.width, min(image.height, y + rows))), np.float32)
        largest = max(largest, float(np.nan_to_num(values, nan=0.0).max()))
    return 65535.0 if largest > 255 else 255.0 if largest > 1 or image.mode != "F" else 1.0


def _array_image(array: np.ndarray) -> Image.Image:
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"expected a picture (H, W), (H, W, 3) or (H, W, 4), found an array of shape {array.shape}")
    if array.dtype == np.uint16:
        array = array // 257
    elif array.dtype == bool:
        array = array * 255
    elif np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ValueError("expected floats in [0, 1]; for values in 0-255 convert with .astype(numpy.uint8)")
        array = (array * 255).round()
    elif array.dtype != np.uint8:
        raise ValueError(f"expected a picture of uint8, uint16, bool or floats in [0, 1], found {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array.astype(np.uint8)))
