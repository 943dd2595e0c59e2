"""Histogram of scores counted as they come: fixed memory for any number of them, mergeable in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Doubles, Indices

BINS = 1 << 16
PLACE, PLACES = np.uint16, 1 << 16
"""The type of places, and how many it tells apart; of more bins they are 32-bit numbers."""
Places = NDArray[np.unsignedinteger[Any]]
Counter = Callable[[Places, int], Indices]
"""How often each of (n,) numbers below `bins` occurs: (bins,)."""
# Scores that are counted in one call.
COUNTED = 1 << 22
# Scores whose places are found at once: they stay in the processor's cache, at 4 bytes a score.
_BLOCK = 1 << 16


def _bincount(places: Places, bins: int) -> Indices:
    return np.bincount(places, minlength=bins)


class ScoreHistogram:
    """Counts of similarities in equal bins over [-1, 1], a power of two of them, and the exact extremes.

    Bin k holds [-1 + 2k/bins, -1 + 2(k+1)/bins): 3.1e-5 wide for 2^16 bins. The edges are exact in float32,
    and so is the place of every score. What rounding has put beyond -1 or 1 is in the first or last bin.
    """

    def __init__(self, bins: int = BINS, counter: Counter = _bincount) -> None:
        """Make an empty histogram.

        counter: in place of NumPy's.  Raises ScoresError: bins is no power of two from 2 to 2^20.
        """
        if not 2 <= bins <= 1 << 20 or bins & (bins - 1):
            raise ScoresError(f"{bins} bins", f"take a power of two, as {BINS}")
        self.counts: Indices = np.zeros(bins, np.int64)
        self._counter = counter
        self.low, self.high = np.inf, -np.inf

    @property
    def bins(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> int:
        """Number of scores added."""
        return int(self.counts.sum())

    @property
    def edges(self) -> Doubles:
        """(bins + 1,) edges from -1 to 1."""
        return np.arange(-self.bins // 2, self.bins // 2 + 1) / (self.bins / 2)

    def add(self, scores: NDArray[np.floating[Any]]) -> None:
        """Count some similarities, of any shape; float32 or float64.

        Raises ScoresError, and counts nothing: a score is not finite, or not a floating point number.
        """
        flat = np.asarray(scores).reshape(-1)
        if flat.dtype not in {np.dtype(np.float32), np.dtype(np.float64)}:
            raise ScoresError(f"scores of type {flat.dtype}", "give float32 or float64")
        if not len(flat):
            return
        fresh, low, high = self._counted(flat)
        self.counts += fresh
        self.low, self.high = min(self.low, low), max(self.high, high)

    def remove(self, score: float, times: int) -> None:
        """Remove one score, so many times; at least one of it must stay, as an extreme.

        For who fills the gaps of an array of scores with one that is there, rather than copy the rest of it.
        Raises ScoresError: its bin does not hold so many.
        """
        place = np.empty(1, np.float64)
        self._place(np.array([score], np.float64), place, clip=True)
        if self.counts[int(place[0])] <= times:
            raise ScoresError(f"fewer than {times + 1:,} scores to take {times:,} from", "add them first")
        self.counts[int(place[0])] -= times

    def merge(self, other: ScoreHistogram) -> ScoreHistogram:
        """Sum of two histograms, as a new one. Raises ScoresError: their bins differ."""
        if self.bins != other.bins:
            raise ScoresError(f"histograms of {self.bins} and {other.bins} bins", "use one number of bins")
        both = ScoreHistogram(self.bins, self._counter)
        both.counts = self.counts + other.counts
        both.low, both.high = min(self.low, other.low), max(self.high, other.high)
        return both

    def to_arrow(self) -> pa.Table:
        """Table of (bin, count) of the bins that hold something.

        Bins and extremes in the schema's metadata.
        """
        some = np.flatnonzero(self.counts)
        known = {"bins": str(self.bins), "low": float(self.low).hex(), "high": float(self.high).hex()}
        schema = pa.schema([("bin", pa.int32()), ("count", pa.int64())], metadata=known)
        return pa.table([pa.array(some.astype(np.int32)), pa.array(self.counts[some])], schema=schema)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> ScoreHistogram:
        """Read the table that `to_arrow` makes. Raises ScoresError: something else."""
        try:
            known = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
            found = cls(int(known["bins"]))
            found.low, found.high = float.fromhex(known["low"]), float.fromhex(known["high"])
            # Casts to unsigned integers refuse what is negative.
            places = table["bin"].cast(pa.uint32()).to_numpy()
            found.counts[places] = table["count"].cast(pa.uint64()).to_numpy()
        except (KeyError, IndexError, ValueError):
            raise ScoresError("a table that holds no histogram", "give what `to_arrow` made") from None
        return found

    def _counted(self, flat: NDArray[np.floating[Any]]) -> tuple[Indices, float, float]:
        counts, low, high = np.zeros(self.bins, np.int64), np.inf, -np.inf
        room = np.empty(min(_BLOCK, len(flat)), flat.dtype)
        places: Places = np.empty(min(COUNTED, len(flat)), PLACE if self.bins <= PLACES else np.uint32)
        for start in range(0, len(flat), COUNTED):
            some = flat[start : start + COUNTED]
            for block in range(0, len(some), _BLOCK):
                here = some[block : block + _BLOCK]
                least, most = float(here.min()), float(here.max())
                if not np.isfinite(least) or not np.isfinite(most):
                    raise ScoresError("a score is not finite", "count a comparison that failed as lost")
                low, high = min(low, least), max(high, most)
                spot = room[: len(here)]
                self._place(here, spot, clip=least < -1 or most >= 1)
                np.copyto(places[block : block + len(here)], spot, casting="unsafe")
            counts += self._counter(places[: len(some)], self.bins)
        return counts, low, high

    def _place(self, some: NDArray[np.floating[Any]], room: NDArray[np.floating[Any]], *, clip: bool) -> None:
        """Bin of a score: floor(s * bins / 2) + bins / 2.

        Not floor((s + 1) * bins / 2): s + 1 rounds across edges.
        """
        half = room.dtype.type(self.bins // 2)
        np.multiply(some, half, out=room)
        np.floor(room, out=room)
        np.add(room, half, out=room)
        if clip:
            np.clip(room, 0, self.bins - 1, out=room)
