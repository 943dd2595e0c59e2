"""Puts a protocol's lists into a folder; `protocol.json` comes last, and says that all are there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from frpipe.core.errors import ManifestError, OutputError
from frpipe.io.manifest.columns import URI
from frpipe.io.manifest.manifest import SUFFIXES
from frpipe.io.manifest.manifest_writer import write_manifest
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.protocols.protocol import FILE, Protocol


def publish(protocol: Protocol, tables: Mapping[str, pa.Table], place: str, *, csv: bool = False) -> None:
    """Write `NAME.parquet` for each table, with csv also `NAME.csv`, then `protocol.json`.

    Raises OutputError: the folder holds another protocol, or files of these names that are of none;
    ManifestError: a remote list of local photos.
    """
    out = Folder.at(place)
    suffixes = (".parquet", ".csv") if csv else (".parquet",)
    _refuse_foreign(out, protocol, [name + suffix for name in tables for suffix in suffixes])
    if not out.is_local and any(_has_local(table) for table in tables.values()):
        raise ManifestError("a remote list may not name local photos", "write the protocol to a local folder")
    with tempfile.TemporaryDirectory(prefix="frpipe-protocol-") as scratch:
        for name, table in tables.items():
            for suffix in suffixes:
                finished = Path(scratch) / f"list{suffix}"
                write_manifest(finished, SUFFIXES[suffix], table.schema, table.to_batches())
                out.publish(name + suffix, finished)
    out.write(FILE, protocol.json_text().encode())


def _refuse_foreign(out: Folder, protocol: Protocol, names: list[str]) -> None:
    try:
        if out.read(FILE) == protocol.json_text().encode():
            return
    except FileNotFoundError:
        if not any(out.exists(name) for name in names):
            return
    raise OutputError("the output folder holds another protocol, or lists of none", "use a new folder")


def _has_local(table: pa.Table) -> bool:
    return URI in table.column_names and any(uris.is_local(uri.as_py()) for uri in table[URI])
