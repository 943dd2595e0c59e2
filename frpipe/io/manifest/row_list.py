"""Read a list of any kind, of photos or of pairs: its files as one table, in batches, never whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.config import canonical_hash
from frpipe.core.errors import ManifestError
from frpipe.core.pulse import Say, silent, told
from frpipe.core.text import canonical_text
from frpipe.io.manifest import list_files
from frpipe.io.manifest.columns import is_binary, shown
from frpipe.io.manifest.formats import csv, jsonl, parquet
from frpipe.io.manifest.list_files import Format, ListFile
from frpipe.io.manifest.types import common, has_null
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Entry, Folder
from frpipe.io.storage.in_order import in_order

S = TypeVar("S")
T = TypeVar("T")
# A file up to this size is hashed whole: below a second on one core. Of a larger one both ends and the
# version (ETag, or time of change) count: the footer of a Parquet file is at its end.
_WHOLE_BYTES = 64 << 20
_END_BYTES = 1 << 20
_INVISIBLE = "\ufeff\u200b"


class Batch(NamedTuple):
    """Some rows of a list.

    The number of their file, the number of the first row (from 1), and the columns read.
    """

    file: int
    first_row: int
    rows: pa.RecordBatch

    def text(self, name: str) -> pa.Array:
        """Take a column of texts. Raises ManifestError where it holds something else."""
        values = self.rows.column(name).cast(pa.string())
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            raise ManifestError(f"{name} holds text that is not UTF-8", "write the list as UTF-8") from None
        return values


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a list.

    columns: its own, as written, by their names.  types: to read it with.  rows: None: it does not say.
    """

    file: ListFile
    columns: Mapping[str, str]
    types: pa.Schema
    rows: int | None = None

    def has(self, name: str) -> bool:
        """Whether the file has a column, or lies in a folder that says it."""
        return name in self.columns or name in self.file.keys


@dataclass(frozen=True, slots=True)
class RowList:
    """A list: its parts, and the columns of all parts together.

    folder: what the names of files start from.  known: names of columns, by which separators are found.
    remarks: what was taken otherwise than it is written.
    """

    uri: str
    folder: Folder
    parts: tuple[Part, ...]
    format: Format
    schema: pa.Schema
    known: frozenset[str]
    remarks: tuple[str, ...]

    @classmethod
    def opened(
        cls,
        uri: str,
        noun: str,
        known: frozenset[str],
        ids: frozenset[str],
        only: Container[str] | None = None,
        *,
        say: Say = silent,
    ) -> RowList:
        """Find the files and read their columns.

        Names lose blanks around them. A column that a file lacks is null there.  noun: what the list is
        called in messages.  ids: columns that are read as text, whatever they are.  only: names of the
        files that are read; None: all.  say: told how far it is, where there are many.
        Raises ManifestError; StorageError where it cannot be read.
        """
        folder, files = list_files.find(uri, noun)
        files = tuple(file for file in files if only is None or file.name in only)
        heads = list(_of_each(partial(_head, folder, known), files, "looked at", say))
        written = [schema for schema, _ in heads]
        named = [_named(schema, file) for schema, file in zip(written, files, strict=True)]
        merged = _merged(named, files, ids)
        parts = tuple(
            Part(
                file,
                dict(zip(plain.names, schema.names, strict=True)),
                _parsed_as(schema, plain, merged),
                rows,
            )
            for file, (schema, rows), plain in zip(files, heads, named, strict=True)
        )
        padded = [
            file.shown
            for file, own in zip(files, written, strict=True)
            if (own.metadata or {}).get(b"padded")
        ]
        return cls(uris.canonical(uri), folder, parts, files[0].format, merged, known, _of_padded(padded))

    @property
    def entries(self) -> list[Entry]:
        """The files as they lie in the folder."""
        return [part.file.entry for part in self.parts]

    @property
    def names(self) -> list[str]:
        """The names of the files, for messages."""
        return [part.file.shown for part in self.parts]

    def require(self, *columns: str) -> None:
        """Raise ManifestError for the first file that lacks one of the columns."""
        for part in self.parts:
            for column in columns:
                if not part.has(column):
                    found = ", ".join(map(shown, list(part.columns)[:8])) or "none"
                    raise ManifestError(
                        f"{part.file.shown} has no column {column} (its columns: {found})",
                        "give each file the column, with its name in the first line of a CSV file",
                    )

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """Iterate over all rows in order. columns: which, each once however often named; None: all."""
        names = self.schema.names if columns is None else dict.fromkeys(columns)
        wanted = pa.schema([self.schema.field(name) for name in names])
        for number, part in enumerate(self.parts):
            row = 1
            for rows in self._read(part, wanted):
                yield Batch(number, row, rows)
                row += rows.num_rows

    def rows_estimate(self) -> int:
        """Estimate the rows: exactly for Parquet, else from the lines, or objects, in the first MiB."""
        if self.format == "parquet":
            return sum(part.rows or 0 for part in self.parts)
        first, lines, data = self.parts[0].file, 0, b"\n"
        with self.folder.open(first.name) as packed, first.unpacked(packed) as file:
            while packed.tell() < _END_BYTES and (more := file.read(_END_BYTES)):
                lines, data = lines + self._rows_in(more), more
            read = packed.tell()
        lines += self.format == "csv" and not data.endswith(b"\n")
        total = sum(entry.bytes for entry in self.entries)
        headers = len(self.parts) if self.format == "csv" else 0
        return max(1, round(lines * total / max(read, 1)) - headers)

    def _rows_in(self, data: bytes) -> int:
        """Estimate how many rows begin in some text. An object names a known column once."""
        names = self.known if self.format == "jsonl" else ()
        return max((data.count(f'"{name}"'.encode()) for name in names), default=0) or data.count(b"\n")

    def _read(self, part: Part, wanted: pa.Schema) -> Iterator[pa.RecordBatch]:
        # A file that has none of the columns is read for the number of its rows.
        names = [name for name in wanted.names if name in part.columns] or [_smallest(part)]
        # A key of the folders may stand in the file, too: both must say the same.
        names += [key for key in part.file.keys if key in part.columns and key not in names]
        own, shown_name = [part.columns[name] for name in names], part.file.shown
        with self.folder.open(part.file.name) as packed, part.file.unpacked(packed) as file:
            if self.format == "parquet":
                found = parquet.batches(file, shown_name, own)
            elif self.format == "csv":
                found = csv.batches(file, shown_name, self.known, own)
            else:
                found = jsonl.batches(file, shown_name, own, part.types)
            for rows in found:
                yield _laid_out(rows.rename_columns(names), part, wanted)


