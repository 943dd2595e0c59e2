"""Counts for people: `1 photo is`, `2,000 photos are`."""

from __future__ import annotations

_OF_ONE = {
    "people": "person",
    "are": "is",
    "were": "was",
    "have": "has",
    "do": "does",
    "come": "comes",
    "differ": "differs",
}


def counted(count: int, words: str) -> str:
    """The count before a noun, and a verb behind it, if there is one. words: both in the plural."""
    noun, *verb = words.split()
    if count == 1:
        noun, verb = _one(noun), [_OF_ONE.get(word, word) for word in verb]
    return " ".join((f"{count:,}", noun, *verb))


def _one(noun: str) -> str:
    if noun in _OF_ONE:
        return _OF_ONE[noun]
    return f"{noun[:-3]}y" if noun.endswith("ies") else noun.removesuffix("s")
