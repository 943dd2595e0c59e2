"""Refer to photos embedded in a Parquet manifest, and read such rows in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from frpipe.core.reasons import Reason, Reject
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

if TYPE_CHECKING:
    from frpipe.io.manifest.photo_pages import ParquetPhotos

_PREFIX = "row+"
# Photos decoded from the file at a time: with Arrow's copies about twice as many are held.
_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class RowRef:
    """A reference to row `row` (from 0) of the Parquet file at `file`. As text: `row+FILE#ROW`."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{_PREFIX}{self.file}#{self.row}"

    @classmethod
    def parse(cls, location: str) -> RowRef | None:
        """Parse the text form; None for a location of another kind."""
        if not location.startswith(_PREFIX):
            return None
        file, _, row = location[len(_PREFIX) :].rpartition("#")
        return cls(file, int(row)) if row.isascii() and row.isdigit() else None


def embedded_photos(refs: Sequence[RowRef]) -> Iterator[bytes | Reject]:
    """Iterate over the photos of some rows, in order.

    Each run of ascending rows of a file is one pass over its pages. Pages that hold no wanted row are not
    read.
    """
    # Photos that are files of their own do without Arrow.
    from frpipe.io.manifest.photo_pages import ParquetPhotos, changed  # noqa: PLC0415

    for file, group in groupby(refs, key=lambda ref: ref.file):
        rows = [ref.row for ref in group]
        parent, name = uris.parent(file)
        folder = Folder.at(parent)
        try:
            entry = folder.entry(name)
        except FileNotFoundError:
            raise changed() from None
        read = partial(folder.read_range, name)
        key = f"{file} {entry.bytes} {entry.version}"
        photos = ParquetPhotos(key, read, entry.bytes, is_local=folder.is_local)
        for run in _ascending(rows):
            yield from _run(photos, run)


def _run(photos: ParquetPhotos, rows: Sequence[int]) -> Iterator[bytes | Reject]:
    from frpipe.io.manifest.photo_pages import changed  # noqa: PLC0415

    left = deque(rows)
    for start, end, group in photos.groups():
        wanted = deque[int]()
        while left and left[0] < end:
            wanted.append(left.popleft() - start)
        while wanted:
            yield from _stretch(photos, group, wanted)
    if left:
        raise changed()


def _stretch(photos: ParquetPhotos, group: int, left: deque[int]) -> Iterator[bytes | Reject]:
    """Take rows of a row group from one page on, up to where pages that nobody wants can be skipped.

    left: rows of the group; is emptied from its left.
    """
    at = photos.page(group, left[0])
    for values in photos.batches(group, at, _BATCH_ROWS):
        while left and left[0] < at + len(values):
            yield values[left.popleft() - at].as_py() or Reject(Reason.EMPTY)
        at += len(values)
        if not left or (left[0] > at and photos.page(group, left[0]) > at):
            return


def _ascending(rows: Sequence[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for row in rows:
        if run and row <= run[-1]:
            yield run
            run = []
        run.append(row)
    if run:
        yield run
