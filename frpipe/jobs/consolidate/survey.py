"""A look at all faces of a run without their vectors: what a consolidation in passes must know before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.distinct import distinct
from frpipe.gallery.external_sort import bounds_of, buckets_of
from frpipe.gallery.schema import EMBEDDING
from frpipe.jobs.consolidate.reading import SubjectRange, subject_hashes

# A part says in so many bits of whom it has faces: of people whose hashes begin with the same 12 bits.
_BINS = 1 << 12
_BIN_BITS = 52
_FLOAT = 4
Hashes = NDArray[np.uint64]


@dataclass(slots=True)
class Survey:
    """The people of the faces that may become templates.

    dim: of a vector, `stored`: bytes of a number in the gallery, `grouped`: whether the faces are sorted once
    more before, as a person's faces are looked at together.  rows: faces.
    """

    dim: int
    stored: int
    grouped: bool
    rows: int = 0
    _bytes: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    _people: list[Hashes] = field(default_factory=list)
    _parts: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def take(self, part: int, table: pa.Table, kept_out: pa.Table | None = None) -> None:
        """Take the templates of a part, whose vectors are of any number of dimensions.

        kept_out: faces that are no templates, which the passes of their people count.
        """
        found = subject_hashes(table)
        counts = np.bincount(_bins_of(found), minlength=_BINS)
        if table.num_rows:
            self.rows += table.num_rows
            self._bytes += counts * self.row_bytes(table)
            self._people.append(distinct(found))
        if kept_out is not None:
            counts = counts + np.bincount(_bins_of(subject_hashes(kept_out)), minlength=_BINS)
        if counts.any():
            self._parts[part] = np.packbits(counts > 0)

    def row_bytes(self, table: pa.Table) -> float:
        """Bytes that each of these rows takes in temporary files at most, in the mean."""
        texts: float = table.drop_columns([EMBEDDING]).nbytes / max(1, table.num_rows)
        return self.vector_bytes + texts * (2 if self.grouped else 1)

    @property
    def vector_bytes(self) -> int:
        """Bytes that a vector takes in temporary files."""
        return self.dim * (self.stored + (_FLOAT if self.grouped else 0))

    @property
    def bytes(self) -> int:
        """Bytes that all rows take in temporary files at most."""
        return int(self._bytes.sum())

    def people(self) -> Hashes:
        """Hashes of all people, sorted, each once."""
        self._people = [distinct(np.concatenate([np.zeros(0, np.uint64), *self._people]))]
        return self._people[0]

    def range_of(self, low: int, high: int) -> SubjectRange:
        """The people of a range of hashes, and the parts that may have faces of them."""
        some = slice(low >> _BIN_BITS, -(-high >> _BIN_BITS))
        parts = [part for part, bits in self._parts.items() if np.unpackbits(bits)[some].any()]
        return SubjectRange(low, high, parts)

    def bytes_between(self, edges: Sequence[int]) -> NDArray[np.float64]:
        """Bytes between edges, which are hashes, ascending: as if rows lay evenly in each bin."""
        below = np.concatenate([[0.0], np.cumsum(self._bytes)])
        at = np.array([edge / (1 << _BIN_BITS) for edge in edges])
        return np.diff(np.interp(at, np.arange(_BINS + 1), below))

    def ranges(
        self, rows: int, bucket_rows: int, most_bytes: int, least: int = 1
    ) -> tuple[list[tuple[int, int]], int]:
        """Cut the buckets of so many rows into passes of `most_bytes` at most, and at least `least`.

        Of each pass the first bucket and the one behind the last; and the bytes of the largest pass, which
        are more than `most_bytes` where a bucket, or a person, has more alone. All rows of a bin may be of
        one person, on either side of a cut: a pass counts the bins that it has any part of.
        """
        buckets = max(1, buckets_of(rows, bucket_rows))
        edges = [bounds_of(number, buckets)[0] for number in range(buckets)] + [1 << 64]
        ends, bins = np.cumsum(self.bytes_between(edges)), _WholeBins(self._bytes, edges)
        total = float(ends[-1])
        first = passes = min(buckets, max(least, -(-int(total) // max(1, most_bytes))))
        while True:
            targets = [total * (n / passes) * (1 - 1e-9) for n in range(1, passes)]
            inner = np.searchsorted(ends, targets) + 1 if passes < buckets else np.arange(1, buckets)
            cuts = np.unique(np.concatenate([[0], inner, [buckets]]).clip(0, buckets))
            if bool(((bins.bytes(cuts) <= most_bytes) | (np.diff(cuts) == 1)).all()):
                break
            passes = min(buckets, passes + max(1, passes // 16))
            if passes > 2 * first or passes == buckets:
                # Equal passes would have to be as small as who has most faces needs.
                cuts = bins.packed(most_bytes)
                break
        pairs = list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
        return pairs, int(bins.bytes(cuts).max(initial=0))


class _WholeBins:
    """Bytes of the bins that lie in a range of buckets, also where only a part of a bin does.

    edges: of the buckets.
    """

    def __init__(self, per_bin: NDArray[np.float64], edges: Sequence[int]) -> None:
        below = np.concatenate([[0.0], np.cumsum(per_bin)])
        self._before = below[[edge >> _BIN_BITS for edge in edges]]
        self._behind = below[[-(-edge >> _BIN_BITS) for edge in edges]]

    def bytes(self, cuts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bytes of each of the passes between cuts, at most."""
        found: NDArray[np.float64] = self._behind[cuts[1:]] - self._before[cuts[:-1]]
        return found

    def packed(self, most: int) -> NDArray[np.int64]:
        """Cuts of passes that take one bucket after another while there is room."""
        cuts, last = [0], len(self._before) - 1
        while cuts[-1] < last:
            end = int(np.searchsorted(self._behind, self._before[cuts[-1]] + most, "right")) - 1
            cuts.append(min(last, max(cuts[-1] + 1, end)))
        return np.array(cuts)


def _bins_of(found: Hashes) -> NDArray[np.int64]:
    return (found >> np.uint64(_BIN_BITS)).astype(np.int64)
