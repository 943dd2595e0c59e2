"""Count all scores of a set of templates in workers: pairs of blocks in, published histograms out."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import pyarrow as pa

from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate.all_pairs.blocks import Counting, LabelledTemplates, scored
from frpipe.jobs.evaluate.all_pairs.tables import error_table, histogram_table
from frpipe.jobs.node_cache import BlockSource
from frpipe.runtime.allocation import Pool
from frpipe.runtime.executor import Executor, Step
from frpipe.runtime.host import Host
from frpipe.runtime.telemetry import record, timed

HISTOGRAMS, ERRORS = "histograms", "errors"
"""Folders of the result under the output. A unit's histograms come last, and mark that it is done."""

# Units come row by row, so that the one block stays while the others pass.
_HELD = 2


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """The specification of a count for workers. metadata: for each file."""

    source: BlockSource[LabelledTemplates]
    output: str
    counting: Counting
    metadata: Mapping[str, str]


def count_scores(
    spec: ScoreSpec, units: Mapping[int, tuple[int, int]], pool: Pool, executor: Executor
) -> Generator[dict[str, Any], None, None]:
    """Do some units, each a pair of blocks; yields `unit` and `scores` of each as it is published."""
    tickets = [{"unit": unit, "first": first, "second": second} for unit, (first, second) in units.items()]
    yield from executor.stream(tickets, [Step("count scores", pool, partial(ScoreCounter, spec))])


class ScoreCounter:
    """A worker that does one unit after another, and holds two blocks."""

    def __init__(self, spec: ScoreSpec, _host: Host) -> None:
        # A worker has one CPU.
        cv2.setNumThreads(1)
        self._spec = spec
        self._histograms, self._errors = (Units(Folder.at(spec.output), sub) for sub in (HISTOGRAMS, ERRORS))
        self._held: dict[int, LabelledTemplates] = {}

    @timed("all_pairs")
    def __call__(self, table: pa.Table) -> pa.Table:
        ticket = table.to_pylist()[0]
        unit, first, second = ticket["unit"], ticket["first"], ticket["second"]
        a = self._block(first, keep=second)
        b = None if first == second else self._block(second, keep=first)
        cells = scored(a, b, self._spec.counting)
        self._spec.source.check_cache()
        self._errors.publish(unit, error_table(cells), self._spec.metadata)
        self._histograms.publish(unit, histogram_table(cells), self._spec.metadata)
        count = sum(cell.mated.total + cell.nonmated.total for cell in cells.values())
        record("frpipe_comparisons", count, stage="all_pairs")
        return pa.table({"unit": [unit], "scores": [count]})

    def _block(self, number: int, keep: int) -> LabelledTemplates:
        if number not in self._held:
            for other in [held for held in self._held if held != keep][: max(0, len(self._held) - _HELD + 1)]:
                del self._held[other]
            self._held[number] = self._spec.source.block(number)
        return self._held[number]
