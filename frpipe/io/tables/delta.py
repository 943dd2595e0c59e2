"""The log of the layout `delta`: a table of Delta Lake, protocol 1 for readers and 2 for writers.

TABLE/_delta_log/00000000000000000012.json                what version 12 adds and removes; created once
TABLE/_delta_log/00000000000000000020.checkpoint.parquet  all of version 20, so that nobody reads older ones
TABLE/_delta_log/_last_checkpoint                         the number of the newest checkpoint

A version is created exclusively: of any number of writers one gets it, also in a store, and no table of locks
is needed. Statistics count rows and name no values: the ids of people are in no log.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FileDamaged, OutputError, StorageError
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.whole_file import read_json
from frpipe.io.tables.state import NONE, DataFile, State, now_ms, unforgotten, verified
from frpipe.io.tables.types import schema_json, schema_of

LOG = "_delta_log"
_READER, _WRITER = 1, 2
_LAST = f"{LOG}/_last_checkpoint"
_COMMIT = re.compile(rf"{LOG}/(\d{{20}})\.json")
_CHECKPOINT = re.compile(rf"{LOG}/(\d{{20}})\.checkpoint\.parquet")
# The most commits that a reader has to list and read.
_CHECKPOINT_EVERY = 20
_APP = "frpipe/"
_TRIES = 20
_CONFIGURATION = {"delta.dataSkippingNumIndexedCols": "0"}
# The errors of parsing a document that is no log of ours.
_SENSELESS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
Action = dict[str, Any]

_TEXTS = pa.map_(pa.string(), pa.string())
_CHECKPOINT_SCHEMA = pa.schema(
    [
        ("protocol", pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())])),
        (
            "metaData",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("name", pa.string()),
                    ("description", pa.string()),
                    ("format", pa.struct([("provider", pa.string()), ("options", _TEXTS)])),
                    ("schemaString", pa.string()),
                    ("partitionColumns", pa.list_(pa.string())),
                    ("configuration", _TEXTS),
                    ("createdTime", pa.int64()),
                ]
            ),
        ),
        (
            "txn",
            pa.struct([("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())]),
        ),
        (
            "add",
            pa.struct(
                [
                    ("path", pa.string()),
                    ("partitionValues", _TEXTS),
                    ("size", pa.int64()),
                    ("modificationTime", pa.int64()),
                    ("dataChange", pa.bool_()),
                    ("stats", pa.string()),
                ]
            ),
        ),
        (
            "remove",
            pa.struct(
                [
                    ("path", pa.string()),
                    ("deletionTimestamp", pa.int64()),
                    ("dataChange", pa.bool_()),
                ]
            ),
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class DeltaLog:
    """The log of a Delta table."""

    folder: Folder

    def head(self) -> State:
        """Read the newest version, as `Log.head`.

        Raises OutputError where another program has changed the table so that we must not write to it.
        """
        for _ in range(_TRIES):
            start, commits = self._listed()
            try:
                state = self._at(start)
                names = [_commit_name(each) for each in commits]
                for number, data in zip(commits, in_order(self.folder.read, names), strict=True):
                    state = replace(_applied(state, _actions(data)), version=number)
                return verified(state)
            except FileNotFoundError:
                continue  # removed since it was listed
            except _SENSELESS:
                raise self._unreadable() from None
        raise StorageError(
            f"the log of {self.folder.uri} is listed, and not found", "run again: nothing was changed"
        )

    def commit(self, base: State, new: State, *, compaction: bool = False) -> bool:
        """Create the next version, as `Log.commit`. Every twentieth version gets a checkpoint."""
        number, mine = base.version + 1, secrets.token_hex(8)
        actions = [_info(mine, compaction=compaction), *_changes(base, new, compaction=compaction)]
        data = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in actions).encode()
        name = _commit_name(number)
        if not self.folder.create(name, data) and self.folder.read(name) != data:
            return False
        if number and number % _CHECKPOINT_EVERY == 0:
            self._checkpoint(replace(new, version=number))
        return True

    def _listed(self) -> tuple[int, list[int]]:
        """List the newest checkpoint, NONE without one, and the commits after it.

        Raises OutputError where one is missing.
        """
        names = [entry.name for entry in self.folder.list(LOG)]
        checkpoints = [int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name))]
        start = max(checkpoints, default=NONE)
        numbers = sorted(int(found[1]) for name in names if (found := _COMMIT.fullmatch(name)))
        commits = [each for each in numbers if each > start]
        if commits != list(range(start + 1, start + 1 + len(commits))):
            raise self._unreadable()
        return start, commits

    def _at(self, checkpoint: int) -> State:
        state = State(NONE, pa.schema([]))
        if checkpoint == NONE:
            return state
        data = self.folder.read(_checkpoint_name(checkpoint))
        try:
            table = pq.read_table(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            raise ValueError from error
        rows = ({name: value for name, value in row.items() if value is not None} for row in _rows(table))
        return replace(_applied(state, rows), version=checkpoint)

    def _checkpoint(self, state: State) -> None:
        """Write a checkpoint of a version. A kill in the middle of it leaves the table as it was."""
        actions = [{"protocol": _protocol()}, {"metaData": _metadata(state)}]
        actions += [_txn(run, number) for run, number in state.applied.items()]
        actions += [_add(file, data_change=False) for file in state.files.values()]
        actions += [
            {"remove": {"path": path, "deletionTimestamp": when, "dataChange": False}}
            for path, when in unforgotten(self.folder, state).items()
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(actions, _CHECKPOINT_SCHEMA), sink)
        self.folder.write(_checkpoint_name(state.version), bytes(sink.getvalue()))
        last = {"version": state.version, "size": len(actions)}
        try:
            known = int(read_json(self.folder, _LAST)["version"])
        except (FileNotFoundError, FileDamaged, KeyError, ValueError, TypeError):
            known = NONE
        if known < state.version:
            self.folder.write(_LAST, json.dumps(last).encode())

    def _unreadable(self) -> OutputError:
        return OutputError(
            f"the Delta log of {self.folder.uri} is not one that this version of frpipe can write to",
            "publish to another root, or bring the table back to a version that frpipe wrote",
        )


def _commit_name(number: int) -> str:
    return f"{LOG}/{number:020d}.json"


def _checkpoint_name(number: int) -> str:
    return f"{LOG}/{number:020d}.checkpoint.parquet"


def _rows(table: pa.Table) -> Iterator[Action]:
    for batch in table.to_batches():
        yield from batch.to_pylist(maps_as_pydicts="strict")


def _actions(data: bytes) -> Iterator[Action]:
    return (json.loads(line) for line in data.decode().splitlines() if line)


def _applied(state: State, actions: Iterable[Action]) -> State:
    """Apply some actions to a state. Raises KeyError or ValueError for a feature that is not known here."""
    files, removed, applied = dict(state.files), dict(state.removed), dict(state.applied)
    for action in actions:
        for kind, value in action.items():
            match kind:
                case "protocol":
                    if value["minReaderVersion"] > _READER or value["minWriterVersion"] > _WRITER:
                        raise ValueError(kind)
                case "metaData":
                    state = replace(
                        state,
                        schema=schema_of(json.loads(value["schemaString"])),
                        partition_by=tuple(value["partitionColumns"]),
                        table_id=value["id"],
                    )
                case "add":
                    if value.get("deletionVector"):
                        raise ValueError(kind)
                    file = DataFile(
                        value["path"], value["size"], _rows_of(value), value.get("partitionValues") or {}
                    )
                    files[file.path] = file
                    removed.pop(file.path, None)
                case "remove":
                    files.pop(value["path"], None)
                    removed[value["path"]] = value.get("deletionTimestamp") or 0
                case "txn":
                    if value["appId"].startswith(_APP):
                        applied[value["appId"].removeprefix(_APP)] = value["version"]
                case _:
                    pass
    return replace(state, files=files, removed=removed, applied=applied)


def _rows_of(add: Action) -> int:
    return int(json.loads(add.get("stats") or "{}").get("numRecords", 0))


def _changes(base: State, new: State, *, compaction: bool) -> Iterator[Action]:
    if base.version == NONE:
        yield {"protocol": _protocol()}
    if base.version == NONE or base.schema != new.schema:
        yield {"metaData": _metadata(new)}
    for run, number in new.applied.items():
        if base.applied.get(run) != number:
            yield _txn(run, number)
    for path in base.files.keys() - new.files.keys():
        gone = base.files[path]
        yield {
            "remove": {
                "path": path,
                "deletionTimestamp": new.removed.get(path, now_ms()),
                "dataChange": not compaction,
                "extendedFileMetadata": True,
                "partitionValues": dict(gone.partition),
                "size": gone.bytes,
            }
        }
    for path in new.files.keys() - base.files.keys():
        yield _add(new.files[path], data_change=not compaction)


def _info(commit: str, *, compaction: bool) -> Action:
    return {
        "commitInfo": {
            "timestamp": now_ms(),
            "operation": "OPTIMIZE" if compaction else "MERGE",
            "engineInfo": "frpipe",
            "txnId": commit,
        }
    }


def _protocol() -> Action:
    return {"minReaderVersion": _READER, "minWriterVersion": _WRITER}


def _metadata(state: State) -> Action:
    return {
        "id": state.table_id,
        "name": None,
        "description": None,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps(schema_json(state.schema), ensure_ascii=False),
        "partitionColumns": list(state.partition_by),
        "configuration": _CONFIGURATION,
        "createdTime": now_ms(),
    }


def _txn(run: str, number: int) -> Action:
    return {"txn": {"appId": f"{_APP}{run}", "version": number, "lastUpdated": now_ms()}}


def _add(file: DataFile, *, data_change: bool) -> Action:
    return {
        "add": {
            "path": file.path,
            "partitionValues": dict(file.partition),
            "size": file.bytes,
            "modificationTime": now_ms(),
            "dataChange": data_change,
            "stats": json.dumps({"numRecords": file.rows}),
        }
    }
