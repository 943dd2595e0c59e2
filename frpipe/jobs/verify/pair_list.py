"""Read the list of pairs to compare in blocks: a file or a folder of Parquet, CSV or JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.config import canonical_hash
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, ManifestError
from frpipe.core.pulse import Pulse, Say, silent
from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.io.manifest.columns import shown
from frpipe.io.manifest.row_list import RowList, fingerprint
from frpipe.io.output.plan import slices
from frpipe.jobs.verify.named_faces import NAME_BYTES
from frpipe.jobs.verify.schema import A, B, carried

_SHOWN = 5
_MB = 10**6


@dataclass(frozen=True, slots=True)
class PairList:
    """A list of pairs. schema: its columns as they travel to the result; a and b as strings."""

    rows_of: RowList
    schema: pa.Schema

    @classmethod
    def open(cls, uri: str) -> PairList:
        """Find the files and read their columns.

        Raises ManifestError: no list, no columns a and b, a column with a name of ours or of a type that
        some readers of Parquet lack.
        """
        sides = frozenset({A, B})
        found = RowList.opened(uri, "list of pairs", sides, sides)
        schema = carried(found.schema)
        found.require(A, B)
        return cls(found, schema)

    @property
    def digest(self) -> str:
        """Hash the content of all files (SHA-256), wherever they lie."""
        return canonical_hash({"files": fingerprint(self.rows_of)[1]})

    def blocks(self, rows: int) -> Iterator[pa.Table]:
        """Iterate over all pairs in order, so many a table; the last may be smaller."""
        return slices((table for _, _, table in self._tables()), rows)

    def checked(self) -> Iterator[pa.Table]:
        """Iterate over all pairs in order.

        At the end raises ManifestError where rows cannot be used, with their numbers.
        """
        nulls = _Nulls()
        for file, first, table in self._tables():
            nulls.add(table, file, first, self.rows_of.names)
            yield table
        nulls.raise_if_any()

    def _tables(self) -> Iterator[tuple[int, int, pa.Table]]:
        for batch in self.rows_of.batches():
            table = pa.Table.from_batches([batch.rows])
            for at, side in ((table.schema.get_field_index(side), side) for side in (A, B)):
                table = table.set_column(at, side, batch.text(side))
            yield batch.file, batch.first_row, table.cast(self.schema)


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


@dataclass(frozen=True, slots=True)
class PairNames:
    """The names in a list. number: of each, in NFC, from 0 without gaps.  pairs: rows.  mb: memory for all.

    padded: how many values of a column of texts have blanks around them, where there are any.
    """

    number: dict[str, int]
    pairs: int
    mb: float
    padded: Counter[str]

    @classmethod
    def read(cls, pairs: PairList, dim: int, memory_mb: int, say: Say = silent) -> PairNames:
        """Read the names of the whole list. say: told how far it is.

        Raises ManifestError: rows that cannot be used, or none; ConfigError, with the arithmetic: embeddings
        of `dim` numbers for all names do not fit.
        """
        number: dict[str, int] = {}
        padded: Counter[str] = Counter()
        rows, pulse = 0, Pulse(say)
        for table in pairs.checked():
            rows += table.num_rows
            pulse.beat(rows, "{} pairs of the list read")
            padded += _padded(table)
            for side in (A, B):
                for name in table[side].drop_null().unique().to_pylist():
                    number.setdefault(canonical_text(name), len(number))
            if len(number) * NAME_BYTES > memory_mb * _MB:
                raise _too_many("at least ", len(number), dim, memory_mb)
        if not rows:
            raise ManifestError("the list of pairs has no rows", "check --pairs")
        if len(number) * _bytes_each(dim) > memory_mb * _MB:
            raise _too_many("", len(number), dim, memory_mb)
        return cls(number, rows, len(number) * _bytes_each(dim) / _MB, padded)

    def remarks(self) -> Iterator[str]:
        """Remarks on what is doubtful in the list, counted and never named."""
        for column, count in self.padded.items():
            yield f"warning: {counted(count, 'values')} of {shown(column)}: blanks around them count"

    def numbers(self, side: pa.ChunkedArray) -> NDArray[np.int64]:
        """The numbers, (n,), of the names in one side of some pairs."""
        try:
            names = canonical_column(side).to_pylist()
            return np.fromiter(map(self.number.__getitem__, names), np.int64, len(side))
        except KeyError:
            raise ManifestError(
                "the list of pairs changed while it was read", "run the same command again"
            ) from None


def _padded(table: pa.Table) -> Counter[str]:
    texts = (name for name in table.column_names if pa.types.is_string(table[name].type))
    padded = {name: pc.not_equal(pc.utf8_trim_whitespace(table[name]), table[name]) for name in texts}
    return +Counter({name: pc.sum(each, min_count=0).as_py() for name, each in padded.items()})


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
