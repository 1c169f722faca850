"""What single pictures show: missing and damaged files, blank ones, colours and sizes that do not belong."""

from __future__ import annotations

import numpy as np

from ferkit.doctor.report import Finding, some
from ferkit.doctor.scan import FLAGS
from ferkit.doctor.survey import Survey

# flag -> severity, sentence with {} for how many
_KINDS = {
    "missing": (
        "error",
        'Expected every picture that is listed, found {} missing; complete the copy, or load with missing="drop".',
    ),
    "unreadable": (
        "error",
        "Expected image files, found {} that cannot be read whole; copy them again or remove them.",
    ),
    "too_large": (
        "error",
        "Expected pictures of at most 50 million pixels, found {} larger; load refuses them. Scale or remove them.",
    ),
    "deep": (
        "note",
        "{} have more than 8 bits per channel; they are scaled to 8, 65535 being white (1 for real numbers).",
    ),
    "bad_box": (
        "error",
        (
            "Expected a face's box inside its picture, found {} outside or without area; boxes and pictures are "
            "of different copies."
        ),
    ),
    "blank": ("warning", "Expected faces, found {} of a single colour; they teach nothing. Leave them out."),
    "animated": ("warning", "Expected single pictures, found {} with several frames; only the first is used."),
    "other_mode": (
        "warning",
        (
            "Expected grey or RGB pictures, found {} in CMYK or another system of colours, which is converted without "
            "its profile; save them as RGB."
        ),
    ),
    "alpha": ("note", "{} are partly transparent; they are put on white."),
}  # fmt: skip
#: A colour set is suspicious from this many colour pictures on with blue above red on average, by so much; skin is red.
_ENOUGH, _BLUE = 20, -4.0
_TINY = 24
_SIZES = {"fer2013": (48, 48), "rafdb": (100, 100)}


def check_looks(survey: Survey, records: np.ndarray) -> list[Finding]:
    """Return what is wrong with single pictures of a survey, by their records."""
    findings = []
    for name, (severity, sentence) in _KINDS.items():
        rows = np.flatnonzero(records["flags"] & FLAGS[name])
        if len(rows):
            findings.append(
                Finding(
                    severity=severity,
                    code=name,
                    sentence=sentence.format(f"{len(rows):,}"),
                    count=len(rows),
                    examples=_places(survey, rows),
                )
            )
    seen = np.flatnonzero(records["width"] > 0)
    return findings + _colours(survey, records, seen) + _sizes(survey, records, seen)


def _places(survey: Survey, rows: np.ndarray) -> tuple[str, ...]:
    return some(
        [
            f"{survey.listing.files[row]} ({survey.place(row)})"
            if survey.listing is not None
            else survey.place(int(row))
            for row in rows[:3].tolist()
        ]
        + [""] * (len(rows) - 3)
    )


def _colours(survey: Survey, records: np.ndarray, seen: np.ndarray) -> list[Finding]:
    findings = []
    usable = seen[(records["flags"][seen] & (FLAGS["unreadable"] | FLAGS["too_large"])) == 0]
    grey = (records["flags"][usable] & FLAGS["grey"]) > 0
    if survey.set_name == "fer2013" and (~grey).any():
        rows = usable[~grey]
        sentence = (
            f"Expected grey pictures, as FER2013 has, found {len(rows):,} in colour; they are of another "
            "set, or were coloured."
        )
        findings.append(
            Finding(
                severity="warning", code="colour", sentence=sentence, count=len(rows), examples=_places(survey, rows)
            )
        )
    for split in sorted(set(survey.split[usable].tolist())) if survey.set_name != "fer2013" else []:
        here = survey.split[usable] == split
        n, greys = int(here.sum()), int((here & grey).sum())
        if n >= _ENOUGH and greys > 0.2 * n and survey.set_name != "folder":
            sentence = (
                f"Expected colour pictures in {split}, found {greys:,} of {n:,} grey; this copy was "
                "converted, and networks for colour see less than they should."
            )
            findings.append(
                Finding(severity="warning", code="grey", sentence=sentence, count=greys, numbers={"split": split})
            )
        elif n >= _ENOUGH and 0.05 * n < greys < 0.95 * n:
            sentence = (
                f"{greys:,} of {n:,} pictures of {split} are grey, the others in colour; a network can tell "
                "sources apart by that."
            )
            findings.append(
                Finding(
                    severity="note", code="grey_and_colour", sentence=sentence, count=greys, numbers={"split": split}
                )
            )
        colour = usable[here & ~grey]
        excess = float(records["red_blue"][colour].mean()) if len(colour) else 0.0
        if len(colour) >= _ENOUGH and excess < _BLUE:
            sentence = (
                f"Expected more red than blue in faces, found {-excess:.0f} grey levels more blue than red on "
                f"average in {split}: red and blue are probably swapped (OpenCV reads and writes BGR). Look at a "
                "picture; convert them if its skin is blue."
            )
            findings.append(
                Finding(
                    severity="error",
                    code="bgr",
                    sentence=sentence,
                    count=len(colour),
                    numbers={"split": split, "red_less_blue": excess},
                )
            )
    return findings


def _sizes(survey: Survey, records: np.ndarray, seen: np.ndarray) -> list[Finding]:
    width, height = records["width"][seen].astype(np.int64), records["height"][seen].astype(np.int64)
    wanted = _SIZES.get(survey.set_name)
    if wanted and not survey.layout.endswith("original"):
        rows = seen[(width != wanted[0]) | (height != wanted[1])]
        if not len(rows):
            return []
        found = ", ".join(sorted({f"{records['width'][row]}x{records['height'][row]}" for row in rows.tolist()})[:4])
        severity, what = (
            ("error", "load refuses them")
            if survey.set_name == "fer2013"
            else ("warning", "this copy was scaled or cut anew, so numbers cannot be compared")
        )
        sentence = (
            f"Expected {wanted[0]}x{wanted[1]} pixels, found {len(rows):,} pictures of another size "
            f"({found}); {what}. Use the original files."
        )
        return [
            Finding(severity=severity, code="size", sentence=sentence, count=len(rows), examples=_places(survey, rows))
        ]
    findings = []
    tiny = seen[np.minimum(width, height) < _TINY]
    if len(tiny):
        sentence = (
            f"Expected pictures of {_TINY} pixels a side at least, found {len(tiny):,} smaller; little can "
            "be seen on them. Look at some."
        )
        findings.append(
            Finding(severity="warning", code="tiny", sentence=sentence, count=len(tiny), examples=_places(survey, tiny))
        )
    if survey.listing is not None and survey.listing.boxes is None:
        long = seen[np.maximum(width, height) > 1.5 * np.minimum(width, height)]
        if len(long):
            sentence = (
                f"Expected faces cut about square, found {len(long):,} pictures more than half as long again "
                "as wide; load squeezes them. Cut the faces out: crop=\"face\" of load, or python -m ferkit crop."
            )
            findings.append(
                Finding(
                    severity="warning",
                    code="not_square",
                    sentence=sentence,
                    count=len(long),
                    examples=_places(survey, long),
                )
            )
    return findings
