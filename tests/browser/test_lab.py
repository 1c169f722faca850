"""In a real JupyterLab: the harness hears errors and moves controls, and notebook 00 runs without a complaint."""

import shutil

import nbformat
import pytest

from notebooks import build
from tests.support import demo
from tests.support.lab import Lab

PICTURES = build.ROOT / "build" / "browser"
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(400)]
ENVIRONMENT = {"FERKIT_PROFILE": "smoke", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def test_a_control_moves_and_an_exception_in_it_is_heard(tmp_path):
    nbformat.write(demo.source(), tmp_path / "good.ipynb")
    bad = demo.source()
    cell = demo.cell(bad, "interact(")
    cell.source = cell.source.replace('print(f"sum {sum(values**power):.4f}")', "1 / (3 - power)")
    nbformat.write(bad, tmp_path / "bad.ipynb")
    with Lab(tmp_path, ENVIRONMENT) as lab:
        lab.open("good.ipynb")
        lab.run_all()
        assert lab.output_errors() == [] and lab.errors == []
        shown = lab.page.locator(".widget-output").inner_text()
        assert shown.strip() == "sum 1.0000"
        lab.press("power", "ArrowRight")
        assert lab.page.locator(".widget-output").inner_text().strip() == f"sum {(1 + 4 + 9) / 36:.4f}"
        lab.open("bad.ipynb")
        lab.run_all()
        assert lab.output_errors() == []
        lab.press("power", "ArrowRight", times=2)
        assert "ZeroDivisionError" in lab.output_errors()[0]
        lab.page.evaluate("() => { console.error('heard'); }")
        assert lab.errors and "heard" in lab.errors[-1]


def test_notebook_00(tmp_path):
    (entry,) = (e for e in build.read_manifest() if e.number == "00")
    assert entry.path.is_file(), f"{entry.path.name} is missing: make notebooks N=00"
    shutil.copy(entry.path, tmp_path)
    with Lab(tmp_path, ENVIRONMENT) as lab:
        lab.open(entry.path.name)
        lab.run_all(180)
        lab.page.locator(".jp-OutputArea-output img").last.scroll_into_view_if_needed()
        lab.screenshot(PICTURES / f"{entry.slug}.png")
        assert lab.output_errors() == []
        assert lab.errors == []
        pictures = [o for o in lab.outputs() if "image/png" in o.get("data", {})]
        assert pictures, "no figure was drawn"


def test_a_chapter_in_jupyterlab(tmp_path):
    """As it is stored: records leave no mark, code is folded, captions stand below;
    then its control moves beside the strip.
    """
    nbformat.write(demo.built("12_form"), tmp_path / "form.ipynb")
    with Lab(tmp_path, ENVIRONMENT) as lab:
        lab.open("form.ipynb")
        page = lab.page
        recorded = page.locator(".jp-CodeCell", has_text='record("squares_frac"')
        assert recorded.locator(".jp-Cell-outputArea").inner_text().strip() == ""
        assert recorded.locator(".jp-OutputArea-output:visible").count() == 0
        assert page.get_by_text("Figure 12.1. A gate multiplies what passes.").count() == 1
        assert page.get_by_text("Table 12.1. A square is below its number").count() == 1
        folded = page.locator(".jp-CodeCell", has=page.locator(".jp-Placeholder, .jp-InputPlaceholder"))
        assert folded.count() == sum("hide-input" in build.tags(cell) for cell in demo.built("12_form").cells) == 4
        solution = page.locator(".jp-MarkdownCell details", has_text="A square is above a quarter where").last
        assert not solution.locator("p").first.is_visible()
        solution.locator("summary").click()
        assert solution.locator("p").first.is_visible()
        lab.run_all(120)
        assert lab.output_errors() == []
        assert len(lab.drawn()) == 1
        before = lab.drawn()
        lab.press("power", "ArrowRight")
        assert lab.drawn() != before and lab.complaints() == []
        page.locator(".jupyter-widgets img:visible").first.scroll_into_view_if_needed()
        lab.screenshot(PICTURES / "lab-12_form.png")
        assert lab.errors == []
