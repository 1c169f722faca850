"""Random numbers, difficulty, and the parameters of synthetic faces; no drawing here.

Every number belongs to (seed, index, name) and to nothing else: it is a hash of the three, so image 17 is the same
alone, in a batch of 1,000, and on any device, and a parameter added later does not change the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ferkit.synthetic.action_units import AU_NAMES, CONFUSABLE, OPTIONAL, PROTOTYPES

#: What a knob takes: a number, or (low, high) to draw from.
Range = float | tuple[float, float]
#: Name -> one number per face, float64 (N,).
FaceParameters = dict[str, np.ndarray]

#: Identity knobs, all in [0, 1], drawn evenly unless `_SHAPED` says otherwise.
IDENTITY: dict[str, str] = {
    "skin": "lightest to darkest of the ten tones of the Monk Skin Tone Scale",
    "head_width": "narrow to wide",
    "jaw": "pointed chin to square jaw",
    "age": "no lines at rest to many, and hair that goes grey",
    "hair_colour": "black, brown, red, blond",
    "hair_length": "shaved (below 0.12), short, long (above 0.5)",
    "hairline": "low to high forehead",
    "brow_thickness": "thin to bushy",
    "eye_size": "small to large",
    "eye_spacing": "close to wide",
    "iris": "dark brown to light blue",
    "nose_size": "small to large",
    "mouth_size": "narrow to wide",
    "lips": "thin to full",
    "beard": "none (0) to full (1)",
}

#: Knobs of the picture with their units; their ranges come from the difficulty unless given.
VIEW: dict[str, str] = {
    "yaw": "degrees, positive turns the nose to the right of the picture, at most 45",
    "pitch": "degrees, positive looks up, at most 30",
    "roll": "degrees, positive tilts clockwise, at most 60",
    "light": "degrees, where the light comes from: negative left, positive right, at most 90",
    "blur": "0 sharp to 1 blurred",
    "noise": "standard deviation of the sensor noise as a fraction of full scale, at most 0.5",
}
_LIMITS = {
    "yaw": (-45, 45),
    "pitch": (-30, 30),
    "roll": (-60, 60),
    "light": (-90, 90),
    "blur": (0, 1),
    "noise": (0, 0.5),
}

#: Always drawn from these.
_OTHERS = {
    "scale": (0.93, 1.07),
    "shift_x": (-0.05, 0.05),
    "shift_y": (-0.05, 0.05),
    "gaze_x": (-0.6, 0.6),
    "gaze_y": (-0.3, 0.3),
    "elevation": (5.0, 50.0),
    "contrast": (0.2, 0.9),
    "exposure": (0.85, 1.1),
    "background": (0.1, 0.9),
    "gradient_x": (-0.2, 0.2),
    "gradient_y": (-0.2, 0.2),
    "hue": (0.0, 1.0),
    "cloth": (0.0, 1.0),
    "parting": (-1.0, 1.0),
    "noise_offset": (0.0, 1.0),
    "occluder_x": (-1.0, 1.0),
    "occluder_y": (-1.0, 1.0),
}

#: Draws that are not even: age leans to young, and two faces in three have no beard.
_SHAPED = {"age": lambda u: u**1.5, "beard": lambda u: np.maximum(0.0, 3.0 * u - 2.0)}

#: What may hide a part of the face; 0 in the parameter "occluder" is nothing, k is OCCLUDERS[k - 1].
OCCLUDERS: tuple[str, ...] = ("glasses", "sunglasses", "mask", "hand")


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """How far apart the classes are, and how much the picture hides.

    Attributes:
        intensity: (low, high) strength of the whole expression; near 0 every emotion looks neutral.
        dropped: probability that a unit of the prototype is missing (the strongest one never is).
        stray: greatest intensity of two random units that do not belong to the emotion; neutral faces have them too.
        blend: probability of a second emotion (`action_units.CONFUSABLE`) in the same face.
        blend_share: (low, high) strength of the second emotion relative to the first.
        yaw, pitch, roll, light: half-widths in degrees of the ranges they are drawn from.
        blur, noise: (low, high).
        occluders: probability of each of `OCCLUDERS`.
    """

    intensity: tuple[float, float]
    dropped: float
    stray: float
    blend: float
    blend_share: tuple[float, float]
    yaw: float
    pitch: float
    roll: float
    light: float = 60.0
    blur: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, float] = (0.0, 0.0)
    occluders: Mapping[str, float] = field(default_factory=dict)

    def range_of(self, name: str) -> tuple[float, float]:
        """Return the (low, high) range of one of `VIEW`."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (-value, value)