def _smallest(part: Part) -> str:
    """Choose a column that holds no photos, if there is one."""
    kinds = {name: part.types.field(name).type for name in part.columns if name in part.types.names}
    plain = (name for name, kind in kinds.items() if not (pa.types.is_nested(kind) or is_binary(kind)))
    return next(plain, next(iter(part.columns)))


def _of_each(work: Callable[[S], T], files: Sequence[S], done: str, say: Say) -> Iterator[T]:
    """Do something for each file, several at a time, since a store takes its time to answer."""
    return told(in_order(work, files), len(files), f"{{}} of {len(files):,} files {done}", say)


def _head(folder: Folder, known: frozenset[str], file: ListFile) -> tuple[pa.Schema, int | None]:
    """The columns of a file as written, and the number of its rows where it says it.

    The metadata are `padded` where blanks around values are no part of them.
    """
    rows = None
    with folder.open(file.name) as packed, file.unpacked(packed) as data:
        if file.format == "parquet":
            found, rows = parquet.head(data, file.shown)
        elif file.format == "csv":
            found = csv.schema(data, file.shown, known)
        else:
            found = jsonl.schema(data, file.shown)
    if not found.names:
        raise ManifestError(f"{file.shown} is empty", "a list needs columns and rows")
    return found, rows


def _named(schema: pa.Schema, file: ListFile) -> pa.Schema:
    """Take the blanks off the names of columns."""
    names = [name.strip().strip(_INVISIBLE).strip() for name in schema.names]
    # SQL engines read names without regard to case, so two that differ by case only would collide there.
    folded = [canonical_text(name.casefold()) for name in names]
    doubled = [name for name, key in zip(names, folded, strict=True) if folded.count(key) > 1 and name]
    if doubled:
        raise ManifestError(
            f"{file.shown} has two columns named {shown(doubled[0])}",
            "give each column a name of its own, whatever its case and Unicode form",
        )
    if "" in names:
        raise ManifestError(
            f"{file.shown} has a column without name (number {names.index('') + 1})",
            "name it, or leave it out (pandas: index=False)",
        )
    return pa.schema([pa.field(name, field.type) for name, field in zip(names, schema, strict=True)])


