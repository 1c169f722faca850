"""Pictures in, answers out: in a notebook and by `python -m ferkit predict`."""

import csv
import html
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import ferkit
from ferkit.__main__ import app
from ferkit.explain.opinions import Network, ask
from ferkit.faces import crop_face, find_faces, portrait
from ferkit.models import create_model, save_weights
from ferkit.synthetic import PROTOTYPES, face_from_action_units
from ferkit.use import pictures, predict_folder, probabilities
from ferkit.use.journal import Journal
from ferkit.use.sheet import MOST
from ferkit.use.sources import pictures_in
from tests.support.uploads import hostile_uploads


def small(seed, labels=None):
    torch.manual_seed(seed)
    return create_model(
        "resemotenet", width=1 / 16, head="linear", num_classes=7 if labels is None else len(labels), labels=labels
    ).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return [str(save_weights(small(seed), folder / f"w{seed}.safetensors", weights=f"w{seed}")) for seed in (0, 1)]


@pytest.fixture
def photos(tmp_path):
    """Five drawn faces in two folders, one that is no picture, and what is to be passed over."""
    root = tmp_path / "photos"
    for i, emotion in enumerate(list(PROTOTYPES)[:5]):
        file = root / ("a" if i < 3 else "b") / f"{emotion}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face_from_action_units(PROTOTYPES[emotion], size=48 + i, seed=i)).save(file)
    (root / "a" / "broken.jpg").write_bytes(b"no picture")
    (root / "a" / ".hidden.png").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    return root


def command(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def table(file):
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# --------------------------------------------------------------------------------------------------- a network by name


def test_a_network_in_one_line_says_what_it_is_worth():
    network = ferkit.load("resemotenet/fer2013-teach")
    assert network.labels[3] == "happiness" and network.model.input_size == 64 and 0 < network.threshold < 0.5
    said = str(network)
    assert said.startswith(
        "resemotenet/fer2013-teach: trained on 25,837 pictures of fer2013; right on 65.2 % of the 3,589 pictures"
    )
    assert "(95 % interval 63.7 to 66.8)" in said


def test_a_file_of_weights_is_a_network_that_nobody_measured(weights):
    network = ferkit.load(weights[0])
    assert network.threshold is None and str(network) == f"{weights[0]}: nobody has measured how often it is right"


def test_an_ensemble_is_the_mean_of_its_members(weights, tmp_path):
    torch.manual_seed(2)
    labels = small(0).labels
    turned = small(2, labels[::-1])
    file = save_weights(turned, tmp_path / "turned.safetensors", weights="turned")
    faces = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    together = ferkit.load(f"{weights[0]}+{file}")
    p, q = (probabilities(ferkit.load(name), faces) for name in (weights[0], file))
    assert together.labels == labels
    assert np.allclose(probabilities(together, faces), (p + q[:, ::-1]) / 2, atol=1e-6)
    assert not np.allclose(p, q[:, ::-1], atol=1e-2)
    assert str(together).count("nobody has measured") == 3


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("nothing", FileNotFoundError, "expected a network and its weights.*resemotenet/fer2013-teach"),
        ("resemotenet/nothing", FileNotFoundError, "no weights 'nothing' for resemotenet"),
        ("resemotenet/fer2013-teach+resemotenet/fer2013-teach", ValueError, "every network once"),
        ("resemotenet/fer2013-teach+esr/ferplus-teach", ValueError, "same classes.*contempt"),
    ],
)
def test_names_that_lead_nowhere(name, kind, sentence):
    with pytest.raises(kind, match=sentence):
        ferkit.load(name)


# ------------------------------------------------------------------------------------------------------------ pictures


