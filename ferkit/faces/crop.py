"""A face cut out of a picture as a square: by its box, or with five landmarks brought to one template;
the same for training and uploads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ferkit.faces.decode import read_picture, upright

# Left eye, right eye, nose tip, mouth corners ("left" as seen in the picture) in a unit square, so that a crop is
# framed like FER2013: medians over 426 faces that find_faces saw in 501 training pictures (every 40th), made symmetric.
TEMPLATE = np.array([[0.310, 0.390], [0.690, 0.390], [0.500, 0.605], [0.345, 0.790], [0.655, 0.790]])


class Face(NamedTuple):
    """A face in a picture. `box` is left, top, right, bottom and `landmarks` (5, 2) are x, y, all in pixels.

    The landmarks are left eye, right eye, nose tip, left and right corner of the mouth, as seen in the picture.
    """

    box: tuple[float, float, float, float]
    probability: float
    landmarks: np.ndarray


def crop_face(
    image: Any, face: Face | None, *, margin: float = 0.0, size: int = 224, align: bool = True
) -> np.ndarray:
    """Cut a face out as a square: uint8 RGB (size, size, 3).

    Args:
        image: a picture, in any form that `read_picture` takes.
        face: one of `find_faces`, or None for the largest centred square of the picture.
        margin: added on each side, as a part of the side; 0 frames an aligned face as tightly as FER2013 does.
        size: side of the result in pixels.
        align: True turns and scales the face so that its five landmarks come to lie where they are in FER2013
            (least-squares similarity, see `TEMPLATE`); its box is not used. False cuts the square around the box,
            upright.

    Where the square leaves the picture, the picture's edge is repeated. What becomes smaller is averaged.

    Raises:
        ValueError: for a size or margin out of range, a box without area or outside of the picture, or landmarks that
            are all at one place.

    """
    if size < 1 or margin <= -0.5:
        raise ValueError(f"expected size >= 1 and margin > -0.5, found size={size}, margin={margin}")
    image = upright(image)[0] if isinstance(image, Image.Image) else Image.fromarray(read_picture(image))
    if face is None:
        side = min(image.size)
        a, b = complex(side), complex((image.width - side) / 2, (image.height - side) / 2)
    elif align:
        a, b = similarity_transform(TEMPLATE, np.asarray(face.landmarks, np.float64))
    else:
        a, b = _around(face.box, image)
    b, a = b - a * margin * (1 + 1j), a * (1 + 2 * margin)  # the square grows about its middle
    return np.asarray(_sample(image, a, b, size))


def similarity_transform(points: np.ndarray, goal: np.ndarray) -> tuple[complex, complex]:
    r"""Return the turn-and-scale `a` and the shift `b` that bring points closest to their goals:
    $\min \sum |a z + b - w|^2$.

    Points and goals (n, 2) are x, y, read as complex numbers; `abs(a)` is the scale. A reflection is not possible.

    Raises ValueError where all points, or all goals, are one.
    """
    z, w = points @ [1, 1j], goal @ [1, 1j]
    for given in (z, w):
        spread = np.square(np.abs(given - given.mean())).sum()
        if not np.isfinite(spread) or spread < 1e-9:
            raise ValueError("expected landmarks at different places, found all of them at one")
    centred = z - z.mean()
    a = np.vdot(centred, w - w.mean()) / np.vdot(centred, centred).real
    return complex(a), complex(w.mean() - a * z.mean())


def five_of_68(landmarks: np.ndarray) -> np.ndarray:
    """Return the five points of the template out of 68 (iBUG order), (..., 68, 2) -> (..., 5, 2);
    the eyes are means of six.
    """
    left, right = landmarks[..., 36:42, :].mean(-2), landmarks[..., 42:48, :].mean(-2)
    return np.stack([left, right, landmarks[..., 30, :], landmarks[..., 48, :], landmarks[..., 54, :]], axis=-2)


def square_box(box: tuple[float, float, float, float] | np.ndarray) -> tuple[float, float, float, float]:
    """Return the square about the middle of a box (left, top, right, bottom) whose side is the longer one of the box.
    """
    left, top, right, bottom = (float(value) for value in box)
    half = max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - half, y - half, x + half, y + half


def in_picture(box: tuple[float, float, float, float] | np.ndarray, width: int, height: int) -> bool:
    """Return whether a box (left, top, right, bottom) has an area and shares some of it with a picture."""
    left, top, right, bottom = (float(value) for value in box)
    return right > left and bottom > top and right > 0 and bottom > 0 and left < width and top < height


def _around(box: tuple[float, float, float, float], image: Image.Image) -> tuple[complex, complex]:
    if not in_picture(box, *image.size):
        found = ", ".join(f"{float(value):g}" for value in box)
        raise ValueError(
            f"expected a box (left, top, right, bottom) in a picture of {image.width}x{image.height}, found {found}"
        )
    left, top, right, _ = square_box(box)
    return complex(right - left), complex(left, top)


def _sample(image: Image.Image, a: complex, b: complex, size: int) -> Image.Image:
    """Return the square that the unit square z becomes under a z + b, in pixels of the picture,
    as `size` x `size` pixels.
    """
    corners = np.array([b, b + a, b + 1j * a, b + (1 + 1j) * a])
    left, right, top, bottom = corners.real.min(), corners.real.max(), corners.imag.min(), corners.imag.max()
    upright = abs(a.imag) < 1e-9 * abs(a) and a.real > 0
    if upright and left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    # A face that becomes smaller is averaged first, because the transform below looks at four pixels only; then what
    # lies outside of the picture is filled with its edge. Both only where the square is, so this costs what the result
    # costs.
    step = max(1.0, abs(a) / size)
    spare = 0.0 if upright else step
    x0, x1 = _inside(left - spare, right + spare, image.width)
    y0, y1 = _inside(top - spare, bottom + spare, image.height)
    columns, rows = max(1, round((x1 - x0) / step)), max(1, round((y1 - y0) / step))
    part = image.resize((columns, rows), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))
    # a single row or column is the same everywhere, so how wide it is need not be exact
    dx, dy = (x1 - x0) / columns if columns > 1 else step, (y1 - y0) / rows if rows > 1 else step
    before = math.ceil((x0 - left) / dx) + 1, math.ceil((y0 - top) / dy) + 1
    after = math.ceil((right - x0) / dx) - columns + 1, math.ceil((bottom - y0) / dy) - rows + 1
    pad = [(max(0, before[1]), max(0, after[1])), (max(0, before[0]), max(0, after[0])), (0, 0)]
    part = Image.fromarray(np.pad(np.asarray(part), pad, mode="edge"))
    # PIL asks where each pixel of the result comes from, counted from the corner of a pixel
    across, down = a / size, 1j * a / size
    shift = complex((b.real - x0) / dx + pad[1][0], (b.imag - y0) / dy + pad[0][0])
    matrix = (across.real / dx, down.real / dx, shift.real, across.imag / dy, down.imag / dy, shift.imag)
    return part.transform((size, size), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


def _inside(low: float, high: float, n: int) -> tuple[float, float]:
    """Return the part of a span that lies in a row of n pixels, in whole pixels; at least one."""
    first = min(max(math.floor(low), 0), n - 1)
    return float(first), float(max(min(math.ceil(high), n), first + 1))
