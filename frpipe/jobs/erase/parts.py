"""Remove rows from the files of a run. Each step finds what is left to do, and may be repeated."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.errors import FileDamaged
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.output import run
from frpipe.io.output.part_writer import PartWriter
from frpipe.io.output.parts import (
    EMBEDDINGS,
    FACES,
    HELD,
    IMAGES,
    data_of,
    is_whole,
    part_name,
    replace_part,
    withdraw_part,
)
from frpipe.io.output.plan import PLAN, ManifestPlan
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.whole_file import read_json, read_whole

_INDEX = f"{PLAN}/plan.json"
# Folders that a run leaves only if it was killed between its last steps.
_SCRATCH = ("_replay", "_attempts")

Check = Callable[[], None]
"""Called before a write: raises where somebody else has taken over."""


def strike_plan(out: Folder, plan: ManifestPlan, ids: ErasedIds, parts: Sequence[int], check: Check) -> None:
    """Remove rows from the plan, so that no job can do them again; then note their number in its index."""
    gone: dict[str, int] = {}
    with PartWriter(out.child(PLAN)) as writer:
        for part, rows in zip(parts, in_order(partial(_plan_rows, out), parts), strict=True):
            kept = rows.filter(pa.array(~ids.mask(rows)))
            if kept.num_rows < rows.num_rows:
                check()
                writer.write(part_name(part), kept)
            whole = plan.rows_of(part) + plan.erased.get(part, 0)
            gone[str(part)] = whole - kept.num_rows
    index = read_json(out, _INDEX)
    erased = {**index.get("erased", {}), **gone}
    if erased != index.get("erased"):
        check()
        out.write(_INDEX, (json.dumps({**index, "erased": erased}, indent=1) + "\n").encode())


def strike_parts(out: Folder, ids: ErasedIds, parts: Sequence[int], check: Check) -> None:
    """Remove rows from faces, held faces and images. A damaged part is withdrawn, as it may hold anything.

    Raises StorageError, OutOfMemory or OutputError where a part cannot be judged: it stays, as does the mark.
    """
    listed = run.listed_files(out)

    def strike(part: int) -> None:
        try:
            images, faces, held, further, whole = _read(out, part, listed)
        except FileDamaged:
            check()
            withdraw_part(out, part)
            return
        tables = (images, faces) if held is None else (images, faces, held)
        left = [table.filter(pa.array(~ids.mask(table))) for table in tables]
        if any(len(kept) < len(table) for kept, table in zip(left, tables, strict=True)) or not whole:
            check()
            images, faces, *back = left
            beside = {name: _of_faces(table, faces) for name, table in further.items()}
            replace_part(out, part, images, faces, beside, *back)

    deque(in_order(strike, parts), maxlen=0)


def clear_scratch(out: Folder) -> None:
    """Remove working files of a run, and what killed writers left."""
    out.sweep(0)
    for sub in _SCRATCH:
        out.clear(sub)


def as_written(data: bytes) -> pa.Table:
    """Read a Parquet file with the names of list items that it was written with, in place of Parquet's."""
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    table = file.read(use_threads=False)
    stored = (file.metadata.metadata or {}).get(b"ARROW:schema")
    if stored is None:
        return table
    schema = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored)))
    return table.cast(schema).replace_schema_metadata(table.schema.metadata)


def _plan_rows(out: Folder, part: int) -> pa.Table:
    return read_whole(out, f"{PLAN}/{part_name(part)}", as_written)


def _read(
    out: Folder, part: int, listed: Mapping[str, str]
) -> tuple[pa.Table, pa.Table, pa.Table | None, dict[str, pa.Table], bool]:
    """Read images, faces, held faces and the embeddings beside faces, and whether they belong together."""
    images = _whole(out, f"{IMAGES}/{part_name(part)}", listed)[0]
    read = {sub: _whole(out, f"{sub}/{part_name(part)}", listed) for sub in data_of(images.schema)}
    further = {
        sub.removeprefix(f"{EMBEDDINGS}/"): read[sub][0] for sub in read if sub.startswith(f"{EMBEDDINGS}/")
    }
    held = read[HELD][0] if HELD in read else None
    return images, read[FACES][0], held, further, is_whole(images, {sub: read[sub][1] for sub in read})


def _of_faces(table: pa.Table, faces: pa.Table) -> pa.Table:
    """Select the embeddings of some faces."""
    return table.filter(pc.is_in(table["face_id"], value_set=faces["face_id"].combine_chunks()))


def _whole(out: Folder, name: str, listed: Mapping[str, str]) -> tuple[pa.Table, bytes]:
    """Read a file whole, with its bytes. listed: SHA-256 before the erasure."""
    try:
        return read_whole(out, name, lambda data: (as_written(data), data))
    except FileDamaged:
        if name not in listed:
            raise
        # As it was recorded it is not damaged, whatever Arrow says.
        return read_whole(out, name, lambda data: (as_written(data), data), listed[name])
