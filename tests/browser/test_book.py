"""The book: built without a warning, no link broken, and read in a browser as a reader would,
on a screen and on a phone.
"""

import functools
import http.server
import importlib.util
import re
import subprocess
import threading
from dataclasses import replace

import nbformat
import pytest

from notebooks import build
from tests.support import demo
from tests.support.lab import browser_or_skip

PICTURES = build.ROOT / "build" / "browser"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def book():
    """book/build.py as a module."""
    spec = importlib.util.spec_from_file_location("book_build", build.ROOT / "book" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def demo_chapter(folder):
    """The demonstration in the form of a chapter, built in a folder of its own."""
    (folder / "py").mkdir()
    entry = replace(demo.entry("12_form"), folder=folder)
    entry.source.write_bytes(demo.entry("12_form").source.read_bytes())
    nbformat.write(demo.built("12_form"), entry.path)
    return entry


@pytest.fixture(scope="module")
def site(book, tmp_path_factory):
    """The whole book, with the demonstration as one more chapter; a warning of Sphinx fails here."""
    entries = [*build.read_manifest(), demo_chapter(tmp_path_factory.mktemp("demo"))]
    return book.build(tmp_path_factory.mktemp("book"), entries)


# -------------------------------------------------------------------------------------------------------- what is built


def test_every_chapter_and_page_is_there_and_no_link_is_broken(book, site):
    names = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    expected = {f"chapters/{entry.slug}.html" for entry in build.read_manifest()}
    expected |= {
        "index.html",
        "glossary.html",
        "results.html",
        "bibliography.html",
        "data.html",
        "search.html",
        "ledger/resemotenet.html",
    }
    assert expected <= names
    assert book.broken_links(site) == []


def test_a_chapter_has_figures_references_citations_terms_and_rows(site):
    page = (site / "chapters" / "12_form.html").read_text(encoding="utf-8")
    for part in (
        '<figure class="align-default" id="figure-12-1">',
        'alt="A diagram: x goes to a multiplication',
        '<a class="reference internal" href="#figure-12-1">',
        '<a class="reference internal" href="#table-12-1">',
        'href="../bibliography.html#',
        'href="../glossary.html#sigmoid"',
        'href="../ledger/resemotenet.html#re-eq2"',
        "38.9\u00a0%",
    ):
        assert part in page, part
    assert "{{" not in page and "{fig:" not in page and "vnd.ferkit" not in page and "Contents]" not in page
    assert page.count("<summary>Solution</summary>") == 3


def test_a_broken_link_is_found(book, tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a><a href="https://example.org/gone">x</a><p id="here"></p>'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html#here">x</a>')
    assert book.broken_links(tmp_path) == []
    (tmp_path / "b.html").write_text('<a href="a.html#gone">x</a><img src="c.png">')
    assert book.broken_links(tmp_path) == [
        "a.html: b.html#there leads to no place on its page",
        "b.html: a.html#gone leads to no place on its page",
        "b.html: c.png leads to no file",
    ]


def test_a_stale_chapter_and_a_warning_stop_the_build(book, tmp_path):
    entry = demo_chapter(tmp_path)
    text = entry.source.read_text()
    entry.source.write_text(text.replace("squares = values**2", "squares = values**3"))
    with pytest.raises(ValueError, match="shows outputs of other code"):
        book.chapter(entry, tmp_path)
    source = tmp_path / "source"
    (source / "_static").mkdir(parents=True)
    (source / "index.md").write_text("# A page\n\nAs {cite:p}`senet` says.\n\n```{bibliography}\n```\n")
    book.typeset(source, tmp_path / "good")
    (source / "index.md").write_text("# A page\n\n[nowhere](gone.md)\n")
    with pytest.raises(subprocess.CalledProcessError):
        book.typeset(source, tmp_path / "bad")


def test_links_of_the_repository_become_links_of_the_book(book):
    for text, shown in (
        ("[n](10_resemotenet.ipynb#x)", "[n](10_resemotenet.ipynb#x)"),
        ("[d](../data/README.md)", "[d](../data.md)"),
        ("[r](../README.md#measured-results)", "[r](../results.md)"),
        ("[w](../data/weights/a.md)", "[w](../weights/a.md)"),
        ("[b](../benchmarks/a.py)", "b (`benchmarks/a.py`)"),
        ("[g](../book/glossary.md#gate)", "[g](../glossary.md#gate)"),
        ("[l](../book/ledger/lfnsb.md#lf-lfn)", "[l](#lf-lfn)"),
        ("[o](https://example.org/README.md)", "[o](https://example.org/README.md)"),
    ):
        assert book.relinked(text, "..") == shown


# --------------------------------------------------------------------------------------------------- what a reader does


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    path = browser_or_skip()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture
def page(browser, address, request):
    """A page of the size and colour scheme in `request.param` (width, height, scheme); nothing may come from elsewhere.
    """
    width, height, scheme = getattr(request, "param", (1280, 900, "light"))
    opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    heard = []
    opened.on("console", lambda message: heard.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: heard.append(str(error)))
    opened.on(
        "request",
        lambda asked: None if asked.url.startswith((address, "data:")) else heard.append(f"asks for {asked.url}"),
    )
    yield opened
    opened.close()
    assert heard == []


browsers = pytest.mark.browser
both = pytest.mark.parametrize(
    "page", [(1280, 900, "light"), (390, 844, "dark")], indirect=True, ids=["screen", "phone"]
)


@browsers
@both
def test_a_reader_searches_unfolds_and_follows_a_reference(page, address):
    page.goto(f"{address}/chapters/12_form.html")
    code = page.locator("details.hide").first
    assert not code.locator("pre").is_visible()
    code.locator("summary").click()
    assert code.locator("pre").is_visible() and "import numpy" in code.locator("pre").inner_text()
    solution = page.locator("details:not(.hide)", has=page.get_by_text("Solution", exact=True)).first
    solution.locator("summary").click()
    assert solution.get_by_text("above a half").is_visible()
    page.get_by_role("link", name="Figure 12.2").first.click()
    assert page.url.endswith("#figure-12-2")
    page.wait_for_function(
        "() => { const box = document.querySelector('#figure-12-2').getBoundingClientRect(); return box.top >= 0 && "
        "box.top < innerHeight; }"
    )
    caption = page.locator("#figure-12-2 figcaption").inner_text()
    assert caption.startswith("Figure 12.2. The mean (dashed) falls to 0.30.")
    page.get_by_role("link", name="sigmoid").first.click()
    page.wait_for_url(re.compile(r"glossary\.html#sigmoid"))
    page.goto(f"{address}/search.html?q=determinant")
    page.locator("#search-results li a").first.wait_for()
    found = page.locator("#search-results li").all_inner_texts()
    assert any("Diversified" in text for text in found), found
    page.locator("#search-results li a", has_text="14 · Diversified ESR").first.click()
    page.wait_for_url(re.compile(r"chapters/14_diversified_esr\.html"))


@browsers
@both
@pytest.mark.parametrize(
    "name", ["index", "chapters/10_resemotenet", "chapters/12_form", "ledger/resemotenet", "results"]
)
def test_no_page_scrolls_sideways(page, address, name):
    page.goto(f"{address}/{name}.html")
    page.wait_for_timeout(300)
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(PICTURES / f"book-{name.rpartition('/')[2]}-{page.viewport_size['width']}.png"))
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


