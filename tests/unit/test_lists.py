"""List files spoilt at random: the loaders read them or say in one sentence what is wrong,
and never read them silently wrong.
"""

import random

import pytest

from ferkit.data import load
from ferkit.data.io import lists
from tests.support import trees

JUNK = [
    "\0",
    "\ufeff",
    "\r\n",
    " ",
    "\t",
    ",", ";", '"', "-1", "1e9", "nan", "../", "é",
    "\udcff",
    "x" * 300,
    "",
    "\n\n",
]


def spoil(text, rng):
    """Cut off, double, drop, swap or litter a part of a text."""
    lines = text.splitlines(keepends=True)
    row = rng.randrange(len(lines))
    kind = rng.choice(["cut", "drop", "double", "junk", "junk", "swap", "byte"])
    if kind == "cut":
        return text[: rng.randrange(len(text))]
    if kind == "drop":
        del lines[row]
    elif kind == "double":
        lines.insert(row, lines[row])
    elif kind == "swap":
        words = lines[row].split()
        rng.shuffle(words)
        lines[row] = " ".join(words) + "\n"
    else:
        place = rng.randrange(len(lines[row]))
        lines[row] = (
            lines[row][:place]
            + rng.choice(JUNK if kind == "junk" else list("0123456789ab./ "))
            + lines[row][place + (kind == "byte") :]
        )
    return "".join(lines)


@pytest.mark.parametrize("name", ["rafdb", "affectnet8", "expw"])
def test_spoilt_lists_are_read_or_refused_in_one_sentence(tmp_path, monkeypatch, name):
    make, file = {
        "rafdb": (trees.rafdb, "EmoLabel/list_patition_label.txt"),
        "affectnet8": (trees.affectnet_csv, "training.csv"),
        "expw": (lambda root: trees.expw(root, per_class=4), "label/label.lst"),
    }[name]
    tree = make(tmp_path / "tree")
    good = (tree / file).read_text(encoding="utf-8")
    whole = load(name, tree, size=8)
    known = {
        (str(f), int(b)): int(label)
        for f, b, label in zip(
            whole.extras["file"], whole.extras.get("face_id", [0] * len(whole)), whole.labels, strict=True
        )
    }
    rng = random.Random(name)
    read = refused = altered = 0
    for _ in range(60):
        (tree / file).write_text(spoil(good, rng), encoding="utf-8", errors="surrogateescape", newline="")
        try:
            faces = load(name, tree, size=8, missing=rng.choice(["error", "drop"]))
        except (ValueError, FileNotFoundError) as error:
            assert "\n" not in str(error) and 20 < len(str(error)) < 700, error
            refused += 1
            continue
        read += 1
        ids = faces.extras.get("face_id", [0] * len(faces))
        altered += any(
            known.get((str(f), int(b)), label) != label
            for f, b, label in zip(faces.extras["file"], ids, faces.labels, strict=True)
        )
    assert read > 5 and refused > 15 and altered <= 8  # a digit that became another digit cannot be seen in one row


def test_names_and_numbers():
    assert lists.picture_name(" a\\b.jpg ") == "a/b.jpg"
    for bad in ("", " ", "/a", "../a", "a/../../b", "c:a", "a\0b"):
        with pytest.raises(ValueError, match="the name of a picture inside"):
            lists.picture_name(bad)
    assert lists.number(" 2.5e1 ", "x") == 25 and lists.number("1", "x", 0, 1) == 1
    for bad in ("", "nan", "inf", "1,5", "2"):
        with pytest.raises(ValueError, match=r"expected x as a number from 0 to 1, found"):
            lists.number(bad, "x", 0, 1)
    assert lists.whole_number(" 7 ", "x", 1, 7) == 7
    for bad in ("", "8", "0", "-3", "3.0", "٣", "1" * 50, "1_0"):
        with pytest.raises(ValueError, match="expected x from 1 to 7, found"):
            lists.whole_number(bad, "x", 1, 7)


def test_long_lines_are_no_list(tmp_path):
    (tmp_path / "list.txt").write_text("a\n\n b \n" + "c" * (1 << 16))
    lines = lists.read_lines(tmp_path / "list.txt")
    assert [next(lines), next(lines)] == [(1, "a"), (3, "b")]
    with pytest.raises(ValueError, match=r"list\.txt, row 4: expected a line of text, found 'cccc"):
        next(lines)
