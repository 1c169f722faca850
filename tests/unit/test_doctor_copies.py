"""The search for near copies against all pairs, and the doctor on the real FER2013."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ferkit.doctor import copies, examine, scan


def records(thumbs):
    """Records of pictures that are all different files."""
    made = np.zeros(len(thumbs), scan.RECORD)
    made["thumb"], made["digest"], made["width"], made["height"] = thumbs, np.arange(len(thumbs)), 48, 48
    return made


def all_pairs(thumbs, near=copies.NEAR):
    """Pairs found by comparing every picture with every other, plain and mirrored: (first, second, mirrored)."""
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    mirror = flat.reshape(-1, 16, 16)[:, :, ::-1].reshape(len(flat), -1)
    return {
        (a, b, m)
        for m, other in ((False, flat), (True, mirror))
        for a, b in np.argwhere(flat @ other.T >= near).tolist()
        if a < b
    }


@pytest.fixture(scope="module")
def crowd():
    """1,500 faces that have much in common, and changed copies of 200 of them, a quarter of those mirrored."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    mean = 120 + 70 * np.exp(-2 * (x**2 + y**2))
    smooth = np.exp(-0.5 * (np.fft.fftfreq(16) * 16 / 2.5) ** 2)
    noise = rng.normal(0, 1, (1500, 16, 16))
    faces = mean + 28 * np.fft.ifft2(np.fft.fft2(noise) * smooth[:, None] * smooth).real / 0.28
    changed = (
        faces[:200] * rng.uniform(0.7, 1.2, (200, 1, 1))
        + rng.uniform(-20, 20, (200, 1, 1))
        + rng.normal(0, 3, (200, 16, 16))
    )
    changed[:50] = changed[:50, :, ::-1]
    return np.concatenate([faces, changed]).clip(0, 255).astype(np.uint8)


def test_the_search_finds_what_comparing_all_pairs_finds(crowd):
    found = copies.near_copies(records(crowd))
    pairs = {(a, b, bool(m)) for (a, b), m in zip(found.pairs.tolist(), found.mirrored.tolist(), strict=True)}
    truth = all_pairs(crowd)
    assert pairs <= truth and len(pairs) >= 0.98 * len(truth)
    planted = {(i, 1500 + i, i < 50) for i in range(200)}
    assert len(planted & pairs) >= 190 and len(pairs - planted) <= 5
    assert (
        (found.alike >= copies.NEAR).all()
        and found.alike.max() <= 1.001
        and (found.pairs[:, 0] < found.pairs[:, 1]).all()
    )


def test_other_faces_are_no_near_copies(crowd):
    assert not len(copies.near_copies(records(crowd[:1500])).pairs)


def test_blank_and_damaged_pictures_and_exact_copies_are_left_out(crowd):
    made = records(crowd[[0, 0, 0, 0, 5]])
    assert copies.near_copies(made).pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    made["flags"][1], made["flags"][2], made["digest"][3] = (
        scan.FLAGS["blank"],
        scan.FLAGS["unreadable"],
        made["digest"][0],
    )
    assert copies.near_copies(made).pairs.tolist() == []
    for few in ([], [0], [0, 5]):
        assert len(copies.near_copies(records(crowd[few])).pairs) == 0


def test_equal_pictures_share_a_group_and_damaged_ones_do_not(crowd):
    made = records(crowd[:6])
    made["digest"] = [7, 8, 7, 0, 0, 8]
    made["flags"][3:5] = scan.FLAGS["missing"]
    group = copies.groups(made)
    assert group[0] == group[2] and group[1] == group[5] and len(set(group.tolist())) == 4


def test_many_equal_looking_pictures_do_not_explode():
    thumbs = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), 5000, axis=0)
    found = copies.near_copies(records(thumbs))
    assert 5000 < len(found.pairs) < 200_000  # 12 million pairs are alike; each picture has some of them


# --------------------------------------------------------------------------------------------------------- real FER2013


@pytest.fixture(scope="module")
def real(fer2013_path):
    return examine(fer2013_path, progress=False)


@pytest.mark.real_data
def test_known_faults_of_the_real_fer2013(real):
    complete = "private_test" in real.counts
    assert real.set_name == "fer2013" and real.exit_status == 1
    assert sum(real.counts["train"].values()) == 28_709 and sum(real.counts["public_test"].values()) == 3_589
    assert all(real.counts[split] == real.official[split] for split in real.counts)
    assert (
        not real.find("class_counts")
        and not real.find("label_order")
        and not [f for f in real.findings if f.severity == "error"]
    )
    assert [f.numbers["split"] for f in real.find("missing_split")] == ([] if complete else ["private_test"])
    inside = {f.numbers["split"]: f.numbers["extra"] for f in real.find("copies_inside")}
    across = {(f.numbers["split"], f.numbers["also_in"]): f.numbers["rows"] for f in real.find("copies_across")}
    assert inside["train"] == 1236 and inside["public_test"] == 26
    assert across["public_test", "train"] == 280
    if complete:
        assert across["private_test", "train"] == 288
    assert real.find("conflicting_labels")[0].numbers["groups"] == (57 if complete else 47)
    assert real.find("blank")[0].count == 12
    (near,) = (f for f in real.find("near_copies_across") if f.numbers["split"] == "public_test")
    assert 110 < near.numbers["rows"] < 160  # all pairs compared: 135 or so


@pytest.mark.real_data
def test_votes_of_the_real_fer2013(real, fer2013_path):
    folder = fer2013_path if fer2013_path.is_dir() else fer2013_path.parent
    if not (folder / "fer2013new.csv").is_file():
        pytest.skip("needs the FER+ votes, fer2013new.csv, beside FER2013 (data/README.md says how to get them)")
    (votes,) = real.find("votes")
    assert votes.severity == "note" and 0.67 < votes.numbers["agreement"] < 0.69
    assert votes.numbers["with_majority"] >= 25_060 + 3_199


RUN = """
import pathlib, sys
from typer.testing import CliRunner
from ferkit.__main__ import app
done = CliRunner().invoke(app, ["doctor", sys.argv[1], "--json", sys.argv[2]])
status = pathlib.Path("/proc/self/status")
print(done.exit_code, int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024 if status.exists() else 0)
"""


@pytest.mark.real_data
@pytest.mark.usefixtures("real")
def test_memory_and_output_of_the_command(fer2013_path, tmp_path: Path):
    out = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(fer2013_path), str(out)], stdout=subprocess.PIPE, text=True, check=True
    )
    status, peak = map(int, done.stdout.split())
    assert status == 1 and peak < 700
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["set_name"] == "fer2013" and kept["clean"] is False and len(kept["findings"]) >= 6
