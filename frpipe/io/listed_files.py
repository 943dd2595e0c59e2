"""The files of a finished run, by its own list: what is read is what was checked when the run ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import OutputError
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.io.parts import PartFile

REMEDY = "run the job that made it again, into a new output; a file that was changed by hand cannot be used"


@dataclass(frozen=True, slots=True)
class ListedFiles:
    """sha256: by name.  remedy: what to do where a file is not the one that is listed."""

    folder: Folder
    sha256: Mapping[str, str]
    remedy: str = REMEDY

    @classmethod
    def of(cls, folder: Folder, remedy: str = REMEDY) -> ListedFiles:
        """Those of a finished run."""
        listed = json.loads(folder.read(run.FILES))["files"]
        return cls(folder, {file["name"]: file["sha256"] for file in listed}, remedy)

    @classmethod
    def checked(cls, folder: Folder, files: Sequence[PartFile]) -> ListedFiles:
        """Those that have just been read back."""
        return cls(folder, {file.name: file.sha256 for file in files})

    def below(self, sub: str) -> list[str]:
        """Names of the files of a folder, in order."""
        return sorted(name for name in self.sha256 if name.startswith(f"{sub}/"))

    def read(self, name: str) -> bytes:
        """All bytes. Raises OutputError where they are not those of the list; never deletes anything."""
        try:
            data = self.folder.read(name)
        except FileNotFoundError:
            data = b""
        if hashlib.sha256(data).hexdigest() != self.sha256.get(name):
            raise OutputError(
                f"{name} in {self.folder.uri} is not the file that was checked when it was finished",
                self.remedy,
            )
        return data

    def table(self, name: str) -> pa.Table:
        """A Parquet file, without its key-value metadata."""
        table = pq.read_table(pa.BufferReader(self.read(name)), use_threads=False)
        return table.replace_schema_metadata(None)