def test_sources_in_order(photos, tmp_path):
    inside = [path.name for path in pictures_in([photos])]
    assert inside == sorted(os.listdir(photos / "a"))[1:] + sorted(os.listdir(photos / "b"))  # without .hidden.png
    assert [p.name for p in pictures_in([f"{photos}/b/*.png"])] == sorted(os.listdir(photos / "b"))
    (tmp_path / "list.csv").write_text(f"label,Image\n1,photos/a/x.png\n2,{photos}/b/y.png\n")
    assert list(pictures_in([tmp_path / "list.csv"])) == [tmp_path / "photos/a/x.png", photos / "b/y.png"]
    (tmp_path / "list.txt").write_text("one.png\ntwo.png\n")
    assert [p.name for p in pictures_in([tmp_path / "list.txt"])] == ["one.png", "two.png"]
    for wrong in (f"{photos}/*.gif", f"{photos}/gone"):
        with pytest.raises(FileNotFoundError, match="found no"):
            list(pictures_in([wrong]))
    assert predict_folder(
        [photos / "b", tmp_path / "list.txt"], Network("n", small(0)), crop="none", progress=False
    ).problem.tolist() == ["", "", *["no such file or directory"] * 2]
    (tmp_path / "bad.csv").write_text('path\na.png\n""\n')
    with pytest.raises(ValueError, match=r"bad\.csv, row 3, found none"):
        list(pictures_in([tmp_path / "bad.csv"]))


def test_the_portrait_is_answered_as_in_the_notebook(tmp_path):
    pytest.importorskip("facenet_pytorch")
    photo = portrait()
    Image.fromarray(np.concatenate([photo, photo[:, ::-1]], 1)).save(tmp_path / "two.png")
    Image.fromarray(photo).save(tmp_path / "one.png")
    Image.fromarray(np.full((90, 90, 3), 128, np.uint8)).save(tmp_path / "wall.png")
    found = predict_folder(tmp_path, progress=False)
    assert found.file.map(os.path.basename).tolist() == ["one.png", "two.png", "two.png", "wall.png"]
    assert found.face.tolist()[:3] == [0, 0, 1] and found.problem.tolist() == ["", "", "", "no face found"]
    assert found.answer.tolist() == ["happiness"] * 3 + [""] and found.likely[0] == "happiness"
    face = find_faces(photo)[0]
    expected = ask(ferkit.load("resemotenet/fer2013-teach"), crop_face(photo, face))
    assert found.loc[0, [f"p_{name}" for name in expected.labels]].to_numpy(float) == pytest.approx(
        expected.probabilities, abs=2e-6
    )
    assert found.doubt[0] == pytest.approx(expected.doubt, abs=1e-4)
    assert found.loc[0, ["left", "top", "right", "bottom"]].to_numpy(float) == pytest.approx(face.box, abs=0.06)


def test_a_folder_by_the_command(photos, tmp_path, weights):
    out, page = tmp_path / "out" / "answers.csv", tmp_path / "sheet.html"
    os.rename(photos / "b", photos / "b <i>&")
    done = command(photos, "--out", out, "--html", page, "--crop", "none", "-n", weights[0], "-n", weights[1])
    assert done.exit_code == 1 and "6 pictures, 5 faces; answers in" in done.output
    assert "1 without an answer:\n" in done.output and "broken.jpg: this is not a picture" in done.output
    assert done.output.count("nobody has measured how often it is right") == 2
    rows = table(out)
    assert len(rows) == 11 and [row["network"] for row in rows if not row["problem"]] == weights * 5
    for row in rows:
        p = [float(row[f"p_{name}"]) for name in small(0).labels] if row["answer"] else [1.0]
        assert sum(p) == pytest.approx(1, abs=1e-5)
    one = next(row for row in rows if row["network"] == weights[0])
    want = probabilities(
        ferkit.load(weights[0]), np.asarray(Image.open(one["file"]).convert("RGB")).transpose(2, 0, 1)[None]
    )
    assert float(one["p_anger"]) == pytest.approx(want[0, small(0).labels.index("anger")], abs=2e-6)
    text = page.read_text(encoding="utf-8")
    assert text.count("<img ") == 5 and text.count('class="answer"') == 10 and text.count('class="problem"') == 1
    assert "b <i>&" not in text and html.escape("b <i>&") in text
    assert not list(out.parent.glob(".*"))  # no journal is left


