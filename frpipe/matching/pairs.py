"""Find all pairs of vectors that reach a threshold: exact, tile by tile, each pair once.

A kernel finds what may reach it; that is computed again in float64, and only this decides. So neither the
kernel nor the size of tiles changes an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.matching.blas import Blas
from frpipe.matching.exact import inner_products
from frpipe.matching.kernel import Doubles, Floats, Hits, Indices, Kernel
from frpipe.matching.sieve import Ready
from frpipe.matching.tiles import Tiles
from frpipe.matching.workers import Workers

Mask = NDArray[np.bool_]

# A tile of scores, 16 MB: large enough for the product to run at full speed, small enough for the processor's
# cache. Of a tile on the diagonal only 1024 x 1024 scores are in part of no use: 99 % of the products of
# 100,000 vectors count.
TILE = (1024, 4096)
# Of the columns in a kernel's form: more than two blocks of the job.
_FORMS = 256 << 20


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs found: row `a[i]` of the one set and row `b[i]` of the other have `similarity[i]`.

    a, b: (c,) int64, in the order of a, then b, within a tile.  similarity: (c,) float64, in [-1, 1].
    """

    a: Indices
    b: Indices
    similarity: Doubles


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile: rows of one set against rows of the other; on the diagonal a pair counts where row > probe."""

    probes: slice
    rows: slice
    diagonal: bool = False


def pairs_within(
    vectors: Floats,
    threshold: float,
    kernel: Kernel | None = None,
    *,
    threads: int = 1,
    tile: tuple[int, int] = TILE,
    ready: Ready | None = None,
) -> Iterator[Pairs]:
    """Find pairs (a < b) of the rows of (n, dim) float32 unit vectors with similarity >= threshold.

    Half of the matrix is computed: no tile lies below the diagonal. A row that is not finite is like nobody.
    threads: tiles done at once; BLAS's own come on top. Memory: a tile a thread, what it holds of hits, and
    of rows in a kernel's form up to 256 MB.  ready: the rows in that form, made beforehand.
    """
    tiles = tiles_within(len(vectors), tile)
    return _Search(vectors, vectors, threshold, kernel or Blas(), ready).over(tiles, threads)


def pairs_between(
    a: Floats,
    b: Floats,
    threshold: float,
    kernel: Kernel | None = None,
    *,
    threads: int = 1,
    tile: tuple[int, int] = TILE,
    ready: Ready | None = None,
) -> Iterator[Pairs]:
    """Find pairs of every row of a with every row of b, as `pairs_within`. ready: of the rows of b."""
    tiles = tiles_between(len(a), len(b), tile)
    return _Search(a, b, threshold, kernel or Blas(), ready).over(tiles, threads)


def tiles_within(rows: int, tile: tuple[int, int] = TILE) -> Iterator[Tile]:
    """Tiles of the upper half of a square.

    Each group of rows starts at its own first row, and from the next multiple of a tile's width on all have
    the same columns, so that these need be brought into a kernel's form once.
    """
    high, wide = tile
    for top in range(0, rows, high):
        left = top
        while left < rows:
            right = min(rows, (left // wide + 1) * wide)
            yield Tile(slice(top, min(rows, top + high)), slice(left, right), left < top + high)
            left = right


def tiles_between(rows_a: int, rows_b: int, tile: tuple[int, int] = TILE) -> Iterator[Tile]:
    """Tiles of a whole rectangle."""
    high, wide = tile
    for top in range(0, rows_a, high):
        for left in range(0, rows_b, wide):
            yield Tile(slice(top, min(rows_a, top + high)), slice(left, min(rows_b, left + wide)))


class _Search:
    def __init__(self, a: Floats, b: Floats, threshold: float, kernel: Kernel, rows: Ready | None) -> None:
        self._a, self._b, self._threshold, self._kernel = a, b, threshold, kernel
        self._rows = rows
        self._ready: tuple[int, Any, Mask] | None = None
        self._tiles = Tiles(kernel, _FORMS)

    def over(self, tiles: Iterator[Tile], threads: int) -> Iterator[Pairs]:
        return Workers(threads).over(self._pairs, tiles)

    def _pairs(self, tile: Tile) -> Pairs:
        probes, finite = self._probes(tile.probes)
        # A tile on the diagonal has columns of its own, which do not come again.
        rows = self._tiles.of(None if tile.diagonal else "b", self._b, tile.rows, self._rows)
        hits = self._kernel.hits(probes, rows, self._limits(self._kernel.error(probes, rows), finite))
        return self._settled(hits.shifted(tile.probes.start, tile.rows.start), tile.diagonal)

    def _probes(self, rows: slice) -> tuple[Any, Mask]:
        """Prepare a group of rows in the kernel's form, once for its tiles; and which of them are finite."""
        ready = self._ready
        if ready is None or ready[0] != rows.start:
            vectors = self._a[rows]
            finite: Mask = np.asarray(np.isfinite(vectors).all(axis=1))
            if not finite.all():
                vectors = np.where(finite[:, None], vectors, np.float32(0))
            ready = self._ready = (rows.start, self._kernel.probes(vectors), finite)
        return ready[1], ready[2]

    def _limits(self, error: Floats, finite: Mask) -> Floats:
        """Scores that an approximate score must reach, rounded down.

        No score reaches that of a row that is not finite.
        """
        limits = np.nextafter((self._threshold - error.astype(float)).astype(np.float32), np.float32(-np.inf))
        if self._threshold <= -1:
            # Similarities end at -1: what is beyond it is level with it.
            limits = np.full(len(error), -np.inf, np.float32)
        return np.where(finite, limits, np.float32(np.inf))

    def _settled(self, hits: Hits, diagonal: bool) -> Pairs:
        if diagonal:
            hits = hits.where(hits.row > hits.probe)
        similarity = np.clip(inner_products(self._a, hits.probe, self._b, hits.row), -1, 1)
        kept = np.flatnonzero(similarity >= self._threshold)
        return Pairs(hits.probe[kept], hits.row[kept], similarity[kept])
