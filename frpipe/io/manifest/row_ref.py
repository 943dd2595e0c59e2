"""References to photos embedded in a Parquet manifest, and the reading of such rows in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, BinaryIO

from frpipe.core.errors import ManifestError
from frpipe.core.reasons import Reason, Reject
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_PREFIX = "row+"
# Photos decoded from the file at a time: with Arrow's copies about twice as many are held.
_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class RowRef:
    """Row `row` (from 0) of the Parquet file at `file`. As text: `row+FILE#ROW`."""

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
        return cls(file, int(row))


def embedded_photos(refs: Sequence[RowRef]) -> Iterator[bytes | Reject]:
    """The photos of some rows, in order. Each run of ascending rows of a file is one pass over its pages.

    Row groups that hold no wanted row are not read.
    """
    # Photos that are files of their own do without Arrow.
    from frpipe.io.manifest.formats.parquet import open_parquet  # noqa: PLC0415

    for file, group in groupby(refs, key=lambda ref: ref.file):
        rows = [ref.row for ref in group]
        folder, name = uris.parent(file)
        with _open(Folder.at(folder), name) as handle:
            parquet = open_parquet(handle, name)
            for run in _ascending(rows):
                yield from _run(parquet, run)


def _run(parquet: pq.ParquetFile, rows: Sequence[int]) -> Iterator[bytes | Reject]:
    from frpipe.io.manifest.columns import BYTES  # noqa: PLC0415

    wanted = iter(rows)
    row = next(wanted)
    for start, end, group in _groups(parquet):
        if row >= end:
            continue
        at = start
        for batch in parquet.iter_batches(
            _BATCH_ROWS, row_groups=[group], columns=[BYTES], use_threads=False
        ):
            photos = batch.column(0)
            while row < at + len(photos):
                yield photos[row - at].as_py() or Reject(Reason.EMPTY)
                following = next(wanted, None)
                if following is None:
                    return
                row = following
            at += len(photos)
            if row >= end:
                break
    raise _changed()


def _open(folder: Folder, name: str) -> BinaryIO:
    try:
        return folder.open(name)
    except FileNotFoundError:
        raise _changed() from None


def _changed() -> ManifestError:
    return ManifestError(
        "a file of the manifest is gone or has changed since the run began",
        "put it back, or use another output",
    )


def _groups(parquet: pq.ParquetFile) -> Iterator[tuple[int, int, int]]:
    """(first row, row after the last, number) of each row group."""
    start = 0
    for group in range(parquet.metadata.num_row_groups):
        end = start + parquet.metadata.row_group(group).num_rows
        yield start, end, group
        start = end


def _ascending(rows: Sequence[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for row in rows:
        if run and row <= run[-1]:
            yield run
            run = []
        run.append(row)
    if run:
        yield run
