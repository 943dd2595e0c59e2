"""Estimate the memory of workers that compare two blocks of vectors at a time."""

from __future__ import annotations

from dataclasses import dataclass

# Blocks that a worker holds, and one more while it is read.
_HELD, _READ = 2, 1
# As `frpipe.matching.pairs`: rows in the form of a kernel that are kept.
_MOST_FORMS = 256 << 20
# A tile of scores: rows of both sides, bytes of a score, and what is found in it.
_TILE, _SCORE_BYTES, _FOUND = (1024, 4096), 4, 1.5


@dataclass(frozen=True, slots=True)
class BlockMemory:
    """Sizes that decide the memory of a worker, in bytes.

    rows: of the largest block, a number.  vectors, texts: of the same.  forms: its rows in the form of the
    kernel; 0 where it has none.
    mapped: of all files that workers map instead of having copies of their vectors; 0: they have copies.
    stored: whether forms are mapped.
    """

    rows: int
    vectors: int
    texts: int
    forms: int = 0
    mapped: int = 0
    stored: bool = False

    def held_mb(self, _workers: int) -> float:
        """Memory of a worker."""
        held: float = (_HELD + _READ) * self.texts
        if not self.mapped:
            held += (_HELD + _READ) * self.vectors
        if not self.stored:
            held += min(_MOST_FORMS, self.forms)
        high, wide = (min(self.rows, side) for side in _TILE)
        return (held + _FOUND * _SCORE_BYTES * high * wide) / 1e6

    def mapped_mb(self, workers: int) -> float:
        """Memory of what workers of one node map."""
        forms = workers * _HELD * self.forms if self.stored else 0
        return min(self.mapped, workers * _HELD * (self.vectors + self.texts)) / 1e6 + forms / 1e6
