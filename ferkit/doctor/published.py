"""How many images per class each data set has by its authors, for the splits at hand."""

from __future__ import annotations

from ferkit import labels
from ferkit.data import affectnet, expw, fer2013, rafdb

#: Data sets with published counts, and the label order that these are in.
ORDERS = {"fer2013": "fer2013", "rafdb": "rafdb", "affectnet": "affectnet8", "expw": "expw"}


def official_tables(set_name: str, splits: set[str]) -> dict[str, dict[str, int]]:
    """Return the published images per split and class of a set, as far as it has these splits; {} where there are none.
    """
    tables: dict[str, tuple[int, ...]] = {}
    if set_name == "fer2013":
        train, public, private = (fer2013.OFFICIAL_COUNTS[split] for split in ("train", "public_test", "private_test"))
        tables = {"train": train, "public_test": public, "private_test": private}
        if {"test", "validation"} <= splits:  # class folders name the contest's test sets otherwise, or merge them
            tables = {"train": train, "validation": public, "test": private}
        elif "test" in splits:
            tables = {"train": train, "test": tuple(a + b for a, b in zip(public, private, strict=True))}
    elif set_name == "rafdb":
        tables = dict(rafdb.OFFICIAL_COUNTS)
    elif set_name == "affectnet":
        tables = dict(affectnet.OFFICIAL_COUNTS)
    elif set_name == "expw":
        tables = {"all": expw.OFFICIAL_COUNTS}
    else:
        return {}
    names = labels.order(ORDERS[set_name])
    return {split: dict(zip(names, counts, strict=True)) for split, counts in tables.items()}
