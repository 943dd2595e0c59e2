"""Words that people write for the two kinds of trial."""

from __future__ import annotations

MATED = frozenset({"true", "1", "1.0", "yes", "t", "y", "mated", "same", "genuine", "positive"})
NONMATED = frozenset(
    {"false", "0", "0.0", "-1", "no", "f", "n", "non-mated", "nonmated", "different", "impostor", "negative"}
)


def truth(word: str) -> bool | None:
    """The truth value of a word, whatever its case and the blanks around it; None for any other word."""
    folded = word.strip().casefold()
    return True if folded in MATED else False if folded in NONMATED else None
