"""A drawn face that moves: an expression comes over a neutral face, stays and goes; the truth beside it."""

from typing import NamedTuple

import numpy as np

from ferkit.synthetic.action_units import PROTOTYPES, au_vector
from ferkit.synthetic.faces import draw_faces
from ferkit.synthetic.parameters import difficulty_of, sample_parameters, uniform

#: When the expression begins to come, is there, begins to go, and is gone, as parts of the clip.
TURNS = (0.2, 0.35, 0.65, 0.8)


class Clip(NamedTuple):
    """Frames of one face.

    Attributes:
        frames: uint8 (T, 3, S, S).
        strength: (T,) of the expression, 0 neutral to 1 the whole prototype.
        fps: frames in a second.

    """

    frames: np.ndarray
    strength: np.ndarray
    fps: int


def draw_clip(
    emotion: str = "happiness",
    *,
    seconds: float = 4.0,
    fps: int = 10,
    size: int = 160,
    seed: int = 0,
    noise: float = 0.03,
    sway: float = 6.0,
) -> Clip:
    """Draw a clip of one person whose action units move from neutral to an emotion's prototype and back.

    Args:
        emotion: one of `PROTOTYPES`.
        seconds: of the whole clip.
        fps: frames in a second.
        size: side in pixels.
        seed: chooses the person.
        noise: of the camera, drawn anew for each frame, from 0 to 0.1: what makes a network's answer flicker.
        sway: degrees by which the head turns to either side, once in two seconds.

    Raises:
        ValueError: an unknown emotion, a clip of fewer than two frames, or a knob out of range.

    """
    if emotion not in PROTOTYPES:
        raise ValueError(f"expected an emotion among {', '.join(PROTOTYPES)}, found {emotion!r}")
    n = round(seconds * fps)
    if n < 2:
        raise ValueError(f"expected two frames or more, found {seconds} s at {fps} frames in a second")
    time = np.arange(n) / fps
    here = np.interp(time / seconds, TURNS, (0.0, 1.0, 1.0, 0.0))
    strength = (1 - np.cos(np.pi * here)) / 2  # it begins and ends gently, as faces move
    one = np.zeros(n, np.int64)  # the same person in the same light in every frame
    view = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "blur": 0.0, "noise": noise}
    parameters = sample_parameters(seed, one, level=difficulty_of("easy"), view=view, occluders="none")
    parameters["yaw"] = sway * np.sin(np.pi * time)
    parameters["noise_offset"] = uniform(seed, np.arange(n), "noise of the frame")
    aus = strength[:, None] * np.array([au_vector(PROTOTYPES[emotion])])
    return Clip(draw_faces(aus, parameters, size=size, colour="rgb")[0], strength, fps)
