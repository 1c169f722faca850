"""From somebody's picture to the face crops a network wants: MTCNN detection and alignment; reading is in `ferkit.faces.decode`.

Everything stays in memory: nothing here writes a picture anywhere.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ferkit.faces.decode import MAX_PIXELS, portrait, read_picture

__all__ = ["MAX_PIXELS", "TEMPLATE", "Face", "crop_face", "describe", "find_faces", "portrait", "read_picture", "tilt"]

# Left eye, right eye, nose tip, mouth corners ("left" as seen in the picture) in a unit square, so that a crop is framed
# like FER2013: medians over 426 faces that find_faces saw in 501 training pictures (every 40th), made symmetric.
TEMPLATE = np.array([[0.310, 0.390], [0.690, 0.390], [0.500, 0.605], [0.345, 0.790], [0.655, 0.790]])


class Face(NamedTuple):
    """A face found in a picture. `box` is left, top, right, bottom and `landmarks` (5, 2) are x, y, all in pixels.

    The landmarks are left eye, right eye, nose tip, left and right corner of the mouth, as seen in the picture.
    """

    box: tuple[float, float, float, float]
    probability: float
    landmarks: np.ndarray


def find_faces(image: np.ndarray, *, min_size: float | None = None, min_probability: float = 0.9) -> list[Face]:
    """Find faces with MTCNN (Zhang et al., SPL 2016, arXiv 1604.02878; weights in the facenet-pytorch package).

    Args:
        image: uint8 RGB (H, W, 3), as `read_picture` gives it.
        min_size: side in pixels of the smallest face looked for, roughly: the boxes are refined afterwards. None: a
            fourteenth of the picture's side (the root of its area), and at least 20, which keeps the time the same for
            pictures of any size. Half of it takes four times as long.
        min_probability: detections that the last network gives less are dropped.

    Returns:
        Faces, the largest first; an empty list where there are none (`describe` says it in words).

    Raises:
        ValueError: not a uint8 RGB picture.
        ImportError: facenet-pytorch is not installed.

    """
    _check_rgb(image)
    height, width = image.shape[:2]
    smallest = max(20.0, math.sqrt(height * width) / 14) if min_size is None else max(12.0, float(min_size))
    # The last of MTCNN's networks looks at 48 x 48 pixels: what is larger only costs time and memory.
    shrink = min(1.0, 48 / smallest)
    if shrink < 0.8:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2))
    scale = np.array([width / image.shape[1], height / image.shape[0]])
    smallest /= scale.mean()
    # A picture no larger than the smallest face would leave the pyramid empty, which MTCNN answers with an error.
    pad = int(smallest) + 1 if min(image.shape[:2]) <= smallest else 0
    image = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    boxes, probabilities, points = _detect(image, round(smallest, 1))
    if boxes is None:
        return []
    faces = []
    for box, probability, landmarks in zip(boxes, probabilities, points, strict=True):
        if probability >= min_probability:
            left, top, right, bottom = ((np.asarray(box, np.float64).reshape(2, 2) - pad) * scale).ravel().tolist()
            xy = (np.asarray(landmarks, np.float64) - pad) * scale
            faces.append(Face((left, top, right, bottom), float(probability), xy))
    return sorted(faces, key=lambda f: (f.box[2] - f.box[0]) * (f.box[3] - f.box[1]), reverse=True)


def tilt(face: Face) -> float:
    """How far a face is turned in the picture's plane, in degrees: 0 upright, above 0 clockwise; from its eyes and mouth."""
    points = np.asarray(face.landmarks, np.float64)
    right, down = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
    axis = right / max(math.hypot(*right), 1e-9) + np.array([down[1], -down[0]]) / max(math.hypot(*down), 1e-9)
    return math.degrees(math.atan2(axis[1], axis[0]))


def describe(faces: list[Face], picture: np.ndarray | None = None) -> str:
    """Say in a few sentences what `find_faces` found, what may be wrong with it, and what happens next.

    Args:
        faces: from `find_faces`.
        picture: the uint8 RGB picture they come from. Where there are none, it is looked at again on its sides and on its
            head, and for smaller faces, so that the sentence can say what to do; that takes some tenths of a second.

    """
    if not faces:
        return f"No face found, so the whole picture is used. {_advice(picture)}"
    first = faces[0]
    width = first.box[2] - first.box[0]
    if len(faces) == 1:
        said = f"One face found, {width:.0f} pixels wide."
    else:
        said = f"{len(faces)} faces found; the largest is number 0 and is used unless you choose another one, up to {len(faces) - 1}."
    if width < 40:  # the smallest pictures that networks here were trained on are 48 pixels wide
        said += f" It is tiny ({width:.0f} pixels wide): enlarging adds no detail, so expect little of the answer."
    if abs(degrees := tilt(first)) > 20:
        way = "clockwise" if degrees > 0 else "counter-clockwise"
        said += f" It is tilted {abs(degrees):.0f} degrees {way}: alignment turns it upright, but far from upright its points may be wrong."
    return said


