"""The site: ``sphinx-build -W -n -c docs . build/site``, from the root of the repository.

The repository's root is the source, so that a link from a page to a result, a model card or a file is the same path
here as on a code host, and is checked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

import limbeck

sys.path.insert(0, os.path.dirname(__file__))
from notebooks import notebook

TUTORIALS = "docs/tutorials/"

project = "limbeck"
author = copyright = "limbeck contributors"
version = release = limbeck.__version__

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "results/**.md",
    "datasets/**.md",
    "examples/**.md",
    "src/limbeck/models/**.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [
    "docs/README.md",  # included by docs/index.rst
    *(".venv*", "build"),  # or they would be searched
]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_rtype = False
# Types of other projects are not looked up: a build must not need the network.
nitpick_ignore_regex = [("py:.*", r"(?!limbeck).*")]

html_theme = "furo"
html_title = "limbeck"
html_show_sphinx = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon
    app.connect("source-read", link_notebook)
    app.connect("doctree-read", as_on_a_code_host)
    app.connect("build-finished", finish)


def keep_colons(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon in an attribute's first line for its type."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")


def as_on_a_code_host(app: Sphinx, document: nodes.document) -> None:
    """A link to a folder leads to its README.md, or is no link; pages outside of docs/ are not in the navigation."""
    if not app.env.docname.startswith("docs/"):
        app.env.metadata[app.env.docname]["orphan"] = True
    for link in list(document.findall(pending_xref)):
        if link["reftype"] != "myst":
            continue
        folder = os.path.normpath(os.path.join(os.path.dirname(link["refdoc"]), link["reftarget"]))
        page = os.path.join(folder, "README")
        if page in app.env.found_docs:
            link["refdomain"], link["reftarget"], link["reftargetid"] = "doc", page, None
        elif link.get("refdomain") is None and (Path(app.srcdir) / folder).is_dir():
            link.replace_self(link.children)


def link_notebook(app: Sphinx, page: str, source: list[str]) -> None:
    if page.startswith(TUTORIALS):
        name = page.removeprefix(TUTORIALS)
        source[0] += f'\n<a href="../../notebooks/{name}.ipynb" download>This page as a notebook</a>\n'


def finish(app: Sphinx, error: Exception | None) -> None:
    """The notebooks, and the way from the site's root to its start page."""
    if error is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    page = '<!doctype html><title>limbeck</title><meta http-equiv="refresh" content="0; url=docs/index.html">\n'
    (site / "index.html").write_text(page, encoding="utf-8")
    (site / "notebooks").mkdir(exist_ok=True)
    for tutorial in sorted((Path(app.srcdir) / TUTORIALS).glob("*.md")):
        nbformat.write(notebook(tutorial), site / "notebooks" / f"{tutorial.stem}.ipynb")
