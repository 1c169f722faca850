"""Which data set lies at a path, and what its lists say, read to the end even where rows are wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from ferkit import labels
from ferkit.data import affectnet_lists, expw, fer2013, ferplus, folder, rafdb
from ferkit.data.io import cache, folders, lists
from ferkit.data.io.archives import csv_rows, is_packed
from ferkit.data.io.pictures import Listing
from ferkit.doctor.published import ORDERS, official_tables
from ferkit.doctor.report import Finding, some

#: Data sets that can be named; FER+ is FER2013 with its votes, which are looked for beside it.
SETS = ("fer2013", "rafdb", "affectnet", "expw", "folder")
_ALIASES = {"ferplus": "fer2013", "affectnet7": "affectnet", "affectnet8": "affectnet"}
#: Most of one kind of wrong rows that are spelt out.
_SHOWN = 3


class NotRecognised(Exception):
    """Nothing at the path looks like a data set; the message says what was looked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What a data set says of itself, before any picture is opened.

    Attributes:
        set_name: one of `SETS`.
        layout: in words.
        names: canonical names in label order; where classes are numbers of unknown meaning, the numbers.
        labels: (N,) int64, positions in `names`.
        split: (N,) strings; "all" where the set has no official split.
        place: row -> where it was named.
        listing: the pictures' files, or None where `images` holds the pictures.
        images: (N, H, W) grey uint8, or None.
        findings: what the lists show already.
        key: what the kept records are named after.
        state: what they must agree with, besides the files.
        votes: FER+'s votes, where their file lies beside FER2013's csv and every row of it could be read.
        ordered: whether the meaning of the labels is told, by words or by the data set's definition.
    """

    set_name: str
    layout: str
    names: tuple[str, ...]
    labels: np.ndarray
    split: np.ndarray
    place: Callable[[int], str]
    listing: Listing | None = None
    images: np.ndarray | None = None
    findings: list[Finding] = field(default_factory=list)
    key: str = ""
    state: str = ""
    votes: Path | None = None
    ordered: bool = True

    def counts(self) -> dict[str, dict[str, int]]:
        """Return split -> class -> images."""
        found = {}
        for split in sorted(set(self.split.tolist()), key=lambda name: (name != "train", name)):
            numbers = np.bincount(self.labels[self.split == split], minlength=len(self.names))
            found[split] = dict(zip(self.names, numbers.tolist(), strict=True))
        return found


def survey(path: str | os.PathLike[str], *, set_name: str | None = None, order: str | None = None) -> Survey:
    """Recognise a data set and read its lists.

    Args:
        path: file or folder.
        set_name: what it is said to be, a name of `ferkit.data.list_datasets()`; default: what it looks like.
        order: which class each number is, a key of `ferkit.labels.ORDERS`, for class folders or a csv with numbers.

    Raises:
        NotRecognised: where there is nothing, or nothing known.
        ValueError: for an unknown `set_name` or `order`.
    """
    wanted = _ALIASES.get(set_name or "", set_name)
    if wanted is not None and wanted not in SETS:
        raise ValueError(f"Expected a data set among {', '.join((*SETS, *_ALIASES))}, found {set_name!r}.")
    if order is not None:
        labels.order(order)
    root = Path(path).expanduser()
    if not root.exists():
        raise NotRecognised(f"Expected a data set at {root}, found nothing there. Check the path.")
    try:
        return _recognise(root.resolve(), wanted, order)
    except (ValueError, OSError) as error:
        raise NotRecognised(str(error)) from None


def _recognise(root: Path, wanted: str | None, order: str | None) -> Survey:
    if root.is_file():
        if (
            root.name in (fer2013.CSV_NAMES)
            or is_packed(root)
            or root.suffix == ".parquet"
            or "pixels" in _header(root)
        ):
            return _fer2013(root)
        if root.name in ("training.csv", "validation.csv"):
            return _affectnet(root.parent)
        if root.name.startswith("list_part") or root.name.startswith("list_patition") or root.suffix == ".lst":
            return _recognise(
                root.parent.parent if root.parent.name in ("EmoLabel", "label") else root.parent, wanted, order
            )
        return _own(root, order, wanted)
    if wanted in (None, "rafdb") and (listed := lists.first_file(root, rafdb.LIST_NAMES)):
        return _rafdb(listed)
    if wanted in (None, "affectnet") and (
        lists.first_file(root, [f"{place}training.csv" for place in affectnet_lists.LIST_FOLDERS])
        or lists.first_folder(root, ("train_set", "val_set"))
    ):
        return _affectnet(root)
    if wanted in (None, "expw") and (listed := lists.first_file(root, expw.LIST_NAMES)):
        return _expw(listed)
    if wanted in (None, "fer2013"):
        place = next(
            (
                inner / name
                for inner in (root, root / "fer2013")
                for name in fer2013.CSV_NAMES
                if (inner / name).is_file()
            ),
            None,
        )
        if place is not None or folders.find_parquet(root):
            return _fer2013(place or root)
    try:
        return _own(root, order, wanted)
    except FileNotFoundError:
        pass
    known = (
        "RAF-DB (EmoLabel/), AffectNet (training.csv or train_set/), ExpW (label.lst), FER2013 (fer2013.csv), "
        "class folders or a csv with path and label"
    )
    raise NotRecognised(
        f"Expected a data set in {root}: {known}; found none of them. data/README.md shows the layouts."
    )


def _header(path: Path) -> str:
    try:
        with csv_rows(path, ()) as rows:
            return " ".join(next(rows, [])).lower()
    except (ValueError, OSError):
        return ""


def faulty(faults: list[str], code: str, what: str) -> list[Finding]:
    """Return one finding for rows that cannot be used, none without any."""
    if not faults:
        return []
    more = f" {len(faults):,} {what} are wrong and were left out below." if len(faults) > 1 else ""
    return [
        Finding(
            severity="error",
            code=code,
            sentence=faults[0] + more,
            count=len(faults),
            examples=some(faults[1:], _SHOWN - 1),
        )
    ]


# -------------------------------------------------------------------------------------------------------------- FER2013


def _fer2013(source: Path) -> Survey:
    findings: list[Finding] = []
    votes = source.parent / ferplus.VOTES_NAME
    place: Callable[[int], str] = "data row {}".format
    numbers: np.ndarray | None = None
    try:
        faces = fer2013.load_fer2013(source)
        images, codes, split, digest, layout = faces.images, faces.labels, faces.split, faces.sha256, faces.source
    except ValueError as error:
        if source.is_dir() or source.suffix == ".parquet":
            raise
        faults: dict[int, str] = {}
        try:
            arrays = fer2013.read_csv(source, faults)
        except ValueError:
            raise ValueError(str(error)) from None
        if not len(arrays.labels):
            raise ValueError(str(error)) from None
        findings = faulty(list(faults.values()), "rows", "rows")
        wrong = np.array(sorted(faults))
        numbers = np.setdiff1d(np.arange(1, len(arrays.labels) + len(faults) + 1), wrong)
        images, codes, split, layout = arrays.images, arrays.labels, arrays.split, f"{source.name} (csv)"
        digest = cache.source_sha256([source], source)
    return Survey(
        set_name="fer2013", layout=layout, names=labels.order("fer2013"), labels=codes, split=split, images=images,
        findings=findings,
        place=lambda row: place(row + 1 if numbers is None else numbers[row]), key=f"fer2013 {source}", state=digest,
        votes=votes if numbers is None and layout.endswith("(csv)") and votes.is_file() else None,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- RAF-DB, AffectNet, ExpW


def _rafdb(listed: Path) -> Survey:
    base = listed.parent.parent if listed.parent.name == "EmoLabel" else listed.parent
    aligned = (base / "Image" / "aligned").is_dir()
    faults: list[str] = []
    rows = rafdb.read_list(listed, "aligned" if aligned else "original", faults)
    findings = faulty(faults, "rows", f"rows of {listed.name}")
    names = set(rows.files)
    place = base / "Image" / ("aligned" if aligned else "original")
    if place.is_dir():
        extra = sorted(
            name
            for name in os.listdir(place)
            if name.lower().endswith(folders.IMAGES) and f"Image/{place.name}/{name}" not in names
        )
        if extra:
            sentence = (
                f"Expected every picture in Image/{place.name} in {listed.name}, found {len(extra):,} that "
                "are not listed; they are not used."
            )
            findings.append(
                Finding(
                    severity="warning", code="not_listed", sentence=sentence, count=len(extra), examples=some(extra)
                )
            )
    return Survey(
        set_name="rafdb", layout=f"{listed.name}, {'aligned' if aligned else 'original'}", names=labels.order("rafdb"),
        labels=np.array(rows.labels, np.int64), split=np.array(rows.splits, "<U12"), place=rows.places.__getitem__,
        key=f"rafdb {base}",
        listing=Listing(
            root=base, files=rows.files, place=rows.places.__getitem__,
            boxes=None if aligned else _boxes(base, rows, findings),
        ),
        findings=findings,
    )  # fmt: skip


def _boxes(base: Path, rows: rafdb.Listed, findings: list[Finding]) -> np.ndarray:
    """Return the faces' boxes; those that cannot be read are empty, which is found later, too."""
    boxes, faults = np.zeros((len(rows.files), 4)), []
    for row, name in enumerate(rows.names):
        try:
            boxes[row] = rafdb.annotation(base, "boundingbox", "boundingbox", name, 4)
        except (ValueError, OSError) as error:
            faults.append(str(error))
    findings += faulty(faults, "annotations", "annotations")
    return boxes


