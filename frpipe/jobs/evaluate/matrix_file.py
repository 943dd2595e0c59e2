"""A matrix of scores as files: CSV or Parquet with the ids in it, or .npy with two lists of ids."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, ManifestError
from frpipe.core.text import canonical_text
from frpipe.io.manifest import list_files
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.metrics.score_matrix import ScoreMatrix
from frpipe.metrics.scores import Doubles, Kind

_LONGEST = 30
_SEPARATORS = ",;\t"
_NUMBER = "write a finite number; a score that says that a comparison failed is named with --failed-score"
# Of Parquet that are read at once.
_ROWS = 512


@dataclass(frozen=True, slots=True)
class MatrixFile:
    """Where a matrix lies, and how it is meant.

    uri: CSV or TSV (packed too), Parquet, or .npy, for which `probes` and `gallery` are texts with an id a
    line.  failed: scores that say that a comparison failed; NaN among them: NaN and empty cells do.
    """

    uri: str
    kind: Kind = "similarity"
    failed: Sequence[float] = ()
    probes: str | None = None
    gallery: str | None = None

    def read(self) -> ScoreMatrix:
        """The matrix, ids in Unicode NFC.

        Raises ManifestError with file, row and column: rows of several lengths, a cell that is no finite
        number, an id that is missing or stands twice, ids that do not fit the shape, nobody with a mate.
        """
        name = uris.parent(uris.canonical(self.uri))[1]
        numpy = name.lower().endswith(".npy")
        lists = self.probes is not None, self.gallery is not None
        if numpy and not all(lists):
            raise ConfigError(f"{name} holds no ids", "name both lists: --probes FILE --gallery FILE")
        if any(lists) and not numpy:
            raise ConfigError(
                f"{name} holds its ids itself", "leave --probes and --gallery out; they are for .npy"
            )
        found = self._numpy(name) if numpy else self._table()
        if (found.mate < 0).all():
            raise ManifestError(
                f"no probe of {name} has the id of anybody in the gallery: nothing is mated",
                "write one id for one person on both sides",
            )
        return found

    def _table(self) -> ScoreMatrix:
        folder, files = list_files.find(self.uri, "matrix of scores")
        if len(files) > 1:
            raise ManifestError(
                f"{self.uri} is {counted(len(files), 'files')}", "name the one that holds the matrix"
            )
        file = files[0]
        if file.format == "jsonl":
            raise ManifestError(f"{file.shown} is JSON", "write a matrix as CSV, Parquet or .npy")
        with folder.open(file.name) as packed, file.unpacked(packed) as data:
            if file.format == "csv":
                return self._csv(data, file.shown)
            return self._parquet(data, file.shown)

    def _csv(self, data: BinaryIO, name: str) -> ScoreMatrix:
        try:
            rows = _csv_rows(data)
            header = next(rows, None)
            if not header:
                raise ManifestError(f"{name} is empty", "the first line holds the ids of the gallery")
            if len(header) < 2:
                raise ManifestError(
                    f"the first line of {name} names nobody in the gallery",
                    "a column of probe ids, then one for each id of the gallery",
                )
            gallery = _ids(header[1:], f"{name}: column", first=2)
            probes, scores = [], []
            for number, row in enumerate(rows, 1):
                if len(row) != len(header):
                    cells = counted(len(row), "cells")
                    raise ManifestError(
                        f"row {number:,} of {name} has {cells}, and the first line {len(header):,}",
                        "begin the first line with a cell above the probes' ids, and give all scores",
                    )
                probes.append(row[0])
                scores.append(self._row(row[1:], number, name))
        except UnicodeDecodeError:
            raise ManifestError(f"{name} holds text that is not UTF-8", "write it as UTF-8") from None
        except (csv.Error, OSError, EOFError) as error:
            raise ManifestError(f"{name} cannot be read as CSV: {error}", "write it anew") from None
        return self._matrix(_ids(probes, f"{name}: row"), gallery, scores, name)

    def _row(self, cells: Sequence[str], number: int, name: str) -> Doubles:
        try:
            found = np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            found = np.array([_number(cell) for cell in cells])
        odd = self._odd(found)
        if odd.any():
            column = next(
                (
                    place
                    for place in np.flatnonzero(odd).tolist()
                    if not self._nan_fails or cells[place].strip().lower() not in ("", "nan")
                ),
                None,
            )
            if column is not None:
                raise _no_number(cells[column], number, column + 2, name)
        # Python reads 1_000 as a number, and no list means it so.
        if "_" in "".join(cells):
            column = next(place for place, cell in enumerate(cells) if "_" in cell)
            raise _no_number(cells[column], number, column + 2, name)
        return self._marked(found, np.float64)

    def _parquet(self, data: BinaryIO, name: str) -> ScoreMatrix:
        try:
            file = pq.ParquetFile(data)
            fields = [*file.schema_arrow]
        except (pa.ArrowException, OSError) as error:
            raise ManifestError(f"{name} is no Parquet file: {error}", "write it anew") from None
        if len(fields) < 2:
            raise ManifestError(
                f"{name} names nobody in the gallery",
                "a column of probe ids, then one for each of the gallery",
            )
        of_ids = _of_ids(file.schema_arrow)
        columns = [place for place in range(len(fields)) if place != of_ids]
        gallery = _ids([fields[place].name for place in columns], f"{name}: column", first=columns[0] + 1)
        _check_kinds(fields, of_ids, name)
        first, probes, scores = 1, [], []
        try:
            for batch in file.iter_batches(batch_size=_ROWS):
                probes += batch.column(of_ids).cast(pa.string()).fill_null("").to_pylist()
                block = np.empty((batch.num_rows, len(columns)))
                for at, place in enumerate(columns):
                    block[:, at] = self._column(batch.column(place), first, place + 1, name)
                scores.append(block)
                first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise ManifestError(f"{name} cannot be read: {error}", "write it anew") from None
        return self._matrix(_ids(probes, f"{name}: row"), gallery, scores, name)

    def _column(self, values: pa.Array, row: int, column: int, name: str) -> Doubles:
        """Scores of a column of Parquet, some rows from this one on."""
        if values.null_count and not self._nan_fails:
            absent = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
            raise _no_number("", row + int(absent[0]), column, name)
        numbers = values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
        self._refuse(numbers[:, None], row, column, name)
        return self._marked(numbers, values.type.to_pandas_dtype())

    def _numpy(self, name: str) -> ScoreMatrix:
        assert self.probes is not None
        assert self.gallery is not None
        ids = _listed(self.probes), _listed(self.gallery)
        with _opened(self.uri) as (file, size):
            array = _array(file, size, name)
        if array.shape != (len(ids[0]), len(ids[1])):
            raise ManifestError(
                f"{name} is {array.shape[0]:,} x {array.shape[1]:,}, and there are {len(ids[0]):,} probe ids "
                f"and {len(ids[1]):,} gallery ids",
                "give an id for each row, and for each column",
            )
        scores = np.empty(array.shape)
        for row in range(len(array)):
            numbers = array[row].astype(np.float64)
            self._refuse(numbers[None, :], row + 1, 1, name)
            scores[row] = self._marked(numbers, array.dtype.type)
        return self._matrix(*ids, [scores], name)

    def _matrix(
        self, probes: Sequence[str], gallery: Sequence[str], scores: Sequence[Doubles], name: str
    ) -> ScoreMatrix:
        if not len(probes) or not len(gallery):
            raise ManifestError(f"{name} has no scores", "give at least one probe and one id of the gallery")
        whole = scores[0] if len(scores) == 1 and scores[0].ndim == 2 else np.vstack(scores)
        return ScoreMatrix(probes, gallery, whole, self.kind)

    @property
    def _nan_fails(self) -> bool:
        return any(np.isnan(self.failed))

    def _odd(self, numbers: Doubles) -> NDArray[np.bool_]:
        """What is no finite number, and no sign of a failure either."""
        return ~np.isfinite(numbers) & ~np.isin(numbers, [*self.failed])

    def _refuse(self, numbers: Doubles, row: int, column: int, name: str) -> None:
        """Raise ManifestError for the first odd number of (r, c), which begin at that row and column."""
        odd = self._odd(numbers) & ~(np.isnan(numbers) & self._nan_fails)
        if odd.any():
            at = np.argwhere(odd)[0]
            raise _no_number(str(numbers[tuple(at)]), row + int(at[0]), column + int(at[1]), name)

    def _marked(self, numbers: Doubles, of: Any) -> Doubles:
        """NaN where the comparison failed.  of: the type as it was written, in which scores are compared."""
        signs = [value for value in self.failed if not np.isnan(value)]
        if not signs:
            return numbers
        single = np.issubdtype(of, np.floating) and np.dtype(of).itemsize < 8
        known = [*signs, *(float(of(value)) for value in signs if single)]
        return np.where(np.isin(numbers, known), np.nan, numbers)


def _of_ids(schema: pa.Schema) -> int:
    """The column of ids: the first, or what pandas says is the index, which it writes last."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    named = [name for name in index if isinstance(name, str)]
    return schema.get_field_index(named[0]) if len(named) == 1 and named[0] in schema.names else 0