def _advice(picture: np.ndarray | None) -> str:
    if picture is not None:
        turned = {k: find_faces(np.ascontiguousarray(np.rot90(picture, k))) for k in (1, 2, 3)}
        quarters = max(turned, key=lambda k: (bool(turned[k]), -abs(tilt(turned[k][0])) if turned[k] else 0))
        if turned[quarters]:
            how = {1: "a quarter to the left", 2: "upside down", 3: "a quarter to the right"}[quarters]
            return f"There is one when the picture is turned {how}: turn it and try again."
        if small := find_faces(picture, min_size=max(12.0, math.sqrt(picture.shape[0] * picture.shape[1]) / 28)):
            return f"A closer look finds a tiny one, {small[0].box[2] - small[0].box[0]:.0f} pixels wide: cut the picture around it and try again."
    return "A face helps that is upright, lit, and at least a tenth of the picture high."


def crop_face(
    image: np.ndarray, face: Face | None, *, margin: float = 0.0, size: int = 224, align: bool = True
) -> np.ndarray:
    """Cut a face out as a square: uint8 RGB (size, size, 3).

    Args:
        image: uint8 RGB (H, W, 3).
        face: one of `find_faces`, or None for the largest centred square of the picture.
        margin: added on each side, as a part of the side; 0 frames the face as tightly as FER2013 does.
        size: side of the result in pixels.
        align: True turns and scales the face so that its five landmarks come to lie where they are in FER2013
            (least-squares similarity); False cuts the square around the box, upright.

    Where the square leaves the picture, the picture's edge is repeated.
    """
    _check_rgb(image)
    if size < 1 or margin <= -0.5:
        raise ValueError(f"expected size >= 1 and margin > -0.5, found size={size}, margin={margin}")
    if face is None:
        height, width = image.shape[:2]
        side = min(height, width)
        to_picture = np.array([[side, 0, (width - side) / 2], [0, side, (height - side) / 2]])
    elif align:
        to_picture = _similarity(TEMPLATE, np.asarray(face.landmarks, np.float64))
    else:
        left, top, right, bottom = face.box
        side = max(right - left, bottom - top)
        to_picture = np.array([[side, 0, (left + right - side) / 2], [0, side, (top + bottom - side) / 2]])
    if face is not None:
        # unit square -> the same with the margin around it
        grow = np.array([[1 + 2 * margin, 0, -margin], [0, 1 + 2 * margin, -margin], [0, 0, 1]])
        to_picture = to_picture @ grow
    return _sample(image, to_picture, size)


def _similarity(source: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix of rotation, one scale and shift that takes points (n, 2) nearest to others, least squares."""
    x, y = source.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    # goal_x = a x - b y + c;  goal_y = b x + a y + d
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(rows, goal.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


def _sample(image: np.ndarray, to_picture: np.ndarray, size: int) -> np.ndarray:
    """Read the picture where the unit square lies in it, with as many samples per pixel as shrinking needs."""
    import torch  # here, so that reading a data set does not wait for it
    from torch.nn import functional as F

    scale = math.hypot(to_picture[0, 0], to_picture[1, 0]) / size  # picture pixels per pixel of the result
    fine = size * min(16, max(1, math.ceil(scale)))
    # Only the part that is needed is converted: a large photograph as float32 would take a gigabyte.
    corners = to_picture @ np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])
    x0, y0 = (int(max(0, min(n - 1, low - 2))) for n, low in zip(image.shape[1::-1], corners.min(1), strict=True))
    x1, y1 = corners.max(1)
    part = torch.tensor(image[y0 : max(y0 + 1, math.ceil(y1) + 2), x0 : max(x0 + 1, math.ceil(x1) + 2)])
    height, width = part.shape[:2]
    at = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine
    v, u = torch.meshgrid(at, at, indexing="ij")
    (a, b, c), (d, e, f) = to_picture.tolist()
    x = (a * u + b * v + c - x0) / width * 2 - 1
    y = (d * u + e * v + f - y0) / height * 2 - 1
    grid = torch.stack([x, y], -1)[None].float()  # (1, fine, fine, 2)
    pixels = part.permute(2, 0, 1)[None].float()  # (1, 3, h, w)
    crop = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    crop = F.interpolate(crop, size=(size, size), mode="area")[0]  # (3, size, size)
    return crop.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def _detect(image: np.ndarray, min_size: float) -> tuple[Any, Any, Any]:
    for factor in (1.0, 1.06, 1.13):
        try:
            return _detector(min_size * factor).detect(image, landmarks=True)
        except IndexError:
            # facenet-pytorch 2.5.3 loses count when a candidate lies wholly outside the picture (timesler/facenet-pytorch
            # #182: "The shape of the mask ... does not match"); other steps of the pyramid give other candidates.
            continue
    return None, None, None


@lru_cache(maxsize=8)
def _detector(min_size: float) -> Any:
    try:
        from facenet_pytorch import MTCNN
    except ImportError:
        raise ImportError("finding faces needs facenet-pytorch: pip install 'ferkit[workbook]'") from None
    return MTCNN(min_face_size=min_size, keep_all=True)


def _check_rgb(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"expected a uint8 RGB picture (H, W, 3), found {found}; read_picture() makes one of anything")
