"""Find duplicates in workers: pairs of blocks in, published pairs of templates out."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from frpipe.core.calibration import CalibrationMap
from frpipe.core.kernel_names import Name
from frpipe.gallery.gallery import Gallery
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.blocks import Block, Counts, Rule, alike
from frpipe.jobs.dedup.schema import SAME_PERSON, SAME_PHOTO
from frpipe.jobs.dedup.source import GallerySource
from frpipe.jobs.low_forms import LowForms
from frpipe.jobs.node_cache import BlockSource
from frpipe.jobs.ratios import with_ratios
from frpipe.matching.basis import Basis
from frpipe.matching.kernels import kernel_of
from frpipe.runtime.allocation import Pool
from frpipe.runtime.executor import Executor, Step
from frpipe.runtime.host import Host
from frpipe.runtime.telemetry import record, timed

PAIRS = "pairs"
"""Folder of the pairs under the output."""

# Blocks that a worker holds: units come row by row, so that one of two blocks stays.
_HELD = 2


@dataclass(frozen=True, slots=True)
class DedupSpec:
    """The specification of a search for workers.

    metadata: for each file.  forms: whether rows in the form of the kernel are stored with the gallery.
    ratios: beside similarities; None: none.
    """

    source: BlockSource[Block]
    output: str
    rule: Rule
    kernel: Name
    basis: Basis | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    forms: bool = False
    ratios: CalibrationMap | None = None


def dedup(
    spec: DedupSpec, units: Mapping[int, tuple[int, int]], pool: Pool, executor: Executor
) -> Generator[dict[str, Any], None, None]:
    """Do some units, each a pair of blocks; yields `unit` and `pairs` of each as it is published."""
    tickets = [{"unit": unit, "first": first, "second": second} for unit, (first, second) in units.items()]
    yield from executor.stream(tickets, [Step("dedup", pool, partial(Deduplicator, spec))])


class Deduplicator:
    """A worker that does one unit after another, and holds two blocks."""

    def __init__(self, spec: DedupSpec, _host: Host) -> None:
        self._spec = spec
        self._units = Units(Folder.at(spec.output), PAIRS)
        self._kernel = kernel_of(spec.kernel, spec.basis)
        self._forms = self._low_forms()
        self._held: dict[int, Block] = {}

    @timed("dedup")
    def __call__(self, table: pa.Table) -> pa.Table:
        ticket = table.to_pylist()[0]
        first, second = ticket["first"], ticket["second"]
        a = self._block(first, keep=second)
        b = None if first == second else self._block(second, keep=first)
        rows, counts = alike(a, b, self._spec.rule, self._kernel)
        self._spec.source.check_cache()
        rows = with_ratios(rows, self._spec.ratios)
        self._units.publish(ticket["unit"], rows, {**self._spec.metadata, **counts.metadata()})
        _record(counts)
        return pa.table({"unit": [ticket["unit"]], "pairs": [rows.num_rows]})

    def _block(self, number: int, keep: int) -> Block:
        if number not in self._held:
            for other in [held for held in self._held if held != keep][: max(0, len(self._held) - _HELD + 1)]:
                del self._held[other]
            self._held[number] = self._with_forms(number, self._spec.source.block(number))
        return self._held[number]

    def _with_forms(self, number: int, block: Block) -> Block:
        source = self._spec.source
        if self._forms is None or not isinstance(source, GallerySource):
            return block
        found = source.shard(number)
        return block if found is None else replace(block, ready=self._forms.of(*found))

    def _low_forms(self) -> LowForms | None:
        source, basis, kernel = self._spec.source, self._spec.basis, self._kernel
        if not self._spec.forms or basis is None or not isinstance(source, GallerySource):
            return None
        # Forms of some rows of a shard are not kept here: the block is held as long as it is needed.
        gallery, name = Gallery.open(source.uri), self._spec.kernel
        return LowForms(gallery, source.snapshot, kernel, basis, name=name, most_bytes=0)


def _record(counts: Counts) -> None:
    record("frpipe_comparisons", counts.compared, stage="dedup")
    record("frpipe_pairs", counts.same_photo, kind=SAME_PHOTO)
    record("frpipe_pairs", counts.same_person, kind=SAME_PERSON)
