"""The faces in a picture, found with MTCNN, and what to say about them; reading is in `ferkit.faces.decode`,
cutting in `ferkit.faces.crop`.

Everything stays in memory: nothing here writes a picture anywhere.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from ferkit.faces.crop import Face
from ferkit.faces.decode import read_picture


def find_faces(image: Any, *, min_size: float | None = None, min_probability: float = 0.9) -> list[Face]:
    """Find faces with MTCNN (Zhang et al., SPL 2016, arXiv 1604.02878; weights in the facenet-pytorch package).

    Args:
        image: a picture, in any form that `read_picture` takes.
        min_size: side in pixels of the smallest face looked for, roughly: the boxes are refined afterwards. None: a
            fourteenth of the picture's side (the root of its area), and at least 20, which keeps the time the same for
            pictures of any size. Half of it takes four times as long.
        min_probability: detections that the last network gives less are dropped.

    Returns:
        Faces, the largest first; an empty list where there are none (`describe` says it in words).

    Raises:
        ValueError: not a picture.
        ImportError: facenet-pytorch is not installed.

    """
    image = read_picture(image)
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
    """How far a face is turned in the picture's plane, in degrees: 0 upright, above 0 clockwise;
    from its eyes and mouth.
    """
    points = np.asarray(face.landmarks, np.float64)
    right, down = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
    axis = right / max(math.hypot(*right), 1e-9) + np.array([down[1], -down[0]]) / max(math.hypot(*down), 1e-9)
    return math.degrees(math.atan2(axis[1], axis[0]))


def describe(faces: list[Face], picture: np.ndarray | None = None) -> str:
    """Say in a few sentences what `find_faces` found, what may be wrong with it, and what happens next.

    Args:
        faces: from `find_faces`.
        picture: the uint8 RGB picture they come from. Where there are none, it is looked at again on its sides and on
            its head, and for smaller faces, so that the sentence can say what to do; that takes some tenths of a
            second.

    """
    if not faces:
        return f"No face found, so the whole picture is used. {_advice(picture)}"
    first = faces[0]
    width = first.box[2] - first.box[0]
    if len(faces) == 1:
        said = f"One face found, {width:.0f} pixels wide."
    else:
        said = (
            f"{len(faces)} faces found; the largest is number 0 and is used unless you choose another one, "
            f"up to {len(faces) - 1}."
        )
    if width < 40:  # the smallest pictures that networks here were trained on are 48 pixels wide
        said += f" It is tiny ({width:.0f} pixels wide): enlarging adds no detail, so expect little of the answer."
    if abs(degrees := tilt(first)) > 20:
        way = "clockwise" if degrees > 0 else "counter-clockwise"
        said += (
            f" It is tilted {abs(degrees):.0f} degrees {way}: alignment turns it upright, but far from upright "
            "its points may be wrong."
        )
    return said


def _advice(picture: np.ndarray | None) -> str:
    if picture is not None:
        turned = {k: find_faces(np.ascontiguousarray(np.rot90(picture, k))) for k in (1, 2, 3)}
        quarters = max(turned, key=lambda k: (bool(turned[k]), -abs(tilt(turned[k][0])) if turned[k] else 0))
        if turned[quarters]:
            how = {1: "a quarter to the left", 2: "upside down", 3: "a quarter to the right"}[quarters]
            return f"There is one when the picture is turned {how}: turn it and try again."
        if small := find_faces(picture, min_size=max(12.0, math.sqrt(picture.shape[0] * picture.shape[1]) / 28)):
            return (
                f"A closer look finds a tiny one, {small[0].box[2] - small[0].box[0]:.0f} pixels wide: cut the "
                "picture around it and try again."
            )
    return "A face helps that is upright, lit, and at least a tenth of the picture high."


def _detect(image: np.ndarray, min_size: float) -> tuple[Any, Any, Any]:
    for factor in (1.0, 1.06, 1.13):
        try:
            return _detector(min_size * factor).detect(image, landmarks=True)
        except IndexError:
            # facenet-pytorch 2.5.3 loses count when a candidate lies wholly outside the picture
            # (timesler/facenet-pytorch #182: "The shape of the mask ... does not match"); other steps of the pyramid
            # give other candidates.
            continue
    return None, None, None


@lru_cache(maxsize=8)
def _detector(min_size: float) -> Any:
    try:
        from facenet_pytorch import MTCNN
    except ImportError:
        raise ImportError("finding faces needs facenet-pytorch: pip install 'ferkit[workbook]'") from None
    return MTCNN(min_face_size=min_size, keep_all=True)
