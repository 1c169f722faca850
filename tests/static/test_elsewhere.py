"""Containers, Codespaces, Binder, and names that every system can hold. None is built here; what they name exists."""

import json
import re
import shlex
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from notebooks.build import ROOT
from tests.static.test_house import make_targets, public_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Names that Windows keeps for devices, whatever their ending, and letters that it does not allow.
DEVICES = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.I)
FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f]|[. ]$')


def supported(version):
    return version in SpecifierSet(PROJECT["requires-python"])


def targets_in(words):
    """The make targets of a command, without its variables."""
    return {word for word in words[words.index("make") + 1 :] if "=" not in word}


def test_devcontainer():
    made = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert targets_in(shlex.split(made["postCreateCommand"])) == {"setup"} <= make_targets()
    assert supported(made["image"].rpartition(":")[2] + ".0")
    assert made["forwardPorts"] == [8888]
    assert made["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith("/.venv/bin/python")


def test_binder():
    lines = (ROOT / ".binder/requirements.txt").read_text(encoding="utf-8").splitlines()
    (own,) = [line.removeprefix("-e ") for line in lines if line.startswith("-e ")]
    extras = Requirement(own.replace(".[", "ferkit[")).extras
    assert extras == {"workbook"} <= set(PROJECT["optional-dependencies"])
    version = (ROOT / ".binder/runtime.txt").read_text(encoding="utf-8").strip()
    assert supported(version.removeprefix("python-") + ".0")


def instructions(text):
    """The instructions of a Dockerfile, (name, rest) each, lines that go on joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def dockerfile_faults(text):
    """What is wrong with a Dockerfile of the workbook."""
    found, steps = [], instructions(text)
    by_name = {}
    for name, rest in steps:
        by_name.setdefault(name, []).append(rest)
    image = by_name.get("FROM", [""])[0]
    if not re.match(r"python:3\.\d+-slim$", image) or not supported(re.findall(r"3\.\d+", image)[0] + ".0"):
        found.append(f"FROM {image}: no slim image of a supported Python")
    if [name for name, _ in steps][0] != "FROM":
        found.append("it does not begin with FROM")
    command = json.loads(by_name.get("CMD", ["[]"])[0])
    runs = [shlex.split(rest) for rest in by_name.get("RUN", [])]
    called = set().union(*(targets_in(words) for words in [*runs, command] if words and words[0] == "make"))
    if called != {"setup", "lab"} or not called <= make_targets():
        found.append(f"make {called}")
    names = [name for name, _ in steps]
    if "USER" not in names or names.index("USER") > names.index("COPY"):
        found.append("files are copied, and JupyterLab runs, as root")
    if by_name.get("EXPOSE") != ["8888"] or "--port 8888" not in " ".join(command):
        found.append("the port is not 8888")
    return found


def test_dockerfile():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert dockerfile_faults(text) == []
    assert {".git", ".venv", "data/raw"} <= set((ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("3.12-slim", "3.9-slim"),
        ("USER reader", "ENV A=1"),
        ("make setup", "make stup"),
        ("--port 8888", "--port 80"),
    ],
)
def test_the_dockerfiles_check_can_fail(old, new):
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert old in text and dockerfile_faults(text.replace(old, new))


def name_faults(names):
    """Names that Windows or macOS cannot hold: devices, forbidden letters, too long, or equal but for case."""
    found = [n for n in names if len(n) > 150 or any(DEVICES.match(p) or FORBIDDEN.search(p) for p in n.split("/"))]
    seen = {}
    for name in names:
        twin = seen.setdefault(name.casefold(), name)
        found += [f"{twin} and {name}"] if twin != name else []
    return found


def test_names_that_every_system_can_hold():
    assert name_faults([file.relative_to(ROOT).as_posix() for file in public_files()]) == []
    assert name_faults(["a/aux.py", "b:c", "d ", "e" * 151, "F.py", "f.py", "con", "console.py", "g/h.txt"]) == [
        "a/aux.py", "b:c", "d ", "e" * 151, "con", "F.py and f.py",
    ]  # fmt: skip


def test_line_endings_are_unix():
    attributes = (ROOT / ".gitattributes").read_text(encoding="utf-8")
    assert "* text=auto eol=lf" in attributes.splitlines()
    texts = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".cff", ".bib", ".txt", ".ipynb", ".css", ""}
    with_returns = [f for f in public_files() if f.suffix in texts and b"\r\n" in f.read_bytes()]
    assert with_returns == []
