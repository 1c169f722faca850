"""One face out of a photograph: whole picture, box with a margin, or five landmarks brought to a template; always a square."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

#: Where left eye, right eye, nose tip, left and right corner of the mouth (x, y) lie in an aligned face of 112 x 112
#: pixels: the five points most face sets are aligned to (InsightFace, `arcface_torch`; MobileFaceNet's training data).
TEMPLATE_112 = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
#: Pictures with more bits than eight would be cut off silently by a conversion to RGB.
_DEEP = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
MAX_PIXELS = 100_000_000


def open_picture(data: bytes) -> Image.Image:
    """Decode an image file to RGB; of an animation the first frame, of a transparent picture its colours.

    Raises ValueError, without saying which file, where it cannot be read whole, has more than 8 bits per channel or more
    than `MAX_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on damaged metadata, and on size, which is checked here
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:  # before decoding, so that a huge picture costs nothing
                    raise ValueError(f"expected at most {MAX_PIXELS:,} pixels, found {image.width}x{image.height}")
                if image.mode in _DEEP:
                    raise ValueError(f"expected 8 bits per channel, found an image of mode {image.mode}; convert it first")
                return image.convert("RGB")
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"expected an image file, but it cannot be read ({error}); copy it again") from None


def square_box(box: np.ndarray, margin: float) -> tuple[float, float, float, float]:
    """Return the square around a box (left, top, right, bottom) whose longer side is grown by `margin` of itself on each side."""
    left, top, right, bottom = (float(value) for value in box)
    half = max(right - left, bottom - top) * (0.5 + margin)
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - half, y - half, x + half, y + half


def similarity(points: np.ndarray, goal: np.ndarray) -> tuple[complex, complex]:
    r"""Return the turn-and-scale `a` and the shift `b` that bring points closest to their goals: $\min \sum |a z + b - w|^2$.

    Points and goals (n, 2) are x, y, read as complex numbers; `abs(a)` is the scale. A reflection is not possible.

    Raises ValueError where all points are one.
    """
    z, w = points @ [1, 1j], goal @ [1, 1j]
    centred = z - z.mean()
    spread = np.vdot(centred, centred).real
    if not np.isfinite(spread) or spread < 1e-9:
        raise ValueError("expected landmarks at different places, found all of them at one")
    a = np.vdot(centred, w - w.mean()) / spread
    return complex(a), complex(w.mean() - a * z.mean())


def five_of_68(landmarks: np.ndarray) -> np.ndarray:
    """Return the five points of the template out of 68 (iBUG order), (..., 68, 2) -> (..., 5, 2); the eyes are means of six."""
    left, right = landmarks[..., 36:42, :].mean(-2), landmarks[..., 42:48, :].mean(-2)
    return np.stack([left, right, landmarks[..., 30, :], landmarks[..., 48, :], landmarks[..., 54, :]], axis=-2)


def cut_face(
    image: Image.Image, size: int, *, box: np.ndarray | None = None, margin: float = 0.0, landmarks: np.ndarray | None = None
) -> np.ndarray:
    """Return a face as (3, size, size) uint8 RGB.

    Args:
        image: RGB.
        size: side of the result in pixels.
        box: left, top, right, bottom in pixels of the picture, made a square by `square_box`; what lies outside of the
            picture is black. None takes the whole picture, scaled to a square.
        margin: part of the longer side that is added on each side of the box.
        landmarks: (5, 2) x, y; if given the picture is turned, scaled and shifted so that they come closest to
            `TEMPLATE_112`, and box and margin are not used.

    Raises:
        ValueError: for a box without area or outside of the picture, or landmarks that are all at one place.
    """
    if landmarks is not None:
        return _channels_first(_align(image, size, np.asarray(landmarks, np.float64)))
    if box is None:
        return _channels_first(image.resize((size, size), Image.Resampling.BILINEAR))
    left, top, right, bottom = (float(value) for value in box)
    if not (right > left and bottom > top and right > 0 and bottom > 0 and left < image.width and top < image.height):
        found = ", ".join(f"{value:g}" for value in (left, top, right, bottom))
        raise ValueError(f"expected a box (left, top, right, bottom) in a picture of {image.width}x{image.height}, found {found}")
    left, top, right, bottom = (round(value) for value in square_box(box, margin))
    side = max(right - left, bottom - top, 1)
    cut = image.crop((left, top, left + side, top + side))
    return _channels_first(cut.resize((size, size), Image.Resampling.BILINEAR))


def _align(image: Image.Image, size: int, points: np.ndarray) -> Image.Image:
    a, b = similarity(points, TEMPLATE_112 * (size / 112))
    # a picture that is made much smaller is averaged first: the transform below looks at four pixels only
    whole = max(1, int(1 / abs(a))) if a else 1
    if whole > 1:
        image = image.reduce(whole)
        b, a = b + a * (whole - 1) / 2 * (1 + 1j), a * whole
    # PIL asks where each pixel of the result comes from, and counts from the corner of a pixel
    back, shift = 1 / a, -b / a
    centre = complex(0.5, 0.5)
    shift += centre - back * centre
    matrix = (back.real, -back.imag, shift.real, back.imag, back.real, shift.imag)
    return image.transform((size, size), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


def _channels_first(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))  # (H, W, 3) -> (3, H, W)