def _affectnet(root: Path) -> Survey:
    csv = lists.first_file(root, [f"{place}training.csv" for place in affectnet_lists.LIST_FOLDERS])
    read = (
        (lambda faults: affectnet_lists.read_csv_release(root, False, faults))
        if csv
        else (lambda faults: affectnet_lists.read_npy_release(root, faults))
    )
    faults: list[str] | None = None
    try:
        table = read(None)  # this one is kept, so that it is quick the next time
    except (ValueError, FileNotFoundError):
        faults = []
        table = read(faults)
    findings = faulty(faults or [], "rows", "rows" if csv else "annotations")
    split = np.array(table.split, "<U12")
    return Survey(
        set_name="affectnet", layout=table.layout, names=labels.order("affectnet8"),
        labels=table.labels.astype(np.int64), split=split,
        place=table.places.__getitem__, findings=findings, key=f"affectnet {root}",
        listing=Listing(root=table.root, files=table.files, place=table.places.__getitem__, boxes=table.boxes),
    )  # fmt: skip


def _expw(listed: Path) -> Survey:
    base = listed.parent.parent if listed.parent.name == "label" else listed.parent
    pictures = lists.first_folder(base, expw.PICTURE_FOLDERS) or base / expw.PICTURE_FOLDERS[0]
    faults: list[str] = []
    rows = expw.read_list(listed, faults)
    lines = rows.lines
    place = lambda row: f"{listed.name}, row {lines[row]}"  # noqa: E731
    return Survey(
        set_name="expw", layout=f"{listed.name}, no official split", names=labels.order("expw"), labels=rows.labels,
        split=np.full(len(lines), "all"),
        place=place, listing=Listing(root=pictures, files=rows.files, place=place, boxes=rows.boxes),
        findings=faulty(faults, "rows", f"rows of {listed.name}"), key=f"expw {base}",
    )  # fmt: skip


