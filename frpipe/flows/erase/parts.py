"""Take rows out of the files of a run. Each step finds out what is left to do, and may be done again."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FrpipeError
from frpipe.flows.rejects.reading import in_order
from frpipe.io.erased_ids import ErasedIds
from frpipe.io.folder import Folder
from frpipe.io.part_writer import PartWriter
from frpipe.io.partition import PLAN, Plan
from frpipe.io.parts import FACES, IMAGES, done_parts, is_whole, part_name, replace_part

_INDEX = f"{PLAN}/plan.json"
# What a run leaves there only if it died between its last steps.
_SCRATCH = ("_replay", "_attempts")

Check = Callable[[], None]
"""Called before a write: raises where somebody else has taken over."""


def strike_plan(out: Folder, plan: Plan, ids: ErasedIds, parts: Sequence[int], check: Check) -> None:
    """Take rows out of the plan, so that no job can do them again; then note how many in its index."""
    gone: dict[str, int] = {}
    with PartWriter(out.child(PLAN)) as writer:
        for part, rows in zip(parts, in_order(partial(_plan_rows, out), parts), strict=True):
            kept = rows.filter(pa.array(~ids.mask(rows)))
            if kept.num_rows < rows.num_rows:
                check()
                writer.write(plan.part_name(part), kept)
            whole = plan.rows_of(part) + plan.erased.get(part, 0)
            gone[str(part)] = whole - kept.num_rows
    index: dict[str, Any] = json.loads(out.read(_INDEX))
    erased = {**index.get("erased", {}), **gone}
    if erased != index.get("erased"):
        check()
        out.write(_INDEX, (json.dumps({**index, "erased": erased}, indent=1) + "\n").encode())


def strike_parts(out: Folder, ids: ErasedIds, parts: Sequence[int], check: Check) -> None:
    """Take rows out of faces and images. A part that cannot be read is taken away: it may hold anything."""
    done = done_parts(out)

    def strike(part: int) -> None:
        tables = _read(out, part) if part in done else None
        if tables is None:
            _withdraw(out, part, check)
            return
        images, faces, whole = tables
        gone, gone_faces = ids.mask(images), ids.mask(faces)
        if gone.any() or gone_faces.any() or not whole:
            check()
            replace_part(out, part, images.filter(pa.array(~gone)), faces.filter(pa.array(~gone_faces)))

    deque(in_order(strike, parts), maxlen=0)


def clear_scratch(out: Folder) -> None:
    """Remove what a run leaves there while it is under way, and what killed writers left."""
    for sub in _SCRATCH:
        for entry in out.list(sub):
            out.delete(entry.name)
    out.sweep(0)


def as_written(data: bytes) -> pa.Table:
    """A Parquet file, with the names of list items that it was written with: Parquet has its own for them."""
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    table = file.read(use_threads=False)
    stored = (file.metadata.metadata or {}).get(b"ARROW:schema")
    if stored is None:
        return table
    schema = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored)))
    return table.cast(schema).replace_schema_metadata(table.schema.metadata)


def _plan_rows(out: Folder, part: int) -> pa.Table:
    return as_written(out.read(f"{PLAN}/{Plan.part_name(part)}"))


def _read(out: Folder, part: int) -> tuple[pa.Table, pa.Table, bool] | None:
    """Images, faces, and whether they belong together; None where they cannot be read."""
    try:
        data = out.read(f"{FACES}/{part_name(part)}")
        images = as_written(out.read(f"{IMAGES}/{part_name(part)}"))
        return images, as_written(data), is_whole(images, data)
    except FrpipeError:
        raise
    except (pa.ArrowException, OSError, UnicodeError):
        return None


def _withdraw(out: Folder, part: int, check: Check) -> None:
    check()
    for table in (IMAGES, FACES):
        out.delete(f"{table}/{part_name(part)}")
