"""Small copies of RAF-DB, AffectNet and ExpW in their official layouts, drawn, not photographed:
a face is a flat colour.

Each label has its colour, given by the emotion's name, so that a test sees both a wrong label and swapped channels.
What lies around a face's box is grey. Every function returns the folder that the loader is given.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ferkit import labels

#: Colour of the face for each emotion, RGB.
COLOURS = {
    "neutral": (200, 40, 40), "happiness": (40, 200, 40), "sadness": (40, 40, 200), "surprise": (200, 200, 40),
    "fear": (40, 200, 200), "disgust": (200, 40, 200), "anger": (240, 130, 20), "contempt": (20, 130, 240),
}  # fmt: skip
GREY = (90, 90, 90)
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def face(emotion, size=24):
    """A square picture of one colour."""
    return Image.new("RGB", (size, size), COLOURS[emotion])


def photo(emotion, box, size=(80, 60)):
    """A grey picture with a face in `box` (left, top, right, bottom)."""
    image = Image.new("RGB", size, GREY)
    image.paste(COLOURS[emotion], tuple(box))
    return image


def colours(faceset):
    """Mean colour of each image, (N, 3)."""
    return faceset.images[:, :, 3:-3, 3:-3].astype(np.float64).mean((2, 3))


def right_colours(faceset):
    """Whether every image has the colour of its label."""
    wanted = np.array([COLOURS[faceset.names[label]] for label in faceset.labels])
    return bool(np.abs(colours(faceset) - wanted).max() < 8)


def save(image, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, quality=95)


def points_68(box):
    """68 landmarks in a box: brows and jaw anywhere, eyes, nose and mouth where the five points are read from."""
    left, top, right, bottom = box
    points = np.full((68, 2), [(left + right) / 2, (top + bottom) / 2])
    w, h = right - left, bottom - top
    points[36:42], points[42:48] = (left + 0.3 * w, top + 0.4 * h), (left + 0.7 * w, top + 0.4 * h)
    points[30], points[48], points[54] = (
        (left + 0.5 * w, top + 0.6 * h),
        (left + 0.35 * w, top + 0.8 * h),
        (left + 0.65 * w, top + 0.8 * h),
    )
    return points


# --------------------------------------------------------------------------------------------------------------- RAF-DB


def rafdb(root, per_class=2, *, original=False):
    """`EmoLabel/list_patition_label.txt`, `Image/aligned/`,
    and with `original` also `Image/original/` and `Annotation/`.
    """
    lines, number = [], {"train": 0, "test": 0}
    for split in ("train", "test"):
        for _ in range(per_class):
            for code, emotion in enumerate(labels.order("rafdb"), 1):
                number[split] += 1
                name = f"{split}_{number[split]:05d}"
                lines.append(f"{name}.jpg {code}")
                save(face(emotion), root / f"Image/aligned/{name}_aligned.jpg")
                if original:
                    box = (20, 10, 60, 50)
                    save(photo(emotion, box), root / f"Image/original/{name}.jpg")
                    _write(
                        root / f"Annotation/boundingbox/{name}_boundingbox.txt",
                        " ".join(f"{x:.6f}" for x in box) + "\n",
                    )
                    five = points_68(box)[[36, 42, 30, 48, 54]]
                    _write(
                        root / f"Annotation/manual/{name}_manu_attri.txt",
                        "".join(f"{x:.3f}\t{y:.3f}\n" for x, y in five) + "1\n0\n2\n",
                    )
    _write(root / "EmoLabel/list_patition_label.txt", "\n".join(lines) + "\n")
    return root


def rafdb_list(root):
    return root / "EmoLabel/list_patition_label.txt"


def rafdb_folders(root, names, *, per_class=2, splits=("train", "test")):
    """`<split>/<folder>/*.jpg`; `names` maps a folder to its emotion."""
    for split in splits:
        for folder, emotion in names.items():
            for i in range(per_class if isinstance(per_class, int) else per_class[split][emotion]):
                save(face(emotion, 12), root / split / folder / f"{split}_{folder}_{i:05d}_aligned.jpg")
    return root


# ------------------------------------------------------------------------------------------------------------ AffectNet


def affectnet_csv(root, per_class=2, *, header=("training", "validation"), noise_rows=True):
    """`training.csv`, `validation.csv` and `Manually_Annotated_Images/<folder>/`; labels 8 to 10 are among the rows."""
    for part, offset in (("training", 0), ("validation", 1000)):
        lines, number = [HEADER] if part in header else [], offset
        for i in range(per_class):
            for code, emotion in enumerate(labels.EMOTIONS):
                number += 1
                box = (20 + i, 10, 60 + i, 50)
                file = f"{number % 7}/{number:05d}.jpg"
                save(photo(emotion, box), root / "Manually_Annotated_Images" / file)
                points = ";".join(f"{value:.2f}" for value in points_68(box).ravel())
                lines.append(f"{file},{box[0]},{box[1]},40,40,{points},{code},{code / 10 - 0.35:.3f},{-code / 20:.3f}")
            if noise_rows:
                lines.append(f"9/{number}_none.jpg,NULL,NULL,NULL,NULL,NULL,10,-2,-2")
        _write(root / f"{part}.csv", "\n".join(lines) + "\n")
    return root


def affectnet_npy(root, per_class=2):
    """`train_set/` and `val_set/` with `images/<id>.jpg` and `annotations/<id>_{exp,val,aro,lnd}.npy`, text inside."""
    for part in ("train_set", "val_set"):
        (root / part / "annotations").mkdir(parents=True)
        for number in range(8 * per_class):
            code = number % 8
            key = 5 * number + 3  # numbers have holes, and text order is not their order
            save(face(labels.EMOTIONS[code], 40), root / part / f"images/{key}.jpg")
            values = {"exp": str(code), "val": f"{code / 10 - 0.35:.3f}", "aro": f"{-code / 20:.3f}"}
            for kind, value in values.items():
                np.save(root / part / f"annotations/{key}_{kind}.npy", np.array(value))
            np.save(root / part / f"annotations/{key}_lnd.npy", points_68((4, 4, 36, 36)).ravel())
    return root


# ----------------------------------------------------------------------------------------------------------------- ExpW


def expw(root, per_class=20, *, faces_per_photo=2):
    """`label/label.lst` and `image/origin/`; a photograph holds some faces side by side."""
    cells = [(code, emotion) for _ in range(per_class) for code, emotion in enumerate(labels.order("expw"))]
    lines = []
    for start in range(0, len(cells), faces_per_photo):
        name, group = f"photo_{start:05d}.jpg", cells[start : start + faces_per_photo]
        image = Image.new("RGB", (40 * faces_per_photo, 48), GREY)
        for i, (code, emotion) in enumerate(group):
            box = (40 * i + 5, 9, 40 * i + 35, 39)
            image.paste(COLOURS[emotion], box)
            lines.append(f"{name} {i} {box[1]} {box[0]} {box[2]} {box[3]} {20 + start % 60}.5 {code}")
        save(image, root / "image/origin" / name)
    _write(root / "label/label.lst", "\n".join(lines) + "\n")
    return root


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def edit(file, old, new):
    """Replace a text that occurs once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {file.name}"
    file.write_text(text.replace(old, new), encoding="utf-8")
