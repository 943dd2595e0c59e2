"""Sort any number of rows by subject on disk, and read them in buckets, in bounded memory."""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.core.distinct import distinct
from frpipe.core.errors import StorageError
from frpipe.gallery.packed import hashes
from frpipe.gallery.schema import EMBEDDING, SUBJECT_ID, vector_array, vectors_of
from frpipe.io.storage.failure import storage_error

_SPAN = 1 << 64
SPARE_BYTES = 256 << 20
"""Space to leave free on the disk of temporary files."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A sorted run: hashes of its subjects, offset of its texts, and row of its first vector."""

    hashes: NDArray[np.uint64]
    texts_at: int
    texts_bytes: int
    first: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """All rows of some subjects. texts: without `embedding`; parts: the vectors, in pieces.

    filled: digest of the values with which missing attributes were filled; empty: none were.
    """

    texts: pa.Table
    parts: list[NDArray[np.floating]]
    filled: bytes = b""

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Copy the vectors of some rows, in that order: (len(rows), dim)."""
        out = np.empty((len(rows), self.parts[0].shape[1]), self.parts[0].dtype)
        start = 0
        for part in self.parts:
            inside = np.flatnonzero((rows >= start) & (rows < start + len(part)))
            out[inside] = part[rows[inside] - start]
            start += len(part)
        return out


class ExternalSort:
    """External sort of tables by subject. Its files have no name: they vanish with the process.

    They lie in the folder of temporary files, TMPDIR. Raises StorageError before that disk is full.

    total: rows of the whole that these are a part of, by which buckets are numbered; None: these are all.
    """

    def __init__(self, dim: int, stored_type: str, bucket_rows: int, total: int | None = None) -> None:
        self._dim, self._type, self._bucket_rows = dim, np.dtype(stored_type), bucket_rows
        self._total = total
        self._texts = tempfile.TemporaryFile(prefix="frpipe-")  # noqa: SIM115 - closed by __exit__
        self._vectors = tempfile.TemporaryFile(prefix="frpipe-")  # noqa: SIM115
        self._runs: list[_Run] = []
        # What was written, by views of the two files: texts of each run, and (rows, dim) vectors.
        self._read: tuple[list[pa.Table], NDArray[Any]] | None = None
        self._maps: list[mmap.mmap] = []
        self.rows = 0

    def take(self, tables: Iterable[pa.Table]) -> None:
        """Write conforming tables to disk, in runs of about a bucket's size."""
        waiting: list[pa.Table] = []
        count = 0
        for table in tables:
            for start in range(0, table.num_rows, self._bucket_rows):
                waiting.append(table.slice(start, self._bucket_rows))
                count += waiting[-1].num_rows
                if count >= self._bucket_rows:
                    self._write(waiting)
                    waiting, count = [], 0
        if waiting:
            self._write(waiting)

    @property
    def buckets(self) -> int:
        """The number of buckets, each of about `bucket_rows` rows."""
        return buckets_of(self.rows if self._total is None else self._total, self._bucket_rows)

    def subject_hashes(self) -> NDArray[np.uint64]:
        """Hashes of all subjects, sorted, each once."""
        return distinct(np.concatenate([run.hashes for run in self._runs]))

    def bounds(self, number: int) -> tuple[int, int]:
        """The range of hashes of a bucket: from the first number up to the second, exclusive."""
        return bounds_of(number, self.buckets)

    def bucket(self, number: int) -> Bucket:
        """Read one bucket, by views of the files where possible."""
        if not self._runs:
            return Bucket(pa.table({}), [])
        low, high = self.bounds(number)
        texts, parts = [], []
        all_texts, all_vectors = self._views()
        for run, table in zip(self._runs, all_texts, strict=True):
            start, end = between(run.hashes, low, high)
            if end > start:
                texts.append(table.slice(start, end - start))
                parts.append(all_vectors[run.first + start : run.first + end])
        return Bucket(_united(texts), parts) if texts else Bucket(pa.table({}), [])

    def tables(self) -> Iterator[pa.Table]:
        """Read all rows, a bucket at a time, with their vectors: those of a subject are in one table."""
        for number in range(self.buckets):
            bucket = self.bucket(number)
            if bucket.parts:
                vectors = vector_array(bucket.vectors(np.arange(len(bucket.texts))))
                yield bucket.texts.append_column(EMBEDDING, vectors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._texts.close()
        self._vectors.close()

    def _write(self, tables: list[pa.Table]) -> None:
        texts = _united([table.drop_columns([EMBEDDING]) for table in tables]).combine_chunks()
        _check_space(texts.nbytes + len(texts) * self._dim * self._type.itemsize, len(texts), self.rows)
        try:
            self._spill(texts, tables)
        except OSError as error:
            raise storage_error(error, tempfile.gettempdir()) from error

    def _spill(self, texts: pa.Table, tables: list[pa.Table]) -> None:
        given = Bucket(texts, [vectors_of(table) for table in tables])
        keys = hashes(texts.column(SUBJECT_ID))
        order = np.argsort(keys, kind="stable")
        self._read, at = None, self._texts.tell()
        with pa.ipc.new_stream(pa.PythonFile(self._texts, "w"), texts.schema) as stream:
            stream.write_table(texts.take(pa.array(order)))
        for start in range(0, len(order), 4096):
            block = given.vectors(order[start : start + 4096]).astype(self._type, copy=False)
            self._vectors.write(block.view(np.uint8).data)
        self._runs.append(_Run(keys[order], at, self._texts.tell() - at, self.rows))
        self.rows += len(order)

    def _views(self) -> tuple[list[pa.Table], NDArray[Any]]:
        """Map the two files, once: a map of each run would take an open file each.

        Pages of buckets that were read before are given back: they would count as memory of this process.
        """
        if self._read is None:
            self._texts.flush()
            self._vectors.flush()
            self._maps = [
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in (self._texts, self._vectors)
            ]
            texts, vectors = map(pa.py_buffer, self._maps)
            flat = np.frombuffer(vectors, self._type).reshape(self.rows, self._dim)
            self._read = [_texts_of(texts, run) for run in self._runs], flat
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)
        return self._read


