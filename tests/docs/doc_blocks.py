"""The code blocks of the documentation: where they stand, and what they hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[\w ]+) -->\n)?```(?P<language>[\w{}-]*)\n(?P<text>.*?)^```$", re.M | re.S
)
_NUMBERS = count()


@dataclass(frozen=True)
class Block:
    """line: of its first line.  why: what it needs and tests do not have; empty: it runs."""

    page: str
    line: int
    language: str
    text: str
    why: str

    @property
    def place(self) -> str:
        """As editors find it."""
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[str]:
        """Command lines of `sh` and `console`, each on one line, without comments and without output."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        yield from (line for line in lines if line and not line.startswith("#"))


def blocks_of(page: Path) -> list[Block]:
    text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
    return [
        Block(name, text[: found.start("text")].count("\n") + 1, found["language"], found["text"],
              found["why"] or "")
        for found in _FENCE.finditer(text)
    ]  # fmt: skip


def words_of(command: str) -> list[str]:
    """Without a comment at its end; `...` is a manifest and a new output."""
    words = shlex.split(command, comments=True)
    if "..." in words:
        at = words.index("...")
        words[at : at + 1] = ["--manifest", "m.parquet", "--output", f"out/{next(_NUMBERS)}"]
    return words
