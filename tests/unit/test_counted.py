"""Counts for people are in the singular where there is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import frpipe
from frpipe.core.counted import counted

# `3 of 1,000 photos` may stay; so may what is never one.
_NOUNS = (
    "photos|faces|people|templates|probes|pairs|persons|subjects|files|rows|ids|entries|digests|units|parts"
)
_UNCOUNTED = re.compile(rf"(?<!\}} of )\{{[^{{}}]+:,\}} ({_NOUNS})\b")
_NEVER_ONE = {
    "matching/threshold.py",
    "gallery/labels.py",
    "cli/gallery_contents.py",
    "io/storage/check.py",
}


@pytest.mark.parametrize(
    ("words", "one", "more"),
    [
        ("photos", "1 photo", "2,000 photos"),
        ("people are", "1 person is", "2,000 people are"),
        ("entries", "1 entry", "2,000 entries"),
        ("copies of them were", "1 copy of them was", "2,000 copies of them were"),
    ],
)
def test_one_is_in_the_singular(words: str, one: str, more: str) -> None:
    assert (counted(1, words), counted(2000, words)) == (one, more)
    assert counted(0, "photos") == "0 photos"


def test_every_count_of_what_may_be_one_is_counted_so() -> None:
    root = Path(frpipe.__file__).parent
    found = [
        f"{path.relative_to(root)}: {match[0]}"
        for path in sorted(root.rglob("*.py"))
        if str(path.relative_to(root)) not in _NEVER_ONE
        for match in _UNCOUNTED.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
