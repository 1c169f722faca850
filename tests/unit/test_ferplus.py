from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ferkit import labels
from ferkit.data import load, load_ferplus
from ferkit.data.ferplus import MODES, clean_votes, read_votes, vote_targets

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
# ten votes, and the label of each rule by hand ("" for none); columns as in HEADER
CASES = [
    # clear winner; the single vote goes
    ((9, 1, 0, 0, 0, 0, 0, 0, 0, 0), "neutral", {"neutral": 1.0}, ("neutral",)),
    # 6 of 8 after cleaning; 75 % reached with one column
    ((6, 1, 1, 0, 0, 0, 0, 0, 2, 0), "neutral", {"neutral": 1.0}, ("neutral",)),
    # exactly half is no majority; both of equal columns are collected
    ((5, 5, 0, 0, 0, 0, 0, 0, 0, 0), "", {"neutral": 0.5, "happiness": 0.5}, ("neutral", "happiness")),
    # 4 of 9 is no majority; 4, 3 reach 7 of 9 = 78 %
    ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), "", {"neutral": 4 / 7, "anger": 3 / 7}, ("neutral", "anger")),
    # 5 of 9 is a majority only because the single vote was removed
    ((0, 5, 4, 0, 0, 0, 0, 0, 0, 1), "happiness", {"happiness": 5 / 9, "surprise": 4 / 9}, ("happiness", "surprise")),
    # unknown wins
    ((2, 0, 0, 0, 0, 0, 0, 0, 8, 0), "", {}, ()),
    # not a face wins
    ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), "", {}, ()),
    # unknown is second: collecting stops there with 6 of 10
    ((6, 0, 0, 0, 0, 0, 0, 0, 4, 0), "neutral", {"neutral": 1.0}, ("neutral",)),
    # emotion and unknown are equal: 5 of 10 collected is not more than half, but 30 % rule counts both columns
    ((5, 0, 0, 0, 0, 0, 0, 0, 5, 0), "", {}, ("neutral",)),
    # four equal columns of two, and one of two unknown: more than three
    ((2, 2, 2, 2, 0, 0, 0, 0, 2, 0), "", {}, ()),
    # three equal ones
    ((3, 3, 3, 0, 0, 0, 0, 0, 1, 0), "", {"neutral": 1 / 3, "happiness": 1 / 3, "surprise": 1 / 3},
     ("neutral", "happiness", "surprise")),
    # ties bring in a fourth after 4 of 10: 4 + 2 + 2 + 2
    ((4, 2, 2, 2, 0, 0, 0, 0, 0, 0), "", {}, ()),
    # unknown has 3 of 9 and the top emotion 4: multi_target drops unknown, keeps the emotion
    ((4, 1, 0, 2, 0, 0, 0, 0, 3, 0), "", {}, ("neutral",)),
    # ten single votes: nothing is left
    ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), "", {}, ()),
]  # fmt: skip
EMOTIONS = labels.order("ferplus")


def label_of(code: int) -> str:
    return EMOTIONS[code] if code >= 0 else ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[0])))
def test_rules_by_hand(case: tuple) -> None:
    votes, majority, probability, multi = case
    counts = np.array([votes])
    targets, codes = vote_targets(counts, "majority")
    assert label_of(codes[0]) == majority
    assert targets[0].tolist() == [float(name == majority) for name in EMOTIONS]
    targets, codes = vote_targets(counts, "probability")
    assert targets[0] == pytest.approx([probability.get(name, 0.0) for name in EMOTIONS])
    assert label_of(codes[0]) == (max(probability, key=probability.get) if probability else "")
    targets, codes = vote_targets(counts, "multi_target")
    assert targets[0] == pytest.approx([(name in multi) / max(len(multi), 1) for name in EMOTIONS])
    assert label_of(codes[0]) == (multi[0] if multi else "")


def by_the_book(votes: list[float], mode: str) -> tuple[list[float], int]:
    """The rules for one image as the published description tells them, column by column."""
    v = [float(count) if count > 1 else 0.0 for count in votes]
    total, order = sum(v), sorted(range(10), key=lambda k: -v[k])
    if mode == "majority":
        taken = {order[0]} if v[order[0]] > total / 2 else set()
    elif mode == "multi_target":
        taken = {k for k in range(10) if v[k] >= 0.3 * total and v[k] > 0}
    else:
        taken, levels = set(), sorted({count for count in v if count > 0}, reverse=True)
        for level in levels:
            if sum(v[k] for k in taken) >= 0.75 * total or len(taken) >= 3:
                break
            tied = {k for k in range(10) if v[k] == level}
            others = {k for k in tied if k >= 8}
            taken |= (tied - others) or (others if not taken else set())
            if others:
                break
        if len(taken) > 3:
            taken = set()
    if sum(v[k] for k in taken) <= total / 2 or min(taken, key=lambda k: (-v[k], k)) >= 8:
        return [0.0] * 8, -1
    kept = [((1.0 if mode == "multi_target" else v[k]) if k in taken else 0.0) for k in range(8)]
    return [weight / sum(kept) for weight in kept], min(taken, key=lambda k: (-v[k], k))


