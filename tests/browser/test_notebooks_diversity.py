"""As test_notebooks.py, for the notebooks on diversity."""

import pytest

from notebooks import build
from tests.browser.test_notebooks import move_everything

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
WITH_CONTROLS = [e for e in build.read_manifest() if e.number in ("14", "15", "22")]


@pytest.mark.parametrize("entry", WITH_CONTROLS, ids=lambda e: e.slug)
def test_every_control_of_a_notebook_moves(entry, tmp_path):
    move_everything(entry, tmp_path)
