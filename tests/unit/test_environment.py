"""The environment check: good here, and a broken environment gets a fix and no traceback."""

import importlib
import subprocess
import sys
from collections import namedtuple
from importlib import metadata

import pytest

from ferkit.doctor import environment
from ferkit.doctor.environment import check_environment


def failures(report):
    return {check.what: check for check in report.checks if not check.ok}


def test_this_environment_is_good():
    report = check_environment()
    assert report.ok, str(report)
    lines = str(report).splitlines()
    assert len(lines) == len(report.checks) + 1
    assert all(line.startswith("[OK]") for line in lines[:-1])
    assert {"Python", "torch", "jupyterlab", "PyTorch runs", "Jupyter kernel"} <= {
        check.what for check in report.checks
    }
    assert repr(report) == str(report)


def test_extras():
    names = {check.what for check in check_environment("dev").checks}
    assert "pytest" in names and "ferkit" not in names
    assert "pytest" not in {check.what for check in check_environment().checks}
    with pytest.raises(ValueError, match="unknown extra 'gpu'; ferkit has .*workbook"):
        check_environment("gpu")


def test_missing_and_old_packages_get_a_fix(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "papermill":
            raise metadata.PackageNotFoundError(name)
        return "1.0" if name == "numpy" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    report = check_environment()
    bad = failures(report)
    assert set(bad) == {"papermill", "numpy"} and not report.ok
    assert "fix: python -m pip install \"papermill>=" in str(report)
    assert "1.0 (wanted >=2.0)" in str(report)
    assert "2 of " in str(report).splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "what"),
    [
        ("torch", "PyTorch runs"),
        ("torchvision.transforms.v2", "torchvision fits"),
        ("jupyter_client.kernelspec", "Jupyter kernel"),
    ],
)
def test_broken_imports_get_a_fix(monkeypatch, module, what):
    real = importlib.import_module

    def load(name):
        if name == module:
            raise OSError("undefined symbol")
        return real(name)

    monkeypatch.setattr(environment.importlib, "import_module", load)
    bad = failures(check_environment())
    assert set(bad) == {what}
    assert bad[what].found == "OSError: undefined symbol" and "python -m" in bad[what].fix


def test_full_disk_and_other_python(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage(10, 10, 0.5e9))
    monkeypatch.setattr(environment.sys, "version", "3.10.4 (main)")
    assert {what: check.found for what, check in failures(check_environment()).items()} == {
        "Free disk": "0.5 GB",
        "Python": "3.10.4",
    }


def test_not_installed(monkeypatch):
    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", nothing)
    (check,) = check_environment().checks
    assert not check.ok and "pip install -e" in check.fix


def test_command_line():
    done = subprocess.run([sys.executable, "-m", "ferkit.doctor.environment"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "Everything the notebooks need is here."
