"""The page on the public surface, the reference and what the pages import speak of the same modules."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def _public() -> set[str]:
    """Modules of the table of docs/api.md: `frpipe.a.b`, `.c` is frpipe.a.b and frpipe.a.c."""
    found = set()
    for row in re.findall(r"^\| (`frpipe[^|]*) \|", (DOCS / "api.md").read_text(), re.MULTILINE):
        first, *others = re.findall(r"`([\w.]+)`", row)
        package = first.rpartition(".")[0]
        found |= {first, *(f"{package}{name}" if name.startswith(".") else name for name in others)}
    return found


def test_public_modules_are_there_and_in_the_reference() -> None:
    public = _public()
    assert len(public) > 30
    assert all(import_module(name).__doc__ for name in public - {"frpipe.testing"})
    pages = (path.read_text() for path in (DOCS / "reference").glob("*.md"))
    assert {name for page in pages for name in re.findall(r"automodule:: (\S+)", page)} == public


def test_what_the_pages_import_is_public() -> None:
    public = _public()
    private = set()
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for module, names in re.findall(r"^ *from (frpipe[\w.]*) import (.*)$", block, re.MULTILINE):
                modules = {f"{module}.{name.strip()}" for name in names.split(",")}
                if module not in public and not modules <= public:
                    private.add(f"{page.name}: {module}")
    assert not private