@pytest.mark.parametrize("mode", MODES)
def test_rules_agree_with_the_slow_ones_on_random_votes(mode: str) -> None:
    rng = np.random.default_rng(5)
    sharp = [rng.dirichlet(np.full(10, spread), 1000) for spread in (0.1, 0.3, 1.0)]
    counts = np.concatenate([[rng.multinomial(10, row) for row in rows] for rows in sharp])
    targets, codes = vote_targets(counts, mode)
    slow = [by_the_book(row, mode) for row in counts.tolist()]
    assert codes.tolist() == [code for _, code in slow]
    assert np.allclose(targets, [target for target, _ in slow], atol=1e-12)
    assert 300 < (codes < 0).sum() < 2700
    assert np.allclose(targets.sum(1), codes >= 0)


def test_cleaning_and_bad_calls() -> None:
    counts = np.array([[1, 2, 0, 1, 0, 0, 0, 0, 1, 5]])
    assert clean_votes(counts).tolist() == [[0, 2, 0, 0, 0, 0, 0, 0, 0, 5]]
    assert counts[0, 0] == 1  # the input stays as it was
    with pytest.raises(ValueError, match="'vote'. Known: majority, probability, multi_target"):
        vote_targets(counts, "vote")
    with pytest.raises(ValueError, match=r"\(N, 10\), found \(1, 8\)"):
        vote_targets(counts[:, :8], "majority")


# ---- joining with FER2013 ----

N = 40
USAGE = ["Training"] * 30 + ["PublicTest"] * 6 + ["PrivateTest"] * 4
#: training votes by row: 5/5 neutral-happiness (no majority), sadness, unknown, and so on in turn
VOTES = ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 8, 1, 0, 1, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0, 8, 0])


def faces_csv(path: Path, n: int = N, usage: list[str] = USAGE) -> Path:
    rows = [f"{row % 7},{' '.join([str(row % 256)] * 2304)},{usage[row]}" for row in range(n)]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows, ""]))
    return path


def votes_csv(path: Path, n: int = N, usage: list[str] = USAGE, header: str = HEADER) -> Path:
    rows = [f"{usage[row]},fer{row:07}.png," + ",".join(map(str, VOTES[row % 3])) for row in range(n)]
    path.write_text("\n".join([header, *rows, ""]))
    return path


@pytest.fixture()
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    votes_csv(tmp_path / "fer2013new.csv")
    return faces_csv(tmp_path / "fer2013.csv")


def test_votes_are_joined_by_row_and_images_without_label_left_out(pair: Path) -> None:
    faces = load_ferplus(pair)
    kept = [row for row in range(N) if row % 3 == 1]
    assert faces.images[:, 0, 0].tolist() == kept
    assert faces.names == EMOTIONS and faces.name == "ferplus"
    assert set(faces.labels.tolist()) == {EMOTIONS.index("sadness")}
    assert faces.split.tolist() == [
        {"T": "train", "u": "public_test", "r": "private_test"}[USAGE[row][0 if row < 30 else 1]] for row in kept
    ]  # noqa: E501
    assert faces.votes[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert "fer2013.csv" in faces.source and "majority" in faces.source


@pytest.mark.parametrize("mode", ["probability", "multi_target"])
def test_modes_choose_training_images_only(pair: Path, mode: str) -> None:
    faces, majority = load_ferplus(pair, mode=mode), load_ferplus(pair)
    assert faces.select("train").images[:, 0, 0].tolist() == [row for row in range(30) if row % 3 != 2]
    assert faces.votes[0].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0] and faces.labels[0] == 0
    assert faces.select("public_test").images[:, 0, 0].tolist() == [31, 34]
    assert np.array_equal(faces.select("public_test").votes, majority.select("public_test").votes)
    assert np.allclose(faces.votes.sum(1), 1)


