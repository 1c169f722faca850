"""Small data sets that the doctor has nothing to say about: every picture is another pattern of the colour of skin."""

import io

import numpy as np
from PIL import Image

from tests.support import trees
from tests.unit.small_faces import write_fer2013

SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def pattern(seed, size=(100, 100)):
    """A picture that is like no other: coarse random spots, more red than blue."""
    spots = np.random.default_rng([seed, 5]).normal(0, 45, (7, 7, 1)) + (170, 125, 105)
    return Image.fromarray(spots.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def repaint(root, size=None):
    """Give every picture below a folder a pattern of its own."""
    for seed, file in enumerate(sorted(root.rglob("*.jpg"))):
        with Image.open(file) as image:
            wanted = size or image.size
        pattern(seed, wanted).save(file, quality=92)
    return root


def official(monkeypatch, n, *, test=None):
    """Let the published tables say n images per class, and `test` in the test splits."""
    test = n if test is None else test
    monkeypatch.setattr("ferkit.data.rafdb.OFFICIAL_COUNTS", {"train": (n,) * 7, "test": (test,) * 7})
    monkeypatch.setattr("ferkit.data.affectnet.OFFICIAL_COUNTS", {"train": (n,) * 8, "test": (test,) * 8})
    monkeypatch.setattr("ferkit.data.expw.OFFICIAL_COUNTS", (n,) * 7)
    monkeypatch.setattr(
        "ferkit.data.fer2013.OFFICIAL_COUNTS",
        {"train": (n,) * 7, "public_test": (test,) * 7, "private_test": (test,) * 7},
    )


def folder(root, names=SEVEN, *, n=6, splits=("train", "test")):
    """`<split>/<class>/*.jpg`, or `<class>/*.jpg` for the split ""; n images each, or n[split][name]."""
    for split in splits:
        for name in names:
            for i in range(n if isinstance(n, int) else n[split][name]):
                trees.save(pattern(0, (48, 48)), root / split / name / f"{split}{name}-{i}.jpg")
    return repaint(root)


def table(root, *, n=6, rows=()):
    """`faces.csv` (path, label, split) and the pictures it names."""
    lines = ["path,label,split"]
    for split in ("train", "val"):
        for name in SEVEN:
            for i in range(n):
                trees.save(pattern(0, (48, 48)), root / f"pictures/{split}-{name}-{i}.jpg")
                lines.append(f"pictures/{split}-{name}-{i}.jpg,{name},{split}")
    (root / "faces.csv").write_text("\n".join([*lines, *rows]) + "\n", encoding="utf-8")
    repaint(root)
    return root


def fer2013(root):
    """A csv with 4 images per class in each of the three splits."""
    root.mkdir(parents=True, exist_ok=True)
    file = write_fer2013(root / "fer2013.csv", train=56, test=28)
    by_label = {}
    lines = file.read_text().splitlines()
    for line in lines[1:]:
        by_label.setdefault(line[0], []).append(line.rpartition(",")[0])
    usages = ("Training", "PublicTest", "PrivateTest")
    file.write_text(
        "\n".join(
            [
                lines[0],
                *(f"{row},{usages[i // 4]}" for i in range(12) for row in (by_label[k][i] for k in sorted(by_label))),
            ]
        )
        + "\n"
    )
    return root


LAYOUTS = {
    "fer2013": fer2013,
    "rafdb list": lambda root: repaint(trees.rafdb(root, 4), (100, 100)),
    "rafdb folders": lambda root: repaint(
        trees.rafdb_folders(
            root, {str(i + 1): name for i, name in enumerate(trees.labels.order("rafdb"))}, per_class=4
        ),
        (100, 100),
    ),
    "affectnet csv": lambda root: repaint(trees.affectnet_csv(root, 4)),
    "affectnet npy": lambda root: repaint(trees.affectnet_npy(root, 4)),
    "expw": lambda root: repaint(trees.expw(root, 4)),
    "folder": folder,
    "folder without splits": lambda root: folder(root, splits=("",)),
    "csv": table,
}


def saved(image, kind, **options):
    """Bytes of a picture file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