# ----------------------------------------------------------------------------------- class folders and csv of one's own


def _own(root: Path, order: str | None, wanted: str | None) -> Survey:
    faults: list[str] = []
    base, layout, rows, left_out = folder.find(root, faults)
    by_folder = layout == "class folders"
    findings = faulty(faults, "empty_folder" if by_folder else "rows", layout if by_folder else f"rows of {layout}")
    findings += _left_out(left_out)
    set_name = wanted or _by_counts(rows) or _by_names(rows)
    names, classes, ordered, told = _classes(rows, set_name, order)
    findings += told
    codes = np.array([names.index(classes[label]) for label in rows.labels], np.int64)
    return Survey(
        set_name=set_name, layout=layout, names=names, labels=codes, split=np.array(rows.splits, "<U12"),
        place=rows.places.__getitem__,
        listing=Listing(root=base, files=rows.files, place=rows.places.__getitem__), findings=findings,
        key=f"{layout} {root}", ordered=ordered,
    )  # fmt: skip


def _left_out(left_out: dict[str, list[str]]) -> list[Finding]:
    """Name what lies below the path and is not read."""
    sentences = {
        "loose": (
            "warning",
            (
                "Expected every picture in the folder of its class, or in a row of the csv, found {} that are not; "
                "load leaves them out. Put them there, or away."
            ),
        ),
        "other": ("note", "{} files are no pictures and are not read."),
        "hidden": ("note", "{} hidden files or folders, or such that a system puts there, are not read."),
    }
    return [
        Finding(
            severity=severity,
            code=f"left_out_{kind}",
            sentence=sentence.format(f"{len(left_out[kind]):,}"),
            count=len(left_out[kind]),
            examples=some(left_out[kind]),
        )
        for kind, (severity, sentence) in sentences.items()
        if kind in left_out
    ]