def test_json_lines(photos, tmp_path, weights):
    out = tmp_path / "answers.jsonl"
    command(photos / "b", "--out", out, "--crop", "none", "-n", weights[0])
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2 and set(rows[0]) == {
        "file",
        "face",
        "box",
        "problem",
        "network",
        "answer",
        "doubt",
        "likely",
        "probabilities",
    }
    assert rows[0]["answer"] == max(rows[0]["probabilities"], key=rows[0]["probabilities"].get)


@pytest.mark.slow
def test_hostile_files_do_not_stop_it(tmp_path, weights):
    for number, (_, data) in enumerate(hostile_uploads(portrait())):
        if len(data) < 100_000 and number % 12 == 0:
            (tmp_path / f"{number:03}.jpg").write_bytes(data)
    Image.fromarray(portrait()).save(tmp_path / "zz.png")
    n = len(list(tmp_path.iterdir()))
    found = predict_folder(tmp_path, weights[0], crop="none", progress=False)
    assert n > 25 and found.file.nunique() == n and found.answer.iloc[-1]
    assert 0.2 * n < (found.problem != "").sum() < n - 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone"], "found nothing at gone"),
        (["{photos}", "--out", "x.xlsx"], r"ends in \.csv or \.jsonl"),
        (["{photos}", "--crop", "nose"], "a crop among face, none"),
        (["{photos}/.."], None),
        (["{photos}", "-n", "nobody"], "expected a network"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments, sentence, photos, tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    if sentence is None:
        (tmp_path / "empty").mkdir()
        arguments, sentence = ["empty"], "expected pictures at empty, found none"
    more = [] if "-n" in arguments else ["-n", weights[0]]
    done = command(*[a.format(photos=photos) for a in arguments], *more)
    assert done.exit_code and "\n" not in str(done.exception)
    with pytest.raises(SystemExit, match=sentence):
        raise done.exception
    assert not (tmp_path / "answers.csv").exists()


# -------------------------------------------------------------------------------------- interrupted, flat, in parallel


def test_an_interrupted_call_goes_on(photos, tmp_path, weights, monkeypatch):
    out, looked, real = tmp_path / "answers.csv", [], pictures.look

    def impatient(file, place, crop):
        looked.append(file.name)
        if len(looked) == 4:
            raise KeyboardInterrupt
        return real(file, place, crop)

    monkeypatch.setattr(pictures, "look", impatient)
    options = {"crop": "none", "workers": 1, "batch_size": 2, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        pictures.predict_to_file([photos], weights[0], out, **options)
    assert not out.exists() and (tmp_path / ".answers.csv.journal").exists()
    looked[:] = ["-"] * 10
    pictures.predict_to_file([photos], weights[0], out, **options)
    assert looked[10:] == [file.name for file in pictures_in([photos])][2:]  # two had been answered
    assert [row["file"] for row in table(out)] == [str(file) for file in pictures_in([photos])]


def test_a_journal_is_trusted_only_for_what_it_was_made_of(tmp_path):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    a.write_bytes(b"1")
    journal = Journal(tmp_path / "j", {"crop": "face"})
    journal.add(a, 0, [{"face": 0}], faces=1, problem="")
    journal.add(b, 1, [{"face": None}], faces=0, problem="absent")
    with pytest.raises(ValueError, match="running already"):
        Journal(tmp_path / "j", {"crop": "face"})
    journal.close()
    again = Journal(tmp_path / "j", {"crop": "face"})
    assert (
        again.counts() == (0, 0, 0) and again.knows(a, 5) and again.counts() == (1, 1, 0)
    )  # b was not asked for this time
    a.write_bytes(b"22")
    assert not again.knows(a, 6)
    again.close()
    other = Journal(tmp_path / "j", {"crop": "none"})
    assert not other.knows(b, 0)
    other.close(forget=True)
    assert not (tmp_path / "j").exists()
    (tmp_path / "j").write_bytes(b"something else entirely, of some length" * 100)
    with pytest.raises(ValueError, match="no journal"):
        Journal(tmp_path / "j", {})


def test_no_more_is_held_than_a_batch_and_what_is_read_ahead(weights):
    alive, most, lock, pulled = 0, 0, threading.Lock(), 0

    class Face(np.ndarray):
        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    def look(file, place):
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return pictures.Seen(file, place, [np.zeros((3, 32, 32), np.uint8).view(Face)], [None])

    def many():
        nonlocal pulled
        for place in range(400):
            pulled += 1
            yield place, Path(f"{place}.png")

    looked_at, ahead = pictures.seen_in_order(many(), look, workers=2), []
    for number, _ in enumerate(pictures.answered(looked_at, [ferkit.load(weights[0])], batch_size=16)):
        ahead.append(pulled - number)
    assert len(ahead) == 400 and max(ahead) <= 16 + 2 * 2 + 1
    assert 16 <= most <= 2 * 16 + 2 * 2 + 2  # the batch that is given out, and the one that is gathered


def faceless(file, place):
    return pictures.Seen(file, place, [], [], pictures.NO_FACE)


def test_pictures_without_faces_do_not_pile_up(weights):
    pulled = iter(range(10**6))
    looked_at = pictures.seen_in_order(((i, Path(str(i))) for i in pulled), faceless, workers=2)
    given = pictures.answered(looked_at, [ferkit.load(weights[0])], batch_size=8)
    next(given)
    looked_at.close()
    assert next(pulled) <= 8 + 2 * 2 + 1


def test_two_workers_look_at_the_same_time():
    def look(file, place, seconds=5):
        meeting.wait(seconds)  # raises unless a second thread comes
        return faceless(file, place)

    files, meeting = [(i, Path(str(i))) for i in range(6)], threading.Barrier(2)
    assert [seen.place for seen in pictures.seen_in_order(files, look, workers=2)] == list(range(6))
    with pytest.raises(threading.BrokenBarrierError):
        list(pictures.seen_in_order(files, lambda file, place: look(file, place, 0.2), workers=1))


def test_faces_of_different_sizes_are_asked_in_one_batch():
    network = Network("small", small(0))
    rng = np.random.default_rng(0)
    faces = [rng.integers(0, 256, (3, side, side), dtype=np.uint8) for side in (48, 64, 48)]
    batch = [
        pictures.Seen(Path("a"), 0, faces[:2], [None, None]),
        pictures.Seen(Path("b"), 1, [], [], "x"),
        pictures.Seen(Path("c"), 2, faces[2:], [None]),
    ]
    said = [opinions for _, opinions in pictures._asked(batch, [network])]
    assert [len(of_picture) for of_picture in said] == [2, 0, 1]
    for face, opinion in zip(faces, [*said[0], *said[2]], strict=True):
        assert opinion[0].probabilities == pytest.approx(probabilities(network, face[None])[0], abs=1e-5)


def test_the_sheet_says_when_it_is_cut(monkeypatch, tmp_path):
    monkeypatch.setattr("ferkit.use.sheet.MOST", 2)
    from ferkit.use.sheet import write_sheet

    journal = Journal(None, {})
    row = {
        "file": "x",
        "face": 0,
        "box": None,
        "problem": "",
        "network": "n",
        "answer": "anger",
        "doubt": 0.1,
        "likely": [],
        "probabilities": {"anger": 1.0},
    }
    for place in range(3):
        journal.add(Path(f"{place}.png"), place, [row], faces=1, problem="", pictures=[b"jpeg"])
    write_sheet(tmp_path / "s.html", journal, [Network("n", small(0))])
    text = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert text.count("<img ") == 2 and "These are the first 2." in text and MOST == 2000


def test_help_shows_an_example_and_needs_no_torch():
    code = (
        "import sys\nfrom ferkit.__main__ import app\n"
        "try:\n    app(['predict', '--help'])\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == 0, done.stderr
    assert "python -m ferkit predict photos/ --html sheet.html" in done.stdout
