r"""Synthetic faces: the data set every notebook runs on when there is no other.

A face is a set of facial action units (`action_units`: FACS, Ekman and Friesen 1978; EMFACS prototypes of seven
emotions and neutral) on a drawn head (`face_drawing`) with an identity, a pose, a light and a camera
(`face_parameters`). Nobody is shown, nothing is downloaded, and what defines the label of each picture is known to the
pixel.

Everything about picture i depends on (seed, i) alone: not on the batch, the order, the chunk or the device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ferkit.data.faceset import FaceSet
from ferkit.labels import EMOTIONS
from ferkit.synthetic.action_units import AU_NAMES, REGIONS, au_vector, class_shares, evidence_regions
from ferkit.synthetic.drawing import draw_chunk
from ferkit.synthetic.parameters import (
    Difficulty,
    FaceParameters,
    Range,
    difficulty_of,
    sample_aus,
    sample_labels,
    sample_parameters,
    uniform,
)

#: Planted cues: a white square whose place on the upper edge tells a class, or the brightness and hue of the backdrop.
SHORTCUTS = ("mark", "tint")

#: Test pictures of `load_synthetic` start here, so that they are the same for every `n_train`.
TEST_START = 1 << 30

#: Pictures drawn at once; a speed setting only. 256 faces of 64 x 64 are 4 MB.
CHUNK_PIXELS = 256 * 64 * 64


@dataclass(frozen=True, eq=False, kw_only=True)
class SyntheticBatch:
    """Pictures and everything that is known about them.

    Attributes:
        images: uint8 (N, H, W), or (N, 3, H, W) for RGB.
        labels: int64 (N,), positions in `names`, with label noise if asked for.
        true_labels: int64 (N,), the emotion that was drawn.
        names: emotions in label order, `EMOTIONS[:7]` or all eight.
        aus: float64 (N, A), intensities in [0, 1] of the units in `action_units.AU_NAMES`.
        active: bool (N, A), units that belong to the drawn emotion, not stray or blended in from another.
        parameters: identity, view and the rest of each picture, float64 (N,) each; see `face_parameters`.
        person: int64 (N,), whose face it is.
        cue: int64 (N,), the class that the planted shortcut points at, or -1.
        masks: bool (N, H, W) each, or None: the five `REGIONS`; "evidence", the union of the regions of the active
            units, which defines the label (all five for neutral, which is every region at rest); "face"; "background",
            all but head, hair and occluder; "occluder"; and "shortcut", the planted cue.
    """

    images: np.ndarray
    labels: np.ndarray
    true_labels: np.ndarray
    names: tuple[str, ...]
    aus: np.ndarray
    active: np.ndarray
    parameters: FaceParameters
    person: np.ndarray
    cue: np.ndarray
    masks: dict[str, np.ndarray] | None

    def __len__(self) -> int:
        return len(self.labels)


def draw_faces(
    aus: np.ndarray,
    parameters: FaceParameters,
    *,
    size: int = 64,
    colour: str = "grey",
    device: str | torch.device = "cpu",
    masks: bool = False,
) -> tuple[np.ndarray, dict[str, np.ndarray] | None]:
    """Draw faces from action units (N, A) and parameters (N,) each, for example an edited `SyntheticBatch`'s.

    Returns:
        uint8 pictures (N, size, size) or (N, 3, size, size), and the masks of `SyntheticBatch` without "evidence" and
        "shortcut", or None.

    Raises:
        ValueError: for a size below 32 or above 1024, an unknown colour, or arrays that do not fit together.
    """
    if colour not in ("grey", "rgb"):
        raise ValueError(f"Expected colour 'grey' or 'rgb', found {colour!r}.")
    if not 32 <= size <= 1024:
        raise ValueError(f"Expected a size from 32 to 1024 pixels, found {size}.")
    n = len(aus)
    if aus.shape != (n, len(AU_NAMES)) or any(value.shape != (n,) for value in parameters.values()):
        raise ValueError(
            f"Expected action units of shape (N, {len(AU_NAMES)}) and parameters of shape (N,), found {aus.shape} and "
            f"{sorted({value.shape for value in parameters.values()})}."
        )
    step = max(1, CHUNK_PIXELS // size**2)
    pictures, found = [], []
    with torch.no_grad():
        for low in range(0, n, step):
            rows = slice(low, low + step)
            picture, mask = draw_chunk(
                aus[rows],
                {name: value[rows] for name, value in parameters.items()},
                size=size,
                channels=3 if colour == "rgb" else 1,
                device=torch.device(device),
                masks=masks,
            )
            pictures.append((picture if colour == "rgb" else picture[:, 0]).cpu().numpy())
            found.append({name: value.cpu().numpy() for name, value in mask.items()})
    return np.concatenate(pictures), {k: np.concatenate([m[k] for m in found]) for k in found[0]} if masks else None


def face_from_action_units(
    aus: Mapping[str, float],
    *,
    size: int = 192,
    seed: int = 0,
    identity: Mapping[str, Range] | None = None,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    light: float = 20.0,
    blur: float = 0.0,
    noise: float = 0.0,
    occluder: str = "none",
    colour: str = "grey",
) -> np.ndarray:
    """Draw one face with the units set by hand, e.g. ``face_from_action_units({"AU6": 0.5, "AU12": 0.8})``.

    `seed` chooses the person; `identity` overrides some of `face_parameters.IDENTITY`; the other knobs are those of
    `make_faces`. ``face_from_action_units(PROTOTYPES["fear"])`` draws a full prototype.

    Returns:
        uint8 (size, size), or (3, size, size) for colour="rgb".

    Raises:
        ValueError: for unknown names and for values outside their range, with what was expected.
    """
    vector = np.array([au_vector(aus)])
    view: dict[str, Range | None] = {
        "yaw": yaw, "pitch": pitch, "roll": roll, "light": light, "blur": blur, "noise": noise
    }  # fmt: skip
    level = difficulty_of("easy")
    index = np.zeros(1, np.int64)
    parameters = sample_parameters(seed, index, level=level, identity=identity, view=view, occluders=occluder)
    return draw_faces(vector, parameters, size=size, colour=colour)[0][0]


def make_faces(
    n: int,
    *,
    size: int = 64,
    seed: int = 0,
    start: int = 0,
    emotions: int = 7,
    difficulty: str | Difficulty = "default",
    identity: Mapping[str, Range] | None = None,
    persons: int | None = None,
    yaw: Range | None = None,
    pitch: Range | None = None,
    roll: Range | None = None,
    light: Range | None = None,
    blur: Range | None = None,
    noise: Range | None = None,
    occluders: str | Mapping[str, float] | None = None,
    label_noise: float = 0.0,
    imbalance: str | Mapping[str, float] | None = None,
    shortcut: str | None = None,
    shortcut_strength: float = 0.9,
    device: str | torch.device = "cpu",
    masks: bool = False,
    colour: str = "grey",
) -> SyntheticBatch:
    """Make pictures `start` to `start + n - 1` of the endless series `seed`.

    Args:
        n: how many pictures.
        size: height and width in pixels, 32 to 1024.
        seed, start: which pictures.
        emotions: 7, or 8 with contempt.
        difficulty: "easy", "default", "hard", or a `Difficulty`.
        identity: some of `face_parameters.IDENTITY` as a number or (low, high) in [0, 1], e.g. {"skin": (0.7, 1)}.
        persons: number of different people, who then have several pictures each; None makes every picture a new person.
        yaw, pitch, roll, light, blur, noise: a number or (low, high), units in `face_parameters.VIEW`; None leaves the
            range to the difficulty.
        occluders: "none", one of `face_parameters.OCCLUDERS` (on every face), probabilities such as {"mask": 0.3}, or
            None for the difficulty's.
        label_noise: probability that the given label is another class, chosen evenly.
        imbalance: a key of `action_units.IMBALANCES` ("fer2013", ...) or weights by emotion; None for equal classes.
        shortcut: None, "mark" (a white square whose place on the upper edge tells a class), or "tint" (brightness and
            hue of the backdrop tell it). It is added to the finished picture, so no blur or noise hides a mark.
        shortcut_strength: probability that the cue tells the given label; otherwise it tells one of the other classes.
        device: where to draw; pictures agree between devices (random numbers are made on the CPU).
        masks: also return the masks.
        colour: "grey" or "rgb"; grey is the luma of the RGB picture.

    Raises:
        ValueError: for an unknown name or a value outside its range, with what was expected.
    """
    if n < 1 or start < 0:
        raise ValueError(f"Expected n of at least 1 and start of at least 0, found n={n}, start={start}.")
    if emotions not in (7, 8):
        raise ValueError(f"Expected 7 or 8 emotions, found {emotions}.")
    for what, value in (("label_noise", label_noise), ("shortcut_strength", shortcut_strength)):
        if not 0 <= value <= 1:
            raise ValueError(f"Expected {what} in [0, 1], found {value}.")
    if shortcut not in (None, *SHORTCUTS):
        raise ValueError(f"Expected shortcut None or one of {', '.join(SHORTCUTS)}, found {shortcut!r}.")
    if persons is not None and persons < 1:
        raise ValueError(f"Expected at least one person, found persons={persons}.")
    level = difficulty_of(difficulty)
    names = EMOTIONS[:emotions]
    index = np.arange(start, start + n, dtype=np.int64)

    true = sample_labels(seed, index, class_shares(imbalance, names))
    labels = _other_class(seed, index, true, len(names), label_noise, "label noise")
    aus, active = sample_aus(seed, index, true, names, level)
    person = index if persons is None else (uniform(seed, index, "person") * persons).astype(np.int64)
    view = {"yaw": yaw, "pitch": pitch, "roll": roll, "light": light, "blur": blur, "noise": noise}
    parameters = sample_parameters(
        seed, index, level=level, identity=identity, view=view, occluders=occluders, person=person
    )
    cue = np.full(n, -1, np.int64)
    if shortcut:
        cue = _other_class(seed, index, labels, len(names), 1 - shortcut_strength, "shortcut")
    if shortcut == "tint":
        parameters["background"] = 0.15 + 0.7 * cue / (len(names) - 1)
        parameters["hue"] = cue / len(names)

    images, found = draw_faces(aus, parameters, size=size, colour=colour, device=device, masks=masks)
    planted = np.zeros((n, size, size), bool)
    if shortcut == "mark":
        _plant_marks(images, planted, cue)
    if found is not None:
        shows = [evidence_regions([AU_NAMES[k] for k in np.flatnonzero(row)]) for row in active]
        defines = {region: np.array([region in row for row in shows])[:, None, None] for region in REGIONS}
        found["evidence"] = np.any([found[region] & defines[region] for region in REGIONS], axis=0)
        found["shortcut"] = found["background"] if shortcut == "tint" else planted
    return SyntheticBatch(
        images=images, labels=labels, true_labels=true, names=names, aus=aus, active=active, parameters=parameters,
        person=person, cue=cue, masks=found,
    )  # fmt: skip


def _other_class(seed: int, index: np.ndarray, labels: np.ndarray, k: int, share: float, what: str) -> np.ndarray:
    """Return labels of which the given share is replaced by another class, chosen evenly."""
    step = 1 + (uniform(seed, index, f"{what}: which") * (k - 1)).astype(np.int64)
    return np.where(uniform(seed, index, what) < share, (labels + step) % k, labels)


def _plant_marks(images: np.ndarray, planted: np.ndarray, cue: np.ndarray) -> None:
    """Draw a white square with a black rim near the upper edge, further right for each class."""
    unit = max(1, images.shape[-1] // 64)
    for image, mask, k in zip(images, planted, cue, strict=True):
        left = (1 + 7 * int(k)) * unit
        image[..., unit : 6 * unit, left : left + 5 * unit] = 0
        image[..., 2 * unit : 5 * unit, left + unit : left + 4 * unit] = 255
        mask[unit : 6 * unit, left : left + 5 * unit] = True


def load_synthetic(
    n_train: int = 4000,
    n_test: int = 1000,
    size: int = 64,
    seed: int = 0,
    *,
    emotions: int = 7,
    difficulty: str | Difficulty = "default",
    identity: Mapping[str, Range] | None = None,
    yaw: Range | None = None,
    pitch: Range | None = None,
    roll: Range | None = None,
    light: Range | None = None,
    blur: Range | None = None,
    noise: Range | None = None,
    occluders: str | Mapping[str, float] | None = None,
    label_noise: float = 0.0,
    imbalance: str | Mapping[str, float] | None = None,
    shortcut: str | None = None,
    shortcut_strength: float = 0.9,
    colour: str = "grey",
    test: Mapping[str, object] | None = None,
) -> FaceSet:
    """Return synthetic faces as a data set with the splits "train" and "test"; the knobs are those of `make_faces`.

    Label noise is for the training labels only: test labels are true. `test` changes knobs for the test pictures, e.g.
    ``shortcut="mark", test={"shortcut_strength": 1 / 7}`` plants a cue that stops working. Nobody in the test pictures
    is in the training pictures, and the test pictures do not depend on `n_train`.

    Raises:
        ValueError: as `make_faces`, and for an unknown knob in `test`.
    """
    knobs: dict[str, object] = {
        "emotions": emotions, "difficulty": difficulty, "identity": identity, "yaw": yaw, "pitch": pitch, "roll": roll,
        "light": light, "blur": blur, "noise": noise, "occluders": occluders, "label_noise": label_noise,
        "imbalance": imbalance, "shortcut": shortcut, "shortcut_strength": shortcut_strength,
    }  # fmt: skip
    unknown = sorted(set(test or {}) - set(knobs))
    if unknown:
        raise ValueError(f"Expected knobs of the test pictures among {', '.join(knobs)}, found {', '.join(unknown)}.")
    fixed = {"size": size, "seed": seed, "colour": colour}
    train_batch = make_faces(n_train, **fixed, **knobs)  # type: ignore[arg-type]
    test_knobs = {**knobs, "label_noise": 0.0, **(test or {})}
    test_batch = make_faces(n_test, start=TEST_START, **fixed, **test_knobs)  # type: ignore[arg-type]
    images = np.concatenate([train_batch.images, test_batch.images])
    labels = np.concatenate([train_batch.labels, test_batch.labels])
    level = difficulty if isinstance(difficulty, str) else "custom"
    return FaceSet(
        images=images,
        labels=labels,
        names=train_batch.names,
        split=np.repeat(["train", "test"], [n_train, n_test]),
        name="synthetic",
        source=f"synthetic faces, seed {seed}, {size} x {size} {colour}, difficulty {level}",
        sha256=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
    )