def test_a_partial_copy_takes_the_first_rows(pair: Path, tmp_path: Path) -> None:
    short = faces_csv(tmp_path / "short.csv", n=36)
    faces = load("ferplus", short, votes_path=tmp_path / "fer2013new.csv")
    assert faces.splits() == {"train": 10, "public_test": 2}
    with pytest.raises(ValueError, match="votes for all 40 images, found 36 rows"):
        load_ferplus(pair, votes_csv(tmp_path / "votes.csv", n=36))


def test_usage_must_agree_row_by_row(pair: Path, tmp_path: Path) -> None:
    moved = [*USAGE[:3], "PublicTest", *USAGE[4:31], "PrivateTest", *USAGE[32:]]
    with pytest.raises(ValueError, match=r"data row 4 is public_test there and train in FER2013 \(2 rows differ\)"):
        load_ferplus(pair, votes_csv(tmp_path / "votes.csv", usage=moved))


def test_rows_in_another_order_inside_a_split_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    n = 600
    to_ferplus = labels.index_map("fer2013", "ferplus")
    columns = [to_ferplus[row % 7] for row in range(n)]

    def votes(order: list[int], name: str) -> Path:
        rows = ["Training,x.png," + ",".join("9" if k == columns[row] else "0" for k in range(10)) for row in order]
        path = tmp_path / name
        path.write_text("\n".join([HEADER, *rows, ""]))
        return path

    faces = faces_csv(tmp_path / "fer2013.csv", n, ["Training"] * n)
    assert len(load_ferplus(faces, votes(list(range(n)), "right.csv"))) == n
    shuffled = np.random.default_rng(0).permutation(n).tolist()
    with pytest.raises(ValueError, match="agree with FER2013's labels, found 1[0-9]% from about data row 1 on"):
        load_ferplus(faces, votes(shuffled, "wrong.csv"))
    # a row is lost and another one twice: most of the file is right, and what lies between is not
    for first, last in ((200, 320), (480, 599), (0, 100)):
        moved = [*range(first), *range(first + 1, last + 1), last, *range(last + 1, n)]
        assert len(moved) == n
        with pytest.raises(
            ValueError, match=r"found [0-9]% from about data row (\d+) on: .* are shifted there"
        ) as caught:
            load_ferplus(faces, votes(moved, "moved.csv"))
        assert abs(int(re.search(r"row (\d+) on", str(caught.value))[1]) - first) <= 30
    few = [*range(300), *range(301, 311), 310, *range(311, n)]
    assert len(load_ferplus(faces, votes(few, "few.csv"))) == n  # ten rows are within what raters disagree on


def test_layouts_without_row_order_and_missing_files(pair: Path, tmp_path: Path) -> None:
    (tmp_path / "folders" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="joined by row order, found a folder"):
        load_ferplus(tmp_path / "folders", tmp_path / "fer2013new.csv")
    (tmp_path / "fer2013new.csv").unlink()
    with pytest.raises(FileNotFoundError, match="FER\\+ votes"):
        load_ferplus(pair)
    with pytest.raises(ValueError, match="'best'. Known: majority"):
        load_ferplus(pair, mode="best")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Test,a.png,9,1,0,0,0,0,0,0,0,0", "expected Usage among .* found 'Test'"),
        ("Training,a.png,9,1,0,0,0,0,0,0,0", "expected 12 columns, found 11"),
        ("Training,a.png,9,1,0,0,0,0,0,0,0,x", "vote counts from 0 to 10, found 'x'"),
        ("Training,a.png,9,-1,0,0,0,0,0,0,0,0", "found '-1'"),
        ("Training,a.png,11,0,0,0,0,0,0,0,0,0", "found '11'"),
        ("Training,a.png,²,0,0,0,0,0,0,0,0,0", "found '²'"),
    ],
)
def test_bad_rows_of_votes_are_named(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("\n".join([HEADER, "Training,b.png,9,1,0,0,0,0,0,0,0,0", line]), encoding="utf-8")
    with pytest.raises(ValueError, match=f"votes.csv, data row 2: .*{sentence}"):
        read_votes(path)


def test_vote_files_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no nf"):
        read_votes(votes_csv(tmp_path / "votes.csv", header=HEADER.replace("NF", "other")))
    with pytest.raises(ValueError, match="header and nothing"):
        read_votes(votes_csv(tmp_path / "votes.csv", n=0))
    votes = read_votes(votes_csv(tmp_path / "votes.csv"))
    assert votes.counts.shape == (N, 10) and votes.counts[1].tolist() == VOTES[1]
    assert votes.image[3] == "fer0000003.png" and votes.usage[-1] == "private_test"
