"""The published results of a job that is not enroll: one file a unit of work, whole and written once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import OutputError
from frpipe.io.folder import Folder
from frpipe.io.parts import PartFile, part_name, to_parquet

_NUMBERED = re.compile(re.escape(part_name(0)).replace("000000", r"(\d{6,})"))


@dataclass(frozen=True, slots=True)
class Units:
    """Results under `sub/` of an output folder: unit n in `part-00000n.parquet`. A file there is whole."""

    folder: Folder
    sub: str

    def done(self) -> set[int]:
        """Units that are published."""
        names = (entry.name.rpartition("/")[2] for entry in self.folder.list(self.sub))
        return {int(found[1]) for found in map(_NUMBERED.fullmatch, names) if found}

    def publish(self, unit: int, table: pa.Table, metadata: Mapping[str, str]) -> bool:
        """Put a unit's rows in place. False if another attempt had done it already: the first one stays."""
        return self.folder.create(self._name(unit), to_parquet(table, metadata))

    def read(self, unit: int) -> pa.Table:
        """A published unit. Raises OutputError where it is damaged."""
        return self._checked(unit)[1]

    def tables(self) -> Iterator[pa.Table]:
        """All published units, in their order."""
        return (self.read(unit) for unit in sorted(self.done()))

    def files(self) -> list[PartFile]:
        """Every published file, read back and hashed. Raises OutputError where one is damaged."""
        return [self._checked(unit)[0] for unit in sorted(self.done())]

    def _checked(self, unit: int) -> tuple[PartFile, pa.Table]:
        name = self._name(unit)
        data = self.folder.read(name)
        try:
            table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        except (pa.ArrowException, OSError, UnicodeError):
            self.folder.delete(name)
            raise OutputError(
                f"{name} of the output is damaged", "run the same command again: it is done anew"
            ) from None
        return PartFile(name, table.num_rows, len(data), hashlib.sha256(data).hexdigest()), table

    def _name(self, unit: int) -> str:
        return f"{self.sub}/{part_name(unit)}"