def _by_counts(rows: folder.Listed) -> str | None:
    """Return the set whose published numbers of images per class these are, in whatever order, within 2 % each."""
    found: dict[str, Counter[str]] = {}
    for label, split in zip(rows.labels, rows.splits, strict=True):
        found.setdefault(split, Counter())[label] += 1
    for set_name in ORDERS:
        tables = official_tables(set_name, set(found))
        pairs = [
            (sorted(found[split].values()), sorted(counts.values()))
            for split, counts in tables.items()
            if split in found
        ]
        if pairs and all(
            len(a) in (len(b), len(b) - 1) and all(abs(x - y) <= 0.02 * y for x, y in zip(a, b[-len(a) :], strict=True))
            for a, b in pairs
        ):
            return set_name
    return None


def _by_names(rows: folder.Listed) -> str:
    """Guess from file names which set the pictures of class folders are."""
    sample = [PurePosixPath(file).stem for file in rows.files[:: max(1, len(rows.files) // 50)]]
    if (
        sample
        and sum(
            stem.startswith(("train_", "test_")) and stem.removesuffix("_aligned").rpartition("_")[2].isdigit()
            for stem in sample
        )
        > len(sample) / 2
    ):
        return "rafdb"
    if (
        sample
        and sum(stem.startswith(("Training_", "PublicTest_", "PrivateTest_")) for stem in sample) > len(sample) / 2
    ):
        return "fer2013"
    return "folder"


def _classes(
    rows: folder.Listed, set_name: str, order: str | None
) -> tuple[tuple[str, ...], dict[str, str], bool, list[Finding]]:
    """Return names in label order, the name of each label as it is written, whether the order is told, and findings."""
    written = sorted(set(rows.labels), key=lambda label: (len(label), label))
    numbers = [label for label in written if label.isdigit()]
    if len(numbers) < len(written):
        words = [label for label in written if label not in numbers]
        classes = folder.own_names(words)
        findings = []
        if numbers:
            sentence = (
                f"Expected classes that are all words or all numbers, found {', '.join(numbers[:5])} beside "
                f"{words[0]!r}; name them all by words."
            )
            findings.append(Finding(severity="error", code="mixed_classes", sentence=sentence, count=len(numbers)))
        for word in words:
            if near := labels.near_miss(word):
                sentence = (
                    f"Expected the name of a class, found {word!r}, which looks like {near!r} misspelt; "
                    "rename it, or, if it is meant, list all classes in order= when it is loaded."
                )
                findings.append(
                    Finding(severity="error", code="near_miss", sentence=sentence, count=rows.labels.count(word))
                )
        own = labels.order(ORDERS[set_name]) if set_name in ORDERS else labels.EMOTIONS
        present = set(classes.values())
        names = own if present <= set(own) and set_name in ORDERS else labels.in_order(present)
        return (*names, *numbers), classes | {label: label for label in numbers}, True, findings
    codes = [int(label) for label in numbers]
    key = order or ("rafdb" if set_name == "rafdb" and codes and min(codes) == 1 else None)
    if key is not None:
        try:
            return labels.order(key), folder.numbered(codes, numbers, labels.order(key)), True, []
        except ValueError as error:
            return (
                tuple(numbers),
                {label: label for label in numbers},
                False,
                [Finding(severity="error", code="labels", sentence=str(error))],
            )
    sentence = (
        f"Expected classes named by emotions, found the numbers {', '.join(numbers[:12])}, which do not say which is "
        "which; tell the order (--order KEY here, order=KEY in load), or rename them."
    )
    return (
        tuple(numbers),
        {label: label for label in numbers},
        False,
        [Finding(severity="error", code="order_unknown", sentence=sentence)],
    )
