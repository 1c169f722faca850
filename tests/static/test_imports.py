"""A module imports only from modules before it in the order; some libraries belong to one module alone."""

import ast
import re
import subprocess
import sys

import pytest

from notebooks.build import ROOT

ORDER = (
    "files labels papers faces data synthetic models losses evaluation predict training runs explain plots doctor "
    "use notebook widgets commands __main__"
).split()
FERKIT = ROOT / "ferkit"


def imported(tree, module_file):
    """Top-level parts of ferkit that a syntax tree imports, wherever the import stands, relative ones too."""
    package = ["ferkit", *module_file.relative_to(FERKIT).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "ferkit" and len(parts) > 1:
                yield parts[1]


def part_of(file):
    return file.relative_to(FERKIT).parts[0].removesuffix(".py")


def violations(source, file):
    """Imports in `source`, as the content of `file`, that go against the order."""
    own = part_of(file)
    if own == "__init__":
        allowed = set()
    elif own not in ORDER:
        return [f"ferkit/{own} has no place in ORDER of tests/static/test_imports.py; give it one"]
    else:
        allowed = {*ORDER[: ORDER.index(own) + 1], "__version__"}
    return [
        f"{file.relative_to(ROOT)} imports ferkit.{name}"
        for name in imported(ast.parse(source), file)
        if name not in allowed
    ]


def test_order():
    found = [line for file in FERKIT.rglob("*.py") for line in violations(file.read_text(encoding="utf-8"), file)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "file", "wrong"),
    [
        ("from ferkit.models import create_model", "labels.py", True),
        ("from ferkit import training", "data/fer2013.py", True),
        ("def f():\n    import ferkit.plots", "evaluation/metrics.py", True),
        ("from ..training import fit", "data/fer2013.py", True),
        ("from .splits import x\nfrom ..labels import order", "data/fer2013.py", False),
        ("from ferkit.labels import order", "plots.py", False),
        ("from ferkit import labels", "__init__.py", True),
        ("", "nowhere.py", True),
    ],
)
def test_order_is_enforced(source, file, wrong):
    assert bool(violations(source, FERKIT / file)) == wrong


def test_only_widgets_imports_ipywidgets():
    imports = re.compile(r"^\s*(?:from|import)\s+ipywidgets\b", re.M)
    users = {part_of(file) for file in FERKIT.rglob("*.py") if imports.search(file.read_text(encoding="utf-8"))}
    assert users == {"widgets"}, users


@pytest.mark.parametrize("module", ["ferkit", "ferkit.labels", "ferkit.papers", "ferkit.doctor.environment"])
def test_light_modules_do_not_load_torch(module):
    code = f"import sys, {module}; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
