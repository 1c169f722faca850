"""Emotion names, and the label order of every data set and paper in this workbook.

This is the only place in the project where an order is written: everything else asks here. An order is a tuple of
canonical names; the position in it is the label (RAF-DB counts from 1, see `native_code`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

#: Canonical names. The first seven are the seven-class problem; the order is AffectNet's.
EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")

#: Label orders, by data set or paper. Several sets share an order; each keeps its own name so that code says what it
#: means.
ORDERS: dict[str, tuple[str, ...]] = {
    # fer2013.csv, column `emotion`, 0-6
    "fer2013": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    # microsoft/FERPlus, fer2013new.csv: the eight emotion columns
    "ferplus": ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    # RAF-DB basic, list_patition_label.txt, 1-7; folders named 1..7 sort into the same order
    "rafdb": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
    # AffectNet, 0-7 (8 none, 9 uncertain, 10 no face are not emotions); the seven-class set drops contempt
    "affectnet7": EMOTIONS[:7],
    "affectnet8": EMOTIONS,
    # ExpW label file, 0-6: the order of FER2013
    "expw": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    # VEMO (Residual Masking Network's private set and its released weights): the order of FER2013
    "vemo": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    # logits of ResEmoteNet's released code, for every data set
    "resemotenet": ("happiness", "surprise", "sadness", "anger", "disgust", "fear", "neutral"),
    # logits of the Residual Masking Network's released code
    "resmasking": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    # LFNSB's released code: RAF-DB folders 1..7 sorted by name, and AffectNet
    "lfnsb_rafdb": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
    "lfnsb_affectnet": EMOTIONS,
    # ESR and its diversified version: AffectNet's order, also for FER+ (columns 2/3 and 4/6 swapped)
    "esr": EMOTIONS,
    # MA-Net's and DDAMFN's RAF-DB folders 0-6, which are not RAF-DB's own order
    "manet": EMOTIONS[:7],
    "ddamfn": EMOTIONS[:7],
    # rows and columns of the papers' tables: alphabetical
    "papers": ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
}

#: The ten vote columns of FER+ as fer2013new.csv heads them: eight emotions, unknown, not a face ("NF").
FERPLUS_COLUMNS = (*ORDERS["ferplus"], "unknown", "NF")

#: Sets whose first label is not 0.
FIRST_CODE = {"rafdb": 1}

#: Words found in folder names, files and tables, by canonical name.
ALIASES: dict[str, tuple[str, ...]] = {
    "neutral": ("neutrality",),
    "happiness": ("happy", "joy"),
    "sadness": ("sad",),
    "surprise": ("surprised",),
    "fear": ("fearful", "afraid", "scared"),
    "disgust": ("disgusted",),
    "anger": ("angry",),
    "contempt": ("contemptuous",),
}

_CANONICAL = {word: name for name, words in ALIASES.items() for word in (name, *words)}


def canonical(name: str) -> str:
    """Return the canonical name of an emotion word, ignoring case,
    outer spaces and a number in front ("0_Angry" -> "anger").

    Raises ValueError, listing the known words, for any other word.
    """
    word = re.sub(r"^\d+[\s._-]+", "", name.strip().lower())
    if word not in _CANONICAL:
        raise ValueError(
            f"Expected an emotion name, found {name!r}. Known: "
            + ", ".join(f"{key} ({'/'.join(words)})" for key, words in ALIASES.items())
            + "."
        )
    return _CANONICAL[word]


def is_emotion(word: str) -> bool:
    """Return whether `canonical` knows the word."""
    try:
        canonical(word)
    except ValueError:
        return False
    return True


def class_name(word: str) -> str:
    """Return the canonical name of an emotion word, and any other name of a class as it is, without outer spaces."""
    return canonical(word) if is_emotion(word) else word.strip()


def near_miss(word: str) -> str | None:
    """Return the emotion word that another word is probably a misspelling of ("suprise", "faer"), else None."""
    plain = word.strip().lower()
    if is_emotion(plain):
        return None
    near = difflib.get_close_matches(plain, _CANONICAL, n=1, cutoff=0.85) or [
        word for word in _CANONICAL if sorted(word) == sorted(plain)
    ]
    # "unhappy" is another word than "happy", not a misspelt one
    return near[0] if near and not plain.endswith(near[0]) else None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names, each once, emotions first, in the order of `EMOTIONS`, then the others by the alphabet."""
    found = set(names)
    return (
        *(name for name in EMOTIONS if name in found),
        *sorted(found - set(EMOTIONS), key=lambda name: (name.casefold(), name)),
    )


def order(key: str) -> tuple[str, ...]:
    """Return the canonical names of a data set or paper in label order. Raises ValueError listing the known keys."""
    if key not in ORDERS:
        raise ValueError(f"Expected the name of a label order, found {key!r}. Known: {', '.join(ORDERS)}.")
    return ORDERS[key]


def names_of(source: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of a label order, which is a key of `ORDERS` or a sequence of names.

    Raises ValueError for one named twice.
    """
    if isinstance(source, str):
        return order(source)
    names = tuple(class_name(name) for name in source)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Expected each class once in a label order, found {', '.join(twice)} more than once.")
    return names


def index_map(source: str | Sequence[str], target: str | Sequence[str]) -> tuple[int, ...]:
    """Return, for each position in `source`, the position in `target`; -1 where `target` lacks the class.

    Both are a key of `ORDERS` or a sequence of names, of emotions or of classes of one's own. Positions count from 0 on
    both sides, for RAF-DB too. With labels in a numpy array: ``np.asarray(index_map("fer2013",
    "resemotenet"))[labels]``.
    """
    goal = names_of(target)
    return tuple(goal.index(name) if name in goal else -1 for name in names_of(source))


def shared(*sources: str | Sequence[str]) -> tuple[str, ...]:
    """Return the classes that all of the orders have, see `in_order`.

    Each is a key of `ORDERS` or a sequence of names. Raises ValueError where they have fewer than two in common.
    """
    sets = [set(names_of(source)) for source in sources]
    common = in_order(set.intersection(*sets) if sets else ())
    if len(common) < 2:
        raise ValueError(
            f"Expected two classes or more in common, found {', '.join(common) or 'none'}; these data "
            "cannot be compared."
        )
    return common


def native_code(key: str, name: str) -> int:
    """Return the number that data set `key` writes for an emotion (RAF-DB 1-7, the others from 0)."""
    names, wanted = order(key), canonical(name)
    if wanted not in names:
        raise ValueError(f"Expected an emotion of {key}, found {wanted!r}. {key} has: {', '.join(names)}.")
    return names.index(wanted) + FIRST_CODE.get(key, 0)


def from_native(key: str, code: int) -> str:
    """Return the canonical name behind the number that data set `key` writes. Raises ValueError out of range."""
    names, first = order(key), FIRST_CODE.get(key, 0)
    if not first <= code < first + len(names):
        table = ", ".join(f"{first + i} {name}" for i, name in enumerate(names))
        raise ValueError(
            f"Expected a label of {key} from {first} to {first + len(names) - 1}, found {code}. Known: {table}."
        )
    return names[code - first]
