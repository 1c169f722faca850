"""Files that say the same thing twice agree, and public text is fit for the public."""

import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from notebooks import words
from notebooks.build import ROOT
from tests.support import checks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MARKDOWN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "data").rglob("*.md"))]
IGNORED = {
    ".git", ".venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints",
}


def public_files():
    """What a clone holds: files that git knows or would take; without git, all but the usual litter."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    litter = {"build", "runs"}  # at the top alone: ferkit has a package of that name
    return [
        f
        for f in ROOT.rglob("*")
        if f.is_file()
        and f.relative_to(ROOT).parts[0] not in litter
        and not IGNORED & set(f.relative_to(ROOT).parts)
        and ".egg-info" not in str(f)
    ]


def make_targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def commands(text):
    """The targets of the make commands in a Markdown or YAML text: in code spans, code blocks, and entries."""
    code = (
        re.findall(r"`([^`]+)`", text)
        + re.findall(r"^(?: {4}|\t)(.+)$", text, re.M)
        + re.findall(r"entry: ([^,}]+)", text)
    )
    return {m for line in code for m in re.findall(r"\bmake ([a-z-]+)\b", line)}


# ---------------------------------------------------------------------------------------------------------- environment


def environment_faults(environment, project):
    """How environment.yml differs from pyproject.toml: other Python, packages of its own, extras that do not exist."""
    faults, pip = [], []
    for item in environment["dependencies"]:
        if isinstance(item, dict):
            pip += item["pip"]
        elif (name := re.split(r"[ <>=!]", item)[0]) == "python":
            if SpecifierSet(item.removeprefix("python").strip()) != SpecifierSet(project["requires-python"]):
                faults.append(f"Python {item} against {project['requires-python']}")
        elif name != "pip":
            faults.append(f"{name} is not left to pyproject.toml")
    extras = set(re.findall(r"[a-z]+", "".join(re.findall(r"^-e \.\[(.*)\]$", "\n".join(pip), re.M))))
    if len(pip) != 1 or extras - set(project["optional-dependencies"]):
        faults.append(f"pip installs {pip}; expected one line -e .[extras] with extras of pyproject.toml")
    # `dev` holds the others, so this is what `make test` installs
    if "dev" not in extras:
        faults.append("the extra `dev` is missing: the tests would not run")
    return faults


def test_environment_yml_installs_what_pyproject_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment_faults(environment, PROJECT) == []
    assert f"conda activate {environment['name']}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "dependencies",
    [
        ["python >=3.10,<3.14", "pip", {"pip": ["-e .[dev]"]}],
        ["python >=3.11,<3.14", "pip", "numpy", {"pip": ["-e .[dev]"]}],
        ["python >=3.11,<3.14", "pip", {"pip": ["-e .[dev,gpu]"]}],
        ["python >=3.11,<3.14", "pip", {"pip": ["-e .[workbook]"]}],
        ["python >=3.11,<3.14", "pip", {"pip": ["-e .[dev]", "torch"]}],
    ],
)
def test_environment_check_can_fail(dependencies):
    assert environment_faults({"dependencies": dependencies}, PROJECT)


def test_dev_includes_the_other_extras():
    dev = PROJECT["optional-dependencies"]["dev"]
    named = {e for line in dev for e in re.findall(r"[a-z]+", "".join(re.findall(r"^ferkit\[(.*)\]$", line)))}
    assert {"workbook", "datasets", "export", "book"} <= named


def test_citation_and_package_name_the_same_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == PROJECT["version"]
    assert f'__version__ = "{PROJECT["version"]}"' in (ROOT / "ferkit" / "__init__.py").read_text(encoding="utf-8")
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


# ------------------------------------------------------------------------------------------------------------- commands


def test_documented_commands_exist():
    for name in ("README.md", "CONTRIBUTING.md", ".pre-commit-config.yaml"):
        found = commands((ROOT / name).read_text(encoding="utf-8"))
        assert found, f"{name} names no make command; the pattern is wrong"
        assert found <= make_targets(), f"{name}: make {sorted(found - make_targets())} do not exist"
    assert commands("run `make nothing` or\n\n    make tset\n") == {"nothing", "tset"}


def test_readme_has_two_commands_and_ci_runs_the_second():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^ {4}(make .*)$", readme, re.M) == ["make lab", "make test"]
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("exec make test")


def test_help_lists_every_public_target():
    listed = re.findall(
        r"^  make (\w+)",
        subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout,
        re.M,
    )
    assert {"setup", "lab", "notebooks", "test", "check", "bench", "book"} <= set(listed) <= make_targets()


# ----------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    from notebooks.build import read_manifest

    # said by test_notebooks
    built = [f"link to notebooks/{entry.path.name}, which does not exist" for entry in read_manifest()]
    assert [line for line in checks.links(path.read_text(encoding="utf-8"), path.parent) if line not in built] == []


def test_no_paths_of_one_machine_in_public_files():
    found = []
    for path in public_files():
        if path.suffix in {".png", ".safetensors", ".npz", ".gz"} or path.name == "checks.py":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := checks.MACHINE_PATHS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


def test_no_large_files_and_no_pictures_of_data_sets():
    large = [
        f"{p.relative_to(ROOT)}: {p.stat().st_size / 1e6:.1f} MB"
        for p in public_files()
        if p.stat().st_size > 1e6 and p.suffix != ".safetensors"
    ]
    heavy = [p for p in public_files() if p.suffix == ".safetensors" and p.stat().st_size > 20e6]
    data = [
        p
        for p in public_files()
        if p.suffix in {".csv", ".gz", ".parquet", ".npy", ".jpg", ".jpeg"} or "raw" in p.relative_to(ROOT).parts
    ]
    assert not large and not heavy and not data


def test_bibliography_is_complete():
    works = words.bibliography()
    assert len(works) > 10
    for key, work in works.items():
        assert re.fullmatch(r".+, (19|20)\d\d", work.label), key
        assert work.link == "" or work.link.startswith("https://"), key
    assert len({work.label for work in works.values()}) == len(works)


def test_citations_are_written_out():
    text = "as [@resemotenet] and [@facs] and [@fer2013] say; cite as `[@key]`"
    linked = "[[Roy et al., 2024](https://doi.org/10.1109/LSP.2024.3521321)]"
    contest = "[[Goodfellow et al., 2013](https://arxiv.org/abs/1307.0414)]"
    assert (
        words.with_citations(text) == f"as {linked} and [Ekman and Friesen, 1978] and {contest} say; cite as `[@key]`"
    )
    lines = words.reference_list(text).splitlines()
    assert lines[0] == "## References" and len(lines) == 5
    assert lines[2].startswith("- Ekman, Paul; Friesen, Wallace V. (1978). *Facial Action Coding System")
