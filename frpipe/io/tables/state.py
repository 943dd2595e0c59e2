"""A version of a published table: the files that hold its rows, and the runs that are in it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

import pyarrow as pa

from frpipe.io.storage.folder import Folder

NONE = -1
"""The version of a table that does not exist yet."""
_MOST = 10**15
# How long Delta Lake keeps the names of removed files.
_FORGET_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of a table. partition: values of the columns that only its folder names."""

    path: str
    bytes: int
    rows: int
    partition: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The folder of its partition inside the table; empty where there is none."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class State:
    """A version of a table.

    files: by path.  removed: for each file of older versions, when it was removed from the table, in ms.
    applied: for each run that is in it, a number that stands for the run's content.
    """

    version: int
    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    files: Mapping[str, DataFile] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    applied: Mapping[str, int] = field(default_factory=dict)
    table_id: str = ""

    @property
    def rows(self) -> int:
        """The number of rows of the version."""
        return sum(file.rows for file in self.files.values())

    @property
    def bytes(self) -> int:
        """The number of bytes of its files."""
        return sum(file.bytes for file in self.files.values())


def verified(state: State) -> State:
    """Check a version that was read from an untrusted store. Raises ValueError where it makes no sense."""
    files = state.files.values()
    whole = (
        _is_count(state.version + 1)
        and isinstance(state.table_id, str)
        and all(isinstance(each, str) for each in state.partition_by)
        and len({name.casefold() for name in state.schema.names}) == len(state.schema.names)
        and all(is_data_file(file.path) and _is_count(file.bytes) and _is_count(file.rows) for file in files)
        and all(_has(file.partition, str | None) for file in files)
        and _has(state.removed, int)
        and _has(state.applied, int)
    )
    if not whole:
        raise ValueError
    return state


def is_data_file(path: Any) -> bool:
    """Whether a path is that of a file of rows inside a table, and not of its log."""
    if not isinstance(path, str) or not path or "\0" in path or not path.isprintable():
        return False
    parts = PurePosixPath(path).parts
    return (
        path.endswith(".parquet") and "/".join(parts) == path and not any(part[0] in "._/" for part in parts)
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _has(values: Any, kind: Any) -> bool:
    return isinstance(values, Mapping) and all(
        isinstance(name, str) and isinstance(value, kind) for name, value in values.items()
    )


class Log(Protocol):
    """The documents of a table's versions, each created once."""

    def head(self) -> State:
        """Read the newest version; its number is NONE where there is no table yet."""

    def commit(self, base: State, new: State, *, compaction: bool = False) -> bool:
        """Create the version after `base`. Returns False where another writer was first: nothing is changed.

        compaction: whether the rows are the same.
        """


def unforgotten(folder: Folder, state: State) -> dict[str, int]:
    """Select the removed files that versions must go on to name: lately removed ones, and those still there.

    A file that no version names is taken for one that a killed writer left, or for another program's.
    """
    since = now_ms() - _FORGET_MS
    if all(when >= since for when in state.removed.values()):
        return dict(state.removed)
    there = {entry.name for entry in folder.list()}
    return {path: when for path, when in state.removed.items() if when >= since or path in there}


def now_ms() -> int:
    """The time in milliseconds since 1970, as logs have it."""
    return int(time.time() * 1000)


def fresh_name(folder: str) -> str:
    """Make the path of a new data file, which no other writer makes."""
    name = f"part-{secrets.token_hex(12)}.parquet"
    return f"{folder}/{name}" if folder else name
