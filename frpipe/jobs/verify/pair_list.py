"""The list of pairs to compare: a file or a folder of Parquet, CSV or JSON lines, read in blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.config import canonical_hash
from frpipe.core.errors import ManifestError
from frpipe.io.manifest.columns import Columns
from frpipe.io.manifest.fingerprint import fingerprint
from frpipe.io.manifest.formats import csv, jsonl, parquet
from frpipe.io.manifest.manifest import SUFFIXES, Manifest
from frpipe.io.manifest.row_faults import RowTally
from frpipe.io.output.plan import slices
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Entry, Folder
from frpipe.jobs.verify.schema import A, B, carried

_READERS = {"parquet": parquet.schema, "csv": csv.schema, "jsonl": jsonl.schema}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class PairList:
    """schema: the list's columns as they travel to the result; a and b as strings."""

    rows_of: Manifest
    schema: pa.Schema

    @classmethod
    def open(cls, uri: str) -> PairList:
        """Find the files and read their columns.

        Raises ManifestError: no list, no columns a and b, a column with a name of ours or of a type that
        some readers of Parquet lack.
        """
        place = uris.canonical(uri)
        folder, files = _find(place)
        suffixes = {PurePosixPath(entry.name).suffix.lower() for entry in files}
        formats = {SUFFIXES[suffix] for suffix in suffixes}
        if len(formats) > 1:
            raise ManifestError("the list of pairs holds files of several formats", "keep to one in a folder")
        format = formats.pop()
        found = _common_schema(folder, files, _READERS[format])
        # All columns of a list of pairs are what a manifest calls its own.
        columns = Columns(embedded=True, has_id=False, has_subject=False, extra=found)
        return cls(Manifest(place, folder, files, format, found, columns), carried(found))

    @property
    def digest(self) -> str:
        """SHA-256 over the content of all files, wherever they lie."""
        return canonical_hash({"files": fingerprint(self.rows_of)[1]})

    def blocks(self, rows: int) -> Iterator[pa.Table]:
        """All pairs in order, so many a table; the last may be smaller."""
        return slices((table for _, _, table in self._tables(RowTally(self.rows_of.names))), rows)

    def checked(self) -> Iterator[pa.Table]:
        """All pairs in order, and at the end ManifestError where rows cannot be used, with their numbers."""
        tally, nulls = RowTally(self.rows_of.names), _Nulls()
        for file, first, table in self._tables(tally):
            nulls.add(table, file, first, self.rows_of.names)
            yield table
        try:
            tally.raise_if_any()
        except ManifestError as error:
            raise _ours(error) from None
        nulls.raise_if_any()

    def _tables(self, tally: RowTally) -> Iterator[tuple[int, int, pa.Table]]:
        try:
            for file, first, batch in self.rows_of.batches(tally):
                table = pa.Table.from_batches([batch]).select(self.schema.names)
                yield file, first, table.cast(self.schema)
        except ManifestError as error:
            raise _ours(error) from None


class _Nulls:
    """Rows without a or b."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._first: list[str] = []

    def add(self, table: pa.Table, file: int, first_row: int, names: list[str]) -> None:
        if not (table[A].null_count or table[B].null_count):
            return
        absent = pc.or_(pc.is_null(table[A]), pc.is_null(table[B]))
        rows = pc.indices_nonzero(absent).to_pylist()
        self._count["rows"] += len(rows)
        where = f" of {names[file]}" if len(names) > 1 else ""
        self._first += [f"{first_row + row}{where}" for row in rows[: _SHOWN - len(self._first)]]

    def raise_if_any(self) -> None:
        count = self._count["rows"]
        if count:
            more = ", ..." if count > len(self._first) else ""
            raise ManifestError(
                f"the list of pairs: {count:,} rows without {A} or {B} (row {', '.join(self._first)}{more})",
                "name both sides of each pair, or take the rows out",
            )


def _find(place: str) -> tuple[Folder, tuple[Entry, ...]]:
    folder = Folder.at(place)
    inside = tuple(entry for entry in folder.list() if _is_part(entry.name))
    if inside:
        return folder, inside
    parent, name = uris.parent(place)
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        raise ManifestError(
            f"{place} is neither a .parquet, .csv or .jsonl file nor a folder of them", "check --pairs"
        )
    try:
        return Folder.at(parent), (Folder.at(parent).entry(name),)
    except FileNotFoundError:
        raise ManifestError(f"there is no list of pairs {place}", "check --pairs") from None


def _is_part(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not any(part.startswith("_") for part in path.parts)


def _common_schema(folder: Folder, files: tuple[Entry, ...], read: Callable[..., pa.Schema]) -> pa.Schema:
    found: list[pa.Schema] = []
    for entry in files:
        with folder.open(entry.name) as file:
            try:
                found.append(read(file).remove_metadata())
            except ManifestError as error:
                raise _ours(error) from None
        if set(found[-1]) != set(found[0]):
            raise ManifestError(
                f"{entry.name} of the list of pairs has other columns or types than {files[0].name}",
                "write all files alike",
            )
    return found[0]


def _ours(error: ManifestError) -> ManifestError:
    """The readers speak of a manifest."""
    return ManifestError(f"the list of pairs: {error.message}", error.remedy)
