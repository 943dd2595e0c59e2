"""Identification on Ray: units of probes in, their candidates out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.core.errors import OutputError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.lineup import Lineup, Score
from frpipe.io.folder import Folder
from frpipe.io.probes import Parts, probe_vectors
from frpipe.matching.kernels import Name, kernel_of
from frpipe.matching.ranking import Ranking
from frpipe.matching.topk import TopK
from frpipe.stages.allocation import Pool
from frpipe.stages.pools import Work, Worker, flow_of, rows_of, through
from frpipe.stages.telemetry import record, timed


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """What every worker of a search is told.

    hold_mb: how much of a gallery that is remote or encrypted a worker may keep.
    """

    gallery: str
    version: int
    k: int
    score: Score = "max"
    kernel: Name = "fp32"
    where: dict[str, str] = field(default_factory=dict)
    hold_mb: int = 0

    def lineup(self) -> Lineup:
        """What is searched."""
        gallery = Gallery.open(self.gallery)
        slow = not gallery.folder.is_local or gallery.spec.encryption is not None
        hold_bytes = (self.hold_mb << 20) * slow
        return Lineup(gallery.snapshot(self.version), self.where, self.score, hold_bytes)


def search(
    spec: SearchSpec, probes: Folder, units: dict[int, Parts], slices: Sequence[slice], pool: Pool
) -> Iterator[tuple[int, Ranking]]:
    """The k best of each unit's probes, in the order that units are done.

    slices: of the gallery's shards, each searched by itself; together they are all of it.
    """
    tickets = [
        {"unit": unit, "parts": list(parts), "first": some.start, "last": some.stop}
        for unit, parts in units.items()
        for some in slices
    ]
    found: dict[int, list[Ranking]] = {}
    flow = through(flow_of(tickets), Search, pool, len(tickets), spec, probes)
    for row in rows_of(flow):
        partial = found.setdefault(row["unit"], [])
        partial.append(_unpacked(row["ranking"]))
        if len(partial) == len(slices):
            yield row["unit"], Ranking.joined(found.pop(row["unit"])).top(spec.k)


class Search(Worker):
    """The worker of the pool."""

    def make(self, spec: SearchSpec, probes: Folder) -> Work:
        return _Searcher(spec, probes)


class _Searcher:
    def __init__(self, spec: SearchSpec, probes: Folder) -> None:
        self._k, self._probes = spec.k, probes
        self._lineup, self._kernel = spec.lineup(), kernel_of(spec.kernel)

    @timed("search")
    def __call__(self, table: pa.Table) -> pa.Table:
        ticket = table.to_pylist()[0]
        vectors = probe_vectors(self._probes, tuple(ticket["parts"]))
        if not np.isfinite(vectors).all():
            raise OutputError("a vector of the probes is not finite", "enroll the probes again")
        found = TopK(vectors, self._k, self._kernel)
        if len(vectors):
            for subject_ids, block in self._lineup.blocks(slice(ticket["first"], ticket["last"])):
                found.add(subject_ids, block)
                record("frpipe_comparisons", len(vectors) * len(block), stage="search")
        return _packed(ticket["unit"], found.result())


def _packed(unit: int, ranking: Ranking) -> pa.Table:
    columns: dict[str, Any] = {
        "probe": ranking.probe,
        "subject_id": ranking.subject_id,
        "similarity": ranking.similarity,
    }
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.table({"unit": [unit], "ranking": pa.array([sink.getvalue().to_pybytes()], pa.large_binary())})


def _unpacked(data: bytes) -> Ranking:
    table = pa.ipc.open_stream(data).read_all()
    names = table["subject_id"].combine_chunks()
    return Ranking(table["probe"].to_numpy(), names, table["similarity"].to_numpy())
