"""Find duplicate ids among any number of rows in bounded memory: hashes go to bucket files, 8 bytes a row."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from frpipe.core.distinct import distinct
from frpipe.core.text import canonical_text

Hashes = npt.NDArray[np.int64]

_BUCKETS = 256
_HELD_ROWS = 1 << 20
_CANDIDATES = 100_000


def hashes_of(ids: Sequence[str]) -> Hashes:
    """64-bit hashes (n,) int64, the same within this process only."""
    return np.fromiter(map(hash, ids), np.int64, len(ids))


class Repeat(NamedTuple):
    """A row whose id repeats that of an earlier row: its file and its row, by number.

    earlier: file and row of the first such.  same: both are written alike, not only in another Unicode form.
    """

    file: int
    row: int
    earlier: tuple[int, int]
    same: bool


class SeenIds:
    """Collect the hashes of all ids, then report those that occur twice. Use as a context manager.

    Beyond `held_rows` they are spilled by their top bits to 256 files of a temporary folder: 100 million ids
    take 800 MB of disk, and 3 MB of memory at a time. Equal hashes are candidates only: confirm them with
    `confirmed`, as two different ids may share one.
    """

    def __init__(self, held_rows: int = _HELD_ROWS) -> None:
        self._held: list[Hashes] = []
        self._held_rows = 0
        self._limit = held_rows
        self._folder = tempfile.TemporaryDirectory(prefix="frpipe-ids-")
        self._spilled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, hashes: Hashes) -> None:
        """Take the hashes of some rows."""
        self._held.append(hashes)
        self._held_rows += len(hashes)
        if self._held_rows >= self._limit:
            self._spill()

    def candidates(self) -> tuple[Hashes, bool]:
        """Sorted hashes that occur more than once, and whether there are more than the 100,000 given."""
        if self._spilled:
            self._spill()
        found: list[Hashes] = []
        count = 0
        for bucket in self._buckets():
            ordered = np.sort(bucket)
            twice = distinct(ordered[1:][ordered[1:] == ordered[:-1]])
            found.append(twice)
            count += len(twice)
            if count > _CANDIDATES:
                return np.sort(np.concatenate(found))[:_CANDIDATES], True
        return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64), False

    def _buckets(self) -> Iterator[Hashes]:
        if not self._spilled:
            yield np.concatenate(self._held) if self._held else np.zeros(0, np.int64)
            return
        for path in sorted(Path(self._folder.name).iterdir()):
            yield np.fromfile(path, np.int64)

    def _spill(self) -> None:
        if not self._held:
            return
        hashes = np.sort(np.concatenate(self._held))
        self._held, self._held_rows, self._spilled = [], 0, True
        tops = (hashes >> np.int64(56)) + _BUCKETS // 2
        starts = np.searchsorted(tops, np.arange(_BUCKETS + 1))
        for bucket, (start, end) in enumerate(pairwise(starts)):
            if end > start:
                with (Path(self._folder.name) / f"{bucket:03d}").open("ab") as file:
                    hashes[start:end].tofile(file)


def confirmed(
    candidates: Hashes, batches: Iterable[tuple[int, int, Sequence[str | None]]]
) -> Iterator[Repeat]:
    """Confirm by a second pass over all ids, in NFC, which rows repeat an earlier one.

    candidates: sorted, from `SeenIds.candidates`, of ids in NFC.  batches: (file, number of the first row,
    ids as written). A missing id repeats nothing.
    """
    seen: dict[str, tuple[str, tuple[int, int]]] = {}
    for file, first_row, written in batches:
        ids = [canonical_text(value or "") for value in written]
        hashes = hashes_of(ids)
        at = np.searchsorted(candidates, hashes).clip(max=len(candidates) - 1)
        for index in np.flatnonzero(candidates[at] == hashes).tolist():
            value, place = ids[index], (file, first_row + index)
            if value in seen:
                first, earlier = seen[value]
                yield Repeat(*place, earlier, first == written[index])
            elif value:
                seen[value] = written[index] or "", place
