"""Search for units of probes in workers: units in, published rows out."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.core.errors import InvariantError, OutputError
from frpipe.core.kernel_names import Name, Wish
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.search_view import Block, Score, SearchView
from frpipe.gallery.shard_cache import CacheSpec
from frpipe.io.output.features import Features
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.identify.probe_source import Parts
from frpipe.jobs.identify.rows import FACE_NAMES, IMAGE_NAMES, Verdicts
from frpipe.jobs.low_forms import LowForms
from frpipe.matching.basis import Basis
from frpipe.matching.kernel import Kernel
from frpipe.matching.kernels import kernel_of
from frpipe.matching.ranking import Ranking
from frpipe.matching.sieve import Ready
from frpipe.matching.tiles import Tiles
from frpipe.matching.topk import TopK
from frpipe.runtime.allocation import Pool
from frpipe.runtime.executor import Executor, Step
from frpipe.runtime.host import Host
from frpipe.runtime.telemetry import record, timed

PROBES = "probes"
"""Folder of the result under the output."""


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """The specification of a search for workers.

    commit: of the version, so that no worker searches another one of that number; None: not compared.
    hold_mb: memory in which a worker keeps what it has fetched or decrypted of a gallery, and, wherever the
    gallery lies, its rows in the form of the kernel.  at_least: the least similarity of candidates.  kernel:
    of a worker never "auto".  basis: that the kernel needs.  cache: of shards, on each node.  forms: whether
    rows in the form of the kernel may be stored with the gallery; for workers, whether they are, in this
    basis.
    """

    gallery: str
    version: int
    k: int
    score: Score = "max"
    kernel: Wish = "fp32"
    where: dict[str, str] = field(default_factory=dict)
    hold_mb: int = 0
    commit: str | None = None
    at_least: float = -1.0
    basis: Basis | None = None
    cache: CacheSpec | None = None
    forms: bool = False

    def search_view(self) -> SearchView:
        """Open the templates to search."""
        gallery = Gallery.open(self.gallery, self.cache)
        slow = not gallery.folder.is_local or gallery.spec.encryption is not None
        hold_bytes = (self.hold_mb << 20) * slow
        return SearchView(gallery.snapshot(self.version, self.commit), self.where, self.score, hold_bytes)


@dataclass(frozen=True, slots=True)
class Publication:
    """The way in which candidates of a unit become published rows. metadata: for each file."""

    probes: Features
    output: Folder
    verdicts: Verdicts
    metadata: Mapping[str, str]

    def publish(self, unit: int, parts: Parts, ranking: Ranking) -> int:
        """Publish a unit, and return its number of probes."""
        images, faces = self.probes.joined(parts, IMAGE_NAMES, FACE_NAMES)
        table = self.verdicts.table(images, faces, ranking)
        Units(self.output, PROBES).publish(unit, table, self.metadata)
        return int(faces.num_rows)


@dataclass(frozen=True, slots=True)
class Searched:
    """Counts of a ticket that is done: probes published, and comparisons."""

    probes: int
    comparisons: int


def search(
    spec: SearchSpec,
    publication: Publication,
    units: dict[int, Parts],
    slices: Sequence[slice],
    *,
    pool: Pool,
    executor: Executor,
) -> Iterator[Searched]:
    """Search and publish all units; yields the counts of each ticket as it is done.

    slices: of the gallery's shards, all of them together, each searched apart. With a single slice workers
    publish what they find; with several the rankings are joined and published here.
    """
    tickets = [
        {"unit": unit, "parts": list(parts), "first": some.start, "last": some.stop}
        for unit, parts in units.items()
        for some in slices
    ]
    found: dict[int, list[Ranking]] = {}
    step = Step("search", pool, partial(Searcher, spec, publication, len(slices) == 1))
    for row in executor.stream(tickets, [step]):
        unit = row["unit"]
        if row["published"] is not None:
            yield Searched(row["published"], row["compared"])
            continue
        found.setdefault(unit, []).append(_unpacked(row["ranking"]))
        whole, probes = len(found[unit]) == len(slices), 0
        if whole:
            ranking = Ranking.joined(found.pop(unit)).top(spec.k)
            probes = publication.publish(unit, units[unit], ranking)
        yield Searched(probes, row["compared"])


class Searcher:
    """A worker that searches one unit after another.

    whole: whether each ticket covers the whole gallery, so that the worker publishes its result.
    """

    def __init__(self, spec: SearchSpec, publication: Publication, whole: bool, _host: Host) -> None:
        self._spec, self._publication, self._whole = spec, publication, whole
        self._lineup, self._kernel = spec.search_view(), kernel_of(_chosen(spec), spec.basis)
        self._tiles = Tiles(self._kernel, spec.hold_mb << 20)
        self._backward = True
        self._forms = _forms(spec, self._lineup, self._kernel)

    @timed("search")
    def __call__(self, table: pa.Table) -> pa.Table:
        ticket = table.to_pylist()[0]
        unit, parts = ticket["unit"], tuple(ticket["parts"])
        vectors = self._publication.probes.vectors(parts)
        if not np.isfinite(vectors).all():
            raise OutputError("a vector of the probes is not finite", "enroll the probes again")
        found = TopK(vectors, self._spec.k, self._kernel, at_least=self._spec.at_least, tiles=self._tiles)
        shards, compared = slice(ticket["first"], ticket["last"]), 0
        if len(vectors):
            for name, (subject_ids, block), ready in self._blocks(shards, unit):
                found.add(subject_ids, block, name, ready)
                record("frpipe_comparisons", len(vectors) * len(block), stage="search")
                compared += len(vectors) * len(block)
        if self._whole:
            # With means fewer are compared, but the work was announced by the number of templates.
            compared = len(vectors) * self._lineup.rows
            published = self._publication.publish(unit, parts, found.result())
            return _receipt(unit, compared, published=published)
        return _receipt(unit, compared, ranking=_packed(found.result()))

    def _blocks(self, shards: slice, unit: int) -> Iterator[tuple[Hashable, Block, Ready | None]]:
        """Iterate over blocks of some shards, with their stored rows in the form of the kernel, if any.

        With stored forms, each unit begins with another shard: workers that start together then make the
        forms of different shards, and find those that others have made.
        """
        if self._forms is None:
            self._backward = not self._backward
            for name, block in self._lineup.named_blocks(shards, backward=self._backward):
                yield name, block, None
            return
        refs = self._lineup.shards[shards]
        first = unit % max(1, len(refs))
        for ref, rows, block in self._lineup.located([*refs[first:], *refs[:first]]):
            yield ref.name, block, self._forms.of(ref, rows)


def _forms(spec: SearchSpec, view: SearchView, kernel: Kernel) -> LowForms | None:
    if not spec.forms or spec.basis is None:
        return None
    gallery, name = Gallery.open(spec.gallery), _chosen(spec)
    return LowForms(gallery, view.snapshot, kernel, spec.basis, name=name, most_bytes=spec.hold_mb << 20)


def _chosen(spec: SearchSpec) -> Name:
    if spec.kernel == "auto":
        raise InvariantError("the kernel of a search was not chosen", "report this")
    return spec.kernel


def _receipt(
    unit: int, compared: int, *, published: int | None = None, ranking: bytes | None = None
) -> pa.Table:
    columns = {
        "unit": pa.array([unit], pa.int64()),
        "compared": pa.array([compared], pa.int64()),
        "published": pa.array([published], pa.int64()),
        "ranking": pa.array([ranking], pa.large_binary()),
    }
    return pa.table(columns)


def _packed(ranking: Ranking) -> bytes:
    columns: dict[str, Any] = {
        "probe": ranking.probe,
        "subject_id": ranking.subject_id,
        "similarity": ranking.similarity,
    }
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(data: bytes) -> Ranking:
    table = pa.ipc.open_stream(data).read_all()
    names = table["subject_id"].combine_chunks()
    return Ranking(table["probe"].to_numpy(), names, table["similarity"].to_numpy())
