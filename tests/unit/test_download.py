"""Fetching data from a server on this machine: asked for, taken up, checked, never half there, never over something."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from ferkit.__main__ import app
from ferkit.data import download, fer2013, sources
from tests.support.hub import serving
from tests.unit.small_faces import write_fer2013

DATA = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_arrives_whole(tmp_path):
    with serving({"x.csv": DATA}) as (address, asked):
        target = download.fetch_file(f"{address}/x.csv", tmp_path / "x.csv", SHA256, progress=False)
        assert target.read_bytes() == DATA and len(asked) == 1
        assert download.fetch_file(f"{address}/x.csv", target, SHA256, progress=False) == target and len(asked) == 1
    assert files(tmp_path) == ["x.csv"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_transfer_goes_on(tmp_path, ranges):
    with serving({"x.csv": DATA}, cut={"x.csv": 1_200_000}, ranges=ranges) as (address, asked):
        with pytest.raises(OSError, match="what arrived is kept, and the same call goes on"):
            download.fetch_file(f"{address}/x.csv", tmp_path / "x.csv", SHA256, progress=False)
        assert files(tmp_path) == [".partial/x.csv"]
        have = (tmp_path / ".partial/x.csv").stat().st_size
        assert 1_000_000 <= have <= 1_200_000
        assert download.fetch_file(f"{address}/x.csv", tmp_path / "x.csv", SHA256, progress=False).read_bytes() == DATA
    assert asked[1] == ("GET", "/x.csv", f"bytes={have}-")


def test_what_is_whole_but_not_yet_in_place_is_not_fetched_again(tmp_path):
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial/x.csv").write_bytes(DATA)
    with serving({"x.csv": DATA}) as (address, _):
        assert download.fetch_file(f"{address}/x.csv", tmp_path / "x.csv", SHA256, progress=False).read_bytes() == DATA


def test_a_wrong_checksum_is_refused_and_leaves_nothing(tmp_path):
    with serving({"x.csv": DATA[:-1] + b"?"}) as (address, _):
        with pytest.raises(ValueError, match="known checksum, found another; what arrived was removed"):
            download.fetch_file(f"{address}/x.csv", tmp_path / "x.csv", SHA256, progress=False)
    assert files(tmp_path) == []


def test_nothing_is_replaced(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"mine")
    with serving({"x.csv": DATA}) as (address, asked):
        with pytest.raises(FileExistsError, match="nothing is replaced"):
            download.fetch_file(f"{address}/x.csv", tmp_path / "x.csv", SHA256, progress=False)
    assert not asked and (tmp_path / "x.csv").read_bytes() == b"mine"


def test_nobody_there(tmp_path):
    with serving({}) as (address, _):
        with pytest.raises(OSError, match="404"):
            download.fetch_file(f"{address}/x.csv", tmp_path / "x.csv", SHA256, progress=False)
    with pytest.raises(OSError, match="goes on from there"):
        download.fetch_file(f"{address}/x.csv", tmp_path / "x.csv", SHA256, progress=False)


# --------------------------------------------------------------------------------------------------------- Hugging Face

REPOSITORY = {"happy/a.png": DATA, "sad/b.png": b"small", "README.md": b"# faces", ".gitattributes": b"*"}


def hub(tmp_path, address, code):
    """The client reads its address when it is imported, so every test has a process of its own."""
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


GET = "from ferkit.__main__ import app; app(['data', 'get', 'folder', '--from', 'hf:me/faces', '--yes', '--to', {0!r}])"


def test_a_repository_at_hugging_face(tmp_path):
    with serving(REPOSITORY, large=["happy/a.png"], cut={"happy/a.png": 1_500_000}) as (address, asked):
        done = hub(tmp_path, address, GET.format(str(tmp_path / "mine")))
        assert done.returncode == 1 and "goes on from there" in done.stderr, done.stderr
        assert files(tmp_path / "mine") == ["happy/.partial/a.png"]
        done = hub(tmp_path, address, GET.format(str(tmp_path / "mine")))
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "mine") == ["README.md", "happy/a.png", "sad/b.png"]
    assert (tmp_path / "mine/happy/a.png").read_bytes() == DATA
    assert "3.0 MB" in done.stdout and "terms: yours" in done.stdout and "a" * 40 in done.stdout
    assert any(path.endswith("a.png") and wanted for method, path, wanted in asked if method == "GET"), asked


@pytest.mark.parametrize("name", ["happy/a.png", "sad/b.png"])
def test_what_hugging_face_says_of_a_file_must_be_true(tmp_path, name):
    with serving({"happy/a.png": b"large", "sad/b.png": b"small"}, large=["happy/a.png"], lie=[name]) as (address, _):
        done = hub(tmp_path, address, GET.format(str(tmp_path / "mine")))
    assert (
        done.returncode == 1
        and f"Expected {name[-5:]} with the known checksum" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not any(file.endswith(name[-5:]) for file in files(tmp_path / "mine"))


def test_a_repository_that_leads_out_of_the_folder(tmp_path):
    with serving({"../out.png": b"x"}) as (address, asked):
        done = hub(tmp_path, address, GET.format(str(tmp_path / "mine")))
    assert (
        done.returncode == 1 and "inside the data set's folder" in done.stderr and not (tmp_path / "out.png").exists()
    )
    assert len(asked) == 1


# -------------------------------------------------------------------------------------------------------- what is asked


def call(*words, **kwargs):
    return CliRunner().invoke(app, ["data", *map(str, words)], **kwargs)


def test_nothing_happens_without_a_yes(tmp_path, monkeypatch):
    with serving({"v.csv": DATA}) as (address, asked):
        monkeypatch.setattr(sources, "VOTES_URL", f"{address}/v.csv")
        monkeypatch.setattr(sources, "VOTES_SHA256", SHA256)
        said = call("get", "ferplus", "--to", tmp_path / "d", input="n\n")
        assert said.exit_code == 1 and not asked and not (tmp_path / "d").exists()
        assert all(fact in said.output for fact in (address, "MIT licence", "1.6 MB"))
        said = call("get", "ferplus", "--to", tmp_path / "d", input="y\n")
        assert (
            said.exit_code == 0
            and (tmp_path / "d/fer2013new.csv").read_bytes() == DATA
            and "ferkit doctor" in said.output
        )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rafdb",), "may not be passed on"),
        (("affectnet8",), "may not be passed on"),
        (("expw",), "socialrelation"),
        (("rafdb", "--from", "hf:a/b"), "may not be passed on"),
        (("ck",), "Expected a data set among"),
        (("folder",), "Expected --from hf:OWNER/NAME"),
        (("folder", "--from", "https://x"), "Expected --from hf:OWNER/NAME"),
        (("ferplus", "--from", "hf:a/b"), "leave it out"),
    ],
)
def test_what_cannot_be_fetched(tmp_path, words, sentence):
    said = call("get", *words, "--to", tmp_path / "d", "--yes")
    assert (
        said.exit_code == 1
        and sentence in str(said.exception)
        and "\n" not in str(said.exception)
        and not (tmp_path / "d").exists()
    )


def test_the_list_names_every_set():
    said = call().output
    assert all(entry.title in said and entry.terms in said for entry in sources.SOURCES)


def test_fer2013_from_the_contest(tmp_path, monkeypatch):
    kagglehub = pytest.importorskip("kagglehub")
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "kaggle").mkdir()
    csv = write_fer2013(tmp_path / "kaggle/fer2013.csv", train=28, test=14)
    monkeypatch.setattr(
        kagglehub,
        "competition_download",
        lambda handle: str(tmp_path / "kaggle") if handle == sources.CONTEST else None,
    )
    said = call("get", "fer2013", "--to", tmp_path / "d", "--yes")
    assert said.exit_code == 1 and "published counts" in str(said.exception) and not (tmp_path / "d").exists()
    faces = fer2013.load_fer2013(csv)
    monkeypatch.setattr(
        fer2013, "OFFICIAL_COUNTS", {split: tuple(faces.select(split).counts().values()) for split in faces.splits()}
    )
    assert call("get", "fer2013", "--to", tmp_path / "d", "--yes").exit_code == 0
    assert files(tmp_path / "d") == ["fer2013.csv"] and (tmp_path / "d/fer2013.csv").read_bytes() == csv.read_bytes()

    def refuse(handle):
        raise RuntimeError("401 Client Error\nlong story")

    monkeypatch.setattr(kagglehub, "competition_download", refuse)
    said = call("get", "fer2013", "--to", tmp_path / "e", "--yes")
    assert "401 Client Error; log in" in str(said.exception) and "\n" not in str(said.exception)
