"""How the book is set: `book/build.py` writes its sources into build/book/source and runs Sphinx with this file."""

from docutils import nodes
from latex2mathml.converter import convert

from ferkit import __version__
from notebooks.words import BIBLIOGRAPHY

project = "ferkit"
author = "The ferkit authors"
copyright = "the ferkit authors, MIT licence"
version = release = __version__
language = "en"

extensions = ["myst_nb", "sphinx_design", "sphinxcontrib.bibtex"]
nb_execution_mode = "off"  # the notebooks are executed and committed; the book only shows them
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
bibtex_bibfiles = [str(BIBLIOGRAPHY)]
bibtex_reference_style = "author_year"

html_theme = "sphinx_book_theme"
html_title = "Facial expressions, four papers, run in front of you"
html_theme_options = {
    "navigation_with_keys": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
}
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_favicon = "_static/face.svg"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_copy_source = False
html_show_sourcelink = False


def _mathml(display: str):
    """Formulas as MathML, which browsers draw by themselves: MathJax would be fetched from the web by every reader."""

    def visit(translator, node: nodes.Element) -> None:
        formula = convert(node.astext(), display=display)
        translator.body.append(f'<div class="formula">{formula}</div>' if display == "block" else formula)
        raise nodes.SkipNode

    return visit


def setup(app) -> None:
    """Register the renderer of formulas."""
    app.add_html_math_renderer("mathml", (_mathml("inline"), None), (_mathml("block"), None))
    app.config.html_math_renderer = "mathml"
