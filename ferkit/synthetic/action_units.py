"""Facial action units (AUs) and the emotions they are read as: the facts behind the synthetic faces.

FACS describes a face by the muscles that moved, not by what the person felt: Ekman and Friesen, "Facial Action Coding
System" (1978); Ekman, Friesen and Hager, "FACS: The Manual" and "Investigator's Guide" (2002). EMFACS (Friesen and
Ekman, 1983) and the table of emotion predictions in the Investigator's Guide list the combinations usually read as an
emotion. The combinations below are from there; the weights, and how often an optional unit joins, are this project's
choice. A combination is a convention about pictures. It is not proof of what anybody feels (notebook 31).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ferkit.labels import EMOTIONS

#: FACS code -> FACS name. L and R are the face's own left and right: L is on the right-hand side of the picture.
AU_DESCRIPTIONS: dict[str, str] = {
    "AU1": "inner brow raiser",
    "AU2": "outer brow raiser",
    "AU4": "brow lowerer",
    "AU5": "upper lid raiser",
    "AU6": "cheek raiser and lid compressor",
    "AU7": "lid tightener",
    "AU9": "nose wrinkler",
    "AU10": "upper lip raiser",
    "AU12": "lip corner puller",
    "AU14L": "dimpler, left side",
    "AU14R": "dimpler, right side",
    "AU15": "lip corner depressor",
    "AU16": "lower lip depressor",
    "AU17": "chin raiser",
    "AU20": "lip stretcher",
    "AU23": "lip tightener",
    "AU24": "lip pressor",
    "AU25": "lips part",
    "AU26": "jaw drop",
    "AU27": "mouth stretch",
    "AU43": "eye closure",
}

#: Columns of an AU vector.
AU_NAMES: tuple[str, ...] = tuple(AU_DESCRIPTIONS)

#: Emotion -> the units that define it, with their weight at full expression. Contempt is one-sided, on either side.
PROTOTYPES: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"AU6": 0.8, "AU12": 1.0},
    "sadness": {"AU1": 0.9, "AU4": 0.6, "AU15": 0.9},
    "surprise": {"AU1": 0.9, "AU2": 0.9, "AU5": 0.7, "AU25": 0.8, "AU26": 0.9},
    "fear": {"AU1": 0.9, "AU2": 0.6, "AU4": 0.7, "AU5": 0.9, "AU7": 0.5, "AU20": 0.9, "AU25": 0.6},
    "disgust": {"AU9": 1.0, "AU10": 0.8, "AU15": 0.4, "AU16": 0.4},
    "anger": {"AU4": 1.0, "AU5": 0.5, "AU7": 0.9, "AU23": 0.9},
    "contempt": {"AU14R": 1.0},
}

#: Emotion -> units that may join its prototype: (probability, weight at full expression).
OPTIONAL: dict[str, dict[str, tuple[float, float]]] = {
    "neutral": {},
    "happiness": {"AU25": (0.6, 0.8), "AU26": (0.2, 0.4)},
    "sadness": {"AU17": (0.5, 0.7), "AU43": (0.3, 0.35)},
    "surprise": {"AU27": (0.3, 0.6)},
    "fear": {"AU26": (0.4, 0.5)},
    "disgust": {"AU17": (0.4, 0.6), "AU25": (0.4, 0.6), "AU4": (0.4, 0.4)},
    "anger": {"AU24": (0.5, 0.8), "AU17": (0.4, 0.5), "AU10": (0.2, 0.4)},
    "contempt": {"AU12": (0.3, 0.25)},
}

#: Emotion -> the one it is blended with: pairs that people confuse most in posed and in candid pictures.
CONFUSABLE: dict[str, str] = {
    "neutral": "sadness",
    "happiness": "contempt",
    "sadness": "fear",
    "surprise": "fear",
    "fear": "surprise",
    "disgust": "anger",
    "anger": "disgust",
    "contempt": "happiness",
}

#: Regions with a mask; they may overlap at their borders.
REGIONS: tuple[str, ...] = ("brows", "eyes", "nose", "mouth", "cheeks")

#: Unit -> where it shows (FACS appearance changes, reduced to the five regions).
AU_REGIONS: dict[str, tuple[str, ...]] = {
    "AU1": ("brows",),
    "AU2": ("brows",),
    "AU4": ("brows",),
    "AU5": ("eyes",),
    "AU6": ("eyes", "cheeks"),
    "AU7": ("eyes",),
    "AU9": ("nose", "cheeks"),
    "AU10": ("mouth", "cheeks"),
    "AU12": ("mouth", "cheeks"),
    "AU14L": ("mouth",),
    "AU14R": ("mouth",),
    "AU15": ("mouth",),
    "AU16": ("mouth",),
    "AU17": ("mouth",),
    "AU20": ("mouth",),
    "AU23": ("mouth",),
    "AU24": ("mouth",),
    "AU25": ("mouth",),
    "AU26": ("mouth",),
    "AU27": ("mouth",),
    "AU43": ("eyes",),
}

#: Training images per class of real sets, to imitate their imbalance. FER2013: fer2013.csv, Usage "Training". FER+:
#: majority rule on fer2013new.csv, training rows. RAF-DB: basic set. AffectNet: manually annotated set (contempt is
#: left out for seven classes). ExpW: whole set, which has no official split.
IMBALANCES: dict[str, dict[str, float]] = {
    "fer2013": dict(zip(EMOTIONS[:7], (4965, 7215, 4830, 3171, 4097, 436, 3995), strict=True)),
    "ferplus": dict(zip(EMOTIONS, (8740, 7287, 3014, 3149, 532, 119, 2100, 119), strict=True)),
    "rafdb": dict(zip(EMOTIONS[:7], (2524, 4772, 1982, 1290, 281, 717, 705), strict=True)),
    "affectnet": dict(zip(EMOTIONS, (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750), strict=True)),
    "expw": dict(zip(EMOTIONS[:7], (34883, 30537, 10559, 7060, 1088, 3995, 3671), strict=True)),
}


def evidence_regions(aus: Sequence[str]) -> tuple[str, ...]:
    """Return the regions in which any of the units `aus` shows, in the order of `REGIONS`.

    A neutral face has no unit; it is defined by every region being at rest, so all regions are returned.
    """
    found = {region for au in aus for region in AU_REGIONS[au]}
    return tuple(region for region in REGIONS if region in found or not aus)


def au_vector(aus: Mapping[str, float]) -> list[float]:
    """Return intensities in the order of `AU_NAMES` from {"AU12": 0.8, ...}; units not named are 0.

    An intensity is in [0, 1]; the five FACS steps A to E are about 0.1, 0.3, 0.5, 0.7 and 0.9.

    Raises:
        ValueError: for an unknown unit or an intensity outside [0, 1].
    """
    for name, value in aus.items():
        if name not in AU_DESCRIPTIONS:
            raise ValueError(f"Expected action units among {', '.join(AU_NAMES)}, found {name!r}.")
        if not 0 <= value <= 1:
            raise ValueError(f"Expected the intensity of {name} in [0, 1], found {value}.")
    return [float(aus.get(name, 0.0)) for name in AU_NAMES]


def class_shares(imbalance: str | Mapping[str, float] | None, names: Sequence[str]) -> list[float]:
    """Return the share of each class in `names`, summing to 1, for a key of `IMBALANCES`, a mapping, or None (equal).

    Raises:
        ValueError: for an unknown key or class, a missing class, a negative weight, or no weight above zero.
    """
    if imbalance is None:
        return [1 / len(names)] * len(names)
    if isinstance(imbalance, str):
        if imbalance not in IMBALANCES:
            raise ValueError(f"Expected imbalance among {', '.join(IMBALANCES)} or a mapping, found {imbalance!r}.")
        weights: Mapping[str, float] = {k: v for k, v in IMBALANCES[imbalance].items() if k in names}
    else:
        weights = imbalance
    missing, unknown = [k for k in names if k not in weights], [k for k in weights if k not in names]
    if missing or unknown:
        raise ValueError(
            f"Expected one weight for each of {', '.join(names)}; missing: {', '.join(missing) or 'none'}, "
            f"not a class: {', '.join(map(str, unknown)) or 'none'}."
        )
    if min(weights.values()) < 0 or not sum(weights.values()) > 0:
        raise ValueError(f"Expected weights of zero or more, at least one above zero, found {dict(weights)}.")
    total = sum(weights.values())
    return [weights[name] / total for name in names]
