"""Faces of a night that their measures keep from the gallery: held back by a stage, or kept out by the gate.

Those that a stage held back are in `enroll/held/`, those that the gate of `consolidate` kept out in GATED.
Counts go into the record of the night, ids only onto its page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeGuard

import pyarrow as pa

from frpipe.core.held import HELD_COLUMNS
from frpipe.io.output.features import Features
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.gated import sorted_faces
from frpipe.jobs.nightly.journal import Facts
from frpipe.jobs.nightly.tables import read_table, write_table
from frpipe.jobs.nightly.work import ENROLL
from frpipe.jobs.unmet_limits import Unmet, by_measure

GATED = "differences/gated.parquet"
HELD_LIST, GATED_LIST = "held_face", "gated_face"
_REASON, *_WHY = (column.name for column in HELD_COLUMNS)
_Row = tuple[str, str, float | None, float]


def write_gated(night: Folder, tables: Iterable[pa.Table]) -> None:
    """Write the faces that the gate kept out, replacing those of an earlier launch."""
    write_table(night, GATED, sorted_faces(tables))


def held_facts(enrolled: Folder) -> Facts:
    """Count the faces that stages held back; empty where no stage of the run does so.

    faces_held: all; held: by reason; held_measures: by measure, as `by_measure`.
    """
    if not Features(enrolled).holds:
        return {}
    reasons: Counter[str] = Counter()
    unmet: list[Unmet] = []
    for table in _held(enrolled, [_REASON, *_WHY]):
        reasons.update(table[_REASON].to_pylist())
        unmet += zip(*(table[name].to_pylist() for name in _WHY), strict=True)
    return {
        "faces_held": reasons.total(),
        "held": dict(reasons.most_common()),
        "held_measures": by_measure(unmet),
    }


def gated_facts(night: Folder) -> Facts:
    """Count the faces that are in the table of the gate now."""
    rows = _gated(night)
    return {"faces": len(rows), "measures": by_measure(row[1:] for row in rows)}


def kept_out(night: Folder) -> dict[str, list[str]]:
    """Describe the faces for the page, by kind: those of a measure together, the worst first."""
    held = [
        row
        for table in _held(night.child(ENROLL), ["face_id", *_WHY])
        for row in zip(*(table[name].to_pylist() for name in ("face_id", *_WHY)), strict=True)
    ]
    found = {HELD_LIST: held, GATED_LIST: _gated(night)}
    return {kind: [_text(row) for row in sorted(rows, key=_rank)] for kind, rows in found.items() if rows}


def still_kept_out(night: Folder, lists: dict[str, list[str]]) -> dict[str, list[str]]:
    """Filter the lists of a page: without faces that are in the tables no more."""
    now = kept_out(night)
    return {
        kind: [words for words in told if words in now.get(kind, ())]
        if kind in (HELD_LIST, GATED_LIST)
        else told
        for kind, told in lists.items()
    }


def _held(enrolled: Folder, names: list[str]) -> Iterator[pa.Table]:
    reader = Features(enrolled, held=True)
    if reader.holds and reader.parts():
        yield from reader.all_faces(names)


def _gated(night: Folder) -> list[_Row]:
    if not night.exists(GATED):
        return []
    table = read_table(night, GATED)
    names = ("face_id", "measure", "value", "limit")
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def _rank(row: _Row) -> tuple[str, float, str]:
    face, measure, value, limit = row
    return measure, -abs(value - limit) if _known(value) else 0.0, face


def _text(row: _Row) -> str:
    face, measure, value, limit = row
    seen = f"{value:.4g}" if _known(value) else "not assessed"
    return f"{face}: {measure} {seen}, limit {limit:g}"


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)
