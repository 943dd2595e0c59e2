"""The files of a finished run, by its own list: what is read is what was checked when the run ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, read_whole

T = TypeVar("T")

REMEDY = (
    "see what else is damaged with `frpipe check`, mend it with --mend, then run the job that made it again; "
    "a file that was changed by hand cannot be used"
)


@dataclass(frozen=True, slots=True)
class ListedFiles:
    """sha256: by name.  remedy: what to do where a file is not the one that is listed."""

    folder: Folder
    sha256: Mapping[str, str]
    remedy: str = REMEDY

    @classmethod
    def of(cls, folder: Folder, remedy: str = REMEDY) -> ListedFiles:
        """Those of a finished run."""
        return cls(folder, {file.name: file.sha256 for file in run.file_list(folder)}, remedy)

    @classmethod
    def checked(cls, folder: Folder, files: Sequence[PartFile]) -> ListedFiles:
        """Those that have just been read back."""
        return cls(folder, {file.name: file.sha256 for file in files})

    def below(self, sub: str) -> list[str]:
        """Names of the files of a folder, in order."""
        return sorted(name for name in self.sha256 if name.startswith(f"{sub}/"))

    def read(self, name: str) -> bytes:
        """All bytes. Raises OutputError where they are not those of the list; never deletes anything."""
        return self._checked(name, bytes)

    def table(self, name: str) -> pa.Table:
        """A Parquet file, without its key-value metadata."""
        return self._checked(name, as_table).replace_schema_metadata(None)

    def _checked(self, name: str, use: Callable[[bytes], T]) -> T:
        try:
            return read_whole(self.folder, name, use, self.sha256.get(name, "not listed"))
        except FileDamaged:
            raise OutputError(
                f"{name} in {self.folder.uri} is not the file that was checked when it was finished",
                self.remedy,
            ) from None
