"""Sieve: rule out pairs by a rough bound, and score in float32 what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frpipe.matching.blas import Blas
from frpipe.matching.kernel import Doubles, Floats, Hits, Indices, Mask

# Above about this part of all pairs, scoring them one by one takes longer than a float32 product of all: 0.4
# microseconds against 0.012 a pair, measured at dimension 512.
MOST_FINDS = 1 / 32
# Pairs whose vectors are laid side by side at once: at dimension 512 a megabyte, within a core's own cache.
_PAIRS = 256


class Scan(Protocol):
    """A product of all probes and rows of a tile, in few bits, that says which pairs may reach a limit."""

    def probes(self, vectors: Floats) -> Any:
        """Prepare (m, dim) probes."""

    def tile(self, vectors: Floats) -> Any:
        """Prepare (n, dim) rows."""

    def near(self, probes: Any, tile: Any, limits: Doubles, most: float) -> Indices | None:
        """Places, row by row, of an (n, m) table of all pairs whose inner product may reach the limit, (m,).

        None: they are more than the share `most`.
        """

    def cut(self, tile: Any, rows: slice | Indices) -> Any:
        """Cut some rows out of a prepared tile; its bounds hold for them too."""

    def packed(self, tile: Any) -> Packed:
        """Pack a prepared tile, all of whose rows are finite, as one array."""

    def unpacked(self, packed: Packed, width: int) -> Any:
        """Unpack a tile from its array (n, width). Raises ValueError: it is of another scan."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows in the form of a kernel, to be stored: (n, width) numbers, and bounds that hold for all rows."""

    array: NDArray[Any]
    facts: Mapping[str, float]


class Ready(Protocol):
    """All rows of a block in the form of a kernel, made beforehand."""

    def part(self, vectors: Floats, rows: slice) -> Sifted:
        """Select some of the rows. vectors: theirs."""

    def taken(self, rows: Indices) -> Ready:
        """Select some rows of the block, by number."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """Vectors, (n, dim) float32, and the form in which they are scanned. finite: (n,)."""

    vectors: Floats
    form: Any
    finite: Mask


class Sieve:
    """Score in float32 the pairs that a scan has left, one by one, or by `Blas` where they are too many."""

    def __init__(self, most_finds: float = MOST_FINDS) -> None:
        """Wrap a scan. most_finds: the share of a tile's pairs above which `Blas` answers instead."""
        self._most_finds, self._plain = most_finds, Blas()

    def error(self, probes: Sifted, tile: Sifted) -> Floats:
        """Bound, (m,), of the error, as for `Blas`: the scan only rules out."""
        return self._plain.error(probes.vectors, tile.vectors)

    def hits(self, probes: Sifted, tile: Sifted, limits: Floats) -> Hits:
        """Find all pairs whose score reaches the limit."""
        if not probes.vectors.size or not tile.vectors.size:
            return Hits.joined([])
        near = self.near(probes, tile, limits.astype(np.float64))
        if near is None:
            return self._plain.hits(probes.vectors, tile.vectors, limits)
        row, probe = np.divmod(near, len(probes.vectors))
        score = _scores(probes.vectors, probe, tile.vectors, row)
        return Hits(probe, row, score).where(tile.finite[row] & (score >= limits[probe]))

    def row_bytes(self, dim: int) -> int:
        """The memory of a gallery row's form, in bytes. dim: of its vector."""
        raise NotImplementedError

    def near(self, probes: Sifted, tile: Sifted, limits: Doubles) -> Indices | None:
        """Places, row by row, of an (n, m) table of all pairs whose true inner product may reach the limit.

        None: they are more than is worth scoring one by one.
        """
        raise NotImplementedError


def finite_rows(vectors: Floats) -> Mask:
    """Mask, (n,), of rows of finite numbers: one that is not shows in the largest or smallest."""
    with np.errstate(invalid="ignore"):
        mask: Mask = np.isfinite(vectors.max(axis=1, initial=0)) & np.isfinite(vectors.min(axis=1, initial=0))
    return mask


def _scores(probes: Floats, probe: Indices, rows: Floats, row: Indices) -> Floats:
    """(c,) float32: `probes[probe[i]] . rows[row[i]]`."""
    result = np.empty(len(probe), np.float32)
    left, right = (np.empty((_PAIRS, probes.shape[1]), np.float32) for _ in range(2))
    for start in range(0, len(probe), _PAIRS):
        some = slice(start, start + _PAIRS)
        count = len(probe[some])
        np.take(probes, probe[some], axis=0, out=left[:count], mode="clip")
        np.take(rows, row[some], axis=0, out=right[:count], mode="clip")
        with np.errstate(invalid="ignore", over="ignore"):
            np.vecdot(left[:count], right[:count], out=result[some])
    return result
