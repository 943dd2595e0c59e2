"""Publish results of a job other than enroll: one file per unit of work, whole and written once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from frpipe.core.errors import FileDamaged
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile, part_file, part_name, part_number, to_parquet
from frpipe.io.storage.folder import Entry, Folder
from frpipe.io.storage.whole_file import as_table, batches, read_whole

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Units:
    """Result files under `sub/` of an output folder: unit n in `part-00000n.parquet`.

    Each file there is whole.
    """

    folder: Folder
    sub: str

    def done(self) -> set[int]:
        """The numbers of the units that are published."""
        return {*self.published()}

    def published(self) -> dict[int, Entry]:
        """The files of the units that are published, by their numbers."""
        numbered = ((part_number(entry.name), entry) for entry in self.folder.list(self.sub))
        return {unit: entry for unit, entry in numbered if unit is not None}

    def publish(self, unit: int, table: pa.Table, metadata: Mapping[str, str]) -> bool:
        """Publish the rows of a unit. False if another attempt had done it already: the first one stays."""
        return self.folder.create(self._name(unit), to_parquet(table, metadata))

    def read(self, unit: int) -> pa.Table:
        """Read a published unit; of a finished run, as its list of files has it.

        Raises FileDamaged where it is not, and deletes nothing; StorageError, OutOfMemory, OutputError.
        """
        return run.read_table(*self._place(unit))

    def read_own(self, unit: int) -> pa.Table | None:
        """Read a unit of an unfinished run, for its own driver.

        None where it is damaged, and has been withdrawn.
        """
        return self.use_own(unit, as_table)

    def use_own(self, unit: int, use: Callable[[bytes], T]) -> T | None:
        """Read the bytes of a unit with `use`, as `read_own`; it is called again for a second read."""
        try:
            return read_whole(*self._place(unit), use)
        except FileDamaged:
            run.refuse_sealed(self.folder)
            self.withdraw(unit)
            return None

    def counted(self, unit: int, count: Callable[[bytes], T]) -> tuple[PartFile, T]:
        """Read the file of a unit of an unfinished run back and hash it; its entry, and what `count` counts.

        count: called with its bytes, of which it reads every page.  Raises as `read`.
        """
        return read_whole(*self._place(unit), lambda data: (part_file(self._name(unit), data), count(data)))

    def withdraw(self, unit: int) -> None:
        """Take a damaged unit back, so that it is done again. For the run's own driver alone."""
        self.folder.delete(self._name(unit))

    def use(self, unit: int, use: Callable[[bytes], T]) -> T:
        """Read the bytes of a published unit of an unfinished run with `use`. Raises as `read`."""
        return read_whole(*self._place(unit), use)

    def tables(self) -> Iterator[pa.Table]:
        """Iterate over all published units, in their order."""
        return (self.read(unit) for unit in sorted(self.done()))

    def files(self) -> list[PartFile]:
        """Read every published file back and hash it. Raises FileDamaged where one is damaged."""
        return [read_whole(*self._place(unit), self._lister(unit)) for unit in sorted(self.done())]

    def _lister(self, unit: int) -> Callable[[bytes], PartFile]:
        def listed(data: bytes) -> PartFile:
            deque(batches(data), maxlen=0)
            return part_file(self._name(unit), data)

        return listed

    def _place(self, unit: int) -> tuple[Folder, str]:
        return self.folder, self._name(unit)

    def _name(self, unit: int) -> str:
        return f"{self.sub}/{part_name(unit)}"