def _check_space(wanted: int, rows: int, done: int) -> None:
    """Raise StorageError if `wanted` bytes would fill the disk. rows: their number.  done: rows before."""
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if free < wanted + SPARE_BYTES:
        raise StorageError(
            f"{place} has {free >> 20:,} MB left, too little to sort more than {counted(done, 'rows')}",
            f"a row takes {wanted // rows:,} bytes there: let TMPDIR name a folder of a larger disk, or "
            "consolidate fewer runs at once",
        )


def _texts_of(mapped: pa.Buffer, run: _Run) -> pa.Table:
    return pa.ipc.open_stream(mapped.slice(run.texts_at, run.texts_bytes)).read_all()


def buckets_of(rows: int, bucket_rows: int) -> int:
    """The number of buckets of so many rows."""
    return -(-rows // bucket_rows)


def bounds_of(number: int, buckets: int) -> tuple[int, int]:
    """The range of hashes of a bucket: from the first number up to the second, exclusive."""
    return number * _SPAN // buckets, (number + 1) * _SPAN // buckets


def between(ordered: NDArray[np.uint64], low: int, high: int) -> tuple[int, int]:
    """Positions at which the values of [low, high) begin and end in a sorted array; `high` may be 2**64."""
    start = int(np.searchsorted(ordered, np.uint64(low)))
    end = len(ordered) if high >= _SPAN else int(np.searchsorted(ordered, np.uint64(high)))
    return start, end


def _united(tables: list[pa.Table]) -> pa.Table:
    """Concatenate tables; attributes that some lack are null there."""
    return pa.concat_tables(tables, promote_options="default")
