"""Plan a replay: the chosen rows of a run, in its order, cut into parts of their own."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import pyarrow as pa

from frpipe.core.errors import OutputError
from frpipe.core.pulse import Say, silent, told
from frpipe.io.output.features import Features
from frpipe.io.output.part_writer import PartWriter
from frpipe.io.output.parts import part_name
from frpipe.io.output.plan import (
    FORMAT_VERSION,
    PLAN,
    ManifestPlan,
    auto_part_rows,
    load_plan,
    read_part,
    slices,
)
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.jobs.replay.source import ReplaySource, Selection

_INDEX = f"{PLAN}/plan.json"
# Rejected rows may each cost a worker and a search, so that parts are smaller than those of a large run:
# about 256 of them, of 16 rows at least where there are enough.
_PARTS, _LEAST_ROWS = 256, 16


@dataclass(frozen=True, slots=True)
class Span:
    """A span of rows of a part of the replay: [start, stop)."""

    part: int
    start: int
    stop: int


def spans_of(hits: Mapping[int, int], part_rows: int) -> dict[int, list[Span]]:
    """Find the chosen rows of each part of the run in the replay's parts of `part_rows`, in order."""
    ends = list(accumulate(hits.values()))
    return {
        part: list(_spans(end - count, end, part_rows))
        for (part, count), end in zip(hits.items(), ends, strict=True)
    }


def copy_plan(source: Folder, out: Folder, plan: ManifestPlan, say: Say = silent) -> None:
    """Give `out` the plan of the source, byte for byte; its index last. say: told how far it is.

    Raises OutputError where people were erased from what was made of it before: the source has them still.
    """
    if out.exists(_INDEX):
        if load_plan(out).erased != plan.erased:
            raise OutputError(
                "people were erased from the output, and not from the run that it was made from",
                "erase them from that run too, then replay it into a new output",
            )
        return

    def copy(part: int) -> None:
        name = f"{PLAN}/{part_name(part)}"
        out.write(name, source.read(name))

    line = f"the plan of {{}} of {plan.parts:,} parts copied"
    deque(told(in_order(copy, range(plan.parts)), plan.parts, line, say), maxlen=0)
    out.write(_INDEX, source.read(_INDEX))


def cut(
    source: ReplaySource,
    selection: Selection,
    hits: Mapping[int, int],
    part_rows: int | Literal["auto"],
    replayed: Folder,
    *,
    workers: int,
) -> ManifestPlan:
    """Write the plan of the chosen rows, or find that this was done; its size of parts stays as it was.

    workers: among which the rows are shared out.
    """
    if not replayed.exists(_INDEX):
        size = _auto_rows(sum(hits.values()), workers) if part_rows == "auto" else part_rows
        _write(source, selection, hits, size, replayed)
    return load_plan(replayed)


def _write(
    source: ReplaySource, selection: Selection, hits: Mapping[int, int], size: int, replayed: Folder
) -> None:
    parts, rows = 0, _chosen(Features(source.files.folder), selection, hits)
    with PartWriter(replayed.child(PLAN)) as writer:
        for parts, table in enumerate(slices(rows, size), 1):
            writer.write(part_name(parts - 1), table)
    index = {
        "format_version": FORMAT_VERSION,
        "rows": sum(hits.values()),
        "parts": parts,
        "part_rows": size,
        "embedded": source.plan.embedded,
        "fingerprint": source.plan.fingerprint,
    }
    replayed.write(_INDEX, (json.dumps(index, indent=1) + "\n").encode())


def _chosen(run: Features, selection: Selection, hits: Mapping[int, int]) -> Iterator[pa.Table]:
    def rows(part: int) -> pa.Table:
        images, plan = run.images(part, ["image_id"]), read_part(run.folder, part)
        if not plan["image_id"].equals(images["image_id"]):
            raise OutputError(f"part {part} of the run is not what its plan says", "enroll the manifest anew")
        return plan.filter(selection.in_part(run, part))

    return in_order(rows, list(hits))


def _spans(start: int, stop: int, size: int) -> Iterator[Span]:
    while start < stop:
        part, offset = divmod(start, size)
        count = min(size - offset, stop - start)
        yield Span(part, offset, offset + count)
        start += count


def _auto_rows(rows: int, workers: int) -> int:
    return min(auto_part_rows(rows, workers), max(-(-rows // _PARTS), _LEAST_ROWS))
