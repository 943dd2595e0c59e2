"""One version of a published table: which files hold its rows, and which runs are in it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

NONE = -1
"""Version of a table that is not there yet."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of a table. partition: values of the columns that its folder says, and not its rows."""

    path: str
    bytes: int
    rows: int
    partition: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """A version of a table. files: by path.  removed: files of older versions, when they went (ms).
    applied: for each run that is in it, a number that stands for the run's content."""

    version: int
    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    files: Mapping[str, DataFile] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    applied: Mapping[str, int] = field(default_factory=dict)
    table_id: str = ""

    @property
    def rows(self) -> int:
        """Rows of the version."""
        return sum(file.rows for file in self.files.values())

    @property
    def bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.bytes for file in self.files.values())


class Log(Protocol):
    """The documents of a table's versions, each created once."""

    def head(self) -> State:
        """The newest version; of version NONE where there is no table yet."""

    def commit(self, base: State, new: State, *, compaction: bool = False) -> bool:
        """Create the version after `base`. False where another writer was first: nothing is changed.

        compaction: the rows are the same.
        """


def now_ms() -> int:
    """Milliseconds since 1970, as logs have them."""
    return int(time.time() * 1000)


def fresh_name(folder: str) -> str:
    """Path of a new data file: no two writers make the same."""
    name = f"part-{secrets.token_hex(12)}.parquet"
    return f"{folder}/{name}" if folder else name
