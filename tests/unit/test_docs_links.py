"""Every link of the documentation leads somewhere, and every page that it names is linked.

`python tests/unit/test_docs_links.py` turns names of pages into links.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
# Code in blocks and in lines, comments: what is shown as it is, and links nowhere.
_CODE = re.compile(r"^```.*?^```[^\n]*$|`[^`\n]*`|<!--.*?-->", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_NAMED = re.compile(r"(?<![\w/])docs/(?:adr/(\d{4})(?:-[\w-]+\.md)?|([\w/-]+)\.md)")


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _prose(page: Path) -> str:
    """The page with code blanked out, so that places stay the same."""
    return _CODE.sub(_blank, _text(page))


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


@cache
def _anchors(page: Path) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```[^\n]*$", "", _text(page), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _title(page: Path) -> str:
    """What a link calls the page: its heading, without what comes after a colon."""
    title = _text(page).partition("\n")[0].removeprefix("# ")
    if page.parent.name == "adr":
        return f"ADR {int(page.name[:4])}"
    return title.partition(":")[0]


def _linked(page: Path) -> str:
    """The page with the names of other pages turned into links."""
    text, at = _text(page), 0
    done = []
    for found in _NAMED.finditer(_LINK.sub(_blank, _prose(page))):
        start = found.start()
        record, name = found.groups()
        target = next(DOCS.glob(f"adr/{record}-*.md")) if record else DOCS / f"{name}.md"
        shown = text[start : found.end()] if page.parent == ROOT else _title(target)
        done += [text[at:start], f"[{shown}]({_relative(target, page)})"]
        at = found.end()
    return "".join([*done, text[at:]])


def _relative(target: Path, page: Path) -> str:
    return Path(os.path.relpath(target, page.parent)).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    dead = []
    for target in _LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in _anchors(place)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_that_is_named_is_linked(page: Path) -> None:
    assert _linked(page) == _text(page), "run: python tests/unit/test_docs_links.py"


def test_the_contents_name_every_page() -> None:
    listed = set(re.findall(r"^([\w-]+)$", _text(DOCS / "index.md"), re.MULTILINE))
    assert listed == {page.stem for page in DOCS.glob("*.md")} - {"index"}
    in_readme = set(re.findall(r"\(docs/([\w-]+)\.md\)", _text(ROOT / "README.md")))
    # These show on the site what lies elsewhere in the project.
    stubs = {"index", "readme", "contributing", "changelog", "decisions", "reference"}
    assert in_readme >= {page.stem for page in DOCS.glob("*.md")} - stubs


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(_linked(page), encoding="utf-8")
