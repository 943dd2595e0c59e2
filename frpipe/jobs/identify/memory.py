"""Estimate the memory of the workers of a search."""

from __future__ import annotations

from dataclasses import dataclass

# Bytes of a candidate, from its score to its row of the result.
_CANDIDATE_BYTES = 300
# Forms of a probe's vector: as it is, in float64, and as the kernel takes it; and times that it is held while
# a unit is read, with its other columns: as a file, as a table, and what is taken of it.
_VECTOR_BYTES = 4 + 8 + 4
_READ, _COLUMN_BYTES = 3, 700
# The initial sample: probes and rows, bytes of a score, and what is found in them.
_PROBES, _ROWS, _SCORE_BYTES, _FOUND = 1024, 4096, 4, 2.5
# A shard in use, and the next.
_SHARDS = 2


@dataclass(frozen=True, slots=True)
class SearchMemory:
    """Sizes that decide the memory of a search, in bytes but for `probes` and `listed`, which are numbers.

    probes: of the largest unit, of `dim` numbers.  listed: candidates of each.  shards: of the gallery.
    forms: all its rows in the form of the kernel, 0 where it has none.  copied: whether each worker has
    shards in its own memory, decrypted or fetched, and no map of them.  stored: whether forms are mapped.
    hold: of copied shards, and again of forms, that a worker keeps.
    """

    probes: int
    dim: int
    listed: int
    shards: tuple[int, ...]
    forms: int
    copied: bool
    stored: bool
    hold: int

    def held_mb(self, share: float, rows: int) -> float:
        """Memory of a worker that goes through this share of the gallery. rows: that it searches at once."""
        read = _READ * (4 * self.dim + _COLUMN_BYTES)
        held: float = self.probes * (_VECTOR_BYTES * self.dim + read + _CANDIDATE_BYTES * self.listed)
        held += _FOUND * _SCORE_BYTES * min(_PROBES, self.probes) * min(_ROWS, rows)
        if not self.stored:
            held += min(self.hold, share * self.forms)
        if self.copied:
            in_use = min(_SHARDS * max(self.shards, default=0), share * sum(self.shards))
            # While a shard is decrypted it is there twice.
            held += min(self.hold, share * sum(self.shards)) + in_use
        return held / 1e6

    def mapped_mb(self, workers: int) -> float:
        """Memory of what workers of one node map of the gallery."""
        shards = 0 if self.copied else min(sum(self.shards), workers * max(self.shards, default=0))
        return (shards + (self.forms if self.stored else 0)) / 1e6
