"""The log of the layout `parquet`: for each version a document with the whole list of files.

TABLE/_files/000000012.json   created once; the newest number is the table. Older lists are removed
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json
from frpipe.io.tables.state import NONE, DataFile, State, unforgotten, verified
from frpipe.io.tables.types import schema_json, schema_of

LISTS = "_files"
FORMAT = 1
_NAME = re.compile(rf"{LISTS}/(\d{{9}})\.json")
# The greatest number that a name can hold.
_LAST = 10**9 - 1
_KEPT = 8
# Versions between two that leave out the names of files that are gone.
_FORGET_EVERY = 20
_TRIES = 20


@dataclass(frozen=True, slots=True)
class FileLists:
    """The lists of the files of a table."""

    folder: Folder

    def head(self) -> State:
        """Read the newest version, as `Log.head`. Raises OutputError where its list cannot be read."""
        for _ in range(_TRIES):
            numbers = self._numbers()
            if not numbers:
                return State(NONE, pa.schema([]))
            try:
                return _state(read_json(self.folder, _name(numbers[-1])), numbers[-1])
            except FileNotFoundError:
                continue  # removed by its writer, who had paused before it was listed
            except (FileDamaged, KeyError, TypeError, ValueError, AttributeError, RecursionError):
                break
        raise OutputError(
            f"the list of files in {self.folder.uri} cannot be read",
            "use the version of frpipe that wrote it, or restore it from a copy",
        )

    def commit(self, base: State, new: State, *, compaction: bool = False) -> bool:
        """Create the next version, as `Log.commit`."""
        number, mine = base.version + 1, secrets.token_hex(8)
        document = {
            "format": FORMAT,
            "version": number,
            "commit": mine,
            "table_id": new.table_id,
            "compaction": compaction,
            "partition_by": list(new.partition_by),
            "schema": schema_json(new.schema),
            "files": [asdict(file) for _, file in sorted(new.files.items())],
            "removed": new.removed if number % _FORGET_EVERY else unforgotten(self.folder, new),
            "applied": dict(new.applied),
        }
        data = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
        if not self.folder.create(_name(number), data) and not self._is_mine(number, mine):
            return False
        numbers = self._numbers()
        if numbers and numbers[-1] > number + _KEPT // 2:
            # This writer paused for so long that the list of this number had been removed.
            self.folder.delete(_name(number))
            return False
        self.folder.delete_all(_name(each) for each in numbers if each <= number - _KEPT)
        return True

    def _numbers(self) -> list[int]:
        found = (_NAME.fullmatch(entry.name) for entry in self.folder.list(LISTS))
        return sorted(int(each[1]) for each in found if each)

    def _is_mine(self, number: int, commit: str) -> bool:
        try:
            return bool(read_json(self.folder, _name(number)).get("commit") == commit)
        except FileNotFoundError:
            return False


def _name(number: int) -> str:
    return f"{LISTS}/{number:09d}.json"


def _state(data: dict[str, Any], number: int) -> State:
    """Parse a document. Raises KeyError, TypeError or ValueError where it is no version of that number."""
    if data["format"] != FORMAT or data["version"] != number or number >= _LAST:
        raise KeyError
    files = [DataFile(**each) for each in data["files"]]
    return verified(
        State(
            number,
            schema_of(data["schema"]),
            tuple(data["partition_by"]),
            {file.path: file for file in files},
            data["removed"],
            data["applied"],
            data["table_id"],
        )
    )
