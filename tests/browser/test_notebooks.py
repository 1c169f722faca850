"""The notebooks with controls in a real JupyterLab: run all, move every control, and hear no error."""

import shutil

import pytest

from notebooks import build
from tests.browser.test_lab import ENVIRONMENT, PICTURES
from tests.support.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
NUMBERS = ("10", "11", "12", "13")  # the others are in test_notebooks_diversity.py, so that two workers share them
WITH_CONTROLS = [e for e in build.read_manifest() if e.number in NUMBERS]


@pytest.mark.parametrize("entry", WITH_CONTROLS, ids=lambda e: e.slug)
def test_every_control_of_a_notebook_moves(entry, tmp_path):
    move_everything(entry, tmp_path)


def move_everything(entry, tmp_path):
    """Opens a notebook, runs it, moves each of its controls, and refuses every error, on the page and in the console.
    """
    shutil.copy(entry.path, tmp_path)
    with Lab(tmp_path, ENVIRONMENT) as lab:
        lab.open(entry.path.name)
        lab.run_all(400)
        assert lab.output_errors() == []
        moved = lab.move_every_control()
        assert moved >= 2, "no controls were found"
        assert lab.drawn(), "no control drew a picture"
        assert lab.complaints() == []
        lab.screenshot(PICTURES / f"{entry.slug}.png")
        assert lab.output_errors() == [] and lab.errors == []
