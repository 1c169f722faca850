"""Installed without the checkout: the trained weights and their records come with the package,
or one sentence says how to get them.
"""

import os
import shutil
import subprocess
import sys

import pytest

from ferkit.models import list_weights
from ferkit.models.registry import weights_folder
from notebooks.build import ROOT

CODE = """
import ferkit
from ferkit.models import create_model, list_weights
from ferkit.runs.records import record_of
print(ferkit.__file__)
print(list_weights())
create_model("lfnsb", weights="fer2013-teach")
print(record_of("lfnsb", "fer2013-teach")["name"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


def without_checkout(folder, code):
    environment = {k: v for k, v in os.environ.items() if k != "FERKIT_WEIGHTS"} | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_weights_and_records_come_with_the_package(installed):
    done = without_checkout(installed, CODE)
    assert done.returncode == 0, done.stderr
    where, names, record = done.stdout.splitlines()
    assert where.startswith(str(installed)) and names == str(list_weights()) and record == "lfnsb-teach-fer2013"
    sizes = [f.stat().st_size for f in (installed / "ferkit" / "shipped").rglob("*.*")]
    assert len(sizes) >= len(list(weights_folder().glob("*.safetensors"))) + 5 and 1e6 < sum(sizes) < 60e6


def test_without_them_one_sentence_says_what_to_do(installed, tmp_path):
    bare = tmp_path / "site"
    shutil.copytree(installed, bare, ignore=shutil.ignore_patterns("shipped"))
    done = without_checkout(
        bare, "from ferkit.models import create_model; create_model('lfnsb', weights='fer2013-teach')"
    )
    assert done.returncode == 1
    assert (
        "there is no folder" in done.stderr
        and "set FERKIT_WEIGHTS to the folder data/weights of a checkout" in done.stderr
    )
