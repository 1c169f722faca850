"""Notebook 21 in a real JupyterLab, as a reader uses it: a face, no picture, no face, the camera, and a reload."""

import shutil

import numpy as np
import pytest
from PIL import Image

from ferkit.faces import portrait
from notebooks import build
from tests.browser.test_lab import ENVIRONMENT, PICTURES
from tests.support.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_face_is_uploaded_and_looked_at(tmp_path):
    (entry,) = (e for e in build.read_manifest() if e.number == "21")
    shutil.copy(entry.path, tmp_path)
    Image.fromarray(portrait()).save(tmp_path / "astronaut.png")
    Image.fromarray(np.full((240, 320, 3), 127, np.uint8)).save(tmp_path / "wall.png")
    (tmp_path / "notes.png").write_text("this is no picture\n")
    with Lab(tmp_path, ENVIRONMENT, camera=True) as lab:
        lab.open(entry.path.name)
        lab.run_all(400)
        assert lab.output_errors() == []
        page = lab.page

        def says(text):
            page.locator(".jupyter-widgets").get_by_text(text).first.wait_for(timeout=60_000)

        lab.upload(tmp_path / "astronaut.png")
        says("One face found")
        answers = lab.drawn()
        assert answers, "no bars were drawn"
        lab.screenshot(PICTURES / "21-answers.png")

        page.get_by_role("tab", name="where it looks").click()
        lab.settle()
        lab.choose("network", "resemotenet fer2013-teach")  # it has many layers
        before = lab.drawn()
        lab.choose("target", "sadness")
        by_class = lab.drawn()
        assert by_class != before, "another class drew the same map"
        lab.choose("target", "predicted")
        assert lab.drawn() == before, "the same class drew another map"
        lab.choose("target", "sadness")
        lab.choose("layer", lab.control("layer").locator("option").nth(2).inner_text())
        assert lab.drawn() != by_class, "another layer drew the same map"
        lab.screenshot(PICTURES / "21-where-it-looks.png")

        for view in ("side by side", "hide a part", "small changes", "faces found"):
            page.get_by_role("tab", name=view).click()
            lab.settle()
            lab.screenshot(PICTURES / f"21-{view.replace(' ', '-')}.png")

        lab.upload(tmp_path / "notes.png")
        says("not a picture that can be read; copy it again, or export it as JPEG or PNG")
        says("What was there before stays.")
        assert len(lab.complaints()) == 1
        lab.screenshot(PICTURES / "21-no-picture.png")
        lab.upload(tmp_path / "wall.png")
        says("No face found, so the whole picture is used.")
        lab.screenshot(PICTURES / "21-no-face.png")

        page.get_by_role("button", name="Camera").click()
        page.get_by_role("button", name="Take the picture").wait_for()
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Take the picture").click()
        page.get_by_role("button", name="Camera", exact=True).wait_for()
        lab.settle()
        page.get_by_role("tab", name="faces found").click()
        lab.settle()
        lab.screenshot(PICTURES / "21-camera.png")
        assert lab.complaints() == []
        assert lab.output_errors() == [] and lab.errors == []

        page.reload()
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        lab.wait_idle(90)
        assert lab.errors == []
    left = {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")}
    assert left == {entry.path.name, "astronaut.png", "wall.png", "notes.png"}, "an uploaded picture was written"
