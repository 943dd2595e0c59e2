"""Say which files of a built site would load something from another host: `make docs` ends with this.

    python .ci/check_site.py build/site

Exit code 1: a page, a style sheet or a script does. Links that a reader may follow are none of that.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_REMOTE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
# In style sheets: what is fetched. In scripts: what would make a browser fetch.
_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?\s*((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)
_SCRIPT = re.compile(r"(?:fetch|import|importScripts|\.src\s*=)\s*\(?\s*['\"`]((?:https?:)?//[^'\"`]+)")


def main(arguments: list[str]) -> int:
    found = [line for folder in arguments for line in remote_loads(Path(folder))]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


def remote_loads(site: Path) -> list[str]:
    """`file: address` of everything below that a browser would load from another host."""
    pages = list(site.rglob("*.html"))
    if not pages:
        return [f"{site}: no pages"]
    found = [(page, address) for page in pages for address in _of_page(page)]
    for suffix, pattern in ((".css", _STYLE), (".js", _SCRIPT)):
        for path in site.rglob(f"*{suffix}"):
            found += [(path, address) for address in pattern.findall(path.read_text(encoding="utf-8"))]
    return [f"{path.relative_to(site)}: {address}" for path, address in found]


def _of_page(page: Path) -> list[str]:
    reader = _Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader.found


class _Reader(HTMLParser):
    """Collects remote addresses of every element but `a`, whose links are for readers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attributes:
            if name in {"src", "href", "data", "poster", "action"} and tag != "a":
                self.found += [value] if value and _REMOTE.match(value.strip()) else []
            elif name == "srcset" and value:
                self.found += [part.strip() for part in value.split(",") if _REMOTE.match(part.strip())]
            elif name == "style" and value:
                self.found += _STYLE.findall(value)

    def handle_data(self, data: str) -> None:
        if self._inside in {"style", "script"}:
            self.found += (_STYLE if self._inside == "style" else _SCRIPT).findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
