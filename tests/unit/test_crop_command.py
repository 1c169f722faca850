"""`python -m ferkit crop`: photographs in, faces out, the others named."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ferkit.__main__ import app
from ferkit.data import load
from ferkit.faces import crop_face, find_faces, portrait

pytest.importorskip("facenet_pytorch")


@pytest.fixture
def photographs(tmp_path):
    root = tmp_path / "photographs"
    for place in ("train/happy", "test/sad"):
        (root / place).mkdir(parents=True)
        Image.fromarray(portrait()).save(root / place / "a.jpg", quality=95)
    Image.fromarray(portrait()).save(root / "train/happy/a.png")
    Image.fromarray(np.full((90, 90, 3), 128, np.uint8)).save(root / "test/sad/wall.png")
    (root / "test/sad/broken.jpg").write_bytes(b"no picture")
    (root / "test/sad/.hidden.jpg").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    return root


def crop(*args):
    return CliRunner().invoke(app, ["crop", *map(str, args)])


def test_faces_of_a_folder(photographs, tmp_path):
    out = tmp_path / "faces"
    done = crop(photographs, out, "--size", 64)
    assert done.exit_code == 1 and f"3 faces written to {out}" in done.output
    assert (
        "1 without a face:\n  test/sad/wall.png" in done.output
        and "1 cannot be read:\n  test/sad/broken.jpg: this is not a picture" in done.output
    )
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*.*")) == [
        "test/sad/a.png",
        "train/happy/a.jpg.png",
        "train/happy/a.png.png",
    ]
    face = np.asarray(Image.open(out / "train/happy/a.png.png"))
    assert np.array_equal(face, crop_face(portrait(), find_faces(portrait())[0], size=64))
    assert load("folder", out, size=64, progress=False).splits() == {"train": 2, "test": 1}
    times = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    assert "0 faces written" in (again := crop(photographs, out).output) and "3 were there already" in again
    assert times == {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}


def test_one_picture(photographs, tmp_path):
    done = crop(photographs / "train/happy/a.jpg", tmp_path / "one", "--margin", 0.5)
    assert done.exit_code == 0 and Image.open(tmp_path / "one/a.png").size == (224, 224)


def test_what_cannot_be_done(photographs, tmp_path):
    for args, sentence in (
        ((tmp_path / "gone", tmp_path / "o"), "found nothing there"),
        ((photographs, photographs / "faces"), "outside of"),
    ):
        done = crop(*args)
        assert done.exit_code and sentence in str(done.exception) and "\n" not in str(done.exception)
    (tmp_path / "empty").mkdir()
    assert "found none in it" in str(crop(tmp_path / "empty", tmp_path / "o").exception)
