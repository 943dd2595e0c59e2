"""Words that people write for the two kinds of trial."""

from __future__ import annotations

MATED = frozenset({"true", "1", "1.0", "yes", "t", "y", "mated", "same", "genuine", "positive"})
NONMATED = frozenset(
    {"false", "0", "0.0", "-1", "no", "f", "n", "non-mated", "nonmated", "different", "impostor", "negative"}
)


def truth(word: str) -> bool | None:
    """What a word says, whatever its case and blanks around it; None: neither."""
    folded = word.strip().casefold()
    return True if folded in MATED else False if folded in NONMATED else None
