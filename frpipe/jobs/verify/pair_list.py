"""The list of pairs to compare: a file or a folder of Parquet, CSV or JSON lines, read in blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.config import canonical_hash
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, ManifestError
from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.io.manifest.columns import Columns
from frpipe.io.manifest.formats import csv, jsonl, parquet
from frpipe.io.manifest.manifest import SUFFIXES, Manifest, fingerprint, is_manifest_file
from frpipe.io.manifest.row_faults import RowTally
from frpipe.io.output.plan import slices
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Entry, Folder
from frpipe.jobs.verify.named_faces import NAME_BYTES
from frpipe.jobs.verify.schema import A, B, carried

_READERS = {"parquet": parquet.schema, "csv": csv.schema, "jsonl": jsonl.schema}
_SHOWN = 5


_MB = 10**6


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
                f"the list of pairs: {counted(count, 'rows')} without {A} or {B} (row "
                f"{', '.join(self._first)}{more})",
                "name both sides of each pair, or take the rows out",
            )


def _find(place: str) -> tuple[Folder, tuple[Entry, ...]]:
    folder = Folder.at(place)
    inside = tuple(entry for entry in folder.list() if is_manifest_file(entry.name))
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


@dataclass(frozen=True, slots=True)
class PairNames:
    """number: of each name, in NFC, from 0 without gaps.  pairs: rows of the list.  mb: memory for all."""

    number: dict[str, int]
    pairs: int
    mb: float

    @classmethod
    def read(cls, pairs: PairList, dim: int, memory_mb: int) -> PairNames:
        """Go through the whole list.

        Raises ManifestError: rows that cannot be used, or none; ConfigError, with the arithmetic: embeddings
        of `dim` numbers for all names do not fit.
        """
        number: dict[str, int] = {}
        rows = 0
        for table in pairs.checked():
            rows += table.num_rows
            for side in (A, B):
                for name in table[side].drop_null().unique().to_pylist():
                    number.setdefault(canonical_text(name), len(number))
            if len(number) * NAME_BYTES > memory_mb * _MB:
                raise _too_many("at least ", len(number), dim, memory_mb)
        if not rows:
            raise ManifestError("the list of pairs has no rows", "check --pairs")
        if len(number) * _bytes_each(dim) > memory_mb * _MB:
            raise _too_many("", len(number), dim, memory_mb)
        return cls(number, rows, len(number) * _bytes_each(dim) / _MB)

    def numbers(self, side: pa.ChunkedArray) -> NDArray[np.int64]:
        """(n,) of the names in one side of some pairs."""
        try:
            names = canonical_column(side).to_pylist()
            return np.fromiter(map(self.number.__getitem__, names), np.int64, len(side))
        except KeyError:
            raise ManifestError(
                "the list of pairs changed while it was read", "run the same command again"
            ) from None


def _bytes_each(dim: int) -> int:
    return 4 * dim + NAME_BYTES


def _too_many(least: str, names: int, dim: int, memory_mb: int) -> ConfigError:
    need = -(-names * _bytes_each(dim) // _MB)
    return ConfigError(
        f"the pairs name {least}{counted(names, 'photos')} of {_bytes_each(dim):,} bytes "
        f"each ({dim} numbers of 4, "
        f"and {NAME_BYTES} for the name): {need:,} MB, and --memory-mb is {memory_mb:,}",
        f"give --memory-mb {need} where the machine has it, or cut the list so that each names fewer photos",
    )