DIFFICULTIES: dict[str, Difficulty] = {
    "easy": Difficulty(
        intensity=(0.7, 1.0), dropped=0.0, stray=0.1, blend=0.0, blend_share=(0.0, 0.0),
        yaw=12, pitch=6, roll=6, blur=(0.0, 0.2), noise=(0.0, 0.02),
    ),
    "default": Difficulty(
        intensity=(0.3, 1.0), dropped=0.1, stray=0.3, blend=0.25, blend_share=(0.2, 0.6),
        yaw=22, pitch=10, roll=10, blur=(0.0, 0.5), noise=(0.0, 0.035),
        occluders={"glasses": 0.12, "sunglasses": 0.03, "mask": 0.03, "hand": 0.05},
    ),
    "hard": Difficulty(
        intensity=(0.25, 0.9), dropped=0.15, stray=0.4, blend=0.35, blend_share=(0.3, 0.7),
        yaw=35, pitch=15, roll=15, blur=(0.1, 0.9), noise=(0.01, 0.06),
        occluders={"glasses": 0.15, "sunglasses": 0.06, "mask": 0.06, "hand": 0.1},
    ),
}  # fmt: skip


def _mix(h: np.ndarray) -> np.ndarray:
    # splitmix64's finaliser (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output bit.
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def uniform(seed: int, index: np.ndarray, name: str) -> np.ndarray:
    """Return numbers in [0, 1), float64 (N,), that depend on seed, index (N,) and name alone."""
    words = np.array([seed & 0xFFFFFFFFFFFFFFFF, zlib.crc32(name.encode())], dtype=np.uint64)
    key = _mix(_mix(words[:1] + np.uint64(0x9E3779B97F4A7C15)) ^ words[1:])
    h = _mix(_mix(index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key) ^ key)
    return (h >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _bounds(name: str, value: Range, low: float, high: float) -> tuple[float, float]:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
        raise ValueError(f"Expected {name} as a number or (low, high) within [{low}, {high}], found {value!r}.")
    return float(pair[0]), float(pair[1])


def difficulty_of(difficulty: str | Difficulty) -> Difficulty:
    """Return the `Difficulty` of that name, or the one given. Raises ValueError for an unknown name."""
    if isinstance(difficulty, Difficulty):
        return difficulty
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"Expected difficulty among {', '.join(DIFFICULTIES)}, found {difficulty!r}.")
    return DIFFICULTIES[difficulty]


def occluder_shares(occluders: str | Mapping[str, float] | None, level: Difficulty) -> list[float]:
    """Return the probability of each of `OCCLUDERS` from a name (always), "none", a mapping,
    or None (the difficulty's).
    """
    shares = level.occluders if occluders is None else occluders
    if isinstance(shares, str):
        shares = {} if shares == "none" else {shares: 1.0}
    unknown = [name for name in shares if name not in OCCLUDERS]
    if unknown or sum(shares.values()) > 1 + 1e-9 or any(share < 0 for share in shares.values()):
        raise ValueError(
            f"Expected occluders as 'none', one of {', '.join(OCCLUDERS)}, or probabilities of them that sum to at "
            f"most 1, found {occluders!r}."
        )
    return [float(shares.get(name, 0.0)) for name in OCCLUDERS]


