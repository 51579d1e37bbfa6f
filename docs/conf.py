"""`make docs` builds these pages, with a reference out of the docstrings."""

import re
from typing import Any

from sphinx.application import Sphinx

import drawnet

project = "drawnet"
author = "The drawnet authors"
copyright = "2026, The drawnet authors"
release = drawnet.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinxcontrib.katex",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"drawnet {release}"
html_math_renderer = "katex"

# Nothing on these pages comes from another machine: equations become MathML, with its fonts.
katex_options = 'output: "mathml"'
katex_css_path = "math.css"
html_static_path = ["static"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"
autosummary_generate = False
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True


def setup(app: Sphinx) -> None:
    """Docstrings are written to be read as they stand. What Sphinx must be told of them is here."""
    app.connect("autodoc-process-docstring", prepare, priority=1)
    app.connect("autodoc-skip-member", skip_fields)


def prepare(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Before napoleon reads a docstring, mark what it and reStructuredText would misread."""
    # An empty comment first, for of an attribute what comes before a colon is taken for its type.
    text = ["..", ""] if what in ("attribute", "data", "property") else []
    for line in lines:
        said = [before for before in text if before.strip()]
        begins = said and line.strip() and not text[-1].strip()
        if begins and indent(line) > indent(said[-1]) and not said[-1].endswith("::"):
            # A paragraph that is indented is an equation or a table: as it is written.
            text += [" " * indent(said[-1]) + "::", ""]
        if said and said[-1].strip() == "Returns:":
            line = re.sub(r"(?=\S)", ": ", line, count=1)  # what comes before a colon is no type
        line = re.sub(r"^(\s+\w+), (\w+: )", r"\1,\2", line)  # two fields with one description
        line = re.sub(r": ([A-Z]\.)$", r": \\\1", line)  # a letter, not a list
        text.append(line.replace(" |z| ", r" \|z\| "))
    lines[:] = text


def indent(line: str) -> int:
    """How many spaces a line begins with."""
    return len(line) - len(line.lstrip())


def skip_fields(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: Any
) -> bool | None:
    """The fields of a named tuple are told in its docstring."""
    return True if type(obj).__name__ == "_tuplegetter" else None
