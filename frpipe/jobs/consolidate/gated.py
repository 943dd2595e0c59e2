"""Take the faces that a gate keeps out of a gallery out of the templates, counted and listed by id."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.gallery.photos import image_ids
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID
from frpipe.io.output.parts import to_parquet
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.face_gate import GATED, FaceGate, unmet
from frpipe.jobs.unmet_limits import Unmet, by_measure, words

GATED_FACES = pa.schema(
    [
        *((name, pa.string()) for name in ("subject_id", "image_id", "face_id", "measure")),
        ("value", pa.float64()),
        ("limit", pa.float64()),
    ]
)
"""A face that was kept out: whose, what was measured, its value (null: not assessed) and the limit."""
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class GatedFaces:
    """The faces that a gate has kept out.

    limits: of the gate.  faces: how many.  measures: of these, as `by_measure`.  shown: the first by ids.
    """

    limits: dict[str, float]
    faces: int
    measures: list[dict[str, Any]]
    shown: tuple[dict[str, Any], ...] = ()

    def counts(self) -> dict[str, Any]:
        """The counts, without ids."""
        return {"limits": self.limits, "faces": self.faces, "measures": self.measures}

    def lines(self) -> Iterator[str]:
        """Lines for people, without ids."""
        why = f" ({words(self.measures)})" if self.faces else ""
        yield f"gate       {counted(self.faces, 'faces')} kept out{why}"


class GateKeeper:
    """Take the faces that a gate keeps out, out of tables of templates, and count them.

    told: gets them, table by table, in the columns of GATED_FACES.
    """

    def __init__(self, gate: FaceGate, told: Callable[[pa.Table], None] | None = None) -> None:
        self._gate, self._told = gate, told
        self._unmet: list[Unmet] = []
        self._shown: list[tuple[Any, ...]] = []

    @property
    def faces(self) -> int:
        """The number of faces that were kept out so far."""
        return len(self._unmet)

    @property
    def found(self) -> GatedFaces:
        """The faces that were kept out so far."""
        shown = tuple(dict(zip(GATED_FACES.names, row, strict=True)) for row in self._shown)
        return GatedFaces(dict(self._gate.limits), self.faces, by_measure(self._unmet), shown)

    def add(self, other: GateKeeper) -> None:
        """Take over the faces that another has kept out."""
        self._unmet += other._unmet
        self._shown = heapq.nsmallest(_SHOWN, (*self._shown, *other._shown), key=lambda row: row[:3])

    def of(self, table: pa.Table) -> pa.Table:
        """Choose the templates that pass. table: with the column GATED, which the result has no more."""
        out = table.filter(table[GATED].is_valid())
        if out.num_rows:
            self._take(out)
        return table.filter(table[GATED].is_null()).drop_columns([GATED])

    def _take(self, out: pa.Table) -> None:
        why = [unmet(reason) for reason in out[GATED].to_pylist()]
        ids = [out[SUBJECT_ID], image_ids(out[FACE_ID]), out[FACE_ID]]
        measures, values, limits = zip(*why, strict=True)
        columns = [*ids, pa.array(measures), pa.array(values, pa.float64()), pa.array(limits, pa.float64())]
        rows = pa.table(columns, schema=GATED_FACES)
        self._unmet += why
        texts = [tuple(row.values()) for row in rows.to_pylist()]
        self._shown = heapq.nsmallest(_SHOWN, (*self._shown, *texts), key=lambda row: row[:3])
        if self._told is not None:
            self._told(rows)


def sorted_faces(tables: Iterable[pa.Table]) -> pa.Table:
    """Tabulate all faces that were kept out, in the order of their ids."""
    table = pa.concat_tables([GATED_FACES.empty_table(), *tables])
    return table.sort_by([(name, "ascending") for name in ("subject_id", "image_id", "face_id")])


def write_gated(uri: str, tables: Iterable[pa.Table]) -> None:
    """Write the faces that were kept out to a Parquet file, local or remote."""
    folder, name = uris.parent(uris.canonical(uri))
    Folder.at(folder).write(name, to_parquet(sorted_faces(tables), {"frpipe.job": "consolidate"}))