def sample_parameters(
    seed: int,
    index: np.ndarray,
    *,
    level: Difficulty,
    identity: Mapping[str, Range] | None = None,
    view: Mapping[str, Range | None] | None = None,
    occluders: str | Mapping[str, float] | None = None,
    person: np.ndarray | None = None,
) -> FaceParameters:
    """Draw the parameters of faces `index` (N,): those of `IDENTITY` and `VIEW`, and the rest of the picture.

    `identity` and `view` fix a knob or give its range; `person` (N,) gives the index that identity is drawn from, so
    that one person can have many pictures.

    Raises:
        ValueError: for an unknown knob or a value outside its limits, listing what there is.
    """
    identity, view = identity or {}, view or {}
    unknown = sorted(set(identity) - set(IDENTITY))
    if unknown:
        raise ValueError(f"Expected identity knobs among {', '.join(IDENTITY)}, found {', '.join(unknown)}.")
    person = index if person is None else person
    p: FaceParameters = {}
    for name in IDENTITY:
        u = uniform(seed, person, name)
        low, high = _bounds(name, identity[name], 0, 1) if name in identity else (0.0, 1.0)
        p[name] = low + (high - low) * u if name in identity or name not in _SHAPED else _SHAPED[name](u)
    for name in VIEW:
        given = view.get(name)
        low, high = level.range_of(name) if given is None else _bounds(name, given, *_LIMITS[name])
        p[name] = low + (high - low) * uniform(seed, index, name)
    for name, (low, high) in _OTHERS.items():
        p[name] = low + (high - low) * uniform(seed, index, name)
    edges = np.cumsum(occluder_shares(occluders, level))
    code = np.searchsorted(edges, uniform(seed, index, "occluder"), side="right") + 1
    p["occluder"] = np.where(code > len(OCCLUDERS), 0, code).astype(np.float64)
    return p


def sample_labels(seed: int, index: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Draw int64 labels (N,) with class shares `weights`.

    The golden-ratio sequence spreads the draws evenly, so that any run of n neighbouring indices has each share to
    within a few images instead of the usual sqrt(n).
    """
    start = uniform(seed, np.zeros(1, np.int64), "labels")
    u = (start + index * 0.6180339887498949) % 1.0
    label = np.searchsorted(np.cumsum(weights), u, side="right")
    return np.minimum(label, int(np.flatnonzero(weights)[-1])).astype(np.int64)


def sample_aus(
    seed: int, index: np.ndarray, labels: np.ndarray, names: Sequence[str], level: Difficulty
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the AU intensities of faces with emotion `names[labels]`.

    Returns:
        intensities, float64 (N, A) in [0, 1] in the order of `AU_NAMES`; and which of them belong to the emotion of the
        label (prototype and optional units that were drawn), bool (N, A). Stray and blended units do not.
    """

    def table(source: Mapping[str, Mapping[str, float]]) -> np.ndarray:
        return np.array([[source[name].get(au, 0.0) for au in AU_NAMES] for name in names])  # (K, A)

    def draws(what: str) -> np.ndarray:
        return np.stack([uniform(seed, index, f"{what} {au}") for au in AU_NAMES], axis=1)  # (N, A)

    core = table(PROTOTYPES)
    chance = table({k: {au: v[0] for au, v in units.items()} for k, units in OPTIONAL.items()})
    extra = table({k: {au: v[1] for au, v in units.items()} for k, units in OPTIONAL.items()})
    strongest = (core == core.max(axis=1, keepdims=True)) & (core > 0)
    strongest &= np.cumsum(strongest, axis=1) == 1

    kept = draws("kept")
    drawn = (core[labels] > 0) & ((kept >= level.dropped) | strongest[labels])
    joined = draws("joined") < chance[labels]
    low_intensity, high_intensity = level.intensity
    overall = (low_intensity + (high_intensity - low_intensity) * uniform(seed, index, "intensity"))[:, None]
    own = np.where(drawn, core[labels], 0) + np.where(joined, extra[labels], 0)
    own = np.clip(own * overall * (0.75 + 0.5 * draws("strength")), 0, 1)
    active = own > 0

    partner = np.array([names.index(CONFUSABLE[k]) if CONFUSABLE[k] in names else i for i, k in enumerate(names)])
    low, high = level.blend_share
    share = low + (high - low) * uniform(seed, index, "blend share")
    share = np.where(uniform(seed, index, "blend") < level.blend, share, 0.0)[:, None]
    # A neutral face with a trace of a second emotion stays below the weakest face of that emotion.
    base = np.where((core[labels] > 0).any(axis=1, keepdims=True), overall, low_intensity)
    aus = np.maximum(own, core[partner[labels]] * base * share)
    left, right = AU_NAMES.index("AU14L"), AU_NAMES.index("AU14R")
    mirrored = uniform(seed, index, "side") < 0.5
    for array in (aus, active):
        array[mirrored, left], array[mirrored, right] = array[mirrored, right], array[mirrored, left]

    rows = np.arange(len(index))
    for k in range(2):
        column = (uniform(seed, index, f"stray unit {k}") * len(AU_NAMES)).astype(np.int64)
        aus[rows, column] = np.maximum(aus[rows, column], level.stray * uniform(seed, index, f"stray {k}"))
    return aus, active