@browsers
def test_88_columns_fit_and_formulas_and_the_next_chapter_are_there(page, address):
    page.goto(f"{address}/chapters/03_attention_is_reweighting.html")
    room = page.evaluate(
        "() => { const pre = document.querySelector('.cell_input pre'), probe = document.createElement('span'); "
        "probe.textContent = 'x'.repeat(88); probe.style.whiteSpace = 'pre'; pre.appendChild(probe); const wide = "
        "probe.getBoundingClientRect().width; probe.remove(); const style = getComputedStyle(pre); return "
        "pre.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - wide; }"
    )
    assert 0 <= room < 400
    formula = page.locator(".formula math mrow").first.bounding_box()
    assert 100 < formula["width"] < 700 and 10 < formula["height"] < 100
    page.locator(".right-next").click()
    page.wait_for_url(re.compile(r"chapters/10_resemotenet\.html"))
    page.locator(".left-prev").click()
    page.wait_for_url(re.compile(r"chapters/03_"))


def test_the_command_reports_broken_links(book, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(book, "build", lambda out: tmp_path)
    (tmp_path / "a.html").write_text('<a href="b.html">x</a>')
    assert book.main() == 1 and "a.html: b.html leads to no file" in capsys.readouterr().out
    (tmp_path / "b.html").write_text("")
    assert book.main() == 0 and "index.html" in capsys.readouterr().out
