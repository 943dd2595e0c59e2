"""How `make docs` builds the site: with Sphinx, from the Markdown pages beside this and from docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from frpipe import __version__

project = "frpipe"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]

html_theme = "furo"
html_title = f"frpipe {__version__}"
html_show_sourcelink = False
html_show_copyright = False

# So that `page.md#heading` is found as GitHub finds it.
myst_heading_anchors = 4
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
# `name` in a docstring is code.
default_role = "code"


ROOT = Path(__file__).resolve().parent.parent
# Pages of the site that lie above this folder.
ABOVE = {"readme": "README.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", take_pages_from_above)
    app.connect("autodoc-process-docstring", make_rst)


def take_pages_from_above(_app: object, page: str, source: list[str]) -> None:
    """Put the README and its like in the place of their stubs, and turn links to them into links to these."""
    if page in ABOVE:
        source[0] = (ROOT / ABOVE[page]).read_text(encoding="utf-8").replace("](docs/", "](")
    for name, path in ABOVE.items():
        source[0] = re.sub(rf"\]\((?:\.\./)*{path}", f"]({'../' * page.count('/')}{name}.md", source[0])


def make_rst(*told: Any) -> None:
    """Turn a docstring into reStructuredText, in place: ours are plain text, lists and indented blocks.

    told: what Sphinx tells of an object; the lines of its docstring come last.
    """
    lines: list[str] = told[-1]
    done: list[str] = []
    kind = ""
    for line in lines:
        before = kind
        if line.startswith("- "):
            kind = "list"
        elif line.startswith(" "):
            kind = kind if kind in {"list", "block"} else "block"
        else:
            kind = "text" if line else kind and "blank"
        if kind != before:
            done += ["", "::", ""] if kind == "block" else [""]
        done.append(f"    {line}" if kind == "block" else _escaped(line))
    lines[:] = [*done, ""]


def _escaped(line: str) -> str:
    """The line with what would be markup escaped, but for what stands between backticks."""
    pieces = line.split("`")
    pieces[::2] = [re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)
