"""One writer for the whole library: whole files or none, also when several processes write the same one."""

import ast
import multiprocessing
import os
import stat
import tempfile
from pathlib import Path

import pytest

from ferkit import files
from ferkit.data.io.cache import cache_folder
from ferkit.training.history import History

FERKIT = Path(files.__file__).parent


def _save_often(folder, barrier, lost):
    history = History()
    history.rows = [{"epoch": i, "lr": 0.1, "val_accuracy": 0.5} for i in range(30)]
    for _ in range(200):
        barrier.wait()
        try:
            history.save(Path(folder) / "history.csv")
        except OSError:
            lost.value += 1


def test_two_processes_save_one_history(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, lost = context.Barrier(2), [context.Value("i", 0) for _ in range(2)]
    children = [context.Process(target=_save_often, args=(tmp_path, barrier, counter)) for counter in lost]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert [counter.value for counter in lost] == [0, 0]
    assert len(History.read(tmp_path / "history.csv").rows) == 30
    assert os.listdir(tmp_path) == ["history.csv"]


def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path):
    file = tmp_path / "a" / "result.json"
    files.write_json(file, {"accuracy": 0.5})
    with pytest.raises(TypeError):
        files.write_json(file, {"accuracy": object()})
    with pytest.raises(KeyboardInterrupt), files.replacing(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert files.read_json(file) == {"accuracy": 0.5}
    assert os.listdir(file.parent) == ["result.json"]


def test_others_may_read_what_is_written(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_text(tmp_path / "a.txt", "é\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"test": {"accu', "cut off"),
        (b"", "empty"),
        (b"\0\0\0\0", "empty"),
        (b"\xff\xfe", "cannot be read"),
        (b"[1]", "found list"),
    ],
)
def test_damaged_json_is_one_sentence(tmp_path, content, said):
    file = tmp_path / "result.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
        files.read_json(file)
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


def test_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_nobody_else_moves_a_written_file_into_place():
    """os.replace stands where folders and downloads are moved, and nowhere else: files are written with `replacing`."""
    users = {}
    for file in FERKIT.rglob("*.py"):
        calls = [
            node
            for node in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and node.attr == "replace"
        ]
        if any(isinstance(node.value, ast.Name) and node.value.id == "os" for node in calls):
            users[file.relative_to(FERKIT).as_posix()] = True
    # a checkpoint is a folder; faces and downloads are written in steps under a lock, to be taken up after an
    # interruption
    assert set(users) == {"files.py", "training/checkpoints.py", "data/io/pictures.py", "data/download.py"}


def test_without_a_home_the_cache_is_among_the_temporary_files(monkeypatch):
    def no_home(_cls: type) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FERKIT_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(no_home))
    assert cache_folder() == Path(tempfile.gettempdir()) / "ferkit-cache"
