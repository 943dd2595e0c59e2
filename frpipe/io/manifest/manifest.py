"""A manifest: the list of photos, in one file or a folder of files, read in batches and never whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from frpipe.core.config import canonical_hash
from frpipe.core.errors import ManifestError
from frpipe.io.manifest import image_struct
from frpipe.io.manifest.columns import ID, Columns
from frpipe.io.manifest.formats import csv, jsonl, parquet
from frpipe.io.manifest.row_faults import RowFault, RowTally
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Entry, Folder

Format = Literal["parquet", "csv", "jsonl"]
SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


# A file up to this size is hashed whole: below a second on one core. Of a larger one both ends and the
# version (ETag, or time of change) count: the footer of a Parquet file is at its end.
_WHOLE_BYTES = 64 << 20
_END_BYTES = 1 << 20


class Batch(NamedTuple):
    """Some rows of a manifest.

    The number of their file, the number of the first row (from 1), and the columns read.
    """

    file: int
    first_row: int
    rows: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a manifest. Relative photo paths start from `folder`."""

    uri: str
    folder: Folder
    files: tuple[Entry, ...]
    format: Format
    schema: pa.Schema
    columns: Columns

    @classmethod
    def open(cls, uri: str, reserved: frozenset[str] = frozenset()) -> Manifest:
        """Find the files and read their columns.

        uri: a file, or a folder of files of one format with the same columns; names that begin with `_` or
        `.` are left out.  reserved: names that the output uses itself.
        Raises ManifestError; StorageError where it cannot be read.
        """
        folder, files = _find(uris.canonical(uri))
        format = _format_of(files)
        schema = _common_schema(folder, files, format)
        columns = Columns.of(schema, reserved, may_embed=format == "parquet")
        return cls(uris.canonical(uri), folder, files, format, schema, columns)

    @property
    def names(self) -> list[str]:
        """Names of the files, relative to the folder."""
        return [entry.name for entry in self.files]

    def batches(self, tally: RowTally) -> Iterator[Batch]:
        """All rows in order. Rows that cannot be read as such are counted in `tally` and left out."""
        return self._batches(self.columns.read, tally)

    def ids(self) -> Iterator[tuple[int, int, list[str | None]]]:
        """(file, number of the first row, image ids) of all rows, once the rows are known to be readable."""
        key = self.columns.key
        for file, first_row, rows in self._batches([key], RowTally(self.names)):
            written = rows.column(0).cast(pa.string()).to_pylist()
            if self.columns.has_images and key != ID:
                written = image_struct.ids(written, self.files[file].name, first_row)
            yield file, first_row, written

    def rows_estimate(self) -> int:
        """The number of rows: exact for Parquet, else from the number of lines in the first MiB."""
        if self.format == "parquet":
            counts = []
            for entry in self.files:
                with self.folder.open(entry.name) as file:
                    counts.append(parquet.rows(file))
            return sum(counts)
        with self.folder.open(self.files[0].name) as file:
            start = file.read(1 << 20)
        total = sum(entry.bytes for entry in self.files)
        lines = start.count(b"\n") + (not start.endswith(b"\n"))
        headers = len(self.files) if self.format == "csv" else 0
        return max(1, round(lines * total / max(len(start), 1)) - headers)

    def _batches(self, columns: list[str], tally: RowTally) -> Iterator[Batch]:
        for number, entry in enumerate(self.files):
            row = 1
            with self.folder.open(entry.name) as file:
                if self.format == "parquet":
                    found = parquet.batches(file, columns)
                elif self.format == "csv":
                    found = csv.batches(
                        file, columns, self.schema.names, tally.counter(RowFault.COLUMNS, number)
                    )
                else:
                    found = jsonl.batches(file, columns, self.schema)
                for rows in found:
                    yield Batch(number, row, rows)
                    row += rows.num_rows


def _find(uri: str) -> tuple[Folder, tuple[Entry, ...]]:
    folder = Folder.at(uri)
    inside = [entry for entry in folder.list() if is_manifest_file(entry.name)]
    if inside:
        return folder, tuple(inside)
    parent, name = uris.parent(uri)
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        raise ManifestError(
            f"{uri} is no manifest: neither a .parquet, .csv or .jsonl file nor a folder of them",
            "to list a folder of photos: frpipe manifest scan FOLDER -o photos.parquet",
        )
    try:
        return Folder.at(parent), (Folder.at(parent).entry(name),)
    except FileNotFoundError:
        raise ManifestError(f"there is no manifest {uri}", "check the path") from None


def is_manifest_file(name: str) -> bool:
    """Whether a file below a folder belongs to a manifest: by its suffix, and not below a folder `_name`."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not any(part.startswith("_") for part in path.parts)


def _format_of(files: tuple[Entry, ...]) -> Format:
    formats = {SUFFIXES[PurePosixPath(entry.name).suffix.lower()] for entry in files}
    if len(formats) > 1:
        raise ManifestError(
            f"the manifest's folder holds files of {' and '.join(sorted(formats))}",
            "keep one format in a folder",
        )
    return formats.pop()


def _common_schema(folder: Folder, files: tuple[Entry, ...], format: Format) -> pa.Schema:
    read = {"parquet": parquet.schema, "csv": csv.schema, "jsonl": jsonl.schema}[format]
    first: pa.Schema | None = None
    for entry in files:
        with folder.open(entry.name) as file:
            schema = read(file)
        if not schema.names:
            raise ManifestError(f"{entry.name} is empty", "a manifest needs columns and rows")
        if first is not None and dict(zip(schema.names, schema.types, strict=True)) != dict(
            zip(first.names, first.types, strict=True)
        ):
            raise ManifestError(
                f"{entry.name} has other columns or types than {files[0].name}", "write all files alike"
            )
        first = first or schema
    assert first is not None
    return first


def fingerprint(manifest: Manifest) -> tuple[str, list[dict[str, Any]]]:
    """SHA-256, in hex, over all files of a manifest, and what went into it for each file."""
    files = [_of_file(manifest.folder, entry) for entry in manifest.files]
    return canonical_hash({"folder": manifest.folder.uri, "files": files}), files


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
