"""How the pages become a site: ``sphinx-build -c docs -W . build/site``.

The source folder is the repository, so that links between pages, notebooks and the README are the same here and on a
code host. Sphinx with MyST reads the Markdown as it is, autodoc the docstrings, and MyST-NB shows notebooks with their
stored outputs. Furo brings search, dark mode and a page that fits a phone.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cerebelum_nb import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "cerebelum_nb"
author = "the cerebelum_nb authors"
project_copyright = author
version = release = __version__

root_doc = "README"
include_patterns = ["*.md", "docs/**", "notebooks/*.ipynb", "benchmarks/README.md"]
exclude_patterns = [".*", "artifacts", "binder", "build", "cerebelum_nb", "constraints", "dist", "tests"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nb_execution_mode = "off"  # they are executed by the tests, which compare what they show with what is stored
nb_merge_streams = True
napoleon_use_ivar = True
suppress_warnings = [
    "misc.highlighting_failure",  # lines of notebooks with ! or %
    "ref.python",  # "type" in a signature is what Python calls so, not an attribute of that name
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"cerebelum_nb {__version__}"
html_additional_pages = {"index": "index.html"}
templates_path = ["_templates"]
html_show_sphinx = False

CONTENTS = {
    "Learn": ["docs/index", "docs/es", "notebooks/*"],
    "Understand": ["docs/semantics", "docs/ownership", "docs/testing", "docs/glossary"],
    "Do": ["docs/howto/*", "docs/operations", "docs/cluster"],
    "Look up": ["docs/cli", "docs/profile", "docs/reference/*", "benchmarks/README", "CHANGELOG", "CONTRIBUTING"],
}
"""What the side bar shows; a page that is in none of these is an error."""

MODULES = sorted({page.stem for page in Path(__file__).with_name("reference").glob("*.md")} - {"cerebelum_nb"})


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Give the root page the contents of the site, which Markdown has no words for."""
    if page == root_doc:
        source[0] += "".join(
            f"\n\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"
            for caption, pages in CONTENTS.items()
        )


def is_told_elsewhere(
    app: Sphinx, what: str, name: str, thing: object, skip: bool | None, options: object
) -> bool | None:
    """Leave out of the package's page what has a page of its module: each name has one place."""
    if what != "module" or app.env.docname != "docs/reference/cerebelum_nb":
        return skip
    return skip or any(name in getattr(import_module(f"cerebelum_nb.{module}"), "__all__", ()) for module in MODULES)


def complete_raises(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Name an error where a docstring says that the errors are those of another: napoleon reads no sentences there."""
    inside = False
    for number, line in enumerate(lines):
        if re.match(r"\S", line):
            inside = line.startswith("Raises:")
        elif inside and (found := re.match(r"(\s+)(As|Otherwise as) (.*)", line)):
            lines[number] = f"{found[1]}CerebelumError: {found[2].lower()} {found[3]}"
        elif inside and line.strip() and not re.match(r"\s+\w+: ", line) and "CerebelumError: " in lines[number - 1]:
            lines[number] = f"    {line}"


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-skip-member", is_told_elsewhere)
    app.connect("autodoc-process-docstring", complete_raises, priority=100)  # before napoleon
