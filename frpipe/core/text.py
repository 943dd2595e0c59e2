"""The form in which ids and attributes are compared: Unicode NFC.

One name can be written in several ways that look the same: 김 as one character, or as the three letters that
macOS writes into the names of files. Whatever enters is brought to NFC, so that what looks the same is the
same. Nothing else is changed: letter case, blanks and look-alikes of other scripts tell ids apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def canonical_text(text: str) -> str:
    """The text in NFC. A lone surrogate stays as it is."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def likeness(text: str) -> str:
    """Reduce a text to what is left without case, blanks, invisible characters and compatibility forms.

    Two ids with the same likeness are two ids, but may be meant as one.
    """
    if text.isascii() and text.isprintable():  # what follows takes thirty times as long
        return text.lower().replace(" ", "")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in folded if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf"))


def alike(texts: Iterable[str]) -> list[list[str]]:
    """Groups of different texts that have one likeness, each sorted; the groups too."""
    groups: dict[str, set[str]] = {}
    for text in texts:
        groups.setdefault(likeness(text), set()).add(text)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