def _merged(schemas: Sequence[pa.Schema], files: Sequence[ListFile], ids: frozenset[str]) -> pa.Schema:
    """Merge the columns of all files, as they come, each with the type that holds all its values."""
    types: dict[str, pa.DataType] = {}
    origin: dict[str, ListFile] = {}
    for schema, file in zip(schemas, files, strict=True):
        keys = [pa.field(key, pa.string()) for key in file.keys if key not in schema.names]
        for name, kind in ((field.name, field.type) for field in [*schema, *keys]):
            known = types.get(name, pa.null())
            merged = common(known, kind, is_id=name in ids)
            if merged is None:
                raise ManifestError(
                    f"column {shown(name)} is {kind} in {file.shown}, and {known} in {origin[name].shown}",
                    "write it with one type in all files",
                )
            if name not in origin or pa.types.is_null(known):
                origin[name] = file
            types[name] = merged
    for name, kind in types.items():
        if pa.types.is_null(kind) and (name in ids or files[0].format == "jsonl"):
            types[name] = pa.string()
    return pa.schema(types.items())


def _parsed_as(written: pa.Schema, named: pa.Schema, merged: pa.Schema) -> pa.Schema:
    """Types for the columns of a file as written; where the file shows no value, the list's."""
    return pa.schema(
        [
            pa.field(field.name, merged.field(name).type if has_null(field.type) else field.type)
            for field, name in zip(written, named.names, strict=True)
        ]
    )


def _laid_out(rows: pa.RecordBatch, part: Part, wanted: pa.Schema) -> pa.RecordBatch:
    """Lay out the wanted columns in order and type: the file's, its keys, and nulls for the rest."""
    for key, value in part.file.keys.items():
        if key in part.columns:
            _check_key(rows.column(key), key, value, part.file)
    if rows.schema.equals(wanted):
        return rows
    return pa.record_batch([_column(rows, field, part) for field in wanted], wanted)


def _column(rows: pa.RecordBatch, field: pa.Field, part: Part) -> pa.Array:
    name, kind = field.name, field.type
    if name in part.columns:
        values = rows.column(name)
    elif part.file.keys.get(name) is not None:
        values = pa.repeat(pa.scalar(part.file.keys[name], pa.string()), rows.num_rows)
    else:
        return pa.nulls(rows.num_rows, kind)
    try:
        return values if values.type == kind else values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ManifestError(
            f"column {shown(name)} of {part.file.shown} holds values that do not fit {kind}, its type in the "
            "other files",
            "write it with one type in all files",
        ) from None


def _check_key(values: pa.Array, key: str, value: str | None, file: ListFile) -> None:
    texts = values.cast(pa.string())
    same = texts.null_count == len(texts) if value is None else pc.all(pc.equal(texts, value)).as_py()
    if not same or (value is not None and texts.null_count):
        raise ManifestError(
            f"column {shown(key)} of {file.shown} says another thing than the name of its folder",
            "leave one of the two out",
        )


def _of_padded(files: Sequence[str]) -> tuple[str, ...]:
    if not files:
        return ()
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    return (f"{files[0]}{more}: blanks around values are left out, as they stand around the column names",)


def fingerprint(rows: RowList, say: Say = silent) -> tuple[str, list[dict[str, Any]]]:
    """Hash all files of a list (SHA-256, in hex), and say what went into it for each file.

    say: told how far it is, where there are many.
    """
    files = list(_of_each(partial(_of_file, rows.folder), rows.entries, "hashed", say))
    return canonical_hash({"folder": rows.folder.uri, "files": files}), files


def _of_file(folder: Folder, entry: Entry) -> dict[str, Any]:
    digest = hashlib.sha256()
    whole = entry.bytes <= _WHOLE_BYTES
    with folder.open(entry.name) as file:
        if whole:
            while data := file.read(_END_BYTES):
                digest.update(data)
        else:
            digest.update(file.read(_END_BYTES))
            file.seek(entry.bytes - _END_BYTES)
            digest.update(file.read(_END_BYTES))
    found: dict[str, Any] = {"name": entry.name, "bytes": entry.bytes, "sha256": digest.hexdigest()}
    return found if whole else {**found, "hashed": "ends", "version": entry.version}