def _check_kinds(fields: Sequence[pa.Field], of_ids: int, name: str) -> None:
    """Raise ManifestError: ids are neither texts nor whole numbers, or a column holds no numbers."""
    for place, field in enumerate(fields):
        kind = field.type
        if place == of_ids:
            texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
            fits, what, remedy = (
                texts or pa.types.is_integer(kind),
                "ids",
                "put the probes' ids there, as texts",
            )
        else:
            fits, what, remedy = pa.types.is_floating(kind) or pa.types.is_integer(kind), "numbers", _NUMBER
        if not fits:
            raise ManifestError(f"column {place + 1:,} of {name} holds {kind} and no {what}", remedy)


def _csv_rows(data: BinaryIO) -> Iterator[list[str]]:
    """Rows of cells, without empty lines. The separator is that of the first line."""
    text = io.TextIOWrapper(data, "utf-8-sig", newline="")
    first = text.readline()
    while first and not first.strip():
        first = text.readline()
    separator = max(_SEPARATORS, key=first.count)
    for line in csv.reader(_from(first, text), delimiter=separator):
        if line:
            yield line


def _from(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
    yield first
    yield from rest


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _no_number(value: str, row: int, column: int, name: str) -> ManifestError:
    held = f"holds {value.strip()[:_LONGEST]!r}, which is no finite number" if value.strip() else "is empty"
    return ManifestError(f"row {row:,}, column {column:,} of {name} {held}", _NUMBER)


def _ids(texts: Sequence[str], where: str, first: int = 1) -> list[str]:
    """In NFC, without blanks around them. where: the file and what is counted, from `first` on."""
    found = [canonical_text(text.strip()) for text in texts]
    seen: dict[str, int] = {}
    for number, name in enumerate(found, first):
        if not name:
            raise ManifestError(f"{where} {number:,} has no id", "name each probe, and each of the gallery")
        if name in seen:
            raise ManifestError(
                f"{where} {number:,} has the id of {seen[name]:,}", "give each id one row, and one column"
            )
        seen[name] = number
    return found


@contextmanager
def _opened(uri: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file of any storage, open, and its size."""
    parent, name = uris.parent(uris.canonical(uri))
    folder = Folder.at(parent)
    try:
        size = folder.entry(name).bytes
    except FileNotFoundError:
        raise ManifestError(f"there is no file {uri}", "check the path") from None
    with folder.open(name) as file:
        yield file, size


def _listed(uri: str) -> list[str]:
    """Ids of a text, one a line."""
    name = uris.parent(uris.canonical(uri))[1]
    with _opened(uri) as (file, _):
        try:
            lines = file.read().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ManifestError(f"{name} holds text that is not UTF-8", "write it as UTF-8") from None
    return _ids(lines, f"{name}: line")


def _array(file: BinaryIO, size: int, name: str) -> NDArray[Any]:
    """Of a .npy file. Its header is not believed before the bytes are there."""
    remedy = "write it with numpy.save, as an array of two dimensions of numbers"
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, kind = read(file)
    except (ValueError, OSError, EOFError) as error:
        raise ManifestError(f"{name} is no .npy file: {error}", remedy) from None
    if len(shape) != 2 or min(shape) < 0 or kind.kind not in "fiu":
        raise ManifestError(f"{name} holds {kind} of {counted(len(shape), 'dimensions')}", remedy)
    amount = shape[0] * shape[1] * kind.itemsize
    if size - file.tell() != amount:
        raise ManifestError(
            f"{name} holds {size - file.tell():,} bytes of scores, and its header says {amount:,}", remedy
        )
    data = np.frombuffer(file.read(amount), kind) if amount else np.empty(0, kind)
    return data.reshape(shape, order="F" if fortran else "C")
